/* Requests to Redis: the operations of the seam, and what filters are told. */
#include "ngx_http_sluice_redis.h"

#include "ngx_sluice_state.h"

#define OUT_BYTES_MAX (64 * 1024 * 1024)
#define RESPONSE_BYTES_MAX (64 * 1024 * 1024)
#define CALLS_PER_CONNECTION 16384

typedef ngx_http_sluice_redis_call_t call_t;
typedef ngx_http_sluice_redis_conn_t conn_t;

static void call_free(call_t *call) {
    ngx_queue_remove(&call->queue);
    call->conn->n_calls--;
    if (call->timeout.timer_set) {
        ngx_del_timer(&call->timeout);
    }
    sl_buf_deinit(&call->response);
    ngx_free(call);
}

static void note(const call_t *call, ngx_sluice_call_note_e what, const char *reason) {
    ngx_sluice_call_note(call->conn->scf, call->root, "redis", what, reason);
}

/* failure NULL: there is an answer. */
static void tell(call_t *call, sl_str_t response, const char *failure) {
    pw_root_t *root = call->root;

    if (root == NULL) {
        return;
    }
    note(call, NGX_SLUICE_CALL_ENDED, NULL);
    if (failure != NULL) {
        note(call, NGX_SLUICE_CALL_FAILED, failure);
    }
    call->root = NULL;
    pw_redis_done(root, call->token, response);
}

/* What the guest does from inside leaves the call alone: it has no root then. */
static void finish(call_t *call, sl_str_t response, const char *failure) {
    tell(call, response, failure);
    call_free(call);
}

static call_t *first(conn_t *conn) {
    return ngx_queue_data(ngx_queue_head(&conn->calls), call_t, queue);
}

void ngx_http_sluice_redis_answered(conn_t *conn) {
    call_t *call = first(conn);
    sl_str_t answer = sl_buf_str(&conn->in.bytes);

    if (--call->answers == 0 && call->response.len == 0) {
        finish(call, answer, NULL); /* the one answer goes on as it came */
        return;
    }
    if (call->root != NULL) {
        (void)sl_buf_append_str(&call->response, answer);
    }
    if (call->answers == 0) {
        bool failed = call->response.failed;
        finish(call, failed ? SL_STR_NULL : sl_buf_str(&call->response), failed ? NGX_SLUICE_CALL_NO_ROOM : NULL);
    }
}

void ngx_http_sluice_redis_failed(conn_t *conn) {
    while (!ngx_queue_empty(&conn->calls)) {
        finish(first(conn), SL_STR_NULL, conn->reason);
    }
}

static void timeout_handler(ngx_event_t *event) {
    ngx_connection_t *shape = event->data;
    call_t *call = shape->data;
    pw_root_t *root = call->root;

    if (!call->quiet) {
        ngx_log_error(NGX_LOG_ERR, call->conn->log, 0, "[proxy-wasm] Redis at %V: \"%*s\" waited too long for an answer",
                      &call->conn->to.host, pw_filter_name(pw_root_filter(root)).len, pw_filter_name(pw_root_filter(root)).data);
    }
    call->conn->late = 1;
    ngx_http_sluice_redis_conn_post(call->conn);
    tell(call, SL_STR_NULL, "timeout"); /* its place in the order stays */
}

/* ---- operations ---------------------------------------------------------------------------------------------------------------------- */

static call_t *call_new(conn_t *conn, const pw_redis_call_t *request) {
    call_t *call = ngx_calloc(sizeof(call_t), conn->log);

    if (call == NULL) {
        return NULL;
    }
    call->conn = conn;
    call->root = request->root;
    call->token = request->token;
    call->answers = request->n_commands;
    call->quiet = conn->scf->log_dispatch_errors == 0;
    sl_buf_init_under(&call->response, RESPONSE_BYTES_MAX, &conn->scf->call_bytes);
    call->shape.fd = (ngx_socket_t)-1;
    call->shape.data = call;
    call->timeout.handler = timeout_handler;
    call->timeout.data = &call->shape;
    call->timeout.log = conn->log;
    return call;
}

/* What has been written is let go of, when it is more than what has not. */
static sl_status_t put_request(conn_t *conn, sl_str_t query) {
    if (conn->hello == 0 && conn->written > conn->out.len / 2) {
        (void)sl_buf_splice(&conn->out, 0, conn->written, NULL, 0);
        conn->written = 0;
    }
    if (query.len > OUT_BYTES_MAX - conn->out.len) {
        return SL_AGAIN;
    }
    if (sl_buf_append_str(&conn->out, query) != SL_OK) {
        conn->out.failed = 0; /* what stands in it is whole */
        return SL_NO_MEMORY;
    }
    return SL_OK;
}

sl_status_t ngx_http_sluice_redis_call(void *worker, void *stream, const pw_redis_call_t *request, void **handle) {
    conn_t *conn;
    call_t *call;
    sl_status_t rc = ngx_http_sluice_redis_conn_get(worker, stream, request, &conn);

    if (rc != SL_OK) {
        return rc;
    }
    ngx_http_sluice_redis_conn_post(conn); /* also when this fails: a new one has to be looked after */
    if (conn->n_calls >= CALLS_PER_CONNECTION) {
        return SL_AGAIN;
    }
    call = call_new(conn, request);
    if (call == NULL) {
        return SL_NO_MEMORY;
    }
    rc = put_request(conn, request->query);
    if (rc != SL_OK) {
        ngx_free(call);
        ngx_sluice_call_refused(worker, request->root, "redis");
        return rc;
    }
    ngx_queue_insert_tail(&conn->calls, &call->queue);
    conn->n_calls++;
    if (request->timeout_ms != 0) {
        ngx_add_timer(&call->timeout, request->timeout_ms);
    }
    note(call, NGX_SLUICE_CALL_STARTED, NULL);
    *handle = call;
    return SL_OK;
}

/* The request has been sent, or stands among others: its answer is dropped when it comes. */
void ngx_http_sluice_redis_cancel(void *worker, void *handle) {
    call_t *call = handle;

    note(call, NGX_SLUICE_CALL_ENDED, NULL);
    note(call, NGX_SLUICE_CALL_DROPPED, NULL);
    call->root = NULL;
    if (call->timeout.timer_set) {
        ngx_del_timer(&call->timeout);
    }
    call->conn->late |= call->conn->exclusive;
    ngx_http_sluice_redis_conn_post(call->conn);
}
