/* Contexts, configuration, and small things that belong to nothing else. */
#include "pw_calls.h"
#include "pw_guest.h"

uint64_t pw_call_set_effective_context(pw_vm_t *vm, const sl_raw_t *a) {
    pw_ctx_t *ctx = (pw_ctx_t *)pw_id_map_find(&vm->contexts, a[0].u32);
    if (ctx == NULL) {
        return PW_BAD_ARGUMENT;
    }
    vm->effective = ctx;
    vm->worker->dialect = pw_ctx_dialect(ctx);
    return PW_OK;
}

/* From a root context that answered 0 to on_done, or from a stream of it. It is deleted after the guest has returned. */
uint64_t pw_call_done(pw_vm_t *vm, const sl_raw_t *a) {
    (void)a;
    pw_root_t *root = pw_vm_ctx(vm)->root;
    if (!root->done_pending) {
        return PW_NOT_FOUND;
    }
    root->done_pending = false;
    root->finishing = true;
    root->next_finishing = vm->worker->finishing;
    vm->worker->finishing = root;
    return PW_OK;
}

/* 0.1.0: the plugin's while it is being configured, else the VM's. */
uint64_t pw_call_get_configuration(pw_vm_t *vm, const sl_raw_t *a) {
    const pw_filter_conf_t *conf = &pw_vm_ctx(vm)->root->filter->conf;
    bool root_create = vm->running == PW_CB_CONTEXT_CREATE && vm->current->stream == NULL;
    bool plugin = vm->running == PW_CB_CONFIGURE || vm->running == PW_CB_VALIDATE || root_create || conf->opts.dialect == SL_DIALECT_WASMX;
    return pw_guest_give(vm, a[0].u32, a[1].u32, plugin ? conf->config : vm->config);
}

/* Of the last call out that failed, kept with the root. */
uint64_t pw_call_get_status(pw_vm_t *vm, const sl_raw_t *a) {
    const pw_root_t *root = pw_vm_ctx(vm)->root;
    if (!pw_guest_ok(vm, a[0].u32, 4)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    pw_result_t rc = pw_guest_give(vm, a[1].u32, a[2].u32, root->status_message);
    if (rc == PW_OK) {
        pw_guest_put_u32(vm, a[0].u32, root->status);
    }
    return rc;
}

uint64_t pw_call_unimplemented(pw_vm_t *vm, const sl_raw_t *a) {
    (void)vm;
    (void)a;
    return PW_UNIMPLEMENTED;
}

uint64_t pw_call_nothing(pw_vm_t *vm, const sl_raw_t *a) {
    (void)vm;
    (void)a;
    return 0;
}

uint64_t pw_call_pthread_equal(pw_vm_t *vm, const sl_raw_t *a) {
    (void)vm;
    return a[0].u32 == a[1].u32;
}

/* An AssemblyScript string: UTF-16 at ptr, its length in bytes in the four before it. Shown as ASCII. */
static void as_text(const pw_vm_t *vm, uint32_t ptr, char *out, size_t size) {
    uint32_t len = 0;
    sl_str_t text;
    size_t n = 0;
    if (ptr >= 4 && pw_guest_get_u32(vm, ptr - 4, &len) && pw_guest_in(vm, ptr, len, &text)) {
        for (size_t i = 0; i + 1 < text.len && n + 1 < size; i += 2) {
            out[n++] = text.data[i + 1] == 0 && text.data[i] >= 0x20 && text.data[i] < 0x7f ? text.data[i] : '?';
        }
    }
    out[n] = '\0';
}

uint64_t pw_call_abort(pw_vm_t *vm, const sl_raw_t *a) {
    char message[160], file[80];
    as_text(vm, a[0].u32, message, sizeof(message));
    as_text(vm, a[1].u32, file, sizeof(file));
    return pw_vm_trap(vm, "abort: %s at %s:%u:%u", message, file, a[2].u32, a[3].u32);
}

uint64_t pw_call_seed(pw_vm_t *vm, const sl_raw_t *a) {
    (void)a;
    sl_raw_t out = {.u64 = 0};
    uint64_t bits = 0;
    vm->worker->ops->random(vm->worker->host, &bits, sizeof(bits));
    out.f64 = (double)(bits >> 11);
    return out.u64;
}
