#include "gw_json_schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sl_regex.h"
#include "sl_buf.h"

#define MAX_DEPTH 64      /* of schemas within schemas, references followed */
#define MAX_STEPS 1000000 /* schemas applied to values in one validation */

typedef struct {
    const json_t *root;
    size_t steps, depth;
    sl_err_t *err; /* may be NULL */
} run_t;

static sl_status_t apply(run_t *r, const json_t *schema, const json_t *value);

const char *gw_json_type_name(const json_t *value) {
    static const char *const names[] = {"object", "array", "string", "number", "number", "boolean", "boolean", "null"};
    return value == NULL ? "null" : names[json_typeof(value)];
}

static size_t text_length(const json_t *value) {
    size_t n = 0;
    const char *text = json_string_value(value);
    for (size_t i = 0; i < json_string_length(value); i++) {
        n += ((unsigned char)text[i] & 0xc0) != 0x80; /* characters, not bytes */
    }
    return n;
}

static bool is_integral(const json_t *value) {
    return json_is_integer(value) || (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)));
}

/* As JSON Schema compares: 1 and 1.0 are one number. */
static bool same(const json_t *a, const json_t *b) {
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b) : json_equal(a, b);
}

/* ---- any value ---------------------------------------------------------------------------------------------------------------- */

static bool is_type(const json_t *value, const char *type) {
    return strcmp(type, "integer") == 0 ? is_integral(value) : strcmp(type, gw_json_type_name(value)) == 0;
}

static sl_status_t check_type(run_t *r, const json_t *types, const json_t *value) {
    char list[256];
    size_t i, n = 0;
    const json_t *type;
    if (json_is_string(types)) {
        return is_type(value, json_string_value(types))
                   ? SL_OK
                   : sl_err_set(r->err, SL_INVALID, "wrong type: expected %s, got %s", json_string_value(types), gw_json_type_name(value));
    }
    list[0] = '\0';
    json_array_foreach(types, i, type) {
        const char *name = json_string_value(type);
        if (name == NULL || is_type(value, name)) {
            return SL_OK;
        }
        n += n < sizeof(list) ? (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i > 0 ? ", " : "", name) : 0;
    }
    return sl_err_set(r->err, SL_INVALID, "wrong type: expected one of %s, got %s", list, gw_json_type_name(value));
}

static sl_status_t check_enum(run_t *r, const json_t *values, const json_t *value) {
    size_t i;
    const json_t *allowed;
    json_array_foreach(values, i, allowed) {
        if (same(allowed, value)) {
            return SL_OK;
        }
    }
    return sl_err_set(r->err, SL_INVALID, "matches none of the enum values");
}

static sl_status_t check_const(run_t *r, const json_t *expected, const json_t *value) {
    return same(expected, value) ? SL_OK : sl_err_set(r->err, SL_INVALID, "does not equal the const value");
}

static sl_status_t check_all_of(run_t *r, const json_t *schemas, const json_t *value) {
    sl_status_t rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < json_array_size(schemas); i++) {
        rc = apply(r, json_array_get(schemas, i), value);
        if (rc == SL_INVALID) {
            sl_err_prefix(r->err, "allOf %zu failed: ", i + 1);
        }
    }
    return rc;
}

/* How many of the schemas the value matches; stops at `enough`. Their own errors say nothing to the user. */
static sl_status_t count_matches(run_t *r, const json_t *schemas, const json_t *value, size_t enough, size_t *n) {
    sl_err_t *err = r->err;
    sl_status_t rc = SL_OK;
    *n = 0;
    r->err = NULL;
    for (size_t i = 0; *n < enough && i < json_array_size(schemas) && (rc == SL_OK || rc == SL_INVALID); i++) {
        rc = apply(r, json_array_get(schemas, i), value);
        *n += rc == SL_OK;
    }
    r->err = err;
    return rc == SL_INVALID ? SL_OK : rc;
}

static sl_status_t check_any_of(run_t *r, const json_t *schemas, const json_t *value) {
    size_t n;
    sl_status_t rc = count_matches(r, schemas, value, 1, &n);
    return rc != SL_OK || n > 0 ? rc : sl_err_set(r->err, SL_INVALID, "value matches none of the schemas of anyOf");
}

