/*
 * Imports env.no_such_function, which nobody provides: loading has to fail and to name it. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_IMPORT(no_such_function) uint32_t no_such_function(uint32_t number);

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    return no_such_function(configuration_size);
}
