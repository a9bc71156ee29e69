/*
 * Generations of configuration in a worker, and how workers learn of a new one.
 *
 * A loader (the CLI before the start, or a thread of one worker for POST /config) writes <prefix>/state/plan by rename, then the
 * worker bumps shm->generation and kicks the eventfd, which every worker has in its epoll set, edge-triggered, and nobody reads. A
 * 1 s poll of the generation is the safety net. Each worker maps the new plan, starts what filters are new, a few milliseconds at
 * a time, and swaps one pointer. Requests hold a reference, so they finish on the generation that they began with.
 */
#include "ngx_http_sluice_gw.h"

#include <sys/eventfd.h>

#include "ngx_sluice.h"

#define POLL_MS 1000
#define STEP_MS 4 /* of filter starts in one go while requests are served */
#define RETRY_MS 1000

typedef struct {
    uint8_t key[32];
    sl_module_t *module; /* identity only: the same key on another module is another filter */
    pw_filter_t *filter;
} gen_filter_t;

struct ngx_http_sluice_gw_gen_s {
    ngx_uint_t refs;
    gw_plan_t *plan;
    pw_chain_t **chains;
    size_t n_chains, built; /* chains made so far */
    gen_filter_t *filters;  /* in order of their first use */
    size_t n_filters, cap_filters;
    uint32_t *index; /* open addressing over the keys, 2 * cap_filters slots; position + 1, 0: free */
};

typedef struct {
    ngx_atomic_t generation;
    ngx_atomic_t revision; /* of the store, that `generation` or a later one has; written after it */
    ngx_atomic_t loader;   /* pid, 0: nobody */
    struct {
        ngx_atomic_t pid;
        ngx_atomic_t generation;
    } workers[NGX_HTTP_SLUICE_GW_MAX_WORKERS];
} shm_t;

typedef struct {
    char *name;
    sl_module_t *module;
    time_t mtime;
    off_t size;
    ino_t inode;
} module_t;

/* What belongs to the worker as a whole. */
static struct {
    ngx_http_sluice_gw_main_conf_t *mcf;
    shm_t *shm;
    ngx_http_sluice_gw_gen_t *current, *next;
    nd_filters_t *filters;
    sl_cache_t *cache;
    ngx_array_t *modules; /* module_t */
    ngx_event_t poll, step;
    ngx_connection_t *wake;
    ngx_uint_t slot;
    uint64_t refused; /* a generation that could not be built: not tried again until the next one or a retry */
    ngx_msec_t refused_at;
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
    return NGX_OK;
}

/* ---- a generation ------------------------------------------------------------------------------------------------------ */

static void gen_free(ngx_http_sluice_gw_gen_t *gen) {
    for (size_t i = 0; i < gen->built; i++) {
        pw_chain_unref(gen->chains[i]);
    }
    for (size_t i = 0; i < gen->n_filters; i++) {
        pw_filter_unref(gen->filters[i].filter);
    }
    gw_plan_close(gen->plan);
    free(gen->index);
    free(gen->filters);
    free(gen->chains);
    free(gen);
}

ngx_http_sluice_gw_gen_t *ngx_http_sluice_gw_current(void) {
    return gw.current;
}

ngx_http_sluice_gw_gen_t *ngx_http_sluice_gw_gen_ref(ngx_http_sluice_gw_gen_t *gen) {
    gen->refs++;
    return gen;
}

void ngx_http_sluice_gw_gen_unref(ngx_http_sluice_gw_gen_t *gen) {
    if (gen != NULL && --gen->refs == 0) {
        gen_free(gen);
    }
}

const gw_plan_t *ngx_http_sluice_gw_gen_plan(const ngx_http_sluice_gw_gen_t *gen) {
    return gen->plan;
}

pw_chain_t *ngx_http_sluice_gw_gen_chain(const ngx_http_sluice_gw_gen_t *gen, int32_t index) {
    return index >= 0 && (size_t)index < gen->n_chains ? gen->chains[index] : NULL;
}

void ngx_http_sluice_gw_node(ngx_http_sluice_gw_main_conf_t *mcf, nd_node_t *node) {
    *node = (nd_node_t){
        .engine = ngx_sluice_engine(ngx_sluice_conf((ngx_cycle_t *)ngx_cycle)),
        .cache = gw.cache,
        .filters = gw.filters,
        .wasm_enabled = mcf->wasm,
        .traditional = mcf->traditional,
        .plan_path = mcf->plan_path,
    };
}

static pw_worker_t *worker(void) {
    return ngx_sluice_worker(ngx_sluice_conf((ngx_cycle_t *)ngx_cycle));
}

/* ---- modules and filters -------------------------------------------------------------------------------------------------- */

