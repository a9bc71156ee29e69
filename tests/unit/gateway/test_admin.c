#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "gw_admin.h"
#include "gw_config_support.h"

#define SERVICE_ID "0855b320-0dd2-547d-891d-601e9b38647f" /* my-service */
#define ROUTE_ID "481a9539-f49c-51b6-b2e2-fe99ee68866c"   /* my-route */
#define ABSENT_ID "11111111-1111-4111-8111-111111111111"
#define ZERO_HASH "00000000000000000000000000000000"
#define NOT_FOUND "{\"message\":\"Not found\"}"
#define JSON "application/json"

static const char document[] =
    "_format_version: '3.0'\n"
    "services:\n"
    "- {name: my-service, host: h, tags: [a, b], filter_chains: [{name: c1, filters: [{name: add, config: x}, {name: set, enabled: "
    "false}]}],\n"
    "   routes: [{name: my-route, paths: [/], tags: [a], filter_chains: [{name: c2, enabled: false, filters: [{name: add}]}]}]}\n"
    "- {name: other, host: h, tags: [b], routes: [{name: other-route, paths: [/o]}]}\n"
    "routes: [{name: lonely, paths: [/l]}]\n"
    "consumers: [{username: u, custom_id: x}]\n"
    "upstreams: [{name: up, targets: [{target: t}]}]\n";

/* One running configuration for all tests. */
static sl_buf_t image;
static gw_plan_t *plan;

typedef struct {
    gw_admin_request_t req;
    gw_admin_env_t env;
    gw_admin_response_t resp;
    gw_admin_replace_t replace;
    gw_admin_next_t next;
} call_t;

static void call_init(call_t *c) {
    memset(c, 0, sizeof(*c));
    c->env.plan = plan;
    c->env.validate = test_env();
    c->env.info = (gw_admin_info_t){.version = "0.1.0", .node_id = ABSENT_ID, .hostname = "node", .wasm_enabled = true, .db_less = true};
    sl_buf_init(&c->resp.body, 1 << 22);
    sl_buf_init(&c->resp.headers, 65536);
}

static void call_deinit(call_t *c) {
    sl_buf_deinit(&c->resp.body);
    sl_buf_deinit(&c->resp.headers);
    json_decref(c->replace.entities);
}

static void call_run(call_t *c, const char *method, const char *target) {
    const char *query = strchr(target, '?');
    c->req.method = sl_cstr(method);
    c->req.path = query != NULL ? sl_str(target, (size_t)(query - target)) : sl_cstr(target);
    c->req.query = query != NULL ? sl_cstr(query + 1) : SL_STR_NULL;
    c->next = gw_admin_handle(&c->req, &c->env, &c->resp, &c->replace);
}

static void call_with_body(call_t *c, const char *method, const char *target, const char *type, const char *body) {
    c->req.content_type = sl_cstr(type);
    c->req.n_content_types = type != NULL;
    c->req.body = sl_cstr(body);
    call_run(c, method, target);
}

static const char *body_of(call_t *c) {
    const char *text = sl_buf_cstr(&c->resp.body);
    return text != NULL ? text : "";
}

static void assert_answer(call_t *c, int status, const char *body) {
    if (c->resp.status != status || strcmp(body_of(c), body) != 0) {
        fail_msg("%d %s\ninstead of\n%d %s", c->resp.status, body_of(c), status, body);
    }
}

static void assert_call(const char *method, const char *target, int status, const char *body) {
    call_t c;
    call_init(&c);
    call_run(&c, method, target);
    assert_answer(&c, status, body);
    call_deinit(&c);
}

static void assert_write(const char *method, const char *target, const char *type, const char *sent, int status, const char *body) {
    call_t c;
    call_init(&c);
    call_with_body(&c, method, target, type, sent);
    assert_answer(&c, status, body);
    call_deinit(&c);
}

static json_t *get_json(const char *target) {
    call_t c;
    call_init(&c);
    call_run(&c, "GET", target);
    assert_int_equal(c.resp.status, 200);
    assert_string_equal(c.resp.content_type, "application/json; charset=utf-8");
    json_t *value = json_loads(body_of(&c), 0, NULL);
    assert_non_null(value);
    call_deinit(&c);
    return value;
}

static void assert_names(const char *target, const char *expected) {
    json_t *page = get_json(target), *names = json_array();
    size_t i;
    json_t *entity;
    json_array_foreach(json_object_get(page, "data"), i, entity) {
        json_array_append(names, json_object_get(entity, "name"));
    }
    test_json_equal(names, expected);
    json_decref(names);
    json_decref(page);
}

/* ---- paths and methods ------------------------------------------------------------------------------------------------------ */

static void test_unknown_paths_are_not_found_with_every_method(void **state) {
    (void)state;
    static const char *const paths[] = {"/x", "/services/a/b", "/services/a/routes/b/c", "/targets", "/targets/x", "/snis/x/certificate",
                                        "//", "/services//x",  "/a/b/c/d/e/f/g/h"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        assert_call("GET", paths[i], 404, NOT_FOUND);
        assert_call("OPTIONS", paths[i], 404, NOT_FOUND);
    }
}

