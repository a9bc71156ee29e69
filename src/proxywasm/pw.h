/*
 * The Proxy-Wasm host: filters, chains and streams, for any proxy. No I/O, no clock, no globals: it asks its host (pw_host.h).
 *
 *   worker --- vm (one instance; key: module, vm_id, vm configuration, memory budget) --- root context --- filter (a module with its
 * configuration)
 *                                                                                             |
 *   chain = filters in order                      stream = one request through one chain: a stream context for each filter
 *
 * Lifetimes: worker > filter > chain > stream; filters and chains are reference-counted, so that streams that run hold what they
 * began with while a new plan has taken over. One thread for a worker and everything below it.
 *
 * What a guest asks for while it runs (resume, close, local reply) is recorded and takes effect after the outermost guest call has
 * returned: for the direction that the proxy is just driving through the verdict, else through wake() and pw_stream_resume().
 * Filters marked `slice` may stop in the middle of a callback (pw_slice.h). For the proxy that is a pause like any other: PW_WAIT, later
 * wake(), and pw_stream_resume() answers what the call would have.
 * A trap is an ordinary outcome: that VM is finished, every stream in it meets the fail policy of its filter at its next event, the next
 * stream gets a new VM. A filter that traps too often is kept out for a while by its breaker.
 */
#ifndef PW_H
#define PW_H

#include "engine.h"
#include "pw_host.h"
#include "sl_filter_opts.h"

typedef struct pw_worker_s pw_worker_t;
typedef struct pw_filter_s pw_filter_t;
typedef struct pw_chain_s pw_chain_t;
typedef struct pw_stream_s pw_stream_t;

/* ---- worker ------------------------------------------------------------------------------------------------------- */

/* Ceilings; zero members mean the default in brackets. */
typedef struct {
    uint64_t vm_memory_bytes;      /* what a filter's memory_budget is cut to [4 GiB] */
    uint64_t worker_memory_bytes;  /* linear memory of all instances together [no limit] */
    size_t body_buffer_bytes;      /* held for one filter and direction [1 MiB] */
    size_t log_line_bytes;         /* [4096] */
    size_t property_bytes;         /* all that filters keep with one stream by set_property [64 KiB] */
    uint32_t calls_per_stream;     /* in flight [64] */
    uint32_t instances_per_filter; /* of a filter that isolates requests, in use at once [1024] */
    sl_ceiling_t *call_bytes;      /* over the bodies that calls hold, the proxy's and ours; outlives the worker; NULL: none */
    bool trap_dumps;               /* the host wants to have them (pw_host.h); host calls are noted for that */
    const char *image_folder;      /* for images of instances, shared between processes; NULL: memory. Outlives the worker */
} pw_limits_t;

pw_worker_t *pw_worker_new(const pw_host_ops_t *ops, void *host_worker, const pw_limits_t *limits); /* NULL: no memory */
/* Shuts down: on_done and on_delete of every root context, then frees. All streams, chains and filters must be gone. */
void pw_worker_free(pw_worker_t *worker);
void *pw_worker_host(const pw_worker_t *worker);
/* The alarm that was asked for (pw_host.h). Starts filters again that have trapped, so that their ticks and queues go on without streams.
 */
void pw_worker_alarm(pw_worker_t *worker);
/* After soon(): filters marked `slice` go on, one of them for one slice. false: none is left that could go on now. */
bool pw_worker_run(pw_worker_t *worker);
/* Inside an operation of the host (pw_host.h): the dialect of the filter that asks for it. Envoy's while no filter asks. */
sl_dialect_t pw_worker_dialect(const pw_worker_t *worker);

/* ---- filters -------------------------------------------------------------------------------------------------------- */

typedef struct {
    sl_str_t name;         /* for logs, plugin_name and metrics */
    sl_str_t vm_config;    /* for on_vm_start */
    sl_str_t config;       /* for on_configure */
    sl_module_t *module;   /* the filter takes its own reference */
    sl_filter_opts_t opts; /* zeroed: the defaults; vm_id is the name space of shared data too */
    const pw_pair_t *env;  /* WASI environment */
    size_t n_env;
    uint64_t start_cpu_ns; /* CPU time of a start that went well elsewhere; 0: not known. Later ones get not much more */
} pw_filter_conf_t;

/*
 * Checks without running anything: ABI marker, allocator, every import known with the right type, exported callbacks with the right
 * types. SL_INVALID: one line that names what is missing and what to do.
 */
sl_status_t pw_module_check(const sl_module_t *module, pw_abi_version_t *version, sl_err_t *err);

/*
 * Starts a filter: finds or makes its VM (start functions), then on_context_create, on_vm_start, on_configure of its root context.
 * Everything in conf is copied. SL_INVALID: the module or a refused configuration; SL_TRAP: with backtrace; text names the filter.
 */
