/* The properties kong.*: one row each. Segments may be joined by NUL or by dots. */
#include "ngx_http_sluice_gw_lazy.h"

#define MAX_PATH 256

typedef sl_status_t (*get_fn)(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out);
typedef sl_status_t (*set_fn)(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_str_t value);

static sl_status_t text(pw_value_t *out, sl_str_t s) {
    if (s.data == NULL || s.len == 0) {
        return SL_NOT_FOUND;
    }
    out->kind = PW_VALUE_STRING;
    out->str = s;
    return SL_OK;
}

static ngx_http_sluice_gw_main_conf_t *conf_of(ngx_http_request_t *r) {
    return ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
}

static sl_status_t get_protocol(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)scratch;
    unsigned tls = 0;
#if (NGX_HTTP_SSL)
    tls = r->connection->ssl != NULL;
#endif
    if (ctx->route.protocols & (GW_GRPC | GW_GRPCS)) {
        return text(out, tls ? SL_STR("grpcs") : SL_STR("grpc"));
    }
    return text(out, tls ? SL_STR("https") : SL_STR("http"));
}

static sl_status_t get_subsystem(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)r;
    (void)ctx;
    (void)scratch;
    return text(out, SL_STR("http"));
}

static sl_status_t get_node_id(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)ctx;
    (void)scratch;
    return text(out, sl_cstr(json_string_value(json_object_get(conf_of(r)->settings, "node_id"))));
}

/* As in GET /status, in bytes: no worker runs Lua, the rows exist for those who read them. */
static sl_status_t get_memory_stats(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)r;
    (void)ctx;
    int64_t pids[NGX_HTTP_SLUICE_GW_MAX_WORKERS];
    size_t n = ngx_http_sluice_gw_worker_pids(pids, NGX_HTTP_SLUICE_GW_MAX_WORKERS);
    sl_buf_reset(scratch);
    sl_buf_append_cstr(scratch, "{\"workers_lua_vms\":[");
    for (size_t i = 0; i < n; i++) {
        sl_buf_printf(scratch, "%s{\"pid\":%lld,\"http_allocated_gc\":0}", i == 0 ? "" : ",", (long long)pids[i]);
    }
    sl_buf_append_cstr(scratch, "],\"lua_shared_dicts\":{}}");
    return scratch->failed ? SL_NO_MEMORY : text(out, sl_buf_str(scratch));
}

static sl_status_t get_version(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)ctx;
    (void)scratch;
    return text(out, sl_cstr(json_string_value(json_object_get(conf_of(r)->settings, "version"))));
}

static sl_status_t get_forwarded(ngx_http_request_t *r, const char *variable, pw_value_t *out) {
    ngx_str_t value;
    return ngx_http_sluice_gw_variable(r, variable, &value) == NGX_OK ? text(out, ngx_sluice_to_sl(value)) : SL_NOT_FOUND;
}

static sl_status_t get_forwarded_host(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)ctx;
    (void)scratch;
    return get_forwarded(r, "sluice_forwarded_host", out);
}

static sl_status_t get_forwarded_port(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)ctx;
    (void)scratch;
    return get_forwarded(r, "sluice_forwarded_port", out);
}

static sl_status_t get_forwarded_scheme(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)ctx;
    (void)scratch;
    return get_forwarded(r, "sluice_forwarded_proto", out);
}

static sl_status_t print_number(sl_buf_t *scratch, pw_value_t *out, uint64_t n) {
    sl_buf_reset(scratch);
    return sl_buf_printf(scratch, "%llu", (unsigned long long)n) == SL_OK ? text(out, sl_buf_str(scratch)) : SL_NO_MEMORY;
}

static sl_status_t get_port(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)ctx;
    if (ngx_connection_local_sockaddr(r->connection, NULL, 0) != NGX_OK) {
        return SL_NOT_FOUND;
    }
    return print_number(scratch, out, ngx_inet_get_port(r->connection->local_sockaddr));
}

/* service: the upstream answered; exit: the gateway or a filter did; error: nginx made an error page. */
static sl_status_t get_response_source(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)scratch;
    if (r->err_status != 0) {
        return text(out, SL_STR("error"));
    }
    unsigned from_service = ctx->proxied && r->upstream != NULL && r->upstream->state != NULL && r->upstream->state->status != 0;
    return text(out, from_service ? SL_STR("service") : SL_STR("exit"));
}

