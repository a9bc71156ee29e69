/* Answers that filters make, and how a request is ended from an event. */
#include "ngx_http_sluice_int.h"

/* ---- the message ------------------------------------------------------------------------------------------------------------- */

static ngx_int_t body_chain(ngx_http_request_t *r, sl_str_t bytes, ngx_chain_t **out) {
    ngx_chain_t *cl = ngx_alloc_chain_link(r->pool);
    ngx_buf_t *b = ngx_calloc_buf(r->pool);
    ngx_str_t copy;

    if (cl == NULL || b == NULL || ngx_http_sluice_copy(r->pool, bytes, &copy) != SL_OK) {
        return NGX_ERROR;
    }
    b->pos = b->start = copy.data;
    b->last = b->end = copy.data + copy.len;
    b->memory = copy.len != 0;
    b->last_buf = r == r->main;
    b->sync = copy.len == 0 && r != r->main;
    b->last_in_chain = 1;
    cl->buf = b;
    cl->next = NULL;
    *out = cl;
    return NGX_OK;
}

ngx_uint_t ngx_http_sluice_is_grpc(ngx_http_request_t *r) {
    static const size_t len = sizeof("application/grpc") - 1;
    ngx_table_elt_t *type = r->headers_in.content_type;

    if (type == NULL || type->value.len < len || ngx_strncasecmp(type->value.data, (u_char *)"application/grpc", len) != 0) {
        return 0;
    }
    return type->value.len == len || type->value.data[len] == '+' || type->value.data[len] == ';';
}

ngx_uint_t ngx_http_sluice_grpc_status_of(ngx_uint_t status) {
    switch (status) {
    case 400:
        return 13;
    case 401:
        return 16;
    case 403:
        return 7;
    case 404:
        return 12;
    case 429:
    case 502:
    case 503:
    case 504:
        return 14;
    default:
        return 2;
    }
}

static ngx_uint_t grpc_status(const pw_reply_t *reply) {
    if (reply->grpc_status >= 0) {
        return (ngx_uint_t)reply->grpc_status;
    }
    return reply->status == NGX_HTTP_OK ? 0 : ngx_http_sluice_grpc_status_of(reply->status);
}

static sl_str_t percent(ngx_http_request_t *r, sl_str_t s) {
    static const char hex[] = "0123456789ABCDEF";
    u_char *p = ngx_pnalloc(r->pool, s.len * 3 + 1), *start = p;

    if (p == NULL) {
        return SL_STR("");
    }
    for (size_t i = 0; i < s.len; i++) {
        u_char c = (u_char)s.data[i];
        if (c >= ' ' && c <= '~' && c != '%') {
            *p++ = c;
            continue;
        }
        *p++ = '%';
        *p++ = (u_char)hex[c >> 4];
        *p++ = (u_char)hex[c & 15];
    }
    return sl_str(start, (size_t)(p - start));
}

static ngx_uint_t put_headers(ngx_http_sluice_ctx_t *ctx, const pw_reply_t *reply) {
    ngx_uint_t has_type = 0;

    for (size_t i = 0; i < reply->n_headers; i++) {
        sl_str_t key = reply->headers[i].key, value = reply->headers[i].value;
        if (!ngx_http_sluice_header_valid(key, value) || key.data[0] == ':' || sl_str_eq_nocase(key, SL_STR("content-length")) ||
            sl_str_eq_nocase(key, SL_STR("transfer-encoding"))) {
            continue; /* framing is ours */
        }
        if (sl_str_eq_nocase(key, SL_STR("content-type"))) {
            has_type = 1;
        }
        (void)ngx_http_sluice_out_change(ctx, PW_MAP_ADD, key, value);
    }
    return has_type;
}

static ngx_int_t plain(ngx_http_sluice_ctx_t *ctx, const pw_reply_t *reply, ngx_chain_t **body) {
    ngx_http_request_t *r = ctx->request;

    r->headers_out.status = reply->status;
    r->headers_out.content_length_n = (off_t)reply->body.len;
    ngx_str_null(&r->headers_out.content_type);
    if (!put_headers(ctx, reply) && reply->body.len != 0) {
        if (reply->dialect == SL_DIALECT_WASMX) {
            (void)ngx_http_set_content_type(r);
        } else {
            (void)ngx_http_sluice_out_change(ctx, PW_MAP_REPLACE, SL_STR("content-type"), SL_STR("text/plain"));
        }
    }
    return body_chain(r, reply->body, body);
}

static ngx_int_t status_line(ngx_http_sluice_ctx_t *ctx, const pw_reply_t *reply) {
    ngx_http_request_t *r = ctx->request;
    u_char *p;

    if (reply->dialect != SL_DIALECT_WASMX || reply->details.len == 0 || !ngx_http_sluice_header_valid(SL_STR("x"), reply->details)) {
        return NGX_OK;
    }
    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN + 1 + reply->details.len);
    if (p == NULL) {
        return NGX_ERROR;
    }
    r->headers_out.status_line.data = p;
    r->headers_out.status_line.len = (size_t)(ngx_sprintf(p, "%03uD %*s", reply->status, reply->details.len, reply->details.data) - p);
    return NGX_OK;
}

