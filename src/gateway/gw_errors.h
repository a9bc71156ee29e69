/*
 * Error objects as clients see them: {"code", "name", "message", "fields"}. Pure; any thread. Inside src/gateway.
 */
#ifndef GW_ERRORS_H
#define GW_ERRORS_H

#include "gw_config.h"

typedef enum {
    GW_ERR_PRIMARY_KEY = 1,
    GW_ERR_SCHEMA = 2,
    GW_ERR_PRIMARY_KEY_TAKEN = 3,
    GW_ERR_FOREIGN_KEY = 4,
    GW_ERR_UNIQUE = 5,
    GW_ERR_NOT_FOUND = 6,
    GW_ERR_OFFSET = 7,
    GW_ERR_DATABASE = 8,
    GW_ERR_SIZE = 9,
    GW_ERR_UNIQUE_KEY = 10,
    GW_ERR_OPTIONS = 11,
    GW_ERR_UNSUPPORTED = 12,
    GW_ERR_FOREIGN_NAMES = 13,
    GW_ERR_DECLARATIVE = 14,
    GW_ERR_REFERENCED = 19
} gw_error_code_t;

/* The object without "fields" when `fields` is NULL (borrowed otherwise). New reference; NULL without memory. */
json_t *gw_error_object(gw_error_code_t code, const char *message, json_t *fields);
/* Code 2 and 13, with the message made from the fields. */
json_t *gw_error_schema(json_t *fields);
json_t *gw_error_unresolved(json_t *fields);
/* The HTTP status that goes with a code. */
int gw_error_status(int code);

/*
 * The errors of a document, one row per entity. What became rows is removed from `fields` (an own copy of the caller's).
 * New reference; NULL without memory.
 */
json_t *gw_flatten_errors(const json_t *doc, json_t *fields);

/* A value as a Lua table prints: compact `{name="x"}`, or over several lines with two spaces per level. */
void gw_lua_print(const json_t *value, bool compact, sl_buf_t *out);

#endif
