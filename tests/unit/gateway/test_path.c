#include "gw_path.h"

#include <stdio.h>
#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"

static void check(sl_str_t got, const char *what, sl_str_t want) {
    if (!sl_str_eq(got, want)) {
        fail_msg("%s: expected '%.*s', got '%.*s'", what, SL_FMT(want), SL_FMT(got));
    }
}

static void check_normal(sl_str_t from, sl_str_t want) {
    sl_buf_t out;
    sl_buf_init(&out, from.len); /* never longer than what came in */
    assert_int_equal(gw_path_normalize(from, &out), SL_OK);
    char what[200];
    snprintf(what, sizeof(what), "normal form of '%.*s'", SL_FMT(from));
    check(sl_buf_str(&out), what, want);
    sl_buf_deinit(&out);
}

static void normal_pairs(const char *const (*pairs)[2], size_t n) {
    for (size_t i = 0; i < n; i++) {
        check_normal(sl_cstr(pairs[i][0]), sl_cstr(pairs[i][1]));
        check_normal(sl_cstr(pairs[i][1]), sl_cstr(pairs[i][1]));
    }
}

#define NORMAL(...)                                                                                                                        \
    do {                                                                                                                                   \
        static const char *const pairs_[][2] = {__VA_ARGS__};                                                                              \
        normal_pairs(pairs_, sizeof(pairs_) / sizeof(pairs_[0]));                                                                          \
    } while (0)

/* ---- normal form ------------------------------------------------------------------------------------------------------------ */

static void encoded_unreserved_and_other_characters_are_decoded(void **state) {
    (void)state;
    NORMAL({"/%61%62c", "/abc"}, {"/%7euser", "/~user"}, {"/a%20b", "/a b"}, {"/%c3%a9", "/\xc3\xa9"}, {"/%2Dx%5F", "/-x_"},
           {"/%22", "/\""});
}

static void an_encoded_nul_byte_becomes_a_byte_like_any_other(void **state) {
    (void)state;
    check_normal(SL_STR("/a%00b"), sl_str("/a\0b", 4));
}

static void encoded_reserved_characters_stay_encoded_in_upper_case(void **state) {
    (void)state;
    NORMAL({"/a%2fb", "/a%2Fb"}, {"/%3f%23%5b%5d", "/%3F%23%5B%5D"},
           {"/%21%2a%27%28%29%3b%3a%40%26%3d%2b%24%2c", "/%21%2A%27%28%29%3B%3A%40%26%3D%2B%24%2C"}, {"/%25", "/%25"},
           {"/%2561", "/%2561"});
}

static void what_is_no_encoding_stays_as_it_is(void **state) {
    (void)state;
    NORMAL({"/%zz", "/%zz"}, {"/%", "/%"}, {"/%4", "/%4"}, {"/%%41", "/%A"}, {"/a%g0", "/a%g0"});
}

static void dot_segments_are_resolved(void **state) {
    (void)state;
    NORMAL({"/a/./b", "/a/b"}, {"/a/../b", "/b"}, {"/a/b/..", "/a/"}, {"/a/b/.", "/a/b/"}, {"/..", "/"}, {"/.", "/"}, {"/../../a", "/a"},
           {"/a/b/c/../../d", "/a/d"}, {"/a/..", "/"}, {"/./", "/"}, {"/../", "/"}, {"/a/.../b", "/a/.../b"}, {"/.a", "/.a"},
           {"/a.", "/a."}, {"/..a/", "/..a/"});
}

static void encoded_dots_are_resolved_too(void **state) {
    (void)state;
    NORMAL({"/a/%2e%2E/b", "/b"}, {"/a/%2e/b", "/a/b"}, {"/a/.%2e", "/"});
}

static void an_encoded_slash_does_not_separate_segments(void **state) {
    (void)state;
    NORMAL({"/a%2f..%2fb", "/a%2F..%2Fb"}, {"/a/..%2fb", "/a/..%2Fb"});
}

static void repeated_slashes_are_merged_before_dots_are_resolved(void **state) {
    (void)state;
    NORMAL({"//a///b//", "/a/b/"}, {"/a//../b", "/b"}, {"//", "/"}, {"/a/b//..//c", "/a/c"});
}

static void a_path_that_is_not_absolute_is_only_decoded(void **state) {
    (void)state;
    NORMAL({"*", "*"}, {"", ""}, {"a/../b", "a/../b"}, {"%61", "a"});
}

