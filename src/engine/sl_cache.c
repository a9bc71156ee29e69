#include "sl_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache_files.h"
#include "engine_ops.h"
#include "sl_digest.h"
#include "sl_file.h"

/*
 * A file is  | compiled code ... | trailer |.  The code comes first so that the engine can map the file as it is.
 * Every byte of the trailer is compared with what it must be, every byte of the code goes into the digest.
 */
typedef struct {
    char magic[8];
    uint64_t code_bytes;
    uint8_t code_sha256[SL_SHA256_SIZE];
    uint8_t module_sha256[SL_SHA256_SIZE];
    uint8_t fingerprint_sha256[SL_SHA256_SIZE];
} trailer_t;

static const char magic[8] = {'S', 'L', 'C', 'O', 'D', 'E', '0', '1'};

#define NAME_SIZE (2 * SL_SHA256_SIZE + sizeof(SL_CACHE_SUFFIX))

#define DEFAULT_MAX_BYTES ((uint64_t)1 << 30)
#define DEFAULT_MAX_AGE_S ((uint64_t)30 * 24 * 3600)
#define DEFAULT_WAIT_MS 120000

struct sl_cache_s {
    char *folder;
    sl_cache_log_fn log;
    void *ud;
    sl_cache_limits_t limits;
    atomic_uint_fast64_t hits, misses, rejected, stored, waited, removed;
    atomic_bool told_full;
};

/* What one call of sl_module_get works on. */
typedef struct {
    sl_engine_t *engine;
    sl_cache_t *cache;
    sl_str_t bytes;
    trailer_t wanted; /* code_bytes and code_sha256 are the file's to say */
    char name[NAME_SIZE];
} entry_t;

