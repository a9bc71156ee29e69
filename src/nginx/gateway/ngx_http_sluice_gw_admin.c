/*
 * The Admin API's listener: nginx request -> gw_admin_handle() -> nginx response. Without a store reads are answered at once; POST
 * /config parses, compiles and starts filters, so it runs in a thread, and answers when every worker serves the new generation. With a
 * store everything runs in a thread, and what was written is answered when every worker serves it.
 */
#include "ngx_http_sluice_gw.h"

#include "nd_data.h"
#include "nd_uploads.h"
#include "ngx_http_sluice_gw_observe.h"
#include "ngx_sluice_state.h"

#define MAX_BODY ((size_t)256 * 1024 * 1024)
#define MAX_ANSWER ((size_t)1024 * 1024 * 1024)
#define WAIT_STEP_MS 2
#define KEEP_MS 60000
#define WAIT_MAX_MS 5000 /* for workers that are busy; they take over all the same */

typedef struct {
    ngx_http_request_t *r; /* held by a count and `blocked` while a thread or a timer has the exchange */
    ngx_connection_t conn; /* what events carry: a debug build reads ->fd of their data */
    ngx_http_sluice_gw_gen_t *gen;
    gw_plan_t *empty; /* what is read while nothing is served */
    sl_buf_t body;
    gw_admin_request_t request;
    gw_admin_env_t env;
    gw_admin_response_t response;
    int64_t pids[NGX_HTTP_SLUICE_GW_MAX_WORKERS];
    nd_node_t node;
    nd_filters_t *filters; /* scanned anew by the thread */
    uint64_t generation;   /* of the plan to wait for */
    uint64_t revision;     /* that the thread committed to the store; 0: none */
    sl_err_t err;          /* of the store, for the log */
    sl_err_t scan_err;     /* why the installed filters are not known, "" when they are */
    json_t *numbers;       /* of filters; NULL: none */
    json_t *memory;        /* of the filters of each worker; NULL: none */
    unsigned written : 1;
    ngx_event_t wait;
    ngx_msec_t waiting_since;
    sl_buf_t empty_image;
} exchange_t;

/* ---- answering ------------------------------------------------------------------------------------------------------------ */

static void free_buffer(void *data) {
    free(data);
}

static ngx_int_t add_header(ngx_http_request_t *r, sl_str_t name, sl_str_t value) {
    ngx_table_elt_t *h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }
    ngx_memzero(h, sizeof(*h));
    h->hash = 1;
    h->key.len = name.len;
    h->value.len = value.len;
    h->key.data = ngx_pnalloc(r->pool, name.len + value.len + 1);
    if (h->key.data == NULL) {
        return NGX_ERROR;
    }
    h->value.data = ngx_cpymem(h->key.data, name.data, name.len);
    ngx_memcpy(h->value.data, value.data, value.len);
    return NGX_OK;
}

/* "Name: value\n" lines. */
static ngx_int_t add_lines(ngx_http_request_t *r, sl_str_t lines) {
    while (lines.len != 0) {
        const char *nl = memchr(lines.data, '\n', lines.len);
        size_t len = nl != NULL ? (size_t)(nl - lines.data) : lines.len;
        const char *colon = memchr(lines.data, ':', len);
        if (colon != NULL && colon + 2 <= lines.data + len &&
            add_header(r, sl_str(lines.data, (size_t)(colon - lines.data)), sl_str(colon + 2, (size_t)(lines.data + len - colon - 2))) !=
                NGX_OK) {
            return NGX_ERROR;
        }
        len += nl != NULL;
        lines = sl_str(lines.data + len, lines.len - len);
    }
    return NGX_OK;
}

