/*
 * Seam 2: what a WebAssembly engine offers to the host. Implementations: engines/wasmtime.c, engines/null.c (native C
 * guests, for tests and fuzzing).
 *
 * Lifetimes: engine (process) > module (compiled code, reference-counted) > instance (one VM).
 * Threads: an engine and its modules may be used by several threads at once; an instance belongs to one thread at a time.
 * Fork: engine and modules made before a fork may be used by the children (Wasmtime compiles on the calling thread only).
 */
#ifndef SL_ENGINE_H
#define SL_ENGINE_H

#include "sl_buf.h"

typedef struct sl_engine_s sl_engine_t;
typedef struct sl_module_s sl_module_t;
typedef struct sl_instance_s sl_instance_t;
typedef struct sl_watch_s sl_watch_t; /* sl_watch.h */
typedef struct sl_func_s sl_func_t;   /* a resolved export; lives as long as its instance */

/* One argument or result. Sixteen bytes, because engines pass v128 the same way; reads and writes use the member of the type. */
typedef union {
    int32_t i32;
    uint32_t u32;
    int64_t i64;
    uint64_t u64;
    float f32;
    double f64;
    uint64_t v128[2];
} sl_raw_t;

/*
 * A function type as text: parameters, ':', result. i = i32, I = i64, f = f32, F = f64; "iiI:i", "i:", ":".
 * Several results are never used by the ABI; a type that this cannot say is printed as "?" and matches nothing.
 */
#define SL_SIG_MAX 32

/*
 * A host function. `args` holds the parameters and receives the result in args[0] (there is always room for one).
 * SL_OK: return to the guest. SL_TRAP: the guest traps; the function has set the reason with sl_instance_trap().
 */
typedef sl_status_t (*sl_host_fn_t)(sl_instance_t *instance, sl_raw_t *args);

typedef struct {
    const char *module; /* "env" */
    const char *name;   /* "proxy_log" */
    const char *sig;    /* "iii:i" */
    sl_host_fn_t fn;
} sl_import_t;

/* ---- modules ---------------------------------------------------------------------------------------------------- */

typedef enum { SL_EXTERN_FUNC = 0, SL_EXTERN_TABLE = 1, SL_EXTERN_MEMORY = 2, SL_EXTERN_GLOBAL = 3, SL_EXTERN_OTHER = 4 } sl_extern_kind_t;

typedef struct {
    sl_str_t module; /* imports only */
    sl_str_t name;
    sl_extern_kind_t kind;
    char sig[SL_SIG_MAX]; /* functions only */
    bool idle;            /* an exported callback that does nothing but answer `answer`, where it has an answer */
    int32_t answer;
} sl_extern_t;

/* A custom section. */
typedef struct {
    sl_str_t name;
    size_t size_bytes; /* without its name */
} sl_custom_t;
#define SL_CUSTOMS_MAX 256

/* What a module says about itself; borrowed from the module. */
typedef struct {
    const sl_extern_t *imports;
    size_t n_imports;
    const sl_extern_t *exports;
    size_t n_exports;
    uint8_t sha256[32]; /* of the bytes given to compile */
    size_t size_bytes;  /* of those bytes */
    size_t n_data_segments;
    const sl_custom_t *customs; /* the first SL_CUSTOMS_MAX of them */
    size_t n_customs;
    bool has_name_section;
    bool has_dwarf;
    bool has_start;       /* a start section: code that runs at instantiation */
    const char *no_image; /* why its instances cannot be brought back to an image ("it writes to tables"); NULL: they can */
} sl_module_info_t;

const sl_extern_t *sl_module_export(const sl_module_t *m, const char *name, sl_extern_kind_t kind); /* NULL: none */

/* How the pages are found that a guest has written since its instance was last brought back to an image. */
typedef enum {
    SL_DIRTY_AUTO,    /* the first of the following that works here */
    SL_DIRTY_PROTECT, /* write protection and a signal handler */
    SL_DIRTY_SCAN,    /* ioctl PAGEMAP_SCAN, Linux 6.7 and later */
    SL_DIRTY_PAGEMAP, /* /proc/self/pagemap */
    SL_DIRTY_REMAP,   /* they are not: everything is mapped again */
} sl_dirty_t;

typedef struct {
    const char *name;         /* registry name: "wasmtime" (also NULL), "null" */
    bool backtraces;          /* DWARF file:line in trap texts, where the engine can */
    uint32_t max_stack_bytes; /* of a guest call; 0: the engine's default (512 KiB) */
    sl_dirty_t dirty;         /* one that does not work here becomes REMAP */
} sl_engine_conf_t;

