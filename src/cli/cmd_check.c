#include <stdio.h>

#include "cli.h"
#include "prepare.h"

int cmd_check(const cli_options_t *o) {
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
