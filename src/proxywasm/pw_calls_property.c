/* Properties: the core's own, the proxy's, and what filters keep with a stream. */
#include "pw_calls.h"
#include "pw_guest.h"
#include "pw_pairs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- paths ---- */

/*
 * Segments joined by NUL; C++ guests end the last one with a NUL too. WasmX takes dots for NULs, and so do the name spaces that it
 * brought along, whatever the dialect. `room` holds a path that had to be rewritten.
 */
static bool is_namespace(sl_str_t path) {
    return memchr(path.data, '\0', path.len) == NULL &&
           (sl_str_starts(path, SL_STR("ngx.")) || sl_str_starts(path, SL_STR("wasmx.")) || sl_str_starts(path, SL_STR("kong.")));
}

static sl_str_t normal_path(sl_str_t path, sl_dialect_t dialect, char room[PW_PATH_MAX]) {
    if (path.len != 0 && path.data[path.len - 1] == '\0') {
        path.len--;
    }
    if (path.len == 0 || (dialect == SL_DIALECT_ENVOY && !is_namespace(path))) {
        return path;
    }
    for (size_t i = 0; i < path.len; i++) {
        room[i] = path.data[i];
        if (room[i] == '.') {
            room[i] = '\0';
        }
    }
    return sl_str(room, path.len);
}

/* ---- what filters keep ---- */

static pw_property_t **slot_of(pw_stream_t *s, sl_str_t path) {
    pw_property_t **p = &s->properties;
    while (*p != NULL && !sl_str_eq(sl_str((*p)->bytes, (*p)->key_len), path)) {
        p = &(*p)->next;
    }
    return p;
}

static size_t cost(size_t key_len, size_t value_len) {
    return sizeof(pw_property_t) + key_len + value_len;
}

static pw_result_t keep(pw_stream_t *s, sl_str_t path, sl_str_t value) {
    pw_property_t **slot = slot_of(s, path);
    pw_property_t *old = *slot;
    size_t used = s->property_bytes - (old != NULL ? cost(old->key_len, old->value_len) : 0);
    size_t max = s->worker->limits.property_bytes;
    if (value.len > max || cost(path.len, value.len) > max - used) {
        return PW_INTERNAL_FAILURE;
    }
    pw_property_t *p = malloc(cost(path.len, value.len));
    if (p == NULL) {
        return PW_INTERNAL_FAILURE;
    }
    *p = (pw_property_t){.next = old != NULL ? old->next : NULL, .key_len = path.len, .value_len = value.len};
    memcpy(p->bytes, path.data, path.len);
    if (value.len != 0) {
        memcpy(p->bytes + path.len, value.data, value.len);
    }
    *slot = p;
    free(old);
    s->property_bytes = used + cost(path.len, value.len);
    return PW_OK;
}

static void forget(pw_stream_t *s, sl_str_t path) {
    pw_property_t **slot = slot_of(s, path);
    pw_property_t *old = *slot;
    if (old != NULL) {
        s->property_bytes -= cost(old->key_len, old->value_len);
        *slot = old->next;
        free(old);
    }
}

/* ---- what filters declare ---- */

typedef struct pw_declared_s {
    struct pw_declared_s *next;
    bool read_only;
    size_t len;
    char name[];
} pw_declared_t;

static const pw_declared_t *find_declared(const pw_root_t *root, sl_str_t name) {
    const pw_declared_t *d = root->declared;
    while (d != NULL && !sl_str_eq(sl_str(d->name, d->len), name)) {
        d = d->next;
    }
    /* What a request's own instance does not know, the plugin's configuration has said. */
    const pw_root_t *plugin = root->pool != NULL ? root->filter->root : NULL;
    return d == NULL && plugin != NULL ? find_declared(plugin, name) : d;
}

pw_result_t pw_property_declare(pw_root_t *root, sl_str_t name, bool read_only) {
    if (name.len > PW_PATH_MAX || find_declared(root, name) != NULL) {
        return PW_BAD_ARGUMENT;
    }
    pw_declared_t *d = root->n_declared < PW_DECLARED_MAX ? malloc(sizeof(*d) + name.len) : NULL;
    if (d == NULL) {
        return PW_INTERNAL_FAILURE;
    }
    *d = (pw_declared_t){.next = root->declared, .read_only = read_only, .len = name.len};
    memcpy(d->name, name.data, name.len);
    root->declared = d;
    root->n_declared++;
    return PW_OK;
}

void pw_root_forget_declared(pw_root_t *root) {
    while (root->declared != NULL) {
        pw_declared_t *d = root->declared;
        root->declared = d->next;
        free(d);
    }
    root->n_declared = 0;
}

