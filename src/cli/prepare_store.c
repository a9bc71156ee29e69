/* What a start and the commands on the store share. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "cli.h"
#include "nd_publish.h"
#include "prepare.h"

sl_status_t prepare_link_store(const prepared_t *p, sl_err_t *err) {
    char path[4200], now[4200];
    snprintf(path, sizeof(path), "%s/sluice.db", p->prefix);
    ssize_t n = readlink(path, now, sizeof(now) - 1);
    now[n < 0 ? 0 : n] = '\0';
    if (strcmp(now, PREPARE_STORE) == 0) {
        return SL_OK;
    }
    if (n < 0 && errno == EINVAL) {
        return sl_err_set(err, SL_CONFLICT, "%s is in the way: the store is %s/" PREPARE_STORE "; move one to the other's place", path,
                          p->prefix);
    }
    if ((n >= 0 && unlink(path) != 0) || symlink(PREPARE_STORE, path) != 0) {
        return sl_err_set(err, SL_IO, "%s: %s", path, strerror(errno));
    }
    return SL_OK;
}

static bool has_plan(const char *path) {
    gw_plan_t *plan;
    if (gw_plan_open_file(path, &plan, NULL) != SL_OK) {
        return false;
    }
    gw_plan_close(plan);
    return true;
}

static sl_status_t load(st_store_t *store, json_t **entities, uint64_t *revision, sl_err_t *err) {
    st_tx_t *tx;
    sl_status_t rc = st_tx_begin(store, ST_READ, ST_ANY_REVISION, &tx, err);
    if (rc == SL_OK) {
        *revision = st_tx_revision(tx);
        rc = st_tx_load(tx, entities, err);
        st_tx_rollback(tx);
    }
    return rc;
}

sl_status_t prepare_load_store(const prepared_t *p, json_t **entities, sl_err_t *err) {
    char path[4200];
    uint64_t revision;
    st_store_t *store = NULL;
    snprintf(path, sizeof(path), "%s/" PREPARE_STORE, p->prefix);
    st_conf_t conf = {.path = path, .busy_timeout_ms = 30000};
    sl_status_t rc = st_store_open(&conf, &store, err);
    rc = rc == SL_OK ? load(store, entities, &revision, err) : rc;
    st_store_close(store);
    return rc;
}

/* *broken: the store is why it failed. */
static sl_status_t publish(nd_node_t *node, const char *path, bool *broken, sl_err_t *err) {
    st_conf_t conf = {.path = path};
    st_store_t *store = NULL;
    json_t *entities = NULL;
    nd_publication_t p = {.have = ND_NO_REVISION, .generation = 1};
    sl_status_t rc = st_store_open(&conf, &store, err);
    rc = rc == SL_OK ? load(store, &entities, &p.loaded_revision, err) : rc;
    rc = rc == SL_OK ? prepare_node_uploads(node, store, err) : rc;
    *broken = rc != SL_OK;
    rc = rc == SL_OK ? nd_config_try(node, entities, err) : rc;
    p.loaded = entities;
    rc = rc == SL_OK ? nd_publish(node, store, NULL, &p, err) : rc;
    st_store_close(store);
    json_decref(entities);
    return rc;
}

sl_status_t prepare_plan_from_store(nd_node_t *node, const prepared_t *p, sl_err_t *err) {
    char path[4200], line[sizeof(err->text) + 64];
    bool broken;
    snprintf(path, sizeof(path), "%s/" PREPARE_STORE, p->prefix);
    sl_status_t rc = publish(node, path, &broken, err);
    if (rc == SL_OK || !broken || !has_plan(node->plan_path)) {
        return rc;
    }
    snprintf(line, sizeof(line), "%s; the last good configuration is served", err->text);
    cli_warn(line);
    return SL_OK;
}
