/*
 * The settings of a gateway: defaults < sluice.conf < KONG_* < SLUICE_* < command line. One table (settings.c) names every
 * property, its default, its kind and its aliases. Values are checked when they are loaded; each error names the variable or the
 * line that set it.
 */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <jansson.h>

#include "sl_arena.h"
#include "sl_buf.h"
#include "sl_filter_opts.h"

typedef struct settings_s settings_t;

/* `file`: path of a configuration file that must exist, or NULL for the default places. `warn` receives one line per warning. */
sl_status_t settings_load(const char *file, void (*warn)(const char *line), settings_t **out, sl_err_t *err);
/* The same with what settings_save() kept between the file and the environment; the settings file is the one of then. */
sl_status_t settings_load_again(const char *saved, void (*warn)(const char *line), settings_t **out, sl_err_t *err);
void settings_free(settings_t *s);

const char *settings_get(const settings_t *s, const char *name); /* NULL: unset */
bool settings_on(const settings_t *s, const char *name);
/* Who set it, for messages: "SLUICE_PROXY_LISTEN", "sluice.conf line 3", "the default". */
const char *settings_origin(const settings_t *s, const char *name);
bool settings_is_default(const settings_t *s, const char *name);
sl_status_t settings_override(settings_t *s, const char *name, const char *value, const char *origin, sl_err_t *err);

/* wasm_<option> of filters (SLUICE_WASM_DIALECT and so on); texts are borrowed from the settings. */
sl_status_t settings_filter_opts(const settings_t *s, sl_filter_opts_t *opts, sl_err_t *err);

/* NGINX_<block>_<directive> lines: calls `each` for those of a block ("http", "proxy", ...), in a stable order; a value may be empty or
 * NONE. */
void settings_injected(const settings_t *s, const char *block, void (*each)(void *ud, const char *directive, const char *value), void *ud);

/* Keeps what was set by the environment and by options, and which settings file was named; mode 0600, read from any folder. */
sl_status_t settings_save(const settings_t *s, const char *path, sl_err_t *err);

/* All properties as JSON, secrets masked; new reference. */
json_t *settings_json(const settings_t *s);

#endif
