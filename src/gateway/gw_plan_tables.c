#include <stdlib.h>

#include "gw_plan_parts.h"

sl_status_t gw_build_no_memory(gw_build_t *b) {
    return sl_err_set(b->err, SL_NO_MEMORY, "plan: out of memory");
}

/* ---- one table -------------------------------------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b) {
    return sl_str_cmp(((const gw_entry_t *)a)->id, ((const gw_entry_t *)b)->id);
}

static sl_status_t list_changed(gw_build_t *b, const gw_table_t *t, const json_t *object, gw_entry_t **out, size_t *n) {
    *out = NULL;
    *n = 0;
    if (object == NULL || json_is_null(object)) {
        return SL_OK;
    }
    if (!json_is_object(object)) {
        return sl_err_set(b->err, SL_INVALID, "%.*s: expected a map from id to entity", SL_FMT(t->name));
    }
    *out = calloc(json_object_size(object) + 1, sizeof(gw_entry_t));
    if (*out == NULL) {
        return gw_build_no_memory(b);
    }
    const char *id;
    size_t id_len;
    json_t *json;
    json_object_keylen_foreach((json_t *)object, id, id_len, json) {
        if (!json_is_object(json) || id_len == 0) {
            return sl_err_set(b->err, SL_INVALID, "%.*s: '%.*s' is no entity", SL_FMT(t->name), (int)(id_len < 100 ? id_len : 100), id);
        }
        (*out)[(*n)++] = (gw_entry_t){.id = sl_str(id, id_len), .json = json, .was = GW_NONE};
    }
    qsort(*out, *n, sizeof(gw_entry_t), by_id);
    return SL_OK;
}

static sl_status_t list_gone(gw_build_t *b, const json_t *array, gw_entry_t **out, size_t *n) {
    *n = 0;
    *out = calloc(json_array_size(array) + 1, sizeof(gw_entry_t));
    if (*out == NULL) {
        return gw_build_no_memory(b);
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        (*out)[(*n)++].id = gw_json_str(json_array_get(array, i));
    }
    qsort(*out, *n, sizeof(gw_entry_t), by_id);
    return SL_OK;
}

static gw_range_t old_entities(const gw_table_t *t) {
    return t->old != NULL ? t->old->entities : (gw_range_t){0, 0};
}

/* Both are in id order, so is the table: what is of before and not among the changed or gone ones is kept. */
static void merge_table(gw_build_t *b, gw_table_t *t, const gw_entry_t *changed, size_t n_changed, const gw_entry_t *gone, size_t n_gone) {
    gw_range_t old = old_entities(t);
    size_t c = 0, g = 0;
    for (uint32_t i = 0; i < old.count; i++) {
        uint32_t was = old.first + i;
        sl_str_t id = gw_img_str(b->base, GW_IMG(b->base, gw_img_entity_t, GW_SEC_ENTITIES)[was].id);
        while (c < n_changed && sl_str_cmp(changed[c].id, id) < 0) {
            t->items[t->n++] = changed[c++];
        }
        while (g < n_gone && sl_str_cmp(gone[g].id, id) < 0) {
            g++;
        }
        bool is_changed = c < n_changed && sl_str_eq(changed[c].id, id);
        if (!is_changed && g < n_gone && sl_str_eq(gone[g].id, id)) {
            continue;
        }
        b->moved[was] = (uint32_t)t->n; /* within the table, so far */
        t->items[t->n] = is_changed ? changed[c++] : (gw_entry_t){.id = id, .kept = true};
        t->items[t->n++].was = was;
    }
    while (c < n_changed) {
        t->items[t->n++] = changed[c++];
    }
}

static sl_status_t init_table(gw_build_t *b, gw_table_t *t, const json_t *changed, const json_t *gone) {
    gw_entry_t *new_ones = NULL, *lost = NULL;
    size_t n_new = 0, n_lost = 0;
    sl_status_t rc = list_changed(b, t, changed, &new_ones, &n_new);
    rc = rc == SL_OK ? list_gone(b, gone, &lost, &n_lost) : rc;
    if (rc == SL_OK) {
        t->items = malloc((old_entities(t).count + n_new + 1) * sizeof(gw_entry_t));
        rc = t->items != NULL ? SL_OK : gw_build_no_memory(b);
    }
    if (rc == SL_OK) {
        merge_table(b, t, new_ones, n_new, lost, n_lost);
    }
    free(new_ones);
    free(lost);
    return rc;
}

