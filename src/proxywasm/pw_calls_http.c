/* HTTP calls out. A call belongs to the root context, whoever asked for it; its answer comes as an event of the root. */
#include "pw_calls.h"
#include "pw_guest.h"
#include "pw_headers.h"
#include "pw_pairs.h"
#include "pw_slice.h"

#include <stdlib.h>

/* ---- the calls in flight ---- */

/* 0 is never a token, of no kind. */
static uint32_t next_token(pw_vm_t *vm, pw_call_kind_t kind) {
    do {
        vm->next_token += 4;
    } while (vm->next_token == 0 || pw_id_map_find(&vm->calls, vm->next_token | (kind & 3)) != NULL);
    return vm->next_token | (kind & 3);
}

static bool full(const pw_vm_t *vm, const pw_ctx_t *ctx) {
    return ctx->root->gone || ctx->root->n_calls >= PW_ROOT_CALLS_MAX ||
           (ctx->stream != NULL && ctx->stream->n_calls >= vm->worker->limits.calls_per_stream);
}

pw_call_t *pw_call_new(pw_vm_t *vm, pw_ctx_t *ctx, pw_call_kind_t kind) {
    pw_call_t *call = full(vm, ctx) ? NULL : calloc(1, sizeof(*call));
    if (call == NULL) {
        return NULL;
    }
    call->root = ctx->root;
    call->kind = kind;
    call->node.id = next_token(vm, kind);
    sl_buf_init_under(&call->message, SIZE_MAX / 2, vm->worker->limits.call_bytes);
    if (!pw_id_map_add(&vm->calls, &call->node)) {
        free(call);
        return NULL;
    }
    pw_root_t *root = ctx->root;
    call->next = root->calls;
    call->at = &root->calls;
    if (root->calls != NULL) {
        root->calls->at = &call->next;
    }
    root->calls = call;
    root->n_calls++;
    if (root->pool != NULL) { /* the answer comes to this instance */
        pw_root_ref(root);
    }
    if ((kind == PW_CALL_HTTP || kind == PW_CALL_RESOLVE) && ctx->stream != NULL && !ctx->stream->logging) {
        call->ctx = ctx;
        ctx->n_calls++;
        ctx->stream->n_calls++;
    }
    return call;
}

void pw_call_free(pw_call_t *call) {
    pw_root_t *root = call->root;
    *call->at = call->next;
    if (call->next != NULL) {
        call->next->at = call->at;
    }
    root->n_calls--;
    if (call->ctx != NULL) {
        call->ctx->n_calls--;
        call->ctx->stream->n_calls--;
    }
    pw_id_map_remove(&root->vm->calls, &call->node);
    sl_buf_deinit(&call->message);
    free(call);
    if (root->pool != NULL) {
        pw_root_unref(root);
    }
}

void pw_root_cancel_grpc_streams(pw_root_t *root) {
    const pw_worker_t *w = root->vm->worker;
    for (pw_call_t *call = root->calls, *next; call != NULL; call = next) {
        next = call->next;
        if (call->kind == PW_CALL_GRPC_STREAM) {
            if (!call->over) {
                w->ops->grpc_cancel(w->host, call->handle);
            }
            pw_call_free(call);
        }
    }
}

static void cancel(const pw_worker_t *w, const pw_call_t *call) {
    if (call->over) {
        return; /* the proxy does not know it any more */
    }
    switch (call->kind) {
    case PW_CALL_HTTP:
        if (!call->cancelled) {
            w->ops->http_call_cancel(w->host, call->handle);
        }
        break;
    case PW_CALL_GRPC:
    case PW_CALL_GRPC_STREAM:
        w->ops->grpc_cancel(w->host, call->handle);
        break;
    case PW_CALL_REDIS:
        w->ops->redis_cancel(w->host, call->handle);
        break;
    case PW_CALL_RESOLVE:
        w->ops->resolve_cancel(w->host, call->handle);
        break;
    }
}

void pw_root_cancel_calls(pw_root_t *root) {
    while (root->calls != NULL) {
        pw_call_t *call = root->calls;
        cancel(root->vm->worker, call);
        pw_call_free(call);
    }
}

/* ---- starting one ---- */

static sl_str_t value_of(const pw_pair_t *pairs, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++) {
        if (sl_str_eq(pairs[i].key, sl_cstr(key))) {
            return pairs[i].value;
        }
    }
    return SL_STR_NULL;
}

/* Decodes a list and lower-cases its names, into `out` and behind what `names` holds (reserved before: nothing moves). */
static size_t decode(sl_str_t bytes, pw_pair_t *out, sl_buf_t *names) {
    size_t n = pw_pairs_decode(bytes, out, PW_PAIRS_MAX, NULL), kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!pw_header_fits(out[i].key, out[i].value)) {
            continue; /* would not be a header on the wire */
        }
        size_t from = names->len;
        sl_buf_append_str(names, out[i].key);
        pw_lower(names->data + from, out[i].key.len);
        out[kept++] = (pw_pair_t){sl_str(names->data + from, out[i].key.len), out[i].value};
    }
    return kept;
}

