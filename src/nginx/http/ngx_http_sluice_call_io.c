/* A call's connection: connect, TLS, write, read. */
#include "ngx_http_sluice_call.h"

#define READ_BYTES 16384

static void write_handler(ngx_event_t *wev);
static void read_handler(ngx_event_t *rev);

void ngx_http_sluice_call_close(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c = call->peer.connection;

    if (c == NULL) {
        return;
    }
    call->peer.connection = NULL;
#if (NGX_SSL)
    if (c->ssl != NULL) {
        c->ssl->no_wait_shutdown = 1;
        (void)ngx_ssl_shutdown(c);
    }
#endif
    ngx_close_connection(c);
}

static void retry(ngx_http_sluice_call_t *call, const char *why) {
    ngx_log_error(NGX_LOG_INFO, call->log, ngx_socket_errno, "[proxy-wasm] call to %V: %s", call->peer.name, why);
    ngx_http_sluice_call_close(call);
    ngx_http_sluice_call_connect(call);
}

/* ---- reading and writing ------------------------------------------------------------------------------------------------------- */

static void read_all(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c = call->peer.connection;
    u_char bytes[READ_BYTES];
    sl_status_t rc;
    sl_err_t err;
    ssize_t n;

    for (;;) {
        n = c->recv(c, bytes, sizeof(bytes));
        if (n == NGX_AGAIN) {
            break;
        }
        if (n == NGX_ERROR) {
            ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_BROKEN, "the connection was reset");
            return;
        }
        rc = n == 0 ? sl_http1_end(&call->response, &err) : sl_http1_feed(&call->response, (char *)bytes, (size_t)n, &err);
        if (rc == SL_OK) {
            ngx_http_sluice_call_answered(call);
            return;
        }
        if (rc != SL_AGAIN) {
            ngx_http_sluice_call_fail(
                call, n == 0 && call->response.status == 0 ? NGX_HTTP_SLUICE_CALL_BROKEN : NGX_HTTP_SLUICE_CALL_READER, err.text);
            return;
        }
    }
    ngx_add_timer(c->read, call->read_timeout);
    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_BROKEN, "no event");
    }
}

static void read_handler(ngx_event_t *rev) {
    ngx_connection_t *c = rev->data;
    ngx_http_sluice_call_t *call = c->data;

    if (rev->timedout) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_TIMEOUT, "timed out reading");
        return;
    }
    if (!call->connected) {
        return; /* errors of connecting come to the write handler */
    }
    read_all(call);
}

static void write_all(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c = call->peer.connection;
    ngx_buf_t *b = call->request;
    ssize_t n;

    while (b->pos < b->last) {
        n = c->send(c, b->pos, (size_t)(b->last - b->pos));
        if (n == NGX_ERROR) {
            ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_BROKEN, "cannot write");
            return;
        }
        if (n == NGX_AGAIN) {
            ngx_add_timer(c->write, call->send_timeout);
            if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
                ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_BROKEN, "no event");
            }
            return;
        }
        b->pos += n;
    }
    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }
    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_BROKEN, "no event");
        return;
    }
    read_all(call);
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

const char *ngx_http_sluice_tls_verify(ngx_sluice_conf_t *scf, ngx_connection_t *c, ngx_str_t *name) {
    long rc = SSL_get_verify_result(c->ssl->connection);

    if (scf->tls_verify_cert && rc != X509_V_OK) {
        return X509_verify_cert_error_string(rc);
    }
    if (scf->tls_verify_host && ngx_ssl_check_host(c, name) != NGX_OK) {
        return "the certificate is for another host";
    }
    return NULL;
}

const char *ngx_http_sluice_tls_prepare(ngx_sluice_conf_t *scf, ngx_connection_t *c, ngx_str_t *server_name) {
    if (ssl_make(scf, c->log) != NGX_OK || ngx_ssl_create_connection(&client_ssl, c, NGX_SSL_BUFFER | NGX_SSL_CLIENT) != NGX_OK) {
        return "no tls connection";
    }
    if (server_name->len != 0 && SSL_set_tlsext_host_name(c->ssl->connection, (char *)server_name->data) == 0) {
        return "invalid server name";
    }
    return NULL;
}