uint32_t gw_table_find(const gw_table_t *t, sl_str_t id) {
    size_t lo = 0, hi = t->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (sl_str_cmp(t->items[mid].id, id) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < t->n && sl_str_eq(t->items[lo].id, id) ? (uint32_t)lo : GW_NONE;
}

const json_t *gw_entry_json(gw_build_t *b, gw_entry_t *e) {
    if (e->json == NULL) {
        sl_str_t text = gw_img_str(b->base, GW_IMG(b->base, gw_img_entity_t, GW_SEC_ENTITIES)[e->was].json);
        e->json = json_loadb(text.data != NULL ? text.data : "", text.len, JSON_ALLOW_NUL, NULL);
        e->owned = e->json != NULL;
    }
    return e->json;
}

sl_status_t gw_foreign(gw_build_t *b, gw_entry_t *from, const char *field, const gw_table_t *to, uint32_t *out) {
    const json_t *json = gw_entry_json(b, from);
    *out = GW_NONE;
    if (json == NULL) {
        return gw_build_no_memory(b);
    }
    const json_t *ref = json_object_get(json, field);
    if (ref == NULL || json_is_null(ref)) {
        return SL_OK;
    }
    *out = gw_table_find(to, gw_field_str(ref, "id"));
    if (*out == GW_NONE) {
        return sl_err_set(b->err, SL_INVALID, "entity '%.*s': its %s does not exist", SL_FMT(from->id), field);
    }
    return SL_OK;
}

uint32_t gw_table_moved(const gw_build_t *b, const gw_table_t *t, uint32_t index) {
    gw_range_t old = old_entities(t);
    uint32_t now = index < old.count ? b->moved[old.first + index] : GW_NONE;
    return now == GW_NONE ? GW_NONE : now - t->first;
}

/* ---- all tables --------------------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return sl_str_cmp(((const gw_table_t *)a)->name, ((const gw_table_t *)b)->name);
}

static gw_table_t *find_table(gw_build_t *b, const char *name) {
    for (size_t i = 0; i < b->n_tables; i++) {
        if (sl_str_eq(b->tables[i].name, sl_cstr(name))) {
            return &b->tables[i];
        }
    }
    return &b->none;
}

static void name_tables(gw_build_t *b, const json_t *changed) {
    const char *name;
    json_t *object;
    for (uint32_t i = 0; b->base != NULL && i < b->base->n[GW_SEC_COLLECTIONS]; i++) {
        const gw_img_collection_t *c = GW_IMG(b->base, gw_img_collection_t, GW_SEC_COLLECTIONS) + i;
        b->tables[b->n_tables++] = (gw_table_t){.name = gw_img_str(b->base, c->name), .old = c};
    }
    json_object_foreach((json_t *)changed, name, object) {
        if (find_table(b, name) == &b->none) {
            b->tables[b->n_tables++] = (gw_table_t){.name = sl_cstr(name)};
        }
    }
    qsort(b->tables, b->n_tables, sizeof(gw_table_t), by_name);
}

/* A collection's position over all, and its entities' with it. */
static void number_tables(gw_build_t *b) {
    uint32_t first = 0;
    for (size_t i = 0; i < b->n_tables; i++) {
        gw_table_t *t = &b->tables[i];
        gw_range_t old = old_entities(t);
        t->first = first;
        for (uint32_t k = old.first; k < old.first + old.count; k++) {
            b->moved[k] += b->moved[k] != GW_NONE ? first : 0;
        }
        first += (uint32_t)t->n;
    }
}

static sl_status_t make_tables(gw_build_t *b, const json_t *changed, const json_t *gone) {
    size_t n_old = b->base != NULL ? b->base->n[GW_SEC_COLLECTIONS] : 0;
    size_t n_entities = b->base != NULL ? b->base->n[GW_SEC_ENTITIES] : 0;
    b->tables = calloc(n_old + json_object_size(changed) + 1, sizeof(gw_table_t));
    b->moved = malloc((n_entities + 1) * sizeof(uint32_t));
    if (b->tables == NULL || b->moved == NULL) {
        return gw_build_no_memory(b);
    }
    memset(b->moved, 0xff, (n_entities + 1) * sizeof(uint32_t));
    name_tables(b, changed);
    sl_status_t rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < b->n_tables; i++) {
        gw_table_t *t = &b->tables[i];
        t->kind = gw_entity_find(t->name);
        rc = init_table(b, t, json_object_getn(changed, t->name.data, t->name.len), json_object_getn(gone, t->name.data, t->name.len));
    }
    number_tables(b);
    b->services = find_table(b, "services");
    b->routes = find_table(b, "routes");
    b->chains = find_table(b, "filter_chains");
    b->plugins = find_table(b, "plugins");
    return rc;
}

