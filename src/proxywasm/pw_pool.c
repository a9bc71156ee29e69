/*
 * Isolation of requests. A filter that asks for it has one long-lived instance, the plugin's, where ticks, queues and configure run, and a
 * pool of instances for requests, each as the plugin's was right after on_configure:
 *
 *   filter -> root (plugin)            its own VM, in the worker's list
 *          -> pool -> image            taken after on_configure
 *                  -> idle: VM + root  restored to the image, ready
 *   stream's context -> root -> VM      one of these, until the stream and the calls made in it are over
 *
 * The root context of such an instance has the plugin's id, because that is what the guest's memory says. The proxy knows it only as
 * the receiver of answers to calls; it has no timer and no queues, those of the plugin are meant.
 *
 * A module whose state is more than an image holds (it writes to tables) gets a fresh instance for each request. Its configure runs again
 * each time, and what it does to the proxy has been done already: see pw_vm_t.quiet.
 */
#include "pw_dump.h"
#include "pw_internal.h"

#include <stdlib.h>

/* Instances that wait for a request; more are let go. */
enum { IDLE_MAX = 64 };

struct pw_pool_s {
    pw_worker_t *worker;
    sl_image_t *image; /* NULL: a fresh instance each time */
    uint32_t refs;     /* the filter, and instances that are in use */
    uint32_t n_idle;
    pw_root_t *idle; /* linked by next */
    uint32_t root_id;
    uint32_t next_ctx; /* contexts of requests that overlap have different ids, for the log's sake */
    pw_metric_handle_t *metrics;
    uint32_t n_metrics;
};

/* ---- one instance ---- */

static bool copy_metrics(const pw_pool_t *pool, pw_vm_t *vm) {
    if (pool->n_metrics == 0) {
        return true;
    }
    vm->metrics = malloc(pool->n_metrics * sizeof(*vm->metrics));
    if (vm->metrics == NULL) {
        return false;
    }
    memcpy(vm->metrics, pool->metrics, pool->n_metrics * sizeof(*vm->metrics));
    vm->n_metrics = vm->cap_metrics = pool->n_metrics;
    return true;
}

static void instance_free(pw_root_t *root) {
    pw_vm_t *vm = root->vm;
    pw_root_forget_declared(root);
    pw_root_forget_exprs(root);
    pw_root_forget_redis(root);
    free(root);
    pw_vm_free(vm);
}

/* The guest's start, as for the plugin, where there is no image to begin with. */
static sl_status_t start_fresh(pw_root_t *root, sl_err_t *err) {
    root->vm->quiet = true;
    sl_status_t rc = pw_root_run(root, err);
    root->vm->quiet = false;
    return rc;
}

static sl_status_t make(pw_filter_t *filter, pw_pool_t *pool, pw_root_t **out, sl_err_t *err) {
    pw_root_t *root = calloc(1, sizeof(*root));
    pw_vm_t *vm = NULL;
    sl_status_t rc = root != NULL ? pw_vm_new(filter, pool->image, &vm, err) : sl_err_set(err, SL_NO_MEMORY, "out of memory");
    if (rc != SL_OK) {
        free(root);
        return rc;
    }
    vm->pool = pool;
    vm->roots = root;
    vm->n_roots = 1;
    root->vm = vm;
    root->filter = filter;
    root->pool = pool;
    root->refs = 1;
    root->ctx.root = root;
    root->ctx.node.id = pool->root_id;
    root->status_message = SL_STR("");
    rc = pw_id_map_add(&vm->contexts, &root->ctx.node) && (pool->image == NULL || copy_metrics(pool, vm))
             ? SL_OK
             : sl_err_set(err, SL_NO_MEMORY, "out of memory");
    if (rc == SL_OK && pool->image == NULL) {
        rc = start_fresh(root, err);
    }
    if (rc != SL_OK) {
        instance_free(root);
        return rc;
    }
    pool->worker->stats.instances_created++;
    *out = root;
    return SL_OK;
}

/* Nothing that a request did is left: what the guest knows, and what the host keeps for it. */
static bool restore(pw_root_t *root) {
    pw_vm_t *vm = root->vm;
    if (root->pool->image == NULL || sl_instance_restore(vm->instance, root->pool->image) != SL_OK) {
        return false;
    }
    vm->failed = vm->trapped = vm->exited = false;
    vm->n_metrics = root->pool->n_metrics;
    if (vm->trace != NULL) {
        vm->trace->n = 0;
    }
    sl_buf_reset(&vm->std[0]);
    sl_buf_reset(&vm->std[1]);
    root->gone = root->done_pending = false;
    root->status = 0;
    root->status_message = SL_STR("");
    pw_root_forget_declared(root);
    pw_root_forget_exprs(root);
    pw_root_forget_redis(root);
    memset(root->remote_closed, 0, sizeof(root->remote_closed));
    return true;
}

/* ---- the pool ---- */

