#include "sl_regex.h"

#include <stdio.h>
#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "sl_buf.h"

static uint64_t seed;

static unsigned choose(unsigned n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)((seed >> 11) % n);
}

static void check_prefix(const char *pattern, const char *want) {
    char got[256];
    size_t n = sl_regex_literal_prefix(sl_cstr(pattern), got);
    if (!sl_str_eq(sl_str(got, n), sl_cstr(want))) {
        fail_msg("literal prefix of '%s': expected '%s', got '%.*s'", pattern, want, (int)n, got);
    }
}

/* ---- literal prefixes --------------------------------------------------------------------------------------------------------- */

static void the_literal_prefix_ends_at_the_first_special_character(void **state) {
    (void)state;
    check_prefix("/api/v1", "/api/v1");
    check_prefix("/api/v\\d+", "/api/v");
    check_prefix("/api/(a|b)", "/api/");
    check_prefix("/api/[a|b]", "/api/");
    check_prefix("/api/.*", "/api/");
    check_prefix("/api$", "/api");
    check_prefix("^/api", "/api");
    check_prefix("/a(?<x>b)", "/a");
    check_prefix("", "");
}

static void an_escaped_special_character_is_literal(void **state) {
    (void)state;
    check_prefix("/a\\.b\\-c\\/d", "/a.b-c/d");
    check_prefix("/a\\.?", "/a");
    check_prefix("/\\(\\|", "/(|");
}

static void a_character_that_may_be_absent_is_not_in_the_prefix(void **state) {
    (void)state;
    check_prefix("/ab?", "/a");
    check_prefix("/ab*", "/a");
    check_prefix("/ab+", "/a");
    check_prefix("/ab{0,2}", "/a");
}

static void alternatives_at_the_top_leave_no_prefix(void **state) {
    (void)state;
    check_prefix("/a|/b", "");
    check_prefix("/a(b|c)|/d", "");
    check_prefix("/a\\|b", "/a|b");
    check_prefix("/a[]|]b", "/a");
}

static void what_changes_how_a_pattern_is_read_leaves_no_prefix(void **state) {
    (void)state;
    check_prefix("/a\\Q|\\E", "");
    check_prefix("(?i)/a", "");
    check_prefix("/a(?x) b", "");
    check_prefix("/a(?#)|(", "");
    check_prefix("(*UTF)/a", "");
    check_prefix("/a[[:alpha:]]", "");
}

static const char *const pattern_parts[] = {
    "/",   "a",   "b",     "c",     "/a",        "|",     "(",     ")",   "(?:",   "[",    "]",     "[^",  "[]",        "^",       "$",
    "*",   "+",   "?",     "{2}",   "{0,}",      "{",     "}",     ".",   "\\.",   "\\d",  "\\w",   "\\",  "\\|",       "\\(",     "\\)",
    "\\[", "\\]", "\\Q",   "\\E",   "\\K",       "\\x61", "\\141", "\\c", "(?i)",  "(?x)", "(?-x)", "(?#", "#",         "(?|",     "(?=",
    "(?!", "(?>", "(?<n>", "(?'m'", "(?P<o>",    "(?<=",  "(?<!",  "(*",  "(?(1)", "(?1)", "(?R)",  "\\1", "[:alpha:]", "-",       " ",
    "\n",  "\\n", "(?s)",  "(?i:",  "(*ACCEPT)", "(?^)",  "\\b",   "\\A", "\\G",   "\\R",  "\\X",   "\\C", "\\N{",      "\\o{141}"};
static const char *const subject_parts[] = {"/", "a", "b", "c", "/a", "A", "1",  ".", "|", "(", ")",
                                            "[", "]", "#", " ", "\n", "-", "\\", "Q", "{", "}", "n"};

static void make(sl_buf_t *out, const char *const *parts, unsigned n_parts, unsigned max) {
    sl_buf_reset(out);
    for (unsigned n = choose(max + 1); n > 0; n--) {
        sl_buf_append_cstr(out, parts[choose(n_parts)]);
    }
}

#define MAKE(out, parts, max) make(out, parts, sizeof(parts) / sizeof(parts[0]), max)