static ngx_int_t common_headers(ngx_http_request_t *r) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    ngx_time_t *tp = ngx_timeofday();
    char ms[NGX_INT64_LEN + 1];
    snprintf(ms, sizeof(ms), "%ld", (long)((tp->sec - r->start_sec) * 1000 + ((long)tp->msec - (long)r->start_msec)));
    if (add_header(r, SL_STR("Access-Control-Allow-Origin"), SL_STR("*")) != NGX_OK ||
        add_header(r, SL_STR("Access-Control-Allow-Credentials"), SL_STR("true")) != NGX_OK) {
        return NGX_ERROR;
    }
    if ((mcf->tokens & NGX_HTTP_SLUICE_GW_ADMIN_LATENCY) && add_header(r, SL_STR("X-Kong-Admin-Latency"), sl_cstr(ms)) != NGX_OK) {
        return NGX_ERROR;
    }
    ngx_str_t none = ngx_null_string;
    return ngx_http_sluice_gw_set_server(r, (mcf->tokens & NGX_HTTP_SLUICE_GW_SERVER_TOKENS) ? mcf->server : none);
}

/* The response's bytes move into the request's pool. */
static ngx_int_t send_response(ngx_http_request_t *r, gw_admin_response_t *resp) {
    if (resp->body.failed || resp->headers.failed || resp->status == 0) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    ngx_pool_cleanup_t *cln = ngx_pool_cleanup_add(r->pool, 0);
    ngx_buf_t *b = ngx_calloc_buf(r->pool);
    if (cln == NULL || b == NULL || common_headers(r) != NGX_OK || add_lines(r, sl_buf_str(&resp->headers)) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    size_t len = resp->body.len;
    cln->handler = free_buffer;
    cln->data = resp->body.data;
    b->pos = (u_char *)resp->body.data;
    b->last = b->pos != NULL ? b->pos + len : NULL;
    resp->body = (sl_buf_t){.max = resp->body.max};
    r->headers_out.status = (ngx_uint_t)resp->status;
    r->headers_out.content_length_n = (off_t)len;
    if (resp->content_type != NULL) {
        r->headers_out.content_type.len = ngx_strlen(resp->content_type);
        r->headers_out.content_type.data = (u_char *)(uintptr_t)resp->content_type;
        r->headers_out.content_type_len = r->headers_out.content_type.len;
    }
    if (len == 0) {
        r->header_only = r->header_only || resp->status == 204 || resp->status == 304;
    }
    ngx_int_t rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }
    b->memory = len != 0;
    b->last_buf = 1;
    b->last_in_chain = 1;
    ngx_chain_t out = {.buf = b, .next = NULL};
    return ngx_http_output_filter(r, &out);
}

/* ---- one exchange ------------------------------------------------------------------------------------------------------------ */

static void exchange_free(exchange_t *x) {
    if (x->wait.timer_set) {
        ngx_del_timer(&x->wait);
    }
    ngx_http_sluice_gw_gen_unref(x->gen);
    gw_plan_close(x->empty);
    sl_buf_deinit(&x->empty_image);
    sl_buf_deinit(&x->body);
    sl_buf_deinit(&x->response.body);
    sl_buf_deinit(&x->response.headers);
    nd_filters_free(x->filters);
    json_decref(x->numbers);
    json_decref(x->memory);
    free(x);
}

static sl_status_t copy_body(ngx_http_request_t *r, sl_buf_t *out) {
    for (ngx_chain_t *cl = r->request_body != NULL ? r->request_body->bufs : NULL; cl != NULL; cl = cl->next) {
        ngx_buf_t *b = cl->buf;
        if (ngx_buf_in_memory(b)) {
            sl_buf_append(out, b->pos, (size_t)(b->last - b->pos));
            continue;
        }
        for (off_t at = b->file_pos; at < b->file_last;) {
            u_char chunk[65536];
            size_t want = (size_t)ngx_min(b->file_last - at, (off_t)sizeof(chunk));
            ssize_t n = ngx_read_file(b->file, chunk, want, at);
            if (n <= 0) {
                return SL_IO;
            }
            sl_buf_append(out, chunk, (size_t)n);
            at += n;
        }
    }
    return out->failed ? SL_NO_MEMORY : SL_OK;
}

