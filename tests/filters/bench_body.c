/*
 * A filter of the benchmarks: sees response bodies piece by piece. Its configuration says what it does with them: "stream" passes them
 * on, "rewrite" reads each piece and writes it anew with the first byte changed.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

static bool rewrite;

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    (void)configuration_size;
    pw_bytes_t text = {0};
    bool known = pw_configuration(&text) == PW_OK;
    pw_str_t mode = pw_bytes_str(text);
    rewrite = known && pw_str_equal(mode, PW_STR("rewrite"));
    known = rewrite || (known && pw_str_equal(mode, PW_STR("stream")));
    pw_bytes_free(&text);
    return known;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    return PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_response_body(uint32_t context_id, uint32_t size, uint32_t end_of_stream) {
    (void)context_id;
    (void)end_of_stream;
    pw_bytes_t body;
    if (!rewrite || size == 0 || pw_buffer_get(PW_BUFFER_RESPONSE_BODY, 0, size, &body) != PW_OK) {
        return PW_CONTINUE;
    }
    body.data[0] = 'X';
    (void)pw_buffer_replace(PW_BUFFER_RESPONSE_BODY, pw_bytes_str(body));
    pw_bytes_free(&body);
    return PW_CONTINUE;
}
