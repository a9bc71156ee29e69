#include "nd_publish.h"

typedef struct {
    json_t *entities, *gone; /* gone NULL: entities are all there are */
    uint64_t revision;
} content_t;

static void content_free(content_t *c) {
    json_decref(c->entities);
    json_decref(c->gone);
}

/* What changed since `base`, or without it everything the store has. */
static sl_status_t load(st_store_t *store, const gw_plan_t *base, content_t *c, sl_err_t *err) {
    st_tx_t *tx;
    *c = (content_t){.entities = NULL};
    sl_status_t rc = st_tx_begin(store, ST_READ, ST_ANY_REVISION, &tx, err);
    if (rc != SL_OK) {
        return rc;
    }
    c->revision = st_tx_revision(tx);
    rc = base != NULL ? st_tx_changes(tx, gw_plan_store_revision(base), &c->entities, &c->gone, err) : st_tx_load(tx, &c->entities, err);
    st_tx_rollback(tx);
    return rc;
}

static sl_status_t publish(const nd_node_t *node, st_store_t *store, const gw_plan_t *base, uint64_t *generation, uint64_t *revision,
                           sl_err_t *err) {
    content_t c;
    sl_status_t rc = load(store, base, &c, err);
    rc = rc == SL_OK ? nd_plan_write_revision(node, base, c.entities, c.gone, generation, c.revision, err) : rc;
    if (rc == SL_OK) {
        *revision = c.revision;
    }
    content_free(&c);
    return rc;
}

sl_status_t nd_publish(const nd_node_t *node, st_store_t *store, const gw_plan_t *base, uint64_t *generation, uint64_t have,
                       uint64_t *revision, sl_err_t *err) {
    uint64_t now = 0;
    sl_status_t rc = st_store_revision(store, &now, err);
    if (rc == SL_OK && now == have) {
        *revision = now;
        return SL_OK;
    }
    if (rc != SL_OK) {
        return rc;
    }
    /* Whatever speaks against an update, the whole is asked: it says what is wrong, if anything is. */
    if (base != NULL && gw_plan_store_revision(base) != 0 && publish(node, store, base, generation, revision, NULL) == SL_OK) {
        return SL_OK;
    }
    return publish(node, store, NULL, generation, revision, err);
}