static void test_a_slash_at_the_end_does_not_matter(void **state) {
    (void)state;
    assert_names("/routes/", "[\"my-route\",\"lonely\",\"other-route\"]");
    assert_call("GET", "/services/absent/", 404, NOT_FOUND);
}

static void test_methods_that_a_path_does_not_know_are_405(void **state) {
    (void)state;
    static const char *const calls[][2] = {{"PUT", "/services"},    {"DELETE", "/routes"}, {"PATCH", "/services/x/routes"},
                                           {"POST", "/services/x"}, {"BREW", "/services"}, {"POST", "/status"},
                                           {"DELETE", "/config"},   {"POST", "/"}};
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        assert_call(calls[i][0], calls[i][1], 405, "{\"message\":\"Method not allowed\"}");
    }
}

static void assert_options(const char *target, const char *asked, const char *methods, const char *headers) {
    call_t c;
    char expected[512];
    call_init(&c);
    c.req.accept_headers = sl_cstr(asked);
    call_run(&c, "OPTIONS", target);
    snprintf(expected, sizeof(expected), "Allow: %s\nAccess-Control-Allow-Methods: %s\nAccess-Control-Allow-Headers: %s\n", methods,
             methods, headers);
    assert_answer(&c, 204, "");
    assert_string_equal(sl_buf_cstr(&c.resp.headers), expected);
    call_deinit(&c);
}

