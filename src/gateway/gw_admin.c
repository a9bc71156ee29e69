/* Entry, routing of fixed paths, methods, and the ways to answer. */
#include "gw_admin.h"

#include <stdio.h>
#include <stdlib.h>

#include "gw_admin_parts.h"

#define JSON_TYPE "application/json; charset=utf-8"
#define ARENA_MAX ((size_t)512 << 20)

/* ---- answers ------------------------------------------------------------------------------------------------------------ */

static int append_json(const char *data, size_t len, void *ud) {
    return sl_buf_append(ud, data, len) == SL_OK ? 0 : -1;
}

void gw_admin_json(gw_admin_t *a, int status, json_t *body) {
    if (body == NULL ||
        json_dump_callback(body, append_json, &a->resp->body, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(16)) != 0) {
        a->failed = true;
    }
    json_decref(body);
    a->resp->status = status;
    a->resp->content_type = JSON_TYPE;
}

void gw_admin_text(gw_admin_t *a, int status, sl_str_t json_text) {
    sl_buf_append_str(&a->resp->body, json_text);
    a->resp->status = status;
    a->resp->content_type = JSON_TYPE;
}

void gw_admin_message(gw_admin_t *a, int status, const char *message) {
    gw_admin_json(a, status, json_pack("{s:o}", "message", gw_text(message)));
}

void gw_admin_error(gw_admin_t *a, json_t *error) {
    gw_admin_json(a, gw_error_status((int)json_integer_value(json_object_get(error, "code"))), error);
}

void gw_admin_empty(gw_admin_t *a, int status) {
    a->resp->status = status;
    a->resp->content_type = NULL;
}

void gw_admin_not_found(gw_admin_t *a) {
    gw_admin_message(a, 404, "Not found");
}

const gw_arg_t *gw_admin_arg(const gw_admin_t *a, const char *name) {
    for (size_t i = 0; i < a->n_args; i++) {
        if (sl_str_eq(a->args[i].name, sl_cstr(name))) {
            return &a->args[i];
        }
    }
    return NULL;
}

bool gw_admin_segment_is(const gw_admin_t *a, size_t i, const char *text) {
    return i < a->n_segments && sl_str_eq(a->segments[i], sl_cstr(text));
}

/* ---- methods ------------------------------------------------------------------------------------------------------------ */

static const char *const method_names[] = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"};

static gw_method_t method_of(sl_str_t name) {
    for (unsigned i = 0; i < sizeof(method_names) / sizeof(method_names[0]); i++) {
        if (sl_str_eq(name, sl_cstr(method_names[i]))) {
            return (gw_method_t)(1u << i);
        }
    }
    return (gw_method_t)0;
}

static void append_methods(sl_buf_t *out, unsigned methods) {
    const char *separator = "";
    for (unsigned i = 0; i < sizeof(method_names) / sizeof(method_names[0]); i++) {
        if (methods & (1u << i)) {
            sl_buf_printf(out, "%s%s", separator, method_names[i]);
            separator = ", ";
        }
    }
}

/* Only what may stand in a header; a client cannot smuggle a line into the answer. */
static bool is_header_list(sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.data[i] < 32 || (unsigned char)s.data[i] > 126) {
            return false;
        }
    }
    return s.len > 0;
}

static void answer_options(gw_admin_t *a, unsigned methods) {
    sl_str_t wanted = a->req->accept_headers;
    sl_buf_t *out = &a->resp->headers;
    sl_buf_append_cstr(out, "Allow: ");
    append_methods(out, methods);
    sl_buf_append_cstr(out, "\nAccess-Control-Allow-Methods: ");
    append_methods(out, methods);
    sl_buf_append_cstr(out, "\nAccess-Control-Allow-Headers: ");
    sl_buf_append_str(out, is_header_list(wanted) ? wanted : SL_STR("Content-Type"));
    sl_buf_append_char(out, '\n');
    gw_admin_empty(a, 204);
}

