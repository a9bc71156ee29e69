/*
 * One function on a thread of its own, while its caller does something else. Nobody else sees the thread: no signal is handled on it, and
 * it ends with the function.
 */
#ifndef SL_ASIDE_H
#define SL_ASIDE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sl_aside_s sl_aside_t;

/* Runs fn(arg). NULL: there is no thread, or no memory; fn has not run. */
sl_aside_t *sl_aside_begin(void (*fn)(void *arg), void *arg);
/* Waits so long at most. true: fn has returned, and what it did is visible. */
bool sl_aside_wait(sl_aside_t *aside, uint32_t wait_us);
/* Waits for the end, then frees. The CPU time that fn took, in nanoseconds. */
uint64_t sl_aside_end(sl_aside_t *aside);

#endif
