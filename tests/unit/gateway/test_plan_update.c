/* An updated plan says what a plan says that was built from everything. */
#include "gw_plan.h"

#include <stdio.h>
#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "plan_damage.h"

enum { N_IDS = 24, ROUNDS = 120 };

static uint32_t seed = 1;

static unsigned pick(unsigned n) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static const char *const hosts[] = {"a.test", "b.test", "*.a.test", "a.*", "b.test:8000"};
static const char *const paths[] = {"/", "/a", "/a/b", "/ab", "~/a/\\d+", "~/b.*", "/c%20d"};
static const char *const tags[] = {"red", "green", "blue"};
static const char *const filters[] = {"f", "g"};

static void set_some(json_t *entity, const char *field, const char *const *values, unsigned n) {
    json_t *list = json_array();
    for (unsigned i = 0; i < n; i++) {
        if (pick(3) == 0) {
            json_array_append_new(list, json_string(values[i]));
        }
    }
    json_object_set_new(entity, field, list);
}

static json_t *reference(const char *id) {
    return id != NULL ? json_pack("{s:s}", "id", id) : json_null();
}

/* One of those that there are, NULL: none. */
static const char *some_id(const json_t *all, const char *collection) {
    json_t *map = json_object_get(all, collection);
    size_t n = json_object_size(map), at = n > 0 ? pick((unsigned)n) : 0, i = 0;
    const char *id;
    json_t *value;
    json_object_foreach(map, id, value) {
        if (i++ == at) {
            return id;
        }
    }
    return NULL;
}

static json_t *make_service(void) {
    char name[16];
    snprintf(name, sizeof(name), "s%u", pick(1000));
    json_t *s = json_pack("{s:s, s:s, s:b, s:i}", "name", name, "host", "up.test", "enabled", pick(4) != 0, "port", (int)pick(5) + 80);
    set_some(s, "tags", tags, 3);
    return s;
}

static json_t *make_route(const json_t *all) {
    char name[16];
    snprintf(name, sizeof(name), "r%u", pick(1000));
    json_t *r = json_pack("{s:s, s:i, s:[s,s]}", "name", name, "created_at", (int)pick(4), "methods", "GET", "POST");
    set_some(r, "hosts", hosts, 5);
    set_some(r, "paths", paths, 7);
    set_some(r, "tags", tags, 3);
    json_object_set_new(r, "service", reference(pick(4) == 0 ? NULL : some_id(all, "services")));
    if (pick(4) == 0) {
        json_object_set_new(r, "headers", json_pack("{s:[s]}", "X-Tenant", pick(2) ? "one" : "two"));
    }
    if (pick(6) == 0) {
        json_object_set_new(r, "snis", json_pack("[s]", "a.test"));
    }
    return r;
}

static bool has_chain(const json_t *all, const char *field, const char *owner) {
    const char *id;
    json_t *chain;
    json_object_foreach(json_object_get(all, "filter_chains"), id, chain) {
        const char *of = json_string_value(json_object_get(json_object_get(chain, field), "id"));
        if (of != NULL && strcmp(of, owner) == 0) {
            return true;
        }
    }
    return false;
}

/* NULL: there is nobody without a chain. */
static json_t *make_chain(const json_t *all) {
    bool of_service = pick(2) != 0;
    const char *field = of_service ? "service" : "route", *owner = some_id(all, of_service ? "services" : "routes");
    if (owner == NULL || has_chain(all, field, owner)) {
        return NULL;
    }
    json_t *list = json_array();
    for (unsigned i = 0; i <= pick(3); i++) {
        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:b}", "name", filters[pick(2)], "config", (int)pick(5), "enabled", pick(4) != 0));
    }
    json_t *c = json_pack("{s:o, s:b}", "filters", list, "enabled", pick(5) != 0);
    json_object_set_new(c, field, reference(owner));
    return c;
}

static json_t *make_plugin(const json_t *all) {
    bool of_service = pick(2) != 0;
    const char *owner = some_id(all, of_service ? "services" : "routes");
    json_t *p = json_pack("{s:s, s:i, s:b}", "name", filters[pick(2)], "updated_at", (int)pick(3), "enabled", pick(4) != 0);
    json_object_set_new(p, of_service ? "service" : "route", reference(owner));
    return p;
}

