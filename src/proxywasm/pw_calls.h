/*
 * The handlers of the host calls, one per row of pw_hostcalls.def (several rows may share one). `a` holds the parameters. The answer is
 * what the guest gets: a pw_result_t, or an errno of WASI. A handler that must trap the guest says so with pw_vm_trap().
 */
#ifndef PW_CALLS_H
#define PW_CALLS_H

#include "pw_internal.h"

typedef uint64_t (*pw_handler_t)(pw_vm_t *vm, const sl_raw_t *a);

#define PW_ENV(name, sig, versions, allowed, handler, grant) uint64_t handler(pw_vm_t *vm, const sl_raw_t *a);
#define PW_ENV_TYPE(name, suffix, sig, versions, allowed, handler, grant)
#define PW_WASI(name, sig, allowed, handler, grant) uint64_t handler(pw_vm_t *vm, const sl_raw_t *a);
#include "pw_hostcalls.def"
#undef PW_ENV
#undef PW_ENV_TYPE
#undef PW_WASI

#endif
