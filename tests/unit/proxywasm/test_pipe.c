/* Pause, resume, buffering and change of messages through several filters. */
#include "pt.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const headers[] = {":method", "POST", ":path", "/", NULL};
static const char *const trailers[] = {"t", "1", NULL};

/* What has gone on so far. */
typedef struct {
    bool headers, eos, trailers, changed;
    size_t n_out; /* calls that let something go on */
    char body[8192];
    size_t len;
} seen_t;

static seen_t seen;
static pw_stream_t *stream;

static void take(const pw_out_t *out, const sl_str_t *segs, size_t n) {
    if (out->headers) {
        assert_false(seen.headers);
        seen.headers = true;
    }
    assert_false(out->input && out->data.len != 0);
    for (size_t i = 0; out->input && i < n; i++) {
        memcpy(seen.body + seen.len, segs[i].data, segs[i].len);
        seen.len += segs[i].len;
    }
    if (out->data.len != 0) {
        assert_true(seen.len + out->data.len <= sizeof(seen.body));
        memcpy(seen.body + seen.len, out->data.data, out->data.len);
        seen.len += out->data.len;
    }
    assert_true(seen.headers || seen.len == 0);
    if (out->eos) {
        assert_false(seen.eos);
        seen.eos = true;
    }
    seen.trailers |= out->trailers;
    seen.changed |= out->changed;
    seen.n_out += out->headers || out->input || out->data.len != 0 || out->eos;
}

static pw_verdict_t give_headers(pw_dir_t dir, bool eos) {
    pw_out_t out;
    pw_verdict_t v = pw_stream_headers(stream, dir, eos, &out);
    take(&out, NULL, 0);
    return v;
}

static pw_verdict_t give_body(pw_dir_t dir, const char *text, bool eos) {
    pw_out_t out;
    sl_str_t piece = sl_cstr(text);
    pw_verdict_t v = pw_stream_body(stream, dir, &piece, 1, eos, &out);
    take(&out, &piece, 1);
    return v;
}

static pw_verdict_t give_trailers(pt_t *t, pw_dir_t dir) {
    pw_out_t out;
    pt_map(t, dir == PW_DIR_REQUEST ? PW_MAP_REQUEST_TRAILERS : PW_MAP_RESPONSE_TRAILERS, trailers);
    pw_verdict_t v = pw_stream_trailers(stream, dir, &out);
    take(&out, NULL, 0);
    return v;
}

static pw_verdict_t resume(pw_dir_t dir) {
    pw_out_t out;
    pw_verdict_t v = pw_stream_resume(stream, dir, &out);
    take(&out, NULL, 0);
    return v;
}

static void start(pt_t *t) {
    seen = (seen_t){0};
    pt_map(t, PW_MAP_REQUEST_HEADERS, headers);
    pt_map(t, PW_MAP_RESPONSE_HEADERS, headers);
    stream = pw_stream_new(t->worker, t->chain, t);
    assert_non_null(stream);
}

#define assert_body(text)                                                                                                                  \
    do {                                                                                                                                   \
        assert_int_equal(seen.len, strlen(text));                                                                                          \
        assert_memory_equal(seen.body, text, strlen(text));                                                                                \
    } while (0)

/* ---- a guest that does what a table says ---- */

typedef struct {
    uint32_t headers, trailers;
    uint32_t body[8]; /* actions of successive body callbacks; the last one stays */
    size_t n_body, at;
    bool resumes;     /* continue_stream from inside each callback */
    const char *set;  /* replaces the body, if not NULL */
    const char *make; /* in the headers callback: a body for a message without one */
    const char *make_trailer;
    size_t n_headers_cb, n_trailers_cb;
} plan_t;

static plan_t plans[PT_MAX_FILTERS];

static uint32_t type_of(pt_t *t, uint32_t ctx) {
    (void)ctx;
    return t->ud != NULL ? PW_STREAM_RESPONSE : PW_STREAM_REQUEST;
}

static uint32_t plan_headers(pt_t *t, uint32_t ctx, uint32_t n, uint32_t eos) {
    plan_t *p = &plans[pt_index(t, ctx)];
    pt_trace(t, "H%zu(%u,%u) ", pt_index(t, ctx), n, eos);
    p->n_headers_cb++;
    if (p->make != NULL) {
        assert_int_equal(guest_set_body(t, type_of(t, ctx), 0, UINT32_MAX, p->make), PW_OK);
    }
    if (p->resumes) {
        guest_continue(t, type_of(t, ctx));
    }
    return p->headers;
}

static uint32_t plan_body(pt_t *t, uint32_t ctx, uint32_t size, uint32_t eos) {
    plan_t *p = &plans[pt_index(t, ctx)];
    sl_str_t body;
    assert_int_equal(guest_get_body(t, type_of(t, ctx), 0, UINT32_MAX, &body), PW_OK);
    assert_int_equal(body.len, size);
    pt_trace(t, "B%zu(%.*s,%u) ", pt_index(t, ctx), SL_FMT(body), eos);
    if (p->set != NULL) {
        assert_int_equal(guest_set_body(t, type_of(t, ctx), 0, UINT32_MAX, p->set), PW_OK);
    }
    if (eos && p->make_trailer != NULL) {
        uint32_t map = t->ud != NULL ? PW_MAP_RESPONSE_TRAILERS : PW_MAP_REQUEST_TRAILERS;
        assert_int_equal(guest_edit(t, "proxy_add_header_map_value", map, p->make_trailer, "made"), PW_OK);
    }
    if (p->resumes) {
        guest_continue(t, type_of(t, ctx));
    }
    uint32_t action = p->n_body != 0 ? p->body[p->at] : 0;
    p->at += p->at + 1 < p->n_body;
    return action;
}

