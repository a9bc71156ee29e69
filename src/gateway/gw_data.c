#include "gw_data.h"

#include "gw_schema.h"
#include "sl_digest.h"

/* ---- tags --------------------------------------------------------------------------------------------------------------- */

static bool has_tag(const json_t *tags, const char *tag) {
    size_t i;
    const json_t *value;
    json_array_foreach(tags, i, value) {
        const char *text = json_string_value(value);
        if (text != NULL && strcmp(text, tag) == 0) {
            return true;
        }
    }
    return false;
}

static bool are_enough(const gw_query_t *query, size_t found) {
    return query->n_tags == 0 || (query->any_tag ? found > 0 : found == query->n_tags);
}

bool gw_query_has_tags(const gw_query_t *query, const json_t *entity) {
    const json_t *tags = query->n_tags > 0 ? json_object_get(entity, "tags") : NULL;
    size_t found = 0;
    for (size_t i = 0; i < query->n_tags; i++) {
        found += has_tag(tags, query->tags[i]);
    }
    return are_enough(query, found);
}

/* ---- a plan ------------------------------------------------------------------------------------------------------------- */

static const gw_plan_t *plan_of(const gw_data_t *d) {
    return ((const gw_plan_data_t *)d)->plan;
}

static sl_status_t no_memory(gw_data_t *d) {
    return sl_err_set(&d->err, SL_NO_MEMORY, "out of memory");
}

static sl_status_t parse(gw_data_t *d, sl_str_t text, json_t **entity) {
    if (text.len == 0) {
        return SL_NOT_FOUND;
    }
    *entity = json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL);
    return *entity != NULL ? SL_OK : no_memory(d);
}

static sl_status_t plan_get(gw_data_t *d, const char *collection, sl_str_t id, json_t **entity, uint64_t *revision) {
    if (revision != NULL) {
        *revision = 0;
    }
    return parse(d, gw_plan_entity(plan_of(d), sl_cstr(collection), id), entity);
}

static sl_status_t plan_find(gw_data_t *d, const char *collection, const char *field, sl_str_t value, json_t **entity, uint64_t *revision) {
    sl_str_t text;
    const gw_entity_t *kind = gw_entity_find(sl_cstr(collection));
    if (revision != NULL) {
        *revision = 0;
    }
    if (kind != NULL && kind->endpoint_key != NULL && strcmp(field, kind->endpoint_key) == 0 && !sl_uuid_valid(value)) {
        return parse(d, gw_plan_entity(plan_of(d), sl_cstr(collection), value), entity);
    }
    for (size_t n = 0; (text = gw_plan_entity_at(plan_of(d), sl_cstr(collection), n)).len > 0; n++) {
        json_t *found = NULL;
        sl_status_t rc = parse(d, text, &found);
        const json_t *has = json_object_get(found, field);
        if (rc == SL_OK && json_is_string(has) && sl_str_eq(value, sl_str(json_string_value(has), json_string_length(has)))) {
            *entity = found;
            return SL_OK;
        }
        json_decref(found);
        if (rc != SL_OK) {
            return rc;
        }
    }
    return SL_NOT_FOUND;
}

static bool is_child(const json_t *entity, const gw_query_t *query) {
    const char *id = json_string_value(json_object_get(json_object_get(entity, query->parent_field), "id"));
    return id != NULL && strcmp(id, query->parent_id) == 0;
}

#define SETS_MAX 8 /* more tags than the Admin API takes */

/* Positions of a collection that may belong to a query's list, in order: all of them, or those of some indexes. */
typedef struct {
    gw_plan_set_t sets[SETS_MAX];
    size_t at[SETS_MAX], n_sets;
    size_t next; /* without sets */
} walk_t;

static const char *parents_of(const char *collection, const char *field) {
    const gw_entity_t *kind = gw_entity_find(sl_cstr(collection));
    const gw_field_t *f = kind != NULL ? gw_field_find(kind->fields, field) : NULL;
    return f != NULL && f->reference != NULL ? f->reference : "";
}

static void add_set(walk_t *w, gw_plan_set_t set, size_t from) {
    w->sets[w->n_sets] = set;
    w->at[w->n_sets++] = gw_plan_set_from(&set, from);
}

static walk_t start_walk(const gw_plan_t *plan, const char *collection, const gw_query_t *query) {
    walk_t w = {.n_sets = 0};
    sl_str_t name = sl_cstr(collection), after = sl_cstr(query->after);
    w.next = after.len > 0 ? gw_plan_entity_after(plan, name, after) : 0;
    if (query->parent_field != NULL) {
        sl_str_t parents = sl_cstr(parents_of(collection, query->parent_field));
        add_set(&w, gw_plan_children(plan, name, sl_cstr(query->parent_field), parents, sl_cstr(query->parent_id)), w.next);
    } else if (query->n_tags > 0 && query->n_tags <= SETS_MAX) {
        /* For all of them, any one leads to those that may have the others. */
        for (size_t i = 0; i < (query->any_tag ? query->n_tags : 1); i++) {
            add_set(&w, gw_plan_tagged(plan, name, sl_cstr(query->tags[i])), w.next);
        }
    }
    return w;
}

/* SIZE_MAX: the end of the sets. */
static size_t next_position(walk_t *w) {
    size_t first = SIZE_MAX;
    if (w->n_sets == 0) {
        return w->next++;
    }
    for (size_t i = 0; i < w->n_sets; i++) {
        size_t position = w->at[i] < w->sets[i].n ? gw_plan_set_at(&w->sets[i], w->at[i]) : SIZE_MAX;
        first = position < first ? position : first;
    }
    for (size_t i = 0; i < w->n_sets; i++) {
        w->at[i] += w->at[i] < w->sets[i].n && gw_plan_set_at(&w->sets[i], w->at[i]) == first;
    }
    return first;
}

static sl_status_t plan_list(gw_data_t *d, const char *collection, const gw_query_t *query, json_t **list, bool *more) {
    walk_t walk = start_walk(plan_of(d), collection, query);
    json_t *found = json_array();
    sl_str_t text;
    sl_status_t rc = found != NULL ? SL_OK : no_memory(d);
    *more = false;
    while (rc == SL_OK && !*more && (text = gw_plan_entity_at(plan_of(d), sl_cstr(collection), next_position(&walk))).len > 0) {
        json_t *entity = NULL;
        rc = parse(d, text, &entity);
        bool fits = entity != NULL && (query->parent_field == NULL || is_child(entity, query)) && gw_query_has_tags(query, entity);
        *more = fits && json_array_size(found) == query->limit;
        if (fits && !*more && json_array_append(found, entity) != 0) {
            rc = no_memory(d);
        }
        json_decref(entity);
    }
    if (rc != SL_OK) {
        json_decref(found);
        return rc;
    }
    *list = found;
    return SL_OK;
}

static const gw_data_ops_t plan_ops = {.get = plan_get, .find = plan_find, .list = plan_list};

void gw_plan_data_init(gw_plan_data_t *d, const gw_plan_t *plan) {
    memset(d, 0, sizeof(*d));
    d->base.ops = &plan_ops;
    d->plan = plan;
}
