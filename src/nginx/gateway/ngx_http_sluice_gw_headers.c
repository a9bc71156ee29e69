/* What the gateway adds to responses. */
#include "ngx_http_sluice_gw.h"

static ngx_http_output_header_filter_pt next_header_filter;

static ngx_int_t add_ms(ngx_http_request_t *r, const char *name, ngx_msec_int_t ms) {
    ngx_str_t value;
    value.data = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (value.data == NULL) {
        return NGX_ERROR;
    }
    value.len = (size_t)(ngx_sprintf(value.data, "%M", (ngx_msec_t)(ms > 0 ? ms : 0)) - value.data);
    return ngx_http_sluice_gw_add_header(r, name, value);
}

static ngx_msec_int_t since_start(ngx_http_request_t *r) {
    ngx_time_t *tp = ngx_timeofday();
    return (ngx_msec_int_t)((tp->sec - r->start_sec) * 1000 + (ngx_msec_int_t)(tp->msec - r->start_msec));
}

static ngx_int_t add_via(ngx_http_request_t *r, const ngx_http_sluice_gw_ctx_t *ctx, ngx_http_sluice_gw_main_conf_t *mcf) {
    ngx_table_elt_t *old = ngx_http_sluice_gw_find_header(&r->headers_out.headers, SL_STR("via"), 0);
    ngx_str_t value;
    if (ngx_http_sluice_gw_join(r, old, ctx->grpc ? mcf->via_2 : mcf->via_1, &value) != NGX_OK) {
        return NGX_ERROR;
    }
    if (old != NULL) {
        old->hash = 0;
    }
    return ngx_http_sluice_gw_add_header(r, "Via", value);
}

/* Ours only where the upstream or a filter sent none. Where the upstream sent none nginx has put an empty one, which it does not send. */
static ngx_int_t add_server(ngx_http_request_t *r, ngx_http_sluice_gw_main_conf_t *mcf) {
    ngx_str_t none = ngx_null_string;
    ngx_table_elt_t *h = r->headers_out.server;
    if (h == NULL) {
        h = ngx_http_sluice_gw_find_header(&r->headers_out.headers, SL_STR("server"), 0);
    }
    if (h != NULL && h->value.len != 0) {
        return NGX_OK;
    }
    if (h != NULL) {
        h->hash = 0;
    }
    return ngx_http_sluice_gw_set_server(r, (mcf->tokens & NGX_HTTP_SLUICE_GW_SERVER_TOKENS) ? mcf->server : none);
}

static unsigned word_is(const u_char *p, size_t len, const char *word) {
    return len == ngx_strlen(word) && ngx_strncasecmp((u_char *)(uintptr_t)p, (u_char *)(uintptr_t)word, len) == 0;
}

/* Not what frames the answer, nor what the gateway has its own of. */
static unsigned may_be_named(const u_char *p, size_t len) {
    static const char *const never[] = {"close", "keep-alive", "upgrade", "content-length", "content-type", "transfer-encoding",
                                        "date",  "server",     "via"};
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        if (word_is(p, len, never[i])) {
            return 0;
        }
    }
    return len != 0;
}

static void remove_header(ngx_http_request_t *r, sl_str_t name) {
    for (ngx_table_elt_t *h; (h = ngx_http_sluice_gw_find_header(&r->headers_out.headers, name, 0)) != NULL;) {
        h->hash = 0;
    }
}

/* What the upstream names in Connection is of its connection to us. */
static void remove_named(ngx_http_request_t *r) {
    ngx_table_elt_t *h;
    for (size_t nth = 0; (h = ngx_http_sluice_gw_find_header(&r->upstream->headers_in.headers, SL_STR("connection"), nth)) != NULL; nth++) {
        const u_char *p = h->value.data, *end = p + h->value.len;
        while (p < end) {
            const u_char *name = p;
            while (p < end && *p != ',' && *p != ' ' && *p != '\t') {
                p++;
            }
            if (may_be_named(name, (size_t)(p - name))) {
                remove_header(r, sl_str(name, (size_t)(p - name)));
            }
            p += p < end;
        }
    }
}

static ngx_int_t remove_hop_headers(ngx_http_request_t *r) {
    ngx_str_t te;
    if (r->upstream == NULL) {
        return NGX_OK;
    }
    remove_named(r);
    if (r->headers_out.status != NGX_HTTP_SWITCHING_PROTOCOLS) {
        remove_header(r, SL_STR("upgrade"));
    }
    if (ngx_http_sluice_gw_variable(r, "sluice_upstream_te", &te) != NGX_OK) {
        return NGX_ERROR;
    }
    if (te.len == 0) {
        remove_header(r, SL_STR("trailer")); /* the client did not say that it takes any */
    }
    return NGX_OK;
}

