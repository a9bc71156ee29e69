/* The Admin API as an OpenAPI document: paths from the list that answers requests, schemas from the entity tables. */
#include <stdio.h>
#include <stdlib.h>

#include "gw_admin_parts.h"
#include "gw_describe.h"

/* Sets a member; takes the value, NULL included. Failures end in a document that is missing: json_pack and others answer NULL then. */
typedef struct {
    json_t *paths;
    bool failed;
} draft_t;

static void put(draft_t *d, json_t *object, const char *name, json_t *value) {
    if (json_object_set_new(object, name, value) != 0) {
        d->failed = true;
    }
}

static void add(draft_t *d, json_t *list, json_t *value) {
    if (json_array_append_new(list, value) != 0) {
        d->failed = true;
    }
}

/* ---- schemas ---------------------------------------------------------------------------------------------------------- */

static json_t *schema_of(draft_t *d, const gw_field_t *f, bool float_time);

static json_t *properties_of(draft_t *d, const gw_field_t *fields, bool float_time) {
    json_t *properties = json_object();
    for (const gw_field_t *f = fields; f->name != NULL; f++) {
        put(d, properties, f->name, schema_of(d, f, float_time));
    }
    return properties;
}

static const char *type_in_json(const gw_field_t *f, bool float_time) {
    switch (f->type) {
    case GW_TYPE_STRING:
        return "string";
    case GW_TYPE_INTEGER:
        return float_time && f->automatic ? "number" : "integer";
    case GW_TYPE_NUMBER:
        return "number";
    case GW_TYPE_BOOLEAN:
        return "boolean";
    case GW_TYPE_ARRAY:
    case GW_TYPE_SET:
        return "array";
    case GW_TYPE_MAP:
    case GW_TYPE_RECORD:
    case GW_TYPE_FOREIGN:
        return "object";
    default:
        return NULL; /* anything */
    }
}

static void put_choices(draft_t *d, json_t *schema, const gw_field_t *f, bool nullable) {
    if (f->one_of == NULL && f->one_of_int == NULL) {
        return;
    }
    json_t *list = json_array();
    for (const char *const *name = f->one_of; name != NULL && *name != NULL; name++) {
        add(d, list, json_string(*name));
    }
    for (const int *n = f->one_of_int; n != NULL && *n != 0; n++) {
        add(d, list, json_integer(*n));
    }
    if (nullable) {
        add(d, list, json_null());
    }
    put(d, schema, "enum", list);
}

static void put_limits(draft_t *d, json_t *schema, const gw_field_t *f) {
    bool list = f->type == GW_TYPE_ARRAY || f->type == GW_TYPE_SET;
    size_t least = f->type == GW_TYPE_STRING && !f->may_be_empty && f->len_min == 0 ? 1 : f->len_min;
    if (f->between) {
        put(d, schema, "minimum", json_integer(f->min));
        put(d, schema, "maximum", json_integer(f->max));
    }
    if (f->uuid) {
        put(d, schema, "format", json_string("uuid"));
    } else if (least > 0 && (list || f->type == GW_TYPE_STRING)) {
        put(d, schema, list ? "minItems" : "minLength", json_integer((json_int_t)least));
    }
    if (f->len_max > 0) {
        put(d, schema, list ? "maxItems" : "maxLength", json_integer((json_int_t)f->len_max));
    }
    if (f->starts_with != NULL) {
        char pattern[64];
        snprintf(pattern, sizeof(pattern), "^%s", f->starts_with);
        put(d, schema, "pattern", json_string(pattern));
    }
}

static void put_inside(draft_t *d, json_t *schema, const gw_field_t *f) {
    if (f->type == GW_TYPE_MAP) {
        put(d, schema, "additionalProperties", schema_of(d, f->elements, false));
    } else if (f->elements != NULL) {
        put(d, schema, "items", schema_of(d, f->elements, false));
    }
    if (f->type == GW_TYPE_RECORD) {
        put(d, schema, "properties", properties_of(d, f->fields, false));
        put(d, schema, "additionalProperties", json_false());
    }
    if (f->type == GW_TYPE_FOREIGN) {
        put(d, schema, "properties", json_pack("{s:{s:s,s:s}}", "id", "type", "string", "format", "uuid"));
    }
    if (f->type == GW_TYPE_SET) {
        put(d, schema, "uniqueItems", json_true());
    }
}

/* Elements of lists have no name and are never null. */
static json_t *schema_of(draft_t *d, const gw_field_t *f, bool float_time) {
    json_t *schema = json_object();
    const char *type = type_in_json(f, float_time);
    bool nullable = !f->required && !f->automatic && f->name != NULL && type != NULL;
    if (type != NULL) {
        put(d, schema, "type", json_string(type));
    }
    if (nullable) {
        put(d, schema, "nullable", json_true());
    }
    put_choices(d, schema, f, nullable);
    put_limits(d, schema, f);
    put_inside(d, schema, f);
    if (f->def != NULL) {
        put(d, schema, "default", json_loads(f->def, JSON_DECODE_ANY, NULL));
    }
    if (f->reference != NULL) {
        char text[96];
        snprintf(text, sizeof(text), "One of %s%s", f->reference, f->on_delete_cascade ? "; goes with it" : "");
        put(d, schema, "description", json_string(text));
    }
    return schema;
}

