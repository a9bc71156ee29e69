#include "sh_kv.h"

#include <stdio.h>
#include <stdlib.h>

#include "st.h"

#define SIZE (64 * 1024)
#define VM SL_STR("vm")
#define KEYS 64

static sh_kv_t kv;
static sl_buf_t buf;

static int open_with(sh_evict_t policy) {
    sl_buf_init(&buf, 1 << 20);
    return sh_kv_open(&kv, st_memory(SIZE), SIZE, true, 1, policy, &st_env) == SL_OK ? 0 : -1;
}

static int setup(void **state) {
    (void)state;
    return open_with(SH_EVICT_NONE);
}

static int setup_slru(void **state) {
    (void)state;
    return open_with(SH_EVICT_SLRU);
}

static int setup_lru(void **state) {
    (void)state;
    return open_with(SH_EVICT_LRU);
}

static int teardown(void **state) {
    (void)state;
    sl_buf_deinit(&buf);
    st_reset();
    return 0;
}

static void assert_sound(void) {
    const char *wrong = sh_kv_check(&kv);
    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
}

static sl_str_t text(unsigned n) {
    static char t[16];
    return sl_str(t, (size_t)snprintf(t, sizeof(t), "%u", n));
}

static sl_status_t set_vm(sl_str_t vm_id, const char *key, sl_str_t value, uint32_t cas) {
    return sh_kv_set(&kv, vm_id, sl_cstr(key), value, cas, NULL);
}

static sl_status_t set(const char *key, const char *value, uint32_t cas) {
    return set_vm(VM, key, sl_cstr(value), cas);
}

/* The value; *cas is 0 where there is none. */
static const char *get_vm(sl_str_t vm_id, const char *key, uint32_t *cas) {
    sl_buf_reset(&buf);
    *cas = 0;
    return sh_kv_get(&kv, vm_id, sl_cstr(key), &buf, cas) == SL_OK ? sl_buf_cstr(&buf) : "(none)";
}

static const char *get(const char *key) {
    uint32_t cas;
    return get_vm(VM, key, &cas);
}

static void values_are_kept_apart_by_vm_id_and_key(void **state) {
    (void)state;
    uint32_t cas;
    assert_int_equal(set_vm(SL_STR("a"), "k", SL_STR("1"), 0), SL_OK);
    assert_int_equal(set_vm(SL_STR("b"), "k", SL_STR("2"), 0), SL_OK);
    assert_int_equal(set_vm(SL_STR_NULL, "k", SL_STR("3"), 0), SL_OK);
    assert_int_equal(set_vm(SL_STR_NULL, "ak", SL_STR("4"), 0), SL_OK);
    assert_string_equal(get_vm(SL_STR("a"), "k", &cas), "1");
    assert_string_equal(get_vm(SL_STR("b"), "k", &cas), "2");
    assert_string_equal(get_vm(SL_STR_NULL, "k", &cas), "3");
    assert_string_equal(get_vm(SL_STR("c"), "k", &cas), "(none)");
    assert_string_equal(get_vm(SL_STR("a"), "", &cas), "(none)");
}

static void an_absent_key_takes_any_cas_and_a_present_one_only_its_own_or_none(void **state) {
    (void)state;
    uint32_t cas, later;
    assert_int_equal(set("k", "1", 4711), SL_OK);
    get_vm(VM, "k", &cas);
    assert_int_not_equal(cas, 0);
    assert_int_equal(set("k", "2", cas + 1), SL_CONFLICT);
    assert_string_equal(get("k"), "1");
    assert_int_equal(set("k", "2", cas), SL_OK);
    assert_int_equal(set("k", "3", cas), SL_CONFLICT);
    assert_string_equal(get_vm(VM, "k", &later), "2");
    assert_true(later > cas);
    assert_int_equal(set("k", "3", SH_CAS_ANY), SL_OK);
    assert_int_equal(set("k", "4", SH_CAS_NEVER), SL_CONFLICT);
    assert_int_equal(set("new", "4", SH_CAS_NEVER), SL_OK);
}

