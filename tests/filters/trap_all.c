/*
 * Traps in the callback that its configuration names, by the name of the export without `proxy_on_`: configure, tick (which it then starts,
 * every millisecond), request_headers, request_body, request_trailers, response_headers, response_body, response_trailers, done, log,
 * delete, context_create (of a stream), memory_allocate (once configured). The VM configuration does the same and also knows vm_start and
 * configure. With a second word, only for requests with that header: `request_headers x-trap`.
 */
#define PROXY_WASM_NO_ALLOCATOR
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

static pw_bytes_t where;
static pw_str_t callback;
static pw_str_t header;

static void read_configuration(pw_status_t (*read)(pw_bytes_t *)) {
    pw_bytes_t text;
    if (read(&text) != PW_OK || text.len == 0) {
        return;
    }
    where = text; /* kept for as long as the filter lives */
    size_t len = 0;
    while (len < where.len && where.data[len] != ' ') {
        len++;
    }
    callback = pw_str(where.data, len);
    header = len < where.len ? pw_str(where.data + len + 1, where.len - len - 1) : PW_STR("");
}

static bool is_here(const char *name) {
    return pw_str_equal(callback, pw_str_from_cstr(name));
}

static void trap_in(const char *name) {
    if (is_here(name)) {
        __builtin_trap();
    }
}

static uint32_t trap_in_stream(const char *name) {
    pw_bytes_t value;
    if (!is_here(name)) {
        return PW_CONTINUE;
    }
    if (header.len > 0 && pw_header_get(PW_MAP_REQUEST_HEADERS, header, &value) != PW_OK) {
        return PW_CONTINUE;
    }
    __builtin_trap();
}

void *proxy_on_memory_allocate(size_t size) {
    trap_in("memory_allocate");
    return pw_malloc(size);
}

PW_EXPORT void proxy_on_context_create(uint32_t context_id, uint32_t parent_id) {
    (void)context_id;
    if (parent_id != 0) {
        trap_in("context_create");
    }
}

PW_EXPORT uint32_t proxy_on_vm_start(uint32_t root_id, uint32_t vm_configuration_size) {
    (void)root_id;
    if (vm_configuration_size > 0) {
        read_configuration(pw_vm_configuration);
    }
    trap_in("vm_start");
    return 1;
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    if (configuration_size > 0) {
        read_configuration(pw_configuration);
    }
    trap_in("configure");
    return !is_here("tick") || proxy_set_tick_period_milliseconds(1) == PW_OK;
}

PW_EXPORT void proxy_on_tick(uint32_t root_id) {
    (void)root_id;
    trap_in("tick");
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    if (is_here("memory_allocate")) {
        pw_bytes_t path; /* makes the host allocate */
        (void)pw_header_get(PW_MAP_REQUEST_HEADERS, PW_STR(":path"), &path);
    }
    return trap_in_stream("request_headers");
}

PW_EXPORT uint32_t proxy_on_request_body(uint32_t context_id, uint32_t body_size, uint32_t end_of_stream) {
    (void)context_id;
    (void)body_size;
    (void)end_of_stream;
    return trap_in_stream("request_body");
}

PW_EXPORT uint32_t proxy_on_request_trailers(uint32_t context_id, uint32_t n_trailers) {
    (void)context_id;
    (void)n_trailers;
    return trap_in_stream("request_trailers");
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    return trap_in_stream("response_headers");
}

PW_EXPORT uint32_t proxy_on_response_body(uint32_t context_id, uint32_t body_size, uint32_t end_of_stream) {
    (void)context_id;
    (void)body_size;
    (void)end_of_stream;
    return trap_in_stream("response_body");
}

PW_EXPORT uint32_t proxy_on_response_trailers(uint32_t context_id, uint32_t n_trailers) {
    (void)context_id;
    (void)n_trailers;
    return trap_in_stream("response_trailers");
}

PW_EXPORT uint32_t proxy_on_done(uint32_t context_id) {
    (void)context_id;
    trap_in("done");
    return 1;
}

PW_EXPORT void proxy_on_log(uint32_t context_id) {
    (void)context_id;
    trap_in("log");
}

PW_EXPORT void proxy_on_delete(uint32_t context_id) {
    (void)context_id;
    trap_in("delete");
}
