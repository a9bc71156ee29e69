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
    nd_modules_t *modules; /* copies of the modules that the plan names; NULL: none are made */
    /*
     * Told of each plan, under the lock of its file; NULL: nobody is. The image is borrowed. A plan of the store (revision not 0) comes
     * before its file is written: whoever can do without the file answers true, and nothing fails any more for a file that cannot be
     * written.
     */
    bool (*share)(void *ud, sl_str_t image, uint64_t generation, uint64_t revision);
    void *share_ud;
    const char *store_path;   /* where modules are that have no copy; NULL: no store */
    const char *filters_path; /* for nd_filters_open(); NULL: none */
    sl_str_t filters_choose;
} nd_node_t;

/*
 * What is installed now: the files, and with `tx` (may be NULL) the uploads. Uploads are of no use while wasm is off, so there are none.
 * The caller owns *out.
 */
sl_status_t nd_filters_open(const nd_node_t *node, st_tx_t *tx, nd_filters_t **out, sl_err_t *err);

/*
 * Compiles (or loads from the cache) the module of an installed version, and makes its copy. The caller owns the reference. SL_CONFLICT:
 * the file changed since it was identified.
 */
sl_status_t nd_module_load(const nd_node_t *node, const nd_filter_t *filter, sl_module_t **out, sl_err_t *err);
/* Its bytes: the copy, or where they come from. Appends. */
sl_status_t nd_module_read(const nd_node_t *node, const nd_filter_t *filter, sl_buf_t *out, sl_err_t *err);
/* The same by its SHA-256, as the plan names it; `name` is for the text. A copy that is missing or damaged is written again. */
sl_status_t nd_module_load_sha256(const nd_node_t *node, sl_str_t name, const uint8_t sha256[SL_SHA256_SIZE], sl_module_t **out,
                                  sl_err_t *err);
/* The version that an entry of a chain gets. SL_NOT_FOUND: the text names what is missing. */
sl_status_t nd_filter_of(const nd_node_t *node, const json_t *entry, const nd_filter_t **out, sl_err_t *err);

/* gw_validate_env_t over the installed filters; `now_s` is taken here. */
void nd_validate_env(const nd_node_t *node, gw_validate_env_t *env);

/* Compiles every named filter and starts each distinct (filter, configuration) of enabled entries once. SL_INVALID: the text names
 * the chain, the entry and the filter, and why. */
sl_status_t nd_config_try(const nd_node_t *node, const json_t *entities, sl_err_t *err);

/* The same for the entries that run the current version of `name`, and no others. */
sl_status_t nd_config_try_filter(const nd_node_t *node, const json_t *entities, sl_str_t name, sl_err_t *err);

/*
 * Builds the plan and writes it (old or new, never a mix). *generation: the least that it may be; what it became, which is above that of
 * the plan that was there. Processes may do it at the same time: a lock beside the plan makes them wait for each other.
 */
sl_status_t nd_plan_write(const nd_node_t *node, const json_t *entities, sl_str_t config_hash, uint64_t *generation, sl_err_t *err);
/*
 * The same for entities of a store, at a revision. `base`: the plan of before, `entities` and `gone` are what has
 * changed since (gw_plan_update(), whose SL_CONFLICT is passed on); NULL: they are all. `installed`: what nd_filters_fingerprint() said of
 * the installed filters. The store can be asked again: this does not wait for the disk.
 */
sl_status_t nd_plan_write_revision(const nd_node_t *node, const gw_plan_t *base, const json_t *entities, const json_t *gone,
                                   uint64_t *generation, uint64_t revision, const uint8_t installed[SL_SHA256_SIZE], sl_err_t *err);

#endif
