#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"

/* A new command is a row here, a prototype in cli.h and a cmd_<name>.c. */
static const cli_command_t commands[] = {
    {"start", "start [-c CONF] [-p PREFIX]", "start the gateway (in the foreground with SLUICE_NGINX_DAEMON=off)", cmd_start},
    {"stop", "stop [-p PREFIX] [-t SECONDS]", "stop it at once", cmd_stop},
    {"quit", "quit [-p PREFIX] [-t SECONDS]", "stop it after the requests in flight", cmd_quit},
    {"restart", "restart [-c CONF] [-p PREFIX]", "stop and start", cmd_restart},
    {"reload", "reload [-p PREFIX]", "read the settings and the declarative file again", cmd_reload},
    {"health", "health [-p PREFIX]", "say whether it runs", cmd_health},
    {"check", "check [--filters DIR] FILE", "validate a declarative file and start each of its filters once", cmd_check},
    {"config", "config init|parse|db_import|db_export [FILE]", "write a sample, check a file, import it into the store, export the store",
     cmd_config},
    {"version", "version", "print the version", cmd_version},
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

int cli_fail(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("Error: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return 1;
}

int cli_fail_err(const sl_err_t *err) {
    return err->text[0] != '\0' ? cli_fail("%s", err->text) : 1;
}

void cli_warn(const char *line) {
    fprintf(stderr, "Warning: %s\n", line);
}

static void usage(FILE *out) {
    fputs("Usage: sluice COMMAND [OPTIONS]\n\nCommands:\n", out);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        fprintf(out, "  %-32s %s\n", commands[i].usage, commands[i].help);
    }
    fputs("\nOptions:\n"
          "  -c, --conf FILE      settings (default: /etc/sluice/sluice.conf, if it is there)\n"
          "  -p, --prefix DIR     working folder (default: /usr/local/sluice)\n"
          "  -t, --timeout SECS   how long to wait\n"
          "      --filters DIR    where .wasm files are\n"
          "\nSettings are also read from SLUICE_* and KONG_* environment variables.\n",
          out);
}

static bool take_options(int argc, char **argv, cli_options_t *o) {
    static const struct option longs[] = {
        {"conf", required_argument, NULL, 'c'},
        {"prefix", required_argument, NULL, 'p'},
        {"timeout", required_argument, NULL, 't'},
        {"filters", required_argument, NULL, 'f'},
        {"v", no_argument, NULL, 'v'},
        {"vv", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long_only(argc, argv, "c:p:t:f:v", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            o->conf = optarg;
            break;
        case 'p':
            o->prefix = optarg;
            break;
        case 't':
            o->timeout_s = atoi(optarg);
            if (optarg[strspn(optarg, "0123456789")] != '\0' || o->timeout_s <= 0) {
                return false;
            }
            break;
        case 'f':
            o->filters = optarg;
            break;
        case 'v':
            break;
        default:
            return false;
        }
    }
    o->args = argv + optind;
    o->n_args = argc - optind;
    return true;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, name) != 0) {
            continue;
        }
        cli_options_t o = {.conf = NULL};
        if (!take_options(argc - 1, argv + 1, &o)) {
            fprintf(stderr, "Usage: sluice %s\n", commands[i].usage);
            return 2;
        }
        return commands[i].run(&o);
    }
    fprintf(stderr, "No such command: %s\n\n", argv[1]);
    usage(stderr);
    return 2;
}
