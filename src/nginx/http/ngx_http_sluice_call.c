/* The life of a call, and how its end is told to the filter. */
#include "ngx_http_sluice_call.h"

#include "ngx_sluice_state.h"

#define HEAD_BYTES_MAX (64 * 1024)
#define BODY_BYTES_MAX (64 * 1024 * 1024)
#define POOL_BYTES 2048

static ngx_queue_t calls = {&calls, &calls};

/* ---- the end ---------------------------------------------------------------------------------------------------------------------- */

static void call_free(ngx_http_sluice_call_t *call) {
    ngx_queue_remove(&call->queue);
    ngx_http_sluice_call_close(call);
    ngx_http_sluice_target_cancel(&call->to);
    if (call->timeout.timer_set) {
        ngx_del_timer(&call->timeout);
    }
    if (call->done.posted) {
        ngx_delete_posted_event(&call->done);
    }
    sl_buf_deinit(&call->request);
    sl_http1_deinit(&call->response);
    ngx_destroy_pool(call->pool);
}

static void finish(ngx_http_sluice_call_t *call) {
    call->finished = 1;
    ngx_http_sluice_target_cancel(&call->to);
    if (call->timeout.timer_set) {
        ngx_del_timer(&call->timeout);
    }
    ngx_post_event(&call->done, &ngx_posted_events);
}

void ngx_http_sluice_call_fail(ngx_http_sluice_call_t *call, ngx_http_sluice_call_failure_e failure, const char *why) {
    if (call->finished) {
        return;
    }
    if (!call->quiet) {
        ngx_log_error(NGX_LOG_ERR, call->log, 0, "[proxy-wasm] dispatch failed: \"%*s\" calls %V: %s",
                      pw_filter_name(pw_root_filter(call->root)).len, pw_filter_name(pw_root_filter(call->root)).data,
                      call->dial.peer.name != NULL ? call->dial.peer.name : &call->to.host, why);
    }
    call->failed = 1;
    call->failure = failure;
    ngx_http_sluice_call_close(call);
    finish(call);
}

void ngx_http_sluice_call_answered(ngx_http_sluice_call_t *call) {
    ngx_http_sluice_call_leave(call);
    finish(call);
}

/* ---- telling the filter ------------------------------------------------------------------------------------------------------------ */

static const char *const failures[] = {"timeout",          "broken connection", "tls handshake failure",
                                       "resolver failure", "reader failure",    "reader failure"};

/* Envoy's router answers in place of an upstream that does not; its filters expect that. */
static void tell_failure(ngx_http_sluice_call_t *call) {
    pw_pair_t headers[] = {
        {SL_STR(":status"), SL_STR("503")}, {SL_STR("content-type"), SL_STR("text/plain")}, {SL_STR("content-length"), SL_STR("91")}};
    pw_call_response_t response = {.headers = headers, .n_headers = 3};

    if (call->wasmx) {
        response = (pw_call_response_t){.failed = true, .failure = failures[call->failure]};
    } else if (call->failure == NGX_HTTP_SLUICE_CALL_TIMEOUT) {
        headers[0].value = SL_STR("504");
        headers[2].value = SL_STR("24");
        response.body = SL_STR("upstream request timeout");
    } else if (call->failure == NGX_HTTP_SLUICE_CALL_READER || call->failure == NGX_HTTP_SLUICE_CALL_NO_ROOM) {
        response = (pw_call_response_t){.failed = true, .failure = failures[call->failure]};
    } else {
        response.body = SL_STR("upstream connect error or disconnect/reset before headers. reset reason: connection failure");
    }
    pw_http_call_done(call->root, call->token, &response);
}

static void copy_fields(pw_pair_t *to, const sl_http1_field_t *from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        /* names are ours to change: HTTP/2 has them in lower case, and so do filters */
        ngx_strlow((u_char *)from[i].name.data, (u_char *)from[i].name.data, from[i].name.len);
        to[i] = (pw_pair_t){from[i].name, from[i].value};
    }
}

