#include "sl_file.h"

#include "cmocka_all.h"
#include "fail_alloc.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256];

static const char *in_folder(const char *name) {
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof(folder), "%s/sluice-test-XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static size_t entries(void) {
    size_t n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        n += e->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

static void what_is_written_is_read_back(void **state) {
    (void)state;
    sl_err_t err;
    sl_buf_t b;
    sl_buf_init(&b, 100);
    assert_int_equal(sl_file_write_atomic(in_folder("f"), sl_str("a\0b\n", 4), 0600, &err), SL_OK);
    assert_int_equal(sl_file_read(in_folder("f"), &b, &err), SL_OK);
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.data, "a\0b\n", 4);
    sl_buf_deinit(&b);
}

static void a_read_appends_to_the_buffer(void **state) {
    (void)state;
    sl_err_t err;
    sl_buf_t b;
    sl_buf_init(&b, 100);
    sl_buf_append_cstr(&b, "before ");
    assert_int_equal(sl_file_write_atomic(in_folder("f"), SL_STR("after"), 0600, &err), SL_OK);
    assert_int_equal(sl_file_read(in_folder("f"), &b, &err), SL_OK);
    assert_string_equal(sl_buf_cstr(&b), "before after");
    sl_buf_deinit(&b);
}

static void an_empty_file_is_read_as_nothing(void **state) {
    (void)state;
    sl_err_t err;
    sl_buf_t b;
    sl_buf_init(&b, 0);
    assert_int_equal(sl_file_write_atomic(in_folder("f"), SL_STR_NULL, 0600, &err), SL_OK);
    assert_int_equal(sl_file_read(in_folder("f"), &b, &err), SL_OK);
    assert_int_equal(b.len, 0);
    sl_buf_deinit(&b);
}

static void a_file_as_large_as_the_limit_is_read(void **state) {
    (void)state;
    sl_err_t err;
    sl_buf_t b;
    sl_buf_init(&b, 5);
    assert_int_equal(sl_file_write_atomic(in_folder("f"), SL_STR("12345"), 0600, &err), SL_OK);
    assert_int_equal(sl_file_read(in_folder("f"), &b, &err), SL_OK);
    assert_int_equal(b.len, 5);
    sl_buf_deinit(&b);
}

static void a_file_over_the_limit_is_refused_with_both_sizes(void **state) {
    (void)state;
    sl_err_t err;
    sl_buf_t b;
    sl_buf_init(&b, 4);
    assert_int_equal(sl_file_write_atomic(in_folder("f"), SL_STR("12345"), 0600, &err), SL_OK);
    assert_int_equal(sl_file_read(in_folder("f"), &b, &err), SL_NO_MEMORY);
    assert_non_null(strstr(err.text, in_folder("f")));
    assert_non_null(strstr(err.text, "5 bytes"));
    assert_non_null(strstr(err.text, "4 bytes"));
    sl_buf_deinit(&b);
}

static void a_missing_file_is_named(void **state) {
    (void)state;
    sl_err_t err;
    sl_buf_t b;
    sl_buf_init(&b, 100);
    sl_status_t rc = sl_file_read(in_folder("none"), &b, &err);
    assert_true(rc == SL_IO || rc == SL_NOT_FOUND);
    assert_non_null(strstr(err.text, in_folder("none")));
    sl_buf_deinit(&b);
}

static void a_folder_or_a_pipe_is_no_file(void **state) {
    (void)state;
    sl_err_t err;
    sl_buf_t b;
    sl_buf_init(&b, 100);
    assert_int_equal(sl_file_read(folder, &b, &err), SL_IO);
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    assert_int_equal(sl_file_read(in_folder("pipe"), &b, &err), SL_IO);
    sl_buf_deinit(&b);
}

static void reading_survives_a_failed_allocation(void **state) {
    (void)state;
    sl_err_t err;
    sl_buf_t b;
    sl_buf_init(&b, 100);
    assert_int_equal(sl_file_write_atomic(in_folder("f"), SL_STR("12345"), 0600, &err), SL_OK);
    fail_alloc_at(1);
    sl_status_t rc = sl_file_read(in_folder("f"), &b, &err);
    fail_alloc_at(0);
    assert_int_equal(rc, SL_NO_MEMORY);
    sl_buf_deinit(&b);
}

static void a_write_replaces_the_file_and_leaves_nothing_behind(void **state) {
    (void)state;
    sl_err_t err;
    sl_buf_t b;
    sl_buf_init(&b, 100);
    assert_int_equal(sl_file_write_atomic(in_folder("f"), SL_STR("a much longer first version"), 0600, &err), SL_OK);
    assert_int_equal(sl_file_write_atomic(in_folder("f"), SL_STR("second"), 0600, &err), SL_OK);
    assert_int_equal(sl_file_read(in_folder("f"), &b, &err), SL_OK);
    assert_string_equal(sl_buf_cstr(&b), "second");
    assert_int_equal(entries(), 1);
    sl_buf_deinit(&b);
}

