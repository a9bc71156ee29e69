/*
 * From one generation to the next in a worker that serves requests.
 *
 *   look() --thread: open, check, load modules--> opened --slices: start filters, make chains--> take over --> discard the one before
 *     --after its last request, slices: chains and filters--> --thread: unmap, compiled regexes-->
 *
 * The event loop is never held for longer than a slice, except by a filter whose own start takes longer: nobody else can run a guest of
 * this worker. Whatever holds the loop for more than 5 ms is logged with its name and counted.
 */
#include "ngx_http_sluice_gw_gen.h"

#define SLICE_US 2000
#define HOLD_US 5000
#define PAUSE_MS 1 /* between two slices: requests are served */
#define RETRY_MS 1000
#define KEEP_MS 60000

typedef struct {
    ngx_http_sluice_gw_source_t source;
    ngx_http_sluice_gw_opened_t opened;
    sl_status_t rc;
    sl_err_t err;
} opening_t;

typedef struct {
    ngx_http_sluice_gw_gen_t *gen;
} closing_t;

static struct {
    ngx_http_sluice_gw_main_conf_t *mcf;
    ngx_http_sluice_gw_gen_t *current, *next;
    ngx_http_sluice_gw_gen_t *discarded; /* a list, the latest first */
    ngx_event_t step, keep;              /* keep: a worker that is to end waits for timers, not for threads */
    ngx_thread_task_t *open_task, *close_task;
    uint64_t refused; /* a generation that could not be built: not tried again until the next one or a retry */
    ngx_msec_t refused_at;
    unsigned opening : 1;
    unsigned closing : 1;
    unsigned blamed : 1; /* a filter held this slice, and was named */
} sw;

ngx_http_sluice_gw_gen_t *ngx_http_sluice_gw_current(void) {
    return sw.current;
}

/* ---- holds ----------------------------------------------------------------------------------------------------------------- */

static uint64_t read_us(clockid_t id) {
    struct timespec t = {.tv_sec = 0};
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

ngx_http_sluice_gw_clock_t ngx_http_sluice_gw_clock(void) {
    return (ngx_http_sluice_gw_clock_t){read_us(CLOCK_MONOTONIC), read_us(CLOCK_THREAD_CPUTIME_ID)};
}

void ngx_http_sluice_gw_held(ngx_http_sluice_gw_clock_t since, const char *what, sl_str_t name) {
    uint64_t wall = read_us(CLOCK_MONOTONIC) - since.wall_us;
    ngx_http_sluice_gw_counters_t *c = ngx_http_sluice_gw_counters();
    if (sw.current == NULL) {
        return; /* before the first generation there is nobody to wait */
    }
    ngx_atomic_uint_t longest = c->longest_us;
    while (wall > longest && !ngx_atomic_cmp_set(&c->longest_us, longest, (ngx_atomic_uint_t)wall)) {
        longest = c->longest_us;
    }
    unsigned blamed = sw.blamed && name.len == 0;
    sw.blamed = wall > HOLD_US && name.len != 0;
    if (wall <= HOLD_US || blamed) {
        return;
    }
    uint64_t cpu = read_us(CLOCK_THREAD_CPUTIME_ID) - since.cpu_us;
    (void)ngx_atomic_fetch_add(&c->holds, 1);
    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0, "[sluice] a switch held this worker for %uL us, %uL of them computing: %s%s%*s", wall,
                  cpu, what, name.len != 0 ? " " : "", name.len, name.data != NULL ? name.data : "");
}

static unsigned slice_is_over(ngx_http_sluice_gw_clock_t since) {
    return read_us(CLOCK_MONOTONIC) - since.wall_us >= SLICE_US;
}

/* ---- the end of a generation ------------------------------------------------------------------------------------------------ */

static void wake_later(void) {
    if (!sw.step.timer_set) {
        ngx_add_timer(&sw.step, PAUSE_MS);
    }
}

static void keep_until_done(void) {
    if (!sw.opening && !sw.closing) {
        if (sw.keep.timer_set) {
            ngx_del_timer(&sw.keep);
        }
    } else if (!sw.keep.timer_set) {
        ngx_add_timer(&sw.keep, KEEP_MS);
    }
}

static ngx_int_t post(ngx_thread_task_t *task) {
    ngx_str_t name = ngx_string("sluice");
    ngx_thread_pool_t *pool = ngx_thread_pool_get((ngx_cycle_t *)ngx_cycle, &name);
    return pool != NULL && task != NULL ? ngx_thread_task_post(pool, task) : NGX_ERROR;
}

static void close_in_thread(void *data, ngx_log_t *log) {
    (void)log;
    ngx_http_sluice_gw_gen_free(((closing_t *)data)->gen);
}

static void closed(ngx_event_t *ev) {
    (void)ev;
    sw.closing = 0;
    keep_until_done();
    if (sw.discarded != NULL) {
        wake_later();
    }
}

static void close_generation(ngx_http_sluice_gw_gen_t *gen) {
    ((closing_t *)sw.close_task->ctx)->gen = gen;
    sw.closing = 1;
    if (post(sw.close_task) != NGX_OK) {
        sw.closing = 0;
        ngx_http_sluice_gw_gen_free(gen);
    }
    keep_until_done();
}

