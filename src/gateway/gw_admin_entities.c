/*
 * The endpoints that every entity has, derived from its table: /E, /E/{e}, /E/{e}/F for each foreign field F, and below a parent
 * /P/{p}/E and /P/{p}/E/{e}. What writes do is in gw_admin_write.c.
 */
#include <stdio.h>
#include <stdlib.h>

#include "gw_admin_parts.h"
#include "sl_digest.h"

#define COLLECTION_METHODS (GW_GET | GW_HEAD | GW_POST)
#define ITEM_METHODS (GW_DELETE | GW_GET | GW_HEAD | GW_PATCH | GW_PUT)

/* A path of the generated kind, taken apart. */
typedef struct {
    const gw_entity_t *kind;  /* what is listed or shown */
    const gw_entity_t *above; /* its parent in the path, or the entity whose foreign field is asked for; NULL: none */
    const gw_field_t *link;   /* kind's field for `above`; for /E/{e}/F the field F of `above` */
    bool through_field;       /* /E/{e}/F */
    bool has_key;
    sl_str_t key, above_key;
} target_t;

/* ---- finding -------------------------------------------------------------------------------------------------------------- */

sl_str_t gw_admin_lower_id(gw_admin_t *a, sl_str_t id) {
    sl_str_t copy = sl_arena_dup(&a->arena, id);
    if (copy.data == NULL) {
        a->failed = true;
        return SL_STR_NULL;
    }
    for (size_t i = 0; i < copy.len; i++) {
        char *c = (char *)copy.data + i;
        *c = *c >= 'A' && *c <= 'F' ? (char)(*c | 0x20) : *c;
    }
    return copy;
}

static const char *id_in(const json_t *entity, const char *field) {
    return json_string_value(json_object_get(json_object_get(entity, field), "id"));
}

static const char *id_of(const json_t *entity) {
    return json_string_value(json_object_get(entity, "id"));
}

/* A certificate is also known by any of its server names. */
static json_t *certificate_of_sni(gw_admin_t *a, sl_str_t name, uint64_t *revision) {
    json_t *sni = NULL, *found = NULL;
    gw_admin_got(a, a->data->ops->find(a->data, "snis", "name", name, &sni, NULL));
    const char *id = id_in(sni, "certificate");
    if (id != NULL) {
        gw_admin_got(a, a->data->ops->get(a->data, "certificates", sl_cstr(id), &found, revision));
    }
    json_decref(sni);
    return found;
}

json_t *gw_admin_load(gw_admin_t *a, const char *collection, sl_str_t key, uint64_t *revision) {
    const gw_entity_t *kind = gw_entity_find(sl_cstr(collection));
    json_t *found = NULL;
    if (sl_uuid_valid(key)) {
        gw_admin_got(a, a->data->ops->get(a->data, collection, gw_admin_lower_id(a, key), &found, revision));
    } else if (kind->endpoint_key != NULL) {
        gw_admin_got(a, a->data->ops->find(a->data, collection, kind->endpoint_key, key, &found, revision));
    }
    if (found == NULL && strcmp(collection, "certificates") == 0) {
        found = certificate_of_sni(a, key, revision);
    }
    return found;
}

json_t *gw_admin_list(gw_admin_t *a, const char *collection, const gw_query_t *query, bool *more) {
    json_t *found = NULL;
    *more = false;
    return gw_admin_got(a, a->data->ops->list(a->data, collection, query, &found, more)) ? found : NULL;
}

#define CHILDREN_PAGE 1000

