/* Foreign functions: the proxy itself, and what filters keep with a stream. */
#include "pw_foreign.h"

#include "pw_calls.h"
#include "pw_proto.h"

pw_result_t pw_foreign_clear_route_cache(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)ctx;
    (void)args;
    (void)out;
    return (pw_result_t)pw_call_clear_route_cache(vm, NULL);
}

pw_result_t pw_foreign_get_log_level(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)args;
    void *host_stream = ctx->stream != NULL && !ctx->stream->gone ? ctx->stream->host : NULL;
    uint32_t level = vm->worker->ops->log_level(vm->worker->host, host_stream);
    char bytes[4] = {(char)level, 0, 0, 0};
    return sl_buf_append(out, bytes, sizeof(bytes)) == SL_OK ? PW_OK : PW_INTERNAL_FAILURE;
}

/* A hint to Envoy's event loop. Ours reads requests in turn anyway: a filter that gives it well is told that all is well. */
pw_result_t pw_foreign_set_requests_per_cycle(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)vm;
    (void)ctx;
    (void)out;
    return args.len == sizeof(uint64_t) ? PW_OK : PW_BAD_ARGUMENT;
}

/* ---- properties ---- */

typedef struct {
    sl_str_t name, value;
    bool read_only;
    uint64_t type, span;
} state_t;

static bool declared_field(const pw_proto_field_t *f, void *ud) {
    state_t *d = ud;
    if (pw_proto_is_bytes(f, 1)) {
        d->name = f->bytes;
    } else if (f->type == PW_PROTO_VARINT && f->number == 2) {
        d->read_only = f->integer != 0;
    } else if (f->type == PW_PROTO_VARINT && f->number == 3) {
        d->type = f->integer;
    } else if (f->type == PW_PROTO_VARINT && f->number == 5) {
        d->span = f->integer;
    }
    return true;
}

pw_result_t pw_foreign_declare_property(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)vm;
    (void)out;
    state_t d = {0};
    if (!pw_proto_each(args, declared_field, &d) || d.name.len == 0 || d.type > 3 || d.span > 2) {
        return PW_BAD_ARGUMENT;
    }
    return pw_property_declare(ctx->root, d.name, d.read_only);
}

static bool state_field(const pw_proto_field_t *f, void *ud) {
    state_t *s = ud;
    if (pw_proto_is_bytes(f, 1)) {
        s->name = f->bytes;
    } else if (pw_proto_is_bytes(f, 2)) {
        s->value = f->bytes;
    } else if (f->type == PW_PROTO_VARINT && f->number == 3) {
        s->span = f->integer;
    }
    return true;
}

/* What is named after Envoy would be something to Envoy's own code, which is not here. */
pw_result_t pw_foreign_set_filter_state(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)out;
    state_t s = {0};
    if (!pw_proto_each(args, state_field, &s) || s.span > 2) {
        return PW_BAD_ARGUMENT;
    }
    if (s.name.len == 0 || sl_str_starts(s.name, SL_STR("envoy.")) || ctx->stream == NULL || ctx->stream->gone) {
        return PW_NOT_FOUND;
    }
    return pw_property_keep_state(vm, ctx->stream, s.name, s.value);
}
