/*
 * Its allocator is exported as malloc only, as C++ and AssemblyScript filters do. Copies its configuration into the response header
 * x-config.
 */
#define PROXY_WASM_NO_ALLOCATOR
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

static pw_bytes_t configuration;

PW_EXPORT_AS("malloc") void *exported_malloc(size_t size);

void *exported_malloc(size_t size) {
    return pw_malloc(size);
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    pw_bytes_free(&configuration);
    return configuration_size == 0 || pw_configuration(&configuration) == PW_OK;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-config"), pw_bytes_str(configuration));
    return PW_CONTINUE;
}
