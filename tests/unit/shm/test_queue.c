#include "sh_queue.h"

#include <stdio.h>
#include <stdlib.h>

#include "st.h"

#define SIZE (64 * 1024)
#define VM SL_STR("vm")
#define Q SL_STR("queue")

static sh_queues_t qs;
static sl_buf_t buf;
static sh_listener_t tell;
static const sh_listener_t me = {.pid = 10, .slot = 1, .serial = 1}, you = {.pid = 20, .slot = 2, .serial = 1};

static int setup(void **state) {
    (void)state;
    sl_buf_init(&buf, 1 << 20);
    return sh_queues_open(&qs, st_memory(SIZE), SIZE, true, 1, &st_env) == SL_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    sl_buf_deinit(&buf);
    st_reset();
    return 0;
}

static void assert_sound(void) {
    const char *wrong = sh_queues_check(&qs);
    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
}

static uint32_t listen_at(sl_str_t vm_id, sl_str_t name, sh_listener_t who) {
    uint32_t id = sh_queue_new_id(&qs);
    assert_int_equal(sh_queue_register(&qs, vm_id, name, who, &id, &tell), SL_OK);
    return id;
}

static sl_status_t push(uint32_t id, const char *text) {
    return sh_queue_push(&qs, id, sl_cstr(text), &tell);
}

static const char *pop(uint32_t id) {
    sl_buf_reset(&buf);
    sl_status_t rc = sh_queue_pop(&qs, id, &buf);
    return rc == SL_OK ? sl_buf_cstr(&buf) : rc == SL_AGAIN ? "(empty)" : "(error)";
}

static void a_queue_is_first_in_first_out(void **state) {
    (void)state;
    uint32_t id = listen_at(VM, Q, me);
    assert_string_equal(pop(id), "(empty)");
    assert_int_equal(push(id, "a"), SL_OK);
    assert_int_equal(push(id, ""), SL_OK);
    assert_int_equal(push(id, "c"), SL_OK);
    assert_string_equal(pop(id), "a");
    assert_string_equal(pop(id), "");
    assert_int_equal(push(id, "d"), SL_OK);
    assert_string_equal(pop(id), "c");
    assert_string_equal(pop(id), "d");
    assert_string_equal(pop(id), "(empty)");
    assert_sound();
}

static void a_queue_is_found_by_its_own_vm_id_and_name_only(void **state) {
    (void)state;
    uint32_t id = listen_at(VM, Q, me), found = 0;
    assert_int_equal(sh_queue_resolve(&qs, VM, Q, &found), SL_OK);
    assert_int_equal(found, id);
    assert_int_equal(sh_queue_resolve(&qs, SL_STR("other"), Q, &found), SL_NOT_FOUND);
    assert_int_equal(sh_queue_resolve(&qs, VM, SL_STR("other"), &found), SL_NOT_FOUND);
    assert_int_not_equal(listen_at(SL_STR("other"), Q, me), id);
    assert_true(sh_queue_exists(&qs, id));
    assert_false(sh_queue_exists(&qs, 0));
    assert_int_equal(push(4711, "x"), SL_NOT_FOUND);
    assert_string_equal(pop(4711), "(error)");
}

static void registering_without_an_id_makes_nothing(void **state) {
    (void)state;
    uint32_t id = 0;
    assert_int_equal(sh_queue_register(&qs, VM, Q, me, &id, &tell), SL_NOT_FOUND);
    uint32_t made = listen_at(VM, Q, me);
    assert_int_equal(sh_queue_register(&qs, VM, Q, you, &id, &tell), SL_OK);
    assert_int_equal(id, made);
}

static void registering_again_keeps_id_and_items(void **state) {
    (void)state;
    uint32_t id = listen_at(VM, Q, me);
    push(id, "kept");
    assert_int_equal(listen_at(VM, Q, you), id);
    assert_string_equal(pop(id), "kept");
}

static void the_last_listener_is_told_of_each_item_once(void **state) {
    (void)state;
    uint32_t id = listen_at(VM, Q, me);
    push(id, "1");
    assert_int_equal(tell.pid, me.pid);
    listen_at(VM, Q, you);
    push(id, "2");
    assert_int_equal(tell.pid, you.pid);
    push(id, "3");
    assert_int_equal(sh_queue_take(&qs, id, me, 100), 0);
    assert_int_equal(sh_queue_take(&qs, id, you, 2), 2);
    assert_int_equal(sh_queue_take(&qs, id, you, 2), 1);
    assert_int_equal(sh_queue_take(&qs, id, you, 2), 0);
}

static void an_item_is_told_of_also_when_someone_else_has_taken_it(void **state) {
    (void)state;
    uint32_t id = listen_at(VM, Q, me);
    push(id, "1");
    pop(id);
    assert_int_equal(sh_queue_take(&qs, id, me, 100), 1);
}

