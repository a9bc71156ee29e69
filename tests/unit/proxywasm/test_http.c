/* HTTP calls out, and what happens when memory runs out. */
#include "fail_alloc.h"
#include "pt.h"

static uint32_t token;
static pw_stream_t *stream;
static const char *const get[] = {":method", "GET", ":path", "/", NULL};

static uint32_t call_and_wait(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx;
    (void)a1;
    (void)a2;
    pt_trace(t, "call:%u ", guest_http_call(t, &token));
    return PW_HEADERS_STOP;
}

static uint32_t on_response(pt_t *t, uint32_t root, uint32_t got, uint32_t n_headers) {
    sl_str_t v, body;
    uint32_t at = guest_room(t, 12);
    pt_trace(t, "response(%u,%s,%u,%u,%u) ", root, got == token ? "mine" : "other", n_headers, t->call5[3], t->call5[4]);
    pt_trace(t, "status:%u ", guest_header(t, 6, ":status", &v));
    pt_trace(t, "%.*s ", SL_FMT(v));
    pt_trace(t, "body:%u ", guest_get_body(t, 4, 0, 9, &body));
    pt_trace(t, "%.*s ", SL_FMT(body));
    pt_trace(t, "trailer:%u ", guest_header(t, 7, "t", &v));
    pt_trace(t, "write:%u ", guest_edit(t, "proxy_add_header_map_value", 6, "a", "b"));
    guest_call(t, "proxy_get_status", at, at + 4, at + 8);
    pt_trace(t, "last:%u ", guest_u32(t, at));
    pt_trace(t, "effective:%u ", guest_call(t, "proxy_set_effective_context", 2));
    guest_continue(t, 0);
    return 0;
}

static pt_t *call_new(sl_dialect_t dialect) {
    pt_t *t = pt_new(&(pw_limits_t){.calls_per_stream = 2});
    sl_err_t err;
    pw_out_t out;
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.opts.dialect = dialect}, &err), SL_OK);
    pt_chain(t, NULL);
    t->on[PW_CB_REQUEST_HEADERS] = call_and_wait;
    t->on[PW_CB_HTTP_CALL_RESPONSE] = on_response;
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    stream = pw_stream_new(t->worker, t->chain, t);
    assert_int_equal(pw_stream_headers(stream, PW_DIR_REQUEST, true, &out), PW_WAIT);
    return t;
}

static const pw_call_response_t answer = {
    .headers = (const pw_pair_t[]){{{":status", 7}, {"204", 3}}},
    .n_headers = 1,
    .body = {"hello", 5},
    .trailers = (const pw_pair_t[]){{{"t", 1}, {"1", 1}}},
    .n_trailers = 1,
};

static void an_answer_comes_to_the_root_and_may_resume_the_stream(void **state) {
    (void)state;
    pt_t *t = call_new(SL_DIALECT_ENVOY);
    pw_out_t out;
    assert_int_equal(t->n_calls, 1);
    assert_int_equal(t->calls[0].token, token);
    assert_int_equal(token, 4);
    assert_string_equal(t->calls[0].upstream, "up");
    assert_string_equal(t->calls[0].method, "GET");
    assert_int_equal(t->calls[0].timeout_ms, 1000);
    assert_true(t->calls[0].with_stream);
    pt_answer(t, 0, &answer);
    assert_string_equal(t->trace, "call:0 response(1,mine,1,5,1) status:0 204 body:0 hello trailer:0 write:2 last:0 effective:0 ");
    assert_int_equal(t->wakes[PW_DIR_REQUEST], 1);
    assert_int_equal(pw_stream_resume(stream, PW_DIR_REQUEST, &out), PW_CONTINUE);
    assert_true(out.headers && out.eos);
    pw_http_call_done(t->calls[0].root, token, &answer); /* once only */
    assert_int_equal(pw_worker_stats(t->worker).calls_dropped, 1);
    pw_stream_free(stream);
    pt_free(t);
}