static uint32_t plan_trailers(pt_t *t, uint32_t ctx, uint32_t n, uint32_t a2) {
    (void)a2;
    plan_t *p = &plans[pt_index(t, ctx)];
    pt_trace(t, "T%zu(%u) ", pt_index(t, ctx), n);
    p->n_trailers_cb++;
    return p->trailers;
}

/* On a tick of filter i's root: resumes the stream of that filter. */
static uint32_t tick_ctx;
static uint32_t plan_tick(pt_t *t, uint32_t root, uint32_t a1, uint32_t a2) {
    (void)root;
    (void)a1;
    (void)a2;
    assert_int_equal(guest_call(t, "proxy_set_effective_context", tick_ctx), PW_OK);
    assert_int_equal(guest_continue(t, type_of(t, tick_ctx)), PW_OK);
    return 0;
}

static pt_t *plan_new(size_t n) {
    pt_t *t = pt_new(&(pw_limits_t){.body_buffer_bytes = 16});
    memset(plans, 0, sizeof(plans));
    pt_filters(t, n);
    t->on[PW_CB_REQUEST_HEADERS] = t->on[PW_CB_RESPONSE_HEADERS] = plan_headers;
    t->on[PW_CB_REQUEST_BODY] = t->on[PW_CB_RESPONSE_BODY] = plan_body;
    t->on[PW_CB_REQUEST_TRAILERS] = t->on[PW_CB_RESPONSE_TRAILERS] = plan_trailers;
    t->on[PW_CB_TICK] = plan_tick;
    return t;
}

static void plan_end(pt_t *t) {
    pw_stream_free(stream);
    pt_free(t);
}

/* Tells filter i to resume its stream, then does what the proxy does when it has been woken. */
static pw_verdict_t tick_resume(pt_t *t, size_t i, pw_dir_t dir) {
    uint32_t before = t->wakes[dir];
    tick_ctx = stream->at[i].ctx.node.id;
    pw_root_tick(t->filters[i]->root);
    return t->wakes[dir] != before ? resume(dir) : PW_WAIT;
}

#define REQ PW_DIR_REQUEST

static void a_body_that_nobody_holds_is_not_copied(void **state) {
    (void)state;
    pt_t *t = plan_new(3);
    pw_out_t out;
    start(t);
    give_headers(REQ, false);
    sl_str_t segs[2] = {SL_STR("ab"), SL_STR("cd")};
    assert_int_equal(pw_stream_body(stream, REQ, segs, 2, false, &out), PW_CONTINUE);
    assert_true(out.input && !out.changed && !out.eos);
    assert_int_equal(pw_stream_body(stream, REQ, NULL, 0, true, &out), PW_CONTINUE);
    assert_true(out.eos && out.data.len == 0);
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) H2(2,0) B0(abcd,0) B1(abcd,0) B2(abcd,0) B0(,1) B1(,1) B2(,1) ");
    plan_end(t);
}

/* ---- bodies for messages without one ---- */

static bool may_make(void *s, pw_dir_t dir) {
    (void)s;
    (void)dir;
    return true;
}

static pt_t *maker_new(size_t n, size_t maker) {
    pt_t *t = plan_new(n);
    static pw_host_ops_t ops;
    ops = *t->worker->ops;
    ops.may_make_body = may_make;
    t->worker->ops = &ops;
    plans[maker].make = "made";
    return t;
}

static void a_made_body_is_shown_to_the_filters_behind_its_maker(void **state) {
    (void)state;
    pt_t *t = maker_new(3, 1);
    start(t);
    assert_int_equal(give_headers(REQ, true), PW_CONTINUE);
    assert_string_equal(t->trace, "H0(2,1) H1(2,1) H2(2,0) B2(made,1) ");
    assert_true(seen.headers && seen.eos && seen.changed);
    assert_body("made");
    plan_end(t);
}

static void a_made_body_waits_with_the_headers_of_its_maker(void **state) {
    (void)state;
    pt_t *t = maker_new(2, 0);
    plans[0].headers = PW_HEADERS_STOP;
    start(t);
    assert_int_equal(give_headers(REQ, true), PW_WAIT);
    assert_false(pw_stream_wants_body(stream, REQ));
    assert_int_equal(tick_resume(t, 0, REQ), PW_CONTINUE);
    assert_string_equal(t->trace, "H0(2,1) H1(2,0) B1(made,1) ");
    assert_body("made");
    plan_end(t);
}

static void a_made_body_may_be_held_behind_its_maker(void **state) {
    (void)state;
    pt_t *t = maker_new(3, 0);
    plans[1].headers = PW_HEADERS_STOP;
    plans[2].body[0] = PW_BODY_STOP_BUFFER;
    plans[2].n_body = 1;
    start(t);
    assert_int_equal(give_headers(REQ, true), PW_WAIT);
    assert_string_equal(t->trace, "H0(2,1) H1(2,0) ");
    assert_int_equal(tick_resume(t, 1, REQ), PW_CONTINUE);
    assert_string_equal(t->trace, "H0(2,1) H1(2,0) H2(2,0) B1(made,1) B2(made,1) ");
    assert_true(seen.headers && !seen.eos && seen.len == 0);
    assert_int_equal(tick_resume(t, 2, REQ), PW_CONTINUE);
    assert_true(seen.eos);
    assert_body("made");
    plan_end(t);
}

