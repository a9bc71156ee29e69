#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* A new command is a row here, a prototype in cli.h and a cmd_<name>.c. */
static const cli_command_t commands[] = {
    {"start", "start [-c CONF] [-p PREFIX]", "start the gateway (in the foreground with SLUICE_NGINX_DAEMON=off)", cmd_start},
    {"stop", "stop [-p PREFIX] [-t SECONDS]", "stop it at once", cmd_stop},
    {"quit", "quit [-p PREFIX] [-t SECONDS] [-w SECONDS]", "stop it after the requests in flight", cmd_quit},
    {"restart", "restart [-c CONF] [-p PREFIX]", "stop and start", cmd_restart},
    {"reload", "reload [-p PREFIX]", "read the settings and the declarative file again", cmd_reload},
    {"health", "health [-p PREFIX]", "say whether it runs", cmd_health},
    {"check", "check [--filters DIR] FILE", "validate a declarative file and start each of its filters once; settings in a .conf file",
     cmd_check},
    {"prepare", "prepare [-c CONF] [-p PREFIX]", "write all that a start writes, for an nginx that somebody else starts", cmd_prepare},
    {"config", "config init|parse|db_import|db_export|diff [FILE]",
     "write a sample, check a file, import it into the store, export the store, say what a file would change", cmd_config},
    {"filters", "filters list | inspect NAME|FILE | dump FILE",
     "show installed filters, what a module is made of (--json), what a trap dump says (--memory FILE takes its memory out)", cmd_filters},
    {"routes", "routes explain METHOD URL [FILE]", "say which route a request takes and why (-H 'Name: value', --json)", cmd_routes},
    {"schema", "schema openapi|entities", "print the Admin API as an OpenAPI document, or the reference of entities", cmd_schema},
    {"version", "version", "print the version", cmd_version},
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* Commands of Kong that have no work to do here. */
static const struct {
    const char *name, *text;
    int code;
} answers[] = {
    {"migrations", "There is nothing to migrate: the embedded store makes and updates its tables itself.", 0},
    {"hybrid", "hybrid mode is not supported: there are no control planes and data planes", 1},
    {"vault", "vaults are not supported", 1},
    {"drain", "send POST /status/ready with {\"status\": \"draining\"} to the status listener (SLUICE_STATUS_LISTEN)", 1},
};

/* What a message quotes must not move the terminal's cursor. */
static void print_text(const char *before, const char *text) {
    fputs(before, stderr);
    for (const char *p = text; *p != '\0'; p++) {
        fputc(((unsigned char)*p < 0x20 && *p != '\n') || *p == 0x7f ? '?' : *p, stderr);
    }
    fputc('\n', stderr);
}

int cli_fail(const char *fmt, ...) {
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    print_text("Error: ", n >= 0 ? text : fmt);
    free(n >= 0 ? text : NULL);
    return 1;
}

/* An error is one line: a backtrace's line ends and indents become blanks. */
int cli_fail_err(const sl_err_t *err) {
    char line[sizeof(err->text)];
    size_t n = 0;
    for (const char *p = err->text; *p != '\0';) {
        bool end = *p == '\n';
        line[n++] = end ? ' ' : *p;
        p += end ? strspn(p, "\n ") : 1;
    }
    line[n] = '\0';
    return n != 0 ? cli_fail("%s", line) : 1;
}

void cli_warn(const char *line) {
    print_text("Warning: ", line);
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
          "  -w, --wait SECS      how long to go on before a quit begins\n"
          "      --filters DIR    where .wasm files are\n"
          "\nSettings are also read from SLUICE_* and KONG_* environment variables.\n",
          out);
}

static bool take_seconds(const char *text, int *out) {
    size_t n = strspn(text, "0123456789");
    *out = atoi(text);
    return n > 0 && n < 9 && text[n] == '\0';
}

static bool take_options(int argc, char **argv, cli_options_t *o) {
    static const struct option longs[] = {
        {"conf", required_argument, NULL, 'c'},
        {"prefix", required_argument, NULL, 'p'},
        {"timeout", required_argument, NULL, 't'},
        {"filters", required_argument, NULL, 'f'},
        {"header", required_argument, NULL, 'H'},
        {"json", no_argument, NULL, 'j'},
        {"memory", required_argument, NULL, 'm'},
        {"wait", required_argument, NULL, 'w'},
        {"nginx-conf", required_argument, NULL, 'n'},
        {"run-migrations", no_argument, NULL, 'v'}, /* the store needs none */
        {"v", no_argument, NULL, 'v'},
        {"vv", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long_only(argc, argv, "c:p:t:w:f:H:v", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            o->conf = optarg;
            break;
        case 'p':
            o->prefix = optarg;
            break;
        case 't':
            if (!take_seconds(optarg, &o->timeout_s) || o->timeout_s == 0) {
                return false;
            }
            break;
        case 'w':
            if (!take_seconds(optarg, &o->wait_s)) {
                return false;
            }
            break;
        case 'n':
            o->nginx_conf = optarg;
            break;
        case 'f':
            o->filters = optarg;
            break;
        case 'H':
            if (o->n_headers == CLI_HEADERS_MAX) {
                return false;
            }
            o->headers[o->n_headers++] = optarg;
            break;
        case 'j':
            o->json = true;
            break;
        case 'm':
            o->memory = optarg;
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
        if (o.nginx_conf != NULL) {
            return cli_fail("--nginx-conf: there are no templates; SLUICE_NGINX_<BLOCK>_<DIRECTIVE> adds directives to nginx.conf");
        }
        return commands[i].run(&o);
    }
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        if (strcmp(answers[i].name, name) == 0) {
            return answers[i].code != 0 ? cli_fail("%s", answers[i].text) : puts(answers[i].text) < 0;
        }
    }
    fprintf(stderr, "No such command: %s\n\n", argv[1]);
    usage(stderr);
    return 2;
}
