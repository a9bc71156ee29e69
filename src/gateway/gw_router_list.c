#include "gw_router_list.h"

#include <stdlib.h>

#include "gw_trie.h"

/* Up to here, trying one after the other is quicker than looking anything up. */
#define SHORT_LIST 16u

/* One way to a candidate: the value of a header (or, without a name, an SNI) that a request must have. */
typedef struct {
    gw_ref_t name;
    gw_ref_t value;
    uint32_t candidate;
} way_t;

typedef struct {
    gw_ref_t name;
    size_t n_values; /* different ones in this list */
} column_t;

typedef struct {
    gw_writer_t *w;
    const gw_candidate_t *c;
    size_t n;
    bool traditional;
    sl_buf_t ways;    /* way_t */
    sl_buf_t columns; /* column_t, by name */
    sl_buf_t probes;  /* gw_img_probe_t */
    sl_buf_t rest;    /* gw_img_item_t */
} split_t;

static bool same(const gw_writer_t *w, gw_ref_t a, gw_ref_t b) {
    return a.len == b.len && (a.off == b.off || (a.off != 0 && b.off != 0 && sl_str_eq(gw_writer_text(w, a), gw_writer_text(w, b))));
}

/* No name at all (of an SNI) goes before the empty one. */
static int compare(const gw_writer_t *w, gw_ref_t a, gw_ref_t b) {
    if (a.off == b.off && a.len == b.len) {
        return 0;
    }
    return a.off == 0 || b.off == 0 ? (a.off != 0) - (b.off != 0) : sl_str_cmp(gw_writer_text(w, a), gw_writer_text(w, b));
}

static int by_way(const void *x, const void *y, void *w) {
    const way_t *a = x, *b = y;
    int rc = compare(w, a->name, b->name);
    rc = rc ? rc : compare(w, a->value, b->value);
    return rc ? rc : (a->candidate > b->candidate) - (a->candidate < b->candidate);
}

static way_t *ways(split_t *s, size_t *n) {
    *n = s->ways.len / sizeof(way_t);
    return (way_t *)(void *)s->ways.data;
}

static void sort_ways(split_t *s) {
    size_t n;
    way_t *all = ways(s, &n);
    if (n > 1) {
        qsort_r(all, n, sizeof(way_t), by_way, s->w);
    }
}

/* What the leaf of a candidate asks for; nothing, when it has no conditions. */
static gw_img_cond_t cond_of(const split_t *s, uint32_t candidate) {
    uint32_t cond = s->c[candidate].cond;
    return cond != GW_NONE ? ((const gw_img_cond_t *)(const void *)s->w->sec[GW_SEC_CONDS].data)[cond] : (gw_img_cond_t){.methods = {0, 0}};
}

static gw_img_header_cond_t header_at(const split_t *s, gw_range_t headers, uint32_t i) {
    return ((const gw_img_header_cond_t *)(const void *)s->w->sec[GW_SEC_HEADERS].data)[headers.first + i];
}

static gw_ref_t text_at(const split_t *s, gw_range_t texts, uint32_t i) {
    return ((const gw_ref_t *)(const void *)s->w->sec[GW_SEC_TEXTS].data)[texts.first + i];
}

/* A regex, and an empty set of values, cannot be looked up. */
static bool plain_values(const gw_img_header_cond_t *h) {
    return h->regex == GW_NONE && h->values.count > 0;
}

static void add_ways(split_t *s, uint32_t candidate, gw_ref_t name, gw_range_t values) {
    for (uint32_t i = 0; i < values.count; i++) {
        way_t way = {name, text_at(s, values, i), candidate};
        sl_buf_append(&s->ways, &way, sizeof(way));
    }
}

