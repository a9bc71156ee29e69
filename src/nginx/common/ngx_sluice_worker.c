/* Modules, their check in the master, and the worker's chains. */
#include "ngx_sluice.h"

#include <ngx_event.h>

#include <sys/stat.h>

#include "mh.h"
#include "ngx_sluice_state.h"
#include "sl_cache.h"
#include "sl_digest.h"
#include "sl_file.h"
#include "sl_parallel.h"
#include "sl_watch.h"

#define MODULE_BYTES_MAX (512u << 20)

static uint64_t now_ns(void *worker, bool monotonic) {
    struct timespec ts;

    (void)clock_gettime(monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static sl_status_t random_bytes(void *worker, void *out, size_t len) {
    return sl_random(out, len);
}

/* Without a stream; the http adapter puts its own in front. */
static void worker_log(void *worker, void *stream, uint32_t level, sl_str_t line) {
    ngx_sluice_log_line(ngx_cycle->log, level, line);
}

static uint32_t worker_log_level(void *worker, void *stream) {
    return ngx_sluice_log_level(ngx_cycle->log);
}

/* ---- filters that run in slices ------------------------------------------------------------------------------------------------ */

static ngx_event_t slice_event;

static void slice_handler(ngx_event_t *event) {
    (void)pw_worker_run(event->data);
}

/* At the next turn of the event loop, which does not wait before it: what is ready on connections comes first. */
static void soon(void *worker) {
    ngx_sluice_conf_t *scf = worker;

    if (slice_event.posted) {
        return;
    }
    slice_event.handler = slice_handler;
    slice_event.data = scf->worker;
    slice_event.log = ngx_cycle->log;
    ngx_post_event(&slice_event, &ngx_posted_next_events);
}

static void slices_stop(void) {
    if (slice_event.posted) {
        ngx_delete_posted_event(&slice_event);
    }
}

pw_host_ops_t ngx_sluice_ops = {
    .now_ns = now_ns,
    .random = random_bytes,
    .log = worker_log,
    .log_level = worker_log_level,
    .tick_set = ngx_sluice_tick_set,
    .alarm_set = ngx_sluice_alarm_set,
    .soon = soon,
    .shared_get = ngx_sluice_shared_get,
    .shared_set = ngx_sluice_shared_set,
    .queue_register = ngx_sluice_queue_register,
    .queue_resolve = ngx_sluice_queue_resolve,
    .queue_push = ngx_sluice_queue_push,
    .queue_pop = ngx_sluice_queue_pop,
    .root_gone = ngx_sluice_root_gone,
    .metric_define = ngx_sluice_metric_define,
    .metric_add = ngx_sluice_metric_add,
    .metric_record = ngx_sluice_metric_record,
    .metric_get = ngx_sluice_metric_get,
    .number = ngx_sluice_number,
    .memory = ngx_sluice_memory,
    .trap_dump = ngx_sluice_trap_dump,
    .guest_was_long = ngx_sluice_guest_was_long,
};

/* ---- engine and modules ------------------------------------------------------------------------------------------------------ */

static void cache_note(void *ud, const char *text) {
    ngx_sluice_conf_t *scf = ud;

    ngx_log_error(NGX_LOG_NOTICE, scf->cycle->log, 0, "[wasm] %s", text);
}

sl_cache_t *ngx_sluice_cache(const ngx_sluice_conf_t *scf, const char *folder, void (*log)(void *ud, const char *text), void *ud) {
    sl_cache_limits_t lim = {.max_bytes = (uint64_t)scf->cache_size, .max_age_s = (uint64_t)scf->cache_age};
    sl_cache_t *cache = sl_cache_new(folder, log, ud);

    if (cache != NULL) {
        sl_cache_limit(cache, &lim);
    }
    return cache;
}

sl_engine_t *ngx_sluice_engine(ngx_sluice_conf_t *scf) {
    sl_engine_conf_t conf = {.name = NULL, .backtraces = scf->backtraces == 1};
    sl_err_t err;

    if (scf->engine != NULL) {
        return scf->engine;
    }
    if (sl_engine_new(&conf, &scf->engine, &err) != SL_OK) {
        ngx_log_error(NGX_LOG_EMERG, scf->cycle->log, 0, "failed initializing wasm VM: %s", err.text);
        scf->engine = NULL;
        return NULL;
    }
    if (scf->cache_dir.len != 0) {
        scf->cache = ngx_sluice_cache(scf, (char *)scf->cache_dir.data, cache_note, scf);
    }
    ngx_log_error(NGX_LOG_INFO, scf->cycle->log, 0, "[wasm] using %s", sl_engine_name(scf->engine));
    return scf->engine;
}

/* Beside the configuration; where there is no such file, as nginx itself would open it. */
static const char *module_path(ngx_sluice_conf_t *scf, const ngx_sluice_wasm_t *wasm) {
    ngx_str_t path = wasm->path;
    struct stat st;

    if (ngx_conf_full_name(scf->cycle, &path, 1) == NGX_OK && stat((char *)path.data, &st) == 0) {
        return (char *)path.data;
    }
    return (char *)wasm->path.data;
}

/* One of those that are read and compiled at the same time. */
typedef struct {
    ngx_sluice_conf_t *scf;
    const char *path;
    sl_module_t *module;
    sl_status_t read, compiled;
    sl_err_t err;
    ngx_msec_t took_ms;
} load_t;

static ngx_msec_t monotonic_ms(void) {
    return (ngx_msec_t)(now_ns(NULL, true) / 1000000);
}

/* On any thread: nothing of nginx is touched. */
static void load_one(void *ud, size_t i) {
    load_t *l = (load_t *)ud + i;
    ngx_msec_t begin = monotonic_ms();
    sl_module_t *module;
    sl_buf_t bytes;

    sl_buf_init(&bytes, MODULE_BYTES_MAX);
    l->read = sl_file_read(l->path, &bytes, &l->err);
    l->compiled = l->read == SL_OK ? sl_module_get(l->scf->engine, l->scf->cache, sl_buf_str(&bytes), &module, &l->err) : l->read;
    l->module = l->compiled == SL_OK ? module : NULL;
    sl_buf_deinit(&bytes);
    l->took_ms = monotonic_ms() - begin;
}

/* The module is the configuration's from here on. */
static ngx_int_t accept_module(ngx_sluice_conf_t *scf, ngx_sluice_wasm_t *wasm, const load_t *l) {
    pw_abi_version_t version;
    sl_err_t err;

    if (l->read != SL_OK) {
        ngx_log_error(NGX_LOG_EMERG, scf->cycle->log, 0, "[wasm] failed reading \"%V\" module: %s", &wasm->name, l->err.text);
        return NGX_ERROR;
    }
    if (l->compiled != SL_OK) {
        ngx_log_error(NGX_LOG_EMERG, scf->cycle->log, 0, "[wasm] failed loading \"%V\" module bytes: %s", &wasm->name, l->err.text);
        return NGX_ERROR;
    }
    if (pw_module_check(wasm->module, &version, &err) != SL_OK) {
        ngx_log_error(NGX_LOG_EMERG, scf->cycle->log, 0, "[proxy-wasm] failed loading \"%V\" filter: %s", &wasm->name, err.text);
        return NGX_ERROR;
    }
    ngx_log_error(NGX_LOG_INFO, scf->cycle->log, 0, "[wasm] successfully loaded \"%V\" module in %Mms", &wasm->name, l->took_ms);
    return NGX_OK;
}

static ngx_int_t find_module(ngx_sluice_conf_t *scf, const ngx_sluice_wasm_t *wasm, load_t *l) {
    struct stat st;

    l->scf = scf;
    l->path = module_path(scf, wasm);
    if (stat(l->path, &st) != 0) {
        ngx_log_error(NGX_LOG_EMERG, scf->cycle->log, ngx_errno, "[wasm] open() \"%s\" failed", l->path);
        return NGX_ERROR;
    }
    return NGX_OK;
}

static ngx_int_t load_all(ngx_sluice_conf_t *scf, load_t *loads) {
    ngx_sluice_wasm_t *wasm = scf->modules.elts;
    ngx_int_t rc = NGX_OK;

    for (ngx_uint_t i = 0; i < scf->modules.nelts; i++) {
        if (find_module(scf, &wasm[i], &loads[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    sl_parallel(scf->modules.nelts, 0, load_one, loads);
    for (ngx_uint_t i = 0; i < scf->modules.nelts; i++) {
        wasm[i].module = loads[i].module;
        rc = rc == NGX_OK ? accept_module(scf, &wasm[i], &loads[i]) : rc;
    }
    if (rc == NGX_OK && scf->cache != NULL) {
        sl_cache_prune(scf->cache);
    }
    return rc;
}

static ngx_int_t load_modules(ngx_sluice_conf_t *scf) {
    load_t *loads = calloc(scf->modules.nelts, sizeof(load_t));
    ngx_int_t rc = loads != NULL ? load_all(scf, loads) : NGX_ERROR;

    free(loads);
    return rc;
}

/* ---- filters ----------------------------------------------------------------------------------------------------------------- */

static pw_filter_conf_t filter_conf(ngx_sluice_conf_t *scf, const ngx_sluice_chain_t *chain, ngx_uint_t i) {
    ngx_sluice_filter_t *filter = (ngx_sluice_filter_t *)chain->filters->elts + i;
    ngx_sluice_wasm_t *wasm = (ngx_sluice_wasm_t *)scf->modules.elts + filter->wasm;
    sl_filter_opts_t opts = filter->opts;

    sl_filter_opts_inherit(&opts, &chain->settings.opts);
    return (pw_filter_conf_t){
        .name = ngx_sluice_str(&wasm->name),
        .vm_config = ngx_sluice_str(&wasm->config),
        .config = ngx_sluice_str(&filter->config),
        .module = wasm->module,
        .opts = opts,
        .start_cpu_ns = filter->start_cpu_ns,
    };
}

static void canary_log(void *ud, uint32_t level, sl_str_t line) {
    ngx_sluice_conf_t *scf = ud;

    if (level >= ngx_sluice_log_level(scf->cycle->log)) {
        ngx_sluice_log_line(scf->cycle->log, level, line);
    }
}

static pw_limits_t limits(const ngx_sluice_conf_t *scf) {
    return (pw_limits_t){.vm_memory_bytes = scf->vm_memory_limit,
                         .worker_memory_bytes = scf->worker_memory_limit,
                         .trap_dumps = scf->dumps_dir.len != 0,
                         .image_folder = scf->image_dir};
}

static ngx_int_t try_chain(ngx_sluice_conf_t *scf, const ngx_sluice_chain_t *chain) {
    pw_limits_t lim = limits(scf);
    sl_err_t err;

    for (ngx_uint_t i = 0; i < chain->filters->nelts; i++) {
        pw_filter_conf_t conf = filter_conf(scf, chain, i);
        ngx_sluice_filter_t *filter = (ngx_sluice_filter_t *)chain->filters->elts + i;
        uint64_t begin_ns = sl_watch_cpu_ns();
        lim.image_folder = NULL; /* the folder is the workers' */
        lim.trap_dumps = false;
        if (mh_canary(&conf, &lim, canary_log, scf, &err) != SL_OK) {
            ngx_log_error(NGX_LOG_EMERG, scf->cycle->log, 0, "[proxy-wasm] failed initializing \"%V\" filter in %s:%ui", &filter->name,
                          filter->file, filter->line);
            ngx_sluice_log_error(NGX_LOG_EMERG, scf->cycle->log, err.text);
            return NGX_ERROR;
        }
        filter->start_cpu_ns = sl_watch_cpu_ns() - begin_ns;
    }
    return NGX_OK;
}

ngx_int_t ngx_sluice_check(ngx_sluice_conf_t *scf) {
    ngx_sluice_chain_t **chains = scf->chains.elts;

    if (scf->modules.nelts == 0) {
        return NGX_OK;
    }
    if (ngx_sluice_engine(scf) == NULL) {
        return NGX_ERROR;
    }
    if (load_modules(scf) != NGX_OK) {
        return NGX_ERROR;
    }
    for (ngx_uint_t i = 0; i < scf->chains.nelts; i++) {
        if (try_chain(scf, chains[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

/* ---- worker -------------------------------------------------------------------------------------------------------------------- */

pw_worker_t *ngx_sluice_worker(ngx_sluice_conf_t *scf) {
    pw_limits_t lim = limits(scf);

    if (scf->worker == NULL) {
        ngx_sluice_state_start(scf);
        scf->call_bytes = (sl_ceiling_t){.max = scf->call_memory_limit, .changed = ngx_sluice_call_bytes_changed, .ud = scf};
        lim.call_bytes = &scf->call_bytes;
        scf->worker = pw_worker_new(&ngx_sluice_ops, scf, &lim);
        if (ngx_sluice_engine(scf) != NULL) {
            ngx_log_error(NGX_LOG_INFO, scf->cycle->log, 0, "[wasm] isolation of requests: written pages are found by %s",
                          sl_engine_dirty_name(scf->engine));
        }
    }
    return scf->worker;
}

/* It has started in the master. A worker that went without it would take everything else along, and nginx would not start another. */
static ngx_int_t start_filter(ngx_sluice_conf_t *scf, ngx_sluice_chain_t *chain, ngx_uint_t i, pw_filter_t **out) {
    pw_filter_conf_t conf = filter_conf(scf, chain, i);
    sl_err_t err;

    if (pw_filter_new_anyway(scf->worker, &conf, out, &err) == SL_OK) {
        return NGX_OK;
    }
    ngx_sluice_log_error(*out != NULL ? NGX_LOG_ERR : NGX_LOG_EMERG, scf->cycle->log, err.text);
    return *out != NULL ? NGX_OK : NGX_ERROR;
}

pw_chain_conf_t ngx_sluice_chain_conf(const ngx_sluice_settings_t *s) {
    return (pw_chain_conf_t){
        .reverse_response = s->reverse_response == 1,
        .request_body_bytes = s->request_body_limit,
        .response_body_bytes = s->response_body_limit,
        .pass_over_limit = s->pass_over_limit == 1,
    };
}

static ngx_int_t start_chain(ngx_sluice_conf_t *scf, ngx_sluice_chain_t *chain) {
    pw_chain_conf_t conf = ngx_sluice_chain_conf(&chain->settings);
    ngx_uint_t n = chain->filters->nelts, started;
    pw_filter_t **filters = ngx_alloc(n * sizeof(pw_filter_t *), scf->cycle->log);
    ngx_int_t rc = NGX_OK;

    if (filters == NULL) {
        return NGX_ERROR;
    }
    for (started = 0; started < n && rc == NGX_OK; started++) {
        rc = start_filter(scf, chain, started, &filters[started]);
        if (rc != NGX_OK) {
            break;
        }
    }
    if (rc == NGX_OK) {
        chain->chain = pw_chain_new(scf->worker, filters, n, &conf);
        rc = chain->chain == NULL ? NGX_ERROR : NGX_OK;
    }
    while (started-- > 0) {
        pw_filter_unref(filters[started]); /* the chain holds its own references */
    }
    ngx_free(filters);
    return rc;
}

ngx_int_t ngx_sluice_start(ngx_sluice_conf_t *scf) {
    ngx_sluice_chain_t **chains = scf->chains.elts;

    if (scf->chains.nelts == 0) {
        return NGX_OK;
    }
    if (ngx_sluice_worker(scf) == NULL) {
        return NGX_ERROR;
    }
    for (ngx_uint_t i = 0; i < scf->chains.nelts; i++) {
        if (chains[i]->chain == NULL && start_chain(scf, chains[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

void ngx_sluice_stop(ngx_sluice_conf_t *scf) {
    ngx_sluice_chain_t **chains = scf->chains.elts;

    if (scf->worker == NULL) {
        return;
    }
    while (!ngx_queue_empty(&scf->streams)) {
        ngx_sluice_stream_close(ngx_queue_data(ngx_queue_head(&scf->streams), ngx_sluice_stream_t, queue));
    }
    for (ngx_uint_t i = 0; i < scf->chains.nelts; i++) {
        if (chains[i]->chain != NULL) {
            pw_chain_unref(chains[i]->chain);
            chains[i]->chain = NULL;
        }
    }
    pw_worker_free(scf->worker);
    slices_stop();
    scf->worker = NULL;
    ngx_sluice_alarm_set(scf, 0);
    ngx_sluice_state_stop(scf);
}

void ngx_sluice_release(ngx_sluice_conf_t *scf) {
    ngx_sluice_wasm_t *wasm = scf->modules.elts;

    for (ngx_uint_t i = 0; i < scf->modules.nelts; i++) {
        if (wasm[i].module != NULL) {
            sl_module_unref(wasm[i].module);
            wasm[i].module = NULL;
        }
    }
    if (scf->cache != NULL) {
        sl_cache_free(scf->cache);
        scf->cache = NULL;
    }
    if (scf->engine != NULL) {
        sl_engine_free(scf->engine);
        scf->engine = NULL;
    }
}

ngx_int_t ngx_sluice_stream_open(ngx_sluice_conf_t *scf, ngx_sluice_stream_t *stream, pw_chain_t *chain, void *host_stream) {
    stream->pw = pw_stream_new(scf->worker, chain, host_stream);
    if (stream->pw == NULL) {
        return NGX_ERROR;
    }
    ngx_queue_insert_tail(&scf->streams, &stream->queue);
    return NGX_OK;
}

void ngx_sluice_stream_close(ngx_sluice_stream_t *stream) {
    pw_stream_t *pw = stream->pw;

    if (pw == NULL) {
        return;
    }
    ngx_queue_remove(&stream->queue);
    stream->pw = NULL;
    pw_stream_free(pw);
}
