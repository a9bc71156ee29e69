#include "pt.h"

#include <stdio.h>
#include <stdlib.h>

#include "pw_table.h"

enum { MEMORY = 1 << 20, INPUT_AT = 4096, HEAP_AT = 512 * 1024 };

static pt_t *now; /* the test that runs: exports of the null engine have no pointer of their own */

/* ---- the guest ---- */

typedef struct {
    uint32_t input, heap;
} state_t;

static sl_status_t run(sl_instance_t *in, pt_fn_t fn, sl_raw_t *a, size_t n_args, bool answers, uint32_t absent) {
    pt_t *t = now;
    sl_instance_t *outer = t->in;
    state_t *st = sl_null_state(in);
    st->input = INPUT_AT;
    st->heap = HEAP_AT;
    t->in = in;
    t->trap = NULL;
    t->host_trapped = false;
    for (size_t i = 0; i < 5; i++) {
        t->call5[i] = i < n_args ? a[i].u32 : 0;
    }
    uint32_t result = fn != NULL ? fn(t, t->call5[0], t->call5[1], t->call5[2]) : absent;
    t->in = outer;
    if (t->host_trapped) {
        return SL_TRAP;
    }
    if (t->trap != NULL) {
        return sl_instance_trap(in, "%s", t->trap);
    }
    if (answers) {
        a[0].u32 = result;
    }
    return SL_OK;
}

static bool answers(const char *sig) {
    return sig[strlen(sig) - 1] != ':';
}

static size_t count_args(const char *sig) {
    return strcspn(sig, ":");
}

