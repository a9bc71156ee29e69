#include <stdlib.h>

#include "gw_json_text.h"
#include "gw_options.h"
#include "gw_plan_parts.h"
#include "sl_digest.h"

/* Owners of one kind: services or routes. */
typedef struct {
    gw_table_t *table;
    const char *field; /* by which a chain or a plugin refers to one */
    bool is_service;
    bool *dirty;     /* by owner: its chain or plugins are not what they were */
    gw_range_t *out; /* by owner */
} owners_t;

/* A filter that was configured as a plugin. */
typedef struct {
    const gw_entry_t *entry;
    const json_t *json;
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

/* ---- what has changed -------------------------------------------------------------------------------------------------------- */

static void mark(const owners_t *o, uint32_t entity) {
    if (entity >= o->table->first && entity - o->table->first < o->table->n) {
        o->dirty[entity - o->table->first] = true;
    }
}

/* Owners that a chain or plugin of before belonged to which is not as it was. */
static void mark_old(const gw_build_t *b, const gw_table_t *t, const owners_t owners[2]) {
    gw_range_t links = t->old != NULL ? t->old->links : (gw_range_t){0, 0};
    for (uint32_t i = 0; i < links.count; i++) {
        const gw_img_link_t *link = GW_IMG(b->base, gw_img_link_t, GW_SEC_LINKS) + links.first + i;
        uint32_t child = b->moved[link->child], parent = b->moved[link->parent];
        if (parent != GW_NONE && (child == GW_NONE || !t->items[child - t->first].kept)) {
            mark(&owners[0], parent);
            mark(&owners[1], parent);
        }
    }
}

static sl_status_t mark_new(gw_build_t *b, gw_entry_t *e, const owners_t *o, unsigned *n_owners) {
    uint32_t owner;
    sl_status_t rc = gw_foreign(b, e, o->field, o->table, &owner);
    if (rc == SL_OK && owner != GW_NONE) {
        o->dirty[owner] = true;
        (*n_owners)++;
    }
    return rc;
}

static sl_status_t mark_chains(gw_build_t *b, const owners_t owners[2]) {
    mark_old(b, b->chains, owners);
    for (size_t i = 0; i < b->chains->n; i++) {
        gw_entry_t *e = &b->chains->items[i];
        unsigned n_owners = 0;
        if (e->kept) {
            continue;
        }
        sl_status_t rc = mark_new(b, e, &owners[0], &n_owners);
        rc = rc == SL_OK ? mark_new(b, e, &owners[1], &n_owners) : rc;
        if (rc == SL_OK && n_owners != 1) {
            rc = sl_err_set(b->err, SL_INVALID, "filter chain '%.*s': expected exactly one of service and route", SL_FMT(e->id));
        }
        if (rc != SL_OK) {
            return rc;
        }
    }
    return SL_OK;
}

static bool enabled(const json_t *json) {
    return gw_field_bool(json, "enabled", true);
}

static bool is_set(const json_t *json, const char *field) {
    const json_t *v = json_object_get(json, field);
    return v != NULL && !json_is_null(v);
}

/* Only what belongs to exactly one service or route, and to no consumer, can be a filter. */
static bool is_filter(const json_t *plugin) {
    return is_set(plugin, "service") != is_set(plugin, "route") && !is_set(plugin, "consumer") && enabled(plugin);
}

static sl_status_t mark_plugins(gw_build_t *b, const owners_t owners[2]) {
    mark_old(b, b->plugins, owners);
    for (size_t i = 0; i < b->plugins->n; i++) {
        gw_entry_t *e = &b->plugins->items[i];
        unsigned n_owners = 0;
        if (e->kept || !is_filter(e->json)) {
            continue;
        }
        sl_status_t rc = mark_new(b, e, &owners[0], &n_owners);
        rc = rc == SL_OK ? mark_new(b, e, &owners[1], &n_owners) : rc;
        if (rc != SL_OK) {
            return rc;
        }
    }
    return SL_OK;
}

/* ---- the filters of one owner --------------------------------------------------------------------------------------------------- */

static sl_status_t add_chain_filters(gw_build_t *b, const gw_entry_t *chain, bool from_service) {
    const json_t *filters = json_object_get(chain->json, "filters");
    sl_status_t rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < json_array_size(filters); i++) {
        const json_t *entry = json_array_get(filters, i);
        rc = enabled(entry) ? add_filter(b, chain, gw_field_str(chain->json, "name"), entry, from_service) : SL_OK;
    }
    return rc;
}

static int64_t compare_int(const json_t *a, const json_t *b, const char *field) {
    int64_t x = gw_field_int(a, field, 0), y = gw_field_int(b, field, 0);
    return (x > y) - (x < y);
}

/* By name, updated_at, created_at, id. */
static int by_plugin(const void *x, const void *y) {
    const plugin_t *a = x, *b = y;
    int64_t rc = sl_str_cmp(gw_field_str(a->json, "name"), gw_field_str(b->json, "name"));
    rc = rc ? rc : compare_int(a->json, b->json, "updated_at");
    rc = rc ? rc : compare_int(a->json, b->json, "created_at");
    return rc ? (rc < 0 ? -1 : 1) : sl_str_cmp(a->entry->id, b->entry->id);
}

/* The nth entity of a range of links to `t`, parsed; NULL without memory. */
static gw_entry_t *linked(gw_build_t *b, const gw_table_t *t, gw_range_t links, uint32_t n) {
    const gw_img_link_t *link = (const gw_img_link_t *)(const void *)b->w.sec[GW_SEC_LINKS].data + links.first + n;
    gw_entry_t *e = &t->items[link->child - t->first];
    return gw_entry_json(b, e) != NULL ? e : NULL;
}

