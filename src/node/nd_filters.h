/*
 * The filters that are installed on this node: the .wasm files of one folder with their metadata files (name.meta.json), and the modules
 * that were uploaded to the store. A filter has versions; one of them is the current one, which chain entries get that do not name another:
 *
 *   name --- uploaded versions: numbers, the newest first; the active one is current
 *        \-- the file of this name: current when no upload is active, else it is shadowed
 *
 * A snapshot, made by one thread with scan, add_store and identify, immutable afterwards: any thread may read it. Making it blocks.
 */
#ifndef ND_FILTERS_H
#define ND_FILTERS_H

#include <jansson.h>

#include "nd_modules.h"
#include "sl_buf.h"
#include "store.h"

typedef struct nd_filters_s nd_filters_t;

/* A version of a filter. */
typedef struct {
    const char *name;
    const char *path; /* of the file; NULL: it is in the store */
    sl_str_t schema;  /* JSON schema of the configuration as text; {NULL,0}: none */
    sl_str_t version; /* as its metadata names it; {NULL,0}: no name */
    sl_str_t meta;    /* the metadata as text; {NULL,0}: none */
    uint32_t number;  /* of the upload; 0: a file */
    nd_sha256_t sha256;
    uint64_t size_bytes;
    int64_t created_at_s; /* uploads only */
    bool current;
    bool held; /* what is current is not what is installed, which does not start (nd_filters_hold) */
} nd_filter_t;

/* Which version an entry of a chain is to get. */
typedef struct {
    sl_str_t name;
    sl_str_t version; /* a name or a number; {NULL,0}: any */
    sl_str_t sha256;  /* {NULL,0}: any */
} nd_filter_ref_t;

/*
 * Scans `dir` (NULL: no folder, so no filters) without recursion for regular files *.wasm, any case. `choose`: a comma list as in
 * wasm_filters: "user" and "bundled" mean all, "off" none, else names. SL_IO: not a folder, or no permission; SL_INVALID: bad
 * metadata files, all of them listed in err.
 */
sl_status_t nd_filters_scan(const char *dir, sl_str_t choose, nd_filters_t **out, sl_err_t *err);
/* Adds the uploads; `tx` is open. Those that `choose` does not name are left out. */
sl_status_t nd_filters_add_store(nd_filters_t *filters, st_tx_t *tx, sl_err_t *err);
/* Finds out the SHA-256 of every file; that of one that cannot be read stays empty. */
void nd_filters_identify(nd_filters_t *filters, nd_modules_t *modules);
/* Adds a version that is in no store yet and makes it current, for trying it. */
sl_status_t nd_filters_add(nd_filters_t *filters, const nd_filter_t *filter, sl_err_t *err);
/* Makes a version current (0: the file of this name); `found` (may be NULL): whether there is one. Then no upload of the name is. */
void nd_filters_make_current(nd_filters_t *filters, sl_str_t name, uint32_t number, bool *found);
/* Leaves a version out (0: all uploads of the name). */
void nd_filters_remove(nd_filters_t *filters, sl_str_t name, uint32_t number);
/* The current version of a name becomes the module `sha256`, of which there is a copy, in place of the file that is there (or was). */
sl_status_t nd_filters_hold(nd_filters_t *filters, sl_str_t name, const char *sha256, sl_err_t *err);
void nd_filters_free(nd_filters_t *filters);

const char *nd_filters_dir(const nd_filters_t *filters);                 /* as it was given; NULL: none */
bool nd_filters_chosen(const nd_filters_t *filters, sl_str_t name);      /* whether wasm_filters lets this name in */
size_t nd_filters_count(const nd_filters_t *filters);                    /* versions of all names */
const nd_filter_t *nd_filters_at(const nd_filters_t *filters, size_t i); /* by name; of a name the current one first, then the newest */
/* The current version of a name; NULL: there is none. */
const nd_filter_t *nd_filters_find(const nd_filters_t *filters, sl_str_t name);
/* The version that a reference means: of several the current one, or else the newest. NULL: none. */
const nd_filter_t *nd_filters_resolve(const nd_filters_t *filters, const nd_filter_ref_t *ref);
/* A reference as an entry of a chain has it. Borrows. */
nd_filter_ref_t nd_filter_ref(const json_t *entry);
/* Changes with everything that decides what runs. */
sl_status_t nd_filters_fingerprint(const nd_filters_t *filters, uint8_t out[SL_SHA256_SIZE]);

#endif
