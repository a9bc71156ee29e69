/*
 * Properties of a request: Envoy's attributes from what nginx knows, and ngx.<variable>. One row per attribute. What nginx has no
 * equivalent for is not in the table, and so not found.
 */
#include "ngx_http_sluice_int.h"

#if (NGX_HTTP_SSL)
#include <openssl/x509v3.h>
#endif

typedef sl_status_t (*get_pt)(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out);

static sl_status_t string(pw_value_t *out, sl_str_t s) {
    *out = (pw_value_t){.kind = PW_VALUE_STRING, .str = s};
    return SL_OK;
}

static sl_status_t integer(pw_value_t *out, int64_t i) {
    *out = (pw_value_t){.kind = PW_VALUE_INT, .i = i};
    return SL_OK;
}

static sl_status_t unsigned_integer(pw_value_t *out, uint64_t u) {
    *out = (pw_value_t){.kind = PW_VALUE_UINT, .u = u};
    return SL_OK;
}

static sl_status_t duration_ms(pw_value_t *out, ngx_msec_t ms) {
    *out = (pw_value_t){.kind = PW_VALUE_DURATION, .i = (int64_t)ms * 1000000};
    return SL_OK;
}

static sl_status_t boolean(pw_value_t *out, bool b) {
    *out = (pw_value_t){.kind = PW_VALUE_BOOL, .b = b};
    return SL_OK;
}

static sl_status_t map(pw_value_t *out, pw_map_t m) {
    *out = (pw_value_t){.kind = PW_VALUE_MAP, .map = m};
    return SL_OK;
}

static sl_status_t scratch_string(sl_buf_t *scratch, pw_value_t *out) {
    return scratch->failed ? SL_NO_MEMORY : string(out, sl_buf_str(scratch));
}

/* ---- request.* ------------------------------------------------------------------------------------------------------------------- */

static sl_status_t request_header(ngx_http_sluice_ctx_t *ctx, pw_value_t *out, sl_str_t key) {
    sl_str_t value;
    sl_status_t rc = ngx_http_sluice_in_get(ctx, key, &value);

    return rc == SL_OK ? string(out, value) : rc;
}

static sl_status_t get_path(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR(":path"));
}

static sl_status_t get_url_path(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const char *mark;

    (void)get_path(ctx, scratch, out);
    mark = out->str.len != 0 ? memchr(out->str.data, '?', out->str.len) : NULL;
    if (mark != NULL) {
        out->str.len = (size_t)(mark - out->str.data);
    }
    return SL_OK;
}

static sl_status_t get_query(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const char *mark, *end;

    (void)get_path(ctx, scratch, out);
    end = out->str.data + out->str.len;
    mark = out->str.len != 0 ? memchr(out->str.data, '?', out->str.len) : NULL;
    if (mark == NULL) {
        return string(out, SL_STR(""));
    }
    out->str = sl_str(mark + 1, (size_t)(end - mark - 1));
    mark = out->str.len != 0 ? memchr(out->str.data, '#', out->str.len) : NULL;
    if (mark != NULL) {
        out->str.len = (size_t)(mark - out->str.data);
    }
    return SL_OK;
}

static sl_status_t get_host(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR(":authority"));
}

static sl_status_t get_scheme(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR(":scheme"));
}

static sl_status_t get_method(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR(":method"));
}

static sl_status_t get_referer(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR("referer"));
}

static sl_status_t get_useragent(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR("user-agent"));
}

static sl_status_t get_request_id(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return request_header(ctx, out, SL_STR("x-request-id"));
}

static sl_status_t get_request_headers(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return map(out, PW_MAP_REQUEST_HEADERS);
}

static bool add_size(void *ud, sl_str_t key, sl_str_t value) {
    *(size_t *)ud += key.len + value.len;
    return true;
}

static sl_status_t get_request_headers_bytes(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    size_t bytes = 0;

    (void)ngx_http_sluice_in_each(ctx, add_size, &bytes);
    return integer(out, (int64_t)bytes);
}

static sl_status_t get_request_time(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_request_t *r = ctx->request;

    *out = (pw_value_t){.kind = PW_VALUE_TIMESTAMP, .i = (int64_t)r->start_sec * 1000000000 + (int64_t)r->start_msec * 1000000};
    return SL_OK;
}

