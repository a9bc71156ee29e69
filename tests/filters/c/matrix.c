/*
 * The behaviours of tests/filters/README.md in plain C over sdk/c, without a libc. With PROXY_WASM_ABI_0_1_0 the same filter announces
 * ABI 0.1.0: its headers callbacks have no end_of_stream, its configurations come from proxy_get_configuration and its streams go on
 * with proxy_continue_request and proxy_continue_response.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

#define MAX_CONTEXTS 64

typedef struct {
    uint32_t id;
    uint32_t parent;
    uint32_t call;
    bool waits_for_tick;
    /* of a stream */
    pw_bytes_t behaviour;
    pw_line_t note;
    bool noted;
    /* of a root */
    pw_bytes_t name;
    uint32_t queue, counter, gauge, histogram;
} context_t;

static context_t contexts[MAX_CONTEXTS];

static void must(pw_status_t status) {
    if (status != PW_OK) {
        __builtin_trap();
    }
}

static context_t *find(uint32_t id) {
    for (size_t i = 0; i < MAX_CONTEXTS; i++) {
        if (contexts[i].id == id) {
            return &contexts[i];
        }
    }
    __builtin_trap();
}

static context_t *root_of(const context_t *c) {
    return find(c->parent);
}

static pw_str_t line_str(const pw_line_t *line) {
    return pw_str(line->data, line->len);
}

static void log_two(const char *before, pw_str_t text, const char *after) {
    pw_line_t line;
    pw_line_init(&line);
    pw_line_str(&line, pw_str_from_cstr(before));
    pw_line_str(&line, text);
    pw_line_str(&line, pw_str_from_cstr(after));
    pw_line_log(&line, PW_LOG_INFO);
}

static bool does(const context_t *c, const char *behaviour) {
    return pw_str_equal(pw_bytes_str(c->behaviour), pw_str_from_cstr(behaviour));
}

static pw_bytes_t header(pw_map_t map, const char *name) {
    pw_bytes_t value = {NULL, 0};
    (void)pw_header_get(map, pw_str_from_cstr(name), &value);
    return value;
}

/* ---- what differs between the versions ---- */

#ifdef PROXY_WASM_ABI_0_1_0
PW_IMPORT(proxy_get_configuration) pw_status_t proxy_get_configuration(char **data, size_t *size);
PW_IMPORT(proxy_continue_request) pw_status_t proxy_continue_request(void);
PW_IMPORT(proxy_continue_response) pw_status_t proxy_continue_response(void);

static pw_bytes_t configuration(bool vm) {
    pw_bytes_t text = {NULL, 0};
    (void)vm;
    must(proxy_get_configuration(&text.data, &text.len));
    return text;
}

static void go_on(bool response) {
    must(response ? proxy_continue_response() : proxy_continue_request());
}
#else
static pw_bytes_t configuration(bool vm) {
    pw_bytes_t text = {NULL, 0};
    must(vm ? pw_vm_configuration(&text) : pw_configuration(&text));
    return text;
}

static void go_on(bool response) {
    must(proxy_continue_stream(response ? PW_STREAM_RESPONSE : PW_STREAM_REQUEST));
}
#endif

/* ---- the root ---- */

void proxy_on_context_create(uint32_t context_id, uint32_t parent_id) {
    context_t *c = find(0);
    *c = (context_t){.id = context_id, .parent = parent_id};
}

uint32_t proxy_on_vm_start(uint32_t root_id, uint32_t size) {
    pw_bytes_t text = {NULL, 0};
    (void)root_id;
    if (size != 0) {
        text = configuration(true);
    }
    log_two("vm [", pw_bytes_str(text), "]");
    pw_bytes_free(&text);
    return 1;
}

static uint32_t metric(const context_t *root, pw_metric_t kind, const char *what) {
    uint32_t id;
    pw_line_t name;
    pw_line_init(&name);
    pw_line_str(&name, PW_STR("matrix."));
    pw_line_str(&name, pw_bytes_str(root->name));
    pw_line_str(&name, pw_str_from_cstr(what));
    must(proxy_define_metric(kind, name.data, name.len, &id));
    return id;
}

static void key_of(const context_t *root, pw_line_t *key) {
    pw_line_init(key);
    pw_line_str(key, PW_STR("matrix-"));
    pw_line_str(key, pw_bytes_str(root->name));
}

