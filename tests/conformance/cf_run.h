/* Runs conformance cases on memhost with one engine. */
#ifndef CF_RUN_H
#define CF_RUN_H

#include "cf_abi.h"
#include "engine.h"

typedef struct {
    const char *row;   /* the host call or callback that this case is for */
    const char *title; /* a sentence */
    cf_abi_t abi;
    const char *script; /* cf_script.h */
} cf_case_t;

/*
 * A call that is right and answers `right`, to be made wrong argument by argument: where a pointer or a length leaves memory it must answer
 * `wrong`; where both stay inside, but overlap or touch the end, anything; and the VM must live on. The same calls are made in every
 * callback.
 */
typedef struct {
    const char *row;
    const char *section; /* "at REQB" and what else must come before; may be "" */
    const char *call;
    unsigned wrong;
    const char *after; /* for the proxy, after a wrong call: as in scripts; may be "" */
    unsigned right;
} cf_hostile_t;

/* A difference between the dialects, played in both. */
typedef struct {
    const char *name;  /* as in docs/reference/dialects.md */
    const char *title; /* Envoy's | WasmX's */
    cf_abi_t abi;
    const char *envoy, *wasmx;
} cf_difference_t;

typedef struct {
    const char *name; /* "null", "wasmtime" */
    sl_engine_t *engine;
    sl_module_t *modules[CF_ABI_N];
    bool isolated; /* each request has an instance of its own */
} cf_env_t;

sl_status_t cf_env_init(cf_env_t *env, const char *engine, sl_err_t *err);
void cf_env_deinit(cf_env_t *env);

/* true: as expected. false: what is wrong is in `why`. */
bool cf_run_case(const cf_env_t *env, const cf_case_t *c, char *why, size_t why_size);

extern const cf_difference_t cf_differences[]; /* ends with a row of NULLs */
extern const cf_hostile_t cf_hostiles[];       /* ends with a row of NULLs */

#endif
