/*
 * Names to addresses: the foreign functions resolve_host and resolve_lua, and Envoy's host call. An address that is written as one is
 * answered at once; else the proxy's resolver is asked, and the answer is an event.
 */
#include "pw_foreign.h"

#include <arpa/inet.h>

#include "pw_calls.h"
#include "pw_guest.h"
#include "pw_slice.h"

enum { NAME_MAX_BYTES = 253 };

/* The address that `name` is; len 0: it is none. */
static pw_address_t literal(sl_str_t name) {
    pw_address_t a = {0};
    char text[INET6_ADDRSTRLEN];
    if (name.len >= sizeof(text)) {
        return a;
    }
    memcpy(text, name.data, name.len);
    text[name.len] = '\0';
    a.len = inet_pton(AF_INET, text, a.bytes) == 1 ? 4 : inet_pton(AF_INET6, text, a.bytes) == 1 ? 16 : 0;
    return a;
}

static bool is_name(sl_str_t name) {
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
        if (!ok) {
            return false;
        }
    }
    return name.len != 0 && name.len <= NAME_MAX_BYTES;
}

/* ---- starting ---- */

static pw_result_t start(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t name, bool foreign, uint32_t *token) {
    pw_worker_t *w = vm->worker;
    pw_call_t *call = w->ops->resolve != NULL && !vm->quiet ? pw_call_new(vm, ctx, PW_CALL_RESOLVE) : NULL;
    if (call == NULL) {
        return PW_INTERNAL_FAILURE;
    }
    call->foreign = foreign;
    pw_resolve_t request = {.root = ctx->root, .token = call->node.id, .name = name};
    void *host_stream = call->ctx != NULL ? ctx->stream->host : NULL;
    if (sl_buf_append_str(&call->message, name) != SL_OK || w->ops->resolve(w->host, host_stream, &request, &call->handle) != SL_OK) {
        pw_call_free(call);
        return PW_INTERNAL_FAILURE;
    }
    *token = call->node.id;
    return PW_OK;
}

/* The proxy gives no answer from inside of a callback; so the address goes out as the result, or nothing does yet. */
pw_result_t pw_foreign_resolve(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    uint32_t token;
    if (args.len == 0) {
        return (pw_result_t)pw_vm_misuse(vm, PW_BAD_ARGUMENT, "cannot resolve, missing name");
    }
    pw_address_t a = literal(args);
    if (a.len != 0) {
        return sl_buf_append(out, a.bytes, a.len) == SL_OK ? PW_OK : PW_INTERNAL_FAILURE;
    }
    return is_name(args) ? start(vm, ctx, args, true, &token) : PW_BAD_ARGUMENT;
}

/* The answer goes to the root context, whoever asked. */
uint64_t pw_call_resolve_dns(pw_vm_t *vm, const sl_raw_t *a) {
    uint32_t token = 0;
    sl_str_t name;
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &name) || !pw_guest_put_u32(vm, a[2].u32, 0)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (!is_name(name)) {
        return PW_BAD_ARGUMENT;
    }
    pw_result_t rc = start(vm, &pw_vm_ctx(vm)->root->ctx, name, false, &token);
    pw_guest_put_u32(vm, a[2].u32, token);
    return rc;
}

/* ---- the answer ---- */

static pw_call_t *find_lookup(const pw_root_t *root, uint32_t token) {
    pw_call_t *call = (pw_call_t *)pw_id_map_find(&root->vm->calls, token);
    return call != NULL && call->root == root && call->kind == PW_CALL_RESOLVE ? call : NULL;
}

static void tell(pw_root_t *root, pw_ctx_t *ctx, pw_cb_t cb, uint32_t id, sl_str_t data) {
    pw_vm_t *vm = root->vm;
    if (vm->failed || data.data == NULL || !pw_vm_has(vm, cb)) {
        return;
    }
    sl_raw_t args[3] = {{.u32 = ctx->node.id}, {.u32 = id}, {.u32 = (uint32_t)data.len}};
    root->foreign_data = data;
    pw_vm_call(vm, ctx, cb, args, NULL);
    root->foreign_data = SL_STR_NULL;
}

