/*
 * Makes a host call in _initialize that is not allowed there, proxy_get_buffer_bytes: a trap, so it never starts. proxy_log before it is
 * allowed. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_EXPORT_AS("_initialize") void initialize(void);

void initialize(void) {
    pw_bytes_t text;
    PW_LOG(PW_LOG_INFO, "start_calls: about to call");
    (void)pw_configuration(&text);
}