#define PW_CALLBACK(id, cb_name, sig_0_1, sig_0_2)                                                                                         \
    static sl_status_t export_##id(sl_instance_t *in, sl_raw_t *a) {                                                                       \
        if (PW_CB_##id == PW_CB_CONTEXT_CREATE && a[0].u32 < PT_MAX_CTX) {                                                                 \
            now->parent[a[0].u32] = a[1].u32;                                                                                              \
        }                                                                                                                                  \
        bool yes = PW_CB_##id == PW_CB_VM_START || PW_CB_##id == PW_CB_CONFIGURE || PW_CB_##id == PW_CB_DONE;                              \
        return run(in, now->on[PW_CB_##id], a, count_args(sig_0_2), answers(sig_0_2), yes);                                                \
    }
#define PW_CALLBACK_ALIAS(id, cb_name)
#include "pw_callbacks.def"
#undef PW_CALLBACK
#undef PW_CALLBACK_ALIAS

static sl_status_t export_marker(sl_instance_t *in, sl_raw_t *a) {
    (void)a;
    return sl_instance_trap(in, "the marker was called");
}

static sl_status_t export_start(sl_instance_t *in, sl_raw_t *a) {
    return run(in, now->start, a, 0, false, 0);
}

static sl_status_t export_alloc(sl_instance_t *in, sl_raw_t *a) {
    pt_t *t = now;
    state_t *st = sl_null_state(in);
    if (a[0].u32 == 0) {
        return sl_instance_trap(in, "the allocator was called with size 0");
    }
    if (t->alloc != NULL) {
        a[0].u32 = t->alloc(t, 0, a[0].u32, 0);
        if (t->host_trapped || t->trap != NULL) {
            return t->host_trapped ? SL_TRAP : sl_instance_trap(in, "%s", t->trap);
        }
        return SL_OK;
    }
    uint32_t at = st->heap, need = (a[0].u32 + 7) & ~7u;
    if (need > in->mem_size - at && sl_null_grow(in, need) != SL_OK) {
        a[0].u32 = 0;
        return SL_OK;
    }
    st->heap += need;
    a[0].u32 = at;
    return SL_OK;
}

#define MAX_MODULES 32
static struct {
    char name[32];
    sl_null_guest_t guest;
    sl_null_export_t exports[PW_CB_N + 4];
    sl_import_t imports[256];
} slots[MAX_MODULES];
static size_t n_slots;

static size_t all_imports(sl_import_t *out) {
    size_t n_rows, n = 0;
    const pw_hostcall_row_t *rows = pw_hostcall_rows(&n_rows);
    for (size_t i = 0; i < n_rows; i++) {
        bool seen = false;
        for (size_t j = 0; j < n; j++) {
            seen |= strcmp(out[j].name, rows[i].import.name) == 0 && strcmp(out[j].module, rows[i].import.module) == 0;
        }
        if (!seen) {
            out[n++] = rows[i].import;
        }
    }
    return n;
}

static size_t all_exports(sl_null_export_t *out, const pt_guest_t *g) {
    static const sl_null_export_t rows[] = {
#define PW_CALLBACK(id, cb_name, sig_0_1, sig_0_2) {#cb_name, sig_0_2, export_##id},
#define PW_CALLBACK_ALIAS(id, cb_name)
#include "pw_callbacks.def"
#undef PW_CALLBACK
#undef PW_CALLBACK_ALIAS
    };
    bool old = g->marker != NULL && strcmp(g->marker, "proxy_abi_version_0_1_0") == 0;
    size_t n = 0, n_rows;
    const pw_callback_row_t *sigs = pw_callback_rows(&n_rows);
    for (int cb = 0; cb < PW_CB_N; cb++) {
        const char *sig = old ? sigs[cb].sig_0_1 : sigs[cb].sig_0_2;
        if ((g->callbacks & PW_CB_BIT(cb)) != 0 && *sig != '\0') {
            out[n++] = (sl_null_export_t){rows[cb].name, sig, rows[cb].fn};
        }
    }
    const char *marker = g->marker != NULL ? g->marker : "proxy_abi_version_0_2_1";
    if (*marker != '\0') {
        out[n++] = (sl_null_export_t){marker, ":", export_marker};
    }
    if (!g->no_alloc) {
        out[n++] = (sl_null_export_t){"proxy_on_memory_allocate", "i:i", export_alloc};
    }
    if (g->start != NULL) {
        out[n++] = (sl_null_export_t){g->start, ":", export_start};
    }
    if (g->extra != NULL) {
        out[n++] = *g->extra;
    }
    return n;
}

sl_module_t *pt_module(pt_t *t, const pt_guest_t *g) {
    size_t i = 0;
    while (i < n_slots && strcmp(slots[i].name, g->name) != 0) {
        i++;
    }
    assert_true(i < MAX_MODULES);
    n_slots = i == n_slots ? n_slots + 1 : n_slots;
    snprintf(slots[i].name, sizeof(slots[i].name), "%s", g->name);
    size_t n_imports = g->imports == NULL ? all_imports(slots[i].imports) : g->n_imports;
    slots[i].guest = (sl_null_guest_t){.name = slots[i].name,
                                       .exports = slots[i].exports,
                                       .n_exports = all_exports(slots[i].exports, g),
                                       .imports = g->imports == NULL ? slots[i].imports : g->imports,
                                       .n_imports = n_imports,
                                       .memory_bytes = MEMORY,
                                       .state_bytes = sizeof(state_t)};
    assert_int_equal(sl_null_register(&slots[i].guest), SL_OK);
    char text[64];
    snprintf(text, sizeof(text), "null:%s", g->name);
    sl_err_t err;
    assert_true(t->n_modules < PT_MAX_FILTERS);
    sl_module_t **m = &t->modules[t->n_modules++];
    assert_int_equal(sl_module_compile(t->engine, sl_cstr(text), m, &err), SL_OK);
    return *m;
}

/* ---- what guests do ---- */

uint32_t guest_room(pt_t *t, size_t len) {
    state_t *st = sl_null_state(t->in);
    uint32_t at = st->input;
    assert_true(len <= HEAP_AT - at);
    st->input += (uint32_t)((len + 7) & ~(size_t)7);
    return at;
}

uint32_t guest_put(pt_t *t, const void *data, size_t len) {
    uint32_t at = guest_room(t, len);
    if (len != 0) {
        memcpy(t->in->mem + at, data, len);
    }
    return at;
}

uint32_t guest_u32(pt_t *t, uint32_t at) {
    uint32_t v;
    assert_true(at <= t->in->mem_size - 4);
    memcpy(&v, t->in->mem + at, 4);
    return v;
}

uint32_t guest_call_n(pt_t *t, const char *name, size_t n, const uint32_t *args) {
    sl_raw_t a[16] = {{.u64 = 0}};
    for (size_t i = 0; i < n; i++) {
        a[i].u64 = args[i];
    }
    bool wasi = strncmp(name, "wasi:", 5) == 0;
    sl_instance_t *in = t->in;
    sl_status_t rc = sl_null_import(in, wasi ? "wasi_snapshot_preview1" : "env", wasi ? name + 5 : name, a);
    t->in = in; /* others may have run meanwhile */
    if (rc != SL_OK) {
        t->host_trapped = true;
        return UINT32_MAX;
    }
    return a[0].u32;
}

sl_str_t guest_result(pt_t *t, uint32_t ptr_ptr, uint32_t size_ptr) {
    static char copy[1 << 20];
    uint32_t ptr = guest_u32(t, ptr_ptr), len = guest_u32(t, size_ptr);
    assert_true(ptr <= t->in->mem_size && len <= t->in->mem_size - ptr && len <= sizeof(copy));
    memcpy(copy, t->in->mem + ptr, len);
    return sl_str(copy, len);
}

uint32_t guest_get_body(pt_t *t, uint32_t type, uint32_t start, uint32_t max, sl_str_t *out) {
    uint32_t at = guest_room(t, 8);
    uint32_t rc = guest_call(t, "proxy_get_buffer_bytes", type, start, max, at, at + 4);
    *out = rc == PW_OK ? guest_result(t, at, at + 4) : SL_STR_NULL;
    return rc;
}

uint32_t guest_set_body(pt_t *t, uint32_t type, uint32_t start, uint32_t size, const char *data) {
    uint32_t len = (uint32_t)strlen(data);
    return guest_call(t, "proxy_set_buffer_bytes", type, start, size, guest_put(t, data, len), len);
}

uint32_t guest_header(pt_t *t, uint32_t map, const char *key, sl_str_t *out) {
    uint32_t at = guest_room(t, 8), len = (uint32_t)strlen(key);
    uint32_t rc = guest_call(t, "proxy_get_header_map_value", map, guest_put(t, key, len), len, at, at + 4);
    *out = rc == PW_OK ? guest_result(t, at, at + 4) : SL_STR_NULL;
    return rc;
}

uint32_t guest_edit(pt_t *t, const char *call, uint32_t map, const char *key, const char *value) {
    uint32_t klen = (uint32_t)strlen(key), k = guest_put(t, key, klen);
    if (value == NULL) {
        return guest_call(t, call, map, k, klen);
    }
    uint32_t vlen = (uint32_t)strlen(value);
    return guest_call(t, call, map, k, klen, guest_put(t, value, vlen), vlen);
}

uint32_t guest_continue(pt_t *t, uint32_t type) {
    return guest_call(t, "proxy_continue_stream", type);
}

uint32_t guest_reply(pt_t *t, uint32_t status, const char *body) {
    uint32_t len = (uint32_t)strlen(body);
    static const uint8_t pairs[] = "\1\0\0\0\7\0\0\0\3\0\0\0X-Reply\0yes";
    return guest_call(t, "proxy_send_local_response", status, guest_put(t, "why not", 7), 7, guest_put(t, body, len), len,
                      guest_put(t, pairs, sizeof(pairs)), (uint32_t)sizeof(pairs), UINT32_MAX);
}

uint32_t guest_http_call(pt_t *t, uint32_t *token) {
    static const char pairs[] = "\3\0\0\0\7\0\0\0\3\0\0\0\5\0\0\0\1\0\0\0\12\0\0\0\1\0\0\0:method\0GET\0:path\0/\0:authority\0a";
    uint32_t at = guest_room(t, 4);
    uint32_t rc = guest_call(t, "proxy_http_call", guest_put(t, "up", 2), 2, guest_put(t, pairs, sizeof(pairs)), (uint32_t)sizeof(pairs), 0,
                             0, 0, 0, 1000, at);
    *token = guest_u32(t, at);
    return rc;
}

size_t pt_index(const pt_t *t, uint32_t ctx) {
    assert_true(ctx != 0 && ctx < PT_MAX_CTX && t->parent[ctx] != 0);
    return t->parent[ctx] - 1;
}

void pt_trace(pt_t *t, const char *fmt, ...) {
    size_t len = strlen(t->trace);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->trace + len, sizeof(t->trace) - len, fmt, ap);
    va_end(ap);
}