/* Envoy wants three pseudo headers, WasmX two. */
static uint64_t check_headers(pw_vm_t *vm, const pw_http_call_t *call) {
    bool wasmx = pw_vm_dialect(vm) == SL_DIALECT_WASMX;
    if (value_of(call->headers, call->n_headers, ":method").len == 0) {
        return wasmx ? pw_vm_trap(vm, "host trap (bad usage): dispatch failed: no :method") : PW_BAD_ARGUMENT;
    }
    if (value_of(call->headers, call->n_headers, ":path").len == 0) {
        return wasmx ? pw_vm_trap(vm, "host trap (bad usage): dispatch failed: no :path") : PW_BAD_ARGUMENT;
    }
    return wasmx || value_of(call->headers, call->n_headers, ":authority").len != 0 ? PW_OK : PW_BAD_ARGUMENT;
}

static bool fetch(pw_vm_t *vm, const sl_raw_t *a, pw_http_call_t *call) {
    sl_buf_t *names = &vm->worker->bytes;
    sl_str_t headers, trailers;
    sl_buf_reset(names);
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &call->upstream) || !pw_guest_in(vm, a[2].u32, a[3].u32, &headers) ||
        !pw_guest_in(vm, a[4].u32, a[5].u32, &call->body) || !pw_guest_in(vm, a[6].u32, a[7].u32, &trailers) ||
        !pw_guest_put_u32(vm, a[9].u32, 0)) {
        return false;
    }
    if (sl_buf_reserve(names, 2 * PW_PAIRS_BYTES_MAX) == SL_OK) {
        call->headers = vm->worker->pairs[0];
        call->n_headers = decode(headers, vm->worker->pairs[0], names);
        call->trailers = vm->worker->pairs[1];
        call->n_trailers = decode(trailers, vm->worker->pairs[1], names);
    }
    call->timeout_ms = a[8].u32;
    return true;
}

/* WasmX traps where a call names no place that could be asked. */
static __attribute__((noinline, cold)) uint64_t no_such_place(pw_vm_t *vm, sl_str_t upstream, sl_status_t rc) {
    if (rc == SL_NOT_FOUND || pw_vm_dialect(vm) != SL_DIALECT_WASMX) {
        return PW_BAD_ARGUMENT;
    }
    const char *why = upstream.len == 0                          ? "no host"
                      : sl_str_starts(upstream, SL_STR("unix:")) ? "no path in the unix domain socket"
                      : memchr(upstream.data, ':', upstream.len) ? "invalid port"
                                                                 : "invalid host";
    return pw_vm_trap(vm, "host trap (bad usage): dispatch failed: tcp socket - %s", why);
}

static uint64_t start(pw_vm_t *vm, pw_ctx_t *ctx, pw_http_call_t *request, uint32_t *token) {
    pw_worker_t *w = vm->worker;
    if (vm->quiet) { /* has been made, and is answered elsewhere */
        *token = next_token(vm, PW_CALL_HTTP);
        return PW_OK;
    }
    pw_call_t *call = w->ops->http_call != NULL ? pw_call_new(vm, ctx, PW_CALL_HTTP) : NULL;
    if (call == NULL) {
        return PW_INTERNAL_FAILURE;
    }
    request->root = ctx->root;
    request->token = call->node.id;
    void *host_stream = call->ctx != NULL && !ctx->stream->gone ? ctx->stream->host : NULL;
    sl_status_t rc = w->ops->http_call(w->host, host_stream, request, &call->handle);
    if (rc != SL_OK) {
        pw_call_free(call);
        return rc == SL_NOT_FOUND || rc == SL_INVALID ? no_such_place(vm, request->upstream, rc) : PW_INTERNAL_FAILURE;
    }
    w->stats.calls_started++;
    *token = call->node.id;
    return PW_OK;
}

/* WasmX makes calls while the request comes, on ticks and from answers. */
static bool in_window(const pw_vm_t *vm) {
    uint32_t allowed = PW_CB_BIT(PW_CB_REQUEST_HEADERS) | PW_CB_BIT(PW_CB_REQUEST_BODY) | PW_CB_BIT(PW_CB_TICK) |
                       PW_CB_BIT(PW_CB_QUEUE_READY) | PW_CB_BIT(PW_CB_HTTP_CALL_RESPONSE) | PW_CB_BIT(PW_CB_FOREIGN_FUNCTION);
    return pw_vm_dialect(vm) != SL_DIALECT_WASMX || (PW_CB_BIT(vm->running) & allowed) != 0;
}