/* err: what is wrong with the settings, or which engines exist. */
sl_status_t sl_engine_new(const sl_engine_conf_t *conf, sl_engine_t **out, sl_err_t *err);
void sl_engine_free(sl_engine_t *engine); /* after all its modules and instances */
const char *sl_engine_name(const sl_engine_t *engine);
/* What sl_instance_call() may need of the stack that it is called on, for guest and engine. */
size_t sl_engine_stack_bytes(const sl_engine_t *engine);
/* Everything that decides whether compiled code fits: engine, version, settings, CPU features. Stable across runs. */
sl_str_t sl_engine_fingerprint(const sl_engine_t *engine);

/* How written pages are found, for a log: "write protection". */
const char *sl_engine_dirty_name(const sl_engine_t *engine);

/*
 * Compiles. `bytes` is a binary module (or, for Wasmtime, WebAssembly text when it begins with '('). Blocks for seconds on
 * large modules. SL_INVALID: no module, the text says where. The new module has one reference.
 */
sl_status_t sl_module_compile(sl_engine_t *engine, sl_str_t bytes, sl_module_t **out, sl_err_t *err);
/* As compile, by way of the cache (sl_cache.h); cache may be NULL. */
typedef struct sl_cache_s sl_cache_t;
sl_status_t sl_module_get(sl_engine_t *engine, sl_cache_t *cache, sl_str_t bytes, sl_module_t **out, sl_err_t *err);
sl_module_t *sl_module_ref(sl_module_t *m);
void sl_module_unref(sl_module_t *m);
const sl_module_info_t *sl_module_info(const sl_module_t *m);
sl_engine_t *sl_module_engine(const sl_module_t *m);

/* ---- instances -------------------------------------------------------------------------------------------------- */

/* Linear memory of several instances together; of one thread, like they. It outlives them. */
typedef struct {
    uint64_t limit; /* bytes; 0: none */
    uint64_t used, peak;
} sl_memory_t;

typedef enum { SL_REFUSED_BY_INSTANCE, SL_REFUSED_TOGETHER } sl_refused_t; /* whose limit memory would have gone over */

typedef struct {
    uint64_t max_memory_bytes; /* of linear memory; growth over it is refused inside the guest. 0: 1 GiB */
    sl_memory_t *together;     /* where it is counted, growth over that limit is refused, too; NULL: nowhere */
    /* Growth has been refused, or an instance that began over a limit. While the guest runs, or before it ever did. NULL is fine. */
    void (*refused)(sl_instance_t *instance, sl_refused_t by);
    sl_watch_t *watch; /* of the thread that will call it: ends calls over their CPU budget. NULL: calls are never ended */
} sl_instance_limits_t;

/* The engine-independent head of an instance. Only memory and user are for the layers above. */
struct sl_instance_s {
    uint8_t *mem;    /* linear memory */
    size_t mem_size; /* at least as last seen by sl_instance_refresh(): it may have grown since, and is never smaller */
    void *user;      /* the owner's; host functions find their VM here */
    const struct sl_engine_ops_s *ops;
    sl_module_t *module;
    sl_watch_t *watch;
    sl_memory_t *together;
    void (*refused)(sl_instance_t *instance, sl_refused_t by);
    uint64_t charged_ns; /* to the call in slices that runs, or was the last to run */
    /* CPU time that a call has which a host function makes in the course of a call in slices: it does not stop, so that others wait. 0:
     * any. */
    uint32_t inner_ms;
    char trap[512]; /* reason set by a host function that answers SL_TRAP */
};

/*
 * Links by (module, name) against `imports` and runs the module's start section. Each import of the module must be in the
 * list with an equal type. SL_INVALID: the text names the missing or ill-typed import ("env.no_such_function").
 * SL_TRAP: the start section trapped. SL_NO_MEMORY: also when the module's memory begins over a limit. `user` is set before
 * anything of the guest runs. The texts in `imports` must outlive the module (string constants do); the table itself need not,
 * but giving the same rows each time is what makes instances cheap.
 */
sl_status_t sl_instance_new(sl_module_t *m, const sl_import_t *imports, size_t n, const sl_instance_limits_t *limits, void *user,
                            sl_instance_t **out, sl_err_t *err);
void sl_instance_free(sl_instance_t *instance); /* never from inside one of its host functions */

/* Resolves an exported function once. SL_NOT_FOUND: no such export; SL_INVALID: another type (text says which). */
sl_status_t sl_instance_func(sl_instance_t *instance, const char *name, const char *sig, sl_func_t **out, sl_err_t *err);

/*
 * Calls the guest. `args` as for host functions: in the parameters, out the result in args[0]; at least one element.
 * SL_TRAP: err holds the reason and, below it, one line per frame of the backtrace. Host functions may call the guest again
 * (the allocator); depth is the caller's to limit. After SL_TRAP the instance may only be freed or restored.
 */
sl_status_t sl_instance_call(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, sl_err_t *err);

/*
 * Exports that the host calls one after the other, in one entry. A sequence is a function of its own, for sl_instance_call(). Members after
 * the first needed one may be missing in a module; they are left out.
 */