uint32_t proxy_on_configure(uint32_t root_id, uint32_t size) {
    context_t *root = find(root_id);
    pw_line_t key;
    if (size != 0) {
        root->name = configuration(false);
    }
    log_two("configured [", pw_bytes_str(root->name), "]");
    if (pw_str_equal(pw_bytes_str(root->name), PW_STR("refuse"))) {
        return 0;
    }
    key_of(root, &key);
    must(proxy_register_shared_queue(key.data, key.len, &root->queue));
    root->counter = metric(root, PW_METRIC_COUNTER, ".counter");
    root->gauge = metric(root, PW_METRIC_GAUGE, ".gauge");
    root->histogram = metric(root, PW_METRIC_HISTOGRAM, ".histogram");
    must(proxy_set_tick_period_milliseconds(20));
    return 1;
}

void proxy_on_tick(uint32_t root_id) {
    for (size_t i = 0; i < MAX_CONTEXTS; i++) {
        context_t *c = &contexts[i];
        if (c->id == 0 || c->parent != root_id || !c->waits_for_tick) {
            continue;
        }
        c->waits_for_tick = false;
        must(proxy_set_effective_context(c->id));
        must(pw_header_set(PW_MAP_REQUEST_HEADERS, PW_STR("x-ticked"), PW_STR("yes")));
        go_on(false);
    }
}

void proxy_on_queue_ready(uint32_t root_id, uint32_t queue_id) {
    pw_bytes_t item;
    (void)root_id;
    while (proxy_dequeue_shared_queue(queue_id, &item.data, &item.len) == PW_OK) {
        log_two("dequeued ", pw_bytes_str(item), "");
        pw_bytes_free(&item);
    }
    PW_LOG(PW_LOG_INFO, "queue empty");
}

/* ---- behaviours ---- */

static uint32_t note(context_t *c, const char *text) {
    pw_line_str(&c->note, pw_str_from_cstr(text));
    c->noted = true;
    return PW_CONTINUE;
}

static void note_and_free(context_t *c, pw_bytes_t bytes) {
    pw_line_str(&c->note, pw_bytes_str(bytes));
    c->noted = true;
    pw_bytes_free(&bytes);
}

static uint32_t reply(context_t *c, uint32_t status, pw_str_t text) {
    pw_pair_t headers[] = {{PW_STR("x-reply"), PW_STR("yes")}};
    pw_line_t body;
    pw_line_init(&body);
    pw_line_str(&body, text);
    pw_line_str(&body, PW_STR(":"));
    pw_line_str(&body, pw_bytes_str(root_of(c)->name));
    must(pw_reply(status, headers, 1, line_str(&body)));
    return PW_PAUSE;
}

static pw_status_t call(context_t *c, pw_str_t upstream, pw_str_t path, uint32_t timeout_ms) {
    pw_pair_t headers[] = {{PW_STR(":method"), PW_STR("POST")},
                           {PW_STR(":path"), path},
                           {PW_STR(":authority"), PW_STR("origin")},
                           {PW_STR("x-from"), PW_STR("guest")}};
    return pw_http_call(upstream, headers, 4, PW_STR("ping"), timeout_ms, &c->call);
}

static uint32_t wait_for_call(context_t *c, pw_str_t path, uint32_t timeout_ms) {
    must(call(c, PW_STR("origin"), path, timeout_ms));
    return PW_PAUSE;
}

static uint32_t call_nowhere(context_t *c) {
    return note(c, call(c, PW_STR("nowhere"), PW_STR("/"), 1000) == PW_OK ? "accepted" : "refused");
}

static uint32_t change_headers(context_t *c) {
    pw_line_t changed;
    pw_bytes_t value = header(PW_MAP_REQUEST_HEADERS, "x-in");
    pw_line_init(&changed);
    pw_line_str(&changed, pw_bytes_str(value));
    pw_line_str(&changed, PW_STR("-changed"));
    must(pw_header_set(PW_MAP_REQUEST_HEADERS, PW_STR("x-in"), line_str(&changed)));
    must(pw_header_add(PW_MAP_REQUEST_HEADERS, PW_STR("x-multi"), PW_STR("one")));
    must(pw_header_add(PW_MAP_REQUEST_HEADERS, PW_STR("x-multi"), PW_STR("two")));
    must(pw_header_remove(PW_MAP_REQUEST_HEADERS, PW_STR("x-gone")));
    note_and_free(c, value);
    return note(c, header(PW_MAP_REQUEST_HEADERS, "x-gone").len == 0 ? ",gone" : ",still there");
}

