/* What is wrong with a declarative document, as lines for a person. */
#ifndef PROBLEMS_H
#define PROBLEMS_H

#include <jansson.h>

#include "nd_filters.h"

/*
 * Prints each problem of `fields` (gw_config_validate) as a line "Error: <name>: <path in the document>: <text>" but for the last one,
 * which becomes err. `doc`: the document as written, for words about what it says; `filters`: what is installed. Returns SL_INVALID.
 */
sl_status_t problems_print(const char *name, const json_t *doc, const json_t *fields, const nd_filters_t *filters, sl_err_t *err);

#endif
