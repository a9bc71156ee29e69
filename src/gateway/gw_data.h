/*
 * Where the Admin API reads and writes entities: an open plan (read-only), or a store behind the same functions (nd_data.h). One exchange
 * of the Admin API uses one of these, on one thread. Entities are canonical (gw_config.h).
 */
#ifndef GW_DATA_H
#define GW_DATA_H

#include "gw_config.h"
#include "gw_plan.h"

typedef struct gw_data_s gw_data_t;

/* Why the last call failed, where a status does not say enough. */
typedef enum {
    GW_FAULT_NONE,
    GW_FAULT_UNIQUE,     /* SL_CONFLICT: `field` (or several, with commas between) has a value that another entity has */
    GW_FAULT_REFERENCED, /* SL_CONFLICT: an entity of `other_collection` refers to the entity */
    GW_FAULT_NO_PARENT,  /* SL_INVALID, at the latest from commit: `field` refers to `other_id`, which does not exist */
    GW_FAULT_BUSY        /* SL_CONFLICT: waited for other writers in vain */
} gw_fault_kind_t;

typedef struct {
    gw_fault_kind_t kind;
    char collection[32], id[37]; /* of the entity that was put or deleted */
    char field[64];
    char other_collection[32], other_id[37];
} gw_fault_t;

/* A page of a collection, in id order. */
typedef struct {
    const char *after;                    /* an id; NULL or "": from the beginning */
    size_t limit;                         /* at least 1 */
    const char *parent_field, *parent_id; /* only those whose reference is this; NULL: all */
    const char *const *tags;              /* only those with all of these tags, or any of them */
    size_t n_tags;
    bool any_tag;
} gw_query_t;

/*
 * SL_OK, SL_NOT_FOUND (get, find, erase), SL_CONFLICT and SL_INVALID with a fault; anything else means that the storage cannot be used, and
 * d->err says why. Entities and lists are new references, untouched otherwise.
 */
typedef struct {
    /* NULL: nothing can be written, and there are no transactions. A transaction sees one state and its own writes. */
    sl_status_t (*begin)(gw_data_t *d, bool write);
    sl_status_t (*commit)(gw_data_t *d); /* ends it in any case */
    void (*rollback)(gw_data_t *d);

    /* `revision` may be NULL; *revision 0: entities have none here. */
    sl_status_t (*get)(gw_data_t *d, const char *collection, sl_str_t id, json_t **entity, uint64_t *revision);
    sl_status_t (*find)(gw_data_t *d, const char *collection, const char *field, sl_str_t value, json_t **entity, uint64_t *revision);
    sl_status_t (*list)(gw_data_t *d, const char *collection, const gw_query_t *query, json_t **list, bool *more);
    sl_status_t (*put)(gw_data_t *d, const char *collection, const json_t *entity, uint64_t *revision);
    sl_status_t (*erase)(gw_data_t *d, const char *collection, sl_str_t id);
} gw_data_ops_t;

struct gw_data_s {
    const gw_data_ops_t *ops;
    gw_fault_t fault;
    sl_err_t err;
};

static inline bool gw_data_writable(const gw_data_t *d) {
    return d->ops->begin != NULL;
}

/* For implementations of `list`. */
bool gw_query_has_tags(const gw_query_t *query, const json_t *entity);

/* ---- a plan ------------------------------------------------------------------------------------------------------------- */

typedef struct {
    gw_data_t base;
    const gw_plan_t *plan;
} gw_plan_data_t;

/* `plan` is borrowed. Nothing to free. */
void gw_plan_data_init(gw_plan_data_t *d, const gw_plan_t *plan);

#endif
