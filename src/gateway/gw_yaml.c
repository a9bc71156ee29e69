#include "gw_yaml.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

/* ---- plain scalars: what YAML 1.1 reads as null, boolean or number ------------------------------------------------- */

static const char *const null_words[] = {"", "~", "null", "Null", "NULL", NULL};
static const char *const true_words[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", NULL};
static const char *const false_words[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL};

static bool is_word(sl_str_t s, const char *const *words) {
    for (; *words != NULL; words++) {
        if (sl_str_eq(s, sl_cstr(*words))) {
            return true;
        }
    }
    return false;
}

/* Digits of `base` with underscores between them; at least one digit. */
static bool all_digits(const char *s, int base) {
    size_t digits = 0;
    for (; *s != '\0'; s++) {
        int value = *s >= '0' && *s <= '9'                     ? *s - '0'
                    : (*s | 0x20) >= 'a' && (*s | 0x20) <= 'f' ? (*s | 0x20) - 'a' + 10
                    : *s == '_'                                ? -1
                                                               : 99;
        if (value >= base) {
            return false;
        }
        digits += value >= 0;
    }
    return digits > 0;
}

/* Integers of YAML 1.1 but the base-60 ones, which nobody means when they write 12:30. */
static bool is_integer(const char *s, int *base, const char **digits) {
    const char *p = s + (*s == '-' || *s == '+');
    *base = 10;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'b' || p[1] == 'o')) {
        *base = p[1] == 'x' ? 16 : p[1] == 'b' ? 2 : 8;
        p += 2;
    } else if (p[0] == '0' && p[1] != '\0') {
        *base = 8;
        p++;
    }
    *digits = p;
    return *p != '_' && all_digits(p, *base);
}

/* [-+]? digits with one optional point and an optional exponent; either the point or the exponent is there. */
static bool is_float(const char *s) {
    size_t digits = 0;
    bool point = false, exponent = false;
    s += *s == '-' || *s == '+';
    if (*s == '_') {
        return false;
    }
    for (; (*s >= '0' && *s <= '9') || *s == '_' || (*s == '.' && !point); s++) {
        point = point || *s == '.';
        digits += *s >= '0' && *s <= '9';
    }
    if (digits > 0 && (*s == 'e' || *s == 'E')) {
        exponent = true;
        s++;
        s += *s == '-' || *s == '+';
        if (*s < '0' || *s > '9') {
            return false;
        }
        for (; *s >= '0' && *s <= '9'; s++) {
        }
    }
    return *s == '\0' && digits > 0 && (point || exponent);
}

#define NUMBER_MAX 63 /* characters; what is longer is text */

static bool without_underscores(sl_str_t s, char out[NUMBER_MAX + 1]) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] != '_') {
            out[n++] = s.data[i];
        }
    }
    out[n] = '\0';
    return n > 0;
}

typedef enum { PLAIN_TEXT, PLAIN_VALUE, PLAIN_NOT_FINITE } plain_t;

/* PLAIN_VALUE: *out is the value, or NULL without memory. */
static plain_t plain_number(sl_str_t s, json_t **out) {
    char text[NUMBER_MAX + 1], digits_text[NUMBER_MAX + 1];
    const char *digits;
    int base;
    if (s.len == 0 || s.len > NUMBER_MAX) {
        return PLAIN_TEXT;
    }
    memcpy(text, s.data, s.len);
    text[s.len] = '\0';
    if (is_integer(text, &base, &digits) && without_underscores(sl_cstr(digits), digits_text)) {
        errno = 0;
        unsigned long long magnitude = strtoull(digits_text, NULL, base);
        bool fits = errno == 0 && magnitude <= INT64_MAX;
        *out = fits ? json_integer(text[0] == '-' ? -(json_int_t)magnitude : (json_int_t)magnitude)
                    : json_real(text[0] == '-' ? -strtod(digits_text, NULL) : strtod(digits_text, NULL));
        return PLAIN_VALUE;
    }
    const char *bare = text + (text[0] == '-' || text[0] == '+');
    if (is_word(sl_cstr(bare), (const char *const[]){".inf", ".Inf", ".INF", NULL}) ||
        is_word(s, (const char *const[]){".nan", ".NaN", ".NAN", NULL})) {
        return PLAIN_NOT_FINITE;
    }
    if (!is_float(text) || !without_underscores(s, digits_text)) {
        return PLAIN_TEXT;
    }
    double value = strtod(digits_text, NULL);
    if (!isfinite(value)) {
        return PLAIN_NOT_FINITE;
    }
    *out = json_real(value);
    return PLAIN_VALUE;
}

