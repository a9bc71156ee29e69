/* HTTP/2 connections of gRPC calls: found or made, connected, read, written, ended. */
#include "ngx_http_sluice_grpc.h"

#define READ_BYTES 16384
#define READS_AT_ONCE 64      /* then others have their turn */
#define SESSIONS_PER_TARGET 8 /* when peers do not take as many streams as are asked for */
#define IDLE_MS 60000
#define SESSIONS_IDLE_MAX 256 /* more are closed as soon as they are idle */
#define KEEPALIVE_SECONDS 60

typedef ngx_http_sluice_grpc_session_t session_t;

static ngx_queue_t sessions = {&sessions, &sessions};
static ngx_uint_t n_sessions; /* in the list */

/* ---- the end --------------------------------------------------------------------------------------------------------------------- */

static void close_connection(session_t *s) {
    ngx_connection_t *c = s->connection;

    ngx_http_sluice_dial_cancel(&s->dial);
    if (c != NULL) {
        s->connection = NULL;
        ngx_http_sluice_connection_close(c);
    }
}

static void session_free(session_t *s) {
    n_sessions -= s->listed;
    ngx_queue_remove(&s->queue);
    ngx_http_sluice_target_cancel(&s->to);
    close_connection(s);
    if (s->run.posted) {
        ngx_delete_posted_event(&s->run);
    }
    if (s->idle.timer_set) {
        ngx_del_timer(&s->idle);
    }
    sl_grpc_free(s->http2);
    ngx_destroy_pool(s->pool);
}

void ngx_http_sluice_grpc_session_post(session_t *s) {
    ngx_post_event(&s->run, &ngx_posted_events);
}

/* Its calls are told from the run event: this may be called from inside of a guest. */
static void session_break(session_t *s, const char *why) {
    if (s->broken == NULL) {
        s->broken = why;
    }
    ngx_http_sluice_grpc_session_post(s);
}

static void log_broken(session_t *s) {
    ngx_uint_t level = sl_grpc_streams(s->http2) == 0 || s->scf->log_dispatch_errors == 0 ? NGX_LOG_INFO : NGX_LOG_ERR;

    ngx_log_error(level, s->log, 0, "[proxy-wasm] gRPC to %V%s%V: %s", &s->to.host, s->dial.peer.name != NULL ? " at " : "",
                  s->dial.peer.name != NULL ? s->dial.peer.name : &(ngx_str_t)ngx_null_string, s->broken);
}

/* ---- reading and writing --------------------------------------------------------------------------------------------------------- */

static void read_handler(ngx_event_t *rev) {
    ngx_connection_t *c = rev->data;
    session_t *s = c->data;
    u_char bytes[READ_BYTES];
    ssize_t n = 0;
    sl_err_t err;

    for (ngx_uint_t i = 0; i < READS_AT_ONCE && s->broken == NULL; i++) {
        n = c->recv(c, bytes, sizeof(bytes));
        if (n == NGX_AGAIN) {
            break;
        }
        if (n <= 0) {
            session_break(s, n == 0 ? "the peer has closed the connection" : "the connection was reset");
            return;
        }
        if (sl_grpc_feed(s->http2, bytes, (size_t)n, &err) != SL_OK) {
            ngx_log_error(NGX_LOG_INFO, s->log, 0, "[proxy-wasm] gRPC to %V: %s", &s->to.host, err.text);
            session_break(s, "the peer does not speak HTTP/2");
            return;
        }
    }
    if (n != NGX_AGAIN && s->broken == NULL) {
        ngx_post_event(rev, &ngx_posted_events); /* there may be more */
    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        session_break(s, "no event");
    }
    ngx_http_sluice_grpc_session_post(s);
}

static void write_all(session_t *s) {
    ngx_connection_t *c = s->connection;
    sl_str_t out;
    ssize_t n;

    for (;;) {
        if (sl_grpc_take(s->http2, &out, NULL) != SL_OK) {
            session_break(s, "the session failed");
            return;
        }
        if (out.len == 0) {
            break;
        }
        n = c->send(c, (u_char *)out.data, out.len);
        if (n == NGX_ERROR) {
            session_break(s, "cannot write");
            return;
        }
        if (n == NGX_AGAIN) {
            ngx_add_timer(c->write, s->scf->socket_send_timeout);
            if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
                session_break(s, "no event");
            }
            return;
        }
        sl_grpc_written(s->http2, (size_t)n);
    }
    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }
    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        session_break(s, "no event");
    }
}

