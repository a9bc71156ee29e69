/* sluice_metrics: a location that answers with the metrics of filters and with what is in shared memory, as text for Prometheus. */
#include "ngx_http_sluice_int.h"

#include "ngx_sluice_state.h"

#define TEXT_MAX (256u << 20)

static void free_text(void *data) {
    sl_buf_deinit(data);
}

static ngx_buf_t *render(ngx_http_request_t *r) {
    ngx_pool_cleanup_t *cln = ngx_pool_cleanup_add(r->pool, sizeof(sl_buf_t));
    ngx_buf_t *b = ngx_calloc_buf(r->pool);

    if (cln == NULL || b == NULL) {
        return NULL;
    }
    sl_buf_init(cln->data, TEXT_MAX);
    cln->handler = free_text;
    if (ngx_sluice_state_render(ngx_sluice_conf((ngx_cycle_t *)ngx_cycle), cln->data) != SL_OK) {
        return NULL;
    }
    b->pos = (u_char *)((sl_buf_t *)cln->data)->data;
    b->last = b->pos + ((sl_buf_t *)cln->data)->len;
    b->memory = b->pos != b->last;
    b->last_buf = 1;
    b->last_in_chain = 1;
    return b;
}

static ngx_int_t handler(ngx_http_request_t *r) {
    ngx_chain_t out = {.next = NULL};
    ngx_int_t rc;

    if (!(r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }
    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }
    out.buf = render(r);
    if (out.buf == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = out.buf->last - out.buf->pos;
    ngx_str_set(&r->headers_out.content_type, "text/plain; version=0.0.4; charset=utf-8");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }
    return ngx_http_output_filter(r, &out);
}

char *ngx_http_sluice_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_http_core_loc_conf_t *clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    clcf->handler = handler;
    return NGX_CONF_OK;
}
