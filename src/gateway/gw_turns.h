/*
 * Whose turn it is among entries with weights, in O(log n); the first turn after somebody has come takes O(n).
 *
 *   round 0                          round 1
 *   |----a----b----a----c----a-------|----a----b----a----c----a-------|   weights: a 3, b 1, c 1
 *
 * An entry of weight w has w turns in each round, at even distances; where its first one lies depends on its number among the entries, so
 * that equal ones do not come all at once. Whoever's next turn lies first has it. Rounds repeat, so that in any row of turns as long as the
 * sum of the weights each entry has exactly its share. Nothing of this is random.
 *
 * One thread. The entries are the caller's and stay where they are while they take part.
 */
#ifndef GW_TURNS_H
#define GW_TURNS_H

#include "sl_types.h"

#define GW_TURNS_WEIGHT_MAX 65535

/* Zeros: it has never taken part. Where an entry stands is kept in it, so that it goes on there when it takes part again. */
typedef struct {
    uint64_t round; /* of its next turn */
    uint32_t nth;   /* its next turn in that round, from 0 */
    uint32_t weight;
    uint32_t phase; /* 0 to 65535: where between two of its turns the round begins */
    uint32_t number;
} gw_turn_t;

typedef struct {
    gw_turn_t **heap; /* the next turn first */
    size_t n, cap;
    bool ordered;   /* false: somebody has come since the last turn */
    gw_turn_t last; /* whose turn it was last, as it stood then; weight 0: nobody's so far */
} gw_turns_t;

/* All take their leave; what time it is stays. */
void gw_turns_clear(gw_turns_t *t);
/* Takes part from now on: where it stands, or, new or with another weight, from the last turn on. weight: 1 to GW_TURNS_WEIGHT_MAX. */
sl_status_t gw_turns_add(gw_turns_t *t, gw_turn_t *entry, uint32_t weight);
/* Those who are passed over (`passed` may be NULL: nobody is) keep their turn for the next time. NULL: nobody is left. */
gw_turn_t *gw_turns_next(gw_turns_t *t, bool (*passed)(void *ud, const gw_turn_t *entry), void *ud);
void gw_turns_deinit(gw_turns_t *t);

#endif