json_t *gw_admin_children(gw_admin_t *a, const char *collection, const char *field, const char *id) {
    char after[SL_UUID_TEXT_SIZE + 1] = "";
    json_t *all = json_array();
    for (bool more = all != NULL; more;) {
        gw_query_t query = {.after = after, .limit = CHILDREN_PAGE, .parent_field = field, .parent_id = id};
        json_t *page = gw_admin_list(a, collection, &query, &more);
        const char *last = id_of(json_array_get(page, json_array_size(page) - 1));
        snprintf(after, sizeof(after), "%s", last != NULL ? last : "");
        more = more && last != NULL;
        if (page == NULL || json_array_extend(all, page) != 0) {
            json_decref(page);
            json_decref(all);
            all = NULL;
            break;
        }
        json_decref(page);
    }
    a->failed = a->failed || (all == NULL && !a->storage_failed);
    return all;
}

/* ---- reading -------------------------------------------------------------------------------------------------------------- */

static void show(gw_admin_t *a, const gw_entity_t *kind, json_t *entity) {
    gw_admin_add_snis(a, kind, entity);
    gw_admin_json(a, 200, json_incref(entity));
}

static void show_page(gw_admin_t *a, const gw_entity_t *kind, const json_t *list, size_t from, size_t n, const char *last) {
    sl_buf_append_cstr(&a->resp->body, "{\"data\":[");
    for (size_t i = 0; i < n; i++) {
        sl_buf_append_cstr(&a->resp->body, i > 0 ? "," : "");
        show(a, kind, json_array_get(list, from + i));
    }
    gw_page_end(a, last);
    gw_admin_text(a, 200, SL_STR(""));
}

static int newer_first(const void *x, const void *y) {
    const json_t *a = *(json_t *const *)x, *b = *(json_t *const *)y;
    double p = json_number_value(json_object_get(a, "created_at")), q = json_number_value(json_object_get(b, "created_at"));
    return p != q ? (p < q) - (p > q) : strcmp(id_of(b), id_of(a));
}

/* Targets are listed newest first, and their pages are counted. */
static json_t *newest_first(gw_admin_t *a, const json_t *all, const gw_query_t *query) {
    size_t n = json_array_size(all), kept = 0;
    json_t **order = calloc(n + 1, sizeof(*order)), *sorted = json_array();
    a->failed = a->failed || order == NULL || sorted == NULL;
    for (size_t i = 0; order != NULL && i < n; i++) {
        json_t *one = json_array_get(all, i);
        if (id_of(one) != NULL && gw_query_has_tags(query, one)) {
            order[kept++] = one;
        }
    }
    if (order != NULL && kept > 0) {
        qsort(order, kept, sizeof(*order), newer_first);
    }
    for (size_t i = 0; i < kept; i++) {
        a->failed = a->failed || json_array_append(sorted, order[i]) != 0;
    }
    free(order);
    return sorted;
}

static void list_targets(gw_admin_t *a, const target_t *t, const gw_page_t *page, const char *parent_id) {
    char last[24];
    gw_query_t query = gw_page_query(page);
    json_t *all = gw_admin_children(a, t->kind->name, t->link->name, parent_id), *sorted = newest_first(a, all, &query);
    size_t total = json_array_size(sorted), from = (size_t)strtoul(page->after, NULL, 10);
    from = from < total ? from : total;
    size_t n = total - from < page->size ? total - from : page->size;
    snprintf(last, sizeof(last), "%zu", from + n);
    show_page(a, t->kind, sorted, from, n, from + n < total ? last : NULL);
    json_decref(all);
    json_decref(sorted);
}

static void list(gw_admin_t *a, const target_t *t, const char *parent_id) {
    gw_page_t page;
    if (!gw_page_read(a, &page)) {
        return;
    }
    if (parent_id != NULL && strcmp(t->kind->name, "targets") == 0) {
        list_targets(a, t, &page, parent_id);
        return;
    }
    bool more;
    gw_query_t query = gw_page_query(&page);
    query.parent_field = parent_id != NULL ? t->link->name : NULL;
    query.parent_id = parent_id;
    json_t *found = gw_admin_list(a, t->kind->name, &query, &more);
    size_t n = json_array_size(found);
    show_page(a, t->kind, found, 0, n, more ? id_of(json_array_get(found, n - 1)) : NULL);
    json_decref(found);
}