uint64_t pw_call_http_call(pw_vm_t *vm, const sl_raw_t *a) {
    pw_ctx_t *ctx = pw_vm_ctx(vm);
    pw_http_call_t request = {0};
    uint32_t token = 0;
    if (!in_window(vm)) {
        return pw_vm_trap(vm, "host trap (bad usage): can only send HTTP dispatch during \"on_request_headers\", \"on_request_body\", "
                              "\"on_tick\", \"on_dispatch_response\", \"on_foreign_function\"");
    }
    if (!fetch(vm, a, &request)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (request.upstream.len > PW_UPSTREAM_MAX || !pw_granted(vm, PW_G_HTTP_CALL, request.upstream)) {
        return PW_BAD_ARGUMENT; /* as an unknown one */
    }
    uint64_t rc = a[8].i32 < 0 ? (uint64_t)PW_BAD_ARGUMENT : check_headers(vm, &request);
    if (rc != PW_OK || vm->trapped) {
        return rc;
    }
    rc = start(vm, ctx, &request, &token);
    pw_guest_put_u32(vm, a[9].u32, token);
    return rc;
}

/* ---- its answer ---- */

void pw_call_resume_waiting(pw_root_t *root, uint32_t ctx_id) {
    const pw_ctx_t *ctx = (const pw_ctx_t *)pw_id_map_find(&root->vm->contexts, ctx_id);
    bool wasmx = root->filter->conf.opts.dialect == SL_DIALECT_WASMX;
    if (wasmx && ctx != NULL && ctx->stream != NULL && ctx->n_calls == 0) {
        pw_stream_continue(ctx->stream, ctx->position, PW_DIR_REQUEST);
    }
}

static void tell(pw_root_t *root, uint32_t token, const pw_call_response_t *response) {
    const pw_call_response_t none = {.failed = true, .failure = response->failure != NULL ? response->failure : "internal failure"};
    root->response = response->failed ? &none : response;
    if (response->failed) {
        root->status = PW_BROKEN_CONNECTION;
        root->status_message = SL_STR("reset");
    }
    size_t body = root->response->body.len;
    sl_raw_t args[5] = {{.u32 = root->ctx.node.id},
                        {.u32 = token},
                        {.u32 = (uint32_t)root->response->n_headers},
                        {.u32 = body > UINT32_MAX ? UINT32_MAX : (uint32_t)body},
                        {.u32 = (uint32_t)root->response->n_trailers}};
    pw_vm_call(root->vm, &root->ctx, PW_CB_HTTP_CALL_RESPONSE, args, NULL);
    root->response = NULL;
    root->status_message = SL_STR("");
}

static void call_done(pw_root_t *root, uint32_t token, const pw_call_response_t *response) {
    pw_vm_t *vm = root->vm;
    pw_worker_t *worker = vm->worker;
    pw_call_t *call = (pw_call_t *)pw_id_map_find(&vm->calls, token);
    if (call == NULL || call->root != root || call->kind != PW_CALL_HTTP) {
        worker->stats.calls_dropped++;
        return;
    }
    uint32_t ctx_id = call->ctx != NULL ? call->ctx->node.id : 0;
    pw_root_ref(root);
    pw_call_free(call);
    if (!vm->failed && pw_vm_has(vm, PW_CB_HTTP_CALL_RESPONSE)) {
        tell(root, token, response);
    }
    if (ctx_id != 0 && !vm->failed) {
        pw_call_resume_waiting(root, ctx_id);
    }
    pw_root_unref(root);
    pw_worker_settle(worker);
}

static void call_done_event(pw_root_t *root, const pw_event_data_t *e) {
    pw_call_response_t response = {
        .failed = e->failed,
        .failure = e->text.data,
        .headers = e->pairs[0],
        .n_headers = e->n_pairs[0],
        .body = e->data,
        .trailers = e->pairs[1],
        .n_trailers = e->n_pairs[1],
    };
    call_done(root, e->token, &response);
}

void pw_http_call_done(pw_root_t *root, uint32_t token, const pw_call_response_t *response) {
    if (!root->vm->sliced) {
        call_done(root, token, response);
        return;
    }
    pw_event_data_t e = {
        .token = token,
        .failed = response->failed,
        .text = response->failure != NULL ? sl_str(response->failure, strlen(response->failure) + 1) : SL_STR_NULL,
        .data = response->body,
        .pairs = {response->headers, response->trailers},
        .n_pairs = {response->n_headers, response->n_trailers},
    };
    pw_call_t *call = (pw_call_t *)pw_id_map_find(&root->vm->calls, token);
    if (call != NULL && call->root == root) {
        call->over = true;
    }
    if (!pw_slice_data_event(root, call_done_event, &e)) {
        call_done(root, token, response);
    }
}
