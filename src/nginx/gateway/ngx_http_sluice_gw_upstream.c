/* Names to addresses, and the balancer that hands them to nginx's upstream. */
#include "ngx_http_sluice_gw.h"

#include <ngx_md5.h>

#include "ngx_http_sluice.h"
#include "ngx_http_sluice_gw_lazy.h"

#define MAX_ADDRS 64

typedef struct {
    ngx_str_t name; /* lower case */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
#if (NGX_HAVE_INET6)
        struct sockaddr_in6 v6;
#endif
    } addr;
    socklen_t socklen;
} host_t;

/* ---- the hosts file ------------------------------------------------------------------------------------------------------ */

static char *add_host(ngx_conf_t *cf, ngx_http_sluice_gw_main_conf_t *mcf, const char *address, const char *name) {
    host_t h;
    ngx_memzero(&h, sizeof(h));
    if (inet_pton(AF_INET, address, &h.addr.v4.sin_addr) == 1) {
        h.addr.v4.sin_family = AF_INET;
        h.socklen = sizeof(h.addr.v4);
#if (NGX_HAVE_INET6)
    } else if (inet_pton(AF_INET6, address, &h.addr.v6.sin6_addr) == 1) {
        h.addr.v6.sin6_family = AF_INET6;
        h.socklen = sizeof(h.addr.v6);
#endif
    } else {
        return NGX_CONF_OK;
    }
    host_t *slot = ngx_array_push(&mcf->hosts);
    h.name.len = ngx_strlen(name);
    h.name.data = ngx_pnalloc(cf->pool, h.name.len);
    if (slot == NULL || h.name.data == NULL) {
        return NGX_CONF_ERROR;
    }
    ngx_strlow(h.name.data, (u_char *)(uintptr_t)name, h.name.len);
    *slot = h;
    return NGX_CONF_OK;
}

/* Names of this machine never go to a name server (RFC 6761, 6.3), and small containers have no hosts file. */
static char *add_localhost(ngx_conf_t *cf, ngx_http_sluice_gw_main_conf_t *mcf) {
    const host_t *h = mcf->hosts.elts;
    for (ngx_uint_t i = 0; i < mcf->hosts.nelts; i++) {
        if (h[i].name.len == 9 && ngx_strncmp(h[i].name.data, "localhost", 9) == 0) {
            return NGX_CONF_OK;
        }
    }
    return add_host(cf, mcf, "127.0.0.1", "localhost");
}

char *ngx_http_sluice_gw_read_hosts(ngx_conf_t *cf, ngx_http_sluice_gw_main_conf_t *mcf, const char *path) {
    if (ngx_array_init(&mcf->hosts, cf->pool, 8, sizeof(host_t)) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return add_localhost(cf, mcf);
    }
    char line[1024];
    char *rc = NGX_CONF_OK;
    while (rc == NGX_CONF_OK && fgets(line, sizeof(line), f) != NULL) {
        line[strcspn(line, "#\r\n")] = '\0';
        char *save = NULL;
        char *address = strtok_r(line, " \t", &save);
        for (char *name = address != NULL ? strtok_r(NULL, " \t", &save) : NULL; name != NULL && rc == NGX_CONF_OK;
             name = strtok_r(NULL, " \t", &save)) {
            rc = add_host(cf, mcf, address, name);
        }
    }
    fclose(f);
    return rc == NGX_CONF_OK ? add_localhost(cf, mcf) : rc;
}

/* ---- resolving ------------------------------------------------------------------------------------------------------------- */

ngx_int_t ngx_http_sluice_gw_add_addr(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, const struct sockaddr *sa, socklen_t len,
                                      in_port_t port) {
    if (ctx->n_addrs == MAX_ADDRS) {
        return NGX_OK;
    }
    ngx_http_sluice_gw_addr_t *a = &ctx->addrs[ctx->n_addrs];
    a->sockaddr = ngx_pcalloc(r->pool, sizeof(ngx_sockaddr_t));
    a->name.data = ngx_pnalloc(r->pool, NGX_SOCKADDR_STRLEN);
    if (a->sockaddr == NULL || a->name.data == NULL) {
        return NGX_ERROR;
    }
    ngx_memcpy(a->sockaddr, sa, len);
    a->socklen = len;
    ngx_inet_set_port(a->sockaddr, port);
    a->name.len = ngx_sock_ntop(a->sockaddr, len, a->name.data, NGX_SOCKADDR_STRLEN, 1);
    ctx->n_addrs++;
    return NGX_OK;
}

