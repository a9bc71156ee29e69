/*
 * Compact JSON text: what jansson prints with JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(16), byte by byte, in a fraction of its
 * time. Entities and filter configurations are printed with it, so that equal ones are equal bytes in every plan.
 */
#ifndef GW_JSON_TEXT_H
#define GW_JSON_TEXT_H

#include <jansson.h>

#include "sl_buf.h"

/* Appended to `out`. SL_NO_MEMORY: its ceiling, no memory, or value NULL; out->failed is set. */
sl_status_t gw_json_compact(const json_t *value, sl_buf_t *out);

#endif
