/*
 * An open store as the Admin API's data (gw_data.h), and one exchange of the Admin API over it. Blocks; one thread at a time per store.
 */
#ifndef ND_DATA_H
#define ND_DATA_H

#include "gw_admin.h"
#include "nd_config.h"
#include "store.h"

typedef struct {
    gw_data_t base;
    st_store_t *store;
    st_tx_t *tx;
    uint64_t revision;               /* of the last commit; 0: none */
    uint8_t modules[SL_SHA256_SIZE]; /* digest of the uploads that are known; a writer must not find others (then `stale` is set) */
    bool knows_modules, stale;
} nd_data_t;

/* Borrows the store. NULL: it could not be opened, the caller sets base.err; every transaction fails with it. */
void nd_data_init(nd_data_t *d, st_store_t *store);

/*
 * gw_admin_handle() with the store behind it. Filters of new and changed chains are tried between two goes, so that no writer waits for a
 * filter that compiles. env->data and env->try_* are set here. *revision: of the store when something was committed, else 0. The answer
 * to POST /config is a refusal. `store` NULL: it could not be opened, *err says why; what needs no store is answered all the same.
 * node->filters is not used: what is installed is looked up; if that cannot be done there are none, and *note (may be NULL) says why, else
 * its text is "". Returns whether the store itself failed, with the text that the log should have.
 */
sl_status_t nd_admin_handle(const nd_node_t *node, st_store_t *store, const gw_admin_request_t *req, gw_admin_env_t *env,
                            gw_admin_response_t *resp, uint64_t *revision, sl_err_t *note, sl_err_t *err);

#endif
