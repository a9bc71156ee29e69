/* Connections to Redis: found or made, connected, greeted, read, written, ended. */
#include "ngx_http_sluice_redis.h"

#include "ngx_sluice_state.h"
#include "sl_digest.h"

#define PORT 6379
#define READ_BYTES 16384
#define READS_AT_ONCE 64 /* then others have their turn */
#define CONNECTIONS_PER_KEY 32
#define CONNECTIONS_MAX 512
#define IDLE_MS 60000
#define ANSWER_BYTES_MAX (64 * 1024 * 1024)
#define OUT_BYTES_MAX (64 * 1024 * 1024)
#define KEEP_BYTES (16 * 1024) /* of a buffer that is empty */

typedef ngx_http_sluice_redis_conn_t conn_t;
typedef ngx_http_sluice_redis_call_t call_t;

static ngx_queue_t conns = {&conns, &conns};
static ngx_uint_t n_conns;

/* ---- the end --------------------------------------------------------------------------------------------------------------------- */

/* The password has stood in it. */
static void forget_greeting(conn_t *conn) {
    if (conn->greeting.len != 0) {
        explicit_bzero(conn->greeting.data, conn->greeting.len);
    }
    sl_buf_deinit(&conn->greeting);
}

static void conn_free(conn_t *conn) {
    ngx_queue_remove(&conn->queue);
    n_conns--;
    ngx_http_sluice_redis_failed(conn); /* nobody waits for those that are left */
    ngx_http_sluice_target_cancel(&conn->to);
    ngx_http_sluice_dial_cancel(&conn->dial);
    if (conn->connection != NULL) {
        ngx_http_sluice_connection_close(conn->connection);
    }
    if (conn->run.posted) {
        ngx_delete_posted_event(&conn->run);
    }
    if (conn->idle.timer_set) {
        ngx_del_timer(&conn->idle);
    }
    forget_greeting(conn);
    sl_buf_deinit(&conn->out);
    sl_resp_deinit(&conn->in);
    ngx_destroy_pool(conn->pool);
}

void ngx_http_sluice_redis_stop(void) {
    while (!ngx_queue_empty(&conns)) {
        conn_free(ngx_queue_data(ngx_queue_head(&conns), conn_t, queue));
    }
}

void ngx_http_sluice_redis_conn_post(conn_t *conn) {
    ngx_post_event(&conn->run, &ngx_posted_events);
}

/* Its calls are told from the run event: this may be called from inside of a guest. */
static void conn_break_for(conn_t *conn, const char *reason, const char *why) {
    if (conn->broken == NULL) {
        conn->broken = why;
        conn->reason = reason;
    }
    ngx_http_sluice_redis_conn_post(conn);
}

static void conn_break(conn_t *conn, const char *why) {
    conn_break_for(conn, "broken connection", why);
}

static ngx_uint_t is_awaited(conn_t *conn) {
    for (ngx_queue_t *q = ngx_queue_head(&conn->calls); q != ngx_queue_sentinel(&conn->calls); q = ngx_queue_next(q)) {
        call_t *call = ngx_queue_data(q, call_t, queue);
        if (call->root != NULL) {
            return 1;
        }
    }
    return 0;
}

static void log_broken(conn_t *conn) {
    ngx_uint_t level = !is_awaited(conn) || conn->scf->log_dispatch_errors == 0 ? NGX_LOG_INFO : NGX_LOG_ERR;

    ngx_log_error(level, conn->log, 0, "[proxy-wasm] Redis at %V: %s", &conn->to.host, conn->broken);
}

/* ---- reading ----------------------------------------------------------------------------------------------------------------------- */

static void greeted(conn_t *conn) {
    if (conn->in.error) {
        sl_str_t text = sl_buf_str(&conn->in.bytes);
        ngx_log_error(NGX_LOG_INFO, conn->log, 0, "[proxy-wasm] Redis at %V answers: %*s", &conn->to.host,
                      text.len < 2         ? (size_t)0
                      : text.len - 2 > 200 ? (size_t)200
                                           : text.len - 2,
                      text.data);
        conn_break_for(conn, "login refused", "user, password or database are refused");
        return;
    }
    if (--conn->hello == 0) {
        conn->written = 0;
        forget_greeting(conn);
    }
}

