#include "sl_filter_opts.h"

#include "cmocka_all.h"

static sl_arena_t arena;

static int arena_begins(void **state) {
    (void)state;
    sl_arena_init(&arena, 256, 65536);
    return 0;
}

static int arena_ends(void **state) {
    (void)state;
    sl_arena_deinit(&arena);
    return 0;
}

static sl_status_t set(sl_filter_opts_t *opts, const char *name, const char *value, sl_err_t *err) {
    const sl_filter_opt_t *opt = sl_filter_opt_find(sl_cstr(name));
    assert_non_null(opt);
    return sl_filter_opts_set(opts, opt, sl_cstr(value), &arena, err);
}

#define assert_text(s, lit)                                                                                                                \
    do {                                                                                                                                   \
        sl_str_t text_ = (s);                                                                                                              \
        assert_int_equal(text_.len, sizeof(lit) - 1);                                                                                      \
        assert_memory_equal(text_.data, lit, sizeof(lit) - 1);                                                                             \
    } while (0)

static void every_default_of_the_table_is_a_value_that_can_be_set(void **state) {
    (void)state;
    for (size_t i = 0; i < SL_FOPT_N; i++) {
        sl_filter_opts_t opts;
        sl_filter_opts_init(&opts);
        sl_err_t err = {""};
        assert_int_equal(sl_filter_opts_set(&opts, &sl_filter_opts[i], sl_cstr(sl_filter_opts[i].def), NULL, &err), SL_OK);
        assert_int_equal(opts.set, 1u << i);
    }
}

static void options_begin_with_the_defaults_and_nothing_set(void **state) {
    (void)state;
    sl_filter_opts_t opts;
    sl_filter_opts_init(&opts);
    assert_int_equal(opts.set, 0);
    assert_int_equal(opts.dialect, SL_DIALECT_ENVOY);
    assert_int_equal(opts.isolation, SL_ISOLATION_SHARED);
    assert_int_equal(opts.cpu_budget_ms, 50);
    assert_int_equal(opts.memory_budget, 64 << 20);
    assert_int_equal(opts.fail, SL_FAIL_CLOSED);
    assert_false(opts.slice);
    assert_false(opts.headers_stop_iteration);
    assert_text(opts.grants, "default");
    assert_int_equal(opts.vm_id.len, 0);
}

static void each_option_is_set_from_its_text(void **state) {
    (void)state;
    sl_filter_opts_t opts;
    sl_filter_opts_init(&opts);
    assert_int_equal(set(&opts, "dialect", "wasmx", NULL), SL_OK);
    assert_int_equal(set(&opts, "isolation", "request", NULL), SL_OK);
    assert_int_equal(set(&opts, "cpu_budget_ms", "7", NULL), SL_OK);
    assert_int_equal(set(&opts, "start_budget_ms", "8", NULL), SL_OK);
    assert_int_equal(set(&opts, "memory_budget", "128m", NULL), SL_OK);
    assert_int_equal(set(&opts, "memory_recycle", "off", NULL), SL_OK);
    assert_int_equal(set(&opts, "memory_recycle", "32m", NULL), SL_OK);
    assert_int_equal(set(&opts, "breaker_traps", "9", NULL), SL_OK);
    assert_int_equal(set(&opts, "breaker_window_ms", "10", NULL), SL_OK);
    assert_int_equal(set(&opts, "breaker_backoff_ms", "11", NULL), SL_OK);
    assert_int_equal(set(&opts, "fail", "skip-chain", NULL), SL_OK);
    assert_int_equal(set(&opts, "slice", "on", NULL), SL_OK);
    assert_int_equal(set(&opts, "grants", "a,b", NULL), SL_OK);
    assert_int_equal(set(&opts, "headers_stop_iteration", "true", NULL), SL_OK);
    assert_int_equal(set(&opts, "vm_id", "two", NULL), SL_OK);
    assert_int_equal(set(&opts, "root_id", "three", NULL), SL_OK);
    assert_int_equal(opts.set, (1u << SL_FOPT_N) - 1);
    assert_int_equal(opts.dialect, SL_DIALECT_WASMX);
    assert_int_equal(opts.isolation, SL_ISOLATION_REQUEST);
    assert_int_equal(opts.cpu_budget_ms, 7);
    assert_int_equal(opts.memory_budget, 128 << 20);
    assert_int_equal(opts.memory_recycle, 32 << 20);
    assert_int_equal(opts.breaker_traps, 9);
    assert_int_equal(opts.fail, SL_FAIL_SKIP_CHAIN);
    assert_true(opts.slice);
    assert_text(opts.grants, "a,b");
    assert_true(opts.headers_stop_iteration);
    assert_text(opts.vm_id, "two");
    assert_text(opts.root_id, "three");
}

