/* What operators see of shared state: text for Prometheus, pages of keys and queues as JSON. */
#include "ngx_sluice_state_int.h"

#include "sh_prometheus.h"

/* ---- metrics ------------------------------------------------------------------------------------------------------- */

typedef struct {
    size_t used, total, entries;
    uint64_t evicted, refused;
    uint32_t resets;
} numbers_t;

static numbers_t numbers_of(ngx_sluice_zone_t *z) {
    if (z->kind == NGX_SLUICE_ZONE_KV) {
        sh_kv_stats_t s = sh_kv_stats(&z->kv);
        return (numbers_t){s.used_bytes, s.total_bytes, s.entries, s.evicted, s.refused, s.resets};
    }
    if (z->kind == NGX_SLUICE_ZONE_QUEUE) {
        sh_queues_stats_t s = sh_queues_stats(&z->queues);
        return (numbers_t){s.used_bytes, s.total_bytes, s.queues, 0, 0, s.resets};
    }
    sh_metrics_stats_t s = sh_metrics_stats(&z->metrics);
    return (numbers_t){s.used_bytes, s.total_bytes, s.defined, 0, s.refused, 0};
}

static uint64_t used_of(const numbers_t *n) {
    return n->used;
}

static uint64_t total_of(const numbers_t *n) {
    return n->total;
}

static uint64_t entries_of(const numbers_t *n) {
    return n->entries;
}

static uint64_t evicted_of(const numbers_t *n) {
    return n->evicted;
}

static uint64_t refused_of(const numbers_t *n) {
    return n->refused;
}

static uint64_t resets_of(const numbers_t *n) {
    return n->resets;
}

static const struct {
    const char *name, *type, *help;
    uint64_t (*value)(const numbers_t *numbers);
} zone_rows[] = {
    {"sluice_shared_bytes", "gauge", "Size of a zone of shared memory.", total_of},
    {"sluice_shared_used_bytes", "gauge", "What of it is in use.", used_of},
    {"sluice_shared_entries", "gauge", "Keys, queues or metrics in it.", entries_of},
    {"sluice_shared_evicted_total", "counter", "Keys that made room for others.", evicted_of},
    {"sluice_shared_refused_total", "counter", "Writes and definitions for which there was no room.", refused_of},
    {"sluice_shared_resets_total", "counter", "How often it was emptied after a worker died in the middle of a change.", resets_of},
};

static void render_zones(ngx_sluice_state_t *st, sl_buf_t *out) {
    ngx_sluice_zone_t **zones = st->zones.elts;

    for (size_t row = 0; row < sizeof(zone_rows) / sizeof(zone_rows[0]); row++) {
        sh_prometheus_head(out, zone_rows[row].name, zone_rows[row].type, zone_rows[row].help);
        for (ngx_uint_t i = 0; i < st->zones.nelts; i++) {
            numbers_t n = numbers_of(zones[i]);
            sl_buf_printf(out, "%s{kind=\"%s\",zone=\"", zone_rows[row].name, ngx_sluice_zone_kinds[zones[i]->kind]);
            sh_prometheus_label(out, ngx_sluice_str(&zones[i]->name));
            sl_buf_printf(out, "\"} %llu\n", (unsigned long long)zone_rows[row].value(&n));
        }
    }
}

static uint64_t items_of(const sh_queue_view_t *q) {
    return q->items;
}

static uint64_t bytes_of(const sh_queue_view_t *q) {
    return q->bytes;
}

static uint64_t listeners_of(const sh_queue_view_t *q) {
    return q->listeners;
}

static uint64_t pushed_of(const sh_queue_view_t *q) {
    return q->pushed;
}

static uint64_t queue_refused_of(const sh_queue_view_t *q) {
    return q->refused;
}

static const struct {
    const char *name, *type, *help;
    uint64_t (*value)(const sh_queue_view_t *queue);
} queue_rows[] = {
    {"sluice_queue_items", "gauge", "Items that wait in a queue.", items_of},
    {"sluice_queue_bytes", "gauge", "Their bytes.", bytes_of},
    {"sluice_queue_listeners", "gauge", "Root contexts that have registered it.", listeners_of},
    {"sluice_queue_pushed_total", "counter", "Items that were put into it.", pushed_of},
    {"sluice_queue_refused_total", "counter", "Items for which there was no room.", queue_refused_of},
};

