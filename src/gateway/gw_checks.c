#include "gw_checks.h"

#include <arpa/inet.h>

#include "gw_path.h"
#include "sl_regex.h"

static bool refuse(sl_err_t *err, const char *what, sl_str_t value) {
    sl_err_set(err, SL_INVALID, "%s%.*s", what, SL_FMT(value));
    return false;
}

static bool refuse_text(sl_err_t *err, const char *text) {
    sl_err_set(err, SL_INVALID, "%s", text);
    return false;
}

static bool is_alpha(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c) {
    return is_alpha(c) || is_digit(c);
}

static bool is_among(char c, const char *set) {
    return c != '\0' && strchr(set, c) != NULL;
}

static int hex_digit(char c) {
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Value of "%XX" at s[i], -1 when there is none. */
static int percent_at(sl_str_t s, size_t i) {
    if (s.data[i] != '%' || s.len - i < 3) {
        return -1;
    }
    int high = hex_digit(s.data[i + 1]), low = hex_digit(s.data[i + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* ---- names and tags ------------------------------------------------------------------------------------------------ */

bool gw_check_name(sl_str_t value, sl_err_t *err) {
    size_t bad_at;
    if (!sl_utf8_valid(value, &bad_at)) {
        sl_err_set(err, SL_INVALID, "invalid utf-8 character sequence detected at position %zu", bad_at + 1);
        return false;
    }
    for (size_t i = 0; i < value.len; i++) {
        if ((unsigned char)value.data[i] < 128 && !is_alnum(value.data[i]) && !is_among(value.data[i], ".-_~")) {
            sl_err_set(err, SL_INVALID, "invalid value '%.*s': the only accepted ascii characters are alphanumerics or ., -, _, and ~",
                       SL_FMT(value));
            return false;
        }
    }
    return true;
}

bool gw_check_tag(sl_str_t value, sl_err_t *err) {
    bool good = sl_utf8_valid(value, NULL);
    for (size_t i = 0; good && i < value.len; i++) {
        unsigned char c = (unsigned char)value.data[i];
        good = c >= 32 && c != 127 && c != ',' && c != '/';
    }
    if (!good) {
        sl_err_set(err, SL_INVALID, "invalid tag '%.*s': expected printable ascii (except `,` and `/`) or valid utf-8 sequences",
                   SL_FMT(value));
    }
    return good;
}

bool gw_check_method(sl_str_t value, sl_err_t *err) {
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < 'A' || value.data[i] > 'Z') {
            return refuse(err, "invalid value: ", value);
        }
    }
    return true;
}

bool gw_check_header_name(sl_str_t value, sl_err_t *err) {
    for (size_t i = 0; i < value.len; i++) {
        if (!is_alnum(value.data[i]) && !is_among(value.data[i], "-_")) {
            sl_err_set(err, SL_INVALID, "bad header name '%.*s', allowed characters are A-Z, a-z, 0-9, '_', and '-'", SL_FMT(value));
            return false;
        }
    }
    return true;
}

bool gw_check_route_header_name(sl_str_t value, sl_err_t *err) {
    if (sl_str_eq_nocase(value, SL_STR("host"))) {
        return refuse_text(err, "cannot contain 'host' header, which must be specified in the 'hosts' attribute");
    }
    return gw_check_header_name(value, err);
}

/* RFC 6265: a token */
bool gw_check_cookie_name(sl_str_t value, sl_err_t *err) {
    for (size_t i = 0; i < value.len; i++) {
        if (!is_alnum(value.data[i]) && !is_among(value.data[i], "!#$%&'*+-.^_`|~")) {
            sl_err_set(err, SL_INVALID, "bad cookie name '%.*s', allowed characters are A-Z, a-z, 0-9 and any of !#$%%&'*+-.^_`|~",
                       SL_FMT(value));
            return false;
        }
    }
    return true;
}

/* ---- hosts --------------------------------------------------------------------------------------------------------- */

static bool parse_port(sl_str_t s, int *port) {
    int value = 0;
    if (s.len == 0 || s.len > 5) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (!is_digit(s.data[i])) {
            return false;
        }
        value = value * 10 + (s.data[i] - '0');
    }
    *port = value;
    return value <= 65535;
}

static bool is_address(int family, sl_str_t s) {
    char text[64];
    unsigned char raw[16];
    if (s.len == 0 || s.len >= sizeof(text)) {
        return false;
    }
    memcpy(text, s.data, s.len);
    text[s.len] = '\0';
    return inet_pton(family, text, raw) == 1;
}

static bool is_label(const char *s, size_t len) {
    if (len == 0 || len > 63 || s[0] == '-' || s[len - 1] == '-') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_alnum(s[i]) && s[i] != '-' && s[i] != '_') {
            return false;
        }
    }
    return true;
}

