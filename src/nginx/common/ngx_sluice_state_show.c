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

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

sl_status_t ngx_sluice_state_render(ngx_sluice_conf_t *scf, sl_buf_t *out) {
    return ngx_sluice_state_render_with(scf, NULL, NULL, out);
}

sl_status_t ngx_sluice_state_render_with(ngx_sluice_conf_t *scf, sh_prometheus_split_t split, void *ud, sl_buf_t *out) {
    sl_status_t rc;

    if (scf->state == NULL) {
        return SL_OK;
    }
    rc = sh_prometheus_render_with(&scf->state->metrics->metrics, split, ud, out);
    ngx_sluice_calls_render(scf->state, out);
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
