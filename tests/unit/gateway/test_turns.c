#include "gw_turns.h"

#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"

#define MAX 300

typedef struct {
    gw_turns_t turns;
    gw_turn_t entries[MAX];
    uint32_t weights[MAX];
    size_t n;
} fixture_t;

static void init(fixture_t *f, const uint32_t *weights, size_t n) {
    *f = (fixture_t){.n = n};
    for (size_t i = 0; i < n; i++) {
        f->weights[i] = weights[i];
        assert_int_equal(gw_turns_add(&f->turns, &f->entries[i], weights[i]), SL_OK);
    }
}

static size_t next(fixture_t *f) {
    gw_turn_t *e = gw_turns_next(&f->turns, NULL, NULL);
    assert_non_null(e);
    return (size_t)(e - f->entries);
}

static size_t sum_of(const fixture_t *f) {
    size_t sum = 0;
    for (size_t i = 0; i < f->n; i++) {
        sum += f->weights[i];
    }
    return sum;
}

/* In each row of turns as long as the sum, over three rounds, whoever begins it. */
static void check_shares(fixture_t *f) {
    size_t sum = sum_of(f), had[MAX] = {0};
    size_t *all = calloc(3 * sum, sizeof(*all));
    assert_non_null(all);
    for (size_t i = 0; i < 3 * sum; i++) {
        all[i] = next(f);
        had[all[i]]++;
        if (i >= sum) {
            had[all[i - sum]]--;
        }
        for (size_t k = 0; i + 1 >= sum && k < f->n; k++) {
            assert_int_equal(had[k], f->weights[k]);
        }
    }
    free(all);
}

static void each_has_its_share_in_any_row_as_long_as_the_sum_of_the_weights(void **state) {
    (void)state;
    static const uint32_t lists[][6] = {{1}, {7}, {1, 1}, {5, 1, 1}, {3, 2}, {100, 1, 50}, {1, 2, 3, 4, 5, 6}, {10, 10, 10, 1}};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        fixture_t f;
        size_t n = 0;
        while (n < 6 && lists[i][n] != 0) {
            n++;
        }
        init(&f, lists[i], n);
        check_shares(&f);
        gw_turns_deinit(&f.turns);
    }
}

static void many_with_any_weights_have_their_shares(void **state) {
    (void)state;
    uint32_t weights[MAX], seed = 12345;
    for (size_t i = 0; i < MAX; i++) {
        seed = seed * 1103515245u + 12345u;
        weights[i] = 1 + (seed >> 16) % 9;
    }
    fixture_t f;
    init(&f, weights, MAX);
    check_shares(&f);
    gw_turns_deinit(&f.turns);
}

/* Nobody waits longer than two even distances. */
static void check_distances(const uint32_t *weights, size_t n) {
    fixture_t f;
    init(&f, weights, n);
    size_t sum = sum_of(&f), last[MAX] = {0};
    for (size_t i = 1; i <= 4 * sum; i++) {
        size_t who = next(&f);
        assert_true(last[who] == 0 || i - last[who] <= 2 * (sum / weights[who] + 1));
        last[who] = i;
    }
    gw_turns_deinit(&f.turns);
}

