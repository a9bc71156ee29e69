/*
 * For bench/plan.py: a plan of as many routes, and requests to it.
 *
 *   plan_match build N FILE       builds the plan, writes it; prints milliseconds of CPU and bytes
 *   plan_match update N FILE      makes the next one after one route of it changed; prints milliseconds of CPU
 *   plan_match match N FILE K     K requests, each for another route
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "gw_plan.h"
#include "sl_file.h"

static char text[128];

static const char *path_of(unsigned i) {
    snprintf(text, sizeof(text), "/api/v%u/item-%u", i % 7, i);
    return text;
}

static const char *id_of(unsigned i) {
    static char id[40];
    snprintf(id, sizeof(id), "%08x-0000-4000-8000-000000000000", i * 2654435761u);
    return id;
}

static json_t *route(unsigned i) {
    return json_pack("{s:s, s:[s], s:{s:s}, s:i, s:[s]}", "id", id_of(i), "paths", path_of(i), "service", "id", "s", "created_at",
                     1700000000 + (int)i, "tags", "bench");
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* other work of the machine does not count */
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void must(sl_status_t rc, const sl_err_t *err) {
    if (rc != SL_OK) {
        fprintf(stderr, "plan_match: %s\n", err->text);
        exit(1);
    }
}

static void build(unsigned n, const char *path) {
    sl_err_t err = {.text = ""};
    sl_buf_t image;
    json_t *routes = json_object();
    for (unsigned i = 0; i < n; i++) {
        json_object_set_new(routes, id_of(i), route(i));
    }
    json_t *all = json_pack("{s:{s:{s:s,s:s}}, s:o}", "services", "s", "id", "s", "host", "up.test", "routes", routes);
    sl_buf_init(&image, SIZE_MAX / 2);
    double start = now_ms();
    must(gw_plan_build(all, &(gw_plan_conf_t){.generation = 1}, &image, &err), &err);
    printf("%.1f %zu\n", now_ms() - start, image.len);
    must(sl_file_write_atomic(path, sl_buf_str(&image), 0600, &err), &err);
    sl_buf_deinit(&image);
    json_decref(all);
}

static void update(const gw_plan_t *base) {
    sl_err_t err = {.text = ""};
    sl_buf_t image;
    json_t *changed = route(0), *all;
    json_object_set_new(changed, "paths", json_pack("[s]", "/somewhere/else"));
    all = json_pack("{s:{s:o}}", "routes", id_of(0), changed);
    sl_buf_init(&image, SIZE_MAX / 2);
    double start = now_ms();
    must(gw_plan_update(base, all, NULL, &(gw_plan_conf_t){.generation = 2}, &image, &err), &err);
    printf("%.1f\n", now_ms() - start);
    sl_buf_deinit(&image);
    json_decref(all);
}

static void match(const gw_plan_t *plan, unsigned n, unsigned requests) {
    sl_err_t err = {.text = "a request without a route"};
    sl_buf_t scratch;
    sl_buf_init(&scratch, 65536);
    for (unsigned k = 0; k < requests; k++) {
        gw_match_in_t in = {.method = SL_STR("GET"), .host = SL_STR("a.test"), .port = 8000};
        gw_match_t m;
        in.path = sl_cstr(path_of((unsigned)((k * 2654435761u) % n)));
        must(gw_plan_match(plan, &in, &scratch, &m), &err);
    }
    sl_buf_deinit(&scratch);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: plan_match build|update|match N FILE [K]\n");
        return 2;
    }
    unsigned n = (unsigned)strtoul(argv[2], NULL, 10);
    if (strcmp(argv[1], "build") == 0) {
        build(n, argv[3]);
        return 0;
    }
    gw_plan_t *plan;
    sl_err_t err;
    must(gw_plan_open_file(argv[3], &plan, &err), &err);
    if (strcmp(argv[1], "update") == 0) {
        update(plan);
    } else {
        match(plan, n, argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 1);
    }
    gw_plan_close(plan);
    return 0;
}