/* GET /consumers?custom_id=x */
static bool list_by_custom_id(gw_admin_t *a, const target_t *t) {
    const gw_arg_t *arg = gw_admin_arg(a, "custom_id");
    json_t *consumer = NULL, *found = json_array();
    if (arg == NULL || strcmp(t->kind->name, "consumers") != 0 || t->above != NULL) {
        json_decref(found);
        return false;
    }
    if (arg->value.len > 0 && gw_admin_got(a, a->data->ops->find(a->data, t->kind->name, "custom_id", arg->value, &consumer, NULL))) {
        a->failed = a->failed || json_array_append_new(found, consumer) != 0;
    }
    show_page(a, t->kind, found, 0, json_array_size(found), NULL);
    json_decref(found);
    return true;
}

/* ---- one path ---------------------------------------------------------------------------------------------------------------- */

static void answer_collection(gw_admin_t *a, const target_t *t, const char *parent_id) {
    if (a->method == GW_POST) {
        gw_admin_create(a, &(gw_write_t){.kind = t->kind, .link = t->link, .parent_id = parent_id});
    } else if (!list_by_custom_id(a, t)) {
        list(a, t, parent_id);
    }
}

/* A key that is unique only below its parent: the address of a target. */
static json_t *find_below(gw_admin_t *a, const target_t *t, const char *parent_id, uint64_t *revision) {
    size_t i;
    json_t *entity, *found = NULL, *all = gw_admin_children(a, t->kind->name, t->link->name, parent_id);
    json_array_foreach(all, i, entity) {
        const char *key = json_string_value(json_object_get(entity, t->kind->endpoint_key));
        if (found == NULL && key != NULL && sl_str_eq(t->key, sl_cstr(key))) {
            gw_admin_got(a, a->data->ops->get(a->data, t->kind->name, sl_cstr(id_of(entity)), &found, revision));
        }
    }
    json_decref(all);
    return found;
}

static bool has_local_key(const target_t *t) {
    const char *key = t->kind->endpoint_key;
    return key != NULL && !gw_field_find(t->kind->fields, key)->unique && !sl_uuid_valid(t->key);
}

static void show_item(gw_admin_t *a, const gw_entity_t *kind, json_t *entity, uint64_t revision) {
    if (gw_admin_precondition(a, true, revision)) {
        gw_admin_etag(a, revision);
        show(a, kind, entity);
    }
}

static void answer_write(gw_admin_t *a, const gw_write_t *w) {
    switch (a->method) {
    case GW_PUT:
        gw_admin_upsert(a, w, NULL);
        break;
    case GW_PATCH:
        gw_admin_update(a, w);
        break;
    default:
        gw_admin_remove(a, w);
        break;
    }
}

static void answer_item(gw_admin_t *a, const target_t *t, const char *parent_id) {
    gw_write_t w = {.kind = t->kind, .link = t->link, .parent_id = parent_id, .key = t->key};
    json_t *old = parent_id != NULL && has_local_key(t) ? find_below(a, t, parent_id, &w.revision)
                                                        : gw_admin_load(a, t->kind->name, t->key, &w.revision);
    const char *owner = parent_id != NULL ? id_in(old, t->link->name) : NULL;
    bool elsewhere = old != NULL && parent_id != NULL && (owner == NULL || strcmp(owner, parent_id) != 0);
    bool reads = (a->method & (GW_GET | GW_HEAD)) != 0;
    w.old = old;
    if (elsewhere || (old == NULL && reads)) {
        gw_admin_not_found(a);
    } else if (reads) {
        show_item(a, t->kind, old, w.revision);
    } else {
        answer_write(a, &w);
    }
    json_decref(old);
}

