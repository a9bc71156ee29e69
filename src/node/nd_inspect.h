/*
 * What can be said of a module without running it: for GET /filters/{name} and `sluice filters inspect`. The bytes are hostile. Pure.
 *
 *   {"abi": "0.2.1", "sha256", "size_bytes", "imports": [{"module", "name", "type"}], "exports": [{"name", "kind", "type"}],
 *    "needed_grants": ["headers", ...], "wasi": ["fd_write", ...], "custom_sections": [{"name", "size_bytes"}],
 *    "has_dwarf", "has_name_section", "has_start", "data_segments"}
 *
 * A type is written as in engine.h ("iii:i"). needed_grants: the groups of host calls that it imports.
 */
#ifndef ND_INSPECT_H
#define ND_INSPECT_H

#include <jansson.h>

#include "engine.h"

/* SL_INVALID: no module, the text says where. The caller owns *out. */
sl_status_t nd_inspect(sl_str_t bytes, json_t **out, sl_err_t *err);
/* "0.2.1" from its exports, "" when it is no filter. */
void nd_inspect_abi(const sl_module_info_t *info, char out[16]);
/* The same from the bytes. */
void nd_inspect_abi_of(sl_str_t bytes, char out[16]);

#endif
