/*
 * Foreign functions: CEL (sl_cel.h) over the properties of the context whose callback runs, which is not always the effective one. An
 * expression belongs to the root context and goes with it.
 */
#include "pw_foreign.h"

#include <stdlib.h>

#include "pw_guest.h"
#include "sl_cel.h"

#define EVAL_BLOCK_BYTES 4096

/* ---- what a root context has ---- */

/*
 * An instance for one request is a copy of the plugin, so its guest knows the plugin's tokens, too. What it deletes of those is gone for
 * the request alone: an entry without an expression.
 */
typedef struct {
    pw_id_node_t node; /* the token */
    sl_cel_t *cel;
} expr_t;

typedef struct pw_exprs_s {
    pw_id_map_t map;
    size_t bytes;
    uint32_t last; /* token */
} exprs_t;

static const pw_root_t *plugin_of(const pw_root_t *root) {
    return root->pool != NULL ? root->filter->root : NULL;
}

static exprs_t *exprs_of(pw_root_t *root) {
    const pw_root_t *plugin = plugin_of(root);
    if (root->exprs == NULL) {
        root->exprs = calloc(1, sizeof(*root->exprs));
        if (root->exprs != NULL && plugin != NULL && plugin->exprs != NULL) {
            root->exprs->last = plugin->exprs->last;
        }
    }
    return root->exprs;
}

static expr_t *find_own(const pw_root_t *root, uint32_t token) {
    return root->exprs != NULL && token != 0 ? (expr_t *)pw_id_map_find(&root->exprs->map, token) : NULL;
}

/* NULL: there is none, or none any more. */
static sl_cel_t *find(const pw_root_t *root, uint32_t token) {
    const expr_t *x = find_own(root, token);
    const pw_root_t *plugin = plugin_of(root);
    x = x == NULL && plugin != NULL ? find_own(plugin, token) : x;
    return x != NULL ? x->cel : NULL;
}

static void drop(exprs_t *exprs, expr_t *x) {
    exprs->bytes -= sizeof(*x) + (x->cel != NULL ? sl_cel_bytes(x->cel) : 0);
    pw_id_map_remove(&exprs->map, &x->node);
    sl_cel_free(x->cel);
    free(x);
}

void pw_root_forget_exprs(pw_root_t *root) {
    exprs_t *exprs = root->exprs;
    if (exprs == NULL) {
        return;
    }
    for (uint32_t i = 0; i < exprs->map.n_buckets; i++) {
        while (exprs->map.buckets[i] != NULL) {
            drop(exprs, (expr_t *)exprs->map.buckets[i]);
        }
    }
    pw_id_map_deinit(&exprs->map);
    free(exprs);
    root->exprs = NULL;
}

uint32_t pw_root_last_expr(const pw_root_t *root) {
    return root->exprs != NULL ? root->exprs->last : 0;
}

void pw_root_forget_exprs_after(pw_root_t *root, uint32_t last) {
    exprs_t *exprs = root->exprs;
    for (uint32_t i = 0; exprs != NULL && i < exprs->map.n_buckets; i++) {
        for (pw_id_node_t *node = exprs->map.buckets[i], *next; node != NULL; node = next) {
            next = node->next;
            if (node->id > last) {
                drop(exprs, (expr_t *)node);
            }
        }
    }
}

/* cel, which may be NULL, is taken over on success alone. */
static bool add(exprs_t *exprs, uint32_t token, sl_cel_t *cel) {
    size_t bytes = sizeof(expr_t) + (cel != NULL ? sl_cel_bytes(cel) : 0);
    if (exprs->map.n >= PW_EXPRS_MAX || bytes > PW_EXPR_BYTES_MAX - exprs->bytes) {
        return false;
    }
    expr_t *x = malloc(sizeof(*x));
    if (x == NULL) {
        return false;
    }
    *x = (expr_t){.node = {.id = token}, .cel = cel};
    if (!pw_id_map_add(&exprs->map, &x->node)) {
        free(x);
        return false;
    }
    exprs->bytes += bytes;
    return true;
}

/* 0 is no token. */
static uint32_t next_token(const pw_root_t *root, exprs_t *exprs) {
    do {
        exprs->last++;
    } while (exprs->last == 0 || find_own(root, exprs->last) != NULL);
    return exprs->last;
}

