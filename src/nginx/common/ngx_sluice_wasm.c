/*
 * The directives inside wasm{}: those of WasmX, with its names, defaults and messages, and ours. What has no effect on our engines
 * (flags of a runtime, compilers) is accepted with a warning, so that a configuration written for WasmX loads.
 */
#include "ngx_sluice_wasm.h"

static char *set_module(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_compiler(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_resolver(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_worker_memory_limit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_shm_kv(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_shm_queue(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_cache_dir(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *metrics_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_slab_size(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_max_metric_name_length(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *runtime_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *wasmtime_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_flag(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *set_cache_config(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

#define SLOT(name, args, set, field) {ngx_string(name), NGX_SLUICE_WASM_CONF | (args), set, 0, offsetof(ngx_sluice_conf_t, field), NULL}
#define OWN(name, args, set) {ngx_string(name), NGX_SLUICE_WASM_CONF | (args), set, 0, 0, NULL}

static ngx_command_t commands[] = {
    OWN("module", NGX_CONF_TAKE23, set_module),
    OWN("compiler", NGX_CONF_TAKE1, set_compiler),
    SLOT("backtraces", NGX_CONF_FLAG, ngx_conf_set_flag_slot, backtraces),
    OWN("shm_kv", NGX_CONF_TAKE23 | NGX_CONF_TAKE4, set_shm_kv),
    OWN("shm_queue", NGX_CONF_TAKE23 | NGX_CONF_TAKE4, set_shm_queue),
    OWN("resolver", NGX_CONF_1MORE, set_resolver),
    SLOT("resolver_timeout", NGX_CONF_TAKE1, ngx_conf_set_msec_slot, resolver_timeout),
    SLOT("socket_connect_timeout", NGX_CONF_TAKE1, ngx_conf_set_msec_slot, socket_connect_timeout),
    SLOT("socket_send_timeout", NGX_CONF_TAKE1, ngx_conf_set_msec_slot, socket_send_timeout),
    SLOT("socket_read_timeout", NGX_CONF_TAKE1, ngx_conf_set_msec_slot, socket_read_timeout),
    SLOT("socket_buffer_size", NGX_CONF_TAKE1, ngx_conf_set_size_slot, socket_buffer_size),
    SLOT("socket_buffer_reuse", NGX_CONF_FLAG, ngx_conf_set_flag_slot, socket_buffer_reuse),
    SLOT("socket_large_buffers", NGX_CONF_TAKE2, ngx_conf_set_bufs_slot, socket_large_buffers),
    SLOT("call_keepalive", NGX_CONF_TAKE1, ngx_conf_set_num_slot, call_keepalive),
    SLOT("call_keepalive_timeout", NGX_CONF_TAKE1, ngx_conf_set_msec_slot, call_keepalive_timeout),
    SLOT("call_memory_limit", NGX_CONF_TAKE1, ngx_conf_set_size_slot, call_memory_limit),
    SLOT("tls_trusted_certificate", NGX_CONF_TAKE1, ngx_conf_set_str_slot, tls_trusted_certificate),
    SLOT("tls_verify_cert", NGX_CONF_FLAG, ngx_conf_set_flag_slot, tls_verify_cert),
    SLOT("tls_verify_host", NGX_CONF_FLAG, ngx_conf_set_flag_slot, tls_verify_host),
    SLOT("tls_no_verify_warn", NGX_CONF_FLAG, ngx_conf_set_flag_slot, tls_no_verify_warn),
    SLOT("proxy_wasm_lua_resolver", NGX_CONF_FLAG, ngx_conf_set_flag_slot, lua_resolver),
    SLOT("proxy_wasm_log_dispatch_errors", NGX_CONF_FLAG, ngx_conf_set_flag_slot, log_dispatch_errors),
    OWN("trap_dumps", NGX_CONF_TAKE123, ngx_sluice_set_trap_dumps),
    OWN("worker_memory_limit", NGX_CONF_TAKE1, set_worker_memory_limit),
    SLOT("vm_memory_limit", NGX_CONF_TAKE1, ngx_conf_set_size_slot, vm_memory_limit),
    OWN("cache_dir", NGX_CONF_TAKE1, set_cache_dir),
    SLOT("cache_size", NGX_CONF_TAKE1, ngx_conf_set_off_slot, cache_size),
    SLOT("cache_age", NGX_CONF_TAKE1, ngx_conf_set_sec_slot, cache_age),
#define SL_FILTER_OPT(id, field, name, kind, def, values, min, max)                                                                        \
    SLOT("proxy_wasm_" name, NGX_SLUICE_OPT_ARGS(kind), ngx_sluice_set_opt, settings.opts),
#include "sl_filter_opts.def"
#undef SL_FILTER_OPT
    NGX_SLUICE_SETTINGS_COMMANDS(NGX_SLUICE_WASM_CONF, 0, offsetof(ngx_sluice_conf_t, settings)),
    OWN("metrics", NGX_CONF_BLOCK | NGX_CONF_NOARGS, metrics_block),
    {ngx_string("slab_size"), NGX_SLUICE_METRICS_CONF | NGX_CONF_TAKE1, set_slab_size, 0, 0, NULL},
    {ngx_string("max_metric_name_length"), NGX_SLUICE_METRICS_CONF | NGX_CONF_TAKE1, set_max_metric_name_length, 0, 0, NULL},
    OWN("wasmtime", NGX_CONF_BLOCK | NGX_CONF_NOARGS, wasmtime_block),
    OWN("wasmer", NGX_CONF_BLOCK | NGX_CONF_NOARGS, runtime_block),
    OWN("v8", NGX_CONF_BLOCK | NGX_CONF_NOARGS, runtime_block),
    {ngx_string("flag"), NGX_SLUICE_RUNTIME_CONF | NGX_CONF_TAKE2, set_flag, 0, 0, NULL},
    {ngx_string("cache_config"), NGX_SLUICE_RUNTIME_CONF | NGX_CONF_TAKE1, set_cache_config, 0, 0, NULL},
    ngx_null_command,
};

static ngx_core_module_t module_ctx = {ngx_string("wasm"), NULL, NULL};

ngx_module_t ngx_sluice_wasm_module = {NGX_MODULE_V1, &module_ctx, commands, NGX_SLUICE_WASM_MODULE, NULL, NULL, NULL, NULL,
                                       NULL,          NULL,        NULL,     NGX_MODULE_V1_PADDING};

void ngx_sluice_wasm_conf_init(ngx_sluice_conf_t *scf) {
    ngx_queue_init(&scf->streams);
    ngx_sluice_settings_init(&scf->settings);
    scf->backtraces = NGX_CONF_UNSET;
    scf->vm_memory_limit = NGX_CONF_UNSET_SIZE;
    scf->worker_memory_limit = NGX_CONF_UNSET_SIZE;
    scf->cache_size = NGX_CONF_UNSET;
    scf->cache_age = NGX_CONF_UNSET;
    scf->resolver_timeout = NGX_CONF_UNSET_MSEC;
    scf->socket_connect_timeout = NGX_CONF_UNSET_MSEC;
    scf->socket_send_timeout = NGX_CONF_UNSET_MSEC;
    scf->socket_read_timeout = NGX_CONF_UNSET_MSEC;
    scf->call_keepalive = NGX_CONF_UNSET;
    scf->call_keepalive_timeout = NGX_CONF_UNSET_MSEC;
    scf->call_memory_limit = NGX_CONF_UNSET_SIZE;
    scf->socket_buffer_size = NGX_CONF_UNSET_SIZE;
    scf->socket_buffer_reuse = NGX_CONF_UNSET;
    scf->tls_verify_cert = NGX_CONF_UNSET;
    scf->tls_verify_host = NGX_CONF_UNSET;
    scf->tls_no_verify_warn = NGX_CONF_UNSET;
    scf->lua_resolver = NGX_CONF_UNSET;
    scf->log_dispatch_errors = NGX_CONF_UNSET;
    scf->metrics_slab_size = NGX_CONF_UNSET;
    scf->metrics_max_name_length = NGX_CONF_UNSET;
}

static void defaults_of_calls(ngx_sluice_conf_t *scf) {
    ngx_conf_init_msec_value(scf->resolver_timeout, 30000);
    ngx_conf_init_msec_value(scf->socket_connect_timeout, 60000);
    ngx_conf_init_msec_value(scf->socket_send_timeout, 60000);
    ngx_conf_init_msec_value(scf->socket_read_timeout, 60000);
    ngx_conf_init_value(scf->call_keepalive, 16);
    ngx_conf_init_msec_value(scf->call_keepalive_timeout, 60000);
    ngx_conf_init_size_value(scf->call_memory_limit, 256 * 1024 * 1024);
    ngx_conf_init_size_value(scf->socket_buffer_size, 1024);
    ngx_conf_init_value(scf->socket_buffer_reuse, 1);
    if (scf->socket_large_buffers.num == 0) {
        scf->socket_large_buffers.num = 4;
        scf->socket_large_buffers.size = 8192;
    }
    /* WasmX verifies only when told to; by default we do. */
    ngx_conf_init_value(scf->tls_verify_cert, scf->settings.opts.dialect != SL_DIALECT_WASMX);
    ngx_conf_init_value(scf->tls_verify_host, scf->settings.opts.dialect != SL_DIALECT_WASMX);
    ngx_conf_init_value(scf->tls_no_verify_warn, 1);
    ngx_conf_init_value(scf->lua_resolver, 0);
    ngx_conf_init_value(scf->log_dispatch_errors, 1);
}

/* WasmX's configurations count on a resolver that they do not name. */
char *ngx_sluice_wasm_block_end(ngx_conf_t *cf, ngx_sluice_conf_t *scf) {
    ngx_str_t name = ngx_string("8.8.8.8");

    if (scf->resolver != NULL || scf->settings.opts.dialect != SL_DIALECT_WASMX) {
        return NGX_CONF_OK;
    }
    scf->resolver = ngx_resolver_create(cf, &name, 1);
    return scf->resolver == NULL ? NGX_CONF_ERROR : NGX_CONF_OK;
}

ngx_int_t ngx_sluice_wasm_conf_defaults(ngx_sluice_conf_t *scf) {
    ngx_sluice_settings_merge(&scf->settings, NULL);
    ngx_conf_init_value(scf->backtraces, 1);
    ngx_conf_init_size_value(scf->vm_memory_limit, 0);
    ngx_conf_init_size_value(scf->worker_memory_limit, 0);
    ngx_conf_init_value(scf->cache_size, (off_t)1 << 30);
    ngx_conf_init_value(scf->cache_age, (time_t)30 * 24 * 3600);
    ngx_conf_init_value(scf->metrics_slab_size, 5 * 1024 * 1024);
    ngx_conf_init_value(scf->metrics_max_name_length, 256);
    defaults_of_calls(scf);
    if (scf->compiler.len != 0 && ngx_strcmp(scf->compiler.data, "auto") != 0 && ngx_strcmp(scf->compiler.data, "cranelift") != 0) {
        ngx_log_error(NGX_LOG_ERR, scf->cycle->log, 0, "invalid compiler \"%V\"", &scf->compiler);
        ngx_log_error(NGX_LOG_EMERG, scf->cycle->log, 0, "failed initializing wasm VM: invalid configuration");
        return NGX_ERROR;
    }
    if (scf->lua_resolver) {
        ngx_log_error(NGX_LOG_WARN, scf->cycle->log, 0, "proxy_wasm_lua_resolver has no effect: names are resolved by nginx");
    }
    return NGX_OK;
}

/* ---- wasm{} ------------------------------------------------------------------------------------------------------------------ */

static char *bad_name(ngx_conf_t *cf, const ngx_str_t *name) {
    if (name->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid module name \"\"");
        return NGX_CONF_ERROR;
    }
    for (size_t i = 0; i < name->len; i++) {
        u_char c = name->data[i];
        if (c == ' ' || c == '\t' || c == ':') {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid module name \"%V\": character not allowed \"%c\"", name, c);
            return NGX_CONF_ERROR;
        }
    }
    return NGX_CONF_OK;
}

static char *set_module(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = conf;
    ngx_str_t *value = cf->args->elts;
    ngx_sluice_wasm_t *wasm;

    if (bad_name(cf, &value[1]) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }
    if (value[2].len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid module path \"\"");
        return NGX_CONF_ERROR;
    }
    if (ngx_sluice_wasm_find(scf, &value[1]) != NGX_DECLINED) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" module already defined", &value[1]);
        return NGX_CONF_ERROR;
    }
    wasm = ngx_array_push(&scf->modules);
    if (wasm == NULL) {
        return NGX_CONF_ERROR;
    }
    ngx_memzero(wasm, sizeof(ngx_sluice_wasm_t));
    wasm->name = value[1];
    wasm->path = value[2];
    if (cf->args->nelts > 3) {
        wasm->config = value[3];
    }
    return NGX_CONF_OK;
}

static char *set_compiler(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = conf;
    ngx_str_t *value = cf->args->elts;

    if (scf->compiler.data != NULL) {
        return "is duplicate";
    }
    scf->compiler = value[1];
    return NGX_CONF_OK;
}

static char *set_resolver(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = conf;
    ngx_str_t *value = cf->args->elts;

    if (scf->resolver != NULL) {
        return "is duplicate";
    }
    scf->resolver = ngx_resolver_create(cf, &value[1], cf->args->nelts - 1);
    return scf->resolver == NULL ? NGX_CONF_ERROR : NGX_CONF_OK;
}

static char *set_worker_memory_limit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = conf;
    ngx_str_t *value = cf->args->elts;
    uint64_t bytes = 0;

    if (scf->worker_memory_limit != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }
    if (ngx_strcmp(value[1].data, "off") != 0 && (!sl_size_parse(ngx_sluice_str(&value[1]), &bytes) || bytes < 65536)) {
        return "is neither off nor a size of at least 64k";
    }
    scf->worker_memory_limit = (size_t)bytes;
    return NGX_CONF_OK;
}

static char *set_cache_dir(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = conf;
    ngx_str_t *value = cf->args->elts;

    if (scf->cache_dir.data != NULL) {
        return "is duplicate";
    }
    scf->cache_dir = value[1];
    if (ngx_strcmp(value[1].data, "off") == 0) {
        scf->cache_dir.len = 0;
        return NGX_CONF_OK;
    }
    return ngx_conf_full_name(cf->cycle, &scf->cache_dir, 0) == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}

/* ---- shared memory: checked as WasmX does ---------------------------------------------------------------------------------- */

static char *check_size(ngx_conf_t *cf, const ngx_str_t *text, ssize_t *size) {
    *size = ngx_parse_size((ngx_str_t *)text);
    if (*size == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid shm size \"%V\"", text);
        return NGX_CONF_ERROR;
    }
    if (*size < (ssize_t)(3 * ngx_pagesize)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "shm size of %z bytes is too small, minimum required is %uz bytes", *size,
                           (size_t)(3 * ngx_pagesize));
        return NGX_CONF_ERROR;
    }
    if (*size & (ngx_pagesize - 1)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "shm size of %z bytes is not page-aligned, must be a multiple of %ui", *size,
                           ngx_pagesize);
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}

static char *check_option(ngx_conf_t *cf, const ngx_str_t *option, ngx_sluice_shm_t *shm) {
    static const char *const policies[] = {"slru", "lru", "none"};
    size_t prefix = sizeof("eviction=") - 1;

    if (option->len < prefix || ngx_strncmp(option->data, "eviction=", prefix) != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid option \"%V\"", option);
        return NGX_CONF_ERROR;
    }
    if (shm->queue) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "shm_queue \"%V\": queues do not support eviction policies", &shm->name);
        return NGX_CONF_ERROR;
    }
    for (ngx_uint_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        if (ngx_strcmp(option->data + prefix, policies[i]) == 0) {
            shm->eviction = i;
            return NGX_CONF_OK;
        }
    }
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid eviction policy \"%s\"", option->data + prefix);
    return NGX_CONF_ERROR;
}

