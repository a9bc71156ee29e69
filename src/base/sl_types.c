#include "sl_types.h"

#include <stdarg.h>
#include <stdio.h>

static unsigned char lower(unsigned char c) {
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

static bool same_letters(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)a[i], d = (unsigned char)b[i];
        if (c != d && ((c ^ d) != 0x20 || lower(c) != lower(d))) {
            return false;
        }
    }
    return true;
}

static inline bool same_eight(const char *a, const char *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x == y || same_letters(a, b, sizeof(x));
}

/* Mostly the case is the same: eight bytes at once, and only where they differ one after the other. The last eight overlap others. */
bool sl_str_eq_nocase(sl_str_t a, sl_str_t b) {
    if (a.len != b.len) {
        return false;
    }
    if (a.len < 8) {
        return same_letters(a.data, b.data, a.len);
    }
    for (size_t i = 0; a.len - i > 8; i += 8) {
        if (!same_eight(a.data + i, b.data + i)) {
            return false;
        }
    }
    return same_eight(a.data + a.len - 8, b.data + b.len - 8);
}

int sl_str_cmp(sl_str_t a, sl_str_t b) {
    size_t n = a.len < b.len ? a.len : b.len;
    int rc = n ? memcmp(a.data, b.data, n) : 0;
    return rc != 0 ? rc : (a.len > b.len) - (a.len < b.len);
}

bool sl_str_starts(sl_str_t s, sl_str_t prefix) {
    return s.len >= prefix.len && sl_str_eq(sl_str(s.data, prefix.len), prefix);
}

bool sl_str_ends(sl_str_t s, sl_str_t suffix) {
    return s.len >= suffix.len && sl_str_eq(sl_str(s.data + (s.len - suffix.len), suffix.len), suffix);
}

/* Length of the valid sequence at p, 0 if there is none (RFC 3629: no surrogates, no overlong forms). */
static size_t utf8_sequence(const unsigned char *p, size_t left) {
    if (p[0] < 0x80) {
        return 1;
    }
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > left) {
        return 0;
    }
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

bool sl_utf8_valid(sl_str_t s, size_t *bad_at) {
    for (size_t i = 0, n; i < s.len; i += n) {
        n = utf8_sequence((const unsigned char *)s.data + i, s.len - i);
        if (n == 0) {
            if (bad_at != NULL) {
                *bad_at = i;
            }
            return false;
        }
    }
    return true;
}

sl_status_t sl_err_set(sl_err_t *err, sl_status_t status, const char *fmt, ...) {
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
    }
    return status;
}

void sl_err_prefix(sl_err_t *err, const char *fmt, ...) {
    if (err == NULL) {
        return;
    }
    char old[sizeof(err->text)];
    memcpy(old, err->text, sizeof(old));
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(err->text)) {
        snprintf(err->text + n, sizeof(err->text) - (size_t)n, "%s", old);
    }
}
