/* The leaves of the router: what a route asks for, and which of two goes first. */
#include "gw_router_parts.h"

#include <stdlib.h>

/*
 * Precedence (gateway reference 4.3, 4.4). Compared member by member, larger first down to path_len, then smaller first.
 *
 * traditional: kinds = number of attribute kinds, then their bits; submatch = wildcard host with port, all hosts plain, regex path.
 * traditional_compatible is a 64-bit number: 61-63 kinds, 60 all hosts plain, 52-59 headers, 51 regex path, 19-50 regex
 * priority, 0-18 length of the plain path. Its fields are compared one by one here, which is the same and leaves a negative
 * regex priority below zero. That flavor groups the paths of one route by length, all regexes in one group; since only the
 * path differs inside a group, one leaf for each path, kept in the route's order, wins exactly when its group would.
 */
enum { KIND_HOSTS = 0x40, KIND_HEADERS = 0x20, KIND_PATHS = 0x10, KIND_METHODS = 0x08, KIND_SNIS = 0x04 };
enum { SUB_WILDCARD_PORT = 4, SUB_PLAIN_HOSTS = 2, SUB_REGEX = 1 };

/* ---- conditions ---------------------------------------------------------------------------------------------------------- */

static uint32_t add_regex(gw_router_t *r, sl_str_t pattern, bool anchored) {
    gw_img_regex_t rec = {.pattern = gw_writer_str(r->w, pattern), .anchored = anchored};
    return gw_writer_add(r->w, GW_SEC_REGEXES, &rec);
}

static gw_range_t add_texts(gw_router_t *r, const json_t *array, bool lower) {
    gw_range_t range = {gw_writer_count(r->w, GW_SEC_TEXTS), 0};
    for (size_t i = 0; i < json_array_size(array); i++) {
        sl_str_t s = gw_json_str(json_array_get(array, i));
        if (s.data != NULL) {
            gw_ref_t ref = lower ? gw_writer_lower(r->w, s) : gw_writer_str(r->w, s);
            gw_writer_add(r->w, GW_SEC_TEXTS, &ref);
            range.count++;
        }
    }
    return range;
}

static sl_status_t bad_regex(gw_router_t *r, const gw_router_route_t *route, sl_str_t pattern, sl_status_t rc, const sl_err_t *why) {
    if (rc != SL_INVALID) {
        return sl_err_set(r->err, rc, "route '%.*s': %s", SL_FMT(route->id), why->text);
    }
    int shown = pattern.len > 200 ? 200 : (int)pattern.len;
    return sl_err_set(r->err, SL_INVALID, "route '%.*s': invalid regex '%.*s': %s", SL_FMT(route->id), shown, pattern.data, why->text);
}

/* A single value "~*regex" searches the request's value. */
static bool regex_value(const json_t *values, sl_str_t *pattern) {
    sl_str_t only = json_array_size(values) == 1 ? gw_json_str(json_array_get(values, 0)) : SL_STR_NULL;
    if (!sl_str_starts(only, SL_STR("~*"))) {
        return false;
    }
    *pattern = sl_str(only.data + 2, only.len - 2);
    return true;
}

static sl_status_t make_header(gw_router_t *r, const gw_router_route_t *route, sl_str_t name, const json_t *values,
                               gw_img_header_cond_t *out) {
    *out = (gw_img_header_cond_t){.name = gw_writer_lower(r->w, name), .regex = GW_NONE};
    sl_str_t pattern;
    if (!regex_value(values, &pattern)) {
        out->values = add_texts(r, values, true);
        return SL_OK;
    }
    sl_err_t why;
    sl_status_t rc = sl_regex_check(pattern, &why);
    if (rc != SL_OK) {
        return bad_regex(r, route, pattern, rc, &why);
    }
    out->regex = add_regex(r, pattern, false);
    return SL_OK;
}

static sl_status_t add_headers(gw_router_t *r, const gw_router_route_t *route, const json_t *headers, gw_range_t *out) {
    *out = (gw_range_t){gw_writer_count(r->w, GW_SEC_HEADERS), 0};
    const char *name;
    size_t name_len;
    json_t *values;
    json_object_keylen_foreach((json_t *)headers, name, name_len, values) {
        gw_img_header_cond_t rec;
        sl_status_t rc = make_header(r, route, sl_str(name, name_len), values, &rec);
        if (rc != SL_OK) {
            return rc;
        }
        gw_writer_add(r->w, GW_SEC_HEADERS, &rec);
        out->count++;
    }
    return SL_OK;
}

