#include "pw_internal.h"
#include "pw_slice.h"

#include <stdlib.h>

/* ---- root contexts ---- */

pw_root_t *pw_root_plugin(pw_root_t *root) {
    return root->pool == NULL ? root : root->filter->root;
}

pw_root_t *pw_root_ref(pw_root_t *root) {
    root->refs++;
    return root;
}

static void filter_free(pw_filter_t *filter) {
    pw_pool_free(filter->pool);
    sl_module_unref(filter->conf.module);
    sl_arena_deinit(&filter->arena);
    free(filter);
}

void pw_filter_root_gone(pw_filter_t *filter) {
    if (--filter->roots == 0 && filter->refs == 0) {
        filter_free(filter);
    }
}

void pw_root_unref(pw_root_t *root) {
    if (--root->refs == 0) {
        pw_root_unused(root);
    }
}

void pw_root_unused(pw_root_t *root) {
    if (root->pool != NULL) {
        pw_pool_give(root);
        return;
    }
    pw_vm_t *vm = root->vm;
    pw_filter_t *filter = root->filter;
    pw_root_stop(root);
    if (root->ctx.node.id != 0) {
        pw_id_map_remove(&vm->contexts, &root->ctx.node);
    }
    for (pw_root_t **p = &vm->roots; *p != NULL; p = &(*p)->next) {
        if (*p == root) {
            *p = root->next;
            vm->n_roots--;
            break;
        }
    }
    pw_root_forget_queues(root);
    pw_root_forget_declared(root);
    pw_root_forget_exprs(root);
    pw_root_forget_redis(root);
    free(root);
    pw_vm_release(vm);
    pw_filter_root_gone(filter);
}

void pw_root_stop(pw_root_t *root) {
    if (root->gone) {
        return;
    }
    const pw_worker_t *w = root->vm->worker;
    root->gone = true;
    if (root->pool != NULL) { /* the host knows it only from its calls */
        pw_root_cancel_calls(root);
        return;
    }
    w->ops->tick_set(w->host, root, &root->timer, 0);
    pw_root_cancel_calls(root);
    if (w->ops->root_gone != NULL) {
        w->ops->root_gone(w->host, root);
    }
}

/* id 0: a new one. */
static bool announce(pw_vm_t *vm, pw_ctx_t *ctx, uint32_t id) {
    ctx->node.id = id;
    return id != 0 ? pw_id_map_add(&vm->contexts, &ctx->node) : pw_vm_announce(vm, ctx) == SL_OK;
}

static pw_root_t *root_new(pw_filter_t *filter, pw_vm_t *vm, uint32_t id) {
    pw_root_t *root = calloc(1, sizeof(*root));
    if (root == NULL || !announce(vm, &root->ctx, id)) {
        free(root);
        return NULL;
    }
    root->ctx.root = root;
    root->vm = vm;
    root->filter = filter;
    root->refs = 1;
    root->status_message = SL_STR("");
    root->next = vm->roots;
    vm->roots = root;
    vm->n_roots++;
    filter->roots++;
    return root;
}

/* A callback of the start; absent counts as "yes". */
static sl_status_t start_step(pw_root_t *root, pw_cb_t cb, uint32_t arg, bool answers, sl_err_t *err) {
    if (!pw_vm_has(root->vm, cb)) {
        return SL_OK;
    }
    sl_raw_t args[2] = {{.u32 = root->ctx.node.id}, {.u32 = arg}};
    sl_status_t rc = pw_vm_call(root->vm, &root->ctx, cb, args, err);
    if (rc != SL_OK) {
        sl_err_prefix(err, "%s trapped: ", pw_cb_name(cb));
        return rc;
    }
    if (answers && args[0].u32 == 0) {
        return sl_err_set(err, SL_INVALID, "%s refused; see what the filter logged before", pw_cb_name(cb));
    }
    return SL_OK;
}

sl_status_t pw_root_run(pw_root_t *root, sl_err_t *err) {
    const pw_filter_conf_t *conf = &root->filter->conf;
    sl_status_t rc = start_step(root, PW_CB_CONTEXT_CREATE, 0, false, err);
    if (rc == SL_OK) {
        rc = start_step(root, PW_CB_VM_START, (uint32_t)conf->vm_config.len, true, err);
    }
    return rc == SL_OK ? start_step(root, PW_CB_CONFIGURE, (uint32_t)conf->config.len, true, err) : rc;
}

