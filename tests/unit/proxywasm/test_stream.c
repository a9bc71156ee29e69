/* The life of filters, contexts and streams. */
#include "pt.h"

static uint32_t trace_create(pt_t *t, uint32_t ctx, uint32_t parent, uint32_t a2) {
    (void)a2;
    pt_trace(t, "create(%u,%u) ", ctx, parent);
    return 0;
}

static uint32_t trace_vm_start(pt_t *t, uint32_t ctx, uint32_t size, uint32_t a2) {
    (void)a2;
    pt_trace(t, "vm_start(%u,%u) ", ctx, size);
    return 1;
}

static uint32_t trace_configure(pt_t *t, uint32_t ctx, uint32_t size, uint32_t a2) {
    (void)a2;
    pt_trace(t, "configure(%u,%u) ", ctx, size);
    return 1;
}

static uint32_t trace_done(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1;
    (void)a2;
    pt_trace(t, "done(%u) ", ctx);
    return 1;
}

static uint32_t trace_log(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1;
    (void)a2;
    pt_trace(t, "log(%u) ", ctx);
    return 0;
}

static uint32_t trace_delete(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1;
    (void)a2;
    pt_trace(t, "delete(%u) ", ctx);
    return 0;
}

static uint32_t trace_request_headers(pt_t *t, uint32_t ctx, uint32_t n, uint32_t eos) {
    pt_trace(t, "request_headers(%u,%u,%u) ", ctx, n, eos);
    return 0;
}

static uint32_t trace_response_headers(pt_t *t, uint32_t ctx, uint32_t n, uint32_t eos) {
    pt_trace(t, "response_headers(%u,%u,%u) ", ctx, n, eos);
    return 0;
}

static size_t running_position(const pt_t *t) {
    const pw_vm_t *vm = t->in->user;
    return vm->current->position;
}

static uint32_t trace_log_of(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    pt_trace(t, "log %zu ", running_position(t));
    return 0;
}

static uint32_t trace_done_of(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    pt_trace(t, "done %zu ", running_position(t));
    return 1;
}

static void trace_all(pt_t *t) {
    t->on[PW_CB_CONTEXT_CREATE] = trace_create;
    t->on[PW_CB_VM_START] = trace_vm_start;
    t->on[PW_CB_CONFIGURE] = trace_configure;
    t->on[PW_CB_DONE] = trace_done;
    t->on[PW_CB_LOG] = trace_log;
    t->on[PW_CB_DELETE] = trace_delete;
    t->on[PW_CB_REQUEST_HEADERS] = trace_request_headers;
    t->on[PW_CB_RESPONSE_HEADERS] = trace_response_headers;
}

static const char *const get[] = {":method", "GET", ":path", "/", ":authority", "here", NULL};
static const char *const ok[] = {":status", "200", NULL};

static pw_verdict_t request(pt_t *t, pw_stream_t *s, pw_out_t *out) {
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    return pw_stream_headers(s, PW_DIR_REQUEST, true, out);
}

static pw_verdict_t response(pt_t *t, pw_stream_t *s, pw_out_t *out) {
    pt_map(t, PW_MAP_RESPONSE_HEADERS, ok);
    return pw_stream_headers(s, PW_DIR_RESPONSE, true, out);
}

static void a_filter_and_a_stream_see_their_callbacks_in_order(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_out_t out;
    trace_all(t);
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.vm_config = SL_STR("vm"), .config = SL_STR("four")}, &err), SL_OK);
    assert_string_equal(t->trace, "create(1,0) vm_start(1,2) configure(1,4) ");
    pt_chain(t, NULL);
    t->trace[0] = '\0';
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_string_equal(t->trace, "");
    assert_int_equal(request(t, s, &out), PW_CONTINUE);
    assert_true(out.headers && out.eos && !out.changed);
    assert_int_equal(response(t, s, &out), PW_CONTINUE);
    pw_stream_log(s);
    pw_stream_free(s);
    assert_string_equal(t->trace, "create(2,1) request_headers(2,3,1) response_headers(2,1,1) log(2) done(2) delete(2) ");
    t->trace[0] = '\0';
    pw_chain_unref(t->chain);
    t->chain = NULL;
    pw_filter_unref(t->filters[--t->n_filters]);
    assert_string_equal(t->trace, "done(1) delete(1) ");
    assert_int_equal(t->roots_gone, 1);
    pt_free(t);
}

