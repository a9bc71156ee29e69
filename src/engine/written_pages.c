#include "written_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "linear_memory.h"

/* More private pages than this are given back to the kernel: an instance must not keep for ever what one large request needed. */
#define PRIVATE_PAGES_MAX 256

const char *sl_dirty_name(sl_dirty_t how) {
    static const char *const names[] = {"automatic", "write protection", "PAGEMAP_SCAN", "/proc/self/pagemap", "mapping anew"};
    return (size_t)how < sizeof(names) / sizeof(names[0]) ? names[how] : "?";
}

/* ---- /proc/self/pagemap --------------------------------------------------------------------------------------------- */

/* The file shows the memory of the process that opened it, so that a child needs one of its own. */
static atomic_int pagemap_fd = -1;

static void forget_pagemap(void) {
    int fd = atomic_exchange(&pagemap_fd, -1);
    if (fd >= 0) {
        close(fd);
    }
}

static void watch_forks(void) {
    pthread_atfork(NULL, NULL, forget_pagemap);
}

static int get_pagemap(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int fd = atomic_load(&pagemap_fd);
    if (fd >= 0) {
        return fd;
    }
    pthread_once(&once, watch_forks);
    fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int none = -1;
    if (fd >= 0 && !atomic_compare_exchange_strong(&pagemap_fd, &none, fd)) {
        close(fd);
        return none;
    }
    return fd;
}

typedef struct {
    uint8_t *base;
    const uint8_t *image;
    size_t size;
    uint32_t n_pages; /* copied so far */
} walk_t;

/* false: there are too many. */
static bool copy_back(walk_t *w, size_t offset, size_t bytes) {
    w->n_pages += (uint32_t)(bytes / SL_PAGE);
    if (w->n_pages > PRIVATE_PAGES_MAX) {
        return false;
    }
    memcpy(w->base + offset, w->image + offset, bytes);
    return true;
}

/* The file's pages come back at the next access. */
static bool let_go(const walk_t *w) {
    return madvise(w->base, w->size, MADV_DONTNEED) == 0;
}

/* Declared here because the headers of older distributions do not have it (linux/fs.h, since 6.7). */
typedef struct {
    uint64_t start, end, categories;
} region_t;
typedef struct {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
} scan_t;
#define SCAN_REQUEST _IOWR('f', 16, scan_t)
enum { IS_FILE = 1 << 2, IS_PRESENT = 1 << 3, IS_SWAPPED = 1 << 4 };

/* Pages that are there, or swapped out, and are not the file's. */
static bool scan(walk_t *w, int fd) {
    region_t found[128];
    uint64_t end = (uintptr_t)w->base + w->size;
    scan_t arg = {.size = sizeof(arg), .start = (uintptr_t)w->base, .end = end, .vec = (uintptr_t)found};
    arg.vec_len = sizeof(found) / sizeof(found[0]);
    arg.category_inverted = IS_FILE;
    arg.category_mask = IS_FILE;
    arg.category_anyof_mask = IS_PRESENT | IS_SWAPPED;
    arg.return_mask = IS_PRESENT | IS_SWAPPED;
    while (arg.start < end) {
        int n = ioctl(fd, SCAN_REQUEST, &arg);
        if (n < 0) {
            return false;
        }
        for (int i = 0; i < n; i++) {
            if (!copy_back(w, found[i].start - (uintptr_t)w->base, found[i].end - found[i].start)) {
                return let_go(w);
            }
        }
        if (arg.walk_end <= arg.start) {
            return false;
        }
        arg.start = arg.walk_end;
    }
    return true;
}

/* Bit 63: present, 62: swapped, 61: a page of the file (or shared). */
static bool is_written(uint64_t entry) {
    return (entry >> 62) != 0 && (entry >> 61 & 1) == 0;
}

