#include "sh_zone.h"

#include "st.h"

#define SIZE (256 * 1024)
#define BLOCKS 512

static sh_zone_t zone;
static uint8_t *mem;

static void no_tables(sh_zone_t *z) {
    (void)z;
}

static const sh_layout_t layout = {.kind = 7, .table_bytes = 100, .clear = no_tables};

static int setup(void **state) {
    (void)state;
    mem = st_memory(SIZE);
    return sh_zone_open(&zone, mem, SIZE, true, 1, &layout, &st_env) == SL_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    st_reset();
    return 0;
}

static void assert_sound(void) {
    const char *wrong = sh_zone_check(&zone);
    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
}

static sh_ref_t alloc(size_t bytes) {
    sh_begin(&zone);
    sh_ref_t ref = sh_alloc(&zone, bytes);
    sh_end(&zone);
    return ref;
}

static void release(sh_ref_t ref) {
    sh_begin(&zone);
    sh_free(&zone, ref);
    sh_end(&zone);
}

static void every_size_can_be_allocated_and_comes_back_whole(void **state) {
    (void)state;
    size_t most = sh_capacity_max(&zone);
    for (size_t bytes = 0; bytes <= most; bytes += bytes < 5000 ? 1 : 997) {
        sh_ref_t ref = alloc(bytes);
        assert_int_not_equal(ref, 0);
        assert_true(sh_capacity(&zone, ref) >= bytes);
        assert_int_equal((uintptr_t)sh_at(&zone, ref) % 8, 0);
        memset(sh_at(&zone, ref), 0xab, bytes);
        assert_sound();
        release(ref);
        assert_int_equal(sh_used_bytes(&zone), 0);
    }
    assert_int_not_equal(alloc(most), 0);
}

static void what_is_larger_than_the_region_is_refused(void **state) {
    (void)state;
    assert_int_equal(alloc(sh_capacity_max(&zone) + 1), 0);
    assert_int_equal(alloc(SIZE_MAX), 0);
    assert_int_equal(alloc((size_t)UINT32_MAX * SH_UNIT), 0);
    assert_sound();
}

static void a_full_region_refuses_and_takes_again_what_was_freed(void **state) {
    (void)state;
    sh_ref_t refs[SIZE / 112];
    size_t n = 0;
    while ((refs[n] = alloc(100)) != 0) {
        n++;
    }
    assert_true(n > SIZE / 112 / 2);
    assert_true(sh_used_bytes(&zone) <= sh_total_bytes(&zone));
    assert_int_equal(alloc(100), 0);
    release(refs[n / 2]);
    refs[n / 2] = alloc(100);
    assert_int_not_equal(refs[n / 2], 0);
    for (size_t i = 0; i < n; i++) {
        release(refs[i]);
    }
    assert_sound();
    assert_int_not_equal(alloc(sh_capacity_max(&zone)), 0);
}

/* Blocks with a pattern each: no allocation may touch another one's bytes. */
static void random_allocations_keep_out_of_each_others_way(void **state) {
    (void)state;
    st_random_t r = {42};
    sh_ref_t refs[BLOCKS] = {0};
    size_t sizes[BLOCKS] = {0};
    for (unsigned round = 0; round < 30000; round++) {
        uint32_t i = st_random(&r, BLOCKS);
        if (refs[i] != 0) {
            const uint8_t *p = sh_at(&zone, refs[i]);
            for (size_t k = 0; k < sizes[i]; k += 1 + sizes[i] / 16) {
                assert_int_equal(p[k], (uint8_t)i);
            }
            release(refs[i]);
            refs[i] = 0;
        } else {
            sizes[i] = st_random(&r, st_random(&r, 10) == 0 ? 20000 : 300);
            refs[i] = alloc(sizes[i]);
            if (refs[i] != 0) {
                memset(sh_at(&zone, refs[i]), (int)i, sizes[i]);
            }
        }
        if (round % 64 == 0) {
            assert_sound();
        }
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (refs[i] != 0) {
            release(refs[i]);
        }
    }
    assert_sound();
    assert_int_equal(sh_used_bytes(&zone), 0);
}