static void the_wasmx_dialect_is_done_before_it_logs(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_out_t out;
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.opts.dialect = SL_DIALECT_WASMX}, &err), SL_OK);
    pt_chain(t, NULL);
    trace_all(t);
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    request(t, s, &out);
    pw_stream_log(s);
    pw_stream_free(s);
    assert_string_equal(t->trace, "create(2,1) request_headers(2,0,0) done(2) log(2) delete(2) ");
    pt_free(t);
}

/* The trace of a stream's end, in a chain of two filters with these callbacks besides those of headers. */
static void assert_end(uint32_t first, uint32_t second, const char *trace) {
    const uint32_t always =
        PW_CB_BIT(PW_CB_CONTEXT_CREATE) | PW_CB_BIT(PW_CB_CONFIGURE) | PW_CB_BIT(PW_CB_REQUEST_HEADERS) | PW_CB_BIT(PW_CB_RESPONSE_HEADERS);
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_out_t out;
    pw_filter_conf_t a = {.module = pt_module(t, &(pt_guest_t){.name = "a", .callbacks = always | first})};
    pw_filter_conf_t b = {.module = pt_module(t, &(pt_guest_t){.name = "b", .callbacks = always | second}), .opts.vm_id = SL_STR("b")};
    assert_int_equal(pt_filter(t, &a, &err), SL_OK);
    assert_int_equal(pt_filter(t, &b, &err), SL_OK);
    pt_chain(t, NULL);
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    request(t, s, &out);
    response(t, s, &out);
    trace_all(t);
    t->on[PW_CB_LOG] = trace_log_of;
    t->on[PW_CB_DONE] = trace_done_of;
    t->trace[0] = '\0';
    pw_stream_log(s);
    assert_string_equal(t->trace, trace);
    pw_stream_free(s);
    pt_free(t);
}

static void all_are_told_to_log_before_the_first_is_done(void **state) {
    (void)state;
    const uint32_t log = PW_CB_BIT(PW_CB_LOG), done = PW_CB_BIT(PW_CB_DONE), deleted = PW_CB_BIT(PW_CB_DELETE);
    assert_end(log | done, log | done, "log 0 log 1 done 0 done 1 ");
    assert_end(log | done, done, "log 0 done 0 done 1 ");
    assert_end(done, log | done, "log 1 done 0 done 1 ");
    assert_end(done, log, "log 1 done 0 ");
    assert_end(deleted, log | done, "log 1 done 1 ");
    assert_end(log | done, deleted, "log 0 done 0 ");
    assert_end(deleted, deleted, "");
}

static void filters_with_the_same_key_share_an_instance_and_others_do_not(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_filter_conf_t conf = {.module = pt_module(t, &(pt_guest_t){.name = "full", .callbacks = PT_ALL})};
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    assert_int_equal(pw_worker_stats(t->worker).vms_created, 1);
    conf.opts.vm_id = SL_STR("other");
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    conf.env = &(pw_pair_t){SL_STR("A"), SL_STR("B")};
    conf.n_env = 1;
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    assert_int_equal(pw_worker_stats(t->worker).vms_created, 3);
    pt_free(t);
}

static void a_stream_that_saw_nothing_is_still_logged(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pt_filters(t, 1);
    trace_all(t);
    pw_stream_free(pw_stream_new(t->worker, t->chain, t));
    assert_string_equal(t->trace, "create(2,1) log(2) done(2) delete(2) ");
    pt_free(t);
}

