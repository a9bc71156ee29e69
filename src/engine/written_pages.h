/*
 * Which pages of a private mapping of an image were written, and how they are copied back. Private to linear_memory.c.
 */
#ifndef SL_WRITTEN_PAGES_H
#define SL_WRITTEN_PAGES_H

#include "engine.h"

const char *sl_dirty_name(sl_dirty_t how);

/* ---- by asking the kernel ---- */

/*
 * SCAN, PAGEMAP: copies the written pages of [base, base + size) back from image; where there are too many, lets them all go, so that the
 * mapping shows the file again. false: not possible here; nothing is known then.
 */
bool sl_written_restore(sl_dirty_t how, uint8_t *base, const uint8_t *image, size_t size, uint32_t *n_pages);

/* ---- by write protection ---- */

/* `first` is asked about each write to memory that may not be written; true: it may now. Once per process; later calls do nothing. */
void sl_signals_use(bool (*first)(const void *at));
/* Whether the handler is (still) the first one. */
bool sl_signals_are_used(void);

typedef struct sl_pages_s sl_pages_t;
/* All pages are protected and equal to the image. NULL: no memory. */
sl_pages_t *sl_pages_new(uint8_t *base, const uint8_t *image, size_t n_pages);
void sl_pages_free(sl_pages_t *pages);
/* From the handler: makes the page at this offset, and perhaps some behind it, writable. false: it was, or is none of these. */
bool sl_pages_open(sl_pages_t *pages, size_t offset);
bool sl_pages_restore(sl_pages_t *pages, uint32_t *n_pages);

#endif
