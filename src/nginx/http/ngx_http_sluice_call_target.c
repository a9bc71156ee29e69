/*
 * Where a call goes: a name that another module knows (the gateway's upstreams and services), the name of an upstream{} block, an address,
 * or a host that nginx's resolver finds.
 */
#include "ngx_http_sluice_dial.h"

ngx_http_sluice_call_name_pt ngx_http_sluice_call_name;

static sl_status_t add_peer(ngx_http_sluice_target_t *to, const struct sockaddr *sa, socklen_t len, const ngx_str_t *name) {
    ngx_http_sluice_peer_t *peer = ngx_array_push(&to->peers);
    u_char text[NGX_SOCKADDR_STRLEN];

    if (peer == NULL) {
        return SL_NO_MEMORY;
    }
    peer->sockaddr = ngx_palloc(to->pool, len);
    if (peer->sockaddr == NULL) {
        return SL_NO_MEMORY;
    }
    ngx_memcpy(peer->sockaddr, sa, len);
    peer->socklen = len;
    if (name != NULL) {
        return ngx_http_sluice_copy(to->pool, ngx_sluice_str(name), &peer->name);
    }
    return ngx_http_sluice_copy(to->pool, sl_str(text, ngx_sock_ntop(peer->sockaddr, len, text, sizeof(text), 1)), &peer->name);
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

static sl_status_t add_servers(ngx_http_sluice_target_t *to, const ngx_http_upstream_srv_conf_t *us, ngx_uint_t backup) {
    const ngx_http_upstream_server_t *servers = us->servers->elts;
    ngx_uint_t n = us->servers->nelts, first = first_server(servers, n);

    for (ngx_uint_t i = 0; i < n; i++) {
        const ngx_http_upstream_server_t *server = &servers[(first + i) % n];
        if (server->down || server->backup != backup) {
            continue;
        }
        for (ngx_uint_t j = 0; j < server->naddrs; j++) {
            if (add_peer(to, server->addrs[j].sockaddr, server->addrs[j].socklen, &server->addrs[j].name) != SL_OK) {
                return SL_NO_MEMORY;
            }
        }
    }
    return SL_OK;
}

/* ---- host[:port] ------------------------------------------------------------------------------------------------------------------ */

static sl_status_t add_address(ngx_http_sluice_target_t *to, sl_str_t host, in_port_t default_port, ngx_url_t *u) {
    ngx_memzero(u, sizeof(ngx_url_t));
    if (ngx_http_sluice_copy(to->pool, host, &u->url) != SL_OK) {
        return SL_NO_MEMORY;
    }
    u->default_port = default_port;
    u->no_resolve = 1;
    if (ngx_parse_url(to->pool, u) != NGX_OK || u->host.len == 0) {
        return SL_INVALID;
    }
    for (ngx_uint_t i = 0; i < u->naddrs; i++) {
        if (add_peer(to, u->addrs[i].sockaddr, u->addrs[i].socklen, &u->addrs[i].name) != SL_OK) {
            return SL_NO_MEMORY;
        }
    }
    return u->naddrs == 0 ? SL_AGAIN : SL_OK;
}

static sl_status_t add_others(ngx_http_sluice_target_t *to) {
    const ngx_http_sluice_place_t *places = to->others.elts;
    sl_status_t rc = SL_OK;
    ngx_url_t u;

    for (ngx_uint_t i = 0; i < to->others.nelts && rc != SL_NO_MEMORY; i++) {
        rc = add_address(to, places[i].host, to->default_port, &u);
    }
    return rc == SL_NO_MEMORY ? rc : SL_OK;
}

static void resolved(ngx_resolver_ctx_t *ctx) {
    ngx_http_sluice_target_t *to = ctx->data;
    const char *why = ctx->state ? ngx_resolver_strerror(ctx->state) : NULL;

    for (ngx_uint_t i = 0; i < ctx->naddrs && why == NULL; i++) {
        ngx_inet_set_port(ctx->addrs[i].sockaddr, to->port);
        why = add_peer(to, ctx->addrs[i].sockaddr, ctx->addrs[i].socklen, NULL) == SL_OK ? NULL : "out of memory";
    }
    to->resolving = NULL;
    ngx_resolve_name_done(ctx);
    if (add_others(to) == SL_OK && to->peers.nelts != 0) {
        why = NULL;
    }
    to->found(to, why);
}

sl_status_t ngx_http_sluice_target_resolve(ngx_http_sluice_target_t *to, ngx_resolver_t *resolver, ngx_msec_t timeout) {
    ngx_resolver_ctx_t *ctx, temp = {.name = to->host};

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
    ctx->name = to->host;
    ctx->handler = resolved;
    ctx->data = to;
    ctx->timeout = timeout;
    to->resolving = ctx;
    if (ngx_resolve_name(ctx) != NGX_OK) {
        to->resolving = NULL; /* it has been freed */
        return SL_FAILED;
    }
    return SL_OK;
}

void ngx_http_sluice_target_cancel(ngx_http_sluice_target_t *to) {
    if (to->resolving != NULL) {
        ngx_resolve_name_done(to->resolving);
        to->resolving = NULL;
    }
}

static sl_status_t find_host(ngx_http_sluice_target_t *to, sl_str_t name, in_port_t default_port) {
    ngx_url_t u;
    sl_status_t rc = add_address(to, name, default_port, &u);

    if (rc == SL_OK || rc == SL_AGAIN) {
        to->host = u.host;
        to->port = u.port;
        to->alike = 1;
    }
    return rc;
}

/* A place of weight n gets n turns; the others follow, for when it cannot be reached. */
static sl_status_t find_places(ngx_http_sluice_target_t *to, ngx_array_t *places, in_port_t default_port) {
    static ngx_uint_t turn;
    ngx_http_sluice_place_t *place = places->elts, *other;
    ngx_uint_t total = 0, first = 0, at;
    sl_status_t rc;

    for (ngx_uint_t i = 0; i < places->nelts; i++) {
        total += place[i].weight;
    }
    if (total == 0) {
        return SL_OK; /* known, but nowhere */
    }
    for (at = turn++ % total; at >= place[first].weight; first++) {
        at -= place[first].weight;
    }
    for (ngx_uint_t i = 1; i < places->nelts; i++) {
        other = ngx_array_push(&to->others);
        if (other == NULL) {
            return SL_NO_MEMORY;
        }
        *other = place[(first + i) % places->nelts];
    }
    to->default_port = default_port;
    rc = find_host(to, place[first].host, default_port);
    to->alike = places->nelts == 1;
    return rc == SL_OK ? add_others(to) : rc;
}

/* ------------------------------------------------------------------------------------------------------------------------------------- */

ngx_int_t ngx_http_sluice_target_init(ngx_http_sluice_target_t *to, ngx_pool_t *pool) {
    to->pool = pool;
    if (ngx_array_init(&to->others, pool, 1, sizeof(ngx_http_sluice_place_t)) != NGX_OK) {
        return NGX_ERROR;
    }
    return ngx_array_init(&to->peers, pool, 2, sizeof(ngx_http_sluice_peer_t));
}

/* Of an upstream{}, or host[:port]. */
static sl_status_t find_name(ngx_http_sluice_target_t *to, sl_str_t name, in_port_t default_port) {
    ngx_http_upstream_srv_conf_t *us = find_upstream(name);

    if (us == NULL) {
        return find_host(to, name, default_port);
    }
    to->host = us->host;
    return add_servers(to, us, 0) == SL_OK && add_servers(to, us, 1) == SL_OK ? SL_OK : SL_NO_MEMORY;
}

sl_status_t ngx_http_sluice_target_find(ngx_http_sluice_target_t *to, sl_str_t upstream, in_port_t default_port) {
    ngx_array_t places;
    bool tls = to->tls;
    ngx_int_t rc = NGX_DECLINED;

    if (ngx_http_sluice_call_name != NULL) {
        if (ngx_array_init(&places, to->pool, 4, sizeof(ngx_http_sluice_place_t)) != NGX_OK) {
            return SL_NO_MEMORY;
        }
        rc = ngx_http_sluice_call_name(to->pool, upstream, &places, &tls);
    }
    if (rc == NGX_ERROR) {
        return SL_NO_MEMORY;
    }
    to->tls = tls;
    default_port = default_port != 0 ? default_port : tls ? 443 : 80;
    if (rc == NGX_DECLINED) {
        return find_name(to, upstream, default_port);
    }
    if (to->host.len == 0 && ngx_http_sluice_copy(to->pool, upstream, &to->host) != SL_OK) {
        return SL_NO_MEMORY;
    }
    return find_places(to, &places, default_port);
}

sl_status_t ngx_http_sluice_server_name(ngx_pool_t *pool, sl_str_t authority, ngx_str_t *name) {
    const char *colon;
    struct in6_addr ip6;
    ngx_str_t host;

    ngx_str_null(name);
    if (authority.len == 0 || authority.data[0] == '[') {
        return SL_OK;
    }
    colon = memchr(authority.data, ':', authority.len);
    if (ngx_http_sluice_copy(pool, sl_str(authority.data, colon != NULL ? (size_t)(colon - authority.data) : authority.len), &host) !=
        SL_OK) {
        return SL_NO_MEMORY;
    }
    if (ngx_inet_addr(host.data, host.len) == INADDR_NONE && ngx_inet6_addr(host.data, host.len, ip6.s6_addr) != NGX_OK) {
        *name = host;
    }
    return SL_OK;
}

ngx_resolver_t *ngx_http_sluice_resolver(ngx_sluice_conf_t *scf, ngx_http_sluice_ctx_t *ctx, ngx_msec_t *timeout) {
    ngx_http_core_loc_conf_t *clcf = ctx != NULL ? ngx_http_get_module_loc_conf(ctx->request, ngx_http_core_module) : NULL;

    if (clcf != NULL && clcf->resolver != NULL && clcf->resolver->connections.nelts != 0) {
        *timeout = clcf->resolver_timeout;
        return clcf->resolver;
    }
    *timeout = scf->resolver_timeout;
    return scf->resolver;
}