static const char *const collections[] = {"services", "routes", "filter_chains", "plugins", "consumers"};

static json_t *make(const json_t *all, unsigned kind) {
    char name[16];
    snprintf(name, sizeof(name), "u%u", pick(1000));
    switch (kind) {
    case 0:
        return make_service();
    case 1:
        return make_route(all);
    case 2:
        return make_chain(all);
    case 3:
        return make_plugin(all);
    default:
        return json_pack("{s:s}", "username", name);
    }
}

typedef struct {
    json_t *all, *changed, *gone;
} change_t;

static void note_gone(change_t *c, const char *collection, const char *id) {
    json_t *list = json_object_get(c->gone, collection);
    if (list == NULL) {
        list = json_array();
        json_object_set_new(c->gone, collection, list);
    }
    json_array_append_new(list, json_string(id));
    json_object_del(json_object_get(c->changed, collection), id);
}

/* With everything that refers to it, as the store does. */
static void erase(change_t *c, const char *collection, const char *id) {
    char copy[40];
    snprintf(copy, sizeof(copy), "%s", id);
    note_gone(c, collection, copy);
    json_object_del(json_object_get(c->all, collection), copy);
    for (unsigned k = 0; k < 4; k++) {
        const char *child;
        json_t *entity;
        void *tmp;
        json_object_foreach_safe(json_object_get(c->all, collections[k]), tmp, child, entity) {
            const char *field = strcmp(collection, "services") == 0 ? "service" : "route";
            const char *of = json_string_value(json_object_get(json_object_get(entity, field), "id"));
            if (of != NULL && strcmp(of, copy) == 0) {
                erase(c, collections[k], child);
            }
        }
    }
}

static void put(change_t *c, const char *collection, const char *id, json_t *entity) {
    json_t *maps[] = {c->all, c->changed};
    json_object_set_new(entity, "id", json_string(id));
    for (unsigned i = 0; i < 2; i++) {
        if (json_object_get(maps[i], collection) == NULL) {
            json_object_set_new(maps[i], collection, json_object());
        }
        json_object_set(json_object_get(maps[i], collection), id, entity);
    }
    json_decref(entity);
}

static void change_something(change_t *c) {
    unsigned kind = pick(5);
    char id[40];
    snprintf(id, sizeof(id), "%08x-0000-4000-8000-%012x", pick(N_IDS) * 2654435761u, kind);
    if (json_object_get(json_object_get(c->all, collections[kind]), id) != NULL && pick(3) == 0) {
        erase(c, collections[kind], id);
        return;
    }
    if (kind == 2 && json_object_get(json_object_get(c->all, collections[kind]), id) != NULL) {
        erase(c, collections[kind], id); /* its owner may get another one */
    }
    json_t *entity = make(c->all, kind);
    if (entity == NULL) {
        return;
    }
    bool matches = kind != 1 || json_array_size(json_object_get(entity, "methods")) > 0;
    assert_true(matches);
    put(c, collections[kind], id, entity);
}

/* ---- comparing ------------------------------------------------------------------------------------------------------------------ */

static void assert_same_str(sl_str_t a, sl_str_t b) {
    assert_true((a.data == NULL) == (b.data == NULL));
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data != NULL ? a.data : "", b.data != NULL ? b.data : "", a.len);
}

static void compare_chains(const gw_plan_t *a, int32_t x, const gw_plan_t *b, int32_t y) {
    assert_int_equal(x >= 0, y >= 0);
    if (x < 0) {
        return;
    }
    assert_int_equal(gw_plan_chain(a, (uint32_t)x), gw_plan_chain(b, (uint32_t)y));
    for (size_t i = 0; i < gw_plan_chain(a, (uint32_t)x); i++) {
        gw_filter_t f, g;
        gw_plan_chain_filter(a, (uint32_t)x, i, &f);
        gw_plan_chain_filter(b, (uint32_t)y, i, &g);
        assert_same_str(f.name, g.name);
        assert_same_str(f.config, g.config);
        assert_same_str(f.chain_id, g.chain_id);
        assert_memory_equal(f.key, g.key, sizeof(f.key));
        assert_int_equal(f.from_service, g.from_service);
    }
}