static void the_text_of_a_value_sets_the_same_value(void **state) {
    (void)state;
    static const char *const values[][2] = {{"dialect", "wasmx"}, {"isolation", "filter"},    {"cpu_budget_ms", "3600000"},
                                            {"fail", "open"},     {"memory_budget", "4g"},    {"slice", "on"},
                                            {"grants", "none"},   {"grants", "x,upstream:*"}, {"vm_id", "v"}};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        sl_filter_opts_t a, b;
        sl_filter_opts_init(&a);
        sl_filter_opts_init(&b);
        assert_int_equal(set(&a, values[i][0], values[i][1], NULL), SL_OK);
        assert_false(sl_filter_opts_equal(&a, &b));
        char room[SL_FILTER_OPT_TEXT];
        const sl_filter_opt_t *opt = sl_filter_opt_find(sl_cstr(values[i][0]));
        assert_int_equal(sl_filter_opts_set(&b, opt, sl_filter_opts_text(&a, opt, room), NULL, NULL), SL_OK);
        assert_true(sl_filter_opts_equal(&a, &b));
    }
}

static void a_value_outside_its_kind_or_range_is_refused_and_changes_nothing(void **state) {
    (void)state;
    static const struct {
        const char *name, *value, *says;
    } bad[] = {
        {"dialect", "kong", "expected one of: envoy, wasmx; got 'kong'"},
        {"isolation", "", "expected one of: shared, request, filter; got ''"},
        {"fail", "skip", "closed, open, skip-chain"},
        {"slice", "yes", "expected on or off, got 'yes'"},
        {"cpu_budget_ms", "-1", "expected a number from 0 to 3600000"},
        {"cpu_budget_ms", "3600001", "expected a number from 0 to 3600000"},
        {"cpu_budget_ms", "18446744073709551616", "expected a number"},
        {"cpu_budget_ms", "", "expected a number"},
        {"memory_budget", "65535", "from 65536 to 4294967296"},
        {"memory_budget", "5g", "from 65536 to 4294967296"},
        {"memory_budget", "64mb", "such as 64m"},
        {"memory_budget", "m", "such as 64m"},
        {"vm_id", "a\nb", "without control characters"},
        {"vm_id", "\xff", "UTF-8"},
        {"grants", "a\tb", "without control characters"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sl_filter_opts_t opts, before;
        sl_filter_opts_init(&opts);
        sl_filter_opts_init(&before);
        sl_err_t err = {""};
        assert_int_equal(set(&opts, bad[i].name, bad[i].value, &err), SL_INVALID);
        if (strstr(err.text, bad[i].says) == NULL) {
            fail_msg("%s %s: %s", bad[i].name, bad[i].value, err.text);
        }
        assert_int_equal(opts.set, 0);
        assert_true(sl_filter_opts_equal(&opts, &before));
    }
}

static void a_text_may_not_be_longer_than_its_ceiling(void **state) {
    (void)state;
    char text[258];
    memset(text, 'x', sizeof(text) - 1);
    text[257] = '\0';
    sl_filter_opts_t opts;
    sl_filter_opts_init(&opts);
    assert_int_equal(set(&opts, "vm_id", text, NULL), SL_INVALID);
    assert_int_equal(set(&opts, "vm_id", text + 1, NULL), SL_OK);
}

static void off_is_no_cpu_budget(void **state) {
    (void)state;
    sl_filter_opts_t opts;
    sl_filter_opts_init(&opts);
    assert_int_equal(set(&opts, "cpu_budget_ms", "off", NULL), SL_OK);
    assert_int_equal(opts.cpu_budget_ms, 0);
    assert_int_equal(opts.set, SL_FOPT_BIT(CPU_BUDGET_MS));
}

static void lists_are_kept_with_single_commas(void **state) {
    (void)state;
    sl_filter_opts_t opts;
    sl_filter_opts_init(&opts);
    assert_int_equal(set(&opts, "grants", " a, b  c,,d ,", NULL), SL_OK);
    assert_text(opts.grants, "a,b,c,d");
    assert_int_equal(set(&opts, "grants", " none ", NULL), SL_OK);
    assert_int_equal(opts.grants.len, 0);
    assert_int_equal(set(&opts, "grants", ",", NULL), SL_OK);
    assert_int_equal(opts.grants.len, 0);
    assert_int_equal(sl_filter_opts_set(&opts, &sl_filter_opts[SL_FOPT_GRANTS], SL_STR("a, b"), NULL, NULL), SL_INVALID);
}

static void items_of_a_list_are_found_whole(void **state) {
    (void)state;
    assert_true(sl_list_has(SL_STR("ab,c"), SL_STR("ab")));
    assert_true(sl_list_has(SL_STR("ab,c"), SL_STR("c")));
    assert_false(sl_list_has(SL_STR("ab,c"), SL_STR("a")));
    assert_false(sl_list_has(SL_STR("ab,c"), SL_STR("b,c")));
    assert_false(sl_list_has(SL_STR(""), SL_STR("a")));
}

static void the_nearest_level_that_sets_an_option_wins(void **state) {
    (void)state;
    sl_filter_opts_t http, server, location;
    sl_filter_opts_init(&http);
    sl_filter_opts_init(&server);
    sl_filter_opts_init(&location);
    assert_int_equal(set(&http, "dialect", "wasmx", NULL), SL_OK);
    assert_int_equal(set(&http, "fail", "open", NULL), SL_OK);
    assert_int_equal(set(&http, "vm_id", "h", NULL), SL_OK);
    assert_int_equal(set(&server, "fail", "closed", NULL), SL_OK); /* the default, said */
    assert_int_equal(set(&location, "cpu_budget_ms", "5", NULL), SL_OK);
    sl_filter_opts_inherit(&server, &http);
    sl_filter_opts_inherit(&location, &server);
    assert_int_equal(location.dialect, SL_DIALECT_WASMX);
    assert_int_equal(location.fail, SL_FAIL_CLOSED);
    assert_int_equal(location.cpu_budget_ms, 5);
    assert_text(location.vm_id, "h");
    assert_int_equal(location.memory_budget, 64 << 20);
    assert_int_equal(location.set, SL_FOPT_BIT(DIALECT) | SL_FOPT_BIT(FAIL) | SL_FOPT_BIT(VM_ID) | SL_FOPT_BIT(CPU_BUDGET_MS));
}

static void options_are_equal_by_what_takes_effect(void **state) {
    (void)state;
    sl_filter_opts_t a, b;
    sl_filter_opts_init(&a);
    sl_filter_opts_init(&b);
    assert_int_equal(set(&a, "slice", "off", NULL), SL_OK);
    assert_true(sl_filter_opts_equal(&a, &b));
    assert_int_equal(set(&a, "vm_id", "x", NULL), SL_OK);
    assert_false(sl_filter_opts_equal(&a, &b));
    char x[] = "x";
    assert_int_equal(set(&b, "vm_id", x, NULL), SL_OK);
    assert_true(sl_filter_opts_equal(&a, &b));
    assert_int_equal(set(&b, "memory_budget", "65536", NULL), SL_OK);
    assert_false(sl_filter_opts_equal(&a, &b));
}

static void a_zeroed_struct_is_completed_with_defaults(void **state) {
    (void)state;
    sl_filter_opts_t defaults, opts = {.dialect = SL_DIALECT_WASMX};
    sl_filter_opts_init(&defaults);
    sl_filter_opts_complete(&opts);
    assert_int_equal(opts.dialect, SL_DIALECT_WASMX);
    opts.dialect = SL_DIALECT_ENVOY;
    assert_true(sl_filter_opts_equal(&opts, &defaults));
    assert_int_equal(opts.set, 0);
}

static void values_that_were_set_to_zero_stay_when_completed(void **state) {
    (void)state;
    sl_filter_opts_t opts;
    sl_filter_opts_init(&opts);
    assert_int_equal(set(&opts, "cpu_budget_ms", "0", NULL), SL_OK);
    assert_int_equal(set(&opts, "grants", "none", NULL), SL_OK);
    sl_filter_opts_complete(&opts);
    assert_int_equal(opts.cpu_budget_ms, 0);
    assert_int_equal(opts.grants.len, 0);
}

static void what_is_set_is_written_as_lines_and_read_again(void **state) {
    (void)state;
    sl_filter_opts_t a, b;
    sl_filter_opts_init(&a);
    sl_filter_opts_init(&b);
    assert_int_equal(set(&a, "vm_id", "a=b c", NULL), SL_OK);
    assert_int_equal(set(&a, "fail", "open", NULL), SL_OK);
    assert_int_equal(set(&a, "grants", "none", NULL), SL_OK);
    sl_buf_t lines;
    sl_buf_init(&lines, 1024);
    sl_filter_opts_write(&a, &lines);
    assert_text(sl_buf_str(&lines), "fail=open\ngrants=none\nvm_id=a=b c\n");
    assert_int_equal(sl_filter_opts_read(&b, sl_buf_str(&lines), NULL), SL_OK);
    assert_true(sl_filter_opts_equal(&a, &b));
    assert_int_equal(a.set, b.set);
    sl_buf_deinit(&lines);
}

static void lines_that_name_no_option_or_value_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"fail", "nosuch=1\n", "\n", "=open\n", "fail=x\n", "fail=open\ngrants=a, b\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sl_filter_opts_t opts;
        sl_err_t err;
        sl_filter_opts_init(&opts);
        assert_int_equal(sl_filter_opts_read(&opts, sl_cstr(bad[i]), &err), SL_INVALID);
    }
}

