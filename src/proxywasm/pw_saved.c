/*
 * Recovery by reset. Before anything but the start has run in a plugin's instance, an image of it is put aside; after a trap the instance
 * is brought back to it instead of being made, started and configured again:
 *
 *   start, configure --> first stream or event: saved --> trap: the VM has failed, keeps its instance
 *                                                            |
 *                     a new VM, with the instance, its image and the roots that are in it <-- the next stream, or the alarm
 *
 * The failed VM goes with its last stream, as ever: contexts that were in it are gone. While nothing traps, the image is a file that nobody
 * reads: the instance's memory is its own, not a mapping of it.
 *
 * What the guest has done to the proxy while it was started is done again from what was noted: its timer, the queues that it listens to,
 * its metrics' handles, expressions, declared properties, Redis clusters. An instance that waits for answers to calls as the image would be
 * taken has none, since nobody would tell it the answers again; nor has one of a module that no image can hold.
 */
#include "pw_internal.h"

#include <stdlib.h>

/* A root context that is in the image. */
typedef struct {
    uint64_t serial; /* of its filter */
    uint32_t id;
    uint32_t tick_ms;
    uint32_t status;
    uint32_t last_expr;
    bool back; /* since the last reset */
} saved_root_t;

struct pw_saved_s {
    sl_image_t *image;
    bool told; /* sluice_on_reset, since the last reset */
    pw_metric_handle_t *metrics;
    uint32_t n_metrics;
    uint32_t n_roots;
    saved_root_t roots[];
};

void pw_saved_free(pw_saved_t *saved) {
    if (saved != NULL) {
        sl_image_unref(saved->image);
        free(saved->metrics);
        free(saved);
    }
}

/* ---- queues that were registered during the start ---- */

typedef struct pw_queue_s {
    struct pw_queue_s *next;
    uint32_t id;
    size_t len;
    char name[];
} pw_queue_t;

void pw_root_note_queue(pw_root_t *root, sl_str_t name, uint32_t id) {
    for (const pw_queue_t *q = root->queues; q != NULL; q = q->next) {
        if (q->id == id) {
            return;
        }
    }
    pw_queue_t *q = root->vm->used ? NULL : malloc(sizeof(*q) + name.len);
    if (q == NULL) {
        root->vm->used = true; /* not saved any more */
        return;
    }
    *q = (pw_queue_t){.next = root->queues, .id = id, .len = name.len};
    memcpy(q->name, name.data, name.len);
    root->queues = q;
}

void pw_root_forget_queues(pw_root_t *root) {
    while (root->queues != NULL) {
        pw_queue_t *q = root->queues;
        root->queues = q->next;
        free(q);
    }
}

/* Under the ids that the guest knows. */
static bool listen_again(pw_root_t *root) {
    const pw_worker_t *w = root->vm->worker;
    for (const pw_queue_t *q = root->queues; q != NULL; q = q->next) {
        uint32_t id = 0;
        if (w->ops->queue_register(w->host, root->vm->vm_id, sl_str(q->name, q->len), root, &id) != SL_OK || id != q->id) {
            return false;
        }
    }
    return true;
}

/* ---- putting aside ---- */

static bool keep_metrics(pw_saved_t *saved, const pw_vm_t *vm) {
    saved->n_metrics = vm->n_metrics;
    saved->metrics = malloc((vm->n_metrics + 1) * sizeof(*saved->metrics));
    if (saved->metrics != NULL && vm->n_metrics != 0) {
        memcpy(saved->metrics, vm->metrics, vm->n_metrics * sizeof(*saved->metrics));
    }
    return saved->metrics != NULL;
}

static bool keep_roots(pw_saved_t *saved, const pw_vm_t *vm) {
    for (const pw_root_t *root = vm->roots; root != NULL; root = root->next) {
        if (root->n_calls != 0) {
            return false;
        }
        if (root->filter->root == root) { /* those that are ending have no use for it */
            saved->roots[saved->n_roots++] = (saved_root_t){.serial = root->filter->serial,
                                                            .id = root->ctx.node.id,
                                                            .tick_ms = root->tick_ms,
                                                            .last_expr = pw_root_last_expr(root),
                                                            .status = root->status,
                                                            .back = true};
        }
    }
    return saved->n_roots != 0;
}

