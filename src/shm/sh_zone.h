/*
 * A region of memory that several processes share, with an allocator over it: what sh_kv, sh_queue and sh_metric keep theirs in.
 *
 *   | sh_head_t | the store's own tables | blocks: [size, previous size | payload] [size, previous size | payload] ...  |
 *
 * Everything inside refers to everything else by sh_ref_t, a distance from the region's start in units of 16 bytes, so that the
 * processes may see the region at different addresses. A sh_zone_t is one process' view of it; one thread at a time may use a view.
 *
 * The caller gives the lock. A process may be killed while it holds it, and the lock may then be taken from it: whoever changes something
 * says so before (sh_begin) and after (sh_end), and who gets the lock and finds a change that has not ended empties the region
 * instead of trusting it. That is counted, and told through env.reset.
 */
#ifndef SH_ZONE_H
#define SH_ZONE_H

#include "sl_types.h"

#define SH_UNIT 16u
#define SH_SUBCLASSES 8u
#define SH_CLASSES_MAX (30u * SH_SUBCLASSES)

typedef uint32_t sh_ref_t; /* 0: none */

typedef struct {
    void (*lock)(void *ud);
    void (*unlock)(void *ud);
    void (*reset)(void *ud); /* the region was emptied; called with the lock held. NULL: nobody wants to know */
    void (*step)(void *ud);  /* for tests: called between the writes of a change. NULL: never */
    void *ud;
} sh_env_t;

/* The first bytes of a region. What must survive a reset comes before the allocator. */
typedef struct {
    uint64_t magic; /* kind and layout */
    uint64_t size_bytes;
    uint64_t seed; /* of hashes */
    uint32_t changing;
    uint32_t resets;
    uint32_t counter; /* the last CAS value or queue id: such numbers do not come again after a reset */
    /* the allocator: two-level segregated fit, 8 classes per power of two of units */
    uint32_t first, end; /* of the blocks, in units */
    uint32_t used_units, n_classes;
    uint32_t octaves; /* bit i: some class of octave i has free blocks */
    uint8_t subclasses[32];
    /* followed by sh_ref_t[n_classes], then by the store's own tables */
} sh_head_t;

typedef struct sh_zone_s {
    uint8_t *base;
    sh_head_t *head;
    sh_ref_t *free_lists;
    sh_env_t env;
    void (*clear)(struct sh_zone_s *zone); /* the store makes its tables empty */
} sh_zone_t;

/* ---- set up ---- */

/*
 * Views `mem` (aligned to 16 bytes, up to 64 GiB). fresh: it is made new, else it must hold a region of this kind and size
 * (SL_INVALID: it does not). `clear` sets up the store's tables, of `table_bytes` (sh_tables), which are zeroed before.
 * SL_NO_MEMORY: too small to hold anything.
 */
typedef struct {
    uint32_t kind; /* kind and layout of the store */
    size_t table_bytes;
    void (*clear)(sh_zone_t *zone);
} sh_layout_t;
sl_status_t sh_zone_open(sh_zone_t *zone, void *mem, size_t size_bytes, bool fresh, uint64_t seed, const sh_layout_t *layout,
                         const sh_env_t *env);
static inline void *sh_tables(const sh_zone_t *zone) {
    size_t end = sizeof(sh_head_t) + zone->head->n_classes * sizeof(sh_ref_t);
    return zone->base + ((end + SH_UNIT - 1) & ~(size_t)(SH_UNIT - 1));
}
/* A power of two: buckets of a hash table that suits a region of this size. */
uint32_t sh_buckets_for(size_t size_bytes, size_t bytes_per_item);

/* ---- access ---- */

void sh_repair(sh_zone_t *zone); /* of sh_lock */

static inline void sh_lock(sh_zone_t *zone) {
    zone->env.lock(zone->env.ud);
    if (__builtin_expect(__atomic_load_n(&zone->head->changing, __ATOMIC_RELAXED) != 0, 0)) {
        sh_repair(zone);
    }
}

static inline void sh_unlock(sh_zone_t *zone) {
    zone->env.unlock(zone->env.ud);
}

/* Between the writes of a change. */
static inline void sh_step(const sh_zone_t *zone) {
    if (__builtin_expect(zone->env.step != NULL, 0)) {
        zone->env.step(zone->env.ud);
    }
}

/*
 * Around every change of more than one word. A process that is killed has done exactly those writes that come before some point of its
 * program, so it is enough to keep the compiler from moving writes across the mark; the lock takes care of the rest.
 */
static inline void sh_begin(sh_zone_t *zone) {
    __atomic_store_n(&zone->head->changing, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    sh_step(zone);
}

static inline void sh_end(sh_zone_t *zone) {
    sh_step(zone);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&zone->head->changing, 0, __ATOMIC_RELAXED);
}

static inline void *sh_at(const sh_zone_t *zone, sh_ref_t ref) {
    return zone->base + (size_t)ref * SH_UNIT + 8;
}

/* ---- blocks; with the lock held, between sh_begin and sh_end ---- */

sh_ref_t sh_alloc(sh_zone_t *zone, size_t bytes); /* aligned to 8 bytes, not zeroed; 0: no room */
void sh_free(sh_zone_t *zone, sh_ref_t ref);
/* Frees `ref` and allocates `bytes` where it was and beside it. 0: not enough there, nothing has changed. */
sh_ref_t sh_exchange(sh_zone_t *zone, sh_ref_t ref, size_t bytes);
size_t sh_capacity(const sh_zone_t *zone, sh_ref_t ref); /* usable bytes of a block */
size_t sh_capacity_max(const sh_zone_t *zone);           /* of the largest block that an empty region can give */
size_t sh_used_bytes(const sh_zone_t *zone);
size_t sh_total_bytes(const sh_zone_t *zone);

/* Classes of sizes: blocks of one class differ by an eighth at most. */
uint32_t sh_class_of_units(uint32_t units);
uint32_t sh_class_of(const sh_zone_t *zone, sh_ref_t ref);
size_t sh_round_up(size_t bytes); /* the smallest capacity of a class that holds them */

/* For tests and fuzzing: walks everything. NULL: sound; else what is wrong. */
const char *sh_zone_check(const sh_zone_t *zone);

#endif