static void report(sl_cache_t *cache, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void report(sl_cache_t *cache, const char *fmt, ...) {
    char text[PATH_MAX + 512];
    va_list ap;
    if (cache->log == NULL) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    cache->log(cache->ud, text);
}

sl_cache_t *sl_cache_new(const char *folder, sl_cache_log_fn log, void *ud) {
    sl_cache_t *cache = calloc(1, sizeof(*cache));
    char *copy = strdup(folder);
    sl_err_t err;
    if (cache == NULL || copy == NULL) {
        free(copy);
        free(cache);
        return NULL;
    }
    cache->folder = copy;
    cache->log = log;
    cache->ud = ud;
    cache->limits = (sl_cache_limits_t){.max_bytes = DEFAULT_MAX_BYTES, .max_age_s = DEFAULT_MAX_AGE_S, .wait_ms = DEFAULT_WAIT_MS};
    if (sl_dir_make(folder, 0700, &err) != SL_OK) {
        report(cache, "cache of compiled code: %s; modules are compiled each time", err.text);
    }
    return cache;
}

void sl_cache_free(sl_cache_t *cache) {
    if (cache != NULL) {
        free(cache->folder);
        free(cache);
    }
}

sl_cache_stats_t sl_cache_stats(const sl_cache_t *cache) {
    return (sl_cache_stats_t){.hits = cache->hits,
                              .misses = cache->misses,
                              .rejected = cache->rejected,
                              .stored = cache->stored,
                              .waited = cache->waited,
                              .removed = cache->removed};
}

void sl_cache_limit(sl_cache_t *cache, const sl_cache_limits_t *limits) {
    cache->limits = *limits;
    cache->limits.wait_ms = limits->wait_ms != 0 ? limits->wait_ms : DEFAULT_WAIT_MS;
}

/* ---- trust ------------------------------------------------------------------------------------------------------ */

/* Whether nobody but us could have written it. */
static bool ours_alone(const struct stat *st) {
    return st->st_uid == geteuid() && (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* The folder, open; -1 when there is none or when it cannot be trusted (which is reported). */
static int open_folder(sl_cache_t *cache) {
    int fd = open(cache->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (fd < 0) {
        return -1;
    }
    if (fstat(fd, &st) == 0 && ours_alone(&st)) {
        return fd;
    }
    report(cache, "cache of compiled code: %s: not used, the folder must belong to user %ld and be writable by that user only",
           cache->folder, (long)geteuid());
    close(fd);
    return -1;
}

static const char *distrust_file(int fd, struct stat *st) {
    if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode)) {
        return "not a regular file";
    }
    if (!ours_alone(st)) {
        return "others own it or may write it";
    }
    return (uintmax_t)st->st_size < sizeof(trailer_t) || (uintmax_t)st->st_size > SIZE_MAX / 2 ? "cut short" : NULL;
}

static const char *distrust_content(const entry_t *e, sl_str_t file) {
    trailer_t found;
    uint8_t sha256[SL_SHA256_SIZE];
    sl_str_t code = sl_str(file.data, file.len - sizeof(found));
    memcpy(&found, file.data + code.len, sizeof(found));
    if (memcmp(found.magic, magic, sizeof(magic)) != 0 || found.code_bytes != code.len) {
        return "damaged: it does not end as it should";
    }
    if (memcmp(found.fingerprint_sha256, e->wanted.fingerprint_sha256, SL_SHA256_SIZE) != 0) {
        return "made by another engine";
    }
    if (memcmp(found.module_sha256, e->wanted.module_sha256, SL_SHA256_SIZE) != 0) {
        return "made of another module";
    }
    if (sl_sha256(code, sha256) != SL_OK || memcmp(found.code_sha256, sha256, sizeof(sha256)) != 0) {
        return "damaged: the digest of the code differs";
    }
    return NULL;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static const char GONE[] = "removed";

static const char *use_mapped(const entry_t *e, int fd, sl_str_t file, sl_module_t **out) {
    const char *why = distrust_content(e, file);
    if (why != NULL) {
        return why;
    }
    sl_precompiled_t code = {.code = sl_str(file.data, file.len - sizeof(trailer_t)), .fd = fd};
    return sl_module_open(e->engine, e->bytes, e->wanted.module_sha256, &code, out, NULL) == SL_OK ? NULL : "the engine does not take it";
}

/* NULL: *out is the module. Otherwise why not. */
static const char *use_file(const entry_t *e, int fd, sl_module_t **out) {
    struct stat st;
    const char *why = distrust_file(fd, &st);
    if (why != NULL) {
        return why;
    }
    if (!sl_cache_hold(fd)) {
        return GONE;
    }
    size_t size = (size_t)st.st_size;
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        return "cannot be mapped";
    }
    why = use_mapped(e, fd, sl_str(map, size), out);
    munmap(map, size);
    return why;
}

static sl_status_t load(const entry_t *e, sl_module_t **out) {
    int folder = open_folder(e->cache);
    if (folder < 0) {
        return SL_NOT_FOUND;
    }
    /* NONBLOCK: a pipe in our place is refused, not waited for. */
    int fd = openat(folder, e->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int why_not_open = errno;
    close(folder);
    if (fd < 0 && why_not_open == ENOENT) {
        return SL_NOT_FOUND;
    }
    const char *why = fd < 0 ? strerror(why_not_open) : use_file(e, fd, out);
    if (why == NULL) {
        (*out)->code_fd = fd; /* has the lock that keeps the file */
        return SL_OK;
    }
    if (fd >= 0) {
        close(fd);
    }
    if (why == GONE) {
        return SL_NOT_FOUND;
    }
    e->cache->rejected++;
    report(e->cache, "cache of compiled code: %s/%s: not used, %s; the module is compiled again", e->cache->folder, e->name, why);
    return SL_INVALID;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static sl_status_t write_code(void *ud, sl_str_t code, sl_err_t *err) {
    const entry_t *e = ud;
    trailer_t trailer = e->wanted;
    trailer.code_bytes = code.len;
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%s", e->cache->folder, e->name) >= (int)sizeof(path)) {
        return sl_err_set(err, SL_INVALID, "%s: path too long", e->cache->folder);
    }
    if (sl_sha256(code, trailer.code_sha256) != SL_OK) {
        return sl_err_set(err, SL_FAILED, "%s: no digest", path);
    }
    sl_buf_t file;
    sl_buf_init(&file, code.len + sizeof(trailer));
    sl_buf_append_str(&file, code);
    sl_buf_append(&file, &trailer, sizeof(trailer));
    sl_status_t rc =
        file.failed ? sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", path) : sl_file_write_atomic(path, sl_buf_str(&file), 0600, err);
    sl_buf_deinit(&file);
    return rc;
}

static sl_status_t store(entry_t *e, sl_module_t *m) {
    int folder = open_folder(e->cache);
    if (folder < 0) {
        return SL_IO;
    }
    close(folder);
    sl_err_t err;
    sl_status_t rc = e->engine->ops->module_serialize(m, write_code, e, &err);
    if (rc != SL_OK) {
        report(e->cache, "cache of compiled code: %s; the module is used as it is, and compiled again by whoever needs it next", err.text);
        return rc;
    }
    e->cache->stored++;
    return SL_OK;
}

/* ---- both ------------------------------------------------------------------------------------------------------- */

/* The name of the file, of the digests that are in `e` already. */
static sl_status_t entry_name(entry_t *e) {
    uint8_t both[2 * SL_SHA256_SIZE], key[SL_SHA256_SIZE];
    memcpy(both, e->wanted.fingerprint_sha256, SL_SHA256_SIZE);
    memcpy(both + SL_SHA256_SIZE, e->wanted.module_sha256, SL_SHA256_SIZE);
    if (sl_sha256(sl_str(both, sizeof(both)), key) != SL_OK) {
        return SL_FAILED;
    }
    sl_hex(key, sizeof(key), e->name);
    memcpy(e->name + 2 * sizeof(key), SL_CACHE_SUFFIX, sizeof(SL_CACHE_SUFFIX));
    return SL_OK;
}

static sl_status_t entry_init(entry_t *e, sl_engine_t *engine, sl_cache_t *cache, sl_str_t bytes) {
    memset(e, 0, sizeof(*e));
    e->engine = engine;
    e->cache = cache;
    e->bytes = bytes;
    memcpy(e->wanted.magic, magic, sizeof(magic));
    if (sl_sha256(bytes, e->wanted.module_sha256) != SL_OK ||
        sl_sha256(sl_engine_fingerprint(engine), e->wanted.fingerprint_sha256) != SL_OK) {
        return SL_FAILED;
    }
    return entry_name(e);
}

/* *stored: others find it now. */
static sl_status_t compile_and_store(entry_t *e, bool *stored, sl_module_t **out, sl_err_t *err) {
    sl_module_t *mapped;
    e->cache->misses++;
    sl_status_t rc = sl_module_open(e->engine, e->bytes, e->wanted.module_sha256, NULL, out, err);
    if (rc != SL_OK || store(e, *out) != SL_OK) {
        return rc;
    }
    *stored = true;
    /* The pages of the file are shared with every process that maps it; those of the compiler's output would be ours alone. */
    if (load(e, &mapped) == SL_OK) {
        sl_module_unref(*out);
        *out = mapped;
    }
    return SL_OK;
}

/* `looked`: what the first look at the file had found. */
static sl_status_t in_turn(entry_t *e, sl_status_t looked, sl_cache_turn_t turn, bool *stored, sl_module_t **out, sl_err_t *err) {
    bool changed = turn == SL_CACHE_WAITED || looked == SL_NOT_FOUND;
    if (changed && load(e, out) == SL_OK) {
        *stored = true;
        e->cache->hits++;
        e->cache->waited += turn == SL_CACHE_WAITED;
        return SL_OK;
    }
    return compile_and_store(e, stored, out, err);
}

static sl_status_t compile_one(entry_t *e, sl_status_t looked, sl_module_t **out, sl_err_t *err) {
    sl_cache_lock_t lock = {.fd = -1};
    sl_cache_turn_t turn = SL_CACHE_NONE;
    bool stored = false;
    int folder = open_folder(e->cache);
    if (folder >= 0) {
        turn = sl_cache_lock(folder, e->name, e->cache->limits.wait_ms, &lock);
    }
    sl_status_t rc = in_turn(e, looked, turn, &stored, out, err);
    /* Who gets no module gets none from the others either. */
    sl_cache_unlock(&lock, !stored);
    if (folder >= 0) {
        close(folder);
    }
    return rc;
}

sl_status_t sl_module_get(sl_engine_t *engine, sl_cache_t *cache, sl_str_t bytes, sl_module_t **out, sl_err_t *err) {
    entry_t e;
    if (cache == NULL || engine->ops->module_serialize == NULL || entry_init(&e, engine, cache, bytes) != SL_OK) {
        return sl_module_compile(engine, bytes, out, err);
    }
    sl_status_t rc = load(&e, out);
    if (rc == SL_OK) {
        cache->hits++;
        return SL_OK;
    }
    return compile_one(&e, rc, out, err);
}

/* ---- what is kept ------------------------------------------------------------------------------------------------------- */

void sl_cache_prune(sl_cache_t *cache) {
    sl_cache_pruned_t pruned;
    int folder = cache != NULL && (cache->limits.max_bytes != 0 || cache->limits.max_age_s != 0) ? open_folder(cache) : -1;
    if (folder < 0) {
        return;
    }
    bool done = sl_cache_prune_folder(folder, cache->limits.max_bytes, cache->limits.max_age_s, &pruned);
    close(folder);
    if (!done) {
        return;
    }
    cache->removed += pruned.removed;
    if (pruned.removed != 0) {
        report(cache, "cache of compiled code: %s: %u files with %" PRIu64 " bytes removed, %u with %" PRIu64 " kept", cache->folder,
               pruned.removed, pruned.removed_bytes, pruned.kept, pruned.kept_bytes);
    }
    if (cache->limits.max_bytes != 0 && pruned.kept_bytes > cache->limits.max_bytes && !atomic_exchange(&cache->told_full, true)) {
        report(cache, "cache of compiled code: %s: %" PRIu64 " bytes are in use, more than its ceiling of %" PRIu64 "; that is said once",
               cache->folder, pruned.kept_bytes, cache->limits.max_bytes);
    }
}

/* ---- deleting --------------------------------------------------------------------------------------------------- */

void sl_cache_drop(sl_cache_t *cache, sl_engine_t *engine, const uint8_t module_sha256[SL_SHA256_SIZE]) {
    entry_t e = {.engine = engine, .cache = cache};
    memcpy(e.wanted.module_sha256, module_sha256, SL_SHA256_SIZE);
    if (sl_sha256(sl_engine_fingerprint(engine), e.wanted.fingerprint_sha256) != SL_OK || entry_name(&e) != SL_OK) {
        return;
    }
    int folder = open_folder(cache);
    if (folder >= 0) {
        (void)unlinkat(folder, e.name, 0);
        close(folder);
    }
}

/* Whose code a file is; false: it is young, or no such file. */
static bool old_code(int folder, const char *name, unsigned age_s, trailer_t *trailer) {
    struct stat st;
    struct timespec now;
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool old = clock_gettime(CLOCK_REALTIME, &now) == 0 && distrust_file(fd, &st) == NULL &&
               now.tv_sec - st.st_mtim.tv_sec >= (time_t)age_s &&
               pread(fd, trailer, sizeof(*trailer), st.st_size - (off_t)sizeof(*trailer)) == (ssize_t)sizeof(*trailer);
    close(fd);
    return old && memcmp(trailer->magic, magic, sizeof(magic)) == 0;
}

void sl_cache_sweep(sl_cache_t *cache, unsigned age_s, bool (*keep)(void *ud, const uint8_t module_sha256[SL_SHA256_SIZE]), void *ud) {
    trailer_t trailer;
    int folder = open_folder(cache);
    DIR *d = folder >= 0 ? fdopendir(folder) : NULL;
    if (d == NULL) {
        if (folder >= 0) {
            close(folder);
        }
        return;
    }
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        bool ours = strlen(e->d_name) == NAME_SIZE - 1 && strcmp(e->d_name + 2 * SL_SHA256_SIZE, SL_CACHE_SUFFIX) == 0;
        if (ours && old_code(folder, e->d_name, age_s, &trailer) && !keep(ud, trailer.module_sha256)) {
            (void)sl_cache_remove_unused(folder, e->d_name);
        }
    }
    closedir(d);
}
