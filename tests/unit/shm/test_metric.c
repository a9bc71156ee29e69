#include "sh_metric.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "st.h"

#define SIZE (256 * 1024)
#define SLOTS 3
#define ME SL_STR("filter")

static sh_metrics_t ms;
static void *mem;

static void open_at(void *at, size_t size, bool fresh) {
    assert_int_equal(sh_metrics_open(&ms, at, size, fresh, 1, SLOTS), SL_OK);
    ms.lock = st_env.lock;
    ms.unlock = st_env.unlock;
    ms.ud = NULL;
}

static int setup(void **state) {
    (void)state;
    mem = st_memory(SIZE);
    open_at(mem, SIZE, true);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    st_reset();
    return 0;
}

static uint32_t define(sh_metric_type_t type, const char *name) {
    uint32_t id = 0;
    assert_int_equal(sh_metric_define(&ms, type, ME, sl_cstr(name), &id), SL_OK);
    return id;
}

static uint64_t value(uint32_t id) {
    uint64_t v = 4711;
    assert_int_equal(sh_metric_get(&ms, id, &v), SL_OK);
    return v;
}

static void the_same_definition_has_the_same_id_and_another_one_another(void **state) {
    (void)state;
    uint32_t id = define(SH_COUNTER, "a"), other;
    assert_int_equal(id, 1);
    assert_int_equal(define(SH_COUNTER, "a"), id);
    assert_int_not_equal(define(SH_GAUGE, "a"), id);
    assert_int_not_equal(define(SH_COUNTER, "b"), id);
    assert_int_equal(sh_metric_define(&ms, SH_COUNTER, SL_STR("other"), SL_STR("a"), &other), SL_OK);
    assert_int_not_equal(other, id);
    assert_int_equal(sh_metric_define(&ms, (sh_metric_type_t)3, ME, SL_STR("a"), &other), SL_INVALID);
    assert_int_equal(sh_metrics_count(&ms), 4);
}

static void a_counter_only_grows(void **state) {
    (void)state;
    uint32_t id = define(SH_COUNTER, "c");
    assert_int_equal(value(id), 0);
    assert_int_equal(sh_metric_add(&ms, id, 5), SL_OK);
    assert_int_equal(sh_metric_record(&ms, id, 2), SL_OK);
    assert_int_equal(sh_metric_add(&ms, id, 0), SL_INVALID);
    assert_int_equal(sh_metric_add(&ms, id, -1), SL_INVALID);
    assert_int_equal(value(id), 7);
}

static void a_gauge_is_added_to_and_set(void **state) {
    (void)state;
    uint32_t id = define(SH_GAUGE, "g");
    sh_metric_add(&ms, id, 5);
    sh_metric_add(&ms, id, -7);
    assert_int_equal((int64_t)value(id), -2);
    sh_metric_record(&ms, id, 100);
    sh_metrics_slot(&ms, 1); /* all workers have one value */
    assert_int_equal(value(id), 100);
    sh_metric_record(&ms, id, 50);
    sh_metrics_slot(&ms, 0);
    assert_int_equal(value(id), 50);
}

static void a_histogram_counts_by_powers_of_two(void **state) {
    (void)state;
    static const struct {
        uint64_t sample;
        uint32_t bin;
    } rows[] = {{0, 0},          {1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {65536, 16}, {65537, 17}, {1u << 31, 31}, {(1u << 31) + 1ull, 32},
                {UINT64_MAX, 32}};
    uint32_t id = define(SH_HISTOGRAM, "h");
    sh_metric_view_t view;
    uint64_t sum = 0, got;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        sh_metric_view(&ms, id, &view);
        uint64_t before = view.bins[rows[i].bin];
        assert_int_equal(sh_metric_record(&ms, id, rows[i].sample), SL_OK);
        sum += rows[i].sample;
        assert_true(sh_metric_view(&ms, id, &view));
        assert_int_equal(view.bins[rows[i].bin], before + 1);
        assert_int_equal(view.count, i + 1);
        assert_int_equal(view.value, sum);
    }
    assert_int_equal(sh_metric_add(&ms, id, 1), SL_INVALID);
    assert_int_equal(sh_metric_get(&ms, id, &got), SL_INVALID);
}

