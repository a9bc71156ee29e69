/* The error tree of a document as a flat list, one row for each entity that has errors. */
#include "gw_errors.h"

#include <stdio.h>
#include <stdlib.h>

#include "gw_schema.h"
#include "sl_digest.h"

typedef struct {
    const json_t *doc;
    json_t *rows;
    bool failed; /* out of memory; sticky */
} flat_t;

/* An entity as the document gives it, and where it hangs. */
typedef struct {
    const gw_entity_t *kind, *parent_kind;
    const json_t *entity, *parent;
} place_t;

static void put(flat_t *f, json_t *object, const char *name, json_t *value) {
    if (json_object_set_new(object, name, value) != 0) {
        f->failed = true;
    }
}

static bool is_child(const gw_entity_t *kind, const char *key) {
    return gw_entity_child(kind, key) != NULL;
}

static const json_t *valid_id(const json_t *entity) {
    const json_t *id = json_object_get(entity, "id");
    return json_is_string(id) && sl_uuid_valid(sl_str(json_string_value(id), json_string_length(id))) ? id : NULL;
}

static bool all_texts(const json_t *list) {
    size_t i;
    const json_t *value;
    json_array_foreach(list, i, value) {
        if (!json_is_string(value)) {
            return false;
        }
    }
    return json_is_array(list) && json_array_size(list) > 0;
}

/* ---- the errors of one entity ---------------------------------------------------------------------------------------------- */

static void add_error(flat_t *f, json_t *list, const char *type, const sl_buf_t *path, const json_t *message) {
    json_t *row = json_pack("{s:s}", "type", type);
    if (path->len > 0) {
        put(f, row, "field", json_stringn(path->data, path->len));
    }
    put(f, row, "message", json_incref((json_t *)message));
    if (json_array_append_new(list, row) != 0) {
        f->failed = true;
    }
}

static void collect(flat_t *f, json_t *list, sl_buf_t *path, const json_t *error);

static void collect_at(flat_t *f, json_t *list, sl_buf_t *path, const char *step, const json_t *error) {
    size_t len = path->len;
    sl_buf_append_cstr(path, len > 0 ? "." : "");
    sl_buf_append_cstr(path, step);
    collect(f, list, path, error);
    path->len = len;
    f->failed = f->failed || path->failed;
}

static void collect(flat_t *f, json_t *list, sl_buf_t *path, const json_t *error) {
    char position[24];
    const char *key;
    size_t i;
    json_t *value;
    if (json_is_string(error)) {
        add_error(f, list, "field", path, error);
        return;
    }
    json_array_foreach(error, i, value) {
        snprintf(position, sizeof(position), "%zu", i + 1);
        collect_at(f, list, path, position, value);
    }
    json_object_foreach((json_t *)error, key, value) {
        if (strcmp(key, "@entity") != 0) {
            collect_at(f, list, path, key, value);
            continue;
        }
        size_t n;
        const json_t *text;
        json_array_foreach(value, n, text) {
            add_error(f, list, "entity", path, text);
        }
    }
}

/* The entity as given, without children, with the link to its parent. */
static json_t *shown_entity(flat_t *f, const place_t *place) {
    const char *key;
    json_t *value, *shown = json_object();
    json_object_foreach((json_t *)place->entity, key, value) {
        if (!is_child(place->kind, key)) {
            put(f, shown, key, json_incref(value));
        }
    }
    const json_t *parent_id = place->parent != NULL ? valid_id(place->parent) : NULL;
    if (parent_id != NULL) {
        put(f, shown, gw_entity_link(place->kind, place->parent_kind)->name, json_pack("{s:O}", "id", parent_id));
    }
    f->failed = f->failed || shown == NULL;
    return shown;
}

