/* The wasm{} block: the core module that owns it, and the settings that it shares with the http levels. */
#include "ngx_sluice.h"
#include "ngx_sluice_state.h"
#include "ngx_sluice_wasm.h"

static void *create_conf(ngx_cycle_t *cycle);
static char *init_conf(ngx_cycle_t *cycle, void *conf);
static ngx_int_t init_process(ngx_cycle_t *cycle);
static void exit_process(ngx_cycle_t *cycle);
static char *wasm_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

ngx_conf_enum_t ngx_sluice_response_orders[] = {{ngx_string("forward"), 0}, {ngx_string("reverse"), 1}, {ngx_null_string, 0}};
ngx_conf_enum_t ngx_sluice_over_limits[] = {{ngx_string("fail"), 0}, {ngx_string("pass"), 1}, {ngx_null_string, 0}};

static ngx_command_t commands[] = {
    {ngx_string("wasm"), NGX_MAIN_CONF | NGX_CONF_BLOCK | NGX_CONF_NOARGS, wasm_block, 0, 0, NULL},
    ngx_null_command,
};

static ngx_core_module_t module_ctx = {ngx_string("sluice"), create_conf, init_conf};

ngx_module_t ngx_sluice_module = {NGX_MODULE_V1, &module_ctx, commands, NGX_CORE_MODULE, NULL, ngx_sluice_state_init_module,
                                  init_process,  NULL,        NULL,     exit_process,    NULL, NGX_MODULE_V1_PADDING};

ngx_sluice_conf_t *ngx_sluice_conf(ngx_cycle_t *cycle) {
    return (ngx_sluice_conf_t *)ngx_get_conf(cycle->conf_ctx, ngx_sluice_module);
}

/* ---- settings ------------------------------------------------------------------------------------------------------------ */

void ngx_sluice_settings_init(ngx_sluice_settings_t *s) {
    sl_filter_opts_init(&s->opts);
    s->reverse_response = NGX_CONF_UNSET;
    s->request_body_limit = NGX_CONF_UNSET_SIZE;
    s->response_body_limit = NGX_CONF_UNSET_SIZE;
    s->pass_over_limit = NGX_CONF_UNSET;
}

void ngx_sluice_settings_merge(ngx_sluice_settings_t *s, const ngx_sluice_settings_t *prev) {
    static const ngx_sluice_settings_t defaults = {.reverse_response = 0};

    if (prev == NULL) {
        prev = &defaults;
    }
    sl_filter_opts_inherit(&s->opts, &prev->opts);
    /* the enum slots write an ngx_uint_t of the same size */
    ngx_conf_merge_value(s->reverse_response, prev->reverse_response, 0);
    ngx_conf_merge_size_value(s->request_body_limit, prev->request_body_limit, 0);
    ngx_conf_merge_size_value(s->response_body_limit, prev->response_body_limit, 0);
    ngx_conf_merge_value(s->pass_over_limit, prev->pass_over_limit, 0);
}

static ngx_uint_t settings_equal(const ngx_sluice_settings_t *a, const ngx_sluice_settings_t *b) {
    return a->opts.set == b->opts.set && sl_filter_opts_equal(&a->opts, &b->opts) && a->reverse_response == b->reverse_response &&
           a->request_body_limit == b->request_body_limit && a->response_body_limit == b->response_body_limit &&
           a->pass_over_limit == b->pass_over_limit;
}

/* ---- modules and chains ---------------------------------------------------------------------------------------------------- */

ngx_int_t ngx_sluice_wasm_find(const ngx_sluice_conf_t *scf, const ngx_str_t *name) {
    const ngx_sluice_wasm_t *wasm = scf->modules.elts;

    for (ngx_uint_t i = 0; i < scf->modules.nelts; i++) {
        if (wasm[i].name.len == name->len && ngx_memcmp(wasm[i].name.data, name->data, name->len) == 0) {
            return (ngx_int_t)i;
        }
    }
    return NGX_DECLINED;
}

ngx_sluice_chain_t *ngx_sluice_chain_get(ngx_sluice_conf_t *scf, ngx_array_t *filters, const ngx_sluice_settings_t *settings) {
    ngx_sluice_chain_t **known = scf->chains.elts, **slot, *chain;

    for (ngx_uint_t i = 0; i < scf->chains.nelts; i++) {
        if (known[i]->filters == filters && settings_equal(&known[i]->settings, settings)) {
            return known[i];
        }
    }
    chain = ngx_pcalloc(scf->cycle->pool, sizeof(ngx_sluice_chain_t));
    slot = ngx_array_push(&scf->chains);
    if (chain == NULL || slot == NULL) {
        return NULL;
    }
    chain->filters = filters;
    chain->settings = *settings;
    *slot = chain;
    return chain;
}