static ngx_int_t trailers_only(ngx_http_sluice_ctx_t *ctx, const pw_reply_t *reply, ngx_chain_t **body) {
    ngx_http_request_t *r = ctx->request;
    u_char number[NGX_INT_T_LEN];
    sl_str_t text;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = 0;
    (void)put_headers(ctx, reply);
    text = sl_str(number, (size_t)(ngx_sprintf(number, "%ui", grpc_status(reply)) - number));
    if (ngx_http_sluice_out_change(ctx, PW_MAP_REPLACE, SL_STR("content-type"), SL_STR("application/grpc")) != SL_OK ||
        ngx_http_sluice_out_change(ctx, PW_MAP_REPLACE, SL_STR("grpc-status"), text) != SL_OK ||
        (reply->body.len != 0 &&
         ngx_http_sluice_out_change(ctx, PW_MAP_REPLACE, SL_STR("grpc-message"), percent(r, reply->body)) != SL_OK)) {
        return NGX_ERROR;
    }
    return body_chain(r, SL_STR(""), body);
}

ngx_int_t ngx_http_sluice_reply_headers(ngx_http_sluice_ctx_t *ctx, ngx_chain_t **body) {
    const pw_reply_t *reply = pw_stream_reply(ctx->stream.pw);
    ngx_http_request_t *r = ctx->request;

    if (reply == NULL) {
        return NGX_ERROR;
    }
    ctx->replied = 1;
    r->err_status = 0;
    r->headers_out.status_line.len = 0;
    ngx_http_sluice_clear_content_length(r);
    if (ngx_http_sluice_is_grpc(r)) {
        return trailers_only(ctx, reply, body);
    }
    return status_line(ctx, reply) == NGX_OK ? plain(ctx, reply, body) : NGX_ERROR;
}

ngx_int_t ngx_http_sluice_status_headers(ngx_http_sluice_ctx_t *ctx, ngx_uint_t status, ngx_chain_t **body) {
    ngx_http_request_t *r = ctx->request;

    r->err_status = 0;
    r->headers_out.status = status;
    r->headers_out.status_line.len = 0;
    r->headers_out.content_length_n = 0;
    return body_chain(r, SL_STR(""), body);
}

/* ---- ends ------------------------------------------------------------------------------------------------------------------------ */

void ngx_http_sluice_retry_after(ngx_http_sluice_ctx_t *ctx) {
    static const sl_str_t name = {"Retry-After", sizeof("Retry-After") - 1};
    ngx_list_t *headers = &ctx->request->headers_out.headers;
    uint32_t seconds = ctx->stream.pw != NULL ? pw_stream_retry_after(ctx->stream.pw) : 0;
    u_char text[NGX_INT_T_LEN];

    if (seconds != 0 && ctx->failed && ngx_http_sluice_list_find(headers, name) == NULL) {
        (void)ngx_http_sluice_list_add(ctx->request, headers, name, sl_str(text, (size_t)(ngx_sprintf(text, "%uD", seconds) - text)));
    }
}

void ngx_http_sluice_body_unread(ngx_http_request_t *r) {
    ngx_http_request_body_t *rb = r->request_body;

    if (r != r->main || rb == NULL) {
        return;
    }
    if (r->connection->read->timer_set) {
        ngx_del_timer(r->connection->read);
    }
#if (NGX_HTTP_V2)
    if (r->stream != NULL) {
        r->stream->skip_data = 1;
        return;
    }
#endif
    if (rb->rest != 0) {
        r->keepalive = 0;
        r->lingering_close = 1;
    }
}

ngx_int_t ngx_http_sluice_upstream_close(ngx_http_request_t *r) {
    ngx_http_upstream_t *u = r->upstream;

    if (u == NULL || u->cleanup == NULL) {
        return NGX_DECLINED;
    }
    r->main->count++;
    (*u->cleanup)(r);
    return NGX_OK;
}

void ngx_http_sluice_abort(ngx_http_request_t *r, ngx_int_t rc) {
    r->main->count++; /* the upstream's cleanup takes one off while the request is being ended */
    ngx_http_finalize_request(r, rc);
}

void ngx_http_sluice_reply_send(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    ngx_chain_t *body;
    ngx_int_t rc = ngx_http_discard_request_body(r);

    ctx->req = NGX_HTTP_SLUICE_REQ_RELEASED;
    if (rc == NGX_OK && ngx_http_sluice_reply_headers(ctx, &body) != NGX_OK) {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
        return;
    }
    rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        ngx_http_finalize_request(r, rc);
        return;
    }
    ngx_http_finalize_request(r, ngx_http_output_filter(r, body));
}