static void fill_request(ngx_http_request_t *r, exchange_t *x) {
    const sl_str_t content_type = SL_STR("content-type");
    ngx_table_elt_t *type = ngx_http_sluice_gw_request_header(r, content_type, 0);
    ngx_table_elt_t *if_match = ngx_http_sluice_gw_request_header(r, SL_STR("if-match"), 0);
    ngx_table_elt_t *if_none_match = ngx_http_sluice_gw_request_header(r, SL_STR("if-none-match"), 0);
    ngx_table_elt_t *wanted = ngx_http_sluice_gw_request_header(r, SL_STR("access-control-request-headers"), 0);
    sl_str_t path = ngx_sluice_to_sl(r->unparsed_uri);
    const char *q = memchr(path.data, '?', path.len);
    x->request = (gw_admin_request_t){
        .method = ngx_sluice_to_sl(r->method_name),
        .path = q != NULL ? sl_str(path.data, (size_t)(q - path.data)) : path,
        .query = q != NULL ? sl_str(q + 1, (size_t)(path.data + path.len - q - 1)) : SL_STR_NULL,
        .content_type = type != NULL ? ngx_sluice_to_sl(type->value) : SL_STR_NULL,
        .n_content_types = (type != NULL) + (ngx_http_sluice_gw_request_header(r, content_type, 1) != NULL),
        .accept_headers = wanted != NULL ? ngx_sluice_to_sl(wanted->value) : SL_STR_NULL,
        .if_match = if_match != NULL ? ngx_sluice_to_sl(if_match->value) : SL_STR_NULL,
        .if_none_match = if_none_match != NULL ? ngx_sluice_to_sl(if_none_match->value) : SL_STR_NULL,
        .body = sl_buf_str(&x->body),
    };
}

/* "sluice_filter_traps_total" of reason="cpu" -> filters.<name>.traps.cpu; states of workers are by their numbers. */
static void add_number(void *ud, sl_str_t filter, sl_str_t metric, sl_str_t label, uint64_t value) {
    const sl_str_t prefix = SL_STR("sluice_filter_"), suffix = SL_STR("_total");
    json_t *filters = ud, *of, *group;
    char name[64];
    if (filter.len == 0 || !sl_str_starts(metric, prefix) || metric.len - prefix.len >= sizeof(name)) {
        return;
    }
    sl_str_t short_name = sl_str(metric.data + prefix.len, metric.len - prefix.len);
    if (short_name.len > suffix.len && memcmp(short_name.data + short_name.len - suffix.len, suffix.data, suffix.len) == 0) {
        short_name.len -= suffix.len;
    }
    ngx_cpystrn((u_char *)name, (u_char *)short_name.data, short_name.len + 1);
    of = json_object_getn(filters, filter.data, filter.len);
    if (of == NULL) {
        of = json_object();
        (void)json_object_setn_new(filters, filter.data, filter.len, of);
    }
    const char *from = label.len != 0 ? memchr(label.data, '"', label.len) : NULL;
    if (from == NULL) {
        (void)json_object_set_new(of, name, json_integer((json_int_t)value));
        return;
    }
    group = json_object_get(of, name);
    if (group == NULL) {
        group = json_object();
        (void)json_object_set_new(of, name, group);
    }
    (void)json_object_setn_new(group, from + 1, (size_t)(label.data + label.len - from) - 2, json_integer((json_int_t)value));
}

/* "sluice_guest_memory_peak_bytes" of worker="0" -> filter_memory.0.peak_bytes. */
static void add_memory(void *ud, sl_str_t filter, sl_str_t metric, sl_str_t label, uint64_t value) {
    const sl_str_t prefix = SL_STR("sluice_guest_memory_"), worker = SL_STR("worker=\"");
    json_t *workers = ud, *of;

    if (filter.len != 0 || !sl_str_starts(metric, prefix) || !sl_str_starts(label, worker) || label.len <= worker.len) {
        return;
    }
    sl_str_t number = sl_str(label.data + worker.len, label.len - worker.len - 1);
    of = json_object_getn(workers, number.data, number.len);
    if (of == NULL) {
        of = json_object();
        (void)json_object_setn_new(workers, number.data, number.len, of);
    }
    (void)json_object_setn_new(of, metric.data + prefix.len, metric.len - prefix.len, json_integer((json_int_t)value));
}

