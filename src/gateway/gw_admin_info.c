/* What the node says about itself, its tags, and the filters of a route. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "gw_admin_parts.h"
#include "sl_digest.h"

static void put(gw_admin_t *a, json_t *object, const char *name, json_t *value) {
    if (json_object_set_new(object, name, value) != 0) {
        a->failed = true;
    }
}

static json_t *text_or_null(const char *text) {
    return text != NULL ? json_string(text) : json_null();
}

/* ---- / ---------------------------------------------------------------------------------------------------------------------- */

static json_t *pids(gw_admin_t *a) {
    const gw_admin_info_t *info = &a->env->info;
    json_t *workers = json_array();
    for (size_t i = 0; i < info->n_workers; i++) {
        if (json_array_append_new(workers, json_integer(info->worker_pids[i])) != 0) {
            a->failed = true;
        }
    }
    return json_pack("{s:I,s:o}", "master", (json_int_t)info->master_pid, "workers", workers);
}

/* Filters are the only plugins there are. */
static json_t *available_plugins(gw_admin_t *a) {
    const gw_validate_env_t *env = &a->env->validate;
    json_t *names = json_object();
    bool listed = env->wasm_enabled && env->filter_at != NULL;
    for (size_t i = 0; listed; i++) {
        sl_str_t name = env->filter_at(env->ud, i);
        listed = name.data != NULL;
        if (name.len > 0 && json_object_setn_new(names, name.data, name.len, json_pack("{s:n,s:i}", "version", "priority", 0)) != 0) {
            a->failed = true;
        }
    }
    return names;
}

static void add_plugin_names(gw_admin_t *a, json_t *names, const json_t *page) {
    size_t i;
    const json_t *plugin;
    json_array_foreach(page, i, plugin) {
        const char *name = json_string_value(json_object_get(plugin, "name"));
        a->failed = (name != NULL && json_object_set_new(names, name, json_null()) != 0) || a->failed;
    }
}

/* Names of the plugins that are configured; none when the store cannot be read, which is no failure of this exchange. */
static json_t *enabled_plugins(gw_admin_t *a) {
    char after[SL_UUID_TEXT_SIZE + 1] = "";
    bool stored = a->env->data != NULL, more = !stored || a->data->ops->begin(a->data, false) == SL_OK, began = stored && more;
    json_t *names = json_object(), *list = json_array();
    while (more) {
        json_t *page = NULL;
        gw_query_t query = {.after = after, .limit = 1000};
        more = a->data->ops->list(a->data, "plugins", &query, &page, &more) == SL_OK && more;
        add_plugin_names(a, names, page);
        const char *last = json_string_value(json_object_get(json_array_get(page, json_array_size(page) - 1), "id"));
        snprintf(after, sizeof(after), "%s", last != NULL ? last : "");
        more = more && last != NULL;
        json_decref(page);
    }
    if (began) {
        a->data->ops->rollback(a->data);
    }
    for (void *at = json_object_iter(names); at != NULL; at = json_object_iter_next(names, at)) {
        a->failed = json_array_append_new(list, json_string(json_object_iter_key(at))) != 0 || a->failed;
    }
    json_decref(names);
    return list;
}

void gw_admin_root(gw_admin_t *a) {
    const gw_admin_info_t *info = &a->env->info;
    json_t *root = json_object();
    put(a, root, "tagline", json_string("Welcome to Sluice"));
    put(a, root, "version", text_or_null(info->version));
    put(a, root, "edition", json_string("community"));
    put(a, root, "hostname", text_or_null(info->hostname));
    put(a, root, "node_id", text_or_null(info->node_id));
    put(a, root, "timers", json_pack("{s:i,s:i}", "running", 0, "pending", 0));
    put(a, root, "plugins", json_pack("{s:o,s:o}", "available_on_server", available_plugins(a), "enabled_in_cluster", enabled_plugins(a)));
    put(a, root, "lua_version", json_string("none"));
    put(a, root, "configuration", info->configuration != NULL ? json_incref(info->configuration) : json_object());
    put(a, root, "pids", pids(a));
    gw_admin_json(a, 200, root);
}

/* ---- /status ---------------------------------------------------------------------------------------------------------------- */

typedef struct {
    char letter; /* b, k, m, g */
    int scale;   /* digits after the point */
} unit_t;

