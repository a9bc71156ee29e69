#include "gw_plan.h"

#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "plan_fixture.h"
#include "gw_router.h"
#include "router_cases.h"

enum { COMPATIBLE = 0, TRADITIONAL = 1 };

/* Opens a plan of these routes, asks one question, closes it. */
static void expect(int flavor, const char *routes, const char *host, const char *path, const char *want) {
    char entities[4096];
    snprintf(entities, sizeof(entities), "{'routes': {%s}}", routes);
    fixture_t f;
    fixture_open(&f, entities, flavor == TRADITIONAL);
    const char *got = fixture_get(&f, host, path);
    if (strcmp(got, want) != 0) {
        fail_msg("%s, host '%s', path '%s': expected '%s', got '%s'", routes, host, path, want, got);
    }
    fixture_close(&f);
}

static void expect_both(const char *routes, const char *host, const char *path, const char *want) {
    expect(COMPATIBLE, routes, host, path, want);
    expect(TRADITIONAL, routes, host, path, want);
}

/* ---- what matches ---------------------------------------------------------------------------------------------------------- */

static void a_plain_path_matches_by_characters(void **state) {
    (void)state;
    const char *routes = "'r': {'paths': ['/abc']}";
    expect_both(routes, "h", "/abc", "r");
    expect_both(routes, "h", "/abcd", "r");
    expect_both(routes, "h", "/abc/d?x", "r");
    expect_both(routes, "h", "/ab", "");
    expect_both(routes, "h", "/ABC", "");
    expect_both(routes, "h", "/x/abc", "");
}

static void the_path_is_matched_in_its_normal_form(void **state) {
    (void)state;
    const char *routes = "'r': {'paths': ['/a/b']}";
    expect_both(routes, "h", "/a/./x/../b", "r");
    expect_both(routes, "h", "//a//b", "r");
    expect_both(routes, "h", "/%61/%62", "r");
    expect_both(routes, "h", "/a%2Fb", "");
    expect_both(routes, "h", "/a/b/../c", "");
    expect_both(routes, "h", "http://other/a/b", "r");
}

static void a_regex_path_is_anchored_at_the_start_only(void **state) {
    (void)state;
    const char *routes = "'r': {'paths': ['~/v\\\\d+/x']}";
    expect_both(routes, "h", "/v12/x", "r");
    expect_both(routes, "h", "/v12/xyz", "r");
    expect_both(routes, "h", "/a/v12/x", "");
    expect_both(routes, "h", "/v/x", "");
}

static void an_alternative_of_a_regex_may_begin_otherwise(void **state) {
    (void)state;
    const char *routes = "'r': {'paths': ['~/aaa|/bbb']}";
    expect_both(routes, "h", "/aaa", "r");
    expect_both(routes, "h", "/bbb", "r");
    expect_both(routes, "h", "/x/bbb", "");
}

static void any_path_of_a_route_will_do(void **state) {
    (void)state;
    const char *routes = "'r': {'paths': ['/a', '/b', '~/c\\\\d', '/long/one']}";
    expect_both(routes, "h", "/a", "r");
    expect_both(routes, "h", "/b", "r");
    expect_both(routes, "h", "/c1", "r");
    expect_both(routes, "h", "/long/one", "r");
    expect_both(routes, "h", "/c", "");
}

static void the_method_is_compared_exactly(void **state) {
    (void)state;
    const char *other = "'r': {'methods': ['POST', 'PUT'], 'paths': ['/']}";
    expect_both(other, "h", "/", "");
    expect_both("'r': {'methods': ['get']}", "h", "/", "");
    expect_both("'r': {'methods': ['POST', 'GET']}", "h", "/", "r");
}

static void a_plain_host_is_compared_case_sensitively_as_sent(void **state) {
    (void)state;
    const char *routes = "'r': {'hosts': ['a.test']}";
    expect_both(routes, "a.test", "/", "r");
    expect_both(routes, "A.test", "/", "");
    expect_both(routes, "b.a.test", "/", "");
    expect_both(routes, "a.tes", "/", "");
    expect_both(routes, "", "/", "");
}

static void a_leading_wildcard_stands_for_one_character_or_more_at_any_depth(void **state) {
    (void)state;
    const char *routes = "'r': {'hosts': ['*.a.test']}";
    expect_both(routes, "x.a.test", "/", "r");
    expect_both(routes, "y.x.a.test", "/", "r");
    expect_both(routes, "a.test", "/", "");
    expect_both(routes, ".a.test", "/", "");
    expect_both(routes, "xa.test", "/", "");
    expect_both(routes, "x.a.test.com", "/", "");
}

