#include "mt.h"

#include <stdio.h>

mt_hooks_t mt;

enum { MEMORY = 1 << 16, TEXTS = 0x1000, HEAP = 0x8000 };

typedef struct {
    uint32_t text, heap;
} guest_state_t;

static sl_status_t run(sl_instance_t *in, sl_raw_t *args, size_t n, mt_fn_t fn, uint32_t result) {
    uint32_t a[3] = {0};
    for (size_t i = 0; i < n && i < 3; i++) {
        a[i] = args[i].u32;
    }
    ((guest_state_t *)sl_null_state(in))->text = TEXTS;
    mt.trap = false;
    args[0].u32 = fn != NULL ? fn(in, a[0], a[1], a[2]) : result;
    return mt.trap ? sl_instance_trap(in, "the test says so") : SL_OK;
}

#define CALLBACK(name, n, result)                                                                                                          \
    static sl_status_t cb_##name(sl_instance_t *in, sl_raw_t *args) {                                                                      \
        return run(in, args, n, mt.name, result);                                                                                          \
    }
CALLBACK(vm_start, 2, 1)
CALLBACK(configure, 2, 1)
CALLBACK(tick, 1, 0)
CALLBACK(queue, 2, 0)
CALLBACK(request_headers, 3, 0)
CALLBACK(request_body, 3, 0)
CALLBACK(request_trailers, 2, 0)
CALLBACK(response_headers, 3, 0)
CALLBACK(response_body, 3, 0)
CALLBACK(response_trailers, 2, 0)
CALLBACK(call_response, 3, 0)
CALLBACK(log, 1, 0)
CALLBACK(done, 1, 1)
CALLBACK(delete, 1, 0)

static sl_status_t marker(sl_instance_t *in, sl_raw_t *args) {
    (void)in, (void)args;
    return SL_OK;
}

static sl_status_t guest_malloc(sl_instance_t *in, sl_raw_t *args) {
    guest_state_t *g = sl_null_state(in);
    uint32_t size = args[0].u32;
    g->heap = g->heap < HEAP || size > MEMORY - g->heap ? HEAP : g->heap;
    args[0].u32 = size <= MEMORY - g->heap ? g->heap : 0;
    g->heap += size;
    return SL_OK;
}

static const sl_null_export_t exports[] = {
    {"proxy_abi_version_0_2_1", ":", marker},
    {"malloc", "i:i", guest_malloc},
    {"proxy_on_vm_start", "ii:i", cb_vm_start},
    {"proxy_on_configure", "ii:i", cb_configure},
    {"proxy_on_tick", "i:", cb_tick},
    {"proxy_on_queue_ready", "ii:", cb_queue},
    {"proxy_on_request_headers", "iii:i", cb_request_headers},
    {"proxy_on_request_body", "iii:i", cb_request_body},
    {"proxy_on_request_trailers", "ii:i", cb_request_trailers},
    {"proxy_on_response_headers", "iii:i", cb_response_headers},
    {"proxy_on_response_body", "iii:i", cb_response_body},
    {"proxy_on_response_trailers", "ii:i", cb_response_trailers},
    {"proxy_on_http_call_response", "iiiii:", cb_call_response},
    {"proxy_on_log", "i:", cb_log},
    {"proxy_on_done", "i:i", cb_done},
    {"proxy_on_delete", "i:", cb_delete},
};

#define PW_ENV(name, sig, ...) {"env", #name, sig, NULL},
#define PW_ENV_TYPE(name, suffix, sig, ...)
#define PW_WASI(name, sig, ...)
static const sl_import_t imports[] = {
#include "pw_hostcalls.def"
};
#undef PW_ENV
#undef PW_ENV_TYPE
#undef PW_WASI

static const sl_null_guest_t guest = {.name = "memhost-test",
                                      .exports = exports,
                                      .n_exports = sizeof(exports) / sizeof(exports[0]),
                                      .imports = imports,
                                      .n_imports = sizeof(imports) / sizeof(imports[0]),
                                      .memory_bytes = MEMORY,
                                      .state_bytes = sizeof(guest_state_t)};

