/*
 * Its allocator answers with an address at the end of the memory, where only the first byte is inside: host calls that return more than
 * that have to answer InvalidMemoryAccess (6) and write nothing. On response headers it reads all pairs and sets the response header
 * x-status to what that call answered. Not configured.
 */
#define PROXY_WASM_NO_ALLOCATOR
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

void *proxy_on_memory_allocate(size_t size) {
    (void)size;
    return (void *)(__builtin_wasm_memory_size(0) * 65536 - 1);
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    char *pairs = NULL;
    size_t size = 0;
    pw_line_t line;
    pw_line_init(&line);
    pw_line_u64(&line, proxy_get_header_map_pairs(PW_MAP_RESPONSE_HEADERS, &pairs, &size));
    pw_line_str(&line, size == 0 && pairs == NULL ? PW_STR("") : PW_STR(" written"));
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-status"), pw_str(line.data, line.len));
    return PW_CONTINUE;
}
