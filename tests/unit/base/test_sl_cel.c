/* CEL: a table of expressions and what they are worth, and what hostile ones come to. */
#include "sl_cel.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "sl_buf.h"

/* ---- attributes ---- */

static unsigned n_reads, n_maps;

static const struct {
    const char *path; /* with dots */
    sl_cel_attr_t attr;
} attributes[] = {
    {"request", {.open = true}},
    {"response", {.open = true}},
    {"metadata", {.kind = SL_CEL_ATTR_VALUE, .open = true, .deep = true, .value = {.kind = SL_CEL_STRING, .str = {"wire", 4}}}},
    {"request.path", {.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_STRING, .str = {"/a/b?c=d", 8}}}},
    {"request.size", {.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_INT, .i = 42}}},
    {"request.total", {.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_UINT, .u = 43}}},
    {"request.mtls", {.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_BOOL, .b = true}}},
    {"request.time", {.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_TIMESTAMP, .ns = (__int128)1700000000 * 1000000000}}},
    {"request.headers", {.kind = SL_CEL_ATTR_ENTRIES}},
    {"request.headers.host", {.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_STRING, .str = {"here", 4}}}},
    {"request.headers.x-twice", {.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_STRING, .str = {"1,2", 3}}}},
    {"names", {.kind = SL_CEL_ATTR_TEXTS, .value = {.str = {"one\0two", 8}}}},
};

static sl_status_t get(void *ud, sl_str_t path, sl_cel_attr_t *out) {
    (void)ud;
    char dotted[SL_CEL_PATH_MAX];
    n_reads++;
    assert_true(path.len <= sizeof(dotted));
    for (size_t i = 0; i < path.len; i++) {
        dotted[i] = path.data[i] != '\0' ? path.data[i] : '.';
    }
    if (sl_str_eq(sl_str(dotted, path.len), SL_STR("broken"))) {
        return SL_FAILED;
    }
    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
        if (sl_str_eq(sl_str(dotted, path.len), sl_cstr(attributes[i].path))) {
            *out = attributes[i].attr;
            return SL_OK;
        }
    }
    return SL_NOT_FOUND;
}

static sl_status_t each(void *ud, sl_str_t path, bool (*add)(void *add_ud, sl_str_t key, sl_str_t value), void *add_ud) {
    (void)ud;
    (void)path;
    n_maps++;
    (void)(add(add_ud, SL_STR("Host"), SL_STR("here")) && add(add_ud, SL_STR("x-twice"), SL_STR("1")) &&
           add(add_ud, SL_STR("X-Twice"), SL_STR("2")));
    return SL_OK;
}

static const sl_cel_attrs_t attrs = {.get = get, .each = each};

/* ---- values as text ---- */

static void show(sl_buf_t *out, const sl_cel_value_t *v) {
    switch (v->kind) {
    case SL_CEL_NULL:
        sl_buf_printf(out, "null");
        break;
    case SL_CEL_BOOL:
        sl_buf_printf(out, v->b ? "true" : "false");
        break;
    case SL_CEL_INT:
        sl_buf_printf(out, "%" PRId64, v->i);
        break;
    case SL_CEL_UINT:
        sl_buf_printf(out, "%" PRIu64 "u", v->u);
        break;
    case SL_CEL_DOUBLE:
        sl_buf_printf(out, "%.17g", v->d);
        sl_buf_printf(out, "f");
        break;
    case SL_CEL_STRING:
        sl_buf_printf(out, "'%.*s'", SL_FMT(v->str));
        break;
    case SL_CEL_BYTES:
        sl_buf_printf(out, "b");
        for (size_t i = 0; i < v->str.len; i++) {
            sl_buf_printf(out, "%02x", (unsigned char)v->str.data[i]);
        }
        break;
    case SL_CEL_LIST:
    case SL_CEL_MAP:
        sl_buf_printf(out, v->kind == SL_CEL_LIST ? "[" : "{");
        for (size_t i = 0; i < v->items->n; i++) {
            sl_buf_printf(out, i == 0 ? "" : v->kind == SL_CEL_MAP && i % 2 == 1 ? ":" : ",");
            show(out, &v->items->at[i]);
        }
        sl_buf_printf(out, v->kind == SL_CEL_LIST ? "]" : "}");
        break;
    case SL_CEL_TYPE:
        sl_buf_printf(out, "type %.*s", SL_FMT(v->str));
        break;
    default:
        sl_buf_printf(out, "%s%" PRId64 "ms", v->kind == SL_CEL_DURATION ? "d" : "t", (int64_t)(v->ns / 1000000));
    }
}

/* The value as text; "refused: ...", "error: ..." or "stopped: ..." else. */
static const char *worth(sl_str_t text) {
    static sl_buf_t out;
    sl_arena_t arena;
    sl_cel_t *cel = NULL;
    sl_cel_value_t v;
    sl_err_t err;
    out.max = 1 << 20;
    sl_buf_reset(&out);
    sl_arena_init(&arena, 4096, SL_CEL_RESULT_BYTES);
    char *exact = malloc(text.len != 0 ? text.len : 1); /* the expression keeps nothing of it */
    memcpy(exact, text.len != 0 ? text.data : "", text.len);
    sl_status_t rc = sl_cel_compile(sl_str(exact, text.len), &cel, &err);
    free(exact);
    if (rc != SL_OK) {
        assert_int_equal(rc, SL_INVALID);
        sl_buf_printf(&out, "refused: %s", err.text);
    } else {
        assert_in_range(sl_cel_bytes(cel), 1, 2 * SL_CEL_BYTES_MAX);
        rc = sl_cel_evaluate(cel, &attrs, &arena, &v, &err);
        if (rc == SL_OK) {
            show(&out, &v);
        } else {
            sl_buf_printf(&out, "%s: %s", rc == SL_INVALID ? "error" : "stopped", err.text);
        }
    }
    sl_cel_free(cel);
    sl_arena_deinit(&arena);
    const char *shown = sl_buf_cstr(&out);
    assert_non_null(shown);
    return shown;
}

