/* Wasmtime through its C API, unchecked entry points: the engine's settings and modules. */
#include "wasmtime_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "module_idle.h"
#include "module_reader.h"
#include "module_rewriter.h"
#include "sl_cpu.h"

#define DEFAULT_STACK_BYTES ((size_t)512 << 10)
#define MIN_STACK_BYTES ((size_t)64 << 10)
#define MAX_STACK_BYTES ((size_t)4 << 20) /* the thread's own stack is 8 MiB as a rule */

/* ---- engine ----------------------------------------------------------------------------------------------------- */

#define DETAILS "WASMTIME_BACKTRACE_DETAILS"

/* Whether DWARF is read has no setter in the C API: a new configuration asks the environment. */
static wasm_config_t *new_config(bool backtraces) {
    char *before = getenv(DETAILS) != NULL ? strdup(getenv(DETAILS)) : NULL;
    setenv(DETAILS, backtraces ? "1" : "0", 1);
    wasm_config_t *config = wasm_config_new();
    if (before != NULL) {
        setenv(DETAILS, before, 1);
    } else {
        unsetenv(DETAILS);
    }
    free(before);
    return config;
}

static void configure(wasm_config_t *config, size_t stack_bytes) {
    /* Its threads would be missing in a forked child, and the first compilation there would wait for them. */
    wasmtime_config_parallel_compilation_set(config, false);
    wasmtime_config_strategy_set(config, WASMTIME_STRATEGY_CRANELIFT);
    wasmtime_config_max_wasm_stack_set(config, stack_bytes);
    /* Of calls in slices: what a guest leaves is for host functions. */
    wasmtime_config_async_stack_size_set(config, 2 * MAX_STACK_BYTES);
    wasmtime_config_signals_based_traps_set(config, true);
    /* Loops and functions look at a counter: how calls over their CPU budget are ended. */
    wasmtime_config_epoch_interruption_set(config, true);
    /* A 32-bit memory has its whole address space reserved: its base stays, and only its size must be asked for again. */
    wasmtime_config_memory_may_move_set(config, false);
    /* Maps data over memory that it has made itself; ours is not. */
    wasmtime_config_memory_init_cow_set(config, false);
    /* Tables for debuggers and C++ exceptions; backtraces of guests do without. */
    wasmtime_config_native_unwind_info_set(config, false);
    /* Nothing in the ABI needs these, and what is off cannot be attacked. */
    wasmtime_config_wasm_threads_set(config, false);
    wasmtime_config_wasm_exceptions_set(config, false);
    wasmtime_config_wasm_gc_set(config, false);
    wasmtime_config_wasm_function_references_set(config, false);
    wasmtime_config_wasm_memory64_set(config, false);
    /* A second memory is what the rewriter adds; guests that have more than one are refused there. */
    wasmtime_config_wasm_multi_memory_set(config, true);
}

static void wt_engine_free(sl_engine_t *engine) {
    wt_engine_t *e = (wt_engine_t *)engine;
    if (e->pauses != NULL) {
        wasmtime_linker_delete(e->pauses);
    }
    wasm_engine_delete(e->wasm);
    free(e);
}

static sl_status_t wt_engine_new(const sl_engine_conf_t *conf, sl_engine_t **out, sl_err_t *err) {
    size_t stack = conf->max_stack_bytes != 0 ? conf->max_stack_bytes : DEFAULT_STACK_BYTES;
    if (stack < MIN_STACK_BYTES || stack > MAX_STACK_BYTES) {
        return sl_err_set(err, SL_INVALID, "wasmtime: a guest stack of %zu bytes; expected %zu to %zu", stack, MIN_STACK_BYTES,
                          MAX_STACK_BYTES);
    }
    wt_engine_t *engine = calloc(1, sizeof(*engine));
    wasm_config_t *config = engine != NULL ? new_config(conf->backtraces) : NULL;
    if (config == NULL) {
        free(engine);
        return wt_no_memory(err);
    }
    configure(config, stack);
    wt_use_own_memory(config, engine);
    engine->wasm = wasm_engine_new_with_config(config);
    sl_linear_use_signals();
    engine->backtraces = conf->backtraces;
    engine->head.ops = &sl_wasmtime_ops;
    engine->head.stack_bytes = stack;
    char cpu[17];
    sl_cpu_fingerprint(cpu);
    /* "4": this file's own settings above; raise it when they change. */
    snprintf(engine->head.fingerprint, sizeof(engine->head.fingerprint), "wasmtime/%s/4,cranelift,dwarf=%d,stack=%zu,rewriter=%d/%s",
             WASMTIME_VERSION, conf->backtraces, stack, SL_REWRITER_VERSION, cpu);
    engine->pauses = wt_pauses_new(engine->wasm);
    if (engine->pauses == NULL || sl_linear_choose(conf->dirty, &engine->head.dirty) != SL_OK) {
        wt_engine_free(&engine->head);
        return sl_err_set(err, SL_NO_MEMORY, "wasmtime: no memory, or no address space, for linear memory");
    }
    *out = &engine->head;
    return SL_OK;
}

static void wt_engine_tick(sl_engine_t *engine) {
    wasmtime_engine_increment_epoch(((wt_engine_t *)engine)->wasm);
}

/* ---- modules ---------------------------------------------------------------------------------------------------- */

static void wt_module_free(sl_module_t *module) {
    wt_module_t *m = (wt_module_t *)module;
    wt_links_free(atomic_load(&m->links));
    if (m->wasm != NULL) {
        wasmtime_module_delete(m->wasm);
    }
    free(m);
}

