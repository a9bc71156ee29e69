/*
 * The router against the linear scan. The input's bytes are the choices of which routes there are and which requests come; whatever they
 * are, both must name the same route and the same matched prefix.
 */
#include <stdlib.h>

#include "../tests/unit/gateway/router_cases.h"

#define REQUESTS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static void ask(choices_t *c, const gw_plan_t *plan, const naive_t *nv, const json_t *entities) {
    sl_buf_t scratch;
    sl_buf_init(&scratch, 65536);
    for (int i = 0; i < REQUESTS; i++) {
        case_request_t r;
        case_request(c, &r);
        check(case_agrees(plan, nv, entities, &r, &scratch));
    }
    sl_buf_deinit(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    bool traditional = data[0] & 1;
    choices_t c = {.data = data + 1, .size = size - 1};
    json_t *entities = case_entities(&c, 40, traditional);
    sl_buf_t image;
    sl_buf_init(&image, SIZE_MAX);
    gw_plan_t *plan = NULL;
    check(gw_plan_build(entities, &(gw_plan_conf_t){.traditional = traditional}, &image, NULL) == SL_OK);
    check(gw_plan_open(sl_buf_str(&image), &plan, NULL) == SL_OK);
    naive_t nv;
    naive_init(&nv, entities, traditional);
    ask(&c, plan, &nv, entities);
    naive_deinit(&nv);
    gw_plan_close(plan);
    sl_buf_deinit(&image);
    json_decref(entities);
    return 0;
}
