/*
 * Dumps of guests: files for whoever looks for the reason of a trap.
 *
 *   text, an empty line | NUL bytes up to a multiple of 4096 | linear memory, to the end of the file
 *
 * Pages of memory that hold nothing but zeros are holes in the file. Names sort by time, and a folder has a ceiling: the oldest go first.
 */
#ifndef SL_DUMP_H
#define SL_DUMP_H

#include "sl_buf.h"

typedef struct sl_dump_s sl_dump_t;

#define SL_DUMP_HEAD "sluice trap dump 1\n"

/*
 * Copies both, of the memory only what is not zero (some 0.3 ms for each MiB of that), and no more of it than SL_DUMP_COPIED_MAX: what
 * follows is left out. The text begins with SL_DUMP_HEAD. NULL: no memory.
 */
#define SL_DUMP_COPIED_MAX ((size_t)16 << 20)
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

/* ---- reading: the file may be anybody's ---- */

typedef struct {
    uint64_t at, len; /* in the file */
} sl_dump_memory_t;

/* The text, without the empty line; as much as `text` may hold. SL_INVALID: it is no dump, or not a whole one. SL_IO, SL_NO_MEMORY. */
sl_status_t sl_dump_read(int fd, sl_buf_t *text, sl_dump_memory_t *memory, sl_err_t *err);
/* Writes the memory to the empty file `to`, zeros as holes. */
sl_status_t sl_dump_extract(int fd, const sl_dump_memory_t *memory, int to, sl_err_t *err);

#endif
