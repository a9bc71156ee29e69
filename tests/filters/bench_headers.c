/*
 * A filter of the benchmarks: reads three request headers, sets two and removes one, as many real filters do. Not configured. What it
 * does is what bench/cases.py lets Lua do.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

static void copy_header(pw_str_t from, pw_str_t to) {
    pw_bytes_t value;
    if (pw_header_get(PW_MAP_REQUEST_HEADERS, from, &value) == PW_OK) {
        (void)pw_header_set(PW_MAP_REQUEST_HEADERS, to, pw_bytes_str(value));
        pw_bytes_free(&value);
    }
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    pw_bytes_t accept;
    copy_header(PW_STR(":authority"), PW_STR("X-Host"));
    copy_header(PW_STR("user-agent"), PW_STR("X-Agent"));
    if (pw_header_get(PW_MAP_REQUEST_HEADERS, PW_STR("accept"), &accept) == PW_OK) {
        pw_bytes_free(&accept);
    }
    (void)pw_header_remove(PW_MAP_REQUEST_HEADERS, PW_STR("accept"));
    return PW_CONTINUE;
}