static void turns_of_an_entry_lie_apart(void **state) {
    (void)state;
    check_distances((const uint32_t[]){10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 11);
    check_distances((const uint32_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 10}, 11);
    check_distances((const uint32_t[]){100, 50, 25, 1}, 4);
    check_distances((const uint32_t[]){1, 1, 1, 1, 1}, 5);
}

static bool is_odd(void *ud, const gw_turn_t *e) {
    return (e - (const gw_turn_t *)ud) % 2 != 0;
}

static bool is_any(void *ud, const gw_turn_t *e) {
    (void)ud;
    (void)e;
    return true;
}

static void who_is_passed_over_keeps_the_turn(void **state) {
    (void)state;
    fixture_t f;
    init(&f, (const uint32_t[]){1, 1, 1, 1}, 4);
    bool had[4] = {false};
    for (int i = 0; i < 2; i++) {
        gw_turn_t *e = gw_turns_next(&f.turns, is_odd, f.entries);
        had[e - f.entries] = true;
    }
    assert_true(had[0] && had[2]);
    for (int i = 0; i < 2; i++) {
        had[next(&f)] = true;
    }
    assert_true(had[1] && had[3]);
    gw_turns_deinit(&f.turns);
}

static void nobody_is_left_where_all_are_passed_over(void **state) {
    (void)state;
    fixture_t f;
    init(&f, (const uint32_t[]){2, 1, 5}, 3);
    assert_null(gw_turns_next(&f.turns, is_any, NULL));
    check_shares(&f);
    gw_turns_clear(&f.turns);
    assert_null(gw_turns_next(&f.turns, NULL, NULL));
    gw_turns_deinit(&f.turns);
}

static void who_comes_late_has_nothing_to_catch_up_on(void **state) {
    (void)state;
    fixture_t f;
    init(&f, (const uint32_t[]){3, 3}, 2);
    for (int i = 0; i < 1000; i++) {
        (void)next(&f);
    }
    f.weights[2] = 3;
    f.n = 3;
    assert_int_equal(gw_turns_add(&f.turns, &f.entries[2], 3), SL_OK);
    size_t had[3] = {0};
    for (int i = 0; i < 90; i++) {
        had[next(&f)]++;
    }
    for (int i = 0; i < 3; i++) {
        assert_in_range(had[i], 29, 31);
    }
    gw_turns_deinit(&f.turns);
}

static void who_takes_part_again_goes_on_where_he_stood(void **state) {
    (void)state;
    fixture_t f, same;
    static const uint32_t weights[] = {5, 2, 1};
    init(&f, weights, 3);
    init(&same, weights, 3);
    for (int i = 0; i < 50; i++) {
        gw_turns_clear(&f.turns);
        for (size_t k = 0; k < 3; k++) {
            assert_int_equal(gw_turns_add(&f.turns, &f.entries[k], weights[k]), SL_OK);
        }
        assert_int_equal(next(&f), next(&same));
    }
    gw_turns_deinit(&f.turns);
    gw_turns_deinit(&same.turns);
}

static void a_new_weight_counts_from_now_on(void **state) {
    (void)state;
    fixture_t f;
    init(&f, (const uint32_t[]){65535, 1}, 2);
    for (int i = 0; i < 1000; i++) {
        (void)next(&f);
    }
    gw_turns_clear(&f.turns);
    for (size_t i = 0; i < 2; i++) {
        f.weights[i] = 2;
        assert_int_equal(gw_turns_add(&f.turns, &f.entries[i], 2), SL_OK);
    }
    size_t had[2] = {0};
    for (int i = 0; i < 40; i++) {
        had[next(&f)]++;
    }
    assert_in_range(had[0], 19, 21);
    gw_turns_deinit(&f.turns);
}

static void without_memory_the_others_go_on(void **state) {
    (void)state;
    fixture_t f;
    uint32_t weights[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    init(&f, weights, 8);
    fail_alloc_at(1);
    assert_int_equal(gw_turns_add(&f.turns, &f.entries[8], 1), SL_NO_MEMORY);
    fail_alloc_at(0);
    check_shares(&f);
    gw_turns_deinit(&f.turns);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_its_share_in_any_row_as_long_as_the_sum_of_the_weights),
        cmocka_unit_test(many_with_any_weights_have_their_shares),
        cmocka_unit_test(turns_of_an_entry_lie_apart),
        cmocka_unit_test(who_is_passed_over_keeps_the_turn),
        cmocka_unit_test(nobody_is_left_where_all_are_passed_over),
        cmocka_unit_test(who_comes_late_has_nothing_to_catch_up_on),
        cmocka_unit_test(who_takes_part_again_goes_on_where_he_stood),
        cmocka_unit_test(a_new_weight_counts_from_now_on),
        cmocka_unit_test(without_memory_the_others_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
