/* Full disks, damaged and foreign files, missing rights, missing memory, a death at each single write. */
#include "store.h"

#include "cmocka_all.h"
#include "fail_alloc.h"
#include "store_support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVICES SL_STR("services")

/* ---- SQLite's writes, to be failed or died at ------------------------------------------------------------------------------- */

typedef enum { WRITE_WELL, WRITE_FULL, WRITE_BROKEN, WRITE_DIE, WRITE_DIE_TORN } write_mode_t;

static write_mode_t write_mode;
static int writes_left; /* until the one that is hit; after it, a full disk stays full */

static ssize_t hit_pwrite(int fd, const void *data, size_t n, off_t at) {
    if (write_mode == WRITE_WELL || writes_left-- > 0) {
        return pwrite(fd, data, n, at);
    }
    if (write_mode == WRITE_DIE_TORN) {
        (void)!pwrite(fd, data, n / 2, at);
    }
    if (write_mode == WRITE_DIE || write_mode == WRITE_DIE_TORN) {
        kill(getpid(), SIGKILL);
    }
    errno = write_mode == WRITE_FULL ? ENOSPC : EIO;
    return -1;
}

static void hit_write(write_mode_t mode, int after) {
    write_mode = mode;
    writes_left = after;
}

static void install_writes(void) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    int found = vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)hit_pwrite) == SQLITE_OK;
    found += vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)hit_pwrite) == SQLITE_OK;
    assert_int_not_equal(found, 0);
}

/* ---- the libraries' allocations ---------------------------------------------------------------------------------------------- */

static sqlite3_mem_methods real_memory;
static unsigned lib_fail_at, lib_seen;

static bool lib_fails(void) {
    return ++lib_seen == lib_fail_at;
}

static void *sqlite_malloc(int size) {
    return lib_fails() ? NULL : real_memory.xMalloc(size);
}

static void *sqlite_realloc(void *p, int size) {
    return lib_fails() ? NULL : real_memory.xRealloc(p, size);
}

/* Not through fail_alloc.h: that is for our own. */
void *__real_malloc(size_t size);
static void *json_malloc(size_t size) {
    return lib_fails() ? NULL : __real_malloc(size);
}

static void lib_fail_alloc_at(unsigned nth) {
    lib_fail_at = nth;
    lib_seen = 0;
}

static void install_memory(void) {
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory);
    sqlite3_mem_methods memory = real_memory;
    memory.xMalloc = sqlite_malloc;
    memory.xRealloc = sqlite_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &memory);
    json_set_alloc_funcs(json_malloc, free);
}

/* ---- helpers ----------------------------------------------------------------------------------------------------------------- */

static sl_status_t open_at(const char *path, bool read_only, st_store_t **store) {
    st_conf_t conf = {.path = path, .read_only = read_only};
    return st_store_open(&conf, store, &test_err);
}

/* One transaction that changes two rows and adds a module; v is their content. */
static sl_status_t write_state(st_store_t *store, int v, size_t module_size) {
    st_tx_t *tx;
    uint32_t version;
    st_module_t module = {.name = SL_STR("big")};
    sl_status_t rc = st_tx_begin(store, ST_WRITE, ST_ANY_REVISION, &tx, &test_err);
    if (rc != SL_OK) {
        return rc;
    }
    char *bytes = malloc(module_size);
    assert_non_null(bytes);
    memset(bytes, v, module_size);
    rc = put_new(tx, "services", test_service(1, "a", v));
    rc = rc == SL_OK ? put_new(tx, "services", test_service(2, "b", v)) : rc;
    rc = rc == SL_OK ? st_module_put(tx, &module, sl_str(bytes, module_size), &version, &test_err) : rc;
    free(bytes);
    if (rc != SL_OK) {
        st_tx_rollback(tx);
        return rc;
    }
    return st_tx_commit(tx, NULL, &test_err);
}

static size_t n_modules(st_store_t *store);

