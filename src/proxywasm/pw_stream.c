#include "pw_internal.h"
#include "pw_slice.h"

#include <stdlib.h>

enum { POOL_FILTERS = 16, POOL_MAX = 256 };

/* ---- life ---- */

/* What is empty between streams; ceilings are the pipe's business: some held bytes may pass them by one piece. */
static void stage_init(pw_stage_t *st) {
    *st = (pw_stage_t){.headers = PW_HEADERS_NONE};
    sl_buf_init(&st->buf, SIZE_MAX / 2);
}

static pw_stream_t *stream_make(pw_worker_t *w, size_t n) {
    size_t capacity = n <= POOL_FILTERS ? POOL_FILTERS : n;
    pw_stream_t *s = calloc(1, sizeof(*s) + capacity * sizeof(s->at[0]));
    if (s == NULL) {
        return NULL;
    }
    s->worker = w;
    s->capacity = capacity;
    for (int dir = 0; dir < 2; dir++) {
        sl_buf_init(&s->flow[dir].joined, SIZE_MAX / 2);
    }
    for (size_t i = 0; i < capacity; i++) {
        s->at[i].ctx.stream = s;
        s->at[i].ctx.position = (uint32_t)i;
        stage_init(&s->at[i].stage[0]);
        stage_init(&s->at[i].stage[1]);
    }
    return s;
}

static pw_stream_t *stream_get(pw_worker_t *w, size_t n) {
    pw_stream_t *s = w->pool;
    if (__builtin_expect(s == NULL || n > POOL_FILTERS, 0)) {
        return stream_make(w, n);
    }
    w->pool = s->next_pool;
    w->n_pool--;
    return s;
}

/* Clears the members from one to the one before another. Fixed small sizes: the compiler makes a few stores of it. */
#define CLEAR(p, first, last)                                                                                                              \
    memset((char *)(p) + offsetof(__typeof__(*(p)), first), 0, offsetof(__typeof__(*(p)), last) - offsetof(__typeof__(*(p)), first))

static inline void position_begin(pw_position_t *at, pw_filter_t *filter) {
    at->filter = filter;
    at->ctx.node.id = 0;
    at->ctx.n_calls = 0;
    CLEAR(at, skip, stage);
    CLEAR(&at->stage[0], headers, buf);
    CLEAR(&at->stage[1], headers, buf);
    at->refused = !pw_health_admit(filter, &at->probe);
    at->ctx.root = __builtin_expect(at->refused, 0) ? NULL : pw_filter_enter(filter);
}

pw_stream_t *pw_stream_new(pw_worker_t *worker, pw_chain_t *chain, void *host_stream) {
    pw_stream_t *s = stream_get(worker, chain->n);
    if (s == NULL) {
        return NULL;
    }
    CLEAR(s, reset_new, flow);
    if (__builtin_expect(chain->sliced, 0)) {
        s->slices = pw_slices_new();
        if (s->slices == NULL) {
            free(s);
            return NULL;
        }
    }
    chain->refs++;
    s->chain = chain;
    s->host = host_stream;
    s->n = chain->n;
    for (int dir = 0; dir < 2; dir++) {
        CLEAR(&s->flow[dir], seen, limit);
        s->flow[dir].limit = chain->body_bytes[dir];
    }
    for (size_t i = 0; i < s->n; i++) {
        position_begin(&s->at[i], chain->filters[i]);
    }
    worker->stats.streams++;
    pw_worker_settle(worker);
    return s;
}

/* Its VM has trapped before it knew anything of this stream: nothing is lost. */
static void enter_again(pw_position_t *at) {
    pw_root_t *old = at->ctx.root;
    if (old->pool == NULL) {
        at->ctx.root = pw_filter_enter(at->filter);
        pw_root_unref(old);
    }
}

typedef enum { CONTEXT_DEAD, CONTEXT_NEW, CONTEXT_KNOWN } context_t;

/* NEW: it has an id now, and the guest has still to be told. Of one that had none. */
static inline context_t context_announce(pw_position_t *at) {
    pw_root_t *root = at->ctx.root;
    if (root != NULL && __builtin_expect(root->vm->failed, 0)) {
        enter_again(at);
        root = at->ctx.root;
    }
    if (__builtin_expect(root == NULL || root->vm->failed || at->left, 0)) {
        return CONTEXT_DEAD;
    }
    if (__builtin_expect(pw_vm_announce(root->vm, &at->ctx) != SL_OK, 0)) {
        return CONTEXT_DEAD;
    }
    at->known = true;
    return pw_vm_has(root->vm, PW_CB_CONTEXT_CREATE) ? CONTEXT_NEW : CONTEXT_KNOWN;
}

