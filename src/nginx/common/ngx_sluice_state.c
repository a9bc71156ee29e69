#include "ngx_sluice_state.h"

#include <ngx_event.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "sh_kv.h"
#include "sh_metric.h"
#include "sh_prometheus.h"
#include "sh_queue.h"
#include "sl_digest.h"

#define DEFAULT_KV_SIZE (1024 * 1024)
#define DEFAULT_QUEUE_SIZE (1024 * 1024)
#define METRIC_ROWS_MAX 64
#define SLOTS_MAX 256 /* of workers that are woken; others look once a second */
#define POLL_MS 1000
#define TURN_ITEMS 64 /* of one queue, before others get their turn */

typedef enum { ZONE_KV, ZONE_QUEUE, ZONE_METRICS, ZONE_KINDS } kind_t;

typedef struct {
    ngx_sluice_conf_t *scf;
    ngx_str_t name; /* as declared; "*": the one for all that has none of its own */
    kind_t kind;
    sh_evict_t policy;
    ngx_slab_pool_t *pool;
    time_t complained; /* second of the last line in the log */
    union {
        sh_kv_t kv;
        sh_queues_t queues;
        sh_metrics_t metrics;
    };
} zone_t;

/* A root context of this worker that listens to a queue. */
typedef struct {
    ngx_queue_t link;
    pw_root_t *root; /* NULL: has gone */
    zone_t *zone;
    uint32_t id;
    sh_listener_t who;
    uint32_t resets;      /* of the zone, when it was registered */
    sl_str_t vm_id, name; /* behind the structure */
} listener_t;

struct ngx_sluice_state_s {
    ngx_array_t zones;             /* of zone_t * */
    zone_t *kv, *queues, *metrics; /* "*" */
    ngx_uint_t n_named_kv;
    ngx_queue_t listeners; /* listener_t */
    uint32_t serial;
    ngx_connection_t *wake;
    ngx_event_t poll;
    unsigned delivering : 1; /* listeners may not be freed */
    unsigned polls : 1;
};

/* Of this process and, before, of its master. */
static ngx_atomic_t *pending; /* per slot, shared: someone has woken it and it has not looked since */
static int eventfds[SLOTS_MAX];
static ngx_uint_t n_eventfds;

static const char *const kind_names[ZONE_KINDS] = {"kv", "queue", "metrics"};

/* ---- zones --------------------------------------------------------------------------------------------------------- */

static void zone_lock(void *ud) {
    ngx_shmtx_lock(&((zone_t *)ud)->pool->mutex);
}

static void zone_unlock(void *ud) {
    ngx_shmtx_unlock(&((zone_t *)ud)->pool->mutex);
}

static void zone_was_reset(void *ud) {
    zone_t *z = ud;

    ngx_log_error(NGX_LOG_ALERT, ngx_cycle->log, 0,
                  "[sluice] shared memory \"%s:%V\" was emptied: a process died in the middle of a change of it", kind_names[z->kind],
                  &z->name);
}

static sl_status_t zone_open(zone_t *z, void *mem, size_t size, bool fresh) {
    sh_env_t env = {.lock = zone_lock, .unlock = zone_unlock, .reset = zone_was_reset, .ud = z};
    ngx_core_conf_t *ccf = (ngx_core_conf_t *)ngx_get_conf(z->scf->cycle->conf_ctx, ngx_core_module);
    uint64_t seed = 0;

    if (fresh && sl_random(&seed, sizeof(seed)) != SL_OK) {
        return SL_FAILED;
    }
    switch (z->kind) {
    case ZONE_KV:
        return sh_kv_open(&z->kv, mem, size, fresh, seed, z->policy, &env);
    case ZONE_QUEUE:
        return sh_queues_open(&z->queues, mem, size, fresh, seed, &env);
    default:
        z->metrics = (sh_metrics_t){.lock = zone_lock, .unlock = zone_unlock, .ud = z};
        return sh_metrics_open(&z->metrics, mem, size, fresh, seed, (uint32_t)ngx_max(1, ngx_min(ccf->worker_processes, METRIC_ROWS_MAX)));
    }
}