static void cas_values_come_from_one_counter_that_leaves_out_0_and_the_one_that_never_matches(void **state) {
    (void)state;
    uint32_t a, b;
    kv.zone.head->counter = SH_CAS_NEVER - 2;
    assert_int_equal(sh_kv_set(&kv, VM, SL_STR("a"), SL_STR("1"), 0, &a), SL_OK);
    assert_int_equal(sh_kv_set(&kv, VM, SL_STR("b"), SL_STR("1"), 0, &b), SL_OK);
    assert_int_equal(a, SH_CAS_NEVER - 1);
    assert_int_equal(b, 1);
}

static void an_empty_value_and_an_empty_key_are_values_and_keys(void **state) {
    (void)state;
    uint32_t cas;
    assert_int_equal(set("", "", 0), SL_OK);
    assert_int_equal(sh_kv_set(&kv, SL_STR_NULL, SL_STR_NULL, SL_STR_NULL, 0, NULL), SL_OK);
    get_vm(VM, "", &cas);
    assert_int_not_equal(cas, 0);
    assert_int_equal(buf.len, 0);
}

static void a_removed_key_is_gone_and_its_room_is_free(void **state) {
    (void)state;
    uint32_t cas;
    assert_int_equal(set("k", "value", 0), SL_OK);
    get_vm(VM, "k", &cas);
    assert_int_equal(sh_kv_remove(&kv, VM, SL_STR("k"), cas + 1), SL_CONFLICT);
    assert_int_equal(sh_kv_remove(&kv, VM, SL_STR("k"), cas), SL_OK);
    assert_int_equal(sh_kv_remove(&kv, VM, SL_STR("k"), SH_CAS_ANY), SL_NOT_FOUND);
    assert_int_equal(sh_kv_stats(&kv).used_bytes, 0);
    assert_sound();
}

static void a_value_that_the_buffer_cannot_take_is_an_error(void **state) {
    (void)state;
    sl_buf_t small;
    uint32_t cas;
    sl_buf_init(&small, 3);
    assert_int_equal(set("k", "four", 0), SL_OK);
    assert_int_equal(sh_kv_get(&kv, VM, SL_STR("k"), &small, &cas), SL_NO_MEMORY);
    sl_buf_deinit(&small);
}

static void without_eviction_a_full_region_refuses_and_keeps_what_it_has(void **state) {
    (void)state;
    char value[1000];
    char key[16];
    unsigned n = 0;
    memset(value, 'v', sizeof(value));
    for (; n < 1000; n++) {
        snprintf(key, sizeof(key), "%u", n);
        if (set_vm(VM, key, sl_str(value, sizeof(value)), 0) != SL_OK) {
            break;
        }
    }
    assert_in_range(n, 30, SIZE / 1000);
    assert_int_equal(sh_kv_stats(&kv).refused, 1);
    assert_int_equal(sh_kv_stats(&kv).entries, n);
    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "%u", i);
        assert_int_equal(strlen(get(key)), sizeof(value));
    }
    /* One that grows beyond the room keeps its value; one that shrinks makes room. */
    char big[3000] = {0};
    assert_int_equal(set_vm(VM, "0", sl_str(big, sizeof(big)), 0), SL_NO_MEMORY);
    assert_int_equal(strlen(get("0")), sizeof(value));
    assert_int_equal(set("1", "small", 0), SL_OK);
    assert_int_equal(set_vm(VM, "new", sl_str(value, sizeof(value) - 100), 0), SL_OK);
    assert_sound();
}

static void a_value_can_grow_into_the_room_of_its_own_old_one(void **state) {
    (void)state;
    static char big[SIZE];
    size_t most = sh_capacity_max(&kv.zone) - 40 - 3; /* an entry without "vm" and "k" */
    memset(big, 'x', sizeof(big));
    assert_int_equal(set_vm(VM, "k", sl_str(big, most - 5000), 0), SL_OK);
    assert_int_equal(set_vm(VM, "k", sl_str(big, most), 0), SL_OK);
    assert_int_equal(strlen(get("k")), most);
    assert_int_equal(set_vm(VM, "k", sl_str(big, most + 8), 0), SL_NO_MEMORY);
    assert_int_equal(strlen(get("k")), most);
    assert_sound();
}

