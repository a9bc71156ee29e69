/* From a canonical entity to its row: what the entity tables say about unique values and references. */
#include "store_ops.h"

#include "gw_schema.h"

static int append(const char *data, size_t len, void *ud) {
    return sl_buf_append(ud, data, len) == SL_OK ? 0 : -1;
}

static sl_str_t text_of(const json_t *value) {
    return sl_str(json_string_value(value), json_string_length(value));
}

static const json_t *foreign_id(const json_t *value) {
    return json_object_get(value, "id");
}

static bool is_canonical_id(sl_str_t id) {
    for (size_t i = 0; i < id.len; i++) {
        if (id.data[i] >= 'A' && id.data[i] <= 'F') {
            return false;
        }
    }
    return sl_uuid_valid(id);
}

static sl_status_t too_many(const gw_entity_t *kind, sl_err_t *err) {
    return sl_err_set(err, SL_FAILED, "%s: more unique fields or references than a row of the store has room for", kind->name);
}

static sl_status_t add_unique(const gw_entity_t *kind, st_row_t *row, sl_str_t field, sl_str_t value, sl_err_t *err) {
    if (row->n_uniques == ST_ROW_UNIQUES_MAX) {
        return too_many(kind, err);
    }
    row->uniques[row->n_uniques++] = (st_unique_t){field, value};
    return SL_OK;
}

static sl_status_t add_ref(const gw_entity_t *kind, st_row_t *row, const gw_field_t *field, sl_str_t id, sl_err_t *err) {
    if (row->n_refs == ST_ROW_REFS_MAX) {
        return too_many(kind, err);
    }
    row->refs[row->n_refs++] = (st_ref_t){sl_cstr(field->name), sl_cstr(field->reference), id, field->on_delete_cascade};
    return SL_OK;
}

static sl_status_t build_field(const gw_entity_t *kind, const gw_field_t *field, const json_t *value, st_row_t *row, sl_err_t *err) {
    if (value == NULL || json_is_null(value) || field->transient) {
        return SL_OK;
    }
    const json_t *text = field->type == GW_TYPE_FOREIGN ? foreign_id(value) : value;
    if ((field->unique || field->type == GW_TYPE_FOREIGN) && !json_is_string(text)) {
        return sl_err_set(err, SL_INVALID, "%s.%s: expected a text or {\"id\": text}", kind->name, field->name);
    }
    sl_status_t rc = SL_OK;
    if (field->type == GW_TYPE_FOREIGN) {
        rc = is_canonical_id(text_of(text)) ? add_ref(kind, row, field, text_of(text), err)
                                            : sl_err_set(err, SL_INVALID, "%s.%s: expected the id of an entity", kind->name, field->name);
    }
    if (rc == SL_OK && field->unique && strcmp(field->name, "id") != 0) {
        rc = add_unique(kind, row, sl_cstr(field->name), text_of(text), err);
    }
    return rc;
}

/* The fields' names with commas between, then their values as a JSON array, both in `key`. Unset ones count, as null. */
static sl_status_t build_cache_key(const gw_entity_t *kind, const json_t *entity, sl_buf_t *key, st_row_t *row, sl_err_t *err) {
    json_t *values = json_array();
    bool fine = values != NULL;
    sl_buf_reset(key);
    for (const char *const *name = kind->cache_key; fine && *name != NULL; name++) {
        json_t *value = json_object_get(entity, *name);
        value = json_is_object(value) ? (json_t *)foreign_id(value) : value;
        fine = json_array_append_new(values, value != NULL ? json_incref(value) : json_null()) == 0;
        sl_buf_append_cstr(key, key->len > 0 ? "," : "");
        sl_buf_append_cstr(key, *name);
    }
    size_t len = key->len;
    fine = fine && json_dump_callback(values, append, key, JSON_COMPACT) == 0 && !key->failed;
    json_decref(values);
    if (!fine) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    return add_unique(kind, row, sl_str(key->data, len), sl_str(key->data + len, key->len - len), err);
}

sl_status_t st_row_build(sl_str_t collection, const json_t *entity, sl_buf_t *json, sl_buf_t *key, st_row_t *row, sl_err_t *err) {
    const gw_entity_t *kind = gw_entity_find(collection);
    memset(row, 0, sizeof(*row));
    if (kind == NULL) {
        return sl_err_set(err, SL_INVALID, "there is no collection \"%.*s\"", SL_FMT(collection));
    }
    row->collection = sl_cstr(kind->name);
    row->id = text_of(json_object_get(entity, "id"));
    if (!is_canonical_id(row->id)) {
        return sl_err_set(err, SL_INVALID, "%s: an entity without an id", kind->name);
    }
    sl_status_t rc = SL_OK;
    for (const gw_field_t *field = kind->fields; rc == SL_OK && field->name != NULL; field++) {
        rc = build_field(kind, field, json_object_get(entity, field->name), row, err);
    }
    if (rc == SL_OK && kind->cache_key != NULL) {
        rc = build_cache_key(kind, entity, key, row, err);
    }
    if (rc != SL_OK) {
        return rc;
    }
    sl_buf_reset(json);
    if (json_dump_callback(entity, append, json, JSON_COMPACT | JSON_REAL_PRECISION(17)) != 0 || json->failed) {
        return sl_err_set(err, SL_NO_MEMORY, "%s: out of memory, or an entity larger than %zu bytes", kind->name, json->max);
    }
    row->json = sl_buf_str(json);
    row->tags = json_object_get(entity, "tags");
    return SL_OK;
}
