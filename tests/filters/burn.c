/*
 * Computes for as long as its configuration says, and writes what came out where a test can see it: "<phases> <ms> [pauses]", where phases
 * are letters: q request headers, Q request body, r response headers, R response body, t tick (every 10 ms), l log. Time is measured by
 * calibrated rounds, so that it is CPU time that is burnt whatever the clock says. pauses: the request headers stop until the body has
 * come.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

#define MAX_PHASES 16
static char phases[MAX_PHASES];
static uint32_t n_phases, burn_ms, ticks;
static bool pauses;

static uint32_t rounds_of_one_ms = 400000;

static uint32_t burn(void) {
    volatile uint32_t x = 1;
    for (uint32_t ms = 0; ms < burn_ms; ms++) {
        for (uint32_t i = 0; i < rounds_of_one_ms; i++) {
            x = x * 1664525u + 1013904223u;
        }
    }
    return x;
}

/* What burn() must give: the same recurrence by repeated squaring of (a, c). */
static uint32_t expected(void) {
    uint64_t n = (uint64_t)burn_ms * rounds_of_one_ms;
    uint32_t a = 1664525u, c = 1013904223u, x = 1;
    while (n != 0) {
        if (n & 1) {
            x = x * a + c;
        }
        c = c * (a + 1);
        a = a * a;
        n >>= 1;
    }
    return x;
}

static bool burns(char phase) {
    for (uint32_t i = 0; i < n_phases; i++) {
        if (phases[i] == phase) {
            return true;
        }
    }
    return false;
}

static bool burn_in(char phase) {
    return !burns(phase) || burn() == expected();
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t size) {
    (void)root_id;
    pw_bytes_t conf = {0};
    if (size == 0 || pw_configuration(&conf) != PW_OK) {
        return 0;
    }
    uint32_t i = 0;
    while (i < conf.len && conf.data[i] != ' ') {
        if (n_phases < MAX_PHASES) {
            phases[n_phases++] = (char)conf.data[i];
        }
        i++;
    }
    for (i++; i < conf.len && conf.data[i] >= '0' && conf.data[i] <= '9'; i++) {
        burn_ms = burn_ms * 10 + (uint32_t)(conf.data[i] - '0');
    }
    pauses = i < conf.len;
    pw_bytes_free(&conf);
    return !burns('t') || proxy_set_tick_period_milliseconds(10) == PW_OK;
}

PW_EXPORT void proxy_on_tick(uint32_t root_id) {
    (void)root_id;
    if (burn_in('t') && ++ticks == 3) {
        pw_log(PW_LOG_WARN, PW_STR("three ticks have burnt"));
    }
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t ctx, uint32_t n, uint32_t eos) {
    (void)ctx;
    (void)n;
    bool right = burn_in('q');
    pw_header_set(PW_MAP_REQUEST_HEADERS, PW_STR("x-burnt"), right ? PW_STR("right") : PW_STR("wrong"));
    return pauses && !eos ? PW_PAUSE : PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_request_body(uint32_t ctx, uint32_t size, uint32_t eos) {
    (void)ctx;
    (void)size;
    if (!burn_in('Q')) {
        return PW_PAUSE;
    }
    return pauses && !eos ? PW_PAUSE : PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t ctx, uint32_t n, uint32_t eos) {
    (void)ctx;
    (void)n;
    bool right = burn_in('r');
    pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-answered"), right ? PW_STR("right") : PW_STR("wrong"));
    return burns('p') && !eos ? PW_PAUSE : PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_response_body(uint32_t ctx, uint32_t size, uint32_t eos) {
    (void)ctx;
    (void)size;
    if (!burn_in('R')) {
        return PW_PAUSE;
    }
    return burns('p') && !eos ? PW_PAUSE : PW_CONTINUE;
}

PW_EXPORT void proxy_on_log(uint32_t ctx) {
    (void)ctx;
    pw_log(PW_LOG_WARN, burn_in('l') ? PW_STR("logged right") : PW_STR("logged wrong"));
}