static void what_is_larger_than_the_region_is_refused_and_evicts_nothing(void **state) {
    (void)state;
    static char big[SIZE + 1];
    assert_int_equal(set("k", "1", 0), SL_OK);
    assert_int_equal(set_vm(VM, "big", sl_str(big, sizeof(big)), 0), SL_NO_MEMORY);
    assert_int_equal(set_vm(VM, "k", sl_str(big, SIZE_MAX), 0), SL_NO_MEMORY);
    assert_int_equal(sh_kv_set(&kv, sl_str(big, SIZE_MAX / 2), SL_STR("k"), SL_STR_NULL, 0, NULL), SL_NO_MEMORY);
    assert_int_equal(sh_kv_stats(&kv).evicted, 0);
    assert_string_equal(get("k"), "1");
}

/* Sets k0, k1, ... until something had to go. */
static unsigned fill(size_t value_len) {
    static char value[SIZE];
    char key[16];
    unsigned n = 0;
    memset(value, 'v', sizeof(value));
    uint64_t before = sh_kv_stats(&kv).evicted;
    while (sh_kv_stats(&kv).evicted == before) {
        snprintf(key, sizeof(key), "k%u", n++);
        assert_int_equal(set_vm(VM, key, sl_str(value, value_len), 0), SL_OK);
        if (n > 1) {
            get("k0"); /* always in use */
        }
    }
    return n;
}

static void slru_evicts_what_has_not_been_used_for_the_longest_time(void **state) {
    (void)state;
    unsigned n = fill(500);
    assert_true(n > 50);
    assert_int_equal(sh_kv_stats(&kv).evicted, 1);
    assert_string_equal(get("k1"), "(none)");
    assert_int_equal(strlen(get("k0")), 500);
    assert_int_equal(strlen(get("k2")), 500);
    assert_sound();
}

static void slru_evicts_from_the_same_size_class_first(void **state) {
    (void)state;
    char value[200];
    memset(value, 's', sizeof(value));
    assert_int_equal(set_vm(VM, "small", sl_str(value, 10), 0), SL_OK);
    fill(1000);
    assert_string_equal(get("small"), "ssssssssss");
    assert_string_equal(get("k1"), "(none)");
}

static void slru_evicts_other_classes_where_its_own_is_empty(void **state) {
    (void)state;
    static char value[SIZE / 2];
    fill(100);
    assert_int_equal(set_vm(VM, "big", sl_str(value, sizeof(value)), 0), SL_OK);
    assert_true(sh_kv_stats(&kv).evicted > 10);
    assert_int_equal(set("tiny", "t", 0), SL_OK);
    assert_sound();
}

static void lru_evicts_the_oldest_of_any_size_until_there_is_room(void **state) {
    (void)state;
    char value[8000];
    memset(value, 's', sizeof(value));
    assert_int_equal(set_vm(VM, "small", sl_str(value, 10), 0), SL_OK);
    fill(1000);
    assert_string_equal(get("small"), "(none)");
    assert_int_equal(set_vm(VM, "big", sl_str(value, sizeof(value)), 0), SL_OK);
    assert_true(sh_kv_stats(&kv).evicted >= 7);
    assert_string_equal(get("k3"), "(none)");
    assert_int_equal(strlen(get("k0")), 1000);
    assert_sound();
}

static void the_whole_region_can_be_evicted_for_one_value(void **state) {
    (void)state;
    static char big[SIZE];
    size_t most = sh_capacity_max(&kv.zone) - 40 - 3;
    memset(big, 'x', sizeof(big));
    fill(300);
    assert_int_equal(set_vm(VM, "1", sl_str(big, most), 0), SL_OK);
    assert_int_equal(sh_kv_stats(&kv).entries, 1);
    assert_int_equal(strlen(get("1")), most);
    assert_int_equal(set_vm(VM, "1", sl_str(big, 10), 0), SL_OK);
    assert_int_equal(set_vm(VM, "1", sl_str(big, most), 0), SL_OK);
    assert_sound();
}

/* ---- pages ---- */

typedef struct {
    unsigned seen[1000];
    unsigned total;
} seen_t;