/* Declared as read-only, and set before. */
static bool is_settled(const pw_ctx_t *ctx, sl_str_t path) {
    const pw_declared_t *d = find_declared(ctx->root, path);
    return d != NULL && d->read_only && *slot_of(ctx->stream, path) != NULL;
}

/* Filter state without a name of a filter's property stands beside those, with its own path. */
#define STATE_PREFIX SL_STR("filter_state\0")

pw_result_t pw_property_keep_state(pw_vm_t *vm, pw_stream_t *s, sl_str_t name, sl_str_t value) {
    char path[PW_PATH_MAX];
    sl_str_t prefix = STATE_PREFIX;
    if (name.len > sizeof(path) - prefix.len) {
        return PW_BAD_ARGUMENT;
    }
    memcpy(path, prefix.data, prefix.len);
    memcpy(path + prefix.len, name.data, name.len);
    sl_str_t whole = sl_str(path, prefix.len + name.len);
    return pw_granted(vm, PW_G_PROPERTIES_WRITE, whole) ? keep(s, whole, value) : PW_NOT_FOUND;
}

/* ---- encoding ---- */

static void put_le64(char out[8], uint64_t v) {
    for (size_t i = 0; i < 8; i++) {
        out[i] = (char)(v >> (8 * i));
    }
}

static bool add_pair(void *ud, sl_str_t key, sl_str_t value) {
    pw_pairs_writer_t *w = ud;
    pw_pairs_add(w, key, value, true);
    return !pw_pairs_failed(w);
}

static void add_list(pw_pairs_writer_t *w, sl_str_t list) {
    while (list.len != 0) {
        const char *end = memchr(list.data, '\0', list.len);
        size_t len = end != NULL ? (size_t)(end - list.data) : list.len;
        pw_pairs_add(w, sl_str(list.data, len), SL_STR_NULL, false);
        size_t used = len + (end != NULL);
        list = sl_str(list.data + used, list.len - used);
    }
}

static pw_result_t give_pairs(pw_vm_t *vm, const sl_raw_t *a, const pw_ctx_t *ctx, const pw_value_t *v) {
    pw_pairs_writer_t w;
    pw_pairs_begin(&w, &vm->worker->sizes, &vm->worker->bytes);
    if (v->kind == PW_VALUE_LIST) {
        add_list(&w, v->str);
    } else if (ctx->stream == NULL || ctx->stream->gone || v->map > PW_MAP_RESPONSE_TRAILERS ||
               vm->worker->ops->map_each(ctx->stream->host, v->map, add_pair, &w) == SL_NOT_FOUND) {
        return PW_NOT_FOUND;
    }
    if (pw_pairs_failed(&w)) {
        return PW_INTERNAL_FAILURE;
    }
    char *at;
    pw_result_t rc = pw_guest_reserve(vm, a[2].u32, a[3].u32, pw_pairs_size(&w), &at);
    if (rc == PW_OK) {
        pw_pairs_copy(&w, at);
    }
    return rc;
}

static size_t binary(const pw_value_t *v, char out[64]) {
    uint64_t bits = 0;
    if (v->kind == PW_VALUE_BOOL) {
        out[0] = v->b;
        return 1;
    }
    if (v->kind == PW_VALUE_DOUBLE) {
        memcpy(&bits, &v->d, sizeof(bits));
    } else {
        bits = v->kind == PW_VALUE_UINT ? v->u : (uint64_t)v->i;
    }
    put_le64(out, bits);
    return 8;
}

/* WasmX: decimal text, times as seconds with three decimals. */
static size_t text(const pw_value_t *v, char out[64]) {
    int n = 0;
    switch (v->kind) {
    case PW_VALUE_INT:
        n = snprintf(out, 64, "%" PRId64, v->i);
        break;
    case PW_VALUE_UINT:
        n = snprintf(out, 64, "%" PRIu64, v->u);
        break;
    case PW_VALUE_DOUBLE:
        n = snprintf(out, 64, "%g", v->d);
        break;
    case PW_VALUE_BOOL:
        n = snprintf(out, 64, "%s", v->b ? "true" : "false");
        break;
    default:
        n = snprintf(out, 64, "%" PRId64 ".%03d", v->i / 1000000000, (int)(v->i % 1000000000 / 1000000));
        break;
    }
    return n > 0 ? (size_t)n : 0;
}

