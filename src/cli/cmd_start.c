#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "prepare.h"

static void nginx_argv(const prepared_t *p, char conf[CLI_PATH_MAX + 32], char log[CLI_PATH_MAX + 32], char *argv[8]) {
    snprintf(conf, CLI_PATH_MAX + 32, "%s/nginx.conf", p->prefix);
    snprintf(log, CLI_PATH_MAX + 32, "%s/logs/error.log", p->prefix);
    char *const fixed[8] = {(char *)(uintptr_t)p->nginx, "-p", (char *)(uintptr_t)p->prefix, "-c", conf, "-e", log, NULL};
    memcpy(argv, fixed, sizeof(fixed));
}

static void say_listens(const char *what, const listens_t *l) {
    printf("  %-10s", what);
    for (size_t i = 0; i < l->n; i++) {
        printf("%s%s%s", i == 0 ? "" : ", ", l->at[i].address, l->at[i].ssl ? " (TLS)" : "");
    }
    printf("%s\n", l->n == 0 ? "off" : "");
}

static void say(const prepared_t *p) {
    printf("Sluice %s\n", SLUICE_VERSION);
    say_listens("proxy", &p->proxy);
    say_listens("Admin API", &p->admin);
    if (p->status.n > 0) {
        say_listens("status", &p->status);
    }
    printf("  %-10s%s\n", "prefix", p->prefix);
    fflush(stdout);
}

/* The daemon's parent exits once the configuration was accepted; the pid file follows. */
static bool wait_for_pid(const char *prefix) {
    for (int i = 0; i < 500; i++) {
        if (cli_running_pid(prefix) != 0) {
            return true;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

static int run_daemon(const prepared_t *p, char *argv[]) {
    pid_t pid = fork();
    if (pid == 0) {
        execv(p->nginx, argv);
        _exit(127);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        return cli_fail("cannot start %s: %s", p->nginx, strerror(errno));
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return cli_fail("nginx did not start; see %s/logs/error.log", p->prefix);
    }
    if (!wait_for_pid(p->prefix)) {
        return cli_fail("nginx started but wrote no %s/pids/nginx.pid within 5 s; see %s/logs/error.log", p->prefix, p->prefix);
    }
    puts("Sluice started");
    return 0;
}

static int launch(const settings_t *s, const prepared_t *p) {
    char conf[CLI_PATH_MAX + 32], log[CLI_PATH_MAX + 32];
    char *argv[8];
    nginx_argv(p, conf, log, argv);
    say(p);
    /* nginx takes this variable for a list of inherited sockets, whatever it was meant for. */
    unsetenv("NGINX");
    if (settings_on(s, "nginx_main_daemon")) {
        return run_daemon(p, argv);
    }
    execv(p->nginx, argv);
    return cli_fail("cannot start %s: %s", p->nginx, strerror(errno));
}

static sl_status_t check(const settings_t *s, prepared_t *p, sl_err_t *err) {
    sl_status_t rc = prepare_check(s, p, err);
    if (rc == SL_OK && cli_running_pid(p->prefix) != 0) {
        rc = sl_err_set(err, SL_CONFLICT, "Sluice is already running in %s; stop it first, or set SLUICE_PREFIX to another folder",
                        p->prefix);
    }
    return rc;
}

static int start_with(const settings_t *s) {
    static prepared_t p;
    sl_err_t err = {.text = ""};
    sl_status_t rc = check(s, &p, &err);
    rc = rc == SL_OK ? listens_probe(&p.proxy, "PROXY_LISTEN", NULL, p.prefix, &err) : rc;
    rc = rc == SL_OK ? listens_probe(&p.admin, "ADMIN_LISTEN", NULL, p.prefix, &err) : rc;
    rc = rc == SL_OK ? listens_probe(&p.status, "STATUS_LISTEN", NULL, p.prefix, &err) : rc;
    rc = rc == SL_OK ? prepare_prefix(s, &p, &err) : rc;
    return rc == SL_OK ? launch(s, &p) : cli_fail_err(&err);
}

int cmd_start(const cli_options_t *o) {
    settings_t *s;
    if (cli_settings(o, &s) != SL_OK) {
        return 1;
    }
    int code = start_with(s);
    settings_free(s);
    return code;
}

int cmd_prepare(const cli_options_t *o) {
    static prepared_t p;
    sl_err_t err = {.text = ""};
    settings_t *s;
    if (cli_settings(o, &s) != SL_OK) {
        return 1;
    }
    sl_status_t rc = check(s, &p, &err);
    rc = rc == SL_OK ? prepare_prefix(s, &p, &err) : rc;
    if (rc == SL_OK) {
        printf("prepared; start it with: %s -p %s -c %s/nginx.conf\n", p.nginx, p.prefix, p.prefix);
    }
    settings_free(s);
    return rc == SL_OK ? 0 : cli_fail_err(&err);
}

/* Starts with the settings that it was started with before, over which those of now go. */
int cmd_restart(const cli_options_t *o) {
    settings_t *s;
    char prefix[CLI_PATH_MAX];
    if (cli_running_settings(o, &s) != SL_OK) {
        return 1;
    }
    bool running = cli_prefix(s, prefix, NULL) == SL_OK && cli_running_pid(prefix) != 0;
    int code = running ? cmd_stop(o) : 0;
    code = code == 0 ? start_with(s) : code;
    settings_free(s);
    return code;
}
