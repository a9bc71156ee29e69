/* Bodies and queries of the Admin API: JSON, forms and multipart forms become one tree. */
#include <stdlib.h>

#include "gw_admin_parts.h"

/* ---- percent-decoding ---------------------------------------------------------------------------------------------------- */

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

sl_str_t gw_admin_unescape(gw_admin_t *a, sl_str_t s, bool plus) {
    sl_str_t copy = sl_arena_dup(&a->arena, s);
    char *to = (char *)copy.data;
    size_t n = 0;
    if (to == NULL) {
        a->failed = true;
        return SL_STR_NULL;
    }
    for (size_t i = 0; i < s.len; i++) {
        int high = s.data[i] == '%' && s.len - i > 2 ? hex_value(s.data[i + 1]) : -1;
        int low = high >= 0 ? hex_value(s.data[i + 2]) : -1;
        char c = low >= 0 ? (char)(high * 16 + low) : plus && s.data[i] == '+' ? ' ' : s.data[i];
        i += low >= 0 ? 2 : 0;
        if (c == '\0') {
            return SL_STR_NULL;
        }
        to[n++] = c;
    }
    to[n] = '\0';
    return sl_str(to, n);
}

static bool refuse(gw_admin_t *a, const char *message) {
    gw_admin_message(a, 400, message);
    return false;
}

static size_t count_args(sl_str_t text) {
    size_t n = text.len > 0;
    for (size_t i = 0; i < text.len; i++) {
        n += text.data[i] == '&';
    }
    return n;
}

static bool split_arg(gw_admin_t *a, sl_str_t pair, gw_arg_t *arg) {
    const char *equals = memchr(pair.data, '=', pair.len);
    size_t len = equals != NULL ? (size_t)(equals - pair.data) : pair.len;
    *arg = (gw_arg_t){gw_admin_unescape(a, sl_str(pair.data, len), true), SL_STR_NULL};
    if (equals != NULL) {
        arg->value = gw_admin_unescape(a, sl_str(equals + 1, pair.len - len - 1), true);
    }
    bool good = arg->name.data != NULL && (equals == NULL || arg->value.data != NULL);
    return good && sl_utf8_valid(arg->name, NULL) && sl_utf8_valid(arg->value, NULL);
}

bool gw_admin_split_args(gw_admin_t *a, sl_str_t text, gw_arg_t **args, size_t *n) {
    size_t count = count_args(text);
    *n = 0;
    if (count > GW_ADMIN_MAX_ARGS) {
        return refuse(a, "Too many arguments");
    }
    *args = sl_arena_alloc(&a->arena, (count + 1) * sizeof(**args));
    if (*args == NULL) {
        a->failed = true;
        return false;
    }
    while (text.len > 0) {
        const char *end = memchr(text.data, '&', text.len);
        size_t len = end != NULL ? (size_t)(end - text.data) : text.len;
        if (len > 0 && !split_arg(a, sl_str(text.data, len), &(*args)[(*n)++])) {
            return refuse(a, "arguments must be valid UTF-8 without NUL bytes");
        }
        len += end != NULL;
        text = sl_str(text.data + len, text.len - len);
    }
    return true;
}

/* ---- form keys ------------------------------------------------------------------------------------------------------------- */

/*
 * While a tree is built every container is an object; the elements of a list are its members "1", "2"... The types of the
 * fields decide at the end what becomes a list.
 */

#define KEY_MAX_STEPS 16
#define KEY_STEP_MAX 255

/* Cuts the next step off `key`: "a", ".b", "[c]", "[]" (empty). false: not well-formed. */
static bool next_step(sl_str_t *key, bool first, char step[KEY_STEP_MAX + 1]) {
    size_t len = 0, skip = 0, close = 0;
    if (!first && key->data[0] == '[') {
        const char *end = memchr(key->data, ']', key->len);
        if (end == NULL) {
            return false;
        }
        skip = close = 1;
        len = (size_t)(end - key->data) - 1;
    } else {
        skip = !first;
        if (!first && key->data[0] != '.') {
            return false;
        }
        while (skip + len < key->len && key->data[skip + len] != '.' && key->data[skip + len] != '[') {
            len++;
        }
        if (len == 0) {
            return false;
        }
    }
    if (len > KEY_STEP_MAX) {
        return false;
    }
    memcpy(step, key->data + skip, len);
    step[len] = '\0';
    *key = sl_str(key->data + skip + len + close, key->len - skip - len - close);
    return true;
}

