/*
 * What the commands share: options, output, the node that settings describe.
 * Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong usage.
 */
#ifndef CLI_H
#define CLI_H

#include "nd_config.h"
#include "settings.h"

#define SLUICE_VERSION "0.1.0"
#define CLI_PATH_MAX 4096

#define CLI_HEADERS_MAX 64

typedef struct {
    const char *conf;                     /* -c */
    const char *prefix;                   /* -p */
    const char *filters;                  /* --filters */
    bool flatten;                         /* unused by most */
    int timeout_s;                        /* -t, 0: the command's default */
    int wait_s;                           /* --wait: before the shutdown begins */
    const char *nginx_conf;               /* --nginx-conf, which is Kong's */
    bool json;                            /* --json */
    const char *memory;                   /* --memory */
    const char *headers[CLI_HEADERS_MAX]; /* -H */
    int n_headers;
    char *const *args; /* what is left */
    int n_args;
} cli_options_t;

typedef struct {
    const char *name;
    const char *usage; /* "start [-c CONF] [-p PREFIX]" */
    const char *help;  /* one line */
    int (*run)(const cli_options_t *o);
} cli_command_t;

int cmd_start(const cli_options_t *o);
int cmd_prepare(const cli_options_t *o);
int cmd_stop(const cli_options_t *o);
int cmd_quit(const cli_options_t *o);
int cmd_restart(const cli_options_t *o);
int cmd_reload(const cli_options_t *o);
int cmd_health(const cli_options_t *o);
int cmd_check(const cli_options_t *o);
int cmd_filters(const cli_options_t *o);
int cmd_config(const cli_options_t *o);
int cmd_routes(const cli_options_t *o);
int cmd_schema(const cli_options_t *o);
/* sluice config diff (cmd_diff.c) */
int cmd_config_diff(const settings_t *s, const char *path);
/* sluice filters dump (cmd_dump.c); memory_path NULL: the text alone */
int cmd_filters_dump(const char *path, const char *memory_path);
int cmd_version(const cli_options_t *o);

/* "Error: <text>" on stderr; returns 1. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with the text of err; prints nothing where there is none, because it has been printed. */
int cli_fail_err(const sl_err_t *err);
void cli_warn(const char *line);

/* Settings with the options applied; the text of a failure is printed. */
sl_status_t cli_settings(const cli_options_t *o, settings_t **out);
/* Without warnings, for commands that need little more than the prefix. */
sl_status_t cli_settings_quietly(const cli_options_t *o, settings_t **out);
/* As cli_settings, with those that a gateway on this prefix was started with between the settings file and the environment. */
sl_status_t cli_running_settings(const cli_options_t *o, settings_t **out);

/* The prefix as an absolute path without a trailing slash. */
sl_status_t cli_prefix(const settings_t *s, char out[CLI_PATH_MAX], sl_err_t *err);
/* Whether `pid` is the master of the gateway on this prefix. */
bool cli_is_running(const char *prefix, long pid);
/* The master's pid, 0 when no gateway runs on this prefix. */
long cli_running_pid(const char *prefix);

#endif