static void unknown_ids_are_refused(void **state) {
    (void)state;
    static const uint32_t ids[] = {0, 2, 1000000, UINT32_MAX};
    uint64_t v;
    sh_metric_view_t view;
    define(SH_COUNTER, "c");
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        assert_int_equal(sh_metric_add(&ms, ids[i], 1), SL_NOT_FOUND);
        assert_int_equal(sh_metric_record(&ms, ids[i], 1), SL_NOT_FOUND);
        assert_int_equal(sh_metric_get(&ms, ids[i], &v), SL_NOT_FOUND);
        assert_false(sh_metric_view(&ms, ids[i], &view));
    }
}

static void values_are_summed_over_the_slots(void **state) {
    (void)state;
    uint32_t id = define(SH_COUNTER, "c"), h = define(SH_HISTOGRAM, "h");
    sh_metric_view_t view;
    for (uint32_t slot = 0; slot < 10; slot++) {
        sh_metrics_slot(&ms, slot); /* more workers than rows share them */
        sh_metric_add(&ms, id, 3);
        sh_metric_record(&ms, h, 9);
    }
    assert_int_equal(value(id), 30);
    sh_metric_view(&ms, h, &view);
    assert_int_equal(view.count, 10);
    assert_int_equal(view.value, 90);
}

static void metrics_survive_a_new_view_of_the_region(void **state) {
    (void)state;
    uint32_t id = define(SH_COUNTER, "c");
    sh_metric_add(&ms, id, 3);
    open_at(mem, SIZE, false);
    assert_int_equal(define(SH_COUNTER, "c"), id);
    assert_int_equal(value(id), 3);
    sh_metrics_t other;
    assert_int_equal(sh_metrics_open(&other, mem, SIZE / 2, false, 1, SLOTS), SL_INVALID);
    *(uint64_t *)mem = 1;
    assert_int_equal(sh_metrics_open(&other, mem, SIZE, false, 1, SLOTS), SL_INVALID);
}

static void definitions_beyond_the_room_are_refused_and_the_others_go_on(void **state) {
    (void)state;
    char name[200];
    uint32_t id = 0, first = define(SH_COUNTER, "first");
    unsigned n = 0;
    memset(name, 'n', sizeof(name));
    for (;; n++) {
        size_t len = (size_t)snprintf(name, sizeof(name), "%u", n);
        name[len] = 'n';
        if (sh_metric_define(&ms, n % 9 == 0 ? SH_HISTOGRAM : SH_COUNTER, ME, sl_str(name, len + n % 100), &id) != SL_OK) {
            break;
        }
    }
    assert_in_range(n, 100, 10000);
    assert_int_equal(id, 0);
    assert_int_equal(sh_metrics_stats(&ms).refused, 1);
    assert_true(sh_metrics_stats(&ms).used_bytes <= SIZE);
    assert_int_equal(sh_metric_define(&ms, SH_COUNTER, ME, sl_str(name, SIZE_MAX), &id), SL_NO_MEMORY);
    assert_int_equal(sh_metric_add(&ms, first, 1), SL_OK);
    assert_int_equal(value(first), 1);
}

static unsigned define_all(sl_str_t owner) {
    char name[32];
    uint32_t id;
    unsigned n = 0;
    do {
        snprintf(name, sizeof(name), "%u", n++);
    } while (sh_metric_define(&ms, SH_COUNTER, owner, sl_cstr(name), &id) == SL_OK);
    return n - 1;
}

