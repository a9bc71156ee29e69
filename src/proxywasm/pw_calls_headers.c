/* Header maps: of the stream (0..3), of a gRPC call (4, 5), and of the answer of an HTTP call (6, 7). */
#include "pw_calls.h"
#include "pw_guest.h"
#include "pw_headers.h"
#include "pw_pairs.h"

/* ---- rules ---- */

void pw_lower(char *s, size_t len) {
    for (size_t i = 0; i < len; i++) {
        s[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] | 0x20) : s[i];
    }
}

/* The characters of a token (RFC 9110). */
static const bool token[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['!'] = true, ['#'] = true, ['$'] = true,
    ['%'] = true,         ['&'] = true,         ['\''] = true,        ['*'] = true, ['+'] = true, ['-'] = true,
    ['.'] = true,         ['^'] = true,         ['_'] = true,         ['`'] = true, ['|'] = true, ['~'] = true,
};

static const bool control[256] = {[0 ... 8] = true, [10 ... 31] = true, [0x7f] = true};

/* Sixteen bytes at once; in what follows a byte of all ones says "this one is fine". */
typedef uint8_t sixteen_t __attribute__((vector_size(16)));

/* Letters, digits, '-' and '_': of other tokens the table knows. */
static inline sixteen_t plain_in_names(sixteen_t c) {
    return (sixteen_t)(((c | 0x20) - 'a' < 26) | (c - '0' < 10) | (c == '-') | (c == '_'));
}

static inline sixteen_t no_control(sixteen_t c) {
    return (sixteen_t) ~(((c < 0x20) ^ (c == '\t')) | (c == 0x7f));
}

static inline sixteen_t sixteen_at(const char *data) {
    sixteen_t c;
    memcpy(&c, data, sizeof(c));
    return c;
}

/* All of a text of 4 to 16 bytes: its first and its last ones, some of them twice. Nothing beside it is read: it may end where memory does.
 */
static inline sixteen_t short_text(const char *data, size_t len) {
    uint64_t both[2];
    if (len >= 8) {
        memcpy(&both[0], data, 8);
        memcpy(&both[1], data + len - 8, 8);
    } else {
        uint32_t first, last;
        memcpy(&first, data, 4);
        memcpy(&last, data + len - 4, 4);
        both[0] = both[1] = first | (uint64_t)last << 32;
    }
    return sixteen_at((const char *)both);
}

/* Whether all bytes of a text are fine; of 4 bytes or more. */
static inline __attribute__((always_inline)) bool all_fine(const char *data, size_t len, sixteen_t (*fine)(sixteen_t)) {
    if (len <= 16) {
        sixteen_t few = fine(short_text(data, len));
        uint64_t half[2];
        memcpy(half, &few, sizeof(half));
        return (half[0] & half[1]) == UINT64_MAX;
    }
    sixteen_t so_far = fine(sixteen_at(data + len - 16));
    for (size_t i = 0; len - i > 16; i += 16) {
        so_far &= fine(sixteen_at(data + i));
    }
    uint64_t half[2];
    memcpy(half, &so_far, sizeof(half));
    return (half[0] & half[1]) == UINT64_MAX;
}

/* Names like those nearly all are; of others it cannot tell. No pseudo header is among them. */
static inline bool is_plain_name(sl_str_t name) {
    return name.len >= 4 && all_fine(name.data, name.len, plain_in_names);
}

bool pw_header_name_fits(sl_str_t name) {
    if (is_plain_name(name)) {
        return true;
    }
    if (name.len != 0 && name.data[0] == ':') {
        name = sl_str(name.data + 1, name.len - 1);
    }
    bool fits = name.len != 0;
    for (size_t i = 0; i < name.len; i++) {
        fits &= token[(unsigned char)name.data[i]];
    }
    return fits;
}

bool pw_header_value_fits(sl_str_t value) {
    if (value.len >= 4) {
        return all_fine(value.data, value.len, no_control);
    }
    bool bad = false;
    for (size_t i = 0; i < value.len; i++) {
        bad |= control[(unsigned char)value.data[i]];
    }
    return !bad;
}

bool pw_status_fits(uint32_t status) {
    return status >= 200 && status <= 999;
}

