#include "sh_prometheus.h"

#include <stdlib.h>

#include "cmocka_all.h"
#include "fail_alloc.h"

#define SIZE (256 * 1024)

static sh_metrics_t ms;
static void *mem;
static sl_buf_t out;

static void nothing(void *ud) {
    (void)ud;
}

static int setup(void **state) {
    (void)state;
    mem = aligned_alloc(64, SIZE);
    sl_buf_init(&out, 1 << 20);
    ms = (sh_metrics_t){.lock = nothing, .unlock = nothing};
    return mem != NULL && sh_metrics_open(&ms, mem, SIZE, true, 1, 2) == SL_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    sl_buf_deinit(&out);
    free(mem);
    return 0;
}

static uint32_t record(sh_metric_type_t type, sl_str_t owner, sl_str_t name, uint64_t value) {
    uint32_t id;
    assert_int_equal(sh_metric_define(&ms, type, owner, name, &id), SL_OK);
    assert_int_equal(sh_metric_record(&ms, id, value), SL_OK);
    return id;
}

static const char *render(void) {
    sl_buf_reset(&out);
    assert_int_equal(sh_prometheus_render(&ms, &out), SL_OK);
    const char *text = sl_buf_cstr(&out);
    return text != NULL ? text : "";
}

static void no_metrics_are_no_text(void **state) {
    (void)state;
    assert_string_equal(render(), "");
}

static void metrics_are_sorted_by_name_and_say_the_filter(void **state) {
    (void)state;
    record(SH_GAUGE, SL_STR("z"), SL_STR("g"), 7);
    record(SH_COUNTER, SL_STR("my-filter"), SL_STR("requests.total"), 3);
    assert_string_equal(render(), "# HELP pw_my_filter_requests_total\n# TYPE pw_my_filter_requests_total counter\n"
                                  "pw_my_filter_requests_total 3\n"
                                  "# HELP pw_z_g\n# TYPE pw_z_g gauge\npw_z_g 7\n");
}

static void metrics_of_the_host_are_left_to_the_host(void **state) {
    (void)state;
    record(SH_COUNTER, SL_STR("\001calls"), SL_STR("grpc:f"), 3);
    record(SH_COUNTER, SL_STR("f"), SL_STR("c"), 2);
    record(SH_GAUGE, SL_STR("\001calls_in_flight"), SL_STR("grpc:f"), 1);
    assert_string_equal(render(), "# HELP pw_f_c\n# TYPE pw_f_c counter\npw_f_c 2\n");
}

static void a_gauge_below_zero_is_negative(void **state) {
    (void)state;
    uint32_t id = record(SH_GAUGE, SL_STR("f"), SL_STR("g"), 1);
    assert_int_equal(sh_metric_add(&ms, id, -3), SL_OK);
    assert_non_null(strstr(render(), "\npw_f_g -2\n"));
}

static void a_histogram_has_cumulative_buckets_sum_and_count(void **state) {
    (void)state;
    record(SH_HISTOGRAM, SL_STR("f"), SL_STR("h"), 1);
    record(SH_HISTOGRAM, SL_STR("f"), SL_STR("h"), 3);
    record(SH_HISTOGRAM, SL_STR("f"), SL_STR("h"), 1ull << 40);
    const char *text = render();
    assert_true(strncmp(text,
                        "# HELP pw_f_h\n# TYPE pw_f_h histogram\npw_f_h_bucket{le=\"1\"} 1\npw_f_h_bucket{le=\"2\"} 1\n"
                        "pw_f_h_bucket{le=\"4\"} 2\n",
                        90) == 0);
    assert_non_null(
        strstr(text, "pw_f_h_bucket{le=\"65536\"} 2\npw_f_h_bucket{le=\"+Inf\"} 3\npw_f_h_sum 1099511627780\npw_f_h_count 3\n"));
}

static void a_histogram_shows_larger_buckets_where_samples_are(void **state) {
    (void)state;
    record(SH_HISTOGRAM, SL_STR("f"), SL_STR("h"), 200000);
    assert_non_null(strstr(
        render(), "le=\"65536\"} 0\npw_f_h_bucket{le=\"131072\"} 0\npw_f_h_bucket{le=\"262144\"} 1\npw_f_h_bucket{le=\"+Inf\"} 1\n"));
}

