#include "mh.h"

#include "mh_int.h"
#include "sl_digest.h"

#include <stdlib.h>
#include <time.h>

enum { NS_PER_MS = 1000000 };

/* ---- clocks and randomness ---- */

static uint64_t machine_ns(bool monotonic) {
    struct timespec ts = {0};
    clock_gettime(monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void clock_move(mh_t *mh, uint64_t ns) {
    mh->wall_ns += ns;
    mh->mono_ns += ns;
}

static uint64_t op_now_ns(void *worker, bool monotonic) {
    mh_t *mh = worker;
    if (mh->conf.real_clock) {
        return machine_ns(monotonic);
    }
    clock_move(mh, mh->conf.clock_step_ns);
    return monotonic ? mh->mono_ns : mh->wall_ns;
}

uint64_t mh_now_ns(const mh_t *mh) {
    return mh->conf.real_clock ? machine_ns(false) : mh->wall_ns;
}

static sl_status_t op_random(void *worker, void *out, size_t len) {
    mh_t *mh = worker;
    if (mh->conf.real_random) {
        return sl_random(out, len);
    }
    for (size_t i = 0; i < len; i++) { /* xorshift64* */
        mh->random ^= mh->random >> 12;
        mh->random ^= mh->random << 25;
        mh->random ^= mh->random >> 27;
        ((uint8_t *)out)[i] = (uint8_t)((mh->random * 0x2545f4914f6cdd1dull) >> 56);
    }
    return SL_OK;
}

/* ---- log ---- */

static mh_line_t *line_at(const mh_t *mh, size_t i) {
    return &mh->lines[(mh->line_first + i) % MH_LOG_LINES];
}

static void line_drop_first(mh_t *mh) {
    mh_line_t *line = line_at(mh, 0);
    mh->line_bytes -= line->line.len;
    free((char *)line->line.data);
    mh->line_first = (mh->line_first + 1) % MH_LOG_LINES;
    mh->n_lines--;
}

static void line_keep(mh_t *mh, uint32_t level, uint32_t stream, sl_str_t text) {
    text.len = text.len > MH_LOG_BYTES ? MH_LOG_BYTES : text.len;
    while (mh->n_lines != 0 && (mh->n_lines == MH_LOG_LINES || text.len > MH_LOG_BYTES - mh->line_bytes)) {
        line_drop_first(mh);
    }
    sl_str_t copy = mh_dup(text);
    if (copy.data == NULL) {
        return; /* a lost line is the least of the troubles then */
    }
    *line_at(mh, mh->n_lines++) = (mh_line_t){level, stream, copy};
    mh->line_bytes += copy.len;
}

static void op_log(void *worker, void *stream, uint32_t level, sl_str_t line) {
    mh_t *mh = worker;
    if (level < mh->conf.log_level) {
        return;
    }
    line_keep(mh, level, stream != NULL ? ((mh_stream_t *)stream)->id : 0, line);
    if (mh->conf.log != NULL) {
        mh->conf.log(mh->conf.log_ud, level, line);
    }
}

static uint32_t op_log_level(void *worker, void *stream) {
    (void)stream;
    return ((mh_t *)worker)->conf.log_level;
}

void mh_log_level_set(mh_t *mh, uint32_t level) {
    mh->conf.log_level = level;
}

size_t mh_log_count(const mh_t *mh) {
    return mh->n_lines;
}

mh_log_line_t mh_log_at(const mh_t *mh, size_t i) {
    if (i >= mh->n_lines) {
        return (mh_log_line_t){0};
    }
    const mh_line_t *line = line_at(mh, i);
    return (mh_log_line_t){line->level, line->stream, line->line};
}

size_t mh_log_matches(const mh_t *mh, const char *part) {
    size_t n = 0;
    for (size_t i = 0; i < mh->n_lines; i++) {
        sl_str_t line = line_at(mh, i)->line;
        n += memmem(line.data, line.len, part, strlen(part)) != NULL;
    }
    return n;
}

bool mh_log_has(const mh_t *mh, const char *part) {
    return mh_log_matches(mh, part) != 0;
}

void mh_log_clear(mh_t *mh) {
    while (mh->n_lines != 0) {
        line_drop_first(mh);
    }
}

/* ---- timers ---- */

static void timer_unlink(mh_t *mh, mh_timer_t *timer) {
    for (mh_timer_t **p = &mh->timers; *p != NULL; p = &(*p)->next) {
        if (*p == timer) {
            *p = timer->next;
            mh->n_timers--;
            return;
        }
    }
}

static void timer_cancel(mh_t *mh, void **slot) {
    mh_timer_t *timer = *slot;
    *slot = NULL;
    if (timer != NULL) {
        timer_unlink(mh, timer);
        free(timer);
    }
}

static mh_timer_t *timer_add(mh_t *mh, pw_root_t *root, void **slot) {
    mh_timer_t *timer = mh->n_timers < MH_TIMERS ? calloc(1, sizeof(*timer)) : NULL;
    if (timer == NULL) {
        return NULL;
    }
    mh_timer_t **end = &mh->timers;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *timer = (mh_timer_t){.root = root, .slot = slot};
    *end = timer;
    *slot = timer;
    mh->n_timers++;
    return timer;
}

static void op_tick_set(void *worker, pw_root_t *root, void **slot, uint32_t period_ms) {
    mh_t *mh = worker;
    if (period_ms == 0) {
        timer_cancel(mh, slot);
        return;
    }
    mh_timer_t *timer = *slot != NULL ? *slot : timer_add(mh, root, slot);
    if (timer != NULL) {
        timer->period_ms = period_ms;
        timer->due_ns = mh->mono_ns + (uint64_t)period_ms * NS_PER_MS;
    }
}

static mh_timer_t *timer_at(const mh_t *mh, size_t i) {
    mh_timer_t *timer = mh->timers;
    while (timer != NULL && i-- != 0) {
        timer = timer->next;
    }
    return timer;
}

size_t mh_timer_count(const mh_t *mh) {
    return mh->n_timers;
}

uint32_t mh_timer_period_ms(const mh_t *mh, size_t i) {
    const mh_timer_t *timer = timer_at(mh, i);
    return timer == NULL ? 0 : timer->period_ms;
}

pw_root_t *mh_timer_root(const mh_t *mh, size_t i) {
    const mh_timer_t *timer = timer_at(mh, i);
    return timer == NULL ? NULL : timer->root;
}

static void timer_fire(mh_t *mh, mh_timer_t *timer) {
    pw_root_tick(timer->root);
    for (mh_timer_t *t = mh->timers; t != NULL; t = t->next) { /* the tick may have cancelled it */
        if (t == timer) {
            t->due_ns = mh->mono_ns + (uint64_t)t->period_ms * NS_PER_MS;
        }
    }
}

bool mh_tick(mh_t *mh, size_t i) {
    mh_timer_t *timer = timer_at(mh, i);
    if (timer == NULL) {
        return false;
    }
    timer_fire(mh, timer);
    return true;
}

/* ---- calls out ---- */

static void call_free(mh_callout_t *c) {
    mh_map_clear(&c->headers);
    mh_map_clear(&c->trailers);
    free((char *)c->call.upstream.data);
    free((char *)c->call.body.data);
    free(c);
}

bool mh_upstream_known(const mh_t *mh, sl_str_t name) {
    for (size_t i = 0; i < mh->n_upstreams; i++) {
        if (sl_str_eq(mh->upstreams[i], name)) {
            return true;
        }
    }
    return mh->n_upstreams == 0;
}

static bool call_copy(mh_callout_t *c, const pw_http_call_t *call) {
    c->call = (mh_call_t){.root = call->root, .token = call->token, .timeout_ms = call->timeout_ms};
    c->call.upstream = mh_dup(call->upstream);
    c->call.body = mh_dup(call->body);
    if (c->call.upstream.data == NULL || c->call.body.data == NULL || mh_map_copy(&c->headers, call->headers, call->n_headers) != SL_OK ||
        mh_map_copy(&c->trailers, call->trailers, call->n_trailers) != SL_OK) {
        return false;
    }
    c->call.headers = c->headers.pairs;
    c->call.n_headers = c->headers.n;
    c->call.trailers = c->trailers.pairs;
    c->call.n_trailers = c->trailers.n;
    return true;
}

static sl_status_t op_http_call(void *worker, void *stream, const pw_http_call_t *call, void **handle) {
    mh_t *mh = worker;
    if (!mh_upstream_known(mh, call->upstream)) {
        return SL_NOT_FOUND;
    }
    if (mh->refuse != SL_OK) {
        return mh->refuse;
    }
    mh_callout_t *c = mh->n_calls < MH_CALLS && call->body.len <= MH_BODY_BYTES ? calloc(1, sizeof(*c)) : NULL;
    if (c == NULL) {
        return SL_FAILED;
    }
    if (!call_copy(c, call)) {
        call_free(c);
        return SL_FAILED;
    }
    c->call.stream = stream;
    c->due_ns = call->timeout_ms == 0 ? 0 : mh->mono_ns + (uint64_t)call->timeout_ms * NS_PER_MS;
    mh_callout_t **end = &mh->calls;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = c;
    mh->n_calls++;
    mh->calls_total++;
    *handle = c;
    return SL_OK;
}

static bool call_unlink(mh_t *mh, const mh_callout_t *c) {
    for (mh_callout_t **p = &mh->calls; *p != NULL; p = &(*p)->next) {
        if (*p == c) {
            *p = c->next;
            mh->n_calls--;
            return true;
        }
    }
    return false;
}

static void op_http_call_cancel(void *worker, void *handle) {
    mh_t *mh = worker;
    if (call_unlink(mh, handle)) {
        mh->calls_cancelled++;
        call_free(handle);
    }
}

static sl_status_t op_http_call_detach(void *worker, void *handle) {
    (void)worker;
    ((mh_callout_t *)handle)->call.stream = NULL;
    return SL_OK;
}

void mh_calls_forget_stream(mh_t *mh, const mh_stream_t *s) {
    for (mh_callout_t *c = mh->calls; c != NULL; c = c->next) {
        c->call.stream = c->call.stream == s ? NULL : c->call.stream;
    }
}

static mh_callout_t *call_at(const mh_t *mh, size_t i) {
    mh_callout_t *c = mh->calls;
    while (c != NULL && i-- != 0) {
        c = c->next;
    }
    return c;
}

size_t mh_call_count(const mh_t *mh) {
    return mh->n_calls;
}

uint64_t mh_call_total(const mh_t *mh) {
    return mh->calls_total;
}

uint64_t mh_call_cancelled(const mh_t *mh) {
    return mh->calls_cancelled;
}

const mh_call_t *mh_call_at(const mh_t *mh, size_t i) {
    const mh_callout_t *c = call_at(mh, i);
    return c == NULL ? NULL : &c->call;
}

static void call_done(mh_t *mh, mh_callout_t *c, const pw_call_response_t *response) {
    call_unlink(mh, c);
    pw_http_call_done(c->call.root, c->call.token, response);
    call_free(c);
}

bool mh_call_answer(mh_t *mh, size_t i, const pw_call_response_t *response) {
    mh_callout_t *c = call_at(mh, i);
    if (c == NULL) {
        return false;
    }
    call_done(mh, c, response);
    return true;
}

bool mh_call_fail(mh_t *mh, size_t i, const char *failure) {
    return mh_call_answer(mh, i, &(pw_call_response_t){.failed = true, .failure = failure});
}

bool mh_upstream_add(mh_t *mh, const char *name) {
    sl_str_t copy = mh->n_upstreams < MH_UPSTREAMS ? mh_dup(sl_cstr(name)) : SL_STR_NULL;
    if (copy.data == NULL) {
        return false;
    }
    mh->upstreams[mh->n_upstreams++] = copy;
    return true;
}

void mh_calls_refuse(mh_t *mh, sl_status_t status) {
    mh->refuse = status;
}

/* ---- events ---- */

static bool run_one(mh_t *mh) {
    pw_root_t *root;
    uint32_t queue;
    if (mh_state_next_item(mh->state, &root, &queue)) {
        pw_root_queue_ready(root, queue);
        return true;
    }
    for (mh_stream_t *s = mh->streams; s != NULL; s = s->next) {
        if (s->playing && mh_exchange_continue(s)) {
            return true;
        }
    }
    if (mh->soon) {
        mh->soon = false;
        pw_worker_run(mh->worker);
        return true;
    }
    return false;
}

/* Slices do not count: budgets limit them. */
bool mh_run(mh_t *mh) {
    for (size_t i = 0; i < MH_EVENTS;) {
        bool sliced = mh->soon;
        if (mh->conf.canary || !run_one(mh)) {
            return true;
        }
        i += !sliced;
    }
    return false;
}

bool mh_step(mh_t *mh) {
    return run_one(mh);
}

/* The timer or the call that is due first, if any is due by then. */
static bool next_due(const mh_t *mh, uint64_t by_ns, mh_timer_t **timer, mh_callout_t **call) {
    uint64_t first = by_ns;
    *timer = NULL;
    *call = NULL;
    for (mh_timer_t *t = mh->timers; t != NULL; t = t->next) {
        if (t->due_ns < first || (t->due_ns == first && *timer == NULL)) {
            first = t->due_ns;
            *timer = t;
        }
    }
    for (mh_callout_t *c = mh->calls; c != NULL; c = c->next) {
        if (c->due_ns != 0 && (c->due_ns < first || (c->due_ns == first && *timer == NULL && *call == NULL))) {
            first = c->due_ns;
            *call = c;
        }
    }
    return *timer != NULL || *call != NULL;
}

void mh_advance(mh_t *mh, uint64_t ms) {
    uint64_t target = mh->mono_ns + ms * NS_PER_MS;
    mh_timer_t *timer;
    mh_callout_t *call;
    for (size_t i = 0; i < MH_EVENTS && !mh->conf.canary; i++) {
        bool any = next_due(mh, target, &timer, &call);
        uint64_t due = !any ? target : call != NULL ? call->due_ns : timer->due_ns, last = due + 1;
        mh_grpc_out_t *grpc = mh_grpc_due(mh, &last);
        mh_out_t *out = mh_out_due(mh, &last);
        if (!any && grpc == NULL && out == NULL) {
            break;
        }
        due = grpc != NULL || out != NULL ? last : due;
        clock_move(mh, due > mh->mono_ns ? due - mh->mono_ns : 0);
        if (out != NULL) { /* earlier than all others */
            mh_out_expire(mh, out);
        } else if (grpc != NULL) {
            mh_grpc_expire(mh, grpc);
        } else if (call != NULL) {
            call_done(mh, call, &(pw_call_response_t){.failed = true, .failure = "timeout"});
        } else {
            timer_fire(mh, timer);
        }
        mh_run(mh);
    }
    clock_move(mh, target > mh->mono_ns ? target - mh->mono_ns : 0);
}

/* ---- life ---- */

static void op_root_gone(void *worker, pw_root_t *root) {
    mh_state_root_gone(((mh_t *)worker)->state, root);
}

static void op_soon(void *worker) {
    ((mh_t *)worker)->soon = true;
}

static void op_trap_dump(void *worker, sl_str_t text, sl_str_t memory) {
    mh_t *mh = worker;
    mh->n_dumps++;
    sl_buf_reset(&mh->dump_text);
    sl_buf_reset(&mh->dump_memory);
    sl_buf_append_str(&mh->dump_text, text);
    sl_buf_append_str(&mh->dump_memory, memory);
}

size_t mh_dump_count(const mh_t *mh) {
    return mh->n_dumps;
}

sl_str_t mh_dump_text(const mh_t *mh) {
    return sl_buf_str(&mh->dump_text);
}

sl_str_t mh_dump_memory(const mh_t *mh) {
    return sl_buf_str(&mh->dump_memory);
}

static const pw_host_ops_t ops = {
    .now_ns = op_now_ns,
    .random = op_random,
    .log = op_log,
    .log_level = op_log_level,
    .tick_set = op_tick_set,
    .map_each = mh_op_map_each,
    .map_get = mh_op_map_get,
    .map_edit = mh_op_map_edit,
    .map_count = mh_op_map_count,
    .may_make_body = mh_op_may_make_body,
    .property_get = mh_op_property_get,
    .property_set = mh_op_property_set,
    .clear_route_cache = mh_op_clear_route_cache,
    .wake = mh_op_wake,
    .soon = op_soon,
    .http_call = op_http_call,
    .http_call_cancel = op_http_call_cancel,
    .http_call_detach = op_http_call_detach,
    .grpc_open = mh_op_grpc_open,
    .grpc_send = mh_op_grpc_send,
    .grpc_finish = mh_op_grpc_finish,
    .grpc_cancel = mh_op_grpc_cancel,
    .resolve = mh_op_resolve,
    .resolve_cancel = mh_op_resolve_cancel,
    .redis_call = mh_op_redis_call,
    .redis_cancel = mh_op_redis_cancel,
    .shared_get = mh_op_shared_get,
    .shared_set = mh_op_shared_set,
    .queue_register = mh_op_queue_register,
    .queue_resolve = mh_op_queue_resolve,
    .queue_push = mh_op_queue_push,
    .queue_pop = mh_op_queue_pop,
    .root_gone = op_root_gone,
    .metric_define = mh_op_metric_define,
    .metric_add = mh_op_metric_add,
    .metric_record = mh_op_metric_record,
    .metric_get = mh_op_metric_get,
    .trap_dump = op_trap_dump,
};

const pw_host_ops_t *mh_ops(void) {
    return &ops;
}

pw_worker_t *mh_worker(const mh_t *mh) {
    return mh->worker;
}

mh_t *mh_new(const mh_conf_t *conf) {
    mh_t *mh = calloc(1, sizeof(*mh));
    if (mh == NULL) {
        return NULL;
    }
    mh->conf = conf != NULL ? *conf : (mh_conf_t){0};
    mh->wall_ns = mh->conf.now_ns != 0 ? mh->conf.now_ns : 1704067200000000000u;
    mh->mono_ns = 1000000000u;
    mh->random = mh->conf.seed != 0 ? mh->conf.seed : 1;
    sl_buf_init(&mh->dump_text, MH_LOG_BYTES);
    sl_buf_init(&mh->dump_memory, MH_BODY_BYTES);
    mh->lines = calloc(MH_LOG_LINES, sizeof(*mh->lines));
    mh->state = mh_state_new();
    if (mh->lines != NULL && mh->state != NULL) {
        mh->worker = pw_worker_new(&ops, mh, &mh->conf.limits);
    }
    if (mh->worker == NULL) {
        mh_free(mh);
        return NULL;
    }
    return mh;
}

void mh_free(mh_t *mh) {
    if (mh == NULL) {
        return;
    }
    if (mh->worker != NULL) {
        pw_worker_free(mh->worker);
    }
    while (mh->calls != NULL) {
        mh_callout_t *c = mh->calls;
        call_unlink(mh, c);
        call_free(c);
    }
    mh_grpc_deinit(mh);
    mh_out_deinit(mh);
    while (mh->timers != NULL) { /* the worker has cancelled its own: the slots are gone */
        mh_timer_t *timer = mh->timers;
        timer_unlink(mh, timer);
        free(timer);
    }
    if (mh->lines != NULL) {
        mh_log_clear(mh);
    }
    for (size_t i = 0; i < mh->n_upstreams; i++) {
        free((char *)mh->upstreams[i].data);
    }
    mh_props_deinit(&mh->props);
    mh_state_free(mh->state);
    sl_buf_deinit(&mh->dump_text);
    sl_buf_deinit(&mh->dump_memory);
    free(mh->lines);
    free(mh);
}

/* ---- canary ---- */

sl_status_t mh_canary(const pw_filter_conf_t *conf, const pw_limits_t *limits, mh_log_fn log, void *log_ud, sl_err_t *err) {
    mh_conf_t mc = {.canary = true, .real_clock = true, .real_random = true, .log = log, .log_ud = log_ud};
    if (limits != NULL) {
        mc.limits = *limits;
    }
    mh_t *mh = mh_new(&mc);
    if (mh == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory while starting the filter \"%.*s\" for a check", SL_FMT(conf->name));
    }
    pw_filter_t *filter = NULL;
    sl_status_t rc = pw_filter_new(mh->worker, conf, &filter, err);
    if (rc == SL_OK) {
        pw_filter_unref(filter);
    }
    mh_free(mh);
    return rc;
}
