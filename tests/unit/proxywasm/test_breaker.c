/* What becomes of requests when a filter traps: fail policies, and the breaker. */
#include <stdio.h>

#include "pt.h"

#define SECOND ((uint64_t)1000000000u)

/* ---- the breaker by itself ---- */

static pw_breaker_t breaker(uint32_t traps, uint64_t *times) {
    pw_breaker_t b;
    pw_breaker_conf_t conf = {.traps = traps, .window_ns = 10 * SECOND, .backoff_ns = SECOND, .backoff_max_ns = 3 * SECOND};
    pw_breaker_init(&b, &conf, times);
    return b;
}

static void it_opens_at_the_last_of_so_many_failures_within_the_window(void **state) {
    (void)state;
    uint64_t times[3];
    bool probe;
    pw_breaker_t b = breaker(3, times);
    pw_breaker_fail(&b, 1 * SECOND);
    pw_breaker_fail(&b, 6 * SECOND);
    pw_breaker_fail(&b, 12 * SECOND); /* the first one is too old by now */
    assert_true(pw_breaker_admit(&b, 12 * SECOND, &probe));
    assert_false(probe);
    pw_breaker_fail(&b, 16 * SECOND); /* 6, 12, 16 */
    assert_int_equal(b.state, PW_BREAKER_OPEN);
    assert_false(pw_breaker_admit(&b, 16 * SECOND, &probe));
    assert_int_equal(pw_breaker_seconds_left(&b, 16 * SECOND + 1), 1);
}

static void one_request_at_a_time_tries_and_closes_it(void **state) {
    (void)state;
    uint64_t times[1];
    bool probe;
    pw_breaker_t b = breaker(1, times);
    pw_breaker_fail(&b, SECOND);
    assert_true(pw_breaker_admit(&b, 2 * SECOND, &probe));
    assert_true(probe);
    assert_false(pw_breaker_admit(&b, 2 * SECOND + 1, &probe));
    assert_false(probe);
    pw_breaker_probed(&b, false, 2 * SECOND + 2); /* it never came to the filter */
    assert_int_equal(b.state, PW_BREAKER_HALF_OPEN);
    assert_true(pw_breaker_admit(&b, 2 * SECOND + 3, &probe));
    pw_breaker_probed(&b, true, 2 * SECOND + 4);
    assert_int_equal(b.state, PW_BREAKER_CLOSED);
}

static void a_probe_that_never_ends_does_not_keep_all_others_out(void **state) {
    (void)state;
    uint64_t times[1];
    bool probe;
    pw_breaker_t b = breaker(1, times);
    pw_breaker_fail(&b, SECOND);
    assert_true(pw_breaker_admit(&b, 2 * SECOND, &probe));
    assert_false(pw_breaker_admit(&b, 3 * SECOND - 1, &probe));
    assert_true(pw_breaker_admit(&b, 3 * SECOND, &probe));
    assert_true(probe);
}

static void the_back_off_doubles_up_to_its_ceiling_and_starts_anew_after_a_quiet_time(void **state) {
    (void)state;
    uint64_t times[1], now = SECOND;
    static const uint64_t expected[] = {1, 2, 3, 3};
    bool probe;
    pw_breaker_t b = breaker(1, times);
    for (size_t i = 0; i < 4; i++) {
        pw_breaker_fail(&b, now);
        assert_int_equal(b.backoff_ns, expected[i] * SECOND);
        now = b.until_ns;
        assert_true(pw_breaker_admit(&b, now, &probe));
    }
    pw_breaker_probed(&b, true, now);
    pw_breaker_fail(&b, now + SECOND); /* soon after: it flaps */
    assert_int_equal(b.backoff_ns, 3 * SECOND);
    now = b.until_ns;
    assert_true(pw_breaker_admit(&b, now, &probe));
    pw_breaker_probed(&b, true, now);
    pw_breaker_fail(&b, now + 11 * SECOND);
    assert_int_equal(b.backoff_ns, SECOND);
}

