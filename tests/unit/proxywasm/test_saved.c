/* Recovery by reset: after a trap a shared instance is what it was after it had been configured, without being started again. */
#include <stdio.h>

#include "fail_alloc.h"
#include "pt.h"

enum { MARK = 40000, METRIC = 40010, QUEUE = 40020, NAME = 40100, AT = 40200 }; /* places in guest memory */

static const char *const get[] = {":method", "GET", ":path", "/", NULL};

static uint8_t *at(pt_t *t, size_t place) {
    return t->in->mem + place;
}

static uint32_t create(pt_t *t, uint32_t ctx, uint32_t parent, uint32_t a2) {
    (void)a2;
    pt_trace(t, "%s%u ", parent == 0 ? "root" : "create", ctx);
    return 0;
}

static uint32_t configure(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    pt_trace(t, "configure%u ", ctx);
    *at(t, MARK) = 7;
    return 1;
}

/* Tells the mark, and leaves another. */
static uint32_t mark(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    pt_trace(t, "mark%u ", *at(t, MARK));
    *at(t, MARK) = 8;
    return PW_HEADERS_CONTINUE;
}

static uint32_t do_trap(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    *at(t, MARK) = 9;
    t->trap = "out of luck";
    return 0;
}

static void callbacks(pt_t *t) {
    t->on[PW_CB_CONTEXT_CREATE] = create;
    t->on[PW_CB_CONFIGURE] = configure;
    t->on[PW_CB_REQUEST_HEADERS] = mark;
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    pt_map(t, PW_MAP_RESPONSE_HEADERS, (const char *const[]){":status", "200", NULL});
}

static pt_t *with(size_t n) {
    pt_t *t = pt_new(NULL);
    callbacks(t);
    pt_filters(t, n);
    return t;
}

static void one(pt_t *t) {
    pw_stream_free(pt_begin(t, PW_CONTINUE));
}

static void one_traps(pt_t *t) {
    pt_fn_t before = t->on[PW_CB_REQUEST_HEADERS];
    t->on[PW_CB_REQUEST_HEADERS] = do_trap;
    pw_stream_free(pt_begin(t, PW_FAIL));
    t->on[PW_CB_REQUEST_HEADERS] = before;
}

static void forget(pt_t *t) {
    t->trace[0] = '\0';
}

static void expect(pt_t *t, uint64_t created, uint64_t reset) {
    pw_stats_t stats = pw_worker_stats(t->worker);
    assert_int_equal(stats.vms_created, created);
    assert_int_equal(stats.vms_reset, reset);
    assert_int_equal(pw_worker_number(t->worker, SL_STR("f0"), PW_N_RESET), reset);
}

static void after_a_trap_the_instance_is_as_it_was_after_configure(void **state) {
    (void)state;
    pt_t *t = with(1);
    one(t);
    one(t);
    assert_string_equal(t->trace, "root1 configure1 create2 mark7 create3 mark8 ");
    for (uint64_t i = 1; i <= 5; i++) {
        one_traps(t);
        forget(t);
        one(t);
        one(t);
        assert_null(strstr(t->trace, "configure"));
        assert_null(strstr(t->trace, "root"));
        assert_non_null(strstr(t->trace, "mark7"));
        assert_non_null(strstr(t->trace, "mark8"));
        expect(t, 1, i);
        assert_int_equal(pw_worker_number(t->worker, SL_STR("f0"), PW_N_RESTARTED), i);
    }
    pt_free(t);
}

static void a_filter_that_never_traps_is_never_reset(void **state) {
    (void)state;
    pt_t *t = with(1);
    for (int i = 0; i < 100; i++) {
        one(t);
    }
    expect(t, 1, 0);
    pt_free(t);
}

static uint32_t pause_all(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)t, (void)ctx, (void)a1, (void)a2;
    return PW_HEADERS_STOP_ALL_WATERMARK;
}

static void contexts_that_were_in_the_instance_are_gone_all_the_same(void **state) {
    (void)state;
    pt_t *t = with(1);
    pw_out_t out;
    t->on[PW_CB_REQUEST_HEADERS] = pause_all;
    pw_stream_t *waiting = pt_begin(t, PW_WAIT);
    one_traps(t);
    t->on[PW_CB_REQUEST_HEADERS] = mark;
    one(t); /* the instance is back, and serves */
    assert_int_equal(pw_stream_resume(waiting, PW_DIR_REQUEST, &out), PW_FAIL);
    assert_int_equal(pw_stream_failure(waiting), 500);
    one_traps(t);
    one(t);
    pw_stream_free(waiting);
    expect(t, 1, 2);
    pt_free(t);
}

