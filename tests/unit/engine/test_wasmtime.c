/* What only a real engine has: traps of all kinds and their texts, the start section, limits, settings, threads. */
#include "cmocka_all.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine.h"
#include "engine_signals.h"
#include "sl_file.h"

typedef struct {
    sl_engine_t *engine;
    sl_module_t *module;
    sl_instance_t *instance;
    sl_err_t err;
    size_t mem_size; /* what host functions saw */
    uint8_t byte;
    int32_t nested;
} rig_t;

static sl_status_t host_look(sl_instance_t *in, sl_raw_t *args) {
    rig_t *rig = in->user;
    (void)args;
    sl_instance_refresh(in);
    rig->mem_size = in->mem_size;
    rig->byte = in->mem_size > 5 ? in->mem[5] : 0;
    return SL_OK;
}

static sl_status_t host_nested(sl_instance_t *in, sl_raw_t *args) {
    rig_t *rig = in->user;
    sl_func_t *f;
    sl_raw_t inner[1] = {{.i32 = 0}};
    (void)args;
    if (sl_instance_func(in, "alloc", ":i", &f, &rig->err) != SL_OK || sl_instance_call(in, f, inner, &rig->err) != SL_OK) {
        return SL_TRAP;
    }
    rig->nested = inner[0].i32;
    return SL_OK;
}

static sl_status_t host_fail(sl_instance_t *in, sl_raw_t *args) {
    (void)in;
    (void)args;
    return SL_FAILED;
}

static sl_status_t host_seven(sl_instance_t *in, sl_raw_t *args) {
    (void)in;
    args[0].i32 = 7;
    return SL_OK;
}

static sl_status_t host_fill(sl_instance_t *in, sl_raw_t *args) {
    (void)in;
    args[0].i32 = -1; /* no result is wanted; the slot must be there all the same */
    return SL_OK;
}

static const sl_import_t imports[] = {
    {"env", "look", ":", host_look},    {"env", "nested", ":", host_nested}, {"env", "fail", ":", host_fail},
    {"env", "seven", ":i", host_seven}, {"env", "fill", ":", host_fill},
};
enum { N_IMPORTS = sizeof(imports) / sizeof(imports[0]) };

static int set_up(void **state) {
    rig_t *rig = calloc(1, sizeof(*rig));
    *state = rig;
    return sl_engine_new(NULL, &rig->engine, &rig->err) == SL_OK ? 0 : -1;
}

static void drop(rig_t *rig) {
    sl_instance_free(rig->instance);
    sl_module_unref(rig->module);
    rig->instance = NULL;
    rig->module = NULL;
}

static int tear_down(void **state) {
    rig_t *rig = *state;
    drop(rig);
    sl_engine_free(rig->engine);
    free(rig);
    return 0;
}

static sl_status_t start_limited(rig_t *rig, const char *wat, uint64_t max_memory_bytes) {
    sl_instance_limits_t limits = {.max_memory_bytes = max_memory_bytes};
    engine_signals_use();
    drop(rig);
    sl_status_t rc = sl_module_compile(rig->engine, sl_cstr(wat), &rig->module, &rig->err);
    return rc == SL_OK ? sl_instance_new(rig->module, imports, N_IMPORTS, &limits, rig, &rig->instance, &rig->err) : rc;
}

static sl_status_t start(rig_t *rig, const char *wat) {
    return start_limited(rig, wat, 0);
}

static void started(rig_t *rig, const char *wat) {
    sl_status_t rc = start(rig, wat);
    if (rc != SL_OK) {
        fail_msg("%s", rig->err.text);
    }
}

static sl_status_t call(rig_t *rig, const char *name, const char *sig, sl_raw_t *args) {
    sl_func_t *f;
    sl_raw_t spare[1];
    assert_int_equal(sl_instance_func(rig->instance, name, sig, &f, &rig->err), SL_OK);
    return sl_instance_call(rig->instance, f, args != NULL ? args : spare, &rig->err);
}

static void traps_with(rig_t *rig, const char *body, const char *reason) {
    char wat[1024];
    snprintf(
        wat, sizeof(wat),
        "(module (memory 1) (table 2 funcref) (type $v (func)) (func $w (param i32)) (elem (i32.const 1) $w) (func (export \"f\") %s))",
        body);
    started(rig, wat);
    assert_int_equal(call(rig, "f", ":", NULL), SL_TRAP);
    if (strncmp(rig->err.text, reason, strlen(reason)) != 0) {
        fail_msg("\"%s\" does not begin with \"%s\"", rig->err.text, reason);
    }
}