static void it_never_opens_where_it_is_off(void **state) {
    (void)state;
    bool probe;
    pw_breaker_t b = breaker(0, NULL);
    for (int i = 0; i < 100; i++) {
        pw_breaker_fail(&b, SECOND);
    }
    assert_true(pw_breaker_admit(&b, SECOND, &probe));
}

/* ---- streams ---- */

static const char *const get[] = {":method", "GET", ":path", "/", NULL};
static const char *const ok[] = {":status", "200", NULL};

static uint32_t do_trap(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    t->trap = "out of luck";
    return 0;
}

/* Of filters f0, f1, f2 each in a VM of its own: f1 traps, the others say that they were there. */
static uint32_t middle_traps(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    pw_vm_t *vm = t->in->user;
    pt_trace(t, "%.*s ", SL_FMT(vm->starter));
    return sl_str_eq(vm->starter, SL_STR("f1")) ? do_trap(t, ctx, a1, a2) : 0;
}

static uint32_t hold(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)t, (void)ctx, (void)a1, (void)a2;
    return 1;
}

static sl_filter_opts_t opts_of(sl_fail_t how, uint32_t traps) {
    sl_filter_opts_t opts;
    sl_filter_opts_init(&opts);
    opts.fail = (uint8_t)how;
    opts.breaker_traps = traps;
    opts.set |= SL_FOPT_BIT(FAIL) | SL_FOPT_BIT(BREAKER_TRAPS);
    return opts;
}

static pt_t *with(const sl_filter_opts_t *opts, size_t n, const pw_chain_conf_t *conf) {
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    for (size_t i = 0; i < n; i++) {
        char name[24];
        snprintf(name, sizeof(name), "f%zu", i);
        pw_filter_conf_t filter = {.name = sl_cstr(name), .opts = *opts};
        filter.opts.vm_id = sl_cstr(name);
        filter.opts.set |= SL_FOPT_BIT(VM_ID);
        if (pt_filter(t, &filter, &err) != SL_OK) {
            fail_msg("%s", err.text);
        }
    }
    pt_chain(t, conf);
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    pt_map(t, PW_MAP_RESPONSE_HEADERS, ok);
    t->now_ns = 100 * SECOND;
    return t;
}

static uint64_t number(const pt_t *t, const char *filter, pw_number_t which) {
    return pw_worker_number(t->worker, sl_cstr(filter), which);
}

/* One request and response; what became of the request's headers. */
static pw_verdict_t one(pt_t *t, uint32_t *failure) {
    pw_out_t out;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    pw_verdict_t verdict = pw_stream_headers(s, PW_DIR_REQUEST, true, &out);
    *failure = pw_stream_failure(s);
    if (verdict == PW_CONTINUE) {
        pw_stream_headers(s, PW_DIR_RESPONSE, true, &out);
    }
    pw_stream_free(s);
    return verdict;
}

static void closed_answers_500_and_the_filters_after_it_are_not_reached(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_CLOSED, 0);
    pt_t *t = with(&opts, 3, NULL);
    uint32_t failure;
    t->on[PW_CB_REQUEST_HEADERS] = middle_traps;
    assert_int_equal(one(t, &failure), PW_FAIL);
    assert_int_equal(failure, 500);
    assert_string_equal(t->trace, "f0 f1 ");
    assert_int_equal(number(t, "f1", PW_N_TRAPS), 1);
    assert_int_equal(number(t, "f1", PW_N_FAILED), 1);
    assert_int_equal(number(t, "f0", PW_N_FAILED), 0);
    pt_free(t);
}

static void open_goes_past_the_filter_for_the_rest_of_the_stream(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_OPEN, 0);
    pt_t *t = with(&opts, 3, NULL);
    uint32_t failure;
    t->on[PW_CB_REQUEST_HEADERS] = middle_traps;
    t->on[PW_CB_RESPONSE_HEADERS] = middle_traps;
    assert_int_equal(one(t, &failure), PW_CONTINUE);
    assert_int_equal(failure, 0);
    assert_string_equal(t->trace, "f0 f1 f2 f0 f2 ");
    assert_int_equal(number(t, "f1", PW_N_BYPASSED), 1);
    assert_int_equal(number(t, "f1", PW_N_FAILED), 0);
    pt_free(t);
}