/* Labels between dots; one dot at the end is the root and is fine. */
static bool is_hostname(sl_str_t s) {
    size_t start = 0;
    if (s.len > 0 && s.data[s.len - 1] == '.') {
        s.len--;
    }
    if (s.len == 0 || s.len > 253) {
        return false;
    }
    for (size_t i = 0; i <= s.len; i++) {
        if (i == s.len || s.data[i] == '.') {
            if (!is_label(s.data + start, i - start)) {
                return false;
            }
            start = i + 1;
        }
    }
    return true;
}

static bool digits_and_dots(sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        if (!is_digit(s.data[i]) && s.data[i] != '.') {
            return false;
        }
    }
    return s.len > 0;
}

static gw_host_kind_t host_kind(sl_str_t host) {
    if (is_address(AF_INET, host)) {
        return GW_HOST_IPV4;
    }
    /* 1.2.3.400 is a mistake, never a name */
    return !digits_and_dots(host) && is_hostname(host) ? GW_HOST_NAME : GW_HOST_INVALID;
}

static gw_host_kind_t split_bracketed(sl_str_t value, sl_str_t *host, int *port) {
    const char *end = memchr(value.data, ']', value.len);
    if (end == NULL) {
        return GW_HOST_INVALID;
    }
    *host = sl_str(value.data + 1, (size_t)(end - value.data) - 1);
    sl_str_t rest = sl_str(end + 1, value.len - host->len - 2);
    if (rest.len > 0 && (rest.data[0] != ':' || !parse_port(sl_str(rest.data + 1, rest.len - 1), port))) {
        return GW_HOST_INVALID;
    }
    return is_address(AF_INET6, *host) ? GW_HOST_IPV6 : GW_HOST_INVALID;
}

gw_host_kind_t gw_host_split(sl_str_t value, sl_str_t *host, int *port) {
    *port = -1;
    *host = value;
    if (value.len == 0) {
        return GW_HOST_INVALID;
    }
    if (value.data[0] == '[') {
        return split_bracketed(value, host, port);
    }
    const char *colon = memchr(value.data, ':', value.len);
    if (colon == NULL) {
        return host_kind(value);
    }
    size_t at = (size_t)(colon - value.data);
    if (memchr(colon + 1, ':', value.len - at - 1) != NULL) {
        return is_address(AF_INET6, value) ? GW_HOST_IPV6 : GW_HOST_INVALID;
    }
    *host = sl_str(value.data, at);
    return parse_port(sl_str(colon + 1, value.len - at - 1), port) ? host_kind(*host) : GW_HOST_INVALID;
}

bool gw_check_host_port(sl_str_t value, sl_err_t *err) {
    sl_str_t host;
    int port;
    return gw_host_split(value, &host, &port) != GW_HOST_INVALID || refuse(err, "invalid value: ", value);
}

bool gw_check_host(sl_str_t value, sl_err_t *err) {
    sl_str_t host;
    int port;
    if (!gw_check_host_port(value, err)) {
        return false;
    }
    gw_host_split(value, &host, &port);
    return port < 0 || refuse_text(err, "must not have a port");
}

static size_t count_char(sl_str_t s, char c) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        n += s.data[i] == c;
    }
    return n;
}

