/* Wasmtime through its C API, unchecked entry points. The only file that includes its headers. */
#include "engine_ops.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <wasmtime.h>

#include "module_reader.h"
#include "sl_cpu.h"

static_assert(sizeof(sl_raw_t) == sizeof(wasmtime_val_raw_t), "arguments are passed to Wasmtime as they are");
static_assert(_Alignof(sl_raw_t) <= _Alignof(wasmtime_val_raw_t), "Wasmtime's slots are read as ours");
static_assert(offsetof(sl_raw_t, i64) == offsetof(wasmtime_val_raw_t, i64), "members of the two unions begin together");

#define DEFAULT_STACK_BYTES ((size_t)512 << 10)
#define MIN_STACK_BYTES ((size_t)64 << 10)
#define MAX_STACK_BYTES ((size_t)4 << 20) /* the thread's own stack is 8 MiB as a rule */
#define MAX_TABLE_ELEMENTS (1 << 20)
#define MAX_TABLES 16
#define MAX_FRAMES 20
#define MAX_FRAME_NAME 160

typedef struct {
    sl_engine_t head;
    wasm_engine_t *wasm;
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
} wt_module_t;

typedef struct {
    wasmtime_func_t func;
    size_t n_slots; /* the larger of parameters and results */
} wt_func_t;

typedef struct {
    sl_instance_t head;
    wasmtime_store_t *store;
    wasmtime_context_t *ctx;
    wasmtime_memory_t memory;
    bool has_memory;
    bool started;
    wasmtime_instance_t instance; /* valid once started */
    wasmtime_caller_t *caller;    /* until then: the start section's current call of a host function */
    wt_links_t *own_links;        /* when the module's were made for another table */
    wt_func_t *funcs;             /* one per export, made at the first lookup */
} wt_instance_t;

static sl_status_t no_memory(sl_err_t *err) {
    return sl_err_set(err, SL_NO_MEMORY, "wasmtime: out of memory");
}

/* ---- texts ------------------------------------------------------------------------------------------------------ */

typedef struct {
    char *at;
    size_t left; /* with the NUL */
} wt_text_t;

static wt_text_t text_begin(sl_err_t *err) {
    return (wt_text_t){err->text, sizeof(err->text)};
}

/* A piece that does not fit is left out whole. */
static bool text_add(wt_text_t *t, const char *piece) {
    size_t len = strlen(piece);
    if (len >= t->left) {
        return false;
    }
    memcpy(t->at, piece, len + 1);
    t->at += len;
    t->left -= len;
    return true;
}

/* One line: names come from guests and must not be able to write lines of a log. */
static void copy_line(char *out, size_t size, const char *data, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < size; i++) {
        unsigned char c = (unsigned char)data[i];
        bool space = isspace(c) || c == '\0';
        if (space && (n == 0 || out[n - 1] == ' ')) {
            continue;
        }
        out[n++] = space ? ' ' : iscntrl(c) ? '?' : (char)c;
    }
    while (n > 0 && out[n - 1] == ' ') {
        n--;
    }
    out[n] = '\0';
}

/* Takes the error. */
static sl_status_t set_error(sl_err_t *err, sl_status_t status, const char *what, wasmtime_error_t *error) {
    wasm_name_t message;
    wasmtime_error_message(error, &message);
    char line[900];
    copy_line(line, sizeof(line), message.data, message.size);
    wasm_byte_vec_delete(&message);
    wasmtime_error_delete(error);
    return sl_err_set(err, status, "%s: %s", what, line);
}

/* ---- traps ------------------------------------------------------------------------------------------------------ */

/* By Wasmtime's code. The guests that we run cannot raise the others. */
static const char *const reasons[] = {
    "stack overflow",
    "memory access out of bounds",
    "misaligned atomic access",
    "table access out of bounds",
    "call through an empty table entry",
    "call through a table entry of another type",
    "integer overflow",
    "integer division by zero",
    "a float that no integer can hold",
    "unreachable code was reached",
    "interrupted",
    "out of fuel",
};

/* Takes error or trap (one of them is set). Frames point into it, so it lives until the text is written. */
typedef struct {
    wasmtime_error_t *error;
    wasm_trap_t *trap;
} wt_failure_t;