/* ---- the proxy ---- */

static uint64_t op_now_ns(void *worker, bool monotonic) {
    return ((pt_t *)worker)->now_ns + (monotonic ? 0 : 1000);
}

static sl_status_t op_random(void *worker, void *out, size_t len) {
    (void)worker;
    memset(out, 0x5a, len);
    return SL_OK;
}

static void op_log(void *worker, void *stream, uint32_t level, sl_str_t line) {
    pt_t *t = worker;
    (void)stream;
    sl_buf_printf(&t->log, "%u %.*s\n", level, SL_FMT(line));
}

static uint32_t op_log_level(void *worker, void *stream) {
    (void)stream;
    return ((pt_t *)worker)->log_level;
}

static void op_tick_set(void *worker, pw_root_t *root, void **timer, uint32_t period_ms) {
    (void)root;
    ((pt_t *)worker)->tick_ms = period_ms;
    *timer = period_ms != 0 ? worker : NULL;
}

static void op_alarm_set(void *worker, uint32_t ms) {
    ((pt_t *)worker)->alarm_ms = ms;
}

static sl_str_t dup(sl_str_t s) {
    char *p = malloc(s.len + 1);
    assert_non_null(p);
    if (s.len != 0) {
        memcpy(p, s.data, s.len);
    }
    p[s.len] = '\0';
    return sl_str(p, s.len);
}

