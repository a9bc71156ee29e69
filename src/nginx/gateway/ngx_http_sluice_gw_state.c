/*
 * Which generation of the configuration is the latest, how workers learn of it, and which of them serve it.
 *
 * A loader (the CLI before the start, or a thread of one worker for POST /config) writes <prefix>/state/plan by rename, then the
 * worker bumps shm->generation and kicks the eventfd, which every worker has in its epoll set, edge-triggered, and nobody reads. A
 * 1 s poll of the generation is the safety net. Each worker takes the new plan over (ngx_http_sluice_gw_switch.c).
 */
#include "ngx_http_sluice_gw_gen.h"

#include <malloc.h>
#include <sys/eventfd.h>

#include "ngx_sluice.h"

#define POLL_MS 1000
#define BIG_BYTES (512 * 1024)

typedef struct {
    ngx_atomic_t generation;
    ngx_atomic_t revision; /* of the store, that `generation` or a later one has; written after it */
    ngx_atomic_t loader;   /* pid, 0: nobody */
    ngx_http_sluice_gw_counters_t counters;
    struct {
        ngx_atomic_t pid;
        ngx_atomic_t generation;
    } workers[NGX_HTTP_SLUICE_GW_MAX_WORKERS];
} shm_t;

/* What belongs to the worker as a whole. */
static struct {
    ngx_http_sluice_gw_main_conf_t *mcf;
    shm_t *shm;
    nd_filters_t *filters;
    sl_cache_t *cache;
    nd_modules_t *copies;
    ngx_event_t poll;
    ngx_connection_t *wake;
    ngx_uint_t slot;
} gw;

static int gw_eventfd = -1;

/* ---- shared memory -------------------------------------------------------------------------------------------------- */

static ngx_int_t init_zone(ngx_shm_zone_t *zone, void *data) {
    ngx_slab_pool_t *pool = (ngx_slab_pool_t *)zone->shm.addr;
    if (data != NULL) {
        zone->data = data;
        return NGX_OK;
    }
    if (zone->shm.exists) {
        zone->data = pool->data;
        return NGX_OK;
    }
    shm_t *shm = ngx_slab_calloc(pool, sizeof(*shm));
    if (shm == NULL) {
        return NGX_ERROR;
    }
    pool->data = shm;
    zone->data = shm;
    return NGX_OK;
}

ngx_int_t ngx_http_sluice_gw_zone_add(ngx_conf_t *cf, ngx_http_sluice_gw_main_conf_t *mcf) {
    ngx_str_t name = ngx_string("sluice_gateway");
    mcf->zone =
        ngx_shared_memory_add(cf, &name, ngx_align(sizeof(shm_t), ngx_pagesize) + 8 * ngx_pagesize, &ngx_http_sluice_gateway_module);
    if (mcf->zone == NULL) {
        return NGX_ERROR;
    }
    mcf->zone->init = init_zone;
    return NGX_OK;
}

ngx_int_t ngx_http_sluice_gw_init_module(ngx_cycle_t *cycle, ngx_http_sluice_gw_main_conf_t *mcf) {
    (void)mcf;
    if (ngx_test_config || gw_eventfd != -1) {
        return NGX_OK;
    }
    /* Made once in the master and inherited by every worker of every cycle. */
    gw_eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (gw_eventfd == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno, "eventfd() failed");
        return NGX_ERROR;
    }
    return ngx_http_sluice_gw_image_init(cycle->log);
}

/* ---- what switching asks ------------------------------------------------------------------------------------------------- */

void ngx_http_sluice_gw_node(ngx_http_sluice_gw_main_conf_t *mcf, nd_node_t *node) {
    *node = (nd_node_t){
        .opts = ngx_sluice_conf((ngx_cycle_t *)ngx_cycle)->settings.opts,
        .engine = ngx_sluice_engine(ngx_sluice_conf((ngx_cycle_t *)ngx_cycle)),
        .cache = gw.cache,
        .filters = gw.filters,
        .wasm_enabled = mcf->wasm,
        .traditional = mcf->traditional,
        .plan_path = mcf->plan_path,
        .share = ngx_http_sluice_gw_image_share,
        .share_ud = mcf->plan_path,
        .modules = gw.copies,
        .store_path = mcf->store_path,
        .filters_path = mcf->wasm ? mcf->filters_path : NULL,
        .filters_choose = ngx_sluice_to_sl(mcf->filters_choose),
    };
}