/* A new image for the requests to come; those that run keep what they have. */
static sl_status_t isolate(pw_root_t *root, sl_err_t *err) {
    pw_filter_t *filter = root->filter;
    pw_pool_t *pool;
    if (filter->conf.opts.isolation != SL_ISOLATION_REQUEST) {
        return SL_OK;
    }
    sl_status_t rc = pw_pool_new(root, &pool, err);
    if (rc == SL_OK) {
        pw_pool_free(filter->pool);
        filter->pool = pool;
    }
    return rc;
}

/* Memory that it took is not held against the VM. */
static sl_status_t run_new(pw_root_t *root, sl_err_t *err) {
    pw_vm_t *vm = root->vm;
    size_t before = vm->n_roots == 1 ? 0 : vm->instance->mem_size;
    sl_status_t rc = pw_root_run(root, err);
    if (rc == SL_OK) {
        vm->started_bytes += vm->instance->mem_size - before;
        pw_vm_count_memory(vm);
        rc = isolate(root, err);
    }
    return rc;
}

/* In the guest: started and configured, or brought back as it was after that. */
static sl_status_t enter_guest(pw_root_t *root, pw_root_t *old, sl_err_t *err) {
    if (old == NULL) {
        return run_new(root, err);
    }
    pw_number_add(root->filter->numbers, PW_N_RESET, 1);
    return pw_saved_adopt(root, old, err);
}

/*
 * A filter that has started once is started again between requests of others, who wait meanwhile: it has its budget of a callback and four
 * times what it took before, not the seconds of a first start.
 */
uint32_t pw_filter_start_budget_ms(const pw_filter_t *filter) {
    const sl_filter_opts_t *opts = &filter->conf.opts;
    if (filter->start_cpu_ns == 0 || opts->cpu_budget_ms == 0) {
        return opts->start_budget_ms;
    }
    uint64_t ms = opts->cpu_budget_ms + 4 * filter->start_cpu_ns / 1000000u;
    return opts->start_budget_ms != 0 && opts->start_budget_ms < ms ? opts->start_budget_ms : (uint32_t)ms;
}

static void note_start(pw_filter_t *filter, uint64_t since_ns) {
    uint64_t took = sl_watch_cpu_ns() - since_ns;
    filter->start_cpu_ns = took > filter->start_cpu_ns ? took : filter->start_cpu_ns;
}

sl_status_t pw_root_start(pw_filter_t *filter, pw_root_t *old, pw_root_t **out, sl_err_t *err) {
    pw_vm_t *vm;
    uint64_t cpu_ns = sl_watch_cpu_ns();
    filter->started_ns = filter->worker->ops->now_ns(filter->worker->host, true);
    sl_status_t rc = pw_vm_get(filter, &vm, err);
    if (rc == SL_OK) {
        uint32_t id = old != NULL ? pw_saved_root_id(vm, filter) : 0;
        pw_root_t *root = root_new(filter, vm, id);
        if (root == NULL) {
            pw_vm_release(vm);
            rc = sl_err_set(err, SL_NO_MEMORY, "out of memory");
        } else {
            rc = enter_guest(root, id != 0 ? old : NULL, err);
            if (rc != SL_OK) {
                pw_saved_leave(vm, filter); /* the next attempt is another start */
                pw_root_unref(root);        /* without callbacks: a filter that refused expects none */
            }
        }
        *out = root;
    }
    if (rc == SL_OK) {
        note_start(filter, cpu_ns);
    } else {
        sl_err_prefix(err, "filter \"%.*s\": ", SL_FMT(filter->conf.name));
    }
    return rc;
}

/* The last callback; gives back the reference that stood for "alive". */
static void root_delete_now(pw_root_t *root) {
    if (pw_vm_has(root->vm, PW_CB_DELETE) && !root->vm->failed) {
        sl_raw_t args[1] = {{.u32 = root->ctx.node.id}};
        pw_vm_call(root->vm, &root->ctx, PW_CB_DELETE, args, NULL);
    }
    pw_root_unref(root);
}

static void root_delete(pw_root_t *root) {
    if (!root->vm->sliced || !pw_slice_root(root, root_delete_now)) {
        root_delete_now(root);
    }
}

/* on_done; 0 puts the end off until proxy_done. */
static void root_end_now(pw_root_t *root) {
    uint32_t done = 1;
    if (pw_vm_has(root->vm, PW_CB_DONE) && !root->vm->failed) {
        sl_raw_t args[1] = {{.u32 = root->ctx.node.id}};
        root->done_pending = true; /* it may call proxy_done from inside */
        done = pw_vm_call(root->vm, &root->ctx, PW_CB_DONE, args, NULL) == SL_OK ? args[0].u32 : 1;
    }
    if (root->finishing) {
        return;
    }
    root->done_pending = done == 0;
    if (done != 0) {
        root_delete_now(root);
    }
}

