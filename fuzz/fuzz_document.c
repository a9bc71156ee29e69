/*
 * Documents: any text is parsed within its limits; what parses prints as YAML and reads back the same; what validates is
 * exported as a document that gives the same entities again; what does not has an error object and lines for people.
 */
#include <stdlib.h>

#include "gw_config.h"

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static bool has_filter(void *ud, sl_str_t name) {
    (void)ud;
    return name.len < 8;
}

static const gw_validate_env_t env = {.wasm_enabled = true, .any_filters = true, .has_filter = has_filter, .now_s = 1700000000};

static void check_yaml_round_trip(const json_t *doc) {
    sl_buf_t yaml;
    json_t *again = NULL;
    gw_limits_t limits = {.max_depth = 1000};
    sl_buf_init(&yaml, (size_t)64 << 20);
    check(gw_document_print_yaml(doc, &yaml) == SL_OK);
    check(gw_document_parse(sl_buf_str(&yaml), GW_TEXT_YAML, &limits, &again, NULL) == SL_OK);
    check(json_equal(doc, again));
    json_decref(again);
    sl_buf_deinit(&yaml);
}

static void check_export(const json_t *entities) {
    sl_buf_t yaml;
    json_t *doc = NULL, *again = NULL, *fields = NULL;
    sl_buf_init(&yaml, (size_t)64 << 20);
    check(gw_config_export(entities, &yaml) == SL_OK);
    check(gw_document_parse(sl_buf_str(&yaml), GW_TEXT_YAML, NULL, &doc, NULL) == SL_OK);
    check(gw_config_validate(doc, &env, &again, &fields) == SL_OK);
    check(json_equal(entities, again));
    json_decref(doc);
    json_decref(again);
    sl_buf_deinit(&yaml);
}

static void check_errors(json_t *fields, const json_t *doc) {
    sl_buf_t lines;
    json_t *plain = gw_config_error(fields, NULL), *flat = gw_config_error(fields, doc);
    sl_buf_init(&lines, (size_t)64 << 20);
    check(json_is_object(json_object_get(plain, "fields")) && json_object_size(fields) > 0);
    check(json_is_array(json_object_get(flat, "flattened_errors")));
    check(gw_config_error_lines(fields, &lines) == SL_OK && lines.len > 0);
    json_decref(plain);
    json_decref(flat);
    sl_buf_deinit(&lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gw_limits_t limits = {.max_bytes = 65536, .max_depth = 32, .max_nodes = 20000};
    json_t *doc = NULL, *entities = NULL, *fields = NULL;
    sl_err_t err = {.text = ""};
    sl_status_t rc = gw_document_parse(sl_str(data, size), GW_TEXT_AUTO, &limits, &doc, &err);
    check(rc == SL_OK ? json_is_object(doc) : rc == SL_INVALID && doc == NULL && err.text[0] != '\0');
    if (rc != SL_OK) {
        return 0;
    }
    check_yaml_round_trip(doc);
    rc = gw_config_validate(doc, &env, &entities, &fields);
    check(rc == SL_OK ? entities != NULL && fields == NULL : rc == SL_INVALID && fields != NULL && entities == NULL);
    if (rc == SL_OK) {
        check_export(entities);
    } else {
        check_errors(fields, doc);
    }
    json_decref(entities);
    json_decref(fields);
    json_decref(doc);
    return 0;
}
