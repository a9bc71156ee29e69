/*
 * For the tests of src/proxywasm: a guest that is played by functions of the test (null engine), and a very small proxy.
 *
 * One pt_t per test. Guests are named; each exports what its mask says. When the host calls one, pt->on[callback] runs, with
 * pt->in as the instance; it may use the guest_* functions, which make host calls.
 */
#ifndef PT_H
#define PT_H

#include "cmocka_all.h"
#include "engine_null.h"
#include "pw_internal.h"

typedef struct pt_s pt_t;
typedef uint32_t (*pt_fn_t)(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2);

#define PT_ALL 0xffffffffu
enum { PT_MAX_PAIRS = 64, PT_MAX_FILTERS = 16, PT_MAX_CTX = 4096, PT_MAX_CALLS = 16 };

typedef struct {
    bool present;
    size_t n;
    pw_pair_t pairs[PT_MAX_PAIRS]; /* malloc'ed */
} pt_map_t;

typedef struct {
    bool live; /* neither answered nor cancelled */
    uint32_t token;
    pw_root_t *root;
    bool with_stream;
    char upstream[64], method[16], body[64];
    uint32_t timeout_ms;
    size_t n_headers;
} pt_call_t;

struct pt_s {
    /* the guest's side */
    pt_fn_t on[PW_CB_N];
    pt_fn_t start; /* _initialize or _start */
    pt_fn_t alloc; /* a1: size; NULL: the usual one */
    sl_instance_t *in;
    const char *trap; /* set by a callback: trap when it returns */
    bool host_trapped;
    uint32_t call5[5];           /* all arguments of the callback that runs */
    uint32_t parent[PT_MAX_CTX]; /* by context id, from on_context_create */
    void *ud;
    char trace[16384]; /* what callbacks wrote with pt_trace */

    /* the proxy's side */
    pt_map_t maps[4];
    sl_buf_t log;
    uint32_t log_level;
    uint32_t wakes[2];
    uint32_t soon; /* times that the core asked for pw_worker_run */
    uint64_t now_ns;
    uint32_t tick_ms, alarm_ms;
    uint32_t roots_gone;
    pt_call_t calls[PT_MAX_CALLS];
    size_t n_calls; /* so far; calls[] has room for those that are live */
    sl_status_t call_status;
    uint32_t cancelled;
    bool detach;

    sl_engine_t *engine;
    pw_worker_t *worker;
    sl_module_t *modules[PT_MAX_FILTERS];
    size_t n_modules;
    pw_filter_t *filters[PT_MAX_FILTERS];
    size_t n_filters;
    pw_chain_t *chain;
};

pt_t *pt_new(const pw_limits_t *limits);
void pt_free(pt_t *t); /* also chain and filters */

/* What a module exports. start: the name of its start function or NULL. */
typedef struct {
    const char *name;
    const char *marker; /* NULL: proxy_abi_version_0_2_1; "": none */
    uint32_t callbacks; /* PW_CB_BIT */
    const char *start;
    bool no_alloc;
    const sl_import_t *imports; /* NULL: everything */
    size_t n_imports;
    const sl_null_export_t *extra; /* one more export */
} pt_guest_t;
sl_module_t *pt_module(pt_t *t, const pt_guest_t *guest);

/* Adds a filter to t->filters; conf may be NULL, and then the guest "full" is used. */
sl_status_t pt_filter(pt_t *t, const pw_filter_conf_t *conf, sl_err_t *err);
void pt_filters(pt_t *t, size_t n); /* n filters "f0", "f1", ... of the guest "full", and a chain of them */
void pt_chain(pt_t *t, const pw_chain_conf_t *conf);
/* Position of the filter whose stream context this is: root contexts are numbered as they were made. */
size_t pt_index(const pt_t *t, uint32_t ctx);
void pt_trace(pt_t *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A stream of the chain whose request headers, without a body, have this verdict. */
pw_stream_t *pt_begin(pt_t *t, pw_verdict_t expected);
void pt_map(pt_t *t, pw_map_t map, const char *const *keys_and_values); /* NULL-terminated; makes it present */
const char *pt_value(const pt_t *t, pw_map_t map, const char *key);     /* NULL: none */
/* The answer of calls[i]. */
void pt_answer(pt_t *t, size_t i, const pw_call_response_t *response);
/* Modules made so far: their instances are started again after a trap, not reset. */
void pt_without_images(pt_t *t);
bool pt_logged(pt_t *t, const char *part);

/* ---- for the functions that play the guest ---- */
uint32_t guest_put(pt_t *t, const void *data, size_t len);
uint32_t guest_room(pt_t *t, size_t len);
uint32_t guest_u32(pt_t *t, uint32_t at);
/* Calls a host function of env (or "wasi:name"); the arguments are 32-bit. */
uint32_t guest_call_n(pt_t *t, const char *name, size_t n, const uint32_t *args);
#define guest_call(t, name, ...) guest_call_n(t, name, sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), (uint32_t[]){__VA_ARGS__})
/* Reads through (ptr_ptr, size_ptr) of the last call into a static buffer. */
sl_str_t guest_result(pt_t *t, uint32_t ptr_ptr, uint32_t size_ptr);
uint32_t guest_get_body(pt_t *t, uint32_t type, uint32_t start, uint32_t max, sl_str_t *out);
uint32_t guest_set_body(pt_t *t, uint32_t type, uint32_t start, uint32_t size, const char *data);
uint32_t guest_header(pt_t *t, uint32_t map, const char *key, sl_str_t *out);
uint32_t guest_edit(pt_t *t, const char *call, uint32_t map, const char *key, const char *value);
uint32_t guest_continue(pt_t *t, uint32_t type);
uint32_t guest_reply(pt_t *t, uint32_t status, const char *body);
uint32_t guest_http_call(pt_t *t, uint32_t *token);

#define assert_str(s, text)                                                                                                                \
    do {                                                                                                                                   \
        sl_str_t got_ = (s);                                                                                                               \
        assert_int_equal(got_.len, strlen(text));                                                                                          \
        assert_memory_equal(got_.data != NULL ? got_.data : "", text, strlen(text));                                                       \
    } while (0)

#endif