static void see(void *ud, const sh_kv_entry_t *entry) {
    seen_t *s = ud;
    assert_true(sl_str_eq(entry->vm_id, VM));
    assert_true(sl_str_eq(entry->key, entry->value));
    char digits[16] = {0};
    memcpy(digits, entry->key.data, entry->key.len);
    s->seen[atoi(digits)]++;
    s->total++;
}

static void pages_show_each_entry_once(void **state) {
    (void)state;
    seen_t seen = {.total = 0};
    uint64_t cursor = 0;
    unsigned pages = 0;
    for (unsigned i = 0; i < 300; i++) {
        sl_str_t t = text(i);
        assert_int_equal(sh_kv_set(&kv, VM, t, t, 0, NULL), SL_OK);
    }
    do {
        sh_kv_page(&kv, &cursor, 7, see, &seen);
        pages++;
    } while (cursor != 0);
    assert_int_equal(seen.total, 300);
    assert_true(pages > 10);
    for (unsigned i = 0; i < 300; i++) {
        assert_int_equal(seen.seen[i], 1);
    }
}

/* ---- against a naive model ---- */

typedef struct {
    bool there;
    uint32_t cas;
    size_t len;
    uint8_t first;
} model_t;

static void model_key(uint32_t i, char key[16]) {
    snprintf(key, 16, "%.*s%u", (int)(i % 5), "longer", i);
}

static void model_set(model_t *m, uint32_t i, st_random_t *r) {
    static uint8_t value[8000];
    char key[16];
    uint32_t cas = st_random(r, 3) == 0 ? SH_CAS_ANY : st_random(r, 2) == 0 ? m->cas : m->cas + 1, given = 0;
    size_t len = st_random(r, st_random(r, 8) == 0 ? sizeof(value) : 200);
    memset(value, (int)st_random(r, 256), len);
    model_key(i, key);
    sl_status_t rc = sh_kv_set(&kv, VM, sl_cstr(key), sl_str(value, len), cas, &given);
    if (m->there && cas != SH_CAS_ANY && cas != m->cas) {
        assert_int_equal(rc, SL_CONFLICT);
    } else if (rc != SL_NO_MEMORY) {
        assert_int_equal(rc, SL_OK);
        *m = (model_t){.there = true, .cas = given, .len = len, .first = len != 0 ? value[0] : 0};
    }
}

static void model_get(const model_t *m, uint32_t i) {
    char key[16];
    uint32_t cas = 0;
    model_key(i, key);
    sl_buf_reset(&buf);
    sl_status_t rc = sh_kv_get(&kv, VM, sl_cstr(key), &buf, &cas);
    assert_int_equal(rc, m->there ? SL_OK : SL_NOT_FOUND);
    if (m->there) {
        assert_int_equal(cas, m->cas);
        assert_int_equal(buf.len, m->len);
        for (size_t k = 0; k < buf.len; k++) {
            assert_int_equal((uint8_t)buf.data[k], m->first);
        }
    }
}

static void random_operations_agree_with_a_naive_model(void **state) {
    (void)state;
    static model_t model[KEYS];
    st_random_t r = {7};
    for (unsigned round = 0; round < 40000; round++) {
        uint32_t i = st_random(&r, KEYS);
        switch (st_random(&r, 4)) {
        case 0:
        case 1:
            model_set(&model[i], i, &r);
            break;
        case 2: {
            char key[16];
            model_key(i, key);
            assert_int_equal(sh_kv_remove(&kv, VM, sl_cstr(key), SH_CAS_ANY), model[i].there ? SL_OK : SL_NOT_FOUND);
            model[i] = (model_t){.there = false, .cas = model[i].cas};
            break;
        }
        default:
            model_get(&model[i], i);
        }
        if (round % 256 == 0) {
            assert_sound();
        }
    }
    assert_true(sh_kv_stats(&kv).refused > 0); /* it was full at times */
}