static void owned_texts_outlive_what_they_were_set_from(void **state) {
    (void)state;
    char id[] = "one";
    sl_filter_opts_t opts;
    sl_filter_opts_init(&opts);
    assert_int_equal(set(&opts, "vm_id", id, NULL), SL_OK);
    assert_int_equal(sl_filter_opts_own(&opts, &arena), SL_OK);
    memset(id, 'z', sizeof(id));
    assert_text(opts.vm_id, "one");
    assert_text(opts.grants, "default");
}

static void an_arena_that_is_full_is_a_status(void **state) {
    (void)state;
    sl_arena_t small;
    sl_arena_init(&small, 16, 1);
    sl_filter_opts_t opts;
    sl_filter_opts_init(&opts);
    assert_int_equal(sl_filter_opts_set(&opts, &sl_filter_opts[SL_FOPT_GRANTS], SL_STR("a, b"), &small, NULL), SL_NO_MEMORY);
    assert_int_equal(sl_filter_opts_own(&opts, &small), SL_NO_MEMORY);
    assert_text(opts.grants, "default");
    sl_arena_deinit(&small);
}

static void an_option_that_does_not_exist_is_not_found(void **state) {
    (void)state;
    assert_null(sl_filter_opt_find(SL_STR("cpu_budget")));
    assert_null(sl_filter_opt_find(SL_STR("")));
    assert_ptr_equal(sl_filter_opt_find(SL_STR("fail")), &sl_filter_opts[SL_FOPT_FAIL]);
}

