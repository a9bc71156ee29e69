#include "ngx_http_sluice_gw_observe.h"

#include "nd_labels.h"
#include "ngx_sluice_state.h"
#include "sh_metric.h"
#include "sh_prometheus.h"
#include "sl_digest.h"

#define DEFAULT_SIZE ((ssize_t)8 * 1024 * 1024)
#define LEAST_SIZE ((ssize_t)256 * 1024)
#define ROWS_MAX 16
#define PAGE_SLOTS 256 /* routes whose ids are kept together */
#define CODES 6        /* statuses of a route that are found at once */
#define POLL_MS 1000
#define OTHER "(other)"

enum { REQUEST_MS, UPSTREAM_MS, GATEWAY_MS, BYTES_IN, BYTES_OUT, FIXED };

static const struct {
    const char *name, *key;
    sh_metric_type_t type;
    const char *labels, *help;
} fixed[FIXED] = {
    [REQUEST_MS] = {"sluice_request_latency_ms", "request", SH_HISTOGRAM, "",
                    "From the first byte of a request to the last of its answer."},
    [UPSTREAM_MS] = {"sluice_upstream_latency_ms", "upstream", SH_HISTOGRAM, "", "What upstreams took for their answers."},
    [GATEWAY_MS] = {"sluice_gateway_latency_ms", "gateway", SH_HISTOGRAM, "", "The rest: the gateway, its filters and the client."},
    [BYTES_IN] = {"sluice_bandwidth_bytes_total", "in", SH_COUNTER, ",direction=\"ingress\"", "Bytes of requests and of answers."},
    [BYTES_OUT] = {"sluice_bandwidth_bytes_total", "out", SH_COUNTER, ",direction=\"egress\"", NULL},
};

/* The metrics of one route, as far as this worker has needed them; 0: not yet. */
typedef struct {
    uint32_t ids[FIXED];
    struct {
        uint32_t status, id;
    } codes[CODES];
} slot_t;

static ngx_shm_zone_t *zone;
static ngx_cycle_t *zone_cycle; /* that it was declared in: while zones are set up, ngx_cycle is the one before */

static struct {
    ngx_http_sluice_gw_node_shm_t *node;
    sh_metrics_t ms;
    uint64_t generation; /* that the slots are for */
    slot_t **pages;
    size_t n_pages;
    slot_t none, other; /* requests without a route; routes without room */
    ngx_event_t poll;
    unsigned ready : 1;
} ob;

ngx_http_sluice_gw_node_shm_t *ngx_http_sluice_gw_node_shm(void) {
    return ob.node;
}

/* ---- the zone ------------------------------------------------------------------------------------------------------------ */

static void zone_lock(void *ud) {
    ngx_shmtx_lock(&((ngx_slab_pool_t *)ud)->mutex);
}

static void zone_unlock(void *ud) {
    ngx_shmtx_unlock(&((ngx_slab_pool_t *)ud)->mutex);
}

/* One allocation of all pages: the node's words, then the metrics. */
static sl_status_t open_region(ngx_slab_pool_t *pool, bool fresh, sh_metrics_t *ms) {
    ngx_core_conf_t *ccf = (ngx_core_conf_t *)ngx_get_conf(zone_cycle->conf_ctx, ngx_core_module);
    size_t head = ngx_align(sizeof(ngx_http_sluice_gw_node_shm_t), 64);
    size_t size = (size_t)(pool->last - pool->pages) * ngx_pagesize;
    uint32_t rows = ccf != NULL && ccf->worker_processes > 0 ? (uint32_t)ngx_min(ccf->worker_processes, ROWS_MAX) : 1;
    uint64_t seed = 0;
    if (fresh && sl_random(&seed, sizeof(seed)) != SL_OK) {
        return SL_FAILED;
    }
    *ms = (sh_metrics_t){.lock = zone_lock, .unlock = zone_unlock, .ud = pool};
    return sh_metrics_open(ms, (u_char *)pool->data + head, size - head, fresh, seed, rows);
}

