/*
 * Filters as the Admin API sees them (gw_filters.h): what is installed on this node, and with a store uploads of new versions. Blocks.
 *
 *   upload --> valid module? --> copy and compiled code --> a snapshot of the store at revision R: do the chains that would change start?
 *              --> write transaction, if the store is still at R (else again) --> committed; publishing (nd_publish.h) makes workers change
 */
#ifndef ND_UPLOADS_H
#define ND_UPLOADS_H

#include "gw_filters.h"
#include "nd_config.h"
#include "store.h"

typedef struct {
    gw_filters_t base;
    const nd_node_t *node;
    st_store_t *store; /* NULL: none; what is in node->filters can be read */
    uint64_t revision; /* of the last commit; 0: none */
} nd_uploads_t;

/* Borrows node and store. node->filters is what is installed, with the uploads. */
void nd_uploads_init(nd_uploads_t *u, const nd_node_t *node, st_store_t *store);

#endif
