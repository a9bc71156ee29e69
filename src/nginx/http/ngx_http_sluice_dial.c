#include "ngx_http_sluice_dial.h"

#define CONNECTION_POOL_BYTES 512

/* ---- the end ----------------------------------------------------------------------------------------------------------------------- */

void ngx_http_sluice_connection_close(ngx_connection_t *c) {
    ngx_pool_t *pool = c->pool;

#if (NGX_SSL)
    if (c->ssl != NULL) {
        c->ssl->no_wait_shutdown = 1;
        if (ngx_ssl_shutdown(c) == NGX_AGAIN) { /* the peer takes nothing: without a farewell */
            c->ssl->no_send_shutdown = 1;
            (void)ngx_ssl_shutdown(c);
        }
    }
#endif
    ngx_close_connection(c);
    ngx_destroy_pool(pool);
}

void ngx_http_sluice_dial_cancel(ngx_http_sluice_dial_t *dial) {
    ngx_connection_t *c = dial->peer.connection;

    if (c != NULL) {
        dial->peer.connection = NULL;
        ngx_http_sluice_connection_close(c);
    }
}

static void fail(ngx_http_sluice_dial_t *dial, ngx_http_sluice_dial_failure_e failure, const char *why) {
    ngx_http_sluice_dial_cancel(dial);
    dial->failed(dial, failure, why);
}

static void ready(ngx_http_sluice_dial_t *dial) {
    ngx_connection_t *c = dial->peer.connection;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }
    dial->peer.connection = NULL;
    dial->ready(dial, c);
}

/* ---- TLS --------------------------------------------------------------------------------------------------------------------------- */

#if (NGX_SSL)

static ngx_ssl_t client_ssl;

static ngx_int_t ssl_make(ngx_sluice_conf_t *scf, ngx_log_t *log) {
    const char *file = (char *)scf->tls_trusted_certificate.data;

    if (client_ssl.ctx != NULL) {
        return NGX_OK;
    }
    client_ssl.log = (ngx_log_t *)ngx_cycle->log;
    if (ngx_ssl_create(&client_ssl, NGX_SSL_TLSv1_2 | NGX_SSL_TLSv1_3, NULL) != NGX_OK) {
        client_ssl.ctx = NULL;
        return NGX_ERROR;
    }
    if (scf->tls_trusted_certificate.len != 0 ? SSL_CTX_load_verify_locations(client_ssl.ctx, file, NULL) != 1
                                              : SSL_CTX_set_default_verify_paths(client_ssl.ctx) != 1) {
        ngx_ssl_error(NGX_LOG_ERR, log, 0, "cannot load the trusted certificates of calls");
    }
    return NGX_OK;
}

void ngx_http_sluice_call_tls_free(void) {
    if (client_ssl.ctx != NULL) {
        SSL_CTX_free(client_ssl.ctx);
        client_ssl.ctx = NULL;
    }
}

/* A name, or an address that stands in the certificate as one. */
static ngx_int_t check_host(ngx_connection_t *c, ngx_str_t *name) {
    ngx_int_t rc = ngx_ssl_check_host(c, name);
    char address[NGX_INET6_ADDRSTRLEN + 1];
    X509 *cert;

    if (rc == NGX_OK || name->len >= sizeof(address)) {
        return rc;
    }
    cert = SSL_get_peer_certificate(c->ssl->connection);
    if (cert != NULL) {
        (void)ngx_cpystrn((u_char *)address, name->data, name->len + 1);
        rc = X509_check_ip_asc(cert, address, 0) == 1 ? NGX_OK : NGX_ERROR;
        X509_free(cert);
    }
    return rc;
}

static const char *verify(ngx_http_sluice_dial_t *dial, ngx_connection_t *c) {
    ngx_sluice_conf_t *scf = dial->scf;
    long rc = SSL_get_verify_result(c->ssl->connection);
    ngx_int_t other = check_host(c, &dial->verify_name);

    if (scf->tls_verify_cert && rc != X509_V_OK) {
        return X509_verify_cert_error_string(rc);
    }
    if (scf->tls_verify_host && other != NGX_OK) {
        return "the certificate is for another host";
    }
    if (scf->tls_no_verify_warn && !scf->tls_verify_cert) {
        ngx_log_error(NGX_LOG_WARN, dial->log, 0, "tls certificate not verified");
    }
    if (scf->tls_no_verify_warn && !scf->tls_verify_host) {
        ngx_log_error(NGX_LOG_WARN, dial->log, 0, "tls certificate host not verified");
    }
    return NULL;
}

static const char *check_alpn(ngx_http_sluice_dial_t *dial, ngx_connection_t *c) {
    const unsigned char *name;
    unsigned int len;

    if (dial->alpn == NULL) {
        return NULL;
    }
    SSL_get0_alpn_selected(c->ssl->connection, &name, &len);
    return len == ngx_strlen(dial->alpn) && ngx_memcmp(name, dial->alpn, len) == 0 ? NULL : "the peer does not take this protocol";
}

static void handshaken(ngx_connection_t *c) {
    ngx_http_sluice_dial_t *dial = c->data;
    const char *bad;

    if (!c->ssl->handshaked) {
        fail(dial, c->read->timedout ? NGX_HTTP_SLUICE_DIAL_TIMEOUT : NGX_HTTP_SLUICE_DIAL_TLS,
             c->read->timedout ? "timed out in the tls handshake" : "tls handshake failed");
        return;
    }
    bad = verify(dial, c);
    bad = bad == NULL ? check_alpn(dial, c) : bad;
    if (bad != NULL) {
        fail(dial, NGX_HTTP_SLUICE_DIAL_TLS, bad);
        return;
    }
    ready(dial);
}

