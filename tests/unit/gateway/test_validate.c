#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "gw_config_support.h"
#include "gw_schema.h"

#define HEAD "_format_version: '3.0'\n"
#define SERVICE_ID "0175e0e8-3de9-56b4-96f1-b12dcb4b6691"
#define MISSING "required field missing"

/* The errors of one entity, given as its flow mapping. */
static void assert_errors(const char *collection, const char *entity, const char *expected) {
    char text[4096];
    snprintf(text, sizeof(text), HEAD "%s: [%s]\n", collection, entity);
    json_t *errors = test_errors(text);
    test_json_equal(json_array_get(json_object_get(errors, collection), 0), expected);
    json_decref(errors);
}

static void assert_field(const char *collection, const char *entity, const char *field, const char *expected) {
    char text[4096];
    snprintf(text, sizeof(text), HEAD "%s: [%s]\n", collection, entity);
    json_t *entities = test_entities(text);
    test_json_equal(json_object_get(test_only(entities, collection), field), expected);
    json_decref(entities);
}

static void assert_id(const char *text, const char *collection, const char *id) {
    json_t *entities = test_entities(text);
    const json_t *entity = test_only(entities, collection);
    assert_string_equal(json_string_value(json_object_get(entity, "id")), id);
    json_decref(entities);
}

/* ---- services ------------------------------------------------------------------------------------------------------------- */

static void test_a_service_gets_every_field_and_default(void **state) {
    (void)state;
    json_t *entities = test_entities(HEAD "services: [{name: my-service, host: example.test}]\n");
    test_json_equal(
        test_only(entities, "services"),
        "{\"id\":\"0855b320-0dd2-547d-891d-601e9b38647f\",\"created_at\":1700000000,\"updated_at\":1700000000,\"name\":\"my-service\","
        "\"retries\":5,\"protocol\":\"http\",\"host\":\"example.test\",\"port\":80,\"path\":null,\"connect_timeout\":60000,"
        "\"write_timeout\":60000,\"read_timeout\":60000,\"tags\":null,\"client_certificate\":null,\"tls_verify\":null,"
        "\"tls_verify_depth\":null,\"ca_certificates\":null,\"enabled\":true}");
    json_decref(entities);
}