static sl_status_t check_one_of(run_t *r, const json_t *schemas, const json_t *value) {
    size_t n;
    sl_status_t rc = count_matches(r, schemas, value, 2, &n);
    if (rc != SL_OK || n == 1) {
        return rc;
    }
    return sl_err_set(r->err, SL_INVALID, "value should match only one schema, but matches %s", n == 0 ? "none" : "more than one");
}

static sl_status_t check_not(run_t *r, const json_t *schema, const json_t *value) {
    sl_err_t *err = r->err;
    r->err = NULL;
    sl_status_t rc = apply(r, schema, value);
    r->err = err;
    return rc == SL_INVALID ? SL_OK : rc == SL_OK ? sl_err_set(r->err, SL_INVALID, "value is not supposed to match the schema of not") : rc;
}

/* ---- references ----------------------------------------------------------------------------------------------------------------- */

/* One step of a JSON pointer, "~1" and "~0" decoded. */
static const json_t *step_into(const json_t *here, const char *step, size_t len) {
    char name[256];
    size_t n = 0;
    if (len >= sizeof(name)) {
        return NULL;
    }
    for (size_t i = 0; i < len; i++) {
        bool escaped = step[i] == '~' && i + 1 < len && (step[i + 1] == '0' || step[i + 1] == '1');
        name[n++] = escaped ? (step[i + 1] == '0' ? '~' : '/') : step[i];
        i += escaped;
    }
    name[n] = '\0';
    return json_is_array(here) ? json_array_get(here, (size_t)strtoul(name, NULL, 10)) : json_object_get(here, name);
}

static const json_t *resolve(const json_t *root, const char *ref) {
    const json_t *here = root;
    if (ref == NULL || *ref != '#') {
        return NULL;
    }
    for (ref++; *ref == '/' && here != NULL;) {
        const char *end = strchrnul(ref + 1, '/');
        here = step_into(here, ref + 1, (size_t)(end - ref) - 1);
        ref = end;
    }
    return *ref == '\0' ? here : NULL;
}

static sl_status_t check_ref(run_t *r, const json_t *ref, const json_t *value) {
    return apply(r, resolve(r->root, json_string_value(ref)), value);
}

/* ---- numbers and texts ------------------------------------------------------------------------------------------------------------ */

static sl_status_t check_limit(run_t *r, const json_t *limit, const json_t *value, bool lower, bool exclusive) {
    double have = json_number_value(value), want = json_number_value(limit);
    bool good = exclusive ? (lower ? have > want : have < want) : lower ? have >= want : have <= want;
    const char *how = exclusive ? (lower ? "strictly greater than" : "smaller than") : lower ? "at least" : "at most";
    return good ? SL_OK : sl_err_set(r->err, SL_INVALID, "expected %.14g to be %s %.14g", have, how, want);
}

static sl_status_t check_multiple(run_t *r, const json_t *factor, const json_t *value) {
    double have = json_number_value(value), step = json_number_value(factor);
    double quotient = step != 0 ? have / step : 0;
    bool good = fabs(quotient - round(quotient)) < 1e-9;
    return good ? SL_OK : sl_err_set(r->err, SL_INVALID, "expected %.14g to be a multiple of %.14g", have, step);
}

static sl_status_t check_number(run_t *r, const json_t *schema, const json_t *value) {
    static const char *const limits[2][2] = {{"maximum", "exclusiveMaximum"}, {"minimum", "exclusiveMinimum"}};
    for (int lower = 0; lower < 2; lower++) {
        const json_t *limit = json_object_get(schema, limits[lower][0]), *exclusive = json_object_get(schema, limits[lower][1]);
        sl_status_t rc = limit != NULL ? check_limit(r, limit, value, lower, json_is_true(exclusive)) : SL_OK;
        rc = rc == SL_OK && json_is_number(exclusive) ? check_limit(r, exclusive, value, lower, true) : rc;
        if (rc != SL_OK) {
            return rc;
        }
    }
    const json_t *factor = json_object_get(schema, "multipleOf");
    return factor != NULL ? check_multiple(r, factor, value) : SL_OK;
}

static sl_status_t match(const json_t *pattern, sl_str_t text) {
    sl_regex_t *re = NULL;
    size_t end;
    sl_status_t rc = sl_regex_new(sl_str(json_string_value(pattern), json_string_length(pattern)), false, &re, NULL);
    rc = rc == SL_OK ? sl_regex_match(re, text, &end) : rc;
    sl_regex_free(re);
    return rc;
}