static void resolved(ngx_resolver_ctx_t *rctx) {
    ngx_http_request_t *r = rctx->data;
    ngx_connection_t *c = r->connection;
    ngx_http_sluice_gw_ctx_t *ctx = ngx_http_sluice_gw_ctx(r);
    unsigned async = rctx->async; /* 0: the answer was cached, and we are still inside ask_resolver() */
    ngx_http_set_log_request(c->log, r);
    if (rctx->state != 0) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0, "[sluice] %V could not be resolved (%i: %s)", &rctx->name, rctx->state,
                      ngx_resolver_strerror(rctx->state));
    }
    for (ngx_uint_t i = 0; rctx->state == 0 && i < rctx->naddrs; i++) {
        if (ngx_http_sluice_gw_add_addr(r, ctx, rctx->addrs[i].sockaddr, rctx->addrs[i].socklen, (in_port_t)ctx->service.port) != NGX_OK) {
            break;
        }
    }
    ctx->resolved = ctx->n_addrs != 0;
    ctx->failed = !ctx->resolved;
    ctx->name_state = rctx->state;
    ctx->resolving = NULL;
    ngx_resolve_name_done(rctx);
    if (async) {
        r->read_event_handler = ngx_http_block_reading;
        r->write_event_handler = ngx_http_core_run_phases;
        ngx_http_core_run_phases(r);
        ngx_http_run_posted_requests(c);
    }
}

static ngx_int_t ask_resolver(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, ngx_str_t given) {
    ngx_http_core_loc_conf_t *clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    /* The resolver writes into the name; ours is in the plan, which is read-only. */
    ngx_str_t host = {given.len, ngx_pnalloc(r->pool, given.len)};
    if (host.data == NULL) {
        return NGX_ERROR;
    }
    ngx_strlow(host.data, given.data, given.len);
    ngx_resolver_ctx_t temp = {.name = host};
    ngx_resolver_ctx_t *rctx = ngx_resolve_start(clcf->resolver, &temp);
    if (rctx == NULL) {
        return NGX_ERROR;
    }
    if (rctx == NGX_NO_RESOLVER) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "[sluice] no name server to resolve %V; set SLUICE_DNS_RESOLVER", &host);
        return NGX_DECLINED;
    }
    rctx->name = host;
    rctx->handler = resolved;
    rctx->data = r;
    rctx->timeout = clcf->resolver_timeout;
    ctx->resolving = rctx;
    if (ngx_resolve_name(rctx) != NGX_OK) {
        ctx->resolving = NULL;
        return NGX_DECLINED;
    }
    if (ctx->resolved || ctx->failed) {
        return ctx->resolved ? NGX_OK : NGX_DECLINED;
    }
    /* Only the name's address takes the request on. */
    return ngx_http_sluice_suspend(r) == NGX_OK ? NGX_AGAIN : NGX_ERROR;
}

ngx_uint_t ngx_http_sluice_gw_fixed_addrs(ngx_pool_t *pool, ngx_http_sluice_gw_main_conf_t *mcf, ngx_str_t host,
                                          ngx_http_sluice_gw_sockaddr_t *out, ngx_uint_t max) {
    ngx_addr_t literal;
    if (host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']') {
        host.data++;
        host.len -= 2;
    }
    if (ngx_parse_addr(pool, &literal, host.data, host.len) == NGX_OK) {
        out[0] = (ngx_http_sluice_gw_sockaddr_t){literal.sockaddr, literal.socklen};
        return 1;
    }
    host_t *h = mcf->hosts.elts;
    ngx_uint_t n = 0;
    for (ngx_uint_t i = 0; i < mcf->hosts.nelts && n < max; i++) {
        if (h[i].name.len == host.len && ngx_strncasecmp(h[i].name.data, host.data, host.len) == 0) {
            out[n++] = (ngx_http_sluice_gw_sockaddr_t){&h[i].addr.any, h[i].socklen};
        }
    }
    return n;
}

static ngx_int_t resolve_target(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    ngx_int_t rc = ngx_http_sluice_gw_pool_pick(r, ctx);
    ctx->resolved = rc == NGX_OK;
    if (rc == NGX_AGAIN) {
        ngx_http_sluice_gw_pool_wait(ctx);
        return ngx_http_sluice_suspend(r) == NGX_OK ? NGX_AGAIN : NGX_ERROR;
    }
    return rc;
}

/* ctx->pool: of what a filter has chosen, else of the service. */
static ngx_int_t find_pool(ngx_http_sluice_gw_main_conf_t *mcf, ngx_http_sluice_gw_ctx_t *ctx) {
    ctx->pool = NULL;
    ngx_http_sluice_gw_pool_unref(ctx->named);
    ctx->named = NULL;
    if (ctx->chosen.host.data == NULL) {
        return ngx_http_sluice_gw_pool_of(mcf, ctx->gen, ctx->route.service, &ctx->service, &ctx->pool);
    }
    ngx_int_t rc = ctx->chosen.balance ? ngx_http_sluice_gw_pool_named(mcf, ctx->gen, ctx->chosen.host, &ctx->named) : NGX_OK;
    ctx->pool = ctx->named;
    return rc;
}

