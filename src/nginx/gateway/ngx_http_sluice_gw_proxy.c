/*
 * One proxied request: match, gates, name, filters (attached here, run by the HTTP adapter), target, headers.
 *
 *   rewrite: match route -> resolve the service's host -> attach the chain
 *   access:  Lua, then the filters' request headers (ngx_http_sluice_module)
 *   precontent: if a filter changed the path or the host, match again
 *   content: proxy_pass with the variables below; the balancer hands out the resolved addresses
 */
#include "ngx_http_sluice_gw.h"

#include "ngx_http_sluice.h"
#include "sl_digest.h"

/* ---- context --------------------------------------------------------------------------------------------------------- */

static void ctx_cleanup(void *data) {
    ngx_http_sluice_gw_ctx_t *ctx = data;
    if (ctx->resolving != NULL) {
        ngx_resolve_name_done(ctx->resolving);
        ctx->resolving = NULL;
    }
    ngx_http_sluice_gw_gen_unref(ctx->gen);
    ctx->gen = NULL;
}

/* nginx zeroes module contexts at an internal redirect; the cleanup record still knows ours. */
ngx_http_sluice_gw_ctx_t *ngx_http_sluice_gw_ctx(ngx_http_request_t *r) {
    ngx_http_sluice_gw_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_sluice_gateway_module);
    if (ctx != NULL) {
        return ctx;
    }
    for (ngx_pool_cleanup_t *cln = r->pool->cleanup; cln != NULL; cln = cln->next) {
        if (cln->handler == ctx_cleanup && ((ngx_http_sluice_gw_ctx_t *)cln->data)->request == r) {
            ngx_http_set_ctx(r, cln->data, ngx_http_sluice_gateway_module);
            return cln->data;
        }
    }
    return NULL;
}

static ngx_http_sluice_gw_ctx_t *ctx_make(ngx_http_request_t *r) {
    ngx_pool_cleanup_t *cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_sluice_gw_ctx_t));
    u_char *id = ngx_pnalloc(r->pool, 33);
    uint8_t raw[16];
    if (cln == NULL || id == NULL || sl_random(raw, sizeof(raw)) != SL_OK) {
        return NULL;
    }
    ngx_http_sluice_gw_ctx_t *ctx = cln->data;
    ngx_memzero(ctx, sizeof(*ctx));
    sl_hex(raw, sizeof(raw), (char *)id);
    ctx->request = r;
    ctx->request_id = (ngx_str_t){32, id};
    cln->handler = ctx_cleanup;
    ngx_http_set_ctx(r, ctx, ngx_http_sluice_gateway_module);
    return ctx;
}

/* ---- matching -------------------------------------------------------------------------------------------------------------- */

static ngx_table_elt_t *request_header(ngx_http_request_t *r, sl_str_t lower, size_t nth) {
    ngx_list_part_t *part = &r->headers_in.headers.part;
    ngx_table_elt_t *h = part->elts;
    for (ngx_uint_t i = 0;; i++) {
        if (i >= part->nelts) {
            part = part->next;
            if (part == NULL) {
                return NULL;
            }
            h = part->elts;
            i = 0;
        }
        if (h[i].hash != 0 && h[i].key.len == lower.len &&
            ngx_strncasecmp(h[i].key.data, (u_char *)(uintptr_t)lower.data, lower.len) == 0 && nth-- == 0) {
            return &h[i];
        }
    }
}

static sl_str_t match_header(void *ud, sl_str_t lower, size_t nth) {
    ngx_table_elt_t *h = request_header(ud, lower, nth);
    return h != NULL ? sl_str(h->value.data != NULL ? h->value.data : (u_char *)"", h->value.len) : SL_STR_NULL;
}

static ngx_uint_t local_port(ngx_http_request_t *r) {
    if (ngx_connection_local_sockaddr(r->connection, NULL, 0) != NGX_OK) {
        return 0;
    }
    return ngx_inet_get_port(r->connection->local_sockaddr);
}

static unsigned peer_trusted(ngx_http_request_t *r) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    return mcf->trusted != NULL && ngx_cidr_match(r->connection->sockaddr, mcf->trusted) == NGX_OK;
}

