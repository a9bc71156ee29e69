#include "cache_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sl_types.h"

#define LOCK_SUFFIX ".lock"
#define PRUNE_LOCK "prune" LOCK_SUFFIX
#define YOUNG_S 120
#define LEFT_S 3600 /* a file under way that nobody has written to for so long never will be complete */

enum { USELESS_MODE = 0400, LOCK_MODE = 0600 };
enum { NAP_MIN_MS = 1, NAP_MAX_MS = 20 };

/* ---- one compiles ----------------------------------------------------------------------------------------------------- */

static uint64_t now_ms(void) {
    struct timespec t = {.tv_sec = 0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void nap(uint32_t ms) {
    struct timespec t = {.tv_nsec = (long)ms * 1000000};
    nanosleep(&t, NULL);
}

static int open_lock(int folder, const char *name) {
    return openat(folder, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, LOCK_MODE);
}

/* 1: locked; 0: not within the time; -1: this cannot be locked. */
static int take(int fd, uint64_t until, bool *waited) {
    for (uint32_t ms = NAP_MIN_MS; flock(fd, LOCK_EX | LOCK_NB) != 0; ms = ms < NAP_MAX_MS ? 2 * ms : ms) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return -1;
        }
        if (now_ms() >= until) {
            return 0;
        }
        *waited = true;
        nap(ms);
    }
    return 1;
}

sl_cache_turn_t sl_cache_lock(int folder, const char *name, uint32_t wait_ms, sl_cache_lock_t *out) {
    uint64_t until = now_ms() + wait_ms;
    bool waited = false;
    struct stat st;
    *out = (sl_cache_lock_t){.folder = folder, .fd = -1};
    if (snprintf(out->name, sizeof(out->name), "%s" LOCK_SUFFIX, name) >= (int)sizeof(out->name)) {
        return SL_CACHE_NONE;
    }
    for (;;) {
        int fd = open_lock(folder, out->name);
        if (fd < 0 || take(fd, until, &waited) != 1 || fstat(fd, &st) != 0) {
            if (fd >= 0) {
                close(fd);
            }
            return SL_CACHE_NONE;
        }
        if (st.st_nlink != 0) {
            out->fd = fd;
            return waited ? SL_CACHE_WAITED : SL_CACHE_MINE;
        }
        close(fd); /* its holder is done, and has taken the name away */
        waited = true;
        if ((st.st_mode & 0777) == USELESS_MODE) {
            return SL_CACHE_USELESS;
        }
    }
}

void sl_cache_unlock(sl_cache_lock_t *lock, bool useless) {
    if (lock->fd < 0) {
        return;
    }
    if (useless) { /* those who wait have this very file open; the mode needs no room on the disk */
        (void)fchmod(lock->fd, USELESS_MODE);
    }
    unlinkat(lock->folder, lock->name, 0);
    flock(lock->fd, LOCK_UN); /* a child may have inherited it */
    close(lock->fd);
    lock->fd = -1;
}

/* ---- what is in service --------------------------------------------------------------------------------------------------- */

bool sl_cache_hold(int fd) {
    struct stat st;
    while (flock(fd, LOCK_SH) != 0) { /* pruning has it for an instant */
        if (errno != EINTR) {
            return true; /* no locks here: then nothing is removed either */
        }
    }
    if (fstat(fd, &st) != 0 || st.st_nlink == 0) {
        return false;
    }
    if (time(NULL) - st.st_mtime > YOUNG_S / 2) {
        (void)futimens(fd, NULL);
    }
    return true;
}

/* ---- pruning ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    char name[96];
    uint64_t bytes;
    int64_t used_s;
} file_t;

typedef struct {
    file_t *list;
    size_t n, cap;
} files_t;

static int by_use(const void *a, const void *b) {
    const file_t *x = a, *y = b;
    return x->used_s != y->used_s ? (x->used_s < y->used_s ? -1 : 1) : strcmp(x->name, y->name);
}

static bool add_file(files_t *f, sl_str_t name, const struct stat *st) {
    if (f->n == f->cap) {
        size_t cap = f->cap == 0 ? 64 : 2 * f->cap;
        file_t *list = realloc(f->list, cap * sizeof(*list));
        if (list == NULL) {
            return false;
        }
        f->list = list;
        f->cap = cap;
    }
    file_t *file = &f->list[f->n++];
    *file = (file_t){.bytes = (uint64_t)st->st_size, .used_s = (int64_t)st->st_mtime};
    memcpy(file->name, name.data, name.len);
    return true;
}

bool sl_cache_remove_unused(int folder, const char *name) {
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool removed = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(folder, name, 0) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return removed;
}

/* Locks of the dead, files that were never completed. */
static bool is_left_over(sl_str_t name, int64_t age_s) {
    bool tmp = memmem(name.data, name.len, SL_CACHE_SUFFIX ".tmp-", strlen(SL_CACHE_SUFFIX ".tmp-")) != NULL;
    bool lock = sl_str_ends(name, SL_STR(LOCK_SUFFIX)) && !sl_str_eq(name, SL_STR(PRUNE_LOCK));
    return (tmp || lock) && age_s > LEFT_S;
}

static bool look_at(int folder, const char *name, int64_t now_s, files_t *files) {
    struct stat st;
    sl_str_t text = sl_cstr(name);
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) {
        return true;
    }
    if (is_left_over(text, now_s - (int64_t)st.st_mtime)) {
        sl_cache_remove_unused(folder, name);
        return true;
    }
    return !sl_str_ends(text, SL_STR(SL_CACHE_SUFFIX)) || text.len >= sizeof(files->list->name) || add_file(files, text, &st);
}

static bool list_files(int folder, int64_t now_s, files_t *files) {
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    bool ok = dir != NULL;
    if (dir == NULL) {
        if (copy >= 0) {
            close(copy);
        }
        return false;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL && ok; entry = readdir(dir)) {
        ok = look_at(folder, entry->d_name, now_s, files);
    }
    closedir(dir);
    return ok;
}

static void remove_some(int folder, files_t *files, uint64_t max_bytes, uint64_t max_age_s, int64_t now_s, sl_cache_pruned_t *out) {
    for (size_t i = 0; i < files->n; i++) {
        out->kept_bytes += files->list[i].bytes;
    }
    out->kept = (uint32_t)files->n;
    for (size_t i = 0; i < files->n; i++) { /* the one that was loaded longest ago comes first */
        const file_t *f = &files->list[i];
        int64_t age_s = now_s - f->used_s;
        bool old = max_age_s != 0 && age_s > 0 && (uint64_t)age_s > max_age_s, too_much = max_bytes != 0 && out->kept_bytes > max_bytes;
        if (age_s < YOUNG_S || (!old && !too_much)) {
            return; /* nor those after it */
        }
        if (sl_cache_remove_unused(folder, f->name)) {
            out->kept--;
            out->removed++;
            out->kept_bytes -= f->bytes;
            out->removed_bytes += f->bytes;
        }
    }
}

bool sl_cache_prune_folder(int folder, uint64_t max_bytes, uint64_t max_age_s, sl_cache_pruned_t *out) {
    files_t files = {0};
    int64_t now_s = (int64_t)time(NULL);
    *out = (sl_cache_pruned_t){0};
    int lock = open_lock(folder, PRUNE_LOCK);
    bool ok = lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0 && list_files(folder, now_s, &files);
    if (ok && files.n != 0) {
        qsort(files.list, files.n, sizeof(*files.list), by_use);
        remove_some(folder, &files, max_bytes, max_age_s, now_s, out);
    }
    free(files.list);
    if (lock >= 0) {
        close(lock);
    }
    return ok;
}
