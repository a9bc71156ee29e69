#include "gw_plan.h"

#include <stdlib.h>

#include "gw_plan_parts.h"
#include "gw_router.h"
#include "gw_schema.h"

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

static void add_service(gw_build_t *b, const gw_entry_t *e, gw_range_t filters) {
    if (e->kept) {
        gw_img_service_t old = GW_IMG(b->base, gw_img_service_t, GW_SEC_SERVICES)[e->was - b->services->old->entities.first];
        old.filters = filters;
        gw_writer_add(&b->w, GW_SEC_SERVICES, &old);
        return;
    }
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
        .filters = filters,
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

static sl_status_t make_route(gw_build_t *b, gw_entry_t *e, gw_img_route_t *rec) {
    uint32_t service;
    sl_status_t rc = gw_foreign(b, e, "service", b->services, &service);
    if (rc != SL_OK) {
        return rc;
    }
    uint32_t bits = route_protocols(e->json);
    *rec = (gw_img_route_t){
        .id = gw_writer_str(&b->w, e->id),
        .name = gw_writer_str(&b->w, gw_field_str(e->json, "name")),
        .protocols = bits,
        .https_redirect_status = field_u32(e->json, "https_redirect_status_code", 426),
        .flags = route_flags(e->json, bits, b->w.header.traditional != 0),
        .service = service,
    };
    return SL_OK;
}

/* That its service is there, keep_links() has seen. */
static void keep_route(const gw_build_t *b, const gw_entry_t *e, gw_img_route_t *rec) {
    *rec = GW_IMG(b->base, gw_img_route_t, GW_SEC_ROUTES)[e->was - b->routes->old->entities.first];
    rec->service = rec->service != GW_NONE ? gw_table_moved(b, b->services, rec->service) : GW_NONE;
}

/* `runnable`: by service, the runnable chain of the service alone. */
static sl_status_t add_route(gw_build_t *b, uint32_t index, const uint32_t *runnable) {
    gw_entry_t *e = &b->routes->items[index];
    gw_img_route_t rec;
    sl_status_t rc = SL_OK;
    if (e->kept) {
        keep_route(b, e, &rec);
    } else {
        rc = make_route(b, e, &rec);
    }
    if (rc != SL_OK) {
        return rc;
    }
    rec.filters = b->route_filters[index];
    rec.chain = rec.service == GW_NONE ? GW_NONE : runnable[rec.service];
    if (rec.filters.count > 0) {
        rec.chain = gw_build_chain(b, rec.service == GW_NONE ? no_filters : b->service_filters[rec.service], rec.filters);
    }
    gw_writer_add(&b->w, GW_SEC_ROUTES, &rec);
    return SL_OK;
}

static sl_status_t add_services_and_routes(gw_build_t *b) {
    uint32_t *runnable = malloc((b->services->n + 1) * sizeof(*runnable));
    if (runnable == NULL) {
        return gw_build_no_memory(b);
    }
    for (size_t i = 0; i < b->services->n; i++) {
        add_service(b, &b->services->items[i], b->service_filters[i]);
        runnable[i] = gw_build_chain(b, b->service_filters[i], no_filters);
    }
    sl_status_t rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < b->routes->n; i++) {
        rc = add_route(b, (uint32_t)i, runnable);
    }
    free(runnable);
    return rc == SL_OK && gw_writer_failed(&b->w) ? gw_build_no_memory(b) : rc;
}

/* ---- the router ------------------------------------------------------------------------------------------------------------------ */

static const gw_img_service_t *service_of(const gw_build_t *b, const gw_img_route_t *r) {
    const gw_img_service_t *services = (const gw_img_service_t *)(const void *)b->w.sec[GW_SEC_SERVICES].data;
    return r->service != GW_NONE ? &services[r->service] : NULL;
}

/* Only routes that can serve HTTP and whose service is unset or enabled. */
static bool takes_part(const gw_build_t *b, const gw_img_route_t *r) {
    const gw_img_service_t *service = service_of(b, r);
    return (r->protocols & (GW_HTTP | GW_HTTPS | GW_GRPC | GW_GRPCS)) != 0 && (service == NULL || service->enabled != 0);
}

/* Whether the router has it as it is to be: the route is what it was, and its service is on or off as before. */
static bool stays(const gw_build_t *b, const gw_entry_t *e, const gw_img_route_t *r) {
    if (!e->kept) {
        return false;
    }
    const gw_img_route_t *old = &GW_IMG(b->base, gw_img_route_t, GW_SEC_ROUTES)[e->was - b->routes->old->entities.first];
    const gw_img_service_t *service = service_of(b, r);
    return service == NULL || service->enabled == GW_IMG(b->base, gw_img_service_t, GW_SEC_SERVICES)[old->service].enabled;
}

/* By route of the base, the route whose leaves it gives now; and the routes whose leaves are to be made. */
static sl_status_t sort_routes(gw_build_t *b, uint32_t *stay, gw_router_route_t *fresh, size_t *n) {
    *n = 0;
    for (size_t i = 0; i < b->routes->n; i++) {
        gw_entry_t *e = &b->routes->items[i];
        const gw_img_route_t *r = (const gw_img_route_t *)(const void *)b->w.sec[GW_SEC_ROUTES].data + i;
        if (stays(b, e, r)) {
            stay[e->was - b->routes->old->entities.first] = (uint32_t)i;
        } else if (takes_part(b, r)) {
            fresh[*n] = (gw_router_route_t){gw_entry_json(b, e), e->id, (uint32_t)i};
            if (fresh[(*n)++].json == NULL) {
                return gw_build_no_memory(b);
            }
        }
    }
    return SL_OK;
}

