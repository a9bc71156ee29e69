/*
 * Calls out of filters, counted: metrics of the host in the zone of metrics, one for each filter, kind and reason of failures.
 *
 * How many calls are in flight is known to the process that made them, and a process that is killed does not say good-bye. So each has a
 * seat, and counts for that only; a seat whose process is gone counts nothing, and the next process that takes it begins at nothing.
 * Workers of two configurations, of which the older ones are about to end, have seats of their own.
 */
#include "ngx_sluice_state_int.h"

#include <stdlib.h>

#include "sh_prometheus.h"

#define SEATS_MAX 1024
#define NO_SEAT SEATS_MAX
#define SEATS "\001seats" /* gauges by number, their value is the pid of who has the seat */

/* The name is `kind:reason:filter`; of those in flight `kind:seat:filter`. */
static const struct {
    sh_metric_type_t type;
    const char *owner, *name, *help;
} call_rows[] = {
    {SH_COUNTER, "\001calls", "sluice_calls_total", "Calls that a filter has made."},
    {SH_COUNTER, "\001calls_failed", "sluice_calls_failed_total", "Those of them that failed."},
    {SH_COUNTER, "\001calls_dropped", "sluice_calls_dropped_total",
     "Those of whose end the filter was not told: it has cancelled them, or it, or what they were made for, had gone."},
    {SH_GAUGE, "\001calls_in_flight", "sluice_calls_in_flight", "Those that have not ended."},
};
enum { CALLS, CALLS_FAILED, CALLS_DROPPED, CALLS_IN_FLIGHT, CALL_ROWS };

/* Cuts the text before the next colon off the front. */
static sl_str_t next_part(sl_str_t *rest) {
    const char *colon = memchr(rest->data, ':', rest->len);
    sl_str_t part = sl_str(rest->data, colon != NULL ? (size_t)(colon - rest->data) : rest->len);
    size_t used = part.len + (colon != NULL);

    *rest = sl_str(rest->data + used, rest->len - used);
    return part;
}

/* ---- seats ------------------------------------------------------------------------------------------------------------------- */

static struct {
    uint32_t number; /* NO_SEAT: all are taken, or there was no room */
    ngx_pid_t pid;   /* that has it: a process inherits this from its parent */
    char text[8];
} seat = {.number = NO_SEAT};

static uint32_t seat_metric(sh_metrics_t *metrics, uint32_t number) {
    char name[8];
    uint32_t id = 0;
    int n = snprintf(name, sizeof(name), "%u", number);

    (void)sh_metric_define(metrics, SH_GAUGE, SL_STR(SEATS), sl_str(name, (size_t)n), &id);
    return id;
}

static ngx_uint_t is_there(uint64_t pid) {
    return pid != 0 && (kill((pid_t)pid, 0) == 0 || ngx_errno != NGX_ESRCH);
}

/* With the lock: two that start at the same time take two seats. */
static ngx_uint_t take_seat(sh_metrics_t *metrics, uint32_t id) {
    ngx_uint_t taken = 0;
    uint64_t pid;

    metrics->lock(metrics->ud);
    if (sh_metric_get(metrics, id, &pid) == SL_OK && (pid == (uint64_t)ngx_pid || !is_there(pid))) {
        taken = sh_metric_record(metrics, id, (uint64_t)ngx_pid) == SL_OK;
    }
    metrics->unlock(metrics->ud);
    return taken;
}

/* What the process before this one left. */
static void clear_seat(sh_metrics_t *metrics) {
    sh_metric_view_t view;

    for (uint32_t id = 1; sh_metric_view(metrics, id, &view); id++) {
        sl_str_t rest = view.name;
        (void)next_part(&rest);
        if (sl_str_eq(view.owner, sl_cstr(call_rows[CALLS_IN_FLIGHT].owner)) && sl_str_eq(next_part(&rest), sl_cstr(seat.text))) {
            (void)sh_metric_record(metrics, id, 0);
        }
    }
}

/* A process that reads its configuration anew stays where it is: calls of the one before still count there. */
static ngx_uint_t keep_seat(sh_metrics_t *metrics) {
    uint32_t id = seat.number != NO_SEAT && seat.pid == ngx_pid ? seat_metric(metrics, seat.number) : 0;

    return id != 0 && take_seat(metrics, id);
}

