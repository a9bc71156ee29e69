/* gRPC calls: the operations of the seam, and what filters are told. */
#include "ngx_http_sluice_grpc.h"

#include "ngx_sluice_state.h"

#define AGAIN_BYTES_MAX (256 * 1024)

/* ---- events ------------------------------------------------------------------------------------------------------------------------ */

static void call_free(ngx_http_sluice_grpc_call_t *call) {
    if (call->timeout.posted) {
        ngx_delete_posted_event(&call->timeout);
    }
    if (call->timeout.timer_set) {
        ngx_del_timer(&call->timeout);
    }
    sl_ceiling_give(&call->session->scf->call_bytes, call->held);
    ngx_destroy_pool(call->pool);
}

static void on_metadata(void *user, bool trailing, const sl_grpc_field_t *fields, size_t n) {
    ngx_http_sluice_grpc_call_t *call = user;
    pw_pair_t pairs[SL_GRPC_FIELDS_MAX];

    for (size_t i = 0; i < n; i++) {
        pairs[i] = (pw_pair_t){fields[i].name, fields[i].value};
    }
    /* The filter may cancel the call from inside of this. */
    if (trailing) {
        pw_grpc_trailing_metadata(call->root, call->token, pairs, n);
    } else {
        pw_grpc_initial_metadata(call->root, call->token, pairs, n);
    }
}

static void on_message(void *user, sl_str_t message) {
    ngx_http_sluice_grpc_call_t *call = user;

    pw_grpc_message(call->root, call->token, message);
}

static void note(ngx_http_sluice_grpc_call_t *call, ngx_sluice_call_note_e what) {
    ngx_sluice_call_note(call->session->scf, call->root, "grpc", what, NULL);
}

static void note_failure(const ngx_http_sluice_grpc_call_t *call, uint32_t status) {
    char reason[32];

    if (status == SL_GRPC_OK) {
        return;
    }
    (void)snprintf(reason, sizeof(reason), "status %u", status);
    ngx_sluice_call_note(call->session->scf, call->root, "grpc", NGX_SLUICE_CALL_FAILED,
                         status == SL_GRPC_DEADLINE_EXCEEDED ? "timeout"
                         : status == SL_GRPC_UNAVAILABLE     ? "broken connection"
                                                             : reason);
}

static void tell_closed(ngx_http_sluice_grpc_call_t *call, uint32_t status, sl_str_t text) {
    call->stream = NULL;
    call->telling = 1;
    if (call->timeout.timer_set) {
        ngx_del_timer(&call->timeout);
    }
    note(call, NGX_SLUICE_CALL_ENDED);
    note_failure(call, status);
    pw_grpc_closed(call->root, call->token, status, text);
    call_free(call);
}

static sl_status_t open_stream(ngx_http_sluice_grpc_call_t *call, const pw_grpc_call_t *request);

/* Once, on another connection or the same: a server that restarts says so while requests are on their way. */
static ngx_uint_t ask_again(ngx_http_sluice_grpc_call_t *call) {
    const pw_grpc_call_t *request = call->again;
    ngx_http_sluice_grpc_session_t *session;

    call->again = NULL;
    if (ngx_http_sluice_grpc_session_get(call->session->scf, NULL, request, &session) != SL_OK) {
        return 0;
    }
    call->session = session;
    ngx_http_sluice_grpc_session_post(session);
    return open_stream(call, request) == SL_OK;
}

static void on_closed(void *user, uint32_t status, sl_str_t text, bool unprocessed) {
    ngx_http_sluice_grpc_call_t *call = user;

    call->stream = NULL;
    if (unprocessed && call->again != NULL && call->session->connection != NULL && ask_again(call)) {
        return;
    }
    tell_closed(call, status, text);
}

const sl_grpc_events_t ngx_http_sluice_grpc_events = {.metadata = on_metadata, .message = on_message, .closed = on_closed};

