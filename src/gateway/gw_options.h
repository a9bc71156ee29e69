/*
 * The options of a filter (sl_filter_opts.h) as members of a chain's entry: the rows of the entity's table, and reading them.
 */
#ifndef GW_OPTIONS_H
#define GW_OPTIONS_H

#include <jansson.h>

#include "sl_filter_opts.h"

/* JSON of an option as its text, and set: numbers, booleans, arrays of texts (lists), texts. SL_INVALID, SL_NO_MEMORY: err says why. */
sl_status_t gw_option_set(sl_filter_opts_t *opts, const sl_filter_opt_t *opt, const json_t *value, sl_arena_t *arena, sl_err_t *err);

/* All options that an entry has; null is none. Texts are in `arena` or the entry's. The error names the option. */
sl_status_t gw_options_read(const json_t *entry, sl_filter_opts_t *opts, sl_arena_t *arena, sl_err_t *err);

#endif
