/*
 * Linear memory of the host's own: a reserved region that never moves, with a guard behind it, and a way back to an image.
 *
 *   base                     size                                        reserved
 *   | image file, private    | nothing may be touched ...                | guard |
 *
 * Once an image is attached, reset() brings every byte back to it. What that costs depends on how the pages that were written are
 * known:
 *
 *   PROTECT  pages that are written in nearly every use stay writable and are copied back each time, without a system call; all
 *            others are protected, and the signal of the first write says that they have to be copied back.
 *   SCAN     the kernel tells which pages of the private mapping are no longer the file's (PAGEMAP_SCAN, Linux 6.7).
 *   PAGEMAP  the same from /proc/self/pagemap.
 *   REMAP    not known: the file is mapped anew.
 *
 * A memory belongs to one thread at a time. Private to src/engine.
 */
#ifndef SL_LINEAR_MEMORY_H
#define SL_LINEAR_MEMORY_H

#include "engine_ops.h"
#include "image.h"

typedef struct sl_linear_s sl_linear_t;

#define SL_PAGE ((size_t)4096)
#define SL_WASM_PAGE ((size_t)65536)

/* Makes the signal handler of PROTECT the first one; after the engine has installed its own. Once per process is enough. */
void sl_linear_use_signals(void);
/* AUTO: the first of the ways above that works here. Any other: that one, or REMAP. Tries them out; SL_NO_MEMORY. */
sl_status_t sl_linear_choose(sl_dirty_t wanted, sl_dirty_t *chosen);

/* `reserved`: how far a guest's address can reach without being checked. NULL: no address space. */
sl_linear_t *sl_linear_new(size_t bytes, size_t reserved, size_t guard, sl_dirty_t how);
void sl_linear_free(sl_linear_t *memory);
/* The memory that begins at this address, NULL: none of ours. */
sl_linear_t *sl_linear_at(const void *base);
uint8_t *sl_linear_base(const sl_linear_t *memory);
size_t sl_linear_size(const sl_linear_t *memory);
size_t sl_linear_capacity(const sl_linear_t *memory);
/*
 * From now on it is counted with what `owner` has together, and grows over no limit; refusals are told to the owner. SL_NO_MEMORY: it
 * does not fit.
 */
sl_status_t sl_linear_limit(sl_linear_t *memory, sl_instance_t *owner, size_t max_bytes, sl_err_t *err);
/* Up only. false: over the capacity or a limit, or no memory. */
bool sl_linear_grow(sl_linear_t *memory, size_t bytes);

/*
 * For an engine that cannot make memories smaller: from now on the memory says that it has one WebAssembly page less than `bytes`, and
 * the next growth, which must be to `bytes`, changes nothing but that. Restoring follows. false: `bytes` are not less than it has.
 */
bool sl_linear_expect(sl_linear_t *memory, size_t bytes);

/*
 * Memory becomes what the image is, its size too. The first time with this image it is mapped, after that only what was written is
 * restored. Anything but SL_OK: the memory is of no use any more.
 */
sl_status_t sl_linear_restore(sl_linear_t *memory, sl_image_t *image);

/* The same once: the whole image is mapped, and what is written from then on is not looked for. */
sl_status_t sl_linear_load(sl_linear_t *memory, sl_image_t *image);

/* Pages that the last restore wrote to. */
uint32_t sl_linear_restored_pages(const sl_linear_t *memory);

#endif
