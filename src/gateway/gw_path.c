#include "gw_path.h"

enum { UNRESERVED = 1, RESERVED = 2 };

/* RFC 3986, 2.2 and 2.3; '%' counts as reserved, so that %25 keeps its meaning. */
static int classify(unsigned char c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
        return UNRESERVED;
    }
    switch (c) {
    case '-':
    case '.':
    case '_':
    case '~':
        return UNRESERVED;
    case '!':
    case '*':
    case '\'':
    case '(':
    case ')':
    case ';':
    case ':':
    case '@':
    case '&':
    case '=':
    case '+':
    case '$':
    case ',':
    case '/':
    case '?':
    case '%':
    case '#':
    case '[':
    case ']':
        return RESERVED;
    default:
        return 0;
    }
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

sl_str_t gw_path_of_target(sl_str_t target) {
    const char *query = target.len ? memchr(target.data, '?', target.len) : NULL;
    if (query != NULL) {
        target.len = (size_t)(query - target.data);
    }
    if (target.len == 0) {
        return SL_STR("/");
    }
    if (target.data[0] == '/') {
        return target;
    }
    const char *scheme = memmem(target.data, target.len, "://", 3);
    if (scheme == NULL) {
        return target; /* "*" and other forms that no plain path matches */
    }
    size_t authority = (size_t)(scheme - target.data) + 3;
    const char *slash = memchr(target.data + authority, '/', target.len - authority);
    return slash == NULL ? SL_STR("/") : sl_str(slash, target.len - (size_t)(slash - target.data));
}

/* Decodes and merges slashes in one pass; there is room for path.len bytes at `to`. */
static size_t decode(sl_str_t path, char *to) {
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;
    for (size_t i = 0; i < path.len; i++) {
        char c = path.data[i];
        int hi = c == '%' && path.len - i > 2 ? hex_value(path.data[i + 1]) : -1;
        int lo = hi >= 0 ? hex_value(path.data[i + 2]) : -1;
        if (lo >= 0) {
            i += 2;
            c = (char)(hi << 4 | lo);
            if (classify((unsigned char)c) == RESERVED) {
                to[n++] = '%';
                to[n++] = digits[hi];
                to[n++] = digits[lo];
                continue;
            }
        }
        if (c != '/' || n == 0 || to[n - 1] != '/') {
            to[n++] = c;
        }
    }
    return n;
}

static size_t last_slash(const char *p, size_t n) {
    while (n > 0 && p[n - 1] != '/') {
        n--;
    }
    return n == 0 ? 0 : n - 1;
}

/* Resolves "." and ".." in place (RFC 3986, 5.2.4); p starts with '/' and has no empty segments but perhaps the last. */
static size_t resolve_dots(char *p, size_t len) {
    size_t out = 0;
    for (size_t in = 0; in < len;) {
        size_t end = in + 1;
        while (end < len && p[end] != '/') {
            end++;
        }
        size_t seg = end - in - 1;
        bool dot = seg == 1 && p[in + 1] == '.';
        bool dots = seg == 2 && p[in + 1] == '.' && p[in + 2] == '.';
        if (dots) {
            out = last_slash(p, out);
        }
        if (!dot && !dots) {
            memmove(p + out, p + in, end - in);
            out += end - in;
        } else if (end == len) {
            p[out++] = '/';
        }
        in = end;
    }
    return out;
}

sl_status_t gw_path_normalize(sl_str_t path, sl_buf_t *out) {
    if (path.len == 0) {
        return out->failed ? SL_NO_MEMORY : SL_OK;
    }
    if (sl_buf_reserve(out, path.len) != SL_OK) {
        return SL_NO_MEMORY;
    }
    char *to = out->data + out->len;
    size_t n = decode(path, to);
    if (n > 0 && to[0] == '/') {
        n = resolve_dots(to, n);
    }
    out->len += n;
    return SL_OK;
}

