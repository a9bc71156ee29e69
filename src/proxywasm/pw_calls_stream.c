/* What a guest asks of its stream: go on, close, answer. */
#include "pw_calls.h"
#include "pw_guest.h"
#include "pw_headers.h"
#include "pw_pairs.h"

#include <stdlib.h>

static uint64_t continue_dir(pw_vm_t *vm, pw_dir_t dir) {
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    if (ctx->stream != NULL) {
        pw_stream_continue(ctx->stream, ctx->position, dir);
        if (pw_ctx_dialect(ctx) == SL_DIALECT_WASMX && dir == PW_DIR_RESPONSE) {
            pw_stream_continue(ctx->stream, ctx->position, PW_DIR_REQUEST);
        }
    }
    return PW_OK;
}

uint64_t pw_call_continue_stream(pw_vm_t *vm, const sl_raw_t *a) {
    switch (a[0].u32) {
    case PW_STREAM_REQUEST:
        return continue_dir(vm, PW_DIR_REQUEST);
    case PW_STREAM_RESPONSE:
        return continue_dir(vm, PW_DIR_RESPONSE);
    case PW_STREAM_DOWNSTREAM:
        return PW_OK;
    case PW_STREAM_UPSTREAM:
        return PW_UNIMPLEMENTED;
    default:
        return PW_BAD_ARGUMENT;
    }
}

uint64_t pw_call_continue_request(pw_vm_t *vm, const sl_raw_t *a) {
    (void)a;
    return continue_dir(vm, PW_DIR_REQUEST);
}

uint64_t pw_call_continue_response(pw_vm_t *vm, const sl_raw_t *a) {
    (void)a;
    return continue_dir(vm, PW_DIR_RESPONSE);
}

uint64_t pw_call_close_stream(pw_vm_t *vm, const sl_raw_t *a) {
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    if (a[0].u32 > PW_STREAM_UPSTREAM) {
        return PW_BAD_ARGUMENT;
    }
    if (ctx->stream != NULL && a[0].u32 <= PW_STREAM_RESPONSE) {
        pw_stream_close(ctx->stream);
    }
    return PW_OK;
}

uint64_t pw_call_clear_route_cache(pw_vm_t *vm, const sl_raw_t *a) {
    (void)a;
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    if (ctx->stream != NULL && !ctx->stream->logging && !ctx->stream->gone && vm->worker->ops->clear_route_cache != NULL) {
        vm->worker->ops->clear_route_cache(ctx->stream->host);
    }
    return PW_OK;
}

/* ---- local replies ---- */

typedef struct {
    uint32_t status;
    sl_str_t details, body, headers;
    uint32_t grpc_status;
} pw_reply_args_t;

static bool fetch(const pw_vm_t *vm, const sl_raw_t *a, pw_reply_args_t *out) {
    out->status = a[0].u32;
    out->grpc_status = a[7].u32;
    if (!pw_guest_in(vm, a[1].u32, a[2].u32, &out->details)) {
        return false;
    }
    out->details.len = out->details.len < PW_DETAILS_MAX ? out->details.len : PW_DETAILS_MAX;
    return pw_guest_in(vm, a[3].u32, a[4].u32, &out->body) && pw_guest_in(vm, a[5].u32, a[6].u32, &out->headers);
}

static bool copy_headers(pw_vm_t *vm, pw_reply_block_t *block, sl_str_t bytes) {
    pw_pair_t *in = vm->worker->pairs[0];
    size_t n = pw_pairs_decode(bytes, in, PW_PAIRS_MAX, NULL);
    pw_pair_t *out = sl_arena_alloc(&block->arena, (n + 1) * sizeof(*out));
    if (out == NULL) {
        return false;
    }
    block->reply.headers = out;
    for (size_t i = 0; i < n; i++) {
        if (!pw_header_fits(in[i].key, in[i].value)) {
            const pw_ctx_t *ctx = pw_vm_ctx(vm);
            pw_log_filter(vm->worker, ctx->stream->gone ? NULL : ctx->stream->host, ctx->root->filter->conf.name, ctx->node.id, PW_LOG_WARN,
                          "a header of a local response was left out: its name or value holds characters that are not allowed");
            continue;
        }
        pw_pair_t *pair = &out[block->reply.n_headers++];
        pair->key = sl_arena_dup(&block->arena, in[i].key);
        pair->value = sl_arena_dup(&block->arena, in[i].value);
        if (pair->key.data == NULL || pair->value.data == NULL) {
            return false;
        }
    }
    return true;
}

