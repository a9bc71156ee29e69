/*
 * Foreign functions with arbitrary arguments: a native guest calls them one after the other, in a root and in a stream context. The input
 * is calls: which function, how many bytes, the bytes. Sanitizers are the judge; and what was compressed must come back.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine_null.h"
#include "mh.h"

enum { MEMORY = 1 << 17, NAME = 0x100, OUT = 0x200, ARGS = 0x1000, HEAP = 0x8000, MAX_CALLS = 16, ARGS_MAX = HEAP - ARGS };

/* The seeds name these by their numbers, which stay as they are; then all of the table. */
static const char *const names[] = {
    "compress",
    "uncompress",
    "verify_signature",
    "sign",
    "declare_property",
    "set_envoy_filter_state",
    "clear_route_cache",
    "resolve_host",
    "resolve_lua",
    "get_log_level",
    "set_global_max_requests_per_io_cycle",
    "expr_create",
    "expr_evaluate",
    "expr_delete",
#define PW_FOREIGN(name, whose, fn) #name,
#include "pw_foreign.def"
#undef PW_FOREIGN
    "no such function",
};
enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

#define PW_ENV(name, sig, ...) {"env", #name, sig, NULL},
#define PW_ENV_TYPE(name, suffix, sig, ...)
#define PW_WASI(name, sig, ...) {"wasi_snapshot_preview1", #name, sig, NULL},
static const sl_import_t imports[] = {
#include "pw_hostcalls.def"
};
#undef PW_ENV
#undef PW_ENV_TYPE
#undef PW_WASI

/* ---- input: bytes run out into zeros ---- */

static const uint8_t *input;
static size_t input_len;

static uint8_t byte(void) {
    if (input_len == 0) {
        return 0;
    }
    input_len--;
    return *input++;
}

/* ---- the guest ---- */

static uint32_t get_u32(const sl_instance_t *in, uint32_t at) {
    uint32_t v;
    memcpy(&v, in->mem + at, sizeof(v));
    return v;
}

/* Calls names[which] with the bytes at ARGS. false: trapped. */
static bool call(sl_instance_t *in, size_t which, uint32_t len, uint32_t *status) {
    uint32_t name_len = (uint32_t)strlen(names[which]);
    uint32_t *next = sl_null_state(in);
    sl_raw_t args[6] = {{.u32 = NAME}, {.u32 = name_len}, {.u32 = ARGS}, {.u32 = len}, {.u32 = OUT}, {.u32 = OUT + 4}};
    *next = HEAP;
    memcpy(in->mem + NAME, names[which], name_len);
    memset(in->mem + OUT, 0, 8);
    if (sl_null_import(in, "env", "proxy_call_foreign_function", args) != SL_OK) {
        return false;
    }
    *status = args[0].u32;
    if (*status == PW_OK && (uint64_t)get_u32(in, OUT) + get_u32(in, OUT + 4) > in->mem_size) {
        abort(); /* what was given lies outside */
    }
    return true;
}

static void check_round_trip(sl_instance_t *in, uint32_t len) {
    uint8_t *before = malloc(len + 1);
    uint32_t status, packed = get_u32(in, OUT + 4);
    if (before == NULL || packed > ARGS_MAX) {
        free(before);
        return;
    }
    memcpy(before, in->mem + ARGS, len);
    memmove(in->mem + ARGS, in->mem + get_u32(in, OUT), packed);
    if (!call(in, 1, packed, &status) || status != PW_OK || get_u32(in, OUT + 4) != len ||
        memcmp(in->mem + get_u32(in, OUT), before, len) != 0) {
        abort();
    }
    free(before);
}

static sl_status_t calls(sl_instance_t *in, sl_raw_t *args) {
    uint32_t status;
    for (int i = 0; i < MAX_CALLS && input_len != 0; i++) {
        size_t which = byte() % N_NAMES, len = byte();
        len = (len | (size_t)byte() << 8) % ARGS_MAX;
        len = len < input_len ? len : input_len;
        if (len != 0) {
            memcpy(in->mem + ARGS, input, len);
        }
        input += len;
        input_len -= len;
        if (!call(in, which, (uint32_t)len, &status)) {
            return SL_TRAP;
        }
        if (which == 0 && status == PW_OK) {
            check_round_trip(in, (uint32_t)len);
        }
    }
    args[0].u32 = 0;
    return SL_OK;
}