static plain_t plain_scalar(sl_str_t s, json_t **out) {
    *out = is_word(s, null_words) ? json_null() : is_word(s, true_words) ? json_true() : is_word(s, false_words) ? json_false() : NULL;
    return *out != NULL ? PLAIN_VALUE : plain_number(s, out);
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

/* Size of a finished subtree, aliases counted at full size. */
typedef struct {
    size_t nodes, height;
} extent_t;

typedef struct {
    json_t *value; /* borrowed from the tree under construction through `kept` */
    extent_t extent;
    bool open; /* the node is still being read: an alias to it would be a cycle */
} anchor_t;

typedef struct {
    yaml_parser_t parser;
    const gw_limits_t *limits;
    size_t nodes; /* read so far, after alias expansion */
    anchor_t *anchors;
    size_t n_anchors, cap_anchors;
    json_t *anchor_index; /* name -> position in `anchors` of the newest one */
    sl_err_t *err;
} reader_t;

static sl_status_t read_node(reader_t *r, const yaml_event_t *event, size_t depth, json_t **out, extent_t *extent);

static sl_status_t fail_at(reader_t *r, yaml_mark_t at, const char *what) {
    return sl_err_set(r->err, SL_INVALID, "line %zu, column %zu: %s", at.line + 1, at.column + 1, what);
}

static sl_status_t next_event(reader_t *r, yaml_event_t *event) {
    if (yaml_parser_parse(&r->parser, event)) {
        return SL_OK;
    }
    if (r->parser.error == YAML_MEMORY_ERROR) {
        return sl_err_set(r->err, SL_NO_MEMORY, "out of memory");
    }
    return fail_at(r, r->parser.problem_mark, r->parser.problem ? r->parser.problem : "not valid YAML");
}

static sl_status_t count_node(reader_t *r, yaml_mark_t at, size_t depth) {
    if (depth > r->limits->max_depth) {
        return sl_err_set(r->err, SL_INVALID, "line %zu, column %zu: nested deeper than %zu levels", at.line + 1, at.column + 1,
                          r->limits->max_depth);
    }
    if (++r->nodes > r->limits->max_nodes) {
        return sl_err_set(r->err, SL_INVALID, "line %zu, column %zu: more than %zu values", at.line + 1, at.column + 1,
                          r->limits->max_nodes);
    }
    return SL_OK;
}

/* Position of the new anchor in *slot, SIZE_MAX when the node has none. */
static sl_status_t anchor_begin(reader_t *r, const yaml_char_t *name, size_t *slot) {
    *slot = SIZE_MAX;
    if (name == NULL) {
        return SL_OK;
    }
    if (r->n_anchors == r->cap_anchors) {
        size_t cap = r->cap_anchors == 0 ? 16 : r->cap_anchors * 2;
        anchor_t *anchors = realloc(r->anchors, cap * sizeof(*anchors));
        if (anchors == NULL) {
            return SL_NO_MEMORY;
        }
        r->anchors = anchors;
        r->cap_anchors = cap;
    }
    r->anchors[r->n_anchors] = (anchor_t){.open = true};
    if (json_object_set_new(r->anchor_index, (const char *)name, json_integer((json_int_t)r->n_anchors)) != 0) {
        return SL_NO_MEMORY;
    }
    *slot = r->n_anchors++;
    return SL_OK;
}

static void anchor_end(reader_t *r, size_t slot, json_t *value, extent_t extent) {
    if (slot != SIZE_MAX) {
        r->anchors[slot] = (anchor_t){json_incref(value), extent, false};
    }
}

static sl_status_t read_alias(reader_t *r, const yaml_event_t *event, size_t depth, json_t **out, extent_t *extent) {
    const json_t *slot = json_object_get(r->anchor_index, (const char *)event->data.alias.anchor);
    if (slot == NULL) {
        return fail_at(r, event->start_mark, "alias to an anchor that does not exist");
    }
    const anchor_t *anchor = &r->anchors[json_integer_value(slot)];
    if (anchor->open) {
        return fail_at(r, event->start_mark, "alias inside the value that it names");
    }
    if (anchor->extent.height > r->limits->max_depth - depth + 1) {
        return fail_at(r, event->start_mark, "alias makes the document nest too deeply");
    }
    if (anchor->extent.nodes - 1 > r->limits->max_nodes - r->nodes) {
        return fail_at(r, event->start_mark, "aliases make the document too large");
    }
    r->nodes += anchor->extent.nodes - 1;
    *extent = anchor->extent;
    *out = json_incref(anchor->value);
    return SL_OK;
}

/* A tag that only repeats what the value is anyway, or that asks for text. */
static bool is_tag(const yaml_char_t *tag, const char *name) {
    return tag != NULL && strcmp((const char *)tag, name) == 0;
}

static sl_status_t read_scalar(reader_t *r, const yaml_event_t *event, json_t **out) {
    const yaml_char_t *tag = event->data.scalar.tag;
    sl_str_t s = sl_str(event->data.scalar.value, event->data.scalar.length);
    if (memchr(s.data, '\0', s.len) != NULL) {
        return fail_at(r, event->start_mark, "text holds a NUL byte");
    }
    bool typed = is_tag(tag, YAML_NULL_TAG) || is_tag(tag, YAML_BOOL_TAG) || is_tag(tag, YAML_INT_TAG) || is_tag(tag, YAML_FLOAT_TAG);
    if (tag != NULL && !typed && !is_tag(tag, YAML_STR_TAG) && !is_tag(tag, "!")) {
        return fail_at(r, event->start_mark, "tag is not supported");
    }
    plain_t kind = typed || (tag == NULL && event->data.scalar.plain_implicit) ? plain_scalar(s, out) : PLAIN_TEXT;
    if (kind == PLAIN_NOT_FINITE) {
        return fail_at(r, event->start_mark, "number is not finite");
    }
    if (kind == PLAIN_TEXT && typed) {
        return fail_at(r, event->start_mark, "value does not fit its tag");
    }
    if (kind == PLAIN_TEXT) {
        *out = json_stringn(s.data, s.len);
    }
    return *out == NULL ? SL_NO_MEMORY : SL_OK;
}

static void grow(extent_t *extent, extent_t child) {
    extent->nodes += child.nodes;
    extent->height = child.height + 1 > extent->height ? child.height + 1 : extent->height;
}

static sl_status_t read_sequence(reader_t *r, size_t depth, json_t **out, extent_t *extent) {
    sl_status_t rc = SL_OK;
    json_t *list = json_array();
    while (rc == SL_OK) {
        yaml_event_t event;
        rc = next_event(r, &event);
        if (rc != SL_OK) {
            break;
        }
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            *out = list;
            return list == NULL ? SL_NO_MEMORY : SL_OK;
        }
        json_t *value = NULL;
        extent_t child;
        rc = read_node(r, &event, depth + 1, &value, &child);
        yaml_event_delete(&event);
        if (rc == SL_OK && json_array_append_new(list, value) != 0) {
            rc = SL_NO_MEMORY;
        }
        if (rc == SL_OK) {
            grow(extent, child);
        }
    }
    json_decref(list);
    return rc;
}

