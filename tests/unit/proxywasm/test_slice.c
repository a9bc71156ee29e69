/* Filters that stop in the middle of a callback and go on from the event loop. */
#include <stdlib.h>

#include "pt.h"

static const char *const get[] = {":method", "GET", ":path", "/", NULL};
static const char *const ok[] = {":status", "200", NULL};

/* The guest has used up its slice; false: what it does is of no use any more, and it must return. */
static bool stop_here(pt_t *t) {
    sl_instance_t *in = t->in;
    sl_status_t rc = sl_null_slice(in);
    t->in = in;
    t->trap = NULL; /* whatever ran meanwhile */
    t->host_trapped = rc != SL_OK;
    return rc == SL_OK;
}

/* Three slices, a letter in each, and a header at the end. */
static uint32_t three_slices(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    for (int i = 0; i < 2; i++) {
        pt_trace(t, "%u%c ", ctx, 'a' + i);
        if (!stop_here(t)) {
            pt_trace(t, "%u-dropped ", ctx);
            return 0;
        }
    }
    pt_trace(t, "%uc ", ctx);
    guest_edit(t, "proxy_add_header_map_value", PW_MAP_REQUEST_HEADERS, "x-slices", "3");
    return PW_HEADERS_CONTINUE;
}

/* A host call that takes several slices, between two letters. */
static uint32_t packs(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    enum { TEXT = 40000 };
    uint32_t text = guest_room(t, TEXT), name = guest_put(t, "compress", 8), out = guest_room(t, 8);
    memset(t->in->mem + text, 'x', TEXT);
    pt_trace(t, "%ua ", ctx);
    if (guest_call(t, "proxy_call_foreign_function", name, 8, text, TEXT, out, out + 4) == PW_OK) {
        pt_trace(t, "%ub%u ", ctx, guest_u32(t, out + 4) != 0 && guest_u32(t, out + 4) < 200);
    }
    return PW_HEADERS_CONTINUE;
}

static uint32_t traps_in_its_second_slice(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    if (stop_here(t)) {
        t->trap = "second slice";
    }
    return 0;
}

static uint32_t say_log(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    pt_trace(t, "%u-log ", ctx);
    return 0;
}

static uint32_t say_delete(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    pt_trace(t, "%u-delete ", ctx);
    return 0;
}

static pt_t *sliced_with(sl_isolation_t isolation, sl_module_t *module, uint32_t cpu_budget_ms) {
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_filter_conf_t conf = {.name = SL_STR("f"), .module = module};
    sl_filter_opts_init(&conf.opts);
    conf.opts.slice = true;
    conf.opts.isolation = (uint8_t)isolation;
    conf.opts.cpu_budget_ms = cpu_budget_ms;
    conf.opts.breaker_traps = 0;
    conf.opts.set |= SL_FOPT_BIT(SLICE) | SL_FOPT_BIT(ISOLATION) | SL_FOPT_BIT(BREAKER_TRAPS) | SL_FOPT_BIT(CPU_BUDGET_MS);
    if (pt_filter(t, &conf, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    pt_chain(t, NULL);
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    pt_map(t, PW_MAP_RESPONSE_HEADERS, ok);
    t->on[PW_CB_LOG] = say_log;
    t->on[PW_CB_DELETE] = say_delete;
    return t;
}

static pt_t *sliced(sl_isolation_t isolation, pt_fn_t on_request_headers) {
    pt_t *t = sliced_with(isolation, NULL, 0);
    t->on[PW_CB_REQUEST_HEADERS] = on_request_headers;
    return t;
}

static void run_all(pt_t *t) {
    for (int i = 0; i < 10000 && pw_worker_run(t->worker); i++) {
    }
}

static pw_verdict_t resume(pw_stream_t *s) {
    pw_out_t out;
    return pw_stream_resume(s, PW_DIR_REQUEST, &out);
}

static void end(pt_t *t, pw_stream_t *s) {
    pw_stream_log(s);
    pw_stream_free(s);
    run_all(t);
}

static void a_callback_goes_on_where_it_stopped_and_the_proxy_is_woken_at_its_end(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_SHARED, three_slices);
    pw_stream_t *s = pt_begin(t, PW_WAIT);
    assert_string_equal(t->trace, "2a ");
    assert_true(t->soon != 0);
    assert_true(pw_worker_run(t->worker));
    assert_string_equal(t->trace, "2a 2b ");
    assert_int_equal(t->wakes[PW_DIR_REQUEST], 0);
    assert_int_equal(resume(s), PW_WAIT); /* too early */
    assert_null(pt_value(t, PW_MAP_REQUEST_HEADERS, "x-slices"));
    assert_false(pw_worker_run(t->worker));
    assert_string_equal(t->trace, "2a 2b 2c ");
    assert_int_not_equal(t->wakes[PW_DIR_REQUEST], 0);
    assert_int_equal(resume(s), PW_CONTINUE);
    assert_string_equal(pt_value(t, PW_MAP_REQUEST_HEADERS, "x-slices"), "3");
    end(t, s);
    assert_string_equal(t->trace, "2a 2b 2c 2-log 2-delete ");
    pt_free(t);
}

static void a_shared_instance_is_never_entered_in_the_middle_of_a_callback(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_SHARED, three_slices);
    pw_stream_t *a = pt_begin(t, PW_WAIT), *b = pt_begin(t, PW_WAIT);
    run_all(t);
    assert_string_equal(t->trace, "2a 2b 2c 3a 3b 3c ");
    assert_int_equal(resume(a), PW_CONTINUE);
    assert_int_equal(resume(b), PW_CONTINUE);
    end(t, a);
    end(t, b);
    pt_free(t);
}

