/*
 * A whole document: collections with nested children become one flat set of entities. Passes, each over what the one before
 * accepted: every entity by itself (all errors at once), then uniqueness, then references.
 */
#include "gw_config.h"

#include <stdlib.h>

#include "gw_checks.h"
#include "gw_path.h"
#include "gw_schema.h"
#include "sl_digest.h"

#define NO_PARENT SIZE_MAX
#define BAD_ENTITIES_MAX 1000 /* of a document are reported: an answer must not cost more than its question */
#define ID_NAMESPACE SL_STR("fd02801f-0957-4a15-a55a-c8d9606f30b5")
#define NIL_ID "00000000-0000-0000-0000-000000000000"

/* One entity of the document, in document order; parents before their children. */
typedef struct {
    const gw_entity_t *kind;
    size_t parent;  /* position in `items`, or NO_PARENT */
    size_t at;      /* position in its list */
    json_t *entity; /* canonical; NULL when it has errors */
} item_t;

typedef struct {
    const gw_validate_env_t *env;
    item_t *items;
    size_t n_items, cap_items;
    size_t n_bad;     /* entities with errors */
    json_t *errors;   /* tree that mirrors the document */
    json_t *entities; /* collection -> id -> entity; borrowed by nobody */
    json_t *by_key;   /* collection -> endpoint key -> id */
    bool old_format;  /* 1.1 or 2.1: paths are rewritten */
    bool failed;      /* out of memory; sticky */
} doc_t;

static json_t *check_children(doc_t *d, size_t parent, const gw_entity_t *kind, const json_t *in, json_t *errors);

static void set_member(doc_t *d, json_t *object, const char *name, json_t *value) {
    if (json_object_set_new(object, name, value) != 0) {
        d->failed = true;
    }
}

static json_t *text_error(doc_t *d, const char *text) {
    json_t *error = gw_text(text);
    d->failed = d->failed || error == NULL;
    return error;
}

/* The object under `name`, made when it is missing. */
static json_t *object_at(doc_t *d, json_t *object, const char *name) {
    json_t *value = json_object_get(object, name);
    if (value == NULL) {
        set_member(d, object, name, json_object());
        value = json_object_get(object, name);
    }
    return value;
}

/* ---- ids -------------------------------------------------------------------------------------------------------------- */

static void append_key_part(sl_buf_t *out, const json_t *value) {
    const json_t *part = json_is_object(value) ? json_object_get(value, "id") : value;
    if (part == NULL && json_is_object(value)) {
        part = json_object_get(value, "@name"); /* the literal reference */
    }
    sl_buf_append_char(out, ':');
    sl_buf_append(out, json_string_value(part), json_string_length(part));
}

/* false: nothing to derive an id from. */
static bool id_key(const gw_entity_t *kind, const json_t *entity, sl_buf_t *out) {
    if (kind->cache_key != NULL) {
        sl_buf_printf(out, "%s:*", kind->name);
        for (const char *const *field = kind->cache_key; *field != NULL; field++) {
            append_key_part(out, json_object_get(entity, *field));
        }
        return true;
    }
    const gw_field_t *field = kind->endpoint_key != NULL ? gw_field_find(kind->fields, kind->endpoint_key) : NULL;
    const json_t *key = field != NULL && field->unique ? json_object_get(entity, kind->endpoint_key) : NULL;
    return json_is_string(key) && sl_buf_append(out, json_string_value(key), json_string_length(key)) == SL_OK;
}

/* The same entity gets the same id on every node, as long as it has a key. */
static sl_status_t make_id(const gw_entity_t *kind, const json_t *entity, char id[SL_UUID_TEXT_SIZE + 1]) {
    char space[SL_UUID_TEXT_SIZE + 1];
    sl_buf_t key;
    sl_buf_init(&key, (size_t)64 << 20);
    bool has_key = id_key(kind, entity, &key);
    sl_status_t rc = key.failed ? SL_NO_MEMORY : SL_OK;
    if (rc == SL_OK && !has_key) {
        rc = sl_uuid_v4(id);
    } else if (rc == SL_OK) {
        rc = sl_uuid_v5(ID_NAMESPACE, sl_cstr(kind->name), space);
        rc = rc == SL_OK ? sl_uuid_v5(sl_cstr(space), sl_buf_str(&key), id) : rc;
    }
    sl_buf_deinit(&key);
    return rc;
}

