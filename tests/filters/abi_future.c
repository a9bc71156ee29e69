/*
 * Announces an ABI version of which nothing is known, 0.3.0: no host may take it. Not configured.
 */
#define PROXY_WASM_ABI_NONE
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_EXPORT_AS("proxy_abi_version_0_3_0") void proxy_abi_version_0_3_0(void);

void proxy_abi_version_0_3_0(void) {
}