static void skip_chain_goes_past_the_filters_after_it_as_well(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_SKIP_CHAIN, 0);
    pt_t *t = with(&opts, 3, NULL);
    uint32_t failure;
    t->on[PW_CB_REQUEST_HEADERS] = middle_traps;
    t->on[PW_CB_RESPONSE_HEADERS] = middle_traps;
    t->on[PW_CB_LOG] = middle_traps;
    assert_int_equal(one(t, &failure), PW_CONTINUE);
    assert_string_equal(t->trace, "f0 f1 f0 f0 ");
    pt_free(t);
}

static void skip_chain_in_a_reversed_response_spares_those_that_come_later(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_SKIP_CHAIN, 0);
    pt_t *t = with(&opts, 3, &(pw_chain_conf_t){.reverse_response = true});
    uint32_t failure;
    t->on[PW_CB_RESPONSE_HEADERS] = middle_traps;
    assert_int_equal(one(t, &failure), PW_CONTINUE);
    assert_string_equal(t->trace, "f2 f1 ");
    pt_free(t);
}

/* The first piece of a body is kept; the second one is too much. */
static uint32_t hold_then_trap(pt_t *t, uint32_t ctx, uint32_t size, uint32_t eos) {
    return eos ? do_trap(t, ctx, size, eos) : PW_BODY_STOP_BUFFER;
}

static void open_passes_on_the_body_that_was_held(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_OPEN, 0);
    pt_t *t = with(&opts, 1, NULL);
    pw_out_t out;
    t->on[PW_CB_REQUEST_BODY] = hold_then_trap;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    pw_stream_headers(s, PW_DIR_REQUEST, false, &out);
    assert_int_equal(pw_stream_body(s, PW_DIR_REQUEST, &SL_STR("one "), 1, false, &out), PW_WAIT);
    assert_int_equal(pw_stream_body(s, PW_DIR_REQUEST, &SL_STR("two"), 1, true, &out), PW_CONTINUE);
    assert_str(out.data, "one two");
    assert_true(out.eos);
    pw_stream_free(s);
    pt_free(t);
}

/* s waits in its headers while another stream of the same VM traps. */
static pw_stream_t *paused_while_another_traps(pt_t *t) {
    pw_out_t out;
    t->on[PW_CB_REQUEST_HEADERS] = hold;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(pw_stream_headers(s, PW_DIR_REQUEST, false, &out), PW_WAIT);
    t->on[PW_CB_REQUEST_HEADERS] = do_trap;
    pw_stream_t *other = pw_stream_new(t->worker, t->chain, t);
    pw_stream_headers(other, PW_DIR_REQUEST, true, &out);
    pw_stream_free(other);
    assert_int_not_equal(t->wakes[PW_DIR_REQUEST], 0);
    return s;
}

static void a_stream_that_waits_in_a_lost_instance_meets_the_policy(void **state) {
    (void)state;
    for (sl_fail_t how = SL_FAIL_CLOSED; how <= SL_FAIL_SKIP_CHAIN; how++) {
        sl_filter_opts_t opts = opts_of(how, 0);
        pt_t *t = with(&opts, 1, NULL);
        pw_out_t out;
        pw_stream_t *s = paused_while_another_traps(t);
        assert_int_equal(pw_stream_resume(s, PW_DIR_REQUEST, &out), how == SL_FAIL_CLOSED ? PW_FAIL : PW_CONTINUE);
        assert_int_equal(out.headers, how != SL_FAIL_CLOSED);
        assert_int_equal(number(t, "f0", PW_N_TRAPS), 1);
        pw_stream_free(s);
        pt_free(t);
    }
}

