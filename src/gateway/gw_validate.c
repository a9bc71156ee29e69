/* One entity against its table. Shape only: what needs other entities (uniqueness, references) is the caller's. */
#include "gw_schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sl_digest.h"

/* ---- errors and members, with sticky failure ---------------------------------------------------------------------------- */

void gw_member_set(gw_validation_t *v, json_t *object, const char *name, json_t *value) {
    if (json_object_set_new(object, name, value) != 0) {
        v->failed = true;
    }
}

void gw_error_add(gw_validation_t *v, json_t *errors, const char *field, json_t *error) {
    gw_member_set(v, errors, field, error);
}

/* Element `at` of a list of errors; positions before it stay null, so that the list mirrors the input. */
static void list_error(gw_validation_t *v, json_t *list, size_t at, json_t *error) {
    while (json_array_size(list) <= at) {
        if (json_array_append_new(list, json_null()) != 0) {
            v->failed = true;
            json_decref(error);
            return;
        }
    }
    if (json_array_set_new(list, at, error) != 0) {
        v->failed = true;
    }
}

void gw_error_add_at(gw_validation_t *v, json_t *errors, const char *field, size_t at, json_t *error) {
    json_t *list = json_object_get(errors, field);
    if (!json_is_array(list)) {
        list = json_array();
        gw_member_set(v, errors, field, list);
        list = json_object_get(errors, field);
    }
    list_error(v, list, at, error);
}

void gw_error_add_entity(gw_validation_t *v, json_t *errors, const char *text) {
    json_t *list = json_object_get(errors, "@entity");
    if (list == NULL) {
        gw_member_set(v, errors, "@entity", json_array());
        list = json_object_get(errors, "@entity");
    }
    if (json_array_append_new(list, gw_text(text)) != 0) {
        v->failed = true;
    }
}

