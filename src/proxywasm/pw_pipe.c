/*
 * The state machine of a direction: headers, body and trailers go from stage to stage (a stage is a filter in this direction), and each
 * stage may hold what comes, change it, or drop it.
 *
 *   input --> stage 0 --> stage 1 --> ... --> out        position in the chain: the same, or counted from the end (reverse_response)
 *
 * Bytes that nobody holds or changes are never copied: a chunk is a view of the input or of the buffer of the stage that changed it last.
 * run_headers, run_body and run_trailers push one thing through the stages from k on; each stops where it is held. A stage that
 * resumes pushes what it holds on from k + 1. Stages further on that were told to resume do so before a chunk is pushed over them, so
 * that the order of bytes is kept; stages further back do so at the end of the event.
 */
#include "pw_internal.h"
#include "pw_slice.h"

typedef struct {
    const sl_str_t *segs;
    size_t n;
    size_t len;
} pw_chunk_t;

static const pw_cb_t headers_cb[2] = {PW_CB_REQUEST_HEADERS, PW_CB_RESPONSE_HEADERS};
static const pw_cb_t body_cb[2] = {PW_CB_REQUEST_BODY, PW_CB_RESPONSE_BODY};
static const pw_cb_t trailers_cb[2] = {PW_CB_REQUEST_TRAILERS, PW_CB_RESPONSE_TRAILERS};
static const pw_map_t headers_map[2] = {PW_MAP_REQUEST_HEADERS, PW_MAP_RESPONSE_HEADERS};
static const pw_map_t trailers_map[2] = {PW_MAP_REQUEST_TRAILERS, PW_MAP_RESPONSE_TRAILERS};

static void ask_resume(pw_stream_t *s, pw_dir_t dir, pw_stage_t *st);
static void run_headers(pw_stream_t *s, pw_dir_t dir, size_t k, bool eos);
static void run_body(pw_stream_t *s, pw_dir_t dir, size_t k, pw_chunk_t c, bool eos);
static void run_trailers(pw_stream_t *s, pw_dir_t dir, size_t k);

/* Where stage k of a direction stands in the chain. */
static inline size_t position(const pw_stream_t *s, pw_dir_t dir, size_t k) {
    return __builtin_expect(s->chain->reversed[dir], 0) ? s->n - 1 - k : k;
}

static pw_stage_t *stage(pw_stream_t *s, pw_dir_t dir, size_t k) {
    return &s->at[position(s, dir, k)].stage[dir];
}

static bool headers_held(const pw_stage_t *st) {
    return st->headers == PW_HEADERS_HELD_ITER || st->headers == PW_HEADERS_HELD_ALL || st->headers == PW_HEADERS_HELD_BUFFER;
}

static bool held_all(const pw_stage_t *st) {
    return st->headers == PW_HEADERS_HELD_ALL || st->headers == PW_HEADERS_HELD_BUFFER;
}

static bool stopped(const pw_stage_t *st) {
    return headers_held(st) || st->body != 0 || st->trailers == PW_TRAILERS_WAIT || st->trailers == PW_TRAILERS_HELD;
}

static bool some_stopped(const pw_stream_t *s, pw_dir_t dir) {
    for (size_t i = 0; i < s->n; i++) {
        if (stopped(&s->at[i].stage[dir])) {
            return true;
        }
    }
    return false;
}

/* Most directions are never stopped. Whoever makes stopped() true for a stage sets has_stopped. */
static inline bool held(const pw_stream_t *s, pw_dir_t dir) {
    const pw_flow_t *f = &s->flow[dir];
    return __builtin_expect(f->has_stopped && !f->over, 0) && some_stopped(s, dir);
}

static void fail(pw_stream_t *s, uint32_t status) {
    s->failure = status;
    s->fail_new = true;
}

/* ---- calling a stage ---- */

typedef enum { CALLED, SKIPPED, HALTED } pw_called_t;

/* WasmX lets responses go on, unless somebody says otherwise. */
static sl_fail_t policy(const pw_position_t *at, pw_dir_t dir) {
    const sl_filter_opts_t *opts = &at->filter->conf.opts;
    bool wasmx = opts->dialect == SL_DIALECT_WASMX && dir == PW_DIR_RESPONSE && (opts->set & SL_FOPT_BIT(FAIL)) == 0;
    return wasmx ? SL_FAIL_OPEN : (sl_fail_t)opts->fail;
}

/* As if it were not there, in both directions and to the end; what it holds goes on. */
static void bypass(pw_stream_t *s, pw_position_t *at) {
    if (at->bypassed) {
        return;
    }
    at->bypassed = at->skip[PW_DIR_REQUEST] = at->skip[PW_DIR_RESPONSE] = true;
    pw_number_add(at->filter->numbers, PW_N_BYPASSED, 1);
    for (int dir = 0; dir < 2; dir++) {
        if (!s->flow[dir].over && stopped(&at->stage[dir])) {
            ask_resume(s, (pw_dir_t)dir, &at->stage[dir]);
            if (s->flow[dir].out == NULL) {
                s->worker->ops->wake(s->host, (pw_dir_t)dir);
            }
        }
    }
}

static void fail_closed(pw_stream_t *s, pw_position_t *at) {
    if (at->refused) {
        s->retry_after = pw_health_retry_after(at->filter);
    }
    pw_number_add(at->filter->numbers, at->refused ? PW_N_REFUSED : PW_N_FAILED, 1);
    fail(s, at->refused ? 503 : 500);
}

