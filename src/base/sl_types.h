/*
 * The few types that every layer shares: a status, borrowed bytes, an error with a text.
 * Plain values; nothing here allocates and nothing here is tied to a thread.
 */
#ifndef SL_TYPES_H
#define SL_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The one status of the inside. It becomes the ABI's result or an ngx_int_t at the border. */
typedef enum {
    SL_OK = 0,
    SL_AGAIN,     /* not now; whoever answered so says when to come back */
    SL_NOT_FOUND, /* the thing asked for does not exist */
    SL_INVALID,   /* the input is wrong; the error text says where */
    SL_NO_MEMORY, /* an allocation failed, or a ceiling given at init was reached */
    SL_IO,        /* a file or the system refused */
    SL_TRAP,      /* the guest trapped */
    SL_CONFLICT,  /* someone else changed or holds it */
    SL_FAILED     /* anything else; the error text says what */
} sl_status_t;

/* Borrowed bytes, by value. Not NUL-terminated. {NULL, 0} is the empty string. */
typedef struct {
    const char *data;
    size_t len;
} sl_str_t;

#define SL_STR(lit) ((sl_str_t){(lit), sizeof(lit) - 1})
#define SL_STR_NULL ((sl_str_t){NULL, 0})
/* for printf("%.*s", SL_FMT(s)) */
#define SL_FMT(s) (int)(s).len, (s).data ? (s).data : ""

static inline sl_str_t sl_str(const void *data, size_t len) {
    return (sl_str_t){(const char *)data, len};
}

static inline sl_str_t sl_cstr(const char *s) {
    return (sl_str_t){s, s ? strlen(s) : 0};
}

static inline bool sl_str_eq(sl_str_t a, sl_str_t b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool sl_str_eq_nocase(sl_str_t a, sl_str_t b); /* ASCII only */
int sl_str_cmp(sl_str_t a, sl_str_t b);        /* as memcmp, a shorter prefix sorts first */
bool sl_str_starts(sl_str_t s, sl_str_t prefix);
bool sl_str_ends(sl_str_t s, sl_str_t suffix);
bool sl_utf8_valid(sl_str_t s, size_t *bad_at); /* *bad_at: byte offset of the first bad sequence */

/*
 * The text of a failure. The deepest layer that knows writes it: what was expected, what came, where, what to do.
 * Callers may prefix it (sl_err_prefix) with what they were doing. Long texts are cut, never overrun.
 */
typedef struct {
    char text[3072]; /* room for a backtrace: a panic of Rust or Go has a dozen frames of its runtime before the filter's own */
} sl_err_t;

/* Sets the text and returns `status`, so that `return sl_err_set(err, SL_INVALID, "...")` reads well. err may be NULL. */
sl_status_t sl_err_set(sl_err_t *err, sl_status_t status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void sl_err_prefix(sl_err_t *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