static void failure_free(wt_failure_t *f) {
    if (f->error != NULL) {
        wasmtime_error_delete(f->error);
    }
    if (f->trap != NULL) {
        wasm_trap_delete(f->trap);
    }
}

static void failure_message(const wt_failure_t *f, wasm_byte_vec_t *out) {
    if (f->trap != NULL) {
        wasm_trap_message(f->trap, out);
    } else {
        wasmtime_error_message(f->error, out);
    }
}

static void failure_frames(const wt_failure_t *f, wasm_frame_vec_t *out) {
    if (f->trap != NULL) {
        wasm_trap_trace(f->trap, out);
    } else {
        wasmtime_error_wasm_trace(f->error, out);
    }
}

/* instance->trap becomes the reason, unless a host function has written it already. */
static void keep_reason(sl_instance_t *instance, const wt_failure_t *f) {
    wasmtime_trap_code_t code;
    if (instance->trap[0] != '\0') {
        return;
    }
    if (f->trap != NULL && wasmtime_trap_code(f->trap, &code) && code < sizeof(reasons) / sizeof(reasons[0])) {
        sl_instance_trap(instance, "%s", reasons[code]);
        return;
    }
    wasm_byte_vec_t message;
    failure_message(f, &message);
    copy_line(instance->trap, sizeof(instance->trap), message.data, message.size);
    wasm_byte_vec_delete(&message);
}

/* "  at name (module)"; the module's name section may name neither. */
static bool add_frame(wt_text_t *t, const wasm_frame_t *frame, const sl_module_info_t *info) {
    char func[MAX_FRAME_NAME], module[MAX_FRAME_NAME / 2], line[2 * MAX_FRAME_NAME];
    const wasm_name_t *name = wasmtime_frame_func_name(frame);
    if (name != NULL) {
        copy_line(func, sizeof(func), name->data, name->size);
    } else {
        snprintf(func, sizeof(func), "#%u", (unsigned)wasm_frame_func_index(frame));
    }
    name = wasmtime_frame_module_name(frame);
    if (name != NULL && name->size != 0) {
        copy_line(module, sizeof(module), name->data, name->size);
    } else {
        snprintf(module, sizeof(module), "module %02x%02x%02x%02x", info->sha256[0], info->sha256[1], info->sha256[2], info->sha256[3]);
    }
    snprintf(line, sizeof(line), "\n  at %s (%s)", func, module);
    return text_add(t, line);
}

/*
 * Source positions are only in Wasmtime's own rendering: a line "  <n>: ..." per frame, and below it for each inlined function
 * a line "      at file:line:column". *at moves over the lines of frame `n`; the first position is the innermost.
 */
static void add_position(wt_text_t *t, const char **at, size_t n) {
    char head[24], line[MAX_FRAME_NAME];
    snprintf(head, sizeof(head), "\n%5zu: ", n);
    const char *frame = strstr(*at, head);
    if (frame == NULL) {
        return;
    }
    snprintf(head, sizeof(head), "\n%5zu: ", n + 1);
    const char *next = strstr(frame + 1, head);
    const char *found = strstr(frame + 1, "\n                    at ");
    *at = frame;
    if (found == NULL || (next != NULL && found > next)) {
        return;
    }
    found += sizeof("\n                    at ") - 1;
    line[0] = ' ';
    copy_line(line + 1, sizeof(line) - 1, found, strcspn(found, "\n"));
    text_add(t, line);
}

static void add_frames(wt_text_t *t, const sl_instance_t *instance, const wt_failure_t *f) {
    bool positions = ((const wt_engine_t *)instance->module->engine)->backtraces;
    wasm_byte_vec_t message = {0, NULL};
    char *rendered = NULL;
    if (positions) {
        failure_message(f, &message);
        rendered = strndup(message.data, message.size);
        wasm_byte_vec_delete(&message);
    }
    wasm_frame_vec_t frames;
    failure_frames(f, &frames);
    const char *at = rendered;
    for (size_t i = 0; i < frames.size && i < MAX_FRAMES && add_frame(t, frames.data[i], &instance->module->info); i++) {
        if (at != NULL) {
            add_position(t, &at, i);
        }
    }
    wasm_frame_vec_delete(&frames);
    free(rendered);
}

