/* Trap dumps: the latest host calls of an instance, and all that is known of it when it traps. */
#ifndef PW_DUMP_H
#define PW_DUMP_H

#include "pw_internal.h"

enum { PW_TRACE_CALLS = 64, PW_TRACE_ARGS = 12 };
#define PW_DUMP_NS 1000000000u /* of one filter, there is no other dump so soon */

typedef struct {
    const char *name, *sig;
    uint64_t args[PW_TRACE_ARGS];
    uint32_t result;
    bool returned;
} pw_traced_t;

/* A ring. */
struct pw_trace_s {
    uint32_t n; /* so far */
    pw_traced_t at[PW_TRACE_CALLS];
};

pw_trace_t *pw_trace_new(void); /* NULL: no memory */
/* Makes a host call and notes it. name, sig: constants. */
sl_status_t pw_trace_call(sl_instance_t *instance, sl_raw_t *args, const char *name, const char *sig, sl_host_fn_t fn);

/* After a trap, before the instance goes: gives the host a dump. ctx NULL: a start function. text: reason and backtrace. */
void pw_dump_trap(pw_vm_t *vm, const pw_ctx_t *ctx, const char *where, const char *text);

#endif
