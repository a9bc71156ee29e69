/*
 * HTTP calls that filters make: an HTTP/1.1 client on nginx's event loop. Shared by the ngx_http_sluice_call*.c files.
 *
 *   start: request written, target found --- [resolver] --- [dial] --- write --- read --- done
 *
 * A call belongs to a root context, has its own pool, and ends exactly once: by its answer, by a failure, or by being cancelled. The
 * answer is always given from an event, never from inside the call that started it.
 */
#ifndef NGX_HTTP_SLUICE_CALL_H
#define NGX_HTTP_SLUICE_CALL_H

#include "ngx_http_sluice_dial.h"

#include "sl_http1.h"

typedef enum {
    NGX_HTTP_SLUICE_CALL_TIMEOUT,
    NGX_HTTP_SLUICE_CALL_BROKEN,
    NGX_HTTP_SLUICE_CALL_TLS,
    NGX_HTTP_SLUICE_CALL_RESOLVER,
    NGX_HTTP_SLUICE_CALL_READER,
    NGX_HTTP_SLUICE_CALL_NO_ROOM /* for its answer; filters are told the same as of a reader's failure */
} ngx_http_sluice_call_failure_e;

typedef struct {
    ngx_queue_t queue; /* of all calls of the worker */
    ngx_pool_t *pool;
    ngx_log_t *log;
    ngx_sluice_conf_t *scf;
    pw_root_t *root;
    uint32_t token;

    ngx_http_sluice_target_t to;
    ngx_http_sluice_dial_t dial;
    ngx_connection_t *connection; /* when it can be written to */
    ngx_str_t key;                /* of it, for the next call */

    sl_buf_t request; /* its bytes */
    size_t sent;      /* of them */
    sl_http1_t response;
    ngx_event_t timeout; /* of the whole exchange */
    ngx_event_t done;    /* the answer, or the failure, from the event loop */
    ngx_msec_t send_timeout, read_timeout;
    ngx_http_sluice_call_failure_e failure;

    unsigned to_head : 1;
    unsigned failed : 1;
    unsigned finished : 1;
    unsigned wasmx : 1;   /* the filter speaks WasmX's dialect */
    unsigned quiet : 1;   /* failures are not logged */
    unsigned untimed : 1; /* the filter waits as long as it takes: a worker that exits does not */
    unsigned once : 1;    /* the request may not be sent twice */
    unsigned keep : 1;    /* the connection may be used again afterwards */
    unsigned reused : 1;  /* it has been used before, and nothing has been received on it since */
} ngx_http_sluice_call_t;

/* ngx_http_sluice_call.c */
void ngx_http_sluice_call_fail(ngx_http_sluice_call_t *call, ngx_http_sluice_call_failure_e failure, const char *why);
void ngx_http_sluice_call_answered(ngx_http_sluice_call_t *call);

/* ngx_http_sluice_call_request.c: SL_INVALID: something cannot stand in a request. SL_NO_MEMORY: also over the ceiling of all calls. */
sl_status_t ngx_http_sluice_call_write(ngx_http_sluice_call_t *call, const pw_http_call_t *request);

/* ngx_http_sluice_call_io.c: sends the request, on a connection that waits or on a new one; fails the call when there is none. */
void ngx_http_sluice_call_connect(ngx_http_sluice_call_t *call);
void ngx_http_sluice_call_close(ngx_http_sluice_call_t *call); /* whatever goes on */
void ngx_http_sluice_call_leave(ngx_http_sluice_call_t *call); /* the answer is complete: keeps the connection, if it may be kept */

#endif