static void compare_routes(const gw_plan_t *a, const gw_plan_t *b) {
    assert_int_equal(gw_plan_n_services(a), gw_plan_n_services(b));
    assert_int_equal(gw_plan_n_routes(a), gw_plan_n_routes(b));
    assert_int_equal(gw_plan_n_chains(a), gw_plan_n_chains(b));
    assert_int_equal(gw_plan_n_filters(a), gw_plan_n_filters(b));
    for (uint32_t i = 0; i < gw_plan_n_services(a); i++) {
        gw_service_t s, t;
        gw_plan_service(a, i, &s);
        gw_plan_service(b, i, &t);
        assert_same_str(s.id, t.id);
        assert_same_str(s.name, t.name);
        assert_int_equal(s.port, t.port);
        assert_int_equal(s.enabled, t.enabled);
    }
    for (uint32_t i = 0; i < gw_plan_n_routes(a); i++) {
        gw_route_t r, q;
        gw_plan_route(a, i, &r);
        gw_plan_route(b, i, &q);
        assert_same_str(r.id, q.id);
        assert_same_str(r.name, q.name);
        assert_int_equal(r.has_service, q.has_service);
        assert_int_equal(r.service, q.service);
        compare_chains(a, r.chain, b, q.chain);
    }
}

static void compare_sets(const gw_plan_set_t *a, const gw_plan_set_t *b) {
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        assert_int_equal(gw_plan_set_at(a, i), gw_plan_set_at(b, i));
        assert_int_equal(gw_plan_set_from(a, gw_plan_set_at(a, i)), i);
    }
}

/* What the indexes say is what a look at every entity says. */
static void check_index(const gw_plan_t *plan, const json_t *all, const char *tag, const char *service) {
    gw_plan_set_t tagged = gw_plan_tagged(plan, SL_STR("routes"), sl_cstr(tag));
    gw_plan_set_t children =
        gw_plan_children(plan, SL_STR("routes"), SL_STR("service"), SL_STR("services"), sl_cstr(service != NULL ? service : "none"));
    size_t n_tagged = 0, n_children = 0;
    const char *id;
    json_t *route;
    json_object_foreach(json_object_get(all, "routes"), id, route) {
        size_t i;
        json_t *value;
        json_array_foreach(json_object_get(route, "tags"), i, value) {
            n_tagged += strcmp(json_string_value(value), tag) == 0;
        }
        const char *of = json_string_value(json_object_get(json_object_get(route, "service"), "id"));
        n_children += of != NULL && service != NULL && strcmp(of, service) == 0;
    }
    assert_int_equal(tagged.n, n_tagged);
    assert_int_equal(children.n, n_children);
}

static void compare_entities(const gw_plan_t *a, const gw_plan_t *b, const json_t *all) {
    for (unsigned k = 0; k < 5; k++) {
        sl_str_t name = sl_cstr(collections[k]);
        assert_int_equal(gw_plan_entity_count(a, name), gw_plan_entity_count(b, name));
        for (size_t i = 0; i < gw_plan_entity_count(a, name); i++) {
            assert_same_str(gw_plan_entity_at(a, name, i), gw_plan_entity_at(b, name, i));
        }
        for (unsigned t = 0; t < 3; t++) {
            gw_plan_set_t x = gw_plan_tagged(a, name, sl_cstr(tags[t])), y = gw_plan_tagged(b, name, sl_cstr(tags[t]));
            compare_sets(&x, &y);
        }
        const char *id;
        json_t *entity;
        json_object_foreach(json_object_get(all, collections[k]), id, entity) {
            assert_same_str(gw_plan_entity(a, name, sl_cstr(id)), gw_plan_entity(b, name, sl_cstr(id)));
            const char *key = json_string_value(json_object_get(entity, k == 4 ? "username" : "name"));
            assert_same_str(gw_plan_entity(a, name, sl_cstr(key)), gw_plan_entity(b, name, sl_cstr(key)));
        }
    }
    for (unsigned t = 0; t < 3; t++) {
        check_index(a, all, tags[t], some_id(all, "services"));
    }
}