/* The VM does not work, or may not be entered. A stream fails once; after that the filter counts as absent. */
static pw_called_t stage_failed(pw_stream_t *s, pw_dir_t dir, size_t k) {
    pw_position_t *at = &s->at[position(s, dir, k)];
    sl_fail_t how = policy(at, dir);
    at->skip[dir] = true;
    if (s->failed) {
        return SKIPPED;
    }
    if (how == SL_FAIL_CLOSED) {
        fail_closed(s, at);
        return HALTED;
    }
    for (size_t n = how == SL_FAIL_OPEN ? k + 1 : s->n; k < n; k++) {
        bypass(s, &s->at[position(s, dir, k)]);
    }
    return SKIPPED;
}

static inline bool has_callback(const pw_position_t *at, pw_dir_t dir, pw_cb_t cb) {
    return !at->skip[dir] && (at->filter->callbacks & PW_CB_BIT(cb)) != 0;
}

/* Stage k, of a filter that has the callback. args[1] and args[2] are its arguments; args[0] is what it answered, 0 if it could not. */
static inline pw_called_t stage_enter(pw_stream_t *s, pw_position_t *at, pw_dir_t dir, size_t k, pw_cb_t cb, sl_raw_t *args) {
    pw_stage_t *st = &at->stage[dir];
    if (at->ctx.node.id == 0) {
        pw_entered_t entered = pw_stream_context_then(at, cb, args);
        if (__builtin_expect(entered == PW_ENTERED_DEAD, 0)) {
            return stage_failed(s, dir, k);
        }
        if (entered == PW_ENTERED_NEXT || pw_stream_halted(s)) {
            return __builtin_expect(pw_stream_halted(s), 0) ? HALTED : CALLED;
        }
    }
    args[0].u32 = at->ctx.node.id;
    st->running = true;
    sl_status_t rc = pw_vm_call(at->ctx.root->vm, &at->ctx, cb, args, NULL);
    st->running = false;
    if (__builtin_expect(rc != SL_OK, 0)) {
        args[0].u32 = 0;
        return stage_failed(s, dir, k);
    }
    return __builtin_expect(pw_stream_halted(s), 0) ? HALTED : CALLED;
}

static pw_called_t stage_call(pw_stream_t *s, pw_dir_t dir, size_t k, pw_cb_t cb, uint32_t a1, bool a2, uint32_t *action) {
    pw_position_t *at = &s->at[position(s, dir, k)];
    *action = 0;
    if (!has_callback(at, dir, cb)) {
        return SKIPPED;
    }
    sl_raw_t args[3];
    args[1].u32 = a1;
    args[2].u32 = a2;
    pw_called_t called = stage_enter(s, at, dir, k, cb, args);
    *action = args[0].u32;
    return called;
}

static bool count_pair(void *ud, sl_str_t key, sl_str_t value) {
    (void)key;
    (void)value;
    ++*(size_t *)ud;
    return true;
}

static bool count_plain(void *ud, sl_str_t key, sl_str_t value) {
    (void)value;
    *(size_t *)ud += key.len == 0 || key.data[0] != ':';
    return true;
}

/* WasmX leaves pseudo headers out of the count. */
static __attribute__((noinline)) uint32_t map_count_slowly(const pw_stream_t *s, pw_map_t map, sl_dialect_t dialect) {
    const pw_host_ops_t *ops = s->worker->ops;
    size_t n = 0;
    sl_dialect_t around = s->worker->dialect;
    if (s->gone) {
        return 0;
    }
    s->worker->dialect = dialect;
    if (dialect == SL_DIALECT_WASMX) {
        ops->map_each(s->host, map, count_plain, &n);
    } else if (ops->map_count != NULL) {
        n = ops->map_count(s->host, map);
    } else {
        ops->map_each(s->host, map, count_pair, &n);
    }
    s->worker->dialect = around;
    return (uint32_t)n;
}

static inline uint32_t map_count(const pw_stream_t *s, pw_map_t map, sl_dialect_t dialect) {
    const pw_worker_t *w = s->worker;
    if (__builtin_expect(dialect != SL_DIALECT_ENVOY || w->dialect != SL_DIALECT_ENVOY || w->ops->map_count == NULL || s->gone, 0)) {
        return map_count_slowly(s, map, dialect);
    }
    return (uint32_t)w->ops->map_count(s->host, map);
}

/* ---- what has left the last stage ---- */

/* Copies what goes on so far into a buffer of its own, where more can follow. */
static bool join(pw_stream_t *s, pw_flow_t *f) {
    if (f->joined_in_use) {
        return true;
    }
    sl_buf_reset(&f->joined);
    f->joined_in_use = f->kept = true;
    if (f->out->input) {
        for (size_t i = 0; i < f->n_in; i++) {
            sl_buf_append_str(&f->joined, f->in[i]);
        }
        f->out->input = false;
    } else {
        sl_buf_append_str(&f->joined, f->out->data);
    }
    f->out->data = sl_buf_str(&f->joined);
    if (f->joined.failed) {
        fail(s, 500);
    }
    return !f->joined.failed;
}

static void emit(pw_stream_t *s, pw_flow_t *f, pw_chunk_t c, bool eos) {
    pw_out_t *out = f->out;
    bool first = !out->input && out->data.len == 0;
    if (eos) {
        out->eos = true;
        f->out_eos = true;
    }
    if (first && f->in != NULL && c.segs == f->in) {
        out->input = true;
        return;
    }
    if (c.len == 0) {
        return;
    }
    if (first && c.n == 1) {
        out->data = c.segs[0];
        return;
    }
    if (!join(s, f)) {
        return;
    }
    for (size_t i = 0; i < c.n; i++) {
        sl_buf_append_str(&f->joined, c.segs[i]);
    }
    out->data = sl_buf_str(&f->joined);
    if (f->joined.failed) {
        fail(s, 500);
    }
}

