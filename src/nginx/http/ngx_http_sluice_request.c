/*
 * The request's way through the filters: headers from a phase handler, the body from nginx's filter chain for request bodies, where
 * it comes chunk by chunk whoever reads it. Where a filter holds the headers and wants the body, we read it, before the content handler
 * does; the phases go on when it has been read.
 */
#include "ngx_http_sluice_int.h"

#define BATCH 32 /* buffers given to the filters at once */

static ngx_http_request_body_filter_pt next_request_body_filter;

/* ---- the body's way out ------------------------------------------------------------------------------------------------------ */

/* A buffer of ours with room for len bytes; nginx gives it back when it has been sent or written. */
static ngx_chain_t *ready_buffer(ngx_http_sluice_ctx_t *ctx, size_t len) {
    ngx_http_request_t *r = ctx->request;
    ngx_chain_t *cl = ngx_chain_get_free_buf(r->pool, &ctx->req_free);
    u_char *start, *end;

    if (cl == NULL) {
        return NULL;
    }
    start = cl->buf->start;
    end = cl->buf->end;
    if ((size_t)(end - start) < len) {
        if (start != NULL) {
            ngx_pfree(r->pool, start);
        }
        start = ngx_palloc(r->pool, len);
        if (start == NULL) {
            return NULL;
        }
        end = start + len;
    }
    ngx_memzero(cl->buf, sizeof(ngx_buf_t));
    cl->buf->tag = (ngx_buf_tag_t)&ngx_http_sluice_module;
    cl->buf->start = cl->buf->pos = cl->buf->last = start;
    cl->buf->end = end;
    cl->buf->temporary = 1;
    cl->buf->flush = r->request_body_no_buffering;
    cl->next = NULL;
    return cl;
}

static void ready_append(ngx_http_sluice_ctx_t *ctx, ngx_chain_t *cl) {
    ngx_chain_t **last = &ctx->req_ready;

    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = cl;
}

static ngx_int_t ready_data(ngx_http_sluice_ctx_t *ctx, sl_str_t data) {
    ngx_chain_t *cl;

    if (data.len == 0) {
        return NGX_OK;
    }
    cl = ready_buffer(ctx, data.len);
    if (cl == NULL) {
        return NGX_ERROR;
    }
    cl->buf->last = ngx_cpymem(cl->buf->last, data.data, data.len);
    ctx->req_out_bytes += (off_t)data.len;
    ready_append(ctx, cl);
    return NGX_OK;
}

static ngx_int_t ready_last(ngx_http_sluice_ctx_t *ctx) {
    ngx_chain_t *cl;

    if (ctx->req_last_ready) {
        return NGX_OK;
    }
    ctx->req_last_ready = 1;
    for (cl = ctx->req_ready; cl != NULL; cl = cl->next) {
        if (cl->next == NULL && cl->buf->tag == (ngx_buf_tag_t)&ngx_http_sluice_module) {
            cl->buf->last_buf = 1;
            return NGX_OK;
        }
    }
    cl = ngx_alloc_chain_link(ctx->request->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }
    cl->next = NULL;
    cl->buf = ngx_calloc_buf(ctx->request->pool); /* an empty one must not be a temporary one */
    if (cl->buf == NULL) {
        return NGX_ERROR;
    }
    cl->buf->last_buf = 1;
    ready_append(ctx, cl);
    return NGX_OK;
}

/* ---- lengths ------------------------------------------------------------------------------------------------------------------- */

/* What the upstream is told. The header is for modules that pass it on as a variable (FastCGI). */
static ngx_int_t fix_length(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    u_char text[NGX_OFF_T_LEN];

    if (!ctx->req_changed || !ctx->req_last_ready || r->headers_in.content_length_n == ctx->req_out_bytes) {
        return NGX_OK;
    }
    r->headers_in.content_length_n = ctx->req_out_bytes;
    return ngx_http_sluice_in_edit(ctx, PW_MAP_REPLACE, SL_STR("Content-Length"),
                                   sl_str(text, (size_t)(ngx_sprintf(text, "%O", ctx->req_out_bytes) - text))) == SL_OK
               ? NGX_OK
               : NGX_ERROR;
}

