/*
 * Keeps what it should not: the request header x-secret goes into a global, and every response tells what was in it before (x-before: a
 * number of bytes), what is in it now (x-kept), how many streams this instance has seen (x-streams), and how often it was restored
 * (x-resets). `die` as a secret traps, after it has been kept. Ticks, set by the configuration "tick", are counted in a global too, and go
 * to the log.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

static char kept[256];
static size_t kept_len, before;
static uint64_t streams, ticks, resets;

static void set_number(pw_str_t name, uint64_t number) {
    pw_line_t line;
    pw_line_init(&line);
    pw_line_u64(&line, number);
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, name, pw_str(line.data, line.len));
}

PW_EXPORT_AS("sluice_on_reset") void sluice_on_reset(void) {
    resets++;
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t size) {
    (void)root_id;
    if (size != 0) {
        (void)proxy_set_tick_period_milliseconds(20);
    }
    return 1;
}

PW_EXPORT void proxy_on_tick(uint32_t root_id) {
    pw_line_t line;
    (void)root_id;
    pw_line_init(&line);
    pw_line_str(&line, PW_STR("tick number "));
    pw_line_u64(&line, ++ticks);
    pw_log(PW_LOG_INFO, pw_str(line.data, line.len));
}

PW_EXPORT void proxy_on_context_create(uint32_t context_id, uint32_t parent_id) {
    (void)context_id;
    streams += parent_id != 0;
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    pw_bytes_t value;
    (void)context_id, (void)n_headers, (void)end_of_stream;
    before = kept_len;
    if (pw_header_get(PW_MAP_REQUEST_HEADERS, PW_STR("x-secret"), &value) != PW_OK) {
        return PW_CONTINUE;
    }
    pw_str_t secret = pw_bytes_str(value);
    kept_len = secret.len < sizeof(kept) ? secret.len : sizeof(kept);
    __builtin_memcpy(kept, secret.data, kept_len);
    if (kept_len == 3 && kept[0] == 'd' && kept[1] == 'i' && kept[2] == 'e') {
        __builtin_trap();
    }
    return PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id, (void)n_headers, (void)end_of_stream;
    set_number(PW_STR("x-before"), before);
    set_number(PW_STR("x-streams"), streams);
    set_number(PW_STR("x-resets"), resets);
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-kept"), pw_str(kept, kept_len));
    return PW_CONTINUE;
}
