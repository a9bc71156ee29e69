#include "gw_plan.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "plan_damage.h"
#include "plan_fixture.h"
#include "sl_file.h"

/* A little of everything. */
static const char rich[] =
    "{'services': {'aaaaaaaa-0000-4000-8000-00000000000a': {'name': 'svc', 'host': 'up.test', 'port': 9000, 'path': '/base', 'protocol': "
    "'https',"
    "   'retries': 2, 'connect_timeout': 1, 'write_timeout': 2, 'read_timeout': 3, 'enabled': true, 'tls_verify': false},"
    "  's2': {'name': null, 'host': 'two.test', 'enabled': false}},"
    " 'routes': {'r1': {'name': 'one', 'paths': ['/a', '~/a/\\\\d+', '/'], 'service': {'id': 'aaaaaaaa-0000-4000-8000-00000000000a'}, "
    "'created_at': 5},"
    "  'r2': {'name': 'two', 'hosts': ['a.test', '*.a.test', 'a.*', 'b.a.test:80'], 'headers': {'x-a': ['one', 'three'], 'x-b': ['~*t.o']},"
    "   'methods': ['GET'], 'strip_path': false, 'preserve_host': true, 'request_buffering': false, 'response_buffering': false,"
    "   'https_redirect_status_code': 301, 'protocols': ['https'], 'path_handling': 'v1'},"
    "  'r3': {'snis': ['a.test'], 'service': {'id': 's2'}}},"
    " 'filter_chains': {'c1': {'name': 'first', 'service': {'id': 'aaaaaaaa-0000-4000-8000-00000000000a'}, 'route': null,"
    "   'filters': [{'name': 'f', 'config': 'text'}, {'name': 'g', 'enabled': false}]},"
    "  'c2': {'route': {'id': 'r1'}, 'filters': [{'name': 'f', 'config': {'b': [1, 2.5], 'a': null}}]}},"
    " 'consumers': {'k1': {'username': 'joe'}}}";

/* ---- chains -------------------------------------------------------------------------------------------------------------------- */

static const char chain_entities[] =
    "{'services': {'s1': {'host': 'h'}, 's2': {'host': 'h'}},"
    " 'routes': {'r1': {'paths': ['/1'], 'service': {'id': 's1'}}, 'r2': {'paths': ['/2'], 'service': {'id': 's1'}},"
    "            'r3': {'paths': ['/3'], 'service': {'id': 's2'}}, 'r4': {'paths': ['/4']}, 'r5': {'paths': ['/5'], 'service': {'id': "
    "'s1'}}},"
    " 'filter_chains': {%s}}";

/* The filters of a route as "name=config@chain[s|r] ..." */
static void check_chain(const char *chains, const char *route_id, const char *want) {
    char entities[4096], got[1024] = "";
    snprintf(entities, sizeof(entities), chain_entities, chains);
    fixture_t f;
    fixture_open(&f, entities, false);
    gw_route_t route = {.chain = -1};
    for (uint32_t i = 0; i < gw_plan_n_routes(f.plan); i++) {
        gw_plan_route(f.plan, i, &route);
        if (sl_str_eq(route.id, sl_cstr(route_id))) {
            break;
        }
    }
    for (size_t i = 0; route.chain >= 0 && i < gw_plan_chain(f.plan, (uint32_t)route.chain); i++) {
        gw_filter_t filter;
        gw_plan_chain_filter(f.plan, (uint32_t)route.chain, i, &filter);
        size_t at = strlen(got);
        snprintf(got + at, sizeof(got) - at, "%s%.*s=%.*s@%.*s[%s]", i ? " " : "", SL_FMT(filter.name), SL_FMT(filter.config),
                 SL_FMT(filter.chain_id), filter.from_service ? "s" : "r");
    }
    assert_string_equal(got, want);
    fixture_close(&f);
}

static void a_route_without_chain_runs_that_of_its_service(void **state) {
    (void)state;
    const char *chains = "'c': {'service': {'id': 's1'}, 'filters': [{'name': 'a'}, {'name': 'b'}, {'name': 'a', 'config': 'x'}]}";
    check_chain(chains, "r1", "a=@c[s] b=@c[s] a=x@c[s]");
    check_chain(chains, "r3", "");
    check_chain(chains, "r4", "");
}

static void a_chain_of_the_route_runs_after_that_of_the_service(void **state) {
    (void)state;
    const char *chains =
        "'c1': {'route': {'id': 'r1'}, 'filters': [{'name': 'r'}]}, 'c2': {'service': {'id': 's1'}, 'filters': [{'name': 's'}]}";
    check_chain(chains, "r1", "s=@c2[s] r=@c1[r]");
    check_chain(chains, "r2", "s=@c2[s]");
}

