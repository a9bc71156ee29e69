#include "mt.h"

#include <stdio.h>

static mt_world_t w;

static int setup(void **state) {
    (void)state;
    mt_setup(&w, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    mt_teardown(&w);
    return 0;
}

/* ---- clock, randomness, log ---- */

static void the_clock_stands_until_it_is_moved(void **state) {
    (void)state;
    const pw_host_ops_t *ops = mh_ops();
    uint64_t wall = ops->now_ns(w.mh, false), mono = ops->now_ns(w.mh, true);
    assert_int_equal(wall, 1704067200000000000u);
    assert_int_equal(mono, 1000000000u);
    mh_advance(w.mh, 5);
    assert_int_equal(ops->now_ns(w.mh, false), wall + 5000000);
    assert_int_equal(ops->now_ns(w.mh, true), mono + 5000000);
}

static void a_clock_with_a_step_moves_with_each_reading(void **state) {
    (void)state;
    mh_t *mh = mh_new(&(mh_conf_t){.clock_step_ns = 1000, .now_ns = 7});
    assert_int_equal(mh_ops()->now_ns(mh, false), 1007);
    assert_int_equal(mh_ops()->now_ns(mh, false), 2007);
    mh_free(mh);
}

static void random_numbers_repeat_with_the_seed(void **state) {
    (void)state;
    char a[16], b[16], c[16];
    mh_t *other = mh_new(NULL), *seeded = mh_new(&(mh_conf_t){.seed = 2});
    mh_ops()->random(w.mh, a, sizeof(a));
    mh_ops()->random(other, b, sizeof(b));
    mh_ops()->random(seeded, c, sizeof(c));
    assert_memory_equal(a, b, sizeof(a));
    assert_memory_not_equal(a, c, sizeof(a));
    mh_free(other);
    mh_free(seeded);
}

static void the_log_keeps_the_latest_lines(void **state) {
    (void)state;
    char text[16];
    for (int i = 0; i < 5000; i++) {
        int n = snprintf(text, sizeof(text), "line %d", i);
        mh_ops()->log(w.mh, NULL, PW_LOG_INFO, sl_str(text, (size_t)n));
    }
    assert_int_equal(mh_log_count(w.mh), 4096);
    assert_str(mh_log_at(w.mh, 0).line, "line 904");
    assert_str(mh_log_at(w.mh, 4095).line, "line 4999");
    assert_null(mh_log_at(w.mh, 4096).line.data);
    assert_true(mh_log_has(w.mh, "line 4999"));
    assert_false(mh_log_has(w.mh, "line 903"));
    mh_log_clear(w.mh);
    assert_int_equal(mh_log_count(w.mh), 0);
}

static void the_log_has_a_ceiling_of_bytes(void **state) {
    (void)state;
    static char big[600000];
    mh_ops()->log(w.mh, NULL, PW_LOG_INFO, sl_str(big, sizeof(big)));
    mh_ops()->log(w.mh, NULL, PW_LOG_INFO, sl_str(big, sizeof(big)));
    assert_int_equal(mh_log_count(w.mh), 1);
}

static void lines_below_the_level_are_dropped(void **state) {
    (void)state;
    mh_log_level_set(w.mh, PW_LOG_WARN);
    mh_ops()->log(w.mh, NULL, PW_LOG_INFO, SL_STR("quiet"));
    mh_ops()->log(w.mh, NULL, PW_LOG_WARN, SL_STR("loud"));
    assert_int_equal(mh_log_count(w.mh), 1);
    assert_int_equal(mh_log_at(w.mh, 0).level, PW_LOG_WARN);
}

/* ---- ticks ---- */

static unsigned ticks;

static uint32_t set_period(sl_instance_t *in, uint32_t ms) {
    return mt_call(in, "proxy_set_tick_period_milliseconds", &ms, 1);
}

static uint32_t start_100ms(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    ticks = 0;
    set_period(in, 100);
    return 1;
}

static uint32_t count_tick(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)in, (void)ctx, (void)a1, (void)a2;
    return ++ticks;
}

