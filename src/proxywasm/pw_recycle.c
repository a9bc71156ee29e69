/*
 * Instances over their memory_recycle: linear memory never shrinks, so one that grew for a single request is replaced by a fresh one when
 * nothing is in flight in it. Each of its filters is started in the new instance as at the beginning; the root context in the old one
 * gets on_done and on_delete after that. A filter that does not start keeps what it has.
 */
#include "pw_internal.h"

/* Only what its filters hold themselves: no streams, calls, events that run, ends that wait for proxy_done. */
static bool is_idle(const pw_vm_t *vm) {
    for (const pw_root_t *root = vm->roots; root != NULL; root = root->next) {
        if (root->refs != 1 || root->n_calls != 0 || root->done_pending || root->finishing || root->filter->root != root) {
            return false;
        }
    }
    return !vm->failed && vm->depth == 0 && vm->busy == NULL && vm->waiting.n == 0 && vm->contexts.n == vm->n_roots;
}

static pw_vm_t *find_due(const pw_worker_t *w, uint64_t now) {
    pw_vm_t *vm = w->vms;
    while (vm != NULL && !(vm->large && vm->recycle_ns <= now && is_idle(vm))) {
        vm = vm->next;
    }
    return vm;
}

static void move(pw_root_t *old) {
    pw_filter_t *filter = old->filter;
    pw_root_t *fresh;
    sl_err_t err;
    if (pw_root_start(filter, NULL, &fresh, &err) != SL_OK) {
        pw_log_filter(filter->worker, NULL, filter->conf.name, 0, PW_LOG_WARN, "its large instance is kept, a fresh one does not start: %s",
                      err.text);
        return;
    }
    filter->root = fresh;
    pw_number_add(filter->numbers, PW_N_RECYCLED, 1);
    pw_root_end(old);
}

/* Those that have moved are no longer their filter's; the others are left for the next attempt. */
static uint32_t move_all(pw_vm_t *vm) {
    uint32_t stay = 0;
    for (pw_root_t *root = vm->roots, *next; root != NULL; root = next) {
        pw_filter_t *filter = root->filter;
        next = root->next;
        move(root);
        stay += filter->root == root;
    }
    return stay;
}

static void recycle(pw_vm_t *vm, uint64_t now) {
    pw_worker_t *w = vm->worker;
    pw_log_filter(w, NULL, vm->starter, 0, PW_LOG_INFO, "its instance has %zu bytes of memory and memory_recycle is %llu: it is replaced",
                  vm->instance->mem_size, (unsigned long long)vm->recycle_bytes);
    vm->retired = true;
    vm->recycle_ns = now + PW_RECYCLE_FAILED_NS;
    vm->n_roots++; /* it stays while we look at it */
    uint32_t stay = move_all(vm);
    vm->n_roots--;
    vm->retired = stay == 0 || stay != vm->n_roots;
    pw_vm_count_memory(vm);
    pw_vm_release(vm);
}

void pw_recycle(pw_worker_t *w) {
    uint64_t now = w->ops->now_ns(w->host, true);
    for (pw_vm_t *vm = find_due(w, now); vm != NULL; vm = find_due(w, now)) {
        recycle(vm, now);
    }
    pw_worker_settle(w);
}