static void a_filter_without_stream_callbacks_gets_no_contexts(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_out_t out;
    uint32_t cbs = PW_CB_BIT(PW_CB_CONTEXT_CREATE) | PW_CB_BIT(PW_CB_TICK);
    pw_filter_conf_t conf = {.module = pt_module(t, &(pt_guest_t){.name = "ticker", .callbacks = cbs})};
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    pt_chain(t, NULL);
    trace_all(t);
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(request(t, s, &out), PW_CONTINUE);
    pw_stream_free(s);
    assert_string_equal(t->trace, "");
    pt_free(t);
}

/* ---- refusing and trapping ---- */

static uint32_t answer_0(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)t;
    (void)ctx;
    (void)a1;
    (void)a2;
    return 0;
}

static uint32_t do_trap(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx;
    (void)a1;
    (void)a2;
    t->trap = "out of luck";
    return 0;
}

static void a_refused_configuration_names_filter_and_callback(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    trace_all(t);
    t->on[PW_CB_CONFIGURE] = answer_0;
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.name = SL_STR("picky")}, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "\"picky\""));
    assert_non_null(strstr(err.text, "proxy_on_configure"));
    assert_string_equal(t->trace, "create(1,0) vm_start(1,0) ");
    t->on[PW_CB_VM_START] = answer_0;
    assert_int_equal(pt_filter(t, NULL, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "proxy_on_vm_start"));
    pt_free(t);
}

static void a_trap_at_the_start_is_told_with_its_reason(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    t->on[PW_CB_VM_START] = do_trap;
    assert_int_equal(pt_filter(t, NULL, &err), SL_TRAP);
    assert_non_null(strstr(err.text, "out of luck"));
    pt_free(t);
}

static void a_trap_fails_the_stream_and_the_next_stream_gets_a_new_instance(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pt_filters(t, 1);
    pt_without_images(t);
    t->on[PW_CB_REQUEST_HEADERS] = do_trap;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(request(t, s, &out), PW_FAIL);
    assert_int_equal(pw_stream_failure(s), 500);
    assert_true(pt_logged(t, "[\"f0\" #2] trap in proxy_on_request_headers: out of luck"));
    assert_true(pt_logged(t, "at proxy_on_request_headers"));
    trace_all(t);
    assert_int_equal(response(t, s, &out), PW_CONTINUE); /* the error page passes; no callback of a dead instance */
    pw_stream_free(s);
    assert_string_equal(t->trace, "");
    s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(request(t, s, &out), PW_CONTINUE);
    pw_stream_free(s);
    assert_string_equal(t->trace, "create(1,0) vm_start(1,0) configure(1,0) create(2,1) request_headers(2,3,1) log(2) done(2) delete(2) ");
    assert_int_equal(pw_worker_stats(t->worker).vms_failed, 1);
    pt_free(t);
}

static uint32_t pause_all(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)t;
    (void)ctx;
    (void)a1;
    (void)a2;
    return PW_HEADERS_STOP_ALL_WATERMARK;
}

static void a_trap_wakes_and_fails_the_other_streams_of_the_instance(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pt_filters(t, 1);
    t->on[PW_CB_REQUEST_HEADERS] = pause_all;
    pw_stream_t *waiting = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(request(t, waiting, &out), PW_WAIT);
    pw_stream_t *running = pw_stream_new(t->worker, t->chain, t);
    t->on[PW_CB_REQUEST_HEADERS] = do_trap;
    assert_int_equal(request(t, running, &out), PW_FAIL);
    assert_int_equal(t->wakes[PW_DIR_REQUEST], 1);
    assert_int_equal(pw_stream_resume(waiting, PW_DIR_REQUEST, &out), PW_FAIL);
    assert_int_equal(pw_stream_failure(waiting), 500);
    pw_stream_free(waiting);
    pw_stream_free(running);
    pt_free(t);
}