static char *set_shm(ngx_conf_t *cf, ngx_sluice_conf_t *scf, ngx_flag_t queue) {
    ngx_str_t *value = cf->args->elts;
    ngx_sluice_shm_t *shm = scf->shms.elts, new = {.name = value[1], .queue = queue};
    ssize_t size;

    if (value[1].len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid shm name \"\"");
        return NGX_CONF_ERROR;
    }
    if (check_size(cf, &value[2], &size) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }
    new.size = (size_t)size;
    for (ngx_uint_t i = 3; i < cf->args->nelts; i++) {
        if (check_option(cf, &value[i], &new) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }
    for (ngx_uint_t i = 0; i < scf->shms.nelts; i++) {
        if (shm[i].name.len == value[1].len && ngx_memcmp(shm[i].name.data, value[1].data, value[1].len) == 0 &&
            (shm[i].queue == queue || ngx_strcmp(value[1].data, "*") != 0)) { /* there is a default of each kind */
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" shm already defined", &value[1]);
            return NGX_CONF_ERROR;
        }
    }
    if (ngx_strcmp(value[1].data, "metrics") == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"metrics\" shm already defined");
        return NGX_CONF_ERROR;
    }
    shm = ngx_array_push(&scf->shms);
    if (shm == NULL) {
        return NGX_CONF_ERROR;
    }
    *shm = new;
    return NGX_CONF_OK;
}

