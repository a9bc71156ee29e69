/* Attributes of TLS: connection.* of the client's connection, upstream.* of the upstream's. */
#include "ngx_http_sluice_prop.h"

#if (NGX_HTTP_SSL)

#include <openssl/x509v3.h>

static SSL *client_ssl(ngx_http_sluice_ctx_t *ctx) {
    ngx_connection_t *c = ctx->request->connection;

    return c->ssl != NULL ? c->ssl->connection : NULL;
}

static SSL *connected_ssl(ngx_http_request_t *r) {
    ngx_connection_t *c = r->upstream != NULL ? r->upstream->peer.connection : NULL;

    return c != NULL && c->ssl != NULL ? c->ssl->connection : NULL;
}

static SSL *upstream_ssl(ngx_http_sluice_ctx_t *ctx) {
    SSL *ssl = connected_ssl(ctx->request);

    return ssl != NULL ? ssl : ctx->upstream_ssl;
}

static void ssl_release(void *data) {
    SSL_free(data);
}

void ngx_http_sluice_upstream_tls_keep(ngx_http_sluice_ctx_t *ctx) {
    SSL *ssl = connected_ssl(ctx->request);
    ngx_pool_cleanup_t *cln;

    if (ssl == NULL || ssl == ctx->upstream_ssl) {
        return;
    }
    cln = ngx_pool_cleanup_add(ctx->request->pool, 0);
    if (cln == NULL || SSL_up_ref(ssl) != 1) {
        return; /* not known in the log, then */
    }
    cln->handler = ssl_release;
    cln->data = ssl;
    ctx->upstream_ssl = ssl;
}

static sl_status_t tls_version(SSL *ssl, pw_value_t *out) {
    return ssl == NULL ? SL_NOT_FOUND : ngx_http_sluice_give_str(out, sl_cstr(SSL_get_version(ssl)));
}

static sl_status_t from_bio(BIO *bio, sl_buf_t *scratch, pw_value_t *out) {
    char *data;
    long len = BIO_get_mem_data(bio, &data);

    (void)sl_buf_append(scratch, data, len > 0 ? (size_t)len : 0);
    BIO_free(bio);
    return ngx_http_sluice_give_scratch(scratch, out);
}

static sl_status_t subject(X509 *cert, sl_buf_t *scratch, pw_value_t *out) {
    BIO *bio = cert != NULL ? BIO_new(BIO_s_mem()) : NULL;

    if (bio == NULL) {
        return cert == NULL ? SL_NOT_FOUND : SL_NO_MEMORY;
    }
    (void)X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253);
    return from_bio(bio, scratch, out);
}

static sl_status_t first_san(X509 *cert, int type, sl_buf_t *scratch, pw_value_t *out) {
    GENERAL_NAMES *names = cert != NULL ? X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL) : NULL;
    sl_status_t rc = SL_NOT_FOUND;

    for (int i = 0; names != NULL && rc == SL_NOT_FOUND && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == type) {
            (void)sl_buf_append(scratch, ASN1_STRING_get0_data(name->d.ia5), (size_t)ASN1_STRING_length(name->d.ia5));
            rc = ngx_http_sluice_give_scratch(scratch, out);
        }
    }
    GENERAL_NAMES_free(names);
    return rc;
}

static sl_status_t sha256(X509 *cert, sl_buf_t *scratch, pw_value_t *out) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    u_char text[2 * EVP_MAX_MD_SIZE];

    if (cert == NULL || X509_digest(cert, EVP_sha256(), digest, &len) != 1) {
        return SL_NOT_FOUND;
    }
    (void)sl_buf_append(scratch, text, (size_t)(ngx_hex_dump(text, digest, len) - text));
    return ngx_http_sluice_give_scratch(scratch, out);
}

static sl_status_t pem(X509 *cert, sl_buf_t *scratch, pw_value_t *out) {
    BIO *bio = cert != NULL ? BIO_new(BIO_s_mem()) : NULL;
    char *data;
    long len;

    if (bio == NULL || PEM_write_bio_X509(bio, cert) != 1) {
        BIO_free(bio);
        return SL_NOT_FOUND;
    }
    len = BIO_get_mem_data(bio, &data);
    for (long i = 0; i < len; i++) {
        if (ngx_strchr("\n+/= ", data[i]) != NULL) {
            (void)sl_buf_printf(scratch, "%%%02X", (unsigned char)data[i]);
        } else {
            (void)sl_buf_append_char(scratch, data[i]);
        }
    }
    BIO_free(bio);
    return ngx_http_sluice_give_scratch(scratch, out);
}

