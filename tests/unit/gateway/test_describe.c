#include "gw_describe.h"

#include <stdlib.h>

#include "cmocka_all.h"
#include "gw_admin_parts.h"

/* Every "$ref" leads to something in the document. */
static void assert_references(const json_t *document, const json_t *value) {
    const char *key;
    json_t *member;
    size_t i;
    json_array_foreach(value, i, member) {
        assert_references(document, member);
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, member) {
        if (strcmp(key, "$ref") == 0) {
            char path[128];
            const json_t *at = document;
            snprintf(path, sizeof(path), "%s", json_string_value(member) + 2);
            for (char *save = NULL, *name = strtok_r(path, "/", &save); name != NULL; name = strtok_r(NULL, "/", &save)) {
                at = json_object_get(at, name);
            }
            assert_non_null(at);
        }
        assert_references(document, member);
    }
}

static void test_references_of_the_openapi_document_lead_somewhere(void **state) {
    (void)state;
    json_t *document = gw_openapi("1.2.3");
    assert_non_null(document);
    assert_string_equal(json_string_value(json_object_get(json_object_get(document, "info"), "version")), "1.2.3");
    assert_references(document, document);
    json_decref(document);
}

static void look_up(void *ud, const gw_admin_path_t *path) {
    json_t *item = json_object_get(json_object_get(ud, "paths"), path->path);
    assert_non_null(item);
    assert_true((json_object_get(item, "get") != NULL) == ((path->methods & GW_GET) != 0));
    assert_true((json_object_get(item, "delete") != NULL) == ((path->methods & GW_DELETE) != 0));
}

static void test_the_openapi_document_has_every_path_with_its_methods(void **state) {
    (void)state;
    json_t *document = gw_openapi("1");
    gw_admin_paths(look_up, document);
    json_decref(document);
}

static void test_schemas_say_what_the_tables_say(void **state) {
    (void)state;
    json_t *document = gw_openapi("1"), *schemas = json_object_get(json_object_get(document, "components"), "schemas");
    json_t *service = json_object_get(json_object_get(schemas, "service"), "properties"), *port = json_object_get(service, "port");
    assert_int_equal(json_integer_value(json_object_get(port, "maximum")), 65535);
    assert_int_equal(json_integer_value(json_object_get(port, "default")), 80);
    assert_null(json_object_get(port, "nullable"));
    assert_true(json_is_true(json_object_get(json_object_get(service, "path"), "nullable")));
    assert_null(json_object_get(service, "url"));
    json_t *sent = json_object_get(json_object_get(schemas, "service_input"), "properties");
    assert_true(json_is_true(json_object_get(json_object_get(sent, "url"), "writeOnly")));
    json_decref(document);
}

static void test_the_reference_page_has_every_entity_and_field(void **state) {
    (void)state;
    sl_buf_t page;
    char row[128];
    sl_buf_init(&page, 1 << 24);
    assert_int_equal(gw_reference_print(&page), SL_OK);
    const char *text = sl_buf_cstr(&page);
    for (const gw_entity_t *kind = gw_entities; kind->name != NULL; kind++) {
        snprintf(row, sizeof(row), "\n## %s\n", kind->name);
        const char *section = strstr(text, row);
        assert_non_null(section);
        for (const gw_field_t *f = kind->fields; f->name != NULL; f++) {
            snprintf(row, sizeof(row), "\n| `%s` |", f->name);
            assert_non_null(strstr(section, row));
        }
    }
    assert_non_null(strstr(text, "| `healthchecks.active.unhealthy.timeouts` |"));
    assert_non_null(strstr(text, "| `filters[].name` |"));
    sl_buf_deinit(&page);
}

static void test_a_page_over_its_ceiling_is_a_failure(void **state) {
    (void)state;
    sl_buf_t page;
    sl_buf_init(&page, 1000);
    assert_int_equal(gw_reference_print(&page), SL_NO_MEMORY);
    sl_buf_deinit(&page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references_of_the_openapi_document_lead_somewhere),
        cmocka_unit_test(test_the_openapi_document_has_every_path_with_its_methods),
        cmocka_unit_test(test_schemas_say_what_the_tables_say),
        cmocka_unit_test(test_the_reference_page_has_every_entity_and_field),
        cmocka_unit_test(test_a_page_over_its_ceiling_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