/* ---- held bytes ---- */

/* Makes the stage's buffer ready to be filled again. */
static void reuse(pw_stream_t *s, pw_flow_t *f, pw_stage_t *st) {
    if (!st->sent) {
        return;
    }
    if (f->out != NULL && f->out->data.len != 0 && f->out->data.data == st->buf.data) {
        join(s, f); /* these very bytes are about to go on */
    }
    st->sent = false;
    sl_buf_reset(&st->buf);
}

static bool keep(pw_stream_t *s, pw_flow_t *f, pw_stage_t *st, const sl_str_t *segs, size_t n) {
    reuse(s, f, st);
    f->kept = true;
    for (size_t i = 0; i < n; i++) {
        sl_buf_append_str(&st->buf, segs[i]);
    }
    st->owned = true;
    if (st->buf.failed) {
        fail(s, 500);
    }
    return !st->buf.failed;
}

/* A watermark is soft: the piece that crosses it is still taken, then reading stops. */
static bool over_limit(const pw_flow_t *f, const pw_stage_t *st, size_t more, bool soft) {
    size_t have = st->owned ? st->buf.len : 0;
    if (st->unlimited || more == 0 || (soft && have < f->limit)) {
        return false;
    }
    return have > f->limit || more > f->limit - have;
}

/* WasmX's way with response bodies: after a Pause they are collected, and shown once more at the end or when the buffers are full. */
static bool collects(const pw_stream_t *s, pw_dir_t dir, size_t k) {
    return dir == PW_DIR_RESPONSE && s->at[position(s, dir, k)].filter->conf.opts.dialect == SL_DIALECT_WASMX;
}

/* Over the ceiling: the stage lets everything pass from now on, or the stream fails. false: it has failed. */
static bool overflow(pw_stream_t *s, pw_dir_t dir, size_t k) {
    pw_stage_t *st = stage(s, dir, k);
    if (s->chain->conf.pass_over_limit || collects(s, dir, k)) {
        st->unlimited = true;
        return true;
    }
    fail(s, dir == PW_DIR_REQUEST ? 413 : 502);
    return false;
}

static pw_chunk_t owned_chunk(pw_stage_t *st) {
    st->flat = sl_buf_str(&st->buf);
    st->owned = false;
    st->sent = true;
    return (pw_chunk_t){&st->flat, 1, st->flat.len};
}

sl_status_t pw_stage_own(pw_stream_t *s, pw_dir_t dir, pw_stage_t *st) {
    if (!st->owned && !keep(s, &s->flow[dir], st, st->view, st->n_view)) {
        return SL_NO_MEMORY;
    }
    s->flow[dir].changed = true;
    return SL_OK;
}

/* ---- bodies for messages that came without one ---- */

/* While the headers are at this filter. WasmX's may put one in the place of a request's body, too, before that has been read. */
bool pw_stage_may_make(const pw_ctx_t *ctx, pw_dir_t dir) {
    const pw_stream_t *s = ctx->stream;
    const pw_stage_t *st = &s->at[ctx->position].stage[dir];
    bool here = st->headers == PW_HEADERS_NONE ? st->running : held_all(st);
    bool instead = st->headers_eos || (dir == PW_DIR_REQUEST && pw_ctx_dialect(ctx) == SL_DIALECT_WASMX && !st->owned);
    return here && instead && !s->flow[dir].over && s->worker->ops->may_make_body != NULL && s->worker->ops->may_make_body(s->host, dir);
}

sl_status_t pw_stage_make(pw_stream_t *s, pw_dir_t dir, pw_stage_t *st, sl_str_t data) {
    pw_flow_t *f = &s->flow[dir];
    if (!keep(s, f, st, &data, 1)) {
        return SL_NO_MEMORY;
    }
    st->made = true;
    f->made = f->changed = true;
    f->input_eos = true; /* what still comes in is not the body any more */
    return SL_OK;
}

/* The first stage that is shown the made body. Envoy's filters do not see their own; all of WasmX's do, those before it as well. */
static size_t made_shown_from(const pw_stream_t *s, pw_dir_t dir, size_t k) {
    size_t from = k + 1;
    while (from > 0 && s->at[position(s, dir, from - 1)].filter->conf.opts.dialect == SL_DIALECT_WASMX) {
        from--;
    }
    return from;
}

/* The headers leave stage k, and the body that it has made follows them. */
static void give_made(pw_stream_t *s, pw_dir_t dir, size_t k) {
    pw_stage_t *st = stage(s, dir, k);
    size_t from = made_shown_from(s, dir, k);
    st->made = false;
    run_headers(s, dir, k + 1, false);
    if (pw_stream_halted(s)) {
        return;
    }
    if (from > k) {
        run_body(s, dir, k + 1, owned_chunk(st), true);
        return;
    }
    pw_stage_t *first = stage(s, dir, from);
    sl_buf_t body = st->buf;
    st->buf = first->buf;
    first->buf = body;
    st->owned = false;
    first->owned = true;
    run_body(s, dir, from, (pw_chunk_t){NULL, 0, 0}, true);
}

/* ---- resuming ---- */

