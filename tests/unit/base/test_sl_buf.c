#include "sl_buf.h"

#include "cmocka_all.h"
#include "fail_alloc.h"

static void assert_holds(const sl_buf_t *b, const char *text) {
    assert_int_equal(b->len, strlen(text));
    assert_memory_equal(b->data != NULL ? b->data : "", text, b->len);
}

static void a_new_buffer_is_empty_and_owns_nothing(void **state) {
    (void)state;
    sl_buf_t b;
    fail_alloc_at(1);
    sl_buf_init(&b, 100);
    assert_int_equal(fail_alloc_seen(), 0);
    assert_null(b.data);
    assert_int_equal(sl_buf_str(&b).len, 0);
    fail_alloc_at(0);
    sl_buf_deinit(&b);
}

static void appended_pieces_follow_each_other(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 1000);
    assert_int_equal(sl_buf_append(&b, "ab", 2), SL_OK);
    assert_int_equal(sl_buf_append_str(&b, SL_STR("cd")), SL_OK);
    assert_int_equal(sl_buf_append_cstr(&b, "ef"), SL_OK);
    assert_int_equal(sl_buf_append_char(&b, 'g'), SL_OK);
    assert_int_equal(sl_buf_append_str(&b, SL_STR_NULL), SL_OK);
    assert_int_equal(sl_buf_printf(&b, "-%d-%s", 42, "x"), SL_OK);
    assert_holds(&b, "abcdefg-42-x");
    sl_buf_deinit(&b);
}

static void a_long_formatted_text_is_not_cut(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 10000);
    assert_int_equal(sl_buf_printf(&b, "%1000d", 7), SL_OK);
    assert_int_equal(b.len, 1000);
    assert_int_equal(b.data[999], '7');
    assert_int_equal(sl_buf_printf(&b, "%255d", 8), SL_OK);
    assert_int_equal(sl_buf_printf(&b, "%256d", 9), SL_OK);
    assert_int_equal(b.len, 1511);
    assert_int_equal(b.data[1254], '8');
    assert_int_equal(b.data[1510], '9');
    sl_buf_deinit(&b);
}

static void the_ceiling_can_be_reached_but_not_passed(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 70);
    char data[70];
    memset(data, 'a', sizeof(data));
    assert_int_equal(sl_buf_append(&b, data, 70), SL_OK);
    assert_int_equal(b.cap, 70);
    assert_int_equal(sl_buf_append_char(&b, 'b'), SL_NO_MEMORY);
    assert_true(b.failed);
    assert_int_equal(b.len, 70);
    sl_buf_deinit(&b);
}

static void a_length_that_would_overflow_is_refused(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 1000);
    assert_int_equal(sl_buf_append(&b, "abc", 3), SL_OK);
    assert_int_equal(sl_buf_append(&b, "abc", SIZE_MAX), SL_NO_MEMORY);
    assert_int_equal(sl_buf_append(&b, "abc", SIZE_MAX - 2), SL_NO_MEMORY);
    assert_holds(&b, "abc");
    sl_buf_deinit(&b);
}

static void a_failure_is_sticky_until_reset(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 4);
    assert_int_equal(sl_buf_append_cstr(&b, "ab"), SL_OK);
    assert_int_equal(sl_buf_append_cstr(&b, "cde"), SL_NO_MEMORY);
    assert_int_equal(sl_buf_append_cstr(&b, "c"), SL_NO_MEMORY);
    assert_int_equal(sl_buf_splice(&b, 0, 0, "c", 1), SL_NO_MEMORY);
    assert_null(sl_buf_cstr(&b));
    assert_holds(&b, "ab");
    sl_buf_reset(&b);
    assert_int_equal(sl_buf_append_cstr(&b, "cde"), SL_OK);
    assert_holds(&b, "cde");
    sl_buf_deinit(&b);
}