/* A status that ends a message; what is not final would leave the client waiting for another one. Of 101 the proxy knows more. */
static __attribute__((noinline)) bool status_fits(sl_str_t name, sl_str_t value) {
    if (!sl_str_eq(name, SL_STR(":status"))) {
        return true;
    }
    uint32_t status = 0;
    for (size_t i = 0; i < value.len && i < 3; i++) {
        unsigned digit = (unsigned char)value.data[i] - (unsigned)'0';
        status = digit > 9 ? 1000 : status * 10 + digit;
    }
    return value.len == 3 && ((status >= 200 && status <= 599) || status == 101);
}

static inline bool pseudo_fits(sl_str_t name, sl_str_t value) {
    return name.len == 0 || __builtin_expect(name.data[0] != ':', 1) || status_fits(name, value);
}

typedef enum {
    ABSENT, /* there is no such map now */
    READ,
    CREATE, /* writing makes it: trailers, from the last body callback */
    WRITE
} pw_access_t;

static pw_access_t headers_access(const pw_ctx_t *ctx, pw_dir_t dir) {
    const pw_stream_t *s = ctx->stream;
    const pw_flow_t *f = &s->flow[dir];
    const pw_flow_t *response = &s->flow[PW_DIR_RESPONSE];
    if (!f->seen) {
        if (s->logging || (dir == PW_DIR_REQUEST && response->seen)) {
            return READ; /* a stream that failed early; the proxy says what there is */
        }
        bool wasmx = pw_ctx_dialect(ctx) == SL_DIALECT_WASMX;
        return dir == PW_DIR_RESPONSE && wasmx ? WRITE : ABSENT; /* WasmX lets response headers be set ahead */
    }
    if (s->logging || f->over || (dir == PW_DIR_REQUEST && response->seen)) {
        return READ;
    }
    /* WasmX lets request headers be changed until there is a response: nginx passes them on when it has read the body. */
    return f->released && (dir == PW_DIR_RESPONSE || pw_ctx_dialect(ctx) == SL_DIALECT_ENVOY) ? READ : WRITE;
}

static pw_access_t trailers_access(const pw_ctx_t *ctx, pw_dir_t dir) {
    const pw_stream_t *s = ctx->stream;
    const pw_flow_t *f = &s->flow[dir];
    const pw_stage_t *st = &s->at[ctx->position].stage[dir];
    if (s->logging) {
        return dir == PW_DIR_RESPONSE && f->has_trailers ? READ : ABSENT;
    }
    if (f->has_trailers) {
        return f->trailers_released || f->over ? READ : WRITE;
    }
    bool last = st->at_end && (st->in_body || st->eos) && !f->out_eos && !f->over;
    return last ? CREATE : ABSENT;
}

static pw_access_t other_access(const pw_ctx_t *ctx, uint32_t map) {
    if (map == PW_MAP_CALL_RESPONSE_HEADERS || map == PW_MAP_CALL_RESPONSE_TRAILERS) {
        return ctx->root->response != NULL ? READ : ABSENT;
    }
    if (map == PW_MAP_GRPC_INITIAL_METADATA || map == PW_MAP_GRPC_TRAILING_METADATA) {
        return ctx->root->grpc_map == (pw_map_t)map ? READ : ABSENT;
    }
    if (ctx->stream == NULL || ctx->stream->gone) {
        return ABSENT;
    }
    switch (map) {
    case PW_MAP_REQUEST_TRAILERS:
        return trailers_access(ctx, PW_DIR_REQUEST);
    case PW_MAP_RESPONSE_TRAILERS:
        return trailers_access(ctx, PW_DIR_RESPONSE);
    default:
        return ABSENT;
    }
}

static inline pw_access_t access_of(const pw_ctx_t *ctx, uint32_t map) {
    if (__builtin_expect(map == PW_MAP_REQUEST_HEADERS || map == PW_MAP_RESPONSE_HEADERS, 1) && ctx->stream != NULL && !ctx->stream->gone) {
        return headers_access(ctx, map == PW_MAP_REQUEST_HEADERS ? PW_DIR_REQUEST : PW_DIR_RESPONSE);
    }
    return other_access(ctx, map);
}

