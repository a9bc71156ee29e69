#include "settings.h"
#include "settings_kong.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "sl_file.h"

extern char **environ;

static sl_err_t err;
static settings_t *s;
static char warnings[4096];
static char file[64];

static void warn(const char *line) {
    size_t used = strlen(warnings);
    snprintf(warnings + used, sizeof(warnings) - used, "%s\n", line);
}

static int fresh(void **state) {
    (void)state;
    for (char **e = environ; *e != NULL;) {
        char name[256];
        if (strncmp(*e, "KONG_", 5) == 0 || strncmp(*e, "SLUICE_", 7) == 0) {
            snprintf(name, sizeof(name), "%.*s", (int)strcspn(*e, "="), *e);
            unsetenv(name);
        } else {
            e++;
        }
    }
    warnings[0] = '\0';
    err.text[0] = '\0';
    s = NULL;
    snprintf(file, sizeof(file), "/tmp/sluice-settings-%ld", (long)getpid());
    return sl_file_write_atomic(file, SL_STR(""), 0600, &err) == SL_OK ? 0 : -1;
}

static int done(void **state) {
    (void)state;
    settings_free(s);
    unlink(file);
    return 0;
}

static void write_file(const char *text) {
    assert_int_equal(sl_file_write_atomic(file, sl_cstr(text), 0600, &err), SL_OK);
}

static void nothing_set_gives_the_defaults(void **state) {
    (void)state;
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    assert_string_equal(settings_get(s, "prefix"), "/usr/local/sluice");
    assert_true(settings_on(s, "wasm"));
    assert_null(settings_get(s, "database"));
    assert_true(settings_is_default(s, "proxy_listen"));
    assert_string_equal(warnings, "");
}

static void sluice_wins_over_kong_wins_over_the_file(void **state) {
    (void)state;
    write_file("log_level = error\nprefix = /from/file\nwasm = off\n");
    setenv("KONG_LOG_LEVEL", "info", 1);
    setenv("KONG_PREFIX", "/from/kong", 1);
    setenv("SLUICE_LOG_LEVEL", "debug", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    assert_string_equal(settings_get(s, "log_level"), "debug");
    assert_string_equal(settings_get(s, "prefix"), "/from/kong");
    assert_false(settings_on(s, "wasm"));
    assert_string_equal(settings_origin(s, "prefix"), "KONG_PREFIX");
}

static void a_difference_between_the_families_is_a_warning(void **state) {
    (void)state;
    setenv("KONG_LOG_LEVEL", "info", 1);
    setenv("SLUICE_LOG_LEVEL", "debug", 1);
    setenv("KONG_WASM", "on", 1);
    setenv("SLUICE_WASM", "on", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    assert_non_null(strstr(warnings, "KONG_LOG_LEVEL"));
    assert_null(strstr(warnings, "KONG_WASM"));
}

static void an_unknown_variable_is_a_warning_and_an_unknown_line_an_error(void **state) {
    (void)state;
    setenv("KONG_CLUSTER_LISTEN", "x", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    assert_non_null(strstr(warnings, "KONG_CLUSTER_LISTEN"));
    settings_free(s);
    s = NULL;
    write_file("\n\nnonsense = 1\n");
    assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "line 3"));
    assert_non_null(strstr(err.text, "nonsense"));
}

static void a_line_that_only_kong_knows_is_a_warning(void **state) {
    (void)state;
    write_file("plugins = bundled\nworker_consistency = eventual\n");
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    assert_non_null(strstr(warnings, "line 1"));
    assert_non_null(strstr(warnings, "line 2"));
}

static void what_kong_has_and_this_gateway_has_not_is_refused_with_the_reason(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"KONG_ROLE", "control_plane", "hybrid"},
        {"KONG_ROUTER_FLAVOR", "expressions", "expression"},
        {"KONG_STREAM_LISTEN", "0.0.0.0:9000", "streams"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        setenv(cases[i][0], cases[i][1], 1);
        assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
        assert_non_null(strstr(err.text, cases[i][0]));
        assert_non_null(strstr(err.text, cases[i][2]));
        unsetenv(cases[i][0]);
    }
}

