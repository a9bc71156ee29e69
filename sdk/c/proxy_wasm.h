/*
 * proxy_wasm.h: write Proxy-Wasm filters in C (or C++) with one header and no libc.
 *
 *     #define PROXY_WASM_IMPLEMENTATION
 *     #include "proxy_wasm.h"
 *
 *     PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream)
 *     {
 *         pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-greeting"), PW_STR("hello"));
 *         return PW_CONTINUE;
 *     }
 *
 *     clang --target=wasm32 -O2 -nostdlib -fno-builtin -Wl,--no-entry -Wl,--allow-undefined -I<this folder> -o filter.wasm filter.c
 *
 * Exactly one source file of a filter defines PROXY_WASM_IMPLEMENTATION before the include. A callback is exported when it is defined:
 * every one is declared below, so a wrong signature is an error of the compiler and not of the proxy. All callbacks are optional.
 *
 * Switches, to be defined before the include:
 *   PROXY_WASM_ABI_0_1_0      announce ABI 0.1.0: the header callbacks have no end_of_stream argument
 *   PROXY_WASM_ABI_0_2_0      announce ABI 0.2.0
 *   PROXY_WASM_ABI_NONE       announce nothing; export a marker of your own with PW_EXPORT_AS. Default: ABI 0.2.1
 *   PROXY_WASM_MALLOC         define malloc, calloc, realloc and free as well, on the allocator below
 *   PROXY_WASM_USE_LIBC       link with a libc: its malloc and memory functions are used, and its _initialize
 *   PROXY_WASM_NO_ALLOCATOR   do not export proxy_on_memory_allocate (the filter exports its own, or malloc)
 *
 * Memory. What the proxy hands over (pw_bytes_t, pw_pairs_t) was allocated in the filter and belongs to the filter: give it back with
 * pw_bytes_free or pw_pairs_free. A pw_str_t only borrows. Nothing here keeps a pointer after it has returned.
 *
 * Results. Host calls answer a pw_status_t; results are written only with PW_OK, unless a comment says otherwise. The proxy is asked one
 * thing at a time: a filter runs in one thread, and never inside itself except for the allocator.
 */
#ifndef PROXY_WASM_H
#define PROXY_WASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__wasm__)
#define PW_EXPORT __attribute__((visibility("default")))
#define PW_EXPORT_AS(name) __attribute__((export_name(name)))
#define PW_IMPORT_FROM(module, name) __attribute__((import_module(module), import_name(name)))
#else /* natively, for unit tests of a filter's own logic: plain external functions, and the libc's memory */
#define PW_EXPORT
#define PW_EXPORT_AS(name)
#define PW_IMPORT_FROM(module, name)
#ifndef PROXY_WASM_USE_LIBC
#define PROXY_WASM_USE_LIBC
#endif
#endif

#define PW_IMPORT(name) PW_IMPORT_FROM("env", #name)
#define PW_CALLBACK(result, name) PW_EXPORT_AS(#name) result name

