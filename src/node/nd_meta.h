/*
 * The metadata of a filter: the JSON document beside it (name.meta.json), or what came with its upload.
 *
 *   {"config_schema": <JSON schema>, "metrics": {"label_patterns": [{"label": "service", "pattern": "<regex>"}]}, "version": "1.2.0"}
 *
 * All members are optional, others are allowed. Pure.
 */
#ifndef ND_META_H
#define ND_META_H

#include <jansson.h>

#include "sl_types.h"

#define ND_META_MAX_BYTES ((size_t)1024 * 1024)
#define ND_VERSION_MAX 64

/* SL_INVALID: the text says which member and why ("config_schema: ..."). */
sl_status_t nd_meta_check(const json_t *meta, sl_err_t *err);
/* A JSON schema as "config_schema" has it. */
sl_status_t nd_meta_check_schema(const json_t *schema, sl_err_t *err);
/* Parses and checks. The caller owns *out. */
sl_status_t nd_meta_parse(sl_str_t text, json_t **out, sl_err_t *err);
/* The name of a version: letters, digits, '.', '_', '+', '-', at most ND_VERSION_MAX; a number alone is none, Sluice gives those. */
bool nd_version_valid(sl_str_t version);

#endif