static void a_route_without_service_runs_its_own_chain(void **state) {
    (void)state;
    check_chain("'c1': {'route': {'id': 'r4'}, 'filters': [{'name': 'r'}]}", "r4", "r=@c1[r]");
}

static void disabled_filters_and_chains_do_not_run(void **state) {
    (void)state;
    const char *on = "'c1': {'route': {'id': 'r1'}, 'filters': [{'name': 'a', 'enabled': false}, {'name': 'b', 'enabled': true}]}";
    check_chain(on, "r1", "b=@c1[r]");
    const char *off = "'c1': {'route': {'id': 'r1'}, 'enabled': false, 'filters': [{'name': 'a'}]}, 'c2': {'service': {'id': 's1'}, "
                      "'filters': [{'name': 's'}]}";
    check_chain(off, "r1", "s=@c2[s]");
    const char *service_off = "'c1': {'route': {'id': 'r1'}, 'filters': [{'name': 'a'}]}, 'c2': {'service': {'id': 's1'}, 'enabled': "
                              "false, 'filters': [{'name': 's'}]}";
    check_chain(service_off, "r1", "a=@c1[r]");
    check_chain("'c1': {'route': {'id': 'r1'}, 'filters': [{'name': 'a', 'enabled': false}]}", "r1", "");
}

static void check_with_plugins(const char *chains, const char *plugins, const char *route_id, const char *want) {
    char text[2048];
    snprintf(text, sizeof(text), "%s}, 'plugins': {%s", chains, plugins);
    check_chain(text, route_id, want);
}

static void filters_configured_as_plugins_run_after_the_chain_of_their_owner(void **state) {
    (void)state;
    const char *chains =
        "'c1': {'service': {'id': 's1'}, 'filters': [{'name': 's'}]}, 'c2': {'route': {'id': 'r1'}, 'filters': [{'name': 'r'}]}";
    const char *plugins =
        "'p1': {'name': 'x', 'config': 'rx', 'route': {'id': 'r1'}}, 'p2': {'name': 'y', 'config': 'sy', 'service': {'id': 's1'}}";
    check_with_plugins(chains, plugins, "r1", "s=@c1[s] y=sy@c1[s] r=@c2[r] x=rx@c2[r]");
    check_with_plugins(chains, plugins, "r2", "s=@c1[s] y=sy@c1[s]");
}

static void a_plugin_needs_no_chain(void **state) {
    (void)state;
    check_with_plugins("", "'p1': {'name': 'x', 'route': {'id': 'r1'}, 'service': null, 'consumer': null}", "r1", "x=@p1[r]");
}

static void plugins_run_in_the_order_of_name_and_times(void **state) {
    (void)state;
    const char *plugins =
        "'p1': {'name': 'b', 'route': {'id': 'r1'}, 'updated_at': 2}, 'p2': {'name': 'b', 'route': {'id': 'r1'}, 'updated_at': 1},"
        "'p3': {'name': 'a', 'route': {'id': 'r1'}, 'updated_at': 3, 'created_at': 2},"
        "'p4': {'name': 'a', 'route': {'id': 'r1'}, 'updated_at': 3, 'created_at': 1}";
    check_with_plugins("", plugins, "r1", "a=@p4[r] a=@p3[r] b=@p2[r] b=@p1[r]");
}

static void disabled_and_global_plugins_and_those_of_consumers_do_not_run(void **state) {
    (void)state;
    check_with_plugins("",
                       "'p1': {'name': 'a', 'route': {'id': 'r1'}, 'enabled': false}, 'p2': {'name': 'b'},"
                       "'p3': {'name': 'c', 'route': {'id': 'r1'}, 'consumer': {'id': 'x'}}, 'p4': {'name': 'd', 'route': {'id': 'r1'}, "
                       "'service': {'id': 's1'}}",
                       "r1", "");
}

static void a_disabled_chain_takes_the_plugins_of_its_owner_with_it(void **state) {
    (void)state;
    check_with_plugins("'c1': {'route': {'id': 'r1'}, 'enabled': false, 'filters': [{'name': 'a'}]}",
                       "'p1': {'name': 'x', 'route': {'id': 'r1'}}", "r1", "");
}

static void routes_of_one_service_share_its_chain(void **state) {
    (void)state;
    char entities[4096];
    snprintf(entities, sizeof(entities), chain_entities,
             "'c1': {'service': {'id': 's1'}, 'filters': [{'name': 'a'}]}, 'c2': {'route': {'id': 'r5'}, 'filters': [{'name': 'b'}]}");
    fixture_t f;
    fixture_open(&f, entities, false);
    gw_route_t r1, r2, r5;
    gw_plan_route(f.plan, 0, &r1);
    gw_plan_route(f.plan, 1, &r2);
    gw_plan_route(f.plan, 4, &r5);
    assert_int_equal(r1.chain, r2.chain);
    assert_int_not_equal(r1.chain, r5.chain);
    assert_int_equal(gw_plan_n_chains(f.plan), 2);
    fixture_close(&f);
}