/* PUT /E/{e}/F where nothing is linked yet: what is stored becomes F of `above`. */
static void upsert_and_link(gw_admin_t *a, const target_t *t, const json_t *above, const gw_write_t *w) {
    char id[SL_UUID_TEXT_SIZE + 1];
    gw_admin_upsert(a, w, id);
    size_t answered = a->resp->body.len;
    if (id[0] != '\0' && w->old == NULL && !gw_admin_relink(a, t->above, above, t->link->name, id)) {
        sl_buf_splice(&a->resp->body, 0, answered, NULL, 0); /* the answer is why not */
    }
}

/* /E/{e}/F: `above` is E, its field holds the id of what is shown. */
static void answer_through_field(gw_admin_t *a, const target_t *t, const json_t *above) {
    const char *id = id_in(above, t->link->name);
    gw_write_t w = {.kind = t->kind, .key = id != NULL ? sl_cstr(id) : SL_STR_NULL};
    json_t *linked = id != NULL ? gw_admin_load(a, t->kind->name, sl_cstr(id), &w.revision) : NULL;
    w.old = linked;
    if (a->method == GW_PUT) {
        upsert_and_link(a, t, above, &w);
    } else if (linked == NULL) {
        gw_admin_not_found(a);
    } else if (a->method == GW_DELETE) {
        gw_admin_message(a, 405, "Method not allowed");
    } else if (a->method == GW_PATCH) {
        gw_admin_update(a, &w);
    } else {
        show_item(a, t->kind, linked, w.revision);
    }
    json_decref(linked);
}

static void answer_below(gw_admin_t *a, const target_t *t) {
    json_t *above = gw_admin_load(a, t->above->name, t->above_key, NULL);
    if (above == NULL) {
        gw_admin_not_found(a);
    } else if (t->through_field) {
        answer_through_field(a, t, above);
    } else if (t->has_key) {
        answer_item(a, t, id_of(above));
    } else {
        answer_collection(a, t, id_of(above));
    }
    json_decref(above);
}

/* ---- paths -------------------------------------------------------------------------------------------------------------------- */

/* A foreign field with an endpoint of its own; the certificate of a name deliberately has none. */
static bool has_field_path(const gw_entity_t *kind, const gw_field_t *field) {
    return field->type == GW_TYPE_FOREIGN && !kind->hidden_collection && strcmp(kind->name, "snis") != 0;
}

static bool take_apart(const gw_admin_t *a, target_t *t) {
    const gw_entity_t *first = a->n_segments > 0 ? gw_entity_by_path(a->segments[0]) : NULL;
    if (first == NULL || first->hidden_collection || a->n_segments > 4) {
        return false;
    }
    *t = (target_t){.kind = first, .has_key = a->n_segments == 2, .key = a->segments[1]};
    if (a->n_segments < 3) {
        return true;
    }
    t->above = first;
    t->above_key = a->segments[1];
    const gw_field_t *field = gw_field_find(first->fields, a->segments[2].data);
    if (a->n_segments == 3 && field != NULL && has_field_path(first, field)) {
        t->kind = gw_entity_find(sl_cstr(field->reference));
        t->link = field;
        t->through_field = true;
        return true;
    }
    t->kind = gw_entity_by_path(a->segments[2]);
    t->link = t->kind != NULL ? gw_entity_link(t->kind, first) : NULL;
    t->has_key = a->n_segments == 4;
    t->key = a->segments[3];
    return t->link != NULL;
}

static bool needs_wasm(const target_t *t) {
    return strcmp(t->kind->name, "filter_chains") == 0 || (t->above != NULL && strcmp(t->above->name, "filter_chains") == 0);
}

/* /upstreams/{u}/targets/all lists what the collection lists. */
static bool is_all_targets(const target_t *t) {
    return t->has_key && t->above != NULL && strcmp(t->kind->name, "targets") == 0 && sl_str_eq(t->key, SL_STR("all"));
}

