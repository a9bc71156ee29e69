/* Attributes of the response: response.* */
#include "ngx_http_sluice_prop.h"

static sl_status_t get_code(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_request_t *r = ctx->request;
    ngx_uint_t status = r->err_status != 0 ? r->err_status : r->headers_out.status;

    return status == 0 || (!ctx->resp_begun && !ctx->logged) ? SL_NOT_FOUND : ngx_http_sluice_give_int(out, (int64_t)status);
}

static sl_status_t get_code_details(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const pw_reply_t *reply = ctx->stream.pw != NULL ? pw_stream_reply(ctx->stream.pw) : NULL;

    if (!ctx->resp_begun) {
        return SL_NOT_FOUND;
    }
    if (ctx->failed) {
        return ngx_http_sluice_give_str(out, SL_STR("wasm_fail_stream"));
    }
    if (ctx->replied && reply != NULL) {
        return ngx_http_sluice_give_str(out, reply->details);
    }
    return ngx_http_sluice_give_str(out, ctx->request->upstream != NULL ? SL_STR("via_upstream") : SL_STR("direct_response"));
}

static sl_status_t get_flags(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    enum { UPSTREAM_TIMEOUT = 0x4, UPSTREAM_FAILURE = 0x20, NO_ROUTE = 0x100, DOWNSTREAM_GONE = 0x4000 };
    const ngx_http_request_t *r = ctx->request;
    int64_t flags = 0;

    if (r->upstream != NULL && !r->upstream->header_sent) {
        flags |= r->err_status == NGX_HTTP_GATEWAY_TIME_OUT ? UPSTREAM_TIMEOUT : 0;
        flags |= r->err_status == NGX_HTTP_BAD_GATEWAY ? UPSTREAM_FAILURE : 0;
    }
    flags |= r->headers_out.status == NGX_HTTP_CLIENT_CLOSED_REQUEST ? DOWNSTREAM_GONE : 0;
    return ngx_http_sluice_give_int(out, flags);
}

static sl_status_t get_grpc_status(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_request_t *r = ctx->request;
    ngx_table_elt_t *h = ngx_http_sluice_list_find(&r->headers_out.trailers, SL_STR("grpc-status"));
    ngx_int_t n;

    if (h == NULL) {
        h = ngx_http_sluice_list_find(&r->headers_out.headers, SL_STR("grpc-status"));
    }
    n = h != NULL ? ngx_atoi(h->value.data, h->value.len) : NGX_ERROR;
    if (n < 0 && ctx->logged && ngx_http_sluice_is_grpc(r)) {
        n = (ngx_int_t)ngx_http_sluice_grpc_status_of(r->err_status != 0 ? r->err_status : r->headers_out.status);
    }
    return n < 0 ? SL_NOT_FOUND : ngx_http_sluice_give_int(out, n);
}

static sl_status_t get_response_headers(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ctx->resp_begun ? ngx_http_sluice_give_map(out, PW_MAP_RESPONSE_HEADERS) : SL_NOT_FOUND;
}

static sl_status_t get_response_trailers(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ctx->request->headers_out.trailers.part.nelts != 0 ? ngx_http_sluice_give_map(out, PW_MAP_RESPONSE_TRAILERS) : SL_NOT_FOUND;
}

static sl_status_t get_response_headers_bytes(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ctx->resp_begun ? ngx_http_sluice_give_int(out, (int64_t)ctx->request->header_size) : SL_NOT_FOUND;
}

static sl_status_t get_response_size(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    off_t sent = ctx->request->connection->sent - (off_t)ctx->request->header_size;

    return ctx->resp_begun ? ngx_http_sluice_give_int(out, ngx_max(sent, 0)) : SL_NOT_FOUND;
}

static sl_status_t get_response_total_size(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ctx->resp_begun ? ngx_http_sluice_give_int(out, ctx->request->connection->sent) : SL_NOT_FOUND;
}

static sl_status_t get_backend_latency(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_upstream_state_t *state = ngx_http_sluice_last_state(ctx->request);

    return state == NULL || state->response_time == (ngx_msec_t)-1 ? SL_NOT_FOUND : ngx_http_sluice_give_ms(out, state->response_time);
}

const ngx_http_sluice_attribute_t ngx_http_sluice_response_attributes[] = {
    {"response.code", get_code},
    {"response.code_details", get_code_details},
    {"response.flags", get_flags},
    {"response.grpc_status", get_grpc_status},
    {"response.headers", get_response_headers},
    {"response.trailers", get_response_trailers},
    {"response.headers_bytes", get_response_headers_bytes},
    {"response.size", get_response_size},
    {"response.total_size", get_response_total_size},
    {"response.backend_latency", get_backend_latency},
    {NULL, NULL},
};
