/*
 * Every host call with arbitrary arguments, in every callback: a native guest takes from the input what it calls, with what, and what it
 * answers; memhost plays an exchange and then everything that can happen to a root context. Sanitizers are the judge.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine_null.h"
#include "mh.h"

enum { MEMORY = 1 << 16, HEAP = 0x8000, MAX_CALLS = 400, CALLS_PER_CALLBACK = 6, MAX_ARGS = 16 };

/* ---- the host's tables ---- */

#define PW_ENV(name, sig, ...) {"env", #name, sig, NULL},
#define PW_ENV_TYPE(name, suffix, sig, ...)
#define PW_WASI(name, sig, ...) {"wasi_snapshot_preview1", #name, sig, NULL},
static const sl_import_t imports[] = {
#include "pw_hostcalls.def"
};
#undef PW_ENV
#undef PW_ENV_TYPE
#undef PW_WASI
enum { N_IMPORTS = sizeof(imports) / sizeof(imports[0]) };

/* ---- input: bytes run out into zeros ---- */

static const uint8_t *input;
static size_t input_len;
static unsigned n_calls;

static uint8_t byte(void) {
    if (input_len == 0) {
        return 0;
    }
    input_len--;
    return *input++;
}

static uint32_t word(void) {
    uint32_t v = byte();
    v |= (uint32_t)byte() << 8;
    v |= (uint32_t)byte() << 16;
    return v | (uint32_t)byte() << 24;
}

/* Mostly what could be right: small numbers, offsets of what `fill` has put there, the edges of memory. */
static uint32_t argument(const sl_instance_t *in) {
    static const uint32_t places[] = {0x100, 0x200, 0x300, 0x400, 0x500, 0x600, 0x700, 0x1000};
    uint8_t how = byte();
    switch (how >> 5) {
    case 0:
    case 1:
        return how & 31;
    case 2:
    case 3:
        return places[how & 7] + (how >> 3 & 3);
    case 4:
        return (uint32_t)in->mem_size - (how & 15);
    case 5:
        return 0xffffffffu - (how & 15);
    case 6:
        return byte();
    default:
        return word();
    }
}

/* ---- the guest ---- */

/* Strings, names and pairs at fixed places, so that calls can succeed. */
static void fill(sl_instance_t *in) {
    static const char pairs[] = "\2\0\0\0\5\0\0\0\1\0\0\0\3\0\0\0\0\0\0\0x-one\0"
                                "1\0abc\0";
    static const char call[] = "\3\0\0\0\7\0\0\0\3\0\0\0\5\0\0\0\1\0\0\0\12\0\0\0\1\0\0\0:method\0GET\0:path\0/\0:authority\0a\0";
    memcpy(in->mem + 0x100, "x-one:path:status", 17);
    memcpy(in->mem + 0x200, "request\0headers\0x-one", 21);
    memcpy(in->mem + 0x300, pairs, sizeof(pairs) - 1);
    memcpy(in->mem + 0x400, call, sizeof(call) - 1);
    memcpy(in->mem + 0x500, "\0\1\0\0\5\0\0\0\0\2\0\0\7\0\0\0", 16); /* iovecs */
    memcpy(in->mem + 0x600, "some text\n and more", 19);
}

static sl_status_t one_call(sl_instance_t *in) {
    sl_raw_t args[MAX_ARGS] = {{0}};
    const sl_import_t *import = &imports[byte() % N_IMPORTS];
    for (size_t i = 0; import->sig[i] != ':'; i++) {
        args[i].u64 = import->sig[i] == 'I' ? (uint64_t)word() << 32 | word() : argument(in);
    }
    return sl_null_import(in, import->module, import->name, args);
}

static sl_status_t callback(sl_instance_t *in, sl_raw_t *args) {
    fill(in);
    unsigned n = byte() % CALLS_PER_CALLBACK;
    for (unsigned i = 0; i < n && n_calls < MAX_CALLS; i++, n_calls++) {
        sl_status_t rc = one_call(in);
        if (rc != SL_OK) {
            return rc;
        }
    }
    uint8_t answer = byte();
    if (answer == 0xff) {
        return sl_instance_trap(in, "the input says so");
    }
    args[0].u32 = answer & 7;
    return SL_OK;
}

/* Start and configure mostly succeed, else there is nothing to see. */
static sl_status_t starting(sl_instance_t *in, sl_raw_t *args) {
    sl_status_t rc = callback(in, args);
    args[0].u32 = 1;
    return rc;
}

static sl_status_t quiet(sl_instance_t *in, sl_raw_t *args) {
    (void)in, (void)args;
    return SL_OK;
}

static sl_status_t guest_malloc(sl_instance_t *in, sl_raw_t *args) {
    uint32_t *next = sl_null_state(in), size = args[0].u32;
    uint8_t how = byte();
    if (how == 0xfe) {
        return sl_instance_trap(in, "malloc");
    }
    if (how >= 0xf0) {
        args[0].u32 = how == 0xf0 ? 0xfffffff0u : 0;
        return n_calls < MAX_CALLS && (how & 1) ? one_call(in) : SL_OK; /* from inside the allocator most calls are forbidden */
    }
    if (how >= 0xe0) {
        sl_null_grow(in, 4096);
    }
    *next = *next < HEAP ? HEAP : *next;
    if (size > in->mem_size - *next) {
        *next = HEAP;
    }
    args[0].u32 = size <= in->mem_size - *next ? *next : 0;
    *next += args[0].u32 != 0 ? size : 0;
    return SL_OK;
}

