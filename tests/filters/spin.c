/*
 * Never returns from the callback that its configuration names: configure, tick (every millisecond), or otherwise request_headers. Makes no
 * host call meanwhile.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

static volatile uint64_t turns;
static bool in_tick;

static void spin(void) {
    for (;;) {
        turns++;
    }
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    pw_bytes_t where = {0};
    if (configuration_size > 0 && pw_configuration(&where) != PW_OK) {
        return 0;
    }
    bool in_configure = pw_str_equal(pw_bytes_str(where), PW_STR("configure"));
    in_tick = pw_str_equal(pw_bytes_str(where), PW_STR("tick"));
    pw_bytes_free(&where);
    if (in_configure) {
        spin();
    }
    return !in_tick || proxy_set_tick_period_milliseconds(1) == PW_OK;
}

PW_EXPORT void proxy_on_tick(uint32_t root_id) {
    (void)root_id;
    spin();
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    if (!in_tick) {
        spin();
    }
    return PW_CONTINUE;
}
