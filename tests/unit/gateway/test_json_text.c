#include "gw_json_text.h"

#include <stdlib.h>

#include "cmocka_all.h"

#define LIKE (JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(16))

static void assert_printed_alike(json_t *value) {
    sl_buf_t out;
    char *expected = json_dumps(value, LIKE);
    sl_buf_init(&out, 1 << 20);
    assert_non_null(expected);
    assert_int_equal(gw_json_compact(value, &out), SL_OK);
    assert_string_equal(sl_buf_cstr(&out), expected);
    sl_buf_deinit(&out);
    free(expected);
}

static void values_are_printed_as_jansson_prints_them(void **state) {
    (void)state;
    static const char *const texts[] = {
        "null",
        "true",
        "false",
        "0",
        "-9223372036854775808",
        "9223372036854775807",
        "0.1",
        "1e300",
        "-0.0",
        "1700000000.123",
        "3.0",
        "\"\"",
        "[]",
        "{}",
        "[[],{},[null,[1,2.5,\"x\"]]]",
        "{\"b\":1,\"a\":{\"\":[true,false]},\"c\":\"\\u00e9\\ud83d\\ude00/\\u007f\"}",
        "{\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\":\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001fend\"}",
        "\"\\n\"",
        "\"ends with a quote\\\"\"",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *value = json_loads(texts[i], JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        assert_printed_alike(value);
        json_decref(value);
    }
}

static void each_byte_of_a_text_is_printed_as_jansson_prints_it(void **state) {
    (void)state;
    for (int c = 0; c < 0x80; c++) {
        char text[3] = {'a', (char)c, 'z'};
        json_t *value = json_stringn(text, sizeof(text));
        assert_non_null(value);
        assert_printed_alike(value);
        json_decref(value);
    }
}

static void a_ceiling_is_a_failure(void **state) {
    (void)state;
    json_t *value = json_loads("{\"a\":[1,2,3],\"b\":\"text\"}", 0, NULL);
    char *whole = json_dumps(value, LIKE);
    for (size_t max = 0; max < strlen(whole); max++) {
        sl_buf_t out;
        sl_buf_init(&out, max);
        assert_int_equal(gw_json_compact(value, &out), SL_NO_MEMORY);
        assert_true(out.failed);
        sl_buf_deinit(&out);
    }
    free(whole);
    json_decref(value);
}

static void nothing_is_a_failure(void **state) {
    (void)state;
    sl_buf_t out;
    sl_buf_init(&out, 64);
    assert_int_equal(gw_json_compact(NULL, &out), SL_NO_MEMORY);
    assert_true(out.failed);
    sl_buf_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_printed_as_jansson_prints_them),
        cmocka_unit_test(each_byte_of_a_text_is_printed_as_jansson_prints_it),
        cmocka_unit_test(a_ceiling_is_a_failure),
        cmocka_unit_test(nothing_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