static bool readable(pw_access_t access) {
    return access == READ || access == WRITE;
}

/* ---- reading ---- */

typedef struct {
    pw_pairs_writer_t writer;
    bool lower;
    size_t bytes;
} pw_collect_t;

static bool collect(void *ud, sl_str_t key, sl_str_t value) {
    pw_collect_t *c = ud;
    pw_pairs_add(&c->writer, key, value, c->lower);
    return !pw_pairs_failed(&c->writer);
}

static bool measure(void *ud, sl_str_t key, sl_str_t value) {
    ((pw_collect_t *)ud)->bytes += key.len + value.len;
    return true;
}

typedef bool (*pw_each_fn)(void *ud, sl_str_t key, sl_str_t value);

/* The pairs of a call out's map, which can be read now. */
static const pw_pair_t *call_pairs(const pw_root_t *root, uint32_t map, size_t *n) {
    if (map == PW_MAP_GRPC_INITIAL_METADATA || map == PW_MAP_GRPC_TRAILING_METADATA) {
        *n = root->n_grpc_pairs;
        return root->grpc_pairs;
    }
    bool headers = map == PW_MAP_CALL_RESPONSE_HEADERS;
    *n = headers ? root->response->n_headers : root->response->n_trailers;
    return headers ? root->response->headers : root->response->trailers;
}

static void each_pair(const pw_ctx_t *ctx, uint32_t map, pw_each_fn each, void *ud) {
    if (map < PW_MAP_GRPC_INITIAL_METADATA) {
        ctx->stream->worker->ops->map_each(ctx->stream->host, (pw_map_t)map, each, ud);
        return;
    }
    size_t n;
    const pw_pair_t *pairs = call_pairs(ctx->root, map, &n);
    for (size_t i = 0; i < n && each(ud, pairs[i].key, pairs[i].value); i++) {
    }
}

uint64_t pw_call_get_header_map_pairs(pw_vm_t *vm, const sl_raw_t *a) {
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    if (a[0].u32 >= PW_MAP_N) {
        return PW_BAD_ARGUMENT;
    }
    if (!readable(access_of(ctx, a[0].u32))) {
        return pw_guest_give(vm, a[1].u32, a[2].u32, SL_STR_NULL);
    }
    pw_collect_t c = {.lower = pw_ctx_dialect(ctx) == SL_DIALECT_ENVOY};
    pw_pairs_begin(&c.writer, &vm->worker->sizes, &vm->worker->bytes);
    each_pair(ctx, a[0].u32, collect, &c);
    if (pw_pairs_failed(&c.writer)) {
        return PW_INTERNAL_FAILURE;
    }
    char *at;
    size_t size = c.writer.n != 0 ? pw_pairs_size(&c.writer) : 0;
    pw_result_t rc = pw_guest_reserve(vm, a[1].u32, a[2].u32, size, &at);
    if (rc == PW_OK && size != 0) {
        pw_pairs_copy(&c.writer, at);
    }
    return rc;
}

uint64_t pw_call_get_header_map_size(pw_vm_t *vm, const sl_raw_t *a) {
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    pw_collect_t c = {.bytes = 0};
    if (a[0].u32 >= PW_MAP_N || !readable(access_of(ctx, a[0].u32))) {
        return PW_BAD_ARGUMENT;
    }
    each_pair(ctx, a[0].u32, measure, &c);
    uint32_t size = c.bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)c.bytes;
    return pw_guest_put_u32(vm, a[1].u32, size) ? PW_OK : PW_INVALID_MEMORY_ACCESS;
}

static sl_status_t call_value(const pw_ctx_t *ctx, uint32_t map, sl_str_t key, sl_str_t *value) {
    const pw_call_response_t *response = ctx->root->response;
    if (map == PW_MAP_CALL_RESPONSE_HEADERS && sl_str_eq(key, SL_STR(":dispatch_status")) && pw_ctx_dialect(ctx) == SL_DIALECT_WASMX) {
        *value = response->failed ? sl_cstr(response->failure) : SL_STR("ok");
        return SL_OK;
    }
    size_t n;
    const pw_pair_t *pairs = call_pairs(ctx->root, map, &n);
    for (size_t i = 0; i < n; i++) {
        if (sl_str_eq_nocase(pairs[i].key, key)) {
            *value = pairs[i].value;
            return SL_OK;
        }
    }
    return SL_NOT_FOUND;
}