uint64_t ngx_http_sluice_gw_announced(void) {
    return gw.shm->generation;
}

void ngx_http_sluice_gw_serves(uint64_t generation) {
    if (gw.slot < NGX_HTTP_SLUICE_GW_MAX_WORKERS) {
        gw.shm->workers[gw.slot].generation = (ngx_atomic_uint_t)generation;
        gw.shm->workers[gw.slot].pid = (ngx_atomic_uint_t)ngx_pid;
    }
}

void ngx_http_sluice_gw_set_filters(nd_filters_t *fresh) {
    nd_filters_free(gw.filters);
    gw.filters = fresh;
}

ngx_http_sluice_gw_counters_t *ngx_http_sluice_gw_counters(void) {
    return &gw.shm->counters;
}

static uint64_t serving(void) {
    ngx_http_sluice_gw_gen_t *current = ngx_http_sluice_gw_current();
    return current != NULL ? gw_plan_generation(ngx_http_sluice_gw_gen_plan(current)) : 0;
}

/* ---- news ------------------------------------------------------------------------------------------------------------------ */

/* This worker is none of those that take over new generations. */
static void leave(void) {
    if (gw.slot < NGX_HTTP_SLUICE_GW_MAX_WORKERS) {
        (void)ngx_atomic_cmp_set(&gw.shm->workers[gw.slot].pid, (ngx_atomic_uint_t)ngx_pid, 0);
    }
}

/* A reload may have written a later one meanwhile. */
static void raise_generation(uint64_t generation) {
    ngx_atomic_uint_t seen = gw.shm->generation;
    while (seen < generation && !ngx_atomic_cmp_set(&gw.shm->generation, seen, (ngx_atomic_uint_t)generation)) {
        seen = gw.shm->generation;
    }
}

static void wake_handler(ngx_event_t *ev) {
    (void)ev;
    if (!ngx_exiting && !ngx_quit && !ngx_terminate) {
        ngx_http_sluice_gw_look(0);
    }
}

static void poll_handler(ngx_event_t *ev) {
    if (ngx_exiting || ngx_quit || ngx_terminate) {
        leave(); /* who waits for all workers need not wait for this one's last requests */
        return;
    }
    ngx_http_sluice_gw_look(0);
    ngx_add_timer(ev, POLL_MS);
}

/* ---- the life of a worker -------------------------------------------------------------------------------------------------------- */

static void init_event(ngx_event_t *ev, ngx_event_handler_pt handler) {
    static ngx_connection_t dummy; /* a debug build reads ->fd of a timer's data */
    dummy.fd = (ngx_socket_t)-1;
    ngx_memzero(ev, sizeof(*ev));
    ev->handler = handler;
    ev->data = &dummy;
    ev->log = ngx_cycle->log;
    ev->cancelable = 1;
}

static ngx_int_t listen_to_eventfd(ngx_cycle_t *cycle) {
    if (gw_eventfd == -1) {
        return NGX_OK;
    }
    gw.wake = ngx_get_connection(gw_eventfd, cycle->log);
    if (gw.wake == NULL) {
        return NGX_ERROR;
    }
    gw.wake->read->handler = wake_handler;
    gw.wake->read->log = cycle->log;
    gw.wake->read->channel = 1; /* not a connection of a client: no complaint about it at shutdown */
    gw.wake->write->channel = 1;
    return ngx_add_event(gw.wake->read, NGX_READ_EVENT, NGX_CLEAR_EVENT);
}

static void cache_log(void *ud, const char *text) {
    (void)ud;
    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0, "[sluice] %s", text);
}

