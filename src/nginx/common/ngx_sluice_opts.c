/* The options of filters as directives: one function for all rows of sl_filter_opts.def. */
#include "ngx_sluice.h"

#define PREFIX "proxy_wasm_"

/* Names that WasmX has for levels of ours. */
static sl_str_t own_name(const sl_filter_opt_t *opt, sl_str_t value) {
    if (opt == &sl_filter_opts[SL_FOPT_ISOLATION]) {
        if (sl_str_eq(value, SL_STR("none"))) {
            return SL_STR("shared");
        }
        if (sl_str_eq(value, SL_STR("stream"))) {
            return SL_STR("request");
        }
    }
    return value;
}

/* The text lives as long as the cycle, also where the table had to bring it into another form. */
static sl_status_t assign(ngx_conf_t *cf, sl_filter_opts_t *opts, const sl_filter_opt_t *opt, sl_str_t value, sl_err_t *err) {
    char room[SL_FILTER_OPT_TEXT];
    sl_filter_opts_t parsed;
    sl_arena_t arena;
    sl_status_t rc;
    sl_str_t text;
    u_char *copy;

    sl_filter_opts_init(&parsed);
    sl_arena_init(&arena, 1024, 65536);
    rc = sl_filter_opts_set(&parsed, opt, own_name(opt, value), &arena, err);
    if (rc == SL_OK) {
        text = sl_filter_opts_text(&parsed, opt, room);
        copy = ngx_pnalloc(cf->pool, text.len + 1);
        if (copy == NULL) {
            rc = sl_err_set(err, SL_NO_MEMORY, "out of memory");
        } else {
            ngx_memcpy(copy, text.data, text.len);
            rc = sl_filter_opts_set(opts, opt, sl_str(copy, text.len), NULL, err);
        }
    }
    sl_arena_deinit(&arena);
    return rc;
}

static ngx_int_t set(ngx_conf_t *cf, sl_filter_opts_t *opts, const sl_filter_opt_t *opt, const ngx_str_t *value) {
    sl_err_t err;

    if (assign(cf, opts, opt, ngx_sluice_str(value), &err) == SL_OK) {
        return NGX_OK;
    }
    if (opt == &sl_filter_opts[SL_FOPT_ISOLATION]) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid isolation mode \"%V\"", value);
    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid value \"%V\" of " PREFIX "%s: %s", value, opt->name, err.text);
    }
    return NGX_ERROR;
}

/* Several words of one directive are one list. */
static ngx_int_t join(ngx_conf_t *cf, ngx_str_t *out) {
    ngx_str_t *value = cf->args->elts;
    size_t len = 0;
    u_char *p;

    for (ngx_uint_t i = 1; i < cf->args->nelts; i++) {
        len += value[i].len + 1;
    }
    out->data = p = ngx_pnalloc(cf->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }
    for (ngx_uint_t i = 1; i < cf->args->nelts; i++) {
        p = ngx_cpymem(p, value[i].data, value[i].len);
        *p++ = ',';
    }
    out->len = len - 1;
    return NGX_OK;
}

char *ngx_sluice_set_opt(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    sl_filter_opts_t *opts = (sl_filter_opts_t *)((char *)conf + cmd->offset);
    const size_t prefix = sizeof(PREFIX) - 1;
    const sl_filter_opt_t *opt = sl_filter_opt_find(sl_str(cmd->name.data + prefix, cmd->name.len - prefix));
    ngx_str_t *value = cf->args->elts, words = value[1];

    if (sl_filter_opt_is_set(opts, opt)) {
        return "is duplicate";
    }
    if (cf->args->nelts > 2 && join(cf, &words) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    return set(cf, opts, opt, &words) == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}

ngx_int_t ngx_sluice_opt_pair(ngx_conf_t *cf, sl_filter_opts_t *opts, const ngx_str_t *pair) {
    u_char *equals = ngx_strlchr(pair->data, pair->data + pair->len, '=');
    const sl_filter_opt_t *opt;
    ngx_str_t value;

    if (equals == NULL) {
        return NGX_DECLINED;
    }
    opt = sl_filter_opt_find(sl_str(pair->data, (size_t)(equals - pair->data)));
    if (opt == NULL || sl_filter_opt_is_set(opts, opt)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, opt == NULL ? "invalid option \"%V\"" : "duplicate option \"%V\"", pair);
        return NGX_ERROR;
    }
    value.data = equals + 1;
    value.len = (size_t)(pair->data + pair->len - value.data);
    return set(cf, opts, opt, &value);
}
