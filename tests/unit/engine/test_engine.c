/* What every engine must do, run against each of them with the same guest: as
 * WebAssembly text, and as native functions. */
#include "cmocka_all.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine.h"
#include "engine_guests.h"
#include "engine_null.h"
#include "engine_signals.h"

typedef struct {
    sl_engine_t *engine;
    sl_module_t *module;
    sl_instance_t *instance;
} rig_t;

static size_t current; /* row of test_engines */

static const sl_import_t imports[] = {
    {"env", "host_twice", "i:i", test_host_twice},
    {"env", "host_nested", "i:i", test_host_nested},
    {"env", "host_trap", ":", test_host_trap},
    {"env", "host_mem_size", ":i", test_host_mem_size},
};
enum { N_IMPORTS = sizeof(imports) / sizeof(imports[0]) };

static int set_up(void **state) {
    static rig_t rig;
    sl_err_t err = {{0}};
    sl_engine_conf_t conf = {.name = test_engines[current].name};
    rig = (rig_t){NULL, NULL, NULL};
    if (sl_null_register(&test_null_guest) != SL_OK) {
        return -1;
    }
    if (sl_engine_new(&conf, &rig.engine, &err) != SL_OK ||
        sl_module_compile(rig.engine, sl_cstr(test_engines[current].guest), &rig.module, &err) != SL_OK ||
        sl_instance_new(rig.module, imports, N_IMPORTS, NULL, &rig, &rig.instance, &err) != SL_OK) {
        fprintf(stderr, "set-up: %s\n", err.text);
        return -1;
    }
    *state = &rig;
    return 0;
}

static int tear_down(void **state) {
    rig_t *rig = *state;
    sl_instance_free(rig->instance);
    sl_module_unref(rig->module);
    sl_engine_free(rig->engine);
    return 0;
}

static sl_func_t *func(rig_t *rig, const char *name, const char *sig) {
    engine_signals_use();
    sl_func_t *f = NULL;
    sl_err_t err;
    assert_int_equal(sl_instance_func(rig->instance, name, sig, &f, &err), SL_OK);
    return f;
}

static int32_t call1(rig_t *rig, const char *name, int32_t arg) {
    sl_raw_t args[1] = {{.i32 = arg}};
    sl_err_t err;
    assert_int_equal(sl_instance_call(rig->instance, func(rig, name, "i:i"), args, &err), SL_OK);
    return args[0].i32;
}

static void a_call_passes_arguments_and_brings_the_result_back(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[2] = {{.i32 = 40}, {.i32 = 2}};
    sl_err_t err;
    assert_int_equal(sl_instance_call(rig->instance, func(rig, "add", "ii:i"), args, &err), SL_OK);
    assert_int_equal(args[0].i32, 42);
}

static void wide_and_floating_values_pass_unchanged(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[3] = {{.i64 = INT64_MIN + 1}, {.f32 = 0.5F}, {.f64 = 0.25}};
    sl_err_t err;
    assert_int_equal(sl_instance_call(rig->instance, func(rig, "wide", "IfF:F"), args, &err), SL_OK);
    assert_true(args[0].f64 == (double)(INT64_MIN + 1) + 0.5 + 0.25);
}

static void a_host_function_gets_arguments_and_answers(void **state) {
    assert_int_equal(call1(*state, "twice", 21), 42);
}

static void a_host_function_may_call_the_guest_again(void **state) {
    assert_int_equal(call1(*state, "nested", 5), 1005);
}

static void the_owner_is_reachable_from_the_instance(void **state) {
    rig_t *rig = *state;
    assert_ptr_equal(rig->instance->user, rig);
}

static void a_trap_of_the_guest_is_a_status_with_reason_and_frame(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1];
    sl_err_t err = {{0}};
    assert_int_equal(sl_instance_call(rig->instance, func(rig, "boom", ":"), args, &err), SL_TRAP);
    assert_non_null(strstr(err.text, "unreachable"));
    assert_non_null(strstr(err.text, "\n  at boom ("));
}