/* The host with its wildcard label replaced by a name, so that the ordinary rules apply to the rest. */
static bool valid_without_wildcard(sl_str_t value) {
    char text[512];
    sl_str_t host;
    int port;
    size_t n = 0;
    if (value.len > sizeof(text) - 8) {
        return false;
    }
    for (size_t i = 0; i < value.len; i++) {
        text[n++] = value.data[i] == '*' ? 'w' : value.data[i];
    }
    return gw_host_split(sl_str(text, n), &host, &port) != GW_HOST_INVALID;
}

bool gw_check_route_host(sl_str_t value, sl_err_t *err) {
    size_t stars = count_char(value, '*');
    if (stars > 1) {
        return refuse_text(err, "invalid wildcard: must have at most one wildcard");
    }
    const char *colon = memchr(value.data, ':', value.len);
    sl_str_t name = sl_str(value.data, colon != NULL ? (size_t)(colon - value.data) : value.len);
    bool placed = stars == 0 || sl_str_starts(name, SL_STR("*.")) || sl_str_ends(name, SL_STR(".*"));
    if (!placed) {
        return refuse_text(err, "invalid wildcard: must be placed at leftmost or rightmost label");
    }
    return valid_without_wildcard(value) || refuse(err, "invalid hostname: ", value);
}

static bool check_sni(sl_str_t value, sl_err_t *err) {
    sl_str_t host;
    int port;
    gw_host_kind_t kind = gw_host_split(value, &host, &port);
    if (kind == GW_HOST_IPV4 || kind == GW_HOST_IPV6) {
        return refuse_text(err, "must not be an IP");
    }
    if (kind == GW_HOST_INVALID) {
        return refuse(err, "invalid value: ", value);
    }
    return port < 0 || refuse_text(err, "must not have a port");
}

bool gw_check_sni(sl_str_t value, sl_err_t *err) {
    return check_sni(value, err);
}

bool gw_check_sni_wildcard(sl_str_t value, sl_err_t *err) {
    size_t stars = count_char(value, '*');
    char text[512];
    if (stars > 1) {
        return refuse_text(err, "only one wildcard must be specified");
    }
    if (stars == 0) {
        return check_sni(value, err);
    }
    if (value.data[0] != '*' && value.data[value.len - 1] != '*') {
        return refuse_text(err, "wildcard must be leftmost or rightmost character");
    }
    if (value.len >= sizeof(text)) {
        return refuse(err, "invalid value: ", value);
    }
    for (size_t i = 0; i < value.len; i++) {
        text[i] = value.data[i] == '*' ? 'w' : value.data[i];
    }
    return check_sni(sl_str(text, value.len), err);
}

bool gw_check_ip_or_cidr(sl_str_t value, sl_err_t *err) {
    const char *slash = memchr(value.data, '/', value.len);
    sl_str_t address = sl_str(value.data, slash != NULL ? (size_t)(slash - value.data) : value.len);
    int bits = 0;
    bool v6 = is_address(AF_INET6, address);
    bool good = v6 || is_address(AF_INET, address);
    if (slash != NULL) {
        good = good && parse_port(sl_str(slash + 1, value.len - address.len - 1), &bits) && bits <= (v6 ? 128 : 32);
    }
    if (!good) {
        sl_err_set(err, SL_INVALID, "invalid ip or cidr range: '%.*s'", SL_FMT(value));
    }
    return good;
}

bool gw_check_upstream_name(sl_str_t value, sl_err_t *err) {
    sl_str_t host;
    int port;
    gw_host_kind_t kind = gw_host_split(value, &host, &port);
    const char *why = kind == GW_HOST_INVALID                        ? "must be a valid hostname"
                      : kind == GW_HOST_IPV4 || kind == GW_HOST_IPV6 ? "no ip addresses allowed"
                      : port >= 0                                    ? "no port allowed"
                                                                     : NULL;
    if (why == NULL) {
        return true;
    }
    sl_err_set(err, SL_INVALID, "Invalid name ('%.*s'); %s", SL_FMT(value), why);
    return false;
}

/* ---- paths --------------------------------------------------------------------------------------------------------- */