/* Takes error or trap. */
static __attribute__((cold, noinline)) sl_status_t set_trap(sl_err_t *err, sl_instance_t *instance, wasmtime_error_t *error,
                                                            wasm_trap_t *trap) {
    wt_failure_t f = {error, trap};
    keep_reason(instance, &f);
    if (err != NULL) {
        wt_text_t t = text_begin(err);
        text_add(&t, instance->trap);
        add_frames(&t, instance, &f);
    }
    failure_free(&f);
    return SL_TRAP;
}

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
    /* Not used, but a configuration where it is smaller is refused. */
    wasmtime_config_async_stack_size_set(config, 2 * MAX_STACK_BYTES);
    wasmtime_config_signals_based_traps_set(config, true);
    /* A 32-bit memory has its whole address space reserved: its base stays, and only its size must be asked for again. */
    wasmtime_config_memory_may_move_set(config, false);
    /* Tables for debuggers and C++ exceptions; backtraces of guests do without. */
    wasmtime_config_native_unwind_info_set(config, false);
    /* Nothing in the ABI needs these, and what is off cannot be attacked. */
    wasmtime_config_wasm_threads_set(config, false);
    wasmtime_config_wasm_exceptions_set(config, false);
    wasmtime_config_wasm_gc_set(config, false);
    wasmtime_config_wasm_function_references_set(config, false);
    wasmtime_config_wasm_memory64_set(config, false);
    wasmtime_config_wasm_multi_memory_set(config, false);
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
        return no_memory(err);
    }
    configure(config, stack);
    engine->wasm = wasm_engine_new_with_config(config);
    engine->backtraces = conf->backtraces;
    engine->head.ops = &sl_wasmtime_ops;
    char cpu[17];
    sl_cpu_fingerprint(cpu);
    /* "1": this file's own settings above; raise it when they change. */
    snprintf(engine->head.fingerprint, sizeof(engine->head.fingerprint), "wasmtime/%s/1,cranelift,dwarf=%d/%s", WASMTIME_VERSION,
             conf->backtraces, cpu);
    *out = &engine->head;
    return SL_OK;
}

static void wt_engine_free(sl_engine_t *engine) {
    wasm_engine_delete(((wt_engine_t *)engine)->wasm);
    free(engine);
}

/* ---- modules ---------------------------------------------------------------------------------------------------- */

static void links_free(wt_links_t *links) {
    if (links == NULL) {
        return;
    }
    if (links->pre != NULL) {
        wasmtime_instance_pre_delete(links->pre);
    }
    free(links->places);
    free(links->rows);
    free(links);
}

static void wt_module_free(sl_module_t *module) {
    wt_module_t *m = (wt_module_t *)module;
    links_free(atomic_load(&m->links));
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
    return error == NULL ? SL_OK : set_error(err, SL_INVALID, "compiled code", error);
}

static sl_status_t compile(wasm_engine_t *engine, sl_str_t binary, wasmtime_module_t **out, sl_err_t *err) {
    wasmtime_error_t *error = wasmtime_module_new(engine, (const uint8_t *)binary.data, binary.len, out);
    return error == NULL ? SL_OK : set_error(err, SL_INVALID, "not a valid WebAssembly module", error);
}

static sl_status_t load_binary(wt_module_t *m, sl_str_t binary, const sl_precompiled_t *code, sl_err_t *err) {
    sl_status_t rc = sl_module_read(binary, &m->head.arena, &m->head.info, err);
    if (rc != SL_OK) {
        return rc;
    }
    m->memory = find_memory(&m->head);
    wasm_engine_t *engine = ((wt_engine_t *)m->head.engine)->wasm;
    return code != NULL ? use_code(engine, code, &m->wasm, err) : compile(engine, binary, &m->wasm, err);
}

static sl_status_t load_text(wt_module_t *m, sl_str_t text, const sl_precompiled_t *code, sl_err_t *err) {
    wasm_byte_vec_t binary;
    wasmtime_error_t *error = wasmtime_wat2wasm(text.data, text.len, &binary);
    if (error != NULL) {
        return set_error(err, SL_INVALID, "not valid WebAssembly text", error);
    }
    sl_status_t rc = load_binary(m, sl_str(binary.data, binary.size), code, err);
    wasm_byte_vec_delete(&binary);
    return rc;
}

