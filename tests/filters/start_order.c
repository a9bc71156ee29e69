/*
 * Shows which start functions ran, by the response header x-start: `i` for _initialize, `m` for main, `s` for _start. It exports all three,
 * and a host calls _initialize, then main, and never _start: `im`. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

static char order[8];
static size_t n;

static void mark(char c) {
    order[n++ % sizeof(order)] = c;
}

PW_EXPORT_AS("_initialize") void initialize(void);
PW_EXPORT_AS("_start") void start(void);
PW_EXPORT_AS("main") int main_function(int argc, char **argv);

void initialize(void) {
    mark('i');
}

void start(void) {
    mark('s');
}

int main_function(int argc, char **argv) {
    mark(argc == 0 && argv == NULL ? 'm' : '?');
    return 7; /* nobody looks at it */
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-start"), pw_str(order, n));
    return PW_CONTINUE;
}
