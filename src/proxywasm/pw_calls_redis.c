/*
 * Redis, with Higress's names. A cluster is an upstream; what a filter says about it (credentials, database, timeout) is its root
 * context's alone. Calls belong to the root context, whoever asked for them.
 */
#include "pw_calls.h"
#include "pw_guest.h"
#include "pw_slice.h"

#include <stdlib.h>

#include "sl_resp.h"

enum { CLUSTER_BYTES_MAX = 512, CREDENTIAL_BYTES_MAX = 4096, DATABASE_MAX = 65535 };

typedef struct pw_redis_s {
    struct pw_redis_s *next;
    uint32_t database, timeout_ms;
    bool tls;
    sl_str_t name, username, password; /* in `bytes` */
    char bytes[];
} pw_redis_t;

/* ---- names ---- */

typedef struct {
    sl_str_t name;
    uint32_t database;
    bool has_database;
    bool tls;
} cluster_t;

static bool printable(sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.data[i] <= ' ' || s.data[i] == 0x7f) {
            return false;
        }
    }
    return s.len != 0;
}

static bool read_database(sl_str_t s, cluster_t *c) {
    uint32_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9' || n > DATABASE_MAX) {
            return false;
        }
        n = n * 10 + (uint32_t)(s.data[i] - '0');
    }
    c->database = n;
    c->has_database = true;
    return s.len != 0 && n <= DATABASE_MAX;
}

static sl_str_t cut(sl_str_t *in, char at) {
    const char *end = memchr(in->data, at, in->len);
    sl_str_t head = sl_str(in->data, end != NULL ? (size_t)(end - in->data) : in->len);
    size_t used = head.len + (end != NULL);
    *in = sl_str(in->data + used, in->len - used);
    return head;
}

static bool cut_scheme(sl_str_t *text, sl_str_t scheme) {
    if (!sl_str_starts(*text, scheme)) {
        return false;
    }
    *text = sl_str(text->data + scheme.len, text->len - scheme.len);
    return true;
}

/* [redis[s]://]name[?db=N[&...]]; other parameters are about Envoy's way of sending. */
static bool read_cluster(sl_str_t text, cluster_t *c) {
    *c = (cluster_t){0};
    if (text.len > CLUSTER_BYTES_MAX || !printable(text)) {
        return false;
    }
    c->tls = cut_scheme(&text, SL_STR("rediss://"));
    (void)(c->tls || cut_scheme(&text, SL_STR("redis://")));
    c->name = cut(&text, '?');
    while (text.len != 0) {
        sl_str_t value = cut(&text, '&');
        sl_str_t key = cut(&value, '=');
        if (sl_str_eq(key, SL_STR("db")) && !read_database(value, c)) {
            return false;
        }
    }
    return c->name.len != 0;
}

/* ---- what a filter says about a cluster ---- */

static pw_redis_t **slot_of(pw_root_t *root, sl_str_t name) {
    pw_redis_t **p = &root->redis;
    while (*p != NULL && !sl_str_eq((*p)->name, name)) {
        p = &(*p)->next;
    }
    return p;
}

/* What a request's own instance does not know, the plugin's configuration has said. */
static const pw_redis_t *find(pw_root_t *root, sl_str_t name) {
    const pw_redis_t *own = *slot_of(root, name);
    pw_root_t *plugin = root->pool != NULL ? root->filter->root : NULL;
    return own == NULL && plugin != NULL ? *slot_of(plugin, name) : own;
}

static sl_str_t put(char **at, sl_str_t s) {
    if (s.len != 0) {
        memcpy(*at, s.data, s.len);
    }
    *at += s.len;
    return sl_str(*at - s.len, s.len);
}

static void redis_free(pw_redis_t *r) {
    explicit_bzero((char *)r->password.data, r->password.len);
    free(r);
}

static pw_result_t remember(pw_root_t *root, const cluster_t *c, sl_str_t username, sl_str_t password, uint32_t timeout_ms) {
    pw_redis_t **slot = slot_of(root, c->name), *old = *slot;
    if (old == NULL && root->n_redis == PW_REDIS_MAX) {
        return PW_INTERNAL_FAILURE;
    }
    pw_redis_t *r = malloc(sizeof(*r) + c->name.len + username.len + password.len);
    if (r == NULL) {
        return PW_INTERNAL_FAILURE;
    }
    char *at = r->bytes;
    *r = (pw_redis_t){.next = old != NULL ? old->next : NULL, .database = c->database, .timeout_ms = timeout_ms, .tls = c->tls};
    r->name = put(&at, c->name);
    r->username = put(&at, username);
    r->password = put(&at, password);
    *slot = r;
    if (old != NULL) {
        redis_free(old);
    } else {
        root->n_redis++;
    }
    return PW_OK;
}

void pw_root_forget_redis(pw_root_t *root) {
    while (root->redis != NULL) {
        pw_redis_t *r = root->redis;
        root->redis = r->next;
        redis_free(r);
    }
    root->n_redis = 0;
}

uint64_t pw_call_redis_init(pw_vm_t *vm, const sl_raw_t *a) {
    sl_str_t upstream, username, password;
    cluster_t c;
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &upstream) || !pw_guest_in(vm, a[2].u32, a[3].u32, &username) ||
        !pw_guest_in(vm, a[4].u32, a[5].u32, &password)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (!read_cluster(upstream, &c) || username.len > CREDENTIAL_BYTES_MAX || password.len > CREDENTIAL_BYTES_MAX || a[6].i32 < 0) {
        return PW_BAD_ARGUMENT;
    }
    if (!pw_granted(vm, PW_G_REDIS, c.name)) {
        return PW_BAD_ARGUMENT; /* as an unknown one */
    }
    return remember(pw_vm_ctx(vm)->root, &c, username, password, a[6].u32);
}