typedef struct {
    const char *text, *want; /* want: all of it, or its beginning when that ends with a colon */
} row_t;

static unsigned n_wrong;

static void check(sl_str_t text, const char *want) {
    const char *got = worth(text);
    size_t len = strlen(want);
    bool ok = want[len - 1] == ':' ? strncmp(got, want, len) == 0 : strcmp(got, want) == 0;
    if (!ok) {
        print_error("%.*s\n    expected %s\n    got      %s\n", text.len < 200 ? (int)text.len : 200, text.data, want, got);
        n_wrong++;
    }
}

static void check_all(const row_t *rows, size_t n) {
    n_wrong = 0;
    for (size_t i = 0; i < n; i++) {
        check(sl_cstr(rows[i].text), rows[i].want);
    }
    assert_int_equal(n_wrong, 0);
}

#define TABLE(test, ...)                                                                                                                   \
    static void test(void **state) {                                                                                                       \
        static const row_t rows[] = {__VA_ARGS__};                                                                                         \
        (void)state;                                                                                                                       \
        check_all(rows, sizeof(rows) / sizeof(rows[0]));                                                                                   \
    }

/* clang-format off */
TABLE(literals_are_worth_what_they_say,
    {"null", "null"}, {"true", "true"}, {"false", "false"}, {"0", "0"}, {"42", "42"}, {"-7", "-7"}, {"0x1F", "31"}, {"-0x10", "-16"},
    {"9223372036854775807", "9223372036854775807"}, {"-9223372036854775808", "-9223372036854775808"},
    {"18446744073709551615u", "18446744073709551615u"}, {"0xffU", "255u"}, {"1.5", "1.5f"}, {".25", "0.25f"}, {"-2e3", "-2000f"},
    {"1e-2 == 0.01", "true"}, {"'a'", "'a'"}, {"\"a'b\"", "'a'b'"}, {"'''a\n'b'''", "'a\n'b'"}, {"\"\"\"a\"b\"\"\"", "'a\"b'"},
    {"''", "''"}, {"'\\x41\\101\\u0041\\U00000041'", "'AAAA'"}, {"'\\u00e9\\U0001F600'", "'\xc3\xa9\xf0\x9f\x98\x80'"},
    {"'\\a\\b\\f\\n\\r\\t\\v\\\\\\?\\\"\\'\\`' == '\\007\\010\\014\\012\\015\\011\\013\\134\\077\\042\\047\\140'", "true"},
    {"r'\\d\\''", "refused:"}, {"r'\\d'", "'\\d'"}, {"R\"\"\"\\\"\"\"", "'\\'"}, {"b'a\\xff\\377'", "b61ffff"}, {"b'\xc3\xa9'", "bc3a9"},
    {"rb'\\x'", "b5c78"}, {"Br'\\x'", "b5c78"}, {"[]", "[]"}, {"[1, 'a', [true,],]", "[1,'a',[true]]"}, {"{}", "{}"},
    {"{'a': 1, 2u: [3], true: null,}", "{'a':1,2u:[3],true:null}"}, {"1 // one\n + // plus\n 2", "3"}, {" \t\r\n1", "1"})

TABLE(what_is_no_expression_is_refused,
    {"", "refused: byte 0: expected a value"}, {"1 +", "refused: byte 3: expected a value"}, {"1 2", "refused: byte 2: expected an operator, or the end"},
    {"(1", "refused: byte 2: expected ')'"}, {"[1", "refused: byte 2: expected ']'"}, {"{1", "refused: byte 2: expected ':'"}, {"{1:2", "refused: byte 4: expected '}'"},
    {"a.", "refused:"}, {"a.1", "refused:"}, {"a..b", "refused:"}, {"a[", "refused:"}, {"1 ? 2", "refused: byte 5: expected ':'"}, {"? 1", "refused:"}, {"1 === 1", "refused:"},
    {"a & b", "refused: byte 2: this character begins nothing"}, {"a | b", "refused:"}, {"a = 1", "refused:"}, {"'a", "refused: byte 0: a string that does not end"}, {"'a\nb'", "refused:"},
    {"'''a''", "refused:"}, {"'\\z'", "refused:"}, {"'\\x4'", "refused:"}, {"'\\ud800'", "refused:"}, {"'\\U00110000'", "refused:"}, {"'\\400'", "refused:"}, {"b'\\u0041'", "refused:"},
    {"'\\", "refused:"}, {"9223372036854775808", "refused: byte 0: this number is too large for an int"}, {"-9223372036854775809", "refused:"}, {"18446744073709551616u", "refused:"},
    {"0x", "refused:"}, {"1a", "refused:"}, {"1.5u", "refused:"}, {"-1u", "refused:"}, {"as", "refused: byte 0: this word is reserved"}, {"while", "refused:"}, {"in", "refused:"},
    {"\xff", "refused: byte 0: this is not UTF-8"}, {"'\xc3'", "refused:"}, {"nope(1)", "refused: byte 0: there is no function 'nope'"}, {"'a'.nope()", "refused: byte 4: there is no method 'nope'"},
    {"contains('a', 'b')", "refused:"}, {"1.int()", "refused:"}, {"size()", "refused:"}, {"size(1, 2)", "refused:"}, {"'a'.size(1)", "refused:"}, {"'a'.matches()", "refused:"},
    {"has(a)", "refused:"}, {"has(a['b'])", "refused:"}, {"has(1)", "refused:"}, {"has(a.b, c)", "refused:"}, {"[1].all(x)", "refused:"}, {"[1].all(1, true)", "refused:"}, {"[1].all(true, true)", "refused:"},
    {"[1].all(x, x, x)", "refused:"}, {"[1].map(x, x, x, x)", "refused:"}, {"all(x, x)", "refused:"}, {"'a'.matches('(')", "refused: byte 12: regular expression: "
     "missing closing parenthesis at offset 1"})

