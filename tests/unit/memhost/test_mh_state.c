#include "mt.h"

#include <stdio.h>

#define VM SL_STR("vm")

static mt_world_t w;
static const pw_host_ops_t *ops;
static sl_buf_t buf;

static int setup(void **state) {
    (void)state;
    mt_setup(&w, NULL);
    ops = mh_ops();
    sl_buf_init(&buf, 1024);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    sl_buf_deinit(&buf);
    mt_teardown(&w);
    return 0;
}

static sl_str_t shared(const char *vm_id, const char *key, uint32_t *cas) {
    sl_buf_reset(&buf);
    return ops->shared_get(w.mh, sl_cstr(vm_id), sl_cstr(key), &buf, cas) == SL_OK ? sl_buf_str(&buf) : SL_STR("(none)");
}

static void shared_data_is_separated_by_vm_id(void **state) {
    (void)state;
    uint32_t cas;
    assert_int_equal(ops->shared_set(w.mh, SL_STR("one"), SL_STR("k"), SL_STR("1"), 0), SL_OK);
    assert_int_equal(ops->shared_set(w.mh, SL_STR("two"), SL_STR("k"), SL_STR("2"), 0), SL_OK);
    assert_str(shared("one", "k", &cas), "1");
    assert_str(shared("two", "k", &cas), "2");
    assert_str(shared("three", "k", &cas), "(none)");
}

static void an_absent_key_takes_any_cas_and_a_present_one_only_its_own(void **state) {
    (void)state;
    uint32_t cas, later;
    assert_int_equal(ops->shared_set(w.mh, VM, SL_STR("k"), SL_STR("1"), 99), SL_OK);
    shared("vm", "k", &cas);
    assert_int_not_equal(cas, 0);
    assert_int_equal(ops->shared_set(w.mh, VM, SL_STR("k"), SL_STR("2"), cas + 1), SL_CONFLICT);
    assert_int_equal(ops->shared_set(w.mh, VM, SL_STR("k"), SL_STR("2"), cas), SL_OK);
    assert_str(shared("vm", "k", &later), "2");
    assert_int_not_equal(later, cas);
    assert_int_equal(ops->shared_set(w.mh, VM, SL_STR("k"), SL_STR("3"), 0), SL_OK);
}

static void a_value_that_does_not_fit_the_buffer_is_an_error(void **state) {
    (void)state;
    char big[2048] = {0};
    uint32_t cas;
    assert_int_equal(ops->shared_set(w.mh, VM, SL_STR("k"), sl_str(big, sizeof(big)), 0), SL_OK);
    assert_int_equal(ops->shared_get(w.mh, VM, SL_STR("k"), &buf, &cas), SL_NO_MEMORY);
}

static void setting_to_null_removes_where_the_cas_allows(void **state) {
    (void)state;
    uint32_t cas;
    assert_int_equal(ops->shared_set(w.mh, VM, SL_STR("k"), SL_STR_NULL, 0), SL_NOT_FOUND);
    assert_int_equal(ops->shared_set(w.mh, VM, SL_STR("k"), SL_STR("1"), PW_CAS_NEVER), SL_OK);
    assert_int_equal(ops->shared_set(w.mh, VM, SL_STR("other"), SL_STR("2"), 0), SL_OK);
    shared("vm", "k", &cas);
    assert_int_equal(ops->shared_set(w.mh, VM, SL_STR("k"), SL_STR_NULL, PW_CAS_NEVER), SL_CONFLICT);
    assert_int_equal(ops->shared_set(w.mh, VM, SL_STR("k"), SL_STR_NULL, cas), SL_OK);
    assert_str(shared("vm", "k", &cas), "(none)");
    assert_str(shared("vm", "other", &cas), "2");
}

static void shared_data_has_a_ceiling(void **state) {
    (void)state;
    static char big[1 << 20];
    char key[8];
    sl_status_t rc = SL_OK;
    size_t n = 0;
    for (; rc == SL_OK && n < 1000; n++) {
        int len = snprintf(key, sizeof(key), "%zu", n);
        rc = ops->shared_set(w.mh, VM, sl_str(key, (size_t)len), sl_str(big, sizeof(big)), 0);
    }
    assert_int_equal(rc, SL_NO_MEMORY);
    assert_int_equal(n, 16);
}

static void a_queue_is_first_in_first_out(void **state) {
    (void)state;
    uint32_t id;
    assert_int_equal(ops->queue_register(w.mh, VM, SL_STR("q"), NULL, &id), SL_OK);
    ops->queue_push(w.mh, id, SL_STR("a"));
    ops->queue_push(w.mh, id, SL_STR("b"));
    assert_int_equal(mh_queue_len(w.mh, VM, SL_STR("q")), 2);
    assert_int_equal(ops->queue_pop(w.mh, id, &buf), SL_OK);
    assert_str(sl_buf_str(&buf), "a");
    sl_buf_reset(&buf);
    assert_int_equal(ops->queue_pop(w.mh, id, &buf), SL_OK);
    assert_str(sl_buf_str(&buf), "b");
    assert_int_equal(ops->queue_pop(w.mh, id, &buf), SL_AGAIN);
    ops->queue_push(w.mh, id, SL_STR("c"));
    assert_int_equal(mh_queue_len(w.mh, VM, SL_STR("q")), 1);
}

