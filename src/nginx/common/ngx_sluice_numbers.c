/*
 * The numbers of filters (pw_numbers.def) in a zone of their own, so that no guest's metrics take the room. Counters are sums over all
 * workers; what is a state of one worker has its number as a label.
 *
 * In the zone: owner is the filter, name is the metric, a newline, and its labels.
 */
#include "ngx_sluice_state_int.h"

#include "sh_prometheus.h"

#define CALL_METRIC "sluice_call_bytes"
#define HOLD_METRIC "sluice_guest_longest_hold_microseconds"
#define CPU_METRIC "sluice_guest_longest_cpu_microseconds"

typedef enum { COUNTER = SH_COUNTER, GAUGE = SH_GAUGE } kind_t;

static const struct {
    kind_t kind;
    const char *metric, *label, *help;
} rows[PW_NUMBERS] = {
#define PW_NUMBER(id, kind, metric, label, help) [PW_N_##id] = {kind, metric, label, help},
#include "pw_numbers.def"
#undef PW_NUMBER
};

static sh_metrics_t *zone_of(ngx_sluice_conf_t *scf) {
    return scf->state != NULL ? &scf->state->numbers->metrics : NULL;
}

static sl_str_t worker_label(char room[32]) {
    return sl_str(room, (size_t)(ngx_sprintf((u_char *)room, "worker=\"%ui\"", ngx_worker) - (u_char *)room));
}

static uint32_t define(sh_metrics_t *ms, kind_t kind, sl_str_t filter, const char *metric, const char *label) {
    char room[32];
    sl_buf_t name;
    uint32_t id = 0;

    sl_buf_init(&name, 256);
    sl_buf_printf(&name, "%s\n%s", metric, label != NULL ? label : "");
    if (kind == GAUGE) {
        sl_buf_append_str(&name, worker_label(room));
    }
    if (!name.failed) {
        (void)sh_metric_define(ms, (sh_metric_type_t)kind, filter, sl_buf_str(&name), &id);
    }
    sl_buf_deinit(&name);
    return id;
}

/* A worker that is about to go has been replaced: states are its successor's. */
static ngx_uint_t goes(void) {
    return ngx_exiting || ngx_quit || ngx_terminate;
}

void ngx_sluice_number(void *worker, sl_str_t filter, pw_number_t which, uint32_t *id, uint64_t value) {
    sh_metrics_t *ms = zone_of(worker);

    if (ms == NULL || (rows[which].kind == GAUGE && goes())) {
        return;
    }
    if (*id == 0) {
        *id = define(ms, rows[which].kind, filter, rows[which].metric, rows[which].label);
    }
    if (*id != 0) {
        (void)sh_metric_record(ms, *id, value);
    }
}

typedef struct {
    uint32_t id;
    uint64_t most;
} most_t;

static void raise_to(sh_metrics_t *ms, most_t *m, const char *metric, uint64_t value) {
    if (value <= m->most) {
        return;
    }
    m->most = value;
    if (m->id == 0) {
        m->id = define(ms, GAUGE, SL_STR(""), metric, NULL);
    }
    if (m->id != 0 && !goes()) {
        (void)sh_metric_record(ms, m->id, value);
    }
}

/*
 * The time on the wall is that of the whole turn so far: since the event loop has looked at its clock, when it last woke up. That clock
 * is coarse, so it may be some milliseconds too much, and on a busy machine it has what other processes took. The CPU time is the guest's.
 */
