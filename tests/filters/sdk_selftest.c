/*
 * Tests sdk/c/proxy_wasm.h where it runs, in Wasm: the allocator under random use, the memory functions, texts, numbers and pairs.
 * proxy_on_configure answers 0 and logs the line of the check that failed; else each response gets the header x-selftest: ok. Not
 * configured.
 */
#define PROXY_WASM_MALLOC
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

void *calloc(size_t count, size_t size);
void *realloc(void *block, size_t size);

/* The line of the first check that failed. */
static uint32_t failed_line;

static void check(bool good, uint32_t line) {
    if (!good && failed_line == 0) {
        failed_line = line;
    }
}

#define CHECK(expression) check((expression), __LINE__)

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % limit;
}

#define SLOTS 64

typedef struct {
    unsigned char *data;
    uint32_t len;
} slot_t;

static void slot_check(const slot_t *slot, unsigned char mark) {
    for (uint32_t i = 0; i < slot->len; i += slot->len / 16 + 1) {
        CHECK(slot->data[i] == mark);
    }
}

/* Each block is filled with its slot's number: overlapping blocks would show. */
static void check_allocator(void) {
    static slot_t slots[SLOTS];
    size_t pages = 0;
    for (uint32_t turn = 0; turn < 20000; turn++) {
        uint32_t i = random_below(SLOTS);
        uint32_t len = random_below(8) == 0 ? random_below(20000) : random_below(300);
        slot_check(&slots[i], (unsigned char)i);
        pw_free(slots[i].data);
        slots[i] = (slot_t){pw_malloc(len), len};
        CHECK(slots[i].data != NULL && ((uintptr_t)slots[i].data & 15) == 0);
        memset(slots[i].data, (int)i, len);
        pages = turn == 10000 ? __builtin_wasm_memory_size(0) : pages;
    }
    CHECK(__builtin_wasm_memory_size(0) <= pages + 8); /* freed memory is used again */
    for (uint32_t i = 0; i < SLOTS; i++) {
        slot_check(&slots[i], (unsigned char)i);
        pw_free(slots[i].data);
    }
    CHECK(pw_malloc(0xffffffff) == NULL);
    CHECK(pw_malloc(0) != NULL);
}

static void check_realloc(void) {
    char *text = pw_realloc(NULL, 4);
    memcpy(text, "abc", 4);
    text = pw_realloc(text, 5000);
    CHECK(memcmp(text, "abc", 4) == 0);
    CHECK(pw_realloc(text, 0xffffffff) == NULL);
    CHECK(memcmp(text, "abc", 4) == 0);
    pw_free(text);
    CHECK(calloc(0x10000, 0x10000) == NULL);
    text = calloc(3, 5);
    CHECK(text[0] == 0 && text[14] == 0);
    pw_free(realloc(text, 100));
}

static void check_memory(void) {
    char a[64];
    char b[64];
    for (int distance = -12; distance <= 12; distance++) {
        for (int len = 0; len <= 30; len++) {
            for (int i = 0; i < 64; i++) {
                a[i] = b[i] = (char)i;
            }
            memmove(a + 16 + distance, a + 16, (size_t)len);
            for (int i = 0; i < len; i++) {
                b[16 + distance + i] = (char)(16 + i);
            }
            CHECK(memcmp(a, b, sizeof(a)) == 0);
        }
    }
    CHECK(memcmp("a", "b", 1) < 0 && memcmp("\xff", "a", 1) > 0 && memcmp("", "", 0) == 0);
    CHECK(strlen("") == 0 && strlen("four") == 4);
}

static void check_text(void) {
    uint64_t number = 0;
    pw_line_t line;
    CHECK(pw_str_equal(PW_STR("a\0b"), pw_str("a\0b", 3)) && !pw_str_equal(PW_STR("a"), PW_STR("ab")));
    CHECK(pw_str_equal_nocase(PW_STR("Host"), PW_STR("hOST")) && !pw_str_equal_nocase(PW_STR("@"), PW_STR("`")));
    CHECK(pw_str_to_u64(PW_STR("18446744073709551615"), &number) && number == UINT64_MAX);
    CHECK(!pw_str_to_u64(PW_STR("18446744073709551616"), &number) && !pw_str_to_u64(PW_STR("99999999999999999999"), &number));
    CHECK(!pw_str_to_u64(PW_STR(""), &number) && !pw_str_to_u64(PW_STR("-1"), &number) && !pw_str_to_u64(PW_STR("1 "), &number));
    pw_line_init(&line);
    pw_line_u64(&line, 0);
    pw_line_str(&line, PW_STR(" "));
    pw_line_i64(&line, INT64_MIN);
    pw_line_str(&line, PW_STR(" "));
    pw_line_hex(&line, PW_STR("\x0f\xf0"));
    CHECK(pw_str_equal(pw_str(line.data, line.len), PW_STR("0 -9223372036854775808 0ff0")));
    for (int i = 0; i < 1000; i++) {
        pw_line_str(&line, PW_STR("too much"));
    }
    CHECK(line.len == PW_LINE_SIZE);
}

static pw_bytes_t copy_of(const char *data, size_t len) {
    pw_bytes_t bytes = {pw_malloc(len), len};
    memcpy(bytes.data, data, len);
    return bytes;
}

static void check_pairs(void) {
    static const char encoded[] = "\2\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\2\0\0\0a\0001\0b\00022";
    const pw_pair_t two[] = {{PW_STR("a"), PW_STR("1")}, {PW_STR("b"), PW_STR("22")}};
    pw_bytes_t bytes;
    pw_pairs_t pairs;
    pw_pair_t pair;
    CHECK(pw_pairs_encode(two, 2, &bytes));
    CHECK(pw_str_equal(pw_bytes_str(bytes), pw_str(encoded, sizeof(encoded))));
    CHECK(pw_pairs_take(bytes, &pairs) == PW_OK && pairs.count == 2);
    for (int i = 0; i < 2; i++) {
        CHECK(pw_pairs_next(&pairs, &pair));
        CHECK(pw_str_equal(pair.name, two[i].name) && pw_str_equal(pair.value, two[i].value));
    }
    CHECK(!pw_pairs_next(&pairs, &pair));
    pw_pairs_free(&pairs);
    for (size_t len = 1; len < sizeof(encoded); len++) { /* cut off anywhere, it is malformed */
        bytes = copy_of(encoded, len);
        CHECK(pw_pairs_take(bytes, &pairs) == PW_PARSE_FAILURE && !pw_pairs_next(&pairs, &pair));
        pw_bytes_free(&bytes);
    }
    bytes = copy_of("\xff\xff\xff\xff\0\0\0\0\0\0\0\0", 12);
    CHECK(pw_pairs_take(bytes, &pairs) == PW_PARSE_FAILURE);
    pw_bytes_free(&bytes);
    CHECK(pw_pairs_take((pw_bytes_t){0}, &pairs) == PW_OK && !pw_pairs_next(&pairs, &pair));
    CHECK(pw_pairs_encode(NULL, 0, &bytes) && bytes.len == 4);
    pw_bytes_free(&bytes);
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    (void)configuration_size;
    check_allocator();
    check_realloc();
    check_memory();
    check_text();
    check_pairs();
    if (failed_line != 0) {
        pw_line_t line;
        pw_line_init(&line);
        pw_line_str(&line, PW_STR("sdk_selftest: failed in line "));
        pw_line_u64(&line, failed_line);
        pw_line_log(&line, PW_LOG_ERROR);
    }
    return failed_line == 0;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-selftest"), PW_STR("ok"));
    return PW_CONTINUE;
}
