/* What a filter may use of the host: lists of grants, modules that import more, calls that are not granted. */
#include <stdio.h>

#include "pt.h"
#include "pw_table.h"

static void each_host_call_has_a_group_that_can_be_granted(void **state) {
    (void)state;
    size_t n;
    const pw_hostcall_row_t *rows = pw_hostcall_rows(&n);
    uint32_t seen = 0;
    pw_grants_t grants;
    for (size_t i = 0; i < n; i++) {
        seen |= PW_G_BIT(rows[i].grant);
        if (rows[i].grant != PW_G_ALWAYS) {
            assert_int_equal(pw_grants_parse(sl_cstr(pw_grant_name(rows[i].grant)), &grants, NULL), SL_OK);
            assert_int_equal(grants.granted, PW_G_BIT(PW_G_ALWAYS) | PW_G_BIT(rows[i].grant));
        }
    }
    assert_int_equal(seen, PW_G_BIT(PW_G_N) - 1);
}

static void names_are_granted_alone_or_by_what_they_begin_with(void **state) {
    (void)state;
    pw_grants_t g;
    assert_int_equal(pw_grants_parse(SL_STR("http-call:auth,shared-data:cart/*,properties-read:request.*,metrics"), &g, NULL), SL_OK);
    assert_true(pw_grants_has(&g, PW_G_HTTP_CALL, SL_STR("auth")));
    assert_false(pw_grants_has(&g, PW_G_HTTP_CALL, SL_STR("auth2")));
    assert_false(pw_grants_has(&g, PW_G_GRPC_CALL, SL_STR("auth")));
    assert_true(pw_grants_has(&g, PW_G_SHARED_DATA, SL_STR("cart/7")));
    assert_false(pw_grants_has(&g, PW_G_SHARED_DATA, SL_STR("car")));
    assert_true(pw_grants_has(&g, PW_G_PROPERTIES_READ, SL_STR("request\0path")));
    assert_false(pw_grants_has(&g, PW_G_PROPERTIES_READ, SL_STR("requests\0path")));
    assert_true(pw_grants_has(&g, PW_G_METRICS, SL_STR_NULL));
    assert_int_equal(pw_grants_parse(SL_STR("http-call:auth,http-call"), &g, NULL), SL_OK);
    assert_true(pw_grants_has(&g, PW_G_HTTP_CALL, SL_STR("other")));
}

static void an_item_that_is_none_is_refused_by_name(void **state) {
    (void)state;
    static const char *const bad[] = {"heders", "log:x", "http-call:", ":", "default2", "-log"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        pw_grants_t g;
        sl_err_t err;
        assert_int_equal(pw_grants_parse(sl_cstr(bad[i]), &g, &err), SL_INVALID);
        assert_non_null(strstr(err.text, bad[i]));
    }
}

static pw_filter_conf_t conf_of(const char *grants) {
    pw_filter_conf_t conf = {.name = SL_STR("f")};
    sl_filter_opts_init(&conf.opts);
    conf.opts.grants = sl_cstr(grants);
    conf.opts.set |= SL_FOPT_BIT(GRANTS);
    return conf;
}

static void a_module_that_imports_more_is_refused_with_the_missing_grant(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_filter_conf_t conf =
        conf_of("log,clock,timers,random,env,headers-read,headers-write,body,properties-read,properties-write,local-reply");
    assert_int_equal(pt_filter(t, &conf, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "it imports env.proxy_http_call, for which it lacks the grant \"http-call\""));
    pt_free(t);
}

static uint32_t configure_calls(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    pt_trace(t, "log:%u ", guest_call(t, "proxy_log", PW_LOG_INFO, guest_put(t, "hi", 2), 2));
    return 1;
}

static uint32_t headers_calls(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    uint32_t token, out = guest_room(t, 16);
    sl_str_t value;
    pt_trace(t, "get:%u ", guest_header(t, 0, ":path", &value));
    pt_trace(t, "set:%u ", guest_edit(t, "proxy_replace_header_map_value", 0, "a", "b"));
    pt_trace(t, "call:%u ", guest_http_call(t, &token));
    pt_trace(t, "property:%u ", guest_call(t, "proxy_get_property", guest_put(t, "plugin_name", 11), 11, out, out + 4));
    pt_trace(t, "random:%u ", guest_call(t, "wasi:random_get", out, 4));
    return 0;
}

