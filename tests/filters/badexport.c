/*
 * Exports proxy_on_request_headers with a type that is not the ABI's (no arguments): loading has to fail and to name it. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_EXPORT_AS("proxy_on_request_headers") uint32_t request_headers_without_arguments(void);

uint32_t request_headers_without_arguments(void) {
    return PW_CONTINUE;
}
