/* CEL: timestamps (RFC 3339) and durations. Nanoseconds in 128 bits; the Gregorian calendar, days counted from 1970-01-01. */
#include "sl_cel_int.h"

#include <stdio.h>

#define SECOND ((__int128)1000000000)
#define DAY_S ((int64_t)86400)
#define FIRST_S INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */
#define LAST_S INT64_C(253402300799)  /* 9999-12-31T23:59:59Z */
#define DURATION_MAX_S INT64_C(315576000000)

bool sl_cel_timestamp_ok(__int128 ns) {
    return ns >= FIRST_S * SECOND && ns < (LAST_S + 1) * SECOND;
}

bool sl_cel_duration_ok(__int128 ns) {
    return ns >= -DURATION_MAX_S * SECOND && ns <= DURATION_MAX_S * SECOND;
}

/* ---- the calendar ---- */

typedef struct {
    int64_t year;
    int month, day; /* from 1 */
} date_t;

/* A year that begins in March has its leap day at its end. 400 of them have 146097 days. */
static int64_t days_of(date_t d) {
    int64_t year = d.year - (d.month <= 2), era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (d.month + (d.month > 2 ? -3 : 9)) + 2) / 5 + d.day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static date_t date_of(int64_t days) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097, of_era = days - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    date_t d = {.month = (int)(month < 10 ? month + 3 : month - 9), .day = (int)(of_year - (153 * month + 2) / 5 + 1)};
    d.year = year + era * 400 + (d.month <= 2);
    return d;
}

static int64_t floor_div(__int128 a, int64_t b) {
    return (int64_t)((a - (a < 0 ? b - 1 : 0)) / b);
}

/* ---- reading ---- */

/* So many digits, no more than max; -1: not. */
static int take_digits(sl_str_t *in, size_t n, int max) {
    int value = 0;
    if (in->len < n) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (in->data[i] < '0' || in->data[i] > '9') {
            return -1;
        }
        value = value * 10 + (in->data[i] - '0');
    }
    *in = sl_str(in->data + n, in->len - n);
    return value <= max ? value : -1;
}

static bool take(sl_str_t *in, const char *any_of) {
    if (in->len == 0 || in->data[0] == '\0' || strchr(any_of, in->data[0]) == NULL) {
        return false;
    }
    *in = sl_str(in->data + 1, in->len - 1);
    return true;
}

/* Digits of a fraction of `unit`; more than it has are dropped. */
static __int128 take_fraction(sl_str_t *in, __int128 unit) {
    __int128 value = 0;
    while (in->len != 0 && in->data[0] >= '0' && in->data[0] <= '9') {
        unit /= 10;
        value += unit * (in->data[0] - '0');
        *in = sl_str(in->data + 1, in->len - 1);
    }
    return value;
}

/* Z, or hours and minutes; seconds east of UTC. The colon's absence is no zone. */
static bool take_offset(sl_str_t *in, bool sign_needed, int *offset_s) {
    bool minus = in->len != 0 && in->data[0] == '-';
    if (!take(in, "+-") && sign_needed) {
        return false;
    }
    int hours = take_digits(in, 2, 23);
    int minutes = hours >= 0 && take(in, ":") ? take_digits(in, 2, 59) : -1;
    *offset_s = (minus ? -1 : 1) * (hours * 3600 + minutes * 60);
    return minutes >= 0;
}

static int days_in(const date_t *d) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = d->year % 4 == 0 && (d->year % 100 != 0 || d->year % 400 == 0);
    return days[d->month - 1] + (d->month == 2 && leap);
}

static bool take_date(sl_str_t *in, date_t *d) {
    d->year = take_digits(in, 4, 9999);
    d->month = d->year >= 1 && take(in, "-") ? take_digits(in, 2, 12) : -1;
    d->day = d->month >= 1 && take(in, "-") ? take_digits(in, 2, 31) : -1;
    return d->day >= 1 && d->day <= days_in(d);
}

static bool take_clock(sl_str_t *in, int64_t *seconds) {
    int h = take_digits(in, 2, 23);
    int m = h >= 0 && take(in, ":") ? take_digits(in, 2, 59) : -1;
    int s = m >= 0 && take(in, ":") ? take_digits(in, 2, 59) : -1;
    *seconds = (int64_t)h * 3600 + m * 60 + s;
    return s >= 0;
}

bool sl_cel_timestamp_read(sl_str_t text, __int128 *ns) {
    date_t date;
    int64_t seconds;
    int offset_s = 0;
    if (!take_date(&text, &date) || !take(&text, "Tt") || !take_clock(&text, &seconds)) {
        return false;
    }
    bool dot = take(&text, ".");
    size_t before = text.len;
    __int128 fraction = dot ? take_fraction(&text, SECOND) : 0;
    if ((dot && text.len == before) || (!take(&text, "Zz") && !take_offset(&text, true, &offset_s))) {
        return false;
    }
    *ns = (days_of(date) * DAY_S + seconds - offset_s) * SECOND + fraction;
    return text.len == 0 && sl_cel_timestamp_ok(*ns);
}

static __int128 take_unit(sl_str_t *in) {
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"ns", 1},
                 {"us", 1000},
                 {"\xc2\xb5s", 1000},
                 {"ms", 1000000},
                 {"s", 1000000000},
                 {"m", INT64_C(60000000000)},
                 {"h", INT64_C(3600000000000)}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        sl_str_t name = sl_cstr(units[i].name);
        if (sl_str_starts(*in, name)) {
            *in = sl_str(in->data + name.len, in->len - name.len);
            return units[i].ns;
        }
    }
    return 0;
}

