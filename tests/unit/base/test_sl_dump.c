/* Dumps: what is in the file, and the ceiling of the folder. */
#include "cmocka_all.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sl_dump.h"
#include "sl_file.h"

#define PAGE ((size_t)4096)

static char folder[64];

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/sl_dump-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static void path_of(char path[512], const char *name) {
    snprintf(path, 512, "%s/%s", folder, name);
}

/* Calls `each` for the files, if it is given; how many there are. */
static size_t files(void (*each)(const char *path)) {
    DIR *dir = opendir(folder);
    size_t n = 0;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char path[512];
        if (entry->d_name[0] == '.') {
            continue;
        }
        n++;
        path_of(path, entry->d_name);
        if (each != NULL) {
            each(path);
        }
    }
    closedir(dir);
    return n;
}

static void remove_it(const char *path) {
    unlink(path);
}

static int tear_down(void **state) {
    (void)state;
    files(remove_it);
    return rmdir(folder);
}

static void dump(sl_str_t memory, uint64_t max_bytes, uint32_t max_files, char name[SL_DUMP_NAME]) {
    sl_dumps_t where = {folder, max_bytes, max_files};
    sl_err_t err;
    sl_dump_t *d = sl_dump_new(SL_STR("filter: f\n"), memory);
    assert_non_null(d);
    if (sl_dump_write(d, &where, name, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    sl_dump_free(d);
}

static void a_dump_has_its_text_and_the_memory_byte_for_byte(void **state) {
    (void)state;
    static char memory[10 * PAGE + 100];
    char name[SL_DUMP_NAME], path[512];
    sl_buf_t file;
    sl_err_t err;
    struct stat st;
    memory[0] = 1;
    memory[3 * PAGE - 1] = 2;
    memory[3 * PAGE] = 3;
    memory[10 * PAGE + 99] = 4;
    dump(sl_str(memory, sizeof(memory)), 1 << 20, 4, name);
    path_of(path, name);
    sl_buf_init(&file, 1 << 20);
    assert_int_equal(sl_file_read(path, &file, &err), SL_OK);
    static const char head[] = "filter: f\nmemory: 41060\n\n";
    assert_int_equal(file.len, PAGE + sizeof(memory));
    assert_memory_equal(file.data, head, sizeof(head)); /* a NUL follows */
    assert_memory_equal(file.data + PAGE, memory, sizeof(memory));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true((size_t)st.st_blocks * 512 < file.len); /* zeros take no room */
    sl_buf_deinit(&file);
}

static void the_oldest_go_when_there_are_too_many(void **state) {
    (void)state;
    char names[5][SL_DUMP_NAME], path[512];
    for (int i = 0; i < 5; i++) {
        dump(SL_STR("x"), 1 << 20, 3, names[i]);
        usleep(10); /* names have microseconds */
    }
    assert_int_equal(files(NULL), 3);
    for (int i = 0; i < 5; i++) {
        path_of(path, names[i]);
        assert_int_equal(access(path, F_OK), i < 2 ? -1 : 0);
    }
}

static void the_oldest_go_when_they_take_too_much(void **state) {
    (void)state;
    static char memory[64 * PAGE];
    char name[SL_DUMP_NAME];
    memset(memory, 'x', sizeof(memory));
    for (int i = 0; i < 5; i++) {
        dump(sl_str(memory, sizeof(memory)), 150 * PAGE, 100, name);
    }
    assert_int_equal(files(NULL), 2);
}

static void one_that_is_too_large_is_written_without_memory(void **state) {
    (void)state;
    static char memory[64 * PAGE];
    char name[SL_DUMP_NAME], path[512];
    struct stat st;
    memset(memory, 'x', sizeof(memory));
    dump(sl_str(memory, sizeof(memory)), 32 * PAGE, 100, name);
    path_of(path, name);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, strlen("filter: f\nleft out: the rest of 262144 bytes\nmemory: 0\n\n"));
}

static void files_of_others_are_left_alone(void **state) {
    (void)state;
    char name[SL_DUMP_NAME], path[512];
    path_of(path, "core.dump");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    dump(SL_STR("x"), 1 << 20, 1, name);
    dump(SL_STR("x"), 1 << 20, 1, name);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(files(NULL), 2);
}

static void a_folder_that_is_not_there_is_an_error(void **state) {
    (void)state;
    sl_dumps_t where = {"/no/such/folder", 1 << 20, 3};
    char name[SL_DUMP_NAME];
    sl_err_t err;
    sl_dump_t *d = sl_dump_new(SL_STR("x\n"), SL_STR(""));
    assert_int_equal(sl_dump_write(d, &where, name, &err), SL_IO);
    assert_non_null(strstr(err.text, "/no/such/folder"));
    sl_dump_free(d);
}

/* ---- reading ---- */

static sl_status_t read_back(const char *path, sl_buf_t *text, sl_dump_memory_t *memory) {
    sl_err_t err;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    sl_buf_init(text, 1 << 20);
    sl_status_t rc = sl_dump_read(fd, text, memory, &err);
    close(fd);
    return rc;
}

static void write_file(char path[512], const char *data, size_t len) {
    path_of(path, "file");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
}

static void what_was_written_can_be_read_and_taken_out(void **state) {
    (void)state;
    static char memory[40 * PAGE + 100];
    char name[SL_DUMP_NAME], path[512], out_path[512];
    sl_dumps_t where = {folder, 1 << 20, 4};
    sl_buf_t text, out;
    sl_dump_memory_t at;
    sl_err_t err;
    memory[5 * PAGE] = 7;
    memory[40 * PAGE + 99] = 8;
    sl_dump_t *d = sl_dump_new(SL_STR(SL_DUMP_HEAD "filter: f\n"), sl_str(memory, sizeof(memory)));
    assert_int_equal(sl_dump_write(d, &where, name, &err), SL_OK);
    sl_dump_free(d);
    path_of(path, name);
    assert_int_equal(read_back(path, &text, &at), SL_OK);
    assert_true(sl_str_eq(sl_buf_str(&text), SL_STR(SL_DUMP_HEAD "filter: f\nmemory: 163940")));
    path_of(out_path, "out");
    int fd = open(path, O_RDONLY), to = open(out_path, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_int_equal(sl_dump_extract(fd, &at, to, &err), SL_OK);
    close(fd);
    close(to);
    sl_buf_init(&out, 1 << 20);
    assert_int_equal(sl_file_read(out_path, &out, &err), SL_OK);
    assert_int_equal(out.len, sizeof(memory));
    assert_memory_equal(out.data, memory, sizeof(memory));
    sl_buf_deinit(&out);
    sl_buf_deinit(&text);
}

static void memory_that_would_take_too_long_is_cut_and_the_dump_says_so(void **state) {
    (void)state;
    size_t size = SL_DUMP_COPIED_MAX + 3 * PAGE;
    char name[SL_DUMP_NAME], path[512], *memory = malloc(size);
    sl_dumps_t where = {folder, 1 << 30, 4};
    sl_buf_t text;
    sl_dump_memory_t at;
    sl_err_t err;
    memset(memory, 1, size);
    memset(memory + PAGE, 0, PAGE);
    sl_dump_t *d = sl_dump_new(SL_STR(SL_DUMP_HEAD), sl_str(memory, size));
    assert_int_equal(sl_dump_write(d, &where, name, &err), SL_OK);
    sl_dump_free(d);
    free(memory);
    path_of(path, name);
    assert_int_equal(read_back(path, &text, &at), SL_OK);
    assert_int_equal(at.len, SL_DUMP_COPIED_MAX + PAGE);
    assert_non_null(strstr(sl_buf_str(&text).data, "\nleft out: the rest of 16789504 bytes\nmemory: 16781312"));
    sl_buf_deinit(&text);
}

static void no_beginning_of_a_dump_is_one(void **state) {
    (void)state;
    char whole[2 * PAGE] = SL_DUMP_HEAD "a: b\nmemory: 4096\n\n", path[512];
    sl_buf_t text;
    sl_dump_memory_t at;
    whole[PAGE] = 1;
    for (size_t len = 0; len <= sizeof(whole); len += len < 64 || len + 70 > PAGE ? 1 : 61) {
        write_file(path, whole, len);
        assert_int_equal(read_back(path, &text, &at), len == sizeof(whole) ? SL_OK : SL_INVALID);
        sl_buf_deinit(&text);
    }
}

static void numbers_and_texts_that_are_wrong_are_refused(void **state) {
    (void)state;
    static const char *const files_[] = {
        SL_DUMP_HEAD "memory: 0\n\nx",
        SL_DUMP_HEAD "memory: \n\n",
        SL_DUMP_HEAD "memory: 4096\n\n",
        SL_DUMP_HEAD "memory: -1\n\n",
        SL_DUMP_HEAD "memory: 18446744073709551615\n\n",
        SL_DUMP_HEAD "memory: 99999999999999999999999999\n\n",
        SL_DUMP_HEAD "memory:0\n\n",
        SL_DUMP_HEAD "0\n\n",
        SL_DUMP_HEAD "memory: 0\n",
        SL_DUMP_HEAD "\n",
        "sluice trap dump 2\nmemory: 0\n\n",
        "memory: 0\n\n",
        "",
    };
    for (size_t i = 0; i < sizeof(files_) / sizeof(files_[0]); i++) {
        char path[512];
        sl_buf_t text;
        sl_dump_memory_t at;
        write_file(path, files_[i], strlen(files_[i]));
        assert_int_equal(read_back(path, &text, &at), SL_INVALID);
        sl_buf_deinit(&text);
    }
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(a_dump_has_its_text_and_the_memory_byte_for_byte),
        EACH(the_oldest_go_when_there_are_too_many),
        EACH(the_oldest_go_when_they_take_too_much),
        EACH(one_that_is_too_large_is_written_without_memory),
        EACH(files_of_others_are_left_alone),
        EACH(a_folder_that_is_not_there_is_an_error),
        EACH(what_was_written_can_be_read_and_taken_out),
        EACH(memory_that_would_take_too_long_is_cut_and_the_dump_says_so),
        EACH(no_beginning_of_a_dump_is_one),
        EACH(numbers_and_texts_that_are_wrong_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
