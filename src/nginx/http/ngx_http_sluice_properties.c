/*
 * Properties of a request: Envoy's attributes from what nginx knows, and ngx.<variable>. One row per attribute, in the tables of the
 * ngx_http_sluice_prop_*.c files. What nginx has no equivalent for is in none, and so not found.
 */
#include "ngx_http_sluice_prop.h"

static const ngx_http_sluice_attribute_t *const tables[] = {
    ngx_http_sluice_request_attributes, ngx_http_sluice_response_attributes, ngx_http_sluice_connection_attributes,
    ngx_http_sluice_tls_attributes,     ngx_http_sluice_place_attributes,
};

/* ---- values ---- */

sl_status_t ngx_http_sluice_give_address_text(pw_value_t *out, sl_str_t name) {
    const sl_str_t unix_prefix = SL_STR("unix:");

    if (sl_str_starts(name, unix_prefix)) {
        name = sl_str(name.data + unix_prefix.len, name.len - unix_prefix.len);
    }
    *out = (pw_value_t){.kind = PW_VALUE_ADDRESS, .str = name};
    return SL_OK;
}

sl_status_t ngx_http_sluice_give_address(struct sockaddr *sa, socklen_t len, sl_buf_t *scratch, pw_value_t *out) {
    u_char text[NGX_SOCKADDR_STRLEN];

    (void)sl_buf_append(scratch, text, ngx_sock_ntop(sa, len, text, sizeof(text), 1));
    return scratch->failed ? SL_NO_MEMORY : ngx_http_sluice_give_address_text(out, sl_buf_str(scratch));
}

sl_status_t ngx_http_sluice_give_port(struct sockaddr *sa, pw_value_t *out) {
    return sa->sa_family == AF_UNIX ? SL_NOT_FOUND : ngx_http_sluice_give_int(out, ngx_inet_get_port(sa));
}

const ngx_http_upstream_state_t *ngx_http_sluice_last_state(const ngx_http_request_t *r) {
    if (r->upstream_states == NULL || r->upstream_states->nelts == 0) {
        return NULL;
    }
    return (ngx_http_upstream_state_t *)r->upstream_states->elts + r->upstream_states->nelts - 1;
}

/* ---- paths ---- */

/* Segments are joined by NUL; a path that came as one string with dots means the same. */
static bool path_is(sl_str_t path, const char *dotted) {
    for (size_t i = 0; i < path.len; i++) {
        char c = path.data[i] == '\0' ? '.' : path.data[i];
        if (dotted[i] == '\0' || c != dotted[i]) {
            return false;
        }
    }
    return dotted[path.len] == '\0';
}

static bool path_after(sl_str_t path, const char *prefix, sl_str_t *rest) {
    size_t len = strlen(prefix);

    if (path.len <= len + 1 || (path.data[len] != '\0' && path.data[len] != '.') || !path_is(sl_str(path.data, len), prefix)) {
        return false;
    }
    *rest = sl_str(path.data + len + 1, path.len - len - 1);
    return true;
}

/* ---- one header of a map, duplicates joined ---- */

typedef struct {
    sl_str_t key;
    sl_buf_t *out;
    bool found;
} join_t;

static bool join_pair(void *ud, sl_str_t key, sl_str_t value) {
    join_t *join = ud;

    if (sl_str_eq_nocase(key, join->key)) {
        if (join->found) {
            (void)sl_buf_append_char(join->out, ',');
        }
        (void)sl_buf_append_str(join->out, value);
        join->found = true;
    }
    return true;
}

static sl_status_t get_joined(ngx_http_sluice_ctx_t *ctx, pw_map_t m, sl_str_t key, sl_buf_t *scratch, pw_value_t *out) {
    join_t join = {key, scratch, false};
    sl_status_t rc = ngx_sluice_ops.map_each(ctx, m, join_pair, &join);

    if (rc != SL_OK || !join.found) {
        return SL_NOT_FOUND;
    }
    return ngx_http_sluice_give_scratch(scratch, out);
}

/* ---- operations ---- */

static const ngx_http_sluice_attribute_t *find(sl_str_t path) {
    for (ngx_uint_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const ngx_http_sluice_attribute_t *row = tables[t]; row->path != NULL; row++) {
            if (path_is(path, row->path)) {
                return row;
            }
        }
    }
    return NULL;
}

sl_status_t ngx_http_sluice_property_get(void *worker, void *stream, sl_str_t path, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_sluice_ctx_t *ctx = stream;
    const ngx_http_sluice_attribute_t *row;
    sl_status_t rc;
    sl_str_t rest;

    if (ctx == NULL || ctx->request->pool == NULL) {
        return SL_NOT_FOUND;
    }
    if (ctx->hooks != NULL && ctx->hooks->property_get != NULL) {
        rc = ctx->hooks->property_get(ctx->request, ctx->data, path, scratch, out);
        if (rc != SL_NOT_FOUND) {
            return rc;
        }
    }
    row = find(path);
    if (row != NULL) {
        return row->get(ctx, scratch, out);
    }
    if (path_after(path, "request.headers", &rest)) {
        return get_joined(ctx, PW_MAP_REQUEST_HEADERS, rest, scratch, out);
    }
    if (path_after(path, "response.headers", &rest)) {
        return get_joined(ctx, PW_MAP_RESPONSE_HEADERS, rest, scratch, out);
    }
    if (path_after(path, "response.trailers", &rest)) {
        return get_joined(ctx, PW_MAP_RESPONSE_TRAILERS, rest, scratch, out);
    }
    return path_after(path, "ngx", &rest) ? ngx_http_sluice_variable_get(ctx->request, rest, out) : SL_NOT_FOUND;
}

sl_status_t ngx_http_sluice_property_set(void *worker, void *stream, sl_str_t path, sl_str_t value) {
    ngx_http_sluice_ctx_t *ctx = stream;
    sl_status_t rc;
    sl_str_t rest;

    if (ctx == NULL || ctx->request->pool == NULL) {
        return SL_NOT_FOUND;
    }
    if (ctx->hooks != NULL && ctx->hooks->property_set != NULL) {
        rc = ctx->hooks->property_set(ctx->request, ctx->data, path, value);
        if (rc != SL_NOT_FOUND) {
            return rc;
        }
    }
    if (path_after(path, "ngx", &rest)) {
        return ngx_http_sluice_variable_set(ctx->request, rest, value);
    }
    if (ngx_http_sluice_dialect(ctx) == SL_DIALECT_WASMX && path_is(path, "request.query")) {
        return ngx_http_sluice_variable_set(ctx->request, SL_STR("args"), value);
    }
    return SL_NOT_FOUND;
}