static sl_status_t get_protocol(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    switch (ctx->request->http_version) {
    case NGX_HTTP_VERSION_10:
        return string(out, SL_STR("HTTP/1.0"));
    case NGX_HTTP_VERSION_11:
        return string(out, SL_STR("HTTP/1.1"));
    case NGX_HTTP_VERSION_20:
        return string(out, SL_STR("HTTP/2"));
    case 3000:
        return string(out, SL_STR("HTTP/3"));
    default:
        return SL_NOT_FOUND;
    }
}

static sl_status_t get_request_duration(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_request_t *r = ctx->request;
    ngx_time_t *now = ngx_timeofday();
    ngx_msec_int_t ms = (ngx_msec_int_t)((now->sec - r->start_sec) * 1000 + ((ngx_msec_int_t)now->msec - (ngx_msec_int_t)r->start_msec));

    if (!ctx->logged && ctx->dialect == PW_DIALECT_ENVOY) {
        return SL_NOT_FOUND; /* known when the request is over */
    }
    return duration_ms(out, (ngx_msec_t)ngx_max(ms, 0));
}

static off_t received_body(const ngx_http_request_t *r) {
    off_t header = r->header_in != NULL ? (off_t)(r->request_line.len + 2) : 0;

    for (const ngx_list_part_t *part = &r->headers_in.headers.part; part != NULL; part = part->next) {
        const ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            header += (off_t)(h[i].key.len + h[i].value.len + 4);
        }
    }
    return ngx_max(r->request_length - header - 2, 0);
}

static sl_status_t get_request_size(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_request_t *r = ctx->request;
    off_t length = r->headers_in.content_length != NULL
                       ? ngx_atoof(r->headers_in.content_length->value.data, r->headers_in.content_length->value.len)
                       : NGX_ERROR;

    return integer(out, length >= 0 ? length : received_body(r));
}

static sl_status_t get_request_total_size(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return integer(out, ctx->request->request_length);
}

static sl_status_t get_is_subrequest(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return boolean(out, ctx->request != ctx->request->main);
}

/* ---- response.* ---------------------------------------------------------------------------------------------------------------------- */

static sl_status_t get_code(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_request_t *r = ctx->request;
    ngx_uint_t status = r->err_status != 0 ? r->err_status : r->headers_out.status;

    return status == 0 || (!ctx->resp_begun && !ctx->logged) ? SL_NOT_FOUND : integer(out, (int64_t)status);
}

static sl_status_t get_code_details(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const pw_reply_t *reply = ctx->stream.pw != NULL ? pw_stream_reply(ctx->stream.pw) : NULL;

    if (!ctx->resp_begun) {
        return SL_NOT_FOUND;
    }
    if (ctx->failed) {
        return string(out, SL_STR("wasm_fail_stream"));
    }
    if (ctx->replied && reply != NULL) {
        return string(out, reply->details);
    }
    return string(out, ctx->request->upstream != NULL ? SL_STR("via_upstream") : SL_STR("direct_response"));
}

static sl_status_t get_flags(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    enum { UPSTREAM_TIMEOUT = 0x4, UPSTREAM_FAILURE = 0x20, NO_ROUTE = 0x100, DOWNSTREAM_GONE = 0x4000 };
    const ngx_http_request_t *r = ctx->request;
    int64_t flags = 0;

    if (r->upstream != NULL && !r->upstream->header_sent) {
        flags |= r->err_status == NGX_HTTP_GATEWAY_TIME_OUT ? UPSTREAM_TIMEOUT : 0;
        flags |= r->err_status == NGX_HTTP_BAD_GATEWAY ? UPSTREAM_FAILURE : 0;
    }
    flags |= r->headers_out.status == NGX_HTTP_CLIENT_CLOSED_REQUEST ? DOWNSTREAM_GONE : 0;
    return integer(out, flags);
}

static sl_status_t get_grpc_status(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_request_t *r = ctx->request;
    ngx_table_elt_t *h = ngx_http_sluice_list_find(&r->headers_out.trailers, SL_STR("grpc-status"));
    ngx_int_t n;

    if (h == NULL) {
        h = ngx_http_sluice_list_find(&r->headers_out.headers, SL_STR("grpc-status"));
    }
    n = h != NULL ? ngx_atoi(h->value.data, h->value.len) : NGX_ERROR;
    return n < 0 ? SL_NOT_FOUND : integer(out, n);
}