static void a_trailing_wildcard_stands_for_one_character_or_more(void **state) {
    (void)state;
    const char *routes = "'r': {'hosts': ['a.*']}";
    expect_both(routes, "a.test", "/", "r");
    expect_both(routes, "a.b.test", "/", "r");
    expect_both(routes, "a.", "/", "");
    expect_both(routes, "a", "/", "");
    expect_both(routes, "x.a.test", "/", "");
}

static void several_wildcards_may_fit_and_the_precedence_decides(void **state) {
    (void)state;
    const char *routes = "'a': {'hosts': ['*.test'], 'created_at': 1}, 'b': {'hosts': ['*.a.test'], 'created_at': 2}, 'c': {'hosts': "
                         "['x.*'], 'created_at': 3}";
    expect_both(routes, "x.a.test", "/", "a");
    expect_both(routes, "x.a.other", "/", "c");
}

static void a_host_without_port_matches_any_port(void **state) {
    (void)state;
    expect_both("'r': {'hosts': ['a.test']}", "a.test:1234", "/", "r");
    expect_both("'r': {'hosts': ['*.test']}", "a.test:1234", "/", "r");
    expect_both("'r': {'hosts': ['[::1]']}", "[::1]:80", "/", "r");
}

static void a_host_with_port_needs_that_port(void **state) {
    (void)state;
    const char *routes = "'r': {'hosts': ['a.test:8443', '*.b.test:81', '[::1]:82']}";
    expect_both(routes, "a.test:8443", "/", "r");
    expect_both(routes, "a.test:8444", "/", "");
    expect_both(routes, "a.test", "/", "");
    expect_both(routes, "x.b.test:81", "/", "r");
    expect_both(routes, "x.b.test:80", "/", "");
    expect_both(routes, "[::1]:82", "/", "r");
    expect_both(routes, "[::1]", "/", "");
}

static void without_a_port_in_the_request_the_flavors_differ(void **state) {
    (void)state;
    /* The fixture's requests come in on port 8000, without TLS. */
    expect(TRADITIONAL, "'r': {'hosts': ['a.test:80']}", "a.test", "/", "r");
    expect(TRADITIONAL, "'r': {'hosts': ['a.test:8000']}", "a.test", "/", "");
    expect(COMPATIBLE, "'r': {'hosts': ['a.test:8000']}", "a.test", "/", "r");
    expect(COMPATIBLE, "'r': {'hosts': ['a.test:80']}", "a.test", "/", "");
}

static void a_port_that_is_none_stays_part_of_the_name(void **state) {
    (void)state;
    uint32_t port;
    static const struct {
        const char *host, *name;
        uint32_t port;
    } cases[] = {{"a:80", "a", 80},
                 {"a", "a", 0},
                 {"a:", "a", 0},
                 {"a:x", "a:x", 0},
                 {"a:65536", "a:65536", 0},
                 {"::1", "::1", 0},
                 {"[::1]", "[::1]", 0},
                 {"[::1]:8", "[::1]", 8},
                 {"[::1", "[::1", 0},
                 {":80", "", 80},
                 {"a:65535", "a", 65535},
                 {"", "", 0},
                 {"a:99999999999", "a:99999999999", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_str(gw_router_host_split(sl_cstr(cases[i].host), &port), cases[i].name);
        assert_int_equal(port, cases[i].port);
    }
}

static void check_headers(const char *route_headers, const char *const *sent, const char *want) {
    for (int flavor = COMPATIBLE; flavor <= TRADITIONAL; flavor++) {
        char entities[1024];
        snprintf(entities, sizeof(entities), "{'routes': {'r': {'headers': {%s}}}}", route_headers);
        fixture_t f;
        fixture_open(&f, entities, flavor == TRADITIONAL);
        assert_string_equal(fixture_get_with(&f, "/", sent), want);
        fixture_close(&f);
    }
}

#define HEADERS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void header_names_and_values_are_compared_without_case(void **state) {
    (void)state;
    check_headers("'X-Env': ['Live']", HEADERS("x-env", "LIVE"), "r");
    check_headers("'X-Env': ['Live']", HEADERS("x-env", "test"), "");
    check_headers("'X-Env': ['Live']", HEADERS("x-other", "live"), "");
}

static void any_value_of_a_repeated_header_will_do(void **state) {
    (void)state;
    check_headers("'x-a': ['one', 'two']", HEADERS("x-a", "zero", "x-a", "two"), "r");
    check_headers("'x-a': ['one', 'two']", HEADERS("x-a", "zero", "x-a", "three"), "");
}

static void all_headers_of_a_route_must_match(void **state) {
    (void)state;
    check_headers("'x-a': ['1'], 'x-b': ['2']", HEADERS("x-a", "1", "x-b", "2"), "r");
    check_headers("'x-a': ['1'], 'x-b': ['2']", HEADERS("x-a", "1"), "");
}

