/*
 * The router against the linear scan. The input's bytes are the choices of which routes there are and which requests come; whatever they
 * are, both must name the same route and the same matched prefix. The bytes are also taken as a path to normalise and to join.
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

static bool contains(sl_str_t s, const char *what) {
    return s.len > 0 && memmem(s.data, s.len, what, strlen(what)) != NULL;
}

static void check_joins(sl_str_t path) {
    static const sl_str_t bases[] = {{"/", 1}, {"/s", 2}, {"/s/", 3}};
    for (unsigned i = 0; i < 3 * 8; i++) {
        gw_path_join_t j = {.base = bases[i / 8], .path = path, .has_prefix = i & 1, .strip = i & 2, .v1 = i & 4};
        j.prefix = j.has_prefix ? path.len / 2 : 0;
        sl_buf_t out;
        sl_buf_init(&out, gw_path_join_max(&j));
        check(gw_path_join(&j, &out) == SL_OK && out.len > 0);
        for (size_t k = 0; k < out.len; k++) {
            check(out.data[k] > ' ' && out.data[k] < 0x7f);
        }
        sl_buf_deinit(&out);
    }
}

/* The normal form is its own normal form, not longer, and has nothing left to resolve. */
static void check_path(sl_str_t target) {
    sl_str_t path = gw_path_of_target(target);
    sl_buf_t once, twice;
    sl_buf_init(&once, path.len);
    sl_buf_init(&twice, path.len);
    check(gw_path_normalize(path, &once) == SL_OK);
    sl_str_t normal = sl_buf_str(&once);
    check(gw_path_normalize(normal, &twice) == SL_OK);
    if (normal.len > 0 && normal.data[0] == '/') {
        /* "%%41" becomes "%A", which with digits behind it can be decoded once more; so only where no '%' is left over. */
        check(contains(normal, "%") || sl_str_eq(normal, sl_buf_str(&twice)));
        check(!contains(normal, "//") && !contains(normal, "/./") && !contains(normal, "/../"));
        check_joins(normal);
    }
    sl_buf_deinit(&once);
    sl_buf_deinit(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    check_path(sl_str(data, size));
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
