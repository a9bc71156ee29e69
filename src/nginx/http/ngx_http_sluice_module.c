/* The directives of http{}, server{} and location{}, and where the adapter hooks into nginx. */
#include "ngx_http_sluice_int.h"

static void *create_loc_conf(ngx_conf_t *cf);
static char *merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);
static ngx_int_t postconfiguration(ngx_conf_t *cf);
static void exit_process(ngx_cycle_t *cycle);
static char *set_proxy_wasm(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_wasm_call(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_resolver_add(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

#define LEVELS (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF)
#define SLOT(name, args, set, field)                                                                                                       \
    {ngx_string(name), LEVELS | (args), set, NGX_HTTP_LOC_CONF_OFFSET, offsetof(ngx_http_sluice_loc_conf_t, field), NULL}
#define OWN(name, args, set) {ngx_string(name), LEVELS | (args), set, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL}

static ngx_command_t commands[] = {
    OWN("proxy_wasm", NGX_CONF_1MORE, set_proxy_wasm),
    SLOT("proxy_wasm_request_headers_in_access", NGX_CONF_FLAG, ngx_conf_set_flag_slot, request_headers_in_access),
    SLOT("proxy_wasm_lua_resolver", NGX_CONF_FLAG, ngx_conf_set_flag_slot, lua_resolver),
    SLOT("proxy_wasm_log_dispatch_errors", NGX_CONF_FLAG, ngx_conf_set_flag_slot, log_dispatch_errors),
    OWN("wasm_call", NGX_CONF_TAKE3, set_wasm_call),
    SLOT("wasm_postpone_rewrite", NGX_CONF_FLAG, ngx_conf_set_flag_slot, postpone_rewrite),
    SLOT("wasm_postpone_access", NGX_CONF_FLAG, ngx_conf_set_flag_slot, postpone_access),
    SLOT("wasm_response_body_buffers", NGX_CONF_TAKE2, ngx_conf_set_bufs_slot, response_body_buffers),
    SLOT("wasm_socket_connect_timeout", NGX_CONF_TAKE1, ngx_conf_set_msec_slot, socket_connect_timeout),
    SLOT("wasm_socket_send_timeout", NGX_CONF_TAKE1, ngx_conf_set_msec_slot, socket_send_timeout),
    SLOT("wasm_socket_read_timeout", NGX_CONF_TAKE1, ngx_conf_set_msec_slot, socket_read_timeout),
    SLOT("wasm_socket_buffer_size", NGX_CONF_TAKE1, ngx_conf_set_size_slot, socket_buffer_size),
    SLOT("wasm_socket_buffer_reuse", NGX_CONF_FLAG, ngx_conf_set_flag_slot, socket_buffer_reuse),
    SLOT("wasm_socket_large_buffers", NGX_CONF_TAKE2, ngx_conf_set_bufs_slot, socket_large_buffers),
    OWN("resolver_add", NGX_CONF_TAKE2, set_resolver_add),
    {ngx_string("sluice_metrics"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, ngx_http_sluice_metrics, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL},
#define SL_FILTER_OPT(id, field, name, kind, def, values, min, max)                                                                        \
    SLOT("proxy_wasm_" name, NGX_SLUICE_OPT_ARGS(kind), ngx_sluice_set_opt, settings.opts),
#include "sl_filter_opts.def"
#undef SL_FILTER_OPT
    NGX_SLUICE_SETTINGS_COMMANDS(LEVELS, NGX_HTTP_LOC_CONF_OFFSET, offsetof(ngx_http_sluice_loc_conf_t, settings)),
    ngx_null_command,
};

static ngx_http_module_t module_ctx = {NULL, postconfiguration, NULL, NULL, NULL, NULL, create_loc_conf, merge_loc_conf};

ngx_module_t ngx_http_sluice_module = {NGX_MODULE_V1, &module_ctx, commands, NGX_HTTP_MODULE, NULL, NULL,
                                       NULL,          NULL,        NULL,     exit_process,    NULL, NGX_MODULE_V1_PADDING};

/* ---- configuration --------------------------------------------------------------------------------------------------------------- */

static void *create_loc_conf(ngx_conf_t *cf) {
    ngx_http_sluice_loc_conf_t *conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_sluice_loc_conf_t));

    if (conf == NULL) {
        return NULL;
    }
    ngx_sluice_settings_init(&conf->settings);
    conf->request_headers_in_access = NGX_CONF_UNSET;
    conf->lua_resolver = NGX_CONF_UNSET;
    conf->log_dispatch_errors = NGX_CONF_UNSET;
    conf->postpone_rewrite = NGX_CONF_UNSET;
    conf->postpone_access = NGX_CONF_UNSET;
    conf->socket_connect_timeout = NGX_CONF_UNSET_MSEC;
    conf->socket_send_timeout = NGX_CONF_UNSET_MSEC;
    conf->socket_read_timeout = NGX_CONF_UNSET_MSEC;
    conf->socket_buffer_size = NGX_CONF_UNSET_SIZE;
    conf->socket_buffer_reuse = NGX_CONF_UNSET;
    return conf;
}

/* Values of wasm{} reach locations that set none themselves; the block may still come, so they stay unset until init_conf. */
static void merge_calls(ngx_http_sluice_loc_conf_t *conf, const ngx_http_sluice_loc_conf_t *prev) {
    ngx_conf_merge_value(conf->lua_resolver, prev->lua_resolver, NGX_CONF_UNSET);
    ngx_conf_merge_value(conf->log_dispatch_errors, prev->log_dispatch_errors, NGX_CONF_UNSET);
    ngx_conf_merge_msec_value(conf->socket_connect_timeout, prev->socket_connect_timeout, NGX_CONF_UNSET_MSEC);
    ngx_conf_merge_msec_value(conf->socket_send_timeout, prev->socket_send_timeout, NGX_CONF_UNSET_MSEC);
    ngx_conf_merge_msec_value(conf->socket_read_timeout, prev->socket_read_timeout, NGX_CONF_UNSET_MSEC);
    ngx_conf_merge_size_value(conf->socket_buffer_size, prev->socket_buffer_size, NGX_CONF_UNSET_SIZE);
    ngx_conf_merge_value(conf->socket_buffer_reuse, prev->socket_buffer_reuse, NGX_CONF_UNSET);
    ngx_conf_merge_bufs_value(conf->socket_large_buffers, prev->socket_large_buffers, 0, 0);
}

static void merge_settings(ngx_sluice_settings_t *s, const ngx_sluice_settings_t *prev) {
    sl_filter_opts_inherit(&s->opts, &prev->opts);
    ngx_conf_merge_value(s->reverse_response, prev->reverse_response, NGX_CONF_UNSET);
    ngx_conf_merge_size_value(s->request_body_limit, prev->request_body_limit, NGX_CONF_UNSET_SIZE);
    ngx_conf_merge_size_value(s->response_body_limit, prev->response_body_limit, NGX_CONF_UNSET_SIZE);
    ngx_conf_merge_value(s->pass_over_limit, prev->pass_over_limit, NGX_CONF_UNSET);
}

/* WasmX's N buffers of S bytes say how much of a response a pausing filter collects; what does not fit is passed on. */
static void limit_from_buffers(ngx_http_sluice_loc_conf_t *conf) {
    if (conf->response_body_buffers.num == 0) {
        return;
    }
    if (conf->settings.response_body_limit == NGX_CONF_UNSET_SIZE) {
        conf->settings.response_body_limit = conf->response_body_buffers.num * conf->response_body_buffers.size;
        ngx_conf_init_value(conf->settings.pass_over_limit, 1);
    }
}

static char *merge_loc_conf(ngx_conf_t *cf, void *parent, void *child) {
    ngx_http_sluice_loc_conf_t *prev = parent, *conf = child;
    ngx_sluice_conf_t *scf = ngx_sluice_conf(cf->cycle);

    if (conf->filters == NULL) {
        conf->filters = prev->filters;
    }
    merge_settings(&conf->settings, &prev->settings);
    ngx_conf_merge_value(conf->request_headers_in_access, prev->request_headers_in_access, 0);
    ngx_conf_merge_value(conf->postpone_rewrite, prev->postpone_rewrite, 0);
    ngx_conf_merge_value(conf->postpone_access, prev->postpone_access, 0);
    ngx_conf_merge_bufs_value(conf->response_body_buffers, prev->response_body_buffers, 0, 0);
    merge_calls(conf, prev);
    if (conf->filters == NULL) {
        return NGX_CONF_OK;
    }
    limit_from_buffers(conf);
    scf->in_access |= conf->request_headers_in_access;
    conf->chain = ngx_sluice_chain_get(scf, conf->filters, &conf->settings);
    return conf->chain == NULL ? NGX_CONF_ERROR : NGX_CONF_OK;
}

static ngx_int_t add_handler(ngx_http_core_main_conf_t *cmcf, ngx_uint_t phase, ngx_http_handler_pt handler) {
    ngx_http_handler_pt *h = ngx_array_push(&cmcf->phases[phase].handlers);

    if (h == NULL) {
        return NGX_ERROR;
    }
    *h = handler;
    return NGX_OK;
}

/* Subrequests have a log phase only with log_subrequest on; their filters log with the main request at the latest. */
static ngx_int_t log_handler(ngx_http_request_t *r) {
    for (ngx_http_sluice_ctx_t *ctx = ngx_http_sluice_ctx_all(r); ctx != NULL; ctx = ctx->next) {
        if ((ctx->request != r && r != r->main) || ctx->logged) {
            continue;
        }
        ctx->logged = 1;
        if (ctx->hooks != NULL && ctx->hooks->log != NULL) {
            ctx->hooks->log(ctx->request, ctx->data);
        }
        if (ctx->stream.pw != NULL) {
            pw_stream_log(ctx->stream.pw);
            ngx_sluice_stream_close(&ctx->stream); /* now, while headers and pool are still there */
        }
    }
    return NGX_OK;
}

/* Handlers of phases only where some location needs them: each costs every request. */
static ngx_int_t postconfiguration(ngx_conf_t *cf) {
    const ngx_sluice_conf_t *scf = ngx_sluice_conf(cf->cycle);
    ngx_http_core_main_conf_t *cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    ngx_http_sluice_ops_init();
    ngx_http_sluice_response_init();
    if (ngx_http_sluice_request_body_init() != NGX_OK) {
        return NGX_ERROR;
    }
    if (scf->first_use != NULL && add_handler(cmcf, NGX_HTTP_REWRITE_PHASE, ngx_http_sluice_rewrite_handler) != NGX_OK) {
        return NGX_ERROR;
    }
    if (scf->in_access && add_handler(cmcf, NGX_HTTP_ACCESS_PHASE, ngx_http_sluice_access_handler) != NGX_OK) {
        return NGX_ERROR;
    }
    return add_handler(cmcf, NGX_HTTP_LOG_PHASE, log_handler);
}

/* Runs after the core module's, which has ended all filters and their calls. */
static void exit_process(ngx_cycle_t *cycle) {
    ngx_http_sluice_ctx_free_spare();
    ngx_http_sluice_grpc_stop();
    ngx_http_sluice_redis_stop();
    ngx_http_sluice_pool_stop();
    ngx_http_sluice_call_tls_free();
}

/* ---- directives --------------------------------------------------------------------------------------------------------------------- */

/* WasmX' words first. A quote inside of a word does not hold what follows: what stands there is what is shown. */
static char *no_option(ngx_conf_t *cf, const ngx_str_t *word) {
    static const char form[] =
        "has an invalid number of arguments: \"%V\" is no option (several words are written \"grants=log metrics\")%Z";
    size_t size = sizeof(form) + word->len;
    u_char *text = ngx_pnalloc(cf->pool, size);

    if (text == NULL) {
        return NGX_CONF_ERROR;
    }
    ngx_snprintf(text, size, form, word);
    return (char *)text;
}

/* What follows the configuration; WasmX has at most that. */
static char *line_options(ngx_conf_t *cf, sl_filter_opts_t *opts) {
    ngx_str_t *value = cf->args->elts;

    sl_filter_opts_init(opts);
    for (ngx_uint_t i = 3; i < cf->args->nelts; i++) {
        ngx_int_t rc = ngx_sluice_opt_pair(cf, opts, &value[i]);
        if (rc != NGX_OK) {
            return rc == NGX_DECLINED ? no_option(cf, &value[i]) : NGX_CONF_ERROR;
        }
    }
    return NGX_CONF_OK;
}

static char *set_proxy_wasm(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_http_sluice_loc_conf_t *slcf = conf;
    ngx_sluice_conf_t *scf = ngx_sluice_conf(cf->cycle);
    ngx_str_t *value = cf->args->elts;
    ngx_sluice_filter_t *filter;

    if (value[1].len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid module name \"\"");
        return NGX_CONF_ERROR;
    }
    if (slcf->filters == NULL) {
        slcf->filters = ngx_array_create(cf->pool, 2, sizeof(ngx_sluice_filter_t));
    }
    filter = slcf->filters == NULL ? NULL : ngx_array_push(slcf->filters);
    if (filter == NULL) {
        return NGX_CONF_ERROR;
    }
    ngx_memzero(filter, sizeof(ngx_sluice_filter_t));
    filter->name = value[1];
    if (cf->args->nelts > 2) {
        filter->config = value[2];
    }
    filter->file = cf->conf_file->file.name.data;
    filter->line = cf->conf_file->line;
    if (scf->first_use == NULL) {
        scf->first_use = filter;
    }
    return line_options(cf, &filter->opts);
}

/* WasmX's own interface for modules that are not Proxy-Wasm filters: not offered, and said so. */
static char *set_wasm_call(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"wasm_call\" is not supported: write the module as a Proxy-Wasm filter and use \"proxy_wasm\"");
    return NGX_CONF_ERROR;
}