void ngx_sluice_calls_start(ngx_sluice_state_t *st) {
    sh_metrics_t *metrics = &st->metrics->metrics;

    if (keep_seat(metrics)) {
        return;
    }
    seat.number = NO_SEAT;
    for (uint32_t number = 0; number < SEATS_MAX; number++) {
        uint32_t id = seat_metric(metrics, number);
        if (id == 0) {
            return;
        }
        if (take_seat(metrics, id)) {
            seat.number = number;
            seat.pid = ngx_pid;
            (void)snprintf(seat.text, sizeof(seat.text), "%u", number);
            clear_seat(metrics);
            return;
        }
    }
}

/* ---- counting ---------------------------------------------------------------------------------------------------------------- */

/* The metric that a row was last added to: most calls are of the filter that made the one before. */
static struct {
    const sh_metrics_t *metrics; /* NULL: none */
    const char *kind;
    char filter[200];
    size_t len;
    uint32_t id;
} latest[CALL_ROWS];

static uint32_t call_metric(sh_metrics_t *metrics, ngx_uint_t row, sl_str_t filter, const char *kind, const char *reason) {
    size_t len = ngx_min(filter.len, sizeof(latest[row].filter));
    char name[256];
    uint32_t id = 0;
    int n;

    if (reason == NULL && latest[row].metrics == metrics && latest[row].kind == kind && latest[row].len == len &&
        ngx_memcmp(latest[row].filter, filter.data, len) == 0) {
        return latest[row].id;
    }
    n = snprintf(name, sizeof(name), "%s:%s:%.*s", kind,
                 row == CALLS_IN_FLIGHT ? seat.text
                 : reason != NULL       ? reason
                                        : "",
                 (int)len, filter.data);
    if (sh_metric_define(metrics, call_rows[row].type, sl_cstr(call_rows[row].owner), sl_str(name, (size_t)n), &id) != SL_OK) {
        return 0;
    }
    if (reason == NULL) {
        latest[row].metrics = metrics;
        latest[row].kind = kind;
        latest[row].len = len;
        latest[row].id = id;
        ngx_memcpy(latest[row].filter, filter.data, len);
    }
    return id;
}

static void call_add(ngx_sluice_conf_t *scf, ngx_uint_t row, sl_str_t filter, const char *kind, const char *reason, int64_t delta) {
    sh_metrics_t *metrics = &scf->state->metrics->metrics;
    uint32_t id = row != CALLS_IN_FLIGHT || seat.number != NO_SEAT ? call_metric(metrics, row, filter, kind, reason) : 0;

    if (id != 0) {
        (void)sh_metric_add(metrics, id, delta);
    }
}

void ngx_sluice_call_note(ngx_sluice_conf_t *scf, pw_root_t *root, const char *kind, ngx_sluice_call_note_e note, const char *reason) {
    sl_str_t filter = pw_filter_name(pw_root_filter(root));

    if (scf->state == NULL) {
        return;
    }
    switch (note) {
    case NGX_SLUICE_CALL_STARTED:
        call_add(scf, CALLS, filter, kind, NULL, 1);
        call_add(scf, CALLS_IN_FLIGHT, filter, kind, NULL, 1);
        return;
    case NGX_SLUICE_CALL_ENDED:
        call_add(scf, CALLS_IN_FLIGHT, filter, kind, NULL, -1);
        return;
    case NGX_SLUICE_CALL_FAILED:
        call_add(scf, CALLS_FAILED, filter, kind, reason, 1);
        return;
    case NGX_SLUICE_CALL_DROPPED:
        call_add(scf, CALLS_DROPPED, filter, kind, NULL, 1);
    }
}

void ngx_sluice_call_refused(ngx_sluice_conf_t *scf, pw_root_t *root, const char *kind) {
    static time_t complained;

    ngx_sluice_call_note(scf, root, kind, NGX_SLUICE_CALL_STARTED, NULL);
    ngx_sluice_call_note(scf, root, kind, NGX_SLUICE_CALL_ENDED, NULL);
    ngx_sluice_call_note(scf, root, kind, NGX_SLUICE_CALL_FAILED, NGX_SLUICE_CALL_NO_ROOM);
    if (complained != ngx_time()) {
        complained = ngx_time();
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[proxy-wasm] no room for a call of \"%*s\": those in flight hold %uz bytes",
                      pw_filter_name(pw_root_filter(root)).len, pw_filter_name(pw_root_filter(root)).data, scf->call_bytes.used);
    }
}

