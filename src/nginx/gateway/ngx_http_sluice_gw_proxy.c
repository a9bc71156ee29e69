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
#include "ngx_http_sluice_gw_lazy.h"
#include "sl_digest.h"

/* ---- context --------------------------------------------------------------------------------------------------------- */

static void ctx_cleanup(void *data) {
    ngx_http_sluice_gw_ctx_t *ctx = data;
    if (ctx->resolving != NULL) {
        ngx_resolve_name_done(ctx->resolving);
        ctx->resolving = NULL;
    }
    ngx_http_sluice_gw_pool_leave(ctx);
    ngx_http_sluice_gw_pool_unref(ctx->named);
    ctx->named = NULL;
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

ngx_http_sluice_gw_ctx_t *ngx_http_sluice_gw_ctx_make(ngx_http_request_t *r) {
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

static sl_str_t match_header(void *ud, sl_str_t lower, size_t nth) {
    ngx_table_elt_t *h = ngx_http_sluice_gw_request_header(ud, lower, nth);
    return h != NULL ? sl_str(h->value.data != NULL ? h->value.data : (u_char *)"", h->value.len) : SL_STR_NULL;
}

/* The scheme that counts for redirects: a trusted peer may have ended TLS. */
static unsigned is_https(ngx_http_request_t *r) {
    ngx_table_elt_t *h = ngx_http_sluice_gw_peer_trusted(r) ? ngx_http_sluice_gw_request_header(r, SL_STR("x-forwarded-proto"), 0) : NULL;
    if (h != NULL) {
        return h->value.len == 5 && ngx_strncasecmp(h->value.data, (u_char *)"https", 5) == 0;
    }
    return ngx_http_sluice_gw_is_tls(r);
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

static sl_buf_t scratch; /* of match(): one request at a time on a worker's thread */

void ngx_http_sluice_gw_match_deinit(void) {
    sl_buf_deinit(&scratch);
    ngx_memzero(&scratch, sizeof(scratch));
}

void ngx_http_sluice_gw_apply_chosen(ngx_http_sluice_gw_ctx_t *ctx) {
    if (ctx->chosen.host.data != NULL) {
        ctx->service.host = ctx->chosen.host;
    }
    if (ctx->chosen.host.data != NULL && !ctx->chosen.balance) {
        ctx->service.port = ctx->chosen.port;
    }
    if (ctx->chosen.protocol != 0) {
        ctx->service.protocol = ctx->chosen.protocol;
    }
}

/* NGX_OK, NGX_DECLINED (no route), NGX_ERROR. Fills route, service and the composed path. */
static ngx_int_t match(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    if (scratch.max == 0) {
        sl_buf_init(&scratch, 1024 * 1024);
    }
    gw_match_in_t in = {
        .method = ngx_sluice_to_sl(r->method_name),
        .host = ngx_sluice_to_sl(ngx_http_sluice_gw_host(r)),
        .port = (uint32_t)ngx_http_sluice_gw_shown_port(r),
        .path = ngx_sluice_to_sl(r->unparsed_uri),
        .https = ngx_http_sluice_gw_is_tls(r),
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
    ctx->route_index = m.route;
    if (ctx->route.has_service) {
        gw_plan_service(plan, ctx->route.service, &ctx->service);
        ngx_http_sluice_gw_apply_chosen(ctx);
    }
    ctx->matched = 1;
    if (dup_str(r->pool, m.upstream_path, &ctx->upstream_path) != NGX_OK || dup_str(r->pool, m.matched_prefix, &ctx->prefix) != NGX_OK) {
        return NGX_ERROR;
    }
    ctx->original_uri = r->unparsed_uri;
    ctx->original_host = ngx_http_sluice_gw_host(r);
    return NGX_OK;
}

/* ---- gates ----------------------------------------------------------------------------------------------------------------------- */

static ngx_int_t redirect_to_https(ngx_http_request_t *r, ngx_uint_t status) {
    ngx_table_elt_t *forwarded =
        ngx_http_sluice_gw_peer_trusted(r) ? ngx_http_sluice_gw_request_header(r, SL_STR("x-forwarded-host"), 0) : NULL;
    ngx_str_t host = forwarded != NULL ? forwarded->value : ngx_http_sluice_gw_host(r);
    for (size_t i = host.len; i > 0 && host.data[i - 1] != ']'; i--) {
        if (host.data[i - 1] == ':') {
            host.len = i - 1;
            break;
        }
    }
    if (status == 426) {
        ngx_str_t upgrade = ngx_string("TLS/1.2, HTTP/1.1");
        ngx_str_t connection = ngx_string("Upgrade");
        if (ngx_http_sluice_gw_add_header(r, "Upgrade", upgrade) != NGX_OK ||
            ngx_http_sluice_gw_add_header(r, "Connection", connection) != NGX_OK) {
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
    if (rc != NGX_OK || ngx_http_sluice_gw_add_header(r, "Location", location) != NGX_OK) {
        return rc != NGX_OK ? rc : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    r->headers_out.status = status;
    r->headers_out.content_length_n = 0;
    rc = ngx_http_send_header(r);
    return rc == NGX_ERROR || rc > NGX_OK || r->header_only ? rc : ngx_http_send_special(r, NGX_HTTP_LAST);
}

static unsigned is_grpc_request(ngx_http_request_t *r) {
    ngx_table_elt_t *h = ngx_http_sluice_gw_request_header(r, SL_STR("content-type"), 0);
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
        if (!(p & GW_GRPC) && !is_https(r)) {
            return ngx_http_sluice_gw_send_grpc(r, "1", "gRPC request matched gRPCs route");
        }
        return NGX_DECLINED;
    }
    if (!(p & GW_HTTP) && (p & GW_HTTPS) && !is_https(r)) {
        return redirect_to_https(r, ctx->route.https_redirect_status);
    }
    return NGX_DECLINED;
}

/* ---- phases ------------------------------------------------------------------------------------------------------------------------- */

/* A name that does not exist is the configuration's fault; anything else is a failure of the name service. */
static ngx_int_t name_failed(ngx_http_request_t *r, const ngx_http_sluice_gw_ctx_t *ctx) {
    u_char text[128];
    if (ctx->name_state == NGX_OK || ctx->name_state == NGX_RESOLVE_NXDOMAIN) {
        return ngx_http_sluice_gw_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, "name resolution failed");
    }
    (void)ngx_snprintf(text, sizeof(text), "name resolution failed: %s%Z", ngx_resolver_strerror(ctx->name_state));
    text[sizeof(text) - 1] = '\0';
    return ngx_http_sluice_gw_send_error(r, NGX_HTTP_INTERNAL_SERVER_ERROR, (const char *)text);
}

static ngx_int_t resolve_step(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    if (ctx->failed) {
        return name_failed(r, ctx);
    }
    if (ctx->resolved) {
        return NGX_DECLINED;
    }
    ngx_int_t rc = ngx_http_sluice_gw_resolve(r, ctx);
    if (rc == NGX_DECLINED && ctx->failed) {
        return name_failed(r, ctx);
    }
    if (rc == NGX_DECLINED) {
        return ngx_http_sluice_gw_send_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                             ctx->pool != NULL ? "failure to get a peer from the ring-balancer" : "name resolution failed");
    }
    return rc == NGX_OK ? NGX_DECLINED : rc == NGX_AGAIN ? NGX_DONE : NGX_HTTP_INTERNAL_SERVER_ERROR;
}

/* What a service of TLS is reached with. */
static ngx_int_t tls_step(ngx_http_sluice_gw_ctx_t *ctx) {
    ctx->tls = NULL;
    if (!(ctx->service.protocol & (GW_HTTPS | GW_GRPCS))) {
        return NGX_OK;
    }
    sl_str_t of_pool = ctx->pool != NULL ? ngx_http_sluice_gw_pool_certificate(ctx->pool) : SL_STR_NULL;
    ctx->tls = ngx_http_sluice_gw_tls_of(ctx->gen, ctx->route.service, &ctx->service, of_pool);
    return ctx->tls != NULL ? NGX_OK : NGX_ERROR;
}

/*
 * gRPC has a location of its own, with grpc_pass. The request goes on there as it is: an internal redirect would run the phases again.
 * grpc_pass takes the path from the request.
 */
static ngx_int_t grpc_step(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    static const ngx_str_t name = ngx_string("@sluice_grpc");
    ngx_http_core_srv_conf_t *cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);
    ngx_http_core_loc_conf_t **location = cscf->named_locations;
    ctx->grpc = (ctx->service.protocol & (GW_GRPC | GW_GRPCS)) != 0;
    while (ctx->grpc && location != NULL && *location != NULL && ngx_strcmp((*location)->name.data, name.data) != 0) {
        location++;
    }
    if (!ctx->grpc) {
        return NGX_OK;
    }
    if (location == NULL || *location == NULL || ngx_http_sluice_gw_variable(r, "sluice_upstream_uri", &r->unparsed_uri) != NGX_OK) {
        return NGX_ERROR;
    }
    r->valid_unparsed_uri = 1;
    r->loc_conf = (*location)->loc_conf;
    ngx_http_update_location_config(r);
    return NGX_OK;
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
        ctx = ngx_http_sluice_gw_ctx_make(r);
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
    ngx_str_t host = ngx_http_sluice_gw_host(r);
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
    ngx_int_t rc = resolve_step(r, ctx);
    if (rc == NGX_DECLINED) {
        if (tls_step(ctx) != NGX_OK || grpc_step(r, ctx) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        ngx_http_sluice_gw_drop_hop_headers(r);
        r->request_body_no_buffering = r->request_body == NULL && !ctx->route.request_buffering;
    }
    return rc;
}