static sl_status_t get_response_headers(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ctx->resp_begun ? map(out, PW_MAP_RESPONSE_HEADERS) : SL_NOT_FOUND;
}

static sl_status_t get_response_trailers(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ctx->request->headers_out.trailers.part.nelts != 0 ? map(out, PW_MAP_RESPONSE_TRAILERS) : SL_NOT_FOUND;
}

static sl_status_t get_response_headers_bytes(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ctx->resp_begun ? integer(out, (int64_t)ctx->request->header_size) : SL_NOT_FOUND;
}

static sl_status_t get_response_size(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    off_t sent = ctx->request->connection->sent - (off_t)ctx->request->header_size;

    return ctx->resp_begun ? integer(out, ngx_max(sent, 0)) : SL_NOT_FOUND;
}

static sl_status_t get_response_total_size(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ctx->resp_begun ? integer(out, ctx->request->connection->sent) : SL_NOT_FOUND;
}

static const ngx_http_upstream_state_t *last_state(const ngx_http_request_t *r) {
    if (r->upstream_states == NULL || r->upstream_states->nelts == 0) {
        return NULL;
    }
    return (ngx_http_upstream_state_t *)r->upstream_states->elts + r->upstream_states->nelts - 1;
}

static sl_status_t get_backend_latency(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_upstream_state_t *state = last_state(ctx->request);

    return state == NULL || state->response_time == (ngx_msec_t)-1 ? SL_NOT_FOUND : duration_ms(out, state->response_time);
}

/* ---- source.*, destination.*
 * -------------------------------------------------------------------------------------------------------------- */

static sl_status_t address(struct sockaddr *sa, socklen_t len, sl_buf_t *scratch, pw_value_t *out) {
    u_char text[NGX_SOCKADDR_STRLEN];

    (void)sl_buf_append(scratch, text, ngx_sock_ntop(sa, len, text, sizeof(text), 1));
    return scratch_string(scratch, out);
}

static sl_status_t port(struct sockaddr *sa, pw_value_t *out) {
    return integer(out, ngx_inet_get_port(sa));
}

static ngx_connection_t *with_local(ngx_http_sluice_ctx_t *ctx) {
    ngx_connection_t *c = ctx->request->connection;

    return ngx_connection_local_sockaddr(c, NULL, 0) == NGX_OK && c->local_sockaddr != NULL ? c : NULL;
}

static sl_status_t get_source_address(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return address(ctx->request->connection->sockaddr, ctx->request->connection->socklen, scratch, out);
}

static sl_status_t get_source_port(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return port(ctx->request->connection->sockaddr, out);
}

static sl_status_t get_destination_address(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_connection_t *c = with_local(ctx);

    return c == NULL ? SL_NOT_FOUND : address(c->local_sockaddr, c->local_socklen, scratch, out);
}

static sl_status_t get_destination_port(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_connection_t *c = with_local(ctx);

    return c == NULL ? SL_NOT_FOUND : port(c->local_sockaddr, out);
}

static sl_status_t get_connection_id(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return unsigned_integer(out, ctx->request->connection->number);
}

/* ---- TLS, of the client's connection and of the upstream's
 * ----------------------------------------------------------------------------------- */

#if (NGX_HTTP_SSL)

static SSL *client_ssl(ngx_http_sluice_ctx_t *ctx) {
    ngx_connection_t *c = ctx->request->connection;

    return c->ssl != NULL ? c->ssl->connection : NULL;
}

static SSL *upstream_ssl(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_upstream_t *u = ctx->request->upstream;

    return u != NULL && u->peer.connection != NULL && u->peer.connection->ssl != NULL ? u->peer.connection->ssl->connection : NULL;
}

static sl_status_t tls_version(SSL *ssl, pw_value_t *out) {
    return ssl == NULL ? SL_NOT_FOUND : string(out, sl_cstr(SSL_get_version(ssl)));
}