json_t *gw_shallow_copy(const json_t *object) {
    json_t *copy = json_copy((json_t *)object);
    if (json_object_size(copy) != json_object_size(object)) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

json_t *gw_text(const char *text) {
    size_t bad_at;
    sl_str_t s = sl_cstr(text);
    return sl_utf8_valid(s, &bad_at) ? json_stringn(s.data, s.len) : json_stringn(s.data, bad_at);
}

static json_t *error_text(gw_validation_t *v, const char *text) {
    json_t *error = gw_text(text);
    v->failed = v->failed || error == NULL;
    return error;
}

bool gw_is_empty(const json_t *value) {
    switch (value == NULL ? JSON_NULL : json_typeof(value)) {
    case JSON_NULL:
        return true;
    case JSON_STRING:
        return json_string_length(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    default:
        return false;
    }
}

void gw_quote_list(const char *const *names, sl_buf_t *out) {
    for (size_t i = 0; names[i] != NULL; i++) {
        sl_buf_printf(out, "%s'%s'", i == 0 ? "" : ", ", names[i]);
    }
}

/* ---- values ---------------------------------------------------------------------------------------------------------------- */

/*
 * One value against its field. Answers NULL and sets *out to the canonical value (new reference), or answers the error (new
 * reference) with *out NULL. With v->failed both may be NULL. `record` is the record around the value.
 */
static json_t *check_value(gw_validation_t *v, const gw_field_t *f, const json_t *record, const json_t *in, json_t **out);

static json_t *check_record(gw_validation_t *v, const gw_field_t *fields, const json_t *in, json_t **out);

static const char *type_text(gw_type_t type) {
    switch (type) {
    case GW_TYPE_STRING:
        return "expected a string";
    case GW_TYPE_INTEGER:
        return "expected an integer";
    case GW_TYPE_NUMBER:
        return "expected a number";
    case GW_TYPE_BOOLEAN:
        return "expected a boolean";
    case GW_TYPE_ARRAY:
        return "expected an array";
    case GW_TYPE_SET:
        return "expected a set";
    case GW_TYPE_MAP:
        return "expected a map";
    default:
        return "expected a record";
    }
}

static bool is_integral(const json_t *in) {
    double value = json_number_value(in);
    return json_is_integer(in) || (json_is_real(in) && value == floor(value) && fabs(value) < 9007199254740992.0);
}

/* An empty list and an empty map look the same to many clients; both are accepted for both. */
static bool has_type(const gw_field_t *f, const json_t *in) {
    switch (f->type) {
    case GW_TYPE_STRING:
        return json_is_string(in);
    case GW_TYPE_INTEGER:
        return is_integral(in);
    case GW_TYPE_NUMBER:
        return json_is_number(in);
    case GW_TYPE_BOOLEAN:
        return json_is_boolean(in);
    case GW_TYPE_ARRAY:
    case GW_TYPE_SET:
        return json_is_array(in) || (json_is_object(in) && json_object_size(in) == 0);
    case GW_TYPE_MAP:
    case GW_TYPE_RECORD:
        return json_is_object(in) || (json_is_array(in) && json_array_size(in) == 0);
    default:
        return true;
    }
}

static json_t *one_of_text(gw_validation_t *v, const char *const *names) {
    sl_err_t text;
    size_t n = (size_t)snprintf(text.text, sizeof(text.text), "expected one of: ");
    for (size_t i = 0; names[i] != NULL && n < sizeof(text.text); i++) {
        n += (size_t)snprintf(text.text + n, sizeof(text.text) - n, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
    return error_text(v, text.text);
}

static bool is_among(const char *text, const char *const *names) {
    for (; *names != NULL; names++) {
        if (strcmp(*names, text) == 0) {
            return true;
        }
    }
    return false;
}

static json_t *check_length(gw_validation_t *v, const gw_field_t *f, size_t len) {
    sl_err_t text;
    size_t min = f->len_min > 0 ? f->len_min : f->type == GW_TYPE_STRING && !f->may_be_empty ? 1 : 0;
    if (len < min) {
        sl_err_set(&text, SL_INVALID, "length must be at least %zu", min);
        return error_text(v, text.text);
    }
    if (f->len_max > 0 && len > f->len_max) {
        sl_err_set(&text, SL_INVALID, "length must be at most %zu", f->len_max);
        return error_text(v, text.text);
    }
    return NULL;
}

static json_t *lower_uuid(const json_t *in) {
    char id[SL_UUID_TEXT_SIZE + 1];
    const char *text = json_string_value(in);
    for (size_t i = 0; i < SL_UUID_TEXT_SIZE; i++) {
        id[i] = text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] | 0x20) : text[i];
    }
    id[SL_UUID_TEXT_SIZE] = '\0';
    return json_string(id);
}

static json_t *check_string(gw_validation_t *v, const gw_field_t *f, const json_t *in, json_t **out) {
    sl_err_t text;
    sl_str_t s = sl_str(json_string_value(in), json_string_length(in));
    if (f->one_of != NULL && !is_among(s.data, f->one_of)) {
        return one_of_text(v, f->one_of);
    }
    if (f->uuid && !sl_uuid_valid(s)) {
        return error_text(v, "expected a valid UUID");
    }
    json_t *error = check_length(v, f, s.len);
    if (error != NULL) {
        return error;
    }
    if (f->starts_with != NULL && !sl_str_starts(s, sl_cstr(f->starts_with))) {
        sl_err_set(&text, SL_INVALID, "should start with: %s", f->starts_with);
        return error_text(v, text.text);
    }
    if ((f->check != NULL && !f->check(s, &text)) || (f->check_env != NULL && !f->check_env(v->env, s, &text))) {
        v->failed = v->failed || text.text[0] == '\0';
        return error_text(v, text.text);
    }
    *out = f->uuid ? lower_uuid(in) : json_incref((json_t *)in);
    return NULL;
}

static bool is_among_integers(json_int_t value, const int *values) {
    for (; *values != 0; values++) {
        if (*values == value) {
            return true;
        }
    }
    return false;
}

static json_t *integers_text(gw_validation_t *v, const int *values) {
    sl_err_t text;
    size_t n = (size_t)snprintf(text.text, sizeof(text.text), "expected one of: ");
    for (size_t i = 0; values[i] != 0 && n < sizeof(text.text); i++) {
        n += (size_t)snprintf(text.text + n, sizeof(text.text) - n, "%s%d", i == 0 ? "" : ", ", values[i]);
    }
    return error_text(v, text.text);
}

static json_t *check_number(gw_validation_t *v, const gw_field_t *f, const json_t *in, json_t **out) {
    sl_err_t text;
    double value = json_number_value(in);
    if (f->one_of_int != NULL && !is_among_integers((json_int_t)value, f->one_of_int)) {
        return integers_text(v, f->one_of_int);
    }
    if (f->between && (value < (double)f->min || value > (double)f->max)) {
        sl_err_set(&text, SL_INVALID, "value should be between %lld and %lld", (long long)f->min, (long long)f->max);
        return error_text(v, text.text);
    }
    bool convert = json_is_real(in) && is_integral(in);
    *out = convert ? json_integer((json_int_t)value) : json_incref((json_t *)in);
    return NULL;
}

/* A key that is equal for equal values, to find duplicates of a set in one pass. */
static char *set_key(const json_t *value) {
    return json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
}

static void append_once(gw_validation_t *v, json_t *list, json_t *seen, json_t *value) {
    char *key = seen != NULL ? set_key(value) : NULL;
    bool known = key != NULL && json_object_get(seen, key) != NULL;
    if (seen != NULL && (key == NULL || (!known && json_object_set_new(seen, key, json_true()) != 0))) {
        v->failed = true;
    }
    free(key);
    if (known) {
        json_decref(value);
    } else if (json_array_append_new(list, value) != 0) {
        v->failed = true;
    }
}

/* `these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp')` names the families that were mixed. */
static json_t *check_exclusive(gw_validation_t *v, const gw_field_t *f, const json_t *list) {
    sl_buf_t text;
    size_t found = 0, i;
    const json_t *value;
    sl_buf_init(&text, 1024);
    sl_buf_append_cstr(&text, "these sets are mutually exclusive: ");
    for (const char *const *const *family = f->exclusive_sets; *family != NULL; family++) {
        bool hit = false;
        json_array_foreach(list, i, value) {
            hit = hit || is_among(json_string_value(value), *family);
        }
        if (hit) {
            sl_buf_append_cstr(&text, found++ > 0 ? ", (" : "(");
            gw_quote_list(*family, &text);
            sl_buf_append_char(&text, ')');
        }
    }
    const char *whole = sl_buf_cstr(&text);
    v->failed = v->failed || whole == NULL;
    json_t *error = found > 1 && whole != NULL ? error_text(v, whole) : NULL;
    sl_buf_deinit(&text);
    return error;
}

static json_t *check_elements(gw_validation_t *v, const gw_field_t *f, const json_t *in, json_t *list) {
    size_t i;
    json_t *value, *errors = NULL, *seen = f->type == GW_TYPE_SET ? json_object() : NULL;
    json_array_foreach(in, i, value) {
        json_t *element = NULL, *error = check_value(v, f->elements, in, value, &element);
        if (error != NULL) {
            errors = errors != NULL ? errors : json_array();
            list_error(v, errors, i, error);
        } else if (element != NULL) {
            append_once(v, list, seen, element);
        }
    }
    v->failed = v->failed || (f->type == GW_TYPE_SET && seen == NULL);
    json_decref(seen);
    return errors;
}

static json_t *check_list(gw_validation_t *v, const gw_field_t *f, const json_t *in, json_t **out) {
    json_t *error = check_length(v, f, json_array_size(in)), *list = json_array();
    if (error == NULL) {
        error = check_elements(v, f, in, list);
    }
    if (error == NULL && f->exclusive_sets != NULL) {
        error = check_exclusive(v, f, list);
    }
    if (error != NULL || list == NULL) {
        v->failed = v->failed || list == NULL;
        json_decref(list);
        return error;
    }
    *out = list;
    return NULL;
}

static json_t *check_map(gw_validation_t *v, const gw_field_t *f, const json_t *in, json_t **out) {
    sl_err_t text;
    const char *key;
    json_t *value, *map = json_object(), *errors = NULL;
    json_object_foreach((json_t *)in, key, value) {
        if (f->keys != NULL && f->keys->check != NULL && !f->keys->check(sl_cstr(key), &text)) {
            json_decref(errors);
            json_decref(map);
            return error_text(v, text.text);
        }
        json_t *checked = NULL, *error = check_value(v, f->elements, in, value, &checked);
        if (error != NULL) {
            errors = errors != NULL ? errors : json_object();
            gw_error_add(v, errors, key, error);
        } else {
            gw_member_set(v, map, key, checked);
        }
    }
    if (errors != NULL) {
        json_decref(map);
        return errors;
    }
    v->failed = v->failed || map == NULL;
    *out = map;
    return NULL;
}

/* ---- foreign fields --------------------------------------------------------------------------------------------------- */

static json_t *id_object(json_t *id) {
    return json_pack("{s:o}", "id", id);
}

static bool is_same_parent(const gw_validation_t *v, const json_t *in) {
    const char *text = json_string_value(json_is_object(in) ? json_object_get(in, "id") : in);
    return text != NULL && (strcmp(text, v->parent_id) == 0 || (v->parent_key != NULL && strcmp(text, v->parent_key) == 0));
}

static json_t *unresolved(gw_validation_t *v, const gw_entity_t *kind, const char *key) {
    sl_err_t text;
    v->unresolved = true;
    sl_err_set(&text, SL_INVALID, "the foreign key cannot be resolved with '{%s=\"%s\"}' for an existing '%s' entity", kind->endpoint_key,
               key, kind->name);
    return json_pack("{s:o}", kind->endpoint_key, error_text(v, text.text));
}

/* A reference by name: an id when there is something to look in, else {"@name": ...} for the caller to resolve. */
static json_t *check_named(gw_validation_t *v, const gw_entity_t *kind, const json_t *name, json_t **out) {
    char id[SL_UUID_TEXT_SIZE + 1];
    if (v->lookup == NULL) {
        *out = json_pack("{s:O}", "@name", name);
        v->failed = v->failed || *out == NULL;
        return NULL;
    }
    sl_str_t key = sl_str(json_string_value(name), json_string_length(name));
    if (!v->lookup->find(v->lookup->ud, kind, key, id)) {
        return unresolved(v, kind, key.data);
    }
    *out = id_object(json_string(id));
    v->failed = v->failed || *out == NULL;
    return NULL;
}

static json_t *check_foreign_object(gw_validation_t *v, const gw_entity_t *kind, const json_t *in, json_t **out) {
    const json_t *id = json_object_get(in, "id");
    const json_t *key = kind->endpoint_key != NULL ? json_object_get(in, kind->endpoint_key) : NULL;
    if ((id == NULL || json_is_null(id)) && json_is_string(key)) {
        return check_named(v, kind, key, out);
    }
    const char *problem = id == NULL || json_is_null(id)                                          ? "missing primary key"
                          : !json_is_string(id)                                                   ? "expected a string"
                          : !sl_uuid_valid(sl_str(json_string_value(id), json_string_length(id))) ? "expected a valid UUID"
                                                                                                  : NULL;
    if (problem != NULL) {
        json_t *error = json_pack("{s:s}", "id", problem);
        v->failed = v->failed || error == NULL;
        return error;
    }
    *out = id_object(lower_uuid(id));
    v->failed = v->failed || *out == NULL;
    return NULL;
}

static json_t *check_foreign(gw_validation_t *v, const gw_field_t *f, const json_t *in, json_t **out) {
    const gw_entity_t *kind = gw_entity_find(sl_cstr(f->reference));
    if (json_is_object(in)) {
        return check_foreign_object(v, kind, in, out);
    }
    if (!v->declarative) {
        return error_text(v, "expected a record");
    }
    if (!json_is_string(in)) {
        return error_text(v, "expected a string");
    }
    sl_str_t text = sl_str(json_string_value(in), json_string_length(in));
    if (!sl_uuid_valid(text)) {
        return text.len == 0 ? error_text(v, "length must be at least 1") : check_named(v, kind, in, out);
    }
    *out = id_object(lower_uuid(in));
    v->failed = v->failed || *out == NULL;
    return NULL;
}

/* The field's own check, of a value that is of the right form. */
static json_t *refined(gw_validation_t *v, const gw_field_t *f, const json_t *record, const json_t *in, json_t **out) {
    json_t *error = f->check_json != NULL ? f->check_json(v, record, in) : NULL;
    if (error != NULL) {
        json_decref(*out);
        *out = NULL;
    }
    return error;
}

static json_t *check_value(gw_validation_t *v, const gw_field_t *f, const json_t *record, const json_t *in, json_t **out) {
    json_t *error;
    if (!has_type(f, in)) {
        return error_text(v, type_text(f->type));
    }
    switch (f->type) {
    case GW_TYPE_STRING:
        error = check_string(v, f, in, out);
        return error == NULL ? refined(v, f, record, in, out) : error;
    case GW_TYPE_INTEGER:
    case GW_TYPE_NUMBER:
        return check_number(v, f, in, out);
    case GW_TYPE_ARRAY:
    case GW_TYPE_SET:
        error = check_list(v, f, in, out);
        return error == NULL ? refined(v, f, record, in, out) : error;
    case GW_TYPE_MAP:
        return check_map(v, f, in, out);
    case GW_TYPE_RECORD:
        return check_record(v, f->fields, in, out);
    case GW_TYPE_FOREIGN:
        return check_foreign(v, f, in, out);
    case GW_TYPE_JSON:
        error = f->check_json != NULL ? f->check_json(v, record, in) : NULL;
        *out = error == NULL ? json_incref((json_t *)in) : NULL;
        return error;
    default:
        *out = json_incref((json_t *)in);
        return NULL;
    }
}

/* ---- records ---------------------------------------------------------------------------------------------------------- */

static json_t *default_value(gw_validation_t *v, const gw_field_t *f) {
    const char *text = f->def != NULL ? f->def : f->type == GW_TYPE_RECORD && f->required ? "{}" : "null";
    json_t *value = strcmp(text, "null") == 0    ? json_null()
                    : strcmp(text, "true") == 0  ? json_true()
                    : strcmp(text, "false") == 0 ? json_false()
                                                 : json_loads(text, JSON_DECODE_ANY, NULL);
    v->failed = v->failed || value == NULL;
    return value;
}

static json_t *now(gw_validation_t *v) {
    return v->kind->float_time ? json_real((double)v->env->now_s + v->env->now_ms / 1000.0) : json_integer((json_int_t)v->env->now_s);
}

static bool is_time(const gw_field_t *f) {
    return strcmp(f->name, "created_at") == 0 || strcmp(f->name, "updated_at") == 0;
}

static json_t *check_time(gw_validation_t *v, const json_t *in, json_t **out) {
    if (v->kind->float_time ? !json_is_number(in) : !is_integral(in)) {
        return error_text(v, v->kind->float_time ? "expected a number" : "expected an integer");
    }
    *out = json_incref((json_t *)in);
    return NULL;
}

/* What the gateway makes itself when it is absent. An absent id is the caller's to make; updated_at is always now. */
static json_t *check_automatic(gw_validation_t *v, const gw_field_t *f, const json_t *in, json_t **out) {
    bool given = in != NULL && !json_is_null(in);
    json_t *error = given && is_time(f) ? check_time(v, in, out) : given ? check_value(v, f, NULL, in, out) : NULL;
    if (error != NULL || (given && strcmp(f->name, "updated_at") != 0)) {
        return error;
    }
    json_decref(*out);
    *out = is_time(f) ? now(v) : json_null();
    v->failed = v->failed || *out == NULL;
    return NULL;
}

static json_t *check_parent(gw_validation_t *v, const json_t *in, json_t **out) {
    if (in != NULL && !json_is_null(in) && !is_same_parent(v, in)) {
        return error_text(v, "value must be null");
    }
    *out = id_object(json_string(v->parent_id));
    v->failed = v->failed || *out == NULL;
    return NULL;
}

static json_t *check_field(gw_validation_t *v, const gw_field_t *f, const json_t *record, const json_t *in, json_t **out) {
    if (f->automatic) {
        return check_automatic(v, f, in, out);
    }
    if (f->type == GW_TYPE_FOREIGN && v->parent_field != NULL && strcmp(f->name, v->parent_field) == 0) {
        return check_parent(v, in, out);
    }
    json_t *def = in == NULL ? default_value(v, f) : NULL;
    const json_t *value = def != NULL ? def : in;
    json_t *error = NULL;
    if (value != NULL && json_is_null(value) && f->type != GW_TYPE_JSON) {
        error = f->required ? error_text(v, "required field missing") : NULL;
        *out = error == NULL ? json_null() : NULL;
    } else if (value != NULL) {
        error = check_value(v, f, record, value, out);
    }
    json_decref(def);
    return error;
}

static bool is_known_key(const gw_validation_t *v, const gw_field_t *fields, const char *key) {
    if (gw_field_find(fields, key) != NULL) {
        return true;
    }
    return fields == v->kind->fields && v->declarative &&
           (strcmp(key, "_comment") == 0 || strcmp(key, "_ignore") == 0 || gw_entity_child(v->kind, key) != NULL);
}

static void check_annotation(gw_validation_t *v, const char *key, const json_t *value, json_t *errors) {
    if (strcmp(key, "_comment") == 0 && !json_is_string(value)) {
        gw_error_add(v, errors, key, json_string("expected a string"));
    }
    if (strcmp(key, "_ignore") == 0 && !json_is_array(value)) {
        gw_error_add(v, errors, key, json_string("expected an array"));
    }
}

/* A shorthand that the entity's own function left in place has the wrong type. */
static bool is_shorthand_key(const gw_validation_t *v, const gw_field_t *fields, const char *key) {
    return fields == v->kind->fields && v->kind->shorthand_fields != NULL && is_among(key, v->kind->shorthand_fields);
}

static void check_unknown(gw_validation_t *v, const gw_field_t *fields, const json_t *in, json_t *errors) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)in, key, value) {
        if (strcmp(key, "@entity") == 0) {
            gw_error_add_entity(v, errors, "unknown field '@entity'"); /* its name is where errors of the whole go */
        } else if (is_shorthand_key(v, fields, key)) {
            gw_error_add(v, errors, key, json_string("expected a string"));
        } else if (!is_known_key(v, fields, key)) {
            gw_error_add(v, errors, key, json_string("unknown field"));
        } else if (key[0] == '_') {
            check_annotation(v, key, value, errors);
        }
    }
}

