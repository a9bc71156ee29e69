/* Attributes of the upstream, upstream.*, and the names of places: cluster, route, virtual host, node. */
#include "ngx_http_sluice_prop.h"

static sl_status_t get_upstream_address(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_upstream_state_t *state = ngx_http_sluice_last_state(ctx->request);

    return state == NULL || state->peer == NULL ? SL_NOT_FOUND : ngx_http_sluice_give_address_text(out, ngx_sluice_str(state->peer));
}

/* From the name of the peer, which is there to the end; its address is not. */
static sl_status_t get_upstream_port(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_upstream_state_t *state = ngx_http_sluice_last_state(ctx->request);
    u_char *colon = NULL;
    ngx_int_t n;

    if (state == NULL || state->peer == NULL) {
        return SL_NOT_FOUND;
    }
    for (size_t i = 0; i < state->peer->len; i++) {
        colon = state->peer->data[i] == ':' ? state->peer->data + i : colon;
    }
    n = colon != NULL ? ngx_atoi(colon + 1, (size_t)(state->peer->data + state->peer->len - colon - 1)) : NGX_ERROR;
    return n == NGX_ERROR ? SL_NOT_FOUND : ngx_http_sluice_give_int(out, n);
}

/* Addresses that the upstream block names; one that was resolved for this request has what was found. */
static sl_status_t get_upstream_endpoints(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_upstream_t *u = ctx->request->upstream;
    const ngx_http_upstream_srv_conf_t *us = u != NULL ? u->upstream : NULL;
    ngx_uint_t n = 0;

    if (u == NULL) {
        return SL_NOT_FOUND;
    }
    if (us == NULL || us->servers == NULL) {
        return u->resolved != NULL ? ngx_http_sluice_give_uint(out, u->resolved->naddrs) : SL_NOT_FOUND;
    }
    for (ngx_uint_t i = 0; i < us->servers->nelts; i++) {
        n += ((const ngx_http_upstream_server_t *)us->servers->elts)[i].naddrs;
    }
    return ngx_http_sluice_give_uint(out, n);
}

static sl_status_t get_upstream_local(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_upstream_t *u = ctx->request->upstream;
    ngx_connection_t *c = u != NULL ? u->peer.connection : NULL;
    ngx_sockaddr_t sa;
    socklen_t len = sizeof(sa);

    if (c == NULL || getsockname(c->fd, &sa.sockaddr, &len) != 0) {
        return SL_NOT_FOUND;
    }
    return ngx_http_sluice_give_address(&sa.sockaddr, len, scratch, out);
}

static sl_status_t get_upstream_attempts(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ngx_http_sluice_give_uint(out, ctx->request->upstream_states != NULL ? ctx->request->upstream_states->nelts : 0);
}

static sl_status_t get_upstream_connect_time(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_upstream_state_t *state = ngx_http_sluice_last_state(ctx->request);

    return state == NULL || state->connect_time == (ngx_msec_t)-1 ? SL_NOT_FOUND : ngx_http_sluice_give_ms(out, state->connect_time);
}

static sl_status_t get_upstream_failure(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ctx->request->upstream != NULL ? ngx_http_sluice_give_str(out, SL_STR("")) : SL_NOT_FOUND;
}

/* ---- names ---- */

static sl_status_t get_cluster(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_upstream_t *u = ctx->request->upstream;

    if (u == NULL) {
        return SL_NOT_FOUND;
    }
    if (u->resolved != NULL) {
        return ngx_http_sluice_give_str(out, ngx_sluice_str(&u->resolved->host));
    }
    return u->conf == NULL || u->conf->upstream == NULL ? SL_NOT_FOUND
                                                        : ngx_http_sluice_give_str(out, ngx_sluice_str(&u->conf->upstream->host));
}

static sl_status_t get_route(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_core_loc_conf_t *clcf = ngx_http_get_module_loc_conf(ctx->request, ngx_http_core_module);

    return ngx_http_sluice_give_str(out, ngx_sluice_str(&clcf->name));
}

static sl_status_t get_virtual_host(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_core_srv_conf_t *cscf = ngx_http_get_module_srv_conf(ctx->request, ngx_http_core_module);

    return ngx_http_sluice_give_str(out, ngx_sluice_str(&cscf->server_name));
}

static sl_status_t get_node_id(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ngx_http_sluice_give_str(out, ngx_sluice_str((ngx_str_t *)&ngx_cycle->hostname));
}

/* The message Node with its field id. */
static sl_status_t get_node(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    sl_str_t id = sl_str(ngx_cycle->hostname.data, ngx_min(ngx_cycle->hostname.len, 127));

    (void)sl_buf_append_char(scratch, 0x0a);
    (void)sl_buf_append_char(scratch, (char)id.len);
    (void)sl_buf_append_str(scratch, id);
    return ngx_http_sluice_give_scratch(scratch, out);
}

/* Messages without any field. */
static sl_status_t get_empty(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ngx_http_sluice_give_str(out, SL_STR(""));
}

static sl_status_t get_direction(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ngx_http_sluice_give_int(out, 1); /* inbound */
}

const ngx_http_sluice_attribute_t ngx_http_sluice_place_attributes[] = {
    {"upstream.address", get_upstream_address},
    {"upstream.port", get_upstream_port},
    {"upstream.num_endpoints", get_upstream_endpoints},
    {"upstream.locality", get_empty},
    {"upstream.local_address", get_upstream_local},
    {"upstream.request_attempt_count", get_upstream_attempts},
    {"upstream.cx_pool_ready_duration", get_upstream_connect_time},
    {"upstream.transport_failure_reason", get_upstream_failure},
    {"xds.cluster_name", get_cluster},
    {"cluster_name", get_cluster},
    {"xds.route_name", get_route},
    {"route_name", get_route},
    {"xds.virtual_host_name", get_virtual_host},
    {"xds.node", get_node},
    {"node", get_node},
    {"xds.node.id", get_node_id},
    {"node.id", get_node_id},
    {"metadata", get_empty},
    {"xds.cluster_metadata", get_empty},
    {"cluster_metadata", get_empty},
    {"xds.route_metadata", get_empty},
    {"route_metadata", get_empty},
    {"xds.virtual_host_metadata", get_empty},
    {"xds.upstream_host_metadata", get_empty},
    {"xds.upstream_host_locality_metadata", get_empty},
    {"xds.filter_chain_name", get_empty},
    {"upstream_host_metadata", get_empty},
    {"xds.listener_metadata", get_empty},
    {"listener_metadata", get_empty},
    {"xds.listener_direction", get_direction},
    {"listener_direction", get_direction},
    {NULL, NULL},
};