static json_t *counted(ngx_sluice_number_each_pt each) {
    json_t *all = json_object();
    if (all != NULL) {
        ngx_sluice_numbers_each(ngx_sluice_conf((ngx_cycle_t *)ngx_cycle), each, all);
    }
    if (json_object_size(all) == 0) {
        json_decref(all);
        return NULL;
    }
    return all;
}

static void fill_info(ngx_http_sluice_gw_main_conf_t *mcf, exchange_t *x) {
    gw_admin_info_t *i = &x->env.info;
    i->version = json_string_value(json_object_get(mcf->settings, "version"));
    i->node_id = json_string_value(json_object_get(mcf->settings, "node_id"));
    i->hostname = json_string_value(json_object_get(mcf->settings, "hostname"));
    i->prefix = mcf->prefix;
    i->wasm_enabled = mcf->wasm;
    i->db_less = mcf->store_path == NULL;
    i->configuration = json_object_get(mcf->settings, "configuration");
    if (sl_str_eq(x->request.path, SL_STR("/status"))) {
        i->filters = x->numbers = counted(add_number);
        i->filter_memory = x->memory = counted(add_memory);
    }
    i->worker_pids = x->pids;
    i->n_workers = ngx_http_sluice_gw_worker_pids(x->pids, NGX_HTTP_SLUICE_GW_MAX_WORKERS);
    i->master_pid = (int64_t)ngx_parent;
    i->worker_id = (unsigned)ngx_worker;
    i->n_timers = sl_str_eq(x->request.path, SL_STR("/timers")) ? ngx_http_sluice_gw_count_timers() : 0;
    i->not_ready = ngx_http_sluice_gw_not_ready();
    i->log_level = ngx_http_sluice_gw_log_level();
    x->env.set_log_level = ngx_http_sluice_gw_set_log_level;
#if (NGX_STAT_STUB)
    i->connections_accepted = *ngx_stat_accepted;
    i->connections_handled = *ngx_stat_handled;
    i->connections_active = *ngx_stat_active;
    i->connections_reading = *ngx_stat_reading;
    i->connections_writing = *ngx_stat_writing;
    i->connections_waiting = *ngx_stat_waiting;
    i->total_requests = *ngx_stat_requests;
#endif
}

/* While no generation is served the API still answers, from an empty plan. */
static sl_status_t open_plan(exchange_t *x) {
    if (ngx_http_sluice_gw_current() != NULL) {
        x->gen = ngx_http_sluice_gw_gen_ref(ngx_http_sluice_gw_current());
        x->env.plan = ngx_http_sluice_gw_gen_plan(x->gen);
        return SL_OK;
    }
    json_t *nothing = json_object();
    gw_plan_conf_t conf = {.config_hash = SL_STR("00000000000000000000000000000000")};
    sl_buf_init(&x->empty_image, 1024 * 1024);
    sl_status_t rc = gw_plan_build(nothing, &conf, &x->empty_image, NULL);
    json_decref(nothing);
    rc = rc == SL_OK ? gw_plan_open(sl_buf_str(&x->empty_image), &x->empty, NULL) : rc;
    x->env.plan = x->empty;
    return rc;
}

static exchange_t *exchange_make(ngx_http_request_t *r) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    exchange_t *x = calloc(1, sizeof(*x));
    if (x == NULL) {
        return NULL;
    }
    x->r = r;
    sl_buf_init(&x->body, MAX_BODY);
    sl_buf_init(&x->response.body, MAX_ANSWER);
    sl_buf_init(&x->response.headers, 65536);
    ngx_http_sluice_gw_node(mcf, &x->node);
    nd_validate_env(&x->node, &x->env.validate);
    if (open_plan(x) != SL_OK || copy_body(r, &x->body) != SL_OK) {
        exchange_free(x);
        return NULL;
    }
    fill_request(r, x);
    fill_info(mcf, x);
    return x;
}