/* Fills `record` and `errors`; both stay usable, so that entity checks can see what was fine. */
static void check_fields(gw_validation_t *v, const gw_field_t *fields, const json_t *in, json_t *record, json_t *errors) {
    for (const gw_field_t *f = fields; f->name != NULL; f++) {
        if (f->transient && (v->declarative || json_object_get(in, f->name) == NULL)) {
            continue; /* in a document it is a collection */
        }
        json_t *value = NULL, *error = check_field(v, f, in, json_object_get(in, f->name), &value);
        if (error != NULL) {
            gw_error_add(v, errors, f->name, error);
        } else if (f->only_if_set && json_is_null(value)) {
            json_decref(value);
        } else {
            gw_member_set(v, record, f->name, value);
        }
    }
    check_unknown(v, fields, in, errors);
}

static json_t *check_record(gw_validation_t *v, const gw_field_t *fields, const json_t *in, json_t **out) {
    json_t *record = json_object(), *errors = json_object();
    check_fields(v, fields, in, record, errors);
    if (record == NULL || errors == NULL || json_object_size(errors) > 0) {
        v->failed = v->failed || record == NULL || errors == NULL;
        json_decref(record);
        return errors;
    }
    json_decref(errors);
    *out = record;
    return NULL;
}

/* ---- entity checks ---------------------------------------------------------------------------------------------------- */

