/* Several callbacks in one entry: what the rewriter adds, in Wasmtime. */
#include "cmocka_all.h"

#include "engine.h"
#include "engine_signals.h"

/* Each callback adds a digit to $seen; $ask has it call the host, $trap has it trap, when they say the same digit. */
#define GUEST(more)                                                                                                                        \
    "(module (import \"env\" \"host\" (func $host)) (memory (export \"memory\") 1)"                                                        \
    " (global $seen (mut i32) (i32.const 0)) (global $ask (mut i32) (i32.const 0)) (global $trap (mut i32) (i32.const 0))"                 \
    " (func $do (param i32) (global.set $seen (i32.add (i32.mul (global.get $seen) (i32.const 10)) (local.get 0)))"                        \
    "  (if (i32.eq (global.get $ask) (local.get 0)) (then (call $host)))"                                                                  \
    "  (if (i32.eq (global.get $trap) (local.get 0)) (then unreachable)))"                                                                 \
    " (func (export \"proxy_on_context_create\") (param i32 i32) (call $do (i32.const 1)))"                                                \
    " (func (export \"setup\") (param i32 i32) (global.set $ask (local.get 0)) (global.set $trap (local.get 1)))"                          \
    " (func (export \"seen\") (result i32) (global.get $seen)) " more ")"
#define HEADERS                                                                                                                            \
    "(func $headers (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32) (call $do (i32.const 2))"                       \
    " (i32.add (i32.mul (local.get 0) (i32.const 100)) (i32.add (i32.mul (local.get 1) (i32.const 10)) (local.get 2))))"
#define OLD_HEADERS                                                                                                                        \
    "(func (export \"proxy_on_request_headers\") (param i32 i32) (result i32) (call $do (i32.const 2))"                                    \
    " (i32.add (i32.mul (local.get 0) (i32.const 10)) (local.get 1)))"
#define ENDS                                                                                                                               \
    "(func (export \"proxy_on_log\") (param i32) (call $do (i32.const 3)))"                                                                \
    "(func (export \"proxy_on_done\") (param i32) (result i32) (call $do (i32.const 4)) (i32.const 1))"                                    \
    "(func (export \"proxy_on_delete\") (param i32) (call $do (i32.const 5)))"

typedef struct {
    sl_engine_t *engine;
    sl_module_t *module;
    sl_instance_t *in;
    sl_err_t err;
    uint32_t part; /* as the host function found it */
    bool stop;
} rig_t;

static sl_status_t host(sl_instance_t *in, sl_raw_t *args) {
    rig_t *rig = in->user;
    (void)args;
    rig->part = sl_instance_part(in);
    if (rig->stop) {
        sl_instance_stop(in);
    }
    return SL_OK;
}

static const sl_import_t imports[] = {{"env", "host", ":", host}};

static void start(rig_t *rig, const char *wat) {
    *rig = (rig_t){.part = 99};
    engine_signals_use();
    assert_int_equal(sl_engine_new(NULL, &rig->engine, &rig->err), SL_OK);
    if (sl_module_compile(rig->engine, sl_cstr(wat), &rig->module, &rig->err) != SL_OK ||
        sl_instance_new(rig->module, imports, 1, NULL, rig, &rig->in, &rig->err) != SL_OK) {
        fail_msg("%s", rig->err.text);
    }
}

static void stop(rig_t *rig) {
    sl_instance_free(rig->in);
    sl_module_unref(rig->module);
    sl_engine_free(rig->engine);
}

static uint32_t ask(rig_t *rig, const char *name, const char *sig, uint32_t a, uint32_t b) {
    sl_func_t *f;
    sl_raw_t args[2] = {{.u32 = a}, {.u32 = b}};
    assert_int_equal(sl_instance_func(rig->in, name, sig, &f, &rig->err), SL_OK);
    assert_int_equal(sl_instance_call(rig->in, f, args, &rig->err), SL_OK);
    return args[0].u32;
}

static sl_status_t run(rig_t *rig, sl_sequence_t which, sl_raw_t *args) {
    sl_func_t *f = sl_instance_sequence(rig->in, which);
    assert_non_null(f);
    return sl_instance_call(rig->in, f, args, &rig->err);
}

static void the_members_run_in_their_order_and_the_last_one_answers(void **state) {
    (void)state;
    rig_t rig;
    start(&rig, GUEST(HEADERS ENDS));
    sl_raw_t args[4] = {{.u32 = 7}, {.u32 = 1}, {.u32 = 5}, {.u32 = 1}};
    assert_int_equal(run(&rig, SL_SEQUENCE_REQUEST, args), SL_OK);
    assert_int_equal(args[0].u32, 751);
    assert_int_equal(ask(&rig, "seen", ":i", 0, 0), 12);
    assert_int_equal(run(&rig, SL_SEQUENCE_END, args), SL_OK);
    assert_int_equal(ask(&rig, "seen", ":i", 0, 0), 12345);
    assert_int_equal(run(&rig, SL_SEQUENCE_LEAVE, args), SL_OK);
    assert_int_equal(ask(&rig, "seen", ":i", 0, 0), 1234545);
    stop(&rig);
}