static void a_filter_that_does_not_start_again_is_tried_once_a_second(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pt_filters(t, 1);
    pt_without_images(t);
    t->on[PW_CB_REQUEST_HEADERS] = do_trap;
    t->on[PW_CB_CONFIGURE] = NULL;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    request(t, s, &out);
    pw_stream_free(s);
    t->on[PW_CB_REQUEST_HEADERS] = NULL;
    t->on[PW_CB_VM_START] = do_trap;
    for (int i = 0; i < 3; i++) {
        s = pw_stream_new(t->worker, t->chain, t);
        assert_int_equal(request(t, s, &out), PW_FAIL);
        pw_stream_free(s);
    }
    assert_int_equal(pw_worker_stats(t->worker).vms_created, 2);
    t->now_ns += 1000000000u;
    t->on[PW_CB_VM_START] = NULL;
    s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(request(t, s, &out), PW_CONTINUE);
    pw_stream_free(s);
    assert_int_equal(pw_worker_stats(t->worker).vms_created, 3);
    pt_free(t);
}

static void in_wasmx_a_trap_of_the_response_lets_it_pass(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_out_t out;
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.opts.dialect = SL_DIALECT_WASMX}, &err), SL_OK);
    pt_chain(t, NULL);
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(request(t, s, &out), PW_CONTINUE);
    t->on[PW_CB_RESPONSE_HEADERS] = do_trap;
    assert_int_equal(response(t, s, &out), PW_CONTINUE);
    assert_int_equal(pw_stream_failure(s), 0);
    pw_stream_free(s);
    pt_free(t);
}

/* ---- the end of root contexts ---- */

static uint32_t call_done(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx;
    (void)a1;
    (void)a2;
    pt_trace(t, "tick:%u ", guest_call_n(t, "proxy_done", 0, NULL));
    pt_trace(t, "again:%u ", guest_call_n(t, "proxy_done", 0, NULL));
    return 0;
}

static uint32_t done_later(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    trace_done(t, ctx, a1, a2);
    return 0;
}

static void a_root_may_put_its_end_off_until_proxy_done(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    assert_int_equal(pt_filter(t, NULL, &err), SL_OK);
    pw_root_t *root = t->filters[0]->root;
    t->on[PW_CB_DONE] = done_later;
    t->on[PW_CB_DELETE] = trace_delete;
    t->on[PW_CB_TICK] = call_done;
    pw_filter_unref(t->filters[--t->n_filters]);
    assert_string_equal(t->trace, "done(1) ");
    pw_root_tick(root);
    assert_string_equal(t->trace, "done(1) tick:0 again:1 delete(1) ");
    pt_free(t);
}

static void a_root_that_never_says_done_goes_with_the_worker(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    assert_int_equal(pt_filter(t, NULL, &err), SL_OK);
    t->on[PW_CB_DONE] = done_later;
    t->on[PW_CB_DELETE] = trace_delete;
    pw_filter_unref(t->filters[--t->n_filters]);
    pw_worker_free(t->worker);
    assert_string_equal(t->trace, "done(1) delete(1) ");
    t->worker = NULL;
    pt_free(t);
}

/* ---- ticks ---- */

static uint32_t set_tick(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx;
    (void)a1;
    (void)a2;
    guest_call(t, "proxy_set_tick_period_milliseconds", 250);
    return 0;
}

static void a_tick_set_by_a_stream_is_its_roots_and_ends_with_it(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pt_filters(t, 1);
    t->on[PW_CB_REQUEST_HEADERS] = set_tick;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    request(t, s, &out);
    assert_int_equal(t->tick_ms, 250);
    t->on[PW_CB_TICK] = do_trap;
    pw_root_tick(t->filters[0]->root);
    assert_int_equal(t->tick_ms, 0);
    pw_stream_free(s);
    pt_free(t);
}

/* ---- starting again without a stream ---- */

static void pass_ms(pt_t *t, uint32_t ms) {
    t->now_ns += (uint64_t)ms * 1000000;
    pw_worker_alarm(t->worker);
}

