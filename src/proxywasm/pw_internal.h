/*
 * The structs behind pw.h, shared by the files of this folder and by nobody else.
 *
 *   worker --< vm --< root >-- filter
 *                      |
 *   stream = [ position 0 | position 1 | ... ], one per filter of the chain:
 *              context (id in the root's VM), stage[request], stage[response]
 *
 * A guest is on the stack at most once per worker (its allocator excepted, which can reach nothing that calls a guest). So contexts,
 * roots and VMs never go while a guest runs; what would free them from inside is put off to pw_worker_settle().
 */
#ifndef PW_INTERNAL_H
#define PW_INTERNAL_H

#include "pw.h"
#include "pw_breaker.h"
#include "pw_grants.h"
#include "sl_arena.h"
#include "sl_watch.h"

typedef enum {
#define PW_CALLBACK(id, name, sig_0_1, sig_0_2) PW_CB_##id,
#define PW_CALLBACK_ALIAS(id, name)
#include "pw_callbacks.def"
#undef PW_CALLBACK
#undef PW_CALLBACK_ALIAS
    PW_CB_N
} pw_cb_t;
#define PW_CB_BIT(cb) (1u << (cb))
/* Callbacks for the sake of which a stream context is made. */
#define PW_CB_STREAM                                                                                                                       \
    (PW_CB_BIT(PW_CB_REQUEST_HEADERS) | PW_CB_BIT(PW_CB_REQUEST_BODY) | PW_CB_BIT(PW_CB_REQUEST_TRAILERS) |                                \
     PW_CB_BIT(PW_CB_RESPONSE_HEADERS) | PW_CB_BIT(PW_CB_RESPONSE_BODY) | PW_CB_BIT(PW_CB_RESPONSE_TRAILERS) | PW_CB_BIT(PW_CB_LOG) |      \
     PW_CB_BIT(PW_CB_DONE) | PW_CB_BIT(PW_CB_DELETE))

#define PW_PAIRS_MAX 1024
#define PW_PAIRS_BYTES_MAX ((size_t)1 << 20)
#define PW_MAP_BYTES_MAX ((size_t)16 << 20) /* a header map on its way to a guest */
#define PW_PATH_MAX 4096                    /* of a property */
#define PW_ROOT_CALLS_MAX 4096              /* in flight for one root context */
#define PW_REMOTE_CLOSED_MAX 16             /* tokens of gRPC streams that may still be closed */
#define PW_METRICS_MAX 65536                /* handles of one VM */
#define PW_RESOLVE_BYTES_MAX 65536          /* what a guest is told about a name */
#define PW_DECLARED_MAX 256                 /* properties of a root context */
#define PW_EXPRS_MAX 1024                   /* expressions of a root context, */
#define PW_EXPR_BYTES_MAX ((size_t)8 << 20) /* and what they take together */
#define PW_REDIS_MAX 64                     /* clusters of a root context */
#define PW_ALLOC_MS 3                       /* CPU time of a sliced filter's allocator, which cannot stop, */
#define PW_ALLOC_BYTES_PER_MS (1u << 20)    /* and one more for each so many bytes */
#define PW_RESTART_NS 1000000000u           /* between attempts to start a filter that does not start */
#define PW_BACKOFF_MIN_MS 1000              /* before a filter that trapped is started without a stream that needs it; doubles */
#define PW_BACKOFF_MAX_MS 60000
#define PW_RECYCLE_NS 1000000000u         /* an instance is not replaced before it has lived so long, */
#define PW_RECYCLE_FAILED_NS 60000000000u /* nor so soon after that has failed */
#define PW_STEADY_NS 10000000000u         /* who ran so long begins with the least again */

/* So that no host call takes long: */
#define PW_DETAILS_MAX 4096                    /* of a local response; what is longer is cut */
#define PW_UPSTREAM_MAX 8192                   /* a name to call */
#define PW_SHARED_KEY_MAX 65536                /* of shared data; the name of a queue */
#define PW_SHARED_BYTES_MAX ((size_t)16 << 20) /* a value of shared data, an item of a queue */
#define PW_SAVED_BYTES_MAX ((size_t)16 << 20)  /* an instance that has more is started again after a trap, without an image */

typedef struct pw_vm_s pw_vm_t;
typedef struct pw_ctx_s pw_ctx_t;
typedef struct pw_call_s pw_call_t;
typedef struct pw_pool_s pw_pool_t;
typedef struct pw_saved_s pw_saved_t;
typedef struct pw_trace_s pw_trace_t; /* pw_dump.h */
typedef struct pw_job_s pw_job_t;     /* pw_slice.h */
typedef struct pw_slices_s pw_slices_t;

/* Jobs that wait, in their order. */
typedef struct {
    pw_job_t *first, *last;
    uint32_t n;
} pw_jobs_t;