static void the_configuration_reaches_the_filter_as_bytes(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"'plain  text\\n'", "plain  text\n"},
                                           {"null", ""},
                                           {"''", ""},
                                           {"{'b': 1, 'a': [true, null, 'x/y']}", "{\"b\":1,\"a\":[true,null,\"x/y\"]}"},
                                           {"[]", "[]"},
                                           {"{}", "{}"},
                                           {"0.1", "0.1"},
                                           {"-7", "-7"},
                                           {"false", "false"},
                                           {"'{ }'", "{ }"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char chains[256], want[256];
        snprintf(chains, sizeof(chains), "'c1': {'route': {'id': 'r1'}, 'filters': [{'name': 'f', 'config': %s}]}", cases[i][0]);
        snprintf(want, sizeof(want), "f=%s@c1[r]", cases[i][1]);
        check_chain(chains, "r1", want);
    }
}

static void a_configuration_may_hold_nul_bytes(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f,
                 "{'routes': {'r': {'paths': ['/']}}, 'filter_chains': {'c': {'route': {'id': 'r'}, 'filters': [{'name': 'f', 'config': "
                 "'a\\u0000b'}]}}}",
                 false);
    gw_filter_t filter;
    gw_plan_chain_filter(f.plan, 0, 0, &filter);
    assert_int_equal(filter.config.len, 3);
    assert_memory_equal(filter.config.data, "a\0b", 3);
    fixture_close(&f);
}

static void read_key(const char *name, const char *config, uint8_t key[32]) {
    char entities[512];
    snprintf(
        entities, sizeof(entities),
        "{'services': {'s': {'host': 'h'}}, 'filter_chains': {'c': {'service': {'id': 's'}, 'filters': [{'name': '%s', 'config': %s}]}}}",
        name, config);
    fixture_t f;
    fixture_open(&f, entities, false);
    gw_filter_t filter;
    gw_plan_chain_filter(f.plan, 0, 0, &filter);
    memcpy(key, filter.key, 32);
    fixture_close(&f);
}

static void equal_keys_mean_equal_name_and_configuration(void **state) {
    (void)state;
    uint8_t a[32], b[32];
    read_key("f", "'x'", a);
    read_key("f", "'x'", b);
    assert_memory_equal(a, b, 32);
    read_key("f", "'y'", b);
    assert_memory_not_equal(a, b, 32);
    read_key("fx", "''", b);
    assert_memory_not_equal(a, b, 32);
    read_key("f", "'x', 'fail': 'open'", b);
    assert_memory_not_equal(a, b, 32);
    read_key("f", "'x', 'fail': null", b);
    assert_memory_equal(a, b, 32);
}

static void options_of_an_entry_read_back_as_lines(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(
        &f,
        "{'routes': {'r': {'paths': ['/']}}, 'filter_chains': {'c': {'route': {'id': 'r'}, 'filters': [{'name': 'f'}, {'name': 'f', "
        "'grants': ['a', 'b'], 'slice': true, 'memory_budget': '1m', 'cpu_budget_ms': 7}]}}}",
        false);
    gw_filter_t filter;
    gw_plan_chain_filter(f.plan, 0, 0, &filter);
    assert_int_equal(filter.options.len, 0);
    gw_plan_chain_filter(f.plan, 0, 1, &filter);
    assert_str(filter.options, "cpu_budget_ms=7\nmemory_budget=1048576\nslice=on\ngrants=a,b\n");
    fixture_close(&f);
}

/* ---- services and routes ------------------------------------------------------------------------------------------------------------ */

static void a_service_reads_back_as_it_was_given(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, true);
    gw_service_t s;
    gw_plan_service(f.plan, 0, &s);
    assert_str(s.id, "aaaaaaaa-0000-4000-8000-00000000000a");
    assert_str(s.name, "svc");
    assert_str(s.host, "up.test");
    assert_str(s.path, "/base");
    assert_int_equal(s.protocol, GW_HTTPS);
    assert_int_equal(s.port, 9000);
    assert_int_equal(s.retries, 2);
    assert_int_equal(s.connect_timeout_ms, 1);
    assert_int_equal(s.write_timeout_ms, 2);
    assert_int_equal(s.read_timeout_ms, 3);
    assert_true(s.enabled);
    assert_int_equal(s.tls_verify, 0);
    fixture_close(&f);
}

