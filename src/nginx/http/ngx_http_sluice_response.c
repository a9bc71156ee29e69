/* The response's way through the filters: a header filter and a body filter behind the copy filter, where bodies are in memory. */
#include "ngx_http_sluice_int.h"

#define BATCH 32 /* buffers given to the filters at once */

static ngx_http_output_header_filter_pt next_header_filter;
static ngx_http_output_body_filter_pt next_body_filter;

/* ---- headers go on ------------------------------------------------------------------------------------------------------------- */

static ngx_int_t pass_headers(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;

    ctx->resp_header_passed = 1;
    ctx->resp_through = !ctx->resp_wants_body && !ctx->resp_made && !ctx->resp_drop && !ctx->req_replying;
    ctx->resp = NGX_HTTP_SLUICE_RESP_BODY;
    if (ctx->hooks != NULL && ctx->hooks->response_released != NULL && ctx->hooks->response_released(r, ctx->data) != NGX_OK) {
        return NGX_ERROR;
    }
    return next_header_filter(r);
}

/*
 * A filter below may start again at the head of the filters before it returns, as addition does with an end of its own behind the part
 * that follows our end. That is none of the response that our filters see.
 */
static ngx_int_t pass_body(ngx_http_sluice_ctx_t *ctx, ngx_chain_t *out) {
    ngx_int_t rc;

    ctx->resp_passing = 1;
    rc = next_body_filter(ctx->request, out);
    ctx->resp_passing = 0;
    return rc;
}

/* What was said about the body before filters changed it. len < 0: not all of it is known. */
static void changed_headers(ngx_http_sluice_ctx_t *ctx, off_t len) {
    ngx_http_request_t *r = ctx->request;

    if (r->headers_out.content_length_n >= 0) {
        ngx_http_sluice_clear_content_length(r);
        r->headers_out.content_length_n = len;
    }
    ngx_http_clear_accept_ranges(r);
    ngx_http_weak_etag(r);
}

/* ---- a filter's answer takes the response's place ---------------------------------------------------------------------------------- */

/*
 * `make` fills headers_out. The answer goes to the filters below ours only; whatever the origin still produces is thrown away, and an
 * upstream is given up from an event, because it is on the stack now.
 */
static __attribute__((noinline)) ngx_int_t replace(ngx_http_sluice_ctx_t *ctx, ngx_uint_t status) {
    ngx_http_request_t *r = ctx->request;
    ngx_chain_t *body = NULL;
    ngx_int_t rc;

    ngx_http_sluice_consume(ctx->hold_queue);
    ngx_http_sluice_links_free(r->pool, &ctx->hold_queue);
    ngx_http_sluice_consume(ctx->resp_in);
    ngx_http_sluice_links_free(r->pool, &ctx->resp_in);
    ngx_http_sluice_unblock(r);
    ngx_http_clean_header(r);
    r->allow_ranges = 0;
    r->header_only = 0;
    r->expect_trailers = 0;
    ctx->resp_drop = 1;
    ngx_http_sluice_retry_after(ctx);
    rc = status != 0 ? ngx_http_sluice_status_headers(ctx, status, &body) : ngx_http_sluice_reply_headers(ctx, &body);
    if (rc != NGX_OK) {
        return NGX_ERROR;
    }
    rc = pass_headers(ctx);
    if (rc == NGX_ERROR || rc > NGX_OK) {
        return NGX_ERROR;
    }
    if (!r->header_only) {
        rc = pass_body(ctx, body);
    }
    ctx->woken_response = 1;
    ngx_http_sluice_post(ctx);
    return rc;
}

/* The upstream behind a replaced answer. */
static void give_up_origin(ngx_http_request_t *r) {
    if (ngx_http_sluice_upstream_close(r) == NGX_OK) {
        if (r->postponed != NULL) { /* behind a subrequest that may have ended already: nobody else would wake what waits */
            ngx_post_event(r->connection->write, &ngx_posted_events);
        }
        ngx_http_finalize_request(r, NGX_OK);
    }
}

static ngx_uint_t failure_status(ngx_http_sluice_ctx_t *ctx) {
    uint32_t code = pw_stream_failure(ctx->stream.pw);

    ctx->failed = 1;
    ctx->resp_bypass = 1;
    return code != 0 ? code : NGX_HTTP_INTERNAL_SERVER_ERROR;
}

/* ---- headers come ---------------------------------------------------------------------------------------------------------------- */

static ngx_uint_t no_body(const ngx_http_sluice_ctx_t *ctx) {
    const ngx_http_request_t *r = ctx->request;
    ngx_uint_t status = r->headers_out.status;

    if (r->header_only || r->method == NGX_HTTP_HEAD || status < NGX_HTTP_OK || status == NGX_HTTP_NO_CONTENT ||
        status == NGX_HTTP_NOT_MODIFIED) {
        return 1;
    }
    /* Who makes the response still says its end, which is a body callback for WasmX's filters. Not in subrequests, where some do not. */
    return r->headers_out.content_length_n == 0 && !r->expect_trailers && !(r == r->main && pw_chain_wants_empty_body(ctx->chain));
}

