/*
 * Shows which version of a module runs. The text "version-000000" stands in the data of the module: a test puts other digits there. It goes
 * into the request header x-version, which the origin sees, and into the response header x-version-too: both are equal as long
 * as a request ends on the version that it began with. Its configuration is "refuse" when it is not to start.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

/* volatile: the compiler must not know what a test will have written here. */
static volatile char version[] = "version-000000";

static pw_str_t text(char out[sizeof(version)]) {
    for (unsigned i = 0; i < sizeof(version); i++) {
        out[i] = version[i];
    }
    return pw_str(out, sizeof(version) - 1);
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    (void)configuration_size;
    pw_bytes_t config;
    (void)pw_configuration(&config);
    pw_str_t got = pw_bytes_str(config);
    const char refuse[] = "refuse";
    uint32_t same = got.len == sizeof(refuse) - 1;
    for (unsigned i = 0; same && i < got.len; i++) {
        same = got.data[i] == refuse[i];
    }
    /* Versions whose last digit is 9 do not start with any configuration. */
    uint32_t bad = version[sizeof(version) - 2] == '9';
    pw_bytes_free(&config);
    return !same && !bad;
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    char out[sizeof(version)];
    (void)pw_header_set(PW_MAP_REQUEST_HEADERS, PW_STR("x-version"), text(out));
    return PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    char out[sizeof(version)];
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-version-too"), text(out));
    return PW_CONTINUE;
}