static void an_owner_leaves_room_for_the_others(void **state) {
    (void)state;
    unsigned greedy = define_all(ME), second = define_all(SL_STR("second")), third = define_all(SL_STR("third"));
    assert_in_range(second, greedy / 10, greedy / 7);
    assert_in_range(third, second / 10, second / 6);
    assert_int_equal(define_all(ME), greedy); /* what it has is still found */
}

static void an_owner_beside_many_small_ones_has_what_they_leave(void **state) {
    (void)state;
    char owner[32];
    uint32_t id;
    for (unsigned i = 0; i < 300; i++) {
        snprintf(owner, sizeof(owner), "o%u", i);
        assert_int_equal(sh_metric_define(&ms, SH_COUNTER, sl_cstr(owner), SL_STR("n"), &id), SL_OK);
    }
    assert_in_range(define_all(ME), 50, 1000);
    assert_int_equal(sh_metric_define(&ms, SH_COUNTER, SL_STR("late"), SL_STR("n"), &id), SL_OK);
}

static void a_region_of_any_size_is_used_within_its_bounds_or_refused(void **state) {
    (void)state;
    uint8_t *small = st_memory(32768);
    for (size_t size = 0; size < 32768; size += 64) {
        memset(small, 0xee, 32768);
        sl_status_t rc = sh_metrics_open(&ms, small, size, true, 1, 16);
        assert_true(rc == SL_OK || rc == SL_NO_MEMORY);
        for (unsigned i = 0; rc == SL_OK && i < 300; i++) {
            char name[16];
            uint32_t id;
            snprintf(name, sizeof(name), "%u", i);
            if (sh_metric_define(&ms, i % 2 == 0 ? SH_HISTOGRAM : SH_COUNTER, ME, sl_cstr(name), &id) == SL_OK) {
                sh_metrics_slot(&ms, i);
                sh_metric_record(&ms, id, UINT64_MAX);
            }
        }
        for (size_t k = size; k < 32768; k++) {
            assert_int_equal(small[k], 0xee);
        }
    }
}

/* ---- several processes ---- */

#define ROUNDS 20000

static void hammer(unsigned process, void *ud) {
    (void)ud;
    sh_metrics_slot(&ms, process);
    for (unsigned i = 0; i < ROUNDS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%u", i % 50);
        if (i % 100 < 50) {
            define(SH_COUNTER, name);
        }
        uint32_t id = define(SH_COUNTER, "c");
        sh_metric_add(&ms, id, 1);
        sh_metric_add(&ms, define(SH_GAUGE, "g"), process % 2 == 0 ? 3 : -2);
        sh_metric_record(&ms, define(SH_HISTOGRAM, "h"), i % 1000);
    }
}

static void totals_over_several_processes_are_exact(void **state) {
    (void)state;
    assert_int_equal(st_run(ST_PROCESSES, hammer, NULL), ST_PROCESSES);
    assert_int_equal(value(define(SH_COUNTER, "c")), ST_PROCESSES * ROUNDS);
    assert_int_equal(value(define(SH_GAUGE, "g")), ROUNDS * ST_PROCESSES / 2);
    sh_metric_view_t view;
    sh_metric_view(&ms, define(SH_HISTOGRAM, "h"), &view);
    assert_int_equal(view.count, ST_PROCESSES * ROUNDS);
    assert_int_equal(view.value, (uint64_t)ST_PROCESSES * ROUNDS / 1000 * 499500);
    assert_int_equal(sh_metrics_count(&ms), 53); /* nobody defined twice */
}

static void define_and_be_killed(unsigned process, void *ud) {
    (void)process;
    (void)ud;
    char name[32];
    for (unsigned i = 0;; i++) {
        snprintf(name, sizeof(name), "of %d", (int)getpid());
        uint32_t id;
        (void)sh_metric_define(&ms, SH_COUNTER, ME, sl_cstr(name), &id);
        sh_metric_add(&ms, id, 1);
        if (i == 50) {
            kill(getpid(), SIGKILL);
        }
    }
}

