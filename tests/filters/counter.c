/*
 * Shows which streams and filters share a virtual machine: a global counter of streams goes into the response header x-counter, the number
 * of root contexts into x-roots, and the bytes of memory into x-memory. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

static uint64_t streams;
static uint64_t roots;

static void set_number(pw_str_t name, uint64_t number) {
    pw_line_t line;
    pw_line_init(&line);
    pw_line_u64(&line, number);
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, name, pw_str(line.data, line.len));
}

PW_EXPORT void proxy_on_context_create(uint32_t context_id, uint32_t parent_id) {
    (void)context_id;
    roots += parent_id == 0;
    streams += parent_id != 0;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    set_number(PW_STR("x-counter"), streams);
    set_number(PW_STR("x-roots"), roots);
    set_number(PW_STR("x-memory"), (uint64_t)__builtin_wasm_memory_size(0) * 65536);
    return PW_CONTINUE;
}