/* The zone of this name in the configuration before, when it had another size; it is freed only after this one has been set up. */
static zone_t *zone_before(const zone_t *z) {
    ngx_cycle_t *old = z->scf->cycle->old_cycle;
    ngx_sluice_state_t *st = NULL;
    zone_t **zones;

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

static void take_over(zone_t *z, zone_t *old) {
    switch (z->kind) {
    case ZONE_KV:
        sh_kv_copy(&z->kv, &old->kv);
        break;
    case ZONE_QUEUE:
        sh_queues_copy(&z->queues, &old->queues);
        break;
    default:
        sh_metrics_copy(&z->metrics, &old->metrics);
    }
}

/* The pool gives all its pages at once; it is kept for its lock, which the master takes from workers that die. */
static ngx_int_t zone_init(ngx_shm_zone_t *shm, void *old) {
    zone_t *z = shm->data, *old_zone;
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

static zone_t *zone_add(ngx_sluice_conf_t *scf, kind_t kind, const ngx_str_t *name, size_t size, ngx_uint_t policy) {
    ngx_conf_t cf = {.cycle = scf->cycle, .pool = scf->cycle->pool, .temp_pool = scf->cycle->pool, .log = scf->cycle->log};
    zone_t *z = ngx_pcalloc(scf->cycle->pool, sizeof(zone_t)), **slot;
    ngx_shm_zone_t *shm;
    ngx_str_t full;

    full.len = sizeof("sluice_metrics:") + name->len;
    full.data = ngx_pnalloc(scf->cycle->pool, full.len);
    slot = ngx_array_push(&scf->state->zones);
    if (z == NULL || full.data == NULL || slot == NULL) {
        return NULL;
    }
    full.len = (size_t)(ngx_snprintf(full.data, full.len, "sluice_%s:%V", kind_names[kind], name) - full.data);
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
    static ngx_str_t all = ngx_string("*");
    ngx_sluice_state_t *st = scf->state;
    ngx_sluice_shm_t *shm = scf->shms.elts;

    for (ngx_uint_t i = 0; i < scf->shms.nelts; i++) {
        zone_t *z = zone_add(scf, shm[i].queue ? ZONE_QUEUE : ZONE_KV, &shm[i].name, shm[i].size, shm[i].eviction);
        if (z == NULL) {
            return NGX_ERROR;
        }
        if (is_default(&shm[i].name)) {
            *(shm[i].queue ? &st->queues : &st->kv) = z;
        } else {
            st->n_named_kv += !shm[i].queue;
        }
    }
    st->kv = st->kv != NULL ? st->kv : zone_add(scf, ZONE_KV, &all, DEFAULT_KV_SIZE, SH_EVICT_SLRU);
    st->queues = st->queues != NULL ? st->queues : zone_add(scf, ZONE_QUEUE, &all, DEFAULT_QUEUE_SIZE, SH_EVICT_NONE);
    st->metrics = zone_add(scf, ZONE_METRICS, &all, (size_t)scf->metrics_slab_size, SH_EVICT_NONE);
    return st->kv != NULL && st->queues != NULL && st->metrics != NULL ? NGX_OK : NGX_ERROR;
}

ngx_int_t ngx_sluice_state_declare(ngx_sluice_conf_t *scf) {
    if (!scf->present && !scf->gateway) {
        return NGX_OK; /* no filters can run */
    }
    scf->state = ngx_pcalloc(scf->cycle->pool, sizeof(ngx_sluice_state_t));
    if (scf->state == NULL || ngx_array_init(&scf->state->zones, scf->cycle->pool, 4, sizeof(zone_t *)) != NGX_OK) {
        return NGX_ERROR;
    }
    ngx_queue_init(&scf->state->listeners);
    return add_zones(scf);
}

/* The zone that is declared for this name, or the one for all others. */
static zone_t *zone_for(ngx_sluice_state_t *st, kind_t kind, sl_str_t name) {
    zone_t **zones = st->zones.elts;

    for (ngx_uint_t i = 0; i < st->zones.nelts; i++) {
        if (zones[i]->kind == kind && sl_str_eq(ngx_sluice_str(&zones[i]->name), name)) {
            return zones[i];
        }
    }
    return kind == ZONE_KV ? st->kv : st->queues;
}

static void complain(zone_t *z, const char *what, size_t size) {
    if (z->complained == ngx_time()) {
        return;
    }
    z->complained = ngx_time();
    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] shared memory \"%s:%V\" is full: no room for %s of %uz bytes",
                  kind_names[z->kind], &z->name, what, size);
}