static ngx_int_t init_zone(ngx_shm_zone_t *shm, void *old) {
    ngx_slab_pool_t *pool = (ngx_slab_pool_t *)shm->shm.addr;
    bool fresh = old == NULL && !shm->shm.exists;
    sh_metrics_t ms;
    if (fresh) {
        pool->data = ngx_slab_alloc(pool, (size_t)(pool->last - pool->pages) * ngx_pagesize);
        if (pool->data == NULL) {
            return NGX_ERROR;
        }
        ngx_memzero(pool->data, sizeof(ngx_http_sluice_gw_node_shm_t));
    } else {
        ((ngx_http_sluice_gw_node_shm_t *)pool->data)->log_level = 0; /* a reload has its own */
    }
    shm->data = pool;
    if (open_region(pool, fresh, &ms) != SL_OK) {
        ngx_log_error(NGX_LOG_EMERG, shm->shm.log, 0, "[sluice] metrics_memory is too small, or cannot be used");
        return NGX_ERROR;
    }
    return NGX_OK;
}

ngx_int_t ngx_http_sluice_gw_observe_zone_add(ngx_conf_t *cf, const char *size) {
    ngx_str_t name = ngx_string("sluice_requests");
    ngx_str_t text = {size != NULL ? ngx_strlen(size) : 0, (u_char *)(uintptr_t)size};
    ssize_t bytes = size != NULL ? ngx_parse_size(&text) : DEFAULT_SIZE;
    if (bytes == NGX_ERROR || bytes < LEAST_SIZE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "metrics_memory: '%V' is no size, or below 256k", &text);
        return NGX_ERROR;
    }
    zone = ngx_shared_memory_add(cf, &name, (size_t)bytes, &ngx_http_sluice_gateway_module);
    if (zone == NULL) {
        return NGX_ERROR;
    }
    zone->init = init_zone;
    zone_cycle = cf->cycle;
    return NGX_OK;
}

/* ---- the life of a worker ------------------------------------------------------------------------------------------------ */

static void poll_handler(ngx_event_t *ev) {
    if (!ngx_exiting && !ngx_quit && !ngx_terminate) {
        ngx_http_sluice_gw_apply_log_level();
        ngx_add_timer(ev, POLL_MS);
    }
}

static void define_other(void);

void ngx_http_sluice_gw_observe_init_worker(ngx_cycle_t *cycle) {
    static ngx_connection_t dummy; /* a debug build reads ->fd of a timer's data */
    ngx_slab_pool_t *pool = zone != NULL ? zone->data : NULL;
    ngx_memzero(&ob, sizeof(ob));
    if (pool == NULL || open_region(pool, false, &ob.ms) != SL_OK) {
        return;
    }
    sh_metrics_slot(&ob.ms, (uint32_t)ngx_worker);
    ob.node = pool->data;
    ob.ready = 1;
    dummy.fd = (ngx_socket_t)-1;
    define_other();
    ob.poll.handler = poll_handler;
    ob.poll.data = &dummy;
    ob.poll.log = cycle->log;
    ob.poll.cancelable = 1;
    ngx_add_timer(&ob.poll, POLL_MS);
}

static void forget_slots(void) {
    for (size_t i = 0; i < ob.n_pages; i++) {
        free(ob.pages[i]);
    }
    free(ob.pages);
    ob.pages = NULL;
    ob.n_pages = 0;
}

void ngx_http_sluice_gw_observe_exit_worker(void) {
    forget_slots();
    ngx_http_sluice_gw_stop_timer(&ob.poll);
    ob.ready = 0;
}

/* ---- one request ----------------------------------------------------------------------------------------------------------- */

/* The slots of a generation; the newest one that a request came with. */
static unsigned take_generation(const gw_plan_t *plan) {
    uint64_t generation = gw_plan_generation(plan);
    if (ob.pages != NULL && generation <= ob.generation) {
        return generation == ob.generation;
    }
    forget_slots();
    ob.n_pages = gw_plan_n_routes(plan) / PAGE_SLOTS + 1;
    ob.pages = calloc(ob.n_pages, sizeof(*ob.pages));
    ob.n_pages = ob.pages != NULL ? ob.n_pages : 0;
    ob.generation = generation;
    return ob.pages != NULL;
}

/* `fresh` is for requests that began with a generation which is no longer the newest. */
static slot_t *slot_of(const ngx_http_sluice_gw_ctx_t *ctx, slot_t *fresh) {
    if (!ctx->matched) {
        return &ob.none;
    }
    ngx_memzero(fresh, sizeof(*fresh));
    if (!take_generation(ngx_http_sluice_gw_gen_plan(ctx->gen))) {
        return fresh;
    }
    slot_t **page = &ob.pages[ctx->route_index / PAGE_SLOTS];
    if (*page == NULL) {
        *page = calloc(PAGE_SLOTS, sizeof(**page));
    }
    return *page != NULL ? &(*page)[ctx->route_index % PAGE_SLOTS] : fresh;
}

