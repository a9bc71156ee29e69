/* The Admin API over a store in memory: what integration tests cannot make happen, and what needs no nginx. */
#include "nd_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "nd_publish.h"
#include "sl_file.h"

static st_store_t *store;
static nd_filters_t *filters;
static nd_node_t node;
static gw_plan_t *plan;
static sl_buf_t image;
static sl_err_t err;
static char dir[64];
static uint64_t committed;

static int make(void **state) {
    (void)state;
    st_conf_t conf = {.kind = "memory"};
    gw_plan_conf_t plan_conf = {.generation = 1};
    json_t *nothing = json_object();
    snprintf(dir, sizeof(dir), "/tmp/sluice-data-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(st_store_open(&conf, &store, &err), SL_OK);
    assert_int_equal(nd_filters_scan(NULL, SL_STR_NULL, &filters, &err), SL_OK);
    sl_buf_init(&image, 1 << 20);
    assert_int_equal(gw_plan_build(nothing, &plan_conf, &image, &err), SL_OK);
    assert_int_equal(gw_plan_open(sl_buf_str(&image), &plan, &err), SL_OK);
    json_decref(nothing);
    node = (nd_node_t){.filters = filters, .wasm_enabled = true};
    return 0;
}

static int drop(void **state) {
    (void)state;
    char cmd[128];
    gw_plan_close(plan);
    sl_buf_deinit(&image);
    st_store_close(store);
    nd_filters_free(filters);
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    return system(cmd);
}

/* Answers the status; *body (may be NULL) is a new reference. */
static int call_on(st_store_t *on, const char *method, const char *path, const char *sent, json_t **body) {
    gw_admin_response_t resp = {.status = 0};
    gw_admin_env_t env = {.plan = plan, .info = {.wasm_enabled = true}};
    gw_admin_request_t req = {.method = sl_cstr(method), .path = sl_cstr(path), .body = sl_cstr(sent)};
    req.content_type = sent != NULL ? SL_STR("application/json") : SL_STR_NULL;
    req.n_content_types = sent != NULL;
    nd_validate_env(&node, &env.validate);
    sl_buf_init(&resp.body, 1 << 22);
    sl_buf_init(&resp.headers, 65536);
    nd_admin_handle(&node, on, &req, &env, &resp, &committed, NULL, &err);
    json_t *answer = resp.body.len > 0 ? json_loadb(resp.body.data, resp.body.len, 0, NULL) : NULL;
    if (body != NULL) {
        *body = answer;
    } else {
        json_decref(answer);
    }
    sl_buf_deinit(&resp.body);
    sl_buf_deinit(&resp.headers);
    return resp.status;
}

static int call(const char *method, const char *path, const char *sent) {
    return call_on(store, method, path, sent, NULL);
}

static void a_write_tells_the_revision_that_it_made_and_a_read_none(void **state) {
    (void)state;
    assert_int_equal(call("POST", "/services", "{\"name\":\"s\",\"host\":\"h\"}"), 201);
    assert_int_equal(committed, 1);
    assert_int_equal(call("GET", "/services/s", NULL), 200);
    assert_int_equal(committed, 0);
    assert_int_equal(call("PATCH", "/services/s", "{\"port\":81}"), 200);
    assert_int_equal(committed, 2);
}

static void refused_writes_make_no_revision(void **state) {
    uint64_t revision;
    (void)state;
    assert_int_equal(call("POST", "/services", "{\"port\":-1}"), 400);
    assert_int_equal(call("DELETE", "/services/absent", NULL), 204);
    assert_int_equal(call("POST", "/routes", "{\"paths\":[\"/\"],\"service\":{\"id\":\"11111111-1111-4111-8111-111111111111\"}}"), 400);
    assert_int_equal(committed, 0);
    assert_int_equal(st_store_revision(store, &revision, &err), SL_OK);
    assert_int_equal(revision, 0);
}

static void no_transaction_stays_open_after_any_answer(void **state) {
    static const char *const requests[][3] = {
        {"GET", "/services", NULL},
        {"GET", "/services?size=x", NULL},
        {"POST", "/services", "{"},
        {"PUT", "/services/a", "{}"},
        {"PATCH", "/services/a", "{}"},
        {"DELETE", "/services/a", NULL},
        {"GET", "/tags", NULL},
        {"GET", "/status", NULL},
        {"GET", "/routes/r/filters/all", NULL},
        {"OPTIONS", "/services", NULL},
        {"POST", "/transactions", "{\"operations\":[{}]}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        st_tx_t *tx;
        call(requests[i][0], requests[i][1], requests[i][2]);
        assert_int_equal(st_tx_begin(store, ST_WRITE, ST_ANY_REVISION, &tx, &err), SL_OK);
        st_tx_rollback(tx);
    }
}

static void a_transaction_that_ends_with_a_broken_reference_names_its_operation(void **state) {
    (void)state;
    json_t *body;
    assert_int_equal(
        call_on(store, "POST", "/transactions",
                "{\"operations\":[{\"op\":\"put\",\"path\":\"/services/s\",\"body\":{\"host\":\"h\"}},{\"op\":\"post\",\"path\":"
                "\"/routes\",\"body\":{\"paths\":[\"/\"],\"service\":{\"id\":\"11111111-1111-4111-8111-111111111111\"}}}]}",
                &body),
        400);
    assert_int_equal(json_integer_value(json_object_get(body, "index")), 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(body, "error"), "code")), 4);
    json_decref(body);
    assert_int_equal(call("GET", "/services/s", NULL), 404);
}

