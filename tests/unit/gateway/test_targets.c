#include "gw_targets.h"

#include "plan_fixture.h"

static const char entities[] =
    "{'services': {'s1': {'name': 'svc', 'host': 'h.test', 'port': 8443, 'protocol': 'https'}, 's2': {'name': 'off', 'host': 'h.test', "
    "'enabled': false}},"
    " 'upstreams': {'u1': {'id': 'u1', 'name': 'pool'}, 'u2': {'id': 'u2', 'name': 'empty'}},"
    " 'targets': {'t1': {'target': 'a:1', 'weight': 5, 'upstream': {'id': 'u1'}}, 't2': {'target': 'b:2', 'weight': 0, 'upstream': {'id': "
    "'u1'}},"
    "   't3': {'target': 'c:3', 'upstream': {'id': 'u1'}}, 't4': {'target': 'd:4', 'weight': 1, 'upstream': {'id': 'u1'}}}}";

typedef struct {
    char text[256];
    size_t n, max;
} told_t;

static bool tell(void *ud, sl_str_t target, uint32_t weight) {
    told_t *told = ud;
    size_t used = strlen(told->text);
    snprintf(told->text + used, sizeof(told->text) - used, "%.*s=%u ", SL_FMT(target), weight);
    return ++told->n < told->max;
}

static void check(const gw_plan_t *plan, const char *name, size_t from, size_t max, const char *want, bool want_tls) {
    told_t told = {.max = max};
    bool tls = false;
    assert_int_equal(gw_targets_each(plan, sl_cstr(name), from, tell, &told, &tls), want != NULL ? SL_OK : SL_NOT_FOUND);
    assert_string_equal(told.text, want != NULL ? want : "");
    assert_int_equal(tls, want_tls);
}

static void an_upstream_is_its_targets_from_anyone_on(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, entities, false);
    check(f.plan, "pool", 0, 9, "a:1=5 c:3=100 d:4=1 ", false);
    check(f.plan, "pool", 1, 9, "c:3=100 d:4=1 a:1=5 ", false);
    check(f.plan, "pool", 3, 2, "d:4=1 a:1=5 ", false);
    check(f.plan, "pool", SIZE_MAX, 1, "d:4=1 ", false); /* SIZE_MAX % 4 is 3 */
    check(f.plan, "empty", 7, 9, "", false);
    fixture_close(&f);
}

static void a_service_is_its_address_and_protocol_if_it_is_enabled(void **state) {
    (void)state;
    fixture_t f;
    fixture_open(&f, entities, false);
    check(f.plan, "svc", 5, 9, "h.test:8443=1 ", true);
    check(f.plan, "off", 0, 9, NULL, false);
    check(f.plan, "nobody", 0, 9, NULL, false);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upstream_is_its_targets_from_anyone_on),
        cmocka_unit_test(a_service_is_its_address_and_protocol_if_it_is_enabled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