/* One address with its length before it, then the name; length 0: there is none. */
static void put_foreign(sl_buf_t *out, sl_str_t name, const pw_address_t *addrs, size_t n) {
    uint8_t len = n != 0 ? addrs[0].len : 0;
    sl_buf_append_char(out, (char)len);
    sl_buf_append(out, n != 0 ? addrs[0].bytes : (const uint8_t *)"", len);
    sl_buf_append_str(out, name);
}

static void put_u32(sl_buf_t *out, uint32_t v) {
    char bytes[4] = {(char)v, (char)(v >> 8), (char)(v >> 16), (char)(v >> 24)};
    sl_buf_append(out, bytes, sizeof(bytes));
}

/* A number, so many times to live, and so many texts that end with NUL; nothing at all: there are none. */
static void put_envoy(sl_buf_t *out, const pw_address_t *addrs, size_t n) {
    char text[INET6_ADDRSTRLEN];
    if (n == 0) {
        return;
    }
    put_u32(out, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        put_u32(out, addrs[i].ttl_s);
    }
    for (size_t i = 0; i < n; i++) {
        inet_ntop(addrs[i].len == 4 ? AF_INET : AF_INET6, addrs[i].bytes, text, sizeof(text));
        sl_buf_append(out, text, strlen(text) + 1);
    }
}

static void tell_foreign(pw_root_t *root, uint32_t ctx_id, sl_str_t data) {
    pw_ctx_t *ctx = ctx_id != 0 ? (pw_ctx_t *)pw_id_map_find(&root->vm->contexts, ctx_id) : &root->ctx;
    tell(root, ctx, PW_CB_FOREIGN_FUNCTION, 0, data);
    if (ctx_id != 0 && !root->vm->failed) {
        pw_call_resume_waiting(root, ctx_id);
    }
}

/* data NULL: there was no memory for it. */
static void lookup_done(pw_root_t *root, uint32_t token, sl_str_t data) {
    pw_vm_t *vm = root->vm;
    pw_worker_t *worker = vm->worker;
    pw_call_t *call = find_lookup(root, token);
    if (call == NULL) { /* it went while its answer waited for the instance */
        worker->stats.calls_dropped++;
        return;
    }
    uint32_t ctx_id = call->ctx != NULL ? call->ctx->node.id : 0;
    bool foreign = call->foreign;
    pw_root_ref(root);
    pw_call_free(call);
    if (foreign) {
        tell_foreign(root, ctx_id, data);
    } else {
        tell(root, &root->ctx, PW_CB_RESOLVE_DNS, token, data);
    }
    pw_root_unref(root);
    pw_worker_settle(worker);
}

static void lookup_done_event(pw_root_t *root, const pw_event_data_t *e) {
    lookup_done(root, e->token, e->data);
}

void pw_resolve_done(pw_root_t *root, uint32_t token, const pw_address_t *addrs, size_t n) {
    pw_call_t *call = find_lookup(root, token);
    sl_buf_t bytes;
    if (call == NULL) {
        root->vm->worker->stats.calls_dropped++;
        return;
    }
    sl_buf_init(&bytes, PW_RESOLVE_BYTES_MAX);
    if (call->foreign) {
        put_foreign(&bytes, sl_buf_str(&call->message), addrs, n);
    } else {
        put_envoy(&bytes, addrs, n);
    }
    call->over = true;
    sl_str_t data = bytes.failed ? SL_STR_NULL : bytes.len != 0 ? sl_buf_str(&bytes) : SL_STR("");
    const pw_event_data_t event = {.token = token, .data = data};
    if (!root->vm->sliced || !pw_slice_data_event(root, lookup_done_event, &event)) {
        lookup_done(root, token, data);
    }
    sl_buf_deinit(&bytes);
}
