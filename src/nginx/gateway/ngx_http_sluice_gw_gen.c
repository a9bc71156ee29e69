/*
 * One generation of the configuration in a worker: its plan, the modules that its filters come from, running filters, chains.
 *
 * A thread opens it: everything that reads files or takes time in proportion to the size of the plan happens there. The worker then makes
 * one chain after the other. Filters that run already, with the same name, configuration and module, go on running.
 */
#include "ngx_http_sluice_gw_gen.h"

#include "ngx_http_sluice_gw_lazy.h"
#include "ngx_sluice.h"
#include "sl_parallel.h"

typedef struct {
    uint8_t key[32];
    const sl_module_t *module; /* identity only: the same key on another module is another filter */
    pw_filter_t *filter;
} gen_filter_t;

struct ngx_http_sluice_gw_gen_s {
    ngx_uint_t refs;
    gw_plan_t *plan;
    sl_module_t **modules; /* in order of their first use; a gateway has a handful */
    size_t n_modules, cap_modules;
    pw_chain_t **chains;
    size_t n_chains, built; /* chains made so far */
    gen_filter_t *filters;  /* in order of their first use; room for all there can be */
    size_t n_filters;
    uint32_t *index; /* open addressing over the keys, n_slots (a power of two) of them; position + 1, 0: free */
    size_t n_slots;
    ngx_http_sluice_gw_lazy_t lazy;
    ngx_http_sluice_gw_gen_t *link;
};

/* ---- references ------------------------------------------------------------------------------------------------------- */

ngx_http_sluice_gw_gen_t *ngx_http_sluice_gw_gen_ref(ngx_http_sluice_gw_gen_t *gen) {
    gen->refs++;
    return gen;
}

void ngx_http_sluice_gw_gen_unref(ngx_http_sluice_gw_gen_t *gen) {
    if (gen != NULL && --gen->refs == 0) {
        ngx_http_sluice_gw_discard(gen);
    }
}

const gw_plan_t *ngx_http_sluice_gw_gen_plan(const ngx_http_sluice_gw_gen_t *gen) {
    return gen->plan;
}

pw_chain_t *ngx_http_sluice_gw_gen_chain(const ngx_http_sluice_gw_gen_t *gen, int32_t index) {
    return index >= 0 && (size_t)index < gen->n_chains ? gen->chains[index] : NULL;
}

ngx_http_sluice_gw_lazy_t *ngx_http_sluice_gw_gen_lazy(ngx_http_sluice_gw_gen_t *gen) {
    return &gen->lazy;
}

size_t ngx_http_sluice_gw_gen_n_filters(const ngx_http_sluice_gw_gen_t *gen) {
    return gen->n_filters;
}

size_t ngx_http_sluice_gw_gen_n_chains(const ngx_http_sluice_gw_gen_t *gen) {
    return gen->n_chains;
}

ngx_http_sluice_gw_gen_t **ngx_http_sluice_gw_gen_link(ngx_http_sluice_gw_gen_t *gen) {
    return &gen->link;
}

/* ---- the end ------------------------------------------------------------------------------------------------------------ */

unsigned ngx_http_sluice_gw_gen_take_down(ngx_http_sluice_gw_gen_t *gen) {
    if (gen->built > 0) {
        pw_chain_unref(gen->chains[--gen->built]);
        return 1;
    }
    if (gen->n_filters > 0) {
        pw_filter_unref(gen->filters[--gen->n_filters].filter);
        return 1;
    }
    return ngx_http_sluice_gw_lazy_take_down(&gen->lazy);
}

void ngx_http_sluice_gw_gen_free(ngx_http_sluice_gw_gen_t *gen) {
    for (size_t i = 0; i < gen->n_modules; i++) {
        sl_module_unref(gen->modules[i]);
    }
    ngx_http_sluice_gw_pools_drop(&gen->lazy);
    gw_plan_close(gen->plan);
    free(gen->modules);
    free(gen->index);
    free(gen->filters);
    free(gen->chains);
    free(gen);
}

/* ---- modules ------------------------------------------------------------------------------------------------------------ */

