/* Which callbacks are known to do nothing. */
#include "cmocka_all.h"

#include <stdio.h>

#include "engine.h"

static const sl_extern_t *find(sl_engine_t *engine, sl_module_t **module, const char *function) {
    char wat[1024];
    sl_err_t err;
    snprintf(wat, sizeof(wat),
             "(module (import \"env\" \"f\" (func $f)) (memory (export \"memory\") 1) (global $g (mut i32) (i32.const 0))"
             " (func (export \"other\") (result i32) (i32.const 7)) %s)",
             function);
    if (sl_module_compile(engine, sl_cstr(wat), module, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    const sl_module_info_t *info = sl_module_info(*module);
    for (size_t i = 0; i < info->n_exports; i++) {
        if (sl_str_starts(info->exports[i].name, SL_STR("proxy_on_"))) {
            return &info->exports[i];
        }
        assert_false(info->exports[i].idle);
    }
    fail_msg("no callback");
    return NULL;
}

static bool idle(const char *function, int32_t *answer) {
    sl_engine_t *engine;
    sl_module_t *module;
    assert_int_equal(sl_engine_new(NULL, &engine, NULL), SL_OK);
    const sl_extern_t *e = find(engine, &module, function);
    bool is = e->idle;
    *answer = e->answer;
    sl_module_unref(module);
    sl_engine_free(engine);
    return is;
}

static void a_body_that_is_empty_or_a_constant_is_idle(void **state) {
    (void)state;
    int32_t answer;
    assert_true(idle("(func (export \"proxy_on_log\") (param i32))", &answer));
    assert_int_equal(answer, 0);
    assert_true(idle("(func (export \"proxy_on_done\") (param i32) (result i32) (i32.const 1))", &answer));
    assert_int_equal(answer, 1);
    assert_true(idle("(func (export \"proxy_on_done\") (param i32) (result i32) (return (i32.const -2000)))", &answer));
    assert_int_equal(answer, -2000);
    assert_true(idle("(func (export \"proxy_on_done\") (param i32) (result i32) (i32.const 2147483647))", &answer));
    assert_int_equal(answer, INT32_MAX);
}

static void a_body_that_does_something_is_not(void **state) {
    (void)state;
    int32_t answer;
    assert_false(idle("(func (export \"proxy_on_log\") (param i32) (call $f))", &answer));
    assert_false(idle("(func (export \"proxy_on_log\") (param i32) unreachable)", &answer));
    assert_false(idle("(func (export \"proxy_on_log\") (param i32) (global.set $g (i32.const 1)))", &answer));
    assert_false(idle("(func (export \"proxy_on_done\") (param i32) (result i32) (local.get 0))", &answer));
    assert_false(idle("(func (export \"proxy_on_done\") (param i32) (result i32) (loop (br 0)) (i32.const 1))", &answer));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_that_is_empty_or_a_constant_is_idle),
        cmocka_unit_test(a_body_that_does_something_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