/* json_object_update_missing() does not tell when it fails. */
static sl_status_t add_missing(json_t *map, const json_t *from) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)from, key, value) {
        if (json_object_get(map, key) == NULL && json_object_set(map, key, value) != 0) {
            return SL_NO_MEMORY;
        }
    }
    return SL_OK;
}

/* "<<": keys of `from` that the mapping does not have itself; a list of mappings gives the first one the last word. */
static sl_status_t merge(reader_t *r, yaml_mark_t at, json_t *map, const json_t *from) {
    sl_status_t rc = SL_OK;
    if (json_is_object(from)) {
        return add_missing(map, from);
    }
    if (!json_is_array(from)) {
        return fail_at(r, at, "'<<' needs a mapping or a list of mappings");
    }
    for (size_t i = 0; rc == SL_OK && i < json_array_size(from); i++) {
        const json_t *one = json_array_get(from, i);
        rc = json_is_object(one) ? add_missing(map, one) : fail_at(r, at, "'<<' needs a mapping or a list of mappings");
    }
    return rc;
}

/* Keys are text; a plain key that reads as a number or a boolean is refused, since 1 and "1" would differ in meaning. */
static sl_status_t check_key(reader_t *r, const yaml_event_t *key) {
    json_t *typed = NULL;
    if (key->type != YAML_SCALAR_EVENT) {
        return fail_at(r, key->start_mark, "a key must be text");
    }
    sl_str_t s = sl_str(key->data.scalar.value, key->data.scalar.length);
    if (memchr(s.data, '\0', s.len) != NULL) {
        return fail_at(r, key->start_mark, "a key holds a NUL byte");
    }
    if (!key->data.scalar.plain_implicit || plain_scalar(s, &typed) == PLAIN_TEXT) {
        return SL_OK;
    }
    json_decref(typed);
    return fail_at(r, key->start_mark, "a key must be text: put it in quotes");
}