static void assign_id(doc_t *d, const gw_entity_t *kind, json_t *entity) {
    char id[SL_UUID_TEXT_SIZE + 1];
    if (json_is_string(json_object_get(entity, "id"))) {
        return;
    }
    if (make_id(kind, entity, id) != SL_OK) {
        d->failed = true;
        return;
    }
    set_member(d, entity, "id", json_string(id));
}

static const char *text_of(const json_t *entity, const char *field) {
    return field != NULL ? json_string_value(json_object_get(entity, field)) : NULL;
}

/* ---- paths of older formats ------------------------------------------------------------------------------------------- */

static json_t *migrated_path(const json_t *path) {
    sl_buf_t out;
    if (!json_is_string(path)) {
        return json_incref((json_t *)path);
    }
    sl_str_t text = sl_str(json_string_value(path), json_string_length(path));
    sl_buf_init(&out, text.len * 2 + 8);
    gw_path_migrate(text, &out);
    json_t *value = out.failed ? NULL : json_stringn(out.data ? out.data : "", out.len);
    sl_buf_deinit(&out);
    /* a path that decodes to something that is no text stays as it was written */
    return value != NULL ? value : json_incref((json_t *)path);
}

/* The route as format 3.0 writes it; a new reference. */
static json_t *migrated_route(doc_t *d, const json_t *in) {
    size_t i;
    const json_t *path, *paths = json_object_get(in, "paths");
    if (!json_is_array(paths)) {
        return json_incref((json_t *)in);
    }
    json_t *copy = gw_shallow_copy(in), *list = json_array();
    json_array_foreach(paths, i, path) {
        if (json_array_append_new(list, migrated_path(path)) != 0) {
            d->failed = true;
        }
    }
    set_member(d, copy, "paths", list);
    return copy;
}

/* ---- every entity by itself -------------------------------------------------------------------------------------------- */

static bool add_item(doc_t *d, const gw_entity_t *kind, size_t parent, size_t at, json_t *entity) {
    if (d->n_items == d->cap_items) {
        size_t cap = d->cap_items == 0 ? 64 : d->cap_items * 2;
        item_t *items = realloc(d->items, cap * sizeof(*items));
        if (items == NULL) {
            d->failed = true;
            json_decref(entity);
            return false;
        }
        d->items = items;
        d->cap_items = cap;
    }
    d->items[d->n_items++] = (item_t){kind, parent, at, entity};
    return true;
}

static void set_parent(const doc_t *d, size_t parent, gw_validation_t *v) {
    if (parent == NO_PARENT) {
        return;
    }
    const item_t *above = &d->items[parent];
    const char *id = text_of(above->entity, "id");
    v->parent_field = gw_entity_link(v->kind, above->kind)->name;
    v->parent_id = id != NULL ? id : NIL_ID; /* a parent with errors: nothing is built from its children */
    v->parent_key = text_of(above->entity, above->kind->endpoint_key);
}

/* The errors of one entity and its children, NULL when there are none. */
static json_t *check_item(doc_t *d, size_t parent, const gw_entity_t *kind, size_t at, const json_t *in) {
    gw_validation_t v = {.env = d->env, .kind = kind, .mode = GW_INSERT, .declarative = true};
    json_t *entity, *errors;
    if (!json_is_object(in)) {
        return text_error(d, "expected a record");
    }
    set_parent(d, parent, &v);
    json_t *input = d->old_format && strcmp(kind->name, "routes") == 0 ? migrated_route(d, in) : json_incref((json_t *)in);
    sl_status_t rc = input == NULL ? SL_NO_MEMORY : gw_entity_validate(&v, input, &entity, &errors);
    json_decref(input);
    if (rc == SL_NO_MEMORY) {
        d->failed = true;
        return NULL;
    }
    if (rc == SL_OK) {
        assign_id(d, kind, entity);
    }
    if (!add_item(d, kind, parent, at, entity)) {
        json_decref(errors);
        return NULL;
    }
    return check_children(d, d->n_items - 1, kind, in, errors);
}

static json_t *check_collection(doc_t *d, size_t parent, const gw_entity_t *kind, const json_t *in) {
    size_t i;
    json_t *value, *errors = NULL;
    if (!json_is_array(in) && !(json_is_object(in) && json_object_size(in) == 0)) {
        return text_error(d, "expected an array");
    }
    json_array_foreach(in, i, value) {
        if (d->failed || d->n_bad > BAD_ENTITIES_MAX) {
            break;
        }
        json_t *error = d->n_bad < BAD_ENTITIES_MAX ? check_item(d, parent, kind, i, value)
                                                    : text_error(d, "not checked, like all after it: too many have errors");
        if (error == NULL) {
            continue;
        }
        d->n_bad++;
        errors = errors != NULL ? errors : json_array();
        while (json_array_size(errors) < i && json_array_append_new(errors, json_null()) == 0) {
        }
        if (json_array_append_new(errors, error) != 0) {
            d->failed = true;
        }
    }
    return errors;
}

