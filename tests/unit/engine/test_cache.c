/* The cache of compiled code: what is used, what is not, and that a bad file costs nothing but time. */
#include "cmocka_all.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sl_cache.h"
#include "sl_digest.h"
#include "sl_file.h"
#include "sl_parallel.h"

#define WAT "(module (func (export \"answer\") (result i32) (i32.const 42)))"

typedef struct {
    char root[64];
    char folder[80];
    sl_engine_t *engine;
    sl_cache_t *cache;
    char log[1024]; /* the last line */
    unsigned lines;
} rig_t;

static void keep_line(void *ud, const char *text) {
    rig_t *rig = ud;
    snprintf(rig->log, sizeof(rig->log), "%s", text);
    rig->lines++;
}

static int set_up(void **state) {
    rig_t *rig = calloc(1, sizeof(*rig));
    snprintf(rig->root, sizeof(rig->root), "/tmp/sl-cache-XXXXXX");
    if (mkdtemp(rig->root) == NULL || sl_engine_new(NULL, &rig->engine, NULL) != SL_OK) {
        return -1;
    }
    snprintf(rig->folder, sizeof(rig->folder), "%s/code", rig->root);
    rig->cache = sl_cache_new(rig->folder, keep_line, rig);
    *state = rig;
    return rig->cache != NULL ? 0 : -1;
}

static void empty_folder(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d != NULL) {
        closedir(d);
    }
}

static int tear_down(void **state) {
    rig_t *rig = *state;
    sl_cache_free(rig->cache);
    sl_engine_free(rig->engine);
    empty_folder(rig->folder);
    rmdir(rig->folder);
    rmdir(rig->root);
    free(rig);
    return 0;
}

static int32_t run(sl_module_t *m) {
    sl_instance_t *in;
    sl_func_t *f;
    sl_raw_t args[1] = {{.i32 = 0}};
    sl_err_t err;
    if (sl_instance_new(m, NULL, 0, NULL, NULL, &in, &err) != SL_OK) {
        return -1;
    }
    bool ok = sl_instance_func(in, "answer", ":i", &f, &err) == SL_OK && sl_instance_call(in, f, args, &err) == SL_OK;
    sl_instance_free(in);
    return ok ? args[0].i32 : -1;
}

/* Whatever the cache does, the caller gets a module that works. */
static void get_and_run(rig_t *rig) {
    sl_module_t *m;
    sl_err_t err = {{0}};
    assert_int_equal(sl_module_get(rig->engine, rig->cache, SL_STR(WAT), &m, &err), SL_OK);
    assert_int_equal(run(m), 42);
    assert_int_equal(sl_module_info(m)->n_exports, 1);
    sl_module_unref(m);
}

static void expect(rig_t *rig, uint64_t hits, uint64_t misses, uint64_t rejected, uint64_t stored) {
    sl_cache_stats_t s = sl_cache_stats(rig->cache);
    assert_int_equal(s.hits, hits);
    assert_int_equal(s.misses, misses);
    assert_int_equal(s.rejected, rejected);
    assert_int_equal(s.stored, stored);
}

/* The one file in the folder. */
static void find_file(rig_t *rig, char *path, size_t size) {
    DIR *d = opendir(rig->folder);
    unsigned found = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] != '.' && strstr(e->d_name, ".lock") == NULL) {
            snprintf(path, size, "%s/%s", rig->folder, e->d_name);
            found++;
        }
    }
    closedir(d);
    assert_int_equal(found, 1);
}

static size_t file_size(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

static void flip_byte(const char *path, size_t off) {
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)off), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)off), 1);
    close(fd);
}

static void the_second_time_the_code_comes_from_the_file(void **state) {
    rig_t *rig = *state;
    get_and_run(rig);
    expect(rig, 0, 1, 0, 1);
    get_and_run(rig);
    expect(rig, 1, 1, 0, 1);
    assert_int_equal(rig->lines, 0);
}

