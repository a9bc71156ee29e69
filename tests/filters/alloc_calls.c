/*
 * Its allocator makes a host call that is not allowed while it runs, proxy_set_effective_context: a trap. It runs on response headers, for
 * :status. Not configured.
 */
#define PROXY_WASM_NO_ALLOCATOR
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

void *proxy_on_memory_allocate(size_t size) {
    (void)proxy_set_effective_context(1);
    return pw_malloc(size);
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    pw_bytes_t status;
    (void)pw_header_get(PW_MAP_RESPONSE_HEADERS, PW_STR(":status"), &status);
    pw_bytes_free(&status);
    return PW_CONTINUE;
}
