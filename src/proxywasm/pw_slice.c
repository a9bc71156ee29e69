#include "pw_slice.h"

#include <stdlib.h>

#include "sl_coro.h"

/* Idle stacks that are kept; jobs that may wait for one VM. */
enum { IDLE_MAX = 16, WAITING_MAX = 4096 };

#define HOST_STACK_BYTES ((size_t)512 << 10) /* for us and for what the proxy's operations take */

struct pw_job_s {
    pw_worker_t *worker;
    sl_coro_t *coro;
    void (*fn)(void *arg);
    void *arg;
    pw_job_t *next;       /* of those that wait for a VM, or that are idle */
    pw_job_t *next_ready; /* it may wait for a VM and be ready to look again */
    pw_job_t *prev_all, *next_all;
    bool ready;
    bool ending; /* what it does is of no use any more */
};

/* ---- jobs ---- */

static void all_add(pw_worker_t *w, pw_job_t *job) {
    job->prev_all = NULL;
    job->next_all = w->jobs;
    if (w->jobs != NULL) {
        w->jobs->prev_all = job;
    }
    w->jobs = job;
}

static void all_remove(pw_worker_t *w, pw_job_t *job) {
    if (job->prev_all != NULL) {
        job->prev_all->next_all = job->next_all;
    } else {
        w->jobs = job->next_all;
    }
    if (job->next_all != NULL) {
        job->next_all->prev_all = job->prev_all;
    }
}

static void queue_add(pw_jobs_t *q, pw_job_t *job) {
    job->next = NULL;
    if (q->last != NULL) {
        q->last->next = job;
    } else {
        q->first = job;
    }
    q->last = job;
    q->n++;
}

static void queue_remove(pw_jobs_t *q, pw_job_t *job) {
    pw_job_t *before = NULL;
    for (pw_job_t *j = q->first; j != NULL; before = j, j = j->next) {
        if (j != job) {
            continue;
        }
        if (before != NULL) {
            before->next = j->next;
        } else {
            q->first = j->next;
        }
        q->last = q->last == j ? before : q->last;
        q->n--;
        return;
    }
}

static void make_ready(pw_job_t *job) {
    pw_worker_t *w = job->worker;
    if (job->ready) {
        return;
    }
    job->ready = true;
    job->next_ready = NULL;
    if (w->last_ready != NULL) {
        w->last_ready->next_ready = job;
    } else {
        w->first_ready = job;
    }
    w->last_ready = job;
    w->ops->soon(w->host);
}

static void not_ready(pw_job_t *job) {
    pw_worker_t *w = job->worker;
    pw_job_t *before = NULL;
    for (pw_job_t *j = w->first_ready; j != NULL && job->ready; before = j, j = j->next_ready) {
        if (j != job) {
            continue;
        }
        if (before != NULL) {
            before->next_ready = j->next_ready;
        } else {
            w->first_ready = j->next_ready;
        }
        w->last_ready = w->last_ready == j ? before : w->last_ready;
        job->ready = false;
    }
}

static void job_free(pw_job_t *job) {
    sl_coro_free(job->coro);
    free(job);
}

static pw_job_t *job_get(pw_worker_t *w, sl_engine_t *engine) {
    pw_job_t *job = w->idle_jobs;
    if (job != NULL) {
        w->idle_jobs = job->next;
        w->n_idle_jobs--;
        job->ready = job->ending = false;
        return job;
    }
    job = calloc(1, sizeof(*job));
    if (job == NULL) {
        return NULL;
    }
    job->worker = w;
    job->next = NULL;
    job->coro = sl_coro_new(sl_engine_stack_bytes(engine) + HOST_STACK_BYTES);
    if (job->coro == NULL) {
        free(job);
        return NULL;
    }
    return job;
}

static void job_put(pw_job_t *job) {
    pw_worker_t *w = job->worker;
    all_remove(w, job);
    if (w->n_idle_jobs >= IDLE_MAX) {
        job_free(job);
        return;
    }
    job->next = w->idle_jobs;
    w->idle_jobs = job;
    w->n_idle_jobs++;
}