/* WasmX has addresses without their ports. */
static sl_str_t address_only(sl_str_t s) {
    size_t len = s.len;
    while (len != 0 && s.data[len - 1] >= '0' && s.data[len - 1] <= '9') {
        len--;
    }
    if (len < 2 || len == s.len || s.data[len - 1] != ':') {
        return s;
    }
    s.len = len - 1;
    return s.data[0] == '[' && s.data[s.len - 1] == ']' ? sl_str(s.data + 1, s.len - 2) : s;
}

static pw_result_t give(pw_vm_t *vm, const sl_raw_t *a, const pw_ctx_t *ctx, const pw_value_t *v) {
    char out[64];
    bool wasmx = pw_ctx_dialect(ctx) == SL_DIALECT_WASMX;
    if (v->kind == PW_VALUE_STRING || v->kind == PW_VALUE_ADDRESS) {
        return pw_guest_give(vm, a[2].u32, a[3].u32, wasmx && v->kind == PW_VALUE_ADDRESS ? address_only(v->str) : v->str);
    }
    if (v->kind == PW_VALUE_MAP || v->kind == PW_VALUE_LIST) {
        return give_pairs(vm, a, ctx, v);
    }
    size_t len = wasmx ? text(v, out) : binary(v, out);
    return pw_guest_give(vm, a[2].u32, a[3].u32, sl_str(out, len));
}

/* ---- the host calls ---- */

static bool own_property(const pw_vm_t *vm, const pw_ctx_t *ctx, sl_str_t path, sl_str_t *out) {
    const pw_filter_conf_t *conf = &ctx->root->filter->conf;
    if (sl_str_eq(path, SL_STR("plugin_name"))) {
        *out = conf->name;
    } else if (sl_str_eq(path, SL_STR("plugin_root_id"))) {
        *out = conf->opts.root_id;
    } else if (sl_str_eq(path, SL_STR("plugin_vm_id"))) {
        *out = vm->vm_id;
    } else {
        return false;
    }
    return true;
}

/* Envoy keeps what filters set as filter state named `wasm.` and the path, and shows that as one map, too. */
static const pw_property_t *filter_state(const pw_ctx_t *ctx, sl_str_t path) {
    const sl_str_t prefix = SL_STR("filter_state\0wasm.");
    if (ctx->stream == NULL || !sl_str_starts(path, prefix)) {
        return NULL;
    }
    return *slot_of(ctx->stream, sl_str(path.data + prefix.len, path.len - prefix.len));
}

bool pw_property_each_state(const pw_ctx_t *ctx, pw_state_fn_t fn, void *ud) {
    char name[PW_PATH_MAX + 5] = "wasm.";
    if (ctx->stream == NULL || ctx->stream->properties == NULL) {
        return false;
    }
    bool more = true;
    for (const pw_property_t *p = ctx->stream->properties; more && p != NULL; p = p->next) {
        sl_str_t key = sl_str(p->bytes, p->key_len), prefix = STATE_PREFIX;
        if (sl_str_starts(key, prefix)) {
            key = sl_str(key.data + prefix.len, key.len - prefix.len);
        } else {
            memcpy(name + 5, key.data, key.len);
            key = sl_str(name, 5 + key.len);
        }
        more = fn(ud, key, sl_str(p->bytes + p->key_len, p->value_len));
    }
    return true;
}

static bool add_state(void *ud, sl_str_t key, sl_str_t value) {
    pw_pairs_add(ud, key, value, false);
    return true;
}

static pw_result_t give_filter_state(pw_vm_t *vm, const sl_raw_t *a, const pw_ctx_t *ctx) {
    char *at;
    pw_pairs_writer_t w;
    pw_pairs_begin(&w, &vm->worker->sizes, &vm->worker->bytes);
    if (!pw_property_each_state(ctx, add_state, &w)) {
        return PW_NOT_FOUND;
    }
    if (pw_pairs_failed(&w)) {
        return PW_INTERNAL_FAILURE;
    }
    pw_result_t rc = pw_guest_reserve(vm, a[2].u32, a[3].u32, pw_pairs_size(&w), &at);
    if (rc == PW_OK) {
        pw_pairs_copy(&w, at);
    }
    return rc;
}

static void *host_stream(const pw_ctx_t *ctx) {
    return ctx->stream != NULL && !ctx->stream->gone ? ctx->stream->host : NULL;
}