static void each_trap_has_its_reason(void **state) {
    rig_t *rig = *state;
    traps_with(rig, "unreachable", "unreachable code was reached\n");
    traps_with(rig, "(drop (i32.load (i32.const 65533)))", "memory access out of bounds\n");
    traps_with(rig, "(drop (i32.load (i32.const -4)))", "memory access out of bounds\n");
    traps_with(rig, "(drop (i32.div_s (i32.const 1) (i32.const 0)))", "integer division by zero\n");
    traps_with(rig, "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", "integer overflow\n");
    traps_with(rig, "(drop (i32.trunc_f32_s (f32.const 1e30)))", "integer overflow\n");
    traps_with(rig, "(drop (i32.trunc_f32_s (f32.const nan)))", "a float that no integer can hold\n");
    traps_with(rig, "(call_indirect (type $v) (i32.const 0))", "call through an empty table entry\n");
    traps_with(rig, "(call_indirect (type $v) (i32.const 1))", "call through a table entry of another type\n");
    traps_with(rig, "(call_indirect (type $v) (i32.const 2))", "table access out of bounds\n");
}

static void endless_recursion_is_a_trap_with_a_bounded_backtrace(void **state) {
    rig_t *rig = *state;
    started(rig, "(module $deep (func $again (export \"f\") (call $again)))");
    assert_int_equal(call(rig, "f", ":", NULL), SL_TRAP);
    assert_int_equal(strncmp(rig->err.text, "stack overflow\n  at again (deep)\n", 33), 0);
    unsigned frames = 0;
    for (const char *p = rig->err.text; (p = strstr(p, "\n  at ")) != NULL; p++) {
        frames++;
    }
    assert_int_equal(frames, 20);
}

static void a_trap_that_nobody_wants_to_read_is_still_a_trap(void **state) {
    rig_t *rig = *state;
    sl_func_t *f;
    sl_raw_t args[1];
    started(rig, "(module (func (export \"f\") unreachable))");
    assert_int_equal(sl_instance_func(rig->instance, "f", ":", &f, NULL), SL_OK);
    assert_int_equal(sl_instance_call(rig->instance, f, args, NULL), SL_TRAP);
}

static void frames_without_names_show_index_and_digest(void **state) {
    rig_t *rig = *state;
    started(rig, "(module (func) (func (export \"f\") unreachable))");
    const uint8_t *sha = sl_module_info(rig->module)->sha256;
    char frame[64];
    snprintf(frame, sizeof(frame), "\n  at #1 (module %02x%02x%02x%02x)", sha[0], sha[1], sha[2], sha[3]);
    assert_int_equal(call(rig, "f", ":", NULL), SL_TRAP);
    assert_non_null(strstr(rig->err.text, frame));
}

static void names_from_the_guest_cannot_write_lines(void **state) {
    rig_t *rig = *state;
    started(rig, "(module (@name \"m\\n  at x\") (func (@name \"a\\0a  at fake (y)\\1b[31m\") (export \"f\") unreachable))");
    assert_int_equal(call(rig, "f", ":", NULL), SL_TRAP);
    const char *first = strchr(rig->err.text, '\n');
    assert_non_null(first);
    assert_null(strchr(first + 1, '\n'));
    assert_null(strchr(rig->err.text, 0x1b));
}

static void very_long_names_are_cut(void **state) {
    rig_t *rig = *state;
    char wat[4096], name[2000];
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    snprintf(wat, sizeof(wat), "(module (func $%s (export \"f\") unreachable))", name);
    started(rig, wat);
    assert_int_equal(call(rig, "f", ":", NULL), SL_TRAP);
    assert_true(strlen(rig->err.text) < 300);
    assert_non_null(strstr(rig->err.text, "nnnn (module"));
}

static void a_host_function_that_fails_without_a_reason_is_named(void **state) {
    rig_t *rig = *state;
    started(rig, "(module (import \"env\" \"fail\" (func $fail)) (func $f (export \"f\") (call $fail)))");
    assert_int_equal(call(rig, "f", ":", NULL), SL_TRAP);
    assert_int_equal(strncmp(rig->err.text, "host function env.fail failed\n  at f (", 38), 0);
}