ngx_int_t ngx_http_sluice_gw_resolve(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    ngx_str_t host = {ctx->service.host.len, (u_char *)(uintptr_t)ctx->service.host.data};
    ctx->n_addrs = 0;
    ctx->next_addr = 0;
    ctx->addrs = ngx_palloc(r->pool, MAX_ADDRS * sizeof(*ctx->addrs));
    if (ctx->addrs == NULL || find_pool(mcf, ctx) != NGX_OK) {
        return NGX_ERROR;
    }
    if (ctx->pool != NULL) {
        return resolve_target(r, ctx);
    }
    ngx_http_sluice_gw_sockaddr_t found[MAX_ADDRS];
    ngx_uint_t n = ngx_http_sluice_gw_fixed_addrs(r->pool, mcf, host, found, MAX_ADDRS);
    for (ngx_uint_t i = 0; i < n; i++) {
        if (ngx_http_sluice_gw_add_addr(r, ctx, found[i].sockaddr, found[i].socklen, (in_port_t)ctx->service.port) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    ctx->resolved = n != 0;
    return n != 0 ? NGX_OK : ask_resolver(r, ctx, host);
}

ngx_int_t ngx_http_sluice_gw_hosts_find(sl_str_t name, ngx_str_t *address) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_sluice_gateway_module);
    host_t *h = mcf->hosts.elts;
    for (ngx_uint_t i = 0; i < mcf->hosts.nelts; i++) {
        if (h[i].name.len != name.len || ngx_strncasecmp(h[i].name.data, (u_char *)name.data, name.len) != 0) {
            continue;
        }
        unsigned six = h[i].addr.any.sa_family != AF_INET;
        size_t n = ngx_sock_ntop(&h[i].addr.any, h[i].socklen, address->data + six, address->len - 2 * six, 0);
        if (six) {
            address->data[0] = '[';
            address->data[n + 1] = ']';
        }
        address->len = n + 2 * six;
        return NGX_OK;
    }
    return NGX_DECLINED;
}

/* ---- balancer ------------------------------------------------------------------------------------------------------------------ */

/*
 * The cache of idle connections knows an address only, but a TLS connection is made for a name, with a certificate, and one of HTTP/2 is of
 * no use for HTTP/1.1. So the bytes after the address, which the kernel does not look at, tell them apart.
 */
#define NAME_KEY_BYTES 16

static void take_name_key(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    unsigned tls = (ctx->service.protocol & (GW_HTTPS | GW_GRPCS)) != 0;
    ngx_str_t sni = ngx_null_string;
    ngx_md5_t md5;
    ctx->name_key_len = 0;
    if ((!tls && !ctx->grpc) || (tls && ngx_http_sluice_gw_variable(r, "sluice_upstream_sni", &sni) != NGX_OK)) {
        return;
    }
    ngx_md5_init(&md5);
    ngx_md5_update(&md5, ctx->grpc ? "2" : "1", 1);
    if (ctx->tls != NULL) {
        ngx_md5_update(&md5, ((ngx_http_sluice_gw_tls_t *)ctx->tls)->key, sizeof(((ngx_http_sluice_gw_tls_t *)ctx->tls)->key));
    }
    ngx_md5_update(&md5, sni.data, sni.len);
    ngx_md5_final(ctx->name_key, &md5);
    ctx->name_key_len = NAME_KEY_BYTES;
}

static socklen_t with_name_key(const ngx_http_sluice_gw_ctx_t *ctx, ngx_http_sluice_gw_addr_t *a) {
    if (a->socklen + ctx->name_key_len > sizeof(ngx_sockaddr_t)) {
        return a->socklen;
    }
    ngx_memcpy((u_char *)a->sockaddr + a->socklen, ctx->name_key, ctx->name_key_len);
    return a->socklen + (socklen_t)ctx->name_key_len;
}

/* The next target may have another name, and so the request another Host. */
static ngx_int_t next_target(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    ngx_str_t host = ctx->target_host;
    in_port_t port = ctx->target_port;
    if (ctx->n_addrs == MAX_ADDRS) {
        return NGX_OK;
    }
    if (ngx_http_sluice_gw_pool_pick(r, ctx) != NGX_OK) {
        return NGX_DECLINED;
    }
    unsigned same =
        port == ctx->target_port && host.len == ctx->target_host.len && ngx_memcmp(host.data, ctx->target_host.data, host.len) == 0;
    if (same || ctx->route.preserve_host || ngx_http_sluice_gw_pool_host_header(ctx->pool).len != 0) {
        return NGX_OK;
    }
    take_name_key(r, ctx);
    r->upstream->request_bufs = r->request_body != NULL ? r->request_body->bufs : NULL;
    return r->upstream->create_request(r);
}

