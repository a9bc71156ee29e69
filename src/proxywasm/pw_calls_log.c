/* Log, clock, ticks. */
#include "pw_calls.h"
#include "pw_guest.h"

static void *host_stream(const pw_vm_t *vm) {
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    return ctx != NULL && ctx->stream != NULL && !ctx->stream->gone ? ctx->stream->host : NULL;
}

uint64_t pw_call_log(pw_vm_t *vm, const sl_raw_t *a) {
    sl_str_t text;
    if (a[0].u32 > PW_LOG_CRITICAL) {
        return PW_BAD_ARGUMENT;
    }
    if (!pw_guest_in(vm, a[1].u32, a[2].u32, &text)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    pw_log_guest(vm, pw_vm_ctx(vm), a[0].u32, text);
    return PW_OK;
}

uint64_t pw_call_get_log_level(pw_vm_t *vm, const sl_raw_t *a) {
    uint32_t level = vm->worker->ops->log_level(vm->worker->host, host_stream(vm));
    level = level > PW_LOG_CRITICAL ? PW_LOG_CRITICAL : level;
    return pw_guest_put_u32(vm, a[0].u32, level) ? PW_OK : PW_INVALID_MEMORY_ACCESS;
}

uint64_t pw_call_get_current_time(pw_vm_t *vm, const sl_raw_t *a) {
    uint64_t now = vm->worker->ops->now_ns(vm->worker->host, false);
    return pw_guest_put_u64(vm, a[0].u32, now) ? PW_OK : PW_INVALID_MEMORY_ACCESS;
}

uint64_t pw_call_set_tick_period(pw_vm_t *vm, const sl_raw_t *a) {
    pw_root_t *root = pw_root_plugin(pw_vm_ctx(vm)->root);
    if (root == NULL || vm->quiet) {
        return PW_OK;
    }
    if (pw_vm_dialect(vm) == SL_DIALECT_WASMX && pw_vm_ctx(vm)->stream != NULL) {
        return pw_vm_trap(vm, "host trap (bad usage): can only set tick_period in root context");
    }
    if (root->tick_ms != 0 && a[0].u32 != 0 && pw_vm_dialect(vm) == SL_DIALECT_WASMX) {
        return pw_vm_trap(vm, "host trap (bad usage): tick_period already set");
    }
    if (!root->gone) {
        root->tick_ms = a[0].u32;
        vm->worker->ops->tick_set(vm->worker->host, root, &root->timer, a[0].u32);
    }
    return PW_OK;
}