static sl_status_t check_text(run_t *r, const json_t *schema, const json_t *value) {
    const json_t *min = json_object_get(schema, "minLength"), *max = json_object_get(schema, "maxLength"),
                 *pattern = json_object_get(schema, "pattern");
    double len = (double)text_length(value);
    if (min != NULL && len < json_number_value(min)) {
        return sl_err_set(r->err, SL_INVALID, "string too short, expected at least %.0f, got %.0f", json_number_value(min), len);
    }
    if (max != NULL && len > json_number_value(max)) {
        return sl_err_set(r->err, SL_INVALID, "string too long, expected at most %.0f, got %.0f", json_number_value(max), len);
    }
    if (!json_is_string(pattern)) {
        return SL_OK;
    }
    sl_status_t rc = match(pattern, sl_str(json_string_value(value), json_string_length(value)));
    if (rc == SL_OK || rc == SL_NO_MEMORY) {
        return rc;
    }
    return sl_err_set(r->err, SL_INVALID, "failed to match pattern \"%.200s\" with \"%.200s\"", json_string_value(pattern),
                      json_string_value(value));
}

/* ---- lists ------------------------------------------------------------------------------------------------------------------------ */

static const json_t *item_schema(const json_t *schema, size_t i) {
    const json_t *items = json_object_get(schema, "items");
    if (!json_is_array(items)) {
        return items;
    }
    return i < json_array_size(items) ? json_array_get(items, i) : json_object_get(schema, "additionalItems");
}

static sl_status_t check_items(run_t *r, const json_t *schema, const json_t *value) {
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *own = item_schema(schema, i);
        if (json_is_false(own)) {
            return sl_err_set(r->err, SL_INVALID, "expect array to have at most %zu items", i);
        }
        sl_status_t rc = own != NULL ? apply(r, own, json_array_get(value, i)) : SL_OK;
        if (rc != SL_OK) {
            sl_err_prefix(r->err, "failed to validate item %zu: ", i + 1);
            return rc;
        }
    }
    return SL_OK;
}

