/*
 * What the router costs: time to build and to open a plan, its size, and nanoseconds for a match, for 10, 1,000 and 100,000
 * routes of several shapes. Each request goes to a different route, so that caches are as cold as in life.
 *
 *   make lib-gateway && cc -std=gnu11 -O2 -D_GNU_SOURCE -Isrc/base -Isrc/gateway -o build/router_match bench/router_match.c
 *     build/release/libgateway.a build/release/libbase.a -ljansson -lyaml -lpcre2-8 -lcrypto -lm
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "gw_plan.h"

#define REQUESTS 200000u

typedef struct {
    const char *name;
    json_t *(*route)(unsigned i);
    void (*request)(unsigned i, gw_match_in_t *in);
} shape_t;

static char path_text[128], host_text[128], tenant_text[32];

static json_t *paths_route(unsigned i) {
    snprintf(path_text, sizeof(path_text), "/api/v%u/service-%u", i % 3, i);
    return json_pack("{s:[s]}", "paths", path_text);
}

static void paths_request(unsigned i, gw_match_in_t *in) {
    snprintf(path_text, sizeof(path_text), "/api/v%u/service-%u/items/7?x=1", i % 3, i);
    in->path = sl_cstr(path_text);
}

static json_t *hosts_route(unsigned i) {
    snprintf(host_text, sizeof(host_text), "shop-%u.example.test", i);
    return json_pack("{s:[s], s:[s]}", "hosts", host_text, "paths", "/");
}

static void hosts_request(unsigned i, gw_match_in_t *in) {
    snprintf(host_text, sizeof(host_text), "shop-%u.example.test", i);
    in->host = sl_cstr(host_text);
}

static json_t *wildcards_route(unsigned i) {
    snprintf(host_text, sizeof(host_text), "*.shop-%u.example.test", i);
    return json_pack("{s:[s], s:[s]}", "hosts", host_text, "paths", "/a");
}

static void wildcards_request(unsigned i, gw_match_in_t *in) {
    snprintf(host_text, sizeof(host_text), "www.shop-%u.example.test", i);
    in->host = sl_cstr(host_text);
}

static json_t *regexes_route(unsigned i) {
    snprintf(path_text, sizeof(path_text), "~/users-%u/\\d+$", i);
    return json_pack("{s:[s]}", "paths", path_text);
}

static void regexes_request(unsigned i, gw_match_in_t *in) {
    snprintf(path_text, sizeof(path_text), "/users-%u/123", i);
    in->path = sl_cstr(path_text);
}

static json_t *headers_route(unsigned i) {
    snprintf(tenant_text, sizeof(tenant_text), "tenant-%u", i);
    return json_pack("{s:[s], s:{s:[s], s:[s]}}", "paths", "/", "headers", "x-stage", "live", "x-tenant", tenant_text);
}

static void headers_request(unsigned i, gw_match_in_t *in) {
    (void)in;
    snprintf(tenant_text, sizeof(tenant_text), "tenant-%u", i);
}

static sl_str_t header(void *ud, sl_str_t name, size_t i) {
    (void)ud;
    if (i > 0) {
        return SL_STR_NULL;
    }
    return sl_str_eq(name, SL_STR("x-tenant")) ? sl_cstr(tenant_text) : sl_str_eq(name, SL_STR("x-stage")) ? SL_STR("live") : SL_STR_NULL;
}

static const shape_t shapes[] = {{"paths", paths_route, paths_request},
                                 {"hosts", hosts_route, hosts_request},
                                 {"wildcard hosts", wildcards_route, wildcards_request},
                                 {"regexes", regexes_route, regexes_request},
                                 {"headers", headers_route, headers_request}};

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* A service, and for each route its own chain, as entities come from validation. */
static json_t *entities_of(const shape_t *shape, unsigned n) {
    json_t *routes = json_object(), *chains = json_object();
    for (unsigned i = 0; i < n; i++) {
        char id[40];
        snprintf(id, sizeof(id), "%08x-0000-4000-8000-000000000000", i * 2654435761u);
        json_t *route = shape->route(i);
        json_object_set_new(route, "id", json_string(id));
        json_object_set_new(route, "service", json_pack("{s:s}", "id", "s"));
        json_object_set_new(route, "created_at", json_integer(1700000000 + i));
        json_object_set_new(routes, id, route);
        json_object_set_new(chains, id,
                            json_pack("{s:{s:s}, s:[{s:s, s:i}]}", "route", "id", id, "filters", "name", "my-filter", "config", (int)i));
    }
    return json_pack("{s:{s:{s:s}}, s:o, s:o}", "services", "s", "host", "up.test", "routes", routes, "filter_chains", chains);
}

static double match_all(const gw_plan_t *plan, const shape_t *shape, unsigned n) {
    sl_buf_t scratch;
    sl_buf_init(&scratch, 65536);
    double spent = 0;
    uint64_t seed = 88172645463325252u;
    for (unsigned round = 0; round < 2; round++) { /* the first one compiles regexes */
        spent = 0;
        for (unsigned k = 0; k < REQUESTS; k++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            gw_match_in_t in = {
                .method = SL_STR("GET"), .host = SL_STR("other.test"), .port = 8000, .path = SL_STR("/a/b"), .header = header};
            shape->request((unsigned)(seed % n), &in);
            gw_match_t m;
            double start = now_ns();
            sl_status_t rc = gw_plan_match(plan, &in, &scratch, &m);
            spent += now_ns() - start;
            if (rc != SL_OK) {
                fprintf(stderr, "%s: request without a route\n", shape->name);
                exit(1);
            }
        }
    }
    sl_buf_deinit(&scratch);
    return spent / REQUESTS;
}

static void measure(const shape_t *shape, unsigned n) {
    json_t *entities = entities_of(shape, n);
    sl_buf_t image;
    sl_buf_init(&image, SIZE_MAX);
    sl_err_t err;
    gw_plan_t *plan;
    double start = now_ns();
    sl_status_t rc = gw_plan_build(entities, &(gw_plan_conf_t){0}, &image, &err);
    double built = now_ns();
    rc = rc == SL_OK ? gw_plan_open(sl_buf_str(&image), &plan, &err) : rc;
    double opened = now_ns();
    if (rc != SL_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    printf("%-15s %7u routes  build %8.1f ms  open %6.1f ms  size %9.1f KiB  match %6.0f ns\n", shape->name, n, (built - start) / 1e6,
           (opened - built) / 1e6, (double)image.len / 1024, match_all(plan, shape, n));
    gw_plan_close(plan);
    sl_buf_deinit(&image);
    json_decref(entities);
}

int main(void) {
    static const unsigned counts[] = {10, 1000, 100000};
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
            measure(&shapes[s], counts[i]);
        }
    }
    return 0;
}