/* ---- shared data --------------------------------------------------------------------------------------------------- */

/* What stands before the first slash names a zone, if there is one of that name. */
static zone_t *kv_zone(ngx_sluice_state_t *st, sl_str_t key) {
    const char *slash = st->n_named_kv != 0 && key.len != 0 ? memchr(key.data, '/', key.len) : NULL;

    return slash == NULL ? st->kv : zone_for(st, ZONE_KV, sl_str(key.data, (size_t)(slash - key.data)));
}

sl_status_t ngx_sluice_shared_get(void *worker, sl_str_t vm_id, sl_str_t key, sl_buf_t *value, uint32_t *cas) {
    ngx_sluice_state_t *st = ((ngx_sluice_conf_t *)worker)->state;

    return sh_kv_get(&kv_zone(st, key)->kv, vm_id, key, value, cas);
}

sl_status_t ngx_sluice_shared_set(void *worker, sl_str_t vm_id, sl_str_t key, sl_str_t value, uint32_t cas) {
    zone_t *z = kv_zone(((ngx_sluice_conf_t *)worker)->state, key);
    sl_status_t rc;

    if (value.data == NULL) {
        return sh_kv_remove(&z->kv, vm_id, key, cas);
    }
    rc = sh_kv_set(&z->kv, vm_id, key, value, cas, NULL);
    if (rc == SL_NO_MEMORY) {
        complain(z, "a key and value", key.len + value.len);
    }
    return rc;
}

/* ---- waking workers ------------------------------------------------------------------------------------------------ */

ngx_int_t ngx_sluice_state_init_module(ngx_cycle_t *cycle) {
    ngx_core_conf_t *ccf = (ngx_core_conf_t *)ngx_get_conf(cycle->conf_ctx, ngx_core_module);
    ngx_uint_t n = (ngx_uint_t)ngx_max(1, ngx_min(ccf->worker_processes, SLOTS_MAX));

    if (ngx_test_config || ngx_sluice_conf(cycle)->state == NULL) {
        return NGX_OK;
    }
    if (pending == NULL) {
        void *mem = mmap(NULL, SLOTS_MAX * sizeof(ngx_atomic_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (mem == MAP_FAILED) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno, "[sluice] mmap() failed");
            return NGX_ERROR;
        }
        pending = mem;
    }
    for (; n_eventfds < n; n_eventfds++) {
        eventfds[n_eventfds] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (eventfds[n_eventfds] == -1) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno, "[sluice] eventfd() failed");
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

static void wake(sh_listener_t who) {
    uint64_t one = 1;

    if (who.pid == 0 || who.slot >= n_eventfds || ngx_atomic_fetch_add(&pending[who.slot], 1) != 0) {
        return;
    }
    if (write(eventfds[who.slot], &one, sizeof(one)) != sizeof(one)) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, ngx_errno, "[sluice] cannot wake a worker; it looks once a second");
    }
}

static sh_listener_t myself(uint32_t serial) {
    return (sh_listener_t){.pid = (uint32_t)ngx_pid, .slot = (uint32_t)ngx_worker, .serial = serial};
}

/* ---- listeners ----------------------------------------------------------------------------------------------------- */

static void listener_free(listener_t *l) {
    ngx_queue_remove(&l->link);
    ngx_free(l);
}