/* Equal values have equal texts when the keys are sorted (1 and 1.0 aside). */
static sl_status_t check_unique(run_t *r, const json_t *value) {
    sl_status_t rc = SL_OK;
    json_t *seen = json_object();
    for (size_t i = 0; rc == SL_OK && i < json_array_size(value); i++) {
        char *key = json_dumps(json_array_get(value, i), JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
        const json_t *before = key != NULL ? json_object_get(seen, key) : NULL;
        if (before != NULL) {
            rc = sl_err_set(r->err, SL_INVALID, "expected unique items but items %lld and %zu are equal",
                            (long long)json_integer_value(before), i + 1);
        } else if (key == NULL || json_object_set_new(seen, key, json_integer((json_int_t)i + 1)) != 0) {
            rc = SL_NO_MEMORY;
        }
        free(key);
    }
    json_decref(seen);
    return rc;
}

static sl_status_t check_size(run_t *r, const json_t *min, const json_t *max, size_t size, const char *of, const char *what) {
    if (min != NULL && (double)size < json_number_value(min)) {
        return sl_err_set(r->err, SL_INVALID, "expect %s to have at least %.0f %s", of, json_number_value(min), what);
    }
    if (max != NULL && (double)size > json_number_value(max)) {
        return sl_err_set(r->err, SL_INVALID, "expect %s to have at most %.0f %s", of, json_number_value(max), what);
    }
    return SL_OK;
}

static sl_status_t check_array(run_t *r, const json_t *schema, const json_t *value) {
    sl_status_t rc =
        check_size(r, json_object_get(schema, "minItems"), json_object_get(schema, "maxItems"), json_array_size(value), "array", "items");
    rc = rc == SL_OK ? check_items(r, schema, value) : rc;
    return rc == SL_OK && json_is_true(json_object_get(schema, "uniqueItems")) ? check_unique(r, value) : rc;
}

/* ---- objects ---------------------------------------------------------------------------------------------------------------------- */

static sl_status_t check_required(run_t *r, const json_t *required, const json_t *value, const char *when) {
    size_t i;
    const json_t *name;
    json_array_foreach(required, i, name) {
        if (json_is_string(name) && json_object_get(value, json_string_value(name)) == NULL) {
            return sl_err_set(r->err, SL_INVALID, "property %s is required%s%s", json_string_value(name),
                              when ? " when the object has " : "", when ? when : "");
        }
    }
    return SL_OK;
}

static sl_status_t check_member(run_t *r, const json_t *schema, const char *name, const json_t *value) {
    sl_status_t rc = apply(r, schema, value);
    if (rc == SL_INVALID) {
        sl_err_prefix(r->err, "property %s validation failed: ", name);
    }
    return rc;
}

/* Whatever schemas apply to one member; *known when any did. */
static sl_status_t check_patterns(run_t *r, const json_t *patterns, const char *name, const json_t *value, bool *known) {
    const char *pattern;
    json_t *schema;
    json_object_foreach((json_t *)patterns, pattern, schema) {
        json_t *text = json_string(pattern);
        sl_status_t rc = text != NULL ? match(text, sl_cstr(name)) : SL_NO_MEMORY;
        json_decref(text);
        if (rc == SL_NO_MEMORY) {
            return rc;
        }
        if (rc != SL_OK) {
            continue;
        }
        *known = true;
        rc = check_member(r, schema, name, value);
        if (rc != SL_OK) {
            return rc;
        }
    }
    return SL_OK;
}

static sl_status_t check_property(run_t *r, const json_t *schema, const char *name, const json_t *value) {
    const json_t *own = json_object_get(json_object_get(schema, "properties"), name),
                 *others = json_object_get(schema, "additionalProperties");
    bool known = own != NULL;
    sl_status_t rc = own != NULL ? check_member(r, own, name, value) : SL_OK;
    rc = rc == SL_OK ? check_patterns(r, json_object_get(schema, "patternProperties"), name, value, &known) : rc;
    if (rc != SL_OK || known || others == NULL) {
        return rc;
    }
    if (json_is_false(others)) {
        return sl_err_set(r->err, SL_INVALID, "additional properties forbidden, found %s", name);
    }
    return check_member(r, others, name, value);
}

static sl_status_t check_dependencies(run_t *r, const json_t *dependencies, const json_t *value) {
    const char *name;
    json_t *needs;
    json_object_foreach((json_t *)dependencies, name, needs) {
        if (json_object_get(value, name) == NULL) {
            continue;
        }
        sl_status_t rc = json_is_array(needs) ? check_required(r, needs, value, name) : apply(r, needs, value);
        if (rc != SL_OK) {
            return rc;
        }
    }
    return SL_OK;
}

static sl_status_t check_object(run_t *r, const json_t *schema, const json_t *value) {
    const char *name;
    json_t *member;
    sl_status_t rc = check_size(r, json_object_get(schema, "minProperties"), json_object_get(schema, "maxProperties"),
                                json_object_size(value), "object", "properties");
    rc = rc == SL_OK ? check_required(r, json_object_get(schema, "required"), value, NULL) : rc;
    rc = rc == SL_OK ? check_dependencies(r, json_object_get(schema, "dependencies"), value) : rc;
    if (rc != SL_OK) {
        return rc;
    }
    json_object_foreach((json_t *)value, name, member) {
        rc = check_property(r, schema, name, member);
        if (rc != SL_OK) {
            return rc;
        }
    }
    return SL_OK;
}

/* ---- one schema --------------------------------------------------------------------------------------------------------------------- */

typedef sl_status_t (*rule_t)(run_t *r, const json_t *rule, const json_t *value);

static const struct {
    const char *name;
    rule_t check;
} rules[] = {
    {"type", check_type},    {"enum", check_enum},    {"const", check_const},  {"$ref", check_ref},
    {"allOf", check_all_of}, {"anyOf", check_any_of}, {"oneOf", check_one_of}, {"not", check_not},
};

static sl_status_t apply_rules(run_t *r, const json_t *schema, const json_t *value) {
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        const json_t *rule = json_object_get(schema, rules[i].name);
        sl_status_t rc = rule != NULL ? rules[i].check(r, rule, value) : SL_OK;
        if (rc != SL_OK) {
            return rc;
        }
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return check_object(r, schema, value);
    case JSON_ARRAY:
        return check_array(r, schema, value);
    case JSON_STRING:
        return check_text(r, schema, value);
    case JSON_INTEGER:
    case JSON_REAL:
        return check_number(r, schema, value);
    default:
        return SL_OK;
    }
}