static void a_token_of_headers_is_known_or_refused(void **state) {
    (void)state;
    setenv("KONG_HEADERS", "Server_Tokens, X-Kong-Upstream-Status", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    settings_free(s);
    s = NULL;
    setenv("KONG_HEADERS", "via, x-kong", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "headers: invalid entry 'x-kong'"));
}

static void port_maps_are_pairs_of_ports(void **state) {
    (void)state;
    static const char *const bad[] = {"80", "80:", ":80", "80:0", "65536:80", "80:8000,x:1", "80:8000:1", "080000:1"};
    settings_port_map_t map;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv("KONG_PORT_MAPS", bad[i], 1);
        assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
        assert_non_null(strstr(err.text, "invalid port mapping"));
    }
    setenv("KONG_PORT_MAPS", "80:8000, 443:8443", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    const char *at = settings_port_map_next(settings_get(s, "port_maps"), &map);
    assert_int_equal(map.shown, 80);
    assert_int_equal(map.listening, 8000);
    at = settings_port_map_next(at, &map);
    assert_int_equal(map.shown, 443);
    assert_int_equal(map.listening, 8443);
    assert_null(settings_port_map_next(at, &map));
}

static void a_doubtful_boolean_is_refused(void **state) {
    (void)state;
    setenv("SLUICE_WASM", "maybe", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "SLUICE_WASM"));
    assert_non_null(strstr(err.text, "maybe"));
}

static void a_value_that_would_end_up_in_nginx_conf_cannot_smuggle_directives(void **state) {
    (void)state;
    static const char *const names[] = {"SLUICE_NGINX_WORKER_PROCESSES", "SLUICE_NGINX_USER", "SLUICE_SSL_PROTOCOLS",
                                        "SLUICE_NGINX_HTTP_CLIENT_MAX_BODY_SIZE", "SLUICE_NGINX_HTTP_GZIP"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        setenv(names[i], "1; load_module x", 1);
        assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
        assert_non_null(strstr(err.text, names[i]));
        unsetenv(names[i]);
    }
}

static void directives_that_would_run_filters_cannot_be_added(void **state) {
    (void)state;
    static const char *const names[] = {"KONG_NGINX_WASM_MODULE", "KONG_NGINX_LOCATION_PROXY_WASM", "KONG_NGINX_HTTP_WASM_CALL",
                                        "KONG_NGINX_HTTP_RESOLVER_ADD"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        setenv(names[i], "x", 1);
        assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
        assert_non_null(strstr(err.text, names[i]));
        assert_non_null(strstr(err.text, "cannot be added"));
        unsetenv(names[i]);
    }
}