static void a_stream_that_goes_on_in_a_lost_instance_meets_the_policy_and_is_not_made_again(void **state) {
    (void)state;
    for (sl_fail_t how = SL_FAIL_CLOSED; how <= SL_FAIL_SKIP_CHAIN; how++) {
        sl_filter_opts_t opts = opts_of(how, 0);
        pt_t *t = with(&opts, 1, NULL);
        pw_out_t out;
        pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
        pw_stream_headers(s, PW_DIR_REQUEST, true, &out);
        uint32_t failure;
        t->on[PW_CB_REQUEST_HEADERS] = do_trap;
        one(t, &failure);
        t->on[PW_CB_REQUEST_HEADERS] = NULL;
        one(t, &failure); /* there is a healthy instance again */
        assert_int_equal(failure, 0);
        assert_int_equal(pw_stream_headers(s, PW_DIR_RESPONSE, true, &out), how == SL_FAIL_CLOSED ? PW_FAIL : PW_CONTINUE);
        pw_stream_free(s);
        pt_free(t);
    }
}

static void a_stream_that_has_not_come_to_the_filter_yet_gets_the_new_instance(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_CLOSED, 0);
    pt_t *t = with(&opts, 1, NULL);
    pw_out_t out;
    uint32_t failure;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    t->on[PW_CB_REQUEST_HEADERS] = do_trap;
    one(t, &failure);
    t->on[PW_CB_REQUEST_HEADERS] = NULL;
    assert_int_equal(pw_stream_headers(s, PW_DIR_REQUEST, true, &out), PW_CONTINUE);
    pw_stream_free(s);
    pt_free(t);
}

static void wasmx_lets_a_response_fail_closed_where_that_is_asked_for(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_CLOSED, 0);
    opts.dialect = SL_DIALECT_WASMX;
    opts.set |= SL_FOPT_BIT(DIALECT);
    pt_t *t = with(&opts, 1, NULL);
    pw_out_t out;
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    pw_stream_headers(s, PW_DIR_REQUEST, true, &out);
    t->on[PW_CB_RESPONSE_HEADERS] = do_trap;
    assert_int_equal(pw_stream_headers(s, PW_DIR_RESPONSE, true, &out), PW_FAIL);
    assert_int_equal(pw_stream_failure(s), 500);
    pw_stream_free(s);
    pt_free(t);
}

/* ---- the breaker of a filter ---- */

static void trap_often(pt_t *t, size_t n) {
    uint32_t failure;
    pt_fn_t before = t->on[PW_CB_REQUEST_HEADERS];
    t->on[PW_CB_REQUEST_HEADERS] = do_trap;
    while (n-- != 0) {
        one(t, &failure);
    }
    t->on[PW_CB_REQUEST_HEADERS] = before;
}

static uint32_t count(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    pt_trace(t, "in ");
    return 0;
}

static void while_the_breaker_is_open_closed_answers_503_and_says_when_to_come_back(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_CLOSED, 3);
    pt_t *t = with(&opts, 1, NULL);
    uint32_t failure;
    pw_out_t out;
    t->on[PW_CB_REQUEST_HEADERS] = count;
    trap_often(t, 3);
    assert_int_equal(number(t, "f0", PW_N_BREAKER), PW_BREAKER_OPEN);
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(pw_stream_headers(s, PW_DIR_REQUEST, true, &out), PW_FAIL);
    assert_int_equal(pw_stream_failure(s), 503);
    assert_int_equal(pw_stream_retry_after(s), 1);
    pw_stream_free(s);
    assert_string_equal(t->trace, ""); /* nobody was in the guest */
    assert_int_equal(number(t, "f0", PW_N_REFUSED), 1);
    t->now_ns += SECOND;
    assert_int_equal(one(t, &failure), PW_CONTINUE);
    assert_string_equal(t->trace, "in ");
    assert_int_equal(number(t, "f0", PW_N_BREAKER), PW_BREAKER_CLOSED);
    assert_int_equal(number(t, "f0", PW_N_OPENED), 1);
    pt_free(t);
}

