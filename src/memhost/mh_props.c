#include "mh_int.h"

#include <stdlib.h>

static bool has_text(const pw_value_t *value) {
    return value->kind == PW_VALUE_STRING || value->kind == PW_VALUE_LIST || value->kind == PW_VALUE_ADDRESS;
}

void mh_props_deinit(mh_props_t *props) {
    for (size_t i = 0; i < props->n; i++) {
        free((char *)props->items[i].path.data);
        if (has_text(&props->items[i].value)) {
            free((char *)props->items[i].value.str.data);
        }
    }
    free(props->items);
    *props = (mh_props_t){0};
}

static mh_prop_t *prop_find(const mh_props_t *props, sl_str_t path) {
    for (size_t i = 0; i < props->n; i++) {
        if (sl_str_eq(props->items[i].path, path)) {
            return &props->items[i];
        }
    }
    return NULL;
}

static sl_status_t prop_assign(mh_prop_t *prop, const pw_value_t *value) {
    pw_value_t copy = *value;
    if (has_text(value)) {
        copy.str = mh_dup(value->str);
        if (copy.str.data == NULL) {
            return SL_NO_MEMORY;
        }
    }
    if (has_text(&prop->value)) {
        free((char *)prop->value.str.data);
    }
    prop->value = copy;
    return SL_OK;
}

static mh_prop_t *prop_add(mh_props_t *props, sl_str_t path) {
    if (props->items == NULL) {
        props->items = calloc(MH_PROPS, sizeof(*props->items));
    }
    sl_str_t copy = props->items != NULL && props->n < MH_PROPS ? mh_dup(path) : SL_STR_NULL;
    if (copy.data == NULL) {
        return NULL;
    }
    mh_prop_t *prop = &props->items[props->n++];
    *prop = (mh_prop_t){.path = copy, .value = {.kind = PW_VALUE_BOOL}};
    return prop;
}

sl_status_t mh_prop_set(mh_t *mh, mh_stream_t *stream, sl_str_t path, const pw_value_t *value, mh_prop_mode_t mode) {
    mh_props_t *props = stream != NULL ? &stream->props : &mh->props;
    mh_prop_t *prop = prop_find(props, path);
    prop = prop != NULL ? prop : prop_add(props, path);
    if (prop == NULL) {
        return SL_NO_MEMORY;
    }
    prop->mode = mode;
    return prop_assign(prop, value);
}

/* ---- attributes that follow from the maps ---- */

static sl_status_t give_str(pw_value_t *out, sl_str_t s) {
    *out = (pw_value_t){.kind = PW_VALUE_STRING, .str = s};
    return SL_OK;
}

static sl_status_t give_header(const mh_stream_t *s, pw_map_t map, sl_str_t key, pw_value_t *out) {
    const sl_str_t *value = mh_map_find(&s->maps[map], key);
    return value == NULL ? SL_NOT_FOUND : give_str(out, *value);
}

/* All values of a header, joined by commas. */
static sl_status_t give_joined(const mh_stream_t *s, pw_map_t map, sl_str_t key, sl_buf_t *scratch, pw_value_t *out) {
    const mh_map_t *m = &s->maps[map];
    size_t found = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (sl_str_eq_nocase(m->pairs[i].key, key)) {
            sl_buf_append_cstr(scratch, found++ == 0 ? "" : ",");
            sl_buf_append_str(scratch, m->pairs[i].value);
        }
    }
    if (scratch->failed) {
        return SL_NO_MEMORY;
    }
    return found == 0 ? SL_NOT_FOUND : give_str(out, sl_buf_str(scratch));
}

static sl_str_t cut_before(sl_str_t s, char c) {
    const char *p = s.len != 0 ? memchr(s.data, c, s.len) : NULL;
    return p == NULL ? s : sl_str(s.data, (size_t)(p - s.data));
}

static sl_status_t give_url_path(const mh_stream_t *s, pw_value_t *out) {
    const sl_str_t *path = mh_map_find(&s->maps[PW_MAP_REQUEST_HEADERS], SL_STR(":path"));
    return path == NULL ? SL_NOT_FOUND : give_str(out, cut_before(*path, '?'));
}

static sl_status_t give_query(const mh_stream_t *s, pw_value_t *out) {
    const sl_str_t *path = mh_map_find(&s->maps[PW_MAP_REQUEST_HEADERS], SL_STR(":path"));
    if (path == NULL) {
        return SL_NOT_FOUND;
    }
    size_t at = cut_before(*path, '?').len;
    return at == path->len ? give_str(out, SL_STR("")) : give_str(out, cut_before(sl_str(path->data + at + 1, path->len - at - 1), '#'));
}

static sl_status_t give_code(const mh_stream_t *s, pw_value_t *out) {
    const sl_str_t *status = mh_map_find(&s->maps[PW_MAP_RESPONSE_HEADERS], SL_STR(":status"));
    if (status == NULL) {
        return SL_NOT_FOUND;
    }
    *out = (pw_value_t){.kind = PW_VALUE_INT};
    for (size_t i = 0; i < status->len && i < 3; i++) {
        out->i = out->i * 10 + (status->data[i] - '0');
    }
    return SL_OK;
}

static sl_status_t give_map(const mh_stream_t *s, pw_map_t map, pw_value_t *out) {
    *out = (pw_value_t){.kind = PW_VALUE_MAP, .map = map};
    return s->maps[map].present ? SL_OK : SL_NOT_FOUND;
}

static sl_status_t give_map_bytes(const mh_stream_t *s, pw_map_t map, pw_value_t *out) {
    *out = (pw_value_t){.kind = PW_VALUE_INT, .i = (int64_t)s->maps[map].bytes};
    return s->maps[map].present ? SL_OK : SL_NOT_FOUND;
}

