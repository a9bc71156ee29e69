#include "sl_filter_opts.h"

#include <inttypes.h>
#include <stdio.h>

const char *const sl_dialects[] = {"envoy", "wasmx", NULL};
const char *const sl_isolations[] = {"shared", "request", "filter", NULL};
const char *const sl_fails[] = {"closed", "open", "skip-chain", NULL};

const sl_filter_opt_t sl_filter_opts[SL_FOPT_N] = {
#define SL_FILTER_OPT(id, field, name, kind, def, values, min, max)                                                                        \
    [SL_FOPT_##id] = {name, kind, def, values, min, max, offsetof(sl_filter_opts_t, field)},
#include "sl_filter_opts.def"
#undef SL_FILTER_OPT
};

_Static_assert(SL_FOPT_N <= 32, "sl_filter_opts_t.set has a bit for each option");

static uint32_t bit(const sl_filter_opt_t *opt) {
    return 1u << (opt - sl_filter_opts);
}

static void *member(sl_filter_opts_t *opts, const sl_filter_opt_t *opt) {
    return (char *)opts + opt->offset;
}

static const void *value_of(const sl_filter_opts_t *opts, const sl_filter_opt_t *opt) {
    return (const char *)opts + opt->offset;
}

static bool is_text(const sl_filter_opt_t *opt) {
    return opt->kind == SL_OPT_LIST || opt->kind == SL_OPT_TEXT;
}

static size_t size_of(const sl_filter_opt_t *opt) {
    static const size_t sizes[] = {
        [SL_OPT_ENUM] = sizeof(uint8_t),  [SL_OPT_BOOL] = sizeof(bool),     [SL_OPT_UINT] = sizeof(uint32_t),
        [SL_OPT_SIZE] = sizeof(uint64_t), [SL_OPT_LIST] = sizeof(sl_str_t), [SL_OPT_TEXT] = sizeof(sl_str_t),
    };
    return sizes[opt->kind];
}

const sl_filter_opt_t *sl_filter_opt_find(sl_str_t name) {
    for (size_t i = 0; i < SL_FOPT_N; i++) {
        if (sl_str_eq(name, sl_cstr(sl_filter_opts[i].name))) {
            return &sl_filter_opts[i];
        }
    }
    return NULL;
}

bool sl_filter_opt_is_set(const sl_filter_opts_t *opts, const sl_filter_opt_t *opt) {
    return (opts->set & bit(opt)) != 0;
}

/* ---- numbers ------------------------------------------------------------------------------------------------------------ */

static bool digits(sl_str_t s, uint64_t *out) {
    uint64_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned char)s.data[i] - (unsigned)'0';
        if (digit > 9 || n > (UINT64_MAX - digit) / 10) {
            return false;
        }
        n = n * 10 + digit;
    }
    *out = n;
    return s.len != 0;
}

bool sl_size_parse(sl_str_t text, uint64_t *bytes) {
    static const char units[] = "kKmMgG";
    const char *unit = text.len != 0 && text.data[text.len - 1] != '\0' ? strchr(units, text.data[text.len - 1]) : NULL;
    unsigned shift = unit != NULL ? (unsigned)((unit - units) / 2 + 1) * 10 : 0;
    uint64_t n;
    if (!digits(sl_str(text.data, text.len - (unit != NULL)), &n) || n > UINT64_MAX >> shift) {
        return false;
    }
    *bytes = n << shift;
    return true;
}

/* ---- from text ---------------------------------------------------------------------------------------------------------- */

static sl_status_t set_enum(uint8_t *to, const sl_filter_opt_t *opt, sl_str_t value, sl_err_t *err) {
    char known[128];
    size_t len = 0;
    for (uint8_t i = 0; opt->values[i] != NULL; i++) {
        if (sl_str_eq(value, sl_cstr(opt->values[i]))) {
            *to = i;
            return SL_OK;
        }
        if (len < sizeof(known)) {
            len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", i != 0 ? ", " : "", opt->values[i]);
        }
    }
    return sl_err_set(err, SL_INVALID, "expected one of: %s; got '%.*s'", known, SL_FMT(value));
}

