/* Calls that stop about every millisecond and go on later. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <time.h>

#include "engine.h"
#include "engine_null.h"
#include "engine_signals.h"
#include "sl_watch.h"

/* work: rounds of the loop, answers a sum. ask: the host, which calls `slow` in turn. deep: below functions of its own. */
static const char guest[] =
    "(module (import \"env\" \"ask\" (func $ask (param i32) (result i32)))"
    " (import \"env\" \"ask_to_spin\" (func $ask_to_spin (param i32) (result i32)))"
    " (import \"env\" \"steps\" (func $steps (param i32) (result i32))) (memory (export \"memory\") 1)"
    " (func $loop (param $n i64) (result i64) (local $s i64)"
    "  (loop $l (local.set $s (i64.add (i64.mul (local.get $s) (i64.const 31)) (local.get $n)))"
    "   (local.set $n (i64.sub (local.get $n) (i64.const 1))) (br_if $l (i64.gt_s (local.get $n) (i64.const 0))))"
    "  (local.get $s))"
    " (func (export \"work\") (param i64) (result i64) (call $loop (local.get 0)))"
    " (func (export \"spin\") (loop $l (br $l)))"
    " (func (export \"slow\") (param i32) (result i32) (drop (call $loop (i64.const 3000000))) (i32.add (local.get 0) (i32.const 1)))"
    " (func (export \"ask_host\") (param i32) (result i32) (call $ask (local.get 0)))"
    " (func (export \"ask_spinner\") (param i32) (result i32) (call $ask_to_spin (local.get 0)))"
    " (func (export \"ask_steps\") (param i32) (result i32) (call $steps (local.get 0)))"
    " (func (export \"bad\") (unreachable))"
    " (func (export \"none\")))";

typedef struct {
    sl_engine_t *engine;
    sl_module_t *module;
    sl_watch_t *watch;
    sl_instance_t *instance;
    sl_err_t err;
    int host_calls;
    int given_up; /* of them */
    bool in_host; /* it is on the stack */
} rig_t;

static sl_func_t *func(rig_t *rig, sl_instance_t *in, const char *name, const char *sig) {
    engine_signals_use();
    sl_func_t *f;
    assert_int_equal(sl_instance_func(in, name, sig, &f, &rig->err), SL_OK);
    return f;
}

static sl_status_t ask(sl_instance_t *in, sl_raw_t *args) {
    rig_t *rig = in->user;
    rig->host_calls++;
    rig->in_host = true;
    sl_status_t rc = sl_instance_call(in, func(rig, in, "slow", "i:i"), args, &rig->err);
    rig->in_host = false;
    return rc;
}

static sl_status_t ask_to_spin(sl_instance_t *in, sl_raw_t *args) {
    rig_t *rig = in->user;
    rig->host_calls++;
    return sl_instance_call(in, func(rig, in, "spin", ":"), args, &rig->err);
}

static uint64_t wall_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* So many times 0.2 ms of a host function's own work. */
static sl_status_t steps(sl_instance_t *in, sl_raw_t *args) {
    rig_t *rig = in->user;
    uint32_t sum = 0;
    rig->host_calls++;
    for (uint32_t i = 0; i < args[0].u32; i++) {
        for (uint64_t since = wall_ns(); wall_ns() - since < 200000;) {
        }
        sum += i;
        if (sl_instance_pause(in) != SL_OK) {
            rig->given_up++;
            return SL_TRAP;
        }
    }
    args[0].u32 = sum;
    return SL_OK;
}
static const sl_import_t imports[] = {
    {"env", "ask", "i:i", ask}, {"env", "ask_to_spin", "i:i", ask_to_spin}, {"env", "steps", "i:i", steps}};

static sl_instance_t *instance(rig_t *rig, sl_watch_t *watch) {
    sl_instance_limits_t limits = {.watch = watch};
    sl_instance_t *in = NULL;
    assert_int_equal(sl_instance_new(rig->module, imports, sizeof(imports) / sizeof(imports[0]), &limits, rig, &in, &rig->err), SL_OK);
    return in;
}

