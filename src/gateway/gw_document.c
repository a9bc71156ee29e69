#include "gw_config.h"

#include "gw_yaml.h"

#define MAX_BYTES ((size_t)64 << 20)
#define MAX_DEPTH 64
#define MAX_NODES 4000000

static gw_limits_t effective(const gw_limits_t *limits) {
    gw_limits_t l = limits != NULL ? *limits : (gw_limits_t){0};
    l.max_bytes = l.max_bytes ? l.max_bytes : MAX_BYTES;
    l.max_depth = l.max_depth ? l.max_depth : MAX_DEPTH;
    l.max_nodes = l.max_nodes ? l.max_nodes : MAX_NODES;
    return l;
}

/*
 * Depth and number of values of what may be JSON, before memory is spent on it. A wrong count for text that is no JSON does
 * not matter: the parser refuses it afterwards.
 */
static sl_status_t check_json_extent(sl_str_t text, const gw_limits_t *limits, sl_err_t *err) {
    size_t depth = 0, nodes = 1;
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
            continue;
        }
        quoted = c == '"';
        nodes += c == ',' || c == '{' || c == '[';
        depth += c == '{' || c == '[';
        depth -= (c == '}' || c == ']') && depth > 0;
        if (depth > limits->max_depth) {
            return sl_err_set(err, SL_INVALID, "nested deeper than %zu levels", limits->max_depth);
        }
        if (nodes > limits->max_nodes) {
            return sl_err_set(err, SL_INVALID, "more than %zu values", limits->max_nodes);
        }
    }
    return SL_OK;
}

static sl_status_t parse_json(sl_str_t text, const gw_limits_t *limits, json_t **out, sl_err_t *err) {
    json_error_t e;
    sl_status_t rc = check_json_extent(text, limits, err);
    if (rc != SL_OK) {
        return rc;
    }
    *out = json_loadb(text.data ? text.data : "", text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (*out != NULL) {
        return SL_OK;
    }
    if (json_error_code(&e) == json_error_out_of_memory) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    return sl_err_set(err, SL_INVALID, "line %d, column %d: %s", e.line, e.column, e.text);
}

static bool looks_like_json(sl_str_t text) {
    for (size_t i = 0; i < text.len; i++) {
        if (strchr(" \t\r\n", text.data[i]) == NULL) {
            return text.data[i] == '{' || text.data[i] == '[';
        }
    }
    return false;
}

/* What starts like JSON is tried as JSON first; flow-style YAML looks the same, so YAML has the second word. */
static sl_status_t parse_any(sl_str_t text, const gw_limits_t *limits, json_t **out, sl_err_t *err) {
    if (!looks_like_json(text)) {
        return gw_yaml_read(text, limits, out, err);
    }
    sl_err_t yaml_err;
    sl_status_t rc = parse_json(text, limits, out, err);
    if (rc != SL_INVALID) {
        return rc;
    }
    /* both refuse: the text of JSON is the one its writer understands */
    sl_status_t yaml_rc = gw_yaml_read(text, limits, out, &yaml_err);
    return yaml_rc == SL_OK ? SL_OK : rc;
}

static sl_status_t parse_kind(sl_str_t text, gw_text_t kind, const gw_limits_t *limits, json_t **out, sl_err_t *err) {
    switch (kind) {
    case GW_TEXT_JSON:
        return parse_json(text, limits, out, err);
    case GW_TEXT_YAML:
        return gw_yaml_read(text, limits, out, err);
    default:
        return parse_any(text, limits, out, err);
    }
}

sl_status_t gw_document_parse(sl_str_t text, gw_text_t kind, const gw_limits_t *limits, json_t **out, sl_err_t *err) {
    gw_limits_t l = effective(limits);
    size_t bad_at;
    *out = NULL;
    if (text.len > l.max_bytes) {
        return sl_err_set(err, SL_INVALID, "document of %zu bytes is larger than the limit of %zu", text.len, l.max_bytes);
    }
    if (!sl_utf8_valid(text, &bad_at)) {
        return sl_err_set(err, SL_INVALID, "invalid UTF-8 at byte %zu", bad_at + 1);
    }
    if (sl_str_starts(text, SL_STR("\xef\xbb\xbf"))) {
        text = sl_str(text.data + 3, text.len - 3);
    }
    sl_status_t rc = parse_kind(text, kind, &l, out, err);
    if (rc == SL_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return sl_err_set(err, SL_INVALID, "expected an object");
    }
    return rc;
}

sl_status_t gw_document_print_yaml(const json_t *tree, sl_buf_t *out) {
    return gw_yaml_write(tree, out);
}
