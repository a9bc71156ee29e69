/*
 * The store in a worker: handles for the threads of the pool "sluice", and the publisher.
 *
 *   a thread commits (revision R) --> its exchange waits until a plan of R or later is published and served by all workers
 *                                       |  every few milliseconds: not published? then it tries to be the publisher
 *   publisher: one over all workers (the loader's lock) --> a thread builds the plan of all that is committed --> tells the workers
 *
 * Who finds the lock taken comes again, and so does a poll once a second: of what died with a worker, or was written by another process
 * (`sluice config db_import`), nothing stays unseen.
 */
#include "ngx_http_sluice_gw.h"

#include <pthread.h>

#include "nd_publish.h"
#include "ngx_sluice.h"

#define MAX_IDLE 8
#define BUSY_TIMEOUT_MS 30000
#define POLL_MS 1000
#define KEEP_MS 60000
#define RETRY_MS 1000 /* after a plan could not be published */

typedef struct {
    nd_node_t node;
    ngx_http_sluice_gw_gen_t *gen; /* in service while the thread builds: what has not changed is taken from its plan; NULL: none */
    nd_publication_t p;
    sl_status_t rc;
    sl_err_t err;
} publication_t;

static struct {
    ngx_http_sluice_gw_main_conf_t *mcf;
    ngx_event_t poll;
    ngx_event_t keep;        /* set while a thread builds: a worker that is to end waits for timers, not for threads */
    ngx_thread_task_t *task; /* its ctx is a publication_t */
    unsigned publishing : 1;
    unsigned failed : 1;
    ngx_msec_t failed_at;
} gs;

/* Shared with the threads. */
static struct {
    pthread_mutex_t mutex;
    char path[4200];
    st_store_t *handles[MAX_IDLE];
    ngx_uint_t n;
} idle = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- handles -------------------------------------------------------------------------------------------------------- */

unsigned ngx_http_sluice_gw_has_store(void) {
    return gs.mcf != NULL;
}

sl_status_t ngx_http_sluice_gw_store_take(st_store_t **out, sl_err_t *err) {
    st_store_t *store = NULL;
    pthread_mutex_lock(&idle.mutex);
    if (idle.n != 0) {
        store = idle.handles[--idle.n];
    }
    pthread_mutex_unlock(&idle.mutex);
    if (store != NULL && st_store_moved(store)) { /* a backup was put in its place */
        st_store_close(store);
        store = NULL;
    }
    *out = store;
    /* Nothing is created here: an empty database in place of one that was moved away would take all routes away. */
    st_conf_t conf = {.path = idle.path, .busy_timeout_ms = BUSY_TIMEOUT_MS, .unchecked = true, .existing = true};
    return store != NULL ? SL_OK : st_store_open(&conf, out, err);
}

void ngx_http_sluice_gw_store_give(st_store_t *store, unsigned sound) {
    pthread_mutex_lock(&idle.mutex);
    if (sound && idle.n < MAX_IDLE) {
        idle.handles[idle.n++] = store;
        store = NULL;
    }
    pthread_mutex_unlock(&idle.mutex);
    st_store_close(store);
}

/* ---- publishing ------------------------------------------------------------------------------------------------------ */

static void publish_in_thread(void *data, ngx_log_t *log) {
    publication_t *p = data;
    st_store_t *store;
    (void)log;
    p->p.written = false;
    p->p.note.text[0] = '\0';
    p->p.shadow.text[0] = '\0';
    p->rc = ngx_http_sluice_gw_store_take(&store, &p->err);
    if (p->rc == SL_OK) {
        p->rc = nd_publish(&p->node, store, p->gen != NULL ? ngx_http_sluice_gw_gen_plan(p->gen) : NULL, &p->p, &p->err);
        ngx_http_sluice_gw_store_give(store, p->rc == SL_OK);
    }
}

static void keep_handler(ngx_event_t *ev) {
    ngx_add_timer(ev, KEEP_MS);
}

