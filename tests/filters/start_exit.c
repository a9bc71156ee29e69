/*
 * Has a _start that ends with proc_exit(0), as newer TinyGo makes it: that is a good end, and the filter lives on. Sets the response header
 * x-started: yes. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_IMPORT_FROM("wasi_snapshot_preview1", "proc_exit") _Noreturn void proc_exit(uint32_t code);

static const char *started = "no";

PW_EXPORT_AS("_start") void start(void);

void start(void) {
    started = "yes";
    proc_exit(0);
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-started"), pw_str_from_cstr(started));
    return PW_CONTINUE;
}