static void sizes_have_units_and_do_not_wrap(void **state) {
    (void)state;
    uint64_t n = 0;
    assert_true(sl_size_parse(SL_STR("0"), &n) && n == 0);
    assert_true(sl_size_parse(SL_STR("3k"), &n) && n == 3072);
    assert_true(sl_size_parse(SL_STR("2M"), &n) && n == 2 << 20);
    assert_true(sl_size_parse(SL_STR("17179869183g"), &n) && n == (uint64_t)17179869183 << 30);
    assert_false(sl_size_parse(SL_STR("17179869184g"), &n));
    assert_false(sl_size_parse(SL_STR(""), &n));
    assert_false(sl_size_parse(SL_STR("1 k"), &n));
    assert_false(sl_size_parse(SL_STR("1kk"), &n));
    assert_false(sl_size_parse(sl_str("1\0", 2), &n));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_default_of_the_table_is_a_value_that_can_be_set),
        cmocka_unit_test(options_begin_with_the_defaults_and_nothing_set),
        cmocka_unit_test(each_option_is_set_from_its_text),
        cmocka_unit_test(the_text_of_a_value_sets_the_same_value),
        cmocka_unit_test(a_value_outside_its_kind_or_range_is_refused_and_changes_nothing),
        cmocka_unit_test(a_text_may_not_be_longer_than_its_ceiling),
        cmocka_unit_test(off_is_no_cpu_budget),
        cmocka_unit_test(lists_are_kept_with_single_commas),
        cmocka_unit_test(items_of_a_list_are_found_whole),
        cmocka_unit_test(the_nearest_level_that_sets_an_option_wins),
        cmocka_unit_test(options_are_equal_by_what_takes_effect),
        cmocka_unit_test(a_zeroed_struct_is_completed_with_defaults),
        cmocka_unit_test(values_that_were_set_to_zero_stay_when_completed),
        cmocka_unit_test(what_is_set_is_written_as_lines_and_read_again),
        cmocka_unit_test(lines_that_name_no_option_or_value_are_refused),
        cmocka_unit_test(owned_texts_outlive_what_they_were_set_from),
        cmocka_unit_test(an_arena_that_is_full_is_a_status),
        cmocka_unit_test(an_option_that_does_not_exist_is_not_found),
        cmocka_unit_test(sizes_have_units_and_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, arena_begins, arena_ends);
}