static void absent_fields_of_a_service_are_its_defaults(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, "{'services': {'s': {'host': 'h'}}}", true);
    gw_service_t s;
    gw_plan_service(f.plan, 0, &s);
    assert_null(s.name.data);
    assert_null(s.path.data);
    assert_int_equal(s.protocol, GW_HTTP);
    assert_int_equal(s.port, 80);
    assert_int_equal(s.retries, 5);
    assert_int_equal(s.read_timeout_ms, 60000);
    assert_true(s.enabled);
    assert_int_equal(s.tls_verify, -1);
    fixture_close(&f);
}

static void a_route_reads_back_as_it_was_given(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, true);
    gw_route_t r;
    gw_plan_route(f.plan, 1, &r);
    assert_str(r.id, "r2");
    assert_str(r.name, "two");
    assert_int_equal(r.protocols, GW_HTTPS);
    assert_int_equal(r.https_redirect_status, 301);
    assert_false(r.strip_path);
    assert_true(r.preserve_host);
    assert_false(r.request_buffering);
    assert_false(r.response_buffering);
    assert_true(r.path_v1);
    assert_false(r.has_service);
    fixture_close(&f);
}

static void absent_fields_of_a_route_are_its_defaults(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, true);
    gw_route_t r;
    gw_plan_route(f.plan, 0, &r);
    assert_int_equal(r.protocols, GW_HTTP | GW_HTTPS);
    assert_int_equal(r.https_redirect_status, 426);
    assert_true(r.strip_path);
    assert_false(r.preserve_host);
    assert_true(r.request_buffering);
    assert_true(r.response_buffering);
    assert_false(r.path_v1);
    assert_true(r.has_service);
    assert_int_equal(r.service, 0);
    fixture_close(&f);
}

static void routes_of_a_disabled_service_do_not_match(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f,
                 "{'services': {'on': {'host': 'h', 'enabled': true}, 'off': {'host': 'h', 'enabled': false}},"
                 " 'routes': {'a': {'paths': ['/a/b'], 'service': {'id': 'off'}}, 'b': {'paths': ['/a'], 'service': {'id': 'on'}}, 'c': "
                 "{'paths': ['/c']}}}",
                 false);
    assert_string_equal(fixture_get(&f, "h", "/a/b"), "b");
    assert_string_equal(fixture_get(&f, "h", "/c"), "c");
    assert_int_equal(gw_plan_n_routes(f.plan), 3);
    fixture_close(&f);
}

static void a_route_without_service_matches_and_says_so(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, "{'routes': {'r': {'paths': ['/a'], 'service': null}}}", false);
    assert_string_equal(fixture_get(&f, "h", "/a/b"), "r");
    gw_route_t r;
    gw_plan_route(f.plan, f.match.route, &r);
    assert_false(r.has_service);
    assert_int_equal(r.chain, -1);
    assert_str(f.match.upstream_path, "/b");
    fixture_close(&f);
}

/* ---- entities --------------------------------------------------------------------------------------------------------------------------
 */

static void an_entity_is_found_by_id_in_either_case_and_by_key(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, false);
    sl_str_t by_id = gw_plan_entity(f.plan, SL_STR("services"), SL_STR("aaaaaaaa-0000-4000-8000-00000000000a"));
    sl_str_t upper = gw_plan_entity(f.plan, SL_STR("services"), SL_STR("AAAAAAAA-0000-4000-8000-00000000000A"));
    sl_str_t by_key = gw_plan_entity(f.plan, SL_STR("services"), SL_STR("svc"));
    assert_non_null(by_id.data);
    assert_ptr_equal(by_id.data, upper.data);
    assert_ptr_equal(by_id.data, by_key.data);
    json_t *back = json_loadb(by_id.data, by_id.len, 0, NULL);
    assert_true(json_equal(back, json_object_get(json_object_get(f.entities, "services"), "aaaaaaaa-0000-4000-8000-00000000000a")));
    json_decref(back);
    fixture_close(&f);
}

static void the_key_of_an_entity_depends_on_its_collection(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f,
                 "{'consumers': {'c': {'username': 'joe', 'name': 'x'}}, 'plugins': {'p': {'name': 'acl', 'instance_name': 'mine'}}, "
                 "'snis': {'n': {'name': 'a.test'}}}",
                 false);
    assert_non_null(gw_plan_entity(f.plan, SL_STR("consumers"), SL_STR("joe")).data);
    assert_null(gw_plan_entity(f.plan, SL_STR("consumers"), SL_STR("x")).data);
    assert_non_null(gw_plan_entity(f.plan, SL_STR("plugins"), SL_STR("mine")).data);
    assert_null(gw_plan_entity(f.plan, SL_STR("plugins"), SL_STR("acl")).data);
    assert_non_null(gw_plan_entity(f.plan, SL_STR("snis"), SL_STR("a.test")).data);
    fixture_close(&f);
}