/* Headers that are held while the body goes on go before anything else does. */
static bool release_headers(pw_stream_t *s, pw_dir_t dir, size_t k) {
    pw_stage_t *st = stage(s, dir, k);
    if (st->headers == PW_HEADERS_HELD_ITER) {
        st->headers = PW_HEADERS_PASSED;
        run_headers(s, dir, k + 1, false);
    }
    return !pw_stream_halted(s);
}

/* Pushes what the guest has seen and held. */
static bool release(pw_stream_t *s, pw_dir_t dir, size_t k) {
    pw_stage_t *st = stage(s, dir, k);
    if (!release_headers(s, dir, k)) {
        return false;
    }
    bool eos = st->eos;
    st->body = 0;
    st->eos = false;
    if (st->owned || eos) {
        pw_chunk_t c = st->owned ? owned_chunk(st) : (pw_chunk_t){NULL, 0, 0};
        bool more = eos && st->made_trailers;
        run_body(s, dir, k + 1, c, eos && !more);
        if (more && !pw_stream_halted(s)) {
            run_trailers(s, dir, k + 1);
        }
    }
    return !pw_stream_halted(s);
}

/* A body that is being gathered has not been shown: nothing but its end lets it go. */
static bool gathering(const pw_stream_t *s, pw_dir_t dir, size_t k) {
    const pw_position_t *at = &s->at[position(s, dir, k)];
    return at->stage[dir].gather == PW_GATHER_HELD && has_callback(at, dir, body_cb[dir]);
}

static void show_gathered(pw_stream_t *s, pw_dir_t dir, size_t k) {
    pw_stage_t *st = stage(s, dir, k);
    st->gather = PW_GATHER_DONE;
    st->body = 0;
    run_body(s, dir, k, (pw_chunk_t){NULL, 0, 0}, false);
}

/* Everything stopped at this stage: the headers go to the next one, then this one sees the body that has waited. */
static void resume_all(pw_stream_t *s, pw_dir_t dir, size_t k) {
    pw_stage_t *st = stage(s, dir, k);
    st->headers = PW_HEADERS_PASSED;
    if (st->made) {
        give_made(s, dir, k);
        return;
    }
    run_headers(s, dir, k + 1, st->headers_eos);
    bool eos = st->eos;
    st->eos = false;
    if (!pw_stream_halted(s) && (st->owned || eos)) {
        run_body(s, dir, k, (pw_chunk_t){NULL, 0, 0}, eos);
    }
    if (!pw_stream_halted(s) && st->trailers == PW_TRAILERS_WAIT) {
        st->trailers = PW_TRAILERS_NONE;
        run_trailers(s, dir, k);
    }
}

static void resume_stage(pw_stream_t *s, pw_dir_t dir, size_t k) {
    pw_stage_t *st = stage(s, dir, k);
    st->resume = false;
    if (held_all(st)) {
        resume_all(s, dir, k);
        return;
    }
    if (gathering(s, dir, k)) {
        release_headers(s, dir, k);
        return;
    }
    if (!stopped(st) || !release(s, dir, k)) {
        return;
    }
    if (st->trailers == PW_TRAILERS_HELD) {
        st->trailers = PW_TRAILERS_PASSED;
        run_trailers(s, dir, k + 1);
    }
}

/* After a callback: what it recorded about its own stage counts now, and not for a later stop. */
static void resume_own(pw_stream_t *s, pw_dir_t dir, size_t k) {
    pw_stage_t *st = stage(s, dir, k);
    if (st->resume && !pw_stream_halted(s)) {
        resume_stage(s, dir, k);
    }
}

static void ask_resume(pw_stream_t *s, pw_dir_t dir, pw_stage_t *st) {
    st->resume = true;
    s->flow[dir].resume_asked = true;
}

static __attribute__((noinline)) void run_resumes_asked(pw_stream_t *s, pw_dir_t dir, size_t from) {
    for (size_t k = s->n; k > from && !pw_stream_halted(s); k--) {
        if (stage(s, dir, k - 1)->resume) {
            resume_stage(s, dir, k - 1);
        }
    }
}

static inline void run_resumes(pw_stream_t *s, pw_dir_t dir, size_t from) {
    if (__builtin_expect(s->flow[dir].resume_asked, 0)) {
        run_resumes_asked(s, dir, from);
    }
}

/* A stage that stopped and whose VM has trapped meanwhile cannot be resumed by anybody. */
static void check_failed(pw_stream_t *s, pw_dir_t dir) {
    for (size_t k = 0; k < s->n && !pw_stream_halted(s); k++) {
        pw_position_t *at = &s->at[position(s, dir, k)];
        pw_stage_t *st = &at->stage[dir];
        bool dead = at->ctx.root == NULL || at->ctx.root->vm->failed;
        if (dead && !at->skip[dir] && stopped(st) && stage_failed(s, dir, k) == SKIPPED) {
            ask_resume(s, dir, st);
        }
    }
}

/* ---- headers ---- */

static pw_stage_headers_t headers_state(const pw_stream_t *s, pw_dir_t dir, size_t k, uint32_t action, bool eos) {
    const pw_position_t *at = &s->at[position(s, dir, k)];
    switch (action) {
    case PW_HEADERS_CONTINUE:
    case PW_HEADERS_CONTINUE_AND_END:
        return PW_HEADERS_PASSED;
    case PW_HEADERS_STOP:
        /* Without a body callback there is nothing that would run meanwhile. */
        return at->filter->stop_iteration && has_callback(at, dir, body_cb[dir]) && !eos ? PW_HEADERS_HELD_ITER : PW_HEADERS_HELD_ALL;
    case PW_HEADERS_STOP_ALL_BUFFER:
        return PW_HEADERS_HELD_BUFFER;
    default:
        return PW_HEADERS_HELD_ALL;
    }
}