#ifdef __cplusplus
extern "C" {
#endif

/* ---- numbers of the ABI ------------------------------------------------------------------------------------------ */

typedef enum {
    PW_OK = 0,
    PW_NOT_FOUND = 1,
    PW_BAD_ARGUMENT = 2,
    PW_SERIALIZATION_FAILURE = 3,
    PW_PARSE_FAILURE = 4,
    PW_BAD_EXPRESSION = 5,
    PW_INVALID_MEMORY_ACCESS = 6,
    PW_EMPTY = 7,
    PW_CAS_MISMATCH = 8,
    PW_RESULT_MISMATCH = 9,
    PW_INTERNAL_FAILURE = 10,
    PW_BROKEN_CONNECTION = 11,
    PW_UNIMPLEMENTED = 12,
} pw_status_t;

typedef enum {
    PW_LOG_TRACE = 0,
    PW_LOG_DEBUG = 1,
    PW_LOG_INFO = 2,
    PW_LOG_WARN = 3,
    PW_LOG_ERROR = 4,
    PW_LOG_CRITICAL = 5,
} pw_log_level_t;

/* What a callback of a stream answers. All know the first two; the other names say what headers, body and trailers callbacks know. */
enum {
    PW_CONTINUE = 0,
    PW_PAUSE = 1,

    PW_HEADERS_CONTINUE = 0,
    PW_HEADERS_STOP = 1,
    PW_HEADERS_CONTINUE_AND_END_STREAM = 2,
    PW_HEADERS_STOP_ALL_AND_BUFFER = 3,
    PW_HEADERS_STOP_ALL_AND_WATERMARK = 4,

    PW_DATA_CONTINUE = 0,
    PW_DATA_STOP_AND_BUFFER = 1,    /* keep what came; the next callback sees all of it */
    PW_DATA_STOP_AND_WATERMARK = 2, /* the same with back-pressure */
    PW_DATA_STOP_NO_BUFFER = 3,     /* the chunk is gone: the filter took it */

    PW_TRAILERS_CONTINUE = 0,
    PW_TRAILERS_STOP = 1,
};

typedef enum {
    PW_BUFFER_REQUEST_BODY = 0,
    PW_BUFFER_RESPONSE_BODY = 1,
    PW_BUFFER_DOWNSTREAM_DATA = 2,
    PW_BUFFER_UPSTREAM_DATA = 3,
    PW_BUFFER_CALL_RESPONSE_BODY = 4,
    PW_BUFFER_GRPC_RECEIVE = 5,
    PW_BUFFER_VM_CONFIGURATION = 6,
    PW_BUFFER_PLUGIN_CONFIGURATION = 7,
    PW_BUFFER_CALL_DATA = 8,
    PW_BUFFER_REDIS_CALL_RESPONSE = 9, /* extension */
} pw_buffer_t;

enum {
    PW_BUFFER_FLAG_END_OF_STREAM = 1,
};

typedef enum {
    PW_MAP_REQUEST_HEADERS = 0,
    PW_MAP_REQUEST_TRAILERS = 1,
    PW_MAP_RESPONSE_HEADERS = 2,
    PW_MAP_RESPONSE_TRAILERS = 3,
    PW_MAP_GRPC_INITIAL_METADATA = 4,
    PW_MAP_GRPC_TRAILING_METADATA = 5,
    PW_MAP_CALL_RESPONSE_HEADERS = 6,
    PW_MAP_CALL_RESPONSE_TRAILERS = 7,
} pw_map_t;

typedef enum {
    PW_STREAM_REQUEST = 0,
    PW_STREAM_RESPONSE = 1,
    PW_STREAM_DOWNSTREAM = 2,
    PW_STREAM_UPSTREAM = 3,
} pw_stream_t;

typedef enum {
    PW_PEER_UNKNOWN = 0,
    PW_PEER_LOCAL = 1,  /* closed by the proxy */
    PW_PEER_REMOTE = 2, /* closed by the peer */
} pw_peer_t;

typedef enum {
    PW_METRIC_COUNTER = 0,
    PW_METRIC_GAUGE = 1,
    PW_METRIC_HISTOGRAM = 2,
} pw_metric_t;

enum {
    PW_GRPC_OK = 0,
    PW_GRPC_CANCELLED = 1,
    PW_GRPC_UNKNOWN = 2,
    PW_GRPC_INVALID_ARGUMENT = 3,
    PW_GRPC_DEADLINE_EXCEEDED = 4,
    PW_GRPC_NOT_FOUND = 5,
    PW_GRPC_ALREADY_EXISTS = 6,
    PW_GRPC_PERMISSION_DENIED = 7,
    PW_GRPC_RESOURCE_EXHAUSTED = 8,
    PW_GRPC_FAILED_PRECONDITION = 9,
    PW_GRPC_ABORTED = 10,
    PW_GRPC_OUT_OF_RANGE = 11,
    PW_GRPC_UNIMPLEMENTED = 12,
    PW_GRPC_INTERNAL = 13,
    PW_GRPC_UNAVAILABLE = 14,
    PW_GRPC_DATA_LOSS = 15,
    PW_GRPC_UNAUTHENTICATED = 16,
    PW_GRPC_NONE = -1, /* for local replies: this is not gRPC */
};

/* ---- callbacks: what the proxy calls. Define those that you need ------------------------------------------------- */

/* parent_id 0: a root context (one per configured filter); otherwise a stream context, whose parent is its root. */
PW_CALLBACK(void, proxy_on_context_create)(uint32_t context_id, uint32_t parent_id);
/* The next three answer non-zero for success; after 0 the filter is not used. Sizes in bytes; see pw_vm_configuration, pw_configuration. */
PW_CALLBACK(uint32_t, proxy_on_vm_start)(uint32_t root_id, uint32_t vm_configuration_size);
PW_CALLBACK(uint32_t, proxy_on_configure)(uint32_t root_id, uint32_t configuration_size);
PW_CALLBACK(uint32_t, proxy_validate_configuration)(uint32_t root_id, uint32_t configuration_size);
PW_CALLBACK(void, proxy_on_tick)(uint32_t root_id);
PW_CALLBACK(void, proxy_on_queue_ready)(uint32_t root_id, uint32_t queue_id);

#ifdef PROXY_WASM_ABI_0_1_0
PW_CALLBACK(uint32_t, proxy_on_request_headers)(uint32_t context_id, uint32_t n_headers);
PW_CALLBACK(uint32_t, proxy_on_response_headers)(uint32_t context_id, uint32_t n_headers);
#else
/* end_of_stream 1: neither a body nor trailers follow. */
PW_CALLBACK(uint32_t, proxy_on_request_headers)(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream);
PW_CALLBACK(uint32_t, proxy_on_response_headers)(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream);
#endif
/* body_size: bytes readable now, all that is held while the filter keeps pausing. end_of_stream 1: nothing follows, no trailers either. */
PW_CALLBACK(uint32_t, proxy_on_request_body)(uint32_t context_id, uint32_t body_size, uint32_t end_of_stream);
PW_CALLBACK(uint32_t, proxy_on_request_trailers)(uint32_t context_id, uint32_t n_trailers);
PW_CALLBACK(uint32_t, proxy_on_request_metadata)(uint32_t context_id, uint32_t n_elements);
PW_CALLBACK(uint32_t, proxy_on_response_body)(uint32_t context_id, uint32_t body_size, uint32_t end_of_stream);
PW_CALLBACK(uint32_t, proxy_on_response_trailers)(uint32_t context_id, uint32_t n_trailers);
PW_CALLBACK(uint32_t, proxy_on_response_metadata)(uint32_t context_id, uint32_t n_elements);

PW_CALLBACK(uint32_t, proxy_on_new_connection)(uint32_t context_id);
PW_CALLBACK(uint32_t, proxy_on_downstream_data)(uint32_t context_id, uint32_t data_size, uint32_t end_of_stream);
PW_CALLBACK(uint32_t, proxy_on_upstream_data)(uint32_t context_id, uint32_t data_size, uint32_t end_of_stream);
PW_CALLBACK(void, proxy_on_downstream_connection_close)(uint32_t context_id, uint32_t peer);
PW_CALLBACK(void, proxy_on_upstream_connection_close)(uint32_t context_id, uint32_t peer);

/* Answers to calls name the root: act on a stream with proxy_set_effective_context. n_headers 0: the call failed, see proxy_get_status. */
PW_CALLBACK(void, proxy_on_http_call_response)
(uint32_t root_id, uint32_t call_id, uint32_t n_headers, uint32_t body_size, uint32_t n_trailers);
PW_CALLBACK(void, proxy_on_grpc_receive_initial_metadata)(uint32_t root_id, uint32_t call_id, uint32_t n_elements);
PW_CALLBACK(void, proxy_on_grpc_receive)(uint32_t root_id, uint32_t call_id, uint32_t message_size);
PW_CALLBACK(void, proxy_on_grpc_receive_trailing_metadata)(uint32_t root_id, uint32_t call_id, uint32_t n_elements);
PW_CALLBACK(void, proxy_on_grpc_close)(uint32_t root_id, uint32_t call_id, uint32_t grpc_status);
PW_CALLBACK(void, proxy_on_foreign_function)(uint32_t context_id, uint32_t function_id, uint32_t data_size);
PW_CALLBACK(void, proxy_on_redis_call_response)(uint32_t root_id, uint32_t call_id, uint32_t redis_status, uint32_t response_size);
PW_CALLBACK(void, envoy_on_resolve_dns)(uint32_t root_id, uint32_t call_id, uint32_t result_size);
PW_CALLBACK(void, envoy_on_stats_update)(uint32_t root_id, uint32_t result_size);

/* proxy_on_done answers non-zero when the context may go; a root that answers 0 goes after proxy_done. */
PW_CALLBACK(uint32_t, proxy_on_done)(uint32_t context_id);
PW_CALLBACK(void, proxy_on_log)(uint32_t context_id);
PW_CALLBACK(void, proxy_on_delete)(uint32_t context_id);

/* ---- host calls: what the proxy offers, one to one. Pointers and sizes are of the filter's memory ---------------- */

PW_IMPORT(proxy_log) pw_status_t proxy_log(pw_log_level_t level, const char *message, size_t message_size);
PW_IMPORT(proxy_get_log_level) pw_status_t proxy_get_log_level(pw_log_level_t *level);
PW_IMPORT(proxy_get_current_time_nanoseconds) pw_status_t proxy_get_current_time_nanoseconds(uint64_t *time_ns);
/* The timer of the root context; 0 stops it. */
PW_IMPORT(proxy_set_tick_period_milliseconds) pw_status_t proxy_set_tick_period_milliseconds(uint32_t period_ms);

/* Until the end of this callback, host calls act on that context. */
PW_IMPORT(proxy_set_effective_context) pw_status_t proxy_set_effective_context(uint32_t context_id);
PW_IMPORT(proxy_done) pw_status_t proxy_done(void);

PW_IMPORT(proxy_get_buffer_bytes)
pw_status_t proxy_get_buffer_bytes(pw_buffer_t buffer, size_t start, size_t max_size, char **data, size_t *data_size);
PW_IMPORT(proxy_get_buffer_status) pw_status_t proxy_get_buffer_status(pw_buffer_t buffer, size_t *size, uint32_t *flags);
/* Replaces `size` bytes at `start`; a start at or past the end appends. */
PW_IMPORT(proxy_set_buffer_bytes)
pw_status_t proxy_set_buffer_bytes(pw_buffer_t buffer, size_t start, size_t size, const char *data, size_t data_size);

PW_IMPORT(proxy_get_header_map_pairs) pw_status_t proxy_get_header_map_pairs(pw_map_t map, char **pairs, size_t *pairs_size);
PW_IMPORT(proxy_set_header_map_pairs) pw_status_t proxy_set_header_map_pairs(pw_map_t map, const char *pairs, size_t pairs_size);
PW_IMPORT(proxy_get_header_map_value)
pw_status_t proxy_get_header_map_value(pw_map_t map, const char *name, size_t name_size, char **value, size_t *value_size);
PW_IMPORT(proxy_add_header_map_value)
pw_status_t proxy_add_header_map_value(pw_map_t map, const char *name, size_t name_size, const char *value, size_t value_size);
PW_IMPORT(proxy_replace_header_map_value)
pw_status_t proxy_replace_header_map_value(pw_map_t map, const char *name, size_t name_size, const char *value, size_t value_size);
PW_IMPORT(proxy_remove_header_map_value) pw_status_t proxy_remove_header_map_value(pw_map_t map, const char *name, size_t name_size);
PW_IMPORT(proxy_get_header_map_size) pw_status_t proxy_get_header_map_size(pw_map_t map, size_t *size);

/* The parts of a path are separated by NUL: PW_STR("request\0path"). */
PW_IMPORT(proxy_get_property) pw_status_t proxy_get_property(const char *path, size_t path_size, char **value, size_t *value_size);
PW_IMPORT(proxy_set_property) pw_status_t proxy_set_property(const char *path, size_t path_size, const char *value, size_t value_size);

PW_IMPORT(proxy_continue_stream) pw_status_t proxy_continue_stream(pw_stream_t stream);
PW_IMPORT(proxy_close_stream) pw_status_t proxy_close_stream(pw_stream_t stream);
PW_IMPORT(proxy_send_local_response)
pw_status_t proxy_send_local_response(uint32_t status_code, const char *details, size_t details_size, const char *body, size_t body_size,
                                      const char *headers, size_t headers_size, int32_t grpc_status);
/* What went wrong with the call whose failure is being reported. */
PW_IMPORT(proxy_get_status) pw_status_t proxy_get_status(uint32_t *code, char **message, size_t *message_size);

/* headers and trailers are encoded pairs; `:method`, `:path` and `:authority` are required. */
PW_IMPORT(proxy_http_call)
pw_status_t proxy_http_call(const char *upstream, size_t upstream_size, const char *headers, size_t headers_size, const char *body,
                            size_t body_size, const char *trailers, size_t trailers_size, uint32_t timeout_ms, uint32_t *call_id);
PW_IMPORT(proxy_grpc_call)
pw_status_t proxy_grpc_call(const char *upstream, size_t upstream_size, const char *service, size_t service_size, const char *method,
                            size_t method_size, const char *metadata, size_t metadata_size, const char *message, size_t message_size,
                            uint32_t timeout_ms, uint32_t *call_id);
PW_IMPORT(proxy_grpc_stream)
pw_status_t proxy_grpc_stream(const char *upstream, size_t upstream_size, const char *service, size_t service_size, const char *method,
                              size_t method_size, const char *metadata, size_t metadata_size, uint32_t *call_id);
PW_IMPORT(proxy_grpc_send) pw_status_t proxy_grpc_send(uint32_t call_id, const char *message, size_t message_size, uint32_t end_stream);
PW_IMPORT(proxy_grpc_cancel) pw_status_t proxy_grpc_cancel(uint32_t call_id);
PW_IMPORT(proxy_grpc_close) pw_status_t proxy_grpc_close(uint32_t call_id);

PW_IMPORT(proxy_get_shared_data)
pw_status_t proxy_get_shared_data(const char *key, size_t key_size, char **value, size_t *value_size, uint32_t *cas);
/* cas 0 writes whatever is there; otherwise only when the value is still the one that was read with this cas. */
PW_IMPORT(proxy_set_shared_data)
pw_status_t proxy_set_shared_data(const char *key, size_t key_size, const char *value, size_t value_size, uint32_t cas);
PW_IMPORT(proxy_register_shared_queue) pw_status_t proxy_register_shared_queue(const char *name, size_t name_size, uint32_t *queue_id);
PW_IMPORT(proxy_resolve_shared_queue)
pw_status_t proxy_resolve_shared_queue(const char *vm_id, size_t vm_id_size, const char *name, size_t name_size, uint32_t *queue_id);
PW_IMPORT(proxy_enqueue_shared_queue) pw_status_t proxy_enqueue_shared_queue(uint32_t queue_id, const char *value, size_t value_size);
PW_IMPORT(proxy_dequeue_shared_queue) pw_status_t proxy_dequeue_shared_queue(uint32_t queue_id, char **value, size_t *value_size);

PW_IMPORT(proxy_define_metric) pw_status_t proxy_define_metric(pw_metric_t type, const char *name, size_t name_size, uint32_t *metric_id);
PW_IMPORT(proxy_increment_metric) pw_status_t proxy_increment_metric(uint32_t metric_id, int64_t offset);
PW_IMPORT(proxy_record_metric) pw_status_t proxy_record_metric(uint32_t metric_id, uint64_t value);
PW_IMPORT(proxy_get_metric) pw_status_t proxy_get_metric(uint32_t metric_id, uint64_t *value);

/* results and results_size may be NULL: the caller does not want them. */
PW_IMPORT(proxy_call_foreign_function)
pw_status_t proxy_call_foreign_function(const char *name, size_t name_size, const char *arguments, size_t arguments_size, char **results,
                                        size_t *results_size);

/* ABI 0.1.0; later versions have proxy_continue_stream and the buffers 6 and 7 instead. */
PW_IMPORT(proxy_get_configuration) pw_status_t proxy_get_configuration(char **configuration, size_t *configuration_size);
PW_IMPORT(proxy_continue_request) pw_status_t proxy_continue_request(void);
PW_IMPORT(proxy_continue_response) pw_status_t proxy_continue_response(void);
PW_IMPORT(proxy_clear_route_cache) pw_status_t proxy_clear_route_cache(void);

/* Extensions that some proxies offer beside the ABI. A filter that uses one loads only where it exists. */
PW_IMPORT(proxy_redis_init)
pw_status_t proxy_redis_init(const char *upstream, size_t upstream_size, const char *user, size_t user_size, const char *password,
                             size_t password_size, uint32_t timeout_ms);
PW_IMPORT(proxy_redis_call)
pw_status_t proxy_redis_call(const char *upstream, size_t upstream_size, const char *query, size_t query_size, uint32_t *call_id);
PW_IMPORT(proxy_inject_encoded_data_to_filter_chain)
pw_status_t proxy_inject_encoded_data_to_filter_chain(const char *body, size_t body_size, uint32_t end_stream);
PW_IMPORT(proxy_get_upstream_hosts) pw_status_t proxy_get_upstream_hosts(char **pairs, size_t *pairs_size);
PW_IMPORT(proxy_set_upstream_override_host) pw_status_t proxy_set_upstream_override_host(const char *host, size_t host_size);
PW_IMPORT(envoy_resolve_dns) pw_status_t envoy_resolve_dns(const char *name, size_t name_size, uint32_t *call_id);

/* ---- strings and memory ------------------------------------------------------------------------------------------ */

/* Borrowed bytes. May hold NUL, need not end with one. */
typedef struct {
    const char *data;
    size_t len;
} pw_str_t;

/* Owned bytes: pw_bytes_free. data is NULL when len is 0. */
typedef struct {
    char *data;
    size_t len;
} pw_bytes_t;

typedef struct {
    pw_str_t name;
    pw_str_t value;
} pw_pair_t;

/* What compilers take for granted; without a libc they come from here. */
#ifndef PROXY_WASM_USE_LIBC
void *memcpy(void *to, const void *from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *text);
#endif

static inline pw_str_t pw_str(const char *data, size_t len) {
    pw_str_t s;
    s.data = data;
    s.len = len;
    return s;
}

/* Of a string literal; counts NULs inside it. */
#define PW_STR(literal) pw_str("" literal, sizeof(literal) - 1)

pw_str_t pw_str_from_cstr(const char *text);
bool pw_str_equal(pw_str_t a, pw_str_t b);
/* As header names are compared: letters of ASCII without case. */
bool pw_str_equal_nocase(pw_str_t a, pw_str_t b);
/* Decimal digits only, at least one, no overflow. */
bool pw_str_to_u64(pw_str_t s, uint64_t *number);

static inline pw_str_t pw_bytes_str(pw_bytes_t bytes) {
    return pw_str(bytes.data, bytes.len);
}

void pw_bytes_free(pw_bytes_t *bytes);

/*
 * The allocator. Blocks come from size classes (two per power of two, so at most a third is slack) and go back to their class when freed:
 * constant time, and the memory of a filter stays bounded by the sum of what each class held at its worst. NULL when the memory limit is
 * reached. Blocks are aligned to 16 bytes. Freeing NULL is nothing; freeing twice traps. pw_realloc keeps the old block when it fails.
 */
void *pw_malloc(size_t size);
void *pw_realloc(void *block, size_t size);
void pw_free(void *block);

PW_CALLBACK(void *, proxy_on_memory_allocate)(size_t size);

/* ---- logging without printf -------------------------------------------------------------------------------------- */

static inline void pw_log(pw_log_level_t level, pw_str_t message) {
    (void)proxy_log(level, message.data, message.len);
}

#define PW_LOG(level, literal) pw_log(level, PW_STR(literal))

/* A line put together piece by piece; what does not fit is cut off. Start with pw_line_init, end with pw_line_log. */
#define PW_LINE_SIZE 1024

typedef struct {
    size_t len;
    char data[PW_LINE_SIZE];
} pw_line_t;

static inline void pw_line_init(pw_line_t *line) {
    line->len = 0;
}

void pw_line_str(pw_line_t *line, pw_str_t text);
void pw_line_u64(pw_line_t *line, uint64_t number);
void pw_line_i64(pw_line_t *line, int64_t number);
void pw_line_hex(pw_line_t *line, pw_str_t bytes);
void pw_line_log(const pw_line_t *line, pw_log_level_t level);

/* ---- configuration, buffers, properties -------------------------------------------------------------------------- */

/* At most max_size bytes from start on. *bytes is empty unless PW_OK; PW_OK with no bytes means that there are none. */
pw_status_t pw_buffer_get(pw_buffer_t buffer, size_t start, size_t max_size, pw_bytes_t *bytes);

/* The filter's own configuration, in proxy_on_configure; and the one of its VM. */
static inline pw_status_t pw_configuration(pw_bytes_t *bytes) {
    return pw_buffer_get(PW_BUFFER_PLUGIN_CONFIGURATION, 0, 0x7fffffff, bytes);
}

static inline pw_status_t pw_vm_configuration(pw_bytes_t *bytes) {
    return pw_buffer_get(PW_BUFFER_VM_CONFIGURATION, 0, 0x7fffffff, bytes);
}

static inline pw_status_t pw_buffer_replace(pw_buffer_t buffer, pw_str_t data) {
    return proxy_set_buffer_bytes(buffer, 0, 0x7fffffff, data.data, data.len);
}

static inline pw_status_t pw_buffer_prepend(pw_buffer_t buffer, pw_str_t data) {
    return proxy_set_buffer_bytes(buffer, 0, 0, data.data, data.len);
}

static inline pw_status_t pw_buffer_append(pw_buffer_t buffer, pw_str_t data) {
    return proxy_set_buffer_bytes(buffer, 0x7fffffff, 0, data.data, data.len);
}

pw_status_t pw_property_get(pw_str_t path, pw_bytes_t *value);

static inline pw_status_t pw_property_set(pw_str_t path, pw_str_t value) {
    return proxy_set_property(path.data, path.len, value.data, value.len);
}

/* ---- headers ----------------------------------------------------------------------------------------------------- */

/* The first value of that name; PW_NOT_FOUND when there is none (in ABI 0.1.0: PW_OK and empty). */
pw_status_t pw_header_get(pw_map_t map, pw_str_t name, pw_bytes_t *value);

static inline pw_status_t pw_header_set(pw_map_t map, pw_str_t name, pw_str_t value) {
    return proxy_replace_header_map_value(map, name.data, name.len, value.data, value.len);
}

static inline pw_status_t pw_header_add(pw_map_t map, pw_str_t name, pw_str_t value) {
    return proxy_add_header_map_value(map, name.data, name.len, value.data, value.len);
}

static inline pw_status_t pw_header_remove(pw_map_t map, pw_str_t name) {
    return proxy_remove_header_map_value(map, name.data, name.len);
}

/*
 * All pairs of a map, in order:
 *
 *     pw_pairs_t pairs;
 *     pw_pair_t pair;
 *     if (pw_pairs_get(PW_MAP_REQUEST_HEADERS, &pairs) == PW_OK) {
 *         while (pw_pairs_next(&pairs, &pair)) { ... }   (pair borrows from pairs)
 *         pw_pairs_free(&pairs);
 *     }
 */
typedef struct {
    pw_bytes_t bytes; /* as the proxy encoded them */
    uint32_t count;
    uint32_t next;
    size_t offset; /* where the name of pair `next` begins */
} pw_pairs_t;

pw_status_t pw_pairs_get(pw_map_t map, pw_pairs_t *pairs);
/* Takes over encoded pairs that came another way (a map-typed property, say). PW_PARSE_FAILURE: malformed; bytes stay the caller's. */
pw_status_t pw_pairs_take(pw_bytes_t bytes, pw_pairs_t *pairs);
bool pw_pairs_next(pw_pairs_t *pairs, pw_pair_t *pair);
void pw_pairs_free(pw_pairs_t *pairs);

/* Encodes pairs for the proxy. false: out of memory. Zero pairs make four bytes. */
bool pw_pairs_encode(const pw_pair_t *pairs, uint32_t count, pw_bytes_t *bytes);
/* Replaces the whole map, pseudo headers included. */
pw_status_t pw_pairs_set(pw_map_t map, const pw_pair_t *pairs, uint32_t count);

/* ---- replies and calls ------------------------------------------------------------------------------------------- */

/* Answers the request from here. headers may be NULL when count is 0. The value that the callback returns does not matter after PW_OK. */
pw_status_t pw_reply(uint32_t status_code, const pw_pair_t *headers, uint32_t count, pw_str_t body);
/* A request of the filter's own; the answer comes with proxy_on_http_call_response and the same call_id. */
pw_status_t pw_http_call(pw_str_t upstream, const pw_pair_t *headers, uint32_t count, pw_str_t body, uint32_t timeout_ms,
                         uint32_t *call_id);

#ifdef __cplusplus
}
#endif