/* ---- ids -> things, intrusive ---- */
typedef struct pw_id_node_s {
    struct pw_id_node_s *next;
    uint32_t id; /* 0: in no map */
} pw_id_node_t;
typedef struct {
    pw_id_node_t **buckets;
    uint32_t n_buckets; /* a power of two, or 0 */
    uint32_t n;
} pw_id_map_t;
bool pw_id_map_add(pw_id_map_t *map, pw_id_node_t *node); /* node->id is set; false: no memory */
pw_id_node_t *pw_id_map_find(const pw_id_map_t *map, uint32_t id);
void pw_id_map_deinit(pw_id_map_t *map);
static inline pw_id_node_t **pw_id_map_bucket(const pw_id_map_t *map, uint32_t id) { /* which has some */
    return &map->buckets[id & (map->n_buckets - 1)];
}
static inline void pw_id_map_put(pw_id_map_t *map, pw_id_node_t **bucket, pw_id_node_t *node) {
    node->next = *bucket;
    *bucket = node;
    map->n++;
}
static inline void pw_id_map_remove(pw_id_map_t *map, const pw_id_node_t *node) {
    pw_id_node_t **p = pw_id_map_bucket(map, node->id);
    while (*p != NULL && *p != node) {
        p = &(*p)->next;
    }
    if (*p != NULL) {
        *p = node->next;
        map->n--;
    }
}

/* ---- numbers of filters, by name; as long as the worker ---- */
typedef struct pw_numbers_s {
    struct pw_numbers_s *next;
    pw_worker_t *worker;
    sl_str_t name;
    uint64_t values[PW_NUMBERS];
    uint32_t ids[PW_NUMBERS]; /* the host's */
    uint64_t memory;          /* bytes of linear memory of their instances */
    uint64_t dumped_ns;       /* monotonic: their latest trap dump */
    uint32_t breakers[3];     /* of filters with this name, by state; closed ones are not counted */
    char text[];
} pw_numbers_t;
pw_numbers_t *pw_numbers_get(pw_worker_t *w, sl_str_t name); /* NULL: no memory */
void pw_numbers_free_all(pw_worker_t *w);
void pw_number_add(pw_numbers_t *n, pw_number_t which, uint64_t delta);
void pw_number_set(pw_numbers_t *n, pw_number_t which, uint64_t value);

/* ---- worker ---- */
struct pw_worker_s {
    const pw_host_ops_t *ops;
    void *host;
    pw_limits_t limits;
    pw_stats_t stats;
    sl_dialect_t dialect; /* of the filter that runs, or is asked about */
    sl_watch_t *watch;    /* of CPU budgets; made with the first VM */
    pw_numbers_t *numbers;
    sl_memory_t memory;         /* linear memory of all instances */
    uint64_t told_memory;       /* what the host knows of it */
    uint32_t n_large;           /* VMs over their memory_recycle */
    uint64_t memory_refused_ns; /* monotonic: when that was last logged */
    pw_vm_t *vms;               /* all, also those that failed */
    uint64_t n_filters;         /* made so far */
    pw_root_t *finishing;       /* roots to be deleted once no guest runs */
    pw_filter_t *broken;        /* filters to be started again at an alarm */
    struct pw_stream_s *pool;   /* streams of few filters, for use again */
    uint32_t n_pool;
    pw_job_t *job;  /* the one that runs; NULL: none, this is the proxy's own stack */
    pw_job_t *jobs; /* all that have begun */
    pw_job_t *first_ready, *last_ready;
    pw_job_t *idle_jobs;
    uint32_t n_idle_jobs;
    bool timed;                         /* callbacks of streams are timed */
    pw_id_map_t known_queues;           /* by id: who has found it by its name */
    sl_buf_t sizes, bytes, value, line; /* scratch of one host call; `line` of one log line */
    pw_pair_t pairs[2][PW_PAIRS_MAX];   /* decoded pairs of one host call */
};
void pw_worker_forget_queues(pw_worker_t *worker); /* known_queues */
/* A guest has had the thread for so long, at a stretch. */
void pw_worker_held(const pw_worker_t *worker, uint64_t cpu_ns);
/* SL_FAILED: the kernel gives no timer. */
sl_status_t pw_worker_watch(pw_worker_t *worker, sl_engine_t *engine, sl_err_t *err);
void pw_worker_finish(pw_worker_t *worker);
static inline void pw_worker_settle(pw_worker_t *worker) {
    if (__builtin_expect(worker->finishing != NULL, 0)) {
        pw_worker_finish(worker);
    }
}

/* ---- contexts ---- */
struct pw_ctx_s {
    pw_id_node_t node;   /* in vm->contexts; id 0: the guest does not know it (yet) */
    pw_root_t *root;     /* itself for a root context; NULL: the filter could not be started */
    pw_stream_t *stream; /* NULL: a root context */
    uint32_t position;   /* in the chain */
    uint32_t n_calls;    /* in flight for it */
};

/* The low two bits of a token are those of the kind. */
typedef enum { PW_CALL_HTTP = 0, PW_CALL_GRPC = 1, PW_CALL_GRPC_STREAM = 2, PW_CALL_REDIS = 3, PW_CALL_RESOLVE = 4 } pw_call_kind_t;