static void without_a_store_what_needs_none_is_answered(void **state) {
    (void)state;
    json_t *body;
    sl_err_set(&err, SL_IO, "the disk is gone");
    assert_int_equal(call_on(NULL, "GET", "/services", NULL, &body), 500);
    assert_string_equal(json_string_value(json_object_get(body, "reason")), "the disk is gone");
    json_decref(body);
    assert_int_equal(call_on(NULL, "POST", "/services", "{\"host\":\"h\"}", NULL), 500);
    assert_int_equal(call_on(NULL, "GET", "/schemas/services", NULL, NULL), 200);
    assert_int_equal(call_on(NULL, "GET", "/status", NULL, &body), 200);
    assert_false(json_is_true(json_object_get(json_object_get(body, "database"), "reachable")));
    json_decref(body);
}

static void publishing_writes_a_plan_of_the_newest_revision_once(void **state) {
    (void)state;
    char path[128];
    gw_plan_t *written;
    nd_publication_t p = {.generation = 7};
    snprintf(path, sizeof(path), "%s/plan", dir);
    node.plan_path = path;
    assert_int_equal(call("POST", "/services", "{\"name\":\"s\",\"host\":\"h\"}"), 201);
    assert_int_equal(nd_publish(&node, store, NULL, &p, &err), SL_OK);
    assert_true(p.written);
    assert_int_equal(p.revision, 1);
    assert_int_equal(gw_plan_open_file(path, &written, &err), SL_OK);
    assert_int_equal(gw_plan_generation(written), 7);
    assert_int_equal(gw_plan_store_revision(written), 1);
    assert_int_equal(gw_plan_n_services(written), 1);
    gw_plan_close(written);
    assert_int_equal(unlink(path), 0);
    p.have = p.revision;
    assert_int_equal(nd_publish(&node, store, NULL, &p, &err), SL_OK);
    assert_false(p.written);
    assert_int_not_equal(access(path, F_OK), 0);
    p.have = ND_NO_REVISION;
    p.generation = 8;
    assert_int_equal(nd_publish(&node, store, NULL, &p, &err), SL_OK);
    assert_int_equal(p.generation, 8);
    p.generation = 1;
    assert_int_equal(nd_publish(&node, store, NULL, &p, &err), SL_OK);
    assert_int_equal(p.generation, 9);
}

typedef struct {
    char path[128];
    unsigned times;
    bool file_was_there, answer;
    uint64_t generation, revision;
} sharing_t;

static bool share(void *ud, sl_str_t image, uint64_t generation, uint64_t revision) {
    sharing_t *s = ud;
    gw_plan_t *plan;
    s->times++;
    s->file_was_there = access(s->path, F_OK) == 0;
    s->generation = generation;
    s->revision = revision;
    assert_int_equal(gw_plan_open(image, &plan, &err), SL_OK);
    assert_int_equal(gw_plan_n_services(plan), 1);
    gw_plan_close(plan);
    return s->answer;
}

/* There is something to publish, which goes to `share`. */
static void share_a_service(sharing_t *s) {
    snprintf(s->path, sizeof(s->path), "%s/plan", dir);
    node.plan_path = s->path;
    node.share = share;
    node.share_ud = s;
    assert_int_equal(call("POST", "/services", "{\"name\":\"s\",\"host\":\"h\"}"), 201);
}