/* "memory", else the first memory that is exported. */
static const sl_extern_t *find_memory(const sl_module_t *m) {
    const sl_extern_t *memory = sl_module_export(m, "memory", SL_EXTERN_MEMORY);
    for (size_t i = 0; i < m->info.n_exports && memory == NULL; i++) {
        memory = m->info.exports[i].kind == SL_EXTERN_MEMORY ? &m->info.exports[i] : NULL;
    }
    return memory;
}

static sl_status_t use_code(wasm_engine_t *engine, const sl_precompiled_t *code, wasmtime_module_t **out, sl_err_t *err) {
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", code->fd);
    wasmtime_error_t *error = wasmtime_module_deserialize_file(engine, path, out);
    if (error == NULL) {
        return SL_OK;
    }
    wasmtime_error_delete(error);
    /* No /proc here, perhaps; the same bytes again, copied instead of mapped. */
    error = wasmtime_module_deserialize(engine, (const uint8_t *)code->code.data, code->code.len, out);
    return error == NULL ? SL_OK : wt_set_error(err, SL_INVALID, "compiled code", error);
}

/* out NULL: only what the rewritten module has, which was compiled before. */
static sl_status_t rewrite(wt_module_t *m, sl_str_t binary, sl_buf_t *out, sl_err_t *err) {
    sl_rewrite_t found;
    sl_status_t rc = sl_module_rewrite(binary, out, &found, err);
    if (rc == SL_OK) {
        m->n_globals = found.n_globals;
        m->n_sequences = found.n_sequences;
        m->first_added = found.first_added;
        m->head.info.no_image = found.no_reset;
    }
    return rc;
}

static sl_status_t compile(wt_module_t *m, sl_str_t binary, sl_err_t *err) {
    sl_buf_t changed;
    sl_buf_init(&changed, SIZE_MAX / 2);
    sl_status_t rc = rewrite(m, binary, &changed, err);
    if (rc == SL_OK) {
        wasmtime_error_t *error =
            wasmtime_module_new(((wt_engine_t *)m->head.engine)->wasm, (const uint8_t *)changed.data, changed.len, &m->wasm);
        rc = error == NULL ? SL_OK : wt_set_error(err, SL_INVALID, "not a valid WebAssembly module", error);
    }
    sl_buf_deinit(&changed);
    return rc;
}

static sl_status_t load_binary(wt_module_t *m, sl_str_t binary, const sl_precompiled_t *code, sl_err_t *err) {
    sl_status_t rc = sl_module_read(binary, &m->head.arena, &m->head.info, err);
    if (rc != SL_OK) {
        return rc;
    }
    m->memory = find_memory(&m->head);
    sl_module_find_idle(binary, (sl_extern_t *)m->head.info.exports, m->head.info.n_exports);
    wasm_engine_t *engine = ((wt_engine_t *)m->head.engine)->wasm;
    if (code == NULL) {
        return compile(m, binary, err);
    }
    rc = rewrite(m, binary, NULL, err);
    return rc == SL_OK ? use_code(engine, code, &m->wasm, err) : rc;
}

static sl_status_t load_text(wt_module_t *m, sl_str_t text, const sl_precompiled_t *code, sl_err_t *err) {
    wasm_byte_vec_t binary;
    wasmtime_error_t *error = wasmtime_wat2wasm(text.data, text.len, &binary);
    if (error != NULL) {
        return wt_set_error(err, SL_INVALID, "not valid WebAssembly text", error);
    }
    sl_status_t rc = load_binary(m, sl_str(binary.data, binary.size), code, err);
    wasm_byte_vec_delete(&binary);
    return rc;
}

static sl_status_t wt_module_new(sl_engine_t *engine, sl_str_t bytes, const sl_precompiled_t *code, sl_module_t **out, sl_err_t *err) {
    wt_module_t *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return wt_no_memory(err);
    }
    sl_module_head_init(&m->head, engine);
    atomic_init(&m->links, NULL);
    bool text = bytes.len > 0 && bytes.data[0] == '(';
    sl_status_t rc = text ? load_text(m, bytes, code, err) : load_binary(m, bytes, code, err);
    if (rc != SL_OK) {
        sl_module_unref(&m->head);
        return rc;
    }
    *out = &m->head;
    return SL_OK;
}

static sl_status_t wt_module_serialize(sl_module_t *m, sl_code_sink_t sink, void *ud, sl_err_t *err) {
    wasm_byte_vec_t code;
    wasmtime_error_t *error = wasmtime_module_serialize(((wt_module_t *)m)->wasm, &code);
    if (error != NULL) {
        return wt_set_error(err, SL_FAILED, "compiled code", error);
    }
    sl_status_t rc = sink(ud, sl_str(code.data, code.size), err);
    wasm_byte_vec_delete(&code);
    return rc;
}

const sl_engine_ops_t sl_wasmtime_ops = {
    .name = "wasmtime",
    .engine_new = wt_engine_new,
    .engine_free = wt_engine_free,
    .engine_tick = wt_engine_tick,
    .module_new = wt_module_new,
    .module_free = wt_module_free,
    .module_serialize = wt_module_serialize,
    .instance_new = wt_instance_new,
    .instance_free = wt_instance_free,
    .instance_func = wt_instance_func,
    .instance_call = wt_instance_call,
    .instance_sequence = wt_instance_sequence,
    .instance_part = wt_instance_part,
    .instance_stop = wt_instance_stop,
    .call_begin = wt_call_begin,
    .call_poll = wt_call_poll,
    .call_drop = wt_call_drop,
    .call_pause = wt_call_pause,
    .instance_refresh = wt_instance_refresh,
    .globals_write = wt_globals_write,
    .image_slots = wt_image_slots,
    .image_save = wt_image_save,
    .instance_restore = wt_instance_restore,
};