static sl_status_t read_member(reader_t *r, const yaml_event_t *key, size_t depth, json_t *map, json_t **merged, extent_t *extent) {
    sl_status_t rc = check_key(r, key);
    if (rc != SL_OK) {
        return rc;
    }
    const char *name = (const char *)key->data.scalar.value;
    bool is_merge = key->data.scalar.plain_implicit && strcmp(name, "<<") == 0;
    if (json_object_get(map, name) != NULL || (is_merge && *merged != NULL)) {
        return sl_err_set(r->err, SL_INVALID, "line %zu, column %zu: key '%.200s' appears twice", key->start_mark.line + 1,
                          key->start_mark.column + 1, name);
    }
    yaml_event_t event;
    rc = next_event(r, &event);
    if (rc != SL_OK) {
        return rc;
    }
    json_t *value = NULL;
    extent_t child;
    rc = read_node(r, &event, depth + 1, &value, &child);
    yaml_event_delete(&event);
    if (rc != SL_OK) {
        return rc;
    }
    grow(extent, child);
    if (is_merge) {
        *merged = value;
        return SL_OK;
    }
    return json_object_set_new(map, name, value) == 0 ? SL_OK : SL_NO_MEMORY;
}

static sl_status_t read_mapping(reader_t *r, size_t depth, json_t **out, extent_t *extent) {
    sl_status_t rc = SL_OK;
    json_t *map = json_object(), *merged = NULL;
    bool end = false;
    while (rc == SL_OK && !end) {
        yaml_event_t event;
        rc = next_event(r, &event);
        if (rc != SL_OK) {
            break;
        }
        end = event.type == YAML_MAPPING_END_EVENT;
        rc = end ? SL_OK : read_member(r, &event, depth, map, &merged, extent);
        /* applied last: the mapping's own keys win */
        rc = end && merged != NULL ? merge(r, event.start_mark, map, merged) : rc;
        yaml_event_delete(&event);
    }
    json_decref(merged);
    if (rc == SL_OK && map == NULL) {
        rc = SL_NO_MEMORY;
    }
    if (rc != SL_OK) {
        json_decref(map);
        return rc;
    }
    *out = map;
    return SL_OK;
}

static const yaml_char_t *anchor_of(const yaml_event_t *event) {
    return event->type == YAML_SCALAR_EVENT           ? event->data.scalar.anchor
           : event->type == YAML_SEQUENCE_START_EVENT ? event->data.sequence_start.anchor
                                                      : event->data.mapping_start.anchor;
}

