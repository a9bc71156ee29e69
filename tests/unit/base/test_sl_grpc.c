/* The peer's side is written by hand: frames, with header fields as literals. */
#include "sl_grpc.h"

#include <stdio.h>
#include <stdlib.h>

#include "cmocka_all.h"

typedef struct {
    char trace[4096];
    sl_grpc_stream_t *stream;
    unsigned closed;
    bool unprocessed;
    const char *reaction; /* what the owner does from inside of an event: "reset", "send" */
} seen_t;

static void note(seen_t *s, const char *what, sl_str_t text) {
    size_t n = strlen(s->trace);
    snprintf(s->trace + n, sizeof(s->trace) - n, "%s(%.*s) ", what, SL_FMT(text));
}

static void react(seen_t *s) {
    const char *how = s->reaction;
    s->reaction = NULL;
    if (how != NULL && strcmp(how, "reset") == 0) {
        sl_grpc_reset(s->stream);
    } else if (how != NULL) {
        assert_int_equal(sl_grpc_send(s->stream, SL_STR("from inside")), SL_OK);
    }
}

static void on_metadata(void *user, bool trailing, const sl_grpc_field_t *fields, size_t n) {
    char text[256] = "";
    for (size_t i = 0; i < n; i++) {
        size_t at = strlen(text);
        snprintf(text + at, sizeof(text) - at, "%s%.*s=%.*s", i != 0 ? "," : "", SL_FMT(fields[i].name), SL_FMT(fields[i].value));
    }
    note(user, trailing ? "trailing" : "initial", sl_cstr(text));
    react(user);
}

static void on_message(void *user, sl_str_t message) {
    note(user, "message", message.len > 100 ? SL_STR("long") : message);
    react(user);
}

static void on_closed(void *user, uint32_t status, sl_str_t text, bool unprocessed) {
    seen_t *s = user;
    char line[200];
    snprintf(line, sizeof(line), "%u %.*s", status, SL_FMT(text));
    note(s, "closed", sl_cstr(line));
    s->closed++;
    s->unprocessed = unprocessed;
}

static const sl_grpc_events_t events = {on_metadata, on_message, on_closed};

/* ---- frames ---- */

typedef struct {
    uint8_t bytes[65536];
    size_t len;
} wire_t;

static void put(wire_t *w, const void *data, size_t len) {
    assert_true(len <= sizeof(w->bytes) - w->len);
    memcpy(w->bytes + w->len, data, len);
    w->len += len;
}

