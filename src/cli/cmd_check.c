#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "prepare.h"

/* Settings as a start would read them: the file, the environment, options. */
static int check_settings(const cli_options_t *o, const char *path) {
    static prepared_t p;
    cli_options_t with = *o;
    settings_t *s;
    sl_err_t err = {.text = ""};
    with.conf = path;
    if (cli_settings(&with, &s) != SL_OK) {
        return 1;
    }
    int code = prepare_check(s, &p, &err) == SL_OK ? 0 : cli_fail_err(&err);
    settings_free(s);
    if (code == 0) {
        printf("configuration at %s is valid\n", path);
    }
    return code;
}

static bool is_settings(const char *path) {
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".conf") == 0;
}

int cmd_check(const cli_options_t *o) {
    const char *settings = o->n_args == 0 ? o->conf : o->n_args == 1 && is_settings(o->args[0]) ? o->args[0] : NULL;
    if (settings != NULL) {
        return check_settings(o, settings);
    }
    if (o->n_args != 1) {
        fprintf(stderr, "Usage: sluice check [--filters DIR] FILE\n");
        return 2;
    }
    settings_t *s;
    if (cli_settings(o, &s) != SL_OK) {
        return 1;
    }
    sl_err_t err = {.text = ""};
    int code = prepare_check_file(s, o->args[0], &err) == SL_OK ? 0 : cli_fail_err(&err);
    settings_free(s);
    if (code == 0) {
        printf("%s: parse successful, every filter starts\n", o->args[0]);
    }
    return code;
}
