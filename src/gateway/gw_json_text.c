/* JSON as it is printed into plans. */
#include "gw_json_text.h"

static int dump_to_buf(const char *data, size_t len, void *ud) {
    return sl_buf_append(ud, data, len) == SL_OK ? 0 : -1;
}

static void write_value(const json_t *value, sl_buf_t *out);

static bool needs_escape(char c) {
    return (unsigned char)c < 0x20 || c == '"' || c == '\\';
}

static void write_escape(char c, sl_buf_t *out) {
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: what it is, what it is written as */
    for (size_t i = 0; i + 1 < sizeof(short_forms); i += 2) {
        if (short_forms[i] == c) {
            sl_buf_append_char(out, '\\');
            sl_buf_append_char(out, short_forms[i + 1]);
            return;
        }
    }
    sl_buf_printf(out, "\\u%04X", (unsigned)(unsigned char)c);
}

static void write_text(sl_str_t s, sl_buf_t *out) {
    sl_buf_append_char(out, '"');
    for (size_t i = 0; i < s.len;) {
        size_t from = i;
        while (i < s.len && !needs_escape(s.data[i])) {
            i++;
        }
        sl_buf_append(out, s.data + from, i - from);
        if (i < s.len) {
            write_escape(s.data[i++], out);
        }
    }
    sl_buf_append_char(out, '"');
}

static void write_list(const json_t *list, sl_buf_t *out) {
    size_t i;
    const json_t *value;
    sl_buf_append_char(out, '[');
    json_array_foreach(list, i, value) {
        if (i > 0) {
            sl_buf_append_char(out, ',');
        }
        write_value(value, out);
    }
    sl_buf_append_char(out, ']');
}

static void write_map(const json_t *map, sl_buf_t *out) {
    const char *key;
    size_t key_len;
    json_t *value;
    char before = '{';
    json_object_keylen_foreach((json_t *)map, key, key_len, value) {
        sl_buf_append_char(out, before);
        write_text(sl_str(key, key_len), out);
        sl_buf_append_char(out, ':');
        write_value(value, out);
        before = ',';
    }
    if (before == '{') {
        sl_buf_append_char(out, '{');
    }
    sl_buf_append_char(out, '}');
}

/* 16 digits: 0.1 stays 0.1, and times with milliseconds are exact. */
static void write_number(const json_t *value, sl_buf_t *out) {
    if (json_is_integer(value)) {
        sl_buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_dump_callback(value, dump_to_buf, out, JSON_ENCODE_ANY | JSON_REAL_PRECISION(16)) != 0) {
        out->failed = true;
    }
}

static void write_value(const json_t *value, sl_buf_t *out) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        write_map(value, out);
        break;
    case JSON_ARRAY:
        write_list(value, out);
        break;
    case JSON_STRING:
        write_text(sl_str(json_string_value(value), json_string_length(value)), out);
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        write_number(value, out);
        break;
    case JSON_TRUE:
        sl_buf_append_cstr(out, "true");
        break;
    case JSON_FALSE:
        sl_buf_append_cstr(out, "false");
        break;
    default:
        sl_buf_append_cstr(out, "null");
    }
}

/* What json_dump_callback() writes, but that allocates for each object and asks for each byte: a quarter of building a large plan. */
sl_status_t gw_json_compact(const json_t *value, sl_buf_t *out) {
    if (value == NULL) {
        out->failed = true;
        return SL_NO_MEMORY;
    }
    write_value(value, out);
    return out->failed ? SL_NO_MEMORY : SL_OK;
}