static sl_status_t from_bio(BIO *bio, sl_buf_t *scratch, pw_value_t *out) {
    char *data;
    long len = BIO_get_mem_data(bio, &data);

    (void)sl_buf_append(scratch, data, len > 0 ? (size_t)len : 0);
    BIO_free(bio);
    return scratch_string(scratch, out);
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
            rc = scratch_string(scratch, out);
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
    return scratch_string(scratch, out);
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
    return scratch_string(scratch, out);
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
    static sl_status_t get_##side##_sha256_peer(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {                          \
        return peer_cert(side##_ssl(ctx), sha256, scratch, out);                                                                           \
    }

TLS_SIDE(client)
TLS_SIDE(upstream)

#define TLS_ROWS(prefix, side)                                                                                                             \
    {prefix ".tls_version", get_##side##_tls_version}, {prefix ".subject_local_certificate", get_##side##_subject_local},                  \
        {prefix ".subject_peer_certificate", get_##side##_subject_peer}, {prefix ".dns_san_local_certificate", get_##side##_dns_local},    \
        {prefix ".dns_san_peer_certificate", get_##side##_dns_peer}, {prefix ".uri_san_local_certificate", get_##side##_uri_local},        \
        {prefix ".uri_san_peer_certificate", get_##side##_uri_peer}, {                                                                     \
        prefix ".sha256_peer_certificate_digest", get_##side##_sha256_peer                                                                 \
    }

static sl_status_t get_peer_certificate(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return peer_cert(client_ssl(ctx), pem, scratch, out);
}

static sl_status_t get_mtls(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    SSL *ssl = client_ssl(ctx);
    X509 *cert = ssl != NULL ? SSL_get_peer_certificate(ssl) : NULL;

    X509_free(cert);
    return boolean(out, cert != NULL);
}

static sl_status_t get_sni(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    SSL *ssl = client_ssl(ctx);
    const char *name = ssl != NULL ? SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) : NULL;

    return string(out, name != NULL ? sl_cstr(name) : SL_STR(""));
}

#endif

/* ---- upstream.*
 * ----------------------------------------------------------------------------------------------------------------------------------- */

static sl_status_t get_upstream_address(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_upstream_state_t *state = last_state(ctx->request);

    return state == NULL || state->peer == NULL ? SL_NOT_FOUND : string(out, ngx_sluice_str(state->peer));
}

static sl_status_t get_upstream_port(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_upstream_t *u = ctx->request->upstream;

    return u == NULL || u->peer.sockaddr == NULL ? SL_NOT_FOUND : port(u->peer.sockaddr, out);
}

static sl_status_t get_upstream_local(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_upstream_t *u = ctx->request->upstream;
    ngx_connection_t *c = u != NULL ? u->peer.connection : NULL;
    ngx_sockaddr_t sa;
    socklen_t len = sizeof(sa);

    if (c == NULL || getsockname(c->fd, &sa.sockaddr, &len) != 0) {
        return SL_NOT_FOUND;
    }
    return address(&sa.sockaddr, len, scratch, out);
}

static sl_status_t get_upstream_attempts(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return unsigned_integer(out, ctx->request->upstream_states != NULL ? ctx->request->upstream_states->nelts : 0);
}

static sl_status_t get_upstream_connect_time(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    const ngx_http_upstream_state_t *state = last_state(ctx->request);

    return state == NULL || state->connect_time == (ngx_msec_t)-1 ? SL_NOT_FOUND : duration_ms(out, state->connect_time);
}

static sl_status_t get_upstream_failure(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return ctx->request->upstream != NULL ? string(out, SL_STR("")) : SL_NOT_FOUND;
}

/* ---- names
 * -------------------------------------------------------------------------------------------------------------------------------------------
 */

static sl_status_t get_cluster(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_upstream_t *u = ctx->request->upstream;

    if (u == NULL) {
        return SL_NOT_FOUND;
    }
    if (u->resolved != NULL) {
        return string(out, ngx_sluice_str(&u->resolved->host));
    }
    return u->conf == NULL || u->conf->upstream == NULL ? SL_NOT_FOUND : string(out, ngx_sluice_str(&u->conf->upstream->host));
}

static sl_status_t get_route(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_core_loc_conf_t *clcf = ngx_http_get_module_loc_conf(ctx->request, ngx_http_core_module);

    return string(out, ngx_sluice_str(&clcf->name));
}

static sl_status_t get_virtual_host(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_core_srv_conf_t *cscf = ngx_http_get_module_srv_conf(ctx->request, ngx_http_core_module);

    return string(out, ngx_sluice_str(&cscf->server_name));
}

static sl_status_t get_node_id(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return string(out, ngx_sluice_str((ngx_str_t *)&ngx_cycle->hostname));
}

/* The message Node with its field id. */
static sl_status_t get_node(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    sl_str_t id = sl_str(ngx_cycle->hostname.data, ngx_min(ngx_cycle->hostname.len, 127));

    (void)sl_buf_append_char(scratch, 0x0a);
    (void)sl_buf_append_char(scratch, (char)id.len);
    (void)sl_buf_append_str(scratch, id);
    return scratch_string(scratch, out);
}

/* Messages without any field. */
static sl_status_t get_empty(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return string(out, SL_STR(""));
}

static sl_status_t get_direction(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out) {
    return integer(out, 1); /* inbound */
}

/* ---- the table
 * ------------------------------------------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *path; /* with dots */
    get_pt get;
} attributes[] = {
    {"request.path", get_path},
    {"request.url_path", get_url_path},
    {"request.query", get_query},
    {"request.host", get_host},
    {"request.scheme", get_scheme},
    {"request.method", get_method},
    {"request.headers", get_request_headers},
    {"request.headers_bytes", get_request_headers_bytes},
    {"request.referer", get_referer},
    {"request.useragent", get_useragent},
    {"request.id", get_request_id},
    {"request.time", get_request_time},
    {"request.protocol", get_protocol},
    {"request.duration", get_request_duration},
    {"request.size", get_request_size},
    {"request.total_size", get_request_total_size},
    {"request.is_subrequest", get_is_subrequest},
    {"response.code", get_code},
    {"response.code_details", get_code_details},
    {"response.flags", get_flags},
    {"response.grpc_status", get_grpc_status},
    {"response.headers", get_response_headers},
    {"response.trailers", get_response_trailers},
    {"response.headers_bytes", get_response_headers_bytes},
    {"response.size", get_response_size},
    {"response.total_size", get_response_total_size},
    {"response.backend_latency", get_backend_latency},
    {"source.address", get_source_address},
    {"source.port", get_source_port},
    {"destination.address", get_destination_address},
    {"destination.port", get_destination_port},
    {"connection.id", get_connection_id},
    {"connection_id", get_connection_id},
#if (NGX_HTTP_SSL)
    {"connection.mtls", get_mtls},
    {"connection.requested_server_name", get_sni},
    {"connection.peer_certificate", get_peer_certificate},
    TLS_ROWS("connection", client),
    TLS_ROWS("upstream", upstream),
#endif
    {"upstream.address", get_upstream_address},
    {"upstream.port", get_upstream_port},
    {"upstream.local_address", get_upstream_local},
    {"upstream.request_attempt_count", get_upstream_attempts},
    {"upstream.cx_pool_ready_duration", get_upstream_connect_time},
    {"upstream.transport_failure_reason", get_upstream_failure},
    {"xds.cluster_name", get_cluster},
    {"cluster_name", get_cluster},
    {"xds.route_name", get_route},
    {"route_name", get_route},
    {"xds.virtual_host_name", get_virtual_host},
    {"xds.node", get_node},
    {"node", get_node},
    {"xds.node.id", get_node_id},
    {"node.id", get_node_id},
    {"metadata", get_empty},
    {"xds.cluster_metadata", get_empty},
    {"cluster_metadata", get_empty},
    {"xds.route_metadata", get_empty},
    {"route_metadata", get_empty},
    {"xds.upstream_host_metadata", get_empty},
    {"upstream_host_metadata", get_empty},
    {"xds.listener_metadata", get_empty},
    {"listener_metadata", get_empty},
    {"xds.listener_direction", get_direction},
    {"listener_direction", get_direction},
};

/* Segments are joined by NUL; a path that came as one string with dots means the same. */
static bool path_is(sl_str_t path, const char *dotted) {
    for (size_t i = 0; i < path.len; i++) {
        char c = path.data[i] == '\0' ? '.' : path.data[i];
        if (dotted[i] == '\0' || c != dotted[i]) {
            return false;
        }
    }
    return dotted[path.len] == '\0';
}

static bool path_after(sl_str_t path, const char *prefix, sl_str_t *rest) {
    size_t len = strlen(prefix);

    if (path.len <= len + 1 || (path.data[len] != '\0' && path.data[len] != '.') || !path_is(sl_str(path.data, len), prefix)) {
        return false;
    }
    *rest = sl_str(path.data + len + 1, path.len - len - 1);
    return true;
}

/* ---- one header of a map, duplicates joined
 * ------------------------------------------------------------------------------------------------------- */

typedef struct {
    sl_str_t key;
    sl_buf_t *out;
    bool found;
} join_t;

static bool join_pair(void *ud, sl_str_t key, sl_str_t value) {
    join_t *join = ud;

    if (sl_str_eq_nocase(key, join->key)) {
        if (join->found) {
            (void)sl_buf_append_char(join->out, ',');
        }
        (void)sl_buf_append_str(join->out, value);
        join->found = true;
    }
    return true;
}

static sl_status_t get_joined(ngx_http_sluice_ctx_t *ctx, pw_map_t m, sl_str_t key, sl_buf_t *scratch, pw_value_t *out) {
    join_t join = {key, scratch, false};
    sl_status_t rc = ngx_sluice_ops.map_each(ctx, m, join_pair, &join);

    if (rc != SL_OK || !join.found) {
        return SL_NOT_FOUND;
    }
    return scratch_string(scratch, out);
}

/* ---- ngx.<variable>
 * --------------------------------------------------------------------------------------------------------------------------------- */

static sl_status_t variable_name(ngx_http_request_t *r, sl_str_t name, ngx_str_t *low, ngx_uint_t *key) {
    low->data = ngx_pnalloc(r->pool, name.len + 1);
    if (low->data == NULL) {
        return SL_NO_MEMORY;
    }
    low->len = name.len;
    *key = ngx_hash_strlow(low->data, (u_char *)name.data, name.len);
    return SL_OK;
}

static sl_status_t get_variable(ngx_http_request_t *r, sl_str_t name, pw_value_t *out) {
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
    return string(out, sl_str(v->data, v->len));
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

static sl_status_t set_variable(ngx_http_request_t *r, sl_str_t name, sl_str_t value) {
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

/* ---- operations
 * ---------------------------------------------------------------------------------------------------------------------------------------
 */

sl_status_t ngx_http_sluice_property_get(void *worker, void *stream, sl_str_t path, sl_buf_t *scratch, pw_value_t *out) {
    ngx_http_sluice_ctx_t *ctx = stream;
    sl_status_t rc;
    sl_str_t rest;

    if (ctx == NULL || ctx->request->pool == NULL) {
        return SL_NOT_FOUND;
    }
    if (ctx->hooks != NULL && ctx->hooks->property_get != NULL) {
        rc = ctx->hooks->property_get(ctx->request, ctx->data, path, scratch, out);
        if (rc != SL_NOT_FOUND) {
            return rc;
        }
    }
    for (ngx_uint_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
        if (path_is(path, attributes[i].path)) {
            return attributes[i].get(ctx, scratch, out);
        }
    }
    if (path_after(path, "request.headers", &rest)) {
        return get_joined(ctx, PW_MAP_REQUEST_HEADERS, rest, scratch, out);
    }
    if (path_after(path, "response.headers", &rest)) {
        return get_joined(ctx, PW_MAP_RESPONSE_HEADERS, rest, scratch, out);
    }
    if (path_after(path, "response.trailers", &rest)) {
        return get_joined(ctx, PW_MAP_RESPONSE_TRAILERS, rest, scratch, out);
    }
    return path_after(path, "ngx", &rest) ? get_variable(ctx->request, rest, out) : SL_NOT_FOUND;
}

sl_status_t ngx_http_sluice_property_set(void *worker, void *stream, sl_str_t path, sl_str_t value) {
    ngx_http_sluice_ctx_t *ctx = stream;
    sl_status_t rc;
    sl_str_t rest;

    if (ctx == NULL || ctx->request->pool == NULL) {
        return SL_NOT_FOUND;
    }
    if (ctx->hooks != NULL && ctx->hooks->property_set != NULL) {
        rc = ctx->hooks->property_set(ctx->request, ctx->data, path, value);
        if (rc != SL_NOT_FOUND) {
            return rc;
        }
    }
    if (path_after(path, "ngx", &rest)) {
        return set_variable(ctx->request, rest, value);
    }
    if (ctx->dialect == PW_DIALECT_WASMX && path_is(path, "request.query")) {
        return set_variable(ctx->request, SL_STR("args"), value);
    }
    return SL_NOT_FOUND;
}
