/*
 * Contexts of requests. nginx clears a request's module contexts at internal redirects, so each of ours also hangs on a cleanup
 * record of the pool, where it is found again.
 */
#include "ngx_http_sluice_int.h"

static void ctx_gone(void *data);
static void request_gone(void *data);

ngx_http_sluice_ctx_t *ngx_http_sluice_ctx_all(ngx_http_request_t *r) {
    for (ngx_pool_cleanup_t *cln = r->pool->cleanup; cln != NULL; cln = cln->next) {
        if (cln->handler == ctx_gone) {
            return cln->data;
        }
    }
    return NULL;
}

ngx_http_sluice_ctx_t *ngx_http_sluice_ctx_again(ngx_http_request_t *r) {
    for (ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx_all(r); ctx != NULL; ctx = ctx->next) {
        if (ctx->request == r && (ctx->attached || ctx->req_replying)) {
            ngx_http_set_ctx(r, ctx, ngx_http_sluice_module);
            return ctx;
        }
    }
    return NULL;
}

#define HOLD_MS 3600000

/* Debug builds of nginx print the descriptor of a timer's connection. */
static ngx_connection_t no_connection = {.fd = (ngx_socket_t)-1};

static void events_gone(ngx_http_sluice_ctx_t *ctx) {
    if (ctx->wake_event.posted) {
        ngx_delete_posted_event(&ctx->wake_event);
    }
    if (ctx->hold_timer.timer_set) {
        ngx_del_timer(&ctx->hold_timer);
    }
}

static void hold_handler(ngx_event_t *event) {
    ngx_add_timer(event, HOLD_MS);
}

/* nginx lets a worker that exits go when no timer is left, and a request that waits has none. */
void ngx_http_sluice_hold(ngx_http_sluice_ctx_t *ctx) {
    if (!ctx->hold_timer.timer_set && !ctx->ended) {
        ctx->hold_timer.log = ctx->request->connection->log;
        ngx_add_timer(&ctx->hold_timer, HOLD_MS);
    }
}

static void wake_handler(ngx_event_t *event);

/*
 * Contexts do not live in the request's pool: they would often cost it another block, which is more than all else that they cost. Those
 * that are not in use wait here, newest first; where each allocation is to be seen (NGX_DEBUG_PALLOC), only the newest does: nginx still
 * looks at its pool_end.
 */
#if (NGX_DEBUG_PALLOC)
static const ngx_int_t spare_max = 1;
#else
static const ngx_int_t spare_max = 256;
#endif

static ngx_http_sluice_ctx_t *spare;
static ngx_int_t n_spare;

/* What stays as it is from one request to the next. */
static ngx_http_sluice_ctx_t *ctx_create(ngx_log_t *log) {
    ngx_http_sluice_ctx_t *ctx = ngx_calloc(sizeof(ngx_http_sluice_ctx_t), log);

    if (ctx == NULL) {
        return NULL;
    }
    ctx->request_end.handler = request_gone;
    ctx->request_end.data = ctx;
    ctx->pool_end.handler = ctx_gone;
    ctx->pool_end.data = ctx;
    ctx->wake_event.handler = wake_handler;
    ctx->wake_event.data = ctx;
    ctx->hold_timer.handler = hold_handler;
    ctx->hold_timer.data = &no_connection;
    return ctx;
}

/* In pieces: a large one would become an instruction that is repeated for every word. */
static ngx_inline void ctx_zero(ngx_http_sluice_ctx_t *ctx) {
    ngx_memzero(ctx, 64);
    ngx_memzero((u_char *)ctx + 64, 64);
    ngx_memzero((u_char *)ctx + 128, offsetof(ngx_http_sluice_ctx_t, request) - 128);
}

static ngx_inline ngx_http_sluice_ctx_t *ctx_alloc(ngx_log_t *log) {
    ngx_http_sluice_ctx_t *ctx = spare;

    if (ctx == NULL) {
        return ctx_create(log);
    }
    spare = ctx->next;
    n_spare--;
    ctx_zero(ctx);
    return ctx;
}

static void ctx_free(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_sluice_ctx_t *older = spare;

    if (n_spare >= spare_max) {
        spare = older->next;
        n_spare--;
        ngx_free(older);
    }
    ctx->next = spare;
    spare = ctx;
    n_spare++;
}

void ngx_http_sluice_ctx_free_spare(void) {
    while (spare != NULL) {
        ngx_http_sluice_ctx_t *ctx = spare;
        spare = ctx->next;
        ngx_free(ctx);
    }
    n_spare = 0;
}

static void ctx_gone(void *data) {
    ngx_http_sluice_ctx_t *ctx = data;

    if (!ctx->ended) {
        request_gone(ctx);
    }
    if (ctx->stream.pw != NULL) {
        ngx_sluice_stream_close(&ctx->stream);
    }
    ctx_free(ctx);
}