/* A filter may have made another method of HEAD, or the other way round; what the client may be sent depends on what it asked. */
static void restore_method(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;

    if (r->method == ctx->client_method || (r->method != NGX_HTTP_HEAD && ctx->client_method != NGX_HTTP_HEAD)) {
        return;
    }
    if (r->method == NGX_HTTP_HEAD) {
        ngx_http_sluice_clear_content_length(r); /* of a body that does not come */
    }
    r->method = ctx->client_method;
}

static ngx_inline void upstream_tls_keep(ngx_http_sluice_ctx_t *ctx) {
#if (NGX_HTTP_SSL)
    const ngx_http_upstream_t *u = ctx->request->upstream;

    if (u != NULL && u->peer.connection != NULL && u->peer.connection->ssl != NULL) {
        ngx_http_sluice_upstream_tls_keep(ctx);
    }
#endif
}

static ngx_inline ngx_int_t response_begins(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;

    ctx->resp_begun = 1;
    upstream_tls_keep(ctx);
    restore_method(ctx);
    if (ctx->req_replying && !ctx->replied && ngx_http_sluice_reply_headers(ctx, &ctx->reply_body) != NGX_OK) {
        return NGX_ERROR;
    }
    if (ctx->hooks != NULL && ctx->hooks->response_begin != NULL && ctx->hooks->response_begin(r, ctx->data) != NGX_OK) {
        return NGX_ERROR;
    }
    if (ctx->stream.pw != NULL && ctx->req != NGX_HTTP_SLUICE_REQ_RELEASED) {
        ctx->req = NGX_HTTP_SLUICE_REQ_RELEASED;
        pw_stream_abort_request(ctx->stream.pw); /* nginx answers by itself */
    }
    return NGX_OK;
}

static ngx_uint_t may_be_sliced(ngx_http_request_t *r) {
    return r->allow_ranges && r->headers_in.range != NULL;
}

/* With a Range header, the length goes out before filters have seen the body: the slicing filter needs the headers first. */
static ngx_uint_t waits_for_body(ngx_http_request_t *r) {
    return r == r->main && (r->headers_out.content_length_n > 0 || (r->headers_out.content_length_n == 0 && !r->expect_trailers)) &&
           !may_be_sliced(r);
}

/* What the last header filter would tell the caller. HTTP/1's looks at the status only where no status line came from an upstream. */
static ngx_uint_t will_be_header_only(ngx_http_request_t *r) {
    ngx_uint_t status = r->headers_out.status;

    if (r->method == NGX_HTTP_HEAD) {
        return 1;
    }
    return (status == NGX_HTTP_NO_CONTENT || status == NGX_HTTP_NOT_MODIFIED) &&
           (r->http_version >= NGX_HTTP_VERSION_20 || r->headers_out.status_line.len == 0);
}

static ngx_int_t headers_released(ngx_http_sluice_ctx_t *ctx, ngx_uint_t eos) {
    ngx_http_request_t *r = ctx->request;

    ctx->resp_released = 1;
    if (!eos && ctx->resp_wants_body && waits_for_body(r) && !will_be_header_only(r)) {
        ctx->resp = NGX_HTTP_SLUICE_RESP_FIRST;
        return NGX_OK;
    }
    return pass_headers(ctx);
}

static void hold_for_body(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;

    ctx->resp = NGX_HTTP_SLUICE_RESP_FIRST;
    ctx->resp_wants_body = 1;
    r->filter_need_in_memory = 1;
    r->allow_ranges = 0;
    r->buffered |= NGX_HTTP_SLUICE_BUFFERED;
}

static __attribute__((noinline)) ngx_int_t headers_held(ngx_http_sluice_ctx_t *ctx, ngx_uint_t eos) {
    ngx_http_request_t *r = ctx->request;

    if (r != r->main || r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0, "[proxy-wasm] the response headers of %s cannot be held",
                      r != r->main ? "a subrequest" : "a protocol switch");
        ctx->resp_bypass = 1;
        return pass_headers(ctx);
    }
    if (eos) {
        r->header_only = will_be_header_only(r);
    }
    if (!eos && pw_stream_wants_body(ctx->stream.pw, PW_DIR_RESPONSE)) {
        hold_for_body(ctx);
        return NGX_AGAIN;
    }
    ctx->resp = NGX_HTTP_SLUICE_RESP_HELD;
    ngx_http_sluice_block(r);
    return NGX_AGAIN;
}

/* ---- a body that a filter has made, for a response that came without one ------------------------------------------------------ */

static ngx_int_t made_take(ngx_http_sluice_ctx_t *ctx, const pw_out_t *out) {
    ngx_http_request_t *r = ctx->request;
    ngx_chain_t *cl, **end = &ctx->made_body;

    while (*end != NULL) {
        end = &(*end)->next;
    }
    cl = ngx_alloc_chain_link(r->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }
    cl->buf = out->data.len != 0 ? ngx_create_temp_buf(r->pool, out->data.len) : ngx_calloc_buf(r->pool);
    if (cl->buf == NULL) {
        return NGX_ERROR;
    }
    cl->buf->last = out->data.len != 0 ? ngx_cpymem(cl->buf->last, out->data.data, out->data.len) : cl->buf->last;
    cl->buf->last_buf = out->eos;
    cl->buf->last_in_chain = out->eos;
    cl->next = NULL;
    if (out->data.len != 0 || out->eos) {
        *end = cl;
    }
    ctx->made_bytes += (off_t)out->data.len;
    if (out->eos) {
        changed_headers(ctx, ctx->made_bytes);
    }
    return NGX_OK;
}

