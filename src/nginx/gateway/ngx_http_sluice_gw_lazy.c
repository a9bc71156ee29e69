#include "ngx_http_sluice_gw_lazy.h"

ngx_http_sluice_gw_service_t *ngx_http_sluice_gw_gen_service(ngx_http_sluice_gw_gen_t *gen, uint32_t index) {
    ngx_http_sluice_gw_lazy_t *lazy = ngx_http_sluice_gw_gen_lazy(gen);
    if (lazy->services == NULL) {
        size_t n = gw_plan_n_services(ngx_http_sluice_gw_gen_plan(gen));
        lazy->services = calloc(n + 1, sizeof(*lazy->services));
        lazy->n_services = lazy->services != NULL ? n : 0;
    }
    return lazy->services != NULL ? &lazy->services[index] : NULL;
}

unsigned ngx_http_sluice_gw_lazy_take_down(ngx_http_sluice_gw_lazy_t *lazy) {
    while (lazy->down_services < lazy->n_services) {
        ngx_http_sluice_gw_service_t *s = &lazy->services[lazy->down_services++];
        if (s->pool != NULL || s->tls != NULL) {
            ngx_http_sluice_gw_pool_unref(s->pool);
            ngx_http_sluice_gw_tls_free(s->tls);
            return 1;
        }
    }
    while (lazy->down_certs < lazy->n_certs) {
        ngx_http_sluice_gw_cert_t *cert = lazy->certs[lazy->down_certs++];
        if (cert != NULL) {
            ngx_http_sluice_gw_cert_free(cert);
            return 1;
        }
    }
    if (lazy->n_pools > 0) {
        ngx_http_sluice_gw_pool_unref(lazy->pools[--lazy->n_pools]);
        return 1;
    }
    free(lazy->pools);
    free(lazy->services);
    free(lazy->certs);
    ngx_memzero(lazy, sizeof(*lazy));
    return 0;
}

json_t *ngx_http_sluice_gw_entity(const gw_plan_t *plan, sl_str_t collection, sl_str_t id_or_key) {
    sl_str_t text = gw_plan_entity(plan, collection, id_or_key);
    return text.data != NULL ? json_loadb(text.data, text.len, 0, NULL) : NULL;
}

json_t *ngx_http_sluice_gw_upstream_named(const gw_plan_t *plan, sl_str_t name) {
    json_t *json = ngx_http_sluice_gw_entity(plan, SL_STR("upstreams"), name);
    if (json != NULL && !sl_str_eq(ngx_http_sluice_gw_json_str(json, "name"), name)) { /* it was an id */
        json_decref(json);
        return NULL;
    }
    return json;
}

sl_str_t ngx_http_sluice_gw_json_str(const json_t *object, const char *member) {
    const json_t *v = json_object_get(object, member);
    return json_is_string(v) ? sl_str(json_string_value(v), json_string_length(v)) : SL_STR_NULL;
}

sl_str_t ngx_http_sluice_gw_json_ref(const json_t *object, const char *member) {
    return ngx_http_sluice_gw_json_str(json_object_get(object, member), "id");
}
