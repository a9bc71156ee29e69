/* What the files of memhost share. */
#ifndef MH_INT_H
#define MH_INT_H

#include "mh.h"

enum {
    MH_LOG_LINES = 4096,
    MH_LOG_BYTES = 1 << 20,
    MH_MAP_PAIRS = 4096,
    MH_MAP_BYTES = 1 << 20,
    MH_CALLS = 1024,
    MH_GRPC_MESSAGES = 64,
    MH_GRPC_BYTES = 16 << 20,
    MH_TIMERS = 1024,
    MH_UPSTREAMS = 64,
    MH_PROPS = 256,
    MH_SHARED_ITEMS = 65536,
    MH_SHARED_BYTES = 16 << 20,
    MH_QUEUES = 1024,
    MH_QUEUE_ITEMS = 65536,
    MH_QUEUE_BYTES = 16 << 20,
    MH_METRICS = 16384,
    MH_BODY_BYTES = 64 << 20,
    MH_EVENTS = 10000
};

/* ---- mh_maps.c: an ordered list of owned pairs; pseudo headers stand before the others ---- */
typedef struct {
    bool present, creatable;
    pw_pair_t *pairs;
    size_t n, cap;
    size_t bytes; /* of keys and values */
} mh_map_t;

sl_str_t mh_dup(sl_str_t s); /* never NULL data unless out of memory; free() it */
void mh_map_clear(mh_map_t *m);
sl_status_t mh_map_append(mh_map_t *m, sl_str_t key, sl_str_t value);
sl_status_t mh_map_copy(mh_map_t *m, const pw_pair_t *pairs, size_t n); /* clears first, makes present */
sl_status_t mh_map_change(mh_map_t *m, pw_map_op_t op, sl_str_t key, sl_str_t value);
const sl_str_t *mh_map_find(const mh_map_t *m, sl_str_t key);

/* ---- mh_state.c ---- */
typedef struct mh_state_s mh_state_t;
mh_state_t *mh_state_new(void);
void mh_state_free(mh_state_t *st);
void mh_state_root_gone(mh_state_t *st, const pw_root_t *root);
bool mh_state_next_item(mh_state_t *st, pw_root_t **root, uint32_t *queue); /* takes one notification that is due */
sl_status_t mh_op_shared_get(void *worker, sl_str_t vm_id, sl_str_t key, sl_buf_t *value, uint32_t *cas);
sl_status_t mh_op_shared_set(void *worker, sl_str_t vm_id, sl_str_t key, sl_str_t value, uint32_t cas);
sl_status_t mh_op_queue_register(void *worker, sl_str_t vm_id, sl_str_t name, pw_root_t *root, uint32_t *id);
sl_status_t mh_op_queue_resolve(void *worker, sl_str_t vm_id, sl_str_t name, uint32_t *id);
sl_status_t mh_op_queue_push(void *worker, uint32_t id, sl_str_t data);
sl_status_t mh_op_queue_pop(void *worker, uint32_t id, sl_buf_t *data);
sl_status_t mh_op_metric_define(void *worker, uint32_t type, sl_str_t filter, sl_str_t name, uint32_t *id);
sl_status_t mh_op_metric_add(void *worker, uint32_t id, int64_t delta);
sl_status_t mh_op_metric_record(void *worker, uint32_t id, uint64_t value);
sl_status_t mh_op_metric_get(void *worker, uint32_t id, uint64_t *value);

/* ---- mh_props.c ---- */
typedef struct {
    sl_str_t path;
    pw_value_t value; /* strings are owned */
    mh_prop_mode_t mode;
} mh_prop_t;

typedef struct {
    mh_prop_t *items;
    size_t n;
} mh_props_t;

void mh_props_deinit(mh_props_t *props);
sl_status_t mh_op_property_get(void *worker, void *stream, sl_str_t path, sl_buf_t *scratch, pw_value_t *out);
sl_status_t mh_op_property_set(void *worker, void *stream, sl_str_t path, sl_str_t value);

/* ---- mh_stream.c ---- */
sl_status_t mh_op_map_each(void *stream, pw_map_t map, bool (*each)(void *ud, sl_str_t key, sl_str_t value), void *ud);
sl_status_t mh_op_map_get(void *stream, pw_map_t map, sl_str_t key, sl_str_t *value);
sl_status_t mh_op_map_edit(void *stream, pw_map_t map, pw_map_op_t op, sl_str_t key, sl_str_t value);
size_t mh_op_map_count(void *stream, pw_map_t map);
bool mh_op_may_make_body(void *stream, pw_dir_t dir);
sl_status_t mh_op_clear_route_cache(void *stream);
void mh_op_wake(void *stream, pw_dir_t dir);

