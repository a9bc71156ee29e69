#include <stdio.h>

#include "cli.h"

int cmd_version(const cli_options_t *o) {
    (void)o;
    puts(SLUICE_VERSION);
    return 0;
}
