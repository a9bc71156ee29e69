/*
 * The plan as workers have it in service: a copy of the plan file in memory that is sealed, so that nothing can change it, and that
 * all processes share which have the descriptor. Blocks.
 */
#ifndef ND_IMAGE_H
#define ND_IMAGE_H

#include "sl_types.h"

/*
 * Copies a file. *fd: for gw_plan_open_sealed(), which checks what is in it; the caller closes it. The memory lives as long as somebody
 * has a descriptor of it or maps it. SL_NOT_FOUND: no such file; SL_IO: not readable, or no memory for it.
 */
sl_status_t nd_image_seal(const char *path, int *fd, sl_err_t *err);

/* The same with bytes that are at hand. */
sl_status_t nd_image_seal_bytes(sl_str_t image, int *fd, sl_err_t *err);

#endif
