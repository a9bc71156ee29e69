/* CEL: functions and methods, one row each. Their arguments are values, none of them an error; that strings are long has been paid for. */
#include "sl_cel_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FN(name) static sl_cel_value_t name(cel_eval_t *e, const cel_node_t *call, const sl_cel_value_t *args, size_t n)
#define UNUSED (void)e, (void)call, (void)args, (void)n

enum { REGEX_COST = 300, REGEX_ONCE_COST = 2000, REGEX_TEXT_MAX = 8192, NUMBER_BYTES_MAX = 400 };

static bool are_strings(const sl_cel_value_t *args) {
    return args[0].kind == SL_CEL_STRING && args[1].kind == SL_CEL_STRING;
}

/* ---- strings ---- */

FN(contains) {
    UNUSED;
    if (!are_strings(args)) {
        return sl_cel_no_overload();
    }
    return cel_bool(args[1].str.len == 0 ||
                    (args[0].str.len != 0 && memmem(args[0].str.data, args[0].str.len, args[1].str.data, args[1].str.len) != NULL));
}

FN(starts_with) {
    UNUSED;
    return are_strings(args) ? cel_bool(sl_str_starts(args[0].str, args[1].str)) : sl_cel_no_overload();
}

FN(ends_with) {
    UNUSED;
    return are_strings(args) ? cel_bool(sl_str_ends(args[0].str, args[1].str)) : sl_cel_no_overload();
}

/*
 * PCRE2 limits what a match takes at each place where it may begin, so the work grows with the text as well. What it might take is paid
 * for: what it takes is known to nobody. Four times the length is what patterns with few stars need.
 */
static sl_cel_value_t search(cel_eval_t *e, sl_regex_t *regex, sl_str_t text) {
    size_t places = text.len + 1, end;
    if (text.len > REGEX_TEXT_MAX) {
        return sl_cel_error("a text that is too long for a regular expression");
    }
    size_t limit = 500000 / places < 10000 ? 500000 / places : 10000;
    limit = limit > 4 * places ? limit : 4 * places;
    if (!sl_cel_charge(e, REGEX_COST + places * limit / 2000)) {
        return sl_cel_error(e->why);
    }
    sl_regex_limit(regex, (uint32_t)limit);
    sl_status_t rc = sl_regex_match(regex, text, &end);
    if (rc != SL_OK && rc != SL_NOT_FOUND) {
        return sl_cel_stop(e, rc, "a regular expression that takes too much work");
    }
    return cel_bool(rc == SL_OK);
}

static sl_cel_value_t search_once(cel_eval_t *e, sl_str_t pattern, sl_str_t text) {
    sl_regex_t *regex;
    if (!sl_cel_charge(e, REGEX_ONCE_COST + pattern.len)) {
        return sl_cel_error(e->why);
    }
    sl_status_t rc = sl_regex_new_text(pattern, &regex, NULL);
    if (rc != SL_OK) {
        return rc == SL_NO_MEMORY ? sl_cel_stop(e, rc, "out of memory") : sl_cel_error("not a regular expression");
    }
    sl_cel_value_t v = search(e, regex, text);
    sl_regex_free(regex);
    return v;
}

FN(matches) {
    UNUSED;
    if (!are_strings(args)) {
        return sl_cel_no_overload();
    }
    return call->regex != NULL ? search(e, call->regex, args[0].str) : search_once(e, args[1].str, args[0].str);
}

static size_t characters(sl_str_t s) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        n += ((unsigned char)s.data[i] & 0xc0) != 0x80;
    }
    return n;
}

FN(size) {
    UNUSED;
    switch (args[0].kind) {
    case SL_CEL_STRING:
        return cel_int((int64_t)characters(args[0].str));
    case SL_CEL_BYTES:
        return cel_int((int64_t)args[0].str.len);
    case SL_CEL_LIST:
        return cel_int((int64_t)args[0].items->n);
    case SL_CEL_MAP:
        return cel_int((int64_t)args[0].items->n / 2);
    default:
        return sl_cel_no_overload();
    }
}

/* ---- conversions ---- */

static sl_cel_value_t cannot(void) {
    return sl_cel_error("this value cannot be converted");
}

/* The whole text as a number: no space, no other base. */
static bool read_whole(sl_str_t s, bool *negative, uint64_t *out) {
    size_t i = s.len != 0 && (s.data[0] == '-' || s.data[0] == '+');
    *negative = i != 0 && s.data[0] == '-';
    *out = 0;
    if (i == s.len) {
        return false;
    }
    for (; i < s.len; i++) {
        unsigned digit = (unsigned char)s.data[i] - (unsigned)'0';
        if (digit > 9 || *out > (UINT64_MAX - digit) / 10) {
            return false;
        }
        *out = *out * 10 + digit;
    }
    return true;
}

