/* Digests, identifiers and hashes. libcrypto stays in sl_digest.c. All functions are thread-safe. */
#ifndef SL_DIGEST_H
#define SL_DIGEST_H

#include "sl_types.h"

#define SL_SHA256_SIZE 32
#define SL_UUID_TEXT_SIZE 36

sl_status_t sl_sha256(sl_str_t data, uint8_t out[SL_SHA256_SIZE]);
sl_status_t sl_md5_hex(sl_str_t data, char out[33]);     /* lower case, NUL-terminated */
void sl_hex(const uint8_t *data, size_t len, char *out); /* writes 2*len characters and a NUL */
sl_status_t sl_random(void *out, size_t len);            /* cryptographically secure */

/* Text form, lower case, NUL-terminated. v4 is random, v5 is SHA-1 over namespace and name (RFC 9562). */
sl_status_t sl_uuid_v4(char out[SL_UUID_TEXT_SIZE + 1]);
sl_status_t sl_uuid_v5(sl_str_t ns_text, sl_str_t name, char out[SL_UUID_TEXT_SIZE + 1]);
bool sl_uuid_valid(sl_str_t s); /* 8-4-4-4-12 hexadecimal digits, either case */

/* A quick hash for tables in memory; not for files and not against an adversary who knows the seed. */
uint64_t sl_hash(sl_str_t s, uint64_t seed);

#endif
