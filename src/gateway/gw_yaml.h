/*
 * YAML text to and from a document tree. Inside src/gateway only; gw_yaml.c is the one file that sees libyaml.
 * Any thread; no state is kept between calls.
 */
#ifndef GW_YAML_H
#define GW_YAML_H

#include "gw_config.h"

/*
 * One document of valid UTF-8 to a tree. `limits` has no zero members. SL_INVALID: the text starts with line and column.
 * An empty document gives a JSON null. Aliased nodes are shared between their places, so the tree must not be changed.
 */
sl_status_t gw_yaml_read(sl_str_t text, const gw_limits_t *limits, json_t **out, sl_err_t *err);

sl_status_t gw_yaml_write(const json_t *tree, sl_buf_t *out);

#endif