#define PW_CALLBACK(id, name, sig1, sig2) {#name, sig2, callback},
#define PW_CALLBACK_ALIAS(id, name)
static sl_null_export_t exports[] = {
    {"proxy_abi_version_0_2_1", ":", quiet},
    {"malloc", "i:i", guest_malloc},
#include "pw_callbacks.def"
};
#undef PW_CALLBACK
#undef PW_CALLBACK_ALIAS

static const sl_null_guest_t guest = {.name = "fuzz",
                                      .exports = exports,
                                      .n_exports = sizeof(exports) / sizeof(exports[0]),
                                      .imports = imports,
                                      .n_imports = N_IMPORTS,
                                      .memory_bytes = MEMORY,
                                      .state_bytes = sizeof(uint32_t)};

static sl_module_t *module(void) {
    static sl_module_t *m; /* one for all inputs */
    static sl_engine_t *engine;
    if (m != NULL) {
        return m;
    }
    for (size_t i = 0; i < sizeof(exports) / sizeof(exports[0]); i++) {
        if (strcmp(exports[i].name, "proxy_on_vm_start") == 0 || strcmp(exports[i].name, "proxy_on_configure") == 0) {
            exports[i].fn = starting;
        }
    }
    sl_err_t err;
    if (sl_null_register(&guest) != SL_OK || sl_engine_new(&(sl_engine_conf_t){.name = "null"}, &engine, &err) != SL_OK ||
        sl_module_compile(engine, SL_STR("null:fuzz"), &m, &err) != SL_OK) {
        abort();
    }
    return m;
}

/* ---- the proxy ---- */

#define P(k, v) {{k, sizeof(k) - 1}, {v, sizeof(v) - 1}}
static const pw_pair_t request_headers[] = {P(":method", "POST"), P(":path", "/p?q=1"), P(":authority", "a.test"),
                                            P(":scheme", "http"), P("x-one", "1"),      P("X-One", "2"),
                                            P("empty", "")};
static const pw_pair_t response_headers[] = {P(":status", "200"), P("content-type", "text/plain")};
static const pw_pair_t trailers[] = {P("t", "v")};
static const sl_str_t chunks[] = {{"one ", 4}, {"", 0}, {"two", 3}};

static mh_message_t message(const pw_pair_t *headers, size_t n) {
    uint8_t how = byte();
    return (mh_message_t){.headers = headers,
                          .n_headers = n,
                          .chunks = chunks,
                          .n_chunks = how & 3,
                          .trailers = trailers,
                          .n_trailers = how >> 2 & 1,
                          .late_end = (how & 8) != 0};
}

static void event(mh_t *mh, mh_stream_t *s) {
    pw_call_response_t answer = {
        .headers = response_headers, .n_headers = 2, .body = SL_STR("answer"), .trailers = trailers, .n_trailers = 1};
    switch (byte() & 7) {
    case 0:
        mh_tick(mh, 0);
        break;
    case 1:
        mh_call_answer(mh, 0, &answer);
        break;
    case 2:
        mh_call_fail(mh, 0, "broken connection");
        break;
    case 3:
        mh_advance(mh, 100);
        break;
    case 4:
        if (s != NULL) {
            mh_exchange_client_gone(s);
        }
        break;
    default:
        break;
    }
    mh_run(mh);
}

static void play(mh_t *mh, pw_chain_t *chain) {
    mh_message_t request = message(request_headers, sizeof(request_headers) / sizeof(request_headers[0]));
    mh_message_t response = message(response_headers, sizeof(response_headers) / sizeof(response_headers[0]));
    mh_stream_t *s = mh_stream_new(mh, chain);
    if (s == NULL) {
        return;
    }
    mh_exchange(s, &request, &response, (byte() & 1) != 0);
    for (unsigned i = 0; i < 8; i++) {
        event(mh, s);
    }
    mh_stream_free(s);
    event(mh, NULL);
    event(mh, NULL);
}

static void run(mh_t *mh) {
    uint8_t how = byte();
    pw_filter_conf_t conf = {.name = SL_STR("fuzz"),
                             .opts.vm_id = SL_STR("vm"),
                             .vm_config = SL_STR("vm configuration"),
                             .config = SL_STR("configuration"),
                             .module = module(),
                             .opts.dialect = how & 1 ? SL_DIALECT_WASMX : SL_DIALECT_ENVOY,
                             .opts.headers_stop_iteration = (how & 2) != 0};
    pw_filter_t *filters[2];
    sl_err_t err;
    if (pw_filter_new(mh_worker(mh), &conf, &filters[0], &err) != SL_OK) {
        return;
    }
    filters[1] = filters[0];
    pw_chain_conf_t chain_conf = {.reverse_response = (how & 4) != 0,
                                  .request_body_bytes = how & 8 ? 5 : 0,
                                  .response_body_bytes = how & 8 ? 5 : 0,
                                  .pass_over_limit = (how & 16) != 0};
    pw_chain_t *chain = pw_chain_new(mh_worker(mh), filters, how & 32 ? 2 : 1, &chain_conf);
    if (chain != NULL) {
        play(mh, chain);
        play(mh, chain);
        pw_chain_unref(chain);
    }
    pw_filter_unref(filters[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input = data;
    input_len = size;
    n_calls = 0;
    mh_t *mh = mh_new(&(mh_conf_t){.limits = {.vm_memory_bytes = 1 << 20, .property_bytes = 4096}, .log_level = PW_LOG_INFO});
    if (mh != NULL) {
        run(mh);
        mh_free(mh);
    }
    return 0;
}