static void a_single_header_value_may_be_a_regex_on_the_lower_case_value(void **state) {
    (void)state;
    check_headers("'x-a': ['~*^v[0-9]+$']", HEADERS("x-a", "V12"), "r");
    check_headers("'x-a': ['~*^v[0-9]+$']", HEADERS("x-a", "V12x"), "");
    check_headers("'x-a': ['~*middle']", HEADERS("x-a", "In The MIDDLE of"), "r");
    check_headers("'x-a': ['~*^V']", HEADERS("x-a", "V1"), "");
}

static void of_several_header_values_none_is_a_regex(void **state) {
    (void)state;
    check_headers("'x-a': ['~*a.c', 'x']", HEADERS("x-a", "abc"), "");
    check_headers("'x-a': ['~*a.c', 'x']", HEADERS("x-a", "~*A.C"), "r");
}

static void an_empty_list_of_header_values_matches_nothing(void **state) {
    (void)state;
    check_headers("'x-a': []", HEADERS("x-a", ""), "");
}

static const char *get_tls(fixture_t *f, bool https, const char *sni) {
    gw_match_in_t in = {.method = SL_STR("GET"), .host = SL_STR("h"), .path = SL_STR("/"), .https = https, .sni = sl_cstr(sni)};
    return fixture_match_in(f, &in);
}

static void an_sni_is_compared_exactly_and_only_with_tls(void **state) {
    (void)state;
    for (int flavor = COMPATIBLE; flavor <= TRADITIONAL; flavor++) {
        fixture_t f;
        fixture_open(&f, "{'routes': {'r': {'snis': ['a.test', 'b.test']}}}", flavor == TRADITIONAL);
        assert_string_equal(get_tls(&f, true, "b.test"), "r");
        assert_string_equal(get_tls(&f, true, "x.b.test"), "");
        assert_string_equal(get_tls(&f, true, NULL), "");
        assert_string_equal(get_tls(&f, false, NULL), "r");
        fixture_close(&f);
    }
}

static void wildcard_snis_exist_only_outside_the_traditional_flavor(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, "{'routes': {'r': {'snis': ['*.a.test', 'b.*']}}}", false);
    assert_string_equal(get_tls(&f, true, "x.a.test"), "r");
    assert_string_equal(get_tls(&f, true, "b.test"), "r");
    assert_string_equal(get_tls(&f, true, "a.test"), "");
    assert_string_equal(get_tls(&f, true, "b."), "");
    fixture_close(&f);
    fixture_open(&f, "{'routes': {'r': {'snis': ['*.a.test', 'b.*']}}}", true);
    assert_string_equal(get_tls(&f, true, "x.a.test"), "");
    fixture_close(&f);
}

static void protocols_are_not_part_of_the_match(void **state) {
    (void)state;
    expect_both("'r': {'paths': ['/'], 'protocols': ['https']}", "h", "/", "r");
    expect_both("'r': {'paths': ['/'], 'protocols': ['grpcs']}", "h", "/", "r");
}

static void routes_of_other_transports_do_not_serve_http(void **state) {
    (void)state;
    expect_both("'r': {'snis': ['a'], 'protocols': ['tls']}", "h", "/", "");
    expect_both("'r': {'sources': [{'port': 1}], 'protocols': ['tcp', 'udp']}", "h", "/", "");
}

static void without_routes_nothing_matches(void **state) {
    (void)state;
    expect_both("", "h", "/", "");
}

/* ---- precedence -------------------------------------------------------------------------------------------------------------- */

static void more_kinds_of_attributes_win(void **state) {
    (void)state;
    expect_both("'a': {'paths': ['/api/v1/long']}, 'b': {'hosts': ['h'], 'paths': ['/']}", "h", "/api/v1/long", "b");
    expect_both("'a': {'hosts': ['h']}, 'b': {'methods': ['GET'], 'paths': ['/']}", "h", "/", "b");
    expect_both("'a': {'paths': ['~/a/b'], 'regex_priority': 100}, 'b': {'methods': ['GET'], 'paths': ['/']}", "h", "/a/b", "b");
}

static void a_longer_path_does_not_beat_a_host_with_a_path(void **state) {
    (void)state;
    const char *routes = "'a': {'paths': ['/a/b/c']}, 'b': {'hosts': ['h'], 'paths': ['/a']}";
    expect_both(routes, "h", "/a/b/c", "b");
    expect_both(routes, "x", "/a/b/c", "a");
}

static void a_category_without_a_match_gives_way_to_the_next(void **state) {
    (void)state;
    expect_both("'a': {'paths': ['/']}, 'b': {'methods': ['POST'], 'paths': ['/a']}", "h", "/a", "a");
}