TABLE(what_is_not_supported_is_refused,
    {"Msg{a: 1}", "refused: byte 0: messages are not supported"}, {"a.Msg{}", "refused: byte 2: messages are not supported"},
    {"a.?b", "refused:"}, {"a[?0]", "refused:"}, {"'a'.lowerAscii()", "refused:"}, {"'a'.split('b')", "refused:"}, {"math.abs(1)", "refused:"})

TABLE(operators_have_the_precedence_of_the_language,
    {"1 + 2 * 3", "7"}, {"(1 + 2) * 3", "9"}, {"10 - 4 - 3", "3"}, {"2 * 3 % 4", "2"}, {"-2 * -3", "6"}, {"2-1", "1"}, {"--1", "1"}, {"!true || true", "true"}, {"!!true", "true"},
    {"true || false && false", "true"}, {"1 + 1 == 2 && 2 < 3", "true"}, {"1 < 2 == true", "true"}, {"false ? 1 : true ? 2 : 3", "2"}, {"true ? 1 : false ? 2 : 3", "1"},
    {"true || false ? 1 : 2", "1"}, {"1 in [1] && true", "true"}, {"1 + 1 in [2]", "true"}, {"-[1, 2][1]", "-2"}, {"[[1, 2], [3]][1][0]", "3"}, {"{'a': {'b': 5}}.a.b", "5"}, {"-9223372036854775808 - 1", "error:"})

TABLE(whole_numbers_do_not_overflow,
    {"9223372036854775807 + 1", "error: the result is too large for its type"}, {"-9223372036854775808 - 1", "error:"}, {"9223372036854775807 * 2", "error:"}, {"-(-9223372036854775808)", "error:"},
    {"-9223372036854775808 / -1", "error:"}, {"-9223372036854775808 % -1", "error:"}, {"1 / 0", "error: division by zero"}, {"1 % 0", "error:"}, {"1u / 0u", "error:"}, {"1u % 0u", "error:"}, {"0u - 1u", "error:"},
    {"18446744073709551615u + 1u", "error:"}, {"18446744073709551615u * 2u", "error:"}, {"7 / 2", "3"}, {"-7 / 2", "-3"}, {"-7 % 2", "-1"}, {"7u / 2u", "3u"}, {"7u % 2u", "1u"}, {"9u - 2u", "7u"}, {"2u * 3u", "6u"},
    {"1.0 / 0.0 > 1e308", "true"}, {"0.0 / 0.0 == 0.0 / 0.0", "false"}, {"-(1.5)", "-1.5f"}, {"1.5 - 0.5", "1f"}, {"1.5 * 2.0", "3f"}, {"1.0 % 2.0", "error:"}, {"1 + 1u", "error:"}, {"1 + 1.0", "error:"}, {"-1u == 0", "refused:"}, {"-(1u)", "error:"}, {"!1", "error:"}, {"-'a'", "error:"})

TABLE(texts_and_lists_are_joined,
    {"'a' + 'b' + ''", "'ab'"}, {"b'a' + b'b'", "b6162"}, {"'a' + b'b'", "error:"}, {"'a' + 1", "error:"}, {"'a' - 'b'", "error:"}, {"[1] + [2, 3] + []", "[1,2,3]"}, {"[1] * [2]", "error:"}, {"{} + {}", "error:"}, {"null + null", "error:"})

TABLE(values_of_different_types_are_not_equal_but_numbers_are_numbers,
    {"1 == 1u", "true"}, {"1u == 1.0", "true"}, {"1 == 1.0", "true"}, {"1 == 1.5", "false"}, {"-1 == 18446744073709551615u", "false"}, {"9007199254740993 == 9007199254740992.0", "false"},
    {"9223372036854775807 < 9223372036854775808.0", "true"}, {"9223372036854775807 == 9223372036854775808.0", "false"}, {"-9223372036854775808 == -9223372036854775808.0", "true"}, {"18446744073709551615u < 18446744073709551616.0", "true"},
    {"1 == '1'", "false"}, {"1 != '1'", "true"}, {"null == null", "true"}, {"null == false", "false"}, {"'a' == b'a'", "false"}, {"[1, 2.0] == [1u, 2]", "true"}, {"[1] == [1, 2]", "false"}, {"{'a': 1, 'b': 2} == {'b': 2u, 'a': 1.0}", "true"},
    {"{'a': 1} == {'b': 1}", "false"}, {"{1: 'a'} == {1u: 'a'}", "true"}, {"[] == {}", "false"}, {"-1 < 0u", "true"}, {"0u > -1", "true"}, {"1u >= 1", "true"}, {"-0.5 < 0u", "true"}, {"2.5 > 2", "true"}, {"2 < 2.5", "true"}, {"-2 > -2.5", "true"}, {"0.0/0.0 < 1", "false"}, {"0.0/0.0 >= 1", "false"})