static sl_status_t set_bool(bool *to, sl_str_t value, sl_err_t *err) {
    bool on = sl_str_eq(value, SL_STR("on")) || sl_str_eq(value, SL_STR("true"));
    if (!on && !sl_str_eq(value, SL_STR("off")) && !sl_str_eq(value, SL_STR("false"))) {
        return sl_err_set(err, SL_INVALID, "expected on or off, got '%.*s'", SL_FMT(value));
    }
    *to = on;
    return SL_OK;
}

static sl_status_t set_uint(uint32_t *to, const sl_filter_opt_t *opt, sl_str_t value, sl_err_t *err) {
    uint64_t n = 0;
    bool off = opt->min == 0 && sl_str_eq(value, SL_STR("off"));
    if (!off && (!digits(value, &n) || n < opt->min || n > opt->max)) {
        return sl_err_set(err, SL_INVALID, "expected a number from %" PRIu64 " to %" PRIu64 "%s, got '%.*s'", opt->min, opt->max,
                          opt->min == 0 ? " (0, off: none)" : "", SL_FMT(value));
    }
    *to = (uint32_t)n;
    return SL_OK;
}

static sl_status_t set_size(uint64_t *to, const sl_filter_opt_t *opt, sl_str_t value, sl_err_t *err) {
    uint64_t n = 0;
    bool off = opt->min == 0 && sl_str_eq(value, SL_STR("off"));
    if (!off && (!sl_size_parse(value, &n) || n < opt->min || n > opt->max)) {
        return sl_err_set(err, SL_INVALID,
                          "expected a number of bytes, or a size such as 64m, from %" PRIu64 " to %" PRIu64 "%s, got '%.*s'", opt->min,
                          opt->max, opt->min == 0 ? " (0, off: none)" : "", SL_FMT(value));
    }
    *to = n;
    return SL_OK;
}

static bool has_control(sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c < 0x20 || c == 0x7f) {
            return true;
        }
    }
    return false;
}

static sl_status_t check_text(const sl_filter_opt_t *opt, sl_str_t value, sl_err_t *err) {
    if (value.len < opt->min || value.len > opt->max) {
        return sl_err_set(err, SL_INVALID, "expected %" PRIu64 " to %" PRIu64 " bytes, got %zu", opt->min, opt->max, value.len);
    }
    if (has_control(value) || !sl_utf8_valid(value, NULL)) {
        return sl_err_set(err, SL_INVALID, "expected UTF-8 without control characters");
    }
    return SL_OK;
}

static bool is_separator(char c) {
    return c == ',' || c == ' ';
}

/* Only single commas, between items. */
static bool is_kept_form(sl_str_t list) {
    for (size_t i = 0; i < list.len; i++) {
        bool edge = i == 0 || i == list.len - 1 || list.data[i - 1] == ',';
        if (list.data[i] == ' ' || (list.data[i] == ',' && edge)) {
            return false;
        }
    }
    return true;
}

static sl_str_t kept_form(sl_str_t list, sl_arena_t *arena) {
    char *room = sl_arena_alloc(arena, list.len);
    size_t len = 0;
    for (size_t i = 0; room != NULL && i < list.len; i++) {
        if (is_separator(list.data[i])) {
            continue;
        }
        if (len != 0 && is_separator(list.data[i - 1])) {
            room[len++] = ',';
        }
        room[len++] = list.data[i];
    }
    return sl_str(room, len);
}

static sl_status_t set_list(sl_str_t *to, const sl_filter_opt_t *opt, sl_str_t value, sl_arena_t *arena, sl_err_t *err) {
    sl_status_t rc = check_text(opt, value, err);
    if (rc != SL_OK) {
        return rc;
    }
    if (!is_kept_form(value)) {
        if (arena == NULL) {
            return sl_err_set(err, SL_INVALID, "expected items separated by single commas, got '%.*s'", SL_FMT(value));
        }
        value = kept_form(value, arena);
        if (value.data == NULL) {
            return sl_err_set(err, SL_NO_MEMORY, "out of memory");
        }
    }
    *to = sl_str_eq(value, SL_STR("none")) ? SL_STR("") : value;
    return SL_OK;
}

