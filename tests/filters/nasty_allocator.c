/*
 * An allocator that is not to be trusted. CONFIGURATION, one word, once configured and then for each value that the proxy hands over:
 *   overlap    the same address each time, over the guest's own arguments
 *   end        the last bytes of memory, where the value does not fit
 *   grows      grows the memory by a page each time, so that it moves
 *   calls      makes a host call that it may not make there
 *   zero       nothing
 *   trap       traps, for a request with the header x-trap
 *   spin       does not return, for such a request
 */
#define PROXY_WASM_NO_ALLOCATOR
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

typedef enum { OVERLAP, END, GROWS, CALLS, ZERO, TRAP, SPIN, MODES } mode_t;
static const char *const names[MODES] = {"overlap", "end", "grows", "calls", "zero", "trap", "spin"};

static mode_t mode = MODES;
static bool trapping;
static char window[1 << 16];

static void *grown(size_t size) {
    size_t pages = (size + 65535) / 65536;
    size_t at = __builtin_wasm_memory_grow(0, pages);
    return at == SIZE_MAX ? NULL : (void *)(at << 16);
}

void *proxy_on_memory_allocate(size_t size) {
    switch (mode) {
    case OVERLAP:
        return size <= sizeof(window) ? window : NULL;
    case END:
        return (void *)((__builtin_wasm_memory_size(0) << 16) - 1);
    case GROWS:
        return grown(size);
    case CALLS:
        (void)proxy_continue_stream(PW_STREAM_REQUEST);
        return pw_malloc(size);
    case ZERO:
        return NULL;
    case TRAP:
        if (trapping) {
            __builtin_trap();
        }
        return pw_malloc(size);
    case SPIN:
        while (trapping) {
            __asm__ volatile("");
        }
        return pw_malloc(size);
    default:
        return pw_malloc(size);
    }
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t size) {
    pw_bytes_t text;
    (void)root_id;
    (void)size;
    if (pw_configuration(&text) != PW_OK) {
        return 0;
    }
    for (int i = 0; i < MODES; i++) {
        if (pw_str_equal(pw_str(text.data, text.len), pw_str_from_cstr(names[i]))) {
            mode = (mode_t)i;
        }
    }
    return mode != MODES;
}

/* The arguments lie where the allocator will put the answers. */
static void ask(uint32_t map) {
    char *data = window;
    size_t len = 0;
    memcpy(window, "x-do\0\0\0\0path\0", 13);
    (void)proxy_get_header_map_value(map, window, 4, (char **)(void *)window, (size_t *)(void *)(window + 4));
    (void)proxy_get_header_map_pairs(map, (char **)(void *)(window + 1), (size_t *)(void *)(window + 2));
    memcpy(window, "request\0path", 12);
    (void)proxy_get_property(window, 12, (char **)(void *)window, (size_t *)(void *)(window + 3));
    (void)proxy_get_header_map_pairs(map, &data, &len);
    (void)proxy_set_header_map_pairs(PW_MAP_RESPONSE_TRAILERS, data, len);
    (void)proxy_get_buffer_bytes(PW_BUFFER_REQUEST_BODY, 0, UINT32_MAX, &data, &len);
    (void)proxy_get_buffer_bytes(PW_BUFFER_RESPONSE_BODY, 0, UINT32_MAX, (char **)(void *)window, (size_t *)(void *)window);
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n, uint32_t eos) {
    char *data;
    size_t len;
    (void)context_id, (void)n, (void)eos;
    trapping = proxy_get_header_map_value(PW_MAP_REQUEST_HEADERS, "x-trap", 6, &data, &len) == PW_OK;
    ask(PW_MAP_REQUEST_HEADERS);
    return PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_request_body(uint32_t context_id, uint32_t size, uint32_t eos) {
    (void)context_id, (void)size, (void)eos;
    ask(PW_MAP_REQUEST_HEADERS);
    return PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n, uint32_t eos) {
    (void)context_id, (void)n, (void)eos;
    ask(PW_MAP_RESPONSE_HEADERS);
    return PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_response_body(uint32_t context_id, uint32_t size, uint32_t eos) {
    (void)context_id, (void)size, (void)eos;
    ask(PW_MAP_RESPONSE_HEADERS);
    return PW_CONTINUE;
}

PW_EXPORT void proxy_on_log(uint32_t context_id) {
    (void)context_id;
    ask(PW_MAP_RESPONSE_HEADERS);
}