static void headers_without_an_end_of_stream_are_called_with_two_arguments(void **state) {
    (void)state;
    rig_t rig;
    start(&rig, GUEST(OLD_HEADERS));
    sl_raw_t args[4] = {{.u32 = 7}, {.u32 = 1}, {.u32 = 5}, {.u32 = 1}};
    assert_int_equal(run(&rig, SL_SEQUENCE_REQUEST, args), SL_OK);
    assert_int_equal(args[0].u32, 75);
    stop(&rig);
}

static void what_a_module_lacks_is_left_out_or_there_is_no_sequence(void **state) {
    (void)state;
    rig_t rig;
    start(&rig, GUEST("(func (export \"proxy_on_log\") (param i32) (call $do (i32.const 3)))"
                      "(func (export \"proxy_on_delete\") (param i32) (call $do (i32.const 5)))"));
    assert_null(sl_instance_sequence(rig.in, SL_SEQUENCE_REQUEST));
    assert_null(sl_instance_sequence(rig.in, SL_SEQUENCE_RESPONSE));
    assert_null(sl_instance_sequence(rig.in, SL_SEQUENCE_LEAVE));
    sl_raw_t args[1] = {{.u32 = 7}};
    assert_int_equal(run(&rig, SL_SEQUENCE_END, args), SL_OK);
    assert_int_equal(ask(&rig, "seen", ":i", 0, 0), 35);
    stop(&rig);
}

static void an_export_of_another_type_is_none(void **state) {
    (void)state;
    rig_t rig;
    start(&rig, GUEST("(func (export \"proxy_on_request_headers\") (param i32 i64 i32) (result i32) (i32.const 0))"
                      "(func (export \"proxy_on_done\") (param i32)) (func (export \"proxy_on_delete\") (param i32))"));
    assert_null(sl_instance_sequence(rig.in, SL_SEQUENCE_REQUEST));
    assert_null(sl_instance_sequence(rig.in, SL_SEQUENCE_LEAVE));
    stop(&rig);
}

static void host_functions_can_ask_which_member_runs(void **state) {
    (void)state;
    rig_t rig;
    start(&rig, GUEST(HEADERS ENDS));
    for (uint32_t i = 0; i < 3; i++) {
        sl_raw_t args[1] = {{.u32 = 7}};
        ask(&rig, "setup", "ii:", 3 + i, 0);
        assert_int_equal(run(&rig, SL_SEQUENCE_END, args), SL_OK);
        assert_int_equal(rig.part, i);
    }
    stop(&rig);
}

static void no_member_runs_after_one_in_which_the_host_said_stop(void **state) {
    (void)state;
    rig_t rig;
    start(&rig, GUEST(HEADERS ENDS));
    rig.stop = true;
    ask(&rig, "setup", "ii:", 1, 0);
    sl_raw_t args[4] = {{.u32 = 7}, {.u32 = 1}, {.u32 = 5}, {.u32 = 1}};
    assert_int_equal(run(&rig, SL_SEQUENCE_REQUEST, args), SL_OK);
    assert_int_equal(args[0].u32, 0);
    assert_int_equal(ask(&rig, "seen", ":i", 0, 0), 1);
    ask(&rig, "setup", "ii:", 4, 0);
    assert_int_equal(run(&rig, SL_SEQUENCE_END, args), SL_OK);
    assert_int_equal(ask(&rig, "seen", ":i", 0, 0), 134);
    ask(&rig, "setup", "ii:", 0, 0); /* and the next time they all do */
    assert_int_equal(run(&rig, SL_SEQUENCE_END, args), SL_OK);
    assert_int_equal(ask(&rig, "seen", ":i", 0, 0), 134345);
    stop(&rig);
}

static void a_trap_knows_its_member_and_shows_no_function_that_is_not_the_guests(void **state) {
    (void)state;
    rig_t rig;
    start(&rig, GUEST(HEADERS ENDS));
    ask(&rig, "setup", "ii:", 0, 2);
    sl_raw_t args[4] = {{.u32 = 7}, {.u32 = 1}, {.u32 = 5}, {.u32 = 1}};
    assert_int_equal(run(&rig, SL_SEQUENCE_REQUEST, args), SL_TRAP);
    assert_int_equal(sl_instance_part(rig.in), 1);
    const char *last = strrchr(rig.err.text, '\n');
    assert_non_null(last);
    assert_non_null(strstr(last, "at headers ("));
    stop(&rig);
}

static void a_module_with_two_memories_is_refused(void **state) {
    (void)state;
    rig_t rig = {.part = 0};
    assert_int_equal(sl_engine_new(NULL, &rig.engine, &rig.err), SL_OK);
    assert_int_equal(sl_module_compile(rig.engine, SL_STR("(module (memory 1) (memory 1))"), &rig.module, &rig.err), SL_INVALID);
    assert_non_null(strstr(rig.err.text, "more than one memory"));
    sl_engine_free(rig.engine);
}

int main(void) {
    if (engine_signals_save() != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_members_run_in_their_order_and_the_last_one_answers),
        cmocka_unit_test(headers_without_an_end_of_stream_are_called_with_two_arguments),
        cmocka_unit_test(what_a_module_lacks_is_left_out_or_there_is_no_sequence),
        cmocka_unit_test(an_export_of_another_type_is_none),
        cmocka_unit_test(host_functions_can_ask_which_member_runs),
        cmocka_unit_test(no_member_runs_after_one_in_which_the_host_said_stop),
        cmocka_unit_test(a_trap_knows_its_member_and_shows_no_function_that_is_not_the_guests),
        cmocka_unit_test(a_module_with_two_memories_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