static void traditional_ties_of_kinds_go_by_their_weight(void **state) {
    (void)state;
    /* hosts > headers > paths > methods > snis */
    const char *const sent[] = {"x-a", "1", NULL};
    static const struct {
        const char *routes, *want;
    } cases[] = {{"'b': {'hosts': ['h.test']}, 'a': {'headers': {'x-a': ['1']}}", "b"},
                 {"'b': {'headers': {'x-a': ['1']}}, 'a': {'paths': ['/']}", "b"},
                 {"'b': {'paths': ['/']}, 'a': {'methods': ['GET']}", "b"},
                 {"'b': {'methods': ['GET']}, 'a': {'snis': ['x']}", "b"},
                 {"'b': {'hosts': ['h.test'], 'snis': ['x']}, 'a': {'headers': {'x-a': ['1']}, 'paths': ['/']}", "b"},
                 {"'b': {'hosts': ['h.test'], 'methods': ['GET']}, 'a': {'hosts': ['h.test'], 'snis': ['x']}", "b"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char entities[512];
        snprintf(entities, sizeof(entities), "{'routes': {%s}}", cases[i].routes);
        fixture_t f;
        fixture_open(&f, entities, true);
        assert_string_equal(fixture_get_with(&f, "/", sent), cases[i].want);
        fixture_close(&f);
    }
}

static void compatible_ties_of_kinds_go_by_the_rest_of_the_priority(void **state) {
    (void)state;
    expect(COMPATIBLE, "'a': {'paths': ['/a']}, 'b': {'hosts': ['h']}", "h", "/a", "b");
    expect(COMPATIBLE, "'a': {'hosts': ['h.*']}, 'b': {'paths': ['/a']}", "h.x", "/a", "b");
    expect(COMPATIBLE, "'b': {'methods': ['GET']}, 'a': {'paths': ['/a']}", "h", "/a", "a");
}

static void plain_hosts_beat_wildcards(void **state) {
    (void)state;
    expect_both("'a': {'hosts': ['*.a.test'], 'created_at': 1}, 'b': {'hosts': ['x.a.test'], 'created_at': 2}", "x.a.test", "/", "b");
    /* one wildcard among plain hosts and the route counts as wildcard */
    expect_both("'a': {'hosts': ['x.a.test', '*.b'], 'created_at': 1}, 'b': {'hosts': ['x.a.test'], 'created_at': 2}", "x.a.test", "/",
                "b");
}

static void traditional_prefers_a_wildcard_host_with_port_to_all_others(void **state) {
    (void)state;
    const char *routes = "'a': {'hosts': ['x.a.test'], 'created_at': 1}, 'b': {'hosts': ['*.a.test:80'], 'created_at': 2}";
    expect(TRADITIONAL, routes, "x.a.test:80", "/", "b");
    expect(COMPATIBLE, routes, "x.a.test:80", "/", "a");
}

static void traditional_prefers_plain_hosts_to_regex_paths(void **state) {
    (void)state;
    const char *routes = "'a': {'hosts': ['*.test'], 'paths': ['~/a']}, 'b': {'hosts': ['h.test'], 'paths': ['/']}";
    expect_both(routes, "h.test", "/a", "b");
}

static void more_headers_win(void **state) {
    (void)state;
    const char *const sent[] = {"x-a", "1", "x-b", "2", NULL};
    for (int flavor = COMPATIBLE; flavor <= TRADITIONAL; flavor++) {
        fixture_t f;
        fixture_open(&f,
                     "{'routes': {'a': {'headers': {'x-a': ['1']}, 'paths': ['/a']}, 'b': {'headers': {'x-a': ['1'], 'x-b': ['2']}, "
                     "'paths': ['/']}}}",
                     flavor == TRADITIONAL);
        assert_string_equal(fixture_get_with(&f, "/a", sent), "b");
        fixture_close(&f);
    }
}

static void headers_and_regex_paths_are_ranked_differently(void **state) {
    (void)state;
    const char *const sent[] = {"x-a", "1", "x-b", "2", NULL};
    const char *routes =
        "{'routes': {'a': {'headers': {'x-a': ['1']}, 'paths': ['~/a']}, 'b': {'headers': {'x-a': ['1'], 'x-b': ['2']}, 'paths': ['/']}}}";
    fixture_t f;
    fixture_open(&f, routes, true);
    assert_string_equal(fixture_get_with(&f, "/a", sent), "a");
    fixture_close(&f);
    fixture_open(&f, routes, false);
    assert_string_equal(fixture_get_with(&f, "/a", sent), "b");
    fixture_close(&f);
}

static void a_regex_beats_a_plain_path_of_any_length(void **state) {
    (void)state;
    expect_both("'a': {'paths': ['/a/very/long/path']}, 'b': {'paths': ['~/a']}", "h", "/a/very/long/path", "b");
}

static void the_higher_regex_priority_wins(void **state) {
    (void)state;
    expect_both("'a': {'paths': ['~/a'], 'created_at': 1}, 'b': {'paths': ['~/a'], 'regex_priority': 1, 'created_at': 2}", "h", "/a", "b");
    expect_both("'a': {'paths': ['~/a'], 'created_at': 2}, 'b': {'paths': ['~/a'], 'regex_priority': -1, 'created_at': 1}", "h", "/a", "a");
}

static void the_length_of_a_regex_counts_nothing(void **state) {
    (void)state;
    expect_both("'a': {'paths': ['~/a/b/c'], 'created_at': 2}, 'b': {'paths': ['~/a'], 'created_at': 1}", "h", "/a/b/c", "b");
}

static void regex_priority_counts_nothing_between_plain_paths(void **state) {
    (void)state;
    expect_both("'a': {'paths': ['/a/b']}, 'b': {'paths': ['/a'], 'regex_priority': 100}", "h", "/a/b", "a");
}

static void the_longer_plain_path_wins(void **state) {
    (void)state;
    const char *routes = "'a': {'paths': ['/']}, 'b': {'paths': ['/a/b']}, 'c': {'paths': ['/a']}";
    expect_both(routes, "h", "/a/b/c", "b");
    expect_both(routes, "h", "/a/c", "c");
    expect_both(routes, "h", "/c", "a");
}

static void each_path_of_a_route_counts_for_itself(void **state) {
    (void)state;
    const char *routes = "'a': {'paths': ['/a', '/long/and/longer']}, 'b': {'paths': ['/a/b']}";
    expect_both(routes, "h", "/a/b", "b");
    expect_both(routes, "h", "/long/and/longer", "a");
    expect_both("'a': {'paths': ['/a', '~/zzz']}, 'b': {'paths': ['/a/b']}", "h", "/a/b", "b");
}

static void of_equals_the_earlier_created_wins_then_the_smaller_id(void **state) {
    (void)state;
    expect_both("'a': {'paths': ['/a'], 'created_at': 2}, 'b': {'paths': ['/a'], 'created_at': 1}", "h", "/a", "b");
    expect_both("'b': {'paths': ['/a'], 'created_at': 1}, 'a': {'paths': ['/a'], 'created_at': 1}", "h", "/a", "a");
    expect_both("'a': {'hosts': ['h'], 'created_at': 2}, 'b': {'hosts': ['h'], 'created_at': 1}", "h", "/a", "b");
}

/* ---- the result -------------------------------------------------------------------------------------------------------------- */

static void check_result(const char *route, const char *service, const char *path, const char *prefix, const char *upstream) {
    char entities[1024];
    snprintf(entities, sizeof(entities), "{'services': {'s': {%s}}, 'routes': {'r': {'service': {'id': 's'}, %s}}}", service, route);
    fixture_t f;
    fixture_open(&f, entities, true);
    assert_string_equal(fixture_get(&f, "h", path), "r");
    if (prefix == NULL) {
        assert_null(f.match.matched_prefix.data);
    } else {
        assert_str(f.match.matched_prefix, prefix);
    }
    assert_str(f.match.upstream_path, upstream);
    fixture_close(&f);
}

static void the_matched_prefix_is_stripped_and_the_rest_joined_to_the_service(void **state) {
    (void)state;
    check_result("'paths': ['/a']", "'path': '/s'", "/a/b?q", "/a", "/s/b");
    check_result("'paths': ['/a'], 'strip_path': false", "'path': '/s'", "/a/b", "/a", "/s/a/b");
    check_result("'paths': ['/a']", "'path': null", "/a/b", "/a", "/b");
    check_result("'paths': ['/a'], 'path_handling': 'v1'", "'path': '/s'", "/ab", "/a", "/sb");
    check_result("'paths': ['~/a/\\\\d+']", "'path': '/s'", "/a/12/x", "/a/12", "/s/x");
    check_result("'hosts': ['h']", "'path': '/s'", "/a/b", NULL, "/s/a/b");
    check_result("'paths': ['/a']", "'path': '/s'", "/a/%20%2f%c3%a9", "/a", "/s/%20%2F%C3%A9");
    check_result("'paths': ['~']", "'path': '/s'", "/a", "", "/s/a");
}

static void grpc_routes_keep_the_path_unless_told_otherwise(void **state) {
    (void)state;
    check_result("'paths': ['/pkg.Svc'], 'protocols': ['grpc']", "'protocol': 'grpc'", "/pkg.Svc/Call", "/pkg.Svc", "/pkg.Svc/Call");
}

static void path_handling_v1_is_ignored_in_the_compatible_flavor(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f,
                 "{'services': {'s': {'path': '/s'}}, 'routes': {'r': {'service': {'id': 's'}, 'paths': ['/a'], 'path_handling': 'v1'}}}",
                 false);
    assert_string_equal(fixture_get(&f, "h", "/ab"), "r");
    assert_str(f.match.upstream_path, "/s/b");
    gw_route_t route;
    gw_plan_route(f.plan, f.match.route, &route);
    assert_false(route.path_v1);
    fixture_close(&f);
}