static int set_up(void **state) {
    rig_t *rig = calloc(1, sizeof(*rig));
    *state = rig;
    engine_signals_use();
    if (sl_engine_new(NULL, &rig->engine, &rig->err) != SL_OK ||
        sl_module_compile(rig->engine, SL_STR(guest), &rig->module, &rig->err) != SL_OK ||
        sl_watch_new(rig->engine, &rig->watch, &rig->err) != SL_OK) {
        print_error("%s\n", rig->err.text);
        return -1;
    }
    rig->instance = instance(rig, rig->watch);
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

static int polls(rig_t *rig, sl_instance_t *in, sl_status_t end) {
    int n = 0;
    sl_status_t rc;
    while ((rc = sl_instance_call_poll(in, &rig->err)) == SL_AGAIN) {
        n++;
    }
    if (rc != end) {
        print_error("%s\n", rig->err.text);
    }
    assert_int_equal(rc, end);
    return n;
}

static int64_t sum(int64_t n) {
    uint64_t s = 0;
    do {
        s = s * 31 + (uint64_t)n;
    } while (--n > 0);
    return (int64_t)s;
}

static void a_long_call_stops_many_times_and_its_result_is_right(void **state) {
    rig_t *rig = *state;
    int64_t n = 50000000;
    for (int stops = 0; stops < 5; n *= 2) { /* more work where the machine's timers are late */
        sl_raw_t args[1] = {{.i64 = n}};
        assert_true(n <= 1600000000);
        assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "work", "I:I"), args, 0, &rig->err), SL_OK);
        stops = polls(rig, rig->instance, SL_OK);
        assert_int_equal(args[0].i64, sum(n));
    }
}

static void a_short_call_does_not_stop(void **state) {
    rig_t *rig = *state;
    int stops = 0;
    for (int i = 1; i <= 200; i++) {
        sl_raw_t args[1] = {{.i64 = i}};
        assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "work", "I:I"), args, 50, &rig->err), SL_OK);
        stops += polls(rig, rig->instance, SL_OK);
        assert_int_equal(args[0].i64, sum(i));
    }
    assert_true(stops < 100);
}

static void calls_without_results_end_as_well(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1] = {{.i64 = 77}};
    assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "none", ":"), args, 0, &rig->err), SL_OK);
    polls(rig, rig->instance, SL_OK);
    assert_int_equal(args[0].i64, 77);
}

static void other_instances_run_while_one_has_stopped(void **state) {
    rig_t *rig = *state;
    sl_instance_t *other = instance(rig, rig->watch), *third = instance(rig, rig->watch);
    sl_raw_t a[1] = {{.i64 = 30000000}}, b[1], c[1] = {{.i64 = 9}};
    assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "work", "I:I"), a, 0, &rig->err), SL_OK);
    assert_int_equal(sl_instance_call_begin(other, func(rig, other, "spin", ":"), b, 0, &rig->err), SL_OK);
    sl_status_t rc;
    int n = 0;
    while ((rc = sl_instance_call_poll(rig->instance, &rig->err)) == SL_AGAIN || n < 2) {
        assert_int_equal(sl_instance_call_poll(other, &rig->err), SL_AGAIN);
        if (++n == 2) { /* one that does not stop, meanwhile */
            assert_int_equal(sl_instance_call(third, func(rig, third, "work", "I:I"), c, &rig->err), SL_OK);
            assert_int_equal(c[0].i64, sum(9));
        }
        if (rc == SL_OK) { /* the timers are late here: once more */
            assert_int_equal(a[0].i64, sum(30000000));
            a[0].i64 = 30000000;
            assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "work", "I:I"), a, 0, &rig->err), SL_OK);
        }
    }
    assert_int_equal(rc, SL_OK);
    assert_int_equal(a[0].i64, sum(30000000));
    assert_int_equal(sl_instance_call_drop(other, &rig->err), SL_TRAP);
    sl_instance_free(third);
    sl_instance_free(other);
}

