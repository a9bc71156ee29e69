#include "gw_plan.h"

#include <stdlib.h>

#include "gw_plan_parts.h"
#include "gw_router.h"
#include "gw_schema.h"

sl_status_t gw_build_no_memory(gw_build_t *b) {
    return sl_err_set(b->err, SL_NO_MEMORY, "plan: out of memory");
}

/* ---- tables of entities -------------------------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b) {
    return sl_str_cmp(((const gw_entry_t *)a)->id, ((const gw_entry_t *)b)->id);
}

sl_status_t gw_table_init(gw_build_t *b, gw_table_t *t, const char *collection, const json_t *object) {
    *t = (gw_table_t){0};
    if (object == NULL || json_is_null(object)) {
        return SL_OK;
    }
    if (!json_is_object(object)) {
        return sl_err_set(b->err, SL_INVALID, "%s: expected a map from id to entity", collection);
    }
    t->items = calloc(json_object_size(object) + 1, sizeof(gw_entry_t));
    if (t->items == NULL) {
        return gw_build_no_memory(b);
    }
    const char *id;
    size_t id_len;
    json_t *json;
    json_object_keylen_foreach((json_t *)object, id, id_len, json) {
        if (!json_is_object(json) || id_len == 0) {
            return sl_err_set(b->err, SL_INVALID, "%s: '%.*s' is no entity", collection, (int)(id_len < 100 ? id_len : 100), id);
        }
        t->items[t->n++] = (gw_entry_t){sl_str(id, id_len), json};
    }
    qsort(t->items, t->n, sizeof(gw_entry_t), by_id);
    return SL_OK;
}

uint32_t gw_table_find(const gw_table_t *t, sl_str_t id) {
    size_t lo = 0, hi = t->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (sl_str_cmp(t->items[mid].id, id) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < t->n && sl_str_eq(t->items[lo].id, id) ? (uint32_t)lo : GW_NONE;
}

/* The entity that {"id": ...} in `field` refers to; *out GW_NONE when it is unset. */
sl_status_t gw_foreign(gw_build_t *b, const gw_entry_t *from, const char *field, const gw_table_t *to, uint32_t *out) {
    const json_t *ref = json_object_get(from->json, field);
    *out = GW_NONE;
    if (ref == NULL || json_is_null(ref)) {
        return SL_OK;
    }
    *out = gw_table_find(to, gw_field_str(ref, "id"));
    if (*out == GW_NONE) {
        return sl_err_set(b->err, SL_INVALID, "entity '%.*s': its %s does not exist", SL_FMT(from->id), field);
    }
    return SL_OK;
}

/* ---- services ------------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    gw_protocol_t bit;
} protocols[] = {{"http", GW_HTTP}, {"https", GW_HTTPS}, {"grpc", GW_GRPC}, {"grpcs", GW_GRPCS},
                 {"tcp", GW_TCP},   {"tls", GW_TLS},     {"udp", GW_UDP},   {"tls_passthrough", GW_TLS_PASSTHROUGH}};

static uint32_t protocol_bit(sl_str_t name) {
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        if (sl_str_eq(name, sl_cstr(protocols[i].name))) {
            return protocols[i].bit;
        }
    }
    return 0;
}

static uint32_t field_u32(const json_t *json, const char *field, uint32_t otherwise) {
    int64_t v = gw_field_int(json, field, otherwise);
    return v < 0 || v > UINT32_MAX ? otherwise : (uint32_t)v;
}

static int32_t field_tristate(const json_t *json, const char *field) {
    const json_t *v = json_object_get(json, field);
    return json_is_boolean(v) ? json_is_true(v) : -1;
}

static void add_service(gw_build_t *b, const gw_entry_t *e) {
    const json_t *j = e->json;
    uint32_t protocol = protocol_bit(gw_field_str(j, "protocol"));
    gw_img_service_t rec = {
        .id = gw_writer_str(&b->w, e->id),
        .name = gw_writer_str(&b->w, gw_field_str(j, "name")),
        .host = gw_writer_str(&b->w, gw_field_str(j, "host")),
        .path = gw_writer_str(&b->w, gw_field_str(j, "path")),
        .protocol = protocol ? protocol : GW_HTTP,
        .port = field_u32(j, "port", 80),
        .retries = field_u32(j, "retries", 5),
        .connect_timeout_ms = field_u32(j, "connect_timeout", 60000),
        .write_timeout_ms = field_u32(j, "write_timeout", 60000),
        .read_timeout_ms = field_u32(j, "read_timeout", 60000),
        .enabled = gw_field_bool(j, "enabled", true),
        .tls_verify = field_tristate(j, "tls_verify"),
    };
    gw_writer_add(&b->w, GW_SEC_SERVICES, &rec);
}

/* ---- routes -------------------------------------------------------------------------------------------------------------- */

