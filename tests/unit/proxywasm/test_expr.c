/* Expressions of filters: whose they are, how many there may be, and what happens when memory is missing. */
#include <stdio.h>
#include <stdlib.h>

#include "fail_alloc.h"
#include "pt.h"
#include "pw_foreign.h"
#include "sl_cel.h"

static const char *const get[] = {":method", "GET", ":path", "/", "x-a", "1", NULL};

/* ---- as a guest calls them ---- */

static uint32_t call(pt_t *t, const char *name, const void *args, size_t len, sl_str_t *out) {
    uint32_t at = guest_room(t, 8), text = guest_put(t, args, len), fn = guest_put(t, name, strlen(name));
    uint32_t rc = guest_call(t, "proxy_call_foreign_function", fn, (uint32_t)strlen(name), text, (uint32_t)len, at, at + 4);
    *out = rc == PW_OK ? guest_result(t, at, at + 4) : SL_STR_NULL;
    return rc;
}

/* 0: refused. */
static uint32_t create(pt_t *t, const char *text) {
    sl_str_t out;
    uint32_t token = 0;
    if (call(t, "expr_create", text, strlen(text), &out) == PW_OK) {
        assert_int_equal(out.len, 4);
        memcpy(&token, out.data, 4);
        assert_int_not_equal(token, 0);
    }
    return token;
}

/* The value of a bool as 0 or 1, or 100 and the status. */
static unsigned worth(pt_t *t, uint32_t token) {
    sl_str_t out;
    uint32_t rc = call(t, "expr_evaluate", &token, 4, &out);
    return rc != PW_OK ? 100 + rc : out.len == 1 ? (unsigned char)out.data[0] : 99;
}

static uint32_t delete(pt_t *t, uint32_t token) {
    sl_str_t out;
    return call(t, "expr_delete", &token, 4, &out);
}

/* ---- one filter ---- */

static pt_t *filter(pt_fn_t on_configure, pt_fn_t on_request, sl_isolation_t isolation) {
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    t->on[PW_CB_CONFIGURE] = on_configure;
    t->on[PW_CB_REQUEST_HEADERS] = on_request;
    pw_filter_conf_t conf = {.name = SL_STR("f")};
    sl_filter_opts_init(&conf.opts);
    conf.opts.isolation = (uint8_t)isolation;
    conf.opts.set |= SL_FOPT_BIT(ISOLATION);
    if (pt_filter(t, &conf, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    pt_chain(t, NULL);
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    return t;
}

static uint32_t make_two(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    assert_int_equal(create(t, "size(request.headers) == 3"), 1);
    assert_int_equal(create(t, "true"), 2);
    return 1;
}

/* Both of configure, one of its own with a token of its own; then deletes a shared one and its own. */
static uint32_t use_and_delete(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    pt_trace(t, "%u %u ", worth(t, 1), worth(t, 2));
    uint32_t own = create(t, "1 > 2");
    pt_trace(t, "%u:%u ", own, worth(t, own));
    assert_int_equal(delete (t, 2), PW_OK);
    assert_int_equal(delete (t, 2), PW_OK);
    assert_int_equal(delete (t, own), PW_OK);
    pt_trace(t, "%u %u %u;", worth(t, 1), worth(t, 2), worth(t, own));
    return PW_HEADERS_CONTINUE;
}

static void an_isolated_request_deletes_for_itself_alone(void **state) {
    (void)state;
    pt_t *t = filter(make_two, use_and_delete, SL_ISOLATION_REQUEST);
    pw_stream_t *s[2] = {pt_begin(t, PW_CONTINUE), pt_begin(t, PW_CONTINUE)}; /* at the same time: two instances */
    pw_stream_free(s[0]);
    pw_stream_free(s[1]);
    pw_stream_free(pt_begin(t, PW_CONTINUE)); /* and one that was restored */
    assert_string_equal(t->trace, "1 1 3:0 1 101 101;1 1 3:0 1 101 101;1 1 3:0 1 101 101;");
    pt_free(t);
}

static void requests_that_share_an_instance_share_its_expressions(void **state) {
    (void)state;
    pt_t *t = filter(make_two, use_and_delete, SL_ISOLATION_SHARED);
    pw_stream_free(pt_begin(t, PW_CONTINUE));
    pw_stream_free(pt_begin(t, PW_CONTINUE));
    assert_string_equal(t->trace, "1 1 3:0 1 101 101;1 101 4:0 1 101 101;");
    pt_free(t);
}

static void expressions_of_another_filter_are_unknown(void **state) {
    (void)state;
    pt_t *t = pt_new(NULL);
    t->on[PW_CB_REQUEST_HEADERS] = use_and_delete;
    pt_filters(t, 2); /* in one VM */
    pt_map(t, PW_MAP_REQUEST_HEADERS, get);
    pw_stream_free(pt_begin(t, PW_CONTINUE));
    assert_string_equal(t->trace, "101 101 1:0 101 101 101;101 101 1:0 101 101 101;");
    pt_free(t);
}

/* ---- ceilings ---- */

static uint32_t make_many(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    for (uint32_t i = 1; i <= PW_EXPRS_MAX; i++) {
        assert_int_equal(create(t, "true"), i);
    }
    assert_int_equal(create(t, "true"), 0);
    assert_int_equal(delete (t, 5), PW_OK);
    assert_int_equal(create(t, "true"), PW_EXPRS_MAX + 2);
    return 1;
}

static void a_root_context_has_so_many_expressions_and_no_more(void **state) {
    (void)state;
    pt_t *t = filter(make_many, NULL, SL_ISOLATION_SHARED);
    assert_true(pt_logged(t, "expr_create: a root context may have 1024 expressions"));
    pt_free(t);
}

static uint32_t make_large(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    char text[8000] = "[1";
    size_t len = 2, n = 0;
    while (len < sizeof(text) - 4) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, ",1");
    }
    snprintf(text + len, sizeof(text) - len, "]");
    uint32_t at = guest_put(t, text, len + 1), fn = guest_put(t, "expr_create", 11), out = guest_room(t, 8);
    while (n < PW_EXPRS_MAX && guest_call(t, "proxy_call_foreign_function", fn, 11, at, (uint32_t)len + 1, out, out + 4) == PW_OK) {
        n++;
    }
    assert_in_range(n, 2, PW_EXPR_BYTES_MAX / 100000);
    return 1;
}

