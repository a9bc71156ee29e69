#include "pw_internal.h"
#include "pw_slice.h"

#include <stdlib.h>

static void default_limits(pw_limits_t *l) {
    l->vm_memory_bytes = l->vm_memory_bytes != 0 ? l->vm_memory_bytes : (uint64_t)4 << 30;
    l->body_buffer_bytes = l->body_buffer_bytes != 0 ? l->body_buffer_bytes : (size_t)1 << 20;
    l->log_line_bytes = l->log_line_bytes != 0 ? l->log_line_bytes : 4096;
    l->property_bytes = l->property_bytes != 0 ? l->property_bytes : (size_t)64 << 10;
    l->instances_per_filter = l->instances_per_filter != 0 ? l->instances_per_filter : 1024;
    l->calls_per_stream = l->calls_per_stream != 0 ? l->calls_per_stream : 64;
}

pw_worker_t *pw_worker_new(const pw_host_ops_t *ops, void *host_worker, const pw_limits_t *limits) {
    pw_worker_t *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return NULL;
    }
    w->ops = ops;
    w->host = host_worker;
    w->limits = limits != NULL ? *limits : (pw_limits_t){0};
    default_limits(&w->limits);
    w->memory.limit = w->limits.worker_memory_bytes;
    sl_buf_init(&w->sizes, PW_MAP_BYTES_MAX);
    sl_buf_init(&w->bytes, PW_MAP_BYTES_MAX);
    sl_buf_init(&w->value, PW_MAP_BYTES_MAX);
    sl_buf_init(&w->line, w->limits.log_line_bytes + 1024);
    return w;
}

sl_dialect_t pw_worker_dialect(const pw_worker_t *worker) {
    return worker->dialect;
}

void pw_worker_free(pw_worker_t *w) {
    if (w == NULL) {
        return;
    }
    pw_jobs_end(w);
    pw_worker_settle(w);
    while (w->vms != NULL) { /* only roots that wait for proxy_done are left */
        pw_root_t *root = w->vms->roots;
        if (root == NULL) {
            pw_vm_release(w->vms);
            continue;
        }
        if (root->ended) {
            break; /* a stream still holds it, against the contract: leaking is better than a loop */
        }
        root->ended = true;
        root->done_pending = false;
        root->finishing = true;
        root->next_finishing = w->finishing;
        w->finishing = root;
        pw_worker_settle(w);
        while (pw_worker_run(w)) {
        }
    }
    pw_jobs_end(w);
    for (pw_stream_t *s = w->pool, *next; s != NULL; s = next) {
        next = s->next_pool;
        free(s);
    }
    sl_buf_deinit(&w->sizes);
    sl_buf_deinit(&w->bytes);
    sl_buf_deinit(&w->value);
    sl_buf_deinit(&w->line);
    sl_watch_free(w->watch);
    pw_numbers_free_all(w);
    pw_worker_forget_queues(w);
    free(w);
}

sl_status_t pw_worker_watch(pw_worker_t *w, sl_engine_t *engine, sl_err_t *err) {
    return w->watch != NULL ? SL_OK : sl_watch_new(engine, &w->watch, err);
}

void *pw_worker_host(const pw_worker_t *w) {
    return w->host;
}

sl_memory_t pw_worker_memory(const pw_worker_t *w) {
    return w->memory;
}

pw_stats_t pw_worker_stats(const pw_worker_t *w) {
    return w->stats;
}