static void when_the_listener_goes_the_one_before_takes_over(void **state) {
    (void)state;
    uint32_t id = listen_at(VM, Q, me);
    listen_at(VM, Q, you);
    push(id, "1");
    sh_queue_forget(&qs, id, you, &tell);
    assert_int_equal(tell.pid, me.pid);
    assert_int_equal(sh_queue_take(&qs, id, me, 100), 1);
    sh_queue_forget(&qs, id, you, &tell); /* twice does nothing */
    assert_int_equal(tell.pid, 0);
    sh_queue_forget(&qs, id, me, &tell);
    assert_int_equal(tell.pid, 0);
    push(id, "2");
    assert_int_equal(tell.pid, 0);
    assert_sound();
}

static void what_nobody_was_told_of_waits_for_the_next_listener_as_far_as_it_is_still_there(void **state) {
    (void)state;
    uint32_t id = listen_at(VM, Q, me);
    sh_queue_forget(&qs, id, me, &tell);
    for (unsigned i = 0; i < 10; i++) {
        push(id, "x");
    }
    for (unsigned i = 0; i < 8; i++) {
        pop(id);
    }
    listen_at(VM, Q, you);
    assert_int_equal(tell.pid, you.pid);
    assert_int_equal(sh_queue_take(&qs, id, you, 100), 2);
}

static void a_listener_that_registers_again_stands_in_front_once(void **state) {
    (void)state;
    uint32_t id = listen_at(VM, Q, me);
    listen_at(VM, Q, you);
    listen_at(VM, Q, me);
    push(id, "1");
    assert_int_equal(tell.pid, me.pid);
    sh_queue_forget(&qs, id, me, &tell);
    assert_int_equal(tell.pid, you.pid);
    assert_int_equal(sh_queue_take(&qs, id, me, 100), 0);
}

static bool only_me(void *ud, sh_listener_t who) {
    (void)ud;
    return who.pid == me.pid;
}

static void note_told(void *ud, sh_listener_t who) {
    *(uint32_t *)ud += who.pid;
}

static void listeners_of_dead_processes_are_removed(void **state) {
    (void)state;
    uint32_t told = 0, id = listen_at(VM, Q, me), other = listen_at(VM, SL_STR("other"), you);
    listen_at(VM, Q, you);
    push(id, "1");
    push(other, "1");
    sh_queues_purge(&qs, only_me, note_told, &told);
    assert_int_equal(told, me.pid);
    assert_int_equal(sh_queue_take(&qs, id, me, 100), 1);
    push(other, "2");
    assert_int_equal(tell.pid, 0);
    assert_sound();
}

static void a_full_queue_refuses_and_takes_again_what_was_freed(void **state) {
    (void)state;
    char text[1001];
    uint32_t id = listen_at(VM, Q, me);
    unsigned n = 0;
    memset(text, 'x', sizeof(text));
    while (sh_queue_push(&qs, id, sl_str(text, 1000), &tell) == SL_OK) {
        n++;
    }
    assert_in_range(n, 50, SIZE / 1000);
    assert_int_equal(sh_queue_push(&qs, id, sl_str(text, 1000), &tell), SL_NO_MEMORY);
    assert_int_equal(tell.pid, 0);
    assert_int_equal(sh_queue_push(&qs, id, sl_str(text, SIZE_MAX), &tell), SL_NO_MEMORY);
    pop(id);
    assert_int_equal(sh_queue_push(&qs, id, sl_str(text, 1000), &tell), SL_OK);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(strlen(pop(id)), 1000);
    }
    assert_string_equal(pop(id), "(empty)");
    assert_sound();
}

static void a_queue_for_which_there_is_no_room_is_refused(void **state) {
    (void)state;
    static char name[SIZE];
    sl_status_t rc = SL_OK;
    unsigned n = 0;
    uint32_t id = 1;
    assert_int_equal(sh_queue_register(&qs, VM, sl_str(name, sizeof(name)), me, &id, &tell), SL_NO_MEMORY);
    for (; rc == SL_OK && n < 10000; n++) {
        char text[16];
        snprintf(text, sizeof(text), "%u", n);
        id = sh_queue_new_id(&qs);
        rc = sh_queue_register(&qs, VM, sl_cstr(text), me, &id, &tell);
    }
    assert_int_equal(rc, SL_NO_MEMORY);
    assert_in_range(n, 100, SIZE / 100);
    assert_sound();
}

static void an_item_that_the_buffer_cannot_take_stays(void **state) {
    (void)state;
    uint32_t id = listen_at(VM, Q, me);
    sl_buf_t small;
    sl_buf_init(&small, 3);
    push(id, "four");
    assert_int_equal(sh_queue_pop(&qs, id, &small), SL_NO_MEMORY);
    sl_buf_deinit(&small);
    assert_string_equal(pop(id), "four");
}