static bool read_unit(gw_admin_t *a, unit_t *unit) {
    const gw_arg_t *name = gw_admin_arg(a, "unit"), *scale = gw_admin_arg(a, "scale");
    *unit = (unit_t){'m', 2};
    if (name != NULL) {
        char c = name->value.len == 1 ? (char)(name->value.data[0] | 0x20) : '\0';
        if (c != 'b' && c != 'k' && c != 'm' && c != 'g') {
            sl_err_t text;
            sl_err_set(&text, SL_INVALID, "invalid unit '%.100s' (expected 'k/K', 'm/M', or 'g/G')",
                       name->value.len > 0 ? name->value.data : "");
            gw_admin_message(a, 400, text.text);
            return false;
        }
        unit->letter = c;
    }
    if (scale != NULL) {
        char *end;
        long value = scale->value.len > 0 ? strtol(scale->value.data, &end, 10) : -1;
        if (value < 0 || value > 20 || *end != '\0') {
            gw_admin_message(a, 400, "invalid scale (expected a number from 0 to 20)");
            return false;
        }
        unit->scale = (int)value;
    }
    return true;
}

/* Bytes are numbers, larger units are texts: "0.03 MiB". */
static json_t *amount(uint64_t bytes, unit_t unit) {
    char text[80];
    if (unit.letter == 'b') {
        return json_integer((json_int_t)bytes);
    }
    double divisor = unit.letter == 'k' ? 1024.0 : unit.letter == 'm' ? 1024.0 * 1024 : 1024.0 * 1024 * 1024;
    snprintf(text, sizeof(text), "%.*f %ciB", unit.scale, (double)bytes / divisor, (char)(unit.letter - 32));
    return json_string(text);
}

/* No worker runs Lua; the rows exist for those who read them. */
static json_t *memory(gw_admin_t *a, unit_t unit) {
    json_t *workers = json_array();
    for (size_t i = 0; i < a->env->info.n_workers; i++) {
        json_t *row = json_pack("{s:I,s:o}", "pid", (json_int_t)a->env->info.worker_pids[i], "http_allocated_gc", amount(0, unit));
        if (json_array_append_new(workers, row) != 0) {
            a->failed = true;
        }
    }
    return json_pack("{s:o,s:{}}", "workers_lua_vms", workers, "lua_shared_dicts");
}

static json_t *server(const gw_admin_info_t *info) {
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "connections_accepted", (json_int_t)info->connections_accepted, "connections_active",
                     (json_int_t)info->connections_active, "connections_handled", (json_int_t)info->connections_handled,
                     "connections_reading", (json_int_t)info->connections_reading, "connections_writing",
                     (json_int_t)info->connections_writing, "connections_waiting", (json_int_t)info->connections_waiting, "total_requests",
                     (json_int_t)info->total_requests);
}

/* Whether the store can be read; that it cannot is no failure of this exchange. */
static bool is_reachable(gw_admin_t *a) {
    if (a->env->data == NULL || a->data->ops->begin(a->data, false) != SL_OK) {
        return false;
    }
    a->data->ops->rollback(a->data);
    return true;
}

void gw_admin_status(gw_admin_t *a) {
    unit_t unit;
    if (!read_unit(a, &unit)) {
        return;
    }
    json_t *status = json_object();
    put(a, status, "memory", memory(a, unit));
    put(a, status, "server", server(&a->env->info));
    if (a->env->info.db_less) {
        sl_str_t hash = gw_plan_config_hash(a->env->plan);
        put(a, status, "configuration_hash", json_stringn(hash.data ? hash.data : "", hash.len));
    } else {
        put(a, status, "database", json_pack("{s:b}", "reachable", is_reachable(a)));
    }
    if (a->env->info.filters != NULL) {
        put(a, status, "filters", json_incref(a->env->info.filters));
    }
    if (a->env->info.filter_memory != NULL) {
        put(a, status, "filter_memory", json_incref(a->env->info.filter_memory));
    }
    gw_admin_json(a, 200, status);
}

/* ---- /tags -------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    gw_page_t page;
    size_t seen, first, shown; /* rows met, to skip, and put out */
    bool more;
} tag_walk_t;

static void show_tag(gw_admin_t *a, tag_walk_t *w, const char *tag, const char *collection, const char *id) {
    if (w->seen++ < w->first || w->more) {
        return;
    }
    if (w->shown == w->page.size) {
        w->more = true;
        return;
    }
    json_t *row = json_pack("{s:s,s:s,s:s}", "tag", tag, "entity_name", collection, "entity_id", id);
    sl_buf_append_cstr(&a->resp->body, w->shown++ > 0 ? "," : "");
    gw_admin_json(a, 200, row);
}