struct pw_call_s {
    pw_id_node_t node; /* in vm->calls */
    pw_call_kind_t kind;
    pw_root_t *root;
    pw_ctx_t *ctx; /* the stream context it was made for; NULL: a root, or the stream has gone */
    void *handle;
    bool cancelled;        /* the root has still to be told */
    bool over;             /* it has ended for the proxy, which does not know the handle any more */
    bool local_closed;     /* a gRPC stream: half-closed from here */
    bool trailers_told;    /* likewise: on_grpc_receive_trailing_metadata has been called */
    bool has_message;      /* a unary gRPC call: */
    sl_buf_t message;      /* the answer, until its status is known; the name that is being resolved */
    bool foreign;          /* of resolving: its foreign function was called */
    pw_call_t *next, **at; /* root->calls */
};

struct pw_root_s {
    pw_ctx_t ctx;
    pw_vm_t *vm;
    pw_filter_t *filter;
    pw_pool_t *pool; /* of an instance for one request at a time; NULL: a plugin's own root context */
    pw_root_t *next; /* of the VM; of the idle ones of the pool */
    pw_root_t *next_finishing;
    uint32_t refs;     /* the filter or a deferred end, streams, events that are running */
    bool done_pending; /* on_done answered 0 */
    bool finishing;
    bool gone; /* nothing of it is known to guest or host any more */
    bool ended;
    void *timer;
    pw_call_t *calls;
    uint32_t n_calls;
    const pw_call_response_t *response; /* while its callback runs */
    sl_str_t foreign_data;              /* likewise */
    const pw_pair_t *grpc_pairs;        /* likewise: */
    size_t n_grpc_pairs;
    pw_map_t grpc_map; /* which of the two they are; 0: none now */
    bool has_grpc_message;
    sl_str_t grpc_message;
    uint32_t status; /* proxy_get_status */
    sl_str_t status_message;
    uint32_t remote_closed[PW_REMOTE_CLOSED_MAX]; /* tokens of streams that the peer has closed and the guest has not; a ring */
    uint32_t next_remote_closed;
    uint32_t tick_ms;               /* as the guest last set it */
    struct pw_queue_s *queues;      /* that it has registered during its start */
    struct pw_declared_s *declared; /* properties */
    uint32_t n_declared;
    struct pw_exprs_s *exprs; /* expressions; NULL: it never made one */
    struct pw_redis_s *redis; /* clusters that were made known */
    uint32_t n_redis;
    bool has_redis_response; /* while its callback runs: */
    sl_str_t redis_response;
    bool ticking; /* a sliced tick has not ended: the next one is left out */
};
/* The root context that has the filter's timer and queues; NULL: it does not work now. */
pw_root_t *pw_root_plugin(pw_root_t *root);
pw_root_t *pw_root_ref(pw_root_t *root);
void pw_root_unref(pw_root_t *root);
void pw_root_unused(pw_root_t *root); /* its last reference has gone */

struct pw_filter_s {
    pw_worker_t *worker;
    uint64_t serial;       /* no other filter of the worker has it, be it gone */
    uint32_t refs;         /* of the outside */
    uint32_t roots;        /* that point here; the struct lives as long as any */
    pw_filter_conf_t conf; /* copied; strings in `arena` */
    sl_arena_t arena;
    pw_abi_version_t abi;
    bool stop_iteration; /* Pause (1) in a headers callback lets body callbacks run */
    uint32_t callbacks;  /* PW_CB_BIT of what the module exports and does something */
    bool of_streams;     /* it exports one for the sake of which stream contexts are made */
    pw_root_t *root;
    uint64_t retry_ns; /* monotonic: no new attempt before */
    pw_grants_t grants;
    uint32_t denied; /* PW_G_BIT: has been logged */
    pw_breaker_t breaker;
    pw_numbers_t *numbers;
    pw_pool_t *pool;         /* isolation of requests; NULL: shared, or never started */
    uint32_t n_instances;    /* for requests, in use */
    uint64_t no_instance_ns; /* monotonic: when that was last logged */
    bool broken;             /* in worker->broken: */
    pw_filter_t *next_broken;
    uint64_t started_ns, restart_ns; /* monotonic; the latest start, the next one without a stream */
    uint64_t start_cpu_ns;           /* what the longest start that went well took; 0: none has */
    uint32_t backoff_ms;
};
/* on_context_create, on_vm_start, on_configure. */
sl_status_t pw_root_run(pw_root_t *root, sl_err_t *err);
/* One root less that points to the filter. */
void pw_filter_root_gone(pw_filter_t *filter);
/* CPU time for each of its start functions, its proxy_on_vm_start and its proxy_on_configure; 0: any. */
uint32_t pw_filter_start_budget_ms(const pw_filter_t *filter);
void pw_filter_broken(pw_filter_t *filter); /* its VM has failed: it is started again in time */
/* A root that works, restarted if its VM has failed; NULL: it does not start now. */
pw_root_t *pw_filter_root(pw_filter_t *filter);
/* Finds or makes a VM and starts a root context in it. filter->root stays what it is. `old`: the one before a trap, NULL: none. */
sl_status_t pw_root_start(pw_filter_t *filter, pw_root_t *old, pw_root_t **out, sl_err_t *err);
void pw_root_end(pw_root_t *root); /* on_done, on_delete; it and its VM may be gone afterwards */