/* A slice of taking down what is no longer used. */
static void take_down_some(void) {
    ngx_http_sluice_gw_clock_t start = ngx_http_sluice_gw_clock();
    while (sw.discarded != NULL && !sw.closing && !slice_is_over(start)) {
        ngx_http_sluice_gw_gen_t *gen = sw.discarded;
        if (ngx_http_sluice_gw_gen_take_down(gen)) {
            continue;
        }
        sw.discarded = *ngx_http_sluice_gw_gen_link(gen);
        close_generation(gen);
    }
    ngx_http_sluice_gw_held(start, "taking down filters", SL_STR_NULL);
    if (sw.discarded != NULL && !sw.closing) {
        wake_later();
    }
}

static void free_now(ngx_http_sluice_gw_gen_t *gen) {
    while (ngx_http_sluice_gw_gen_take_down(gen)) {
    }
    ngx_http_sluice_gw_gen_free(gen);
}

void ngx_http_sluice_gw_discard(ngx_http_sluice_gw_gen_t *gen) {
    if (sw.mcf == NULL) {
        free_now(gen);
        return;
    }
    *ngx_http_sluice_gw_gen_link(gen) = sw.discarded;
    sw.discarded = gen;
    wake_later();
}

/* ---- the next generation ------------------------------------------------------------------------------------------------------ */

static void refuse(uint64_t generation, const sl_err_t *err) {
    ngx_log_error(NGX_LOG_EMERG, ngx_cycle->log, 0, "[sluice] generation %uL cannot be served by this worker, %s: %s", generation,
                  sw.current != NULL ? "the one before goes on" : "requests get 503", err->text);
    (void)ngx_atomic_fetch_add(&ngx_http_sluice_gw_counters()->refused, 1);
    sw.refused = generation;
    sw.refused_at = ngx_current_msec;
}

static void take_over(void) {
    ngx_http_sluice_gw_gen_t *old = sw.current;
    sw.current = sw.next;
    sw.next = NULL;
    ngx_http_sluice_gw_gen_unref(old);
    const gw_plan_t *plan = ngx_http_sluice_gw_gen_plan(sw.current);
    ngx_http_sluice_gw_serves(gw_plan_generation(plan));
    (void)ngx_atomic_fetch_add(&ngx_http_sluice_gw_counters()->switches, 1);
    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0, "[sluice] generation %uL: %uz routes, %uz filter chains, %uz filters",
                  (uint64_t)gw_plan_generation(plan), gw_plan_n_routes(plan), ngx_http_sluice_gw_gen_n_chains(sw.current),
                  ngx_http_sluice_gw_gen_n_filters(sw.current));
    ngx_http_sluice_gw_look(0); /* there may be a newer one already */
}

/* A slice (or all) of what is left to do before `next` can serve. */
static void build_some(unsigned all) {
    sl_err_t err = {.text = ""};
    sl_status_t rc = SL_OK;
    ngx_http_sluice_gw_clock_t start = ngx_http_sluice_gw_clock();
    while (rc == SL_OK && (all || !slice_is_over(start))) {
        rc = ngx_http_sluice_gw_gen_build(sw.next, sw.current, &err);
    }
    if (!all) {
        ngx_http_sluice_gw_held(start, "starting filters", SL_STR_NULL);
    }
    if (rc == SL_OK) {
        wake_later();
    } else if (rc == SL_NOT_FOUND && err.text[0] == '\0') {
        take_over();
    } else {
        refuse(gw_plan_generation(ngx_http_sluice_gw_gen_plan(sw.next)), &err);
        ngx_http_sluice_gw_gen_unref(sw.next);
        sw.next = NULL;
    }
}

static void step_handler(ngx_event_t *ev) {
    (void)ev;
    if (ngx_terminate) {
        return;
    }
    if (sw.next != NULL && !ngx_exiting && !ngx_quit) {
        build_some(0);
    }
    if (sw.discarded != NULL) {
        take_down_some();
    }
}

static void log_opened(const ngx_http_sluice_gw_opened_t *opened) {
    if (opened->scan.text[0] != '\0') {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] installed filters: %s", opened->scan.text);
    }
    if (opened->older.text[0] != '\0') {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] the last good plan is served: %s", opened->older.text);
    }
}

/* What the thread found becomes the next generation. */
static void accept_opened(opening_t *o, unsigned all) {
    if (o->rc != SL_OK) {
        refuse(o->source.least, &o->err);
        return;
    }
    log_opened(&o->opened);
    if (o->opened.filters != NULL) {
        ngx_http_sluice_gw_set_filters(o->opened.filters);
    }
    sw.next = o->opened.gen;
    if (!ngx_exiting && !ngx_quit && !ngx_terminate) {
        build_some(all);
    }
}

static void open_in_thread(void *data, ngx_log_t *log) {
    opening_t *o = data;
    (void)log;
    o->rc = ngx_http_sluice_gw_gen_open(&o->source, &o->opened, &o->err);
}

