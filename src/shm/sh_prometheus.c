#include "sh_prometheus.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define BINS_ALWAYS 17u /* 1 .. 65536 */

typedef struct {
    sl_str_t name;   /* exported; in row_t.storage, as its labels */
    sl_str_t labels; /* that were part of the metric's name */
    uint32_t id;
    sh_metric_type_t type;
} row_t;

static const char *const types[] = {"counter", "gauge", "histogram"};

sl_status_t sh_prometheus_head(sl_buf_t *out, const char *name, const char *type, const char *help) {
    return sl_buf_printf(out, "# HELP %s%s%s\n# TYPE %s %s\n", name, help[0] != '\0' ? " " : "", help, name, type);
}

sl_status_t sh_prometheus_label(sl_buf_t *out, sl_str_t value) {
    for (size_t i = 0; i < value.len; i++) {
        char c = value.data[i];
        if (c == '\\' || c == '"') {
            sl_buf_append_char(out, '\\');
        }
        if (c == '\n') {
            sl_buf_append_cstr(out, "\\n");
        } else if ((unsigned char)c < 0x20 || (unsigned char)c >= 0x7f) {
            sl_buf_printf(out, "\\\\x%02x", (unsigned char)c); /* guests' bytes need not be UTF-8 */
        } else {
            sl_buf_append_char(out, c);
        }
    }
    return out->failed ? SL_NO_MEMORY : SL_OK;
}

/* ---- names --------------------------------------------------------------------------------------------------------- */

static bool plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static void append_plain(sl_buf_t *b, sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        sl_buf_append_char(b, plain(s.data[i]) ? s.data[i] : '_');
    }
}

static int compare(const void *a, const void *b) {
    const row_t *x = a, *y = b;
    int order = sl_str_cmp(x->name, y->name);
    if (order == 0) {
        order = (x->type > y->type) - (x->type < y->type);
    }
    order = order == 0 ? sl_str_cmp(x->labels, y->labels) : order;
    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

typedef struct {
    sh_prometheus_split_t split;
    void *ud;
} splitter_t;

static void append_name(const splitter_t *splitter, const sh_metric_view_t *view, sl_buf_t *text, row_t *row) {
    sl_buf_t base, labels;
    size_t at = text->len;
    sl_buf_init(&base, SIZE_MAX / 2);
    sl_buf_init(&labels, SIZE_MAX / 2);
    if (splitter->split != NULL) {
        splitter->split(splitter->ud, view->owner, view->name, &base, &labels);
    } else {
        sl_buf_append_str(&base, view->name);
    }
    sl_buf_append_cstr(text, "pw_");
    append_plain(text, view->owner);
    sl_buf_append_char(text, '_');
    append_plain(text, sl_buf_str(&base));
    row->name.len = text->len - at;
    row->labels.len = labels.len;
    sl_buf_append_str(text, sl_buf_str(&labels));
    text->failed = text->failed || base.failed || labels.failed;
    sl_buf_deinit(&base);
    sl_buf_deinit(&labels);
}

/* Fills rows[*n], sorted, of as many metrics; their names lie in *text. */
static sl_status_t collect(const sh_metrics_t *ms, const splitter_t *splitter, row_t *rows, uint32_t *n_rows, sl_buf_t *text) {
    sh_metric_view_t view;
    uint32_t n = 0;
    for (uint32_t i = 0; i < *n_rows && sh_metric_view(ms, i + 1, &view); i++) {
        if (view.owner.len != 0 && view.owner.data[0] == SH_HOST_OWNER) {
            continue;
        }
        rows[n] = (row_t){.id = i + 1, .type = view.type};
        append_name(splitter, &view, text, &rows[n++]);
    }
    *n_rows = n;
    if (text->failed) {
        return SL_NO_MEMORY;
    }
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        rows[i].name.data = text->data + at; /* now that they do not move any more */
        at += rows[i].name.len;
        rows[i].labels.data = text->data + at;
        at += rows[i].labels.len;
    }
    qsort(rows, n, sizeof(*rows), compare);
    return SL_OK;
}

/* ---- samples ------------------------------------------------------------------------------------------------------- */

typedef struct {
    sl_buf_t *out;
    const char *name;   /* with the type behind it where need be */
    const char *labels; /* `metric="..."` or nothing */
} sample_t;

static void line(const sample_t *s, const char *suffix, const char *le, uint64_t value) {
    sl_buf_printf(s->out, "%s%s", s->name, suffix);
    if (le != NULL || s->labels[0] != '\0') {
        const char *comma = le != NULL && s->labels[0] != '\0' ? "," : "";
        sl_buf_printf(s->out, "{%s%s%s%s%s}", s->labels, comma, le != NULL ? "le=\"" : "", le != NULL ? le : "", le != NULL ? "\"" : "");
    }
    sl_buf_printf(s->out, " %" PRIu64 "\n", value);
}

