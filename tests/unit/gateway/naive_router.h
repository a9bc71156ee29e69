/*
 * The router as a linear scan over a sorted array, written from the rules and straight on the entities' JSON: no tries, no
 * image. What the tests and the fuzz target hold the real one against. Slow, and leaves memory checks to the sanitizers.
 */
#ifndef NAIVE_ROUTER_H
#define NAIVE_ROUTER_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "gw_path.h"
#include "gw_plan.h"
#include "sl_regex.h"

/* One line of the precedence order: a route with some of its paths (traditional: one; otherwise all of one group). */
typedef struct {
    const json_t *route;
    const char *id;
    sl_str_t paths[64];
    size_t n_paths;
    /* traditional */
    int kinds, bits, submatch, n_headers;
    int64_t regex_priority;
    size_t plain_len;
    /* traditional_compatible */
    uint64_t priority;
    int64_t created_at;
    size_t first_path;
} naive_entry_t;

typedef struct {
    naive_entry_t *entries;
    size_t n;
    bool traditional;
} naive_t;

typedef struct {
    const char *id; /* NULL: no route */
    bool has_prefix;
    size_t prefix;
    bool gave_up; /* a regex reached its limit somewhere: not comparable */
} naive_result_t;

static inline sl_str_t naive_text(const json_t *v) {
    return json_is_string(v) ? sl_str(json_string_value(v), json_string_length(v)) : SL_STR_NULL;
}

static inline bool naive_is_regex(sl_str_t path) {
    return path.len > 0 && path.data[0] == '~';
}

static inline bool naive_has(const json_t *route, const char *field) {
    const json_t *v = json_object_get(route, field);
    return json_array_size(v) > 0 || json_object_size(v) > 0;
}

/* "a:80" -> "a", 80. Only what this test's hosts need: digits after a single colon, or after a closing bracket. */
static inline sl_str_t naive_split(sl_str_t host, long *port) {
    *port = 0;
    size_t colons = 0, last = 0;
    for (size_t i = 0; i < host.len; i++) {
        if (host.data[i] == ':') {
            colons++;
            last = i;
        }
    }
    bool bracketed = host.len > 0 && host.data[0] == '[';
    if (colons == 0 || (colons > 1 && !bracketed) || (bracketed && (last == 0 || host.data[last - 1] != ']'))) {
        return host;
    }
    long value = 0;
    for (size_t i = last + 1; i < host.len; i++) {
        if (host.data[i] < '0' || host.data[i] > '9' || value > 65535) {
            return host;
        }
        value = value * 10 + (host.data[i] - '0');
    }
    if (value > 65535) {
        return host;
    }
    *port = value;
    return sl_str(host.data, last);
}

static inline bool naive_wild(sl_str_t s) {
    return s.len > 0 && memchr(s.data, '*', s.len) != NULL;
}

/* '*' at one end stands for at least one byte. */
static inline bool naive_glob(sl_str_t pattern, sl_str_t s) {
    if (pattern.len > 0 && pattern.data[0] == '*') {
        return s.len >= pattern.len && sl_str_ends(s, sl_str(pattern.data + 1, pattern.len - 1));
    }
    if (pattern.len > 0 && pattern.data[pattern.len - 1] == '*') {
        return s.len >= pattern.len && sl_str_starts(s, sl_str(pattern.data, pattern.len - 1));
    }
    return s.len > 0 && sl_str_eq(pattern, s);
}

static inline void naive_weigh(naive_entry_t *e) {
    const json_t *hosts = json_object_get(e->route, "hosts");
    e->bits = (naive_has(e->route, "hosts") ? 0x40 : 0) + (naive_has(e->route, "headers") ? 0x20 : 0) +
              (naive_has(e->route, "paths") ? 0x10 : 0) + (naive_has(e->route, "methods") ? 0x08 : 0) +
              (naive_has(e->route, "snis") ? 0x04 : 0);
    for (int bit = 1; bit < 0x80; bit *= 2) {
        e->kinds += (e->bits & bit) != 0;
    }
    bool plain_hosts = json_array_size(hosts) > 0, wild_port = false;
    for (size_t i = 0; i < json_array_size(hosts); i++) {
        long port;
        sl_str_t host = naive_text(json_array_get(hosts, i));
        naive_split(host, &port);
        plain_hosts = plain_hosts && !naive_wild(host);
        wild_port = wild_port || (naive_wild(host) && port != 0);
    }
    bool regex = e->n_paths > 0 && naive_is_regex(e->paths[0]);
    e->submatch = (wild_port ? 4 : 0) + (plain_hosts ? 2 : 0) + (regex ? 1 : 0);
    e->n_headers = (int)json_object_size(json_object_get(e->route, "headers"));
    e->regex_priority = regex ? json_integer_value(json_object_get(e->route, "regex_priority")) : 0;
    e->plain_len = e->n_paths > 0 && !regex ? e->paths[0].len : 0;
    e->created_at = json_integer_value(json_object_get(e->route, "created_at"));
    e->priority = (uint64_t)e->kinds << 61 | (uint64_t)plain_hosts << 60 | (uint64_t)(e->n_headers > 255 ? 255 : e->n_headers) << 52 |
                  (uint64_t)regex << 51 | (uint64_t)e->regex_priority << 19 | (e->plain_len & 0x7ffff);
}