/* After the zone has been emptied the queue is made again, as it was. */
static void restore(listener_t *l) {
    uint32_t id = l->id;
    sh_listener_t tell;

    if (l->zone->queues.zone.head->resets == l->resets) {
        return;
    }
    l->resets = l->zone->queues.zone.head->resets;
    if (sh_queue_register(&l->zone->queues, l->vm_id, l->name, l->who, &id, &tell) == SL_OK) {
        l->id = id;
        wake(tell);
    }
}

/* true: there may be more. */
static unsigned deliver_to(listener_t *l) {
    for (ngx_uint_t i = 0; i < TURN_ITEMS; i++) {
        if (l->root == NULL || sh_queue_take(&l->zone->queues, l->id, l->who, 1) == 0) {
            return 0;
        }
        pw_root_queue_ready(l->root, l->id);
    }
    return 1;
}

static void deliver(ngx_sluice_state_t *st) {
    unsigned more = 0;
    ngx_queue_t *q, *next;

    if (ngx_worker < n_eventfds) {
        (void)__atomic_exchange_n(&pending[ngx_worker], 0, __ATOMIC_SEQ_CST); /* before looking: what comes later wakes again */
    }
    st->delivering = 1;
    for (q = ngx_queue_head(&st->listeners); q != ngx_queue_sentinel(&st->listeners); q = ngx_queue_next(q)) {
        listener_t *l = ngx_queue_data(q, listener_t, link);
        if (l->root != NULL) {
            restore(l);
            more |= deliver_to(l);
        }
    }
    st->delivering = 0;
    for (q = ngx_queue_head(&st->listeners); q != ngx_queue_sentinel(&st->listeners); q = next) {
        listener_t *l = ngx_queue_data(q, listener_t, link);
        next = ngx_queue_next(q);
        if (l->root == NULL) {
            listener_free(l);
        }
    }
    if (more) {
        wake(myself(0));
    }
}

/* As with ticks, filters of a worker that exits are left alone. */
static void look(ngx_sluice_state_t *st) {
    if (!ngx_exiting && !ngx_terminate && !ngx_quit && !st->delivering) {
        deliver(st);
    }
}

static void wake_handler(ngx_event_t *event) {
    look(((ngx_connection_t *)event->data)->data);
}

/* ->data of a timer must look like a connection to debug builds of nginx. */
static ngx_connection_t poll_connection = {.fd = (ngx_socket_t)-1};

static void poll_handler(ngx_event_t *event) {
    ngx_sluice_state_t *st = poll_connection.data;

    look(st);
    if (!ngx_exiting && st->polls) {
        ngx_add_timer(event, POLL_MS);
    }
}

/* At the first listener. Where no event can be had, looking once a second is what remains. */
static void begin_to_listen(ngx_sluice_state_t *st) {
    ngx_connection_t *c;

    if (st->polls) {
        return;
    }
    st->polls = 1;
    poll_connection.data = st;
    st->poll.handler = poll_handler;
    st->poll.data = &poll_connection;
    st->poll.log = ngx_cycle->log;
    st->poll.cancelable = 1;
    ngx_add_timer(&st->poll, POLL_MS);
    if (ngx_worker >= n_eventfds || !(ngx_event_flags & NGX_USE_CLEAR_EVENT)) {
        return;
    }
    c = ngx_get_connection(eventfds[ngx_worker], ngx_cycle->log);
    if (c == NULL) {
        return;
    }
    c->data = st;
    c->read->handler = wake_handler;
    c->read->log = ngx_cycle->log;
    c->read->channel = 1; /* not a client's: no complaint about it at shutdown */
    c->write->channel = 1;
    if (ngx_add_event(c->read, NGX_READ_EVENT, NGX_CLEAR_EVENT) != NGX_OK) {
        ngx_free_connection(c);
        return;
    }
    st->wake = c;
}

static bool is_alive(void *ud, sh_listener_t who) {
    return who.pid != (uint32_t)ngx_pid && (kill((pid_t)who.pid, 0) == 0 || ngx_errno != NGX_ESRCH);
}

static void wake_other(void *ud, sh_listener_t who) {
    wake(who);
}

