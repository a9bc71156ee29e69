/* The reader of binary modules: what it tells of good ones, and that bad ones are refused without a byte read outside. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "module_reader.h"

#define B(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

typedef struct {
    sl_buf_t bytes;
    sl_arena_t arena;
    sl_module_info_t info;
    sl_err_t err;
} rig_t;

static int set_up(void **state) {
    rig_t *rig = calloc(1, sizeof(*rig));
    sl_buf_init(&rig->bytes, 1 << 20);
    sl_arena_init(&rig->arena, 1024, 1 << 20);
    sl_buf_append(&rig->bytes, B(0, 'a', 's', 'm', 1, 0, 0, 0));
    *state = rig;
    return 0;
}

static int tear_down(void **state) {
    rig_t *rig = *state;
    sl_buf_deinit(&rig->bytes);
    sl_arena_deinit(&rig->arena);
    free(rig);
    return 0;
}

static void section(rig_t *rig, uint8_t id, const uint8_t *data, size_t len) {
    assert_true(len < 128);
    sl_buf_append_char(&rig->bytes, (char)id);
    sl_buf_append_char(&rig->bytes, (char)len);
    sl_buf_append(&rig->bytes, data, len);
}

static sl_status_t read_it(rig_t *rig) {
    assert_false(rig->bytes.failed);
    return sl_module_read(sl_buf_str(&rig->bytes), &rig->arena, &rig->info, &rig->err);
}

static void refused(rig_t *rig, const char *text) {
    assert_int_equal(read_it(rig), SL_INVALID);
    if (strstr(rig->err.text, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", rig->err.text, text);
    }
}

/* Types (i32 i64 f32 f64) -> i32 and () -> (); one import; one function; exports of all kinds; custom sections. */
static void good_module(rig_t *rig) {
    section(rig, 1, B(2, 0x60, 4, 0x7f, 0x7e, 0x7d, 0x7c, 1, 0x7f, 0x60, 0, 0));
    section(rig, 2, B(2, 3, 'e', 'n', 'v', 3, 'l', 'o', 'g', 0, 0, 1, 'm', 1, 'g', 3, 0x7f, 0));
    section(rig, 3, B(1, 1));
    section(rig, 4, B(1, 0x70, 0, 1));
    section(rig, 5, B(1, 0, 1));
    section(rig, 7, B(4, 1, 'a', 0, 0, 1, 'b', 0, 1, 1, 'c', 2, 0, 1, 'd', 1, 0));
    section(rig, 8, B(1));
    section(rig, 12, B(2));
    section(rig, 10, B(1, 2, 0, 0x0b));
    section(rig, 11, B(2, 1, 0, 1, 0));
    section(rig, 0, B(4, 'n', 'a', 'm', 'e', 0, 0));
    section(rig, 0, B(11, '.', 'd', 'e', 'b', 'u', 'g', '_', 'i', 'n', 'f', 'o', 1, 2, 3));
}

static void a_module_tells_imports_exports_and_sections(void **state) {
    rig_t *rig = *state;
    good_module(rig);
    assert_int_equal(read_it(rig), SL_OK);
    const sl_module_info_t *info = &rig->info;
    assert_int_equal(info->n_imports, 2);
    assert_true(sl_str_eq(info->imports[0].module, SL_STR("env")));
    assert_true(sl_str_eq(info->imports[0].name, SL_STR("log")));
    assert_string_equal(info->imports[0].sig, "iIfF:i");
    assert_int_equal(info->imports[1].kind, SL_EXTERN_GLOBAL);
    assert_int_equal(info->n_exports, 4);
    assert_string_equal(info->exports[0].sig, "iIfF:i");
    assert_string_equal(info->exports[1].sig, ":");
    assert_int_equal(info->exports[2].kind, SL_EXTERN_MEMORY);
    assert_int_equal(info->exports[3].kind, SL_EXTERN_TABLE);
    assert_int_equal(info->n_data_segments, 2);
    assert_true(info->has_name_section && info->has_dwarf && info->has_start);
}

static void the_smallest_module_is_empty(void **state) {
    rig_t *rig = *state;
    assert_int_equal(read_it(rig), SL_OK);
    assert_int_equal(rig->info.n_imports + rig->info.n_exports + rig->info.n_data_segments, 0);
    assert_false(rig->info.has_name_section || rig->info.has_dwarf || rig->info.has_start);
}

static void every_kind_of_import_is_understood(void **state) {
    rig_t *rig = *state;
    section(rig, 1, B(1, 0x60, 0, 0));
    section(rig, 2,
            B(5, 0, 1, 'f', 0, 0, 0, 1, 't', 1, 0x70, 1, 0, 9, 0, 1, 'm', 2, 0, 1, 0, 1, 'g', 3, 0x63, 0x70, 1, 0, 1, 'x', 4, 0, 0));
    assert_int_equal(read_it(rig), SL_OK);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(rig->info.imports[i].kind, i);
    }
}