ngx_int_t ngx_http_sluice_gw_init_worker(ngx_cycle_t *cycle, ngx_http_sluice_gw_main_conf_t *mcf) {
    ngx_memzero(&gw, sizeof(gw));
    /* What a plan is built in goes back to the system; glibc would keep as much as was freed once, in each thread's arena. */
    (void)mallopt(M_MMAP_THRESHOLD, BIG_BYTES);
    gw.mcf = mcf;
    gw.shm = mcf->zone->data;
    gw.slot = ngx_worker;
    gw.cache = ngx_sluice_cache(ngx_sluice_conf(cycle), mcf->cache_path, cache_log, NULL);
    gw.copies = nd_modules_new(mcf->modules_path);
    if (gw.cache == NULL || gw.copies == NULL || nd_filters_scan(NULL, SL_STR_NULL, &gw.filters, NULL) != SL_OK) {
        return NGX_ERROR;
    }
    init_event(&gw.poll, poll_handler);
    if (listen_to_eventfd(cycle) != NGX_OK || ngx_http_sluice_gw_switch_init_worker(cycle, mcf) != NGX_OK) {
        return NGX_ERROR;
    }
    /* Before the first request there is nothing to disturb: all at once. */
    ngx_http_sluice_gw_look(1);
    ngx_http_sluice_gw_gen_t *current = ngx_http_sluice_gw_current();
    raise_generation(serving());
    ngx_http_sluice_gw_serves(serving());
    ngx_add_timer(&gw.poll, POLL_MS);
    /* Equal generations of a reload and of those that went on before it may differ: another one makes sure. */
    ngx_atomic_uint_t revision = current != NULL ? (ngx_atomic_uint_t)gw_plan_store_revision(ngx_http_sluice_gw_gen_plan(current)) : 0;
    if (!ngx_atomic_cmp_set(&gw.shm->revision, 0, revision) && gw.shm->revision != revision) {
        gw.shm->revision = 0;
    }
    return ngx_http_sluice_gw_store_init_worker(cycle, mcf);
}

/*
 * nginx tells the threads of its pools to end and does not join them. One that is still ending while the process exits runs
 * destructors over what exit() takes away: wait until they have gone, a second at most.
 */
static void wait_for_threads(void) {
    for (ngx_uint_t i = 0; i < 1000; i++) {
        struct stat st;
        /* "." and ".." and one folder for each thread */
        if (stat("/proc/self/task", &st) != 0 || st.st_nlink <= 3) {
            return;
        }
        ngx_msleep(1);
    }
}

void ngx_http_sluice_gw_exit_worker(ngx_cycle_t *cycle) {
    (void)cycle;
    if (gw.mcf == NULL) {
        return;
    }
    leave();
    wait_for_threads();
    ngx_http_sluice_gw_store_exit_worker();
    (void)ngx_atomic_cmp_set(&gw.shm->loader, (ngx_atomic_uint_t)ngx_pid, 0);
    ngx_http_sluice_gw_switch_exit_worker();
    ngx_http_sluice_gw_pool_exit_worker();
    nd_filters_free(gw.filters);
    nd_modules_free(gw.copies);
    sl_cache_free(gw.cache);
    ngx_http_sluice_gw_match_deinit();
    ngx_http_sluice_gw_stop_timer(&gw.poll);
    ngx_memzero(&gw, sizeof(gw));
}

/* ---- loading ---------------------------------------------------------------------------------------------------------------------- */

ngx_int_t ngx_http_sluice_gw_load_begin(void) {
    ngx_atomic_uint_t holder = gw.shm->loader;
    if (holder != 0 && kill((pid_t)holder, 0) == -1 && ngx_errno == NGX_ESRCH) {
        /* It died while loading; the plan file is the old or the new one, never a mix. */
        (void)ngx_atomic_cmp_set(&gw.shm->loader, holder, 0);
    }
    return ngx_atomic_cmp_set(&gw.shm->loader, 0, (ngx_atomic_uint_t)ngx_pid) ? NGX_OK : NGX_BUSY;
}

