/*
 * What an engine gives to engine.c, private to src/engine. engine.c owns names,
 * references, digests and lookups; an engine's file owns everything below.
 * Engines embed the heads below as the first member of their own structs.
 */
#ifndef SL_ENGINE_OPS_H
#define SL_ENGINE_OPS_H

#include <stdatomic.h>

#include "engine.h"
#include "sl_arena.h"

typedef struct sl_engine_ops_s sl_engine_ops_t;

struct sl_engine_s {
    const sl_engine_ops_t *ops;
    char fingerprint[192];
    sl_dirty_t dirty;   /* how written pages are found */
    size_t stack_bytes; /* of a guest call */
};

struct sl_module_s {
    const sl_engine_ops_t *ops;
    sl_engine_t *engine;
    atomic_uint refs;
    sl_module_info_t info; /* texts and arrays live in `arena` */
    sl_arena_t arena;
    int code_fd; /* keeps the file that it was loaded from in the cache; -1: none */
};

/* Compiled code that was found in the cache and whose digest was right. */
typedef struct {
    sl_str_t code; /* the bytes; borrowed for the call */
    int fd;        /* a file that begins with these bytes; what follows them is not part
                      of the code */
} sl_precompiled_t;

typedef sl_status_t (*sl_code_sink_t)(void *ud, sl_str_t code, sl_err_t *err);

struct sl_engine_ops_s {
    const char *name;
    sl_status_t (*engine_new)(const sl_engine_conf_t *conf, sl_engine_t **out, sl_err_t *err);
    void (*engine_free)(sl_engine_t *engine);
    /* Async-signal-safe: has each instance whose code runs look at its watch. */
    void (*engine_tick)(sl_engine_t *engine);

    /*
     * Fills `info` but for sha256 and size_bytes. `code` NULL: compile; else use
     * it, SL_INVALID when it does not fit. The head (ops, engine, refs, arena) is
     * initialised with sl_module_head_init by the engine.
     */
    sl_status_t (*module_new)(sl_engine_t *engine, sl_str_t bytes, const sl_precompiled_t *code, sl_module_t **out, sl_err_t *err);
    void (*module_free)(sl_module_t *m);
    /* Hands the compiled code to `sink` and passes on its answer. NULL: this
     * engine has no code worth keeping. */
    sl_status_t (*module_serialize)(sl_module_t *m, sl_code_sink_t sink, void *ud, sl_err_t *err);

    /* `start`: runs the start section. */
    sl_status_t (*instance_new)(sl_module_t *m, const sl_import_t *imports, size_t n, const sl_instance_limits_t *limits, void *user,
                                bool start, sl_instance_t **out, sl_err_t *err);
    void (*instance_free)(sl_instance_t *instance);
    /* `export` is one of the module's own, a function of the wanted type. NULL:
     * out of memory. */
    sl_func_t *(*instance_func)(sl_instance_t *instance, const sl_extern_t *export);
    sl_status_t (*instance_call)(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, sl_err_t *err);
    /* engine.h's calls in slices. */
    sl_status_t (*call_begin)(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, uint32_t cpu_budget_ms, sl_err_t *err);
    sl_status_t (*call_poll)(sl_instance_t *instance, sl_err_t *err);
    sl_status_t (*call_drop)(sl_instance_t *instance, sl_err_t *err);
    sl_status_t (*call_pause)(sl_instance_t *instance);
    void (*instance_refresh)(sl_instance_t *instance);
    /* engine.h's sequences. NULL, all three: there are none. */
    sl_func_t *(*instance_sequence)(sl_instance_t *instance, sl_sequence_t which);
    uint32_t (*instance_part)(sl_instance_t *instance);
    void (*instance_stop)(sl_instance_t *instance);
    void (*globals_write)(sl_instance_t *instance, sl_buf_t *lines); /* NULL: it has none */

    /* What an image has beside the memory: how many slots that takes, and filling them. */
    size_t (*image_slots)(const sl_instance_t *instance);
    sl_status_t (*image_save)(sl_instance_t *instance, sl_raw_t *slots);
    /* Memory, globals, and nothing of a trap is left. again: it will soon be done again. */
    sl_status_t (*instance_restore)(sl_instance_t *instance, sl_image_t *image, bool again);
};

extern const sl_engine_ops_t sl_wasmtime_ops;
extern const sl_engine_ops_t sl_null_ops;

#define SL_MODULE_ARENA_MAX ((size_t)64 << 20) /* names of imports and exports of one module */

/* Refers to the engine and empties everything else; `m` has one reference
 * afterwards. */
void sl_module_head_init(sl_module_t *m, sl_engine_t *engine);
/* Refers to the module; the caller fills mem and mem_size. */
void sl_instance_head_init(sl_instance_t *instance, sl_module_t *m, const sl_instance_limits_t *limits, void *user);
/* For a call that has used up its budget: sets the reason. */
sl_status_t sl_instance_over_budget(sl_instance_t *instance, uint32_t budget_ms);
void sl_instance_head_deinit(sl_instance_t *instance);

/* What instances have together; NULL is counted nowhere and has no limit. */
bool sl_memory_fits(const sl_memory_t *together, uint64_t more_bytes);
void sl_memory_count(sl_memory_t *together, uint64_t before, uint64_t after);
void sl_instance_refused(sl_instance_t *instance, sl_refused_t by);
/* For an instance that cannot be made; SL_NO_MEMORY. */
sl_status_t sl_instance_no_room(sl_instance_t *instance, uint64_t bytes, sl_err_t *err);

/* engine.h's sl_module_compile, with code from the cache when `code` is not
 * NULL. */
sl_status_t sl_module_open(sl_engine_t *engine, sl_str_t bytes, const uint8_t sha256[32], const sl_precompiled_t *code, sl_module_t **out,
                           sl_err_t *err);

/* The row for one import of a module, NULL with a text when there is none or
 * its type differs. */
const sl_import_t *sl_import_find(const sl_import_t *imports, size_t n, const sl_extern_t *wanted, sl_err_t *err);

#endif
