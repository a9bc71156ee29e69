#include "gw_targets.h"

#include <stdio.h>

static sl_str_t text_of(const json_t *object, const char *member) {
    const json_t *value = json_object_get(object, member);
    return json_is_string(value) ? sl_str(json_string_value(value), json_string_length(value)) : SL_STR_NULL;
}

static json_t *load(sl_str_t entity) {
    return entity.data != NULL ? json_loadb(entity.data, entity.len, 0, NULL) : NULL;
}

static bool tell_target(const gw_plan_t *plan, size_t at, gw_target_each_t each, void *ud) {
    json_t *entity = load(gw_plan_entity_at(plan, SL_STR("targets"), at));
    sl_str_t target = text_of(entity, "target");
    const json_t *weight = json_object_get(entity, "weight");
    json_int_t n = json_is_integer(weight) ? json_integer_value(weight) : 100;
    bool more = target.len == 0 || n <= 0 || each(ud, target, (uint32_t)n);
    json_decref(entity);
    return more;
}

static void tell_upstream(const gw_plan_t *plan, const json_t *upstream, size_t from, gw_target_each_t each, void *ud) {
    gw_plan_set_t set = gw_plan_children(plan, SL_STR("targets"), SL_STR("upstream"), SL_STR("upstreams"), text_of(upstream, "id"));
    size_t first = set.n != 0 ? from % set.n : 0;
    for (size_t i = 0; i < set.n && tell_target(plan, gw_plan_set_at(&set, (first + i) % set.n), each, ud); i++) {
    }
}

static bool is_tls(sl_str_t protocol) {
    return sl_str_eq(protocol, SL_STR("https")) || sl_str_eq(protocol, SL_STR("grpcs")) || sl_str_eq(protocol, SL_STR("tls"));
}

static sl_status_t tell_service(const json_t *service, gw_target_each_t each, void *ud, bool *tls) {
    char text[512];
    sl_str_t host = text_of(service, "host"), protocol = text_of(service, "protocol");
    const json_t *port = json_object_get(service, "port");
    int len = snprintf(text, sizeof(text), "%.*s:%d", SL_FMT(host), json_is_integer(port) ? (int)json_integer_value(port) : 80);
    if (host.len == 0 || json_is_false(json_object_get(service, "enabled")) || len < 0 || (size_t)len >= sizeof(text)) {
        return SL_NOT_FOUND;
    }
    *tls = is_tls(protocol);
    each(ud, sl_str(text, (size_t)len), 1);
    return SL_OK;
}

sl_status_t gw_targets_each(const gw_plan_t *plan, sl_str_t name, size_t from, gw_target_each_t each, void *ud, bool *tls) {
    json_t *entity = load(gw_plan_entity(plan, SL_STR("upstreams"), name));
    sl_status_t rc = SL_OK;
    if (entity != NULL) {
        tell_upstream(plan, entity, from, each, ud);
    } else {
        entity = load(gw_plan_entity(plan, SL_STR("services"), name));
        rc = entity != NULL ? tell_service(entity, each, ud, tls) : SL_NOT_FOUND;
    }
    json_decref(entity);
    return rc;
}
