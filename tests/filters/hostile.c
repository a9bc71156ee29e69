/*
 * Does harm of the kind that the request header x-do names, or else its configuration; none without either:
 *
 *   trap      an unreachable instruction          spin      a loop without an end
 *   recurse   calls itself without an end         memory    grows until it gets no more, writes to it all, then traps
 *   growth    the same without the trap           scribble  writes over all of its memory and its globals, then goes on
 *   table     calls through a broken pointer      outside   reads behind its memory
 *   garbage   its allocator answers with places outside of the memory while it asks for all headers
 *   deny      its allocator answers with 0        allocspin its allocator never returns
 *   alloctrap its allocator traps                 logs      10,000 lines of 4 KiB
 *   storm     100,000 host calls                  reply     answers a hundred times
 *   tick      (configuration only) traps in a tick every millisecond
 *   start     (configuration only) traps in on_configure of its second and later starts; the first one is counted in shared data
 *
 * "hook" before the word, in the configuration: at response headers instead of request headers.
 */
#define PROXY_WASM_NO_ALLOCATOR
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

#define PAGE 65536

extern unsigned char __heap_base;
static unsigned char *next_free = &__heap_base;
static char action[32]; /* of the request that runs */
static char configured[32];
static bool at_response;
static volatile uint64_t turns;

static bool is(const char *text, const char *name) {
    while (*text != '\0' && *text == *name) {
        text++;
        name++;
    }
    return *text == *name;
}

static void keep(char to[32], pw_bytes_t from) {
    size_t len = from.len < 31 ? from.len : 31;
    for (size_t i = 0; i < len; i++) {
        to[i] = from.data[i];
    }
    to[len] = '\0';
}

/* Gives memory and never takes it back; all of it is given anew for each request. */
PW_EXPORT void *proxy_on_memory_allocate(size_t size) {
    if (is(action, "alloctrap")) {
        __builtin_trap();
    }
    while (is(action, "allocspin")) {
        turns++;
    }
    if (is(action, "deny")) {
        return NULL;
    }
    if (is(action, "garbage")) {
        return (void *)(0xfffffff0u - (++turns & 15u));
    }
    size_t end = (size_t)next_free + ((size + 15) & ~(size_t)15);
    size_t have = (size_t)__builtin_wasm_memory_size(0) * PAGE;
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + PAGE - 1) / PAGE) == (size_t)-1) {
        return NULL;
    }
    void *at = next_free;
    next_free = (unsigned char *)end;
    return at;
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

__attribute__((noinline)) static uint32_t recurse(uint32_t n) {
    volatile uint32_t room[64];
    room[n % 64] = n;
    return turns == UINT64_MAX ? n : recurse(n + 1) + room[n % 64];
}

static void scribble(void) {
    size_t end = (size_t)__builtin_wasm_memory_size(0) * PAGE;
    for (volatile uint32_t *at = (volatile uint32_t *)64; (size_t)at < end - 4096; at++) {
        if ((size_t)at < (size_t)&__heap_base && (size_t)at >= 1024) {
            continue; /* its own stack, or it could not go on */
        }
        *at = 0xdeadbeef;
    }
    next_free = (unsigned char *)0xffff0000u;
}

static void call_nowhere(void) {
    volatile uintptr_t nowhere = 0x7fffffff;
    ((void (*)(void))nowhere)();
}

static void log_much(void) {
    static char line[4096];
    for (size_t i = 0; i < sizeof(line); i++) {
        line[i] = (char)(i % 7 == 0 ? '\n' : 'A' + i % 26);
    }
    for (int i = 0; i < 10000; i++) {
        pw_log(PW_LOG_INFO, pw_str(line, sizeof(line)));
    }
}

static void call_much(void) {
    uint64_t now;
    for (int i = 0; i < 100000; i++) {
        (void)proxy_get_current_time_nanoseconds(&now);
        if (i % 50 == 0) {
            (void)pw_header_set(PW_MAP_REQUEST_HEADERS, PW_STR("x-storm"), PW_STR("yes"));
        }
    }
}

static void all_headers(void) {
    char *data = NULL;
    size_t len = 0;
    (void)proxy_get_header_map_pairs(PW_MAP_REQUEST_HEADERS, &data, &len);
}

static void act(void) {
    if (is(action, "trap")) {
        __builtin_trap();
    }
    while (is(action, "spin")) {
        turns++;
    }
    if (is(action, "recurse")) {
        turns += recurse((uint32_t)turns);
    }
    if (is(action, "memory") || is(action, "growth")) {
        grow();
    }
    if (is(action, "memory")) {
        __builtin_trap();
    }
    if (is(action, "scribble")) {
        scribble();
    }
    if (is(action, "table")) {
        call_nowhere();
    }
    if (is(action, "outside")) {
        turns += *(volatile uint32_t *)0xfffffff0u;
    }
    if (is(action, "logs")) {
        log_much();
    }
    if (is(action, "storm")) {
        call_much();
    }
    if (is(action, "garbage") || is(action, "deny") || is(action, "allocspin") || is(action, "alloctrap")) {
        all_headers();
    }
    for (int i = 0; i < 100 && is(action, "reply"); i++) {
        (void)proxy_send_local_response(403, NULL, 0, "no", 2, NULL, 0, -1);
    }
}

static void harm(void) {
    pw_bytes_t text = {0};
    action[0] = '\0';
    if (pw_header_get(PW_MAP_REQUEST_HEADERS, PW_STR("x-do"), &text) == PW_OK) {
        keep(action, text);
    } else {
        for (int i = 0; i < 32; i++) {
            action[i] = configured[i];
        }
    }
    act();
    action[0] = '\0';
    next_free = &__heap_base;
}

static bool started_before(void) {
    char *data = NULL;
    size_t len = 0;
    uint32_t cas = 0;
    if (proxy_get_shared_data("started", 7, &data, &len, &cas) == PW_OK) {
        return true;
    }
    (void)proxy_set_shared_data("started", 7, "y", 1, 0);
    return false;
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    pw_bytes_t text = {0};
    if (configuration_size > 0 && pw_configuration(&text) == PW_OK) {
        at_response = text.len >= 5 && text.data[0] == 'h' && text.data[4] == ' ';
        if (at_response) {
            text.data += 5;
            text.len -= 5;
        }
        keep(configured, text);
    }
    if (is(configured, "tick")) {
        return proxy_set_tick_period_milliseconds(1) == PW_OK;
    }
    if (is(configured, "start") && started_before()) {
        __builtin_trap();
    }
    return 1;
}

PW_EXPORT void proxy_on_tick(uint32_t root_id) {
    (void)root_id;
    __builtin_trap();
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    if (!at_response) {
        harm();
    }
    return PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    if (at_response) {
        harm();
    }
    return PW_CONTINUE;
}