TABLE(things_of_one_type_have_an_order,
    {"'a' < 'b'", "true"}, {"'a' < 'aa'", "true"}, {"'b' <= 'a'", "false"}, {"'\xc3\xa9' > 'z'", "true"}, {"b'\\x00' < b'\\xff'", "true"}, {"false < true", "true"}, {"true <= true", "true"}, {"true >= false", "true"}, {"2 > 1", "true"}, {"2 >= 3", "false"},
    {"'a' < 1", "error:"}, {"[1] < [2]", "error:"}, {"null < null", "error:"}, {"{} > {}", "error:"}, {"duration('1s') < duration('1m')", "true"}, {"timestamp('2024-01-01T00:00:00Z') > timestamp('2023-12-31T23:59:59.999Z')", "true"}, {"timestamp(0) < duration('0')", "error:"})

TABLE(and_and_or_do_without_errors_where_they_can,
    {"true || 1/0 == 1", "true"}, {"1/0 == 1 || true", "true"}, {"false && 1/0 == 1", "false"}, {"1/0 == 1 && false", "false"}, {"false || 1/0 == 1", "error: division by zero"}, {"1/0 == 1 || false", "error:"}, {"true && 1/0 == 1", "error:"},
    {"1/0 == 1 && nope", "error: division by zero"}, {"nope || nope.b || true", "true"}, {"'a' || true", "true"}, {"true || 'a'", "true"}, {"'a' && false", "false"}, {"'a' || false", "error: not a bool"}, {"1 && true", "error:"}, {"false || false || false", "false"}, {"true && true && true", "true"},
    {"1/0 == 1 ? 1 : 2", "error:"}, {"true ? 1 : 1/0", "1"}, {"false ? 1/0 : 2", "2"}, {"1 ? 2 : 3", "error:"}, {"!(1/0 == 1)", "error:"})

TABLE(lists_and_maps_are_looked_into,
    {"[1, 2][0]", "1"}, {"[1, 2][1u]", "2"}, {"[1, 2][1.0]", "2"}, {"[1, 2][0.5]", "error:"}, {"[1][1]", "error: an index outside of its list"}, {"[1][-1]", "error:"}, {"[1][18446744073709551615u]", "error:"}, {"[1]['a']", "error:"}, {"{'a': 1}['a']", "1"},
    {"{'a': 1}['b']", "error: no such key"}, {"{'a': 1}.b", "error:"}, {"{1: 'i'}[1u]", "'i'"}, {"{1u: 'i'}[1.0]", "'i'"}, {"{true: 1}[true]", "1"}, {"'abc'[0]", "error:"}, {"1.5.a", "error: only a map has fields"}, {"1 in [1.0]", "true"}, {"'a' in ['b']", "false"}, {"'a' in {'a': 1}", "true"}, {"1 in {1u: 1}", "true"}, {"'a' in 'abc'", "error:"},
    {"{'a': 1, 'a': 2}", "error: a key that is there twice"}, {"{1: 1, 1u: 2}", "error:"}, {"{1.5: 1}", "error: a value that cannot be a key"}, {"{[1]: 1}", "error:"}, {"{null: 1}", "error:"}, {"[1/0]", "error:"}, {"{'a': 1/0}", "error:"}, {"has({'a': 1}.a)", "true"}, {"has({'a': 1}.b)", "false"}, {"has((1).b)", "error:"}, {"has({'a': {}}.a.b)", "false"}, {"has({'a': {}}.b.c)", "error:"}, {"{'if': 1}.if", "1"})

TABLE(comprehensions_go_through_lists_and_the_keys_of_maps,
    {"[1, 2, 3].all(x, x > 0)", "true"}, {"[1, 2, 3].all(x, x > 1)", "false"}, {"[].all(x, false)", "true"}, {"[].exists(x, true)", "false"}, {"[1, 2].exists(x, x == 2)", "true"}, {"[1, 2, 2].exists_one(x, x == 2)", "false"}, {"[1, 2].exists_one(x, x == 2)", "true"}, {"[1, 2].existsOne(x, x == 3)", "false"},
    {"[1, 2, 3].map(x, x * x)", "[1,4,9]"}, {"[1, 2, 3].map(x, x > 1, x * 10)", "[20,30]"}, {"[1, 2, 3].filter(x, x != 2)", "[1,3]"}, {"{'a': 1, 'b': 2}.map(k, k + k)", "['aa','bb']"}, {"{'a': 1}.all(k, k == 'a')", "true"}, {"{1: 'x', 2: 'y'}.filter(k, k > 1)", "[2]"}, {"[1, 2].map(x, [3, 4].map(y, x * y))", "[[3,4],[6,8]]"}, {"[1].map(x, [2].map(x, x))", "[[2]]"},
    {"[[1], [2]].exists(x, x.exists(y, y == 2))", "true"}, {"[1, 0, 2].exists(x, 2 / x == 1)", "true"}, {"[0, 1].all(x, 1 / x == 0)", "false"}, {"[0, 1].all(x, 1 / x == 1)", "error:"}, {"[0].exists(x, 1 / x == 1)", "error:"}, {"[1, 0].exists_one(x, 1 / x == 1)", "error:"}, {"[0].map(x, 1 / x)", "error:"}, {"[0].filter(x, 1 / x == 1)", "error:"}, {"[1].all(x, x)", "error:"}, {"[1].filter(x, x)", "error:"}, {"'abc'.all(x, true)", "error:"}, {"(1).map(x, x)", "error:"}, {"[1].map(request, request)", "[1]"}, {"[1].map(x, x) == [1] && [2].exists(x, x == 2)", "true"}, {"[{'a': 5}].map(x, x.a)", "[5]"}, {"[{'a': 5}].map(x, has(x.b))", "[false]"}, {"[1].map(x, x) + x", "error:"})

