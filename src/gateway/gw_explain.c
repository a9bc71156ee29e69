#include "gw_explain.h"

#include <stdio.h>
#include <stdlib.h>

#include "gw_path.h"
#include "sl_regex.h"
#include "gw_router.h"
#include "gw_schema.h"

#define SCRATCH_MAX ((size_t)1 << 22)
#define WEIGHTS 7

typedef struct {
    const gw_plan_t *plan;
    const gw_sample_t *sample;
    bool traditional, https, failed;
    sl_str_t path; /* normalised */
    sl_str_t host; /* without port */
    uint32_t port; /* that hosts with a port are compared with */
} explain_t;

/* What orders the routes that match, most important first. */
typedef struct {
    int64_t v[WEIGHTS];
} weight_t;

typedef struct {
    json_t *matched, *failed; /* attribute -> what of it matched, or all that it asks for */
    weight_t weight;          /* with the path that matched */
} verdict_t;

/* ---- samples ------------------------------------------------------------------------------------------------------------- */

static bool take_scheme(gw_sample_t *sample, sl_str_t *url) {
    static const struct {
        const char *prefix;
        gw_protocol_t protocol;
    } schemes[] = {{"http://", GW_HTTP}, {"https://", GW_HTTPS}, {"grpc://", GW_GRPC}, {"grpcs://", GW_GRPCS}};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        sl_str_t prefix = sl_cstr(schemes[i].prefix);
        if (sl_str_starts(*url, prefix)) {
            sample->protocol = schemes[i].protocol;
            *url = sl_str(url->data + prefix.len, url->len - prefix.len);
            return true;
        }
    }
    return false;
}

sl_status_t gw_sample_url(gw_sample_t *sample, sl_str_t url, sl_err_t *err) {
    if (url.len > 0 && url.data[0] == '/') {
        sample->path = url;
        return SL_OK;
    }
    if (!take_scheme(sample, &url)) {
        return sl_err_set(err, SL_INVALID, "expected a URL as http://host/path (or https, grpc, grpcs), or a path");
    }
    size_t n = 0;
    while (n < url.len && url.data[n] != '/' && url.data[n] != '?') {
        n++;
    }
    uint32_t port;
    sample->host = sl_str(url.data, n);
    sl_str_t name = gw_router_host_split(sample->host, &port);
    bool tls = (sample->protocol & (GW_HTTPS | GW_GRPCS)) != 0;
    sample->port = port != 0 ? port : tls ? 443 : 80;
    sample->sni = tls ? name : SL_STR_NULL;
    sample->path = n < url.len && url.data[n] == '/' ? sl_str(url.data + n, url.len - n) : SL_STR("/");
    return n > 0 ? SL_OK : sl_err_set(err, SL_INVALID, "the URL has no host");
}

static sl_str_t sample_header(void *ud, sl_str_t name, size_t i) {
    const gw_sample_t *s = ud;
    for (size_t k = 0; k < s->n_headers; k++) {
        if (sl_str_eq_nocase(s->headers[k].name, name) && i-- == 0) {
            return s->headers[k].value.data != NULL ? s->headers[k].value : SL_STR("");
        }
    }
    return SL_STR_NULL;
}

/* ---- one attribute ------------------------------------------------------------------------------------------------------- */

static sl_str_t text_of(const json_t *value) {
    return json_is_string(value) ? sl_str(json_string_value(value), json_string_length(value)) : SL_STR_NULL;
}

/* '*' at one end stands for one byte at least. */
static bool fits(sl_str_t pattern, sl_str_t s) {
    if (pattern.len > 0 && pattern.data[0] == '*') {
        return s.len >= pattern.len && sl_str_ends(s, sl_str(pattern.data + 1, pattern.len - 1));
    }
    if (pattern.len > 0 && pattern.data[pattern.len - 1] == '*') {
        return s.len >= pattern.len && sl_str_starts(s, sl_str(pattern.data, pattern.len - 1));
    }
    return s.len > 0 && sl_str_eq(pattern, s);
}

