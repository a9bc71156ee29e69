/*
 * The conformance suite: each case of the tables on memhost, with the null engine and with Wasmtime; and a check that no row of the host's
 * tables is without a case. SLUICE_CASE=word runs only the cases whose row or title contains the word, and says what it does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cf_run.h"
#include "cf_script.h"

extern const cf_case_t cf_cases_message[], cf_cases_calls[], cf_cases_callbacks[];
static const cf_case_t *const tables[] = {cf_cases_message, cf_cases_calls, cf_cases_callbacks};
enum { N_TABLES = sizeof(tables) / sizeof(tables[0]) };

static bool selected(const char *row, const char *title) {
    const char *word = getenv("SLUICE_CASE");
    return word == NULL || strstr(row, word) != NULL || strstr(title, word) != NULL;
}

typedef struct {
    const cf_env_t *env;
    unsigned run, failed;
} tally_t;

/*
 * Stories in which the plugin's instance and that of a request are one: a tick that acts on a stream that waits, counters over requests and
 * root contexts, what a trap leaves of the other contexts. docs/guide/sandbox.md says what is different.
 */
static bool needs_one_instance(const cf_case_t *c) {
    static const char *const titles[] = {
        "may be made from every callback",
        "keeps the code after a failure",
        "keeps the code after a gRPC failure, but not the text",
        "ends the VM with a trap; the request fails and nothing else is called",
        "comes for the stream, whatever it answers",
        "comes last, the stream before the root",
        "delays the end of a root that answers 0 until proxy_done",
        "on_log comes before on_done | after it",
    };
    if (strstr(c->script, "TICK") != NULL || strstr(c->script, "effective") != NULL) {
        return true;
    }
    for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++) {
        if (strcmp(c->title, titles[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void one(tally_t *t, const cf_case_t *c) {
    char why[2048];
    if (t->env->isolated && needs_one_instance(c)) {
        return;
    }
    t->run++;
    if (!cf_run_case(t->env, c, why, sizeof(why))) {
        t->failed++;
        print_error("[%s] %s %s:\n    %s\n", t->env->name, c->row, c->title, why);
    }
}

static void ordinary(tally_t *t) {
    for (size_t i = 0; i < N_TABLES; i++) {
        for (const cf_case_t *c = tables[i]; c->row != NULL; c++) {
            if (selected(c->row, c->title)) {
                one(t, c);
            }
        }
    }
}

/* The VM must live on: the log call afterwards is answered. `status` "?": any. */
static void hostile_one(tally_t *t, const cf_hostile_t *h, const char *call, const char *status, const char *after) {
    char script[4096], title[1100];
    snprintf(script, sizeof(script), "%s; %s = %s; call proxy_log 2 'alive'; %s; expect log 'alive'", h->section, call, status, after);
    snprintf(title, sizeof(title), "hostile: %s", call);
    one(t, &(cf_case_t){h->row, title, CF_ABI_0_2_1, script});
}

static void hostile(tally_t *t) {
    char call[1024], status[16];
    for (const cf_hostile_t *h = cf_hostiles; h->row != NULL; h++) {
        if (!selected(h->row, "hostile")) {
            continue;
        }
        snprintf(status, sizeof(status), "%u", h->right);
        hostile_one(t, h, h->call, status, "");
        snprintf(status, sizeof(status), "%u", h->wrong);
        for (unsigned nth = 0; cf_script_hostile(h->call, nth, false, call, sizeof(call)); nth++) {
            hostile_one(t, h, call, status, h->after[0] != '\0' ? h->after : "expect outcome done");
        }
        for (unsigned nth = 0; cf_script_hostile(h->call, nth, true, call, sizeof(call)); nth++) {
            hostile_one(t, h, call, "?", "");
        }
    }
}

/* Every call in every callback that happens to a filter: some status, and no trap. */
static const char *const sections[] = {"CTX 1", "CTX 2", "VM_START", "CONFIGURE", "TICK", "QUEUE", "REQH",   "REQB", "REQT",
                                       "RESH",  "RESB",  "REST",     "CALLRES",   "DONE", "LOG",   "DELETE", NULL};

static void everywhere(tally_t *t) {
    char script[4096], title[256];
    for (const cf_hostile_t *h = cf_hostiles; h->row != NULL; h++) {
        for (size_t i = 0; selected(h->row, "everywhere") && sections[i] != NULL; i++) {
            snprintf(
                script, sizeof(script),
                "message trailers; at CONFIGURE; call proxy_set_tick_period_milliseconds 10; call proxy_register_shared_queue 'eq' &eq; "
                "call proxy_http_call 'up' {:method=GET,:path=/,:authority=a} null null 0 &et; at %s; %s = ?; "
                "call proxy_log 2 'alive'; host tick maybe; host push 'eq' 'x' maybe; host answer maybe; expect nolog 'trapped'",
                sections[i], h->call);
            snprintf(title, sizeof(title), "everywhere: in %s", sections[i]);
            one(t, &(cf_case_t){h->row, title, CF_ABI_0_2_1, script});
            /* WasmX's dialect traps on misuse: whatever happens, the host goes on. */
            size_t len = strlen(script);
            script[len - strlen("; expect nolog 'trapped'")] = '\0';
            snprintf(title, sizeof(title), "everywhere: in %s, as in WasmX", sections[i]);
            char wasmx[4200];
            snprintf(wasmx, sizeof(wasmx), "host dialect wasmx; maytrap; %s", script);
            one(t, &(cf_case_t){h->row, title, CF_ABI_0_2_1, wasmx});
        }
    }
}

static void dialects(tally_t *t) {
    char script[4096];
    for (const cf_difference_t *d = cf_differences; d->name != NULL; d++) {
        if (selected(d->name, d->title)) {
            one(t, &(cf_case_t){d->name, d->title, d->abi, d->envoy});
            snprintf(script, sizeof(script), "host dialect wasmx; %s", d->wasmx);
            one(t, &(cf_case_t){d->name, d->title, d->abi, script});
        }
    }
}

static void run_all(const char *engine) {
    cf_env_t env;
    sl_err_t err = {""};
    if (cf_env_init(&env, engine, &err) != SL_OK) {
        fail_msg("engine %s: %s", engine, err.text);
    }
    tally_t t = {.env = &env};
    ordinary(&t);
    dialects(&t);
    unsigned n_ordinary = t.run;
    hostile(&t);
    unsigned n_hostile = t.run - n_ordinary;
    everywhere(&t);
    cf_env_deinit(&env);
    print_message("%s: %u conformance cases (%u hostile, %u of calls in each callback), %u failed\n", engine, t.run, n_hostile,
                  t.run - n_ordinary - n_hostile, t.failed);
    assert_int_equal(t.failed, 0);
}

/* What is said about host calls and callbacks holds where each request has an instance of its own, restored after the one before. */
static void run_isolated(void) {
    cf_env_t env;
    sl_err_t err = {""};
    if (cf_env_init(&env, "wasmtime", &err) != SL_OK) {
        fail_msg("engine wasmtime: %s", err.text);
    }
    env.isolated = true;
    tally_t t = {.env = &env};
    ordinary(&t);
    dialects(&t);
    unsigned n_ordinary = t.run;
    hostile(&t);
    cf_env_deinit(&env);
    assert_true(n_ordinary > 400); /* most of them */
    print_message("wasmtime, isolation \"request\": %u conformance cases (%u hostile), %u failed\n", t.run, t.run - n_ordinary, t.failed);
    assert_int_equal(t.failed, 0);
}

static void every_case_holds_with_the_null_engine(void **state) {
    (void)state;
    run_all("null");
}

static void every_case_holds_with_wasmtime(void **state) {
    (void)state;
    run_all("wasmtime");
    run_isolated(); /* in one test, because cmocka takes the engine's signal handlers away before each */
}

/* ---- coverage ---- */

static bool has_case(const char *row) {
    for (size_t i = 0; i < N_TABLES; i++) {
        for (const cf_case_t *c = tables[i]; c->row != NULL; c++) {
            if (strcmp(c->row, row) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool in_suite(const char *module, const char *name, const char *sig) {
    for (size_t i = 0; i < cf_n_imports; i++) {
        const cf_import_t *import = &cf_imports[i];
        if (strcmp(import->module, module) == 0 && strcmp(import->name, name) == 0 && strcmp(import->sig, sig) == 0) {
            return true;
        }
    }
    return false;
}

typedef struct {
    const char *module, *name, *sig;
} row_t;

#define PW_ENV(name, sig, ...) {"env", #name, sig},
#define PW_ENV_TYPE(name, suffix, sig, ...) {"env", #name, sig},
#define PW_WASI(name, sig, ...) {"wasi_snapshot_preview1", #name, sig},
static const row_t hostcalls[] = {
#include "pw_hostcalls.def"
};
#undef PW_ENV
#undef PW_ENV_TYPE
#undef PW_WASI

static void every_host_call_has_a_case_and_the_type_of_the_specification(void **state) {
    (void)state;
    unsigned missing = 0;
    for (size_t i = 0; i < sizeof(hostcalls) / sizeof(hostcalls[0]); i++) {
        const row_t *r = &hostcalls[i];
        if (!in_suite(r->module, r->name, r->sig)) {
            missing++;
            print_error("%s.%s with type \"%s\" is not in the suite's table\n", r->module, r->name, r->sig);
        }
        if (!has_case(r->name)) {
            missing++;
            print_error("%s has no case\n", r->name);
        }
    }
    assert_int_equal(missing, 0);
}

static void the_host_has_every_call_of_the_suite(void **state) {
    (void)state;
    unsigned missing = 0;
    for (size_t i = 0; i < cf_n_imports; i++) {
        bool found = strcmp(cf_imports[i].module, "wasi_unstable") == 0; /* linked as its newer name */
        for (size_t j = 0; j < sizeof(hostcalls) / sizeof(hostcalls[0]); j++) {
            found = found || (strcmp(hostcalls[j].name, cf_imports[i].name) == 0 && strcmp(hostcalls[j].sig, cf_imports[i].sig) == 0);
        }
        if (!found) {
            missing++;
            print_error("the host lacks %s with type \"%s\"\n", cf_imports[i].name, cf_imports[i].sig);
        }
    }
    assert_int_equal(missing, 0);
}

typedef struct {
    const char *name, *sig_0_1_0, *sig;
} callback_row_t;

#define PW_CALLBACK(id, name, sig1, sig2) {#name, sig1, sig2},
#define PW_CALLBACK_ALIAS(id, name)
static const callback_row_t callbacks[] = {
#include "pw_callbacks.def"
};
#undef PW_CALLBACK
#undef PW_CALLBACK_ALIAS

static const cf_callback_t *suite_callback(const char *name) {
    for (size_t i = 0; i < CF_CALLBACK_N; i++) {
        if (strcmp(cf_callbacks[i].name, name) == 0) {
            return &cf_callbacks[i];
        }
    }
    return NULL;
}

static void every_callback_has_a_case_and_the_type_of_the_specification(void **state) {
    (void)state;
    unsigned missing = 0;
    for (size_t i = 0; i < sizeof(callbacks) / sizeof(callbacks[0]); i++) {
        const cf_callback_t *cb = suite_callback(callbacks[i].name);
        bool old_ok = cb != NULL && (callbacks[i].sig_0_1_0[0] == '\0' || strcmp(cb->sig_0_1_0, callbacks[i].sig_0_1_0) == 0);
        if (!old_ok || strcmp(cb->sig, callbacks[i].sig) != 0) {
            missing++;
            print_error("%s is not in the suite's table with this type\n", callbacks[i].name);
        }
        if (!has_case(callbacks[i].name)) {
            missing++;
            print_error("%s has no case\n", callbacks[i].name);
        }
    }
    assert_int_equal(missing, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_host_call_has_a_case_and_the_type_of_the_specification),
        cmocka_unit_test(the_host_has_every_call_of_the_suite),
        cmocka_unit_test(every_callback_has_a_case_and_the_type_of_the_specification),
        cmocka_unit_test(every_case_holds_with_the_null_engine),
        cmocka_unit_test(every_case_holds_with_wasmtime),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
