/*
 * Imports proxy_log with a type that is not the ABI's (one argument): loading has to fail and to name it. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_IMPORT_FROM("env", "proxy_log") uint32_t log_with_one_argument(uint32_t level);

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    return log_with_one_argument(configuration_size);
}
