#include <stdlib.h>

#include "gw_options.h"
#include "gw_plan_parts.h"
#include "sl_digest.h"

/* An owner is a service or a route; these are the chain and the plugins that it has. */
typedef struct {
    const gw_table_t *table;
    const char *field; /* by which a chain or a plugin refers to it */
    bool is_service;
    uint32_t *chain; /* by owner: index of its chain entity, or GW_NONE */
    gw_range_t *out; /* by owner */
} owners_t;

/* A filter that was configured as a plugin. */
typedef struct {
    const gw_entry_t *entry;
    uint32_t owner;
} plugin_t;

/* ---- one filter ---------------------------------------------------------------------------------------------------------- */

/* string: its bytes; null: empty; anything else: compact JSON. */
static gw_ref_t add_config(gw_build_t *b, const json_t *config) {
    if (config == NULL || json_is_null(config)) {
        return gw_writer_str(&b->w, SL_STR(""));
    }
    if (json_is_string(config)) {
        return gw_writer_str(&b->w, gw_json_str(config));
    }
    sl_buf_t text;
    sl_buf_init(&text, b->w.sec[GW_SEC_STRINGS].max);
    if (gw_json_compact(config, &text) != SL_OK) {
        b->w.failed = true;
    }
    gw_ref_t ref = gw_writer_str(&b->w, sl_buf_str(&text));
    sl_buf_deinit(&text);
    return ref;
}

static sl_status_t add_options(gw_build_t *b, const json_t *entry, gw_ref_t *out) {
    sl_filter_opts_t opts;
    sl_arena_t arena;
    sl_buf_t lines;
    sl_arena_init(&arena, 1024, 65536);
    sl_buf_init(&lines, 65536);
    sl_status_t rc = gw_options_read(entry, &opts, &arena, b->err);
    if (rc == SL_OK) {
        sl_filter_opts_write(&opts, &lines);
        rc = lines.failed ? gw_build_no_memory(b) : SL_OK;
        *out = gw_writer_str(&b->w, sl_buf_str(&lines));
    }
    sl_buf_deinit(&lines);
    sl_arena_deinit(&arena);
    return rc;
}

/* Over every field that makes a running filter what it is, each with its length in front. */
static sl_status_t filter_key(const gw_build_t *b, const gw_img_filter_t *f, uint8_t key[32]) {
    const gw_ref_t parts[] = {f->name, f->config, f->options};
    sl_buf_t text;
    sl_buf_init(&text, SIZE_MAX);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        sl_str_t s = gw_writer_text(&b->w, parts[i]);
        uint64_t len = s.len;
        sl_buf_append(&text, &len, sizeof(len));
        sl_buf_append_str(&text, s);
    }
    sl_buf_append(&text, f->module, sizeof(f->module));
    sl_status_t rc = text.failed ? SL_NO_MEMORY : sl_sha256(sl_buf_str(&text), key);
    sl_buf_deinit(&text);
    return rc;
}

/* `chain`: the entity that it is listed under. */
static sl_status_t add_filter(gw_build_t *b, const gw_entry_t *chain, sl_str_t chain_name, const json_t *entry, bool from_service) {
    sl_str_t name = gw_field_str(entry, "name");
    if (name.len == 0) {
        return sl_err_set(b->err, SL_INVALID, "filter chain '%.*s': a filter has no name", SL_FMT(chain->id));
    }
    gw_img_filter_t rec = {
        .name = gw_writer_str(&b->w, name),
        .config = add_config(b, json_object_get(entry, "config")),
        .chain_id = gw_writer_str(&b->w, chain->id),
        .chain_name = gw_writer_str(&b->w, chain_name),
        .from_service = from_service,
    };
    sl_status_t rc = b->conf->module_of != NULL ? b->conf->module_of(b->conf->ud, entry, rec.module, b->err) : SL_OK;
    rc = rc == SL_OK ? add_options(b, entry, &rec.options) : rc;
    if (rc != SL_OK) {
        sl_err_prefix(b->err, "filter chain '%.*s': ", SL_FMT(chain->id));
        return rc;
    }
    if (gw_writer_failed(&b->w) || filter_key(b, &rec, rec.key) != SL_OK) {
        return gw_build_no_memory(b);
    }
    gw_writer_add(&b->w, GW_SEC_FILTERS, &rec);
    return SL_OK;
}