/* What is shown: every field is there. */
static json_t *shown_schema(draft_t *d, const gw_entity_t *kind) {
    json_t *required = json_array();
    for (const gw_field_t *f = kind->fields; f->name != NULL; f++) {
        add(d, required, json_string(f->name));
    }
    return json_pack("{s:s,s:o,s:o,s:b}", "type", "object", "properties", properties_of(d, kind->fields, kind->float_time), "required",
                     required, "additionalProperties", 0);
}

/* What may be sent. Which fields must be there depends on the method, on defaults and on shorthands: the answer says. */
static json_t *sent_schema(draft_t *d, const gw_entity_t *kind) {
    json_t *properties = properties_of(d, kind->fields, kind->float_time);
    for (const char *const *name = kind->shorthand_fields; name != NULL && *name != NULL; name++) {
        put(d, properties, *name, json_pack("{s:s,s:b}", "type", "string", "writeOnly", 1));
    }
    return json_pack("{s:s,s:o,s:b}", "type", "object", "properties", properties, "additionalProperties", 0);
}

static json_t *ref(const char *form, const char *name) {
    char text[128];
    snprintf(text, sizeof(text), form, name);
    return json_pack("{s:s}", "$ref", text);
}

static json_t *page_schema(const gw_entity_t *kind) {
    return json_pack("{s:s,s:{s:{s:s,s:o},s:{s:s,s:b},s:{s:s}},s:[s,s]}", "type", "object", "properties", "data", "type", "array", "items",
                     ref("#/components/schemas/%s", kind->singular), "next", "type", "string", "nullable", 1, "offset", "type", "string",
                     "required", "data", "next");
}

static json_t *all_schemas(draft_t *d) {
    char name[64];
    json_t *schemas = json_object();
    for (const gw_entity_t *kind = gw_entities; kind->name != NULL; kind++) {
        put(d, schemas, kind->singular, shown_schema(d, kind));
        snprintf(name, sizeof(name), "%s_input", kind->singular);
        put(d, schemas, name, sent_schema(d, kind));
        snprintf(name, sizeof(name), "%s_page", kind->singular);
        put(d, schemas, name, page_schema(kind));
    }
    put(d, schemas, "error",
        json_pack("{s:s,s:{s:{s:s},s:{s:s},s:{s:s},s:{s:s}},s:[s]}", "type", "object", "properties", "code", "type", "integer", "name",
                  "type", "string", "message", "type", "string", "fields", "type", "object", "required", "message"));
    return schemas;
}

/* ---- paths ------------------------------------------------------------------------------------------------------------- */

static json_t *content_of(json_t *schema) {
    return json_pack("{s:{s:o}}", "application/json", "schema", schema);
}

static void put_answer(draft_t *d, json_t *responses, const char *status, const char *text, json_t *schema) {
    json_t *answer = json_pack("{s:s}", "description", text);
    if (schema != NULL) {
        put(d, answer, "content", content_of(schema));
    }
    put(d, responses, status, answer);
}

static json_t *shown(const gw_admin_path_t *path) {
    if (path->kind == NULL) {
        return NULL;
    }
    return ref(path->collection ? "#/components/schemas/%s_page" : "#/components/schemas/%s", path->kind->singular);
}

static json_t *answers_of(draft_t *d, const gw_admin_path_t *path, gw_method_t method) {
    json_t *responses = json_object();
    json_t *one = path->kind != NULL ? ref("#/components/schemas/%s", path->kind->singular) : NULL;
    if (method == GW_DELETE) {
        put_answer(d, responses, "204", "It is gone, or was not there", NULL);
    } else if (method == GW_POST && path->kind != NULL) {
        put_answer(d, responses, "201", "Created", json_incref(one));
    } else if (method == GW_PUT || method == GW_PATCH) {
        put_answer(d, responses, "200", "What it is now", json_incref(one));
    } else {
        put_answer(d, responses, "200", "As asked", method == GW_HEAD ? NULL : shown(path));
    }
    json_decref(one);
    put_answer(d, responses, "default", "Why not", ref("#/components/schemas/%s", "error"));
    return responses;
}

static json_t *body_of(const gw_admin_path_t *path, gw_method_t method) {
    if (method != GW_POST && method != GW_PUT && method != GW_PATCH) {
        return NULL;
    }
    json_t *schema = path->kind != NULL ? ref("#/components/schemas/%s_input", path->kind->singular) : json_pack("{s:s}", "type", "object");
    json_t *content = content_of(schema);
    json_object_set(content, "application/x-www-form-urlencoded", json_object_get(content, "application/json"));
    return json_pack("{s:o}", "content", content);
}

