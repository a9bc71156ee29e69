/*
 * Imports every host call of ABI 0.1.0, 0.2.0 and 0.2.1, the known extensions, and all of WASI preview 1 under both of its module names,
 * and calls none of them: it shows that everything links. Adds the response header x-linked: yes. Not configured.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

typedef uint32_t u32;
typedef uint64_t u64;

#define WASI(result, name, ...)                                                                                                            \
    PW_IMPORT_FROM("wasi_snapshot_preview1", #name) result preview1_##name(__VA_ARGS__);                                                   \
    PW_IMPORT_FROM("wasi_unstable", #name) result unstable_##name(__VA_ARGS__);

WASI(u32, args_get, u32, u32)
WASI(u32, args_sizes_get, u32, u32)
WASI(u32, environ_get, u32, u32)
WASI(u32, environ_sizes_get, u32, u32)
WASI(u32, clock_res_get, u32, u32)
WASI(u32, clock_time_get, u32, u64, u32)
WASI(u32, fd_advise, u32, u64, u64, u32)
WASI(u32, fd_allocate, u32, u64, u64)
WASI(u32, fd_close, u32)
WASI(u32, fd_datasync, u32)
WASI(u32, fd_fdstat_get, u32, u32)
WASI(u32, fd_fdstat_set_flags, u32, u32)
WASI(u32, fd_fdstat_set_rights, u32, u64, u64)
WASI(u32, fd_filestat_get, u32, u32)
WASI(u32, fd_filestat_set_size, u32, u64)
WASI(u32, fd_filestat_set_times, u32, u64, u64, u32)
WASI(u32, fd_pread, u32, u32, u32, u64, u32)
WASI(u32, fd_prestat_get, u32, u32)
WASI(u32, fd_prestat_dir_name, u32, u32, u32)
WASI(u32, fd_pwrite, u32, u32, u32, u64, u32)
WASI(u32, fd_read, u32, u32, u32, u32)
WASI(u32, fd_readdir, u32, u32, u32, u64, u32)
WASI(u32, fd_renumber, u32, u32)
WASI(u32, fd_seek, u32, u64, u32, u32)
WASI(u32, fd_sync, u32)
WASI(u32, fd_tell, u32, u32)
WASI(u32, fd_write, u32, u32, u32, u32)
WASI(u32, path_create_directory, u32, u32, u32)
WASI(u32, path_filestat_get, u32, u32, u32, u32, u32)
WASI(u32, path_filestat_set_times, u32, u32, u32, u32, u64, u64, u32)
WASI(u32, path_link, u32, u32, u32, u32, u32, u32, u32)
WASI(u32, path_open, u32, u32, u32, u32, u32, u64, u64, u32, u32)
WASI(u32, path_readlink, u32, u32, u32, u32, u32, u32)
WASI(u32, path_remove_directory, u32, u32, u32)
WASI(u32, path_rename, u32, u32, u32, u32, u32, u32)
WASI(u32, path_symlink, u32, u32, u32, u32, u32)
WASI(u32, path_unlink_file, u32, u32, u32)
WASI(u32, poll_oneoff, u32, u32, u32, u32)
WASI(void, proc_exit, u32)
WASI(u32, proc_raise, u32)
WASI(u32, random_get, u32, u32)
WASI(u32, sched_yield, void)
WASI(u32, sock_accept, u32, u32, u32)
WASI(u32, sock_recv, u32, u32, u32, u32, u32, u32)
WASI(u32, sock_send, u32, u32, u32, u32, u32)
WASI(u32, sock_shutdown, u32, u32)

/* Older names that one host still has. */
PW_IMPORT(proxy_get_buffer) u32 proxy_get_buffer(u32, u32, u32, u32, u32);
PW_IMPORT(proxy_set_buffer) u32 proxy_set_buffer(u32, u32, u32, u32, u32);
PW_IMPORT(proxy_send_http_response) u32 proxy_send_http_response(u32, u32, u32, u32, u32, u32, u32, u32);
PW_IMPORT(proxy_dispatch_http_call) u32 proxy_dispatch_http_call(u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);