static void add_row(flat_t *f, const place_t *place, json_t *errors) {
    const json_t *id = valid_id(place->entity), *name = json_object_get(place->entity, "name"),
                 *tags = json_object_get(place->entity, "tags");
    json_t *row = json_pack("{s:s}", "entity_type", place->kind->singular);
    if (id != NULL) {
        put(f, row, "entity_id", json_incref((json_t *)id));
    }
    if (json_is_string(name) && json_string_length(name) > 0) {
        put(f, row, "entity_name", json_incref((json_t *)name));
    }
    if (all_texts(tags)) {
        put(f, row, "entity_tags", json_incref((json_t *)tags));
    }
    put(f, row, "entity", shown_entity(f, place));
    put(f, row, "errors", errors);
    if (json_array_append_new(f->rows, row) != 0) {
        f->failed = true;
    }
}

/* ---- walking the tree -------------------------------------------------------------------------------------------------------- */

/* true: all of `error` became rows, so that nothing of it stays in the tree. */
static bool flatten_list(flat_t *f, const gw_entity_t *kind, const place_t *parent, const json_t *entities, json_t *errors);

static void flatten_own(flat_t *f, const place_t *place, json_t *error) {
    sl_buf_t path;
    json_t *list = json_array();
    sl_buf_init(&path, (size_t)1 << 20);
    if (json_is_string(error)) {
        add_error(f, list, "entity", &path, error);
    } else {
        collect(f, list, &path, error);
    }
    sl_buf_deinit(&path);
    if (json_array_size(list) > 0) {
        add_row(f, place, list);
    } else {
        json_decref(list);
    }
}

/* Splits the children's errors from `error`, so that what is left is the entity's own. */
static json_t *take_children(flat_t *f, const place_t *place, json_t *error) {
    const char *key;
    void *next;
    json_t *value, *children = json_object();
    f->failed = f->failed || children == NULL;
    json_object_foreach_safe(error, next, key, value) {
        if (is_child(place->kind, key) && json_is_array(value)) {
            put(f, children, key, json_incref(value));
            json_object_del(error, key);
        }
    }
    return children;
}

/* The entity that a foreign field holds as a whole instead of a reference to it; NULL: none. */
static const json_t *inline_entity(const gw_field_t *field, const json_t *value) {
    const gw_entity_t *kind = field->type == GW_TYPE_FOREIGN ? gw_entity_find(sl_cstr(field->reference)) : NULL;
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)value, key, member) {
        bool refers = strcmp(key, "id") == 0 || (kind != NULL && kind->endpoint_key != NULL && strcmp(key, kind->endpoint_key) == 0);
        if (kind != NULL && !refers) {
            return value;
        }
    }
    return NULL;
}

static void flatten_inline(flat_t *f, const place_t *place, json_t *error) {
    for (const gw_field_t *field = place->kind->fields; field->name != NULL; field++) {
        const json_t *given = inline_entity(field, json_object_get(place->entity, field->name));
        json_t *own = given != NULL ? json_incref(json_object_get(error, field->name)) : NULL;
        if (json_is_object(own)) {
            const place_t here = {.kind = gw_entity_find(sl_cstr(field->reference)), .entity = given};
            json_object_del(error, field->name);
            flatten_own(f, &here, own);
        }
        json_decref(own);
    }
}

static void flatten_item(flat_t *f, const place_t *place, json_t *error) {
    const char *key;
    json_t *value, *children = take_children(f, place, error);
    flatten_inline(f, place, error);
    flatten_own(f, place, error);
    json_object_foreach(children, key, value) {
        const gw_entity_t *child = gw_entity_find(sl_cstr(key));
        flatten_list(f, child, place, json_object_get(place->entity, key), value);
    }
    json_decref(children);
}

static bool flatten_list(flat_t *f, const gw_entity_t *kind, const place_t *parent, const json_t *entities, json_t *errors) {
    size_t i;
    json_t *error;
    bool all = true;
    json_array_foreach(errors, i, error) {
        const json_t *entity = json_array_get(entities, i);
        if (json_is_null(error)) {
            continue;
        }
        if (!json_is_object(entity)) {
            all = false;
            continue;
        }
        place_t place = {kind, parent != NULL ? parent->kind : NULL, entity, parent != NULL ? parent->entity : NULL};
        flatten_item(f, &place, error);
        if (json_array_set_new(errors, i, json_null()) != 0) {
            f->failed = true;
        }
    }
    return all;
}