bool gw_admin_allows(gw_admin_t *a, unsigned methods) {
    if (a->method == GW_OPTIONS) {
        answer_options(a, methods | GW_OPTIONS);
        return false;
    }
    if ((methods & a->method) == 0) {
        gw_admin_message(a, 405, "Method not allowed");
        return false;
    }
    return true;
}

/* ---- fixed paths -------------------------------------------------------------------------------------------------------- */

static void answer_config(gw_admin_t *a) {
    if (!a->env->info.db_less) {
        gw_admin_message(a, 400, "this endpoint is only available when Kong is configured to not use a database");
        return;
    }
    if (a->method == GW_POST) {
        gw_admin_config_post(a);
    } else {
        gw_admin_config_get(a);
    }
}

/* Filters are the only plugins there are. */
static void answer_enabled_plugins(gw_admin_t *a) {
    const gw_validate_env_t *env = &a->env->validate;
    json_t *names = json_array();
    bool listed = env->wasm_enabled && env->filter_at != NULL;
    for (size_t i = 0; listed; i++) {
        sl_str_t name = env->filter_at(env->ud, i);
        listed = name.data != NULL;
        a->failed = a->failed || (name.len > 0 && json_array_append_new(names, json_stringn(name.data, name.len)) != 0);
    }
    gw_admin_json(a, 200, json_pack("{s:o}", "enabled_plugins", names));
}

static void answer_no_vault(gw_admin_t *a) {
    sl_err_t text;
    sl_err_set(&text, SL_INVALID, "No vault named '%.*s'", SL_FMT(a->segments[2]));
    gw_admin_message(a, 404, text.text);
}

static void answer_no_dns(gw_admin_t *a) {
    gw_admin_message(a, 501, "not implemented with the legacy DNS client");
}

static void answer_endpoints(gw_admin_t *a);

typedef struct {
    const char *path; /* '{' starts a segment that matches anything */
    unsigned methods;
    bool wasm; /* needs wasm support */
    void (*answer)(gw_admin_t *a);
    const char *summary; /* for the OpenAPI document */
} endpoint_t;