static bool read_pagemap(walk_t *w, int fd) {
    uint64_t entries[2048]; /* of 8 MiB: one call for most guests */
    size_t n = w->size / SL_PAGE;
    for (size_t at = 0; at < n; at += sizeof(entries) / sizeof(entries[0])) {
        size_t part = n - at < sizeof(entries) / sizeof(entries[0]) ? n - at : sizeof(entries) / sizeof(entries[0]);
        off_t offset = (off_t)(((uintptr_t)w->base / SL_PAGE + at) * sizeof(entries[0]));
        if (pread(fd, entries, part * sizeof(entries[0]), offset) != (ssize_t)(part * sizeof(entries[0]))) {
            return false;
        }
        for (size_t i = 0; i < part; i++) {
            if (is_written(entries[i]) && !copy_back(w, (at + i) * SL_PAGE, SL_PAGE)) {
                return let_go(w);
            }
        }
    }
    return true;
}

bool sl_written_restore(sl_dirty_t how, uint8_t *base, const uint8_t *image, size_t size, uint32_t *n_pages) {
    walk_t w = {.base = base, .image = image, .size = size};
    int fd = how == SL_DIRTY_SCAN || how == SL_DIRTY_PAGEMAP ? get_pagemap() : -1;
    bool ok = fd >= 0 && (how == SL_DIRTY_SCAN ? scan(&w, fd) : read_pagemap(&w, fd));
    *n_pages = w.n_pages;
    return ok;
}

/* ---- write protection ------------------------------------------------------------------------------------------------- */

static bool (*first_write)(const void *at);
static struct sigaction before;

/* Somebody else's fault: the engine's handler, which makes a trap of it, or whoever was there. */
static void pass_on(int sig, siginfo_t *info, void *context) {
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(sig, info, context);
    } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
        signal(sig, SIG_DFL); /* the instruction is tried again, and ends the process */
    } else {
        before.sa_handler(sig);
    }
}

static void on_segv(int sig, siginfo_t *info, void *context) {
    int kept = errno;
    bool ours = info->si_code == SEGV_ACCERR && first_write(info->si_addr);
    errno = kept;
    if (!ours) {
        pass_on(sig, info, context);
    }
}

static void install(void) {
    struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &before);
}

void sl_signals_use(bool (*first)(const void *at)) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    first_write = first;
    pthread_once(&once, install);
}