/* Which headers the list's routes ask for, and how well each tells them apart. */
static void count_columns(split_t *s) {
    for (size_t i = 0; i < s->n; i++) {
        gw_range_t headers = cond_of(s, (uint32_t)i).headers;
        for (uint32_t k = 0; k < headers.count; k++) {
            gw_img_header_cond_t h = header_at(s, headers, k);
            if (plain_values(&h)) {
                add_ways(s, (uint32_t)i, h.name, h.values);
            }
        }
    }
    sort_ways(s);
    size_t n;
    const way_t *all = ways(s, &n);
    for (size_t i = 0; i < n && !s->columns.failed; i++) {
        bool new_name = i == 0 || !same(s->w, all[i].name, all[i - 1].name);
        if (new_name) {
            column_t column = {.name = all[i].name};
            sl_buf_append(&s->columns, &column, sizeof(column));
        }
        if (!s->columns.failed && (new_name || !same(s->w, all[i].value, all[i - 1].value))) {
            ((column_t *)(void *)(s->columns.data + s->columns.len))[-1].n_values++;
        }
    }
    sl_buf_reset(&s->ways);
}

static size_t column_values(const split_t *s, gw_ref_t name) {
    const column_t *columns = (const column_t *)(const void *)s->columns.data;
    size_t lo = 0, hi = s->columns.len / sizeof(column_t);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int rc = compare(s->w, columns[mid].name, name);
        if (rc == 0) {
            return columns[mid].n_values;
        }
        if (rc < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return 0;
}

/* The header with the most different values leads to the fewest candidates at once. */
static bool add_best_header(split_t *s, uint32_t candidate) {
    gw_range_t headers = cond_of(s, candidate).headers;
    gw_img_header_cond_t best = {.values = {0, 0}};
    size_t best_count = 0;
    for (uint32_t i = 0; i < headers.count; i++) {
        gw_img_header_cond_t h = header_at(s, headers, i);
        size_t count = plain_values(&h) ? column_values(s, h.name) : 0;
        if (count > best_count) {
            best = h;
            best_count = count;
        }
    }
    add_ways(s, candidate, best.name, best.values);
    return best_count > 0;
}

static bool add_snis(split_t *s, uint32_t candidate) {
    gw_range_t snis = cond_of(s, candidate).snis;
    for (uint32_t i = 0; i < snis.count; i++) {
        sl_str_t sni = gw_writer_text(s->w, text_at(s, snis, i));
        if (sni.len == 0 || (!s->traditional && memchr(sni.data, '*', sni.len) != NULL)) {
            return false;
        }
    }
    add_ways(s, candidate, (gw_ref_t){0, 0}, snis);
    return snis.count > 0;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------- */

static uint32_t add_items_of(split_t *s, const way_t *way, size_t n) {
    gw_img_list_t list = {.items.first = gw_writer_count(s->w, GW_SEC_ITEMS), .min_leaf = GW_NONE};
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && way[i].candidate == way[i - 1].candidate) {
            continue; /* a value named twice */
        }
        const gw_img_item_t *item = &s->c[way[i].candidate].item;
        gw_writer_add(s->w, GW_SEC_ITEMS, item);
        list.items.count++;
        list.min_leaf = item->leaf < list.min_leaf ? item->leaf : list.min_leaf;
    }
    return gw_writer_add(s->w, GW_SEC_LISTS, &list);
}

static int by_candidate(const void *x, const void *y) {
    uint32_t a = ((const way_t *)x)->candidate, b = ((const way_t *)y)->candidate;
    return (a > b) - (a < b);
}