/* All entities of one kind, anywhere in the document, by key and by id. */
typedef struct {
    const gw_entity_t *kind;
    place_t *places;
    size_t n, cap;
    json_t *by_label; /* -> position in `places` */
    bool failed;
} index_t;

static void add_label(index_t *x, const json_t *label, size_t at) {
    if (json_is_string(label) && json_object_set_new(x->by_label, json_string_value(label), json_integer((json_int_t)at)) != 0) {
        x->failed = true;
    }
}

static void add_place(index_t *x, const place_t *place) {
    if (x->n == x->cap) {
        size_t cap = x->cap == 0 ? 64 : x->cap * 2;
        place_t *places = realloc(x->places, cap * sizeof(*places));
        if (places == NULL) {
            x->failed = true;
            return;
        }
        x->places = places;
        x->cap = cap;
    }
    x->places[x->n] = *place;
    /* of two with one key the later one is to blame, so it may take the place of the first */
    add_label(x, json_object_get(place->entity, "id"), x->n);
    add_label(x, x->kind->endpoint_key != NULL ? json_object_get(place->entity, x->kind->endpoint_key) : NULL, x->n);
    x->n++;
}

static void index_collections(index_t *x, const json_t *collections, const place_t *parent) {
    const char *key;
    size_t i;
    json_t *list, *entity;
    json_object_foreach((json_t *)collections, key, list) {
        const gw_entity_t *here = gw_entity_find(sl_cstr(key));
        if (here == NULL || (parent != NULL && !is_child(parent->kind, key))) {
            continue;
        }
        json_array_foreach(list, i, entity) {
            place_t place = {here, parent != NULL ? parent->kind : NULL, entity, parent != NULL ? parent->entity : NULL};
            if (here == x->kind && json_is_object(entity)) {
                add_place(x, &place);
            }
            index_collections(x, entity, &place);
        }
    }
}

static bool flatten_label(flat_t *f, const index_t *x, const char *label, json_t *error) {
    const json_t *at = json_object_get(x->by_label, label);
    if (at == NULL) {
        return false;
    }
    json_t *own = json_is_array(error) ? json_pack("{s:O}", "@entity", error) : json_incref(error);
    flatten_own(f, &x->places[json_integer_value(at)], own);
    f->failed = f->failed || own == NULL;
    json_decref(own);
    return true;
}

/* Errors under a name instead of a position. */
static bool flatten_labels(flat_t *f, const gw_entity_t *kind, json_t *errors) {
    index_t x = {.kind = kind, .by_label = json_object()};
    const char *label;
    void *next;
    json_t *error;
    bool all = true;
    index_collections(&x, f->doc, NULL);
    x.failed = x.failed || x.by_label == NULL;
    json_object_foreach_safe(errors, next, label, error) {
        if (!x.failed && flatten_label(f, &x, label, error)) {
            json_object_del(errors, label);
        } else {
            all = false;
        }
    }
    f->failed = f->failed || x.failed;
    free(x.places);
    json_decref(x.by_label);
    return all;
}

json_t *gw_flatten_errors(const json_t *doc, json_t *fields) {
    flat_t f = {.doc = doc, .rows = json_array()};
    const char *key;
    void *next;
    json_t *value;
    json_object_foreach_safe(fields, next, key, value) {
        const gw_entity_t *kind = gw_entity_find(sl_cstr(key));
        if (kind == NULL || (!json_is_array(value) && !json_is_object(value))) {
            continue;
        }
        bool all = json_is_array(value) ? flatten_list(&f, kind, NULL, json_object_get(doc, key), value) : flatten_labels(&f, kind, value);
        if (all) {
            json_object_del(fields, key);
        }
    }
    if (f.failed) {
        json_decref(f.rows);
        return NULL;
    }
    return f.rows;
}