static void readers_of_the_old_file_keep_the_old_file(void **state) {
    (void)state;
    sl_err_t err;
    char old[16] = "";
    assert_int_equal(sl_file_write_atomic(in_folder("f"), SL_STR("first"), 0600, &err), SL_OK);
    FILE *reader = fopen(in_folder("f"), "r");
    assert_non_null(reader);
    assert_int_equal(sl_file_write_atomic(in_folder("f"), SL_STR("second"), 0600, &err), SL_OK);
    assert_non_null(fgets(old, sizeof(old), reader));
    fclose(reader);
    assert_string_equal(old, "first");
}

static void a_new_file_has_the_mode_asked_for(void **state) {
    (void)state;
    sl_err_t err;
    struct stat st;
    mode_t mask = umask(022);
    assert_int_equal(sl_file_write_atomic(in_folder("secret"), SL_STR("x"), 0600, &err), SL_OK);
    assert_int_equal(sl_file_write_atomic(in_folder("open"), SL_STR("x"), 0644, &err), SL_OK);
    umask(mask);
    assert_int_equal(stat(in_folder("secret"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(in_folder("open"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
}

static void a_write_that_fails_leaves_no_temporary_file(void **state) {
    (void)state;
    sl_err_t err;
    assert_int_equal(mkdir(in_folder("taken"), 0700), 0);
    assert_int_equal(sl_file_write_atomic(in_folder("taken"), SL_STR("x"), 0600, &err), SL_IO);
    assert_non_null(strstr(err.text, in_folder("taken")));
    assert_int_equal(entries(), 1);
}

static void writing_into_a_missing_folder_is_an_error_with_the_path(void **state) {
    (void)state;
    sl_err_t err;
    assert_int_equal(sl_file_write_atomic(in_folder("no/such"), SL_STR("x"), 0600, &err), SL_IO);
    assert_non_null(strstr(err.text, in_folder("no/such")));
}

static void a_path_that_is_too_long_is_refused(void **state) {
    (void)state;
    sl_err_t err;
    char path[6000];
    memset(path, 'a', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(sl_file_write_atomic(path, SL_STR("x"), 0600, &err), SL_INVALID);
    assert_int_equal(sl_dir_make(path, 0700, &err), SL_INVALID);
}

static void folders_are_made_with_their_parents(void **state) {
    (void)state;
    sl_err_t err;
    struct stat st;
    assert_int_equal(sl_dir_make(in_folder("a/b/c"), 0700, &err), SL_OK);
    assert_int_equal(stat(in_folder("a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(sl_dir_make(in_folder("a/b/d/"), 0700, &err), SL_OK);
    assert_int_equal(stat(in_folder("a/b/d"), &st), 0);
}

static void a_folder_that_exists_is_left_as_it_is(void **state) {
    (void)state;
    sl_err_t err;
    struct stat st;
    assert_int_equal(mkdir(in_folder("a"), 0750), 0);
    assert_int_equal(sl_dir_make(in_folder("a"), 0700, &err), SL_OK);
    assert_int_equal(stat(in_folder("a"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
}

static void a_file_in_the_way_of_a_folder_is_an_error(void **state) {
    (void)state;
    sl_err_t err;
    assert_int_equal(sl_file_write_atomic(in_folder("f"), SL_STR("x"), 0600, &err), SL_OK);
    assert_int_equal(sl_dir_make(in_folder("f/g"), 0700, &err), SL_IO);
    assert_int_equal(sl_dir_make(in_folder("f"), 0700, &err), SL_IO);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(what_is_written_is_read_back),
        IN_FOLDER(a_read_appends_to_the_buffer),
        IN_FOLDER(an_empty_file_is_read_as_nothing),
        IN_FOLDER(a_file_as_large_as_the_limit_is_read),
        IN_FOLDER(a_file_over_the_limit_is_refused_with_both_sizes),
        IN_FOLDER(a_missing_file_is_named),
        IN_FOLDER(a_folder_or_a_pipe_is_no_file),
        IN_FOLDER(reading_survives_a_failed_allocation),
        IN_FOLDER(a_write_replaces_the_file_and_leaves_nothing_behind),
        IN_FOLDER(readers_of_the_old_file_keep_the_old_file),
        IN_FOLDER(a_new_file_has_the_mode_asked_for),
        IN_FOLDER(a_write_that_fails_leaves_no_temporary_file),
        IN_FOLDER(writing_into_a_missing_folder_is_an_error_with_the_path),
        cmocka_unit_test(a_path_that_is_too_long_is_refused),
        IN_FOLDER(folders_are_made_with_their_parents),
        IN_FOLDER(a_folder_that_exists_is_left_as_it_is),
        IN_FOLDER(a_file_in_the_way_of_a_folder_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
