#include "sl_http1.h"

#include <stdio.h>
#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"

typedef struct {
    sl_http1_t p;
    sl_status_t rc;
    sl_err_t err;
} reading_t;

/* Feeds `step` bytes at a time, from memory that ends where the piece does, so that ASAN sees a read behind it. */
static void feed(reading_t *r, const char *text, size_t len, size_t step) {
    r->rc = SL_AGAIN;
    for (size_t at = 0; at < len && r->rc == SL_AGAIN; at += step) {
        size_t n = len - at < step ? len - at : step;
        char *piece = malloc(n);
        memcpy(piece, text + at, n);
        r->rc = sl_http1_feed(&r->p, piece, n, &r->err);
        free(piece);
    }
}

static void read_text(reading_t *r, const char *text, bool to_head, size_t step) {
    sl_http1_init(&r->p, to_head, 4096, 4096, NULL);
    feed(r, text, strlen(text), step);
}

static void assert_body(const reading_t *r, const char *text) {
    assert_int_equal(r->p.body.len, strlen(text));
    assert_memory_equal(r->p.body.data != NULL ? r->p.body.data : "", text, r->p.body.len);
}

static void assert_field(const sl_http1_field_t *f, const char *name, const char *value) {
    assert_true(sl_str_eq(f->name, sl_cstr(name)));
    assert_true(sl_str_eq(f->value, sl_cstr(value)));
}

static void assert_refused(const char *text) {
    for (size_t step = 1; step < 100; step += 98) {
        reading_t r;
        read_text(&r, text, false, step);
        if (r.rc == SL_AGAIN) {
            r.rc = sl_http1_end(&r.p, &r.err);
        }
        if (r.rc != SL_INVALID) {
            print_error("taken: %s\n", text);
        }
        assert_int_equal(r.rc, SL_INVALID);
        assert_int_equal(sl_http1_feed(&r.p, "x", 1, NULL), SL_INVALID);
        sl_http1_deinit(&r.p);
    }
}

static void a_response_with_a_length_is_read_in_pieces_of_any_size(void **state) {
    (void)state;
    const char *text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b c \r\nX-Empty:\r\n\r\nhello";
    for (size_t step = 1; step < 80; step++) {
        reading_t r;
        read_text(&r, text, false, step);
        assert_int_equal(r.rc, SL_OK);
        assert_int_equal(r.p.status, 200);
        assert_int_equal(r.p.n_fields, 3);
        assert_field(&r.p.fields[0], "Content-Length", "5");
        assert_field(&r.p.fields[1], "X-A", "b c");
        assert_field(&r.p.fields[2], "X-Empty", "");
        assert_body(&r, "hello");
        assert_true(r.p.keepalive);
        sl_http1_deinit(&r.p);
    }
}

static void chunks_and_trailers_are_read_in_pieces_of_any_size(void **state) {
    (void)state;
    const char *text =
        "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00a;x=y\r\n0123456789\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n";
    for (size_t step = 1; step < 120; step++) {
        reading_t r;
        read_text(&r, text, false, step);
        assert_int_equal(r.rc, SL_OK);
        assert_body(&r, "abc0123456789");
        assert_int_equal(r.p.n_trailers, 2);
        assert_field(&r.p.trailers[1], "X-U", "2");
        sl_http1_deinit(&r.p);
    }
}

