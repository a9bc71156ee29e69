#include "mt.h"

static mt_world_t w;
static mh_stream_t *s;

static const pw_pair_t request_headers[] = {MT_PAIR(":method", "POST"), MT_PAIR(":path", "/p"), MT_PAIR(":authority", "a.test")};
static const pw_pair_t response_headers[] = {MT_PAIR(":status", "200"), MT_PAIR("x-up", "u")};
static const pw_pair_t trailers[] = {MT_PAIR("t", "v")};
static const sl_str_t chunks[] = {{"one ", 4}, {"two", 3}};
static const mh_message_t get = {.headers = request_headers, .n_headers = 3};
static const mh_message_t post = {.headers = request_headers, .n_headers = 3, .chunks = chunks, .n_chunks = 2};
static const mh_message_t post_trailers = {
    .headers = request_headers, .n_headers = 3, .chunks = chunks, .n_chunks = 2, .trailers = trailers, .n_trailers = 1};
static const mh_message_t ok = {.headers = response_headers, .n_headers = 2, .chunks = chunks, .n_chunks = 2};
static const mh_message_t ok_trailers = {
    .headers = response_headers, .n_headers = 2, .chunks = chunks, .n_chunks = 2, .trailers = trailers, .n_trailers = 1};

static int setup(void **state) {
    (void)state;
    mt_setup(&w, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    mh_stream_free(s);
    s = NULL;
    mt_teardown(&w);
    return 0;
}

static mh_outcome_t play(const mh_message_t *request, const mh_message_t *response, bool early) {
    mt_start(&w);
    s = mh_stream_new(w.mh, w.chain);
    assert_non_null(s);
    return mh_exchange(s, request, response, early);
}

/* ---- what the guest does ---- */

static uint32_t pause(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)in, (void)ctx, (void)a1, (void)a2;
    return 1;
}

static uint32_t start_ticking(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    uint32_t ms = 10;
    mt_call(in, "proxy_set_tick_period_milliseconds", &ms, 1);
    return 1;
}

static uint32_t resume_request(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    return mt_resume(in, 2, PW_STREAM_REQUEST);
}

static uint32_t resume_response(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    return mt_resume(in, 2, PW_STREAM_RESPONSE);
}

static uint32_t reply_403(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    mt_reply(in, 403, "no");
    return 0;
}

static uint32_t mark_response(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    mt_header_add(in, PW_MAP_RESPONSE_HEADERS, "x-seen", "1");
    return 0;
}

static uint32_t close_stream(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    uint32_t type = PW_STREAM_RESPONSE;
    mt_call(in, "proxy_close_stream", &type, 1);
    return 0;
}

static uint32_t trap(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)in, (void)ctx, (void)a1, (void)a2;
    mt.trap = true;
    return 0;
}

static uint32_t add_trailer(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t eos) {
    (void)ctx, (void)a1;
    if (eos) {
        mt_header_add(in, PW_MAP_REQUEST_TRAILERS, "t", "made");
    }
    return 0;
}

static unsigned logged;
static uint32_t note_log(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)in, (void)ctx, (void)a1, (void)a2;
    return ++logged;
}

/* ---- the tests ---- */

static void a_filter_that_does_nothing_lets_both_messages_pass(void **state) {
    (void)state;
    assert_int_equal(play(&post_trailers, &ok_trailers, false), MH_DONE);
    const mh_sent_t *up = mh_exchange_upstream(s), *down = mh_exchange_downstream(s);
    assert_true(up->headers_sent && up->ended && down->ended);
    assert_str(mh_sent_header(up, ":path"), "/p");
    assert_str(up->body, "one two");
    assert_int_equal(up->n_writes, 2);
    assert_int_equal(up->n_trailers, 1);
    assert_false(up->changed);
    assert_int_equal(mh_exchange_status(s), 200);
    assert_str(down->body, "one two");
    assert_int_equal(down->n_trailers, 1);
    assert_false(mh_exchange_replied(s));
}

static void a_message_without_body_ends_with_its_headers(void **state) {
    (void)state;
    const mh_message_t empty = {.headers = response_headers, .n_headers = 2};
    assert_int_equal(play(&get, &empty, false), MH_DONE);
    assert_true(mh_exchange_upstream(s)->ended);
    assert_int_equal(mh_exchange_upstream(s)->body.len, 0);
}

static void an_end_that_comes_late_is_an_end(void **state) {
    (void)state;
    mh_message_t late_get = get, late_ok = ok;
    late_get.late_end = late_ok.late_end = true;
    assert_int_equal(play(&late_get, &late_ok, false), MH_DONE);
    assert_str(mh_exchange_downstream(s)->body, "one two");
}

static void the_response_waits_for_the_whole_request(void **state) {
    (void)state;
    mt.request_body = pause;
    assert_int_equal(play(&post, &ok, false), MH_PAUSED);
    assert_true(mh_exchange_upstream(s)->headers_sent);
    assert_false(mh_exchange_downstream(s)->headers_sent);
}

static void an_early_response_does_not(void **state) {
    (void)state;
    mt.request_body = pause;
    assert_int_equal(play(&post, &ok, true), MH_DONE);
    assert_int_equal(mh_exchange_status(s), 200);
}

static void a_paused_request_goes_on_when_it_is_resumed(void **state) {
    (void)state;
    mt.configure = start_ticking;
    mt.request_headers = pause;
    mt.tick = resume_request;
    assert_int_equal(play(&post, &ok, false), MH_PAUSED);
    assert_false(mh_exchange_upstream(s)->headers_sent);
    mh_advance(w.mh, 10);
    assert_int_equal(mh_exchange_outcome(s), MH_DONE);
    assert_str(mh_exchange_upstream(s)->body, "one two");
}