/* Takes `errors` (may be NULL), answers it with the children's errors in it. */
static json_t *check_children(doc_t *d, size_t parent, const gw_entity_t *kind, const json_t *in, json_t *errors) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)in, key, value) {
        const gw_entity_t *child = gw_entity_child(kind, key);
        if (child == NULL || json_is_null(value)) {
            continue;
        }
        json_t *error = check_collection(d, parent, child, value);
        if (error != NULL) {
            errors = errors != NULL ? errors : json_object();
            set_member(d, errors, key, error);
        }
    }
    return errors;
}

/* ---- the document's own keys ------------------------------------------------------------------------------------------- */

static bool is_format(const json_t *value, const char *format) {
    return json_is_string(value) && strcmp(json_string_value(value), format) == 0;
}

static void check_format(doc_t *d, const json_t *doc) {
    const json_t *format = json_object_get(doc, "_format_version");
    if (format == NULL || json_is_null(format)) {
        set_member(d, d->errors, "_format_version", json_string("required field missing"));
        return;
    }
    d->old_format = is_format(format, "1.1") || is_format(format, "2.1");
    if (!d->old_format && !is_format(format, "3.0")) {
        set_member(d, d->errors, "_format_version", json_string("expected one of: 1.1, 2.1, 3.0"));
    }
}

/* Error of a key that is no collection, NULL when it is fine. */
static const char *meta_error(const char *key, const json_t *value) {
    if (strcmp(key, "_format_version") == 0) {
        return NULL;
    }
    if (strcmp(key, "_transform") == 0) {
        return json_is_boolean(value) ? NULL : "expected a boolean";
    }
    if (strcmp(key, "_comment") == 0) {
        return json_is_string(value) ? NULL : "expected a string";
    }
    if (strcmp(key, "_ignore") == 0) {
        return json_is_array(value) ? NULL : "expected an array";
    }
    const char *refused = gw_refused_collection(key);
    return refused != NULL ? refused : "unknown field";
}

static void check_document(doc_t *d, const json_t *doc) {
    const char *key;
    json_t *value;
    check_format(d, doc);
    json_object_foreach((json_t *)doc, key, value) {
        const gw_entity_t *kind = gw_entity_find(sl_cstr(key));
        if (json_is_null(value) && (kind != NULL || key[0] == '_')) {
            continue;
        }
        if (kind == NULL) {
            const char *what = meta_error(key, value);
            if (what != NULL) {
                /* the errors of the whole are a list */
                set_member(d, d->errors, key, strcmp(key, "@entity") == 0 ? json_pack("[s]", what) : json_string(what));
            }
            continue;
        }
        json_t *error = check_collection(d, NO_PARENT, kind, value);
        if (error != NULL) {
            set_member(d, d->errors, key, error);
        }
    }
}

/* ---- uniqueness -------------------------------------------------------------------------------------------------------- */

/* A text at the place of an entity whose place may already hold a text or its children's errors. */
static json_t *as_error_object(doc_t *d, json_t *list, size_t at) {
    json_t *value = json_array_get(list, at);
    if (json_is_object(value)) {
        return value;
    }
    json_t *object = json_is_string(value) ? json_pack("{s:[O]}", "@entity", value) : json_object();
    if (json_array_set_new(list, at, object) != 0) {
        d->failed = true;
    }
    return json_array_get(list, at);
}

static json_t *list_at(doc_t *d, json_t *object, const char *name, size_t size) {
    json_t *list = json_object_get(object, name);
    if (list == NULL) {
        set_member(d, object, name, json_array());
        list = json_object_get(object, name);
    }
    while (json_array_size(list) < size) {
        if (json_array_append_new(list, json_null()) != 0) {
            d->failed = true;
            return NULL;
        }
    }
    return list;
}

/* The error object of an item, made with all above it. */
static json_t *item_errors(doc_t *d, size_t index) {
    const item_t *item = &d->items[index];
    json_t *above = item->parent == NO_PARENT ? d->errors : item_errors(d, item->parent);
    json_t *list = list_at(d, above, item->kind->name, item->at + 1);
    return as_error_object(d, list, item->at);
}

