#include "gw_explain.h"

#include "plan_fixture.h"

static const char entities[] =
    "{'services':{'00000000-0000-4000-8000-000000000001':{'id':'00000000-0000-4000-8000-000000000001','name':'s','host':'up.test',"
    "'port':8080,'protocol':'http','path':'/base'},"
    "'00000000-0000-4000-8000-000000000002':{'id':'00000000-0000-4000-8000-000000000002','name':'off','host':'h','enabled':false}},"
    "'routes':{"
    "'10000000-0000-4000-8000-000000000001':{'id':'10000000-0000-4000-8000-000000000001','name':'plain','protocols':['http','https'],"
    "'paths':['/a'],'strip_path':true,'service':{'id':'00000000-0000-4000-8000-000000000001'}},"
    "'10000000-0000-4000-8000-000000000002':{'id':'10000000-0000-4000-8000-000000000002','name':'posts','protocols':['http'],"
    "'paths':['/a'],'methods':['POST'],'service':{'id':'00000000-0000-4000-8000-000000000001'}},"
    "'10000000-0000-4000-8000-000000000003':{'id':'10000000-0000-4000-8000-000000000003','name':'hosted','protocols':['http'],"
    "'hosts':['*.x.test'],'paths':['~/a/[0-9]+'],'preserve_host':true,'service':{'id':'00000000-0000-4000-8000-000000000001'}},"
    "'10000000-0000-4000-8000-000000000004':{'id':'10000000-0000-4000-8000-000000000004','name':'headed','protocols':['http'],"
    "'headers':{'x-a':['1','2']},'paths':['/h'],'service':{'id':'00000000-0000-4000-8000-000000000001'}},"
    "'10000000-0000-4000-8000-000000000005':{'id':'10000000-0000-4000-8000-000000000005','name':'secret','protocols':['https'],"
    "'paths':['/s'],'snis':['t.test'],'https_redirect_status_code':301,'service':{'id':'00000000-0000-4000-8000-000000000001'}},"
    "'10000000-0000-4000-8000-000000000006':{'id':'10000000-0000-4000-8000-000000000006','name':'lonely','protocols':['http'],'paths':['/"
    "l']},"
    "'10000000-0000-4000-8000-000000000007':{'id':'10000000-0000-4000-8000-000000000007','name':'idle','protocols':['http'],'paths':['/"
    "off'],"
    "'service':{'id':'00000000-0000-4000-8000-000000000002'}}},"
    "'filter_chains':{"
    "'20000000-0000-4000-8000-000000000001':{'id':'20000000-0000-4000-8000-000000000001','name':'of-s','enabled':true,"
    "'service':{'id':'00000000-0000-4000-8000-000000000001'},'filters':[{'name':'f1','enabled':true,'config':'x'}]},"
    "'20000000-0000-4000-8000-000000000002':{'id':'20000000-0000-4000-8000-000000000002','name':'of-plain','enabled':true,"
    "'route':{'id':'10000000-0000-4000-8000-000000000001'},'filters':[{'name':'f2','enabled':true},{'name':'f3','enabled':false}]}}}";

static fixture_t f;

static json_t *explain(const char *method, const char *url, const char *header) {
    sl_err_t err;
    json_t *out = NULL;
    gw_sample_header_t headers[1];
    gw_sample_t sample = {.method = sl_cstr(method), .protocol = GW_HTTP, .port = 80, .headers = headers};
    assert_int_equal(gw_sample_url(&sample, sl_cstr(url), &err), SL_OK);
    if (header != NULL) {
        headers[0] = (gw_sample_header_t){SL_STR("X-A"), sl_cstr(header)};
        sample.n_headers = 1;
    }
    assert_int_equal(gw_explain(f.plan, &sample, &out, &err), SL_OK);
    return out;
}

static const char *text_at(const json_t *value, const char *a, const char *b) {
    value = json_object_get(value, a);
    const char *text = json_string_value(b != NULL ? json_object_get(value, b) : value);
    return text != NULL ? text : "";
}