static void next_position(const json_t *container, char step[KEY_STEP_MAX + 1]) {
    snprintf(step, KEY_STEP_MAX + 1, "%zu", json_object_size(container) + 1);
}

/* The container under `step`; a text that stands there already becomes its first element. */
static json_t *container_at(json_t *above, const char *step) {
    json_t *here = json_object_get(above, step);
    if (json_is_object(here)) {
        return here;
    }
    json_t *made = json_object();
    if (here != NULL && json_object_set(made, "1", here) != 0) {
        json_decref(made);
        return NULL;
    }
    return json_object_set_new(above, step, made) == 0 ? json_object_get(above, step) : NULL;
}

static int put_text(json_t *container, const char *step, json_t *value) {
    char position[KEY_STEP_MAX + 1];
    if (json_object_get(container, step) == NULL) {
        return json_object_set_new(container, step, value);
    }
    json_t *list = container_at(container, step); /* the key again: one more element */
    next_position(list, position);
    return json_object_set_new(list, position, value);
}

static int insert(json_t *root, const gw_arg_t *arg) {
    char step[KEY_STEP_MAX + 1], next[KEY_STEP_MAX + 1];
    sl_str_t key = arg->name;
    json_t *container = root, *value = json_stringn(arg->value.data ? arg->value.data : "", arg->value.len);
    if (key.len == 0 || !next_step(&key, true, step)) {
        return json_object_set_new(root, arg->name.data, value);
    }
    for (size_t i = 0; key.len > 0; i++) {
        if (i == KEY_MAX_STEPS || !next_step(&key, false, next)) {
            return json_object_set_new(root, arg->name.data, value); /* no form of ours: an unknown field by its whole name */
        }
        container = container_at(container, step);
        if (container == NULL) {
            json_decref(value);
            return -1;
        }
        if (next[0] == '\0') {
            next_position(container, next);
        }
        memcpy(step, next, sizeof(step));
    }
    return put_text(container, step, value);
}

/* ---- typing a form --------------------------------------------------------------------------------------------------------- */

static json_t *typed(const gw_field_t *field, const json_t *value);

static bool is_list(const json_t *value) {
    char position[24];
    for (size_t i = 1; i <= json_object_size(value); i++) {
        snprintf(position, sizeof(position), "%zu", i);
        if (json_object_get(value, position) == NULL) {
            return false;
        }
    }
    return json_is_object(value) && json_object_size(value) > 0;
}