static inline void naive_add(naive_t *nv, const char *id, const json_t *route, const sl_str_t *paths, size_t n, size_t first) {
    nv->entries = realloc(nv->entries, (nv->n + 1) * sizeof(*nv->entries));
    naive_entry_t *e = &nv->entries[nv->n++];
    *e = (naive_entry_t){.route = route, .id = id, .n_paths = n, .first_path = first};
    if (n > 0) {
        memcpy(e->paths, paths, n * sizeof(*paths));
    }
    naive_weigh(e);
}

static inline void naive_add_route(naive_t *nv, const char *id, const json_t *route) {
    const json_t *all = json_object_get(route, "paths");
    size_t n = json_array_size(all);
    bool taken[64] = {false};
    if (n == 0) {
        naive_add(nv, id, route, NULL, 0, 0);
    }
    for (size_t i = 0; i < n && i < 64; i++) {
        sl_str_t group[64], path = naive_text(json_array_get(all, i));
        size_t size = 0;
        for (size_t k = i; !taken[i] && k < n && k < 64; k++) {
            sl_str_t other = naive_text(json_array_get(all, k));
            bool together = naive_is_regex(path) ? naive_is_regex(other) : !naive_is_regex(other) && other.len == path.len;
            if (k == i || (!nv->traditional && together)) {
                group[size++] = other;
                taken[k] = k != i;
            }
        }
        if (size > 0) {
            naive_add(nv, id, route, group, size, i);
        }
    }
}

static bool naive_flavor; /* for the comparison function */

static inline int naive_less(const void *x, const void *y) {
    const naive_entry_t *a = x, *b = y;
#define LARGER(f)                                                                                                                          \
    if (a->f != b->f) {                                                                                                                    \
        return a->f > b->f ? -1 : 1;                                                                                                       \
    }
    if (naive_flavor) {
        LARGER(kinds)
        LARGER(bits)
        LARGER(submatch)
        LARGER(n_headers)
        LARGER(regex_priority)
        LARGER(plain_len)
    } else {
        LARGER(priority)
    }
#undef LARGER
    if (a->created_at != b->created_at) {
        return a->created_at < b->created_at ? -1 : 1;
    }
    int rc = strcmp(a->id, b->id);
    return rc ? rc : (a->first_path > b->first_path) - (a->first_path < b->first_path);
}

static inline void naive_init(naive_t *nv, const json_t *entities, bool traditional) {
    *nv = (naive_t){.traditional = traditional};
    const char *id;
    json_t *route;
    json_object_foreach(json_object_get((json_t *)entities, "routes"), id, route) {
        sl_str_t sid = naive_text(json_object_get(json_object_get(route, "service"), "id"));
        const json_t *service = sid.data ? json_object_get(json_object_get(entities, "services"), sid.data) : NULL;
        if (service == NULL || !json_is_false(json_object_get(service, "enabled"))) {
            naive_add_route(nv, id, route);
        }
    }
    naive_flavor = traditional;
    if (nv->n > 0) {
        qsort(nv->entries, nv->n, sizeof(*nv->entries), naive_less);
    }
}

static inline void naive_deinit(naive_t *nv) {
    free(nv->entries);
}

/* Compiled once for each pattern of the vocabulary and kept until the process ends. */
static inline sl_regex_t *naive_compiled(sl_str_t pattern, bool anchored) {
    static struct {
        char text[64];
        size_t len;
        bool anchored;
        sl_regex_t *re;
    } kept[128];
    size_t i = 0;
    for (; i < 128 && kept[i].re != NULL; i++) {
        if (kept[i].anchored == anchored && sl_str_eq(sl_str(kept[i].text, kept[i].len), pattern)) {
            return kept[i].re;
        }
    }
    if (i == 128 || pattern.len > sizeof(kept[i].text) || sl_regex_new(pattern, anchored, &kept[i].re, NULL) != SL_OK) {
        abort(); /* the vocabulary has outgrown this table, or is wrong */
    }
    memcpy(kept[i].text, pattern.data, pattern.len);
    kept[i].len = pattern.len;
    kept[i].anchored = anchored;
    return kept[i].re;
}