static void what_the_host_calls_in_turn_does_not_stop(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1] = {{.i32 = 4}};
    assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "ask_host", "i:i"), args, 0, &rig->err), SL_OK);
    sl_status_t rc;
    while ((rc = sl_instance_call_poll(rig->instance, &rig->err)) == SL_AGAIN) {
        assert_false(rig->in_host); /* on a loaded machine it may stop on its way in and out, but never below the host */
    }
    assert_int_equal(rc, SL_OK);
    assert_int_equal(args[0].i32, 5);
    assert_int_equal(rig->host_calls, 1);
}

static void what_the_host_calls_in_turn_may_be_given_a_time(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1] = {{.i32 = 4}};
    rig->instance->inner_ms = 5;
    assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "ask_spinner", "i:i"), args, 10000, &rig->err), SL_OK);
    uint64_t before = sl_watch_cpu_ns();
    polls(rig, rig->instance, SL_TRAP);
    uint64_t took_ns = sl_watch_cpu_ns() - before;
    assert_true(took_ns >= 5 * UINT64_C(1000000) && took_ns < 1000 * UINT64_C(1000000));
    assert_non_null(strstr(rig->err.text, "more than 5 ms"));
    assert_int_equal(rig->host_calls, 1);
}

static void the_budget_counts_all_slices(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1];
    assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "spin", ":"), args, 30, &rig->err), SL_OK);
    uint64_t before = sl_watch_cpu_ns();
    assert_true(polls(rig, rig->instance, SL_TRAP) >= 2);
    uint64_t took = sl_watch_cpu_ns() - before;
    assert_true(took >= 30 * UINT64_C(1000000));
    assert_non_null(strstr(rig->err.text, "the CPU budget of 30 ms is used up"));
    assert_non_null(strstr(rig->err.text, "\n  at "));
}

static void a_trap_ends_the_call_with_its_backtrace(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1];
    assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "bad", ":"), args, 0, &rig->err), SL_OK);
    polls(rig, rig->instance, SL_TRAP);
    assert_non_null(strstr(rig->err.text, "unreachable"));
    assert_non_null(strstr(rig->err.text, "\n  at "));
}

static void a_call_that_has_stopped_can_be_dropped(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1];
    assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "spin", ":"), args, 0, &rig->err), SL_OK);
    assert_int_equal(sl_instance_call_poll(rig->instance, &rig->err), SL_AGAIN);
    assert_int_equal(sl_instance_call_drop(rig->instance, &rig->err), SL_TRAP);
    assert_non_null(strstr(rig->err.text, "ended in the middle"));
}

static void an_instance_goes_with_its_call_in_the_middle(void **state) {
    rig_t *rig = *state;
    sl_instance_t *in = instance(rig, rig->watch);
    sl_raw_t args[1];
    assert_int_equal(sl_instance_call_begin(in, func(rig, in, "spin", ":"), args, 0, &rig->err), SL_OK);
    assert_int_equal(sl_instance_call_poll(in, &rig->err), SL_AGAIN);
    sl_instance_free(in);
}

static void a_dropped_instance_is_whole_again_after_it_is_restored(void **state) {
    rig_t *rig = *state;
    sl_image_t *image;
    assert_int_equal(sl_image_take(rig->instance, NULL, &image, &rig->err), SL_OK);
    sl_raw_t args[1];
    assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "spin", ":"), args, 0, &rig->err), SL_OK);
    assert_int_equal(sl_instance_call_poll(rig->instance, &rig->err), SL_AGAIN);
    assert_int_equal(sl_instance_call_drop(rig->instance, &rig->err), SL_TRAP);
    assert_int_equal(sl_instance_restore(rig->instance, image), SL_OK);
    args[0].i64 = 5;
    assert_int_equal(sl_instance_call(rig->instance, func(rig, rig->instance, "work", "I:I"), args, &rig->err), SL_OK);
    assert_int_equal(args[0].i64, sum(5));
    sl_image_unref(image);
}

