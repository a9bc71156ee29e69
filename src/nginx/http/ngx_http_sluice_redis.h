/*
 * Requests of filters to Redis. Shared by the ngx_http_sluice_redis*.c files.
 *
 *   call (a token of a root context) >-- connection (to one upstream, as one user, with one database; for all filters of the worker)
 *
 * A connection answers its requests in order; ordinary ones share one, so that they are done in the order in which they were made. A
 * request that may block has a connection to itself. One whose time is over leaves its place in the order behind: its answer, should it
 * still come, is dropped, and the connection takes no new requests. Filters are told from the event loop only.
 */
#ifndef NGX_HTTP_SLUICE_REDIS_H
#define NGX_HTTP_SLUICE_REDIS_H

#include "ngx_http_sluice_dial.h"

#include "sl_resp.h"

typedef struct ngx_http_sluice_redis_conn_s ngx_http_sluice_redis_conn_t;

typedef struct {
    ngx_queue_t queue; /* of its connection, in the order of the requests */
    ngx_http_sluice_redis_conn_t *conn;
    pw_root_t *root; /* NULL: nobody waits for it any more */
    uint32_t token;
    uint32_t answers;  /* that have still to come */
    sl_buf_t response; /* of several commands: the answers so far */
    ngx_event_t timeout;
    ngx_connection_t shape; /* of the timer's data: debug builds print its descriptor */
    unsigned quiet : 1;
} ngx_http_sluice_redis_call_t;

struct ngx_http_sluice_redis_conn_s {
    ngx_queue_t queue; /* of all of the worker */
    ngx_pool_t *pool;
    ngx_log_t *log;
    ngx_sluice_conf_t *scf;
    ngx_str_t key; /* upstream and user, and a digest of the password */
    ngx_http_sluice_target_t to;
    ngx_http_sluice_dial_t dial;
    ngx_connection_t *connection; /* NULL: not connected yet, or no more */
    ngx_queue_t calls;
    ngx_uint_t n_calls;
    ngx_uint_t hello;  /* answers to the first commands that have still to come */
    sl_buf_t greeting; /* those commands, until they have been written */
    sl_buf_t out;
    size_t written; /* of out, or of greeting while hello is not 0 */
    sl_resp_t in;
    ngx_event_t run;    /* posted: something waits to be written, or the connection to be ended */
    ngx_event_t idle;   /* timer */
    const char *broken; /* why, for the log; NULL: it is not */
    const char *reason; /* why its calls fail, for /metrics */

    unsigned exclusive : 1; /* for one request that may block */
    unsigned late : 1;      /* a request's time was over */
    unsigned feeding : 1;   /* answers are being told */
};

/* ngx_http_sluice_redis_conn.c: one that takes this request now. SL_NOT_FOUND: nothing has this name; SL_AGAIN: too many. */
sl_status_t ngx_http_sluice_redis_conn_get(ngx_sluice_conf_t *scf, ngx_http_sluice_ctx_t *ctx, const pw_redis_call_t *request,
                                           ngx_http_sluice_redis_conn_t **out);
void ngx_http_sluice_redis_conn_post(ngx_http_sluice_redis_conn_t *conn);

/* ngx_http_sluice_redis.c */
/* The first of the connection's calls has been answered; it may be one of several. */
void ngx_http_sluice_redis_answered(ngx_http_sluice_redis_conn_t *conn);
/* All calls of the connection have failed. */
void ngx_http_sluice_redis_failed(ngx_http_sluice_redis_conn_t *conn);

#endif
