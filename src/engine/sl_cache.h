/*
 * Compiled code on disk, keyed by engine fingerprint and the module's SHA-256. One file per module, mapped by every process.
 *
 * Trust: compiled code is run as it is, so a file is used only when the folder and the file belong to the effective user and
 * nobody else may write them, and when the digest at its end matches the code. Anything else (damaged, cut, foreign, another
 * engine's) is ignored, reported to `log`, and rebuilt. What is checked is the open file that is then mapped. A cache whose folder cannot
 * be made or written is no error: modules are then compiled each time.
 */
#ifndef SL_CACHE_H
#define SL_CACHE_H

#include "engine.h"

typedef void (*sl_cache_log_fn)(void *ud, const char *text); /* one line, no newline */

/* Creates the folder (mode 0700) when it is missing. NULL only without memory. `log` may be NULL. */
sl_cache_t *sl_cache_new(const char *folder, sl_cache_log_fn log, void *ud);
void sl_cache_free(sl_cache_t *cache);

/* Counters since new, for tests and operators. */
typedef struct {
    uint64_t hits, misses, rejected, stored;
} sl_cache_stats_t;
sl_cache_stats_t sl_cache_stats(const sl_cache_t *cache);

#endif
