#include "mh_int.h"

#include "mt.h"

static mh_map_t map;

static int setup(void **state) {
    (void)state;
    map = (mh_map_t){0};
    return 0;
}

static int teardown(void **state) {
    (void)state;
    mh_map_clear(&map);
    return 0;
}

static sl_status_t change(pw_map_op_t op, const char *key, const char *value) {
    return mh_map_change(&map, op, sl_cstr(key), sl_cstr(value));
}

static void assert_pair(size_t i, const char *key, const char *value) {
    assert_true(i < map.n);
    assert_str(map.pairs[i].key, key);
    assert_str(map.pairs[i].value, value);
}

static void add_keeps_the_order_and_duplicates(void **state) {
    (void)state;
    change(PW_MAP_ADD, "a", "1");
    change(PW_MAP_ADD, "b", "2");
    change(PW_MAP_ADD, "a", "3");
    assert_int_equal(map.n, 3);
    assert_pair(0, "a", "1");
    assert_pair(1, "b", "2");
    assert_pair(2, "a", "3");
}

static void pseudo_headers_stand_first_and_once(void **state) {
    (void)state;
    change(PW_MAP_ADD, "a", "1");
    change(PW_MAP_ADD, ":path", "/");
    change(PW_MAP_ADD, ":method", "GET");
    change(PW_MAP_ADD, ":path", "/b");
    assert_int_equal(map.n, 3);
    assert_pair(0, ":path", "/b");
    assert_pair(1, ":method", "GET");
    assert_pair(2, "a", "1");
}

static void replace_leaves_one_in_the_place_of_the_first(void **state) {
    (void)state;
    change(PW_MAP_ADD, "A", "1");
    change(PW_MAP_ADD, "b", "2");
    change(PW_MAP_ADD, "a", "3");
    change(PW_MAP_REPLACE, "a", "new");
    assert_int_equal(map.n, 2);
    assert_pair(0, "A", "new");
    assert_pair(1, "b", "2");
}

static void replace_appends_what_is_not_there(void **state) {
    (void)state;
    change(PW_MAP_REPLACE, "a", "1");
    assert_pair(0, "a", "1");
}

static void remove_takes_all_of_a_name_in_any_case(void **state) {
    (void)state;
    change(PW_MAP_ADD, "A", "1");
    change(PW_MAP_ADD, "b", "2");
    change(PW_MAP_ADD, "a", "3");
    assert_int_equal(change(PW_MAP_REMOVE, "a", ""), SL_OK);
    assert_int_equal(map.n, 1);
    assert_pair(0, "b", "2");
}

static void clear_empties_and_keeps_the_map_present(void **state) {
    (void)state;
    assert_int_equal(mh_map_copy(&map, (pw_pair_t[]){MT_PAIR("a", "1")}, 1), SL_OK);
    change(PW_MAP_CLEAR, "", "");
    assert_int_equal(map.n, 0);
    assert_int_equal(map.bytes, 0);
    assert_true(map.present);
}

static void lines_and_nul_cannot_get_into_a_header(void **state) {
    (void)state;
    assert_int_equal(change(PW_MAP_ADD, "a", "b\r\nc"), SL_INVALID);
    assert_int_equal(change(PW_MAP_REPLACE, "a\n", "b"), SL_INVALID);
    assert_int_equal(mh_map_change(&map, PW_MAP_ADD, SL_STR("a"), SL_STR("x\0y")), SL_INVALID);
    assert_int_equal(change(PW_MAP_ADD, "", "b"), SL_INVALID);
    assert_int_equal(map.n, 0);
}

static void a_status_has_three_digits(void **state) {
    (void)state;
    assert_int_equal(change(PW_MAP_REPLACE, ":status", "teapot"), SL_INVALID);
    assert_int_equal(change(PW_MAP_REPLACE, ":status", "042"), SL_INVALID);
    assert_int_equal(change(PW_MAP_REPLACE, ":status", "418"), SL_OK);
}

static void the_number_of_pairs_has_a_ceiling(void **state) {
    (void)state;
    for (size_t i = 0; i < MH_MAP_PAIRS; i++) {
        assert_int_equal(change(PW_MAP_ADD, "a", "1"), SL_OK);
    }
    assert_int_equal(change(PW_MAP_ADD, "a", "1"), SL_NO_MEMORY);
    assert_int_equal(map.n, MH_MAP_PAIRS);
}

static void the_bytes_have_a_ceiling_also_for_replace(void **state) {
    (void)state;
    static char big[MH_MAP_BYTES];
    memset(big, 'x', sizeof(big));
    assert_int_equal(mh_map_change(&map, PW_MAP_ADD, SL_STR("a"), sl_str(big, sizeof(big) - 1)), SL_OK);
    assert_int_equal(change(PW_MAP_ADD, "b", ""), SL_NO_MEMORY);
    assert_int_equal(mh_map_change(&map, PW_MAP_REPLACE, SL_STR("a"), sl_str(big, sizeof(big))), SL_NO_MEMORY);
    assert_int_equal(change(PW_MAP_REPLACE, "a", "small"), SL_OK);
    assert_int_equal(map.bytes, 6);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(add_keeps_the_order_and_duplicates),
        T(pseudo_headers_stand_first_and_once),
        T(replace_leaves_one_in_the_place_of_the_first),
        T(replace_appends_what_is_not_there),
        T(remove_takes_all_of_a_name_in_any_case),
        T(clear_empties_and_keeps_the_map_present),
        T(lines_and_nul_cannot_get_into_a_header),
        T(a_status_has_three_digits),
        T(the_number_of_pairs_has_a_ceiling),
        T(the_bytes_have_a_ceiling_also_for_replace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