static sl_status_t wt_module_new(sl_engine_t *engine, sl_str_t bytes, const sl_precompiled_t *code, sl_module_t **out, sl_err_t *err) {
    wt_module_t *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return no_memory(err);
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
        return set_error(err, SL_FAILED, "compiled code", error);
    }
    sl_status_t rc = sink(ud, sl_str(code.data, code.size), err);
    wasm_byte_vec_delete(&code);
    return rc;
}

/* ---- host functions --------------------------------------------------------------------------------------------- */

static bool lookup(wt_instance_t *in, sl_str_t name, wasmtime_extern_t *out) {
    if (in->started) {
        return wasmtime_instance_export_get(in->ctx, &in->instance, name.data, name.len, out);
    }
    return in->caller != NULL && wasmtime_caller_export_get(in->caller, name.data, name.len, out);
}

static void find_instance_memory(wt_instance_t *in) {
    const sl_extern_t *export = ((wt_module_t *)in->head.module)->memory;
    wasmtime_extern_t item;
    if (export == NULL || in->has_memory || !lookup(in, export->name, &item) || item.kind != WASMTIME_EXTERN_MEMORY) {
        return;
    }
    in->memory = item.of.memory;
    in->has_memory = true;
    in->head.mem = wasmtime_memory_data(in->ctx, &in->memory);
}

/* The base never moves, see configure(). */
static inline void refresh(wt_instance_t *in) {
    if (in->has_memory) {
        in->head.mem_size = wasmtime_memory_data_size(in->ctx, &in->memory);
    }
}

static void wt_instance_refresh(sl_instance_t *instance) {
    refresh((wt_instance_t *)instance);
}

/* The reason travels in instance->trap; set_trap() finds it there. */
static __attribute__((cold, noinline)) wasm_trap_t *trap_from_host(sl_instance_t *instance, const sl_import_t *row) {
    if (instance->trap[0] == '\0') {
        sl_instance_trap(instance, "host function %s.%s failed", row->module, row->name);
    }
    return wasmtime_trap_new("host", 4);
}

static inline sl_status_t run_host(wt_instance_t *in, const sl_import_t *row, wasmtime_val_raw_t *args, size_t n) {
    wasmtime_val_raw_t spare; /* host functions may count on room for one */
    refresh(in);
    return row->fn(&in->head, (sl_raw_t *)(n != 0 ? args : &spare));
}

/* Exports are not reachable in the usual way before instantiation is over. */
static __attribute__((cold, noinline)) sl_status_t run_host_at_start(wt_instance_t *in, wasmtime_caller_t *caller, const sl_import_t *row,
                                                                     wasmtime_val_raw_t *args, size_t n) {
    wasmtime_caller_t *outer = in->caller;
    in->caller = caller;
    find_instance_memory(in);
    sl_status_t rc = run_host(in, row, args, n);
    in->caller = outer;
    return rc;
}

static wasm_trap_t *enter_host(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *args, size_t n) {
    const sl_import_t *row = env;
    wt_instance_t *in = wasmtime_context_get_data(wasmtime_caller_context(caller));
    sl_status_t rc = in->started ? run_host(in, row, args, n) : run_host_at_start(in, caller, row, args, n);
    return rc == SL_OK ? NULL : trap_from_host(&in->head, row);
}

/* ---- linking ---------------------------------------------------------------------------------------------------- */

static wasm_valkind_t kind_of(char letter) {
    switch (letter) {
    case 'i':
        return WASM_I32;
    case 'I':
        return WASM_I64;
    case 'f':
        return WASM_F32;
    default:
        return WASM_F64;
    }
}