static size_t count_set(const json_t *entity, const char *const *fields) {
    size_t n = 0;
    for (; *fields != NULL; fields++) {
        n += !gw_is_empty(json_object_get(entity, *fields));
    }
    return n;
}

static size_t count_names(const char *const *names) {
    size_t n = 0;
    while (names[n] != NULL) {
        n++;
    }
    return n;
}

static void add_check_text(gw_validation_t *v, json_t *errors, const char *what, const char *const *fields) {
    sl_buf_t text;
    sl_buf_init(&text, 1024);
    sl_buf_append_cstr(&text, what);
    gw_quote_list(fields, &text);
    const char *whole = sl_buf_cstr(&text);
    if (whole == NULL) {
        v->failed = true;
    } else {
        gw_error_add_entity(v, errors, whole);
    }
    sl_buf_deinit(&text);
}

static bool condition_holds(const gw_entity_check_t *check, const json_t *entity) {
    const char *value = json_string_value(json_object_get(entity, check->fields[0]));
    if (value == NULL) {
        return false;
    }
    return check->if_one_of != NULL ? is_among(value, check->if_one_of) : !is_among(value, check->if_not_one_of);
}

/* What the second field of a conditional check breaks, NULL: nothing. */
static json_t *consequence(gw_validation_t *v, const gw_entity_check_t *check, const json_t *value) {
    bool set = value != NULL && !json_is_null(value);
    switch (check->then) {
    case GW_THEN_NULL:
        return set ? error_text(v, "value must be null") : NULL;
    case GW_THEN_REQUIRED:
        return set ? NULL : error_text(v, "required field missing");
    default:
        return !set || is_among(json_string_value(value), check->then_one_of) ? NULL : one_of_text(v, check->then_one_of);
    }
}

