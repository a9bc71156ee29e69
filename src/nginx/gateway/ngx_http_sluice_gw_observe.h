/*
 * What operators see of a running gateway: metrics of requests in shared memory, readiness, the log level.
 *
 * A route's metrics are defined at its first request in a worker, with a lock; after that a request costs an index and some atomic
 * additions. When the zone is full, further routes are counted as one, with the label route="(other)".
 */
#ifndef NGX_HTTP_SLUICE_GW_OBSERVE_H
#define NGX_HTTP_SLUICE_GW_OBSERVE_H

#include "ngx_http_sluice_gw.h"

ngx_int_t ngx_http_sluice_gw_observe_zone_add(ngx_conf_t *cf, const char *size); /* "8m"; NULL: that */
void ngx_http_sluice_gw_observe_init_worker(ngx_cycle_t *cycle);
void ngx_http_sluice_gw_observe_exit_worker(void);

/* The log phase of a request of the proxy. */
ngx_int_t ngx_http_sluice_gw_observe_handler(ngx_http_request_t *r);

/* Of a request that ends. upstream: -1 when none answered. */
ngx_msec_t ngx_http_sluice_gw_request_ms(ngx_http_request_t *r);
ngx_int_t ngx_http_sluice_gw_upstream_ms(ngx_http_request_t *r);
ngx_uint_t ngx_http_sluice_gw_status(ngx_http_request_t *r);

/* Everything, as text for Prometheus. */
sl_status_t ngx_http_sluice_gw_observe_render(ngx_http_sluice_gw_main_conf_t *mcf, const nd_filters_t *filters, sl_buf_t *out);

/* ---- ngx_http_sluice_gw_access.c ---- */

/* One request as a line of JSON, in the request's pool. */
ngx_int_t ngx_http_sluice_gw_access_json(ngx_http_request_t *r, ngx_str_t *line);

/* ---- ngx_http_sluice_gw_node.c ---- */

/* In shared memory, before the metrics. */
typedef struct {
    ngx_atomic_t draining;
    ngx_atomic_t log_level; /* ngx's number + 1; 0: as configured */
    ngx_atomic_t log_until; /* seconds since 1970; 0: until the next reload */
} ngx_http_sluice_gw_node_shm_t;

ngx_http_sluice_gw_node_shm_t *ngx_http_sluice_gw_node_shm(void); /* of this worker; NULL: none */

/* Why this node is not ready; NULL: it is. */
const char *ngx_http_sluice_gw_not_ready(void);
void ngx_http_sluice_gw_set_draining(unsigned draining);

const char *ngx_http_sluice_gw_log_level(void);
/* Any thread; workers take it over within a second. */
void ngx_http_sluice_gw_set_log_level(void *ud, const char *level, unsigned seconds);
/* Makes this worker log as was asked for last; called once a second. */
void ngx_http_sluice_gw_apply_log_level(void);

size_t ngx_http_sluice_gw_count_timers(void);

#endif
