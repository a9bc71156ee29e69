/*
 * Starts well, and ill from a time on: tests write the time and what then happens into the module's bytes, behind "LATE:", since a start
 * function can ask nobody. First thirteen digits, milliseconds since 1970; then, each behind a blank, where and what:
 *
 *   init (_initialize)  vm (proxy_on_vm_start)  configure (proxy_on_configure)
 *   trap   an unreachable instruction     spin   a loop without an end     exit   proc_exit(7)
 *   call   a host call that is not allowed in a start function             grow   memory without an end, written to; then a trap
 *   refuse answers 0 (not from _initialize)
 *
 * It has an instruction that writes to a table, so no image holds its state: it is started again after each trap, and for each request
 * that is isolated. The request header x-do: trap traps, x-do: grow takes 2 MiB. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

PW_IMPORT_FROM("wasi_snapshot_preview1", "clock_time_get") uint32_t clock_time_get(uint32_t clock, uint64_t precision, uint64_t *ns);
PW_IMPORT_FROM("wasi_snapshot_preview1", "proc_exit") _Noreturn void proc_exit(uint32_t code);

static const volatile char order[] = "LATE:9999999999999 init trap                ";
static volatile uint64_t turns;
static __externref_t table[0];

__attribute__((target("reference-types"))) PW_EXPORT_AS("unused") void unused(void) {
    __builtin_wasm_table_set(table, 0, __builtin_wasm_ref_null_extern());
}

static bool said(size_t at, const char *word) {
    while (*word != '\0' && order[at] == *word) {
        at++;
        word++;
    }
    return *word == '\0';
}

static bool late(void) {
    uint64_t now = 0, when = 0;
    for (size_t i = 5; i < 18; i++) {
        when = when * 10 + (uint64_t)(order[i] - '0');
    }
    (void)clock_time_get(0, 1, &now);
    return now / 1000000 >= when;
}

static void grow(void) {
    for (size_t page; (page = __builtin_wasm_memory_grow(0, 1)) != SIZE_MAX;) {
        *(volatile char *)(page << 16) = 1;
    }
}

static uint32_t start(const char *where) {
    size_t what = 19;
    if (!said(what, where) || !late()) {
        return 1;
    }
    while (order[what] != ' ') {
        what++;
    }
    what++;
    while (said(what, "spin")) {
        turns++;
    }
    if (said(what, "exit")) {
        proc_exit(7);
    }
    if (said(what, "refuse")) {
        return 0;
    }
    if (said(what, "call")) {
        (void)proxy_set_effective_context(1);
    }
    if (said(what, "grow")) {
        grow();
    }
    __builtin_trap();
}

PW_EXPORT_AS("_initialize") void initialize(void);

void initialize(void) {
    (void)start("init");
}

PW_EXPORT uint32_t proxy_on_vm_start(uint32_t root_id, uint32_t size) {
    (void)root_id, (void)size;
    return start("vm");
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t size) {
    (void)root_id, (void)size;
    return start("configure");
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    pw_bytes_t what = {0};
    (void)context_id, (void)n_headers, (void)end_of_stream;
    if (pw_header_get(PW_MAP_REQUEST_HEADERS, PW_STR("x-do"), &what) != PW_OK) {
        return PW_CONTINUE;
    }
    if (what.data[0] == 't') {
        __builtin_trap();
    }
    (void)__builtin_wasm_memory_grow(0, 32);
    return PW_CONTINUE;
}