static sl_str_t name_or_id(sl_str_t name, sl_str_t id) {
    return name.len != 0 ? name : id;
}

/* A metric's owner: service, a line end, route. */
static void owner_of(const ngx_http_sluice_gw_ctx_t *ctx, const slot_t *slot, sl_buf_t *owner) {
    if (slot == &ob.other) {
        sl_buf_append_cstr(owner, "\n" OTHER);
    } else if (slot == &ob.none) {
        sl_buf_append_char(owner, '\n');
    } else {
        sl_buf_append_str(owner, ctx->route.has_service ? name_or_id(ctx->service.name, ctx->service.id) : SL_STR_NULL);
        sl_buf_append_char(owner, '\n');
        sl_buf_append_str(owner, name_or_id(ctx->route.name, ctx->route.id));
    }
}

static uint32_t define(const ngx_http_sluice_gw_ctx_t *ctx, const slot_t *slot, sh_metric_type_t type, const char *key) {
    sl_buf_t owner;
    uint32_t id = 0;
    sl_buf_init(&owner, 4096);
    owner_of(ctx, slot, &owner);
    if (!owner.failed) {
        (void)sh_metric_define(&ob.ms, type, sl_buf_str(&owner), sl_cstr(key), &id);
    }
    sl_buf_deinit(&owner);
    return id;
}

static uint32_t fixed_id(const ngx_http_sluice_gw_ctx_t *ctx, slot_t *slot, unsigned which) {
    if (slot->ids[which] == 0) {
        slot->ids[which] = define(ctx, slot, fixed[which].type, fixed[which].key);
    }
    if (slot->ids[which] == 0 && slot != &ob.other) {
        slot->ids[which] = fixed_id(ctx, &ob.other, which);
    }
    return slot->ids[which];
}

/* "2xx": what is left to count with when no status finds room. */
static uint32_t class_id(uint32_t status) {
    char key[4] = {(char)('0' + ngx_min(status / 100, 9)), 'x', 'x', '\0'};
    return define(NULL, &ob.other, SH_COUNTER, key);
}

/* Before anything else, so that there is room for them. */
static void define_other(void) {
    for (unsigned i = 0; i < FIXED; i++) {
        (void)fixed_id(NULL, &ob.other, i);
    }
    for (uint32_t status = 100; status <= 500; status += 100) {
        (void)class_id(status);
    }
}

static uint32_t code_id(const ngx_http_sluice_gw_ctx_t *ctx, slot_t *slot, uint32_t status) {
    char key[16];
    size_t i = 0;
    while (i < CODES && slot->codes[i].id != 0 && slot->codes[i].status != status) {
        i++;
    }
    if (i < CODES && slot->codes[i].id != 0) {
        return slot->codes[i].id;
    }
    snprintf(key, sizeof(key), "%u", status);
    uint32_t id = define(ctx, slot, SH_COUNTER, key);
    id = id != 0 ? id : class_id(status);
    if (i < CODES) {
        slot->codes[i].status = status;
        slot->codes[i].id = id;
    }
    return id;
}

ngx_msec_t ngx_http_sluice_gw_request_ms(ngx_http_request_t *r) {
    ngx_time_t *now = ngx_timeofday();
    ngx_msec_int_t ms = (ngx_msec_int_t)((now->sec - r->start_sec) * 1000 + ((ngx_msec_int_t)now->msec - (ngx_msec_int_t)r->start_msec));
    return (ngx_msec_t)ngx_max(ms, 0);
}

ngx_int_t ngx_http_sluice_gw_upstream_ms(ngx_http_request_t *r) {
    ngx_http_upstream_state_t *state = r->upstream_states != NULL ? r->upstream_states->elts : NULL;
    ngx_int_t ms = -1;
    for (ngx_uint_t i = 0; state != NULL && i < r->upstream_states->nelts; i++) {
        if (state[i].response_time != (ngx_msec_t)-1) {
            ms = ngx_max(ms, 0) + (ngx_int_t)state[i].response_time;
        }
    }
    return ms;
}

ngx_uint_t ngx_http_sluice_gw_status(ngx_http_request_t *r) {
    return r->err_status != 0 ? r->err_status : r->headers_out.status;
}