static void two_filters_cannot_both_make_a_body_but_the_second_may_edit(void **state) {
    (void)state;
    pt_t *t = maker_new(2, 0);
    plans[1].set = "edited";
    start(t);
    assert_int_equal(give_headers(REQ, true), PW_CONTINUE);
    assert_string_equal(t->trace, "H0(2,1) H1(2,0) B1(made,1) ");
    assert_body("edited");
    plan_end(t);
}

static void every_filter_of_wasmx_sees_a_made_body(void **state) {
    (void)state;
    pt_t *t = maker_new(3, 1);
    for (size_t i = 0; i < 3; i++) {
        t->filters[i]->conf.opts.dialect = SL_DIALECT_WASMX;
    }
    start(t);
    assert_int_equal(give_headers(REQ, true), PW_CONTINUE);
    assert_string_equal(t->trace, "H0(0,0) H1(0,0) H2(0,0) B0(made,1) B1(made,1) B2(made,1) ");
    assert_true(seen.headers && seen.eos);
    assert_body("made");
    plan_end(t);
}

static void a_made_body_takes_the_place_of_the_clients_in_wasmx(void **state) {
    (void)state;
    pt_t *t = maker_new(1, 0);
    t->filters[0]->conf.opts.dialect = SL_DIALECT_WASMX;
    start(t);
    assert_int_equal(give_headers(REQ, false), PW_CONTINUE);
    assert_true(seen.eos);
    assert_false(pw_stream_wants_body(stream, REQ));
    give_body(REQ, "of the client", true);
    assert_body("made");
    plan_end(t);
}

static void pause_in_headers_stops_everything_until_it_is_resumed(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    plans[0].headers = PW_HEADERS_STOP;
    start(t);
    assert_int_equal(give_headers(REQ, false), PW_WAIT);
    assert_true(pw_stream_paused(stream, REQ));
    assert_false(pw_stream_wants_body(stream, REQ));
    assert_int_equal(give_body(REQ, "early", true), PW_WAIT);
    assert_string_equal(t->trace, "H0(2,0) ");
    assert_int_equal(tick_resume(t, 0, REQ), PW_CONTINUE);
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) B0(early,1) B1(early,1) ");
    assert_true(seen.headers && seen.eos);
    assert_body("early");
    plan_end(t);
}

static void stop_all_and_buffer_reads_the_body_meanwhile(void **state) {
    (void)state;
    pt_t *t = plan_new(1);
    plans[0].headers = PW_HEADERS_STOP_ALL_BUFFER;
    start(t);
    assert_int_equal(give_headers(REQ, false), PW_WAIT);
    assert_true(pw_stream_wants_body(stream, REQ));
    give_body(REQ, "0123456789", false);
    assert_int_equal(give_body(REQ, "0123456789", false), PW_FAIL);
    assert_int_equal(pw_stream_failure(stream), 413);
    plan_end(t);
}

static void unknown_values_of_headers_and_body_stop(void **state) {
    (void)state;
    pt_t *t = plan_new(1);
    plans[0].headers = 77;
    plans[0].body[0] = 99;
    plans[0].n_body = 1;
    start(t);
    assert_int_equal(give_headers(REQ, false), PW_WAIT);
    assert_false(pw_stream_wants_body(stream, REQ));
    assert_int_equal(tick_resume(t, 0, REQ), PW_CONTINUE);
    assert_int_equal(give_body(REQ, "gone", false), PW_WAIT);
    assert_true(pw_stream_wants_body(stream, REQ));
    assert_int_equal(give_body(REQ, "", true), PW_WAIT);
    assert_int_equal(tick_resume(t, 0, REQ), PW_CONTINUE);
    assert_body("");
    assert_true(seen.eos && seen.changed);
    plan_end(t);
}

static void pause_in_headers_lets_body_callbacks_run_where_that_is_allowed(void **state) {
    (void)state;
    pt_t *t = plan_new(0);
    sl_err_t err;
    pw_chain_unref(t->chain);
    pw_filter_conf_t conf = {.opts.headers_stop_iteration = true};
    assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    assert_int_equal(pt_filter(t, NULL, &err), SL_OK);
    pt_chain(t, NULL);
    plans[0] = (plan_t){.headers = 1, .body = {1, 0}, .n_body = 2};
    start(t);
    assert_int_equal(give_headers(REQ, false), PW_WAIT);
    assert_true(pw_stream_wants_body(stream, REQ));
    assert_int_equal(give_body(REQ, "ab", false), PW_WAIT);
    assert_int_equal(give_body(REQ, "cd", true), PW_CONTINUE);
    assert_string_equal(t->trace, "H0(2,0) B0(ab,0) B0(abcd,1) H1(2,0) B1(abcd,1) ");
    assert_true(seen.headers && seen.eos && !seen.changed);
    assert_body("abcd");
    plan_end(t);
}

