/*
 * HTTP calls that filters make: an HTTP/1.1 client on nginx's event loop. Shared by the ngx_http_sluice_call*.c files.
 *
 *   start: request written, target found --- [resolver] --- connect --- [TLS] --- write --- read --- done
 *
 * A call belongs to a root context, has its own pool, and ends exactly once: by its answer, by a failure, or by being cancelled. The
 * answer is always given from an event, never from inside the call that started it.
 */
#ifndef NGX_HTTP_SLUICE_CALL_H
#define NGX_HTTP_SLUICE_CALL_H

#include "ngx_http_sluice_int.h"

#include <ngx_event.h>

#include "sl_http1.h"

typedef struct {
    struct sockaddr *sockaddr;
    socklen_t socklen;
    ngx_str_t name;
} ngx_http_sluice_peer_t;

/* Where a call goes. `found` is called from the event loop when the resolver has answered; why NULL: peers are known. */
typedef struct ngx_http_sluice_target_s ngx_http_sluice_target_t;
struct ngx_http_sluice_target_s {
    ngx_pool_t *pool;
    ngx_str_t host; /* as it was asked for, without the port; for SNI when there is no authority */
    in_port_t port;
    ngx_array_t peers; /* of ngx_http_sluice_peer_t */
    ngx_uint_t next_peer;
    ngx_resolver_ctx_t *resolving;
    void (*found)(ngx_http_sluice_target_t *to, const char *why);
    void *data;
    unsigned tls : 1;
};

typedef enum {
    NGX_HTTP_SLUICE_CALL_TIMEOUT,
    NGX_HTTP_SLUICE_CALL_BROKEN,
    NGX_HTTP_SLUICE_CALL_TLS,
    NGX_HTTP_SLUICE_CALL_RESOLVER,
    NGX_HTTP_SLUICE_CALL_READER
} ngx_http_sluice_call_failure_e;

typedef struct {
    ngx_queue_t queue; /* of all calls of the worker */
    ngx_pool_t *pool;
    ngx_log_t *log;
    ngx_sluice_conf_t *scf;
    pw_root_t *root;
    uint32_t token;

    ngx_http_sluice_target_t to;
    ngx_str_t server_name; /* of TLS; empty: none */

    ngx_buf_t *request;
    sl_http1_t response;
    ngx_peer_connection_t peer;
    ngx_event_t timeout; /* of the whole exchange */
    ngx_event_t done;    /* the answer, or the failure, from the event loop */
    ngx_msec_t connect_timeout, send_timeout, read_timeout;
    ngx_http_sluice_call_failure_e failure;

    unsigned to_head : 1;
    unsigned failed : 1;
    unsigned finished : 1;
    unsigned connected : 1;
    unsigned quiet : 1; /* failures are not logged */
} ngx_http_sluice_call_t;

/* ngx_http_sluice_call.c */
void ngx_http_sluice_call_fail(ngx_http_sluice_call_t *call, ngx_http_sluice_call_failure_e failure, const char *why);
void ngx_http_sluice_call_answered(ngx_http_sluice_call_t *call);

/* ngx_http_sluice_call_request.c: SL_INVALID: something cannot stand in a request. */
sl_status_t ngx_http_sluice_call_write(ngx_http_sluice_call_t *call, const pw_http_call_t *request);

/* ngx_http_sluice_call_target.c; `default_port` where the name has none. SL_OK: peers are known. SL_AGAIN: the host must be resolved. */
ngx_int_t ngx_http_sluice_target_init(ngx_http_sluice_target_t *to, ngx_pool_t *pool);
sl_status_t ngx_http_sluice_target_find(ngx_http_sluice_target_t *to, sl_str_t upstream, in_port_t default_port);
/* Asks the resolver. SL_NOT_FOUND: there is none. */
sl_status_t ngx_http_sluice_target_resolve(ngx_http_sluice_target_t *to, ngx_resolver_t *resolver, ngx_msec_t timeout);
void ngx_http_sluice_target_cancel(ngx_http_sluice_target_t *to);
/* For SNI: the authority without its port; empty where that is an address. */
sl_status_t ngx_http_sluice_server_name(ngx_pool_t *pool, sl_str_t authority, ngx_str_t *name);
/* The location's resolver, where the call is made for a request and there is one; else that of wasm{}. */
ngx_resolver_t *ngx_http_sluice_resolver(ngx_sluice_conf_t *scf, ngx_http_sluice_ctx_t *ctx, ngx_msec_t *timeout);

/* ngx_http_sluice_call_io.c: TLS of calls. What is wrong, or NULL. */
const char *ngx_http_sluice_tls_prepare(ngx_sluice_conf_t *scf, ngx_connection_t *c, ngx_str_t *server_name);
const char *ngx_http_sluice_tls_verify(ngx_sluice_conf_t *scf, ngx_connection_t *c, ngx_str_t *name);
/* What became of a connect in progress. */
ngx_int_t ngx_http_sluice_connect_error(ngx_connection_t *c);

/* ngx_http_sluice_call_io.c */
void ngx_http_sluice_call_connect(ngx_http_sluice_call_t *call); /* to the next peer; fails the call when there is none */
void ngx_http_sluice_call_close(ngx_http_sluice_call_t *call);

#endif
