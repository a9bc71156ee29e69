#include "gw_config_support.h"

#include <stdlib.h>

#include "cmocka_all.h"

static bool has_filter(void *ud, sl_str_t name) {
    (void)ud;
    return sl_str_eq(name, SL_STR("add")) || sl_str_eq(name, SL_STR("set")) || sl_str_eq(name, SL_STR("typed"));
}

static sl_str_t filter_schema(void *ud, sl_str_t name) {
    (void)ud;
    return sl_str_eq(name, SL_STR("typed"))
               ? SL_STR("{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}")
               : SL_STR_NULL;
}

gw_validate_env_t test_env(void) {
    return (gw_validate_env_t){
        .wasm_enabled = true, .any_filters = true, .has_filter = has_filter, .filter_schema = filter_schema, .now_s = TEST_NOW};
}

json_t *test_parse(const char *text) {
    sl_err_t err;
    json_t *doc = NULL;
    if (gw_document_parse(sl_cstr(text), GW_TEXT_AUTO, NULL, &doc, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    return doc;
}

static void fail_with_json(const char *what, const json_t *value) {
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_INDENT(2));
    print_error("%s: %s\n", what, text ? text : "(nothing)");
    free(text);
    fail();
}

json_t *test_entities(const char *text) {
    gw_validate_env_t env = test_env();
    json_t *doc = test_parse(text), *entities, *errors;
    if (gw_config_validate(doc, &env, &entities, &errors) != SL_OK) {
        fail_with_json("unexpected errors", errors);
    }
    json_decref(doc);
    return entities;
}

json_t *test_errors(const char *text) {
    gw_validate_env_t env = test_env();
    json_t *doc = test_parse(text), *entities, *errors;
    if (gw_config_validate(doc, &env, &entities, &errors) != SL_INVALID) {
        fail_with_json("unexpectedly valid", entities);
    }
    json_decref(doc);
    return errors;
}

void test_json_equal(const json_t *value, const char *expected) {
    json_error_t e;
    json_t *want = json_loads(expected, JSON_DECODE_ANY, &e);
    if (want == NULL) {
        fail_msg("the test's own JSON is wrong: %s", e.text);
    }
    if (value == NULL || !json_equal(value, want)) {
        print_error("expected: %s\n", expected);
        fail_with_json("got", value);
    }
    json_decref(want);
}

const json_t *test_only(const json_t *entities, const char *collection) {
    json_t *by_id = json_object_get(entities, collection);
    assert_int_equal(json_object_size(by_id), 1);
    return json_object_iter_value(json_object_iter(by_id));
}
