/* Isolation with guests of real languages: what a request leaves in memory is gone byte for byte when the next one begins. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine_signals.h"
#include "mh.h"
#include "pw_internal.h"
#include "sl_file.h"

enum { REQUESTS = 80 };

static const pw_pair_t headers[] = {{{":method", 7}, {"GET", 3}},
                                    {{":path", 5}, {"/some/path", 10}},
                                    {{":authority", 10}, {"a.test", 6}},
                                    {{"x-secret", 8}, {"hunter2", 7}}};
static const pw_pair_t response[] = {{{":status", 7}, {"200", 3}}};

typedef struct {
    sl_engine_t *engine;
    sl_module_t *module;
    mh_t *mh;
    pw_filter_t *filter;
    pw_chain_t *chain;
} rig_t;

static bool set_up(rig_t *rig, const char *language) {
    const char *build = getenv("SLUICE_BUILD");
    char path[4096];
    sl_buf_t bytes;
    sl_err_t err;
    pw_filter_conf_t conf = {.name = SL_STR("guest")};
    snprintf(path, sizeof(path), "%s/filters/my-%s-filter.wasm", build != NULL ? build : "build", language);
    if (access(path, R_OK) != 0) {
        return false; /* this machine cannot compile the language */
    }
    engine_signals_use();
    sl_buf_init(&bytes, (size_t)64 << 20);
    sl_filter_opts_init(&conf.opts);
    conf.opts.isolation = SL_ISOLATION_REQUEST;
    assert_int_equal(sl_engine_new(NULL, &rig->engine, &err), SL_OK);
    assert_int_equal(sl_file_read(path, &bytes, &err), SL_OK);
    assert_int_equal(sl_module_compile(rig->engine, sl_buf_str(&bytes), &rig->module, &err), SL_OK);
    sl_buf_deinit(&bytes);
    rig->mh = mh_new(NULL);
    conf.module = rig->module;
    if (pw_filter_new(mh_worker(rig->mh), &conf, &rig->filter, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    rig->chain = pw_chain_new(mh_worker(rig->mh), (pw_filter_t *const[]){rig->filter}, 1, NULL);
    return true;
}

static void tear_down(rig_t *rig) {
    pw_chain_unref(rig->chain);
    pw_filter_unref(rig->filter);
    mh_free(rig->mh);
    sl_module_unref(rig->module);
    sl_engine_free(rig->engine);
}

static bool is_image(const rig_t *rig, const mh_stream_t *s) {
    const sl_instance_t *in = mh_stream_pw(s)->at[0].ctx.root->vm->instance;
    sl_str_t image = sl_image_memory(pw_pool_image(rig->filter->pool));
    return in->mem_size == image.len && memcmp(in->mem, image.data, image.len) == 0;
}

static void one_request(rig_t *rig) {
    pw_out_t out;
    mh_stream_t *s = mh_stream_new(rig->mh, rig->chain);
    assert_non_null(s);
    assert_true(is_image(rig, s));
    assert_int_equal(mh_map_fill(s, PW_MAP_REQUEST_HEADERS, headers, 4), SL_OK);
    assert_int_equal(mh_map_fill(s, PW_MAP_RESPONSE_HEADERS, response, 1), SL_OK);
    assert_int_equal(pw_stream_headers(mh_stream_pw(s), PW_DIR_REQUEST, true, &out), PW_CONTINUE);
    assert_int_equal(pw_stream_headers(mh_stream_pw(s), PW_DIR_RESPONSE, true, &out), PW_CONTINUE);
    assert_false(is_image(rig, s)); /* there was something to undo */
    mh_stream_free(s);
}

static void requests_leave_nothing_in(const char *language) {
    rig_t rig;
    if (!set_up(&rig, language)) {
        skip();
    }
    for (int i = 0; i < REQUESTS; i++) {
        one_request(&rig);
    }
    pw_stats_t stats = pw_worker_stats(mh_worker(rig.mh));
    assert_int_equal(stats.instances_created, 1);
    assert_int_equal(stats.instances_restored, REQUESTS);
    tear_down(&rig);
}

static void requests_leave_nothing_in_a_filter_in_c(void **state) {
    (void)state;
    requests_leave_nothing_in("c");
}

static void requests_leave_nothing_in_a_filter_in_rust(void **state) {
    (void)state;
    requests_leave_nothing_in("rust");
}

static void requests_leave_nothing_in_a_filter_in_go(void **state) {
    (void)state;
    requests_leave_nothing_in("go");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_leave_nothing_in_a_filter_in_c),
        cmocka_unit_test(requests_leave_nothing_in_a_filter_in_rust),
        cmocka_unit_test(requests_leave_nothing_in_a_filter_in_go),
    };
    return engine_signals_save() == 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
