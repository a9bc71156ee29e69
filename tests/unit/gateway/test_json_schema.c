#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "gw_json_schema.h"

static json_t *load(const char *text) {
    json_error_t e;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &e);
    if (value == NULL) {
        fail_msg("%s: %s", e.text, text);
    }
    return value;
}

/* `expected` NULL: the value is valid. */
static void assert_validation(const char *schema_text, const char *value_text, const char *expected) {
    sl_err_t err = {.text = ""};
    json_t *schema = load(schema_text), *value = load(value_text);
    if (gw_json_schema_check(schema, &err) != SL_OK) {
        fail_msg("%s: %s", schema_text, err.text);
    }
    err.text[0] = '\0';
    sl_status_t rc = gw_json_schema_validate(schema, value, &err);
    if (rc != (expected == NULL ? SL_OK : SL_INVALID) || strcmp(err.text, expected ? expected : "") != 0) {
        fail_msg("%s against %s: '%s' instead of '%s'", value_text, schema_text, err.text, expected ? expected : "");
    }
    json_decref(schema);
    json_decref(value);
}

static void assert_refused(const char *schema_text, const char *expected) {
    sl_err_t err = {.text = ""};
    json_t *schema = load(schema_text);
    assert_int_equal(gw_json_schema_check(schema, &err), SL_INVALID);
    assert_string_equal(err.text, expected);
    json_decref(schema);
}

static void test_types(void **state) {
    (void)state;
    assert_validation("{\"type\": \"object\"}", "null", "wrong type: expected object, got null");
    assert_validation("{\"type\": [\"string\", \"null\"]}", "{}", "wrong type: expected one of string, null, got object");
    assert_validation("{\"type\": \"integer\"}", "1.0", NULL);
    assert_validation("{\"type\": \"integer\"}", "1.5", "wrong type: expected integer, got number");
    assert_validation("{\"type\": \"number\"}", "1", NULL);
    assert_validation("{}", "[1]", NULL);
}

static void test_properties(void **state) {
    (void)state;
    static const char schema[] = "{\"properties\": {\"foo\": {\"type\": \"string\"}}, \"required\": [\"add\"], \"additionalProperties\": "
                                 "false, \"patternProperties\": "
                                 "{\"^x-\": {\"minimum\": 1}, \"^add$\": {}}}";
    assert_validation(schema, "{}", "property add is required");
    assert_validation(schema, "{\"add\": 1, \"foo\": 1}", "property foo validation failed: wrong type: expected string, got number");
    assert_validation(schema, "{\"add\": 1, \"bar\": 1}", "additional properties forbidden, found bar");
    assert_validation(schema, "{\"add\": 1, \"x-a\": 0}", "property x-a validation failed: expected 0 to be at least 1");
    assert_validation(schema, "{\"add\": 1, \"x-a\": 1, \"foo\": \"\"}", NULL);
    assert_validation("{\"additionalProperties\": {\"type\": \"null\"}}", "{\"a\": 1}",
                      "property a validation failed: wrong type: expected null, got number");
    assert_validation("{\"minProperties\": 1, \"maxProperties\": 2}", "{}", "expect object to have at least 1 properties");
    assert_validation("{\"dependencies\": {\"a\": [\"b\"]}}", "{\"a\": 1}", "property b is required when the object has a");
    assert_validation("{\"dependencies\": {\"a\": {\"minProperties\": 2}}}", "{\"a\": 1}", "expect object to have at least 2 properties");
}

static void test_lists(void **state) {
    (void)state;
    assert_validation("{\"items\": {\"type\": \"number\"}}", "[1, \"x\"]",
                      "failed to validate item 2: wrong type: expected number, got string");
    assert_validation("{\"items\": [{\"type\": \"number\"}], \"additionalItems\": false}", "[1, 2]",
                      "expect array to have at most 1 items");
    assert_validation("{\"minItems\": 2}", "[1]", "expect array to have at least 2 items");
    assert_validation("{\"uniqueItems\": true}", "[{\"a\": 1, \"b\": 2}, 1, {\"b\": 2, \"a\": 1}]",
                      "expected unique items but items 1 and 3 are equal");
}