/* ---- life ------------------------------------------------------------------------------------------------------------------ */

static void cycle_gone(void *data) {
    ngx_sluice_stop(data);
    ngx_sluice_release(data);
}

static void *create_conf(ngx_cycle_t *cycle) {
    ngx_sluice_conf_t *scf = ngx_pcalloc(cycle->pool, sizeof(ngx_sluice_conf_t));
    ngx_pool_cleanup_t *cln = ngx_pool_cleanup_add(cycle->pool, 0);

    if (scf == NULL || cln == NULL || ngx_array_init(&scf->modules, cycle->pool, 4, sizeof(ngx_sluice_wasm_t)) != NGX_OK ||
        ngx_array_init(&scf->chains, cycle->pool, 4, sizeof(ngx_sluice_chain_t *)) != NGX_OK ||
        ngx_array_init(&scf->shms, cycle->pool, 4, sizeof(ngx_sluice_shm_t)) != NGX_OK) {
        return NULL;
    }
    cln->handler = cycle_gone;
    cln->data = scf;
    scf->cycle = cycle;
    ngx_sluice_wasm_conf_init(scf);
    return scf;
}

static ngx_int_t resolve_filters(ngx_sluice_conf_t *scf) {
    ngx_sluice_chain_t **chains = scf->chains.elts;

    for (ngx_uint_t i = 0; i < scf->chains.nelts; i++) {
        ngx_sluice_filter_t *filters = chains[i]->filters->elts;
        for (ngx_uint_t j = 0; j < chains[i]->filters->nelts; j++) {
            ngx_int_t found = ngx_sluice_wasm_find(scf, &filters[j].name);
            if (found < 0) {
                ngx_log_error(NGX_LOG_EMERG, scf->cycle->log, 0, "no \"%V\" module defined in %s:%ui", &filters[j].name, filters[j].file,
                              filters[j].line);
                return NGX_ERROR;
            }
            filters[j].wasm = (ngx_uint_t)found;
        }
    }
    return NGX_OK;
}

static void inherit_settings(ngx_sluice_conf_t *scf) {
    ngx_sluice_chain_t **chains = scf->chains.elts;

    for (ngx_uint_t i = 0; i < scf->chains.nelts; i++) {
        ngx_sluice_settings_merge(&chains[i]->settings, &scf->settings);
    }
}

/*
 * Runs when the whole configuration has been read, so wasm{} may also stand below http{}. A failure here refuses the
 * configuration; one in init_module would end the master.
 */
static char *init_conf(ngx_cycle_t *cycle, void *conf) {
    ngx_sluice_conf_t *scf = conf;

    if (!scf->present && scf->first_use != NULL) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "\"proxy_wasm\" directive is specified but config has no \"wasm\" section in %s:%ui",
                      scf->first_use->file, scf->first_use->line);
        return NGX_CONF_ERROR;
    }
    if (ngx_sluice_wasm_conf_defaults(scf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    inherit_settings(scf);
    if (ngx_sluice_state_declare(scf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    if (ngx_sluice_dump_init(scf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    if (resolve_filters(scf) != NGX_OK || ngx_sluice_check(scf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}

static ngx_int_t init_process(ngx_cycle_t *cycle) {
    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE) {
        return NGX_OK;
    }
    return ngx_sluice_start(ngx_sluice_conf(cycle));
}

static void exit_process(ngx_cycle_t *cycle) {
    ngx_sluice_stop(ngx_sluice_conf(cycle));
}

static char *wasm_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = ngx_sluice_conf(cf->cycle);
    ngx_conf_t save = *cf;
    void *slots[1] = {scf};
    void **ctx = slots;
    char *rv;

    if (scf->present) {
        return "is duplicate";
    }
    scf->present = 1;
    (void)ngx_count_modules(cf->cycle, NGX_SLUICE_WASM_MODULE);
    cf->ctx = &ctx;
    cf->module_type = NGX_SLUICE_WASM_MODULE;
    cf->cmd_type = NGX_SLUICE_WASM_CONF;
    rv = ngx_conf_parse(cf, NULL);
    *cf = save;
    return rv != NGX_CONF_OK ? rv : ngx_sluice_wasm_block_end(cf, scf);
}