static void test_url_is_split_into_its_parts(void **state) {
    (void)state;
    static const struct {
        const char *url, *protocol, *host, *port, *path;
    } cases[] = {
        {"http://a.test:9000", "\"http\"", "\"a.test\"", "9000", "null"},  {"https://a.test/x", "\"https\"", "\"a.test\"", "443", "\"/x\""},
        {"http://a.test/x?q=1", "\"http\"", "\"a.test\"", "80", "\"/x\""}, {"//a.test:443", "\"https\"", "\"a.test\"", "443", "null"},
        {"http://[::1]:81/", "\"http\"", "\"[::1]\"", "81", "\"/\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char entity[256];
        snprintf(entity, sizeof(entity), "{url: '%s'}", cases[i].url);
        assert_field("services", entity, "protocol", cases[i].protocol);
        assert_field("services", entity, "host", cases[i].host);
        assert_field("services", entity, "port", cases[i].port);
        assert_field("services", entity, "path", cases[i].path);
    }
}

static void test_url_overrides_the_separate_fields(void **state) {
    (void)state;
    assert_field("services", "{url: 'http://b.test:81', host: a.test, port: 1}", "host", "\"b.test\"");
    assert_field("services", "{url: 'http://b.test:81', host: a.test, port: 1}", "port", "81");
}

static void test_a_url_that_is_none_is_reported_on_its_parts(void **state) {
    (void)state;
    assert_errors("services", "{url: invalid url}", "{\"host\":\"" MISSING "\",\"path\":\"should start with: /\"}");
    assert_errors("services", "{url: 12}", "{\"host\":\"" MISSING "\",\"url\":\"expected a string\"}");
    assert_errors("services", "{url: 'http://a.test:port'}", "{\"port\":\"expected an integer\"}");
    assert_errors("services", "{url: 'ftp://a.test'}",
                  "{\"protocol\":\"expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp\"}");
}

static void test_all_errors_of_a_service_are_reported_at_once(void **state) {
    (void)state;
    assert_errors(
        "services",
        "{name: 'a b', host: 'h:1', port: 70000, path: x, retries: -1, connect_timeout: 0, read_timeout: 1.5, write_timeout: '1', "
        "enabled: null, tags: ['a,b', ok], protocol: '', bogus: 1, id: x, ca_certificates: [1]}",
        "{\"name\":\"invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~\","
        "\"host\":\"must not have a port\",\"port\":\"value should be between 0 and 65535\",\"path\":\"should start with: /\","
        "\"retries\":\"value should be between 0 and 32767\",\"connect_timeout\":\"value should be between 1 and 2147483646\","
        "\"read_timeout\":\"expected an integer\",\"write_timeout\":\"expected an integer\",\"enabled\":\"" MISSING "\","
        "\"tags\":[\"invalid tag 'a,b': expected printable ascii (except `,` and `/`) or valid utf-8 sequences\"],"
        "\"protocol\":\"expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp\",\"bogus\":\"unknown field\","
        "\"id\":\"expected a valid UUID\",\"ca_certificates\":[\"expected a string\"]}");
}

static void test_paths_of_services_are_checked(void **state) {
    (void)state;
    assert_errors("services", "{host: h, path: '/a//b'}", "{\"path\":\"must not have empty segments\"}");
    assert_errors("services", "{host: h, path: '/a b'}",
                  "{\"path\":\"invalid path: '/a b' (characters outside of the reserved list of RFC 3986 found)\"}");
    assert_errors("services", "{host: h, path: '/%zz'}", "{\"path\":\"invalid url-encoded value: '%zz'\"}");
    assert_errors("services", "{host: h, path: '/%z'}", "{\"path\":\"invalid url-encoded value: '%z'\"}");
}

static void test_hosts_are_names_or_addresses(void **state) {
    (void)state;
    assert_field("services", "{host: 10.0.0.1}", "host", "\"10.0.0.1\"");
    assert_field("services", "{host: '::1'}", "host", "\"::1\"");
    assert_field("services", "{host: my_host.test.}", "host", "\"my_host.test.\"");
    static const char *const bad[] = {"a..b", "-a", "a/b", "10.0.0.300", "a b", "[::1", "a:b:c"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char entity[64], expected[96];
        snprintf(entity, sizeof(entity), "{host: '%s'}", bad[i]);
        snprintf(expected, sizeof(expected), "{\"host\":\"invalid value: %s\"}", bad[i]);
        assert_errors("services", entity, expected);
    }
}

static void test_conditional_fields_of_services(void **state) {
    (void)state;
    assert_errors("services", "{host: h, protocol: tcp, path: /x}",
                  "{\"path\":\"value must be null\",\"@entity\":[\"failed conditional validation given value of field 'protocol'\"]}");
    assert_errors(
        "services", "{host: h, tls_verify: true}",
        "{\"tls_verify\":\"value must be null\",\"@entity\":[\"failed conditional validation given value of field 'protocol'\"]}");
    assert_field("services", "{host: h, protocol: tls, tls_verify: true}", "tls_verify", "true");
}

static void test_ids_are_lower_case_in_the_result(void **state) {
    (void)state;
    assert_field("services", "{host: h, id: 0175E0E8-3DE9-56B4-96F1-B12DCB4B6691}", "id", "\"" SERVICE_ID "\"");
}

static void test_integral_reals_are_integers(void **state) {
    (void)state;
    assert_field("services", "{host: h, port: 81.0}", "port", "81");
}

/* ---- routes --------------------------------------------------------------------------------------------------------------- */

static void test_a_route_gets_every_field_and_default(void **state) {
    (void)state;
    json_t *entities = test_entities(HEAD "routes: [{name: my-route, paths: [/]}]\n");
    test_json_equal(
        test_only(entities, "routes"),
        "{\"id\":\"481a9539-f49c-51b6-b2e2-fe99ee68866c\",\"created_at\":1700000000,\"updated_at\":1700000000,\"name\":\"my-route\","
        "\"protocols\":[\"http\",\"https\"],\"https_redirect_status_code\":426,\"strip_path\":true,\"preserve_host\":false,"
        "\"request_buffering\":true,\"response_buffering\":true,\"tags\":null,\"service\":null,\"snis\":null,\"sources\":null,"
        "\"destinations\":null,\"methods\":null,\"hosts\":null,\"paths\":[\"/\"],\"headers\":null,\"regex_priority\":0,"
        "\"path_handling\":\"v0\"}");
    json_decref(entities);
}

static void test_a_route_needs_something_to_match(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{}", "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"},
        {"{protocols: [http], paths: []}", "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'"},
        {"{protocols: [grpc]}", "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'"},
        {"{protocols: [grpc, grpcs]}", "must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'"},
        {"{protocols: [tcp]}", "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'"},
        {"{protocols: [tls_passthrough]}", "must set snis when 'protocols' is 'tls_passthrough'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char expected[256];
        snprintf(expected, sizeof(expected), "{\"@entity\":[\"%s\"]}", cases[i][1]);
        assert_errors("routes", cases[i][0], expected);
    }
}

static void test_paths_of_routes_are_fixed_and_normal_or_regexes(void **state) {
    (void)state;
    assert_errors(
        "routes", "{paths: [/ok, x, '/a/../b', '~/(', '//a', '~/ok$']}",
        "{\"paths\":[null,\"should start with: / (fixed path) or ~/ (regex path)\",\"non-normalized path, consider use '/b' instead\","
        "\"invalid regex: '/(' (PCRE returned: missing closing parenthesis at offset 2)\",\"must not have empty segments\"]}");
    assert_errors("routes", "{paths: ['/%zz', '~/%zz', '/%C3%A9']}",
                  "{\"paths\":[\"invalid url-encoded value: '%zz'\",null,"
                  "\"non-normalized path, consider use '/\u00e9' instead\"]}");
}

static void test_hosts_of_routes_may_hold_one_wildcard_at_an_end(void **state) {
    (void)state;
    assert_field("routes", "{hosts: ['*.a.test', 'a.*', 'a.test:80', '*.a.test:443']}", "hosts",
                 "[\"*.a.test\",\"a.*\",\"a.test:80\",\"*.a.test:443\"]");
    assert_errors(
        "routes", "{hosts: ['*.*', 'a.*.b', '*a.test', 'a b']}",
        "{\"hosts\":[\"invalid wildcard: must have at most one wildcard\",\"invalid wildcard: must be placed at leftmost or rightmost "
        "label\",\"invalid wildcard: must be placed at leftmost or rightmost label\",\"invalid hostname: a b\"]}");
}

static void test_methods_are_upper_case_and_sets_drop_duplicates(void **state) {
    (void)state;
    assert_field("routes", "{methods: [GET, PURGE, GET]}", "methods", "[\"GET\",\"PURGE\"]");
    assert_errors("routes", "{methods: [GET, get]}", "{\"methods\":[null,\"invalid value: get\"]}");
}

static void test_headers_are_lists_by_name_and_host_is_refused(void **state) {
    (void)state;
    assert_field("routes", "{headers: {X-A: ['1', '2']}}", "headers", "{\"X-A\":[\"1\",\"2\"]}");
    assert_errors("routes", "{headers: {Host: [a]}}",
                  "{\"headers\":\"cannot contain 'host' header, which must be specified in the 'hosts' attribute\"}");
    assert_errors("routes", "{headers: {x-a: b}}", "{\"headers\":{\"x-a\":\"expected an array\"}}");
    assert_errors("routes", "{headers: [a]}", "{\"headers\":\"expected a map\"}");
}

static void test_protocols_of_different_families_do_not_mix(void **state) {
    (void)state;
    assert_errors("routes", "{protocols: [http, tcp], paths: [/]}",
                  "{\"protocols\":\"these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp')\"}");
    assert_errors("routes", "{protocols: [], paths: [/]}", "{\"protocols\":\"length must be at least 1\"}");
    assert_errors("routes", "{protocols: [http, ftp], paths: [/]}",
                  "{\"protocols\":[null,\"expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp\"]}");
}

static void test_an_unknown_first_protocol_is_an_unknown_type_of_route(void **state) {
    (void)state;
    assert_errors("routes", "{protocols: [ftp], paths: [/]}", "{\"protocols\":\"unknown type: ftp\"}");
}

static void test_fields_that_a_protocol_cannot_have_are_refused(void **state) {
    (void)state;
    assert_errors("routes", "{paths: [/], sources: [{ip: 10.0.0.0/8}]}",
                  "{\"sources\":\"cannot set 'sources' when 'protocols' is 'http' or 'https'\"}");
    assert_errors("routes", "{protocols: [grpc], hosts: [h], strip_path: true, methods: [GET]}",
                  "{\"strip_path\":\"cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'\","
                  "\"methods\":\"cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'\"}");
    assert_errors("routes", "{protocols: [http], paths: [/], snis: [a.test]}",
                  "{\"snis\":\"length must be 0\",\"@entity\":[\"'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or "
                  "'tls_passthrough'\"]}");
    assert_field("routes", "{protocols: [grpc], hosts: [h]}", "strip_path", "false");
}

static void test_stream_addresses_need_an_ip_or_a_port(void **state) {
    (void)state;
    assert_field("routes", "{protocols: [tcp], destinations: [{port: 53}]}", "destinations", "[{\"ip\":null,\"port\":53}]");
    assert_errors("routes", "{protocols: [tcp], sources: [{ip: 10.0.0.1}, {}]}",
                  "{\"sources\":[null,{\"@entity\":[\"at least one of these fields must be non-empty: 'ip', 'port'\"]}]}");
    assert_errors("routes", "{protocols: [tcp], sources: [{ip: 10.0.0.0/33}]}",
                  "{\"sources\":[{\"ip\":\"invalid ip or cidr range: '10.0.0.0/33'\"}]}");
}

static void test_redirect_codes_are_listed(void **state) {
    (void)state;
    assert_errors("routes", "{paths: [/], https_redirect_status_code: 303}",
                  "{\"https_redirect_status_code\":\"expected one of: 426, 301, 302, 307, 308\"}");
}

/* ---- filter chains -------------------------------------------------------------------------------------------------------- */

static void test_a_nested_chain_gets_its_parent_and_a_stable_id(void **state) {
    (void)state;
    json_t *entities =
        test_entities(HEAD "services: [{name: my-service, host: h, filter_chains: [{filters: [{name: add, config: ' x '}]}]}]\n");
    test_json_equal(test_only(entities, "filter_chains"),
                    "{\"id\":\"7d7b8ce3-d533-5a60-8744-5e7449bcabc8\",\"name\":null,\"enabled\":true,\"route\":null,"
                    "\"service\":{\"id\":\"0855b320-0dd2-547d-891d-601e9b38647f\"},\"filters\":[{\"name\":\"add\",\"enabled\":true,"
                    "\"config\":\" x \"}],\"created_at\":1700000000,\"updated_at\":1700000000,\"tags\":null}");
    json_decref(entities);
}

static void test_a_chain_has_exactly_one_parent(void **state) {
    (void)state;
    assert_errors("filter_chains", "{filters: [{name: add}]}",
                  "{\"@entity\":[\"at least one of these fields must be non-empty: 'service', 'route'\"]}");
    assert_errors("filter_chains", "{filters: [{name: add}], service: a, route: b}",
                  "{\"@entity\":[\"only one or none of these fields must be set: 'service', 'route'\"]}");
}

static void test_filters_must_be_known_and_well_formed(void **state) {
    (void)state;
    assert_errors("filter_chains", "{service: s, filters: [{name: add}, {name: nope}, {}, {name: add, enabled: null, bogus: 1}]}",
                  "{\"filters\":[null,{\"name\":\"no such filter\"},{\"name\":\"" MISSING "\"},{\"enabled\":\"" MISSING
                  "\",\"bogus\":\"unknown field\"}]}");
    assert_errors("filter_chains", "{service: s, filters: []}", "{\"filters\":\"length must be at least 1\"}");
    assert_errors("filter_chains", "{service: s}", "{\"filters\":\"" MISSING "\"}");
    assert_errors("filter_chains", "{service: s, filters: [x]}", "{\"filters\":[\"expected a record\"]}");
    assert_errors("filter_chains", "{service: s, enabled: null, filters: [{name: add}]}", "{\"enabled\":\"" MISSING "\"}");
}

static void test_a_config_without_schema_is_text_or_null(void **state) {
    (void)state;
    assert_errors("filter_chains",
                  "{service: s, filters: [{name: add, config: {a: 1}}, {name: add, config: 1}, {name: add, config: null}]}",
                  "{\"filters\":[{\"config\":\"wrong type: expected one of string, null, got object\"},"
                  "{\"config\":\"wrong type: expected one of string, null, got number\"}]}");
}

static void test_a_config_with_a_schema_is_checked_against_it(void **state) {
    (void)state;
    assert_errors(
        "filter_chains",
        "{service: s, filters: [{name: typed}, {name: typed, config: {}}, {name: typed, config: {n: x}}, {name: typed, config: {n: 1}}]}",
        "{\"filters\":[{\"config\":\"wrong type: expected object, got null\"},{\"config\":\"property n is required\"},"
        "{\"config\":\"property n validation failed: wrong type: expected integer, got string\"}]}");
}

static void test_options_of_filters_appear_where_they_are_set(void **state) {
    (void)state;
    json_t *entities = test_entities(
        HEAD "services: [{name: s, host: h, filter_chains: [{filters: [{name: add, dialect: wasmx, isolation: request, cpu_budget_ms: 0, "
             "memory_budget: 64m, fail: skip-chain, slice: false, grants: [], headers_stop_iteration: true, vm_id: ''}, "
             "{name: add, memory_budget: 65536, grants: [a, 'b:*'], fail: null}]}]}]\n");
    test_json_equal(json_object_get(test_only(entities, "filter_chains"), "filters"),
                    "[{\"name\":\"add\",\"enabled\":true,\"config\":null,\"dialect\":\"wasmx\",\"isolation\":\"request\","
                    "\"cpu_budget_ms\":0,\"memory_budget\":\"64m\",\"fail\":\"skip-chain\",\"slice\":false,\"grants\":[],"
                    "\"headers_stop_iteration\":true,\"vm_id\":\"\"},{\"name\":\"add\",\"enabled\":true,\"config\":null,"
                    "\"memory_budget\":65536,\"grants\":[\"a\",\"b:*\"]}]");
    json_decref(entities);
}

static void test_options_of_filters_are_checked(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"dialect: kong", "\"dialect\":\"expected one of: envoy, wasmx\""},
        {"isolation: none", "\"isolation\":\"expected one of: shared, request, filter\""},
        {"cpu_budget_ms: -1", "\"cpu_budget_ms\":\"value should be between 0 and 3600000\""},
        {"cpu_budget_ms: 'off'", "\"cpu_budget_ms\":\"expected an integer\""},
        {"memory_budget: 1", "\"memory_budget\":\"expected a number of bytes, or a size such as 64m, from 65536 to 4294967296, got '1'\""},
        {"memory_budget: [1]", "\"memory_budget\":\"expected a number of bytes or a text such as 64m\""},
        {"slice: 'on'", "\"slice\":\"expected a boolean\""},
        {"grants: a", "\"grants\":\"expected an array\""},
        {"grants: [a, 'b,c']", "\"grants\":[null,\"must not hold commas, white space or control characters\"]"},
        {"grants: ['']", "\"grants\":[\"length must be at least 1\"]"},
        {"vm_id: \"a\\nb\"", "\"vm_id\":\"expected UTF-8 without control characters\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char entity[256], expected[512];
        snprintf(entity, sizeof(entity), "{service: s, filters: [{name: add, %s}]}", cases[i][0]);
        snprintf(expected, sizeof(expected), "{\"filters\":[{%s}]}", cases[i][1]);
        assert_errors("filter_chains", entity, expected);
    }
}

