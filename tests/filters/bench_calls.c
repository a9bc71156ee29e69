/*
 * The filter of the benchmarks of calls and shared state. Configuration: `call` waits for one HTTP call to the upstream `backend`; `get`,
 * `set` and `metric` read a shared value, write one, increment a counter, a hundred times each request.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

enum { TIMES = 100, MAX_CALLS = 1024 }; /* calls at once, more than any load here has */

static char mode;
static uint32_t counter;
static uint32_t waiting[MAX_CALLS]; /* the context of each call, by its id */

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t size) {
    (void)root_id;
    (void)size;
    pw_bytes_t conf;
    if (pw_configuration(&conf) != PW_OK || conf.len == 0) {
        return 0;
    }
    mode = conf.data[0];
    pw_bytes_free(&conf);
    proxy_set_shared_data("a:key", 5, "some value of thirty-two bytes..", 32, 0);
    return proxy_define_metric(PW_METRIC_COUNTER, "count", 5, &counter) == PW_OK;
}

static void get(void) {
    for (int i = 0; i < TIMES; i++) {
        pw_bytes_t value;
        uint32_t cas;
        if (proxy_get_shared_data("a:key", 5, &value.data, &value.len, &cas) == PW_OK) {
            pw_bytes_free(&value);
        }
    }
}

static void set(void) {
    for (int i = 0; i < TIMES; i++) {
        proxy_set_shared_data("a:key", 5, "some value of thirty-two bytes..", 32, 0);
    }
}

static void increment(void) {
    for (int i = 0; i < TIMES; i++) {
        proxy_increment_metric(counter, 1);
    }
}

static uint32_t call(uint32_t context_id) {
    const pw_pair_t headers[] = {
        {PW_STR(":method"), PW_STR("GET")}, {PW_STR(":path"), PW_STR("/called")}, {PW_STR(":authority"), PW_STR("backend")}};
    pw_bytes_t encoded;
    uint32_t id;
    if (!pw_pairs_encode(headers, 3, &encoded)) {
        return PW_CONTINUE;
    }
    pw_status_t rc = proxy_http_call("backend", 7, encoded.data, encoded.len, "", 0, "", 0, 5000, &id);
    pw_bytes_free(&encoded);
    waiting[id % MAX_CALLS] = context_id;
    return rc == PW_OK ? PW_PAUSE : PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)n_headers;
    (void)end_of_stream;
    switch (mode) {
    case 'c':
        return call(context_id);
    case 'g':
        get();
        break;
    case 's':
        set();
        break;
    default:
        increment();
    }
    return PW_CONTINUE;
}

PW_EXPORT void proxy_on_http_call_response(uint32_t root_id, uint32_t call_id, uint32_t n_headers, uint32_t body_size,
                                           uint32_t n_trailers) {
    (void)root_id;
    (void)n_headers;
    (void)n_trailers;
    pw_bytes_t status;
    proxy_set_effective_context(waiting[call_id % MAX_CALLS]);
    if (body_size != 6 || pw_header_get(PW_MAP_CALL_RESPONSE_HEADERS, PW_STR(":status"), &status) != PW_OK) {
        __builtin_trap();
    }
    pw_bytes_free(&status);
    proxy_continue_stream(PW_STREAM_REQUEST);
}
