#include "sl_dump.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define PREFIX "trap-"
#define SUFFIX ".dump"
#define LISTED_MAX 65536

/* A run of pages that are not zero. */
typedef struct {
    size_t at, len; /* in memory */
} run_t;

struct sl_dump_s {
    char *text;
    size_t text_len;
    size_t memory_len; /* of what is in the dump */
    size_t whole_len;
    run_t *runs;
    size_t n_runs;
    char *bytes; /* of all runs */
    size_t n_bytes;
};

/* ---- copying ---- */

static bool is_zero(const char *page, size_t len) {
    return page[0] == 0 && memcmp(page, page + 1, len - 1) == 0;
}

static size_t page_at(sl_str_t memory, size_t at) {
    return memory.len - at < PAGE ? memory.len - at : PAGE;
}

static run_t *add_run(sl_dump_t *d, size_t *room, size_t at) {
    if (d->n_runs == *room) {
        *room = *room != 0 ? *room * 2 : 64;
        run_t *more = realloc(d->runs, *room * sizeof(*d->runs));
        if (more == NULL) {
            return NULL;
        }
        d->runs = more;
    }
    d->runs[d->n_runs] = (run_t){at, 0};
    return &d->runs[d->n_runs++];
}

/* One look at each page. What of the room for bytes is never needed is never touched, and costs nothing. */
static bool copy_memory(sl_dump_t *d, sl_str_t memory) {
    size_t most = memory.len < SL_DUMP_COPIED_MAX ? memory.len : SL_DUMP_COPIED_MAX, room = 0;
    run_t *run = NULL;
    d->whole_len = d->memory_len = memory.len;
    d->bytes = malloc(most + 1);
    if (d->bytes == NULL) {
        return false;
    }
    for (size_t at = 0; at < memory.len; at += PAGE) {
        size_t len = page_at(memory, at);
        if (is_zero(memory.data + at, len)) {
            run = NULL;
            continue;
        }
        if (len > most - d->n_bytes) {
            d->memory_len = at;
            return true;
        }
        run = run != NULL ? run : add_run(d, &room, at);
        if (run == NULL) {
            return false;
        }
        memcpy(d->bytes + d->n_bytes, memory.data + at, len);
        d->n_bytes += len;
        run->len += len;
    }
    return true;
}

sl_dump_t *sl_dump_new(sl_str_t text, sl_str_t memory) {
    sl_dump_t *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return NULL;
    }
    d->text = malloc(text.len + 1);
    if (d->text == NULL || !copy_memory(d, memory)) {
        sl_dump_free(d);
        return NULL;
    }
    if (text.len != 0) {
        memcpy(d->text, text.data, text.len);
    }
    d->text_len = text.len;
    return d;
}

void sl_dump_free(sl_dump_t *d) {
    if (d != NULL) {
        free(d->text);
        free(d->runs);
        free(d->bytes);
        free(d);
    }
}

/* ---- the folder ---- */

typedef struct {
    char name[SL_DUMP_NAME];
    uint64_t bytes;
} old_t;

static bool is_dump(const char *name) {
    size_t len = strlen(name);
    return len < SL_DUMP_NAME && len > sizeof(PREFIX SUFFIX) && strncmp(name, PREFIX, sizeof(PREFIX) - 1) == 0 &&
           strcmp(name + len - (sizeof(SUFFIX) - 1), SUFFIX) == 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const old_t *)a)->name, ((const old_t *)b)->name);
}

/* Sorted, the oldest first. false: no memory. */
static bool list(DIR *dir, old_t **out, size_t *n) {
    size_t room = 0;
    struct dirent *entry;
    *out = NULL;
    *n = 0;
    while ((entry = readdir(dir)) != NULL && *n < LISTED_MAX) {
        struct stat st;
        if (!is_dump(entry->d_name) || fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) {
            continue;
        }
        if (*n == room) {
            room = room != 0 ? room * 2 : 32;
            old_t *more = realloc(*out, room * sizeof(**out));
            if (more == NULL) {
                free(*out);
                return false;
            }
            *out = more;
        }
        old_t *old = &(*out)[(*n)++];
        memcpy(old->name, entry->d_name, strlen(entry->d_name) + 1); /* it fits, is_dump() has seen */
        old->bytes = (uint64_t)st.st_blocks * 512;
    }
    if (*n != 0) {
        qsort(*out, *n, sizeof(**out), by_name);
    }
    return true;
}