static void the_marker_of_higress_allows_it_too(void **state) {
    (void)state;
    pt_t *t = plan_new(0);
    sl_err_t err;
    pw_chain_unref(t->chain);
    pt_guest_t g = {.name = "higress", .marker = "proxy_abi_version_0_2_100", .callbacks = PT_ALL};
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.module = pt_module(t, &g)}, &err), SL_OK);
    pt_chain(t, NULL);
    plans[0].headers = 1;
    start(t);
    assert_int_equal(give_headers(REQ, false), PW_WAIT);
    assert_int_equal(give_body(REQ, "x", true), PW_CONTINUE);
    assert_string_equal(t->trace, "H0(2,0) B0(x,1) ");
    plan_end(t);
}

static void continue_and_end_drops_the_body(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    plans[0].headers = PW_HEADERS_CONTINUE_AND_END;
    start(t);
    assert_int_equal(give_headers(REQ, false), PW_CONTINUE);
    assert_true(seen.headers && seen.eos && seen.changed);
    assert_false(pw_stream_wants_body(stream, REQ));
    assert_int_equal(give_body(REQ, "dropped", false), PW_CONTINUE);
    assert_int_equal(give_trailers(t, REQ), PW_CONTINUE);
    assert_string_equal(t->trace, "H0(2,0) H1(2,1) ");
    assert_body("");
    plan_end(t);
}

static void stop_and_buffer_shows_all_that_has_come(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    plans[0] = (plan_t){.body = {1, 1, 0}, .n_body = 3};
    start(t);
    give_headers(REQ, false);
    assert_int_equal(give_body(REQ, "ab", false), PW_WAIT);
    assert_true(pw_stream_wants_body(stream, REQ));
    assert_int_equal(give_body(REQ, "cd", false), PW_WAIT);
    assert_int_equal(give_body(REQ, "ef", true), PW_CONTINUE);
    assert_body("abcdef");
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) B0(ab,0) B0(abcd,0) B0(abcdef,1) B1(abcdef,1) ");
    assert_false(seen.changed);
    plan_end(t);
}

static void a_body_held_at_its_end_is_released_without_another_callback(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    plans[0] = (plan_t){.body = {1}, .n_body = 1};
    start(t);
    give_headers(REQ, false);
    assert_int_equal(give_body(REQ, "ab", true), PW_WAIT);
    assert_false(pw_stream_wants_body(stream, REQ));
    assert_int_equal(tick_resume(t, 0, REQ), PW_CONTINUE);
    assert_body("ab");
    assert_true(seen.eos);
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) B0(ab,1) B1(ab,1) ");
    assert_int_equal(resume(REQ), PW_WAIT);
    plan_end(t);
}

static void a_watermark_stops_reading_and_never_fails(void **state) {
    (void)state;
    pt_t *t = plan_new(1);
    plans[0] = (plan_t){.body = {2}, .n_body = 1};
    start(t);
    give_headers(REQ, false);
    assert_int_equal(give_body(REQ, "0123456789", false), PW_WAIT);
    assert_true(pw_stream_wants_body(stream, REQ));
    assert_int_equal(give_body(REQ, "0123456789", false), PW_WAIT);
    assert_false(pw_stream_wants_body(stream, REQ));
    assert_int_equal(tick_resume(t, 0, REQ), PW_CONTINUE);
    assert_body("01234567890123456789");
    assert_true(pw_stream_wants_body(stream, REQ));
    plan_end(t);
}

static void over_the_ceiling_a_request_fails_with_413_and_a_response_with_502(void **state) {
    (void)state;
    for (int dir = 0; dir < 2; dir++) {
        pt_t *t = plan_new(1);
        t->ud = dir ? t : NULL;
        plans[0] = (plan_t){.body = {1}, .n_body = 1};
        start(t);
        give_headers((pw_dir_t)dir, false);
        assert_int_equal(give_body((pw_dir_t)dir, "0123456789abcdef", false), PW_WAIT);
        assert_int_equal(give_body((pw_dir_t)dir, "g", false), PW_FAIL);
        assert_int_equal(pw_stream_failure(stream), dir ? 502 : 413);
        assert_body("");
        plan_end(t);
    }
}

static void over_the_ceiling_the_body_passes_if_the_chain_says_so(void **state) {
    (void)state;
    pt_t *t = plan_new(1);
    pw_chain_unref(t->chain);
    pt_chain(t, &(pw_chain_conf_t){.pass_over_limit = true});
    plans[0] = (plan_t){.body = {1}, .n_body = 1};
    start(t);
    give_headers(REQ, false);
    assert_int_equal(give_body(REQ, "0123456789abcdef", false), PW_WAIT);
    assert_int_equal(give_body(REQ, "g", false), PW_CONTINUE);
    assert_int_equal(give_body(REQ, "h", true), PW_CONTINUE);
    assert_body("0123456789abcdefgh");
    assert_string_equal(t->trace, "H0(2,0) B0(0123456789abcdef,0) B0(0123456789abcdefg,0) B0(h,1) ");
    plan_end(t);
}

static void a_chunk_that_is_changed_in_one_filter_is_seen_changed_by_the_next(void **state) {
    (void)state;
    pt_t *t = plan_new(3);
    plans[0].set = "one";
    plans[1].set = "two!";
    start(t);
    give_headers(REQ, false);
    assert_int_equal(give_body(REQ, "abc", false), PW_CONTINUE);
    assert_int_equal(give_body(REQ, "", true), PW_CONTINUE);
    assert_body("two!two!");
    assert_true(seen.changed && seen.eos);
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) H2(2,0) B0(abc,0) B1(one,0) B2(two!,0) B0(,1) B1(one,1) B2(two!,1) ");
    plan_end(t);
}