void gw_build_tables_free(gw_build_t *b) {
    for (size_t i = 0; i < b->n_tables; i++) {
        for (size_t k = 0; b->tables[i].items != NULL && k < b->tables[i].n; k++) {
            if (b->tables[i].items[k].owned) {
                json_decref((json_t *)(uintptr_t)b->tables[i].items[k].json);
            }
        }
        free(b->tables[i].items);
    }
    free(b->tables);
    free(b->moved);
}

/* ---- sorted sections of what is kept and what is new ----------------------------------------------------------------------------- */

typedef int (*compare_t)(const void *a, const void *b, void *writer);

/* Writes records of both, which are sorted, in order. */
static void write_merged(gw_writer_t *w, gw_section_t section, const sl_buf_t *kept, const sl_buf_t *fresh, compare_t compare) {
    size_t size = gw_img_record_size[section], k = 0, f = 0;
    while (k < kept->len || f < fresh->len) {
        bool take_kept = f == fresh->len || (k < kept->len && compare(kept->data + k, fresh->data + f, w) <= 0);
        gw_writer_add(w, section, take_kept ? kept->data + k : fresh->data + f);
        k += take_kept ? size : 0;
        f += take_kept ? 0 : size;
    }
}

/* One index of a collection: `fresh` gets sorted; both buffers are emptied. */
static gw_range_t write_index(gw_build_t *b, gw_section_t section, sl_buf_t *kept, sl_buf_t *fresh, compare_t compare) {
    gw_range_t out = {gw_writer_count(&b->w, section), 0};
    if (kept->failed || fresh->failed || gw_writer_failed(&b->w)) {
        b->w.failed = true;
        return out;
    }
    if (fresh->len > 0) {
        qsort_r(fresh->data, fresh->len / gw_img_record_size[section], gw_img_record_size[section], compare, &b->w);
    }
    write_merged(&b->w, section, kept, fresh, compare);
    sl_buf_reset(kept);
    sl_buf_reset(fresh);
    out.count = gw_writer_count(&b->w, section) - out.first;
    return out;
}

/* The entity of now if it is as it was. */
static uint32_t kept_entity(const gw_build_t *b, const gw_table_t *t, uint32_t was) {
    uint32_t now = b->moved[was];
    return now != GW_NONE && t->items[now - t->first].kept ? now : GW_NONE;
}

static int compare_text(const gw_writer_t *w, gw_ref_t a, gw_ref_t b) {
    return a.off == b.off && a.len == b.len ? 0 : sl_str_cmp(gw_writer_text(w, a), gw_writer_text(w, b));
}

#define ORDER(a, b) (((a) > (b)) - ((a) < (b)))

