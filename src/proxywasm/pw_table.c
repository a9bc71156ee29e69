#include "pw_table.h"

#include "pw_calls.h"
#include "pw_dump.h"

enum { NEVER = 0, START = PW_DURING_START, ALLOC = PW_DURING_ALLOC };

static sl_status_t forbidden(sl_instance_t *instance, const char *name) {
    const pw_vm_t *vm = instance->user;
    return sl_instance_trap(instance, "%s may not be called %s", name,
                            vm->during & PW_DURING_ALLOC ? "by the allocator" : "by _initialize, main or _start");
}

/* What is not granted: Unimplemented, or WASI's ENOSYS. */
static sl_status_t denied(pw_vm_t *vm, sl_raw_t *args, pw_grant_t grant, uint64_t status) {
    pw_grant_denied(vm, grant, SL_STR_NULL);
    args[0].u64 = status;
    return SL_OK;
}

static inline sl_status_t dispatch(sl_instance_t *instance, sl_raw_t *args, pw_handler_t handler, unsigned allowed, const char *name,
                                   pw_grant_t grant, uint64_t status) {
    pw_vm_t *vm = instance->user;
    if (__builtin_expect((vm->during | (vm->lacks & PW_G_BIT(grant))) != 0, 0)) {
        vm->instance = instance; /* a start section runs before sl_instance_new has answered */
        if ((vm->during & PW_DURING_SEQUENCE) != 0) {
            pw_vm_ask_sequence(vm);
        }
        if (vm->during & ~allowed) {
            return forbidden(instance, name);
        }
        if (vm->lacks & PW_G_BIT(grant)) {
            return denied(vm, args, grant, status);
        }
    }
    args[0].u64 = handler(vm, args);
    return __builtin_expect(vm->trapped, 0) ? SL_TRAP : SL_OK;
}

/* WasmX ends a VM that passes an address outside of its memory. */
static inline sl_status_t dispatch_env(sl_instance_t *instance, sl_raw_t *args, pw_handler_t handler, unsigned allowed, const char *name,
                                       pw_grant_t grant) {
    sl_status_t rc = dispatch(instance, args, handler, allowed, name, grant, PW_UNIMPLEMENTED);
    pw_vm_t *vm = instance->user;
    if (__builtin_expect(rc != SL_OK || args[0].u64 != PW_INVALID_MEMORY_ACCESS || vm->during != 0, 1)) {
        return rc;
    }
    args[0].u64 = pw_vm_misuse(vm, PW_INVALID_MEMORY_ACCESS, "invalid data pointer passed to host function");
    return vm->trapped ? SL_TRAP : SL_OK;
}

static inline sl_status_t dispatch_wasi(sl_instance_t *instance, sl_raw_t *args, pw_handler_t handler, unsigned allowed, const char *name,
                                        pw_grant_t grant) {
    enum { ENOSYS_OF_WASI = 52 };
    return dispatch(instance, args, handler, allowed, name, grant, ENOSYS_OF_WASI);
}

#define ENTRY(function, name, allowed, handler, dispatch, grant)                                                                           \
    static sl_status_t function(sl_instance_t *instance, sl_raw_t *args) {                                                                 \
        return dispatch(instance, args, handler, allowed, #name, PW_G_##grant);                                                            \
    }
/* The same function for guests whose calls are noted. */
#define TRACED(traced, function, name, sig)                                                                                                \
    static sl_status_t traced(sl_instance_t *instance, sl_raw_t *args) {                                                                   \
        return pw_trace_call(instance, args, #name, sig, function);                                                                        \
    }
#define PW_ENV(name, sig, versions, allowed, handler, grant)                                                                               \
    ENTRY(env_##name, name, allowed, handler, dispatch_env, grant) TRACED(traced_##name, env_##name, name, sig)
#define PW_ENV_TYPE(name, suffix, sig, versions, allowed, handler, grant) TRACED(traced_##name##_##suffix, env_##name, name, sig)
#define PW_WASI(name, sig, allowed, handler, grant)                                                                                        \
    ENTRY(wasi_##name, name, allowed, handler, dispatch_wasi, grant) TRACED(traced_wasi_##name, wasi_##name, name, sig)
#include "pw_hostcalls.def"
#undef PW_ENV
#undef PW_ENV_TYPE
#undef PW_WASI

#define ROW(module, name, sig, versions, allowed, function, traced, grant)                                                                 \
    {{module, #name, sig, function}, versions, ((allowed) & START) != 0, ((allowed) & ALLOC) != 0, PW_G_##grant, traced},
static const pw_hostcall_row_t rows[] = {
#define PW_ENV(name, sig, versions, allowed, handler, grant) ROW("env", name, sig, versions, allowed, env_##name, traced_##name, grant)
#define PW_ENV_TYPE(name, suffix, sig, versions, allowed, handler, grant)                                                                  \
    ROW("env", name, sig, versions, allowed, env_##name, traced_##name##_##suffix, grant)
#define PW_WASI(name, sig, allowed, handler, grant)                                                                                        \
    ROW("wasi_snapshot_preview1", name, sig, "WASI", allowed, wasi_##name, traced_wasi_##name, grant)                                      \
    ROW("wasi_unstable", name, sig, "WASI", allowed, wasi_##name, traced_wasi_##name, grant)
#include "pw_hostcalls.def"
#undef PW_ENV
#undef PW_ENV_TYPE
#undef PW_WASI
};
enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };

const pw_hostcall_row_t *pw_hostcall_rows(size_t *n) {
    *n = N_ROWS;
    return rows;
}

const pw_hostcall_row_t *pw_hostcall_find(const sl_extern_t *import, sl_err_t *err) {
    if (import->kind != SL_EXTERN_FUNC) {
        sl_err_set(err, SL_INVALID, "it imports %.*s.%.*s, which is not a function; only functions can be imported", SL_FMT(import->module),
                   SL_FMT(import->name));
        return NULL;
    }
    const char *other = NULL;
    for (size_t i = 0; i < N_ROWS; i++) {
        const sl_import_t *row = &rows[i].import;
        if (!sl_str_eq(sl_cstr(row->name), import->name) || !sl_str_eq(sl_cstr(row->module), import->module)) {
            continue;
        }
        if (strcmp(row->sig, import->sig) == 0) {
            return &rows[i];
        }
        other = row->sig;
    }
    if (other != NULL) {
        sl_err_set(err, SL_INVALID, "it imports %.*s.%.*s with the type %s, but that function has the type %s", SL_FMT(import->module),
                   SL_FMT(import->name), import->sig, other);
    } else {
        sl_err_set(err, SL_INVALID, "it imports %.*s.%.*s (%s), which nobody provides; build it for Proxy-Wasm 0.2.1 or older",
                   SL_FMT(import->module), SL_FMT(import->name), import->sig);
    }
    return NULL;
}

static const pw_callback_row_t callbacks[] = {
#define PW_CALLBACK(id, name, sig_0_1, sig_0_2) {#name, sig_0_1, sig_0_2},
#define PW_CALLBACK_ALIAS(id, name)
#include "pw_callbacks.def"
#undef PW_CALLBACK
#undef PW_CALLBACK_ALIAS
};

const pw_callback_row_t *pw_callback_rows(size_t *n) {
    *n = sizeof(callbacks) / sizeof(callbacks[0]);
    return callbacks;
}

const char *pw_cb_name(pw_cb_t cb) {
    return cb < PW_CB_N ? callbacks[cb].name : "start";
}
