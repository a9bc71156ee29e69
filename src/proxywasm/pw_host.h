/*
 * Seam 1: what a proxy offers to the Proxy-Wasm host. Two implementations: src/nginx and src/memhost.
 *
 * `worker` is the proxy's pointer given to pw_worker_new, `stream` the one given to pw_stream_new (NULL where there is none).
 * Every function runs on the worker's thread, mostly while a guest is on the stack: none may call back into pw_stream_* or free
 * a stream; what a guest asks for is recorded by the core and carried out after the guest has returned (see pw.h, wake).
 * Bytes that an operation gives out stay valid until the next operation on the same stream, unless it says otherwise.
 * A NULL member means "not available here"; the guest gets the ABI's status for that. The members marked * must be set.
 */
#ifndef PW_HOST_H
#define PW_HOST_H

#include "pw_abi.h"
#include "sl_buf.h"

typedef struct pw_root_s pw_root_t; /* a root context: pw.h */

/* What is counted for each filter: pw_numbers.def. */
typedef enum {
#define PW_NUMBER(id, kind, metric, label, help) PW_N_##id,
#include "pw_numbers.def"
#undef PW_NUMBER
    PW_NUMBERS
} pw_number_t;

typedef struct {
    sl_str_t key, value;
} pw_pair_t;

#define PW_CAS_NEVER UINT32_MAX

typedef enum { PW_MAP_ADD, PW_MAP_REPLACE, PW_MAP_REMOVE, PW_MAP_CLEAR } pw_map_op_t;

/* A property's value before encoding. The dialect decides how the guest sees it. */
typedef enum {
    PW_VALUE_STRING,    /* str: also bytes and serialized messages */
    PW_VALUE_INT,       /* i */
    PW_VALUE_UINT,      /* u */
    PW_VALUE_DOUBLE,    /* d */
    PW_VALUE_BOOL,      /* b */
    PW_VALUE_TIMESTAMP, /* i: ns since the epoch */
    PW_VALUE_DURATION,  /* i: ns */
    PW_VALUE_MAP,       /* map: one of the stream's header maps, keys and values as strings */
    PW_VALUE_LIST,      /* str: elements, each followed by NUL */
    PW_VALUE_ADDRESS    /* str: ip:port, [ip]:port, or the path of a socket */
} pw_value_kind_t;

typedef struct {
    pw_value_kind_t kind;
    union {
        sl_str_t str;
        int64_t i;
        uint64_t u;
        double d;
        bool b;
        pw_map_t map;
    };
} pw_value_t;

/* A call out that a filter asks for. Everything is borrowed for the duration of the operation. */
typedef struct {
    pw_root_t *root;          /* whose callback gets the answer */
    uint32_t token;           /* for pw_http_call_done */
    sl_str_t upstream;        /* as the guest named it */
    const pw_pair_t *headers; /* with pseudo headers */
    size_t n_headers;
    sl_str_t body;
    const pw_pair_t *trailers;
    size_t n_trailers;
    uint32_t timeout_ms; /* of the whole exchange; 0: none */
} pw_http_call_t;

/* A gRPC call, or stream, that a filter asks for. Everything is borrowed for the duration of the operation. */
typedef struct {
    pw_root_t *root;           /* whose callbacks get the events */
    uint32_t token;            /* for pw_grpc_* */
    sl_str_t upstream;         /* name of an upstream, or host[:port]; not empty, no white space */
    bool tls;                  /* asked for by the filter; what is known about the upstream may say so, too */
    sl_str_t authority;        /* empty: the upstream's name */
    sl_str_t service, method;  /* not checked */
    const pw_pair_t *metadata; /* as on the wire: names in lower case, values of -bin names in base64 */
    size_t n_metadata;
    bool unary;          /* one message goes out, and no more */
    sl_str_t message;    /* of a unary call */
    uint32_t timeout_ms; /* of the whole call; 0: none */
} pw_grpc_call_t;

/* A name that a filter wants to have resolved. Borrowed for the duration of the operation. */
typedef struct {
    pw_root_t *root;
    uint32_t token; /* for pw_resolve_done */
    sl_str_t name;  /* letters, digits, - _ and dots; not empty, and no address */
} pw_resolve_t;

typedef struct {
    uint8_t len; /* 4 or 16 */
    uint8_t bytes[16];
    uint32_t ttl_s;
} pw_address_t;

/* A request to Redis. Everything is borrowed for the duration of the operation. */
typedef struct {
    pw_root_t *root; /* whose callback gets the answer */
    uint32_t token;  /* for pw_redis_done */
    sl_str_t upstream;
    bool tls;                    /* asked for by the filter; what is known about the upstream may say so, too */
    sl_str_t username, password; /* empty: none */
    uint32_t database;
    sl_str_t query;      /* one or several whole commands, checked (sl_resp.h) */
    uint32_t n_commands; /* so many answers make one */
    bool blocks;         /* it may take its time: the connection is not for others */
    uint32_t timeout_ms; /* of the answer; 0: none */
} pw_redis_call_t;