/* ---- keys, tags, links --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    gw_build_t *b;
    gw_table_t *t;
    sl_buf_t kept, fresh;
} index_t;

static int by_key(const void *x, const void *y, void *w) {
    const gw_img_key_t *a = x, *b = y;
    int rc = compare_text(w, a->key, b->key);
    return rc ? rc : ORDER(a->entity, b->entity);
}

static gw_range_t write_keys(index_t *x) {
    const char *field = x->t->kind != NULL ? x->t->kind->endpoint_key : NULL;
    gw_range_t old = x->t->old != NULL ? x->t->old->keys : (gw_range_t){0, 0};
    for (uint32_t i = 0; i < old.count; i++) {
        gw_img_key_t rec = GW_IMG(x->b->base, gw_img_key_t, GW_SEC_KEYS)[old.first + i];
        rec.entity = kept_entity(x->b, x->t, rec.entity);
        if (rec.entity != GW_NONE) {
            sl_buf_append(&x->kept, &rec, sizeof(rec));
        }
    }
    for (size_t i = 0; field != NULL && i < x->t->n; i++) {
        sl_str_t text = x->t->items[i].kept ? SL_STR_NULL : gw_field_str(x->t->items[i].json, field);
        if (text.data != NULL) {
            gw_img_key_t rec = {.key = gw_writer_str(&x->b->w, text), .entity = x->t->first + (uint32_t)i};
            sl_buf_append(&x->fresh, &rec, sizeof(rec));
        }
    }
    return write_index(x->b, GW_SEC_KEYS, &x->kept, &x->fresh, by_key);
}

static int by_tag(const void *x, const void *y, void *w) {
    const gw_img_tag_t *a = x, *b = y;
    int rc = compare_text(w, a->tag, b->tag);
    return rc ? rc : ORDER(a->entity, b->entity);
}

static gw_range_t write_tags(index_t *x) {
    gw_range_t old = x->t->old != NULL ? x->t->old->tags : (gw_range_t){0, 0};
    for (uint32_t i = 0; i < old.count; i++) {
        gw_img_tag_t rec = GW_IMG(x->b->base, gw_img_tag_t, GW_SEC_TAGS)[old.first + i];
        rec.entity = kept_entity(x->b, x->t, rec.entity);
        if (rec.entity != GW_NONE) {
            sl_buf_append(&x->kept, &rec, sizeof(rec));
        }
    }
    for (size_t i = 0; i < x->t->n; i++) {
        const json_t *tags = x->t->items[i].kept ? NULL : json_object_get(x->t->items[i].json, "tags");
        for (size_t k = 0; k < json_array_size(tags); k++) {
            gw_img_tag_t rec = {.tag = gw_writer_str(&x->b->w, gw_json_str(json_array_get(tags, k))), .entity = x->t->first + (uint32_t)i};
            if (rec.tag.off != 0) {
                sl_buf_append(&x->fresh, &rec, sizeof(rec));
            }
        }
    }
    return write_index(x->b, GW_SEC_TAGS, &x->kept, &x->fresh, by_tag);
}

static int by_link(const void *x, const void *y, void *w) {
    const gw_img_link_t *a = x, *b = y;
    int rc = ORDER(a->parent, b->parent);
    rc = rc ? rc : compare_text(w, a->field, b->field);
    return rc ? rc : ORDER(a->child, b->child);
}

/* A reference to nothing is no link; whoever needs it to be one says so. */
static void add_links(index_t *x, const gw_field_t *f) {
    const gw_table_t *parents = find_table(x->b, f->reference);
    gw_img_link_t rec = {.field = gw_writer_str(&x->b->w, sl_cstr(f->name))};
    for (size_t i = 0; i < x->t->n; i++) {
        if (x->t->items[i].kept) {
            continue;
        }
        uint32_t parent = gw_table_find(parents, gw_field_str(json_object_get(x->t->items[i].json, f->name), "id"));
        if (parent != GW_NONE) {
            rec.parent = parents->first + parent;
            rec.child = x->t->first + (uint32_t)i;
            sl_buf_append(&x->fresh, &rec, sizeof(rec));
        }
    }
}