/* ---- what operators see ---------------------------------------------------------------------------------------------------- */

static void render_line(ngx_uint_t row, sl_str_t kind, sl_str_t reason, sl_str_t filter, int64_t value, sl_buf_t *out) {
    sl_buf_printf(out, "%s{kind=\"%.*s\",", call_rows[row].name, SL_FMT(kind));
    if (reason.len != 0) {
        sl_buf_append_cstr(out, "reason=\"");
        sh_prometheus_label(out, reason);
        sl_buf_append_cstr(out, "\",");
    }
    sl_buf_append_cstr(out, "filter=\"");
    sh_prometheus_label(out, filter);
    sl_buf_printf(out, "\"} %lld\n", (long long)value);
}

static void render_row(const sh_metrics_t *metrics, ngx_uint_t row, sl_buf_t *out) {
    sh_metric_view_t view;
    ngx_uint_t any = 0;

    for (uint32_t id = 1; sh_metric_view(metrics, id, &view); id++) {
        sl_str_t filter = view.name, kind = next_part(&filter), reason = next_part(&filter);
        if (!sl_str_eq(view.owner, sl_cstr(call_rows[row].owner))) {
            continue;
        }
        if (!any) {
            sh_prometheus_head(out, call_rows[row].name, "counter", call_rows[row].help);
        }
        any = 1;
        render_line(row, kind, reason, filter, (int64_t)view.value, out);
    }
}

/* Those in flight, over all seats. */
typedef struct {
    sl_str_t kind, filter;
    int64_t value;
} flight_t;

static int by_name(const void *a, const void *b) {
    const flight_t *x = a, *y = b;
    int rc = sl_str_cmp(x->kind, y->kind);

    return rc != 0 ? rc : sl_str_cmp(x->filter, y->filter);
}

/* taken[n]: whose process is there; number: of a name of those in flight. */
static ngx_uint_t counts(const uint8_t *taken, sl_str_t number) {
    ngx_int_t n = ngx_atoi((u_char *)(uintptr_t)number.data, number.len);

    return n >= 0 && n < SEATS_MAX && taken[n];
}

static size_t collect(const sh_metrics_t *metrics, flight_t *flights, size_t max) {
    uint8_t taken[SEATS_MAX] = {0};
    sh_metric_view_t view;
    size_t n = 0;

    for (uint32_t id = 1; n < max && sh_metric_view(metrics, id, &view); id++) {
        if (sl_str_eq(view.owner, SL_STR(SEATS))) {
            ngx_int_t number = ngx_atoi((u_char *)(uintptr_t)view.name.data, view.name.len);
            if (number >= 0 && number < SEATS_MAX) {
                taken[number] = is_there(view.value) != 0;
            }
        } else if (sl_str_eq(view.owner, sl_cstr(call_rows[CALLS_IN_FLIGHT].owner))) {
            sl_str_t filter = view.name, kind = next_part(&filter), number = next_part(&filter);
            /* A seat is defined before what is counted for it. */
            flights[n++] = (flight_t){kind, filter, counts(taken, number) ? (int64_t)view.value : 0};
        }
    }
    return n;
}

static void render_flights(const sh_metrics_t *metrics, sl_buf_t *out) {
    size_t max = sh_metrics_count(metrics), n;
    flight_t *flights = malloc((max + 1) * sizeof(*flights));

    if (flights == NULL) {
        return;
    }
    n = collect(metrics, flights, max);
    qsort(flights, n, sizeof(*flights), by_name);
    if (n != 0) {
        sh_prometheus_head(out, call_rows[CALLS_IN_FLIGHT].name, "gauge", call_rows[CALLS_IN_FLIGHT].help);
    }
    for (size_t i = 0; i < n; i++) {
        int64_t value = flights[i].value;
        while (i + 1 < n && by_name(&flights[i], &flights[i + 1]) == 0) {
            value += flights[++i].value;
        }
        render_line(CALLS_IN_FLIGHT, flights[i].kind, SL_STR_NULL, flights[i].filter, value, out);
    }
    free(flights);
}

void ngx_sluice_calls_render(ngx_sluice_state_t *st, sl_buf_t *out) {
    for (ngx_uint_t row = CALLS; row < CALLS_IN_FLIGHT; row++) {
        render_row(&st->metrics->metrics, row, out);
    }
    render_flights(&st->metrics->metrics, out);
}