/* The peer's certificate has a reference of ours. */
typedef sl_status_t (*cert_pt)(X509 *cert, sl_buf_t *scratch, pw_value_t *out);

static sl_status_t peer_cert(SSL *ssl, cert_pt what, sl_buf_t *scratch, pw_value_t *out) {
    X509 *cert = ssl != NULL ? SSL_get_peer_certificate(ssl) : NULL;
    sl_status_t rc = what(cert, scratch, out);

    X509_free(cert);
    return rc;
}

static X509 *local_cert(SSL *ssl) {
    return ssl != NULL ? SSL_get_certificate(ssl) : NULL;
}

static sl_status_t dns_san(X509 *cert, sl_buf_t *scratch, pw_value_t *out) {
    return first_san(cert, GEN_DNS, scratch, out);
}

static sl_status_t uri_san(X509 *cert, sl_buf_t *scratch, pw_value_t *out) {
    return first_san(cert, GEN_URI, scratch, out);
}

#define TLS_SIDE(side)                                                                                                                     \
    static sl_status_t get_##side##_tls_version(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {                          \
        return tls_version(side##_ssl(ctx), out);                                                                                          \
    }                                                                                                                                      \
    static sl_status_t get_##side##_subject_local(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {                        \
        return subject(local_cert(side##_ssl(ctx)), scratch, out);                                                                         \
    }                                                                                                                                      \
    static sl_status_t get_##side##_subject_peer(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {                         \
        return peer_cert(side##_ssl(ctx), subject, scratch, out);                                                                          \
    }                                                                                                                                      \
    static sl_status_t get_##side##_dns_local(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {                            \
        return dns_san(local_cert(side##_ssl(ctx)), scratch, out);                                                                         \
    }                                                                                                                                      \
    static sl_status_t get_##side##_dns_peer(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {                             \
        return peer_cert(side##_ssl(ctx), dns_san, scratch, out);                                                                          \
    }                                                                                                                                      \
    static sl_status_t get_##side##_uri_local(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {                            \
        return uri_san(local_cert(side##_ssl(ctx)), scratch, out);                                                                         \
    }                                                                                                                                      \
    static sl_status_t get_##side##_uri_peer(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {                             \
        return peer_cert(side##_ssl(ctx), uri_san, scratch, out);                                                                          \
    }                                                                                                                                      \
    static sl_status_t get_##side##_pem_peer(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {                             \
        return peer_cert(side##_ssl(ctx), pem, scratch, out);                                                                              \
    }                                                                                                                                      \
    static sl_status_t get_##side##_sha256_peer(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {                          \
        return peer_cert(side##_ssl(ctx), sha256, scratch, out);                                                                           \
    }

TLS_SIDE(client)
TLS_SIDE(upstream)

#define TLS_ROWS(prefix, side)                                                                                                             \
    {prefix ".tls_version", get_##side##_tls_version}, {prefix ".peer_certificate", get_##side##_pem_peer},                                \
        {prefix ".subject_local_certificate", get_##side##_subject_local},                                                                 \
        {prefix ".subject_peer_certificate", get_##side##_subject_peer}, {prefix ".dns_san_local_certificate", get_##side##_dns_local},    \
        {prefix ".dns_san_peer_certificate", get_##side##_dns_peer}, {prefix ".uri_san_local_certificate", get_##side##_uri_local},        \
        {prefix ".uri_san_peer_certificate", get_##side##_uri_peer}, {                                                                     \
        prefix ".sha256_peer_certificate_digest", get_##side##_sha256_peer                                                                 \
    }

static sl_status_t get_mtls(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    SSL *ssl = client_ssl(ctx);
    X509 *cert = ssl != NULL ? SSL_get_peer_certificate(ssl) : NULL;

    X509_free(cert);
    return ngx_http_sluice_give_bool(out, cert != NULL);
}

static sl_status_t get_sni(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    SSL *ssl = client_ssl(ctx);
    const char *name = ssl != NULL ? SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) : NULL;

    return ngx_http_sluice_give_str(out, name != NULL ? sl_cstr(name) : SL_STR(""));
}

const ngx_http_sluice_attribute_t ngx_http_sluice_tls_attributes[] = {
    {"connection.mtls", get_mtls},
    {"connection.requested_server_name", get_sni},
    TLS_ROWS("connection", client),
    TLS_ROWS("upstream", upstream),
    {NULL, NULL},
};

#else

void ngx_http_sluice_upstream_tls_keep(ngx_http_sluice_ctx_t *ctx) {
}

const ngx_http_sluice_attribute_t ngx_http_sluice_tls_attributes[] = {{NULL, NULL}};

#endif