/* With eviction entries may go, but what is there is right. */
static void random_operations_with_eviction_keep_the_region_sound(void **state) {
    (void)state;
    static char value[20000];
    st_random_t r = {9};
    for (unsigned round = 0; round < 30000; round++) {
        char key[16];
        snprintf(key, sizeof(key), "%u", st_random(&r, 2000));
        size_t len = st_random(&r, st_random(&r, 20) == 0 ? sizeof(value) : 400);
        memset(value, (int)(len % 251), len);
        assert_int_equal(set_vm(VM, key, sl_str(value, len), 0), SL_OK);
        snprintf(key, sizeof(key), "%u", st_random(&r, 2000));
        uint32_t cas;
        get_vm(VM, key, &cas);
        for (size_t k = 0; cas != 0 && k < buf.len; k += 1 + buf.len / 8) {
            assert_int_equal((uint8_t)buf.data[k], buf.len % 251);
        }
        if (round % 256 == 0) {
            assert_sound();
        }
    }
}

/* ---- several processes ---- */

static void increment_with_cas(unsigned process, void *ud) {
    (void)process;
    (void)ud;
    for (unsigned done = 0; done < 2000;) {
        uint32_t cas;
        int n = atoi(get_vm(VM, "counter", &cas));
        sl_status_t rc = sh_kv_set(&kv, VM, SL_STR("counter"), text((unsigned)n + 1), cas, NULL);
        assert_true(rc == SL_OK || rc == SL_CONFLICT);
        done += rc == SL_OK;
    }
}

static void increments_of_several_processes_by_cas_are_all_counted(void **state) {
    (void)state;
    assert_int_equal(set("counter", "0", 0), SL_OK);
    assert_int_equal(st_run(ST_PROCESSES, increment_with_cas, NULL), ST_PROCESSES);
    assert_int_equal(atoi(get("counter")), ST_PROCESSES * 2000);
    assert_sound();
}

static void hammer(unsigned process, void *ud) {
    (void)ud;
    static char value[3000];
    st_random_t r = {process + 1};
    for (unsigned round = 0; round < 5000; round++) {
        char key[16];
        snprintf(key, sizeof(key), "%u", st_random(&r, 300));
        size_t len = st_random(&r, 10) == 0 ? sizeof(value) : st_random(&r, 100);
        memset(value, (int)(len % 251), len);
        sl_status_t rc = st_random(&r, 5) == 0 ? sh_kv_remove(&kv, VM, sl_cstr(key), 0) : set_vm(VM, key, sl_str(value, len), 0);
        assert_true(rc == SL_OK || rc == SL_NOT_FOUND);
        uint32_t cas;
        get_vm(VM, key, &cas);
        for (size_t k = 0; cas != 0 && k < buf.len; k++) {
            assert_int_equal((uint8_t)buf.data[k], buf.len % 251);
        }
    }
}

static void several_processes_on_a_full_region_never_see_a_torn_value(void **state) {
    (void)state;
    assert_int_equal(st_run(ST_PROCESSES, hammer, NULL), ST_PROCESSES);
    assert_sound();
    assert_int_equal(sh_kv_stats(&kv).resets, 0);
    assert_true(sh_kv_stats(&kv).used_bytes <= sh_kv_stats(&kv).total_bytes);
}

/* ---- killed in the middle ---- */

static void write_and_die(unsigned process, void *ud) {
    static char value[30000];
    (void)process;
    st_die_at_step(*(unsigned *)ud);
    set_vm(VM, "a", sl_str(value, 5000), 0);
    set_vm(VM, "b", sl_str(value, sizeof(value)), 0);
    set_vm(VM, "b", sl_str(value, 20), 0);
    get("c");
    sh_kv_remove(&kv, VM, SL_STR("a"), 0);
}

static void a_process_killed_at_any_step_of_a_write_leaves_a_region_that_works(void **state) {
    (void)state;
    unsigned at = 1, resets = 0;
    for (;; at++) {
        for (unsigned i = 0; i < 60; i++) {
            char key[2] = {(char)('a' + i % 26), 0};
            assert_int_equal(set(key, "some value", 0), SL_OK);
        }
        if (st_run(1, write_and_die, &at) == 1) {
            break; /* there are no more steps */
        }
        assert_int_equal(set("after", "1", 0), SL_OK);
        assert_string_equal(get("after"), "1");
        assert_sound();
        resets = sh_kv_stats(&kv).resets;
    }
    assert_true(at > 40);
    assert_int_equal(resets, at - 1); /* each step was within a change */
    assert_int_equal(st_reset_count(), resets);
}

