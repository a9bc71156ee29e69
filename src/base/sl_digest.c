#include "sl_digest.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

static sl_status_t digest(const EVP_MD *md, const sl_str_t *parts, size_t n, uint8_t *out) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx == NULL) {
        return SL_NO_MEMORY;
    }
    bool ok = EVP_DigestInit_ex(ctx, md, NULL) == 1;
    for (size_t i = 0; ok && i < n; i++) {
        ok = EVP_DigestUpdate(ctx, parts[i].data, parts[i].len) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok ? SL_OK : SL_FAILED;
}

sl_status_t sl_sha256(sl_str_t data, uint8_t out[SL_SHA256_SIZE]) {
    return digest(EVP_sha256(), &data, 1, out);
}

void sl_hex(const uint8_t *data, size_t len, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[data[i] >> 4];
        out[2 * i + 1] = digits[data[i] & 15];
    }
    out[2 * len] = '\0';
}

sl_status_t sl_md5_hex(sl_str_t data, char out[33]) {
    uint8_t raw[16];
    sl_status_t rc = digest(EVP_md5(), &data, 1, raw);
    if (rc == SL_OK) {
        sl_hex(raw, sizeof(raw), out);
    }
    return rc;
}

sl_status_t sl_random(void *out, size_t len) {
    return len <= INT32_MAX && RAND_bytes(out, (int)len) == 1 ? SL_OK : SL_FAILED;
}

static void uuid_text(uint8_t raw[16], int version, char out[SL_UUID_TEXT_SIZE + 1]) {
    raw[6] = (uint8_t)((raw[6] & 0x0f) | (version << 4));
    raw[8] = (uint8_t)((raw[8] & 0x3f) | 0x80);
    char hex[33];
    sl_hex(raw, 16, hex);
    char *p = out;
    for (int i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20) {
            *p++ = '-';
        }
        *p++ = hex[i];
    }
    *p = '\0';
}

sl_status_t sl_uuid_v4(char out[SL_UUID_TEXT_SIZE + 1]) {
    uint8_t raw[16];
    sl_status_t rc = sl_random(raw, sizeof(raw));
    if (rc == SL_OK) {
        uuid_text(raw, 4, out);
    }
    return rc;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool sl_uuid_valid(sl_str_t s) {
    if (s.len != SL_UUID_TEXT_SIZE) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? s.data[i] != '-' : hex_value(s.data[i]) < 0) {
            return false;
        }
    }
    return true;
}

sl_status_t sl_uuid_v5(sl_str_t ns_text, sl_str_t name, char out[SL_UUID_TEXT_SIZE + 1]) {
    if (!sl_uuid_valid(ns_text)) {
        return SL_INVALID;
    }
    uint8_t ns[16];
    size_t n = 0;
    for (size_t i = 0; i < ns_text.len; i++) {
        if (ns_text.data[i] != '-') {
            ns[n / 2] = (uint8_t)(n % 2 == 0 ? hex_value(ns_text.data[i]) << 4 : ns[n / 2] | hex_value(ns_text.data[i]));
            n++;
        }
    }
    uint8_t raw[20];
    sl_str_t parts[2] = {sl_str(ns, sizeof(ns)), name};
    sl_status_t rc = digest(EVP_sha1(), parts, 2, raw);
    if (rc == SL_OK) {
        uuid_text(raw, 5, out);
    }
    return rc;
}

uint64_t sl_hash(sl_str_t s, uint64_t seed) {
    uint64_t h = seed ^ 0xcbf29ce484222325u;
    for (size_t i = 0; i < s.len; i++) {
        h = (h ^ (uint8_t)s.data[i]) * 0x100000001b3u;
    }
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ (h >> 32);
}
