/* The variables that the generated nginx.conf uses: one row each. */
#include "ngx_http_sluice_gw.h"

#include "ngx_http_sluice_gw_observe.h"

/* ---- variables ------------------------------------------------------------------------------------------------------------------------
 */

typedef ngx_int_t (*value_fn)(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out);

static ngx_int_t value_scheme(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)r;
    static const struct {
        uint32_t protocol;
        ngx_str_t scheme;
    } schemes[] = {{GW_HTTPS, ngx_string("https")}, {GW_GRPC, ngx_string("grpc")}, {GW_GRPCS, ngx_string("grpcs")}};
    ngx_str_set(out, "http");
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (ctx->service.protocol == schemes[i].protocol) {
            *out = schemes[i].scheme;
        }
    }
    return NGX_OK;
}

static ngx_int_t value_uri(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    u_char *q = memchr(r->unparsed_uri.data, '?', r->unparsed_uri.len);
    size_t qlen = q != NULL ? (size_t)(r->unparsed_uri.data + r->unparsed_uri.len - q) : 0;
    out->len = ctx->upstream_path.len + qlen;
    out->data = ngx_pnalloc(r->pool, out->len + 1);
    if (out->data == NULL) {
        return NGX_ERROR;
    }
    ngx_memcpy(out->data, ctx->upstream_path.data, ctx->upstream_path.len);
    if (qlen != 0) {
        ngx_memcpy(out->data + ctx->upstream_path.len, q, qlen);
    }
    return NGX_OK;
}

static ngx_int_t value_host(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    if (ctx->route.preserve_host) {
        *out = ngx_http_sluice_gw_host(r);
        return NGX_OK;
    }
    if (ctx->pool != NULL && ngx_http_sluice_gw_pool_host_header(ctx->pool).len != 0) {
        *out = ngx_http_sluice_gw_pool_host_header(ctx->pool);
        return NGX_OK;
    }
    unsigned tls = (ctx->service.protocol & (GW_HTTPS | GW_GRPCS)) != 0;
    ngx_str_t host = {ctx->service.host.len, (u_char *)(uintptr_t)ctx->service.host.data};
    uint32_t port = ctx->service.port;
    if (ctx->pool != NULL) {
        host = ctx->target_host;
        port = ctx->target_port;
    }
    out->data = ngx_pnalloc(r->pool, host.len + sizeof("[]:65535"));
    if (out->data == NULL) {
        return NGX_ERROR;
    }
    unsigned bare_ipv6 = host.data[0] != '[' && memchr(host.data, ':', host.len) != NULL;
    u_char *end = ngx_sprintf(out->data, bare_ipv6 ? "[%V]" : "%V", &host);
    if (port != (tls ? 443 : 80)) {
        end = ngx_sprintf(end, ":%uD", port);
    }
    out->len = (size_t)(end - out->data);
    return NGX_OK;
}

static ngx_int_t value_sni(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    if (ctx->route.preserve_host && r->headers_in.server.len != 0) {
        *out = r->headers_in.server;
        return NGX_OK;
    }
    if (ctx->pool != NULL) {
        ngx_str_t header = ngx_http_sluice_gw_pool_host_header(ctx->pool);
        *out = header.len != 0 ? header : ctx->target_host; /* nginx cuts a port off */
        return NGX_OK;
    }
    out->data = (u_char *)(uintptr_t)ctx->service.host.data;
    out->len = ctx->service.host.len;
    return NGX_OK;
}

static unsigned wants_upgrade(ngx_http_request_t *r) {
    ngx_table_elt_t *h = ngx_http_sluice_gw_request_header(r, SL_STR("upgrade"), 0);
    return h != NULL && h->value.len == 9 && ngx_strncasecmp(h->value.data, (u_char *)"websocket", 9) == 0 &&
           r->http_version < NGX_HTTP_VERSION_20;
}

static ngx_int_t value_connection(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    if (wants_upgrade(r)) {
        ngx_str_set(out, "keep-alive, Upgrade");
    } else {
        ngx_str_set(out, "keep-alive");
    }
    return NGX_OK;
}