static void check_conditional(gw_validation_t *v, const gw_entity_check_t *check, const json_t *entity, json_t *errors) {
    sl_err_t text;
    if (!condition_holds(check, entity)) {
        return;
    }
    json_t *error = consequence(v, check, json_object_get(entity, check->fields[1]));
    if (error == NULL) {
        return;
    }
    gw_error_add(v, errors, check->fields[1], error);
    sl_err_set(&text, SL_INVALID, "failed conditional validation given value of field '%s'", check->fields[0]);
    gw_error_add_entity(v, errors, text.text);
}

static bool are_distinct(const json_t *entity, const char *const *fields) {
    const json_t *a = json_object_get(entity, fields[0]), *b = json_object_get(entity, fields[1]);
    return gw_is_empty(a) || gw_is_empty(b) || !json_equal(a, b);
}

static void run_check(gw_validation_t *v, const gw_entity_check_t *check, const json_t *entity, json_t *errors) {
    size_t set = count_set(entity, check->fields);
    switch (check->kind) {
    case GW_CHECK_AT_LEAST_ONE:
        if (set == 0) {
            add_check_text(v, errors, "at least one of these fields must be non-empty: ", check->fields);
        }
        break;
    case GW_CHECK_AT_MOST_ONE:
        if (set > 1) {
            add_check_text(v, errors, "only one or none of these fields must be set: ", check->fields);
        }
        break;
    case GW_CHECK_ALL_OR_NONE:
        if (set != 0 && set != count_names(check->fields)) {
            add_check_text(v, errors, "all or none of these fields must be set: ", check->fields);
        }
        break;
    case GW_CHECK_DISTINCT:
        if (!are_distinct(entity, check->fields)) {
            add_check_text(v, errors, "values of these fields must be distinct: ", check->fields);
        }
        break;
    case GW_CHECK_CONDITIONAL:
        check_conditional(v, check, entity, errors);
        break;
    case GW_CHECK_CUSTOM:
        check->run(v, entity, errors);
        break;
    }
}

