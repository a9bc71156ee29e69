/* Queues: who listens to them in this worker, and how workers wake each other. */
#include "ngx_sluice_state_int.h"

#include <sys/eventfd.h>
#include <sys/mman.h>

#define SLOTS_MAX 256 /* of workers that are woken; others look once a second */
#define POLL_MS 1000
#define TURN_ITEMS 64 /* of one queue, before others get their turn */

/* A root context of this worker that listens to a queue. */
typedef struct {
    ngx_queue_t link;
    pw_root_t *root; /* NULL: has gone */
    ngx_sluice_zone_t *zone;
    uint32_t id;
    sh_listener_t who;
    uint32_t resets;      /* of the zone, when it was registered */
    sl_str_t vm_id, name; /* behind the structure */
} listener_t;

/* Of this process and, before, of its master. */
static ngx_atomic_t *pending; /* per slot, shared: someone has woken it and it has not looked since */
static int eventfds[SLOTS_MAX];
static ngx_uint_t n_eventfds;

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

void ngx_sluice_queues_start(ngx_sluice_state_t *st) {
    ngx_sluice_zone_t **zones = st->zones.elts;

    for (ngx_uint_t i = 0; i < st->zones.nelts; i++) {
        if (zones[i]->kind == NGX_SLUICE_ZONE_QUEUE) {
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

static listener_t *listener_of(ngx_sluice_state_t *st, const pw_root_t *root, const ngx_sluice_zone_t *zone, uint32_t id) {
    for (ngx_queue_t *q = ngx_queue_head(&st->listeners); q != ngx_queue_sentinel(&st->listeners); q = ngx_queue_next(q)) {
        listener_t *l = ngx_queue_data(q, listener_t, link);
        if (l->root == root && l->zone == zone && l->id == id) {
            return l;
        }
    }
    return NULL;
}

static listener_t *listener_new(ngx_sluice_state_t *st, pw_root_t *root, ngx_sluice_zone_t *zone, sl_str_t vm_id, sl_str_t name) {
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
    ngx_sluice_zone_t *zone = ngx_sluice_zone_for(st, NGX_SLUICE_ZONE_QUEUE, name);
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
        ngx_sluice_zone_full(zone, "a queue", vm_id.len + name.len);
        return rc;
    }
    l->id = *id;
    begin_to_listen(st);
    wake(tell);
    return SL_OK;
}

sl_status_t ngx_sluice_queue_resolve(void *worker, sl_str_t vm_id, sl_str_t name, uint32_t *id) {
    ngx_sluice_state_t *st = ((ngx_sluice_conf_t *)worker)->state;

    return sh_queue_resolve(&ngx_sluice_zone_for(st, NGX_SLUICE_ZONE_QUEUE, name)->queues, vm_id, name, id);
}

sl_status_t ngx_sluice_queue_push(void *worker, uint32_t id, sl_str_t data) {
    ngx_sluice_state_t *st = ((ngx_sluice_conf_t *)worker)->state;
    ngx_sluice_zone_t **zones = st->zones.elts;
    sl_status_t rc = SL_NOT_FOUND;
    sh_listener_t tell;

    for (ngx_uint_t i = 0; rc == SL_NOT_FOUND && i < st->zones.nelts; i++) {
        if (zones[i]->kind == NGX_SLUICE_ZONE_QUEUE) {
            rc = sh_queue_push(&zones[i]->queues, id, data, &tell);
            wake(tell);
        }
        if (rc == SL_NO_MEMORY) {
            ngx_sluice_zone_full(zones[i], "an item", data.len);
        }
    }
    return rc;
}

sl_status_t ngx_sluice_queue_pop(void *worker, uint32_t id, sl_buf_t *data) {
    ngx_sluice_state_t *st = ((ngx_sluice_conf_t *)worker)->state;
    ngx_sluice_zone_t **zones = st->zones.elts;
    sl_status_t rc = SL_NOT_FOUND;

    for (ngx_uint_t i = 0; rc == SL_NOT_FOUND && i < st->zones.nelts; i++) {
        rc = zones[i]->kind == NGX_SLUICE_ZONE_QUEUE ? sh_queue_pop(&zones[i]->queues, id, data) : rc;
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