static const char *prepare_tls(ngx_http_sluice_dial_t *dial, ngx_connection_t *c) {
    unsigned char wire[16];
    size_t len = dial->alpn != NULL ? ngx_strlen(dial->alpn) : 0;

    if (ssl_make(dial->scf, c->log) != NGX_OK || ngx_ssl_create_connection(&client_ssl, c, NGX_SSL_BUFFER | NGX_SSL_CLIENT) != NGX_OK) {
        return "no tls connection";
    }
    if (dial->server_name.len != 0 && SSL_set_tlsext_host_name(c->ssl->connection, (char *)dial->server_name.data) == 0) {
        return "invalid server name";
    }
    if (len != 0) {
        wire[0] = (unsigned char)len;
        ngx_memcpy(wire + 1, dial->alpn, len);
        return SSL_set_alpn_protos(c->ssl->connection, wire, (unsigned)len + 1) == 0 ? NULL : "no tls connection";
    }
    return NULL;
}

static void start_tls(ngx_http_sluice_dial_t *dial) {
    ngx_connection_t *c = dial->peer.connection;
    const char *bad = prepare_tls(dial, c);
    ngx_int_t rc;

    if (bad != NULL) {
        fail(dial, NGX_HTTP_SLUICE_DIAL_TLS, bad);
        return;
    }
    rc = ngx_ssl_handshake(c);
    if (rc == NGX_AGAIN) {
        ngx_add_timer(c->read, dial->timeout);
        c->ssl->handler = handshaken;
        return;
    }
    handshaken(c);
}

#else

void ngx_http_sluice_call_tls_free(void) {
}

static void start_tls(ngx_http_sluice_dial_t *dial) {
    fail(dial, NGX_HTTP_SLUICE_DIAL_TLS, "nginx was built without TLS");
}

#endif

/* ---- connecting ---------------------------------------------------------------------------------------------------------------------- */

static void connected(ngx_http_sluice_dial_t *dial) {
    ngx_connection_t *c = dial->peer.connection;
    int on = 1;

    dial->connected = 1;
    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }
    if (dial->peer.sockaddr->sa_family != AF_UNIX) {
        (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    if (dial->to->tls) {
        start_tls(dial);
    } else {
        ready(dial);
    }
}

static ngx_int_t connect_error(ngx_connection_t *c) {
    socklen_t len = sizeof(int);
    int err = 0;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *)&err, &len) == -1) {
        err = ngx_socket_errno;
    }
    ngx_set_socket_errno(err);
    return err != 0 ? NGX_ERROR : NGX_OK;
}

static void try_next(ngx_http_sluice_dial_t *dial, const char *why) {
    ngx_log_error(NGX_LOG_INFO, dial->log, ngx_socket_errno, "[proxy-wasm] call to %V: %s", dial->peer.name, why);
    ngx_http_sluice_dial_cancel(dial);
    ngx_http_sluice_dial(dial);
}

static void write_handler(ngx_event_t *wev) {
    ngx_connection_t *c = wev->data;
    ngx_http_sluice_dial_t *dial = c->data;

    if (dial->connected) {
        return;
    }
    if (wev->timedout) {
        ngx_set_socket_errno(NGX_ETIMEDOUT);
        try_next(dial, "timed out connecting");
    } else if (connect_error(c) != NGX_OK) {
        try_next(dial, "cannot connect");
    } else {
        connected(dial);
    }
}

static void read_handler(ngx_event_t *rev) {
    /* errors of connecting come to the write handler */
}

static ngx_int_t open_connection(ngx_http_sluice_dial_t *dial, ngx_http_sluice_peer_t *to) {
    ngx_peer_connection_t *peer = &dial->peer;
    ngx_pool_t *pool = ngx_create_pool(CONNECTION_POOL_BYTES, dial->log);
    ngx_connection_t *c;
    ngx_int_t rc;

    if (pool == NULL) {
        return NGX_DECLINED;
    }
    ngx_memzero(peer, sizeof(ngx_peer_connection_t));
    peer->sockaddr = to->sockaddr;
    peer->socklen = to->socklen;
    peer->name = &to->name;
    peer->get = ngx_event_get_peer;
    peer->log = dial->log;
    peer->log_error = NGX_ERROR_INFO;
    rc = ngx_event_connect_peer(peer);
    c = peer->connection;
    if (c == NULL) {
        ngx_destroy_pool(pool);
        return NGX_DECLINED;
    }
    c->pool = pool;
    if (rc == NGX_ERROR || rc == NGX_BUSY || rc == NGX_DECLINED) {
        ngx_http_sluice_dial_cancel(dial);
        return NGX_DECLINED;
    }
    c->data = dial;
    c->log = dial->log;
    c->pool->log = dial->log;
    c->read->log = c->write->log = dial->log;
    c->sendfile = 0;
    c->read->cancelable = c->write->cancelable = dial->untimed;
    c->read->handler = read_handler;
    c->write->handler = write_handler;
    return rc;
}

void ngx_http_sluice_dial(ngx_http_sluice_dial_t *dial) {
    ngx_http_sluice_target_t *to = dial->to;
    ngx_http_sluice_peer_t *peers = to->peers.elts;
    ngx_int_t rc = NGX_DECLINED;

    dial->connected = 0;
    while (rc == NGX_DECLINED && to->next_peer < to->peers.nelts) {
        rc = open_connection(dial, &peers[to->next_peer++]);
    }
    if (rc == NGX_DECLINED) {
        dial->failed(dial, NGX_HTTP_SLUICE_DIAL_BROKEN, "no peer could be reached");
    } else if (rc == NGX_AGAIN) {
        ngx_add_timer(dial->peer.connection->write, dial->timeout);
    } else {
        connected(dial);
    }
}