static char *set_shm_kv(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    return set_shm(cf, conf, 0);
}

static char *set_shm_queue(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    return set_shm(cf, conf, 1);
}

/* ---- metrics{} --------------------------------------------------------------------------------------------------------------- */

static char *inner_block(ngx_conf_t *cf, ngx_uint_t cmd_type) {
    ngx_conf_t save = *cf;
    char *rv;

    cf->cmd_type = cmd_type;
    rv = ngx_conf_parse(cf, NULL);
    *cf = save;
    return rv;
}

static char *metrics_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = conf;

    if (scf->metrics) {
        return "is duplicate";
    }
    scf->metrics = 1;
    return inner_block(cf, NGX_SLUICE_METRICS_CONF);
}

static char *set_slab_size(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = conf;
    ngx_str_t *value = cf->args->elts;

    if (scf->metrics_slab_size != NGX_CONF_UNSET) {
        return "is duplicate";
    }
    return check_size(cf, &value[1], &scf->metrics_slab_size);
}

static char *set_max_metric_name_length(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = conf;
    ngx_str_t *value = cf->args->elts;
    ngx_int_t n;

    if (scf->metrics_max_name_length != NGX_CONF_UNSET) {
        return "is duplicate";
    }
    n = ngx_atoi(value[1].data, value[1].len);
    if (n == NGX_ERROR) {
        return "invalid value";
    }
    if (n < 6) {
        return "value too small (min: 6)";
    }
    scf->metrics_max_name_length = n;
    return NGX_CONF_OK;
}

