/*
 * Dumps of guests: files for whoever looks for the reason of a trap.
 *
 *   text, an empty line | NUL bytes up to a multiple of 4096 | linear memory, to the end of the file
 *
 * Pages of memory that hold nothing but zeros are holes in the file. Names sort by time, and a folder has a ceiling: the oldest go first.
 */
#ifndef SL_DUMP_H
#define SL_DUMP_H

#include "sl_types.h"

typedef struct sl_dump_s sl_dump_t;

/* Copies both, of the memory only what is not zero: some 0.3 ms for each MiB of that. NULL: no memory. */
sl_dump_t *sl_dump_new(sl_str_t text, sl_str_t memory);
void sl_dump_free(sl_dump_t *dump);

typedef struct {
    const char *folder;
    uint64_t max_bytes; /* that all dumps in the folder take on the disk; a dump that is larger by itself is written without its memory */
    uint32_t max_files;
} sl_dumps_t;

#define SL_DUMP_NAME 64

/*
 * Blocks; any thread, any process. Makes room, then writes a file of mode 0600, whose name (in the folder) is given. SL_IO: nothing is
 * left of it.
 */
sl_status_t sl_dump_write(const sl_dump_t *dump, const sl_dumps_t *where, char name[SL_DUMP_NAME], sl_err_t *err);

#endif