static json_t *typed_list(const gw_field_t *field, const json_t *value) {
    char position[24];
    const gw_field_t *element = field != NULL ? field->elements : NULL;
    json_t *list = json_array();
    int rc = json_is_string(value) ? json_array_append_new(list, typed(element, value)) : 0;
    for (size_t i = 1; rc == 0 && json_is_object(value) && i <= json_object_size(value); i++) {
        snprintf(position, sizeof(position), "%zu", i);
        rc = json_array_append_new(list, typed(element, json_object_get(value, position)));
    }
    if (rc != 0) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *typed_members(const gw_field_t *fields, const gw_field_t *each, const json_t *value) {
    const char *key;
    json_t *member, *object = json_object();
    json_object_foreach((json_t *)value, key, member) {
        const gw_field_t *field = fields != NULL ? gw_field_find(fields, key) : each;
        if (json_object_set_new(object, key, typed(field, member)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *typed_number(const json_t *value) {
    const char *text = json_string_value(value);
    char *end;
    long long integer = strtoll(text, &end, 10);
    if (*end == '\0') {
        return json_integer(integer);
    }
    double real = strtod(text, &end);
    json_t *number = *end == '\0' ? json_real(real) : NULL; /* NULL for what is not finite, too */
    return number != NULL ? number : json_incref((json_t *)value);
}

static json_t *typed_text(const gw_field_t *field, const json_t *value) {
    const char *text = json_string_value(value);
    if (*text == '\0') {
        return json_null();
    }
    if (field != NULL && (field->type == GW_TYPE_INTEGER || field->type == GW_TYPE_NUMBER)) {
        return typed_number(value);
    }
    if (field != NULL && field->type == GW_TYPE_BOOLEAN) {
        return strcmp(text, "true") == 0 ? json_true() : strcmp(text, "false") == 0 ? json_false() : json_incref((json_t *)value);
    }
    return json_incref((json_t *)value);
}

static json_t *typed(const gw_field_t *field, const json_t *value) {
    gw_type_t type = field != NULL ? field->type : GW_TYPE_JSON;
    if (value == NULL) {
        return json_null();
    }
    if (json_is_string(value) && json_string_length(value) == 0) {
        return json_null();
    }
    bool list = type == GW_TYPE_ARRAY || type == GW_TYPE_SET;
    if ((list && (json_is_string(value) || is_list(value))) || (type == GW_TYPE_JSON && is_list(value))) {
        return typed_list(list ? field : NULL, value);
    }
    if (json_is_object(value)) {
        return typed_members(type == GW_TYPE_RECORD ? field->fields : NULL, type == GW_TYPE_MAP ? field->elements : NULL, value);
    }
    return typed_text(field, value);
}

json_t *gw_form_tree(const gw_arg_t *args, size_t n, const gw_field_t *fields) {
    json_t *root = json_object();
    for (size_t i = 0; i < n; i++) {
        if (insert(root, &args[i]) != 0) {
            json_decref(root);
            return NULL;
        }
    }
    json_t *tree = root != NULL ? typed_members(fields, NULL, root) : NULL;
    json_decref(root);
    return tree;
}

/* ---- multipart ------------------------------------------------------------------------------------------------------------- */

static sl_str_t tail(sl_str_t s, size_t n) {
    return sl_str(s.data + n, s.len - n);
}

/* Value of `name="..."` in a header; {NULL,0}: none. */
static sl_str_t parameter(sl_str_t header, const char *name) {
    size_t len = strlen(name);
    for (size_t i = 0; i + len < header.len; i++) {
        bool begins = i == 0 || strchr("; \t", header.data[i - 1]) != NULL;
        if (!begins || header.data[i + len] != '=' || !sl_str_eq_nocase(sl_str(header.data + i, len), sl_cstr(name))) {
            continue;
        }
        sl_str_t value = tail(header, i + len + 1);
        bool quoted = value.len > 0 && value.data[0] == '"';
        value = quoted ? tail(value, 1) : value;
        size_t n = 0;
        while (n < value.len && (quoted ? value.data[n] != '"' : strchr("; \t\r\n", value.data[n]) == NULL)) {
            n++;
        }
        return sl_str(value.data, n);
    }
    return SL_STR_NULL;
}

/* The name of a part from its header lines. */
static sl_str_t part_name(sl_str_t head) {
    while (head.len > 0) {
        const char *end = memmem(head.data, head.len, "\r\n", 2);
        size_t len = end != NULL ? (size_t)(end - head.data) : head.len;
        if (len > 20 && sl_str_eq_nocase(sl_str(head.data, 20), SL_STR("content-disposition:"))) {
            return parameter(sl_str(head.data + 20, len - 20), "name");
        }
        head = tail(head, end != NULL ? len + 2 : len);
    }
    return SL_STR_NULL;
}

/* `raw`: values may be any bytes. */
static bool add_part(gw_admin_t *a, sl_str_t part, bool raw, gw_arg_t *arg) {
    const char *gap = memmem(part.data, part.len, "\r\n\r\n", 4);
    if (gap == NULL) {
        return false;
    }
    size_t head = (size_t)(gap - part.data);
    sl_str_t value = tail(part, head + 4);
    *arg = (gw_arg_t){sl_arena_dup(&a->arena, part_name(sl_str(part.data, head))), sl_arena_dup(&a->arena, value)};
    bool text = value.len == 0 || (memchr(value.data, '\0', value.len) == NULL && sl_utf8_valid(value, NULL));
    return (raw || text) && arg->name.len > 0 && arg->value.data != NULL && sl_utf8_valid(arg->name, NULL);
}

/* Parts stand between "--boundary" lines; the text before the first and after the last one does not count. */
static bool split_parts(gw_admin_t *a, sl_str_t delimiter, bool raw, gw_arg_t *args, size_t *n) {
    sl_str_t body = a->req->body;
    const char *at = memmem(body.data, body.len, delimiter.data, delimiter.len);
    *n = 0;
    while (at != NULL) {
        sl_str_t rest = tail(body, (size_t)(at - body.data) + delimiter.len);
        if (sl_str_starts(rest, SL_STR("--"))) {
            return true;
        }
        if (!sl_str_starts(rest, SL_STR("\r\n")) || *n == GW_ADMIN_MAX_ARGS) {
            return false;
        }
        body = tail(rest, 2);
        at = memmem(body.data, body.len, delimiter.data, delimiter.len);
        size_t len = at != NULL ? (size_t)(at - body.data) : 0;
        if (len < 2 || !add_part(a, sl_str(body.data, len - 2), raw, &args[(*n)++])) {
            return false;
        }
    }
    return false;
}

bool gw_admin_read_multipart(gw_admin_t *a, bool raw, gw_arg_t **args, size_t *n) {
    sl_buf_t delimiter;
    sl_str_t boundary = parameter(a->req->content_type, "boundary");
    *args = sl_arena_alloc(&a->arena, GW_ADMIN_MAX_ARGS * sizeof(**args));
    *n = 0;
    if (a->req->body.len == 0) {
        return *args != NULL;
    }
    sl_buf_init(&delimiter, 256);
    sl_buf_append_cstr(&delimiter, "--");
    sl_buf_append_str(&delimiter, boundary);
    bool good = *args != NULL && boundary.len > 0 && !delimiter.failed && split_parts(a, sl_buf_str(&delimiter), raw, *args, n);
    sl_buf_deinit(&delimiter);
    return good || refuse(a, "Cannot parse multipart body");
}

/* ---- bodies ---------------------------------------------------------------------------------------------------------------- */

gw_body_t gw_admin_body_type(const gw_admin_t *a) {
    static const struct {
        const char *name;
        gw_body_t type;
    } types[] = {
        {"application/json", GW_BODY_JSON},
        {"application/x-www-form-urlencoded", GW_BODY_FORM},
        {"multipart/form-data", GW_BODY_MULTIPART},
        {"application/yaml", GW_BODY_YAML},
        {"text/yaml", GW_BODY_YAML},
        {"application/wasm", GW_BODY_WASM},
        {"application/octet-stream", GW_BODY_WASM},
    };
    sl_str_t given = a->req->content_type;
    if (a->req->n_content_types == 0 && given.len == 0) {
        return GW_BODY_NONE;
    }
    size_t len = 0;
    while (len < given.len && strchr("; \t", given.data[len]) == NULL) {
        len++;
    }
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (sl_str_eq_nocase(sl_str(given.data, len), sl_cstr(types[i].name))) {
            return types[i].type;
        }
    }
    return GW_BODY_OTHER;
}

static bool read_json(gw_admin_t *a) {
    sl_status_t rc = gw_document_parse(a->req->body, GW_TEXT_JSON, NULL, &a->input, NULL);
    if (rc == SL_NO_MEMORY) {
        a->failed = true;
        return false;
    }
    return rc == SL_OK || refuse(a, "Cannot parse JSON body");
}

static bool keep_tree(gw_admin_t *a, json_t *tree) {
    a->input = tree;
    a->failed = a->failed || tree == NULL;
    return tree != NULL;
}

static bool read_form(gw_admin_t *a, bool multipart, const gw_field_t *fields) {
    gw_arg_t *args = NULL;
    size_t n = 0;
    bool split = multipart ? gw_admin_read_multipart(a, false, &args, &n) : gw_admin_split_args(a, a->req->body, &args, &n);
    return split && keep_tree(a, gw_form_tree(args, n, fields));
}

bool gw_admin_read_input(gw_admin_t *a, const gw_field_t *fields) {
    if (a->req->n_content_types > 1) {
        sl_buf_append_cstr(&a->resp->body, "only one Content-Type header is allowed\n");
        a->resp->status = 400;
        a->resp->content_type = "text/plain; charset=utf-8";
        return false;
    }
    if (a->given != NULL) {
        return keep_tree(a, gw_shallow_copy(a->given));
    }
    gw_body_t type = gw_admin_body_type(a);
    bool empty = a->req->body.len == 0;
    switch (type) {
    case GW_BODY_FORM:
    case GW_BODY_MULTIPART:
        return read_form(a, type == GW_BODY_MULTIPART, fields);
    case GW_BODY_JSON:
        return empty ? keep_tree(a, json_object()) : read_json(a);
    case GW_BODY_NONE:
        if (empty) {
            return keep_tree(a, json_object());
        }
        break;
    default:
        break;
    }
    gw_admin_empty(a, 415);
    return false;
}
