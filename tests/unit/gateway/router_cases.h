/*
 * Small routers and requests made of choices, from vocabularies that collide often. The choices come from a seed (unit test) or
 * from the fuzzer's bytes.
 */
#ifndef ROUTER_CASES_H
#define ROUTER_CASES_H

#include "naive_router.h"

typedef struct {
    const uint8_t *data; /* NULL: from the seed */
    size_t size;
    uint64_t seed;
} choices_t;

static inline unsigned choose(choices_t *c, unsigned n) {
    if (c->data != NULL) {
        unsigned byte = c->size > 0 ? *c->data : 0;
        c->data += c->size > 0;
        c->size -= c->size > 0;
        return byte % n;
    }
    c->seed ^= c->seed << 13;
    c->seed ^= c->seed >> 7;
    c->seed ^= c->seed << 17;
    return (unsigned)((c->seed >> 11) % n);
}

#define PICK(c, list) list[choose(c, sizeof(list) / sizeof(list[0]))]

static const char *const case_methods[] = {"GET", "POST", "PUT", "PURGE"};
static const char *const case_hosts[] = {"a.test",  "b.a.test", "c.b.a.test", "*.a.test",  "*.test",      "*.b.a.test",
                                         "a.*",     "b.a.*",    "b.*",        "a.test:80", "a.test:8000", "*.a.test:8000",
                                         "a.*:443", "[::1]",    "[::1]:80",   "x"};
static const char *const case_sent_hosts[] = {"a.test",   "b.a.test",      "c.b.a.test", "a.test:80", "a.test:8000", "b.a.test:8000",
                                              "a.other",  "b.a.other:443", "b.",         "a.",        ".a.test",     "[::1]",
                                              "[::1]:80", "::1",           "x",          "",          "a.test:",     "a.test:x",
                                              "A.test",   "a.com:443",     "test",       "*.a.test"};
static const char *const case_paths[] = {"/",        "/a",          "/a/",       "/ab",      "/a/b",       "/a/b/c", "/abc",
                                         "/b",       "~/a",         "~/a$",      "~/a/\\d+", "~/(a|b)",    "~/a|/b", "~/.*c",
                                         "~/a?b",    "~/a/(?<x>.)", "~/\\.x",    "~/[ab]/b", "~/a+",       "~/a{2}", "~/(?i)AB",
                                         "~/a/b.*$", "~/%20x",      "~/\\Q*\\E", "~^/a/b",   "~(?#|x)/a/b"};
static const char *const case_sent_paths[] = {"/",   "/a",    "/a/",     "/ab",        "/a/b",   "/a/b/c",  "/a/b/c/d",     "/abc",
                                              "/b",  "/a/12", "/b?x=/a", "/a/../b",    "/%61/b", "//a///b", "/.x",          "/%20x",
                                              "/aa", "/AB",   "/*",      "/a/b/../c",  "/a%2Fb", "/a%2fb",  "http://h/a/b", "http://h",
                                              "*",   "",      "/aaab",   "/./a/./b/.", "/zzz"};
static const char *const case_header_names[] = {"x-a", "X-B", "X-Tenant"};
static const char *const case_header_values[] = {"one", "Two", "three", "~*^t", "~*o.e$", "", "one, two"};
static const char *const case_sent_values[] = {"one", "TWO", "three", "ONE", "toe", "", "other"};
static const char *const case_snis[] = {"a.test", "b.a.test", "*.a.test", "a.*", "x"};

static inline json_t *case_set(choices_t *c, const char *const *from, unsigned n_from, unsigned max) {
    json_t *set = json_array();
    unsigned n = 1 + choose(c, max);
    for (unsigned i = 0; i < n; i++) {
        json_array_append_new(set, json_string(from[choose(c, n_from)]));
    }
    return set;
}

#define SET(c, list, max) case_set(c, list, sizeof(list) / sizeof(list[0]), max)

static inline json_t *case_headers(choices_t *c) {
    json_t *headers = json_object();
    unsigned n = 1 + choose(c, 2);
    for (unsigned i = 0; i < n; i++) {
        json_object_set_new(headers, PICK(c, case_header_names), SET(c, case_header_values, 2));
    }
    return headers;
}