static void published(ngx_event_t *ev) {
    publication_t *p = gs.task->ctx;
    (void)ev;
    ngx_del_timer(&gs.keep);
    ngx_http_sluice_gw_gen_unref(p->gen);
    p->gen = NULL;
    unsigned known = gs.failed;
    gs.publishing = 0;
    gs.failed = p->rc != SL_OK;
    gs.failed_at = ngx_current_msec;
    if (gs.failed && !known) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "[sluice] the configuration in the store cannot be published, what is served stays: %s", p->err.text);
    }
    if (p->p.shadow.text[0] != '\0') {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0, "[sluice] %s", p->p.shadow.text);
    }
    if (p->p.note.text[0] != '\0') {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] %s", p->p.note.text);
    }
    ngx_http_sluice_gw_store_published(p->p.written ? p->p.generation : 0, p->p.revision);
}

void ngx_http_sluice_gw_publish(void) {
    ngx_str_t name = ngx_string("sluice");
    ngx_thread_pool_t *pool = ngx_thread_pool_get((ngx_cycle_t *)ngx_cycle, &name);
    if (gs.publishing || (gs.failed && ngx_current_msec - gs.failed_at < RETRY_MS) || pool == NULL ||
        ngx_http_sluice_gw_load_begin() != NGX_OK) {
        return;
    }
    publication_t *p = gs.task->ctx;
    ngx_http_sluice_gw_node(gs.mcf, &p->node);
    p->p.generation = ngx_http_sluice_gw_latest() + 1;
    /* A worker that could open no plan needs a new one, whatever it was made from. */
    p->p.have = ngx_http_sluice_gw_current() != NULL ? ngx_http_sluice_gw_published_revision() : ND_NO_REVISION;
    p->gen = ngx_http_sluice_gw_current() != NULL ? ngx_http_sluice_gw_gen_ref(ngx_http_sluice_gw_current()) : NULL;
    gs.publishing = 1;
    if (ngx_thread_task_post(pool, gs.task) != NGX_OK) {
        gs.publishing = 0;
        ngx_http_sluice_gw_gen_unref(p->gen);
        p->gen = NULL;
        ngx_http_sluice_gw_load_end(0);
        return;
    }
    ngx_add_timer(&gs.keep, KEEP_MS);
}

static void poll_handler(ngx_event_t *ev) {
    if (ngx_exiting || ngx_quit || ngx_terminate) {
        return;
    }
    ngx_http_sluice_gw_publish();
    ngx_add_timer(ev, POLL_MS);
}

/* ---- the life of a worker ------------------------------------------------------------------------------------------------ */

ngx_int_t ngx_http_sluice_gw_store_init_worker(ngx_cycle_t *cycle, ngx_http_sluice_gw_main_conf_t *mcf) {
    static ngx_connection_t dummy; /* a debug build reads ->fd of an event's data */
    ngx_memzero(&gs, sizeof(gs));
    idle.n = 0;
    if (mcf->store_path == NULL) {
        return NGX_OK;
    }
    gs.task = ngx_thread_task_alloc(cycle->pool, sizeof(publication_t));
    if (gs.task == NULL) {
        return NGX_ERROR;
    }
    dummy.fd = (ngx_socket_t)-1;
    gs.task->handler = publish_in_thread;
    gs.task->event.handler = published;
    gs.task->event.data = &dummy;
    gs.poll.handler = poll_handler;
    gs.poll.data = &dummy;
    gs.poll.log = cycle->log;
    gs.poll.cancelable = 1;
    gs.keep.handler = keep_handler;
    gs.keep.data = &dummy;
    gs.keep.log = cycle->log;
    gs.mcf = mcf;
    snprintf(idle.path, sizeof(idle.path), "%s", mcf->store_path);
    ngx_add_timer(&gs.poll, POLL_MS);
    return NGX_OK;
}

void ngx_http_sluice_gw_store_exit_worker(void) {
    if (gs.publishing) {
        ngx_http_sluice_gw_gen_unref(((publication_t *)gs.task->ctx)->gen);
    }
    pthread_mutex_lock(&idle.mutex);
    while (idle.n != 0) {
        st_store_close(idle.handles[--idle.n]);
    }
    pthread_mutex_unlock(&idle.mutex);
    ngx_http_sluice_gw_stop_timer(&gs.poll);
    ngx_http_sluice_gw_stop_timer(&gs.keep);
    ngx_memzero(&gs, sizeof(gs));
}