static bool odd_tag(const yaml_event_t *event) {
    return event->type == YAML_SEQUENCE_START_EVENT
               ? event->data.sequence_start.tag && !is_tag(event->data.sequence_start.tag, YAML_SEQ_TAG)
           : event->type == YAML_MAPPING_START_EVENT ? event->data.mapping_start.tag && !is_tag(event->data.mapping_start.tag, YAML_MAP_TAG)
                                                     : false;
}

static sl_status_t read_node(reader_t *r, const yaml_event_t *event, size_t depth, json_t **out, extent_t *extent) {
    size_t slot;
    *extent = (extent_t){1, 1};
    sl_status_t rc = count_node(r, event->start_mark, depth);
    if (rc != SL_OK) {
        return rc;
    }
    if (event->type == YAML_ALIAS_EVENT) {
        return read_alias(r, event, depth, out, extent);
    }
    if (odd_tag(event)) {
        return fail_at(r, event->start_mark, "tag is not supported");
    }
    rc = anchor_begin(r, anchor_of(event), &slot);
    if (rc != SL_OK) {
        return rc;
    }
    rc = event->type == YAML_SCALAR_EVENT           ? read_scalar(r, event, out)
         : event->type == YAML_SEQUENCE_START_EVENT ? read_sequence(r, depth, out, extent)
                                                    : read_mapping(r, depth, out, extent);
    if (rc == SL_OK) {
        anchor_end(r, slot, *out, *extent);
    }
    return rc;
}

static sl_status_t expect_event(reader_t *r, yaml_event_type_t type, const char *else_what) {
    yaml_event_t event;
    sl_status_t rc = next_event(r, &event);
    if (rc == SL_OK && event.type != type) {
        rc = fail_at(r, event.start_mark, else_what);
    }
    if (rc == SL_OK || event.type != YAML_NO_EVENT) {
        yaml_event_delete(&event);
    }
    return rc;
}