static bool read_double(sl_str_t s, double *out) {
    char text[NUMBER_BYTES_MAX + 1], *end;
    if (s.len == 0 || s.len > NUMBER_BYTES_MAX || memchr(s.data, '\0', s.len) != NULL || memchr(s.data, 'x', s.len) != NULL ||
        memchr(s.data, 'X', s.len) != NULL || (unsigned char)s.data[0] <= ' ') {
        return false;
    }
    memcpy(text, s.data, s.len);
    text[s.len] = '\0';
    *out = strtod(text, &end);
    return *end == '\0';
}

FN(to_int) {
    UNUSED;
    bool negative;
    uint64_t u;
    const sl_cel_value_t *v = &args[0];
    switch (v->kind) {
    case SL_CEL_INT:
        return *v;
    case SL_CEL_UINT:
        return v->u <= INT64_MAX ? cel_int((int64_t)v->u) : cannot();
    case SL_CEL_DOUBLE:
        return v->d > -0x1p63 && v->d < 0x1p63 ? cel_int((int64_t)v->d) : cannot();
    case SL_CEL_STRING:
        if (!read_whole(v->str, &negative, &u) || u > (uint64_t)INT64_MAX + negative) {
            return cannot();
        }
        return cel_int(negative ? (int64_t)(0 - u) : (int64_t)u);
    case SL_CEL_TIMESTAMP:
        return cel_int((int64_t)((v->ns - (v->ns < 0 ? 999999999 : 0)) / 1000000000));
    default:
        return cannot();
    }
}

FN(to_uint) {
    UNUSED;
    bool negative;
    uint64_t u;
    const sl_cel_value_t *v = &args[0];
    switch (v->kind) {
    case SL_CEL_INT:
        return v->i >= 0 ? cel_uint((uint64_t)v->i) : cannot();
    case SL_CEL_UINT:
        return *v;
    case SL_CEL_DOUBLE:
        return v->d > -1 && v->d < 0x1p64 ? cel_uint((uint64_t)v->d) : cannot();
    case SL_CEL_STRING:
        return read_whole(v->str, &negative, &u) && !negative ? cel_uint(u) : cannot();
    default:
        return cannot();
    }
}

FN(to_double) {
    UNUSED;
    double d;
    const sl_cel_value_t *v = &args[0];
    switch (v->kind) {
    case SL_CEL_INT:
        return cel_double((double)v->i);
    case SL_CEL_UINT:
        return cel_double((double)v->u);
    case SL_CEL_DOUBLE:
        return *v;
    case SL_CEL_STRING:
        return read_double(v->str, &d) ? cel_double(d) : cannot();
    default:
        return cannot();
    }
}

/* The shortest text that is read as the same number. */
static size_t write_double(double d, char out[48]) {
    int n = 0;
    for (int precision = 15; precision <= 17; precision++) {
        n = snprintf(out, 48, "%.*g", precision, d);
        if (strtod(out, NULL) == d) {
            break;
        }
    }
    return n > 0 ? (size_t)n : 0;
}

FN(to_string) {
    UNUSED;
    char text[48];
    size_t len = 0;
    const sl_cel_value_t *v = &args[0];
    switch (v->kind) {
    case SL_CEL_STRING:
        return *v;
    case SL_CEL_BYTES:
        return sl_utf8_valid(v->str, &len) ? (sl_cel_value_t){.kind = SL_CEL_STRING, .str = v->str} : cannot();
    case SL_CEL_BOOL:
        return (sl_cel_value_t){.kind = SL_CEL_STRING, .str = v->b ? SL_STR("true") : SL_STR("false")};
    case SL_CEL_INT:
        len = (size_t)snprintf(text, sizeof(text), "%" PRId64, v->i);
        break;
    case SL_CEL_UINT:
        len = (size_t)snprintf(text, sizeof(text), "%" PRIu64, v->u);
        break;
    case SL_CEL_DOUBLE:
        len = write_double(v->d, text);
        break;
    case SL_CEL_TIMESTAMP:
        len = sl_cel_timestamp_write(v->ns, text);
        break;
    case SL_CEL_DURATION:
        len = sl_cel_duration_write(v->ns, text);
        break;
    default:
        return cannot();
    }
    return sl_cel_text(e, SL_CEL_STRING, sl_str(text, len));
}

FN(to_bytes) {
    UNUSED;
    bool ok = args[0].kind == SL_CEL_BYTES || args[0].kind == SL_CEL_STRING;
    return ok ? (sl_cel_value_t){.kind = SL_CEL_BYTES, .str = args[0].str} : cannot();
}