static inline bool naive_regex(sl_str_t pattern, bool anchored, sl_str_t s, size_t *end, naive_result_t *r) {
    sl_status_t rc = sl_regex_match(naive_compiled(pattern, anchored), s, end);
    r->gave_up |= rc == SL_FAILED;
    return rc == SL_OK;
}

static inline bool naive_methods(const json_t *route, sl_str_t method) {
    const json_t *all = json_object_get(route, "methods");
    for (size_t i = 0; i < json_array_size(all); i++) {
        if (sl_str_eq(naive_text(json_array_get(all, i)), method)) {
            return true;
        }
    }
    return json_array_size(all) == 0;
}

static inline bool naive_hosts(const naive_t *nv, const json_t *route, const gw_match_in_t *in) {
    const json_t *all = json_object_get(route, "hosts");
    long sent;
    sl_str_t name = naive_split(in->host, &sent);
    long otherwise = nv->traditional ? (in->https ? 443 : 80) : (long)in->port;
    for (size_t i = 0; i < json_array_size(all); i++) {
        long port;
        sl_str_t pattern = naive_split(naive_text(json_array_get(all, i)), &port);
        if (naive_glob(pattern, name) && (port == 0 || port == (sent ? sent : otherwise))) {
            return true;
        }
    }
    return json_array_size(all) == 0;
}

static inline bool naive_snis(const naive_t *nv, const json_t *route, const gw_match_in_t *in) {
    const json_t *all = json_object_get(route, "snis");
    for (size_t i = 0; i < json_array_size(all); i++) {
        sl_str_t sni = naive_text(json_array_get(all, i));
        if (nv->traditional ? in->sni.len > 0 && sl_str_eq(sni, in->sni) : naive_glob(sni, in->sni)) {
            return true;
        }
    }
    return json_array_size(all) == 0 || !in->https;
}

static inline bool naive_header_value(const json_t *values, sl_str_t value, naive_result_t *r) {
    char lower[4096];
    size_t n = value.len < sizeof(lower) ? value.len : sizeof(lower), end;
    for (size_t i = 0; i < n; i++) {
        lower[i] = (char)(value.data[i] >= 'A' && value.data[i] <= 'Z' ? value.data[i] + 32 : value.data[i]);
    }
    sl_str_t first = naive_text(json_array_get(values, 0));
    if (json_array_size(values) == 1 && sl_str_starts(first, SL_STR("~*"))) {
        return naive_regex(sl_str(first.data + 2, first.len - 2), false, sl_str(lower, n), &end, r);
    }
    for (size_t i = 0; i < json_array_size(values); i++) {
        if (sl_str_eq_nocase(naive_text(json_array_get(values, i)), sl_str(lower, n))) {
            return true;
        }
    }
    return false;
}

static inline bool naive_headers(const json_t *route, const gw_match_in_t *in, naive_result_t *r) {
    const char *name;
    json_t *values;
    json_object_foreach(json_object_get((json_t *)route, "headers"), name, values) {
        char lower[256];
        snprintf(lower, sizeof(lower), "%s", name);
        for (char *p = lower; *p; p++) {
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
        }
        bool found = false;
        for (size_t i = 0; !found && in->header != NULL; i++) {
            sl_str_t value = in->header(in->ud, sl_cstr(lower), i);
            if (value.data == NULL) {
                break;
            }
            found = naive_header_value(values, value, r);
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

static inline bool naive_paths(const naive_entry_t *e, sl_str_t path, naive_result_t *r) {
    for (size_t i = 0; i < e->n_paths; i++) {
        sl_str_t p = e->paths[i];
        r->has_prefix = true;
        r->prefix = p.len;
        if (naive_is_regex(p) ? naive_regex(sl_str(p.data + 1, p.len - 1), true, path, &r->prefix, r) : sl_str_starts(path, p)) {
            return true;
        }
    }
    r->has_prefix = false;
    return e->n_paths == 0;
}

static inline naive_result_t naive_match(const naive_t *nv, const gw_match_in_t *in) {
    naive_result_t r = {0};
    sl_buf_t path;
    sl_buf_init(&path, 1 << 20);
    gw_path_normalize(gw_path_of_target(in->path), &path);
    for (size_t i = 0; r.id == NULL && i < nv->n; i++) {
        const naive_entry_t *e = &nv->entries[i];
        if (naive_methods(e->route, in->method) && naive_hosts(nv, e->route, in) && naive_snis(nv, e->route, in) &&
            naive_headers(e->route, in, &r) && naive_paths(e, sl_buf_str(&path), &r)) {
            r.id = e->id;
        }
    }
    sl_buf_deinit(&path);
    return r;
}

#endif