static void item_error(doc_t *d, size_t index, const char *text) {
    const item_t *item = &d->items[index];
    json_t *above = item->parent == NO_PARENT ? d->errors : item_errors(d, item->parent);
    json_t *list = list_at(d, above, item->kind->name, item->at + 1);
    if (json_is_null(json_array_get(list, item->at))) {
        if (json_array_set_new(list, item->at, gw_text(text)) != 0) {
            d->failed = true;
        }
        return;
    }
    json_t *object = as_error_object(d, list, item->at);
    if (json_object_get(object, "@entity") == NULL) {
        set_member(d, object, "@entity", json_array());
    }
    if (json_array_append_new(json_object_get(object, "@entity"), gw_text(text)) != 0) {
        d->failed = true;
    }
}

static void uniqueness_text(const item_t *item, const char *field, const char *value, sl_err_t *text) {
    sl_err_set(text, SL_INVALID, "uniqueness violation: '%s' entity with %s set to '%s' already declared", item->kind->name, field, value);
}

static void already_declared(doc_t *d, size_t index, const char *field, const char *value) {
    sl_err_t text;
    uniqueness_text(&d->items[index], field, value, &text);
    item_error(d, index, text.text);
}

/* true: the key was free and is taken now. */
static bool take_key(doc_t *d, const item_t *item, const char *key) {
    json_t *keys = object_at(d, d->by_key, item->kind->name);
    if (json_object_get(keys, key) != NULL) {
        return false;
    }
    set_member(d, keys, key, json_incref(json_object_get(item->entity, "id")));
    return true;
}

static void register_item(doc_t *d, size_t index) {
    const item_t *item = &d->items[index];
    const char *id = text_of(item->entity, "id"), *endpoint = item->kind->endpoint_key;
    const char *key = endpoint != NULL && gw_field_find(item->kind->fields, endpoint)->unique ? text_of(item->entity, endpoint) : NULL;
    if (key != NULL && !take_key(d, item, key)) {
        already_declared(d, index, endpoint, key);
        return;
    }
    json_t *collection = object_at(d, d->entities, item->kind->name);
    if (json_object_get(collection, id) != NULL) {
        already_declared(d, index, "primary key", id);
        return;
    }
    set_member(d, collection, id, json_incref(item->entity));
}

/* Name under which an entity is known in errors that are not about its place. */
static const char *label_of(const item_t *item) {
    const char *key = text_of(item->entity, item->kind->endpoint_key);
    return key != NULL ? key : text_of(item->entity, "id");
}

/* ---- references -------------------------------------------------------------------------------------------------------- */

static void bad_reference(doc_t *d, const item_t *item, const gw_field_t *field, const char *value) {
    sl_err_t text;
    json_t *labels = object_at(d, d->errors, item->kind->name);
    json_t *list = json_object_get(labels, label_of(item));
    if (list == NULL) {
        set_member(d, labels, label_of(item), json_array());
        list = json_object_get(labels, label_of(item));
    }
    sl_err_set(&text, SL_INVALID, "invalid reference '%s: %s' (no such entry in '%s')", field->name, value, field->reference);
    if (json_array_append_new(list, gw_text(text.text)) != 0) {
        d->failed = true;
    }
}

static void resolve_field(doc_t *d, const item_t *item, const gw_field_t *field) {
    const json_t *value = json_object_get(item->entity, field->name);
    const char *name = text_of(value, "@name"), *id = text_of(value, "id");
    if (name != NULL) {
        const json_t *keys = json_object_get(d->by_key, field->reference);
        id = json_string_value(json_object_get(keys, name));
    }
    if (name == NULL && id == NULL) {
        return;
    }
    if (id == NULL || json_object_get(json_object_get(d->entities, field->reference), id) == NULL) {
        bad_reference(d, item, field, name != NULL ? name : id);
        return;
    }
    if (name != NULL) {
        set_member(d, item->entity, field->name, json_pack("{s:s}", "id", id));
    }
}

static void resolve_item(doc_t *d, size_t index) {
    const item_t *item = &d->items[index];
    for (const gw_field_t *field = item->kind->fields; field->name != NULL; field++) {
        if (field->type == GW_TYPE_FOREIGN) {
            resolve_field(d, item, field);
        }
    }
}

/* ---- other unique fields, once references are ids ------------------------------------------------------------------------ */