/* WasmX's response headers cannot be held. */
static uint32_t headers_action(const pw_stream_t *s, pw_dir_t dir, size_t k, uint32_t action) {
    const pw_position_t *at = &s->at[position(s, dir, k)];
    if (action == PW_HEADERS_CONTINUE || at->filter->conf.opts.dialect != SL_DIALECT_WASMX || dir == PW_DIR_REQUEST) {
        return action;
    }
    pw_log_filter(s->worker, s->gone ? NULL : s->host, at->filter->conf.name, at->ctx.node.id, PW_LOG_WARN,
                  "\"ResponseHeaders\" returned \"PAUSE\": local response expected but none produced");
    return PW_HEADERS_CONTINUE;
}

/*
 * The headers were at stage k, whose filter did not simply let them go on. true: they go on nevertheless, *eos as it is now.
 */
static __attribute__((noinline)) bool headers_act(pw_stream_t *s, pw_dir_t dir, size_t k, pw_called_t called, uint32_t action, bool *eos) {
    pw_flow_t *f = &s->flow[dir];
    pw_stage_t *st = stage(s, dir, k);
    if (called == HALTED) {
        return false;
    }
    action = called == CALLED ? headers_action(s, dir, k, action) : PW_HEADERS_CONTINUE;
    st->headers = (uint8_t)headers_state(s, dir, k, action, *eos || st->made);
    if (headers_held(st)) {
        f->has_stopped = true;
        resume_own(s, dir, k);
        return false;
    }
    st->resume = false;
    if (st->made) {
        give_made(s, dir, k);
        return false;
    }
    if (action == PW_HEADERS_CONTINUE_AND_END && !*eos) {
        st->ended = true;
        f->changed = true;
        *eos = true;
    }
    return true;
}

static void run_headers(pw_stream_t *s, pw_dir_t dir, size_t k, bool eos) {
    pw_flow_t *f = &s->flow[dir];
    const pw_cb_t cb = headers_cb[dir];
    pw_position_t *at = &s->at[position(s, dir, k)];
    const ptrdiff_t step = s->chain->reversed[dir] ? -1 : 1;
    for (; k < s->n; k++, at += step) {
        pw_stage_t *st = &at->stage[dir];
        sl_raw_t args[3];
        pw_called_t called = SKIPPED;
        args[0].u32 = PW_HEADERS_CONTINUE;
        st->headers_eos = eos;
        if (has_callback(at, dir, cb)) {
            sl_dialect_t dialect = (sl_dialect_t)at->filter->conf.opts.dialect;
            args[1].u32 = map_count(s, headers_map[dir], dialect);
            args[2].u32 = eos && dialect != SL_DIALECT_WASMX; /* which never says it here */
            called = stage_enter(s, at, dir, k, cb, args);
        }
        if (__builtin_expect(called != HALTED && args[0].u32 == PW_HEADERS_CONTINUE && !st->made, 1)) {
            st->headers = PW_HEADERS_PASSED;
            st->resume = false;
        } else if (!headers_act(s, dir, k, called, args[0].u32, &eos)) {
            return;
        }
    }
    f->released = true;
    f->out->headers = true;
    if (eos) {
        f->out->eos = true;
        f->out_eos = true;
    }
}

/* ---- body ---- */

static bool body_hold(pw_stream_t *s, pw_dir_t dir, pw_stage_t *st, uint32_t action, bool eos) {
    if (!st->owned && !keep(s, &s->flow[dir], st, st->view, st->n_view)) {
        return false;
    }
    st->body = (uint8_t)action;
    st->eos = eos;
    s->flow[dir].has_stopped = true;
    return false;
}

static bool body_drop(pw_stream_t *s, pw_dir_t dir, pw_stage_t *st, bool eos) {
    s->flow[dir].changed |= pw_stage_len(st) != 0;
    if (st->owned) {
        sl_buf_reset(&st->buf);
        st->owned = false;
    }
    st->body = PW_BODY_STOP_NO_BUFFER;
    st->eos = eos;
    s->flow[dir].has_stopped = true;
    return false;
}

static __attribute__((noinline)) bool body_act(pw_stream_t *s, pw_dir_t dir, size_t k, uint32_t action, bool eos, bool *pass) {
    pw_stage_t *st = stage(s, dir, k);
    *pass = action == PW_BODY_CONTINUE || st->unlimited;
    if (*pass) {
        return true;
    }
    if (collects(s, dir, k)) {
        if (st->body != 0 || eos) {
            const pw_position_t *at = &s->at[position(s, dir, k)];
            pw_log_filter(s->worker, s->gone ? NULL : s->host, at->filter->conf.name, at->ctx.node.id, PW_LOG_ERROR,
                          "invalid \"on_response_body\" return action (PAUSE): response body buffering already requested");
            *pass = true;
            return true;
        }
        action = PW_BODY_STOP_BUFFER;
    }
    if (action != PW_BODY_STOP_BUFFER && action != PW_BODY_STOP_WATERMARK) {
        return body_drop(s, dir, st, eos);
    }
    if (!st->owned && over_limit(&s->flow[dir], st, st->view_len, action == PW_BODY_STOP_WATERMARK)) {
        *pass = overflow(s, dir, k);
        return *pass;
    }
    return body_hold(s, dir, st, action, eos);
}

