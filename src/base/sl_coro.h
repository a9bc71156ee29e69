/*
 * A function on a stack of its own, which can stop in the middle and go on later. One thread at a time; a coroutine is resumed by the
 * thread that it belongs to, from outside of it or from inside of another one.
 */
#ifndef SL_CORO_H
#define SL_CORO_H

#include <stdbool.h>
#include <stddef.h>

typedef struct sl_coro_s sl_coro_t;

/* NULL: no memory. The stack has a guard page; only what is touched of it takes memory. */
sl_coro_t *sl_coro_new(size_t stack_bytes);
void sl_coro_free(sl_coro_t *coro); /* not while its function is in the middle; NULL is fine */

/* The next resume runs fn(arg). Only when no function is in the middle. */
void sl_coro_begin(sl_coro_t *coro, void (*fn)(void *arg), void *arg);
/* true: the function has returned. false: it has stopped in sl_coro_yield(). */
bool sl_coro_resume(sl_coro_t *coro);
/* From inside of the function. Returns at the next resume. */
void sl_coro_yield(sl_coro_t *coro);

#endif