/* Answers the number of subjects that matched. */
static unsigned check_pattern(sl_buf_t *pattern, sl_buf_t *subject, unsigned rounds) {
    sl_regex_t *re;
    char prefix[512];
    unsigned matched = 0;
    if (sl_regex_new(sl_buf_str(pattern), true, &re, NULL) != SL_OK) {
        return 0;
    }
    size_t n = sl_regex_literal_prefix(sl_buf_str(pattern), prefix), end;
    for (unsigned i = 0; i < rounds; i++) {
        MAKE(subject, subject_parts, 6);
        if (sl_regex_match(re, sl_buf_str(subject), &end) != SL_OK) {
            continue;
        }
        matched++;
        if (!sl_str_starts(sl_buf_str(subject), sl_str(prefix, n))) {
            fail_msg("'%.*s' matches '%.*s', which does not begin with '%.*s'", SL_FMT(*pattern), SL_FMT(*subject), (int)n, prefix);
        }
    }
    sl_regex_free(re);
    return matched;
}

static void every_match_of_a_pattern_begins_with_its_literal_prefix(void **state) {
    (void)state;
    const char *longer = getenv("SLUICE_SOAK");
    unsigned matched = 0, n = longer != NULL ? 3000000 : 15000;
    sl_buf_t pattern, subject;
    sl_buf_init(&pattern, 512);
    sl_buf_init(&subject, 512);
    seed = 88172645463325252u;
    for (unsigned i = 0; i < n; i++) {
        MAKE(&pattern, pattern_parts, 8);
        matched += check_pattern(&pattern, &subject, 20);
    }
    assert_true(matched > n / 100);
    sl_buf_deinit(&pattern);
    sl_buf_deinit(&subject);
}

/* ---- matching --------------------------------------------------------------------------------------------------------------------- */

static sl_status_t match(const char *pattern, bool anchored, const char *subject, size_t *end) {
    sl_regex_t *re = NULL;
    assert_int_equal(sl_regex_new(sl_cstr(pattern), anchored, &re, NULL), SL_OK);
    sl_status_t rc = sl_regex_match(re, sl_cstr(subject), end);
    sl_regex_free(re);
    return rc;
}

static void an_anchored_match_begins_at_the_first_byte_and_ends_anywhere(void **state) {
    (void)state;
    size_t end;
    assert_int_equal(match("/a+", true, "/aab", &end), SL_OK);
    assert_int_equal(end, 3);
    assert_int_equal(match("a", true, "/a", &end), SL_NOT_FOUND);
    assert_int_equal(match("a", false, "/a", &end), SL_OK);
    assert_int_equal(match("", true, "", &end), SL_OK);
    assert_int_equal(end, 0);
}

static void a_dot_matches_a_newline(void **state) {
    (void)state;
    size_t end;
    assert_int_equal(match("/.b", true, "/\nb", &end), SL_OK);
}

static void many_groups_are_no_obstacle(void **state) {
    (void)state;
    size_t end;
    assert_int_equal(match("(a)(b)(c)(?<d>d)", true, "abcd", &end), SL_OK);
    assert_int_equal(end, 4);
}

static void bytes_that_are_not_utf8_do_not_match_a_utf8_pattern(void **state) {
    (void)state;
    size_t end;
    assert_int_equal(match("(*UTF)/.", true, "/\xff", &end), SL_NOT_FOUND);
    assert_int_equal(match("(*UTF)/.", true, "/\xc3\xa9", &end), SL_OK);
    assert_int_equal(match("/.", true, "/\xff", &end), SL_OK);
}