static void tell_response(ngx_http_sluice_call_t *call) {
    size_t n = call->response.n_fields + 1, t = call->response.n_trailers;
    pw_pair_t *pairs = ngx_palloc(call->pool, (n + t) * sizeof(pw_pair_t));
    pw_call_response_t response = {.n_headers = n, .n_trailers = t, .body = sl_buf_str(&call->response.body)};
    u_char status[NGX_INT_T_LEN];

    if (pairs == NULL) {
        response = (pw_call_response_t){.failed = true, .failure = "internal failure"};
    } else {
        pairs[0] = (pw_pair_t){SL_STR(":status"), sl_str(status, (size_t)(ngx_sprintf(status, "%03uD", call->response.status) - status))};
        copy_fields(pairs + 1, call->response.fields, n - 1);
        copy_fields(pairs + n, call->response.trailers, t);
        response.headers = pairs;
        response.trailers = pairs + n;
    }
    pw_http_call_done(call->root, call->token, &response);
}

/* The core may cancel all calls of the root from inside; this one is no longer among them then. */
static void done_handler(ngx_event_t *event) {
    ngx_http_sluice_call_t *call = event->data;

    ngx_sluice_call_note(call->scf, call->root, "http", NGX_SLUICE_CALL_ENDED, NULL);
    if (call->failed) {
        ngx_sluice_call_note(call->scf, call->root, "http", NGX_SLUICE_CALL_FAILED,
                             call->failure == NGX_HTTP_SLUICE_CALL_NO_ROOM ? NGX_SLUICE_CALL_NO_ROOM : failures[call->failure]);
        tell_failure(call);
    } else {
        tell_response(call);
    }
    call_free(call);
}

static void timeout_handler(ngx_event_t *event) {
    ngx_connection_t *shape = event->data;

    ngx_http_sluice_call_fail(shape->data, NGX_HTTP_SLUICE_CALL_TIMEOUT, "the call's time is over");
}

/* ---- operations ---------------------------------------------------------------------------------------------------------------------- */

static ngx_http_sluice_call_t *call_new(ngx_sluice_conf_t *scf, const pw_http_call_t *request) {
    ngx_pool_t *pool = ngx_create_pool(POOL_BYTES, ngx_cycle->log);
    ngx_http_sluice_call_t *call = pool != NULL ? ngx_pcalloc(pool, sizeof(ngx_http_sluice_call_t)) : NULL;
    ngx_connection_t *shape = call != NULL ? ngx_pcalloc(pool, sizeof(ngx_connection_t)) : NULL;

    if (shape == NULL || ngx_http_sluice_target_init(&call->to, pool) != NGX_OK) {
        if (pool != NULL) {
            ngx_destroy_pool(pool);
        }
        return NULL;
    }
    call->pool = pool;
    call->log = (ngx_log_t *)ngx_cycle->log;
    call->scf = scf;
    call->root = request->root;
    call->wasmx = pw_filter_dialect(pw_root_filter(request->root)) == SL_DIALECT_WASMX;
    call->token = request->token;
    sl_buf_init_under(&call->request, SIZE_MAX / 2, &scf->call_bytes);
    call->done.handler = done_handler;
    call->done.data = call;
    call->done.log = call->log;
    shape->fd = (ngx_socket_t)-1; /* debug builds print the descriptor of a timer's connection */
    shape->data = call;
    call->timeout.handler = timeout_handler;
    call->timeout.data = shape;
    call->timeout.log = call->log;
    ngx_queue_insert_tail(&calls, &call->queue);
    return call;
}

static void target_found(ngx_http_sluice_target_t *to, const char *why) {
    ngx_http_sluice_call_t *call = to->data;

    if (why != NULL) {
        ngx_http_sluice_call_fail(call, NGX_HTTP_SLUICE_CALL_RESOLVER, why);
    } else if (!call->finished) {
        ngx_http_sluice_call_connect(call);
    }
}