/* ---- how filters fare: pw_health.c ---- */

bool pw_health_init(pw_filter_t *filter); /* false: no memory */
void pw_health_forget(pw_filter_t *filter);
bool pw_health_admit_slowly(pw_filter_t *filter, bool *probe);
/* Whether a stream may enter; *probe: its end is to be told. */
static inline bool pw_health_admit(pw_filter_t *filter, bool *probe) {
    *probe = false;
    return __builtin_expect(filter->breaker.state == PW_BREAKER_CLOSED, 1) || pw_health_admit_slowly(filter, probe);
}
void pw_health_probed(pw_filter_t *filter, bool ran);
void pw_health_failed(pw_filter_t *filter, pw_number_t reason); /* PW_N_TRAPS* */
uint32_t pw_health_retry_after(const pw_filter_t *filter);      /* seconds, at least 1 */

/* ---- instances for requests: pw_pool.c ---- */

/* From the state of a plugin that has just been configured. */
sl_status_t pw_pool_new(pw_root_t *plugin, pw_pool_t **out, sl_err_t *err);
void pw_pool_free(pw_pool_t *pool); /* instances in use go when they are given back */
uint32_t *pw_pool_next_ctx(pw_pool_t *pool);
sl_image_t *pw_pool_image(const pw_pool_t *pool);
/* From now on a fresh instance for each request, as for a module that has no image. For comparisons. */
void pw_pool_forget_image(pw_pool_t *pool);
/* The root context of an instance that is as it was after on_configure, with one reference; NULL (logged): there is none now. */
pw_root_t *pw_pool_take(pw_filter_t *filter);
/* From pw_root_unref: nobody uses it any more. */
void pw_pool_give(pw_root_t *root);

/* ---- recovery by reset: pw_saved.c ---- */

/* Before the first stream or event enters: puts aside what the VM is. Once for each VM; where it cannot be done, it is not. */
void pw_saved_take(pw_vm_t *vm);
void pw_saved_free(pw_saved_t *saved); /* NULL is fine */
/* The filter ends for good: what was put aside with its root in it is of no use any more. */
void pw_saved_leave(pw_vm_t *vm, const pw_filter_t *filter);
/* vm has the instance of a VM that has failed, and what was put aside of it. Anything but SL_OK: the VM may only be freed. */
sl_status_t pw_saved_reset(pw_vm_t *vm);
/* The id that the filter's root has in a VM that was reset; 0: it is not in there, or has been brought back before. */
uint32_t pw_saved_root_id(const pw_vm_t *vm, const pw_filter_t *filter);
/* The root with that id is brought back, with what is kept for the one before the trap. Otherwise as pw_vm_call. */
sl_status_t pw_saved_adopt(pw_root_t *root, pw_root_t *old, sl_err_t *err);
/* For queues that are to be listened to again. */
void pw_root_note_queue(pw_root_t *root, sl_str_t name, uint32_t id);
void pw_root_forget_queues(pw_root_t *root);

/* ---- VMs ---- */
typedef enum { PW_DURING_START = 1, PW_DURING_ALLOC = 2, PW_DURING_SEQUENCE = 4 } pw_during_t;

/* Several callbacks in one entry. While PW_DURING_SEQUENCE is set nobody has asked yet which one runs: the first host call does. */
typedef struct {
    sl_sequence_t which;
    bool *running; /* set while the last callback runs, when a host call comes from there; may be NULL */
    bool stopped;  /* the one that made a host call was not the last: no other was begun */
    pw_cb_t last;  /* the callback that ended it */
} pw_sequence_t;

typedef struct {
    uint32_t type;
    uint32_t host_id;
} pw_metric_handle_t;

/* What a VM has of a sequence. */
typedef struct {
    sl_func_t *func; /* NULL: none, or the filter makes host calls where it is of no use */
    pw_cb_t last;
    uint32_t last_part; /* its place, as sl_instance_part() tells it */
    uint32_t more;      /* callbacks behind the first */
} pw_vm_sequence_t;

struct pw_vm_s {
    pw_vm_t *next;
    pw_worker_t *worker;
    sl_arena_t arena;
    /* the key */
    const pw_filter_t *owner; /* the only filter in it; NULL: it may have several */
    sl_module_t *module;
    sl_str_t vm_id, config;
    uint64_t memory_budget;   /* bytes */
    uint32_t lacks;           /* PW_G_BIT of what its filters are not granted */
    sl_str_t grants;          /* their list, where it names something; else empty */
    uint32_t start_budget_ms; /* of its start functions */
    uint64_t recycle_bytes;   /* memory_recycle; 0: never */
    pw_pair_t *env;
    size_t n_env;