static void a_queue_is_found_by_its_vm_id_and_name(void **state) {
    (void)state;
    uint32_t id, again, other;
    ops->queue_register(w.mh, VM, SL_STR("q"), NULL, &id);
    ops->queue_register(w.mh, VM, SL_STR("q"), NULL, &again);
    ops->queue_register(w.mh, SL_STR("x"), SL_STR("q"), NULL, &other);
    assert_int_equal(id, again);
    assert_int_not_equal(id, other);
    assert_int_not_equal(id, 0);
    assert_int_equal(ops->queue_resolve(w.mh, VM, SL_STR("q"), &again), SL_OK);
    assert_int_equal(again, id);
    assert_int_equal(ops->queue_resolve(w.mh, VM, SL_STR("none"), &again), SL_NOT_FOUND);
    assert_int_equal(ops->queue_push(w.mh, 77, SL_STR("a")), SL_NOT_FOUND);
    assert_int_equal(ops->queue_pop(w.mh, 77, &buf), SL_NOT_FOUND);
}

static void metric_ids_differ_and_share_their_value(void **state) {
    (void)state;
    uint32_t a, b;
    uint64_t value = 0;
    assert_int_equal(ops->metric_define(w.mh, PW_METRIC_COUNTER, SL_STR("f"), SL_STR("n"), &a), SL_OK);
    assert_int_equal(ops->metric_define(w.mh, PW_METRIC_COUNTER, SL_STR("f"), SL_STR("n"), &b), SL_OK);
    assert_int_not_equal(a, b);
    assert_int_equal(ops->metric_add(w.mh, a, 2), SL_OK);
    assert_int_equal(ops->metric_record(w.mh, b, 3), SL_OK);
    assert_int_equal(ops->metric_get(w.mh, a, &value), SL_OK);
    assert_int_equal(value, 5);
    assert_int_equal(mh_metric_value(w.mh, SL_STR("f"), SL_STR("n"), &value), SL_OK);
    assert_int_equal(value, 5);
}

static void metrics_refuse_what_their_type_cannot_do(void **state) {
    (void)state;
    uint32_t counter, gauge, histogram;
    uint64_t value = 0;
    ops->metric_define(w.mh, PW_METRIC_COUNTER, SL_STR("f"), SL_STR("c"), &counter);
    ops->metric_define(w.mh, PW_METRIC_GAUGE, SL_STR("f"), SL_STR("g"), &gauge);
    ops->metric_define(w.mh, PW_METRIC_HISTOGRAM, SL_STR("f"), SL_STR("h"), &histogram);
    assert_int_equal(ops->metric_add(w.mh, counter, 0), SL_INVALID);
    assert_int_equal(ops->metric_add(w.mh, counter, -1), SL_INVALID);
    assert_int_equal(ops->metric_add(w.mh, gauge, 5), SL_OK);
    assert_int_equal(ops->metric_add(w.mh, gauge, -2), SL_OK);
    assert_int_equal(ops->metric_get(w.mh, gauge, &value), SL_OK);
    assert_int_equal(value, 3);
    assert_int_equal(ops->metric_add(w.mh, histogram, 1), SL_INVALID);
    assert_int_equal(ops->metric_get(w.mh, histogram, &value), SL_INVALID);
    assert_int_equal(ops->metric_record(w.mh, histogram, 9), SL_OK);
    assert_int_equal(mh_metric_samples(w.mh, SL_STR("f"), SL_STR("h")), 1);
    assert_int_equal(ops->metric_define(w.mh, 3, SL_STR("f"), SL_STR("x"), &counter), SL_INVALID);
    assert_int_equal(ops->metric_add(w.mh, 0, 1), SL_NOT_FOUND);
    assert_int_equal(ops->metric_add(w.mh, gauge + 1, 1), SL_NOT_FOUND);
    assert_int_equal(ops->metric_record(w.mh, 4000, 1), SL_NOT_FOUND);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(shared_data_is_separated_by_vm_id),
        T(an_absent_key_takes_any_cas_and_a_present_one_only_its_own),
        T(a_value_that_does_not_fit_the_buffer_is_an_error),
        T(setting_to_null_removes_where_the_cas_allows),
        T(shared_data_has_a_ceiling),
        T(a_queue_is_first_in_first_out),
        T(a_queue_is_found_by_its_vm_id_and_name),
        T(metric_ids_differ_and_share_their_value),
        T(metrics_refuse_what_their_type_cannot_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