uint64_t pw_call_get_header_map_value(pw_vm_t *vm, const sl_raw_t *a) {
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    sl_str_t key, value = SL_STR_NULL;
    if (a[0].u32 >= PW_MAP_N) {
        return PW_BAD_ARGUMENT;
    }
    if (!pw_guest_in(vm, a[1].u32, a[2].u32, &key)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (!readable(access_of(ctx, a[0].u32))) {
        return ctx->stream != NULL && ctx->stream->logging ? PW_NOT_FOUND : PW_BAD_ARGUMENT;
    }
    bool failed_call = a[0].u32 >= PW_MAP_CALL_RESPONSE_HEADERS && ctx->root->response->failed;
    sl_status_t rc = a[0].u32 < PW_MAP_GRPC_INITIAL_METADATA
                         ? ctx->stream->worker->ops->map_get(ctx->stream->host, (pw_map_t)a[0].u32, key, &value)
                         : call_value(ctx, a[0].u32, key, &value);
    if (rc != SL_OK) {
        if (failed_call && pw_ctx_dialect(ctx) == SL_DIALECT_ENVOY) {
            return PW_BAD_ARGUMENT;
        }
        return vm->abi == PW_ABI_0_1_0 ? pw_guest_give(vm, a[3].u32, a[4].u32, SL_STR_NULL) : PW_NOT_FOUND;
    }
    return pw_guest_give(vm, a[3].u32, a[4].u32, value);
}

/* ---- writing ---- */

/* Percent-escapes what WasmX does not let into a name (or a value); `out` grows. */
static sl_str_t escaped(sl_buf_t *out, sl_str_t s, bool name) {
    size_t from = out->len;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.data[i];
        bool bad = name ? !token[c] && !(c == ':' && i == 0) : (c < 0x20 && c != '\t') || c == 0x7f;
        if (bad) {
            sl_buf_printf(out, "%%%02X", c);
        } else {
            sl_buf_append_char(out, (char)c);
        }
    }
    return sl_str(out->data + from, out->len - from);
}

/*
 * Makes key and value fit for the map, or says no. What it gives lives in guest memory or in the worker's scratch; names keep the case in
 * which the filter wrote them, which is how they go on the wire of HTTP/1.
 */
static pw_result_t prepare(pw_vm_t *vm, sl_dialect_t dialect, sl_str_t *key, sl_str_t *value) {
    if (key->len > PW_PAIRS_BYTES_MAX || value->len > PW_PAIRS_BYTES_MAX) {
        return PW_BAD_ARGUMENT;
    }
    if (dialect != SL_DIALECT_WASMX) {
        return pw_header_fits(*key, *value) && pseudo_fits(*key, *value) ? PW_OK : PW_BAD_ARGUMENT;
    }
    sl_buf_t *out = &vm->worker->bytes;
    sl_buf_reset(out);
    if (sl_buf_reserve(out, (key->len + value->len) * 3 + 8) != SL_OK) { /* at once, so that nothing moves */
        return PW_INTERNAL_FAILURE;
    }
    *key = escaped(out, *key, true);
    *value = escaped(out, *value, false);
    return PW_OK;
}

static const char *window_text(uint32_t map) {
    return map == PW_MAP_RESPONSE_HEADERS ? "can only set response headers before \"on_response_body\""
                                          : "can only set request headers before response is produced";
}

/* Whether the map may be written now; trailers may come into being. */
static uint64_t writable(pw_vm_t *vm, const pw_ctx_t *ctx, uint32_t map, bool creates, pw_access_t *access) {
    if (map >= PW_MAP_N) {
        return PW_BAD_ARGUMENT;
    }
    *access = access_of(ctx, map);
    if (__builtin_expect(*access == WRITE, 1) || (*access == CREATE && creates)) {
        return PW_OK;
    }
    if (map == PW_MAP_REQUEST_HEADERS || map == PW_MAP_RESPONSE_HEADERS) {
        return pw_vm_misuse(vm, PW_BAD_ARGUMENT, window_text(map));
    }
    return PW_BAD_ARGUMENT;
}