static void and_they_take_so_many_bytes(void **state) {
    (void)state;
    pt_t *t = filter(make_large, NULL, SL_ISOLATION_SHARED);
    assert_true(pt_logged(t, "and they 8388608 bytes"));
    pt_free(t);
}

/* ---- without memory ---- */

static uint32_t starve(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx, (void)a1, (void)a2;
    bool whole = false;
    for (unsigned nth = 1; !whole; nth++) {
        sl_buf_t out;
        char token[4];
        sl_buf_init(&out, 64);
        pw_root_t *root = t->worker->vms->current->root;
        fail_alloc_at(nth);
        pw_result_t rc = pw_foreign_expr_create(t->worker->vms, NULL, SL_STR("['a', 'b'].exists(x, x.matches('b'))"), &out);
        if (rc == PW_OK) {
            memcpy(token, out.data, 4);
            sl_buf_reset(&out);
            rc = pw_foreign_expr_evaluate(t->worker->vms, NULL, sl_str(token, 4), &out);
        }
        whole = fail_alloc_seen() < nth;
        fail_alloc_at(0);
        assert_int_equal(rc, whole ? PW_OK : PW_INTERNAL_FAILURE);
        assert_true(!whole || (out.len == 1 && out.data[0] == 1));
        sl_buf_deinit(&out);
        pw_root_forget_exprs(root);
    }
    return 1;
}

static void without_memory_an_expression_is_an_internal_failure(void **state) {
    (void)state;
    pt_free(filter(starve, NULL, SL_ISOLATION_SHARED));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_isolated_request_deletes_for_itself_alone),
        cmocka_unit_test(requests_that_share_an_instance_share_its_expressions),
        cmocka_unit_test(expressions_of_another_filter_are_unknown),
        cmocka_unit_test(a_root_context_has_so_many_expressions_and_no_more),
        cmocka_unit_test(and_they_take_so_many_bytes),
        cmocka_unit_test(without_memory_an_expression_is_an_internal_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