/* By the SHA-256 that the plan has. */
static sl_module_t *find_module(const ngx_http_sluice_gw_gen_t *gen, const uint8_t sha256[SL_SHA256_SIZE]) {
    for (size_t i = 0; gen != NULL && i < gen->n_modules; i++) {
        if (memcmp(sl_module_info(gen->modules[i])->sha256, sha256, SL_SHA256_SIZE) == 0) {
            return gen->modules[i];
        }
    }
    return NULL;
}

static sl_status_t no_memory(sl_err_t *err) {
    return sl_err_set(err, SL_NO_MEMORY, "out of memory");
}

static sl_status_t push_module(ngx_http_sluice_gw_gen_t *gen, sl_module_t *m, sl_err_t *err) {
    if (gen->n_modules == gen->cap_modules) {
        size_t cap = gen->cap_modules == 0 ? 8 : gen->cap_modules * 2;
        sl_module_t **modules = realloc(gen->modules, cap * sizeof(*modules));
        if (modules == NULL) {
            return no_memory(err);
        }
        gen->modules = modules;
        gen->cap_modules = cap;
    }
    gen->modules[gen->n_modules++] = sl_module_ref(m);
    return SL_OK;
}

/* Modules that the generation before does not have. */
typedef struct {
    gw_filter_t entry; /* the first that asks for it */
    sl_module_t *module;
    sl_status_t rc;
    sl_err_t err;
} loading_t;

typedef struct {
    const ngx_http_sluice_gw_source_t *source;
    loading_t *list;
    size_t n, cap;
} loads_t;

static void load_one(void *ud, size_t i) {
    loads_t *loads = ud;
    loading_t *l = &loads->list[i];
    sl_module_t *m;
    l->rc = nd_module_load_sha256(&loads->source->node, l->entry.name, l->entry.module, &m, &l->err);
    l->module = l->rc == SL_OK ? m : NULL;
}

static unsigned is_asked_for(const loads_t *loads, const uint8_t sha256[SL_SHA256_SIZE]) {
    for (size_t i = 0; i < loads->n; i++) {
        if (memcmp(loads->list[i].entry.module, sha256, SL_SHA256_SIZE) == 0) {
            return 1;
        }
    }
    return 0;
}

static sl_status_t ask_for(loads_t *loads, const gw_filter_t *entry, sl_err_t *err) {
    if (loads->n == loads->cap) {
        size_t cap = loads->cap == 0 ? 8 : loads->cap * 2;
        loading_t *list = realloc(loads->list, cap * sizeof(*list));
        if (list == NULL) {
            return no_memory(err);
        }
        loads->list = list;
        loads->cap = cap;
    }
    loads->list[loads->n++] = (loading_t){.entry = *entry};
    return SL_OK;
}

/* Those of the generation before are taken; the others are asked for. */
static sl_status_t take_modules(ngx_http_sluice_gw_gen_t *gen, loads_t *loads, sl_err_t *err) {
    size_t n = gw_plan_n_filters(gen->plan);
    sl_status_t rc = SL_OK;
    for (size_t i = 0; i < n && rc == SL_OK; i++) {
        gw_filter_t entry;
        gw_plan_filter(gen->plan, (uint32_t)i, &entry);
        if (find_module(gen, entry.module) != NULL || is_asked_for(loads, entry.module)) {
            continue;
        }
        sl_module_t *known = find_module(loads->source->previous, entry.module);
        rc = known != NULL ? push_module(gen, known, err) : ask_for(loads, &entry, err);
    }
    return rc;
}

static sl_status_t add_loaded(ngx_http_sluice_gw_gen_t *gen, const loading_t *l, sl_err_t *err) {
    if (l->rc == SL_OK) {
        return push_module(gen, l->module, err);
    }
    *err = l->err;
    sl_err_prefix(err, "filter chain '%.*s': ", SL_FMT(l->entry.chain_name.len != 0 ? l->entry.chain_name : l->entry.chain_id));
    return l->rc;
}

static sl_status_t load_modules(ngx_http_sluice_gw_gen_t *gen, const ngx_http_sluice_gw_source_t *source, sl_err_t *err) {
    loads_t loads = {.source = source};
    sl_status_t rc = take_modules(gen, &loads, err);
    if (rc == SL_OK) {
        sl_parallel(loads.n, 0, load_one, &loads);
    }
    for (size_t i = 0; i < loads.n; i++) {
        rc = rc == SL_OK ? add_loaded(gen, &loads.list[i], err) : rc;
        sl_module_unref(loads.list[i].module);
    }
    if (rc == SL_OK && loads.n != 0) {
        sl_cache_prune(source->node.cache);
    }
    free(loads.list);
    return rc;
}

