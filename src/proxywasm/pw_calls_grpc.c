/* gRPC calls out, unary ones and streams. Like HTTP calls they belong to the root context, whoever asked for them. */
#include "pw_calls.h"
#include "pw_grpc_target.h"
#include "pw_guest.h"
#include "pw_headers.h"
#include "pw_pairs.h"
#include "pw_slice.h"

/* ---- metadata on its way out ---- */

static size_t base64_size(size_t len) {
    return (len + 2) / 3 * 4;
}

static void put_base64(sl_buf_t *out, sl_str_t bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = (const uint8_t *)bytes.data;
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t have = bytes.len - i;
        uint32_t v = (uint32_t)p[i] << 16 | (have > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (have > 2 ? p[i + 2] : 0);
        char text[4] = {digits[v >> 18], digits[v >> 12 & 63], have > 1 ? digits[v >> 6 & 63] : '=', have > 2 ? digits[v & 63] : '='};
        sl_buf_append(out, text, 4);
    }
}

/* Written for Envoy, which sends values as they are, a guest has encoded them itself. */
static bool is_base64(sl_str_t s) {
    size_t n = s.len;
    if (n % 4 != 0) {
        return false;
    }
    for (int pad = 0; pad < 2 && n != 0 && s.data[n - 1] == '='; pad++) {
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        char c = s.data[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/')) {
            return false;
        }
    }
    return true;
}

/* Adds what of `pairs` can be metadata to out[*n], up to PW_PAIRS_MAX; `scratch` has been reserved. */
static void put_metadata(const pw_pair_t *pairs, size_t n_pairs, pw_pair_t *out, size_t *n, sl_buf_t *scratch) {
    for (size_t i = 0; i < n_pairs && *n < PW_PAIRS_MAX; i++) {
        sl_str_t key = pairs[i].key, value = pairs[i].value;
        size_t from = scratch->len;
        if (!pw_header_name_fits(key) || key.data[0] == ':') {
            continue;
        }
        sl_buf_append_str(scratch, key);
        pw_lower(scratch->data + from, key.len);
        key = sl_str(scratch->data + from, key.len);
        if (sl_str_ends(key, SL_STR("-bin")) && !is_base64(value)) {
            from = scratch->len;
            put_base64(scratch, value);
            value = sl_str(scratch->data + from, scratch->len - from);
        }
        if (pw_header_value_fits(value)) {
            out[(*n)++] = (pw_pair_t){key, value};
        }
    }
}

/* The service's metadata first, then the guest's. Both borrow from guest memory and the worker's scratch. */
static sl_status_t make_metadata(pw_worker_t *w, const pw_grpc_target_t *target, sl_str_t encoded, pw_grpc_call_t *call) {
    sl_buf_t *scratch = &w->bytes;
    size_t n = pw_pairs_decode(encoded, w->pairs[1], PW_PAIRS_MAX, NULL);
    size_t most = base64_size(encoded.len) + 4 * n;
    for (size_t i = 0; i < target->n_metadata; i++) {
        most += target->metadata[i].key.len + base64_size(target->metadata[i].value.len);
    }
    sl_buf_reset(scratch);
    if (sl_buf_reserve(scratch, most) != SL_OK) { /* at once, so that nothing moves */
        return SL_NO_MEMORY;
    }
    put_metadata(target->metadata, target->n_metadata, w->pairs[0], &call->n_metadata, scratch);
    put_metadata(w->pairs[1], n, w->pairs[0], &call->n_metadata, scratch);
    call->metadata = w->pairs[0];
    return SL_OK;
}

/* ---- starting ---- */

static uint64_t refusal(sl_status_t rc) {
    return rc == SL_NOT_FOUND ? PW_PARSE_FAILURE : PW_INTERNAL_FAILURE;
}

