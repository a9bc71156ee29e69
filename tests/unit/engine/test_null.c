/* What only the null engine has: registration, state of a guest, imports called
 * by name. */
#include "cmocka_all.h"

#include "engine_null.h"

static sl_status_t count(sl_instance_t *in, sl_raw_t *args) {
    int *state = sl_null_state(in);
    args[0].i32 = ++*state;
    return SL_OK;
}

static sl_status_t call_undeclared(sl_instance_t *in, sl_raw_t *args) {
    return sl_null_import(in, "env", "not_declared", args);
}

static sl_status_t one(sl_instance_t *in, sl_raw_t *args) {
    (void)in;
    args[0].i32 = 1;
    return SL_OK;
}

static const sl_null_export_t exports[] = {{"count", ":i", count}, {"undeclared", ":", call_undeclared}};
static const sl_null_export_t other_exports[] = {{"count", ":i", one}};
static const sl_null_guest_t guest = {.name = "g", .exports = exports, .n_exports = 2, .state_bytes = sizeof(int)};
static const sl_null_guest_t replacement = {.name = "g", .exports = other_exports, .n_exports = 1};

static int set_up(void **state) {
    sl_engine_conf_t conf = {.name = "null"};
    return sl_null_register(&guest) == SL_OK && sl_engine_new(&conf, (sl_engine_t **)state, NULL) == SL_OK ? 0 : -1;
}

static int tear_down(void **state) {
    sl_engine_free(*state);
    return 0;
}

static sl_instance_t *start(sl_engine_t *engine) {
    sl_module_t *m;
    sl_instance_t *in;
    assert_int_equal(sl_module_compile(engine, SL_STR("null:g"), &m, NULL), SL_OK);
    assert_int_equal(sl_instance_new(m, NULL, 0, NULL, NULL, &in, NULL), SL_OK);
    sl_module_unref(m);
    return in;
}

static sl_status_t call(sl_instance_t *in, const char *name, const char *sig, sl_raw_t *args, sl_err_t *err) {
    sl_func_t *f;
    assert_int_equal(sl_instance_func(in, name, sig, &f, err), SL_OK);
    return sl_instance_call(in, f, args, err);
}

static void each_instance_has_zeroed_state_of_its_own(void **state) {
    sl_instance_t *a = start(*state), *b = start(*state);
    sl_raw_t args[1];
    assert_int_equal(call(a, "count", ":i", args, NULL), SL_OK);
    assert_int_equal(call(a, "count", ":i", args, NULL), SL_OK);
    assert_int_equal(args[0].i32, 2);
    assert_int_equal(call(b, "count", ":i", args, NULL), SL_OK);
    assert_int_equal(args[0].i32, 1);
    sl_instance_free(a);
    sl_instance_free(b);
}

static void calling_an_import_that_was_not_declared_traps(void **state) {
    sl_instance_t *in = start(*state);
    sl_raw_t args[1];
    sl_err_t err = {{0}};
    assert_int_equal(call(in, "undeclared", ":", args, &err), SL_TRAP);
    assert_non_null(strstr(err.text, "env.not_declared"));
    sl_instance_free(in);
}

static void registering_a_name_again_replaces_the_guest(void **state) {
    assert_int_equal(sl_null_register(&replacement), SL_OK);
    sl_instance_t *in = start(*state);
    sl_raw_t args[1];
    assert_int_equal(call(in, "count", ":i", args, NULL), SL_OK);
    assert_int_equal(call(in, "count", ":i", args, NULL), SL_OK);
    assert_int_equal(args[0].i32, 1);
    sl_instance_free(in);
}

static void a_guest_that_was_never_registered_is_named(void **state) {
    sl_module_t *m;
    sl_err_t err = {{0}};
    assert_int_equal(sl_module_compile(*state, SL_STR("null:nobody"), &m, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "nobody"));
}

static void a_guest_without_memory_has_none(void **state) {
    sl_instance_t *in = start(*state);
    assert_int_equal(in->mem_size, 0);
    assert_null(in->mem);
    sl_instance_free(in);
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(each_instance_has_zeroed_state_of_its_own),
        EACH(calling_an_import_that_was_not_declared_traps),
        EACH(registering_a_name_again_replaces_the_guest),
        EACH(a_guest_that_was_never_registered_is_named),
        EACH(a_guest_without_memory_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