static void code_is_mapped_from_the_file(void **state) {
    rig_t *rig = *state;
    sl_module_t *m;
    char path[400], line[512];
    assert_int_equal(sl_module_get(rig->engine, rig->cache, SL_STR(WAT), &m, NULL), SL_OK);
    find_file(rig, path, sizeof(path));
    FILE *maps = fopen("/proc/self/maps", "r");
    bool executable = false;
    while (fgets(line, sizeof(line), maps) != NULL) {
        executable = executable || (strstr(line, path) != NULL && strstr(line, "r-xp") != NULL);
    }
    fclose(maps);
    sl_module_unref(m);
    assert_true(executable);
}

static void folder_and_file_are_for_the_owner_only(void **state) {
    rig_t *rig = *state;
    char path[400];
    struct stat st;
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(rig->folder, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
}

static void a_damaged_byte_anywhere_is_noticed_and_repaired(void **state) {
    rig_t *rig = *state;
    char path[400];
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    size_t size = file_size(path);
    const size_t places[] = {0, size / 2, size - 1, size - 40, size - 70, size - 100, size - 105, size - 112};
    uint64_t n = sizeof(places) / sizeof(places[0]);
    for (uint64_t i = 0; i < n; i++) {
        flip_byte(path, places[i]);
        get_and_run(rig);
        expect(rig, i, i + 2, i + 1, i + 2);
        assert_non_null(strstr(rig->log, path));
        get_and_run(rig);
        expect(rig, i + 1, i + 2, i + 1, i + 2);
    }
}

static void a_file_that_is_cut_short_is_noticed_and_repaired(void **state) {
    rig_t *rig = *state;
    char path[400];
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    size_t size = file_size(path);
    const size_t sizes[] = {0, 1, 111, 112, size / 2, size - 1};
    uint64_t n = sizeof(sizes) / sizeof(sizes[0]);
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(truncate(path, (off_t)sizes[i]), 0);
        get_and_run(rig);
        expect(rig, 0, i + 2, i + 1, i + 2);
    }
}

static void a_file_that_others_may_write_is_not_used(void **state) {
    rig_t *rig = *state;
    char path[400];
    const mode_t modes[] = {0620, 0602};
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        get_and_run(rig);
        expect(rig, 0, i + 2, i + 1, i + 2);
    }
}

static void a_file_of_another_user_is_not_used(void **state) {
    rig_t *rig = *state;
    char path[400];
    if (geteuid() != 0) {
        skip();
    }
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    assert_int_equal(chown(path, 65534, 65534), 0);
    get_and_run(rig);
    expect(rig, 0, 2, 1, 2);
}

static void a_folder_of_another_user_is_neither_read_nor_written(void **state) {
    rig_t *rig = *state;
    if (geteuid() != 0) {
        skip();
    }
    get_and_run(rig);
    assert_int_equal(chown(rig->folder, 65534, 65534), 0);
    get_and_run(rig);
    expect(rig, 0, 2, 0, 1);
    assert_non_null(strstr(rig->log, rig->folder));
}

static void a_folder_that_others_may_write_is_neither_read_nor_written(void **state) {
    rig_t *rig = *state;
    get_and_run(rig);
    assert_int_equal(chmod(rig->folder, 0770), 0);
    get_and_run(rig);
    expect(rig, 0, 2, 0, 1);
    assert_int_equal(chmod(rig->folder, 0700), 0);
    get_and_run(rig);
    expect(rig, 1, 2, 0, 1);
}

static void a_link_in_the_place_of_the_file_is_not_followed(void **state) {
    rig_t *rig = *state;
    char path[400], elsewhere[500];
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    snprintf(elsewhere, sizeof(elsewhere), "%s.moved", rig->folder);
    assert_int_equal(rename(path, elsewhere), 0);
    assert_int_equal(symlink(elsewhere, path), 0);
    get_and_run(rig);
    expect(rig, 0, 2, 1, 2);
    unlink(elsewhere);
}

static void a_pipe_in_the_place_of_the_file_does_not_block(void **state) {
    rig_t *rig = *state;
    char path[400];
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    get_and_run(rig);
    expect(rig, 0, 2, 1, 2);
}

