/*
 * Compiled code on disk, keyed by engine fingerprint and the module's SHA-256. One file per module, mapped by every process.
 *
 * Trust: compiled code is run as it is, so a file is used only when the folder and the file belong to the effective user and
 * nobody else may write them, and when the digest at its end matches the code. Anything else (damaged, cut, foreign, another
 * engine's) is ignored, reported to `log`, and rebuilt. What is checked is the open file that is then mapped. A cache whose folder cannot
 * be made or written is no error: modules are then compiled each time.
 *
 * Of processes and threads that want the same module at once, one compiles it and the others wait and load what it has stored; a
 * lock in the folder, which ends with its holder. Where it cannot store, or takes too long, nobody waits for it. sl_module_get() thus
 * blocks, for as long as a compilation takes: never on an event loop. Any thread.
 */
#ifndef SL_CACHE_H
#define SL_CACHE_H

#include "engine.h"
#include "sl_digest.h"

typedef void (*sl_cache_log_fn)(void *ud, const char *text); /* one line, no newline */

/* Creates the folder (mode 0700) when it is missing. NULL only without memory. `log` may be NULL. */
sl_cache_t *sl_cache_new(const char *folder, sl_cache_log_fn log, void *ud);
void sl_cache_free(sl_cache_t *cache);

typedef struct {
    uint64_t max_bytes; /* of all files; 0: as many as there are [1 GiB] */
    uint64_t max_age_s; /* of a file since it was last loaded; 0: as old as it gets [30 days] */
    uint32_t wait_ms;   /* for another's compilation; 0: the default [2 minutes] */
} sl_cache_limits_t;
/* In place of the defaults above; before the cache is used. */
void sl_cache_limit(sl_cache_t *cache, const sl_cache_limits_t *limits);

/*
 * Removes what is over the limits, what was loaded longest ago first, and leaves what was used within the last two minutes. A file stays
 * while a module that was loaded from it lives, in any process. Blocks. For whoever has loaded all it needs.
 */
void sl_cache_prune(sl_cache_t *cache);

/* Counters since new, for tests and operators. */
typedef struct {
    uint64_t hits, misses, rejected, stored;
    uint64_t waited;  /* hits after another had compiled */
    uint64_t removed; /* by pruning */
} sl_cache_stats_t;
sl_cache_stats_t sl_cache_stats(const sl_cache_t *cache);

/* Deletes what this engine made of a module. Whoever has it mapped keeps it; whoever asks for it again compiles it again. */
void sl_cache_drop(sl_cache_t *cache, sl_engine_t *engine, const uint8_t module_sha256[SL_SHA256_SIZE]);

/* Deletes the code of modules, any engine's, that `keep` does not want, nobody uses, and that has been there for `age_s` seconds. */
void sl_cache_sweep(sl_cache_t *cache, unsigned age_s, bool (*keep)(void *ud, const uint8_t module_sha256[SL_SHA256_SIZE]), void *ud);

#endif
