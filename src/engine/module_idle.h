/*
 * Finds exported functions that do nothing but answer a constant: a host need not enter the guest for them.
 *
 *     (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.const 0))
 */
#ifndef SL_MODULE_IDLE_H
#define SL_MODULE_IDLE_H

#include "engine.h"

/* Sets `idle` and `answer` of callbacks (proxy_on_*) among the exports, which are those of the module in its order. */
void sl_module_find_idle(sl_str_t bytes, sl_extern_t *exports, size_t n);

#endif
