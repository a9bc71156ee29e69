/* A call's exchange: a connection, the request, the answer. */
#include "ngx_http_sluice_call.h"

#define READ_BYTES 16384

static void write_all(ngx_http_sluice_call_t *call);

void ngx_http_sluice_call_close(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c = call->connection;

    ngx_http_sluice_dial_cancel(&call->dial);
    if (c != NULL) {
        call->connection = NULL;
        ngx_http_sluice_connection_close(c);
    }
}

void ngx_http_sluice_call_leave(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c = call->connection;

    if (c == NULL || !call->keep || !call->response.keepalive || call->response.excess != 0 || call->sent != call->request.len) {
        ngx_http_sluice_call_close(call);
        return;
    }
    call->connection = NULL;
    ngx_http_sluice_pool_put(call->scf, c, &call->key);
}

/* The connection does not go on. One that waited may have been closed meanwhile: then another one gets the request, once. */
static void broken(ngx_http_sluice_call_t *call, const char *why) {
    if (!call->reused || call->once) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_BROKEN, why);
        return;
    }
    call->reused = 0;
    ngx_http_sluice_call_close(call);
    call->sent = 0;
    ngx_http_sluice_dial(&call->dial);
}

/* ---- reading and writing ------------------------------------------------------------------------------------------------------- */

/* What has come was the end of the answer, or it was not one. NGX_AGAIN: more may come. */
static ngx_int_t take(ngx_http_sluice_call_t *call, u_char *bytes, size_t n) {
    uint64_t refused = call->scf->call_bytes.refused;
    sl_status_t rc;
    sl_err_t err;

    if (n == 0 && call->reused) {
        broken(call, "the connection was closed");
        return NGX_DONE;
    }
    call->reused = 0;
    rc = n == 0 ? sl_http1_end(&call->response, &err) : sl_http1_feed(&call->response, (char *)bytes, n, &err);
    if (rc == SL_AGAIN) {
        return NGX_AGAIN;
    }
    if (rc == SL_OK) {
        ngx_http_sluice_call_answered(call);
    } else if (call->scf->call_bytes.refused != refused) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_NO_ROOM, "no room for its answer, see \"call_memory_limit\"");
    } else {
        ngx_http_sluice_call_fail(call, n == 0 && call->response.status == 0 ? NGX_HTTP_SLUICE_CALL_BROKEN : NGX_HTTP_SLUICE_CALL_READER,
                                  err.text);
    }
    return NGX_DONE;
}

static void read_all(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c = call->connection;
    u_char bytes[READ_BYTES];
    ssize_t n;

    do {
        n = c->recv(c, bytes, sizeof(bytes));
        if (n == NGX_ERROR) {
            broken(call, "the connection was reset");
            return;
        }
    } while (n != NGX_AGAIN && take(call, bytes, (size_t)n) == NGX_AGAIN);
    if (n != NGX_AGAIN) {
        return;
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
    read_all(call);
}

static void write_handler(ngx_event_t *wev) {
    ngx_connection_t *c = wev->data;
    ngx_http_sluice_call_t *call = c->data;

    if (wev->timedout) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_TIMEOUT, "timed out writing");
    } else if (call->sent < call->request.len) {
        write_all(call);
    }
}

/* NGX_OK: all of it has gone; NGX_AGAIN: the rest goes later. */
static ngx_int_t send_request(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c = call->connection;
    ssize_t n;

    while (call->sent < call->request.len) {
        n = c->send(c, (u_char *)call->request.data + call->sent, call->request.len - call->sent);
        if (n == NGX_ERROR || n == NGX_AGAIN) {
            return n;
        }
        call->sent += (size_t)n;
    }
    return NGX_OK;
}

static void write_all(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c = call->connection;
    ngx_int_t rc = send_request(call);

    if (rc == NGX_ERROR) {
        read_all(call); /* who does not want to read all of it may have said why */
        return;
    }
    if (rc == NGX_AGAIN) {
        ngx_add_timer(c->write, call->send_timeout);
    } else if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }
    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_BROKEN, "no event");
        return;
    }
    if (rc == NGX_OK) {
        read_all(call);
    }
}

/* ---- a connection ---------------------------------------------------------------------------------------------------------------------
 */

static void use(ngx_http_sluice_call_t *call, ngx_connection_t *c) {
    call->connection = c;
    c->data = call;
    c->log = c->pool->log = c->read->log = c->write->log = call->log;
    c->read->handler = read_handler;
    c->write->handler = write_handler;
    c->read->cancelable = c->write->cancelable = call->untimed;
    write_all(call);
}

static ngx_int_t make_key(ngx_http_sluice_call_t *call, const ngx_str_t *peer) {
    const ngx_http_sluice_dial_t *dial = &call->dial;
    ngx_str_t none = ngx_null_string;
    const ngx_str_t *sni = call->to.tls ? &dial->server_name : &none, *verify = call->to.tls ? &dial->verify_name : &none;

    call->key.data = ngx_pnalloc(call->pool, peer->len + sni->len + verify->len + 3);
    if (call->key.data == NULL) {
        return NGX_ERROR;
    }
    call->key.len = (size_t)(ngx_sprintf(call->key.data, "%V %V %V", peer, sni, verify) - call->key.data);
    if (call->to.tls) {
        call->key.data[peer->len] = '+';
    }
    return NGX_OK;
}

static void dialled(ngx_http_sluice_dial_t *dial, ngx_connection_t *c) {
    ngx_http_sluice_call_t *call = dial->data;

    if (make_key(call, dial->peer.name) != NGX_OK) {
        call->keep = 0;
    }
    use(call, c);
}

static void not_dialled(ngx_http_sluice_dial_t *dial, ngx_http_sluice_dial_failure_e failure, const char *why) {
    static const ngx_http_sluice_call_failure_e failures[] = {
        [NGX_HTTP_SLUICE_DIAL_TIMEOUT] = NGX_HTTP_SLUICE_CALL_TIMEOUT,
        [NGX_HTTP_SLUICE_DIAL_BROKEN] = NGX_HTTP_SLUICE_CALL_BROKEN,
        [NGX_HTTP_SLUICE_DIAL_TLS] = NGX_HTTP_SLUICE_CALL_TLS,
    };

    ngx_http_sluice_call_fail(dial->data, failures[failure], why);
}

static ngx_connection_t *waiting(ngx_http_sluice_call_t *call) {
    ngx_http_sluice_peer_t *peers = call->to.peers.elts;
    ngx_uint_t n = call->to.alike ? call->to.peers.nelts : ngx_min(call->to.peers.nelts, 1);

    for (ngx_uint_t i = 0; i < n; i++) {
        ngx_connection_t *c = make_key(call, &peers[i].name) == NGX_OK ? ngx_http_sluice_pool_take(&call->key) : NULL;
        if (c != NULL) {
            call->dial.peer.name = &peers[i].name;
            return c;
        }
    }
    return NULL;
}

void ngx_http_sluice_call_connect(ngx_http_sluice_call_t *call) {
    ngx_connection_t *c;

    call->dial.to = &call->to;
    call->dial.scf = call->scf;
    call->dial.log = call->log;
    call->dial.verify_name = call->dial.server_name.len != 0 ? call->dial.server_name : call->to.host;
    call->dial.ready = dialled;
    call->dial.failed = not_dialled;
    call->dial.data = call;
    c = call->keep ? waiting(call) : NULL;
    if (c == NULL) {
        ngx_http_sluice_dial(&call->dial);
        return;
    }
    call->reused = 1;
    use(call, c);
}