static unsigned is_tls(ngx_http_request_t *r) {
#if (NGX_HTTP_SSL)
    return r->connection->ssl != NULL;
#else
    (void)r;
    return 0;
#endif
}

/* The scheme that counts for redirects: a trusted peer may have ended TLS. */
static unsigned is_https(ngx_http_request_t *r) {
    ngx_table_elt_t *h = peer_trusted(r) ? request_header(r, SL_STR("x-forwarded-proto"), 0) : NULL;
    if (h != NULL) {
        return h->value.len == 5 && ngx_strncasecmp(h->value.data, (u_char *)"https", 5) == 0;
    }
    return is_tls(r);
}

static sl_str_t server_name(ngx_http_request_t *r) {
#if (NGX_HTTP_SSL)
    if (r->connection->ssl != NULL) {
        return sl_cstr(SSL_get_servername(r->connection->ssl->connection, TLSEXT_NAMETYPE_host_name));
    }
#else
    (void)r;
#endif
    return SL_STR_NULL;
}

/* Host as the client sent it, with its port. */
static ngx_str_t host_of(ngx_http_request_t *r) {
    ngx_str_t none = ngx_null_string;
    if (r->headers_in.host != NULL) {
        return r->headers_in.host->value;
    }
    return r->headers_in.server.len != 0 ? r->headers_in.server : none;
}

static ngx_int_t dup_str(ngx_pool_t *pool, sl_str_t s, ngx_str_t *out) {
    out->len = s.len;
    out->data = ngx_pnalloc(pool, s.len + 1);
    if (out->data == NULL) {
        return NGX_ERROR;
    }
    ngx_memcpy(out->data, s.data != NULL ? s.data : "", s.len);
    out->data[s.len] = '\0';
    return NGX_OK;
}

/* NGX_OK, NGX_DECLINED (no route), NGX_ERROR. Fills route, service and the composed path. */
static ngx_int_t match(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    static sl_buf_t scratch; /* one request at a time on a worker's thread */
    if (scratch.max == 0) {
        sl_buf_init(&scratch, 1024 * 1024);
    }
    gw_match_in_t in = {
        .method = ngx_sluice_to_sl(r->method_name),
        .host = ngx_sluice_to_sl(host_of(r)),
        .port = (uint32_t)local_port(r),
        .path = ngx_sluice_to_sl(r->unparsed_uri),
        .https = is_tls(r),
        .sni = server_name(r),
        .header = match_header,
        .ud = r,
    };
    gw_match_t m;
    const gw_plan_t *plan = ngx_http_sluice_gw_gen_plan(ctx->gen);
    sl_status_t rc = gw_plan_match(plan, &in, &scratch, &m);
    if (rc != SL_OK) {
        return rc == SL_NOT_FOUND ? NGX_DECLINED : NGX_ERROR;
    }
    gw_plan_route(plan, m.route, &ctx->route);
    if (ctx->route.has_service) {
        gw_plan_service(plan, ctx->route.service, &ctx->service);
    }
    ctx->matched = 1;
    if (dup_str(r->pool, m.upstream_path, &ctx->upstream_path) != NGX_OK || dup_str(r->pool, m.matched_prefix, &ctx->prefix) != NGX_OK) {
        return NGX_ERROR;
    }
    ctx->original_uri = r->unparsed_uri;
    ctx->original_host = host_of(r);
    return NGX_OK;
}

/* ---- gates ----------------------------------------------------------------------------------------------------------------------- */

static ngx_int_t add_out_header(ngx_http_request_t *r, const char *name, ngx_str_t value) {
    ngx_table_elt_t *h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }
    ngx_memzero(h, sizeof(*h));
    h->hash = 1;
    h->key.data = (u_char *)(uintptr_t)name;
    h->key.len = ngx_strlen(name);
    h->value = value;
    return NGX_OK;
}