static uint64_t start(pw_vm_t *vm, pw_call_kind_t kind, sl_str_t upstream, sl_str_t metadata, pw_grpc_call_t *request, uint32_t *token) {
    pw_worker_t *w = vm->worker;
    pw_ctx_t *ctx = pw_vm_ctx(vm);
    pw_grpc_target_t target;
    if (!pw_grpc_target(upstream, &target)) {
        return PW_PARSE_FAILURE;
    }
    if (!pw_granted(vm, PW_G_GRPC_CALL, target.name)) {
        return PW_PARSE_FAILURE; /* as an unknown one */
    }
    if (target.own_credentials) {
        return PW_INTERNAL_FAILURE; /* SDKs take other statuses for an error of the host */
    }
    if (make_metadata(w, &target, metadata, request) != SL_OK) {
        return PW_INTERNAL_FAILURE;
    }
    if (vm->quiet) {
        return PW_INTERNAL_FAILURE;
    }
    pw_call_t *call = w->ops->grpc_open != NULL ? pw_call_new(vm, ctx, kind) : NULL;
    if (call == NULL) {
        return PW_INTERNAL_FAILURE;
    }
    request->root = ctx->root;
    request->token = call->node.id;
    request->upstream = target.name;
    request->tls = target.tls;
    request->authority = target.authority;
    request->unary = kind == PW_CALL_GRPC;
    if (request->unary && request->timeout_ms == 0) {
        request->timeout_ms = target.timeout_ms;
    }
    void *host_stream = ctx->stream != NULL && !ctx->stream->logging && !ctx->stream->gone ? ctx->stream->host : NULL;
    sl_status_t rc = w->ops->grpc_open(w->host, host_stream, request, &call->handle);
    if (rc != SL_OK) {
        pw_call_free(call);
        return refusal(rc);
    }
    w->stats.grpc_started++;
    *token = call->node.id;
    return PW_OK;
}

/* upstream, service, method, metadata: the first eight parameters of both. */
static bool fetch(pw_vm_t *vm, const sl_raw_t *a, pw_grpc_call_t *request, sl_str_t *upstream, sl_str_t *metadata) {
    return pw_guest_in(vm, a[0].u32, a[1].u32, upstream) && pw_guest_in(vm, a[2].u32, a[3].u32, &request->service) &&
           pw_guest_in(vm, a[4].u32, a[5].u32, &request->method) && pw_guest_in(vm, a[6].u32, a[7].u32, metadata);
}

