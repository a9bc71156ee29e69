/* Runs on the machine itself, not in Wasm: the reader of the configuration, with texts that are right and texts that are wrong. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *text;
    json_result_t result;
    const char *value;
} case_t;

static const case_t cases[] = {
    {"{\"g\":\"hello\"}", JSON_FOUND, "hello"},
    {" { \"a\" : [1, {\"g\": 2}, []], \"g\" : \"hello\" , \"b\": {} } \n", JSON_FOUND, "hello"},
    {"{\"g\":\"\"}", JSON_FOUND, ""},
    {"{\"g\":\"one\",\"g\":\"two\"}", JSON_FOUND, "two"},
    {"{\"g\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", JSON_FOUND, "\"\\/\b\f\n\r\t"},
    {"{\"g\":\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"}", JSON_FOUND, "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
    {"{\"g\":\"gr\xc3\xbc\xc3\x9f\"}", JSON_FOUND, "gr\xc3\xbc\xc3\x9f"},
    {"{\"\\u0067\":\"by its escaped name\"}", JSON_FOUND, "by its escaped name"},
    {"{}", JSON_ABSENT, NULL},
    {"{\"gg\":\"x\",\"\":\"y\"}", JSON_ABSENT, NULL},
    {"{\"a\":{\"g\":\"inner\"}}", JSON_ABSENT, NULL},
    {"{\"g\":-0.5e+3}", JSON_NOT_STRING, NULL},
    {"{\"g\":null}", JSON_NOT_STRING, NULL},
    {"{\"g\":[\"x\"]}", JSON_NOT_STRING, NULL},
    {"", JSON_MALFORMED, NULL},
    {"\"g\"", JSON_MALFORMED, NULL},
    {"[\"g\"]", JSON_MALFORMED, NULL},
    {"{\"g\":\"x\"", JSON_MALFORMED, NULL},
    {"{\"g\":\"x}", JSON_MALFORMED, NULL},
    {"{\"g\":\"x\"}}", JSON_MALFORMED, NULL},
    {"{\"g\":\"x\",}", JSON_MALFORMED, NULL},
    {"{\"g\" \"x\"}", JSON_MALFORMED, NULL},
    {"{g:\"x\"}", JSON_MALFORMED, NULL},
    {"{\"g\":\"x\",\"a\":01}", JSON_MALFORMED, NULL},
    {"{\"g\":\"x\",\"a\":1.}", JSON_MALFORMED, NULL},
    {"{\"g\":\"x\",\"a\":+1}", JSON_MALFORMED, NULL},
    {"{\"g\":\"x\",\"a\":tru}", JSON_MALFORMED, NULL},
    {"{\"g\":\"\\x\"}", JSON_MALFORMED, NULL},
    {"{\"g\":\"\\u12g4\"}", JSON_MALFORMED, NULL},
    {"{\"g\":\"\\ud83d\"}", JSON_MALFORMED, NULL},
    {"{\"g\":\"\\ude00\"}", JSON_MALFORMED, NULL},
    {"{\"g\":\"\\ud83d\\u0041\"}", JSON_MALFORMED, NULL},
    {"{\"g\":\"a\nb\"}", JSON_MALFORMED, NULL},
    {"{\"g\":\"\\", JSON_MALFORMED, NULL},
};

/* The text is copied into blocks of exactly its size, so that the sanitizer sees a read or a write behind either. */
static int run(const case_t *c) {
    size_t len = strlen(c->text);
    size_t out_len = 0;
    char *text = malloc(len + (len == 0));
    char *out = malloc(len + (len == 0));
    memcpy(text, c->text, len);
    json_result_t result = json_get_string(text, len, "g", out, &out_len);
    int good = result == c->result && (c->value == NULL || (out_len == strlen(c->value) && memcmp(out, c->value, out_len) == 0));
    if (!good) {
        printf("failed: %s: result %d, wanted %d\n", c->text, (int)result, (int)c->result);
    }
    free(text);
    free(out);
    return good ? 0 : 1;
}

static int run_depth(size_t depth, json_result_t wanted) {
    char text[512];
    char out[512];
    size_t out_len;
    size_t len = (size_t)snprintf(text, sizeof(text), "{\"a\":");
    memset(text + len, '[', depth);
    memset(text + len + depth, ']', depth);
    len += 2 * depth;
    text[len++] = '}';
    json_result_t result = json_get_string(text, len, "g", out, &out_len);
    if (result != wanted) {
        printf("failed: %zu arrays in each other: result %d, wanted %d\n", depth, (int)result, (int)wanted);
    }
    return result != wanted;
}

int main(void) {
    int failed = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        failed += run(&cases[i]);
    }
    failed += run_depth(JSON_DEPTH_MAX - 1, JSON_ABSENT);
    failed += run_depth(JSON_DEPTH_MAX, JSON_MALFORMED);
    printf("json: %s\n", failed == 0 ? "ok" : "FAILED");
    return failed != 0;
}