TABLE(strings_have_methods,
    {"'hello'.contains('ell')", "true"}, {"'hello'.contains('')", "true"}, {"''.contains('')", "true"}, {"''.contains('a')", "false"}, {"'hello'.startsWith('he')", "true"}, {"'hello'.endsWith('lo')", "true"}, {"'a'.endsWith('ba')", "false"}, {"'a'.contains(1)", "error:"}, {"size('h\xc3\xa9')", "2"}, {"'h\xc3\xa9'.size()", "2"}, {"size(b'\xc3\xa9')", "2"}, {"[1, 2].size()", "2"}, {"size({'a': 1})", "1"}, {"size(1)", "error:"},
    {"'hello'.matches('l+')", "true"}, {"'hello'.matches('^l')", "false"}, {"matches('hello', '^h.*o$')", "true"}, {"'\xc3\xa9'.matches('^.$')", "true"}, {"'a\\nb'.matches('a.b')", "false"}, {"['l', '('].map(p, 'hello'.matches(p))", "error: not a regular expression"}, {"['l', '^x'].map(p, 'hello'.matches(p))", "[true,false]"}, {"'a'.matches(1)", "error:"})

TABLE(conversions_are_exact_or_errors,
    {"int(1u)", "1"}, {"int('-5')", "-5"}, {"int('+5')", "5"}, {"int('9223372036854775807')", "9223372036854775807"}, {"int('-9223372036854775808')", "-9223372036854775808"}, {"int('9223372036854775808')", "error:"}, {"int(' 1')", "error:"}, {"int('')", "error:"}, {"int('-')", "error:"}, {"int('1.5')", "error:"}, {"int(1.9)", "1"}, {"int(-1.9)", "-1"}, {"int(1e19)", "error:"}, {"int(0.0/0.0)", "error:"}, {"int(18446744073709551615u)", "error:"}, {"int(true)", "error:"}, {"int(timestamp('1970-01-01T00:01:00Z'))", "60"}, {"int(timestamp('1969-12-31T23:59:59.5Z'))", "-1"},
    {"uint(1)", "1u"}, {"uint(-1)", "error:"}, {"uint('18446744073709551615')", "18446744073709551615u"}, {"uint('18446744073709551616')", "error:"}, {"uint('-1')", "error:"}, {"uint(2.9)", "2u"}, {"uint(-1.0)", "error:"}, {"uint(1.8446744073709552e19)", "error:"}, {"double(1)", "1f"}, {"double(2u)", "2f"}, {"double('1.5e3')", "1500f"}, {"double('x')", "error:"}, {"double('')", "error:"}, {"double('0x10')", "error:"}, {"double(' 1')", "error:"}, {"double('1 ')", "error:"},
    {"string(1)", "'1'"}, {"string(-5)", "'-5'"}, {"string(5u)", "'5'"}, {"string(1.5)", "'1.5'"}, {"string(0.1)", "'0.1'"}, {"string(0.1 + 0.2)", "'0.30000000000000004'"}, {"string(true)", "'true'"}, {"string(b'abc')", "'abc'"}, {"string(b'\\xff')", "error:"}, {"string([1])", "error:"}, {"string(null)", "error:"}, {"bytes('a')", "b61"}, {"bytes(1)", "error:"}, {"bool('true')", "true"}, {"bool('TRUE')", "true"}, {"bool('t')", "true"}, {"bool('1')", "true"}, {"bool('False')", "false"}, {"bool('0')", "false"}, {"bool('yes')", "error:"}, {"bool(1)", "error:"}, {"dyn(1) == 1", "true"})

TABLE(types_are_values,
    {"type(1)", "type int"}, {"type(1) == int", "true"}, {"type(1u) == int", "false"}, {"type('a') == string && type(b'a') == bytes", "true"}, {"[null, true, 1u, 1.5, [], {}].map(v, type(v)) == [null_type, bool, uint, double, list, map]", "true"},
    {"type(int) == type && type(type) == type", "true"}, {"type(timestamp(0)) == type(timestamp(1))", "true"}, {"type(duration('0')) != type(timestamp(0))", "true"}, {"int == 'int'", "false"}, {"int < uint", "error:"}, {"[int].exists(int, int == string)", "false"}, {".int", "error: no such attribute: int"}, {"type(nope)", "error:"}, {"{int: 1}", "error:"}, {"string(int)", "error:"})

