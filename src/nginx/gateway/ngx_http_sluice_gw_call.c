/* Names that filters can call: upstreams and services of the plan, and hosts of the hosts file. */
#include "ngx_http_sluice_gw_gen.h"

#include "gw_targets.h"
#include "ngx_http_sluice.h"

#define PLACES_MAX 64 /* of an upstream with more targets each call has others to choose from */

typedef struct {
    ngx_pool_t *pool;
    ngx_array_t *places;
    ngx_uint_t failed;
} collect_t;

static ngx_int_t add_place(ngx_pool_t *pool, ngx_array_t *places, sl_str_t host, ngx_uint_t weight) {
    ngx_http_sluice_place_t *place = ngx_array_push(places);
    u_char *bytes = ngx_pnalloc(pool, host.len + 1);

    if (place == NULL || bytes == NULL) {
        return NGX_ERROR;
    }
    ngx_memcpy(bytes, host.data, host.len);
    place->host = sl_str(bytes, host.len);
    place->weight = weight;
    return NGX_OK;
}

/* host[:port] with the address of the hosts file, where it knows the host; else as it is. */
static ngx_int_t add_host(ngx_pool_t *pool, ngx_array_t *places, sl_str_t target, ngx_uint_t weight) {
    const char *colon = target.len != 0 && target.data[0] != '[' ? memchr(target.data, ':', target.len) : NULL;
    size_t host = colon != NULL ? (size_t)(colon - target.data) : target.len;
    u_char text[NGX_SOCKADDR_STRLEN + 8], *p;
    ngx_str_t address = {sizeof(text), text};

    if (ngx_http_sluice_gw_hosts_find(sl_str(target.data, host), &address) != NGX_OK || target.len - host > 6) {
        return add_place(pool, places, target, weight);
    }
    p = ngx_cpymem(address.data + address.len, target.data + host, target.len - host);
    return add_place(pool, places, sl_str(text, (size_t)(p - text)), weight);
}

static bool collect(void *ud, sl_str_t target, uint32_t weight) {
    collect_t *c = ud;

    c->failed = add_host(c->pool, c->places, target, weight) != NGX_OK;
    return !c->failed && c->places->nelts < PLACES_MAX;
}

/* Where no upstream can have more than all places, they come in the order of their ids. */
static size_t first_target(const gw_plan_t *plan) {
    return gw_plan_entity_count(plan, SL_STR("targets")) > PLACES_MAX ? (size_t)ngx_random() : 0;
}

ngx_int_t ngx_http_sluice_gw_call_name(ngx_pool_t *pool, sl_str_t name, ngx_array_t *places, bool *tls) {
    const gw_plan_t *plan = ngx_http_sluice_gw_naming_plan();
    collect_t c = {.pool = pool, .places = places};

    if (plan != NULL && gw_targets_each(plan, name, first_target(plan), collect, &c, tls) == SL_OK) {
        return c.failed ? NGX_ERROR : NGX_OK;
    }
    if (add_host(pool, places, name, 1) != NGX_OK) {
        return NGX_ERROR;
    }
    /* The same bytes: nothing is known about it. */
    return sl_str_eq(((ngx_http_sluice_place_t *)places->elts)->host, name) ? NGX_DECLINED : NGX_OK;
}
