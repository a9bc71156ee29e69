/* What variables, matching and headers ask of a request. */
#include "ngx_http_sluice_gw.h"

ngx_table_elt_t *ngx_http_sluice_gw_find_header(ngx_list_t *headers, sl_str_t name, size_t nth) {
    for (ngx_list_part_t *part = &headers->part; part != NULL; part = part->next) {
        ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (h[i].hash != 0 && h[i].key.len == name.len &&
                ngx_strncasecmp(h[i].key.data, (u_char *)(uintptr_t)name.data, name.len) == 0 && nth-- == 0) {
                return &h[i];
            }
        }
    }
    return NULL;
}

ngx_table_elt_t *ngx_http_sluice_gw_request_header(ngx_http_request_t *r, sl_str_t lower, size_t nth) {
    return ngx_http_sluice_gw_find_header(&r->headers_in.headers, lower, nth);
}

ngx_uint_t ngx_http_sluice_gw_local_port(ngx_http_request_t *r) {
    if (ngx_connection_local_sockaddr(r->connection, NULL, 0) != NGX_OK) {
        return 0;
    }
    return ngx_inet_get_port(r->connection->local_sockaddr);
}

ngx_uint_t ngx_http_sluice_gw_shown_port(ngx_http_request_t *r) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    const ngx_http_sluice_gw_port_map_t *maps = mcf->port_maps.elts;
    ngx_uint_t port = ngx_http_sluice_gw_local_port(r);
    for (ngx_uint_t i = 0; i < mcf->port_maps.nelts; i++) {
        if (maps[i].listening == port) {
            return maps[i].shown;
        }
    }
    return port;
}

ngx_str_t ngx_http_sluice_gw_peer(ngx_http_request_t *r) {
    /* The realip module puts the client's address into the connection, and the peer's into this variable. */
    ngx_str_t name = ngx_string("realip_remote_addr");
    ngx_http_variable_value_t *v = ngx_http_get_variable(r, &name, ngx_hash_key(name.data, name.len));
    if (v == NULL || v->not_found) {
        return r->connection->addr_text;
    }
    return (ngx_str_t){v->len, v->data};
}

unsigned ngx_http_sluice_gw_peer_trusted(ngx_http_request_t *r) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    if (mcf->trusted == NULL) {
        return 0;
    }
    ngx_str_t peer = ngx_http_sluice_gw_peer(r);
    ngx_addr_t addr;
    struct sockaddr local = {.sa_family = AF_UNIX};
    if (ngx_parse_addr(r->pool, &addr, peer.data, peer.len) != NGX_OK) {
        addr.sockaddr = &local; /* its text is "unix:" */
    }
    return ngx_cidr_match(addr.sockaddr, mcf->trusted) == NGX_OK;
}

/* ---- headers of the connection ------------------------------------------------------------------------------------------- */

static unsigned same_name(const u_char *name, size_t len, const char *other) {
    return len == ngx_strlen(other) && ngx_strncasecmp((u_char *)(uintptr_t)name, (u_char *)(uintptr_t)other, len) == 0;
}

/* Nobody may rid himself of what the gateway says about him, nor of what frames the request; upgrade and te are the gateway's to decide. */
static unsigned stays(const u_char *name, size_t len) {
    static const char *const names[] = {"host",      "content-length", "transfer-encoding", "connection", "via",
                                        "forwarded", "x-real-ip",      "upgrade",           "te"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (same_name(name, len, names[i])) {
            return 1;
        }
    }
    return len > 12 && ngx_strncasecmp((u_char *)(uintptr_t)name, (u_char *)"x-forwarded-", 12) == 0;
}

/* Renamed to a header that nginx.conf keeps from the upstream; other modules have pointers to the element. */
static void drop(ngx_http_request_t *r, sl_str_t name) {
    for (ngx_table_elt_t *h; (h = ngx_http_sluice_gw_request_header(r, name, 0)) != NULL;) {
        ngx_str_set(&h->key, "Keep-Alive");
        h->lowcase_key = (u_char *)"keep-alive";
        h->hash = ngx_hash_key(h->lowcase_key, h->key.len);
    }
}

void ngx_http_sluice_gw_drop_hop_headers(ngx_http_request_t *r) {
    ngx_table_elt_t *connection;
    for (size_t nth = 0; (connection = ngx_http_sluice_gw_request_header(r, SL_STR("connection"), nth)) != NULL; nth++) {
        const u_char *p = connection->value.data;
        const u_char *end = p + connection->value.len;
        while (p < end) {
            const u_char *name = p;
            while (p < end && *p != ',' && *p != ' ' && *p != '\t') {
                p++;
            }
            size_t len = (size_t)(p - name);
            if (len != 0 && !stays(name, len) && !same_name(name, len, "keep-alive")) {
                drop(r, sl_str(name, len));
            }
            p += p < end;
        }
    }
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