static sl_status_t keep_links(index_t *x) {
    gw_range_t old = x->t->old != NULL ? x->t->old->links : (gw_range_t){0, 0};
    for (uint32_t i = 0; i < old.count; i++) {
        gw_img_link_t rec = GW_IMG(x->b->base, gw_img_link_t, GW_SEC_LINKS)[old.first + i];
        rec.child = kept_entity(x->b, x->t, rec.child);
        rec.parent = x->b->moved[rec.parent];
        if (rec.child != GW_NONE && rec.parent == GW_NONE) {
            return sl_err_set(x->b->err, SL_INVALID, "entity '%.*s': its %.*s does not exist",
                              SL_FMT(x->t->items[rec.child - x->t->first].id), SL_FMT(gw_img_str(x->b->base, rec.field)));
        }
        if (rec.child != GW_NONE) {
            sl_buf_append(&x->kept, &rec, sizeof(rec));
        }
    }
    return SL_OK;
}

static sl_status_t write_links(index_t *x) {
    sl_status_t rc = keep_links(x);
    for (const gw_field_t *f = x->t->kind != NULL ? x->t->kind->fields : NULL; rc == SL_OK && f != NULL && f->name != NULL; f++) {
        if (f->type == GW_TYPE_FOREIGN && f->reference != NULL) {
            add_links(x, f);
        }
    }
    x->t->links = rc == SL_OK ? write_index(x->b, GW_SEC_LINKS, &x->kept, &x->fresh, by_link) : x->t->links;
    return rc;
}

gw_range_t gw_table_links(const gw_build_t *b, const gw_table_t *t, uint32_t parent, sl_str_t field) {
    const gw_img_link_t *links = (const gw_img_link_t *)(const void *)b->w.sec[GW_SEC_LINKS].data;
    gw_range_t out = {t->links.first, 0};
    uint32_t lo = t->links.first, hi = t->links.first + t->links.count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int rc = ORDER(links[mid].parent, parent);
        rc = rc ? rc : sl_str_cmp(gw_writer_text(&b->w, links[mid].field), field);
        lo = rc < 0 ? mid + 1 : lo;
        hi = rc < 0 ? hi : mid;
    }
    out.first = lo;
    while (lo < t->links.first + t->links.count && links[lo].parent == parent && sl_str_eq(gw_writer_text(&b->w, links[lo].field), field)) {
        lo++;
    }
    out.count = lo - out.first;
    return out;
}

/* ---- collections ----------------------------------------------------------------------------------------------------------------------
 */

static void write_entities(gw_build_t *b, const gw_table_t *t) {
    for (size_t i = 0; i < t->n; i++) {
        const gw_entry_t *e = &t->items[i];
        gw_img_entity_t rec;
        if (e->kept) {
            rec = GW_IMG(b->base, gw_img_entity_t, GW_SEC_ENTITIES)[e->was];
        } else {
            rec = (gw_img_entity_t){gw_writer_str(&b->w, e->id), gw_writer_json(&b->w, e->json)};
        }
        gw_writer_add(&b->w, GW_SEC_ENTITIES, &rec);
    }
}

static sl_status_t write_collection(gw_build_t *b, gw_table_t *t) {
    index_t x = {.b = b, .t = t};
    sl_buf_init(&x.kept, SIZE_MAX / 2);
    sl_buf_init(&x.fresh, SIZE_MAX / 2);
    gw_img_collection_t rec = {.name = gw_writer_str(&b->w, t->name)};
    rec.entities = (gw_range_t){t->first, (uint32_t)t->n};
    write_entities(b, t);
    rec.keys = write_keys(&x);
    rec.tags = write_tags(&x);
    sl_status_t rc = write_links(&x);
    rec.links = t->links;
    gw_writer_add(&b->w, GW_SEC_COLLECTIONS, &rec);
    sl_buf_deinit(&x.kept);
    sl_buf_deinit(&x.fresh);
    return rc == SL_OK && gw_writer_failed(&b->w) ? gw_build_no_memory(b) : rc;
}

sl_status_t gw_build_tables(gw_build_t *b, const json_t *changed, const json_t *gone) {
    sl_status_t rc = make_tables(b, changed, gone);
    for (size_t i = 0; rc == SL_OK && i < b->n_tables; i++) {
        rc = write_collection(b, &b->tables[i]);
    }
    return rc;
}