/* ---- POST /config ---------------------------------------------------------------------------------------------------------------- */

/* Filters may have been installed since the start. */
static sl_status_t scan_filters(exchange_t *x, sl_err_t *err) {
    sl_status_t rc = nd_filters_open(&x->node, NULL, &x->filters, err);
    if (rc == SL_OK) {
        x->node.filters = x->filters;
        nd_validate_env(&x->node, &x->env.validate);
    }
    return rc;
}

static void run_replace(exchange_t *x) {
    sl_err_t err = {.text = ""};
    gw_admin_replace_t replace = {.entities = NULL};
    sl_status_t rc = scan_filters(x, &err);
    if (gw_admin_handle(&x->request, &x->env, &x->response, &replace) == GW_ADMIN_REPLACE) {
        rc = nd_config_try(&x->node, replace.entities, &err);
        rc = rc == SL_OK ? nd_plan_write(&x->node, replace.entities, sl_str(replace.config_hash, 32), &x->generation, &err) : rc;
        x->written = rc == SL_OK;
        gw_admin_replaced(&replace, rc, &err, &x->response);
    }
    json_decref(replace.entities);
}

static void finish(exchange_t *x) {
    ngx_http_request_t *r = x->r;
    ngx_connection_t *c = r->connection;
    r->main->blocked--;
    r->aio = 0;
    ngx_http_set_log_request(c->log, r);
    ngx_int_t rc = send_response(r, &x->response);
    exchange_free(x);
    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}

static exchange_t *exchange_of(ngx_event_t *ev) {
    return ((ngx_connection_t *)ev->data)->data;
}

static void wait_handler(ngx_event_t *ev) {
    exchange_t *x = exchange_of(ev);
    if (ngx_http_sluice_gw_all_serve(x->generation) || ngx_current_msec - x->waiting_since >= WAIT_MAX_MS || ngx_exiting) {
        finish(x);
        return;
    }
    ngx_add_timer(ev, WAIT_STEP_MS);
}

/* A worker that is to end waits for timers, not for threads. */
static void keep_worker(ngx_event_t *ev) {
    ngx_add_timer(ev, KEEP_MS);
}

/* The thread is done: the event is for waiting from now on. */
static void stop_keeping(exchange_t *x, ngx_event_handler_pt handler) {
    ngx_del_timer(&x->wait);
    x->wait.handler = handler;
}

static void replaced(ngx_event_t *ev) {
    exchange_t *x = exchange_of(ev);
    stop_keeping(x, wait_handler);
    ngx_http_sluice_gw_load_end(x->written ? x->generation : 0);
    if (!x->written) {
        finish(x);
        return;
    }
    x->waiting_since = ngx_current_msec;
    wait_handler(&x->wait);
}

static void replace_in_thread(void *data, ngx_log_t *log) {
    (void)log;
    run_replace(*(exchange_t **)data);
}

/* ---- /filters without a store: reads files, compiles ------------------------------------------------------------------------------ */

static void run_look(exchange_t *x) {
    gw_admin_replace_t unused = {.entities = NULL};
    nd_uploads_t uploads;
    if (scan_filters(x, &x->scan_err) == SL_OK) {
        nd_uploads_init(&uploads, &x->node, NULL);
        x->env.filters = &uploads.base;
    }
    (void)gw_admin_handle(&x->request, &x->env, &x->response, &unused);
    json_decref(unused.entities);
    x->env.filters = NULL;
}

static void look_in_thread(void *data, ngx_log_t *log) {
    (void)log;
    run_look(*(exchange_t **)data);
}

static void looked(ngx_event_t *ev) {
    exchange_t *x = exchange_of(ev);
    stop_keeping(x, keep_worker);
    if (x->scan_err.text[0] != '\0') {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] installed filters: %s", x->scan_err.text);
    }
    finish(x);
}