/* A name that never expires in nginx's resolver. */
static ngx_int_t resolver_put(ngx_conf_t *cf, ngx_resolver_t *resolver, in_addr_t addr, const ngx_str_t *host) {
    ngx_resolver_node_t *rn = ngx_calloc(sizeof(ngx_resolver_node_t), cf->log);

    if (rn == NULL) {
        return NGX_ERROR;
    }
    rn->name = ngx_alloc(host->len + 1, cf->log);
    if (rn->name == NULL) {
        ngx_free(rn);
        return NGX_ERROR;
    }
    ngx_strlow(rn->name, host->data, host->len);
    rn->name[host->len] = '\0';
    rn->nlen = (u_short)host->len;
    rn->node.key = ngx_crc32_short(rn->name, rn->nlen);
    rn->naddrs = 1;
    rn->u.addr = addr;
    rn->ttl = NGX_MAX_UINT32_VALUE;
    rn->valid = NGX_MAX_INT_T_VALUE;
    rn->expire = NGX_MAX_INT_T_VALUE;
    ngx_queue_insert_head(&resolver->name_expire_queue, &rn->queue);
    ngx_rbtree_insert(&resolver->name_rbtree, &rn->node);
    return NGX_OK;
}

static char *set_resolver_add(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = ngx_sluice_conf(cf->cycle);
    ngx_http_core_loc_conf_t *clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    ngx_str_t *value = cf->args->elts;
    in_addr_t addr = ngx_inet_addr(value[1].data, value[1].len);

    if (addr == INADDR_NONE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid address value \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }
    if (value[2].len == 0 || value[2].len > 255) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid host value \"%V\"", &value[2]);
        return NGX_CONF_ERROR;
    }
    if (clcf->resolver == NULL && scf->resolver == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "no resolver defined and no default resolver");
        return NGX_CONF_ERROR;
    }
    if ((clcf->resolver != NULL && resolver_put(cf, clcf->resolver, addr, &value[2]) != NGX_OK) ||
        (scf->resolver != NULL && scf->resolver != clcf->resolver && resolver_put(cf, scf->resolver, addr, &value[2]) != NGX_OK)) {
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}
