/* Names that filters want resolved, by nginx's resolver. */
#include "ngx_http_sluice_call.h"

#define ADDRESSES_MAX 64

typedef struct {
    pw_root_t *root;
    uint32_t token;
    ngx_resolver_ctx_t *resolving; /* NULL: it has answered */
    ngx_event_t done;
    pw_address_t addrs[ADDRESSES_MAX];
    size_t n;
    u_char name[256];
} lookup_t;

/* The answer is told from here only: the resolver may have known it at once. */
static void done_handler(ngx_event_t *event) {
    lookup_t *l = event->data;

    pw_resolve_done(l->root, l->token, l->addrs, l->n);
    ngx_free(l);
}

static uint32_t seconds_left(time_t valid) {
    time_t now = ngx_time();

    return valid <= now ? 0 : valid - now > INT32_MAX ? INT32_MAX : (uint32_t)(valid - now);
}

static ngx_uint_t take_address(const struct sockaddr *sa, pw_address_t *to) {
    switch (sa->sa_family) {
    case AF_INET:
        to->len = 4;
        ngx_memcpy(to->bytes, &((const struct sockaddr_in *)sa)->sin_addr, 4);
        return 1;
#if (NGX_HAVE_INET6)
    case AF_INET6:
        to->len = 16;
        ngx_memcpy(to->bytes, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
        return 1;
#endif
    default:
        return 0;
    }
}

static void resolved(ngx_resolver_ctx_t *ctx) {
    lookup_t *l = ctx->data;

    if (ctx->state) {
        ngx_log_error(NGX_LOG_INFO, (ngx_log_t *)ngx_cycle->log, 0, "[proxy-wasm] \"%s\" could not be resolved: %s", l->name,
                      ngx_resolver_strerror(ctx->state));
    }
    for (ngx_uint_t i = 0; !ctx->state && i < ctx->naddrs && l->n < ADDRESSES_MAX; i++) {
        l->addrs[l->n].ttl_s = seconds_left(ctx->valid);
        l->n += take_address(ctx->addrs[i].sockaddr, &l->addrs[l->n]);
    }
    l->resolving = NULL;
    ngx_resolve_name_done(ctx);
    ngx_post_event(&l->done, &ngx_posted_events);
}

static lookup_t *lookup_new(const pw_resolve_t *request) {
    lookup_t *l = request->name.len < sizeof(l->name) ? ngx_calloc(sizeof(lookup_t), ngx_cycle->log) : NULL;

    if (l == NULL) {
        return NULL;
    }
    l->root = request->root;
    l->token = request->token;
    l->done.handler = done_handler;
    l->done.data = l;
    l->done.log = (ngx_log_t *)ngx_cycle->log;
    ngx_memcpy(l->name, request->name.data, request->name.len);
    return l;
}

static sl_status_t ask(lookup_t *l, ngx_resolver_t *resolver, ngx_msec_t timeout) {
    ngx_resolver_ctx_t *ctx, temp = {.name = {ngx_strlen(l->name), l->name}};

    ctx = resolver != NULL ? ngx_resolve_start(resolver, &temp) : NGX_NO_RESOLVER;
    if (ctx == NGX_NO_RESOLVER) {
        return SL_NOT_FOUND;
    }
    if (ctx == NULL) {
        return SL_NO_MEMORY;
    }
    ctx->name = temp.name;
    ctx->handler = resolved;
    ctx->data = l;
    ctx->timeout = timeout;
    l->resolving = ctx;
    return ngx_resolve_name(ctx) == NGX_OK ? SL_OK : SL_FAILED; /* when it fails, it has been freed */
}

sl_status_t ngx_http_sluice_resolve(void *worker, void *stream, const pw_resolve_t *request, void **handle) {
    ngx_msec_t timeout;
    ngx_resolver_t *resolver = ngx_http_sluice_resolver(worker, stream, &timeout);
    lookup_t *l = lookup_new(request);
    sl_status_t rc = l != NULL ? ask(l, resolver, timeout) : SL_NO_MEMORY;

    if (rc != SL_OK) {
        ngx_free(l);
        return rc;
    }
    *handle = l;
    return SL_OK;
}

void ngx_http_sluice_resolve_cancel(void *worker, void *handle) {
    lookup_t *l = handle;

    if (l->resolving != NULL) {
        ngx_resolve_name_done(l->resolving);
    }
    if (l->done.posted) {
        ngx_delete_posted_event(&l->done);
    }
    ngx_free(l);
}