static ngx_int_t redirect_to_https(ngx_http_request_t *r, ngx_uint_t status) {
    ngx_str_t host = host_of(r);
    for (size_t i = host.len; i > 0 && host.data[i - 1] != ']'; i--) {
        if (host.data[i - 1] == ':') {
            host.len = i - 1;
            break;
        }
    }
    if (status == 426) {
        ngx_str_t upgrade = ngx_string("TLS/1.2, HTTP/1.1");
        ngx_str_t connection = ngx_string("Upgrade");
        if (add_out_header(r, "Upgrade", upgrade) != NGX_OK || add_out_header(r, "Connection", connection) != NGX_OK) {
            return NGX_ERROR;
        }
        return ngx_http_sluice_gw_send_error(r, status, "Please use HTTPS protocol");
    }
    ngx_str_t location;
    location.len = sizeof("https://") - 1 + host.len + r->unparsed_uri.len;
    location.data = ngx_pnalloc(r->pool, location.len);
    if (location.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    ngx_sprintf(location.data, "https://%V%V", &host, &r->unparsed_uri);
    ngx_int_t rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK || add_out_header(r, "Location", location) != NGX_OK) {
        return rc != NGX_OK ? rc : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    r->headers_out.status = status;
    r->headers_out.content_length_n = 0;
    rc = ngx_http_send_header(r);
    return rc == NGX_ERROR || rc > NGX_OK || r->header_only ? rc : ngx_http_send_special(r, NGX_HTTP_LAST);
}

static unsigned is_grpc_request(ngx_http_request_t *r) {
    ngx_table_elt_t *h = request_header(r, SL_STR("content-type"), 0);
    return h != NULL && h->value.len >= 16 && ngx_strncasecmp(h->value.data, (u_char *)"application/grpc", 16) == 0;
}

/* NGX_DECLINED: go on; anything else: answered. */
static ngx_int_t protocol_gate(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    uint32_t p = ctx->route.protocols;
    if (p & (GW_GRPC | GW_GRPCS)) {
        if (!is_grpc_request(r)) {
            return ngx_http_sluice_gw_send_error(r, 415, "Non-gRPC request matched gRPC route");
        }
        if (r->http_version < NGX_HTTP_VERSION_20) {
            return ngx_http_sluice_gw_send_error(r, 426, "Please use HTTP2 protocol");
        }
        return NGX_DECLINED;
    }
    if (!(p & GW_HTTP) && (p & GW_HTTPS) && !is_https(r)) {
        return redirect_to_https(r, ctx->route.https_redirect_status);
    }
    return NGX_DECLINED;
}

/* ---- phases ------------------------------------------------------------------------------------------------------------------------- */

static ngx_int_t resolve_step(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    if (ctx->failed) {
        return ngx_http_sluice_gw_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, "name resolution failed");
    }
    if (ctx->resolved) {
        return NGX_DECLINED;
    }
    ngx_int_t rc = ngx_http_sluice_gw_resolve(r, ctx);
    if (rc == NGX_DECLINED) {
        return ngx_http_sluice_gw_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, "name resolution failed");
    }
    return rc == NGX_OK ? NGX_DECLINED : rc == NGX_AGAIN ? NGX_DONE : NGX_HTTP_INTERNAL_SERVER_ERROR;
}

static ngx_int_t route_step(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    ngx_int_t rc = match(r, ctx);
    if (rc == NGX_DECLINED) {
        return ngx_http_sluice_gw_send_error(r, NGX_HTTP_NOT_FOUND, "no Route matched with those values");
    }
    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    rc = protocol_gate(r, ctx);
    if (rc != NGX_DECLINED) {
        return rc;
    }
    if (!ctx->route.has_service) {
        return ngx_http_sluice_gw_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, "no Service found with those values");
    }
    return NGX_DECLINED;
}

static const ngx_http_sluice_hooks_t hooks = {
    .property_get = ngx_http_sluice_gw_property_get,
    .property_set = ngx_http_sluice_gw_property_set,
};

static ngx_int_t attach(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    pw_chain_t *chain = ngx_http_sluice_gw_gen_chain(ctx->gen, ctx->route.chain);
    if (chain == NULL || ctx->attached) {
        return NGX_OK;
    }
    ctx->attached = 1;
    return ngx_http_sluice_attach(r, chain, &hooks, ctx) == NGX_ERROR ? NGX_ERROR : NGX_OK;
}