PW_IMPORT(pthread_equal) u32 pthread_equal(u32 a, u32 b);
PW_IMPORT(emscripten_notify_memory_growth) void emscripten_notify_memory_growth(u32 memory);
PW_IMPORT(abort) void abort(u32 message, u32 file, u32 line, u32 column);
PW_IMPORT(seed) double seed(void);

typedef void (*function_t)(void);

#define F(name) (function_t) name
#define W(name) F(preview1_##name), F(unstable_##name)

/* An address taken is an import kept. */
__attribute__((used)) static const function_t imports[] = {
    F(proxy_log),
    F(proxy_get_log_level),
    F(proxy_get_current_time_nanoseconds),
    F(proxy_set_tick_period_milliseconds),
    F(proxy_set_effective_context),
    F(proxy_done),
    F(proxy_get_buffer_bytes),
    F(proxy_get_buffer_status),
    F(proxy_set_buffer_bytes),
    F(proxy_get_header_map_pairs),
    F(proxy_set_header_map_pairs),
    F(proxy_get_header_map_value),
    F(proxy_add_header_map_value),
    F(proxy_replace_header_map_value),
    F(proxy_remove_header_map_value),
    F(proxy_get_header_map_size),
    F(proxy_get_property),
    F(proxy_set_property),
    F(proxy_continue_stream),
    F(proxy_close_stream),
    F(proxy_send_local_response),
    F(proxy_get_status),
    F(proxy_http_call),
    F(proxy_grpc_call),
    F(proxy_grpc_stream),
    F(proxy_grpc_send),
    F(proxy_grpc_cancel),
    F(proxy_grpc_close),
    F(proxy_get_shared_data),
    F(proxy_set_shared_data),
    F(proxy_register_shared_queue),
    F(proxy_resolve_shared_queue),
    F(proxy_enqueue_shared_queue),
    F(proxy_dequeue_shared_queue),
    F(proxy_define_metric),
    F(proxy_increment_metric),
    F(proxy_record_metric),
    F(proxy_get_metric),
    F(proxy_call_foreign_function),
    F(proxy_get_configuration),
    F(proxy_continue_request),
    F(proxy_continue_response),
    F(proxy_clear_route_cache),
    F(proxy_redis_init),
    F(proxy_redis_call),
    F(proxy_inject_encoded_data_to_filter_chain),
    F(proxy_get_upstream_hosts),
    F(proxy_set_upstream_override_host),
    F(envoy_resolve_dns),
    F(proxy_get_buffer),
    F(proxy_set_buffer),
    F(proxy_send_http_response),
    F(proxy_dispatch_http_call),
    F(pthread_equal),
    F(emscripten_notify_memory_growth),
    F(abort),
    F(seed),
    W(args_get),
    W(args_sizes_get),
    W(environ_get),
    W(environ_sizes_get),
    W(clock_res_get),
    W(clock_time_get),
    W(fd_advise),
    W(fd_allocate),
    W(fd_close),
    W(fd_datasync),
    W(fd_fdstat_get),
    W(fd_fdstat_set_flags),
    W(fd_fdstat_set_rights),
    W(fd_filestat_get),
    W(fd_filestat_set_size),
    W(fd_filestat_set_times),
    W(fd_pread),
    W(fd_prestat_get),
    W(fd_prestat_dir_name),
    W(fd_pwrite),
    W(fd_read),
    W(fd_readdir),
    W(fd_renumber),
    W(fd_seek),
    W(fd_sync),
    W(fd_tell),
    W(fd_write),
    W(path_create_directory),
    W(path_filestat_get),
    W(path_filestat_set_times),
    W(path_link),
    W(path_open),
    W(path_readlink),
    W(path_remove_directory),
    W(path_rename),
    W(path_symlink),
    W(path_unlink_file),
    W(poll_oneoff),
    W(proc_exit),
    W(proc_raise),
    W(random_get),
    W(sched_yield),
    W(sock_accept),
    W(sock_recv),
    W(sock_send),
    W(sock_shutdown),
};

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    (void)pw_header_add(PW_MAP_RESPONSE_HEADERS, PW_STR("x-linked"), PW_STR("yes"));
    return PW_CONTINUE;
}