static void ids_of_contexts_are_not_used_again(void **state) {
    (void)state;
    pt_t *t = with(1);
    one(t);
    one_traps(t);
    forget(t);
    one(t);
    assert_string_equal(t->trace, "create4 mark7 ");
    pt_free(t);
}

static void all_filters_of_the_instance_come_back_each_under_its_own_id(void **state) {
    (void)state;
    pt_t *t = with(3);
    one(t);
    assert_int_equal(pw_worker_stats(t->worker).vms_created, 1);
    uint32_t ids[3];
    for (size_t i = 0; i < 3; i++) {
        ids[i] = t->filters[i]->root->ctx.node.id;
    }
    one_traps(t);
    forget(t);
    one(t);
    assert_null(strstr(t->trace, "configure"));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(t->filters[i]->root->ctx.node.id, ids[i]);
        assert_false(t->filters[i]->root->vm->failed);
        assert_ptr_equal(t->filters[i]->root->vm, t->filters[0]->root->vm);
    }
    expect(t, 1, 1);
    pt_free(t);
}

/* Its configure came after others had used the instance, so it is not in the image. */
static void a_filter_that_came_later_is_configured_again(void **state) {
    (void)state;
    pt_t *t = with(1);
    sl_err_t err;
    one(t);
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.name = SL_STR("later"), .module = t->modules[0]}, &err), SL_OK);
    assert_ptr_equal(t->filters[0]->root->vm, t->filters[1]->root->vm);
    pw_chain_unref(t->chain);
    pt_chain(t, NULL);
    forget(t);
    one_traps(t);
    one(t);
    const char *once = strstr(t->trace, "configure");
    assert_non_null(once);
    assert_null(strstr(once + 1, "configure"));
    assert_non_null(strstr(t->trace, "root"));
    expect(t, 1, 1);
    pt_free(t);
}

static void when_one_of_its_filters_has_ended_the_instance_is_made_anew(void **state) {
    (void)state;
    pt_t *t = with(2);
    one(t);
    pw_chain_unref(t->chain);
    pw_filter_unref(t->filters[--t->n_filters]);
    pt_chain(t, NULL);
    one_traps(t);
    forget(t);
    one(t);
    assert_non_null(strstr(t->trace, "configure"));
    expect(t, 2, 0);
    one_traps(t); /* and has an image of its own then */
    one(t);
    expect(t, 2, 1);
    pt_free(t);
}

static void a_module_whose_state_no_image_holds_is_started_again(void **state) {
    (void)state;
    pt_t *t = with(1);
    pt_without_images(t);
    one(t);
    one_traps(t);
    forget(t);
    one(t);
    assert_string_equal(t->trace, "root1 configure1 create2 mark7 ");
    expect(t, 2, 0);
    pt_free(t);
}

static uint32_t configure_with_call(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    uint32_t token;
    assert_int_equal(guest_http_call(t, &token), PW_OK);
    return configure(t, ctx, a1, a2);
}

static uint32_t on_answer(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    *at(t, MARK) = 55;
    return 0;
}

static void who_waits_for_an_answer_since_configure_asks_again(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    callbacks(t);
    t->on[PW_CB_CONFIGURE] = configure_with_call;
    pt_filters(t, 1);
    one(t);
    one_traps(t);
    forget(t);
    one(t);
    assert_non_null(strstr(t->trace, "configure"));
    expect(t, 2, 0);
    pt_free(t);
}

static void an_answer_that_came_before_the_first_request_is_not_forgotten(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    callbacks(t);
    t->on[PW_CB_CONFIGURE] = configure_with_call;
    t->on[PW_CB_HTTP_CALL_RESPONSE] = on_answer;
    pt_filters(t, 1);
    pt_answer(t, 0, &(pw_call_response_t){.body = SL_STR("keys")});
    one(t);
    one_traps(t);
    forget(t);
    one(t);
    assert_non_null(strstr(t->trace, "mark55"));
    expect(t, 1, 1);
    pt_free(t);
}