/* Before the generated paths, in order. */
static const endpoint_t endpoints[] = {
    {"/", GW_GET | GW_HEAD, false, gw_admin_root, "The node: version, settings, processes"},
    {"/cache", GW_DELETE, false, gw_admin_cache, "Kong's entity cache, which this gateway does not have"},
    {"/cache/{key}", GW_DELETE | GW_GET | GW_HEAD, false, gw_admin_cache, "An entry of it"},
    {"/clustering/data-planes", GW_GET | GW_HEAD, false, gw_admin_no_cluster, "Only on a control plane, which this gateway never is"},
    {"/clustering/status", GW_GET | GW_HEAD, false, gw_admin_no_cluster, "Only on a control plane, which this gateway never is"},
    {"/config", GW_GET | GW_HEAD | GW_POST, false, answer_config, "The whole configuration, with database off"},
    {"/debug/cluster/log-level/{level}", GW_PUT, false, gw_admin_log_level, "Sets the log level for a while"},
    {"/debug/node/log-level", GW_GET | GW_HEAD, false, gw_admin_log_level, "The log level"},
    {"/debug/node/log-level/{level}", GW_PUT, false, gw_admin_log_level, "Sets the log level for a while"},
    {"/endpoints", GW_GET | GW_HEAD, false, answer_endpoints, "All paths"},
    {"/filters", GW_GET | GW_HEAD, true, gw_admin_filters, "Installed filters: files and uploads"},
    {"/filters/{filters}", GW_DELETE | GW_GET | GW_HEAD | GW_PATCH | GW_PUT, true, gw_admin_filter,
     "A filter: its inspection, upload of a version, the current version, deletion"},
    {"/filters/{filters}/schema", GW_GET | GW_HEAD | GW_PUT, true, gw_admin_filter_schema, "JSON Schema of its configuration"},
    {"/filters/{filters}/versions", GW_GET | GW_HEAD, true, gw_admin_filter_versions, "Its versions"},
    {"/filters/{filters}/versions/{versions}", GW_DELETE | GW_GET | GW_HEAD, true, gw_admin_filter_version,
     "A version by its name, number or SHA-256"},
    {"/metrics", GW_GET | GW_HEAD, false, gw_admin_not_found, "Metrics as text for Prometheus"},
    {"/openapi.json", GW_GET | GW_HEAD, false, gw_admin_openapi, "This document"},
    {"/openapi.yaml", GW_GET | GW_HEAD, false, gw_admin_openapi, "This document as YAML"},
    {"/plan", GW_GET | GW_HEAD, false, gw_admin_plan,
     "The configuration in service; with method, host, path...: what it does with a request"},
    {"/plugins/enabled", GW_GET | GW_HEAD, false, answer_enabled_plugins, "Names of the plugins that may be used"},
    {"/plugins/schema/{name}", GW_GET | GW_HEAD, false, gw_admin_schema_plugin, "The older path of /schemas/plugins/{name}"},
    {"/routes/{routes}/filters/all", GW_GET | GW_HEAD, true, gw_admin_route_filters, "The filters of a route, in order"},
    {"/routes/{routes}/filters/disabled", GW_GET | GW_HEAD, true, gw_admin_route_filters, "Those that do not run"},
    {"/routes/{routes}/filters/enabled", GW_GET | GW_HEAD, true, gw_admin_route_filters, "Those that run"},
    {"/schemas/filters/{name}", GW_GET | GW_HEAD, false, gw_admin_schema_filter, "JSON Schema of a filter's configuration"},
    {"/schemas/plugins/validate", GW_POST, false, gw_admin_schema_validate, "Validates without storing"},
    {"/schemas/plugins/{name}", GW_GET | GW_HEAD, false, gw_admin_schema_plugin, "Schema of a plugin"},
    {"/schemas/vaults/{name}", GW_GET | GW_HEAD, false, answer_no_vault, "Schema of a vault"},
    {"/schemas/{name}/validate", GW_POST, false, gw_admin_schema_validate, "Validates without storing"},
    {"/schemas/{name}", GW_GET | GW_HEAD, false, gw_admin_schema, "Schema of an entity"},
    {"/shared-data", GW_GET | GW_HEAD, false, gw_admin_not_found, "Keys of the data that filters share"},
    {"/shared-queues", GW_GET | GW_HEAD, false, gw_admin_not_found, "Queues that filters share"},
    {"/status", GW_GET | GW_HEAD, false, gw_admin_status, "Connections, memory, store"},
    {"/status/dns", GW_GET | GW_HEAD, false, answer_no_dns, "Kong's DNS client, which this gateway does not have"},
    {"/status/ready", GW_GET | GW_HEAD, false, gw_admin_ready, "Whether requests are served"},
    {"/tags", GW_GET | GW_HEAD, false, gw_admin_tags, "All tags with the entities that have them"},
    {"/tags/{tags}", GW_GET | GW_HEAD, false, gw_admin_tags, "Entities with a tag"},
    {"/timers", GW_GET | GW_HEAD, false, gw_admin_timers, "Timers of the worker that answers"},
    {"/transactions", GW_POST, false, gw_admin_transactions, "Several writes, all or none"},
    {"/upstreams/{upstreams}/health", GW_GET | GW_HEAD, false, gw_admin_upstream_health, "Health of an upstream's targets"},
    {"/upstreams/{upstreams}/targets/{targets}/healthy", GW_PUT, false, gw_admin_set_health, "Not supported: there are no health checks"},
    {"/upstreams/{upstreams}/targets/{targets}/unhealthy", GW_PUT, false, gw_admin_set_health, "Not supported: there are no health checks"},
    {"/upstreams/{upstreams}/targets/{targets}/{address}/healthy", GW_PUT, false, gw_admin_set_health,
     "Not supported: there are no health checks"},
    {"/upstreams/{upstreams}/targets/{targets}/{address}/unhealthy", GW_PUT, false, gw_admin_set_health,
     "Not supported: there are no health checks"},
};

#define N_ENDPOINTS (sizeof(endpoints) / sizeof(endpoints[0]))