void ngx_sluice_state_start(ngx_sluice_conf_t *scf) {
    ngx_sluice_state_t *st = scf->state;
    zone_t **zones;

    if (st == NULL) {
        return;
    }
    sh_metrics_slot(&st->metrics->metrics, (uint32_t)ngx_worker);
    zones = st->zones.elts;
    for (ngx_uint_t i = 0; i < st->zones.nelts; i++) {
        if (zones[i]->kind == ZONE_QUEUE) {
            sh_queues_purge(&zones[i]->queues, is_alive, wake_other, NULL);
        }
    }
}

void ngx_sluice_state_stop(ngx_sluice_conf_t *scf) {
    ngx_sluice_state_t *st = scf->state;

    if (st == NULL || !st->polls) {
        return;
    }
    st->polls = 0;
    if (st->poll.timer_set) {
        ngx_del_timer(&st->poll);
    }
    while (!ngx_queue_empty(&st->listeners)) {
        listener_free(ngx_queue_data(ngx_queue_head(&st->listeners), listener_t, link));
    }
    if (st->wake != NULL) {
        (void)ngx_del_event(st->wake->read, NGX_READ_EVENT, 0);
        ngx_free_connection(st->wake);
        st->wake = NULL;
    }
}

/* ---- queues -------------------------------------------------------------------------------------------------------- */

static listener_t *listener_of(ngx_sluice_state_t *st, const pw_root_t *root, const zone_t *zone, uint32_t id) {
    for (ngx_queue_t *q = ngx_queue_head(&st->listeners); q != ngx_queue_sentinel(&st->listeners); q = ngx_queue_next(q)) {
        listener_t *l = ngx_queue_data(q, listener_t, link);
        if (l->root == root && l->zone == zone && l->id == id) {
            return l;
        }
    }
    return NULL;
}

static listener_t *listener_new(ngx_sluice_state_t *st, pw_root_t *root, zone_t *zone, sl_str_t vm_id, sl_str_t name) {
    listener_t *l = ngx_calloc(sizeof(listener_t) + vm_id.len + name.len, ngx_cycle->log);
    char *bytes = (char *)(l + 1);

    if (l == NULL) {
        return NULL;
    }
    l->root = root;
    l->zone = zone;
    l->who = myself(++st->serial);
    l->vm_id = sl_str(bytes, vm_id.len);
    l->name = sl_str(bytes + vm_id.len, name.len);
    ngx_memcpy(bytes, vm_id.data, vm_id.len);
    ngx_memcpy(bytes + vm_id.len, name.data, name.len);
    ngx_queue_insert_tail(&st->listeners, &l->link);
    return l;
}

sl_status_t ngx_sluice_queue_register(void *worker, sl_str_t vm_id, sl_str_t name, pw_root_t *root, uint32_t *id) {
    ngx_sluice_state_t *st = ((ngx_sluice_conf_t *)worker)->state;
    zone_t *zone = zone_for(st, ZONE_QUEUE, name);
    listener_t *known = NULL, *l;
    sh_listener_t tell;
    sl_status_t rc;

    *id = 0;
    if (sh_queue_resolve(&zone->queues, vm_id, name, id) == SL_OK) {
        known = listener_of(st, root, zone, *id);
    } else {
        *id = sh_queue_new_id(&st->queues->queues);
    }
    l = known != NULL ? known : listener_new(st, root, zone, vm_id, name);
    if (l == NULL) {
        return SL_NO_MEMORY;
    }
    l->resets = zone->queues.zone.head->resets;
    rc = sh_queue_register(&zone->queues, vm_id, name, l->who, id, &tell);
    if (rc != SL_OK) {
        if (known == NULL) {
            listener_free(l);
        }
        complain(zone, "a queue", vm_id.len + name.len);
        return rc;
    }
    l->id = *id;
    begin_to_listen(st);
    wake(tell);
    return SL_OK;
}

sl_status_t ngx_sluice_queue_resolve(void *worker, sl_str_t vm_id, sl_str_t name, uint32_t *id) {
    ngx_sluice_state_t *st = ((ngx_sluice_conf_t *)worker)->state;

    return sh_queue_resolve(&zone_for(st, ZONE_QUEUE, name)->queues, vm_id, name, id);
}

