/* Limits of filters with a real engine: the memory of all instances together; and what a trap dump holds. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine_signals.h"
#include "mh.h"
#include "sl_file.h"

#define PAGE ((uint64_t)65536)
#define MIB (16 * PAGE) /* as membomb grows; it begins with two pages */

static const pw_pair_t headers[] = {{{":method", 7}, {"GET", 3}}, {{":path", 5}, {"/", 1}}, {{":authority", 10}, {"a.test", 6}}};

typedef struct {
    sl_engine_t *engine;
    sl_module_t *module;
    mh_t *mh;
} rig_t;

typedef struct {
    pw_filter_t *filter;
    pw_chain_t *chain;
} one_t;

static void set_up(rig_t *rig, const char *guest, uint64_t worker_memory_bytes) {
    const char *build = getenv("SLUICE_BUILD");
    char path[4096];
    sl_buf_t bytes;
    sl_err_t err;
    mh_conf_t conf = {.limits.worker_memory_bytes = worker_memory_bytes};
    snprintf(path, sizeof(path), "%s/filters/%s.wasm", build != NULL ? build : "build", guest);
    engine_signals_use();
    sl_buf_init(&bytes, (size_t)64 << 20);
    assert_int_equal(sl_engine_new(NULL, &rig->engine, &err), SL_OK);
    assert_int_equal(sl_file_read(path, &bytes, &err), SL_OK);
    assert_int_equal(sl_module_compile(rig->engine, sl_buf_str(&bytes), &rig->module, &err), SL_OK);
    sl_buf_deinit(&bytes);
    rig->mh = mh_new(&conf);
}

static void tear_down(rig_t *rig) {
    mh_free(rig->mh);
    sl_module_unref(rig->module);
    sl_engine_free(rig->engine);
}

static sl_status_t start(rig_t *rig, const char *name, sl_isolation_t isolation, uint64_t budget, one_t *one, sl_err_t *err) {
    pw_filter_conf_t conf = {.name = sl_cstr(name), .module = rig->module};
    sl_filter_opts_init(&conf.opts);
    conf.opts.isolation = (uint8_t)isolation;
    conf.opts.memory_budget = budget;
    sl_status_t rc = pw_filter_new(mh_worker(rig->mh), &conf, &one->filter, err);
    one->chain = rc == SL_OK ? pw_chain_new(mh_worker(rig->mh), (pw_filter_t *const[]){one->filter}, 1, NULL) : NULL;
    return rc;
}