/* ---- a body that a filter has made ------------------------------------------------------------------------------------------- */

/* The client's, if there is one, stays unread. */
static void made_unread(ngx_http_request_t *r) {
    if (r->headers_in.content_length_n <= 0 && !r->headers_in.chunked) {
        return;
    }
#if (NGX_HTTP_V2)
    if (r->stream != NULL) {
        r->stream->skip_data = 1;
        return;
    }
#endif
    r->keepalive = 0;
    r->lingering_close = 1;
}

/* As if nginx had read it. */
static ngx_int_t made_install(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    ngx_http_request_body_t *rb = ngx_pcalloc(r->pool, sizeof(ngx_http_request_body_t));
    u_char text[NGX_OFF_T_LEN];
    sl_str_t length = sl_str(text, (size_t)(ngx_sprintf(text, "%O", ctx->req_out_bytes) - text));

    if (rb == NULL) {
        return NGX_ERROR;
    }
    made_unread(r);
    rb->bufs = ctx->req_ready;
    ctx->req_ready = NULL;
    r->request_body = rb;
    if (ngx_http_sluice_in_edit(ctx, PW_MAP_REMOVE, SL_STR("Transfer-Encoding"), SL_STR("")) != SL_OK ||
        ngx_http_sluice_in_edit(ctx, PW_MAP_REPLACE, SL_STR("Content-Length"), length) != SL_OK) {
        return NGX_ERROR;
    }
    r->headers_in.chunked = 0;
    r->headers_in.content_length_n = ctx->req_out_bytes;
    return NGX_OK;
}

/* NGX_AGAIN: some of it is still with a filter. */
static ngx_int_t take_made(ngx_http_sluice_ctx_t *ctx, const pw_out_t *out) {
    ctx->req_eos = 1;
    if (ready_data(ctx, out->data) != NGX_OK || (out->eos && ready_last(ctx) != NGX_OK)) {
        return NGX_ERROR;
    }
    return out->eos ? made_install(ctx) : NGX_AGAIN;
}

static ngx_uint_t speaks_http11(ngx_http_request_t *r) {
    static const char version[] = " HTTP/1.1\r\n";
    ngx_str_t *uri = &r->upstream->uri;
    ngx_chain_t *bufs = r->upstream->request_bufs;

    return bufs != NULL && uri->len != 0 && uri->data > bufs->buf->start && uri->data + uri->len + sizeof(version) - 1 <= bufs->buf->last &&
           ngx_memcmp(uri->data + uri->len, version, sizeof(version) - 1) == 0;
}

/*
 * In front of the upstream's create_request: there the length is said. A body that streams through filters has a length that nobody knows
 * yet, so it goes chunked where the upstream speaks HTTP/1.1.
 */
static ngx_int_t create_request(ngx_http_request_t *r) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx(r);
    off_t length = r->headers_in.content_length_n;
    ngx_int_t rc;

    if (fix_length(ctx) != NGX_OK) {
        return NGX_ERROR;
    }
    rc = ctx->create_request(r);
    if (rc != NGX_OK || !r->reading_body || r->headers_in.chunked || length <= 0 || !speaks_http11(r)) {
        return rc;
    }
    r->headers_in.chunked = 1;
    r->headers_in.content_length_n = -1;
    r->upstream->request_bufs = r->request_body->bufs;
    rc = ctx->create_request(r);
    r->headers_in.chunked = 0;
    r->headers_in.content_length_n = length;
    return rc;
}

static void wrap_create_request(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_upstream_t *u = ctx->request->upstream;

    if (u != NULL && u->create_request != NULL && u->create_request != create_request) {
        ctx->create_request = u->create_request;
        u->create_request = create_request;
    }
}

/* ---- verdicts -------------------------------------------------------------------------------------------------------------------- */

static void released(ngx_http_sluice_ctx_t *ctx) {
    ctx->req = NGX_HTTP_SLUICE_REQ_RELEASED;
    if (ctx->hooks != NULL && ctx->hooks->request_released != NULL) {
        ctx->hooks->request_released(ctx->request, ctx->data);
    }
}