/* ---- mh_exchange.c ---- */
typedef enum { MH_AT_HEADERS, MH_AT_BODY, MH_AT_TRAILERS, MH_AT_END } mh_at_t;

/* One direction: what comes in, how far it has been given to the chain, what has gone out. */
typedef struct {
    const mh_message_t *in;
    bool begun;
    mh_at_t at;
    size_t chunk;
    mh_map_t headers, trailers; /* as sent */
    sl_buf_t body;
    mh_sent_t sent;
} mh_flow_t;

struct mh_stream_s {
    mh_t *mh;
    mh_stream_t *next, *prev;
    pw_stream_t *pw;
    uint32_t id;
    mh_map_t maps[4];
    mh_props_t props;
    bool woken[2];
    bool logged;
    uint32_t route_clears;
    uint64_t begun_ns;
    /* the exchange */
    bool playing;
    bool early_response, replied;
    mh_outcome_t outcome;
    mh_flow_t flow[2];
    mh_message_t reply; /* a local reply on its way through the response callbacks */
    mh_map_t reply_headers;
    sl_str_t reply_body; /* owned */
};

void mh_exchange_deinit(mh_stream_t *s);
bool mh_exchange_continue(mh_stream_t *s); /* after wake; true when there was something to resume */

/* ---- mh_grpc.c ---- */
typedef struct mh_grpc_out_s mh_grpc_out_t;
sl_status_t mh_op_grpc_open(void *worker, void *stream, const pw_grpc_call_t *call, void **handle);
sl_status_t mh_op_grpc_send(void *worker, void *handle, sl_str_t message);
void mh_op_grpc_finish(void *worker, void *handle);
void mh_op_grpc_cancel(void *worker, void *handle);
/* The one whose time is over first, before *first_ns, which then is that time. */
mh_grpc_out_t *mh_grpc_due(const mh_t *mh, uint64_t *first_ns);
void mh_grpc_expire(mh_t *mh, mh_grpc_out_t *g);
void mh_grpc_deinit(mh_t *mh);

/* ---- mh_out.c: names and Redis ---- */
typedef struct mh_out_s mh_out_t;
sl_status_t mh_op_resolve(void *worker, void *stream, const pw_resolve_t *request, void **handle);
void mh_op_resolve_cancel(void *worker, void *handle);
sl_status_t mh_op_redis_call(void *worker, void *stream, const pw_redis_call_t *call, void **handle);
void mh_op_redis_cancel(void *worker, void *handle);
/* As with gRPC. */
mh_out_t *mh_out_due(const mh_t *mh, uint64_t *first_ns);
void mh_out_expire(mh_t *mh, mh_out_t *o);
void mh_out_deinit(mh_t *mh);

/* ---- mh.c ---- */
typedef struct mh_callout_s {
    struct mh_callout_s *next;
    mh_call_t call;
    mh_map_t headers, trailers;
    uint64_t due_ns; /* monotonic; 0: never */
} mh_callout_t;

typedef struct mh_timer_s {
    struct mh_timer_s *next;
    void **slot;
    pw_root_t *root;
    uint32_t period_ms;
    uint64_t due_ns;
    bool firing;
} mh_timer_t;

typedef struct {
    uint32_t level, stream;
    sl_str_t line; /* owned */
} mh_line_t;

struct mh_s {
    mh_conf_t conf;
    pw_worker_t *worker;
    uint64_t wall_ns, mono_ns;
    uint64_t random;
    mh_line_t *lines; /* a ring of MH_LOG_LINES */
    size_t line_first, n_lines, line_bytes;
    mh_timer_t *timers;
    size_t n_timers;
    mh_callout_t *calls;
    size_t n_calls;
    bool soon; /* pw_worker_run() is wanted */
    uint64_t calls_total, calls_cancelled;
    mh_grpc_out_t *grpc;
    size_t n_grpc;
    uint64_t grpc_cancelled;
    mh_out_t *outs;
    size_t n_outs;
    uint64_t outs_cancelled;
    sl_status_t refuse;
    sl_str_t upstreams[MH_UPSTREAMS];
    size_t n_upstreams;
    mh_props_t props;
    mh_state_t *state;
    mh_stream_t *streams;
    uint32_t last_stream;
    size_t n_dumps;
    sl_buf_t dump_text, dump_memory; /* of the latest trap */
};

bool mh_upstream_known(const mh_t *mh, sl_str_t name);
void mh_calls_forget_stream(mh_t *mh, const mh_stream_t *s);

#endif