/* The number that write_state wrote last; all of its parts must be of the same. */
static int read_state(st_store_t *store, size_t modules) {
    int v = port_of(store, 1);
    assert_int_equal(port_of(store, 2), v);
    assert_int_equal(n_modules(store), modules);
    return v;
}

static sl_status_t count(void *ud, const st_module_t *module) {
    (void)module;
    (*(size_t *)ud)++;
    return SL_OK;
}

static size_t n_modules(st_store_t *store) {
    size_t n = 0;
    st_tx_t *tx = test_begin(store, ST_READ);
    MUST(st_module_each(tx, SL_STR_NULL, count, &n, &test_err));
    st_tx_rollback(tx);
    return n;
}

static void raw(const char *sql) {
    sqlite3 *db;
    char *text = NULL;
    assert_int_equal(sqlite3_open(db_path(), &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &text) != SQLITE_OK) {
        fail_msg("%s: %s", sql, text);
    }
    sqlite3_close(db);
}

static char *read_file(const char *path, size_t *size) {
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    char *data = malloc((size_t)st.st_size);
    assert_non_null(data);
    assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
    close(fd);
    *size = (size_t)st.st_size;
    return data;
}

static void write_file(const char *path, const char *data, size_t size) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

/* Runs `body` in a child process, and fails unless it answers true. */
static void in_child(bool (*body)(void)) {
    int status = -1;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool fine = body();
        if (!fine) {
            fprintf(stderr, "child: %s\n", test_err.text);
        }
        _exit(fine ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* ---- full disks -------------------------------------------------------------------------------------------------------------- */

static void a_full_disk_is_named_and_keeps_the_old_state(void **state) {
    (void)state;
    int v = 1;
    size_t modules = 1, failures = 0;
    st_store_t *store = test_open();
    MUST(write_state(store, v, 30000));
    for (int n = 0; n < 40; n++) {
        hit_write(WRITE_FULL, n);
        sl_status_t rc = write_state(store, v + 1, 30000);
        st_fault_kind_t fault = st_store_fault(store)->kind;
        hit_write(WRITE_WELL, 0);
        if (rc == SL_OK) {
            v++;
            modules++;
        } else {
            failures++;
            assert_int_equal(rc, SL_IO);
            assert_int_equal(fault, ST_FAULT_FULL);
            assert_non_null(strstr(test_err.text, db_path()));
            assert_non_null(strstr(test_err.text, "space"));
        }
        assert_int_equal(read_state(store, modules), v);
    }
    assert_true(failures > 5 && failures < 40);
    MUST(write_state(store, v + 1, 30000));
    st_store_close(store);
}

static void a_broken_disk_is_an_error_and_keeps_the_old_state(void **state) {
    (void)state;
    int v = 1;
    size_t modules = 1, failures = 0;
    st_store_t *store = test_open();
    MUST(write_state(store, v, 30000));
    for (int n = 0; n < 40; n++) {
        hit_write(WRITE_BROKEN, n);
        sl_status_t rc = write_state(store, v + 1, 30000);
        hit_write(WRITE_WELL, 0);
        if (rc == SL_OK) {
            v++;
            modules++;
        } else {
            failures++;
            assert_int_equal(rc, SL_IO);
        }
        assert_int_equal(read_state(store, modules), v);
    }
    assert_true(failures > 5 && failures < 40);
    st_store_close(store);
}

static void a_disk_that_is_full_from_the_start_leaves_no_files(void **state) {
    (void)state;
    st_store_t *store;
    char command[600];
    for (int n = 0;; n++) {
        hit_write(WRITE_FULL, n);
        sl_status_t rc = open_at(db_path(), false, &store);
        hit_write(WRITE_WELL, 0);
        if (rc == SL_OK) {
            st_store_close(store);
            break;
        }
        assert_int_equal(rc, SL_IO);
        assert_non_null(strstr(test_err.text, "space"));
        snprintf(command, sizeof(command), "test -z \"$(ls '%s' | grep -v '^sluice.db$')\"", in_folder(""));
        assert_int_equal(system(command), 0);
    }
}

/* The limit of a process stands for a quota: writing beyond it is EFBIG. */
static bool write_over_the_limit(void) {
    struct rlimit limit;
    st_store_t *store;
    signal(SIGXFSZ, SIG_IGN);
    if (open_at(db_path(), false, &store) != SL_OK || getrlimit(RLIMIT_FSIZE, &limit) != 0) {
        return false;
    }
    limit.rlim_cur = 1 << 20;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) {
        return false;
    }
    bool refused = write_state(store, 2, (size_t)4 << 20) == SL_IO && st_store_fault(store)->kind == ST_FAULT_FULL;
    bool old = port_of(store, 1) == 1;
    bool goes_on = write_state(store, 3, 100) == SL_OK && port_of(store, 1) == 3;
    st_store_close(store);
    return refused && old && goes_on;
}

static void a_quota_is_named_and_what_fits_goes_on(void **state) {
    (void)state;
    st_store_t *store = test_open();
    MUST(write_state(store, 1, 100));
    st_store_close(store);
    in_child(write_over_the_limit);
    store = test_open();
    assert_int_equal(read_state(store, 2), 3);
    st_store_close(store);
}

/* ---- dying ------------------------------------------------------------------------------------------------------------------- */

/* true: it lived through all its writes. */
static bool die_at_write(write_mode_t mode, int n, int v) {
    int status = -1;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        st_store_t *store;
        hit_write(mode, n);
        bool fine = open_at(db_path(), false, &store) == SL_OK && write_state(store, v, 20000) == SL_OK;
        st_store_close(fine ? store : NULL);
        _exit(fine ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    return status == 0;
}

static void die_at_each_write(write_mode_t mode) {
    size_t modules = 0;
    int v = 1, olds = 0, news = 0;
    st_store_t *store = test_open();
    MUST(write_state(store, v, 20000));
    st_store_close(store);
    modules = 1;
    for (int n = 0;; n++) {
        bool lived = die_at_write(mode, n, v + 1);
        store = test_open();
        bool is_new = port_of(store, 1) == v + 1;
        assert_true(is_new || !lived);
        v += is_new;
        modules += is_new;
        assert_int_equal(read_state(store, modules), v);
        st_store_close(store);
        news += is_new;
        olds += !is_new;
        if (lived) {
            break;
        }
    }
    assert_true(olds > 3 && news > 3); /* writes before the commit, and after it: its checkpoint */
}

static void a_death_at_any_write_leaves_the_old_or_the_new_state(void **state) {
    (void)state;
    die_at_each_write(WRITE_DIE);
}

static void a_death_in_the_middle_of_any_write_leaves_the_old_or_the_new_state(void **state) {
    (void)state;
    die_at_each_write(WRITE_DIE_TORN);
}

/* ---- damaged files ------------------------------------------------------------------------------------------------------------ */

/* A database of some pages; answers its content and its bytes. */
static char *make_sample(char **content, size_t *size) {
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    for (unsigned n = 1; n <= 60; n++) {
        char name[32];
        snprintf(name, sizeof(name), "service-%u", n);
        MUST(put_new(tx, "services", test_service(n, name, (int)n)));
        MUST(put_new(tx, "routes", test_route(n + 100, NULL, (int)n)));
        MUST(put_new(tx, "filter_chains", test_chain(n + 200, (int)n, -1)));
    }
    test_commit(tx);
    *content = dump_all(store);
    st_store_close(store);
    return read_file(db_path(), size);
}

/* Opens what is at the path. true: noticed as damaged; false: it was fine and has the content. Anything else fails the test. */
static bool is_noticed(const char *content) {
    st_store_t *store;
    st_tx_t *tx;
    json_t *all = NULL;
    test_err.text[0] = '\0';
    sl_status_t rc = open_at(db_path(), false, &store);
    if (rc == SL_OK) {
        rc = st_tx_begin(store, ST_READ, ST_ANY_REVISION, &tx, &test_err);
        rc = rc == SL_OK ? st_tx_load(tx, &all, &test_err) : rc;
    }
    st_store_close(store);
    if (rc != SL_OK) {
        assert_true(rc == SL_IO || rc == SL_FAILED);
        assert_true(strlen(test_err.text) > 20);
        return true;
    }
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    assert_string_equal(text, content);
    free(text);
    return false;
}

static void put_back(const char *data, size_t size) {
    unlink(in_folder("sluice.db-wal"));
    unlink(in_folder("sluice.db-shm"));
    write_file(db_path(), data, size);
}

static void overwritten_pages_are_noticed(void **state) {
    (void)state;
    char *content;
    size_t size, noticed = 0;
    char *data = make_sample(&content, &size), *copy = malloc(size);
    assert_true(copy != NULL && size > 20 * 4096);
    for (size_t at = 0; at < size; at += 4096) {
        memcpy(copy, data, size);
        for (size_t i = 0; i < 4096; i++) {
            copy[at + i] = (char)(i * 7 + at);
        }
        put_back(copy, size);
        noticed += is_noticed(content);
        memset(copy + at, 0, 4096);
        put_back(copy, size);
        noticed += is_noticed(content);
    }
    assert_true(noticed > 2 * (size / 4096) - 4); /* every page is used; an empty one may be a valid empty index */
    free(copy);
    free(data);
    free(content);
}

static void a_garbage_header_is_named(void **state) {
    (void)state;
    char *content;
    size_t size;
    st_store_t *store;
    char *data = make_sample(&content, &size);
    memset(data, 'x', 100);
    put_back(data, size);
    assert_int_equal(open_at(db_path(), false, &store), SL_IO);
    assert_null(store);
    assert_non_null(strstr(test_err.text, db_path()));
    assert_non_null(strstr(test_err.text, "damaged"));
    assert_non_null(strstr(test_err.text, "restore"));
    free(data);
    free(content);
}

static void a_truncated_file_is_noticed(void **state) {
    (void)state;
    char *content;
    size_t size;
    char *data = make_sample(&content, &size);
    for (size_t len = 0; len < size; len += len < 200 ? 10 : 1500) {
        put_back(data, len);
        assert_true(is_noticed(content));
    }
    put_back(data, size);
    assert_false(is_noticed(content));
    free(data);
    free(content);
}

static void flipped_bits_are_noticed_or_do_no_harm(void **state) {
    (void)state;
    char *content;
    size_t size, noticed = 0;
    unsigned random = 99;
    char *data = make_sample(&content, &size);
    for (int i = 0; i < 1000; i++) {
        random = random * 1103515245 + 12345;
        size_t at = (size_t)(random >> 4) % size;
        char bit = (char)(1 << (random >> 1) % 8);
        data[at] ^= bit;
        put_back(data, size);
        noticed += is_noticed(content);
        data[at] ^= bit;
    }
    fprintf(stderr, "%zu of 1000 flipped bits noticed, the others were in free space or in indexes\n", noticed);
    assert_true(noticed > 100);
    free(data);
    free(content);
}

static void an_unchecked_handle_notices_damage_when_it_meets_it(void **state) {
    (void)state;
    char *content;
    size_t size;
    json_t *all;
    st_store_t *store;
    st_conf_t conf = {.path = db_path(), .unchecked = true};
    char *data = make_sample(&content, &size);
    char *json = memmem(data, size, "service-30", 10);
    assert_non_null(json);
    json[8] = '9';
    put_back(data, size);
    MUST(st_store_open(&conf, &store, &test_err));
    st_tx_t *tx = test_begin(store, ST_READ);
    sl_status_t rc = st_tx_load(tx, &all, &test_err);
    if (rc == SL_OK) { /* it was the copy in the index of names; the entity is the other one */
        json_decref(all);
        st_store_close(store);
        json = memmem(json + 1, size - (size_t)(json + 1 - data), "service-30", 10);
        assert_non_null(json);
        json[8] = '9';
        put_back(data, size);
        MUST(st_store_open(&conf, &store, &test_err));
        tx = test_begin(store, ST_READ);
        rc = st_tx_load(tx, &all, &test_err);
    }
    assert_int_equal(rc, SL_IO);
    assert_int_equal(st_store_fault(store)->kind, ST_FAULT_DAMAGED);
    assert_null(all);
    st_store_close(store);
    free(data);
    free(content);
}

static void rows_that_say_something_else_than_their_key_are_noticed(void **state) {
    (void)state;
    char *content;
    size_t size;
    free(make_sample(&content, &size));
    raw("UPDATE entities SET id = '00000099-0000-4000-8000-000000000099' WHERE seq = (SELECT max(seq) FROM entities)");
    assert_true(is_noticed(content));
    free(content);
}

static void an_empty_file_is_not_taken_for_a_new_one(void **state) {
    (void)state;
    st_store_t *store;
    write_file(db_path(), "", 0);
    assert_int_equal(open_at(db_path(), false, &store), SL_IO);
    assert_non_null(strstr(test_err.text, "empty"));
}

static void a_log_without_its_database_is_not_overwritten(void **state) {
    (void)state;
    st_store_t *store;
    write_file(in_folder("sluice.db-wal"), "something", 9);
    assert_int_equal(open_at(db_path(), false, &store), SL_IO);
    assert_non_null(strstr(test_err.text, "-wal"));
    assert_int_not_equal(access(db_path(), F_OK), 0);
}

static void expect_moved(st_store_t *store) {
    st_tx_t *tx;
    assert_true(st_store_moved(store));
    assert_int_equal(st_tx_begin(store, ST_WRITE, ST_ANY_REVISION, &tx, &test_err), SL_IO);
    assert_int_equal(st_store_fault(store)->kind, ST_FAULT_DAMAGED);
    assert_non_null(strstr(test_err.text, "moved away or deleted"));
    assert_int_equal(st_tx_begin(store, ST_READ, ST_ANY_REVISION, &tx, &test_err), SL_IO);
}

static void a_database_that_is_deleted_under_a_handle_takes_no_more_writes(void **state) {
    (void)state;
    st_store_t *store = test_open(), *other;
    st_conf_t conf = {.path = db_path(), .existing = true};
    add_service(store, 1, "a", 1);
    assert_false(st_store_moved(store));
    unlink(db_path());
    expect_moved(store);
    st_store_close(store);
    unlink(in_folder("sluice.db-wal"));
    assert_int_equal(st_store_open(&conf, &other, &test_err), SL_IO);
    assert_non_null(strstr(test_err.text, "moved away or deleted"));
    assert_int_equal(access(db_path(), F_OK), -1);
}

static void a_database_that_is_put_in_the_place_of_another_is_another(void **state) {
    (void)state;
    st_store_t *old = test_open(), *new;
    add_service(old, 1, "a", 1);
    assert_int_equal(rename(db_path(), in_folder("away.db")), 0);
    unlink(in_folder("sluice.db-wal"));
    unlink(in_folder("sluice.db-shm"));
    new = test_open();
    add_service(new, 1, "a", 2);
    expect_moved(old);
    assert_false(st_store_moved(new));
    assert_int_equal(port_of(new, 1), 2);
    st_store_close(old);
    assert_int_equal(access(in_folder("sluice.db-wal"), F_OK), 0); /* the new one's: it holds what was written */
    st_store_close(new);
}

static void what_is_no_database_of_ours_is_left_alone(void **state) {
    (void)state;
    st_store_t *store;
    size_t size;
    write_file(db_path(), "services:\n- name: a\n  host: b\n", 30);
    assert_int_equal(open_at(db_path(), false, &store), SL_IO);
    char *data = read_file(db_path(), &size);
    assert_int_equal(size, 30);
    free(data);
    unlink(db_path());
    raw("CREATE TABLE mine (a)");
    assert_int_equal(open_at(db_path(), false, &store), SL_IO);
    assert_non_null(strstr(test_err.text, "another program"));
    unlink(db_path());
    assert_int_equal(mkdir(db_path(), 0700), 0);
    assert_int_equal(open_at(db_path(), false, &store), SL_IO);
    assert_non_null(strstr(test_err.text, "regular file"));
}

/* ---- formats ------------------------------------------------------------------------------------------------------------------- */

static void a_file_of_a_newer_sluice_is_refused(void **state) {
    (void)state;
    st_store_t *store;
    st_store_close(test_open());
    raw("PRAGMA user_version = 1000");
    assert_int_equal(open_at(db_path(), false, &store), SL_FAILED);
    assert_non_null(strstr(test_err.text, "newer"));
    assert_non_null(strstr(test_err.text, "1000"));
}

static void an_older_format_is_brought_up_to_date_when_it_may_be_written(void **state) {
    (void)state;
    st_store_t *store;
    raw("PRAGMA application_id = 0x536c6365; PRAGMA user_version = 0; CREATE TABLE t (a); DROP TABLE t");
    assert_int_equal(open_at(db_path(), true, &store), SL_FAILED);
    assert_non_null(strstr(test_err.text, "older"));
    store = test_open();
    add_service(store, 1, "a", 80);
    st_store_close(store);
    MUST(open_at(db_path(), true, &store));
    assert_int_equal(port_of(store, 1), 80);
    st_store_close(store);
}

/* What format 1 was, with a service and its chain in it. */
static void references_and_tags_of_the_first_format_are_found_in_the_next(void **state) {
    (void)state;
    bool more;
    json_t *list;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    json_t *service = test_service(1, "a", 80);
    json_object_set_new(service, "tags", json_pack("[s]", "red"));
    MUST(put_new(tx, "services", service));
    MUST(put_new(tx, "filter_chains", test_chain(2, 1, -1)));
    test_commit(tx);
    st_store_close(store);
    raw("DROP TRIGGER entity_gone; DROP TABLE gone; DROP TABLE tags; DROP INDEX refs_children; DROP INDEX entities_by_revision;"
        "ALTER TABLE refs DROP COLUMN collection; ALTER TABLE refs DROP COLUMN id; ALTER TABLE state DROP COLUMN gone_since;"
        "CREATE INDEX refs_by_parent ON refs (parent_collection, parent_id); PRAGMA user_version = 1");
    store = test_open();
    tx = test_begin(store, ST_READ);
    st_page_t page = {.limit = 2, .tag = SL_STR("red")};
    MUST(st_tx_list(tx, SL_STR("services"), &page, &list, &more, &test_err));
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
    page = (st_page_t){.limit = 2, .parent_field = SL_STR("service"), .parent_id = sl_cstr(test_id(1))};
    MUST(st_tx_list(tx, SL_STR("filter_chains"), &page, &list, &more, &test_err));
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
    st_tx_rollback(tx);
    st_store_close(store);
}

/* ---- rights -------------------------------------------------------------------------------------------------------------------- */

static void become_nobody(void) {
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) {
        _exit(2);
    }
}

static bool create_as_nobody(void) {
    st_store_t *store;
    become_nobody();
    return open_at(db_path(), false, &store) == SL_IO && strstr(test_err.text, "folder must be") != NULL && store == NULL;
}

static bool open_as_nobody(void) {
    st_store_t *store;
    become_nobody();
    return open_at(db_path(), false, &store) == SL_IO && strstr(test_err.text, "must be readable and writable") != NULL;
}

static void a_folder_that_may_not_be_written_is_named(void **state) {
    (void)state;
    assert_int_equal(chmod(in_folder(""), 0555), 0);
    in_child(create_as_nobody);
    assert_int_equal(chmod(in_folder(""), 0700), 0);
}

static void a_file_that_may_not_be_written_is_named(void **state) {
    (void)state;
    st_store_t *store = test_open();
    add_service(store, 1, "a", 80);
    st_store_close(store);
    assert_int_equal(chmod(db_path(), 0444), 0);
    assert_int_equal(chmod(in_folder(""), 0777), 0);
    in_child(open_as_nobody);
    assert_int_equal(chmod(in_folder(""), 0555), 0);
    in_child(open_as_nobody);
    assert_int_equal(chmod(db_path(), 0), 0);
    in_child(open_as_nobody);
    assert_int_equal(chmod(in_folder(""), 0700), 0);
}

static void a_missing_folder_is_named(void **state) {
    (void)state;
    st_store_t *store;
    assert_int_equal(open_at(in_folder("no/such/sluice.db"), false, &store), SL_IO);
    assert_non_null(strstr(test_err.text, "no/such/sluice.db"));
    assert_int_equal(open_at(in_folder("no/such/sluice.db"), true, &store), SL_NOT_FOUND);
    char path[5000];
    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(open_at(path, false, &store), SL_INVALID);
    assert_int_equal(open_at(NULL, false, &store), SL_INVALID);
}

static bool open_beside(void) {
    st_store_t *store;
    struct stat st;
    if (chdir(in_folder("")) != 0 || open_at("here.db", false, &store) != SL_OK) {
        return false;
    }
    st_store_close(store);
    return stat("here.db", &st) == 0;
}

static void a_path_may_be_relative(void **state) {
    (void)state;
    in_child(open_beside);
}

static void a_handle_for_reading_creates_and_changes_nothing(void **state) {
    (void)state;
    st_store_t *store;
    st_tx_t *tx;
    assert_int_equal(open_at(db_path(), true, &store), SL_NOT_FOUND);
    assert_int_not_equal(access(db_path(), F_OK), 0);
    store = test_open();
    add_service(store, 1, "a", 80);
    st_store_close(store);
    MUST(open_at(db_path(), true, &store));
    assert_int_equal(port_of(store, 1), 80);
    assert_int_equal(st_tx_begin(store, ST_WRITE, ST_ANY_REVISION, &tx, &test_err), SL_INVALID);
    st_store_close(store);
}

/* ---- no memory ------------------------------------------------------------------------------------------------------------------- */

/* Everything once; *committed: the write was answered with SL_OK. */
static sl_status_t do_all(int v, bool *committed) {
    st_store_t *store;
    st_tx_t *tx;
    json_t *list = NULL, *all = NULL, *one = NULL;
    bool more;
    sl_buf_t bytes;
    st_page_t page = {.limit = 1};
    *committed = false;
    sl_status_t rc = open_at(db_path(), false, &store);
    if (rc != SL_OK) {
        return rc;
    }
    rc = st_tx_begin(store, ST_WRITE, ST_ANY_REVISION, &tx, &test_err);
    json_t *services[] = {test_service(1, "a", v), test_service(2, "b", v)};
    json_t *chain = test_chain(3, 1, -1);
    uint32_t version;
    st_module_t module = {.name = SL_STR("big")};
    sl_buf_init(&bytes, 100);
    if (rc == SL_OK && services[0] != NULL && services[1] != NULL && chain != NULL) {
        rc = st_tx_put(tx, SERVICES, services[0], &test_err);
        rc = rc == SL_OK ? st_tx_put(tx, SERVICES, services[1], &test_err) : rc;
        rc = rc == SL_OK ? st_tx_put(tx, SL_STR("filter_chains"), chain, &test_err) : rc;
        rc = rc == SL_OK ? st_module_put(tx, &module, SL_STR("bytes"), &version, &test_err) : rc;
        rc = rc == SL_OK ? st_tx_commit(tx, NULL, &test_err) : rc;
        *committed = rc == SL_OK;
    }
    st_tx_rollback(rc != SL_OK ? tx : NULL);
    rc = rc == SL_OK ? st_tx_begin(store, ST_READ, ST_ANY_REVISION, &tx, &test_err) : rc;
    rc = rc == SL_OK ? st_tx_load(tx, &all, &test_err) : rc;
    rc = rc == SL_OK ? st_tx_list(tx, SERVICES, &page, &list, &more, &test_err) : rc;
    rc = rc == SL_OK ? st_tx_find(tx, SERVICES, SL_STR("name"), SL_STR("a"), &one, NULL, &test_err) : rc;
    rc = rc == SL_OK ? st_module_read(tx, SL_STR("277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9"), &bytes, &test_err)
                     : rc;
    sl_buf_deinit(&bytes);
    json_decref(services[0]);
    json_decref(services[1]);
    json_decref(chain);
    json_decref(list);
    json_decref(all);
    json_decref(one);
    st_store_close(store);
    return rc;
}

static void survive_failures(void (*fail_at)(unsigned nth), unsigned (*seen)(void), unsigned step) {
    bool committed;
    int v = 1;
    MUST(do_all(v, &committed));
    bool more = true;
    for (unsigned n = 1; more; n += 1 + (step > 0 ? n / step : 0)) {
        fail_at(n);
        sl_status_t rc = do_all(v + 1, &committed);
        more = seen() >= n; /* else it needed fewer, and all were visited */
        fail_at(0);
        assert_true(rc == SL_OK || rc == SL_NO_MEMORY || rc == SL_FAILED || rc == SL_IO || rc == SL_NOT_FOUND);
        v += committed;
        st_store_t *store = test_open();
        assert_int_equal(read_state(store, 1), v);
        st_store_close(store);
    }
}

static unsigned lib_alloc_seen(void) {
    return lib_seen;
}

static void missing_memory_of_our_own_is_an_answer(void **state) {
    (void)state;
    survive_failures(fail_alloc_at, fail_alloc_seen, 0);
}

static void missing_memory_in_the_libraries_is_an_answer(void **state) {
    (void)state;
    survive_failures(lib_fail_alloc_at, lib_alloc_seen, 40);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_full_disk_is_named_and_keeps_the_old_state),
        IN_FOLDER(a_broken_disk_is_an_error_and_keeps_the_old_state),
        IN_FOLDER(a_disk_that_is_full_from_the_start_leaves_no_files),
        IN_FOLDER(a_quota_is_named_and_what_fits_goes_on),
        IN_FOLDER(a_death_at_any_write_leaves_the_old_or_the_new_state),
        IN_FOLDER(a_death_in_the_middle_of_any_write_leaves_the_old_or_the_new_state),
        IN_FOLDER(overwritten_pages_are_noticed),
        IN_FOLDER(a_garbage_header_is_named),
        IN_FOLDER(a_truncated_file_is_noticed),
        IN_FOLDER(flipped_bits_are_noticed_or_do_no_harm),
        IN_FOLDER(an_unchecked_handle_notices_damage_when_it_meets_it),
        IN_FOLDER(rows_that_say_something_else_than_their_key_are_noticed),
        IN_FOLDER(an_empty_file_is_not_taken_for_a_new_one),
        IN_FOLDER(a_log_without_its_database_is_not_overwritten),
        IN_FOLDER(a_database_that_is_deleted_under_a_handle_takes_no_more_writes),
        IN_FOLDER(a_database_that_is_put_in_the_place_of_another_is_another),
        IN_FOLDER(what_is_no_database_of_ours_is_left_alone),
        IN_FOLDER(a_file_of_a_newer_sluice_is_refused),
        IN_FOLDER(an_older_format_is_brought_up_to_date_when_it_may_be_written),
        IN_FOLDER(references_and_tags_of_the_first_format_are_found_in_the_next),
        IN_FOLDER(a_folder_that_may_not_be_written_is_named),
        IN_FOLDER(a_file_that_may_not_be_written_is_named),
        IN_FOLDER(a_missing_folder_is_named),
        IN_FOLDER(a_path_may_be_relative),
        IN_FOLDER(a_handle_for_reading_creates_and_changes_nothing),
        IN_FOLDER(missing_memory_of_our_own_is_an_answer),
        IN_FOLDER(missing_memory_in_the_libraries_is_an_answer),
    };
    install_memory();
    install_writes();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
