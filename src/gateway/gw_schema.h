/*
 * Entities as tables. One table per entity says everything about its fields and checks; validation, the declarative format,
 * the Admin API and /schemas are all read from it. Adding a field is adding a row in gw_entities.c.
 *
 * Tables are constant, shared by all threads.
 */
#ifndef GW_SCHEMA_H
#define GW_SCHEMA_H

#include "gw_config.h"

typedef enum {
    GW_TYPE_STRING,
    GW_TYPE_INTEGER,
    GW_TYPE_NUMBER,
    GW_TYPE_BOOLEAN,
    GW_TYPE_ARRAY,   /* ordered, `elements` */
    GW_TYPE_SET,     /* ordered, duplicates dropped, `elements` */
    GW_TYPE_MAP,     /* text keys (`keys`), values are `elements` */
    GW_TYPE_RECORD,  /* `fields` */
    GW_TYPE_FOREIGN, /* {"id": "..."} of an entity of `reference` */
    GW_TYPE_JSON     /* anything; a check looks at it */
} gw_type_t;

typedef struct gw_validation_s gw_validation_t;
typedef struct gw_field_s gw_field_t;

/* Looks at a text that already has the right type and length. false: `err` holds the exact text for the user, an empty
 * one when memory ran out. */
typedef bool (*gw_text_check_t)(sl_str_t value, sl_err_t *err);

struct gw_field_s {
    const char *name; /* NULL ends a table */
    gw_type_t type;
    bool required; /* null is refused */
    bool unique;
    bool automatic; /* generated when absent: id, created_at, updated_at */
    bool on_delete_cascade;
    const char *def;           /* default as JSON text; NULL: null */
    const char *const *one_of; /* allowed texts; NULL-terminated */
    const int *one_of_int;     /* allowed integers; 0-terminated */
    bool between;              /* numbers: min <= value <= max */
    int64_t min, max;
    bool uuid;
    bool may_be_empty; /* "" is accepted */
    size_t len_min;    /* of lists: elements; of texts: bytes */
    size_t len_max;    /* 0: none */
    const char *starts_with;
    gw_text_check_t check;                                                          /* texts */
    bool (*check_env)(const gw_validate_env_t *env, sl_str_t value, sl_err_t *err); /* texts that the surroundings know */
    const char *const *const *exclusive_sets; /* at most one of these families has members in the set */
    const gw_field_t *elements, *keys, *fields;
    const char *reference;
    /* JSON type, lists and texts: error for the value as a whole, NULL when fine (or v->failed). `record` is the record around it, as
     * given. */
    json_t *(*check_json)(gw_validation_t *v, const json_t *record, const json_t *value);
    bool only_if_set; /* null is left out of the entity */
    bool transient;   /* not stored: a shorthand or a view */
};

typedef enum {
    GW_CHECK_AT_LEAST_ONE,
    GW_CHECK_AT_MOST_ONE,
    GW_CHECK_ALL_OR_NONE,
    GW_CHECK_DISTINCT,
    GW_CHECK_CONDITIONAL, /* fields: {if, then} */
    GW_CHECK_CUSTOM
} gw_check_kind_t;

typedef enum { GW_THEN_NULL, GW_THEN_REQUIRED, GW_THEN_ONE_OF } gw_then_t;

typedef struct {
    gw_check_kind_t kind;
    const char *const *fields; /* NULL-terminated; NULL ends a table of checks */
    const char *const *if_one_of, *const *if_not_one_of;
    gw_then_t then;
    const char *const *then_one_of;
    bool with_invalid_fields; /* also runs when one of `fields` already has an error */
    void (*run)(gw_validation_t *v, const json_t *entity, json_t *errors);
} gw_entity_check_t;

typedef struct {
    const char *name;             /* collection and schema: "filter_chains" */
    const char *path;             /* in URLs: "filter-chains" */
    const char *singular;         /* "filter_chain" */
    const char *endpoint_key;     /* "name"; NULL: id only */
    const char *const *cache_key; /* composite uniqueness, NULL-terminated; NULL: none */
    const gw_field_t *fields;
    const gw_entity_check_t *checks;
    /* Rewrites a shallow copy of the input before its fields are checked (url, algorithm...). */
    void (*shorthand)(gw_validation_t *v, json_t *input);
    const char *const *shorthand_fields; /* keys that only the shorthand knows; NULL: none */
    bool float_time;                     /* timestamps with milliseconds */
    bool hidden_collection;              /* only reachable below its parent: /targets is 404 */
} gw_entity_t;

