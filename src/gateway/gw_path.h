/*
 * Request paths: the form in which routes see them, and the path that a service is asked for. Pure; any thread.
 */
#ifndef GW_PATH_H
#define GW_PATH_H

#include "sl_buf.h"

/* The path of a request target: cut at the first '?', scheme and authority of the absolute form removed, at least "/". Borrowed. */
sl_str_t gw_path_of_target(sl_str_t target);

/*
 * Appends the normalised form (RFC 3986, 6.2.2): %XX decoded unless it stands for a reserved character (or for no character
 * at all: "%zz" stays), kept ones in upper case, repeated slashes merged, dot segments resolved. Never longer than `path`.
 * `path` must not lie in `out`. A path is normalised when it is its own normal form.
 */
sl_status_t gw_path_normalize(sl_str_t path, sl_buf_t *out);

typedef struct {
    sl_str_t base;   /* the service's path, "/" when it has none; not empty */
    sl_str_t path;   /* of the request, normalised */
    bool has_prefix; /* a path attribute matched... */
    size_t prefix;   /* ...this many bytes of `path` */
    bool strip;      /* strip_path */
    bool v1;         /* path_handling v1 */
} gw_path_join_t;

/* Upper bound of what gw_path_join appends. */
size_t gw_path_join_max(const gw_path_join_t *j);

/* Appends the path to ask the service for, every byte that is neither unreserved, reserved nor '%' as %XX. `path` may lie in
 * `out` when gw_path_join_max() bytes are reserved there. */
sl_status_t gw_path_join(const gw_path_join_t *j, sl_buf_t *out);

#endif
