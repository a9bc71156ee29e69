/*
 * For the tests of src/shm: memory that forked processes share, and a lock as nginx has it: a word with the holder's pid, which the parent
 * takes from a process that has died.
 */
#ifndef ST_H
#define ST_H

#include <sys/types.h>

#include "cmocka_all.h"
#include "sh_zone.h"

#define ST_PROCESSES 4

void *st_memory(size_t size_bytes); /* shared, zeroed; st_reset frees all */
void st_reset(void);

extern const sh_env_t st_env;
unsigned st_lock_count(void);  /* how often it was taken by this process */
unsigned st_reset_count(void); /* how often a region was emptied, by any process */

/* This process dies by SIGKILL at the nth step (1: the next one) of a change. 0: does not. */
void st_die_at_step(unsigned nth);
unsigned st_steps(void); /* since st_die_at_step */

/* Runs `body` in n processes at once and waits; the lock is taken from those that were killed. How many ended well. */
unsigned st_run(unsigned n, void (*body)(unsigned process, void *ud), void *ud);

/* The same numbers in every run. */
typedef struct {
    uint64_t state;
} st_random_t;
uint32_t st_random(st_random_t *r, uint32_t below);

#endif