static ngx_int_t proxied_headers(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_http_sluice_gw_main_conf_t *mcf) {
    if ((mcf->tokens & NGX_HTTP_SLUICE_GW_VIA) && add_via(r, ctx, mcf) != NGX_OK) {
        return NGX_ERROR;
    }
    if (add_server(r, mcf) != NGX_OK || remove_hop_headers(r) != NGX_OK) {
        return NGX_ERROR;
    }
    ngx_msec_int_t total = since_start(r);
    ngx_msec_int_t upstream = (ngx_msec_int_t)(ngx_current_msec - ctx->upstream_started);
    if ((mcf->tokens & NGX_HTTP_SLUICE_GW_UPSTREAM_LATENCY) && add_ms(r, "X-Kong-Upstream-Latency", upstream) != NGX_OK) {
        return NGX_ERROR;
    }
    if ((mcf->tokens & NGX_HTTP_SLUICE_GW_PROXY_LATENCY) && add_ms(r, "X-Kong-Proxy-Latency", total - upstream) != NGX_OK) {
        return NGX_ERROR;
    }
    if ((mcf->tokens & NGX_HTTP_SLUICE_GW_UPSTREAM_STATUS) && r->upstream != NULL && r->upstream->state != NULL &&
        r->upstream->state->status != 0) {
        return add_ms(r, "X-Kong-Upstream-Status", (ngx_msec_int_t)r->upstream->state->status);
    }
    return NGX_OK;
}

static ngx_int_t own_headers(ngx_http_request_t *r, ngx_http_sluice_gw_main_conf_t *mcf) {
    if (add_server(r, mcf) != NGX_OK) {
        return NGX_ERROR;
    }
    return (mcf->tokens & NGX_HTTP_SLUICE_GW_RESPONSE_LATENCY) ? add_ms(r, "X-Kong-Response-Latency", since_start(r)) : NGX_OK;
}

static ngx_int_t add_text(ngx_http_request_t *r, const char *name, sl_str_t text) {
    ngx_str_t value = {text.len, (u_char *)(uintptr_t)text.data};
    return text.len != 0 ? ngx_http_sluice_gw_add_header(r, name, value) : NGX_OK;
}

/* For a client that asks with Kong-Debug; the texts are the plan's, which the request keeps. */
static ngx_int_t debug_headers(ngx_http_request_t *r, const ngx_http_sluice_gw_ctx_t *ctx) {
    if (!ctx->matched || ngx_http_sluice_gw_request_header(r, SL_STR("kong-debug"), 0) == NULL) {
        return NGX_OK;
    }
    ngx_int_t rc = add_text(r, "Kong-Route-Id", ctx->route.id);
    rc = rc == NGX_OK ? add_text(r, "Kong-Route-Name", ctx->route.name) : rc;
    if (!ctx->route.has_service) {
        return rc;
    }
    rc = rc == NGX_OK ? add_text(r, "Kong-Service-Id", ctx->service.id) : rc;
    return rc == NGX_OK ? add_text(r, "Kong-Service-Name", ctx->service.name) : rc;
}

static ngx_int_t header_filter(ngx_http_request_t *r) {
    ngx_http_sluice_gw_ctx_t *ctx = r == r->main ? ngx_http_sluice_gw_ctx(r) : NULL;
    if (ctx != NULL && ctx->tokens_done && ctx->tokens_of != r->err_status) {
        ctx->tokens_done = 0; /* an error page took the place of what had them, and of its headers */
    }
    if (ctx == NULL || ctx->tokens_done || r->headers_out.status < NGX_HTTP_OK) {
        if (ctx == NULL || !(ctx->proxied && r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS && !ctx->tokens_done)) {
            return next_header_filter(r);
        }
    }
    ctx->tokens_done = 1;
    ctx->tokens_of = r->err_status;
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    ngx_int_t rc = ctx->proxied ? proxied_headers(r, ctx, mcf) : own_headers(r, mcf);
    if (rc == NGX_OK && (mcf->tokens & NGX_HTTP_SLUICE_GW_REQUEST_ID)) {
        rc = ngx_http_sluice_gw_add_header(r, "X-Kong-Request-Id", ctx->request_id);
    }
    rc = rc == NGX_OK && mcf->debug_header ? debug_headers(r, ctx) : rc;
    return rc == NGX_OK ? next_header_filter(r) : NGX_ERROR;
}

ngx_int_t ngx_http_sluice_gw_header_filter_init(void) {
    next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = header_filter;
    return NGX_OK;
}