/* Answers are told while bytes are read; calls that guests make from inside are written afterwards. */
static void take(conn_t *conn, const u_char *bytes, size_t len) {
    uint64_t refused = conn->scf->call_bytes.refused;
    size_t used;
    sl_status_t rc;

    while (len != 0 && conn->broken == NULL) {
        rc = sl_resp_feed(&conn->in, bytes, len, &used);
        bytes += used;
        len -= used;
        if (rc == SL_AGAIN) {
            return;
        }
        if (rc != SL_OK) {
            conn_break_for(conn, conn->scf->call_bytes.refused != refused ? NGX_SLUICE_CALL_NO_ROOM : "reader failure", conn->in.broken);
            return;
        }
        if (conn->in.push) {
            sl_resp_next(&conn->in);
            continue;
        }
        if (conn->hello != 0) {
            greeted(conn);
        } else if (ngx_queue_empty(&conn->calls)) {
            conn_break(conn, "an answer to nothing");
        } else {
            ngx_http_sluice_redis_answered(conn);
        }
        sl_resp_next(&conn->in);
    }
}

static void read_handler(ngx_event_t *rev) {
    ngx_connection_t *c = rev->data;
    conn_t *conn = c->data;
    u_char bytes[READ_BYTES];
    ssize_t n = 0;

    for (ngx_uint_t i = 0; i < READS_AT_ONCE && conn->broken == NULL; i++) {
        n = c->recv(c, bytes, sizeof(bytes));
        if (n == NGX_AGAIN) {
            break;
        }
        if (n <= 0) {
            conn_break(conn, n == 0 ? "the server has closed the connection" : "the connection was reset");
            return;
        }
        take(conn, bytes, (size_t)n);
    }
    if (n != NGX_AGAIN && conn->broken == NULL) {
        ngx_post_event(rev, &ngx_posted_events); /* there may be more */
    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        conn_break(conn, "no event");
    }
    ngx_http_sluice_redis_conn_post(conn);
}

/* ---- writing ----------------------------------------------------------------------------------------------------------------------- */

static void write_all(conn_t *conn) {
    ngx_connection_t *c = conn->connection;
    sl_buf_t *out = conn->hello != 0 ? &conn->greeting : &conn->out;
    ssize_t n;

    while (conn->written < out->len) {
        n = c->send(c, (u_char *)out->data + conn->written, out->len - conn->written);
        if (n == NGX_ERROR) {
            conn_break(conn, "cannot write");
            return;
        }
        if (n == NGX_AGAIN) {
            ngx_add_timer(c->write, conn->scf->socket_send_timeout);
            if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
                conn_break(conn, "no event");
            }
            return;
        }
        conn->written += (size_t)n;
    }
    if (conn->hello == 0) {
        if (out->cap > KEEP_BYTES) {
            sl_buf_deinit(out);
        }
        sl_buf_reset(out);
        conn->written = 0;
    }
    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }
    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        conn_break(conn, "no event");
    }
}

static void write_handler(ngx_event_t *wev) {
    ngx_connection_t *c = wev->data;
    conn_t *conn = c->data;

    if (wev->timedout) {
        conn_break_for(conn, "timeout", "timed out writing");
    } else {
        ngx_http_sluice_redis_conn_post(conn);
    }
}

/* ---- what has to be done ------------------------------------------------------------------------------------------------------------ */

static void idle_handler(ngx_event_t *event) {
    ngx_connection_t *shape = event->data;
    conn_t *conn = shape->data;

    if (conn->n_calls == 0) {
        conn_free(conn);
    }
}

static void run_handler(ngx_event_t *event) {
    conn_t *conn = event->data;

    if (conn->broken == NULL && conn->connection != NULL) {
        write_all(conn);
    }
    if (conn->broken != NULL) {
        log_broken(conn);
        ngx_http_sluice_redis_failed(conn);
        conn_free(conn);
        return;
    }
    if (conn->late && !is_awaited(conn)) {
        conn_free(conn);
        return;
    }
    if (conn->n_calls != 0) {
        if (conn->idle.timer_set) {
            ngx_del_timer(&conn->idle);
        }
    } else if (!conn->idle.timer_set) {
        ngx_add_timer(&conn->idle, IDLE_MS);
    }
}

