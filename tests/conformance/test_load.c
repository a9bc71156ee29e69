/*
 * What makes a module a filter, and how it is started: small modules in WebAssembly text, tried on the canary as `sluice check` and
 * `nginx -t` do it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine_signals.h"
#include "mh.h"

#define MEMORY "(memory (export \"memory\") 1)"
#define MALLOC "(func (export \"malloc\") (param i32) (result i32) (i32.const 4096))"
#define MARKER(v) "(func (export \"proxy_abi_version_" v "\"))"
#define REST MEMORY MALLOC MARKER("0_2_1")
#define LOG "(import \"env\" \"proxy_log\" (func $log (param i32 i32 i32) (result i32)))"
/* Says one of the words below. */
#define WORDS "(data (i32.const 0) \"one two thr four\")"
#define SAY(n) "(drop (call $log (i32.const 2) (i32.const " n ") (i32.const 3)))"
#define ONE SAY("0")
#define TWO SAY("4")
#define THREE SAY("8")

typedef struct {
    const char *title;
    const char *body; /* of the module */
    sl_status_t status;
    const char *text;   /* in the error; NULL: any */
    const char *log[3]; /* in this order, in different lines */
    const char *silent; /* not in the log */
} load_case_t;

static const load_case_t cases[] = {
    /* ---- what is a filter ---- */
    {"a module with marker, memory and allocator is one", REST, SL_OK, NULL, {NULL}, NULL},
    {"ABI 0.2.0 is known", MEMORY MALLOC MARKER("0_2_0"), SL_OK, NULL, {NULL}, NULL},
    {"ABI 0.1.0 is known", MEMORY MALLOC MARKER("0_1_0"), SL_OK, NULL, {NULL}, NULL},
    {"a later patch of 0.2 is known", MEMORY MALLOC MARKER("0_2_100"), SL_OK, NULL, {NULL}, NULL},
    {"without a marker it is none", MEMORY MALLOC, SL_INVALID, "proxy_abi_version", {NULL}, NULL},
    {"a marker of a version to come is none", MEMORY MALLOC MARKER("0_3_0"), SL_INVALID, "proxy_abi_version", {NULL}, NULL},
    {"a marker with something behind it is none", MEMORY MALLOC MARKER("0_2_1x"), SL_INVALID, "proxy_abi_version", {NULL}, NULL},
    {"a global is no marker",
     MEMORY MALLOC "(global (export \"proxy_abi_version_0_2_1\") i32 (i32.const 0))",
     SL_INVALID,
     "proxy_abi_version",
     {NULL},
     NULL},
    {"the first marker decides",
     MEMORY MALLOC MARKER("0_1_0")
         MARKER("0_2_1") "(func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32) i32.const 0)",
     SL_INVALID,
     "proxy_on_request_headers",
     {NULL},
     NULL},
    {"without an allocator it is none", MEMORY MARKER("0_2_1"), SL_INVALID, "malloc", {NULL}, NULL},
    {"proxy_on_memory_allocate is an allocator",
     MEMORY MARKER("0_2_1") "(func (export \"proxy_on_memory_allocate\") (param i32) (result i32) i32.const 4096)",
     SL_OK,
     NULL,
     {NULL},
     NULL},
    {"an allocator of another type is an error",
     MEMORY MARKER("0_2_1") "(func (export \"malloc\") (param i64) (result i32) i32.const 0)",
     SL_INVALID,
     "malloc",
     {NULL},
     NULL},
    {"a callback of another type is an error",
     REST "(func (export \"proxy_on_tick\") (param i32) (result i32) i32.const 0)",
     SL_INVALID,
     "proxy_on_tick",
     {NULL},
     NULL},
    {"a callback under its second name has its type too",
     REST "(func (export \"proxy_on_grpc_trailing_metadata\") (param i32))",
     SL_INVALID,
     "proxy_on_grpc_trailing_metadata",
     {NULL},
     NULL},
    {"a callback under its second name is taken",
     REST "(func (export \"proxy_on_grpc_trailing_metadata\") (param i32 i32 i32))",
     SL_OK,
     NULL,
     {NULL},
     NULL},
    {"other exports do not matter",
     REST "(func (export \"something\") (param f32)) (global (export \"g\") i32 (i32.const 1))",
     SL_OK,
     NULL,
     {NULL},
     NULL},
    {"without memory it is none", MALLOC MARKER("0_2_1"), SL_INVALID, "memory", {NULL}, NULL},

    /* ---- imports ---- */
    {"an unknown import is named", "(import \"env\" \"no_such_function\" (func))" REST, SL_INVALID, "env.no_such_function", {NULL}, NULL},
    {"an import from an unknown module is named",
     "(import \"wasi_snapshot_preview2\" \"fd_write\" (func))" REST,
     SL_INVALID,
     "wasi_snapshot_preview2.fd_write",
     {NULL},
     NULL},
    {"an import of another type is named",
     "(import \"env\" \"proxy_log\" (func (param i32) (result i32)))" REST,
     SL_INVALID,
     "env.proxy_log",
     {NULL},
     NULL},
    {"only functions can be imported", "(import \"env\" \"memory\" (memory 1))" MALLOC MARKER("0_2_1"), SL_INVALID, "memory", {NULL}, NULL},
    {"proxy_continue_request may have a result or none",
     "(import \"env\" \"proxy_continue_request\" (func (result i32)))" REST,
     SL_OK,
     NULL,
     {NULL},
     NULL},
    {"proxy_continue_request may have none", "(import \"env\" \"proxy_continue_request\" (func))" REST, SL_OK, NULL, {NULL}, NULL},
    {"WASI is there under its old name",
     "(import \"wasi_unstable\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32)))" REST,
     SL_OK,
     NULL,
     {NULL},
     NULL},
    {"proxy_get_log_level of WasmX, with two parameters, is another type",
     "(import \"env\" \"proxy_get_log_level\" (func (param i32 i32) (result i32)))" REST,
     SL_INVALID,
     "proxy_get_log_level",
     {NULL},
     NULL},

    /* ---- start functions ---- */
    {"_initialize runs, then main, and _start does not",
     LOG REST WORDS "(func (export \"main\") (param i32 i32) (result i32) " TWO "(i32.const 7)) (func (export \"_initialize\") " ONE ")"
                    "(func (export \"_start\") " THREE ")",
     SL_OK,
     NULL,
     {"one", "two"},
     "thr"},
    {"_initialize runs, then __main_void",
     LOG REST WORDS "(func (export \"__main_void\") (result i32) " TWO "(i32.const 0)) (func (export \"_initialize\") " ONE ")",
     SL_OK,
     NULL,
     {"one", "two"},
     NULL},
    {"_start runs alone",
     LOG REST WORDS "(func (export \"_start\") " ONE ") (func (export \"main\") (param i32 i32) (result i32) " TWO "(i32.const 0))",
     SL_OK,
     NULL,
     {"one"},
     "two"},
    {"the start section runs before",
     LOG REST WORDS "(func $s " ONE ") (start $s) (func (export \"_initialize\") " TWO ")",
     SL_OK,
     NULL,
     {"one", "two"},
     NULL},
    {"contexts come after the start",
     LOG REST WORDS "(func (export \"_initialize\") " ONE ") (func (export \"proxy_on_context_create\") (param i32 i32) " TWO ")"
                    "(func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) " THREE "(i32.const 1))",
     SL_OK,
     NULL,
     {"one", "two", "thr"},
     NULL},
    {"a trap at the start is told with the name of the filter",
     REST "(func (export \"_initialize\") unreachable)",
     SL_TRAP,
     "tried",
     {NULL},
     NULL},
    {"a trap in the start section too", REST "(func $s unreachable) (start $s)", SL_TRAP, "tried", {NULL}, NULL},
    {"a host call that may not be used at the start traps and is named",
     "(import \"env\" \"proxy_set_tick_period_milliseconds\" (func $f (param i32) (result i32)))" REST
     "(func (export \"_start\") (drop (call $f (i32.const 1))))",
     SL_TRAP,
     "proxy_set_tick_period_milliseconds",
     {NULL},
     NULL},
    {"random numbers, clocks and variables may be used at the start",
     "(import \"wasi_snapshot_preview1\" \"random_get\" (func $r (param i32 i32) (result i32)))"
     "(import \"wasi_snapshot_preview1\" \"clock_time_get\" (func $c (param i32 i64 i32) (result i32)))"
     "(import \"wasi_snapshot_preview1\" \"environ_sizes_get\" (func $e (param i32 i32) (result i32)))" REST
     "(func (export \"_start\") (if (i32.or (call $r (i32.const 0) (i32.const 8)) (i32.or (call $c (i32.const 0) (i64.const 0) (i32.const "
     "16))"
     " (call $e (i32.const 32) (i32.const 36)))) (then unreachable)))",
     SL_OK,
     NULL,
     {NULL},
     NULL},
    {"proc_exit with 0 ends _start well",
     "(import \"wasi_snapshot_preview1\" \"proc_exit\" (func $x (param i32)))" REST
     "(func (export \"_start\") (call $x (i32.const 0)) unreachable)",
     SL_OK,
     NULL,
     {NULL},
     NULL},
    {"proc_exit with another code does not",
     "(import \"wasi_snapshot_preview1\" \"proc_exit\" (func $x (param i32)))" REST "(func (export \"_start\") (call $x (i32.const 3)))",
     SL_TRAP,
     "tried",
     {NULL},
     NULL},
    {"endless recursion is a trap", REST "(func $r (call $r)) (func (export \"_initialize\") (call $r))", SL_TRAP, "tried", {NULL}, NULL},
    {"stdout is in the log even without a newline",
     "(import \"wasi_snapshot_preview1\" \"fd_write\" (func $w (param i32 i32 i32 i32) (result i32)))" REST
     "(data (i32.const 64) \"\\00\\00\\00\\00\\05\\00\\00\\00\") (data (i32.const 0) \"words\")"
     "(func (export \"_start\") (drop (call $w (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 80))))",
     SL_OK,
     NULL,
     {"words"},
     NULL},

    /* ---- refusals ---- */
    {"vm_start that answers 0 refuses",
     REST "(func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) i32.const 0)",
     SL_INVALID,
     "tried",
     {NULL},
     NULL},
    {"configure that answers 0 refuses",
     REST "(func (export \"proxy_on_configure\") (param i32 i32) (result i32) i32.const 0)",
     SL_INVALID,
     "tried",
     {NULL},
     NULL},
    {"configure that traps refuses",
     REST "(func (export \"proxy_on_configure\") (param i32 i32) (result i32) unreachable)",
     SL_TRAP,
     "tried",
     {NULL},
     NULL},
    {"configure gets the size of the configuration",
     REST "(func (export \"proxy_on_configure\") (param i32 i32) (result i32) (i32.eq (local.get 1) (i32.const 17)))",
     SL_OK,
     NULL,
     {NULL},
     NULL},

    /* ---- the allocator ---- */
    {"a host call that may not be used by the allocator traps",
     "(import \"env\" \"proxy_get_buffer_bytes\" (func $b (param i32 i32 i32 i32 i32) (result i32)))" MEMORY MARKER(
         "0_2_1") "(func (export \"malloc\") (param i32) (result i32) (drop (call $b (i32.const 7) (i32.const 0) (i32.const 9) (i32.const "
                  "0) (i32.const 4))) (i32.const 4096))"
                  "(func (export \"proxy_on_configure\") (param i32 i32) (result i32)"
                  " (drop (call $b (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4))) (i32.const 1))",
     SL_TRAP,
     "tried",
     {NULL},
     NULL},
    {"the allocator may log",
     "(import \"env\" \"proxy_get_buffer_bytes\" (func $b (param i32 i32 i32 i32 i32) (result i32)))" LOG MEMORY MARKER("0_2_1") WORDS
     "(func (export \"malloc\") (param i32) (result i32) " ONE " (i32.const 4096))"
     "(func (export \"proxy_on_configure\") (param i32 i32) (result i32)"
     " (i32.eqz (call $b (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4))))",
     SL_OK,
     NULL,
     {"one"},
     NULL},
    {"an allocator that runs for ever deep is a trap",
     "(import \"env\" \"proxy_get_buffer_bytes\" (func $b (param i32 i32 i32 i32 i32) (result i32)))" MEMORY MARKER(
         "0_2_1") "(func $m (export \"malloc\") (param i32) (result i32) (call $m (local.get 0)))"
                  "(func (export \"proxy_on_configure\") (param i32 i32) (result i32)"
                  " (i32.eqz (call $b (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4))))",
     SL_TRAP,
     "tried",
     {NULL},
     NULL},
};

