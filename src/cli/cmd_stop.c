#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "holders.h"
#include "prepare.h"

/* The running master of the prefix that the options name; prints why there is none. */
static long running(const cli_options_t *o, char prefix[CLI_PATH_MAX]) {
    settings_t *s;
    if (cli_settings_quietly(o, &s) != SL_OK) {
        return 0;
    }
    sl_err_t err = {.text = ""};
    long pid = 0;
    if (cli_prefix(s, prefix, &err) != SL_OK) {
        cli_fail_err(&err);
    } else if (access(prefix, F_OK) != 0) {
        cli_fail("no such prefix: %s", prefix);
    } else {
        pid = cli_running_pid(prefix);
        if (pid == 0) {
            cli_fail("Sluice is not running in %s", prefix);
        }
    }
    settings_free(s);
    return pid;
}

static bool wait_gone(const char *prefix, long pid, int seconds) {
    for (int i = 0; i < seconds * 100; i++) {
        if (!cli_is_running(prefix, pid) && !holders_is_ending(pid)) {
            return true;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

/* ---- what a killed master has left ---------------------------------------------------------------------------------- */

static void signal_all(const holders_t *h, int sig) {
    for (size_t i = 0; i < h->n; i++) {
        kill((pid_t)h->pids[i], sig);
    }
}

static bool any_ending(const holders_t *h) {
    for (size_t i = 0; i < h->n; i++) {
        if (holders_is_ending(h->pids[i])) {
            return true;
        }
    }
    return false;
}

/* Until none of `all` has its ports any more; their logs, by which they are found, they close first. */
static bool wait_no_orphans(const char *prefix, int seconds, const holders_t *all, holders_t *left) {
    for (int i = 0; i < seconds * 20; i++) {
        holders_orphans(prefix, left);
        if (left->n == 0 && !any_ending(all)) {
            return true;
        }
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return false;
}

/* The workers of a master that was killed keep its ports. true: there were some, and *code is what became of them. */
static bool stop_orphans(const cli_options_t *o, int sig, int *code) {
    char prefix[CLI_PATH_MAX];
    settings_t *s;
    holders_t orphans = {.n = 0};
    if (cli_settings_quietly(o, &s) != SL_OK) {
        return false;
    }
    if (cli_prefix(s, prefix, NULL) == SL_OK && cli_running_pid(prefix) == 0) {
        holders_orphans(prefix, &orphans);
    }
    settings_free(s);
    if (orphans.n == 0) {
        return false;
    }
    holders_t left;
    signal_all(&orphans, sig);
    if (!wait_no_orphans(prefix, o->timeout_s > 0 ? o->timeout_s : 10, &orphans, &left)) {
        signal_all(&left, SIGKILL);
        (void)wait_no_orphans(prefix, 5, &orphans, &left);
    }
    *code = left.n == 0 ? 0 : cli_fail("process %ld does not end", left.pids[0]);
    if (*code == 0) {
        printf("Sluice stopped: the master had been killed, %zu of its workers were still there\n", orphans.n);
    }
    return true;
}

static int stop_with(const cli_options_t *o, int sig, int seconds, const char *done) {
    char prefix[CLI_PATH_MAX];
    int code;
    if (stop_orphans(o, sig, &code)) {
        return code;
    }
    long pid = running(o, prefix);
    if (pid == 0) {
        return 1;
    }
    if (o->wait_s > 0 && sig == SIGQUIT) {
        nanosleep(&(struct timespec){.tv_sec = o->wait_s}, NULL);
    }
    if (kill((pid_t)pid, sig) != 0) {
        return cli_fail("cannot signal process %ld: %s", pid, strerror(errno));
    }
    seconds = o->timeout_s > 0 ? o->timeout_s : seconds;
    if (wait_gone(prefix, pid, seconds)) {
        puts(done);
        return 0;
    }
    if (sig == SIGTERM) {
        return cli_fail("process %ld is still there after %d s", pid, seconds);
    }
    kill((pid_t)pid, SIGTERM);
    if (!wait_gone(prefix, pid, 10)) {
        return cli_fail("process %ld does not stop", pid);
    }
    puts("Timeout, Sluice stopped forcefully");
    return 0;
}

int cmd_stop(const cli_options_t *o) {
    return stop_with(o, SIGTERM, 10, "Sluice stopped");
}

int cmd_quit(const cli_options_t *o) {
    return stop_with(o, SIGQUIT, 10, "Sluice stopped (gracefully)");
}

int cmd_health(const cli_options_t *o) {
    char prefix[CLI_PATH_MAX];
    if (running(o, prefix) == 0) {
        return 1;
    }
    printf("nginx.......running\n\nSluice is healthy at %s\n", prefix);
    return 0;
}

int cmd_reload(const cli_options_t *o) {
    char prefix[CLI_PATH_MAX];
    long pid = running(o, prefix);
    settings_t *s;
    if (pid == 0 || cli_running_settings(o, &s) != SL_OK) {
        return 1;
    }
    static prepared_t p;
    sl_err_t err = {.text = ""};
    sl_status_t rc = prepare_check(s, &p, &err);
    rc = rc == SL_OK ? prepare_reload(s, &p, &err) : rc;
    if (rc == SL_OK && kill((pid_t)pid, SIGHUP) != 0) {
        rc = sl_err_set(&err, SL_FAILED, "cannot signal process %ld: %s", pid, strerror(errno));
    }
    settings_free(s);
    if (rc != SL_OK) {
        return cli_fail_err(&err);
    }
    puts("Sluice reloaded");
    return 0;
}