/* true: it has ended, and is gone. */
static bool job_go_on(pw_job_t *job) {
    pw_worker_t *w = job->worker;
    pw_job_t *outer = w->job;
    sl_dialect_t dialect = w->dialect;
    w->job = job;
    bool done = sl_coro_resume(job->coro);
    w->job = outer;
    w->dialect = dialect;
    if (done) {
        job_put(job);
    }
    return done;
}

static pw_job_t *job_new(pw_worker_t *w, sl_engine_t *engine, void (*fn)(void *arg), void *arg) {
    pw_job_t *job = job_get(w, engine);
    if (job != NULL) {
        all_add(w, job);
        sl_coro_begin(job->coro, fn, arg);
    }
    return job;
}

sl_status_t pw_job_run(pw_worker_t *w, sl_engine_t *engine, void (*fn)(void *arg), void *arg) {
    pw_job_t *job = job_new(w, engine, fn, arg);
    if (job == NULL) {
        return SL_NO_MEMORY;
    }
    return job_go_on(job) ? SL_OK : SL_AGAIN;
}

bool pw_worker_run(pw_worker_t *w) {
    pw_job_t *job = w->first_ready;
    if (job != NULL) {
        not_ready(job);
        job_go_on(job);
        pw_worker_settle(w);
    }
    if (w->first_ready != NULL) {
        w->ops->soon(w->host);
    }
    return w->first_ready != NULL;
}

/* To its end, which is near. */
static void job_end(pw_job_t *job) {
    job->ending = true;
    do {
        not_ready(job);
    } while (!job_go_on(job));
}

void pw_jobs_end(pw_worker_t *w) {
    while (w->jobs != NULL) {
        job_end(w->jobs);
    }
    for (pw_job_t *job = w->idle_jobs, *next; job != NULL; job = next) {
        next = job->next;
        job_free(job);
    }
    w->idle_jobs = NULL;
    w->n_idle_jobs = 0;
}

/* ---- VMs ---- */

static void wake_first(pw_vm_t *vm) {
    if (vm->busy == NULL && vm->waiting.first != NULL) {
        make_ready(vm->waiting.first);
    }
}

static bool wait_for(pw_vm_t *vm, pw_job_t *job) {
    queue_add(&vm->waiting, job);
    while (!vm->failed && !job->ending && (vm->busy != NULL || vm->waiting.first != job)) {
        /* Not among the ready ones: whoever leaves the VM, or ends the job, brings it back. `next` belongs to the VM's queue meanwhile. */
        sl_coro_yield(job->coro);
    }
    queue_remove(&vm->waiting, job);
    if (vm->failed || job->ending) {
        wake_first(vm);
        return false;
    }
    return true;
}

sl_status_t pw_slice_enter(pw_vm_t *vm, sl_err_t *err) {
    pw_job_t *job = vm->worker->job;
    if (vm->busy != NULL && vm->busy == job) {
        vm->entered++;
        return SL_OK;
    }
    if (job == NULL) {
        return vm->busy == NULL ? SL_OK : sl_err_set(err, SL_AGAIN, "the filter's instance is in the middle of another call");
    }
    if (vm->busy != NULL || vm->waiting.first != NULL) {
        if (vm->waiting.n >= WAITING_MAX) {
            return sl_err_set(err, SL_AGAIN, "too many wait for the filter's instance");
        }
        if (!wait_for(vm, job)) {
            return sl_err_set(err, SL_TRAP, "the filter's instance has trapped before");
        }
    }
    vm->busy = job;
    vm->entered = 1;
    return SL_OK;
}

void pw_slice_leave(pw_vm_t *vm) {
    if (vm->busy == NULL || vm->busy != vm->worker->job || --vm->entered != 0) {
        return;
    }
    vm->busy = NULL;
    wake_first(vm);
}

bool pw_slice_ending(const pw_worker_t *w) {
    return w->job != NULL && w->job->ending;
}

static sl_status_t in_slices(pw_vm_t *vm, pw_job_t *job, sl_err_t *err) {
    pw_worker_t *w = vm->worker;
    sl_status_t rc;
    while ((rc = sl_instance_call_poll(vm->instance, err)) == SL_AGAIN) {
        pw_worker_held(w, w->watch->slice_ns);
        if (!job->ending) {
            sl_dialect_t dialect = w->dialect;
            make_ready(job);
            sl_coro_yield(job->coro);
            w->dialect = dialect;
        }
        if (job->ending) {
            return sl_instance_call_drop(vm->instance, err);
        }
    }
    if (w->watch->slice_ns >= SL_WATCH_SLICE_NS) { /* one long host call, perhaps */
        pw_worker_held(w, w->watch->slice_ns);
    }
    return rc;
}

