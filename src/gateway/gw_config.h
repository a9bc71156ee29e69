/*
 * From any source to one validated configuration: YAML or JSON text, and later single entities of the Admin API and rows of
 * a database, become the same document tree; one validator, driven by the entity tables (gw_schema.h), checks it, fills in
 * defaults, ids and references, and answers either the canonical entities or every error at once.
 *
 * Pure: no I/O, no globals, no clock (the caller gives `now_s`). Any thread.
 */
#ifndef GW_CONFIG_H
#define GW_CONFIG_H

#include <jansson.h>

#include "gw_plan.h"
#include "sl_buf.h"

/* What validation must ask its surroundings. */
typedef struct {
    bool wasm_enabled;
    /* true: a filter of this name is installed. NULL `has_filter`: any name is accepted. */
    bool (*has_filter)(void *ud, sl_str_t name);
    /* Name of the nth filter, {NULL,0} behind the last; {"",0}: none here, go on. NULL: they are not listed. */
    sl_str_t (*filter_at)(void *ud, size_t n);
    bool any_filters; /* false: "no wasm filters are available" */
    /* JSON schema of a filter's configuration (borrowed text), {NULL,0} for none. May be NULL. */
    sl_str_t (*filter_schema)(void *ud, sl_str_t name);
    /*
     * Whether there is a version (its name or number) of a filter, with this SHA-256; {NULL,0}: any. SL_OK: *schema (may be NULL) is as
     * above. SL_NOT_FOUND. May be NULL: there are no versions to choose from.
     */
    sl_status_t (*filter_version)(void *ud, sl_str_t name, sl_str_t version, sl_str_t sha256, sl_str_t *schema);
    void *ud;
    int64_t now_s; /* for created_at, updated_at */
    int now_ms;    /* milliseconds of that second, 0-999 */
} gw_validate_env_t;

/* Ceilings for hostile documents. Zero members mean the default in brackets. */
typedef struct {
    size_t max_bytes; /* of text [64 MiB] */
    size_t max_depth; /* of nesting [64] */
    size_t max_nodes; /* after alias expansion [4,000,000] */
} gw_limits_t;

typedef enum { GW_TEXT_AUTO, GW_TEXT_JSON, GW_TEXT_YAML } gw_text_t;

/*
 * Text to tree. AUTO tries JSON, then YAML. YAML scalars get YAML 1.1's core types as Kong reads them; aliases are expanded
 * within max_nodes; duplicate keys, several documents and non-string keys are errors. Caller owns *out (json_decref).
 * The text says line and column: "line 3, column 5: did not find expected ...".
 */
sl_status_t gw_document_parse(sl_str_t text, gw_text_t kind, const gw_limits_t *limits, json_t **out, sl_err_t *err);
/* Tree to YAML (stable key order as in the tree). */
sl_status_t gw_document_print_yaml(const json_t *tree, sl_buf_t *out);

/*
 * Validates a declarative document (section "_format_version" and collections, nested children, references by name).
 * SL_OK: *entities is {"services": {"<id>": {...}}, "routes": {...}, "filter_chains": {...}, ...}: canonical entities, every
 *   field present (null when unset), foreign keys as {"id": "..."}, insertion order = document order. This is also the body
 *   of a 201 from POST /config, and what a plan is built from.
 * SL_INVALID: *fields is the error tree that mirrors the document ({"services":[{"host":"required field missing"}]}).
 * The caller owns whichever was set. `doc` is not changed.
 */
sl_status_t gw_config_validate(const json_t *doc, const gw_validate_env_t *env, json_t **entities, json_t **fields);

/* Canonical entities as a declarative YAML document: _format_version '3.0', _transform false, top-level collections, all fields: what
 * GET /config shows. */
sl_status_t gw_config_export(const json_t *entities, sl_buf_t *yaml);

/* The same of all entities of a plan: collections in the order of their tables, entities in that of their ids. */
sl_status_t gw_config_export_plan(const gw_plan_t *plan, sl_buf_t *yaml);

/* The error object of code 14 from an error tree: {"code":14,"name":...,"message":...,"fields":...}, with "flattened_errors"
 * when `flatten_doc` (the document the errors are about) is given. New reference. NULL only without memory. */
json_t *gw_config_error(json_t *fields, const json_t *flatten_doc);

/* Each error as a line "services[0].routes[1].paths[0]: should start with: / ..." for people (the CLI). */
sl_status_t gw_config_error_lines(const json_t *fields, sl_buf_t *out);

#endif
