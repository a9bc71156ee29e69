/* Bodies of errors in the client's preferred type. */
#include "ngx_http_sluice_gw.h"

typedef enum { TYPE_JSON, TYPE_PLAIN, TYPE_HTML, TYPE_XML, TYPE_GRPC } error_type_t;

static const ngx_str_t content_types[] = {
    ngx_string("application/json; charset=utf-8"), ngx_string("text/plain; charset=utf-8"), ngx_string("text/html; charset=utf-8"),
    ngx_string("application/xml; charset=utf-8"),  ngx_string("application/grpc"),
};

static const struct {
    ngx_uint_t status;
    const char *message;
} messages[] = {
    {400, "Bad request"},
    {404, "Not found"},
    {405, "Method not allowed"},
    {408, "Request timeout"},
    {411, "Length required"},
    {412, "Precondition failed"},
    {413, "Payload too large"},
    {414, "URI too long"},
    {417, "Expectation failed"},
    {494, "Request header or cookie too large"},
    {497, "The plain HTTP request was sent to HTTPS port"},
    {500, "An unexpected error occurred"},
    {501, "Not implemented"},
    {502, "An invalid response was received from the upstream server"},
    {503, "The upstream server is currently unavailable"},
    {504, "The upstream server is timing out"},
    {505, "HTTP version not supported"},
};

static const char *message_of(ngx_uint_t status) {
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        if (messages[i].status == status) {
            return messages[i].message;
        }
    }
    return "An unexpected error occurred";
}

static unsigned media_is(const u_char *p, size_t len, const char *type) {
    return len == ngx_strlen(type) && ngx_strncasecmp((u_char *)(uintptr_t)p, (u_char *)(uintptr_t)type, len) == 0;
}

/* One media range without parameters. */
static error_type_t type_of(const u_char *p, size_t len) {
    if (media_is(p, len, "text/html")) {
        return TYPE_HTML;
    }
    if (media_is(p, len, "text/plain") || media_is(p, len, "text/*")) {
        return TYPE_PLAIN;
    }
    if (media_is(p, len, "application/xml")) {
        return TYPE_XML;
    }
    if (len >= 16 && ngx_strncasecmp((u_char *)(uintptr_t)p, (u_char *)"application/grpc", 16) == 0) {
        return TYPE_GRPC;
    }
    return TYPE_JSON;
}

/* q of one media range in thousandths; 1000 without one. */
static ngx_uint_t quality(const u_char *p, const u_char *end) {
    for (; p < end; p++) {
        if (*p != ';') {
            continue;
        }
        const u_char *q = p + 1;
        while (q < end && (*q == ' ' || *q == '\t')) {
            q++;
        }
        if (end - q < 3 || (q[0] | 0x20) != 'q' || q[1] != '=') {
            continue;
        }
        ngx_uint_t n = q[2] == '1' ? 1000 : 0;
        ngx_uint_t unit = 100;
        for (q += 3; n < 1000 && unit != 0 && ++q < end && *q >= '0' && *q <= '9'; unit /= 10) {
            n += (ngx_uint_t)(*q - '0') * unit;
        }
        return n;
    }
    return 1000;
}

/* The media range with the highest q, the first on ties. */
static error_type_t negotiate(const u_char *p, const u_char *end) {
    error_type_t best = TYPE_JSON;
    ngx_uint_t best_q = 0;
    while (p < end) {
        while (p < end && (*p == ' ' || *p == '\t' || *p == ',')) {
            p++;
        }
        const u_char *stop = p;
        while (stop < end && *stop != ',') {
            stop++;
        }
        const u_char *name_end = p;
        while (name_end < stop && *name_end != ';' && *name_end != ' ') {
            name_end++;
        }
        ngx_uint_t q = name_end > p ? quality(name_end, stop) : 0;
        if (q > best_q) {
            best_q = q;
            best = type_of(p, (size_t)(name_end - p));
        }
        p = stop;
    }
    return best;
}

static size_t format_body(u_char *buf, size_t size, error_type_t type, const char *m, ngx_str_t id) {
    u_char *end = buf;
    switch (type) {
    case TYPE_JSON:
        end = ngx_snprintf(buf, size, "{\n  \"message\":\"%s\",\n  \"request_id\":\"%V\"\n}", m, &id);
        break;
    case TYPE_PLAIN:
        end = ngx_snprintf(buf, size, "%s\nrequest_id: %V\n", m, &id);
        break;
    case TYPE_HTML:
        end = ngx_snprintf(buf, size,
                           "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  "
                           "<body>\n    <h1>Error</h1>\n"
                           "    <p>%s.</p>\n    <p>request_id: %V</p>\n  </body>\n</html>\n",
                           m, &id);
        break;
    case TYPE_XML:
        end = ngx_snprintf(
            buf, size,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>%s</message>\n  <requestid>%V</requestid>\n</error>\n", m,
            &id);
        break;
    case TYPE_GRPC:
        break;
    }
    return (size_t)(end - buf);
}