/* From a place where nginx wants a code: its error response begins, and the reply takes the place of it. */
static ngx_int_t reply_by_code(ngx_http_sluice_ctx_t *ctx) {
    ctx->req = NGX_HTTP_SLUICE_REQ_RELEASED;
    ctx->req_replying = 1;
    ctx->request->error_page = 1; /* no error_page redirect for this code */
    ngx_http_sluice_body_unread(ctx->request);
    return NGX_HTTP_SERVICE_UNAVAILABLE;
}

static ngx_int_t failure_code(ngx_http_sluice_ctx_t *ctx) {
    ngx_int_t code = (ngx_int_t)pw_stream_failure(ctx->stream.pw);

    ctx->failed = 1;
    ctx->req = NGX_HTTP_SLUICE_REQ_RELEASED;
    ngx_http_sluice_body_unread(ctx->request);
    ngx_http_sluice_retry_after(ctx);
    return code >= NGX_HTTP_BAD_REQUEST ? code : NGX_HTTP_INTERNAL_SERVER_ERROR;
}

/* ---- the body ---------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    sl_str_t segs[BATCH];
    ngx_uint_t n;
    ngx_chain_t *links; /* the batch, cut off from the rest */
    ngx_uint_t last;    /* it ends the body */
} batch_t;

static void batch_take(ngx_http_sluice_ctx_t *ctx, batch_t *batch) {
    ngx_chain_t **end = &batch->links;

    batch->n = 0; /* segs beyond n are never looked at */
    batch->last = 0;
    batch->links = ctx->req_in;
    while (*end != NULL && batch->n < BATCH) {
        ngx_buf_t *b = (*end)->buf;
        if (b->last != b->pos) {
            batch->segs[batch->n++] = sl_str(b->pos, (size_t)(b->last - b->pos));
        }
        batch->last |= b->last_buf;
        end = &(*end)->next;
    }
    ctx->req_in = *end;
    *end = NULL;
}