/* Others may do the same at the same time: what is gone already is no error. */
static bool make_room(DIR *dir, const sl_dumps_t *where, uint64_t bytes) {
    old_t *olds;
    size_t n, first = 0;
    uint64_t total = bytes;
    if (!list(dir, &olds, &n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        total += olds[i].bytes;
    }
    while (first < n && (n - first >= where->max_files || total > where->max_bytes)) {
        unlinkat(dirfd(dir), olds[first].name, 0);
        total -= olds[first++].bytes;
    }
    free(olds);
    return true;
}

/* ---- writing ---- */

static bool write_all(int fd, const char *data, size_t len, off_t at) {
    while (len != 0) {
        ssize_t n = pwrite(fd, data, len, at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        data += n;
        len -= (size_t)n;
        at += n;
    }
    return true;
}

static bool write_memory(int fd, const sl_dump_t *d, off_t begin) {
    const char *from = d->bytes;
    for (size_t i = 0; i < d->n_runs; i++) {
        if (!write_all(fd, from, d->runs[i].len, begin + (off_t)d->runs[i].at)) {
            return false;
        }
        from += d->runs[i].len;
    }
    return ftruncate(fd, begin + (off_t)d->memory_len) == 0;
}

static bool write_dump(int fd, const sl_dump_t *d, bool with_memory) {
    char line[128];
    size_t memory_len = with_memory ? d->memory_len : 0;
    int len = memory_len == d->whole_len
                  ? snprintf(line, sizeof(line), "memory: %zu\n\n", memory_len)
                  : snprintf(line, sizeof(line), "left out: the rest of %zu bytes\nmemory: %zu\n\n", d->whole_len, memory_len);
    size_t end = d->text_len + (size_t)len;
    return write_all(fd, d->text, d->text_len, 0) && write_all(fd, line, (size_t)len, (off_t)d->text_len) &&
           (!with_memory || write_memory(fd, d, (off_t)((end + PAGE - 1) / PAGE * PAGE)));
}

static void make_name(char name[SL_DUMP_NAME]) {
    static atomic_uint turn;
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t len = strftime(name, SL_DUMP_NAME, PREFIX "%Y%m%dT%H%M%S", &tm);
    snprintf(name + len, SL_DUMP_NAME - len, ".%06ldZ-%d-%u" SUFFIX, now.tv_nsec / 1000, (int)getpid(), atomic_fetch_add(&turn, 1) % 1000);
}

sl_status_t sl_dump_write(const sl_dump_t *d, const sl_dumps_t *where, char name[SL_DUMP_NAME], sl_err_t *err) {
    uint64_t bytes = (uint64_t)d->text_len + 2 * PAGE + d->n_bytes;
    bool with_memory = bytes <= where->max_bytes;
    DIR *dir = opendir(where->folder);
    if (dir == NULL) {
        return sl_err_set(err, SL_IO, "%s: %s", where->folder, strerror(errno));
    }
    make_name(name);
    int fd = make_room(dir, where, with_memory ? bytes : (uint64_t)d->text_len + PAGE)
                 ? openat(dirfd(dir), name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)
                 : -1;
    if (fd < 0) {
        int error = errno;
        closedir(dir);
        return sl_err_set(err, SL_IO, "%s/%s: %s", where->folder, name, strerror(error));
    }
    sl_status_t rc = SL_OK;
    if (!write_dump(fd, d, with_memory)) {
        rc = sl_err_set(err, SL_IO, "%s/%s: %s", where->folder, name, strerror(errno));
        unlinkat(dirfd(dir), name, 0);
    }
    close(fd);
    closedir(dir);
    return rc;
}

/* ---- reading ---- */

static sl_status_t no_dump(sl_err_t *err, const char *why) {
    return sl_err_set(err, SL_INVALID, "it is no trap dump: %s", why);
}

static bool read_all(int fd, char *to, size_t len, off_t at) {
    while (len != 0) {
        ssize_t n = pread(fd, to, len, at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        to += n;
        len -= (size_t)n;
        at += n;
    }
    return true;
}

/* Digits and nothing else, to the end of the text. */
static bool number_at_end(sl_str_t text, uint64_t *out) {
    static const char label[] = "\nmemory: ";
    const char *at = text.data + text.len;
    uint64_t value = 0, unit = 1;
    size_t digits = 0;
    for (; digits < text.len && at[-1] >= '0' && at[-1] <= '9'; at--, digits++, unit *= 10) {
        if (digits == 15) {
            return false;
        }
        value += (uint64_t)(at[-1] - '0') * unit;
    }
    *out = value;
    return digits != 0 && text.len - digits >= sizeof(label) - 1 && memcmp(at - (sizeof(label) - 1), label, sizeof(label) - 1) == 0;
}

/* What stands before the empty line. */
static sl_status_t read_text(int fd, uint64_t size, sl_buf_t *text, sl_err_t *err) {
    size_t most = size < text->max ? (size_t)size : text->max;
    if (sl_buf_reserve(text, most) != SL_OK) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    if (!read_all(fd, text->data, most, 0)) {
        return sl_err_set(err, SL_IO, "%s", strerror(errno));
    }
    if (most < sizeof(SL_DUMP_HEAD) - 1 || memcmp(text->data, SL_DUMP_HEAD, sizeof(SL_DUMP_HEAD) - 1) != 0) {
        return no_dump(err, "it does not begin as one");
    }
    const char *end = memmem(text->data, most, "\n\n", 2);
    if (end == NULL) {
        return no_dump(err, "its text has no end");
    }
    text->len = (size_t)(end - text->data);
    return SL_OK;
}

sl_status_t sl_dump_read(int fd, sl_buf_t *text, sl_dump_memory_t *memory, sl_err_t *err) {
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return no_dump(err, "it is no file");
    }
    uint64_t size = (uint64_t)st.st_size;
    sl_buf_reset(text);
    sl_status_t rc = read_text(fd, size, text, err);
    if (rc != SL_OK) {
        return rc;
    }
    if (!number_at_end(sl_buf_str(text), &memory->len)) {
        return no_dump(err, "it does not say how much memory follows");
    }
    memory->at = text->len + 2;
    if (memory->len != 0) {
        memory->at = (memory->at + PAGE - 1) / PAGE * PAGE;
    }
    if (size < memory->at || size - memory->at != memory->len) {
        return sl_err_set(err, SL_INVALID, "it is damaged: %llu bytes of memory are announced, %llu are there",
                          (unsigned long long)memory->len, (unsigned long long)(size < memory->at ? 0 : size - memory->at));
    }
    return SL_OK;
}

sl_status_t sl_dump_extract(int fd, const sl_dump_memory_t *memory, int to, sl_err_t *err) {
    char bytes[16 * PAGE];
    for (uint64_t at = 0; at < memory->len; at += sizeof(bytes)) {
        size_t len = memory->len - at < sizeof(bytes) ? (size_t)(memory->len - at) : sizeof(bytes);
        if (!read_all(fd, bytes, len, (off_t)(memory->at + at))) {
            return sl_err_set(err, SL_IO, "the dump cannot be read: %s", strerror(errno));
        }
        if (!is_zero(bytes, len) && !write_all(to, bytes, len, (off_t)at)) {
            return sl_err_set(err, SL_IO, "%s", strerror(errno));
        }
    }
    return ftruncate(to, (off_t)memory->len) == 0 ? SL_OK : sl_err_set(err, SL_IO, "%s", strerror(errno));
}