static void frame(wire_t *w, uint8_t type, uint8_t flags, uint32_t stream, const void *body, size_t len) {
    uint8_t head[9] = {(uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, type, flags, 0, 0, 0, (uint8_t)stream};
    put(w, head, sizeof(head));
    put(w, body, len);
}

enum { DATA = 0, HEADERS = 1, RST = 3, SETTINGS = 4, GOAWAY = 7, END_STREAM = 1, END_HEADERS = 4 };

/* fields: "name=value,name=value" */
static void headers(wire_t *w, uint32_t stream, bool end, const char *fields) {
    wire_t block = {.len = 0};
    while (*fields != '\0') {
        size_t name = strcspn(fields, "="), value = strcspn(fields + name + 1, ",");
        uint8_t lens[2] = {(uint8_t)name, (uint8_t)value};
        put(&block, "\0", 1);
        put(&block, &lens[0], 1);
        put(&block, fields, name);
        put(&block, &lens[1], 1);
        put(&block, fields + name + 1, value);
        fields += name + 1 + value;
        fields += *fields == ',';
    }
    frame(w, HEADERS, END_HEADERS | (end ? END_STREAM : 0), stream, block.bytes, block.len);
}

static void message(wire_t *w, uint32_t stream, uint8_t compressed, uint32_t claimed, const char *text) {
    wire_t body = {.len = 0};
    uint8_t prefix[5] = {compressed, (uint8_t)(claimed >> 24), (uint8_t)(claimed >> 16), (uint8_t)(claimed >> 8), (uint8_t)claimed};
    put(&body, prefix, sizeof(prefix));
    put(&body, text, strlen(text));
    frame(w, DATA, 0, stream, body.bytes, body.len);
}

#define ANSWER ":status=200,content-type=application/grpc"

/* ---- one connection with one stream ---- */

typedef struct {
    sl_grpc_t *conn;
    seen_t seen;
    wire_t in;
} test_t;

static const sl_grpc_request_t request = {.authority = SL_STR("a"), .service = SL_STR("pkg.Service"), .method = SL_STR("Method")};

static size_t written(sl_grpc_t *conn) {
    sl_str_t out;
    size_t n = 0;
    while (sl_grpc_take(conn, &out, NULL) == SL_OK && out.len != 0) {
        n += out.len;
        sl_grpc_written(conn, out.len);
    }
    return n;
}

static test_t *begin(const sl_grpc_limits_t *limits) {
    test_t *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    t->conn = sl_grpc_new(&events, limits);
    assert_non_null(t->conn);
    assert_int_equal(sl_grpc_open(t->conn, &request, &t->seen, &t->seen.stream), SL_OK);
    assert_true(written(t->conn) > 0);
    frame(&t->in, SETTINGS, 0, 0, "", 0);
    return t;
}

static sl_status_t feed(test_t *t) {
    sl_status_t rc = sl_grpc_feed(t->conn, t->in.bytes, t->in.len, NULL);
    t->in.len = 0;
    written(t->conn);
    return rc;
}

static void end(test_t *t, const char *trace) {
    assert_string_equal(t->seen.trace, trace);
    sl_grpc_free(t->conn);
    free(t);
}

static void an_answer_is_told_in_its_order(void **state) {
    (void)state;
    test_t *t = begin(NULL);
    headers(&t->in, 1, false, ANSWER ",x-a=1");
    message(&t->in, 1, 0, 5, "hello");
    message(&t->in, 1, 0, 0, "");
    headers(&t->in, 1, true, "grpc-status=7,grpc-message=not%20you%2g");
    assert_int_equal(feed(t), SL_OK);
    assert_int_equal(sl_grpc_streams(t->conn), 0);
    end(t, "initial(:status=200,content-type=application/grpc,x-a=1) message(hello) message() "
           "trailing(grpc-status=7,grpc-message=not%20you%2g) closed(7 not you%2g) ");
}

static void a_message_may_come_in_any_pieces(void **state) {
    (void)state;
    test_t *t = begin(NULL);
    headers(&t->in, 1, false, ANSWER);
    frame(&t->in, DATA, 0, 1, "\0\0", 2);
    frame(&t->in, DATA, 0, 1, "\0\0\3a", 4);
    frame(&t->in, DATA, 0, 1, "bc\0\0\0\0\1", 7);
    frame(&t->in, DATA, 0, 1, "d", 1);
    for (size_t i = 0; i < t->in.len; i++) {
        assert_int_equal(sl_grpc_feed(t->conn, t->in.bytes + i, 1, NULL), SL_OK);
    }
    end(t, "initial(:status=200,content-type=application/grpc) message(abc) message(d) ");
}

static void trailers_alone_are_no_initial_metadata(void **state) {
    (void)state;
    test_t *t = begin(NULL);
    headers(&t->in, 1, true, ANSWER ",grpc-status=0");
    feed(t);
    end(t, "initial() trailing(:status=200,content-type=application/grpc,grpc-status=0) closed(0 ) ");
}

typedef struct {
    void (*fill)(wire_t *w);
    const char *closed;
} bad_t;

static void bad_compressed(wire_t *w) {
    headers(w, 1, false, ANSWER);
    message(w, 1, 1, 1, "x");
}

static void bad_flag(wire_t *w) {
    headers(w, 1, false, ANSWER);
    message(w, 1, 9, 1, "x");
}

static void bad_size(wire_t *w) {
    headers(w, 1, false, ANSWER);
    message(w, 1, 0, 101, "x");
}

static void bad_cut(wire_t *w) {
    headers(w, 1, false, ANSWER);
    message(w, 1, 0, 10, "x");
    headers(w, 1, true, "grpc-status=0");
}

static void bad_end(wire_t *w) {
    headers(w, 1, false, ANSWER);
    frame(w, DATA, END_STREAM, 1, "", 0);
}

static void bad_type(wire_t *w) {
    headers(w, 1, false, ":status=200,content-type=text/html");
}

static void bad_status(wire_t *w) {
    headers(w, 1, true, ":status=503");
}

static void bad_reset(wire_t *w) {
    frame(w, RST, 0, 1, "\0\0\0\x0b", 4);
}

static void bad_number(wire_t *w) {
    headers(w, 1, true, ANSWER ",grpc-status=17");
}

static void bad_metadata(wire_t *w) {
    char fields[400] = ":status=200,x=";
    memset(fields + strlen(fields), 'v', 100);
    strcat(fields, ",y=");
    memset(fields + strlen(fields), 'v', 100);
    headers(w, 1, false, fields);
}

static void what_is_wrong_has_a_status_and_a_text(void **state) {
    (void)state;
    static const bad_t rows[] = {
        {bad_compressed, "closed(13 a compressed message came, which was not asked for) "},
        {bad_flag, "closed(13 a malformed message came) "},
        {bad_size, "closed(8 a message is larger than allowed) "},
        {bad_cut, "closed(13 the answer ended within a message) "},
        {bad_end, "closed(2 the answer ended without a status) "},
        {bad_type, "closed(2 the answer has another content-type than application/grpc) "},
        {bad_status, "closed(14 the answer has the HTTP status 503) "},
        {bad_reset, "closed(8 the stream was reset: ENHANCE_YOUR_CALM) "},
        {bad_number, "closed(2 ) "},
        {bad_metadata, "closed(8 the metadata is larger than allowed) "},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        test_t *t = begin(&(sl_grpc_limits_t){.message = 100, .metadata = 200});
        rows[i].fill(&t->in);
        assert_int_equal(feed(t), SL_OK);
        assert_non_null(strstr(t->seen.trace, rows[i].closed));
        assert_int_equal(t->seen.closed, 1);
        assert_true(sl_grpc_usable(t->conn)); /* others on the connection go on */
        sl_grpc_free(t->conn);
        free(t);
    }
}

static void goaway_ends_what_was_not_looked_at_and_lets_the_rest_finish(void **state) {
    (void)state;
    test_t *t = begin(NULL);
    seen_t later = {.closed = 0};
    assert_int_equal(sl_grpc_open(t->conn, &request, &later, &later.stream), SL_OK);
    written(t->conn);
    frame(&t->in, GOAWAY, 0, 0, "\0\0\0\1\0\0\0\0", 8);
    feed(t);
    assert_true(later.closed == 1 && later.unprocessed);
    assert_false(sl_grpc_usable(t->conn));
    assert_int_equal(sl_grpc_open(t->conn, &request, &later, &later.stream), SL_CONFLICT);
    headers(&t->in, 1, true, ANSWER ",grpc-status=0");
    feed(t);
    assert_int_equal(t->seen.closed, 1);
    assert_int_equal(sl_grpc_streams(t->conn), 0);
    end(t, "initial() trailing(:status=200,content-type=application/grpc,grpc-status=0) closed(0 ) ");
}

static void a_lost_connection_closes_every_stream_once(void **state) {
    (void)state;
    test_t *t = begin(NULL);
    seen_t waiting = {.closed = 0};
    assert_int_equal(sl_grpc_open(t->conn, &request, &waiting, &waiting.stream), SL_OK);
    sl_grpc_lost(t->conn, "gone");
    sl_grpc_lost(t->conn, "gone again");
    assert_true(waiting.closed == 1 && waiting.unprocessed && t->seen.closed == 1 && !t->seen.unprocessed);
    assert_int_equal(sl_grpc_feed(t->conn, "x", 1, NULL), SL_FAILED);
    assert_true(sl_grpc_over(t->conn));
    end(t, "closed(14 gone) ");
}

static void a_stream_can_be_reset_and_sent_on_from_inside_of_its_events(void **state) {
    (void)state;
    test_t *t = begin(NULL);
    t->seen.reaction = "send";
    headers(&t->in, 1, false, ANSWER);
    assert_int_equal(sl_grpc_feed(t->conn, t->in.bytes, t->in.len, NULL), SL_OK);
    assert_true(written(t->conn) > 11);
    t->in.len = 0;
    t->seen.reaction = "reset";
    message(&t->in, 1, 0, 1, "a");
    message(&t->in, 1, 0, 1, "b");
    headers(&t->in, 1, true, "grpc-status=0");
    feed(t);
    assert_int_equal(sl_grpc_streams(t->conn), 0);
    end(t, "initial(:status=200,content-type=application/grpc) message(a) ");
}

static void what_waits_to_be_sent_has_a_ceiling(void **state) {
    (void)state;
    test_t *t = begin(&(sl_grpc_limits_t){.queued = 100});
    char text[90];
    memset(text, 'x', sizeof(text));
    assert_int_equal(sl_grpc_send(t->seen.stream, sl_str(text, 96)), SL_AGAIN);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(sl_grpc_send(t->seen.stream, sl_str(text, 90)), SL_OK);
        assert_int_equal(sl_grpc_send(t->seen.stream, sl_str(text, 1)), SL_AGAIN);
        assert_int_equal(written(t->conn), 9 + 95);
    }
    sl_grpc_finish(t->seen.stream);
    assert_int_equal(sl_grpc_send(t->seen.stream, sl_str(text, 1)), SL_INVALID);
    assert_int_equal(written(t->conn), 9);
    end(t, "");
}

