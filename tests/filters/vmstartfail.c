/*
 * proxy_on_vm_start answers 0: it never starts, and proxy_on_configure, which would trap, is never called. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_EXPORT uint32_t proxy_on_vm_start(uint32_t root_id, uint32_t vm_configuration_size) {
    (void)root_id;
    (void)vm_configuration_size;
    PW_LOG(PW_LOG_ERROR, "vmstartfail: refused on purpose");
    return 0;
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    (void)configuration_size;
    __builtin_trap();
}