/* The request ends, maybe at once: nothing may be resumed any more. Its log phase is still to come. */
static void request_gone(void *data) {
    ngx_http_sluice_ctx_t *ctx = data;

    ctx->ended = 1;
    events_gone(ctx);
}

/* One direction at a time: resuming may free the request, and then takes the event back. */
static void wake_handler(ngx_event_t *event) {
    ngx_http_sluice_ctx_t *ctx = event->data;
    ngx_http_request_t *r = ctx->request;
    ngx_connection_t *c = r->connection;

    ngx_http_set_log_request(c->log, r);
    if (ctx->quiet_read) {
        ctx->quiet_read = 0;
        ngx_http_sluice_request_quiet(ctx);
    }
    if (ctx->woken_request) {
        ctx->woken_request = 0;
        if (ctx->woken_response) {
            ngx_http_sluice_post(ctx);
        }
        ngx_http_sluice_request_resume(ctx);
    } else if (ctx->woken_response) {
        ctx->woken_response = 0;
        ngx_http_sluice_response_resume(ctx);
    }
    ngx_http_run_posted_requests(c);
}

void ngx_http_sluice_post(ngx_http_sluice_ctx_t *ctx) {
    if (!ctx->ended) {
        ctx->wake_event.log = ctx->request->connection->log;
        ngx_post_event(&ctx->wake_event, &ngx_posted_events);
    }
}

/* The records of both cleanups are part of the context, which outlives them: those of nginx cost allocations of their own. */
static void ctx_bind(ngx_http_sluice_ctx_t *ctx, ngx_http_request_t *r) {
    ctx->request = r;
    ctx->next = ngx_http_sluice_ctx_all(r);
    ctx->request_end.next = r->main->cleanup;
    r->main->cleanup = &ctx->request_end;
    ctx->pool_end.next = r->pool->cleanup;
    r->pool->cleanup = &ctx->pool_end;
}

static ngx_http_sluice_ctx_t *ctx_new(ngx_http_request_t *r, pw_chain_t *chain) {
    ngx_http_sluice_ctx_t *ctx = ctx_alloc(r->connection->log);

    if (ctx == NULL) {
        return NULL;
    }
    ctx_bind(ctx, r);
    ctx->scf = ngx_sluice_conf((ngx_cycle_t *)ngx_cycle);
    ctx->client_method = r->method;
    ctx->chain = chain;
    ctx->stream.pw = NULL;
    if (chain != NULL && ngx_sluice_stream_open(ctx->scf, &ctx->stream, chain, ctx) != NGX_OK) {
        return NULL;
    }
    ngx_http_set_ctx(r, ctx, ngx_http_sluice_module);
    return ctx;
}

ngx_int_t ngx_http_sluice_ctx_location(ngx_http_request_t *r, ngx_http_sluice_ctx_t **ctx) {
    ngx_http_sluice_loc_conf_t *slcf = ngx_http_get_module_loc_conf(r, ngx_http_sluice_module);

    if (slcf->chain == NULL || slcf->chain->chain == NULL) {
        *ctx = NULL;
        return NGX_OK;
    }
    *ctx = ctx_new(r, slcf->chain->chain);
    return *ctx != NULL ? NGX_OK : NGX_ERROR;
}

/* ---- for other modules ------------------------------------------------------------------------------------------------------ */

ngx_int_t ngx_http_sluice_attach(ngx_http_request_t *r, pw_chain_t *chain, const ngx_http_sluice_hooks_t *hooks, void *data) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx(r);

    if (ctx != NULL) {
        return NGX_DECLINED;
    }
    ctx = ctx_new(r, chain);
    if (ctx == NULL) {
        return NGX_ERROR;
    }
    ctx->attached = 1;
    ctx->hooks = hooks;
    ctx->data = data;
    return NGX_OK;
}

void *ngx_http_sluice_attached(ngx_http_request_t *r) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx(r);

    return ctx == NULL ? NULL : ctx->data;
}

const pw_stream_t *ngx_http_sluice_stream(ngx_http_request_t *r) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx(r);

    return ctx == NULL ? NULL : ctx->stream.pw;
}

ngx_uint_t ngx_http_sluice_replied(ngx_http_request_t *r) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx(r);

    return ctx != NULL && ctx->replied;
}

pw_worker_t *ngx_http_sluice_worker(void) {
    return ngx_sluice_worker(ngx_sluice_conf((ngx_cycle_t *)ngx_cycle));
}

sl_engine_t *ngx_http_sluice_engine(void) {
    return ngx_sluice_engine(ngx_sluice_conf((ngx_cycle_t *)ngx_cycle));
}