static void what_does_not_exist_is_not_found(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, false);
    assert_null(gw_plan_entity(f.plan, SL_STR("services"), SL_STR("nobody")).data);
    assert_null(gw_plan_entity(f.plan, SL_STR("upstreams"), SL_STR("svc")).data);
    assert_null(gw_plan_entity(f.plan, SL_STR(""), SL_STR("")).data);
    assert_null(gw_plan_entity_at(f.plan, SL_STR("services"), 2).data);
    assert_null(gw_plan_entity_at(f.plan, SL_STR("upstreams"), 0).data);
    assert_int_equal(gw_plan_entity_count(f.plan, SL_STR("upstreams")), 0);
    assert_int_equal(gw_plan_entity_after(f.plan, SL_STR("upstreams"), SL_STR("x")), 0);
    fixture_close(&f);
}

static void entities_are_numbered_in_id_order(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, "{'services': {'b': {'host': 'B'}, 'c': {'host': 'C'}, 'a': {'host': 'A'}}}", false);
    sl_str_t services = SL_STR("services");
    assert_int_equal(gw_plan_entity_count(f.plan, services), 3);
    assert_str(gw_plan_entity_at(f.plan, services, 0), "{\"host\":\"A\"}");
    assert_str(gw_plan_entity_at(f.plan, services, 2), "{\"host\":\"C\"}");
    gw_service_t s;
    gw_plan_service(f.plan, 1, &s);
    assert_str(s.host, "B");
    fixture_close(&f);
}

static void the_next_page_begins_after_an_id_that_may_be_gone(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, "{'services': {'b': {'host': 'B'}, 'd': {'host': 'D'}}}", false);
    sl_str_t services = SL_STR("services");
    assert_int_equal(gw_plan_entity_after(f.plan, services, SL_STR("")), 0);
    assert_int_equal(gw_plan_entity_after(f.plan, services, SL_STR("a")), 0);
    assert_int_equal(gw_plan_entity_after(f.plan, services, SL_STR("b")), 1);
    assert_int_equal(gw_plan_entity_after(f.plan, services, SL_STR("c")), 1);
    assert_int_equal(gw_plan_entity_after(f.plan, services, SL_STR("d")), 2);
    fixture_close(&f);
}

/* ---- the whole --------------------------------------------------------------------------------------------------------------------------
 */

static void a_plan_remembers_generation_and_hash(void **state) {
    (void)state;
    fixture_t f;
    fixture_open_conf(&f, "{}", (gw_plan_conf_t){.config_hash = SL_STR("0123456789abcdef0123456789abcdef"), .generation = 42});
    assert_int_equal(gw_plan_generation(f.plan), 42);
    assert_str(gw_plan_config_hash(f.plan), "0123456789abcdef0123456789abcdef");
    fixture_close(&f);
}

static void an_empty_configuration_is_a_plan_that_matches_nothing(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, "{}", false);
    assert_int_equal(gw_plan_n_services(f.plan) + gw_plan_n_routes(f.plan) + gw_plan_n_chains(f.plan), 0);
    assert_str(gw_plan_config_hash(f.plan), "00000000000000000000000000000000");
    assert_string_equal(fixture_get(&f, "h", "/"), "");
    fixture_close(&f);
}

static void the_same_entities_give_the_same_bytes(void **state) {
    (void)state;
    fixture_t a, b;
    fixture_open(&a, rich, false);
    fixture_open(&b, rich, false);
    assert_int_equal(a.image.len, b.image.len);
    assert_memory_equal(a.image.data, b.image.data, a.image.len);
    fixture_close(&a);
    fixture_close(&b);
}

static void refused(const char *entities, const char *because) {
    sl_err_t err = {""};
    assert_int_equal(fixture_try(entities, false, &err), SL_INVALID);
    if (strstr(err.text, because) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, because);
    }
}

static void references_to_nothing_are_refused_with_the_entity(void **state) {
    (void)state;
    refused("{'routes': {'r': {'paths': ['/'], 'service': {'id': 'gone'}}}}", "entity 'r': its service does not exist");
    refused("{'filter_chains': {'c': {'route': {'id': 'gone'}, 'filters': [{'name': 'f'}]}}}", "entity 'c': its route does not exist");
}