sl_status_t pw_filter_new(pw_worker_t *worker, const pw_filter_conf_t *conf, pw_filter_t **out, sl_err_t *err);
/*
 * The same for a filter that has been tried before, and that others depend on: one that does not start now is made nevertheless. It is
 * started again later, as after a trap, and its `fail` policy is met until then. *out NULL: it can never be (SL_INVALID), no memory.
 */
sl_status_t pw_filter_new_anyway(pw_worker_t *worker, const pw_filter_conf_t *conf, pw_filter_t **out, sl_err_t *err);
pw_filter_t *pw_filter_ref(pw_filter_t *filter);
void pw_filter_unref(pw_filter_t *filter); /* the last one: on_done, (proxy_done), on_delete of its root */
sl_str_t pw_filter_name(const pw_filter_t *filter);
sl_dialect_t pw_filter_dialect(const pw_filter_t *filter);

/* Events of root contexts. A root that has gone or trapped is handled inside. */
void pw_root_tick(pw_root_t *root);
void pw_root_queue_ready(pw_root_t *root, uint32_t queue);
pw_filter_t *pw_root_filter(pw_root_t *root);

/* The answer of a call out. Borrowed for the duration. failed: no response at all (on_http_call_response gets 0, 0, 0). */
typedef struct {
    bool failed;
    const char *failure;      /* "timeout", "broken connection", ...: WasmX's :dispatch_status */
    const pw_pair_t *headers; /* with :status */
    size_t n_headers;
    sl_str_t body;
    const pw_pair_t *trailers;
    size_t n_trailers;
} pw_call_response_t;
/* Unknown tokens (the filter has gone) are dropped and counted. */
void pw_http_call_done(pw_root_t *root, uint32_t token, const pw_call_response_t *response);

/*
 * The events of a gRPC call or stream, in this order. Only `closed` is certain to come, once; after it the handle is not used any more. The
 * handle may be sent on, finished or cancelled from inside of each. A unary call needs no metadata: its filter hears of the message, or of
 * the failure. Unknown tokens are dropped and counted.
 */
void pw_grpc_initial_metadata(pw_root_t *root, uint32_t token, const pw_pair_t *pairs, size_t n);
void pw_grpc_message(pw_root_t *root, uint32_t token, sl_str_t message);
void pw_grpc_trailing_metadata(pw_root_t *root, uint32_t token, const pw_pair_t *pairs, size_t n);
void pw_grpc_closed(pw_root_t *root, uint32_t token, uint32_t status, sl_str_t text);

/* The addresses of a name that a filter asked for; n 0: there are none. Unknown tokens are dropped and counted. */
void pw_resolve_done(pw_root_t *root, uint32_t token, const pw_address_t *addrs, size_t n);

/*
 * The answer of Redis as its bytes, one or several frames, errors of the server included; data NULL: there was none (no connection, refused
 * credentials, broken, out of time). Unknown tokens are dropped and counted.
 */
void pw_redis_done(pw_root_t *root, uint32_t token, sl_str_t response);

/* ---- chains ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    bool reverse_response;                          /* Envoy's order on the way back; default: configuration order both ways */
    size_t request_body_bytes, response_body_bytes; /* buffering ceilings; 0: the worker's default */
    bool pass_over_limit;                           /* over the ceiling: pass the body on instead of failing with 413 or 502 */
} pw_chain_conf_t;

/* Takes a reference on each filter. The same filter may stand in it several times. NULL: no memory. */
pw_chain_t *pw_chain_new(pw_worker_t *worker, pw_filter_t *const *filters, size_t n, const pw_chain_conf_t *conf);
pw_chain_t *pw_chain_ref(pw_chain_t *chain);
void pw_chain_unref(pw_chain_t *chain);
/* Whether any filter has the callback, so that the proxy can leave out whole steps. */
bool pw_chain_wants_body(const pw_chain_t *chain, pw_dir_t dir);
/* Whether a filter wants its body callback for a response of no bytes, too: told of in headers that are not the end. */
bool pw_chain_wants_empty_body(const pw_chain_t *chain);
bool pw_chain_wants_trailers(const pw_chain_t *chain, pw_dir_t dir);
/* Whether any filter has a callback for requests: their headers, bodies or trailers. If not, requests need not be given to streams. */
bool pw_chain_wants_requests(const pw_chain_t *chain);

/* ---- streams ------------------------------------------------------------------------------------------------------------ */

typedef enum {
    PW_CONTINUE, /* go on; for headers: they are released */
    PW_WAIT,     /* held; wake() will come, or the message goes on arriving (pw_stream_wants_body) */
    PW_REPLY,    /* answer with pw_stream_reply(); the message of this direction is over */
    PW_RESET,    /* close the stream without an answer */
    PW_FAIL      /* answer with status pw_stream_failure(); if headers have gone, reset */
} pw_verdict_t;