static inline json_t *case_route(choices_t *c, bool traditional) {
    json_t *route = json_object();
    unsigned mask = choose(c, 256);
    mask = (mask & 31) == 0 ? 1u << (mask >> 5) % 5 : mask;
    if (mask & 1) {
        json_object_set_new(route, "paths", SET(c, case_paths, 4));
    }
    if (mask & 2) {
        json_object_set_new(route, "hosts", SET(c, case_hosts, 3));
    }
    if (mask & 4) {
        json_object_set_new(route, "methods", SET(c, case_methods, 2));
    }
    if (mask & 8) {
        json_object_set_new(route, "headers", case_headers(c));
    }
    if (mask & 16) {
        json_object_set_new(route, "snis", SET(c, case_snis, 2));
    }
    /* The 64-bit number of the other flavor has no place for less than zero. */
    json_object_set_new(route, "regex_priority", json_integer((int)choose(c, 3) - (traditional ? 1 : 0)));
    json_object_set_new(route, "created_at", json_integer(choose(c, 3)));
    if (choose(c, 4) == 0) {
        json_object_set_new(route, "service", json_pack("{s:s}", "id", choose(c, 3) ? "s-on" : "s-off"));
    }
    return route;
}

static inline json_t *case_entities(choices_t *c, unsigned max_routes, bool traditional) {
    json_t *routes = json_object();
    unsigned n = choose(c, max_routes + 1);
    for (unsigned i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof(id), "r-%02x-%u", choose(c, 256), i);
        json_object_set_new(routes, id, case_route(c, traditional));
    }
    return json_pack("{s:{s:{s:s}, s:{s:s, s:b}}, s:o}", "services", "s-on", "path", "/base", "s-off", "path", "/off", "enabled", 0,
                     "routes", routes);
}

typedef struct {
    gw_match_in_t in;
    const char *names[4];
    const char *values[4];
    size_t n_headers;
} case_request_t;

static inline sl_str_t case_header(void *ud, sl_str_t name, size_t i) {
    const case_request_t *r = ud;
    for (size_t k = 0; k < r->n_headers; k++) {
        if (sl_str_eq(name, sl_cstr(r->names[k])) && i-- == 0) {
            return sl_cstr(r->values[k]);
        }
    }
    return SL_STR_NULL;
}

static inline void case_request(choices_t *c, case_request_t *r) {
    static const char *const lower_names[] = {"x-a", "x-b", "x-tenant"};
    *r = (case_request_t){0};
    r->in.method = sl_cstr(PICK(c, case_methods));
    r->in.host = sl_cstr(PICK(c, case_sent_hosts));
    r->in.port = choose(c, 2) ? 8000 : 443;
    r->in.path = sl_cstr(PICK(c, case_sent_paths));
    r->in.https = choose(c, 2) == 1;
    r->in.sni = r->in.https && choose(c, 4) ? sl_cstr(PICK(c, case_snis)) : SL_STR_NULL;
    r->n_headers = choose(c, 4);
    for (size_t i = 0; i < r->n_headers; i++) {
        r->names[i] = PICK(c, lower_names);
        r->values[i] = PICK(c, case_sent_values);
    }
    r->in.header = case_header;
    r->in.ud = r;
}

static inline void case_print(const json_t *entities, bool traditional, const case_request_t *r, const char *want, const char *got) {
    char *text = json_dumps(json_object_get(entities, "routes"), JSON_INDENT(1));
    fprintf(stderr, "%s\n%s %.*s host '%.*s' port %u https %d sni '%.*s'", text, traditional ? "traditional" : "traditional_compatible",
            SL_FMT(r->in.path), SL_FMT(r->in.host), r->in.port, r->in.https, SL_FMT(r->in.sni));
    for (size_t i = 0; i < r->n_headers; i++) {
        fprintf(stderr, " %s='%s'", r->names[i], r->values[i]);
    }
    fprintf(stderr, " method %.*s: expected %s, got %s\n", SL_FMT(r->in.method), want ? want : "no route", got ? got : "no route");
    free(text);
}

/* True when the plan and the scan agree; says how not otherwise. */
static inline bool case_agrees(const gw_plan_t *plan, const naive_t *nv, const json_t *entities, case_request_t *r, sl_buf_t *scratch) {
    gw_match_t m = {0};
    gw_route_t route = {0};
    naive_result_t want = naive_match(nv, &r->in);
    sl_status_t rc = gw_plan_match(plan, &r->in, scratch, &m);
    if (rc == SL_OK) {
        gw_plan_route(plan, m.route, &route);
    }
    bool same = rc == SL_OK ? want.id != NULL && sl_str_eq(route.id, sl_cstr(want.id)) : want.id == NULL && rc == SL_NOT_FOUND;
    if (same && want.id != NULL) {
        same = (m.matched_prefix.data != NULL) == want.has_prefix && (!want.has_prefix || m.matched_prefix.len == want.prefix);
    }
    if (want.gave_up || same) {
        return true;
    }
    case_print(entities, nv->traditional, r, want.id, rc == SL_OK ? route.id.data : NULL);
    return false;
}

#endif