static bool regex_fits(explain_t *x, sl_str_t pattern, bool anchored, sl_str_t subject) {
    sl_regex_t *re = NULL;
    size_t end;
    sl_status_t rc = sl_regex_new(pattern, anchored, &re, NULL);
    x->failed = x->failed || rc == SL_NO_MEMORY;
    bool found = rc == SL_OK && sl_regex_match(re, subject, &end) == SL_OK;
    sl_regex_free(re);
    return found;
}

static const json_t *find_method(explain_t *x, const json_t *list) {
    size_t i;
    const json_t *method;
    json_array_foreach(list, i, method) {
        if (sl_str_eq(text_of(method), x->sample->method)) {
            return method;
        }
    }
    return NULL;
}

static const json_t *find_host(explain_t *x, const json_t *list) {
    size_t i;
    const json_t *host;
    json_array_foreach(list, i, host) {
        uint32_t port;
        sl_str_t pattern = gw_router_host_split(text_of(host), &port);
        if (fits(pattern, x->host) && (port == 0 || port == x->port)) {
            return host;
        }
    }
    return NULL;
}

static const json_t *find_sni(explain_t *x, const json_t *list) {
    size_t i;
    const json_t *sni;
    json_array_foreach(list, i, sni) {
        bool same = x->traditional ? sl_str_eq(text_of(sni), x->sample->sni) : fits(text_of(sni), x->sample->sni);
        if (!x->https || same) {
            return sni; /* without TLS there is nothing to compare */
        }
    }
    return NULL;
}

static bool is_regex(sl_str_t path) {
    return path.len > 0 && path.data[0] == '~';
}

/* The path that counts most of those that match: a regex before a plain one, a long one before a short one. */
static const json_t *find_path(explain_t *x, const json_t *list) {
    size_t i;
    const json_t *one, *best = NULL;
    json_array_foreach(list, i, one) {
        sl_str_t path = text_of(one), other = text_of(best);
        bool regex = is_regex(path);
        bool found = regex ? regex_fits(x, sl_str(path.data + 1, path.len - 1), true, x->path) : sl_str_starts(x->path, path);
        bool better = best == NULL || (regex && !is_regex(other)) || (regex == is_regex(other) && !regex && path.len > other.len);
        best = found && better ? one : best;
    }
    return best;
}

static bool header_value_fits(explain_t *x, const json_t *values, sl_str_t value) {
    size_t i;
    const json_t *one;
    sl_str_t first = text_of(json_array_get(values, 0));
    if (json_array_size(values) == 1 && sl_str_starts(first, SL_STR("~*"))) {
        char *lower = strndup(value.data, value.len);
        x->failed = x->failed || lower == NULL;
        for (char *p = lower; p != NULL && *p != '\0'; p++) {
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p | 0x20 : *p);
        }
        bool found = lower != NULL && regex_fits(x, sl_str(first.data + 2, first.len - 2), false, sl_cstr(lower));
        free(lower);
        return found;
    }
    json_array_foreach(values, i, one) {
        if (sl_str_eq_nocase(text_of(one), value)) {
            return true;
        }
    }
    return false;
}

/* All of the headers must be there; answers the first that is not. */
static const char *missing_header(explain_t *x, json_t *headers) {
    const char *name;
    json_t *values;
    json_object_foreach(headers, name, values) {
        bool found = false;
        for (size_t i = 0; !found; i++) {
            sl_str_t value = sample_header((void *)(uintptr_t)x->sample, sl_cstr(name), i);
            if (value.data == NULL) {
                return name;
            }
            found = header_value_fits(x, values, value);
        }
    }
    return NULL;
}

/* ---- one route ------------------------------------------------------------------------------------------------------------- */

static void note(explain_t *x, json_t *object, const char *name, const json_t *value) {
    if (json_object_set(object, name, (json_t *)(uintptr_t)value) != 0) {
        x->failed = true;
    }
}

static void judge_list(explain_t *x, const json_t *route, const char *name, const json_t *(*find)(explain_t *x, const json_t *list),
                       verdict_t *v) {
    const json_t *list = json_object_get(route, name);
    if (json_array_size(list) > 0) {
        const json_t *found = find(x, list);
        note(x, found != NULL ? v->matched : v->failed, name, found != NULL ? found : list);
    }
}

