#include "ngx_sluice_state.h"

#include "ngx_sluice_state_int.h"
#include "sl_digest.h"

#define DEFAULT_KV_SIZE (1024 * 1024)
#define DEFAULT_QUEUE_SIZE (1024 * 1024)
#define NUMBERS_SIZE (512 * 1024)
#define METRIC_ROWS_MAX 64

const char *const ngx_sluice_zone_kinds[NGX_SLUICE_ZONE_KINDS] = {"kv", "queue", "metrics"};

/* ---- zones --------------------------------------------------------------------------------------------------------- */

static void zone_lock(void *ud) {
    ngx_shmtx_lock(&((ngx_sluice_zone_t *)ud)->pool->mutex);
}

static void zone_unlock(void *ud) {
    ngx_shmtx_unlock(&((ngx_sluice_zone_t *)ud)->pool->mutex);
}

static void zone_was_reset(void *ud) {
    ngx_sluice_zone_t *z = ud;

    ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, 0,
                  "[sluice] shared memory \"%s:%V\" was emptied: a process died in the middle of a change of it",
                  ngx_sluice_zone_kinds[z->kind], &z->name);
}

static sl_status_t zone_open(ngx_sluice_zone_t *z, void *mem, size_t size, bool fresh) {
    sh_env_t env = {.lock = zone_lock, .unlock = zone_unlock, .reset = zone_was_reset, .ud = z};
    ngx_core_conf_t *ccf = (ngx_core_conf_t *)ngx_get_conf(z->scf->cycle->conf_ctx, ngx_core_module);
    uint64_t seed = 0;

    if (fresh && sl_random(&seed, sizeof(seed)) != SL_OK) {
        return SL_FAILED;
    }
    switch (z->kind) {
    case NGX_SLUICE_ZONE_KV:
        return sh_kv_open(&z->kv, mem, size, fresh, seed, z->policy, &env);
    case NGX_SLUICE_ZONE_QUEUE:
        return sh_queues_open(&z->queues, mem, size, fresh, seed, &env);
    default:
        z->metrics = (sh_metrics_t){.lock = zone_lock, .unlock = zone_unlock, .ud = z};
        return sh_metrics_open(&z->metrics, mem, size, fresh, seed, (uint32_t)ngx_max(1, ngx_min(ccf->worker_processes, METRIC_ROWS_MAX)));
    }
}

/* The zone of this name in the configuration before, when it had another size; it is freed only after this one has been set up. */
static ngx_sluice_zone_t *zone_before(const ngx_sluice_zone_t *z) {
    ngx_cycle_t *old = z->scf->cycle->old_cycle;
    ngx_sluice_state_t *st = NULL;
    ngx_sluice_zone_t **zones;

    if (old == NULL || old->conf_ctx == NULL || old->modules == NULL) {
        return NULL;
    }
    for (ngx_uint_t i = 0; old->modules[i] != NULL; i++) {
        if (old->modules[i] == &ngx_sluice_module && ngx_sluice_conf(old) != NULL) {
            st = ngx_sluice_conf(old)->state;
        }
    }
    zones = st != NULL ? st->zones.elts : NULL;
    for (ngx_uint_t i = 0; st != NULL && i < st->zones.nelts; i++) {
        if (zones[i]->kind == z->kind && zones[i]->pool != NULL && sl_str_eq(ngx_sluice_str(&zones[i]->name), ngx_sluice_str(&z->name))) {
            return zones[i];
        }
    }
    return NULL;
}

static void take_over(ngx_sluice_zone_t *z, ngx_sluice_zone_t *old) {
    switch (z->kind) {
    case NGX_SLUICE_ZONE_KV:
        sh_kv_copy(&z->kv, &old->kv);
        break;
    case NGX_SLUICE_ZONE_QUEUE:
        sh_queues_copy(&z->queues, &old->queues);
        break;
    default:
        sh_metrics_copy(&z->metrics, &old->metrics);
    }
}

/* The pool gives all its pages at once; it is kept for its lock, which the master takes from workers that die. */
static ngx_int_t zone_init(ngx_shm_zone_t *shm, void *old) {
    ngx_sluice_zone_t *z = shm->data, *old_zone;
    ngx_slab_pool_t *pool = (ngx_slab_pool_t *)shm->shm.addr;
    size_t size = (size_t)(pool->last - pool->pages) * ngx_pagesize;
    bool fresh = old == NULL && !shm->shm.exists;
    sl_status_t rc;

    if (fresh) {
        pool->data = ngx_slab_alloc(pool, size);
        if (pool->data == NULL) {
            return NGX_ERROR;
        }
    }
    z->pool = pool;
    rc = zone_open(z, pool->data, size, fresh);
    if (rc != SL_OK) {
        ngx_log_error(NGX_LOG_EMERG, shm->shm.log, 0, "[sluice] shared memory \"%V\" of %uz bytes %s", &shm->shm.name, shm->shm.size,
                      rc == SL_NO_MEMORY ? "is too small" : "cannot be used");
        return NGX_ERROR;
    }
    old_zone = fresh ? zone_before(z) : NULL;
    if (old_zone != NULL) {
        take_over(z, old_zone);
    }
    return NGX_OK;
}

