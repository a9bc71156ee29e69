/* Seam 1 for HTTP: the operations on a stream, which is a ngx_http_sluice_ctx_t. */
#include "ngx_http_sluice_int.h"

static void (*worker_log)(void *worker, void *stream, uint32_t level, sl_str_t line);

static void http_log(void *worker, void *stream, uint32_t level, sl_str_t line) {
    ngx_http_sluice_ctx_t *ctx = stream;

    if (ctx == NULL) {
        worker_log(worker, NULL, level, line);
        return;
    }
    ngx_sluice_log_line(ctx->request->connection->log, level, line);
}

static uint32_t http_log_level(void *worker, void *stream) {
    ngx_http_sluice_ctx_t *ctx = stream;

    return ngx_sluice_log_level(ctx == NULL ? ngx_cycle->log : ctx->request->connection->log);
}

static sl_status_t map_each(void *stream, pw_map_t map, ngx_http_sluice_each_pt each, void *ud) {
    ngx_http_sluice_ctx_t *ctx = stream;

    if (ctx->request->pool == NULL) {
        return SL_NOT_FOUND; /* the request is being freed */
    }
    switch (map) {
    case PW_MAP_REQUEST_HEADERS:
        return ngx_http_sluice_in_each(ctx, each, ud);
    case PW_MAP_RESPONSE_HEADERS:
        return ngx_http_sluice_out_each(ctx, each, ud);
    case PW_MAP_RESPONSE_TRAILERS:
        if (ctx->request->headers_out.trailers.part.nelts == 0) {
            return SL_NOT_FOUND;
        }
        (void)ngx_http_sluice_list_each(&ctx->request->headers_out.trailers, each, ud);
        return SL_OK;
    default:
        return SL_NOT_FOUND; /* nginx keeps no request trailers */
    }
}

static sl_status_t map_get(void *stream, pw_map_t map, sl_str_t key, sl_str_t *value) {
    ngx_http_sluice_ctx_t *ctx = stream;
    ngx_table_elt_t *h;

    if (ctx->request->pool == NULL) {
        return SL_NOT_FOUND;
    }
    switch (map) {
    case PW_MAP_REQUEST_HEADERS:
        return ngx_http_sluice_in_get(ctx, key, value);
    case PW_MAP_RESPONSE_HEADERS:
        return ngx_http_sluice_out_get(ctx, key, value);
    case PW_MAP_RESPONSE_TRAILERS:
        h = ngx_http_sluice_list_find(&ctx->request->headers_out.trailers, key);
        if (h == NULL) {
            return SL_NOT_FOUND;
        }
        *value = ngx_sluice_str(&h->value);
        return SL_OK;
    default:
        return SL_NOT_FOUND;
    }
}

static sl_status_t map_edit(void *stream, pw_map_t map, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    ngx_http_sluice_ctx_t *ctx = stream;

    if (ctx->request->pool == NULL) {
        return SL_NOT_FOUND;
    }
    if (op != PW_MAP_CLEAR && key.len == 0) {
        return SL_INVALID;
    }
    if (map == PW_MAP_RESPONSE_HEADERS) {
        return ngx_http_sluice_out_edit(ctx, op, key, value);
    }
    if (map == PW_MAP_REQUEST_HEADERS) {
        return ngx_http_sluice_in_edit(ctx, op, key, value);
    }
    return map == PW_MAP_RESPONSE_TRAILERS ? ngx_http_sluice_trailers_edit(ctx, op, key, value) : SL_NOT_FOUND;
}

static bool count_pair(void *ud, sl_str_t key, sl_str_t value) {
    ++*(size_t *)ud;
    return true;
}

static __attribute__((noinline)) size_t trailers_count(ngx_http_sluice_ctx_t *ctx, pw_map_t map) {
    size_t n = 0;

    (void)map_each(ctx, map, count_pair, &n);
    return n;
}

static size_t map_count(void *stream, pw_map_t map) {
    ngx_http_sluice_ctx_t *ctx = stream;

    if (ctx->request->pool == NULL) {
        return 0;
    }
    if (map == PW_MAP_RESPONSE_HEADERS) {
        return ngx_http_sluice_out_count(ctx);
    }
    return map == PW_MAP_REQUEST_HEADERS ? ngx_http_sluice_in_count(ctx) : trailers_count(ctx, map);
}