static context_t context_find(pw_position_t *at) {
    if (at->ctx.node.id == 0) {
        return context_announce(at);
    }
    return at->ctx.root->vm->failed ? CONTEXT_DEAD : CONTEXT_KNOWN;
}

static bool context_create(pw_position_t *at) {
    const pw_root_t *root = at->ctx.root;
    sl_raw_t args[2] = {{.u32 = at->ctx.node.id}, {.u32 = root->ctx.node.id}};
    return pw_vm_call(root->vm, &at->ctx, PW_CB_CONTEXT_CREATE, args, NULL) == SL_OK;
}

bool pw_stream_context(pw_stream_t *s, size_t i) {
    pw_position_t *at = &s->at[i];
    context_t found = context_find(at);
    return found == CONTEXT_NEW ? context_create(at) : found == CONTEXT_KNOWN;
}

pw_entered_t pw_stream_context_then(pw_position_t *at, pw_cb_t next, sl_raw_t *args) {
    context_t found = context_announce(at);
    args[0].u32 = 0;
    if (__builtin_expect(found != CONTEXT_NEW, 0)) {
        return found == CONTEXT_KNOWN ? PW_ENTERED_CONTEXT : PW_ENTERED_DEAD;
    }
    pw_vm_t *vm = at->ctx.root->vm;
    pw_sequence_t seq;
    if (next == PW_CB_RESPONSE_HEADERS) {
        seq.which = SL_SEQUENCE_RESPONSE;
        seq.running = &at->stage[PW_DIR_RESPONSE].running;
    } else {
        seq.which = SL_SEQUENCE_REQUEST;
        seq.running = &at->stage[PW_DIR_REQUEST].running;
    }
    bool headers = next == PW_CB_RESPONSE_HEADERS || next == PW_CB_REQUEST_HEADERS;
    if (__builtin_expect(!headers || !pw_vm_has_sequence(vm, seq.which), 0)) {
        return context_create(at) ? PW_ENTERED_CONTEXT : PW_ENTERED_DEAD;
    }
    sl_raw_t all[4];
    all[0].u32 = at->ctx.node.id;
    all[1].u32 = at->ctx.root->ctx.node.id;
    all[2].u32 = args[1].u32;
    all[3].u32 = args[2].u32;
    if (__builtin_expect(pw_vm_call_sequence(vm, &at->ctx, &seq, all) != SL_OK, 0)) {
        return PW_ENTERED_DEAD;
    }
    args[0].u32 = all[0].u32;
    return seq.stopped ? PW_ENTERED_CONTEXT : PW_ENTERED_NEXT;
}

/* ---- the end ---- */

static void end_call(pw_position_t *at, pw_cb_t cb) {
    pw_root_t *root = at->ctx.root;
    if (root == NULL || root->vm->failed || !pw_vm_has(root->vm, cb)) {
        return;
    }
    sl_raw_t args[1];
    args[0].u32 = at->ctx.node.id;
    pw_vm_call(root->vm, &at->ctx, cb, args, NULL);
}

/* A filter that would like to log gets a context for that, even if it has seen nothing of the stream. */
static bool end_context(pw_stream_t *s, size_t i) {
    pw_position_t *at = &s->at[i];
    return at->ctx.node.id != 0 || (!at->bypassed && at->filter->of_streams && pw_stream_context(s, i));
}

static bool is_envoy(const pw_position_t *at) {
    return at->filter->conf.opts.dialect == SL_DIALECT_ENVOY;
}

/* The guest knows nothing of it any more. */
static void context_forget(pw_position_t *at) {
    pw_id_map_remove(&at->ctx.root->vm->contexts, &at->ctx.node);
    at->ctx.node.id = 0;
    at->left = at->skip[PW_DIR_REQUEST] = at->skip[PW_DIR_RESPONSE] = true;
}

