/*
 * The filter of the benchmarks: reads the request header host (as :authority) and adds the response header x-bench: 1, with no more than
 * the two host calls and the memory that they need. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    pw_bytes_t host;
    (void)pw_header_get(PW_MAP_REQUEST_HEADERS, PW_STR(":authority"), &host);
    pw_bytes_free(&host);
    return PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    (void)pw_header_add(PW_MAP_RESPONSE_HEADERS, PW_STR("x-bench"), PW_STR("1"));
    return PW_CONTINUE;
}