/* ---- wasmtime{}, wasmer{}, v8{} ------------------------------------------------------------------------------------------------ */

/* The flags that WasmX knows for Wasmtime, and what their values are: b = on or off, s = size, else the choices. */
static const struct {
    const char *name, *values;
} wasmtime_flags[] = {
    {"debug_info", "b"},
    {"consume_fuel", "b"},
    {"epoch_interruption", "b"},
    {"max_wasm_stack", "s"},
    {"wasm_threads", "b"},
    {"wasm_reference_types", "b"},
    {"wasm_relaxed_simd", "b"},
    {"wasm_simd", "b"},
    {"wasm_bulk_memory", "b"},
    {"wasm_multi_value", "b"},
    {"wasm_multi_memory", "b"},
    {"wasm_memory64", "b"},
    {"strategy", "e"},
    {"parallel_compilation", "b"},
    {"cranelift_debug_verifier", "b"},
    {"cranelift_nan_canonicalization", "b"},
    {"cranelift_opt_level", "e"},
    {"profiler", "e"},
    {"static_memory_maximum_size", "s"},
    {"static_memory_guard_size", "s"},
    {"dynamic_memory_guard_size", "s"},
};

static char *wasmtime_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    return inner_block(cf, NGX_SLUICE_RUNTIME_CONF);
}