/* The last callbacks in one entry, if nothing can come for the context before on_delete. Gives the one that came last; PW_CB_N: none. */
static pw_cb_t end_sequence(pw_position_t *at, sl_sequence_t which) {
    pw_root_t *root = at->ctx.root;
    if (root == NULL || root->vm->failed || at->ctx.n_calls != 0 || !pw_vm_has_sequence(root->vm, which)) {
        return PW_CB_N;
    }
    pw_sequence_t seq = {.which = which};
    sl_raw_t args[1] = {{.u32 = at->ctx.node.id}};
    if (pw_vm_call_sequence(root->vm, &at->ctx, &seq, args) == SL_OK && seq.last == PW_CB_DELETE) {
        context_forget(at);
    }
    return seq.last;
}

/* Whether there is nothing for it to hear of the end but on_delete. */
static inline bool says_nothing(const pw_position_t *at) {
    return at->ctx.node.id != 0 && (at->filter->callbacks & (PW_CB_BIT(PW_CB_LOG) | PW_CB_BIT(PW_CB_DONE))) == 0;
}

static void leave(pw_position_t *at) {
    if (end_sequence(at, SL_SEQUENCE_LEAVE) == PW_CB_N) {
        end_call(at, PW_CB_DONE);
    }
}

static void log_one(pw_stream_t *s, size_t i) {
    pw_position_t *at = &s->at[i];
    if (!end_context(s, i)) {
        return;
    }
    pw_cb_t last = end_sequence(at, SL_SEQUENCE_END);
    if (last == PW_CB_N) {
        end_call(at, PW_CB_LOG);
        last = PW_CB_LOG;
    }
    if (last == PW_CB_LOG) {
        leave(at);
    }
}

/* Of Envoy's kind, and with more to hear of the end than on_delete. */
static inline bool speaks(const pw_position_t *at) {
    return is_envoy(at) && !says_nothing(at);
}

/* Whether no filter from this one on is told to log; one that has no context yet would get one for that. */
static bool nobody_logs(const pw_stream_t *s, size_t from) {
    for (size_t i = from; i < s->n; i++) {
        const pw_position_t *at = &s->at[i];
        if (speaks(at) && (at->ctx.node.id == 0 || (at->filter->callbacks & PW_CB_BIT(PW_CB_LOG)) != 0)) {
            return false;
        }
    }
    return true;
}

static void leave_all(pw_stream_t *s, size_t from) {
    for (size_t i = from; i < s->n; i++) {
        if (speaks(&s->at[i]) && end_context(s, i)) {
            leave(&s->at[i]);
        }
    }
}

/* All are told to log before the first is told that it is done. So the first may be told both at once where no other logs. */
static void log_envoy(pw_stream_t *s) {
    size_t first = 0;
    while (first < s->n && !speaks(&s->at[first])) {
        first++;
    }
    if (first == s->n) {
        return;
    }
    if (nobody_logs(s, first + 1)) {
        log_one(s, first);
        leave_all(s, first + 1);
        return;
    }
    for (size_t i = first; i < s->n; i++) {
        if (speaks(&s->at[i]) && end_context(s, i)) {
            end_call(&s->at[i], PW_CB_LOG);
        }
    }
    leave_all(s, first);
}

/* Envoy logs all filters and then lets them go; WasmX ends one after the other and logs after the end. */
static void log_wasmx(pw_stream_t *s) {
    for (size_t i = 0; i < s->n; i++) {
        if (s->at[i].filter->conf.opts.dialect == SL_DIALECT_WASMX && end_context(s, i)) {
            end_call(&s->at[i], PW_CB_DONE);
            end_call(&s->at[i], PW_CB_LOG);
        }
    }
}

void pw_stream_log(pw_stream_t *s) {
    if (s->slices != NULL) {
        pw_slices_log(s);
        return;
    }
    pw_stream_log_now(s);
}

/* Whether all that their filters would hear now is on_delete, and that they have a context for it. */
static inline bool nothing_to_say(const pw_stream_t *s) {
    if (s->chain->last_words) {
        return false;
    }
    for (size_t i = 0; i < s->n; i++) {
        if (s->at[i].ctx.node.id == 0 && s->at[i].filter->of_streams) {
            return false;
        }
    }
    return true;
}

void pw_stream_log_now(pw_stream_t *s) {
    if (s->logged) {
        return;
    }
    s->logged = true;
    s->logging = true;
    if (nothing_to_say(s)) {
        return;
    }
    log_envoy(s);
    if (s->chain->wasmx) {
        log_wasmx(s);
    }
    pw_worker_settle(s->worker);
}