sl_status_t pw_slice_call(pw_vm_t *vm, sl_func_t *func, sl_raw_t *args, uint32_t cpu_budget_ms, bool *over_budget, sl_err_t *err) {
    pw_worker_t *w = vm->worker;
    if (w->job == NULL) {
        sl_watch_begin(w->watch, cpu_budget_ms);
        sl_status_t rc = sl_instance_call(vm->instance, func, args, err);
        *over_budget = sl_watch_expired(w->watch);
        sl_watch_end(w->watch);
        return rc;
    }
    sl_status_t rc = sl_instance_call_begin(vm->instance, func, args, cpu_budget_ms, err);
    rc = rc == SL_OK ? in_slices(vm, w->job, err) : rc;
    *over_budget = rc == SL_TRAP && strncmp(err->text, "the CPU budget", 14) == 0;
    return rc;
}

/* ---- events of root contexts ---- */

typedef struct {
    pw_root_t *root;
    pw_event_fn fn;
    pw_event_data_fn data_fn;
    void (*root_fn)(pw_root_t *root);
    pw_event_data_t data;
    sl_arena_t arena;
    size_t held; /* of what calls may hold */
    char arg[];  /* with the alignment of the struct */
} event_t;

static void event_free(event_t *e, pw_worker_t *w) {
    sl_ceiling_give(w->limits.call_bytes, e->held);
    sl_arena_deinit(&e->arena);
    free(e);
}

static void run_event(void *arg) {
    event_t *e = arg;
    pw_root_t *root = e->root;
    pw_worker_t *w = root->vm->worker;
    sl_err_t err;
    if (e->root_fn != NULL) {
        e->root_fn(root);
    } else {
        if (pw_slice_enter(root->vm, &err) == SL_OK) {
            if (e->data_fn != NULL) {
                e->data_fn(root, &e->data);
            } else {
                e->fn(root, e->arg);
            }
            pw_slice_leave(root->vm);
        } else if (e->data_fn != NULL) {
            e->data_fn(root, &e->data); /* the VM does not work: calls end nevertheless */
        }
        pw_root_unref(root);
    }
    event_free(e, w);
    pw_worker_settle(w);
}

static event_t *event_new(pw_root_t *root, size_t arg_size) {
    event_t *e = calloc(1, sizeof(*e) + arg_size);
    if (e != NULL) {
        e->root = root;
        sl_arena_init(&e->arena, 512, SIZE_MAX / 2);
    }
    return e;
}

static bool event_run(event_t *e, bool hold) {
    pw_root_t *root = e->root;
    sl_engine_t *engine = sl_module_engine(root->vm->module);
    if (hold) {
        pw_root_ref(root);
    }
    if (pw_job_run(root->vm->worker, engine, run_event, e) != SL_NO_MEMORY) {
        return true;
    }
    event_free(e, root->vm->worker);
    if (hold) {
        pw_root_unref(root);
    }
    return false;
}

bool pw_slice_event(pw_root_t *root, pw_event_fn fn, const void *arg, size_t arg_size) {
    event_t *e = event_new(root, arg_size);
    if (e == NULL) {
        return false;
    }
    e->fn = fn;
    memcpy(e->arg, arg, arg_size);
    return event_run(e, true);
}

bool pw_slice_root(pw_root_t *root, void (*fn)(pw_root_t *root)) {
    event_t *e = event_new(root, 0);
    if (e == NULL) {
        return false;
    }
    e->root_fn = fn;
    return event_run(e, false);
}

static bool copy_str(sl_arena_t *a, sl_str_t *str) {
    if (str->data == NULL) {
        return true;
    }
    *str = sl_arena_dup(a, *str);
    return str->data != NULL;
}