/* All entities, parents before children; ends with name == NULL. */
extern const gw_entity_t gw_entities[];
/* NULL: no such entity. */
const gw_entity_t *gw_entity_find(sl_str_t collection);
const gw_entity_t *gw_entity_by_path(sl_str_t path);
const gw_field_t *gw_field_find(const gw_field_t *fields, const char *name);
/* The field of `child` that refers to `parent`, NULL when there is none. */
const gw_field_t *gw_entity_link(const gw_entity_t *child, const gw_entity_t *parent);

/* The entity whose collection `key` may stand inside one of `kind` in a document, NULL: none. */
const gw_entity_t *gw_entity_child(const gw_entity_t *kind, const char *key);

/* Collections of other gateways that this one refuses by name; NULL: just unknown. The text says so. */
const char *gw_refused_collection(const char *name);

/* ---- validation of one entity -------------------------------------------------------------------------------------------- */

typedef enum { GW_INSERT, GW_UPDATE, GW_UPSERT } gw_mode_t;

/* Where names become ids, when there is something to look in. */
typedef struct {
    /* true: id[] holds the id of the entity of `kind` whose endpoint key is `key`. */
    bool (*find)(void *ud, const gw_entity_t *kind, sl_str_t key, char id[37]);
    void *ud;
} gw_lookup_t;

struct gw_validation_s {
    const gw_validate_env_t *env;
    const gw_entity_t *kind;
    const json_t *input; /* set by gw_entity_validate: after the shorthands, for checks that need to see it */
    gw_mode_t mode;
    bool declarative;         /* children, _comment and _ignore are left to the caller; references may be names */
    const char *parent_field; /* nested in its parent: this foreign field is given by the place */
    const char *parent_id;
    const char *parent_key;    /* the parent's endpoint key, NULL when it has none */
    const gw_lookup_t *lookup; /* NULL: {"name": "x"} stays as it is */
    bool plain;                /* the shorthands have been expanded already */
    bool failed;               /* out of memory; sticky */
    bool unresolved;           /* out: the errors are references that `lookup` did not find (code 13) */
};

/*
 * One entity: shorthands, defaults, automatic fields, field checks, entity checks.
 * SL_OK: *entity is canonical (every field, table order). SL_INVALID: *errors mirrors the input.
 * In mode GW_UPDATE `input` is the whole entity after merging (gw_entity_merge), and created_at is kept.
 */
sl_status_t gw_entity_validate(gw_validation_t *v, const json_t *input, json_t **entity, json_t **errors);

/* A PATCH: `patch`, its shorthands expanded, over `old`; records merge, all else is replaced. To be validated with v->plain set.
 * New reference, NULL without memory. */
json_t *gw_entity_merge(gw_validation_t *v, const json_t *old, const json_t *patch);

/* Adds an error; `error` is taken. NULL error or a failure sets v->failed. */
void gw_error_add(gw_validation_t *v, json_t *errors, const char *field, json_t *error);
/* The same for element `at` of a list field; positions before it become null. */
void gw_error_add_at(gw_validation_t *v, json_t *errors, const char *field, size_t at, json_t *error);
void gw_error_add_entity(gw_validation_t *v, json_t *errors, const char *text);
/* Sets a member; takes the value; failure is v->failed. */
void gw_member_set(gw_validation_t *v, json_t *object, const char *name, json_t *value);

/* A copy that shares its values; NULL without memory (json_copy() may leave members out). */
json_t *gw_shallow_copy(const json_t *object);
/* A JSON text of a message that may have been cut inside a character. */
json_t *gw_text(const char *text);

bool gw_is_empty(const json_t *value); /* absent, null, "", [] or {} */

/* `'a', 'b'` */
void gw_quote_list(const char *const *names, sl_buf_t *out);

#endif