/* A subrequest has no body of its own. A response only where whoever makes it still says its end, and HTTP lets it have a body. */
static bool may_make_body(void *stream, pw_dir_t dir) {
    ngx_http_sluice_ctx_t *ctx = stream;
    ngx_http_request_t *r = ctx->request;
    ngx_uint_t status = r->headers_out.status;

    if (r->pool == NULL || r != r->main) {
        return false;
    }
    if (dir == PW_DIR_REQUEST) {
        return r->request_body == NULL && !r->discard_body;
    }
    return !r->header_only && ctx->client_method != NGX_HTTP_HEAD && status >= NGX_HTTP_OK && status != NGX_HTTP_NO_CONTENT &&
           status != NGX_HTTP_NOT_MODIFIED;
}

static sl_status_t past_body(void *stream, sl_buf_t *out) {
    const ngx_http_sluice_ctx_t *ctx = stream;
    const ngx_http_request_t *r = ctx->request;

    if (r->pool == NULL || r->request_body == NULL || r->request_body->temp_file != NULL) {
        return SL_NOT_FOUND;
    }
    for (const ngx_chain_t *cl = r->request_body->bufs; cl != NULL; cl = cl->next) {
        if (!ngx_buf_in_memory(cl->buf)) {
            continue;
        }
        sl_buf_append(out, cl->buf->pos, (size_t)(cl->buf->last - cl->buf->pos));
    }
    return out->failed ? SL_NO_MEMORY : SL_OK;
}

/* The location has been chosen when filters run; what a filter changes reaches the upstream all the same. */
static sl_status_t clear_route_cache(void *stream) {
    return SL_OK;
}

static void wake(void *stream, pw_dir_t dir) {
    ngx_http_sluice_ctx_t *ctx = stream;

    if (dir == PW_DIR_REQUEST) {
        ctx->woken_request = 1;
    } else {
        ctx->woken_response = 1;
    }
    ngx_http_sluice_post(ctx);
}

void ngx_http_sluice_ops_init(void) {
    ngx_http_sluice_out_init();
    if (ngx_sluice_ops.log != http_log) {
        worker_log = ngx_sluice_ops.log;
    }
    ngx_sluice_ops.log = http_log;
    ngx_sluice_ops.log_level = http_log_level;
    ngx_sluice_ops.map_each = map_each;
    ngx_sluice_ops.map_get = map_get;
    ngx_sluice_ops.map_edit = map_edit;
    ngx_sluice_ops.map_count = map_count;
    ngx_sluice_ops.may_make_body = may_make_body;
    ngx_sluice_ops.past_body = past_body;
    ngx_sluice_ops.property_get = ngx_http_sluice_property_get;
    ngx_sluice_ops.property_set = ngx_http_sluice_property_set;
    ngx_sluice_ops.clear_route_cache = clear_route_cache;
    ngx_sluice_ops.wake = wake;
    ngx_sluice_ops.http_call = ngx_http_sluice_http_call;
    ngx_sluice_ops.http_call_cancel = ngx_http_sluice_http_call_cancel;
    ngx_sluice_ops.http_call_detach = ngx_http_sluice_http_call_detach;
    ngx_sluice_ops.grpc_open = ngx_http_sluice_grpc_open;
    ngx_sluice_ops.grpc_send = ngx_http_sluice_grpc_send;
    ngx_sluice_ops.grpc_finish = ngx_http_sluice_grpc_finish;
    ngx_sluice_ops.grpc_cancel = ngx_http_sluice_grpc_cancel;
    ngx_sluice_ops.resolve = ngx_http_sluice_resolve;
    ngx_sluice_ops.resolve_cancel = ngx_http_sluice_resolve_cancel;
    ngx_sluice_ops.redis_call = ngx_http_sluice_redis_call;
    ngx_sluice_ops.redis_cancel = ngx_http_sluice_redis_cancel;
}