static uint32_t note_configure(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1;
    (void)a2;
    pt_trace(t, "configure(%u) ", ctx);
    return 1;
}

static bool works(const pt_t *t, size_t i) {
    return t->filters[i]->root != NULL && !t->filters[i]->root->vm->failed;
}

static void trap_on_tick(pt_t *t) {
    t->on[PW_CB_TICK] = do_trap;
    pw_root_tick(t->filters[0]->root);
}

static void a_filter_that_traps_between_streams_is_started_again_after_a_second(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pt_filters(t, 2); /* of one VM */
    pt_without_images(t);
    t->on[PW_CB_CONFIGURE] = note_configure;
    trap_on_tick(t);
    assert_in_range(t->alarm_ms, 1000, 1001);
    pass_ms(t, 500);
    assert_false(works(t, 0));
    assert_in_range(t->alarm_ms, 500, 501);
    pass_ms(t, 500);
    assert_true(works(t, 0));
    assert_true(works(t, 1));
    assert_string_equal(t->trace, "configure(1) configure(2) ");
    pt_free(t);
}

static void one_that_goes_on_trapping_waits_longer_each_time(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pt_filters(t, 1);
    for (uint32_t ms = 1000; ms <= 32000; ms *= 2) {
        trap_on_tick(t);
        assert_in_range(t->alarm_ms, ms, ms + 1);
        pass_ms(t, ms);
        assert_true(works(t, 0));
    }
    trap_on_tick(t);
    assert_in_range(t->alarm_ms, 60000, 60001);
    pass_ms(t, 60000);
    t->now_ns += 20000000000u;
    trap_on_tick(t);
    assert_in_range(t->alarm_ms, 1000, 1001);
    pt_free(t);
}

static void one_that_does_not_start_is_tried_again(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pt_filters(t, 1);
    pt_without_images(t);
    t->on[PW_CB_CONFIGURE] = answer_0;
    trap_on_tick(t);
    pass_ms(t, 1000);
    assert_false(works(t, 0));
    assert_in_range(t->alarm_ms, 2000, 2001);
    t->on[PW_CB_CONFIGURE] = note_configure;
    pass_ms(t, 2000);
    assert_true(works(t, 0));
    pt_free(t);
}

static void a_stream_need_not_wait_for_that(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pt_filters(t, 1);
    trap_on_tick(t);
    pw_stream_free(pw_stream_new(t->worker, t->chain, t));
    assert_true(works(t, 0));
    pw_root_t *root = t->filters[0]->root;
    pass_ms(t, 1000);
    assert_ptr_equal(t->filters[0]->root, root);
    pt_free(t);
}

static void one_that_has_gone_is_not_started_again(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pt_filters(t, 2);
    pw_chain_unref(t->chain);
    t->chain = NULL;
    trap_on_tick(t);
    pw_filter_unref(t->filters[0]);
    t->on[PW_CB_CONFIGURE] = note_configure;
    t->filters[0] = t->filters[--t->n_filters];
    pass_ms(t, 1000);
    assert_string_equal(t->trace, "configure(1) ");
    pt_free(t);
}

/* ---- replies, resets ---- */

static uint32_t reply_403(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    pt_trace(t, "reply(%u) ", ctx);
    (void)a1;
    (void)a2;
    guest_reply(t, 403, "no");
    guest_reply(t, 200, "the second one");
    return 0;
}

