#include "gw_errors.h"

#include <stdio.h>
#include <stdlib.h>

#include "gw_schema.h"
#include "sl_digest.h"

#define MESSAGE_MAX ((size_t)256 << 20) /* more than any document's longest key */
#define LUA_MAX ((size_t)1 << 20)       /* of one printed table; then it is cut with "..." */

/* ---- Lua tables as text ---------------------------------------------------------------------------------------------- */

static bool is_lua_word(const char *key) {
    static const char *const reserved[] = {"and",      "break", "do",   "else",  "elseif", "end", "false", "for",
                                           "function", "if",    "in",   "local", "nil",    "not", "or",    "repeat",
                                           "return",   "then",  "true", "until", "while",  "goto"};
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        if (strcmp(key, reserved[i]) == 0) {
            return false;
        }
    }
    for (const char *p = key; *p != '\0'; p++) {
        bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_';
        if (!letter && (p == key || *p < '0' || *p > '9')) {
            return false;
        }
    }
    return *key != '\0';
}

static void print_quoted(sl_str_t s, sl_buf_t *out) {
    sl_buf_append_char(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];
        if (c == '\r') {
            sl_buf_append_cstr(out, "\\r");
            continue;
        }
        if (c == '"' || c == '\\' || c == '\n') {
            sl_buf_append_char(out, '\\');
        }
        sl_buf_append_char(out, c);
    }
    sl_buf_append_char(out, '"');
}

/* Text over several lines goes in long brackets, with as many '=' as it takes to be unambiguous. */
static void print_text(sl_str_t s, sl_buf_t *out) {
    bool lines = memchr(s.data, '\n', s.len) != NULL && memchr(s.data, '\r', s.len) == NULL;
    if (!lines || memmem(s.data, s.len, "]", 1) != NULL) {
        print_quoted(s, out);
        return;
    }
    sl_buf_append_cstr(out, s.data[0] == '\n' ? "[[\n" : "[[");
    sl_buf_append_str(out, s);
    sl_buf_append_cstr(out, "]]");
}

static void indent(const char *space, size_t level, sl_buf_t *out) {
    for (size_t i = 0; i < level; i++) {
        sl_buf_append_cstr(out, space);
    }
}

typedef struct {
    bool compact, cut;
    size_t end; /* of `out`: where no further entry begins */
    sl_buf_t *out;
} lua_t;

static void print_value(lua_t *l, const json_t *value, size_t level);

static void print_entry(lua_t *l, const char *prefix, const json_t *value, size_t level, bool *any) {
    if (l->out->len > l->end) {
        sl_buf_append_cstr(l->out, l->cut ? "" : ",...");
        l->cut = true;
        return;
    }
    sl_buf_append_cstr(l->out, *any ? "," : "");
    sl_buf_append_cstr(l->out, l->compact ? "" : "\n");
    indent(l->compact ? "" : "  ", level, l->out);
    sl_buf_append_cstr(l->out, prefix);
    print_value(l, value, level);
    *any = true;
}

/* Positions are implicit up to the first hole, explicit after it: {"a",[3]="c"}. */
static void print_list(lua_t *l, const json_t *list, size_t level, bool *any) {
    char prefix[40];
    size_t i;
    const json_t *value;
    bool hole = false;
    json_array_foreach(list, i, value) {
        if (json_is_null(value)) {
            hole = true;
            continue;
        }
        snprintf(prefix, sizeof(prefix), l->compact ? "[%zu]=" : "[%zu] = ", i + 1);
        print_entry(l, hole ? prefix : "", value, level, any);
    }
}

