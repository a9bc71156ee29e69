#include <stdlib.h>

#include "cmocka_all.h"
#include "gw_config_support.h"
#include "gw_errors.h"

#define HEAD "_format_version: '3.0'\n"
#define SERVICE_ID "0175e0e8-3de9-56b4-96f1-b12dcb4b6691"

static void assert_lua(const char *json, bool compact, const char *expected) {
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    sl_buf_t out;
    sl_buf_init(&out, 65536);
    gw_lua_print(value, compact, &out);
    assert_string_equal(sl_buf_cstr(&out), expected);
    sl_buf_deinit(&out);
    json_decref(value);
}

static void assert_message(const char *fields_json, const char *expected) {
    json_t *fields = json_loads(fields_json, 0, NULL), *object = gw_error_schema(fields);
    assert_string_equal(json_string_value(json_object_get(object, "message")), expected);
    assert_true(json_equal(json_object_get(object, "fields"), fields));
    json_decref(fields);
    json_decref(object);
}

static json_t *error_of(const char *text, bool flatten) {
    json_t *fields = test_errors(text), *doc = test_parse(text), *error = gw_config_error(fields, flatten ? doc : NULL);
    assert_non_null(error);
    json_decref(fields);
    json_decref(doc);
    return error;
}

static void test_values_print_as_lua_tables(void **state) {
    (void)state;
    assert_lua("{\"name\": \"x\"}", true, "{name=\"x\"}");
    assert_lua("{\"service\": {\"id\": \"i\"}, \"route\": null}", true, "{route=null,service={id=\"i\"}}");
    assert_lua("{\"@entity\": [\"a\"], \"end\": 1, \"a-b\": true}", true, "{[\"@entity\"]={\"a\"},[\"a-b\"]=true,[\"end\"]=1}");
    assert_lua("[null, {\"a\": \"b\"}, null, \"c\"]", true, "{[2]={a=\"b\"},[4]=\"c\"}");
    assert_lua("[\"a\", null, \"c\"]", true, "{\"a\",[3]=\"c\"}");
    assert_lua("\"say \\\"hi\\\" \\\\ \"", true, "\"say \\\"hi\\\" \\\\ \"");
    assert_lua("\"two\\nlines\"", true, "[[two\nlines]]");
    assert_lua("{}", true, "{}");
}

static void test_deep_values_print_over_several_lines(void **state) {
    (void)state;
    assert_lua("{\"name\": \"no such filter\"}", false, "{\n  name = \"no such filter\"\n}");
    assert_lua("{\"a\": [\"x\", {\"b\": 1}]}", false, "{\n  a = {\n    \"x\",\n    {\n      b = 1\n    }\n  }\n}");
}

static void test_a_schema_violation_counts_its_problems(void **state) {
    (void)state;
    assert_message("{\"host\": \"required field missing\"}", "schema violation (host: required field missing)");
    assert_message("{\"path\": \"b\", \"host\": \"a\", \"@entity\": [\"e1\", \"e2\"]}", "4 schema violations (e1; e2; host: a; path: b)");
    assert_message("{\"protocols\": [null, \"bad\"]}", "schema violation (protocols.2: bad)");
    assert_message("{\"service\": {\"id\": \"bad\"}}", "schema violation (service.id: bad)");
    assert_message("{\"filters\": [null, {\"name\": \"no such filter\"}]}",
                   "schema violation (filters.2: {\n  name = \"no such filter\"\n})");
}

static void test_unresolved_references_have_their_own_code(void **state) {
    (void)state;
    json_t *fields = json_loads("{\"service\":{\"name\":\"gone\"}}", 0, NULL), *object = gw_error_unresolved(fields);
    test_json_equal(object, "{\"code\":13,\"name\":\"foreign keys unresolved\",\"message\":\"foreign key unresolved (service.name: gone)\","
                            "\"fields\":{\"service\":{\"name\":\"gone\"}}}");
    json_decref(fields);
    json_decref(object);
}

static void test_objects_without_fields_leave_them_out(void **state) {
    (void)state;
    json_t *object = gw_error_object(GW_ERR_UNSUPPORTED, "no", NULL);
    test_json_equal(object, "{\"code\":12,\"name\":\"operation unsupported\",\"message\":\"no\"}");
    json_decref(object);
}

static void test_a_document_error_has_code_14_and_a_message_with_all_of_it(void **state) {
    (void)state;
    json_t *error = error_of(HEAD "services: [{port: 70000}]\n", false);
    test_json_equal(error,
                    "{\"code\":14,\"name\":\"invalid declarative configuration\",\"message\":\"declarative config is invalid: "
                    "{services={{host=\\\"required field missing\\\",port=\\\"value should be between 0 and 65535\\\"}}}\","
                    "\"fields\":{\"services\":[{\"host\":\"required field missing\",\"port\":\"value should be between 0 and 65535\"}]}}");
    json_decref(error);
}

