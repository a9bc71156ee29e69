#include "linear_memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "written_pages.h"

/*
 * Bases are multiples of 4 GiB and a guest's addresses have 32 bits, so the high half of an address names the memory. A handler of
 * signals can use nothing else, so this table is the process's; slots are written when a memory comes and goes.
 */
#define SLOT_BITS 32
#define SLOT_BYTES ((size_t)1 << SLOT_BITS)
#define N_SLOTS ((size_t)1 << (47 - SLOT_BITS))

static _Atomic(sl_linear_t *) slots[N_SLOTS];

struct sl_linear_s {
    uint8_t *base;
    size_t size, reserved, mapped; /* mapped: with the guard */
    size_t expected;               /* by sl_linear_expect; 0: nothing */
    sl_dirty_t wanted, how;        /* how: since an image was attached */
    sl_image_t *image;
    sl_pages_t *pages; /* PROTECT */
    uint32_t restored_pages;
    sl_instance_t *owner; /* whose limits hold; NULL: none */
    size_t max;
};

/* ---- limits ---- */

static void set_size(sl_linear_t *m, size_t bytes) {
    if (m->owner != NULL) {
        sl_memory_count(m->owner->together, m->size, bytes);
        m->owner->mem_size = bytes;
    }
    m->size = bytes;
}

sl_status_t sl_linear_limit(sl_linear_t *m, sl_instance_t *owner, size_t max_bytes, sl_err_t *err) {
    if (!sl_memory_fits(owner->together, m->size)) {
        return sl_instance_no_room(owner, m->size, err);
    }
    m->owner = owner;
    m->max = max_bytes;
    sl_memory_count(owner->together, 0, m->size);
    return SL_OK;
}

static bool within_limits(const sl_linear_t *m, size_t bytes) {
    if (m->owner == NULL) {
        return true;
    }
    if (bytes > m->max) {
        sl_instance_refused(m->owner, SL_REFUSED_BY_INSTANCE);
        return false;
    }
    if (!sl_memory_fits(m->owner->together, bytes - m->size)) {
        sl_instance_refused(m->owner, SL_REFUSED_TOGETHER);
        return false;
    }
    return true;
}

/* ---- life ---- */

static _Atomic(sl_linear_t *) *slot_of(const void *at) {
    size_t slot = (size_t)((uintptr_t)at >> SLOT_BITS);
    return slot < N_SLOTS ? &slots[slot] : NULL;
}

/* At a multiple of 4 GiB. */
static uint8_t *reserve(size_t bytes) {
    uint8_t *at = mmap(NULL, bytes + SLOT_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return NULL;
    }
    uint8_t *base = (uint8_t *)(((uintptr_t)at + SLOT_BYTES - 1) & ~(uintptr_t)(SLOT_BYTES - 1));
    size_t before = (size_t)(base - at);
    if (before != 0) {
        munmap(at, before);
    }
    if (before != SLOT_BYTES) {
        munmap(base + bytes, SLOT_BYTES - before);
    }
    return base;
}

static size_t round_up(size_t n) {
    return (n + SL_PAGE - 1) & ~(SL_PAGE - 1);
}

sl_linear_t *sl_linear_new(size_t bytes, size_t reserved, size_t guard, sl_dirty_t how) {
    reserved = round_up(reserved > SLOT_BYTES ? reserved : SLOT_BYTES);
    sl_linear_t *m = bytes <= reserved && reserved - SLOT_BYTES <= SLOT_BYTES ? calloc(1, sizeof(*m)) : NULL;
    if (m == NULL) {
        return NULL;
    }
    m->mapped = reserved + round_up(guard);
    m->reserved = reserved;
    m->wanted = how;
    m->base = reserve(m->mapped);
    _Atomic(sl_linear_t *) *slot = m->base != NULL ? slot_of(m->base) : NULL;
    if (slot == NULL || !sl_linear_grow(m, bytes)) {
        if (m->base != NULL) {
            munmap(m->base, m->mapped);
        }
        free(m);
        return NULL;
    }
    atomic_store(slot, m);
    return m;
}