/* ---- what it has done to the proxy ---- */

static uint32_t configure_tick(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    guest_call(t, "proxy_set_tick_period_milliseconds", 250);
    return configure(t, ctx, a1, a2);
}

static uint32_t another_tick(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    guest_call(t, "proxy_set_tick_period_milliseconds", 9);
    return mark(t, ctx, a1, a2);
}

static void its_timer_is_the_one_of_configure(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    callbacks(t);
    t->on[PW_CB_CONFIGURE] = configure_tick;
    pt_filters(t, 1);
    t->on[PW_CB_REQUEST_HEADERS] = another_tick;
    one(t);
    assert_int_equal(t->tick_ms, 9);
    one_traps(t);
    assert_int_equal(t->tick_ms, 0);
    t->on[PW_CB_REQUEST_HEADERS] = mark;
    one(t);
    assert_int_equal(t->tick_ms, 250);
    expect(t, 1, 1);
    pt_free(t);
}

static void a_trap_in_a_tick_is_followed_by_a_reset_without_any_stream(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    callbacks(t);
    t->on[PW_CB_CONFIGURE] = configure_tick;
    pt_filters(t, 1);
    t->on[PW_CB_TICK] = do_trap;
    pw_root_tick(t->filters[0]->root);
    assert_int_equal(t->tick_ms, 0);
    t->now_ns += 1100000000u;
    forget(t);
    pw_worker_alarm(t->worker);
    assert_int_equal(t->tick_ms, 250);
    assert_string_equal(t->trace, "");
    expect(t, 1, 1);
    one(t);
    assert_string_equal(t->trace, "create2 mark7 ");
    pt_free(t);
}

static struct {
    const pw_root_t *listener;
    unsigned registered;
    uint32_t id;
} queue;

static sl_status_t queue_register(void *worker, sl_str_t vm_id, sl_str_t name, pw_root_t *root, uint32_t *id) {
    (void)worker, (void)vm_id;
    assert_str(name, "jobs");
    queue.listener = root;
    queue.registered++;
    *id = queue.id;
    return SL_OK;
}

static uint32_t configure_queue(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    memcpy(at(t, NAME), "jobs", 4);
    assert_int_equal(guest_call(t, "proxy_register_shared_queue", NAME, 4, AT), PW_OK);
    return configure(t, ctx, a1, a2);
}

static pt_t *with_queue(void) {
    static pw_host_ops_t ops;
    pt_t *t = pt_new(NULL);
    ops = *t->worker->ops;
    ops.queue_register = queue_register;
    t->worker->ops = &ops;
    memset(&queue, 0, sizeof(queue));
    queue.id = 5;
    callbacks(t);
    t->on[PW_CB_CONFIGURE] = configure_queue;
    pt_filters(t, 1);
    one(t);
    return t;
}

static void it_listens_to_its_queues_again(void **state) {
    (void)state;
    pt_t *t = with_queue();
    for (unsigned i = 2; i < 5; i++) {
        one_traps(t);
        one(t);
        assert_int_equal(queue.registered, i);
        assert_ptr_equal(queue.listener, t->filters[0]->root);
    }
    expect(t, 1, 3);
    pt_free(t);
}

static void a_queue_that_has_another_id_now_is_found_by_another_start(void **state) {
    (void)state;
    pt_t *t = with_queue();
    one_traps(t);
    queue.id = 6;
    pw_stream_free(pt_begin(t, PW_FAIL));
    t->now_ns += 1100000000u;
    forget(t);
    one(t);
    assert_non_null(strstr(t->trace, "configure"));
    assert_int_equal(pw_worker_stats(t->worker).vms_created, 2);
    pt_free(t);
}

/* ---- re-seeding ---- */

static bool reset_traps;

static sl_status_t on_reset(sl_instance_t *instance, sl_raw_t *args) {
    (void)args;
    instance->mem[MARK]++;
    return reset_traps ? sl_instance_trap(instance, "no seeds") : SL_OK;
}

static pt_t *with_on_reset(void) {
    static const sl_null_export_t extra = {"sluice_on_reset", ":", on_reset};
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    reset_traps = false;
    callbacks(t);
    pw_filter_conf_t conf = {.name = SL_STR("f0"),
                             .module = pt_module(t, &(pt_guest_t){.name = "seeds", .callbacks = PT_ALL, .extra = &extra})};
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    pt_chain(t, NULL);
    return t;
}