/* Puts the chunk behind what is held at the stage. false: it is not to be shown now. */
static __attribute__((noinline)) bool body_keep(pw_stream_t *s, pw_dir_t dir, size_t k, const pw_chunk_t *c, bool eos) {
    pw_flow_t *f = &s->flow[dir];
    pw_stage_t *st = stage(s, dir, k);
    if (over_limit(f, st, c->len, st->body == PW_BODY_STOP_WATERMARK) && !overflow(s, dir, k)) {
        return false;
    }
    if (!keep(s, f, st, c->segs, c->n)) {
        return false;
    }
    return st->body == 0 || eos || st->unlimited || !collects(s, dir, k);
}

/*
 * WasmX shows a request's body once, as a whole. Where more comes than may be held, the filter is shown it in pieces after all, from what
 * has been gathered on. true: there is nothing to show now.
 */
static bool gather(pw_stream_t *s, pw_dir_t dir, size_t k, pw_chunk_t c, bool eos) {
    pw_flow_t *f = &s->flow[dir];
    pw_stage_t *st = stage(s, dir, k);
    if (st->gather == PW_GATHER_DONE) {
        return false;
    }
    if (over_limit(f, st, c.len, false)) {
        show_gathered(s, dir, k);
        return pw_stream_halted(s);
    }
    if (eos) {
        return false;
    }
    if (keep(s, f, st, c.segs, c.n)) {
        st->gather = PW_GATHER_HELD;
        st->body = PW_BODY_STOP_BUFFER;
        f->has_stopped = true;
    }
    return true;
}

/*
 * Shows the chunk, behind what is held, to one stage. true: *c and *eos go on to the next one. false: they do not, or the event is over.
 */
static inline bool stage_body(pw_stream_t *s, pw_position_t *at, pw_dir_t dir, size_t k, pw_chunk_t *c, const bool *eos) {
    pw_stage_t *st = &at->stage[dir];
    bool looks = has_callback(at, dir, body_cb[dir]);
    if (!looks && !st->owned && st->headers == PW_HEADERS_PASSED) {
        return true;
    }
    bool gathers = dir == PW_DIR_REQUEST && looks && at->filter->conf.opts.dialect == SL_DIALECT_WASMX;
    if (__builtin_expect(gathers, 0)) {
        if (gather(s, dir, k, *c, *eos)) {
            return false;
        }
        looks = has_callback(at, dir, body_cb[dir]); /* it may have trapped */
    }
    st->gather = PW_GATHER_DONE;
    if (__builtin_expect(st->owned, 0)) {
        if (c->len != 0 && !body_keep(s, dir, k, c, *eos)) {
            return false;
        }
    } else if (__builtin_expect(st->sent, 0)) {
        reuse(s, &s->flow[dir], st);
    }
    st->view = c->segs;
    st->n_view = c->n;
    st->view_len = c->len;
    st->in_body = true;
    st->at_end = *eos;
    sl_raw_t args[3];
    args[0].u32 = PW_BODY_CONTINUE;
    args[1].u32 = (uint32_t)pw_stage_len(st);
    args[2].u32 = *eos;
    pw_called_t called = looks ? stage_enter(s, at, dir, k, body_cb[dir], args) : SKIPPED;
    st->in_body = false;
    bool pass = called != HALTED;
    if (pass && __builtin_expect(called == CALLED && args[0].u32 != PW_BODY_CONTINUE, 0)) {
        body_act(s, dir, k, args[0].u32, *eos, &pass);
    }
    st->view = NULL;
    st->n_view = st->view_len = 0;
    if (!pass) {
        return false;
    }
    st->body = 0;
    st->resume = false;
    if (__builtin_expect(st->owned, 0)) {
        *c = owned_chunk(st);
    }
    return __builtin_expect(st->headers != PW_HEADERS_HELD_ITER, 1) ? !pw_stream_halted(s) : release_headers(s, dir, k);
}

static void body_wait(pw_stream_t *s, pw_dir_t dir, size_t k, pw_chunk_t c, bool eos) {
    pw_flow_t *f = &s->flow[dir];
    pw_stage_t *st = stage(s, dir, k);
    if (over_limit(f, st, c.len, st->headers == PW_HEADERS_HELD_ALL)) {
        if (!overflow(s, dir, k)) {
            return;
        }
        ask_resume(s, dir, st);
    }
    st->eos |= eos;
    if (c.len != 0) {
        keep(s, f, st, c.segs, c.n);
    }
}

static void run_body(pw_stream_t *s, pw_dir_t dir, size_t k, pw_chunk_t c, bool eos) {
    pw_flow_t *f = &s->flow[dir];
    pw_position_t *at = &s->at[position(s, dir, k)];
    const ptrdiff_t step = s->chain->reversed[dir] ? -1 : 1;
    for (; k < s->n; k++, at += step) {
        pw_stage_t *st = &at->stage[dir];
        if (c.len == 0 && !eos && (!st->owned || st->body != 0)) {
            return; /* nothing new to show */
        }
        if (st->ended) {
            f->changed |= c.len != 0;
            return;
        }
        if (held_all(st)) {
            body_wait(s, dir, k, c, eos);
            resume_own(s, dir, k);
            return;
        }
        if (!stage_body(s, at, dir, k, &c, &eos)) {
            resume_own(s, dir, k);
            return;
        }
        if (eos && st->made_trailers) {
            run_body(s, dir, k + 1, c, false);
            if (!pw_stream_halted(s)) {
                run_trailers(s, dir, k + 1);
            }
            return;
        }
        run_resumes(s, dir, k + 1);
        if (pw_stream_halted(s)) {
            return;
        }
    }
    emit(s, f, c, eos);
}