/* ---- attributes ---- */

typedef struct {
    pw_vm_t *vm;
    pw_ctx_t *ctx;
} reader_t;

static bool path_is(sl_str_t path, const char *dotted) {
    size_t i = 0;
    while (i < path.len && dotted[i] != '\0' && path.data[i] == (dotted[i] == '.' ? '\0' : dotted[i])) {
        i++;
    }
    return i == path.len && dotted[i] == '\0';
}

static bool is_any_of(sl_str_t path, const char *const *names) {
    for (; *names != NULL; names++) {
        if (path_is(path, *names)) {
            return true;
        }
    }
    return false;
}

/* What has fields and may lack any of them. Messages of Envoy, which are bytes to us, have fields with fields. */
static const char *const structures[] = {
    "request", "response", "source", "destination", "connection", "upstream", "xds", "filter_state", "upstream_filter_state",
    "ngx",     "wasmx",    "kong",   NULL};
static const char *const messages[] = {"metadata",
                                       "node",
                                       "xds.node",
                                       "cluster_metadata",
                                       "xds.cluster_metadata",
                                       "route_metadata",
                                       "xds.route_metadata",
                                       "xds.virtual_host_metadata",
                                       "upstream_host_metadata",
                                       "xds.upstream_host_metadata",
                                       "xds.upstream_host_locality_metadata",
                                       "listener_metadata",
                                       "xds.listener_metadata",
                                       "upstream.locality",
                                       NULL};

/* Of messages that have not come: empty, as in Envoy. */
static const char *const header_maps[] = {"request.headers", "response.headers", "response.trailers", NULL};

static sl_cel_value_t text_value(sl_str_t s) {
    return (sl_cel_value_t){.kind = SL_CEL_STRING, .str = s};
}

static void translate(const pw_value_t *v, sl_cel_attr_t *out) {
    out->kind = SL_CEL_ATTR_VALUE;
    switch (v->kind) {
    case PW_VALUE_INT:
        out->value = (sl_cel_value_t){.kind = SL_CEL_INT, .i = v->i};
        break;
    case PW_VALUE_UINT:
        out->value = (sl_cel_value_t){.kind = SL_CEL_UINT, .u = v->u};
        break;
    case PW_VALUE_DOUBLE:
        out->value = (sl_cel_value_t){.kind = SL_CEL_DOUBLE, .d = v->d};
        break;
    case PW_VALUE_BOOL:
        out->value = (sl_cel_value_t){.kind = SL_CEL_BOOL, .b = v->b};
        break;
    case PW_VALUE_TIMESTAMP:
    case PW_VALUE_DURATION:
        out->value = (sl_cel_value_t){.kind = v->kind == PW_VALUE_TIMESTAMP ? SL_CEL_TIMESTAMP : SL_CEL_DURATION, .ns = v->i};
        break;
    case PW_VALUE_MAP:
        out->kind = SL_CEL_ATTR_ENTRIES;
        break;
    case PW_VALUE_LIST:
        out->kind = SL_CEL_ATTR_TEXTS;
        out->value = text_value(v->str);
        break;
    default:
        out->value = text_value(v->str);
    }
}

static bool is_state(const reader_t *r, sl_str_t path) {
    return path_is(path, "filter_state") && r->ctx->stream != NULL;
}

/* What of it is known without reading anything: nothing of this has to be granted. */
static void describe(sl_str_t path, sl_cel_attr_t *out) {
    out->deep = is_any_of(path, messages);
    out->open = out->deep || is_any_of(path, structures) || is_any_of(path, header_maps);
}

/* A property that the filter is not granted is not there, as for proxy_get_property. */
static sl_status_t get(void *ud, sl_str_t path, sl_cel_attr_t *out) {
    const reader_t *r = ud;
    pw_value_t value;
    describe(path, out);
    if (is_any_of(path, structures) && !is_state(r, path)) {
        return SL_OK;
    }
    if (!pw_granted(r->vm, PW_G_PROPERTIES_READ, path)) {
        return out->open ? SL_OK : SL_NOT_FOUND;
    }
    if (is_state(r, path) || is_any_of(path, header_maps)) {
        out->kind = SL_CEL_ATTR_ENTRIES;
        return SL_OK;
    }
    sl_status_t rc = pw_property_find(r->vm, r->ctx, path, &value);
    if (rc == SL_OK) {
        translate(&value, out);
    }
    return rc == SL_NOT_FOUND && out->open ? SL_OK : rc;
}

