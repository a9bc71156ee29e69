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

static json_t *list_of_plan(const gw_plan_t *plan, sl_str_t collection) {
    json_t *list = json_array();
    size_t n = gw_plan_entity_count(plan, collection);
    for (size_t i = 0; list != NULL && i < n; i++) {
        sl_str_t text = gw_plan_entity_at(plan, collection, i);
        if (json_array_append_new(list, json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *document_of_plan(const gw_plan_t *plan) {
    json_t *doc = empty_document();
    for (const gw_entity_t *kind = gw_entities; doc != NULL && kind->name != NULL; kind++) {
        sl_str_t name = sl_cstr(kind->name);
        if (gw_plan_entity_count(plan, name) > 0 && json_object_set_new(doc, kind->name, list_of_plan(plan, name)) != 0) {
            json_decref(doc);
            doc = NULL;
        }
    }
    return doc;
}

sl_status_t gw_config_export_plan(const gw_plan_t *plan, sl_buf_t *yaml) {
    return print(document_of_plan(plan), yaml);
}