static sl_engine_t *engine;

static void keep_line(void *ud, uint32_t level, sl_str_t line) {
    (void)level;
    sl_buf_append_str(ud, line);
    sl_buf_append_char(ud, '\n');
}

static sl_status_t try_module(const char *body, uint64_t memory_bytes, sl_buf_t *log, sl_err_t *err) {
    char text[8192];
    snprintf(text, sizeof(text), "(module %s)", body);
    sl_module_t *module;
    sl_status_t rc = sl_module_compile(engine, sl_cstr(text), &module, err);
    if (rc != SL_OK) {
        return rc;
    }
    pw_filter_conf_t conf = {.name = SL_STR("tried"), .module = module, .config = SL_STR("the configuration")};
    rc = mh_canary(&conf, &(pw_limits_t){.vm_memory_bytes = memory_bytes}, keep_line, log, err);
    sl_module_unref(module);
    return rc;
}

static bool in_order(const char *log, const char *const *words) {
    for (size_t i = 0; i < 3 && words[i] != NULL; i++) {
        log = strstr(log, words[i]);
        if (log == NULL) {
            return false;
        }
    }
    return true;
}

static bool one(const load_case_t *c) {
    sl_buf_t log;
    sl_err_t err = {""};
    sl_buf_init(&log, 1 << 20);
    sl_status_t rc = try_module(c->body, 0, &log, &err);
    const char *lines = sl_buf_cstr(&log);
    bool ok = rc == c->status && (c->text == NULL || strstr(err.text, c->text) != NULL) && in_order(lines, c->log) &&
              (c->silent == NULL || strstr(lines, c->silent) == NULL);
    if (!ok) {
        print_error("%s: status %d (expected %d), \"%s\", log: %s\n", c->title, rc, c->status, err.text, lines);
    }
    sl_buf_deinit(&log);
    return ok;
}