static ngx_int_t headers_held(ngx_http_sluice_ctx_t *ctx, ngx_uint_t eos);

static __attribute__((noinline)) ngx_int_t made_headers(ngx_http_sluice_ctx_t *ctx, const pw_out_t *out) {
    ctx->resp_made = 1;
    ctx->resp_released = 1;
    if (made_take(ctx, out) != NGX_OK) {
        return NGX_ERROR;
    }
    return out->eos ? pass_headers(ctx) : headers_held(ctx, 1);
}

/* Whatever the origin still sends says that it has come to its end. */
static ngx_int_t made_send(ngx_http_sluice_ctx_t *ctx, ngx_chain_t *in) {
    ngx_chain_t *body = ctx->made_body;

    ngx_http_sluice_consume(in);
    ctx->made_body = NULL;
    return body != NULL ? pass_body(ctx, body) : NGX_OK;
}

/* A failure in the headers callbacks becomes an error page of nginx where the caller can be told so. */
static __attribute__((noinline)) ngx_int_t headers_failed(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    ngx_uint_t status = failure_status(ctx);

    if (r->err_status != 0 || ctx->replied || r != r->main) {
        return replace(ctx, status);
    }
    ngx_http_clean_header(r);
    r->allow_ranges = 0;
    ngx_http_sluice_retry_after(ctx);
    return (ngx_int_t)status;
}

static ngx_uint_t trailers_may_come(ngx_http_request_t *r) {
    return r->expect_trailers || (r->upstream != NULL && r->upstream->conf != NULL && r->upstream->conf->pass_trailers);
}

static ngx_int_t first_headers(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    ngx_uint_t eos;
    pw_out_t out;

    if (response_begins(ctx) != NGX_OK) {
        return NGX_ERROR;
    }
    if (ctx->stream.pw == NULL) {
        return pass_headers(ctx);
    }
    eos = no_body(ctx);
    ctx->resp_eos = eos;
    /* Several ranges with their boundaries may be longer than the whole. */
    ctx->resp_length = trailers_may_come(r) || may_be_sliced(r) ? -1 : r->headers_out.content_length_n;
    ctx->resp_wants_body =
        !eos && (pw_chain_wants_body(ctx->chain, PW_DIR_RESPONSE) || pw_chain_wants_trailers(ctx->chain, PW_DIR_RESPONSE));
    if (ctx->resp_wants_body) {
        r->filter_need_in_memory = 1;
    }
    switch (pw_stream_headers(ctx->stream.pw, PW_DIR_RESPONSE, eos, &out)) {
    case PW_WAIT:
        return headers_held(ctx, eos);
    case PW_REPLY:
        return replace(ctx, 0);
    case PW_RESET:
        return NGX_ERROR;
    case PW_FAIL:
        return headers_failed(ctx);
    default:
        if (out.changed) {
            ctx->resp_changed = 1;
        }
        if (out.made) {
            return made_headers(ctx, &out);
        }
        if (out.eos && !eos) { /* a filter has ended the message with its headers */
            changed_headers(ctx, 0);
        }
        return headers_released(ctx, eos || out.eos);
    }
}

/* Something else takes the place of what was held: an error page, after the upstream has failed. Filters have had their callback. */
static __attribute__((noinline)) ngx_int_t second_headers(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;

    ngx_http_sluice_consume(ctx->hold_queue);
    ngx_http_sluice_links_free(r->pool, &ctx->hold_queue);
    ngx_http_sluice_consume(ctx->resp_in);
    ngx_http_sluice_links_free(r->pool, &ctx->resp_in);
    ngx_http_sluice_unblock(r);
    ctx->resp_bypass = 1;
    return pass_headers(ctx);
}

static ngx_int_t header_filter(ngx_http_request_t *r) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx(r);

    if (ctx == NULL && ngx_http_sluice_filtered(r) && ngx_http_sluice_ctx_location(r, &ctx) != NGX_OK) {
        return NGX_ERROR;
    }
    if (ctx == NULL || ctx->request != r || ctx->resp_header_passed) {
        return next_header_filter(r);
    }
    return ctx->resp_begun ? second_headers(ctx) : first_headers(ctx);
}

/* ---- the body's way out -------------------------------------------------------------------------------------------------------------- */