/* Calls that were made for the stream: the proxy lets them go on, or they have failed. */
static void release_calls(pw_stream_t *s, pw_position_t *at) {
    pw_worker_t *w = s->worker;
    pw_root_t *root = at->ctx.root;
    for (pw_call_t *call = root->calls, *next; call != NULL && at->ctx.n_calls != 0; call = next) {
        next = call->next;
        if (call->ctx != &at->ctx) {
            continue;
        }
        call->ctx = NULL;
        at->ctx.n_calls--;
        if (call->kind == PW_CALL_RESOLVE) { /* its answer is for this stream alone */
            if (!call->over) {
                w->ops->resolve_cancel(w->host, call->handle);
            }
            w->stats.calls_dropped++;
            s->n_calls--;
            pw_call_free(call);
            continue;
        }
        if (root->filter->conf.opts.dialect == SL_DIALECT_WASMX) { /* its calls end with their stream, and nobody hears of them */
            if (!call->over) {
                w->ops->http_call_cancel(w->host, call->handle);
            }
            w->stats.calls_dropped++;
            s->n_calls--;
            pw_call_free(call);
            continue;
        }
        if (call->over) {
            continue; /* its answer waits for the instance */
        }
        if (w->ops->http_call_detach != NULL && w->ops->http_call_detach(w->host, call->handle) == SL_OK) {
            continue;
        }
        w->ops->http_call_cancel(w->host, call->handle);
        call->cancelled = call->over = true;
    }
}

/* Tells the root about calls that were cancelled above: its SDK waits for their tokens. */
static void fail_released_calls(pw_root_t *root) {
    pw_call_t *call = root->calls;
    while (call != NULL) {
        pw_call_t *next = call->next;
        if (call->cancelled) {
            call->cancelled = false;
            pw_http_call_done(root, call->node.id, &(pw_call_response_t){.failed = true, .failure = "the stream has ended"});
            next = root->calls; /* the callback may have changed the list */
        }
        call = next;
    }
}

/* Calls, and instances for one request: what most streams do not have. */
static __attribute__((noinline)) void position_release(pw_stream_t *s, pw_position_t *at) {
    pw_root_t *root = at->ctx.root;
    for (int dir = 0; dir < 2; dir++) {
        sl_buf_deinit(&at->stage[dir].buf);
    }
    if (root == NULL) {
        return;
    }
    if (at->ctx.n_calls != 0) {
        release_calls(s, at);
        fail_released_calls(root);
    }
    if (root->pool != NULL) {
        pw_root_cancel_grpc_streams(root);
    }
    pw_root_unref(root);
}

static inline void position_free(pw_stream_t *s, pw_position_t *at, bool kept) {
    if (at->ctx.node.id != 0) {
        end_call(at, PW_CB_DELETE);
    }
    pw_root_t *root = at->ctx.root;
    if (__builtin_expect(at->probe, 0)) {
        pw_health_probed(at->filter, at->known && root != NULL && !root->vm->failed);
    }
    if (at->ctx.node.id != 0) {
        pw_id_map_remove(&root->vm->contexts, &at->ctx.node);
    }
    if (__builtin_expect(kept || at->ctx.n_calls != 0 || root == NULL || root->pool != NULL || root->refs == 1, 0)) {
        position_release(s, at);
        return;
    }
    root->refs--;
}

static void properties_free(pw_stream_t *s) {
    for (pw_property_t *p = s->properties, *next; p != NULL; p = next) {
        next = p->next;
        free(p);
    }
}

static void replies_free(pw_stream_t *s) {
    for (pw_reply_block_t *r = s->replies, *next; r != NULL; r = next) {
        next = r->next;
        sl_arena_deinit(&r->arena);
        free(r);
    }
}

void pw_stream_free(pw_stream_t *s) {
    if (s == NULL) {
        return;
    }
    if (s->slices != NULL) {
        pw_slices_end(s);
        return;
    }
    pw_stream_free_now(s);
}

void pw_stream_release_calls(pw_stream_t *s) {
    for (size_t i = 0; i < s->n; i++) {
        if (s->at[i].ctx.n_calls != 0) {
            release_calls(s, &s->at[i]);
            fail_released_calls(s->at[i].ctx.root);
        }
    }
}

static __attribute__((noinline)) void rest_free(pw_stream_t *s) {
    sl_buf_deinit(&s->flow[0].joined);
    sl_buf_deinit(&s->flow[1].joined);
    properties_free(s);
    replies_free(s);
    pw_slices_free(s->slices);
}

