/*
 * The least that a filter needs: the marker, an allocator and one callback. Adds the response header x-minimal: 1. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    (void)pw_header_add(PW_MAP_RESPONSE_HEADERS, PW_STR("x-minimal"), PW_STR("1"));
    return PW_CONTINUE;
}
