/*
 * Where a call goes: a name that another module knows (the gateway's upstreams), the name of an upstream{} block, an address, or a
 * host that nginx's resolver finds.
 */
#include "ngx_http_sluice_call.h"

ngx_http_sluice_call_name_pt ngx_http_sluice_call_name;

static sl_status_t add_peer(ngx_http_sluice_call_t *call, const struct sockaddr *sa, socklen_t len, const ngx_str_t *name) {
    ngx_http_sluice_peer_t *peer = ngx_array_push(&call->peers);
    u_char text[NGX_SOCKADDR_STRLEN];

    if (peer == NULL) {
        return SL_NO_MEMORY;
    }
    peer->sockaddr = ngx_palloc(call->pool, len);
    if (peer->sockaddr == NULL) {
        return SL_NO_MEMORY;
    }
    ngx_memcpy(peer->sockaddr, sa, len);
    peer->socklen = len;
    if (name != NULL) {
        return ngx_http_sluice_copy(call->pool, ngx_sluice_str(name), &peer->name);
    }
    return ngx_http_sluice_copy(call->pool, sl_str(text, ngx_sock_ntop(peer->sockaddr, len, text, sizeof(text), 1)), &peer->name);
}

/* ---- upstream{} ----------------------------------------------------------------------------------------------------------------- */

static ngx_http_upstream_srv_conf_t *find_upstream(sl_str_t name) {
    ngx_http_upstream_main_conf_t *umcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_upstream_module);
    ngx_http_upstream_srv_conf_t **all;

    if (umcf == NULL) {
        return NULL;
    }
    all = umcf->upstreams.elts;
    for (ngx_uint_t i = 0; i < umcf->upstreams.nelts; i++) {
        if ((all[i]->flags & NGX_HTTP_UPSTREAM_CREATE) && all[i]->servers != NULL &&
            sl_str_eq_nocase(name, ngx_sluice_str(&all[i]->host))) {
            return all[i];
        }
    }
    return NULL;
}

/* A server of weight n gets n turns; the others follow in order, for when it cannot be reached. */
static ngx_uint_t first_server(const ngx_http_upstream_server_t *servers, ngx_uint_t n) {
    static ngx_uint_t turn;
    ngx_uint_t total = 0, at;

    for (ngx_uint_t i = 0; i < n; i++) {
        total += servers[i].down || servers[i].backup ? 0 : servers[i].weight;
    }
    if (total == 0) {
        return 0;
    }
    at = turn++ % total;
    for (ngx_uint_t i = 0; i < n; i++) {
        ngx_uint_t weight = servers[i].down || servers[i].backup ? 0 : servers[i].weight;
        if (at < weight) {
            return i;
        }
        at -= weight;
    }
    return 0;
}

static sl_status_t add_servers(ngx_http_sluice_call_t *call, const ngx_http_upstream_srv_conf_t *us, ngx_uint_t backup) {
    const ngx_http_upstream_server_t *servers = us->servers->elts;
    ngx_uint_t n = us->servers->nelts, first = first_server(servers, n);

    for (ngx_uint_t i = 0; i < n; i++) {
        const ngx_http_upstream_server_t *server = &servers[(first + i) % n];
        if (server->down || server->backup != backup) {
            continue;
        }
        for (ngx_uint_t j = 0; j < server->naddrs; j++) {
            if (add_peer(call, server->addrs[j].sockaddr, server->addrs[j].socklen, &server->addrs[j].name) != SL_OK) {
                return SL_NO_MEMORY;
            }
        }
    }
    return SL_OK;
}

/* ---- host[:port] ------------------------------------------------------------------------------------------------------------------ */

static void resolved(ngx_resolver_ctx_t *ctx) {
    ngx_http_sluice_call_t *call = ctx->data;
    sl_status_t rc = SL_OK;

    if (ctx->state) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_RESOLVER, ngx_resolver_strerror(ctx->state));
    } else {
        for (ngx_uint_t i = 0; i < ctx->naddrs && rc == SL_OK; i++) {
            ngx_inet_set_port(ctx->addrs[i].sockaddr, call->port);
            rc = add_peer(call, ctx->addrs[i].sockaddr, ctx->addrs[i].socklen, NULL);
        }
    }
    call->resolving = NULL;
    ngx_resolve_name_done(ctx);
    if (call->failed) {
        return;
    }
    if (rc != SL_OK) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_RESOLVER, "out of memory");
        return;
    }
    ngx_http_sluice_call_connect(call);
}

static sl_status_t ask_resolver(ngx_http_sluice_call_t *call, ngx_resolver_t *resolver, ngx_msec_t timeout) {
    ngx_resolver_ctx_t *ctx, temp = {.name = call->host};

    if (resolver == NULL) {
        return SL_NOT_FOUND;
    }
    ctx = ngx_resolve_start(resolver, &temp);
    if (ctx == NULL) {
        return SL_NO_MEMORY;
    }
    if (ctx == NGX_NO_RESOLVER) {
        return SL_NOT_FOUND;
    }
    ctx->name = call->host;
    ctx->handler = resolved;
    ctx->data = call;
    ctx->timeout = timeout;
    call->resolving = ctx;
    if (ngx_resolve_name(ctx) != NGX_OK) {
        call->resolving = NULL; /* it has been freed */
        return SL_FAILED;
    }
    return SL_OK;
}

static sl_status_t find_host(ngx_http_sluice_call_t *call, sl_str_t name, ngx_resolver_t *resolver, ngx_msec_t timeout) {
    ngx_url_t u = {0};

    if (ngx_http_sluice_copy(call->pool, name, &u.url) != SL_OK) {
        return SL_NO_MEMORY;
    }
    u.default_port = call->tls ? 443 : 80;
    u.no_resolve = 1;
    if (ngx_parse_url(call->pool, &u) != NGX_OK || u.host.len == 0) {
        return SL_INVALID;
    }
    call->host = u.host;
    call->port = u.port;
    if (u.naddrs == 0) {
        return ask_resolver(call, resolver, timeout);
    }
    for (ngx_uint_t i = 0; i < u.naddrs; i++) {
        if (add_peer(call, u.addrs[i].sockaddr, u.addrs[i].socklen, &u.addrs[i].name) != SL_OK) {
            return SL_NO_MEMORY;
        }
    }
    ngx_http_sluice_call_connect(call);
    return SL_OK;
}

/* ------------------------------------------------------------------------------------------------------------------------------------- */

sl_status_t ngx_http_sluice_call_find(ngx_http_sluice_call_t *call, sl_str_t upstream, ngx_resolver_t *resolver,
                                      ngx_msec_t resolver_timeout) {
    ngx_http_upstream_srv_conf_t *us;
    sl_str_t host = upstream;
    bool tls = call->tls;

    if (ngx_http_sluice_call_name != NULL && ngx_http_sluice_call_name(call->pool, upstream, &host, &tls) == NGX_OK) {
        call->tls = tls;
        return find_host(call, host, resolver, resolver_timeout);
    }
    us = find_upstream(upstream);
    if (us == NULL) {
        return find_host(call, upstream, resolver, resolver_timeout);
    }
    call->host = us->host;
    if (add_servers(call, us, 0) != SL_OK || add_servers(call, us, 1) != SL_OK) {
        return SL_NO_MEMORY;
    }
    ngx_http_sluice_call_connect(call);
    return SL_OK;
}