static bool copy_data(event_t *e) {
    bool ok = copy_str(&e->arena, &e->data.text) && copy_str(&e->arena, &e->data.data);
    for (int i = 0; i < 2 && ok; i++) {
        size_t n = e->data.n_pairs[i];
        const pw_pair_t *from = e->data.pairs[i];
        pw_pair_t *to = sl_arena_alloc(&e->arena, (n + 1) * sizeof(*to));
        ok = to != NULL;
        for (size_t k = 0; k < n && ok; k++) {
            to[k] = from[k];
            ok = copy_str(&e->arena, &to[k].key) && copy_str(&e->arena, &to[k].value);
        }
        e->data.pairs[i] = to;
    }
    return ok;
}

bool pw_slice_data_event(pw_root_t *root, pw_event_data_fn fn, const pw_event_data_t *data) {
    event_t *e = event_new(root, 0);
    if (e == NULL) {
        return false;
    }
    e->data_fn = fn;
    e->data = *data;
    if (!copy_data(e)) {
        event_free(e, root->vm->worker);
        return false;
    }
    e->held = e->arena.used; /* it is here already: what comes later may be refused */
    sl_ceiling_hold(root->vm->worker->limits.call_bytes, e->held);
    return event_run(e, true);
}

/* ---- streams ---- */

typedef struct op_s {
    struct op_s *next;
    pw_stream_t *stream;
    pw_op_kind_t kind;
    pw_dir_t dir;
    bool eos;
    pw_verdict_t verdict;
    pw_out_t out;
    sl_str_t input; /* of a body */
    char bytes[];
} op_t;

struct pw_slices_s {
    op_t *first, *last; /* to be done */
    op_t *running;
    pw_job_t *job;   /* of the running one */
    bool in_run;     /* its first slice runs below us */
    op_t *result[2]; /* done, and not fetched yet */
    op_t *told[2];   /* fetched; what it gave out may point into it */
    bool resume[2];  /* wanted meanwhile */
    bool abort;      /* likewise: pw_stream_abort_request */
    bool ended;      /* the proxy has freed the stream */
};

pw_slices_t *pw_slices_new(void) {
    return calloc(1, sizeof(pw_slices_t));
}

void pw_slices_free(pw_slices_t *sl) {
    if (sl == NULL) {
        return;
    }
    for (op_t *op = sl->first, *next; op != NULL; op = next) {
        next = op->next;
        free(op);
    }
    for (int dir = 0; dir < 2; dir++) {
        free(sl->result[dir]);
        free(sl->told[dir]);
    }
    free(sl);
}

static op_t *op_new(pw_stream_t *s, pw_op_kind_t kind, pw_dir_t dir, const sl_str_t *segs, size_t n, bool eos) {
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        len += segs[i].len;
    }
    op_t *op = malloc(sizeof(*op) + len);
    if (op == NULL) {
        return NULL;
    }
    *op = (op_t){.stream = s, .kind = kind, .dir = dir, .eos = eos};
    op->input = sl_str(op->bytes, len);
    len = 0;
    for (size_t i = 0; i < n; i++) {
        if (segs[i].len != 0) {
            memcpy(op->bytes + len, segs[i].data, segs[i].len);
        }
        len += segs[i].len;
    }
    return op;
}

static void op_act(op_t *op) {
    pw_stream_t *s = op->stream;
    switch (op->kind) {
    case PW_OP_HEADERS:
        op->verdict = pw_pipe_headers(s, op->dir, op->eos, &op->out);
        return;
    case PW_OP_BODY:
        op->verdict = pw_pipe_body(s, op->dir, &op->input, op->input.len != 0 ? 1 : 0, op->eos, &op->out);
        return;
    case PW_OP_TRAILERS:
        op->verdict = pw_pipe_trailers(s, op->dir, &op->out);
        return;
    case PW_OP_RESUME:
        op->verdict = pw_pipe_resume(s, op->dir, &op->out);
        return;
    case PW_OP_LOG:
        pw_stream_log_now(s);
        return;
    case PW_OP_FREE:
        pw_stream_free_now(s);
        return;
    }
}

static void next_op(pw_stream_t *s);