/* ---- calls ---- */

static pw_result_t start(pw_vm_t *vm, const pw_redis_t *r, pw_redis_call_t *request, uint32_t *token) {
    pw_worker_t *w = vm->worker;
    pw_ctx_t *ctx = pw_vm_ctx(vm);
    pw_call_t *call = w->ops->redis_call != NULL && !vm->quiet ? pw_call_new(vm, ctx, PW_CALL_REDIS) : NULL;
    if (call == NULL) {
        return PW_INTERNAL_FAILURE;
    }
    request->root = ctx->root;
    request->token = call->node.id;
    request->upstream = r->name;
    request->username = r->username;
    request->password = r->password;
    request->timeout_ms = r->timeout_ms;
    void *host_stream = ctx->stream != NULL && !ctx->stream->logging ? ctx->stream->host : NULL;
    sl_status_t rc = w->ops->redis_call(w->host, host_stream, request, &call->handle);
    if (rc != SL_OK) {
        pw_call_free(call);
        return rc == SL_NOT_FOUND || rc == SL_INVALID ? PW_BAD_ARGUMENT : PW_INTERNAL_FAILURE;
    }
    w->stats.redis_started++;
    *token = call->node.id;
    return PW_OK;
}

static void log_refused(pw_vm_t *vm, const cluster_t *c, const char *why) {
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    void *host_stream = ctx->stream != NULL && !ctx->stream->gone ? ctx->stream->host : NULL;
    pw_log_filter(vm->worker, host_stream, ctx->root->filter->conf.name, ctx->node.id, PW_LOG_WARN, "Redis call to %.*s refused: %s",
                  SL_FMT(c->name), why);
}

uint64_t pw_call_redis_call(pw_vm_t *vm, const sl_raw_t *a) {
    sl_str_t upstream;
    cluster_t c;
    pw_redis_call_t request = {0};
    sl_resp_request_t facts;
    const char *why;
    uint32_t token = 0;
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &upstream) || !pw_guest_in(vm, a[2].u32, a[3].u32, &request.query) ||
        !pw_guest_put_u32(vm, a[4].u32, 0)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (!read_cluster(upstream, &c) || !pw_granted(vm, PW_G_REDIS, c.name)) {
        return PW_BAD_ARGUMENT;
    }
    const pw_redis_t *r = find(pw_vm_ctx(vm)->root, c.name);
    if (r == NULL) {
        log_refused(vm, &c, "proxy_redis_init has to come first");
        return PW_BAD_ARGUMENT;
    }
    if (sl_resp_request(request.query, &facts, &why) != SL_OK) {
        log_refused(vm, &c, why);
        return PW_BAD_ARGUMENT;
    }
    request.n_commands = (uint32_t)facts.n_commands;
    request.blocks = facts.blocks;
    request.tls = c.tls || r->tls;
    request.database = c.has_database ? c.database : r->database;
    pw_result_t rc = start(vm, r, &request, &token);
    pw_guest_put_u32(vm, a[4].u32, token);
    return rc;
}

/* ---- the answer ---- */

static void tell(pw_root_t *root, uint32_t token, sl_str_t response) {
    bool failed = response.data == NULL;
    uint32_t size = response.len > UINT32_MAX ? UINT32_MAX : (uint32_t)response.len;
    sl_raw_t args[4] = {{.u32 = root->ctx.node.id}, {.u32 = token}, {.u32 = failed ? PW_BROKEN_CONNECTION : PW_OK}, {.u32 = size}};
    root->has_redis_response = !failed;
    root->redis_response = response;
    if (failed) {
        root->status = PW_BROKEN_CONNECTION;
        root->status_message = SL_STR("reset");
    }
    pw_vm_call(root->vm, &root->ctx, PW_CB_REDIS_RESPONSE, args, NULL);
    root->has_redis_response = false;
    root->status_message = SL_STR("");
}

static void call_done(pw_root_t *root, uint32_t token, sl_str_t response) {
    pw_vm_t *vm = root->vm;
    pw_worker_t *worker = vm->worker;
    pw_call_t *call = (pw_call_t *)pw_id_map_find(&vm->calls, token);
    if (call == NULL || call->root != root || call->kind != PW_CALL_REDIS) {
        worker->stats.calls_dropped++;
        return;
    }
    pw_root_ref(root);
    pw_call_free(call);
    worker->stats.redis_failed += response.data == NULL;
    if (!vm->failed && pw_vm_has(vm, PW_CB_REDIS_RESPONSE)) {
        tell(root, token, response);
    }
    pw_root_unref(root);
    pw_worker_settle(worker);
}

static void call_done_event(pw_root_t *root, const pw_event_data_t *e) {
    call_done(root, e->token, e->data);
}

void pw_redis_done(pw_root_t *root, uint32_t token, sl_str_t response) {
    if (!root->vm->sliced) {
        call_done(root, token, response);
        return;
    }
    pw_call_t *call = (pw_call_t *)pw_id_map_find(&root->vm->calls, token);
    if (call != NULL && call->root == root) {
        call->over = true;
    }
    if (!pw_slice_data_event(root, call_done_event, &(pw_event_data_t){.token = token, .data = response})) {
        call_done(root, token, response);
    }
}