static void test_flattened_errors_have_a_row_per_entity(void **state) {
    (void)state;
    json_t *error = error_of(HEAD "services: [{name: s, id: " SERVICE_ID
                                  ", tags: [t], port: x, host: h, routes: [{name: r, paths: [x]}]}, {name: '', id: 1, tags: [1]}]\n",
                             true);
    test_json_equal(
        json_object_get(error, "flattened_errors"),
        "[{\"entity_type\":\"service\",\"entity_id\":\"" SERVICE_ID "\",\"entity_name\":\"s\",\"entity_tags\":[\"t\"],"
        "\"entity\":{\"name\":\"s\",\"id\":\"" SERVICE_ID "\",\"tags\":[\"t\"],\"port\":\"x\",\"host\":\"h\"},"
        "\"errors\":[{\"type\":\"field\",\"field\":\"port\",\"message\":\"expected an integer\"}]},"
        "{\"entity_type\":\"route\",\"entity_name\":\"r\",\"entity\":{\"name\":\"r\",\"paths\":[\"x\"],\"service\":{\"id\":\"" SERVICE_ID
        "\"}},"
        "\"errors\":[{\"type\":\"field\",\"field\":\"paths.1\",\"message\":\"should start with: / (fixed path) or ~/ (regex path)\"}]},"
        "{\"entity_type\":\"service\",\"entity\":{\"name\":\"\",\"id\":1,\"tags\":[1]},\"errors\":["
        "{\"type\":\"field\",\"field\":\"id\",\"message\":\"expected a string\"},"
        "{\"type\":\"field\",\"field\":\"name\",\"message\":\"length must be at least 1\"},"
        "{\"type\":\"field\",\"field\":\"host\",\"message\":\"required field missing\"},"
        "{\"type\":\"field\",\"field\":\"tags.1\",\"message\":\"expected a string\"}]}]");
    test_json_equal(json_object_get(error, "fields"), "{}");
    json_decref(error);
}

static void test_errors_of_entities_as_a_whole_are_of_type_entity(void **state) {
    (void)state;
    json_t *error = error_of(HEAD "routes: [{name: r}]\n", true);
    test_json_equal(
        json_object_get(error, "flattened_errors"),
        "[{\"entity_type\":\"route\",\"entity_name\":\"r\",\"entity\":{\"name\":\"r\"},\"errors\":[{\"type\":\"entity\",\"message\":"
        "\"must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'\"}]}]");
    json_decref(error);
}

static void test_an_entity_inside_a_foreign_field_has_a_row_of_its_own(void **state) {
    (void)state;
    json_t *error = error_of(HEAD "services:\n"
                                  "- {name: s, host: a.test, protocol: https, client_certificate: {cert: x, key: y, tags: [t]}}\n"
                                  "- {name: t, host: a.test, protocol: https, client_certificate: {id: x}}\n",
                             true);
    test_json_equal(json_object_get(error, "flattened_errors"),
                    "[{\"entity_type\":\"certificate\",\"entity_tags\":[\"t\"],\"entity\":{\"cert\":\"x\",\"key\":\"y\",\"tags\":[\"t\"]},"
                    "\"errors\":[{\"type\":\"field\",\"field\":\"id\",\"message\":\"missing primary key\"}]},"
                    "{\"entity_type\":\"service\",\"entity_name\":\"t\","
                    "\"entity\":{\"name\":\"t\",\"host\":\"a.test\",\"protocol\":\"https\",\"client_certificate\":{\"id\":\"x\"}},"
                    "\"errors\":[{\"type\":\"field\",\"field\":\"client_certificate.id\",\"message\":\"expected a valid UUID\"}]}]");
    test_json_equal(json_object_get(error, "fields"), "{}");
    json_decref(error);
}

static void test_collisions_and_bad_references_are_flattened_too(void **state) {
    (void)state;
    json_t *error = error_of(HEAD "services: [{name: foo, host: a}, {name: foo, host: b}]\n", true);
    test_json_equal(json_object_get(error, "flattened_errors"),
                    "[{\"entity_type\":\"service\",\"entity_name\":\"foo\",\"entity\":{\"name\":\"foo\",\"host\":\"b\"},\"errors\":[{"
                    "\"type\":\"entity\","
                    "\"message\":\"uniqueness violation: 'services' entity with name set to 'foo' already declared\"}]}]");
    json_decref(error);
    error = error_of(HEAD "routes: [{name: r, paths: [/], service: ghost}]\n", true);
    test_json_equal(
        json_object_get(error, "flattened_errors"),
        "[{\"entity_type\":\"route\",\"entity_name\":\"r\",\"entity\":{\"name\":\"r\",\"paths\":[\"/\"],\"service\":\"ghost\"},\"errors\":["
        "{\"type\":\"entity\",\"message\":\"invalid reference 'service: ghost' (no such entry in 'services')\"}]}]");
    test_json_equal(json_object_get(error, "fields"), "{}");
    json_decref(error);
}

static void test_what_belongs_to_no_entity_stays_in_fields(void **state) {
    (void)state;
    json_t *error = error_of("services: [1]\nthings: 1\n", true);
    test_json_equal(json_object_get(error, "fields"),
                    "{\"_format_version\":\"required field missing\",\"things\":\"unknown field\",\"services\":[\"expected a record\"]}");
    test_json_equal(json_object_get(error, "flattened_errors"), "[]");
    json_decref(error);
}

