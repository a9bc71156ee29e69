/* docs/reference/abi.md names every row of the host's tables, and nothing that they do not have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cf_run.h"
#include "sl_file.h"

#define PW_ENV(name, sig, versions, ...) {#name, versions},
#define PW_ENV_TYPE(name, suffix, ...)
#define PW_WASI(name, sig, ...) {#name, NULL},
#define PW_CALLBACK(id, name, ...) {#name, NULL},
#define PW_CALLBACK_ALIAS(id, name) {#name, NULL},
static const struct {
    const char *name;
    const char *since; /* in the third column; NULL: not said */
} rows[] = {
#include "pw_callbacks.def"
#include "pw_hostcalls.def"
};
enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };

static char text[128 * 1024], dialects[64 * 1024];

static int load_file(const char *name, char *into, size_t size) {
    const char *root = getenv("SLUICE_ROOT");
    char path[1024];
    sl_buf_t buf;
    sl_err_t err;
    snprintf(path, sizeof(path), "%s/docs/reference/%s", root != NULL ? root : ".", name);
    sl_buf_init(&buf, size - 1);
    if (sl_file_read(path, &buf, &err) != SL_OK) {
        print_error("%s\n", err.text);
        sl_buf_deinit(&buf);
        return -1;
    }
    memcpy(into, buf.data, buf.len);
    sl_buf_deinit(&buf);
    return 0;
}

static int load(void **state) {
    (void)state;
    int rc = load_file("abi.md", text, sizeof(text));
    return rc == 0 ? load_file("dialects.md", dialects, sizeof(dialects)) : rc;
}

static void every_row_is_in_the_reference(void **state) {
    (void)state;
    unsigned missing = 0;
    for (size_t i = 0; i < N_ROWS; i++) {
        char quoted[128];
        snprintf(quoted, sizeof(quoted), "`%s`", rows[i].name);
        if (strstr(text, quoted) == NULL) {
            missing++;
            print_error("docs/reference/abi.md does not name %s\n", rows[i].name);
        }
    }
    assert_int_equal(missing, 0);
}

static void the_reference_says_since_when_a_host_call_exists(void **state) {
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < N_ROWS; i++) {
        char row[160];
        snprintf(row, sizeof(row), "\n| `%s` | %s |", rows[i].name, rows[i].since != NULL ? rows[i].since : "");
        if (rows[i].since != NULL && strstr(text, row) == NULL) {
            wrong++;
            print_error("docs/reference/abi.md has no row for %s since %s\n", rows[i].name, rows[i].since);
        }
    }
    assert_int_equal(wrong, 0);
}

static int known(const char *name, size_t len) {
    for (size_t i = 0; i < N_ROWS; i++) {
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Table rows begin with a name in backquotes; those that look like names of the ABI must be in the tables. */
static void the_reference_invents_nothing(void **state) {
    (void)state;
    unsigned wrong = 0;
    for (const char *p = strstr(text, "\n| `proxy_"); p != NULL; p = strstr(p + 1, "\n| `proxy_")) {
        const char *name = p + 4;
        size_t len = strcspn(name, "`");
        if (!known(name, len)) {
            wrong++;
            print_error("docs/reference/abi.md has a row for %.*s, which is in no table\n", (int)len, name);
        }
    }
    assert_int_equal(wrong, 0);
}

static void every_difference_of_the_dialects_is_in_the_reference_and_played(void **state) {
    (void)state;
    unsigned wrong = 0, rows_there = 0, rows_played = 0;
    for (const cf_difference_t *d = cf_differences; d->name != NULL; d++, rows_played++) {
        char row[128];
        snprintf(row, sizeof(row), "\n| `%s` | ", d->name);
        if (strstr(dialects, row) == NULL) {
            wrong++;
            print_error("docs/reference/dialects.md does not tell of %s\n", d->name);
        }
    }
    for (const char *p = strstr(dialects, "\n| `"); p != NULL; p = strstr(p + 1, "\n| `")) {
        rows_there++;
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(rows_there, rows_played);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_in_the_reference),
        cmocka_unit_test(the_reference_says_since_when_a_host_call_exists),
        cmocka_unit_test(the_reference_invents_nothing),
        cmocka_unit_test(every_difference_of_the_dialects_is_in_the_reference_and_played),
    };
    return cmocka_run_group_tests(tests, load, NULL);
}