static void map_add(pt_map_t *m, sl_str_t key, sl_str_t value) {
    assert_true(m->n < PT_MAX_PAIRS);
    m->pairs[m->n++] = (pw_pair_t){dup(key), dup(value)};
}

static void map_remove(pt_map_t *m, sl_str_t key) {
    size_t kept = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (key.data != NULL && !sl_str_eq_nocase(m->pairs[i].key, key)) {
            m->pairs[kept++] = m->pairs[i];
            continue;
        }
        free((char *)m->pairs[i].key.data);
        free((char *)m->pairs[i].value.data);
    }
    m->n = kept;
}

static sl_status_t op_map_each(void *stream, pw_map_t map, bool (*each)(void *ud, sl_str_t key, sl_str_t value), void *ud) {
    const pt_map_t *m = &((pt_t *)stream)->maps[map];
    for (size_t i = 0; i < m->n && each(ud, m->pairs[i].key, m->pairs[i].value); i++) {
    }
    return m->present ? SL_OK : SL_NOT_FOUND;
}

static sl_status_t op_map_get(void *stream, pw_map_t map, sl_str_t key, sl_str_t *value) {
    const pt_map_t *m = &((pt_t *)stream)->maps[map];
    for (size_t i = 0; i < m->n; i++) {
        if (sl_str_eq_nocase(m->pairs[i].key, key)) {
            *value = m->pairs[i].value;
            return SL_OK;
        }
    }
    return SL_NOT_FOUND;
}

static sl_status_t op_map_edit(void *stream, pw_map_t map, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    pt_map_t *m = &((pt_t *)stream)->maps[map];
    bool trailers = map == PW_MAP_REQUEST_TRAILERS || map == PW_MAP_RESPONSE_TRAILERS;
    if (!m->present && !trailers) {
        return SL_NOT_FOUND;
    }
    m->present = true;
    if (op != PW_MAP_ADD) {
        map_remove(m, op == PW_MAP_CLEAR ? SL_STR_NULL : key);
    }
    if (op == PW_MAP_ADD || op == PW_MAP_REPLACE) {
        map_add(m, key, value);
    }
    return SL_OK;
}