static void metrics_whose_exported_names_are_equal_differ_by_a_label(void **state) {
    (void)state;
    record(SH_COUNTER, SL_STR("f"), SL_STR("a.b"), 1);
    record(SH_COUNTER, SL_STR("f"), SL_STR("a\"b\n\\\xff"), 2);
    record(SH_COUNTER, SL_STR("f"), SL_STR("a_b"), 3);
    assert_string_equal(render(), "# HELP pw_f_a_b\n# TYPE pw_f_a_b counter\n"
                                  "pw_f_a_b{metric=\"pw:f:a.b\"} 1\n"
                                  "pw_f_a_b{metric=\"pw:f:a_b\"} 3\n"
                                  "# HELP pw_f_a_b___\n# TYPE pw_f_a_b___ counter\n"
                                  "pw_f_a_b___ 2\n");
    assert_int_equal(sh_prometheus_label(&out, SL_STR("\"\\\n\xff")), SL_OK);
    assert_non_null(strstr(sl_buf_cstr(&out), "\\\"\\\\\\n\\\\xff"));
}

static void a_name_of_two_types_gets_the_type_behind_it(void **state) {
    (void)state;
    record(SH_GAUGE, SL_STR("f"), SL_STR("m"), 2);
    record(SH_COUNTER, SL_STR("f"), SL_STR("m"), 1);
    assert_string_equal(render(), "# HELP pw_f_m\n# TYPE pw_f_m counter\npw_f_m 1\n"
                                  "# HELP pw_f_m_gauge\n# TYPE pw_f_m_gauge gauge\npw_f_m_gauge 2\n");
}

static void a_text_over_the_ceiling_is_an_error(void **state) {
    (void)state;
    sl_buf_t small;
    record(SH_HISTOGRAM, SL_STR("f"), SL_STR("h"), 1);
    sl_buf_init(&small, 100);
    assert_int_equal(sh_prometheus_render(&ms, &small), SL_NO_MEMORY);
    sl_buf_deinit(&small);
}

static void every_failing_allocation_is_reported(void **state) {
    (void)state;
    record(SH_COUNTER, SL_STR("f"), SL_STR("a.b"), 1);
    record(SH_COUNTER, SL_STR("f"), SL_STR("a_b"), 1);
    unsigned n = 1;
    for (;; n++) {
        sl_buf_deinit(&out);
        sl_buf_init(&out, 1 << 20);
        fail_alloc_at(n);
        sl_status_t rc = sh_prometheus_render(&ms, &out);
        bool reached = fail_alloc_seen() >= n;
        fail_alloc_at(0);
        if (!reached) {
            assert_int_equal(rc, SL_OK);
            break;
        }
        assert_int_equal(rc, SL_NO_MEMORY);
    }
    assert_true(n > 4);
}

/* "a@1": the label is what follows the '@'. */
static void split_at(void *ud, sl_str_t owner, sl_str_t name, sl_buf_t *base, sl_buf_t *labels) {
    (void)owner;
    (*(int *)ud)++;
    const char *at = memchr(name.data, '@', name.len);
    size_t n = at != NULL ? (size_t)(at - name.data) : name.len;
    sl_buf_append_str(base, sl_str(name.data, n));
    if (at != NULL) {
        sl_buf_printf(labels, "l=\"%.*s\"", (int)(name.len - n - 1), at + 1);
    }
}

static void labels_that_are_part_of_names_make_one_metric_of_several(void **state) {
    (void)state;
    int asked = 0;
    record(SH_COUNTER, SL_STR("f"), SL_STR("a@2"), 2);
    record(SH_COUNTER, SL_STR("f"), SL_STR("a@1"), 1);
    record(SH_COUNTER, SL_STR("f"), SL_STR("a"), 3);
    record(SH_HISTOGRAM, SL_STR("f"), SL_STR("h@x"), 1);
    sl_buf_reset(&out);
    assert_int_equal(sh_prometheus_render_with(&ms, split_at, &asked, &out), SL_OK);
    assert_int_equal(asked, 4);
    const char *text = sl_buf_cstr(&out);
    const char expected[] = "# HELP pw_f_a\n# TYPE pw_f_a counter\npw_f_a 3\npw_f_a{l=\"1\"} 1\npw_f_a{l=\"2\"} 2\n";
    assert_int_equal(strncmp(text, expected, strlen(expected)), 0);
    assert_non_null(strstr(text, "pw_f_h_bucket{l=\"x\",le=\"1\"} 1\n"));
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(no_metrics_are_no_text),
        T(metrics_are_sorted_by_name_and_say_the_filter),
        T(metrics_of_the_host_are_left_to_the_host),
        T(a_gauge_below_zero_is_negative),
        T(a_histogram_has_cumulative_buckets_sum_and_count),
        T(a_histogram_shows_larger_buckets_where_samples_are),
        T(metrics_whose_exported_names_are_equal_differ_by_a_label),
        T(a_name_of_two_types_gets_the_type_behind_it),
        T(a_text_over_the_ceiling_is_an_error),
        T(labels_that_are_part_of_names_make_one_metric_of_several),
        T(every_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