/* What of a request, beside host and path, the route asks for; GW_NONE when nothing. */
static sl_status_t add_cond(gw_router_t *r, const gw_router_route_t *route, uint32_t *out) {
    const json_t *methods = json_object_get(route->json, "methods");
    const json_t *snis = json_object_get(route->json, "snis");
    const json_t *headers = json_object_get(route->json, "headers");
    *out = GW_NONE;
    if (json_array_size(methods) + json_array_size(snis) + json_object_size(headers) == 0) {
        return SL_OK;
    }
    gw_img_cond_t rec = {.methods = add_texts(r, methods, false), .snis = add_texts(r, snis, false)};
    sl_status_t rc = add_headers(r, route, headers, &rec.headers);
    *out = gw_writer_add(r->w, GW_SEC_CONDS, &rec);
    return rc;
}

/* ---- leaves -------------------------------------------------------------------------------------------------------------- */

static bool is_wildcard(sl_str_t host) {
    return host.len > 0 && memchr(host.data, '*', host.len) != NULL;
}

static uint32_t host_submatch(const json_t *hosts) {
    uint32_t sub = json_array_size(hosts) > 0 ? SUB_PLAIN_HOSTS : 0;
    for (size_t i = 0; i < json_array_size(hosts); i++) {
        sl_str_t host = gw_json_str(json_array_get(hosts, i));
        uint32_t port;
        gw_router_host_split(host, &port);
        if (is_wildcard(host)) {
            sub = (sub & ~(uint32_t)SUB_PLAIN_HOSTS) | (port != 0 ? SUB_WILDCARD_PORT : 0);
        }
    }
    return sub;
}

static uint32_t kind_bits(const json_t *json) {
    return (json_array_size(json_object_get(json, "hosts")) ? KIND_HOSTS : 0) |
           (json_object_size(json_object_get(json, "headers")) ? KIND_HEADERS : 0) |
           (json_array_size(json_object_get(json, "paths")) ? KIND_PATHS : 0) |
           (json_array_size(json_object_get(json, "methods")) ? KIND_METHODS : 0) |
           (json_array_size(json_object_get(json, "snis")) ? KIND_SNIS : 0);
}

static uint32_t at_most(size_t n, uint32_t max) {
    return n < max ? (uint32_t)n : max;
}

static gw_img_rank_t make_rank(const gw_router_t *r, const gw_router_route_t *route, sl_str_t path, uint32_t position) {
    const json_t *j = route->json;
    uint32_t bits = kind_bits(j);
    uint32_t kinds = (uint32_t)__builtin_popcount(bits);
    uint32_t sub = host_submatch(json_object_get(j, "hosts"));
    size_t n_headers = json_object_size(json_object_get(j, "headers"));
    bool regex = path.len > 0 && path.data[0] == '~';
    gw_img_rank_t rank = {
        .regex_priority = regex ? gw_field_int(j, "regex_priority", 0) : 0,
        .created_at = gw_field_int(j, "created_at", 0),
        .path = position,
    };
    if (r->traditional) {
        rank.kinds = kinds << 8 | bits;
        rank.submatch = sub | (regex ? SUB_REGEX : 0);
        rank.n_headers = at_most(n_headers, UINT32_MAX);
        rank.path_len = regex ? 0 : at_most(path.len, UINT32_MAX);
    } else {
        rank.kinds = kinds;
        rank.submatch = sub & SUB_PLAIN_HOSTS;
        rank.n_headers = at_most(n_headers, 255);
        rank.regex = regex;
        rank.path_len = regex ? 0 : at_most(path.len, 0x7ffff);
    }
    return rank;
}

#define BIGGER_FIRST(a, b) (((a) < (b)) - ((a) > (b)))

static int by_rank(const void *x, const void *y) {
    const gw_router_leaf_t *l = x, *m = y;
    const gw_img_rank_t *a = &l->rank, *b = &m->rank;
    int rc = BIGGER_FIRST(a->kinds, b->kinds);
    rc = rc ? rc : BIGGER_FIRST(a->submatch, b->submatch);
    rc = rc ? rc : BIGGER_FIRST(a->n_headers, b->n_headers);
    rc = rc ? rc : BIGGER_FIRST(a->regex, b->regex);
    rc = rc ? rc : BIGGER_FIRST(a->regex_priority, b->regex_priority);
    rc = rc ? rc : BIGGER_FIRST(a->path_len, b->path_len);
    rc = rc ? rc : -BIGGER_FIRST(a->created_at, b->created_at);
    rc = rc ? rc : -BIGGER_FIRST(l->record.route, m->record.route);
    return rc ? rc : -BIGGER_FIRST(a->path, b->path);
}

/* The text that a regex's matches begin with is its key in the path trie. */
static sl_status_t regex_leaf(gw_router_t *r, gw_router_leaf_t *leaf, sl_str_t pattern) {
    sl_err_t why;
    sl_status_t rc = sl_regex_check(pattern, &why);
    if (rc != SL_OK) {
        return bad_regex(r, leaf->route, pattern, rc, &why);
    }
    char *literal = malloc(pattern.len + 1);
    if (literal == NULL) {
        return gw_router_no_memory(r);
    }
    leaf->rank.key = gw_writer_str(r->w, sl_str(literal, sl_regex_literal_prefix(pattern, literal)));
    free(literal);
    leaf->record.regex = add_regex(r, pattern, true);
    return SL_OK;
}

