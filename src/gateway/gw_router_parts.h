/*
 * What the files that build the router share (gw_router_leaves.c, gw_router_build.c). Internal to them.
 */
#ifndef GW_ROUTER_PARTS_H
#define GW_ROUTER_PARTS_H

#include "gw_router.h"

typedef struct {
    gw_img_rank_t rank;
    gw_img_leaf_t record;
    const gw_router_route_t *route; /* NULL: it is of the base */
    uint32_t was;                   /* leaf of the base */
    uint32_t at;                    /* its number now */
} gw_router_leaf_t;

typedef struct {
    gw_writer_t *w;
    const gw_image_t *base; /* NULL: there is none */
    const uint32_t *stay;   /* by route of the base: the route now whose leaves are the same, or GW_NONE */
    bool traditional;
    gw_router_leaf_t *kept, *fresh; /* in order of precedence */
    size_t n_kept, n_fresh;
    uint32_t *old_at; /* by leaf of the base: its number now, or GW_NONE */
    sl_err_t *err;
} gw_router_t;

sl_status_t gw_router_no_memory(gw_router_t *r);

/* Makes the leaves of `routes`, keeps those of the base that stay, and writes leaves, ranks and conditions. */
sl_status_t gw_router_leaves(gw_router_t *r, const gw_router_route_t *routes, size_t n);

#endif
