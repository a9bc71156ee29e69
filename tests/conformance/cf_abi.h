/*
 * What the conformance suite knows about the ABI by itself, written from the specification and not from the host's own tables, so that
 * a mistake there is seen: names and types of host calls and callbacks.
 */
#ifndef CF_ABI_H
#define CF_ABI_H

#include <stddef.h>

typedef struct {
    const char *module;
    const char *name;
    const char *sig;   /* as in engine.h */
    const char *alias; /* how scripts call it, where the name is not enough; else NULL */
} cf_import_t;

extern const cf_import_t cf_imports[];
extern const size_t cf_n_imports;

/* One row per callback: C(id, name, type in ABI 0.2.x, type in ABI 0.1.0, returned when the script says nothing) */
#define CF_CALLBACKS(C)                                                                                                                    \
    C(CTX, "proxy_on_context_create", "ii:", "ii:", 0)                                                                                     \
    C(VM_START, "proxy_on_vm_start", "ii:i", "ii:i", 1)                                                                                    \
    C(VALIDATE, "proxy_validate_configuration", "ii:i", "ii:i", 1)                                                                         \
    C(CONFIGURE, "proxy_on_configure", "ii:i", "ii:i", 1)                                                                                  \
    C(TICK, "proxy_on_tick", "i:", "i:", 0)                                                                                                \
    C(QUEUE, "proxy_on_queue_ready", "ii:", "ii:", 0)                                                                                      \
    C(NEWCONN, "proxy_on_new_connection", "i:i", "i:i", 0)                                                                                 \
    C(DOWNDATA, "proxy_on_downstream_data", "iii:i", "iii:i", 0)                                                                           \
    C(UPDATA, "proxy_on_upstream_data", "iii:i", "iii:i", 0)                                                                               \
    C(DOWNCLOSE, "proxy_on_downstream_connection_close", "ii:", "ii:", 0)                                                                  \
    C(UPCLOSE, "proxy_on_upstream_connection_close", "ii:", "ii:", 0)                                                                      \
    C(REQH, "proxy_on_request_headers", "iii:i", "ii:i", 0)                                                                                \
    C(REQB, "proxy_on_request_body", "iii:i", "iii:i", 0)                                                                                  \
    C(REQT, "proxy_on_request_trailers", "ii:i", "ii:i", 0)                                                                                \
    C(REQM, "proxy_on_request_metadata", "ii:i", "ii:i", 0)                                                                                \
    C(RESH, "proxy_on_response_headers", "iii:i", "ii:i", 0)                                                                               \
    C(RESB, "proxy_on_response_body", "iii:i", "iii:i", 0)                                                                                 \
    C(REST, "proxy_on_response_trailers", "ii:i", "ii:i", 0)                                                                               \
    C(RESM, "proxy_on_response_metadata", "ii:i", "ii:i", 0)                                                                               \
    C(CALLRES, "proxy_on_http_call_response", "iiiii:", "iiiii:", 0)                                                                       \
    C(GRPCI, "proxy_on_grpc_receive_initial_metadata", "iii:", "iii:", 0)                                                                  \
    C(GRPCR, "proxy_on_grpc_receive", "iii:", "iii:", 0)                                                                                   \
    C(GRPCT, "proxy_on_grpc_receive_trailing_metadata", "iii:", "iii:", 0)                                                                 \
    C(GRPCC, "proxy_on_grpc_close", "iii:", "iii:", 0)                                                                                     \
    C(FOREIGN, "proxy_on_foreign_function", "iii:", "iii:", 0)                                                                             \
    C(REDIS, "proxy_on_redis_call_response", "iiii:", "iiii:", 0)                                                                          \
    C(DNS, "envoy_on_resolve_dns", "iii:", "iii:", 0)                                                                                      \
    C(STATS, "envoy_on_stats_update", "ii:", "ii:", 0)                                                                                     \
    C(DONE, "proxy_on_done", "i:i", "i:i", 1)                                                                                              \
    C(LOG, "proxy_on_log", "i:", "i:", 0)                                                                                                  \
    C(DELETE, "proxy_on_delete", "i:", "i:", 0)

#define CF_CALLBACK_ID(id, name, sig2, sig1, ret) CF_##id,
typedef enum { CF_CALLBACKS(CF_CALLBACK_ID) CF_CALLBACK_N } cf_callback_id_t;
#undef CF_CALLBACK_ID

typedef struct {
    const char *script_name; /* REQH */
    const char *name;
    const char *sig, *sig_0_1_0;
    unsigned default_return;
} cf_callback_t;
extern const cf_callback_t cf_callbacks[CF_CALLBACK_N];

typedef enum { CF_ABI_0_2_1, CF_ABI_0_2_0, CF_ABI_0_1_0, CF_ABI_N } cf_abi_t;
extern const char *const cf_markers[CF_ABI_N];

/*
 * The driver guest, which exists twice: native for the null engine, WebAssembly text for Wasmtime. It fetches its program from the VM
 * configuration at its first callback and in each callback runs the records that name it. A program is a row of 32 bit words:
 *
 *   op | callback << 8 | nth << 16     nth: only in this occurrence of the callback, from 1; 0: in each
 *   number of words that follow in this record
 *   id                                 comes back in reports
 *   ...                                CALL: import, number of arguments, (kind, low, high) of each; RES gets the result; reports R
 *                                      STORE: address, length, bytes padded to words
 *                                      SHOW: address, length; reports M    SHOWREF: where a pointer and a length are; reports V
 *                                      RETURN: value    TRAP    CBARGS: number; reports A
 *
 * A report is a log line that contains "@@" tag, hexadecimal id, ':', hexadecimal bytes, '.'.
 */
enum { CF_OP_CALL = 1, CF_OP_STORE, CF_OP_SHOW, CF_OP_SHOWREF, CF_OP_RETURN, CF_OP_TRAP, CF_OP_CBARGS };
enum { CF_ARG_LITERAL, CF_ARG_U32_AT, CF_ARG_U64_AT };
enum { CF_MALLOC_OK, CF_MALLOC_FAIL, CF_MALLOC_WILD, CF_MALLOC_TRAP, CF_MALLOC_GROW };

enum {
    CF_PROG = 0x1000,
    CF_PROG_LEN = 0x1004,
    CF_RET = 0x1008,
    CF_RES = 0x1010,
    CF_ARGS = 0x1020,
    CF_CBARGS = 0x10c0,
    CF_HEAP = 0x10f0,
    CF_MALLOC_MODE = 0x10f4,
    CF_COUNTS = 0x1100,
    CF_REPORT = 0x2000,
    CF_SHOW_MAX = 1500, /* bytes in one report */
    CF_DATA = 0x4000,   /* the program's constants */
    CF_SLOTS = 0xc000,  /* out parameters, 16 bytes each */
    CF_HEAP_START = 0x10000,
    CF_MEMORY = 0x100000
};

#endif
