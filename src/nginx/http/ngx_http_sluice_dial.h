/*
 * Connections that calls of filters need, HTTP and gRPC alike: the next peer of a target is tried until one is connected and, where
 * asked for, its certificate has been verified. Connections that an HTTP call leaves behind wait for the next one.
 *
 *   target (what a name stands for: peers) --- dial --- connection --- [kept, idle]
 */
#ifndef NGX_HTTP_SLUICE_DIAL_H
#define NGX_HTTP_SLUICE_DIAL_H

#include "ngx_http_sluice_int.h"

#include <ngx_event.h>

typedef struct {
    struct sockaddr *sockaddr;
    socklen_t socklen;
    ngx_str_t name;
} ngx_http_sluice_peer_t;

/*
 * Where a call goes. `found` is called from the event loop when the resolver has answered, or, when it knows the host already, from inside
 * of resolve; why NULL: peers are known.
 */
typedef struct ngx_http_sluice_target_s ngx_http_sluice_target_t;
struct ngx_http_sluice_target_s {
    ngx_pool_t *pool;
    ngx_str_t host; /* as it was asked for, without the port; for SNI when there is no authority */
    in_port_t port, default_port;
    ngx_array_t peers; /* of ngx_http_sluice_peer_t */
    ngx_uint_t next_peer;
    ngx_array_t others; /* of ngx_http_sluice_place_t: tried after what the resolver answers, or when it does not; addresses only */
    ngx_resolver_ctx_t *resolving;
    void (*found)(ngx_http_sluice_target_t *to, const char *why);
    void *data;
    unsigned tls : 1;
    unsigned alike : 1; /* all peers are one host: any connection to one of them will do */
};

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

typedef enum { NGX_HTTP_SLUICE_DIAL_TIMEOUT, NGX_HTTP_SLUICE_DIAL_BROKEN, NGX_HTTP_SLUICE_DIAL_TLS } ngx_http_sluice_dial_failure_e;

typedef struct ngx_http_sluice_dial_s {
    /* of the caller */
    ngx_http_sluice_target_t *to;
    ngx_sluice_conf_t *scf;
    ngx_log_t *log;
    ngx_str_t server_name; /* SNI, NUL-terminated; empty: none */
    ngx_str_t verify_name; /* what the certificate must be for */
    const char *alpn;      /* a protocol, without which the peer will not do; NULL: none */
    ngx_msec_t timeout;    /* of connecting to one peer, and again of the handshake */
    /* The connection is the caller's then: its data and handlers have to be set. Both may come from inside of ngx_http_sluice_dial(). */
    void (*ready)(struct ngx_http_sluice_dial_s *dial, ngx_connection_t *c);
    void (*failed)(struct ngx_http_sluice_dial_s *dial, ngx_http_sluice_dial_failure_e failure, const char *why);
    void *data;
    /* inside */
    ngx_peer_connection_t peer; /* name: of the peer that is, or was, tried; NULL: none yet */
    unsigned connected : 1;
    unsigned untimed : 1; /* of the caller: a worker that exits need not wait for it */
} ngx_http_sluice_dial_t;

void ngx_http_sluice_dial(ngx_http_sluice_dial_t *dial);
void ngx_http_sluice_dial_cancel(ngx_http_sluice_dial_t *dial); /* also when nothing is going on */
void ngx_http_sluice_connection_close(ngx_connection_t *c);     /* of one that dialling has made */

/* ngx_http_sluice_call_pool.c: connections that wait. A key tells peer, TLS and the name on the certificate. */
ngx_connection_t *ngx_http_sluice_pool_take(const ngx_str_t *key); /* NULL: none */
/* Takes the connection over, or closes it. */
void ngx_http_sluice_pool_put(ngx_sluice_conf_t *scf, ngx_connection_t *c, const ngx_str_t *key);

#endif