bool sl_signals_are_used(void) {
    struct sigaction now;
    return sigaction(SIGSEGV, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_segv;
}

/*
 * A page is cold (protected), open (written in this use, and why its list `runs` exists) or hot (always writable, copied back each time).
 * A page that was open STREAK times becomes hot: times that were never more than SELDOM uses apart, or, in runs of many pages, where one
 * signal is for all of them, of uses in a row. Every AUDIT uses the hot ones are compared before they are copied; who was not written in
 * MISSES of them in a row becomes cold again. So a request pays for what requests usually write, and the first of a kind
 * for what it writes in addition.
 */
enum { COLD, OPEN, HOT };
enum { STREAK = 4, SELDOM = 16, SHORT_RUN = 4, AUDIT = 17, MISSES = 16, RUNS_MAX = 256, RUN_PAGES_MAX = 16, HINT_MAX = 255 };

typedef struct {
    uint8_t state;
    uint8_t streak;  /* times that it was open, close to each other */
    uint8_t last;    /* low bits of the number of the last of them */
    uint8_t misses;  /* hot: audits in a row that found it as it was */
    uint8_t hint;    /* pages that were written from here on, the last time that it was the first of a run */
    bool faulted;    /* open: written for certain, be it with what was there before */
    bool is_private; /* has been written since it was mapped: takes memory */
} page_t;

typedef struct {
    uint32_t first, n;
} run_t;

struct sl_pages_s {
    uint8_t *base;
    const uint8_t *image;
    uint32_t n;
    uint32_t uses;
    uint32_t n_hot, n_private;
    uint32_t *hot;
    uint32_t n_runs;
    bool overflow; /* everything is writable, what was written is not known */
    run_t runs[RUNS_MAX];
    page_t pages[];
};

sl_pages_t *sl_pages_new(uint8_t *base, const uint8_t *image, size_t n_pages) {
    if (n_pages > UINT32_MAX / 2) {
        return NULL;
    }
    sl_pages_t *p = calloc(1, sizeof(*p) + n_pages * sizeof(p->pages[0]));
    uint32_t *hot = calloc(n_pages + 1, sizeof(*hot));
    if (p == NULL || hot == NULL) {
        free(p);
        free(hot);
        return NULL;
    }
    p->base = base;
    p->image = image;
    p->n = (uint32_t)n_pages;
    p->hot = hot;
    return p;
}

void sl_pages_free(sl_pages_t *p) {
    if (p != NULL) {
        free(p->hot);
        free(p);
    }
}

static bool protect(const sl_pages_t *p, uint32_t first, uint32_t n, int prot) {
    return mprotect(p->base + (size_t)first * SL_PAGE, (size_t)n * SL_PAGE, prot) == 0;
}

/* No room to note more, or too many mappings for the kernel: one mapping again. */
static bool open_all(sl_pages_t *p) {
    p->overflow = true;
    return protect(p, 0, p->n, PROT_READ | PROT_WRITE);
}

/* How many pages to open at once: as many as last time, or twice as many as the run that ended right here. */
static uint32_t run_length(const sl_pages_t *p, uint32_t first) {
    uint32_t n = p->pages[first].hint;
    const run_t *last = p->n_runs != 0 ? &p->runs[p->n_runs - 1] : NULL;
    if (n == 0 && last != NULL && last->first + last->n == first) {
        n = 2 * last->n;
        n = n < RUN_PAGES_MAX ? n : RUN_PAGES_MAX;
    }
    uint32_t have = 1;
    while (have < n && first + have < p->n && p->pages[first + have].state == COLD) {
        have++;
    }
    return have;
}

bool sl_pages_open(sl_pages_t *p, size_t offset) {
    uint32_t first = (uint32_t)(offset / SL_PAGE);
    if (offset / SL_PAGE >= p->n || p->pages[first].state != COLD || p->overflow) {
        return false;
    }
    uint32_t n = run_length(p, first);
    if (p->n_runs == RUNS_MAX || !protect(p, first, n, PROT_READ | PROT_WRITE)) {
        return open_all(p);
    }
    for (uint32_t i = 0; i < n; i++) {
        p->pages[first + i].state = OPEN;
    }
    p->pages[first].faulted = true;
    p->runs[p->n_runs++] = (run_t){first, n};
    return true;
}

static bool differs(const sl_pages_t *p, uint32_t page) {
    return memcmp(p->base + (size_t)page * SL_PAGE, p->image + (size_t)page * SL_PAGE, SL_PAGE) != 0;
}

/* A length that the compiler knows would become `rep movs`; the library's copy uses the widest registers that there are. */
static void copy_page(const sl_pages_t *p, uint32_t page) {
    size_t n = SL_PAGE;
    __asm__("" : "+r"(n));
    memcpy(p->base + (size_t)page * SL_PAGE, p->image + (size_t)page * SL_PAGE, n);
}

static bool close_pages(sl_pages_t *p, uint32_t first, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        p->pages[first + i].state = COLD;
    }
    return n == 0 || protect(p, first, n, PROT_READ);
}

/* Hot pages that are no longer written would be copied for nothing. */
static bool audit(sl_pages_t *p, uint32_t *n_pages) {
    for (uint32_t i = 0; i < p->n_hot;) {
        uint32_t at = p->hot[i];
        page_t *page = &p->pages[at];
        bool written = differs(p, at);
        page->misses = written ? 0 : (uint8_t)(page->misses + 1);
        if (written) {
            copy_page(p, at);
            ++*n_pages;
        }
        if (page->misses < MISSES) {
            i++;
            continue;
        }
        page->streak = 0;
        p->hot[i] = p->hot[--p->n_hot];
        if (!close_pages(p, at, 1)) {
            return false;
        }
    }
    return true;
}

