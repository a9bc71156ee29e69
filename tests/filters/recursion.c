/*
 * Calls itself without end on request headers, so that the engine's stack runs out. No memory is used for it. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

/* Through a pointer that may change, so that the compiler can make no loop of it. */
static uint32_t (*volatile next)(uint32_t depth);

static uint32_t recurse(uint32_t depth) {
    return next(depth + 1) + 1;
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    next = recurse;
    return recurse(0) == 1 ? PW_CONTINUE : PW_PAUSE;
}