static void test_two_chains_on_one_parent_collide(void **state) {
    (void)state;
    json_t *errors =
        test_errors(HEAD "services: [{name: my-service, host: h, filter_chains: [{filters: [{name: add}]}, {filters: [{name: set}]}]}]\n");
    test_json_equal(errors,
                    "{\"services\":[{\"filter_chains\":[null,\"uniqueness violation: 'filter_chains' entity with primary key set to "
                    "'7d7b8ce3-d533-5a60-8744-5e7449bcabc8' already declared\"]}]}");
    json_decref(errors);
}

static void test_two_top_level_chains_with_ids_on_one_service_collide(void **state) {
    (void)state;
    json_t *errors = test_errors(HEAD "services: [{name: s, id: " SERVICE_ID ", host: h}]\nfilter_chains:\n"
                                      "- {id: 11111111-1111-4111-8111-111111111111, service: s, filters: [{name: add}]}\n"
                                      "- {id: 22222222-2222-4222-8222-222222222222, service: s, filters: [{name: add}]}\n");
    test_json_equal(errors, "{\"filter_chains\":[null,\"uniqueness violation: 'filter_chains' entity with service set to '" SERVICE_ID
                            "' already declared\"]}");
    json_decref(errors);
}

static void test_the_state_of_wasm_is_reported_whatever_else_is_wrong(void **state) {
    (void)state;
    gw_validate_env_t env = test_env();
    json_t *doc = test_parse(HEAD "filter_chains: [{service: s, filters: [], enabled: 1}]\n"), *entities, *errors;
    env.any_filters = false;
    assert_int_equal(gw_config_validate(doc, &env, &entities, &errors), SL_INVALID);
    test_json_equal(errors,
                    "{\"filter_chains\":[{\"enabled\":\"expected a boolean\",\"filters\":\"length must be at least 1\",\"@entity\":["
                    "\"no wasm filters are available\"]}]}");
    json_decref(errors);
    env.wasm_enabled = false;
    assert_int_equal(gw_config_validate(doc, &env, &entities, &errors), SL_INVALID);
    test_json_equal(errors,
                    "{\"filter_chains\":[{\"enabled\":\"expected a boolean\",\"filters\":\"length must be at least 1\",\"@entity\":["
                    "\"wasm support is not enabled\"]}]}");
    json_decref(errors);
    json_decref(doc);
}