static uint32_t cancel_in_tick(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    ticks++;
    return set_period(in, 0);
}

static void ticks_fire_when_they_are_due_and_are_armed_again(void **state) {
    (void)state;
    mt.configure = start_100ms;
    mt.tick = count_tick;
    mt_start(&w);
    assert_int_equal(mh_timer_count(w.mh), 1);
    assert_int_equal(mh_timer_period_ms(w.mh, 0), 100);
    mh_advance(w.mh, 99);
    assert_int_equal(ticks, 0);
    mh_advance(w.mh, 1);
    assert_int_equal(ticks, 1);
    mh_advance(w.mh, 1000);
    assert_int_equal(ticks, 11);
}

static void a_tick_can_be_fired_by_hand(void **state) {
    (void)state;
    mt.configure = start_100ms;
    mt.tick = count_tick;
    mt_start(&w);
    assert_true(mh_tick(w.mh, 0));
    assert_false(mh_tick(w.mh, 1));
    assert_int_equal(ticks, 1);
}

static void a_tick_that_cancels_itself_is_gone(void **state) {
    (void)state;
    mt.configure = start_100ms;
    mt.tick = cancel_in_tick;
    mt_start(&w);
    mh_advance(w.mh, 1000);
    assert_int_equal(ticks, 1);
    assert_int_equal(mh_timer_count(w.mh), 0);
}

static void the_end_of_a_filter_cancels_its_tick(void **state) {
    (void)state;
    mt.configure = start_100ms;
    mt_start(&w);
    pw_chain_unref(w.chain);
    pw_filter_unref(w.filter);
    w.chain = NULL;
    w.filter = NULL;
    assert_int_equal(mh_timer_count(w.mh), 0);
}

/* ---- calls out ---- */

static uint32_t answered[3];
static uint32_t call_status;

static uint32_t call_at_start(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    answered[2] = 0;
    call_status = mt_http_call(in, "cluster", 500);
    return 1;
}

static uint32_t note_answer(sl_instance_t *in, uint32_t ctx, uint32_t token, uint32_t n_headers) {
    (void)in;
    answered[0] = token;
    answered[1] = n_headers;
    answered[2]++;
    return ctx;
}

static void a_call_waits_until_the_test_answers_it(void **state) {
    (void)state;
    const pw_pair_t headers[] = {MT_PAIR(":status", "200")};
    mt.configure = call_at_start;
    mt.call_response = note_answer;
    mt_start(&w);
    assert_int_equal(call_status, PW_OK);
    assert_int_equal(mh_call_count(w.mh), 1);
    const mh_call_t *call = mh_call_at(w.mh, 0);
    assert_str(call->upstream, "cluster");
    assert_int_equal(call->n_headers, 3);
    assert_str(call->headers[1].value, "/");
    assert_int_equal(call->timeout_ms, 500);
    uint32_t token = call->token;
    assert_true(mh_call_answer(w.mh, 0, &(pw_call_response_t){.headers = headers, .n_headers = 1}));
    assert_int_equal(answered[0], token);
    assert_int_equal(answered[1], 1);
    assert_int_equal(mh_call_count(w.mh), 0);
    assert_false(mh_call_answer(w.mh, 0, &(pw_call_response_t){0}));
}

static void a_call_times_out_with_the_clock(void **state) {
    (void)state;
    mt.configure = call_at_start;
    mt.call_response = note_answer;
    mt_start(&w);
    mh_advance(w.mh, 499);
    assert_int_equal(answered[2], 0);
    mh_advance(w.mh, 1);
    assert_int_equal(answered[2], 1);
    assert_int_equal(mh_call_count(w.mh), 0);
}

static void unknown_upstreams_and_refusal_are_told_to_the_guest(void **state) {
    (void)state;
    assert_true(mh_upstream_add(w.mh, "other"));
    mt.configure = call_at_start;
    mt_start(&w);
    assert_int_equal(call_status, PW_BAD_ARGUMENT);
    assert_int_equal(mh_call_total(w.mh), 0);
}