static void the_window_of_the_peer_is_kept(void **state) {
    (void)state;
    test_t *t = begin(NULL);
    static char much[100000];
    assert_int_equal(sl_grpc_send(t->seen.stream, sl_str(much, sizeof(much))), SL_OK);
    size_t first = written(t->conn);
    assert_true(first > 65000 && first < 66000);
    frame(&t->in, 8, 0, 0, "\0\1\0\0", 4);
    frame(&t->in, 8, 0, 1, "\0\1\0\0", 4);
    assert_int_equal(sl_grpc_feed(t->conn, t->in.bytes, t->in.len, NULL), SL_OK);
    assert_true(written(t->conn) > 34000);
    end(t, "");
}

static void unfinished_messages_share_a_ceiling(void **state) {
    (void)state;
    test_t *t = begin(&(sl_grpc_limits_t){.message = 100, .received = 10});
    headers(&t->in, 1, false, ANSWER);
    message(&t->in, 1, 0, 50, "12345");
    message(&t->in, 1, 0, 50, "123456");
    feed(t);
    end(t, "initial(:status=200,content-type=application/grpc) closed(8 there is no room for the message) ");
}

static void a_request_that_cannot_be_is_refused(void **state) {
    (void)state;
    test_t *t = begin(NULL);
    sl_grpc_stream_t *s;
    static char big[5000];
    memset(big, 'a', sizeof(big));
    sl_str_t bad[] = {SL_STR(""), SL_STR("a b"), SL_STR("a\r\nb"), SL_STR("a?b"), SL_STR("\x7f"), sl_str(big, sizeof(big))};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sl_grpc_request_t r = request;
        r.service = bad[i];
        assert_int_equal(sl_grpc_open(t->conn, &r, t, &s), SL_INVALID);
        r = request;
        r.method = bad[i];
        assert_int_equal(sl_grpc_open(t->conn, &r, t, &s), SL_INVALID);
        r = request;
        r.authority = bad[i];
        assert_int_equal(sl_grpc_open(t->conn, &r, t, &s), SL_INVALID);
    }
    end(t, "");
}

