/* The table of statuses (statuses.txt) on memhost, with both engines. tests/integration/test_http_statuses.py plays the same through nginx.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cf_run.h"

enum { PHASES = 6, LINE = 512 };

static const struct {
    const char *name;
    const char *script; /* what leads to that callback */
} phases[PHASES] = {{"request headers", "at REQH"},
                    {"request body", "at REQB 1"},
                    {"response headers", "at RESH"},
                    {"response body", "at RESB 1"},
                    {"log", "at LOG"},
                    {"tick", "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at TICK 1"}};

typedef struct {
    char call[64], args[256], statuses[PHASES][8];
} row_t;

static char *trim(char *s) {
    while (*s == ' ') {
        s++;
    }
    size_t len = strlen(s);
    while (len != 0 && (s[len - 1] == ' ' || s[len - 1] == '\n')) {
        s[--len] = '\0';
    }
    return s;
}

/* false: an empty line, or a comment. */
static bool row_read(char *line, row_t *row) {
    char *args = strchr(line, '|');
    char *statuses = args != NULL ? strchr(args + 1, '|') : NULL;
    if (line[0] == '#' || line[0] == '\n') {
        return false;
    }
    assert_non_null(statuses);
    *args++ = '\0';
    *statuses++ = '\0';
    snprintf(row->call, sizeof(row->call), "%s", trim(line));
    snprintf(row->args, sizeof(row->args), "%s", trim(args));
    assert_int_equal(sscanf(statuses, "%7s %7s %7s %7s %7s %7s", row->statuses[0], row->statuses[1], row->statuses[2], row->statuses[3],
                            row->statuses[4], row->statuses[5]),
                     PHASES);
    return true;
}

static unsigned row_play(const cf_env_t *env, const row_t *row) {
    char script[1024], why[2048];
    unsigned wrong = 0;
    for (int p = 0; p < PHASES; p++) {
        if (strcmp(row->statuses[p], "-") == 0) {
            continue;
        }
        snprintf(script, sizeof(script), "host upstream up; %s; call %s %s = %s%s", phases[p].script, row->call, row->args,
                 row->statuses[p], p == PHASES - 1 ? "; host tick" : "");
        if (!cf_run_case(env, &(cf_case_t){row->call, phases[p].name, CF_ABI_0_2_1, script}, why, sizeof(why))) {
            print_error("[%s] %s %s in %s: %s\n", env->name, row->call, row->args, phases[p].name, why);
            wrong++;
        }
    }
    return wrong;
}

static void play(const char *engine) {
    cf_env_t env;
    sl_err_t err;
    char line[LINE];
    row_t row;
    unsigned wrong = 0, rows = 0;
    FILE *table = fopen("tests/conformance/statuses.txt", "r");
    assert_non_null(table);
    assert_int_equal(cf_env_init(&env, engine, &err), SL_OK);
    while (fgets(line, sizeof(line), table) != NULL) {
        if (row_read(line, &row)) {
            rows++;
            wrong += row_play(&env, &row);
        }
    }
    fclose(table);
    cf_env_deinit(&env);
    assert_int_equal(wrong, 0);
    assert_true(rows > 90);
}

static void every_status_is_as_the_table_says_with_the_null_engine(void **state) {
    (void)state;
    play("null");
}

static void every_status_is_as_the_table_says_with_wasmtime(void **state) {
    (void)state;
    play("wasmtime");
}

/* Those that answer no status. */
static bool is_special(const char *name) {
    static const char *const special[] = {"pthread_equal", "emscripten_notify_memory_growth", "abort", "seed"};
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        if (strcmp(name, special[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void every_host_call_has_a_row(void **state) {
    (void)state;
    static char text[1 << 16];
    FILE *table = fopen("tests/conformance/statuses.txt", "r");
    assert_non_null(table);
    text[fread(text, 1, sizeof(text) - 1, table)] = '\0';
    fclose(table);
    unsigned missing = 0;
    static const char *const names[] = {
#define PW_ENV(name, sig, versions, allowed, handler, grant) #name,
#define PW_ENV_TYPE(name, suffix, sig, versions, allowed, handler, grant)
#define PW_WASI(name, sig, allowed, handler, grant)
#include "pw_hostcalls.def"
#undef PW_ENV
#undef PW_ENV_TYPE
#undef PW_WASI
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char row[96];
        snprintf(row, sizeof(row), "\n%s | ", names[i]);
        if (!is_special(names[i]) && strstr(text, row) == NULL) {
            missing++;
            print_error("tests/conformance/statuses.txt has no row for %s\n", names[i]);
        }
    }
    assert_int_equal(missing, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_host_call_has_a_row),
        cmocka_unit_test(every_status_is_as_the_table_says_with_the_null_engine),
        cmocka_unit_test(every_status_is_as_the_table_says_with_wasmtime),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