static void a_chain_belongs_to_exactly_one_service_or_route(void **state) {
    (void)state;
    refused("{'filter_chains': {'c': {'filters': [{'name': 'f'}]}}}", "filter chain 'c': expected exactly one");
    refused("{'services': {'s': {}}, 'filter_chains': {'c': {'service': {'id': 's'}, 'filters': []}, 'd': {'service': {'id': 's'}, "
            "'filters': []}}}",
            "filter chain 'd': its service has another chain");
    refused("{'services': {'s': {}}, 'filter_chains': {'c': {'service': {'id': 's'}, 'filters': [{}]}}}",
            "filter chain 'c': a filter has no name");
}

static void entities_of_the_wrong_shape_are_refused(void **state) {
    (void)state;
    refused("[]", "expected a map of collections");
    refused("{'services': [1]}", "services: expected a map");
    refused("{'services': {'s': 1}}", "services: 's' is no entity");
    refused("{'upstreams': 'x'}", "upstreams: expected a map");
}

static void an_image_over_the_ceiling_is_refused(void **state) {
    (void)state;
    json_t *entities = fixture_json(rich);
    sl_buf_t image;
    sl_err_t err;
    sl_buf_init(&image, 2000);
    assert_int_equal(gw_plan_build(entities, &(gw_plan_conf_t){0}, &image, &err), SL_NO_MEMORY);
    sl_buf_deinit(&image);
    json_decref(entities);
}

static void building_survives_every_failed_allocation(void **state) {
    (void)state;
    json_t *entities = fixture_json(rich);
    unsigned n = 1;
    for (sl_status_t rc = SL_NO_MEMORY; rc != SL_OK; n++) {
        sl_buf_t image;
        sl_err_t err;
        sl_buf_init(&image, SIZE_MAX);
        fail_alloc_at(n);
        rc = gw_plan_build(entities, &(gw_plan_conf_t){0}, &image, &err);
        fail_alloc_at(0);
        assert_true(rc == SL_OK || rc == SL_NO_MEMORY);
        sl_buf_deinit(&image);
        assert_true(n < 5000);
    }
    assert_true(n > 30);
    json_decref(entities);
}

static void opening_survives_every_failed_allocation(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, false);
    for (unsigned n = 1; n <= 2; n++) {
        gw_plan_t *plan;
        sl_err_t err;
        fail_alloc_at(n);
        assert_int_equal(gw_plan_open(sl_buf_str(&f.image), &plan, &err), SL_NO_MEMORY);
        fail_alloc_at(0);
    }
    fixture_close(&f);
}

/* ---- files
 * ------------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    char dir[64], path[128];
} file_fixture_t;

static int make_folder(void **state) {
    file_fixture_t *x = calloc(1, sizeof(*x));
    if (x == NULL) {
        return -1;
    }
    strcpy(x->dir, "/tmp/test_plan_XXXXXX");
    if (mkdtemp(x->dir) == NULL) {
        return -1;
    }
    snprintf(x->path, sizeof(x->path), "%s/plan", x->dir);
    *state = x;
    return 0;
}

static int remove_folder(void **state) {
    file_fixture_t *x = *state;
    unlink(x->path);
    rmdir(x->dir);
    free(x);
    return 0;
}

static void a_plan_is_read_from_a_file(void **state) {
    const file_fixture_t *x = *state;
    fixture_t f;
    gw_plan_t *plan;
    sl_err_t err;
    fixture_open(&f, rich, false);
    assert_int_equal(sl_file_write_atomic(x->path, sl_buf_str(&f.image), 0600, &err), SL_OK);
    assert_int_equal(gw_plan_open_file(x->path, &plan, &err), SL_OK);
    assert_str(gw_plan_entity(plan, SL_STR("consumers"), SL_STR("joe")), "{\"username\":\"joe\"}");
    gw_plan_close(plan);
    fixture_close(&f);
}

static void a_mapped_plan_outlives_the_replacement_of_its_file(void **state) {
    const file_fixture_t *x = *state;
    fixture_t f;
    gw_plan_t *plan;
    sl_err_t err;
    fixture_open(&f, rich, false);
    assert_int_equal(sl_file_write_atomic(x->path, sl_buf_str(&f.image), 0600, &err), SL_OK);
    assert_int_equal(gw_plan_open_file(x->path, &plan, &err), SL_OK);
    assert_int_equal(sl_file_write_atomic(x->path, SL_STR("other"), 0600, &err), SL_OK);
    assert_int_equal(gw_plan_n_routes(plan), 3);
    gw_plan_close(plan);
    fixture_close(&f);
}

static void a_file_that_is_no_plan_is_refused_with_its_path(void **state) {
    const file_fixture_t *x = *state;
    gw_plan_t *plan;
    sl_err_t err;
    assert_int_equal(gw_plan_open_file(x->path, &plan, &err), SL_NOT_FOUND);
    assert_non_null(strstr(err.text, x->path));
    assert_int_equal(gw_plan_open_file(x->dir, &plan, &err), SL_IO);
    assert_int_equal(sl_file_write_atomic(x->path, SL_STR("short"), 0600, &err), SL_OK);
    assert_int_equal(gw_plan_open_file(x->path, &plan, &err), SL_INVALID);
    assert_non_null(strstr(err.text, x->path));
    char *zeros = calloc(1, 4096);
    assert_int_equal(sl_file_write_atomic(x->path, sl_str(zeros, 4096), 0600, &err), SL_OK);
    free(zeros);
    assert_int_equal(gw_plan_open_file(x->path, &plan, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "not a plan"));
}

/* ---- damage
 * -------------------------------------------------------------------------------------------------------------------------------- */