TABLE(times_are_read_written_and_reckoned_with,
    {"timestamp('1970-01-01T00:00:00Z')", "t0ms"}, {"timestamp('1970-01-01T00:00:01.5Z')", "t1500ms"}, {"timestamp('1970-01-01T02:00:00+02:00')", "t0ms"}, {"timestamp('1969-12-31T22:30:00-01:30')", "t0ms"}, {"timestamp(60)", "t60000ms"}, {"timestamp('2000-02-29T12:00:00Z')", "t951825600000ms"}, {"timestamp('1900-02-29T00:00:00Z')", "error:"}, {"timestamp('2023-02-29T00:00:00Z')", "error:"}, {"timestamp('2023-13-01T00:00:00Z')", "error:"}, {"timestamp('2023-00-01T00:00:00Z')", "error:"}, {"timestamp('2023-01-01T24:00:00Z')", "error:"}, {"timestamp('2023-01-01')", "error:"}, {"timestamp('2023-01-01T00:00:00')", "error:"}, {"timestamp('2023-01-01T00:00:00.Z')", "error:"}, {"timestamp('2023-01-01T00:00:00Zx')", "error:"}, {"timestamp('')", "error:"},
    {"timestamp('0001-01-01T00:00:00Z') - duration('1s')", "error:"}, {"timestamp('9999-12-31T23:59:59Z') + duration('1s')", "error:"}, {"timestamp('9999-12-31T23:59:59.999999999Z') > timestamp('0001-01-01T00:00:00Z')", "true"}, {"timestamp(253402300800)", "error:"}, {"string(timestamp('0001-01-01T00:00:00Z'))", "'0001-01-01T00:00:00Z'"}, {"string(timestamp('2023-11-14T22:13:20.120+01:00'))", "'2023-11-14T21:13:20.12Z'"}, {"string(timestamp('1969-12-31T23:59:59.999999999Z'))", "'1969-12-31T23:59:59.999999999Z'"},
    {"duration('1h2m3s4ms')", "d3723004ms"}, {"duration('-1.5s')", "d-1500ms"}, {"duration('0')", "d0ms"}, {"duration('1.5h')", "d5400000ms"}, {"duration('1000us')", "d1ms"}, {"duration('')", "error:"}, {"duration('1')", "error:"}, {"duration('s')", "error:"}, {"duration('.s')", "error:"}, {"duration('1..5s')", "error:"}, {"duration('1x')", "error:"}, {"duration('99999999999999999999999999999999999999999999h')", "error:"}, {"duration('315576000000s')", "d315576000000000ms"}, {"duration('315576000001s')", "error:"}, {"string(duration('90m1.5s'))", "'5401.5s'"}, {"string(duration('-1ns'))", "'-0.000000001s'"},
    {"timestamp(10) - timestamp(4)", "d6000ms"}, {"timestamp(10) + duration('5s') == timestamp(15)", "true"}, {"duration('5s') + timestamp(10) - duration('15s')", "t0ms"}, {"duration('1s') + duration('2s') - duration('4s')", "d-1000ms"}, {"timestamp(1) + timestamp(1)", "error:"}, {"duration('1s') - timestamp(1)", "error:"}, {"duration('1s') * 2", "error:"}, {"duration('315576000000s') + duration('1s')", "error:"},
    {"timestamp('2023-12-31T23:59:59.123Z').getFullYear()", "2023"}, {"timestamp('2023-12-31T23:59:59.123Z').getMonth()", "11"}, {"timestamp('2023-12-31T23:59:59.123Z').getDate()", "31"}, {"timestamp('2023-12-31T23:59:59.123Z').getDayOfMonth()", "30"}, {"timestamp('2023-12-31T23:59:59.123Z').getDayOfWeek()", "0"}, {"timestamp('2023-12-31T23:59:59.123Z').getDayOfYear()", "364"}, {"timestamp('2023-12-31T23:59:59.123Z').getHours()", "23"}, {"timestamp('2023-12-31T23:59:59.123Z').getMinutes()", "59"}, {"timestamp('2023-12-31T23:59:59.123Z').getSeconds()", "59"}, {"timestamp('2023-12-31T23:59:59.123Z').getMilliseconds()", "123"},
    {"timestamp('2023-12-31T23:59:59Z').getFullYear('+01:00')", "2024"}, {"timestamp('2023-12-31T23:59:59Z').getHours('-08:30')", "15"}, {"timestamp('2023-12-31T23:59:59Z').getHours('02:00')", "1"}, {"timestamp('2023-12-31T23:59:59Z').getHours('UTC')", "23"}, {"timestamp('2023-12-31T23:59:59Z').getHours('Europe/Paris')", "error:"}, {"timestamp('2023-12-31T23:59:59Z').getHours(1)", "error:"}, {"timestamp('1600-03-01T00:00:00Z').getDayOfYear()", "60"}, {"timestamp('1969-12-31T00:00:00Z').getDayOfWeek()", "3"}, {"duration('3h2m1.5s').getHours()", "3"}, {"duration('3h2m1.5s').getMinutes()", "182"}, {"duration('3h2m1.5s').getSeconds()", "10921"}, {"duration('3h2m1.5s').getMilliseconds()", "500"}, {"duration('1s').getDate()", "error:"}, {"(1).getHours()", "error:"})