/* ---- upstreams, targets, consumers, plugins ------------------------------------------------------------------------------- */

static void test_an_upstream_gets_all_health_check_defaults(void **state) {
    (void)state;
    assert_field(
        "upstreams", "{name: u.test}", "healthchecks",
        "{\"threshold\":0,\"active\":{\"type\":\"http\",\"timeout\":1,\"concurrency\":10,\"http_path\":\"/\",\"https_sni\":null,"
        "\"https_verify_certificate\":true,\"headers\":null,\"healthy\":{\"interval\":0,\"successes\":0,\"http_statuses\":[200,302]},"
        "\"unhealthy\":{\"interval\":0,\"http_failures\":0,\"tcp_failures\":0,\"timeouts\":0,"
        "\"http_statuses\":[429,404,500,501,502,503,504,505]}},\"passive\":{\"type\":\"http\",\"healthy\":{\"successes\":0,"
        "\"http_statuses\":[200,201,202,203,204,205,206,207,208,226,300,301,302,303,304,305,306,307,308]},\"unhealthy\":{"
        "\"http_failures\":0,\"tcp_failures\":0,\"timeouts\":0,\"http_statuses\":[429,500,503]}}}");
}

static void test_algorithm_and_hash_input_of_an_upstream_follow_each_other(void **state) {
    (void)state;
    assert_field("upstreams", "{name: u, hash_on: ip}", "algorithm", "\"consistent-hashing\"");
    assert_field("upstreams", "{name: u, algorithm: least-connections}", "hash_on", "null");
    assert_field("upstreams", "{name: u, hash_on: none}", "algorithm", "\"round-robin\"");
    assert_field("upstreams", "{name: u}", "hash_on", "\"none\"");
}

static void test_upstream_names_and_hash_fields_are_checked(void **state) {
    (void)state;
    assert_errors("upstreams", "{name: 10.0.0.1}", "{\"name\":\"Invalid name ('10.0.0.1'); no ip addresses allowed\"}");
    assert_errors("upstreams", "{name: 'u:80'}", "{\"name\":\"Invalid name ('u:80'); no port allowed\"}");
    assert_errors("upstreams", "{name: 'u v'}", "{\"name\":\"Invalid name ('u v'); must be a valid hostname\"}");
    assert_errors("upstreams", "{name: u, hash_on: header}",
                  "{\"hash_on_header\":\"" MISSING "\",\"@entity\":[\"failed conditional validation given value of field 'hash_on'\"]}");
    assert_errors("upstreams", "{name: u, hash_on: ip, hash_fallback: ip}",
                  "{\"hash_fallback\":\"expected one of: none, consumer, header, cookie, path, query_arg, uri_capture\","
                  "\"@entity\":[\"failed conditional validation given value of field 'hash_on'\"]}");
    assert_errors("upstreams", "{name: u, hash_on: header, hash_fallback: header, hash_on_header: a, hash_fallback_header: a}",
                  "{\"@entity\":[\"values of these fields must be distinct: 'hash_on_header', 'hash_fallback_header'\"]}");
}