static bool all_plain(const json_t *hosts) {
    size_t i;
    const json_t *host;
    json_array_foreach(hosts, i, host) {
        if (memchr(json_string_value(host), '*', json_string_length(host)) != NULL) {
            return false;
        }
    }
    return json_array_size(hosts) > 0;
}

static bool has_wild_port(const json_t *hosts) {
    size_t i;
    const json_t *host;
    json_array_foreach(hosts, i, host) {
        uint32_t port;
        (void)gw_router_host_split(text_of(host), &port);
        if (port != 0 && memchr(json_string_value(host), '*', json_string_length(host)) != NULL) {
            return true;
        }
    }
    return false;
}

static weight_t weigh(const explain_t *x, const json_t *route, sl_str_t path) {
    static const char *const kinds[] = {"hosts", "headers", "paths", "methods", "snis"};
    const json_t *hosts = json_object_get(route, "hosts");
    int64_t n = 0, bits = 0, headers = (int64_t)json_object_size(json_object_get(route, "headers")), plain = all_plain(hosts);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (!gw_is_empty(json_object_get(route, kinds[i]))) {
            n++;
            bits += 0x40 >> i;
        }
    }
    int64_t regex = is_regex(path), priority = regex ? json_integer_value(json_object_get(route, "regex_priority")) : 0;
    int64_t length = regex ? 0 : (int64_t)path.len, age = -json_integer_value(json_object_get(route, "created_at"));
    if (x->traditional) {
        return (weight_t){{n, bits, has_wild_port(hosts) * 4 + plain * 2 + regex, headers, priority, length, age}};
    }
    return (weight_t){{n, plain, headers < 255 ? headers : 255, regex, priority, length, age}};
}

static verdict_t judge(explain_t *x, const json_t *route) {
    verdict_t v = {.matched = json_object(), .failed = json_object()};
    judge_list(x, route, "methods", find_method, &v);
    judge_list(x, route, "hosts", find_host, &v);
    judge_list(x, route, "paths", find_path, &v);
    judge_list(x, route, "snis", find_sni, &v);
    json_t *headers = json_object_get(route, "headers");
    if (json_object_size(headers) > 0) {
        const char *missing = missing_header(x, headers);
        json_t *what = missing != NULL ? json_pack("{s:O}", missing, json_object_get(headers, missing)) : json_incref(headers);
        note(x, missing != NULL ? v.failed : v.matched, "headers", what);
        json_decref(what);
    }
    v.weight = weigh(x, route, text_of(json_object_get(v.matched, "paths")));
    return v;
}

static void verdict_free(verdict_t *v) {
    json_decref(v->matched);
    json_decref(v->failed);
}

/* What the winner has more of, in words. */
static json_t *why_lost(const explain_t *x, const weight_t *loser, const weight_t *winner) {
    static const char *const texts[2][WEIGHTS] = {
        {"kinds of attributes", "hosts without wildcards", "headers", "regex path", "regex_priority", "length of the path", NULL},
        {"kinds of attributes", "weight of these kinds", "kind of host and path", "headers", "regex_priority", "length of the path", NULL},
    };
    char text[128];
    for (size_t i = 0; i < WEIGHTS; i++) {
        if (loser->v[i] == winner->v[i]) {
            continue;
        }
        const char *what = texts[x->traditional][i];
        if (what == NULL) {
            return json_string("it was created later");
        }
        snprintf(text, sizeof(text), "%s: %lld against %lld", what, (long long)loser->v[i], (long long)winner->v[i]);
        return json_string(text);
    }
    return json_string("its id comes later");
}

/* ---- all routes ---------------------------------------------------------------------------------------------------------------- */

typedef struct {
    json_t *lost, *close;
    size_t n_lost, n_close;
} others_t;

static json_t *name_of(const json_t *entity) {
    return json_pack("{s:O?,s:O?}", "id", json_object_get(entity, "id"), "name", json_object_get(entity, "name"));
}

static bool is_off(const explain_t *x, const json_t *route) {
    const char *id = json_string_value(json_object_get(json_object_get(route, "service"), "id"));
    sl_str_t text = id != NULL ? gw_plan_entity(x->plan, SL_STR("services"), sl_cstr(id)) : SL_STR_NULL;
    json_t *service = text.len > 0 ? json_loadb(text.data, text.len, 0, NULL) : NULL;
    bool off = json_is_false(json_object_get(service, "enabled"));
    json_decref(service);
    return off;
}