static void any_changed_byte_is_detected(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, false);
    for (size_t i = 0; i < f.image.len; i++) {
        gw_plan_t *plan;
        f.image.data[i] ^= 0x10;
        assert_int_equal(gw_plan_open(sl_buf_str(&f.image), &plan, NULL), SL_INVALID);
        f.image.data[i] ^= 0x10;
    }
    fixture_close(&f);
}

static void a_cut_image_is_detected(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, false);
    for (size_t len = 0; len < f.image.len; len += 7) {
        gw_plan_t *plan;
        assert_int_equal(gw_plan_open(sl_str(f.image.data, len), &plan, NULL), SL_INVALID);
    }
    fixture_close(&f);
}

static void an_image_that_is_not_aligned_is_refused(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, false);
    char *copy = malloc(f.image.len + 8);
    memcpy(copy + 4, f.image.data, f.image.len);
    gw_plan_t *plan;
    assert_int_equal(gw_plan_open(sl_str(copy + 4, f.image.len), &plan, NULL), SL_INVALID);
    free(copy);
    fixture_close(&f);
}

static void another_format_is_named(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, false);
    gw_plan_t *plan;
    sl_err_t err;
    ((gw_img_header_t *)(void *)f.image.data)->format = 77;
    assert_int_equal(gw_plan_open(sl_buf_str(&f.image), &plan, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "format 77"));
    fixture_close(&f);
}

/* Every 32-bit word behind the strings takes bad values in turn, under a digest that fits. */
static void damage_under_a_fitting_digest_is_refused_or_read_safely(void **state) {
    (void)state;
    static const uint32_t values[] = {0, 1, 2, 0x7fffffff, 0xffffffff, 0xfffffff8};
    fixture_t f;
    fixture_open(&f, rich, false);
    gw_img_header_t h;
    memcpy(&h, f.image.data, sizeof(h));
    size_t strings_end = h.sections[GW_SEC_SERVICES].first, refused_images = 0, accepted = 0;
    for (size_t at = GW_IMG_HEAD_SIZE; at + 4 <= f.image.len; at += 4) {
        at = at == sizeof(h) ? strings_end : at;
        for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
            uint32_t old;
            memcpy(&old, f.image.data + at, 4);
            memcpy(f.image.data + at, &values[v], 4);
            assert_true(damage_seal(f.image.data, f.image.len));
            if (damage_read(f.image.data, f.image.len)) {
                accepted++;
            } else {
                refused_images++;
            }
            memcpy(f.image.data + at, &old, 4);
        }
    }
    assert_true(refused_images > 500);
    assert_true(accepted > 100);
    fixture_close(&f);
}

/* The word of a record at which the verifier must say no. */
static void check_refused(fixture_t *f, gw_section_t section, size_t record, size_t offset, uint32_t value) {
    gw_img_header_t h;
    memcpy(&h, f->image.data, sizeof(h));
    assert_true(record < h.sections[section].count);
    char *at = f->image.data + h.sections[section].first + record * gw_img_record_size[section] + offset;
    uint32_t old;
    memcpy(&old, at, 4);
    memcpy(at, &value, 4);
    assert_true(damage_seal(f->image.data, f->image.len));
    assert_false(damage_read(f->image.data, f->image.len));
    memcpy(at, &old, 4);
    assert_true(damage_seal(f->image.data, f->image.len));
    assert_true(damage_read(f->image.data, f->image.len));
}

static void tries_that_run_in_circles_are_refused(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, false);
    check_refused(&f, GW_SEC_PATH_NODES, 0, offsetof(gw_img_node_t, child), 0);
    check_refused(&f, GW_SEC_PATH_NODES, 0, offsetof(gw_img_node_t, up), 0);
    check_refused(&f, GW_SEC_HOST_NODES, 0, offsetof(gw_img_node_t, child), 0);
    check_refused(&f, GW_SEC_PATH_NODES, 0, offsetof(gw_img_node_t, n_children), 0xffffffff);
    fixture_close(&f);
}

