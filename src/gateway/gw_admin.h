/*
 * The Admin API as a pure function: request and current plan in, response out. No I/O and no event loop; what must be done
 * (replace the configuration) is an answer of the function, carried out by the caller, who then asks for the final response.
 * Any thread. The answer to HEAD has the body that GET would have; who sends it leaves the body out.
 */
#ifndef GW_ADMIN_H
#define GW_ADMIN_H

#include "gw_config.h"
#include "gw_data.h"
#include "gw_filters.h"
#include "gw_plan.h"

typedef struct {
    sl_str_t method; /* "GET" */
    sl_str_t path;   /* raw, percent-encoded, without query */
    sl_str_t query;  /* without '?' */
    sl_str_t content_type;
    size_t n_content_types;  /* two are refused */
    sl_str_t accept_headers; /* Access-Control-Request-Headers of an OPTIONS */
    sl_str_t if_match, if_none_match;
    sl_str_t body;
} gw_admin_request_t;

typedef struct {
    int status;
    sl_buf_t body;            /* the caller inits and deinits */
    const char *content_type; /* NULL: none */
    sl_buf_t headers;         /* "Name: value\n" lines beyond those every answer has */
} gw_admin_response_t;

/* What only the running gateway knows; members may be zero where they are unknown. */
typedef struct {
    const char *version; /* "0.1.0" */
    const char *node_id;
    const char *hostname;
    const char *prefix;
    bool wasm_enabled;
    bool db_less;
    json_t *configuration; /* for GET /, secrets already masked; borrowed */
    json_t *filters;       /* for GET /status: what is counted about filters; borrowed, NULL: nothing */
    json_t *filter_memory; /* likewise: of all filters of a worker, by its number */
    uint64_t connections_accepted, connections_active, connections_handled, connections_reading, connections_writing, connections_waiting,
        total_requests;
    const int64_t *worker_pids;
    size_t n_workers;
    int64_t master_pid;
    const char *not_ready; /* why no requests are served; NULL: they are */
    const char *log_level; /* "notice" */
    size_t n_timers;       /* of the worker that answers */
    unsigned worker_id;
} gw_admin_info_t;

typedef enum {
    GW_ADMIN_DONE,    /* the response is complete */
    GW_ADMIN_REPLACE, /* POST /config was valid: try `*entities` (new reference), then gw_admin_replaced() */
    GW_ADMIN_AGAIN    /* nothing was done: what try_filters answered SL_AGAIN to has to be known first; then ask again */
} gw_admin_next_t;

typedef struct {
    const gw_plan_t *plan; /* the running configuration */
    gw_data_t *data;       /* the store; NULL: entities are read from the plan and cannot be written */
    /*
     * Do the filters of an entity (a filter chain) start? SL_INVALID: the text says which does not and why. SL_AGAIN: not known yet; the
     * exchange goes on without its changes being kept, and its answer is GW_ADMIN_AGAIN unless it fails otherwise. May be NULL.
     */
    sl_status_t (*try_filters)(void *ud, const char *collection, const json_t *entity, sl_err_t *err);
    void *try_ud;
    gw_filters_t *filters; /* NULL: nothing is known of them, /filters is not found */
    gw_validate_env_t validate;
    gw_admin_info_t info;
    /* Makes all workers log at `level` for so many seconds (0: until the next reload). On the calling thread; NULL: cannot be changed. */
    void (*set_log_level)(void *ud, const char *level, unsigned seconds);
    void *host_ud;
} gw_admin_env_t;

typedef struct {
    json_t *entities;
    char config_hash[33];
} gw_admin_replace_t;

gw_admin_next_t gw_admin_handle(const gw_admin_request_t *req, const gw_admin_env_t *env, gw_admin_response_t *resp,
                                gw_admin_replace_t *replace);
/* Completes the answer of a replacement: rc SL_OK -> 201 with the entities; SL_INVALID -> 400 code 14 with err (a filter that refused
 * its configuration...) ; SL_AGAIN -> 429 with Retry-After; else 500. */
void gw_admin_replaced(gw_admin_replace_t *replace, sl_status_t rc, const sl_err_t *err, gw_admin_response_t *resp);

#endif