/* The module of an installed filter, loaded once per worker and again when its file has changed. Borrowed. */
static sl_status_t find_module(sl_str_t name, sl_module_t **out, sl_err_t *err) {
    const nd_filter_t *f = nd_filters_find(gw.filters, name);
    struct stat st;
    if (f == NULL || stat(f->path, &st) != 0) {
        return sl_err_set(err, SL_NOT_FOUND, "filter '%.*s' is no longer installed", SL_FMT(name));
    }
    module_t *list = gw.modules->elts;
    module_t *m = NULL;
    for (ngx_uint_t i = 0; i < gw.modules->nelts; i++) {
        if (sl_str_eq(sl_cstr(list[i].name), name)) {
            m = &list[i];
        }
    }
    if (m != NULL && m->mtime == st.st_mtime && m->size == st.st_size && m->inode == st.st_ino) {
        *out = m->module;
        return SL_OK;
    }
    nd_node_t node;
    ngx_http_sluice_gw_node(gw.mcf, &node);
    sl_module_t *module = NULL;
    sl_status_t rc = nd_module_load(&node, name, &module, err);
    if (rc != SL_OK) {
        return rc;
    }
    if (m == NULL) {
        m = ngx_array_push(gw.modules);
        char *copy = m != NULL ? strndup(name.data, name.len) : NULL;
        if (copy == NULL) {
            gw.modules->nelts -= m != NULL;
            sl_module_unref(module);
            return sl_err_set(err, SL_NO_MEMORY, "out of memory");
        }
        *m = (module_t){.name = copy};
    } else {
        sl_module_unref(m->module);
    }
    m->module = module;
    m->mtime = st.st_mtime;
    m->size = st.st_size;
    m->inode = st.st_ino;
    *out = module;
    return SL_OK;
}

static size_t first_slot(const ngx_http_sluice_gw_gen_t *gen, const uint8_t key[32]) {
    uint64_t h;
    ngx_memcpy(&h, key, sizeof(h)); /* a SHA-256: any part of it is as good as a hash */
    return (size_t)(h & (2 * gen->cap_filters - 1));
}

static pw_filter_t *find_filter(const ngx_http_sluice_gw_gen_t *gen, const uint8_t key[32], const sl_module_t *module) {
    if (gen == NULL || gen->n_filters == 0) {
        return NULL;
    }
    for (size_t slot = first_slot(gen, key); gen->index[slot] != 0; slot = (slot + 1) & (2 * gen->cap_filters - 1)) {
        const gen_filter_t *f = &gen->filters[gen->index[slot] - 1];
        if (f->module == module && memcmp(f->key, key, 32) == 0) {
            return f->filter;
        }
    }
    return NULL;
}

static void index_filter(ngx_http_sluice_gw_gen_t *gen, size_t position) {
    size_t slot = first_slot(gen, gen->filters[position].key);
    while (gen->index[slot] != 0) {
        slot = (slot + 1) & (2 * gen->cap_filters - 1);
    }
    gen->index[slot] = (uint32_t)position + 1;
}

static sl_status_t grow_filters(ngx_http_sluice_gw_gen_t *gen) {
    size_t cap = gen->cap_filters == 0 ? 16 : gen->cap_filters * 2;
    uint32_t *index = calloc(2 * cap, sizeof(*index));
    gen_filter_t *filters = index != NULL ? realloc(gen->filters, cap * sizeof(*filters)) : NULL;
    if (filters == NULL) {
        free(index);
        return SL_NO_MEMORY;
    }
    free(gen->index);
    gen->filters = filters;
    gen->index = index;
    gen->cap_filters = cap;
    for (size_t i = 0; i < gen->n_filters; i++) {
        index_filter(gen, i);
    }
    return SL_OK;
}

