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

/* Searching the text first spares parsing most of a large collection. A tag that JSON escapes may be anywhere. */
static bool may_have_tag(sl_str_t text, const char *tag) {
    char quoted[128];
    size_t len = strlen(tag);
    if (len > sizeof(quoted) - 2 || strpbrk(tag, "\"\\") != NULL) {
        return true;
    }
    quoted[0] = quoted[len + 1] = '"';
    memcpy(quoted + 1, tag, len);
    return memmem(text.data, text.len, quoted, len + 2) != NULL;
}

static bool may_have_tags(const gw_query_t *query, sl_str_t text) {
    size_t found = 0;
    for (size_t i = 0; i < query->n_tags; i++) {
        found += may_have_tag(text, query->tags[i]);
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

/* What the text alone can tell. */
static bool may_match(const gw_query_t *query, sl_str_t text) {
    bool child = query->parent_field == NULL || memmem(text.data, text.len, query->parent_id, strlen(query->parent_id)) != NULL;
    return child && may_have_tags(query, text);
}

static sl_status_t plan_list(gw_data_t *d, const char *collection, const gw_query_t *query, json_t **list, bool *more) {
    const gw_plan_t *plan = plan_of(d);
    sl_str_t name = sl_cstr(collection), after = sl_cstr(query->after), text;
    json_t *found = json_array();
    sl_status_t rc = found != NULL ? SL_OK : no_memory(d);
    *more = false;
    for (size_t n = after.len > 0 ? gw_plan_entity_after(plan, name, after) : 0;
         rc == SL_OK && !*more && (text = gw_plan_entity_at(plan, name, n)).len > 0; n++) {
        json_t *entity = NULL;
        rc = may_match(query, text) ? parse(d, text, &entity) : SL_OK;
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