static void while_the_breaker_is_open_the_other_policies_go_past_without_entering(void **state) {
    (void)state;
    for (sl_fail_t how = SL_FAIL_OPEN; how <= SL_FAIL_SKIP_CHAIN; how++) {
        sl_filter_opts_t opts = opts_of(how, 2);
        pt_t *t = with(&opts, 1, NULL);
        uint32_t failure;
        t->on[PW_CB_REQUEST_HEADERS] = count;
        trap_often(t, 2);
        assert_int_equal(one(t, &failure), PW_CONTINUE);
        assert_string_equal(t->trace, "");
        assert_int_equal(number(t, "f0", PW_N_BYPASSED), 3);
        pt_free(t);
    }
}

static void a_failed_probe_keeps_it_open_for_longer(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_CLOSED, 2);
    pt_t *t = with(&opts, 1, NULL);
    uint32_t failure;
    trap_often(t, 2);
    t->now_ns += SECOND;
    trap_often(t, 1);
    t->now_ns += SECOND;
    one(t, &failure);
    assert_int_equal(failure, 503);
    t->now_ns += SECOND;
    one(t, &failure);
    assert_int_equal(failure, 0);
    pt_free(t);
}

static void each_change_of_a_breaker_is_logged_once(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_CLOSED, 2);
    pt_t *t = with(&opts, 1, NULL);
    trap_often(t, 20);
    const char *log = sl_buf_cstr(&t->log), *first = strstr(log, "breaker opens");
    assert_non_null(first);
    assert_null(strstr(first + 1, "breaker opens"));
    assert_false(pt_logged(t, "breaker closes"));
    t->now_ns += SECOND;
    uint32_t failure;
    one(t, &failure);
    assert_true(pt_logged(t, "breaker closes"));
    pt_free(t);
}

static void a_filter_that_does_not_start_any_more_opens_its_breaker_too(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_CLOSED, 2);
    pt_t *t = with(&opts, 1, NULL);
    uint32_t failure;
    pt_without_images(t);
    trap_often(t, 1);
    t->on[PW_CB_VM_START] = do_trap;
    one(t, &failure);
    assert_int_equal(failure, 500);
    one(t, &failure);
    assert_int_equal(failure, 503);
    assert_int_equal(number(t, "f0", PW_N_TRAPS_START), 1);
    t->on[PW_CB_VM_START] = NULL;
    t->now_ns += SECOND;
    one(t, &failure);
    assert_int_equal(failure, 0);
    pt_free(t);
}

static void a_filter_that_must_be_there_is_made_though_it_does_not_start_yet(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_CLOSED, 0);
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_filter_conf_t conf = {.name = SL_STR("f0"), .opts = opts};
    conf.module = pt_module(t, &(pt_guest_t){.name = "full", .callbacks = PT_ALL});
    t->on[PW_CB_VM_START] = do_trap;
    assert_int_equal(pw_filter_new(t->worker, &conf, &t->filters[0], &err), SL_TRAP);
    assert_null(t->filters[0]);
    assert_int_equal(pw_filter_new_anyway(t->worker, &conf, &t->filters[0], &err), SL_TRAP);
    assert_non_null(strstr(err.text, "proxy_on_vm_start trapped"));
    t->n_filters = 1;
    pt_chain(t, NULL);
    uint32_t failure;
    one(t, &failure);
    assert_int_equal(failure, 500);
    t->on[PW_CB_VM_START] = NULL;
    one(t, &failure);
    assert_int_equal(failure, 500); /* a second has not passed */
    t->now_ns += SECOND;
    pw_worker_alarm(t->worker); /* without a request, too */
    assert_int_equal(number(t, "f0", PW_N_RESTARTED), 1);
    one(t, &failure);
    assert_int_equal(failure, 0);
    pt_free(t);
}

static void a_start_between_requests_has_not_the_budget_of_the_first_one(void **state) {
    (void)state;
    pw_filter_t f = {0};
    sl_filter_opts_init(&f.conf.opts);
    sl_filter_opts_complete(&f.conf.opts);
    assert_int_equal(pw_filter_start_budget_ms(&f), 10000);
    f.start_cpu_ns = 1;
    assert_int_equal(pw_filter_start_budget_ms(&f), 50);
    f.start_cpu_ns = 30 * 1000000u;
    assert_int_equal(pw_filter_start_budget_ms(&f), 170);
    f.start_cpu_ns = 9000 * (uint64_t)1000000u;
    assert_int_equal(pw_filter_start_budget_ms(&f), 10000);
    f.conf.opts.cpu_budget_ms = 0;
    f.start_cpu_ns = 1;
    assert_int_equal(pw_filter_start_budget_ms(&f), 10000);
}