/* Not our engine: read over without looking, as WasmX does for the runtimes that it was not built with. */
static char *skip_line(ngx_conf_t *cf, ngx_command_t *dummy, void *conf) {
    return NGX_CONF_OK;
}

static char *runtime_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_conf_t save = *cf;
    char *rv;

    cf->handler = skip_line;
    rv = ngx_conf_parse(cf, NULL);
    *cf = save;
    return rv;
}

static char *set_flag(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_str_t *value = cf->args->elts;

    for (ngx_uint_t i = 0; i < sizeof(wasmtime_flags) / sizeof(wasmtime_flags[0]); i++) {
        if (ngx_strcmp(value[1].data, wasmtime_flags[i].name) != 0) {
            continue;
        }
        if ((wasmtime_flags[i].values[0] == 'b' && ngx_strcmp(value[2].data, "on") != 0 && ngx_strcmp(value[2].data, "off") != 0) ||
            (wasmtime_flags[i].values[0] == 's' && ngx_parse_size(&value[2]) == NGX_ERROR)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "failed setting wasmtime flag: invalid value \"%V\"", &value[2]);
            return NGX_CONF_ERROR;
        }
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "flag \"%V\" is accepted and has no effect", &value[1]);
        return NGX_CONF_OK;
    }
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "unknown \"wasmtime\" configuration flag: \"%V\"", &value[1]);
    return NGX_CONF_ERROR;
}

static char *set_cache_config(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "\"cache_config\" is accepted and has no effect: see \"cache_dir\"");
    return NGX_CONF_OK;
}