/* ---- trailers ---- */

static void run_trailers(pw_stream_t *s, pw_dir_t dir, size_t k) {
    pw_flow_t *f = &s->flow[dir];
    for (; k < s->n; k++) {
        pw_stage_t *st = stage(s, dir, k);
        const pw_position_t *at = &s->at[position(s, dir, k)];
        if (st->ended) {
            return;
        }
        if (held_all(st)) {
            st->trailers = PW_TRAILERS_WAIT;
            f->has_stopped = true;
            return;
        }
        if (gathering(s, dir, k)) {
            show_gathered(s, dir, k);
            if (pw_stream_halted(s)) {
                return;
            }
        }
        uint32_t action = 0;
        pw_called_t called = SKIPPED;
        if (has_callback(at, dir, trailers_cb[dir])) {
            called =
                stage_call(s, dir, k, trailers_cb[dir], map_count(s, trailers_map[dir], at->filter->conf.opts.dialect), false, &action);
        }
        if (called == HALTED) {
            return;
        }
        if (called == CALLED && action != PW_TRAILERS_CONTINUE) {
            st->trailers = PW_TRAILERS_HELD;
            f->has_stopped = true;
            resume_own(s, dir, k);
            return;
        }
        st->resume = false;
        /* As in Envoy, Continue here lets go of everything, and so does a filter without this callback. */
        if (!release(s, dir, k)) {
            return;
        }
        st->trailers = PW_TRAILERS_PASSED;
        run_resumes(s, dir, k + 1);
        if (pw_stream_halted(s)) {
            return;
        }
    }
    f->trailers_released = true;
    f->out_eos = true;
    f->out->trailers = true;
    f->out->eos = true;
}

/* ---- events ---- */

void pw_pipe_reset(pw_stream_t *s, pw_dir_t dir) {
    for (size_t i = 0; i < s->n; i++) {
        pw_stage_t *st = &s->at[i].stage[dir];
        st->headers = PW_HEADERS_PASSED;
        st->trailers = PW_TRAILERS_PASSED;
        st->body = 0;
        st->eos = st->resume = st->owned = st->sent = st->made = false;
        sl_buf_deinit(&st->buf);
    }
}

/* This direction is over for the filters: what still comes passes if the headers have, else it has nowhere to go. */
static void close_flow(pw_stream_t *s, pw_dir_t dir) {
    s->flow[dir].over = true;
    pw_pipe_reset(s, dir);
}

static void begin(pw_stream_t *s, pw_dir_t dir, pw_out_t *out) {
    pw_flow_t *f = &s->flow[dir];
    *out = (pw_out_t){0};
    f->out = out;
    f->joined_in_use = false;
}

static __attribute__((noinline)) pw_verdict_t deliver(pw_stream_t *s, pw_dir_t dir, pw_out_t *out) {
    bool changed = out->changed;
    *out = (pw_out_t){.changed = changed};
    if (s->reset_new) {
        s->reset_new = s->reply_new = s->fail_new = false;
        close_flow(s, PW_DIR_REQUEST);
        close_flow(s, PW_DIR_RESPONSE);
        return PW_RESET;
    }
    if (s->fail_new) {
        s->fail_new = s->reply_new = false;
        s->failed |= s->failure == 500 || s->failure == 503;
        close_flow(s, dir);
        if (dir == PW_DIR_RESPONSE) {
            close_flow(s, PW_DIR_REQUEST);
        }
        return PW_FAIL;
    }
    close_flow(s, PW_DIR_REQUEST);
    if (s->reply->dir == PW_DIR_RESPONSE && dir == PW_DIR_REQUEST) {
        return PW_CONTINUE; /* wake() has come for the response; nothing of the request goes on */
    }
    s->reply_new = false;
    if (dir == PW_DIR_RESPONSE) { /* a response had come before the request's reply was told: it is replaced */
        s->reply->dir = PW_DIR_RESPONSE;
        close_flow(s, dir);
    }
    return PW_REPLY;
}

static __attribute__((noinline)) void finish_resumes(pw_stream_t *s, pw_dir_t dir) {
    pw_flow_t *f = &s->flow[dir];
    while (f->resume_asked && !pw_stream_halted(s)) {
        run_resumes(s, dir, 0);
        f->resume_asked = false;
        for (size_t k = 0; k < s->n; k++) {
            f->resume_asked |= stage(s, dir, k)->resume;
        }
    }
}

static inline __attribute__((always_inline)) pw_verdict_t finish(pw_stream_t *s, pw_dir_t dir, bool resuming) {
    pw_flow_t *f = &s->flow[dir];
    pw_out_t *out = f->out;
    if (__builtin_expect(f->resume_asked, 0)) {
        finish_resumes(s, dir);
    }
    out->changed = f->changed;
    out->made = f->made;
    pw_verdict_t verdict = PW_CONTINUE;
    if (__builtin_expect(pw_stream_halted(s), 0)) {
        verdict = deliver(s, dir, out);
    } else if (!out->headers && !out->input && out->data.len == 0 && !out->eos && !out->trailers) {
        verdict = resuming || held(s, dir) ? PW_WAIT : PW_CONTINUE;
    }
    f->out = NULL;
    f->in = NULL;
    f->n_in = 0;
    pw_worker_settle(s->worker);
    return verdict;
}

static inline bool nobody_looks(const pw_stream_t *s, pw_dir_t dir) {
    return dir == PW_DIR_REQUEST && !s->chain->wants_requests;
}