/* ---- connecting ------------------------------------------------------------------------------------------------------------------- */

static void dialled(ngx_http_sluice_dial_t *dial, ngx_connection_t *c) {
    conn_t *conn = dial->data;

    conn->connection = c;
    c->data = conn;
    c->read->handler = read_handler;
    c->write->handler = write_handler;
    ngx_http_sluice_redis_conn_post(conn);
    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        conn_break(conn, "no event");
    }
}

static void not_dialled(ngx_http_sluice_dial_t *dial, ngx_http_sluice_dial_failure_e failure, const char *why) {
    static const char *const reasons[] = {"timeout", "broken connection", "tls handshake failure"};

    conn_break_for(dial->data, reasons[failure], why);
}

static void conn_connect(conn_t *conn) {
    conn->dial.to = &conn->to;
    conn->dial.scf = conn->scf;
    conn->dial.log = conn->log;
    conn->dial.timeout = conn->scf->socket_connect_timeout;
    conn->dial.ready = dialled;
    conn->dial.failed = not_dialled;
    conn->dial.data = conn;
    conn->dial.verify_name = conn->dial.server_name.len != 0 ? conn->dial.server_name : conn->to.host;
    ngx_http_sluice_dial(&conn->dial);
}

static void target_found(ngx_http_sluice_target_t *to, const char *why) {
    if (why != NULL) {
        conn_break_for(to->data, "resolver failure", why);
    } else {
        conn_connect(to->data);
    }
}

/* ---- finding ---------------------------------------------------------------------------------------------------------------------- */

/* Who may not share a connection has another key. */
static sl_status_t make_key(const pw_redis_call_t *request, u_char digest[32]) {
    sl_str_t parts[] = {request->upstream, request->username, request->password, sl_str(&request->database, sizeof(request->database)),
                        sl_str(&request->tls, sizeof(request->tls))};
    sl_buf_t text;
    sl_status_t rc;

    sl_buf_init(&text, 65536);
    for (ngx_uint_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        (void)sl_buf_append(&text, &parts[i].len, sizeof(parts[i].len));
        (void)sl_buf_append_str(&text, parts[i]);
    }
    rc = text.failed ? SL_NO_MEMORY : SL_OK;
    if (rc == SL_OK) {
        rc = sl_sha256(sl_buf_str(&text), digest);
        explicit_bzero(text.data, text.len);
    }
    sl_buf_deinit(&text);
    return rc;
}

static sl_status_t put_greeting(conn_t *conn, const pw_redis_call_t *request) {
    sl_str_t auth[3] = {SL_STR("AUTH"), request->username, request->password};
    char number[16];
    sl_str_t select[2] = {SL_STR("SELECT"), sl_str(number, (size_t)snprintf(number, sizeof(number), "%u", request->database))};

    if (request->password.len != 0 || request->username.len != 0) {
        if (request->username.len == 0) {
            auth[1] = request->password;
        }
        (void)sl_resp_write_command(&conn->greeting, auth, request->username.len == 0 ? 2 : 3);
        conn->hello++;
    }
    if (request->database != 0) {
        (void)sl_resp_write_command(&conn->greeting, select, 2);
        conn->hello++;
    }
    return conn->greeting.failed ? SL_NO_MEMORY : SL_OK;
}