static void cas_values_do_not_come_again_after_a_reset(void **state) {
    (void)state;
    unsigned at = 2;
    uint32_t before, after;
    set("k", "1", 0);
    get_vm(VM, "k", &before);
    st_run(1, write_and_die, &at);
    set("k", "1", 0);
    get_vm(VM, "k", &after);
    assert_true(after > before);
}

static void no_lock(void *ud) {
    (void)ud;
}

/* The lock of the tests is one for all regions; a copy holds two. */
static const sh_env_t alone = {.lock = no_lock, .unlock = no_lock};

static void a_copy_has_the_entries_used_last_with_their_cas_values(void **state) {
    (void)state;
    sh_kv_t small, large;
    char value[600];
    uint32_t cas, theirs = 0;
    memset(value, 'v', sizeof(value));
    for (unsigned i = 0; i < 60; i++) {
        assert_int_equal(sh_kv_set(&kv, VM, text(i), sl_str(value, i * 10), 0, NULL), SL_OK);
    }
    get_vm(VM, "3", &cas);
    assert_int_equal(sh_kv_open(&large, st_memory(2 * SIZE), 2 * SIZE, true, 2, SH_EVICT_NONE, &alone), SL_OK);
    assert_int_equal(sh_kv_open(&small, st_memory(SIZE / 4), SIZE / 4, true, 3, SH_EVICT_LRU, &alone), SL_OK);
    sh_kv_copy(&large, &kv);
    sh_kv_copy(&small, &kv);
    assert_null(sh_kv_check(&large));
    assert_null(sh_kv_check(&small));
    assert_int_equal(sh_kv_stats(&large).entries, 60);
    assert_int_equal(sh_kv_get(&small, VM, SL_STR("3"), &buf, &theirs), SL_OK);
    assert_int_equal(theirs, cas);
    assert_int_equal(sh_kv_get(&small, VM, SL_STR("59"), &buf, &theirs), SL_OK);
    assert_int_equal(sh_kv_get(&small, VM, SL_STR("4"), &buf, &theirs), SL_NOT_FOUND);
    assert_int_equal(sh_kv_set(&large, VM, SL_STR("new"), SL_STR("1"), 0, &theirs), SL_OK);
    assert_int_equal(theirs, 61);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define SLRU(f) cmocka_unit_test_setup_teardown(f, setup_slru, teardown)
#define LRU(f) cmocka_unit_test_setup_teardown(f, setup_lru, teardown)
    const struct CMUnitTest tests[] = {
        T(values_are_kept_apart_by_vm_id_and_key),
        T(an_absent_key_takes_any_cas_and_a_present_one_only_its_own_or_none),
        T(cas_values_come_from_one_counter_that_leaves_out_0_and_the_one_that_never_matches),
        T(an_empty_value_and_an_empty_key_are_values_and_keys),
        T(a_removed_key_is_gone_and_its_room_is_free),
        T(a_value_that_the_buffer_cannot_take_is_an_error),
        T(without_eviction_a_full_region_refuses_and_keeps_what_it_has),
        T(a_value_can_grow_into_the_room_of_its_own_old_one),
        SLRU(what_is_larger_than_the_region_is_refused_and_evicts_nothing),
        SLRU(slru_evicts_what_has_not_been_used_for_the_longest_time),
        SLRU(slru_evicts_from_the_same_size_class_first),
        SLRU(slru_evicts_other_classes_where_its_own_is_empty),
        LRU(lru_evicts_the_oldest_of_any_size_until_there_is_room),
        LRU(the_whole_region_can_be_evicted_for_one_value),
        SLRU(the_whole_region_can_be_evicted_for_one_value),
        T(pages_show_each_entry_once),
        T(random_operations_agree_with_a_naive_model),
        SLRU(random_operations_with_eviction_keep_the_region_sound),
        LRU(random_operations_with_eviction_keep_the_region_sound),
        T(increments_of_several_processes_by_cas_are_all_counted),
        SLRU(several_processes_on_a_full_region_never_see_a_torn_value),
        SLRU(a_process_killed_at_any_step_of_a_write_leaves_a_region_that_works),
        T(cas_values_do_not_come_again_after_a_reset),
        SLRU(a_copy_has_the_entries_used_last_with_their_cas_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