static sl_status_t get_entity(ngx_http_sluice_gw_ctx_t *ctx, sl_str_t collection, sl_str_t id, pw_value_t *out) {
    return text(out, gw_plan_entity(ngx_http_sluice_gw_gen_plan(ctx->gen), collection, id));
}

static sl_status_t get_route(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)r;
    (void)scratch;
    return get_entity(ctx, SL_STR("routes"), ctx->route.id, out);
}

static sl_status_t get_service(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)r;
    (void)scratch;
    return ctx->route.has_service ? get_entity(ctx, SL_STR("services"), ctx->service.id, out) : SL_NOT_FOUND;
}

static sl_status_t get_route_id(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)r;
    (void)scratch;
    return text(out, ctx->route.id);
}

static sl_status_t get_route_name(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)r;
    (void)scratch;
    return text(out, ctx->route.name);
}

static sl_status_t get_service_id(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)r;
    (void)scratch;
    return text(out, ctx->service.id);
}

static sl_status_t get_service_name(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)r;
    (void)scratch;
    return text(out, ctx->service.name);
}

static sl_status_t get_service_status(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    (void)ctx;
    if (r->upstream == NULL || r->upstream->state == NULL || r->upstream->state->status == 0) {
        return SL_NOT_FOUND;
    }
    return print_number(scratch, out, r->upstream->state->status);
}

static sl_status_t set_response_status(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_str_t value) {
    (void)ctx;
    ngx_int_t status = value.len == 3 ? ngx_atoi((u_char *)(uintptr_t)value.data, value.len) : NGX_ERROR;
    if (status < 100 || status > 599 || r->header_sent) {
        return SL_INVALID;
    }
    r->headers_out.status = (ngx_uint_t)status;
    r->headers_out.status_line.len = 0;
    return SL_OK;
}

/* The precontent handler resolves again, after the filters. */
static sl_status_t choose(ngx_http_sluice_gw_ctx_t *ctx) {
    ngx_http_sluice_gw_apply_chosen(ctx);
    ctx->resolved = 0;
    ctx->failed = 0;
    return SL_OK;
}

static sl_status_t set_scheme(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_str_t value) {
    (void)r;
    unsigned https = sl_str_eq(value, SL_STR("https"));
    if (ctx->proxied || !(https || sl_str_eq(value, SL_STR("http")))) {
        return SL_INVALID;
    }
    ctx->chosen.protocol = https ? GW_HTTPS : GW_HTTP;
    ngx_http_sluice_gw_apply_chosen(ctx);
    return SL_OK;
}

static sl_status_t choose_host(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_str_t host) {
    u_char *copy = ngx_pnalloc(r->pool, host.len);
    if (copy == NULL) {
        return SL_NO_MEMORY;
    }
    ngx_memcpy(copy, host.data, host.len);
    ctx->chosen.host = sl_str(copy, host.len);
    return choose(ctx);
}

/* "host:port": what the request is sent to, instead of the service's and without balancing. */
static sl_status_t set_target(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_str_t value) {
    const char *colon = value.data != NULL ? memrchr(value.data, ':', value.len) : NULL;
    size_t host_len = colon != NULL ? (size_t)(colon - value.data) : 0;
    ngx_int_t port = colon != NULL ? ngx_atoi((u_char *)(uintptr_t)colon + 1, value.len - host_len - 1) : NGX_ERROR;
    if (ctx->proxied || host_len == 0 || port < 0 || port > 65535) {
        return SL_INVALID;
    }
    ctx->chosen.balance = 0;
    ctx->chosen.port = (uint32_t)port;
    return choose_host(r, ctx, sl_str(value.data, host_len));
}

/* The name of an upstream, whose targets then get the request. */
static sl_status_t set_upstream(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, sl_str_t value) {
    const gw_plan_t *plan = ngx_http_sluice_gw_gen_plan(ctx->gen);
    json_t *json = !ctx->proxied && value.len != 0 ? ngx_http_sluice_gw_upstream_named(plan, value) : NULL;
    if (json == NULL) {
        return SL_INVALID;
    }
    json_decref(json);
    ctx->chosen.balance = 1;
    return choose_host(r, ctx, value);
}

#define NAME(lit) {(lit), sizeof(lit) - 1}