static void a_call_that_fails_has_no_headers_and_a_status(void **state) {
    (void)state;
    pt_t *t = call_new(SL_DIALECT_ENVOY);
    pt_answer(t, 0, &(pw_call_response_t){.failed = true, .failure = "timeout"});
    assert_string_equal(t->trace, "call:0 response(1,mine,0,0,0) status:2  body:1  trailer:2 write:2 last:11 effective:0 ");
    pw_stream_free(stream);
    pt_free(t);
}

static void in_wasmx_the_request_goes_on_by_itself(void **state) {
    (void)state;
    pt_t *t = call_new(SL_DIALECT_WASMX);
    pw_out_t out;
    t->on[PW_CB_HTTP_CALL_RESPONSE] = NULL;
    pt_answer(t, 0, &answer);
    assert_int_equal(t->wakes[PW_DIR_REQUEST], 1);
    assert_int_equal(pw_stream_resume(stream, PW_DIR_REQUEST, &out), PW_CONTINUE);
    pw_stream_free(stream);
    pt_free(t);
}

static void the_answer_for_a_stream_that_has_gone_still_comes(void **state) {
    (void)state;
    for (int detach = 0; detach < 2; detach++) {
        pt_t *t = call_new(SL_DIALECT_ENVOY);
        t->detach = detach;
        pw_stream_free(stream);
        assert_int_equal(t->cancelled, !detach);
        if (detach) {
            pt_answer(t, 0, &answer);
        }
        assert_non_null(strstr(t->trace, detach ? "response(1,mine,1,5,1)" : "response(1,mine,0,0,0)"));
        assert_non_null(strstr(t->trace, "effective:2"));
        pt_free(t);
    }
}

static void calls_are_cancelled_when_the_root_goes(void **state) {
    (void)state;
    pt_t *t = call_new(SL_DIALECT_ENVOY);
    t->detach = true;
    pw_stream_free(stream);
    pt_free(t); /* asserts in http_call_cancel and leaves nothing */
}

static uint32_t call_at_log(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx;
    (void)a1;
    (void)a2;
    pt_trace(t, "call:%u ", guest_http_call(t, &token));
    return 1;
}

static void a_call_from_the_log_callback_outlives_the_stream(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pt_filters(t, 1);
    t->on[PW_CB_LOG] = call_at_log;
    t->on[PW_CB_HTTP_CALL_RESPONSE] = on_response;
    pw_stream_free(pw_stream_new(t->worker, t->chain, t));
    assert_int_equal(t->n_calls, 1);
    assert_false(t->calls[0].with_stream);
    assert_int_equal(t->cancelled, 0);
    pt_answer(t, 0, &answer);
    assert_non_null(strstr(t->trace, "response(1,mine"));
    pt_free(t);
}

static uint32_t bad_calls(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    static const char no_path[] = "\1\0\0\0\7\0\0\0\3\0\0\0:method\0GET";
    uint32_t at = guest_room(t, 4), up = guest_put(t, "up", 2), pairs = guest_put(t, no_path, sizeof(no_path));
    (void)ctx;
    (void)a1;
    (void)a2;
    assert_int_equal(guest_call(t, "proxy_http_call", up, 2, pairs, sizeof(no_path), 0, 0, 0, 0, 10, at), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_http_call", up, 2, 0, 0, 0, 0, 0, 0, 10, at), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_http_call", up, UINT32_MAX, 0, 0, 0, 0, 0, 0, 10, at), PW_INVALID_MEMORY_ACCESS);
    assert_int_equal(guest_call(t, "proxy_http_call", up, 2, 0, 0, 0, 0, 0, 0, 10, UINT32_MAX), PW_INVALID_MEMORY_ACCESS);
    t->call_status = SL_NOT_FOUND;
    assert_int_equal(guest_http_call(t, &token), PW_BAD_ARGUMENT);
    assert_int_equal(token, 0);
    t->call_status = SL_FAILED;
    assert_int_equal(guest_http_call(t, &token), PW_INTERNAL_FAILURE);
    t->call_status = SL_OK;
    assert_int_equal(guest_http_call(t, &token), PW_OK);
    assert_int_equal(guest_http_call(t, &token), PW_OK);
    assert_int_equal(guest_http_call(t, &token), PW_INTERNAL_FAILURE); /* two in flight are the limit here */
    return 0;
}