static uint32_t change_map(context_t *c) {
    pw_pairs_t pairs;
    pw_pair_t kept[100], pair;
    pw_line_t count;
    uint32_t n = 0, counted = 0;
    (void)c;
    must(pw_pairs_get(PW_MAP_REQUEST_HEADERS, &pairs));
    while (n < 99 && pw_pairs_next(&pairs, &pair)) {
        counted += pair.name.len > 2 && memcmp(pair.name.data, "x-", 2) == 0;
        if (!pw_str_equal(pair.name, PW_STR("x-gone"))) {
            kept[n++] = pair;
        }
    }
    pw_line_init(&count);
    pw_line_u64(&count, counted);
    kept[n++] = (pw_pair_t){PW_STR("x-map"), line_str(&count)};
    must(pw_pairs_set(PW_MAP_REQUEST_HEADERS, kept, n));
    pw_pairs_free(&pairs);
    return PW_CONTINUE;
}

static uint32_t change_path(context_t *c) {
    (void)c;
    must(pw_header_set(PW_MAP_REQUEST_HEADERS, PW_STR(":path"), PW_STR("/echo/rewritten?by=guest")));
    return PW_CONTINUE;
}

static uint32_t drop_length(context_t *c) {
    (void)c;
    must(pw_header_remove(PW_MAP_REQUEST_HEADERS, PW_STR("content-length")));
    return PW_CONTINUE;
}

static uint32_t deny(context_t *c) {
    return reply(c, 403, PW_STR("denied"));
}

static uint32_t call_and_wait(context_t *c) {
    return wait_for_call(c, PW_STR("/headers?x-answer=42"), 5000);
}

static uint32_t call_in_vain(context_t *c) {
    return wait_for_call(c, PW_STR("/hang"), 100);
}

static uint32_t shared_data(context_t *c) {
    pw_line_t key;
    pw_bytes_t value = {NULL, 0};
    uint32_t cas;
    key_of(root_of(c), &key);
    if (proxy_get_shared_data(key.data, key.len, &value.data, &value.len, &cas) == PW_NOT_FOUND) {
        (void)note(c, "none");
    } else {
        note_and_free(c, value);
    }
    must(proxy_set_shared_data(key.data, key.len, "1", 1, 0));
    must(proxy_get_shared_data(key.data, key.len, &value.data, &value.len, &cas));
    pw_bytes_free(&value);
    pw_status_t wrong = proxy_set_shared_data(key.data, key.len, "x", 1, cas + 1);
    (void)note(c, wrong == PW_CAS_MISMATCH ? ",mismatch," : ",unexpected,");
    must(proxy_set_shared_data(key.data, key.len, "2", 1, cas));
    must(proxy_get_shared_data(key.data, key.len, &value.data, &value.len, &cas));
    note_and_free(c, value);
    return PW_CONTINUE;
}

static uint32_t enqueue(context_t *c) {
    pw_line_t item;
    pw_bytes_t value = header(PW_MAP_REQUEST_HEADERS, "x-in");
    pw_line_init(&item);
    pw_line_str(&item, PW_STR("item-"));
    pw_line_str(&item, pw_bytes_str(value));
    must(proxy_enqueue_shared_queue(root_of(c)->queue, item.data, item.len));
    pw_bytes_free(&value);
    return PW_CONTINUE;
}

static uint32_t metrics(context_t *c) {
    const context_t *root = root_of(c);
    uint64_t counted, set_to;
    must(proxy_increment_metric(root->counter, 2));
    must(proxy_record_metric(root->gauge, 7));
    must(proxy_record_metric(root->histogram, 5));
    must(proxy_get_metric(root->counter, &counted));
    must(proxy_get_metric(root->gauge, &set_to));
    pw_line_u64(&c->note, counted);
    pw_line_str(&c->note, PW_STR(","));
    pw_line_u64(&c->note, set_to);
    return note(c, "");
}

static void note_property(context_t *c, pw_str_t path) {
    pw_bytes_t value = {NULL, 0};
    must(pw_property_get(path, &value));
    note_and_free(c, value);
}

static uint32_t properties(context_t *c) {
    pw_bytes_t value;
    must(pw_property_set(PW_STR("matrix\0own"), PW_STR("kept")));
    note_property(c, PW_STR("request\0path"));
    (void)note(c, ",");
    note_property(c, PW_STR("matrix\0own"));
    (void)note(c, pw_property_get(PW_STR("matrix\0absent"), &value) == PW_NOT_FOUND ? ",none,[" : ",some,[");
    note_property(c, PW_STR("plugin_root_id"));
    return note(c, "]");
}

