/*
 * Reads what a binary WebAssembly module says about itself, without an engine. The bytes are hostile: every number, length and
 * count is checked, and counts have a ceiling. Bodies of functions are not looked at: what this accepts may still be invalid.
 * Pure function; no state, no I/O.
 */
#ifndef SL_MODULE_READER_H
#define SL_MODULE_READER_H

#include "engine.h"
#include "sl_arena.h"

/*
 * Fills everything of `info` but sha256 and size_bytes; names are copied into `arena`.
 * SL_INVALID: the text says what is wrong, with the byte offset. SL_NO_MEMORY: also when the arena's ceiling is reached.
 */
sl_status_t sl_module_read(sl_str_t bytes, sl_arena_t *arena, sl_module_info_t *info, sl_err_t *err);

#endif
