#include "pw_grpc_target.h"

#include "cmocka_all.h"

#define BYTES(lit) SL_STR(lit)

static void expect(sl_str_t bytes, const char *name, const char *authority, bool tls) {
    pw_grpc_target_t t;
    assert_true(pw_grpc_target(bytes, &t));
    assert_true(sl_str_eq(t.name, sl_cstr(name)));
    assert_true(sl_str_eq(t.authority, sl_cstr(authority)));
    assert_int_equal(t.tls, tls);
}

static void a_name_is_taken_as_it_is_but_for_its_scheme(void **state) {
    (void)state;
    expect(SL_STR("up"), "up", "", false);
    expect(SL_STR("host:50051"), "host:50051", "", false);
    expect(SL_STR("grpc://host"), "host", "", false);
    expect(SL_STR("http://host"), "host", "", false);
    expect(SL_STR("grpcs://host"), "host", "", true);
    expect(SL_STR("https://host:1"), "host:1", "", true);
    expect(SL_STR("dns:///host:1"), "host:1", "", false);
    expect(SL_STR("dns:host:1"), "host:1", "", false);
    expect(SL_STR("ipv4:127.0.0.1:1"), "127.0.0.1:1", "", false);
    expect(SL_STR("ipv6:[::1]:1"), "[::1]:1", "", false);
}

static void a_service_names_its_cluster_or_its_uri(void **state) {
    (void)state;
    expect(BYTES("\n\4\n\2up"), "up", "", false);
    expect(BYTES("\n\010\n\2up\22\2au"), "up", "au", false);
    expect(BYTES("\22\010\n\6host:1"), "host:1", "", false);
    expect(BYTES("\22\014\n\6host:1\22\2\n\0"), "host:1", "", true);
    expect(BYTES("\22\014\n\6host:1\22\2\22\0"), "host:1", "", true);
    /* fields that mean nothing here: a number, 8 and 4 bytes, a message */
    expect(BYTES("\70\5\101\0\0\0\0\0\0\0\0\115\0\0\0\0\62\1x\n\4\n\2up"), "up", "", false);
    /* the last of the two counts, whole */
    expect(BYTES("\22\014\n\6host:1\22\2\n\0\n\4\n\2up"), "up", "", false);
}

static void credentials_of_the_guest_are_noticed(void **state) {
    (void)state;
    pw_grpc_target_t t;
    assert_true(pw_grpc_target(BYTES("\22\021\n\6host:1\22\7\n\5\n\3\32\1c"), &t));
    assert_true(t.own_credentials);
    assert_true(pw_grpc_target(BYTES("\22\013\n\6host:1\32\1c"), &t));
    assert_true(t.own_credentials);
    assert_true(pw_grpc_target(BYTES("\n\4\n\2up"), &t));
    assert_false(t.own_credentials);
}

static void timeouts_are_whole_milliseconds_within_bounds(void **state) {
    (void)state;
    static const struct {
        sl_str_t duration;
        uint32_t ms;
    } rows[] = {
        {SL_STR("\10\2"), 2000},
        {SL_STR("\20\1"), 1},
        {SL_STR("\10\1\20\300\204\75"), 1001},
        {SL_STR("\10\377\377\377\377\377\377\377\377\377\1"), 0},
        {SL_STR("\10\377\377\377\377\377\377\377\377\177"), UINT32_MAX},
        {SL_STR(""), 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char bytes[64] = "\n\4\n\2up\32";
        bytes[7] = (char)rows[i].duration.len;
        memcpy(bytes + 8, rows[i].duration.data, rows[i].duration.len);
        pw_grpc_target_t t;
        assert_true(pw_grpc_target(sl_str(bytes, 8 + rows[i].duration.len), &t));
        assert_int_equal(t.timeout_ms, rows[i].ms);
    }
}

static void metadata_is_bounded(void **state) {
    (void)state;
    char bytes[4096] = "\n\4\n\2up";
    size_t len = 6;
    for (int i = 0; i < PW_GRPC_TARGET_METADATA_MAX + 1; i++) {
        memcpy(bytes + len, "\52\6\n\1k\22\1v", 8);
        len += 8;
    }
    pw_grpc_target_t t;
    assert_true(pw_grpc_service_decode(sl_str(bytes, len - 8), &t));
    assert_int_equal(t.n_metadata, PW_GRPC_TARGET_METADATA_MAX);
    assert_true(sl_str_eq(t.metadata[63].key, SL_STR("k")) && sl_str_eq(t.metadata[63].value, SL_STR("v")));
    assert_false(pw_grpc_service_decode(sl_str(bytes, len), &t));
}

static void what_is_neither_is_refused(void **state) {
    (void)state;
    static const sl_str_t rows[] = {
        SL_STR(""),           SL_STR("a b"),         SL_STR("\n"),
        SL_STR("\n\5\n\2up"), SL_STR("\n\4\n\3up"),  SL_STR("grpcs://"),
        SL_STR("\n\2\n"),     SL_STR("\n\4\n\2a\n"), SL_STR("\n\4\13\2up"),
        SL_STR("\32\0"),      SL_STR("\0\1"),        SL_STR("\377\377\377\377\377\377\377\377\377\377\377"),
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        pw_grpc_target_t t;
        bool taken = pw_grpc_target(rows[i], &t);
        assert_true(!taken || (unsigned char)rows[i].data[0] == 0xff); /* bytes above ASCII may be a name */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_taken_as_it_is_but_for_its_scheme),
        cmocka_unit_test(a_service_names_its_cluster_or_its_uri),
        cmocka_unit_test(credentials_of_the_guest_are_noticed),
        cmocka_unit_test(timeouts_are_whole_milliseconds_within_bounds),
        cmocka_unit_test(metadata_is_bounded),
        cmocka_unit_test(what_is_neither_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
