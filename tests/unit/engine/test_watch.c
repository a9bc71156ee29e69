/* CPU budgets: calls that run too long are ended, and nothing else is. */
#include "cmocka_all.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "engine_signals.h"
#include "sl_watch.h"

#define BUDGET_MS 20

/* spin: for ever. work: as many rounds as wanted, answers their number. storm: calls of the host for ever. */
static const char guest[] =
    "(module (import \"env\" \"note\" (func $note)) (memory (export \"memory\") 1)"
    " (func (export \"spin\") (loop $l (br $l)))"
    " (func $deep (export \"deep\") (call $deep) (call $deep))"
    " (func (export \"storm\") (loop $l (call $note) (br $l)))"
    " (func (export \"work\") (param i32) (result i32) (local $i i32)"
    "  (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (local.get 0))))"
    "  (local.get $i)))";
static const char start_spins[] = "(module (func $s (loop $l (br $l))) (start $s))";

typedef struct {
    sl_engine_t *engine;
    sl_module_t *module;
    sl_watch_t *watch;
    sl_instance_t *instance;
    sl_err_t err;
    uint64_t notes;
} rig_t;

static sl_status_t note(sl_instance_t *in, sl_raw_t *args) {
    (void)args;
    ((rig_t *)in->user)->notes++;
    return SL_OK;
}
static const sl_import_t imports[] = {{"env", "note", ":", note}};

static sl_status_t instance(rig_t *rig, sl_watch_t *watch, sl_instance_t **out) {
    sl_instance_limits_t limits = {.watch = watch};
    return sl_instance_new(rig->module, imports, 1, &limits, rig, out, &rig->err);
}

static int set_up(void **state) {
    rig_t *rig = calloc(1, sizeof(*rig));
    *state = rig;
    engine_signals_use();
    if (sl_engine_new(NULL, &rig->engine, &rig->err) != SL_OK ||
        sl_module_compile(rig->engine, SL_STR(guest), &rig->module, &rig->err) != SL_OK ||
        sl_watch_new(rig->engine, &rig->watch, &rig->err) != SL_OK || instance(rig, rig->watch, &rig->instance) != SL_OK) {
        print_error("%s\n", rig->err.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state) {
    rig_t *rig = *state;
    sl_instance_free(rig->instance);
    sl_watch_free(rig->watch);
    sl_module_unref(rig->module);
    sl_engine_free(rig->engine);
    free(rig);
    return 0;
}

static sl_status_t call(sl_instance_t *in, sl_watch_t *watch, uint32_t budget_ms, const char *name, const char *sig, sl_raw_t *args,
                        sl_err_t *err) {
    sl_func_t *f;
    sl_raw_t spare[1];
    assert_int_equal(sl_instance_func(in, name, sig, &f, err), SL_OK);
    engine_signals_use();
    sl_watch_begin(watch, budget_ms);
    sl_status_t rc = sl_instance_call(in, f, args != NULL ? args : spare, err);
    sl_watch_end(watch);
    return rc;
}

static uint64_t cpu_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static void ended(rig_t *rig, const char *name) {
    uint64_t before = cpu_ms();
    assert_int_equal(call(rig->instance, rig->watch, BUDGET_MS, name, ":", NULL, &rig->err), SL_TRAP);
    uint64_t took = cpu_ms() - before;
    assert_non_null(strstr(rig->err.text, "the CPU budget of 20 ms is used up"));
    assert_non_null(strstr(rig->err.text, "\n  at "));
    assert_true(took + 1 >= BUDGET_MS);
}

static void a_guest_that_spins_is_ended(void **state) {
    ended(*state, "spin");
}

static void a_guest_that_storms_the_host_is_ended(void **state) {
    rig_t *rig = *state;
    ended(rig, "storm");
    assert_true(rig->notes > 1000);
}

static void functions_that_call_each_other_for_ever_are_ended(void **state) {
    rig_t *rig = *state;
    assert_int_equal(call(rig->instance, rig->watch, BUDGET_MS, "deep", ":", NULL, &rig->err), SL_TRAP); /* by either limit */
}

static void a_start_section_that_spins_is_ended(void **state) {
    rig_t *rig = *state;
    sl_module_t *m;
    sl_instance_t *in = NULL;
    sl_instance_limits_t limits = {.watch = rig->watch};
    assert_int_equal(sl_module_compile(rig->engine, SL_STR(start_spins), &m, &rig->err), SL_OK);
    engine_signals_use();
    sl_watch_begin(rig->watch, BUDGET_MS);
    assert_int_equal(sl_instance_new(m, NULL, 0, &limits, NULL, &in, &rig->err), SL_TRAP);
    sl_watch_end(rig->watch);
    assert_non_null(strstr(rig->err.text, "the CPU budget of 20 ms is used up"));
    sl_module_unref(m);
}

static void other_instances_live_on_when_one_was_ended(void **state) {
    rig_t *rig = *state;
    sl_instance_t *other;
    assert_int_equal(instance(rig, rig->watch, &other), SL_OK);
    ended(rig, "spin");
    for (int i = 1; i <= 3; i++) {
        sl_raw_t args[1] = {{.i32 = i}};
        assert_int_equal(call(other, rig->watch, BUDGET_MS, "work", "i:i", args, &rig->err), SL_OK);
        assert_int_equal(args[0].i32, i);
    }
    sl_instance_free(other);
}

static void many_short_calls_may_take_longer_than_the_budget_of_one(void **state) {
    rig_t *rig = *state;
    uint64_t end = cpu_ms() + 5 * BUDGET_MS;
    while (cpu_ms() < end) {
        sl_raw_t args[1] = {{.i32 = 100000}};
        assert_int_equal(call(rig->instance, rig->watch, BUDGET_MS, "work", "i:i", args, &rig->err), SL_OK);
    }
}

static void no_budget_means_as_long_as_it_likes(void **state) {
    rig_t *rig = *state;
    uint64_t before = cpu_ms();
    sl_raw_t args[1] = {{.u32 = 400000000}};
    assert_int_equal(call(rig->instance, rig->watch, 0, "work", "i:i", args, &rig->err), SL_OK);
    assert_true(cpu_ms() - before > 2 * BUDGET_MS);
}

typedef struct {
    rig_t *rig;
    atomic_bool running, stop;
    bool failed;
} other_t;

/* A thread with a budget that it keeps, while another's calls are ended around it; its signals are blocked as in pools of threads. */
static void *keeps_its_budget(void *arg) {
    other_t *o = arg;
    sl_watch_t *watch;
    sl_instance_t *in;
    sl_err_t err;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    sl_instance_limits_t limits = {0};
    o->failed = sl_watch_new(o->rig->engine, &watch, &err) != SL_OK;
    limits.watch = watch;
    o->failed = o->failed || sl_instance_new(o->rig->module, imports, 1, &limits, o->rig, &in, &err) != SL_OK;
    atomic_store(&o->running, true);
    while (!o->failed && !atomic_load(&o->stop)) {
        sl_raw_t args[1] = {{.i32 = 1000000}};
        o->failed = call(in, watch, 5000, "work", "i:i", args, &err) != SL_OK;
    }
    o->failed = o->failed || call(in, watch, BUDGET_MS, "spin", ":", NULL, &err) != SL_TRAP;
    sl_instance_free(in);
    sl_watch_free(watch);
    return NULL;
}

static void threads_are_watched_each_for_itself(void **state) {
    rig_t *rig = *state;
    other_t o = {.rig = rig};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, keeps_its_budget, &o), 0);
    while (!atomic_load(&o.running)) {
    }
    ended(rig, "spin");
    atomic_store(&o.stop, true);
    pthread_join(thread, NULL);
    assert_false(o.failed);
}