typedef struct pw_host_ops_s {
    /* ---- clocks, randomness, log ---- */
    uint64_t (*now_ns)(void *worker, bool monotonic);           /* * */
    sl_status_t (*random)(void *worker, void *out, size_t len); /* * cryptographically secure */
    /* * One record without newline, already escaped, prefixed and bounded. level: PW_LOG_*. */
    void (*log)(void *worker, void *stream, uint32_t level, sl_str_t line);
    uint32_t (*log_level)(void *worker, void *stream); /* * lowest level that is written */

    /* ---- timers ---- */
    /* * Period of a root context's tick; 0 cancels, another value replaces at once. The proxy calls pw_root_tick() each period,
     *   re-armed after it returned. Called with 0 before a root goes. `timer` is a slot for the proxy's own pointer. */
    void (*tick_set)(void *worker, pw_root_t *root, void **timer, uint32_t period_ms);
    /* Call pw_worker_alarm() once, in so many ms, from the event loop; replaces an alarm that is set, 0 cancels it. NULL: what waits for
     * it (filters that have trapped and have to be started again) is done with the next stream instead. */
    void (*alarm_set)(void *worker, uint32_t ms);

    /* ---- a stream: header maps 0..3 ---- */
    /* SL_NOT_FOUND from any of these: the message has no such map (not received yet, or never). */
    /* Calls `each` for every pair in order, pseudo headers first; stops early when it answers false. Keys in any case. */
    sl_status_t (*map_each)(void *stream, pw_map_t map, bool (*each)(void *ud, sl_str_t key, sl_str_t value), void *ud);
    /* First value of key (compared without case); SL_NOT_FOUND: no such key. */
    sl_status_t (*map_get)(void *stream, pw_map_t map, sl_str_t key, sl_str_t *value);
    /*
     * Copies what it keeps. The core has seen to it that a key has no character which no name may have (it may be empty) and a value no
     * control character but tabs. SL_INVALID: this header cannot take this value. PW_MAP_CLEAR: key and value are ignored.
     */
    sl_status_t (*map_edit)(void *stream, pw_map_t map, pw_map_op_t op, sl_str_t key, sl_str_t value);
    /*
     * Trailers that do not exist yet: the core asks for ADD and REPLACE on them only where a filter may create them (in the last body
     * callback); they exist from then on. SL_NOT_FOUND: this message cannot carry trailers.
     *
     * Number of pairs as map_each would show them, pseudo headers included; cheaper than map_each. NULL: the core counts itself.
     */
    size_t (*map_count)(void *stream, pw_map_t map);
    /* Whether a message of this direction that came without a body may get one, while its headers are held. NULL: never. */
    bool (*may_make_body)(void *stream, pw_dir_t dir);
    /* Appends the request's body, as it went on, when the request is over. SL_NOT_FOUND: it is not in memory. NULL: never. */
    sl_status_t (*past_body)(void *stream, sl_buf_t *out);

    /* ---- properties ---- */
    /* path: segments joined by NUL, no trailing NUL. `scratch` (reset, bounded) may hold what *out points to. */
    sl_status_t (*property_get)(void *worker, void *stream, sl_str_t path, sl_buf_t *scratch, pw_value_t *out);
    /* SL_NOT_FOUND: not mine, the core keeps it for the stream. SL_INVALID: read-only or a bad value. value.data NULL removes. */
    sl_status_t (*property_set)(void *worker, void *stream, sl_str_t path, sl_str_t value);
    sl_status_t (*clear_route_cache)(void *stream);

    /* ---- waking up ---- */
    /* * The core has work for this stream: call pw_stream_resume(dir) soon, from the event loop, never from inside. May be
     *   called more than once before that. */
    void (*wake)(void *stream, pw_dir_t dir);

    /* * Call pw_worker_run() once, from the event loop, after other events have had their turn. Comes more than once before that, and only
     *   while a filter is sliced. */
    void (*soon)(void *worker);

    /* ---- calls out ---- */
    /* Starts the exchange; the answer comes through pw_http_call_done(), never from inside. SL_NOT_FOUND: no such upstream;
     * SL_FAILED: cannot start. *handle is for http_call_cancel. stream: on whose behalf, may be NULL. */
    sl_status_t (*http_call)(void *worker, void *stream, const pw_http_call_t *call, void **handle);
    void (*http_call_cancel)(void *worker, void *handle); /* no pw_http_call_done after this */
    /*
     * The stream on whose behalf the call was made is about to be freed. SL_OK: the call goes on without it. Anything else, or NULL:
     * the core cancels the call and tells the root that it failed. Calls made while a stream is being logged have no stream from the start.
     */
    sl_status_t (*http_call_detach)(void *worker, void *handle);

    /* ---- gRPC calls out: belong to the root alone, whichever stream asked; events through pw_grpc_*(), never from inside ---- */
    /* Starts one. SL_NOT_FOUND: no such upstream; SL_INVALID: it cannot be asked so; SL_FAILED: cannot start. stream: on whose
     * behalf, may be NULL, and may go before the call ends. */
    sl_status_t (*grpc_open)(void *worker, void *stream, const pw_grpc_call_t *call, void **handle);
    /*
     * One more message; not after the half-close. SL_OK also for a stream that has ended, and nobody knows it yet. SL_AGAIN: too much is
     * waiting to be sent; the stream is reset, and its end, with status 8, comes from the event loop.
     */
    sl_status_t (*grpc_send)(void *worker, void *handle, sl_str_t message);
    void (*grpc_finish)(void *worker, void *handle); /* half-close */
    void (*grpc_cancel)(void *worker, void *handle); /* reset; no events after this, the handle is gone */

    /* ---- names; answers through pw_resolve_done(), never from inside ---- */
    /* SL_NOT_FOUND: there is no resolver. stream: on whose behalf, may be NULL, and may go before the answer comes. */
    sl_status_t (*resolve)(void *worker, void *stream, const pw_resolve_t *request, void **handle);
    void (*resolve_cancel)(void *worker, void *handle); /* no pw_resolve_done after this */

    /* ---- Redis: calls belong to the root alone; answers through pw_redis_done(), never from inside ---- */
    /* Sends a request. SL_NOT_FOUND: no such upstream; SL_AGAIN: too much is waiting; SL_FAILED: cannot be sent. */
    sl_status_t (*redis_call)(void *worker, void *stream, const pw_redis_call_t *call, void **handle);
    void (*redis_cancel)(void *worker, void *handle); /* no pw_redis_done after this; the server may have done it */

    /* ---- state shared between VMs and workers; vm_id separates ---- */
    sl_status_t (*shared_get)(void *worker, sl_str_t vm_id, sl_str_t key, sl_buf_t *value, uint32_t *cas);
    /*
     * SL_CONFLICT: there is an entry with another CAS value. cas 0 is any; PW_CAS_NEVER is given to no entry. Without an entry one is made,
     * whatever cas is. value.data NULL removes; SL_NOT_FOUND: there was none.
     */
    sl_status_t (*shared_set)(void *worker, sl_str_t vm_id, sl_str_t key, sl_str_t value, uint32_t cas);
    sl_status_t (*queue_register)(void *worker, sl_str_t vm_id, sl_str_t name, pw_root_t *root, uint32_t *id);
    sl_status_t (*queue_resolve)(void *worker, sl_str_t vm_id, sl_str_t name, uint32_t *id);
    sl_status_t (*queue_push)(void *worker, uint32_t id, sl_str_t data);
    sl_status_t (*queue_pop)(void *worker, uint32_t id, sl_buf_t *data); /* SL_AGAIN: empty; SL_NOT_FOUND: no such queue */
    /* The root context goes: no event of it (queue items) may be delivered after this. Called once per root, before it is freed. */
    void (*root_gone)(void *worker, pw_root_t *root);
    sl_status_t (*metric_define)(void *worker, uint32_t type, sl_str_t filter, sl_str_t name, uint32_t *id);
    sl_status_t (*metric_add)(void *worker, uint32_t id, int64_t delta);
    sl_status_t (*metric_record)(void *worker, uint32_t id, uint64_t value);
    sl_status_t (*metric_get)(void *worker, uint32_t id, uint64_t *value);

    /* ---- for operators ---- */
    /* A number of the filters with this name has changed. *id is 0 at first and the proxy's to keep. value: see pw_numbers.def. */
    void (*number)(void *worker, sl_str_t filter, pw_number_t which, uint32_t *id, uint64_t value);
    /* Linear memory of all filters of the worker, in bytes, has changed. limit 0: none. */
    void (*memory)(void *worker, uint64_t used, uint64_t peak, uint64_t limit);
    /* With pw_limits_t.trap_dumps: a guest has trapped. text: what is known, in lines; memory: of the guest. Both borrowed. */
    void (*trap_dump)(void *worker, sl_str_t text, sl_str_t memory);
    /* A guest has just returned from a call that took some milliseconds of CPU time, or has stopped after a slice. cpu_ns: of that. */
    void (*guest_was_long)(void *worker, uint64_t cpu_ns);
} pw_host_ops_t;

#endif