static void without_memory_normalising_says_so(void **state) {
    (void)state;
    sl_buf_t out;
    sl_buf_init(&out, 3);
    assert_int_equal(gw_path_normalize(SL_STR("/abc"), &out), SL_NO_MEMORY);
    sl_buf_deinit(&out);
    sl_buf_init(&out, 100);
    fail_alloc_at(1);
    assert_int_equal(gw_path_normalize(SL_STR("/abc"), &out), SL_NO_MEMORY);
    fail_alloc_at(0);
    sl_buf_deinit(&out);
}

/* ---- request targets ---------------------------------------------------------------------------------------------------------- */

static void the_query_is_cut_at_the_first_question_mark(void **state) {
    (void)state;
    check(gw_path_of_target(SL_STR("/a?b?c=/d")), "query", SL_STR("/a"));
    check(gw_path_of_target(SL_STR("/?")), "empty query", SL_STR("/"));
    check(gw_path_of_target(SL_STR("/a%3Fb")), "encoded question mark", SL_STR("/a%3Fb"));
}

static void the_absolute_form_loses_scheme_and_authority(void **state) {
    (void)state;
    check(gw_path_of_target(SL_STR("http://h.test:80/a/b?x")), "absolute form", SL_STR("/a/b"));
    check(gw_path_of_target(SL_STR("http://h.test")), "authority only", SL_STR("/"));
    check(gw_path_of_target(SL_STR("http://h.test?x=/y")), "query after the authority", SL_STR("/"));
}

static void an_empty_target_is_the_root(void **state) {
    (void)state;
    check(gw_path_of_target(SL_STR("")), "empty", SL_STR("/"));
    check(gw_path_of_target(SL_STR_NULL), "null", SL_STR("/"));
    check(gw_path_of_target(SL_STR("?x")), "query only", SL_STR("/"));
    check(gw_path_of_target(SL_STR("*")), "asterisk", SL_STR("*"));
}

/* ---- the path for the service --------------------------------------------------------------------------------------------------- */

enum { KEEP = 0, STRIP = 1, NO_PATH = -1 };

typedef struct {
    const char *base, *path;
    int prefix; /* matched bytes, or NO_PATH */
    const char *want;
} join_case_t;

static void check_joins(bool v1, bool strip, const join_case_t *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const join_case_t *c = &cases[i];
        gw_path_join_t j = {.base = sl_cstr(c->base), .path = sl_cstr(c->path), .has_prefix = c->prefix >= 0, .strip = strip, .v1 = v1};
        j.prefix = c->prefix >= 0 ? (size_t)c->prefix : 0;
        sl_buf_t out;
        sl_buf_init(&out, gw_path_join_max(&j));
        assert_int_equal(gw_path_join(&j, &out), SL_OK);
        char what[200];
        snprintf(what, sizeof(what), "%s %s base '%s' path '%s' prefix %d", v1 ? "v1" : "v0", strip ? "strip" : "keep", c->base, c->path,
                 c->prefix);
        check(sl_buf_str(&out), what, sl_cstr(c->want));
        sl_buf_deinit(&out);
    }
}

#define JOINS(v1, strip, ...)                                                                                                              \
    do {                                                                                                                                   \
        static const join_case_t cases_[] = {__VA_ARGS__};                                                                                 \
        check_joins(v1, strip, cases_, sizeof(cases_) / sizeof(cases_[0]));                                                                \
    } while (0)

static void v0_strip_with_a_base_that_ends_in_a_slash(void **state) {
    (void)state;
    JOINS(false, STRIP,
          /* nothing left: the root stays, another base ends as the request did */
          {"/", "/", 1, "/"}, {"/", "/a", 2, "/"}, {"/", "/a/", 3, "/"}, {"/s/", "/", 1, "/s/"}, {"/s/", "/a", 2, "/s"},
          {"/s/", "/a/", 3, "/s/"}, {"/s/t/", "/a/b", 4, "/s/t"}, {"/s/t/", "/a/b/", 5, "/s/t/"},
          /* the rest begins with a slash: one of the two */
          {"/", "/a/", 2, "/"}, {"/", "/a/b", 2, "/b"}, {"/s/", "/a/", 2, "/s/"}, {"/s/", "/a/b", 2, "/s/b"}, {"/s/", "/a/b/", 2, "/s/b/"},
          /* it does not */
          {"/", "/a/b", 3, "/b"}, {"/", "/ab", 2, "/b"}, {"/", "/ab", 1, "/ab"}, {"/s/", "/a/b", 3, "/s/b"}, {"/s/", "/ab", 2, "/s/b"},
          {"/s/", "/ab/", 2, "/s/b/"}, {"/s/", "/ab", 1, "/s/ab"});
}