void pw_root_end(pw_root_t *root) {
    if (!root->vm->sliced || !pw_slice_root(root, root_end_now)) {
        root_end_now(root);
    }
}

void pw_worker_finish(pw_worker_t *worker) {
    while (worker->finishing != NULL) {
        pw_root_t *root = worker->finishing;
        worker->finishing = root->next_finishing;
        root_delete(root);
    }
}

/* Something else than its start comes in. */
static inline void use(pw_vm_t *vm) {
    if (__builtin_expect(!vm->used, 0)) {
        pw_saved_take(vm);
    }
}

typedef struct {
    pw_cb_t cb;
    uint32_t arg;
} event_args_t;

static void root_event_now(pw_root_t *root, const void *data) {
    pw_cb_t cb = ((const event_args_t *)data)->cb;
    uint32_t arg = ((const event_args_t *)data)->arg;
    pw_worker_t *worker = root->vm->worker;
    if (root->gone || root->vm->failed || !pw_vm_has(root->vm, cb)) {
        root->ticking = false;
        return;
    }
    pw_root_ref(root);
    use(root->vm);
    sl_raw_t args[2] = {{.u32 = root->ctx.node.id}, {.u32 = arg}};
    pw_vm_call(root->vm, &root->ctx, cb, args, NULL);
    root->ticking &= cb != PW_CB_TICK;
    pw_root_unref(root);
    pw_worker_settle(worker);
    pw_worker_trim(worker);
}

static void root_event(pw_root_t *root, pw_cb_t cb, uint32_t arg) {
    event_args_t args = {cb, arg};
    if (root->gone || root->vm->failed || !pw_vm_has(root->vm, cb)) {
        return;
    }
    if (!root->vm->sliced || !pw_slice_event(root, root_event_now, &args, sizeof(args))) {
        root_event_now(root, &args);
    }
}

void pw_root_tick(pw_root_t *root) {
    if (root->ticking) {
        return;
    }
    root->ticking = root->vm->sliced && !root->gone && !root->vm->failed && pw_vm_has(root->vm, PW_CB_TICK);
    root_event(root, PW_CB_TICK, 0);
}

void pw_root_queue_ready(pw_root_t *root, uint32_t queue) {
    root_event(root, PW_CB_QUEUE_READY, queue);
}

pw_filter_t *pw_root_filter(pw_root_t *root) {
    return root->filter;
}

/* ---- filters ---- */

static bool conf_copy(pw_filter_t *f, const pw_filter_conf_t *conf) {
    sl_arena_t *a = &f->arena;
    f->conf = *conf;
    f->conf.module = sl_module_ref(conf->module);
    f->conf.name = sl_arena_dup(a, conf->name);
    f->conf.vm_config = sl_arena_dup(a, conf->vm_config);
    f->conf.config = sl_arena_dup(a, conf->config);
    pw_pair_t *env = sl_arena_alloc(a, (conf->n_env + 1) * sizeof(*env));
    sl_filter_opts_complete(&f->conf.opts);
    bool ok = env != NULL && f->conf.name.data != NULL && f->conf.vm_config.data != NULL && f->conf.config.data != NULL &&
              sl_filter_opts_own(&f->conf.opts, a) == SL_OK;
    for (size_t i = 0; i < conf->n_env && ok; i++) {
        env[i] = (pw_pair_t){sl_arena_dup(a, conf->env[i].key), sl_arena_dup(a, conf->env[i].value)};
        ok = env[i].key.data != NULL && env[i].value.data != NULL;
    }
    f->conf.env = env;
    return ok;
}

/*
 * Of the idle callbacks those whose absence nobody can see. One for headers may be what has the context made, which the guest sees if its
 * on_context_create does something; in a body callback Continue lets go of headers, if they can be held without it.
 */
static uint32_t unneeded(const pw_filter_t *f, const pw_module_facts_t *facts) {
    static const pw_cb_t flow[2][3] = {{PW_CB_REQUEST_HEADERS, PW_CB_REQUEST_BODY, PW_CB_REQUEST_TRAILERS},
                                       {PW_CB_RESPONSE_HEADERS, PW_CB_RESPONSE_BODY, PW_CB_RESPONSE_TRAILERS}};
    const uint32_t ends = PW_CB_BIT(PW_CB_LOG) | PW_CB_BIT(PW_CB_DONE) | PW_CB_BIT(PW_CB_DELETE);
    uint32_t some = facts->callbacks & ~facts->idle, out = facts->idle & ends;
    bool any_time = (some & PW_CB_BIT(PW_CB_CONTEXT_CREATE)) == 0;
    for (size_t dir = 0; dir < 2; dir++) {
        uint32_t headers = PW_CB_BIT(flow[dir][0]), body = PW_CB_BIT(flow[dir][1]), trailers = PW_CB_BIT(flow[dir][2]);
        out |= any_time ? facts->idle & headers : 0;
        if (any_time || (some & headers) != 0) {
            out |= facts->idle & (f->stop_iteration ? trailers : body | trailers);
        }
    }
    return out;
}

