/* Foreign functions: named extensions, one row each. */
#include "pw_calls.h"
#include "pw_guest.h"

/* `out` is empty and bounded; what it holds afterwards goes to the guest. */
typedef pw_result_t (*pw_foreign_fn_t)(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out);

static pw_result_t clear_route_cache(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)ctx;
    (void)args;
    (void)out;
    return (pw_result_t)pw_call_clear_route_cache(vm, NULL);
}

static pw_result_t get_log_level(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)args;
    void *host_stream = ctx->stream != NULL && !ctx->stream->gone ? ctx->stream->host : NULL;
    uint32_t level = vm->worker->ops->log_level(vm->worker->host, host_stream);
    char bytes[4] = {(char)level, 0, 0, 0};
    return sl_buf_append(out, bytes, sizeof(bytes)) == SL_OK ? PW_OK : PW_INTERNAL_FAILURE;
}

static const struct {
    const char *name;
    pw_foreign_fn_t fn;
} functions[] = {
    {"clear_route_cache", clear_route_cache}, {"get_log_level", get_log_level}, /* Higress */
};

static pw_foreign_fn_t find(sl_str_t name) {
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (sl_str_eq(sl_cstr(functions[i].name), name)) {
            return functions[i].fn;
        }
    }
    return NULL;
}

/* Result pointers may each be 0: the caller does not want that part, and nothing is allocated then. */
static pw_result_t give(pw_vm_t *vm, uint32_t ptr_ptr, uint32_t size_ptr, sl_str_t bytes) {
    if (ptr_ptr != 0 && size_ptr != 0) {
        return pw_guest_give(vm, ptr_ptr, size_ptr, bytes);
    }
    if (size_ptr != 0 && !pw_guest_put_u32(vm, size_ptr, (uint32_t)bytes.len)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (ptr_ptr != 0 && !pw_guest_put_u32(vm, ptr_ptr, 0)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    return PW_OK;
}

uint64_t pw_call_call_foreign_function(pw_vm_t *vm, const sl_raw_t *a) {
    sl_str_t name, args;
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &name) || !pw_guest_in(vm, a[2].u32, a[3].u32, &args)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (!pw_granted(vm, PW_G_FOREIGN, name)) {
        return PW_NOT_FOUND;
    }
    pw_foreign_fn_t fn = find(name);
    if (fn == NULL) {
        return pw_vm_misuse(vm, PW_NOT_FOUND, "unknown foreign function");
    }
    sl_buf_t *out = &vm->worker->value;
    sl_buf_reset(out);
    pw_result_t rc = fn(vm, pw_vm_ctx(vm), args, out);
    pw_result_t given = give(vm, a[4].u32, a[5].u32, rc == PW_OK ? sl_buf_str(out) : SL_STR_NULL);
    return rc != PW_OK ? rc : given;
}
