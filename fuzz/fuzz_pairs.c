/*
 * Header-map pairs: whatever bytes come in, decoding stays inside them; what it takes as well-formed is written back as the very same
 * bytes; and pairs made from the input survive the way there and back.
 */
#include <stdlib.h>

#include "pw_pairs.h"

enum { MAX_PAIRS = 1024 };

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

typedef struct {
    sl_buf_t sizes, bytes, out;
} scratch_t;

static sl_str_t encode(scratch_t *s, const pw_pair_t *pairs, size_t n) {
    pw_pairs_writer_t w;
    pw_pairs_begin(&w, &s->sizes, &s->bytes);
    for (size_t i = 0; i < n; i++) {
        pw_pairs_add(&w, pairs[i].key, pairs[i].value, false);
    }
    sl_buf_reset(&s->out);
    check(!pw_pairs_failed(&w) && sl_buf_reserve(&s->out, pw_pairs_size(&w)) == SL_OK);
    pw_pairs_copy(&w, s->out.data);
    s->out.len = pw_pairs_size(&w);
    return sl_buf_str(&s->out);
}

static bool lies_in(sl_str_t part, sl_str_t whole) {
    return part.data >= whole.data && part.data + part.len < whole.data + whole.len; /* a terminator follows */
}

static void decode_raw(scratch_t *s, sl_str_t input) {
    static pw_pair_t pairs[MAX_PAIRS];
    bool malformed;
    size_t n = pw_pairs_decode(input, pairs, MAX_PAIRS, &malformed);
    check(n <= MAX_PAIRS && (!malformed || n == 0));
    for (size_t i = 0; i < n; i++) {
        check(lies_in(pairs[i].key, input) && lies_in(pairs[i].value, input));
    }
    if (n != 0) {
        check(sl_str_eq(encode(s, pairs, n), input));
    }
}

/* Cuts the input into pairs: a byte of length, then that many bytes. */
static size_t make_pairs(sl_str_t input, pw_pair_t *pairs) {
    sl_str_t parts[2 * 64];
    size_t n = 0;
    for (size_t at = 0; at < input.len && n < 2 * 64;) {
        size_t len = (uint8_t)input.data[at++];
        len = len < input.len - at ? len : input.len - at;
        parts[n++] = sl_str(input.data + at, len);
        at += len;
    }
    for (size_t i = 0; i + 1 < n; i += 2) {
        pairs[i / 2] = (pw_pair_t){parts[i], parts[i + 1]};
    }
    return n / 2;
}

static void round_trip(scratch_t *s, sl_str_t input) {
    pw_pair_t pairs[64] = {0}, back[64] = {0};
    bool malformed;
    size_t n = make_pairs(input, pairs);
    sl_str_t encoded = encode(s, pairs, n);
    check(pw_pairs_decode(encoded, back, 64, &malformed) == n && !malformed);
    for (size_t i = 0; i < n; i++) {
        check(sl_str_eq(pairs[i].key, back[i].key) && sl_str_eq(pairs[i].value, back[i].value));
    }
    check(n == 0 || pw_pairs_decode(encoded, back, n - 1, &malformed) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    scratch_t s;
    sl_buf_init(&s.sizes, 1 << 22);
    sl_buf_init(&s.bytes, 1 << 22);
    sl_buf_init(&s.out, 1 << 22);
    /* A copy of exact size, so that reading past it is seen. */
    char *copy = malloc(size + 1);
    if (copy != NULL && size != 0) {
        char *exact = copy + 1;
        memcpy(exact, data, size);
        decode_raw(&s, sl_str(exact, size));
        round_trip(&s, sl_str(exact, size));
    }
    free(copy);
    sl_buf_deinit(&s.sizes);
    sl_buf_deinit(&s.bytes);
    sl_buf_deinit(&s.out);
    return 0;
}