ngx_int_t ngx_http_sluice_gw_rewrite_handler(ngx_http_request_t *r) {
    ngx_http_sluice_gw_loc_conf_t *lcf = ngx_http_get_module_loc_conf(r, ngx_http_sluice_gateway_module);
    if (!lcf->proxy || r != r->main) {
        return NGX_DECLINED;
    }
    ngx_http_sluice_gw_ctx_t *ctx = ngx_http_sluice_gw_ctx(r);
    if (ctx == NULL) {
        ctx = ctx_make(r);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        if (ngx_http_sluice_gw_current() == NULL) {
            return ngx_http_sluice_gw_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, "the gateway has no configuration that it can serve");
        }
        ctx->gen = ngx_http_sluice_gw_gen_ref(ngx_http_sluice_gw_current());
    }
    if (!ctx->matched) {
        ngx_int_t rc = route_step(r, ctx);
        if (rc != NGX_DECLINED) {
            return rc;
        }
    }
    ngx_int_t rc = resolve_step(r, ctx);
    if (rc != NGX_DECLINED) {
        return rc;
    }
    return attach(r, ctx) == NGX_OK ? NGX_DECLINED : NGX_HTTP_INTERNAL_SERVER_ERROR;
}

/* After Lua's access handlers. */
ngx_int_t ngx_http_sluice_gw_access_handler(ngx_http_request_t *r) {
    ngx_http_sluice_gw_loc_conf_t *lcf = ngx_http_get_module_loc_conf(r, ngx_http_sluice_gateway_module);
    ngx_http_sluice_gw_ctx_t *ctx = lcf->proxy && r == r->main ? ngx_http_sluice_gw_ctx(r) : NULL;
    return ctx != NULL && ctx->attached ? ngx_http_sluice_run_request(r) : NGX_DECLINED;
}

/* A filter that changes :path or :authority chooses another route's target; the filters of the first match stay. */
ngx_int_t ngx_http_sluice_gw_precontent_handler(ngx_http_request_t *r) {
    ngx_http_sluice_gw_loc_conf_t *lcf = ngx_http_get_module_loc_conf(r, ngx_http_sluice_gateway_module);
    ngx_http_sluice_gw_ctx_t *ctx = lcf->proxy && r == r->main ? ngx_http_sluice_gw_ctx(r) : NULL;
    if (ctx == NULL || !ctx->matched) {
        return NGX_DECLINED;
    }
    ngx_str_t host = host_of(r);
    unsigned same = r->unparsed_uri.len == ctx->original_uri.len &&
                    ngx_memcmp(r->unparsed_uri.data, ctx->original_uri.data, r->unparsed_uri.len) == 0 &&
                    host.len == ctx->original_host.len && ngx_memcmp(host.data, ctx->original_host.data, host.len) == 0;
    if (!same) {
        ctx->resolved = 0;
        ctx->failed = 0;
        ngx_int_t rc = route_step(r, ctx);
        if (rc != NGX_DECLINED) {
            return rc;
        }
    }
    return resolve_step(r, ctx);
}

/* ---- variables ------------------------------------------------------------------------------------------------------------------------
 */

typedef ngx_int_t (*value_fn)(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out);

static ngx_int_t value_scheme(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)r;
    if (ctx->service.protocol & (GW_HTTPS | GW_GRPCS)) {
        ngx_str_set(out, "https");
    } else {
        ngx_str_set(out, "http");
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
        *out = host_of(r);
        return NGX_OK;
    }
    unsigned tls = (ctx->service.protocol & (GW_HTTPS | GW_GRPCS)) != 0;
    unsigned standard = ctx->service.port == (tls ? 443 : 80);
    out->data = ngx_pnalloc(r->pool, ctx->service.host.len + sizeof(":65535"));
    if (out->data == NULL) {
        return NGX_ERROR;
    }
    u_char *end = ngx_copy(out->data, ctx->service.host.data, ctx->service.host.len);
    if (!standard) {
        end = ngx_sprintf(end, ":%uD", ctx->service.port);
    }
    out->len = (size_t)(end - out->data);
    return NGX_OK;
}