static bool path_matches(const gw_admin_t *a, const char *pattern) {
    size_t i = 0;
    const char *p = pattern;
    while (*p == '/' && p[1] != '\0') {
        const char *start = p + 1, *end = strchr(start, '/');
        size_t len = end != NULL ? (size_t)(end - start) : strlen(start);
        if (i == a->n_segments || (*start != '{' && !sl_str_eq(a->segments[i], sl_str(start, len)))) {
            return false;
        }
        i++;
        p = start + len;
    }
    return i == a->n_segments;
}

bool gw_admin_wasm_ready(gw_admin_t *a) {
    if (!a->env->info.wasm_enabled) {
        gw_admin_message(a, 400, "this endpoint is only available when wasm is enabled");
    }
    return a->env->info.wasm_enabled;
}

/* Collections of other gateways are refused by name. */
static void answer_unknown(gw_admin_t *a) {
    char name[32] = "";
    if (a->n_segments > 0 && a->segments[0].len < sizeof(name)) {
        snprintf(name, sizeof(name), "%.*s", SL_FMT(a->segments[0]));
        for (char *dash = strchr(name, '-'); dash != NULL; dash = strchr(name, '-')) {
            *dash = '_';
        }
    }
    const char *refused = gw_refused_collection(name);
    gw_admin_message(a, 404, refused != NULL ? refused : "Not found");
}

static void dispatch(gw_admin_t *a) {
    for (size_t i = 0; i < N_ENDPOINTS; i++) {
        const endpoint_t *e = &endpoints[i];
        if (path_matches(a, e->path)) {
            if ((!e->wasm || gw_admin_wasm_ready(a)) && gw_admin_allows(a, e->methods)) {
                e->answer(a);
            }
            return;
        }
    }
    if (!gw_admin_entities(a)) {
        answer_unknown(a);
    }
}

/* ---- /endpoints ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    char **paths;
    size_t n, cap;
    bool failed;
} path_list_t;

static void add_path(void *ud, const gw_admin_path_t *path) {
    path_list_t *list = ud;
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        char **paths = realloc(list->paths, cap * sizeof(*paths));
        if (paths == NULL) {
            list->failed = true;
            return;
        }
        list->paths = paths;
        list->cap = cap;
    }
    list->paths[list->n] = strdup(path->path);
    list->failed = list->failed || list->paths[list->n] == NULL;
    list->n += list->paths[list->n] != NULL;
}

/* Segment by segment: a slash sorts before everything else. */
static int compare_paths(const void *a, const void *b) {
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    while (*x == *y && *x != '\0') {
        x++;
        y++;
    }
    int p = *x == '/' ? 1 : (unsigned char)*x, q = *y == '/' ? 1 : (unsigned char)*y;
    return p - q;
}

void gw_admin_paths(void (*each)(void *ud, const gw_admin_path_t *path), void *ud) {
    for (size_t i = 0; i < N_ENDPOINTS; i++) {
        gw_admin_path_t path = {.path = endpoints[i].path, .methods = endpoints[i].methods, .summary = endpoints[i].summary};
        each(ud, &path);
    }
    gw_admin_entity_paths(each, ud);
}

static void answer_endpoints(gw_admin_t *a) {
    path_list_t list = {0};
    gw_admin_paths(add_path, &list);
    if (list.n > 0) {
        qsort(list.paths, list.n, sizeof(*list.paths), compare_paths);
    }
    json_t *data = json_array();
    for (size_t i = 0; i < list.n; i++) {
        list.failed = list.failed || json_array_append_new(data, json_string(list.paths[i])) != 0;
        free(list.paths[i]);
    }
    free(list.paths);
    a->failed = a->failed || list.failed;
    gw_admin_json(a, 200, json_pack("{s:o}", "data", data));
}

/* ---- entry -------------------------------------------------------------------------------------------------------------------- */