static void v0_strip_with_a_base_that_does_not_end_in_a_slash(void **state) {
    (void)state;
    JOINS(false, STRIP,
          /* nothing left: the request's slash is kept, but not that of the root */
          {"/s", "/", 1, "/s"}, {"/s", "/a", 2, "/s"}, {"/s", "/a/", 3, "/s/"}, {"/s/t", "/a/b/", 5, "/s/t/"},
          /* the rest begins with a slash */
          {"/s", "/a/", 2, "/s/"}, {"/s", "/a/b", 2, "/s/b"}, {"/s", "/a/b/", 2, "/s/b/"},
          /* it does not */
          {"/s", "/a/b", 3, "/s/b"}, {"/s", "/ab", 2, "/s/b"}, {"/s", "/ab", 1, "/s/ab"}, {"/s", "/ab/", 2, "/s/b/"});
}

static void v0_keep_with_a_base_that_ends_in_a_slash(void **state) {
    (void)state;
    JOINS(false, KEEP, {"/", "/", 1, "/"}, {"/", "/a", 2, "/a"}, {"/", "/a/", 3, "/a/"}, {"/", "/a/b", 2, "/a/b"}, {"/s/", "/", 1, "/s/"},
          {"/s/", "/a", 2, "/s/a"}, {"/s/", "/a/b/", 2, "/s/a/b/"}, {"/s/", "/a", NO_PATH, "/s/a"});
}

static void v0_keep_with_a_base_that_does_not_end_in_a_slash(void **state) {
    (void)state;
    JOINS(false, KEEP, {"/s", "/", 1, "/s"}, {"/s", "/a", 2, "/s/a"}, {"/s", "/a/", 3, "/s/a/"}, {"/s", "/a/b", 2, "/s/a/b"},
          {"/s", "/", NO_PATH, "/s"}, {"/s", "/a", NO_PATH, "/s/a"});
}

static void v1_strip_puts_them_side_by_side_with_at_most_one_slash(void **state) {
    (void)state;
    JOINS(true, STRIP, {"/", "/", 1, "/"}, {"/", "/a", 2, "/"}, {"/", "/a/", 2, "/"}, {"/", "/a/b", 2, "/b"}, {"/", "/a/b", 3, "/b"},
          {"/", "/ab", 2, "/b"}, {"/s", "/a", 2, "/s"}, {"/s", "/a/", 3, "/s"}, {"/s", "/a/", 2, "/s/"}, {"/s", "/a/b", 2, "/s/b"},
          {"/s", "/a/b", 3, "/sb"}, {"/s", "/ab", 2, "/sb"}, {"/s/", "/a", 2, "/s/"}, {"/s/", "/a/b", 2, "/s/b"},
          {"/s/", "/a/b", 3, "/s/b"}, {"/s/", "/ab", 2, "/s/b"});
}

static void v1_keep_appends_the_path_without_its_slash(void **state) {
    (void)state;
    JOINS(true, KEEP, {"/", "/", 1, "/"}, {"/", "/a/b", 2, "/a/b"}, {"/s", "/", 1, "/s"}, {"/s", "/a", 2, "/sa"}, {"/s/", "/", 1, "/s/"},
          {"/s/", "/a/b/", 2, "/s/a/b/"}, {"/s", "/a", NO_PATH, "/sa"});
}

static void without_a_matched_path_the_rest_is_all_but_the_first_slash(void **state) {
    (void)state;
    JOINS(false, STRIP, {"/", "/", NO_PATH, "/"}, {"/", "/a/b", NO_PATH, "/a/b"}, {"/", "/a/", NO_PATH, "/a/"}, {"/s", "/", NO_PATH, "/s"},
          {"/s", "/a/", NO_PATH, "/s/a/"}, {"/s/", "/", NO_PATH, "/s/"}, {"/s/", "/a", NO_PATH, "/s/a"}, {"/", "*", NO_PATH, "/"});
    JOINS(true, STRIP, {"/", "/a/b", NO_PATH, "/a/b"}, {"/s", "/a", NO_PATH, "/sa"}, {"/s/", "/a", NO_PATH, "/s/a"});
}

