/*
 * A ceiling in bytes over what many buffers hold together. It counts and allocates nothing; who takes bytes gives them back. One thread.
 * Every function accepts NULL for the ceiling: then there is none.
 */
#ifndef SL_CEILING_H
#define SL_CEILING_H

#include "sl_types.h"

typedef struct {
    size_t max;                             /* bytes; 0: no ceiling, they are counted only */
    size_t used;                            /* may be over max by what was held */
    uint64_t refused;                       /* how often there was no room */
    void (*changed)(void *ud, size_t used); /* NULL: nobody wants to know */
    void *ud;
} sl_ceiling_t;

bool sl_ceiling_take(sl_ceiling_t *c, size_t bytes); /* false: no room, nothing was taken */
void sl_ceiling_hold(sl_ceiling_t *c, size_t bytes); /* likewise for what is there already: never refused */
void sl_ceiling_give(sl_ceiling_t *c, size_t bytes);

#endif
