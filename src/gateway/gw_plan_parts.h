/*
 * What the files that build a plan share. Internal.
 *
 *   gw_plan_tables.c   entities of before and changes become tables; entities, keys, links and tags in the image
 *   gw_plan_chains.c   the filters of services and routes
 *   gw_plan_build.c    services, routes; all of it
 *   gw_router_*.c      the router
 *
 * A full build is an update of nothing. In an update the sections that others refer into and that nobody walks through (strings,
 * conditions, headers, texts, regexes) are taken over whole, so that references into them stay what they are; what is no longer
 * used of them goes with the next full build. All others are written anew, from records of before where nothing has changed.
 */
#ifndef GW_PLAN_PARTS_H
#define GW_PLAN_PARTS_H

#include "gw_plan.h"
#include "gw_plan_writer.h"
#include "gw_schema.h"

const gw_image_t *gw_plan_image(const gw_plan_t *plan);

/* One entity with its id; in id order its position is its index in the image. */
typedef struct {
    sl_str_t id;
    const json_t *json; /* gw_entry_json() gives it; NULL: not parsed yet */
    uint32_t was;       /* entity of the base with this id, or GW_NONE */
    bool kept;          /* it is as it was */
    bool owned;         /* json is a reference of ours */
} gw_entry_t;

typedef struct {
    sl_str_t name;
    const gw_entity_t *kind;        /* NULL: none that we know */
    const gw_img_collection_t *old; /* NULL: new */
    gw_entry_t *items;
    size_t n;
    uint32_t first; /* number of its first entity over all collections */
    gw_range_t links;
} gw_table_t;

typedef struct {
    gw_writer_t w;
    const gw_image_t *base; /* NULL: there is none */
    gw_table_t *tables;     /* by name */
    size_t n_tables;
    gw_table_t *services, *routes, *chains, *plugins; /* of `tables`, or an empty one */
    gw_table_t none;
    uint32_t *moved; /* entity of the base -> entity now, GW_NONE: gone */
    /* by service and by route: its own enabled filters, in the filters section */
    gw_range_t *service_filters, *route_filters;
    const gw_plan_conf_t *conf;
    sl_err_t *err;
} gw_build_t;

sl_status_t gw_build_no_memory(gw_build_t *b);

/* Fills b->tables and b->moved, and writes all sections of entities. */
sl_status_t gw_build_tables(gw_build_t *b, const json_t *changed, const json_t *gone);
void gw_build_tables_free(gw_build_t *b);

uint32_t gw_table_find(const gw_table_t *t, sl_str_t id); /* position in the table; GW_NONE: not there */
/* The entity, parsed if need be; NULL without memory. */
const json_t *gw_entry_json(gw_build_t *b, gw_entry_t *e);
/* The entity that {"id": ...} in `field` refers to; *out GW_NONE when it is unset. */
sl_status_t gw_foreign(gw_build_t *b, gw_entry_t *from, const char *field, const gw_table_t *to, uint32_t *out);
/* The links of table `t` whose reference `field` is entity `parent` (over all collections): a range of the links section. */
gw_range_t gw_table_links(const gw_build_t *b, const gw_table_t *t, uint32_t parent, sl_str_t field);

/* Position in the table of now of the record `index` of services or routes of the base, GW_NONE: gone. */
uint32_t gw_table_moved(const gw_build_t *b, const gw_table_t *t, uint32_t index);

/* Writes the filters of every service and route: those of its chain, then those that are configured as plugins. */
sl_status_t gw_build_filters(gw_build_t *b);
/* A runnable chain: the service's filters, then the route's. GW_NONE when there are none. */
uint32_t gw_build_chain(gw_build_t *b, gw_range_t of_service, gw_range_t of_route);

#endif
