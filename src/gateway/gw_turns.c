#include "gw_turns.h"

#include <stdlib.h>

#define PHASES 65536u

/* The bits of number + 1 the other way round: the phases are 1/2, 1/4, 3/4, 1/8, 5/8... of the whole. */
static uint32_t phase_of(uint32_t number) {
    uint32_t bits = (number + 1) % PHASES;
    bits = (bits & 0x5555) << 1 | (bits >> 1 & 0x5555);
    bits = (bits & 0x3333) << 2 | (bits >> 2 & 0x3333);
    bits = (bits & 0x0f0f) << 4 | (bits >> 4 & 0x0f0f);
    return (bits & 0x00ff) << 8 | bits >> 8;
}

/* Where in its round an entry's turn lies, times its weight. */
static uint64_t place(const gw_turn_t *e) {
    return (uint64_t)e->nth * PHASES + e->phase;
}

static bool before(const gw_turn_t *a, const gw_turn_t *b) {
    if (a->round != b->round) {
        return a->round < b->round;
    }
    uint64_t at_a = place(a) * b->weight, at_b = place(b) * a->weight;
    return at_a != at_b ? at_a < at_b : a->number < b->number;
}

/* ---- the heap ------------------------------------------------------------------------------------------------------------- */

static void swap(gw_turns_t *t, size_t a, size_t b) {
    gw_turn_t *e = t->heap[a];
    t->heap[a] = t->heap[b];
    t->heap[b] = e;
}

static void sift_up(gw_turns_t *t, size_t i) {
    while (i > 0 && before(t->heap[i], t->heap[(i - 1) / 2])) {
        swap(t, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
}

static void sift_down(gw_turns_t *t, size_t i, size_t n) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && before(t->heap[child + 1], t->heap[child]);
        if (!before(t->heap[child], t->heap[i])) {
            return;
        }
        swap(t, i, child);
    }
}

/* All at once, which takes linear time. */
static void order(gw_turns_t *t) {
    for (size_t i = t->n / 2; i > 0; i--) {
        sift_down(t, i - 1, t->n);
    }
    t->ordered = true;
}

/* ---- taking part ---------------------------------------------------------------------------------------------------------- */

/* Its first turn that is not before the last one there was: who comes late has nothing to catch up on. */
static void join(const gw_turns_t *t, gw_turn_t *e) {
    e->round = t->last.round;
    e->nth = 0;
    if (t->last.weight == 0) {
        return;
    }
    uint64_t now = place(&t->last) * e->weight / t->last.weight;
    uint64_t nth = now > e->phase ? (now - e->phase + PHASES - 1) / PHASES : 0;
    e->round += nth >= e->weight;
    e->nth = nth >= e->weight ? 0 : (uint32_t)nth;
}

void gw_turns_clear(gw_turns_t *t) {
    t->n = 0;
}

sl_status_t gw_turns_add(gw_turns_t *t, gw_turn_t *entry, uint32_t weight) {
    if (t->n == t->cap) {
        size_t cap = t->cap == 0 ? 8 : 2 * t->cap;
        gw_turn_t **heap = realloc(t->heap, cap * sizeof(gw_turn_t *));
        if (heap == NULL) {
            return SL_NO_MEMORY;
        }
        t->heap = heap;
        t->cap = cap;
    }
    bool stands = entry->weight == weight;
    entry->weight = weight;
    entry->number = (uint32_t)t->n;
    entry->phase = phase_of(entry->number);
    if (!stands) {
        join(t, entry);
    }
    t->heap[t->n++] = entry;
    t->ordered = false;
    return SL_OK;
}

gw_turn_t *gw_turns_next(gw_turns_t *t, bool (*passed)(void *ud, const gw_turn_t *entry), void *ud) {
    size_t n = t->n;
    if (!t->ordered) {
        order(t);
    }
    /* Whoever is passed over waits behind the heap. */
    while (n > 0 && passed != NULL && passed(ud, t->heap[0])) {
        swap(t, 0, --n);
        sift_down(t, 0, n);
    }
    gw_turn_t *e = n > 0 ? t->heap[0] : NULL;
    if (e != NULL) {
        t->last = *e;
        e->nth++;
        e->round += e->nth == e->weight;
        e->nth = e->nth == e->weight ? 0 : e->nth;
        sift_down(t, 0, n);
    }
    for (; n < t->n; n++) {
        sift_up(t, n);
    }
    return e;
}

void gw_turns_deinit(gw_turns_t *t) {
    free(t->heap);
    *t = (gw_turns_t){.heap = NULL};
}
