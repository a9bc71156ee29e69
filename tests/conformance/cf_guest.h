/* The driver guest of cf_abi.h for each engine. */
#ifndef CF_GUEST_H
#define CF_GUEST_H

#include "cf_abi.h"
#include "engine.h"

/* Registers "null:conformance-<marker>" for each ABI version. `n_imports` rows of `imports` are declared. */
sl_status_t cf_null_register(const cf_import_t *imports, size_t n_imports);
/* The same guest as WebAssembly text. */
sl_status_t cf_wat_guest(const cf_import_t *imports, size_t n_imports, cf_abi_t abi, sl_buf_t *out);

#endif
