/*
 * An arena: many small allocations with one lifetime, freed together. One thread.
 * Addresses are stable until deinit. Memory is aligned for any type; nothing is zeroed unless the name says so.
 */
#ifndef SL_ARENA_H
#define SL_ARENA_H

#include "sl_types.h"

typedef struct sl_arena_block_s sl_arena_block_t;

typedef struct {
    sl_arena_block_t *blocks;
    size_t used;      /* bytes handed out */
    size_t max;       /* bytes; the ceiling */
    size_t block_min; /* size of an ordinary block, bytes */
} sl_arena_t;

void sl_arena_init(sl_arena_t *a, size_t block_bytes, size_t max_bytes); /* allocates nothing */
void sl_arena_deinit(sl_arena_t *a);
void *sl_arena_alloc(sl_arena_t *a, size_t size); /* NULL: out of memory or over the ceiling */
void *sl_arena_zalloc(sl_arena_t *a, size_t size);
/* A NUL-terminated copy (the NUL is not counted). {NULL,0} when it fails; an empty s gives a non-NULL empty string. */
sl_str_t sl_arena_dup(sl_arena_t *a, sl_str_t s);

#endif