static void a_reply_skips_the_filters_after_it_and_passes_all_response_callbacks(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pt_filters(t, 2);
    t->on[PW_CB_REQUEST_HEADERS] = reply_403;
    t->on[PW_CB_RESPONSE_HEADERS] = trace_response_headers;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(request(t, s, &out), PW_REPLY);
    const pw_reply_t *r = pw_stream_reply(s);
    assert_int_equal(r->status, 403);
    assert_int_equal(r->dir, PW_DIR_REQUEST);
    assert_int_equal(r->grpc_status, -1);
    assert_str(r->details, "why_not");
    assert_str(r->body, "no");
    assert_str(r->filter, "f0");
    assert_int_equal(r->n_headers, 1);
    assert_str(r->headers[0].key, "X-Reply"); /* on the wire names keep their case */
    assert_int_equal(response(t, s, &out), PW_CONTINUE);
    assert_string_equal(t->trace, "reply(3) response_headers(3,1,1) response_headers(4,1,1) ");
    pw_stream_free(s);
    pt_free(t);
}

static void a_reply_from_response_headers_replaces_the_response(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pt_filters(t, 2);
    t->on[PW_CB_RESPONSE_HEADERS] = reply_403;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(request(t, s, &out), PW_CONTINUE);
    assert_int_equal(response(t, s, &out), PW_REPLY);
    assert_int_equal(pw_stream_reply(s)->dir, PW_DIR_RESPONSE);
    assert_string_equal(t->trace, "reply(3) ");
    pw_stream_free(s);
    pt_free(t);
}

static uint32_t reply_body(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx;
    (void)a1;
    (void)a2;
    guest_reply(t, 502, "late");
    return 0;
}

static void a_reply_after_the_response_headers_have_gone_resets(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pt_filters(t, 1);
    t->on[PW_CB_RESPONSE_BODY] = reply_body;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    request(t, s, &out);
    pt_map(t, PW_MAP_RESPONSE_HEADERS, ok);
    assert_int_equal(pw_stream_headers(s, PW_DIR_RESPONSE, false, &out), PW_CONTINUE);
    assert_int_equal(pw_stream_body(s, PW_DIR_RESPONSE, &SL_STR("x"), 1, true, &out), PW_RESET);
    pw_stream_free(s);
    pt_free(t);
}

static uint32_t close_it(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx;
    (void)a1;
    (void)a2;
    guest_call(t, "proxy_close_stream", 0);
    return 0;
}

static void close_stream_resets_once(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pt_filters(t, 1);
    t->on[PW_CB_REQUEST_HEADERS] = close_it;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(request(t, s, &out), PW_RESET);
    assert_int_equal(t->wakes[0] + t->wakes[1], 0);
    pw_stream_free(s);
    pt_free(t);
}

static uint32_t tick_reply(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx;
    (void)a1;
    (void)a2;
    pt_trace(t, "effective:%u ", guest_call(t, "proxy_set_effective_context", *(uint32_t *)t->ud));
    guest_reply(t, 401, "from a tick");
    return 0;
}

static void a_tick_can_answer_a_stream_that_waits(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    uint32_t id = 2;
    pt_filters(t, 1);
    t->ud = &id;
    t->on[PW_CB_REQUEST_HEADERS] = pause_all;
    t->on[PW_CB_TICK] = tick_reply;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(request(t, s, &out), PW_WAIT);
    pw_root_tick(t->filters[0]->root);
    assert_int_equal(t->wakes[PW_DIR_REQUEST], 1);
    assert_int_equal(pw_stream_resume(s, PW_DIR_REQUEST, &out), PW_REPLY);
    assert_int_equal(pw_stream_reply(s)->status, 401);
    pw_stream_free(s);
    pw_root_tick(t->filters[0]->root); /* the context has gone */
    assert_string_equal(t->trace, "effective:0 effective:2 ");
    pt_free(t);
}

static uint32_t log_writes(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    sl_str_t value;
    (void)ctx;
    (void)a1;
    (void)a2;
    pt_trace(t, "read:%u ", guest_header(t, PW_MAP_REQUEST_HEADERS, ":path", &value));
    pt_trace(t, "absent:%u ", guest_header(t, PW_MAP_REQUEST_TRAILERS, "a", &value));
    pt_trace(t, "write:%u ", guest_edit(t, "proxy_add_header_map_value", PW_MAP_REQUEST_HEADERS, "a", "b"));
    guest_reply(t, 200, "ignored");
    return 0;
}

