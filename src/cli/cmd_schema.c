/* The Admin API and its entities, described: an OpenAPI document, the reference page. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "gw_describe.h"

static int print_openapi(void) {
    json_t *document = gw_openapi(SLUICE_VERSION);
    char *text = document != NULL ? json_dumps(document, JSON_INDENT(2)) : NULL;
    int code = text != NULL && puts(text) != EOF ? 0 : cli_fail("out of memory, or nobody reads what is printed");
    free(text);
    json_decref(document);
    return code;
}

static int print_entities(void) {
    sl_buf_t page;
    sl_buf_init(&page, (size_t)16 * 1024 * 1024);
    int code = gw_reference_print(&page) == SL_OK && fwrite(page.data, 1, page.len, stdout) == page.len
                   ? 0
                   : cli_fail("out of memory, or nobody reads what is printed");
    sl_buf_deinit(&page);
    return code;
}

int cmd_schema(const cli_options_t *o) {
    const char *what = o->n_args == 1 ? o->args[0] : "";
    if (strcmp(what, "openapi") == 0) {
        return print_openapi();
    }
    if (strcmp(what, "entities") == 0) {
        return print_entities();
    }
    fputs("Usage: sluice schema openapi|entities\n", stderr);
    return 2;
}