static void test_targets_are_formatted_with_a_port(void **state) {
    (void)state;
    assert_field("upstreams", "{name: u, targets: [{target: a.test}]}", "name", "\"u\"");
    json_t *entities = test_entities(HEAD "upstreams: [{name: u, targets: [{target: a.test}]}]\n");
    test_json_equal(json_object_get(test_only(entities, "targets"), "target"), "\"a.test:8000\"");
    test_json_equal(json_object_get(test_only(entities, "targets"), "weight"), "100");
    json_decref(entities);
    json_t *errors = test_errors(HEAD "upstreams: [{name: u, targets: [{target: 'a b'}]}]\n");
    test_json_equal(errors, "{\"upstreams\":[{\"targets\":[{\"target\":\"Invalid target; not a valid hostname or ip address\"}]}]}");
    json_decref(errors);
}

static void test_the_same_target_twice_collides(void **state) {
    (void)state;
    json_t *errors = test_errors(HEAD "upstreams: [{name: u, targets: [{target: a.test}, {target: 'a.test:8000'}]}]\n");
    const char *text =
        json_string_value(json_array_get(json_object_get(json_array_get(json_object_get(errors, "upstreams"), 0), "targets"), 1));
    assert_non_null(text);
    assert_non_null(strstr(text, "uniqueness violation: 'targets' entity with primary key set to"));
    json_decref(errors);
}

static void test_a_consumer_has_a_name_or_a_custom_id(void **state) {
    (void)state;
    assert_id(HEAD "consumers: [{username: my-user}]\n", "consumers", "4b1b701d-de2b-5588-9aa2-3b97061d9f52");
    assert_errors("consumers", "{}", "{\"@entity\":[\"at least one of these fields must be non-empty: 'custom_id', 'username'\"]}");
}

static void test_plugins_are_refused_by_name(void **state) {
    (void)state;
    assert_errors("plugins", "{name: cors}", "{\"name\":\"plugin 'cors' not enabled; add it to the 'plugins' configuration property\"}");
}

static void test_a_filter_may_be_configured_as_a_plugin(void **state) {
    (void)state;
    assert_errors("plugins", "{name: add}", "{\"@entity\":[\"at least one of these fields must be non-empty: 'service', 'route'\"]}");
    assert_errors("plugins", "{name: typed, route: {id: 5d9ba7ac-6ac6-4e5f-a2e0-2e2ee1c9b2a1}, config: {n: x}}",
                  "{\"config\":\"property n validation failed: wrong type: expected integer, got string\"}");
    assert_errors("plugins", "{name: typed, route: {id: 5d9ba7ac-6ac6-4e5f-a2e0-2e2ee1c9b2a1}}",
                  "{\"config\":\"wrong type: expected object, got null\"}");
}

static void test_a_filter_as_a_plugin_has_one_place_and_no_consumer(void **state) {
    (void)state;
    const char *id = "{id: 5d9ba7ac-6ac6-4e5f-a2e0-2e2ee1c9b2a1}";
    char text[256];
    snprintf(text, sizeof(text), "{name: add, route: %s, consumer: %s}", id, id);
    assert_errors("plugins", text, "{\"consumer\":\"value must be null\"}");
    snprintf(text, sizeof(text), "{name: add, route: %s, service: %s}", id, id);
    assert_errors("plugins", text, "{\"@entity\":[\"only one or none of these fields must be set: 'service', 'route'\"]}");
}

/* ---- the document --------------------------------------------------------------------------------------------------------- */

static void assert_document_errors(const char *text, const char *expected) {
    json_t *errors = test_errors(text);
    test_json_equal(errors, expected);
    json_decref(errors);
}

static void test_the_format_version_is_a_known_text(void **state) {
    (void)state;
    assert_document_errors("services: []", "{\"_format_version\":\"" MISSING "\"}");
    assert_document_errors("_format_version: 3.0", "{\"_format_version\":\"expected one of: 1.1, 2.1, 3.0\"}");
    assert_document_errors("_format_version: '9'", "{\"_format_version\":\"expected one of: 1.1, 2.1, 3.0\"}");
}

static void test_unknown_and_refused_keys_are_named(void **state) {
    (void)state;
    assert_document_errors(HEAD "_info: {}\nthings: []\nfilter-chains: []\nvaults: []\n_transform: x\n_comment: 1\n_ignore: 2\n",
                           "{\"_info\":\"unknown field\",\"things\":\"unknown field\",\"filter-chains\":\"unknown field\","
                           "\"vaults\":\"vaults are not supported by this gateway\",\"_transform\":\"expected a boolean\","
                           "\"_comment\":\"expected a string\",\"_ignore\":\"expected an array\"}");
}

static void test_a_field_called_like_the_place_of_entity_errors_is_unknown(void **state) {
    (void)state;
    assert_errors("services", "{'@entity': {x: 1}, host: h}", "{\"@entity\":[\"unknown field '@entity'\"]}");
    assert_document_errors(HEAD "'@entity': 1", "{\"@entity\":[\"unknown field\"]}");
}

static void test_comments_and_ignored_things_are_allowed_everywhere(void **state) {
    (void)state;
    json_t *entities =
        test_entities(HEAD "_comment: hi\n_ignore: [1]\n_transform: false\nservices: [{host: h, _comment: x, _ignore: [{}]}]\nroutes:\n");
    assert_null(json_object_get(test_only(entities, "services"), "_comment"));
    json_decref(entities);
}

static void test_collections_are_lists_of_records(void **state) {
    (void)state;
    assert_document_errors(HEAD "services: x\nroutes: [1]\n", "{\"services\":\"expected an array\",\"routes\":[\"expected a record\"]}");
}