static void the_end_of_a_filter_cancels_its_calls(void **state) {
    (void)state;
    mt.configure = call_at_start;
    mt.call_response = note_answer;
    mt_start(&w);
    pw_chain_unref(w.chain);
    pw_filter_unref(w.filter);
    w.chain = NULL;
    w.filter = NULL;
    assert_int_equal(mh_call_cancelled(w.mh), 1);
    assert_int_equal(mh_call_count(w.mh), 0);
    assert_int_equal(answered[2], 0);
}

/* ---- gRPC ---- */

static void a_grpc_stream_keeps_what_was_sent_up_to_a_ceiling(void **state) {
    (void)state;
    const pw_host_ops_t *ops = mh_ops();
    const pw_grpc_call_t call = {.token = 6, .upstream = SL_STR("up"), .service = SL_STR("s"), .method = SL_STR("m")};
    void *handle;
    assert_int_equal(ops->grpc_open(w.mh, NULL, &call, &handle), SL_OK);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(ops->grpc_send(w.mh, handle, SL_STR("message")), SL_OK);
    }
    assert_int_equal(ops->grpc_send(w.mh, handle, SL_STR("message")), SL_AGAIN);
    assert_int_equal(mh_grpc_at(w.mh, 0)->n_messages, 64);
    assert_false(mh_grpc_at(w.mh, 0)->finished);
    ops->grpc_finish(w.mh, handle);
    assert_true(mh_grpc_at(w.mh, 0)->finished);
    ops->grpc_cancel(w.mh, handle);
    assert_int_equal(mh_grpc_count(w.mh), 0);
    assert_int_equal(mh_grpc_cancelled(w.mh), 1);
    assert_null(mh_grpc_at(w.mh, 0));
    assert_false(mh_grpc_message(w.mh, 0, SL_STR("x")) || mh_grpc_close(w.mh, 0, 0, SL_STR("")));
}

static void grpc_upstreams_are_those_of_calls_and_can_be_refused(void **state) {
    (void)state;
    const pw_grpc_call_t call = {.upstream = SL_STR("up")};
    void *handle;
    assert_true(mh_upstream_add(w.mh, "other"));
    assert_int_equal(mh_ops()->grpc_open(w.mh, NULL, &call, &handle), SL_NOT_FOUND);
    assert_true(mh_upstream_add(w.mh, "up"));
    mh_calls_refuse(w.mh, SL_FAILED);
    assert_int_equal(mh_ops()->grpc_open(w.mh, NULL, &call, &handle), SL_FAILED);
    assert_int_equal(mh_grpc_count(w.mh), 0);
}

/* ---- queues ---- */

static uint32_t register_queue(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    uint32_t args[] = {mt_text(in, "q"), 1, 0x300};
    mt_call(in, "proxy_register_shared_queue", args, 3);
    ticks = 0;
    return 1;
}

static void items_are_told_once_each_and_later(void **state) {
    (void)state;
    mt.configure = register_queue;
    mt.queue = count_tick;
    mt_start(&w);
    assert_int_equal(mh_queue_push(w.mh, SL_STR("vm"), SL_STR("q"), SL_STR("a")), SL_OK);
    assert_int_equal(mh_queue_push(w.mh, SL_STR("vm"), SL_STR("q"), SL_STR("b")), SL_OK);
    assert_int_equal(ticks, 0);
    assert_true(mh_run(w.mh));
    assert_int_equal(ticks, 2);
}

static void items_for_a_filter_that_has_gone_are_told_to_nobody(void **state) {
    (void)state;
    mt.configure = register_queue;
    mt.queue = count_tick;
    mt_start(&w);
    mh_queue_push(w.mh, SL_STR("vm"), SL_STR("q"), SL_STR("a"));
    pw_chain_unref(w.chain);
    pw_filter_unref(w.filter);
    w.chain = NULL;
    w.filter = NULL;
    assert_true(mh_run(w.mh));
    assert_int_equal(ticks, 0);
}

