/*
 * What a name stands for to whoever wants to call it: an upstream's targets, or the address of a service. Read from a plan; the plan's
 * bytes stay valid as long as it is open.
 */
#ifndef GW_TARGETS_H
#define GW_TARGETS_H

#include "gw_plan.h"

/* One target, `host:port`, borrowed for the call; weight > 0. false: stop. */
typedef bool (*gw_target_each_t)(void *ud, sl_str_t target, uint32_t weight);

/*
 * Calls `each` for the targets of the upstream with this name, in id order, those of weight 0 left out; or else once for the service with
 * this name, if it is enabled, with *tls as its protocol says (targets say nothing about it: *tls is not changed). SL_NOT_FOUND: neither.
 * `from`: any number; the target to begin with is that one, modulo the number of targets.
 */
sl_status_t gw_targets_each(const gw_plan_t *plan, sl_str_t name, size_t from, gw_target_each_t each, void *ud, bool *tls);

#endif
