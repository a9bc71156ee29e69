#include "sl_resp.h"

#include <stdio.h>
#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"

/* Feeds `step` bytes at a time, from memory that ends where the piece does. *taken: bytes up to the end of the answer. */
static sl_status_t feed(sl_resp_t *r, const char *text, size_t len, size_t step, size_t *taken) {
    sl_status_t rc = SL_AGAIN;
    *taken = 0;
    for (size_t at = 0; at < len && rc == SL_AGAIN; at += step) {
        size_t n = len - at < step ? len - at : step, used;
        char *piece = malloc(n);
        memcpy(piece, text + at, n);
        rc = sl_resp_feed(r, piece, n, &used);
        *taken += used;
        free(piece);
    }
    return rc;
}

static const size_t steps[] = {1, 2, 3, 7, 1000};
#define EACH_STEP(step) for (size_t i_ = 0, step = 1; i_ < sizeof(steps) / sizeof(steps[0]) && (step = steps[i_], true); i_++)

static void assert_whole(const char *answer) {
    EACH_STEP(step) {
        sl_resp_t r;
        size_t taken;
        char text[256];
        snprintf(text, sizeof(text), "%s+NEXT\r\n", answer);
        sl_resp_init(&r, 4096, NULL);
        assert_int_equal(feed(&r, text, strlen(text), step, &taken), SL_OK);
        assert_int_equal(taken, strlen(answer));
        assert_true(sl_str_eq(sl_buf_str(&r.bytes), sl_cstr(answer)));
        sl_resp_deinit(&r);
    }
}

static void each_kind_of_answer_ends_where_it_ends(void **state) {
    (void)state;
    static const char *const answers[] = {
        "+OK\r\n",
        "-ERR no\r\n",
        ":-12\r\n",
        "$5\r\nhe\r\no\r\n",
        "$0\r\n\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n$1\r\na\r\n:1\r\n",
        "*2\r\n*1\r\n*0\r\n*2\r\n+a\r\n$-1\r\n",
        "_\r\n",
        ",1.5\r\n",
        "#t\r\n",
        "(123456789012345678901234567890\r\n",
        "!5\r\nERR x\r\n",
        "=7\r\ntxt:abc\r\n",
        "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
        "~1\r\n+a\r\n",
        ">2\r\n+a\r\n+b\r\n",
        "|1\r\n+a\r\n+b\r\n*1\r\n:1\r\n",
        "*1\r\n|1\r\n+a\r\n+b\r\n:1\r\n",
    };
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        assert_whole(answers[i]);
    }
}

static void what_is_no_answer_is_refused_for_good(void **state) {
    (void)state;
    static const char *const wrong[] = {"HTTP/1.1 400 Bad Request\r\n",
                                        "\r\n",
                                        "+OK\n",
                                        "$x\r\n",
                                        "$\r\n",
                                        "$-2\r\n",
                                        "$1\r\nabc",
                                        "*x\r\n",
                                        "*-2\r\n",
                                        "%-1\r\n",
                                        "*99999999999\r\n",
                                        "$99999999999999999999\r\n",
                                        "$4095\r\n",
                                        "$?\r\n",
                                        "*?\r\n"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        EACH_STEP(step) {
            sl_resp_t r;
            size_t taken;
            sl_resp_init(&r, 4096, NULL);
            assert_int_equal(feed(&r, wrong[i], strlen(wrong[i]), step, &taken), SL_INVALID);
            assert_non_null(r.broken);
            assert_int_equal(sl_resp_feed(&r, "+OK\r\n", 5, &taken), SL_INVALID);
            sl_resp_deinit(&r);
        }
    }
}

static void an_endless_line_and_an_endless_array_meet_the_ceiling(void **state) {
    (void)state;
    sl_resp_t r;
    size_t taken;
    sl_status_t rc = SL_AGAIN;
    sl_resp_init(&r, 1 << 20, NULL);
    for (int i = 0; i < 1 << 20 && rc == SL_AGAIN; i++) {
        rc = sl_resp_feed(&r, "++++++++", 8, &taken);
    }
    assert_int_equal(rc, SL_INVALID);
    sl_resp_deinit(&r);
    sl_resp_init(&r, 1 << 20, NULL);
    assert_int_equal(sl_resp_feed(&r, "*2000000000\r\n", 13, &taken), SL_AGAIN);
    rc = SL_AGAIN;
    for (int i = 0; i < 1 << 20 && rc == SL_AGAIN; i++) {
        rc = sl_resp_feed(&r, "*2000000000\r\n", 13, &taken);
    }
    assert_int_equal(rc, SL_INVALID);
    sl_resp_deinit(&r);
}

static void pushes_and_errors_are_known_as_such(void **state) {
    (void)state;
    sl_resp_t r;
    size_t taken;
    sl_resp_init(&r, 4096, NULL);
    assert_int_equal(sl_resp_feed(&r, ">1\r\n-x\r\n", 8, &taken), SL_OK);
    assert_true(r.push && !r.error);
    sl_resp_next(&r);
    assert_int_equal(sl_resp_feed(&r, "-ERR\r\n", 6, &taken), SL_OK);
    assert_true(!r.push && r.error);
    sl_resp_next(&r);
    assert_int_equal(sl_resp_feed(&r, "*1\r\n-ERR\r\n", 10, &taken), SL_OK);
    assert_true(!r.push && !r.error);
    sl_resp_next(&r);
    assert_int_equal(r.bytes.len, 0);
    sl_resp_deinit(&r);
}

