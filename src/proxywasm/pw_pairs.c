#include "pw_pairs.h"

#include "pw_internal.h"

static uint32_t get_u32(const char *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void put_u32(char *p, uint32_t v) {
    for (size_t i = 0; i < 4; i++) {
        p[i] = (char)(v >> (8 * i));
    }
}

/* Takes len bytes and their terminator from *rest. */
static bool take(sl_str_t *rest, uint32_t len, sl_str_t *out) {
    if (rest->len == 0 || len > rest->len - 1 || rest->data[len] != '\0') {
        return false;
    }
    *out = sl_str(rest->data, len);
    rest->data += len + 1;
    rest->len -= (size_t)len + 1;
    return true;
}

static bool decode(sl_str_t bytes, pw_pair_t *out, size_t max, size_t *n_out) {
    if (bytes.len < 4 || bytes.len > PW_PAIRS_BYTES_MAX) {
        return bytes.len == 0;
    }
    uint32_t n = get_u32(bytes.data);
    if (n > max || n > (bytes.len - 4) / 8) {
        return false;
    }
    sl_str_t rest = sl_str(bytes.data + 4 + (size_t)n * 8, bytes.len - 4 - (size_t)n * 8);
    for (uint32_t i = 0; i < n; i++) {
        const char *sizes = bytes.data + 4 + (size_t)i * 8;
        if (!take(&rest, get_u32(sizes), &out[i].key) || !take(&rest, get_u32(sizes + 4), &out[i].value)) {
            return false;
        }
    }
    *n_out = n;
    return rest.len == 0;
}

size_t pw_pairs_decode(sl_str_t bytes, pw_pair_t *out, size_t max, bool *malformed) {
    size_t n = 0;
    /* One NUL byte is how the specification writes an empty list. */
    bool ok = (bytes.len == 1 && bytes.data[0] == '\0') || decode(bytes, out, max, &n);
    if (malformed != NULL) {
        *malformed = !ok;
    }
    return ok ? n : 0;
}

bool pw_pairs_too_large(sl_str_t bytes) {
    if (bytes.len < 4 || bytes.len > PW_PAIRS_BYTES_MAX) {
        return bytes.len > PW_PAIRS_BYTES_MAX;
    }
    uint32_t n = get_u32(bytes.data);
    return n > PW_PAIRS_MAX && n <= (bytes.len - 4) / 8;
}

void pw_pairs_begin(pw_pairs_writer_t *w, sl_buf_t *sizes, sl_buf_t *bytes) {
    sl_buf_reset(sizes);
    sl_buf_reset(bytes);
    *w = (pw_pairs_writer_t){sizes, bytes, 0};
}

static void append(sl_buf_t *b, sl_str_t s, bool lower) {
    if (sl_buf_reserve(b, s.len + 1) != SL_OK) {
        return;
    }
    char *at = b->data + b->len;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];
        at[i] = lower && c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    at[s.len] = '\0';
    b->len += s.len + 1;
}

void pw_pairs_add(pw_pairs_writer_t *w, sl_str_t key, sl_str_t value, bool lower_case_key) {
    if (key.len > UINT32_MAX || value.len > UINT32_MAX || sl_buf_reserve(w->sizes, 8) != SL_OK) {
        w->sizes->failed = true;
        return;
    }
    put_u32(w->sizes->data + w->sizes->len, (uint32_t)key.len);
    put_u32(w->sizes->data + w->sizes->len + 4, (uint32_t)value.len);
    w->sizes->len += 8;
    append(w->bytes, key, lower_case_key);
    append(w->bytes, value, false);
    w->n++;
}

bool pw_pairs_failed(const pw_pairs_writer_t *w) {
    return w->sizes->failed || w->bytes->failed;
}

size_t pw_pairs_size(const pw_pairs_writer_t *w) {
    return 4 + w->sizes->len + w->bytes->len;
}

void pw_pairs_copy(const pw_pairs_writer_t *w, char *at) {
    put_u32(at, w->n);
    if (w->n != 0) {
        memcpy(at + 4, w->sizes->data, w->sizes->len);
        memcpy(at + 4 + w->sizes->len, w->bytes->data, w->bytes->len);
    }
}
