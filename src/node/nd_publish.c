#include "nd_publish.h"

/* Everything that the store has, and the revision that it is of. */
static sl_status_t load(st_store_t *store, json_t **entities, uint64_t *revision, sl_err_t *err) {
    st_tx_t *tx;
    sl_status_t rc = st_tx_begin(store, ST_READ, ST_ANY_REVISION, &tx, err);
    if (rc != SL_OK) {
        return rc;
    }
    *revision = st_tx_revision(tx);
    rc = st_tx_load(tx, entities, err);
    st_tx_rollback(tx);
    return rc;
}

sl_status_t nd_publish(const nd_node_t *node, st_store_t *store, uint64_t *generation, uint64_t have, uint64_t *revision, sl_err_t *err) {
    json_t *entities = NULL;
    uint64_t now = 0;
    sl_status_t rc = st_store_revision(store, &now, err);
    if (rc == SL_OK && now == have) {
        *revision = now;
        return SL_OK;
    }
    rc = rc == SL_OK ? load(store, &entities, &now, err) : rc;
    rc = rc == SL_OK ? nd_plan_write_revision(node, entities, generation, now, err) : rc;
    json_decref(entities);
    if (rc == SL_OK) {
        *revision = now;
    }
    return rc;
}