/* No filter sees anything of this direction any more. */
static inline pw_verdict_t pass_headers(pw_flow_t *f, bool eos, pw_out_t *out) {
    f->released = true;
    f->out_eos = eos;
    *out = (pw_out_t){.headers = true, .eos = eos, .changed = f->changed, .made = f->made};
    return PW_CONTINUE;
}

pw_verdict_t pw_pipe_headers(pw_stream_t *s, pw_dir_t dir, bool eos, pw_out_t *out) {
    pw_flow_t *f = &s->flow[dir];
    f->over |= nobody_looks(s, dir);
    f->input_eos = eos;
    f->seen = true;
    if (f->over && !pw_stream_halted(s)) {
        return pass_headers(f, eos, out);
    }
    begin(s, dir, out);
    if (f->over) {
        pass_headers(f, eos, out);
    } else if (!pw_stream_halted(s)) {
        run_headers(s, dir, 0, eos);
    }
    return finish(s, dir, false);
}

pw_verdict_t pw_pipe_body(pw_stream_t *s, pw_dir_t dir, const sl_str_t *segs, size_t n, bool eos, pw_out_t *out) {
    static const sl_str_t none[1];
    pw_flow_t *f = &s->flow[dir];
    begin(s, dir, out);
    pw_chunk_t c = {n != 0 ? segs : none, n, 0};
    for (size_t i = 0; i < n; i++) {
        c.len += segs[i].len;
    }
    f->in = c.segs;
    f->n_in = n;
    if (f->over && f->released && !f->out_eos) {
        f->out_eos = eos;
        out->input = true;
        out->eos = eos;
    } else if (f->over || f->input_eos) {
        f->changed |= c.len != 0; /* after the end: dropped */
    } else if (!pw_stream_halted(s)) {
        f->input_eos = eos;
        if (c.len != 0 || eos) {
            run_body(s, dir, 0, c, eos);
        } else {
            out->input = !held(s, dir);
        }
    }
    return finish(s, dir, false);
}

pw_verdict_t pw_pipe_trailers(pw_stream_t *s, pw_dir_t dir, pw_out_t *out) {
    pw_flow_t *f = &s->flow[dir];
    begin(s, dir, out);
    f->has_trailers = true;
    if (f->over) {
        out->trailers = out->eos = f->released && !f->out_eos;
        f->out_eos = true;
    } else if (!f->input_eos && !pw_stream_halted(s)) {
        f->input_eos = true;
        run_trailers(s, dir, 0);
    }
    return finish(s, dir, false);
}

pw_verdict_t pw_pipe_resume(pw_stream_t *s, pw_dir_t dir, pw_out_t *out) {
    begin(s, dir, out);
    if (!s->flow[dir].over && !pw_stream_halted(s)) {
        check_failed(s, dir);
    }
    return finish(s, dir, true);
}

pw_verdict_t pw_stream_headers(pw_stream_t *s, pw_dir_t dir, bool eos, pw_out_t *out) {
    return s->slices == NULL ? pw_pipe_headers(s, dir, eos, out) : pw_slices_do(s, PW_OP_HEADERS, dir, NULL, 0, eos, out);
}

pw_verdict_t pw_stream_body(pw_stream_t *s, pw_dir_t dir, const sl_str_t *segs, size_t n, bool eos, pw_out_t *out) {
    return s->slices == NULL ? pw_pipe_body(s, dir, segs, n, eos, out) : pw_slices_do(s, PW_OP_BODY, dir, segs, n, eos, out);
}

pw_verdict_t pw_stream_trailers(pw_stream_t *s, pw_dir_t dir, pw_out_t *out) {
    return s->slices == NULL ? pw_pipe_trailers(s, dir, out) : pw_slices_do(s, PW_OP_TRAILERS, dir, NULL, 0, true, out);
}

pw_verdict_t pw_stream_resume(pw_stream_t *s, pw_dir_t dir, pw_out_t *out) {
    return s->slices == NULL ? pw_pipe_resume(s, dir, out) : pw_slices_do(s, PW_OP_RESUME, dir, NULL, 0, false, out);
}

bool pw_stream_paused(const pw_stream_t *s, pw_dir_t dir) {
    return held(s, dir) || (s->slices != NULL && pw_slices_busy(s, dir));
}

bool pw_stream_wants_body(const pw_stream_t *s, pw_dir_t dir) {
    const pw_flow_t *f = &s->flow[dir];
    if (f->input_eos || f->out_eos || (s->slices != NULL && pw_slices_busy(s, PW_SLICES_ANY))) {
        return false;
    }
    for (size_t k = 0; k < s->n && !f->over; k++) { /* the first stage that stops decides */
        const pw_stage_t *st = &s->at[position(s, dir, k)].stage[dir];
        if (st->headers == PW_HEADERS_HELD_ALL) {
            return false;
        }
        if (st->headers == PW_HEADERS_HELD_BUFFER) {
            return true;
        }
        if (st->body == PW_BODY_STOP_WATERMARK) {
            return !st->owned || st->buf.len < f->limit;
        }
        if (st->body != 0) {
            return true;
        }
    }
    return true;
}

void pw_stream_abort_request(pw_stream_t *s) {
    if (s->slices != NULL) {
        pw_slices_abort_request(s);
        return;
    }
    pw_pipe_abort_request(s);
}

void pw_pipe_abort_request(pw_stream_t *s) {
    if (!s->flow[PW_DIR_REQUEST].over) {
        close_flow(s, PW_DIR_REQUEST);
    }
}