/* On the stack of its job; for one that took longer than its first slice, this is where others learn of it. */
static void op_run(void *arg) {
    op_t *op = arg;
    pw_stream_t *s = op->stream;
    pw_worker_t *w = s->worker;
    if (op->kind == PW_OP_FREE) { /* the stream is gone after it */
        op_act(op);
        free(op);
        return;
    }
    pw_slices_t *sl = s->slices;
    sl->job = w->job;
    op_act(op);
    sl->running = NULL;
    sl->job = NULL;
    if (sl->abort) {
        sl->abort = false;
        pw_pipe_abort_request(s);
    }
    if (sl->in_run) {
        return; /* its caller takes the outcome */
    }
    if (s->log_asked) {
        free(op);
    } else {
        if (op->out.input) { /* what it was given has gone meanwhile */
            op->out.input = false;
            op->out.data = op->input;
        }
        sl->result[op->dir] = op;
        w->ops->wake(s->host, op->dir);
    }
    next_op(s);
}

static sl_engine_t *engine_of(const pw_stream_t *s) {
    return sl_module_engine(s->chain->filters[0]->conf.module);
}

static bool may_run(const pw_slices_t *sl, const op_t *op) {
    return sl->running == NULL && (op->kind >= PW_OP_LOG || sl->result[op->dir] == NULL);
}

static void op_fail(op_t *op) {
    pw_stream_t *s = op->stream;
    s->failure = 500;
    op->verdict = PW_FAIL;
    op->out = (pw_out_t){0};
}

/* What has waited goes on from the event loop. */
static void next_op(pw_stream_t *s) {
    pw_slices_t *sl = s->slices;
    op_t *op = sl->first;
    if (op == NULL || !may_run(sl, op)) {
        for (int dir = 0; dir < 2 && op == NULL && !sl->ended; dir++) {
            if (sl->resume[dir] && sl->running == NULL && sl->result[dir] == NULL) {
                sl->resume[dir] = false;
                s->worker->ops->wake(s->host, (pw_dir_t)dir);
            }
        }
        return;
    }
    sl->first = op->next;
    sl->last = sl->first == NULL ? NULL : sl->last;
    sl->running = op;
    sl->in_run = false;
    pw_job_t *job = job_new(s->worker, engine_of(s), op_run, op);
    if (job != NULL) {
        sl->job = job;
        make_ready(job);
        return;
    }
    sl->running = NULL;
    if (op->kind == PW_OP_FREE) { /* on this stack, then: no VM that is busy is entered */
        op_act(op);
        free(op);
        return;
    }
    op_fail(op);
    if (op->kind == PW_OP_LOG) {
        free(op);
        next_op(s);
        return;
    }
    sl->result[op->dir] = op;
    s->worker->ops->wake(s->host, op->dir);
}

static void op_later(pw_slices_t *sl, op_t *op) {
    op->next = NULL;
    if (sl->last != NULL) {
        sl->last->next = op;
    } else {
        sl->first = op;
    }
    sl->last = op;
}

static pw_verdict_t fetch(pw_slices_t *sl, op_t *op, pw_out_t *out) {
    free(sl->told[op->dir]);
    sl->told[op->dir] = op;
    *out = op->out;
    return op->verdict;
}

/* The first slice, at once. */
static pw_verdict_t op_now(pw_stream_t *s, op_t *op, pw_out_t *out) {
    pw_slices_t *sl = s->slices;
    sl->running = op;
    sl->in_run = true;
    sl_status_t rc = pw_job_run(s->worker, engine_of(s), op_run, op);
    sl->in_run = false;
    if (rc == SL_AGAIN) {
        return PW_WAIT;
    }
    if (rc != SL_OK) {
        sl->running = NULL;
        op_fail(op);
    }
    return fetch(sl, op, out);
}

static bool idle(const pw_slices_t *sl) {
    return sl->running == NULL && sl->first == NULL;
}

pw_verdict_t pw_slices_do(pw_stream_t *s, pw_op_kind_t kind, pw_dir_t dir, const sl_str_t *segs, size_t n, bool eos, pw_out_t *out) {
    pw_slices_t *sl = s->slices;
    *out = (pw_out_t){0};
    if (kind == PW_OP_RESUME && sl->result[dir] != NULL) {
        op_t *op = sl->result[dir];
        sl->result[dir] = NULL;
        pw_verdict_t verdict = fetch(sl, op, out);
        if (sl->running == NULL) {
            next_op(s);
        }
        return verdict;
    }
    if (kind == PW_OP_RESUME && !idle(sl)) {
        sl->resume[dir] = true;
        return PW_WAIT;
    }
    op_t *op = op_new(s, kind, dir, segs, n, eos);
    if (op == NULL) {
        s->failure = 500;
        return PW_FAIL;
    }
    if (idle(sl) && sl->result[dir] == NULL) {
        return op_now(s, op, out);
    }
    op_later(sl, op);
    return PW_WAIT;
}