static ngx_buf_t *out_buffer(ngx_http_sluice_ctx_t *ctx, sl_str_t data, ngx_chain_t **link) {
    ngx_http_request_t *r = ctx->request;
    ngx_chain_t *cl = ngx_chain_get_free_buf(r->pool, &ctx->resp_free);
    u_char *start, *end;

    if (cl == NULL) {
        return NULL;
    }
    start = cl->buf->start;
    end = cl->buf->end;
    if ((size_t)(end - start) < data.len) {
        if (start != NULL) {
            ngx_pfree(r->pool, start);
        }
        start = ngx_palloc(r->pool, data.len);
        if (start == NULL) {
            return NULL;
        }
        end = start + data.len;
    }
    ngx_memzero(cl->buf, sizeof(ngx_buf_t));
    cl->buf->tag = (ngx_buf_tag_t)&ngx_http_sluice_module;
    cl->buf->start = cl->buf->pos = start;
    cl->buf->end = end;
    cl->buf->last = ngx_cpymem(start, data.data, data.len);
    cl->buf->temporary = 1;
    cl->next = NULL;
    *link = cl;
    return cl->buf;
}

/* One that only says something. Never reused: nobody tells us when it has been written. */
static ngx_buf_t *out_special(ngx_http_sluice_ctx_t *ctx, ngx_chain_t **link) {
    ngx_chain_t *cl = ngx_alloc_chain_link(ctx->request->pool);

    if (cl == NULL) {
        return NULL;
    }
    cl->buf = ngx_calloc_buf(ctx->request->pool);
    cl->next = NULL;
    *link = cl;
    return cl->buf;
}

typedef struct {
    sl_str_t segs[BATCH];
    ngx_uint_t n;
    size_t bytes;
    ngx_chain_t *links; /* of ours; NULL: none */
    unsigned last : 1, flush : 1;
} batch_t;

/* The buffers of the batch, as they are. Without the mark of the end where that has to wait. */
static void out_input(ngx_http_sluice_ctx_t *ctx, batch_t *batch, ngx_uint_t last, ngx_chain_t **out) {
    ngx_chain_t *cl;

    while (batch->links != NULL) {
        cl = batch->links;
        batch->links = cl->next;
        if (!last) {
            cl->buf->last_buf = 0;
            cl->buf->last_in_chain = 0;
        }
        if (ngx_buf_size(cl->buf) == 0 && !ngx_buf_special(cl->buf)) {
            ngx_free_chain(ctx->request->pool, cl);
            continue;
        }
        cl->next = NULL;
        *out = cl;
        out = &cl->next;
    }
}

static ngx_int_t out_data(ngx_http_sluice_ctx_t *ctx, sl_str_t data, ngx_uint_t flush, ngx_uint_t last, ngx_chain_t **out) {
    ngx_buf_t *b;

    if (data.len == 0 && !flush && !last) {
        return NGX_OK;
    }
    b = data.len != 0 ? out_buffer(ctx, data, out) : out_special(ctx, out);
    if (b == NULL) {
        return NGX_ERROR;
    }
    b->flush = flush;
    b->last_in_chain = last;
    b->last_buf = last && ctx->request == ctx->request->main;
    b->sync = data.len == 0 && !b->last_buf && !flush; /* the end of a subrequest is no end for the writer, and has no bytes */
    return NGX_OK;
}

/* A Content-Length that has gone out binds. */
static __attribute__((noinline)) ngx_int_t check_changed_length(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    off_t length = r->headers_out.content_length_n;

    if (r != r->main || length < 0 || r->chunked || r->header_only || r->headers_out.status == NGX_HTTP_PARTIAL_CONTENT) {
        return NGX_OK;
    }
    if (ctx->resp_out_bytes > length || (ctx->resp_end_out && ctx->resp_out_bytes < length)) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "[proxy-wasm] a filter has changed the response body after its length, %O, had been sent: remove content-length in "
                      "the headers callback",
                      length);
        return NGX_ERROR;
    }
    return NGX_OK;
}

static ngx_inline ngx_int_t check_length(ngx_http_sluice_ctx_t *ctx) {
    return ctx->resp_changed ? check_changed_length(ctx) : NGX_OK;
}

static ngx_int_t send_out(ngx_http_sluice_ctx_t *ctx, ngx_chain_t *out) {
    ngx_http_request_t *r = ctx->request;
    ngx_int_t rc;

    if (check_length(ctx) != NGX_OK) {
        return NGX_ERROR;
    }
    if (out == NULL) {
        return NGX_OK;
    }
    rc = pass_body(ctx, out);
    ngx_chain_update_chains(r->pool, &ctx->resp_free, &ctx->resp_busy, &out, (ngx_buf_tag_t)&ngx_http_sluice_module);
    return rc;
}

/*
 * A filter has made a message without a body (204, 304) of one whose body is on its way, after whoever produces that was told to go on:
 * it is thrown away, and an upstream is given up from an event.
 */
static void drop_body(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;

    ngx_http_sluice_consume(ctx->hold_queue);
    ngx_http_sluice_links_free(r->pool, &ctx->hold_queue);
    ngx_http_sluice_consume(ctx->resp_in);
    ngx_http_sluice_links_free(r->pool, &ctx->resp_in);
    ngx_http_sluice_unblock(r);
    ctx->resp_drop = 1;
    ctx->resp_through = 0;
    ctx->woken_response = 1;
    ngx_http_sluice_post(ctx);
}

