#include "nd_filters.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "nd_meta.h"
#include "sl_file.h"

static char dir[64];
static nd_filters_t *f;
static sl_err_t err;

static int make(void **state) {
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/sluice-filters-XXXXXX");
    f = NULL;
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int drop(void **state) {
    (void)state;
    nd_filters_free(f);
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    return system(cmd);
}

static void put(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(sl_file_write_atomic(path, sl_cstr(text), 0644, &err), SL_OK);
}

static void wasm_files_of_any_case_are_filters_and_nothing_else_is(void **state) {
    (void)state;
    put("b.wasm", "x");
    put("a.WASM", "x");
    put("c.txt", "x");
    put(".wasm", "x");
    char sub[128];
    snprintf(sub, sizeof(sub), "%s/d.wasm", dir);
    mkdir(sub, 0755);
    assert_int_equal(nd_filters_scan(dir, SL_STR("bundled,user"), &f, &err), SL_OK);
    assert_int_equal(nd_filters_count(f), 2);
    assert_string_equal(nd_filters_at(f, 0)->name, "a");
    assert_string_equal(nd_filters_at(f, 1)->name, "b");
    assert_non_null(nd_filters_find(f, SL_STR("b")));
    assert_null(nd_filters_find(f, SL_STR("d")));
}

static void filters_are_chosen_by_name_and_off_overrides_the_rest(void **state) {
    (void)state;
    put("a.wasm", "x");
    put("b.wasm", "x");
    assert_int_equal(nd_filters_scan(dir, SL_STR("b, nosuch"), &f, &err), SL_OK);
    assert_int_equal(nd_filters_count(f), 1);
    nd_filters_free(f);
    assert_int_equal(nd_filters_scan(dir, SL_STR("user, off"), &f, &err), SL_OK);
    assert_int_equal(nd_filters_count(f), 0);
}

static void a_missing_folder_is_named(void **state) {
    (void)state;
    assert_int_equal(nd_filters_scan("/nonexistent/filters", SL_STR("user"), &f, &err), SL_IO);
    assert_string_equal(err.text, "wasm_filters_path '/nonexistent/filters' is not a valid directory");
}

static void no_folder_means_no_filters(void **state) {
    (void)state;
    assert_int_equal(nd_filters_scan(NULL, SL_STR("user"), &f, &err), SL_OK);
    assert_int_equal(nd_filters_count(f), 0);
    assert_null(nd_filters_at(f, 0));
}

static void the_schema_comes_from_the_metadata_file(void **state) {
    (void)state;
    put("a.wasm", "x");
    put("a.meta.json", "{\"config_schema\": {\"type\": \"object\"}, \"extra\": 1}");
    assert_int_equal(nd_filters_scan(dir, SL_STR("user"), &f, &err), SL_OK);
    assert_true(sl_str_eq(nd_filters_at(f, 0)->schema, SL_STR("{\"type\":\"object\"}")));
}

static void a_schema_with_an_unsupported_keyword_is_refused_by_name(void **state) {
    (void)state;
    put("a.wasm", "x");
    put("a.meta.json", "{\"config_schema\": {\"frobnicate\": 1}}");
    assert_int_equal(nd_filters_scan(dir, SL_STR("user"), &f, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "frobnicate"));
}

static void every_bad_metadata_file_is_listed(void **state) {
    (void)state;
    put("a.wasm", "x");
    put("a.meta.json", "{");
    put("b.wasm", "x");
    put("b.meta.json", "{\"config_schema\": {\"$schema\": \"http://json-schema.org/draft-07/schema#\"}}");
    assert_int_equal(nd_filters_scan(dir, SL_STR("user"), &f, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "Failed to load metadata for one or more filters:"));
    assert_non_null(strstr(err.text, "* a ("));
    assert_non_null(strstr(err.text, "JSON decode error"));
    assert_non_null(strstr(err.text, "* b ("));
    assert_non_null(strstr(err.text, "unsupported document $schema"));
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, make, drop)

static void label_patterns_and_versions_of_metadata_are_checked(void **state) {
    (void)state;
    static const struct {
        const char *text, *problem; /* NULL: fine */
    } cases[] = {
        {"{\"metrics\":{\"label_patterns\":[{\"label\":\"service\",\"pattern\":\"(_s_id=([0-9a-z%-]+))\"}]},\"version\":\"1.0\"}", NULL},
        {"{\"metrics\":{}}", NULL},
        {"{\"metrics\":{\"label_patterns\":{}}}", "metrics: label_patterns: expected an array"},
        {"{\"metrics\":{\"label_patterns\":[{\"pattern\":\"a\"}]}}", "label_patterns[0]: label: required field missing"},
        {"{\"metrics\":{\"label_patterns\":[{\"label\":\"a\"}]}}", "label_patterns[0]: pattern: required field missing"},
        {"{\"metrics\":{\"label_patterns\":[{\"label\":1,\"pattern\":\"a\"}]}}", "label: expected a string"},
        {"{\"metrics\":{\"label_patterns\":[{\"label\":\"9a\",\"pattern\":\"a\"}]}}", "label: expected letters"},
        {"{\"metrics\":{\"label_patterns\":[{\"label\":\"a\",\"pattern\":\"(\"}]}}", "pattern: not a valid regex"},
        {"{\"metrics\":{\"label_patterns\":[{\"label\":\"a\",\"pattern\":\"_a=([a-z]+)\"}]}}",
         "label_patterns[0]: pattern: has 1 of the two groups"},
        {"{\"metrics\":{\"label_patterns\":[{\"label\":\"a\",\"pattern\":\"_a=[a-z]+\"}]}}", "pattern: has 0 of the two groups"},
        {"{\"version\":\"12\"}", "version: expected"},
        {"{\"version\":\"a/b\"}", "version: expected"},
        {"{\"config_schema\":{\"$schema\":\"http://json-schema.org/draft-07/schema#\"}}", "unsupported document $schema"},
        {"{\"config_schema\":{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\"}}", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sl_err_t why = {.text = ""};
        json_t *meta = NULL;
        sl_status_t rc = nd_meta_parse(sl_cstr(cases[i].text), &meta, &why);
        assert_int_equal(rc, cases[i].problem == NULL ? SL_OK : SL_INVALID);
        assert_true(cases[i].problem == NULL || strstr(why.text, cases[i].problem) != NULL);
        json_decref(meta);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(label_patterns_and_versions_of_metadata_are_checked),
        TEST(wasm_files_of_any_case_are_filters_and_nothing_else_is),
        TEST(filters_are_chosen_by_name_and_off_overrides_the_rest),
        TEST(a_missing_folder_is_named),
        TEST(no_folder_means_no_filters),
        TEST(the_schema_comes_from_the_metadata_file),
        TEST(a_schema_with_an_unsupported_keyword_is_refused_by_name),
        TEST(every_bad_metadata_file_is_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