static void a_type_that_a_signature_cannot_say_is_a_question_mark(void **state) {
    rig_t *rig = *state;
    /* v128; a reference; two results */
    section(rig, 1, B(3, 0x60, 1, 0x7b, 0, 0x60, 1, 0x6f, 0, 0x60, 0, 2, 0x7f, 0x7f));
    section(rig, 2, B(3, 0, 1, 'a', 0, 0, 0, 1, 'b', 0, 1, 0, 1, 'c', 0, 2));
    assert_int_equal(read_it(rig), SL_OK);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(rig->info.imports[i].sig, "?");
    }
}

static void signatures_end_where_their_buffer_ends(void **state) {
    rig_t *rig = *state;
    uint8_t types[80] = {3, 0x60, 29};
    /* 29 parameters and a result fill the buffer; 30 with a result, and 31, do not fit */
    memset(types + 3, 0x7f, sizeof(types) - 3);
    types[32] = 1;
    types[34] = 0x60;
    types[35] = 30;
    types[66] = 1;
    types[68] = 0x60;
    types[69] = 0;
    types[70] = 0;
    section(rig, 1, types, 71);
    section(rig, 2, B(2, 0, 1, 'a', 0, 0, 0, 1, 'b', 0, 1));
    assert_int_equal(read_it(rig), SL_OK);
    assert_string_equal(rig->info.imports[0].sig, "iiiiiiiiiiiiiiiiiiiiiiiiiiiii:i");
    assert_string_equal(rig->info.imports[1].sig, "?");
}

static void files_that_are_no_modules_are_named_for_what_they_are(void **state) {
    rig_t *rig = *state;
    rig->bytes.len = 0;
    refused(rig, "empty");
    sl_buf_append_cstr(&rig->bytes, "#!/bin/sh\n");
    refused(rig, "does not begin with");
    sl_buf_reset(&rig->bytes);
    sl_buf_append(&rig->bytes, B(0, 'a', 's', 'm', 13, 0, 1, 0));
    refused(rig, "component");
    sl_buf_reset(&rig->bytes);
    sl_buf_append(&rig->bytes, B(0, 'a', 's', 'm', 2, 0, 0, 0));
    refused(rig, "unknown version");
}

static void a_section_larger_than_the_file_is_refused(void **state) {
    rig_t *rig = *state;
    sl_buf_append(&rig->bytes, B(1, 0xff, 0xff, 0xff, 0xff, 0x0f));
    refused(rig, "cut short");
}

static void numbers_that_are_too_long_or_too_large_are_refused(void **state) {
    rig_t *rig = *state;
    size_t before = rig->bytes.len;
    section(rig, 1, B(0x80, 0x80, 0x80, 0x80, 0x80, 0));
    refused(rig, "too long");
    rig->bytes.len = before;
    section(rig, 1, B(0x80, 0x80, 0x80, 0x80, 0x10));
    refused(rig, "too large");
    rig->bytes.len = before;
    section(rig, 1, B(0x80, 0x80, 0x80, 0x80, 0x00));
    assert_int_equal(read_it(rig), SL_OK);
}

static void a_count_that_the_section_cannot_hold_is_refused_before_allocating(void **state) {
    rig_t *rig = *state;
    const uint8_t ids[] = {1, 2, 3, 7};
    size_t before = rig->bytes.len;
    for (unsigned i = 0; i < sizeof(ids); i++) {
        rig->bytes.len = before;
        section(rig, ids[i], B(0xc0, 0x3d, 0, 0, 0)); /* 7872 */
        refused(rig, "cannot hold");
    }
}

static void counts_over_the_ceilings_are_refused(void **state) {
    rig_t *rig = *state;
    section(rig, 2, B(0xff, 0xff, 0xff, 0x7f));
    refused(rig, "more items than are allowed");
}

static void indexes_that_point_nowhere_are_refused(void **state) {
    rig_t *rig = *state;
    size_t before = rig->bytes.len;
    section(rig, 2, B(1, 0, 1, 'f', 0, 0));
    refused(rig, "type does not exist");
    rig->bytes.len = before;
    section(rig, 3, B(1, 7));
    refused(rig, "type does not exist");
    rig->bytes.len = before;
    section(rig, 7, B(1, 1, 'f', 0, 0));
    refused(rig, "function that does not exist");
    rig->bytes.len = before;
    section(rig, 8, B(0));
    refused(rig, "start function that does not exist");
}

static void sections_come_once_and_in_order(void **state) {
    rig_t *rig = *state;
    size_t before = rig->bytes.len;
    section(rig, 3, B(0));
    section(rig, 1, B(0));
    refused(rig, "out of order");
    rig->bytes.len = before;
    section(rig, 2, B(0));
    section(rig, 2, B(0));
    refused(rig, "out of order");
    rig->bytes.len = before;
    section(rig, 14, B(0));
    refused(rig, "unknown section");
}

