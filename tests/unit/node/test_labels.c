#include "nd_labels.h"

#include <stdio.h>
#include <stdlib.h>

#include "cmocka_all.h"
#include "sl_file.h"

static char dir[64];
static nd_filters_t *f;

static int make(void **state) {
    char path[128];
    sl_err_t err;
    const char *meta = "{\"metrics\":{\"label_patterns\":[{\"label\":\"id\",\"pattern\":\"(_id=([a-z]*))\"},{\"label\":\"x\",\"pattern\":"
                       "\"(\\\\[x:(.+)\\\\])\"}]}}";
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/sluice-labels-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/a.wasm", dir);
    bool done = sl_file_write_atomic(path, SL_STR("x"), 0644, &err) == SL_OK;
    snprintf(path, sizeof(path), "%s/a.meta.json", dir);
    done = done && sl_file_write_atomic(path, sl_cstr(meta), 0644, &err) == SL_OK;
    return done && nd_filters_scan(dir, SL_STR_NULL, &f, &err) == SL_OK ? 0 : -1;
}

static int drop(void **state) {
    (void)state;
    nd_filters_free(f);
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    return system(cmd);
}

static void assert_split(const char *owner, sl_str_t name, const char *expected_base, const char *expected_labels) {
    sl_buf_t base, labels;
    sl_buf_init(&base, 4096);
    sl_buf_init(&labels, 4096);
    nd_labels_split(f, sl_cstr(owner), name, &base, &labels);
    assert_string_equal(sl_buf_cstr(&base), expected_base);
    assert_string_equal(labels.len > 0 ? sl_buf_cstr(&labels) : "", expected_labels);
    sl_buf_deinit(&base);
    sl_buf_deinit(&labels);
}

static void the_first_group_is_cut_out_and_the_second_is_the_value(void **state) {
    (void)state;
    assert_split("a", SL_STR("hits_id=abc_total"), "hits_total", "id=\"abc\"");
    assert_split("a", SL_STR("h[x:1]_id=z"), "h", "id=\"z\",x=\"1\"");
    assert_split("a", SL_STR("h_id="), "h", "id=\"\"");
}

static void names_without_a_label_and_other_filters_stay_as_they_are(void **state) {
    (void)state;
    assert_split("a", SL_STR("hits"), "hits", "");
    assert_split("b", SL_STR("hits_id=abc"), "hits_id=abc", "");
}

static void what_a_guest_put_into_a_value_is_escaped(void **state) {
    (void)state;
    assert_split("a", SL_STR("h[x:a\"b\\c\xff]"), "h", "x=\"a\\\"b\\\\c\\\\xff\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_group_is_cut_out_and_the_second_is_the_value),
        cmocka_unit_test(names_without_a_label_and_other_filters_stay_as_they_are),
        cmocka_unit_test(what_a_guest_put_into_a_value_is_escaped),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