static void two_filters_that_hold_release_in_order(void **state) {
    (void)state;
    pt_t *t = plan_new(3);
    plans[0] = (plan_t){.body = {0, 1}, .n_body = 2};
    plans[2] = (plan_t){.body = {1}, .n_body = 1};
    start(t);
    give_headers(REQ, false);
    give_body(REQ, "ab", false); /* held by 2 */
    give_body(REQ, "cd", false); /* held by 0 */
    tick_ctx = stream->at[0].ctx.node.id;
    pw_root_tick(t->filters[0]->root);
    tick_ctx = stream->at[2].ctx.node.id;
    pw_root_tick(t->filters[2]->root);
    plans[2].n_body = 0;
    assert_int_equal(resume(REQ), PW_CONTINUE); /* both at once: what is further on goes first */
    assert_body("abcd");
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) H2(2,0) B0(ab,0) B1(ab,0) B2(ab,0) B0(cd,0) B1(cd,0) B2(cd,0) ");
    plan_end(t);
}

static void a_filter_may_resume_itself_from_inside_its_callbacks(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    plans[0] = (plan_t){.headers = 4, .body = {1}, .n_body = 1, .resumes = true};
    start(t);
    assert_int_equal(give_headers(REQ, false), PW_CONTINUE);
    assert_int_equal(give_body(REQ, "x", true), PW_CONTINUE);
    assert_body("x");
    assert_int_equal(t->wakes[REQ], 0);
    plan_end(t);
}

static uint32_t headers_that_resume(pt_t *t, uint32_t ctx, uint32_t n, uint32_t eos) {
    if (pt_index(t, ctx) == 1) {
        guest_continue(t, type_of(t, ctx));
    }
    return plan_headers(t, ctx, n, eos);
}

static void resuming_headers_that_pass_does_not_resume_the_body_after_them(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    plans[0].headers = 4;
    plans[1] = (plan_t){.body = {1}, .n_body = 1};
    t->on[PW_CB_REQUEST_HEADERS] = headers_that_resume;
    start(t);
    give_headers(REQ, false);
    give_body(REQ, "ab", false);
    tick_resume(t, 0, REQ); /* headers and body of filter 1 in one event */
    assert_true(seen.headers);
    assert_body("");
    plan_end(t);
}

static void resuming_what_does_not_wait_is_harmless(void **state) {
    (void)state;
    pt_t *t = plan_new(1);
    start(t);
    give_headers(REQ, false);
    assert_int_equal(tick_resume(t, 0, REQ), PW_WAIT);
    assert_int_equal(t->wakes[REQ], 0);
    assert_int_equal(resume(REQ), PW_WAIT);
    plan_end(t);
}

static void trailers_come_after_the_body_and_may_be_held(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    plans[0].trailers = 1;
    start(t);
    give_headers(REQ, false);
    give_body(REQ, "ab", false);
    assert_int_equal(give_trailers(t, REQ), PW_WAIT);
    assert_int_equal(tick_resume(t, 0, REQ), PW_CONTINUE);
    assert_true(seen.trailers && seen.eos);
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) B0(ab,0) B1(ab,0) T0(1) T1(1) ");
    plan_end(t);
}

static void trailers_that_pass_let_go_of_a_held_body(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    plans[0] = (plan_t){.body = {1}, .n_body = 1};
    start(t);
    give_headers(REQ, false);
    give_body(REQ, "ab", false);
    assert_int_equal(give_trailers(t, REQ), PW_CONTINUE);
    assert_body("ab");
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) B0(ab,0) T0(1) B1(ab,0) T1(1) ");
    plan_end(t);
}

static void trailers_wait_behind_headers_that_are_held(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    plans[1].headers = 4;
    start(t);
    give_headers(REQ, false);
    give_body(REQ, "ab", false);
    assert_int_equal(give_trailers(t, REQ), PW_WAIT);
    assert_int_equal(tick_resume(t, 1, REQ), PW_CONTINUE);
    assert_body("ab");
    assert_true(seen.trailers && seen.eos);
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) B0(ab,0) T0(1) B1(ab,0) T1(1) ");
    plan_end(t);
}

static void writing_to_trailers_in_the_last_body_callback_makes_them(void **state) {
    (void)state;
    pt_t *t = plan_new(3);
    plans[1].make_trailer = "x-made";
    start(t);
    give_headers(REQ, false);
    assert_int_equal(give_body(REQ, "ab", true), PW_CONTINUE);
    assert_true(seen.eos && seen.trailers);
    assert_string_equal(pt_value(t, PW_MAP_REQUEST_TRAILERS, "x-made"), "made");
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) H2(2,0) B0(ab,1) B1(ab,1) B2(ab,0) T2(1) ");
    plan_end(t);
}

static void made_trailers_follow_a_body_that_is_held(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    plans[0] = (plan_t){.body = {1}, .n_body = 1, .make_trailer = "x-made"};
    start(t);
    give_headers(REQ, false);
    assert_int_equal(give_body(REQ, "ab", true), PW_WAIT);
    assert_int_equal(tick_resume(t, 0, REQ), PW_CONTINUE);
    assert_body("ab");
    assert_true(seen.eos && seen.trailers);
    assert_string_equal(t->trace, "H0(2,0) H1(2,0) B0(ab,1) B1(ab,0) T1(1) ");
    plan_end(t);
}