static void test_options_lists_the_methods_of_a_path(void **state) {
    (void)state;
    assert_options("/services", NULL, "GET, HEAD, OPTIONS, POST", "Content-Type");
    assert_options("/services/x", "X-A, X-B", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT", "X-A, X-B");
    assert_options("/status", "X\r\nEvil: 1", "GET, HEAD, OPTIONS", "Content-Type");
}

static void test_collections_of_other_gateways_are_refused_by_name(void **state) {
    (void)state;
    assert_call("GET", "/vaults", 404, "{\"message\":\"vaults are not supported by this gateway\"}");
    assert_call("POST", "/key-sets/x", 404, "{\"message\":\"key sets are not supported by this gateway\"}");
}

static void test_readiness_says_why_not(void **state) {
    (void)state;
    assert_call("GET", "/status/ready", 200, "{\"message\":\"ready\"}");
    call_t c;
    call_init(&c);
    c.env.info.not_ready = "draining";
    call_run(&c, "GET", "/status/ready");
    assert_answer(&c, 503, "{\"message\":\"draining\"}");
    call_deinit(&c);
}

static void remember_level(void *ud, const char *level, unsigned seconds) {
    snprintf(ud, 64, "%s for %u", level, seconds);
}

static void assert_level(const char *target, int status, const char *body, const char *set) {
    char done[64] = "";
    call_t c;
    call_init(&c);
    c.env.info.db_less = false;
    c.env.info.log_level = "notice";
    c.env.set_log_level = remember_level;
    c.env.host_ud = done;
    call_run(&c, "PUT", target);
    assert_answer(&c, status, body);
    assert_string_equal(done, set);
    call_deinit(&c);
}

static void test_a_log_level_is_handed_on_when_it_is_another(void **state) {
    (void)state;
    assert_level("/debug/node/log-level/debug", 200, "{\"message\":\"log level changed\"}", "debug for 60");
    assert_level("/debug/cluster/log-level/warn?timeout=0", 200, "{\"message\":\"log level changed\"}", "warn for 0");
    assert_level("/debug/node/log-level/notice", 200, "{\"message\":\"log level is already notice\"}", "");
    assert_level("/debug/node/log-level/x", 400, "{\"message\":\"unknown log level: x\"}", "");
    assert_level("/debug/node/log-level/warn?timeout=1x", 400, "{\"message\":\"timeout must be a number of seconds\"}", "");
    assert_call("PUT", "/debug/node/log-level/warn", 405, "{\"message\":\"cannot change log level when not using a database\"}");
}

static void test_the_health_of_an_upstream_lists_its_targets(void **state) {
    (void)state;
    json_t *health = get_json("/upstreams/up/health"), *row = json_array_get(json_object_get(health, "data"), 0);
    assert_string_equal(json_string_value(json_object_get(row, "target")), "t:8000");
    assert_string_equal(json_string_value(json_object_get(row, "health")), "HEALTHCHECKS_OFF");
    test_json_equal(json_object_get(row, "data"),
                    "{\"host\":\"t\",\"port\":8000,\"nodeWeight\":100,\"weight\":{\"total\":100,\"available\":100,\"unavailable\":0}}");
    json_decref(health);
    assert_call("GET", "/upstreams/absent/health", 404, NOT_FOUND);
}

static void test_endpoints_are_listed_segment_by_segment(void **state) {
    (void)state;
    json_t *list = get_json("/endpoints"), *data = json_object_get(list, "data");
    assert_string_equal(json_string_value(json_array_get(data, 0)), "/");
    bool found = false;
    for (size_t i = 0; i < json_array_size(data); i++) {
        found = found || strcmp(json_string_value(json_array_get(data, i)), "/services/{services}/filter-chains/{filter_chains}") == 0;
    }
    assert_true(found);
    json_decref(list);
}

/* ---- reads -------------------------------------------------------------------------------------------------------------------- */

static void test_an_entity_is_found_by_name_and_by_id(void **state) {
    (void)state;
    json_t *by_name = get_json("/services/my-service"), *by_id = get_json("/services/" SERVICE_ID),
           *upper = get_json("/services/0855B320-0DD2-547D-891D-601E9B38647F");
    assert_true(json_equal(by_name, by_id));
    assert_true(json_equal(by_name, upper));
    test_json_equal(json_object_get(by_name, "tls_verify"), "null");
    assert_null(json_object_get(by_name, "ws_id"));
    json_decref(by_name);
    json_decref(by_id);
    json_decref(upper);
    assert_call("GET", "/services/absent", 404, NOT_FOUND);
    assert_call("GET", "/services/" ABSENT_ID, 404, NOT_FOUND);
}

static void test_names_in_paths_are_percent_decoded(void **state) {
    (void)state;
    json_decref(get_json("/services/my%2Dservice"));
    assert_call("GET", "/services/a%00b", 404, NOT_FOUND);
    assert_call("PUT", "/services/a%ff", 404, NOT_FOUND);
}

static void test_collections_have_pages(void **state) {
    (void)state;
    json_t *first = get_json("/routes?size=2"), *data = json_object_get(first, "data");
    assert_int_equal(json_array_size(data), 2);
    const char *next = json_string_value(json_object_get(first, "next"));
    assert_non_null(next);
    assert_non_null(strstr(next, "/routes?offset="));
    assert_non_null(strstr(next, "&size=2"));
    assert_true(json_is_string(json_object_get(first, "offset")));
    json_t *second = get_json(next);
    assert_int_equal(json_array_size(json_object_get(second, "data")), 1);
    test_json_equal(json_object_get(second, "next"), "null");
    assert_null(json_object_get(second, "offset"));
    json_decref(first);
    json_decref(second);
}

static void test_an_exactly_full_page_is_the_last_one(void **state) {
    (void)state;
    json_t *page = get_json("/routes?size=3");
    test_json_equal(json_object_get(page, "next"), "null");
    json_decref(page);
}

static void test_empty_collections_print_an_empty_list(void **state) {
    (void)state;
    assert_call("GET", "/plugins", 200, "{\"data\":[],\"next\":null}");
    assert_call("GET", "/routes/lonely/filter-chains", 200, "{\"data\":[],\"next\":null}");
}

static void test_bad_sizes_and_offsets_are_refused(void **state) {
    (void)state;
    assert_call("GET", "/services?size=x", 400, "{\"code\":9,\"name\":\"invalid size\",\"message\":\"size must be a number\"}");
    assert_call("GET", "/services?size=1.5", 400,
                "{\"code\":9,\"name\":\"invalid size\",\"message\":\"size must be an integer between 1 and 1000\"}");
    assert_call("GET", "/services?size=1001", 400,
                "{\"code\":9,\"name\":\"invalid size\",\"message\":\"size must be an integer between 1 and 1000\"}");
    assert_call("GET", "/services?offset=*", 400,
                "{\"code\":7,\"name\":\"invalid offset\",\"message\":\"'*' is not a valid offset: bad base64 encoding\"}");
    assert_call("GET", "/services?offset=YWJj", 400,
                "{\"code\":7,\"name\":\"invalid offset\",\"message\":\"'YWJj' is not a valid offset: bad json encoding\"}");
}

static void test_tags_filter_with_all_and_any(void **state) {
    (void)state;
    assert_names("/services?tags=a,b", "[\"my-service\"]");
    assert_names("/services?tags=b", "[\"my-service\",\"other\"]");
    assert_names("/services?tags=a/z", "[\"my-service\"]");
    assert_names("/services?tags=z", "[]");
    assert_names("/services/my-service/routes?tags=a", "[\"my-route\"]");
    assert_call("GET", "/services?tags=a,b/c", 400,
                "{\"code\":11,\"name\":\"invalid options\",\"message\":\"invalid option (tags: invalid filter "
                "syntax)\",\"options\":{\"tags\":\"invalid filter syntax\"}}");
    assert_call("GET", "/services?tags=", 400,
                "{\"code\":11,\"name\":\"invalid options\",\"message\":\"invalid option (tags: cannot be "
                "null)\",\"options\":{\"tags\":\"cannot be null\"}}");
}

static void test_nested_paths_show_children_and_parents(void **state) {
    (void)state;
    assert_names("/services/my-service/routes", "[\"my-route\"]");
    assert_names("/services/my-service/filter-chains", "[\"c1\"]");
    assert_names("/routes/my-route/filter-chains", "[\"c2\"]");
    json_t *service = get_json("/routes/my-route/service");
    test_json_equal(json_object_get(service, "name"), "\"my-service\"");
    json_decref(service);
    json_t *route = get_json("/services/my-service/routes/my-route");
    test_json_equal(json_object_get(route, "id"), "\"" ROUTE_ID "\"");
    json_decref(route);
    json_t *chain_service = get_json("/filter-chains/c1/service");
    test_json_equal(json_object_get(chain_service, "id"), "\"" SERVICE_ID "\"");
    json_decref(chain_service);
}

static void test_nested_paths_check_who_owns_what(void **state) {
    (void)state;
    assert_call("GET", "/services/other/routes/my-route", 404, NOT_FOUND);
    assert_call("GET", "/services/absent/routes", 404, NOT_FOUND);
    assert_call("GET", "/routes/lonely/service", 404, NOT_FOUND);
}

static void test_targets_live_below_their_upstream(void **state) {
    (void)state;
    json_t *page = get_json("/upstreams/up/targets"), *all = get_json("/upstreams/up/targets/all");
    assert_int_equal(json_array_size(json_object_get(page, "data")), 1);
    assert_true(json_equal(page, all));
    json_t *target = get_json("/upstreams/up/targets/t:8000");
    test_json_equal(json_object_get(target, "weight"), "100");
    json_decref(target);
    json_decref(page);
    json_decref(all);
}

static void test_consumers_are_found_by_custom_id(void **state) {
    (void)state;
    json_t *page = get_json("/consumers?custom_id=x");
    assert_int_equal(json_array_size(json_object_get(page, "data")), 1);
    json_decref(page);
    assert_call("GET", "/consumers?custom_id=y", 200, "{\"data\":[],\"next\":null}");
}

static void test_tags_have_rows_for_each_entity(void **state) {
    (void)state;
    assert_call("GET", "/tags/a", 200,
                "{\"data\":[{\"tag\":\"a\",\"entity_name\":\"services\",\"entity_id\":\"" SERVICE_ID "\"},"
                "{\"tag\":\"a\",\"entity_name\":\"routes\",\"entity_id\":\"" ROUTE_ID "\"}],\"next\":null}");
    json_t *page = get_json("/tags?size=3");
    assert_int_equal(json_array_size(json_object_get(page, "data")), 3);
    json_t *rest = get_json(json_string_value(json_object_get(page, "next")));
    assert_int_equal(json_array_size(json_object_get(rest, "data")), 1);
    json_decref(page);
    json_decref(rest);
}

static void test_filters_of_a_route_come_in_execution_order(void **state) {
    (void)state;
    json_t *all = get_json("/routes/my-route/filters/all"), *filters = json_object_get(all, "filters");
    assert_int_equal(json_array_size(filters), 3);
    const json_t *first = json_array_get(filters, 0);
    test_json_equal(json_object_get(first, "from"), "\"service\"");
    test_json_equal(json_object_get(first, "config"), "\"x\"");
    test_json_equal(json_object_get(json_object_get(first, "filter_chain"), "name"), "\"c1\"");
    test_json_equal(json_object_get(json_array_get(filters, 2), "from"), "\"route\"");
    json_decref(all);
    json_t *enabled = get_json("/routes/my-route/filters/enabled"), *disabled = get_json("/routes/my-route/filters/disabled");
    assert_int_equal(json_array_size(json_object_get(enabled, "filters")), 1);
    assert_int_equal(json_array_size(json_object_get(disabled, "filters")), 2);
    json_decref(enabled);
    json_decref(disabled);
    assert_call("GET", "/routes/lonely/filters/all", 200, "{\"filters\":[]}");
    assert_call("GET", "/routes/absent/filters/all", 404, NOT_FOUND);
}

static void test_without_wasm_every_chain_path_says_so(void **state) {
    (void)state;
    static const char *const paths[] = {"/filter-chains", "/filter-chains/x", "/filter-chains/x/route", "/services/absent/filter-chains",
                                        "/routes/absent/filters/all"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        call_t c;
        call_init(&c);
        c.env.info.wasm_enabled = false;
        call_run(&c, "GET", paths[i]);
        assert_answer(&c, 400, "{\"message\":\"this endpoint is only available when wasm is enabled\"}");
        call_deinit(&c);
    }
}

/* ---- node information --------------------------------------------------------------------------------------------------------- */

static void test_root_and_status_describe_the_node(void **state) {
    (void)state;
    json_t *root = get_json("/"), *status = get_json("/status?unit=k");
    test_json_equal(json_object_get(root, "version"), "\"0.1.0\"");
    test_json_equal(json_object_get(root, "pids"), "{\"master\":0,\"workers\":[]}");
    test_json_equal(json_object_get(status, "configuration_hash"), "\"" ZERO_HASH "\"");
    assert_null(json_object_get(status, "database"));
    assert_non_null(json_object_get(json_object_get(status, "server"), "total_requests"));
    json_decref(root);
    json_decref(status);
    call_t c;
    call_init(&c);
    call_run(&c, "GET", "/status?unit=x");
    assert_int_equal(c.resp.status, 400);
    call_deinit(&c);
}

static void what_can_be_no_key_is_refused_instead_of_looked_for(void **state) {
    (void)state;
    const char *answer =
        "{\"code\":10,\"name\":\"invalid unique name\",\"message\":\"invalid value 'a b': the only accepted ascii characters are "
        "alphanumerics or ., -, _, and ~\",\"fields\":{\"name\":\"invalid value 'a b': the only accepted ascii characters are "
        "alphanumerics or ., -, _, and ~\"}}";
    assert_call("GET", "/services/a%20b", 400, answer);
    assert_call("GET", "/services/a%20b/routes", 400, answer);
    assert_call("GET", "/consumers/a%20b", 404, "{\"message\":\"Not found\"}");
}

static void test_schemas_come_from_the_tables(void **state) {
    (void)state;
    json_t *schema = get_json("/schemas/filter_chains");
    test_json_equal(json_array_get(json_object_get(schema, "fields"), 2),
                    "{\"enabled\":{\"type\":\"boolean\",\"required\":true,\"default\":true}}");
    test_json_equal(json_array_get(json_object_get(schema, "entity_checks"), 0), "{\"mutually_exclusive\":[\"service\",\"route\"]}");
    json_decref(schema);
    assert_call("GET", "/schemas/things", 404, "{\"message\":\"No entity named 'things'\"}");
    assert_call("GET", "/schemas/plugins/cors", 404, "{\"message\":\"No plugin named 'cors'\"}");
    assert_call("GET", "/schemas/filters/nope", 404, "{\"message\":\"Filter 'nope' not found\"}");
    assert_call("GET", "/schemas/filters/add", 200,
                "{\"$schema\":\"http://json-schema.org/draft-04/schema#\",\"type\":[\"string\",\"null\"]}");
}

static void test_schema_validation_stores_nothing(void **state) {
    (void)state;
    assert_write("POST", "/schemas/services/validate", JSON, "{\"host\":\"h\"}", 200, "{\"message\":\"schema validation successful\"}");
    assert_write("POST", "/schemas/services/validate", JSON, "{}", 400,
                 "{\"code\":2,\"name\":\"schema violation\",\"message\":\"schema violation (host: required field "
                 "missing)\",\"fields\":{\"host\":\"required field missing\"}}");
}

/* ---- writes without a database --------------------------------------------------------------------------------------------------- */

#define REFUSED(text) "{\"code\":12,\"name\":\"operation unsupported\",\"message\":\"" text " when not using a database\"}"

static void test_writes_are_validated_and_then_refused(void **state) {
    (void)state;
    assert_write("POST", "/services", JSON, "{\"host\":\"h\"}", 405, REFUSED("cannot create 'services' entities"));
    assert_write("POST", "/services", JSON, "{\"port\":\"x\"}", 400,
                 "{\"code\":2,\"name\":\"schema violation\",\"message\":\"2 schema violations (host: required field missing; port: "
                 "expected an integer)\","
                 "\"fields\":{\"host\":\"required field missing\",\"port\":\"expected an integer\"}}");
    assert_write("PUT", "/services/x", JSON, "{\"host\":\"h\"}", 405, REFUSED("cannot create or update 'services' entities by 'name'"));
    assert_write("PUT", "/services/" ABSENT_ID, JSON, "{\"host\":\"h\"}", 405, REFUSED("cannot create or update 'services' entities"));
    assert_write("PATCH", "/services/my-service", JSON, "{\"port\":1}", 405, REFUSED("cannot update 'services' entities by 'name'"));
    assert_write("PATCH", "/services/" SERVICE_ID, JSON, "{\"port\":-1}", 400,
                 "{\"code\":2,\"name\":\"schema violation\",\"message\":\"schema violation (port: value should be between 0 and "
                 "65535)\",\"fields\":{\"port\":\"value should be "
                 "between 0 and 65535\"}}");
    assert_write("PATCH", "/services/absent", JSON, "{}", 404,
                 "{\"code\":6,\"name\":\"not found\",\"message\":\"could not find the entity with "
                 "'{name=\\\"absent\\\"}'\",\"fields\":{\"name\":\"absent\"}}");
    assert_write("DELETE", "/services/" SERVICE_ID, NULL, NULL, 405, REFUSED("cannot remove 'services' entities"));
    assert_write("POST", "/services/my-service/routes", JSON, "{\"paths\":[\"/\"]}", 405, REFUSED("cannot create 'routes' entities"));
    assert_write("POST", "/services/absent/routes", JSON, "{\"paths\":[\"/\"]}", 404, NOT_FOUND);
}

static void test_a_parent_by_name_must_exist(void **state) {
    (void)state;
    assert_write("POST", "/routes", JSON, "{\"paths\":[\"/\"],\"service\":{\"name\":\"my-service\"}}", 405,
                 REFUSED("cannot create 'routes' entities"));
    call_t c;
    call_init(&c);
    call_with_body(&c, "POST", "/routes", JSON, "{\"paths\":[\"/\"],\"service\":{\"name\":\"x\"}}");
    assert_int_equal(c.resp.status, 400);
    assert_non_null(strstr(body_of(&c), "{\"code\":13,\"name\":\"foreign keys unresolved\""));
    call_deinit(&c);
}

static void test_forms_are_typed_by_the_schema(void **state) {
    (void)state;
    static const char form[] = "application/x-www-form-urlencoded";
    assert_write("POST", "/services", form, "host=h&port=81&enabled=false&tags[]=a&tags[]=b&path=", 405,
                 REFUSED("cannot create 'services' entities"));
    assert_write("POST", "/services", form, "host=h&port=a%20b", 400,
                 "{\"code\":2,\"name\":\"schema violation\",\"message\":\"schema violation (port: expected an "
                 "integer)\",\"fields\":{\"port\":\"expected an integer\"}}");
    assert_write("POST", "/routes", form, "paths=/a&hosts=a.test&hosts=b.test&headers.x-a[1]=1&service.name=my-service", 405,
                 REFUSED("cannot create 'routes' entities"));
    static const char *const chains[] = {"filters[1].name=add&filters[1].config=x&filters[2].name=nope",
                                         "filters[1][name]=add&filters[2][name]=nope"};
    for (size_t i = 0; i < 2; i++) {
        call_t c;
        call_init(&c);
        call_with_body(&c, "POST", "/services/my-service/filter-chains", form, chains[i]);
        assert_int_equal(c.resp.status, 400);
        assert_non_null(strstr(body_of(&c), "\"fields\":{\"filters\":[null,{\"name\":\"no such filter\"}]}"));
        call_deinit(&c);
    }
}

static void test_multipart_forms_are_read(void **state) {
    (void)state;
    static const char type[] = "multipart/form-data; boundary=\"xx\"";
    assert_write("POST", "/services", type,
                 "--xx\r\nContent-Disposition: form-data; name=\"host\"\r\n\r\nh\r\n--xx\r\ncontent-disposition: form-data; "
                 "name=port\r\n\r\n81\r\n--xx--\r\n",
                 405, REFUSED("cannot create 'services' entities"));
    assert_write("POST", "/services", type, "--xx\r\nno end", 400, "{\"message\":\"Cannot parse multipart body\"}");
}

static void test_bodies_of_the_wrong_kind_are_refused(void **state) {
    (void)state;
    assert_write("POST", "/services", JSON, "{\"host\":", 400, "{\"message\":\"Cannot parse JSON body\"}");
    assert_write("POST", "/services", JSON, "{\"host\":\"h\",\"host\":\"h\"}", 400, "{\"message\":\"Cannot parse JSON body\"}");
    assert_write("POST", "/services", "text/plain", "x", 415, "");
    assert_write("POST", "/services", "application/yaml", "x", 415, "");
    assert_write("POST", "/services", NULL, "x", 415, "");
    call_t c;
    call_init(&c);
    c.req.n_content_types = 2;
    c.req.content_type = SL_STR(JSON);
    call_run(&c, "POST", "/services");
    assert_int_equal(c.resp.status, 400);
    assert_string_equal(c.resp.content_type, "text/plain; charset=utf-8");
    call_deinit(&c);
}

static void test_too_many_arguments_are_refused(void **state) {
    (void)state;
    sl_buf_t body;
    sl_buf_init(&body, 65536);
    for (int i = 0; i < 1001; i++) {
        sl_buf_append_cstr(&body, "a=1&");
    }
    assert_write("POST", "/services", "application/x-www-form-urlencoded", sl_buf_cstr(&body), 400, "{\"message\":\"Too many arguments\"}");
    sl_buf_deinit(&body);
}

/* ---- /config ------------------------------------------------------------------------------------------------------------------- */

static void test_the_running_configuration_is_shown_as_yaml(void **state) {
    (void)state;
    json_t *answer = get_json("/config"), *doc = test_parse(json_string_value(json_object_get(answer, "config")));
    test_json_equal(json_object_get(doc, "_transform"), "false");
    assert_int_equal(json_array_size(json_object_get(doc, "routes")), 3);
    json_decref(answer);
    json_decref(doc);
}

static void assert_replaces(const char *type, const char *body) {
    call_t c;
    call_init(&c);
    call_with_body(&c, "POST", "/config", type, body);
    if (c.next != GW_ADMIN_REPLACE) {
        fail_msg("%d %s", c.resp.status, body_of(&c));
    }
    assert_int_equal(json_object_size(json_object_get(c.replace.entities, "services")), 1);
    gw_admin_replaced(&c.replace, SL_OK, NULL, &c.resp);
    json_t *answer = json_loads(body_of(&c), 0, NULL);
    assert_int_equal(c.resp.status, 201);
    assert_true(json_equal(answer, c.replace.entities));
    json_decref(answer);
    call_deinit(&c);
}

static void test_a_document_is_accepted_in_every_encoding(void **state) {
    (void)state;
    assert_replaces(JSON, "{\"_format_version\":\"3.0\",\"services\":[{\"host\":\"h\"}]}");
    assert_replaces(JSON, "{\"config\":\"_format_version: '3.0'\\nservices: [{host: h}]\\n\"}");
    assert_replaces(JSON, "{\"config\":\"{\\\"_format_version\\\":\\\"3.0\\\",\\\"services\\\":[{\\\"host\\\":\\\"h\\\"}]}\"}");
    assert_replaces("application/yaml", "_format_version: '3.0'\nservices: [{host: h}]\n");
    assert_replaces("text/yaml; charset=utf-8", "_format_version: '3.0'\nservices: [{host: h}]\n");
    assert_replaces("application/x-www-form-urlencoded", "config=_format_version%3A+%273.0%27%0Aservices%3A+%5B%7Bhost%3A+h%7D%5D");
    assert_replaces("multipart/form-data; boundary=b",
                    "--b\r\nContent-Disposition: form-data; name=\"config\"; filename=\"kong.yml\"\r\n\r\n_format_version: "
                    "'3.0'\nservices: [{host: h}]\n\r\n--b--");
}

static void test_an_empty_document_is_expected_to_be_one(void **state) {
    (void)state;
    assert_write("POST", "/config", JSON, "{}", 400, "{\"message\":\"expected a declarative configuration\"}");
    assert_write("POST", "/config", JSON, "{\"config\":\"\"}", 400, "{\"message\":\"expected a declarative configuration\"}");
    assert_write("POST", "/config", NULL, "", 400, "{\"message\":\"expected a declarative configuration\"}");
    assert_write("POST", "/config", "application/yaml", "", 400, "{\"message\":\"expected a declarative configuration\"}");
}

static void test_a_text_that_does_not_parse_is_a_declarative_error(void **state) {
    (void)state;
    assert_write("POST", "/config?flatten_errors=1", JSON, "{\"config\":\"bogus\"}", 400,
                 "{\"code\":14,\"name\":\"invalid declarative configuration\",\"message\":\"declarative config is invalid: "
                 "{error=\\\"failed parsing declarative configuration: "
                 "expected an object\\\"}\",\"fields\":{\"error\":\"failed parsing declarative configuration: expected an object\"}}");
}

static void test_an_invalid_document_is_refused_flattened_on_request(void **state) {
    (void)state;
    assert_write("POST", "/config", JSON, "{\"_format_version\":\"3.0\",\"services\":[{}]}", 400,
                 "{\"code\":14,\"name\":\"invalid declarative configuration\",\"message\":\"declarative config is invalid: "
                 "{services={{host=\\\"required field "
                 "missing\\\"}}}\",\"fields\":{\"services\":[{\"host\":\"required field missing\"}]}}");
    call_t c;
    call_init(&c);
    call_with_body(&c, "POST", "/config?flatten_errors=on", JSON, "{\"_format_version\":\"3.0\",\"services\":[{}]}");
    assert_int_equal(c.resp.status, 400);
    assert_non_null(strstr(body_of(&c), "\"fields\":{},\"flattened_errors\":[{\"entity_type\":\"service\""));
    assert_int_equal(c.next, GW_ADMIN_DONE);
    call_deinit(&c);
}

static void test_an_unchanged_document_is_not_loaded_again(void **state) {
    (void)state;
    call_t c;
    sl_buf_t same_image;
    gw_plan_t *same;
    static const char text[] = "{\"_format_version\":\"3.0\"}";
    call_init(&c);
    call_with_body(&c, "POST", "/config", JSON, text);
    assert_int_equal(c.next, GW_ADMIN_REPLACE);
    gw_plan_conf_t conf = {.config_hash = sl_str(c.replace.config_hash, 32)};
    sl_buf_init(&same_image, 1 << 20);
    assert_int_equal(gw_plan_build(c.replace.entities, &conf, &same_image, NULL), SL_OK);
    assert_int_equal(gw_plan_open(sl_buf_str(&same_image), &same, NULL), SL_OK);
    call_deinit(&c);
    call_init(&c);
    c.env.plan = same;
    call_with_body(&c, "POST", "/config?check_hash=1", JSON, text);
    assert_answer(&c, 304, "");
    assert_int_equal(c.next, GW_ADMIN_DONE);
    call_deinit(&c);
    gw_plan_close(same);
    sl_buf_deinit(&same_image);
}

static void test_the_outcome_of_a_replacement_becomes_the_answer(void **state) {
    (void)state;
    static const struct {
        sl_status_t rc;
        int status;
        const char *body;
    } cases[] = {
        {SL_INVALID, 400,
         "{\"code\":14,\"name\":\"invalid declarative configuration\",\"message\":\"declarative config is invalid: {error=\\\"filter add "
         "refused\\\"}\",\"fields\":{\"error\":\"filter "
         "add refused\"}}"},
        {SL_AGAIN, 429, "{\"message\":\"Currently loading previous configuration\"}"},
        {SL_IO, 500, "{\"message\":\"An unexpected error occurred\"}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        call_t c;
        sl_err_t err;
        call_init(&c);
        sl_err_set(&err, SL_INVALID, "filter add refused");
        gw_admin_replaced(&c.replace, cases[i].rc, &err, &c.resp);
        assert_answer(&c, cases[i].status, cases[i].body);
        call_deinit(&c);
    }
}

/* ---- memory --------------------------------------------------------------------------------------------------------------------- */

/*
 * Every allocation of a call fails once: nothing crashes or leaks, and the answer is 500 but where jansson goes on. (Its lexer
 * does not notice when it cannot grow its buffer: the text is then read with a gap, which mostly makes it broken JSON.)
 */
static void visit_failures(const char *method, const char *target, const char *type, const char *body, int status) {
    unsigned seen = 1, failures = 0;
    for (unsigned nth = 1; seen >= nth; nth++) {
        call_t c;
        call_init(&c);
        fail_alloc_at(nth);
        call_with_body(&c, method, target, type, body);
        seen = fail_alloc_seen();
        fail_alloc_at(0);
        if (c.resp.status != status && c.resp.status != 500 && c.resp.status != 400 && c.resp.status != 404) {
            fail_msg("%s %s: allocation %u failed and the answer was %d %s", method, target, nth, c.resp.status, body_of(&c));
        }
        failures += c.resp.status == 500;
        if (seen < nth) {
            assert_int_equal(c.resp.status, status);
        }
        call_deinit(&c);
    }
    assert_true(failures > 0);
}

static void test_every_failing_allocation_ends_cleanly(void **state) {
    (void)state;
    json_set_alloc_funcs(malloc, free);
    visit_failures("GET", "/services?size=1&tags=b", NULL, NULL, 200);
    visit_failures("GET", "/routes/my-route/filters/all", NULL, NULL, 200);
    visit_failures("GET", "/services/my-service/routes/my-route", NULL, NULL, 200);
    visit_failures("POST", "/services", "application/x-www-form-urlencoded", "host=h&tags[1]=a&tags[]=b", 405);
    visit_failures("PATCH", "/services/my-service", JSON, "{\"port\":0.5}", 400);
    visit_failures("GET", "/schemas/routes", NULL, NULL, 200);
    visit_failures("GET", "/endpoints", NULL, NULL, 200);
    visit_failures("GET", "/upstreams/up/health?balancer_health=1", NULL, NULL, 200);
    visit_failures("GET", "/", NULL, NULL, 200);
    visit_failures("POST", "/config?flatten_errors=1", JSON,
                   "{\"_format_version\":\"3.0\",\"services\":[{\"routes\":[{}]}],\"routes\":[{}]}", 400);
}

static int start(void **state) {
    (void)state;
    json_t *entities = test_entities(document);
    sl_err_t err;
    sl_buf_init(&image, 1 << 22);
    gw_plan_conf_t conf = {.config_hash = SL_STR(ZERO_HASH)};
    sl_status_t rc = gw_plan_build(entities, &conf, &image, &err);
    rc = rc == SL_OK ? gw_plan_open(sl_buf_str(&image), &plan, &err) : rc;
    json_decref(entities);
    return rc == SL_OK ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    gw_plan_close(plan);
    sl_buf_deinit(&image);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_paths_are_not_found_with_every_method),
        cmocka_unit_test(test_a_slash_at_the_end_does_not_matter),
        cmocka_unit_test(test_methods_that_a_path_does_not_know_are_405),
        cmocka_unit_test(test_options_lists_the_methods_of_a_path),
        cmocka_unit_test(test_endpoints_are_listed_segment_by_segment),
        cmocka_unit_test(test_collections_of_other_gateways_are_refused_by_name),
        cmocka_unit_test(test_readiness_says_why_not),
        cmocka_unit_test(test_a_log_level_is_handed_on_when_it_is_another),
        cmocka_unit_test(test_the_health_of_an_upstream_lists_its_targets),
        cmocka_unit_test(test_an_entity_is_found_by_name_and_by_id),
        cmocka_unit_test(test_names_in_paths_are_percent_decoded),
        cmocka_unit_test(test_collections_have_pages),
        cmocka_unit_test(test_an_exactly_full_page_is_the_last_one),
        cmocka_unit_test(test_empty_collections_print_an_empty_list),
        cmocka_unit_test(test_bad_sizes_and_offsets_are_refused),
        cmocka_unit_test(test_tags_filter_with_all_and_any),
        cmocka_unit_test(test_nested_paths_show_children_and_parents),
        cmocka_unit_test(test_nested_paths_check_who_owns_what),
        cmocka_unit_test(test_targets_live_below_their_upstream),
        cmocka_unit_test(test_consumers_are_found_by_custom_id),
        cmocka_unit_test(test_tags_have_rows_for_each_entity),
        cmocka_unit_test(test_filters_of_a_route_come_in_execution_order),
        cmocka_unit_test(test_without_wasm_every_chain_path_says_so),
        cmocka_unit_test(test_root_and_status_describe_the_node),
        cmocka_unit_test(test_schemas_come_from_the_tables),
        cmocka_unit_test(test_schema_validation_stores_nothing),
        cmocka_unit_test(test_writes_are_validated_and_then_refused),
        cmocka_unit_test(test_a_parent_by_name_must_exist),
        cmocka_unit_test(test_forms_are_typed_by_the_schema),
        cmocka_unit_test(test_multipart_forms_are_read),
        cmocka_unit_test(test_bodies_of_the_wrong_kind_are_refused),
        cmocka_unit_test(test_too_many_arguments_are_refused),
        cmocka_unit_test(test_the_running_configuration_is_shown_as_yaml),
        cmocka_unit_test(test_a_document_is_accepted_in_every_encoding),
        cmocka_unit_test(test_an_empty_document_is_expected_to_be_one),
        cmocka_unit_test(test_a_text_that_does_not_parse_is_a_declarative_error),
        cmocka_unit_test(test_an_invalid_document_is_refused_flattened_on_request),
        cmocka_unit_test(test_an_unchanged_document_is_not_loaded_again),
        cmocka_unit_test(test_the_outcome_of_a_replacement_becomes_the_answer),
        cmocka_unit_test(what_can_be_no_key_is_refused_instead_of_looked_for),
        cmocka_unit_test(test_every_failing_allocation_ends_cleanly),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