static void a_trap_raised_by_a_host_function_keeps_its_reason(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1];
    sl_err_t err = {{0}};
    assert_int_equal(sl_instance_call(rig->instance, func(rig, "call_trap", ":"), args, &err), SL_TRAP);
    assert_int_equal(strncmp(err.text, "the host says no: 7", 19), 0);
    assert_non_null(strstr(err.text, "\n  at call_trap ("));
}

static void a_trap_inside_a_nested_call_reaches_the_outer_caller(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1] = {{.i32 = -1}};
    sl_err_t err = {{0}};
    assert_int_equal(sl_instance_call(rig->instance, func(rig, "nested", "i:i"), args, &err), SL_TRAP);
    assert_non_null(strstr(err.text, "unreachable"));
}

static void another_instance_works_after_a_trap(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1];
    sl_err_t err;
    assert_int_equal(sl_instance_call(rig->instance, func(rig, "boom", ":"), args, &err), SL_TRAP);
    sl_instance_free(rig->instance);
    assert_int_equal(sl_instance_new(rig->module, imports, N_IMPORTS, NULL, rig, &rig->instance, &err), SL_OK);
    assert_int_equal(call1(rig, "twice", 4), 8);
}

static void instances_of_one_module_do_not_share_memory(void **state) {
    rig_t *rig = *state;
    sl_instance_t *other;
    sl_err_t err;
    assert_int_equal(sl_instance_new(rig->module, imports, N_IMPORTS, NULL, rig, &other, &err), SL_OK);
    rig->instance->mem[100] = 7;
    assert_int_equal(other->mem[100], 0);
    sl_instance_free(other);
}

static void memory_is_readable_and_writable_from_both_sides(void **state) {
    rig_t *rig = *state;
    assert_int_equal(rig->instance->mem_size, 65536);
    rig->instance->mem[200] = 33;
    assert_int_equal(call1(rig, "peek", 200), 33);
}

static void growth_is_seen_after_the_call(void **state) {
    rig_t *rig = *state;
    assert_int_equal(call1(rig, "grow", 2), 1);
    sl_instance_refresh(rig->instance);
    assert_int_equal(rig->instance->mem_size, 3 * 65536);
    rig->instance->mem[3 * 65536 - 1] = 9;
    assert_int_equal(call1(rig, "peek", 3 * 65536 - 1), 9);
}

static void growth_is_seen_by_the_next_host_function(void **state) {
    assert_int_equal(call1(*state, "grow_then_ask", 1), 2 * 65536);
}

static void growth_over_the_limit_is_refused_inside_the_guest(void **state) {
    rig_t *rig = *state;
    sl_instance_limits_t limits = {.max_memory_bytes = 2 * 65536};
    sl_err_t err;
    sl_instance_free(rig->instance);
    assert_int_equal(sl_instance_new(rig->module, imports, N_IMPORTS, &limits, rig, &rig->instance, &err), SL_OK);
    assert_int_equal(call1(rig, "grow", 2), -1);
    assert_int_equal(call1(rig, "grow", 1), 1);
    assert_int_equal(call1(rig, "grow", 1), -1);
}

static void a_module_that_starts_over_the_limit_is_refused(void **state) {
    rig_t *rig = *state;
    sl_instance_limits_t limits = {.max_memory_bytes = 65535};
    sl_instance_t *in;
    sl_err_t err = {{0}};
    assert_int_equal(sl_instance_new(rig->module, imports, N_IMPORTS, &limits, rig, &in, &err), SL_NO_MEMORY);
    assert_true(err.text[0] != '\0');
}

static void a_missing_import_is_named(void **state) {
    rig_t *rig = *state;
    sl_instance_t *in;
    sl_err_t err = {{0}};
    assert_int_equal(sl_instance_new(rig->module, imports, 1, NULL, rig, &in, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "env.host_nested"));
}

