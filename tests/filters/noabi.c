/*
 * A good filter but for one thing: it exports no proxy_abi_version_..., so no host may take it. Not configured.
 */
#define PROXY_WASM_ABI_NONE
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    (void)configuration_size;
    return 1;
}