static void a_guest_that_wants_to_is_told_of_each_reset(void **state) {
    (void)state;
    pt_t *t = with_on_reset();
    one(t);
    one_traps(t);
    one(t);
    one(t);
    assert_non_null(strstr(t->trace, "create4 mark8 create5 mark8 "));
    expect(t, 1, 1);
    pt_free(t);
}

static void who_cannot_bear_a_reset_is_started_again(void **state) {
    (void)state;
    pt_t *t = with_on_reset();
    one(t);
    one_traps(t);
    reset_traps = true;
    pw_stream_free(pt_begin(t, PW_FAIL));
    t->now_ns += 1100000000u;
    forget(t);
    one(t);
    assert_non_null(strstr(t->trace, "configure"));
    assert_int_equal(pw_worker_stats(t->worker).vms_created, 2);
    pt_free(t);
}

/* ---- isolation of requests ---- */

static void the_plugin_of_isolated_requests_is_reset_to_the_image_that_they_have(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    callbacks(t);
    pw_filter_conf_t conf = {.name = SL_STR("f0")};
    sl_filter_opts_init(&conf.opts);
    conf.opts.isolation = SL_ISOLATION_REQUEST;
    conf.opts.set |= SL_FOPT_BIT(ISOLATION);
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    pt_chain(t, NULL);
    pw_pool_t *pool = t->filters[0]->pool;
    t->on[PW_CB_TICK] = do_trap;
    pw_root_tick(t->filters[0]->root);
    t->on[PW_CB_TICK] = mark;
    t->now_ns += 1100000000u;
    forget(t);
    pw_worker_alarm(t->worker);
    pw_root_tick(t->filters[0]->root);
    assert_string_equal(t->trace, "mark7 ");
    assert_ptr_equal(t->filters[0]->pool, pool);
    expect(t, 1, 1);
    one(t);
    pt_free(t);
}

/* ---- trouble ---- */

static void without_memory_for_it_the_instance_is_made_anew_or_later(void **state) {
    (void)state;
    pt_t *t = with(1);
    unsigned nth = 0, seen;
    one(t);
    one_traps(t);
    do {
        nth++;
        fail_alloc_at(nth);
        pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
        if (s != NULL) {
            pw_out_t out;
            (void)pw_stream_headers(s, PW_DIR_REQUEST, true, &out);
            pw_stream_free(s);
        }
        seen = fail_alloc_seen();
        fail_alloc_at(0);
        t->now_ns += 2000000000u;
        one(t);
        one_traps(t);
        t->now_ns += 2000000000u;
    } while (nth <= seen);
    assert_true(nth > 3);
    one(t);
    pt_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_a_trap_the_instance_is_as_it_was_after_configure),
        cmocka_unit_test(a_filter_that_never_traps_is_never_reset),
        cmocka_unit_test(contexts_that_were_in_the_instance_are_gone_all_the_same),
        cmocka_unit_test(ids_of_contexts_are_not_used_again),
        cmocka_unit_test(all_filters_of_the_instance_come_back_each_under_its_own_id),
        cmocka_unit_test(a_filter_that_came_later_is_configured_again),
        cmocka_unit_test(when_one_of_its_filters_has_ended_the_instance_is_made_anew),
        cmocka_unit_test(a_module_whose_state_no_image_holds_is_started_again),
        cmocka_unit_test(who_waits_for_an_answer_since_configure_asks_again),
        cmocka_unit_test(an_answer_that_came_before_the_first_request_is_not_forgotten),
        cmocka_unit_test(its_timer_is_the_one_of_configure),
        cmocka_unit_test(a_trap_in_a_tick_is_followed_by_a_reset_without_any_stream),
        cmocka_unit_test(it_listens_to_its_queues_again),
        cmocka_unit_test(a_queue_that_has_another_id_now_is_found_by_another_start),
        cmocka_unit_test(a_guest_that_wants_to_is_told_of_each_reset),
        cmocka_unit_test(who_cannot_bear_a_reset_is_started_again),
        cmocka_unit_test(the_plugin_of_isolated_requests_is_reset_to_the_image_that_they_have),
        cmocka_unit_test(without_memory_for_it_the_instance_is_made_anew_or_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