static bool enabled(const json_t *json) {
    return gw_field_bool(json, "enabled", true);
}

/* ---- chains of services and routes ----------------------------------------------------------------------------------------- */

static sl_status_t place_chain(gw_build_t *b, const owners_t *o, uint32_t chain_index, unsigned *n_owners) {
    const gw_entry_t *chain = &b->chains.items[chain_index];
    uint32_t owner;
    sl_status_t rc = gw_foreign(b, chain, o->field, o->table, &owner);
    if (rc != SL_OK || owner == GW_NONE) {
        return rc;
    }
    if (o->chain[owner] != GW_NONE) {
        return sl_err_set(b->err, SL_INVALID, "filter chain '%.*s': its %s has another chain", SL_FMT(chain->id), o->field);
    }
    o->chain[owner] = chain_index;
    (*n_owners)++;
    return SL_OK;
}

static sl_status_t place_chains(gw_build_t *b, const owners_t owners[2]) {
    for (size_t i = 0; i < b->chains.n; i++) {
        unsigned n_owners = 0;
        sl_status_t rc = place_chain(b, &owners[0], (uint32_t)i, &n_owners);
        rc = rc == SL_OK ? place_chain(b, &owners[1], (uint32_t)i, &n_owners) : rc;
        if (rc == SL_OK && n_owners != 1) {
            rc = sl_err_set(b->err, SL_INVALID, "filter chain '%.*s': expected exactly one of service and route",
                            SL_FMT(b->chains.items[i].id));
        }
        if (rc != SL_OK) {
            return rc;
        }
    }
    return SL_OK;
}

static sl_status_t add_chain_filters(gw_build_t *b, const gw_entry_t *chain, bool from_service) {
    const json_t *filters = json_object_get(chain->json, "filters");
    sl_status_t rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < json_array_size(filters); i++) {
        const json_t *entry = json_array_get(filters, i);
        rc = enabled(entry) ? add_filter(b, chain, gw_field_str(chain->json, "name"), entry, from_service) : SL_OK;
    }
    return rc;
}

/* ---- filters configured as plugins ------------------------------------------------------------------------------------------ */

static int64_t compare_int(const json_t *a, const json_t *b, const char *field) {
    int64_t x = gw_field_int(a, field, 0), y = gw_field_int(b, field, 0);
    return (x > y) - (x < y);
}

/* By owner, then name, updated_at, created_at, id. */
static int by_plugin(const void *x, const void *y) {
    const plugin_t *a = x, *b = y;
    if (a->owner != b->owner) {
        return a->owner < b->owner ? -1 : 1;
    }
    const json_t *ja = a->entry->json, *jb = b->entry->json;
    int64_t rc = sl_str_cmp(gw_field_str(ja, "name"), gw_field_str(jb, "name"));
    rc = rc ? rc : compare_int(ja, jb, "updated_at");
    rc = rc ? rc : compare_int(ja, jb, "created_at");
    return rc ? (rc < 0 ? -1 : 1) : sl_str_cmp(a->entry->id, b->entry->id);
}

static bool is_set(const json_t *json, const char *field) {
    const json_t *v = json_object_get(json, field);
    return v != NULL && !json_is_null(v);
}

/* Only what belongs to exactly one service or route, and to no consumer, can be a filter. */
static sl_status_t collect_plugins(gw_build_t *b, const owners_t *o, plugin_t *plugins, size_t *n) {
    *n = 0;
    for (size_t i = 0; i < b->plugins.n; i++) {
        const gw_entry_t *e = &b->plugins.items[i];
        bool one = is_set(e->json, "service") != is_set(e->json, "route") && !is_set(e->json, "consumer");
        if (!one || !enabled(e->json) || !is_set(e->json, o->field)) {
            continue;
        }
        plugins[*n].entry = e;
        sl_status_t rc = gw_foreign(b, e, o->field, o->table, &plugins[*n].owner);
        if (rc != SL_OK) {
            return rc;
        }
        (*n)++;
    }
    qsort(plugins, *n, sizeof(*plugins), by_plugin);
    return SL_OK;
}

