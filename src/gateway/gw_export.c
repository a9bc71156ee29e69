/* A running configuration as a document again: flat collections, every field, ready to be loaded as it is. */
#include "gw_config.h"

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

static json_t *as_document(const json_t *entities) {
    const char *collection;
    json_t *by_id, *doc = json_pack("{s:s,s:b}", "_format_version", "3.0", "_transform", 0);
    json_object_foreach((json_t *)entities, collection, by_id) {
        if (json_object_set_new(doc, collection, as_list(by_id)) != 0) {
            json_decref(doc);
            return NULL;
        }
    }
    return doc;
}

sl_status_t gw_config_export(const json_t *entities, sl_buf_t *yaml) {
    json_t *doc = as_document(entities);
    sl_status_t rc = doc != NULL ? gw_document_print_yaml(doc, yaml) : SL_NO_MEMORY;
    json_decref(doc);
    return rc;
}
