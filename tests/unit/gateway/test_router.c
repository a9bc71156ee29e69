#include "gw_plan.h"

#include <stdlib.h>

#include "cmocka_all.h"
#include "router_cases.h"

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
        cmocka_unit_test(every_match_equals_the_linear_scan),
        cmocka_unit_test(every_match_in_a_crowded_router_equals_the_linear_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
