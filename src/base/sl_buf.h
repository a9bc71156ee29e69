/*
 * A growable buffer with a ceiling that is named at init. One owner, one thread.
 * The first failure (out of memory, or the ceiling) is sticky: later appends do nothing, `failed` stays set, and the
 * owner may check once at the end. The bytes move when the buffer grows.
 */
#ifndef SL_BUF_H
#define SL_BUF_H

#include "sl_ceiling.h"

typedef struct {
    char *data;
    size_t len;
    size_t cap;
    size_t max; /* bytes; an append that would pass it fails */
    bool failed;
    sl_ceiling_t *ceiling; /* over this one and others, for its memory; NULL: none */
} sl_buf_t;

void sl_buf_init(sl_buf_t *b, size_t max_bytes); /* allocates nothing */
/* With a ceiling that others share, and that outlives the buffer: growing over it fails like growing over max_bytes. */
void sl_buf_init_under(sl_buf_t *b, size_t max_bytes, sl_ceiling_t *ceiling);
void sl_buf_deinit(sl_buf_t *b); /* also after a failure; b may be initialised again */
void sl_buf_reset(sl_buf_t *b);  /* empty, keeps the memory, clears `failed` */
sl_status_t sl_buf_reserve(sl_buf_t *b, size_t more_bytes);
sl_status_t sl_buf_append(sl_buf_t *b, const void *data, size_t len);
sl_status_t sl_buf_append_str(sl_buf_t *b, sl_str_t s);
sl_status_t sl_buf_append_cstr(sl_buf_t *b, const char *s);
sl_status_t sl_buf_append_char(sl_buf_t *b, char c);
sl_status_t sl_buf_printf(sl_buf_t *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Replaces `cut` bytes at `off` with `len` bytes of data (which must not lie inside b). off and cut are clamped. */
sl_status_t sl_buf_splice(sl_buf_t *b, size_t off, size_t cut, const void *data, size_t len);
/* NUL-terminated view (the NUL is not counted in len), NULL after a failure. */
const char *sl_buf_cstr(sl_buf_t *b);

static inline sl_str_t sl_buf_str(const sl_buf_t *b) {
    return (sl_str_t){b->data, b->len};
}

#endif