/* A number with its unit: the unit stands behind, so the number is read twice. */
static bool take_part(sl_str_t *in, __int128 *ns) {
    sl_str_t number = *in;
    size_t n = 0;
    while (n < in->len && ((in->data[n] >= '0' && in->data[n] <= '9') || in->data[n] == '.')) {
        n++;
    }
    sl_str_t rest = sl_str(in->data + n, in->len - n);
    __int128 unit = n != 0 ? take_unit(&rest) : 0, whole = 0;
    *in = rest;
    number.len = n;
    while (number.len != 0 && number.data[0] != '.') {
        whole = whole * 10 + (number.data[0] - '0');
        if (whole > (__int128)DURATION_MAX_S * SECOND) {
            return false;
        }
        number = sl_str(number.data + 1, number.len - 1);
    }
    bool dot = take(&number, ".");
    *ns += whole * unit + (dot ? take_fraction(&number, unit) : 0);
    return unit != 0 && number.len == 0 && n > dot;
}

bool sl_cel_duration_read(sl_str_t text, __int128 *ns) {
    bool minus = text.len != 0 && text.data[0] == '-';
    (void)take(&text, "+-");
    *ns = 0;
    if (sl_str_eq(text, SL_STR("0"))) {
        return true;
    }
    if (text.len == 0) {
        return false;
    }
    while (text.len != 0) {
        if (!take_part(&text, ns) || !sl_cel_duration_ok(*ns)) {
            return false;
        }
    }
    *ns = minus ? -*ns : *ns;
    return true;
}

/* ---- writing ---- */

/* ".25", without zeros at its end; nothing for 0. */
static size_t write_fraction(int64_t ns, char *out, size_t room) {
    if (ns == 0) {
        return 0;
    }
    size_t len = (size_t)snprintf(out, room, ".%09lld", (long long)ns);
    while (out[len - 1] == '0') {
        len--;
    }
    return len;
}

size_t sl_cel_timestamp_write(__int128 ns, char out[48]) {
    int64_t seconds = floor_div(ns, 1000000000), days = floor_div(seconds, DAY_S), of_day = seconds - days * DAY_S;
    date_t d = date_of(days);
    size_t len = (size_t)snprintf(out, 48, "%04d-%02d-%02dT%02d:%02d:%02d", (int)d.year, d.month, d.day, (int)(of_day / 3600),
                                  (int)(of_day / 60 % 60), (int)(of_day % 60));
    len += write_fraction((int64_t)(ns - seconds * SECOND), out + len, 48 - len);
    out[len] = 'Z';
    return len + 1;
}

size_t sl_cel_duration_write(__int128 ns, char out[48]) {
    bool minus = ns < 0;
    __int128 size = minus ? -ns : ns;
    size_t len = (size_t)snprintf(out, 48, "%s%lld", minus ? "-" : "", (long long)(size / SECOND));
    len += write_fraction((int64_t)(size % SECOND), out + len, 48 - len);
    out[len] = 's';
    return len + 1;
}

/* ---- parts ---- */

static bool zone_offset(sl_str_t zone, int *offset_s) {
    *offset_s = 0;
    return sl_str_eq(zone, SL_STR("UTC")) || (take_offset(&zone, false, offset_s) && zone.len == 0);
}

static int64_t part_of_timestamp(const char *name, int64_t seconds, int64_t ms) {
    int64_t days = floor_div(seconds, DAY_S), of_day = seconds - days * DAY_S;
    date_t d = date_of(days);
    const struct {
        const char *name;
        int64_t value;
    } parts[] = {
        {"getFullYear", d.year},
        {"getMonth", d.month - 1},
        {"getDate", d.day},
        {"getDayOfMonth", d.day - 1},
        {"getDayOfWeek", ((days + 4) % 7 + 7) % 7},
        {"getDayOfYear", days - days_of((date_t){d.year, 1, 1})},
        {"getHours", of_day / 3600},
        {"getMinutes", of_day / 60 % 60},
        {"getSeconds", of_day % 60},
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strcmp(parts[i].name, name) == 0) {
            return parts[i].value;
        }
    }
    return ms;
}

/* All of a duration in one unit, except for milliseconds: those beside the seconds. */
static sl_cel_value_t part_of_duration(const char *name, __int128 ns) {
    static const struct {
        const char *name;
        int64_t seconds;
    } units[] = {{"getHours", 3600}, {"getMinutes", 60}, {"getSeconds", 1}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(units[i].name, name) == 0) {
            return cel_int((int64_t)(ns / (units[i].seconds * SECOND)));
        }
    }
    return strcmp(name, "getMilliseconds") == 0 ? cel_int((int64_t)(ns / 1000000 % 1000)) : sl_cel_no_overload();
}

sl_cel_value_t sl_cel_time_part(cel_eval_t *e, const cel_node_t *call, const sl_cel_value_t *args, size_t n) {
    int offset_s = 0;
    (void)e;
    if (args[0].kind == SL_CEL_DURATION && n == 1) {
        return part_of_duration(call->function->name, args[0].ns);
    }
    if (args[0].kind != SL_CEL_TIMESTAMP || (n == 2 && args[1].kind != SL_CEL_STRING)) {
        return sl_cel_no_overload();
    }
    if (n == 2 && !zone_offset(args[1].str, &offset_s)) {
        return sl_cel_error("a time zone that is neither UTC nor an offset such as +02:00");
    }
    int64_t seconds = floor_div(args[0].ns, 1000000000);
    int64_t ms = (int64_t)((args[0].ns - seconds * SECOND) / 1000000);
    return cel_int(part_of_timestamp(call->function->name, seconds + offset_s, ms));
}