static void the_directions_pause_by_themselves(void **state) {
    (void)state;
    pt_t *t = plan_new(1);
    plans[0].headers = 4;
    start(t);
    assert_int_equal(give_headers(REQ, true), PW_WAIT);
    seen = (seen_t){0};
    plans[0].headers = 0;
    assert_int_equal(give_headers(PW_DIR_RESPONSE, true), PW_CONTINUE);
    assert_true(pw_stream_paused(stream, REQ));
    assert_false(pw_stream_paused(stream, PW_DIR_RESPONSE));
    pw_stream_abort_request(stream);
    assert_false(pw_stream_paused(stream, REQ));
    plan_end(t);
}

static void the_response_may_run_in_reverse(void **state) {
    (void)state;
    pt_t *t = plan_new(2);
    pw_chain_unref(t->chain);
    pt_chain(t, &(pw_chain_conf_t){.reverse_response = true});
    t->ud = t;
    plans[0] = (plan_t){.body = {1}, .n_body = 1};
    start(t);
    give_headers(PW_DIR_RESPONSE, false);
    give_body(PW_DIR_RESPONSE, "ab", true);
    assert_string_equal(t->trace, "H1(2,0) H0(2,0) B1(ab,1) B0(ab,1) ");
    assert_int_equal(tick_resume(t, 0, PW_DIR_RESPONSE), PW_CONTINUE);
    assert_body("ab");
    plan_end(t);
}

static void wasmx_collects_a_response_body_and_shows_it_once_more(void **state) {
    (void)state;
    static const char *const chunks[] = {"ab", "cde", "fghi", "jklmn"};
    for (int small = 0; small < 2; small++) {
        pt_t *t = plan_new(0);
        sl_err_t err;
        pw_chain_unref(t->chain);
        assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.opts.dialect = SL_DIALECT_WASMX}, &err), SL_OK);
        pt_chain(t, &(pw_chain_conf_t){.response_body_bytes = small ? 6 : 64});
        t->ud = t;
        plans[0] = (plan_t){.body = {1, 0}, .n_body = 2};
        start(t);
        give_headers(PW_DIR_RESPONSE, false);
        t->trace[0] = '\0';
        for (size_t i = 0; i < 4; i++) {
            give_body(PW_DIR_RESPONSE, chunks[i], i == 3);
        }
        assert_string_equal(t->trace, small ? "B0(ab,0) B0(abcdefghi,0) B0(jklmn,1) " : "B0(ab,0) B0(abcdefghijklmn,1) ");
        assert_body("abcdefghijklmn");
        plan_end(t);
    }
}

/* A stream of one filter of WasmX, whose request headers have come. */
static pt_t *wasmx_request(size_t ceiling) {
    pt_t *t = plan_new(0);
    sl_err_t err;
    pw_chain_unref(t->chain);
    assert_int_equal(pt_filter(t, &(pw_filter_conf_t){.opts.dialect = SL_DIALECT_WASMX}, &err), SL_OK);
    pt_chain(t, &(pw_chain_conf_t){.request_body_bytes = ceiling});
    start(t);
    give_headers(REQ, false);
    t->trace[0] = '\0';
    return t;
}

static void wasmx_shows_a_request_body_when_it_is_whole(void **state) {
    (void)state;
    static const char *const chunks[] = {"ab", "cde", "fghi", "jklmn"};
    for (int small = 0; small < 2; small++) {
        pt_t *t = wasmx_request(small ? 6 : 64);
        for (size_t i = 0; i < 4; i++) {
            give_body(REQ, chunks[i], i == 3);
        }
        assert_string_equal(t->trace, small ? "B0(abcde,0) B0(fghi,0) B0(jklmn,1) " : "B0(abcdefghijklmn,1) ");
        assert_body("abcdefghijklmn");
        plan_end(t);
    }
}

static void resuming_does_not_let_go_of_what_wasmx_gathers(void **state) {
    (void)state;
    pt_t *t = wasmx_request(64);
    give_body(REQ, "ab", false);
    assert_int_equal(tick_resume(t, 0, REQ), PW_WAIT);
    assert_body("");
    give_body(REQ, "cd", true);
    assert_string_equal(t->trace, "B0(abcd,1) ");
    assert_body("abcd");
    plan_end(t);
}

static void trailers_show_what_wasmx_has_gathered(void **state) {
    (void)state;
    pt_t *t = wasmx_request(64);
    give_body(REQ, "ab", false);
    give_trailers(t, REQ);
    assert_memory_equal(t->trace, "B0(ab,0) T0(", 12);
    assert_body("ab");
    plan_end(t);
}

/* ---- at random, against a model ---- */

/*
 * Filter i changes every byte that it sees for the first time: it drops 'a' + i, doubles 'm' + i, and lets the rest pass. Such changes do
 * not depend on how the body is cut, so what must come out is known, whatever the filters hold, take (StopIterationNoBuffer) and resume.
 */
typedef struct {
    size_t known;     /* bytes of the visible body that it has changed already */
    char stash[4096]; /* taken; put in front at the next callback */
    size_t n_stash;
    bool over; /* has seen the end */
    size_t n_headers, n_trailers;
} actor_t;

static actor_t actors[8];
static bool with_trailers; /* filters make trailers; then none takes bytes, for it may get no callback in which to give them back */
static uint64_t rng;
static pw_dir_t way;

static uint32_t dice(uint32_t n) {
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 11) % n);
}

