/* A hundred thousand entities. Prints what it took; nothing depends on it. */
#include "store.h"

#include "cmocka_all.h"
#include "store_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#define N_SERVICES 10000
#define N_ROUTES 80000
#define N_CHAINS 10000

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double lap(const char *what, double since) {
    double now = now_s();
    fprintf(stderr, "%-34s %6.2f s\n", what, now - since);
    return now;
}

/* Ids that do not come in order, as random ones. */
static unsigned scattered(unsigned n) {
    return (n + 1) * 2654435761u;
}

static json_t *full_route(unsigned n) {
    char name[32], host[32];
    snprintf(name, sizeof(name), "route-%u", n);
    snprintf(host, sizeof(host), "h%u.example.com", n);
    json_t *route = test_route(scattered(N_SERVICES + n), name, (int)scattered(n % N_SERVICES));
    json_object_set_new(route, "service", json_pack("{s:s}", "id", test_id(scattered(n % N_SERVICES))));
    json_object_update_new(route, json_pack("{s:[s], s:[s,s], s:b, s:b, s:b, s:b, s:i, s:n, s:n, s:n, s:i, s:i, s:s, s:i, s:[s,s]}",
                                            "hosts", host, "protocols", "http", "https", "strip_path", 1, "preserve_host", 0,
                                            "request_buffering", 1, "response_buffering", 1, "https_redirect_status_code", 426, "methods",
                                            "headers", "snis", "created_at", 1700000000, "updated_at", 1700000000, "path_handling", "v0",
                                            "regex_priority", 0, "tags", "team-a", "bench"));
    return route;
}

static void a_hundred_thousand_entities_go_in_and_out_at_once(void **state) {
    (void)state;
    json_t *all;
    struct stat st;
    char name[32];
    st_store_t *store = test_open();
    double t = now_s(), start = t;
    st_tx_t *tx = test_begin(store, ST_WRITE);
    for (unsigned n = 0; n < N_SERVICES; n++) {
        snprintf(name, sizeof(name), "service-%u", n);
        MUST(put_new(tx, "services", test_service(scattered(n), name, 80)));
    }
    for (unsigned n = 0; n < N_ROUTES; n++) {
        MUST(put_new(tx, "routes", full_route(n)));
    }
    for (unsigned n = 0; n < N_CHAINS; n++) {
        json_t *chain = test_chain(scattered(N_SERVICES + N_ROUTES + n), -1, -1);
        json_object_set_new(chain, "route", json_pack("{s:s}", "id", test_id(scattered(N_SERVICES + n))));
        MUST(put_new(tx, "filter_chains", chain));
    }
    t = lap("100,000 entities put", t);
    assert_int_equal(test_commit(tx), 1);
    t = lap("committed", t);
    tx = test_begin(store, ST_READ);
    MUST(st_tx_load(tx, &all, &test_err));
    st_tx_rollback(tx);
    t = lap("loaded", t);
    assert_int_equal(json_object_size(json_object_get(all, "routes")), N_ROUTES);
    assert_int_equal(json_object_size(json_object_get(all, "services")), N_SERVICES);
    assert_int_equal(json_object_size(json_object_get(all, "filter_chains")), N_CHAINS);
    json_decref(all);
    t = now_s();
    st_store_close(store);
    t = lap("closed", t);
    store = test_open();
    t = lap("opened, with the check of the file", t);
    add_service(store, scattered(0), "service-0", 81);
    t = lap("one more written", t);
    tx = test_begin(store, ST_WRITE);
    MUST(st_tx_clear(tx, &test_err));
    test_commit(tx);
    lap("all deleted", t);
    assert_int_equal(stat(db_path(), &st), 0);
    st_store_close(store);
    fprintf(stderr, "%-34s %6.2f s, %.0f MB\n", "all together", now_s() - start, (double)st.st_size / 1e6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_hundred_thousand_entities_go_in_and_out_at_once, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