static void keep(explain_t *x, json_t *list, size_t *n, json_t *row) {
    if ((*n)++ >= GW_EXPLAIN_LIST) {
        json_decref(row);
    } else if (json_array_append_new(list, row) != 0) {
        x->failed = true;
    }
}

/* A route that did not win: it matched and lost, or one attribute was missing. */
static void consider(explain_t *x, const json_t *route, const weight_t *winner, others_t *others) {
    verdict_t v = judge(x, route);
    size_t missing = json_object_size(v.failed);
    bool off = missing == 0 && is_off(x, route);
    if (off || (missing == 1 && json_object_size(v.matched) > 0)) {
        json_t *why = off ? json_string("its service is disabled") : json_null();
        keep(x, others->close, &others->n_close,
             json_pack("{s:o,s:b,s:O,s:O,s:o}", "route", name_of(route), "matches", 0, "matched", v.matched, "failed", v.failed, "reason",
                       why));
    } else if (missing == 0) {
        json_t *why = winner != NULL ? why_lost(x, &v.weight, winner) : json_string("a regex reached its limit of work");
        keep(x, others->lost, &others->n_lost,
             json_pack("{s:o,s:b,s:O,s:o}", "route", name_of(route), "matches", 1, "matched", v.matched, "reason", why));
    }
    verdict_free(&v);
}

static void consider_all(explain_t *x, const char *winner_id, const weight_t *winner, others_t *others) {
    size_t n = gw_plan_entity_count(x->plan, SL_STR("routes"));
    for (size_t i = 0; i < n; i++) {
        sl_str_t text = gw_plan_entity_at(x->plan, SL_STR("routes"), i);
        json_t *route = json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL);
        const char *id = json_string_value(json_object_get(route, "id"));
        x->failed = x->failed || route == NULL;
        if (id != NULL && (winner_id == NULL || strcmp(id, winner_id) != 0)) {
            consider(x, route, winner, others);
        }
        json_decref(route);
    }
}

/* ---- what happens to the request ------------------------------------------------------------------------------------------------ */

static const char *protocol_name(gw_protocol_t protocol) {
    static const char *const names[] = {"http", "https", "grpc", "grpcs", "tcp", "tls", "udp", "tls_passthrough"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (protocol == 1u << i) {
            return names[i];
        }
    }
    return "unknown";
}

/* The gateway's own answer; null: the request goes to the upstream. */
static json_t *own_answer(const explain_t *x, const gw_route_t *route) {
    bool grpc_route = (route->protocols & (GW_GRPC | GW_GRPCS)) != 0, grpc = (x->sample->protocol & (GW_GRPC | GW_GRPCS)) != 0;
    if (grpc_route && !grpc) {
        return json_pack("{s:i,s:s}", "status", 415, "message", "Non-gRPC request matched gRPC route");
    }
    if (!grpc_route && !(route->protocols & GW_HTTP) && (route->protocols & GW_HTTPS) && !x->https) {
        return json_pack("{s:i,s:s}", "status", (int)route->https_redirect_status, "message", "Please use HTTPS protocol");
    }
    if (!route->has_service) {
        return json_pack("{s:i,s:s}", "status", 503, "message", "no Service found with those values");
    }
    return json_null();
}

