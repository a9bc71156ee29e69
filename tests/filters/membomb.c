/*
 * On request headers, grows its memory until it gets no more, and writes into each page. Then it sets the request header x-pages to the
 * number of pages that it has got, and goes on. Configured with `trap`, it traps instead of going on.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

#define PAGE 65536

static bool trap_at_end;

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    pw_bytes_t text = {0};
    if (configuration_size > 0 && pw_configuration(&text) != PW_OK) {
        return 0;
    }
    trap_at_end = pw_str_equal(pw_bytes_str(text), PW_STR("trap"));
    pw_bytes_free(&text);
    return 1;
}

static void grow(void) {
    for (;;) {
        size_t old = __builtin_wasm_memory_grow(0, 16);
        if (old == (size_t)-1) {
            return;
        }
        for (size_t page = old; page < old + 16; page++) {
            *(volatile char *)(page * PAGE) = 1;
        }
    }
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    pw_line_t line;
    grow();
    if (trap_at_end) {
        __builtin_trap();
    }
    pw_line_init(&line);
    pw_line_u64(&line, __builtin_wasm_memory_size(0));
    (void)pw_header_set(PW_MAP_REQUEST_HEADERS, PW_STR("x-pages"), pw_str(line.data, line.len));
    return PW_CONTINUE;
}
