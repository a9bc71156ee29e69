/*
 * Allocation failures on demand. Linked to every unit test with --wrap, so it sees malloc, calloc and realloc of our own
 * code (not of shared libraries). One thread.
 */
#ifndef FAIL_ALLOC_H
#define FAIL_ALLOC_H

/* The nth allocation from now on (1: the next) fails, once. 0: none. */
void fail_alloc_at(unsigned nth);
/* Allocations since the last fail_alloc_at, so that a test can visit each of them in turn. */
unsigned fail_alloc_seen(void);

#endif
