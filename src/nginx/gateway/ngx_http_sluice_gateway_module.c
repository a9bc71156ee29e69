/* Directives of the generated nginx.conf: sluice_gateway, sluice_proxy, sluice_error, sluice_admin, sluice_status, sluice_balancer. */
#include "ngx_http_sluice_gw.h"

#include "ngx_http_sluice.h"
#include "ngx_http_sluice_gw_observe.h"
#include "ngx_sluice.h"
#include "sl_file.h"

static void *create_main_conf(ngx_conf_t *cf);
static void *create_loc_conf(ngx_conf_t *cf);
static char *merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);
static ngx_int_t postconfiguration(ngx_conf_t *cf);
static ngx_int_t init_module(ngx_cycle_t *cycle);
static ngx_int_t init_process(ngx_cycle_t *cycle);
static void exit_process(ngx_cycle_t *cycle);
static char *set_gateway(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_proxy(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_admin(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_error(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

static ngx_command_t commands[] = {
    {ngx_string("sluice_gateway"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, set_gateway, NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL},
    {ngx_string("sluice_proxy"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, set_proxy, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL},
    {ngx_string("sluice_admin"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, set_admin, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL},
    {ngx_string("sluice_status"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, set_status, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL},
    {ngx_string("sluice_error"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, set_error, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL},
    {ngx_string("sluice_balancer"), NGX_HTTP_UPS_CONF | NGX_CONF_NOARGS, ngx_http_sluice_gw_balancer, 0, 0, NULL},
    ngx_null_command,
};

static ngx_http_module_t module_ctx = {
    .preconfiguration = ngx_http_sluice_gw_add_variables,
    .postconfiguration = postconfiguration,
    .create_main_conf = create_main_conf,
    .create_loc_conf = create_loc_conf,
    .merge_loc_conf = merge_loc_conf,
};

ngx_module_t ngx_http_sluice_gateway_module = {
    NGX_MODULE_V1, &module_ctx, commands, NGX_HTTP_MODULE, NULL, init_module, NULL, NULL, NULL, NULL, NULL, NGX_MODULE_V1_PADDING,
};

/*
 * The worker's life, as a module of its own that stands before ngx_sluice_module in the list: filters must be given back before the
 * worker object goes, and exit_process runs in list order.
 */
static ngx_core_module_t life_ctx = {ngx_string("sluice_gateway_life"), NULL, NULL};

ngx_module_t ngx_http_sluice_gateway_life_module = {
    NGX_MODULE_V1, &life_ctx, NULL, NGX_CORE_MODULE, NULL, NULL, init_process, NULL, NULL, exit_process, NULL, NGX_MODULE_V1_PADDING,
};

static void *create_main_conf(ngx_conf_t *cf) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_pcalloc(cf->pool, sizeof(*mcf));
#if (NGX_HTTP_SSL)
    if (mcf == NULL || ngx_array_init(&mcf->ssl_servers, cf->pool, 2, sizeof(ngx_ssl_t *)) != NGX_OK) {
        return NULL;
    }
#endif
    return mcf;
}

static void *create_loc_conf(ngx_conf_t *cf) {
    ngx_http_sluice_gw_loc_conf_t *lcf = ngx_pcalloc(cf->pool, sizeof(*lcf));
    if (lcf != NULL) {
        lcf->proxy = NGX_CONF_UNSET;
        lcf->admin = NGX_CONF_UNSET;
        lcf->status = NGX_CONF_UNSET;
    }
    return lcf;
}

static char *merge_loc_conf(ngx_conf_t *cf, void *parent, void *child) {
    ngx_http_sluice_gw_loc_conf_t *lcf = child;
    (void)cf;
    (void)parent;
    ngx_conf_init_value(lcf->proxy, 0);
    ngx_conf_init_value(lcf->admin, 0);
    ngx_conf_init_value(lcf->status, 0);
    return NGX_CONF_OK;
}

/* ---- settings ---------------------------------------------------------------------------------------------------------- */

static ngx_str_t dup_text(ngx_conf_t *cf, const char *a, const char *b) {
    ngx_str_t s;
    s.len = ngx_strlen(a) + ngx_strlen(b);
    s.data = ngx_pnalloc(cf->pool, s.len + 1);
    if (s.data == NULL) {
        s.len = 0;
        return s;
    }
    ngx_sprintf(s.data, "%s%s%Z", a, b);
    return s;
}

/* The `headers` and `headers_upstream` settings: a comma list of tokens, or off. */
static char *take_tokens(ngx_conf_t *cf, ngx_uint_t *bits, const char *setting, const char *text) {
    static const struct {
        const char *name;
        ngx_uint_t bits;
    } tokens[] = {
        {"off", 0},
        {"server_tokens", NGX_HTTP_SLUICE_GW_SERVER_TOKENS | NGX_HTTP_SLUICE_GW_VIA},
        {"server", NGX_HTTP_SLUICE_GW_SERVER_TOKENS},
        {"via", NGX_HTTP_SLUICE_GW_VIA},
        {"latency_tokens", NGX_HTTP_SLUICE_GW_PROXY_LATENCY | NGX_HTTP_SLUICE_GW_UPSTREAM_LATENCY | NGX_HTTP_SLUICE_GW_RESPONSE_LATENCY |
                               NGX_HTTP_SLUICE_GW_ADMIN_LATENCY},
        {"x-kong-proxy-latency", NGX_HTTP_SLUICE_GW_PROXY_LATENCY},
        {"x-kong-upstream-latency", NGX_HTTP_SLUICE_GW_UPSTREAM_LATENCY},
        {"x-kong-response-latency", NGX_HTTP_SLUICE_GW_RESPONSE_LATENCY},
        {"x-kong-admin-latency", NGX_HTTP_SLUICE_GW_ADMIN_LATENCY},
        {"x-kong-upstream-status", NGX_HTTP_SLUICE_GW_UPSTREAM_STATUS},
        {"x-kong-request-id", NGX_HTTP_SLUICE_GW_REQUEST_ID},
    };
    for (const char *p = text; *p != '\0';) {
        p += strspn(p, ", \t");
        size_t len = strcspn(p, ", \t");
        if (len == 0) {
            break;
        }
        size_t i = 0;
        while (i < sizeof(tokens) / sizeof(tokens[0]) &&
               (ngx_strlen(tokens[i].name) != len || ngx_strncasecmp((u_char *)tokens[i].name, (u_char *)p, len) != 0)) {
            i++;
        }
        if (i == sizeof(tokens) / sizeof(tokens[0])) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s: invalid entry '%*s'", setting, len, p);
            return NGX_CONF_ERROR;
        }
        *bits |= tokens[i].bits;
        p += len;
    }
    return NGX_CONF_OK;
}

/* port_maps, as pairs of the port that is listened on and the one that clients see. */
static char *take_port_maps(ngx_conf_t *cf, ngx_http_sluice_gw_main_conf_t *mcf, const json_t *pairs) {
    size_t i;
    const json_t *pair;
    if (ngx_array_init(&mcf->port_maps, cf->pool, 4, sizeof(ngx_http_sluice_gw_port_map_t)) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    json_array_foreach(pairs, i, pair) {
        ngx_http_sluice_gw_port_map_t *map = ngx_array_push(&mcf->port_maps);
        if (map == NULL) {
            return NGX_CONF_ERROR;
        }
        map->listening = (ngx_uint_t)json_integer_value(json_array_get(pair, 0));
        map->shown = (ngx_uint_t)json_integer_value(json_array_get(pair, 1));
    }
    return NGX_CONF_OK;
}

static char *take_trusted(ngx_conf_t *cf, ngx_http_sluice_gw_main_conf_t *mcf, const char *text) {
    if (text == NULL) {
        return NGX_CONF_OK;
    }
    mcf->trusted = ngx_array_create(cf->pool, 4, sizeof(ngx_cidr_t));
    if (mcf->trusted == NULL) {
        return NGX_CONF_ERROR;
    }
    for (const char *p = text; *p != '\0';) {
        p += strspn(p, ", \t");
        ngx_str_t one = {strcspn(p, ", \t"), (u_char *)(uintptr_t)p};
        if (one.len == 0) {
            break;
        }
        ngx_cidr_t *cidr = ngx_array_push(mcf->trusted);
        if (cidr == NULL) {
            return NGX_CONF_ERROR;
        }
        if (ngx_ptocidr(&one, cidr) == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "trusted_ips: '%V' is no address and no network", &one);
            return NGX_CONF_ERROR;
        }
        p += one.len;
    }
    return NGX_CONF_OK;
}

static const char *text_of(json_t *o, const char *name) {
    return json_string_value(json_object_get(o, name));
}

#define TEMPLATE_MAX ((size_t)64 * 1024)

static char *take_template(ngx_conf_t *cf, const char *path, ngx_str_t *out) {
    sl_err_t err;
    sl_buf_t text;
    sl_buf_init(&text, TEMPLATE_MAX);
    sl_status_t rc = sl_file_read(path, &text, &err);
    out->len = text.len;
    out->data = rc == SL_OK ? ngx_pnalloc(cf->pool, text.len + 1) : NULL;
    if (out->data != NULL) {
        ngx_memcpy(out->data, text.data, text.len);
    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "error template: %s", rc != SL_OK ? err.text : "out of memory");
    }
    sl_buf_deinit(&text);
    return out->data != NULL ? NGX_CONF_OK : NGX_CONF_ERROR;
}

static char *take_templates(ngx_conf_t *cf, ngx_http_sluice_gw_main_conf_t *mcf, json_t *configuration) {
    static const char *const names[] = {"error_template_json", "error_template_plain", "error_template_html", "error_template_xml"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *path = text_of(configuration, names[i]);
        if (path != NULL && take_template(cf, path, &mcf->error_templates[i]) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }
    return NGX_CONF_OK;
}

static void free_settings(void *data) {
    json_decref(data);
}

static json_t *read_settings(ngx_conf_t *cf, ngx_str_t *path) {
    json_error_t je;
    json_t *o = json_load_file((char *)path->data, 0, &je);
    if (!json_is_object(o) || text_of(o, "prefix") == NULL || text_of(o, "node_id") == NULL || text_of(o, "version") == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" is not a gateway's settings file (%s); it is written by `sluice start`", path,
                           o == NULL ? je.text : "members are missing");
        json_decref(o);
        return NULL;
    }
    ngx_pool_cleanup_t *cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        json_decref(o);
        return NULL;
    }
    cln->handler = free_settings;
    cln->data = o;
    return o;
}

static char *set_gateway(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_http_sluice_gw_main_conf_t *mcf = conf;
    ngx_str_t *value = cf->args->elts;
    (void)cmd;
    if (mcf->settings != NULL) {
        return "is duplicate";
    }
    mcf->path = value[1];
    if (ngx_conf_full_name(cf->cycle, &mcf->path, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    json_t *o = read_settings(cf, &mcf->path);
    if (o == NULL) {
        return NGX_CONF_ERROR;
    }
    mcf->settings = o;
    ngx_sluice_conf(cf->cycle)->gateway = 1;
    const char *version = text_of(o, "version");
    snprintf(mcf->prefix, sizeof(mcf->prefix), "%s", text_of(o, "prefix"));
    snprintf(mcf->plan_path, sizeof(mcf->plan_path), "%s/state/plan", mcf->prefix);
    snprintf(mcf->cache_path, sizeof(mcf->cache_path), "%s/state/cache", mcf->prefix);
    snprintf(mcf->modules_path, sizeof(mcf->modules_path), "%s/state/modules", mcf->prefix);
    snprintf(mcf->image_path, sizeof(mcf->image_path), "%s/state/images", mcf->prefix);
    ngx_sluice_conf(cf->cycle)->image_dir = mcf->image_path;
    mcf->filters_path = (char *)(uintptr_t)text_of(o, "filters_path");
    mcf->store_path = text_of(o, "store");
    const char *choose = text_of(o, "wasm_filters");
    mcf->filters_choose = dup_text(cf, choose != NULL ? choose : "", "");
    mcf->time_filters = json_is_true(json_object_get(o, "time_filters"));
    mcf->debug_header = json_is_true(json_object_get(o, "allow_debug_header"));
    mcf->wasm = json_is_true(json_object_get(o, "wasm"));
    const char *flavor = text_of(o, "router_flavor");
    mcf->traditional = flavor != NULL && ngx_strcmp(flavor, "traditional") == 0;
    mcf->via_1 = dup_text(cf, "1.1 sluice/", version);
    mcf->via_2 = dup_text(cf, "2 sluice/", version);
    mcf->server = dup_text(cf, "sluice/", version);
    const char *type = text_of(o, "error_default_type");
    mcf->error_default_type = type != NULL ? type : "text/plain";
    const char *headers = text_of(o, "headers"), *upstream = text_of(o, "headers_upstream");
    if (take_tokens(cf, &mcf->tokens, "headers", headers != NULL ? headers : "off") != NGX_CONF_OK ||
        take_tokens(cf, &mcf->upstream_tokens, "headers_upstream", upstream != NULL ? upstream : "off") != NGX_CONF_OK ||
        take_port_maps(cf, mcf, json_object_get(o, "port_maps")) != NGX_CONF_OK ||
        take_trusted(cf, mcf, text_of(o, "trusted_ips")) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }
    json_t *configuration = json_object_get(o, "configuration");
    const char *trusted = text_of(configuration, "lua_ssl_trusted_certificate");
    mcf->trusted_certificates = trusted != NULL ? trusted : "system";
    mcf->verify_depth = (ngx_uint_t)json_integer_value(json_object_get(configuration, "lua_ssl_verify_depth"));
    if (take_templates(cf, mcf, configuration) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }
    const char *hosts = text_of(configuration, "dns_hostsfile");
    if (ngx_http_sluice_gw_read_hosts(cf, mcf, hosts != NULL ? hosts : "/etc/hosts") != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }
    if (ngx_http_sluice_gw_observe_zone_add(cf, text_of(o, "metrics_memory")) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    return ngx_http_sluice_gw_zone_add(cf, mcf) == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}

static char *set_proxy(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_http_sluice_gw_loc_conf_t *lcf = conf;
    (void)cmd;
    lcf->proxy = 1;
#if (NGX_HTTP_SSL)
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_sluice_gateway_module);
    ngx_http_ssl_srv_conf_t *sscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_ssl_module);
    ngx_ssl_t **server = ngx_array_push(&mcf->ssl_servers);
    if (server == NULL) {
        return NGX_CONF_ERROR;
    }
    *server = &sscf->ssl;
#endif
    return NGX_CONF_OK;
}

static char *set_content_handler(ngx_conf_t *cf, ngx_http_handler_pt handler) {
    ngx_http_core_loc_conf_t *clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = handler;
    return NGX_CONF_OK;
}

static char *set_admin(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_http_sluice_gw_loc_conf_t *lcf = conf;
    (void)cmd;
    lcf->admin = 1;
    return set_content_handler(cf, ngx_http_sluice_gw_admin_handler);
}

/* The Admin API's handler, which shows little there. */
static char *set_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_http_sluice_gw_loc_conf_t *lcf = conf;
    (void)cmd;
    lcf->status = 1;
    return set_content_handler(cf, ngx_http_sluice_gw_admin_handler);
}

static char *set_error(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    (void)cmd;
    (void)conf;
    return set_content_handler(cf, ngx_http_sluice_gw_error_handler);
}

/* ---- hooks ------------------------------------------------------------------------------------------------------------------ */

static ngx_int_t add_handler(ngx_conf_t *cf, ngx_uint_t phase, ngx_http_handler_pt handler) {
    ngx_http_core_main_conf_t *cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    ngx_http_handler_pt *h = ngx_array_push(&cmcf->phases[phase].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }
    *h = handler;
    return NGX_OK;
}

static ngx_int_t postconfiguration(ngx_conf_t *cf) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_sluice_gateway_module);
    if (mcf->settings == NULL) {
        return NGX_OK;
    }
    if (add_handler(cf, NGX_HTTP_REWRITE_PHASE, ngx_http_sluice_gw_rewrite_handler) != NGX_OK ||
        add_handler(cf, NGX_HTTP_ACCESS_PHASE, ngx_http_sluice_gw_access_handler) != NGX_OK ||
        add_handler(cf, NGX_HTTP_PRECONTENT_PHASE, ngx_http_sluice_gw_precontent_handler) != NGX_OK ||
        add_handler(cf, NGX_HTTP_LOG_PHASE, ngx_http_sluice_gw_observe_handler) != NGX_OK) {
        return NGX_ERROR;
    }
#if (NGX_HTTP_SSL)
    ngx_ssl_t **servers = mcf->ssl_servers.elts;
    for (ngx_uint_t i = 0; i < mcf->ssl_servers.nelts; i++) {
        ngx_http_sluice_gw_cert_init(servers[i]);
    }
#endif
    return ngx_http_sluice_gw_header_filter_init();
}

static ngx_http_sluice_gw_main_conf_t *main_conf(ngx_cycle_t *cycle) {
    if (ngx_get_conf(cycle->conf_ctx, ngx_http_module) == NULL) {
        return NULL; /* no http{} */
    }
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_sluice_gateway_module);
    return mcf != NULL && mcf->settings != NULL ? mcf : NULL;
}

static ngx_int_t init_module(ngx_cycle_t *cycle) {
    ngx_http_sluice_gw_main_conf_t *mcf = main_conf(cycle);
    return mcf != NULL ? ngx_http_sluice_gw_init_module(cycle, mcf) : NGX_OK;
}

static ngx_int_t init_process(ngx_cycle_t *cycle) {
    ngx_http_sluice_gw_main_conf_t *mcf = main_conf(cycle);
    if (mcf == NULL || (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)) {
        return NGX_OK;
    }
    ngx_http_sluice_gw_observe_init_worker(cycle);
    ngx_http_sluice_call_name = ngx_http_sluice_gw_call_name;
    return ngx_http_sluice_gw_init_worker(cycle, mcf);
}

static void exit_process(ngx_cycle_t *cycle) {
    ngx_http_sluice_gw_exit_worker(cycle);
    ngx_http_sluice_gw_observe_exit_worker();
}