static void record(const ngx_http_sluice_gw_ctx_t *ctx, slot_t *slot, unsigned which, uint64_t value) {
    uint32_t id = fixed_id(ctx, slot, which);
    if (id != 0) {
        (void)sh_metric_record(&ob.ms, id, value);
    }
}

ngx_int_t ngx_http_sluice_gw_observe_handler(ngx_http_request_t *r) {
    ngx_http_sluice_gw_ctx_t *ctx = ob.ready && r == r->main ? ngx_http_sluice_gw_ctx(r) : NULL;
    if (ctx == NULL) {
        return NGX_OK;
    }
    slot_t fresh, *slot = slot_of(ctx, &fresh);
    uint64_t request_ms = ngx_http_sluice_gw_request_ms(r);
    ngx_int_t upstream_ms = ngx_http_sluice_gw_upstream_ms(r);
    uint32_t code = code_id(ctx, slot, (uint32_t)ngx_http_sluice_gw_status(r));
    if (code != 0) {
        (void)sh_metric_add(&ob.ms, code, 1);
    }
    record(ctx, slot, REQUEST_MS, request_ms);
    if (upstream_ms >= 0) {
        record(ctx, slot, UPSTREAM_MS, (uint64_t)upstream_ms);
    }
    uint64_t theirs = upstream_ms > 0 ? (uint64_t)upstream_ms : 0;
    record(ctx, slot, GATEWAY_MS, request_ms > theirs ? request_ms - theirs : 0);
    record(ctx, slot, BYTES_IN, (uint64_t)r->request_length);
    record(ctx, slot, BYTES_OUT, (uint64_t)r->connection->sent);
    return NGX_OK;
}

/* ---- text ------------------------------------------------------------------------------------------------------------------- */

/* service="...",route="..." of an owner. */
static void append_labels(sl_buf_t *out, sl_str_t owner) {
    const char *nl = memchr(owner.data, '\n', owner.len);
    size_t n = nl != NULL ? (size_t)(nl - owner.data) : owner.len;
    sl_buf_append_cstr(out, "service=\"");
    sh_prometheus_label(out, sl_str(owner.data, n));
    sl_buf_append_cstr(out, "\",route=\"");
    sh_prometheus_label(out, n < owner.len ? sl_str(owner.data + n + 1, owner.len - n - 1) : SL_STR_NULL);
    sl_buf_append_char(out, '"');
}

/* What all others are counted with is there from the start; it is shown when it is needed. */
static bool is_shown(const sh_metric_view_t *view) {
    return view->value != 0 || view->count != 0 || !sl_str_eq(view->owner, SL_STR("\n" OTHER));
}

static void render_counter(sl_buf_t *out, const char *name, const sh_metric_view_t *view, const char *more, sl_str_t code) {
    sl_buf_printf(out, "%s{", name);
    append_labels(out, view->owner);
    sl_buf_append_cstr(out, more);
    if (code.len != 0) {
        sl_buf_printf(out, ",code=\"%.*s\"", SL_FMT(code));
    }
    sl_buf_printf(out, "} %llu\n", (unsigned long long)view->value);
}

static void render_histogram(sl_buf_t *out, const char *name, const sh_metric_view_t *view) {
    uint64_t total = 0;
    for (unsigned i = 0; i <= 16; i++) {
        total += view->bins[i];
        sl_buf_printf(out, "%s_bucket{", name);
        append_labels(out, view->owner);
        sl_buf_printf(out, ",le=\"%lu\"} %llu\n", 1ul << i, (unsigned long long)total);
    }
    sl_buf_printf(out, "%s_bucket{", name);
    append_labels(out, view->owner);
    sl_buf_printf(out, ",le=\"+Inf\"} %llu\n%s_sum{", (unsigned long long)view->count, name);
    append_labels(out, view->owner);
    sl_buf_printf(out, "} %llu\n%s_count{", (unsigned long long)view->value, name);
    append_labels(out, view->owner);
    sl_buf_printf(out, "} %llu\n", (unsigned long long)view->count);
}

static void render_codes(sl_buf_t *out) {
    sh_metric_view_t view;
    sh_prometheus_head(out, "sluice_http_requests_total", "counter", "Requests by service, route and status code.");
    for (uint32_t id = 1; sh_metric_view(&ob.ms, id, &view); id++) {
        if (view.name.len != 0 && view.name.data[0] >= '0' && view.name.data[0] <= '9' && is_shown(&view)) {
            render_counter(out, "sluice_http_requests_total", &view, "", view.name);
        }
    }
}