static void compare_matches(const gw_plan_t *a, const gw_plan_t *b) {
    static const char *const asked_hosts[] = {"a.test", "b.test", "x.a.test", "a.org", "c.test"};
    static const char *const asked_paths[] = {"/", "/a", "/a/b/c", "/a/12", "/abc", "/bx", "/c%20d", "/zzz"};
    sl_buf_t scratch[2];
    sl_buf_init(&scratch[0], 65536);
    sl_buf_init(&scratch[1], 65536);
    for (unsigned i = 0; i < 5 * 8 * 2; i++) {
        gw_match_in_t in = {.method = SL_STR("GET"), .port = 8000, .header = damage_header};
        in.host = sl_cstr(asked_hosts[i % 5]);
        in.path = sl_cstr(asked_paths[i / 5 % 8]);
        in.https = i >= 40;
        in.sni = in.https ? SL_STR("a.test") : SL_STR_NULL;
        gw_match_t m = {.route = 0}, n = {.route = 0};
        sl_status_t rc = gw_plan_match(a, &in, &scratch[0], &m);
        assert_int_equal(rc, gw_plan_match(b, &in, &scratch[1], &n));
        if (rc == SL_OK) {
            assert_int_equal(m.route, n.route);
            assert_same_str(m.upstream_path, n.upstream_path);
        }
    }
    sl_buf_deinit(&scratch[0]);
    sl_buf_deinit(&scratch[1]);
}