static bool take_value(doc_t *d, json_t *seen, const item_t *item, const char *field, const char *value) {
    sl_buf_t key;
    sl_buf_init(&key, (size_t)64 << 20);
    sl_buf_printf(&key, "%s.%s=", item->kind->name, field);
    sl_buf_append_cstr(&key, value);
    const char *text = sl_buf_cstr(&key);
    bool taken = text != NULL && json_object_get(seen, text) != NULL;
    if (text == NULL || (!taken && json_object_set_new(seen, text, json_true()) != 0)) {
        d->failed = true;
    }
    sl_buf_deinit(&key);
    return !taken;
}

static void check_unique_fields(doc_t *d, json_t *seen, size_t index) {
    sl_err_t text;
    const item_t *item = &d->items[index];
    const char *endpoint = item->kind->endpoint_key;
    for (const gw_field_t *field = item->kind->fields; field->name != NULL; field++) {
        bool known = strcmp(field->name, "id") == 0 || (endpoint != NULL && strcmp(field->name, endpoint) == 0);
        const json_t *value = json_object_get(item->entity, field->name);
        const char *shown = json_is_object(value) ? text_of(value, "id") : json_string_value(value);
        if (!field->unique || known || shown == NULL || take_value(d, seen, item, field->name, shown)) {
            continue;
        }
        if (field->type == GW_TYPE_FOREIGN) {
            already_declared(d, index, field->name, shown);
            continue;
        }
        uniqueness_text(item, field->name, shown, &text);
        set_member(d, object_at(d, d->errors, item->kind->name), label_of(item), gw_text(text.text));
    }
}

/* Composite keys whose parts are not unique by themselves: a target of an upstream. */
static void check_composite(doc_t *d, json_t *seen, size_t index) {
    const item_t *item = &d->items[index];
    const char *const *parts = item->kind->cache_key;
    if (parts == NULL || gw_field_find(item->kind->fields, parts[0])->unique) {
        return;
    }
    sl_buf_t names, key;
    sl_buf_init(&names, 256);
    sl_buf_init(&key, (size_t)64 << 20);
    for (size_t i = 0; parts[i] != NULL; i++) {
        sl_buf_printf(&names, "%s%s", i > 0 ? ", " : "", parts[i]);
        append_key_part(&key, json_object_get(item->entity, parts[i]));
    }
    const char *names_text = sl_buf_cstr(&names), *key_text = sl_buf_cstr(&key);
    if (names_text == NULL || key_text == NULL) {
        d->failed = true;
    } else if (!take_value(d, seen, item, names_text, key_text)) {
        already_declared(d, index, names_text, key_text + 1);
    }
    sl_buf_deinit(&names);
    sl_buf_deinit(&key);
}

static void check_unique_rest(doc_t *d) {
    json_t *seen = json_object();
    d->failed = d->failed || seen == NULL;
    for (size_t i = 0; i < d->n_items && !d->failed; i++) {
        check_unique_fields(d, seen, i);
        check_composite(d, seen, i);
    }
    json_decref(seen);
}

/* ---- all passes ---------------------------------------------------------------------------------------------------------- */

static bool has_errors(const doc_t *d) {
    return d->failed || json_object_size(d->errors) > 0;
}

static void run_passes(doc_t *d, const json_t *doc) {
    check_document(d, doc);
    if (has_errors(d)) {
        return;
    }
    for (size_t i = 0; i < d->n_items && !d->failed; i++) {
        register_item(d, i);
    }
    if (has_errors(d)) {
        return;
    }
    for (size_t i = 0; i < d->n_items && !d->failed; i++) {
        resolve_item(d, i);
    }
    if (!has_errors(d)) {
        check_unique_rest(d);
    }
}

static void free_items(doc_t *d) {
    for (size_t i = 0; i < d->n_items; i++) {
        json_decref(d->items[i].entity);
    }
    free(d->items);
    json_decref(d->by_key);
}

sl_status_t gw_config_validate(const json_t *doc, const gw_validate_env_t *env, json_t **entities, json_t **fields) {
    doc_t d = {.env = env, .errors = json_object(), .entities = json_object(), .by_key = json_object()};
    *entities = *fields = NULL;
    d.failed = d.errors == NULL || d.entities == NULL || d.by_key == NULL;
    if (!d.failed) {
        run_passes(&d, doc);
    }
    free_items(&d);
    bool valid = !d.failed && json_object_size(d.errors) == 0;
    *entities = valid ? d.entities : NULL;
    *fields = !valid && !d.failed ? d.errors : NULL;
    if (*entities == NULL) {
        json_decref(d.entities);
    }
    if (*fields == NULL) {
        json_decref(d.errors);
    }
    return d.failed ? SL_NO_MEMORY : valid ? SL_OK : SL_INVALID;
}