static void an_engine_with_other_settings_has_its_own_file(void **state) {
    rig_t *rig = *state;
    sl_engine_t *mine = rig->engine;
    sl_engine_conf_t conf = {.name = "wasmtime", .backtraces = true};
    get_and_run(rig);
    assert_int_equal(sl_engine_new(&conf, &rig->engine, NULL), SL_OK);
    get_and_run(rig);
    expect(rig, 0, 2, 0, 2);
    get_and_run(rig);
    expect(rig, 1, 2, 0, 2);
    sl_engine_free(rig->engine);
    rig->engine = mine;
}

static void code_of_another_engine_under_our_name_is_not_used(void **state) {
    rig_t *rig = *state;
    char path[400], other[400];
    sl_engine_t *mine = rig->engine;
    sl_engine_conf_t conf = {.name = "wasmtime", .backtraces = true};
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    unlink(path);
    assert_int_equal(sl_engine_new(&conf, &rig->engine, NULL), SL_OK);
    get_and_run(rig);
    find_file(rig, other, sizeof(other));
    sl_engine_free(rig->engine);
    rig->engine = mine;
    assert_int_equal(rename(other, path), 0);
    get_and_run(rig);
    expect(rig, 0, 3, 1, 3);
    assert_non_null(strstr(rig->log, "another engine"));
}

static void code_of_another_module_under_our_name_is_not_used(void **state) {
    rig_t *rig = *state;
    char path[400], other[400];
    sl_module_t *m;
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    unlink(path);
    assert_int_equal(sl_module_get(rig->engine, rig->cache, SL_STR("(module)"), &m, NULL), SL_OK);
    sl_module_unref(m);
    find_file(rig, other, sizeof(other));
    assert_int_equal(rename(other, path), 0);
    get_and_run(rig);
    expect(rig, 0, 3, 1, 3);
    assert_non_null(strstr(rig->log, "another module"));
}

/* The digest is right and the code is not: what would happen if another program of ours wrote there. */
static void code_that_the_engine_refuses_is_compiled_again(void **state) {
    rig_t *rig = *state;
    char path[400];
    sl_buf_t file;
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    sl_buf_init(&file, 1 << 20);
    assert_int_equal(sl_file_read(path, &file, NULL), SL_OK);
    size_t code = file.len - 112;
    memset(file.data, 0, 4); /* no ELF file any more */
    assert_int_equal(sl_sha256(sl_str(file.data, code), (uint8_t *)file.data + code + 16), SL_OK);
    assert_int_equal(sl_file_write_atomic(path, sl_buf_str(&file), 0600, NULL), SL_OK);
    sl_buf_deinit(&file);
    get_and_run(rig);
    expect(rig, 0, 2, 1, 2);
}

static void a_folder_that_cannot_be_made_is_no_error(void **state) {
    rig_t *rig = *state;
    char file[100], below[120];
    snprintf(file, sizeof(file), "%s/file", rig->root);
    snprintf(below, sizeof(below), "%s/cache", file);
    assert_int_equal(sl_file_write_atomic(file, SL_STR("x"), 0600, NULL), SL_OK);
    sl_cache_t *mine = rig->cache;
    rig->cache = sl_cache_new(below, keep_line, rig);
    assert_non_null(rig->cache);
    assert_int_equal(rig->lines, 1);
    get_and_run(rig);
    expect(rig, 0, 1, 0, 0);
    sl_cache_free(rig->cache);
    rig->cache = mine;
    unlink(file);
}

static void a_module_that_does_not_compile_leaves_no_file(void **state) {
    rig_t *rig = *state;
    sl_module_t *m;
    sl_err_t err = {{0}};
    assert_int_equal(sl_module_get(rig->engine, rig->cache, SL_STR("(module (func i32.add))"), &m, &err), SL_INVALID);
    assert_true(err.text[0] != '\0');
    expect(rig, 0, 1, 0, 0);
    assert_int_equal(rmdir(rig->folder), 0);
}

static void without_a_cache_modules_are_compiled(void **state) {
    rig_t *rig = *state;
    sl_module_t *m;
    assert_int_equal(sl_module_get(rig->engine, NULL, SL_STR(WAT), &m, NULL), SL_OK);
    assert_int_equal(run(m), 42);
    sl_module_unref(m);
}