static void isolated_requests_take_turns(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_REQUEST, three_slices);
    pw_stream_t *a = pt_begin(t, PW_WAIT), *b = pt_begin(t, PW_WAIT);
    run_all(t);
    static const char letters[] = "aabbcc"; /* whose they are is said by the ids; both take part in each round */
    for (size_t i = 0; i < sizeof(letters) - 1; i++) {
        assert_int_equal(t->trace[3 * i + 1], letters[i]);
    }
    assert_int_not_equal(t->trace[0], t->trace[3]);
    assert_int_equal(resume(a), PW_CONTINUE);
    assert_int_equal(resume(b), PW_CONTINUE);
    end(t, a);
    end(t, b);
    pt_free(t);
}

static void when_the_client_goes_a_shared_instance_ends_its_callback_first(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_SHARED, three_slices);
    pw_stream_t *s = pt_begin(t, PW_WAIT);
    pw_stream_log(s);
    pw_stream_free(s);
    assert_string_equal(t->trace, "2a ");
    run_all(t);
    assert_string_equal(t->trace, "2a 2b 2c 2-log 2-delete ");
    assert_int_equal(t->wakes[PW_DIR_REQUEST], 0); /* there is nobody to be woken */
    s = pt_begin(t, PW_WAIT);                      /* others find it whole */
    run_all(t);
    assert_int_equal(resume(s), PW_CONTINUE);
    end(t, s);
    assert_int_equal(pw_worker_stats(t->worker).vms_reset, 0);
    pt_free(t);
}

static void when_the_client_goes_an_instance_of_its_own_is_ended_at_once(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_REQUEST, three_slices);
    pw_stream_t *s = pt_begin(t, PW_WAIT);
    pw_stream_log(s);
    assert_non_null(strstr(t->trace, "-dropped "));
    assert_null(strchr(t->trace, 'b'));
    pw_stream_free(s);
    run_all(t);
    s = pt_begin(t, PW_WAIT);
    run_all(t);
    assert_int_equal(resume(s), PW_CONTINUE);
    end(t, s);
    pt_free(t);
}

static void who_waits_for_an_instance_and_goes_never_enters_it(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_SHARED, three_slices);
    pw_stream_t *a = pt_begin(t, PW_WAIT), *b = pt_begin(t, PW_WAIT);
    pw_stream_log(b);
    pw_stream_free(b);
    run_all(t);
    assert_null(strstr(t->trace, "3a "));
    assert_int_equal(resume(a), PW_CONTINUE);
    end(t, a);
    pt_free(t);
}

static void a_trap_in_a_later_slice_fails_its_request_and_those_that_wait_for_the_instance(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_SHARED, traps_in_its_second_slice);
    pw_stream_t *a = pt_begin(t, PW_WAIT), *b = pt_begin(t, PW_WAIT);
    run_all(t);
    assert_int_equal(resume(a), PW_FAIL);
    assert_int_equal(resume(b), PW_FAIL);
    assert_true(pt_logged(t, "second slice"));
    end(t, a);
    end(t, b);
    t->on[PW_CB_REQUEST_HEADERS] = three_slices;
    pw_stream_t *c = pt_begin(t, PW_WAIT); /* the next one has a healthy instance */
    run_all(t);
    assert_int_equal(resume(c), PW_CONTINUE);
    end(t, c);
    pt_free(t);
}

static void a_trap_in_a_later_slice_is_its_own_request_s_alone_where_requests_are_isolated(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_REQUEST, traps_in_its_second_slice);
    pw_stream_t *a = pt_begin(t, PW_WAIT);
    t->on[PW_CB_REQUEST_HEADERS] = three_slices;
    pw_stream_t *b = pt_begin(t, PW_WAIT);
    run_all(t);
    assert_int_equal(resume(a), PW_FAIL);
    assert_int_equal(resume(b), PW_CONTINUE);
    end(t, a);
    end(t, b);
    pt_free(t);
}