static sl_status_t filter_facts(pw_filter_t *f, sl_err_t *err) {
    pw_module_facts_t facts;
    sl_status_t rc = pw_module_check(f->conf.module, &f->abi, err);
    if (rc == SL_OK) {
        rc = pw_module_facts(f->conf.module, &facts, err);
    }
    if (rc == SL_OK) {
        rc = pw_grants_parse(f->conf.opts.grants, &f->grants, err);
    }
    if (rc == SL_OK) {
        rc = pw_grants_check(&f->grants, f->conf.module, err);
    }
    if (rc != SL_OK) {
        sl_err_prefix(err, "filter \"%.*s\": ", SL_FMT(f->conf.name));
        return rc;
    }
    f->of_streams = (facts.callbacks & PW_CB_STREAM) != 0;
    /* Guests of 0.2.100 and later are written for Envoys that are configured so. */
    f->stop_iteration = f->conf.opts.headers_stop_iteration || (f->abi == PW_ABI_0_2_1 && facts.patch >= 100);
    f->callbacks = facts.callbacks & ~unneeded(f, &facts);
    return SL_OK;
}

/* Not started yet. */
static sl_status_t filter_make(pw_worker_t *worker, const pw_filter_conf_t *conf, pw_filter_t **out, sl_err_t *err) {
    pw_filter_t *f = calloc(1, sizeof(*f));
    *out = NULL;
    if (f == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "filter \"%.*s\": out of memory", SL_FMT(conf->name));
    }
    f->worker = worker;
    f->serial = ++worker->n_filters;
    f->refs = 1;
    f->start_cpu_ns = conf->start_cpu_ns;
    sl_arena_init(&f->arena, 1024, SIZE_MAX / 2);
    sl_status_t rc = conf_copy(f, conf) && pw_health_init(f) ? filter_facts(f, err) : sl_err_set(err, SL_NO_MEMORY, "out of memory");
    if (rc != SL_OK) {
        filter_free(f);
        return rc;
    }
    *out = f;
    return SL_OK;
}

sl_status_t pw_filter_new(pw_worker_t *worker, const pw_filter_conf_t *conf, pw_filter_t **out, sl_err_t *err) {
    pw_filter_t *f;
    sl_status_t rc = filter_make(worker, conf, &f, err);
    if (rc == SL_OK) {
        rc = pw_root_start(f, NULL, &f->root, err);
        pw_worker_settle(worker);
    }
    if (rc != SL_OK && f != NULL) {
        pw_number_add(f->numbers, PW_N_TRAPS_START, 1);
        filter_free(f);
    }
    *out = rc == SL_OK ? f : NULL;
    return rc;
}

/* ---- starting again ---- */

static void not_broken(pw_filter_t *filter) {
    pw_filter_t **p = &filter->worker->broken;
    while (*p != NULL && *p != filter) {
        p = &(*p)->next_broken;
    }
    if (*p != NULL) {
        *p = filter->next_broken;
    }
    filter->broken = false;
}

static void set_alarm(pw_worker_t *w, uint64_t now) {
    uint64_t first = UINT64_MAX;
    for (const pw_filter_t *f = w->broken; f != NULL; f = f->next_broken) {
        first = f->restart_ns < first ? f->restart_ns : first;
    }
    if (first != UINT64_MAX) {
        w->ops->alarm_set(w->host, first > now ? (uint32_t)((first - now) / 1000000 + 1) : 1);
    }
}

static void back_off(pw_filter_t *filter, uint64_t now) {
    bool steady = filter->backoff_ms == 0 || now - filter->started_ns >= PW_STEADY_NS;
    uint32_t twice = filter->backoff_ms < PW_BACKOFF_MAX_MS / 2 ? filter->backoff_ms * 2 : PW_BACKOFF_MAX_MS;
    filter->backoff_ms = steady ? PW_BACKOFF_MIN_MS : twice;
    filter->restart_ns = now + (uint64_t)filter->backoff_ms * 1000000;
    if (filter->breaker.state == PW_BREAKER_OPEN && filter->breaker.until_ns > filter->restart_ns) {
        filter->restart_ns = filter->breaker.until_ns;
    }
}

