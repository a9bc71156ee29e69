#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "gw_config_support.h"

static void assert_refused(sl_str_t text, const gw_limits_t *limits, const char *part) {
    sl_err_t err = {.text = ""};
    json_t *doc = NULL;
    assert_int_equal(gw_document_parse(text, GW_TEXT_AUTO, limits, &doc, &err), SL_INVALID);
    assert_null(doc);
    if (strstr(err.text, part) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, part);
    }
}

static void assert_value(const char *yaml, const char *json) {
    json_t *doc = test_parse(yaml);
    test_json_equal(json_object_get(doc, "v"), json);
    json_decref(doc);
}

static void test_json_and_yaml_give_the_same_tree(void **state) {
    (void)state;
    json_t *a = test_parse("{\"a\": [1, 2.5, true, null, \"x\"], \"b\": {}}"), *b = test_parse("a: [1, 2.5, true, ~, x]\nb: {}\n");
    assert_true(json_equal(a, b));
    json_decref(a);
    json_decref(b);
}

static void test_plain_scalars_get_yaml_1_1_types(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"v: ~", "null"},
        {"v:", "null"},
        {"v: null", "null"},
        {"v: yes", "true"},
        {"v: Off", "false"},
        {"v: TRUE", "true"},
        {"v: 12", "12"},
        {"v: -7", "-7"},
        {"v: 0x1F", "31"},
        {"v: 0b101", "5"},
        {"v: 010", "8"},
        {"v: 0", "0"},
        {"v: 1_000", "1000"},
        {"v: 3.0", "3.0"},
        {"v: .5", "0.5"},
        {"v: 1e3", "1000.0"},
        {"v: '3.0'", "\"3.0\""},
        {"v: \"12\"", "\"12\""},
        {"v: 1.2.3.4", "\"1.2.3.4\""},
        {"v: 12:30", "\"12:30\""},
        {"v: n", "\"n\""},
        {"v: .", "\".\""},
        {"v: '~'", "\"~\""},
        {"v: !!str 12", "\"12\""},
        {"v: !!int '12'", "12"},
        {"v: 2001-01-01", "\"2001-01-01\""},
        {"v: _1", "\"_1\""},
        {"v: 1e", "\"1e\""},
        {"v: 09", "\"09\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_value(cases[i][0], cases[i][1]);
    }
}

static void test_integers_beyond_64_bits_become_reals(void **state) {
    (void)state;
    json_t *doc = test_parse("v: 99999999999999999999");
    assert_true(json_is_real(json_object_get(doc, "v")));
    json_decref(doc);
}

static void test_folded_text_with_json_inside_arrives_byte_for_byte(void **state) {
    (void)state;
    assert_value("v: >-\n  {\n    \"my_greeting\": \"Hello\"\n  }\n", "\"{\\n  \\\"my_greeting\\\": \\\"Hello\\\"\\n}\"");
}

static void test_aliases_are_expanded_and_merge_keys_fill_gaps(void **state) {
    (void)state;
    assert_value("d: &d {a: 1, b: 2}\nv: {<<: *d, b: 3}\n", "{\"a\":1,\"b\":3}");
    assert_value("d: &d [1]\nv: [*d, *d]\n", "[[1],[1]]");
    assert_value("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nv: {<<: [*a, *b]}\n", "{\"x\":1,\"y\":2}");
}

static void test_broken_text_is_refused_with_its_place(void **state) {
    (void)state;
    assert_refused(SL_STR("a: [1, 2\nb: 3\n"), NULL, "line 2");
    assert_refused(SL_STR("{\"a\": [1}"), NULL, "line 1, column 9");
    assert_refused(SL_STR("a: 1\n--- \nb: 2\n"), NULL, "second document");
    assert_refused(SL_STR("a: !thing x\n"), NULL, "line 1, column 4: tag is not supported");
    assert_refused(SL_STR("a: .inf\n"), NULL, "not finite");
}

static void test_what_is_no_object_is_refused(void **state) {
    (void)state;
    assert_refused(SL_STR(""), NULL, "expected an object");
    assert_refused(SL_STR("just text"), NULL, "expected an object");
    assert_refused(SL_STR("[1, 2]"), NULL, "expected an object");
    assert_refused(SL_STR("12"), NULL, "expected an object");
}

static void test_duplicate_and_odd_keys_are_refused(void **state) {
    (void)state;
    assert_refused(SL_STR("a: 1\na: 2\n"), NULL, "line 2, column 1: key 'a' appears twice");
    assert_refused(SL_STR("{\"a\": 1, \"a\": 2}"), NULL, "duplicate");
    assert_refused(SL_STR("1: a\n"), NULL, "a key must be text");
    assert_refused(SL_STR("? [1]\n: a\n"), NULL, "a key must be text");
    assert_value("v: {'1': a}", "{\"1\":\"a\"}");
}

static void test_nul_bytes_and_invalid_utf8_are_refused(void **state) {
    (void)state;
    assert_refused(SL_STR("a: \"\\0\"\n"), NULL, "NUL");
    assert_refused(SL_STR("{\"a\": \"\\u0000\"}"), NULL, "line 1");
    assert_refused(SL_STR("a: \xff\n"), NULL, "invalid UTF-8 at byte 4");
    assert_refused(SL_STR("a: b\0c"), NULL, "line 1");
}

