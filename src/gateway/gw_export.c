/* A running configuration as a document again: flat collections, every field, ready to be loaded as it is. */
#include "gw_config.h"
#include "gw_schema.h"

/* {"<id>": {...}} as a list, in its order. */
static json_t *as_list(const json_t *by_id) {
    const char *id;
    json_t *entity, *list = json_array();
    json_object_foreach((json_t *)by_id, id, entity) {
        if (json_array_append(list, entity) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *empty_document(void) {
    return json_pack("{s:s,s:b}", "_format_version", "3.0", "_transform", 0);
}

static json_t *as_document(const json_t *entities) {
    const char *collection;
    json_t *by_id, *doc = empty_document();
    json_object_foreach((json_t *)entities, collection, by_id) {
        if (json_object_set_new(doc, collection, as_list(by_id)) != 0) {
            json_decref(doc);
            return NULL;
        }
    }
    return doc;
}

/* Takes the document. */
static sl_status_t print(json_t *doc, sl_buf_t *yaml) {
    sl_status_t rc = doc != NULL ? gw_document_print_yaml(doc, yaml) : SL_NO_MEMORY;
    json_decref(doc);
    return rc;
}

sl_status_t gw_config_export(const json_t *entities, sl_buf_t *yaml) {
    return print(as_document(entities), yaml);
}

/* {"<collection>": [entity]} */
static json_t *one_of_plan(const gw_plan_t *plan, sl_str_t collection, size_t i) {
    sl_str_t text = gw_plan_entity_at(plan, collection, i);
    json_t *entity = json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL);
    return entity != NULL ? json_pack("{s:[o]}", collection.data, entity) : NULL;
}

/* As a document of its own; those of a list differ from it in the first line, which only the first one has. */
static sl_status_t print_entity(const gw_plan_t *plan, sl_str_t collection, size_t i, sl_buf_t *piece, sl_buf_t *yaml) {
    sl_buf_reset(piece);
    sl_status_t rc = print(one_of_plan(plan, collection, i), piece);
    const char *line_end = rc == SL_OK ? memchr(piece->data, '\n', piece->len) : NULL;
    if (line_end == NULL) {
        return SL_NO_MEMORY;
    }
    size_t skip = i == 0 ? 0 : (size_t)(line_end + 1 - piece->data);
    return sl_buf_append(yaml, piece->data + skip, piece->len - skip);
}

/* One entity after the other: the tree of all would take many times the memory of the text. */
sl_status_t gw_config_export_plan(const gw_plan_t *plan, sl_buf_t *yaml) {
    sl_buf_t piece;
    sl_buf_init(&piece, yaml->max);
    sl_status_t rc = print(empty_document(), yaml);
    for (const gw_entity_t *kind = gw_entities; kind->name != NULL; kind++) {
        size_t n = gw_plan_entity_count(plan, sl_cstr(kind->name));
        for (size_t i = 0; rc == SL_OK && i < n; i++) {
            rc = print_entity(plan, sl_cstr(kind->name), i, &piece, yaml);
        }
    }
    sl_buf_deinit(&piece);
    return rc;
}