/* SL_OK: connects, now or when the resolver has answered. */
static sl_status_t find_and_connect(ngx_http_sluice_call_t *call, sl_str_t upstream, ngx_http_sluice_ctx_t *ctx) {
    ngx_msec_t timeout;
    ngx_resolver_t *resolver = ngx_http_sluice_resolver(call->scf, ctx, &timeout);
    sl_status_t rc;

    call->to.found = target_found;
    call->to.data = call;
    rc = ngx_http_sluice_target_find(&call->to, upstream, 0);
    if (rc == SL_AGAIN) {
        return ngx_http_sluice_target_resolve(&call->to, resolver, timeout);
    }
    if (rc == SL_OK) {
        ngx_http_sluice_call_connect(call);
    }
    return rc;
}

/* The location's, where the call is made for a request and the location says something; else those of wasm{}. */
static void settings_of(ngx_http_sluice_call_t *call, ngx_http_sluice_ctx_t *ctx, ngx_msec_t timeout_ms) {
    static const ngx_http_sluice_loc_conf_t none = {.log_dispatch_errors = NGX_CONF_UNSET,
                                                    .socket_connect_timeout = NGX_CONF_UNSET_MSEC,
                                                    .socket_send_timeout = NGX_CONF_UNSET_MSEC,
                                                    .socket_read_timeout = NGX_CONF_UNSET_MSEC};
    const ngx_http_sluice_loc_conf_t *slcf = ctx != NULL ? ngx_http_get_module_loc_conf(ctx->request, ngx_http_sluice_module) : &none;
    ngx_sluice_conf_t *scf = call->scf;
    ngx_flag_t log = NGX_CONF_UNSET;

    call->dial.timeout = call->send_timeout = call->read_timeout = NGX_CONF_UNSET_MSEC;
    ngx_conf_merge_msec_value(call->dial.timeout, slcf->socket_connect_timeout, scf->socket_connect_timeout);
    ngx_conf_merge_msec_value(call->send_timeout, slcf->socket_send_timeout, scf->socket_send_timeout);
    ngx_conf_merge_msec_value(call->read_timeout, slcf->socket_read_timeout, scf->socket_read_timeout);
    ngx_conf_merge_value(log, slcf->log_dispatch_errors, scf->log_dispatch_errors);
    call->quiet = !log;
    call->untimed = call->dial.untimed = timeout_ms == 0;
    if (call->wasmx && timeout_ms != 0) { /* WasmX has no time for the whole, but this one for each step */
        call->dial.timeout = call->send_timeout = call->read_timeout = timeout_ms;
    }
}

sl_status_t ngx_http_sluice_http_call(void *worker, void *stream, const pw_http_call_t *request, void **handle) {
    ngx_sluice_conf_t *scf = worker;
    ngx_http_sluice_call_t *call = call_new(scf, request);
    sl_status_t rc;

    if (call == NULL) {
        return SL_NO_MEMORY;
    }
    settings_of(call, stream, request->timeout_ms);
    rc = ngx_http_sluice_call_write(call, request);
    sl_http1_init(&call->response, call->to_head, HEAD_BYTES_MAX, BODY_BYTES_MAX, &scf->call_bytes);
    if (rc == SL_OK) {
        rc = find_and_connect(call, request->upstream, stream);
    }
    if (rc != SL_OK) {
        call_free(call);
        if (rc == SL_NO_MEMORY) {
            ngx_sluice_call_refused(scf, request->root, "http");
        }
        return rc;
    }
    if (request->timeout_ms != 0 && !call->wasmx && !call->finished) {
        ngx_add_timer(&call->timeout, request->timeout_ms);
    }
    ngx_sluice_call_note(scf, call->root, "http", NGX_SLUICE_CALL_STARTED, NULL);
    *handle = call;
    return SL_OK;
}

void ngx_http_sluice_http_call_cancel(void *worker, void *handle) {
    ngx_http_sluice_call_t *call = handle;

    ngx_sluice_call_note(call->scf, call->root, "http", NGX_SLUICE_CALL_ENDED, NULL);
    ngx_sluice_call_note(call->scf, call->root, "http", NGX_SLUICE_CALL_DROPPED, NULL);
    call_free(call);
}

/* Calls do not need the stream that they were made for. */
sl_status_t ngx_http_sluice_http_call_detach(void *worker, void *handle) {
    return SL_OK;
}
