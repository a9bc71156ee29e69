/* A plan from entities written by hand (JSON in single quotes), and short forms of questions to it. */
#ifndef PLAN_FIXTURE_H
#define PLAN_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include "cmocka_all.h"
#include "gw_plan.h"

typedef struct {
    json_t *entities;
    gw_plan_t *plan;
    sl_buf_t image, scratch;
    gw_match_t match;
    char route[64];
} fixture_t;

static inline json_t *fixture_json(const char *single_quoted) {
    char *text = malloc(strlen(single_quoted) + 1);
    assert_non_null(text);
    strcpy(text, single_quoted);
    for (char *p = text; *p; p++) {
        *p = (char)(*p == '\'' ? '"' : *p);
    }
    json_error_t error;
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (json == NULL) {
        fail_msg("test data, line %d: %s", error.line, error.text);
    }
    free(text);
    return json;
}

static inline sl_status_t fixture_try(const char *entities, bool traditional, sl_err_t *err) {
    json_t *json = fixture_json(entities);
    sl_buf_t image;
    sl_buf_init(&image, SIZE_MAX);
    sl_status_t rc = gw_plan_build(json, &(gw_plan_conf_t){.traditional = traditional}, &image, err);
    sl_buf_deinit(&image);
    json_decref(json);
    return rc;
}

static inline void fixture_open_conf(fixture_t *f, const char *entities, gw_plan_conf_t conf) {
    *f = (fixture_t){.entities = fixture_json(entities)};
    sl_buf_init(&f->image, SIZE_MAX);
    sl_buf_init(&f->scratch, 65536);
    sl_err_t err;
    if (gw_plan_build(f->entities, &conf, &f->image, &err) != SL_OK || gw_plan_open(sl_buf_str(&f->image), &f->plan, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
}

static inline void fixture_open(fixture_t *f, const char *entities, bool traditional) {
    fixture_open_conf(f, entities, (gw_plan_conf_t){.traditional = traditional});
}

static inline void fixture_close(fixture_t *f) {
    gw_plan_close(f->plan);
    sl_buf_deinit(&f->image);
    sl_buf_deinit(&f->scratch);
    json_decref(f->entities);
}

/* Id of the matching route, "" for none. */
static inline const char *fixture_match_in(fixture_t *f, const gw_match_in_t *in) {
    gw_route_t route;
    sl_status_t rc = gw_plan_match(f->plan, in, &f->scratch, &f->match);
    f->route[0] = '\0';
    if (rc == SL_OK) {
        gw_plan_route(f->plan, f->match.route, &route);
        snprintf(f->route, sizeof(f->route), "%.*s", SL_FMT(route.id));
    } else {
        assert_int_equal(rc, SL_NOT_FOUND);
    }
    return f->route;
}

static inline const char *fixture_get(fixture_t *f, const char *host, const char *path) {
    gw_match_in_t in = {.method = SL_STR("GET"), .host = sl_cstr(host), .port = 8000, .path = sl_cstr(path)};
    return fixture_match_in(f, &in);
}

/* Headers as a table of names and values that ends in NULL. */
static inline sl_str_t fixture_header(void *ud, sl_str_t name, size_t i) {
    const char *const *table = ud;
    for (; table[0] != NULL; table += 2) {
        if (sl_str_eq(name, sl_cstr(table[0])) && i-- == 0) {
            return sl_cstr(table[1]);
        }
    }
    return SL_STR_NULL;
}

static inline const char *fixture_get_with(fixture_t *f, const char *path, const char *const *headers) {
    gw_match_in_t in = {.method = SL_STR("GET"), .host = SL_STR("h.test"), .port = 8000, .path = sl_cstr(path)};
    in.header = fixture_header;
    in.ud = (void *)(uintptr_t)headers;
    return fixture_match_in(f, &in);
}

#define assert_str(s, literal)                                                                                                             \
    do {                                                                                                                                   \
        sl_str_t s_ = (s);                                                                                                                 \
        assert_int_equal(s_.len, strlen(literal));                                                                                         \
        assert_memory_equal(s_.data, literal, s_.len);                                                                                     \
    } while (0)

#endif