/* ==== implementation, in one source file of the filter ============================================================ */

#ifdef PROXY_WASM_IMPLEMENTATION

#ifdef PROXY_WASM_USE_LIBC
#include <stdlib.h>
#include <string.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#if defined(PROXY_WASM_ABI_NONE)
#elif defined(PROXY_WASM_ABI_0_1_0)
PW_EXPORT_AS("proxy_abi_version_0_1_0") void proxy_abi_version_0_1_0(void);
void proxy_abi_version_0_1_0(void) {
}
#elif defined(PROXY_WASM_ABI_0_2_0)
PW_EXPORT_AS("proxy_abi_version_0_2_0") void proxy_abi_version_0_2_0(void);
void proxy_abi_version_0_2_0(void) {
}
#else
PW_EXPORT_AS("proxy_abi_version_0_2_1") void proxy_abi_version_0_2_1(void);
void proxy_abi_version_0_2_1(void) {
}
#endif

#ifdef PROXY_WASM_USE_LIBC

void *pw_malloc(size_t size) {
    return malloc(size != 0 ? size : 1);
}

void *pw_realloc(void *block, size_t size) {
    return realloc(block, size != 0 ? size : 1);
}

void pw_free(void *block) {
    free(block);
}

#else /* no libc */

/* C++ wants its global constructors run once; without this the linker would run them again in every callback. */
#ifdef __cplusplus
void __wasm_call_ctors(void);
PW_EXPORT_AS("_initialize") void _initialize(void);
void _initialize(void) {
    __wasm_call_ctors();
}
#endif