static void of_several_regexes_of_a_route_the_first_that_matches_is_stripped(void **state) {
    (void)state;
    check_result("'paths': ['~/x', '~/a/b', '~/a']", "'path': '/s'", "/a/b/c", "/a/b", "/s/c");
    check_result("'paths': ['~/x', '~/a', '~/a/b']", "'path': '/s'", "/a/b/c", "/a", "/s/b/c");
}

static void a_path_longer_than_the_ceiling_is_no_memory(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, "{'routes': {'r': {'paths': ['/']}}}", false);
    sl_buf_t small;
    sl_buf_init(&small, 8);
    gw_match_in_t in = {.method = SL_STR("GET"), .host = SL_STR("h"), .path = SL_STR("/a-longer-path")};
    assert_int_equal(gw_plan_match(f.plan, &in, &small, &f.match), SL_NO_MEMORY);
    in.path = SL_STR("/abcdefg"); /* fits once, but not twice */
    assert_int_equal(gw_plan_match(f.plan, &in, &small, &f.match), SL_NO_MEMORY);
    sl_buf_deinit(&small);
    fixture_close(&f);
}

static void a_regex_that_gives_up_fails_the_request_instead_of_choosing_another_route(void **state) {
    (void)state;
    fixture_t f;
    /* Without JIT, so that the limit counts the same on every machine. */
    fixture_open(&f, "{'routes': {'r': {'paths': ['~(*NO_JIT)/(a+)+$']}, 'other': {'paths': ['/']}}}", false);
    gw_match_in_t in = {
        .method = SL_STR("GET"), .host = SL_STR("h"), .path = SL_STR("/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab")};
    assert_int_equal(gw_plan_match(f.plan, &in, &f.scratch, &f.match), SL_FAILED);
    in.path = SL_STR("/aaaa");
    assert_string_equal(fixture_match_in(&f, &in), "r");
    in.path = SL_STR("/b");
    assert_string_equal(fixture_match_in(&f, &in), "other");
    fixture_close(&f);
}