static sl_status_t read_stream(reader_t *r, json_t **out) {
    yaml_event_t event;
    extent_t extent;
    sl_status_t rc = expect_event(r, YAML_STREAM_START_EVENT, "not a YAML stream");
    if (rc != SL_OK || (rc = next_event(r, &event)) != SL_OK) {
        return rc;
    }
    bool empty = event.type == YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
    if (empty) {
        *out = json_null();
        return SL_OK;
    }
    rc = next_event(r, &event);
    if (rc != SL_OK) {
        return rc;
    }
    rc = read_node(r, &event, 1, out, &extent);
    yaml_event_delete(&event);
    if (rc != SL_OK) {
        return rc;
    }
    rc = expect_event(r, YAML_DOCUMENT_END_EVENT, "unexpected content");
    rc = rc == SL_OK ? expect_event(r, YAML_STREAM_END_EVENT, "a second document: only one is allowed") : rc;
    if (rc != SL_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

sl_status_t gw_yaml_read(sl_str_t text, const gw_limits_t *limits, json_t **out, sl_err_t *err) {
    reader_t r = {.limits = limits, .err = err};
    *out = NULL;
    if (!yaml_parser_initialize(&r.parser)) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text.data, text.len);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    r.anchor_index = json_object();
    sl_status_t rc = r.anchor_index == NULL ? SL_NO_MEMORY : read_stream(&r, out);
    for (size_t i = 0; i < r.n_anchors; i++) {
        json_decref(r.anchors[i].value);
    }
    free(r.anchors);
    json_decref(r.anchor_index);
    yaml_parser_delete(&r.parser);
    return rc == SL_NO_MEMORY ? sl_err_set(err, rc, "out of memory") : rc;
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static int write_bytes(void *ud, unsigned char *data, size_t size) {
    return sl_buf_append(ud, data, size) == SL_OK;
}

/* Text that would read back as something else goes in quotes. */
static bool reads_as_text(sl_str_t s) {
    json_t *typed = NULL;
    plain_t kind = plain_scalar(s, &typed);
    json_decref(typed);
    return kind == PLAIN_TEXT && !sl_str_eq(s, SL_STR("<<")) && !sl_str_eq(s, SL_STR("="));
}

static int emit_text(yaml_emitter_t *e, sl_str_t s) {
    yaml_event_t event;
    bool plain = reads_as_text(s);
    yaml_scalar_style_t style = plain ? YAML_ANY_SCALAR_STYLE : YAML_SINGLE_QUOTED_SCALAR_STYLE;
    return yaml_scalar_event_initialize(&event, NULL, NULL, (yaml_char_t *)(s.data ? s.data : ""), (int)s.len, plain, 1, style) &&
           yaml_emitter_emit(e, &event);
}

static int emit_plain(yaml_emitter_t *e, const char *text) {
    yaml_event_t event;
    return yaml_scalar_event_initialize(&event, NULL, NULL, (yaml_char_t *)text, (int)strlen(text), 1, 0, YAML_PLAIN_SCALAR_STYLE) &&
           yaml_emitter_emit(e, &event);
}

static int emit_number(yaml_emitter_t *e, const json_t *value) {
    char text[64];
    size_t n = json_dumpb(value, text, sizeof(text) - 1, JSON_ENCODE_ANY);
    text[n < sizeof(text) ? n : 0] = '\0';
    return emit_plain(e, text);
}

static int emit_node(yaml_emitter_t *e, const json_t *value);

static int emit_list(yaml_emitter_t *e, const json_t *list) {
    yaml_event_t event;
    size_t i;
    const json_t *value;
    yaml_sequence_style_t style = json_array_size(list) == 0 ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE;
    if (!yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, style) || !yaml_emitter_emit(e, &event)) {
        return 0;
    }
    json_array_foreach(list, i, value) {
        if (!emit_node(e, value)) {
            return 0;
        }
    }
    return yaml_sequence_end_event_initialize(&event) && yaml_emitter_emit(e, &event);
}

static int emit_map(yaml_emitter_t *e, const json_t *map) {
    yaml_event_t event;
    const char *key;
    json_t *value;
    yaml_mapping_style_t style = json_object_size(map) == 0 ? YAML_FLOW_MAPPING_STYLE : YAML_BLOCK_MAPPING_STYLE;
    if (!yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, style) || !yaml_emitter_emit(e, &event)) {
        return 0;
    }
    json_object_foreach((json_t *)map, key, value) {
        if (!emit_text(e, sl_cstr(key)) || !emit_node(e, value)) {
            return 0;
        }
    }
    return yaml_mapping_end_event_initialize(&event) && yaml_emitter_emit(e, &event);
}

static int emit_node(yaml_emitter_t *e, const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return emit_map(e, value);
    case JSON_ARRAY:
        return emit_list(e, value);
    case JSON_STRING:
        return emit_text(e, sl_str(json_string_value(value), json_string_length(value)));
    case JSON_INTEGER:
    case JSON_REAL:
        return emit_number(e, value);
    case JSON_TRUE:
        return emit_plain(e, "true");
    case JSON_FALSE:
        return emit_plain(e, "false");
    default:
        return emit_plain(e, "null");
    }
}

static int emit_stream(yaml_emitter_t *e, const json_t *tree) {
    yaml_event_t event;
    return yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) && yaml_emitter_emit(e, &event) &&
           yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) && yaml_emitter_emit(e, &event) && emit_node(e, tree) &&
           yaml_document_end_event_initialize(&event, 1) && yaml_emitter_emit(e, &event) && yaml_stream_end_event_initialize(&event) &&
           yaml_emitter_emit(e, &event);
}

sl_status_t gw_yaml_write(const json_t *tree, sl_buf_t *out) {
    yaml_emitter_t emitter;
    if (!yaml_emitter_initialize(&emitter)) {
        return SL_NO_MEMORY;
    }
    yaml_emitter_set_output(&emitter, write_bytes, out);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    int done = emit_stream(&emitter, tree);
    yaml_emitter_delete(&emitter);
    return done && !out->failed ? SL_OK : SL_NO_MEMORY;
}
