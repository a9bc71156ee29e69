/* What loads and what does not, and how an instance is started. */
#include "pt.h"
#include "pw_table.h"

static sl_status_t nothing(sl_instance_t *in, sl_raw_t *a) {
    (void)in;
    (void)a;
    return SL_OK;
}

static sl_status_t check(pt_t *t, const pt_guest_t *g, pw_abi_version_t *version, sl_err_t *err) {
    return pw_module_check(pt_module(t, g), version, err);
}

static void each_marker_gives_its_version(void **state) {
    (void)state;
    static const struct {
        const char *marker;
        pw_abi_version_t version;
    } rows[] = {
        {"proxy_abi_version_0_1_0", PW_ABI_0_1_0},
        {"proxy_abi_version_0_2_0", PW_ABI_0_2_0},
        {"proxy_abi_version_0_2_1", PW_ABI_0_2_1},
        {"proxy_abi_version_0_2_100", PW_ABI_0_2_1},
    };
    pt_t *t = pt_new(NULL);
    for (size_t i = 0; i < 4; i++) {
        pw_abi_version_t version = 0;
        sl_err_t err = {""};
        assert_int_equal(check(t, &(pt_guest_t){.name = "m", .marker = rows[i].marker}, &version, &err), SL_OK);
        assert_int_equal(version, rows[i].version);
    }
    pt_free(t);
}

static void without_a_marker_the_text_says_what_is_missing(void **state) {
    (void)state;
    static const char *const markers[] = {"", "proxy_abi_version_0_3_0", "proxy_abi_version_0_2_", "proxy_abi_version_0_2_1x",
                                          "proxy_abi_version_0_2_99999999"};
    pt_t *t = pt_new(NULL);
    for (size_t i = 0; i < 5; i++) {
        pw_abi_version_t version;
        sl_err_t err;
        assert_int_equal(check(t, &(pt_guest_t){.name = "m", .marker = markers[i]}, &version, &err), SL_INVALID);
        assert_non_null(strstr(err.text, "proxy_abi_version_0_1_0"));
    }
    pt_free(t);
}

static void a_module_without_allocator_is_refused(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_abi_version_t version;
    sl_err_t err;
    assert_int_equal(check(t, &(pt_guest_t){.name = "m", .no_alloc = true}, &version, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "malloc"));
    sl_null_export_t alloc = {"malloc", "ii:i", nothing};
    assert_int_equal(check(t, &(pt_guest_t){.name = "m", .no_alloc = true, .extra = &alloc}, &version, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "ii:i"));
    alloc.sig = "i:i";
    assert_int_equal(check(t, &(pt_guest_t){.name = "m", .no_alloc = true, .extra = &alloc}, &version, &err), SL_OK);
    pt_free(t);
}

static void an_unknown_or_ill_typed_import_is_named(void **state) {
    (void)state;
    static const sl_import_t unknown[] = {{"env", "proxy_log", "iii:i", NULL}, {"env", "no_such_function", "i:i", NULL}};
    static const sl_import_t ill[] = {{"env", "proxy_log", "ii:i", NULL}};
    static const sl_import_t place[] = {{"wasi", "fd_write", "iiii:i", NULL}};
    pt_t *t = pt_new(NULL);
    pw_abi_version_t version;
    sl_err_t err;
    assert_int_equal(check(t, &(pt_guest_t){.name = "m", .imports = unknown, .n_imports = 2}, &version, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "env.no_such_function"));
    assert_int_equal(check(t, &(pt_guest_t){.name = "m", .imports = ill, .n_imports = 1}, &version, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "env.proxy_log with the type ii:i"));
    assert_int_equal(check(t, &(pt_guest_t){.name = "m", .imports = place, .n_imports = 1}, &version, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "wasi.fd_write"));
    pt_free(t);
}

static void both_types_of_the_old_calls_link(void **state) {
    (void)state;
    static const sl_import_t imports[] = {{"env", "proxy_continue_request", ":", NULL}, {"env", "proxy_continue_response", ":i", NULL}};
    pt_t *t = pt_new(NULL);
    sl_err_t err = {""};
    pt_guest_t g = {.name = "m", .marker = "proxy_abi_version_0_1_0", .imports = imports, .n_imports = 2};
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.module = pt_module(t, &g)}, &err), SL_OK);
    pt_free(t);
}

static void a_callback_of_another_type_is_refused(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_abi_version_t version;
    sl_err_t err;
    sl_null_export_t body = {"proxy_on_request_body", "ii:i", nothing};
    assert_int_equal(check(t, &(pt_guest_t){.name = "m", .extra = &body}, &version, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "proxy_on_request_body"));
    /* 0.1.0 has headers callbacks of two arguments */
    sl_null_export_t headers = {"proxy_on_request_headers", "iii:i", nothing};
    pt_guest_t g = {.name = "m", .marker = "proxy_abi_version_0_1_0", .extra = &headers};
    assert_int_equal(check(t, &g, &version, &err), SL_INVALID);
    pt_free(t);
}