static sl_status_t apply(run_t *r, const json_t *schema, const json_t *value) {
    if (json_is_false(schema)) {
        return sl_err_set(r->err, SL_INVALID, "value is not allowed");
    }
    if (!json_is_object(schema)) {
        return SL_OK;
    }
    if (++r->steps > MAX_STEPS || r->depth == MAX_DEPTH) {
        return sl_err_set(r->err, SL_FAILED, "validation takes too long");
    }
    r->depth++;
    sl_status_t rc = apply_rules(r, schema, value);
    r->depth--;
    return rc;
}

sl_status_t gw_json_schema_validate(const json_t *schema, const json_t *value, sl_err_t *err) {
    json_t *null = json_null();
    run_t r = {.root = schema, .err = err};
    sl_status_t rc = apply(&r, schema, value != NULL ? value : null);
    json_decref(null);
    if (rc != SL_FAILED) {
        return rc;
    }
    return sl_err_set(err, SL_INVALID, "value takes too long to validate against its schema");
}

/* ---- checking a schema ----------------------------------------------------------------------------------------------------------------
 */

typedef enum {
    IS_ANY,
    IS_SCHEMA,
    IS_SCHEMA_OR_BOOL,
    IS_SCHEMAS,
    IS_SCHEMA_OR_LIST,
    IS_MAP,
    IS_PATTERN_MAP,
    IS_DEPENDENCIES,
    IS_TYPE,
    IS_TEXTS,
    IS_LIST,
    IS_NUMBER,
    IS_COUNT,
    IS_NUMBER_OR_BOOL,
    IS_BOOL,
    IS_PATTERN,
    IS_REF
} shape_t;

static const struct {
    const char *name;
    shape_t shape;
} keywords[] = {
    {"$schema", IS_ANY},
    {"id", IS_ANY},
    {"$id", IS_ANY},
    {"$comment", IS_ANY},
    {"title", IS_ANY},
    {"description", IS_ANY},
    {"default", IS_ANY},
    {"examples", IS_ANY},
    {"format", IS_ANY},
    {"const", IS_ANY},
    {"definitions", IS_MAP},
    {"$defs", IS_MAP},
    {"properties", IS_MAP},
    {"patternProperties", IS_PATTERN_MAP},
    {"dependencies", IS_DEPENDENCIES},
    {"type", IS_TYPE},
    {"enum", IS_LIST},
    {"allOf", IS_SCHEMAS},
    {"anyOf", IS_SCHEMAS},
    {"oneOf", IS_SCHEMAS},
    {"not", IS_SCHEMA},
    {"$ref", IS_REF},
    {"minimum", IS_NUMBER},
    {"maximum", IS_NUMBER},
    {"multipleOf", IS_NUMBER},
    {"exclusiveMinimum", IS_NUMBER_OR_BOOL},
    {"exclusiveMaximum", IS_NUMBER_OR_BOOL},
    {"minLength", IS_COUNT},
    {"maxLength", IS_COUNT},
    {"minItems", IS_COUNT},
    {"maxItems", IS_COUNT},
    {"minProperties", IS_COUNT},
    {"maxProperties", IS_COUNT},
    {"pattern", IS_PATTERN},
    {"items", IS_SCHEMA_OR_LIST},
    {"additionalItems", IS_SCHEMA_OR_BOOL},
    {"additionalProperties", IS_SCHEMA_OR_BOOL},
    {"uniqueItems", IS_BOOL},
    {"required", IS_TEXTS},
};

static sl_status_t check_schema(run_t *r, const json_t *schema);

static sl_status_t check_schemas(run_t *r, const json_t *list) {
    size_t i;
    const json_t *schema;
    sl_status_t rc =
        json_is_array(list) && json_array_size(list) > 0 ? SL_OK : sl_err_set(r->err, SL_INVALID, "expected a list of schemas");
    json_array_foreach(list, i, schema) {
        rc = rc == SL_OK ? check_schema(r, schema) : rc;
    }
    return rc;
}

static sl_status_t check_pattern(run_t *r, sl_str_t pattern) {
    sl_status_t rc = sl_regex_check(pattern, r->err);
    if (rc != SL_OK) {
        sl_err_prefix(r->err, "not a regular expression: ");
    }
    return rc;
}