static uint32_t push_again(sl_instance_t *in, uint32_t ctx, uint32_t queue, uint32_t a2) {
    (void)ctx, (void)a2;
    uint32_t args[] = {queue, mt_text(in, "x"), 1};
    return mt_call(in, "proxy_enqueue_shared_queue", args, 3);
}

static void a_filter_that_wakes_itself_for_ever_is_stopped(void **state) {
    (void)state;
    mt.configure = register_queue;
    mt.queue = push_again;
    mt_start(&w);
    mh_queue_push(w.mh, SL_STR("vm"), SL_STR("q"), SL_STR("a"));
    assert_false(mh_run(w.mh));
}

/* ---- canary ---- */

static uint32_t effects(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    mt_log(in, "starting");
    set_period(in, 1);
    call_status = mt_http_call(in, "cluster", 1);
    return 1;
}

static uint32_t refuse(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    mt_log(in, "I do not like this");
    return 0;
}

static uint32_t trap(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)in, (void)ctx, (void)a1, (void)a2;
    mt.trap = true;
    return 0;
}

static void keep_line(void *ud, uint32_t level, sl_str_t line) {
    (void)level;
    snprintf(ud, 256, "%.*s", SL_FMT(line));
}

static sl_status_t try_filter(char line[256], sl_err_t *err) {
    pw_filter_conf_t conf = {.name = SL_STR("tried"), .module = w.module};
    line[0] = '\0';
    return mh_canary(&conf, NULL, keep_line, line, err);
}

static void the_canary_starts_a_filter_and_performs_nothing(void **state) {
    (void)state;
    char line[256];
    sl_err_t err = {""};
    mt.configure = effects;
    assert_int_equal(try_filter(line, &err), SL_OK);
    assert_int_equal(call_status, PW_OK);
    assert_non_null(strstr(line, "starting"));
}

static void the_canary_says_why_a_filter_does_not_start(void **state) {
    (void)state;
    char line[256];
    sl_err_t err = {""};
    mt.configure = refuse;
    assert_int_equal(try_filter(line, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "tried"));
    assert_non_null(strstr(line, "I do not like this"));
}

static void the_canary_survives_a_trap(void **state) {
    (void)state;
    char line[256];
    sl_err_t err = {""};
    mt.vm_start = trap;
    assert_int_equal(try_filter(line, &err), SL_TRAP);
    assert_non_null(strstr(err.text, "tried"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(the_clock_stands_until_it_is_moved),
        T(a_clock_with_a_step_moves_with_each_reading),
        T(random_numbers_repeat_with_the_seed),
        T(the_log_keeps_the_latest_lines),
        T(the_log_has_a_ceiling_of_bytes),
        T(lines_below_the_level_are_dropped),
        T(ticks_fire_when_they_are_due_and_are_armed_again),
        T(a_tick_can_be_fired_by_hand),
        T(a_tick_that_cancels_itself_is_gone),
        T(the_end_of_a_filter_cancels_its_tick),
        T(a_call_waits_until_the_test_answers_it),
        T(a_call_times_out_with_the_clock),
        T(unknown_upstreams_and_refusal_are_told_to_the_guest),
        T(the_end_of_a_filter_cancels_its_calls),
        T(a_grpc_stream_keeps_what_was_sent_up_to_a_ceiling),
        T(grpc_upstreams_are_those_of_calls_and_can_be_refused),
        T(items_are_told_once_each_and_later),
        T(items_for_a_filter_that_has_gone_are_told_to_nobody),
        T(a_filter_that_wakes_itself_for_ever_is_stopped),
        T(the_canary_starts_a_filter_and_performs_nothing),
        T(the_canary_says_why_a_filter_does_not_start),
        T(the_canary_survives_a_trap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