static json_t *upstream_of(explain_t *x, const gw_route_t *route, const gw_match_t *m) {
    gw_service_t service;
    char host[300];
    if (!route->has_service) {
        return json_null();
    }
    gw_plan_service(x->plan, route->service, &service);
    bool tls = (service.protocol & (GW_HTTPS | GW_GRPCS | GW_TLS)) != 0;
    bool standard = service.port == (tls ? 443 : 80);
    snprintf(host, sizeof(host), standard ? "%.*s" : "%.*s:%u", SL_FMT(service.host), service.port);
    const char *q = memchr(x->sample->path.data, '?', x->sample->path.len);
    sl_str_t query = q != NULL ? sl_str(q, (size_t)(x->sample->path.data + x->sample->path.len - q)) : SL_STR_NULL;
    sl_buf_t url;
    sl_buf_init(&url, SCRATCH_MAX);
    sl_buf_printf(&url, "%s://%s", protocol_name(service.protocol), host);
    sl_buf_append_str(&url, m->upstream_path);
    sl_buf_append_str(&url, query);
    sl_str_t sent = route->preserve_host && x->sample->host.len > 0 ? x->sample->host : sl_cstr(host);
    json_t *out = json_pack("{s:o,s:s%,s:s%}", "url", url.failed ? NULL : json_stringn(url.data, url.len), "host_header", sent.data,
                            sent.len, "stripped", route->strip_path && m->matched_prefix.data != NULL ? m->matched_prefix.data : "",
                            route->strip_path ? m->matched_prefix.len : (size_t)0);
    sl_buf_deinit(&url);
    return out;
}

static json_t *text_or_null(sl_str_t s) {
    return s.data != NULL ? json_stringn(s.data, s.len) : json_null();
}

static json_t *filters_of(explain_t *x, const gw_route_t *route) {
    json_t *list = json_array();
    size_t n = route->chain >= 0 ? gw_plan_chain(x->plan, (uint32_t)route->chain) : 0;
    for (size_t i = 0; i < n; i++) {
        gw_filter_t f;
        gw_plan_chain_filter(x->plan, (uint32_t)route->chain, i, &f);
        sl_str_t config = f.config.data != NULL && sl_utf8_valid(f.config, NULL) ? f.config : SL_STR_NULL;
        json_t *row =
            json_pack("{s:s%,s:s,s:{s:o,s:o},s:o}", "name", f.name.data, f.name.len, "from", f.from_service ? "service" : "route",
                      "filter_chain", "id", text_or_null(f.chain_id), "name", text_or_null(f.chain_name), "config", text_or_null(config));
        x->failed = json_array_append_new(list, row) != 0 || x->failed;
    }
    return list;
}

/* ---- everything ----------------------------------------------------------------------------------------------------------------- */

static json_t *request_of(explain_t *x) {
    const gw_sample_t *s = x->sample;
    json_t *headers = json_array();
    for (size_t i = 0; i < s->n_headers; i++) {
        const gw_sample_header_t *h = &s->headers[i];
        x->failed = json_array_append_new(headers, json_pack("[s%,s%]", h->name.data, h->name.len,
                                                             h->value.data != NULL ? h->value.data : "", h->value.len)) != 0 ||
                    x->failed;
    }
    return json_pack("{s:s%,s:s,s:o,s:i,s:s%,s:s%,s:o,s:o}", "method", s->method.data, s->method.len, "protocol",
                     protocol_name(s->protocol), "host", text_or_null(s->host), "port", (int)s->port, "path", s->path.data, s->path.len,
                     "normalized_path", x->path.data, x->path.len, "sni", text_or_null(s->sni), "headers", headers);
}

static void put(explain_t *x, json_t *object, const char *name, json_t *value) {
    if (json_object_set_new(object, name, value) != 0) {
        x->failed = true;
    }
}

/* The route that matched, with what of it did. */
static void put_winner(explain_t *x, json_t *out, const gw_match_t *m, char id[37], weight_t *weight) {
    gw_route_t route;
    gw_plan_route(x->plan, m->route, &route);
    sl_str_t text = gw_plan_entity(x->plan, SL_STR("routes"), route.id);
    json_t *entity = json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL);
    verdict_t v = judge(x, entity);
    json_t *row = name_of(entity);
    snprintf(id, 37, "%.*s", SL_FMT(route.id));
    *weight = v.weight;
    put(x, row, "matched", json_incref(v.matched));
    put(x, out, "route", row);
    gw_service_t service = {.id = SL_STR_NULL};
    if (route.has_service) {
        gw_plan_service(x->plan, route.service, &service);
    }
    put(x, out, "service",
        route.has_service ? json_pack("{s:o,s:o}", "id", text_or_null(service.id), "name", text_or_null(service.name)) : json_null());
    json_t *answer = own_answer(x, &route);
    put(x, out, "upstream", upstream_of(x, &route, m));
    put(x, out, "filters", json_is_null(answer) ? filters_of(x, &route) : json_array()); /* filters come after the gateway's own answer */
    put(x, out, "answer", answer);
    verdict_free(&v);
    json_decref(entity);
}