static uint32_t route_protocols(const json_t *json) {
    const json_t *set = json_object_get(json, "protocols");
    uint32_t bits = 0;
    for (size_t i = 0; i < json_array_size(set); i++) {
        bits |= protocol_bit(gw_json_str(json_array_get(set, i)));
    }
    return bits ? bits : GW_HTTP | GW_HTTPS;
}

static uint32_t route_flags(const json_t *json, uint32_t route_protocol_bits, bool traditional) {
    bool grpc = (route_protocol_bits & (GW_GRPC | GW_GRPCS)) != 0;
    uint32_t flags = 0;
    flags |= gw_field_bool(json, "strip_path", !grpc) ? GW_ROUTE_STRIP_PATH : 0;
    flags |= gw_field_bool(json, "preserve_host", false) ? GW_ROUTE_PRESERVE_HOST : 0;
    flags |= gw_field_bool(json, "request_buffering", true) ? GW_ROUTE_REQUEST_BUFFERING : 0;
    flags |= gw_field_bool(json, "response_buffering", true) ? GW_ROUTE_RESPONSE_BUFFERING : 0;
    flags |= traditional && sl_str_eq(gw_field_str(json, "path_handling"), SL_STR("v1")) ? GW_ROUTE_PATH_V1 : 0;
    return flags;
}

static const gw_range_t no_filters = {0, 0};

/* `runnable`: by service, the runnable chain of the service alone. */
static sl_status_t add_route(gw_build_t *b, uint32_t index, const uint32_t *runnable) {
    const gw_entry_t *e = &b->routes.items[index];
    uint32_t service;
    sl_status_t rc = gw_foreign(b, e, "service", &b->services, &service);
    if (rc != SL_OK) {
        return rc;
    }
    uint32_t bits = route_protocols(e->json);
    gw_img_route_t rec = {
        .id = gw_writer_str(&b->w, e->id),
        .name = gw_writer_str(&b->w, gw_field_str(e->json, "name")),
        .protocols = bits,
        .https_redirect_status = field_u32(e->json, "https_redirect_status_code", 426),
        .flags = route_flags(e->json, bits, b->w.header.traditional != 0),
        .service = service,
        .chain = service == GW_NONE ? GW_NONE : runnable[service],
    };
    if (b->route_filters[index].count > 0) {
        rec.chain = gw_build_chain(b, service == GW_NONE ? no_filters : b->service_filters[service], b->route_filters[index]);
    }
    gw_writer_add(&b->w, GW_SEC_ROUTES, &rec);
    return SL_OK;
}

static sl_status_t add_services_and_routes(gw_build_t *b) {
    uint32_t *runnable = malloc((b->services.n + 1) * sizeof(*runnable));
    if (runnable == NULL) {
        return gw_build_no_memory(b);
    }
    for (size_t i = 0; i < b->services.n; i++) {
        add_service(b, &b->services.items[i]);
        runnable[i] = gw_build_chain(b, b->service_filters[i], no_filters);
    }
    sl_status_t rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < b->routes.n; i++) {
        rc = add_route(b, (uint32_t)i, runnable);
    }
    free(runnable);
    return rc;
}

/* Only routes that can serve HTTP and whose service is unset or enabled. */
static bool takes_part(const gw_build_t *b, const gw_entry_t *e) {
    if ((route_protocols(e->json) & (GW_HTTP | GW_HTTPS | GW_GRPC | GW_GRPCS)) == 0) {
        return false;
    }
    uint32_t service = gw_table_find(&b->services, gw_field_str(json_object_get(e->json, "service"), "id"));
    return service == GW_NONE || gw_field_bool(b->services.items[service].json, "enabled", true);
}

static sl_status_t add_router(gw_build_t *b) {
    gw_router_route_t *routes = malloc((b->routes.n + 1) * sizeof(*routes));
    if (routes == NULL) {
        return gw_build_no_memory(b);
    }
    size_t n = 0;
    for (size_t i = 0; i < b->routes.n; i++) {
        if (takes_part(b, &b->routes.items[i])) {
            routes[n++] = (gw_router_route_t){b->routes.items[i].json, b->routes.items[i].id, (uint32_t)i};
        }
    }
    sl_status_t rc = gw_router_build(&b->w, routes, n, b->w.header.traditional != 0, b->err);
    free(routes);
    return rc;
}

/* ---- entities for the Admin API ------------------------------------------------------------------------------------------ */

/* The field by which an entity is found beside its id; NULL: none. */
static const char *key_field(const char *collection) {
    const gw_entity_t *entity = gw_entity_find(sl_cstr(collection));
    return entity != NULL ? entity->endpoint_key : NULL;
}

typedef struct {
    sl_str_t text;
    uint32_t entity;
} entity_key_t;

static int by_key(const void *a, const void *b) {
    const entity_key_t *x = a, *y = b;
    int rc = sl_str_cmp(x->text, y->text);
    return rc != 0 ? rc : (x->entity > y->entity) - (x->entity < y->entity);
}

