#include "sl_arena.h"

#include "cmocka_all.h"
#include "fail_alloc.h"

#include <stdalign.h>

static void init_allocates_nothing(void **state) {
    (void)state;
    sl_arena_t a;
    fail_alloc_at(1);
    sl_arena_init(&a, 256, 1000);
    assert_int_equal(fail_alloc_seen(), 0);
    fail_alloc_at(0);
    sl_arena_deinit(&a);
}

static void pieces_are_aligned_and_do_not_overlap(void **state) {
    (void)state;
    sl_arena_t a;
    sl_arena_init(&a, 256, 100000);
    unsigned char *p[200];
    for (size_t i = 0; i < 200; i++) {
        size_t size = 1 + i % 37;
        p[i] = sl_arena_alloc(&a, size);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % alignof(max_align_t), 0);
        memset(p[i], (int)i, size);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k < 1 + i % 37; k++) {
            assert_int_equal(p[i][k], (unsigned char)i);
        }
    }
    sl_arena_deinit(&a);
}

static void small_pieces_share_a_block(void **state) {
    (void)state;
    sl_arena_t a;
    sl_arena_init(&a, 1024, 100000);
    fail_alloc_at(0);
    for (int i = 0; i < 10; i++) {
        assert_non_null(sl_arena_alloc(&a, 16));
    }
    assert_int_equal(fail_alloc_seen(), 1);
    sl_arena_deinit(&a);
}

static void a_large_piece_leaves_the_current_block_in_use(void **state) {
    (void)state;
    sl_arena_t a;
    sl_arena_init(&a, 256, 100000);
    char *first = sl_arena_alloc(&a, 16);
    memset(sl_arena_alloc(&a, 5000), 'x', 5000);
    fail_alloc_at(1);
    char *second = sl_arena_alloc(&a, 16);
    fail_alloc_at(0);
    assert_ptr_equal(second, first + 16);
    sl_arena_deinit(&a);
}

static void zeroed_pieces_are_zero(void **state) {
    (void)state;
    sl_arena_t a;
    sl_arena_init(&a, 256, 10000);
    const char *p = sl_arena_zalloc(&a, 100);
    assert_non_null(p);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(p[i], 0);
    }
    sl_arena_deinit(&a);
}

static void the_ceiling_counts_what_was_handed_out(void **state) {
    (void)state;
    sl_arena_t a;
    sl_arena_init(&a, 64, 128);
    assert_non_null(sl_arena_alloc(&a, 64));
    assert_non_null(sl_arena_alloc(&a, 64));
    assert_int_equal(a.used, 128);
    assert_null(sl_arena_alloc(&a, 1));
    assert_null(sl_arena_zalloc(&a, 1));
    assert_null(sl_arena_dup(&a, SL_STR("x")).data);
    sl_arena_deinit(&a);
}

static void a_piece_larger_than_the_ceiling_is_refused_at_once(void **state) {
    (void)state;
    sl_arena_t a;
    sl_arena_init(&a, 64, 128);
    fail_alloc_at(0);
    assert_null(sl_arena_alloc(&a, 129));
    assert_null(sl_arena_alloc(&a, SIZE_MAX));
    assert_int_equal(fail_alloc_seen(), 0);
    sl_arena_init(&a, 64, SIZE_MAX);
    assert_null(sl_arena_alloc(&a, SIZE_MAX));
    assert_null(sl_arena_alloc(&a, SIZE_MAX - 8));
    assert_null(sl_arena_dup(&a, sl_str("", SIZE_MAX)).data);
    sl_arena_deinit(&a);
}

static void out_of_memory_is_an_answer_and_the_arena_stays_usable(void **state) {
    (void)state;
    sl_arena_t a;
    sl_arena_init(&a, 64, 10000);
    fail_alloc_at(1);
    assert_null(sl_arena_alloc(&a, 10));
    fail_alloc_at(0);
    assert_int_equal(a.used, 0);
    assert_non_null(sl_arena_alloc(&a, 10));
    sl_arena_deinit(&a);
}

static void a_copy_is_terminated_and_its_own(void **state) {
    (void)state;
    sl_arena_t a;
    sl_arena_init(&a, 64, 10000);
    char text[] = "route";
    sl_str_t copy = sl_arena_dup(&a, sl_cstr(text));
    text[0] = 'X';
    assert_int_equal(copy.len, 5);
    assert_string_equal(copy.data, "route");
    sl_arena_deinit(&a);
}

static void a_copy_of_nothing_is_the_empty_string_and_not_null(void **state) {
    (void)state;
    sl_arena_t a;
    sl_arena_init(&a, 64, 10000);
    sl_str_t copy = sl_arena_dup(&a, SL_STR_NULL);
    assert_non_null(copy.data);
    assert_int_equal(copy.len, 0);
    assert_string_equal(copy.data, "");
    sl_arena_deinit(&a);
}

static void after_deinit_the_arena_starts_again(void **state) {
    (void)state;
    sl_arena_t a;
    sl_arena_init(&a, 64, 128);
    assert_non_null(sl_arena_alloc(&a, 128));
    sl_arena_deinit(&a);
    assert_int_equal(a.used, 0);
    assert_non_null(sl_arena_alloc(&a, 128));
    sl_arena_deinit(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_allocates_nothing),
        cmocka_unit_test(pieces_are_aligned_and_do_not_overlap),
        cmocka_unit_test(small_pieces_share_a_block),
        cmocka_unit_test(a_large_piece_leaves_the_current_block_in_use),
        cmocka_unit_test(zeroed_pieces_are_zero),
        cmocka_unit_test(the_ceiling_counts_what_was_handed_out),
        cmocka_unit_test(a_piece_larger_than_the_ceiling_is_refused_at_once),
        cmocka_unit_test(out_of_memory_is_an_answer_and_the_arena_stays_usable),
        cmocka_unit_test(a_copy_is_terminated_and_its_own),
        cmocka_unit_test(a_copy_of_nothing_is_the_empty_string_and_not_null),
        cmocka_unit_test(after_deinit_the_arena_starts_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
