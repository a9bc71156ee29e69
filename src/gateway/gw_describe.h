/*
 * The entity tables and the Admin API's paths, described for others: an OpenAPI 3 document and the reference page. Pure; any thread.
 */
#ifndef GW_DESCRIBE_H
#define GW_DESCRIBE_H

#include <jansson.h>

#include "sl_buf.h"

/* OpenAPI 3.0.3 of every path that is answered. New reference; NULL without memory. */
json_t *gw_openapi(const char *version);

/* Markdown: every entity with its paths, fields, defaults and rules; what docs/reference/entities.md holds. */
sl_status_t gw_reference_print(sl_buf_t *out);

#endif