static ngx_int_t value_upgrade(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    if (wants_upgrade(r)) {
        ngx_str_set(out, "websocket");
    }
    return NGX_OK;
}

static ngx_int_t value_te(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    ngx_table_elt_t *h = ngx_http_sluice_gw_request_header(r, SL_STR("te"), 0);
    if (h != NULL && ngx_strlcasestrn(h->value.data, h->value.data + h->value.len, (u_char *)"trailers", 7) != NULL) {
        ngx_str_set(out, "trailers");
    }
    return NGX_OK;
}

static ngx_int_t value_via(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    return ngx_http_sluice_gw_join(r, ngx_http_sluice_gw_request_header(r, SL_STR("via"), 0),
                                   r->http_version >= NGX_HTTP_VERSION_20 ? mcf->via_2 : mcf->via_1, out);
}

static ngx_int_t value_forwarded_for(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    ngx_table_elt_t *h = ngx_http_sluice_gw_request_header(r, SL_STR("x-forwarded-for"), 0);
    return ngx_http_sluice_gw_join(r, h, h != NULL ? ngx_http_sluice_gw_peer(r) : r->connection->addr_text, out);
}

/* What a trusted peer said, if it did. */
static unsigned from_peer(ngx_http_request_t *r, sl_str_t name, ngx_str_t *out) {
    ngx_table_elt_t *h = ngx_http_sluice_gw_peer_trusted(r) ? ngx_http_sluice_gw_request_header(r, name, 0) : NULL;
    if (h == NULL) {
        return 0;
    }
    *out = h->value;
    return 1;
}

static ngx_int_t value_forwarded_proto(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    if (!from_peer(r, SL_STR("x-forwarded-proto"), out)) {
        out->data = (u_char *)(ngx_http_sluice_gw_is_tls(r) ? "https" : "http");
        out->len = ngx_strlen(out->data);
    }
    return NGX_OK;
}

static ngx_int_t value_forwarded_host(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    if (!from_peer(r, SL_STR("x-forwarded-host"), out)) {
        *out = r->headers_in.server;
    }
    return NGX_OK;
}

static ngx_int_t value_forwarded_port(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    if (!from_peer(r, SL_STR("x-forwarded-port"), out)) {
        out->data = ngx_pnalloc(r->pool, sizeof("65535"));
        if (out->data == NULL) {
            return NGX_ERROR;
        }
        out->len = (size_t)(ngx_sprintf(out->data, "%ui", ngx_http_sluice_gw_shown_port(r)) - out->data);
    }
    return NGX_OK;
}

static ngx_int_t value_forwarded_path(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    if (!from_peer(r, SL_STR("x-forwarded-path"), out)) {
        *out = ctx->original_uri;
        u_char *q = memchr(out->data, '?', out->len);
        out->len = q != NULL ? (size_t)(q - out->data) : out->len;
    }
    return NGX_OK;
}

static ngx_int_t value_forwarded_prefix(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    unsigned stripped = ctx->route.strip_path && ctx->prefix.len != 0 && !(ctx->prefix.len == 1 && ctx->prefix.data[0] == '/');
    if (!from_peer(r, SL_STR("x-forwarded-prefix"), out) && stripped) {
        *out = ctx->prefix;
    }
    return NGX_OK;
}

static ngx_int_t value_request_id(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)r;
    *out = ctx->request_id;
    return NGX_OK;
}

static ngx_int_t value_request_id_header(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    if (mcf->upstream_tokens & NGX_HTTP_SLUICE_GW_REQUEST_ID) {
        *out = ctx->request_id;
    }
    return NGX_OK;
}