static sl_status_t add_keys(gw_build_t *b, const gw_table_t *t, const char *field, uint32_t first_entity, gw_range_t *out) {
    out->first = gw_writer_count(&b->w, GW_SEC_KEYS);
    entity_key_t *keys = malloc((t->n + 1) * sizeof(*keys));
    if (keys == NULL) {
        return gw_build_no_memory(b);
    }
    size_t n = 0;
    for (size_t i = 0; field != NULL && i < t->n; i++) {
        sl_str_t text = gw_field_str(t->items[i].json, field);
        if (text.data != NULL) {
            keys[n++] = (entity_key_t){text, first_entity + (uint32_t)i};
        }
    }
    qsort(keys, n, sizeof(*keys), by_key);
    for (size_t i = 0; i < n; i++) {
        gw_img_key_t rec = {.key = gw_writer_str(&b->w, keys[i].text), .entity = keys[i].entity};
        gw_writer_add(&b->w, GW_SEC_KEYS, &rec);
    }
    free(keys);
    out->count = (uint32_t)n;
    return SL_OK;
}

static sl_status_t add_collection(gw_build_t *b, const char *name, const json_t *object) {
    gw_table_t t;
    sl_status_t rc = gw_table_init(b, &t, name, object);
    if (rc == SL_OK) {
        gw_img_collection_t rec = {.name = gw_writer_str(&b->w, sl_cstr(name))};
        rec.entities = (gw_range_t){gw_writer_count(&b->w, GW_SEC_ENTITIES), (uint32_t)t.n};
        for (size_t i = 0; i < t.n; i++) {
            gw_img_entity_t entity = {gw_writer_str(&b->w, t.items[i].id), gw_writer_json(&b->w, t.items[i].json)};
            gw_writer_add(&b->w, GW_SEC_ENTITIES, &entity);
        }
        rc = add_keys(b, &t, key_field(name), rec.entities.first, &rec.keys);
        gw_writer_add(&b->w, GW_SEC_COLLECTIONS, &rec);
    }
    free(t.items);
    return rc;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static sl_status_t add_collections(gw_build_t *b, const json_t *entities) {
    const char **names = malloc((json_object_size(entities) + 1) * sizeof(*names));
    if (names == NULL) {
        return gw_build_no_memory(b);
    }
    size_t n = 0;
    const char *name;
    json_t *object;
    json_object_foreach((json_t *)entities, name, object) {
        names[n++] = name;
    }
    qsort(names, n, sizeof(*names), by_text);
    sl_status_t rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < n; i++) {
        rc = add_collection(b, names[i], json_object_get(entities, names[i]));
    }
    free(names);
    return rc;
}

/* ---- all of it ----------------------------------------------------------------------------------------------------------- */

static void add_header(gw_build_t *b, const gw_plan_conf_t *conf) {
    static const char zeros[] = "00000000000000000000000000000000";
    b->w.header.generation = conf->generation;
    b->w.header.store_revision = conf->store_revision;
    b->w.header.traditional = conf->traditional;
    b->w.header.config_hash = gw_writer_str(&b->w, conf->config_hash.len ? conf->config_hash : SL_STR(zeros));
    b->w.header.config_text = gw_writer_str(&b->w, conf->config_text);
}

static sl_status_t build(gw_build_t *b, const json_t *entities) {
    sl_status_t rc = gw_table_init(b, &b->services, "services", json_object_get(entities, "services"));
    rc = rc == SL_OK ? gw_table_init(b, &b->routes, "routes", json_object_get(entities, "routes")) : rc;
    rc = rc == SL_OK ? gw_table_init(b, &b->chains, "filter_chains", json_object_get(entities, "filter_chains")) : rc;
    rc = rc == SL_OK ? gw_table_init(b, &b->plugins, "plugins", json_object_get(entities, "plugins")) : rc;
    rc = rc == SL_OK ? gw_build_filters(b) : rc;
    rc = rc == SL_OK ? add_services_and_routes(b) : rc;
    rc = rc == SL_OK ? add_router(b) : rc;
    return rc == SL_OK ? add_collections(b, entities) : rc;
}

sl_status_t gw_plan_build(const json_t *entities, const gw_plan_conf_t *conf, sl_buf_t *image, sl_err_t *err) {
    if (!json_is_object(entities)) {
        return sl_err_set(err, SL_INVALID, "plan: expected a map of collections");
    }
    gw_build_t b = {.conf = conf, .err = err};
    gw_writer_init(&b.w, image->max);
    add_header(&b, conf);
    sl_status_t rc = build(&b, entities);
    if (rc == SL_OK) {
        rc = gw_writer_finish(&b.w, image, err);
    }
    gw_writer_deinit(&b.w);
    free(b.services.items);
    free(b.routes.items);
    free(b.chains.items);
    free(b.plugins.items);
    free(b.service_filters);
    free(b.route_filters);
    return rc;
}