static void chunks_without_trailers_end_with_the_empty_line(void **state) {
    (void)state;
    reading_t r;
    read_text(&r, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", false, 1);
    assert_int_equal(r.rc, SL_OK);
    assert_int_equal(r.p.n_trailers, 0);
    assert_body(&r, "");
    sl_http1_deinit(&r.p);
}

static void a_body_without_a_length_ends_with_the_connection(void **state) {
    (void)state;
    reading_t r;
    read_text(&r, "HTTP/1.1 200 OK\r\n\r\nhello", false, 3);
    assert_int_equal(r.rc, SL_AGAIN);
    assert_int_equal(sl_http1_end(&r.p, &r.err), SL_OK);
    assert_body(&r, "hello");
    assert_false(r.p.keepalive);
    sl_http1_deinit(&r.p);
}

static void responses_that_have_no_body_do_not_wait_for_one(void **state) {
    (void)state;
    static const char *const texts[] = {"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 304 No\r\n\r\n",
                                        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"};
    reading_t r;
    for (size_t i = 0; i < 3; i++) {
        read_text(&r, texts[i], false, 7);
        assert_int_equal(r.rc, SL_OK);
        sl_http1_deinit(&r.p);
    }
    read_text(&r, "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", true, 7);
    assert_int_equal(r.rc, SL_OK);
    sl_http1_deinit(&r.p);
}

static void informational_responses_are_read_over(void **state) {
    (void)state;
    reading_t r;
    read_text(&r, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 201 Yes\r\nContent-Length: 1\r\n\r\n!", false,
              5);
    assert_int_equal(r.rc, SL_OK);
    assert_int_equal(r.p.status, 201);
    assert_int_equal(r.p.n_fields, 1);
    sl_http1_deinit(&r.p);
}

static void bytes_behind_the_end_are_counted(void **state) {
    (void)state;
    reading_t r;
    read_text(&r, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, more", false, 1000);
    assert_int_equal(r.rc, SL_OK);
    assert_int_equal(r.p.excess, 6);
    sl_http1_deinit(&r.p);
}

static void connections_that_end_are_not_kept(void **state) {
    (void)state;
    reading_t r;
    read_text(&r, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false, 1000);
    assert_false(r.p.keepalive);
    sl_http1_deinit(&r.p);
    read_text(&r, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", false, 1000);
    assert_false(r.p.keepalive);
    sl_http1_deinit(&r.p);
    read_text(&r, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x,, close ,y\r\n\r\n", false, 1000);
    assert_false(r.p.keepalive);
    sl_http1_deinit(&r.p);
    read_text(&r, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: closed, enclose\r\n\r\n", false, 1000);
    assert_true(r.p.keepalive);
    sl_http1_deinit(&r.p);
}

static void what_can_be_read_in_two_ways_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nbad line\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno-colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\rc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_refused(texts[i]);
    }
}

static void ceilings_hold(void **state) {
    (void)state;
    char line[64];
    reading_t r;
    sl_http1_init(&r.p, false, 50, 10, NULL);
    feed(&r, "HTTP/1.1 200 OK\r\nX-Long: 012345678901234567890123456789\r\n\r\n",
         sizeof("HTTP/1.1 200 OK\r\nX-Long: 012345678901234567890123456789\r\n\r\n") - 1, 1000);
    assert_int_equal(r.rc, SL_NO_MEMORY);
    sl_http1_deinit(&r.p);
    sl_http1_init(&r.p, false, 4096, 10, NULL);
    feed(&r, "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", sizeof("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n") - 1, 1000);
    assert_int_equal(r.rc, SL_NO_MEMORY);
    sl_http1_deinit(&r.p);
    sl_http1_init(&r.p, false, 4096, 10, NULL);
    feed(&r, "HTTP/1.1 200 OK\r\n\r\n01234567890", sizeof("HTTP/1.1 200 OK\r\n\r\n01234567890") - 1, 1000);
    assert_int_equal(r.rc, SL_NO_MEMORY);
    sl_http1_deinit(&r.p);
    sl_http1_init(&r.p, false, 4096, 10, NULL);
    feed(&r, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000000000000000\r\n",
         sizeof("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000000000000000\r\n") - 1, 1000);
    assert_int_equal(r.rc, SL_NO_MEMORY);
    sl_http1_deinit(&r.p);
    sl_http1_init(&r.p, false, 1 << 20, 10, NULL);
    feed(&r, "HTTP/1.1 200 OK\r\n", sizeof("HTTP/1.1 200 OK\r\n") - 1, 1000);
    for (int i = 0; i <= SL_HTTP1_FIELDS_MAX && r.rc == SL_AGAIN; i++) {
        feed(&r, line, (size_t)snprintf(line, sizeof(line), "x-%d: y\r\n", i), 100);
    }
    feed(&r, "\r\n", sizeof("\r\n") - 1, 1000);
    assert_int_equal(r.rc, SL_NO_MEMORY);
    sl_http1_deinit(&r.p);
}

static void informational_responses_without_end_are_refused(void **state) {
    (void)state;
    sl_http1_t p;
    sl_err_t err;
    sl_status_t rc = SL_AGAIN;
    sl_http1_init(&p, false, 4096, 4096, NULL);
    for (int i = 0; i < 1000 && rc == SL_AGAIN; i++) {
        rc = sl_http1_feed(&p, "HTTP/1.1 100 Continue\r\n\r\n", 25, &err);
    }
    assert_int_equal(rc, SL_NO_MEMORY);
    sl_http1_deinit(&p);
}

static void memory_that_runs_out_is_said(void **state) {
    (void)state;
    const char *text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    for (int n = 1; n < 20; n++) {
        reading_t r;
        sl_http1_init(&r.p, false, 4096, 4096, NULL);
        fail_alloc_at(n);
        r.rc = sl_http1_feed(&r.p, text, strlen(text), &r.err);
        int seen = fail_alloc_seen();
        fail_alloc_at(0);
        sl_http1_deinit(&r.p);
        if (seen < n) {
            assert_int_equal(r.rc, SL_OK);
            return;
        }
        assert_int_equal(r.rc, SL_NO_MEMORY);
    }
    fail();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_response_with_a_length_is_read_in_pieces_of_any_size),
        cmocka_unit_test(chunks_and_trailers_are_read_in_pieces_of_any_size),
        cmocka_unit_test(chunks_without_trailers_end_with_the_empty_line),
        cmocka_unit_test(a_body_without_a_length_ends_with_the_connection),
        cmocka_unit_test(responses_that_have_no_body_do_not_wait_for_one),
        cmocka_unit_test(informational_responses_are_read_over),
        cmocka_unit_test(bytes_behind_the_end_are_counted),
        cmocka_unit_test(connections_that_end_are_not_kept),
        cmocka_unit_test(what_can_be_read_in_two_ways_is_refused),
        cmocka_unit_test(ceilings_hold),
        cmocka_unit_test(informational_responses_without_end_are_refused),
        cmocka_unit_test(memory_that_runs_out_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
