/*
 * The second module of the shared object: a body filter at the head of the chain, above the ones that slice ranges and read files. While
 * a filter holds the response's headers and wants no body, everything waits here, because those filters work only after the
 * headers have gone through them.
 */
#include "ngx_http_sluice_int.h"

static ngx_int_t postconfiguration(ngx_conf_t *cf);

static ngx_http_module_t module_ctx = {NULL, postconfiguration, NULL, NULL, NULL, NULL, NULL, NULL};

ngx_module_t ngx_http_sluice_hold_module = {NGX_MODULE_V1, &module_ctx, NULL, NGX_HTTP_MODULE,      NULL, NULL, NULL, NULL,
                                            NULL,          NULL,        NULL, NGX_MODULE_V1_PADDING};

static ngx_http_output_body_filter_pt next_body_filter;

/*
 * epoll says once that a client has gone, and that may have been together with his request: then nobody says it again to a handler that is
 * set only now. So what has been said already is said again from the queue of events.
 */
static ngx_int_t watch_client(ngx_http_request_t *r) {
    ngx_event_t *rev = r->connection->read;

    if (rev->ready || rev->pending_eof || rev->eof) {
        ngx_post_event(rev, &ngx_posted_events);
        return NGX_OK;
    }
    return ngx_handle_read_event(rev, 0);
}

ngx_int_t ngx_http_sluice_suspend(ngx_http_request_t *r) {
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;
    return watch_client(r);
}

void ngx_http_sluice_block(ngx_http_request_t *r) {
    ngx_event_t *wev = r->connection->write;

    if (!(r->buffered & NGX_HTTP_SLUICE_BUFFERED)) {
        (void)watch_client(r); /* for the handler that nginx sets when it sees that the response waits */
    }
    r->buffered |= NGX_HTTP_SLUICE_BUFFERED;
    /* Keeps the event pipe from spinning and send_timeout from running: the client is not to blame. */
    wev->delayed = 1;
    if (wev->timer_set) {
        ngx_del_timer(wev);
    }
}

void ngx_http_sluice_unblock(ngx_http_request_t *r) {
    ngx_event_t *wev = r->connection->write;

    if (!(r->buffered & NGX_HTTP_SLUICE_BUFFERED)) {
        return;
    }
    r->buffered &= ~NGX_HTTP_SLUICE_BUFFERED;
    wev->delayed = 0;
    if (wev->timer_set) {
        ngx_del_timer(wev);
    }
}

ngx_int_t ngx_http_sluice_links_append(ngx_pool_t *pool, ngx_chain_t **list, ngx_chain_t *in) {
    while (*list != NULL) {
        list = &(*list)->next;
    }
    for (; in != NULL; in = in->next) {
        ngx_chain_t *cl = ngx_alloc_chain_link(pool);
        if (cl == NULL) {
            return NGX_ERROR;
        }
        cl->buf = in->buf;
        cl->next = NULL;
        *list = cl;
        list = &cl->next;
    }
    return NGX_OK;
}

void ngx_http_sluice_links_free(ngx_pool_t *pool, ngx_chain_t **list) {
    while (*list != NULL) {
        ngx_chain_t *cl = *list;
        *list = cl->next;
        ngx_free_chain(pool, cl);
    }
}

void ngx_http_sluice_consume(ngx_chain_t *in) {
    for (; in != NULL; in = in->next) {
        in->buf->pos = in->buf->last;
        in->buf->file_pos = in->buf->file_last;
    }
}

static __attribute__((noinline)) ngx_int_t hold_body(ngx_http_request_t *r, ngx_http_sluice_ctx_t *ctx, ngx_chain_t *in) {
    if (ngx_http_sluice_links_append(r->pool, &ctx->hold_queue, in) != NGX_OK) {
        return NGX_ERROR;
    }
    ngx_http_sluice_block(r);
    return NGX_AGAIN;
}

static ngx_int_t hold_body_filter(ngx_http_request_t *r, ngx_chain_t *in) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_sluice_module);

    if (ctx == NULL || ctx->resp != NGX_HTTP_SLUICE_RESP_HELD) {
        return next_body_filter(r, in);
    }
    return hold_body(r, ctx, in);
}

ngx_int_t ngx_http_sluice_hold_flush(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    ngx_chain_t *queue = ctx->hold_queue;
    ngx_int_t rc;

    if (queue == NULL) {
        return NGX_OK;
    }
    ctx->hold_queue = NULL;
    rc = next_body_filter(r, queue);
    ngx_http_sluice_links_free(r->pool, &queue);
    return rc;
}

static ngx_int_t postconfiguration(ngx_conf_t *cf) {
    next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = hold_body_filter;
    return NGX_OK;
}
