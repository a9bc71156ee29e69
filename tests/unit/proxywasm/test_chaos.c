/*
 * Guests and proxy that do anything at any time: trap, answer, close, call out, resume what does not wait, end in the middle. What is
 * looked for are crashes, leaks (the sanitizers see them) and broken promises of pw.h: headers and end at most once, no bytes before
 * headers, a reason with each verdict, no callback in an instance that has trapped.
 */
#include "pt.h"

#include <stdio.h>
#include <stdlib.h>

enum { STREAMS = 4 };

typedef struct {
    pw_stream_t *s;
    bool fed[2], ended[2]; /* the proxy gave headers, the end */
    bool headers[2], eos[2], over[2];
    bool logged;
} side_t;

static side_t sides[STREAMS];
static uint64_t rng;

static uint32_t dice(uint32_t n) {
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 11) % n);
}

static uint32_t act(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    sl_str_t v;
    uint32_t token;
    (void)a1;
    (void)a2;
    if (dice(3) == 0) {
        guest_call(t, "proxy_set_effective_context", 1 + dice(12));
    }
    for (uint32_t n = dice(4); n != 0 && !t->host_trapped; n--) {
        switch (dice(13)) {
        case 0:
            guest_reply(t, 200 + dice(300), "reply");
            break;
        case 1:
            if (dice(4) == 0) {
                guest_call(t, "proxy_close_stream", dice(4));
            }
            break;
        case 2:
        case 3:
        case 4:
            guest_continue(t, dice(2));
            break;
        case 5:
            guest_http_call(t, &token);
            break;
        case 6:
            guest_set_body(t, dice(2), dice(8), dice(8), "changed");
            break;
        case 7:
            guest_get_body(t, dice(9), 0, UINT32_MAX, &v);
            break;
        case 8:
            guest_edit(t, "proxy_replace_header_map_value", dice(4), "x-a", "b");
            break;
        case 9:
            guest_header(t, dice(8), "x-a", &v);
            break;
        case 10:
            guest_call(t, "proxy_set_tick_period_milliseconds", dice(3));
            break;
        case 11:
            guest_call_n(t, "proxy_done", 0, NULL);
            break;
        default:
            guest_call(t, "proxy_set_property", guest_put(t, "k", 1), 1, guest_put(t, "value", 5), dice(6));
            break;
        }
    }
    if (dice(40) == 0) {
        t->trap = "chaos";
    }
    (void)ctx;
    return dice(2) == 0 ? 0 : dice(6);
}

static uint32_t act_and_agree(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    if (dice(4) == 0) {
        act(t, ctx, a1, a2);
    }
    return 1 - (dice(20) == 0);
}

static void take(side_t *side, pw_dir_t dir, pw_verdict_t v, const pw_out_t *out) {
    assert_false(out->input && out->data.len != 0);
    if (out->headers) {
        assert_false(side->headers[dir]);
        side->headers[dir] = true;
    }
    if (out->data.len != 0 || out->eos || out->trailers) {
        assert_true(side->headers[dir]);
        volatile char last = out->data.len != 0 ? out->data.data[out->data.len - 1] : 0; /* the sanitizer looks at it */
        (void)last;
    }
    if (out->eos) {
        assert_false(side->eos[dir]);
        side->eos[dir] = true;
    }
    switch (v) {
    case PW_REPLY:
        assert_non_null(pw_stream_reply(side->s));
        assert_int_equal(pw_stream_reply(side->s)->n_headers, 1);
        break;
    case PW_FAIL:
        assert_true(pw_stream_failure(side->s) == 500 || pw_stream_failure(side->s) == 413 || pw_stream_failure(side->s) == 502 ||
                    (pw_stream_failure(side->s) == 503 && pw_stream_retry_after(side->s) > 0));
        break;
    case PW_CONTINUE:
    case PW_WAIT:
        return;
    case PW_RESET:
        break;
    }
    assert_true(!out->headers && out->data.len == 0 && !out->eos);
    side->over[dir] = true;
    assert_false(pw_stream_paused(side->s, dir));
    if (v == PW_RESET) {
        side->over[0] = side->over[1] = true;
    }
}

