#include "pw_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "pw_dump.h"
#include "pw_slice.h"
#include "pw_table.h"

/* ---- ids ---- */

static bool id_map_grow(pw_id_map_t *map) {
    uint32_t n = map->n_buckets != 0 ? map->n_buckets * 2 : 64;
    pw_id_node_t **buckets = calloc(n, sizeof(*buckets));
    if (buckets == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < map->n_buckets; i++) {
        for (pw_id_node_t *node = map->buckets[i], *next; node != NULL; node = next) {
            next = node->next;
            node->next = buckets[node->id & (n - 1)];
            buckets[node->id & (n - 1)] = node;
        }
    }
    free(map->buckets);
    map->buckets = buckets;
    map->n_buckets = n;
    return true;
}

bool pw_id_map_add(pw_id_map_t *map, pw_id_node_t *node) {
    bool full = map->n >= map->n_buckets && map->n_buckets < (1u << 30);
    if (full && !id_map_grow(map) && map->n_buckets == 0) {
        return false; /* a table that cannot grow goes on with longer chains */
    }
    pw_id_map_put(map, pw_id_map_bucket(map, node->id), node);
    return true;
}

pw_id_node_t *pw_id_map_find(const pw_id_map_t *map, uint32_t id) {
    if (map->n_buckets == 0) {
        return NULL;
    }
    pw_id_node_t *node = *pw_id_map_bucket(map, id);
    while (node != NULL && node->id != id) {
        node = node->next;
    }
    return node;
}

void pw_id_map_deinit(pw_id_map_t *map) {
    free(map->buckets);
    *map = (pw_id_map_t){0};
}

sl_status_t pw_vm_announce_slowly(pw_vm_t *vm, pw_ctx_t *ctx) {
    uint32_t *next = vm->pool != NULL ? pw_pool_next_ctx(vm->pool) : &vm->next_ctx;
    do {
        ++*next;
    } while (*next == 0 || pw_id_map_find(&vm->contexts, *next) != NULL);
    ctx->node.id = *next;
    if (!pw_id_map_add(&vm->contexts, &ctx->node)) {
        ctx->node.id = 0;
        return SL_NO_MEMORY;
    }
    return SL_OK;
}

/* ---- grants ---- */

void pw_grant_denied(pw_vm_t *vm, pw_grant_t grant, sl_str_t name) {
    if (vm->current == NULL) {
        pw_log_filter(vm->worker, NULL, vm->starter, 0, PW_LOG_WARN, "is not granted \"%s\"", pw_grant_name(grant));
        return;
    }
    pw_filter_t *f = vm->current->root->filter;
    pw_number_add(f->numbers, PW_N_DENIED, 1);
    if ((f->denied & PW_G_BIT(grant)) == 0) {
        f->denied |= PW_G_BIT(grant);
        pw_log_filter(vm->worker, NULL, f->conf.name, 0, PW_LOG_WARN, "is not granted \"%s%s%.*s\"; that is said once",
                      pw_grant_name(grant), name.len != 0 ? ":" : "", SL_FMT(name));
    }
}

bool pw_granted(pw_vm_t *vm, pw_grant_t grant, sl_str_t name) {
    const pw_grants_t *grants = &pw_vm_ctx(vm)->root->filter->grants;
    if (__builtin_expect((grants->named & PW_G_BIT(grant)) == 0 && (grants->granted & PW_G_BIT(grant)) != 0, 1)) {
        return true;
    }
    if (pw_grants_has(grants, grant, name)) {
        return true;
    }
    pw_grant_denied(vm, grant, name);
    return false;
}

/* ---- traps ---- */

