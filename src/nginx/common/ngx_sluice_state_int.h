/* What the files of shared state have in common: zones and the state of a worker. */
#ifndef NGX_SLUICE_STATE_INT_H
#define NGX_SLUICE_STATE_INT_H

#include "ngx_sluice_state.h"

#include <ngx_event.h>

#include "sh_kv.h"
#include "sh_metric.h"
#include "sh_queue.h"

typedef enum { NGX_SLUICE_ZONE_KV, NGX_SLUICE_ZONE_QUEUE, NGX_SLUICE_ZONE_METRICS, NGX_SLUICE_ZONE_KINDS } ngx_sluice_zone_kind_t;

typedef struct {
    ngx_sluice_conf_t *scf;
    ngx_str_t name; /* as declared; "*": the one for all that has none of its own */
    ngx_sluice_zone_kind_t kind;
    sh_evict_t policy;
    ngx_slab_pool_t *pool;
    time_t complained; /* second of the last line in the log */
    union {
        sh_kv_t kv;
        sh_queues_t queues;
        sh_metrics_t metrics;
    };
} ngx_sluice_zone_t;

struct ngx_sluice_state_s {
    ngx_array_t zones;                        /* of ngx_sluice_zone_t * */
    ngx_sluice_zone_t *kv, *queues, *metrics; /* "*" */
    ngx_sluice_zone_t *numbers;               /* of filters, as the host counts them */
    ngx_uint_t n_named_kv;
    ngx_queue_t listeners; /* listener_t */
    uint32_t serial;
    ngx_connection_t *wake;
    ngx_event_t poll;
    unsigned delivering : 1; /* listeners may not be freed */
    unsigned polls : 1;
};

extern const char *const ngx_sluice_zone_kinds[NGX_SLUICE_ZONE_KINDS];

/* The zone that is declared for this name, or the one for all others. */
ngx_sluice_zone_t *ngx_sluice_zone_for(ngx_sluice_state_t *st, ngx_sluice_zone_kind_t kind, sl_str_t name);
/* A line in the log, at most once a second for a zone. */
void ngx_sluice_zone_full(ngx_sluice_zone_t *z, const char *what, size_t size);

/* ngx_sluice_calls.c */
void ngx_sluice_calls_start(ngx_sluice_state_t *st);
void ngx_sluice_calls_render(ngx_sluice_state_t *st, sl_buf_t *out);

/* ngx_sluice_queue.c: forgets listeners of processes that are gone. */
void ngx_sluice_queues_start(ngx_sluice_state_t *st);

#endif
