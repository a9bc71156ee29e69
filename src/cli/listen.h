/* Listen values in Kong's full syntax: "ip:port [flags], ip:port [flags]" or "off". */
#ifndef LISTEN_H
#define LISTEN_H

#include "sl_buf.h"

#define LISTEN_MAX 32

typedef struct {
    char address[128]; /* "127.0.0.1:8000", "[::1]:8000" or "unix:/path" */
    char flags[256];   /* for nginx's listen directive, in canonical order */
    bool ssl, http2;
} listen_t;

typedef struct {
    listen_t at[LISTEN_MAX];
    size_t n;
} listens_t;

/* SL_INVALID: the text names `origin`, the entry and what is allowed. */
sl_status_t listens_parse(const char *value, const char *origin, listens_t *out, sl_err_t *err);
/* SL_INVALID: an address of `l` is there twice, or is in `others` too: nginx would let one of the two servers answer for both. The text
 * names `origin` and, for the latter, `other_name`. */
sl_status_t listens_distinct(const listens_t *l, const char *origin, const listens_t *others, const char *other_name, sl_err_t *err);
/* Tries to bind each address for a moment, but for those that `conf`, the running nginx.conf, has; NULL: none runs. SL_CONFLICT: busy;
 * SL_IO: no permission; the text names `variable` as the one to set, and who holds the port: workers that a killed master of `prefix` has
 * left behind are said to be that. */
sl_status_t listens_probe(const listens_t *l, const char *variable, const char *conf, const char *prefix, sl_err_t *err);

#endif