static ngx_sluice_zone_t *zone_add(ngx_sluice_conf_t *scf, ngx_sluice_zone_kind_t kind, const ngx_str_t *name, size_t size,
                                   ngx_uint_t policy) {
    ngx_conf_t cf = {.cycle = scf->cycle, .pool = scf->cycle->pool, .temp_pool = scf->cycle->pool, .log = scf->cycle->log};
    ngx_sluice_zone_t *z = ngx_pcalloc(scf->cycle->pool, sizeof(ngx_sluice_zone_t)), **slot;
    ngx_shm_zone_t *shm;
    ngx_str_t full;

    full.len = sizeof("sluice_metrics:") + name->len;
    full.data = ngx_pnalloc(scf->cycle->pool, full.len);
    slot = ngx_array_push(&scf->state->zones);
    if (z == NULL || full.data == NULL || slot == NULL) {
        return NULL;
    }
    full.len = (size_t)(ngx_snprintf(full.data, full.len, "sluice_%s:%V", ngx_sluice_zone_kinds[kind], name) - full.data);
    shm = ngx_shared_memory_add(&cf, &full, size, &ngx_sluice_module);
    if (shm == NULL) {
        return NULL;
    }
    z->scf = scf;
    z->name = *name;
    z->kind = kind;
    z->policy = (sh_evict_t)policy;
    shm->init = zone_init;
    shm->data = z;
    *slot = z;
    return z;
}

static unsigned is_default(const ngx_str_t *name) {
    return name->len == 1 && name->data[0] == '*';
}

/* Those of the directives; then the ones that must be there. */
static ngx_int_t add_zones(ngx_sluice_conf_t *scf) {
    static ngx_str_t all = ngx_string("*"), filters = ngx_string("filters");
    ngx_sluice_state_t *st = scf->state;
    ngx_sluice_shm_t *shm = scf->shms.elts;

    for (ngx_uint_t i = 0; i < scf->shms.nelts; i++) {
        ngx_sluice_zone_t *z =
            zone_add(scf, shm[i].queue ? NGX_SLUICE_ZONE_QUEUE : NGX_SLUICE_ZONE_KV, &shm[i].name, shm[i].size, shm[i].eviction);
        if (z == NULL) {
            return NGX_ERROR;
        }
        if (is_default(&shm[i].name)) {
            *(shm[i].queue ? &st->queues : &st->kv) = z;
        } else {
            st->n_named_kv += !shm[i].queue;
        }
    }
    st->kv = st->kv != NULL ? st->kv : zone_add(scf, NGX_SLUICE_ZONE_KV, &all, DEFAULT_KV_SIZE, SH_EVICT_SLRU);
    st->queues = st->queues != NULL ? st->queues : zone_add(scf, NGX_SLUICE_ZONE_QUEUE, &all, DEFAULT_QUEUE_SIZE, SH_EVICT_NONE);
    st->metrics = zone_add(scf, NGX_SLUICE_ZONE_METRICS, &all, (size_t)scf->metrics_slab_size, SH_EVICT_NONE);
    st->numbers = zone_add(scf, NGX_SLUICE_ZONE_METRICS, &filters, NUMBERS_SIZE, SH_EVICT_NONE);
    return st->kv != NULL && st->queues != NULL && st->metrics != NULL && st->numbers != NULL ? NGX_OK : NGX_ERROR;
}

ngx_int_t ngx_sluice_state_declare(ngx_sluice_conf_t *scf) {
    if (!scf->present && !scf->gateway) {
        return NGX_OK; /* no filters can run */
    }
    scf->state = ngx_pcalloc(scf->cycle->pool, sizeof(ngx_sluice_state_t));
    if (scf->state == NULL || ngx_array_init(&scf->state->zones, scf->cycle->pool, 4, sizeof(ngx_sluice_zone_t *)) != NGX_OK) {
        return NGX_ERROR;
    }
    ngx_queue_init(&scf->state->listeners);
    return add_zones(scf);
}

