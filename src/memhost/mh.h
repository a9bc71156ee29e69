/*
 * memhost: a proxy in memory, the second implementation of pw_host.h. For unit tests, conformance, fuzzing, benchmarks, `sluice test`,
 * and as the canary on which filters are tried before a configuration is accepted.
 *
 *   mh_t (one worker: scripted clock, log, timers, calls out, shared state) --- mh_stream_t (maps, properties, one exchange)
 *
 * Nothing happens by itself: the test moves the clock, answers calls, and lets recorded events run (mh_run). One thread per mh_t; no
 * globals. Strings given out are borrowed until the object changes or is freed. Everything that a guest can make grow has a ceiling.
 */
#ifndef MH_H
#define MH_H

#include "pw.h"

typedef struct mh_s mh_t;
typedef struct mh_stream_s mh_stream_t;

/* ---- the proxy ---------------------------------------------------------------------------------------------------------- */

typedef void (*mh_log_fn)(void *ud, uint32_t level, sl_str_t line);

/* Zero members mean the default in brackets. */
typedef struct {
    pw_limits_t limits;     /* of the worker */
    uint32_t log_level;     /* PW_LOG_*, lowest that is written [PW_LOG_TRACE] */
    uint64_t now_ns;        /* wall clock at the start [2024-01-01T00:00:00Z]; the monotonic one starts at 1 s */
    uint64_t clock_step_ns; /* both clocks move so much with each reading; Go's runtime spins on a clock that stands [0] */
    bool real_clock;        /* the machine's clocks instead */
    uint64_t seed;          /* of the deterministic random numbers [1] */
    bool real_random;
    bool canary;   /* effects are recorded, not performed: calls are accepted and never answered, ticks never fire */
    mh_log_fn log; /* also gets each line; may be NULL */
    void *log_ud;
} mh_conf_t;

mh_t *mh_new(const mh_conf_t *conf); /* NULL conf: defaults. NULL: no memory */
/* All streams, chains and filters of it must have been given back. Frees the worker (on_done and on_delete of roots run). */
void mh_free(mh_t *mh);
pw_worker_t *mh_worker(const mh_t *mh);
const pw_host_ops_t *mh_ops(void); /* `worker` is an mh_t, `stream` an mh_stream_t */

/* Clocks. Advancing fires the ticks and the timeouts of calls that become due, in order, and runs what they caused. */
uint64_t mh_now_ns(const mh_t *mh);
void mh_advance(mh_t *mh, uint64_t ms);
/* Delivers recorded events (resumes, queue items) until there are none; false: still busy after 10000, which is a loop. */
bool mh_run(mh_t *mh);
bool mh_step(mh_t *mh); /* one event of mh_run(), or one slice of a filter; false: nothing was due */

/* ---- log: every line, up to 4096 of them and 1 MiB; the oldest go first --------------------------------------------------- */
typedef struct {
    uint32_t level;
    uint32_t stream; /* id of the stream, 0: none */
    sl_str_t line;
} mh_log_line_t;
size_t mh_log_count(const mh_t *mh);
mh_log_line_t mh_log_at(const mh_t *mh, size_t i);
bool mh_log_has(const mh_t *mh, const char *part); /* some line contains it */
size_t mh_log_matches(const mh_t *mh, const char *part);
void mh_log_clear(mh_t *mh);
void mh_log_level_set(mh_t *mh, uint32_t level);

/* ---- trap dumps, with limits.trap_dumps: the latest ----------------------------------------------------------------------- */
size_t mh_dump_count(const mh_t *mh); /* so far */
sl_str_t mh_dump_text(const mh_t *mh);
sl_str_t mh_dump_memory(const mh_t *mh);

/* ---- timers --------------------------------------------------------------------------------------------------------------- */
size_t mh_timer_count(const mh_t *mh);
uint32_t mh_timer_period_ms(const mh_t *mh, size_t i);
pw_root_t *mh_timer_root(const mh_t *mh, size_t i);
bool mh_tick(mh_t *mh, size_t i); /* fires one by hand, due or not; re-armed as usual. false: no such timer */