static unsigned is_about_filters(const exchange_t *x) {
    sl_str_t p = x->request.path, name = SL_STR("/filters");
    return sl_str_starts(p, name) && (p.len == name.len || p.data[name.len] == '/');
}

/* ---- with a store ---------------------------------------------------------------------------------------------------------------- */

static void answer_broken_store(exchange_t *x) {
    sl_buf_reset(&x->response.body);
    json_t *body = json_pack("{s:s,s:s%}", "message", "An unexpected error occurred", "reason", x->err.text, strlen(x->err.text));
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    sl_buf_append_cstr(&x->response.body, text != NULL ? text : "{\"message\":\"An unexpected error occurred\"}");
    x->response.status = 500;
    x->response.content_type = "application/json; charset=utf-8";
    free(text);
    json_decref(body);
}

static void run_on_store(exchange_t *x) {
    st_store_t *store;
    if (ngx_http_sluice_gw_store_take(&store, &x->err) != SL_OK) {
        store = NULL;
    }
    sl_status_t rc = nd_admin_handle(&x->node, store, &x->request, &x->env, &x->response, &x->revision, &x->scan_err, &x->err);
    if (rc != SL_OK && x->response.status == 0) {
        answer_broken_store(x);
    }
    if (store != NULL) {
        ngx_http_sluice_gw_store_give(store, rc == SL_OK);
    }
}

static void store_in_thread(void *data, ngx_log_t *log) {
    (void)log;
    run_on_store(*(exchange_t **)data);
}

/* Which generation has what was committed is found out once: others may publish newer ones all the time. */
static unsigned is_served(exchange_t *x) {
    if (x->generation == 0 && ngx_http_sluice_gw_published_revision() < x->revision) {
        ngx_http_sluice_gw_publish();
        return 0;
    }
    x->generation = x->generation != 0 ? x->generation : ngx_http_sluice_gw_latest();
    return ngx_http_sluice_gw_all_serve(x->generation);
}

static void store_wait_handler(ngx_event_t *ev) {
    exchange_t *x = exchange_of(ev);
    if (ngx_exiting || ngx_current_msec - x->waiting_since >= WAIT_MAX_MS || is_served(x)) {
        finish(x);
        return;
    }
    ngx_add_timer(ev, WAIT_STEP_MS);
}

static void stored(ngx_event_t *ev) {
    exchange_t *x = exchange_of(ev);
    stop_keeping(x, store_wait_handler);
    if (x->response.status >= 500) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] the Admin API: %s", x->err.text);
    }
    if (x->scan_err.text[0] != '\0') {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] installed filters: %s", x->scan_err.text);
    }
    if (x->revision == 0) {
        finish(x);
        return;
    }
    x->waiting_since = ngx_current_msec;
    store_wait_handler(&x->wait);
}

/* ---- reads that look at everything ------------------------------------------------------------------------------------------------ */

static void read_in_thread(void *data, ngx_log_t *log) {
    exchange_t *x = *(exchange_t **)data;
    gw_admin_replace_t unused = {.entities = NULL};
    (void)log;
    (void)gw_admin_handle(&x->request, &x->env, &x->response, &unused);
}

static void was_read(ngx_event_t *ev) {
    exchange_t *x = exchange_of(ev);
    stop_keeping(x, keep_worker);
    finish(x);
}

/* What a thread does with an exchange, and what follows on the event loop. */
typedef struct {
    void (*run)(void *data, ngx_log_t *log);
    ngx_event_handler_pt done;
} work_t;

static const work_t on_store = {store_in_thread, stored};
static const work_t replaces = {replace_in_thread, replaced};
static const work_t reads = {read_in_thread, was_read};

static const work_t looks = {look_in_thread, looked};