sl_status_t ngx_sluice_queue_push(void *worker, uint32_t id, sl_str_t data) {
    ngx_sluice_state_t *st = ((ngx_sluice_conf_t *)worker)->state;
    zone_t **zones = st->zones.elts;
    sl_status_t rc = SL_NOT_FOUND;
    sh_listener_t tell;

    for (ngx_uint_t i = 0; rc == SL_NOT_FOUND && i < st->zones.nelts; i++) {
        if (zones[i]->kind == ZONE_QUEUE) {
            rc = sh_queue_push(&zones[i]->queues, id, data, &tell);
            wake(tell);
        }
        if (rc == SL_NO_MEMORY) {
            complain(zones[i], "an item", data.len);
        }
    }
    return rc;
}

sl_status_t ngx_sluice_queue_pop(void *worker, uint32_t id, sl_buf_t *data) {
    ngx_sluice_state_t *st = ((ngx_sluice_conf_t *)worker)->state;
    zone_t **zones = st->zones.elts;
    sl_status_t rc = SL_NOT_FOUND;

    for (ngx_uint_t i = 0; rc == SL_NOT_FOUND && i < st->zones.nelts; i++) {
        rc = zones[i]->kind == ZONE_QUEUE ? sh_queue_pop(&zones[i]->queues, id, data) : rc;
    }
    return rc;
}

