/* Small endpoints about the node: readiness, timers, log level, health of targets, and what other gateways have there. */
#include <stdio.h>
#include <stdlib.h>

#include "gw_admin_parts.h"
#include "gw_checks.h"

/* ---- readiness, timers, what is not there -------------------------------------------------------------------------------- */

void gw_admin_ready(gw_admin_t *a) {
    const char *why = a->env->info.not_ready;
    gw_admin_message(a, why == NULL ? 200 : 503, why == NULL ? "ready" : why);
}

void gw_admin_timers(gw_admin_t *a) {
    const gw_admin_info_t *info = &a->env->info;
    json_int_t n = (json_int_t)info->n_timers;
    gw_admin_json(a, 200,
                  json_pack("{s:{s:i,s:I},s:{s:{s:I,s:I,s:i},s:{}}}", "worker", "id", (int)info->worker_id, "count",
                            (json_int_t)info->n_workers, "stats", "sys", "total", n, "pending", n, "running", 0, "timers"));
}

/* There is nothing that could be stale: workers read the plan itself. */
void gw_admin_cache(gw_admin_t *a) {
    if (a->method == GW_DELETE) {
        gw_admin_empty(a, 204);
    } else {
        gw_admin_not_found(a);
    }
}

void gw_admin_no_cluster(gw_admin_t *a) {
    gw_admin_message(a, 400, "this endpoint is only available when Kong is configured to run as Control Plane for the cluster");
}

/* ---- log level ----------------------------------------------------------------------------------------------------------- */

#define LOG_LEVEL_SECONDS 60
#define LOG_LEVEL_SECONDS_MAX 31536000

static const char *level_named(sl_str_t name) {
    static const char *const levels[] = {"debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"};
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (sl_str_eq(name, sl_cstr(levels[i]))) {
            return levels[i];
        }
    }
    return NULL;
}

static void set_level(gw_admin_t *a, sl_str_t wanted) {
    sl_err_t text;
    const char *level = level_named(wanted);
    const gw_arg_t *timeout = gw_admin_arg(a, "timeout");
    char *end = NULL;
    long seconds = timeout != NULL && timeout->value.len > 0 ? strtol(timeout->value.data, &end, 10) : LOG_LEVEL_SECONDS;
    if (level == NULL) {
        sl_err_set(&text, SL_INVALID, "unknown log level: %.*s", SL_FMT(wanted));
        gw_admin_message(a, 400, text.text);
    } else if ((end != NULL && *end != '\0') || seconds < 0 || seconds > LOG_LEVEL_SECONDS_MAX) {
        gw_admin_message(a, 400, "timeout must be a number of seconds");
    } else if (sl_str_eq(wanted, sl_cstr(a->env->info.log_level))) {
        sl_err_set(&text, SL_OK, "log level is already %s", level);
        gw_admin_message(a, 200, text.text);
    } else {
        a->env->set_log_level(a->env->host_ud, level, (unsigned)seconds);
        gw_admin_message(a, 200, "log level changed");
    }
}

void gw_admin_log_level(gw_admin_t *a) {
    sl_err_t text;
    const char *now = a->env->info.log_level;
    if (a->method != GW_PUT) {
        sl_err_set(&text, SL_OK, "log level: %s", now != NULL ? now : "unknown");
        gw_admin_message(a, 200, text.text);
    } else if (a->env->info.db_less || a->env->set_log_level == NULL || now == NULL) {
        gw_admin_message(a, 405, "cannot change log level when not using a database");
    } else {
        set_level(a, a->segments[3]);
    }
}

/* ---- health of targets --------------------------------------------------------------------------------------------------- */

#define NO_HEALTH "HEALTHCHECKS_OFF"

static json_t *weights_of(json_int_t weight) {
    return json_pack("{s:I,s:I,s:i}", "total", weight, "available", weight, "unavailable", 0);
}

/* A target with what the balancer knows of it. */
static json_t *health_row(gw_admin_t *a, const json_t *target) {
    sl_str_t host = SL_STR_NULL;
    int port = 0;
    const char *name = json_string_value(json_object_get(target, "target"));
    json_int_t weight = json_integer_value(json_object_get(target, "weight"));
    json_t *row = gw_shallow_copy(target);
    if (name != NULL) {
        gw_host_split(sl_cstr(name), &host, &port);
    }
    json_t *data = json_pack("{s:s%,s:i,s:I,s:o}", "host", host.data != NULL ? host.data : "", host.len, "port", port, "nodeWeight", weight,
                             "weight", weights_of(weight));
    a->failed = json_object_set_new(row, "health", json_string(NO_HEALTH)) != 0 || a->failed;
    a->failed = json_object_set_new(row, "data", data) != 0 || a->failed;
    return row;
}

static json_t *all_health(gw_admin_t *a, const json_t *targets, json_int_t *weight) {
    size_t i;
    const json_t *target;
    json_t *rows = json_array();
    *weight = 0;
    json_array_foreach(targets, i, target) {
        *weight += json_integer_value(json_object_get(target, "weight"));
        a->failed = json_array_append_new(rows, health_row(a, target)) != 0 || a->failed;
    }
    return rows;
}

/* The upstream of the path; NULL: answered. */
static json_t *upstream_of_path(gw_admin_t *a) {
    json_t *upstream = gw_admin_begin(a) ? gw_admin_load(a, "upstreams", a->segments[1], NULL) : NULL;
    if (upstream == NULL && a->resp->status == 0) {
        gw_admin_not_found(a);
    }
    return upstream;
}

void gw_admin_upstream_health(gw_admin_t *a) {
    json_t *upstream = upstream_of_path(a);
    const gw_arg_t *whole = gw_admin_arg(a, "balancer_health");
    const char *id = json_string_value(json_object_get(upstream, "id")), *node = a->env->info.node_id;
    if (upstream == NULL) {
        return;
    }
    json_int_t weight;
    json_t *targets = gw_admin_children(a, "targets", "upstream", id), *rows = all_health(a, targets, &weight);
    if (whole != NULL && sl_str_eq(whole->value, SL_STR("1"))) {
        json_t *data =
            json_pack("{s:s,s:s,s:{s:o,s:o}}", "id", id, "health", NO_HEALTH, "details", "weight", weights_of(weight), "hosts", rows);
        rows = data;
    }
    gw_admin_json(a, 200, json_pack("{s:o,s:n,s:s}", "data", rows, "next", "node_id", node != NULL ? node : ""));
    json_decref(targets);
    json_decref(upstream);
}

void gw_admin_set_health(gw_admin_t *a) {
    json_t *upstream = upstream_of_path(a);
    if (upstream != NULL) {
        gw_admin_message(a, 501, "the health of a target cannot be set: this gateway has no health checks yet");
    }
    json_decref(upstream);
}
