#include "problems.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "gw_config.h"

/* The value at a path as error lines have it: services[0].name; NULL: there is none. */
static const json_t *value_at(const json_t *at, sl_str_t path) {
    while (path.len != 0 && at != NULL) {
        size_t len = 0;
        if (path.data[0] == '[') {
            at = json_array_get(at, strtoul(path.data + 1, NULL, 10));
            while (len < path.len && path.data[len] != ']') {
                len++;
            }
            len += len < path.len;
        } else {
            while (len < path.len && path.data[len] != '.' && path.data[len] != '[') {
                len++;
            }
            at = json_object_getn(at, path.data, len);
        }
        len += len < path.len && path.data[len] == '.';
        path = sl_str(path.data + len, path.len - len);
    }
    return at;
}

static bool ends_with(sl_str_t s, sl_str_t end) {
    return s.len >= end.len && memcmp(s.data + s.len - end.len, end.data, end.len) == 0;
}

/* The Admin API's texts are fixed; here there is room for what to do. */
static void add_advice(const json_t *doc, sl_str_t line, const nd_filters_t *filters, sl_err_t *err) {
    sl_str_t end = SL_STR(": no such filter");
    if (!ends_with(line, end)) {
        return;
    }
    const char *filter = json_string_value(value_at(doc, sl_str(line.data, line.len - end.len)));
    const char *dir = nd_filters_dir(filters);
    char *start = err->text + strlen(err->text);
    size_t room = sizeof(err->text) - strlen(err->text);
    if (filter != NULL && dir != NULL) {
        snprintf(start, room, " '%.128s'; put %.128s.wasm into %s", filter, filter, dir);
    } else if (filter != NULL) {
        snprintf(start, room, " '%.128s'; set SLUICE_WASM_FILTERS_PATH to the folder that has %.128s.wasm", filter, filter);
    }
}

sl_status_t problems_print(const char *name, const json_t *doc, const json_t *fields, const nd_filters_t *filters, sl_err_t *err) {
    sl_buf_t lines;
    sl_buf_init(&lines, 16 * 1024 * 1024);
    gw_config_error_lines(fields, &lines);
    const char *p = sl_buf_cstr(&lines);
    sl_err_set(err, SL_INVALID, "%s: not a valid configuration", name);
    for (bool first = true; p != NULL && *p != '\0'; first = false) {
        sl_str_t line = sl_str(p, strcspn(p, "\n"));
        if (!first) {
            cli_fail_err(err);
        }
        sl_err_set(err, SL_INVALID, "%s: %.*s", name, SL_FMT(line));
        add_advice(doc, line, filters, err);
        p += line.len + (p[line.len] == '\n');
    }
    sl_buf_deinit(&lines);
    return SL_INVALID;
}