static void a_block_can_be_exchanged_for_a_larger_one_in_its_place(void **state) {
    (void)state;
    sh_ref_t whole = alloc(sh_capacity_max(&zone) - 64);
    sh_begin(&zone);
    assert_int_equal(sh_exchange(&zone, whole, sh_capacity_max(&zone) + 1), 0);
    whole = sh_exchange(&zone, whole, sh_capacity_max(&zone));
    sh_end(&zone);
    assert_int_not_equal(whole, 0);
    assert_sound();
    sh_begin(&zone);
    whole = sh_exchange(&zone, whole, 1);
    sh_end(&zone);
    assert_int_not_equal(whole, 0);
    assert_sound();
    assert_int_equal(sh_used_bytes(&zone), SH_UNIT);
}

static void rounding_up_gives_a_class_of_one_size(void **state) {
    (void)state;
    for (size_t bytes = 1; bytes < 100000; bytes += 13) {
        size_t rounded = sh_round_up(bytes);
        assert_true(rounded >= bytes);
        assert_true(rounded - bytes <= bytes / 8 + SH_UNIT);
        assert_int_equal(sh_round_up(rounded), rounded);
    }
}

static void a_region_is_taken_over_only_by_its_own_kind_and_size(void **state) {
    (void)state;
    sh_zone_t other;
    sh_layout_t another = layout;
    another.kind = 8;
    assert_int_equal(sh_zone_open(&other, mem, SIZE, false, 1, &layout, &st_env), SL_OK);
    assert_int_equal(sh_zone_open(&other, mem, SIZE, false, 1, &another, &st_env), SL_INVALID);
    assert_int_equal(sh_zone_open(&other, mem, SIZE / 2, false, 1, &layout, &st_env), SL_INVALID);
    assert_int_equal(sh_zone_open(&other, mem + 8, SIZE / 2, true, 1, &layout, &st_env), SL_INVALID);
}

static void a_region_that_is_too_small_is_refused(void **state) {
    (void)state;
    uint8_t *small = st_memory(16384);
    sh_zone_t other;
    size_t least = 0;
    for (size_t size = 0; size <= 16384; size += 16) {
        memset(small, 0xee, 16384);
        sl_status_t rc = sh_zone_open(&other, small, size, true, 1, &layout, &st_env);
        assert_true(rc == SL_OK || rc == SL_NO_MEMORY);
        assert_true(rc == SL_OK || least == 0);
        for (size_t i = size; i < 16384; i++) {
            assert_int_equal(small[i], 0xee); /* nothing beyond the end is written */
        }
        if (rc == SL_OK) {
            least = least == 0 ? size : least;
            assert_null(sh_zone_check(&other));
        }
    }
    assert_in_range(least, 512, 4096);
}

static void allocate_and_die(unsigned process, void *ud) {
    (void)process;
    sh_ref_t *first = ud;
    sh_lock(&zone);
    st_die_at_step(3);
    sh_begin(&zone);
    *first = sh_alloc(&zone, 1000);
    sh_end(&zone);
    sh_unlock(&zone);
}

static void a_change_that_was_not_finished_empties_the_region(void **state) {
    (void)state;
    sh_ref_t unused;
    assert_int_not_equal(alloc(100), 0);
    assert_int_equal(st_run(1, allocate_and_die, &unused), 0);
    sh_lock(&zone);
    assert_sound();
    assert_int_equal(sh_used_bytes(&zone), 0);
    assert_int_equal(zone.head->resets, 1);
    sh_unlock(&zone);
    assert_int_equal(st_reset_count(), 1);
    sh_lock(&zone);
    assert_int_equal(zone.head->resets, 1);
    sh_unlock(&zone);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(every_size_can_be_allocated_and_comes_back_whole),       T(what_is_larger_than_the_region_is_refused),
        T(a_full_region_refuses_and_takes_again_what_was_freed),   T(random_allocations_keep_out_of_each_others_way),
        T(a_block_can_be_exchanged_for_a_larger_one_in_its_place), T(rounding_up_gives_a_class_of_one_size),
        T(a_region_is_taken_over_only_by_its_own_kind_and_size),   T(a_region_that_is_too_small_is_refused),
        T(a_change_that_was_not_finished_empties_the_region),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