static bool touches_error(const gw_entity_check_t *check, const json_t *errors) {
    for (const char *const *field = check->fields; *field != NULL; field++) {
        if (json_object_get(errors, *field) != NULL) {
            return true;
        }
    }
    return false;
}

static void run_checks(gw_validation_t *v, const json_t *entity, json_t *errors) {
    if (v->kind->checks == NULL) {
        return;
    }
    for (const gw_entity_check_t *check = v->kind->checks; check->fields != NULL; check++) {
        if (check->with_invalid_fields || !touches_error(check, errors)) {
            run_check(v, check, entity, errors);
        }
    }
}

/* ---- entities --------------------------------------------------------------------------------------------------------- */

static void drop_both(json_t **entity, json_t **errors) {
    json_decref(*entity);
    json_decref(*errors);
    *entity = *errors = NULL;
}

sl_status_t gw_entity_validate(gw_validation_t *v, const json_t *input, json_t **entity, json_t **errors) {
    *entity = json_object();
    *errors = json_object();
    bool expand = v->kind->shorthand != NULL && !v->plain;
    json_t *copy = expand ? gw_shallow_copy(input) : json_incref((json_t *)input);
    if (*entity == NULL || *errors == NULL || copy == NULL) {
        json_decref(copy);
        drop_both(entity, errors);
        return SL_NO_MEMORY;
    }
    if (expand) {
        v->kind->shorthand(v, copy);
    }
    v->input = copy;
    check_fields(v, v->kind->fields, copy, *entity, *errors);
    run_checks(v, *entity, *errors);
    v->input = NULL;
    json_decref(copy);
    if (v->failed) {
        drop_both(entity, errors);
        return SL_NO_MEMORY;
    }
    bool valid = json_object_size(*errors) == 0;
    json_t **unused = valid ? errors : entity;
    json_decref(*unused);
    *unused = NULL;
    return valid ? SL_OK : SL_INVALID;
}

