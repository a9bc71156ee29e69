#include "sl_types.h"

#include "cmocka_all.h"

static sl_str_t bytes(const char *s, size_t n) {
    return sl_str(s, n);
}

static void equality_compares_bytes_and_length(void **state) {
    (void)state;
    assert_true(sl_str_eq(SL_STR("abc"), SL_STR("abc")));
    assert_false(sl_str_eq(SL_STR("abc"), SL_STR("ab")));
    assert_false(sl_str_eq(SL_STR("abc"), SL_STR("abd")));
    assert_true(sl_str_eq(bytes("a\0b", 3), bytes("a\0b", 3)));
    assert_false(sl_str_eq(bytes("a\0b", 3), bytes("a\0c", 3)));
}

static void the_null_string_equals_the_empty_string(void **state) {
    (void)state;
    assert_true(sl_str_eq(SL_STR_NULL, SL_STR("")));
    assert_true(sl_str_eq(sl_cstr(NULL), SL_STR_NULL));
    assert_true(sl_str_eq_nocase(SL_STR_NULL, SL_STR("")));
    assert_int_equal(sl_str_cmp(SL_STR_NULL, SL_STR("")), 0);
}

static void equality_without_case_folds_ascii_only(void **state) {
    (void)state;
    assert_true(sl_str_eq_nocase(SL_STR("Content-Type"), SL_STR("cONTENT-tYPE")));
    assert_false(sl_str_eq_nocase(SL_STR("a"), SL_STR("ab")));
    /* '[' and '{', '@' and '`' differ by the same bit as letters of two cases */
    assert_false(sl_str_eq_nocase(SL_STR("["), SL_STR("{")));
    assert_false(sl_str_eq_nocase(SL_STR("@"), SL_STR("`")));
    assert_false(sl_str_eq_nocase(SL_STR("\xc4"), SL_STR("\xe4")));
}

static void order_is_by_bytes_with_shorter_prefixes_first(void **state) {
    (void)state;
    assert_true(sl_str_cmp(SL_STR("a"), SL_STR("b")) < 0);
    assert_true(sl_str_cmp(SL_STR("b"), SL_STR("a")) > 0);
    assert_true(sl_str_cmp(SL_STR("a"), SL_STR("aa")) < 0);
    assert_true(sl_str_cmp(SL_STR("aa"), SL_STR("a")) > 0);
    assert_true(sl_str_cmp(SL_STR("\x7f"), SL_STR("\x80")) < 0);
    assert_int_equal(sl_str_cmp(SL_STR("same"), SL_STR("same")), 0);
}

static void prefixes_and_suffixes_are_found(void **state) {
    (void)state;
    assert_true(sl_str_starts(SL_STR("routes"), SL_STR("rou")));
    assert_true(sl_str_starts(SL_STR("routes"), SL_STR("routes")));
    assert_true(sl_str_starts(SL_STR("routes"), SL_STR_NULL));
    assert_false(sl_str_starts(SL_STR("rou"), SL_STR("routes")));
    assert_true(sl_str_ends(SL_STR("my.wasm"), SL_STR(".wasm")));
    assert_true(sl_str_ends(SL_STR("my"), SL_STR_NULL));
    assert_false(sl_str_ends(SL_STR("wasm"), SL_STR(".wasm")));
    assert_false(sl_str_ends(SL_STR("my.wasm"), SL_STR(".wat")));
}

static void well_formed_utf8_is_accepted(void **state) {
    (void)state;
    static const char *const good[] = {
        "",
        "plain",
        "\xc3\xa9",
        "\xe2\x82\xac",
        "\xf0\x9f\x98\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "\xc2\x80",
        "\xe0\xa0\x80",
        "\xf0\x90\x80\x80",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(sl_utf8_valid(sl_cstr(good[i]), NULL));
    }
    assert_true(sl_utf8_valid(bytes("a\0b", 3), NULL));
}

static void ill_formed_utf8_is_refused_with_the_offset_of_the_first_bad_sequence(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t at;
    } bad[] = {
        {"\x80", 0},             /* continuation without a start */
        {"ab\xc3", 2},           /* cut off */
        {"ab\xe2\x82", 2},       /* cut off */
        {"\xf0\x9f\x98", 0},     /* cut off */
        {"\xc0\xaf", 0},         /* overlong, two bytes */
        {"\xc1\xbf", 0},         /* overlong, two bytes */
        {"x\xe0\x9f\xbf", 1},    /* overlong, three bytes */
        {"\xf0\x8f\xbf\xbf", 0}, /* overlong, four bytes */
        {"\xed\xa0\x80", 0},     /* surrogate */
        {"\xed\xbf\xbf", 0},     /* surrogate */
        {"\xf4\x90\x80\x80", 0}, /* over U+10FFFF */
        {"\xf5\x80\x80\x80", 0}, /* no such start byte */
        {"\xff", 0},             /* no such start byte */
        {"\xc3(", 0},            /* no continuation */
        {"\xe2\x82(", 0},        /* no continuation */
        {"ok \xc3\xa9 \xf0(\x8c(", 6},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        size_t at = SIZE_MAX;
        assert_false(sl_utf8_valid(sl_cstr(bad[i].text), &at));
        assert_int_equal(at, bad[i].at);
    }
}

static void utf8_is_not_read_past_its_end(void **state) {
    (void)state;
    char exact[2] = {'\xe2', '\x82'};
    size_t at = SIZE_MAX;
    assert_false(sl_utf8_valid(sl_str(exact, sizeof(exact)), &at));
    assert_int_equal(at, 0);
}

static void setting_an_error_returns_the_status(void **state) {
    (void)state;
    sl_err_t err;
    assert_int_equal(sl_err_set(&err, SL_INVALID, "routes[%d]: %s", 3, "bad"), SL_INVALID);
    assert_string_equal(err.text, "routes[3]: bad");
    assert_int_equal(sl_err_set(NULL, SL_IO, "nobody listens"), SL_IO);
    sl_err_prefix(NULL, "nobody listens");
}

static void a_prefix_goes_before_the_text(void **state) {
    (void)state;
    sl_err_t err;
    sl_err_set(&err, SL_IO, "no such file");
    sl_err_prefix(&err, "%s: ", "kong.yml");
    assert_string_equal(err.text, "kong.yml: no such file");
}

static void long_error_texts_are_cut_and_stay_terminated(void **state) {
    (void)state;
    char text[2 * sizeof(sl_err_t)];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    sl_err_t err;
    sl_err_set(&err, SL_FAILED, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    sl_err_prefix(&err, "before ");
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_memory_equal(err.text, "before xxx", 10);
    sl_err_prefix(&err, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equality_compares_bytes_and_length),
        cmocka_unit_test(the_null_string_equals_the_empty_string),
        cmocka_unit_test(equality_without_case_folds_ascii_only),
        cmocka_unit_test(order_is_by_bytes_with_shorter_prefixes_first),
        cmocka_unit_test(prefixes_and_suffixes_are_found),
        cmocka_unit_test(well_formed_utf8_is_accepted),
        cmocka_unit_test(ill_formed_utf8_is_refused_with_the_offset_of_the_first_bad_sequence),
        cmocka_unit_test(utf8_is_not_read_past_its_end),
        cmocka_unit_test(setting_an_error_returns_the_status),
        cmocka_unit_test(a_prefix_goes_before_the_text),
        cmocka_unit_test(long_error_texts_are_cut_and_stay_terminated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