typedef struct {
    sl_buf_t *out;
    size_t row;
} render_t;

static void render_queue(void *ud, const sh_queue_view_t *queue) {
    render_t *r = ud;

    sl_buf_printf(r->out, "%s{vm_id=\"", queue_rows[r->row].name);
    sh_prometheus_label(r->out, queue->vm_id);
    sl_buf_append_cstr(r->out, "\",queue=\"");
    sh_prometheus_label(r->out, queue->name);
    sl_buf_printf(r->out, "\"} %llu\n", (unsigned long long)queue_rows[r->row].value(queue));
}

static void render_queues(ngx_sluice_state_t *st, sl_buf_t *out) {
    ngx_sluice_zone_t **zones = st->zones.elts;

    for (size_t row = 0; row < sizeof(queue_rows) / sizeof(queue_rows[0]); row++) {
        render_t r = {.out = out, .row = row};
        sh_prometheus_head(out, queue_rows[row].name, queue_rows[row].type, queue_rows[row].help);
        for (ngx_uint_t i = 0; i < st->zones.nelts; i++) {
            uint64_t cursor = 0;
            do {
                if (zones[i]->kind == NGX_SLUICE_ZONE_QUEUE) {
                    sh_queues_page(&zones[i]->queues, &cursor, 100, render_queue, &r);
                }
            } while (cursor != 0);
        }
    }
}

/* ---- calls out ----------------------------------------------------------------------------------------------------- */

/* Metrics of the host, one for each filter, kind and reason of failures; the name is `kind:reason:filter`. */
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
    n = snprintf(name, sizeof(name), "%s:%s:%.*s", kind, reason != NULL ? reason : "", (int)len, filter.data);
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
    uint32_t id = call_metric(metrics, row, filter, kind, reason);

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

/* Cuts the text before the next colon off the front. */
static sl_str_t next_part(sl_str_t *rest) {
    const char *colon = memchr(rest->data, ':', rest->len);
    sl_str_t part = sl_str(rest->data, colon != NULL ? (size_t)(colon - rest->data) : rest->len);
    size_t used = part.len + (colon != NULL);

    *rest = sl_str(rest->data + used, rest->len - used);
    return part;
}

static void render_call(const sh_metric_view_t *view, const char *name, sl_buf_t *out) {
    sl_str_t filter = view->name, kind = next_part(&filter), reason = next_part(&filter);

    sl_buf_printf(out, "%s{kind=\"%.*s\",", name, SL_FMT(kind));
    if (reason.len != 0) {
        sl_buf_append_cstr(out, "reason=\"");
        sh_prometheus_label(out, reason);
        sl_buf_append_cstr(out, "\",");
    }
    sl_buf_append_cstr(out, "filter=\"");
    sh_prometheus_label(out, filter);
    sl_buf_printf(out, "\"} %lld\n", (long long)view->value);
}

static void render_calls(const sh_metrics_t *metrics, sl_buf_t *out) {
    uint32_t n = sh_metrics_count(metrics);
    sh_metric_view_t view;

    for (ngx_uint_t row = 0; row < CALL_ROWS; row++) {
        ngx_uint_t any = 0;
        for (uint32_t id = 1; id <= n; id++) {
            if (!sh_metric_view(metrics, id, &view) || !sl_str_eq(view.owner, sl_cstr(call_rows[row].owner))) {
                continue;
            }
            if (!any) {
                sh_prometheus_head(out, call_rows[row].name, view.type == SH_GAUGE ? "gauge" : "counter", call_rows[row].help);
            }
            any = 1;
            render_call(&view, call_rows[row].name, out);
        }
    }
}

sl_status_t ngx_sluice_state_render(ngx_sluice_conf_t *scf, sl_buf_t *out) {
    return ngx_sluice_state_render_with(scf, NULL, NULL, out);
}

sl_status_t ngx_sluice_state_render_with(ngx_sluice_conf_t *scf, sh_prometheus_split_t split, void *ud, sl_buf_t *out) {
    sl_status_t rc;

    if (scf->state == NULL) {
        return SL_OK;
    }
    rc = sh_prometheus_render_with(&scf->state->metrics->metrics, split, ud, out);
    render_calls(&scf->state->metrics->metrics, out);
    ngx_sluice_numbers_render(scf, out);
    render_zones(scf->state, out);
    render_queues(scf->state, out);
    return rc == SL_OK && out->failed ? SL_NO_MEMORY : rc;
}