static inline bool has_rest(const pw_stream_t *s) {
    return s->properties != NULL || s->replies != NULL || s->slices != NULL;
}

void pw_stream_free_now(pw_stream_t *s) {
    pw_worker_t *w = s->worker;
    if (!s->logged) {
        pw_stream_log_now(s);
    }
    s->gone = true;
    bool kept = s->flow[0].kept || s->flow[1].kept;
    for (pw_position_t *at = s->at, *end = at + s->n; at != end; at++) {
        position_free(s, at, kept);
    }
    if (__builtin_expect(kept || has_rest(s), 0)) {
        rest_free(s);
    }
    pw_chain_t *chain = s->chain;
    if (s->capacity == POOL_FILTERS && w->n_pool < POOL_MAX) {
        s->next_pool = w->pool;
        w->pool = s;
        w->n_pool++;
    } else {
        free(s);
    }
    if (--chain->refs == 0) {
        pw_chain_free(chain);
    }
    pw_worker_settle(w);
    pw_worker_trim(w);
}

/* ---- what host calls record ---- */

static void wake(pw_stream_t *s, pw_dir_t dir) {
    if (s->flow[dir].out == NULL && !s->gone) { /* else the call that drives this direction carries it out */
        s->worker->ops->wake(s->host, dir);
    }
}

void pw_stream_continue(pw_stream_t *s, size_t position, pw_dir_t dir) {
    pw_stage_t *st = &s->at[position].stage[dir];
    bool held = st->headers == PW_HEADERS_HELD_ITER || st->headers == PW_HEADERS_HELD_ALL || st->headers == PW_HEADERS_HELD_BUFFER ||
                st->body != 0 || st->trailers == PW_TRAILERS_HELD;
    if (s->logging || s->log_asked || s->flow[dir].over || (!held && !st->running)) {
        return;
    }
    st->resume = true;
    s->flow[dir].resume_asked = true;
    wake(s, dir);
}

void pw_stream_close(pw_stream_t *s) {
    if (s->logging || s->log_asked || s->reset_new) {
        return;
    }
    s->reset_new = true;
    if (s->flow[PW_DIR_REQUEST].out == NULL && s->flow[PW_DIR_RESPONSE].out == NULL) {
        wake(s, s->flow[PW_DIR_RESPONSE].seen ? PW_DIR_RESPONSE : PW_DIR_REQUEST);
    }
}

void pw_stream_reply_set(pw_stream_t *s, pw_reply_block_t *block) {
    block->next = s->replies;
    s->replies = block;
    const pw_flow_t *response = &s->flow[PW_DIR_RESPONSE];
    if (response->released) {
        pw_stream_close(s); /* too late for an answer */
        return;
    }
    block->reply.dir = response->seen ? PW_DIR_RESPONSE : PW_DIR_REQUEST;
    s->reply = &block->reply;
    s->reply_new = true;
    wake(s, block->reply.dir);
}

/* A VM of this stream has trapped. What waits would wait for ever. */
void pw_stream_wake_failed(pw_stream_t *s) {
    if (s->logging || s->log_asked) {
        return;
    }
    for (int dir = 0; dir < 2; dir++) {
        if (pw_stream_paused(s, (pw_dir_t)dir)) {
            wake(s, (pw_dir_t)dir);
        }
    }
}

const pw_reply_t *pw_stream_reply(const pw_stream_t *s) {
    return s->reply;
}

uint32_t pw_stream_failure(const pw_stream_t *s) {
    return s->failure;
}

uint32_t pw_stream_retry_after(const pw_stream_t *s) {
    return s->retry_after;
}

pw_stage_t *pw_stream_stage(pw_ctx_t *ctx, pw_dir_t dir) {
    return ctx->stream != NULL ? &ctx->stream->at[ctx->position].stage[dir] : NULL;
}

/* ---- timings ---- */

void pw_worker_time_filters(pw_worker_t *worker, bool on) {
    worker->timed = on;
}

size_t pw_stream_n_filters(const pw_stream_t *s) {
    return s->n;
}

void pw_stream_timing(const pw_stream_t *s, size_t i, pw_timing_t *out) {
    const pw_position_t *at = &s->at[i];
    *out = (pw_timing_t){.filter = pw_filter_name(at->filter), .n_callbacks = at->n_callbacks, .spent_ns = at->spent_ns};
}