static wasm_functype_t *new_type(const char *sig) {
    wasm_valtype_t *params[SL_SIG_MAX], *results[SL_SIG_MAX];
    size_t n_params = 0, n_results = 0;
    for (; *sig != ':' && *sig != '\0'; sig++) {
        params[n_params++] = wasm_valtype_new(kind_of(*sig));
    }
    for (sig += *sig == ':'; *sig != '\0'; sig++) {
        results[n_results++] = wasm_valtype_new(kind_of(*sig));
    }
    wasm_valtype_vec_t p, r;
    wasm_valtype_vec_new(&p, n_params, params);
    wasm_valtype_vec_new(&r, n_results, results);
    return wasm_functype_new(&p, &r);
}

static wasmtime_error_t *define_row(wasmtime_linker_t *linker, sl_import_t *row) {
    wasm_functype_t *type = new_type(row->sig);
    wasmtime_error_t *error = wasmtime_linker_define_func_unchecked(linker, row->module, strlen(row->module), row->name, strlen(row->name),
                                                                    type, enter_host, row, NULL);
    wasm_functype_delete(type);
    return error;
}

static sl_status_t resolve(wt_links_t *links, const wt_module_t *m, const sl_import_t *table, size_t n, sl_err_t *err) {
    for (size_t i = 0; i < links->n; i++) {
        const sl_import_t *row = sl_import_find(table, n, &m->head.info.imports[i], err);
        if (row == NULL) {
            return SL_INVALID;
        }
        links->rows[i] = *row;
        links->places[i] = (size_t)(row - table);
    }
    return SL_OK;
}

static sl_status_t prepare(wt_links_t *links, const wt_module_t *m, sl_err_t *err) {
    wasmtime_linker_t *linker = wasmtime_linker_new(((wt_engine_t *)m->head.engine)->wasm);
    /* A module may import the same function twice. */
    wasmtime_linker_allow_shadowing(linker, true);
    wasmtime_error_t *error = NULL;
    for (size_t i = 0; i < links->n && error == NULL; i++) {
        error = define_row(linker, &links->rows[i]);
    }
    if (error == NULL) {
        error = wasmtime_linker_instantiate_pre(linker, m->wasm, &links->pre);
    }
    wasmtime_linker_delete(linker);
    return error == NULL ? SL_OK : set_error(err, SL_INVALID, "cannot link", error);
}

static sl_status_t links_new(const wt_module_t *m, const sl_import_t *table, size_t n, wt_links_t **out, sl_err_t *err) {
    wt_links_t *links = calloc(1, sizeof(*links));
    if (links == NULL) {
        return no_memory(err);
    }
    links->n = m->head.info.n_imports;
    links->table_size = n;
    links->rows = calloc(links->n + 1, sizeof(*links->rows));
    links->places = calloc(links->n + 1, sizeof(*links->places));
    sl_status_t rc = links->rows != NULL && links->places != NULL ? resolve(links, m, table, n, err) : no_memory(err);
    rc = rc == SL_OK ? prepare(links, m, err) : rc;
    if (rc != SL_OK) {
        links_free(links);
        return rc;
    }
    *out = links;
    return SL_OK;
}

/* A few loads per import, where looking names up would cost more than all the rest of making an instance. */
static bool links_fit(const wt_links_t *links, const sl_import_t *table, size_t n) {
    if (links->table_size != n) {
        return false;
    }
    for (size_t i = 0; i < links->n; i++) {
        const sl_import_t *row = &table[links->places[i]];
        if (row->fn != links->rows[i].fn || row->name != links->rows[i].name || row->module != links->rows[i].module ||
            row->sig != links->rows[i].sig) {
            return false;
        }
    }
    return true;
}

/* The first links stay with the module; those for any other table belong to the instance. */
static sl_status_t get_links(wt_instance_t *in, const sl_import_t *table, size_t n, wt_links_t **out, sl_err_t *err) {
    wt_module_t *m = (wt_module_t *)in->head.module;
    wt_links_t *links = atomic_load_explicit(&m->links, memory_order_acquire);
    if (links != NULL && links_fit(links, table, n)) {
        *out = links;
        return SL_OK;
    }
    sl_status_t rc = links_new(m, table, n, out, err);
    wt_links_t *none = NULL;
    if (rc == SL_OK && !atomic_compare_exchange_strong(&m->links, &none, *out)) {
        in->own_links = *out;
    }
    return rc;
}

/* ---- instances -------------------------------------------------------------------------------------------------- */

