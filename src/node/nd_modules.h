/*
 * Filter modules as files under the prefix, named by their SHA-256: <prefix>/state/modules/<sha256>.wasm. The plan says which modules run;
 * workers load them from here, whatever has become of the file or the row of the store that they came from. What is here is a copy: it may
 * be deleted at any time and is written again from where it came.
 *
 *   file in the filters folder --+
 *                                +--> <sha256>.wasm (checked when written and when read) --> compiled code, in the cache
 *   row of the store ------------+
 *
 * The object also remembers what is costly to find out again: digests of files that did not change, modules that have been compiled. One
 * per process; any thread. Everything but new and free may block.
 */
#ifndef ND_MODULES_H
#define ND_MODULES_H

#include "sl_buf.h"
#include "sl_digest.h"

typedef struct nd_modules_s nd_modules_t;

#define ND_SHA256_TEXT (2 * SL_SHA256_SIZE)
#define ND_MODULE_YOUNG_S 120 /* so old is what an upload that is being tried has written, at most */
#define ND_MODULE_MAX_BYTES ((size_t)256 * 1024 * 1024)

typedef char nd_sha256_t[ND_SHA256_TEXT + 1]; /* lower-case hexadecimal; "": not known */

/* `folder` NULL: no copies are made. NULL: no memory. */
nd_modules_t *nd_modules_new(const char *folder);
void nd_modules_free(nd_modules_t *m); /* NULL is fine */

void nd_sha256_of(sl_str_t bytes, nd_sha256_t out);                        /* "" if it cannot be computed */
bool nd_sha256_valid(sl_str_t text);                                       /* 64 lower-case hexadecimal digits */
bool nd_sha256_bytes(const nd_sha256_t text, uint8_t out[SL_SHA256_SIZE]); /* false: it is not known */

/* SHA-256 and size of a file; read again only when its inode, size or times have changed. */
sl_status_t nd_modules_digest(nd_modules_t *m, const char *path, nd_sha256_t sha256, uint64_t *size_bytes, sl_err_t *err);

/* Appends a copy. SL_NOT_FOUND: there is none; SL_INVALID: it is not what its name says, and has been deleted. */
sl_status_t nd_modules_read(nd_modules_t *m, const char *sha256, sl_buf_t *out, sl_err_t *err);
/* Writes a copy, as a whole or not at all; one of this size stays as it is. */
sl_status_t nd_modules_write(nd_modules_t *m, const char *sha256, sl_str_t bytes, sl_err_t *err);
/* Deletes copies that are not among `keep` and that nobody has written for two minutes. */
void nd_modules_sweep(nd_modules_t *m, const nd_sha256_t *keep, size_t n);

/* Whether this process has compiled the module, and its copy is still there. */
bool nd_modules_ready(nd_modules_t *m, const char *sha256);
void nd_modules_set_ready(nd_modules_t *m, const char *sha256, uint64_t size_bytes);

/* What has been said, and modules that did not start and are not to be tried again and again: by a SHA-256. true: it is new to the list,
 * which forgets everything when it is full. */
bool nd_modules_note(nd_modules_t *m, const char *sha256);
bool nd_modules_noted(nd_modules_t *m, const char *sha256);

/* Whether what was installed is as it was at the last call; the first one says no. */
bool nd_modules_unchanged(nd_modules_t *m, const uint8_t fingerprint[SL_SHA256_SIZE]);

#endif