/* NGX_OK: the thread has it; else the exchange is the caller's again. */
static ngx_int_t start_thread(ngx_http_request_t *r, exchange_t *x, const work_t *work) {
    ngx_str_t name = ngx_string("sluice");
    ngx_thread_pool_t *pool = ngx_thread_pool_get((ngx_cycle_t *)ngx_cycle, &name);
    ngx_thread_task_t *task = ngx_thread_task_alloc(r->pool, sizeof(exchange_t *));
    if (pool == NULL || task == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "[sluice] no thread pool \"sluice\"; nginx.conf must have the one that `sluice start` writes");
        return NGX_ERROR;
    }
    x->conn.fd = (ngx_socket_t)-1;
    x->conn.data = x;
    x->wait.data = &x->conn;
    x->wait.log = ngx_cycle->log;
    x->wait.handler = keep_worker;
    *(exchange_t **)task->ctx = x;
    task->handler = work->run;
    task->event.handler = work->done;
    task->event.data = &x->conn;
    r->main->blocked++;
    r->aio = 1;
    if (ngx_thread_task_post(pool, task) != NGX_OK) {
        r->main->blocked--;
        r->aio = 0;
        return NGX_ERROR;
    }
    ngx_add_timer(&x->wait, KEEP_MS);
    return NGX_OK;
}

static void busy(exchange_t *x) {
    gw_admin_replace_t nothing = {.entities = NULL};
    gw_admin_replaced(&nothing, SL_AGAIN, NULL, &x->response);
}

static unsigned is_config(const exchange_t *x) {
    sl_str_t p = x->request.path;
    return sl_str_eq(p, SL_STR("/config")) || sl_str_eq(p, SL_STR("/config/"));
}

static unsigned is_config_write(const exchange_t *x) {
    return is_config(x) && sl_str_eq(x->request.method, SL_STR("POST"));
}

/* ---- the handler --------------------------------------------------------------------------------------------------------------------- */

/* ---- shared memory: nothing of the configuration, so gw_admin_handle() does not know it --------------------------------------- */

/* A number of the query; `otherwise` if there is none. */
static uint64_t argument(ngx_http_request_t *r, const char *name, uint64_t otherwise) {
    ngx_str_t value;
    char text[NGX_INT64_LEN + 1];
    if (ngx_http_arg(r, (u_char *)(uintptr_t)name, ngx_strlen(name), &value) != NGX_OK || value.len == 0 || value.len >= sizeof(text)) {
        return otherwise;
    }
    *ngx_cpymem(text, value.data, value.len) = '\0';
    return strtoull(text, NULL, 10);
}

static sl_status_t show_metrics(ngx_http_request_t *r, ngx_sluice_conf_t *scf, gw_admin_response_t *response) {
    (void)scf;
    response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_sluice_gateway_module);
    nd_node_t node;
    ngx_http_sluice_gw_node(mcf, &node);
    sl_status_t rc = ngx_http_sluice_gw_observe_render(mcf, node.filters, &response->body);
    return rc == SL_OK ? ngx_http_sluice_gw_render_switches(&response->body) : rc;
}

static size_t page_size(ngx_http_request_t *r) {
    uint64_t n = argument(r, "size", 100);
    return n < 1 ? 1 : n > 1000 ? 1000 : (size_t)n;
}

static sl_status_t show_data(ngx_http_request_t *r, ngx_sluice_conf_t *scf, gw_admin_response_t *response) {
    return ngx_sluice_state_list_data(scf, argument(r, "offset", 0), page_size(r), &response->body);
}

static sl_status_t show_queues(ngx_http_request_t *r, ngx_sluice_conf_t *scf, gw_admin_response_t *response) {
    return ngx_sluice_state_list_queues(scf, argument(r, "offset", 0), page_size(r), &response->body);
}

static const struct {
    sl_str_t path;
    sl_status_t (*show)(ngx_http_request_t *r, ngx_sluice_conf_t *scf, gw_admin_response_t *response);
} state_paths[] = {
    {{"/metrics", 8}, show_metrics},
    {{"/shared-data", 12}, show_data},
    {{"/shared-queues", 14}, show_queues},
};