typedef enum {
    SL_SEQUENCE_REQUEST,  /* proxy_on_context_create(a, b); proxy_on_request_headers(a, c, d), whose answer it gives */
    SL_SEQUENCE_RESPONSE, /* likewise with proxy_on_response_headers */
    SL_SEQUENCE_END,      /* proxy_on_log(a); proxy_on_done(a); proxy_on_delete(a) */
    SL_SEQUENCE_LEAVE,    /* proxy_on_done(a); proxy_on_delete(a) */
    SL_SEQUENCES
} sl_sequence_t;
sl_func_t *sl_instance_sequence(sl_instance_t *instance, sl_sequence_t which); /* NULL: the module or the engine has none */
/* Which member runs, or trapped: its place in the list above. From host functions, and after a call of a sequence. */
uint32_t sl_instance_part(sl_instance_t *instance);
/* From host functions: the sequence ends after this member; where it has an answer, that is 0. */
void sl_instance_stop(sl_instance_t *instance);

/*
 * A call in slices: the guest runs on a stack of its own and stops about every millisecond, wherever it is. begin runs nothing of it;
 * args stay the caller's and must live until the call has ended. poll runs the next slice. SL_AGAIN: it has stopped, and only poll and
 * drop may be called on the instance; anything else is the end, as sl_instance_call says. cpu_budget_ms counts all slices together; 0: as
 * long as it likes. The guest does not stop in what a host function calls, and in a host function where that says so (sl_instance_pause).
 * One such call in an instance at a time. An instance without a watch never stops in the middle.
 */
sl_status_t sl_instance_call_begin(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, uint32_t cpu_budget_ms, sl_err_t *err);
sl_status_t sl_instance_call_poll(sl_instance_t *instance, sl_err_t *err);
/* Ends a call that has stopped: SL_TRAP, as if the guest had trapped where it is. */
sl_status_t sl_instance_call_drop(sl_instance_t *instance, sl_err_t *err);

/*
 * For host functions that take long, every now and then: a call in slices stops here if its slice is used up, with the host function on its
 * stack. So what the function holds must not go, or change, while anything else runs. SL_TRAP: the call is over its CPU budget or has been
 * dropped; the reason is set, and the function gives up what it does and answers SL_TRAP. In a call that is not in slices it is about the
 * budget alone.
 */
sl_status_t sl_instance_pause(sl_instance_t *instance);
/* What a host function has had done on other threads counts, too: against the CPU budget of the call in slices that runs. */
void sl_instance_charge(sl_instance_t *instance, uint64_t cpu_ns);

/* Lines "  <index> <type> <value>" of the mutable globals, as far as the engine can tell; also after a trap. */
void sl_instance_globals(sl_instance_t *instance, sl_buf_t *lines);

/* Brings mem and mem_size up to date after the guest ran; also from host functions. */
void sl_instance_refresh(sl_instance_t *instance);

/* ---- images -------------------------------------------------------------------------------------------------------- */

/*
 * What an instance was at one moment: linear memory and globals. Instances of the same module can be made from it, in microseconds
 * and without running start functions, and be brought back to it. References may be taken on any thread.
 */
typedef struct sl_image_s sl_image_t;

/*
 * folder: where images are files that processes share when they are the same; NULL: anonymous memory. SL_INVALID: the module's state is
 * more than an image holds (sl_module_info_t.no_image). SL_IO, SL_NO_MEMORY. Not while the guest is on the stack.
 */
sl_status_t sl_image_take(sl_instance_t *instance, const char *folder, sl_image_t **out, sl_err_t *err);
sl_image_t *sl_image_ref(sl_image_t *image);
void sl_image_unref(sl_image_t *image);
sl_str_t sl_image_memory(const sl_image_t *image);

/* As sl_instance_new, but in the state of the image. */
sl_status_t sl_instance_from_image(sl_image_t *image, const sl_import_t *imports, size_t n, const sl_instance_limits_t *limits, void *user,
                                   sl_instance_t **out, sl_err_t *err);
/*
 * The instance becomes what the image is, also after a trap; only pages that were written since the last time with the same image are
 * copied. Resolved functions stay valid. Anything but SL_OK: it cannot be done, the instance may only be freed. Not while the guest is on
 * the stack.
 */
sl_status_t sl_instance_restore(sl_instance_t *instance, sl_image_t *image);
/*
 * The same for an instance that is seldom brought back: the whole memory is mapped again, and nobody watches what is written to it
 * afterwards, so that calls cost what they cost in an instance without an image.
 */
sl_status_t sl_instance_reload(sl_instance_t *instance, sl_image_t *image);

/* For host functions: records why, returns SL_TRAP. */
sl_status_t sl_instance_trap(sl_instance_t *instance, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
