/* TLS to the upstream of a service that says more than the location does: client certificate, verification, authorities. */
#include "ngx_http_sluice_gw_lazy.h"

#include <ngx_md5.h>

void ngx_http_sluice_gw_tls_free(ngx_http_sluice_gw_tls_t *tls) {
    if (tls != NULL) {
        SSL_CTX_free(tls->ssl.ctx);
        free(tls);
    }
}

static ngx_int_t fail(sl_str_t service, const char *what) {
    ngx_ssl_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] service '%*s': %s", service.len, service.data, what);
    return NGX_ERROR;
}

/* ---- parts ---------------------------------------------------------------------------------------------------------------- */

static ngx_int_t use_certificate(ngx_http_sluice_gw_tls_t *tls, const gw_plan_t *plan, sl_str_t id, sl_str_t service, ngx_md5_t *md5) {
    json_t *json = ngx_http_sluice_gw_entity(plan, SL_STR("certificates"), id);
    ngx_http_sluice_gw_cert_t *cert = calloc(1, sizeof(*cert));
    sl_str_t text = ngx_http_sluice_gw_json_str(json, "cert");
    ngx_int_t rc = json != NULL && cert != NULL ? ngx_http_sluice_gw_pem_pair(json, 0, cert) : NGX_ERROR;
    if (rc == NGX_OK && SSL_CTX_use_cert_and_key(tls->ssl.ctx, cert->leaf[0], cert->key[0], cert->chain[0], 1) != 1) {
        rc = NGX_ERROR;
    }
    if (rc == NGX_OK) {
        ngx_md5_update(md5, text.data, text.len);
    }
    ngx_http_sluice_gw_cert_free(cert);
    json_decref(json);
    return rc == NGX_OK ? NGX_OK : fail(service, "its client certificate cannot be used");
}

static ngx_int_t trust(ngx_http_sluice_gw_tls_t *tls, const gw_plan_t *plan, sl_str_t id, sl_str_t service, ngx_md5_t *md5) {
    json_t *json = ngx_http_sluice_gw_entity(plan, SL_STR("ca_certificates"), id);
    sl_str_t text = ngx_http_sluice_gw_json_str(json, "cert");
    X509 *x = text.data != NULL ? ngx_http_sluice_gw_pem_first(text) : NULL;
    ngx_int_t rc = x != NULL && X509_STORE_add_cert(SSL_CTX_get_cert_store(tls->ssl.ctx), x) == 1 ? NGX_OK : NGX_ERROR;
    if (rc == NGX_OK) {
        ngx_md5_update(md5, text.data, text.len);
    }
    X509_free(x);
    json_decref(json);
    return rc == NGX_OK ? NGX_OK : fail(service, "one of its ca_certificates does not exist or cannot be used");
}

/* What the node trusts, where the service does not say. */
static ngx_int_t trust_node(ngx_http_sluice_gw_tls_t *tls, const char *list, sl_str_t service) {
    char file[4096];
    for (const char *p = list; *p != '\0';) {
        p += strspn(p, ", \t");
        size_t len = strcspn(p, ",");
        snprintf(file, sizeof(file), "%.*s", (int)ngx_min(len, sizeof(file) - 1), p);
        p += len;
        unsigned system = ngx_strcmp(file, "system") == 0;
        if (system ? SSL_CTX_set_default_verify_paths(tls->ssl.ctx) != 1
                   : file[0] != '\0' && SSL_CTX_load_verify_locations(tls->ssl.ctx, file, NULL) != 1) {
            return fail(service, "lua_ssl_trusted_certificate cannot be read");
        }
    }
    return NGX_OK;
}

static ngx_int_t trust_all(ngx_http_sluice_gw_tls_t *tls, const gw_plan_t *plan, const json_t *ids, sl_str_t service, ngx_md5_t *md5) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_sluice_gateway_module);
    if (json_array_size(ids) == 0) {
        return trust_node(tls, mcf->trusted_certificates, service);
    }
    ngx_int_t rc = NGX_OK;
    for (size_t i = 0; rc == NGX_OK && i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        rc = trust(tls, plan, sl_str(json_string_value(id), json_string_length(id)), service, md5);
    }
    return rc;
}

/* ---- all of it -------------------------------------------------------------------------------------------------------------- */

static ngx_int_t fill(ngx_http_sluice_gw_tls_t *tls, const gw_plan_t *plan, const json_t *json, sl_str_t certificate, sl_str_t service) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_sluice_gateway_module);
    const json_t *depth = json_object_get(json, "tls_verify_depth");
    json_int_t levels = json_is_integer(depth) ? json_integer_value(depth) : (json_int_t)mcf->verify_depth;
    ngx_md5_t md5;
    ngx_md5_init(&md5);
    tls->ssl.log = ngx_cycle->log;
    if (ngx_ssl_create(&tls->ssl, NGX_SSL_TLSv1 | NGX_SSL_TLSv1_1 | NGX_SSL_TLSv1_2 | NGX_SSL_TLSv1_3, NULL) != NGX_OK) {
        return NGX_ERROR;
    }
    SSL_CTX_set_verify_depth(tls->ssl.ctx, (int)levels);
    ngx_md5_update(&md5, &levels, sizeof(levels));
    ngx_md5_update(&md5, tls->verify ? "v" : "-", 1);
    if (certificate.data != NULL && use_certificate(tls, plan, certificate, service, &md5) != NGX_OK) {
        return NGX_ERROR;
    }
    ngx_md5_update(&md5, "|", 1);
    if (trust_all(tls, plan, json_object_get(json, "ca_certificates"), service, &md5) != NGX_OK) {
        return NGX_ERROR;
    }
    ngx_md5_final(tls->key, &md5);
    return NGX_OK;
}

static ngx_http_sluice_gw_tls_t *make(const gw_plan_t *plan, uint32_t index, const gw_service_t *service, sl_str_t of_pool) {
    sl_str_t text = gw_plan_entity_at(plan, SL_STR("services"), index);
    json_t *json = text.data != NULL ? json_loadb(text.data, text.len, 0, NULL) : NULL;
    ngx_http_sluice_gw_tls_t *tls = calloc(1, sizeof(*tls));
    if (json == NULL || tls == NULL) {
        json_decref(json);
        free(tls);
        return NULL;
    }
    sl_str_t certificate = ngx_http_sluice_gw_json_ref(json, "client_certificate");
    certificate = certificate.data != NULL ? certificate : of_pool;
    tls->verify_given = service->tls_verify >= 0;
    tls->verify = service->tls_verify == 1;
    tls->own = tls->verify || certificate.data != NULL || json_array_size(json_object_get(json, "ca_certificates")) != 0 ||
               json_is_integer(json_object_get(json, "tls_verify_depth"));
    if (tls->own && fill(tls, plan, json, certificate, service->name.len != 0 ? service->name : service->id) != NGX_OK) {
        ngx_http_sluice_gw_tls_free(tls);
        tls = NULL;
    }
    json_decref(json);
    return tls;
}

ngx_http_sluice_gw_tls_t *ngx_http_sluice_gw_tls_of(ngx_http_sluice_gw_gen_t *gen, uint32_t index, const gw_service_t *service,
                                                    sl_str_t of_pool) {
    ngx_http_sluice_gw_service_t *known = ngx_http_sluice_gw_gen_service(gen, index);
    if (known != NULL && !known->tls_known) {
        known->tls = make(ngx_http_sluice_gw_gen_plan(gen), index, service, of_pool);
        known->tls_known = 1;
    }
    return known != NULL ? known->tls : NULL;
}