typedef struct {
    unsigned queues, items;
    uint64_t bytes;
} seen_t;

static void see(void *ud, const sh_queue_view_t *view) {
    seen_t *s = ud;
    s->queues++;
    s->items += view->items;
    s->bytes += view->bytes;
    assert_true(sl_str_eq(view->vm_id, VM));
    assert_int_equal(view->listeners, 1);
    assert_int_equal(view->pushed - view->popped, view->items);
}

static void pages_show_each_queue_once(void **state) {
    (void)state;
    seen_t seen = {.queues = 0};
    uint64_t cursor = 0;
    for (unsigned i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%u", i);
        uint32_t id = listen_at(VM, sl_cstr(name), me);
        push(id, "ab");
        push(id, "cd");
        pop(id);
    }
    do {
        sh_queues_page(&qs, &cursor, 10, see, &seen);
    } while (cursor != 0);
    assert_int_equal(seen.queues, 100);
    assert_int_equal(seen.items, 100);
    assert_int_equal(seen.bytes, 200);
    assert_int_equal(sh_queues_stats(&qs).queues, 100);
}

/* ---- against a naive model ---- */

#define QUEUES 5
#define DEEP 600

static void random_operations_agree_with_a_naive_model(void **state) {
    (void)state;
    static uint32_t items[QUEUES][DEEP];
    unsigned first[QUEUES] = {0}, n[QUEUES] = {0};
    uint32_t id[QUEUES], next = 0;
    st_random_t r = {3};
    for (unsigned i = 0; i < QUEUES; i++) {
        char name[2] = {(char)('a' + i), 0};
        id[i] = listen_at(VM, sl_cstr(name), me);
    }
    for (unsigned round = 0; round < 60000; round++) {
        unsigned i = st_random(&r, QUEUES);
        if (st_random(&r, 2) == 0 && n[i] < DEEP) {
            static char text[400];
            size_t len = (size_t)snprintf(text, sizeof(text), "%u", next) + 1;
            sl_status_t rc = sh_queue_push(&qs, id[i], sl_str(text, len + st_random(&r, 300)), &tell);
            assert_true(rc == SL_OK || rc == SL_NO_MEMORY);
            if (rc == SL_OK) {
                items[i][(first[i] + n[i]++) % DEEP] = next++;
            }
        } else if (n[i] == 0) {
            assert_string_equal(pop(id[i]), "(empty)");
        } else {
            assert_int_equal(atoi(pop(id[i])), items[i][first[i]]);
            first[i] = (first[i] + 1) % DEEP;
            n[i]--;
        }
        if (round % 256 == 0) {
            assert_sound();
        }
    }
}

/* ---- several processes ---- */

#define EACH 3000

typedef struct {
    uint32_t id;
    uint32_t *counts; /* ST_PROCESSES * EACH, shared: how often each item came out */
    uint32_t *told;   /* shared */
} race_t;

static void take_one(race_t *race) {
    sl_buf_reset(&buf);
    sl_status_t rc = sh_queue_pop(&qs, race->id, &buf);
    assert_true(rc == SL_OK || rc == SL_AGAIN);
    if (rc == SL_OK) {
        __atomic_fetch_add(&race->counts[atoi(sl_buf_cstr(&buf))], 1, __ATOMIC_RELAXED);
    }
}

static void produce_and_consume(unsigned process, void *ud) {
    race_t *race = ud;
    for (unsigned i = 0; i < EACH; i++) {
        char text[32];
        sh_listener_t who;
        snprintf(text, sizeof(text), "%u %*s", process * EACH + i, (int)(i % 20), "");
        while (sh_queue_push(&qs, race->id, sl_cstr(text), &who) != SL_OK) {
            take_one(race);
        }
        if (i % 2 == 0) {
            take_one(race);
        }
        if (process == 0) {
            __atomic_fetch_add(race->told, sh_queue_take(&qs, race->id, me, 100), __ATOMIC_RELAXED);
        }
    }
}

static void no_item_of_several_processes_is_lost_or_doubled(void **state) {
    (void)state;
    race_t race = {
        .id = listen_at(VM, Q, me), .counts = st_memory(ST_PROCESSES * EACH * sizeof(uint32_t)), .told = st_memory(sizeof(uint32_t))};
    assert_int_equal(st_run(ST_PROCESSES, produce_and_consume, &race), ST_PROCESSES);
    while (strcmp(pop(race.id), "(empty)") != 0) {
        race.counts[atoi(sl_buf_cstr(&buf))]++;
    }
    for (unsigned i = 0; i < ST_PROCESSES * EACH; i++) {
        assert_int_equal(race.counts[i], 1);
    }
    assert_int_equal(*race.told + sh_queue_take(&qs, race.id, me, UINT32_MAX), ST_PROCESSES * EACH);
    assert_sound();
}

