/* Work in pieces on several threads. */
#include "cmocka_all.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "sl_parallel.h"

enum { N = 1000 };

typedef struct {
    atomic_uint done[N];
    atomic_uint inside, most, open_signals;
    pthread_t caller;
    unsigned wait_for;
} work_t;

static void count(void *ud, size_t i) {
    work_t *w = ud;
    atomic_fetch_add(&w->done[i], 1);
}

/* Each waits until as many are inside, so that this ends only if there are as many threads. */
static void meet(void *ud, size_t i) {
    work_t *w = ud;
    sigset_t mask;
    count(w, i);
    if (!pthread_equal(pthread_self(), w->caller) && pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0) {
        atomic_fetch_add(&w->open_signals, sigismember(&mask, SIGTERM) == 0 || sigismember(&mask, SIGCHLD) == 0);
    }
    atomic_fetch_add(&w->inside, 1);
    while (atomic_load(&w->inside) < w->wait_for) {
        sched_yield();
    }
}

static void each_piece_is_done_once(void **state) {
    (void)state;
    const unsigned threads[] = {0, 1, 3, 1000};
    for (size_t t = 0; t < 4; t++) {
        work_t w = {.wait_for = 0};
        sl_parallel(N, threads[t], count, &w);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(w.done[i], 1);
        }
    }
}

static void nothing_to_do_is_done(void **state) {
    (void)state;
    sl_parallel(0, 0, NULL, NULL);
}

static void pieces_are_done_at_the_same_time(void **state) {
    (void)state;
    work_t w = {.wait_for = 4, .caller = pthread_self()};
    sl_parallel(4, 4, meet, &w);
    assert_int_equal(w.inside, 4);
}

static void other_threads_handle_no_signals(void **state) {
    (void)state;
    work_t w = {.wait_for = 2, .caller = pthread_self()};
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    sl_parallel(2, 2, meet, &w);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(w.open_signals, 0);
    assert_int_equal(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
}

static void as_many_threads_as_pieces_are_enough(void **state) {
    (void)state;
    work_t w = {.wait_for = 1, .caller = pthread_self()};
    sl_parallel(1, 8, meet, &w);
    assert_int_equal(w.done[0], 1);
    assert_int_equal(w.open_signals, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_piece_is_done_once),
        cmocka_unit_test(nothing_to_do_is_done),
        cmocka_unit_test(pieces_are_done_at_the_same_time),
        cmocka_unit_test(other_threads_handle_no_signals),
        cmocka_unit_test(as_many_threads_as_pieces_are_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
