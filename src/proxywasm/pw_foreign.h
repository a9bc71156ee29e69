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
 * what it holds afterwards goes to the guest when the answer is PW_OK. No function may run the guest.
 */
typedef pw_result_t (*pw_foreign_fn_t)(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out);

/*
 * Functions whose work grows with their arguments ask every now and then, at least once a millisecond. A sliced filter stops here, and the
 * event loop goes on with everything else: what is kept over the question must be the function's own, or lie in the guest (whose memory
 * nobody touches meanwhile). false: the callback is over its CPU budget, or nobody wants it any more. The function gives up, whatever it
 * answers; the guest traps. vm NULL: there is no budget.
 */
bool pw_foreign_go_on(pw_vm_t *vm);

#define PW_FOREIGN(name, whose, fn) pw_result_t fn(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out);
#include "pw_foreign.def"
#undef PW_FOREIGN

#endif
