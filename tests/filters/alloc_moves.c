/*
 * Its allocator grows the memory for each block, so that the host's view of the memory is stale after each allocation, and logs while it
 * runs, which is allowed. Copies the request header x-in into the response header x-out, and the property plugin_name into x-name. Not
 * configured.
 */
#define PROXY_WASM_NO_ALLOCATOR
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

#define PAGE 65536

void *proxy_on_memory_allocate(size_t size) {
    size_t pages = (size + PAGE - 1) / PAGE;
    size_t old = __builtin_wasm_memory_grow(0, pages);
    PW_LOG(PW_LOG_INFO, "alloc_moves: allocating");
    return old != (size_t)-1 ? (void *)(old * PAGE) : NULL;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    pw_bytes_t value;
    (void)pw_header_get(PW_MAP_REQUEST_HEADERS, PW_STR("x-in"), &value);
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-out"), pw_bytes_str(value));
    (void)pw_property_get(PW_STR("plugin_name"), &value);
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-name"), pw_bytes_str(value));
    return PW_CONTINUE;
}