/* ---- pages --------------------------------------------------------------------------------------------------------- */

/* Names are bytes of guests: what is not UTF-8 is shown in hex, under another member. */
static void json_bytes(sl_buf_t *out, const char *member, sl_str_t s) {
    bool text = sl_utf8_valid(s, NULL);

    sl_buf_printf(out, "\"%s%s\":\"", member, text ? "" : "_hex");
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (!text) {
            sl_buf_printf(out, "%02x", c);
        } else if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) {
            sl_buf_printf(out, "\\u%04x", c);
        } else {
            sl_buf_append_char(out, (char)c);
        }
    }
    sl_buf_append_cstr(out, "\"");
}

typedef struct {
    const ngx_sluice_zone_t *zone;
    sl_buf_t *out;
    size_t shown;
} page_t;

static void page_entry(page_t *p, sl_str_t vm_id) {
    sl_buf_append_cstr(p->out, p->shown++ != 0 ? ",{" : "{");
    json_bytes(p->out, "zone", ngx_sluice_str(&p->zone->name));
    sl_buf_append_char(p->out, ',');
    json_bytes(p->out, "vm_id", vm_id);
    sl_buf_append_char(p->out, ',');
}

static void page_key(void *ud, const sh_kv_entry_t *entry) {
    page_t *p = ud;

    page_entry(p, entry->vm_id);
    json_bytes(p->out, "key", entry->key);
    sl_buf_printf(p->out, ",\"cas\":%u,\"size\":%zu}", entry->cas, entry->value.len);
}

static void page_queue(void *ud, const sh_queue_view_t *queue) {
    page_t *p = ud;

    page_entry(p, queue->vm_id);
    json_bytes(p->out, "name", queue->name);
    sl_buf_printf(p->out, ",\"id\":%u,\"items\":%u,\"bytes\":%llu,\"listeners\":%u,\"pushed\":%llu,\"popped\":%llu,\"refused\":%llu}",
                  queue->id, queue->items, (unsigned long long)queue->bytes, queue->listeners, (unsigned long long)queue->pushed,
                  (unsigned long long)queue->popped, (unsigned long long)queue->refused);
}

/* An offset is the zone's position in the upper 16 bits, then the cursor within it. */
static uint64_t page(ngx_sluice_state_t *st, ngx_sluice_zone_kind_t kind, uint64_t offset, size_t n, page_t *p) {
    ngx_sluice_zone_t **zones = st->zones.elts;
    uint64_t i = offset >> 48, cursor = offset & 0xffffffffffffu;

    for (; i < st->zones.nelts; i++, cursor = 0) {
        if (zones[i]->kind != kind) {
            continue;
        }
        p->zone = zones[i];
        do {
            if (p->shown >= n) {
                return i << 48 | cursor;
            }
            if (kind == NGX_SLUICE_ZONE_KV) {
                sh_kv_page(&zones[i]->kv, &cursor, n - p->shown, page_key, p);
            } else {
                sh_queues_page(&zones[i]->queues, &cursor, n - p->shown, page_queue, p);
            }
        } while (cursor != 0);
    }
    return 0;
}

static sl_status_t list(ngx_sluice_conf_t *scf, ngx_sluice_zone_kind_t kind, uint64_t offset, size_t n, sl_buf_t *out) {
    page_t p = {.out = out};
    uint64_t next;

    sl_buf_append_cstr(out, "{\"data\":[");
    next = scf->state != NULL ? page(scf->state, kind, offset, n, &p) : 0;
    if (next != 0) {
        sl_buf_printf(out, "],\"offset\":\"%llu\"}", (unsigned long long)next);
    } else {
        sl_buf_append_cstr(out, "]}");
    }
    return out->failed ? SL_NO_MEMORY : SL_OK;
}

sl_status_t ngx_sluice_state_list_data(ngx_sluice_conf_t *scf, uint64_t offset, size_t n, sl_buf_t *out) {
    return list(scf, NGX_SLUICE_ZONE_KV, offset, n, out);
}

sl_status_t ngx_sluice_state_list_queues(ngx_sluice_conf_t *scf, uint64_t offset, size_t n, sl_buf_t *out) {
    return list(scf, NGX_SLUICE_ZONE_QUEUE, offset, n, out);
}