static size_t transform(size_t i, const char *in, size_t len, char *out) {
    size_t n = 0;
    for (size_t k = 0; k < len; k++) {
        if (in[k] == (char)('a' + i)) {
            continue;
        }
        out[n++] = in[k];
        if (in[k] == (char)('m' + i)) {
            out[n++] = in[k];
        }
    }
    return n;
}

static uint32_t actor_headers(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    static const uint32_t actions[] = {0, 0, 0, 1, 3, 4};
    actor_t *me = &actors[pt_index(t, ctx)];
    (void)a1;
    (void)a2;
    assert_int_equal(me->n_headers++, 0);
    if (dice(8) == 0) {
        guest_continue(t, way);
    }
    return actions[dice(6)];
}

static void replace_all(pt_t *t, const char *data, size_t len) {
    uint32_t at = guest_put(t, data, len);
    assert_int_equal(guest_call(t, "proxy_set_buffer_bytes", way, 0, UINT32_MAX, at, (uint32_t)len), PW_OK);
}

static uint32_t actor_body(pt_t *t, uint32_t ctx, uint32_t size, uint32_t eos) {
    size_t i = pt_index(t, ctx);
    actor_t *me = &actors[i];
    sl_str_t body;
    static char now_visible[16384];
    assert_int_equal(me->n_headers, 1);
    assert_false(me->over);
    assert_true(size != 0 || eos);
    assert_int_equal(guest_get_body(t, way, 0, UINT32_MAX, &body), PW_OK);
    assert_int_equal(body.len, size);
    assert_true(me->known <= size);
    memcpy(now_visible, me->stash, me->n_stash);
    size_t n = me->n_stash;
    memcpy(now_visible + n, body.data, me->known);
    n += me->known;
    n += transform(i, body.data + me->known, body.len - me->known, now_visible + n);
    if (n != body.len || memcmp(now_visible, body.data, n) != 0 || dice(3) == 0) {
        replace_all(t, now_visible, n);
    }
    me->n_stash = 0;
    me->known = 0;
    me->over = eos;
    if (eos && with_trailers && dice(2) == 0) {
        guest_edit(t, "proxy_add_header_map_value", way == REQ ? PW_MAP_REQUEST_TRAILERS : PW_MAP_RESPONSE_TRAILERS, "x", "y");
    }
    if (dice(8) == 0) {
        guest_continue(t, way);
        if (dice(2) == 0) {
            return 0;
        }
        /* it is resumed as soon as it has paused */
        return dice(2) + 1;
    }
    uint32_t action = dice(eos || with_trailers ? 3 : 5);
    if (action == 1 || action == 2) {
        me->known = n;
    }
    if (action == 3) {
        memcpy(me->stash, now_visible, n);
        me->n_stash = n;
        return 3;
    }
    return action > 3 ? 0 : action;
}

static uint32_t actor_trailers(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    actor_t *me = &actors[pt_index(t, ctx)];
    (void)a1;
    (void)a2;
    assert_false(me->over);
    assert_int_equal(me->n_trailers++, 0);
    me->over = true;
    return dice(3) == 0;
}

static uint32_t actor_tick(pt_t *t, uint32_t root, uint32_t a1, uint32_t a2) {
    (void)root;
    (void)a1;
    (void)a2;
    guest_call(t, "proxy_set_effective_context", tick_ctx);
    guest_continue(t, way);
    return 0;
}

/* Filter i is told to resume. What it held is gone from its view then, if it held something that it had seen. */
static void actor_resume(pt_t *t, size_t i) {
    const pw_position_t *at = &stream->at[i];
    if (at->ctx.node.id == 0) {
        return;
    }
    bool seen_by_it = at->stage[way].body != 0;
    tick_ctx = at->ctx.node.id;
    uint32_t before = t->wakes[way];
    pw_root_tick(t->filters[i]->root);
    if (t->wakes[way] == before) {
        return;
    }
    if (seen_by_it) {
        actors[i].known = 0;
    }
    resume(way);
}

