/* memory_recycle: instances that have become large are replaced between requests. */
#include "pt.h"

enum { LIMIT = 2 << 20, GROWTH = 2 << 20 };

static const char *const get[] = {":method", "GET", ":path", "/", NULL};

static uint32_t configure(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    pt_trace(t, "configure:%u ", ctx);
    return t->ud != NULL && strcmp(t->ud, "refuse") == 0 ? 0 : 1;
}

static uint32_t done(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    if (t->parent[ctx] == 0) {
        pt_trace(t, "done:%u ", ctx);
    }
    return 1;
}

static uint32_t gone(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    if (t->parent[ctx] == 0) {
        pt_trace(t, "delete:%u ", ctx);
    }
    return 0;
}

/* Grows once in the life of an instance. */
static uint32_t grow(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    if (t->in->mem_size < LIMIT) {
        assert_int_equal(sl_null_grow(t->in, GROWTH), SL_OK);
    }
    return PW_HEADERS_CONTINUE;
}

static uint32_t grow_in_tick(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)grow(t, ctx, a1, a2);
    return 0;
}

static void add(pt_t *t, const char *name, sl_isolation_t isolation, uint64_t recycle) {
    sl_err_t err;
    pw_filter_conf_t conf = {.name = sl_cstr(name), .config = sl_cstr(name)};
    sl_filter_opts_init(&conf.opts);
    conf.opts.isolation = (uint8_t)isolation;
    conf.opts.memory_recycle = recycle;
    if (pt_filter(t, &conf, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
}

static pt_t *set_up(uint64_t recycle, size_t n) {
    pt_t *t = pt_new(NULL);
    t->on[PW_CB_CONFIGURE] = configure;
    t->on[PW_CB_DONE] = done;
    t->on[PW_CB_DELETE] = gone;
    t->on[PW_CB_REQUEST_HEADERS] = grow;
    add(t, "one", SL_ISOLATION_SHARED, recycle);
    if (n > 1) {
        add(t, "two", SL_ISOLATION_SHARED, recycle);
    }
    pt_chain(t, NULL);
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    t->trace[0] = '\0';
    t->now_ns += 2 * PW_RECYCLE_NS;
    return t;
}

static void request(pt_t *t) {
    pw_stream_free(pt_begin(t, PW_CONTINUE));
}

static uint64_t recycled(const pt_t *t, const char *filter) {
    return pw_worker_number(t->worker, sl_cstr(filter), PW_N_RECYCLED);
}

static void a_large_instance_is_replaced_when_its_request_is_over(void **state) {
    (void)state;
    pt_t *t = set_up(LIMIT, 1);
    pw_vm_t *before = t->worker->vms;
    pw_stream_t *s = pt_begin(t, PW_CONTINUE);
    assert_true(pw_worker_memory(t->worker).used > GROWTH);
    assert_ptr_equal(t->worker->vms, before);
    pw_stream_free(s);
    assert_string_equal(t->trace, "configure:1 done:1 delete:1 ");
    assert_true(pw_worker_memory(t->worker).used < LIMIT);
    assert_int_equal(recycled(t, "one"), 1);
    assert_true(pt_logged(t, "memory_recycle is 2097152: it is replaced"));
    assert_null(t->worker->vms->next);
    request(t); /* and it goes on, with the fresh one; which lives a second at least */
    assert_int_equal(recycled(t, "one"), 1);
    t->now_ns += 2 * PW_RECYCLE_NS;
    request(t);
    assert_int_equal(recycled(t, "one"), 2);
    assert_int_equal(t->worker->n_large, 0);
    pt_free(t);
}

static void it_is_not_replaced_while_another_request_is_in_it(void **state) {
    (void)state;
    pt_t *t = set_up(LIMIT, 1);
    pw_stream_t *other = pt_begin(t, PW_CONTINUE);
    request(t);
    assert_int_equal(recycled(t, "one"), 0);
    pw_stream_free(other);
    assert_int_equal(recycled(t, "one"), 1);
    pt_free(t);
}

static void it_is_not_replaced_while_a_call_is_in_flight(void **state) {
    (void)state;
    pt_t *t = set_up(LIMIT, 1);
    t->detach = true;
    pw_stream_t *s = pt_begin(t, PW_CONTINUE);
    t->in = t->worker->vms->instance;
    t->worker->vms->current = &t->filters[0]->root->ctx; /* the root context asks */
    uint32_t token;
    assert_int_equal(guest_http_call(t, &token), PW_OK);
    t->worker->vms->current = NULL;
    pw_stream_free(s);
    assert_int_equal(recycled(t, "one"), 0);
    pt_answer(t, 0, &(pw_call_response_t){.failed = true});
    request(t);
    assert_int_equal(recycled(t, "one"), 1);
    pt_free(t);
}

static void all_filters_of_a_shared_instance_move(void **state) {
    (void)state;
    pt_t *t = set_up(LIMIT, 2);
    assert_null(t->worker->vms->next);
    request(t);
    assert_int_equal(recycled(t, "one"), 1);
    assert_int_equal(recycled(t, "two"), 1);
    assert_null(t->worker->vms->next);
    assert_int_equal(t->worker->vms->n_roots, 2);
    assert_ptr_equal(t->filters[0]->root->vm, t->filters[1]->root->vm);
    pt_free(t);
}

static void one_that_does_not_start_again_is_kept(void **state) {
    (void)state;
    pt_t *t = set_up(LIMIT, 1);
    const pw_vm_t *before = t->worker->vms;
    t->ud = "refuse";
    request(t);
    assert_int_equal(recycled(t, "one"), 0);
    assert_ptr_equal(t->filters[0]->root->vm, before);
    assert_null(t->worker->vms->next);
    assert_true(pt_logged(t, "its large instance is kept, a fresh one does not start"));
    t->ud = NULL;
    t->now_ns += 2 * PW_RECYCLE_NS;
    request(t); /* not again so soon */
    assert_int_equal(recycled(t, "one"), 0);
    t->now_ns += PW_RECYCLE_FAILED_NS;
    request(t);
    assert_int_equal(recycled(t, "one"), 1);
    pt_free(t);
}

static void one_that_is_large_from_its_start_is_left_alone(void **state) {
    (void)state;
    pt_t *t = set_up(4096, 1); /* less than a guest begins with */
    t->on[PW_CB_REQUEST_HEADERS] = NULL;
    request(t);
    request(t);
    assert_int_equal(recycled(t, "one"), 0);
    pt_free(t);
}

static void without_the_option_nothing_is_replaced(void **state) {
    (void)state;
    pt_t *t = set_up(0, 1);
    request(t);
    t->now_ns += 2 * PW_RECYCLE_NS;
    request(t);
    assert_int_equal(recycled(t, "one"), 0);
    assert_true(pw_worker_memory(t->worker).used > GROWTH);
    pt_free(t);
}

static void the_plugin_of_isolated_requests_is_replaced_after_a_tick(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    t->on[PW_CB_TICK] = grow_in_tick;
    t->on[PW_CB_REQUEST_HEADERS] = grow;
    add(t, "one", SL_ISOLATION_REQUEST, LIMIT);
    pt_chain(t, NULL);
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    t->now_ns += 2 * PW_RECYCLE_NS;
    request(t); /* its instance is restored, that is enough */
    assert_int_equal(recycled(t, "one"), 0);
    pw_root_tick(t->filters[0]->root);
    assert_int_equal(recycled(t, "one"), 1);
    request(t);
    assert_int_equal(pw_worker_memory(t->worker).used, LIMIT); /* the plugin's, and one for the next request */
    pt_free(t);
}

static uint32_t trap_at_end(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)a1, (void)a2;
    if (t->parent[ctx] == 0) {
        t->trap = "at its end";
    }
    return 1;
}

static void a_trap_at_the_end_of_the_old_one_hurts_nobody(void **state) {
    (void)state;
    pt_t *t = set_up(LIMIT, 2);
    t->on[PW_CB_DONE] = trap_at_end;
    request(t);
    t->on[PW_CB_DONE] = NULL;
    assert_true(pt_logged(t, "at its end"));
    assert_int_equal(recycled(t, "one"), 1);
    assert_int_equal(recycled(t, "two"), 1);
    assert_null(t->worker->vms->next);
    request(t);
    assert_int_equal(t->worker->vms->n_roots, 2);
    pt_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_instance_is_replaced_when_its_request_is_over),
        cmocka_unit_test(it_is_not_replaced_while_another_request_is_in_it),
        cmocka_unit_test(it_is_not_replaced_while_a_call_is_in_flight),
        cmocka_unit_test(all_filters_of_a_shared_instance_move),
        cmocka_unit_test(one_that_does_not_start_again_is_kept),
        cmocka_unit_test(one_that_is_large_from_its_start_is_left_alone),
        cmocka_unit_test(without_the_option_nothing_is_replaced),
        cmocka_unit_test(the_plugin_of_isolated_requests_is_replaced_after_a_tick),
        cmocka_unit_test(a_trap_at_the_end_of_the_old_one_hurts_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
