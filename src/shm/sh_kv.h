/*
 * Shared data: (vm_id, key) -> (value, cas), in a region that several processes share (see sh_zone.h for the lock, its loss and resets).
 *
 * Every write gives the entry a CAS value that no other write of this region has had (they wrap after 2^32); 0 and SH_CAS_NEVER are
 * never given. When the region is full, the policy says what goes; nothing may go under SH_EVICT_NONE.
 */
#ifndef SH_KV_H
#define SH_KV_H

#include "sh_zone.h"
#include "sl_buf.h"

#define SH_CAS_ANY 0u            /* write whatever is there */
#define SH_CAS_NEVER 0xffffffffu /* matches no entry: write only where there is none */

/* Which entry makes room: the one not used for the longest time, of those of the same size class, then of larger, then of smaller
 * ones; the one not used for the longest time of all; none. */
typedef enum { SH_EVICT_SLRU, SH_EVICT_LRU, SH_EVICT_NONE } sh_evict_t;

typedef struct {
    sh_zone_t zone;
    sh_evict_t policy;
} sh_kv_t;

/* See sh_zone_open. The policy may be another each time. */
sl_status_t sh_kv_open(sh_kv_t *kv, void *mem, size_t size_bytes, bool fresh, uint64_t seed, sh_evict_t policy, const sh_env_t *env);

/* Appends to *value. SL_NOT_FOUND; SL_NO_MEMORY: it does not fit into the buffer. */
sl_status_t sh_kv_get(sh_kv_t *kv, sl_str_t vm_id, sl_str_t key, sl_buf_t *value, uint32_t *cas);
/*
 * Where there is no such entry, it is made, whatever `cas` is. SL_CONFLICT: there is one with another CAS value.
 * SL_NO_MEMORY: no room; the entry is as it was. new_cas may be NULL.
 */
sl_status_t sh_kv_set(sh_kv_t *kv, sl_str_t vm_id, sl_str_t key, sl_str_t value, uint32_t cas, uint32_t *new_cas);
sl_status_t sh_kv_remove(sh_kv_t *kv, sl_str_t vm_id, sl_str_t key, uint32_t cas); /* SL_NOT_FOUND, SL_CONFLICT */

typedef struct {
    sl_str_t vm_id, key, value; /* borrowed for the call */
    uint32_t cas;
} sh_kv_entry_t;
/*
 * Shows entries, in no particular order, with the lock held: `each` must be quick and must not use the store. *cursor is 0 at first and
 * again when all have been shown; at least `n` entries a page, if there are so many. An entry that stays is shown once.
 */
void sh_kv_page(sh_kv_t *kv, uint64_t *cursor, size_t n, void (*each)(void *ud, const sh_kv_entry_t *entry), void *ud);

/* Writes all entries of another region, with their CAS values, as far as there is room; the ones used last win. `to` must be new. */
void sh_kv_copy(sh_kv_t *to, sh_kv_t *from);

typedef struct {
    size_t entries, used_bytes, total_bytes;
    uint64_t evicted, refused; /* entries that made room; writes that found none. Since the last reset. */
    uint32_t resets;
} sh_kv_stats_t;
sh_kv_stats_t sh_kv_stats(sh_kv_t *kv);

const char *sh_kv_check(const sh_kv_t *kv); /* as sh_zone_check */

#endif