/* What is left of the path after the matched prefix, so that it cannot climb out of the base. */
static sl_str_t rest_of(const gw_path_join_t *j) {
    size_t skip = j->has_prefix ? j->prefix : j->path.len > 0;
    sl_str_t rest = sl_str(j->path.data + skip, j->path.len - skip);
    if (sl_str_eq(rest, SL_STR(".")) || sl_str_eq(rest, SL_STR(".."))) {
        return SL_STR("");
    }
    size_t cut = sl_str_starts(rest, SL_STR("./")) ? 2 : sl_str_starts(rest, SL_STR("../")) ? 3 : 0;
    return sl_str(rest.data + cut, rest.len - cut);
}

static bool ends_in_slash(sl_str_t s) {
    return s.len > 0 && s.data[s.len - 1] == '/';
}

static bool starts_with_slash(sl_str_t s) {
    return s.len > 0 && s.data[0] == '/';
}

/* Every row of the composition table is some of the base, perhaps a slash, and a tail. */
typedef struct {
    sl_str_t base;
    bool slash;
    sl_str_t tail;
} pieces_t;

static sl_str_t without_last(sl_str_t s) {
    return sl_str(s.data, s.len - 1);
}

static sl_str_t without_first(sl_str_t s) {
    return s.len == 0 ? s : sl_str(s.data + 1, s.len - 1);
}

static pieces_t join_v1(const gw_path_join_t *j) {
    if (!j->strip) {
        return (pieces_t){j->base, false, without_first(j->path)};
    }
    sl_str_t rest = rest_of(j);
    bool both = ends_in_slash(j->base) && starts_with_slash(rest);
    return (pieces_t){both ? without_last(j->base) : j->base, false, rest};
}

static pieces_t join_v0_keep(const gw_path_join_t *j) {
    if (ends_in_slash(j->base)) {
        return (pieces_t){j->base, false, without_first(j->path)};
    }
    bool root = sl_str_eq(j->path, SL_STR("/"));
    return (pieces_t){j->base, false, root ? SL_STR("") : j->path};
}

/* strip_path and nothing left: the base alone, ending as the request did. */
static pieces_t join_v0_empty(const gw_path_join_t *j) {
    bool slash = ends_in_slash(j->path);
    if (ends_in_slash(j->base)) {
        bool keep = j->base.len == 1 || slash;
        return (pieces_t){keep ? j->base : without_last(j->base), false, SL_STR("")};
    }
    return (pieces_t){j->base, slash && j->path.len > 1, SL_STR("")};
}

static pieces_t join_v0(const gw_path_join_t *j) {
    if (!j->strip) {
        return join_v0_keep(j);
    }
    sl_str_t rest = rest_of(j);
    if (rest.len == 0) {
        return join_v0_empty(j);
    }
    if (ends_in_slash(j->base)) {
        return (pieces_t){starts_with_slash(rest) ? without_last(j->base) : j->base, false, rest};
    }
    return (pieces_t){j->base, !starts_with_slash(rest), rest};
}

static void append_escaped(sl_str_t s, sl_buf_t *out) {
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (classify(c) != 0) {
            out->data[out->len++] = (char)c;
        } else {
            out->data[out->len++] = '%';
            out->data[out->len++] = digits[c >> 4];
            out->data[out->len++] = digits[c & 15];
        }
    }
}

size_t gw_path_join_max(const gw_path_join_t *j) {
    return (j->base.len + j->path.len) * 3 + 1;
}

sl_status_t gw_path_join(const gw_path_join_t *j, sl_buf_t *out) {
    if (sl_buf_reserve(out, gw_path_join_max(j)) != SL_OK) {
        return SL_NO_MEMORY;
    }
    pieces_t p = j->v1 ? join_v1(j) : join_v0(j);
    append_escaped(p.base, out);
    if (p.slash) {
        out->data[out->len++] = '/';
    }
    append_escaped(p.tail, out);
    return SL_OK;
}