static void a_start_section_that_traps_is_a_trap(void **state) {
    rig_t *rig = *state;
    assert_int_equal(start(rig, "(module $m (func $begin unreachable) (start $begin))"), SL_TRAP);
    assert_string_equal(rig->err.text, "unreachable code was reached\n  at begin (m)");
    assert_int_equal(start(rig, "(module $m (import \"env\" \"fail\" (func $fail)) (func $begin (call $fail)) (start $begin))"), SL_TRAP);
    assert_string_equal(rig->err.text, "host function env.fail failed\n  at begin (m)");
}

static void a_start_section_may_call_host_functions_that_use_memory_and_guest(void **state) {
    rig_t *rig = *state;
    started(rig, "(module (import \"env\" \"look\" (func $look)) (import \"env\" \"nested\" (func $nested))"
                 "  (memory (export \"memory\") 2) (data (i32.const 5) \"Q\")"
                 "  (func (export \"alloc\") (result i32) (call $look) (i32.const 99))"
                 "  (func $begin (call $look) (call $nested)) (start $begin))");
    assert_int_equal(rig->mem_size, 2 * 65536);
    assert_int_equal(rig->byte, 'Q');
    assert_int_equal(rig->nested, 99);
    rig->nested = 0;
    assert_int_equal(call(rig, "alloc", ":i", (sl_raw_t[1]){{.i32 = 0}}), SL_OK);
}

static void data_outside_of_memory_is_a_trap(void **state) {
    rig_t *rig = *state;
    assert_int_equal(start(rig, "(module (memory 1) (data (i32.const 65535) \"ab\"))"), SL_TRAP);
    assert_int_equal(strncmp(rig->err.text, "memory access out of bounds", 27), 0);
}

static void memory_may_be_absent_or_have_another_name(void **state) {
    rig_t *rig = *state;
    started(rig, "(module (import \"env\" \"look\" (func $look)) (func (export \"f\") (call $look)))");
    rig->mem_size = 1;
    assert_int_equal(call(rig, "f", ":", NULL), SL_OK);
    assert_int_equal(rig->mem_size, 0);
    assert_null(rig->instance->mem);
    started(rig, "(module (memory (export \"mem\") 3))");
    sl_instance_refresh(rig->instance);
    assert_int_equal(rig->instance->mem_size, 3 * 65536);
    started(rig, "(module (memory 3))");
    assert_int_equal(rig->instance->mem_size, 0);
}

static void the_base_of_memory_stays_when_it_grows(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1] = {{.i32 = 5000}};
    started(rig, "(module (memory (export \"memory\") 1) (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0))))");
    uint8_t *before = rig->instance->mem;
    assert_int_equal(call(rig, "grow", "i:i", args), SL_OK);
    assert_int_equal(args[0].i32, 1);
    sl_instance_refresh(rig->instance);
    assert_ptr_equal(rig->instance->mem, before);
    rig->instance->mem[5000 * 65536] = 1;
}

static void only_functions_can_be_imported(void **state) {
    rig_t *rig = *state;
    assert_int_equal(start(rig, "(module (import \"env\" \"memory\" (memory 1)))"), SL_INVALID);
    assert_non_null(strstr(rig->err.text, "env.memory"));
    assert_int_equal(start(rig, "(module (import \"env\" \"g\" (global i32)))"), SL_INVALID);
    assert_int_equal(start(rig, "(module (import \"env\" \"t\" (table 1 funcref)))"), SL_INVALID);
}

static void a_function_may_be_imported_twice(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1];
    started(rig, "(module (import \"env\" \"seven\" (func $a (result i32))) (import \"env\" \"seven\" (func $b (result i32)))"
                 "  (func (export \"f\") (result i32) (i32.add (call $a) (call $b))))");
    assert_int_equal(call(rig, "f", ":i", args), SL_OK);
    assert_int_equal(args[0].i32, 14);
}

static void a_host_function_always_has_room_for_one_result(void **state) {
    rig_t *rig = *state;
    started(rig, "(module (import \"env\" \"fill\" (func $fill)) (func (export \"f\") (call $fill)))");
    assert_int_equal(call(rig, "f", ":", NULL), SL_OK);
}

static void what_filters_do_not_need_is_refused(void **state) {
    rig_t *rig = *state;
    assert_int_equal(start(rig, "(module (memory 1) (memory 1))"), SL_INVALID);
    assert_int_equal(start(rig, "(module (memory i64 1))"), SL_INVALID);
    assert_int_equal(start(rig, "(module (memory 1 1 shared))"), SL_INVALID);
    assert_int_equal(start(rig, "(module (type (struct)))"), SL_INVALID);
}