    sl_str_t starter;        /* filter that made it, for the log */
    pw_numbers_t *numbers;   /* of that filter */
    size_t counted;          /* bytes of memory that are in there */
    size_t started_bytes;    /* of memory that it took to start its roots */
    bool large;              /* in worker->n_large: over recycle_bytes, and more than it started with */
    bool retired;            /* its filters have moved to another one; it has no new roots */
    uint64_t recycle_ns;     /* monotonic: it is not replaced before */
    sl_instance_t *instance; /* NULL: failed, or not there yet */
    sl_func_t *alloc;
    sl_func_t *on_reset;    /* sluice_on_reset; NULL: not exported */
    pw_pool_t *pool;        /* for requests, one at a time; NULL: a plugin's */
    pw_saved_t *saved;      /* what it was before it was used; NULL: a trap makes another start necessary */
    bool used;              /* streams or events have entered it */
    bool quiet;             /* what it asks the proxy for has been done: timers, queues, calls */
    sl_func_t *cb[PW_CB_N]; /* NULL: not exported */
    pw_vm_sequence_t sequences[SL_SEQUENCES];
    pw_sequence_t *sequence; /* on the stack */
    pw_abi_version_t abi;
    bool sliced;       /* part of the key: its filters run in slices, and */
    pw_job_t *busy;    /* this one has it for itself, */
    uint32_t entered;  /* so many times, */
    pw_jobs_t waiting; /* while these wait */
    uint8_t during;    /* PW_DURING_*: what may be called is restricted */
    bool failed;       /* it trapped: nothing is called any more */
    bool trapped;      /* the host call that runs must answer SL_TRAP */
    bool exited;       /* proc_exit while it was being started */
    uint32_t exit_code;
    uint32_t depth;
    pw_cb_t running;     /* callback on the stack; PW_CB_N: none or a start function */
    pw_ctx_t *current;   /* whose callback runs; NULL: a start function */
    pw_ctx_t *effective; /* NULL: current */
    uint32_t next_ctx, next_token;
    pw_id_map_t contexts, calls;
    pw_root_t *roots;
    uint32_t n_roots;
    pw_metric_handle_t *metrics;
    uint32_t n_metrics, cap_metrics;
    pw_trace_t *trace; /* its latest host calls; NULL: there are no trap dumps */
    sl_buf_t std[2];   /* unfinished lines of stdout and stderr */
};

/* The root context for a new stream, with a reference: the filter's, or that of an instance for this stream alone. NULL: there is none. */
pw_root_t *pw_filter_enter_slowly(pw_filter_t *filter);
static inline pw_root_t *pw_filter_enter(pw_filter_t *filter) {
    pw_root_t *root = filter->root;
    if (__builtin_expect(root == NULL || filter->pool != NULL || root->vm->failed || !root->vm->used, 0)) {
        return pw_filter_enter_slowly(filter);
    }
    root->refs++;
    return root;
}

/* Finds a VM with this key that works, brings one back that has trapped, or makes one and runs its start functions. */
sl_status_t pw_vm_get(pw_filter_t *filter, pw_vm_t **out, sl_err_t *err);
void pw_vm_release(pw_vm_t *vm); /* frees it when no root is left */
/* A VM of its own for a filter: as the image says, or started when that is NULL. */
sl_status_t pw_vm_new(pw_filter_t *filter, sl_image_t *image, pw_vm_t **out, sl_err_t *err);
void pw_vm_free(pw_vm_t *vm);
/* Calls on_reset; otherwise as pw_vm_call. */
sl_status_t pw_vm_call_reset(pw_vm_t *vm, pw_ctx_t *ctx, sl_err_t *err);
/* Gives ctx an id that is free; SL_NO_MEMORY. They come one after the other, so the next one nearly always is. */
sl_status_t pw_vm_announce_slowly(pw_vm_t *vm, pw_ctx_t *ctx);
static inline sl_status_t pw_vm_announce(pw_vm_t *vm, pw_ctx_t *ctx) {
    pw_id_map_t *map = &vm->contexts;
    uint32_t id = vm->next_ctx + 1;
    if (__builtin_expect(vm->pool != NULL || id == 0 || map->n >= map->n_buckets, 0)) {
        return pw_vm_announce_slowly(vm, ctx);
    }
    pw_id_node_t **bucket = pw_id_map_bucket(map, id);
    for (const pw_id_node_t *node = *bucket; node != NULL; node = node->next) {
        if (__builtin_expect(node->id == id, 0)) {
            return pw_vm_announce_slowly(vm, ctx);
        }
    }
    vm->next_ctx = ctx->node.id = id;
    pw_id_map_put(map, bucket, &ctx->node);
    return SL_OK;
}
/*
 * Calls callback cb of the guest, which must be exported, in ctx. args as for sl_instance_call. SL_TRAP: the VM has failed now (or had
 * before); that has been logged and err, which may be NULL, holds the text.
 */