static void test_positions_of_errors_are_kept(void **state) {
    (void)state;
    assert_document_errors(HEAD "services: [{host: a}, {}, {host: c}]\n", "{\"services\":[null,{\"host\":\"" MISSING "\"}]}");
}

static void test_after_a_thousand_bad_entities_the_rest_is_not_checked(void **state) {
    (void)state;
    sl_buf_t text;
    sl_buf_init(&text, 1 << 20);
    sl_buf_printf(&text, "{\"_format_version\": \"3.0\", \"services\": [");
    for (int i = 0; i < 1500; i++) {
        sl_buf_printf(&text, "%s{\"name\": \"s%d\"}", i == 0 ? "" : ",", i);
    }
    sl_buf_printf(&text, "], \"routes\": [{\"paths\": 1}]}");
    json_t *errors = test_errors(sl_buf_cstr(&text));
    const json_t *services = json_object_get(errors, "services");
    assert_int_equal(json_array_size(services), 1001);
    test_json_equal(json_array_get(services, 999), "{\"host\": \"required field missing\"}");
    test_json_equal(json_array_get(services, 1000), "\"not checked, like all after it: too many have errors\"");
    assert_null(json_object_get(errors, "routes"));
    json_decref(errors);
    sl_buf_deinit(&text);
}

static void test_errors_of_children_stand_below_their_parents(void **state) {
    (void)state;
    assert_document_errors(HEAD "services: [{routes: [{paths: [x], filter_chains: [{filters: [{name: nope}]}]}]}]\n",
                           "{\"services\":[{\"host\":\"" MISSING
                           "\",\"routes\":[{\"paths\":[\"should start with: / (fixed path) or ~/ (regex path)\"],"
                           "\"filter_chains\":[{\"filters\":[{\"name\":\"no such filter\"}]}]}]}]}");
}

static void test_a_child_does_not_name_its_parent_unless_it_is_right(void **state) {
    (void)state;
    assert_document_errors(HEAD "services: [{name: a, host: h, routes: [{paths: [/], service: b}]}]\n",
                           "{\"services\":[{\"routes\":[{\"service\":\"value must be null\"}]}]}");
    json_decref(test_entities(HEAD "services: [{name: a, host: h, routes: [{paths: [/], service: a}]}]\n"));
    json_decref(test_entities(HEAD "services: [{id: " SERVICE_ID ", host: h, routes: [{paths: [/], service: {id: " SERVICE_ID "}}]}]\n"));
}

static void test_references_by_name_and_by_id_are_resolved(void **state) {
    (void)state;
    static const char *const refs[] = {"s", SERVICE_ID, "{id: " SERVICE_ID "}", "{name: s}"};
    for (size_t i = 0; i < sizeof(refs) / sizeof(refs[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text), HEAD "services: [{name: s, id: " SERVICE_ID ", host: h}]\nroutes: [{paths: [/], service: %s}]\n",
                 refs[i]);
        json_t *entities = test_entities(text);
        test_json_equal(json_object_get(test_only(entities, "routes"), "service"), "{\"id\":\"" SERVICE_ID "\"}");
        json_decref(entities);
    }
}

static void test_a_reference_to_nothing_is_an_error_of_the_entity(void **state) {
    (void)state;
    assert_document_errors(HEAD "routes: [{name: r, paths: [/], service: ghost}]\n",
                           "{\"routes\":{\"r\":[\"invalid reference 'service: ghost' (no such entry in 'services')\"]}}");
    assert_document_errors(HEAD "routes: [{name: r, paths: [/], service: {id: " SERVICE_ID "}}]\n",
                           "{\"routes\":{\"r\":[\"invalid reference 'service: " SERVICE_ID "' (no such entry in 'services')\"]}}");
    assert_document_errors(HEAD "routes: [{name: r, paths: [/], service: {}}]\n",
                           "{\"routes\":[{\"service\":{\"id\":\"missing primary key\"}}]}");
}

static void test_names_ids_and_other_unique_fields_are_unique(void **state) {
    (void)state;
    assert_document_errors(HEAD "services: [{name: foo, host: a}, {name: foo, host: b}]\n",
                           "{\"services\":[null,\"uniqueness violation: 'services' entity with name set to 'foo' already declared\"]}");
    assert_document_errors(HEAD "services: [{id: " SERVICE_ID ", host: a}, {id: " SERVICE_ID ", host: b}]\n",
                           "{\"services\":[null,\"uniqueness violation: 'services' entity with primary key set to '" SERVICE_ID
                           "' already declared\"]}");
    assert_document_errors(
        HEAD "consumers: [{username: foo, custom_id: x}, {username: bar, custom_id: x}]\n",
        "{\"consumers\":{\"bar\":\"uniqueness violation: 'consumers' entity with custom_id set to 'x' already declared\"}}");
}

static void test_paths_of_older_formats_are_rewritten(void **state) {
    (void)state;
    json_t *entities = test_entities(
        "_format_version: '1.1'\nservices: [{host: h, routes: [{paths: ['/a/./b', '/x[0-9]+', '/%61(b)', '/%7E/%5B', '/d%2Ee']}]}]\n");
    test_json_equal(json_object_get(test_only(entities, "routes"), "paths"), "[\"/a/b\",\"~/x[0-9]+\",\"~/a(b)\",\"/~/%5B\",\"/d.e\"]");
    json_decref(entities);
    entities = test_entities("_format_version: '2.1'\nroutes: [{paths: ['/a%2eb+']}]\n");
    test_json_equal(json_object_get(test_only(entities, "routes"), "paths"), "[\"~/a\\\\.b+\"]");
    json_decref(entities);
}

static void test_certificates_may_hold_server_names_as_children(void **state) {
    (void)state;
    json_t *entities = test_entities(HEAD "snis: []\nconsumers: [{username: u}]\n");
    assert_int_equal(json_object_size(json_object_get(entities, "snis")), 0);
    json_decref(entities);
}