void mt_setup(mt_world_t *w, const mh_conf_t *conf) {
    sl_err_t err;
    *w = (mt_world_t){0};
    mt = (mt_hooks_t){0};
    assert_int_equal(sl_null_register(&guest), SL_OK);
    assert_int_equal(sl_engine_new(&(sl_engine_conf_t){.name = "null"}, &w->engine, &err), SL_OK);
    assert_int_equal(sl_module_compile(w->engine, SL_STR("null:memhost-test"), &w->module, &err), SL_OK);
    w->mh = mh_new(conf);
    assert_non_null(w->mh);
}

void mt_start(mt_world_t *w) {
    sl_err_t err = {""};
    pw_filter_conf_t conf = {.name = SL_STR("guest"), .opts.vm_id = SL_STR("vm"), .module = w->module};
    if (pw_filter_new(mh_worker(w->mh), &conf, &w->filter, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    w->chain = pw_chain_new(mh_worker(w->mh), &w->filter, 1, &(pw_chain_conf_t){0});
    assert_non_null(w->chain);
}

void mt_teardown(mt_world_t *w) {
    if (w->chain != NULL) {
        pw_chain_unref(w->chain);
    }
    if (w->filter != NULL) {
        pw_filter_unref(w->filter);
    }
    mh_free(w->mh);
    sl_module_unref(w->module);
    sl_engine_free(w->engine);
}

uint32_t mt_call(sl_instance_t *in, const char *name, const uint32_t *args, size_t n) {
    sl_raw_t raw[16] = {{0}};
    for (size_t i = 0; i < n; i++) {
        raw[i].u32 = args[i];
    }
    mt.trap = sl_null_import(in, "env", name, raw) != SL_OK || mt.trap;
    return raw[0].u32;
}

uint32_t mt_text(sl_instance_t *in, const char *text) {
    guest_state_t *g = sl_null_state(in);
    uint32_t at = g->text;
    assert_true(strlen(text) < HEAP - at);
    memcpy(in->mem + at, text, strlen(text));
    g->text += (uint32_t)strlen(text);
    return at;
}

void mt_log(sl_instance_t *in, const char *text) {
    uint32_t args[] = {PW_LOG_INFO, mt_text(in, text), (uint32_t)strlen(text)};
    mt_call(in, "proxy_log", args, 3);
}

uint32_t mt_header_add(sl_instance_t *in, uint32_t map, const char *key, const char *value) {
    uint32_t args[] = {map, mt_text(in, key), (uint32_t)strlen(key), mt_text(in, value), (uint32_t)strlen(value)};
    return mt_call(in, "proxy_add_header_map_value", args, 5);
}

uint32_t mt_reply(sl_instance_t *in, uint32_t status, const char *body) {
    uint32_t args[] = {status, 0, 0, mt_text(in, body), (uint32_t)strlen(body), 0, 0, UINT32_MAX};
    return mt_call(in, "proxy_send_local_response", args, 8);
}

uint32_t mt_http_call(sl_instance_t *in, const char *upstream, uint32_t timeout_ms) {
    static const char headers[] = "\3\0\0\0\7\0\0\0\3\0\0\0\5\0\0\0\1\0\0\0\12\0\0\0\1\0\0\0:method\0GET\0:path\0/\0:authority\0a\0";
    memcpy(in->mem + 0x400, headers, sizeof(headers) - 1);
    uint32_t args[] = {mt_text(in, upstream), (uint32_t)strlen(upstream), 0x400, sizeof(headers) - 1, 0, 0, 0, 0, timeout_ms, 0x300};
    return mt_call(in, "proxy_http_call", args, 10);
}

uint32_t mt_resume(sl_instance_t *in, uint32_t stream_ctx, uint32_t type) {
    mt_call(in, "proxy_set_effective_context", &stream_ctx, 1);
    return mt_call(in, "proxy_continue_stream", &type, 1);
}

void mt_assert_str(sl_str_t got, const char *want, const char *file, int line) {
    if (!sl_str_eq(got, sl_cstr(want))) {
        print_error("got \"%.*s\", expected \"%s\"\n", SL_FMT(got), want);
        _fail(file, line);
    }
}