static void idle_free(pw_pool_t *pool) {
    for (pw_root_t *root = pool->idle, *next; root != NULL; root = next) {
        next = root->next;
        instance_free(root);
    }
    pool->idle = NULL;
    pool->n_idle = 0;
}

static void pool_unref(pw_pool_t *pool) {
    if (--pool->refs != 0) {
        return;
    }
    idle_free(pool);
    sl_image_unref(pool->image);
    free(pool->metrics);
    free(pool);
}

static bool keep_metrics(pw_pool_t *pool, const pw_vm_t *vm) {
    pool->metrics = malloc((vm->n_metrics + 1) * sizeof(*pool->metrics));
    if (pool->metrics == NULL) {
        return false;
    }
    if (vm->n_metrics != 0) {
        memcpy(pool->metrics, vm->metrics, vm->n_metrics * sizeof(*pool->metrics));
    }
    pool->n_metrics = vm->n_metrics;
    return true;
}

sl_status_t pw_pool_new(pw_root_t *plugin, pw_pool_t **out, sl_err_t *err) {
    pw_vm_t *vm = plugin->vm;
    pw_pool_t *pool = calloc(1, sizeof(*pool));
    if (pool == NULL || !keep_metrics(pool, vm)) {
        free(pool);
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    pool->worker = vm->worker;
    pool->refs = 1;
    pool->root_id = plugin->ctx.node.id;
    pool->next_ctx = vm->next_ctx;
    sl_status_t rc = sl_image_take(vm->instance, vm->worker->limits.image_folder, &pool->image, err);
    if (rc == SL_INVALID) { /* it has none, by what it is */
        pw_log_filter(vm->worker, NULL, plugin->filter->conf.name, 0, PW_LOG_WARN,
                      "isolation \"request\" starts a new instance for each request, which is slow: %s", err->text);
        rc = SL_OK;
    }
    if (rc != SL_OK) {
        pool_unref(pool);
        return rc;
    }
    *out = pool;
    return SL_OK;
}

void pw_pool_free(pw_pool_t *pool) {
    if (pool != NULL) {
        pool_unref(pool);
    }
}

uint32_t *pw_pool_next_ctx(pw_pool_t *pool) {
    return &pool->next_ctx;
}

sl_image_t *pw_pool_image(const pw_pool_t *pool) {
    return pool->image;
}

void pw_pool_forget_image(pw_pool_t *pool) {
    idle_free(pool);
    sl_image_unref(pool->image);
    pool->image = NULL;
}

/* The guest may draw new random seeds: those of its start are the same in every request. */
static bool tell_reset(pw_root_t *root) {
    pw_vm_t *vm = root->vm;
    sl_err_t err;
    if (vm->on_reset == NULL || pw_vm_call_reset(vm, &root->ctx, &err) == SL_OK) {
        return true;
    }
    return false;
}

static void log_no_instance(pw_filter_t *filter, const char *why) {
    pw_worker_t *w = filter->worker;
    uint64_t now = w->ops->now_ns(w->host, true);
    if (filter->no_instance_ns == 0 || now - filter->no_instance_ns >= PW_RESTART_NS) {
        filter->no_instance_ns = now;
        pw_log_filter(w, NULL, filter->conf.name, 0, PW_LOG_ERROR, "no instance for a request: %s", why);
    }
}

pw_root_t *pw_pool_take(pw_filter_t *filter) {
    pw_pool_t *pool = filter->pool;
    pw_root_t *root = pool->idle;
    sl_status_t rc;
    sl_err_t err;
    if (root != NULL) {
        pool->idle = root->next;
        pool->n_idle--;
        root->next = NULL;
        root->refs = 1;
    } else if (filter->n_instances >= pool->worker->limits.instances_per_filter) {
        log_no_instance(filter, "too many requests at once are in it");
        return NULL;
    } else if ((rc = make(filter, pool, &root, &err)) != SL_OK) {
        if (rc != SL_NO_MEMORY) { /* which is no fault of this filter */
            pw_health_failed(filter, PW_N_TRAPS_START);
        }
        log_no_instance(filter, err.text);
        return NULL;
    }
    pool->refs++;
    filter->roots++;
    filter->n_instances++;
    if (!tell_reset(root)) {
        pw_root_unref(root);
        return NULL;
    }
    return root;
}

void pw_pool_give(pw_root_t *root) {
    pw_pool_t *pool = root->pool;
    pw_filter_t *filter = root->filter;
    pw_worker_t *w = pool->worker;
    bool wanted = filter->pool == pool && filter->refs != 0 && pool->n_idle < IDLE_MAX;
    if (wanted && restore(root)) {
        w->stats.instances_restored++;
        root->next = pool->idle;
        pool->idle = root;
        pool->n_idle++;
    } else {
        w->stats.instances_dropped++;
        instance_free(root);
    }
    pool_unref(pool);
    filter->n_instances--;
    pw_filter_root_gone(filter);
}