static void handshaken(ngx_connection_t *c) {
    ngx_http_sluice_call_t *call = c->data;
    const char *bad;

    if (!c->ssl->handshaked) {
        ngx_http_sluice_call_fail(call, c->read->timedout ? NGX_HTTP_SLUICE_CALL_TIMEOUT : NGX_HTTP_SLUICE_CALL_TLS,
                                  "tls handshake failed");
        return;
    }
    bad = ngx_http_sluice_tls_verify(call->scf, c, call->server_name.len != 0 ? &call->server_name : &call->to.host);
    if (bad != NULL) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_TLS, bad);
        return;
    }
    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }
    c->read->handler = read_handler;
    c->write->handler = write_handler;
    write_all(call);
}

static void start_tls(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c = call->peer.connection;
    const char *bad;
    ngx_int_t rc;

    bad = ngx_http_sluice_tls_prepare(call->scf, c, &call->server_name);
    if (bad != NULL) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_TLS, bad);
        return;
    }
    rc = ngx_ssl_handshake(c);
    if (rc == NGX_AGAIN) {
        ngx_add_timer(c->read, call->connect_timeout);
        c->ssl->handler = handshaken;
        return;
    }
    handshaken(c);
}

#else

void ngx_http_sluice_call_tls_free(void) {
}

const char *ngx_http_sluice_tls_prepare(ngx_sluice_conf_t *scf, ngx_connection_t *c, ngx_str_t *server_name) {
    return "nginx was built without TLS";
}

const char *ngx_http_sluice_tls_verify(ngx_sluice_conf_t *scf, ngx_connection_t *c, ngx_str_t *name) {
    return "nginx was built without TLS";
}

static void start_tls(ngx_http_sluice_call_t *call) {
    ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_TLS, "nginx was built without TLS");
}

#endif

/* ---- connecting ---------------------------------------------------------------------------------------------------------------------- */

static void connected(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c = call->peer.connection;

    call->connected = 1;
    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }
    if (call->to.tls) {
        start_tls(call);
        return;
    }
    write_all(call);
}

ngx_int_t ngx_http_sluice_connect_error(ngx_connection_t *c) {
    socklen_t len = sizeof(int);
    int err = 0;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *)&err, &len) == -1) {
        err = ngx_socket_errno;
    }
    if (err != 0) {
        ngx_set_socket_errno(err);
        return NGX_ERROR;
    }
    return NGX_OK;
}

static void write_handler(ngx_event_t *wev) {
    ngx_connection_t *c = wev->data;
    ngx_http_sluice_call_t *call = c->data;

    if (call->connected) {
        if (wev->timedout) {
            ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_TIMEOUT, "timed out writing");
            return;
        }
        if (call->request->pos < call->request->last) {
            write_all(call);
        }
        return;
    }
    if (wev->timedout) {
        ngx_set_socket_errno(NGX_ETIMEDOUT);
        retry(call, "timed out connecting");
        return;
    }
    if (ngx_http_sluice_connect_error(c) != NGX_OK) {
        retry(call, "cannot connect");
        return;
    }
    connected(call);
}

static ngx_int_t open_connection(ngx_http_sluice_call_t *call, ngx_http_sluice_peer_t *to) {
    ngx_peer_connection_t *peer = &call->peer;
    ngx_connection_t *c;
    ngx_int_t rc;

    ngx_memzero(peer, sizeof(ngx_peer_connection_t));
    peer->sockaddr = to->sockaddr;
    peer->socklen = to->socklen;
    peer->name = &to->name;
    peer->get = ngx_event_get_peer;
    peer->log = call->log;
    peer->log_error = NGX_ERROR_INFO;
    rc = ngx_event_connect_peer(peer);
    if (rc == NGX_ERROR || rc == NGX_BUSY || rc == NGX_DECLINED) {
        ngx_http_sluice_call_close(call);
        return NGX_DECLINED;
    }
    c = peer->connection;
    c->data = call;
    c->pool = call->pool;
    c->log = call->log;
    c->read->log = c->write->log = call->log;
    c->sendfile = 0;
    c->read->handler = read_handler;
    c->write->handler = write_handler;
    return rc;
}

void ngx_http_sluice_call_connect(ngx_http_sluice_call_t *call) {
    ngx_http_sluice_peer_t *peers = call->to.peers.elts;
    ngx_int_t rc = NGX_DECLINED;

    while (rc == NGX_DECLINED && call->to.next_peer < call->to.peers.nelts) {
        rc = open_connection(call, &peers[call->to.next_peer++]);
    }
    if (rc == NGX_DECLINED) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_BROKEN, "no peer could be reached");
        return;
    }
    if (rc == NGX_AGAIN) {
        ngx_add_timer(call->peer.connection->write, call->connect_timeout);
        return;
    }
    connected(call);
}
