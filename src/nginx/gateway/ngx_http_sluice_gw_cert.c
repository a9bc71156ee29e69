/*
 * The certificate for the server name that a client asks for: that of the store, by the name itself, then by "*.rest", by "start.*", by
 * "*"; else the one of the listener (ssl_cert). Looked up in the current generation at every handshake, so that nothing is reloaded.
 */
#include "ngx_http_sluice_gw_lazy.h"

#define NAME_MAX_BYTES 255

/* ---- one certificate ----------------------------------------------------------------------------------------------------- */

static ngx_http_sluice_gw_cert_t *parse(const gw_plan_t *plan, size_t position) {
    sl_str_t text = gw_plan_entity_at(plan, SL_STR("certificates"), position);
    json_t *json = text.data != NULL ? json_loadb(text.data, text.len, 0, NULL) : NULL;
    ngx_http_sluice_gw_cert_t *cert = calloc(1, sizeof(*cert));
    ngx_int_t rc = json != NULL && cert != NULL ? ngx_http_sluice_gw_pem_pair(json, 0, cert) : NGX_ERROR;
    if (rc == NGX_OK) {
        rc = ngx_http_sluice_gw_pem_pair(json, 1, cert);
    }
    if (rc == NGX_ERROR || cert->leaf[0] == NULL) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] certificate '%s' cannot be used, the listener's is shown instead",
                      json != NULL ? json_string_value(json_object_get(json, "id")) : "?");
        ngx_http_sluice_gw_cert_free(cert);
        cert = NULL;
    }
    json_decref(json);
    return cert;
}

static ngx_http_sluice_gw_cert_t *cert_by_id(ngx_http_sluice_gw_gen_t *gen, sl_str_t id) {
    const gw_plan_t *plan = ngx_http_sluice_gw_gen_plan(gen);
    ngx_http_sluice_gw_lazy_t *lazy = ngx_http_sluice_gw_gen_lazy(gen);
    if (gw_plan_entity(plan, SL_STR("certificates"), id).data == NULL) {
        return NULL;
    }
    size_t position = gw_plan_entity_after(plan, SL_STR("certificates"), id) - 1;
    if (lazy->certs == NULL) {
        size_t n = gw_plan_entity_count(plan, SL_STR("certificates"));
        lazy->certs = calloc(n, sizeof(*lazy->certs));
        lazy->n_certs = lazy->certs != NULL ? n : 0;
    }
    if (position >= lazy->n_certs) {
        return NULL;
    }
    if (lazy->certs[position] == NULL) {
        lazy->certs[position] = parse(plan, position);
    }
    return lazy->certs[position];
}

/* ---- names ---------------------------------------------------------------------------------------------------------------- */

static ngx_http_sluice_gw_cert_t *cert_by_name(ngx_http_sluice_gw_gen_t *gen, sl_str_t name) {
    json_t *sni = ngx_http_sluice_gw_entity(ngx_http_sluice_gw_gen_plan(gen), SL_STR("snis"), name);
    ngx_http_sluice_gw_cert_t *cert = NULL;
    /* An id that somebody asks for as a name is no name. */
    if (sni != NULL && sl_str_eq(ngx_http_sluice_gw_json_str(sni, "name"), name)) {
        cert = cert_by_id(gen, ngx_http_sluice_gw_json_ref(sni, "certificate"));
    }
    json_decref(sni);
    return cert;
}

static ngx_http_sluice_gw_cert_t *cert_by_wildcard(ngx_http_sluice_gw_gen_t *gen, const char *name, size_t len) {
    char wild[NAME_MAX_BYTES + 2];
    const char *first = memchr(name, '.', len), *last = memrchr(name, '.', len);
    ngx_http_sluice_gw_cert_t *cert = NULL;
    if (first != NULL) {
        int n = snprintf(wild, sizeof(wild), "*%.*s", (int)(name + len - first), first);
        cert = cert_by_name(gen, sl_str(wild, (size_t)n));
    }
    if (cert == NULL && last != NULL) {
        int n = snprintf(wild, sizeof(wild), "%.*s.*", (int)(last - name), name);
        cert = cert_by_name(gen, sl_str(wild, (size_t)n));
    }
    return cert;
}

/* `sni`: as the client sent it, NULL: it did not. */
static ngx_http_sluice_gw_cert_t *find(ngx_http_sluice_gw_gen_t *gen, const char *sni) {
    char name[NAME_MAX_BYTES + 1];
    size_t len = sni != NULL ? strlen(sni) : 0;
    len -= len > 0 && sni[len - 1] == '.';
    ngx_http_sluice_gw_cert_t *cert = NULL;
    if (len > 0 && len <= NAME_MAX_BYTES) {
        ngx_strlow((u_char *)name, (u_char *)(uintptr_t)sni, len);
        cert = cert_by_name(gen, sl_str(name, len));
        cert = cert != NULL ? cert : cert_by_wildcard(gen, name, len);
    }
    return cert != NULL ? cert : cert_by_name(gen, SL_STR("*"));
}

/* ---- the handshake ---------------------------------------------------------------------------------------------------------- */

static int choose(SSL *ssl, void *data) {
    (void)data;
    ngx_http_sluice_gw_gen_t *gen = ngx_http_sluice_gw_current();
    if (gen == NULL || gw_plan_entity_count(ngx_http_sluice_gw_gen_plan(gen), SL_STR("snis")) == 0) {
        return 1;
    }
    ngx_http_sluice_gw_cert_t *cert = find(gen, SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
    if (cert == NULL) {
        return 1;
    }
    SSL_certs_clear(ssl);
    for (ngx_uint_t i = 0; i < 2 && cert->leaf[i] != NULL; i++) {
        if (SSL_use_cert_and_key(ssl, cert->leaf[i], cert->key[i], cert->chain[i], 1) != 1) {
            ngx_ssl_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] a certificate of the store could not be used");
            return 0;
        }
    }
    return 1;
}

void ngx_http_sluice_gw_cert_init(ngx_ssl_t *ssl) {
    if (ssl->ctx != NULL) {
        SSL_CTX_set_cert_cb(ssl->ctx, choose, NULL);
    }
}