/* The first call is made from the root context. */
static sl_status_t starting(sl_instance_t *in, sl_raw_t *args) {
    uint32_t status, len = input_len < 200 ? (uint32_t)input_len : 200;
    if (len != 0) {
        memcpy(in->mem + ARGS, input, len);
        if (!call(in, input[0] % N_NAMES, len, &status)) {
            return SL_TRAP;
        }
    }
    args[0].u32 = 1;
    return SL_OK;
}

static sl_status_t quiet(sl_instance_t *in, sl_raw_t *args) {
    (void)in, (void)args;
    return SL_OK;
}

static sl_status_t guest_malloc(sl_instance_t *in, sl_raw_t *args) {
    uint32_t *next = sl_null_state(in), size = args[0].u32;
    *next = *next < HEAP ? HEAP : *next;
    args[0].u32 = size <= in->mem_size - *next ? *next : 0;
    *next += args[0].u32 != 0 ? size : 0;
    return SL_OK;
}

static const sl_null_export_t exports[] = {
    {"proxy_abi_version_0_2_1", ":", quiet},
    {"malloc", "i:i", guest_malloc},
    {"proxy_on_configure", "ii:i", starting},
    {"proxy_on_request_headers", "iii:i", calls},
};

static const sl_null_guest_t guest = {.name = "foreign",
                                      .exports = exports,
                                      .n_exports = sizeof(exports) / sizeof(exports[0]),
                                      .imports = imports,
                                      .n_imports = sizeof(imports) / sizeof(imports[0]),
                                      .memory_bytes = MEMORY,
                                      .state_bytes = sizeof(uint32_t)};

static sl_module_t *module(void) {
    static sl_module_t *m; /* one for all inputs */
    static sl_engine_t *engine;
    sl_err_t err;
    if (m == NULL && (sl_null_register(&guest) != SL_OK || sl_engine_new(&(sl_engine_conf_t){.name = "null"}, &engine, &err) != SL_OK ||
                      sl_module_compile(engine, SL_STR("null:foreign"), &m, &err) != SL_OK)) {
        abort();
    }
    return m;
}

/* ---- the proxy ---- */

static void play(mh_t *mh, pw_chain_t *chain) {
    static const pw_pair_t headers[] = {
        {SL_STR(":method"), SL_STR("GET")}, {SL_STR(":path"), SL_STR("/")}, {SL_STR(":authority"), SL_STR("a")}};
    static const pw_pair_t answer[] = {{SL_STR(":status"), SL_STR("200")}};
    mh_message_t request = {.headers = headers, .n_headers = 3}, response = {.headers = answer, .n_headers = 1};
    mh_stream_t *s = mh_stream_new(mh, chain);
    if (s != NULL) {
        mh_exchange(s, &request, &response, false);
        mh_run(mh);
        mh_stream_free(s);
    }
    mh_advance(mh, 1000);
}

static void run(mh_t *mh) {
    uint8_t how = byte();
    pw_filter_conf_t conf = {.name = SL_STR("fuzz"), .module = module(), .opts.dialect = how & 1 ? SL_DIALECT_WASMX : SL_DIALECT_ENVOY};
    pw_filter_t *filter;
    sl_err_t err;
    if (pw_filter_new(mh_worker(mh), &conf, &filter, &err) != SL_OK) {
        return;
    }
    pw_chain_t *chain = pw_chain_new(mh_worker(mh), &filter, 1, &(pw_chain_conf_t){0});
    if (chain != NULL) {
        play(mh, chain);
        pw_chain_unref(chain);
    }
    pw_filter_unref(filter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input = data;
    input_len = size;
    mh_t *mh = mh_new(&(mh_conf_t){.limits = {.property_bytes = 4096}, .log_level = PW_LOG_INFO});
    if (mh != NULL) {
        run(mh);
        mh_free(mh);
    }
    return 0;
}
