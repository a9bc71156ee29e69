/* Each allocation of ours fails once, in turn: the caller gets a status, and nothing leaks. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine_guests.h"
#include "fail_alloc.h"
#include "sl_cache.h"

static const sl_import_t imports[] = {
    {"env", "host_twice", "i:i", test_host_twice},
    {"env", "host_nested", "i:i", test_host_nested},
    {"env", "host_trap", ":", test_host_trap},
    {"env", "host_mem_size", ":i", test_host_mem_size},
};
enum { N_IMPORTS = sizeof(imports) / sizeof(imports[0]) };

static sl_status_t call_once(sl_module_t *m) {
    sl_instance_t *in;
    sl_func_t *f;
    sl_raw_t args[2] = {{.i32 = 40}, {.i32 = 2}};
    sl_status_t rc = sl_instance_new(m, imports, N_IMPORTS, NULL, NULL, &in, NULL);
    if (rc != SL_OK) {
        return rc;
    }
    rc = sl_instance_func(in, "add", "ii:i", &f, NULL);
    rc = rc == SL_OK ? sl_instance_call(in, f, args, NULL) : rc;
    sl_instance_free(in);
    return rc == SL_OK && args[0].i32 != 42 ? SL_FAILED : rc;
}

static sl_status_t live_and_die(const char *engine_name, const char *guest, const char *folder) {
    sl_engine_conf_t conf = {.name = engine_name};
    sl_engine_t *engine;
    sl_module_t *m;
    sl_cache_t *cache = NULL;
    sl_status_t rc = sl_engine_new(&conf, &engine, NULL);
    if (rc != SL_OK) {
        return rc;
    }
    if (folder != NULL && (cache = sl_cache_new(folder, NULL, NULL)) == NULL) {
        sl_engine_free(engine);
        return SL_NO_MEMORY;
    }
    rc = sl_module_get(engine, cache, sl_cstr(guest), &m, NULL);
    if (rc == SL_OK) {
        rc = call_once(m);
        sl_module_unref(m);
    }
    sl_cache_free(cache);
    sl_engine_free(engine);
    return rc;
}

static void whichever_allocation_fails_the_answer_is_no_memory(void **state) {
    (void)state;
    for (size_t e = 0; e < TEST_N_ENGINES; e++) {
        unsigned failures = 0;
        for (unsigned n = 1;; n++) {
            fail_alloc_at(n);
            sl_status_t rc = live_and_die(test_engines[e].name, test_engines[e].guest, NULL);
            bool visited = fail_alloc_seen() >= n;
            fail_alloc_at(0);
            if (!visited) {
                assert_int_equal(rc, SL_OK);
                break;
            }
            assert_int_equal(rc, SL_NO_MEMORY);
            failures++;
        }
        assert_true(failures > 4);
    }
}

static void a_cache_without_memory_costs_time_but_no_answer(void **state) {
    (void)state;
    char folder[] = "/tmp/sl-oom-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof(command), "rm -f %s/*", folder);
    for (unsigned n = 1;; n++) {
        fail_alloc_at(n);
        sl_status_t rc = live_and_die("wasmtime", TEST_WAT, folder);
        bool visited = fail_alloc_seen() >= n;
        fail_alloc_at(0);
        assert_int_equal(system(command), 0);
        assert_true(rc == SL_OK || (visited && rc == SL_NO_MEMORY));
        if (!visited) {
            break;
        }
    }
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whichever_allocation_fails_the_answer_is_no_memory),
        cmocka_unit_test(a_cache_without_memory_costs_time_but_no_answer),
    };
    return sl_null_register(&test_null_guest) == SL_OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