/* A filter that isolates requests has one already, which is the same if nothing came in since. */
static sl_status_t image_of(const pw_vm_t *vm, sl_image_t **out) {
    const pw_pool_t *pool = vm->owner != NULL ? vm->owner->pool : NULL;
    sl_err_t err;
    if (pool != NULL && pw_pool_image(pool) != NULL && vm->next_token == 0) {
        *out = sl_image_ref(pw_pool_image(pool));
        return SL_OK;
    }
    if (vm->instance->mem_size > PW_SAVED_BYTES_MAX) {
        return SL_INVALID;
    }
    return sl_image_take(vm->instance, vm->worker->limits.image_folder, out, &err);
}

void pw_saved_take(pw_vm_t *vm) {
    vm->used = true;
    if (vm->failed || vm->depth != 0 || vm->busy != NULL || sl_module_info(vm->module)->no_image != NULL) {
        return;
    }
    pw_saved_t *saved = calloc(1, sizeof(*saved) + vm->n_roots * sizeof(saved->roots[0]));
    if (saved == NULL) {
        return;
    }
    if (keep_roots(saved, vm) && keep_metrics(saved, vm) && image_of(vm, &saved->image) == SL_OK) {
        vm->saved = saved;
    } else {
        pw_saved_free(saved);
    }
}

static saved_root_t *find_root(const pw_vm_t *vm, const pw_filter_t *filter) {
    pw_saved_t *saved = vm->saved;
    for (uint32_t i = 0; saved != NULL && i < saved->n_roots; i++) {
        if (saved->roots[i].serial == filter->serial) {
            return &saved->roots[i];
        }
    }
    return NULL;
}

void pw_saved_leave(pw_vm_t *vm, const pw_filter_t *filter) {
    if (find_root(vm, filter) != NULL) { /* the guest would have a context that nobody ends */
        pw_saved_free(vm->saved);
        vm->saved = NULL;
    }
}

/* ---- bringing back ---- */

sl_status_t pw_saved_reset(pw_vm_t *vm) {
    pw_saved_t *saved = vm->saved;
    pw_metric_handle_t *metrics = malloc((saved->n_metrics + 1) * sizeof(*metrics));
    if (metrics == NULL || sl_instance_reload(vm->instance, saved->image) != SL_OK) {
        free(metrics);
        return SL_FAILED;
    }
    if (saved->n_metrics != 0) {
        memcpy(metrics, saved->metrics, saved->n_metrics * sizeof(*metrics));
    }
    free(vm->metrics);
    vm->metrics = metrics;
    vm->n_metrics = vm->cap_metrics = saved->n_metrics;
    saved->told = false;
    for (uint32_t i = 0; i < saved->n_roots; i++) {
        saved->roots[i].back = false;
    }
    return SL_OK;
}

/* What is kept for the root on this side; `old` has no more use for it. */
static void move_lists(pw_root_t *root, pw_root_t *old) {
    root->queues = old->queues;
    root->declared = old->declared;
    root->n_declared = old->n_declared;
    root->exprs = old->exprs;
    root->redis = old->redis;
    root->n_redis = old->n_redis;
    old->queues = NULL;
    old->declared = NULL;
    old->exprs = NULL;
    old->redis = NULL;
    old->n_declared = old->n_redis = 0;
}

uint32_t pw_saved_root_id(const pw_vm_t *vm, const pw_filter_t *filter) {
    const saved_root_t *s = find_root(vm, filter);
    return s != NULL && !s->back ? s->id : 0;
}

sl_status_t pw_saved_adopt(pw_root_t *root, pw_root_t *old, sl_err_t *err) {
    pw_vm_t *vm = root->vm;
    const pw_worker_t *w = vm->worker;
    saved_root_t *s = find_root(vm, root->filter);
    s->back = true;
    move_lists(root, old);
    pw_root_forget_exprs_after(root, s->last_expr);
    root->status = s->status;
    root->tick_ms = s->tick_ms;
    if (!listen_again(root)) {
        return sl_err_set(err, SL_FAILED, "the queues that it listens to are not what they were");
    }
    if (s->tick_ms != 0) {
        w->ops->tick_set(w->host, root, &root->timer, s->tick_ms);
    }
    bool told = vm->saved->told;
    vm->saved->told = true;
    return vm->on_reset == NULL || told ? SL_OK : pw_vm_call_reset(vm, &root->ctx, err);
}