/* What may go on to the next hop. Filled by body, trailers and resume; borrowed until the next call into the stream. */
typedef struct {
    bool headers;  /* the headers that were held are released now, before any of the following */
    sl_str_t data; /* bytes of the body that go on */
    bool input;    /* the input of this call goes on as it was given (data is empty then) */
    bool changed;  /* what has gone on so far differs from what came in: a content-length no longer holds */
    bool eos;      /* the message ends with these bytes (or, with trailers, after them) */
    bool trailers; /* the trailers are released */
    /* A filter has given the message a body that did not come in; what still comes in is dropped. Its length is known with eos, so
     * headers that are released wait for that. */
    bool made;
} pw_out_t;

/* Contexts are created in the guest right before each filter's first callback. NULL: no memory. */
pw_stream_t *pw_stream_new(pw_worker_t *worker, pw_chain_t *chain, void *host_stream);

/*
 * The message arrives: headers once, then body any number of times, then trailers at most once. `eos` of headers: nothing follows;
 * of body: no trailers follow. An end must always be told, be it with no bytes. While the verdict of headers was PW_WAIT, body may be
 * given only as pw_stream_wants_body() says; other bytes stay with the proxy (that is the back-pressure).
 * `segs`: the pieces of one chunk, borrowed for the call.
 */
pw_verdict_t pw_stream_headers(pw_stream_t *stream, pw_dir_t dir, bool eos, pw_out_t *out);
pw_verdict_t pw_stream_body(pw_stream_t *stream, pw_dir_t dir, const sl_str_t *segs, size_t n, bool eos, pw_out_t *out);
pw_verdict_t pw_stream_trailers(pw_stream_t *stream, pw_dir_t dir, pw_out_t *out);
/* After wake(): carries out what was recorded. PW_WAIT: nothing new is released. */
pw_verdict_t pw_stream_resume(pw_stream_t *stream, pw_dir_t dir, pw_out_t *out);

/* Whether more of the body should be read and given now. */
bool pw_stream_wants_body(const pw_stream_t *stream, pw_dir_t dir);
bool pw_stream_paused(const pw_stream_t *stream, pw_dir_t dir);

typedef struct {
    uint32_t status;
    sl_str_t details; /* for the log; in WasmX's dialect the reason of the status line */
    const pw_pair_t *headers;
    size_t n_headers;
    sl_str_t body;
    int32_t grpc_status;  /* -1: none */
    sl_str_t filter;      /* who sent it */
    sl_dialect_t dialect; /* of that filter */
    pw_dir_t dir;         /* where: a reply from the request side passes the response callbacks, one from the response side does not */
} pw_reply_t;
const pw_reply_t *pw_stream_reply(const pw_stream_t *stream); /* valid until pw_stream_free; NULL: none */
/* 500 after a trap, 503 while a breaker is open, 413 or 502 over a ceiling; 0 when nothing failed. */
uint32_t pw_stream_failure(const pw_stream_t *stream);
/* With 503: what Retry-After should say, in seconds; else 0. */
uint32_t pw_stream_retry_after(const pw_stream_t *stream);

/* The proxy made the response itself or the connection is gone: no more request callbacks, nothing stays paused. */
void pw_stream_abort_request(pw_stream_t *stream);

/* End of the stream: on_log, on_done, on_delete of every context that exists (contexts are created just to log where there were none).
 * Log first, while headers and properties can still be read; free cancels what is in flight for it and may come later. */
void pw_stream_log(pw_stream_t *stream);
void pw_stream_free(pw_stream_t *stream);

/* What a stream's filters have taken so far: the time inside of their callbacks, host calls included. Two readings of the clock for a
 * callback, and none at all while it is off, as it is at first. */
void pw_worker_time_filters(pw_worker_t *worker, bool on);
typedef struct {
    sl_str_t filter;
    uint32_t n_callbacks;
    uint64_t spent_ns;
} pw_timing_t;
size_t pw_stream_n_filters(const pw_stream_t *stream);
void pw_stream_timing(const pw_stream_t *stream, size_t i, pw_timing_t *out); /* i < pw_stream_n_filters() */

/* Counters since new. */
typedef struct {
    uint64_t vms_created, vms_failed, streams, callbacks, calls_started, calls_dropped, grpc_started, grpc_failed, redis_started,
        redis_failed;
    uint64_t vms_reset;                                                /* brought back after a trap, instead of being created */
    uint64_t instances_created, instances_restored, instances_dropped; /* for isolated requests */
} pw_stats_t;
pw_stats_t pw_worker_stats(const pw_worker_t *worker);
/* Linear memory of all its filters, in bytes. */
sl_memory_t pw_worker_memory(const pw_worker_t *worker);
/* Of the filters with this name, since new. */
uint64_t pw_worker_number(const pw_worker_t *worker, sl_str_t filter, pw_number_t which);

#endif