static int compare_keys(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted keys of an object (borrowed texts); free() the list. NULL when empty or without memory. */
static const char **sorted_keys(const json_t *object) {
    const char *key;
    json_t *value;
    size_t n = 0;
    const char **keys = calloc(json_object_size(object) + 1, sizeof(*keys));
    if (keys == NULL) {
        return NULL;
    }
    json_object_foreach((json_t *)object, key, value) {
        keys[n++] = key;
    }
    qsort(keys, n, sizeof(*keys), compare_keys);
    return keys;
}

static void print_key(const lua_t *l, const char *key, sl_buf_t *prefix) {
    sl_buf_reset(prefix);
    if (is_lua_word(key)) {
        sl_buf_append_cstr(prefix, key);
    } else {
        sl_buf_append_char(prefix, '[');
        print_quoted(sl_cstr(key), prefix);
        sl_buf_append_char(prefix, ']');
    }
    sl_buf_append_cstr(prefix, l->compact ? "=" : " = ");
}

static void print_map(lua_t *l, const json_t *map, size_t level, bool *any) {
    sl_buf_t prefix;
    const char **keys = sorted_keys(map);
    sl_buf_init(&prefix, MESSAGE_MAX);
    for (size_t i = 0; keys != NULL && keys[i] != NULL; i++) {
        print_key(l, keys[i], &prefix);
        const char *text = sl_buf_cstr(&prefix);
        if (text != NULL) {
            print_entry(l, text, json_object_get(map, keys[i]), level, any);
        }
    }
    l->out->failed = l->out->failed || keys == NULL || prefix.failed;
    sl_buf_deinit(&prefix);
    free(keys);
}

static void print_value(lua_t *l, const json_t *value, size_t level) {
    bool any = false;
    if (json_is_string(value)) {
        print_text(sl_str(json_string_value(value), json_string_length(value)), l->out);
        return;
    }
    if (!json_is_object(value) && !json_is_array(value)) {
        char text[64];
        size_t n = json_dumpb(value, text, sizeof(text), JSON_ENCODE_ANY);
        sl_buf_append(l->out, text, n < sizeof(text) ? n : 0);
        return;
    }
    sl_buf_append_char(l->out, '{');
    if (json_is_array(value)) {
        print_list(l, value, level + 1, &any);
    } else {
        print_map(l, value, level + 1, &any);
    }
    sl_buf_append_cstr(l->out, l->compact ? "" : "\n");
    indent(l->compact ? "" : "  ", level, l->out);
    sl_buf_append_char(l->out, '}');
}

void gw_lua_print(const json_t *value, bool compact, sl_buf_t *out) {
    print_value(&(lua_t){compact, false, out->len + LUA_MAX, out}, value, 0);
}

/* ---- messages ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    sl_buf_t text;
    size_t n;
} problems_t;

static void add_problem(problems_t *p, const char *field, const char *sub, const json_t *value) {
    sl_buf_append_cstr(&p->text, p->n++ > 0 ? "; " : "");
    if (field != NULL) {
        sl_buf_append_cstr(&p->text, field);
        sl_buf_append_cstr(&p->text, sub != NULL ? "." : "");
        sl_buf_append_cstr(&p->text, sub != NULL ? sub : "");
        sl_buf_append_cstr(&p->text, ": ");
    }
    if (json_is_string(value)) {
        sl_buf_append(&p->text, json_string_value(value), json_string_length(value));
    } else {
        gw_lua_print(value, false, &p->text);
    }
}

static void add_field(problems_t *p, const char *field, const json_t *value) {
    char position[24];
    size_t i;
    const json_t *element;
    if (json_is_array(value)) {
        json_array_foreach(value, i, element) {
            snprintf(position, sizeof(position), "%zu", i + 1);
            if (!json_is_null(element)) {
                add_problem(p, field, position, element);
            }
        }
    } else if (json_is_object(value)) {
        const char **keys = sorted_keys(value);
        p->text.failed = p->text.failed || keys == NULL;
        for (i = 0; keys != NULL && keys[i] != NULL; i++) {
            add_problem(p, field, keys[i], json_object_get(value, keys[i]));
        }
        free(keys);
    } else {
        add_problem(p, field, NULL, value);
    }
}

static void add_all(problems_t *p, const json_t *fields) {
    size_t i;
    const json_t *text;
    const char **keys = sorted_keys(fields);
    p->text.failed = p->text.failed || keys == NULL;
    json_array_foreach(json_object_get(fields, "@entity"), i, text) {
        add_problem(p, NULL, NULL, text);
    }
    for (i = 0; keys != NULL && keys[i] != NULL; i++) {
        if (strcmp(keys[i], "@entity") != 0) {
            add_field(p, keys[i], json_object_get(fields, keys[i]));
        }
    }
    free(keys);
}

static const char *const error_names[] = {
    [GW_ERR_PRIMARY_KEY] = "invalid primary key",
    [GW_ERR_SCHEMA] = "schema violation",
    [GW_ERR_PRIMARY_KEY_TAKEN] = "primary key violation",
    [GW_ERR_FOREIGN_KEY] = "foreign key violation",
    [GW_ERR_UNIQUE] = "unique constraint violation",
    [GW_ERR_NOT_FOUND] = "not found",
    [GW_ERR_OFFSET] = "invalid offset",
    [GW_ERR_DATABASE] = "database error",
    [GW_ERR_SIZE] = "invalid size",
    [GW_ERR_UNIQUE_KEY] = "invalid unique key",
    [GW_ERR_OPTIONS] = "invalid options",
    [GW_ERR_UNSUPPORTED] = "operation unsupported",
    [GW_ERR_FOREIGN_NAMES] = "foreign keys unresolved",
    [GW_ERR_DECLARATIVE] = "invalid declarative configuration",
    [GW_ERR_REFERENCED] = "referenced by others",
};

int gw_error_status(int code) {
    switch (code) {
    case GW_ERR_UNIQUE:
        return 409;
    case GW_ERR_NOT_FOUND:
        return 404;
    case GW_ERR_DATABASE:
        return 500;
    case GW_ERR_UNSUPPORTED:
        return 405;
    default:
        return 400;
    }
}

json_t *gw_error_object(gw_error_code_t code, const char *message, json_t *fields) {
    json_t *object = json_pack("{s:i,s:s,s:o}", "code", (int)code, "name", error_names[code], "message", gw_text(message));
    if (object != NULL && fields != NULL && json_object_set(object, code == GW_ERR_OPTIONS ? "options" : "fields", fields) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *error_with_problems(gw_error_code_t code, json_t *fields, const char *one, const char *many) {
    problems_t p = {.n = 0};
    sl_buf_t message;
    sl_buf_init(&p.text, MESSAGE_MAX);
    sl_buf_init(&message, MESSAGE_MAX + 256);
    add_all(&p, fields);
    if (p.n == 1) {
        sl_buf_printf(&message, "%s (", one);
    } else {
        sl_buf_printf(&message, "%zu %s (", p.n, many);
    }
    sl_buf_append_str(&message, sl_buf_str(&p.text));
    sl_buf_append_char(&message, ')');
    const char *text = p.text.failed ? NULL : sl_buf_cstr(&message);
    json_t *object = text != NULL ? gw_error_object(code, text, fields) : NULL;
    sl_buf_deinit(&p.text);
    sl_buf_deinit(&message);
    return object;
}

json_t *gw_error_schema(json_t *fields) {
    return error_with_problems(GW_ERR_SCHEMA, fields, "schema violation", "schema violations");
}

json_t *gw_error_unresolved(json_t *fields) {
    return error_with_problems(GW_ERR_FOREIGN_NAMES, fields, "foreign key unresolved", "foreign keys unresolved");
}

/* ---- errors of a document ------------------------------------------------------------------------------------------------ */

static json_t *declarative_error(const json_t *shown_in_message, json_t *fields) {
    sl_buf_t message;
    sl_buf_init(&message, MESSAGE_MAX);
    sl_buf_append_cstr(&message, "declarative config is invalid: ");
    gw_lua_print(shown_in_message, true, &message);
    const char *text = sl_buf_cstr(&message);
    json_t *object = text != NULL ? gw_error_object(GW_ERR_DECLARATIVE, text, fields) : NULL;
    sl_buf_deinit(&message);
    return object;
}

json_t *gw_config_error(json_t *fields, const json_t *flatten_doc) {
    if (flatten_doc == NULL) {
        return declarative_error(fields, fields);
    }
    json_t *rest = json_deep_copy(fields);
    bool whole = rest != NULL && json_equal(rest, fields); /* the copy leaves out what it has no memory for */
    json_t *flat = whole ? gw_flatten_errors(flatten_doc, rest) : NULL;
    json_t *object = flat != NULL ? declarative_error(fields, rest) : NULL;
    if (object == NULL || json_object_set(object, "flattened_errors", flat) != 0) {
        json_decref(object);
        object = NULL;
    }
    json_decref(rest);
    json_decref(flat);
    return object;
}

/* ---- lines for people ------------------------------------------------------------------------------------------------------ */

static void print_lines(const json_t *errors, sl_buf_t *path, sl_buf_t *out);

/* A key or a value of the document may hold line ends and the terminal's control sequences. */
static void append_printable(sl_buf_t *out, sl_str_t text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c < 0x20 || c == 0x7f) {
            sl_buf_printf(out, "\\x%02x", c);
        } else {
            sl_buf_append_char(out, text.data[i]);
        }
    }
}