static void features_that_toolchains_declare_are_accepted(void **state) {
    rig_t *rig = *state;
    started(rig, "(module (memory 1) (table 1 10 funcref) (global (export \"g\") (mut i32) (i32.const 0))" /* mutable globals */
                 "  (func (param i32) (result i32 i32) local.get 0 i32.extend8_s i32.const 1)"             /* multivalue, sign extension */
                 "  (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 8)))"                        /* bulk memory */
                 "  (func (result i32) (i32.trunc_sat_f32_s (f32.const 1)))"
                 "  (func (drop (table.grow (ref.null func) (i32.const 1))))" /* reference types */
                 "  (func (drop (i32x4.splat (i32.const 1)))))");
}

static void a_table_cannot_grow_without_end(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1] = {{.i32 = 1 << 20}};
    started(rig, "(module (table 1 funcref) (func (export \"grow\") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))");
    assert_int_equal(call(rig, "grow", "i:i", args), SL_OK);
    assert_int_equal(args[0].i32, -1);
}

static void memory_that_is_not_exported_is_limited_too(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1] = {{.i32 = 2}};
    const char *wat = "(module (memory 1) (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0))))";
    assert_int_equal(start_limited(rig, wat, 2 * 65536), SL_OK);
    assert_int_equal(call(rig, "grow", "i:i", args), SL_OK);
    assert_int_equal(args[0].i32, -1);
}

static void text_and_binary_that_are_wrong_say_where(void **state) {
    rig_t *rig = *state;
    assert_int_equal(start(rig, "(module (func (i32.nonsense)))"), SL_INVALID);
    assert_non_null(strstr(rig->err.text, "i32.nonsense"));
    assert_null(strchr(rig->err.text, '\n'));
    assert_int_equal(start(rig, "(module (func (result i32) i64.const 1))"), SL_INVALID);
    assert_non_null(strstr(rig->err.text, "type mismatch"));
}

/* (module (func (export "f") (param i32) (result i32) local.get 0)) with a data segment and a custom section */
static const uint8_t binary[] = {0, 'a',  's', 'm', 1, 0, 0,    0, 1,    6, 1,   0x60, 1, 0x7f, 1,   0x7f, 3,   2,  1,
                                 0, 5,    3,   1,   0, 1, 7,    5, 1,    1, 'f', 0,    0, 10,   6,   1,    4,   0,  0x20,
                                 0, 0x0b, 11,  7,   1, 0, 0x41, 0, 0x0b, 1, 'x', 0,    5, 4,    'n', 'a',  'm', 'e'};

static void a_binary_module_cut_at_any_length_is_refused_or_whole(void **state) {
    rig_t *rig = *state;
    for (size_t len = 0; len <= sizeof(binary); len++) {
        char *copy = malloc(len + 1); /* so that the sanitizer knows where it ends */
        memcpy(copy, binary, len);
        sl_status_t rc = sl_module_compile(rig->engine, sl_str(copy, len), &rig->module, &rig->err);
        assert_true(rc == SL_OK || rc == SL_INVALID);
        assert_true(rc == SL_OK || len < sizeof(binary));
        if (rc == SL_OK) {
            drop(rig);
        }
        free(copy);
    }
}

static void a_binary_module_with_any_byte_changed_is_refused_or_runs(void **state) {
    rig_t *rig = *state;
    uint8_t copy[sizeof(binary)];
    engine_signals_use();
    for (size_t i = 8; i < sizeof(binary); i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(copy, binary, sizeof(binary));
            copy[i] ^= (uint8_t)(1U << bit);
            if (sl_module_compile(rig->engine, sl_str(copy, sizeof(copy)), &rig->module, &rig->err) == SL_OK) {
                (void)sl_instance_new(rig->module, imports, N_IMPORTS, NULL, rig, &rig->instance, &rig->err);
                drop(rig);
            }
        }
    }
}