static void aliases_name_the_same_property(void **state) {
    (void)state;
    setenv("KONG_NGINX_WORKER_PROCESSES", "3", 1);
    setenv("KONG_NGINX_DAEMON", "off", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    assert_string_equal(settings_get(s, "nginx_main_worker_processes"), "3");
    assert_false(settings_on(s, "nginx_main_daemon"));
    assert_string_equal(warnings, "");
}

static char seen[256];
static void collect(void *ud, const char *directive, const char *value) {
    (void)ud;
    size_t used = strlen(seen);
    snprintf(seen + used, sizeof(seen) - used, "%s=%s ", directive, value);
}

static void injected_directives_come_back_by_block_and_sorted(void **state) {
    (void)state;
    setenv("KONG_NGINX_HTTP_KEEPALIVE_TIMEOUT", "10s", 1);
    setenv("SLUICE_NGINX_HTTP_GZIP", "on", 1);
    setenv("SLUICE_NGINX_PROXY_LIMIT_RATE", "1k", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    seen[0] = '\0';
    settings_injected(s, "http", collect, NULL);
    assert_string_equal(seen, "gzip=on keepalive_timeout=10s ");
}

static char saved[80];

static void save_and_load_again(void) {
    snprintf(saved, sizeof(saved), "%s.saved", file);
    assert_int_equal(settings_save(s, saved, &err), SL_OK);
    settings_free(s);
    s = NULL;
    unsetenv("SLUICE_PREFIX");
    unsetenv("SLUICE_NGINX_HTTP_GZIP");
    unsetenv("SLUICE_DECLARATIVE_CONFIG_STRING");
    unsetenv("SLUICE_WASM_FILTERS_PATH");
    assert_int_equal(settings_load_again(saved, warn, &s, &err), SL_OK);
    unlink(saved);
}

static void what_was_saved_loads_as_it_was(void **state) {
    (void)state;
    setenv("SLUICE_PREFIX", "/a # b", 1);
    setenv("SLUICE_NGINX_HTTP_GZIP", "on # off", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    save_and_load_again();
    assert_string_equal(settings_get(s, "prefix"), "/a # b");
    seen[0] = '\0';
    settings_injected(s, "http", collect, NULL);
    assert_string_equal(seen, "gzip=on # off ");
}

static void values_of_several_lines_are_saved(void **state) {
    (void)state;
    const char *text = "services: # none\n- \"x\"\r\n\t\\# \\n \xc3\xa9\n";
    setenv("SLUICE_DECLARATIVE_CONFIG_STRING", text, 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    save_and_load_again();
    assert_string_equal(settings_get(s, "declarative_config_string"), text);
}

static void relative_paths_are_saved_as_absolute_ones(void **state) {
    (void)state;
    char cwd[4096], wanted[4200];
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    setenv("SLUICE_WASM_FILTERS_PATH", "./filters", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    assert_string_equal(settings_get(s, "wasm_filters_path"), "./filters");
    save_and_load_again();
    snprintf(wanted, sizeof(wanted), "%s/./filters", cwd);
    assert_string_equal(settings_get(s, "wasm_filters_path"), wanted);
}

static void the_settings_file_is_read_again_and_is_weaker_than_what_was_saved(void **state) {
    (void)state;
    write_file("log_level = warn\nheaders = off\n");
    setenv("SLUICE_PREFIX", "/p", 1);
    setenv("SLUICE_HEADERS", "via", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    write_file("log_level = crit\nheaders = server\nprefix = /q\n");
    snprintf(saved, sizeof(saved), "%s.saved", file);
    assert_int_equal(settings_save(s, saved, &err), SL_OK);
    settings_free(s);
    s = NULL;
    unsetenv("SLUICE_PREFIX");
    unsetenv("SLUICE_HEADERS");
    assert_int_equal(settings_load_again(saved, warn, &s, &err), SL_OK);
    unlink(saved);
    assert_string_equal(settings_get(s, "log_level"), "crit");
    assert_string_equal(settings_get(s, "headers"), "via");
    assert_string_equal(settings_get(s, "prefix"), "/p");
}

static void secrets_are_masked_for_the_admin_api(void **state) {
    (void)state;
    setenv("SLUICE_SSL_CERT_KEY", "/secret/key.pem", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    json_t *o = settings_json(s);
    assert_string_equal(json_string_value(json_object_get(o, "ssl_cert_key")), "******");
    assert_true(json_is_true(json_object_get(o, "wasm")));
    json_decref(o);
}

static void pg_settings_are_refused_by_name(void **state) {
    (void)state;
    setenv("KONG_PG_HOST", "db", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "KONG_PG_HOST"));
}

static void an_empty_value_leaves_what_cannot_be_unset_at_its_default(void **state) {
    (void)state;
    static const char *const names[] = {"LOG_LEVEL",     "NGINX_WORKER_PROCESSES",       "NGINX_DAEMON",
                                        "ROUTER_FLAVOR", "UPSTREAM_KEEPALIVE_POOL_SIZE", "NGINX_EVENTS_WORKER_CONNECTIONS"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char name[64];
        snprintf(name, sizeof(name), "SLUICE_%s", names[i]);
        setenv(name, "", 1);
    }
    setenv("SLUICE_DECLARATIVE_CONFIG", "", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    assert_string_equal(settings_get(s, "log_level"), "notice");
    assert_string_equal(settings_get(s, "nginx_worker_processes"), "auto");
    assert_string_equal(settings_get(s, "router_flavor"), "traditional_compatible");
    assert_string_equal(settings_get(s, "upstream_keepalive_pool_size"), "512");
    assert_string_equal(settings_get(s, "nginx_events_worker_connections"), "auto");
    assert_true(settings_on(s, "nginx_daemon"));
    assert_null(settings_get(s, "declarative_config"));
}

static void a_count_is_a_number_above_0_or_auto(void **state) {
    (void)state;
    static const char *const bad[] = {"-1", "0", "many", "1x", "1; load_module x", "1234567890"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv("KONG_NGINX_WORKER_PROCESSES", bad[i], 1);
        assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
        assert_non_null(strstr(err.text, "KONG_NGINX_WORKER_PROCESSES"));
    }
    setenv("KONG_NGINX_WORKER_PROCESSES", "3", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
}

static void a_value_that_is_not_utf8_is_refused_by_name(void **state) {
    (void)state;
    setenv("SLUICE_PROXY_ACCESS_LOG", "logs/\xff", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
    assert_string_equal(err.text, "SLUICE_PROXY_ACCESS_LOG: proxy_access_log: not valid UTF-8");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, done)

static void options_of_filters_are_settings(void **state) {
    (void)state;
    setenv("SLUICE_WASM_DIALECT", "wasmx", 1);
    setenv("SLUICE_WASM_GRANTS", "b, a", 1);
    setenv("SLUICE_WASM_MEMORY_BUDGET", "1m", 1);
    setenv("SLUICE_WASM_FAIL", "", 1);
    assert_int_equal(settings_load(file, warn, &s, &err), SL_OK);
    sl_filter_opts_t opts;
    assert_int_equal(settings_filter_opts(s, &opts, &err), SL_OK);
    assert_int_equal(opts.dialect, SL_DIALECT_WASMX);
    assert_int_equal(opts.memory_budget, 1 << 20);
    assert_true(sl_str_eq(opts.grants, SL_STR("b,a")));
    assert_int_equal(opts.set, SL_FOPT_BIT(DIALECT) | SL_FOPT_BIT(GRANTS) | SL_FOPT_BIT(MEMORY_BUDGET));
}

static void a_bad_option_names_the_variable_and_what_was_expected(void **state) {
    (void)state;
    static const char *const bad[][3] = {
        {"SLUICE_WASM_FAIL", "maybe", "SLUICE_WASM_FAIL: wasm_fail has an invalid value: expected one of: closed, open"},
        {"SLUICE_WASM_CPU_BUDGET_MS", "5s", "expected a number from 0 to 3600000"},
        {"SLUICE_WASM_RESPONSE_ORDER", "x", "(forward, reverse)"},
        {"SLUICE_WASM_REQUEST_BODY_LIMIT", "x", "(a size such as 64k or 2m)"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv(bad[i][0], bad[i][1], 1);
        assert_int_equal(settings_load(file, warn, &s, &err), SL_INVALID);
        assert_non_null(strstr(err.text, bad[i][2]));
        unsetenv(bad[i][0]);
        s = NULL;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nothing_set_gives_the_defaults),
        TEST(an_empty_value_leaves_what_cannot_be_unset_at_its_default),
        TEST(a_count_is_a_number_above_0_or_auto),
        TEST(a_value_that_is_not_utf8_is_refused_by_name),
        TEST(sluice_wins_over_kong_wins_over_the_file),
        TEST(a_difference_between_the_families_is_a_warning),
        TEST(an_unknown_variable_is_a_warning_and_an_unknown_line_an_error),
        TEST(a_line_that_only_kong_knows_is_a_warning),
        TEST(what_kong_has_and_this_gateway_has_not_is_refused_with_the_reason),
        TEST(a_token_of_headers_is_known_or_refused),
        TEST(port_maps_are_pairs_of_ports),
        TEST(a_doubtful_boolean_is_refused),
        TEST(a_value_that_would_end_up_in_nginx_conf_cannot_smuggle_directives),
        TEST(directives_that_would_run_filters_cannot_be_added),
        TEST(aliases_name_the_same_property),
        TEST(injected_directives_come_back_by_block_and_sorted),
        TEST(what_was_saved_loads_as_it_was),
        TEST(values_of_several_lines_are_saved),
        TEST(relative_paths_are_saved_as_absolute_ones),
        TEST(the_settings_file_is_read_again_and_is_weaker_than_what_was_saved),
        TEST(secrets_are_masked_for_the_admin_api),
        TEST(options_of_filters_are_settings),
        TEST(a_bad_option_names_the_variable_and_what_was_expected),
        TEST(pg_settings_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
