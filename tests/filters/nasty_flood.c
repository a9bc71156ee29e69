/*
 * Too much of everything. CONFIGURATION, one word; it happens in the request's headers:
 *   calls      a million host calls, cheap ones and wrong ones
 *   maps       header maps as large as memory allows, with lengths that add up to more than 32 bits, and one of 100000 pairs
 *   headers    adds 50000 headers to request and response
 *   properties fills the property store with names of all lengths
 *   outcalls   starts calls until that is refused, and forgets them
 *   logs       100000 log lines of 64 KiB at a level that is not written, and 50 that are
 *   metrics    100000 metrics
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

static char big[1 << 20];
static char mode;
static uint32_t first;

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t size) {
    pw_bytes_t text;
    (void)root_id;
    if (size < 2 || pw_configuration(&text) != PW_OK) {
        return 0;
    }
    mode = text.data[0] == 'm' ? text.data[1] == 'a' ? 'm' : 't' : text.data[0];
    memset(big, 'x', sizeof(big));
    return 1;
}

static void put_u32(char *at, uint32_t value) {
    memcpy(at, &value, 4);
}

static void calls(void) {
    for (uint32_t i = 0; i < 1000000; i++) {
        uint32_t value;
        switch (i & 3) {
        case 0:
            (void)proxy_set_effective_context(i);
            break;
        case 1:
            (void)proxy_get_log_level(&value);
            break;
        case 2:
            (void)proxy_continue_stream(i);
            break;
        default:
            (void)proxy_get_buffer_bytes(i, 0, 1, (char **)(void *)0xfffffff0, (size_t *)(void *)0xfffffff0);
        }
    }
}

static void maps(void) {
    static const uint32_t counts[] = {0xffffffff, 0x20000000, 0x1fffffff, 100000, 2};
    for (int i = 0; i < 5; i++) {
        put_u32(big, counts[i]);
        put_u32(big + 4, 0xffffffff);
        put_u32(big + 8, 0xffffffff);
        put_u32(big + 12, 0xfffffffe);
        put_u32(big + 16, 2);
        (void)proxy_set_header_map_pairs(PW_MAP_RESPONSE_HEADERS, big, sizeof(big));
        (void)proxy_send_local_response(1000, big, sizeof(big), big, sizeof(big), big, sizeof(big), 99);
        (void)proxy_http_call("up", 2, big, sizeof(big), big, sizeof(big), big, sizeof(big), 1000, &first);
    }
    put_u32(big, 100000); /* pairs of nothing, all in good form */
    memset(big + 4, 0, 100000 * 10);
    (void)proxy_set_header_map_pairs(PW_MAP_REQUEST_TRAILERS, big, 4 + 100000 * 10);
}

static void headers(void) {
    char name[] = "x-flood-00000";
    for (uint32_t i = 0; i < 50000; i++) {
        for (uint32_t digit = 12, n = i; digit > 7; digit--, n /= 10) {
            name[digit] = (char)('0' + n % 10);
        }
        if (proxy_add_header_map_value(PW_MAP_REQUEST_HEADERS, name, 13, big, 100) != PW_OK) {
            return;
        }
    }
}

static void properties(void) {
    for (uint32_t i = 1; i < 20000; i++) {
        if (proxy_set_property(big, i, big, i) != PW_OK && i > 2000) {
            return;
        }
    }
}

static void outcalls(void) {
    static const char pairs[] = "\3\0\0\0\7\0\0\0\3\0\0\0\5\0\0\0\1\0\0\0\12\0\0\0\1\0\0\0:method\0GET\0:path\0/\0:authority\0a";
    for (uint32_t i = 0; i < 500; i++) {
        if (proxy_http_call("named", 5, pairs, sizeof(pairs), NULL, 0, NULL, 0, 50, &first) != PW_OK) {
            return;
        }
    }
}

static void logs(void) {
    for (uint32_t i = 0; i < 100000; i++) {
        (void)proxy_log(PW_LOG_TRACE, big, 65536);
    }
    for (uint32_t i = 0; i < 50; i++) {
        (void)proxy_log(PW_LOG_INFO, big, sizeof(big));
    }
}

static void metrics(void) {
    for (uint32_t i = 0; i < 100000; i++) {
        put_u32(big, i);
        if (proxy_define_metric(i % 3, big, 4 + i % 100, &first) == PW_OK) {
            (void)proxy_increment_metric(first, 1);
        }
    }
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n, uint32_t eos) {
    (void)context_id, (void)n, (void)eos;
    switch (mode) {
    case 'c':
        calls();
        break;
    case 'm':
        maps();
        break;
    case 'h':
        headers();
        break;
    case 'p':
        properties();
        break;
    case 'o':
        outcalls();
        break;
    case 'l':
        logs();
        break;
    default:
        metrics();
    }
    return PW_CONTINUE;
}