static void memory_that_is_missing_breaks_the_answer(void **state) {
    (void)state;
    sl_resp_t r;
    size_t taken;
    sl_resp_init(&r, 4096, NULL);
    fail_alloc_at(1);
    sl_status_t rc = sl_resp_feed(&r, "$1\r\na\r\n", 7, &taken);
    fail_alloc_at(0);
    assert_int_equal(rc, SL_INVALID);
    sl_resp_deinit(&r);
}

/* ---- requests ---- */

static sl_status_t ask(const char *words, sl_resp_request_t *out) {
    char copy[256], *save = NULL;
    const char *why = NULL;
    sl_buf_t query;
    sl_buf_init(&query, 4096);
    snprintf(copy, sizeof(copy), "%s", words);
    for (char *line = strtok_r(copy, ";", &save); line != NULL; line = strtok_r(NULL, ";", &save)) {
        sl_str_t list[16];
        size_t n = 0;
        char *inner = NULL;
        for (char *word = strtok_r(line, " ", &inner); word != NULL; word = strtok_r(NULL, " ", &inner)) {
            list[n++] = sl_cstr(word);
        }
        assert_int_equal(sl_resp_write_command(&query, list, n), SL_OK);
    }
    sl_status_t rc = sl_resp_request(sl_buf_str(&query), out, &why);
    assert_true(rc == SL_OK || why != NULL);
    sl_buf_deinit(&query);
    return rc;
}

static void commands_are_counted(void **state) {
    (void)state;
    sl_resp_request_t facts;
    assert_int_equal(ask("GET k", &facts), SL_OK);
    assert_int_equal(facts.n_commands, 1);
    assert_false(facts.blocks);
    assert_int_equal(ask("SET k v;GET k;INCR n", &facts), SL_OK);
    assert_int_equal(facts.n_commands, 3);
    assert_int_equal(ask("multi;SET k v;EXEC;MULTI;DISCARD", &facts), SL_OK);
    assert_int_equal(facts.n_commands, 5);
}

static void what_changes_the_connection_for_others_is_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"AUTH x", "auth a b", "HELLO 3",     "SELECT 1",         "QUIT",
                                        "RESET",  "MONITOR",  "SUBSCRIBE c", "CLIENT ID",        "GET k;quit",
                                        "MULTI",  "EXEC",     "WATCH k",     "MULTI;MULTI;EXEC", "GET k;MULTI;GET k"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        sl_resp_request_t facts;
        assert_int_equal(ask(wrong[i], &facts), SL_INVALID);
    }
}

static void commands_that_wait_are_known(void **state) {
    (void)state;
    static const char *const waiting[] = {"BLPOP k 0", "get k;brpop k 1", "WAIT 1 100", "XREAD COUNT 2 block 0 STREAMS s 0",
                                          "BZPOPMIN k 0"};
    sl_resp_request_t facts;
    for (size_t i = 0; i < sizeof(waiting) / sizeof(waiting[0]); i++) {
        assert_int_equal(ask(waiting[i], &facts), SL_OK);
        assert_true(facts.blocks);
    }
    assert_int_equal(ask("SET BLOCK BLOCK;XREAD STREAMS s 0", &facts), SL_OK);
    assert_false(facts.blocks);
}

static void what_is_no_array_of_strings_is_no_request(void **state) {
    (void)state;
    static const char *const wrong[] = {"",
                                        "PING\r\n",
                                        "*0\r\n",
                                        "*-1\r\n",
                                        "*1\r\n:1\r\n",
                                        "*1\r\n$4\r\nPIN",
                                        "*1\r\n$4\r\nPINGxx",
                                        "*2\r\n$4\r\nPING\r\n",
                                        "*1\r\n$-1\r\n",
                                        "*1\n$4\nPING\n",
                                        "*1\r\n$4\r\nPING\r\n*",
                                        "*1\r\n$99999999999999999\r\nPING\r\n",
                                        "*999999999999\r\n$4\r\nPING\r\n"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        sl_resp_request_t facts;
        const char *why = NULL;
        size_t len = strlen(wrong[i]);
        char *exact = malloc(len + 1);
        memcpy(exact + 1, wrong[i], len);
        assert_int_equal(sl_resp_request(sl_str(exact + 1, len), &facts, &why), SL_INVALID);
        assert_non_null(why);
        free(exact);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_answer_ends_where_it_ends),
        cmocka_unit_test(what_is_no_answer_is_refused_for_good),
        cmocka_unit_test(an_endless_line_and_an_endless_array_meet_the_ceiling),
        cmocka_unit_test(pushes_and_errors_are_known_as_such),
        cmocka_unit_test(memory_that_is_missing_breaks_the_answer),
        cmocka_unit_test(commands_are_counted),
        cmocka_unit_test(what_changes_the_connection_for_others_is_refused),
        cmocka_unit_test(commands_that_wait_are_known),
        cmocka_unit_test(what_is_no_array_of_strings_is_no_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