TABLE(attributes_are_found_by_their_paths,
    {"request.path", "'/a/b?c=d'"}, {"request['path']", "'/a/b?c=d'"}, {".request.path", "'/a/b?c=d'"}, {"request.path.startsWith('/a')", "true"}, {"request.size + 1", "43"}, {"request.total", "43u"}, {"request.mtls", "true"}, {"request.time.getFullYear()", "2023"}, {"request.headers['host']", "'here'"}, {"request.headers.host", "'here'"}, {"request.headers['x-' + 'twice']", "'1,2'"}, {"['host'].map(h, request.headers[h])", "['here']"},
    {"request.headers", "{'host':'here','x-twice':'1,2'}"}, {"size(request.headers)", "2"}, {"request.headers.map(k, k)", "['host','x-twice']"}, {"request.headers.exists(k, k.startsWith('x-') && request.headers[k] == '1,2')", "true"}, {"request.headers == {'host': 'here', 'x-twice': '1,2'}", "true"}, {"'host' in request.headers", "true"}, {"'nope' in request.headers", "false"}, {"'' in request.headers", "false"}, {"1 in request.headers", "false"}, {"has(request.headers.host)", "true"}, {"has(request.headers.nope)", "false"}, {"has(request.path)", "true"}, {"has(request.nope)", "false"}, {"'path' in request", "true"}, {"has(nope.path)", "error: no such attribute: nope"}, {"has(request.path.a)", "error: only a map has fields"}, {"has(request.nope.a)", "error:"}, {"'a' in request.path", "error:"},
    {"nope", "error: no such attribute: nope"}, {"request.nope", "error: no such attribute: request.nope"}, {"request.headers['nope']", "error: no such attribute: request.headers.nope"}, {"request.headers['a\\x00b']", "error:"}, {"request.headers['']", "error:"}, {"request[1]", "error:"}, {"request", "error: not a value, but several: request"}, {"request == 1", "error:"}, {"has(response.code) && response.code == 200", "false"}, {"response.code == 200 || true", "true"}, {"names", "['one','two']"}, {"names[1]", "'two'"}, {"'one' in names", "true"}, {"'three' in names", "false"}, {"names.exists(n, n == 'two')", "true"}, {"metadata", "'wire'"}, {"has(metadata.a)", "false"}, {"has(metadata.a['b'].c)", "false"}, {"'x' in metadata.a.b", "false"}, {"metadata.a['b']", "error:"}, {"broken", "stopped: an attribute could not be read"}, {"broken || true", "stopped:"}, {"true ? request.path : nope", "'/a/b?c=d'"}, {"[request.path, request.size]", "['/a/b?c=d',42]"})
/* clang-format on */

/* ---- how attributes are read ---- */

static void an_attribute_is_read_once_and_only_where_it_is_needed(void **state) {
    (void)state;
    n_reads = n_maps = 0;
    assert_string_equal(worth(SL_STR("true || request.path == 'x'")), "true");
    assert_int_equal(n_reads, 0);
    assert_string_equal(worth(SL_STR("[1, 2, 3].all(x, request.path == '/a/b?c=d')")), "true");
    assert_int_equal(n_reads, 1);
    assert_string_equal(worth(SL_STR("request.headers['host'] == 'here' && 'host' in request.headers")), "true");
    assert_int_equal(n_maps, 0);
    assert_string_equal(worth(SL_STR("request.headers.size() == request.headers.size()")), "true");
    assert_int_equal(n_maps, 1);
}

/* ---- hostile ones ---- */

/* `n` times `piece` between `before` and `after`. */
static void check_many(const char *before, const char *piece, size_t n, const char *after, const char *want) {
    sl_buf_t text;
    sl_buf_init(&text, 1 << 20);
    sl_buf_append_cstr(&text, before);
    for (size_t i = 0; i < n; i++) {
        sl_buf_append_cstr(&text, piece);
    }
    sl_buf_append_cstr(&text, after);
    check(sl_buf_str(&text), want);
    sl_buf_deinit(&text);
}

static void deep_nesting_is_refused_before_it_costs_a_stack(void **state) {
    (void)state;
    n_wrong = 0;
    check_many("", "(", 90, "1", "refused: byte 91: expected ')'");
    check_many("", "(", 30000, "1", "refused: byte 100: an expression that is nested too deeply");
    check_many("", "[", 30000, "", "refused:");
    check_many("", "{1:", 10000, "", "refused:");
    check_many("", "!", 30000, "true", "refused:");
    check_many("", "-", 30000, "x", "refused:");
    check_many("", "f(", 10000, "", "refused:");
    check_many("", "size(", 6000, "", "refused:");
    check_many("", "true?", 6000, "", "refused:");
    check_many("", "false?1:", 4000, "1", "refused:");
    check_many("x", "[0", 10000, "", "refused:");
    check_many("x", ".a", 10000, "", "refused:");
    check_many("(1)", ".a", 10000, "", "refused:");
    check_many("1", "+1", 10000, "", "refused:");
    check_many("1", "+1", 90, "", "91");
    check_many("x", ".map(a,a", 2000, "", "refused:");
    assert_int_equal(n_wrong, 0);
}

static void a_long_chain_of_conditions_is_no_depth(void **state) {
    (void)state;
    n_wrong = 0;
    check_many("false", " || false", 2000, "", "false");
    check_many("true", "&&true", 2000, " && request.size == 42", "true");
    check_many("", "request.path == 'x' || ", 1000, "true", "true");
    check_many("", "(", 20, "true || false && true", "refused:");
    assert_int_equal(n_wrong, 0);
}