/* ---- plans ---------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    sl_buf_t image;
    gw_plan_t *plan;
} plan_t;

static void open_plan(plan_t *p) {
    sl_err_t err;
    if (gw_plan_open(sl_buf_str(&p->image), &p->plan, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
}

static void build(plan_t *p, const json_t *all, const gw_plan_conf_t *conf) {
    sl_err_t err;
    sl_buf_init(&p->image, SIZE_MAX / 2);
    if (gw_plan_build(all, conf, &p->image, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    open_plan(p);
}

static void update(plan_t *p, const plan_t *base, const change_t *c, const gw_plan_conf_t *conf) {
    sl_err_t err;
    sl_buf_init(&p->image, SIZE_MAX / 2);
    if (gw_plan_update(base->plan, c->changed, c->gone, conf, &p->image, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    open_plan(p);
}

static void close_plan(plan_t *p) {
    gw_plan_close(p->plan);
    sl_buf_deinit(&p->image);
}

static void forget(change_t *c) {
    json_decref(c->changed);
    json_decref(c->gone);
    c->changed = json_object();
    c->gone = json_object();
}

static void play(bool traditional) {
    gw_plan_conf_t conf = {.traditional = traditional, .generation = 1};
    change_t c = {json_object(), json_object(), json_object()};
    plan_t base, next, full;
    build(&base, c.all, &conf);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i <= pick(6); i++) {
            change_something(&c);
        }
        conf.generation++;
        update(&next, &base, &c, &conf);
        build(&full, c.all, &conf);
        assert_int_equal(gw_plan_generation(next.plan), conf.generation);
        compare_routes(next.plan, full.plan);
        compare_entities(next.plan, full.plan, c.all);
        compare_matches(next.plan, full.plan);
        close_plan(&full);
        close_plan(&base);
        base = next;
        forget(&c);
    }
    close_plan(&base);
    json_decref(c.all);
    json_decref(c.changed);
    json_decref(c.gone);
}

static void an_updated_plan_says_what_one_says_that_was_built_from_everything(void **state) {
    (void)state;
    for (seed = 1; seed < 4; seed++) {
        uint32_t mine = seed;
        play(false);
        play(true);
        seed = mine;
    }
}

static void an_update_of_another_flavor_or_other_modules_is_refused(void **state) {
    (void)state;
    change_t c = {json_object(), json_object(), json_object()};
    plan_t base;
    build(&base, c.all, &(gw_plan_conf_t){.generation = 1});
    sl_buf_t image;
    sl_err_t err;
    sl_buf_init(&image, SIZE_MAX / 2);
    assert_int_equal(gw_plan_update(base.plan, c.changed, c.gone, &(gw_plan_conf_t){.traditional = true}, &image, &err), SL_CONFLICT);
    assert_int_equal(gw_plan_update(base.plan, c.changed, c.gone, &(gw_plan_conf_t){.modules = {1}}, &image, &err), SL_CONFLICT);
    close_plan(&base);
    sl_buf_deinit(&image);
    json_decref(c.all);
    json_decref(c.changed);
    json_decref(c.gone);
}

static void a_plan_that_is_mostly_waste_is_built_anew(void **state) {
    (void)state;
    change_t c = {json_object(), json_object(), json_object()};
    gw_plan_conf_t conf = {.generation = 1};
    plan_t base, next;
    char *text = malloc(400001);
    assert_non_null(text);
    memset(text, 'x', 400000);
    text[400000] = '\0';
    build(&base, c.all, &conf);
    sl_status_t rc = SL_OK;
    unsigned n = 0;
    while (rc == SL_OK && n < 50) {
        sl_err_t err;
        text[n++] = 'y';
        put(&c, "consumers", "00000000-0000-4000-8000-000000000001", json_pack("{s:s}", "username", text));
        sl_buf_init(&next.image, SIZE_MAX / 2);
        rc = gw_plan_update(base.plan, c.changed, c.gone, &conf, &next.image, &err);
        if (rc == SL_OK) {
            open_plan(&next);
            close_plan(&base);
            base = next;
        }
    }
    assert_int_equal(rc, SL_CONFLICT);
    assert_true(n > 1);
    sl_buf_deinit(&next.image);
    close_plan(&base);
    free(text);
    json_decref(c.all);
    json_decref(c.changed);
    json_decref(c.gone);
}

static void a_kept_reference_to_what_is_gone_is_refused(void **state) {
    (void)state;
    change_t c = {json_object(), json_object(), json_object()};
    put(&c, "services", "00000000-0000-4000-8000-000000000001", json_pack("{s:s}", "host", "h"));
    put(&c, "routes", "00000000-0000-4000-8000-000000000002",
        json_pack("{s:[s], s:{s:s}}", "paths", "/", "service", "id", "00000000-0000-4000-8000-000000000001"));
    plan_t base;
    gw_plan_conf_t conf = {.generation = 1};
    build(&base, c.all, &conf);
    forget(&c);
    note_gone(&c, "services", "00000000-0000-4000-8000-000000000001");
    sl_buf_t image;
    sl_err_t err;
    sl_buf_init(&image, SIZE_MAX / 2);
    assert_int_equal(gw_plan_update(base.plan, c.changed, c.gone, &conf, &image, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "its service does not exist"));
    close_plan(&base);
    sl_buf_deinit(&image);
    json_decref(c.all);
    json_decref(c.changed);
    json_decref(c.gone);
}

static void every_allocation_of_an_update_may_fail(void **state) {
    (void)state;
    change_t c = {json_object(), json_object(), json_object()};
    gw_plan_conf_t conf = {.generation = 1};
    for (unsigned i = 0; i < 60; i++) {
        change_something(&c);
    }
    plan_t base;
    build(&base, c.all, &conf);
    forget(&c);
    for (unsigned i = 0; i < 10; i++) {
        change_something(&c);
    }
    bool done = false;
    for (unsigned n = 1; !done; n++) {
        sl_buf_t image;
        sl_err_t err;
        sl_buf_init(&image, SIZE_MAX / 2);
        fail_alloc_at(n);
        sl_status_t rc = gw_plan_update(base.plan, c.changed, c.gone, &conf, &image, &err);
        done = fail_alloc_seen() < n;
        fail_alloc_at(0);
        assert_true(rc == SL_NO_MEMORY || rc == SL_OK);
        assert_true(rc == SL_OK || !done);
        sl_buf_deinit(&image);
    }
    close_plan(&base);
    json_decref(c.all);
    json_decref(c.changed);
    json_decref(c.gone);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_updated_plan_says_what_one_says_that_was_built_from_everything),
        cmocka_unit_test(an_update_of_another_flavor_or_other_modules_is_refused),
        cmocka_unit_test(a_plan_that_is_mostly_waste_is_built_anew),
        cmocka_unit_test(a_kept_reference_to_what_is_gone_is_refused),
        cmocka_unit_test(every_allocation_of_an_update_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