static sl_status_t add_filter(ngx_http_sluice_gw_gen_t *gen, const uint8_t key[32], sl_module_t *module, pw_filter_t *filter,
                              sl_err_t *err) {
    if (gen->n_filters == gen->cap_filters && grow_filters(gen) != SL_OK) {
        pw_filter_unref(filter);
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    gen_filter_t *f = &gen->filters[gen->n_filters];
    memcpy(f->key, key, 32);
    f->module = module;
    f->filter = filter;
    index_filter(gen, gen->n_filters++);
    return SL_OK;
}

/* The running filter of an entry: from this generation, kept from the current one, or started. Borrowed from `gen`. */
static sl_status_t get_filter(ngx_http_sluice_gw_gen_t *gen, const gw_filter_t *entry, pw_filter_t **out, sl_err_t *err) {
    sl_module_t *module = NULL;
    sl_status_t rc = find_module(entry->name, &module, err);
    if (rc != SL_OK) {
        return rc;
    }
    *out = find_filter(gen, entry->key, module);
    if (*out != NULL) {
        return SL_OK;
    }
    pw_filter_t *kept = find_filter(gw.current, entry->key, module);
    if (kept != NULL) {
        *out = pw_filter_ref(kept);
    } else {
        pw_filter_conf_t conf = {.name = entry->name, .config = entry->config, .module = module};
        rc = pw_filter_new(worker(), &conf, out, err);
        if (rc != SL_OK) {
            return rc;
        }
    }
    return add_filter(gen, entry->key, module, *out, err);
}

static sl_status_t build_chain(ngx_http_sluice_gw_gen_t *gen, uint32_t index, sl_err_t *err) {
    size_t n = gw_plan_chain(gen->plan, index);
    pw_filter_t **list = calloc(n + 1, sizeof(*list));
    sl_status_t rc = list != NULL ? SL_OK : sl_err_set(err, SL_NO_MEMORY, "out of memory");
    for (size_t i = 0; rc == SL_OK && i < n; i++) {
        gw_filter_t entry;
        gw_plan_chain_filter(gen->plan, index, i, &entry);
        rc = get_filter(gen, &entry, &list[i], err);
        if (rc != SL_OK) {
            sl_err_prefix(err, "filter chain '%.*s': ", SL_FMT(entry.chain_name.len != 0 ? entry.chain_name : entry.chain_id));
        }
    }
    if (rc == SL_OK) {
        pw_chain_conf_t conf = {.reverse_response = false};
        gen->chains[index] = pw_chain_new(worker(), list, n, &conf);
        if (gen->chains[index] == NULL) {
            rc = sl_err_set(err, SL_NO_MEMORY, "out of memory");
        }
    }
    free(list);
    return rc;
}

static sl_status_t gen_open(const char *path, ngx_http_sluice_gw_gen_t **out, sl_err_t *err) {
    ngx_http_sluice_gw_gen_t *gen = calloc(1, sizeof(*gen));
    if (gen == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    gen->refs = 1;
    sl_status_t rc = gw_plan_open_file(path, &gen->plan, err);
    if (rc == SL_OK) {
        gen->n_chains = gw_plan_n_chains(gen->plan);
        gen->chains = calloc(gen->n_chains + 1, sizeof(*gen->chains));
        rc = gen->chains != NULL ? SL_OK : sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    if (rc != SL_OK) {
        gen_free(gen);
        return rc;
    }
    *out = gen;
    return SL_OK;
}

/* ---- switching ---------------------------------------------------------------------------------------------------------------- */

static void announce(void) {
    if (gw.slot < NGX_HTTP_SLUICE_GW_MAX_WORKERS) {
        gw.shm->workers[gw.slot].generation = gw.current != NULL ? (ngx_atomic_uint_t)gw_plan_generation(gw.current->plan) : 0;
        gw.shm->workers[gw.slot].pid = (ngx_atomic_uint_t)ngx_pid;
    }
}

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

static void refuse(uint64_t generation, const sl_err_t *err) {
    ngx_log_error(NGX_LOG_EMERG, ngx_cycle->log, 0, "[sluice] generation %uL cannot be served by this worker, %s: %s", generation,
                  gw.current != NULL ? "the one before goes on" : "requests get 503", err->text);
    gw.refused = generation;
    gw.refused_at = ngx_current_msec;
}

static void take_over(void) {
    ngx_http_sluice_gw_gen_t *old = gw.current;
    gw.current = gw.next;
    gw.next = NULL;
    ngx_http_sluice_gw_gen_unref(old);
    announce();
    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0, "[sluice] generation %uL: %uz routes, %uz filter chains, %uz filters",
                  (uint64_t)gw_plan_generation(gw.current->plan), gw_plan_n_routes(gw.current->plan), gw.current->n_chains,
                  gw.current->n_filters);
}

/* Builds chains of `next` for at most `budget_ms` (0: all); then takes over, or goes on at the next turn of the event loop. */
static void build_some(ngx_msec_t budget_ms) {
    sl_err_t err = {.text = ""};
    ngx_msec_t start = ngx_current_msec;
    while (gw.next->built < gw.next->n_chains) {
        if (build_chain(gw.next, (uint32_t)gw.next->built, &err) != SL_OK) {
            refuse(gw_plan_generation(gw.next->plan), &err);
            gen_free(gw.next);
            gw.next = NULL;
            return;
        }
        gw.next->built++;
        ngx_time_update();
        if (budget_ms != 0 && ngx_current_msec - start >= budget_ms && gw.next->built < gw.next->n_chains) {
            ngx_add_timer(&gw.step, 1);
            return;
        }
    }
    take_over();
}

static void step_handler(ngx_event_t *ev) {
    (void)ev;
    if (gw.next != NULL && !ngx_exiting && !ngx_quit && !ngx_terminate) {
        build_some(STEP_MS);
    }
}

static void rescan_filters(void) {
    nd_filters_t *fresh;
    sl_err_t err = {.text = ""};
    if (nd_filters_scan(gw.mcf->wasm ? gw.mcf->filters_path : NULL, ngx_sluice_to_sl(gw.mcf->filters_choose), &fresh, &err) == SL_OK) {
        nd_filters_free(gw.filters);
        gw.filters = fresh;
    } else {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] installed filters: %s", err.text);
    }
}

/* Looks whether there is something newer than what is served or being built. */
static void look(ngx_msec_t budget_ms) {
    uint64_t latest = gw.shm->generation;
    uint64_t serving = gw.current != NULL ? gw_plan_generation(gw.current->plan) : 0;
    bool behind = gw.current == NULL || latest > serving;
    if (!behind || gw.next != NULL) {
        return;
    }
    if (gw.refused != 0 && gw.refused >= latest && ngx_current_msec - gw.refused_at < RETRY_MS) {
        return;
    }
    sl_err_t err = {.text = ""};
    if (gen_open(gw.mcf->plan_path, &gw.next, &err) != SL_OK) {
        refuse(latest, &err);
        return;
    }
    rescan_filters();
    build_some(budget_ms);
}

static void wake_handler(ngx_event_t *ev) {
    (void)ev;
    if (!ngx_exiting && !ngx_quit && !ngx_terminate) {
        look(STEP_MS);
    }
}

static void poll_handler(ngx_event_t *ev) {
    if (ngx_exiting || ngx_quit || ngx_terminate) {
        leave(); /* who waits for all workers need not wait for this one's last requests */
        return;
    }
    look(STEP_MS);
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
    gw.mcf = mcf;
    gw.shm = mcf->zone->data;
    gw.slot = ngx_worker;
    gw.modules = ngx_array_create(cycle->pool, 16, sizeof(module_t));
    gw.cache = sl_cache_new(mcf->cache_path, cache_log, NULL);
    if (gw.modules == NULL || gw.cache == NULL || nd_filters_scan(NULL, SL_STR_NULL, &gw.filters, NULL) != SL_OK) {
        return NGX_ERROR;
    }
    init_event(&gw.poll, poll_handler);
    init_event(&gw.step, step_handler);
    if (listen_to_eventfd(cycle) != NGX_OK) {
        return NGX_ERROR;
    }
    /* Before the first request there is nothing to disturb: all at once. */
    look(0);
    if (gw.current != NULL) {
        raise_generation(gw_plan_generation(gw.current->plan));
    }
    announce();
    ngx_add_timer(&gw.poll, POLL_MS);
    /* Equal generations of a reload and of those that went on before it may differ: another one makes sure. */
    ngx_atomic_uint_t revision = gw.current != NULL ? (ngx_atomic_uint_t)gw_plan_store_revision(gw.current->plan) : 0;
    if (!ngx_atomic_cmp_set(&gw.shm->revision, 0, revision) && gw.shm->revision != revision) {
        gw.shm->revision = 0;
    }
    return ngx_http_sluice_gw_store_init_worker(cycle, mcf);
}

/*
 * nginx tells the threads of its pools to end and does not join them. One that is still ending while the process exits runs
 * destructors over what exit() takes away: wait until they have gone, a fifth of a second at most.
 */
static void wait_for_threads(void) {
    for (ngx_uint_t i = 0; i < 200; i++) {
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
    if (gw.next != NULL) {
        gen_free(gw.next);
    }
    ngx_http_sluice_gw_gen_unref(gw.current);
    module_t *m = gw.modules->elts;
    for (ngx_uint_t i = 0; i < gw.modules->nelts; i++) {
        sl_module_unref(m[i].module);
        free(m[i].name);
    }
    nd_filters_free(gw.filters);
    sl_cache_free(gw.cache);
    ngx_http_sluice_gw_match_deinit();
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

void ngx_http_sluice_gw_load_end(uint64_t generation) {
    if (generation != 0) {
        raise_generation(generation);
        uint64_t one = 1;
        if (gw_eventfd != -1 && write(gw_eventfd, &one, sizeof(one)) != sizeof(one)) {
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, ngx_errno, "[sluice] cannot wake the other workers; they look once a second");
        }
    }
    (void)ngx_atomic_cmp_set(&gw.shm->loader, (ngx_atomic_uint_t)ngx_pid, 0);
    if (generation != 0) {
        look(STEP_MS);
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
    uint64_t serving = gw.current != NULL ? gw_plan_generation(gw.current->plan) : 0;
    return gw.shm->generation > serving ? gw.shm->generation : serving;
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