static void test_size_depth_and_number_of_values_have_limits(void **state) {
    (void)state;
    gw_limits_t limits = {.max_bytes = 40, .max_depth = 4, .max_nodes = 10};
    assert_refused(SL_STR("a: 0123456789012345678901234567890123456789"), &limits, "larger than the limit of 40");
    assert_refused(SL_STR("{\"a\":[[[[1]]]]}"), &limits, "nested deeper than 4 levels");
    assert_refused(SL_STR("a: [[[[1]]]]"), &limits, "nested deeper than 4 levels");
    assert_refused(SL_STR("{\"a\":[1,1,1,1,1,1,1,1,1,1,1]}"), &limits, "more than 10 values");
    assert_refused(SL_STR("a: [1,1,1,1,1,1,1,1,1,1,1]"), &limits, "more than 10 values");
}

static void test_depth_at_the_limit_is_accepted(void **state) {
    (void)state;
    gw_limits_t limits = {.max_depth = 4};
    json_t *doc = NULL;
    assert_int_equal(gw_document_parse(SL_STR("a: [[1]]"), GW_TEXT_YAML, &limits, &doc, NULL), SL_OK);
    json_decref(doc);
    assert_int_equal(gw_document_parse(SL_STR("{\"a\":[[[1]]]}"), GW_TEXT_JSON, &limits, &doc, NULL), SL_OK);
    json_decref(doc);
}

static void test_alias_bombs_are_bounded(void **state) {
    (void)state;
    sl_buf_t text;
    sl_buf_init(&text, 65536);
    sl_buf_append_cstr(&text, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 12; i++) {
        sl_buf_printf(&text, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++) {
            sl_buf_printf(&text, "*a%d,", i - 1);
        }
        sl_buf_append_cstr(&text, "]\n");
    }
    assert_refused(sl_buf_str(&text), NULL, "aliases make the document too large");
    sl_buf_deinit(&text);
}

static void test_aliases_that_nest_too_deeply_are_refused(void **state) {
    (void)state;
    gw_limits_t limits = {.max_depth = 5};
    assert_refused(SL_STR("a: &a [[[1]]]\nb: [[*a]]\n"), &limits, "nest too deeply");
}

static void test_cyclic_and_dangling_aliases_are_refused(void **state) {
    (void)state;
    assert_refused(SL_STR("a: &a [1, *a]\n"), NULL, "alias inside the value that it names");
    assert_refused(SL_STR("a: *nobody\n"), NULL, "anchor that does not exist");
}

static void test_what_is_printed_as_yaml_reads_back_the_same(void **state) {
    (void)state;
    json_t *doc = test_parse(
        "{\"v\": [\"yes\", \"12\", \"3.0\", \"~\", \"\", \" lead\", \"two\\nlines\", \"<<\", \"#x\", \"a: b\", \"\\u00e9\", \"\\t\","
        " 1, 2.5, -3, true, false, null, [], {}, {\"k\": [{\"x\": 1}]}], \"on\": 1, \"1\": \"\\u0001\", \"e\": 1e300}");
    sl_buf_t yaml;
    json_t *again = NULL;
    sl_err_t err = {.text = ""};
    sl_buf_init(&yaml, 65536);
    assert_int_equal(gw_document_print_yaml(doc, &yaml), SL_OK);
    if (gw_document_parse(sl_buf_str(&yaml), GW_TEXT_YAML, NULL, &again, &err) != SL_OK) {
        fail_msg("%s in\n%s", err.text, sl_buf_cstr(&yaml));
    }
    assert_true(json_equal(doc, again));
    sl_buf_deinit(&yaml);
    json_decref(doc);
    json_decref(again);
}

static void test_a_byte_order_mark_is_skipped(void **state) {
    (void)state;
    assert_value("\xef\xbb\xbf{\"v\": 1}", "1");
    assert_value("\xef\xbb\xbfv: 1\n", "1");
}

/* Allocations of the libraries go through our allocator, so that each of them fails once. */
static void test_every_failing_allocation_ends_cleanly(void **state) {
    (void)state;
    static const char text[] = "a: &a {x: [1, two, 'three']}\nb: {<<: *a, y: *a}\n";
    json_set_alloc_funcs(malloc, free);
    for (unsigned nth = 1;; nth++) {
        json_t *doc = NULL;
        fail_alloc_at(nth);
        sl_status_t rc = gw_document_parse(SL_STR(text), GW_TEXT_YAML, NULL, &doc, NULL);
        unsigned seen = fail_alloc_seen();
        fail_alloc_at(0);
        if (seen < nth) {
            assert_int_equal(rc, SL_OK);
            json_decref(doc);
            break;
        }
        assert_int_equal(rc, SL_NO_MEMORY);
        assert_null(doc);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_and_yaml_give_the_same_tree),
        cmocka_unit_test(test_plain_scalars_get_yaml_1_1_types),
        cmocka_unit_test(test_integers_beyond_64_bits_become_reals),
        cmocka_unit_test(test_folded_text_with_json_inside_arrives_byte_for_byte),
        cmocka_unit_test(test_aliases_are_expanded_and_merge_keys_fill_gaps),
        cmocka_unit_test(test_broken_text_is_refused_with_its_place),
        cmocka_unit_test(test_what_is_no_object_is_refused),
        cmocka_unit_test(test_duplicate_and_odd_keys_are_refused),
        cmocka_unit_test(test_nul_bytes_and_invalid_utf8_are_refused),
        cmocka_unit_test(test_size_depth_and_number_of_values_have_limits),
        cmocka_unit_test(test_depth_at_the_limit_is_accepted),
        cmocka_unit_test(test_alias_bombs_are_bounded),
        cmocka_unit_test(test_aliases_that_nest_too_deeply_are_refused),
        cmocka_unit_test(test_cyclic_and_dangling_aliases_are_refused),
        cmocka_unit_test(test_what_is_printed_as_yaml_reads_back_the_same),
        cmocka_unit_test(test_a_byte_order_mark_is_skipped),
        cmocka_unit_test(test_every_failing_allocation_ends_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