static void metrics_of_killed_processes_stay(void **state) {
    (void)state;
    assert_int_equal(st_run(8, define_and_be_killed, NULL), 0);
    assert_int_equal(sh_metrics_count(&ms), 8);
    for (uint32_t id = 1; id <= 8; id++) {
        assert_int_equal(value(id), 51);
    }
    assert_int_equal(define(SH_COUNTER, "after"), 9);
}

static void define_and_die(unsigned process, void *ud) {
    (void)process;
    uint32_t id;
    ms.step = st_env.step;
    st_die_at_step(*(unsigned *)ud);
    (void)sh_metric_define(&ms, SH_COUNTER, ME, SL_STR("half"), &id);
    (void)sh_metric_define(&ms, SH_HISTOGRAM, ME, SL_STR("done"), &id);
}

static void a_process_killed_at_any_step_of_a_definition_leaves_one_that_is_whole_or_none(void **state) {
    (void)state;
    unsigned at = 1;
    for (;; at++) {
        open_at(mem, SIZE, true);
        uint32_t id = define(SH_COUNTER, "before");
        bool all = st_run(1, define_and_die, &at) == 1;
        assert_int_equal(sh_metric_add(&ms, id, 1), SL_OK);
        uint32_t half = define(SH_COUNTER, "half"), done = define(SH_HISTOGRAM, "done");
        assert_int_equal(half, 2);
        assert_int_equal(done, 3);
        assert_int_equal(define(SH_COUNTER, "before"), id);
        assert_int_equal(define(SH_GAUGE, "after"), 4);
        sh_metric_record(&ms, done, UINT64_MAX);
        sh_metric_record(&ms, half, 5);
        assert_int_equal(value(half), 5);
        assert_int_equal(value(id), 1);
        if (all) {
            break;
        }
    }
    assert_true(at > 8);
}

static void a_copy_has_the_metrics_with_ids_and_values(void **state) {
    (void)state;
    uint32_t c = define(SH_COUNTER, "c"), g = define(SH_GAUGE, "g"), h = define(SH_HISTOGRAM, "h");
    sh_metric_view_t view;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        sh_metrics_slot(&ms, slot);
        sh_metric_add(&ms, c, 5);
        sh_metric_record(&ms, h, 100);
    }
    sh_metric_record(&ms, g, 7);
    sh_metrics_t from = ms;
    open_at(st_memory(2 * SIZE), 2 * SIZE, true);
    sh_metrics_copy(&ms, &from);
    assert_int_equal(define(SH_COUNTER, "c"), c);
    assert_int_equal(define(SH_GAUGE, "g"), g);
    assert_int_equal(define(SH_HISTOGRAM, "h"), h);
    assert_int_equal(value(c), 5 * SLOTS);
    assert_int_equal(value(g), 7);
    assert_true(sh_metric_view(&ms, h, &view));
    assert_int_equal(view.count, SLOTS);
    assert_int_equal(view.value, 100 * SLOTS);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_same_definition_has_the_same_id_and_another_one_another),
        T(a_counter_only_grows),
        T(a_gauge_is_added_to_and_set),
        T(a_histogram_counts_by_powers_of_two),
        T(unknown_ids_are_refused),
        T(values_are_summed_over_the_slots),
        T(metrics_survive_a_new_view_of_the_region),
        T(definitions_beyond_the_room_are_refused_and_the_others_go_on),
        T(an_owner_leaves_room_for_the_others),
        T(an_owner_beside_many_small_ones_has_what_they_leave),
        T(a_region_of_any_size_is_used_within_its_bounds_or_refused),
        T(totals_over_several_processes_are_exact),
        T(metrics_of_killed_processes_stay),
        T(a_process_killed_at_any_step_of_a_definition_leaves_one_that_is_whole_or_none),
        T(a_copy_has_the_metrics_with_ids_and_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