void ngx_sluice_root_gone(void *worker, pw_root_t *root) {
    ngx_sluice_state_t *st = ((ngx_sluice_conf_t *)worker)->state;
    ngx_queue_t *q, *next;

    for (q = ngx_queue_head(&st->listeners); q != ngx_queue_sentinel(&st->listeners); q = next) {
        listener_t *l = ngx_queue_data(q, listener_t, link);
        sh_listener_t tell;
        next = ngx_queue_next(q);
        if (l->root != root) {
            continue;
        }
        sh_queue_forget(&l->zone->queues, l->id, l->who, &tell);
        wake(tell);
        l->root = NULL;
        if (!st->delivering) {
            listener_free(l);
        }
    }
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
        complain(scf->state->metrics, "a metric, see \"slab_size\"; its name is", name.len);
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

/* ---- for operators ------------------------------------------------------------------------------------------------- */

typedef struct {
    size_t used, total, entries;
    uint64_t evicted, refused;
    uint32_t resets;
} numbers_t;

static numbers_t numbers_of(zone_t *z) {
    if (z->kind == ZONE_KV) {
        sh_kv_stats_t s = sh_kv_stats(&z->kv);
        return (numbers_t){s.used_bytes, s.total_bytes, s.entries, s.evicted, s.refused, s.resets};
    }
    if (z->kind == ZONE_QUEUE) {
        sh_queues_stats_t s = sh_queues_stats(&z->queues);
        return (numbers_t){s.used_bytes, s.total_bytes, s.queues, 0, 0, s.resets};
    }
    sh_metrics_stats_t s = sh_metrics_stats(&z->metrics);
    return (numbers_t){s.used_bytes, s.total_bytes, s.defined, 0, s.refused, 0};
}

static uint64_t used_of(const numbers_t *n) {
    return n->used;
}

static uint64_t total_of(const numbers_t *n) {
    return n->total;
}

static uint64_t entries_of(const numbers_t *n) {
    return n->entries;
}

static uint64_t evicted_of(const numbers_t *n) {
    return n->evicted;
}

static uint64_t refused_of(const numbers_t *n) {
    return n->refused;
}

static uint64_t resets_of(const numbers_t *n) {
    return n->resets;
}

static const struct {
    const char *name, *type, *help;
    uint64_t (*value)(const numbers_t *numbers);
} zone_rows[] = {
    {"sluice_shared_bytes", "gauge", "Size of a zone of shared memory.", total_of},
    {"sluice_shared_used_bytes", "gauge", "What of it is in use.", used_of},
    {"sluice_shared_entries", "gauge", "Keys, queues or metrics in it.", entries_of},
    {"sluice_shared_evicted_total", "counter", "Keys that made room for others.", evicted_of},
    {"sluice_shared_refused_total", "counter", "Writes and definitions for which there was no room.", refused_of},
    {"sluice_shared_resets_total", "counter", "How often it was emptied after a worker died in the middle of a change.", resets_of},
};

static void render_zones(ngx_sluice_state_t *st, sl_buf_t *out) {
    zone_t **zones = st->zones.elts;

    for (size_t row = 0; row < sizeof(zone_rows) / sizeof(zone_rows[0]); row++) {
        sh_prometheus_head(out, zone_rows[row].name, zone_rows[row].type, zone_rows[row].help);
        for (ngx_uint_t i = 0; i < st->zones.nelts; i++) {
            numbers_t n = numbers_of(zones[i]);
            sl_buf_printf(out, "%s{kind=\"%s\",zone=\"", zone_rows[row].name, kind_names[zones[i]->kind]);
            sh_prometheus_label(out, ngx_sluice_str(&zones[i]->name));
            sl_buf_printf(out, "\"} %llu\n", (unsigned long long)zone_rows[row].value(&n));
        }
    }
}

static uint64_t items_of(const sh_queue_view_t *q) {
    return q->items;
}

static uint64_t bytes_of(const sh_queue_view_t *q) {
    return q->bytes;
}

static uint64_t listeners_of(const sh_queue_view_t *q) {
    return q->listeners;
}

static uint64_t pushed_of(const sh_queue_view_t *q) {
    return q->pushed;
}

static uint64_t queue_refused_of(const sh_queue_view_t *q) {
    return q->refused;
}

static const struct {
    const char *name, *type, *help;
    uint64_t (*value)(const sh_queue_view_t *queue);
} queue_rows[] = {
    {"sluice_queue_items", "gauge", "Items that wait in a queue.", items_of},
    {"sluice_queue_bytes", "gauge", "Their bytes.", bytes_of},
    {"sluice_queue_listeners", "gauge", "Root contexts that have registered it.", listeners_of},
    {"sluice_queue_pushed_total", "counter", "Items that were put into it.", pushed_of},
    {"sluice_queue_refused_total", "counter", "Items for which there was no room.", queue_refused_of},
};

typedef struct {
    sl_buf_t *out;
    size_t row;
} render_t;

static void render_queue(void *ud, const sh_queue_view_t *queue) {
    render_t *r = ud;

    sl_buf_printf(r->out, "%s{vm_id=\"", queue_rows[r->row].name);
    sh_prometheus_label(r->out, queue->vm_id);
    sl_buf_append_cstr(r->out, "\",queue=\"");
    sh_prometheus_label(r->out, queue->name);
    sl_buf_printf(r->out, "\"} %llu\n", (unsigned long long)queue_rows[r->row].value(queue));
}

static void render_queues(ngx_sluice_state_t *st, sl_buf_t *out) {
    zone_t **zones = st->zones.elts;

    for (size_t row = 0; row < sizeof(queue_rows) / sizeof(queue_rows[0]); row++) {
        render_t r = {.out = out, .row = row};
        sh_prometheus_head(out, queue_rows[row].name, queue_rows[row].type, queue_rows[row].help);
        for (ngx_uint_t i = 0; i < st->zones.nelts; i++) {
            uint64_t cursor = 0;
            do {
                if (zones[i]->kind == ZONE_QUEUE) {
                    sh_queues_page(&zones[i]->queues, &cursor, 100, render_queue, &r);
                }
            } while (cursor != 0);
        }
    }
}

sl_status_t ngx_sluice_state_render(ngx_sluice_conf_t *scf, sl_buf_t *out) {
    sl_status_t rc;

    if (scf->state == NULL) {
        return SL_OK;
    }
    rc = sh_prometheus_render(&scf->state->metrics->metrics, out);
    render_zones(scf->state, out);
    render_queues(scf->state, out);
    return rc == SL_OK && out->failed ? SL_NO_MEMORY : rc;
}