static void without_a_watch_a_call_never_stops(void **state) {
    rig_t *rig = *state;
    sl_instance_t *in = instance(rig, NULL);
    sl_raw_t args[1] = {{.i64 = 20000000}};
    assert_int_equal(sl_instance_call_begin(in, func(rig, in, "work", "I:I"), args, 0, &rig->err), SL_OK);
    assert_int_equal(polls(rig, in, SL_OK), 0);
    sl_instance_free(in);
}

static void the_timer_of_slices_goes_with_the_last_of_them(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1] = {{.i64 = 1}};
    assert_int_equal(sl_instance_call_begin(rig->instance, func(rig, rig->instance, "work", "I:I"), args, 0, &rig->err), SL_OK);
    polls(rig, rig->instance, SL_OK);
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (atomic_load(&rig->watch->slice_armed) && now.tv_sec - begin.tv_sec < 20);
    assert_false(atomic_load(&rig->watch->slice_armed));
}

/* ---- host functions that stop ---- */

static void begin_steps(rig_t *rig, sl_instance_t *in, sl_raw_t *args, uint32_t n, uint32_t cpu_budget_ms) {
    args[0] = (sl_raw_t){.u32 = n};
    assert_int_equal(sl_instance_call_begin(in, func(rig, in, "ask_steps", "i:i"), args, cpu_budget_ms, &rig->err), SL_OK);
}

static void a_host_function_that_takes_long_stops_where_it_says_so(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1];
    for (int again = 0; again < 2; again++) {
        begin_steps(rig, rig->instance, args, 100, 0);
        assert_true(polls(rig, rig->instance, SL_OK) >= 3); /* 20 ms of work */
        assert_int_equal(args[0].u32, 99 * 50);
    }
    assert_int_equal(rig->host_calls, 2);
}

static void host_functions_of_two_instances_take_turns(void **state) {
    rig_t *rig = *state;
    sl_instance_t *other = instance(rig, rig->watch);
    sl_raw_t a[1], b[1];
    begin_steps(rig, rig->instance, a, 60, 0);
    begin_steps(rig, other, b, 90, 0);
    sl_status_t rc_a = SL_AGAIN, rc_b = SL_AGAIN;
    int both = 0;
    while (rc_a == SL_AGAIN || rc_b == SL_AGAIN) {
        both += rc_a == SL_AGAIN && rc_b == SL_AGAIN;
        rc_a = rc_a == SL_AGAIN ? sl_instance_call_poll(rig->instance, &rig->err) : rc_a;
        rc_b = rc_b == SL_AGAIN ? sl_instance_call_poll(other, &rig->err) : rc_b;
    }
    assert_true(both >= 3);
    assert_int_equal(rc_a, SL_OK);
    assert_int_equal(rc_b, SL_OK);
    assert_int_equal(a[0].u32, 59 * 30);
    assert_int_equal(b[0].u32, 89 * 45);
    sl_instance_free(other);
}

static void a_host_function_that_has_stopped_gives_up_when_its_call_is_dropped(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1];
    begin_steps(rig, rig->instance, args, 10000, 0);
    assert_int_equal(sl_instance_call_poll(rig->instance, &rig->err), SL_AGAIN);
    assert_int_equal(rig->given_up, 0);
    assert_int_equal(sl_instance_call_drop(rig->instance, &rig->err), SL_TRAP);
    assert_int_equal(rig->given_up, 1);
}

static void a_host_function_gives_up_when_all_slices_together_have_used_up_the_budget(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1];
    begin_steps(rig, rig->instance, args, 10000, 20);
    assert_true(polls(rig, rig->instance, SL_TRAP) >= 2);
    assert_int_equal(rig->given_up, 1);
    assert_non_null(strstr(rig->err.text, "the CPU budget of 20 ms is used up"));
}