static void detach(sl_linear_t *m) {
    sl_pages_t *pages = m->pages;
    m->pages = NULL;
    sl_pages_free(pages);
    sl_image_unref(m->image);
    m->image = NULL;
}

void sl_linear_free(sl_linear_t *m) {
    atomic_store(slot_of(m->base), NULL);
    munmap(m->base, m->mapped);
    detach(m);
    set_size(m, 0);
    free(m);
}

sl_linear_t *sl_linear_at(const void *base) {
    _Atomic(sl_linear_t *) *slot = slot_of(base);
    sl_linear_t *m = slot != NULL ? atomic_load(slot) : NULL;
    return m != NULL && m->base == base ? m : NULL;
}

uint8_t *sl_linear_base(const sl_linear_t *m) {
    return m->base;
}

size_t sl_linear_size(const sl_linear_t *m) {
    return m->expected != 0 ? m->expected - SL_WASM_PAGE : m->size;
}

size_t sl_linear_capacity(const sl_linear_t *m) {
    return m->reserved;
}

/* What lies over the image becomes untouchable, and its pages go. */
static bool cut(sl_linear_t *m, size_t bytes) {
    if (m->size > bytes && mmap(m->base + bytes, round_up(m->size) - bytes, PROT_NONE,
                                MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED) {
        return false;
    }
    set_size(m, bytes);
    return true;
}

bool sl_linear_expect(sl_linear_t *m, size_t bytes) {
    if (bytes < SL_WASM_PAGE || bytes >= m->size || !cut(m, bytes)) {
        return false;
    }
    m->expected = bytes;
    return true;
}

bool sl_linear_grow(sl_linear_t *m, size_t bytes) {
    if (m->expected != 0) {
        bool as_expected = bytes == m->expected;
        m->expected = 0;
        return as_expected;
    }
    if (bytes < m->size || bytes > m->reserved || !within_limits(m, bytes)) {
        return false;
    }
    size_t from = round_up(m->size), to = round_up(bytes);
    if (to != from && mprotect(m->base + from, to - from, PROT_READ | PROT_WRITE) != 0) {
        return false;
    }
    set_size(m, bytes);
    return true;
}

/* ---- signals ---- */

/* The first write to a page. Only what a handler may do: a table, a list that is there already, one system call. */
static bool first_write(const void *at) {
    _Atomic(sl_linear_t *) *slot = slot_of(at);
    sl_linear_t *m = slot != NULL ? atomic_load(slot) : NULL;
    return m != NULL && m->pages != NULL && sl_pages_open(m->pages, (size_t)((const uint8_t *)at - m->base));
}

void sl_linear_use_signals(void) {
    sl_signals_use(first_write);
}

/* ---- images ---- */

/* PROTECT needs the handler of this very process, which somebody may have put away since. */
static sl_dirty_t how_now(const sl_linear_t *m) {
    if (m->wanted == SL_DIRTY_PROTECT && !sl_signals_are_used()) {
        return SL_DIRTY_SCAN; /* falls back to REMAP by itself */
    }
    return m->wanted;
}

static bool map_image(sl_linear_t *m, const sl_image_t *image, int prot) {
    return image->size == 0 || mmap(m->base, image->size, prot, MAP_FIXED | MAP_PRIVATE, image->fd, 0) != MAP_FAILED;
}

static bool map_whole(sl_linear_t *m, const sl_image_t *image, int prot) {
    if (image->size > m->reserved || image->size % SL_PAGE != 0 || !cut(m, image->size < m->size ? image->size : m->size)) {
        return false;
    }
    detach(m);
    if (!map_image(m, image, prot)) {
        return false;
    }
    set_size(m, image->size);
    m->restored_pages = (uint32_t)(image->size / SL_PAGE);
    return true;
}

sl_status_t sl_linear_load(sl_linear_t *m, sl_image_t *image) {
    return map_whole(m, image, PROT_READ | PROT_WRITE) ? SL_OK : SL_FAILED;
}

static sl_status_t attach(sl_linear_t *m, sl_image_t *image) {
    m->how = how_now(m);
    bool protect = m->how == SL_DIRTY_PROTECT;
    if (!map_whole(m, image, protect ? PROT_READ : PROT_READ | PROT_WRITE)) {
        return SL_FAILED;
    }
    m->image = sl_image_ref(image);
    if (protect) {
        m->pages = sl_pages_new(m->base, image->bytes, image->size / SL_PAGE);
        return m->pages != NULL ? SL_OK : SL_NO_MEMORY;
    }
    return SL_OK;
}

static bool restore_pages(sl_linear_t *m) {
    const sl_image_t *image = m->image;
    m->restored_pages = 0;
    if (image->size == 0) {
        return true;
    }
    if (m->how == SL_DIRTY_PROTECT) {
        return sl_pages_restore(m->pages, &m->restored_pages);
    }
    if (sl_written_restore(m->how, m->base, image->bytes, image->size, &m->restored_pages)) {
        return true;
    }
    m->restored_pages = (uint32_t)(image->size / SL_PAGE);
    return map_image(m, image, PROT_READ | PROT_WRITE);
}

#if defined(__SANITIZE_ADDRESS__) /* gcc; clang says it in another way */
#define COMPARE_ALL 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COMPARE_ALL 1
#endif
#endif
#ifndef COMPARE_ALL
#define COMPARE_ALL 0
#endif

/* Where everything is checked anyway, so is this: a byte that was forgotten is another request's secret. */
static void compare_all(const sl_linear_t *m) {
    if (COMPARE_ALL && m->image->size != 0 && memcmp(m->base, m->image->bytes, m->image->size) != 0) {
        fprintf(stderr, "sluice: an instance's memory differs from its image after it was restored (%s)\n", sl_dirty_name(m->how));
        abort();
    }
}

sl_status_t sl_linear_restore(sl_linear_t *m, sl_image_t *image) {
    if (m->image != image) {
        return attach(m, image);
    }
    if (m->size < image->size || !cut(m, image->size) || !restore_pages(m)) {
        return SL_FAILED;
    }
    compare_all(m);
    return SL_OK;
}

uint32_t sl_linear_restored_pages(const sl_linear_t *m) {
    return m->restored_pages;
}

/* ---- which way ---- */

/* A memory, an image of it, a few uses. SL_FAILED: this way does not work here. */
static sl_status_t try(sl_dirty_t how) {
    enum { PAGES = 16 };
    sl_linear_t *m = sl_linear_new(PAGES * SL_PAGE, 0, 0, how);
    sl_image_t image = {.fd = -1, .size = PAGES * SL_PAGE};
    if (m == NULL) {
        return SL_NO_MEMORY;
    }
    atomic_init(&image.refs, 2); /* the memory's does not free it */
    sl_status_t rc = sl_image_file(&image, sl_str(m->base, image.size)) ? SL_OK : SL_FAILED;
    for (size_t round = 0; round < 3 && rc == SL_OK; round++) {
        rc = sl_linear_restore(m, &image);
        if (rc == SL_OK && (m->how != how || (round != 0 && m->restored_pages >= PAGES) || memcmp(m->base, image.bytes, image.size) != 0)) {
            rc = SL_FAILED;
        }
        if (rc == SL_OK) {
            m->base[round * SL_PAGE + 7] = 1;
            m->base[9 * SL_PAGE] = 1;
        }
    }
    sl_linear_free(m);
    sl_image_file_close(&image);
    return rc;
}

sl_status_t sl_linear_choose(sl_dirty_t wanted, sl_dirty_t *chosen) {
    sl_dirty_t first = wanted == SL_DIRTY_AUTO ? SL_DIRTY_PROTECT : wanted;
    sl_dirty_t last = wanted == SL_DIRTY_AUTO ? SL_DIRTY_PAGEMAP : wanted;
    *chosen = SL_DIRTY_REMAP;
    for (sl_dirty_t how = first; how <= last && how < SL_DIRTY_REMAP; how++) {
        sl_status_t rc = try(how);
        if (rc == SL_OK) {
            *chosen = how;
        }
        if (rc != SL_FAILED) {
            return rc;
        }
    }
    return SL_OK;
}