static void an_ill_typed_import_is_named_with_both_types(void **state) {
    rig_t *rig = *state;
    sl_import_t wrong[N_IMPORTS];
    memcpy(wrong, imports, sizeof(imports));
    wrong[0].sig = "I:i";
    sl_instance_t *in;
    sl_err_t err = {{0}};
    assert_int_equal(sl_instance_new(rig->module, wrong, N_IMPORTS, NULL, rig, &in, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "env.host_twice"));
    assert_non_null(strstr(err.text, "i:i"));
    assert_non_null(strstr(err.text, "I:i"));
}

static sl_status_t thrice(sl_instance_t *instance, sl_raw_t *args) {
    (void)instance;
    args[0].i32 *= 3;
    return SL_OK;
}

static void another_table_of_imports_is_used_when_it_is_given(void **state) {
    rig_t *rig = *state;
    sl_import_t other[N_IMPORTS];
    memcpy(other, imports, sizeof(imports));
    other[0].fn = thrice;
    sl_instance_t *mine = rig->instance;
    sl_err_t err;
    assert_int_equal(sl_instance_new(rig->module, other, N_IMPORTS, NULL, rig, &rig->instance, &err), SL_OK);
    assert_int_equal(call1(rig, "twice", 5), 15);
    sl_instance_free(rig->instance);
    rig->instance = mine;
    assert_int_equal(call1(rig, "twice", 5), 10);
}

static void an_export_that_is_missing_or_of_another_type_is_refused(void **state) {
    rig_t *rig = *state;
    sl_func_t *f;
    sl_err_t err = {{0}};
    assert_int_equal(sl_instance_func(rig->instance, "no_such", ":", &f, &err), SL_NOT_FOUND);
    assert_non_null(strstr(err.text, "no_such"));
    assert_int_equal(sl_instance_func(rig->instance, "add", "i:i", &f, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "ii:i"));
    assert_int_equal(sl_instance_func(rig->instance, "memory", ":", &f, &err), SL_NOT_FOUND);
}

static void a_module_tells_its_imports_and_exports(void **state) {
    rig_t *rig = *state;
    const sl_module_info_t *info = sl_module_info(rig->module);
    assert_int_equal(info->n_imports, N_IMPORTS);
    assert_true(sl_str_eq(info->imports[0].module, SL_STR("env")));
    assert_true(sl_str_eq(info->imports[0].name, SL_STR("host_twice")));
    assert_string_equal(info->imports[0].sig, "i:i");
    assert_non_null(sl_module_export(rig->module, "memory", SL_EXTERN_MEMORY));
    assert_string_equal(sl_module_export(rig->module, "wide", SL_EXTERN_FUNC)->sig, "IfF:F");
    assert_null(sl_module_export(rig->module, "wide", SL_EXTERN_GLOBAL));
    assert_int_equal(info->size_bytes, strlen(test_engines[current].guest));
}

static void bytes_that_are_no_module_are_refused_with_a_text(void **state) {
    rig_t *rig = *state;
    sl_module_t *m;
    sl_err_t err = {{0}};
    assert_int_equal(sl_module_compile(rig->engine, SL_STR("garbage"), &m, &err), SL_INVALID);
    assert_true(err.text[0] != '\0');
    assert_int_equal(sl_module_compile(rig->engine, SL_STR_NULL, &m, &err), SL_INVALID);
}

static void a_module_outlives_the_callers_reference_while_an_instance_uses_it(void **state) {
    rig_t *rig = *state;
    sl_module_unref(rig->module);
    rig->module = NULL;
    assert_int_equal(call1(rig, "twice", 6), 12);
}

static void the_fingerprint_is_the_same_for_two_engines(void **state) {
    rig_t *rig = *state;
    sl_engine_t *second;
    sl_err_t err;
    sl_engine_conf_t conf = {.name = test_engines[current].name};
    assert_int_equal(sl_engine_new(&conf, &second, &err), SL_OK);
    assert_true(sl_str_eq(sl_engine_fingerprint(rig->engine), sl_engine_fingerprint(second)));
    assert_true(sl_str_starts(sl_engine_fingerprint(second), sl_cstr(sl_engine_name(second))));
    sl_engine_free(second);
}