/* One probe: all ways with the same name. Sorts the ways anew where it needs to. */
static sl_status_t add_probe(split_t *s, way_t *way, size_t n) {
    gw_img_probe_t probe = {.kind = way->name.off ? GW_PROBE_HEADER : GW_PROBE_SNI, .name = way->name, .all = GW_NONE, .min_leaf = GW_NONE};
    sl_buf_t entries;
    sl_buf_init(&entries, SIZE_MAX);
    for (size_t lo = 0, hi; lo < n; lo = hi) {
        hi = lo + 1;
        while (hi < n && same(s->w, way[hi].value, way[lo].value)) {
            hi++;
        }
        gw_trie_entry_t e = {way[lo].value, add_items_of(s, way + lo, hi - lo)};
        sl_buf_append(&entries, &e, sizeof(e));
    }
    size_t n_entries = entries.len / sizeof(gw_trie_entry_t);
    sl_status_t rc = entries.failed || gw_writer_failed(s->w) ? SL_NO_MEMORY : SL_OK;
    if (rc == SL_OK) {
        rc = gw_trie_add(s->w, GW_SEC_VALUE_NODES, (const gw_trie_entry_t *)(const void *)entries.data, n_entries, &probe.values);
    }
    sl_buf_deinit(&entries);
    qsort(way, n, sizeof(*way), by_candidate);
    probe.min_leaf = s->c[way->candidate].item.leaf;
    if (probe.kind == GW_PROBE_SNI) {
        probe.all = add_items_of(s, way, n);
    }
    sl_buf_append(&s->probes, &probe, sizeof(probe));
    return rc;
}

static sl_status_t add_probes(split_t *s) {
    sort_ways(s);
    size_t n;
    way_t *all = ways(s, &n);
    sl_status_t rc = SL_OK;
    for (size_t lo = 0, hi; rc == SL_OK && lo < n; lo = hi) {
        hi = lo + 1;
        while (hi < n && same(s->w, all[hi].name, all[lo].name)) {
            hi++;
        }
        rc = add_probe(s, all + lo, hi - lo);
    }
    return rc;
}

static sl_status_t split(split_t *s) {
    count_columns(s);
    for (size_t i = 0; i < s->n; i++) {
        if (!add_best_header(s, (uint32_t)i) && !add_snis(s, (uint32_t)i)) {
            sl_buf_append(&s->rest, &s->c[i].item, sizeof(s->c[i].item));
        }
    }
    if (s->ways.failed || s->columns.failed || s->rest.failed || gw_writer_failed(s->w)) {
        return SL_NO_MEMORY;
    }
    return add_probes(s);
}

static uint32_t add_split_list(gw_writer_t *w, const split_t *s) {
    gw_img_list_t list = {
        .items = {gw_writer_count(w, GW_SEC_ITEMS), (uint32_t)(s->rest.len / sizeof(gw_img_item_t))},
        .probes = {gw_writer_count(w, GW_SEC_PROBES), (uint32_t)(s->probes.len / sizeof(gw_img_probe_t))},
        .min_leaf = s->c->item.leaf,
    };
    sl_buf_append(&w->sec[GW_SEC_ITEMS], s->rest.data, s->rest.len);
    sl_buf_append(&w->sec[GW_SEC_PROBES], s->probes.data, s->probes.len);
    return gw_writer_add(w, GW_SEC_LISTS, &list);
}

static uint32_t add_long_list(gw_writer_t *w, const gw_candidate_t *c, size_t n, bool traditional) {
    split_t s = {.w = w, .c = c, .n = n, .traditional = traditional};
    sl_buf_t *bufs[] = {&s.ways, &s.columns, &s.probes, &s.rest};
    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++) {
        sl_buf_init(bufs[i], SIZE_MAX);
    }
    uint32_t list = GW_NONE;
    if (split(&s) == SL_OK && !s.probes.failed) {
        list = add_split_list(w, &s);
    } else {
        w->failed = true;
    }
    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++) {
        sl_buf_deinit(bufs[i]);
    }
    return list;
}

uint32_t gw_router_list_add(gw_writer_t *w, const gw_candidate_t *c, size_t n, bool traditional) {
    if (n > SHORT_LIST) {
        return add_long_list(w, c, n, traditional);
    }
    gw_img_list_t list = {.items = {gw_writer_count(w, GW_SEC_ITEMS), (uint32_t)n}, .min_leaf = c->item.leaf};
    for (size_t i = 0; i < n; i++) {
        gw_writer_add(w, GW_SEC_ITEMS, &c[i].item);
    }
    return gw_writer_add(w, GW_SEC_LISTS, &list);
}