static void test_what_is_exported_loads_as_the_same_entities(void **state) {
    (void)state;
    gw_validate_env_t env = test_env();
    sl_buf_t yaml;
    json_t *doc, *again, *errors,
        *entities = test_entities(
            HEAD "services: [{name: s, host: h, tags: [a], routes: [{name: r, paths: [/x], headers: {a: [b]}, filter_chains: ["
                 "{filters: [{name: add, config: '{\"a\": 1}'}]}]}]}]\nupstreams: [{name: u, targets: [{target: t}]}]\n");
    sl_buf_init(&yaml, 1 << 20);
    assert_int_equal(gw_config_export(entities, &yaml), SL_OK);
    doc = test_parse(sl_buf_cstr(&yaml));
    assert_int_equal(gw_config_validate(doc, &env, &again, &errors), SL_OK);
    assert_true(json_equal(entities, again));
    sl_buf_deinit(&yaml);
    json_decref(doc);
    json_decref(again);
    json_decref(entities);
}

/* Ids in the order of the document, collections in the order of their tables: so that both say the same. */
static void test_a_plan_is_exported_as_its_entities_are(void **state) {
    (void)state;
    json_t *entities = test_entities(HEAD "services: [{id: 11111111-1111-4111-8111-111111111111, name: s, host: h, tags: [a, \"null\"]},"
                                          "{id: 22222222-2222-4222-8222-222222222222, name: t, host: h, filter_chains: [{id: "
                                          "44444444-4444-4444-8444-444444444444, filters: [{name: add, config: 'first\n\nlast: 1'}]}]}]\n"
                                          "consumers: [{id: 33333333-3333-4333-8333-333333333333, username: \"on\"}]\n");
    gw_plan_conf_t conf = {.generation = 1};
    gw_plan_t *plan;
    sl_buf_t image, expected, got;
    sl_buf_init(&image, 1 << 20);
    sl_buf_init(&expected, 1 << 20);
    sl_buf_init(&got, 1 << 20);
    assert_int_equal(gw_plan_build(entities, &conf, &image, NULL), SL_OK);
    assert_int_equal(gw_plan_open(sl_buf_str(&image), &plan, NULL), SL_OK);
    assert_int_equal(gw_config_export_plan(plan, &got), SL_OK);
    json_t *doc = test_parse(sl_buf_cstr(&got)), *again, *errors;
    gw_validate_env_t env = test_env();
    assert_int_equal(gw_config_validate(doc, &env, &again, &errors), SL_OK);
    assert_true(json_equal(entities, again));
    json_t *sorted = json_object();
    for (const gw_entity_t *kind = gw_entities; kind->name != NULL; kind++) {
        if (json_object_get(entities, kind->name) != NULL) {
            json_object_set(sorted, kind->name, json_object_get(entities, kind->name));
        }
    }
    assert_int_equal(gw_config_export(sorted, &expected), SL_OK);
    assert_string_equal(sl_buf_cstr(&got), sl_buf_cstr(&expected));
    gw_plan_close(plan);
    sl_buf_deinit(&image);
    sl_buf_deinit(&expected);
    sl_buf_deinit(&got);
    json_decref(doc);
    json_decref(again);
    json_decref(sorted);
    json_decref(entities);
}

/* ---- one entity ----------------------------------------------------------------------------------------------------------- */

static bool find_service(void *ud, const gw_entity_t *kind, sl_str_t key, char id[37]) {
    (void)ud;
    bool found = strcmp(kind->name, "services") == 0 && sl_str_eq(key, SL_STR("s"));
    if (found) {
        memcpy(id, SERVICE_ID, sizeof(SERVICE_ID));
    }
    return found;
}

static sl_status_t validate_route(const char *text, json_t **entity, json_t **errors, bool *unresolved) {
    gw_validate_env_t env = test_env();
    gw_lookup_t lookup = {find_service, NULL};
    json_t *input = test_parse(text);
    gw_validation_t v = {.env = &env, .kind = gw_entity_find(SL_STR("routes")), .mode = GW_INSERT, .lookup = &lookup};
    sl_status_t rc = gw_entity_validate(&v, input, entity, errors);
    json_decref(input);
    *unresolved = v.unresolved;
    return rc;
}

static void test_a_single_entity_resolves_references_by_name(void **state) {
    (void)state;
    json_t *entity, *errors;
    bool unresolved;
    assert_int_equal(validate_route("paths: [/]\nservice: {name: s}\n", &entity, &errors, &unresolved), SL_OK);
    test_json_equal(json_object_get(entity, "service"), "{\"id\":\"" SERVICE_ID "\"}");
    assert_false(unresolved);
    json_decref(entity);
    assert_int_equal(validate_route("paths: [/]\nservice: {name: x}\n", &entity, &errors, &unresolved), SL_INVALID);
    test_json_equal(
        errors,
        "{\"service\":{\"name\":\"the foreign key cannot be resolved with '{name=\\\"x\\\"}' for an existing 'services' entity\"}}");
    assert_true(unresolved);
    json_decref(errors);
}

static void test_a_patch_replaces_lists_and_merges_records(void **state) {
    (void)state;
    gw_validate_env_t env = test_env();
    gw_validation_t v = {.env = &env, .kind = gw_entity_find(SL_STR("upstreams")), .mode = GW_UPDATE};
    json_t *old = test_parse("{\"name\": \"u\", \"tags\": [\"a\", \"b\"], \"healthchecks\": {\"threshold\": 1, \"active\": {\"timeout\": "
                             "2, \"type\": \"tcp\"}}}");
    json_t *patch = test_parse("{\"tags\": [\"c\"], \"healthchecks\": {\"active\": {\"timeout\": 3}}, \"hash_on\": \"ip\"}");
    json_t *merged = gw_entity_merge(&v, old, patch);
    test_json_equal(merged,
                    "{\"name\":\"u\",\"tags\":[\"c\"],\"healthchecks\":{\"threshold\":1,\"active\":{\"timeout\":3,\"type\":\"tcp\"}},"
                    "\"hash_on\":\"ip\",\"algorithm\":\"consistent-hashing\"}");
    json_decref(old);
    json_decref(patch);
    json_decref(merged);
}

/* ---- memory --------------------------------------------------------------------------------------------------------------- */

