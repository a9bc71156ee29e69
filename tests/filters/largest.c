/*
 * One host call with the largest arguments that a guest can give, named by the request header x-do. Building them is the guest's own work,
 * which a sliced filter does in slices; what remains is the time that a host call takes at a stretch.
 */
#define PROXY_WASM_NO_ALLOCATOR
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

#define BIG ((size_t)24 << 20)
#define PAIRS 1000

__attribute__((import_module("wasi_snapshot_preview1"), import_name("fd_write"))) uint32_t wasi_fd_write(uint32_t fd, const void *vectors,
                                                                                                         size_t n, size_t *written);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("random_get"))) uint32_t wasi_random_get(void *to, size_t size);

static char big[BIG];
static char key[8192]; /* the configuration: a private key to sign with and a public one to verify with, in PEM */
static size_t key_size;
static char arena[(size_t)28 << 20]; /* what the host gives */
static size_t used;
static uint32_t queue_id, metric_id;

PW_EXPORT void *proxy_on_memory_allocate(size_t size) {
    if (size > sizeof(arena) - used) {
        return NULL;
    }
    void *at = arena + used;
    used += (size + 15) & ~(size_t)15;
    return at;
}

static void fill(char *to, size_t n) {
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        to[i] = (char)('a' + (x >> 24) % 26);
    }
}

static char *put_u32(char *at, size_t value) {
    for (int i = 0; i < 4; i++) {
        *at++ = (char)(value >> (8 * i));
    }
    return at;
}

/* Serialized pairs in big; n of them with values of so many bytes. */
static size_t pairs(size_t n, size_t value_size) {
    char *at = put_u32(big, n);
    for (size_t i = 0; i < n; i++) {
        at = put_u32(put_u32(at, 6), value_size);
    }
    for (size_t i = 0; i < n; i++) {
        static const char digits[] = "0123456789abcdef";
        const char name[7] = {'x', '-', digits[i >> 12 & 15], digits[i >> 8 & 15], digits[i >> 4 & 15], digits[i & 15], '\0'};
        for (int k = 0; k < 7; k++) {
            *at++ = name[k];
        }
        fill(at, value_size);
        at += value_size;
        *at++ = '\0';
    }
    return (size_t)(at - big);
}

/* A length-delimited field of a protobuf message. */
static char *put_field(char *at, int number, const char *data, size_t size) {
    *at++ = (char)(number << 3 | 2);
    size_t left = size;
    for (; left > 127; left >>= 7) {
        *at++ = (char)((left & 127) | 128);
    }
    *at++ = (char)left;
    if (data != NULL) {
        __builtin_memcpy(at, data, size);
    }
    return at + size;
}

static pw_status_t foreign(const char *name, const char *args, size_t size, char **out, size_t *out_size) {
    return proxy_call_foreign_function(name, __builtin_strlen(name), args, size, out, out_size);
}

static char *put_text(char *at, const char *text) {
    size_t len = __builtin_strlen(text);
    __builtin_memcpy(at, text, len);
    return at + len;
}

/* Three loops in each other, which would take more than an evaluation may. */
static size_t expression(const char *what) {
    char *at = big;
    for (char name = 'a'; name <= 'c'; name++) {
        at = put_text(at, "[1");
        for (int i = 0; i < 80; i++) {
            at = put_text(at, ",1");
        }
        at = put_text(at, "].all(");
        *at++ = name;
        *at++ = ',';
    }
    return (size_t)(put_text(put_text(at, what), ")))") - big);
}

static bool is(pw_bytes_t text, const char *name) {
    return text.len == __builtin_strlen(name) && __builtin_memcmp(text.data, name, text.len) == 0;
}

static pw_status_t crypto(bool make) {
    size_t text = (size_t)7 << 20;
    char *at = put_field(big, 1, "sha512", 6);
    at = put_field(at, make ? 4 : 5, key, key_size);
    if (!make) {
        at = put_field(at, 3, key, 64);
    }
    at = put_field(at, make ? 3 : 4, NULL, text);
    fill(at - text, text);
    char *out = NULL;
    size_t out_size = 0;
    return foreign(make ? "sign" : "verify_signature", big, (size_t)(at - big), &out, &out_size);
}