/* "/a/b/" and "/a/b" are the same; an empty segment inside is a path that nobody knows. */
static bool split_path(gw_admin_t *a) {
    sl_str_t path = a->req->path;
    while (path.len > 0) {
        path = sl_str(path.data + 1, path.len - 1);
        const char *slash = memchr(path.data, '/', path.len);
        size_t len = slash != NULL ? (size_t)(slash - path.data) : path.len;
        if (len == 0 && slash == NULL) {
            return true;
        }
        sl_str_t segment =
            len > 0 && a->n_segments < GW_ADMIN_MAX_SEGMENTS ? gw_admin_unescape(a, sl_str(path.data, len), false) : SL_STR_NULL;
        if (segment.len == 0 || !sl_utf8_valid(segment, NULL)) {
            return false;
        }
        a->segments[a->n_segments++] = segment;
        path = sl_str(path.data + len, path.len - len);
    }
    return true;
}

static void handle(gw_admin_t *a) {
    bool known_form = a->req->path.len > 0 && a->req->path.data[0] == '/' && split_path(a);
    if (!known_form) {
        gw_admin_not_found(a);
        return;
    }
    if (gw_admin_split_args(a, a->req->query, &a->args, &a->n_args)) {
        dispatch(a);
    }
}

void gw_admin_run(gw_admin_t *a, const gw_admin_request_t *req, const json_t *body, gw_admin_response_t *resp) {
    gw_admin_t sub = {
        .req = req, .env = a->env, .resp = resp, .method = method_of(req->method), .given = body, .data = a->data, .begun = true};
    sl_arena_init(&sub.arena, 4096, ARENA_MAX);
    if (!split_path(&sub) || !gw_admin_entities(&sub)) {
        gw_admin_not_found(&sub);
    }
    json_decref(sub.input);
    sl_arena_deinit(&sub.arena);
    a->wrote = a->wrote || sub.wrote;
    a->untried = a->untried || sub.untried;
    a->storage_failed = a->storage_failed || sub.storage_failed;
    a->failed = a->failed || sub.failed;
}

static void answer_failure(gw_admin_response_t *resp) {
    sl_buf_reset(&resp->body);
    sl_buf_append_cstr(&resp->body, "{\"message\":\"An unexpected error occurred\"}");
    resp->status = 500;
    resp->content_type = JSON_TYPE;
}

gw_admin_next_t gw_admin_handle(const gw_admin_request_t *req, const gw_admin_env_t *env, gw_admin_response_t *resp,
                                gw_admin_replace_t *replace) {
    gw_admin_t a = {.req = req, .env = env, .resp = resp, .replace = replace, .next = GW_ADMIN_DONE, .method = method_of(req->method)};
    gw_plan_data_t plan_data;
    gw_plan_data_init(&plan_data, env->plan);
    a.data = env->data != NULL ? env->data : &plan_data.base;
    sl_arena_init(&a.arena, 4096, ARENA_MAX);
    resp->status = 0;
    resp->content_type = NULL;
    handle(&a);
    gw_admin_end(&a);
    if (a.storage_failed) {
        gw_admin_storage_failure(&a);
    }
    json_decref(a.input);
    sl_arena_deinit(&a.arena);
    if (a.failed || resp->body.failed || resp->headers.failed) {
        if (a.next == GW_ADMIN_REPLACE) {
            json_decref(replace->entities);
            replace->entities = NULL;
        }
        a.next = GW_ADMIN_DONE;
        answer_failure(resp);
    }
    return a.next;
}

void gw_admin_replaced(gw_admin_replace_t *replace, sl_status_t rc, const sl_err_t *err, gw_admin_response_t *resp) {
    gw_admin_t a = {.resp = resp};
    json_t *fields = NULL;
    sl_buf_reset(&resp->body);
    switch (rc) {
    case SL_OK:
        gw_admin_json(&a, 201, json_incref(replace->entities));
        break;
    case SL_INVALID:
        fields = json_pack("{s:o}", "error", gw_text(err->text));
        gw_admin_json(&a, 400, fields != NULL ? gw_config_error(fields, NULL) : NULL);
        json_decref(fields);
        break;
    case SL_AGAIN:
        sl_buf_append_cstr(&resp->headers, "Retry-After: 1\n");
        gw_admin_message(&a, 429, "Currently loading previous configuration");
        break;
    default:
        answer_failure(resp);
        break;
    }
    if (a.failed || resp->body.failed) {
        answer_failure(resp);
    }
}
