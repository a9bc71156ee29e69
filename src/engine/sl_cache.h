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
#include "sl_digest.h"

typedef void (*sl_cache_log_fn)(void *ud, const char *text); /* one line, no newline */

/* Creates the folder (mode 0700) when it is missing. NULL only without memory. `log` may be NULL. */
sl_cache_t *sl_cache_new(const char *folder, sl_cache_log_fn log, void *ud);
void sl_cache_free(sl_cache_t *cache);

/* Counters since new, for tests and operators. */
typedef struct {
    uint64_t hits, misses, rejected, stored;
} sl_cache_stats_t;
sl_cache_stats_t sl_cache_stats(const sl_cache_t *cache);

/* Deletes what this engine made of a module. Whoever has it mapped keeps it; whoever asks for it again compiles it again. */
void sl_cache_drop(sl_cache_t *cache, sl_engine_t *engine, const uint8_t module_sha256[SL_SHA256_SIZE]);

/* Deletes the code of modules, any engine's, that `keep` does not want and that has been there for `age_s` seconds. */
void sl_cache_sweep(sl_cache_t *cache, unsigned age_s, bool (*keep)(void *ud, const uint8_t module_sha256[SL_SHA256_SIZE]), void *ud);

#endif