/* ---- opening -------------------------------------------------------------------------------------------------------------- */

static sl_status_t reserve(ngx_http_sluice_gw_gen_t *gen, sl_err_t *err) {
    size_t n = gw_plan_n_filters(gen->plan);
    gen->n_chains = gw_plan_n_chains(gen->plan);
    for (gen->n_slots = 16; gen->n_slots < 2 * n; gen->n_slots *= 2) {
    }
    gen->chains = calloc(gen->n_chains + 1, sizeof(*gen->chains));
    gen->filters = calloc(n + 1, sizeof(*gen->filters));
    gen->index = calloc(gen->n_slots, sizeof(*gen->index));
    return gen->chains != NULL && gen->filters != NULL && gen->index != NULL ? SL_OK : no_memory(err);
}

sl_status_t ngx_http_sluice_gw_gen_open(const ngx_http_sluice_gw_source_t *source, ngx_http_sluice_gw_opened_t *out, sl_err_t *err) {
    ngx_http_sluice_gw_source_t with = *source;
    ngx_memzero(out, sizeof(*out));
    ngx_http_sluice_gw_gen_t *gen = calloc(1, sizeof(*gen));
    if (gen == NULL) {
        return no_memory(err);
    }
    gen->refs = 1;
    sl_err_t *older = source->previous == NULL ? &out->older : NULL;
    sl_status_t rc = ngx_http_sluice_gw_image_open(source->node.plan_path, source->least, &gen->plan, older, err);
    if (rc == SL_OK && nd_filters_open(&source->node, NULL, &out->filters, &out->scan) == SL_OK) {
        with.node.filters = out->filters;
    }
    rc = rc == SL_OK ? load_modules(gen, &with, err) : rc;
    rc = rc == SL_OK ? reserve(gen, err) : rc;
    if (rc == SL_OK && ngx_http_sluice_gw_pools_read(&gen->lazy, gen->plan) != NGX_OK) {
        rc = no_memory(err);
    }
    if (rc != SL_OK) {
        nd_filters_free(out->filters);
        out->filters = NULL;
        ngx_http_sluice_gw_gen_free(gen);
        return rc;
    }
    out->gen = gen;
    return SL_OK;
}

/* ---- filters ---------------------------------------------------------------------------------------------------------------- */

static size_t first_slot(const ngx_http_sluice_gw_gen_t *gen, const uint8_t key[32]) {
    uint64_t h;
    ngx_memcpy(&h, key, sizeof(h)); /* a SHA-256: any part of it is as good as a hash */
    return (size_t)(h & (gen->n_slots - 1));
}

static pw_filter_t *find_filter(const ngx_http_sluice_gw_gen_t *gen, const uint8_t key[32], const sl_module_t *module) {
    if (gen == NULL || gen->n_filters == 0) {
        return NULL;
    }
    for (size_t slot = first_slot(gen, key); gen->index[slot] != 0; slot = (slot + 1) & (gen->n_slots - 1)) {
        const gen_filter_t *f = &gen->filters[gen->index[slot] - 1];
        if (f->module == module && memcmp(f->key, key, 32) == 0) {
            return f->filter;
        }
    }
    return NULL;
}

/* Each entry of the plan is added once at most, and there is room for all of them. */
static void add_filter(ngx_http_sluice_gw_gen_t *gen, const uint8_t key[32], const sl_module_t *module, pw_filter_t *filter) {
    gen_filter_t *f = &gen->filters[gen->n_filters++];
    ngx_memcpy(f->key, key, 32);
    f->module = module;
    f->filter = filter;
    size_t slot = first_slot(gen, key);
    while (gen->index[slot] != 0) {
        slot = (slot + 1) & (gen->n_slots - 1);
    }
    gen->index[slot] = (uint32_t)gen->n_filters;
}

static pw_worker_t *worker(void) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_sluice_gateway_module);
    pw_worker_t *w = ngx_sluice_worker(ngx_sluice_conf((ngx_cycle_t *)ngx_cycle));
    if (w != NULL && mcf->time_filters) {
        pw_worker_time_filters(w, true);
    }
    return w;
}