static void a_plan_of_the_store_is_shared_before_its_file_is_written(void **state) {
    (void)state;
    sharing_t s = {.answer = true};
    nd_publication_t p = {.generation = 7};
    share_a_service(&s);
    assert_int_equal(nd_publish(&node, store, NULL, &p, &err), SL_OK);
    assert_int_equal(s.times, 1);
    assert_false(s.file_was_there);
    assert_int_equal(s.generation, 7);
    assert_int_equal(s.revision, 1);
    assert_int_equal(access(s.path, F_OK), 0);
    assert_string_equal(p.note.text, "");
}

static void a_shared_plan_whose_file_cannot_be_written_is_served_and_noted(void **state) {
    (void)state;
    sharing_t s = {.answer = true};
    nd_publication_t p = {.generation = 7};
    share_a_service(&s);
    assert_int_equal(mkdir(s.path, 0700), 0);
    assert_int_equal(nd_publish(&node, store, NULL, &p, &err), SL_OK);
    assert_true(p.written);
    assert_non_null(strstr(p.note.text, "cannot write"));
    s.answer = false; /* it needs the file */
    p.have = ND_NO_REVISION;
    assert_int_not_equal(nd_publish(&node, store, NULL, &p, &err), SL_OK);
    assert_false(p.written);
    assert_int_equal(rmdir(s.path), 0);
}

static void publishing_over_a_plan_says_what_publishing_everything_says(void **state) {
    (void)state;
    char path[128];
    gw_plan_t *base, *next;
    nd_publication_t p = {.generation = 1};
    snprintf(path, sizeof(path), "%s/plan", dir);
    node.plan_path = path;
    assert_int_equal(call("PUT", "/services/s", "{\"host\":\"h\"}"), 200);
    assert_int_equal(call("PUT", "/routes/a", "{\"paths\":[\"/a\"],\"service\":{\"name\":\"s\"}}"), 200);
    assert_int_equal(call("PUT", "/routes/b", "{\"paths\":[\"/b\"],\"service\":{\"name\":\"s\"}}"), 200);
    assert_int_equal(nd_publish(&node, store, NULL, &p, &err), SL_OK);
    assert_int_equal(gw_plan_open_file(path, &base, &err), SL_OK);
    assert_int_equal(call("DELETE", "/routes/a", NULL), 204);
    assert_int_equal(call("PUT", "/routes/c", "{\"paths\":[\"/c\"],\"service\":{\"name\":\"s\"}}"), 200);
    p.have = p.revision;
    assert_int_equal(nd_publish(&node, store, base, &p, &err), SL_OK);
    assert_int_equal(gw_plan_open_file(path, &next, &err), SL_OK);
    assert_int_equal(gw_plan_store_revision(next), p.revision);
    assert_int_equal(gw_plan_n_routes(next), 2);
    assert_int_equal(gw_plan_entity(next, SL_STR("routes"), SL_STR("a")).len, 0);
    assert_true(gw_plan_entity(next, SL_STR("routes"), SL_STR("c")).len > 0);
    gw_plan_close(next);
    gw_plan_close(base);
}

static void a_plan_of_another_store_is_no_base(void **state) {
    (void)state;
    char path[128];
    gw_plan_t *base, *next;
    sl_buf_t image;
    nd_publication_t p = {.generation = 1};
    snprintf(path, sizeof(path), "%s/plan", dir);
    node.plan_path = path;
    json_t *other = json_pack("{s:{s:{s:s}}}", "services", "ffffffff-0000-4000-8000-00000000000a", "host", "other.test");
    sl_buf_init(&image, 1 << 20);
    assert_int_equal(gw_plan_build(other, &(gw_plan_conf_t){.store_revision = 99}, &image, &err), SL_OK);
    assert_int_equal(gw_plan_open(sl_buf_str(&image), &base, &err), SL_OK);
    assert_int_equal(call("PUT", "/services/s", "{\"host\":\"h\"}"), 200);
    p.have = 99;
    assert_int_equal(nd_publish(&node, store, base, &p, &err), SL_OK);
    assert_int_equal(gw_plan_open_file(path, &next, &err), SL_OK);
    assert_int_equal(gw_plan_n_services(next), 1);
    assert_true(gw_plan_entity(next, SL_STR("services"), SL_STR("s")).len > 0);
    gw_plan_close(next);
    gw_plan_close(base);
    sl_buf_deinit(&image);
    json_decref(other);
}