static void opened(ngx_event_t *ev) {
    opening_t *o = sw.open_task->ctx;
    (void)ev;
    sw.opening = 0;
    keep_until_done();
    /* The reference that the thread's use of it had. */
    ngx_http_sluice_gw_gen_unref((ngx_http_sluice_gw_gen_t *)(uintptr_t)o->source.previous);
    accept_opened(o, 0);
}

static opening_t *new_opening(uint64_t least) {
    opening_t *o = sw.open_task->ctx;
    ngx_memzero(o, sizeof(*o));
    ngx_http_sluice_gw_node(sw.mcf, &o->source.node);
    o->source.least = least;
    o->source.previous = sw.current;
    return o;
}

/* Before the first request: there is nothing to disturb. A start has written a plan that nobody has been told of yet. */
static void open_now(uint64_t announced) {
    uint64_t written = gw_plan_peek_generation(sw.mcf->plan_path);
    opening_t *o = new_opening(written > announced ? written : announced);
    open_in_thread(o, NULL);
    accept_opened(o, 1);
}

static void open_later(uint64_t announced) {
    opening_t *o = new_opening(announced);
    if (sw.current != NULL) {
        (void)ngx_http_sluice_gw_gen_ref(sw.current);
    }
    sw.opening = 1;
    if (post(sw.open_task) != NGX_OK) {
        sw.opening = 0;
        ngx_http_sluice_gw_gen_unref((ngx_http_sluice_gw_gen_t *)(uintptr_t)o->source.previous);
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] no thread to open generation %uL in; trying again", announced);
    }
    keep_until_done();
}

void ngx_http_sluice_gw_look(unsigned now) {
    uint64_t announced = ngx_http_sluice_gw_announced();
    uint64_t serving = sw.current != NULL ? gw_plan_generation(ngx_http_sluice_gw_gen_plan(sw.current)) : 0;
    bool behind = sw.current == NULL || announced > serving;
    if (!behind || sw.next != NULL || sw.opening) {
        return;
    }
    if (sw.refused != 0 && sw.refused >= announced && ngx_current_msec - sw.refused_at < RETRY_MS) {
        return;
    }
    if (now) {
        open_now(announced);
    } else {
        open_later(announced);
    }
}

/* ---- the life of a worker --------------------------------------------------------------------------------------------------------- */

static void keep_handler(ngx_event_t *ev) {
    ngx_add_timer(ev, KEEP_MS);
}

static ngx_thread_task_t *new_task(ngx_cycle_t *cycle, size_t size, void (*run)(void *, ngx_log_t *), ngx_event_handler_pt done) {
    static ngx_connection_t dummy; /* a debug build reads ->fd of an event's data */
    ngx_thread_task_t *task = ngx_thread_task_alloc(cycle->pool, size);
    dummy.fd = (ngx_socket_t)-1;
    if (task != NULL) {
        task->handler = run;
        task->event.handler = done;
        task->event.data = &dummy;
    }
    return task;
}

static void init_event(ngx_event_t *ev, ngx_event_handler_pt handler, void *data) {
    ngx_memzero(ev, sizeof(*ev));
    ev->handler = handler;
    ev->data = data;
    ev->log = ngx_cycle->log;
}

ngx_int_t ngx_http_sluice_gw_switch_init_worker(ngx_cycle_t *cycle, ngx_http_sluice_gw_main_conf_t *mcf) {
    ngx_memzero(&sw, sizeof(sw));
    sw.open_task = new_task(cycle, sizeof(opening_t), open_in_thread, opened);
    sw.close_task = new_task(cycle, sizeof(closing_t), close_in_thread, closed);
    if (sw.open_task == NULL || sw.close_task == NULL) {
        return NGX_ERROR;
    }
    init_event(&sw.step, step_handler, sw.open_task->event.data);
    init_event(&sw.keep, keep_handler, sw.open_task->event.data);
    sw.step.cancelable = 1;
    sw.mcf = mcf;
    return NGX_OK;
}

/* No thread is at work any more, and no event comes. */
void ngx_http_sluice_gw_switch_exit_worker(void) {
    opening_t *o = sw.open_task != NULL ? sw.open_task->ctx : NULL;
    ngx_http_sluice_gw_gen_t *gens[] = {sw.next, sw.current, NULL, NULL};
    if (sw.opening) { /* the thread has ended, nobody has been told */
        gens[2] = (ngx_http_sluice_gw_gen_t *)(uintptr_t)o->source.previous;
        gens[3] = o->opened.gen;
        nd_filters_free(o->opened.filters);
    }
    sw.mcf = NULL;
    for (ngx_uint_t i = 0; i < 4; i++) {
        ngx_http_sluice_gw_gen_unref(gens[i]);
    }
    while (sw.discarded != NULL) {
        ngx_http_sluice_gw_gen_t *gen = sw.discarded;
        sw.discarded = *ngx_http_sluice_gw_gen_link(gen);
        free_now(gen);
    }
    ngx_http_sluice_gw_stop_timer(&sw.step);
    ngx_http_sluice_gw_stop_timer(&sw.keep);
    ngx_memzero(&sw, sizeof(sw));
}
