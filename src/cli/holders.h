/* Who holds a port, and what a master that was killed has left behind. As far as this user may see other processes. */
#ifndef HOLDERS_H
#define HOLDERS_H

#include "sl_buf.h"

#define HOLDERS_MAX 256

typedef struct {
    long pids[HOLDERS_MAX];
    size_t n;
} holders_t;

/* Processes that listen on the port of "ip:port". */
void holders_of(const char *address, holders_t *out);
/* nginx processes that have logs of this prefix open; while no master runs there, they are orphans. */
void holders_orphans(const char *prefix, holders_t *out);
bool holders_has(const holders_t *h, long pid);
/* "process 12 (nginx), process 13 (nginx)" */
void holders_print(const holders_t *h, sl_buf_t *out);

/* Whether it is on its way out: its memory is gone, its files and ports may not be. Not one that has ended and is only waited for. */
bool holders_is_ending(long pid);

#endif
