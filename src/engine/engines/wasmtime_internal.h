/*
 * What the files of the Wasmtime engine share. Together they are the only ones that see Wasmtime's headers.
 *
 *   wasmtime.c           the engine's settings, modules, the table of operations
 *   wasmtime_link.c      imports of a module and calls from the guest
 *   wasmtime_instance.c  instances and calls into the guest
 *   wasmtime_slices.c    calls that stop in the middle
 *   wasmtime_memory.c    linear memory, images of instances
 *   wasmtime_trap.c      what errors and traps say
 */
#ifndef WASMTIME_INTERNAL_H
#define WASMTIME_INTERNAL_H

#include <wasmtime.h>

#include "engine_ops.h"
#include "linear_memory.h"

typedef struct {
    sl_engine_t head;
    wasm_engine_t *wasm;
    wasmtime_linker_t *pauses; /* has the function that stops host functions */
    bool backtraces;
} wt_engine_t;

/* The imports of a module, resolved against a table of host functions. Rows are in the module's order; host functions get a row as env. */
typedef struct {
    wasmtime_instance_pre_t *pre;
    size_t table_size;
    size_t *places; /* of each row in the table that it came from */
    sl_import_t *rows;
    size_t n;
} wt_links_t;

typedef struct {
    sl_module_t head;
    wasmtime_module_t *wasm;
    _Atomic(wt_links_t *) links; /* of the first table that was used; hosts have one */
    const sl_extern_t *memory;   /* the export that is the guest's memory, NULL: none */
    uint32_t n_globals;          /* that are exported under reserved names */
    uint32_t n_sequences;        /* that the module was given */
    uint32_t first_added;        /* functions from here on are not the module's own */
} wt_module_t;

typedef struct {
    wasmtime_func_t func;
    size_t n_slots; /* the larger of parameters and results */
    const char *sig;
} wt_func_t;

#define WT_SLOTS_MAX SL_SIG_MAX

/* The call in slices of an instance, if `future` is set. Wasmtime keeps pointers into it. */
typedef struct {
    wasmtime_call_future_t *future;
    wasmtime_val_t args[WT_SLOTS_MAX], results[WT_SLOTS_MAX];
    wasm_trap_t *trap;
    wasmtime_error_t *error;
    sl_raw_t *out; /* the caller's */
    const char *sig;
    uint32_t budget_ms;
    uint64_t used_ns;  /* by the slices before */
    uint64_t since_ns; /* CPU clock at the begin of the one that runs */
    bool running;
    bool dropped;             /* it is being ended */
    unsigned nested;          /* calls that host functions make in turn, */
    uint64_t nested_since_ns; /* the CPU clock when the latest of them began */
    /* What stops a host function: a function of the store, which Wasmtime asks twice whether it has returned. */
    wasmtime_func_t pause;
    bool has_pause;
    bool paused; /* it was asked once */
} wt_slices_t;

typedef struct {
    sl_instance_t head;
    wasmtime_store_t *store;
    wasmtime_context_t *ctx;
    wasmtime_memory_t memory;
    bool has_memory;
    sl_linear_t *linear; /* what lies under it */
    wasmtime_instance_t instance;
    wt_links_t *own_links;      /* when the module's were made for another table */
    wt_func_t *funcs;           /* one per export, made at the first lookup */
    wasmtime_global_t *globals; /* those that images hold; made when they are first needed */
    wt_slices_t *slices;        /* made with the first call in slices */
    wt_func_t *sequences;       /* SL_SEQUENCES of them, made at the first lookup; without a type: not there */
    volatile int32_t *part;     /* in a memory of the instance's own: which of their members runs */
} wt_instance_t;

/* ---- texts and traps ---- */

sl_status_t wt_no_memory(sl_err_t *err);
/* Takes the error. */
sl_status_t wt_set_error(sl_err_t *err, sl_status_t status, const char *what, wasmtime_error_t *error);
/* Takes error or trap; SL_TRAP. */
sl_status_t wt_set_trap(sl_err_t *err, sl_instance_t *instance, wasmtime_error_t *error, wasm_trap_t *trap) __attribute__((cold));

/* ---- linking ---- */

void wt_links_free(wt_links_t *links);
/* The links of the instance's module for a table of host functions: the module's own, or made for this instance alone. */
sl_status_t wt_links_get(wt_instance_t *in, const sl_import_t *table, size_t n, wt_links_t **out, sl_err_t *err);

/* ---- instances ---- */

sl_status_t wt_instance_new(sl_module_t *m, const sl_import_t *imports, size_t n, const sl_instance_limits_t *limits, void *user,
                            bool start, sl_instance_t **out, sl_err_t *err);
void wt_instance_free(sl_instance_t *instance);
sl_func_t *wt_instance_func(sl_instance_t *instance, const sl_extern_t *export);
sl_status_t wt_instance_call(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, sl_err_t *err);
sl_func_t *wt_instance_sequence(sl_instance_t *instance, sl_sequence_t which);
uint32_t wt_instance_part(sl_instance_t *instance);
void wt_instance_stop(sl_instance_t *instance);
sl_status_t wt_call_begin(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, uint32_t cpu_budget_ms, sl_err_t *err);
sl_status_t wt_call_poll(sl_instance_t *instance, sl_err_t *err);
sl_status_t wt_call_drop(sl_instance_t *instance, sl_err_t *err);
sl_status_t wt_call_pause(sl_instance_t *instance);
/* Of an engine; NULL: no memory. */
wasmtime_linker_t *wt_pauses_new(wasm_engine_t *engine);
void wt_slices_free(wt_instance_t *in);
/* The guest of a call in slices has seen that the counter moved on. */
wasmtime_error_t *wt_slices_epoch(wt_instance_t *in, wasmtime_update_deadline_kind_t *kind);
void wt_instance_refresh(sl_instance_t *instance);
/* The base never moves, see configure(). */
static inline void wt_refresh(wt_instance_t *in) {
    if (in->has_memory) {
        in->head.mem_size = wasmtime_memory_data_size(in->ctx, &in->memory);
    }
}

/* ---- memory and images ---- */

/* Memories of this engine are ours from now on. */
void wt_use_own_memory(wasm_config_t *config, wt_engine_t *engine);
void wt_globals_write(sl_instance_t *instance, sl_buf_t *lines);
size_t wt_image_slots(const sl_instance_t *instance);
sl_status_t wt_image_save(sl_instance_t *instance, sl_raw_t *slots);
sl_status_t wt_instance_restore(sl_instance_t *instance, sl_image_t *image, bool again);

#endif
