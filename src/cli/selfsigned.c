#include "selfsigned.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include "sl_digest.h"
#include "sl_file.h"

static bool add_extension(X509 *cert, int nid, const char *value) {
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    bool ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

static bool fill(X509 *cert, EVP_PKEY *key) {
    uint64_t serial;
    if (sl_random(&serial, sizeof(serial)) != SL_OK) {
        return false;
    }
    X509_NAME *name = X509_get_subject_name(cert);
    return X509_set_version(cert, 2) == 1 && ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -3600) != NULL && X509_gmtime_adj(X509_getm_notAfter(cert), 3650L * 86400) != NULL &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0) == 1 &&
           X509_set_issuer_name(cert, name) == 1 && X509_set_pubkey(cert, key) == 1 &&
           add_extension(cert, NID_subject_alt_name, "DNS:localhost") && X509_sign(cert, key, EVP_sha256()) != 0;
}

static sl_status_t write_pem(BIO *bio, const char *path, sl_err_t *err) {
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    return sl_file_write_atomic(path, sl_str(data, (size_t)len), 0600, err);
}

sl_status_t selfsigned_ensure(const char *cert_path, const char *key_path, sl_err_t *err) {
    if (access(cert_path, R_OK) == 0 && access(key_path, R_OK) == 0) {
        return SL_OK;
    }
    sl_status_t rc = sl_err_set(err, SL_FAILED, "%s: cannot make a self-signed certificate", cert_path);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    BIO *key_bio = BIO_new(BIO_s_mem());
    BIO *cert_bio = BIO_new(BIO_s_mem());
    if (key != NULL && cert != NULL && key_bio != NULL && cert_bio != NULL && fill(cert, key) &&
        PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL) == 1 && PEM_write_bio_X509(cert_bio, cert) == 1) {
        rc = write_pem(key_bio, key_path, err);
        if (rc == SL_OK) {
            rc = write_pem(cert_bio, cert_path, err);
        }
    }
    BIO_free(cert_bio);
    BIO_free(key_bio);
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}