static bool restore_hot(sl_pages_t *p, uint32_t *n_pages) {
    if (p->uses % AUDIT == 0) {
        return audit(p, n_pages);
    }
    for (uint32_t i = 0; i < p->n_hot; i++) {
        copy_page(p, p->hot[i]);
    }
    *n_pages += p->n_hot;
    return true;
}

/* Copies one page of a run back; true: it is hot from now on. */
static bool restore_open(sl_pages_t *p, uint32_t at, uint32_t apart) {
    page_t *page = &p->pages[at];
    page->streak = (uint8_t)(p->uses - page->last) <= apart ? (uint8_t)(page->streak + 1) : 1;
    page->last = (uint8_t)p->uses;
    copy_page(p, at);
    if (!page->is_private) {
        page->is_private = true;
        p->n_private++;
    }
    if (page->streak < STREAK) {
        return false;
    }
    page->state = HOT;
    page->misses = 0;
    p->hot[p->n_hot++] = at;
    return true;
}

/* Runs that follow each other were one. `n` becomes what was written of it. */
static bool restore_run(sl_pages_t *p, run_t run, uint32_t *n_pages) {
    uint32_t cold_from = run.first, written_to = run.first, apart = run.n <= SHORT_RUN ? SELDOM : 1;
    for (uint32_t at = run.first; at < run.first + run.n; at++) {
        if (!p->pages[at].faulted && !differs(p, at)) {
            continue;
        }
        p->pages[at].faulted = false;
        written_to = at + 1;
        ++*n_pages;
        if (!restore_open(p, at, apart)) {
            continue;
        }
        if (!close_pages(p, cold_from, at - cold_from)) {
            return false;
        }
        cold_from = at + 1;
    }
    uint32_t written = written_to - run.first;
    p->pages[run.first].hint = (uint8_t)(written < HINT_MAX ? written : HINT_MAX);
    return close_pages(p, cold_from, run.first + run.n - cold_from);
}

static bool restore_runs(sl_pages_t *p, uint32_t *n_pages) {
    for (uint32_t i = 0; i < p->n_runs; i++) {
        run_t run = p->runs[i];
        while (i + 1 < p->n_runs && p->runs[i + 1].first == run.first + run.n) {
            run.n += p->runs[++i].n;
        }
        if (!restore_run(p, run, n_pages)) {
            return false;
        }
    }
    p->n_runs = 0;
    return true;
}

/* Back to the beginning: everything cold, nothing private. */
static bool forget_all(sl_pages_t *p) {
    if (madvise(p->base, (size_t)p->n * SL_PAGE, MADV_DONTNEED) != 0 || !protect(p, 0, p->n, PROT_READ)) {
        return false;
    }
    memset(p->pages, 0, p->n * sizeof(p->pages[0]));
    p->n_hot = p->n_private = p->n_runs = 0;
    p->overflow = false;
    return true;
}

/* Cold pages that were written some time become the file's again. */
static bool drop_cold(sl_pages_t *p) {
    for (uint32_t at = 0, n; at < p->n; at += n + 1) {
        for (n = 0; at + n < p->n && p->pages[at + n].state == COLD && p->pages[at + n].is_private; n++) {
            p->pages[at + n].is_private = false;
        }
        if (n != 0 && madvise(p->base + (size_t)at * SL_PAGE, (size_t)n * SL_PAGE, MADV_DONTNEED) != 0) {
            return false;
        }
        p->n_private -= n;
    }
    return true;
}

bool sl_pages_restore(sl_pages_t *p, uint32_t *n_pages) {
    *n_pages = 0;
    p->uses++;
    if (p->overflow) {
        *n_pages = p->n;
        return forget_all(p);
    }
    if (!restore_hot(p, n_pages) || !restore_runs(p, n_pages)) {
        return false;
    }
    /* Who needs as much each time may keep it. */
    bool too_many = p->n_private > PRIVATE_PAGES_MAX && p->n_private / 2 > *n_pages;
    return !too_many || drop_cold(p);
}