/* The time is over, or it was posted by send. */
static void timeout_handler(ngx_event_t *event) {
    ngx_connection_t *shape = event->data;
    ngx_http_sluice_grpc_call_t *call = shape->data;

    if (call->full) {
        tell_closed(call, SL_GRPC_RESOURCE_EXHAUSTED, SL_STR("too much waits to be sent"));
        return;
    }
    sl_grpc_reset(call->stream);
    ngx_http_sluice_grpc_session_post(call->session);
    tell_closed(call, SL_GRPC_DEADLINE_EXCEEDED, SL_STR("the call's time is over"));
}

/* ---- operations -------------------------------------------------------------------------------------------------------------------- */

static ngx_int_t copy(ngx_pool_t *pool, sl_str_t *s) {
    char *data = ngx_pnalloc(pool, s->len + 1);

    if (data == NULL) {
        return NGX_ERROR;
    }
    if (s->len != 0) {
        ngx_memcpy(data, s->data, s->len);
    }
    s->data = data;
    return NGX_OK;
}

static ngx_int_t copy_metadata(ngx_pool_t *pool, pw_grpc_call_t *request) {
    pw_pair_t *pairs = ngx_palloc(pool, (request->n_metadata + 1) * sizeof(pw_pair_t));

    if (pairs == NULL) {
        return NGX_ERROR;
    }
    for (size_t i = 0; i < request->n_metadata; i++) {
        pairs[i] = request->metadata[i];
        if (copy(pool, &pairs[i].key) != NGX_OK || copy(pool, &pairs[i].value) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    request->metadata = pairs;
    return NGX_OK;
}

/* A copy of a unary call whose message is not large; *kept stays NULL for others. */
static ngx_int_t keep(ngx_pool_t *pool, const pw_grpc_call_t *request, pw_grpc_call_t **kept) {
    pw_grpc_call_t *c;

    if (!request->unary || request->message.len > AGAIN_BYTES_MAX) {
        return NGX_OK;
    }
    c = ngx_palloc(pool, sizeof(pw_grpc_call_t));
    if (c == NULL) {
        return NGX_ERROR;
    }
    *c = *request;
    if (copy(pool, &c->upstream) != NGX_OK || copy(pool, &c->authority) != NGX_OK || copy(pool, &c->service) != NGX_OK ||
        copy(pool, &c->method) != NGX_OK || copy(pool, &c->message) != NGX_OK || copy_metadata(pool, c) != NGX_OK) {
        return NGX_ERROR;
    }
    *kept = c;
    return NGX_OK;
}

/* What a call keeps beside the messages on their way: nghttp2 its headers, this side what it needs to ask again. */
static size_t bytes_of(const pw_grpc_call_t *request) {
    size_t n = request->service.len + request->method.len + request->authority.len;

    for (size_t i = 0; i < request->n_metadata; i++) {
        n += request->metadata[i].key.len + request->metadata[i].value.len;
    }
    return n + (request->unary && request->message.len <= AGAIN_BYTES_MAX ? n + request->message.len : 0);
}

static ngx_http_sluice_grpc_call_t *call_new(ngx_http_sluice_grpc_session_t *session, const pw_grpc_call_t *request) {
    sl_ceiling_t *ceiling = &session->scf->call_bytes;
    ngx_uint_t room = sl_ceiling_take(ceiling, bytes_of(request));
    ngx_pool_t *pool = room ? ngx_create_pool(1024, session->log) : NULL;
    ngx_http_sluice_grpc_call_t *call = pool != NULL ? ngx_pcalloc(pool, sizeof(ngx_http_sluice_grpc_call_t)) : NULL;

    if (call == NULL || (keep(pool, request, &call->again) != NGX_OK)) {
        if (pool != NULL) {
            ngx_destroy_pool(pool);
        }
        sl_ceiling_give(ceiling, room ? bytes_of(request) : 0);
        return NULL;
    }
    call->pool = pool;
    call->session = session;
    call->held = bytes_of(request);
    call->root = request->root;
    call->token = request->token;
    call->shape.fd = (ngx_socket_t)-1;
    call->shape.data = call;
    call->timeout.handler = timeout_handler;
    call->timeout.data = &call->shape;
    call->timeout.log = session->log;
    return call;
}

static sl_status_t open_stream(ngx_http_sluice_grpc_call_t *call, const pw_grpc_call_t *request) {
    sl_grpc_field_t *fields = ngx_alloc((request->n_metadata + 1) * sizeof(sl_grpc_field_t), call->session->log);
    sl_grpc_request_t r = {.https = call->session->to.tls,
                           .authority = request->authority.len != 0 ? request->authority : request->upstream,
                           .service = request->service,
                           .method = request->method,
                           .metadata = fields,
                           .n_metadata = request->n_metadata,
                           .timeout_ms = request->timeout_ms};
    sl_status_t rc;

    if (fields == NULL) {
        return SL_NO_MEMORY;
    }
    for (size_t i = 0; i < request->n_metadata; i++) {
        fields[i] = (sl_grpc_field_t){request->metadata[i].key, request->metadata[i].value};
    }
    rc = sl_grpc_open(call->session->http2, &r, call, &call->stream);
    ngx_free(fields);
    if (rc == SL_OK && request->unary) {
        rc = sl_grpc_send(call->stream, request->message);
        sl_grpc_finish(call->stream);
        if (rc != SL_OK) {
            sl_grpc_reset(call->stream);
        }
    }
    return rc;
}

sl_status_t ngx_http_sluice_grpc_open(void *worker, void *stream, const pw_grpc_call_t *request, void **handle) {
    ngx_http_sluice_grpc_session_t *session;
    ngx_http_sluice_grpc_call_t *call;
    sl_status_t rc = ngx_http_sluice_grpc_session_get(worker, stream, request, &session);

    if (rc != SL_OK) {
        return rc;
    }
    call = call_new(session, request);
    rc = call != NULL ? open_stream(call, request) : SL_NO_MEMORY;
    ngx_http_sluice_grpc_session_post(session); /* also when this failed: a new session has to be looked after */
    if (rc != SL_OK) {
        if (call != NULL) {
            call_free(call);
        }
        if (rc == SL_NO_MEMORY) {
            ngx_sluice_call_refused(worker, request->root, "grpc");
        }
        return rc == SL_INVALID ? SL_INVALID : SL_FAILED;
    }
    if (request->timeout_ms != 0) {
        ngx_add_timer(&call->timeout, request->timeout_ms);
    }
    note(call, NGX_SLUICE_CALL_STARTED);
    *handle = call;
    return SL_OK;
}

sl_status_t ngx_http_sluice_grpc_send(void *worker, void *handle, sl_str_t message) {
    ngx_http_sluice_grpc_call_t *call = handle;
    sl_status_t rc;

    if (call->stream == NULL) {
        return SL_OK; /* it has ended, or will be told so */
    }
    rc = sl_grpc_send(call->stream, message);
    if (rc == SL_AGAIN || rc == SL_NO_MEMORY) {
        sl_grpc_reset(call->stream);
        call->stream = NULL;
        call->full = 1;
        ngx_post_event(&call->timeout, &ngx_posted_events);
        rc = SL_AGAIN;
    }
    ngx_http_sluice_grpc_session_post(call->session);
    return rc;
}

void ngx_http_sluice_grpc_finish(void *worker, void *handle) {
    ngx_http_sluice_grpc_call_t *call = handle;

    if (call->stream != NULL) {
        sl_grpc_finish(call->stream);
        ngx_http_sluice_grpc_session_post(call->session);
    }
}

void ngx_http_sluice_grpc_cancel(void *worker, void *handle) {
    ngx_http_sluice_grpc_call_t *call = handle;

    if (call->telling) {
        return; /* tell_closed frees it */
    }
    note(call, NGX_SLUICE_CALL_ENDED);
    note(call, NGX_SLUICE_CALL_DROPPED);
    if (call->stream != NULL) {
        sl_grpc_reset(call->stream);
    }
    ngx_http_sluice_grpc_session_post(call->session);
    call_free(call);
}