/* What the proxy does not take: WasmX says so in the log only. */
static uint64_t result_of(sl_status_t rc, sl_dialect_t dialect) {
    if (rc == SL_INVALID && dialect == SL_DIALECT_WASMX) {
        return PW_OK;
    }
    return rc == SL_OK ? PW_OK : rc == SL_NO_MEMORY || rc == SL_FAILED ? PW_INTERNAL_FAILURE : PW_BAD_ARGUMENT;
}

/* After a write that made trailers: they exist, for this stage and those after it. */
static void note_created(const pw_ctx_t *ctx, uint32_t map, pw_access_t access, sl_status_t rc) {
    if (access == CREATE && rc == SL_OK) {
        pw_dir_t dir = map == PW_MAP_REQUEST_TRAILERS ? PW_DIR_REQUEST : PW_DIR_RESPONSE;
        ctx->stream->flow[dir].has_trailers = true;
        ctx->stream->at[ctx->position].stage[dir].made_trailers = true;
    }
}

static uint64_t ignored_status(const pw_ctx_t *ctx, sl_str_t value) {
    pw_log_filter(ctx->stream->worker, ctx->stream->host, ctx->root->filter->conf.name, ctx->node.id, PW_LOG_WARN,
                  "ignoring attempt to set invalid response status: \"%.*s\"", value.len < 16 ? (int)value.len : 16, value.data);
    return PW_OK;
}

static __attribute__((noinline)) uint64_t edit_slowly(pw_vm_t *vm, const sl_raw_t *a, pw_map_op_t op, bool with_value) {
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    sl_str_t key, value = SL_STR_NULL;
    pw_access_t access;
    if (a[0].u32 >= PW_MAP_N) {
        return PW_BAD_ARGUMENT;
    }
    if (!pw_guest_in(vm, a[1].u32, a[2].u32, &key) || (with_value && !pw_guest_in(vm, a[3].u32, a[4].u32, &value))) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    uint64_t no = writable(vm, ctx, a[0].u32, op != PW_MAP_REMOVE, &access);
    if (no != PW_OK || vm->trapped) {
        return no;
    }
    if (op == PW_MAP_REMOVE && !pw_header_name_fits(key)) {
        return PW_OK; /* such a header cannot exist */
    }
    pw_result_t rc = prepare(vm, pw_ctx_dialect(ctx), &key, &value);
    if (rc != PW_OK) {
        return rc;
    }
    if (__builtin_expect(pw_ctx_dialect(ctx) == SL_DIALECT_WASMX, 0) && op != PW_MAP_REMOVE && !pseudo_fits(key, value)) {
        return ignored_status(ctx, value);
    }
    sl_status_t done = ctx->stream->worker->ops->map_edit(ctx->stream->host, (pw_map_t)a[0].u32, op, key, value);
    note_created(ctx, a[0].u32, access, done);
    if (op == PW_MAP_REMOVE && done == SL_NOT_FOUND) {
        return PW_OK;
    }
    return result_of(done, pw_ctx_dialect(ctx));
}

/* Whether it is one of the two maps of headers, at a time when they may be written. */
static inline bool headers_are_open(const pw_ctx_t *ctx, uint32_t map) {
    if ((map != PW_MAP_REQUEST_HEADERS && map != PW_MAP_RESPONSE_HEADERS) || ctx->stream == NULL || ctx->stream->gone) {
        return false;
    }
    return headers_access(ctx, map == PW_MAP_REQUEST_HEADERS ? PW_DIR_REQUEST : PW_DIR_RESPONSE) == WRITE;
}

