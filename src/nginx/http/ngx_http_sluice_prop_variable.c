/* Properties that are variables of nginx: ngx.<variable>. */
#include "ngx_http_sluice_prop.h"

static sl_status_t variable_name(ngx_http_request_t *r, sl_str_t name, ngx_str_t *low, ngx_uint_t *key) {
    low->data = ngx_pnalloc(r->pool, name.len + 1);
    if (low->data == NULL) {
        return SL_NO_MEMORY;
    }
    low->len = name.len;
    *key = ngx_hash_strlow(low->data, (u_char *)name.data, name.len);
    return SL_OK;
}

sl_status_t ngx_http_sluice_variable_get(ngx_http_request_t *r, sl_str_t name, pw_value_t *out) {
    ngx_http_variable_value_t *v;
    ngx_uint_t key;
    ngx_str_t low;

    if (variable_name(r, name, &low, &key) != SL_OK) {
        return SL_NO_MEMORY;
    }
    v = ngx_http_get_variable(r, &low, key);
    if (v == NULL || v->not_found) {
        return SL_NOT_FOUND;
    }
    return ngx_http_sluice_give_str(out, sl_str(v->data, v->len));
}

static sl_status_t store_variable(ngx_http_request_t *r, ngx_http_variable_t *v, sl_str_t value) {
    ngx_http_variable_value_t vv = {0};
    ngx_str_t copy;

    if (ngx_http_sluice_copy(r->pool, value, &copy) != SL_OK) {
        return SL_NO_MEMORY;
    }
    vv.valid = value.data != NULL;
    vv.not_found = value.data == NULL;
    vv.data = copy.data;
    vv.len = (unsigned)copy.len;
    if (v->set_handler != NULL) {
        v->set_handler(r, &vv, v->data);
    } else {
        r->variables[v->index] = vv;
    }
    return SL_OK;
}

sl_status_t ngx_http_sluice_variable_set(ngx_http_request_t *r, sl_str_t name, sl_str_t value) {
    ngx_http_core_main_conf_t *cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    ngx_http_variable_t *v;
    ngx_uint_t key;
    ngx_str_t low;

    if (variable_name(r, name, &low, &key) != SL_OK) {
        return SL_NO_MEMORY;
    }
    v = ngx_hash_find(&cmcf->variables_hash, key, low.data, low.len);
    if (v == NULL) {
        return SL_NOT_FOUND;
    }
    if (!(v->flags & NGX_HTTP_VAR_CHANGEABLE) || (v->set_handler == NULL && !(v->flags & NGX_HTTP_VAR_INDEXED))) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "[proxy-wasm] variable \"%V\" is not changeable", &low);
        return SL_INVALID;
    }
    return store_variable(r, v, value);
}