static void test_lines_for_people_carry_the_path(void **state) {
    (void)state;
    json_t *fields = test_errors(HEAD "services: [{host: a}, {routes: [{paths: [/, x]}]}]\nfilter_chains: [{filters: [{name: nope}]}]\n");
    sl_buf_t out;
    sl_buf_init(&out, 65536);
    assert_int_equal(gw_config_error_lines(fields, &out), SL_OK);
    assert_string_equal(sl_buf_cstr(&out), "services[1].host: required field missing\n"
                                           "services[1].routes[0].paths[1]: should start with: / (fixed path) or ~/ (regex path)\n"
                                           "filter_chains[0].filters[0].name: no such filter\n"
                                           "filter_chains[0]: at least one of these fields must be non-empty: 'service', 'route'\n");
    sl_buf_deinit(&out);
    json_decref(fields);
}

static void test_lines_for_people_quote_no_line_ends_and_no_control_characters(void **state) {
    (void)state;
    json_t *fields = test_errors(HEAD "services: [{host: \"a\\r\\nb\", \"x\\ey\": 1}]\n");
    sl_buf_t out;
    sl_buf_init(&out, 65536);
    assert_int_equal(gw_config_error_lines(fields, &out), SL_OK);
    assert_string_equal(sl_buf_cstr(&out), "services[0].host: invalid value: a\\x0d\\x0ab\nservices[0].x\\x1by: unknown field\n");
    sl_buf_deinit(&out);
    json_decref(fields);
}

static void test_endless_messages_are_cut(void **state) {
    (void)state;
    json_t *fields = json_object(), *list = json_array();
    for (int i = 0; i < 100000; i++) {
        json_array_append_new(list, json_pack("{s:s}", "host", "required field missing"));
    }
    json_object_set_new(fields, "services", list);
    json_t *error = gw_config_error(fields, NULL);
    size_t len = json_string_length(json_object_get(error, "message"));
    assert_true(len > 1000000 && len < 1100000);
    assert_non_null(strstr(json_string_value(json_object_get(error, "message")), ",...}"));
    assert_int_equal(json_array_size(json_object_get(json_object_get(error, "fields"), "services")), 100000);
    json_decref(error);
    json_decref(fields);
}

static void test_many_bad_references_are_flattened_quickly(void **state) {
    (void)state;
    sl_buf_t text;
    sl_buf_init(&text, 1 << 24);
    sl_buf_append_cstr(&text, HEAD "routes:\n");
    for (int i = 0; i < 20000; i++) {
        sl_buf_printf(&text, "- {name: r%d, paths: [/], service: ghost}\n", i);
    }
    json_t *error = error_of(sl_buf_cstr(&text), true);
    assert_int_equal(json_array_size(json_object_get(error, "flattened_errors")), 20000);
    test_json_equal(json_object_get(error, "fields"), "{}");
    json_decref(error);
    sl_buf_deinit(&text);
}

static void test_texts_cut_inside_a_character_stay_valid(void **state) {
    (void)state;
    sl_buf_t text;
    sl_buf_init(&text, 65536);
    sl_buf_append_cstr(&text, HEAD "services: [{host: '");
    for (int i = 0; i < 600; i++) {
        sl_buf_append_cstr(&text, "\xe2\x82\xac");
    }
    sl_buf_append_cstr(&text, "'}]\n");
    json_t *errors = test_errors(sl_buf_cstr(&text));
    assert_non_null(
        strstr(json_string_value(json_object_get(json_array_get(json_object_get(errors, "services"), 0), "host")), "invalid value: "));
    json_decref(errors);
    sl_buf_deinit(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_print_as_lua_tables),
        cmocka_unit_test(test_deep_values_print_over_several_lines),
        cmocka_unit_test(test_a_schema_violation_counts_its_problems),
        cmocka_unit_test(test_unresolved_references_have_their_own_code),
        cmocka_unit_test(test_objects_without_fields_leave_them_out),
        cmocka_unit_test(test_a_document_error_has_code_14_and_a_message_with_all_of_it),
        cmocka_unit_test(test_flattened_errors_have_a_row_per_entity),
        cmocka_unit_test(test_errors_of_entities_as_a_whole_are_of_type_entity),
        cmocka_unit_test(test_an_entity_inside_a_foreign_field_has_a_row_of_its_own),
        cmocka_unit_test(test_collisions_and_bad_references_are_flattened_too),
        cmocka_unit_test(test_what_belongs_to_no_entity_stays_in_fields),
        cmocka_unit_test(test_lines_for_people_carry_the_path),
        cmocka_unit_test(test_lines_for_people_quote_no_line_ends_and_no_control_characters),
        cmocka_unit_test(test_endless_messages_are_cut),
        cmocka_unit_test(test_many_bad_references_are_flattened_quickly),
        cmocka_unit_test(test_texts_cut_inside_a_character_stay_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