static void wake_all(void) {
    uint64_t one = 1;
    if (gw_eventfd != -1 && write(gw_eventfd, &one, sizeof(one)) != sizeof(one)) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, ngx_errno, "[sluice] cannot wake the other workers; they look once a second");
    }
}

void ngx_http_sluice_gw_announce(uint64_t generation, uint64_t revision) {
    raise_generation(generation);
    ngx_memory_barrier();
    gw.shm->revision = (ngx_atomic_uint_t)revision;
    wake_all();
}

void ngx_http_sluice_gw_load_end(uint64_t generation) {
    if (generation != 0) {
        raise_generation(generation);
        wake_all();
    }
    (void)ngx_atomic_cmp_set(&gw.shm->loader, (ngx_atomic_uint_t)ngx_pid, 0);
    if (generation != 0) {
        ngx_http_sluice_gw_look(0);
    }
}

uint64_t ngx_http_sluice_gw_published_revision(void) {
    return gw.shm->revision;
}

void ngx_http_sluice_gw_store_published(uint64_t generation, uint64_t revision) {
    if (generation != 0) {
        raise_generation(generation);
        ngx_memory_barrier();
        gw.shm->revision = (ngx_atomic_uint_t)revision;
    }
    ngx_http_sluice_gw_load_end(generation);
}

uint64_t ngx_http_sluice_gw_latest(void) {
    return gw.shm->generation > serving() ? gw.shm->generation : serving();
}

unsigned ngx_http_sluice_gw_all_serve(uint64_t generation) {
    for (ngx_uint_t i = 0; i < NGX_HTTP_SLUICE_GW_MAX_WORKERS; i++) {
        ngx_atomic_uint_t pid = gw.shm->workers[i].pid;
        if (pid != 0 && gw.shm->workers[i].generation < generation && (kill((pid_t)pid, 0) == 0 || ngx_errno != NGX_ESRCH)) {
            return 0;
        }
    }
    return 1;
}

size_t ngx_http_sluice_gw_worker_pids(int64_t *pids, size_t max) {
    size_t n = 0;
    for (ngx_uint_t i = 0; i < NGX_HTTP_SLUICE_GW_MAX_WORKERS && n < max; i++) {
        if (gw.shm->workers[i].pid != 0) {
            pids[n++] = (int64_t)gw.shm->workers[i].pid;
        }
    }
    return n;
}

sl_status_t ngx_http_sluice_gw_render_switches(sl_buf_t *out) {
    const ngx_http_sluice_gw_counters_t *c = &gw.shm->counters;
    sl_buf_printf(out,
                  "# HELP sluice_plan_generation Generation of the configuration that this worker serves.\n"
                  "# TYPE sluice_plan_generation gauge\nsluice_plan_generation %lu\n",
                  (unsigned long)serving());
    sl_buf_printf(out,
                  "# HELP sluice_switches_total Generations that workers took over.\n"
                  "# TYPE sluice_switches_total counter\nsluice_switches_total %lu\n",
                  (unsigned long)c->switches);
    sl_buf_printf(out,
                  "# HELP sluice_switches_refused_total Generations that a worker could not serve.\n"
                  "# TYPE sluice_switches_refused_total counter\nsluice_switches_refused_total %lu\n",
                  (unsigned long)c->refused);
    sl_buf_printf(out,
                  "# HELP sluice_switch_holds_total Times that a switch held a worker's event loop for more than 5 ms.\n"
                  "# TYPE sluice_switch_holds_total counter\nsluice_switch_holds_total %lu\n",
                  (unsigned long)c->holds);
    sl_buf_printf(out,
                  "# HELP sluice_switch_longest_hold_seconds The longest time that a switch held a worker's event loop.\n"
                  "# TYPE sluice_switch_longest_hold_seconds gauge\nsluice_switch_longest_hold_seconds %.6f\n",
                  (double)c->longest_us / 1e6);
    return out->failed ? SL_NO_MEMORY : SL_OK;
}