/* The compiler itself calls these four; no_builtin keeps it from turning them into calls of themselves. */
typedef uint64_t __attribute__((aligned(1), may_alias)) pw_word_t;

__attribute__((no_builtin)) void *memcpy(void *to, const void *from, size_t len) {
    char *d = (char *)to;
    const char *s = (const char *)from;
    for (; len >= sizeof(pw_word_t); len -= sizeof(pw_word_t), d += sizeof(pw_word_t), s += sizeof(pw_word_t)) {
        *(pw_word_t *)(void *)d = *(const pw_word_t *)(const void *)s;
    }
    while (len-- > 0) {
        *d++ = *s++;
    }
    return to;
}

__attribute__((no_builtin)) void *memmove(void *to, const void *from, size_t len) {
    char *d = (char *)to;
    const char *s = (const char *)from;
    if (d <= s || d >= s + len) { /* forward copying reads each word before it is overwritten */
        return memcpy(to, from, len);
    }
    while (len-- > 0) {
        d[len] = s[len];
    }
    return to;
}

__attribute__((no_builtin)) void *memset(void *to, int byte, size_t len) {
    unsigned char *d = (unsigned char *)to;
    while (len-- > 0) {
        *d++ = (unsigned char)byte;
    }
    return to;
}

__attribute__((no_builtin)) int memcmp(const void *a, const void *b, size_t len) {
    const unsigned char *x = (const unsigned char *)a;
    const unsigned char *y = (const unsigned char *)b;
    for (; len > 0; len--, x++, y++) {
        if (*x != *y) {
            return *x < *y ? -1 : 1;
        }
    }
    return 0;
}