static void lists_of_tagged_entities_have_pages(void **state) {
    (void)state;
    char path[64];
    size_t seen = 0;
    for (int i = 0; i < 10; i++) {
        snprintf(path, sizeof(path), "/consumers/c%d", i);
        assert_int_equal(call("PUT", path, i % 2 ? "{\"tags\":[\"odd\"]}" : "{}"), 200);
    }
    nd_data_t data;
    nd_data_init(&data, store);
    assert_int_equal(data.base.ops->begin(&data.base, false), SL_OK);
    const char *tag = "odd";
    char after[40] = "";
    for (bool more = true; more;) {
        json_t *page;
        gw_query_t query = {.after = after, .limit = 2, .tags = &tag, .n_tags = 1};
        assert_int_equal(data.base.ops->list(&data.base, "consumers", &query, &page, &more), SL_OK);
        assert_in_range(json_array_size(page), 1, 2);
        seen += json_array_size(page);
        snprintf(after, sizeof(after), "%s", json_string_value(json_object_get(json_array_get(page, json_array_size(page) - 1), "id")));
        json_decref(page);
    }
    data.base.ops->rollback(&data.base);
    assert_int_equal(seen, 5);
}

static size_t count(const char *path) {
    json_t *body;
    assert_int_equal(call_on(store, "GET", path, NULL, &body), 200);
    size_t n = json_array_size(json_object_get(body, "data"));
    json_decref(body);
    return n;
}

static void *counted_malloc(size_t size) {
    return malloc(size);
}

/* Between a failed allocation and the end of an exchange nothing is kept, or all. */
static void memory_that_runs_out_leaves_all_or_nothing(void **state) {
    static const char operations[] =
        "{\"operations\":[{\"op\":\"put\",\"path\":\"/services/new\",\"body\":{\"host\":\"h\",\"tags\":[\"t\"]}},{\"op\":\"post\",\"path\":"
        "\"/services/new/routes\",\"body\":{\"name\":\"new\",\"paths\":[\"/\"]}},{\"op\":\"delete\",\"path\":\"/consumers/c\"}]}";
    unsigned failures = 0;
    (void)state;
    json_set_alloc_funcs(counted_malloc, free);
    for (unsigned nth = 1, seen = nth; seen >= nth; nth++) {
        assert_int_equal(call("PUT", "/consumers/c", "{}"), 200);
        st_tx_t *tx;
        fail_alloc_at(nth);
        int status = call("POST", "/transactions", operations);
        uint64_t revision = committed;
        seen = fail_alloc_seen();
        fail_alloc_at(0);
        bool done = count("/services") == 1;
        assert_int_equal(count("/routes"), done);
        assert_int_equal(count("/consumers"), !done);
        assert_true(done || status >= 400);
        assert_int_equal(done, revision != 0);
        failures += !done;
        assert_int_equal(st_tx_begin(store, ST_WRITE, ST_ANY_REVISION, &tx, &err), SL_OK);
        assert_int_equal(st_tx_clear(tx, &err), SL_OK);
        assert_int_equal(st_tx_commit(tx, NULL, &err), SL_OK);
    }
    json_set_alloc_funcs(malloc, free);
    assert_true(failures > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_write_tells_the_revision_that_it_made_and_a_read_none, make, drop),
        cmocka_unit_test_setup_teardown(refused_writes_make_no_revision, make, drop),
        cmocka_unit_test_setup_teardown(no_transaction_stays_open_after_any_answer, make, drop),
        cmocka_unit_test_setup_teardown(a_transaction_that_ends_with_a_broken_reference_names_its_operation, make, drop),
        cmocka_unit_test_setup_teardown(without_a_store_what_needs_none_is_answered, make, drop),
        cmocka_unit_test_setup_teardown(publishing_writes_a_plan_of_the_newest_revision_once, make, drop),
        cmocka_unit_test_setup_teardown(a_plan_of_the_store_is_shared_before_its_file_is_written, make, drop),
        cmocka_unit_test_setup_teardown(a_shared_plan_whose_file_cannot_be_written_is_served_and_noted, make, drop),
        cmocka_unit_test_setup_teardown(publishing_over_a_plan_says_what_publishing_everything_says, make, drop),
        cmocka_unit_test_setup_teardown(a_plan_of_another_store_is_no_base, make, drop),
        cmocka_unit_test_setup_teardown(lists_of_tagged_entities_have_pages, make, drop),
        cmocka_unit_test_setup_teardown(memory_that_runs_out_leaves_all_or_nothing, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
