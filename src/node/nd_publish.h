/*
 * From the store to the plan that the workers serve. Blocks. Who publishes holds the lock over all workers of the node (or is the only
 * process that there is), so that one plan is built at a time and none overtakes another.
 *
 * The plan names the module of each filter, so whatever changes which module runs is published: an upload, another current version, and a
 * file of the filters folder that has changed. Nobody tried such a file before, so it is tried here; one that does not start is left alone,
 * and its filter goes on with the module that the plan there is names.
 */
#ifndef ND_PUBLISH_H
#define ND_PUBLISH_H

#include "nd_config.h"
#include "store.h"

#define ND_NO_REVISION UINT64_MAX

typedef struct {
    const json_t *loaded; /* all that the store has at `loaded_revision`, if somebody has read it already; NULL: nobody has */
    uint64_t loaded_revision;
    uint64_t have;       /* the revision that the plan there is was built from; ND_NO_REVISION: build in any case */
    uint64_t generation; /* the least that it may be; out: what it became, as nd_plan_write() says */
    uint64_t revision;   /* out: what the plan there is now was built from */
    bool written;        /* out: there is a new plan */
    sl_err_t shadow;     /* out: text "" or which upload shadows a file, once for each name */
    sl_err_t note;       /* out: text "" or what the log should have of a file that does not start, once for each content */
} nd_publication_t;

/*
 * Builds the plan of what the store has and of what is installed now, and writes it, unless nothing of it has changed. node->filters is not
 * used. `base`: a plan of this store that is in service; what has not changed since is taken over from it. NULL: everything is read and
 * built. SL_INVALID: the plan cannot be built, the text names the entity.
 */
sl_status_t nd_publish(const nd_node_t *node, st_store_t *store, const gw_plan_t *base, nd_publication_t *p, sl_err_t *err);

#endif