static void idle_handler(ngx_event_t *event) {
    ngx_connection_t *shape = event->data;

    session_free(shape->data);
}

static void run_handler(ngx_event_t *event) {
    session_t *s = event->data;

    if (s->broken == NULL && s->connection != NULL) {
        write_all(s);
        if (s->broken == NULL && sl_grpc_over(s->http2)) {
            s->broken = "the session is over";
        }
    }
    if (s->broken != NULL) {
        log_broken(s);
        sl_grpc_lost(s->http2, s->broken);
        session_free(s);
        return;
    }
    if (sl_grpc_streams(s->http2) != 0) {
        if (s->idle.timer_set) {
            ngx_del_timer(&s->idle);
        }
        return;
    }
    if (!sl_grpc_usable(s->http2) || n_sessions > SESSIONS_IDLE_MAX) {
        session_free(s);
    } else if (!s->idle.timer_set) {
        ngx_add_timer(&s->idle, IDLE_MS);
    }
}

/* ---- connecting ------------------------------------------------------------------------------------------------------------------- */

static void write_handler(ngx_event_t *wev) {
    session_t *s = ((ngx_connection_t *)wev->data)->data;

    if (wev->timedout) {
        session_break(s, "timed out writing");
    } else {
        ngx_http_sluice_grpc_session_post(s);
    }
}

/* A peer that is silently gone is found out by the kernel: HTTP/2 pings are taken amiss by gRPC servers. */
static void set_keepalive(ngx_connection_t *c) {
    int on = 1, seconds = KEEPALIVE_SECONDS;

    (void)setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
#ifdef TCP_KEEPIDLE
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
#endif
}

static void dialled(ngx_http_sluice_dial_t *dial, ngx_connection_t *c) {
    session_t *s = dial->data;

    s->connection = c;
    if (dial->peer.sockaddr->sa_family != AF_UNIX) {
        set_keepalive(c);
    }
    c->data = s;
    c->read->handler = read_handler;
    c->write->handler = write_handler;
    ngx_http_sluice_grpc_session_post(s);
    ngx_post_event(c->read, &ngx_posted_events); /* settings may have come with the handshake */
}

static void not_dialled(ngx_http_sluice_dial_t *dial, ngx_http_sluice_dial_failure_e failure, const char *why) {
    session_break(dial->data, why);
}

static void session_connect(session_t *s) {
    s->dial.to = &s->to;
    s->dial.scf = s->scf;
    s->dial.log = s->log;
    s->dial.alpn = "h2";
    s->dial.timeout = s->scf->socket_connect_timeout;
    s->dial.ready = dialled;
    s->dial.failed = not_dialled;
    s->dial.data = s;
    ngx_http_sluice_dial(&s->dial);
}

static void target_found(ngx_http_sluice_target_t *to, const char *why) {
    if (why != NULL) {
        session_break(to->data, why);
    } else {
        session_connect(to->data);
    }
}

/* ---- finding ---------------------------------------------------------------------------------------------------------------------- */

static session_t *session_new(ngx_sluice_conf_t *scf) {
    ngx_pool_t *pool = ngx_create_pool(1024, ngx_cycle->log);
    session_t *s = pool != NULL ? ngx_pcalloc(pool, sizeof(session_t)) : NULL;
    ngx_connection_t *shape = s != NULL ? ngx_pcalloc(pool, sizeof(ngx_connection_t)) : NULL;

    if (shape == NULL || ngx_http_sluice_target_init(&s->to, pool) != NGX_OK) {
        if (pool != NULL) {
            ngx_destroy_pool(pool);
        }
        return NULL;
    }
    s->pool = pool;
    s->log = (ngx_log_t *)ngx_cycle->log;
    s->scf = scf;
    s->to.data = s;
    s->to.found = target_found;
    s->run.handler = run_handler;
    s->run.data = s;
    s->run.log = s->log;
    shape->fd = (ngx_socket_t)-1;
    shape->data = s;
    s->idle.handler = idle_handler;
    s->idle.data = shape;
    s->idle.log = s->log;
    s->idle.cancelable = 1;
    ngx_queue_init(&s->queue); /* in no list yet */
    return s;
}