static void started(rig_t *rig, const char *name, sl_isolation_t isolation, uint64_t budget, one_t *one) {
    sl_err_t err;
    if (start(rig, name, isolation, budget, one, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
}

static void stop(const one_t *one) {
    pw_chain_unref(one->chain);
    pw_filter_unref(one->filter);
}

static mh_stream_t *request(rig_t *rig, const one_t *one, pw_verdict_t expected) {
    pw_out_t out;
    mh_stream_t *s = mh_stream_new(rig->mh, one->chain);
    assert_non_null(s);
    assert_int_equal(mh_map_fill(s, PW_MAP_REQUEST_HEADERS, headers, 3), SL_OK);
    assert_int_equal(pw_stream_headers(mh_stream_pw(s), PW_DIR_REQUEST, true, &out), expected);
    return s;
}

static uint64_t used(const rig_t *rig) {
    return pw_worker_memory(mh_worker(rig->mh)).used;
}

static uint64_t number(const rig_t *rig, const char *filter, pw_number_t which) {
    return pw_worker_number(mh_worker(rig->mh), sl_cstr(filter), which);
}

static void a_filter_gets_no_more_than_its_budget_and_that_is_counted(void **state) {
    (void)state;
    rig_t rig;
    one_t bomb;
    set_up(&rig, "membomb", 0);
    started(&rig, "bomb", SL_ISOLATION_SHARED, 4 * MIB, &bomb);
    mh_stream_free(request(&rig, &bomb, PW_CONTINUE));
    assert_in_range(used(&rig), 3 * MIB, 4 * MIB);
    assert_int_equal(number(&rig, "bomb", PW_N_MEMORY_REFUSED), 1);
    assert_int_equal(number(&rig, "bomb", PW_N_MEMORY_REFUSED_WORKER), 0);
    assert_int_equal(number(&rig, "bomb", PW_N_MEMORY), used(&rig));
    stop(&bomb);
    tear_down(&rig);
}

static void all_instances_of_a_worker_share_its_limit(void **state) {
    (void)state;
    rig_t rig;
    one_t first, second;
    set_up(&rig, "membomb", 8 * MIB);
    started(&rig, "first", SL_ISOLATION_FILTER, 6 * MIB, &first);
    started(&rig, "second", SL_ISOLATION_FILTER, 6 * MIB, &second);
    mh_stream_free(request(&rig, &first, PW_CONTINUE));
    mh_stream_free(request(&rig, &second, PW_CONTINUE));
    assert_in_range(used(&rig), 7 * MIB, 8 * MIB);
    assert_int_equal(pw_worker_memory(mh_worker(rig.mh)).peak, used(&rig));
    assert_int_equal(number(&rig, "first", PW_N_MEMORY_REFUSED), 1);
    assert_int_equal(number(&rig, "second", PW_N_MEMORY_REFUSED), 0);
    assert_int_equal(number(&rig, "second", PW_N_MEMORY_REFUSED_WORKER), 1);
    assert_true(mh_log_has(rig.mh, "gets no more memory: filters of this worker have"));
    stop(&first); /* what it had is there for others */
    assert_in_range(used(&rig), 1, 4 * MIB);
    mh_stream_free(request(&rig, &second, PW_CONTINUE));
    assert_int_equal(number(&rig, "second", PW_N_MEMORY_REFUSED), 1);
    stop(&second);
    assert_int_equal(used(&rig), 0);
    tear_down(&rig);
}

static void a_filter_that_does_not_fit_is_not_started(void **state) {
    (void)state;
    rig_t rig;
    one_t first, second;
    sl_err_t err;
    set_up(&rig, "membomb", 3 * MIB + 3 * PAGE);
    started(&rig, "first", SL_ISOLATION_FILTER, 64 * MIB, &first);
    mh_stream_free(request(&rig, &first, PW_CONTINUE));
    assert_int_equal(start(&rig, "second", SL_ISOLATION_FILTER, 64 * MIB, &second, &err), SL_NO_MEMORY);
    assert_non_null(strstr(err.text, "all of them together have"));
    assert_int_equal(number(&rig, "second", PW_N_MEMORY_REFUSED_WORKER), 1);
    stop(&first);
    started(&rig, "second", SL_ISOLATION_FILTER, 64 * MIB, &second);
    stop(&second);
    tear_down(&rig);
}

/* The plugin and the first request have it all; the second request finds nothing, and everything is well when the first has gone. */
static void instances_of_requests_count_and_fail_alone(void **state) {
    (void)state;
    rig_t rig;
    one_t bomb;
    set_up(&rig, "membomb", 3 * MIB + 5 * PAGE);
    started(&rig, "bomb", SL_ISOLATION_REQUEST, 64 * MIB, &bomb);
    uint64_t plugin = used(&rig);
    mh_stream_t *one = request(&rig, &bomb, PW_CONTINUE);
    assert_in_range(used(&rig), 3 * MIB, 4 * MIB);
    mh_stream_t *two = request(&rig, &bomb, PW_FAIL);
    assert_int_equal(pw_stream_failure(mh_stream_pw(two)), 500);
    assert_true(mh_log_has(rig.mh, "no instance for a request: an instance needs"));
    assert_int_equal(number(&rig, "bomb", PW_N_OPENED) + number(&rig, "bomb", PW_N_TRAPS_START), 0);
    mh_stream_free(two);
    mh_stream_free(one);
    assert_int_equal(used(&rig), 2 * plugin); /* restored: no larger than its image */
    mh_stream_free(request(&rig, &bomb, PW_CONTINUE));
    stop(&bomb);
    assert_int_equal(used(&rig), 0);
    tear_down(&rig);
}

/* trap_all in request headers, asked by a header. */
static void dumps_of(bool on, sl_isolation_t isolation) {
    rig_t rig;
    one_t one = {0};
    sl_err_t err;
    pw_out_t out;
    set_up(&rig, "trap_all", 0);
    mh_free(rig.mh);
    rig.mh = mh_new(&(mh_conf_t){.limits.trap_dumps = on});
    pw_filter_conf_t conf = {.name = SL_STR("falls"), .module = rig.module, .config = SL_STR("request_headers x-trap")};
    sl_filter_opts_init(&conf.opts);
    conf.opts.isolation = (uint8_t)isolation;
    assert_int_equal(pw_filter_new(mh_worker(rig.mh), &conf, &one.filter, &err), SL_OK);
    one.chain = pw_chain_new(mh_worker(rig.mh), (pw_filter_t *const[]){one.filter}, 1, NULL);
    static const pw_pair_t with_trap[] = {{{":method", 7}, {"GET", 3}}, {{":path", 5}, {"/a\nb", 4}}, {{"x-trap", 6}, {"1", 1}}};
    for (int i = 0; i < 2; i++) { /* the second one comes too soon after the first */
        mh_stream_t *s = mh_stream_new(rig.mh, one.chain);
        assert_int_equal(mh_map_fill(s, PW_MAP_REQUEST_HEADERS, with_trap, 3), SL_OK);
        assert_int_equal(pw_stream_headers(mh_stream_pw(s), PW_DIR_REQUEST, true, &out), PW_FAIL);
        mh_stream_free(s);
    }
    assert_int_equal(mh_dump_count(rig.mh), on);
    if (on) {
        char text[8192];
        sl_str_t got = mh_dump_text(rig.mh);
        snprintf(text, sizeof(text), "%.*s", SL_FMT(got));
        static const char *const parts[] = {
            "sluice trap dump 1\ntime: 2024-01-01T00:00:00.000Z\nfilter: falls\nmodule: ",
            "\ncallback: proxy_on_request_headers\nrequest: GET /a?b\n",
            "\nreason: unreachable code was reached\nbacktrace:\n  at ",
            "\nhost calls: ",
            "  proxy_get_header_map_value(0, ",
            ") = 0\nglobals:\n  0 i32 ",
        };
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            if (strstr(text, parts[i]) == NULL) {
                fail_msg("no \"%s\" in\n%s", parts[i], text);
            }
        }
        assert_int_equal(mh_dump_memory(rig.mh).len % PAGE, 0);
        assert_non_null(memmem(mh_dump_memory(rig.mh).data, mh_dump_memory(rig.mh).len, "request_headers x-trap", 22));
    }
    stop(&one);
    tear_down(&rig);
}

static void a_trap_dump_says_what_happened(void **state) {
    (void)state;
    dumps_of(true, SL_ISOLATION_SHARED);
    dumps_of(true, SL_ISOLATION_REQUEST);
}

static void without_the_setting_there_are_no_dumps(void **state) {
    (void)state;
    dumps_of(false, SL_ISOLATION_SHARED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_gets_no_more_than_its_budget_and_that_is_counted),
        cmocka_unit_test(all_instances_of_a_worker_share_its_limit),
        cmocka_unit_test(a_filter_that_does_not_fit_is_not_started),
        cmocka_unit_test(instances_of_requests_count_and_fail_alone),
        cmocka_unit_test(a_trap_dump_says_what_happened),
        cmocka_unit_test(without_the_setting_there_are_no_dumps),
    };
    return engine_signals_save() == 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