/* The candidate of this name; NULL: it is not listed. */
static const json_t *candidate(const json_t *answer, const char *name) {
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(answer, "candidates"), i, one) {
        if (strcmp(text_at(one, "route", "name"), name) == 0) {
            return one;
        }
    }
    return NULL;
}

static void test_the_route_its_upstream_and_filters_are_shown(void **state) {
    (void)state;
    json_t *a = explain("GET", "http://h/a/x?q=1", NULL), *filters = json_object_get(a, "filters");
    assert_string_equal(text_at(a, "route", "name"), "plain");
    assert_string_equal(text_at(json_object_get(a, "route"), "matched", "paths"), "/a");
    assert_string_equal(text_at(a, "service", "name"), "s");
    assert_string_equal(text_at(a, "upstream", "url"), "http://up.test:8080/base/x?q=1");
    assert_string_equal(text_at(a, "upstream", "host_header"), "up.test:8080");
    assert_string_equal(text_at(a, "upstream", "stripped"), "/a");
    assert_true(json_is_null(json_object_get(a, "answer")));
    assert_int_equal(json_array_size(filters), 2);
    assert_string_equal(text_at(json_array_get(filters, 0), "name", NULL), "f1");
    assert_string_equal(text_at(json_array_get(filters, 0), "from", NULL), "service");
    assert_string_equal(text_at(json_array_get(filters, 1), "name", NULL), "f2");
    assert_string_equal(text_at(json_array_get(filters, 1), "filter_chain", "name"), "of-plain");
    json_decref(a);
}

static void test_routes_that_lose_say_by_what(void **state) {
    (void)state;
    json_t *a = explain("POST", "http://sub.x.test/a/12", NULL);
    assert_string_equal(text_at(a, "route", "name"), "hosted");
    assert_string_equal(text_at(json_object_get(a, "route"), "matched", "hosts"), "*.x.test");
    assert_string_equal(text_at(a, "upstream", "host_header"), "sub.x.test");
    assert_string_equal(text_at(candidate(a, "plain"), "reason", NULL), "kinds of attributes: 1 against 2");
    assert_true(json_is_true(json_object_get(candidate(a, "plain"), "matches")));
    json_decref(a);
}

static void test_routes_that_almost_match_say_what_they_want(void **state) {
    (void)state;
    json_t *a = explain("GET", "http://h/a", NULL);
    const json_t *posts = candidate(a, "posts");
    assert_true(json_is_false(json_object_get(posts, "matches")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(json_object_get(posts, "failed"), "methods"), 0)), "POST");
    assert_null(candidate(a, "headed"));
    json_decref(a);
    a = explain("GET", "http://h/h", "3");
    assert_true(json_is_null(json_object_get(a, "route")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(a, "answer"), "status")), 404);
    assert_non_null(json_object_get(json_object_get(json_object_get(candidate(a, "headed"), "failed"), "headers"), "x-a"));
    json_decref(a);
    a = explain("GET", "http://h/h", "2");
    assert_string_equal(text_at(a, "route", "name"), "headed");
    json_decref(a);
}

static void test_answers_of_the_gateway_itself_are_told(void **state) {
    (void)state;
    json_t *a = explain("GET", "http://t.test/s", NULL);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(a, "answer"), "status")), 301);
    assert_int_equal(json_array_size(json_object_get(a, "filters")), 0); /* none of them sees it */
    json_decref(a);
    a = explain("GET", "https://t.test/s", NULL);
    assert_true(json_is_null(json_object_get(a, "answer")));
    assert_int_equal(json_array_size(json_object_get(a, "filters")), 1);
    json_decref(a);
    a = explain("GET", "/l", NULL);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(a, "answer"), "status")), 503);
    assert_true(json_is_null(json_object_get(a, "upstream")));
    json_decref(a);
    a = explain("GET", "/off", NULL);
    assert_string_equal(text_at(candidate(a, "idle"), "reason", NULL), "its service is disabled");
    json_decref(a);
}