static void a_filter_whose_breaker_is_open_is_not_started_before_it_lets_somebody_in(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_CLOSED, 1);
    opts.breaker_backoff_ms = 5000;
    opts.set |= SL_FOPT_BIT(BREAKER_BACKOFF_MS);
    pt_t *t = with(&opts, 1, NULL);
    t->on[PW_CB_TICK] = do_trap;
    pw_root_tick(t->filters[0]->root);
    assert_in_range(t->alarm_ms, 5000, 5001);
    t->now_ns += 5 * SECOND;
    pw_worker_alarm(t->worker);
    assert_int_equal(number(t, "f0", PW_N_RESTARTED), 1);
    assert_false(t->filters[0]->root->vm->failed);
    pt_free(t);
}

static void a_filter_that_goes_takes_its_open_breaker_along(void **state) {
    (void)state;
    sl_filter_opts_t opts = opts_of(SL_FAIL_CLOSED, 1);
    pt_t *t = with(&opts, 1, NULL);
    trap_often(t, 1);
    assert_int_equal(number(t, "f0", PW_N_BREAKER), PW_BREAKER_OPEN);
    pw_chain_unref(t->chain);
    t->chain = NULL;
    pw_filter_unref(t->filters[--t->n_filters]);
    assert_int_equal(number(t, "f0", PW_N_BREAKER), PW_BREAKER_CLOSED);
    pt_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_at_the_last_of_so_many_failures_within_the_window),
        cmocka_unit_test(one_request_at_a_time_tries_and_closes_it),
        cmocka_unit_test(a_probe_that_never_ends_does_not_keep_all_others_out),
        cmocka_unit_test(the_back_off_doubles_up_to_its_ceiling_and_starts_anew_after_a_quiet_time),
        cmocka_unit_test(it_never_opens_where_it_is_off),
        cmocka_unit_test(closed_answers_500_and_the_filters_after_it_are_not_reached),
        cmocka_unit_test(open_goes_past_the_filter_for_the_rest_of_the_stream),
        cmocka_unit_test(skip_chain_goes_past_the_filters_after_it_as_well),
        cmocka_unit_test(skip_chain_in_a_reversed_response_spares_those_that_come_later),
        cmocka_unit_test(open_passes_on_the_body_that_was_held),
        cmocka_unit_test(a_stream_that_waits_in_a_lost_instance_meets_the_policy),
        cmocka_unit_test(a_stream_that_goes_on_in_a_lost_instance_meets_the_policy_and_is_not_made_again),
        cmocka_unit_test(a_stream_that_has_not_come_to_the_filter_yet_gets_the_new_instance),
        cmocka_unit_test(wasmx_lets_a_response_fail_closed_where_that_is_asked_for),
        cmocka_unit_test(while_the_breaker_is_open_closed_answers_503_and_says_when_to_come_back),
        cmocka_unit_test(while_the_breaker_is_open_the_other_policies_go_past_without_entering),
        cmocka_unit_test(a_failed_probe_keeps_it_open_for_longer),
        cmocka_unit_test(each_change_of_a_breaker_is_logged_once),
        cmocka_unit_test(a_filter_that_does_not_start_any_more_opens_its_breaker_too),
        cmocka_unit_test(a_filter_that_must_be_there_is_made_though_it_does_not_start_yet),
        cmocka_unit_test(a_start_between_requests_has_not_the_budget_of_the_first_one),
        cmocka_unit_test(a_filter_whose_breaker_is_open_is_not_started_before_it_lets_somebody_in),
        cmocka_unit_test(a_filter_that_goes_takes_its_open_breaker_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