static conn_t *conn_new(ngx_sluice_conf_t *scf) {
    ngx_pool_t *pool = ngx_create_pool(1024, ngx_cycle->log);
    conn_t *conn = pool != NULL ? ngx_pcalloc(pool, sizeof(conn_t)) : NULL;
    ngx_connection_t *shape = conn != NULL ? ngx_pcalloc(pool, sizeof(ngx_connection_t)) : NULL;

    if (shape == NULL || ngx_http_sluice_target_init(&conn->to, pool) != NGX_OK) {
        if (pool != NULL) {
            ngx_destroy_pool(pool);
        }
        return NULL;
    }
    conn->pool = pool;
    conn->log = (ngx_log_t *)ngx_cycle->log;
    conn->scf = scf;
    conn->reason = "broken connection";
    conn->to.data = conn;
    conn->to.found = target_found;
    ngx_queue_init(&conn->calls);
    sl_buf_init(&conn->greeting, 65536);
    sl_buf_init_under(&conn->out, OUT_BYTES_MAX, &scf->call_bytes);
    sl_resp_init(&conn->in, ANSWER_BYTES_MAX, &scf->call_bytes);
    conn->run.handler = run_handler;
    conn->run.data = conn;
    conn->run.log = conn->log;
    shape->fd = (ngx_socket_t)-1;
    shape->data = conn;
    conn->idle.handler = idle_handler;
    conn->idle.data = shape;
    conn->idle.log = conn->log;
    conn->idle.cancelable = 1;
    ngx_queue_insert_tail(&conns, &conn->queue);
    n_conns++;
    return conn;
}

static ngx_uint_t takes(const conn_t *conn, const pw_redis_call_t *request) {
    if (conn->broken != NULL || conn->late) {
        return 0;
    }
    return request->blocks ? conn->exclusive && conn->n_calls == 0 : !conn->exclusive;
}

static conn_t *find(const u_char digest[32], const pw_redis_call_t *request, ngx_uint_t *n) {
    *n = 0;
    for (ngx_queue_t *q = ngx_queue_head(&conns); q != ngx_queue_sentinel(&conns); q = ngx_queue_next(q)) {
        conn_t *conn = ngx_queue_data(q, conn_t, queue);
        if (conn->key.len != 32 || ngx_memcmp(conn->key.data, digest, 32) != 0) {
            continue;
        }
        if (takes(conn, request)) {
            return conn;
        }
        ++*n;
    }
    return NULL;
}

static sl_status_t start(conn_t *conn, ngx_http_sluice_ctx_t *ctx, const pw_redis_call_t *request) {
    ngx_msec_t timeout;
    ngx_resolver_t *resolver = ngx_http_sluice_resolver(conn->scf, ctx, &timeout);
    sl_status_t rc = put_greeting(conn, request);

    if (rc != SL_OK) {
        return rc;
    }
    conn->exclusive = request->blocks;
    conn->to.tls = request->tls;
    rc = ngx_http_sluice_target_find(&conn->to, request->upstream, PORT);
    if (rc == SL_OK || rc == SL_AGAIN) {
        sl_status_t named = ngx_http_sluice_server_name(conn->pool, ngx_sluice_str(&conn->to.host), &conn->dial.server_name);
        if (named != SL_OK) {
            return named;
        }
    }
    if (rc == SL_AGAIN) {
        return ngx_http_sluice_target_resolve(&conn->to, resolver, timeout);
    }
    if (rc == SL_OK) {
        conn_connect(conn);
    }
    return rc;
}

sl_status_t ngx_http_sluice_redis_conn_get(ngx_sluice_conf_t *scf, ngx_http_sluice_ctx_t *ctx, const pw_redis_call_t *request,
                                           conn_t **out) {
    u_char digest[32];
    ngx_str_t key = {32, digest};
    ngx_uint_t n;
    conn_t *conn;
    sl_status_t rc = make_key(request, digest);

    if (rc != SL_OK) {
        return rc;
    }
    *out = find(digest, request, &n);
    if (*out != NULL) {
        return SL_OK;
    }
    if (n >= CONNECTIONS_PER_KEY || n_conns >= CONNECTIONS_MAX) {
        return SL_AGAIN;
    }
    conn = conn_new(scf);
    if (conn == NULL) {
        return SL_NO_MEMORY;
    }
    rc = ngx_http_sluice_copy(conn->pool, ngx_sluice_str(&key), &conn->key) == SL_OK ? start(conn, ctx, request) : SL_NO_MEMORY;
    if (rc != SL_OK) {
        conn_free(conn);
        return rc;
    }
    *out = conn;
    return SL_OK;
}