static sl_status_t op_property_get(void *worker, void *stream, sl_str_t path, sl_buf_t *scratch, pw_value_t *out) {
    (void)worker;
    (void)scratch;
    if (sl_str_eq(path, SL_STR("request\0size"))) {
        *out = (pw_value_t){.kind = PW_VALUE_INT, .i = 258};
        return SL_OK;
    }
    if (sl_str_eq(path, SL_STR("request\0time"))) {
        *out = (pw_value_t){.kind = PW_VALUE_TIMESTAMP, .i = 1500000000};
        return SL_OK;
    }
    if (sl_str_eq(path, SL_STR("connection\0mtls"))) {
        *out = (pw_value_t){.kind = PW_VALUE_BOOL, .b = true};
        return SL_OK;
    }
    if (sl_str_eq(path, SL_STR("request\0headers")) && stream != NULL) {
        *out = (pw_value_t){.kind = PW_VALUE_MAP, .map = PW_MAP_REQUEST_HEADERS};
        return SL_OK;
    }
    if (sl_str_eq(path, SL_STR("a\0list"))) {
        *out = (pw_value_t){.kind = PW_VALUE_LIST, .str = SL_STR("x\0yz\0")};
        return SL_OK;
    }
    return SL_NOT_FOUND;
}

static sl_status_t op_property_set(void *worker, void *stream, sl_str_t path, sl_str_t value) {
    (void)worker;
    (void)stream;
    (void)value;
    return sl_str_eq(path, SL_STR("read\0only")) ? SL_INVALID : SL_NOT_FOUND;
}

static void op_wake(void *stream, pw_dir_t dir) {
    ((pt_t *)stream)->wakes[dir]++;
}

static void op_soon(void *worker) {
    ((pt_t *)worker)->soon++;
}

static void text_of(char *out, size_t size, sl_str_t s) {
    snprintf(out, size, "%.*s", SL_FMT(s));
}

static sl_status_t op_http_call(void *worker, void *stream, const pw_http_call_t *call, void **handle) {
    pt_t *t = worker;
    if (t->call_status != SL_OK) {
        return t->call_status;
    }
    pt_call_t *c = t->calls;
    while (c < t->calls + PT_MAX_CALLS && c->live) {
        c++;
    }
    if (c == t->calls + PT_MAX_CALLS) {
        return SL_FAILED;
    }
    t->n_calls++;
    *c = (pt_call_t){.live = true,
                     .token = call->token,
                     .root = call->root,
                     .with_stream = stream != NULL,
                     .timeout_ms = call->timeout_ms,
                     .n_headers = call->n_headers};
    text_of(c->upstream, sizeof(c->upstream), call->upstream);
    text_of(c->body, sizeof(c->body), call->body);
    text_of(c->method, sizeof(c->method), call->n_headers != 0 ? call->headers[0].value : SL_STR_NULL);
    *handle = c;
    return SL_OK;
}

static void op_http_call_cancel(void *worker, void *handle) {
    assert_true(((pt_call_t *)handle)->live);
    ((pt_call_t *)handle)->live = false;
    ((pt_t *)worker)->cancelled++;
}

static sl_status_t op_http_call_detach(void *worker, void *handle) {
    assert_true(((pt_call_t *)handle)->live);
    return ((pt_t *)worker)->detach ? SL_OK : SL_FAILED;
}

void pt_answer(pt_t *t, size_t i, const pw_call_response_t *response) {
    assert_true(t->calls[i].live);
    t->calls[i].live = false;
    pw_http_call_done(t->calls[i].root, t->calls[i].token, response);
}

void pt_without_images(pt_t *t) {
    for (size_t i = 0; i < t->n_modules; i++) {
        ((sl_module_info_t *)(uintptr_t)sl_module_info(t->modules[i]))->no_image = "it is told so";
    }
}

static void op_root_gone(void *worker, pw_root_t *root) {
    assert_non_null(root);
    ((pt_t *)worker)->roots_gone++;
}

