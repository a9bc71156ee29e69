/* Lists of pairs on the border. */
#include "pt.h"
#include "pw_pairs.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORKED                                                                                                                             \
    "\2\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\2\0\0\0a\0"                                                                                          \
    "1\0b\0"                                                                                                                               \
    "22\0"

static pw_pair_t out[PW_PAIRS_MAX];

static void the_worked_example_decodes(void **state) {
    (void)state;
    bool bad = true;
    assert_int_equal(pw_pairs_decode(SL_STR(WORKED), out, PW_PAIRS_MAX, &bad), 2);
    assert_false(bad);
    assert_str(out[0].key, "a");
    assert_str(out[1].value, "22");
}

static void the_writer_makes_the_worked_example(void **state) {
    (void)state;
    sl_buf_t sizes, bytes;
    pw_pairs_writer_t w;
    char at[64];
    sl_buf_init(&sizes, 1024);
    sl_buf_init(&bytes, 1024);
    pw_pairs_begin(&w, &sizes, &bytes);
    pw_pairs_add(&w, SL_STR("A"), SL_STR("1"), true);
    pw_pairs_add(&w, SL_STR("b"), SL_STR("22"), false);
    assert_int_equal(pw_pairs_size(&w), sizeof(WORKED) - 1);
    pw_pairs_copy(&w, at);
    assert_memory_equal(at, WORKED, sizeof(WORKED) - 1);
    sl_buf_deinit(&sizes);
    sl_buf_deinit(&bytes);
}

static void the_forms_of_an_empty_list_are_not_malformed(void **state) {
    (void)state;
    static const sl_str_t forms[] = {{NULL, 0}, {"\0\0\0", 4}, {"", 1}};
    for (size_t i = 0; i < 3; i++) {
        bool bad = true;
        assert_int_equal(pw_pairs_decode(forms[i], out, PW_PAIRS_MAX, &bad), 0);
        assert_false(bad);
    }
}

static void every_cut_and_every_extra_byte_makes_it_empty(void **state) {
    (void)state;
    for (size_t len = 2; len <= sizeof(WORKED); len++) { /* one byte more than the list is its own terminator */
        bool bad;
        size_t n = pw_pairs_decode(sl_str(WORKED, len), out, PW_PAIRS_MAX, &bad);
        assert_int_equal(n, len == sizeof(WORKED) - 1 ? 2 : 0);
        assert_int_equal(bad, len != sizeof(WORKED) - 1);
    }
}

static void a_missing_terminator_makes_it_empty(void **state) {
    (void)state;
    char copy[sizeof(WORKED)];
    memcpy(copy, WORKED, sizeof(copy));
    copy[21] = 'x';
    assert_int_equal(pw_pairs_decode(sl_str(copy, sizeof(copy) - 1), out, PW_PAIRS_MAX, NULL), 0);
}

static void sizes_that_lie_are_refused(void **state) {
    (void)state;
    static const uint8_t lies[][13] = {
        {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0},
        {1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0},
        {1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0},
    };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pw_pairs_decode(sl_str(lies[i], sizeof(lies[i])), out, PW_PAIRS_MAX, NULL), 0);
    }
}

static void more_pairs_than_fit_are_refused(void **state) {
    (void)state;
    static uint8_t many[4 + 1025 * 10];
    for (uint32_t n = 1024; n <= 1025; n++) {
        many[0] = (uint8_t)n;
        many[1] = (uint8_t)(n >> 8);
        bool bad;
        assert_int_equal(pw_pairs_decode(sl_str(many, 4 + (size_t)n * 10), out, PW_PAIRS_MAX, &bad), n == 1024 ? 1024 : 0);
        assert_int_equal(bad, n != 1024);
        assert_int_equal(pw_pairs_too_large(sl_str(many, 4 + (size_t)n * 10)), n != 1024);
    }
}

static void a_count_that_the_bytes_cannot_hold_is_not_a_large_list(void **state) {
    (void)state;
    static uint8_t mib[(1 << 20) + 1];
    assert_false(pw_pairs_too_large(sl_str("\xff\xff\xff\xff", 4)));
    assert_false(pw_pairs_too_large(sl_str(mib, 1 << 20)));
    assert_true(pw_pairs_too_large(sl_str(mib, sizeof(mib))));
    assert_false(pw_pairs_too_large(SL_STR_NULL));
    assert_false(pw_pairs_too_large(sl_str("\0\0\0", 3)));
}

static void nothing_is_read_past_the_end(void **state) {
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(two != MAP_FAILED);
    assert_int_equal(mprotect(two + page, page, PROT_NONE), 0);
    for (size_t len = 0; len < sizeof(WORKED); len++) {
        char *at = two + page - len;
        memcpy(at, WORKED, len);
        pw_pairs_decode(sl_str(at, len), out, PW_PAIRS_MAX, NULL);
    }
    munmap(two, 2 * page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_worked_example_decodes),
        cmocka_unit_test(the_writer_makes_the_worked_example),
        cmocka_unit_test(the_forms_of_an_empty_list_are_not_malformed),
        cmocka_unit_test(every_cut_and_every_extra_byte_makes_it_empty),
        cmocka_unit_test(a_missing_terminator_makes_it_empty),
        cmocka_unit_test(sizes_that_lie_are_refused),
        cmocka_unit_test(more_pairs_than_fit_are_refused),
        cmocka_unit_test(a_count_that_the_bytes_cannot_hold_is_not_a_large_list),
        cmocka_unit_test(nothing_is_read_past_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