static sl_status_t add_router(gw_build_t *b) {
    size_t n_old = b->base != NULL ? b->base->n[GW_SEC_ROUTES] : 0, n;
    gw_router_route_t *fresh = malloc((b->routes->n + 1) * sizeof(*fresh));
    uint32_t *stay = malloc((n_old + 1) * sizeof(*stay));
    sl_status_t rc = SL_NO_MEMORY;
    if (fresh != NULL && stay != NULL) {
        memset(stay, 0xff, (n_old + 1) * sizeof(*stay));
        rc = sort_routes(b, stay, fresh, &n);
        rc = rc == SL_OK ? gw_router_build(&b->w, b->base, stay, fresh, n, b->w.header.traditional != 0, b->err) : rc;
    } else {
        gw_build_no_memory(b);
    }
    free(fresh);
    free(stay);
    return rc;
}

/* ---- all of it ----------------------------------------------------------------------------------------------------------- */

static void add_header(gw_build_t *b, const gw_plan_conf_t *conf) {
    static const char zeros[] = "00000000000000000000000000000000";
    b->w.header.generation = conf->generation;
    b->w.header.store_revision = conf->store_revision;
    b->w.header.traditional = conf->traditional;
    memcpy(b->w.header.modules, conf->modules, sizeof(conf->modules));
    b->w.header.config_hash = gw_writer_str(&b->w, conf->config_hash.len ? conf->config_hash : SL_STR(zeros));
}

/* What is taken over whole: gw_plan_parts.h says why. */
static void take_over(gw_build_t *b) {
    static const gw_section_t whole[] = {GW_SEC_STRINGS, GW_SEC_CONDS, GW_SEC_HEADERS, GW_SEC_TEXTS, GW_SEC_REGEXES};
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        size_t bytes = (size_t)b->base->n[whole[i]] * gw_img_record_size[whole[i]];
        /* Room for what is added, so that it is copied once. */
        sl_buf_reserve(&b->w.sec[whole[i]], bytes + bytes / 16 + 4096);
        sl_buf_append(&b->w.sec[whole[i]], b->base->sec[whole[i]], bytes);
    }
    b->w.header.full_strings = b->base->header->full_strings;
}

static sl_status_t build(gw_build_t *b, const json_t *changed, const json_t *gone) {
    sl_status_t rc = gw_build_tables(b, changed, gone);
    rc = rc == SL_OK ? gw_build_filters(b) : rc;
    rc = rc == SL_OK ? add_services_and_routes(b) : rc;
    return rc == SL_OK ? add_router(b) : rc;
}

static sl_status_t build_image(const gw_plan_t *base, const json_t *changed, const json_t *gone, const gw_plan_conf_t *conf,
                               sl_buf_t *image, sl_err_t *err) {
    gw_build_t b = {.base = base != NULL ? gw_plan_image(base) : NULL, .conf = conf, .err = err};
    b.services = b.routes = b.chains = b.plugins = &b.none;
    gw_writer_init(&b.w, image->max);
    if (b.base != NULL) {
        take_over(&b);
    }
    add_header(&b, conf);
    sl_status_t rc = build(&b, changed, gone);
    if (b.base == NULL) {
        b.w.header.full_strings = (uint32_t)b.w.sec[GW_SEC_STRINGS].len;
    }
    if (rc == SL_OK) {
        rc = gw_writer_finish(&b.w, image, err);
    }
    gw_writer_deinit(&b.w);
    gw_build_tables_free(&b);
    free(b.service_filters);
    free(b.route_filters);
    return rc;
}

sl_status_t gw_plan_build(const json_t *entities, const gw_plan_conf_t *conf, sl_buf_t *image, sl_err_t *err) {
    if (!json_is_object(entities)) {
        return sl_err_set(err, SL_INVALID, "plan: expected a map of collections");
    }
    return build_image(NULL, entities, NULL, conf, image, err);
}

#define WASTE_MIN ((uint64_t)1 << 20)

static bool is_base(const gw_image_t *base, const gw_plan_conf_t *conf) {
    static const uint8_t unknown[sizeof(conf->modules)];
    const gw_img_header_t *h = base->header;
    bool same_modules = memcmp(h->modules, conf->modules, sizeof(conf->modules)) == 0 &&
                        (conf->module_of == NULL || memcmp(conf->modules, unknown, sizeof(unknown)) != 0);
    bool wasted = base->n[GW_SEC_STRINGS] > WASTE_MIN + h->full_strings + h->full_strings / 2;
    return (h->traditional != 0) == conf->traditional && same_modules && !wasted;
}

sl_status_t gw_plan_update(const gw_plan_t *base, const json_t *changed, const json_t *gone, const gw_plan_conf_t *conf, sl_buf_t *image,
                           sl_err_t *err) {
    if (!is_base(gw_plan_image(base), conf)) {
        return sl_err_set(err, SL_CONFLICT, "plan: to be built from all entities");
    }
    return build_image(base, changed, gone, conf, image, err);
}