static ngx_int_t value_sni(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    if (ctx->route.preserve_host && r->headers_in.server.len != 0) {
        *out = r->headers_in.server;
        return NGX_OK;
    }
    out->data = (u_char *)(uintptr_t)ctx->service.host.data;
    out->len = ctx->service.host.len;
    return NGX_OK;
}

static unsigned wants_upgrade(ngx_http_request_t *r) {
    ngx_table_elt_t *h = request_header(r, SL_STR("upgrade"), 0);
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
    ngx_table_elt_t *h = request_header(r, SL_STR("te"), 0);
    if (h != NULL && ngx_strlcasestrn(h->value.data, h->value.data + h->value.len, (u_char *)"trailers", 7) != NULL) {
        ngx_str_set(out, "trailers");
    }
    return NGX_OK;
}

/* a, or "a, b" when there is an a already. */
static ngx_int_t join(ngx_http_request_t *r, ngx_table_elt_t *a, ngx_str_t b, ngx_str_t *out) {
    if (a == NULL || a->value.len == 0) {
        *out = b;
        return NGX_OK;
    }
    out->data = ngx_pnalloc(r->pool, a->value.len + 2 + b.len);
    if (out->data == NULL) {
        return NGX_ERROR;
    }
    out->len = (size_t)(ngx_sprintf(out->data, "%V, %V", &a->value, &b) - out->data);
    return NGX_OK;
}

static ngx_int_t value_via(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    return join(r, request_header(r, SL_STR("via"), 0), r->http_version >= NGX_HTTP_VERSION_20 ? mcf->via_2 : mcf->via_1, out);
}

static ngx_int_t value_forwarded_for(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    return join(r, request_header(r, SL_STR("x-forwarded-for"), 0), r->connection->addr_text, out);
}

/* What a trusted peer said, if it did. */
static unsigned from_peer(ngx_http_request_t *r, sl_str_t name, ngx_str_t *out) {
    ngx_table_elt_t *h = peer_trusted(r) ? request_header(r, name, 0) : NULL;
    if (h == NULL) {
        return 0;
    }
    *out = h->value;
    return 1;
}