static void test_numbers_and_texts(void **state) {
    (void)state;
    assert_validation("{\"maximum\": 3}", "4", "expected 4 to be at most 3");
    assert_validation("{\"minimum\": 3, \"exclusiveMinimum\": true}", "3", "expected 3 to be strictly greater than 3");
    assert_validation("{\"exclusiveMaximum\": 3}", "3", "expected 3 to be smaller than 3");
    assert_validation("{\"multipleOf\": 0.1}", "0.3", NULL);
    assert_validation("{\"multipleOf\": 2}", "3", "expected 3 to be a multiple of 2");
    assert_validation("{\"maxLength\": 2}", "\"\\u00e9\\u00e9\"", NULL);
    assert_validation("{\"minLength\": 2}", "\"\\u00e9\"", "string too short, expected at least 2, got 1");
    assert_validation("{\"pattern\": \"^a+$\"}", "\"b\"", "failed to match pattern \"^a+$\" with \"b\"");
    assert_validation("{\"pattern\": \"b\"}", "\"abc\"", NULL);
}

static void test_combinations(void **state) {
    (void)state;
    assert_validation("{\"enum\": [1, \"a\"]}", "2", "matches none of the enum values");
    assert_validation("{\"enum\": [1]}", "1.0", NULL);
    assert_validation("{\"const\": 1}", "2", "does not equal the const value");
    assert_validation("{\"allOf\": [{}, {\"type\": \"null\"}]}", "1", "allOf 2 failed: wrong type: expected null, got number");
    assert_validation("{\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}", "1", "value matches none of the schemas of anyOf");
    assert_validation("{\"oneOf\": [{\"type\": \"number\"}, {\"minimum\": 0}]}", "1",
                      "value should match only one schema, but matches more than one");
    assert_validation("{\"oneOf\": [{\"type\": \"number\"}, {\"minimum\": 2}]}", "1", NULL);
    assert_validation("{\"not\": {\"type\": \"null\"}}", "null", "value is not supposed to match the schema of not");
}

static void test_references_within_the_document(void **state) {
    (void)state;
    static const char tree[] = "{\"definitions\": {\"a/b\": {\"type\": \"object\", \"properties\": {\"next\": {\"$ref\": "
                               "\"#/definitions/a~1b\"}}, \"required\": [\"v\"]}}, "
                               "\"$ref\": \"#/definitions/a~1b\"}";
    assert_validation(tree, "{\"v\": 1, \"next\": {\"v\": 2}}", NULL);
    assert_validation(tree, "{\"v\": 1, \"next\": {}}", "property next validation failed: property v is required");
    assert_refused("{\"$ref\": \"http://x/y\"}", "$ref: expected a reference to a schema of this document (#/...)");
    assert_refused("{\"$ref\": \"#/definitions/a\"}", "$ref: expected a reference to a schema of this document (#/...)");
}

static void test_endless_references_are_bounded(void **state) {
    (void)state;
    assert_validation("{\"$ref\": \"#\"}", "1", "value takes too long to validate against its schema");
    assert_validation("{\"definitions\": {\"a\": {\"anyOf\": [{\"$ref\": \"#/definitions/a\"}, {\"$ref\": \"#/definitions/a\"}]}}, "
                      "\"$ref\": \"#/definitions/a\"}",
                      "1", "value takes too long to validate against its schema");
}

static void test_unsupported_and_malformed_keywords_are_refused_by_name(void **state) {
    (void)state;
    assert_refused("{\"propertyNames\": {}}", "keyword 'propertyNames' is not supported");
    assert_refused("{\"properties\": {\"a\": {\"if\": {}}}}", "properties: a: keyword 'if' is not supported");
    assert_refused("{\"pattern\": \"(\"}", "pattern: not a regular expression: missing closing parenthesis at offset 1");
    assert_refused("{\"type\": \"text\"}", "type: expected a type");
    assert_refused("{\"anyOf\": []}", "anyOf: expected a list of schemas");
    assert_refused("{\"minLength\": -1}", "minLength: expected a number that is not negative");
    assert_refused("[]", "expected a schema, which is an object");
}

static void test_every_failing_allocation_ends_cleanly(void **state) {
    (void)state;
    json_set_alloc_funcs(malloc, free);
    json_t *schema = load("{\"uniqueItems\": true, \"items\": {\"patternProperties\": {\"a\": {\"pattern\": \"x\"}}}}"),
           *value = load("[{\"a\": \"x\"}, {}, 1]");
    for (unsigned nth = 1, seen = 1; seen >= nth; nth++) {
        fail_alloc_at(nth);
        sl_status_t rc = gw_json_schema_validate(schema, value, NULL);
        seen = fail_alloc_seen();
        fail_alloc_at(0);
        assert_int_equal(rc, seen < nth ? SL_OK : SL_NO_MEMORY);
    }
    json_decref(schema);
    json_decref(value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_numbers_and_texts),
        cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_references_within_the_document),
        cmocka_unit_test(test_endless_references_are_bounded),
        cmocka_unit_test(test_unsupported_and_malformed_keywords_are_refused_by_name),
        cmocka_unit_test(test_every_failing_allocation_ends_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
