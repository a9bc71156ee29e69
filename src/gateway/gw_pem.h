/*
 * Certificates and keys in PEM, as far as validation looks at them. Pure; any thread. Inside src/gateway; gw_pem.c is the one file
 * here that sees OpenSSL. Texts are read as far as their first certificate or key.
 */
#ifndef GW_PEM_H
#define GW_PEM_H

#include "sl_types.h"

/* Checks of single texts: false with "invalid certificate: ..." or "invalid key: ..." (empty: out of memory). */
bool gw_pem_check_certificate(sl_str_t pem, sl_err_t *err);
bool gw_pem_check_key(sl_str_t pem, sl_err_t *err);

/* Both must have passed their checks. */
bool gw_pem_key_fits(sl_str_t certificate, sl_str_t key);
/* Do the certificates' keys have the same algorithm (RSA, EC)? */
bool gw_pem_same_algorithm(sl_str_t certificate, sl_str_t other);

typedef struct {
    size_t count;        /* certificates in the text */
    bool is_ca;          /* basic constraint CA:TRUE */
    int64_t not_after_s; /* seconds since the epoch */
    char digest[65];     /* SHA-256 of the certificate, lower-case hexadecimal */
} gw_pem_info_t;

/* false: no certificate. */
bool gw_pem_certificate_info(sl_str_t pem, gw_pem_info_t *info);

#endif