static void the_log_callback_reads_headers_and_changes_nothing(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pt_filters(t, 1);
    t->on[PW_CB_LOG] = log_writes;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    request(t, s, &out);
    pw_stream_log(s);
    assert_null(pw_stream_reply(s));
    assert_string_equal(t->trace, "read:0 absent:1 write:2 ");
    pw_stream_free(s);
    pt_free(t);
}

/* Time passes only inside of guests: the first filter takes 5 for request headers, the second 7. */
static uint32_t take_time(pt_t *t, uint32_t ctx, uint32_t n, uint32_t eos) {
    (void)n;
    (void)eos;
    t->now_ns += ctx == 3 ? 5 : 7;
    return 0;
}

static void callbacks_of_a_stream_are_timed_when_that_is_asked_for(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pw_timing_t first, second;
    pt_filters(t, 2);
    t->on[PW_CB_REQUEST_HEADERS] = take_time;
    for (int timed = 0; timed < 2; timed++) {
        t->now_ns = 1000;
        pw_worker_time_filters(t->worker, timed != 0);
        pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
        request(t, s, &out);
        assert_int_equal(pw_stream_n_filters(s), 2);
        pw_stream_timing(s, 0, &first);
        pw_stream_timing(s, 1, &second);
        assert_int_equal(first.spent_ns + second.spent_ns, timed * (t->now_ns - 1000));
        assert_true(timed ? first.n_callbacks >= 1 && second.spent_ns >= 5 : first.n_callbacks == 0);
        pw_stream_log(s);
        pw_stream_free(s);
    }
    pt_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_of_a_stream_are_timed_when_that_is_asked_for),
        cmocka_unit_test(a_filter_and_a_stream_see_their_callbacks_in_order),
        cmocka_unit_test(the_wasmx_dialect_is_done_before_it_logs),
        cmocka_unit_test(all_are_told_to_log_before_the_first_is_done),
        cmocka_unit_test(filters_with_the_same_key_share_an_instance_and_others_do_not),
        cmocka_unit_test(a_stream_that_saw_nothing_is_still_logged),
        cmocka_unit_test(a_filter_without_stream_callbacks_gets_no_contexts),
        cmocka_unit_test(a_refused_configuration_names_filter_and_callback),
        cmocka_unit_test(a_trap_at_the_start_is_told_with_its_reason),
        cmocka_unit_test(a_trap_fails_the_stream_and_the_next_stream_gets_a_new_instance),
        cmocka_unit_test(a_trap_wakes_and_fails_the_other_streams_of_the_instance),
        cmocka_unit_test(a_filter_that_does_not_start_again_is_tried_once_a_second),
        cmocka_unit_test(a_filter_that_traps_between_streams_is_started_again_after_a_second),
        cmocka_unit_test(one_that_goes_on_trapping_waits_longer_each_time),
        cmocka_unit_test(one_that_does_not_start_is_tried_again),
        cmocka_unit_test(a_stream_need_not_wait_for_that),
        cmocka_unit_test(one_that_has_gone_is_not_started_again),
        cmocka_unit_test(in_wasmx_a_trap_of_the_response_lets_it_pass),
        cmocka_unit_test(a_root_may_put_its_end_off_until_proxy_done),
        cmocka_unit_test(a_root_that_never_says_done_goes_with_the_worker),
        cmocka_unit_test(a_tick_set_by_a_stream_is_its_roots_and_ends_with_it),
        cmocka_unit_test(a_reply_skips_the_filters_after_it_and_passes_all_response_callbacks),
        cmocka_unit_test(a_reply_from_response_headers_replaces_the_response),
        cmocka_unit_test(a_reply_after_the_response_headers_have_gone_resets),
        cmocka_unit_test(close_stream_resets_once),
        cmocka_unit_test(a_tick_can_answer_a_stream_that_waits),
        cmocka_unit_test(the_log_callback_reads_headers_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
