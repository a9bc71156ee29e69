/*
 * State that filters share across workers: data, queues, metrics. Each lies in a zone of shared memory that is kept across reloads as long
 * as its size stays; src/shm is what is in a zone.
 *
 *   master: declare (configuration) -- zones mapped -- init_module --- fork --- worker: start ... operations ... stop
 *
 * A queue's listeners are woken through an eventfd for each worker slot, which the master made and all workers inherit: edge-triggered,
 * nobody reads. A look once a second catches what may have been missed.
 */
#ifndef NGX_SLUICE_STATE_H
#define NGX_SLUICE_STATE_H

#include "ngx_sluice.h"
#include "sh_prometheus.h"

typedef struct ngx_sluice_state_s ngx_sluice_state_t;

/* When the configuration has been read: adds the zones, if there is something that may use them. */
ngx_int_t ngx_sluice_state_declare(ngx_sluice_conf_t *scf);
ngx_int_t ngx_sluice_state_init_module(ngx_cycle_t *cycle);
/* In a worker, before its filters start and after they have gone. */
void ngx_sluice_state_start(ngx_sluice_conf_t *scf);
void ngx_sluice_state_stop(ngx_sluice_conf_t *scf);

/* Operations of pw_host_ops_t; `worker` is the ngx_sluice_conf_t. */
sl_status_t ngx_sluice_shared_get(void *worker, sl_str_t vm_id, sl_str_t key, sl_buf_t *value, uint32_t *cas);
sl_status_t ngx_sluice_shared_set(void *worker, sl_str_t vm_id, sl_str_t key, sl_str_t value, uint32_t cas);
sl_status_t ngx_sluice_queue_register(void *worker, sl_str_t vm_id, sl_str_t name, pw_root_t *root, uint32_t *id);
sl_status_t ngx_sluice_queue_resolve(void *worker, sl_str_t vm_id, sl_str_t name, uint32_t *id);
sl_status_t ngx_sluice_queue_push(void *worker, uint32_t id, sl_str_t data);
sl_status_t ngx_sluice_queue_pop(void *worker, uint32_t id, sl_buf_t *data);
void ngx_sluice_root_gone(void *worker, pw_root_t *root);
sl_status_t ngx_sluice_metric_define(void *worker, uint32_t type, sl_str_t filter, sl_str_t name, uint32_t *id);
sl_status_t ngx_sluice_metric_add(void *worker, uint32_t id, int64_t delta);
sl_status_t ngx_sluice_metric_record(void *worker, uint32_t id, uint64_t value);
sl_status_t ngx_sluice_metric_get(void *worker, uint32_t id, uint64_t *value);
void ngx_sluice_number(void *worker, sl_str_t filter, pw_number_t which, uint32_t *id, uint64_t value);
void ngx_sluice_guest_was_long(void *worker, uint64_t cpu_ns);
void ngx_sluice_memory(void *worker, uint64_t used, uint64_t peak, uint64_t limit);

/* Calls out of a filter, counted over all workers. */
typedef enum { NGX_SLUICE_CALL_STARTED, NGX_SLUICE_CALL_ENDED, NGX_SLUICE_CALL_FAILED, NGX_SLUICE_CALL_DROPPED } ngx_sluice_call_note_e;
/* kind: "http", "grpc", "redis". reason: of a failure, without a colon; else NULL. */
void ngx_sluice_call_note(ngx_sluice_conf_t *scf, pw_root_t *root, const char *kind, ngx_sluice_call_note_e note, const char *reason);

#define NGX_SLUICE_CALL_NO_ROOM "memory limit" /* a reason of failures */
/* A call that was not begun for want of memory, or of room under call_memory_limit: counted as one that failed, and logged at times. */
void ngx_sluice_call_refused(ngx_sluice_conf_t *scf, pw_root_t *root, const char *kind);

/* For operators: metrics of filters, calls out, then what is in the zones, as text for Prometheus. */
sl_status_t ngx_sluice_state_render(ngx_sluice_conf_t *scf, sl_buf_t *out);
/* With labels that are part of the names of filters' metrics (sh_prometheus.h). */
sl_status_t ngx_sluice_state_render_with(ngx_sluice_conf_t *scf, sh_prometheus_split_t split, void *ud, sl_buf_t *out);
/*
 * A page of keys, or of queues, of all zones as JSON: {"data": [...], "offset": "where the next page begins"}, without offset on the last
 * one. offset 0: the first page. About n entries, n > 0.
 */
sl_status_t ngx_sluice_state_list_data(ngx_sluice_conf_t *scf, uint64_t offset, size_t n, sl_buf_t *out);
sl_status_t ngx_sluice_state_list_queues(ngx_sluice_conf_t *scf, uint64_t offset, size_t n, sl_buf_t *out);

/* What is counted about filters: metric "sluice_filter_traps_total", label `reason="cpu"` or nothing. No filter: of the worker. */
typedef void (*ngx_sluice_number_each_pt)(void *ud, sl_str_t filter, sl_str_t metric, sl_str_t label, uint64_t value);
void ngx_sluice_numbers_each(ngx_sluice_conf_t *scf, ngx_sluice_number_each_pt each, void *ud);
void ngx_sluice_numbers_render(ngx_sluice_conf_t *scf, sl_buf_t *out);
void ngx_sluice_numbers_start(ngx_sluice_conf_t *scf);
void ngx_sluice_call_bytes_changed(void *scf, size_t used); /* of sl_ceiling_t */

#endif