uint64_t pw_vm_trap(pw_vm_t *vm, const char *fmt, ...) {
    char text[sizeof(vm->instance->trap)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    sl_instance_trap(vm->instance, "%s", text);
    vm->trapped = true;
    return 0;
}

uint64_t pw_vm_misuse(pw_vm_t *vm, pw_result_t status, const char *text) {
    if (pw_vm_dialect(vm) == SL_DIALECT_WASMX) {
        return pw_vm_trap(vm, "host trap (bad usage): %s", text);
    }
    return status;
}

bool pw_vm_go_on(pw_vm_t *vm) {
    if (vm == NULL || sl_instance_pause(vm->instance) == SL_OK) {
        return true;
    }
    vm->trapped = true;
    return false;
}

bool pw_vm_copy(pw_vm_t *vm, char *to, sl_str_t from) {
    size_t at = 0;
    for (; from.len - at > PW_STEP_BYTES; at += PW_STEP_BYTES) {
        memcpy(to + at, from.data + at, PW_STEP_BYTES);
        if (!pw_vm_go_on(vm)) {
            return false;
        }
    }
    if (at < from.len) {
        memcpy(to + at, from.data + at, from.len - at);
    }
    return true;
}

static void tell_memory(pw_worker_t *w) {
    const sl_memory_t *m = &w->memory;
    if (m->used != w->told_memory && w->ops->memory != NULL) {
        w->told_memory = m->used;
        w->ops->memory(w->host, m->used, m->peak, m->limit);
    }
}

/* The engine has refused it, mostly while the guest runs. */
static void memory_refused(sl_instance_t *instance, sl_refused_t by) {
    pw_vm_t *vm = instance->user;
    pw_worker_t *w = vm->worker;
    const pw_filter_t *filter = vm->current != NULL ? vm->current->root->filter : NULL;
    pw_numbers_t *numbers = filter != NULL ? filter->numbers : vm->numbers;
    uint64_t now = w->ops->now_ns(w->host, true);
    if (numbers != NULL) {
        pw_number_add(numbers, by == SL_REFUSED_TOGETHER ? PW_N_MEMORY_REFUSED_WORKER : PW_N_MEMORY_REFUSED, 1);
    }
    if (by == SL_REFUSED_TOGETHER && (w->memory_refused_ns == 0 || now - w->memory_refused_ns >= PW_RESTART_NS)) {
        w->memory_refused_ns = now;
        pw_log_filter(w, NULL, filter != NULL ? filter->conf.name : vm->starter, 0, PW_LOG_WARN,
                      "gets no more memory: filters of this worker have %llu of at most %llu bytes", (unsigned long long)w->memory.used,
                      (unsigned long long)w->memory.limit);
    }
}

static void watch_size(pw_vm_t *vm, size_t bytes) {
    bool large = vm->recycle_bytes != 0 && vm->pool == NULL && !vm->retired && bytes > vm->recycle_bytes && bytes > vm->started_bytes;
    vm->worker->n_large += (uint32_t)large - (uint32_t)vm->large;
    vm->large = large;
}

static void count_memory(pw_vm_t *vm, size_t bytes) {
    pw_numbers_t *n = vm->numbers;
    tell_memory(vm->worker);
    watch_size(vm, bytes);
    if (n == NULL) {
        return;
    }
    n->memory = n->memory - vm->counted + bytes;
    vm->counted = bytes;
    pw_number_set(n, PW_N_MEMORY, n->memory);
    if (n->memory > n->values[PW_N_MEMORY_PEAK]) {
        pw_number_set(n, PW_N_MEMORY_PEAK, n->memory);
    }
}

void pw_vm_count_memory(pw_vm_t *vm) {
    count_memory(vm, vm->instance != NULL ? vm->instance->mem_size : 0);
}

/* At its budget, or so near that a step of a guest's allocator would have gone over it. */
static bool is_full(pw_vm_t *vm) {
    sl_instance_refresh(vm->instance);
    count_memory(vm, vm->instance->mem_size);
    return vm->instance->mem_size >= vm->memory_budget - vm->memory_budget / 16;
}

static void drop_instance(pw_vm_t *vm) {
    sl_instance_free(vm->instance);
    vm->instance = NULL;
    vm->alloc = NULL;
    count_memory(vm, 0);
}

/* From here on nothing in it is called. Its streams are told, so that none waits for something that cannot come. */
static void vm_fail(pw_vm_t *vm) {
    if (vm->failed) {
        return;
    }
    vm->failed = true;
    vm->worker->stats.vms_failed++;
    for (pw_root_t *root = vm->roots; root != NULL; root = root->next) {
        pw_root_stop(root);
        if (root->filter->root == root) {
            pw_filter_broken(root->filter);
        }
    }
    for (uint32_t i = 0; i < vm->contexts.n_buckets; i++) {
        for (pw_id_node_t *node = vm->contexts.buckets[i]; node != NULL; node = node->next) {
            pw_ctx_t *ctx = (pw_ctx_t *)node;
            if (ctx->stream != NULL) {
                pw_stream_wake_failed(ctx->stream);
            }
        }
    }
    if (vm->pool == NULL && vm->saved == NULL) { /* else it is restored, when the request is over or somebody needs it */
        drop_instance(vm);
    }
}

static void log_trap(pw_vm_t *vm, const pw_ctx_t *ctx, const char *where, const char *text) {
    void *host_stream = ctx != NULL && ctx->stream != NULL && !ctx->stream->gone ? ctx->stream->host : NULL;
    sl_str_t filter = ctx != NULL ? ctx->root->filter->conf.name : vm->starter;
    pw_log_filter(vm->worker, host_stream, filter, ctx != NULL ? ctx->node.id : 0, PW_LOG_ERROR, "trap in %s: %s", where, text);
}

/* ---- calling ---- */

static inline bool starts(const pw_ctx_t *ctx, pw_cb_t cb) {
    const uint32_t of_roots =
        PW_CB_BIT(PW_CB_CONFIGURE) | PW_CB_BIT(PW_CB_VM_START) | PW_CB_BIT(PW_CB_VALIDATE) | PW_CB_BIT(PW_CB_CONTEXT_CREATE);
    return ctx->stream == NULL && (of_roots & PW_CB_BIT(cb)) != 0;
}

/* CPU time that a callback has; what starts a filter has a budget of its own. */
static inline uint32_t budget_ms(const pw_ctx_t *ctx, pw_cb_t cb) {
    const pw_filter_t *filter = ctx->root->filter;
    return __builtin_expect(starts(ctx, cb), 0) ? pw_filter_start_budget_ms(filter) : filter->conf.opts.cpu_budget_ms;
}

/* A call has ended with a trap. Whoever starts a filter counts it as a failed start. */
static void trapped(pw_vm_t *vm, const pw_ctx_t *ctx, const char *where, bool over_budget, bool start, const sl_err_t *err) {
    log_trap(vm, ctx, where, err->text);
    if (vm->trace != NULL) {
        pw_dump_trap(vm, ctx, where, err->text);
    }
    if (!start) {
        pw_health_failed(ctx->root->filter, over_budget ? PW_N_TRAPS_CPU : is_full(vm) ? PW_N_TRAPS_MEMORY : PW_N_TRAPS);
    }
    vm_fail(vm);
}

void pw_worker_held(const pw_worker_t *w, uint64_t cpu_ns) {
    if (w->ops->guest_was_long != NULL) {
        w->ops->guest_was_long(w->host, cpu_ns);
    }
}

static void was_long(const pw_worker_t *w) {
    atomic_store_explicit(&w->watch->ticked, false, memory_order_relaxed);
    pw_worker_held(w, sl_watch_call_ns(w->watch));
}

static inline void end_watch(const pw_worker_t *w) {
    sl_watch_t *watch = w->watch;
    sl_watch_end(watch);
    if (__builtin_expect(atomic_load_explicit(&watch->ticked, memory_order_relaxed), 0)) {
        was_long(w);
    }
}

/* ---- several callbacks in one entry ---- */

enum { SEQUENCE_MAX = 3 };
/* As in engine.h. */
static const pw_cb_t members[SL_SEQUENCES][SEQUENCE_MAX] = {
    [SL_SEQUENCE_REQUEST] = {PW_CB_CONTEXT_CREATE, PW_CB_REQUEST_HEADERS, PW_CB_N},
    [SL_SEQUENCE_RESPONSE] = {PW_CB_CONTEXT_CREATE, PW_CB_RESPONSE_HEADERS, PW_CB_N},
    [SL_SEQUENCE_END] = {PW_CB_LOG, PW_CB_DONE, PW_CB_DELETE},
    [SL_SEQUENCE_LEAVE] = {PW_CB_DONE, PW_CB_DELETE, PW_CB_N},
};

static pw_cb_t running_member(pw_vm_t *vm) {
    uint32_t part = sl_instance_part(vm->instance);
    return members[vm->sequence->which][part < SEQUENCE_MAX ? part : 0];
}

/* A host call comes from a callback that is not the last. */
static __attribute__((noinline, cold)) void sequence_stop(pw_vm_t *vm, pw_sequence_t *seq) {
    vm->running = running_member(vm);
    seq->stopped = true;
    seq->last = vm->running;
    sl_instance_stop(vm->instance);
    vm->sequences[seq->which].func = NULL;
}

void pw_vm_ask_sequence(pw_vm_t *vm) {
    pw_sequence_t *seq = vm->sequence;
    const pw_vm_sequence_t *all = &vm->sequences[seq->which];
    vm->during &= (uint8_t)~PW_DURING_SEQUENCE;
    if (__builtin_expect(sl_instance_part(vm->instance) != all->last_part, 0)) {
        sequence_stop(vm, seq);
        return;
    }
    vm->running = all->last;
    if (seq->running != NULL) {
        *seq->running = true;
    }
}

/* Which of its callbacks the guest has. */
static void sequence_resolve(pw_vm_t *vm, sl_sequence_t which) {
    pw_vm_sequence_t *seq = &vm->sequences[which];
    size_t n = 0;
    seq->func = sl_instance_sequence(vm->instance, which);
    for (size_t i = 0; i < SEQUENCE_MAX && members[which][i] != PW_CB_N; i++) {
        if (pw_vm_has(vm, members[which][i])) {
            seq->last = members[which][i];
            seq->last_part = (uint32_t)i;
            seq->more += n++ != 0;
        }
    }
}

/* Nothing of the VM runs: guests are not entered from inside of each other's host calls, and jobs have a VM for themselves. */
static inline void begin(pw_vm_t *vm, pw_ctx_t *ctx, pw_cb_t cb) {
    vm->worker->dialect = (sl_dialect_t)ctx->root->filter->conf.opts.dialect;
    vm->current = ctx;
    vm->running = cb;
    vm->depth++;
    vm->worker->stats.callbacks++;
}

static inline void end(pw_vm_t *vm) {
    vm->depth--;
    vm->current = NULL;
    vm->effective = NULL;
    vm->running = PW_CB_N;
    vm->worker->dialect = SL_DIALECT_ENVOY;
}

/* Before end(). */
static sl_status_t call_failed(pw_vm_t *vm, bool over_budget, const sl_err_t *err) {
    const pw_ctx_t *ctx = vm->current;
    pw_cb_t cb = vm->running;
    if (vm->sequence != NULL) {
        vm->sequence->last = cb = running_member(vm);
    }
    pw_log_std_flush(vm);
    end(vm);
    if (pw_slice_ending(vm->worker)) { /* nobody waits for it any more */
        vm_fail(vm);
    } else {
        trapped(vm, ctx, pw_cb_name(cb), over_budget, starts(ctx, cb), err);
    }
    return SL_TRAP;
}

static __attribute__((noinline, cold)) sl_status_t call_trapped(pw_vm_t *vm, const sl_err_t *err) {
    bool over_budget = sl_watch_expired(vm->worker->watch);
    end_watch(vm->worker);
    return call_failed(vm, over_budget, err);
}

static __attribute__((noinline, cold)) sl_status_t call_refused(sl_err_t *err) {
    sl_err_t own;
    return sl_err_set(err != NULL ? err : &own, SL_TRAP, "the filter's instance has trapped before");
}

/* What a guest that did well may have left behind. */
static inline bool left_something(const pw_vm_t *vm) {
    return (vm->std[0].len | vm->std[1].len | (vm->instance->mem_size ^ vm->counted)) != 0;
}

static __attribute__((noinline, cold)) void clean_up(pw_vm_t *vm) {
    pw_log_std_flush(vm);
    if (vm->instance->mem_size != vm->counted) {
        count_memory(vm, vm->instance->mem_size);
    }
}

static sl_status_t call_watched(pw_vm_t *vm, sl_func_t *func, sl_raw_t *args, uint32_t budget, bool *over_budget, sl_err_t *err) {
    sl_watch_begin(vm->worker->watch, budget);
    sl_status_t rc = sl_instance_call(vm->instance, func, args, err);
    *over_budget = sl_watch_expired(vm->worker->watch);
    end_watch(vm->worker);
    return rc;
}

/* Of a sliced VM, or while callbacks are timed. */
static __attribute__((noinline)) sl_status_t call_specially(pw_vm_t *vm, pw_ctx_t *ctx, pw_cb_t cb, sl_func_t *func, sl_raw_t *args,
                                                            sl_err_t *err) {
    pw_worker_t *w = vm->worker;
    sl_status_t rc = vm->sliced ? pw_slice_enter(vm, err) : SL_OK;
    if (rc != SL_OK) {
        return rc;
    }
    bool over_budget, timed = w->timed && ctx->stream != NULL;
    begin(vm, ctx, cb);
    uint64_t start = timed ? w->ops->now_ns(w->host, true) : 0;
    uint32_t budget = budget_ms(ctx, cb);
    rc = vm->sliced ? pw_slice_call(vm, func, args, budget, &over_budget, err) : call_watched(vm, func, args, budget, &over_budget, err);
    if (timed) {
        pw_position_t *at = &ctx->stream->at[ctx->position];
        at->spent_ns += w->ops->now_ns(w->host, true) - start;
        at->n_callbacks++;
    }
    if (rc == SL_OK) {
        clean_up(vm);
        end(vm);
    } else {
        rc = call_failed(vm, over_budget, err);
    }
    if (vm->sliced) {
        pw_slice_leave(vm);
    }
    return rc;
}

static inline __attribute__((always_inline)) sl_status_t call(pw_vm_t *vm, pw_ctx_t *ctx, pw_cb_t cb, sl_func_t *func, sl_raw_t *args,
                                                              sl_err_t *err) {
    sl_err_t own;
    if (__builtin_expect(vm->failed, 0)) {
        return call_refused(err);
    }
    err = err != NULL ? err : &own;
    if (__builtin_expect(vm->sliced || vm->worker->timed, 0)) {
        return call_specially(vm, ctx, cb, func, args, err);
    }
    begin(vm, ctx, cb);
    sl_watch_begin(vm->worker->watch, budget_ms(ctx, cb));
    sl_status_t rc = sl_instance_call(vm->instance, func, args, err);
    if (__builtin_expect(rc != SL_OK, 0)) {
        return call_trapped(vm, err);
    }
    end_watch(vm->worker);
    if (__builtin_expect(left_something(vm), 0)) {
        clean_up(vm);
    }
    end(vm);
    return SL_OK;
}

sl_status_t pw_vm_call(pw_vm_t *vm, pw_ctx_t *ctx, pw_cb_t cb, sl_raw_t *args, sl_err_t *err) {
    return call(vm, ctx, cb, vm->cb[cb], args, err);
}

sl_status_t pw_vm_call_sequence(pw_vm_t *vm, pw_ctx_t *ctx, pw_sequence_t *seq, sl_raw_t *args) {
    const pw_vm_sequence_t *all = &vm->sequences[seq->which];
    seq->last = all->last;
    seq->stopped = false;
    vm->sequence = seq;
    vm->during |= PW_DURING_SEQUENCE;
    sl_status_t rc = call(vm, ctx, members[seq->which][0], all->func, args, NULL);
    vm->during &= (uint8_t)~PW_DURING_SEQUENCE;
    vm->sequence = NULL;
    if (seq->running != NULL) {
        *seq->running = false;
    }
    if (__builtin_expect(rc == SL_OK && !seq->stopped, 1)) {
        vm->worker->stats.callbacks += all->more;
        if (__builtin_expect(vm->worker->timed, 0)) {
            ctx->stream->at[ctx->position].n_callbacks += all->more;
        }
    }
    return rc;
}

sl_status_t pw_vm_call_reset(pw_vm_t *vm, pw_ctx_t *ctx, sl_err_t *err) {
    sl_raw_t args[1] = {{.u64 = 0}};
    bool over_budget;
    vm->current = ctx;
    vm->depth++;
    sl_status_t rc = call_watched(vm, vm->on_reset, args, ctx->root->filter->conf.opts.cpu_budget_ms, &over_budget, err);
    vm->depth--;
    pw_log_std_flush(vm);
    vm->current = vm->effective = NULL;
    if (rc != SL_OK) {
        trapped(vm, ctx, "sluice_on_reset", over_budget, false, err);
        return SL_TRAP;
    }
    return SL_OK;
}

/* ---- starting ---- */

/* A start function ends well by returning, or by proc_exit(0) as TinyGo's _start does. */
static sl_status_t run_start(pw_vm_t *vm, const char *name, const char *sig, sl_err_t *err) {
    sl_func_t *func;
    sl_status_t rc = sl_instance_func(vm->instance, name, sig, &func, err);
    if (rc != SL_OK) {
        return rc;
    }
    sl_raw_t args[2] = {{.u64 = 0}, {.u64 = 0}};
    vm->exited = false;
    sl_watch_begin(vm->worker->watch, vm->start_budget_ms);
    rc = sl_instance_call(vm->instance, func, args, err);
    end_watch(vm->worker);
    pw_log_std_flush(vm);
    if (rc != SL_OK && vm->exited && vm->exit_code == 0) {
        vm->trapped = false;
        rc = SL_OK;
    }
    if (rc != SL_OK) {
        if (vm->trace != NULL) {
            pw_dump_trap(vm, NULL, name, err->text);
        }
        sl_err_prefix(err, "%s: ", name);
        return rc;
    }
    sl_instance_refresh(vm->instance);
    return SL_OK;
}

static sl_status_t run_start_functions(pw_vm_t *vm, sl_err_t *err) {
    const sl_module_t *m = vm->module;
    if (sl_module_export(m, "_initialize", SL_EXTERN_FUNC) == NULL) {
        return sl_module_export(m, "_start", SL_EXTERN_FUNC) != NULL ? run_start(vm, "_start", ":", err) : SL_OK;
    }
    sl_status_t rc = run_start(vm, "_initialize", ":", err);
    if (rc != SL_OK) {
        return rc;
    }
    const sl_extern_t *main_export = sl_module_export(m, "main", SL_EXTERN_FUNC);
    if (main_export != NULL && strcmp(main_export->sig, "ii:i") == 0) {
        return run_start(vm, "main", "ii:i", err);
    }
    const sl_extern_t *void_export = sl_module_export(m, "__main_void", SL_EXTERN_FUNC);
    return void_export != NULL && strcmp(void_export->sig, ":i") == 0 ? run_start(vm, "__main_void", ":i", err) : SL_OK;
}

static sl_status_t link_instance(pw_vm_t *vm, sl_image_t *image, sl_err_t *err) {
    const sl_module_info_t *info = sl_module_info(vm->module);
    sl_import_t *imports = calloc(info->n_imports + 1, sizeof(*imports));
    if (imports == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_status_t rc = SL_OK;
    for (size_t i = 0; i < info->n_imports && rc == SL_OK; i++) {
        const pw_hostcall_row_t *row = pw_hostcall_find(&info->imports[i], err);
        if (row == NULL) {
            rc = SL_INVALID;
        } else {
            imports[i] = row->import;
            imports[i].fn = vm->trace != NULL ? row->traced : row->import.fn;
        }
    }
    if (rc == SL_OK) {
        sl_instance_limits_t limits = {
            .max_memory_bytes = vm->memory_budget,
            .together = &vm->worker->memory,
            .refused = memory_refused,
            .watch = vm->worker->watch,
        };
        sl_instance_t *instance = NULL;
        sl_watch_begin(limits.watch, vm->start_budget_ms);
        rc = image != NULL ? sl_instance_from_image(image, imports, info->n_imports, &limits, vm, &instance, err)
                           : sl_instance_new(vm->module, imports, info->n_imports, &limits, vm, &instance, err);
        end_watch(vm->worker);
        vm->instance = rc == SL_OK ? instance : NULL; /* a start section that trapped has left a dead one */
    }
    free(imports);
    return rc;
}

static sl_status_t resolve(pw_vm_t *vm, const pw_module_facts_t *facts, sl_err_t *err) {
    const uint32_t of_contexts = PW_CB_BIT(PW_CB_CONTEXT_CREATE) | PW_CB_BIT(PW_CB_LOG) | PW_CB_BIT(PW_CB_DONE) | PW_CB_BIT(PW_CB_DELETE);
    sl_status_t rc = sl_instance_func(vm->instance, facts->alloc, "i:i", &vm->alloc, err);
    for (int cb = 0; cb < PW_CB_N && rc == SL_OK; cb++) {
        const char *sig;
        const char *name = pw_module_callback(vm->module, (pw_cb_t)cb, vm->abi, &sig);
        if (name != NULL && (facts->idle & of_contexts & PW_CB_BIT(cb)) == 0) {
            rc = sl_instance_func(vm->instance, name, sig, &vm->cb[cb], err);
        }
    }
    for (unsigned i = 0; i < SL_SEQUENCES && rc == SL_OK && !vm->sliced; i++) {
        sequence_resolve(vm, (sl_sequence_t)i);
    }
    const sl_extern_t *on_reset = sl_module_export(vm->module, "sluice_on_reset", SL_EXTERN_FUNC);
    if (rc == SL_OK && on_reset != NULL && strcmp(on_reset->sig, ":") == 0) {
        rc = sl_instance_func(vm->instance, "sluice_on_reset", ":", &vm->on_reset, err);
    }
    return rc;
}

static sl_status_t vm_start(pw_vm_t *vm, sl_image_t *image, sl_err_t *err) {
    pw_module_facts_t facts;
    sl_status_t rc = pw_module_facts(vm->module, &facts, err);
    rc = rc == SL_OK ? pw_worker_watch(vm->worker, sl_module_engine(vm->module), err) : rc;
    if (rc != SL_OK) {
        return rc;
    }
    vm->abi = facts.abi;
    vm->running = PW_CB_N;
    if (vm->worker->limits.trap_dumps && vm->worker->ops->trap_dump != NULL) {
        vm->trace = pw_trace_new();
        if (vm->trace == NULL) {
            return sl_err_set(err, SL_NO_MEMORY, "out of memory");
        }
    }
    vm->during = PW_DURING_START;
    rc = link_instance(vm, image, err);
    if (rc == SL_OK && image == NULL) {
        rc = run_start_functions(vm, err);
    }
    vm->during = 0;
    return rc == SL_OK ? resolve(vm, &facts, err) : rc;
}

/* ---- registry ---- */

static uint64_t memory_budget(const pw_worker_t *worker, const pw_filter_conf_t *conf) {
    uint64_t most = worker->limits.vm_memory_bytes;
    return conf->opts.memory_budget < most ? conf->opts.memory_budget : most;
}

/* A guest can act for any context of its instance (proxy_set_effective_context), so names must be the same for all of them, too. */
static sl_str_t named_grants(const pw_filter_t *filter) {
    return filter->grants.named != 0 ? filter->grants.list : SL_STR("");
}

static bool copy_key(pw_vm_t *vm, const pw_filter_t *filter) {
    const pw_filter_conf_t *conf = &filter->conf;
    vm->module = sl_module_ref(conf->module);
    vm->vm_id = sl_arena_dup(&vm->arena, conf->opts.vm_id);
    vm->config = sl_arena_dup(&vm->arena, conf->vm_config);
    vm->memory_budget = memory_budget(vm->worker, conf);
    vm->start_budget_ms = pw_filter_start_budget_ms(filter);
    vm->recycle_bytes = conf->opts.memory_recycle;
    vm->lacks = ~filter->grants.granted;
    vm->grants = sl_arena_dup(&vm->arena, named_grants(filter));
    vm->sliced = conf->opts.slice;
    vm->starter = sl_arena_dup(&vm->arena, conf->name);
    vm->env = sl_arena_alloc(&vm->arena, (conf->n_env + 1) * sizeof(*vm->env));
    bool ok = vm->vm_id.data != NULL && vm->config.data != NULL && vm->grants.data != NULL && vm->starter.data != NULL && vm->env != NULL;
    for (size_t i = 0; i < conf->n_env && ok; i++) {
        vm->env[i] = (pw_pair_t){sl_arena_dup(&vm->arena, conf->env[i].key), sl_arena_dup(&vm->arena, conf->env[i].value)};
        ok = vm->env[i].key.data != NULL && vm->env[i].value.data != NULL;
    }
    vm->n_env = conf->n_env;
    return ok;
}

static bool same_env(const pw_vm_t *vm, const pw_filter_conf_t *conf) {
    if (vm->n_env != conf->n_env) {
        return false;
    }
    for (size_t i = 0; i < vm->n_env; i++) {
        if (!sl_str_eq(vm->env[i].key, conf->env[i].key) || !sl_str_eq(vm->env[i].value, conf->env[i].value)) {
            return false;
        }
    }
    return true;
}

/* Only filters that share are in one VM. */
static const pw_filter_t *owner_of(const pw_filter_t *filter) {
    return filter->conf.opts.isolation == SL_ISOLATION_SHARED ? NULL : filter;
}

static bool fits(const pw_vm_t *vm, const pw_filter_t *filter) {
    const pw_filter_conf_t *conf = &filter->conf;
    return !vm->retired && vm->owner == owner_of(filter) && vm->lacks == ~filter->grants.granted && vm->sliced == conf->opts.slice &&
           vm->busy == NULL && /* on_configure does not wait */
           memcmp(sl_module_info(vm->module)->sha256, sl_module_info(conf->module)->sha256, 32) == 0 &&
           sl_str_eq(vm->vm_id, conf->opts.vm_id) && sl_str_eq(vm->config, conf->vm_config) &&
           sl_str_eq(vm->grants, named_grants(filter)) && vm->memory_budget == memory_budget(vm->worker, conf) &&
           vm->recycle_bytes == conf->opts.memory_recycle && same_env(vm, conf);
}

void pw_vm_free(pw_vm_t *vm) {
    for (pw_vm_t **p = &vm->worker->vms; *p != NULL; p = &(*p)->next) {
        if (*p == vm) {
            *p = vm->next;
            break;
        }
    }
    drop_instance(vm);
    pw_saved_free(vm->saved);
    pw_id_map_deinit(&vm->contexts);
    pw_id_map_deinit(&vm->calls);
    sl_buf_deinit(&vm->std[0]);
    sl_buf_deinit(&vm->std[1]);
    free(vm->metrics);
    free(vm->trace);
    sl_module_unref(vm->module);
    sl_arena_deinit(&vm->arena);
    free(vm);
}

void pw_vm_release(pw_vm_t *vm) {
    if (vm->n_roots == 0) {
        pw_vm_free(vm);
    }
}

/* One without an instance. NULL: no memory. */
static pw_vm_t *vm_alloc(const pw_filter_t *filter) {
    pw_vm_t *vm = calloc(1, sizeof(*vm));
    if (vm == NULL) {
        return NULL;
    }
    vm->worker = filter->worker;
    vm->owner = owner_of(filter);
    vm->numbers = filter->numbers;
    vm->recycle_ns = vm->worker->ops->now_ns(vm->worker->host, true) + PW_RECYCLE_NS;
    sl_arena_init(&vm->arena, 1024, SIZE_MAX / 2);
    sl_buf_init(&vm->std[0], vm->worker->limits.log_line_bytes);
    sl_buf_init(&vm->std[1], vm->worker->limits.log_line_bytes);
    if (!copy_key(vm, filter)) {
        pw_vm_free(vm);
        return NULL;
    }
    return vm;
}

sl_status_t pw_vm_new(pw_filter_t *filter, sl_image_t *image, pw_vm_t **out, sl_err_t *err) {
    pw_vm_t *vm = vm_alloc(filter);
    if (vm == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory while starting an instance");
    }
    sl_status_t rc = vm_start(vm, image, err);
    if (rc != SL_OK) {
        pw_vm_free(vm);
        return rc;
    }
    vm->worker->stats.vms_created += image == NULL;
    tell_memory(vm->worker);
    *out = vm;
    return SL_OK;
}

/* What has failed gives its instance, and what it was put aside as, to a new VM. NULL: it cannot be brought back. */
static pw_vm_t *bring_back(pw_vm_t *failed, const pw_filter_t *filter) {
    pw_vm_t *vm = vm_alloc(filter);
    if (vm == NULL) {
        return NULL;
    }
    count_memory(failed, 0);
    vm->instance = failed->instance;
    vm->instance->user = vm;
    vm->saved = failed->saved;
    vm->trace = failed->trace; /* its host functions write there */
    vm->started_bytes = failed->started_bytes;
    vm->used = true;
    vm->abi = failed->abi;
    vm->running = PW_CB_N;
    vm->next_ctx = failed->next_ctx;
    vm->next_token = failed->next_token;
    failed->instance = NULL;
    failed->alloc = NULL;
    failed->saved = NULL;
    failed->trace = NULL;
    if (vm->trace != NULL) {
        vm->trace->n = 0;
    }
    pw_module_facts_t facts;
    sl_err_t err;
    if (pw_saved_reset(vm) != SL_OK || pw_module_facts(vm->module, &facts, &err) != SL_OK || resolve(vm, &facts, &err) != SL_OK) {
        pw_vm_free(vm);
        return NULL;
    }
    count_memory(vm, vm->instance->mem_size);
    vm->worker->stats.vms_reset++;
    return vm;
}

static void add_vm(pw_vm_t *vm) {
    vm->next = vm->worker->vms;
    vm->worker->vms = vm;
}

sl_status_t pw_vm_get(pw_filter_t *filter, pw_vm_t **out, sl_err_t *err) {
    pw_vm_t *failed = NULL;
    for (pw_vm_t *vm = filter->worker->vms; vm != NULL; vm = vm->next) {
        if (!vm->failed && fits(vm, filter)) {
            *out = vm;
            return SL_OK;
        }
        if (vm->failed && vm->saved != NULL && vm->depth == 0 && fits(vm, filter)) {
            failed = vm;
        }
    }
    *out = failed != NULL ? bring_back(failed, filter) : NULL;
    sl_status_t rc = *out != NULL ? SL_OK : pw_vm_new(filter, NULL, out, err);
    if (rc == SL_OK) {
        add_vm(*out);
    }
    return rc;
}