uint64_t pw_call_grpc_call(pw_vm_t *vm, const sl_raw_t *a) {
    pw_grpc_call_t request = {0};
    sl_str_t upstream, metadata;
    uint32_t token = 0;
    if (!fetch(vm, a, &request, &upstream, &metadata) || !pw_guest_in(vm, a[8].u32, a[9].u32, &request.message) ||
        !pw_guest_put_u32(vm, a[11].u32, 0)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    request.timeout_ms = a[10].u32;
    uint64_t rc = start(vm, PW_CALL_GRPC, upstream, metadata, &request, &token);
    pw_guest_put_u32(vm, a[11].u32, token);
    return rc;
}

uint64_t pw_call_grpc_stream(pw_vm_t *vm, const sl_raw_t *a) {
    pw_grpc_call_t request = {0};
    sl_str_t upstream, metadata;
    uint32_t token = 0;
    if (!fetch(vm, a, &request, &upstream, &metadata) || !pw_guest_put_u32(vm, a[8].u32, 0)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    uint64_t rc = start(vm, PW_CALL_GRPC_STREAM, upstream, metadata, &request, &token);
    pw_guest_put_u32(vm, a[8].u32, token);
    return rc;
}

/* ---- going on ---- */

static pw_call_t *find_call(pw_root_t *root, uint32_t token) {
    pw_call_t *call = (pw_call_t *)pw_id_map_find(&root->vm->calls, token);
    return call != NULL && call->root == root && (call->kind == PW_CALL_GRPC || call->kind == PW_CALL_GRPC_STREAM) ? call : NULL;
}

static bool is_grpc_token(uint32_t token) {
    return (token & 3) == PW_CALL_GRPC || (token & 3) == PW_CALL_GRPC_STREAM;
}

/* A stream that the peer has closed lives on until the guest closes it, too. */
static bool forget_remote_closed(pw_root_t *root, uint32_t token) {
    for (size_t i = 0; i < PW_REMOTE_CLOSED_MAX; i++) {
        if (root->remote_closed[i] == token) {
            root->remote_closed[i] = 0;
            return true;
        }
    }
    return false;
}

uint64_t pw_call_grpc_send(pw_vm_t *vm, const sl_raw_t *a) {
    const pw_worker_t *w = vm->worker;
    sl_str_t message;
    if ((a[0].u32 & 3) != PW_CALL_GRPC_STREAM) {
        return PW_BAD_ARGUMENT;
    }
    if (!pw_guest_in(vm, a[1].u32, a[2].u32, &message)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    pw_call_t *call = find_call(pw_vm_ctx(vm)->root, a[0].u32);
    if (call == NULL) {
        return PW_NOT_FOUND;
    }
    if (call->local_closed) {
        return PW_BAD_ARGUMENT;
    }
    /* Whoever has ended the stream meanwhile, the guest cannot know it yet: nothing that it does now is its mistake. */
    sl_status_t rc = call->over ? SL_OK : w->ops->grpc_send(w->host, call->handle, message);
    if (rc != SL_OK && rc != SL_AGAIN) {
        return PW_BAD_ARGUMENT;
    }
    if (a[3].u32 != 0) {
        call->local_closed = true;
        if (!call->over) {
            w->ops->grpc_finish(w->host, call->handle);
        }
    }
    return PW_OK;
}

static uint64_t cancel(pw_vm_t *vm, uint32_t token) {
    const pw_worker_t *w = vm->worker;
    pw_root_t *root = pw_vm_ctx(vm)->root;
    pw_call_t *call = find_call(root, token);
    if (call == NULL) {
        return forget_remote_closed(root, token) ? PW_OK : PW_NOT_FOUND;
    }
    if (!call->over) {
        w->ops->grpc_cancel(w->host, call->handle);
    }
    pw_call_free(call);
    return PW_OK;
}

uint64_t pw_call_grpc_cancel(pw_vm_t *vm, const sl_raw_t *a) {
    return is_grpc_token(a[0].u32) ? cancel(vm, a[0].u32) : (uint64_t)PW_BAD_ARGUMENT;
}

/* Of a unary call: its cancellation. */
uint64_t pw_call_grpc_close(pw_vm_t *vm, const sl_raw_t *a) {
    const pw_worker_t *w = vm->worker;
    if (!is_grpc_token(a[0].u32)) {
        return PW_BAD_ARGUMENT;
    }
    pw_call_t *call = find_call(pw_vm_ctx(vm)->root, a[0].u32);
    if (call == NULL || call->kind == PW_CALL_GRPC) {
        return cancel(vm, a[0].u32);
    }
    if (!call->local_closed) {
        call->local_closed = true;
        if (!call->over) {
            w->ops->grpc_finish(w->host, call->handle);
        }
    }
    return PW_OK;
}

/* ---- events ---- */

static pw_call_t *event_call(pw_root_t *root, uint32_t token) {
    pw_call_t *call = find_call(root, token);
    if (call == NULL) {
        root->vm->worker->stats.calls_dropped++;
    }
    return call;
}

static void call_guest(pw_root_t *root, pw_cb_t cb, uint32_t token, uint32_t arg) {
    pw_worker_t *worker = root->vm->worker;
    sl_raw_t args[3] = {{.u32 = root->ctx.node.id}, {.u32 = token}, {.u32 = arg}};
    pw_root_ref(root);
    if (!root->vm->failed && pw_vm_has(root->vm, cb)) {
        pw_vm_call(root->vm, &root->ctx, cb, args, NULL);
    }
    root->grpc_map = 0;
    root->grpc_pairs = NULL;
    root->n_grpc_pairs = 0;
    root->has_grpc_message = false;
    root->status_message = SL_STR("");
    pw_root_unref(root);
    pw_worker_settle(worker);
}

static void tell_pairs(pw_root_t *root, pw_cb_t cb, pw_map_t map, uint32_t token, const pw_pair_t *pairs, size_t n) {
    root->grpc_map = map;
    root->grpc_pairs = pairs;
    root->n_grpc_pairs = n;
    call_guest(root, cb, token, (uint32_t)n);
}

static void tell_message(pw_root_t *root, uint32_t token, sl_str_t message) {
    root->has_grpc_message = true;
    root->grpc_message = message;
    call_guest(root, PW_CB_GRPC_RECEIVE, token, message.len > UINT32_MAX ? UINT32_MAX : (uint32_t)message.len);
}

static void tell_closed(pw_root_t *root, uint32_t token, uint32_t status, sl_str_t text) {
    root->status = status;
    root->status_message = text;
    call_guest(root, PW_CB_GRPC_CLOSE, token, status);
}

static void initial_metadata(pw_root_t *root, const pw_event_data_t *e) {
    uint32_t token = e->token;
    const pw_call_t *call = event_call(root, token);
    if (call != NULL && call->kind == PW_CALL_GRPC_STREAM) {
        tell_pairs(root, PW_CB_GRPC_INITIAL_METADATA, PW_MAP_GRPC_INITIAL_METADATA, token, e->pairs[0], e->n_pairs[0]);
    }
}

/* The message of a unary call waits for its status, of which the guest hears only when it is bad. */
static void message_came(pw_root_t *root, const pw_event_data_t *e) {
    uint32_t token = e->token;
    sl_str_t message = e->data;
    pw_call_t *call = event_call(root, token);
    if (call == NULL) {
        return;
    }
    if (call->kind == PW_CALL_GRPC_STREAM) {
        tell_message(root, token, message);
        return;
    }
    sl_buf_reset(&call->message);
    call->has_message = sl_buf_append_str(&call->message, message) == SL_OK;
}

static void trailing_metadata(pw_root_t *root, const pw_event_data_t *e) {
    uint32_t token = e->token;
    pw_call_t *call = event_call(root, token);
    if (call != NULL && call->kind == PW_CALL_GRPC_STREAM && !call->trailers_told) {
        call->trailers_told = true;
        tell_pairs(root, PW_CB_GRPC_TRAILING_METADATA, PW_MAP_GRPC_TRAILING_METADATA, token, e->pairs[0], e->n_pairs[0]);
    }
}

static void unary_closed(pw_root_t *root, pw_call_t *call, uint32_t status, sl_str_t text) {
    uint32_t token = call->node.id;
    sl_buf_t message = call->message;
    bool has_message = call->has_message;
    sl_buf_init(&call->message, 0);
    pw_call_free(call);
    if (status == 0 && !has_message) {
        status = message.failed ? 8 : 13; /* RESOURCE_EXHAUSTED, INTERNAL */
        text = message.failed ? SL_STR("there is no room for the message") : SL_STR("the answer has no message");
    }
    if (status == 0) {
        tell_message(root, token, message.len != 0 ? sl_buf_str(&message) : SL_STR(""));
    } else {
        root->vm->worker->stats.grpc_failed++;
        tell_closed(root, token, status, text);
    }
    sl_buf_deinit(&message);
}

static void stream_closed(pw_root_t *root, pw_call_t *call, uint32_t status, sl_str_t text) {
    uint32_t token = call->node.id;
    if (!call->local_closed) {
        root->remote_closed[root->next_remote_closed++ % PW_REMOTE_CLOSED_MAX] = token;
    }
    root->vm->worker->stats.grpc_failed += status != 0;
    pw_call_free(call);
    tell_closed(root, token, status, text);
}

static void closed(pw_root_t *root, const pw_event_data_t *e) {
    uint32_t token = e->token;
    pw_call_t *call = event_call(root, token);
    if (call == NULL) {
        return;
    }
    pw_root_ref(root);
    pw_worker_t *worker = root->vm->worker;
    if (call->kind == PW_CALL_GRPC_STREAM && !call->trailers_told) {
        /* As Envoy does: an end without trailers has trailers without entries. */
        trailing_metadata(root, &(pw_event_data_t){.token = token});
        call = find_call(root, token); /* the guest may have cancelled it */
    }
    if (call != NULL && call->kind == PW_CALL_GRPC_STREAM) {
        stream_closed(root, call, e->status, e->text);
    } else if (call != NULL) {
        unary_closed(root, call, e->status, e->text);
    }
    pw_root_unref(root);
    pw_worker_settle(worker);
}

static void event(pw_root_t *root, pw_event_data_fn fn, const pw_event_data_t *e) {
    if (!root->vm->sliced || !pw_slice_data_event(root, fn, e)) {
        fn(root, e);
    }
}

void pw_grpc_initial_metadata(pw_root_t *root, uint32_t token, const pw_pair_t *pairs, size_t n) {
    event(root, initial_metadata, &(pw_event_data_t){.token = token, .pairs = {pairs}, .n_pairs = {n}});
}

void pw_grpc_message(pw_root_t *root, uint32_t token, sl_str_t message) {
    event(root, message_came, &(pw_event_data_t){.token = token, .data = message});
}

void pw_grpc_trailing_metadata(pw_root_t *root, uint32_t token, const pw_pair_t *pairs, size_t n) {
    event(root, trailing_metadata, &(pw_event_data_t){.token = token, .pairs = {pairs}, .n_pairs = {n}});
}

void pw_grpc_closed(pw_root_t *root, uint32_t token, uint32_t status, sl_str_t text) {
    pw_call_t *call = find_call(root, token);
    if (call != NULL) {
        call->over = true;
    }
    event(root, closed, &(pw_event_data_t){.token = token, .status = status, .text = text});
}