static void once_warm_a_match_allocates_nothing(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, "{'routes': {'r': {'paths': ['~/a/\\\\d+'], 'hosts': ['*.test'], 'headers': {'x-a': ['~*1']}}}}", false);
    const char *const sent[] = {"x-a", "1", NULL};
    assert_string_equal(fixture_get_with(&f, "/a/1/b", sent), "r");
    fail_alloc_at(0);
    assert_string_equal(fixture_get_with(&f, "/a/2/b", sent), "r");
    assert_int_equal(fail_alloc_seen(), 0);
    fixture_close(&f);
}

static void a_match_survives_every_failed_allocation(void **state) {
    (void)state;
    unsigned n = 1;
    for (sl_status_t rc = SL_NO_MEMORY; rc != SL_OK; n++) {
        fixture_t f;
        fixture_open(&f, "{'routes': {'r': {'paths': ['~/a'], 'headers': {'x-a': ['~*1']}}}}", false);
        const char *const sent[] = {"x-a", "1", NULL};
        gw_match_in_t in = {.method = SL_STR("GET"), .path = SL_STR("/a"), .header = fixture_header, .ud = (void *)(uintptr_t)sent};
        fail_alloc_at(n);
        rc = gw_plan_match(f.plan, &in, &f.scratch, &f.match);
        fail_alloc_at(0);
        assert_true(rc == SL_OK || rc == SL_NO_MEMORY);
        fixture_close(&f);
        assert_true(n < 100);
    }
    assert_true(n > 3);
}

/* ---- long lists ---------------------------------------------------------------------------------------------------------------- */

/* Many routes on one path that only differ in `format`, which gets the number. */
static json_t *many_routes(unsigned n, const char *format) {
    json_t *routes = json_object();
    for (unsigned i = 0; i < n; i++) {
        char id[16], text[256];
        snprintf(id, sizeof(id), "r%03u", i);
        snprintf(text, sizeof(text), format, i, i);
        json_object_set_new(routes, id, fixture_json(text));
    }
    return json_pack("{s:o}", "routes", routes);
}