static void feed(pt_t *t, side_t *side, pw_dir_t dir) {
    static const char *const headers[] = {":method", "GET", "x-a", "1", NULL};
    pw_out_t out;
    pw_verdict_t v;
    bool eos = dice(4) == 0;
    if (side->ended[dir] || side->over[dir]) {
        return;
    }
    if (!side->fed[dir]) {
        side->fed[dir] = true;
        side->ended[dir] = eos;
        pt_map(t, dir == PW_DIR_REQUEST ? PW_MAP_REQUEST_HEADERS : PW_MAP_RESPONSE_HEADERS, headers);
        v = pw_stream_headers(side->s, dir, eos, &out);
    } else if (dice(6) == 0) {
        side->ended[dir] = true;
        pt_map(t, dir == PW_DIR_REQUEST ? PW_MAP_REQUEST_TRAILERS : PW_MAP_RESPONSE_TRAILERS, headers);
        v = pw_stream_trailers(side->s, dir, &out);
    } else {
        char text[32];
        memset(text, 'x', sizeof(text));
        side->ended[dir] = eos;
        sl_str_t segs[2] = {sl_str(text, dice(12)), sl_str(text, dice(12))};
        v = pw_stream_body(side->s, dir, segs, dice(3), eos, &out);
    }
    take(side, dir, v, &out);
}

static void answer_a_call(pt_t *t) {
    size_t i = dice(PT_MAX_CALLS);
    if (t->calls[i].live) {
        pt_answer(t, i, &(pw_call_response_t){.failed = dice(2) == 0, .body = SL_STR("answer")});
    }
}

static void event(pt_t *t, side_t *side) {
    pw_dir_t dir = dice(2) ? PW_DIR_RESPONSE : PW_DIR_REQUEST;
    pw_out_t out;
    if (side->s == NULL) {
        *side = (side_t){.s = pw_stream_new(t->worker, t->chain, t)};
        assert_non_null(side->s);
        return;
    }
    switch (dice(12)) {
    case 0:
        t->detach = dice(2) == 0;
        pw_stream_free(side->s);
        side->s = NULL;
        break;
    case 1:
        if (dice(4) == 0) {
            pw_stream_abort_request(side->s);
            side->over[PW_DIR_REQUEST] = true;
        }
        break;
    case 2:
        if (dice(4) == 0) {
            pw_stream_log(side->s);
            side->over[0] = side->over[1] = true;
        }
        break;
    case 3:
        pw_root_tick(t->filters[dice((uint32_t)t->n_filters)]->root);
        break;
    case 4:
        answer_a_call(t);
        break;
    case 5:
    case 6:
        if (!side->over[dir] && side->fed[dir]) {
            take(side, dir, pw_stream_resume(side->s, dir, &out), &out);
        }
        break;
    default:
        feed(t, side, dir);
        break;
    }
}

static void chaos(uint64_t seed) {
    rng = seed * 0x9e3779b97f4a7c15u + 7;
    pt_t *t = pt_new(&(pw_limits_t){.body_buffer_bytes = 64, .log_line_bytes = 128});
    sl_err_t err;
    memset(sides, 0, sizeof(sides));
    size_t n = 1 + dice(6);
    static const char *const ids[] = {"a", "b"};
    for (size_t i = 0; i < n; i++) {
        pw_filter_conf_t conf = {.opts.vm_id = sl_cstr(ids[dice(2)]),
                                 .opts.headers_stop_iteration = dice(2) == 0,
                                 .opts.fail = (uint8_t)(dice(2) == 0 ? dice(3) : SL_FAIL_CLOSED),
                                 .opts.breaker_traps = 1 + dice(4),
                                 .opts.dialect = dice(4) == 0 ? SL_DIALECT_WASMX : SL_DIALECT_ENVOY};
        assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    }
    pt_chain(t, &(pw_chain_conf_t){.reverse_response = dice(2) == 0, .pass_over_limit = dice(3) == 0});
    for (int cb = 0; cb < PW_CB_N; cb++) {
        t->on[cb] = act;
    }
    t->on[PW_CB_VM_START] = t->on[PW_CB_CONFIGURE] = act_and_agree;
    t->on[PW_CB_CONTEXT_CREATE] = dice(2) == 0 ? act_and_agree : NULL;
    t->log_level = PW_LOG_OFF;
    for (uint32_t events = 20 + dice(80); events != 0; events--) {
        t->now_ns += dice(3) * 400000000u;
        /* a filter whose root could not be started again has none */
        for (size_t i = 0; i < t->n_filters; i++) {
            while (t->filters[i]->root == NULL) {
                t->now_ns += PW_RESTART_NS;
                pw_filter_root(t->filters[i]);
            }
        }
        event(t, &sides[dice(STREAMS)]);
    }
    for (size_t i = 0; i < STREAMS; i++) {
        pw_stream_free(sides[i].s);
    }
    pt_free(t);
}

static void nothing_breaks_whatever_guests_and_proxy_do(void **state) {
    (void)state;
    const char *one = getenv("CHAOS_CASE"), *many = getenv("CHAOS_CASES");
    if (one != NULL) {
        chaos(strtoul(one, NULL, 10));
        return;
    }
    uint64_t n = many != NULL ? strtoul(many, NULL, 10) : 1000;
    for (uint64_t seed = 1; seed <= n; seed++) {
        chaos(seed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_breaks_whatever_guests_and_proxy_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