void pw_filter_broken(pw_filter_t *filter) {
    pw_worker_t *w = filter->worker;
    if (w->ops->alarm_set == NULL || filter->refs == 0) {
        return;
    }
    uint64_t now = w->ops->now_ns(w->host, true);
    back_off(filter, now);
    if (!filter->broken) {
        filter->broken = true;
        filter->next_broken = w->broken;
        w->broken = filter;
    }
    set_alarm(w, now);
}

/* One that is due, or NULL. Those that streams have started meanwhile leave. */
static pw_filter_t *next_due(pw_worker_t *w, uint64_t now) {
    for (pw_filter_t *f = w->broken, *next; f != NULL; f = next) {
        next = f->next_broken;
        if (f->root != NULL && !f->root->vm->failed) {
            not_broken(f);
        } else if (f->restart_ns <= now) {
            return f;
        }
    }
    return NULL;
}

void pw_worker_alarm(pw_worker_t *w) {
    uint64_t now = w->ops->now_ns(w->host, true);
    for (pw_filter_t *f = next_due(w, now); f != NULL; f = next_due(w, now)) {
        not_broken(f);
        if (pw_filter_root(f) == NULL) {
            f->started_ns = now;
            pw_filter_broken(f);
        }
    }
    set_alarm(w, now);
    pw_worker_settle(w);
}

/* From now on a second goes by before the next attempt, however long this one took. */
static void did_not_start(pw_filter_t *filter) {
    const pw_worker_t *w = filter->worker;
    filter->root = NULL;
    filter->retry_ns = w->ops->now_ns(w->host, true) + PW_RESTART_NS;
    pw_health_failed(filter, PW_N_TRAPS_START);
}

sl_status_t pw_filter_new_anyway(pw_worker_t *worker, const pw_filter_conf_t *conf, pw_filter_t **out, sl_err_t *err) {
    sl_status_t rc = filter_make(worker, conf, out, err);
    if (rc != SL_OK) {
        return rc;
    }
    pw_filter_t *f = *out;
    rc = pw_root_start(f, NULL, &f->root, err);
    if (rc != SL_OK) {
        did_not_start(f);
        pw_filter_broken(f);
    }
    pw_worker_settle(worker);
    return rc;
}

/* ---- references ---- */

pw_filter_t *pw_filter_ref(pw_filter_t *filter) {
    filter->refs++;
    return filter;
}

void pw_filter_unref(pw_filter_t *filter) {
    if (filter == NULL || --filter->refs != 0) {
        return;
    }
    pw_worker_t *worker = filter->worker;
    pw_root_t *root = filter->root;
    not_broken(filter);
    filter->root = NULL;
    pw_health_forget(filter);
    if (root != NULL) {
        pw_saved_leave(root->vm, filter);
        pw_root_end(root); /* the filter's struct goes with its last root */
    } else if (filter->roots == 0) {
        filter_free(filter);
    }
    pw_worker_settle(worker);
}

sl_str_t pw_filter_name(const pw_filter_t *filter) {
    return filter->conf.name;
}

sl_dialect_t pw_filter_dialect(const pw_filter_t *filter) {
    return (sl_dialect_t)filter->conf.opts.dialect;
}

static pw_root_t *restart(pw_filter_t *filter) {
    pw_worker_t *w = filter->worker;
    uint64_t now = w->ops->now_ns(w->host, true);
    pw_root_t *old = filter->root;
    sl_err_t err;
    if (now < filter->retry_ns) {
        return NULL;
    }
    filter->root = NULL;
    sl_status_t rc = pw_root_start(filter, old, &filter->root, &err);
    if (old != NULL) { /* until here it has held its VM, and the instance in it */
        pw_root_unref(old);
    }
    if (rc != SL_OK) {
        did_not_start(filter);
        pw_log_filter(w, NULL, filter->conf.name, 0, PW_LOG_ERROR, "could not be started again, next try in a second: %s", err.text);
        return NULL;
    }
    pw_number_add(filter->numbers, PW_N_RESTARTED, 1);
    return filter->root;
}

pw_root_t *pw_filter_root(pw_filter_t *filter) {
    pw_root_t *old = filter->root;
    if (__builtin_expect(old != NULL && !old->vm->failed, 1)) {
        return old;
    }
    return restart(filter);
}

pw_root_t *pw_filter_enter_slowly(pw_filter_t *filter) {
    pw_root_t *root = pw_filter_root(filter);
    if (filter->pool != NULL) { /* requests go on while the plugin's own instance cannot be started */
        return pw_pool_take(filter);
    }
    if (root == NULL) {
        return NULL;
    }
    use(root->vm);
    return pw_root_ref(root);
}
