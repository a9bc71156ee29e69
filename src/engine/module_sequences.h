/*
 * Functions that the rewriter adds to a module: each calls several of its exports in a row, so that the host enters the guest once (an
 * entry costs some 350 instructions, a call inside of the guest five). Which ones there are: sl_sequence_t in engine.h.
 *
 *     (func (export "sluice:sequence:0") (param $context i32) (param $parent i32) (param $n i32) (param $end i32) (result i32)
 *       (i32.store $cell (i32.const 0) (i32.const 0))
 *       (call $proxy_on_context_create (local.get $context) (local.get $parent))
 *       (if (i32.ne (i32.load $cell (i32.const 0)) (i32.const 0)) (then (return (i32.const 0))))       ;; the host has said: stop
 *       (i32.store $cell (i32.const 0) (i32.const 1))
 *       (call $proxy_on_request_headers (local.get $context) (local.get $n) (local.get $end)))
 *
 * $cell is a memory of its own, of one page, which none of the module's code can name: host and added functions talk there for the price of
 * a load or a store.
 *
 * Types, functions, their bodies and the memory are added behind those of the module, so that no index changes and the module's own code
 * stays where it was: names, source positions and backtraces remain right. Where something is not understood, nothing is added.
 */
#ifndef SL_MODULE_SEQUENCES_H
#define SL_MODULE_SEQUENCES_H

#include "engine.h"

typedef struct {
    uint32_t n;       /* functions that are added; 0: nothing is */
    uint32_t n_types; /* that are added: as many */
    uint32_t first_function, memory;
    uint32_t which[SL_SEQUENCES]; /* sl_sequence_t of each function */
    sl_buf_t types, functions, bodies, memories;
} sl_sequences_t;

/* For a module without its first eight bytes. SL_NO_MEMORY; whatever else is wrong with the bytes, others say. */
sl_status_t sl_sequences_plan(sl_str_t sections, sl_sequences_t *plan);
void sl_sequences_deinit(sl_sequences_t *plan);

#endif
