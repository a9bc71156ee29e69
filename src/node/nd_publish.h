/*
 * From the store to the plan that the workers serve. Blocks. Who publishes holds the lock over all workers of the node (or is the only
 * process that there is), so that one plan is built at a time and none overtakes another.
 */
#ifndef ND_PUBLISH_H
#define ND_PUBLISH_H

#include "nd_config.h"
#include "store.h"

/*
 * Builds the plan of what the store has now and writes it; `generation` as in nd_plan_write(). `have`: the revision that the plan there is
 * was built from; when the store is still there nothing is written (ND_NO_REVISION: build in any case). *revision: what the plan is built
 * from now. SL_INVALID: the plan cannot be built, the text names the entity.
 * `base`: a plan of this store that is in service; what has not changed since is taken over from it. NULL: everything is read and built.
 */
#define ND_NO_REVISION UINT64_MAX
sl_status_t nd_publish(const nd_node_t *node, st_store_t *store, const gw_plan_t *base, uint64_t *generation, uint64_t have,
                       uint64_t *revision, sl_err_t *err);

#endif