static void calls_that_cannot_be_made_answer_a_status(void **state) {
    (void)state;
    pt_t *t = pt_new(&(pw_limits_t){.calls_per_stream = 2});
    pw_out_t out;
    pt_filters(t, 1);
    t->on[PW_CB_REQUEST_HEADERS] = bad_calls;
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    stream = pw_stream_new(t->worker, t->chain, t);
    pw_stream_headers(stream, PW_DIR_REQUEST, true, &out);
    assert_false(t->host_trapped);
    pw_stream_free(stream);
    pt_free(t);
}

/* ---- memory ---- */

static uint32_t busy_headers(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx;
    (void)a1;
    (void)a2;
    uint32_t at = guest_room(t, 8);
    guest_http_call(t, &token);
    guest_call(t, "proxy_set_property", guest_put(t, "a", 1), 1, guest_put(t, "b", 1), 1);
    guest_call(t, "proxy_get_header_map_pairs", 0, at, at + 4);
    return 0;
}

static uint32_t busy_body(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t eos) {
    (void)ctx;
    (void)a1;
    guest_set_body(t, 0, 0, 0, "more");
    if (eos) {
        guest_reply(t, 200, "x");
    }
    return 1;
}

static void each_allocation_may_fail(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_out_t out;
    pt_filters(t, 2);
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    t->on[PW_CB_REQUEST_HEADERS] = busy_headers;
    t->on[PW_CB_REQUEST_BODY] = busy_body;
    unsigned nth = 0, seen;
    do {
        nth++;
        fail_alloc_at(nth);
        stream = pw_stream_new(t->worker, t->chain, t);
        if (stream != NULL) {
            pw_stream_headers(stream, PW_DIR_REQUEST, false, &out);
            pw_stream_body(stream, PW_DIR_REQUEST, &SL_STR("ab"), 1, false, &out);
            pw_stream_body(stream, PW_DIR_REQUEST, &SL_STR("cd"), 1, true, &out);
            pw_stream_free(stream);
        }
        seen = fail_alloc_seen();
        fail_alloc_at(0);
    } while (nth <= seen); /* until the nth is never asked for */
    assert_true(nth > 6);
    pt_free(t);
}

static void starting_a_filter_without_memory_is_an_error(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    pw_filter_conf_t conf = {.module = pt_module(t, &(pt_guest_t){.name = "full", .callbacks = PT_ALL}), .name = SL_STR("x")};
    sl_err_t err;
    pw_filter_t *f;
    for (unsigned nth = 1;; nth++) {
        fail_alloc_at(nth);
        sl_status_t rc = pw_filter_new(t->worker, &conf, &f, &err);
        unsigned seen = fail_alloc_seen();
        fail_alloc_at(0);
        if (rc == SL_OK) {
            pw_filter_unref(f);
        }
        if (nth > seen) {
            assert_true(nth > 5);
            break;
        }
    }
    pt_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_comes_to_the_root_and_may_resume_the_stream),
        cmocka_unit_test(a_call_that_fails_has_no_headers_and_a_status),
        cmocka_unit_test(in_wasmx_the_request_goes_on_by_itself),
        cmocka_unit_test(the_answer_for_a_stream_that_has_gone_still_comes),
        cmocka_unit_test(calls_are_cancelled_when_the_root_goes),
        cmocka_unit_test(a_call_from_the_log_callback_outlives_the_stream),
        cmocka_unit_test(calls_that_cannot_be_made_answer_a_status),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(starting_a_filter_without_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
