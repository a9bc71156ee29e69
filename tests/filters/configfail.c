/*
 * proxy_on_configure logs the configuration and answers 0: it never starts. If it is used all the same, it traps.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    (void)configuration_size;
    pw_bytes_t text;
    (void)pw_configuration(&text);
    pw_line_t line;
    pw_line_init(&line);
    pw_line_str(&line, PW_STR("configfail: refused on purpose: "));
    pw_line_str(&line, pw_bytes_str(text));
    pw_line_log(&line, PW_LOG_ERROR);
    pw_bytes_free(&text);
    return 0;
}

PW_EXPORT void proxy_on_context_create(uint32_t context_id, uint32_t parent_id) {
    (void)context_id;
    if (parent_id != 0) {
        __builtin_trap();
    }
}