static void a_host_function_of_a_whole_call_gives_up_over_the_budget_too(void **state) {
    rig_t *rig = *state;
    sl_raw_t args[1] = {{.u32 = 10000}};
    sl_watch_begin(rig->watch, 20);
    assert_int_equal(sl_instance_call(rig->instance, func(rig, rig->instance, "ask_steps", "i:i"), args, &rig->err), SL_TRAP);
    sl_watch_end(rig->watch);
    assert_int_equal(rig->given_up, 1);
    assert_non_null(strstr(rig->err.text, "the CPU budget of 20 ms is used up"));
}

/* ---- the null engine ---- */

static sl_status_t stepper(sl_instance_t *in, sl_raw_t *args) {
    uint32_t n = args[0].u32;
    for (uint32_t i = 0; i < n; i++) {
        if (sl_null_slice(in) != SL_OK) {
            return SL_TRAP;
        }
    }
    args[0].u32 = n * 2;
    return SL_OK;
}
static const sl_null_export_t stepper_exports[] = {{"step", "i:i", stepper}};
static const sl_null_guest_t stepper_guest = {.name = "stepper", .exports = stepper_exports, .n_exports = 1};

static sl_instance_t *null_instance(sl_engine_t **engine, sl_module_t **m) {
    sl_err_t err;
    sl_instance_t *in;
    assert_int_equal(sl_null_register(&stepper_guest), SL_OK);
    assert_int_equal(sl_engine_new(&(sl_engine_conf_t){.name = "null"}, engine, &err), SL_OK);
    assert_int_equal(sl_module_compile(*engine, SL_STR("null:stepper"), m, &err), SL_OK);
    assert_int_equal(sl_instance_new(*m, NULL, 0, NULL, NULL, &in, &err), SL_OK);
    return in;
}

static void native_guests_stop_where_they_say_so(void **state) {
    (void)state;
    rig_t rig = {0};
    sl_instance_t *in = null_instance(&rig.engine, &rig.module);
    sl_raw_t args[1] = {{.u32 = 3}};
    assert_int_equal(sl_instance_call_begin(in, func(&rig, in, "step", "i:i"), args, 0, &rig.err), SL_OK);
    assert_int_equal(polls(&rig, in, SL_OK), 3);
    assert_int_equal(args[0].u32, 6);
    args[0].u32 = 3;
    assert_int_equal(sl_instance_call(in, func(&rig, in, "step", "i:i"), args, &rig.err), SL_OK);
    assert_int_equal(args[0].u32, 6);
    args[0].u32 = 3;
    assert_int_equal(sl_instance_call_begin(in, func(&rig, in, "step", "i:i"), args, 0, &rig.err), SL_OK);
    assert_int_equal(sl_instance_call_poll(in, &rig.err), SL_AGAIN);
    assert_int_equal(sl_instance_call_drop(in, &rig.err), SL_TRAP);
    sl_instance_free(in);
    sl_module_unref(rig.module);
    sl_engine_free(rig.engine);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_long_call_stops_many_times_and_its_result_is_right),
        T(a_short_call_does_not_stop),
        T(calls_without_results_end_as_well),
        T(other_instances_run_while_one_has_stopped),
        T(what_the_host_calls_in_turn_does_not_stop),
        T(what_the_host_calls_in_turn_may_be_given_a_time),
        T(the_budget_counts_all_slices),
        T(a_trap_ends_the_call_with_its_backtrace),
        T(a_call_that_has_stopped_can_be_dropped),
        T(an_instance_goes_with_its_call_in_the_middle),
        T(a_dropped_instance_is_whole_again_after_it_is_restored),
        T(without_a_watch_a_call_never_stops),
        T(the_timer_of_slices_goes_with_the_last_of_them),
        T(a_host_function_that_takes_long_stops_where_it_says_so),
        T(host_functions_of_two_instances_take_turns),
        T(a_host_function_that_has_stopped_gives_up_when_its_call_is_dropped),
        T(a_host_function_gives_up_when_all_slices_together_have_used_up_the_budget),
        T(a_host_function_of_a_whole_call_gives_up_over_the_budget_too),
        cmocka_unit_test(native_guests_stop_where_they_say_so),
    };
    return engine_signals_save() == 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