static void visit_failures(const char *text, sl_status_t expected) {
    gw_validate_env_t env = test_env();
    json_t *doc = test_parse(text);
    for (unsigned nth = 1;; nth++) {
        json_t *entities = NULL, *errors = NULL;
        fail_alloc_at(nth);
        sl_status_t rc = gw_config_validate(doc, &env, &entities, &errors);
        unsigned seen = fail_alloc_seen();
        fail_alloc_at(0);
        json_decref(entities);
        json_decref(errors);
        if (seen < nth) {
            assert_int_equal(rc, expected);
            break;
        }
        assert_int_equal(rc, SL_NO_MEMORY);
    }
    json_decref(doc);
}

static void test_every_failing_allocation_of_a_validation_ends_cleanly(void **state) {
    (void)state;
    json_set_alloc_funcs(malloc, free);
    visit_failures(
        HEAD
        "services: [{name: s, url: 'http://h:1/x', tags: [a], routes: [{protocols: [http], paths: [/x], headers: {a: [b]}, filter_chains: ["
        "{filters: [{name: add}]}]}]}]\nroutes: [{hosts: ['*.a'], service: s}]\n",
        SL_OK);
    visit_failures(HEAD "services: [{name: 'a b', tags: [',']}]\nupstreams: [{name: u, hash_on: ip, hash_fallback: ip}]\nroutes: "
                        "[{protocols: [http, tcp]}]\n",
                   SL_INVALID);
    visit_failures(HEAD "services: [{name: a, host: h}, {name: a, host: h}]\n", SL_INVALID);
    visit_failures(HEAD "routes: [{name: r, paths: [/], service: ghost}]\n", SL_INVALID);
    visit_failures(HEAD "consumers: [{username: foo, custom_id: x}, {username: bar, custom_id: x}]\n", SL_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_service_gets_every_field_and_default),
        cmocka_unit_test(test_url_is_split_into_its_parts),
        cmocka_unit_test(test_url_overrides_the_separate_fields),
        cmocka_unit_test(test_a_url_that_is_none_is_reported_on_its_parts),
        cmocka_unit_test(test_all_errors_of_a_service_are_reported_at_once),
        cmocka_unit_test(test_paths_of_services_are_checked),
        cmocka_unit_test(test_hosts_are_names_or_addresses),
        cmocka_unit_test(test_conditional_fields_of_services),
        cmocka_unit_test(test_ids_are_lower_case_in_the_result),
        cmocka_unit_test(test_integral_reals_are_integers),
        cmocka_unit_test(test_a_route_gets_every_field_and_default),
        cmocka_unit_test(test_a_route_needs_something_to_match),
        cmocka_unit_test(test_paths_of_routes_are_fixed_and_normal_or_regexes),
        cmocka_unit_test(test_hosts_of_routes_may_hold_one_wildcard_at_an_end),
        cmocka_unit_test(test_methods_are_upper_case_and_sets_drop_duplicates),
        cmocka_unit_test(test_headers_are_lists_by_name_and_host_is_refused),
        cmocka_unit_test(test_protocols_of_different_families_do_not_mix),
        cmocka_unit_test(test_an_unknown_first_protocol_is_an_unknown_type_of_route),
        cmocka_unit_test(test_fields_that_a_protocol_cannot_have_are_refused),
        cmocka_unit_test(test_stream_addresses_need_an_ip_or_a_port),
        cmocka_unit_test(test_redirect_codes_are_listed),
        cmocka_unit_test(test_a_nested_chain_gets_its_parent_and_a_stable_id),
        cmocka_unit_test(test_a_chain_has_exactly_one_parent),
        cmocka_unit_test(test_filters_must_be_known_and_well_formed),
        cmocka_unit_test(test_a_config_without_schema_is_text_or_null),
        cmocka_unit_test(test_a_config_with_a_schema_is_checked_against_it),
        cmocka_unit_test(test_options_of_filters_appear_where_they_are_set),
        cmocka_unit_test(test_options_of_filters_are_checked),
        cmocka_unit_test(test_two_chains_on_one_parent_collide),
        cmocka_unit_test(test_two_top_level_chains_with_ids_on_one_service_collide),
        cmocka_unit_test(test_the_state_of_wasm_is_reported_whatever_else_is_wrong),
        cmocka_unit_test(test_an_upstream_gets_all_health_check_defaults),
        cmocka_unit_test(test_algorithm_and_hash_input_of_an_upstream_follow_each_other),
        cmocka_unit_test(test_upstream_names_and_hash_fields_are_checked),
        cmocka_unit_test(test_targets_are_formatted_with_a_port),
        cmocka_unit_test(test_the_same_target_twice_collides),
        cmocka_unit_test(test_a_consumer_has_a_name_or_a_custom_id),
        cmocka_unit_test(test_plugins_are_refused_by_name),
        cmocka_unit_test(test_a_filter_may_be_configured_as_a_plugin),
        cmocka_unit_test(test_a_filter_as_a_plugin_has_one_place_and_no_consumer),
        cmocka_unit_test(test_the_format_version_is_a_known_text),
        cmocka_unit_test(test_unknown_and_refused_keys_are_named),
        cmocka_unit_test(test_a_field_called_like_the_place_of_entity_errors_is_unknown),
        cmocka_unit_test(test_comments_and_ignored_things_are_allowed_everywhere),
        cmocka_unit_test(test_collections_are_lists_of_records),
        cmocka_unit_test(test_positions_of_errors_are_kept),
        cmocka_unit_test(test_after_a_thousand_bad_entities_the_rest_is_not_checked),
        cmocka_unit_test(test_errors_of_children_stand_below_their_parents),
        cmocka_unit_test(test_a_child_does_not_name_its_parent_unless_it_is_right),
        cmocka_unit_test(test_references_by_name_and_by_id_are_resolved),
        cmocka_unit_test(test_a_reference_to_nothing_is_an_error_of_the_entity),
        cmocka_unit_test(test_names_ids_and_other_unique_fields_are_unique),
        cmocka_unit_test(test_paths_of_older_formats_are_rewritten),
        cmocka_unit_test(test_certificates_may_hold_server_names_as_children),
        cmocka_unit_test(test_what_is_exported_loads_as_the_same_entities),
        cmocka_unit_test(test_a_plan_is_exported_as_its_entities_are),
        cmocka_unit_test(test_a_single_entity_resolves_references_by_name),
        cmocka_unit_test(test_a_patch_replaces_lists_and_merges_records),
        cmocka_unit_test(test_every_failing_allocation_of_a_validation_ends_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