static pw_status_t act_foreign(pw_bytes_t what) {
    char *out = NULL;
    size_t n = 0, size = 0;
    if (is(what, "compress") || is(what, "uncompress")) {
        fill(big, is(what, "compress") ? (size_t)8 << 20 : (size_t)5 << 20);
        if (is(what, "compress")) {
            return foreign("compress", big, (size_t)8 << 20, &out, &n);
        }
        pw_status_t rc = foreign("compress", big, (size_t)5 << 20, &out, &n);
        char *none = NULL;
        return rc == PW_OK ? foreign("uncompress", out, n, &none, &size) : rc;
    }
    if (is(what, "sign") || is(what, "verify")) {
        return crypto(is(what, "sign"));
    }
    n = expression(is(what, "expr") ? "a+b+c>0" : is(what, "expr-text") ? "request.path.contains('x')||a>0" : "size(request.headers)>0");
    pw_status_t rc = foreign("expr_create", big, n, &out, &size);
    if (rc != PW_OK || size < 4) {
        return rc != PW_OK ? rc : PW_BAD_ARGUMENT;
    }
    return foreign("expr_evaluate", out, size, &out, &size);
}

static pw_status_t act(pw_bytes_t what) {
    char *data = NULL;
    size_t size = 0;
    uint32_t id = 0;
    fill(big, 64);
    if (is(what, "log")) {
        fill(big, BIG);
        return proxy_log(PW_LOG_WARN, big, BIG);
    }
    if (is(what, "log-control")) {
        __builtin_memset(big, 1, BIG);
        return proxy_log(PW_LOG_WARN, big, BIG);
    }
    if (is(what, "write")) {
        fill(big, BIG);
        uint32_t vector[2] = {(uint32_t)(uintptr_t)big, BIG};
        return (pw_status_t)wasi_fd_write(2, vector, 1, &size);
    }
    if (is(what, "write-many")) {
        for (size_t i = 0; i < BIG / 8; i++) {
            ((uint32_t *)(void *)big)[2 * i] = (uint32_t)(uintptr_t)key;
            ((uint32_t *)(void *)big)[2 * i + 1] = 1;
        }
        return (pw_status_t)wasi_fd_write(2, big, BIG / 8, &size);
    }
    if (is(what, "random")) {
        return (pw_status_t)wasi_random_get(big, BIG);
    }
    if (is(what, "reply")) {
        fill(big, BIG);
        return proxy_send_local_response(200, NULL, 0, big, BIG, NULL, 0, -1);
    }
    if (is(what, "reply-details")) {
        fill(big, BIG);
        return proxy_send_local_response(200, big, BIG, "x", 1, NULL, 0, -1);
    }
    if (is(what, "reply-headers")) {
        size = pairs(PAIRS, 1000);
        return proxy_send_local_response(200, NULL, 0, "x", 1, big, size, -1);
    }
    if (is(what, "set-pairs")) {
        return proxy_set_header_map_pairs(PW_MAP_REQUEST_HEADERS, big, pairs(PAIRS, 1000));
    }
    if (is(what, "get-pairs")) {
        (void)proxy_set_header_map_pairs(PW_MAP_REQUEST_HEADERS, big, pairs(PAIRS, 1000));
        return proxy_get_header_map_pairs(PW_MAP_REQUEST_HEADERS, &data, &size);
    }
    if (is(what, "header")) {
        fill(big, BIG);
        return proxy_add_header_map_value(PW_MAP_REQUEST_HEADERS, "x-big", 5, big, BIG);
    }
    if (is(what, "header-name")) {
        fill(big, BIG);
        return proxy_replace_header_map_value(PW_MAP_REQUEST_HEADERS, big, BIG, "x", 1);
    }
    if (is(what, "property")) {
        fill(big, BIG);
        return proxy_set_property("a", 1, big, BIG);
    }
    if (is(what, "property-path")) {
        fill(big, BIG);
        return proxy_set_property(big, BIG, "b", 1);
    }
    if (is(what, "get-property-path")) {
        __builtin_memset(big, 0, BIG);
        return proxy_get_property(big, BIG, &data, &size);
    }
    if (is(what, "shared") || is(what, "get-shared")) {
        fill(big, BIG);
        pw_status_t rc = proxy_set_shared_data("big", 3, big, BIG, 0);
        return rc == PW_OK && is(what, "get-shared") ? proxy_get_shared_data("big", 3, &data, &size, &id) : rc;
    }
    if (is(what, "shared-key")) {
        fill(big, BIG);
        return proxy_set_shared_data(big, BIG, "x", 1, 0);
    }
    if (is(what, "queue") || is(what, "dequeue")) {
        fill(big, BIG);
        pw_status_t rc = proxy_enqueue_shared_queue(queue_id, big, BIG);
        return rc == PW_OK && is(what, "dequeue") ? proxy_dequeue_shared_queue(queue_id, &data, &size) : rc;
    }
    if (is(what, "metric")) {
        fill(big, BIG);
        return proxy_define_metric(PW_METRIC_COUNTER, big, BIG, &metric_id);
    }
    if (is(what, "http-call")) {
        static const char head[] = "\3\0\0\0\7\0\0\0\3\0\0\0\5\0\0\0\1\0\0\0\12\0\0\0\1\0\0\0:method\0PUT\0:path\0/\0:authority\0a";
        fill(big, BIG);
        return proxy_http_call("127.0.0.1:9", 11, head, sizeof(head), big, BIG, NULL, 0, 100, &id);
    }
    if (is(what, "http-upstream")) {
        static const char head[] = "\3\0\0\0\7\0\0\0\3\0\0\0\5\0\0\0\1\0\0\0\12\0\0\0\1\0\0\0:method\0PUT\0:path\0/\0:authority\0a";
        fill(big, BIG);
        return proxy_http_call(big, BIG, head, sizeof(head), "x", 1, NULL, 0, 100, &id);
    }
    if (is(what, "grpc-call")) {
        fill(big, BIG);
        return proxy_grpc_call("127.0.0.1:9", 11, "a", 1, "b", 1, NULL, 0, big, BIG, 100, &id);
    }
    return act_foreign(what);
}

