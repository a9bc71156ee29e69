/* Every allocation of an exchange fails in turn: nothing may crash, leak, or hang. */
#include "fail_alloc.h"
#include "mt.h"

static const pw_pair_t request_headers[] = {MT_PAIR(":method", "POST"), MT_PAIR(":path", "/p"), MT_PAIR(":authority", "a.test")};
static const pw_pair_t response_headers[] = {MT_PAIR(":status", "200"), MT_PAIR("x-up", "u")};
static const pw_pair_t trailers[] = {MT_PAIR("t", "v")};
static const sl_str_t chunks[] = {{"one ", 4}, {"two", 3}};
static const mh_message_t request = {
    .headers = request_headers, .n_headers = 3, .chunks = chunks, .n_chunks = 2, .trailers = trailers, .n_trailers = 1};
static const mh_message_t response = {
    .headers = response_headers, .n_headers = 2, .chunks = chunks, .n_chunks = 2, .trailers = trailers, .n_trailers = 1};

static sl_engine_t *engine;
static sl_module_t *module;

static uint32_t busy_configure(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    uint32_t ms = 10, queue[] = {mt_text(in, "q"), 1, 0x300}, metric[] = {0, mt_text(in, "m"), 1, 0x304};
    uint32_t shared[] = {mt_text(in, "k"), 1, mt_text(in, "v"), 1, 0}, item[] = {1, mt_text(in, "i"), 1};
    mt_call(in, "proxy_set_tick_period_milliseconds", &ms, 1);
    mt_call(in, "proxy_register_shared_queue", queue, 3);
    mt_call(in, "proxy_enqueue_shared_queue", item, 3);
    mt_call(in, "proxy_define_metric", metric, 4);
    mt_call(in, "proxy_set_shared_data", shared, 5);
    mt_http_call(in, "cluster", 5);
    mt_log(in, "configured");
    return 1;
}

static uint32_t busy_headers(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    uint32_t property[] = {mt_text(in, "p"), 1, mt_text(in, "v"), 1};
    mt_header_add(in, PW_MAP_REQUEST_HEADERS, "x-a", "1");
    mt_call(in, "proxy_set_property", property, 4);
    mt_http_call(in, "cluster", 0);
    return 0;
}

static uint32_t hold_body(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t eos) {
    (void)in, (void)ctx, (void)a1;
    return eos ? 0 : 1;
}

static uint32_t reply(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    mt_reply(in, 403, "no");
    return 0;
}

static void play(mh_t *mh, pw_chain_t *chain) {
    mh_stream_t *s = mh_stream_new(mh, chain);
    if (s == NULL) {
        return;
    }
    mh_exchange(s, &request, &response, false);
    mh_advance(mh, 20);
    mh_call_fail(mh, 0, "broken connection");
    mh_run(mh);
    mh_stream_free(s);
}

static void whole_life(void) {
    mh_t *mh = mh_new(NULL);
    if (mh == NULL) {
        return;
    }
    sl_err_t err;
    pw_filter_t *filter;
    pw_filter_conf_t conf = {.name = SL_STR("guest"), .opts.vm_id = SL_STR("vm"), .module = module};
    if (pw_filter_new(mh_worker(mh), &conf, &filter, &err) == SL_OK) {
        pw_chain_t *chain = pw_chain_new(mh_worker(mh), &filter, 1, &(pw_chain_conf_t){0});
        if (chain != NULL) {
            play(mh, chain);
            pw_chain_unref(chain);
        }
        pw_filter_unref(filter);
    }
    mh_free(mh);
}

static void visit_each_allocation(void) {
    fail_alloc_at(0);
    whole_life();
    unsigned n = fail_alloc_seen();
    assert_in_range(n, 20, 5000);
    for (unsigned i = 1; i <= n + 2; i++) {
        fail_alloc_at(i);
        whole_life();
    }
    fail_alloc_at(0);
}

static void an_exchange_that_passes_survives_each_failed_allocation(void **state) {
    (void)state;
    mt.configure = busy_configure;
    mt.request_headers = busy_headers;
    mt.request_body = hold_body;
    mt.response_body = hold_body;
    visit_each_allocation();
}

static void an_exchange_that_is_answered_survives_each_failed_allocation(void **state) {
    (void)state;
    mt.response_headers = NULL;
    mt.request_headers = reply;
    visit_each_allocation();
}

static int setup(void **state) {
    (void)state;
    mt_world_t w;
    mt_setup(&w, NULL);
    mh_free(w.mh);
    engine = w.engine;
    module = w.module;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fail_alloc_at(0);
    sl_module_unref(module);
    sl_engine_free(engine);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_exchange_that_passes_survives_each_failed_allocation, setup, teardown),
        cmocka_unit_test_setup_teardown(an_exchange_that_is_answered_survives_each_failed_allocation, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