void ngx_sluice_guest_was_long(void *worker, uint64_t cpu_ns) {
    static most_t hold, cpu;
    sh_metrics_t *ms = zone_of(worker);
    struct timespec now;
    uint64_t us;

    if (ms == NULL) {
        return;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
    us = us > (uint64_t)ngx_current_msec * 1000u ? us - (uint64_t)ngx_current_msec * 1000u : 0;
    raise_to(ms, &hold, HOLD_METRIC, us);
    raise_to(ms, &cpu, CPU_METRIC, cpu_ns / 1000u);
}

static const struct {
    const char *metric, *help;
} memory_rows[] = {
    {"sluice_guest_memory_bytes", "Linear memory of all filters of a worker."},
    {"sluice_guest_memory_peak_bytes", "The most that it has been."},
    {"sluice_guest_memory_limit_bytes", "The most that it may be (worker_memory_limit); 0: no limit."},
};

void ngx_sluice_memory(void *worker, uint64_t used, uint64_t peak, uint64_t limit) {
    static uint32_t ids[3];
    const uint64_t values[3] = {used, peak, limit};
    sh_metrics_t *ms = zone_of(worker);

    for (ngx_uint_t i = 0; ms != NULL && !goes() && i < 3; i++) {
        if (ids[i] == 0) {
            ids[i] = define(ms, GAUGE, SL_STR(""), memory_rows[i].metric, NULL);
        }
        if (ids[i] != 0) {
            (void)sh_metric_record(ms, ids[i], values[i]);
        }
    }
}

void ngx_sluice_call_bytes_changed(void *scf, size_t used) {
    static uint32_t id;
    sh_metrics_t *ms = zone_of(scf);

    if (ms == NULL || goes()) {
        return;
    }
    if (id == 0) {
        id = define(ms, GAUGE, SL_STR(""), CALL_METRIC, NULL);
    }
    if (id != 0) {
        (void)sh_metric_record(ms, id, used);
    }
}

static ngx_uint_t ends_with(sl_str_t s, sl_str_t end) {
    return s.len >= end.len && ngx_memcmp(s.data + s.len - end.len, end.data, end.len) == 0;
}

/* What the worker before this one left, if it could not say good-bye. */
void ngx_sluice_numbers_start(ngx_sluice_conf_t *scf) {
    sh_metrics_t *ms = zone_of(scf);
    char room[32];
    sl_str_t label = worker_label(room);
    sh_metric_view_t view;

    if (ms == NULL) {
        return;
    }
    sh_metrics_slot(ms, (uint32_t)ngx_worker);
    for (uint32_t id = 1; sh_metric_view(ms, id, &view); id++) {
        if (view.type == SH_GAUGE && ends_with(view.name, label)) {
            (void)sh_metric_record(ms, id, 0);
        }
    }
}

/* ---- what operators see ---------------------------------------------------------------------------------------------------- */

static ngx_uint_t is_of(const sh_metric_view_t *view, const char *metric, sl_str_t *labels) {
    size_t len = ngx_strlen(metric);

    if (view->name.len <= len || ngx_memcmp(view->name.data, metric, len) != 0 || view->name.data[len] != '\n') {
        return 0;
    }
    *labels = sl_str(view->name.data + len + 1, view->name.len - len - 1);
    return 1;
}

static void render_metric(const sh_metrics_t *ms, const char *metric, sl_buf_t *out) {
    sh_metric_view_t view;
    sl_str_t labels;

    for (uint32_t id = 1; sh_metric_view(ms, id, &view); id++) {
        if (!is_of(&view, metric, &labels)) {
            continue;
        }
        sl_buf_printf(out, "%s{", metric);
        if (view.owner.len != 0) {
            sl_buf_append_cstr(out, "filter=\"");
            sh_prometheus_label(out, view.owner);
            sl_buf_append_cstr(out, labels.len != 0 ? "\"," : "\"");
        }
        sl_buf_printf(out, "%.*s} %llu\n", SL_FMT(labels), (unsigned long long)view.value);
    }
}

void ngx_sluice_numbers_render(ngx_sluice_conf_t *scf, sl_buf_t *out) {
    const sh_metrics_t *ms = zone_of(scf);

    if (ms == NULL) {
        return;
    }
    for (ngx_uint_t i = 0; i < PW_NUMBERS; i++) {
        if (rows[i].help != NULL) {
            sh_prometheus_head(out, rows[i].metric, rows[i].kind == GAUGE ? "gauge" : "counter", rows[i].help);
            render_metric(ms, rows[i].metric, out);
        }
    }
    for (ngx_uint_t i = 0; i < 3; i++) {
        sh_prometheus_head(out, memory_rows[i].metric, "gauge", memory_rows[i].help);
        render_metric(ms, memory_rows[i].metric, out);
    }
    sh_prometheus_head(out, HOLD_METRIC, "gauge", "The longest time that a turn of a worker's event loop took, of those with guests.");
    render_metric(ms, HOLD_METRIC, out);
    sh_prometheus_head(out, CPU_METRIC, "gauge", "The longest CPU time that a guest had at a stretch.");
    render_metric(ms, CPU_METRIC, out);
    sh_prometheus_head(out, CALL_METRIC, "gauge", "Bytes that the calls of a worker hold: requests, and answers as far as they have come.");
    render_metric(ms, CALL_METRIC, out);
}

void ngx_sluice_numbers_each(ngx_sluice_conf_t *scf, ngx_sluice_number_each_pt each, void *ud) {
    const sh_metrics_t *ms = zone_of(scf);
    sh_metric_view_t view;

    for (uint32_t id = 1; ms != NULL && sh_metric_view(ms, id, &view); id++) {
        const char *nl = memchr(view.name.data, '\n', view.name.len);
        size_t len = nl != NULL ? (size_t)(nl - view.name.data) : view.name.len;
        sl_str_t label = nl != NULL ? sl_str(nl + 1, view.name.len - len - 1) : SL_STR_NULL;
        each(ud, view.owner, sl_str(view.name.data, len), label, view.value);
    }
}