static int child(rig_t *rig) {
    for (int i = 0; i < 5; i++) {
        sl_module_t *m;
        if (sl_module_get(rig->engine, rig->cache, SL_STR(WAT), &m, NULL) != SL_OK || run(m) != 42) {
            return 1;
        }
        sl_module_unref(m);
        empty_folder(rig->folder);
    }
    return 0;
}

static void many_processes_may_read_write_and_clear_it_at_once(void **state) {
    rig_t *rig = *state;
    pid_t pids[4];
    for (int i = 0; i < 4; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            _exit(child(rig));
        }
    }
    for (int i = 0; i < 4; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
}

static unsigned count_files(rig_t *rig) {
    DIR *d = opendir(rig->folder);
    unsigned found = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        found += e->d_name[0] != '.';
    }
    closedir(d);
    return found;
}

static void what_was_made_of_a_module_is_deleted_with_it(void **state) {
    rig_t *rig = *state;
    uint8_t digest[SL_SHA256_SIZE] = {0};
    sl_module_t *m;
    sl_err_t err;
    assert_int_equal(sl_module_get(rig->engine, rig->cache, SL_STR(WAT), &m, &err), SL_OK);
    sl_cache_drop(rig->cache, rig->engine, digest); /* another module's */
    assert_int_equal(count_files(rig), 1);
    assert_int_equal(sl_sha256(SL_STR(WAT), digest), SL_OK);
    sl_cache_drop(rig->cache, rig->engine, digest);
    assert_int_equal(count_files(rig), 0);
    assert_int_equal(run(m), 42); /* who has it keeps it */
    sl_module_unref(m);
}

static bool wanted;

static bool keep(void *ud, const uint8_t module_sha256[SL_SHA256_SIZE]) {
    uint8_t digest[SL_SHA256_SIZE];
    (*(unsigned *)ud)++;
    assert_int_equal(sl_sha256(SL_STR(WAT), digest), SL_OK);
    assert_memory_equal(module_sha256, digest, sizeof(digest));
    return wanted;
}

static void old_code_that_nobody_wants_is_swept_away(void **state) {
    rig_t *rig = *state;
    char path[PATH_MAX];
    unsigned asked = 0;
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    wanted = false;
    sl_cache_sweep(rig->cache, 120, keep, &asked);
    assert_int_equal(asked, 0); /* it is young */
    struct timespec long_ago[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
    wanted = true;
    sl_cache_sweep(rig->cache, 120, keep, &asked);
    assert_int_equal(asked, 1);
    assert_int_equal(count_files(rig), 1);
    wanted = false;
    sl_cache_sweep(rig->cache, 120, keep, &asked);
    assert_int_equal(count_files(rig), 0);
}

/* ---- one compiles, the others wait ---- */

/* Takes a while to compile: whoever did not wait would be found compiling too. */
static void slow_module(sl_buf_t *out) {
    sl_buf_init(out, 1 << 20);
    sl_buf_append_cstr(out, "(module (func (export \"answer\") (result i32) (i32.const 42))");
    for (int i = 0; i < 1500; i++) {
        sl_buf_printf(out, "(func (param i32) (result i32) (i32.mul (local.get 0) (i32.rotl (local.get 0) (i32.const %d))))", i);
    }
    sl_buf_append_cstr(out, ")");
}

static uint64_t compilations(rig_t *rig, sl_str_t bytes) {
    sl_module_t *m;
    if (sl_module_get(rig->engine, rig->cache, bytes, &m, NULL) != SL_OK || run(m) != 42) {
        return 100;
    }
    sl_module_unref(m);
    return sl_cache_stats(rig->cache).misses;
}

static void of_many_processes_one_compiles(void **state) {
    enum { N = 6 };
    rig_t *rig = *state;
    pid_t pids[N];
    int begin[2];
    int sum = 0;
    sl_buf_t module;
    slow_module(&module);
    assert_int_equal(pipe(begin), 0);
    for (int i = 0; i < N; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            char byte;
            close(begin[1]);
            _exit(read(begin[0], &byte, 1) == 0 ? (int)compilations(rig, sl_buf_str(&module)) : 100);
        }
    }
    close(begin[0]);
    close(begin[1]); /* all at once */
    for (int i = 0; i < N; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        sum += WEXITSTATUS(status);
    }
    sl_buf_deinit(&module);
    assert_int_equal(sum, 1);
}