__attribute__((no_builtin)) size_t strlen(const char *text) {
    size_t len = 0;
    while (text[len] != '\0') {
        len++;
    }
    return len;
}

/*
 * Blocks lie one after the other from __heap_base on. A block is a 8-byte header and its bytes; blocks begin 8 below a multiple of 16, so
 * that the bytes are aligned. Class 2k is 16 << k bytes with the header, class 2k+1 half as much again.
 *
 *     ... | class | state | bytes ............ | class | state | bytes ....
 */
#define PW_HEADER_SIZE 8u
#define PW_BLOCK_MIN 16u
#define PW_BLOCK_MAX (1u << 30)
#define PW_CLASSES 54u
#define PW_STATE_USED 0x55736564u
#define PW_STATE_FREE 0x46726565u
#define PW_WASM_PAGE 65536u

typedef struct pw_block {
    uint32_t size_class;
    uint32_t state;
    struct pw_block *next_free; /* lies in the bytes: only while free */
} pw_block_t;

extern unsigned char __heap_base;

static pw_block_t *pw_free_blocks[PW_CLASSES];
static uintptr_t pw_heap_next;
static uint64_t pw_heap_end; /* 1 << 32 when all of the address space is there */

static uint32_t pw_class_of(uint32_t total) {
    uint32_t log2 = 31u - (uint32_t)__builtin_clz(total);
    if (total == 1u << log2) {
        return 2 * (log2 - 4);
    }
    return total <= 3u << (log2 - 1) ? 2 * (log2 - 4) + 1 : 2 * (log2 - 3);
}

