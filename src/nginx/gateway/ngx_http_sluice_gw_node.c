/* Readiness and log level: one word of shared memory each, for all workers. */
#include "ngx_http_sluice_gw_observe.h"

/* ---- readiness --------------------------------------------------------------------------------------------------------- */

const char *ngx_http_sluice_gw_not_ready(void) {
    ngx_http_sluice_gw_node_shm_t *shm = ngx_http_sluice_gw_node_shm();
    if (shm != NULL && shm->draining) {
        return "draining";
    }
    return ngx_http_sluice_gw_current() != NULL ? NULL : "no configuration available";
}

void ngx_http_sluice_gw_set_draining(unsigned draining) {
    ngx_http_sluice_gw_node_shm_t *shm = ngx_http_sluice_gw_node_shm();
    if (shm != NULL) {
        shm->draining = draining;
    }
}

/* ---- log level --------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    ngx_uint_t level;
} levels[] = {
    {"emerg", NGX_LOG_EMERG},   {"alert", NGX_LOG_ALERT}, {"crit", NGX_LOG_CRIT},   {"error", NGX_LOG_ERR},       {"warn", NGX_LOG_WARN},
    {"notice", NGX_LOG_NOTICE}, {"info", NGX_LOG_INFO},   {"debug", NGX_LOG_DEBUG}, {"debug", NGX_LOG_DEBUG_ALL},
};

#define MAX_LOGS 64

/* The logs of this worker and the levels that the configuration gave them. */
static struct {
    ngx_log_t *log;
    ngx_uint_t level;
} known[MAX_LOGS];
static size_t n_known;
static ngx_atomic_uint_t applied; /* as in shared memory */

static void know(ngx_log_t *log) {
    for (size_t i = 0; i < n_known; i++) {
        if (known[i].log == log) {
            return;
        }
    }
    if (log != NULL && n_known < MAX_LOGS) {
        known[n_known].log = log;
        known[n_known++].level = log->log_level;
    }
}

static void know_all(void) {
    ngx_cycle_t *cycle = (ngx_cycle_t *)ngx_cycle;
    ngx_http_core_main_conf_t *cmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module);
    know(cycle->log);
    ngx_http_core_srv_conf_t **servers = cmcf != NULL ? cmcf->servers.elts : NULL;
    for (ngx_uint_t i = 0; servers != NULL && i < cmcf->servers.nelts; i++) {
        ngx_http_core_loc_conf_t *clcf = servers[i]->ctx->loc_conf[ngx_http_core_module.ctx_index];
        know(clcf->error_log);
    }
}

static ngx_atomic_uint_t wanted_level(void) {
    ngx_http_sluice_gw_node_shm_t *shm = ngx_http_sluice_gw_node_shm();
    if (shm == NULL || shm->log_level == 0) {
        return 0;
    }
    ngx_atomic_uint_t level = shm->log_level, until = shm->log_until;
    if (until != 0 && (ngx_atomic_uint_t)ngx_time() >= until) {
        (void)ngx_atomic_cmp_set(&shm->log_level, level, 0);
        return 0;
    }
    return level;
}

void ngx_http_sluice_gw_apply_log_level(void) {
    ngx_atomic_uint_t wanted = wanted_level();
    if (wanted == applied) {
        return;
    }
    know_all();
    for (size_t i = 0; i < n_known; i++) {
        known[i].log->log_level = wanted != 0 ? (ngx_uint_t)wanted - 1 : known[i].level;
    }
    applied = wanted;
}

const char *ngx_http_sluice_gw_log_level(void) {
    ngx_atomic_uint_t wanted = wanted_level();
    if (n_known == 0) {
        know_all();
    }
    ngx_uint_t level = wanted != 0 ? (ngx_uint_t)wanted - 1 : known[0].level;
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (levels[i].level >= level) {
            return levels[i].name;
        }
    }
    return "debug";
}

void ngx_http_sluice_gw_set_log_level(void *ud, const char *level, unsigned seconds) {
    ngx_http_sluice_gw_node_shm_t *shm = ngx_http_sluice_gw_node_shm();
    (void)ud;
    for (size_t i = 0; shm != NULL && i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (ngx_strcmp(levels[i].name, level) == 0) {
            ngx_uint_t n = levels[i].level == NGX_LOG_DEBUG ? NGX_LOG_DEBUG_ALL : levels[i].level;
            shm->log_until = seconds != 0 ? (ngx_atomic_uint_t)time(NULL) + seconds : 0;
            ngx_memory_barrier();
            shm->log_level = n + 1;
            return;
        }
    }
}

/* ---- timers ------------------------------------------------------------------------------------------------------------- */

static size_t count_nodes(ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel) {
    return node == sentinel ? 0 : 1 + count_nodes(node->left, sentinel) + count_nodes(node->right, sentinel);
}

size_t ngx_http_sluice_gw_count_timers(void) {
    return count_nodes(ngx_event_timer_rbtree.root, ngx_event_timer_rbtree.sentinel);
}