static bool refuse_key(gw_admin_t *a, const char *field, sl_err_t *text) {
    json_t *fields = json_pack("{s:o}", field, gw_text(text->text));
    json_t *error = fields != NULL ? gw_error_object(GW_ERR_UNIQUE_KEY, text->text, fields) : NULL;
    char name[64];
    snprintf(name, sizeof(name), "invalid unique %s", field);
    if (error != NULL && json_object_set_new(error, "name", json_string(name)) != 0) {
        a->failed = true;
    }
    gw_admin_error(a, error);
    json_decref(fields);
    return false;
}

/* What can be no key of the kind is refused, not looked for. false: answered. */
static bool check_key(gw_admin_t *a, const gw_entity_t *kind, sl_str_t key) {
    const gw_field_t *field = kind->endpoint_key != NULL ? gw_field_find(kind->fields, kind->endpoint_key) : NULL;
    sl_err_t text = {.text = ""};
    if (sl_uuid_valid(key) || field == NULL || !field->unique || field->check == NULL || field->check(key, &text)) {
        return true;
    }
    return refuse_key(a, field->name, &text);
}

bool gw_admin_entities(gw_admin_t *a) {
    target_t t;
    if (!take_apart(a, &t)) {
        return false;
    }
    if (needs_wasm(&t) && !gw_admin_wasm_ready(a)) {
        return true;
    }
    bool all = is_all_targets(&t);
    t.has_key = t.has_key && !all;
    unsigned methods = all ? GW_GET | GW_HEAD : t.has_key || t.through_field ? ITEM_METHODS : COLLECTION_METHODS;
    if (!gw_admin_allows(a, methods) || (t.above != NULL && !check_key(a, t.above, t.above_key)) ||
        (t.has_key && !check_key(a, t.kind, t.key)) || !gw_admin_begin(a)) {
        return true;
    }
    if (t.above != NULL) {
        answer_below(a, &t);
    } else if (t.has_key) {
        answer_item(a, &t, NULL);
    } else {
        answer_collection(a, &t, NULL);
    }
    return true;
}

/* ---- /endpoints ----------------------------------------------------------------------------------------------------------------- */

typedef struct {
    void (*each)(void *ud, const gw_admin_path_t *path);
    void *ud;
} emitter_t;

static void emit(const emitter_t *out, const gw_entity_t *kind, unsigned methods, const char *form, const char *const names[4]) {
    char text[256];
    snprintf(text, sizeof(text), form, names[0], names[1], names[2], names[3]);
    gw_admin_path_t path = {.path = text, .methods = methods, .kind = kind, .collection = methods == COLLECTION_METHODS};
    out->each(out->ud, &path);
}

static void emit_links(const emitter_t *out, const gw_entity_t *e) {
    for (const gw_field_t *f = e->fields; f->name != NULL; f++) {
        const gw_entity_t *above = f->type == GW_TYPE_FOREIGN ? gw_entity_find(sl_cstr(f->reference)) : NULL;
        if (above == NULL) {
            continue;
        }
        if (has_field_path(e, f)) {
            emit(out, above, ITEM_METHODS, "/%s/{%s}/%s%s", (const char *const[]){e->path, e->name, f->name, ""});
        }
        const char *const below[] = {above->path, above->name, e->path, e->name};
        emit(out, e, COLLECTION_METHODS, "/%s/{%s}/%s", below);
        emit(out, e, ITEM_METHODS, "/%s/{%s}/%s/{%s}", below);
    }
}

void gw_admin_entity_paths(void (*each)(void *ud, const gw_admin_path_t *path), void *ud) {
    const emitter_t out = {each, ud};
    for (const gw_entity_t *e = gw_entities; e->name != NULL; e++) {
        const char *const names[] = {e->path, e->name, "", ""};
        if (!e->hidden_collection) {
            emit(&out, e, COLLECTION_METHODS, "/%s", names);
            emit(&out, e, ITEM_METHODS, "/%s/{%s}", names);
        }
        emit_links(&out, e);
    }
    gw_admin_path_t all = {"/upstreams/{upstreams}/targets/all", GW_GET | GW_HEAD, gw_entity_find(SL_STR("targets")), true, NULL};
    each(ud, &all);
}