sl_status_t pw_vm_call(pw_vm_t *vm, pw_ctx_t *ctx, pw_cb_t cb, sl_raw_t *args, sl_err_t *err);
/*
 * The same for several callbacks in one entry; which the VM has. Exactly as if they were called one after
 * the other but for what they may take of the CPU, which is one budget for all. Where a callback before the last one makes a host call, the
 * sequence ends with that callback, and such an entry is not tried again: seq->last says how far it came.
 */
sl_status_t pw_vm_call_sequence(pw_vm_t *vm, pw_ctx_t *ctx, pw_sequence_t *seq, sl_raw_t *args);
static inline bool pw_vm_has_sequence(const pw_vm_t *vm, sl_sequence_t which) {
    return vm->sequences[which].func != NULL;
}
/* For host calls: finds out which callback of a sequence runs. */
void pw_vm_ask_sequence(pw_vm_t *vm);
const char *pw_cb_name(pw_cb_t cb);
static inline bool pw_vm_has(const pw_vm_t *vm, pw_cb_t cb) {
    return vm->cb[cb] != NULL;
}
/* The context that a host call acts on; NULL only in start functions. */
static inline pw_ctx_t *pw_vm_ctx(const pw_vm_t *vm) {
    return vm->effective != NULL ? vm->effective : vm->current;
}
static inline sl_dialect_t pw_vm_dialect(const pw_vm_t *vm) {
    return vm->current != NULL ? (sl_dialect_t)vm->current->root->filter->conf.opts.dialect : SL_DIALECT_ENVOY;
}
static inline sl_dialect_t pw_ctx_dialect(const pw_ctx_t *ctx) {
    return ctx->root != NULL ? (sl_dialect_t)ctx->root->filter->conf.opts.dialect : SL_DIALECT_ENVOY;
}
/* For host calls: whether the filter that runs may use this name of the group. false: told to operators. */
bool pw_granted(pw_vm_t *vm, pw_grant_t grant, sl_str_t name);
void pw_grant_denied(pw_vm_t *vm, pw_grant_t grant, sl_str_t name);
/* For host calls: the guest traps with this reason. Answers 0, so that a handler can return it. */
uint64_t pw_vm_trap(pw_vm_t *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Wrong use: WasmX traps, Envoy answers a status. */
uint64_t pw_vm_misuse(pw_vm_t *vm, pw_result_t status, const char *text);

/*
 * Host calls whose work grows with their arguments ask every now and then. A sliced filter stops here, and the event loop goes on with
 * everything else: what is kept over the question is the host call's own, or lies in the guest (whose memory nobody touches meanwhile), or
 * belongs to the operation that runs. false: the callback is over its CPU budget, or nobody wants it any more; the host call gives up,
 * whatever it answers: the guest traps. vm NULL: there is no budget.
 */
bool pw_vm_go_on(pw_vm_t *vm);
#define PW_STEP_BYTES ((size_t)256 << 10) /* copied between two such questions */
/* memcpy in steps. false: as above, and not everything was copied. */
bool pw_vm_copy(pw_vm_t *vm, char *to, sl_str_t from);

/* Its memory has changed, or what it should be compared with. */
void pw_vm_count_memory(pw_vm_t *vm);
/* Replaces VMs that are large by fresh ones, as far as nothing is in flight in them. No guest may be on the stack. */
void pw_recycle(pw_worker_t *worker);
static inline void pw_worker_trim(pw_worker_t *worker) {
    if (__builtin_expect(worker->n_large != 0, 0)) {
        pw_recycle(worker);
    }
}

/* ---- modules ---- */
typedef struct {
    pw_abi_version_t abi;
    uint32_t patch;     /* of the marker: 100 in proxy_abi_version_0_2_100 */
    uint32_t callbacks; /* that it exports */
    uint32_t idle;      /* those that do nothing, and answer what is taken for the answer where there is none */
    const char *alloc;
} pw_module_facts_t;
sl_status_t pw_module_facts(const sl_module_t *module, pw_module_facts_t *facts, sl_err_t *err);
/* The export's name and type for a callback in this module; NULL: it has none. */
const char *pw_module_callback(const sl_module_t *module, pw_cb_t cb, pw_abi_version_t abi, const char **sig);
/* A call in flight of ctx, whose handle has still to be set; NULL: no memory, or too many. Bound to the stream only for HTTP. */
pw_call_t *pw_call_new(pw_vm_t *vm, pw_ctx_t *ctx, pw_call_kind_t kind);
void pw_call_free(pw_call_t *call);
/* WasmX: a request that waits goes on by itself when the last call of its filter has been answered. */
void pw_call_resume_waiting(pw_root_t *root, uint32_t ctx_id);
void pw_root_forget_redis(pw_root_t *root);
/* Properties that a filter describes before it sets them. PW_BAD_ARGUMENT: it has done so. */
pw_result_t pw_property_declare(pw_root_t *root, sl_str_t name, bool read_only);
void pw_root_forget_declared(pw_root_t *root);
/*
 * The property at a path (segments joined by NUL), as proxy_get_property knows it; *out until the next operation of the proxy. Not
 * filter_state as a whole, which is gone through instead (false: there is none): names as Envoy has them.
 */
sl_status_t pw_property_find(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t path, pw_value_t *out);
typedef bool (*pw_state_fn_t)(void *ud, sl_str_t key, sl_str_t value);
bool pw_property_each_state(const pw_ctx_t *ctx, pw_state_fn_t fn, void *ud);
void pw_root_forget_exprs(pw_root_t *root);
/* The latest token; and dropping those that came after it. */
uint32_t pw_root_last_expr(const pw_root_t *root);
void pw_root_forget_exprs_after(pw_root_t *root, uint32_t last);
void pw_root_cancel_calls(pw_root_t *root);
void pw_root_cancel_grpc_streams(pw_root_t *root); /* they have no end of their own */
void pw_root_stop(pw_root_t *root);                /* timers, calls, queues: the host forgets the root */

/* ---- chains ---- */
struct pw_chain_s {
    pw_worker_t *worker;
    uint32_t refs;
    pw_chain_conf_t conf;
    size_t body_bytes[2]; /* ceilings by direction */
    bool sliced;          /* one of its filters is */
    bool wasmx;           /* one of its filters has that dialect */
    bool reversed[2];     /* direction: stages are counted from the end */
    bool wants_requests;  /* one of its filters has a callback for them */
    bool last_words;      /* one of its filters has on_log or on_done */
    uint32_t callbacks;   /* of all filters together */
    size_t n;
    pw_filter_t *filters[];
};
void pw_chain_free(pw_chain_t *chain); /* nobody has it any more */

/* ---- streams ---- */
typedef enum {
    PW_HEADERS_NONE,        /* have not come here */
    PW_HEADERS_HELD_ITER,   /* held, body callbacks go on */
    PW_HEADERS_HELD_ALL,    /* held, and all that follows */
    PW_HEADERS_HELD_BUFFER, /* the same, but the body should be read */
    PW_HEADERS_PASSED
} pw_stage_headers_t;
typedef enum { PW_TRAILERS_NONE, PW_TRAILERS_WAIT, PW_TRAILERS_HELD, PW_TRAILERS_PASSED } pw_stage_trailers_t;
typedef enum { PW_GATHER_NONE, PW_GATHER_HELD, PW_GATHER_DONE } pw_gather_t;

/*
 * One filter in one direction. `buf` holds bytes that came here and have not gone on; `owned` says that it is in use. While headers are
 * held with all that follows, or a body is gathered, the guest has not seen them; else it has.
 */
typedef struct {
    uint8_t headers;  /* pw_stage_headers_t */
    uint8_t body;     /* pw_body_action_t of a stop, 0: flows */
    uint8_t trailers; /* pw_stage_trailers_t */
    uint8_t gather;   /* pw_gather_t: the body waits until it is whole, or has been shown */
    bool headers_eos; /* the headers ended the message */
    bool eos;         /* the end of the body came here and has not gone on */
    bool at_end;      /* the last body callback was told the end */
    bool resume;      /* continue_stream was recorded */
    bool ended;       /* ContinueAndEndStream: what follows is dropped */
    bool unlimited;   /* over the ceiling, by policy: never stops again */
    bool running;     /* one of its callbacks in this direction is on the stack */
    bool in_body;     /* and it is the body's */
    bool owned;
    bool sent;          /* what is in buf has gone on; it may still be looked at until the next call */
    bool made;          /* buf is a body that the guest has given to a message without one; its headers are still here */
    bool made_trailers; /* by writing to them in the last body callback */
    /* What is above is cleared for a new stream, what is below is as a stream leaves it: empty. */
    sl_buf_t buf;
    const sl_str_t *view; /* in a body callback, when not owned: the bytes; else NULL */
    size_t n_view, view_len;
    sl_str_t flat; /* buf as one piece, when it has been sent */
} pw_stage_t;

typedef struct {
    pw_ctx_t ctx;
    pw_filter_t *filter;
    /* From here to the stages it is cleared for a new stream. */
    bool skip[2];         /* direction: as if it exported nothing */
    bool known;           /* on_context_create has run */
    bool left;            /* and on_delete, before the stream was freed */
    bool refused;         /* its breaker was open when the stream began */
    bool probe;           /* this stream tries whether it works again */
    bool bypassed;        /* by its own fail policy, or that of one before it */
    uint32_t n_callbacks; /* and what they took; only while the worker is timed */
    uint64_t spent_ns;
    pw_stage_t stage[2];
} pw_position_t;

/* One direction of a stream. What is above the limit is cleared for a new stream, what is below is as a stream leaves it: empty. */
typedef struct {
    bool seen;      /* headers have come */
    bool released;  /* headers have gone on */
    bool input_eos; /* the end has come */
    bool out_eos;   /* the end has gone on */
    bool over;      /* no callbacks any more; what comes passes */
    bool changed;
    bool has_trailers;
    bool trailers_released;
    bool made;         /* its body did not come in */
    bool resume_asked; /* some stage has `resume` */
    bool has_stopped;  /* some stage has, be it that it goes on again */
    bool joined_in_use;
    bool kept;          /* one of its buffers is not as sl_buf_init left it, be it that there was no memory for the first byte */
    size_t limit;       /* ceiling of held bytes, per stage */
    const sl_str_t *in; /* of the call that runs; NULL: none does */
    size_t n_in;
    pw_out_t *out;   /* likewise: this direction is not being driven */
    sl_buf_t joined; /* what goes on, when it is more than one piece */
} pw_flow_t;

typedef struct pw_property_s {
    struct pw_property_s *next;
    size_t key_len, value_len;
    char bytes[]; /* key, value */
} pw_property_t;

struct pw_stream_s {
    pw_worker_t *worker;
    pw_chain_t *chain;
    void *host;
    size_t n;
    size_t capacity;
    pw_stream_t *next_pool;
    /* From here to the flows it is cleared for a new stream. */
    bool reset_new; /* to be told to the proxy */
    bool reply_new;
    bool fail_new;
    bool logging; /* on_log and later */
    bool logged;
    bool log_asked; /* pw_stream_log() of a sliced stream */
    bool gone;      /* nobody reads request or response any more */
    bool failed;    /* PW_FAIL was told */
    uint32_t failure;
    uint32_t retry_after; /* seconds, with a failure of 503 */
    pw_reply_t *reply;    /* the latest */
    struct pw_reply_block_s *replies;
    pw_property_t *properties;
    size_t property_bytes;
    pw_slices_t *slices; /* NULL: none of the filters is sliced */
    uint32_t n_calls;
    pw_flow_t flow[2];
    pw_position_t at[];
};

static inline bool pw_stream_halted(const pw_stream_t *s) {
    return s->reset_new | s->reply_new | s->fail_new;
}
/* Keeps a value that is read as filter_state and this name, if the filter may write that. */
pw_result_t pw_property_keep_state(pw_vm_t *vm, pw_stream_t *s, sl_str_t name, sl_str_t value);
/* The context of a position, made in the guest if it is not there. false: its VM does not work. */
bool pw_stream_context(pw_stream_t *s, size_t i);
/*
 * The same for one that has no id, where a callback for headers is to come next: that is called in the same entry if possible. args[1] and
 * args[2] are its arguments, args[0] is then its answer.
 */
typedef enum { PW_ENTERED_DEAD, PW_ENTERED_CONTEXT, PW_ENTERED_NEXT } pw_entered_t;
pw_entered_t pw_stream_context_then(pw_position_t *at, pw_cb_t next, sl_raw_t *args);
/* For host calls, which act on a stream from wherever they run: */
void pw_stream_continue(pw_stream_t *s, size_t position, pw_dir_t dir);
void pw_stream_close(pw_stream_t *s);
/* Takes over a reply that was made with pw_reply_new. */
typedef struct pw_reply_block_s {
    struct pw_reply_block_s *next;
    sl_arena_t arena;
    pw_reply_t reply;
} pw_reply_block_t;
void pw_stream_reply_set(pw_stream_t *s, pw_reply_block_t *block);
void pw_stream_wake_failed(pw_stream_t *s);
/* The body a context can see: NULL when there is none at this time. */
pw_stage_t *pw_stream_stage(pw_ctx_t *ctx, pw_dir_t dir);
/* Whether the guest may give the message a body now, where it sees none. */
bool pw_stage_may_make(const pw_ctx_t *ctx, pw_dir_t dir);
sl_status_t pw_stage_make(pw_stream_t *s, pw_dir_t dir, pw_stage_t *st, sl_str_t data);
/* Makes the visible body one buffer that may be edited. */
sl_status_t pw_stage_own(pw_stream_t *s, pw_dir_t dir, pw_stage_t *st);
static inline size_t pw_stage_len(const pw_stage_t *st) {
    return st->owned ? st->buf.len : st->view_len;
}
/* Bytes that the guest may look at: in a body callback, or held from one, or made by itself. */
static inline bool pw_stage_visible(const pw_stage_t *st) {
    return st->in_body || (st->owned && (st->made || (st->headers != PW_HEADERS_HELD_ALL && st->headers != PW_HEADERS_HELD_BUFFER)));
}
void pw_pipe_reset(pw_stream_t *s, pw_dir_t dir); /* lets go of everything that is held */

/* ---- log ---- */
/* One line with the prefix of a filter and context. ctx NULL: of the VM's start. text is a guest's: escaped and cut here. */
void pw_log_guest(pw_vm_t *vm, const pw_ctx_t *ctx, uint32_t level, sl_str_t text);
/* Our own texts about a filter; several lines become several records. */
void pw_log_filter(pw_worker_t *worker, void *host_stream, sl_str_t filter, uint32_t id, uint32_t level, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
bool pw_log_wanted(pw_worker_t *worker, void *host_stream, uint32_t level);
/* Hands text that arrived on stdout (0) or stderr (1) to the log, line by line; flush: also what has no newline yet. */
void pw_log_std(pw_vm_t *vm, int which, sl_str_t text);
void pw_log_std_flush(pw_vm_t *vm);

#endif
