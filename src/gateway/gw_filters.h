/*
 * What the Admin API asks of the node about filters: which there are, and uploads. The gateway knows nothing of modules; the node
 * (src/node) has these functions. They may block. One exchange uses one of these, on one thread, and no transaction of gw_data.h is open
 * meanwhile.
 */
#ifndef GW_FILTERS_H
#define GW_FILTERS_H

#include <jansson.h>

#include "sl_buf.h"

typedef struct gw_filters_s gw_filters_t;

/* Why the last call failed. */
typedef enum {
    GW_FILTERS_FINE,
    GW_FILTERS_INPUT,      /* SL_INVALID: `field` of what was given is wrong */
    GW_FILTERS_TAKEN,      /* SL_CONFLICT: the version has this name, with other bytes */
    GW_FILTERS_REFERENCED, /* SL_CONFLICT: a filter chain needs it */
    GW_FILTERS_BUSY        /* SL_CONFLICT: too much was written at the same time */
} gw_filters_fault_t;

typedef struct {
    sl_str_t name;
    sl_str_t bytes;       /* of the module */
    sl_str_t version;     /* name of the version; {NULL,0}: none, or that of `meta` */
    const json_t *meta;   /* metadata document; NULL: that of the current version, but for its version */
    const json_t *schema; /* takes the place of its config_schema; NULL: none does */
    bool keep;            /* do not make it the current version */
} gw_upload_t;

/*
 * SL_OK: *out is a new reference. SL_NOT_FOUND: no such filter or version. SL_INVALID and SL_CONFLICT: see f->fault and f->err. Else the
 * storage cannot be used, f->err says why. A version in a call is its name, its number or its SHA-256.
 */
typedef struct {
    /* One of each name, by name: at most `limit` (0: all) after the name `after` ("" for the beginning); *more: others follow. */
    sl_status_t (*list)(gw_filters_t *f, const char *after, size_t limit, json_t **out, bool *more);
    sl_status_t (*show)(gw_filters_t *f, sl_str_t name, sl_str_t version, json_t **out); /* version {NULL,0}: the current one */
    sl_status_t (*versions)(gw_filters_t *f, sl_str_t name, json_t **out);
    sl_status_t (*upload)(gw_filters_t *f, const gw_upload_t *upload, bool *created, json_t **out);
    sl_status_t (*set_schema)(gw_filters_t *f, sl_str_t name, const json_t *schema, json_t **out);
    sl_status_t (*select)(gw_filters_t *f, sl_str_t name, sl_str_t version, json_t **out); /* {NULL,0}: no upload, but the file */
    sl_status_t (*remove)(gw_filters_t *f, sl_str_t name, sl_str_t version);               /* {NULL,0}: all of them */
} gw_filters_ops_t;

struct gw_filters_s {
    const gw_filters_ops_t *ops;
    gw_filters_fault_t fault;
    const char *field;
    sl_err_t err;
};

#endif
