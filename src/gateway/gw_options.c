#include "gw_options.h"

#include <inttypes.h>
#include <stdio.h>

static sl_status_t no_memory(sl_err_t *err) {
    return sl_err_set(err, SL_NO_MEMORY, "out of memory");
}

static sl_str_t item_of(const json_t *list, size_t i) {
    const json_t *item = json_array_get(list, i);
    return sl_str(json_string_value(item), json_string_length(item));
}

static sl_status_t set_list(sl_filter_opts_t *opts, const sl_filter_opt_t *opt, const json_t *list, sl_arena_t *arena, sl_err_t *err) {
    sl_buf_t text;
    sl_buf_init(&text, (size_t)opt->max + 1);
    for (size_t i = 0; i < json_array_size(list); i++) {
        sl_str_t item = item_of(list, i);
        if (item.len == 0) {
            sl_buf_deinit(&text);
            return sl_err_set(err, SL_INVALID, "expected an array of texts");
        }
        if (i != 0) {
            sl_buf_append_char(&text, ',');
        }
        sl_buf_append_str(&text, item);
    }
    sl_str_t kept = text.failed ? SL_STR_NULL : sl_arena_dup(arena, sl_buf_str(&text));
    bool failed = text.failed;
    sl_buf_deinit(&text);
    if (failed) {
        return sl_err_set(err, SL_INVALID, "expected at most %" PRIu64 " bytes", opt->max);
    }
    return kept.data == NULL ? no_memory(err) : sl_filter_opts_set(opts, opt, kept, arena, err);
}

static bool fits(const sl_filter_opt_t *opt, const json_t *value) {
    switch (opt->kind) {
    case SL_OPT_BOOL:
        return json_is_boolean(value);
    case SL_OPT_UINT:
        return json_is_integer(value);
    case SL_OPT_SIZE:
        return json_is_integer(value) || json_is_string(value);
    case SL_OPT_LIST:
        return json_is_array(value);
    case SL_OPT_ENUM:
    case SL_OPT_TEXT:
        return json_is_string(value);
    }
    return false;
}

sl_status_t gw_option_set(sl_filter_opts_t *opts, const sl_filter_opt_t *opt, const json_t *value, sl_arena_t *arena, sl_err_t *err) {
    if (!fits(opt, value)) {
        static const char *const kinds[] = {[SL_OPT_ENUM] = "a text",
                                            [SL_OPT_BOOL] = "a boolean",
                                            [SL_OPT_UINT] = "an integer",
                                            [SL_OPT_SIZE] = "a number of bytes or a text such as 64m",
                                            [SL_OPT_LIST] = "an array of texts",
                                            [SL_OPT_TEXT] = "a text"};
        return sl_err_set(err, SL_INVALID, "expected %s", kinds[opt->kind]);
    }
    if (json_is_array(value)) {
        return set_list(opts, opt, value, arena, err);
    }
    if (json_is_string(value)) {
        return sl_filter_opts_set(opts, opt, sl_str(json_string_value(value), json_string_length(value)), arena, err);
    }
    char number[24];
    snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    return sl_filter_opts_set(opts, opt, sl_cstr(json_is_integer(value) ? number : json_is_true(value) ? "on" : "off"), arena, err);
}

sl_status_t gw_options_read(const json_t *entry, sl_filter_opts_t *opts, sl_arena_t *arena, sl_err_t *err) {
    sl_filter_opts_init(opts);
    for (size_t i = 0; i < SL_FOPT_N; i++) {
        const json_t *value = json_object_get(entry, sl_filter_opts[i].name);
        if (value == NULL || json_is_null(value)) {
            continue;
        }
        sl_status_t rc = gw_option_set(opts, &sl_filter_opts[i], value, arena, err);
        if (rc != SL_OK) {
            sl_err_prefix(err, "%s: ", sl_filter_opts[i].name);
            return rc;
        }
    }
    return SL_OK;
}
