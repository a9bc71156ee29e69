/*
 * Where the gateway's parts meet outside nginx: a validated configuration is tried (every filter compiled and started once on a
 * canary whose effects are recorded, not performed), compiled into a plan and written. Used by the CLI before the start and by
 * a worker's thread for POST /config; blocks, so never on the event loop. Any thread, one call at a time per node object.
 */
#ifndef ND_CONFIG_H
#define ND_CONFIG_H

#include "engine.h"
#include "gw_config.h"
#include "gw_plan.h"
#include "nd_filters.h"
#include "sl_cache.h"
#include "sl_filter_opts.h"

typedef struct {
    sl_engine_t *engine;
    sl_cache_t *cache;           /* may be NULL */
    const nd_filters_t *filters; /* what is installed */
    sl_filter_opts_t opts;       /* of filters, where their entries say nothing; zeroed: the defaults */
    bool wasm_enabled;
    bool traditional;      /* router flavor */
    const char *plan_path; /* where the plan is written */
} nd_node_t;

#define ND_MODULE_MAX_BYTES ((size_t)256 * 1024 * 1024)

/* Reads and compiles (or loads from the cache) an installed filter's module. The caller owns the reference. */
sl_status_t nd_module_load(const nd_node_t *node, sl_str_t filter, sl_module_t **out, sl_err_t *err);

/* gw_validate_env_t over the installed filters; `now_s` is taken here. */
void nd_validate_env(const nd_node_t *node, gw_validate_env_t *env);

/* Compiles every named filter and starts each distinct (filter, configuration) of enabled entries once. SL_INVALID: the text names
 * the chain, the entry and the filter, and why. */
sl_status_t nd_config_try(const nd_node_t *node, const json_t *entities, sl_err_t *err);

/*
 * Builds the plan and writes it (old or new, never a mix). *generation: the least that it may be; what it became, which is above that of
 * the plan that was there. Processes may do it at the same time: a lock beside the plan makes them wait for each other.
 */
sl_status_t nd_plan_write(const nd_node_t *node, const json_t *entities, sl_str_t config_hash, sl_str_t config_text, uint64_t *generation,
                          sl_err_t *err);
/*
 * The same for entities of a store, which has no text, at a revision. `base`: the plan of before, `entities` and `gone` are what has
 * changed since (gw_plan_update(), whose SL_CONFLICT is passed on); NULL: they are all. The store can be asked again: this does not wait
 * for the disk.
 */
sl_status_t nd_plan_write_revision(const nd_node_t *node, const gw_plan_t *base, const json_t *entities, const json_t *gone,
                                   uint64_t *generation, uint64_t revision, sl_err_t *err);

#endif
