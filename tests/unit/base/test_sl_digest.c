#include "sl_digest.h"

#include "cmocka_all.h"

static void sha256_gives_the_published_vectors(void **state) {
    (void)state;
    uint8_t raw[SL_SHA256_SIZE];
    char hex[2 * SL_SHA256_SIZE + 1];
    assert_int_equal(sl_sha256(SL_STR("abc"), raw), SL_OK);
    sl_hex(raw, sizeof(raw), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(sl_sha256(SL_STR_NULL, raw), SL_OK);
    sl_hex(raw, sizeof(raw), hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void md5_gives_the_published_vectors(void **state) {
    (void)state;
    char hex[33];
    assert_int_equal(sl_md5_hex(SL_STR("message digest"), hex), SL_OK);
    assert_string_equal(hex, "f96b697d7cb7938d525a2f31aaf161d0");
    assert_int_equal(sl_md5_hex(SL_STR_NULL, hex), SL_OK);
    assert_string_equal(hex, "d41d8cd98f00b204e9800998ecf8427e");
}

static void hex_is_lower_case_and_terminated(void **state) {
    (void)state;
    char out[7] = "######";
    sl_hex((const uint8_t *)"\x00\xab\xff", 3, out);
    assert_string_equal(out, "00abff");
    sl_hex(NULL, 0, out);
    assert_string_equal(out, "");
}

static void random_bytes_differ(void **state) {
    (void)state;
    uint8_t a[16] = {0};
    uint8_t b[16] = {0};
    assert_int_equal(sl_random(a, sizeof(a)), SL_OK);
    assert_int_equal(sl_random(b, sizeof(b)), SL_OK);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_int_equal(sl_random(a, SIZE_MAX), SL_FAILED);
}

static void a_random_uuid_is_valid_and_says_version_4(void **state) {
    (void)state;
    char a[SL_UUID_TEXT_SIZE + 1];
    char b[SL_UUID_TEXT_SIZE + 1];
    assert_int_equal(sl_uuid_v4(a), SL_OK);
    assert_int_equal(sl_uuid_v4(b), SL_OK);
    assert_true(sl_uuid_valid(sl_cstr(a)));
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
    assert_string_not_equal(a, b);
}

static void a_named_uuid_gives_the_vector_of_the_rfc(void **state) {
    (void)state;
    char out[SL_UUID_TEXT_SIZE + 1];
    assert_int_equal(sl_uuid_v5(SL_STR("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), SL_STR("www.example.com"), out), SL_OK);
    assert_string_equal(out, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
}

/* Declarative files get the same identifiers as in Kong: a name space per kind of entity, made from one root. */
static void identifiers_of_declarative_entities_are_those_of_kong(void **state) {
    (void)state;
    char ns[SL_UUID_TEXT_SIZE + 1];
    char id[SL_UUID_TEXT_SIZE + 1];
    assert_int_equal(sl_uuid_v5(SL_STR("fd02801f-0957-4a15-a55a-c8d9606f30b5"), SL_STR("services"), ns), SL_OK);
    assert_int_equal(sl_uuid_v5(sl_cstr(ns), SL_STR("my-service"), id), SL_OK);
    assert_string_equal(id, "0855b320-0dd2-547d-891d-601e9b38647f");
}

static void a_name_space_may_be_in_upper_case(void **state) {
    (void)state;
    char out[SL_UUID_TEXT_SIZE + 1];
    assert_int_equal(sl_uuid_v5(SL_STR("6BA7B810-9DAD-11D1-80B4-00C04FD430C8"), SL_STR("www.example.com"), out), SL_OK);
    assert_string_equal(out, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
}

static void a_name_space_that_is_no_uuid_is_refused(void **state) {
    (void)state;
    char out[SL_UUID_TEXT_SIZE + 1];
    assert_int_equal(sl_uuid_v5(SL_STR("services"), SL_STR("my-service"), out), SL_INVALID);
    assert_int_equal(sl_uuid_v5(SL_STR_NULL, SL_STR("my-service"), out), SL_INVALID);
}

static void only_the_canonical_form_is_a_valid_uuid(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "0855b320-0dd2-547d-891d-601e9b38647",
        "0855b320-0dd2-547d-891d-601e9b38647f0",
        "0855b3200-dd2-547d-891d-601e9b38647f",
        "0855b320-0dd2-547d-891d-601e9b38647g",
        "0855b320x0dd2-547d-891d-601e9b38647f",
        "{855b320-0dd2-547d-891d-601e9b38647}",
        "0855b320-0dd2-547d-891d--01e9b38647f",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(sl_uuid_valid(sl_cstr(bad[i])));
    }
    assert_true(sl_uuid_valid(SL_STR("0855b320-0dd2-547d-891d-601e9b38647f")));
    assert_true(sl_uuid_valid(SL_STR("0855B320-0DD2-547D-891D-601E9B38647F")));
    assert_false(sl_uuid_valid(sl_str("0855b320-0dd2-547d-891d-601e9b38647\0", 36)));
}

static void the_table_hash_depends_on_text_and_seed(void **state) {
    (void)state;
    assert_true(sl_hash(SL_STR("a"), 1) == sl_hash(SL_STR("a"), 1));
    assert_true(sl_hash(SL_STR("a"), 1) != sl_hash(SL_STR("b"), 1));
    assert_true(sl_hash(SL_STR("a"), 1) != sl_hash(SL_STR("a"), 2));
    assert_true(sl_hash(SL_STR("ab"), 1) != sl_hash(SL_STR("ba"), 1));
    assert_true(sl_hash(sl_str("a\0", 2), 1) != sl_hash(SL_STR("a"), 1));
    (void)sl_hash(SL_STR_NULL, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_gives_the_published_vectors),
        cmocka_unit_test(md5_gives_the_published_vectors),
        cmocka_unit_test(hex_is_lower_case_and_terminated),
        cmocka_unit_test(random_bytes_differ),
        cmocka_unit_test(a_random_uuid_is_valid_and_says_version_4),
        cmocka_unit_test(a_named_uuid_gives_the_vector_of_the_rfc),
        cmocka_unit_test(identifiers_of_declarative_entities_are_those_of_kong),
        cmocka_unit_test(a_name_space_may_be_in_upper_case),
        cmocka_unit_test(a_name_space_that_is_no_uuid_is_refused),
        cmocka_unit_test(only_the_canonical_form_is_a_valid_uuid),
        cmocka_unit_test(the_table_hash_depends_on_text_and_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