/* *chain NULL: the owner has none. */
static sl_status_t find_chain(gw_build_t *b, const owners_t *o, uint32_t owner, gw_entry_t **chain) {
    gw_range_t links = gw_table_links(b, b->chains, o->table->first + owner, sl_cstr(o->field));
    *chain = NULL;
    if (links.count == 0) {
        return SL_OK;
    }
    *chain = linked(b, b->chains, links, links.count - 1);
    if (*chain == NULL) {
        return gw_build_no_memory(b);
    }
    return links.count == 1
               ? SL_OK
               : sl_err_set(b->err, SL_INVALID, "filter chain '%.*s': its %s has another chain", SL_FMT((*chain)->id), o->field);
}

/* They join the owner's chain; without one, each stands for itself. */
static sl_status_t add_plugins(gw_build_t *b, const gw_entry_t *chain, plugin_t *plugins, size_t n, bool from_service) {
    sl_str_t chain_name = chain != NULL ? gw_field_str(chain->json, "name") : SL_STR_NULL;
    sl_status_t rc = SL_OK;
    qsort(plugins, n, sizeof(*plugins), by_plugin);
    for (size_t i = 0; rc == SL_OK && i < n; i++) {
        rc = add_filter(b, chain != NULL ? chain : plugins[i].entry, chain_name, plugins[i].json, from_service);
    }
    return rc;
}

static sl_status_t add_owners_plugins(gw_build_t *b, const owners_t *o, uint32_t owner, const gw_entry_t *chain) {
    gw_range_t links = gw_table_links(b, b->plugins, o->table->first + owner, sl_cstr(o->field));
    if (links.count == 0) {
        return SL_OK;
    }
    plugin_t *plugins = malloc(links.count * sizeof(*plugins));
    sl_status_t rc = plugins != NULL ? SL_OK : gw_build_no_memory(b);
    size_t n = 0;
    for (uint32_t i = 0; rc == SL_OK && i < links.count; i++) {
        gw_entry_t *e = linked(b, b->plugins, links, i);
        if (e == NULL) {
            rc = gw_build_no_memory(b);
        } else if (is_filter(e->json)) {
            plugins[n++] = (plugin_t){e, e->json};
        }
    }
    rc = rc == SL_OK ? add_plugins(b, chain, plugins, n, o->is_service) : rc;
    free(plugins);
    return rc;
}

/* A chain that is switched off takes the plugins of its owner with it. */
static sl_status_t add_owner(gw_build_t *b, const owners_t *o, uint32_t owner) {
    gw_entry_t *chain;
    sl_status_t rc = find_chain(b, o, owner, &chain);
    if (rc != SL_OK || (chain != NULL && !enabled(chain->json))) {
        return rc;
    }
    rc = chain != NULL ? add_chain_filters(b, chain, o->is_service) : SL_OK;
    return rc == SL_OK ? add_owners_plugins(b, o, owner, chain) : rc;
}

/* ---- all owners ---------------------------------------------------------------------------------------------------------------------- */

static gw_range_t old_filters(const gw_build_t *b, const owners_t *o, uint32_t was) {
    uint32_t index = was - o->table->old->entities.first;
    return o->is_service ? GW_IMG(b->base, gw_img_service_t, GW_SEC_SERVICES)[index].filters
                         : GW_IMG(b->base, gw_img_route_t, GW_SEC_ROUTES)[index].filters;
}

static void keep_owner(gw_build_t *b, const owners_t *o, uint32_t was) {
    gw_range_t old = old_filters(b, o, was);
    for (uint32_t i = 0; i < old.count; i++) {
        gw_writer_add(&b->w, GW_SEC_FILTERS, GW_IMG(b->base, gw_img_filter_t, GW_SEC_FILTERS) + old.first + i);
    }
}

static sl_status_t add_owners(gw_build_t *b, const owners_t *o) {
    sl_status_t rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < o->table->n; i++) {
        const gw_entry_t *e = &o->table->items[i];
        o->out[i].first = gw_writer_count(&b->w, GW_SEC_FILTERS);
        if (o->dirty[i] || e->was == GW_NONE) {
            rc = add_owner(b, o, (uint32_t)i);
        } else {
            keep_owner(b, o, e->was);
        }
        o->out[i].count = gw_writer_count(&b->w, GW_SEC_FILTERS) - o->out[i].first;
    }
    return rc;
}

sl_status_t gw_build_filters(gw_build_t *b) {
    b->service_filters = calloc(b->services->n + 1, sizeof(gw_range_t));
    b->route_filters = calloc(b->routes->n + 1, sizeof(gw_range_t));
    bool *dirty[2] = {calloc(b->services->n + 1, sizeof(bool)), calloc(b->routes->n + 1, sizeof(bool))};
    owners_t owners[2] = {{b->services, "service", true, dirty[0], b->service_filters},
                          {b->routes, "route", false, dirty[1], b->route_filters}};
    bool ready = b->service_filters != NULL && b->route_filters != NULL && dirty[0] != NULL && dirty[1] != NULL;
    sl_status_t rc = ready ? mark_chains(b, owners) : gw_build_no_memory(b);
    rc = rc == SL_OK ? mark_plugins(b, owners) : rc;
    rc = rc == SL_OK ? add_owners(b, &owners[0]) : rc;
    rc = rc == SL_OK ? add_owners(b, &owners[1]) : rc;
    free(dirty[0]);
    free(dirty[1]);
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
