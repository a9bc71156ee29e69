/*
 * What is changed in a module, and known of it, before it is compiled. First what bringing instances back to an image of themselves needs:
 *
 *   - mutable globals that it defines are exported under reserved names, so that they can be read and written;
 *   - its start section becomes an export, so that an instance made from an image does not run it again;
 *   - functions are added that call several of its exports in a row (module_sequences.h);
 *   - whether it can change state that no image holds: tables, dropped segments, globals that hold references.
 *
 * Nothing else is touched: indices, the code that there is and custom sections stay as they are. The bytes are hostile; what cannot be
 * understood is refused, or, where it is code, counted as "can change anything". Pure functions; no state, no I/O.
 */
#ifndef SL_MODULE_REWRITER_H
#define SL_MODULE_REWRITER_H

#include "sl_buf.h"

/* Raise it when the rewritten bytes of a module change: compiled code is kept under this number. */
#define SL_REWRITER_VERSION 2

/* No module may export a name that begins so. */
#define SL_REWRITER_PREFIX "sluice:"
#define SL_REWRITER_START SL_REWRITER_PREFIX "start"
#define SL_REWRITER_GLOBAL SL_REWRITER_PREFIX "global:" /* and the place among those that are exported, in decimal */
#define SL_REWRITER_GLOBALS_MAX 4096
#define SL_REWRITER_SEQUENCE SL_REWRITER_PREFIX "sequence:" /* and the sl_sequence_t, in decimal */
#define SL_REWRITER_CELL SL_REWRITER_PREFIX "cell"          /* a memory: at 0, as i32, which member of a sequence runs */

typedef struct {
    uint32_t n_globals; /* exported under reserved names */
    bool has_start;     /* the module had a start section */
    uint32_t n_sequences;
    uint32_t first_added; /* index of the first function that was added; UINT32_MAX: none was */
    const char *no_reset; /* why an image cannot hold all of its state ("it writes to tables"); NULL: it can */
} sl_rewrite_t;

/*
 * Writes the changed module to `out` (NULL: only looks). The module must have been accepted by sl_module_read. SL_INVALID: the text says
 * what is wrong and where. SL_NO_MEMORY: also the ceiling of `out`.
 */
sl_status_t sl_module_rewrite(sl_str_t bytes, sl_buf_t *out, sl_rewrite_t *found, sl_err_t *err);

#endif