static int child_exit_code(pid_t pid) {
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int use_after_fork(rig_t *rig) {
    engine_signals_use();
    sl_err_t err;
    sl_instance_t *in;
    sl_func_t *f;
    sl_raw_t args[2] = {{.i32 = 1}, {.i32 = 2}};
    if (sl_instance_new(rig->module, imports, N_IMPORTS, NULL, rig, &in, &err) != SL_OK) {
        return 1;
    }
    if (sl_instance_func(in, "add", "ii:i", &f, &err) != SL_OK || sl_instance_call(in, f, args, &err) != SL_OK || args[0].i32 != 3) {
        return 2;
    }
    if (sl_instance_func(in, "boom", ":", &f, &err) != SL_OK || sl_instance_call(in, f, args, &err) != SL_TRAP) {
        return 3;
    }
    sl_instance_free(in);
    sl_module_t *again;
    if (sl_module_compile(rig->engine, sl_cstr(test_engines[current].guest), &again, &err) != SL_OK) {
        return 4;
    }
    sl_module_unref(again);
    return 0;
}

static void a_child_uses_and_compiles_modules_after_a_fork(void **state) {
    rig_t *rig = *state;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(use_after_fork(rig));
    }
    assert_int_equal(child_exit_code(pid), 0);
}

static void an_unknown_engine_is_refused_with_the_names_that_exist(void **state) {
    (void)state;
    sl_engine_t *engine;
    sl_err_t err = {{0}};
    sl_engine_conf_t conf = {.name = "steam"};
    assert_int_equal(sl_engine_new(&conf, &engine, &err), SL_NOT_FOUND);
    assert_non_null(strstr(err.text, "steam"));
    assert_non_null(strstr(err.text, "null"));
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(a_call_passes_arguments_and_brings_the_result_back),
        EACH(wide_and_floating_values_pass_unchanged),
        EACH(a_host_function_gets_arguments_and_answers),
        EACH(a_host_function_may_call_the_guest_again),
        EACH(the_owner_is_reachable_from_the_instance),
        EACH(a_trap_of_the_guest_is_a_status_with_reason_and_frame),
        EACH(a_trap_raised_by_a_host_function_keeps_its_reason),
        EACH(a_trap_inside_a_nested_call_reaches_the_outer_caller),
        EACH(another_instance_works_after_a_trap),
        EACH(instances_of_one_module_do_not_share_memory),
        EACH(memory_is_readable_and_writable_from_both_sides),
        EACH(growth_is_seen_after_the_call),
        EACH(growth_is_seen_by_the_next_host_function),
        EACH(growth_over_the_limit_is_refused_inside_the_guest),
        EACH(a_module_that_starts_over_the_limit_is_refused),
        EACH(a_missing_import_is_named),
        EACH(an_ill_typed_import_is_named_with_both_types),
        EACH(another_table_of_imports_is_used_when_it_is_given),
        EACH(an_export_that_is_missing_or_of_another_type_is_refused),
        EACH(a_module_tells_its_imports_and_exports),
        EACH(bytes_that_are_no_module_are_refused_with_a_text),
        EACH(a_module_outlives_the_callers_reference_while_an_instance_uses_it),
        EACH(the_fingerprint_is_the_same_for_two_engines),
        EACH(a_child_uses_and_compiles_modules_after_a_fork),
        cmocka_unit_test(an_unknown_engine_is_refused_with_the_names_that_exist),
    };
    int failed = engine_signals_save();
    for (current = 0; current < TEST_N_ENGINES; current++) {
        failed += cmocka_run_group_tests_name(test_engines[current].name, tests, NULL, NULL);
    }
    return failed;
}