/* ---- calls out: kept in the order they were made until answered, failed or cancelled; at most 1024 ------------------------- */
typedef struct {
    pw_root_t *root;
    uint32_t token;
    mh_stream_t *stream; /* who asked; NULL: a root context, or the stream has gone */
    sl_str_t upstream;
    const pw_pair_t *headers;
    size_t n_headers;
    sl_str_t body;
    const pw_pair_t *trailers;
    size_t n_trailers;
    uint32_t timeout_ms;
} mh_call_t;
size_t mh_call_count(const mh_t *mh);
uint64_t mh_call_total(const mh_t *mh);                /* accepted so far */
uint64_t mh_call_cancelled(const mh_t *mh);            /* cancelled so far */
const mh_call_t *mh_call_at(const mh_t *mh, size_t i); /* NULL: no such call */
/* Delivers the answer of call i, which then is gone. Events it causes are recorded (mh_run). false: no such call. */
bool mh_call_answer(mh_t *mh, size_t i, const pw_call_response_t *response);
bool mh_call_fail(mh_t *mh, size_t i, const char *failure);
/* Once a name was added, any other answers SL_NOT_FOUND. At most 64. */
bool mh_upstream_add(mh_t *mh, const char *name);
void mh_calls_refuse(mh_t *mh, sl_status_t status); /* SL_OK: accept again */

/* ---- gRPC calls out: kept in the order they were made until closed or cancelled; at most 1024 ------------------------------- */
typedef struct {
    pw_root_t *root;
    uint32_t token;
    sl_str_t upstream, authority, service, method;
    bool tls, unary;
    const pw_pair_t *metadata;
    size_t n_metadata;
    uint32_t timeout_ms;
    const sl_str_t *messages; /* what the filter has sent, at most 64 and 16 MiB */
    size_t n_messages;
    bool finished; /* half-closed by the filter */
} mh_grpc_t;
size_t mh_grpc_count(const mh_t *mh);
uint64_t mh_grpc_cancelled(const mh_t *mh);            /* so far */
const mh_grpc_t *mh_grpc_at(const mh_t *mh, size_t i); /* NULL: no such call */
/* What the peer of call i does. Events it causes are recorded (mh_run). false: no such call. Its time being over is mh_advance's. */
bool mh_grpc_metadata(mh_t *mh, size_t i, bool trailing, const pw_pair_t *pairs, size_t n);
bool mh_grpc_message(mh_t *mh, size_t i, sl_str_t message);
bool mh_grpc_close(mh_t *mh, size_t i, uint32_t status, sl_str_t text);

/* ---- names that filters want resolved: kept in the order they were asked for until answered or cancelled ------------------- */
typedef struct {
    pw_root_t *root;
    uint32_t token;
    sl_str_t name;
} mh_resolve_t;
size_t mh_resolve_count(const mh_t *mh);
const mh_resolve_t *mh_resolve_at(const mh_t *mh, size_t i);                     /* NULL: none */
bool mh_resolve_answer(mh_t *mh, size_t i, const pw_address_t *addrs, size_t n); /* n 0: no such host */

/* ---- requests to Redis: likewise; their time being over is mh_advance's. At most 1024, with names ------------------------- */
typedef struct {
    pw_root_t *root;
    uint32_t token;
    sl_str_t upstream, username, password, query;
    uint32_t database, n_commands;
    bool blocks, tls;
    uint32_t timeout_ms;
} mh_redis_t;
size_t mh_redis_count(const mh_t *mh);
const mh_redis_t *mh_redis_at(const mh_t *mh, size_t i);     /* NULL: none */
bool mh_redis_answer(mh_t *mh, size_t i, sl_str_t response); /* data NULL: it failed */
uint64_t mh_out_cancelled(const mh_t *mh);                   /* of names and requests, so far */

/* ---- shared state (also what guests see) ---------------------------------------------------------------------------------- */
sl_status_t mh_shared_get(mh_t *mh, sl_str_t vm_id, sl_str_t key, sl_buf_t *value, uint32_t *cas);
sl_status_t mh_shared_set(mh_t *mh, sl_str_t vm_id, sl_str_t key, sl_str_t value, uint32_t cas);
sl_status_t mh_queue_push(mh_t *mh, sl_str_t vm_id, sl_str_t name, sl_str_t data); /* as another worker would */
size_t mh_queue_len(mh_t *mh, sl_str_t vm_id, sl_str_t name);
sl_status_t mh_metric_value(mh_t *mh, sl_str_t filter, sl_str_t name, uint64_t *value);
size_t mh_metric_samples(mh_t *mh, sl_str_t filter, sl_str_t name); /* of a histogram */

/* ---- properties of the worker; a stream's own win. path: segments joined by NUL ---------------------------------------------- */
typedef enum {
    MH_PROP_PLAIN,     /* guests read it; what they write is kept by the core beside it */
    MH_PROP_READ_ONLY, /* writing answers SL_INVALID */
    MH_PROP_WRITABLE   /* writing replaces the value, as a string */
} mh_prop_mode_t;
sl_status_t mh_prop_set(mh_t *mh, mh_stream_t *stream, sl_str_t path, const pw_value_t *value, mh_prop_mode_t mode);