/* Of the body of a response: all of it is shown once more, and replaced. */
static void act_body(void) {
    char *data = NULL;
    size_t size = 0;
    fill(big, (size_t)16 << 20);
    (void)proxy_set_buffer_bytes(PW_BUFFER_RESPONSE_BODY, 0, 0x7fffffff, big, (size_t)16 << 20);
    (void)proxy_get_buffer_bytes(PW_BUFFER_RESPONSE_BODY, 0, 0x7fffffff, &data, &size);
}

static bool at_body;

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    (void)root_id;
    pw_bytes_t text = {0};
    if (configuration_size > 0 && pw_configuration(&text) == PW_OK) {
        key_size = text.len < sizeof(key) ? text.len : sizeof(key);
        __builtin_memcpy(key, text.data, key_size);
    }
    return proxy_register_shared_queue("largest", 7, &queue_id) == PW_OK;
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id;
    (void)n_headers;
    (void)end_of_stream;
    pw_bytes_t what = {0};
    used = 0;
    at_body = false;
    if (pw_header_get(PW_MAP_REQUEST_HEADERS, PW_STR("x-do"), &what) == PW_OK) {
        at_body = is(what, "body");
        pw_status_t rc = at_body ? PW_OK : act(what);
        const char digit = (char)('0' + rc % 10);
        (void)proxy_set_property("said", 4, &digit, 1);
        used = 0;
        (void)proxy_log(PW_LOG_WARN, &digit, 1);
    }
    return PW_CONTINUE;
}

PW_EXPORT uint32_t proxy_on_response_body(uint32_t context_id, uint32_t body_size, uint32_t end_of_stream) {
    (void)context_id;
    (void)body_size;
    if (at_body && end_of_stream) {
        act_body();
    }
    return PW_CONTINUE;
}