static sl_status_t set_text(sl_str_t *to, const sl_filter_opt_t *opt, sl_str_t value, sl_err_t *err) {
    sl_status_t rc = check_text(opt, value, err);
    if (rc == SL_OK) {
        *to = value;
    }
    return rc;
}

sl_status_t sl_filter_opts_set(sl_filter_opts_t *opts, const sl_filter_opt_t *opt, sl_str_t value, sl_arena_t *arena, sl_err_t *err) {
    void *to = member(opts, opt);
    sl_status_t rc = SL_FAILED;
    switch (opt->kind) {
    case SL_OPT_ENUM:
        rc = set_enum(to, opt, value, err);
        break;
    case SL_OPT_BOOL:
        rc = set_bool(to, value, err);
        break;
    case SL_OPT_UINT:
        rc = set_uint(to, opt, value, err);
        break;
    case SL_OPT_SIZE:
        rc = set_size(to, opt, value, err);
        break;
    case SL_OPT_LIST:
        rc = set_list(to, opt, value, arena, err);
        break;
    case SL_OPT_TEXT:
        rc = set_text(to, opt, value, err);
        break;
    }
    if (rc == SL_OK) {
        opts->set |= bit(opt);
    }
    return rc;
}

void sl_filter_opts_init(sl_filter_opts_t *opts) {
    *opts = (sl_filter_opts_t){0};
    for (size_t i = 0; i < SL_FOPT_N; i++) {
        (void)sl_filter_opts_set(opts, &sl_filter_opts[i], sl_cstr(sl_filter_opts[i].def), NULL, NULL); /* a test sets each */
    }
    opts->set = 0;
}

/* ---- to text ------------------------------------------------------------------------------------------------------------ */

sl_str_t sl_filter_opts_text(const sl_filter_opts_t *opts, const sl_filter_opt_t *opt, char room[SL_FILTER_OPT_TEXT]) {
    const void *from = value_of(opts, opt);
    switch (opt->kind) {
    case SL_OPT_ENUM:
        return sl_cstr(opt->values[*(const uint8_t *)from]);
    case SL_OPT_BOOL:
        return *(const bool *)from ? SL_STR("on") : SL_STR("off");
    case SL_OPT_UINT:
        return sl_str(room, (size_t)snprintf(room, SL_FILTER_OPT_TEXT, "%" PRIu32, *(const uint32_t *)from));
    case SL_OPT_SIZE:
        return sl_str(room, (size_t)snprintf(room, SL_FILTER_OPT_TEXT, "%" PRIu64, *(const uint64_t *)from));
    case SL_OPT_LIST:
        return ((const sl_str_t *)from)->len != 0 ? *(const sl_str_t *)from : SL_STR("none");
    case SL_OPT_TEXT:
        return *(const sl_str_t *)from;
    }
    return SL_STR("");
}

void sl_filter_opts_write(const sl_filter_opts_t *opts, sl_buf_t *lines) {
    char room[SL_FILTER_OPT_TEXT];
    for (size_t i = 0; i < SL_FOPT_N; i++) {
        const sl_filter_opt_t *opt = &sl_filter_opts[i];
        if (sl_filter_opt_is_set(opts, opt)) {
            sl_buf_append_cstr(lines, opt->name);
            sl_buf_append_char(lines, '=');
            sl_buf_append_str(lines, sl_filter_opts_text(opts, opt, room));
            sl_buf_append_char(lines, '\n');
        }
    }
}