/* Takes the ready bytes out of a verdict. The batch goes on itself, or has been used up. */
static ngx_int_t take_out(ngx_http_sluice_ctx_t *ctx, const pw_out_t *out, batch_t *batch) {
    ngx_int_t rc = NGX_OK;

    if (out->changed) {
        ctx->req_changed = 1;
    }
    ctx->req_cut |= out->eos && !ctx->req_eos && !out->made;
    if (out->headers && ctx->req != NGX_HTTP_SLUICE_REQ_RELEASED) {
        released(ctx);
    }
    if (batch != NULL && out->input) {
        for (ngx_uint_t i = 0; i < batch->n; i++) {
            ctx->req_out_bytes += (off_t)batch->segs[i].len;
        }
        ctx->req_last_ready |= batch->last;
        ready_append(ctx, batch->links);
        batch->links = NULL;
        return NGX_OK;
    }
    if (ready_data(ctx, out->data) != NGX_OK || (out->eos && ctx->req_eos && ready_last(ctx) != NGX_OK)) {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (batch != NULL) {
        ngx_http_sluice_consume(batch->links);
        ngx_http_sluice_links_free(ctx->request->pool, &batch->links);
    }
    return rc;
}

static ngx_int_t give_batch(ngx_http_sluice_ctx_t *ctx) {
    batch_t batch;
    pw_out_t out;

    batch_take(ctx, &batch);
    ctx->req_eos = batch.last;
    switch (pw_stream_body(ctx->stream.pw, PW_DIR_REQUEST, batch.segs, batch.n, batch.last, &out)) {
    case PW_REPLY:
        return reply_by_code(ctx);
    case PW_RESET:
        return NGX_HTTP_CLOSE;
    case PW_FAIL:
        return failure_code(ctx);
    default:
        return take_out(ctx, &out, &batch);
    }
}

static ngx_int_t give_all(ngx_http_sluice_ctx_t *ctx) {
    ngx_int_t rc;

    while (ctx->req_in != NULL && pw_stream_wants_body(ctx->stream.pw, PW_DIR_REQUEST)) {
        rc = give_batch(ctx);
        if (rc != NGX_OK) {
            return rc;
        }
    }
    return NGX_OK;
}

static ngx_int_t pass_ready(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    ngx_chain_t *ready = ctx->req_ready;
    ngx_int_t rc;

    ctx->req_ready = NULL;
    if (ctx->req_last_ready && ctx->create_request == NULL && !r->stream && fix_length(ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    rc = next_request_body_filter(r, ready);
    ngx_chain_update_chains(r->pool, &ctx->req_free, &ctx->req_busy, &ready, (ngx_buf_tag_t)&ngx_http_sluice_module);
    return rc;
}

/* Filters see no body when none has the callback, unless one that holds the headers has asked for it. */
static ngx_uint_t sees_body(ngx_http_sluice_ctx_t *ctx) {
    if (ctx->stream.pw == NULL || ctx->failed || ctx->replied || ctx->resp_bypass || ctx->req == NGX_HTTP_SLUICE_REQ_IDLE) {
        return 0;
    }
    return ctx->req_in != NULL || ctx->req_ready != NULL || ctx->req_reading || pw_chain_wants_body(ctx->chain, PW_DIR_REQUEST);
}

/* The body behind headers that ended the request. */
static ngx_int_t drop_body(ngx_http_sluice_ctx_t *ctx) {
    ngx_chain_t *cl;

    for (cl = ctx->req_in; cl != NULL; cl = cl->next) {
        ctx->req_eos |= cl->buf->last_buf;
    }
    ngx_http_sluice_consume(ctx->req_in);
    ngx_http_sluice_links_free(ctx->request->pool, &ctx->req_in);
    ctx->req_changed = 1;
    if (ctx->req_eos && ready_last(ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return pass_ready(ctx);
}

static ngx_int_t request_body_filter(ngx_http_request_t *r, ngx_chain_t *in) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx(r);
    ngx_int_t rc;

    if (ctx == NULL || (!sees_body(ctx) && !ctx->req_cut) || (ctx->req_eos && in != NULL && !ctx->req_reading && ctx->req_in == NULL)) {
        return next_request_body_filter(r, in);
    }
    r->request_body->filter_need_buffering = 1;
    wrap_create_request(ctx);
    if (ngx_http_sluice_links_append(r->pool, &ctx->req_in, in) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    rc = ctx->req_cut ? NGX_OK : give_all(ctx);
    if (rc != NGX_OK) {
        return rc;
    }
    if (ctx->req_cut) {
        return drop_body(ctx);
    }
    if (pw_stream_paused(ctx->stream.pw, PW_DIR_REQUEST) && !pw_stream_wants_body(ctx->stream.pw, PW_DIR_REQUEST)) {
        if (r->connection->read->pending_eof && !r->stream) {
            return NGX_HTTP_CLIENT_CLOSED_REQUEST;
        }
        ctx->quiet_read = 1;
        ngx_http_sluice_post(ctx);
        ngx_http_sluice_hold(ctx);
    }
    return pass_ready(ctx);
}

/* The filters keep the body waiting: client_body_timeout, which nginx has just set, is not about them. */
void ngx_http_sluice_request_quiet(ngx_http_sluice_ctx_t *ctx) {
    ngx_event_t *rev = ctx->request->connection->read;

    if (ctx->stream.pw != NULL && rev->timer_set && pw_stream_paused(ctx->stream.pw, PW_DIR_REQUEST)) {
        ngx_del_timer(rev);
    }
}

ngx_int_t ngx_http_sluice_request_body_init(void) {
    next_request_body_filter = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = request_body_filter;
    return NGX_OK;
}

/* ---- reading for a filter that holds the headers ------------------------------------------------------------------------------------ */

static void go_on(ngx_http_request_t *r) {
    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}

/* nginx has the whole body, so the filters have let its end go, and the headers before it. */
static void body_read(ngx_http_request_t *r) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx(r);

    ctx->req_read_done = 1;
    (void)fix_length(ctx);
    if (!ctx->req_read_begins) {
        go_on(r);
    }
}

/* NGX_DECLINED: read and released. NGX_DONE: on its way, or the request has ended. */
static ngx_int_t read_body(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    ngx_int_t rc;

    ctx->req_reading = 1;
    ctx->req_read_begins = 1;
    r->request_body_no_buffering = 0;
    rc = ngx_http_read_client_request_body(r, body_read);
    ctx->req_read_begins = 0;
    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        ngx_http_finalize_request(r, rc);
        return NGX_DONE;
    }
    if (ctx->req_read_done) {
        r->main->count--;
        if (ctx->req == NGX_HTTP_SLUICE_REQ_RELEASED) {
            return NGX_DECLINED;
        }
        return NGX_DONE; /* it was there before us, and the filter still waits for something */
    }
    ngx_http_finalize_request(r, NGX_DONE);
    return NGX_DONE;
}

/* ---- headers ------------------------------------------------------------------------------------------------------------------------- */

static ngx_int_t pause_request(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;

    ctx->req = NGX_HTTP_SLUICE_REQ_PAUSED;
    ngx_http_sluice_hold(ctx);
    if (!ctx->req_eos && r == r->main && pw_stream_wants_body(ctx->stream.pw, PW_DIR_REQUEST)) {
        r->write_event_handler = ngx_http_request_empty_handler;
        return read_body(ctx);
    }
    if (ngx_http_sluice_suspend(r) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
    }
    return NGX_DONE;
}

static ngx_int_t headers_pass(ngx_http_sluice_ctx_t *ctx, const pw_out_t *out) {
    ngx_int_t rc = out->made ? take_made(ctx, out) : NGX_OK;

    if (rc == NGX_AGAIN) {
        return pause_request(ctx);
    }
    if (rc != NGX_OK) {
        ngx_http_finalize_request(ctx->request, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return NGX_DONE;
    }
    ctx->req_cut |= out->eos && !ctx->req_eos;
    released(ctx);
    return NGX_DECLINED;
}

/* NGX_DECLINED: the request goes on. NGX_DONE: it waits or has ended. */
static ngx_int_t act(ngx_http_sluice_ctx_t *ctx, pw_verdict_t verdict, const pw_out_t *out) {
    ngx_http_request_t *r = ctx->request;

    switch (verdict) {
    case PW_WAIT:
        return pause_request(ctx);
    case PW_REPLY:
        ngx_http_sluice_reply_send(ctx);
        return NGX_DONE;
    case PW_RESET:
        ngx_http_finalize_request(r, NGX_HTTP_CLOSE);
        return NGX_DONE;
    case PW_FAIL:
        ngx_http_finalize_request(r, failure_code(ctx));
        return NGX_DONE;
    default:
        return headers_pass(ctx, out);
    }
}

static ngx_uint_t no_body(ngx_http_request_t *r) {
    return r != r->main || (r->headers_in.content_length_n <= 0 && !r->headers_in.chunked);
}

static ngx_int_t give_headers(ngx_http_sluice_ctx_t *ctx) {
    pw_verdict_t verdict;
    pw_out_t out;

    ctx->req = NGX_HTTP_SLUICE_REQ_RUNNING;
    ctx->req_eos = no_body(ctx->request);
    verdict = pw_stream_headers(ctx->stream.pw, PW_DIR_REQUEST, ctx->req_eos, &out);
    return act(ctx, verdict, &out);
}

static ngx_int_t run(ngx_http_sluice_ctx_t *ctx) {
    if (ctx->req == NGX_HTTP_SLUICE_REQ_RELEASED) {
        return NGX_DECLINED;
    }
    if (ctx->req != NGX_HTTP_SLUICE_REQ_IDLE) {
        return NGX_DONE; /* a stray event while it waits */
    }
    if (ctx->stream.pw == NULL || !pw_chain_wants_requests(ctx->chain)) {
        released(ctx);
        return NGX_DECLINED;
    }
    return give_headers(ctx);
}

ngx_int_t ngx_http_sluice_run_request(ngx_http_request_t *r) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx(r);

    return ctx == NULL ? NGX_DECLINED : run(ctx);
}

/* For a chain of directives. An attached one is driven by whoever attached it. */
static ngx_int_t run_location(ngx_http_request_t *r) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx(r);

    if (ctx == NULL && ngx_http_sluice_ctx_location(r, &ctx) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return NGX_DONE;
    }
    return ctx == NULL || ctx->attached ? NGX_DECLINED : run(ctx);
}

ngx_int_t ngx_http_sluice_rewrite_handler(ngx_http_request_t *r) {
    ngx_http_sluice_loc_conf_t *slcf = ngx_http_get_module_loc_conf(r, ngx_http_sluice_module);

    if (slcf->chain == NULL) {
        return NGX_DECLINED;
    }
    if (!slcf->request_headers_in_access) {
        return run_location(r);
    }
    if (r != r->main) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "proxy_wasm_request_headers_in_access enabled in a subrequest (no access phase)");
    }
    return NGX_DECLINED;
}

