/* Pages of a collection: size, offset, tags, and the way to the next page. */
#include <stdio.h>
#include <stdlib.h>

#include "gw_admin_parts.h"

#define SIZE_DEFAULT 100
#define SIZE_MAX_ASKED 1000

/* ---- base64 --------------------------------------------------------------------------------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode(sl_str_t in, sl_buf_t *out) {
    for (size_t i = 0; i < in.len; i += 3) {
        size_t n = in.len - i < 3 ? in.len - i : 3;
        unsigned group = (unsigned)(unsigned char)in.data[i] << 16;
        group |= n > 1 ? (unsigned)(unsigned char)in.data[i + 1] << 8 : 0;
        group |= n > 2 ? (unsigned char)in.data[i + 2] : 0;
        sl_buf_append_char(out, alphabet[group >> 18]);
        sl_buf_append_char(out, alphabet[group >> 12 & 63]);
        sl_buf_append_char(out, n > 1 ? alphabet[group >> 6 & 63] : '=');
        sl_buf_append_char(out, n > 2 ? alphabet[group & 63] : '=');
    }
}

static bool decode(sl_str_t in, sl_buf_t *out) {
    unsigned group = 0, bits = 0;
    while (in.len > 0 && in.data[in.len - 1] == '=') {
        in.len--;
    }
    for (size_t i = 0; i < in.len; i++) {
        const char *at = in.data[i] != '\0' ? strchr(alphabet, in.data[i]) : NULL;
        if (at == NULL) {
            return false;
        }
        group = (group << 6 | (unsigned)(at - alphabet)) & 0xffffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            sl_buf_append_char(out, (char)(group >> bits));
        }
    }
    return in.len > 0 && in.len % 4 != 1 && !out->failed;
}

/* ---- reading the query ------------------------------------------------------------------------------------------------------ */

static bool refuse(gw_admin_t *a, gw_error_code_t code, const char *message) {
    gw_admin_error(a, gw_error_object(code, message, NULL));
    return false;
}

static bool refuse_tags(gw_admin_t *a, const char *what) {
    sl_err_t text;
    json_t *options = json_pack("{s:s}", "tags", what);
    sl_err_set(&text, SL_INVALID, "invalid option (tags: %s)", what);
    gw_admin_error(a, gw_error_object(GW_ERR_OPTIONS, text.text, options));
    json_decref(options);
    return false;
}

static bool read_size(gw_admin_t *a, gw_page_t *page) {
    const gw_arg_t *arg = gw_admin_arg(a, "size");
    page->size = SIZE_DEFAULT;
    if (arg == NULL) {
        return true;
    }
    char *end;
    double value = arg->value.len > 0 ? strtod(arg->value.data, &end) : 0;
    if (arg->value.len == 0 || *end != '\0' || value != value) {
        return refuse(a, GW_ERR_SIZE, "size must be a number");
    }
    if (value < 1 || value > SIZE_MAX_ASKED || value != (double)(size_t)value) {
        return refuse(a, GW_ERR_SIZE, "size must be an integer between 1 and 1000");
    }
    page->size = (size_t)value;
    return true;
}

static bool refuse_offset(gw_admin_t *a, const gw_arg_t *arg, const char *why) {
    sl_err_t text;
    sl_err_set(&text, SL_INVALID, "'%.200s' is not a valid offset: %s", arg->value.len > 0 ? arg->value.data : "", why);
    return refuse(a, GW_ERR_OFFSET, text.text);
}

/* An offset is the base64 of a JSON list with the position of the last element that was shown. */
static bool read_offset(gw_admin_t *a, gw_page_t *page) {
    const gw_arg_t *arg = gw_admin_arg(a, "offset");
    sl_buf_t text;
    if (arg == NULL) {
        return true;
    }
    sl_buf_init(&text, 1024);
    if (!decode(arg->value, &text)) {
        a->failed = a->failed || (text.failed && text.cap == 0);
        sl_buf_deinit(&text);
        return refuse_offset(a, arg, "bad base64 encoding");
    }
    json_error_t e;
    json_t *list = json_loadb(text.data, text.len, 0, &e);
    a->failed = a->failed || (list == NULL && json_error_code(&e) == json_error_out_of_memory);
    sl_buf_deinit(&text);
    const char *position = json_string_value(json_array_get(list, 0));
    bool good = position != NULL && strlen(position) > 0 && strlen(position) < sizeof(page->after);
    if (good) {
        memcpy(page->after, position, strlen(position) + 1);
    }
    bool decoded = list != NULL;
    json_decref(list);
    return good || refuse_offset(a, arg, decoded ? "bad value" : "bad json encoding");
}

