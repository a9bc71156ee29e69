/* Functions on stacks of their own. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "sl_coro.h"

typedef struct {
    sl_coro_t *coro;
    int rounds, at;
    char text[64];
} walk_t;

static void walk(void *arg) {
    walk_t *w = arg;
    char local[sizeof(w->text)];
    memset(local, 'x', sizeof(local));
    for (w->at = 0; w->at < w->rounds; w->at++) {
        local[w->at] = (char)('a' + w->at);
        sl_coro_yield(w->coro);
    }
    memcpy(w->text, local, sizeof(local));
}

static void a_function_goes_on_where_it_stopped(void **state) {
    (void)state;
    walk_t w = {.coro = sl_coro_new(65536), .rounds = 3};
    assert_non_null(w.coro);
    sl_coro_begin(w.coro, walk, &w);
    for (int i = 0; i < 3; i++) {
        assert_false(sl_coro_resume(w.coro));
        assert_int_equal(w.at, i);
    }
    assert_true(sl_coro_resume(w.coro));
    assert_memory_equal(w.text, "abcx", 4);
    sl_coro_free(w.coro);
}

static void a_stack_is_used_again_by_the_next_function(void **state) {
    (void)state;
    walk_t w = {.coro = sl_coro_new(65536)};
    for (w.rounds = 0; w.rounds < 20; w.rounds++) {
        int stops = 0;
        sl_coro_begin(w.coro, walk, &w);
        while (!sl_coro_resume(w.coro)) {
            stops++;
        }
        assert_int_equal(stops, w.rounds);
    }
    sl_coro_free(w.coro);
}

static void many_take_turns(void **state) {
    (void)state;
    walk_t w[8];
    int left = 8;
    for (int i = 0; i < 8; i++) {
        w[i] = (walk_t){.coro = sl_coro_new(65536), .rounds = i};
        sl_coro_begin(w[i].coro, walk, &w[i]);
    }
    for (int round = 0; left != 0; round++) {
        for (int i = round; i < 8; i++) {
            left -= sl_coro_resume(w[i].coro);
        }
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(w[i].at, i);
        sl_coro_free(w[i].coro);
    }
}

static void nest(void *arg) {
    walk_t inner = {.coro = sl_coro_new(65536), .rounds = 2};
    sl_coro_begin(inner.coro, walk, &inner);
    while (!sl_coro_resume(inner.coro)) {
        sl_coro_yield(((walk_t *)arg)->coro);
    }
    ((walk_t *)arg)->at = inner.at;
    sl_coro_free(inner.coro);
}

static void one_may_be_resumed_inside_of_another(void **state) {
    (void)state;
    walk_t w = {.coro = sl_coro_new(65536)};
    sl_coro_begin(w.coro, nest, &w);
    assert_false(sl_coro_resume(w.coro));
    assert_false(sl_coro_resume(w.coro));
    assert_true(sl_coro_resume(w.coro));
    assert_int_equal(w.at, 2);
    sl_coro_free(w.coro);
}

static void a_stack_too_large_for_the_address_space_is_refused(void **state) {
    (void)state;
    assert_null(sl_coro_new((size_t)-1));
    assert_null(sl_coro_new((size_t)1 << 60));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_function_goes_on_where_it_stopped),
        cmocka_unit_test(a_stack_is_used_again_by_the_next_function),
        cmocka_unit_test(many_take_turns),
        cmocka_unit_test(one_may_be_resumed_inside_of_another),
        cmocka_unit_test(a_stack_too_large_for_the_address_space_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
