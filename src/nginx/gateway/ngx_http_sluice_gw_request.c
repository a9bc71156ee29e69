/* What variables, matching and headers ask of a request. */
#include "ngx_http_sluice_gw.h"

ngx_table_elt_t *ngx_http_sluice_gw_request_header(ngx_http_request_t *r, sl_str_t lower, size_t nth) {
    ngx_list_part_t *part = &r->headers_in.headers.part;
    ngx_table_elt_t *h = part->elts;
    for (ngx_uint_t i = 0;; i++) {
        if (i >= part->nelts) {
            part = part->next;
            if (part == NULL) {
                return NULL;
            }
            h = part->elts;
            i = 0;
        }
        if (h[i].hash != 0 && h[i].key.len == lower.len &&
            ngx_strncasecmp(h[i].key.data, (u_char *)(uintptr_t)lower.data, lower.len) == 0 && nth-- == 0) {
            return &h[i];
        }
    }
}

ngx_uint_t ngx_http_sluice_gw_local_port(ngx_http_request_t *r) {
    if (ngx_connection_local_sockaddr(r->connection, NULL, 0) != NGX_OK) {
        return 0;
    }
    return ngx_inet_get_port(r->connection->local_sockaddr);
}

unsigned ngx_http_sluice_gw_peer_trusted(ngx_http_request_t *r) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    return mcf->trusted != NULL && ngx_cidr_match(r->connection->sockaddr, mcf->trusted) == NGX_OK;
}

unsigned ngx_http_sluice_gw_is_tls(ngx_http_request_t *r) {
#if (NGX_HTTP_SSL)
    return r->connection->ssl != NULL;
#else
    (void)r;
    return 0;
#endif
}

/* Host as the client sent it, with its port. */
ngx_str_t ngx_http_sluice_gw_host(ngx_http_request_t *r) {
    ngx_str_t none = ngx_null_string;
    if (r->headers_in.host != NULL) {
        return r->headers_in.host->value;
    }
    return r->headers_in.server.len != 0 ? r->headers_in.server : none;
}

ngx_int_t ngx_http_sluice_gw_add_header(ngx_http_request_t *r, const char *name, ngx_str_t value) {
    ngx_table_elt_t *h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }
    ngx_memzero(h, sizeof(*h));
    h->hash = 1;
    h->key.data = (u_char *)(uintptr_t)name;
    h->key.len = ngx_strlen(name);
    h->value = value;
    return NGX_OK;
}

/* A header that is in place but not sent keeps nginx from adding its own. */
ngx_int_t ngx_http_sluice_gw_set_server(ngx_http_request_t *r, ngx_str_t value) {
    ngx_table_elt_t *h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }
    ngx_memzero(h, sizeof(*h));
    h->hash = value.len != 0;
    ngx_str_set(&h->key, "Server");
    h->value = value;
    r->headers_out.server = h;
    return NGX_OK;
}

/* a, or "a, b" when there is an a already. */
ngx_int_t ngx_http_sluice_gw_join(ngx_http_request_t *r, ngx_table_elt_t *a, ngx_str_t b, ngx_str_t *out) {
    if (a == NULL || a->value.len == 0) {
        *out = b;
        return NGX_OK;
    }
    out->data = ngx_pnalloc(r->pool, a->value.len + 2 + b.len);
    if (out->data == NULL) {
        return NGX_ERROR;
    }
    out->len = (size_t)(ngx_sprintf(out->data, "%V, %V", &a->value, &b) - out->data);
    return NGX_OK;
}
