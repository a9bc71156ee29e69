/* /schemas: the entity tables as clients read them, and validation without storing. */
#include "gw_admin_parts.h"

#define DRAFT_4 "http://json-schema.org/draft-04/schema#"

static void put(gw_admin_t *a, json_t *object, const char *name, json_t *value) {
    if (json_object_set_new(object, name, value) != 0) {
        a->failed = true;
    }
}

static void add(gw_admin_t *a, json_t *list, json_t *value) {
    if (json_array_append_new(list, value) != 0) {
        a->failed = true;
    }
}

static json_t *names(gw_admin_t *a, const char *const *texts) {
    json_t *list = json_array();
    for (; *texts != NULL; texts++) {
        add(a, list, json_string(*texts));
    }
    return list;
}

static json_t *numbers(gw_admin_t *a, const int *values) {
    json_t *list = json_array();
    for (; *values != 0; values++) {
        add(a, list, json_integer(*values));
    }
    return list;
}

static const char *type_name(gw_type_t type) {
    static const char *const type_names[] = {"string", "integer", "number", "boolean", "array", "set", "map", "record", "foreign", "json"};
    return type_names[type];
}

static json_t *describe_fields(gw_admin_t *a, const gw_field_t *fields);

static void describe_rules(gw_admin_t *a, const gw_field_t *f, json_t *out) {
    if (f->one_of != NULL) {
        put(a, out, "one_of", names(a, f->one_of));
    }
    if (f->one_of_int != NULL) {
        put(a, out, "one_of", numbers(a, f->one_of_int));
    }
    if (f->between) {
        put(a, out, "between", json_pack("[I,I]", (json_int_t)f->min, (json_int_t)f->max));
    }
    if (f->len_min > 0) {
        put(a, out, "len_min", json_integer((json_int_t)f->len_min));
    }
    if (f->may_be_empty) {
        put(a, out, "len_min", json_integer(0));
    }
    if (f->starts_with != NULL) {
        put(a, out, "starts_with", json_string(f->starts_with));
    }
    for (const char *const *const *set = f->exclusive_sets; set != NULL && *set != NULL; set++) {
        json_t *sets = json_object_get(out, "mutually_exclusive_subsets");
        if (sets == NULL) {
            put(a, out, "mutually_exclusive_subsets", json_array());
            sets = json_object_get(out, "mutually_exclusive_subsets");
        }
        add(a, sets, names(a, *set));
    }
}

static json_t *describe(gw_admin_t *a, const gw_field_t *f) {
    json_t *out = json_pack("{s:s}", "type", type_name(f->type));
    static const struct {
        size_t offset;
        const char *name;
    } flags[] = {
        {offsetof(gw_field_t, required), "required"},   {offsetof(gw_field_t, unique), "unique"},
        {offsetof(gw_field_t, automatic), "auto"},      {offsetof(gw_field_t, uuid), "uuid"},
        {offsetof(gw_field_t, transient), "transient"},
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (*(const bool *)((const char *)f + flags[i].offset)) {
            put(a, out, flags[i].name, json_true());
        }
    }
    if (f->def != NULL) {
        put(a, out, "default", json_loads(f->def, JSON_DECODE_ANY, NULL));
    }
    if (f->reference != NULL) {
        put(a, out, "reference", json_string(f->reference));
    }
    if (f->on_delete_cascade) {
        put(a, out, "on_delete", json_string("cascade"));
    }
    describe_rules(a, f, out);
    if (f->keys != NULL) {
        put(a, out, "keys", describe(a, f->keys));
    }
    if (f->elements != NULL) {
        put(a, out, f->type == GW_TYPE_MAP ? "values" : "elements", describe(a, f->elements));
    }
    if (f->fields != NULL) {
        put(a, out, "fields", describe_fields(a, f->fields));
    }
    return out;
}

static json_t *describe_fields(gw_admin_t *a, const gw_field_t *fields) {
    json_t *list = json_array();
    for (const gw_field_t *f = fields; f->name != NULL; f++) {
        add(a, list, json_pack("{s:o}", f->name, describe(a, f)));
    }
    return list;
}

static json_t *describe_conditional(gw_admin_t *a, const gw_entity_check_t *check) {
    json_t *when = check->if_one_of != NULL ? json_pack("{s:o}", "one_of", names(a, check->if_one_of))
                                            : json_pack("{s:o}", "not_one_of", names(a, check->if_not_one_of));
    json_t *then = check->then == GW_THEN_NULL       ? json_pack("{s:n}", "eq")
                   : check->then == GW_THEN_REQUIRED ? json_pack("{s:b}", "required", 1)
                                                     : json_pack("{s:o}", "one_of", names(a, check->then_one_of));
    return json_pack("{s:s,s:o,s:s,s:o}", "if_field", check->fields[0], "if_match", when, "then_field", check->fields[1], "then_match",
                     then);
}