static void every_module_is_taken_or_refused_as_it_should_be(void **state) {
    (void)state;
    engine_signals_use();
    unsigned failed = 0, n = sizeof(cases) / sizeof(cases[0]);
    for (unsigned i = 0; i < n; i++) {
        failed += !one(&cases[i]);
    }
    print_message("load: %u cases, %u failed\n", n, failed);
    assert_int_equal(failed, 0);
}

static void memory_beyond_the_limit_is_refused(void **state) {
    (void)state;
    sl_buf_t log;
    sl_err_t err = {""};
    sl_buf_init(&log, 1 << 20);
    static const char body[] = "(memory (export \"memory\") 100)" MALLOC MARKER("0_2_1");
    assert_int_not_equal(try_module(body, 10 * 65536, &log, &err), SL_OK);
    assert_int_equal(try_module(body, 101 * 65536, &log, &err), SL_OK);
    sl_buf_deinit(&log);
}

static int setup(void **state) {
    (void)state;
    sl_err_t err;
    return sl_engine_new(&(sl_engine_conf_t){.name = "wasmtime"}, &engine, &err) == SL_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    sl_engine_free(engine);
    return 0;
}

int main(void) {
    if (engine_signals_save() != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_module_is_taken_or_refused_as_it_should_be),
        cmocka_unit_test(memory_beyond_the_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