/* A name for generated clients: "get_services_services_routes". */
static json_t *operation_id(const char *method, const char *path) {
    char text[256];
    size_t n = (size_t)snprintf(text, sizeof(text), "%s", method);
    bool gap = true;
    for (const char *p = path; *p != '\0' && n + 2 < sizeof(text); p++) {
        bool word = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '_';
        if (word && gap) {
            text[n++] = '_';
        }
        if (word) {
            text[n++] = *p;
        }
        gap = !word;
    }
    text[n] = '\0';
    if (n == strlen(method)) {
        snprintf(text + n, sizeof(text) - n, "_root");
    }
    return json_string(text);
}

static json_t *summary_of(const gw_admin_path_t *path, gw_method_t method) {
    char text[96];
    if (path->summary != NULL) {
        return json_string(path->summary);
    }
    const char *what = method == GW_POST     ? "Creates one of"
                       : method == GW_PUT    ? "Creates or replaces one of"
                       : method == GW_PATCH  ? "Changes one of"
                       : method == GW_DELETE ? "Removes one of"
                       : path->collection    ? "Lists"
                                             : "Shows one of";
    snprintf(text, sizeof(text), "%s %s", what, path->kind->name);
    return json_string(text);
}

static void put_operation(draft_t *d, json_t *item, const gw_admin_path_t *path, gw_method_t method, const char *name) {
    json_t *operation = json_pack("{s:o,s:o,s:o}", "summary", summary_of(path, method), "operationId", operation_id(name, path->path),
                                  "responses", answers_of(d, path, method));
    json_t *body = body_of(path, method);
    if (body != NULL) {
        put(d, operation, "requestBody", body);
    }
    if (path->collection && method == GW_GET) {
        put(d, operation, "parameters",
            json_pack("[o,o,o]", ref("#/components/parameters/%s", "size"), ref("#/components/parameters/%s", "offset"),
                      ref("#/components/parameters/%s", "tags")));
    }
    put(d, operation, "tags", json_pack("[s]", path->kind != NULL ? path->kind->name : "node"));
    put(d, item, name, operation);
}

static json_t *path_parameters(draft_t *d, const char *path) {
    json_t *list = json_array();
    for (const char *open = strchr(path, '{'); open != NULL; open = strchr(open + 1, '{')) {
        size_t len = strcspn(open + 1, "}");
        add(d, list, json_pack("{s:s%,s:s,s:b,s:{s:s}}", "name", open + 1, len, "in", "path", "required", 1, "schema", "type", "string"));
    }
    return list;
}

static void describe_path(void *ud, const gw_admin_path_t *path) {
    static const struct {
        gw_method_t method;
        const char *name;
    } methods[] = {{GW_GET, "get"}, {GW_POST, "post"}, {GW_PUT, "put"}, {GW_PATCH, "patch"}, {GW_DELETE, "delete"}, {GW_HEAD, "head"}};
    draft_t *d = ud;
    json_t *item = json_object(), *parameters = path_parameters(d, path->path);
    if (json_array_size(parameters) > 0) {
        put(d, item, "parameters", json_incref(parameters));
    }
    json_decref(parameters);
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (path->methods & methods[i].method) {
            put_operation(d, item, path, methods[i].method, methods[i].name);
        }
    }
    put(d, d->paths, path->path, item);
}

static json_t *query_parameter(const char *name, const char *type, const char *text) {
    return json_pack("{s:s,s:s,s:s,s:{s:s}}", "name", name, "in", "query", "description", text, "schema", "type", type);
}

static json_t *query_parameters(void) {
    return json_pack("{s:o,s:o,s:o}", "size", query_parameter("size", "integer", "Entities of a page: 1 to 1000, 100 unless given"),
                     "offset", query_parameter("offset", "string", "Where the page begins, as the page before says"), "tags",
                     query_parameter("tags", "string", "a,b: with all of these tags; a/b: with any of them"));
}

json_t *gw_openapi(const char *version) {
    draft_t d = {.paths = json_object()};
    gw_admin_paths(describe_path, &d);
    json_t *document = json_pack("{s:s,s:{s:s,s:s,s:s},s:o,s:{s:o,s:o}}", "openapi", "3.0.3", "info", "title", "Sluice Admin API",
                                 "version", version, "description", "Made from the entity tables. Keys in paths are ids or names.", "paths",
                                 d.paths, "components", "schemas", all_schemas(&d), "parameters", query_parameters());
    if (d.failed) {
        json_decref(document);
        return NULL;
    }
    return document;
}

void gw_admin_openapi(gw_admin_t *a) {
    json_t *document = gw_openapi(a->env->info.version != NULL ? a->env->info.version : "0");
    if (gw_admin_segment_is(a, 0, "openapi.json")) {
        gw_admin_json(a, 200, document);
        return;
    }
    a->failed = a->failed || document == NULL || gw_document_print_yaml(document, &a->resp->body) != SL_OK;
    a->resp->status = 200;
    a->resp->content_type = "application/yaml";
    json_decref(document);
}