static ngx_int_t headers_first(ngx_http_sluice_ctx_t *ctx, size_t len) {
    ngx_int_t rc;

    if (ctx->resp_changed) {
        changed_headers(ctx, ctx->resp_end_out ? (off_t)len : -1);
    }
    rc = pass_headers(ctx);
    if (rc == NGX_ERROR || rc > NGX_OK) {
        return NGX_ERROR;
    }
    if (!ctx->request->header_only) {
        return NGX_OK;
    }
    drop_body(ctx);
    return NGX_DONE;
}

/* Headers first, where they still wait: they go with the first thing that goes. NGX_DONE: nothing may follow them. */
static ngx_inline ngx_int_t headers_before(ngx_http_sluice_ctx_t *ctx, size_t len) {
    return ctx->resp_header_passed ? NGX_OK : headers_first(ctx, len);
}

static ngx_int_t emit_now(ngx_http_sluice_ctx_t *ctx, const pw_out_t *po, batch_t *batch, size_t len, ngx_uint_t flush) {
    ngx_uint_t last = ctx->resp_end_out && ctx->resp_last_in && !ctx->resp_last_out;
    ngx_chain_t *out = NULL;
    ngx_int_t rc = headers_before(ctx, len);

    if (rc != NGX_OK) {
        return rc == NGX_DONE ? NGX_OK : NGX_ERROR;
    }
    ctx->resp_flush = 0;
    ctx->resp_last_out |= last;
    ctx->resp_out_bytes += (off_t)len;
    if (batch != NULL && po->input) {
        out_input(ctx, batch, last, &out);
    } else if (out_data(ctx, po->data, flush, last, &out) != NGX_OK) {
        return NGX_ERROR;
    }
    return send_out(ctx, out);
}

static void batch_used(ngx_http_sluice_ctx_t *ctx, batch_t *batch) {
    ngx_http_sluice_consume(batch->links);
    ngx_http_sluice_links_free(ctx->request->pool, &batch->links);
}

/* Carries out what a call into the stream has released. batch NULL: it was a resume. */
static ngx_int_t emit(ngx_http_sluice_ctx_t *ctx, const pw_out_t *po, batch_t *batch) {
    ngx_uint_t flush = ctx->resp_flush || (batch != NULL && batch->flush);
    size_t len = batch != NULL && po->input ? batch->bytes : po->data.len;
    ngx_int_t rc = NGX_OK;

    ctx->resp_changed |= po->changed;
    ctx->resp_released |= po->headers;
    ctx->resp_end_out |= po->eos && ctx->resp_eos;
    if (ctx->resp_released && (ctx->resp_header_passed || len != 0 || ctx->resp_end_out)) {
        rc = emit_now(ctx, po, batch, len, flush);
    } else {
        ctx->resp_flush = flush;
    }
    if (batch != NULL) {
        batch_used(ctx, batch);
    }
    return rc;
}

/* ---- the body comes ---------------------------------------------------------------------------------------------------------------------
 */

static ngx_uint_t is_last(ngx_http_request_t *r, const ngx_buf_t *b) {
    return r == r->main ? b->last_buf : b->last_in_chain;
}

static ngx_int_t batch_take(ngx_http_sluice_ctx_t *ctx, ngx_chain_t **in, batch_t *batch) {
    ngx_chain_t *cl = *in, **end = &batch->links;

    batch->n = 0; /* segs beyond n are never looked at */
    batch->bytes = 0;
    batch->links = NULL;
    batch->last = batch->flush = 0;
    for (; cl != NULL && batch->n < BATCH; cl = *in) {
        ngx_buf_t *b = cl->buf;
        size_t size = ngx_buf_in_memory(b) ? (size_t)(b->last - b->pos) : 0;
        if (size == 0 && ngx_buf_size(b) != 0) {
            ngx_log_error(NGX_LOG_ALERT, ctx->request->connection->log, 0, "[proxy-wasm] a response body is not in memory");
            return NGX_ERROR;
        }
        if (size != 0) {
            batch->segs[batch->n++] = sl_str(b->pos, size);
            batch->bytes += size;
        }
        batch->last |= is_last(ctx->request, b);
        batch->flush |= b->flush;
        *in = cl->next;
        cl->next = NULL;
        *end = cl;
        end = &cl->next;
    }
    return NGX_OK;
}

static ngx_uint_t has_trailers(ngx_http_request_t *r) {
    return r->headers_out.trailers.part.nelts != 0;
}

static ngx_int_t verdict_body(ngx_http_sluice_ctx_t *ctx, pw_verdict_t verdict, const pw_out_t *out, batch_t *batch) {
    if (verdict == PW_CONTINUE || verdict == PW_WAIT) {
        return emit(ctx, out, batch);
    }
    if (batch != NULL) {
        batch_used(ctx, batch);
    }
    if (verdict == PW_RESET || ctx->resp_header_passed) {
        return NGX_ERROR;
    }
    return replace(ctx, verdict == PW_FAIL ? failure_status(ctx) : 0);
}

/* The end has been told with the bytes before: only nginx's mark of it is left. */
static ngx_int_t after_end(ngx_http_sluice_ctx_t *ctx, batch_t *batch) {
    pw_out_t none = {0};

    ctx->resp_changed |= batch->bytes != 0;
    return emit(ctx, &none, batch);
}

