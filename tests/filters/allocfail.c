/*
 * Its allocator always answers 0: every host call that returns bytes has to answer InvalidMemoryAccess (6). On response headers it reads
 * :status and sets the response header x-status to what that call answered. Not configured.
 */
#define PROXY_WASM_NO_ALLOCATOR
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

void *proxy_on_memory_allocate(size_t size) {
    (void)size;
    return NULL;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    pw_bytes_t value;
    pw_line_t line;
    pw_line_init(&line);
    pw_line_u64(&line, pw_header_get(PW_MAP_RESPONSE_HEADERS, PW_STR(":status"), &value));
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-status"), pw_str(line.data, line.len));
    return PW_CONTINUE;
}