static void indexes_past_the_end_are_refused(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, rich, false);
    gw_img_header_t h;
    memcpy(&h, f.image.data, sizeof(h));
    check_refused(&f, GW_SEC_ROUTES, 0, offsetof(gw_img_route_t, service), h.sections[GW_SEC_SERVICES].count);
    check_refused(&f, GW_SEC_ROUTES, 0, offsetof(gw_img_route_t, chain), h.sections[GW_SEC_CHAINS].count);
    check_refused(&f, GW_SEC_CHAIN_FILTERS, 0, 0, h.sections[GW_SEC_FILTERS].count);
    check_refused(&f, GW_SEC_ITEMS, 0, 0, h.sections[GW_SEC_LEAVES].count);
    check_refused(&f, GW_SEC_LEAVES, 0, offsetof(gw_img_leaf_t, route), h.sections[GW_SEC_ROUTES].count);
    check_refused(&f, GW_SEC_KEYS, 0, offsetof(gw_img_key_t, entity), h.sections[GW_SEC_ENTITIES].count);
    check_refused(&f, GW_SEC_TEXTS, 0, offsetof(gw_ref_t, len), h.sections[GW_SEC_STRINGS].count + 1);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_route_without_chain_runs_that_of_its_service),
        cmocka_unit_test(a_chain_of_the_route_runs_after_that_of_the_service),
        cmocka_unit_test(a_route_without_service_runs_its_own_chain),
        cmocka_unit_test(disabled_filters_and_chains_do_not_run),
        cmocka_unit_test(a_disabled_chain_takes_the_plugins_of_its_owner_with_it),
        cmocka_unit_test(disabled_and_global_plugins_and_those_of_consumers_do_not_run),
        cmocka_unit_test(plugins_run_in_the_order_of_name_and_times),
        cmocka_unit_test(a_plugin_needs_no_chain),
        cmocka_unit_test(filters_configured_as_plugins_run_after_the_chain_of_their_owner),
        cmocka_unit_test(routes_of_one_service_share_its_chain),
        cmocka_unit_test(the_configuration_reaches_the_filter_as_bytes),
        cmocka_unit_test(a_configuration_may_hold_nul_bytes),
        cmocka_unit_test(options_of_an_entry_read_back_as_lines),
        cmocka_unit_test(equal_keys_mean_equal_name_and_configuration),
        cmocka_unit_test(a_service_reads_back_as_it_was_given),
        cmocka_unit_test(absent_fields_of_a_service_are_its_defaults),
        cmocka_unit_test(a_route_reads_back_as_it_was_given),
        cmocka_unit_test(absent_fields_of_a_route_are_its_defaults),
        cmocka_unit_test(routes_of_a_disabled_service_do_not_match),
        cmocka_unit_test(a_route_without_service_matches_and_says_so),
        cmocka_unit_test(an_entity_is_found_by_id_in_either_case_and_by_key),
        cmocka_unit_test(the_key_of_an_entity_depends_on_its_collection),
        cmocka_unit_test(what_does_not_exist_is_not_found),
        cmocka_unit_test(entities_are_numbered_in_id_order),
        cmocka_unit_test(the_next_page_begins_after_an_id_that_may_be_gone),
        cmocka_unit_test(a_plan_remembers_generation_and_hash),
        cmocka_unit_test(an_empty_configuration_is_a_plan_that_matches_nothing),
        cmocka_unit_test(the_same_entities_give_the_same_bytes),
        cmocka_unit_test(references_to_nothing_are_refused_with_the_entity),
        cmocka_unit_test(a_chain_belongs_to_exactly_one_service_or_route),
        cmocka_unit_test(entities_of_the_wrong_shape_are_refused),
        cmocka_unit_test(an_image_over_the_ceiling_is_refused),
        cmocka_unit_test(building_survives_every_failed_allocation),
        cmocka_unit_test(opening_survives_every_failed_allocation),
        cmocka_unit_test_setup_teardown(a_plan_is_read_from_a_file, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_mapped_plan_outlives_the_replacement_of_its_file, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_plan_is_refused_with_its_path, make_folder, remove_folder),
        cmocka_unit_test(any_changed_byte_is_detected),
        cmocka_unit_test(a_cut_image_is_detected),
        cmocka_unit_test(an_image_that_is_not_aligned_is_refused),
        cmocka_unit_test(another_format_is_named),
        cmocka_unit_test(damage_under_a_fitting_digest_is_refused_or_read_safely),
        cmocka_unit_test(tries_that_run_in_circles_are_refused),
        cmocka_unit_test(indexes_past_the_end_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