static void the_rest_cannot_climb_out_of_the_base(void **state) {
    (void)state;
    JOINS(false, STRIP, {"/s", "/a.", 2, "/s"}, {"/s", "/a..", 2, "/s"}, {"/s/", "/a..", 2, "/s"}, {"/s", "/a./b", 2, "/s/b"},
          {"/s", "/a../b", 2, "/s/b"}, {"/s/", "/a../b", 2, "/s/b"}, {"/s", "/a.b", 2, "/s/.b"}, {"/s", "/a..b", 2, "/s/..b"},
          {"/s", "/a.../b", 2, "/s/.../b"}, {"/s", "/a../", 2, "/s/"});
    JOINS(true, STRIP, {"/s/", "/a..", 2, "/s/"}, {"/s/", "/a../b", 2, "/s/b"});
}

static void bytes_that_are_neither_unreserved_nor_reserved_are_escaped(void **state) {
    (void)state;
    JOINS(false, KEEP, {"/", "/a b", 1, "/a%20b"}, {"/", "/\xc3\xa9", 1, "/%C3%A9"}, {"/", "/a%2Fb%25", 1, "/a%2Fb%25"},
          {"/", "/-._~!*'();:@&=+$,#[]", 1, "/-._~!*'();:@&=+$,#[]"}, {"/", "/\"<>\\^`{|}", 1, "/%22%3C%3E%5C%5E%60%7B%7C%7D"},
          {"/", "/\x01\x7f\xff", 1, "/%01%7F%FF"}, {"/my base", "/a", 1, "/my%20base/a"});
}

static void a_nul_byte_is_escaped(void **state) {
    (void)state;
    gw_path_join_t j = {.base = SL_STR("/"), .path = sl_str("/a\0b", 4), .has_prefix = true, .prefix = 1};
    sl_buf_t out;
    sl_buf_init(&out, 100);
    assert_int_equal(gw_path_join(&j, &out), SL_OK);
    check(sl_buf_str(&out), "NUL", SL_STR("/a%00b"));
    sl_buf_deinit(&out);
}

static void joining_over_the_ceiling_says_so(void **state) {
    (void)state;
    gw_path_join_t j = {.base = SL_STR("/"), .path = SL_STR("/abc"), .has_prefix = true, .prefix = 1};
    sl_buf_t out;
    sl_buf_init(&out, 3);
    assert_int_equal(gw_path_join(&j, &out), SL_NO_MEMORY);
    sl_buf_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoded_unreserved_and_other_characters_are_decoded),
        cmocka_unit_test(an_encoded_nul_byte_becomes_a_byte_like_any_other),
        cmocka_unit_test(encoded_reserved_characters_stay_encoded_in_upper_case),
        cmocka_unit_test(what_is_no_encoding_stays_as_it_is),
        cmocka_unit_test(dot_segments_are_resolved),
        cmocka_unit_test(encoded_dots_are_resolved_too),
        cmocka_unit_test(an_encoded_slash_does_not_separate_segments),
        cmocka_unit_test(repeated_slashes_are_merged_before_dots_are_resolved),
        cmocka_unit_test(a_path_that_is_not_absolute_is_only_decoded),
        cmocka_unit_test(without_memory_normalising_says_so),
        cmocka_unit_test(the_query_is_cut_at_the_first_question_mark),
        cmocka_unit_test(the_absolute_form_loses_scheme_and_authority),
        cmocka_unit_test(an_empty_target_is_the_root),
        cmocka_unit_test(v0_strip_with_a_base_that_ends_in_a_slash),
        cmocka_unit_test(v0_strip_with_a_base_that_does_not_end_in_a_slash),
        cmocka_unit_test(v0_keep_with_a_base_that_ends_in_a_slash),
        cmocka_unit_test(v0_keep_with_a_base_that_does_not_end_in_a_slash),
        cmocka_unit_test(v1_strip_puts_them_side_by_side_with_at_most_one_slash),
        cmocka_unit_test(v1_keep_appends_the_path_without_its_slash),
        cmocka_unit_test(without_a_matched_path_the_rest_is_all_but_the_first_slash),
        cmocka_unit_test(the_rest_cannot_climb_out_of_the_base),
        cmocka_unit_test(bytes_that_are_neither_unreserved_nor_reserved_are_escaped),
        cmocka_unit_test(a_nul_byte_is_escaped),
        cmocka_unit_test(joining_over_the_ceiling_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
