#include "sl_buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

void sl_buf_init(sl_buf_t *b, size_t max_bytes) {
    *b = (sl_buf_t){.max = max_bytes};
}

void sl_buf_init_under(sl_buf_t *b, size_t max_bytes, sl_ceiling_t *ceiling) {
    *b = (sl_buf_t){.max = max_bytes, .ceiling = ceiling};
}

void sl_buf_deinit(sl_buf_t *b) {
    free(b->data);
    sl_ceiling_give(b->ceiling, b->cap);
    *b = (sl_buf_t){.max = b->max, .ceiling = b->ceiling};
}

void sl_buf_reset(sl_buf_t *b) {
    b->len = 0;
    b->failed = false;
}

static sl_status_t fail(sl_buf_t *b) {
    b->failed = true;
    return SL_NO_MEMORY;
}

/* Takes the room for *cap bytes from the ceiling; where there is not so much, for what is needed. */
static bool grow_under(sl_buf_t *b, size_t need, size_t *cap) {
    sl_ceiling_t *c = b->ceiling;
    if (c != NULL && c->max != 0 && c->used <= c->max && *cap - b->cap > c->max - c->used) {
        *cap = need;
    }
    return sl_ceiling_take(c, *cap - b->cap);
}

#define HUGE_FROM ((size_t)4 << 20)

/* A buffer of many megabytes is written once, page after page: larger pages save most of the faults. */
static void prefer_huge_pages(char *data, size_t cap) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 4096;
    uintptr_t from = (uintptr_t)data & ~(page - 1), end = ((uintptr_t)data + cap + page - 1) & ~(page - 1);
    if (cap >= HUGE_FROM) {
        (void)madvise((void *)from, end - from, MADV_HUGEPAGE); /* whole pages: a mapping in two pieces could not grow */
    }
#else
    (void)data;
    (void)cap;
#endif
}

sl_status_t sl_buf_reserve(sl_buf_t *b, size_t more_bytes) {
    if (b->failed || more_bytes > b->max - b->len) {
        return fail(b);
    }
    size_t need = b->len + more_bytes;
    if (need <= b->cap) {
        return SL_OK;
    }
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need) {
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    }
    cap = cap > b->max ? b->max : cap;
    if (!grow_under(b, need, &cap)) {
        return fail(b);
    }
    char *data = realloc(b->data, cap);
    if (data == NULL) {
        sl_ceiling_give(b->ceiling, cap - b->cap);
        return fail(b);
    }
    prefer_huge_pages(data, cap);
    b->data = data;
    b->cap = cap;
    return SL_OK;
}

sl_status_t sl_buf_append(sl_buf_t *b, const void *data, size_t len) {
    if (sl_buf_reserve(b, len) != SL_OK) {
        return SL_NO_MEMORY;
    }
    if (len != 0) {
        memcpy(b->data + b->len, data, len);
        b->len += len;
    }
    return SL_OK;
}

sl_status_t sl_buf_append_str(sl_buf_t *b, sl_str_t s) {
    return sl_buf_append(b, s.data, s.len);
}

sl_status_t sl_buf_append_cstr(sl_buf_t *b, const char *s) {
    return sl_buf_append(b, s, strlen(s));
}

sl_status_t sl_buf_append_char(sl_buf_t *b, char c) {
    return sl_buf_append(b, &c, 1);
}

sl_status_t sl_buf_printf(sl_buf_t *b, const char *fmt, ...) {
    char small[256];
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    sl_status_t rc;
    if (n < 0) {
        rc = fail(b);
    } else if ((size_t)n < sizeof(small)) {
        rc = sl_buf_append(b, small, (size_t)n);
    } else {
        char *big = malloc((size_t)n + 1);
        if (big == NULL) {
            rc = fail(b);
        } else {
            vsnprintf(big, (size_t)n + 1, fmt, again);
            rc = sl_buf_append(b, big, (size_t)n);
            free(big);
        }
    }
    va_end(again);
    return rc;
}

sl_status_t sl_buf_splice(sl_buf_t *b, size_t off, size_t cut, const void *data, size_t len) {
    off = off > b->len ? b->len : off;
    cut = cut > b->len - off ? b->len - off : cut;
    if (len > cut && sl_buf_reserve(b, len - cut) != SL_OK) {
        return SL_NO_MEMORY;
    }
    size_t tail = b->len - off - cut;
    if (tail != 0 && len != cut) {
        memmove(b->data + off + len, b->data + off + cut, tail);
    }
    if (len != 0) {
        memcpy(b->data + off, data, len);
    }
    b->len = off + len + tail;
    return SL_OK;
}

const char *sl_buf_cstr(sl_buf_t *b) {
    if (sl_buf_append_char(b, '\0') != SL_OK) {
        return NULL;
    }
    b->len--;
    return b->data;
}