static const struct {
    sl_str_t name;
    get_fn get;
    set_fn set;
} rows[] = {
    {NAME("kong.client.protocol"), get_protocol, NULL},
    {NAME("kong.nginx.subsystem"), get_subsystem, NULL},
    {NAME("kong.node.id"), get_node_id, NULL},
    {NAME("kong.node.memory_stats"), get_memory_stats, NULL},
    {NAME("kong.request.forwarded_host"), get_forwarded_host, NULL},
    {NAME("kong.request.forwarded_port"), get_forwarded_port, NULL},
    {NAME("kong.request.forwarded_scheme"), get_forwarded_scheme, NULL},
    {NAME("kong.request.port"), get_port, NULL},
    {NAME("kong.response.source"), get_response_source, NULL},
    {NAME("kong.response.status"), NULL, set_response_status},
    {NAME("kong.router.route"), get_route, NULL},
    {NAME("kong.router.service"), get_service, NULL},
    {NAME("kong.route_id"), get_route_id, NULL},
    {NAME("kong.route_name"), get_route_name, NULL},
    {NAME("kong.service_id"), get_service_id, NULL},
    {NAME("kong.service_name"), get_service_name, NULL},
    {NAME("kong.service.request.scheme"), NULL, set_scheme},
    {NAME("kong.service.response.status"), get_service_status, NULL},
    {NAME("kong.service.target"), NULL, set_target},
    {NAME("kong.service.upstream"), NULL, set_upstream},
    {NAME("kong.version"), get_version, NULL},
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

#define CONFIGURATION "kong.configuration."
#define SHARED "kong.ctx.shared."

/* The path with dots; {NULL,0}: not one of ours. */
static sl_str_t dotted(sl_str_t path, char buf[MAX_PATH]) {
    if (path.len <= 5 || path.len >= MAX_PATH || memcmp(path.data, "kong", 4) != 0) {
        return SL_STR_NULL;
    }
    for (size_t i = 0; i < path.len; i++) {
        buf[i] = path.data[i] == '\0' ? '.' : path.data[i];
    }
    return buf[4] == '.' ? sl_str(buf, path.len) : SL_STR_NULL;
}

static size_t find(sl_str_t name) {
    size_t i = 0;
    while (i < N_ROWS && !sl_str_eq(rows[i].name, name)) {
        i++;
    }
    return i;
}

static sl_status_t get_configuration(ngx_http_request_t *r, sl_str_t key, sl_buf_t *scratch, pw_value_t *out) {
    char name[MAX_PATH];
    memcpy(name, key.data, key.len);
    name[key.len] = '\0';
    json_t *value = json_object_get(json_object_get(conf_of(r)->settings, "configuration"), name);
    if (value == NULL || json_is_null(value)) {
        return SL_NOT_FOUND;
    }
    if (json_is_string(value)) {
        return text(out, sl_cstr(json_string_value(value)));
    }
    char *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    sl_buf_reset(scratch);
    sl_status_t rc = dump != NULL ? sl_buf_append_cstr(scratch, dump) : SL_NO_MEMORY;
    free(dump);
    return rc == SL_OK ? text(out, sl_buf_str(scratch)) : rc;
}

sl_status_t ngx_http_sluice_gw_property_get(ngx_http_request_t *r, void *data, sl_str_t path, sl_buf_t *scratch, pw_value_t *out) {
    char buf[MAX_PATH];
    sl_str_t name = dotted(path, buf);
    if (name.data == NULL) {
        return SL_NOT_FOUND;
    }
    size_t i = find(name);
    if (i < N_ROWS) {
        return rows[i].get != NULL ? rows[i].get(r, data, scratch, out) : SL_NOT_FOUND;
    }
    if (sl_str_starts(name, SL_STR(CONFIGURATION))) {
        return get_configuration(r, sl_str(name.data + sizeof(CONFIGURATION) - 1, name.len - (sizeof(CONFIGURATION) - 1)), scratch, out);
    }
    return SL_NOT_FOUND;
}

/* SL_NOT_FOUND lets the host keep the value with the request: kong.ctx.shared.*, and whatever is not kong.*. */
sl_status_t ngx_http_sluice_gw_property_set(ngx_http_request_t *r, void *data, sl_str_t path, sl_str_t value) {
    char buf[MAX_PATH];
    sl_str_t name = dotted(path, buf);
    if (name.data == NULL || sl_str_starts(name, SL_STR(SHARED))) {
        return SL_NOT_FOUND;
    }
    size_t i = find(name);
    return i < N_ROWS && rows[i].set != NULL ? rows[i].set(r, data, value) : SL_INVALID;
}
