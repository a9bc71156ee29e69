#include "gw_pem.h"

#include <limits.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "sl_digest.h"

/* An encrypted key has no place in a configuration; without this OpenSSL would ask on the terminal. */
static int no_password(char *buf, int size, int rwflag, void *ud) {
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)ud;
    return -1;
}

static BIO *open_text(sl_str_t pem) {
    return pem.len <= INT_MAX ? BIO_new_mem_buf(pem.data, (int)pem.len) : NULL;
}

static X509 *read_certificate(sl_str_t pem) {
    BIO *bio = open_text(pem);
    X509 *certificate = bio != NULL ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    return certificate;
}

static EVP_PKEY *read_key(sl_str_t pem) {
    BIO *bio = open_text(pem);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    return key;
}

/* What OpenSSL has to say, without its addresses and file names. */
static bool refuse(sl_err_t *err, const char *what) {
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(code);
    bool memory = ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE;
    sl_err_set(err, SL_INVALID, "invalid %s: %s", what, reason != NULL ? reason : "not readable");
    if (memory) {
        err->text[0] = '\0';
    }
    ERR_clear_error();
    return false;
}

bool gw_pem_check_certificate(sl_str_t pem, sl_err_t *err) {
    ERR_clear_error();
    X509 *certificate = read_certificate(pem);
    if (certificate == NULL) {
        return refuse(err, "certificate");
    }
    X509_free(certificate);
    return true;
}

bool gw_pem_check_key(sl_str_t pem, sl_err_t *err) {
    ERR_clear_error();
    EVP_PKEY *key = read_key(pem);
    if (key == NULL) {
        return refuse(err, "key");
    }
    EVP_PKEY_free(key);
    return true;
}

bool gw_pem_key_fits(sl_str_t certificate, sl_str_t key) {
    X509 *c = read_certificate(certificate);
    EVP_PKEY *k = read_key(key);
    bool fits = c != NULL && k != NULL && X509_check_private_key(c, k) == 1;
    X509_free(c);
    EVP_PKEY_free(k);
    ERR_clear_error();
    return fits;
}

static int algorithm_of(sl_str_t pem) {
    X509 *certificate = read_certificate(pem);
    const EVP_PKEY *key = certificate != NULL ? X509_get0_pubkey(certificate) : NULL;
    int algorithm = key != NULL ? EVP_PKEY_get_base_id(key) : NID_undef;
    X509_free(certificate);
    ERR_clear_error();
    return algorithm;
}

bool gw_pem_same_algorithm(sl_str_t certificate, sl_str_t other) {
    return algorithm_of(certificate) == algorithm_of(other);
}

static size_t count_certificates(sl_str_t pem) {
    size_t n = 0;
    BIO *bio = open_text(pem);
    X509 *certificate;
    while (bio != NULL && (certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL) {
        X509_free(certificate);
        n++;
    }
    BIO_free(bio);
    ERR_clear_error();
    return n;
}

bool gw_pem_certificate_info(sl_str_t pem, gw_pem_info_t *info) {
    struct tm end = {0};
    uint8_t raw[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    X509 *certificate = read_certificate(pem);
    *info = (gw_pem_info_t){.count = count_certificates(pem)};
    bool good = certificate != NULL && X509_digest(certificate, EVP_sha256(), raw, &len) == 1 &&
                ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) == 1;
    if (good) {
        sl_hex(raw, len, info->digest);
        info->not_after_s = (int64_t)timegm(&end);
        info->is_ca = (X509_get_extension_flags(certificate) & EXFLAG_CA) != 0;
    }
    X509_free(certificate);
    ERR_clear_error();
    return good;
}