static void out_of_memory_leaves_what_was_there(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 10000);
    assert_int_equal(sl_buf_append_cstr(&b, "kept"), SL_OK);
    fail_alloc_at(1);
    assert_int_equal(sl_buf_reserve(&b, 5000), SL_NO_MEMORY);
    fail_alloc_at(0);
    assert_true(b.failed);
    assert_holds(&b, "kept");
    sl_buf_deinit(&b);
}

static void each_allocation_of_a_long_format_may_fail(void **state) {
    (void)state;
    for (unsigned nth = 1; nth <= 2; nth++) {
        sl_buf_t b;
        sl_buf_init(&b, 10000);
        fail_alloc_at(nth);
        assert_int_equal(sl_buf_printf(&b, "%1000d", 7), SL_NO_MEMORY);
        fail_alloc_at(0);
        assert_true(b.failed);
        assert_int_equal(b.len, 0);
        sl_buf_deinit(&b);
    }
}

static void splice_replaces_inserts_and_cuts(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 100);
    sl_buf_append_cstr(&b, "hello world");
    assert_int_equal(sl_buf_splice(&b, 0, 5, "HI", 2), SL_OK);
    assert_holds(&b, "HI world");
    assert_int_equal(sl_buf_splice(&b, 3, 0, "big ", 4), SL_OK);
    assert_holds(&b, "HI big world");
    assert_int_equal(sl_buf_splice(&b, 2, 4, NULL, 0), SL_OK);
    assert_holds(&b, "HI world");
    assert_int_equal(sl_buf_splice(&b, 3, 5, "earth", 5), SL_OK);
    assert_holds(&b, "HI earth");
    sl_buf_deinit(&b);
}

static void splice_clamps_offset_and_length(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 100);
    sl_buf_append_cstr(&b, "abc");
    assert_int_equal(sl_buf_splice(&b, 100, 100, "d", 1), SL_OK);
    assert_holds(&b, "abcd");
    assert_int_equal(sl_buf_splice(&b, 2, SIZE_MAX, "X", 1), SL_OK);
    assert_holds(&b, "abX");
    assert_int_equal(sl_buf_splice(&b, SIZE_MAX, SIZE_MAX, "Y", 1), SL_OK);
    assert_holds(&b, "abXY");
    assert_int_equal(sl_buf_splice(&b, 0, SIZE_MAX, NULL, 0), SL_OK);
    assert_int_equal(b.len, 0);
    sl_buf_deinit(&b);
}

static void splice_obeys_the_ceiling_for_the_result_only(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 4);
    sl_buf_append_cstr(&b, "abcd");
    assert_int_equal(sl_buf_splice(&b, 1, 2, "XY", 2), SL_OK);
    assert_holds(&b, "aXYd");
    assert_int_equal(sl_buf_splice(&b, 1, 2, "123", 3), SL_NO_MEMORY);
    assert_holds(&b, "aXYd");
    sl_buf_deinit(&b);
}

static void the_text_view_is_terminated_and_does_not_count_the_nul(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 100);
    assert_string_equal(sl_buf_cstr(&b), "");
    sl_buf_append_cstr(&b, "abc");
    assert_string_equal(sl_buf_cstr(&b), "abc");
    assert_int_equal(b.len, 3);
    sl_buf_append_cstr(&b, "def");
    assert_string_equal(sl_buf_cstr(&b), "abcdef");
    sl_buf_deinit(&b);
}

static void a_buffer_can_be_used_again_after_deinit(void **state) {
    (void)state;
    sl_buf_t b;
    sl_buf_init(&b, 3);
    assert_int_equal(sl_buf_append_cstr(&b, "abcd"), SL_NO_MEMORY);
    sl_buf_deinit(&b);
    assert_int_equal(sl_buf_append_cstr(&b, "abc"), SL_OK);
    assert_int_equal(sl_buf_append_cstr(&b, "d"), SL_NO_MEMORY);
    sl_buf_deinit(&b);
    sl_buf_deinit(&b);
}