static ngx_inline pw_verdict_t tell(ngx_http_sluice_ctx_t *ctx, const batch_t *batch, ngx_uint_t trailers, pw_out_t *out) {
    ctx->resp_in_bytes += (off_t)batch->bytes;
    /* A length that is used up is the end as well, before nginx says so. */
    ctx->resp_eos = batch->last || (ctx->resp_length >= 0 && ctx->resp_in_bytes >= ctx->resp_length);
    return pw_stream_body(ctx->stream.pw, PW_DIR_RESPONSE, batch->segs, batch->n, ctx->resp_eos && !trailers, out);
}

static ngx_int_t give_batch(ngx_http_sluice_ctx_t *ctx, ngx_chain_t **in) {
    ngx_uint_t trailers;
    pw_verdict_t verdict;
    batch_t batch;
    pw_out_t out;
    ngx_int_t rc;

    if (batch_take(ctx, in, &batch) != NGX_OK) {
        return NGX_ERROR;
    }
    ctx->resp_last_in |= batch.last;
    if (ctx->resp_eos) {
        return after_end(ctx, &batch);
    }
    trailers = batch.last && has_trailers(ctx->request);
    verdict = tell(ctx, &batch, trailers, &out);
    rc = verdict_body(ctx, verdict, &out, &batch);
    if (!trailers || rc == NGX_ERROR || ctx->resp_drop) {
        return rc;
    }
    verdict = pw_stream_trailers(ctx->stream.pw, PW_DIR_RESPONSE, &out);
    return verdict_body(ctx, verdict, &out, NULL);
}

static ngx_uint_t stuck(ngx_http_sluice_ctx_t *ctx) {
    return pw_stream_paused(ctx->stream.pw, PW_DIR_RESPONSE) && !pw_stream_wants_body(ctx->stream.pw, PW_DIR_RESPONSE);
}

/* After the filters have had what they want for now: keeps the request alive while something is held. */
static ngx_int_t given(ngx_http_sluice_ctx_t *ctx, ngx_int_t rc) {
    ngx_http_request_t *r = ctx->request;

    if (ctx->resp_drop) {
        ngx_http_sluice_consume(ctx->resp_in);
        ngx_http_sluice_links_free(r->pool, &ctx->resp_in);
        return rc;
    }
    if (stuck(ctx)) {
        ngx_http_sluice_hold(ctx);
        ngx_http_sluice_block(r);
        return NGX_AGAIN;
    }
    ngx_http_sluice_unblock(r); /* what was stuck takes more now */
    if (pw_stream_paused(ctx->stream.pw, PW_DIR_RESPONSE) || (!ctx->resp_header_passed && ctx->resp_released == 0)) {
        r->buffered |= NGX_HTTP_SLUICE_BUFFERED;
    }
    return rc;
}

/* Gives what waits, as far as filters want it. */
static ngx_int_t give_all(ngx_http_sluice_ctx_t *ctx) {
    ngx_int_t rc = NGX_OK;

    ctx->resp_clear = 0;
    while (ctx->resp_in != NULL && !ctx->resp_drop && !stuck(ctx)) {
        rc = give_batch(ctx, &ctx->resp_in);
        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }
    }
    return given(ctx, rc);
}

/* What has to wait, or does not go on as it is. */
static __attribute__((noinline)) ngx_int_t give(ngx_http_sluice_ctx_t *ctx, ngx_chain_t *in) {
    if (ngx_http_sluice_links_append(ctx->request->pool, &ctx->resp_in, in) != NGX_OK) {
        return NGX_ERROR;
    }
    return give_all(ctx);
}

/* ---- the body comes, and nobody holds or changes anything: nginx's own chain goes on as it is --------------------------------- */

/*
 * Whether all of it may: each buffer is in memory or says something, and they fit into one batch. That has no links then, and does not know
 * of flushes.
 */
static ngx_inline ngx_uint_t batch_look(ngx_http_request_t *r, const ngx_chain_t *in, batch_t *batch) {
    ngx_uint_t n = 0, last = 0; /* segs beyond n are never looked at */
    size_t bytes = 0;

    for (; in != NULL; in = in->next) {
        const ngx_buf_t *b = in->buf;
        if (ngx_buf_in_memory(b) && b->last != b->pos && n < BATCH) {
            batch->segs[n] = sl_str(b->pos, (size_t)(b->last - b->pos));
            bytes += batch->segs[n++].len;
        } else if (!ngx_buf_special(b)) {
            return 0;
        }
        if (b->last_buf || b->last_in_chain) {
            if (!is_last(r, b) || has_trailers(r)) {
                return 0;
            }
            last = 1;
        }
    }
    batch->n = n;
    batch->bytes = bytes;
    batch->last = last;
    return 1;
}

/* Nothing waits, and nothing but what comes now has to be sent. */
static ngx_inline ngx_uint_t clear(const ngx_http_sluice_ctx_t *ctx) {
    if (ctx->resp_in != NULL || ctx->resp_flush || ctx->resp_last_in) {
        return 0;
    }
    if (ctx->resp_eos) {
        return ctx->resp_end_out && ctx->resp_header_passed;
    }
    return ctx->resp_clear || !pw_stream_paused(ctx->stream.pw, PW_DIR_RESPONSE);
}