/* ---- killed in the middle ---- */

static void use_and_die(unsigned process, void *ud) {
    (void)process;
    uint32_t id = sh_queue_new_id(&qs);
    sh_listener_t who;
    st_die_at_step(*(unsigned *)ud);
    sh_queue_register(&qs, VM, SL_STR("mine"), me, &id, &who);
    sh_queue_push(&qs, id, SL_STR("one"), &who);
    sh_queue_push(&qs, id, SL_STR("two"), &who);
    sh_queue_pop(&qs, id, &buf);
    sh_queue_forget(&qs, id, me, &who);
}

static void a_process_killed_at_any_step_leaves_queues_that_work(void **state) {
    (void)state;
    unsigned at = 1;
    for (;; at++) {
        uint32_t id = listen_at(VM, Q, you);
        push(id, "before");
        if (st_run(1, use_and_die, &at) == 1) {
            break;
        }
        uint32_t found = 0;
        assert_int_equal(sh_queue_resolve(&qs, VM, Q, &found), SL_NOT_FOUND); /* finds the half-done change */
        found = listen_at(VM, Q, you);
        assert_int_not_equal(found, id);
        assert_int_equal(push(found, "after"), SL_OK);
        assert_string_equal(pop(found), "after");
        assert_sound();
    }
    assert_true(at > 30);
    assert_int_equal(sh_queues_stats(&qs).resets, at - 1);
}

static void a_queue_can_be_made_again_with_the_id_that_it_had(void **state) {
    (void)state;
    unsigned at = 2;
    uint32_t id = listen_at(VM, Q, you), again = id;
    assert_int_equal(st_run(1, use_and_die, &at), 0);
    assert_int_equal(push(id, "lost"), SL_NOT_FOUND);
    assert_int_equal(sh_queue_register(&qs, VM, Q, you, &again, &tell), SL_OK);
    assert_int_equal(again, id);
    assert_int_equal(push(id, "x"), SL_OK);
}

static void no_lock(void *ud) {
    (void)ud;
}

/* The lock of the tests is one for all regions; a copy holds two. */
static const sh_env_t alone = {.lock = no_lock, .unlock = no_lock};

static void a_copy_has_the_queues_with_ids_and_items(void **state) {
    (void)state;
    sh_queues_t copy;
    uint32_t empty = listen_at(VM, SL_STR("empty"), me), id = listen_at(VM, Q, me), found = 0;
    push(id, "one");
    push(id, "two");
    push(id, "three");
    assert_int_equal(sh_queue_take(&qs, id, me, 1), 1);
    assert_int_equal(sh_queues_open(&copy, st_memory(2 * SIZE), 2 * SIZE, true, 2, &alone), SL_OK);
    sh_queues_copy(&copy, &qs);
    assert_null(sh_queues_check(&copy));
    assert_int_equal(sh_queue_resolve(&copy, VM, Q, &found), SL_OK);
    assert_int_equal(found, id);
    assert_true(sh_queue_exists(&copy, empty));
    assert_int_equal(sh_queue_register(&copy, VM, Q, you, &found, &tell), SL_OK);
    assert_int_equal(sh_queue_take(&copy, id, you, 100), 2);
    qs = copy;
    assert_string_equal(pop(id), "one");
    assert_true(sh_queue_new_id(&qs) > id);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_queue_is_first_in_first_out),
        T(a_queue_is_found_by_its_own_vm_id_and_name_only),
        T(registering_without_an_id_makes_nothing),
        T(registering_again_keeps_id_and_items),
        T(the_last_listener_is_told_of_each_item_once),
        T(an_item_is_told_of_also_when_someone_else_has_taken_it),
        T(when_the_listener_goes_the_one_before_takes_over),
        T(what_nobody_was_told_of_waits_for_the_next_listener_as_far_as_it_is_still_there),
        T(a_listener_that_registers_again_stands_in_front_once),
        T(listeners_of_dead_processes_are_removed),
        T(a_full_queue_refuses_and_takes_again_what_was_freed),
        T(a_queue_for_which_there_is_no_room_is_refused),
        T(an_item_that_the_buffer_cannot_take_stays),
        T(pages_show_each_queue_once),
        T(random_operations_agree_with_a_naive_model),
        T(no_item_of_several_processes_is_lost_or_doubled),
        T(a_process_killed_at_any_step_leaves_queues_that_work),
        T(a_queue_can_be_made_again_with_the_id_that_it_had),
        T(a_copy_has_the_queues_with_ids_and_items),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