static void bytes_left_over_are_refused(void **state) {
    rig_t *rig = *state;
    section(rig, 1, B(0, 0));
    refused(rig, "left over");
}

static void names_must_be_utf8_and_inside_the_section(void **state) {
    rig_t *rig = *state;
    size_t before = rig->bytes.len;
    section(rig, 7, B(1, 2, 0xc3, 0x28, 2, 0));
    refused(rig, "UTF-8");
    rig->bytes.len = before;
    section(rig, 7, B(1, 9, 'a', 2, 0));
    refused(rig, "name that is too long");
    rig->bytes.len = before;
    section(rig, 0, B(9, 'a'));
    refused(rig, "name that is too long");
}

static void a_type_of_another_form_is_refused(void **state) {
    rig_t *rig = *state;
    section(rig, 1, B(1, 0x5f, 0, 0));
    refused(rig, "no function type");
}

static void an_arena_that_is_full_is_no_memory(void **state) {
    rig_t *rig = *state;
    good_module(rig);
    for (size_t max = 0; max < 600; max += 16) {
        sl_arena_t small;
        sl_arena_init(&small, 64, max);
        sl_status_t rc = sl_module_read(sl_buf_str(&rig->bytes), &small, &rig->info, &rig->err);
        assert_true(rc == SL_NO_MEMORY || (rc == SL_OK && max > 400));
        sl_arena_deinit(&small);
    }
}

/* The bytes end where a page begins that may not be read. */
static uint8_t *at_guard(size_t len, void **map, size_t *map_len) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *map_len = ((len + page - 1) / page + 1) * page;
    *map = mmap(NULL, *map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(*map != MAP_FAILED);
    assert_int_equal(mprotect((uint8_t *)*map + *map_len - page, page, PROT_NONE), 0);
    return (uint8_t *)*map + *map_len - page - len;
}

static void a_module_cut_at_any_length_is_never_read_past_its_end(void **state) {
    rig_t *rig = *state;
    good_module(rig);
    void *map;
    size_t map_len, accepted = 0;
    uint8_t *end = at_guard(rig->bytes.len, &map, &map_len) + rig->bytes.len;
    for (size_t len = 0; len < rig->bytes.len; len++) {
        memcpy(end - len, rig->bytes.data, len);
        accepted += sl_module_read(sl_str(end - len, len), &rig->arena, &rig->info, &rig->err) == SL_OK;
    }
    munmap(map, map_len);
    assert_int_equal(accepted, 12); /* the cuts between two of the 12 sections, and before the first */
}

static void a_module_with_any_byte_changed_is_never_read_past_its_end(void **state) {
    rig_t *rig = *state;
    good_module(rig);
    void *map;
    size_t map_len;
    uint8_t *bytes = at_guard(rig->bytes.len, &map, &map_len);
    memcpy(bytes, rig->bytes.data, rig->bytes.len);
    for (size_t i = 0; i < rig->bytes.len; i++) {
        uint8_t before = bytes[i];
        for (unsigned value = 0; value < 256; value++) {
            sl_arena_t arena;
            sl_arena_init(&arena, 1024, 1 << 20);
            bytes[i] = (uint8_t)value;
            (void)sl_module_read(sl_str(bytes, rig->bytes.len), &arena, &rig->info, &rig->err);
            sl_arena_deinit(&arena);
        }
        bytes[i] = before;
    }
    assert_int_equal(sl_module_read(sl_str(bytes, rig->bytes.len), &rig->arena, &rig->info, &rig->err), SL_OK);
    munmap(map, map_len);
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(a_module_tells_imports_exports_and_sections),
        EACH(the_smallest_module_is_empty),
        EACH(every_kind_of_import_is_understood),
        EACH(a_type_that_a_signature_cannot_say_is_a_question_mark),
        EACH(signatures_end_where_their_buffer_ends),
        EACH(files_that_are_no_modules_are_named_for_what_they_are),
        EACH(a_section_larger_than_the_file_is_refused),
        EACH(numbers_that_are_too_long_or_too_large_are_refused),
        EACH(a_count_that_the_section_cannot_hold_is_refused_before_allocating),
        EACH(counts_over_the_ceilings_are_refused),
        EACH(indexes_that_point_nowhere_are_refused),
        EACH(sections_come_once_and_in_order),
        EACH(bytes_left_over_are_refused),
        EACH(names_must_be_utf8_and_inside_the_section),
        EACH(a_type_of_another_form_is_refused),
        EACH(an_arena_that_is_full_is_no_memory),
        EACH(a_module_cut_at_any_length_is_never_read_past_its_end),
        EACH(a_module_with_any_byte_changed_is_never_read_past_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