static void print_line_list(const json_t *list, sl_buf_t *path, sl_buf_t *out) {
    size_t i, len = path->len;
    const json_t *value;
    json_array_foreach(list, i, value) {
        sl_buf_printf(path, "[%zu]", i);
        print_lines(value, path, out);
        path->len = len;
    }
}

/* Texts about the whole entity carry the entity's path, without a name of their own. */
static void print_entity_lines(const json_t *texts, sl_buf_t *path, sl_buf_t *out) {
    size_t i;
    const json_t *text;
    json_array_foreach(texts, i, text) {
        print_lines(text, path, out);
    }
}

static void print_lines(const json_t *errors, sl_buf_t *path, sl_buf_t *out) {
    const char *key;
    json_t *value;
    size_t len = path->len;
    if (json_is_string(errors)) {
        append_printable(out, sl_buf_str(path));
        sl_buf_append_cstr(out, path->len > 0 ? ": " : "");
        append_printable(out, sl_str(json_string_value(errors), json_string_length(errors)));
        sl_buf_append_char(out, '\n');
        return;
    }
    if (json_is_array(errors)) {
        print_line_list(errors, path, out);
        return;
    }
    json_object_foreach((json_t *)errors, key, value) {
        if (strcmp(key, "@entity") == 0) {
            print_entity_lines(value, path, out);
            continue;
        }
        sl_buf_append_cstr(path, len > 0 ? "." : "");
        sl_buf_append_cstr(path, key);
        print_lines(value, path, out);
        path->len = len;
    }
}

sl_status_t gw_config_error_lines(const json_t *fields, sl_buf_t *out) {
    sl_buf_t path;
    sl_buf_init(&path, MESSAGE_MAX);
    print_lines(fields, &path, out);
    bool failed = path.failed || out->failed;
    sl_buf_deinit(&path);
    return failed ? SL_NO_MEMORY : SL_OK;
}