static sl_status_t each(void *ud, sl_str_t path, bool (*fn)(void *fn_ud, sl_str_t key, sl_str_t value), void *fn_ud) {
    const reader_t *r = ud;
    const pw_stream_t *s = r->ctx->stream;
    pw_value_t value;
    if (is_state(r, path)) {
        (void)pw_property_each_state(r->ctx, fn, fn_ud);
    } else if (s != NULL && !s->gone && pw_property_find(r->vm, r->ctx, path, &value) == SL_OK && value.kind == PW_VALUE_MAP &&
               value.map <= PW_MAP_RESPONSE_TRAILERS) {
        (void)r->vm->worker->ops->map_each(s->host, value.map, fn, fn_ud);
    }
    return SL_OK;
}

/* ---- results: as proxy_get_property encodes them ---- */

static pw_result_t encode(const sl_cel_value_t *v, sl_buf_t *out);

static void put_le(char *at, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        at[i] = (char)(v >> (8 * i));
    }
}

static pw_result_t put_u64(sl_buf_t *out, uint64_t v) {
    char bytes[8];
    put_le(bytes, v, sizeof(bytes));
    return sl_buf_append(out, bytes, sizeof(bytes)) == SL_OK ? PW_OK : PW_INTERNAL_FAILURE;
}

static uint64_t nanoseconds(__int128 ns) {
    return (uint64_t)(int64_t)(ns > INT64_MAX ? INT64_MAX : ns < INT64_MIN ? INT64_MIN : ns);
}

/* One part of a pair; its length goes to size_at. */
static pw_result_t put_part(const sl_cel_value_t *v, sl_buf_t *out, size_t size_at) {
    size_t before = out->len;
    pw_result_t rc = v != NULL ? encode(v, out) : PW_OK;
    if (rc != PW_OK) {
        return rc;
    }
    put_le(out->data + size_at, out->len - before, 4);
    return sl_buf_append_char(out, '\0') == SL_OK ? PW_OK : PW_INTERNAL_FAILURE;
}

/* Pairs (pw_pairs.h); the elements of a list are keys without values. */
static pw_result_t put_pairs(const sl_cel_value_t *v, sl_buf_t *out) {
    size_t step = v->kind == SL_CEL_MAP ? 2 : 1, n = v->items->n / step, at = out->len;
    if (sl_buf_reserve(out, 4 + n * 8) != SL_OK) {
        return PW_INTERNAL_FAILURE;
    }
    put_le(out->data + at, n, 4);
    out->len += 4 + n * 8;
    pw_result_t rc = PW_OK;
    for (size_t i = 0; rc == PW_OK && i < n; i++) {
        const sl_cel_value_t *item = &v->items->at[i * step];
        rc = put_part(item, out, at + 4 + i * 8);
        rc = rc == PW_OK ? put_part(step == 2 ? item + 1 : NULL, out, at + 8 + i * 8) : rc;
    }
    return rc;
}

static pw_result_t encode(const sl_cel_value_t *v, sl_buf_t *out) {
    uint64_t bits;
    switch (v->kind) {
    case SL_CEL_BOOL:
        return sl_buf_append_char(out, v->b) == SL_OK ? PW_OK : PW_INTERNAL_FAILURE;
    case SL_CEL_INT:
        return put_u64(out, (uint64_t)v->i);
    case SL_CEL_UINT:
        return put_u64(out, v->u);
    case SL_CEL_DOUBLE:
        memcpy(&bits, &v->d, sizeof(bits));
        return put_u64(out, bits);
    case SL_CEL_STRING:
    case SL_CEL_BYTES:
        return sl_buf_append_str(out, v->str) == SL_OK ? PW_OK : PW_INTERNAL_FAILURE;
    case SL_CEL_LIST:
    case SL_CEL_MAP:
        return put_pairs(v, out);
    case SL_CEL_TIMESTAMP:
    case SL_CEL_DURATION:
        return put_u64(out, nanoseconds(v->ns));
    default:
        return PW_SERIALIZATION_FAILURE;
    }
}

