/* Functions on a thread of their own. */
#include "cmocka_all.h"

#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "sl_aside.h"

#include "fail_alloc.h"

typedef struct {
    atomic_bool may_go_on;
    int result;
    bool gets_signals;
} work_t;

static void work(void *arg) {
    work_t *w = arg;
    sigset_t blocked;
    while (!atomic_load(&w->may_go_on)) {
    }
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    w->gets_signals = sigismember(&blocked, SIGTERM) == 0 || sigismember(&blocked, SIGVTALRM) == 0;
    w->result = 42;
}

static void its_caller_goes_on_and_sees_the_end(void **state) {
    (void)state;
    work_t w = {.result = 0};
    sl_aside_t *a = sl_aside_begin(work, &w);
    assert_non_null(a);
    assert_false(sl_aside_wait(a, 0));
    assert_false(sl_aside_wait(a, 1000));
    atomic_store(&w.may_go_on, true);
    while (!sl_aside_wait(a, 100000)) {
    }
    assert_int_equal(w.result, 42);
    assert_true(sl_aside_end(a) != 0);
    assert_false(w.gets_signals);
}

static void its_end_can_be_waited_for_without_asking_before(void **state) {
    (void)state;
    work_t w = {.may_go_on = true};
    sl_aside_t *a = sl_aside_begin(work, &w);
    assert_non_null(a);
    sl_aside_end(a);
    assert_int_equal(w.result, 42);
}

static void the_caller_gets_its_signals_as_before(void **state) {
    (void)state;
    sigset_t before, after;
    work_t w = {.may_go_on = true};
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    sl_aside_end(sl_aside_begin(work, &w));
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
}

static void without_memory_nothing_runs(void **state) {
    (void)state;
    work_t w = {.may_go_on = true};
    fail_alloc_at(1);
    assert_null(sl_aside_begin(work, &w));
    fail_alloc_at(0);
    assert_int_equal(w.result, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_caller_goes_on_and_sees_the_end),
        cmocka_unit_test(its_end_can_be_waited_for_without_asking_before),
        cmocka_unit_test(the_caller_gets_its_signals_as_before),
        cmocka_unit_test(without_memory_nothing_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
