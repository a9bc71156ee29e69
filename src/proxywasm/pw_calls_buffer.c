/* Buffers: bodies, answers of calls out, configuration. */
#include "pw_calls.h"
#include "pw_guest.h"

/* What a buffer is made of: pieces, read in order. */
typedef struct {
    const sl_str_t *segs;
    size_t n;
    size_t len;
    sl_str_t one;
} pw_bytes_t;

static void from_str(pw_bytes_t *b, sl_str_t s) {
    b->one = s;
    b->segs = &b->one;
    b->n = 1;
    b->len = s.len;
}

static void from_stage(pw_bytes_t *b, const pw_stage_t *st) {
    if (!pw_stage_visible(st)) {
        from_str(b, SL_STR_NULL);
    } else if (st->owned) {
        from_str(b, sl_buf_str(&st->buf));
    } else {
        b->segs = st->view;
        b->n = st->n_view;
        b->len = st->view_len;
    }
}

/* WasmX's filters may look at the request's body from the log. */
static pw_result_t past_body(const pw_vm_t *vm, const pw_ctx_t *ctx, pw_bytes_t *b) {
    pw_worker_t *w = vm->worker;
    if (w->ops->past_body == NULL || ctx->stream->gone) {
        return PW_NOT_FOUND;
    }
    sl_buf_reset(&w->bytes);
    if (w->ops->past_body(ctx->stream->host, &w->bytes) != SL_OK) {
        return PW_NOT_FOUND;
    }
    from_str(b, sl_buf_str(&w->bytes));
    return PW_OK;
}

static pw_result_t find(const pw_vm_t *vm, uint32_t type, pw_bytes_t *b) {
    pw_ctx_t *ctx = pw_vm_ctx(vm);
    const pw_root_t *root = ctx->root;
    const pw_stage_t *st;
    *b = (pw_bytes_t){0};
    switch (type) {
    case PW_BUFFER_REQUEST_BODY:
    case PW_BUFFER_RESPONSE_BODY:
        st = pw_stream_stage(ctx, type == PW_BUFFER_REQUEST_BODY ? PW_DIR_REQUEST : PW_DIR_RESPONSE);
        if (st == NULL) {
            return PW_NOT_FOUND;
        }
        if (__builtin_expect(vm->running == PW_CB_LOG, 0) && type == PW_BUFFER_REQUEST_BODY && pw_vm_dialect(vm) == SL_DIALECT_WASMX) {
            return past_body(vm, ctx, b);
        }
        from_stage(b, st);
        return PW_OK;
    case PW_BUFFER_CALL_RESPONSE_BODY:
        if (root->response == NULL || root->response->failed) {
            return PW_NOT_FOUND;
        }
        from_str(b, root->response->body);
        return PW_OK;
    case PW_BUFFER_GRPC_RECEIVE:
        if (!root->has_grpc_message) {
            return PW_NOT_FOUND;
        }
        from_str(b, root->grpc_message);
        return PW_OK;
    case PW_BUFFER_VM_CONFIGURATION:
        from_str(b, vm->config);
        return PW_OK;
    case PW_BUFFER_PLUGIN_CONFIGURATION:
        from_str(b, root->filter->conf.config);
        return PW_OK;
    case PW_BUFFER_CALL_DATA:
        if (root->foreign_data.data == NULL) {
            return PW_NOT_FOUND;
        }
        from_str(b, root->foreign_data);
        return PW_OK;
    case PW_BUFFER_REDIS_RESPONSE:
        if (!root->has_redis_response) {
            return PW_NOT_FOUND;
        }
        from_str(b, root->redis_response);
        return PW_OK;
    case PW_BUFFER_DOWNSTREAM_DATA:
    case PW_BUFFER_UPSTREAM_DATA:
        return PW_NOT_FOUND;
    default:
        return PW_BAD_ARGUMENT;
    }
}

static void copy_range(const pw_bytes_t *b, size_t off, size_t len, char *at) {
    for (size_t i = 0; i < b->n && len != 0; i++) {
        size_t size = b->segs[i].len;
        if (off >= size) {
            off -= size;
            continue;
        }
        size_t part = len < size - off ? len : size - off;
        memcpy(at, b->segs[i].data + off, part);
        at += part;
        len -= part;
        off = 0;
    }
}

/* WasmX shows bodies in some callbacks only. Answers of calls may be looked at from the one that has them, and from the log. */
static bool in_window(const pw_vm_t *vm, uint32_t type) {
    uint32_t now = PW_CB_BIT(vm->running), call = PW_CB_BIT(PW_CB_HTTP_CALL_RESPONSE), log = PW_CB_BIT(PW_CB_LOG);
    switch (type) {
    case PW_BUFFER_REQUEST_BODY:
        return (now & (PW_CB_BIT(PW_CB_REQUEST_HEADERS) | PW_CB_BIT(PW_CB_REQUEST_BODY) | call | log)) != 0;
    case PW_BUFFER_RESPONSE_BODY:
        return (now & (PW_CB_BIT(PW_CB_RESPONSE_BODY) | call)) != 0;
    case PW_BUFFER_CALL_RESPONSE_BODY:
        return (now & (call | log)) != 0;
    default:
        return true;
    }
}