sl_status_t pw_property_find(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t path, pw_value_t *out) {
    pw_worker_t *w = vm->worker;
    *out = (pw_value_t){.kind = PW_VALUE_STRING};
    if (own_property(vm, ctx, path, &out->str)) {
        return SL_OK;
    }
    if (sl_str_eq(path, SL_STR("plugin_vm_memory"))) { /* Higress */
        sl_instance_refresh(vm->instance);
        *out = (pw_value_t){.kind = PW_VALUE_UINT, .u = vm->instance->mem_size};
        return SL_OK;
    }
    sl_status_t rc = SL_NOT_FOUND;
    if (w->ops->property_get != NULL) { /* the proxy's own names win over what filters keep */
        sl_buf_reset(&w->value);
        rc = w->ops->property_get(w->host, host_stream(ctx), path, &w->value, out);
    }
    if (rc == SL_NOT_FOUND && ctx->stream != NULL) {
        const pw_property_t *p = *slot_of(ctx->stream, path);
        p = p != NULL ? p : filter_state(ctx, path);
        if (p != NULL) {
            *out = (pw_value_t){.kind = PW_VALUE_STRING, .str = sl_str(p->bytes + p->key_len, p->value_len)};
            rc = SL_OK;
        }
    }
    return rc;
}

static pw_result_t look_up(pw_vm_t *vm, const sl_raw_t *a, pw_ctx_t *ctx, sl_str_t path) {
    pw_value_t value;
    if (sl_str_eq(path, SL_STR("filter_state"))) {
        return give_filter_state(vm, a, ctx);
    }
    sl_status_t rc = pw_property_find(vm, ctx, path, &value);
    return rc == SL_OK ? give(vm, a, ctx, &value) : rc == SL_NOT_FOUND ? PW_NOT_FOUND : PW_INTERNAL_FAILURE;
}

/* WasmX has no properties with several segments outside of requests, and says so with another status. */
static bool scoped_in_root(const pw_ctx_t *ctx, sl_str_t path) {
    return ctx->stream == NULL && pw_ctx_dialect(ctx) == SL_DIALECT_WASMX && memchr(path.data, '\0', path.len) != NULL;
}

uint64_t pw_call_get_property(pw_vm_t *vm, const sl_raw_t *a) {
    pw_ctx_t *ctx = pw_vm_ctx(vm);
    char room[PW_PATH_MAX];
    sl_str_t path;
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &path)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (path.len > PW_PATH_MAX) {
        return PW_NOT_FOUND;
    }
    path = normal_path(path, pw_ctx_dialect(ctx), room);
    if (path.len == 0) {
        return PW_SERIALIZATION_FAILURE;
    }
    if (!pw_granted(vm, PW_G_PROPERTIES_READ, path)) {
        return PW_NOT_FOUND;
    }
    pw_result_t rc = look_up(vm, a, ctx, path);
    return rc == PW_NOT_FOUND && scoped_in_root(ctx, path) ? PW_INTERNAL_FAILURE : rc;
}

uint64_t pw_call_set_property(pw_vm_t *vm, const sl_raw_t *a) {
    pw_ctx_t *ctx = pw_vm_ctx(vm);
    pw_worker_t *w = vm->worker;
    sl_dialect_t dialect = pw_ctx_dialect(ctx);
    char room[PW_PATH_MAX];
    sl_str_t path, value;
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &path) || !pw_guest_in(vm, a[2].u32, a[3].u32, &value)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (path.len > PW_PATH_MAX) {
        return PW_BAD_ARGUMENT;
    }
    path = normal_path(path, dialect, room);
    if (!pw_granted(vm, PW_G_PROPERTIES_WRITE, path)) {
        return PW_NOT_FOUND;
    }
    if (path.len != 0 && scoped_in_root(ctx, path)) {
        return PW_INTERNAL_FAILURE;
    }
    if (ctx->stream == NULL || ctx->stream->gone) {
        return PW_NOT_FOUND;
    }
    if (path.len == 0) {
        return PW_BAD_ARGUMENT;
    }
    if (is_settled(ctx, path)) {
        return PW_BAD_ARGUMENT;
    }
    bool null = a[2].u32 == 0 && a[3].u32 == 0;
    sl_status_t rc = SL_NOT_FOUND;
    if (w->ops->property_set != NULL) {
        rc = w->ops->property_set(w->host, ctx->stream->host, path, null ? SL_STR_NULL : value);
    }
    if (rc != SL_NOT_FOUND) {
        return rc == SL_OK ? PW_OK : rc == SL_INVALID && dialect == SL_DIALECT_ENVOY ? PW_BAD_ARGUMENT : PW_INTERNAL_FAILURE;
    }
    if (null && dialect == SL_DIALECT_WASMX) {
        forget(ctx->stream, path);
        return PW_OK;
    }
    return keep(ctx->stream, path, value);
}
