/*
 * Does harm in any callback: the request header x-do says what, the header x-at where (the export's name without `proxy_on_`;
 * request_headers without it). Both are read when the context is made. Not configured.
 *
 *   trap      an unreachable instruction        logs     2,000 lines of 4 KiB
 *   storm     20,000 host calls of all kinds    tables   calls through indices of all sizes, and of the wrong type
 *   globals   breaks its stack pointer, then calls on
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

static char what[16], where[32];
static volatile uint64_t turns;

static bool is(const char *text, const char *name) {
    while (*text != '\0' && *text == *name) {
        text++;
        name++;
    }
    return *text == *name;
}

static void keep(char *to, size_t size, const char *header) {
    pw_bytes_t value;
    to[0] = '\0';
    if (pw_header_get(PW_MAP_REQUEST_HEADERS, pw_str_from_cstr(header), &value) != PW_OK) {
        return;
    }
    size_t len = value.len < size - 1 ? value.len : size - 1;
    memcpy(to, value.data, len);
    to[len] = '\0';
    pw_bytes_free(&value);
}

static void logs(void) {
    static char line[4096];
    memset(line, 'x', sizeof(line));
    for (int i = 0; i < 2000; i++) {
        (void)proxy_log(PW_LOG_INFO, line, sizeof(line));
    }
}

static void storm(void) {
    uint64_t now;
    uint32_t level;
    for (uint32_t i = 0; i < 20000; i++) {
        switch (i & 3) {
        case 0:
            (void)proxy_get_current_time_nanoseconds(&now);
            break;
        case 1:
            (void)proxy_set_effective_context(i);
            break;
        case 2:
            (void)proxy_get_log_level(&level);
            break;
        default:
            (void)proxy_get_buffer_bytes(i, i, i, (char **)(void *)0xfffffff0, (size_t *)(void *)0xfffffff0);
        }
    }
}

static void tables(void) {
    for (volatile uint32_t index = 1;; index = index * 2 + 1) {
        ((uint64_t (*)(uint64_t, float))index)(turns, 1.0f);
    }
}

static void globals(void) {
    __asm__ volatile("i32.const -64\n\tglobal.set __stack_pointer" ::: "memory");
    keep(where, sizeof(where), "x-at");
    __builtin_trap();
}

static void wreck(void) {
    if (is(what, "trap")) {
        __builtin_trap();
    } else if (is(what, "logs")) {
        logs();
    } else if (is(what, "storm")) {
        storm();
    } else if (is(what, "tables")) {
        tables();
    } else if (is(what, "globals")) {
        globals();
    }
}

static void here(const char *callback) {
    turns++;
    if (is(where, callback)) {
        wreck();
    }
}

PW_EXPORT void proxy_on_context_create(uint32_t context_id, uint32_t parent_id) {
    (void)context_id;
    if (parent_id != 0) {
        keep(what, sizeof(what), "x-do");
        keep(where, sizeof(where), "x-at");
        if (where[0] == '\0') {
            memcpy(where, "request_headers", 16);
        }
        here("context_create");
    }
}

#define IN_MESSAGE(name)                                                                                                                   \
    PW_EXPORT uint32_t proxy_on_##name(uint32_t id, uint32_t n, uint32_t eos) {                                                            \
        (void)id, (void)n, (void)eos;                                                                                                      \
        here(#name);                                                                                                                       \
        return PW_CONTINUE;                                                                                                                \
    }
IN_MESSAGE(request_headers)
IN_MESSAGE(request_body)
IN_MESSAGE(response_headers)
IN_MESSAGE(response_body)

PW_EXPORT uint32_t proxy_on_done(uint32_t id) {
    (void)id;
    here("done");
    return 1;
}

PW_EXPORT void proxy_on_log(uint32_t id) {
    (void)id;
    here("log");
}

PW_EXPORT void proxy_on_delete(uint32_t id) {
    (void)id;
    here("delete");
}