/* Never NGX_OK: under "satisfy any" that would let everybody in. */
ngx_int_t ngx_http_sluice_access_handler(ngx_http_request_t *r) {
    ngx_http_sluice_loc_conf_t *slcf = ngx_http_get_module_loc_conf(r, ngx_http_sluice_module);

    return slcf->request_headers_in_access ? run_location(r) : NGX_DECLINED;
}

/* ---- resuming ---------------------------------------------------------------------------------------------------------------------------
 */

/* The reader of the body runs our filter again, and that passes on what is ready. */
static void poke_reader(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;

    if (r->request_body != NULL && !r->request_body->last_saved) {
        ngx_post_event(r->connection->read, &ngx_posted_events);
    }
}

static void resume_made(ngx_http_sluice_ctx_t *ctx, const pw_out_t *out) {
    ngx_int_t rc = take_made(ctx, out);

    if (rc == NGX_ERROR) {
        ngx_http_sluice_abort(ctx->request, NGX_ERROR);
    } else if (rc == NGX_OK) {
        released(ctx);
        go_on(ctx->request);
    }
}

static void resume_released(ngx_http_sluice_ctx_t *ctx, const pw_out_t *out) {
    ngx_uint_t was_held = ctx->req == NGX_HTTP_SLUICE_REQ_PAUSED;
    ngx_http_request_t *r = ctx->request;

    if (out->made && was_held) {
        resume_made(ctx, out);
        return;
    }
    if (take_out(ctx, out, NULL) != NGX_OK) {
        ngx_http_sluice_abort(r, NGX_ERROR);
        return;
    }
    if (was_held && ctx->req == NGX_HTTP_SLUICE_REQ_RELEASED && (!ctx->req_reading || ctx->req_read_done)) {
        go_on(r);
        return;
    }
    poke_reader(ctx);
}