static void a_worker_that_goes_ends_what_has_stopped(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_SHARED, three_slices);
    pw_stream_t *a = pt_begin(t, PW_WAIT), *b = pt_begin(t, PW_WAIT);
    pw_stream_log(a);
    pw_stream_free(a);
    pw_stream_log(b);
    pw_stream_free(b);
    pt_free(t); /* leaks and uses of what has gone are the sanitizers' to find */
}

static void a_tick_that_stops_goes_on_and_requests_wait_for_it(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_SHARED, NULL);
    t->on[PW_CB_TICK] = three_slices;
    pw_root_tick(t->filters[0]->root);
    assert_string_equal(t->trace, "1a ");
    pw_stream_t *s = pt_begin(t, PW_WAIT);
    run_all(t);
    assert_string_equal(t->trace, "1a 1b 1c ");
    assert_int_equal(resume(s), PW_CONTINUE);
    end(t, s);
    pt_free(t);
}

/* ---- host calls that stop ---- */

static void a_long_host_call_leaves_the_event_loop_to_others(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_REQUEST, packs);
    pw_stream_t *a = pt_begin(t, PW_WAIT), *b = pt_begin(t, PW_WAIT);
    run_all(t);
    assert_string_equal(t->trace, "2a 3a 2b1 3b1 ");
    assert_int_equal(resume(a), PW_CONTINUE);
    assert_int_equal(resume(b), PW_CONTINUE);
    end(t, a);
    end(t, b);
    pt_free(t);
}

static void a_host_call_that_nobody_wants_any_more_is_given_up(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_REQUEST, packs);
    pw_stream_t *s = pt_begin(t, PW_WAIT);
    pw_stream_log(s);
    pw_stream_free(s);
    run_all(t);
    assert_string_equal(t->trace, "2a "); /* and its context went with it */
    s = pt_begin(t, PW_WAIT);
    run_all(t);
    assert_int_equal(resume(s), PW_CONTINUE);
    end(t, s);
    pt_free(t);
}

static void a_worker_that_goes_ends_host_calls_that_have_stopped(void **state) {
    (void)state;
    pt_t *t = sliced(SL_ISOLATION_SHARED, packs);
    pw_stream_t *s = pt_begin(t, PW_WAIT);
    pw_stream_log(s);
    pw_stream_free(s);
    pt_free(t);
}

/* ---- with Wasmtime ---- */

static const char spinning_guest[] =
    "(module (memory (export \"memory\") 1)"
    " (func (export \"proxy_abi_version_0_2_1\"))"
    " (func (export \"proxy_on_memory_allocate\") (param i32) (result i32) (i32.const 1024))"
    " (func (export \"proxy_on_context_create\") (param i32 i32))"
    " (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32) (loop $l (br $l)) (i32.const 0)))";

static void a_budget_counts_all_slices_together(void **state) {
    (void)state;
    sl_engine_t *engine = NULL;
    sl_module_t *module = NULL;
    sl_err_t err;
    if (sl_engine_new(NULL, &engine, &err) != SL_OK || sl_module_compile(engine, SL_STR(spinning_guest), &module, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    pt_t *t = sliced_with(SL_ISOLATION_SHARED, module, 20);
    pw_stream_t *s = pt_begin(t, PW_WAIT);
    int slices = 1;
    while (pw_worker_run(t->worker)) {
        slices++;
    }
    assert_true(slices >= 2);
    assert_int_equal(resume(s), PW_FAIL);
    assert_true(pt_logged(t, "the CPU budget of 20 ms is used up"));
    end(t, s);
    pt_free(t);
    sl_module_unref(module);
    sl_engine_free(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_callback_goes_on_where_it_stopped_and_the_proxy_is_woken_at_its_end),
        cmocka_unit_test(a_shared_instance_is_never_entered_in_the_middle_of_a_callback),
        cmocka_unit_test(isolated_requests_take_turns),
        cmocka_unit_test(when_the_client_goes_a_shared_instance_ends_its_callback_first),
        cmocka_unit_test(when_the_client_goes_an_instance_of_its_own_is_ended_at_once),
        cmocka_unit_test(who_waits_for_an_instance_and_goes_never_enters_it),
        cmocka_unit_test(a_trap_in_a_later_slice_fails_its_request_and_those_that_wait_for_the_instance),
        cmocka_unit_test(a_trap_in_a_later_slice_is_its_own_request_s_alone_where_requests_are_isolated),
        cmocka_unit_test(a_worker_that_goes_ends_what_has_stopped),
        cmocka_unit_test(a_tick_that_stops_goes_on_and_requests_wait_for_it),
        cmocka_unit_test(a_long_host_call_leaves_the_event_loop_to_others),
        cmocka_unit_test(a_host_call_that_nobody_wants_any_more_is_given_up),
        cmocka_unit_test(a_worker_that_goes_ends_host_calls_that_have_stopped),
        cmocka_unit_test(a_budget_counts_all_slices_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