static void garbage_is_no_http2(void **state) {
    (void)state;
    test_t *t = begin(NULL);
    t->in.len = 0;
    put(&t->in, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    sl_status_t rc = feed(t);
    assert_true(rc == SL_FAILED || sl_grpc_over(t->conn));
    end(t, "");
}

static void timeouts_have_at_most_eight_digits(void **state) {
    (void)state;
    static const struct {
        uint32_t ms;
        const char *text;
    } rows[] = {{1, "1m"}, {99999999, "99999999m"}, {100000000, "100000S"}, {UINT32_MAX, "4294967S"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[16];
        sl_grpc_timeout_text(rows[i].ms, text, sizeof(text));
        assert_string_equal(text, rows[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_told_in_its_order),
        cmocka_unit_test(a_message_may_come_in_any_pieces),
        cmocka_unit_test(trailers_alone_are_no_initial_metadata),
        cmocka_unit_test(what_is_wrong_has_a_status_and_a_text),
        cmocka_unit_test(goaway_ends_what_was_not_looked_at_and_lets_the_rest_finish),
        cmocka_unit_test(a_lost_connection_closes_every_stream_once),
        cmocka_unit_test(a_stream_can_be_reset_and_sent_on_from_inside_of_its_events),
        cmocka_unit_test(what_waits_to_be_sent_has_a_ceiling),
        cmocka_unit_test(the_window_of_the_peer_is_kept),
        cmocka_unit_test(unfinished_messages_share_a_ceiling),
        cmocka_unit_test(a_request_that_cannot_be_is_refused),
        cmocka_unit_test(garbage_is_no_http2),
        cmocka_unit_test(timeouts_have_at_most_eight_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
