/*
 * What the HTTP, stream and gateway adapters share: the wasm{} block, modules, chains of directives, the worker.
 *
 *   cycle --- ngx_sluice_conf_t (settings, modules, chains; engine) --- pw_worker_t, in a worker process
 *
 * One configuration object per cycle, also where there is no wasm{} block; it dies with the cycle's pool. Modules are compiled and
 * filters tried when the configuration has been read, in the master: a configuration whose filters do not start is refused like one with
 * a syntax error, and the old one goes on. Workers inherit the compiled code by fork.
 */
#ifndef NGX_SLUICE_H
#define NGX_SLUICE_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "pw.h"

/* ---- settings that wasm{}, http{}, server{} and location{} know -------------------------------------------------------- */

typedef struct {
    sl_filter_opts_t opts; /* of the filters */
    ngx_flag_t reverse_response;
    size_t request_body_limit, response_body_limit; /* bytes; 0: the default */
    ngx_flag_t pass_over_limit;
} ngx_sluice_settings_t;

void ngx_sluice_settings_init(ngx_sluice_settings_t *s); /* all unset */
/* prev NULL: the defaults. */
void ngx_sluice_settings_merge(ngx_sluice_settings_t *s, const ngx_sluice_settings_t *prev);

/* Directives proxy_wasm_<option>; cmd->offset finds the sl_filter_opts_t. The commands come from sl_filter_opts.def. */
char *ngx_sluice_set_opt(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
/* name=value. NGX_ERROR: refused, and said why. NGX_DECLINED: there is no '=' in it. */
ngx_int_t ngx_sluice_opt_pair(ngx_conf_t *cf, sl_filter_opts_t *opts, const ngx_str_t *pair);
#define NGX_SLUICE_OPT_ARGS(kind) ((kind) == SL_OPT_LIST ? NGX_CONF_1MORE : NGX_CONF_TAKE1)

extern ngx_conf_enum_t ngx_sluice_response_orders[];
extern ngx_conf_enum_t ngx_sluice_over_limits[];

/* The commands of these settings. `flags`: where they may stand; `offset`: how nginx finds the configuration; `base`: offset of the
 * ngx_sluice_settings_t in it. */
#define NGX_SLUICE_SETTINGS_COMMANDS(flags, offset, base)                                                                                  \
    {ngx_string("proxy_wasm_response_order"),                                                                                              \
     (flags) | NGX_CONF_TAKE1,                                                                                                             \
     ngx_conf_set_enum_slot,                                                                                                               \
     offset,                                                                                                                               \
     (base) + offsetof(ngx_sluice_settings_t, reverse_response),                                                                           \
     &ngx_sluice_response_orders},                                                                                                         \
        {ngx_string("proxy_wasm_request_body_limit"),                                                                                      \
         (flags) | NGX_CONF_TAKE1,                                                                                                         \
         ngx_conf_set_size_slot,                                                                                                           \
         offset,                                                                                                                           \
         (base) + offsetof(ngx_sluice_settings_t, request_body_limit),                                                                     \
         NULL},                                                                                                                            \
        {ngx_string("proxy_wasm_response_body_limit"),                                                                                     \
         (flags) | NGX_CONF_TAKE1,                                                                                                         \
         ngx_conf_set_size_slot,                                                                                                           \
         offset,                                                                                                                           \
         (base) + offsetof(ngx_sluice_settings_t, response_body_limit),                                                                    \
         NULL},                                                                                                                            \
    {                                                                                                                                      \
        ngx_string("proxy_wasm_over_limit"), (flags) | NGX_CONF_TAKE1, ngx_conf_set_enum_slot, offset,                                     \
            (base) + offsetof(ngx_sluice_settings_t, pass_over_limit), &ngx_sluice_over_limits                                             \
    }

/* ---- one cycle --------------------------------------------------------------------------------------------------------- */

/* One `module` directive. */
typedef struct {
    ngx_str_t name, path, config;
    sl_module_t *module;
} ngx_sluice_wasm_t;

/* One `proxy_wasm` directive. */
typedef struct {
    ngx_str_t name, config;
    sl_filter_opts_t opts; /* of this line */
    u_char *file;          /* where it stands, for messages */
    ngx_uint_t line;
    ngx_uint_t wasm;       /* index in modules, known when the configuration has been read */
    uint64_t start_cpu_ns; /* of the canary's start, in the master */
} ngx_sluice_filter_t;

/* The filters of one or more locations with equal settings. */
typedef struct {
    ngx_array_t *filters; /* of ngx_sluice_filter_t */
    ngx_sluice_settings_t settings;
    pw_chain_t *chain; /* in a worker; NULL before it has started */
} ngx_sluice_chain_t;

typedef struct {
    ngx_str_t name;
    size_t size;
    ngx_uint_t eviction;
    ngx_flag_t queue;
} ngx_sluice_shm_t;

typedef struct {
    ngx_cycle_t *cycle;
    ngx_flag_t present;             /* there is a wasm{} block */
    ngx_flag_t gateway;             /* filters come from a gateway's configuration */
    ngx_array_t modules;            /* of ngx_sluice_wasm_t */
    ngx_array_t chains;             /* of ngx_sluice_chain_t * */
    ngx_array_t shms;               /* of ngx_sluice_shm_t */
    ngx_sluice_filter_t *first_use; /* for the message when there is no wasm{}; NULL: no `proxy_wasm` at all */
    ngx_flag_t in_access;           /* some of them begin with the access phase */

    ngx_sluice_settings_t settings;
    ngx_str_t compiler;
    ngx_flag_t backtraces;
    ngx_str_t cache_dir; /* of compiled code; empty: none */
    off_t cache_size;    /* of that and of a gateway's; 0: no ceiling */
    time_t cache_age;    /* seconds; 0: no ceiling */
    size_t vm_memory_limit;
    size_t worker_memory_limit; /* 0: none */
    ngx_str_t dumps_dir;        /* of trap dumps; empty: none */
    off_t dumps_bytes;
    ngx_int_t dumps_files;
    const char *image_dir; /* of images of instances, which workers share; NULL: memory */

    ngx_resolver_t *resolver;
    ngx_msec_t resolver_timeout;
    ngx_msec_t socket_connect_timeout, socket_send_timeout, socket_read_timeout;
    size_t socket_buffer_size;
    ngx_flag_t socket_buffer_reuse;
    ngx_bufs_t socket_large_buffers;
    ngx_int_t call_keepalive; /* connections of calls that wait, for each destination; 0: none */
    ngx_msec_t call_keepalive_timeout;
    size_t call_memory_limit; /* bytes that the calls of a worker hold together; 0: any number */
    sl_ceiling_t call_bytes;  /* in a worker */
    ngx_str_t tls_trusted_certificate;
    ngx_flag_t tls_verify_cert, tls_verify_host, tls_no_verify_warn;
    ngx_flag_t lua_resolver, log_dispatch_errors;
    ngx_flag_t metrics; /* metrics{} was seen */
    ssize_t metrics_slab_size;
    ngx_int_t metrics_max_name_length;

    struct ngx_sluice_state_s *state; /* shared data, queues, metrics; NULL where no filters can run */
    sl_engine_t *engine;
    sl_cache_t *cache;
    pw_worker_t *worker;
    ngx_queue_t streams; /* of ngx_sluice_stream_t, those that are alive */
} ngx_sluice_conf_t;

/* The shared head of an adapter's stream. A worker that is told to end at once frees them before itself: pw is NULL then. */
typedef struct {
    ngx_queue_t queue;
    pw_stream_t *pw;
} ngx_sluice_stream_t;

/* Begins pw_stream_new() for an adapter's object. NGX_ERROR: no memory. */
ngx_int_t ngx_sluice_stream_open(ngx_sluice_conf_t *scf, ngx_sluice_stream_t *stream, pw_chain_t *chain, void *host_stream);
void ngx_sluice_stream_close(ngx_sluice_stream_t *stream); /* accepts one that is closed */

extern ngx_module_t ngx_sluice_module;

ngx_sluice_conf_t *ngx_sluice_conf(ngx_cycle_t *cycle);

/* The chain with these filters and settings; made when it is not there yet. NULL: no memory. */
ngx_sluice_chain_t *ngx_sluice_chain_get(ngx_sluice_conf_t *scf, ngx_array_t *filters, const ngx_sluice_settings_t *settings);
/* Position of the module, or NGX_DECLINED. */
ngx_int_t ngx_sluice_wasm_find(const ngx_sluice_conf_t *scf, const ngx_str_t *name);

/* The engine of the cycle, made at the first use. NULL: logged why not. */
sl_engine_t *ngx_sluice_engine(ngx_sluice_conf_t *scf);
/* A cache of compiled code with the ceilings of the configuration. NULL: no memory. */
sl_cache_t *ngx_sluice_cache(const ngx_sluice_conf_t *scf, const char *folder, void (*log)(void *ud, const char *text), void *ud);
/* The worker of this process for the cycle, made at the first use; its chains are not started by this. NULL: no memory. */
pw_worker_t *ngx_sluice_worker(ngx_sluice_conf_t *scf);

/* ---- ngx_sluice_worker.c ------------------------------------------------------------------------------------------------- */

/* Master: compiles modules and tries each filter of each chain. */
ngx_int_t ngx_sluice_check(ngx_sluice_conf_t *scf);
/* Of settings that have been merged. */
pw_chain_conf_t ngx_sluice_chain_conf(const ngx_sluice_settings_t *s);
/* Worker: starts the filters of all chains. */
ngx_int_t ngx_sluice_start(ngx_sluice_conf_t *scf);
/* Ends the worker's side: chains, filters, the worker. Streams must be gone. */
void ngx_sluice_stop(ngx_sluice_conf_t *scf);
/* Ends the rest. */
void ngx_sluice_release(ngx_sluice_conf_t *scf);

/* Adapters that have operations for streams put them in before the first worker is made. */
extern pw_host_ops_t ngx_sluice_ops;

/* ---- ngx_sluice_log.c ------------------------------------------------------------------------------------------------------ */

void ngx_sluice_log_line(ngx_log_t *log, uint32_t level, sl_str_t line);
uint32_t ngx_sluice_log_level(const ngx_log_t *log);
/* Multi-line texts (backtraces): one record. */
void ngx_sluice_log_error(ngx_uint_t level, ngx_log_t *log, const char *text);

/* ---- ngx_sluice_dump.c ----------------------------------------------------------------------------------------------------- */

char *ngx_sluice_set_trap_dumps(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_sluice_dump_init(ngx_sluice_conf_t *scf); /* master: the folder */
void ngx_sluice_trap_dump(void *worker, sl_str_t text, sl_str_t memory);

/* ---- ngx_sluice_timer.c ---------------------------------------------------------------------------------------------------- */

void ngx_sluice_tick_set(void *worker, pw_root_t *root, void **timer, uint32_t period_ms);
void ngx_sluice_alarm_set(void *worker, uint32_t ms);

static ngx_inline sl_str_t ngx_sluice_str(const ngx_str_t *s) {
    return sl_str(s->data, s->len);
}

#endif
