/*
 * What an instance was at one moment: its linear memory and its globals, in a file that is mapped privately by every instance that
 * is brought back to it. Private to src/engine; engine.h has what others see of it.
 *
 * The file has the memory and nothing else. In a folder it is named after its digest and shared by all processes whose memory was the
 * same byte for byte; whoever uses it holds a shared lock on it, and files without a lock are removed when a new one is written.
 * Without a folder it is anonymous. Lives until the last reference goes; references may be taken on several threads.
 */
#ifndef SL_IMAGE_H
#define SL_IMAGE_H

#include <stdatomic.h>

#include "engine.h"

struct sl_image_s {
    atomic_uint refs;
    sl_module_t *module;
    int fd;
    uint8_t *bytes; /* the file, mapped read-only; NULL when size is 0 */
    size_t size;
    sl_raw_t *globals; /* what the engine keeps beside the memory: as many bytes as it likes */
    size_t n_globals;
};

/* Memory and file; the engine adds the globals. folder NULL: anonymous. A folder that cannot be used: anonymous too. */
sl_status_t sl_image_new(sl_module_t *module, sl_str_t memory, const char *folder, size_t n_globals, sl_image_t **out, sl_err_t *err);

/* The file alone: fd is made where it is -1, `bytes` is the mapping. For tests of the ways to restore memory. */
bool sl_image_file(sl_image_t *image, sl_str_t memory);
void sl_image_file_close(sl_image_t *image);

#endif