static void open_many(fixture_t *f, unsigned n, const char *format) {
    *f = (fixture_t){.entities = many_routes(n, format)};
    sl_buf_init(&f->image, SIZE_MAX);
    sl_buf_init(&f->scratch, 65536);
    assert_int_equal(gw_plan_build(f->entities, &(gw_plan_conf_t){0}, &f->image, NULL), SL_OK);
    assert_int_equal(gw_plan_open(sl_buf_str(&f->image), &f->plan, NULL), SL_OK);
}

static unsigned calls;

static sl_str_t counting_header(void *ud, sl_str_t name, size_t i) {
    calls++;
    return fixture_header(ud, name, i);
}

static void many_routes_that_differ_in_a_header_are_not_tried_one_by_one(void **state) {
    (void)state;
    fixture_t f;
    open_many(&f, 500, "{'paths': ['/'], 'headers': {'x-stage': ['live'], 'X-Tenant': ['T%u', 'other-%u']}}");
    const char *const sent[] = {"x-stage", "live", "x-tenant", "t321", NULL};
    gw_match_in_t in = {.method = SL_STR("GET"), .path = SL_STR("/"), .header = counting_header, .ud = (void *)(uintptr_t)sent};
    calls = 0;
    assert_string_equal(fixture_match_in(&f, &in), "r321");
    assert_true(calls < 10);
    const char *const unknown[] = {"x-stage", "live", "x-tenant", "t500", NULL};
    in.ud = (void *)(uintptr_t)unknown;
    assert_string_equal(fixture_match_in(&f, &in), "");
    in.header = NULL;
    assert_string_equal(fixture_match_in(&f, &in), "");
    fixture_close(&f);
}

static void many_routes_that_differ_in_an_sni_are_found_with_and_without_tls(void **state) {
    (void)state;
    fixture_t f;
    open_many(&f, 100, "{'paths': ['/'], 'snis': ['s%u.test', 't%u.test']}");
    assert_string_equal(get_tls(&f, true, "t77.test"), "r077");
    assert_string_equal(get_tls(&f, true, "t100.test"), "");
    assert_string_equal(get_tls(&f, true, NULL), "");
    assert_string_equal(get_tls(&f, false, NULL), "r000");
    fixture_close(&f);
}

/* ---- refusals -------------------------------------------------------------------------------------------------------------------- */

static void refused(const char *routes, const char *because) {
    char entities[1024];
    sl_err_t err = {""};
    snprintf(entities, sizeof(entities), "{'routes': {%s}}", routes);
    assert_int_equal(fixture_try(entities, false, &err), SL_INVALID);
    if (strstr(err.text, because) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, because);
    }
}

static void a_regex_that_does_not_compile_is_refused_with_its_route(void **state) {
    (void)state;
    refused("'my-route': {'paths': ['~/a(']}", "route 'my-route': invalid regex '/a('");
    refused("'my-route': {'headers': {'x': ['~*[']}}", "route 'my-route': invalid regex '['");
}

static void a_route_without_anything_to_match_is_refused(void **state) {
    (void)state;
    refused("'my-route': {'hosts': [], 'paths': null}", "route 'my-route': none of");
}

static void an_empty_path_is_refused(void **state) {
    (void)state;
    refused("'my-route': {'paths': ['/', '']}", "route 'my-route': empty path");
}

/* ---- random routers against the linear scan -------------------------------------------------------------------------------- */

