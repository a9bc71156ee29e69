/* Isolation of requests: what requests see of each other, of the plugin, and what happens to instances. */
#include <stdio.h>

#include "fail_alloc.h"
#include "pt.h"

enum { SECRET = 40000, FROM_CONFIGURE = 40016 }; /* places in guest memory */

static const char *const get[] = {":method", "GET", ":path", "/", NULL};

static uint8_t *at(pt_t *t, size_t place) {
    return t->in->mem + place;
}

static uint32_t configure(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    *at(t, FROM_CONFIGURE) = 77;
    return 1;
}

/* Reports what it finds, then leaves its own mark. */
static uint32_t plant(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    pt_trace(t, "%u:%u ", *at(t, SECRET), *at(t, FROM_CONFIGURE));
    *at(t, SECRET) = (uint8_t)ctx;
    return PW_HEADERS_CONTINUE;
}

static uint32_t look(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    pt_trace(t, "%s ", *at(t, SECRET) == (uint8_t)ctx ? "mine" : "other");
    return PW_HEADERS_CONTINUE;
}

static pt_t *isolated(const pw_limits_t *limits, sl_isolation_t isolation) {
    pt_t *t = pt_new(limits);
    sl_err_t err;
    t->on[PW_CB_CONFIGURE] = configure;
    t->on[PW_CB_REQUEST_HEADERS] = plant;
    t->on[PW_CB_RESPONSE_HEADERS] = look;
    pw_filter_conf_t conf = {.name = SL_STR("f")};
    sl_filter_opts_init(&conf.opts);
    conf.opts.isolation = (uint8_t)isolation;
    conf.opts.set |= SL_FOPT_BIT(ISOLATION);
    if (pt_filter(t, &conf, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    pt_chain(t, NULL);
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    pt_map(t, PW_MAP_RESPONSE_HEADERS, (const char *const[]){":status", "200", NULL});
    return t;
}

static pw_verdict_t answer(pw_stream_t *s) {
    pw_out_t out;
    return pw_stream_headers(s, PW_DIR_RESPONSE, true, &out);
}

static void each_request_sees_the_state_after_configure(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    for (int i = 0; i < 3; i++) {
        pw_stream_t *s = pt_begin(t, PW_CONTINUE);
        assert_int_equal(answer(s), PW_CONTINUE);
        pw_stream_free(s);
    }
    assert_string_equal(t->trace, "0:77 mine 0:77 mine 0:77 mine ");
    pw_stats_t stats = pw_worker_stats(t->worker);
    assert_int_equal(stats.instances_created, 1);
    assert_int_equal(stats.instances_restored, 3);
    pt_free(t);
}

static void without_isolation_they_see_what_the_last_one_left(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_SHARED);
    pw_stream_free(pt_begin(t, PW_CONTINUE));
    pw_stream_free(pt_begin(t, PW_CONTINUE));
    assert_string_equal(t->trace, "0:77 2:77 ");
    pt_free(t);
}

static void requests_that_overlap_never_see_each_others_memory(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    enum { N = 20 };
    pw_stream_t *s[N];
    for (int round = 0; round < 3; round++) {
        t->trace[0] = '\0';
        for (int i = 0; i < N; i++) {
            s[i] = pt_begin(t, PW_CONTINUE);
        }
        for (int i = 0; i < N; i++) {
            assert_int_equal(answer(s[(i * 7) % N]), PW_CONTINUE);
        }
        for (int i = 0; i < N; i++) {
            pw_stream_free(s[(i * 3) % N]);
        }
        assert_null(strstr(t->trace, "other"));
        for (const char *p = t->trace; *p >= '0' && *p <= '9'; p += 5) {
            assert_memory_equal(p, "0:77 ", 5);
        }
    }
    assert_int_equal(pw_worker_stats(t->worker).instances_created, N);
    pt_free(t);
}

static void the_same_filter_twice_in_a_chain_is_two_instances(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    pw_chain_unref(t->chain);
    t->chain = pw_chain_new(t->worker, (pw_filter_t *const[]){t->filters[0], t->filters[0]}, 2, NULL);
    pw_stream_t *s = pt_begin(t, PW_CONTINUE);
    assert_int_equal(answer(s), PW_CONTINUE);
    assert_string_equal(t->trace, "0:77 0:77 mine mine ");
    pw_stream_free(s);
    pt_free(t);
}

static void context_ids_of_requests_differ_while_they_overlap(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    pw_stream_t *a = pt_begin(t, PW_CONTINUE), *b = pt_begin(t, PW_CONTINUE);
    assert_int_not_equal(a->at[0].ctx.node.id, b->at[0].ctx.node.id);
    assert_int_equal(t->parent[a->at[0].ctx.node.id], 1);
    assert_int_equal(t->parent[b->at[0].ctx.node.id], 1);
    pw_stream_free(a);
    pw_stream_free(b);
    pt_free(t);
}

/* ---- traps ---- */

static uint32_t trap_the_second(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    plant(t, ctx, a1, a2);
    t->trap = ctx == 3 ? "boom" : NULL;
    return PW_HEADERS_CONTINUE;
}

static void a_trap_is_noticed_by_nobody_else(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    t->on[PW_CB_REQUEST_HEADERS] = trap_the_second;
    pw_stream_t *a = pt_begin(t, PW_CONTINUE);
    pw_stream_t *b = pt_begin(t, PW_FAIL);
    assert_true(pt_logged(t, "boom"));
    assert_int_equal(answer(a), PW_CONTINUE);
    pw_stream_free(b);
    pw_stream_t *c = pt_begin(t, PW_CONTINUE);
    assert_string_equal(t->trace, "0:77 0:77 mine 0:77 ");
    assert_int_equal(pw_worker_stats(t->worker).instances_created, 2); /* the one that trapped serves again */
    pw_stream_free(a);
    pw_stream_free(c);
    pt_free(t);
}

static uint32_t trap(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    t->trap = "tick";
    return 0;
}

static void requests_go_on_while_the_plugins_own_instance_does_not(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    t->on[PW_CB_TICK] = trap;
    pw_stream_t *a = pt_begin(t, PW_CONTINUE);
    pw_root_tick(t->filters[0]->root);
    assert_true(pt_logged(t, "trap in proxy_on_tick"));
    t->on[PW_CB_CONFIGURE] = trap; /* it cannot come back */
    pw_stream_t *b = pt_begin(t, PW_CONTINUE);
    assert_int_equal(answer(a), PW_CONTINUE);
    assert_int_equal(answer(b), PW_CONTINUE);
    pw_stream_free(a);
    pw_stream_free(b);
    pt_free(t);
}

/* ---- the plugin ---- */

static uint32_t tick(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    pt_trace(t, "tick(%u):%u ", ctx, ++*at(t, SECRET));
    return 0;
}

static uint32_t set_tick(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    guest_call(t, "proxy_set_tick_period_milliseconds", 250);
    pt_trace(t, "%u ", *at(t, SECRET));
    return PW_HEADERS_CONTINUE;
}

static void ticks_have_a_state_of_their_own_that_lasts(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    t->on[PW_CB_TICK] = tick;
    t->on[PW_CB_REQUEST_HEADERS] = set_tick;
    pw_root_tick(t->filters[0]->root);
    pw_stream_t *s = pt_begin(t, PW_CONTINUE);
    assert_int_equal(t->tick_ms, 250); /* the plugin's timer, also when a request sets it */
    pw_root_tick(t->filters[0]->root);
    pw_stream_free(s);
    assert_int_equal(t->tick_ms, 250);
    pw_root_tick(t->filters[0]->root);
    assert_string_equal(t->trace, "tick(1):1 0 tick(1):2 tick(1):3 ");
    assert_int_equal(t->roots_gone, 0);
    pt_free(t);
}

/* ---- calls out ---- */

static uint32_t token;

static uint32_t call_and_wait(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    plant(t, ctx, a1, a2);
    guest_http_call(t, &token);
    return PW_HEADERS_STOP;
}

static uint32_t on_response(pt_t *t, uint32_t root, uint32_t got, uint32_t n_headers) {
    (void)got, (void)n_headers;
    uint32_t stream = *at(t, SECRET);
    pt_trace(t, "answer(%u) for %u ", root, stream);
    guest_call(t, "proxy_set_effective_context", stream);
    guest_continue(t, 0);
    return 0;
}

static void an_answer_comes_to_the_instance_that_asked(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    pw_out_t out;
    t->on[PW_CB_REQUEST_HEADERS] = call_and_wait;
    t->on[PW_CB_HTTP_CALL_RESPONSE] = on_response;
    pw_stream_t *a = pt_begin(t, PW_WAIT), *b = pt_begin(t, PW_WAIT);
    t->trace[0] = '\0';
    pt_answer(t, 1, &(pw_call_response_t){.failed = true});
    assert_string_equal(t->trace, "answer(1) for 3 ");
    assert_int_equal(pw_stream_resume(b, PW_DIR_REQUEST, &out), PW_CONTINUE);
    assert_int_equal(pw_stream_resume(a, PW_DIR_REQUEST, &out), PW_WAIT);
    pt_answer(t, 0, &(pw_call_response_t){.failed = true});
    assert_int_equal(pw_stream_resume(a, PW_DIR_REQUEST, &out), PW_CONTINUE);
    assert_string_equal(t->trace, "answer(1) for 3 answer(1) for 2 ");
    pw_stream_free(a);
    pw_stream_free(b);
    pt_free(t);
}

static void an_instance_waits_for_its_calls(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    t->detach = true;
    t->on[PW_CB_REQUEST_HEADERS] = call_and_wait;
    t->on[PW_CB_HTTP_CALL_RESPONSE] = on_response;
    pw_stream_free(pt_begin(t, PW_WAIT));
    assert_int_equal(pw_worker_stats(t->worker).instances_restored, 0);
    t->on[PW_CB_REQUEST_HEADERS] = plant;
    pw_stream_t *other = pt_begin(t, PW_CONTINUE);
    assert_int_equal(pw_worker_stats(t->worker).instances_created, 2);
    t->trace[0] = '\0';
    pt_answer(t, 0, &(pw_call_response_t){.failed = true});
    assert_string_equal(t->trace, "answer(1) for 2 "); /* what the request had left in it */
    assert_int_equal(pw_worker_stats(t->worker).instances_restored, 1);
    pw_stream_free(other);
    pt_free(t);
}

static void calls_that_outlive_everything_are_cancelled(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    t->detach = false;
    t->on[PW_CB_REQUEST_HEADERS] = call_and_wait;
    t->on[PW_CB_HTTP_CALL_RESPONSE] = on_response;
    pw_stream_free(pt_begin(t, PW_WAIT));
    assert_int_equal(t->cancelled, 1);
    assert_int_equal(pw_worker_stats(t->worker).instances_restored, 1);
    pt_free(t);
}

/* ---- instances ---- */

static void there_is_a_ceiling(void **state) {
    (void)state;
    pt_t *t = isolated(&(pw_limits_t){.instances_per_filter = 2}, SL_ISOLATION_REQUEST);
    pw_stream_t *a = pt_begin(t, PW_CONTINUE), *b = pt_begin(t, PW_CONTINUE);
    pw_stream_t *c = pt_begin(t, PW_FAIL);
    assert_true(pt_logged(t, "too many requests at once"));
    pw_stream_free(c);
    pw_stream_free(a);
    c = pt_begin(t, PW_CONTINUE);
    pw_stream_free(b);
    pw_stream_free(c);
    pt_free(t);
}

static void streams_outlive_their_filter(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    pw_stream_t *s = pt_begin(t, PW_CONTINUE);
    pw_chain_unref(t->chain);
    t->chain = NULL;
    pw_filter_unref(t->filters[0]);
    t->n_filters = 0;
    assert_int_equal(answer(s), PW_CONTINUE);
    assert_non_null(strstr(t->trace, "mine"));
    pw_stream_free(s);
    pt_free(t);
}

static uint64_t vms(sl_isolation_t isolation) {
    pt_t *t = isolated(NULL, isolation);
    sl_err_t err;
    pw_filter_conf_t conf = {.name = SL_STR("f")};
    sl_filter_opts_init(&conf.opts);
    conf.opts.isolation = (uint8_t)isolation;
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    uint64_t n = pw_worker_stats(t->worker).vms_created;
    pt_free(t);
    return n;
}

static void filters_share_a_vm_only_when_both_say_so(void **state) {
    (void)state;
    assert_int_equal(vms(SL_ISOLATION_SHARED), 1);
    assert_int_equal(vms(SL_ISOLATION_FILTER), 2);
    assert_int_equal(vms(SL_ISOLATION_REQUEST), 2);
}

static sl_status_t on_reset(sl_instance_t *in, sl_raw_t *args) {
    (void)args;
    in->mem[SECRET]++;
    return SL_OK;
}

static void a_guest_that_wants_to_is_told_of_each_reset(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    static const sl_null_export_t extra = {"sluice_on_reset", ":", on_reset};
    pw_filter_conf_t conf = {.name = SL_STR("f")};
    sl_err_t err;
    sl_filter_opts_init(&conf.opts);
    conf.opts.isolation = SL_ISOLATION_REQUEST;
    conf.module = pt_module(t, &(pt_guest_t){.name = "resets", .callbacks = PT_ALL, .extra = &extra});
    t->on[PW_CB_REQUEST_HEADERS] = plant;
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    pt_chain(t, NULL);
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    pw_stream_free(pt_begin(t, PW_CONTINUE));
    pw_stream_free(pt_begin(t, PW_CONTINUE));
    assert_string_equal(t->trace, "1:0 1:0 ");
    pt_free(t);
}

static void without_memory_a_request_fails_and_nothing_else(void **state) {
    (void)state;
    pt_t *t = isolated(NULL, SL_ISOLATION_REQUEST);
    pw_stream_t *first = pt_begin(t, PW_CONTINUE);
    bool failed = false;
    for (unsigned nth = 1;; nth++) {
        pw_out_t out;
        fail_alloc_at(nth);
        pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
        pw_verdict_t verdict = s != NULL ? pw_stream_headers(s, PW_DIR_REQUEST, true, &out) : PW_FAIL;
        unsigned seen = fail_alloc_seen();
        fail_alloc_at(0);
        failed = failed || verdict == PW_FAIL;
        assert_true(verdict == PW_FAIL || verdict == PW_CONTINUE);
        pw_stream_free(s);
        if (nth > seen) {
            break;
        }
    }
    assert_true(failed);
    assert_int_equal(answer(first), PW_CONTINUE);
    pw_stream_free(first);
    pt_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_sees_the_state_after_configure),
        cmocka_unit_test(without_isolation_they_see_what_the_last_one_left),
        cmocka_unit_test(requests_that_overlap_never_see_each_others_memory),
        cmocka_unit_test(the_same_filter_twice_in_a_chain_is_two_instances),
        cmocka_unit_test(context_ids_of_requests_differ_while_they_overlap),
        cmocka_unit_test(a_trap_is_noticed_by_nobody_else),
        cmocka_unit_test(requests_go_on_while_the_plugins_own_instance_does_not),
        cmocka_unit_test(ticks_have_a_state_of_their_own_that_lasts),
        cmocka_unit_test(an_answer_comes_to_the_instance_that_asked),
        cmocka_unit_test(an_instance_waits_for_its_calls),
        cmocka_unit_test(calls_that_outlive_everything_are_cancelled),
        cmocka_unit_test(there_is_a_ceiling),
        cmocka_unit_test(streams_outlive_their_filter),
        cmocka_unit_test(filters_share_a_vm_only_when_both_say_so),
        cmocka_unit_test(a_guest_that_wants_to_is_told_of_each_reset),
        cmocka_unit_test(without_memory_a_request_fails_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
