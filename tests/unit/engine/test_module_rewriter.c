/* The rewriter of modules, byte by byte. What engines make of its work is in test_image.c. */
#include "cmocka_all.h"

#include <stdlib.h>

#include "module_rewriter.h"

#define HEAD 0, 'a', 's', 'm', 1, 0, 0, 0
#define BYTES(...) sl_str((const uint8_t[]){HEAD, __VA_ARGS__}, sizeof((const uint8_t[]){HEAD, __VA_ARGS__}))

static void becomes(sl_str_t before, sl_str_t after) {
    sl_buf_t out;
    sl_rewrite_t found;
    sl_err_t err;
    sl_buf_init(&out, 1 << 20);
    assert_int_equal(sl_module_rewrite(before, &out, &found, &err), SL_OK);
    assert_int_equal(out.len, after.len);
    assert_memory_equal(out.data, after.data, after.len);
    sl_buf_deinit(&out);
}

static void a_module_with_nothing_to_change_stays_as_it_is(void **state) {
    (void)state;
    sl_str_t module = BYTES(1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 'f', 0, 0, 10, 4, 1, 2, 0, 0x0b, 0, 3, 1, 'x', 9);
    becomes(module, module);
}

static void mutable_globals_are_added_to_the_exports(void **state) {
    (void)state;
    becomes(BYTES(6, 11, 2, 0x7f, 1, 0x41, 5, 0x0b, 0x7f, 0, 0x41, 6, 0x0b, 7, 5, 1, 1, 'g', 3, 1),
            BYTES(6, 11, 2, 0x7f, 1, 0x41, 5, 0x0b, 0x7f, 0, 0x41, 6, 0x0b, 7, 23, 2, 1, 'g', 3, 1, 15, 's', 'l', 'u', 'i', 'c', 'e', ':',
                  'g', 'l', 'o', 'b', 'a', 'l', ':', '0', 3, 0));
}

static void an_export_section_is_made_where_there_is_none(void **state) {
    (void)state;
    becomes(BYTES(6, 6, 1, 0x7f, 1, 0x41, 5, 0x0b, 11, 1, 0), BYTES(6, 6, 1, 0x7f, 1, 0x41, 5, 0x0b, 7, 19, 1, 15, 's', 'l', 'u', 'i', 'c',
                                                                    'e', ':', 'g', 'l', 'o', 'b', 'a', 'l', ':', '0', 3, 0, 11, 1, 0));
    becomes(BYTES(6, 6, 1, 0x7f, 1, 0x41, 5, 0x0b), BYTES(6, 6, 1, 0x7f, 1, 0x41, 5, 0x0b, 7, 19, 1, 15, 's', 'l', 'u', 'i', 'c', 'e', ':',
                                                          'g', 'l', 'o', 'b', 'a', 'l', ':', '0', 3, 0));
}

static void the_start_section_becomes_an_export(void **state) {
    (void)state;
    becomes(BYTES(1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 8, 1, 0, 10, 4, 1, 2, 0, 0x0b),
            BYTES(1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 7, 16, 1, 12, 's', 'l', 'u', 'i', 'c', 'e', ':', 's', 't', 'a', 'r', 't', 0, 0, 10, 4, 1,
                  2, 0, 0x0b));
}

static void imported_globals_count_for_the_index(void **state) {
    (void)state;
    becomes(BYTES(2, 8, 1, 1, 'm', 1, 'g', 3, 0x7f, 0, 6, 6, 1, 0x7e, 1, 0x42, 5, 0x0b),
            BYTES(2, 8, 1, 1, 'm', 1, 'g', 3, 0x7f, 0, 6, 6, 1, 0x7e, 1, 0x42, 5, 0x0b, 7, 19, 1, 15, 's', 'l', 'u', 'i', 'c', 'e', ':',
                  'g', 'l', 'o', 'b', 'a', 'l', ':', '0', 3, 1));
}

static const char *why(sl_str_t module) {
    sl_rewrite_t found;
    return sl_module_rewrite(module, NULL, &found, NULL) == SL_OK ? found.no_reset : "refused";
}

static void code_that_is_not_understood_may_do_anything(void **state) {
    (void)state;
    assert_null(why(BYTES(10, 5, 1, 3, 0, 1, 0x0b)));
    assert_non_null(strstr(why(BYTES(10, 5, 1, 3, 0, 0xfb, 0x0b)), "not known"));
    assert_non_null(strstr(why(BYTES(10, 5, 1, 3, 0, 0x41, 0x80)), "cannot be read"));
    assert_non_null(strstr(why(BYTES(10, 4, 1, 2, 9, 0x0b)), "cannot be read"));
    assert_non_null(strstr(why(BYTES(10, 6, 1, 4, 0, 0x26, 0, 0x0b)), "tables"));
}

static void what_is_cut_short_is_refused(void **state) {
    (void)state;
    static const uint8_t whole[] = {HEAD, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 6, 6, 1, 0x7f, 1, 0x41, 5, 0x0b, 8, 1, 0};
    static const size_t sections[] = {8, 14, 18, 26, 29};
    for (size_t len = 0; len <= sizeof(whole); len++) {
        uint8_t *exact = malloc(len + 1); /* so that a sanitizer sees the end */
        memcpy(exact, whole, len);
        bool at_end = false;
        for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
            at_end = at_end || sections[i] == len;
        }
        sl_rewrite_t found;
        uint8_t *tight = realloc(exact, len != 0 ? len : 1);
        assert_int_equal(sl_module_rewrite(sl_str(tight, len), NULL, &found, NULL), at_end ? SL_OK : SL_INVALID);
        free(tight);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_module_with_nothing_to_change_stays_as_it_is),
        cmocka_unit_test(mutable_globals_are_added_to_the_exports),
        cmocka_unit_test(an_export_section_is_made_where_there_is_none),
        cmocka_unit_test(the_start_section_becomes_an_export),
        cmocka_unit_test(imported_globals_count_for_the_index),
        cmocka_unit_test(code_that_is_not_understood_may_do_anything),
        cmocka_unit_test(what_is_cut_short_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