static void a_paused_response_goes_on_when_it_is_resumed(void **state) {
    (void)state;
    mt.configure = start_ticking;
    mt.response_body = pause;
    mt.tick = resume_response;
    assert_int_equal(play(&post, &ok, false), MH_PAUSED);
    mh_advance(w.mh, 10);
    assert_int_equal(mh_exchange_outcome(s), MH_DONE);
    assert_str(mh_exchange_downstream(s)->body, "one two");
}

static void a_local_reply_passes_the_response_callbacks(void **state) {
    (void)state;
    mt.request_headers = reply_403;
    mt.response_headers = mark_response;
    assert_int_equal(play(&post, &ok, false), MH_DONE);
    const mh_sent_t *down = mh_exchange_downstream(s);
    assert_false(mh_exchange_upstream(s)->headers_sent);
    assert_true(mh_exchange_replied(s));
    assert_int_equal(mh_exchange_status(s), 403);
    assert_str(down->body, "no");
    assert_str(mh_sent_header(down, "content-length"), "2");
    assert_str(mh_sent_header(down, "content-type"), "text/plain");
    assert_str(mh_sent_header(down, "x-seen"), "1");
}

static void a_local_reply_of_the_response_side_replaces_the_response(void **state) {
    (void)state;
    mt.response_headers = reply_403;
    assert_int_equal(play(&post, &ok, false), MH_DONE);
    assert_int_equal(mh_exchange_status(s), 403);
    assert_null(mh_sent_header(mh_exchange_downstream(s), "x-up").data);
    assert_str(mh_exchange_downstream(s)->body, "no");
}

static void closing_the_stream_is_a_reset(void **state) {
    (void)state;
    mt.response_body = close_stream;
    assert_int_equal(play(&post, &ok, false), MH_RESET);
    assert_true(mh_exchange_downstream(s)->headers_sent);
    assert_false(mh_exchange_downstream(s)->ended);
}

static void a_trap_answers_500_or_resets_what_has_begun(void **state) {
    (void)state;
    mt.request_headers = trap;
    assert_int_equal(play(&post, &ok, false), MH_DONE);
    assert_int_equal(mh_exchange_status(s), 500);
    assert_false(mh_exchange_upstream(s)->headers_sent);
    mh_stream_free(s);
    mt.request_headers = NULL;
    mt.response_body = trap;
    s = mh_stream_new(w.mh, w.chain);
    assert_int_equal(mh_exchange(s, &post, &ok, false), MH_RESET);
}

static void trailers_that_a_filter_makes_are_sent(void **state) {
    (void)state;
    mt.request_body = add_trailer;
    assert_int_equal(play(&post, &ok, false), MH_DONE);
    assert_int_equal(mh_exchange_upstream(s)->n_trailers, 1);
    assert_str(mh_exchange_upstream(s)->trailers[0].value, "made");
}

static void a_message_that_cannot_carry_trailers_gets_none(void **state) {
    (void)state;
    mt.request_body = add_trailer;
    mt_start(&w);
    s = mh_stream_new(w.mh, w.chain);
    mh_map_creatable(s, PW_MAP_REQUEST_TRAILERS, false);
    assert_int_equal(mh_exchange(s, &post, &ok, false), MH_DONE);
    assert_int_equal(mh_exchange_upstream(s)->n_trailers, 0);
}

static void a_client_that_goes_ends_a_paused_exchange(void **state) {
    (void)state;
    logged = 0;
    mt.request_headers = pause;
    mt.log = note_log;
    assert_int_equal(play(&post, &ok, false), MH_PAUSED);
    mh_exchange_client_gone(s);
    assert_int_equal(mh_exchange_outcome(s), MH_RESET);
    mh_stream_free(s);
    s = NULL;
    assert_int_equal(logged, 1);
}

static void streams_run_beside_each_other(void **state) {
    (void)state;
    mt.configure = start_ticking;
    mt.request_headers = pause;
    mt.tick = resume_request;
    assert_int_equal(play(&post, &ok, false), MH_PAUSED);
    mh_stream_t *other = mh_stream_new(w.mh, w.chain);
    assert_int_equal(mh_exchange(other, &post, &ok, false), MH_PAUSED);
    assert_int_not_equal(mh_stream_id(s), mh_stream_id(other));
    mh_advance(w.mh, 10);
    assert_int_equal(mh_exchange_outcome(s), MH_DONE);
    assert_int_equal(mh_exchange_outcome(other), MH_PAUSED);
    mh_stream_free(other);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_filter_that_does_nothing_lets_both_messages_pass),
        T(a_message_without_body_ends_with_its_headers),
        T(an_end_that_comes_late_is_an_end),
        T(the_response_waits_for_the_whole_request),
        T(an_early_response_does_not),
        T(a_paused_request_goes_on_when_it_is_resumed),
        T(a_paused_response_goes_on_when_it_is_resumed),
        T(a_local_reply_passes_the_response_callbacks),
        T(a_local_reply_of_the_response_side_replaces_the_response),
        T(closing_the_stream_is_a_reset),
        T(a_trap_answers_500_or_resets_what_has_begun),
        T(trailers_that_a_filter_makes_are_sent),
        T(a_message_that_cannot_carry_trailers_gets_none),
        T(a_client_that_goes_ends_a_paused_exchange),
        T(streams_run_beside_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