static sl_status_t give_time(const mh_stream_t *s, pw_value_t *out) {
    *out = (pw_value_t){.kind = PW_VALUE_TIMESTAMP, .i = (int64_t)s->begun_ns};
    return SL_OK;
}

static sl_status_t give_id(const mh_stream_t *s, pw_value_t *out) {
    *out = (pw_value_t){.kind = PW_VALUE_UINT, .u = s->id};
    return SL_OK;
}

/* One row per attribute: what it is made of. `give` without map, `give_of_map` with it, or the header of that name. */
static const struct {
    const char *path; /* segments joined by dots; no segment contains one */
    pw_map_t map;
    const char *header;
    sl_status_t (*give)(const mh_stream_t *s, pw_value_t *out);
    sl_status_t (*give_of_map)(const mh_stream_t *s, pw_map_t map, pw_value_t *out);
} attributes[] = {
    {"request.path", PW_MAP_REQUEST_HEADERS, ":path", NULL, NULL},
    {"request.url_path", PW_MAP_REQUEST_HEADERS, NULL, give_url_path, NULL},
    {"request.query", PW_MAP_REQUEST_HEADERS, NULL, give_query, NULL},
    {"request.host", PW_MAP_REQUEST_HEADERS, ":authority", NULL, NULL},
    {"request.scheme", PW_MAP_REQUEST_HEADERS, ":scheme", NULL, NULL},
    {"request.method", PW_MAP_REQUEST_HEADERS, ":method", NULL, NULL},
    {"request.referer", PW_MAP_REQUEST_HEADERS, "referer", NULL, NULL},
    {"request.useragent", PW_MAP_REQUEST_HEADERS, "user-agent", NULL, NULL},
    {"request.id", PW_MAP_REQUEST_HEADERS, "x-request-id", NULL, NULL},
    {"request.headers", PW_MAP_REQUEST_HEADERS, NULL, NULL, give_map},
    {"request.headers_bytes", PW_MAP_REQUEST_HEADERS, NULL, NULL, give_map_bytes},
    {"request.time", PW_MAP_REQUEST_HEADERS, NULL, give_time, NULL},
    {"response.code", PW_MAP_RESPONSE_HEADERS, NULL, give_code, NULL},
    {"response.headers", PW_MAP_RESPONSE_HEADERS, NULL, NULL, give_map},
    {"response.headers_bytes", PW_MAP_RESPONSE_HEADERS, NULL, NULL, give_map_bytes},
    {"response.trailers", PW_MAP_RESPONSE_TRAILERS, NULL, NULL, give_map},
    {"connection.id", PW_MAP_REQUEST_HEADERS, NULL, give_id, NULL},
    {"connection_id", PW_MAP_REQUEST_HEADERS, NULL, give_id, NULL},
};

static bool path_is(sl_str_t path, const char *dotted) {
    if (strlen(dotted) != path.len) {
        return false;
    }
    for (size_t i = 0; i < path.len; i++) {
        if (path.data[i] != (dotted[i] == '.' ? '\0' : dotted[i])) {
            return false;
        }
    }
    return true;
}

static sl_status_t give_attribute(const mh_stream_t *s, sl_str_t path, pw_value_t *out) {
    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
        if (!path_is(path, attributes[i].path)) {
            continue;
        }
        if (attributes[i].give != NULL) {
            return attributes[i].give(s, out);
        }
        if (attributes[i].give_of_map != NULL) {
            return attributes[i].give_of_map(s, attributes[i].map, out);
        }
        return give_header(s, attributes[i].map, sl_cstr(attributes[i].header), out);
    }
    return SL_NOT_FOUND;
}

static const struct {
    sl_str_t prefix;
    pw_map_t map;
} header_paths[] = {
    {{"request\0headers\0", 16}, PW_MAP_REQUEST_HEADERS},
    {{"response\0headers\0", 17}, PW_MAP_RESPONSE_HEADERS},
    {{"response\0trailers\0", 18}, PW_MAP_RESPONSE_TRAILERS},
};

static sl_status_t give_by_name(const mh_stream_t *s, sl_str_t path, sl_buf_t *scratch, pw_value_t *out) {
    for (size_t i = 0; i < sizeof(header_paths) / sizeof(header_paths[0]); i++) {
        sl_str_t prefix = header_paths[i].prefix;
        if (sl_str_starts(path, prefix)) {
            return give_joined(s, header_paths[i].map, sl_str(path.data + prefix.len, path.len - prefix.len), scratch, out);
        }
    }
    return give_attribute(s, path, out);
}

sl_status_t mh_op_property_get(void *worker, void *stream, sl_str_t path, sl_buf_t *scratch, pw_value_t *out) {
    const mh_t *mh = worker;
    const mh_stream_t *s = stream;
    const mh_prop_t *prop = s != NULL ? prop_find(&s->props, path) : NULL;
    prop = prop != NULL ? prop : prop_find(&mh->props, path);
    if (prop != NULL) {
        *out = prop->value;
        return SL_OK;
    }
    return s == NULL ? SL_NOT_FOUND : give_by_name(s, path, scratch, out);
}

sl_status_t mh_op_property_set(void *worker, void *stream, sl_str_t path, sl_str_t value) {
    mh_t *mh = worker;
    mh_stream_t *s = stream;
    mh_prop_t *prop = s != NULL ? prop_find(&s->props, path) : NULL;
    prop = prop != NULL ? prop : prop_find(&mh->props, path);
    if (prop == NULL || prop->mode == MH_PROP_PLAIN) {
        return SL_NOT_FOUND;
    }
    if (prop->mode == MH_PROP_READ_ONLY) {
        return SL_INVALID;
    }
    return prop_assign(prop, &(pw_value_t){.kind = PW_VALUE_STRING, .str = value});
}