static sl_status_t check_map(run_t *r, const json_t *map, shape_t shape) {
    const char *name;
    json_t *value;
    if (!json_is_object(map)) {
        return sl_err_set(r->err, SL_INVALID, "expected an object");
    }
    json_object_foreach((json_t *)map, name, value) {
        bool names = shape == IS_DEPENDENCIES && json_is_array(value);
        sl_status_t rc = shape == IS_PATTERN_MAP ? check_pattern(r, sl_cstr(name)) : SL_OK;
        rc = rc == SL_OK && !names ? check_schema(r, value) : rc;
        if (rc != SL_OK) {
            sl_err_prefix(r->err, "%.100s: ", name);
            return rc;
        }
    }
    return SL_OK;
}

static bool is_type_name(const json_t *value) {
    static const char *const names[] = {"object", "array", "string", "number", "integer", "boolean", "null"};
    for (size_t i = 0; json_is_string(value) && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(json_string_value(value), names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool all(const json_t *list, bool (*good)(const json_t *value)) {
    size_t i;
    const json_t *value;
    json_array_foreach(list, i, value) {
        if (!good(value)) {
            return false;
        }
    }
    return json_is_array(list);
}

static bool is_text(const json_t *value) {
    return json_is_string(value);
}

static sl_status_t expect(run_t *r, bool good, const char *what) {
    return good ? SL_OK : sl_err_set(r->err, SL_INVALID, "expected %s", what);
}

static sl_status_t check_shape(run_t *r, shape_t shape, const json_t *value) {
    switch (shape) {
    case IS_SCHEMA:
        return check_schema(r, value);
    case IS_SCHEMA_OR_BOOL:
        return json_is_boolean(value) ? SL_OK : check_schema(r, value);
    case IS_SCHEMAS:
        return check_schemas(r, value);
    case IS_SCHEMA_OR_LIST:
        return json_is_array(value) ? check_schemas(r, value) : check_schema(r, value);
    case IS_MAP:
    case IS_PATTERN_MAP:
    case IS_DEPENDENCIES:
        return check_map(r, value, shape);
    case IS_TYPE:
        return expect(r, is_type_name(value) || all(value, is_type_name), "a type");
    case IS_TEXTS:
        return expect(r, all(value, is_text), "a list of strings");
    case IS_LIST:
        return expect(r, json_is_array(value), "a list");
    case IS_NUMBER:
        return expect(r, json_is_number(value), "a number");
    case IS_COUNT:
        return expect(r, json_is_number(value) && json_number_value(value) >= 0, "a number that is not negative");
    case IS_NUMBER_OR_BOOL:
        return expect(r, json_is_number(value) || json_is_boolean(value), "a number or a boolean");
    case IS_BOOL:
        return expect(r, json_is_boolean(value), "a boolean");
    case IS_PATTERN:
        return json_is_string(value) ? check_pattern(r, sl_str(json_string_value(value), json_string_length(value)))
                                     : expect(r, false, "a string");
    case IS_REF:
        return expect(r, json_is_object(resolve(r->root, json_string_value(value))), "a reference to a schema of this document (#/...)");
    default:
        return SL_OK;
    }
}

static sl_status_t check_keyword(run_t *r, const char *name, const json_t *value) {
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        if (strcmp(keywords[i].name, name) == 0) {
            sl_status_t rc = check_shape(r, keywords[i].shape, value);
            if (rc != SL_OK) {
                sl_err_prefix(r->err, "%s: ", name);
            }
            return rc;
        }
    }
    return sl_err_set(r->err, SL_INVALID, "keyword '%.100s' is not supported", name);
}

static sl_status_t check_schema(run_t *r, const json_t *schema) {
    const char *name;
    json_t *value;
    sl_status_t rc = SL_OK;
    if (!json_is_object(schema)) {
        return sl_err_set(r->err, SL_INVALID, "expected a schema, which is an object");
    }
    if (r->depth == MAX_DEPTH) {
        return sl_err_set(r->err, SL_INVALID, "nested deeper than %d schemas", MAX_DEPTH);
    }
    r->depth++;
    json_object_foreach((json_t *)schema, name, value) {
        rc = rc == SL_OK ? check_keyword(r, name, value) : rc;
    }
    r->depth--;
    return rc;
}

sl_status_t gw_json_schema_check(const json_t *schema, sl_err_t *err) {
    run_t r = {.root = schema, .err = err};
    return check_schema(&r, schema);
}
