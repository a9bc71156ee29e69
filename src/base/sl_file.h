/*
 * Whole files, and files that are replaced whole. These block: start-up, the CLI and threads only, never the event loop.
 */
#ifndef SL_FILE_H
#define SL_FILE_H

#include "sl_buf.h"

/* Reads a regular file into `out` (ceiling: out->max). The text names the path and the reason. */
sl_status_t sl_file_read(const char *path, sl_buf_t *out, sl_err_t *err);
/* Writes path.tmp-<pid>-<n>, fsyncs, renames over `path`, fsyncs the folder: readers see the old or the new file. */
sl_status_t sl_file_write_atomic(const char *path, sl_str_t data, unsigned mode, sl_err_t *err);
/* The same without waiting for the disk: old or new for every process, but after a power cut the file may be anything. */
sl_status_t sl_file_write_soon(const char *path, sl_str_t data, unsigned mode, sl_err_t *err);
/* mkdir -p; existing folders are left as they are. */
sl_status_t sl_dir_make(const char *path, unsigned mode, sl_err_t *err);

#endif
