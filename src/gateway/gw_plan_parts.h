/*
 * What the files that build a plan share (gw_plan_build.c, gw_plan_chains.c). Internal.
 */
#ifndef GW_PLAN_PARTS_H
#define GW_PLAN_PARTS_H

#include "gw_plan.h"
#include "gw_plan_writer.h"

/* One entity with its id; in id order its position is its index in the image. */
typedef struct {
    sl_str_t id;
    const json_t *json;
} gw_entry_t;

typedef struct {
    gw_entry_t *items;
    size_t n;
} gw_table_t;

typedef struct {
    gw_writer_t w;
    gw_table_t services, routes, chains, plugins;
    /* by service and by route: its own enabled filters, in the filters section */
    gw_range_t *service_filters, *route_filters;
    const gw_plan_conf_t *conf;
    sl_err_t *err;
} gw_build_t;

sl_status_t gw_build_no_memory(gw_build_t *b);

/* The caller frees t->items, whatever the outcome. */
sl_status_t gw_table_init(gw_build_t *b, gw_table_t *t, const char *collection, const json_t *object);
uint32_t gw_table_find(const gw_table_t *t, sl_str_t id); /* GW_NONE: not there */
/* The entity that {"id": ...} in `field` refers to; *out GW_NONE when it is unset. */
sl_status_t gw_foreign(gw_build_t *b, const gw_entry_t *from, const char *field, const gw_table_t *to, uint32_t *out);

/* Writes the filters of every service and route: those of its chain, then those that are configured as plugins. */
sl_status_t gw_build_filters(gw_build_t *b);
/* A runnable chain: the service's filters, then the route's. GW_NONE when there are none. */
uint32_t gw_build_chain(gw_build_t *b, gw_range_t of_service, gw_range_t of_route);

#endif