ngx_sluice_zone_t *ngx_sluice_zone_for(ngx_sluice_state_t *st, ngx_sluice_zone_kind_t kind, sl_str_t name) {
    ngx_sluice_zone_t **zones = st->zones.elts;

    for (ngx_uint_t i = 0; i < st->zones.nelts; i++) {
        if (zones[i]->kind == kind && sl_str_eq(ngx_sluice_str(&zones[i]->name), name)) {
            return zones[i];
        }
    }
    return kind == NGX_SLUICE_ZONE_KV ? st->kv : st->queues;
}

void ngx_sluice_zone_full(ngx_sluice_zone_t *z, const char *what, size_t size) {
    if (z->complained == ngx_time()) {
        return;
    }
    z->complained = ngx_time();
    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] shared memory \"%s:%V\" is full: no room for %s of %uz bytes",
                  ngx_sluice_zone_kinds[z->kind], &z->name, what, size);
}

/* ---- shared data --------------------------------------------------------------------------------------------------- */

/* What stands before the first slash names a zone, if there is one of that name. */
static ngx_sluice_zone_t *kv_zone(ngx_sluice_state_t *st, sl_str_t key) {
    const char *slash = st->n_named_kv != 0 && key.len != 0 ? memchr(key.data, '/', key.len) : NULL;

    return slash == NULL ? st->kv : ngx_sluice_zone_for(st, NGX_SLUICE_ZONE_KV, sl_str(key.data, (size_t)(slash - key.data)));
}

sl_status_t ngx_sluice_shared_get(void *worker, sl_str_t vm_id, sl_str_t key, sl_buf_t *value, uint32_t *cas) {
    ngx_sluice_state_t *st = ((ngx_sluice_conf_t *)worker)->state;

    return sh_kv_get(&kv_zone(st, key)->kv, vm_id, key, value, cas);
}

sl_status_t ngx_sluice_shared_set(void *worker, sl_str_t vm_id, sl_str_t key, sl_str_t value, uint32_t cas) {
    ngx_sluice_zone_t *z = kv_zone(((ngx_sluice_conf_t *)worker)->state, key);
    sl_status_t rc;

    if (value.data == NULL) {
        return sh_kv_remove(&z->kv, vm_id, key, cas);
    }
    rc = sh_kv_set(&z->kv, vm_id, key, value, cas, NULL);
    if (rc == SL_NO_MEMORY) {
        ngx_sluice_zone_full(z, "a key and value", key.len + value.len);
    }
    return rc;
}

/* ---- metrics ------------------------------------------------------------------------------------------------------- */

static sh_metrics_t *metrics_of(void *worker) {
    return &((ngx_sluice_conf_t *)worker)->state->metrics->metrics;
}

sl_status_t ngx_sluice_metric_define(void *worker, uint32_t type, sl_str_t filter, sl_str_t name, uint32_t *id) {
    ngx_sluice_conf_t *scf = worker;
    size_t max = (size_t)scf->metrics_max_name_length, prefix = sizeof("pw::") - 1;
    sl_status_t rc;

    if (filter.len > max || name.len > max || prefix + filter.len + name.len > max) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] could not define metric: name \"%*s\" of filter \"%*s\" is too long",
                      ngx_min(name.len, max), name.data, ngx_min(filter.len, max), filter.data);
        return SL_INVALID;
    }
    rc = sh_metric_define(metrics_of(worker), (sh_metric_type_t)type, filter, name, id);
    if (rc == SL_NO_MEMORY) {
        ngx_sluice_zone_full(scf->state->metrics, "a metric, see \"slab_size\"; its name is", name.len);
    }
    return rc;
}

sl_status_t ngx_sluice_metric_add(void *worker, uint32_t id, int64_t delta) {
    return sh_metric_add(metrics_of(worker), id, delta);
}

sl_status_t ngx_sluice_metric_record(void *worker, uint32_t id, uint64_t value) {
    return sh_metric_record(metrics_of(worker), id, value);
}

sl_status_t ngx_sluice_metric_get(void *worker, uint32_t id, uint64_t *value) {
    return sh_metric_get(metrics_of(worker), id, value);
}

/* ---- a worker ------------------------------------------------------------------------------------------------------ */

void ngx_sluice_state_start(ngx_sluice_conf_t *scf) {
    if (scf->state != NULL) {
        sh_metrics_slot(&scf->state->metrics->metrics, (uint32_t)ngx_worker);
        ngx_sluice_calls_start(scf->state);
        ngx_sluice_numbers_start(scf);
        ngx_sluice_queues_start(scf->state);
    }
}