static void a_larger_stack_lets_a_guest_go_deeper(void **state) {
    rig_t *rig = *state;
    const char *wat = "(module (func $down (export \"down\") (param i32) (result i32)"
                      "  (if (result i32) (local.get 0) (then (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))"
                      "  (else (i32.const 0)))))";
    sl_raw_t args[1] = {{.i32 = 40000}};
    started(rig, wat);
    assert_int_equal(call(rig, "down", "i:i", args), SL_TRAP);
    drop(rig);
    sl_engine_free(rig->engine);
    sl_engine_conf_t conf = {.max_stack_bytes = 4 << 20};
    assert_int_equal(sl_engine_new(&conf, &rig->engine, &rig->err), SL_OK);
    started(rig, wat);
    args[0].i32 = 40000;
    assert_int_equal(call(rig, "down", "i:i", args), SL_OK);
    assert_int_equal(args[0].i32, 40000);
}

static void a_stack_that_no_thread_has_is_refused(void **state) {
    rig_t *rig = *state;
    sl_engine_t *engine;
    sl_engine_conf_t conf = {.max_stack_bytes = 1024};
    assert_int_equal(sl_engine_new(&conf, &engine, &rig->err), SL_INVALID);
    conf.max_stack_bytes = 1U << 30;
    assert_int_equal(sl_engine_new(&conf, &engine, &rig->err), SL_INVALID);
    assert_non_null(strstr(rig->err.text, "stack"));
}

static void settings_leave_the_environment_as_it_was(void **state) {
    rig_t *rig = *state;
    sl_engine_t *engine;
    sl_engine_conf_t conf = {.backtraces = true};
    setenv("WASMTIME_BACKTRACE_DETAILS", "mine", 1);
    assert_int_equal(sl_engine_new(&conf, &engine, &rig->err), SL_OK);
    sl_engine_free(engine);
    assert_string_equal(getenv("WASMTIME_BACKTRACE_DETAILS"), "mine");
    unsetenv("WASMTIME_BACKTRACE_DETAILS");
    assert_int_equal(sl_engine_new(&conf, &engine, &rig->err), SL_OK);
    sl_engine_free(engine);
    assert_null(getenv("WASMTIME_BACKTRACE_DETAILS"));
}

/* NULL without a compiler for guests, which is not this test's matter. */
static char *build_with_dwarf(rig_t *rig, const char *source, size_t *len) {
    char dir[] = "/tmp/sl-dwarf-XXXXXX", path[64], command[400];
    sl_buf_t file;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/crash.c", dir);
    assert_int_equal(sl_file_write_atomic(path, sl_cstr(source), 0600, &rig->err), SL_OK);
    snprintf(command, sizeof(command),
             "cd %s && clang-19 --target=wasm32 -g -O0 -nostdlib -Wl,--no-entry -o crash.wasm crash.c 2>/dev/null", dir);
    bool built = system(command) == 0;
    snprintf(path, sizeof(path), "%s/crash.wasm", dir);
    sl_buf_init(&file, 1 << 20);
    built = built && sl_file_read(path, &file, &rig->err) == SL_OK;
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    *len = file.len;
    return built ? file.data : NULL;
}

static void backtraces_show_source_positions_when_asked_for(void **state) {
    rig_t *rig = *state;
    size_t len;
    char *wasm = build_with_dwarf(rig,
                                  "static int crash(int x) {\n"
                                  "    return 7 / x;\n"
                                  "}\n"
                                  "__attribute__((export_name(\"f\"))) void f(void) {\n"
                                  "    crash(0);\n"
                                  "}\n",
                                  &len);
    if (wasm == NULL) {
        skip();
    }
    for (int wanted = 0; wanted < 2; wanted++) {
        drop(rig);
        sl_engine_free(rig->engine);
        sl_engine_conf_t conf = {.backtraces = wanted};
        assert_int_equal(sl_engine_new(&conf, &rig->engine, &rig->err), SL_OK);
        engine_signals_use();
        assert_int_equal(sl_module_compile(rig->engine, sl_str(wasm, len), &rig->module, &rig->err), SL_OK);
        assert_true(sl_module_info(rig->module)->has_dwarf);
        assert_int_equal(sl_instance_new(rig->module, NULL, 0, NULL, rig, &rig->instance, &rig->err), SL_OK);
        assert_int_equal(call(rig, "f", ":", NULL), SL_TRAP);
        const char *inner = strstr(rig->err.text, "\n  at crash ("), *outer = strstr(rig->err.text, "\n  at f (");
        assert_true(inner != NULL && outer > inner);
        assert_true((strstr(inner, "crash.c:2:") != NULL) == wanted && (strstr(outer, "crash.c:5:") != NULL) == wanted);
    }
    free(wasm);
}

typedef struct {
    rig_t *rig;
    const sl_import_t *table;
    int32_t expected;
    bool ok;
} worker_t;

