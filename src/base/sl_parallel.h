/*
 * Work that is in pieces, on as many threads as there are processors. For start-up, the CLI and threads of a worker, never the event loop.
 * The threads live for the call only, so that a process may fork after it, and no signal is handled on them.
 */
#ifndef SL_PARALLEL_H
#define SL_PARALLEL_H

#include <stddef.h>

/*
 * Calls fn(ud, i) once for each i below n, in no order, on up to max_threads threads (0: one for each processor); the calling thread is one
 * of them, and does everything where no other can be had.
 */
void sl_parallel(size_t n, unsigned max_threads, void (*fn)(void *ud, size_t i), void *ud);

#endif