static void buffers_under_one_ceiling_share_its_room(void **state) {
    (void)state;
    sl_ceiling_t c = {.max = 300};
    sl_buf_t a, b;
    char bytes[300] = {0};
    sl_buf_init_under(&a, 1000, &c);
    sl_buf_init_under(&b, 1000, &c);
    assert_int_equal(sl_buf_append(&a, bytes, 200), SL_OK); /* 256 would leave less than b needs, and is taken nevertheless */
    assert_int_equal(c.used, 256);
    assert_int_equal(sl_buf_append(&b, bytes, 44), SL_OK); /* 64 are not there: what is needed */
    assert_int_equal(c.used, 300);
    assert_int_equal(c.refused, 0);
    assert_int_equal(sl_buf_append(&b, bytes, 1), SL_NO_MEMORY);
    assert_int_equal(c.refused, 1);
    assert_int_equal(b.len, 44);
    sl_buf_deinit(&a);
    assert_int_equal(c.used, 44);
    sl_buf_reset(&b);
    assert_int_equal(sl_buf_append(&b, bytes, 300), SL_OK);
    assert_int_equal(c.used, 300);
    sl_buf_deinit(&b);
    assert_int_equal(c.used, 0);
}

static void an_allocation_that_fails_takes_nothing_from_the_ceiling(void **state) {
    (void)state;
    sl_ceiling_t c = {.max = 300};
    sl_buf_t b;
    sl_buf_init_under(&b, 1000, &c);
    fail_alloc_at(1);
    assert_int_equal(sl_buf_append_cstr(&b, "abc"), SL_NO_MEMORY);
    fail_alloc_at(0);
    assert_int_equal(c.used, 0);
    sl_buf_deinit(&b);
}

static size_t told;

static void tell(void *ud, size_t used) {
    told = used + *(const size_t *)ud;
}

static void a_ceiling_counts_what_is_held_over_it_and_tells_of_changes(void **state) {
    (void)state;
    size_t base = 1000;
    sl_ceiling_t c = {.max = 10, .changed = tell, .ud = &base};
    sl_ceiling_hold(&c, 20);
    assert_int_equal(told, 1020);
    assert_false(sl_ceiling_take(&c, 1));
    sl_ceiling_give(&c, 15);
    assert_true(sl_ceiling_take(&c, 5));
    assert_false(sl_ceiling_take(&c, SIZE_MAX));
    assert_int_equal(told, 1010);
    c.max = 0;
    assert_true(sl_ceiling_take(&c, 1 << 20));
    assert_false(sl_ceiling_take(&c, SIZE_MAX));
    assert_true(sl_ceiling_take(NULL, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_buffer_is_empty_and_owns_nothing),
        cmocka_unit_test(appended_pieces_follow_each_other),
        cmocka_unit_test(a_long_formatted_text_is_not_cut),
        cmocka_unit_test(the_ceiling_can_be_reached_but_not_passed),
        cmocka_unit_test(a_length_that_would_overflow_is_refused),
        cmocka_unit_test(a_failure_is_sticky_until_reset),
        cmocka_unit_test(out_of_memory_leaves_what_was_there),
        cmocka_unit_test(each_allocation_of_a_long_format_may_fail),
        cmocka_unit_test(splice_replaces_inserts_and_cuts),
        cmocka_unit_test(splice_clamps_offset_and_length),
        cmocka_unit_test(splice_obeys_the_ceiling_for_the_result_only),
        cmocka_unit_test(the_text_view_is_terminated_and_does_not_count_the_nul),
        cmocka_unit_test(a_buffer_can_be_used_again_after_deinit),
        cmocka_unit_test(buffers_under_one_ceiling_share_its_room),
        cmocka_unit_test(an_allocation_that_fails_takes_nothing_from_the_ceiling),
        cmocka_unit_test(a_ceiling_counts_what_is_held_over_it_and_tells_of_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
