/*
 * What a worker makes of a generation's plan when it is first needed, because it cannot live in an image: pools of targets, TLS contexts
 * of services, parsed certificates. Belongs to the generation and goes with it; worker's thread only.
 *
 *   ngx_http_sluice_gw_pool.c   upstreams: targets, their addresses, whose turn it is
 *   ngx_http_sluice_gw_tls.c    TLS to upstreams: client certificates, authorities, verification
 *   ngx_http_sluice_gw_cert.c   TLS from clients: the certificate for a server name
 *   ngx_http_sluice_gw_pem.c    certificates and keys of both
 */
#ifndef NGX_HTTP_SLUICE_GW_LAZY_H
#define NGX_HTTP_SLUICE_GW_LAZY_H

#include "ngx_http_sluice_gw.h"

typedef struct {
    ngx_ssl_t ssl;
    u_char key[16]; /* equal for equal settings: connections may be kept for each other */
    unsigned verify_given : 1;
    unsigned verify : 1;
    unsigned own : 1; /* `ssl` is in use; else that of the location is */
} ngx_http_sluice_gw_tls_t;

/* A certificate as OpenSSL wants it; the second one of a pair is for clients that know the other algorithm only. */
typedef struct {
    X509 *leaf[2];
    STACK_OF(X509) * chain[2];
    EVP_PKEY *key[2];
} ngx_http_sluice_gw_cert_t;

typedef struct {
    ngx_http_sluice_gw_pool_t *pool; /* NULL: its host is no upstream, or nobody has looked */
    ngx_http_sluice_gw_tls_t *tls;
    unsigned pool_known : 1;
    unsigned tls_known : 1;
} ngx_http_sluice_gw_service_t;

typedef struct {
    ngx_http_sluice_gw_service_t *services; /* by index; NULL: none is known yet */
    ngx_http_sluice_gw_cert_t **certs;      /* by position */
    size_t n_services, n_certs;
    size_t down_services, down_certs;  /* how many have been taken down */
    ngx_http_sluice_gw_pool_t **pools; /* large ones, read when the generation was opened */
    size_t n_pools;
} ngx_http_sluice_gw_lazy_t;

ngx_http_sluice_gw_lazy_t *ngx_http_sluice_gw_gen_lazy(ngx_http_sluice_gw_gen_t *gen);
/* What is known of a service; NULL without memory. */
ngx_http_sluice_gw_service_t *ngx_http_sluice_gw_gen_service(ngx_http_sluice_gw_gen_t *gen, uint32_t index);
/* Lets go of one more of them; 0: there is none left. */
unsigned ngx_http_sluice_gw_lazy_take_down(ngx_http_sluice_gw_lazy_t *lazy);

/* NULL: it cannot be made, the log says why. `of_pool`: id of the client certificate of the upstream, {NULL,0}: none. */
ngx_http_sluice_gw_tls_t *ngx_http_sluice_gw_tls_of(ngx_http_sluice_gw_gen_t *gen, uint32_t index, const gw_service_t *service,
                                                    sl_str_t of_pool);

/* Reads the large pools of a plan that nobody uses yet; in any thread. NGX_ERROR: no memory. */
ngx_int_t ngx_http_sluice_gw_pools_read(ngx_http_sluice_gw_lazy_t *lazy, const gw_plan_t *plan);
/* Of a generation that never served; in any thread. */
void ngx_http_sluice_gw_pools_drop(ngx_http_sluice_gw_lazy_t *lazy);
void ngx_http_sluice_gw_tls_free(ngx_http_sluice_gw_tls_t *tls);
void ngx_http_sluice_gw_cert_free(ngx_http_sluice_gw_cert_t *cert);

/* An entity of the plan as JSON, which is the caller's; NULL: there is none, or no memory. */
json_t *ngx_http_sluice_gw_entity(const gw_plan_t *plan, sl_str_t collection, sl_str_t id_or_key);
/* The same for an upstream by its name, and by nothing else. */
json_t *ngx_http_sluice_gw_upstream_named(const gw_plan_t *plan, sl_str_t name);
sl_str_t ngx_http_sluice_gw_json_str(const json_t *object, const char *member); /* {NULL,0}: it is no text */
/* The id of {"id": ...}. */
sl_str_t ngx_http_sluice_gw_json_ref(const json_t *object, const char *member);

/* Pair `i` of a certificate from `cert` and `key`, or with _alt. NGX_DECLINED: it has none; NGX_ERROR: it cannot be read. */
ngx_int_t ngx_http_sluice_gw_pem_pair(const json_t *certificate, ngx_uint_t i, ngx_http_sluice_gw_cert_t *out);
/* The first certificate of a text; NULL: it has none. */
X509 *ngx_http_sluice_gw_pem_first(sl_str_t pem);

#endif
