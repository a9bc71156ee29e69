/*
 * A circuit breaker: whether a filter that fails often may be entered. Pure: the caller has the clock (monotonic, ns).
 *
 *             N failures within the window
 *   CLOSED ----------------------------------> OPEN <----------------.
 *      ^                                        | after the back-off  | failure: twice as long, up to the ceiling
 *      |  a probe went well                     v                     |
 *      '------------------------------------ HALF_OPEN ---------------'   one request at a time
 *
 * A breaker that opens again soon after it closed goes on with the back-off that it had.
 */
#ifndef PW_BREAKER_H
#define PW_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define PW_BREAKER_TRAPS_MAX 1000

typedef enum { PW_BREAKER_CLOSED, PW_BREAKER_HALF_OPEN, PW_BREAKER_OPEN } pw_breaker_state_t;

typedef struct {
    uint32_t traps; /* 0: never opens */
    uint64_t window_ns, backoff_ns, backoff_max_ns;
} pw_breaker_conf_t;

typedef struct {
    pw_breaker_conf_t conf;
    pw_breaker_state_t state;
    uint64_t *times; /* of the latest failures, a ring of conf.traps; the caller's memory */
    uint32_t next;
    uint32_t n;
    uint64_t backoff_ns; /* of this opening */
    uint64_t until_ns;   /* OPEN: when a probe may begin */
    uint64_t probe_ns;   /* HALF_OPEN: when the probe began; 0: none is on its way */
    uint64_t closed_ns;  /* when it last closed; 0: never opened */
} pw_breaker_t;

/* times: conf->traps of them, may be NULL for 0; must outlive the breaker. */
void pw_breaker_init(pw_breaker_t *breaker, const pw_breaker_conf_t *conf, uint64_t *times);
/* Whether a request may enter. *probe: it decides what comes next, and its end has to be told. */
bool pw_breaker_admit(pw_breaker_t *breaker, uint64_t now_ns, bool *probe);
/* The end of a probe that did not fail. ran: it has been in the filter; else the next request is the probe. */
void pw_breaker_probed(pw_breaker_t *breaker, bool ran, uint64_t now_ns);
void pw_breaker_fail(pw_breaker_t *breaker, uint64_t now_ns);
/* How long it is still open, rounded up; 0: a request may try. */
uint32_t pw_breaker_seconds_left(const pw_breaker_t *breaker, uint64_t now_ns);
const char *pw_breaker_name(pw_breaker_state_t state); /* "closed", "half-open", "open" */

#endif