static uint32_t pw_class_size(uint32_t size_class) {
    uint32_t size = PW_BLOCK_MIN << (size_class / 2);
    size += size_class % 2 != 0 ? size / 2 : 0;
    return (size + 15u) & ~15u;
}

static bool pw_heap_grow(uint64_t need) {
    size_t pages = (size_t)((need + PW_WASM_PAGE - 1) / PW_WASM_PAGE);
    size_t old = __builtin_wasm_memory_grow(0, pages);
    if (old == (size_t)-1) {
        return false;
    }
    if ((uint64_t)old * PW_WASM_PAGE != pw_heap_end) { /* somebody else grew the memory in between: go on after that */
        pw_heap_next = old * PW_WASM_PAGE + PW_HEADER_SIZE;
    }
    pw_heap_end = ((uint64_t)old + pages) * PW_WASM_PAGE;
    return true;
}

static pw_block_t *pw_heap_carve(uint32_t total) {
    if (pw_heap_next == 0) {
        pw_heap_next = (((uintptr_t)&__heap_base + 15u) & ~(uintptr_t)15u) + PW_HEADER_SIZE;
        pw_heap_end = (uint64_t)__builtin_wasm_memory_size(0) * PW_WASM_PAGE;
    }
    while ((uint64_t)pw_heap_next + total > pw_heap_end) {
        if (!pw_heap_grow((uint64_t)pw_heap_next + total - pw_heap_end)) {
            return NULL;
        }
    }
    pw_block_t *block = (pw_block_t *)pw_heap_next;
    pw_heap_next += total;
    return block;
}

