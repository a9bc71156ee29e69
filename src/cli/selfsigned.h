/* A self-signed certificate for the built-in TLS listeners, so that they work before the operator has one. */
#ifndef SELFSIGNED_H
#define SELFSIGNED_H

#include "sl_types.h"

/* Writes EC P-256 key (mode 0600) and certificate (10 years, CN=localhost) unless both files exist. */
sl_status_t selfsigned_ensure(const char *cert_path, const char *key_path, sl_err_t *err);

#endif
