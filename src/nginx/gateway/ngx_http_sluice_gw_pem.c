/* Certificates and keys from their texts. They have been checked when they were accepted; what cannot be read all the same is an error. */
#include "ngx_http_sluice_gw_lazy.h"

static BIO *open_text(sl_str_t pem) {
    return pem.len != 0 && pem.len <= INT_MAX ? BIO_new_mem_buf(pem.data, (int)pem.len) : NULL;
}

/* A key with a passphrase must not make OpenSSL ask the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *data) {
    (void)buf;
    (void)size;
    (void)writing;
    (void)data;
    return 0;
}

X509 *ngx_http_sluice_gw_pem_first(sl_str_t pem) {
    BIO *bio = open_text(pem);
    X509 *x = bio != NULL ? PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return x;
}

static ngx_int_t read_chain(BIO *bio, X509 **leaf, STACK_OF(X509) * *chain) {
    *leaf = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL);
    *chain = sk_X509_new_null();
    if (*leaf == NULL || *chain == NULL) {
        return NGX_ERROR;
    }
    for (X509 *x; (x = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL;) {
        if (sk_X509_push(*chain, x) == 0) {
            X509_free(x);
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

ngx_int_t ngx_http_sluice_gw_pem_pair(const json_t *certificate, ngx_uint_t i, ngx_http_sluice_gw_cert_t *out) {
    sl_str_t cert = ngx_http_sluice_gw_json_str(certificate, i == 0 ? "cert" : "cert_alt");
    sl_str_t key = ngx_http_sluice_gw_json_str(certificate, i == 0 ? "key" : "key_alt");
    if (cert.data == NULL || key.data == NULL) {
        return NGX_DECLINED;
    }
    BIO *bio = open_text(cert);
    ngx_int_t rc = bio != NULL ? read_chain(bio, &out->leaf[i], &out->chain[i]) : NGX_ERROR;
    BIO_free(bio);
    bio = open_text(key);
    out->key[i] = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return rc == NGX_OK && out->key[i] != NULL ? NGX_OK : NGX_ERROR;
}

void ngx_http_sluice_gw_cert_free(ngx_http_sluice_gw_cert_t *cert) {
    for (ngx_uint_t i = 0; cert != NULL && i < 2; i++) {
        X509_free(cert->leaf[i]);
        sk_X509_pop_free(cert->chain[i], X509_free);
        EVP_PKEY_free(cert->key[i]);
    }
    free(cert);
}