static sl_status_t add_leaf(gw_router_t *r, const gw_router_route_t *route, uint32_t cond, sl_str_t path, uint32_t position) {
    gw_router_leaf_t *leaf = &r->fresh[r->n_fresh++];
    *leaf = (gw_router_leaf_t){.rank = make_rank(r, route, path, position), .route = route};
    leaf->record = (gw_img_leaf_t){.route = route->index, .cond = cond, .regex = GW_NONE, .path_len = GW_NONE};
    if (path.len > 0 && path.data[0] == '~') {
        return regex_leaf(r, leaf, sl_str(path.data + 1, path.len - 1));
    }
    leaf->rank.key = gw_writer_str(r->w, path.data ? path : SL_STR(""));
    leaf->record.path_len = path.data ? (uint32_t)path.len : GW_NONE;
    return SL_OK;
}

static sl_status_t add_route(gw_router_t *r, const gw_router_route_t *route) {
    const json_t *paths = json_object_get(route->json, "paths");
    if (kind_bits(route->json) == 0) {
        return sl_err_set(r->err, SL_INVALID, "route '%.*s': none of methods, hosts, headers, paths, snis is set", SL_FMT(route->id));
    }
    uint32_t cond;
    sl_status_t rc = add_cond(r, route, &cond);
    if (rc != SL_OK || json_array_size(paths) == 0) {
        return rc == SL_OK ? add_leaf(r, route, cond, SL_STR_NULL, 0) : rc;
    }
    for (size_t i = 0; rc == SL_OK && i < json_array_size(paths); i++) {
        sl_str_t path = gw_json_str(json_array_get(paths, i));
        if (path.len == 0) {
            return sl_err_set(r->err, SL_INVALID, "route '%.*s': empty path", SL_FMT(route->id));
        }
        rc = add_leaf(r, route, cond, path, (uint32_t)i);
    }
    return rc;
}

static size_t count_leaves(const gw_router_route_t *routes, size_t n) {
    size_t leaves = 0;
    for (size_t i = 0; i < n; i++) {
        size_t paths = json_array_size(json_object_get(routes[i].json, "paths"));
        leaves += paths ? paths : 1;
    }
    return leaves;
}

/* Those of the base that stay; they are in order already. Numbers of routes grow with those of before, so that order stays too. */
static sl_status_t keep_leaves(gw_router_t *r) {
    size_t n = r->base != NULL ? r->base->n[GW_SEC_LEAVES] : 0;
    r->kept = malloc((n + 1) * sizeof(gw_router_leaf_t));
    r->old_at = malloc((n + 1) * sizeof(uint32_t));
    if (r->kept == NULL || r->old_at == NULL) {
        return gw_router_no_memory(r);
    }
    for (size_t i = 0; i < n; i++) {
        gw_router_leaf_t leaf = {.record = GW_IMG(r->base, gw_img_leaf_t, GW_SEC_LEAVES)[i], .was = (uint32_t)i};
        leaf.record.route = r->stay[leaf.record.route];
        r->old_at[i] = GW_NONE;
        if (leaf.record.route != GW_NONE) {
            leaf.rank = GW_IMG(r->base, gw_img_rank_t, GW_SEC_RANKS)[i];
            r->kept[r->n_kept++] = leaf;
        }
    }
    return SL_OK;
}

static void write_leaf(gw_router_t *r, gw_router_leaf_t *leaf) {
    leaf->at = gw_writer_add(r->w, GW_SEC_LEAVES, &leaf->record);
    gw_writer_add(r->w, GW_SEC_RANKS, &leaf->rank);
}

static void write_leaves(gw_router_t *r) {
    size_t k = 0, f = 0;
    while (k < r->n_kept || f < r->n_fresh) {
        if (f == r->n_fresh || (k < r->n_kept && by_rank(&r->kept[k], &r->fresh[f]) <= 0)) {
            write_leaf(r, &r->kept[k]);
            r->old_at[r->kept[k].was] = r->kept[k].at;
            k++;
        } else {
            write_leaf(r, &r->fresh[f++]);
        }
    }
}

sl_status_t gw_router_leaves(gw_router_t *r, const gw_router_route_t *routes, size_t n) {
    r->fresh = malloc((count_leaves(routes, n) + 1) * sizeof(gw_router_leaf_t));
    sl_status_t rc = r->fresh != NULL ? keep_leaves(r) : gw_router_no_memory(r);
    for (size_t i = 0; rc == SL_OK && i < n; i++) {
        rc = add_route(r, &routes[i]);
    }
    if (rc != SL_OK) {
        return rc;
    }
    qsort(r->fresh, r->n_fresh, sizeof(gw_router_leaf_t), by_rank);
    write_leaves(r);
    return gw_writer_failed(r->w) ? gw_router_no_memory(r) : SL_OK;
}