/* The peer that would be asked first, or the host that has to be resolved; and what TLS depends on. */
static sl_status_t set_key(session_t *s, sl_status_t found) {
    ngx_http_sluice_peer_t *peers = s->to.peers.elts;
    ngx_str_t *peer = found == SL_OK && s->to.peers.nelts != 0 ? &peers[0].name : &s->to.host;
    ngx_str_t *name = s->to.tls ? &s->dial.verify_name : &(ngx_str_t)ngx_null_string;

    s->key.data = ngx_pnalloc(s->pool, peer->len + name->len + NGX_INT_T_LEN + 4);
    if (s->key.data == NULL) {
        return SL_NO_MEMORY;
    }
    s->key.len =
        (size_t)(ngx_sprintf(s->key.data, "%V %ui %ui %V", peer, found == SL_OK ? 0 : (ngx_uint_t)s->to.port, (ngx_uint_t)s->to.tls, name) -
                 s->key.data);
    return SL_OK;
}

static sl_status_t set_names(session_t *s, const pw_grpc_call_t *request) {
    sl_status_t rc = ngx_http_sluice_server_name(s->pool, request->authority, &s->dial.server_name);

    if (rc == SL_OK && s->dial.server_name.len == 0) {
        rc = ngx_http_sluice_server_name(s->pool, ngx_sluice_str(&s->to.host), &s->dial.server_name);
    }
    s->dial.verify_name = s->dial.server_name.len != 0 ? s->dial.server_name : s->to.host;
    return rc;
}

static session_t *find_session(const ngx_str_t *key) {
    session_t *best = NULL;
    ngx_uint_t n = 0;

    for (ngx_queue_t *q = ngx_queue_head(&sessions); q != ngx_queue_sentinel(&sessions); q = ngx_queue_next(q)) {
        session_t *s = ngx_queue_data(q, session_t, queue);
        if (s->broken != NULL || s->key.len != key->len || ngx_memcmp(s->key.data, key->data, key->len) != 0 || !sl_grpc_usable(s->http2)) {
            continue;
        }
        if (sl_grpc_room(s->http2)) {
            return s;
        }
        best = best == NULL || sl_grpc_streams(s->http2) < sl_grpc_streams(best->http2) ? s : best;
        n++;
    }
    return n < SESSIONS_PER_TARGET ? NULL : best; /* streams that the peer does not take yet wait in the session */
}

static sl_status_t start(session_t *s, ngx_http_sluice_ctx_t *ctx, sl_status_t found) {
    ngx_msec_t timeout;
    ngx_resolver_t *resolver = ngx_http_sluice_resolver(s->scf, ctx, &timeout);

    s->http2 = sl_grpc_new(&ngx_http_sluice_grpc_events, &(sl_grpc_limits_t){.shared = &s->scf->call_bytes});
    if (s->http2 == NULL) {
        return SL_NO_MEMORY;
    }
    if (found == SL_AGAIN) {
        return ngx_http_sluice_target_resolve(&s->to, resolver, timeout);
    }
    session_connect(s);
    return SL_OK;
}

sl_status_t ngx_http_sluice_grpc_session_get(ngx_sluice_conf_t *scf, ngx_http_sluice_ctx_t *ctx, const pw_grpc_call_t *request,
                                             session_t **out) {
    session_t *s = session_new(scf);
    sl_status_t rc, found;

    if (s == NULL) {
        return SL_NO_MEMORY;
    }
    s->to.tls = request->tls;
    found = ngx_http_sluice_target_find(&s->to, request->upstream, 0);
    rc = found == SL_AGAIN ? SL_OK : found == SL_INVALID ? SL_NOT_FOUND : found;
    if (rc == SL_OK) {
        rc = set_names(s, request) == SL_OK ? set_key(s, found) : SL_NO_MEMORY;
    }
    if (rc == SL_OK) {
        *out = find_session(&s->key);
        if (*out == NULL) {
            rc = start(s, ctx, found);
            if (rc == SL_OK) {
                ngx_queue_remove(&s->queue);
                ngx_queue_insert_tail(&sessions, &s->queue);
                s->listed = 1;
                n_sessions++;
                *out = s;
                return SL_OK;
            }
        }
    }
    session_free(s);
    return rc;
}

void ngx_http_sluice_grpc_stop(void) {
    while (!ngx_queue_empty(&sessions)) {
        session_free(ngx_queue_data(ngx_queue_head(&sessions), session_t, queue));
    }
}