static bool copy_texts(pw_vm_t *vm, pw_reply_block_t *block, const pw_reply_args_t *args, sl_dialect_t dialect) {
    bool newline = dialect == SL_DIALECT_WASMX && args->body.len != 0; /* WasmX ends bodies with a line feed */
    char *body = sl_arena_alloc(&block->arena, args->body.len + 1);
    sl_str_t details = sl_arena_dup(&block->arena, args->details);
    if (body == NULL || details.data == NULL) {
        return false;
    }
    if (!pw_vm_copy(vm, body, args->body)) {
        return false;
    }
    body[args->body.len] = '\n';
    block->reply.body = sl_str(body, args->body.len + newline);
    char *d = (char *)details.data;
    for (size_t i = 0; i < details.len; i++) {
        unsigned char c = (unsigned char)d[i];
        bool white = c == ' ' || (c >= '\t' && c <= '\r');
        if ((dialect == SL_DIALECT_ENVOY && white) || c < 0x20 || c == 0x7f) {
            d[i] = '_';
        }
    }
    block->reply.details = details;
    return true;
}

static void reply_free(pw_reply_block_t *block) {
    sl_arena_deinit(&block->arena);
    free(block);
}

static pw_reply_block_t *reply_new(pw_vm_t *vm, const pw_ctx_t *ctx, const pw_reply_args_t *args) {
    sl_dialect_t dialect = pw_ctx_dialect(ctx);
    pw_reply_block_t *block = calloc(1, sizeof(*block));
    if (block == NULL) {
        return NULL;
    }
    sl_arena_init(&block->arena, 1024, SIZE_MAX / 2);
    block->reply.status = args->status;
    block->reply.grpc_status = args->grpc_status <= 16 && dialect == SL_DIALECT_ENVOY ? (int32_t)args->grpc_status : -1;
    block->reply.filter = ctx->root->filter->conf.name;
    block->reply.dialect = dialect;
    if (!copy_headers(vm, block, args->headers) || !copy_texts(vm, block, args, dialect)) {
        reply_free(block);
        return NULL;
    }
    return block;
}

uint64_t pw_call_send_local_response(pw_vm_t *vm, const sl_raw_t *a) {
    pw_ctx_t *ctx = pw_vm_ctx(vm);
    pw_reply_args_t args;
    if (!fetch(vm, a, &args)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    pw_stream_t *s = ctx->stream;
    if (s == NULL || s->logging) {
        return s == NULL ? PW_OK : pw_vm_misuse(vm, PW_OK, "response already sent");
    }
    if (!pw_status_fits(args.status) || pw_pairs_too_large(args.headers)) {
        return PW_BAD_ARGUMENT;
    }
    if (s->reply_new) {
        return pw_vm_misuse(vm, PW_OK, "local response already stashed"); /* the first one wins */
    }
    if (s->flow[PW_DIR_RESPONSE].released && pw_ctx_dialect(ctx) == SL_DIALECT_WASMX) {
        return pw_vm_trap(vm, "host trap (bad usage): response already sent");
    }
    if (s->flow[PW_DIR_RESPONSE].over) {
        return PW_OK;
    }
    pw_reply_block_t *block = reply_new(vm, ctx, &args);
    if (block == NULL) {
        return PW_INTERNAL_FAILURE;
    }
    pw_stream_reply_set(s, block);
    return PW_OK;
}