typedef struct {
    rig_t *rig;
    sl_str_t module;
    atomic_uint good;
} threads_t;

static void get_in_thread(void *ud, size_t i) {
    threads_t *t = ud;
    sl_module_t *m;
    (void)i;
    if (sl_module_get(t->rig->engine, t->rig->cache, t->module, &m, NULL) == SL_OK) {
        sl_module_unref(m);
        atomic_fetch_add(&t->good, 1);
    }
}

static void of_many_threads_one_compiles(void **state) {
    rig_t *rig = *state;
    sl_buf_t module;
    slow_module(&module);
    threads_t t = {.rig = rig, .module = sl_buf_str(&module)};
    sl_parallel(8, 8, get_in_thread, &t);
    sl_buf_deinit(&module);
    assert_int_equal(t.good, 8);
    expect(rig, 7, 1, 0, 1);
}

/* The lock of the one module, held by a child until it ends. */
static pid_t hold_lock(rig_t *rig) {
    char path[400], lock[420];
    int ready[2];
    char byte;
    get_and_run(rig);
    find_file(rig, path, sizeof(path));
    snprintf(lock, sizeof(lock), "%s.lock", path);
    unlink(path);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(lock, O_RDWR | O_CREAT, 0600);
        _exit(fd >= 0 && flock(fd, LOCK_EX) == 0 && write(ready[1], "x", 1) == 1 ? pause() : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void who_takes_too_long_is_not_waited_for(void **state) {
    rig_t *rig = *state;
    sl_cache_limits_t limits = {.wait_ms = 20};
    pid_t pid = hold_lock(rig);
    sl_cache_limit(rig->cache, &limits);
    get_and_run(rig);
    expect(rig, 0, 2, 0, 2);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void the_lock_of_a_dead_process_holds_nobody_up(void **state) {
    rig_t *rig = *state;
    pid_t pid = hold_lock(rig);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    get_and_run(rig); /* would wait for two minutes */
    expect(rig, 0, 2, 0, 2);
    assert_int_equal(sl_cache_stats(rig->cache).waited, 0);
}

static void a_full_disk_is_no_error_and_leaves_nothing_behind(void **state) {
    rig_t *rig = *state;
    struct rlimit before, small;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 1000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    get_and_run(rig);
    get_and_run(rig);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    expect(rig, 0, 2, 0, 0);
    assert_int_equal(rig->lines, 2);
    assert_non_null(strstr(rig->log, rig->folder));
    assert_int_equal(rmdir(rig->folder), 0);
}

/* ---- what is kept ---- */

static void text_of(int i, char *text, size_t size) {
    snprintf(text, size, "(module (func (export \"answer\") (result i32) (i32.const %d)))", i);
}

static sl_module_t *get(rig_t *rig, int i) {
    char text[100];
    sl_module_t *m = NULL;
    text_of(i, text, sizeof(text));
    assert_int_equal(sl_module_get(rig->engine, rig->cache, sl_cstr(text), &m, NULL), SL_OK);
    return m;
}

/* Files 0 to n-1 in the cache, the last one used `step_s` ago, each before it as much earlier; answers the size of all. */
static uint64_t fill(rig_t *rig, int n, int step_s) {
    struct stat st;
    uint64_t bytes = 0;
    for (int i = 0; i < n; i++) {
        sl_module_unref(get(rig, i));
        DIR *d = opendir(rig->folder);
        for (struct dirent *e; (e = readdir(d)) != NULL;) {
            /* those before are older already */
            if (e->d_name[0] != '.' && fstatat(dirfd(d), e->d_name, &st, 0) == 0 && time(NULL) - st.st_mtime < 60) {
                struct timespec times[2] = {{.tv_sec = time(NULL) - (time_t)(n - i) * step_s},
                                            {.tv_sec = time(NULL) - (time_t)(n - i) * step_s}};
                assert_int_equal(utimensat(dirfd(d), e->d_name, times, 0), 0);
                bytes += (uint64_t)st.st_size;
            }
        }
        closedir(d);
    }
    return bytes;
}

/* Whether each of n modules is still in the cache; they are loaded by that. */
static void expect_kept(rig_t *rig, const char *kept) {
    for (int i = 0; kept[i] != '\0'; i++) {
        uint64_t hits = sl_cache_stats(rig->cache).hits;
        sl_module_unref(get(rig, i));
        assert_int_equal(sl_cache_stats(rig->cache).hits - hits, kept[i] == '1');
    }
}

static void what_was_loaded_longest_ago_goes_first(void **state) {
    rig_t *rig = *state;
    uint64_t bytes = fill(rig, 4, 1000);
    sl_cache_limits_t limits = {.max_bytes = bytes - bytes / 4 - 1};
    sl_cache_limit(rig->cache, &limits);
    sl_cache_prune(rig->cache);
    assert_int_equal(sl_cache_stats(rig->cache).removed, 2);
    assert_non_null(strstr(rig->log, rig->folder));
    expect_kept(rig, "0011");
}

static void loading_counts_as_use(void **state) {
    rig_t *rig = *state;
    uint64_t bytes = fill(rig, 3, 1000);
    sl_cache_limits_t limits = {.max_bytes = bytes - 1};
    sl_module_unref(get(rig, 0));
    sl_cache_limit(rig->cache, &limits);
    sl_cache_prune(rig->cache);
    expect_kept(rig, "101");
}

static void what_is_not_loaded_for_long_goes(void **state) {
    rig_t *rig = *state;
    sl_cache_limits_t limits = {.max_age_s = 2500};
    fill(rig, 4, 1000);
    sl_cache_limit(rig->cache, &limits);
    sl_cache_prune(rig->cache);
    assert_int_equal(sl_cache_stats(rig->cache).removed, 2);
    expect_kept(rig, "0011");
}

static void below_the_limits_nothing_goes(void **state) {
    rig_t *rig = *state;
    sl_cache_limits_t limits = {.max_bytes = fill(rig, 3, 1000), .max_age_s = 100000};
    sl_cache_limit(rig->cache, &limits);
    sl_cache_prune(rig->cache);
    assert_int_equal(sl_cache_stats(rig->cache).removed, 0);
    assert_int_equal(rig->lines, 0);
    expect_kept(rig, "111");
}

static void without_limits_nothing_goes(void **state) {
    rig_t *rig = *state;
    sl_cache_limits_t none = {0};
    fill(rig, 2, 10000000);
    sl_cache_limit(rig->cache, &none);
    sl_cache_prune(rig->cache);
    expect_kept(rig, "11");
}

static void what_is_in_service_stays_however_old_it_is(void **state) {
    rig_t *rig = *state;
    sl_cache_limits_t limits = {.max_bytes = 1, .max_age_s = 1};
    sl_module_t *used = get(rig, 1);
    fill(rig, 3, 1000);
    sl_cache_limit(rig->cache, &limits);
    sl_cache_prune(rig->cache);
    assert_int_equal(sl_cache_stats(rig->cache).removed, 2);
    assert_non_null(strstr(rig->log, "in use"));
    sl_module_unref(used);
    expect_kept(rig, "010");
}

static void what_another_process_has_in_service_stays(void **state) {
    rig_t *rig = *state;
    sl_cache_limits_t limits = {.max_bytes = 1};
    int ready[2];
    char byte;
    fill(rig, 1, 1000);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        get(rig, 0);
        _exit(write(ready[1], "x", 1) == 1 ? pause() : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    fill(rig, 0, 0);
    sl_cache_limit(rig->cache, &limits);
    sl_cache_prune(rig->cache);
    uint64_t removed = sl_cache_stats(rig->cache).removed;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(removed, 0);
}

static void what_was_just_stored_stays(void **state) {
    rig_t *rig = *state;
    sl_cache_limits_t limits = {.max_bytes = 1, .max_age_s = 1};
    sl_module_unref(get(rig, 0));
    sl_cache_limit(rig->cache, &limits);
    sl_cache_prune(rig->cache);
    expect_kept(rig, "1");
}

static void what_dead_processes_left_goes(void **state) {
    rig_t *rig = *state;
    static const char *const names[] = {"a.cwasm.lock", "a.cwasm.tmp-1-2", "mine"};
    const struct timespec times[2] = {{.tv_sec = time(NULL) - 10000}, {.tv_sec = time(NULL) - 10000}};
    struct stat st;
    int folder = open(rig->folder, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < 3; i++) {
        close(openat(folder, names[i], O_RDWR | O_CREAT, 0600));
        assert_int_equal(utimensat(folder, names[i], times, 0), 0);
    }
    sl_cache_prune(rig->cache);
    assert_int_equal(fstatat(folder, names[0], &st, 0), -1);
    assert_int_equal(fstatat(folder, names[1], &st, 0), -1);
    assert_int_equal(fstatat(folder, names[2], &st, 0), 0);
    close(folder);
}

static void each_setting_of_the_engine_that_changes_code_has_its_own_file(void **state) {
    rig_t *rig = *state;
    sl_engine_t *mine = rig->engine;
    const sl_engine_conf_t confs[] = {{.backtraces = true}, {.max_stack_bytes = 1 << 20}, {.backtraces = true, .max_stack_bytes = 1 << 20}};
    get_and_run(rig);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(sl_engine_new(&confs[i], &rig->engine, NULL), SL_OK);
        get_and_run(rig);
        expect(rig, i, i + 2, 0, i + 2);
        get_and_run(rig);
        expect(rig, i + 1, i + 2, 0, i + 2);
        sl_engine_free(rig->engine);
    }
    rig->engine = mine;
}

static void how_written_pages_are_found_is_no_matter_of_the_code(void **state) {
    rig_t *rig = *state;
    sl_engine_t *mine = rig->engine;
    sl_engine_conf_t conf = {.dirty = SL_DIRTY_PAGEMAP};
    get_and_run(rig);
    assert_int_equal(sl_engine_new(&conf, &rig->engine, NULL), SL_OK);
    get_and_run(rig);
    expect(rig, 1, 1, 0, 1);
    sl_engine_free(rig->engine);
    rig->engine = mine;
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(the_second_time_the_code_comes_from_the_file),
        EACH(what_was_made_of_a_module_is_deleted_with_it),
        EACH(old_code_that_nobody_wants_is_swept_away),
        EACH(code_is_mapped_from_the_file),
        EACH(folder_and_file_are_for_the_owner_only),
        EACH(a_damaged_byte_anywhere_is_noticed_and_repaired),
        EACH(a_file_that_is_cut_short_is_noticed_and_repaired),
        EACH(a_file_that_others_may_write_is_not_used),
        EACH(a_file_of_another_user_is_not_used),
        EACH(a_folder_of_another_user_is_neither_read_nor_written),
        EACH(a_folder_that_others_may_write_is_neither_read_nor_written),
        EACH(a_link_in_the_place_of_the_file_is_not_followed),
        EACH(a_pipe_in_the_place_of_the_file_does_not_block),
        EACH(an_engine_with_other_settings_has_its_own_file),
        EACH(code_of_another_engine_under_our_name_is_not_used),
        EACH(code_of_another_module_under_our_name_is_not_used),
        EACH(code_that_the_engine_refuses_is_compiled_again),
        EACH(a_folder_that_cannot_be_made_is_no_error),
        EACH(a_module_that_does_not_compile_leaves_no_file),
        EACH(without_a_cache_modules_are_compiled),
        EACH(many_processes_may_read_write_and_clear_it_at_once),
        EACH(of_many_processes_one_compiles),
        EACH(of_many_threads_one_compiles),
        EACH(who_takes_too_long_is_not_waited_for),
        EACH(the_lock_of_a_dead_process_holds_nobody_up),
        EACH(a_full_disk_is_no_error_and_leaves_nothing_behind),
        EACH(what_was_loaded_longest_ago_goes_first),
        EACH(loading_counts_as_use),
        EACH(what_is_not_loaded_for_long_goes),
        EACH(below_the_limits_nothing_goes),
        EACH(without_limits_nothing_goes),
        EACH(what_is_in_service_stays_however_old_it_is),
        EACH(what_another_process_has_in_service_stays),
        EACH(what_was_just_stored_stays),
        EACH(what_dead_processes_left_goes),
        EACH(each_setting_of_the_engine_that_changes_code_has_its_own_file),
        EACH(how_written_pages_are_found_is_no_matter_of_the_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