static ngx_int_t value_forwarded_proto(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t *out) {
    (void)ctx;
    if (!from_peer(r, SL_STR("x-forwarded-proto"), out)) {
        out->data = (u_char *)(is_tls(r) ? "https" : "http");
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
        out->len = (size_t)(ngx_sprintf(out->data, "%ui", local_port(r)) - out->data);
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
    if (mcf->tokens & NGX_HTTP_SLUICE_GW_REQUEST_ID) {
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

ngx_int_t ngx_http_sluice_gw_add_variables(ngx_conf_t *cf) {
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

/* ---- response headers -------------------------------------------------------------------------------------------------------------------
 */

static ngx_http_output_header_filter_pt next_header_filter;

static ngx_int_t add_ms(ngx_http_request_t *r, const char *name, ngx_msec_int_t ms) {
    ngx_str_t value;
    value.data = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (value.data == NULL) {
        return NGX_ERROR;
    }
    value.len = (size_t)(ngx_sprintf(value.data, "%M", (ngx_msec_t)(ms > 0 ? ms : 0)) - value.data);
    return add_out_header(r, name, value);
}

static ngx_msec_int_t since_start(ngx_http_request_t *r) {
    ngx_time_t *tp = ngx_timeofday();
    return (ngx_msec_int_t)((tp->sec - r->start_sec) * 1000 + (ngx_msec_int_t)(tp->msec - r->start_msec));
}

static ngx_table_elt_t *response_header(ngx_http_request_t *r, const char *lower) {
    size_t len = ngx_strlen(lower);
    ngx_list_part_t *part = &r->headers_out.headers.part;
    ngx_table_elt_t *h = part->elts;
    for (ngx_uint_t i = 0;; i++) {
        if (i >= part->nelts) {
            part = part->next;
            if (part == NULL) {
                return NULL;
            }
            h = part->elts;
            i = 0;
        }
        if (h[i].hash != 0 && h[i].key.len == len && ngx_strncasecmp(h[i].key.data, (u_char *)(uintptr_t)lower, len) == 0) {
            return &h[i];
        }
    }
}

static ngx_int_t add_via(ngx_http_request_t *r, ngx_http_sluice_gw_main_conf_t *mcf) {
    ngx_table_elt_t *old = response_header(r, "via");
    ngx_str_t value;
    if (join(r, old, mcf->via_1, &value) != NGX_OK) {
        return NGX_ERROR;
    }
    if (old != NULL) {
        old->hash = 0;
    }
    return add_out_header(r, "Via", value);
}

static ngx_int_t proxied_headers(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_http_sluice_gw_main_conf_t *mcf) {
    if ((mcf->tokens & NGX_HTTP_SLUICE_GW_VIA) && add_via(r, mcf) != NGX_OK) {
        return NGX_ERROR;
    }
    if ((mcf->tokens & NGX_HTTP_SLUICE_GW_SERVER_TOKENS) && r->headers_out.server == NULL && response_header(r, "server") == NULL &&
        add_out_header(r, "Server", mcf->server) != NGX_OK) {
        return NGX_ERROR;
    }
    if (mcf->tokens & NGX_HTTP_SLUICE_GW_LATENCY) {
        ngx_msec_int_t total = since_start(r);
        ngx_msec_int_t upstream = (ngx_msec_int_t)(ngx_current_msec - ctx->upstream_started);
        if (add_ms(r, "X-Kong-Upstream-Latency", upstream) != NGX_OK || add_ms(r, "X-Kong-Proxy-Latency", total - upstream) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    if ((mcf->tokens & NGX_HTTP_SLUICE_GW_UPSTREAM_STATUS) && r->upstream != NULL && r->upstream->state != NULL &&
        r->upstream->state->status != 0) {
        return add_ms(r, "X-Kong-Upstream-Status", (ngx_msec_int_t)r->upstream->state->status);
    }
    return NGX_OK;
}

static ngx_int_t own_headers(ngx_http_request_t *r, ngx_http_sluice_gw_main_conf_t *mcf) {
    if (mcf->tokens & NGX_HTTP_SLUICE_GW_SERVER_TOKENS) {
        if (response_header(r, "server") == NULL) {
            ngx_table_elt_t *h = ngx_list_push(&r->headers_out.headers);
            if (h == NULL) {
                return NGX_ERROR;
            }
            ngx_memzero(h, sizeof(*h));
            h->hash = 1;
            ngx_str_set(&h->key, "Server");
            h->value = mcf->server;
            r->headers_out.server = h;
        }
    }
    return (mcf->tokens & NGX_HTTP_SLUICE_GW_LATENCY) ? add_ms(r, "X-Kong-Response-Latency", since_start(r)) : NGX_OK;
}

static ngx_int_t header_filter(ngx_http_request_t *r) {
    ngx_http_sluice_gw_ctx_t *ctx = r == r->main ? ngx_http_sluice_gw_ctx(r) : NULL;
    if (ctx == NULL || ctx->tokens_done || r->headers_out.status < NGX_HTTP_OK) {
        if (ctx == NULL || !(ctx->proxied && r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS && !ctx->tokens_done)) {
            return next_header_filter(r);
        }
    }
    ctx->tokens_done = 1;
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    ngx_int_t rc = ctx->proxied ? proxied_headers(r, ctx, mcf) : own_headers(r, mcf);
    if (rc == NGX_OK && (mcf->tokens & NGX_HTTP_SLUICE_GW_REQUEST_ID)) {
        rc = add_out_header(r, "X-Kong-Request-Id", ctx->request_id);
    }
    return rc == NGX_OK ? next_header_filter(r) : NGX_ERROR;
}

ngx_int_t ngx_http_sluice_gw_header_filter_init(void) {
    next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = header_filter;
    return NGX_OK;
}