static void random_case(uint64_t seed) {
    static char input[256], expected[8192], next[8192];
    rng = seed * 0x9e3779b97f4a7c15u + 1;
    size_t n = 1 + dice(4), len = dice(120);
    way = dice(2) ? PW_DIR_RESPONSE : REQ;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    memset(actors, 0, sizeof(actors));
    sl_module_t *module = pt_module(t, &(pt_guest_t){.name = "full", .callbacks = PT_ALL});
    for (size_t i = 0; i < n; i++) {
        pw_filter_conf_t conf = {.module = module, .opts.headers_stop_iteration = dice(2) == 0};
        assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
    }
    bool reverse = dice(2) == 0;
    with_trailers = dice(4) == 0;
    pt_chain(t, &(pw_chain_conf_t){.reverse_response = reverse});
    t->on[PW_CB_REQUEST_HEADERS] = t->on[PW_CB_RESPONSE_HEADERS] = actor_headers;
    t->on[PW_CB_REQUEST_BODY] = t->on[PW_CB_RESPONSE_BODY] = actor_body;
    t->on[PW_CB_REQUEST_TRAILERS] = t->on[PW_CB_RESPONSE_TRAILERS] = actor_trailers;
    t->on[PW_CB_TICK] = actor_tick;
    for (size_t i = 0; i < len; i++) {
        input[i] = (char)('a' + dice(26));
    }
    memcpy(expected, input, len);
    size_t n_expected = len;
    for (size_t k = 0; k < n; k++) {
        size_t i = way == PW_DIR_RESPONSE && reverse ? n - 1 - k : k;
        n_expected = transform(i, expected, n_expected, next);
        memcpy(expected, next, n_expected);
    }
    start(t);
    give_headers(way, len == 0);
    bool end = len == 0;
    for (size_t at = 0, spins = 0; !end && spins < 10000; spins++) {
        if (dice(3) == 0) {
            actor_resume(t, dice((uint32_t)n));
        }
        if (pw_stream_paused(stream, way) && !pw_stream_wants_body(stream, way)) {
            actor_resume(t, dice((uint32_t)n));
            continue;
        }
        size_t part = 1 + dice(20), cut;
        part = part < len - at ? part : len - at;
        cut = part != 0 ? dice((uint32_t)part + 1) : 0;
        sl_str_t segs[2] = {sl_str(input + at, cut), sl_str(input + at + cut, part - cut)};
        at += part;
        end = at == len && dice(2) == 0;
        pw_out_t out;
        if (part == 0 && !end) {
            continue;
        }
        pw_verdict_t v = pw_stream_body(stream, way, segs, 2, end, &out);
        assert_true(v == PW_CONTINUE || v == PW_WAIT);
        take(&out, segs, 2);
    }
    for (size_t spins = 0; !seen.eos && spins < 10000; spins++) {
        actor_resume(t, dice((uint32_t)n));
    }
    bool right = seen.eos && seen.headers && seen.len == n_expected && memcmp(seen.body, expected, n_expected) == 0;
    if (!right) {
        fail_msg("case %lu: %zu filters, eos %d, headers %d, \"%.*s\" became \"%.*s\", expected \"%.*s\"", (unsigned long)seed, n, seen.eos,
                 seen.headers, (int)len, input, (int)seen.len, seen.body, (int)n_expected, expected);
    }
    assert_false(pw_stream_paused(stream, way));
    if (memcmp(expected, input, len < n_expected ? len : n_expected) != 0) {
        assert_true(seen.changed);
    }
    plan_end(t);
}

static void whatever_filters_hold_and_resume_the_bytes_come_out_right(void **state) {
    (void)state;
    const char *one = getenv("PIPE_CASE");
    if (one != NULL) {
        random_case(strtoul(one, NULL, 10));
        return;
    }
    const char *many = getenv("PIPE_CASES");
    uint64_t n = many != NULL ? strtoul(many, NULL, 10) : 3000;
    for (uint64_t seed = 1; seed <= n; seed++) {
        random_case(seed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_that_nobody_holds_is_not_copied),
        cmocka_unit_test(pause_in_headers_stops_everything_until_it_is_resumed),
        cmocka_unit_test(a_made_body_is_shown_to_the_filters_behind_its_maker),
        cmocka_unit_test(a_made_body_waits_with_the_headers_of_its_maker),
        cmocka_unit_test(a_made_body_may_be_held_behind_its_maker),
        cmocka_unit_test(two_filters_cannot_both_make_a_body_but_the_second_may_edit),
        cmocka_unit_test(every_filter_of_wasmx_sees_a_made_body),
        cmocka_unit_test(a_made_body_takes_the_place_of_the_clients_in_wasmx),
        cmocka_unit_test(stop_all_and_buffer_reads_the_body_meanwhile),
        cmocka_unit_test(unknown_values_of_headers_and_body_stop),
        cmocka_unit_test(pause_in_headers_lets_body_callbacks_run_where_that_is_allowed),
        cmocka_unit_test(the_marker_of_higress_allows_it_too),
        cmocka_unit_test(continue_and_end_drops_the_body),
        cmocka_unit_test(stop_and_buffer_shows_all_that_has_come),
        cmocka_unit_test(a_body_held_at_its_end_is_released_without_another_callback),
        cmocka_unit_test(a_watermark_stops_reading_and_never_fails),
        cmocka_unit_test(over_the_ceiling_a_request_fails_with_413_and_a_response_with_502),
        cmocka_unit_test(over_the_ceiling_the_body_passes_if_the_chain_says_so),
        cmocka_unit_test(a_chunk_that_is_changed_in_one_filter_is_seen_changed_by_the_next),
        cmocka_unit_test(two_filters_that_hold_release_in_order),
        cmocka_unit_test(a_filter_may_resume_itself_from_inside_its_callbacks),
        cmocka_unit_test(resuming_headers_that_pass_does_not_resume_the_body_after_them),
        cmocka_unit_test(resuming_what_does_not_wait_is_harmless),
        cmocka_unit_test(trailers_come_after_the_body_and_may_be_held),
        cmocka_unit_test(trailers_that_pass_let_go_of_a_held_body),
        cmocka_unit_test(trailers_wait_behind_headers_that_are_held),
        cmocka_unit_test(writing_to_trailers_in_the_last_body_callback_makes_them),
        cmocka_unit_test(made_trailers_follow_a_body_that_is_held),
        cmocka_unit_test(the_directions_pause_by_themselves),
        cmocka_unit_test(the_response_may_run_in_reverse),
        cmocka_unit_test(wasmx_collects_a_response_body_and_shows_it_once_more),
        cmocka_unit_test(wasmx_shows_a_request_body_when_it_is_whole),
        cmocka_unit_test(resuming_does_not_let_go_of_what_wasmx_gathers),
        cmocka_unit_test(trailers_show_what_wasmx_has_gathered),
        cmocka_unit_test(whatever_filters_hold_and_resume_the_bytes_come_out_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
