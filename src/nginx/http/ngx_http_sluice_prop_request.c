/* Attributes of the request: request.* */
#include "ngx_http_sluice_prop.h"

static sl_status_t request_header(ngx_http_sluice_ctx_t *ctx, pw_value_t *out, sl_str_t key) {
    sl_str_t value;
    sl_status_t rc = ngx_http_sluice_in_get(ctx, key, &value);

    return rc == SL_OK ? ngx_http_sluice_give_str(out, value) : rc;
}

static sl_status_t get_path(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR(":path"));
}

static sl_status_t get_url_path(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const char *mark;

    (void)get_path(ctx, scratch, out);
    mark = out->str.len != 0 ? memchr(out->str.data, '?', out->str.len) : NULL;
    if (mark != NULL) {
        out->str.len = (size_t)(mark - out->str.data);
    }
    return SL_OK;
}

static sl_status_t get_query(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const char *mark, *end;

    if (ngx_http_sluice_dialect(ctx) == SL_DIALECT_WASMX) { /* which filters may set: $args */
        return ngx_http_sluice_give_str(out, ngx_sluice_str(&ctx->request->args));
    }
    (void)get_path(ctx, scratch, out);
    end = out->str.data + out->str.len;
    mark = out->str.len != 0 ? memchr(out->str.data, '?', out->str.len) : NULL;
    if (mark == NULL) {
        return ngx_http_sluice_give_str(out, SL_STR(""));
    }
    out->str = sl_str(mark + 1, (size_t)(end - mark - 1));
    mark = out->str.len != 0 ? memchr(out->str.data, '#', out->str.len) : NULL;
    if (mark != NULL) {
        out->str.len = (size_t)(mark - out->str.data);
    }
    return SL_OK;
}

static sl_status_t get_host(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR(":authority"));
}

static sl_status_t get_scheme(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR(":scheme"));
}

static sl_status_t get_method(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR(":method"));
}

static sl_status_t get_referer(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR("referer"));
}

static sl_status_t get_useragent(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR("user-agent"));
}

static sl_status_t get_request_id(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR("x-request-id"));
}

static sl_status_t get_request_headers(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ngx_http_sluice_give_map(out, PW_MAP_REQUEST_HEADERS);
}

static bool add_size(void *ud, sl_str_t key, sl_str_t value) {
    *(size_t *)ud += key.len + value.len;
    return true;
}

static sl_status_t get_request_headers_bytes(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    size_t bytes = 0;

    (void)ngx_http_sluice_in_each(ctx, add_size, &bytes);
    return ngx_http_sluice_give_int(out, (int64_t)bytes);
}

static sl_status_t get_request_time(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_request_t *r = ctx->request;

    *out = (pw_value_t){.kind = PW_VALUE_TIMESTAMP, .i = (int64_t)r->start_sec * 1000000000 + (int64_t)r->start_msec * 1000000};
    return SL_OK;
}

static sl_status_t get_protocol(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    switch (ctx->request->http_version) {
    case NGX_HTTP_VERSION_10:
        return ngx_http_sluice_give_str(out, SL_STR("HTTP/1.0"));
    case NGX_HTTP_VERSION_11:
        return ngx_http_sluice_give_str(out, SL_STR("HTTP/1.1"));
    case NGX_HTTP_VERSION_20:
        return ngx_http_sluice_give_str(out, SL_STR("HTTP/2"));
    case 3000:
        return ngx_http_sluice_give_str(out, SL_STR("HTTP/3"));
    default:
        return SL_NOT_FOUND;
    }
}

static sl_status_t get_request_duration(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_request_t *r = ctx->request;
    ngx_time_t *now = ngx_timeofday();
    ngx_msec_int_t ms = (ngx_msec_int_t)((now->sec - r->start_sec) * 1000 + ((ngx_msec_int_t)now->msec - (ngx_msec_int_t)r->start_msec));

    if (!ctx->logged && ngx_http_sluice_dialect(ctx) == SL_DIALECT_ENVOY) {
        return SL_NOT_FOUND; /* known when the request is over */
    }
    return ngx_http_sluice_give_ms(out, (ngx_msec_t)ngx_max(ms, 0));
}

static off_t received_body(const ngx_http_request_t *r) {
    off_t header = r->header_in != NULL ? (off_t)(r->request_line.len + 2) : 0;

    for (const ngx_list_part_t *part = &r->headers_in.headers.part; part != NULL; part = part->next) {
        const ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            header += (off_t)(h[i].key.len + h[i].value.len + 4);
        }
    }
    return ngx_max(r->request_length - header - 2, 0);
}

static sl_status_t get_request_size(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_request_t *r = ctx->request;
    off_t length = r->headers_in.content_length != NULL
                       ? ngx_atoof(r->headers_in.content_length->value.data, r->headers_in.content_length->value.len)
                       : NGX_ERROR;

    return ngx_http_sluice_give_int(out, length >= 0 ? length : received_body(r));
}

static sl_status_t get_request_total_size(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ngx_http_sluice_give_int(out, ctx->request->request_length);
}

static sl_status_t get_is_subrequest(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ngx_http_sluice_give_bool(out, ctx->request != ctx->request->main);
}

const ngx_http_sluice_attribute_t ngx_http_sluice_request_attributes[] = {
    {"request.path", get_path},
    {"request.url_path", get_url_path},
    {"request.query", get_query},
    {"request.host", get_host},
    {"request.scheme", get_scheme},
    {"request.method", get_method},
    {"request.headers", get_request_headers},
    {"request.headers_bytes", get_request_headers_bytes},
    {"request.referer", get_referer},
    {"request.useragent", get_useragent},
    {"request.id", get_request_id},
    {"request.time", get_request_time},
    {"request.protocol", get_protocol},
    {"request.duration", get_request_duration},
    {"request.size", get_request_size},
    {"request.total_size", get_request_total_size},
    {"request.is_subrequest", get_is_subrequest},
    {NULL, NULL},
};