static bool misused(pw_vm_t *vm, uint32_t type) {
    if (pw_vm_dialect(vm) != SL_DIALECT_WASMX || in_window(vm, type)) {
        return false;
    }
    (void)pw_vm_trap(vm, "host trap (bad usage): can only get or set %s body during its callback",
                     type == PW_BUFFER_REQUEST_BODY    ? "request"
                     : type == PW_BUFFER_RESPONSE_BODY ? "response"
                                                       : "dispatch response");
    return true;
}

uint64_t pw_call_get_buffer_bytes(pw_vm_t *vm, const sl_raw_t *a) {
    pw_bytes_t b;
    char *at;
    if (misused(vm, a[0].u32)) {
        return PW_NOT_FOUND;
    }
    if (a[0].u32 <= PW_BUFFER_RESPONSE_BODY && !pw_granted(vm, PW_G_BODY, SL_STR_NULL)) {
        return PW_NOT_FOUND;
    }
    pw_result_t rc = find(vm, a[0].u32, &b);
    if (rc != PW_OK) {
        return rc;
    }
    size_t start = a[1].u32 < b.len ? a[1].u32 : b.len;
    size_t len = a[2].u32 < b.len - start ? a[2].u32 : b.len - start;
    rc = pw_guest_reserve(vm, a[3].u32, a[4].u32, len, &at);
    if (rc == PW_OK) {
        copy_range(&b, start, len, at);
    }
    return rc;
}

uint64_t pw_call_get_buffer_status(pw_vm_t *vm, const sl_raw_t *a) {
    pw_bytes_t b;
    pw_result_t rc = find(vm, a[0].u32, &b);
    if (rc != PW_OK) {
        return rc;
    }
    if (!pw_guest_ok(vm, a[1].u32, 4) || !pw_guest_ok(vm, a[2].u32, 4)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    pw_guest_put_u32(vm, a[1].u32, b.len > UINT32_MAX ? UINT32_MAX : (uint32_t)b.len);
    pw_guest_put_u32(vm, a[2].u32, 0);
    return PW_OK;
}

/* WasmX replaces everything from the offset on, but for (0, 0), which prepends, or clears when there is no data. */
static void wasmx_range(size_t off, size_t *cut, size_t data_len) {
    if (off != 0 || *cut != 0 || data_len == 0) {
        *cut = SIZE_MAX;
    }
}

/* There is no body to edit: a message that came without one may get one. */
static pw_result_t make(pw_ctx_t *ctx, pw_dir_t dir, pw_stage_t *st, sl_str_t data) {
    if (!pw_stage_may_make(ctx, dir) || data.len > ctx->stream->flow[dir].limit) {
        return PW_BAD_ARGUMENT;
    }
    if (data.len == 0 && st->headers_eos) {
        return PW_OK;
    }
    return pw_stage_make(ctx->stream, dir, st, data) == SL_OK ? PW_OK : PW_INTERNAL_FAILURE;
}

static pw_result_t edit(pw_ctx_t *ctx, pw_dir_t dir, size_t off, size_t cut, sl_str_t data) {
    pw_stage_t *st = pw_stream_stage(ctx, dir);
    if (st == NULL) {
        return PW_NOT_FOUND;
    }
    if (!pw_stage_visible(st)) {
        return make(ctx, dir, st, data);
    }
    if (pw_ctx_dialect(ctx) == SL_DIALECT_WASMX) {
        wasmx_range(off, &cut, data.len);
    }
    size_t len = pw_stage_len(st);
    off = off < len ? off : len;
    cut = cut < len - off ? cut : len - off;
    size_t limit = ctx->stream->flow[dir].limit;
    size_t max = limit > len ? limit : len; /* a chunk that came in larger may stay so */
    if (data.len > cut && data.len - cut > max - len) {
        return PW_BAD_ARGUMENT;
    }
    if (pw_stage_own(ctx->stream, dir, st) != SL_OK || sl_buf_splice(&st->buf, off, cut, data.data, data.len) != SL_OK) {
        return PW_INTERNAL_FAILURE;
    }
    return PW_OK;
}

uint64_t pw_call_set_buffer_bytes(pw_vm_t *vm, const sl_raw_t *a) {
    pw_bytes_t b;
    sl_str_t data;
    if (misused(vm, a[0].u32)) {
        return PW_BAD_ARGUMENT;
    }
    pw_result_t rc = find(vm, a[0].u32, &b);
    if (rc != PW_OK) {
        return rc;
    }
    if (!pw_guest_in(vm, a[3].u32, a[4].u32, &data)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (a[0].u32 > PW_BUFFER_RESPONSE_BODY) {
        return PW_BAD_ARGUMENT; /* read-only */
    }
    rc = edit(pw_vm_ctx(vm), a[0].u32 == PW_BUFFER_REQUEST_BODY ? PW_DIR_REQUEST : PW_DIR_RESPONSE, a[1].u32, a[2].u32, data);
    return rc == PW_BAD_ARGUMENT ? pw_vm_misuse(vm, rc, "can only set a body in its callback, within the limit of its size") : rc;
}
