/*
 * gRPC calls that filters make. Shared by the ngx_http_sluice_grpc*.c files.
 *
 *   call (a token of a root context) >-- session (one HTTP/2 connection to a target, for all filters of the worker)
 *
 * A session is found by its target, or made; it can be asked before it is connected. It goes when the peer has closed it or has said that
 * it will, and when nobody has used it for a while. Filters are told from the event loop only: from a session's read and run events,
 * and from a call's timer.
 */
#ifndef NGX_HTTP_SLUICE_GRPC_H
#define NGX_HTTP_SLUICE_GRPC_H

#include "ngx_http_sluice_dial.h"

#include "sl_grpc.h"

typedef struct {
    ngx_queue_t queue; /* of all sessions of the worker */
    ngx_pool_t *pool;
    ngx_log_t *log;
    ngx_sluice_conf_t *scf;
    ngx_str_t key; /* sessions with the same one go to the same peer in the same way */
    ngx_http_sluice_target_t to;
    ngx_http_sluice_dial_t dial;
    ngx_connection_t *connection; /* NULL: HTTP/2 cannot go both ways yet */
    sl_grpc_t *http2;
    ngx_event_t run;  /* posted: something waits to be written, or the session to be ended */
    ngx_event_t idle; /* timer: nobody uses it */
    const char *broken;
    unsigned listed : 1;
} ngx_http_sluice_grpc_session_t;

typedef struct {
    ngx_pool_t *pool; /* the call lies in it */
    pw_root_t *root;
    uint32_t token;
    ngx_http_sluice_grpc_session_t *session;
    sl_grpc_stream_t *stream; /* NULL: it has ended */
    size_t held;              /* bytes of the ceiling of all calls: what was asked */
    ngx_event_t timeout;
    pw_grpc_call_t *again;  /* of a unary call: a copy of what was asked, for when the peer has not looked at it; NULL: not again */
    ngx_connection_t shape; /* of the timer's data: debug builds print its descriptor */
    unsigned telling : 1;   /* its end is being told */
    unsigned full : 1;      /* too much was to be sent: it has been reset, and its end is to be told */
} ngx_http_sluice_grpc_call_t;

/* ngx_http_sluice_grpc_session.c: one for the call's target that takes a stream. SL_NOT_FOUND: nothing has this name. */
sl_status_t ngx_http_sluice_grpc_session_get(ngx_sluice_conf_t *scf, ngx_http_sluice_ctx_t *ctx, const pw_grpc_call_t *request,
                                             ngx_http_sluice_grpc_session_t **out);
void ngx_http_sluice_grpc_session_post(ngx_http_sluice_grpc_session_t *session); /* something may wait to be written */

/* ngx_http_sluice_grpc.c: the events of all sessions; `user` is a call. */
extern const sl_grpc_events_t ngx_http_sluice_grpc_events;

#endif