/* What explains must see what decides: a route wins with all of its attributes, and without a winner nobody matches. */
static void test_the_explanation_agrees_with_the_router(void **state) {
    (void)state;
    static const char *const methods[] = {"GET", "POST", "PUT"};
    static const char *const urls[] = {"/",
                                       "/a",
                                       "/a/1",
                                       "/a/1/x",
                                       "http://q.x.test/a/1",
                                       "http://x.test/a/1",
                                       "https://t.test/s",
                                       "/a/../h",
                                       "http://h:81/h",
                                       "/%61",
                                       "/l",
                                       "/off",
                                       "https://u.test/s",
                                       "//a//b"};
    static const char *const headers[] = {NULL, "1", "9"};
    for (size_t i = 0; i < 3 * 14 * 3; i++) {
        const char *key;
        json_t *value, *a = explain(methods[i % 3], urls[i / 3 % 14], headers[i / 42]), *route = json_object_get(a, "route");
        size_t k;
        json_array_foreach(json_object_get(a, "candidates"), k, value) {
            assert_true(json_is_object(route) || !json_is_true(json_object_get(value, "matches")));
        }
        if (json_is_object(route)) {
            json_t *whole = json_object_get(json_object_get(f.entities, "routes"), text_at(route, "id", NULL));
            json_object_foreach(whole, key, value) {
                static const char *const attributes[] = {"methods", "hosts", "paths", "snis", "headers"};
                for (size_t n = 0; n < 5; n++) {
                    assert_true(strcmp(key, attributes[n]) != 0 || json_object_get(json_object_get(route, "matched"), key) != NULL);
                }
            }
        }
        json_decref(a);
    }
}

static void test_samples_that_make_no_sense_are_refused(void **state) {
    (void)state;
    sl_err_t err;
    json_t *out = NULL;
    gw_sample_t sample = {.method = SL_STR("GET")};
    assert_int_equal(gw_sample_url(&sample, SL_STR("ftp://x/"), &err), SL_INVALID);
    assert_int_equal(gw_sample_url(&sample, SL_STR("http:///x"), &err), SL_INVALID);
    assert_int_equal(gw_sample_url(&sample, SL_STR(""), &err), SL_INVALID);
    sample.path = SL_STR("x");
    assert_int_equal(gw_explain(f.plan, &sample, &out, &err), SL_INVALID);
    sample.path = SL_STR("/\xff");
    assert_int_equal(gw_explain(f.plan, &sample, &out, &err), SL_INVALID);
    assert_int_equal(gw_sample_url(&sample, SL_STR("https://a.test:8443?x"), &err), SL_OK);
    assert_true(sl_str_eq(sample.sni, SL_STR("a.test")) && sample.port == 8443 && sl_str_eq(sample.path, SL_STR("/")));
}

static int open_traditional(void **state) {
    (void)state;
    fixture_open(&f, entities, true);
    return 0;
}

static int open_compatible(void **state) {
    (void)state;
    fixture_open(&f, entities, false);
    return 0;
}

static int close_plan(void **state) {
    (void)state;
    fixture_close(&f);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_route_its_upstream_and_filters_are_shown), cmocka_unit_test(test_routes_that_lose_say_by_what),
        cmocka_unit_test(test_routes_that_almost_match_say_what_they_want),  cmocka_unit_test(test_answers_of_the_gateway_itself_are_told),
        cmocka_unit_test(test_the_explanation_agrees_with_the_router),       cmocka_unit_test(test_samples_that_make_no_sense_are_refused),
    };
    int failed = cmocka_run_group_tests_name("compatible", tests, open_compatible, close_plan);
    return failed + cmocka_run_group_tests_name("traditional", tests, open_traditional, close_plan);
}
