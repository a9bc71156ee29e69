/*
 * JSON Schema for the configurations of filters: the keywords of draft 4 below, also under 2020-12 where they exist there too.
 *
 *   any value   type enum const allOf anyOf oneOf not $ref (to "#" and "#/...")
 *   numbers     minimum maximum exclusiveMinimum exclusiveMaximum (true as in draft 4, or a number) multipleOf
 *   texts       minLength maxLength pattern
 *   lists       items (one schema or a list of them) additionalItems minItems maxItems uniqueItems
 *   objects     properties patternProperties additionalProperties required minProperties maxProperties dependencies
 *   no meaning  $schema id $id $comment title description default examples format definitions $defs
 *
 * Any other keyword is refused by name. Pure; any thread.
 */
#ifndef GW_JSON_SCHEMA_H
#define GW_JSON_SCHEMA_H

#include <jansson.h>

#include "sl_types.h"

/* Is this a schema that can be validated against? SL_INVALID: the text says where and what ("properties: a: pattern: ..."). */
sl_status_t gw_json_schema_check(const json_t *schema, sl_err_t *err);

/* SL_INVALID: "property add is required", "property foo validation failed: wrong type: expected string, got number"... The schema
 * should have passed gw_json_schema_check(); what it would refuse counts as satisfied. SL_NO_MEMORY. */
sl_status_t gw_json_schema_validate(const json_t *schema, const json_t *value, sl_err_t *err);

/* "object", "array", "string", "number", "boolean", "null" (NULL too). */
const char *gw_json_type_name(const json_t *value);

#endif