static void a_match_that_costs_too_much_gives_up(void **state) {
    (void)state;
    size_t end;
    assert_int_equal(match("(*NO_JIT)(a+)+$", true, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", &end), SL_FAILED);
}

static void a_subject_too_deep_for_the_machine_stack_still_matches(void **state) {
    (void)state;
    char *subject = malloc(60001);
    assert_non_null(subject);
    memset(subject, 'a', 60000);
    subject[60000] = '\0';
    size_t end;
    sl_status_t rc = match("(?:a|b)*", true, subject, &end);
    assert_true(rc == SL_OK || rc == SL_FAILED || rc == SL_NO_MEMORY);
    if (rc == SL_OK) {
        assert_int_equal(end, 60000);
    }
    free(subject);
}

static void an_error_says_what_and_where(void **state) {
    (void)state;
    sl_err_t err;
    assert_int_equal(sl_regex_check(SL_STR("/a(b"), &err), SL_INVALID);
    assert_non_null(strstr(err.text, "at offset 4"));
    assert_int_equal(sl_regex_check(SL_STR("/a(b)"), &err), SL_OK);
}

static void a_huge_pattern_is_refused(void **state) {
    (void)state;
    char *pattern = malloc(100000);
    assert_non_null(pattern);
    memset(pattern, 'a', 100000);
    sl_err_t err;
    assert_int_equal(sl_regex_check(sl_str(pattern, 100000), &err), SL_INVALID);
    assert_non_null(strstr(err.text, "longer than"));
    free(pattern);
}

static bool found(const char *pattern, sl_str_t text) {
    sl_regex_t *re = NULL;
    size_t end;
    assert_int_equal(sl_regex_new_text(sl_cstr(pattern), &re, NULL), SL_OK);
    sl_status_t rc = sl_regex_match(re, text, &end);
    assert_true(rc == SL_OK || rc == SL_NOT_FOUND);
    assert_true(sl_regex_bytes(re) > 0);
    sl_regex_free(re);
    return rc == SL_OK;
}

static void one_for_text_searches_characters_and_no_newlines(void **state) {
    (void)state;
    assert_true(found("^.$", SL_STR("\xc3\xa9")));
    assert_true(found("b", SL_STR("abc")));
    assert_false(found("a.b", SL_STR("a\nb")));
    assert_false(found("^.$", SL_STR("\xff")));
    assert_true(found("a$", SL_STR("\377a")));
    sl_regex_t *re = NULL;
    assert_int_equal(sl_regex_new_text(SL_STR("a\\C"), &re, NULL), SL_INVALID); /* one byte of a character */
}

static void a_lower_limit_ends_a_match_earlier(void **state) {
    (void)state;
    sl_regex_t *re = NULL;
    size_t end;
    assert_int_equal(sl_regex_new_text(SL_STR("^(a|aa)+$"), &re, NULL), SL_OK);
    assert_int_equal(sl_regex_match(re, SL_STR("aaaaaaaac"), &end), SL_NOT_FOUND);
    sl_regex_limit(re, 10);
    assert_int_equal(sl_regex_match(re, SL_STR("aaaaaaaac"), &end), SL_FAILED);
    sl_regex_free(re);
}

static void without_memory_compiling_says_so(void **state) {
    (void)state;
    sl_regex_t *re = NULL;
    fail_alloc_at(1);
    assert_int_equal(sl_regex_new(SL_STR("a"), true, &re, NULL), SL_NO_MEMORY);
    fail_alloc_at(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_literal_prefix_ends_at_the_first_special_character),
        cmocka_unit_test(an_escaped_special_character_is_literal),
        cmocka_unit_test(a_character_that_may_be_absent_is_not_in_the_prefix),
        cmocka_unit_test(alternatives_at_the_top_leave_no_prefix),
        cmocka_unit_test(what_changes_how_a_pattern_is_read_leaves_no_prefix),
        cmocka_unit_test(every_match_of_a_pattern_begins_with_its_literal_prefix),
        cmocka_unit_test(an_anchored_match_begins_at_the_first_byte_and_ends_anywhere),
        cmocka_unit_test(a_dot_matches_a_newline),
        cmocka_unit_test(many_groups_are_no_obstacle),
        cmocka_unit_test(bytes_that_are_not_utf8_do_not_match_a_utf8_pattern),
        cmocka_unit_test(a_match_that_costs_too_much_gives_up),
        cmocka_unit_test(a_subject_too_deep_for_the_machine_stack_still_matches),
        cmocka_unit_test(an_error_says_what_and_where),
        cmocka_unit_test(a_huge_pattern_is_refused),
        cmocka_unit_test(one_for_text_searches_characters_and_no_newlines),
        cmocka_unit_test(a_lower_limit_ends_a_match_earlier),
        cmocka_unit_test(without_memory_compiling_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