static void render_fixed(sl_buf_t *out, unsigned which) {
    sh_metric_view_t view;
    if (fixed[which].help != NULL) {
        sh_prometheus_head(out, fixed[which].name, fixed[which].type == SH_HISTOGRAM ? "histogram" : "counter", fixed[which].help);
    }
    for (uint32_t id = 1; sh_metric_view(&ob.ms, id, &view); id++) {
        if (!sl_str_eq(view.name, sl_cstr(fixed[which].key)) || !is_shown(&view)) {
            continue;
        }
        if (fixed[which].type == SH_HISTOGRAM) {
            render_histogram(out, fixed[which].name, &view);
        } else {
            render_counter(out, fixed[which].name, &view, fixed[which].labels, SL_STR_NULL);
        }
    }
}

static void gauge(sl_buf_t *out, const char *name, const char *type, const char *help, uint64_t value) {
    sh_prometheus_head(out, name, type, help);
    sl_buf_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

static void render_node(ngx_http_sluice_gw_main_conf_t *mcf, sl_buf_t *out) {
    const char *version = json_string_value(json_object_get(mcf->settings, "version"));
    const char *node_id = json_string_value(json_object_get(mcf->settings, "node_id"));
    const ngx_http_sluice_gw_gen_t *gen = ngx_http_sluice_gw_current();
    const gw_plan_t *plan = gen != NULL ? ngx_http_sluice_gw_gen_plan(gen) : NULL;
    sh_metrics_stats_t stats = sh_metrics_stats(&ob.ms);
    sh_prometheus_head(out, "sluice_node_info", "gauge", "Version and id of the node.");
    sl_buf_printf(out, "sluice_node_info{version=\"%s\",node_id=\"%s\"} 1\n", version, node_id);
    gauge(out, "sluice_ready", "gauge", "1: the node serves requests and does not drain.", ngx_http_sluice_gw_not_ready() == NULL);
    gauge(out, "sluice_plan_revision", "gauge", "Revision of the store that it was made from; 0: of a document.",
          plan != NULL ? gw_plan_store_revision(plan) : 0);
    gauge(out, "sluice_plan_services", "gauge", "Services in it.", plan != NULL ? gw_plan_n_services(plan) : 0);
    gauge(out, "sluice_plan_routes", "gauge", "Routes in it.", plan != NULL ? gw_plan_n_routes(plan) : 0);
    gauge(out, "sluice_plan_chains", "gauge", "Filter chains in it.", plan != NULL ? gw_plan_n_chains(plan) : 0);
    gauge(out, "sluice_metrics_used_bytes", "gauge", "What of metrics_memory is in use.", stats.used_bytes);
    gauge(out, "sluice_metrics_refused_total", "counter", "Metrics of routes for which there was no room.", stats.refused);
#if (NGX_STAT_STUB)
    sh_prometheus_head(out, "sluice_nginx_connections", "gauge", "Connections of clients, by state.");
    sl_buf_printf(out, "sluice_nginx_connections{state=\"active\"} %lu\n", (unsigned long)*ngx_stat_active);
    sl_buf_printf(out, "sluice_nginx_connections{state=\"reading\"} %lu\n", (unsigned long)*ngx_stat_reading);
    sl_buf_printf(out, "sluice_nginx_connections{state=\"writing\"} %lu\n", (unsigned long)*ngx_stat_writing);
    sl_buf_printf(out, "sluice_nginx_connections{state=\"waiting\"} %lu\n", (unsigned long)*ngx_stat_waiting);
    gauge(out, "sluice_nginx_connections_accepted_total", "counter", "Connections that were accepted.", (uint64_t)*ngx_stat_accepted);
    gauge(out, "sluice_nginx_requests_total", "counter", "Requests on all listeners.", (uint64_t)*ngx_stat_requests);
#endif
}

sl_status_t ngx_http_sluice_gw_observe_render(ngx_http_sluice_gw_main_conf_t *mcf, const nd_filters_t *filters, sl_buf_t *out) {
    if (ob.ready) {
        render_node(mcf, out);
        render_codes(out);
        for (unsigned i = 0; i < FIXED; i++) {
            render_fixed(out, i);
        }
    }
    return ngx_sluice_state_render_with(ngx_sluice_conf((ngx_cycle_t *)ngx_cycle), nd_labels_split, (void *)(uintptr_t)filters, out);
}