static void no_row_of_the_table_stands_twice(void **state) {
    (void)state;
    size_t n;
    const pw_hostcall_row_t *rows = pw_hostcall_rows(&n);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            bool same = strcmp(rows[i].import.module, rows[j].import.module) == 0 &&
                        strcmp(rows[i].import.name, rows[j].import.name) == 0 && strcmp(rows[i].import.sig, rows[j].import.sig) == 0;
            assert_false(same);
        }
    }
}

/* ---- starting ---- */

static uint32_t note_start(pt_t *t, uint32_t a, uint32_t b, uint32_t c) {
    (void)a;
    (void)b;
    (void)c;
    pt_trace(t, "start ");
    return 0;
}

static sl_status_t note_main(sl_instance_t *in, sl_raw_t *a) {
    assert_int_equal(a[0].u32 | a[1].u32, 0);
    sl_instance_trap(in, "main ran");
    return SL_TRAP;
}

static void initialize_is_followed_by_main(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err = {""};
    t->start = note_start;
    sl_null_export_t main_export = {"main", "ii:i", note_main};
    pt_guest_t g = {.name = "m", .start = "_initialize", .extra = &main_export};
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.module = pt_module(t, &g)}, &err), SL_TRAP);
    assert_non_null(strstr(err.text, "main ran"));
    assert_string_equal(t->trace, "start ");
    pt_free(t);
}

static void start_is_called_where_there_is_no_initialize(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err = {""};
    t->start = note_start;
    pt_guest_t g = {.name = "m", .start = "_start"};
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.module = pt_module(t, &g)}, &err), SL_OK);
    assert_string_equal(t->trace, "start ");
    pt_free(t);
}

static uint32_t exit_code;
static uint32_t exits(pt_t *t, uint32_t a, uint32_t b, uint32_t c) {
    (void)a;
    (void)b;
    (void)c;
    guest_call(t, "wasi:proc_exit", exit_code);
    return 0;
}

static uint32_t logs_in_tick(pt_t *t, uint32_t a, uint32_t b, uint32_t c) {
    (void)a;
    (void)b;
    (void)c;
    guest_call(t, "proxy_log", 2, guest_put(t, "alive", 5), 5);
    return 0;
}

static void proc_exit_0_in_start_means_returned(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err = {""};
    t->start = exits;
    exit_code = 0;
    t->on[PW_CB_TICK] = logs_in_tick;
    pt_guest_t g = {.name = "m", .start = "_start", .callbacks = PT_ALL};
    pw_filter_conf_t conf = {.module = pt_module(t, &g)};
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    pw_root_tick(t->filters[0]->root);
    assert_true(pt_logged(t, "alive"));
    exit_code = 3;
    conf.opts.vm_id = SL_STR("another");
    assert_int_equal(pt_filter(t, &conf, &err), SL_TRAP);
    assert_non_null(strstr(err.text, "proc_exit(3)"));
    pt_free(t);
}

static uint32_t forbidden(pt_t *t, uint32_t a, uint32_t b, uint32_t c) {
    (void)a;
    (void)b;
    (void)c;
    guest_call(t, "proxy_log", 2, guest_put(t, "may log", 7), 7);
    guest_call(t, "wasi:args_sizes_get", guest_room(t, 4), guest_room(t, 4));
    assert_false(t->host_trapped);
    guest_call(t, "proxy_set_tick_period_milliseconds", 1);
    return 0;
}

static void host_calls_are_restricted_during_start(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err = {""};
    t->start = forbidden;
    pt_guest_t g = {.name = "m", .start = "_initialize"};
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.module = pt_module(t, &g), .name = SL_STR("eager")}, &err), SL_TRAP);
    assert_non_null(strstr(err.text, "proxy_set_tick_period_milliseconds may not be called by _initialize"));
    assert_true(pt_logged(t, "[proxy-wasm][\"eager\" #0] may log"));
    pt_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_marker_gives_its_version),
        cmocka_unit_test(without_a_marker_the_text_says_what_is_missing),
        cmocka_unit_test(a_module_without_allocator_is_refused),
        cmocka_unit_test(an_unknown_or_ill_typed_import_is_named),
        cmocka_unit_test(both_types_of_the_old_calls_link),
        cmocka_unit_test(a_callback_of_another_type_is_refused),
        cmocka_unit_test(no_row_of_the_table_stands_twice),
        cmocka_unit_test(initialize_is_followed_by_main),
        cmocka_unit_test(start_is_called_where_there_is_no_initialize),
        cmocka_unit_test(proc_exit_0_in_start_means_returned),
        cmocka_unit_test(host_calls_are_restricted_during_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