/* Longer than the template by no more than message and id. "%%" is a percent sign. */
static u_char *fill_template(u_char *out, ngx_str_t text, const char *message, ngx_str_t id) {
    ngx_str_t values[] = {{ngx_strlen(message), (u_char *)(uintptr_t)message}, id};
    size_t next = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned directive = text.data[i] == '%' && i + 1 < text.len;
        if (directive && text.data[i + 1] == 's' && next < 2) {
            out = ngx_cpymem(out, values[next].data, values[next].len);
            next++;
            i++;
            continue;
        }
        i += directive && text.data[i + 1] == '%';
        *out++ = text.data[i];
    }
    return out;
}

static ngx_int_t add_header(ngx_http_request_t *r, const char *name, const char *value) {
    return ngx_http_sluice_gw_add_header(r, name, (ngx_str_t){ngx_strlen(value), (u_char *)(uintptr_t)value});
}

/* gRPC clients read the status of the call from headers; HTTP's is 200 then. */
static const char *grpc_status_of(ngx_uint_t status) {
    switch (status) {
    case 400:
    case 494:
        return "3";
    case 404:
        return "12";
    case 408:
    case 504:
        return "4";
    case 413:
        return "8";
    case 502:
    case 503:
        return "14";
    default:
        return "2";
    }
}

static ngx_int_t send_body(ngx_http_request_t *r, ngx_uint_t status, const char *message, error_type_t type) {
    ngx_http_sluice_gw_ctx_t *ctx = ngx_http_sluice_gw_ctx(r);
    ngx_str_t none = ngx_string("");
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    const ngx_str_t *own = type != TYPE_GRPC ? &mcf->error_templates[type] : &none;
    size_t size = 1024 + own->len;
    ngx_buf_t *b = ngx_create_temp_buf(r->pool, size);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (own->len != 0) {
        b->last = fill_template(b->pos, *own, message, ctx != NULL ? ctx->request_id : none);
    } else {
        b->last = b->pos + format_body(b->pos, size, type, message, ctx != NULL ? ctx->request_id : none);
    }
    if (type == TYPE_GRPC &&
        (add_header(r, "grpc-status", grpc_status_of(status)) != NGX_OK || add_header(r, "grpc-message", message) != NGX_OK)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    r->headers_out.status = type == TYPE_GRPC ? NGX_HTTP_OK : status;
    r->headers_out.content_type = content_types[type];
    r->headers_out.content_type_len = content_types[type].len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.content_length_n = b->last - b->pos;
    b->last_buf = r == r->main;
    b->last_in_chain = 1;
    b->memory = 1;
    if (b->last == b->pos) {
        b->temporary = 0;
        b->memory = 0;
        b->sync = !b->last_buf;
    }
    ngx_int_t rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }
    ngx_chain_t out = {.buf = b, .next = NULL};
    return ngx_http_output_filter(r, &out);
}

ngx_int_t ngx_http_sluice_gw_send_grpc(ngx_http_request_t *r, const char *status, const char *message) {
    ngx_int_t rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK || add_header(r, "grpc-status", status) != NGX_OK || add_header(r, "grpc-message", message) != NGX_OK) {
        return rc != NGX_OK ? rc : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_type = content_types[TYPE_GRPC];
    r->headers_out.content_type_len = content_types[TYPE_GRPC].len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.content_length_n = 0;
    rc = ngx_http_send_header(r);
    return rc == NGX_ERROR || rc > NGX_OK || r->header_only ? rc : ngx_http_send_special(r, NGX_HTTP_LAST);
}

ngx_int_t ngx_http_sluice_gw_send_error(ngx_http_request_t *r, ngx_uint_t status, const char *message) {
    ngx_int_t rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }
    ngx_table_elt_t *accept = ngx_http_sluice_gw_request_header(r, SL_STR("accept"), 0);
    error_type_t type = accept != NULL ? negotiate(accept->value.data, accept->value.data + accept->value.len) : TYPE_JSON;
    return send_body(r, status, message, type);
}

ngx_int_t ngx_http_sluice_gw_error_handler(ngx_http_request_t *r) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    ngx_uint_t status = r->err_status != 0 ? r->err_status : NGX_HTTP_NOT_FOUND;
    ngx_table_elt_t *h = ngx_http_sluice_gw_request_header(r, SL_STR("accept"), 0);
    error_type_t type;
    if (ngx_http_sluice_gw_ctx(r) == NULL && ngx_http_sluice_gw_ctx_make(r) == NULL) { /* refused before it could be matched */
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (h != NULL) {
        type = negotiate(h->value.data, h->value.data + h->value.len);
    } else {
        h = ngx_http_sluice_gw_request_header(r, SL_STR("content-type"), 0);
        const u_char *p = h != NULL ? h->value.data : (const u_char *)mcf->error_default_type;
        size_t len = h != NULL ? h->value.len : ngx_strlen(mcf->error_default_type);
        type = negotiate(p, p + len);
    }
    const char *message = message_of(status);
    if (status == NGX_HTTP_REQUEST_HEADER_TOO_LARGE || status == NGX_HTTP_TO_HTTPS) {
        status = NGX_HTTP_BAD_REQUEST;
    }
    r->err_status = type == TYPE_GRPC ? NGX_HTTP_OK : status;
    (void)ngx_http_discard_request_body(r);
    return send_body(r, status, message, type);
}