static void put_no_winner(explain_t *x, json_t *out, sl_status_t rc) {
    static const char *const empty[] = {"route", "service", "upstream"};
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        put(x, out, empty[i], json_null());
    }
    put(x, out, "answer",
        rc == SL_NOT_FOUND
            ? json_pack("{s:i,s:s}", "status", 404, "message", "no Route matched with those values")
            : json_pack("{s:i,s:s}", "status", 500, "message", "a regex of the route that decides reached its limit of work"));
    put(x, out, "filters", json_array());
}

static sl_status_t explain_with(explain_t *x, const gw_plan_t *view, sl_buf_t *scratch, json_t *out) {
    char id[37] = "";
    weight_t weight;
    gw_match_t m;
    others_t others = {.lost = json_array(), .close = json_array()};
    gw_match_in_t in = {
        .method = x->sample->method,
        .host = x->sample->host,
        .port = x->sample->port,
        .path = x->sample->path,
        .https = x->https,
        .sni = x->sample->sni,
        .header = sample_header,
        .ud = (void *)(uintptr_t)x->sample,
    };
    sl_status_t rc = gw_plan_match(view, &in, scratch, &m);
    if (rc == SL_OK) {
        put_winner(x, out, &m, id, &weight);
    } else {
        put_no_winner(x, out, rc);
    }
    consider_all(x, rc == SL_OK ? id : NULL, rc == SL_OK ? &weight : NULL, &others);
    x->failed = json_array_extend(others.lost, others.close) != 0 || x->failed || rc == SL_NO_MEMORY;
    put(x, out, "candidates", others.lost);
    json_decref(others.close);
    put(x, out, "candidates_total", json_integer((json_int_t)(others.n_lost + others.n_close)));
    return x->failed ? SL_NO_MEMORY : SL_OK;
}

static sl_status_t check_sample(const gw_sample_t *s, sl_err_t *err) {
    if (s->method.len == 0 || s->path.len == 0 || s->path.data[0] != '/') {
        return sl_err_set(err, SL_INVALID, "a request has a method, and a path that begins with /");
    }
    const sl_str_t texts[] = {s->method, s->host, s->path, s->sni};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].len > 0 && (!sl_utf8_valid(texts[i], NULL) || memchr(texts[i].data, '\0', texts[i].len) != NULL)) {
            return sl_err_set(err, SL_INVALID, "method, host, path and sni must be UTF-8");
        }
    }
    return SL_OK;
}

sl_status_t gw_explain(const gw_plan_t *plan, const gw_sample_t *sample, json_t **out, sl_err_t *err) {
    sl_status_t rc = check_sample(sample, err);
    if (rc != SL_OK) {
        return rc;
    }
    explain_t x = {.plan = plan, .sample = sample, .traditional = gw_plan_traditional(plan)};
    uint32_t port;
    sl_buf_t path, scratch;
    sl_buf_init(&path, SCRATCH_MAX);
    sl_buf_init(&scratch, SCRATCH_MAX);
    x.https = (sample->protocol & (GW_HTTPS | GW_GRPCS)) != 0;
    x.host = gw_router_host_split(sample->host, &port);
    x.port = port != 0 ? port : x.traditional ? (x.https ? 443 : 80) : sample->port;
    gw_plan_t *view = gw_plan_view(plan);
    bool ready = view != NULL && gw_path_normalize(gw_path_of_target(sample->path), &path) == SL_OK;
    x.path = sl_buf_str(&path);
    *out = ready ? json_pack("{s:I,s:o}", "generation", (json_int_t)gw_plan_generation(plan), "request", request_of(&x)) : NULL;
    rc = *out != NULL ? explain_with(&x, view, &scratch, *out) : SL_NO_MEMORY;
    if (rc != SL_OK) {
        json_decref(*out);
        *out = NULL;
        sl_err_set(err, rc, "out of memory");
    }
    gw_plan_close(view);
    sl_buf_deinit(&path);
    sl_buf_deinit(&scratch);
    return rc;
}