static pt_t *run(const char *grants) {
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_out_t out;
    pw_filter_conf_t conf = conf_of(grants);
    t->on[PW_CB_CONFIGURE] = configure_calls;
    t->on[PW_CB_REQUEST_HEADERS] = headers_calls;
    if (pt_filter(t, &conf, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    pt_chain(t, NULL);
    pt_map(t, PW_MAP_REQUEST_HEADERS, (const char *const[]){":method", "GET", ":path", "/", NULL});
    for (int i = 0; i < 2; i++) {
        pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
        pw_stream_headers(s, PW_DIR_REQUEST, true, &out);
        pw_stream_free(s);
    }
    return t;
}

static void a_lazy_filter_gets_a_status_for_what_it_lacks_and_that_is_logged_once(void **state) {
    (void)state;
    pt_t *t = run("lazy,headers-read");
    assert_string_equal(t->trace, "log:12 get:0 set:12 call:12 property:12 random:52 get:0 set:12 call:12 property:12 random:52 ");
    const char *log = sl_buf_cstr(&t->log), *first = strstr(log, "is not granted \"http-call\"");
    assert_non_null(first);
    assert_null(strstr(first + 1, "is not granted \"http-call\""));
    assert_int_equal(pw_worker_number(t->worker, SL_STR("f"), PW_N_DENIED), 9);
    pt_free(t);
}

static void names_that_are_not_granted_look_as_if_they_were_not_there(void **state) {
    (void)state;
    pt_t *t = run("lazy,log,headers-read,http-call:nowhere,properties-read:request.*");
    assert_non_null(strstr(t->trace, "call:2 property:1 "));
    assert_true(pt_logged(t, "is not granted \"properties-read:plugin_name\""));
    pt_free(t);
}

static uint32_t redis_calls(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    static const char *const names[] = {"cache", "cache?db=2", "caches", "other"};
    static const char ping[] = "*1\r\n$4\r\nPING\r\n";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint32_t name = guest_put(t, names[i], strlen(names[i])), len = (uint32_t)strlen(names[i]), query = guest_put(t, ping, 14);
        pt_trace(t, "init:%u ", guest_call(t, "proxy_redis_init", name, len, name, 0, name, 0, 1000));
        pt_trace(t, "call:%u ", guest_call(t, "proxy_redis_call", name, len, query, 14, guest_room(t, 4)));
    }
    return 0;
}

static uint32_t foreign_calls(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    static const char *const names[] = {"compress", "resolve_host", "resolve_lua", "clear_route_cache", "get_log_level"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint32_t name = guest_put(t, names[i], strlen(names[i])), args = guest_put(t, "10.0.0.1", 8), out = guest_room(t, 8);
        pt_trace(t, "%s:%u ", names[i], guest_call(t, "proxy_call_foreign_function", name, strlen(names[i]), args, 8, out, out + 4));
    }
    return 0;
}

static pt_t *run_calls(const char *grants, pt_fn_t calls) {
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_out_t out;
    pw_filter_conf_t conf = conf_of(grants);
    t->on[PW_CB_REQUEST_HEADERS] = calls;
    if (pt_filter(t, &conf, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    pt_chain(t, NULL);
    pt_map(t, PW_MAP_REQUEST_HEADERS, (const char *const[]){":method", "GET", ":path", "/", NULL});
    pw_stream_t *s = pw_stream_new(t->worker, t->chain, t);
    pw_stream_headers(s, PW_DIR_REQUEST, true, &out);
    pw_stream_free(s);
    return t;
}

/* The proxy of these tests has no Redis: what may be asked for is an internal failure (10). */
static void clusters_of_redis_are_granted_by_name(void **state) {
    (void)state;
    pt_t *t = run_calls("lazy,redis:cache", redis_calls);
    assert_string_equal(t->trace, "init:0 call:10 init:0 call:10 init:2 call:2 init:2 call:2 ");
    assert_true(pt_logged(t, "is not granted \"redis:caches\""));
    assert_int_equal(pw_worker_number(t->worker, SL_STR("f"), PW_N_DENIED), 4);
    pt_free(t);
    t = run_calls("lazy,redis", redis_calls);
    assert_string_equal(t->trace, "init:0 call:10 init:0 call:10 init:0 call:10 init:0 call:10 ");
    pt_free(t);
    t = run_calls("lazy", redis_calls);
    assert_string_equal(t->trace, "init:12 call:12 init:12 call:12 init:12 call:12 init:12 call:12 ");
    pt_free(t);
}

static void foreign_functions_are_granted_by_name(void **state) {
    (void)state;
    static const struct {
        const char *grants, *trace;
    } cases[] = {
        {"lazy,foreign:compress", "compress:0 resolve_host:1 resolve_lua:1 clear_route_cache:1 get_log_level:1 "},
        {"lazy,foreign:resolve_*", "compress:1 resolve_host:0 resolve_lua:0 clear_route_cache:1 get_log_level:1 "},
        {"lazy,foreign:clear_route_cache", "compress:1 resolve_host:1 resolve_lua:1 clear_route_cache:0 get_log_level:1 "},
        {"lazy,foreign", "compress:0 resolve_host:0 resolve_lua:0 clear_route_cache:0 get_log_level:0 "},
        {"lazy,dns,headers-write", "compress:12 resolve_host:12 resolve_lua:12 clear_route_cache:12 get_log_level:12 "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pt_t *t = run_calls(cases[i].grants, foreign_calls);
        assert_string_equal(t->trace, cases[i].trace);
        pt_free(t);
    }
}

static void by_default_everything_is_granted(void **state) {
    (void)state;
    pt_t *t = run("default");
    assert_non_null(strstr(t->trace, "log:0 get:0 set:0 call:0 property:0 random:0 "));
    assert_int_equal(pw_worker_number(t->worker, SL_STR("f"), PW_N_DENIED), 0);
    pt_free(t);
}

static void filters_with_other_grants_do_not_share_an_instance(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_filter_conf_t one = conf_of("default"), two = conf_of("lazy,log"), three = conf_of("default,http-call:x");
    two.module = three.module = one.module = pt_module(t, &(pt_guest_t){.name = "full", .callbacks = PT_ALL});
    assert_int_equal(pt_filter(t, &one, &err), SL_OK);
    assert_int_equal(pt_filter(t, &two, &err), SL_OK);
    assert_int_equal(pw_worker_stats(t->worker).vms_created, 2);
    assert_int_equal(pt_filter(t, &three, &err), SL_OK);
    assert_int_equal(pw_worker_stats(t->worker).vms_created, 2);
    pt_free(t);
}

/* A guest may act for any context of its instance: a name that is granted to one filter there would be granted to all. */
static void filters_to_which_other_names_are_granted_do_not_share_an_instance(void **state) {
    (void)state;
    static const struct {
        const char *grants;
        size_t vms;
    } cases[] = {
        {"default", 1},
        {"lazy,log,http-call:auth", 2},
        {"lazy,log,http-call:billing", 3},
        {"lazy,log,http-call:auth", 3},
        {"lazy,log,http-call,http-call:auth", 4},
        {"log,http-call,lazy", 4},
    };
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    sl_module_t *module = pt_module(t, &(pt_guest_t){.name = "full", .callbacks = PT_ALL});
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pw_filter_conf_t conf = conf_of(cases[i].grants);
        conf.module = module;
        assert_int_equal(pt_filter(t, &conf, &err), SL_OK);
        assert_int_equal(pw_worker_stats(t->worker).vms_created, cases[i].vms);
    }
    pt_free(t);
}

static uint32_t state_calls(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    static const char name[] = "set_envoy_filter_state",
                      set[] = "\x0a\x01"
                              "a"
                              "\x12\x01"
                              "b",
                      path[] = "filter_state\0a";
    uint32_t out = guest_room(t, 8), f = guest_put(t, name, sizeof(name) - 1), args = guest_put(t, set, sizeof(set) - 1);
    pt_trace(t, "set:%u ", guest_call(t, "proxy_call_foreign_function", f, sizeof(name) - 1, args, sizeof(set) - 1, out, out + 4));
    pt_trace(t, "get:%u ", guest_call(t, "proxy_get_property", guest_put(t, path, sizeof(path) - 1), sizeof(path) - 1, out, out + 4));
    return 0;
}

static void a_foreign_function_that_writes_a_property_needs_the_grant_for_that(void **state) {
    (void)state;
    static const struct {
        const char *grants, *trace;
    } cases[] = {
        {"default", "set:0 get:0 "},
        {"lazy,foreign,properties-read", "set:1 get:1 "},
        {"lazy,foreign,properties-read,properties-write:filter_state.b", "set:1 get:1 "},
        {"lazy,foreign,properties-read,properties-write:filter_state.*", "set:0 get:0 "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pt_t *t = run_calls(cases[i].grants, state_calls);
        assert_string_equal(t->trace, cases[i].trace);
        pt_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_host_call_has_a_group_that_can_be_granted),
        cmocka_unit_test(names_are_granted_alone_or_by_what_they_begin_with),
        cmocka_unit_test(an_item_that_is_none_is_refused_by_name),
        cmocka_unit_test(a_module_that_imports_more_is_refused_with_the_missing_grant),
        cmocka_unit_test(a_lazy_filter_gets_a_status_for_what_it_lacks_and_that_is_logged_once),
        cmocka_unit_test(names_that_are_not_granted_look_as_if_they_were_not_there),
        cmocka_unit_test(clusters_of_redis_are_granted_by_name),
        cmocka_unit_test(foreign_functions_are_granted_by_name),
        cmocka_unit_test(by_default_everything_is_granted),
        cmocka_unit_test(filters_with_other_grants_do_not_share_an_instance),
        cmocka_unit_test(filters_to_which_other_names_are_granted_do_not_share_an_instance),
        cmocka_unit_test(a_foreign_function_that_writes_a_property_needs_the_grant_for_that),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