/* Whether what the filters have let go is the piece as it was given, headers and all, and nothing is held behind it. */
static ngx_inline ngx_uint_t flows(ngx_http_sluice_ctx_t *ctx, const pw_out_t *out, const batch_t *batch) {
    if (!out->input || out->eos != ctx->resp_eos) {
        return 0;
    }
    ctx->resp_changed |= out->changed;
    ctx->resp_released |= out->headers;
    ctx->resp_end_out = ctx->resp_eos;
    return ctx->resp_released && (ctx->resp_header_passed || batch->bytes != 0 || ctx->resp_end_out) &&
           !pw_stream_paused(ctx->stream.pw, PW_DIR_RESPONSE);
}

static ngx_int_t flow_out(ngx_http_sluice_ctx_t *ctx, const batch_t *batch, ngx_chain_t *in) {
    ngx_int_t rc = headers_before(ctx, batch->bytes);

    if (rc != NGX_OK) {
        ngx_http_sluice_consume(in);
        return rc == NGX_DONE ? NGX_OK : NGX_ERROR;
    }
    if (batch->last) {
        ctx->resp_last_in = 1;
        ctx->resp_last_out = 1;
    }
    ctx->resp_out_bytes += (off_t)batch->bytes;
    if (check_length(ctx) != NGX_OK) {
        return NGX_ERROR;
    }
    rc = pass_body(ctx, in);
    if (rc != NGX_ERROR && (ctx->request->buffered & NGX_HTTP_SLUICE_BUFFERED)) {
        ngx_http_sluice_unblock(ctx->request);
    }
    return rc;
}

static __attribute__((noinline)) ngx_int_t flow_stops(ngx_http_sluice_ctx_t *ctx, pw_verdict_t verdict, const pw_out_t *out, batch_t *batch,
                                                      ngx_chain_t *in) {
    ngx_int_t rc;

    batch->links = NULL;
    batch->flush = 0;
    if (ngx_http_sluice_links_append(ctx->request->pool, &batch->links, in) != NGX_OK) {
        return NGX_ERROR;
    }
    for (; in != NULL; in = in->next) {
        batch->flush |= in->buf->flush;
    }
    ctx->resp_last_in |= batch->last;
    rc = verdict_body(ctx, verdict, out, batch);
    return rc == NGX_ERROR ? NGX_ERROR : given(ctx, rc);
}

static ngx_int_t body_in(ngx_http_sluice_ctx_t *ctx, ngx_chain_t *in) {
    pw_verdict_t verdict;
    batch_t batch;
    pw_out_t out;

    if (!clear(ctx) || !batch_look(ctx->request, in, &batch) || (ctx->resp_eos && batch.bytes != 0)) {
        return give(ctx, in);
    }
    if (ctx->resp_eos) { /* the end has been told with the bytes before: only nginx's mark of it is left */
        return flow_out(ctx, &batch, in);
    }
    verdict = tell(ctx, &batch, 0, &out);
    ctx->resp_clear = verdict == PW_CONTINUE && flows(ctx, &out, &batch);
    return ctx->resp_clear ? flow_out(ctx, &batch, in) : flow_stops(ctx, verdict, &out, &batch, in);
}

/* ---- other ways of bodies --------------------------------------------------------------------------------------------------------- */

/* Where the filters do not see it, or something else comes in its place. */
static __attribute__((noinline)) ngx_int_t body_instead(ngx_http_sluice_ctx_t *ctx, ngx_chain_t *in) {
    if (ctx->resp_drop) {
        ngx_http_sluice_consume(in);
        return NGX_OK;
    }
    if (ctx->reply_body != NULL) { /* nginx' error page under whose cover a reply goes */
        ngx_http_sluice_consume(in);
        in = ctx->reply_body;
        ctx->reply_body = NULL;
    } else if (ctx->req_replying) {
        ngx_http_sluice_consume(in);
        return NGX_OK;
    }
    if (ctx->resp_made && !ctx->resp_bypass) {
        return made_send(ctx, in);
    }
    if (ctx->stream.pw == NULL || ctx->resp_bypass || !ctx->resp_wants_body) {
        return pass_body(ctx, in);
    }
    return give(ctx, in);
}

/* nginx tries again to send what it has. */
static __attribute__((noinline)) ngx_int_t body_goes_on(ngx_http_sluice_ctx_t *ctx) {
    if (ctx->stream.pw == NULL || ctx->resp_bypass || !ctx->resp_wants_body || ctx->resp_header_passed) {
        return pass_body(ctx, NULL);
    }
    if (stuck(ctx)) {
        ngx_http_sluice_block(ctx->request);
    }
    return NGX_AGAIN;
}

static ngx_inline ngx_uint_t filters_see_body(const ngx_http_sluice_ctx_t *ctx) {
    return ctx->resp_wants_body && !ctx->resp_drop && !ctx->req_replying && !ctx->resp_made && !ctx->resp_bypass && ctx->stream.pw != NULL;
}

