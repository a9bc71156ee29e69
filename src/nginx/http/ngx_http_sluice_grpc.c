/* gRPC calls: the operations of the seam, and what filters are told. */
#include "ngx_http_sluice_grpc.h"

#include "ngx_sluice_state.h"

/* ---- events ------------------------------------------------------------------------------------------------------------------------ */

static void call_free(ngx_http_sluice_grpc_call_t *call) {
    if (call->timeout.timer_set) {
        ngx_del_timer(&call->timeout);
    }
    ngx_free(call);
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
    ngx_sluice_call_note(call->session->scf, call->root, "grpc", what);
}

static void tell_closed(ngx_http_sluice_grpc_call_t *call, uint32_t status, sl_str_t text) {
    call->stream = NULL;
    call->telling = 1;
    if (call->timeout.timer_set) {
        ngx_del_timer(&call->timeout);
    }
    note(call, NGX_SLUICE_CALL_ENDED);
    if (status != SL_GRPC_OK) {
        note(call, NGX_SLUICE_CALL_FAILED);
    }
    pw_grpc_closed(call->root, call->token, status, text);
    call_free(call);
}

static void on_closed(void *user, uint32_t status, sl_str_t text, bool unprocessed) {
    tell_closed(user, status, text);
}

const sl_grpc_events_t ngx_http_sluice_grpc_events = {.metadata = on_metadata, .message = on_message, .closed = on_closed};

static void timeout_handler(ngx_event_t *event) {
    ngx_connection_t *shape = event->data;
    ngx_http_sluice_grpc_call_t *call = shape->data;

    sl_grpc_reset(call->stream);
    ngx_http_sluice_grpc_session_post(call->session);
    tell_closed(call, SL_GRPC_DEADLINE_EXCEEDED, SL_STR("the call's time is over"));
}

/* ---- operations -------------------------------------------------------------------------------------------------------------------- */

static ngx_http_sluice_grpc_call_t *call_new(ngx_http_sluice_grpc_session_t *session, const pw_grpc_call_t *request) {
    ngx_http_sluice_grpc_call_t *call = ngx_calloc(sizeof(ngx_http_sluice_grpc_call_t), session->log);

    if (call == NULL) {
        return NULL;
    }
    call->session = session;
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
        ngx_free(call);
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
        return SL_INVALID;
    }
    rc = sl_grpc_send(call->stream, message);
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
    sl_grpc_reset(call->stream);
    ngx_http_sluice_grpc_session_post(call->session);
    call_free(call);
}
