/*
 * Foreign functions: named extensions. To add one: a row in pw_foreign.def, a function in the file of its family (or in a new one), a
 * row in docs/reference/abi.md, a conformance case. The dispatcher is pw_calls_foreign.c.
 */
#ifndef PW_FOREIGN_H
#define PW_FOREIGN_H

#include "pw_internal.h"

#define PW_FOREIGN_BYTES_MAX ((size_t)8 << 20) /* what one takes at most, and what one gives */

/*
 * `args` lie in the guest's memory, are at most PW_FOREIGN_BYTES_MAX, and must not be written to. `out` is empty and has that ceiling, too;
 * what it holds afterwards goes to the guest when the answer is PW_OK. No function may run the guest. Those whose work grows with their
 * arguments ask pw_vm_go_on every millisecond or so.
 */
typedef pw_result_t (*pw_foreign_fn_t)(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out);

/*
 * Runs fn(arg), which takes some milliseconds and cannot stop, on a thread of its own while the event loop goes on; for a filter that is
 * not sliced, here. It may touch arguments in the guest's memory and what the function has of its own. false: as pw_vm_go_on; fn has
 * returned nevertheless.
 */
bool pw_foreign_aside(pw_vm_t *vm, void (*fn)(void *arg), void *arg);

#define PW_FOREIGN(name, whose, fn) pw_result_t fn(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out);
#include "pw_foreign.def"
#undef PW_FOREIGN

#endif
