/* Calling foreign functions: finds them by name, bounds what goes in and out. The functions are in pw_foreign_*.c. */
#include "pw_calls.h"
#include "pw_foreign.h"
#include "pw_guest.h"
#include "sl_aside.h"

#define ASIDE_WAIT_US 1000 /* a slice: the event loop has the rest */

static const struct {
    const char *name;
    pw_foreign_fn_t fn;
} functions[] = {
#define PW_FOREIGN(name, whose, fn) {#name, fn},
#include "pw_foreign.def"
#undef PW_FOREIGN
};

static pw_foreign_fn_t find(sl_str_t name) {
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (sl_str_eq(sl_cstr(functions[i].name), name)) {
            return functions[i].fn;
        }
    }
    return NULL;
}

/* The thread has nothing of ours but what fn touches, so it is waited for, whatever becomes of the callback. */
bool pw_foreign_aside(pw_vm_t *vm, void (*fn)(void *arg), void *arg) {
    sl_aside_t *aside = vm != NULL && vm->worker->job != NULL ? sl_aside_begin(fn, arg) : NULL;
    if (aside == NULL) {
        fn(arg);
        return pw_vm_go_on(vm);
    }
    while (!sl_aside_wait(aside, ASIDE_WAIT_US) && pw_vm_go_on(vm)) {
    }
    sl_instance_charge(vm->instance, sl_aside_end(aside));
    return !vm->trapped && pw_vm_go_on(vm);
}

/* Result pointers may each be 0: the caller does not want that part, and nothing is allocated then. */
static pw_result_t give(pw_vm_t *vm, uint32_t ptr_ptr, uint32_t size_ptr, sl_str_t bytes) {
    if (ptr_ptr != 0 && size_ptr != 0) {
        char *at;
        pw_result_t rc = pw_guest_reserve(vm, ptr_ptr, size_ptr, bytes.len, &at);
        return rc == PW_OK && bytes.len != 0 && !pw_vm_copy(vm, at, bytes) ? PW_INTERNAL_FAILURE : rc;
    }
    if (size_ptr != 0 && !pw_guest_put_u32(vm, size_ptr, (uint32_t)bytes.len)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (ptr_ptr != 0 && !pw_guest_put_u32(vm, ptr_ptr, 0)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    return PW_OK;
}

/* What cannot be told to the guest must not happen. */
static bool can_give(const pw_vm_t *vm, uint32_t ptr_ptr, uint32_t size_ptr) {
    return (ptr_ptr == 0 || pw_guest_ok(vm, ptr_ptr, 4)) && (size_ptr == 0 || pw_guest_ok(vm, size_ptr, 4));
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
    if (!can_give(vm, a[4].u32, a[5].u32)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (args.len > PW_FOREIGN_BYTES_MAX) {
        return PW_BAD_ARGUMENT;
    }
    sl_buf_t out;
    sl_buf_init(&out, PW_FOREIGN_BYTES_MAX);
    pw_result_t rc = fn(vm, pw_vm_ctx(vm), args, &out);
    pw_result_t given = vm->trapped || (out.len >= PW_STEP_BYTES && !pw_vm_go_on(vm))
                            ? PW_OK
                            : give(vm, a[4].u32, a[5].u32, rc == PW_OK ? sl_buf_str(&out) : SL_STR_NULL);
    sl_buf_deinit(&out);
    return rc != PW_OK ? rc : given;
}
