/*
 * The filters that are installed on this node: the .wasm files of one folder with their metadata files (name.meta.json).
 * A snapshot made by scanning; immutable afterwards, any thread may read it. Scanning blocks.
 */
#ifndef ND_FILTERS_H
#define ND_FILTERS_H

#include "sl_buf.h"

typedef struct nd_filters_s nd_filters_t;

typedef struct {
    const char *name; /* file name without .wasm */
    const char *path;
    sl_str_t schema; /* JSON schema of the configuration as text; {NULL,0}: none */
} nd_filter_t;

/*
 * Scans `dir` (NULL: no folder, so no filters) without recursion for regular files *.wasm, any case. `choose`: a comma list as in
 * wasm_filters: "user" and "bundled" mean all, "off" none, else names. SL_IO: not a folder, or no permission; SL_INVALID: bad
 * metadata files, all of them listed in err.
 */
sl_status_t nd_filters_scan(const char *dir, sl_str_t choose, nd_filters_t **out, sl_err_t *err);
void nd_filters_free(nd_filters_t *filters);
const char *nd_filters_dir(const nd_filters_t *filters); /* as it was given; NULL: none */
size_t nd_filters_count(const nd_filters_t *filters);
const nd_filter_t *nd_filters_at(const nd_filters_t *filters, size_t i); /* sorted by name */
const nd_filter_t *nd_filters_find(const nd_filters_t *filters, sl_str_t name);

#endif