static json_t *describe_check(gw_admin_t *a, const gw_entity_check_t *check) {
    static const char *const kinds[] = {"at_least_one_of", "mutually_exclusive", "mutually_required",
                                        "distinct",        "conditional",        "custom_entity_check"};
    json_t *what = check->kind == GW_CHECK_CONDITIONAL ? describe_conditional(a, check)
                   : check->kind == GW_CHECK_CUSTOM    ? json_pack("{s:o}", "field_sources", names(a, check->fields))
                                                       : names(a, check->fields);
    return json_pack("{s:o}", kinds[check->kind], what);
}

static void answer_unknown(gw_admin_t *a, const char *form, sl_str_t name) {
    sl_err_t text;
    sl_err_set(&text, SL_INVALID,
               form[0] == 'F'   ? "Filter '%.*s' not found"
               : form[0] == 'P' ? "No plugin named '%.*s'"
                                : "No entity named '%.*s'",
               SL_FMT(name));
    gw_admin_message(a, 404, text.text);
}

void gw_admin_schema(gw_admin_t *a) {
    const gw_entity_t *kind = gw_entity_find(a->segments[1]);
    if (kind == NULL) {
        answer_unknown(a, "E", a->segments[1]);
        return;
    }
    json_t *checks = json_array();
    for (const gw_entity_check_t *check = kind->checks; check != NULL && check->fields != NULL; check++) {
        add(a, checks, describe_check(a, check));
    }
    gw_admin_json(a, 200, json_pack("{s:o,s:o}", "fields", describe_fields(a, kind->fields), "entity_checks", checks));
}

/* The schema of a filter's configuration with `$schema`; NULL: there is no such filter, or no memory. */
static json_t *filter_schema(gw_admin_t *a, sl_str_t name) {
    const gw_validate_env_t *env = &a->env->validate;
    if (!env->wasm_enabled || env->has_filter == NULL || !env->has_filter(env->ud, name)) {
        return NULL;
    }
    sl_str_t text = env->filter_schema != NULL ? env->filter_schema(env->ud, name) : SL_STR_NULL;
    json_t *schema =
        text.len == 0 ? json_pack("{s:s,s:[s,s]}", "$schema", DRAFT_4, "type", "string", "null") : json_loadb(text.data, text.len, 0, NULL);
    a->failed = a->failed || schema == NULL;
    if (schema != NULL && json_object_get(schema, "$schema") == NULL) {
        put(a, schema, "$schema", json_string(DRAFT_4));
    }
    return schema;
}

void gw_admin_schema_filter(gw_admin_t *a) {
    json_t *schema = filter_schema(a, a->segments[2]);
    if (schema == NULL) {
        answer_unknown(a, "F", a->segments[2]);
        return;
    }
    gw_admin_json(a, 200, schema);
}

/* What is the filter's own of a plugin entity; only filters are plugins. */
void gw_admin_schema_plugin(gw_admin_t *a) {
    const gw_field_t *fields = gw_entity_find(SL_STR("plugins"))->fields;
    json_t *schema = filter_schema(a, a->segments[2]);
    if (schema == NULL) {
        answer_unknown(a, "P", a->segments[2]);
        return;
    }
    json_t *config = json_pack("{s:s,s:o}", "type", "json", "json_schema", schema);
    gw_admin_json(a, 200,
                  json_pack("{s:[{s:o},{s:{s:s,s:s,s:n}},{s:o}],s:[]}", "fields", "protocols",
                            describe(a, gw_field_find(fields, "protocols")), "consumer", "type", "foreign", "reference", "consumers", "eq",
                            "config", config, "entity_checks"));
}

/* Without look-ups: a reference by name is taken as it is. */
void gw_admin_schema_validate(gw_admin_t *a) {
    json_t *entity, *errors;
    const gw_entity_t *kind = gw_entity_find(a->segments[1]);
    if (kind == NULL) {
        answer_unknown(a, "E", a->segments[1]);
        return;
    }
    if (!gw_admin_read_input(a, kind->fields)) {
        return;
    }
    gw_validation_t v = {.env = &a->env->validate, .kind = kind, .mode = GW_INSERT};
    sl_status_t rc = gw_entity_validate(&v, a->input, &entity, &errors);
    a->failed = a->failed || rc == SL_NO_MEMORY;
    if (rc == SL_OK) {
        gw_admin_message(a, 200, "schema validation successful");
    } else if (rc == SL_INVALID) {
        gw_admin_error(a, gw_error_schema(errors));
    }
    json_decref(entity);
    json_decref(errors);
}
