#include "sl_arena.h"

#include <stdalign.h>
#include <stdlib.h>

struct sl_arena_block_s {
    sl_arena_block_t *next;
    size_t size;
    size_t used;
    alignas(max_align_t) char bytes[];
};

void sl_arena_init(sl_arena_t *a, size_t block_bytes, size_t max_bytes) {
    *a = (sl_arena_t){.block_min = block_bytes, .max = max_bytes};
}

void sl_arena_deinit(sl_arena_t *a) {
    for (sl_arena_block_t *b = a->blocks, *next; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    sl_arena_init(a, a->block_min, a->max);
}

static sl_arena_block_t *add_block(sl_arena_t *a, size_t size) {
    sl_arena_block_t *b = malloc(sizeof(*b) + size);
    if (b == NULL) {
        return NULL;
    }
    b->size = size;
    b->used = 0;
    /* A block made for one large piece goes behind the current one, which still has room for small ones. */
    if (a->blocks != NULL && size > a->block_min) {
        b->next = a->blocks->next;
        a->blocks->next = b;
    } else {
        b->next = a->blocks;
        a->blocks = b;
    }
    return b;
}

void *sl_arena_alloc(sl_arena_t *a, size_t size) {
    const size_t align = alignof(max_align_t);
    if (size > a->max - a->used || size > SIZE_MAX / 2) {
        return NULL;
    }
    size_t rounded = (size + align - 1) & ~(align - 1);
    sl_arena_block_t *b = a->blocks;
    if (b == NULL || rounded > b->size - b->used) {
        b = add_block(a, rounded > a->block_min ? rounded : a->block_min);
        if (b == NULL) {
            return NULL;
        }
    }
    void *p = b->bytes + b->used;
    b->used += rounded;
    a->used = rounded > a->max - a->used ? a->max : a->used + rounded;
    return p;
}

void *sl_arena_zalloc(sl_arena_t *a, size_t size) {
    void *p = sl_arena_alloc(a, size);
    return p != NULL ? memset(p, 0, size) : NULL;
}

sl_str_t sl_arena_dup(sl_arena_t *a, sl_str_t s) {
    char *p = s.len < SIZE_MAX ? sl_arena_alloc(a, s.len + 1) : NULL;
    if (p == NULL) {
        return SL_STR_NULL;
    }
    if (s.len != 0) {
        memcpy(p, s.data, s.len);
    }
    p[s.len] = '\0';
    return sl_str(p, s.len);
}