bool pw_slices_busy(const pw_stream_t *s, int dir) {
    const pw_slices_t *sl = s->slices;
    bool any = dir == PW_SLICES_ANY;
    if (sl->running != NULL && sl->running->kind < PW_OP_LOG && !sl->in_run && (any || sl->running->dir == (pw_dir_t)dir)) {
        return true;
    }
    for (const op_t *op = sl->first; op != NULL; op = op->next) {
        if (op->kind < PW_OP_LOG && (any || op->dir == (pw_dir_t)dir)) {
            return true;
        }
    }
    return any ? sl->result[0] != NULL || sl->result[1] != NULL : sl->result[dir] != NULL;
}

void pw_slices_abort_request(pw_stream_t *s) {
    if (s->slices->running != NULL) {
        s->slices->abort = true;
        return;
    }
    pw_pipe_abort_request(s);
}

/* ---- the end ---- */

/* Nobody wants the outcome of what has not begun. */
static void drop_waiting(pw_slices_t *sl) {
    op_t *kept = NULL;
    for (op_t *op = sl->first, *next; op != NULL; op = next) {
        next = op->next;
        if (op->kind == PW_OP_LOG) {
            op->next = NULL;
            kept = op;
        } else {
            free(op);
        }
    }
    sl->first = sl->last = kept;
}

/* Calls into instances that are this stream's own, and calls that wait for one, are ended; others run to their end. */
static bool may_be_ended(const pw_stream_t *s, const pw_job_t *job) {
    for (size_t i = 0; i < s->n; i++) {
        const pw_root_t *root = s->at[i].ctx.root;
        if (root != NULL && root->vm->busy == job && root->vm->pool == NULL) {
            return false;
        }
    }
    return true;
}

static void end_job(pw_stream_t *s) {
    pw_slices_t *sl = s->slices;
    pw_job_t *job = sl->job;
    if (job == NULL || !may_be_ended(s, job)) {
        return;
    }
    sl->in_run = true; /* nobody else hears of it */
    op_t *op = sl->running;
    job_end(job);
    sl->in_run = false;
    free(op);
}

void pw_slices_log(pw_stream_t *s) {
    pw_slices_t *sl = s->slices;
    if (s->logged || s->log_asked) {
        return;
    }
    s->log_asked = true;
    drop_waiting(sl);
    if (sl->running != NULL) {
        s->reset_new = true; /* no filter after the one that runs */
        end_job(s);
        s->reset_new = sl->running != NULL;
    }
    op_t *op = op_new(s, PW_OP_LOG, PW_DIR_REQUEST, NULL, 0, false);
    if (op == NULL) {
        return;
    }
    if (sl->running != NULL) {
        op_later(sl, op);
        return;
    }
    sl->running = op;
    sl->in_run = true;
    sl_status_t rc = pw_job_run(s->worker, engine_of(s), op_run, op);
    sl->in_run = false;
    if (rc == SL_AGAIN) {
        return;
    }
    sl->running = NULL;
    free(op);
}

void pw_slices_end(pw_stream_t *s) {
    pw_slices_t *sl = s->slices;
    pw_worker_t *w = s->worker;
    pw_slices_log(s);
    s->gone = true;
    sl->ended = true;
    pw_stream_release_calls(s);
    op_t *op = op_new(s, PW_OP_FREE, PW_DIR_REQUEST, NULL, 0, false);
    if (op == NULL) {
        return; /* leaking is better than a guest that calls for what is gone */
    }
    if (sl->running != NULL) {
        op_later(sl, op);
        return;
    }
    if (pw_job_run(w, engine_of(s), op_run, op) == SL_NO_MEMORY) {
        op_act(op);
        free(op);
    }
}
