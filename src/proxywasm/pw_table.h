/* The tables of host calls and callbacks, made from pw_hostcalls.def and pw_callbacks.def; also for documentation and tests. */
#ifndef PW_TABLE_H
#define PW_TABLE_H

#include "engine.h"
#include "pw_abi.h"
#include "pw_grants.h"

typedef struct {
    sl_import_t import;
    const char *versions; /* "0.1.0", "0.2.0", "0.2.1": since then; else who defines it */
    bool in_start;        /* may be called by _initialize, main, _start */
    bool in_alloc;        /* may be called by the allocator */
    pw_grant_t grant;
    sl_host_fn_t traced; /* as import.fn, and notes the call: for instances with a pw_trace_t */
} pw_hostcall_row_t;
const pw_hostcall_row_t *pw_hostcall_rows(size_t *n);

typedef struct {
    const char *name;
    const char *sig_0_1, *sig_0_2; /* "": not in this version */
} pw_callback_row_t;
const pw_callback_row_t *pw_callback_rows(size_t *n);

/* The row for an import of a module. NULL with a text that says what is missing or of another type. */
const pw_hostcall_row_t *pw_hostcall_find(const sl_extern_t *import, sl_err_t *err);

#endif