/* Of wasm{}: what the settings of the gateway say. */
static const ngx_sluice_settings_t *settings(void) {
    return &ngx_sluice_conf((ngx_cycle_t *)ngx_cycle)->settings;
}

/* `first`: this worker has nothing else to serve. */
static sl_status_t start_filter(const gw_filter_t *entry, sl_module_t *module, bool first, pw_filter_t **out, sl_err_t *err) {
    pw_filter_conf_t conf = {.name = entry->name, .config = entry->config, .module = module};
    sl_filter_opts_init(&conf.opts);
    sl_status_t rc = sl_filter_opts_read(&conf.opts, entry->options, err);
    if (rc != SL_OK) {
        return rc;
    }
    sl_filter_opts_inherit(&conf.opts, &settings()->opts);
    ngx_http_sluice_gw_clock_t start = ngx_http_sluice_gw_clock();
    rc = first ? pw_filter_new_anyway(worker(), &conf, out, err) : pw_filter_new(worker(), &conf, out, err);
    if (rc != SL_OK && *out != NULL) { /* one filter must not take all other routes along */
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] a filter does not start in this worker and is tried again: %s", err->text);
        rc = SL_OK;
    }
    ngx_http_sluice_gw_held(start, "the start of filter", entry->name);
    return rc;
}

/* The running filter of an entry: from this generation, kept from the one before, or started. Borrowed from `gen`. */
static sl_status_t get_filter(ngx_http_sluice_gw_gen_t *gen, const ngx_http_sluice_gw_gen_t *previous, const gw_filter_t *entry,
                              pw_filter_t **out, sl_err_t *err) {
    sl_module_t *m = find_module(gen, entry->module);
    *out = find_filter(gen, entry->key, m);
    if (*out != NULL) {
        return SL_OK;
    }
    pw_filter_t *kept = find_filter(previous, entry->key, m);
    *out = kept != NULL ? pw_filter_ref(kept) : NULL;
    sl_status_t rc = kept != NULL ? SL_OK : start_filter(entry, m, previous == NULL, out, err);
    if (rc == SL_OK) {
        add_filter(gen, entry->key, m, *out);
    }
    return rc;
}

/* ---- chains ------------------------------------------------------------------------------------------------------------------ */

static sl_status_t build_chain(ngx_http_sluice_gw_gen_t *gen, const ngx_http_sluice_gw_gen_t *previous, pw_filter_t **list, size_t n,
                               sl_err_t *err) {
    for (size_t i = 0; i < n; i++) {
        gw_filter_t entry;
        gw_plan_chain_filter(gen->plan, (uint32_t)gen->built, i, &entry);
        sl_status_t rc = get_filter(gen, previous, &entry, &list[i], err);
        if (rc != SL_OK) {
            sl_err_prefix(err, "filter chain '%.*s': ", SL_FMT(entry.chain_name.len != 0 ? entry.chain_name : entry.chain_id));
            return rc;
        }
    }
    pw_chain_conf_t conf = ngx_sluice_chain_conf(settings());
    gen->chains[gen->built] = pw_chain_new(worker(), list, n, &conf);
    if (gen->chains[gen->built] == NULL) {
        return no_memory(err);
    }
    gen->built++;
    return SL_OK;
}

/* While filters of it are being started: they may call what only this generation knows. */
static const gw_plan_t *starting;

sl_status_t ngx_http_sluice_gw_gen_build(ngx_http_sluice_gw_gen_t *gen, const ngx_http_sluice_gw_gen_t *previous, sl_err_t *err) {
    if (gen->built == gen->n_chains) {
        return SL_NOT_FOUND;
    }
    size_t n = gw_plan_chain(gen->plan, (uint32_t)gen->built);
    pw_filter_t **list = calloc(n + 1, sizeof(*list));
    starting = gen->plan;
    sl_status_t rc = list != NULL ? build_chain(gen, previous, list, n, err) : no_memory(err);
    starting = NULL;
    free(list);
    return rc;
}

const gw_plan_t *ngx_http_sluice_gw_naming_plan(void) {
    ngx_http_sluice_gw_gen_t *current = ngx_http_sluice_gw_current();
    return starting != NULL ? starting : current != NULL ? ngx_http_sluice_gw_gen_plan(current) : NULL;
}
