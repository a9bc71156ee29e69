#include "holders.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmocka_all.h"

static void *stays(void *unused) {
    (void)unused;
    pause();
    return NULL;
}

/* Its first thread ends, another one goes on with the files of both. */
static void lose_the_first_thread(void) {
    pthread_t other;
    if (pthread_create(&other, NULL, stays, NULL) == 0) {
        pthread_exit(NULL);
    }
    _exit(1);
}

static void wait_ended(pid_t pid) {
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

static void a_process_that_runs_or_is_no_more_is_not_ending(void **state) {
    (void)state;
    assert_false(holders_is_ending(getpid()));
    assert_false(holders_is_ending(0));
    assert_false(holders_is_ending(-1));
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    wait_ended(pid);
    assert_false(holders_is_ending(pid)); /* only waited for */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(holders_is_ending(pid));
}

static void a_process_of_which_some_is_left_is_ending(void **state) {
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        lose_the_first_thread();
    }
    bool ending = false;
    for (int i = 0; i < 2000 && !ending; i++) {
        ending = holders_is_ending(pid);
        usleep(5000);
    }
    assert_true(ending);
    assert_int_equal(kill(pid, SIGKILL), 0);
    wait_ended(pid);
    assert_false(holders_is_ending(pid));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_that_runs_or_is_no_more_is_not_ending),
        cmocka_unit_test(a_process_of_which_some_is_left_is_ending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