static void resume_ended(ngx_http_sluice_ctx_t *ctx, pw_verdict_t verdict) {
    ngx_http_request_t *r = ctx->request;

    if (verdict == PW_RESET) {
        ngx_http_sluice_abort(r, NGX_HTTP_CLOSE);
        return;
    }
    (void)ngx_http_sluice_upstream_close(r);
    ngx_http_sluice_body_unread(r);
    if (verdict == PW_REPLY) {
        ngx_http_sluice_reply_send(ctx);
        return;
    }
    ngx_http_finalize_request(r, failure_code(ctx));
}

/* A filter that was in the middle of its headers callback holds them now, and waits for the body. */
static ngx_uint_t body_wanted_now(const ngx_http_sluice_ctx_t *ctx) {
    return ctx->req == NGX_HTTP_SLUICE_REQ_PAUSED && !ctx->req_reading && !ctx->req_eos && ctx->request == ctx->request->main &&
           pw_stream_wants_body(ctx->stream.pw, PW_DIR_REQUEST);
}

void ngx_http_sluice_request_resume(ngx_http_sluice_ctx_t *ctx) {
    pw_verdict_t verdict;
    pw_out_t out;

    if (ctx->stream.pw == NULL || ctx->req == NGX_HTTP_SLUICE_REQ_IDLE) {
        return;
    }
    verdict = pw_stream_resume(ctx->stream.pw, PW_DIR_REQUEST, &out);
    switch (verdict) {
    case PW_CONTINUE:
        resume_released(ctx, &out);
        return;
    case PW_WAIT:
        if (body_wanted_now(ctx)) {
            if (read_body(ctx) == NGX_DECLINED) {
                go_on(ctx->request);
            }
            return;
        }
        if (ctx->req_in != NULL && pw_stream_wants_body(ctx->stream.pw, PW_DIR_REQUEST)) {
            poke_reader(ctx);
        }
        return;
    default:
        resume_ended(ctx, verdict);
    }
}