static ngx_int_t get_peer(ngx_peer_connection_t *pc, void *data) {
    ngx_http_sluice_gw_ctx_t *ctx = data;
    if (ctx->pool != NULL && ctx->next_addr == ctx->n_addrs) {
        ngx_int_t rc = next_target(ctx->request, ctx);
        if (rc != NGX_OK) {
            return rc == NGX_DECLINED ? NGX_BUSY : NGX_ERROR;
        }
    }
    if (ctx->n_addrs == 0) {
        return NGX_ERROR;
    }
    ngx_http_sluice_gw_addr_t *a = &ctx->addrs[ctx->next_addr++ % ctx->n_addrs];
    pc->sockaddr = a->sockaddr;
    pc->socklen = with_name_key(ctx, a);
    pc->name = &a->name;
    pc->cached = 0;
    pc->connection = NULL;
    return NGX_OK;
}

static void free_peer(ngx_peer_connection_t *pc, void *data, ngx_uint_t state) {
    (void)data;
    (void)state;
    if (pc->tries > 0) {
        pc->tries--;
    }
}

/* The service's numbers over those of the location, in a copy for this request. */
static ngx_int_t use_service(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    const gw_service_t *s = &ctx->service;
    ngx_http_upstream_t *u = r->upstream;
    ngx_http_sluice_gw_tls_t *tls = ctx->tls;
    ngx_http_upstream_conf_t *conf = ngx_palloc(r->pool, sizeof(*conf));
    if (conf == NULL) {
        return NGX_ERROR;
    }
    *conf = *u->conf;
    conf->connect_timeout = s->connect_timeout_ms;
    conf->send_timeout = s->write_timeout_ms;
    conf->read_timeout = s->read_timeout_ms;
    conf->next_upstream_tries = s->retries + 1;
    if (tls != NULL && tls->own) {
        conf->ssl = &tls->ssl;
    }
    if (tls != NULL && tls->verify_given) {
        conf->ssl_verify = tls->verify;
    }
    u->conf = conf;
    u->buffering = !ctx->grpc && ctx->route.response_buffering;
    return NGX_OK;
}

/*
 * nginx takes what does not begin as an answer of HTTP/1 for one of HTTP/0.9, whose head is empty, and sends it on as it is. Here it is
 * what it most likely is: garbage.
 */
static ngx_int_t process_header(ngx_http_request_t *r) {
    ngx_http_sluice_gw_ctx_t *ctx = ngx_http_sluice_gw_ctx(r);
    ngx_uint_t version = r->http_version;
    ngx_int_t rc = ctx->process_header(r);
    if (rc == NGX_OK && version != NGX_HTTP_VERSION_9 && r->http_version == NGX_HTTP_VERSION_9) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "[sluice] what the upstream sent is no HTTP response");
        r->http_version = version;
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }
    return rc;
}

static void watch_header(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    ctx->process_header = r->upstream->process_header;
    r->upstream->process_header = process_header;
}

static ngx_int_t reinit_request(ngx_http_request_t *r) {
    ngx_http_sluice_gw_ctx_t *ctx = ngx_http_sluice_gw_ctx(r);
    ngx_int_t rc = ctx->reinit_request(r);
    watch_header(r, ctx);
    return rc;
}

static ngx_int_t init_peer(ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *us) {
    (void)us;
    ngx_http_sluice_gw_ctx_t *ctx = ngx_http_sluice_gw_ctx(r);
    if (ctx == NULL || !ctx->matched || ctx->n_addrs == 0 || use_service(r, ctx) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "[sluice] the gateway's upstream can only be used by the gateway's location");
        return NGX_ERROR;
    }
    take_name_key(r, ctx);
    if (!ctx->grpc && r->upstream->process_header != process_header) {
        ctx->reinit_request = r->upstream->reinit_request;
        r->upstream->reinit_request = reinit_request;
        watch_header(r, ctx);
    }
    ctx->proxied = 1;
    ctx->upstream_started = ngx_current_msec;
    r->upstream->peer.data = ctx;
    r->upstream->peer.get = get_peer;
    r->upstream->peer.free = free_peer;
    r->upstream->peer.tries = ctx->service.retries + 1;
    return NGX_OK;
}

static ngx_int_t init_upstream(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *us) {
    (void)cf;
    us->peer.init = init_peer;
    return NGX_OK;
}

char *ngx_http_sluice_gw_balancer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    (void)cmd;
    (void)conf;
    ngx_http_upstream_srv_conf_t *us = ngx_http_conf_get_module_srv_conf(cf, ngx_http_upstream_module);
    us->peer.init_upstream = init_upstream;
    us->flags = NGX_HTTP_UPSTREAM_CREATE;
    return NGX_CONF_OK;
}