void *pw_malloc(size_t size) {
    if (size > PW_BLOCK_MAX - PW_HEADER_SIZE) {
        return NULL;
    }
    uint32_t total = ((uint32_t)size + PW_HEADER_SIZE + 15u) & ~15u;
    uint32_t size_class = pw_class_of(total);
    pw_block_t *block = pw_free_blocks[size_class];
    if (block != NULL) {
        pw_free_blocks[size_class] = block->next_free;
    } else {
        block = pw_heap_carve(pw_class_size(size_class));
    }
    if (block == NULL) {
        return NULL;
    }
    block->size_class = size_class;
    block->state = PW_STATE_USED;
    return (char *)block + PW_HEADER_SIZE;
}

static pw_block_t *pw_block_of(void *bytes) {
    pw_block_t *block = (pw_block_t *)(void *)((char *)bytes - PW_HEADER_SIZE);
    if (block->state != PW_STATE_USED || block->size_class >= PW_CLASSES) {
        __builtin_trap(); /* not ours, or freed already */
    }
    return block;
}

void pw_free(void *bytes) {
    if (bytes == NULL) {
        return;
    }
    pw_block_t *block = pw_block_of(bytes);
    block->state = PW_STATE_FREE;
    block->next_free = pw_free_blocks[block->size_class];
    pw_free_blocks[block->size_class] = block;
}

void *pw_realloc(void *bytes, size_t size) {
    if (bytes == NULL) {
        return pw_malloc(size);
    }
    size_t had = pw_class_size(pw_block_of(bytes)->size_class) - PW_HEADER_SIZE;
    if (size <= had) {
        return bytes;
    }
    void *grown = pw_malloc(size);
    if (grown == NULL) {
        return NULL;
    }
    memcpy(grown, bytes, had);
    pw_free(bytes);
    return grown;
}

#ifdef PROXY_WASM_MALLOC
void *malloc(size_t size) {
    return pw_malloc(size);
}

void *calloc(size_t count, size_t size) {
    if (size != 0 && count > PW_BLOCK_MAX / size) {
        return NULL;
    }
    void *block = pw_malloc(count * size);
    return block != NULL ? memset(block, 0, count * size) : NULL;
}

void *realloc(void *block, size_t size) {
    return pw_realloc(block, size);
}

void free(void *block) {
    pw_free(block);
}
#endif

#endif /* PROXY_WASM_USE_LIBC */

#ifndef PROXY_WASM_NO_ALLOCATOR
void *proxy_on_memory_allocate(size_t size) {
    return pw_malloc(size);
}
#endif

pw_str_t pw_str_from_cstr(const char *text) {
    return pw_str(text, strlen(text));
}