static void compare_one(uint64_t seed, bool traditional, unsigned max_routes) {
    choices_t c = {.seed = seed};
    json_t *entities = case_entities(&c, max_routes, traditional);
    gw_plan_conf_t conf = {.traditional = traditional};
    sl_buf_t image, scratch;
    sl_buf_init(&image, SIZE_MAX);
    sl_buf_init(&scratch, 65536);
    sl_err_t err = {""};
    gw_plan_t *plan = NULL;
    if (gw_plan_build(entities, &conf, &image, &err) != SL_OK || gw_plan_open(sl_buf_str(&image), &plan, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    naive_t nv;
    naive_init(&nv, entities, traditional);
    for (int i = 0; i < 60; i++) {
        case_request_t r;
        case_request(&c, &r);
        assert_true(case_agrees(plan, &nv, entities, &r, &scratch));
    }
    naive_deinit(&nv);
    gw_plan_close(plan);
    sl_buf_deinit(&image);
    sl_buf_deinit(&scratch);
    json_decref(entities);
}

static void every_match_equals_the_linear_scan(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        compare_one(seed * 0x9e3779b97f4a7c15u, seed % 2 == 0, 12);
    }
}

static void every_match_in_a_crowded_router_equals_the_linear_scan(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        compare_one(seed * 0xd1342543de82ef95u, seed % 2 == 0, 250);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_path_matches_by_characters),
        cmocka_unit_test(the_path_is_matched_in_its_normal_form),
        cmocka_unit_test(a_regex_path_is_anchored_at_the_start_only),
        cmocka_unit_test(an_alternative_of_a_regex_may_begin_otherwise),
        cmocka_unit_test(any_path_of_a_route_will_do),
        cmocka_unit_test(the_method_is_compared_exactly),
        cmocka_unit_test(a_plain_host_is_compared_case_sensitively_as_sent),
        cmocka_unit_test(a_leading_wildcard_stands_for_one_character_or_more_at_any_depth),
        cmocka_unit_test(a_trailing_wildcard_stands_for_one_character_or_more),
        cmocka_unit_test(several_wildcards_may_fit_and_the_precedence_decides),
        cmocka_unit_test(a_host_without_port_matches_any_port),
        cmocka_unit_test(a_host_with_port_needs_that_port),
        cmocka_unit_test(without_a_port_in_the_request_the_flavors_differ),
        cmocka_unit_test(a_port_that_is_none_stays_part_of_the_name),
        cmocka_unit_test(header_names_and_values_are_compared_without_case),
        cmocka_unit_test(any_value_of_a_repeated_header_will_do),
        cmocka_unit_test(all_headers_of_a_route_must_match),
        cmocka_unit_test(a_single_header_value_may_be_a_regex_on_the_lower_case_value),
        cmocka_unit_test(of_several_header_values_none_is_a_regex),
        cmocka_unit_test(an_empty_list_of_header_values_matches_nothing),
        cmocka_unit_test(an_sni_is_compared_exactly_and_only_with_tls),
        cmocka_unit_test(wildcard_snis_exist_only_outside_the_traditional_flavor),
        cmocka_unit_test(protocols_are_not_part_of_the_match),
        cmocka_unit_test(routes_of_other_transports_do_not_serve_http),
        cmocka_unit_test(without_routes_nothing_matches),
        cmocka_unit_test(more_kinds_of_attributes_win),
        cmocka_unit_test(a_longer_path_does_not_beat_a_host_with_a_path),
        cmocka_unit_test(a_category_without_a_match_gives_way_to_the_next),
        cmocka_unit_test(traditional_ties_of_kinds_go_by_their_weight),
        cmocka_unit_test(compatible_ties_of_kinds_go_by_the_rest_of_the_priority),
        cmocka_unit_test(plain_hosts_beat_wildcards),
        cmocka_unit_test(traditional_prefers_a_wildcard_host_with_port_to_all_others),
        cmocka_unit_test(traditional_prefers_plain_hosts_to_regex_paths),
        cmocka_unit_test(more_headers_win),
        cmocka_unit_test(headers_and_regex_paths_are_ranked_differently),
        cmocka_unit_test(a_regex_beats_a_plain_path_of_any_length),
        cmocka_unit_test(the_higher_regex_priority_wins),
        cmocka_unit_test(the_length_of_a_regex_counts_nothing),
        cmocka_unit_test(regex_priority_counts_nothing_between_plain_paths),
        cmocka_unit_test(the_longer_plain_path_wins),
        cmocka_unit_test(each_path_of_a_route_counts_for_itself),
        cmocka_unit_test(of_equals_the_earlier_created_wins_then_the_smaller_id),
        cmocka_unit_test(the_matched_prefix_is_stripped_and_the_rest_joined_to_the_service),
        cmocka_unit_test(grpc_routes_keep_the_path_unless_told_otherwise),
        cmocka_unit_test(path_handling_v1_is_ignored_in_the_compatible_flavor),
        cmocka_unit_test(of_several_regexes_of_a_route_the_first_that_matches_is_stripped),
        cmocka_unit_test(a_path_longer_than_the_ceiling_is_no_memory),
        cmocka_unit_test(a_regex_that_gives_up_fails_the_request_instead_of_choosing_another_route),
        cmocka_unit_test(once_warm_a_match_allocates_nothing),
        cmocka_unit_test(a_match_survives_every_failed_allocation),
        cmocka_unit_test(many_routes_that_differ_in_a_header_are_not_tried_one_by_one),
        cmocka_unit_test(many_routes_that_differ_in_an_sni_are_found_with_and_without_tls),
        cmocka_unit_test(a_regex_that_does_not_compile_is_refused_with_its_route),
        cmocka_unit_test(a_route_without_anything_to_match_is_refused),
        cmocka_unit_test(an_empty_path_is_refused),
        cmocka_unit_test(every_match_equals_the_linear_scan),
        cmocka_unit_test(every_match_in_a_crowded_router_equals_the_linear_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