static uint32_t foreign(context_t *c) {
    char *results;
    size_t size;
    pw_status_t status = proxy_call_foreign_function("matrix_unknown", 14, "x", 1, &results, &size);
    return note(c, status == PW_NOT_FOUND ? "not found" : "unexpected");
}

static uint32_t log_levels(context_t *c) {
    (void)c;
    PW_LOG(PW_LOG_TRACE, "level trace");
    PW_LOG(PW_LOG_DEBUG, "level debug");
    PW_LOG(PW_LOG_INFO, "level info");
    PW_LOG(PW_LOG_WARN, "level warn");
    PW_LOG(PW_LOG_ERROR, "level error");
    PW_LOG(PW_LOG_CRITICAL, "level critical");
    return PW_CONTINUE;
}

static uint32_t tell_time(context_t *c) {
    uint64_t now_ns;
    must(proxy_get_current_time_nanoseconds(&now_ns));
    pw_line_u64(&c->note, now_ns / 1000000000);
    return note(c, "");
}

static uint32_t wait_for_tick(context_t *c) {
    c->waits_for_tick = true;
    return PW_PAUSE;
}

static uint32_t panic(context_t *c) {
    (void)c;
    __builtin_trap();
}

static const struct {
    const char *name;
    uint32_t (*run)(context_t *c);
} behaviours[] = {
    {"headers", change_headers},
    {"map", change_map},
    {"path", change_path},
    {"body", drop_length},
    {"append", drop_length},
    {"reply", deny},
    {"call", call_and_wait},
    {"callreply", call_and_wait},
    {"shared", shared_data},
    {"calltimeout", call_in_vain},
    {"callrefused", call_nowhere},
    {"queue", enqueue},
    {"metric", metrics},
    {"property", properties},
    {"foreign", foreign},
    {"log", log_levels},
    {"time", tell_time},
    {"tick", wait_for_tick},
    {"panic", panic},
};

/* ---- a request ---- */

static uint32_t request_headers(context_t *c, const char *end) {
    log_two("request headers end=", pw_str_from_cstr(end), "");
    c->behaviour = header(PW_MAP_REQUEST_HEADERS, "x-do");
    for (size_t i = 0; i < sizeof(behaviours) / sizeof(behaviours[0]); i++) {
        if (does(c, behaviours[i].name)) {
            return behaviours[i].run(c);
        }
    }
    return PW_CONTINUE;
}

static uint32_t response_headers(context_t *c, const char *end) {
    log_two("response headers end=", pw_str_from_cstr(end), "");
    must(pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-filter"), pw_bytes_str(root_of(c)->name)));
    if (c->noted) {
        must(pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-note"), line_str(&c->note)));
    }
    if (does(c, "stream") || does(c, "rebuild")) {
        must(pw_header_remove(PW_MAP_RESPONSE_HEADERS, PW_STR("content-length")));
    }
    if (does(c, "replylate")) {
        return reply(c, 502, PW_STR("late"));
    }
    return does(c, "callresponse") ? call_and_wait(c) : PW_CONTINUE;
}

#ifdef PROXY_WASM_ABI_0_1_0
uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers) {
    (void)n_headers;
    return request_headers(find(context_id), "unknown");
}

uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers) {
    (void)n_headers;
    return response_headers(find(context_id), "unknown");
}
#else
uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)n_headers;
    return request_headers(find(context_id), end_of_stream ? "yes" : "no");
}

uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)n_headers;
    return response_headers(find(context_id), end_of_stream ? "yes" : "no");
}
#endif

uint32_t proxy_on_request_body(uint32_t context_id, uint32_t body_size, uint32_t end_of_stream) {
    context_t *c = find(context_id);
    if (does(c, "body")) {
        if (!end_of_stream) {
            return PW_PAUSE;
        }
        must(pw_buffer_prepend(PW_BUFFER_REQUEST_BODY, PW_STR("<")));
        must(pw_buffer_append(PW_BUFFER_REQUEST_BODY, PW_STR(">")));
    }
    if (does(c, "append") && end_of_stream) {
        must(proxy_set_buffer_bytes(PW_BUFFER_REQUEST_BODY, body_size, 0, "+end", 4));
    }
    return does(c, "replybody") ? reply(c, 413, PW_STR("body")) : PW_CONTINUE;
}

