/*
 * Writing one list of the router: the leaves that are left once host and path have been looked up. Internal to the builders.
 */
#ifndef GW_ROUTER_LIST_H
#define GW_ROUTER_LIST_H

#include "gw_plan_writer.h"

typedef struct {
    gw_img_item_t item;
    uint32_t cond; /* of its leaf */
} gw_candidate_t;

/* `c` is in leaf order and not empty. Answers the list's index; a failure is the writer's. */
uint32_t gw_router_list_add(gw_writer_t *w, const gw_candidate_t *c, size_t n, bool traditional);

#endif