static const struct {
    ngx_str_t name;
    value_fn value;
} variables[] = {
    {ngx_string("sluice_upstream_scheme"), value_scheme},
    {ngx_string("sluice_upstream_uri"), value_uri},
    {ngx_string("sluice_upstream_host"), value_host},
    {ngx_string("sluice_upstream_sni"), value_sni},
    {ngx_string("sluice_upstream_connection"), value_connection},
    {ngx_string("sluice_upstream_upgrade"), value_upgrade},
    {ngx_string("sluice_upstream_te"), value_te},
    {ngx_string("sluice_upstream_via"), value_via},
    {ngx_string("sluice_forwarded_for"), value_forwarded_for},
    {ngx_string("sluice_forwarded_proto"), value_forwarded_proto},
    {ngx_string("sluice_forwarded_host"), value_forwarded_host},
    {ngx_string("sluice_forwarded_port"), value_forwarded_port},
    {ngx_string("sluice_forwarded_path"), value_forwarded_path},
    {ngx_string("sluice_forwarded_prefix"), value_forwarded_prefix},
    {ngx_string("sluice_request_id"), value_request_id},
    {ngx_string("sluice_request_id_header"), value_request_id_header},
    {ngx_string("kong_request_id"), value_request_id}, /* log formats of Kong's users have it */
};

static ngx_int_t get_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data) {
    ngx_http_sluice_gw_ctx_t *ctx = ngx_http_sluice_gw_ctx(r);
    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }
    ngx_str_t out = ngx_string("");
    if (variables[data].value(r, ctx, &out) != NGX_OK) {
        return NGX_ERROR;
    }
    v->data = out.data;
    v->len = (unsigned)out.len & 0x0fffffff;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    return NGX_OK;
}

ngx_int_t ngx_http_sluice_gw_variable(ngx_http_request_t *r, const char *name, ngx_str_t *out) {
    ngx_http_sluice_gw_ctx_t *ctx = ngx_http_sluice_gw_ctx(r);
    for (size_t i = 0; ctx != NULL && i < sizeof(variables) / sizeof(variables[0]); i++) {
        if (ngx_strcmp(variables[i].name.data, name) == 0) {
            ngx_str_set(out, "");
            return variables[i].value(r, ctx, out);
        }
    }
    return NGX_DECLINED;
}

/*
 * $sluice_error_page, where error_page leads: a named location. nginx refuses to go to one, with a 500, while the request has no path,
 * which is so when the request line itself was refused; it gets one then.
 */
static ngx_int_t get_error_page(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data) {
    (void)data;
    static u_char page[] = "@sluice_error";
    if (r->uri.len == 0) {
        ngx_str_set(&r->uri, "/");
    }
    v->data = page;
    v->len = sizeof(page) - 1;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    return NGX_OK;
}

/* Also of requests that never reached a route. */
static ngx_int_t get_access_json(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data) {
    ngx_str_t line;
    (void)data;
    if (ngx_http_sluice_gw_access_json(r, &line) != NGX_OK) {
        return NGX_ERROR;
    }
    v->data = line.data;
    v->len = (unsigned)line.len & 0x0fffffff;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    return NGX_OK;
}

static ngx_int_t add_access_json(ngx_conf_t *cf) {
    ngx_str_t name = ngx_string("sluice_access_json");
    ngx_http_variable_t *v = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
    if (v == NULL) {
        return NGX_ERROR;
    }
    v->get_handler = get_access_json;
    return NGX_OK;
}

ngx_int_t ngx_http_sluice_gw_add_variables(ngx_conf_t *cf) {
    if (add_access_json(cf) != NGX_OK) {
        return NGX_ERROR;
    }
    ngx_str_t page = ngx_string("sluice_error_page");
    ngx_http_variable_t *error_page = ngx_http_add_variable(cf, &page, NGX_HTTP_VAR_NOCACHEABLE);
    if (error_page == NULL) {
        return NGX_ERROR;
    }
    error_page->get_handler = get_error_page;
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        ngx_str_t name = variables[i].name;
        ngx_http_variable_t *var = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
        if (var == NULL) {
            return NGX_ERROR;
        }
        var->get_handler = get_variable;
        var->data = i;
    }
    return NGX_OK;
}