FN(to_bool) {
    UNUSED;
    static const char *const words[2][5] = {{"0", "f", "F", "false", "False"}, {"1", "t", "T", "true", "True"}};
    if (args[0].kind == SL_CEL_BOOL) {
        return args[0];
    }
    for (int truth = 0; args[0].kind == SL_CEL_STRING && truth < 2; truth++) {
        for (size_t i = 0; i < 5; i++) {
            if (sl_str_eq(args[0].str, sl_cstr(words[truth][i]))) {
                return cel_bool(truth);
            }
        }
        if (sl_str_eq(args[0].str, truth ? SL_STR("TRUE") : SL_STR("FALSE"))) {
            return cel_bool(truth);
        }
    }
    return cannot();
}

FN(to_timestamp) {
    UNUSED;
    __int128 ns;
    const sl_cel_value_t *v = &args[0];
    if (v->kind == SL_CEL_TIMESTAMP) {
        return *v;
    }
    bool ok = v->kind == SL_CEL_STRING && sl_cel_timestamp_read(v->str, &ns);
    if (v->kind == SL_CEL_INT) {
        ns = (__int128)v->i * 1000000000;
        ok = sl_cel_timestamp_ok(ns);
    }
    return ok ? (sl_cel_value_t){.kind = SL_CEL_TIMESTAMP, .ns = ns} : cannot();
}

FN(to_duration) {
    UNUSED;
    __int128 ns;
    if (args[0].kind == SL_CEL_DURATION) {
        return args[0];
    }
    bool ok = args[0].kind == SL_CEL_STRING && sl_cel_duration_read(args[0].str, &ns);
    return ok ? (sl_cel_value_t){.kind = SL_CEL_DURATION, .ns = ns} : cannot();
}

FN(type_of) {
    UNUSED;
    static const char *const names[] = {
        [SL_CEL_NULL] = "null_type",
        [SL_CEL_BOOL] = "bool",
        [SL_CEL_INT] = "int",
        [SL_CEL_UINT] = "uint",
        [SL_CEL_DOUBLE] = "double",
        [SL_CEL_STRING] = "string",
        [SL_CEL_BYTES] = "bytes",
        [SL_CEL_LIST] = "list",
        [SL_CEL_MAP] = "map",
        [SL_CEL_TIMESTAMP] = "google.protobuf.Timestamp",
        [SL_CEL_DURATION] = "google.protobuf.Duration",
        [SL_CEL_TYPE] = "type",
    };
    return (sl_cel_value_t){.kind = SL_CEL_TYPE, .str = sl_cstr(names[args[0].kind])};
}

FN(dyn) {
    UNUSED;
    return args[0];
}

/* ---- the table ---- */

static const cel_function_t functions[] = {
    {"size", true, true, 1, 1, size},
    {"contains", false, true, 2, 2, contains},
    {"startsWith", false, true, 2, 2, starts_with},
    {"endsWith", false, true, 2, 2, ends_with},
    {"matches", true, true, 2, 2, matches},
    {"int", true, false, 1, 1, to_int},
    {"uint", true, false, 1, 1, to_uint},
    {"double", true, false, 1, 1, to_double},
    {"string", true, false, 1, 1, to_string},
    {"bytes", true, false, 1, 1, to_bytes},
    {"bool", true, false, 1, 1, to_bool},
    {"timestamp", true, false, 1, 1, to_timestamp},
    {"duration", true, false, 1, 1, to_duration},
    {"type", true, false, 1, 1, type_of},
    {"dyn", true, false, 1, 1, dyn},
    {"getFullYear", false, true, 1, 2, sl_cel_time_part},
    {"getMonth", false, true, 1, 2, sl_cel_time_part},
    {"getDate", false, true, 1, 2, sl_cel_time_part},
    {"getDayOfMonth", false, true, 1, 2, sl_cel_time_part},
    {"getDayOfWeek", false, true, 1, 2, sl_cel_time_part},
    {"getDayOfYear", false, true, 1, 2, sl_cel_time_part},
    {"getHours", false, true, 1, 2, sl_cel_time_part},
    {"getMinutes", false, true, 1, 2, sl_cel_time_part},
    {"getSeconds", false, true, 1, 2, sl_cel_time_part},
    {"getMilliseconds", false, true, 1, 2, sl_cel_time_part},
};

const cel_function_t *sl_cel_function(sl_str_t name, bool member) {
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (sl_str_eq(name, sl_cstr(functions[i].name)) && (member ? functions[i].member : functions[i].global)) {
            return &functions[i];
        }
    }
    return NULL;
}