bool pw_str_equal(pw_str_t a, pw_str_t b) {
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static char pw_lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool pw_str_equal_nocase(pw_str_t a, pw_str_t b) {
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (pw_lower(a.data[i]) != pw_lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

bool pw_str_to_u64(pw_str_t s, uint64_t *number) {
    uint64_t value = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned)(s.data[i] - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *number = value;
    return s.len > 0;
}

void pw_bytes_free(pw_bytes_t *bytes) {
    pw_free(bytes->data);
    bytes->data = NULL;
    bytes->len = 0;
}

void pw_line_str(pw_line_t *line, pw_str_t text) {
    size_t room = PW_LINE_SIZE - line->len;
    size_t len = text.len < room ? text.len : room;
    memcpy(line->data + line->len, text.data, len);
    line->len += len;
}

void pw_line_u64(pw_line_t *line, uint64_t number) {
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    pw_line_str(line, pw_str(digits + at, sizeof(digits) - at));
}

void pw_line_i64(pw_line_t *line, int64_t number) {
    if (number < 0) {
        pw_line_str(line, PW_STR("-"));
    }
    pw_line_u64(line, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

void pw_line_hex(pw_line_t *line, pw_str_t bytes) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char byte = (unsigned char)bytes.data[i];
        char hex[2];
        hex[0] = digits[byte >> 4];
        hex[1] = digits[byte & 15];
        pw_line_str(line, pw_str(hex, sizeof(hex)));
    }
}

void pw_line_log(const pw_line_t *line, pw_log_level_t level) {
    pw_log(level, pw_str(line->data, line->len));
}

static pw_status_t pw_bytes_result(pw_status_t status, char *data, size_t len, pw_bytes_t *bytes) {
    bytes->data = status == PW_OK ? data : NULL;
    bytes->len = status == PW_OK ? len : 0;
    return status;
}

pw_status_t pw_buffer_get(pw_buffer_t buffer, size_t start, size_t max_size, pw_bytes_t *bytes) {
    char *data = NULL;
    size_t len = 0;
    pw_status_t status = proxy_get_buffer_bytes(buffer, start, max_size, &data, &len);
    return pw_bytes_result(status, data, len, bytes);
}

pw_status_t pw_property_get(pw_str_t path, pw_bytes_t *value) {
    char *data = NULL;
    size_t len = 0;
    pw_status_t status = proxy_get_property(path.data, path.len, &data, &len);
    return pw_bytes_result(status, data, len, value);
}

pw_status_t pw_header_get(pw_map_t map, pw_str_t name, pw_bytes_t *value) {
    char *data = NULL;
    size_t len = 0;
    pw_status_t status = proxy_get_header_map_value(map, name.data, name.len, &data, &len);
    return pw_bytes_result(status, data, len, value);
}

/*
 * Encoded pairs: u32 count; then for each pair u32 name_len, u32 value_len; then for each pair name, NUL, value, NUL. Little-endian, not
 * aligned.
 */
typedef uint32_t __attribute__((aligned(1), may_alias)) pw_u32_t;

static uint32_t pw_read_u32(const char *at) {
    return *(const pw_u32_t *)(const void *)at;
}

static void pw_write_u32(char *at, uint32_t number) {
    *(pw_u32_t *)(void *)at = number;
}

static bool pw_pairs_valid(pw_bytes_t bytes, uint32_t *count) {
    *count = bytes.len >= 4 ? pw_read_u32(bytes.data) : 0;
    if (bytes.len < 4 || *count > (bytes.len - 4) / 10) { /* each pair: two lengths, two terminators */
        return bytes.len == 0;
    }
    size_t left = bytes.len - 4 - 8 * (size_t)*count;
    for (uint32_t i = 0; i < 2 * *count; i++) {
        uint32_t len = pw_read_u32(bytes.data + 4 + 4 * (size_t)i);
        if (len >= left) {
            return false;
        }
        left -= (size_t)len + 1;
    }
    return true;
}

pw_status_t pw_pairs_take(pw_bytes_t bytes, pw_pairs_t *pairs) {
    uint32_t count;
    bool valid = pw_pairs_valid(bytes, &count);
    pairs->bytes.data = valid ? bytes.data : NULL;
    pairs->bytes.len = valid ? bytes.len : 0;
    pairs->count = valid ? count : 0;
    pairs->next = 0;
    pairs->offset = 4 + 8 * (size_t)count;
    return valid ? PW_OK : PW_PARSE_FAILURE;
}

pw_status_t pw_pairs_get(pw_map_t map, pw_pairs_t *pairs) {
    char *data = NULL;
    size_t len = 0;
    pw_bytes_t bytes;
    pw_status_t status = proxy_get_header_map_pairs(map, &data, &len);
    (void)pw_bytes_result(status, data, len, &bytes);
    pw_status_t parsed = pw_pairs_take(bytes, pairs);
    if (parsed != PW_OK) {
        pw_bytes_free(&bytes);
    }
    return status != PW_OK ? status : parsed;
}

bool pw_pairs_next(pw_pairs_t *pairs, pw_pair_t *pair) {
    if (pairs->next >= pairs->count) {
        return false;
    }
    const char *sizes = pairs->bytes.data + 4 + 8 * (size_t)pairs->next;
    pair->name = pw_str(pairs->bytes.data + pairs->offset, pw_read_u32(sizes));
    pair->value = pw_str(pair->name.data + pair->name.len + 1, pw_read_u32(sizes + 4));
    pairs->offset += pair->name.len + pair->value.len + 2;
    pairs->next++;
    return true;
}

void pw_pairs_free(pw_pairs_t *pairs) {
    pw_bytes_free(&pairs->bytes);
    pairs->count = 0;
    pairs->next = 0;
}

static char *pw_put_terminated(char *at, pw_str_t text) {
    memcpy(at, text.data, text.len);
    at[text.len] = '\0';
    return at + text.len + 1;
}

bool pw_pairs_encode(const pw_pair_t *pairs, uint32_t count, pw_bytes_t *bytes) {
    size_t len = 4;
    for (uint32_t i = 0; i < count; i++) {
        len += 10 + pairs[i].name.len + pairs[i].value.len;
    }
    bytes->data = (char *)pw_malloc(len);
    bytes->len = bytes->data != NULL ? len : 0;
    if (bytes->data == NULL) {
        return false;
    }
    pw_write_u32(bytes->data, count);
    char *at = bytes->data + 4 + 8 * (size_t)count;
    for (uint32_t i = 0; i < count; i++) {
        pw_write_u32(bytes->data + 4 + 8 * (size_t)i, (uint32_t)pairs[i].name.len);
        pw_write_u32(bytes->data + 8 + 8 * (size_t)i, (uint32_t)pairs[i].value.len);
        at = pw_put_terminated(pw_put_terminated(at, pairs[i].name), pairs[i].value);
    }
    return true;
}

pw_status_t pw_pairs_set(pw_map_t map, const pw_pair_t *pairs, uint32_t count) {
    pw_bytes_t encoded;
    if (!pw_pairs_encode(pairs, count, &encoded)) {
        return PW_INTERNAL_FAILURE;
    }
    pw_status_t status = proxy_set_header_map_pairs(map, encoded.data, encoded.len);
    pw_bytes_free(&encoded);
    return status;
}

pw_status_t pw_reply(uint32_t status_code, const pw_pair_t *headers, uint32_t count, pw_str_t body) {
    pw_bytes_t encoded;
    if (!pw_pairs_encode(headers, count, &encoded)) {
        return PW_INTERNAL_FAILURE;
    }
    pw_status_t status = proxy_send_local_response(status_code, NULL, 0, body.data, body.len, encoded.data, encoded.len, PW_GRPC_NONE);
    pw_bytes_free(&encoded);
    return status;
}

pw_status_t pw_http_call(pw_str_t upstream, const pw_pair_t *headers, uint32_t count, pw_str_t body, uint32_t timeout_ms,
                         uint32_t *call_id) {
    pw_bytes_t encoded;
    if (!pw_pairs_encode(headers, count, &encoded)) {
        return PW_INTERNAL_FAILURE;
    }
    pw_status_t status =
        proxy_http_call(upstream.data, upstream.len, encoded.data, encoded.len, body.data, body.len, NULL, 0, timeout_ms, call_id);
    pw_bytes_free(&encoded);
    return status;
}

#ifdef __cplusplus
}
#endif

#endif /* PROXY_WASM_IMPLEMENTATION */

#endif /* PROXY_WASM_H */