static sl_status_t host_nine(sl_instance_t *in, sl_raw_t *args) {
    (void)in;
    args[0].i32 = 9;
    return SL_OK;
}

static void *work(void *arg) {
    worker_t *w = arg;
    sl_raw_t args[1];
    sl_err_t err;
    w->ok = true;
    for (int i = 0; i < 200 && w->ok; i++) {
        sl_instance_t *in;
        sl_func_t *f;
        w->ok = sl_instance_new(w->rig->module, w->table, N_IMPORTS, NULL, w->rig, &in, &err) == SL_OK;
        if (w->ok) {
            w->ok = sl_instance_func(in, "f", ":i", &f, &err) == SL_OK && sl_instance_call(in, f, args, &err) == SL_OK &&
                    args[0].i32 == w->expected;
            sl_instance_free(in);
        }
    }
    return NULL;
}

static void threads_share_a_module_also_with_different_tables(void **state) {
    rig_t *rig = *state;
    sl_import_t other[N_IMPORTS];
    memcpy(other, imports, sizeof(imports));
    other[3].fn = host_nine;
    const char *wat = "(module (import \"env\" \"seven\" (func $seven (result i32))) (func (export \"f\") (result i32) (call $seven)))";
    assert_int_equal(sl_module_compile(rig->engine, sl_cstr(wat), &rig->module, &rig->err), SL_OK);
    worker_t workers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        workers[i] = (worker_t){rig, i % 2 ? other : imports, i % 2 ? 9 : 7, false};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(workers[i].ok);
    }
}

static int in_child(rig_t *rig) {
    sl_raw_t args[1] = {{.i32 = 0}};
    sl_instance_t *fresh;
    engine_signals_use();
    /* the parent's instance, then one of the parent's module */
    if (call(rig, "ok", ":i", args) != SL_OK || args[0].i32 != 7 || call(rig, "boom", ":", NULL) != SL_TRAP) {
        return 1;
    }
    if (sl_instance_new(rig->module, imports, N_IMPORTS, NULL, rig, &fresh, &rig->err) != SL_OK) {
        return 2;
    }
    sl_instance_free(fresh);
    return 0;
}

static void a_live_instance_works_in_a_forked_child(void **state) {
    rig_t *rig = *state;
    started(rig, "(module (import \"env\" \"seven\" (func $seven (result i32))) (memory (export \"memory\") 1)"
                 "  (func (export \"ok\") (result i32) (call $seven)) (func (export \"boom\") (drop (i32.load (i32.const -4)))))");
    pid_t pid = fork();
    if (pid == 0) {
        _exit(in_child(rig));
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(each_trap_has_its_reason),
        EACH(endless_recursion_is_a_trap_with_a_bounded_backtrace),
        EACH(a_trap_that_nobody_wants_to_read_is_still_a_trap),
        EACH(frames_without_names_show_index_and_digest),
        EACH(names_from_the_guest_cannot_write_lines),
        EACH(very_long_names_are_cut),
        EACH(a_host_function_that_fails_without_a_reason_is_named),
        EACH(a_start_section_that_traps_is_a_trap),
        EACH(a_start_section_may_call_host_functions_that_use_memory_and_guest),
        EACH(data_outside_of_memory_is_a_trap),
        EACH(memory_may_be_absent_or_have_another_name),
        EACH(the_base_of_memory_stays_when_it_grows),
        EACH(only_functions_can_be_imported),
        EACH(a_function_may_be_imported_twice),
        EACH(a_host_function_always_has_room_for_one_result),
        EACH(what_filters_do_not_need_is_refused),
        EACH(features_that_toolchains_declare_are_accepted),
        EACH(a_table_cannot_grow_without_end),
        EACH(memory_that_is_not_exported_is_limited_too),
        EACH(text_and_binary_that_are_wrong_say_where),
        EACH(a_binary_module_cut_at_any_length_is_refused_or_whole),
        EACH(a_binary_module_with_any_byte_changed_is_refused_or_runs),
        EACH(a_larger_stack_lets_a_guest_go_deeper),
        EACH(a_stack_that_no_thread_has_is_refused),
        EACH(settings_leave_the_environment_as_it_was),
        EACH(backtraces_show_source_positions_when_asked_for),
        EACH(threads_share_a_module_also_with_different_tables),
        EACH(a_live_instance_works_in_a_forked_child),
    };
    return engine_signals_save() == 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