static sl_status_t read_line(sl_filter_opts_t *opts, sl_str_t line, sl_err_t *err) {
    const char *equals = memchr(line.data, '=', line.len);
    size_t len = equals != NULL ? (size_t)(equals - line.data) : line.len;
    const sl_filter_opt_t *opt = sl_filter_opt_find(sl_str(line.data, len));
    if (equals == NULL || opt == NULL) {
        return sl_err_set(err, SL_INVALID, "no option of filters: '%.*s'", SL_FMT(line));
    }
    sl_status_t rc = sl_filter_opts_set(opts, opt, sl_str(equals + 1, line.len - len - 1), NULL, err);
    if (rc != SL_OK) {
        sl_err_prefix(err, "%s: ", opt->name);
    }
    return rc;
}

sl_status_t sl_filter_opts_read(sl_filter_opts_t *opts, sl_str_t lines, sl_err_t *err) {
    sl_status_t rc = SL_OK;
    while (rc == SL_OK && lines.len != 0) {
        const char *end = memchr(lines.data, '\n', lines.len);
        size_t len = end != NULL ? (size_t)(end - lines.data) : lines.len;
        rc = read_line(opts, sl_str(lines.data, len), err);
        size_t skip = len + (end != NULL);
        lines = sl_str(lines.data + skip, lines.len - skip);
    }
    return rc;
}

/* ---- levels ------------------------------------------------------------------------------------------------------------- */

void sl_filter_opts_inherit(sl_filter_opts_t *opts, const sl_filter_opts_t *under) {
    for (size_t i = 0; i < SL_FOPT_N; i++) {
        const sl_filter_opt_t *opt = &sl_filter_opts[i];
        if (!sl_filter_opt_is_set(opts, opt) && sl_filter_opt_is_set(under, opt)) {
            memcpy(member(opts, opt), value_of(under, opt), size_of(opt));
            opts->set |= bit(opt);
        }
    }
}

static bool is_zero(const sl_filter_opts_t *opts, const sl_filter_opt_t *opt) {
    static const sl_str_t zero = {NULL, 0}; /* the largest kind of value */
    return memcmp(value_of(opts, opt), &zero, size_of(opt)) == 0;
}

void sl_filter_opts_complete(sl_filter_opts_t *opts) {
    sl_filter_opts_t defaults;
    sl_filter_opts_init(&defaults);
    for (size_t i = 0; i < SL_FOPT_N; i++) {
        const sl_filter_opt_t *opt = &sl_filter_opts[i];
        if (!sl_filter_opt_is_set(opts, opt) && is_zero(opts, opt)) {
            memcpy(member(opts, opt), value_of(&defaults, opt), size_of(opt));
        }
    }
}

bool sl_filter_opts_equal(const sl_filter_opts_t *a, const sl_filter_opts_t *b) {
    for (size_t i = 0; i < SL_FOPT_N; i++) {
        const sl_filter_opt_t *opt = &sl_filter_opts[i];
        const void *va = value_of(a, opt), *vb = value_of(b, opt);
        bool equal = is_text(opt) ? sl_str_eq(*(const sl_str_t *)va, *(const sl_str_t *)vb) : memcmp(va, vb, size_of(opt)) == 0;
        if (!equal) {
            return false;
        }
    }
    return true;
}

sl_status_t sl_filter_opts_own(sl_filter_opts_t *opts, sl_arena_t *arena) {
    sl_filter_opts_t owned = *opts;
    for (size_t i = 0; i < SL_FOPT_N; i++) {
        if (is_text(&sl_filter_opts[i])) {
            sl_str_t *text = member(&owned, &sl_filter_opts[i]);
            *text = sl_arena_dup(arena, *text);
            if (text->data == NULL) {
                return SL_NO_MEMORY;
            }
        }
    }
    *opts = owned;
    return SL_OK;
}

bool sl_list_has(sl_str_t list, sl_str_t item) {
    while (list.len != 0) {
        const char *comma = memchr(list.data, ',', list.len);
        size_t len = comma != NULL ? (size_t)(comma - list.data) : list.len;
        if (sl_str_eq(sl_str(list.data, len), item)) {
            return true;
        }
        size_t skip = comma != NULL ? len + 1 : len;
        list = sl_str(list.data + skip, list.len - skip);
    }
    return false;
}
