/*
 * Exports neither proxy_on_memory_allocate nor malloc, so the host can hand nothing over: loading has to fail. Not configured.
 */
#define PROXY_WASM_NO_ALLOCATOR
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    (void)configuration_size;
    return 1;
}