static void what_is_huge_is_refused(void **state) {
    (void)state;
    n_wrong = 0;
    check_many("1", " ", SL_CEL_TEXT_MAX - 1, "", "1");
    check_many("1", " ", SL_CEL_TEXT_MAX, "", "refused:");
    check_many("'", "a", 30000, "'.size()", "30000");
    check_many("0.", "1", 1000, "", "refused:");
    check_many("", "9", 1000, "", "refused:");
    check_many("'a'.matches('", "a", 5000, "')", "refused:");
    check_many("[1", ",1", 10000, "]", "refused: byte 16383: an expression of too many parts");
    check_many("x.", "a", 6000, "", "error:");
    assert_int_equal(n_wrong, 0);
}

static void work_and_memory_of_an_evaluation_have_a_ceiling(void **state) {
    (void)state;
    n_wrong = 0;
    static const char range[] = "[1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0]";
    char text[2048];
    snprintf(text, sizeof(text), "%s.all(a, %s.all(b, %s.all(c, %s.all(d, true))))", range, range, range, range);
    check(sl_cstr(text), "stopped: more work than one evaluation may do");
    snprintf(text, sizeof(text), "%s.map(a, %s.map(b, %s.map(c, %s.map(d, 'x'))))", range, range, range, range);
    check(sl_cstr(text), "stopped:");
    snprintf(text, sizeof(text), "%s.all(a, %s.all(b, %s.all(c, %s.all(d, true)))) || true", range, range, range, range);
    check(sl_cstr(text), "stopped:");
    /* Four times as long each time. */
    char inner[4096] = "'0123456789'", outer[4096];
    for (char c = 'a'; c < 'n'; c++) {
        snprintf(outer, sizeof(outer), "[%.3000s].map(x, x + x + x + x)[0]", inner);
        memcpy(inner, outer, sizeof(inner));
    }
    check(sl_cstr(inner), "stopped: more memory than one evaluation may have");
    assert_int_equal(n_wrong, 0);
}

static void a_regular_expression_that_never_ends_is_stopped(void **state) {
    (void)state;
    n_wrong = 0;
    check_many("'", "a", 40, "!'.matches('^(a+)+$')", "stopped: a regular expression that takes too much work");
    check_many("'", "a", 40, "!'.matches('(a|aa)+$') || true", "stopped:");
    check_many("['^(a+)+$'].exists(p, '", "a", 40, "!'.matches(p))", "stopped:");
    check_many("'", "a", 4000, "!'.matches('(a.*){4}[bc]')", "stopped:");
    check_many("'", "a", 4000, "c'.matches('^a.*[bd]')", "false");
    check_many("'", "a", 9000, "'.matches('a')", "error: a text that is too long for a regular expression");
    check(SL_STR("'a'.matches('((a{1000}){1000}){1000}')"), "refused:");
    assert_int_equal(n_wrong, 0);
}

static void without_memory_nothing_breaks(void **state) {
    (void)state;
    sl_str_t text =
        SL_STR("request.headers.map(k, k + 'x').exists(k, k.matches('h') || k.matches(k)) && names.size() == 2 && {'a': [1]}.a[0] == 1");
    bool whole = false;
    for (unsigned nth = 1; !whole; nth++) {
        sl_arena_t arena;
        sl_cel_t *cel = NULL;
        sl_cel_value_t v = {0};
        sl_arena_init(&arena, 64, SL_CEL_RESULT_BYTES);
        fail_alloc_at(nth);
        sl_status_t rc = sl_cel_compile(text, &cel, NULL);
        rc = rc == SL_OK ? sl_cel_evaluate(cel, &attrs, &arena, &v, NULL) : rc;
        whole = fail_alloc_seen() < nth;
        fail_alloc_at(0);
        assert_int_equal(rc, whole ? SL_OK : SL_NO_MEMORY);
        assert_true(!whole || (v.kind == SL_CEL_BOOL && v.b));
        sl_cel_free(cel);
        sl_arena_deinit(&arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_are_worth_what_they_say),
        cmocka_unit_test(what_is_no_expression_is_refused),
        cmocka_unit_test(what_is_not_supported_is_refused),
        cmocka_unit_test(operators_have_the_precedence_of_the_language),
        cmocka_unit_test(whole_numbers_do_not_overflow),
        cmocka_unit_test(texts_and_lists_are_joined),
        cmocka_unit_test(values_of_different_types_are_not_equal_but_numbers_are_numbers),
        cmocka_unit_test(things_of_one_type_have_an_order),
        cmocka_unit_test(and_and_or_do_without_errors_where_they_can),
        cmocka_unit_test(lists_and_maps_are_looked_into),
        cmocka_unit_test(comprehensions_go_through_lists_and_the_keys_of_maps),
        cmocka_unit_test(strings_have_methods),
        cmocka_unit_test(conversions_are_exact_or_errors),
        cmocka_unit_test(types_are_values),
        cmocka_unit_test(times_are_read_written_and_reckoned_with),
        cmocka_unit_test(attributes_are_found_by_their_paths),
        cmocka_unit_test(an_attribute_is_read_once_and_only_where_it_is_needed),
        cmocka_unit_test(deep_nesting_is_refused_before_it_costs_a_stack),
        cmocka_unit_test(a_long_chain_of_conditions_is_no_depth),
        cmocka_unit_test(what_is_huge_is_refused),
        cmocka_unit_test(work_and_memory_of_an_evaluation_have_a_ceiling),
        cmocka_unit_test(a_regular_expression_that_never_ends_is_stopped),
        cmocka_unit_test(without_memory_nothing_breaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