/* They join the owner's chain; without one, each stands for itself. */
static sl_status_t add_plugin(gw_build_t *b, const plugin_t *p, const gw_entry_t *chain, bool from_service) {
    sl_str_t chain_name = chain != NULL ? gw_field_str(chain->json, "name") : SL_STR_NULL;
    return add_filter(b, chain != NULL ? chain : p->entry, chain_name, p->entry->json, from_service);
}

/* ---- all owners of one kind ---------------------------------------------------------------------------------------------------- */

/* A chain that is switched off takes the plugins of its owner with it. `*next`: the first plugin of this owner or a later one. */
static sl_status_t add_owner(gw_build_t *b, const owners_t *o, uint32_t owner, const plugin_t *plugins, size_t n, size_t *next) {
    const gw_entry_t *chain = o->chain[owner] != GW_NONE ? &b->chains.items[o->chain[owner]] : NULL;
    bool off = chain != NULL && !enabled(chain->json);
    gw_range_t *out = &o->out[owner];
    out->first = gw_writer_count(&b->w, GW_SEC_FILTERS);
    sl_status_t rc = chain != NULL && !off ? add_chain_filters(b, chain, o->is_service) : SL_OK;
    for (; rc == SL_OK && *next < n && plugins[*next].owner == owner; (*next)++) {
        rc = off ? SL_OK : add_plugin(b, &plugins[*next], chain, o->is_service);
    }
    out->count = gw_writer_count(&b->w, GW_SEC_FILTERS) - out->first;
    return rc;
}

static sl_status_t add_owners(gw_build_t *b, const owners_t *o) {
    plugin_t *plugins = malloc((b->plugins.n + 1) * sizeof(*plugins));
    if (plugins == NULL) {
        return gw_build_no_memory(b);
    }
    size_t n, next = 0;
    sl_status_t rc = collect_plugins(b, o, plugins, &n);
    for (size_t i = 0; rc == SL_OK && i < o->table->n; i++) {
        rc = add_owner(b, o, (uint32_t)i, plugins, n, &next);
    }
    free(plugins);
    return rc;
}

static bool owners_init(owners_t *o) {
    o->chain = malloc((o->table->n + 1) * sizeof(*o->chain));
    for (size_t i = 0; o->chain != NULL && i < o->table->n; i++) {
        o->chain[i] = GW_NONE;
    }
    return o->chain != NULL;
}

sl_status_t gw_build_filters(gw_build_t *b) {
    b->service_filters = calloc(b->services.n + 1, sizeof(gw_range_t));
    b->route_filters = calloc(b->routes.n + 1, sizeof(gw_range_t));
    owners_t owners[2] = {{&b->services, "service", true, NULL, b->service_filters}, {&b->routes, "route", false, NULL, b->route_filters}};
    bool ready = b->service_filters != NULL && b->route_filters != NULL && owners_init(&owners[0]) && owners_init(&owners[1]);
    sl_status_t rc = ready ? place_chains(b, owners) : gw_build_no_memory(b);
    rc = rc == SL_OK ? add_owners(b, &owners[0]) : rc;
    rc = rc == SL_OK ? add_owners(b, &owners[1]) : rc;
    free(owners[0].chain);
    free(owners[1].chain);
    return rc;
}

/* ---- runnable chains ------------------------------------------------------------------------------------------------------------ */

static void append_filters(gw_build_t *b, gw_range_t filters) {
    for (uint32_t i = 0; i < filters.count; i++) {
        uint32_t filter = filters.first + i;
        gw_writer_add(&b->w, GW_SEC_CHAIN_FILTERS, &filter);
    }
}

uint32_t gw_build_chain(gw_build_t *b, gw_range_t of_service, gw_range_t of_route) {
    gw_img_chain_t rec = {.filters.first = gw_writer_count(&b->w, GW_SEC_CHAIN_FILTERS)};
    append_filters(b, of_service);
    append_filters(b, of_route);
    rec.filters.count = gw_writer_count(&b->w, GW_SEC_CHAIN_FILTERS) - rec.filters.first;
    return rec.filters.count == 0 ? GW_NONE : gw_writer_add(&b->w, GW_SEC_CHAINS, &rec);
}