static void the_timer_rests_while_no_guest_runs(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1] = {{.i32 = 1}};
    assert_false(atomic_load(&rig->watch->armed));
    assert_int_equal(call(rig->instance, rig->watch, BUDGET_MS, "work", "i:i", args, &rig->err), SL_OK);
    assert_true(atomic_load(&rig->watch->armed));
    uint64_t most = cpu_ms() + 1000;
    while (atomic_load(&rig->watch->armed) && cpu_ms() < most) {
    }
    assert_false(atomic_load(&rig->watch->armed));
    ended(rig, "spin"); /* and it comes back */
}

static void a_forked_child_watches_with_a_timer_of_its_own(void **state) {
    rig_t *rig = *state;
    engine_signals_use();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sl_watch_t *watch;
        sl_instance_t *in;
        sl_err_t err;
        sl_func_t *f;
        sl_raw_t spare[1];
        alarm(20);
        if (sl_watch_new(rig->engine, &watch, &err) != SL_OK || instance(rig, watch, &in) != SL_OK ||
            sl_instance_func(in, "spin", ":", &f, &err) != SL_OK) {
            _exit(1);
        }
        sl_watch_begin(watch, BUDGET_MS);
        _exit(sl_instance_call(in, f, spare, &err) == SL_TRAP ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    if (engine_signals_save() != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_guest_that_spins_is_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_guest_that_storms_the_host_is_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(functions_that_call_each_other_for_ever_are_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_start_section_that_spins_is_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_instances_live_on_when_one_was_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_short_calls_may_take_longer_than_the_budget_of_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_budget_means_as_long_as_it_likes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(threads_are_watched_each_for_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_timer_rests_while_no_guest_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_forked_child_watches_with_a_timer_of_its_own, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