uint32_t proxy_on_response_body(uint32_t context_id, uint32_t body_size, uint32_t end_of_stream) {
    context_t *c = find(context_id);
    if (does(c, "stream")) {
        must(pw_buffer_append(PW_BUFFER_RESPONSE_BODY, end_of_stream ? PW_STR("|end") : PW_STR("|")));
    }
    if (does(c, "rebuild")) {
        pw_line_t text;
        if (!end_of_stream) {
            return PW_PAUSE;
        }
        pw_line_init(&text);
        pw_line_str(&text, PW_STR("length="));
        pw_line_u64(&text, body_size);
        must(pw_buffer_replace(PW_BUFFER_RESPONSE_BODY, line_str(&text)));
    }
    return PW_CONTINUE;
}

static uint32_t trailers(const context_t *c, pw_map_t map) {
    pw_line_t changed;
    pw_bytes_t value;
    if (!does(c, "trailers")) {
        return PW_CONTINUE;
    }
    value = header(map, "x-trailer");
    pw_line_init(&changed);
    pw_line_str(&changed, pw_bytes_str(value));
    pw_line_str(&changed, PW_STR("-changed"));
    pw_bytes_free(&value);
    must(pw_header_set(map, PW_STR("x-trailer"), line_str(&changed)));
    must(pw_header_add(map, PW_STR("x-added"), PW_STR("guest")));
    return PW_CONTINUE;
}

uint32_t proxy_on_request_trailers(uint32_t context_id, uint32_t n_trailers) {
    (void)n_trailers;
    return trailers(find(context_id), PW_MAP_REQUEST_TRAILERS);
}

uint32_t proxy_on_response_trailers(uint32_t context_id, uint32_t n_trailers) {
    (void)n_trailers;
    return trailers(find(context_id), PW_MAP_RESPONSE_TRAILERS);
}

static context_t *caller(uint32_t root_id, uint32_t call_id) {
    for (size_t i = 0; i < MAX_CONTEXTS; i++) {
        if (contexts[i].id != 0 && contexts[i].parent == root_id && contexts[i].call == call_id) {
            return &contexts[i];
        }
    }
    return NULL;
}

static void add_and_free(pw_line_t *line, pw_bytes_t bytes, const char *after) {
    pw_str_t text = pw_bytes_str(bytes);
    while (text.len > 0 && text.data[text.len - 1] == '\n') {
        text.len--;
    }
    pw_line_str(line, text);
    pw_line_str(line, pw_str_from_cstr(after));
    pw_bytes_free(&bytes);
}

void proxy_on_http_call_response(uint32_t root_id, uint32_t call_id, uint32_t n_headers, uint32_t body_size, uint32_t n_trailers) {
    context_t *c = caller(root_id, call_id);
    pw_line_t outcome;
    pw_bytes_t body = {NULL, 0};
    (void)n_trailers;
    if (c == NULL) {
        return;
    }
    pw_line_init(&outcome);
    if (n_headers == 0) {
        pw_line_str(&outcome, PW_STR("failed"));
    } else {
        must(pw_buffer_get(PW_BUFFER_CALL_RESPONSE_BODY, 0, body_size, &body));
        add_and_free(&outcome, header(PW_MAP_CALL_RESPONSE_HEADERS, ":status"), ",");
        add_and_free(&outcome, header(PW_MAP_CALL_RESPONSE_HEADERS, "x-answer"), ",");
        add_and_free(&outcome, body, "");
    }
    must(proxy_set_effective_context(c->id));
    if (does(c, "callreply")) {
        (void)reply(c, 401, line_str(&outcome));
        return;
    }
    bool response = does(c, "callresponse");
    must(pw_header_set(response ? PW_MAP_RESPONSE_HEADERS : PW_MAP_REQUEST_HEADERS, PW_STR("x-call"), line_str(&outcome)));
    go_on(response);
}

void proxy_on_log(uint32_t context_id) {
    const context_t *c = find(context_id);
    pw_line_t line;
    pw_line_init(&line);
    pw_line_str(&line, PW_STR("log ["));
    pw_line_str(&line, pw_bytes_str(c->behaviour));
    pw_line_str(&line, PW_STR("] status="));
    add_and_free(&line, header(PW_MAP_RESPONSE_HEADERS, ":status"), "");
    if (c->parent != 0) {
        pw_line_log(&line, PW_LOG_INFO);
    }
}

void proxy_on_delete(uint32_t context_id) {
    context_t *c = find(context_id);
    pw_bytes_free(&c->behaviour);
    pw_bytes_free(&c->name);
    c->id = 0;
}