/* 0: it is something else. */
static unsigned show_state(exchange_t *x) {
    if (!sl_str_eq(x->request.method, SL_STR("GET")) && !sl_str_eq(x->request.method, SL_STR("HEAD"))) {
        return 0;
    }
    for (size_t i = 0; i < sizeof(state_paths) / sizeof(state_paths[0]); i++) {
        if (sl_str_eq(x->request.path, state_paths[i].path)) {
            x->response.content_type = "application/json; charset=utf-8";
            sl_status_t rc = state_paths[i].show(x->r, ngx_sluice_conf((ngx_cycle_t *)ngx_cycle), &x->response);
            x->response.status = rc == SL_OK ? 200 : 0;
            return 1;
        }
    }
    return 0;
}

/* ---- the status listener --------------------------------------------------------------------------------------------------------- */

static void answer_message(exchange_t *x, int status, const char *message) {
    x->response.status = status;
    x->response.content_type = "application/json; charset=utf-8";
    sl_buf_printf(&x->response.body, "{\"message\":\"%s\"}", message);
}

/* {"status": "draining"}: who balances over several nodes shall see that this one is about to go. */
static void take_readiness(exchange_t *x) {
    json_t *body = json_loadb(x->body.data != NULL ? x->body.data : "", x->body.len, 0, NULL);
    const char *status = json_string_value(json_object_get(body, "status"));
    if (status != NULL && (ngx_strcmp(status, "draining") == 0 || ngx_strcmp(status, "ready") == 0)) {
        ngx_http_sluice_gw_set_draining(status[0] == 'd');
        x->response.status = 204;
    } else {
        answer_message(x, 400, "expected {\\\"status\\\":\\\"draining\\\"} or {\\\"status\\\":\\\"ready\\\"}");
    }
    json_decref(body);
}

/* 0: it is for the rest of the Admin API. */
static unsigned show_status(ngx_http_request_t *r, exchange_t *x) {
    static const char *const paths[] = {"/status", "/status/ready", "/metrics"};
    ngx_http_sluice_gw_loc_conf_t *lcf = ngx_http_get_module_loc_conf(r, ngx_http_sluice_gateway_module);
    if (!lcf->status) {
        return 0;
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (sl_str_eq(x->request.path, sl_cstr(paths[i]))) {
            if (i == 1 && sl_str_eq(x->request.method, SL_STR("POST"))) {
                take_readiness(x);
                return 1;
            }
            return 0;
        }
    }
    answer_message(x, 404, "Not found");
    return 1;
}

static void handle(ngx_http_request_t *r) {
    exchange_t *x = exchange_make(r);
    if (x == NULL) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }
    if (show_status(r, x) || show_state(x)) {
        /* answered */
    } else if (ngx_http_sluice_gw_has_store()) {
        if (start_thread(r, x, &on_store) == NGX_OK) {
            return;
        }
    } else if (is_about_filters(x)) {
        if (start_thread(r, x, &looks) == NGX_OK) {
            return;
        }
    } else if (sl_str_eq(x->request.path, SL_STR("/plan")) || (is_config(x) && !is_config_write(x))) {
        if (start_thread(r, x, &reads) == NGX_OK) {
            return;
        }
    } else if (!is_config_write(x)) {
        gw_admin_replace_t unused = {.entities = NULL};
        (void)gw_admin_handle(&x->request, &x->env, &x->response, &unused);
        json_decref(unused.entities);
    } else if (ngx_http_sluice_gw_load_begin() != NGX_OK) {
        busy(x);
    } else {
        x->generation = ngx_http_sluice_gw_latest() + 1;
        if (start_thread(r, x, &replaces) == NGX_OK) {
            return;
        }
        ngx_http_sluice_gw_load_end(0);
    }
    ngx_int_t rc = send_response(r, &x->response);
    exchange_free(x);
    ngx_http_finalize_request(r, rc);
}

ngx_int_t ngx_http_sluice_gw_admin_handler(ngx_http_request_t *r) {
    r->disable_not_modified = 1; /* conditions are about revisions, which nginx does not know */
    ngx_int_t rc = ngx_http_read_client_request_body(r, handle);
    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}
