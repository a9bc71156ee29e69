/*
 * Traps in _initialize, before any callback. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_EXPORT_AS("_initialize") void initialize(void);

void initialize(void) {
    PW_LOG(PW_LOG_ERROR, "trap_start: about to trap");
    __builtin_trap();
}