static const pw_host_ops_t ops = {
    .now_ns = op_now_ns,
    .random = op_random,
    .log = op_log,
    .log_level = op_log_level,
    .tick_set = op_tick_set,
    .alarm_set = op_alarm_set,
    .map_each = op_map_each,
    .map_get = op_map_get,
    .map_edit = op_map_edit,
    .property_get = op_property_get,
    .property_set = op_property_set,
    .wake = op_wake,
    .soon = op_soon,
    .http_call = op_http_call,
    .http_call_cancel = op_http_call_cancel,
    .http_call_detach = op_http_call_detach,
    .root_gone = op_root_gone,
};

pt_t *pt_new(const pw_limits_t *limits) {
    pt_t *t = calloc(1, sizeof(*t));
    sl_err_t err;
    assert_non_null(t);
    now = t;
    t->now_ns = 5000000000u;
    sl_buf_init(&t->log, 1 << 20);
    assert_int_equal(sl_engine_new(&(sl_engine_conf_t){.name = "null"}, &t->engine, &err), SL_OK);
    t->worker = pw_worker_new(&ops, t, limits);
    assert_non_null(t->worker);
    return t;
}

void pt_free(pt_t *t) {
    pw_chain_unref(t->chain);
    for (size_t i = 0; i < t->n_filters; i++) {
        pw_filter_unref(t->filters[i]);
    }
    pw_worker_free(t->worker);
    for (size_t i = 0; i < t->n_modules; i++) {
        sl_module_unref(t->modules[i]);
    }
    sl_engine_free(t->engine);
    for (size_t i = 0; i < 4; i++) {
        map_remove(&t->maps[i], SL_STR_NULL);
    }
    sl_buf_deinit(&t->log);
    free(t);
}

sl_status_t pt_filter(pt_t *t, const pw_filter_conf_t *conf, sl_err_t *err) {
    pw_filter_conf_t c = conf != NULL ? *conf : (pw_filter_conf_t){0};
    char name[16];
    snprintf(name, sizeof(name), "f%zu", t->n_filters);
    c.name = c.name.len != 0 ? c.name : sl_cstr(name);
    c.module = c.module != NULL ? c.module : pt_module(t, &(pt_guest_t){.name = "full", .callbacks = PT_ALL});
    pw_filter_t *f = NULL;
    sl_status_t rc = pw_filter_new(t->worker, &c, &f, err);
    if (rc == SL_OK) {
        assert_true(t->n_filters < PT_MAX_FILTERS);
        t->filters[t->n_filters++] = f;
    }
    return rc;
}

void pt_chain(pt_t *t, const pw_chain_conf_t *conf) {
    t->chain = pw_chain_new(t->worker, t->filters, t->n_filters, conf);
    assert_non_null(t->chain);
}

void pt_filters(pt_t *t, size_t n) {
    sl_err_t err = {""};
    pw_filter_conf_t conf = {.module = pt_module(t, &(pt_guest_t){.name = "full", .callbacks = PT_ALL})};
    for (size_t i = 0; i < n; i++) {
        if (pt_filter(t, &conf, &err) != SL_OK) {
            fail_msg("%s", err.text);
        }
    }
    pt_chain(t, NULL);
}

pw_stream_t *pt_begin(pt_t *t, pw_verdict_t expected) {
    pw_out_t out;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_non_null(s);
    assert_int_equal(pw_stream_headers(s, PW_DIR_REQUEST, true, &out), expected);
    return s;
}

void pt_map(pt_t *t, pw_map_t map, const char *const *kv) {
    pt_map_t *m = &t->maps[map];
    map_remove(m, SL_STR_NULL);
    m->present = true;
    for (; *kv != NULL; kv += 2) {
        map_add(m, sl_cstr(kv[0]), sl_cstr(kv[1]));
    }
}

const char *pt_value(const pt_t *t, pw_map_t map, const char *key) {
    sl_str_t value;
    return op_map_get((void *)t, map, sl_cstr(key), &value) == SL_OK ? value.data : NULL;
}

bool pt_logged(pt_t *t, const char *part) {
    return strstr(sl_buf_cstr(&t->log), part) != NULL;
}
