#include "nd_meta.h"

#include "gw_json_schema.h"
#include "sl_regex.h"

#define MAX_PATTERNS 1000

bool nd_version_valid(sl_str_t version) {
    bool number = true;
    for (size_t i = 0; i < version.len; i++) {
        char c = version.data[i];
        bool digit = c >= '0' && c <= '9', letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (c == '\0' || (!digit && !letter && strchr("._+-", c) == NULL)) {
            return false;
        }
        number = number && digit;
    }
    return version.len > 0 && version.len <= ND_VERSION_MAX && !number;
}

sl_status_t nd_meta_check_schema(const json_t *schema, sl_err_t *err) {
    static const char *const dialects[] = {"http://json-schema.org/draft-04/schema", "https://json-schema.org/draft/2020-12/schema"};
    if (!json_is_object(schema)) {
        return sl_err_set(err, SL_INVALID, "expected an object");
    }
    const json_t *dialect = json_object_get(schema, "$schema");
    bool known = dialect == NULL;
    for (size_t i = 0; json_is_string(dialect) && i < sizeof(dialects) / sizeof(dialects[0]); i++) {
        size_t len = strlen(dialects[i]);
        const char *text = json_string_value(dialect);
        known = known || (strncmp(text, dialects[i], len) == 0 && (text[len] == '\0' || strcmp(text + len, "#") == 0));
    }
    if (!known) {
        return sl_err_set(err, SL_INVALID, "unsupported document $schema: '%.100s', expected: %s#",
                          json_is_string(dialect) ? json_string_value(dialect) : "?", dialects[0]);
    }
    return gw_json_schema_check(schema, err);
}

/* As a label of Prometheus: [a-zA-Z_][a-zA-Z0-9_]* */
static bool is_label(sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9')) {
            return false;
        }
    }
    return s.len > 0;
}

static sl_str_t text_of(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return sl_str(json_string_value(value), json_string_length(value));
}

/* The first group is what is cut out of the name, the second one the label's value. */
static sl_status_t check_regex(sl_str_t text, sl_err_t *err) {
    sl_err_t why;
    sl_regex_t *re = NULL;
    sl_status_t rc = sl_regex_new(text, false, &re, &why);
    if (rc != SL_OK) {
        return sl_err_set(err, rc == SL_NO_MEMORY ? rc : SL_INVALID, "pattern: not a valid regex: %.300s", why.text);
    }
    size_t n = sl_regex_n_groups(re);
    sl_regex_free(re);
    return n >= 2 ? SL_OK
                  : sl_err_set(err, SL_INVALID, "pattern: has %zu of the two groups: what is cut out of the name, and in it the value", n);
}

static sl_status_t check_pattern(const json_t *pattern, sl_err_t *err) {
    static const char *const members[] = {"label", "pattern"};
    if (!json_is_object(pattern)) {
        return sl_err_set(err, SL_INVALID, "expected an object");
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_object_get(pattern, members[i]);
        if (value == NULL || json_is_null(value)) {
            return sl_err_set(err, SL_INVALID, "%s: required field missing", members[i]);
        }
        if (!json_is_string(value) || json_string_length(value) == 0) {
            return sl_err_set(err, SL_INVALID, "%s: expected a string", members[i]);
        }
    }
    if (!is_label(text_of(pattern, "label"))) {
        return sl_err_set(err, SL_INVALID, "label: expected letters, digits and '_', and no digit at the beginning");
    }
    return check_regex(text_of(pattern, "pattern"), err);
}

static sl_status_t check_metrics(const json_t *metrics, sl_err_t *err) {
    if (!json_is_object(metrics)) {
        return sl_err_set(err, SL_INVALID, "expected an object");
    }
    const json_t *patterns = json_object_get(metrics, "label_patterns");
    if (patterns == NULL || json_is_null(patterns)) {
        return SL_OK;
    }
    if (!json_is_array(patterns) || json_array_size(patterns) > MAX_PATTERNS) {
        return sl_err_set(err, SL_INVALID, "label_patterns: expected an array of at most %d objects", MAX_PATTERNS);
    }
    size_t i;
    json_t *pattern;
    json_array_foreach(patterns, i, pattern) {
        sl_status_t rc = check_pattern(pattern, err);
        if (rc != SL_OK) {
            sl_err_prefix(err, "label_patterns[%zu]: ", i);
            return rc;
        }
    }
    return SL_OK;
}

sl_status_t nd_meta_check(const json_t *meta, sl_err_t *err) {
    if (!json_is_object(meta)) {
        return sl_err_set(err, SL_INVALID, "expected an object");
    }
    const json_t *schema = json_object_get(meta, "config_schema"), *metrics = json_object_get(meta, "metrics");
    const json_t *version = json_object_get(meta, "version");
    sl_status_t rc = schema != NULL ? nd_meta_check_schema(schema, err) : SL_OK;
    if (rc != SL_OK) {
        sl_err_prefix(err, "config_schema: ");
        return rc;
    }
    rc = metrics != NULL ? check_metrics(metrics, err) : SL_OK;
    if (rc != SL_OK) {
        sl_err_prefix(err, "metrics: ");
        return rc;
    }
    if (version != NULL && (!json_is_string(version) || !nd_version_valid(text_of(meta, "version")))) {
        return sl_err_set(err, SL_INVALID, "version: expected at most %d letters, digits and any of . _ + -, and not a number alone",
                          ND_VERSION_MAX);
    }
    return SL_OK;
}

sl_status_t nd_meta_parse(sl_str_t text, json_t **out, sl_err_t *err) {
    json_error_t je;
    json_t *meta = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
    if (meta == NULL) {
        return sl_err_set(err, SL_INVALID, "JSON decode error: %s (line %d, column %d)", je.text, je.line, je.column);
    }
    sl_status_t rc = nd_meta_check(meta, err);
    if (rc != SL_OK) {
        sl_err_prefix(err, "file contains invalid metadata: ");
        json_decref(meta);
        return rc;
    }
    *out = meta;
    return SL_OK;
}