static ngx_int_t body_filter(ngx_http_request_t *r, ngx_chain_t *in) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_sluice_module);

    if (ctx == NULL || ctx->resp_through || ctx->request != r || !ctx->resp_begun || ctx->resp_passing) {
        return next_body_filter(r, in);
    }
    if (in == NULL) {
        return body_goes_on(ctx);
    }
    return filters_see_body(ctx) ? body_in(ctx, in) : body_instead(ctx, in);
}

void ngx_http_sluice_response_init(void) {
    next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = header_filter;
    next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = body_filter;
}

/* ---- resuming
 * -------------------------------------------------------------------------------------------------------------------------------- */

/* Headers that were held while everything waited at the head of the chain. */
static ngx_int_t release_held(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    ngx_uint_t header_only = r->header_only;
    ngx_int_t rc;

    ngx_http_sluice_unblock(r);
    r->header_only = 0;
    if (!ctx->resp_eos && ctx->resp_wants_body && waits_for_body(r)) {
        ctx->resp = NGX_HTTP_SLUICE_RESP_FIRST;
        rc = NGX_OK;
    } else {
        rc = pass_headers(ctx);
    }
    if (r->header_only && !header_only && !ctx->resp_eos && (rc == NGX_OK || rc == NGX_AGAIN)) {
        drop_body(ctx);
    }
    r->header_only |= header_only;
    return rc;
}

static void finish(ngx_http_sluice_ctx_t *ctx, ngx_int_t rc) {
    ngx_http_request_t *r = ctx->request;

    if (rc > NGX_OK) {
        rc = ngx_http_special_response_handler(r, rc);
    }
    if (rc == NGX_ERROR) {
        ngx_http_sluice_abort(r, NGX_ERROR);
        return;
    }
    ngx_post_event(r->connection->write, &ngx_posted_events);
}

static void resume_made(ngx_http_sluice_ctx_t *ctx, const pw_out_t *out) {
    ngx_int_t rc;

    ctx->resp_made = 1;
    rc = made_take(ctx, out);
    if (rc == NGX_OK && !out->eos) {
        return;
    }
    if (rc == NGX_OK) {
        rc = release_held(ctx);
    }
    if ((rc == NGX_OK || rc == NGX_AGAIN) && !ctx->resp_drop) {
        rc = ngx_http_sluice_hold_flush(ctx);
    }
    finish(ctx, rc);
}

static void resume_released(ngx_http_sluice_ctx_t *ctx, const pw_out_t *out) {
    ngx_int_t rc = NGX_OK;

    ctx->resp_changed |= out->changed;
    ctx->resp_released |= out->headers;
    if (ctx->resp == NGX_HTTP_SLUICE_RESP_HELD && out->made) {
        resume_made(ctx, out);
        return;
    }
    if (ctx->resp == NGX_HTTP_SLUICE_RESP_HELD && out->headers) {
        rc = release_held(ctx);
    } else if (ctx->resp == NGX_HTTP_SLUICE_RESP_HELD && !ctx->resp_eos && pw_stream_wants_body(ctx->stream.pw, PW_DIR_RESPONSE)) {
        /* A filter that was in the middle of its headers callback holds them now, and waits for the body. */
        ngx_http_sluice_unblock(ctx->request);
        hold_for_body(ctx);
    }
    if (ctx->resp_drop) {
        finish(ctx, rc);
        return;
    }
    if (rc == NGX_OK || rc == NGX_AGAIN) {
        rc = emit(ctx, out, NULL);
    }
    if (rc == NGX_OK || rc == NGX_AGAIN) {
        rc = ctx->resp == NGX_HTTP_SLUICE_RESP_HELD ? NGX_OK : ngx_http_sluice_hold_flush(ctx);
    }
    if ((rc == NGX_OK || rc == NGX_AGAIN) && ctx->resp != NGX_HTTP_SLUICE_RESP_HELD) {
        rc = give_all(ctx);
    }
    finish(ctx, rc);
}

static void resume_failed(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    ngx_uint_t status = failure_status(ctx);

    if (replace(ctx, status) == NGX_ERROR) {
        ngx_http_sluice_abort(r, NGX_ERROR);
        return;
    }
    finish(ctx, NGX_OK);
}

void ngx_http_sluice_response_resume(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    pw_verdict_t verdict;
    pw_out_t out;

    if (ctx->resp_drop) {
        give_up_origin(r);
        return;
    }
    if (ctx->stream.pw == NULL || !ctx->resp_begun || ctx->resp_bypass) {
        return;
    }
    ctx->resp_clear = 0;
    verdict = pw_stream_resume(ctx->stream.pw, PW_DIR_RESPONSE, &out);
    if (verdict == PW_CONTINUE || verdict == PW_WAIT) {
        resume_released(ctx, &out);
        return;
    }
    if (verdict == PW_RESET || ctx->resp_header_passed) {
        ngx_http_sluice_abort(r, NGX_ERROR);
        return;
    }
    if (verdict == PW_FAIL) {
        resume_failed(ctx);
        return;
    }
    finish(ctx, replace(ctx, 0));
}