static void walk_entity_tags(gw_admin_t *a, tag_walk_t *w, const char *collection, const json_t *entity) {
    size_t i;
    const json_t *tag;
    const char *id = json_string_value(json_object_get(entity, "id"));
    json_array_foreach(json_object_get(entity, "tags"), i, tag) {
        const char *name = json_string_value(tag);
        if (name != NULL && id != NULL && (a->n_segments == 1 || sl_str_eq(a->segments[1], sl_cstr(name)))) {
            show_tag(a, w, name, collection, id);
        }
    }
}

static void walk_collection_tags(gw_admin_t *a, tag_walk_t *w, const char *collection) {
    char after[SL_UUID_TEXT_SIZE + 1] = "";
    const char *wanted = a->n_segments > 1 ? a->segments[1].data : NULL;
    gw_query_t query = {.after = after, .limit = 1000, .tags = &wanted, .n_tags = wanted != NULL};
    bool more = true;
    while (more && !w->more) {
        size_t i;
        json_t *entity, *list = gw_admin_list(a, collection, &query, &more);
        more = more && list != NULL;
        json_array_foreach(list, i, entity) {
            walk_entity_tags(a, w, collection, entity);
        }
        const char *last = json_string_value(json_object_get(json_array_get(list, json_array_size(list) - 1), "id"));
        snprintf(after, sizeof(after), "%s", last != NULL ? last : "");
        more = more && last != NULL;
        json_decref(list);
    }
}

void gw_admin_tags(gw_admin_t *a) {
    tag_walk_t w = {.seen = 0};
    char position[24];
    if (!gw_page_read(a, &w.page) || !gw_admin_begin(a)) {
        return;
    }
    w.first = (size_t)strtoul(w.page.after, NULL, 10);
    sl_buf_append_cstr(&a->resp->body, "{\"data\":[");
    for (const gw_entity_t *e = gw_entities; e->name != NULL && !w.more; e++) {
        walk_collection_tags(a, &w, e->name);
    }
    snprintf(position, sizeof(position), "%zu", w.first + w.shown);
    gw_page_end(a, w.more ? position : NULL);
    gw_admin_text(a, 200, SL_STR(""));
}

/* ---- /routes/{r}/filters/... --------------------------------------------------------------------------------------------------- */

typedef enum { SHOW_ALL, SHOW_ENABLED, SHOW_DISABLED } which_t;

static void add_filters(gw_admin_t *a, json_t *list, const json_t *chain, const char *from, which_t which) {
    size_t i;
    const json_t *filter;
    bool chain_on = json_is_true(json_object_get(chain, "enabled"));
    json_array_foreach(json_object_get(chain, "filters"), i, filter) {
        bool on = chain_on && json_is_true(json_object_get(filter, "enabled"));
        if (which != SHOW_ALL && on != (which == SHOW_ENABLED)) {
            continue;
        }
        json_t *row = json_pack("{s:O,s:O,s:s,s:b,s:{s:O,s:O}}", "name", json_object_get(filter, "name"), "config",
                                json_object_get(filter, "config"), "from", from, "enabled", on, "filter_chain", "name",
                                json_object_get(chain, "name"), "id", json_object_get(chain, "id"));
        if (json_array_append_new(list, row) != 0) {
            a->failed = true;
        }
    }
}

static void add_chain_of(gw_admin_t *a, json_t *list, const char *field, const char *id, which_t which) {
    json_t *chains = id != NULL ? gw_admin_children(a, "filter_chains", field, id) : NULL;
    add_filters(a, list, json_array_get(chains, 0), field, which);
    json_decref(chains);
}

void gw_admin_route_filters(gw_admin_t *a) {
    if (!gw_admin_begin(a)) {
        return;
    }
    json_t *route = gw_admin_load(a, "routes", a->segments[1], NULL);
    if (route == NULL) {
        gw_admin_not_found(a);
        return;
    }
    which_t which = gw_admin_segment_is(a, 3, "all") ? SHOW_ALL : gw_admin_segment_is(a, 3, "enabled") ? SHOW_ENABLED : SHOW_DISABLED;
    json_t *list = json_array();
    add_chain_of(a, list, "service", json_string_value(json_object_get(json_object_get(route, "service"), "id")), which);
    add_chain_of(a, list, "route", json_string_value(json_object_get(route, "id")), which);
    json_decref(route);
    gw_admin_json(a, 200, json_pack("{s:o}", "filters", list));
}