/* Splits in place; the text is the arena's own copy. */
static bool split_tags(gw_admin_t *a, gw_page_t *page, char *text) {
    char separator = page->any_tag ? '/' : ',';
    for (char *p = text; p != NULL;) {
        char *end = strchr(p, separator);
        if (end != NULL) {
            *end = '\0';
        }
        if (*p == '\0' || page->n_tags == sizeof(page->tags) / sizeof(page->tags[0])) {
            return refuse_tags(a, "invalid filter syntax");
        }
        page->tags[page->n_tags++] = p;
        p = end != NULL ? end + 1 : NULL;
    }
    return true;
}

static bool read_tags(gw_admin_t *a, gw_page_t *page) {
    const gw_arg_t *arg = gw_admin_arg(a, "tags");
    if (arg == NULL) {
        return true;
    }
    if (arg->value.len == 0) {
        return refuse_tags(a, "cannot be null");
    }
    page->any_tag = strchr(arg->value.data, '/') != NULL;
    if (page->any_tag && strchr(arg->value.data, ',') != NULL) {
        return refuse_tags(a, "invalid filter syntax");
    }
    sl_str_t copy = sl_arena_dup(&a->arena, arg->value);
    if (copy.data == NULL) {
        a->failed = true;
        return false;
    }
    return split_tags(a, page, (char *)copy.data);
}

bool gw_page_read(gw_admin_t *a, gw_page_t *page) {
    *page = (gw_page_t){0};
    return read_size(a, page) && read_offset(a, page) && read_tags(a, page);
}

gw_query_t gw_page_query(const gw_page_t *page) {
    return (gw_query_t){.after = page->after, .limit = page->size, .tags = page->tags, .n_tags = page->n_tags, .any_tag = page->any_tag};
}

/* ---- the end of a page -------------------------------------------------------------------------------------------------------- */

static void append_escaped(sl_buf_t *out, sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c) != NULL;
        if (plain && c != '\0') {
            sl_buf_append_char(out, c);
        } else {
            sl_buf_printf(out, "%%%02X", (unsigned)(unsigned char)c);
        }
    }
}

static void append_arg(sl_buf_t *out, const gw_admin_t *a, const char *name) {
    const gw_arg_t *arg = gw_admin_arg(a, name);
    if (arg != NULL) {
        sl_buf_printf(out, "&%s=", name);
        append_escaped(out, arg->value);
    }
}

static void append_path(sl_buf_t *out, const gw_admin_t *a) {
    for (size_t i = 0; i < a->n_segments; i++) {
        sl_buf_append_char(out, '/');
        append_escaped(out, a->segments[i]);
    }
}

/* As JSON; what is not UTF-8 in a name of a file cannot be a position. */
static void append_position(gw_admin_t *a, sl_buf_t *out, const char *last) {
    json_t *list = json_pack("[s]", last);
    char *text = list != NULL ? json_dumps(list, JSON_COMPACT) : NULL;
    a->failed = a->failed || text == NULL;
    sl_buf_append_cstr(out, text != NULL ? text : "");
    free(text);
    json_decref(list);
}

/* Escaping leaves nothing in the path that JSON would have to escape. */
static void append_next(gw_admin_t *a, sl_buf_t *out, const char *last) {
    sl_buf_t position, offset;
    sl_buf_init(&position, 2048);
    sl_buf_init(&offset, 4096);
    append_position(a, &position, last);
    encode(sl_buf_str(&position), &offset);
    sl_buf_append_cstr(out, "],\"next\":\"");
    append_path(out, a);
    sl_buf_append_cstr(out, "?offset=");
    append_escaped(out, sl_buf_str(&offset));
    append_arg(out, a, "tags");
    append_arg(out, a, "size");
    sl_buf_append_cstr(out, "\",\"offset\":\"");
    sl_buf_append_str(out, sl_buf_str(&offset));
    sl_buf_append_cstr(out, "\"}");
    a->failed = a->failed || position.failed || offset.failed;
    sl_buf_deinit(&position);
    sl_buf_deinit(&offset);
}

void gw_page_end(gw_admin_t *a, const char *last) {
    if (last == NULL) {
        sl_buf_append_cstr(&a->resp->body, "],\"next\":null}");
        return;
    }
    append_next(a, &a->resp->body, last);
}

void gw_page_of_list(gw_admin_t *a, const gw_page_t *page, json_t *list) {
    char position[24];
    size_t first = (size_t)strtoul(page->after, NULL, 10), n = json_array_size(list);
    first = first < n ? first : n;
    size_t end = n - first > page->size ? first + page->size : n;
    sl_buf_append_cstr(&a->resp->body, "{\"data\":[");
    for (size_t i = first; i < end; i++) {
        sl_buf_append_cstr(&a->resp->body, i > first ? "," : "");
        gw_admin_json(a, 200, json_incref(json_array_get(list, i)));
    }
    snprintf(position, sizeof(position), "%zu", end);
    gw_page_end(a, end < n ? position : NULL);
    gw_admin_text(a, 200, SL_STR(""));
    json_decref(list);
}
