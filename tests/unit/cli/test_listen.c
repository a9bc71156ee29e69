#include "listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmocka_all.h"

static listens_t l;
static sl_err_t err;

static void the_default_of_kong_is_two_addresses_with_their_flags(void **state) {
    (void)state;
    assert_int_equal(listens_parse("0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384", "X", &l, &err),
                     SL_OK);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.at[0].address, "0.0.0.0:8000");
    assert_string_equal(l.at[0].flags, " reuseport backlog=16384");
    assert_false(l.at[0].ssl);
    assert_string_equal(l.at[1].flags, " http2 ssl reuseport backlog=16384");
    assert_true(l.at[1].ssl && l.at[1].http2);
}

static void off_means_no_listener(void **state) {
    (void)state;
    assert_int_equal(listens_parse("off", "X", &l, &err), SL_OK);
    assert_int_equal(l.n, 0);
}

static void ipv6_and_unix_addresses_are_taken(void **state) {
    (void)state;
    assert_int_equal(listens_parse("[::1]:8001, unix:/run/sluice.sock", "X", &l, &err), SL_OK);
    assert_string_equal(l.at[0].address, "[::1]:8001");
    assert_string_equal(l.at[1].address, "unix:/run/sluice.sock");
}

static void a_wrong_address_is_refused_with_its_origin(void **state) {
    (void)state;
    static const char *const bad[] = {
        "8000", "localhost:8000", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:", "1.2.3:80", "[::1:80", "127.0.0.1:80,", ",127.0.0.1:80",
        "",     "127.0.0.1:80;x", "unix:x",          "unix:/a;b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(listens_parse(bad[i], "SLUICE_PROXY_LISTEN", &l, &err), SL_INVALID);
        assert_non_null(strstr(err.text, "SLUICE_PROXY_LISTEN"));
    }
}

static void an_unknown_flag_is_refused_by_name(void **state) {
    (void)state;
    assert_int_equal(listens_parse("127.0.0.1:80 ssl bogus", "X", &l, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "'bogus'"));
    assert_int_equal(listens_parse("127.0.0.1:80 backlog=1;x", "X", &l, &err), SL_INVALID);
}

static void an_address_may_be_there_once_only(void **state) {
    (void)state;
    static const listens_t none;
    listens_t proxy;
    assert_int_equal(listens_parse("127.0.0.1:80, 127.0.0.1:81", "X", &proxy, &err), SL_OK);
    assert_int_equal(listens_distinct(&proxy, "X", &none, "admin_listen", &err), SL_OK);
    assert_int_equal(listens_parse("127.0.0.1:82, 127.0.0.1:81 ssl", "SLUICE_ADMIN_LISTEN", &l, &err), SL_OK);
    assert_int_equal(listens_distinct(&l, "SLUICE_ADMIN_LISTEN", &proxy, "proxy_listen", &err), SL_INVALID);
    assert_non_null(strstr(err.text, "SLUICE_ADMIN_LISTEN: 127.0.0.1:81 is already in proxy_listen"));
    assert_int_equal(listens_parse("127.0.0.1:80, 127.0.0.1:80", "X", &l, &err), SL_OK);
    assert_int_equal(listens_distinct(&l, "X", &none, "admin_listen", &err), SL_INVALID);
    assert_non_null(strstr(err.text, "127.0.0.1:80 is there twice"));
}

static void a_busy_port_is_found_and_the_variable_named(void **state) {
    (void)state;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    getsockname(fd, (struct sockaddr *)&sa, &len);
    char value[64];
    snprintf(value, sizeof(value), "127.0.0.1:%d", ntohs(sa.sin_port));
    assert_int_equal(listens_parse(value, "X", &l, &err), SL_OK);
    assert_int_equal(listens_probe(&l, "ADMIN_LISTEN", NULL, "/none", &err), SL_CONFLICT);
    assert_non_null(strstr(err.text, "SLUICE_ADMIN_LISTEN"));
    close(fd);
    assert_int_equal(listens_probe(&l, "ADMIN_LISTEN", NULL, "/none", &err), SL_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_of_kong_is_two_addresses_with_their_flags),
        cmocka_unit_test(off_means_no_listener),
        cmocka_unit_test(ipv6_and_unix_addresses_are_taken),
        cmocka_unit_test(a_wrong_address_is_refused_with_its_origin),
        cmocka_unit_test(an_unknown_flag_is_refused_by_name),
        cmocka_unit_test(an_address_may_be_there_once_only),
        cmocka_unit_test(a_busy_port_is_found_and_the_variable_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