static void wt_instance_free(sl_instance_t *instance) {
    wt_instance_t *in = (wt_instance_t *)instance;
    if (in->store != NULL) {
        wasmtime_store_delete(in->store);
    }
    links_free(in->own_links);
    free(in->funcs);
    sl_instance_head_deinit(instance);
    free(in);
}

static bool has_frames(wasmtime_error_t *error) {
    wasm_frame_vec_t frames;
    wasmtime_error_wasm_trace(error, &frames);
    bool some = frames.size != 0;
    wasm_frame_vec_delete(&frames);
    return some;
}

static sl_status_t instantiate(wt_instance_t *in, const wt_links_t *links, sl_err_t *err) {
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = wasmtime_instance_pre_instantiate(links->pre, in->ctx, &in->instance, &trap);
    if (trap != NULL || (error != NULL && has_frames(error))) {
        return set_trap(err, &in->head, error, trap);
    }
    if (error != NULL) {
        return set_error(err, SL_NO_MEMORY, "cannot make an instance", error);
    }
    in->started = true;
    find_instance_memory(in);
    refresh(in);
    return SL_OK;
}

static sl_status_t wt_instance_new(sl_module_t *m, const sl_import_t *imports, size_t n, uint64_t max_memory_bytes, void *user,
                                   sl_instance_t **out, sl_err_t *err) {
    wt_instance_t *in = calloc(1, sizeof(*in));
    if (in == NULL) {
        return no_memory(err);
    }
    sl_instance_head_init(&in->head, m, user);
    wt_links_t *links = NULL;
    sl_status_t rc = get_links(in, imports, n, &links, err);
    if (rc == SL_OK) {
        in->store = wasmtime_store_new(((wt_engine_t *)m->engine)->wasm, in, NULL);
        in->ctx = wasmtime_store_context(in->store);
        int64_t max = max_memory_bytes > INT64_MAX ? INT64_MAX : (int64_t)max_memory_bytes;
        wasmtime_store_limiter(in->store, max, MAX_TABLE_ELEMENTS, 1, MAX_TABLES, 1);
        rc = instantiate(in, links, err);
    }
    if (rc != SL_OK) {
        wt_instance_free(&in->head);
        return rc;
    }
    *out = &in->head;
    return SL_OK;
}

static size_t slots_of(const char *sig) {
    size_t n_params = strcspn(sig, ":");
    size_t n_results = strlen(sig) - n_params - 1;
    return n_params > n_results ? n_params : n_results;
}

static sl_func_t *wt_instance_func(sl_instance_t *instance, const sl_extern_t *export) {
    wt_instance_t *in = (wt_instance_t *)instance;
    const sl_module_info_t *info = &instance->module->info;
    if (in->funcs == NULL) {
        in->funcs = calloc(info->n_exports, sizeof(*in->funcs));
    }
    wasmtime_extern_t item;
    if (in->funcs == NULL || !lookup(in, export->name, &item) || item.kind != WASMTIME_EXTERN_FUNC) {
        return NULL;
    }
    wt_func_t *f = &in->funcs[export - info->exports];
    f->func = item.of.func;
    f->n_slots = slots_of(export->sig);
    return (sl_func_t *)f;
}

static sl_status_t wt_instance_call(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, sl_err_t *err) {
    wt_instance_t *in = (wt_instance_t *)instance;
    const wt_func_t *f = (const wt_func_t *)func;
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = wasmtime_func_call_unchecked(in->ctx, &f->func, (wasmtime_val_raw_t *)args, f->n_slots, &trap);
    if (__builtin_expect(error != NULL || trap != NULL, 0)) {
        return set_trap(err, instance, error, trap);
    }
    return SL_OK;
}

const sl_engine_ops_t sl_wasmtime_ops = {
    .name = "wasmtime",
    .engine_new = wt_engine_new,
    .engine_free = wt_engine_free,
    .module_new = wt_module_new,
    .module_free = wt_module_free,
    .module_serialize = wt_module_serialize,
    .instance_new = wt_instance_new,
    .instance_free = wt_instance_free,
    .instance_func = wt_instance_func,
    .instance_call = wt_instance_call,
    .instance_refresh = wt_instance_refresh,
};