static bool check_percent(sl_str_t value, sl_err_t *err) {
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] == '%' && percent_at(value, i) < 0) {
            size_t len = value.len - i < 3 ? value.len - i : 3;
            sl_err_set(err, SL_INVALID, "invalid url-encoded value: '%.*s'", (int)len, value.data + i);
            return false;
        }
    }
    return true;
}

static bool has_empty_segment(sl_str_t value) {
    for (size_t i = 1; i < value.len; i++) {
        if (value.data[i] == '/' && value.data[i - 1] == '/') {
            return true;
        }
    }
    return false;
}

bool gw_check_path(sl_str_t value, sl_err_t *err) {
    if (has_empty_segment(value)) {
        return refuse_text(err, "must not have empty segments");
    }
    for (size_t i = 0; i < value.len; i++) {
        if (!is_alnum(value.data[i]) && !is_among(value.data[i], ".-_~/%:@!$&'()*+,;=")) {
            sl_err_set(err, SL_INVALID, "invalid path: '%.*s' (characters outside of the reserved list of RFC 3986 found)", SL_FMT(value));
            return false;
        }
    }
    return check_percent(value, err);
}

static bool out_of_memory(sl_err_t *err) {
    err->text[0] = '\0';
    return false;
}

static bool check_normal_form(sl_str_t value, sl_err_t *err) {
    sl_buf_t normal;
    sl_buf_init(&normal, value.len + 2);
    bool same = true;
    if (gw_path_normalize(value, &normal) != SL_OK) {
        same = out_of_memory(err);
    } else if (!sl_str_eq(sl_buf_str(&normal), value)) {
        sl_err_set(err, SL_INVALID, "non-normalized path, consider use '%.*s' instead", SL_FMT(sl_buf_str(&normal)));
        same = false;
    }
    sl_buf_deinit(&normal);
    return same;
}

static bool check_regex(sl_str_t pattern, sl_err_t *err) {
    sl_err_t why;
    sl_status_t rc = sl_regex_check(pattern, &why);
    if (rc == SL_NO_MEMORY) {
        return out_of_memory(err);
    }
    if (rc != SL_OK) {
        sl_err_set(err, rc, "invalid regex: '%.*s' (PCRE returned: %s)", SL_FMT(pattern), why.text);
    }
    return rc == SL_OK;
}

bool gw_check_route_path(sl_str_t value, sl_err_t *err) {
    bool regex = sl_str_starts(value, SL_STR("~/"));
    if (has_empty_segment(value)) {
        return refuse_text(err, "must not have empty segments");
    }
    if (!regex && !sl_str_starts(value, SL_STR("/"))) {
        return refuse_text(err, "should start with: / (fixed path) or ~/ (regex path)");
    }
    return regex ? check_regex(sl_str(value.data + 1, value.len - 1), err) : check_percent(value, err) && check_normal_form(value, err);
}

bool gw_check_route_header_value(sl_str_t value, sl_err_t *err) {
    return !sl_str_starts(value, SL_STR("~*")) || check_regex(sl_str(value.data + 2, value.len - 2), err);
}

static bool is_fixed_path(sl_str_t path) {
    for (size_t i = 0; i < path.len; i++) {
        if ((!is_alnum(path.data[i]) && !is_among(path.data[i], ".-_~/%")) || percent_at(path, i) == 0) {
            return false;
        }
    }
    return true;
}

#define RESERVED "!*'();:@&=+$,/?%#[]"

void gw_path_migrate(sl_str_t path, sl_buf_t *out) {
    if (path.len == 0) {
        return;
    }
    if (is_fixed_path(path)) {
        gw_path_normalize(path, out);
        return;
    }
    sl_buf_append_char(out, '~');
    for (size_t i = 0; i < path.len; i++) {
        int value = percent_at(path, i);
        if (value < 0) {
            sl_buf_append_char(out, path.data[i]);
            continue;
        }
        i += 2;
        if (value == 0 || is_among((char)value, RESERVED)) {
            sl_buf_printf(out, "%%%02X", (unsigned)value);
            continue;
        }
        if (is_among((char)value, "\\^$.|?*+()[]{}")) {
            sl_buf_append_char(out, '\\');
        }
        sl_buf_append_char(out, (char)value);
    }
}