static void histogram(const sample_t *s, const sh_metric_view_t *view) {
    uint32_t top = BINS_ALWAYS;
    for (uint32_t i = top; i < SH_BINS - 1; i++) {
        top = view->bins[i] != 0 ? i + 1 : top;
    }
    uint64_t total = 0;
    char le[24];
    for (uint32_t i = 0; i < top; i++) {
        total += view->bins[i];
        snprintf(le, sizeof(le), "%" PRIu64, (uint64_t)1 << i);
        line(s, "_bucket", le, total);
    }
    line(s, "_bucket", "+Inf", view->count);
    line(s, "_sum", NULL, view->value);
    line(s, "_count", NULL, view->count);
}

static void sample(const sample_t *s, const sh_metric_view_t *view) {
    if (view->type == SH_HISTOGRAM) {
        histogram(s, view);
    } else if (view->type == SH_GAUGE && (int64_t)view->value < 0) {
        /* Gauges go below zero by subtraction. */
        sl_buf_printf(s->out, "%s%s%s%s %" PRId64 "\n", s->name, s->labels[0] != '\0' ? "{" : "", s->labels,
                      s->labels[0] != '\0' ? "}" : "", (int64_t)view->value);
    } else {
        line(s, "", NULL, view->value);
    }
}

/* ---- the text ------------------------------------------------------------------------------------------------------ */

/* Rows that nothing tells apart but their whole names. */
static bool are_twins(const row_t *rows, uint32_t n, uint32_t i, uint32_t k) {
    return k < n && rows[k].type == rows[i].type && sl_str_eq(rows[k].name, rows[i].name) && sl_str_eq(rows[k].labels, rows[i].labels);
}

static void render_row(const sh_metrics_t *ms, const row_t *rows, uint32_t n, uint32_t i, sl_buf_t *out) {
    const row_t *r = &rows[i];
    bool same_name = i > 0 && sl_str_eq(rows[i - 1].name, r->name);
    bool same_type = same_name && rows[i - 1].type == r->type;
    bool twin = are_twins(rows, n, i, i - 1) || are_twins(rows, n, i, i + 1);
    bool suffixed = false; /* some row of this name has another type and comes before */
    for (uint32_t j = i; j-- > 0 && sl_str_eq(rows[j].name, r->name);) {
        suffixed = suffixed || rows[j].type != r->type;
    }
    sh_metric_view_t view;
    sl_buf_t name, labels;
    sl_buf_init(&name, out->max);
    sl_buf_init(&labels, out->max);
    sl_buf_append_str(&name, r->name);
    sl_buf_printf(&name, "%s%s", suffixed ? "_" : "", suffixed ? types[r->type] : "");
    sl_buf_append_str(&labels, r->labels);
    if (sh_metric_view(ms, r->id, &view) && twin) {
        sl_buf_append_cstr(&labels, labels.len > 0 ? "," : "");
        sl_buf_append_cstr(&labels, "metric=\"pw:");
        sh_prometheus_label(&labels, view.owner);
        sl_buf_append_char(&labels, ':');
        sh_prometheus_label(&labels, view.name);
        sl_buf_append_char(&labels, '"');
    }
    sample_t s = {.out = out, .name = sl_buf_cstr(&name), .labels = labels.failed ? NULL : labels.len > 0 ? sl_buf_cstr(&labels) : ""};
    if (s.name == NULL || s.labels == NULL) {
        out->failed = true;
    } else {
        if (!same_type) {
            sh_prometheus_head(out, s.name, types[r->type], "");
        }
        sample(&s, &view);
    }
    sl_buf_deinit(&name);
    sl_buf_deinit(&labels);
}

sl_status_t sh_prometheus_render(const sh_metrics_t *ms, sl_buf_t *out) {
    return sh_prometheus_render_with(ms, NULL, NULL, out);
}

sl_status_t sh_prometheus_render_with(const sh_metrics_t *ms, sh_prometheus_split_t split, void *ud, sl_buf_t *out) {
    const splitter_t splitter = {split, ud};
    uint32_t n = sh_metrics_count(ms);
    row_t *rows = calloc(n + 1, sizeof(*rows));
    if (rows == NULL) {
        return SL_NO_MEMORY;
    }
    sl_buf_t text;
    sl_buf_init(&text, SIZE_MAX / 2);
    sl_status_t rc = collect(ms, &splitter, rows, &n, &text);
    for (uint32_t i = 0; rc == SL_OK && i < n; i++) {
        render_row(ms, rows, n, i, out);
    }
    sl_buf_deinit(&text);
    free(rows);
    return rc == SL_OK && out->failed ? SL_NO_MEMORY : rc;
}