static json_t *merge_records(const json_t *old, const json_t *patch) {
    const char *key;
    json_t *value, *merged = gw_shallow_copy(old);
    if (merged == NULL) {
        return NULL;
    }
    json_object_foreach((json_t *)patch, key, value) {
        json_t *before = json_object_get(merged, key);
        json_t *after = json_is_object(before) && json_is_object(value) ? merge_records(before, value) : json_incref(value);
        if (json_object_set_new(merged, key, after) != 0) {
            json_decref(merged);
            return NULL;
        }
    }
    return merged;
}

json_t *gw_entity_merge(gw_validation_t *v, const json_t *old, const json_t *patch) {
    const char *key;
    json_t *value, *merged = gw_shallow_copy(old), *changes = gw_shallow_copy(patch);
    if (v->kind->shorthand != NULL && changes != NULL) {
        v->kind->shorthand(v, changes);
    }
    json_object_foreach(changes, key, value) {
        const gw_field_t *field = gw_field_find(v->kind->fields, key);
        json_t *before = json_object_get(merged, key);
        bool deep = field != NULL && field->type == GW_TYPE_RECORD && json_is_object(before) && json_is_object(value);
        gw_member_set(v, merged, key, deep ? merge_records(before, value) : json_incref(value));
    }
    v->failed = v->failed || merged == NULL || changes == NULL;
    json_decref(changes);
    if (v->failed) {
        json_decref(merged);
        return NULL;
    }
    return merged;
}
