/*
 * The folder of a cache of compiled code: who compiles a module while others wait, and what is removed. Private to sl_cache.c.
 *
 * Both go by flock(): a lock ends with the process that had it, however that ends.
 *   <key>.lock    exclusive: whoever compiles this module. Removed by its holder
 *   <key>.cwasm   shared: each module that was loaded from it, as long as that lives
 */
#ifndef SL_CACHE_FILES_H
#define SL_CACHE_FILES_H

#include <stdbool.h>
#include <stdint.h>

#define SL_CACHE_SUFFIX ".cwasm"

typedef enum {
    SL_CACHE_MINE,    /* at once */
    SL_CACHE_WAITED,  /* after somebody else had it, who may have left the file */
    SL_CACHE_USELESS, /* after somebody else had it who could not store: no lock is held */
    SL_CACHE_NONE,    /* there is none here, or it took too long: no lock is held */
} sl_cache_turn_t;

typedef struct {
    int folder, fd; /* fd -1: not held */
    char name[96];
} sl_cache_lock_t;

/* `name`: of the .cwasm; `folder` stays the caller's, open until unlock. Blocks for wait_ms at most, a little for each other process. */
sl_cache_turn_t sl_cache_lock(int folder, const char *name, uint32_t wait_ms, sl_cache_lock_t *out);
/* Who waits goes on; `useless`: without waiting for each other, since what they compile cannot be kept. Not held is fine. */
void sl_cache_unlock(sl_cache_lock_t *lock, bool useless);

/* For the life of a module. false: the file has been removed. */
bool sl_cache_hold(int fd);

/* Only if nobody holds it. */
bool sl_cache_remove_unused(int folder, const char *name);

typedef struct {
    uint64_t kept_bytes, removed_bytes;
    uint32_t kept, removed;
} sl_cache_pruned_t;

/*
 * Removes files that were not loaded for max_age_s, then, of those loaded longest ago, as many as it takes to have max_bytes or less; 0: as
 * many as there are. Not those that are loaded anywhere, nor what somebody has loaded or written within the last two minutes; and what dead
 * processes left. false: somebody else is at it, or the folder cannot be read.
 */
bool sl_cache_prune_folder(int folder, uint64_t max_bytes, uint64_t max_age_s, sl_cache_pruned_t *out);

#endif
