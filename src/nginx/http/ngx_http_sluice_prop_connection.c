/* Attributes of the client's connection: source.*, destination.*, connection.id. */
#include "ngx_http_sluice_prop.h"

static ngx_connection_t *with_local(ngx_http_sluice_ctx_t *ctx) {
    ngx_connection_t *c = ctx->request->connection;

    return ngx_connection_local_sockaddr(c, NULL, 0) == NGX_OK && c->local_sockaddr != NULL ? c : NULL;
}

static sl_status_t get_source_address(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ngx_http_sluice_give_address(ctx->request->connection->sockaddr, ctx->request->connection->socklen, scratch, out);
}

static sl_status_t get_source_port(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ngx_http_sluice_give_port(ctx->request->connection->sockaddr, out);
}

static sl_status_t get_destination_address(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_connection_t *c = with_local(ctx);

    return c == NULL ? SL_NOT_FOUND : ngx_http_sluice_give_address(c->local_sockaddr, c->local_socklen, scratch, out);
}

static sl_status_t get_destination_port(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_connection_t *c = with_local(ctx);

    return c == NULL ? SL_NOT_FOUND : ngx_http_sluice_give_port(c->local_sockaddr, out);
}

static sl_status_t get_connection_id(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ngx_http_sluice_give_uint(out, ctx->request->connection->number);
}

const ngx_http_sluice_attribute_t ngx_http_sluice_connection_attributes[] = {
    {"source.address", get_source_address},
    {"source.port", get_source_port},
    {"destination.address", get_destination_address},
    {"destination.port", get_destination_port},
    {"connection.id", get_connection_id},
    {"connection_id", get_connection_id},
    {NULL, NULL},
};