/* ---- the functions ---- */

/* For who writes the filter; evaluations fail for each request, and so only at the lowest level. */
static void tell(pw_vm_t *vm, uint32_t level, const char *what, const sl_err_t *err) {
    const pw_ctx_t *ctx = vm->current;
    void *host_stream = ctx->stream != NULL && !ctx->stream->gone ? ctx->stream->host : NULL;
    if (pw_log_wanted(vm->worker, host_stream, level)) {
        pw_log_filter(vm->worker, host_stream, ctx->root->filter->conf.name, ctx->node.id, level, "%s: %s", what, err->text);
    }
}

static bool read_token(sl_str_t args, uint32_t *token) {
    *token = 0;
    for (size_t i = 0; args.len == 4 && i < 4; i++) {
        *token |= (uint32_t)(uint8_t)args.data[i] << (8 * i);
    }
    return args.len == 4;
}

static pw_result_t keep(pw_root_t *root, sl_cel_t *cel, sl_buf_t *out) {
    char bytes[4];
    exprs_t *exprs = exprs_of(root);
    if (exprs == NULL || sl_buf_reserve(out, sizeof(bytes)) != SL_OK) {
        return PW_INTERNAL_FAILURE;
    }
    uint32_t token = next_token(root, exprs);
    if (!add(exprs, token, cel)) {
        return PW_INTERNAL_FAILURE;
    }
    put_le(bytes, token, sizeof(bytes));
    (void)sl_buf_append(out, bytes, sizeof(bytes));
    return PW_OK;
}

pw_result_t pw_foreign_expr_create(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    sl_cel_t *cel;
    sl_err_t err;
    (void)ctx;
    sl_status_t rc = sl_cel_compile(args, &cel, &err);
    if (rc != SL_OK) {
        tell(vm, PW_LOG_WARN, "expr_create", &err);
        return rc == SL_INVALID ? PW_BAD_ARGUMENT : PW_INTERNAL_FAILURE;
    }
    pw_result_t kept = keep(vm->current->root, cel, out);
    if (kept != PW_OK) {
        sl_cel_free(cel);
        sl_err_set(&err, SL_NO_MEMORY, "a root context may have %d expressions, and they %zu bytes", PW_EXPRS_MAX, PW_EXPR_BYTES_MAX);
        tell(vm, PW_LOG_WARN, "expr_create", &err);
    }
    return kept;
}

pw_result_t pw_foreign_expr_evaluate(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    reader_t reader = {vm, vm->current};
    sl_cel_attrs_t attrs = {.ud = &reader, .get = get, .each = each};
    sl_arena_t arena;
    sl_cel_value_t value;
    sl_err_t err;
    uint32_t token;
    (void)ctx;
    if (!read_token(args, &token)) {
        return PW_BAD_ARGUMENT;
    }
    sl_cel_t *cel = find(vm->current->root, token);
    if (cel == NULL) {
        return PW_NOT_FOUND;
    }
    sl_arena_init(&arena, EVAL_BLOCK_BYTES, SL_CEL_RESULT_BYTES);
    sl_status_t rc = sl_cel_evaluate(cel, &attrs, &arena, &value, &err);
    if (rc != SL_OK) {
        tell(vm, PW_LOG_DEBUG, "expr_evaluate", &err);
    }
    pw_result_t result = rc == SL_OK ? encode(&value, out) : PW_INTERNAL_FAILURE;
    sl_arena_deinit(&arena);
    return result;
}

/* What is not there is deleted, too. */
pw_result_t pw_foreign_expr_delete(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    pw_root_t *root = vm->current->root;
    uint32_t token;
    (void)ctx;
    (void)out;
    if (!read_token(args, &token)) {
        return PW_BAD_ARGUMENT;
    }
    const pw_root_t *plugin = plugin_of(root);
    bool shared = plugin != NULL && find_own(plugin, token) != NULL;
    expr_t *own = find_own(root, token);
    if (own != NULL && (!shared || own->cel != NULL)) {
        drop(root->exprs, own);
    }
    if (!shared || find_own(root, token) != NULL) {
        return PW_OK;
    }
    exprs_t *exprs = exprs_of(root);
    return exprs != NULL && add(exprs, token, NULL) ? PW_OK : PW_INTERNAL_FAILURE;
}