/* What nearly all edits are goes straight to the proxy; for anything else edit_slowly finds out what there is to say. */
static inline __attribute__((always_inline)) uint64_t edit(pw_vm_t *vm, const sl_raw_t *a, pw_map_op_t op, bool with_value) {
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    const pw_worker_t *w = vm->worker;
    sl_str_t key = SL_STR_NULL, value = SL_STR_NULL;
    bool usual = w->dialect == SL_DIALECT_ENVOY && headers_are_open(ctx, a[0].u32) && a[2].u32 <= PW_PAIRS_BYTES_MAX &&
                 pw_guest_in(vm, a[1].u32, a[2].u32, &key) && is_plain_name(key);
    if (with_value && usual) {
        usual = a[4].u32 <= PW_PAIRS_BYTES_MAX && pw_guest_in(vm, a[3].u32, a[4].u32, &value) && pw_header_value_fits(value);
    }
    if (__builtin_expect(!usual, 0)) {
        return edit_slowly(vm, a, op, with_value);
    }
    sl_status_t done = w->ops->map_edit(ctx->stream->host, (pw_map_t)a[0].u32, op, key, value);
    return done == SL_OK || (op == PW_MAP_REMOVE && done == SL_NOT_FOUND) ? PW_OK : result_of(done, SL_DIALECT_ENVOY);
}

uint64_t pw_call_add_header_map_value(pw_vm_t *vm, const sl_raw_t *a) {
    return edit(vm, a, PW_MAP_ADD, true);
}

uint64_t pw_call_replace_header_map_value(pw_vm_t *vm, const sl_raw_t *a) {
    return edit(vm, a, PW_MAP_REPLACE, true);
}

uint64_t pw_call_remove_header_map_value(pw_vm_t *vm, const sl_raw_t *a) {
    return edit(vm, a, PW_MAP_REMOVE, false);
}

static bool all_fit(const pw_pair_t *pairs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!pw_header_fits(pairs[i].key, pairs[i].value) || !pseudo_fits(pairs[i].key, pairs[i].value)) {
            return false;
        }
    }
    return true;
}

/* Everything is checked before anything is changed. A malformed list is an empty one, and so clears the map; one that is too large does
 * not. */
uint64_t pw_call_set_header_map_pairs(pw_vm_t *vm, const sl_raw_t *a) {
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    sl_dialect_t dialect = pw_ctx_dialect(ctx);
    pw_pair_t *pairs = vm->worker->pairs[0];
    sl_str_t bytes;
    pw_access_t access;
    if (a[0].u32 >= PW_MAP_N) {
        return PW_BAD_ARGUMENT;
    }
    if (!pw_guest_in(vm, a[1].u32, a[2].u32, &bytes)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (pw_pairs_too_large(bytes)) {
        return PW_BAD_ARGUMENT;
    }
    uint64_t no = writable(vm, ctx, a[0].u32, true, &access);
    if (no != PW_OK || vm->trapped) {
        return no;
    }
    size_t n = pw_pairs_decode(bytes, pairs, PW_PAIRS_MAX, NULL);
    if (dialect == SL_DIALECT_ENVOY && !all_fit(pairs, n)) {
        return PW_BAD_ARGUMENT;
    }
    const pw_host_ops_t *ops = ctx->stream->worker->ops;
    sl_status_t rc =
        access == CREATE ? SL_OK : ops->map_edit(ctx->stream->host, (pw_map_t)a[0].u32, PW_MAP_CLEAR, SL_STR_NULL, SL_STR_NULL);
    pw_map_op_t op = dialect == SL_DIALECT_WASMX ? PW_MAP_REPLACE : PW_MAP_ADD;
    bool refused = false; /* by the proxy: the others are taken nevertheless */
    for (size_t i = 0; i < n && rc == SL_OK; i++) {
        pw_result_t fit = prepare(vm, dialect, &pairs[i].key, &pairs[i].value);
        if (fit != PW_OK) {
            return fit;
        }
        if (!pseudo_fits(pairs[i].key, pairs[i].value)) {
            (void)ignored_status(ctx, pairs[i].value);
            continue;
        }
        rc = ops->map_edit(ctx->stream->host, (pw_map_t)a[0].u32, op, pairs[i].key, pairs[i].value);
        note_created(ctx, a[0].u32, access, rc);
        refused |= rc == SL_INVALID;
        rc = rc == SL_INVALID ? SL_OK : rc;
    }
    return result_of(rc == SL_OK && refused ? SL_INVALID : rc, dialect);
}