/* ---- streams: the parts ------------------------------------------------------------------------------------------------------ */

/* Not started: maps are absent until mh_map_fill() or mh_exchange. */
mh_stream_t *mh_stream_new(mh_t *mh, pw_chain_t *chain);
void mh_stream_free(mh_stream_t *s); /* log (once), then free; calls of it lose their stream pointer. Accepts NULL */
void mh_stream_log(mh_stream_t *s);
pw_stream_t *mh_stream_pw(const mh_stream_t *s);
uint32_t mh_stream_id(const mh_stream_t *s);
bool mh_stream_woken(mh_stream_t *s, pw_dir_t dir);    /* wake() came since the last asking; clears it */
uint32_t mh_stream_route_clears(const mh_stream_t *s); /* clear_route_cache so far */

/* Makes the map present with these pairs, in order. n = 0: present and empty. At most 4096 pairs and 1 MiB. */
sl_status_t mh_map_fill(mh_stream_t *s, pw_map_t map, const pw_pair_t *pairs, size_t n);
void mh_map_drop(mh_stream_t *s, pw_map_t map); /* absent again */
/* Whether ADD and REPLACE make the map present where it is absent. Trailers: yes from the start, else no. */
void mh_map_creatable(mh_stream_t *s, pw_map_t map, bool yes);
bool mh_map_present(const mh_stream_t *s, pw_map_t map);
size_t mh_map_count(const mh_stream_t *s, pw_map_t map);
pw_pair_t mh_map_at(const mh_stream_t *s, pw_map_t map, size_t i);
sl_str_t mh_map_value(const mh_stream_t *s, pw_map_t map, const char *key); /* first value; data NULL: none */

/* ---- streams: a whole exchange, played as a proxy would ------------------------------------------------------------------------ */

typedef struct {
    const pw_pair_t *headers; /* with pseudo headers */
    size_t n_headers;
    const sl_str_t *chunks;
    size_t n_chunks;
    const pw_pair_t *trailers;
    size_t n_trailers;
    bool late_end; /* the end comes by itself, as an empty last piece, and not with the last chunk (or with the headers) */
} mh_message_t;

typedef enum {
    MH_PAUSED, /* waits: for an answer, a tick, a queue item */
    MH_DONE,   /* the response has gone out whole */
    MH_RESET   /* closed without (the rest of) an answer */
} mh_outcome_t;

/* A message as it left the proxy. */
typedef struct {
    bool headers_sent;
    const pw_pair_t *headers; /* as they were when released */
    size_t n_headers;
    sl_str_t body;
    size_t n_writes; /* pieces of the body that went on */
    bool changed;    /* the core said that a content-length no longer holds */
    bool ended;
    const pw_pair_t *trailers;
    size_t n_trailers;
} mh_sent_t;

/*
 * Plays request and response through the chain. Borrowed until the stream is freed: both messages. The response of the upstream begins
 * when the request has gone up whole (early_response: when its headers have). After MH_PAUSED: cause something, mh_run(), and
 * look at mh_exchange_outcome(). Local replies of the request side pass the response callbacks; a failure answers with its status.
 */
mh_outcome_t mh_exchange(mh_stream_t *s, const mh_message_t *request, const mh_message_t *response, bool early_response);
mh_outcome_t mh_exchange_outcome(const mh_stream_t *s);
const mh_sent_t *mh_exchange_upstream(const mh_stream_t *s); /* headers_sent false: the request never went up */
const mh_sent_t *mh_exchange_downstream(const mh_stream_t *s);
uint32_t mh_exchange_status(const mh_stream_t *s);            /* :status of what went downstream; 0: none */
bool mh_exchange_replied(const mh_stream_t *s);               /* a filter made the answer */
sl_str_t mh_sent_header(const mh_sent_t *m, const char *key); /* first value; data NULL: none */
void mh_exchange_client_gone(mh_stream_t *s);                 /* the outcome is MH_RESET then */

/* ---- canary ------------------------------------------------------------------------------------------------------------------ */

/*
 * Starts a filter on a throw-away worker and stops it again: nothing it asks for is performed. Real clock and randomness. The status and
 * the text are those of pw_filter_new. `log` gets the filter's lines and may be NULL.
 */
sl_status_t mh_canary(const pw_filter_conf_t *conf, const pw_limits_t *limits, mh_log_fn log, void *log_ud, sl_err_t *err);

#endif
