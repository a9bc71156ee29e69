/*
 * ABI 0.1.0 as its text has it: proxy_continue_request, proxy_continue_response and proxy_clear_route_cache return nothing. Pauses each
 * request and goes on by proxy_continue_request from its tick. Not configured.
 */
#define PROXY_WASM_ABI_0_1_0
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_IMPORT_FROM("env", "proxy_continue_request") void continue_request(void);
PW_IMPORT_FROM("env", "proxy_continue_response") void continue_response(void);
PW_IMPORT_FROM("env", "proxy_clear_route_cache") void clear_route_cache(void);

static uint32_t waiting[64];
static uint32_t n_waiting;

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    (void)configuration_size;
    return proxy_set_tick_period_milliseconds(5) == PW_OK;
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers) {
    (void)n_headers;
    clear_route_cache();
    if (n_waiting == sizeof(waiting) / sizeof(waiting[0])) {
        return PW_CONTINUE;
    }
    waiting[n_waiting++] = context_id;
    return PW_PAUSE;
}

PW_EXPORT void proxy_on_tick(uint32_t root_id) {
    (void)root_id;
    while (n_waiting > 0) {
        if (proxy_set_effective_context(waiting[--n_waiting]) == PW_OK) {
            continue_request();
        }
    }
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers) {
    (void)context_id;
    (void)n_headers;
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-continued"), PW_STR("yes"));
    continue_response();
    return PW_CONTINUE;
}
