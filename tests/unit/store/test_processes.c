/* Several handles, threads and processes on one file; processes that are killed while they write. */
#include "store.h"

#include "cmocka_all.h"
#include "store_support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVICES SL_STR("services")

static uint64_t revision_of(st_store_t *store) {
    uint64_t revision;
    MUST(st_store_revision(store, &revision, &test_err));
    return revision;
}

/* ---- two handles ---------------------------------------------------------------------------------------------------------- */

static void a_reader_keeps_its_snapshot_while_others_write(void **state) {
    (void)state;
    json_t *entity;
    st_store_t *a = test_open(), *b = test_open();
    add_service(a, 1, "a", 80);
    st_tx_t *reader = test_begin(a, ST_READ);
    add_service(b, 1, "a", 81);
    assert_int_equal(st_tx_revision(reader), 1);
    MUST(st_tx_get(reader, SERVICES, sl_cstr(test_id(1)), &entity, NULL, &test_err));
    assert_int_equal(json_integer_value(json_object_get(entity, "port")), 80);
    json_decref(entity);
    assert_int_equal(test_commit(reader), 1);
    assert_int_equal(port_of(a, 1), 81);
    assert_int_equal(revision_of(a), 2);
    st_store_close(a);
    st_store_close(b);
}

static void a_write_is_not_seen_before_its_commit(void **state) {
    (void)state;
    st_store_t *a = test_open(), *b = test_open();
    st_tx_t *tx = test_begin(a, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    assert_int_equal(port_of(b, 1), -1);
    assert_int_equal(revision_of(b), 0);
    test_commit(tx);
    assert_int_equal(port_of(b, 1), 80);
    st_store_close(a);
    st_store_close(b);
}

static void a_second_writer_waits_for_its_time_and_gives_up(void **state) {
    (void)state;
    st_store_t *a = test_open(), *b;
    st_tx_t *tx;
    st_conf_t conf = {.path = db_path(), .busy_timeout_ms = 20};
    MUST(st_store_open(&conf, &b, &test_err));
    st_tx_t *writer = test_begin(a, ST_WRITE);
    MUST(put_new(writer, "services", test_service(1, "a", 80)));
    assert_int_equal(st_tx_begin(b, ST_WRITE, ST_ANY_REVISION, &tx, &test_err), SL_CONFLICT);
    assert_int_equal(st_store_fault(b)->kind, ST_FAULT_BUSY);
    assert_non_null(strstr(test_err.text, "20 ms"));
    test_commit(writer);
    MUST(st_tx_begin(b, ST_WRITE, 1, &tx, &test_err));
    MUST(put_new(tx, "services", test_service(2, "b", 81)));
    assert_int_equal(test_commit(tx), 2);
    st_store_close(a);
    st_store_close(b);
}

static void the_slower_of_two_writers_with_an_expectation_is_told(void **state) {
    (void)state;
    st_tx_t *tx;
    st_store_t *a = test_open(), *b = test_open();
    uint64_t seen = revision_of(b);
    add_service(a, 1, "a", 80);
    assert_int_equal(st_tx_begin(b, ST_WRITE, seen, &tx, &test_err), SL_CONFLICT);
    assert_int_equal(st_store_fault(b)->kind, ST_FAULT_STALE);
    st_store_close(a);
    st_store_close(b);
}

static void a_handle_is_refused_after_a_fork_and_the_parents_goes_on(void **state) {
    (void)state;
    int status = 0;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        uint64_t revision;
        st_tx_t *none;
        bool refused = st_store_revision(store, &revision, NULL) == SL_FAILED &&
                       st_tx_begin(store, ST_READ, ST_ANY_REVISION, &none, NULL) == SL_FAILED;
        st_store_close(store);
        _exit(refused ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(test_commit(tx), 1);
    st_store_close(store);
}

/* ---- files ---------------------------------------------------------------------------------------------------------------- */

static unsigned mode_of(const char *name) {
    struct stat st;
    assert_int_equal(stat(in_folder(name), &st), 0);
    return st.st_mode & 07777;
}

static void only_the_owner_may_read_the_files(void **state) {
    (void)state;
    mode_t mask = umask(0);
    st_store_t *store = test_open();
    add_service(store, 1, "a", 80);
    assert_int_equal(mode_of("sluice.db"), 0600);
    assert_int_equal(mode_of("sluice.db-wal"), 0600);
    assert_int_equal(mode_of("sluice.db-shm"), 0600);
    st_store_close(store);
    umask(mask);
}

static int syncs;
static int failing_sync = -1; /* the how-manieth from now fails; -1: none */

/* In the place of the system's, so that it can be seen and made to fail. */
__attribute__((visibility("default"))) int fdatasync(int fd) {
    syncs++;
    if (failing_sync >= 0 && failing_sync-- == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static void a_commit_is_on_the_disk_when_it_answers(void **state) {
    (void)state;
    st_store_t *store = test_open();
    for (unsigned n = 1; n < 4; n++) {
        st_tx_t *tx = test_begin(store, ST_WRITE);
        MUST(put_new(tx, "services", test_service(n, NULL, 80)));
        syncs = 0;
        test_commit(tx);
        assert_true(syncs > 0);
    }
    st_store_close(store);
}

static void a_commit_that_cannot_be_made_durable_is_an_error(void **state) {
    (void)state;
    st_store_t *store = test_open();
    add_service(store, 1, "a", 80);
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 81)));
    failing_sync = 0;
    sl_status_t rc = st_tx_commit(tx, NULL, &test_err);
    failing_sync = -1;
    assert_int_equal(rc, SL_IO);
    assert_non_null(strstr(test_err.text, db_path()));
    assert_int_equal(port_of(store, 1), 80);
    add_service(store, 1, "a", 82);
    st_store_close(store);
}

/* ---- many writers --------------------------------------------------------------------------------------------------------- */

#define WRITES 150

/* Reads, adds one, writes; each time on a new handle when asked to. false: something failed. */
static bool increment(unsigned times, bool reopen, const char *path) {
    st_store_t *store = NULL;
    st_conf_t conf = {.path = path, .busy_timeout_ms = 60000, .unchecked = true};
    bool fine = true;
    for (unsigned i = 0; fine && i < times; i++) {
        json_t *entity = NULL;
        st_tx_t *tx = NULL;
        sl_err_t err;
        if (store == NULL && st_store_open(&conf, &store, &err) != SL_OK) {
            fprintf(stderr, "open: %s\n", err.text);
            return false;
        }
        fine = st_tx_begin(store, ST_WRITE, ST_ANY_REVISION, &tx, &err) == SL_OK;
        sl_status_t rc = fine ? st_tx_get(tx, SERVICES, SL_STR("00000001-0000-4000-8000-000000000001"), &entity, NULL, &err) : SL_FAILED;
        if (rc == SL_NOT_FOUND) {
            entity = json_pack("{s:s, s:i}", "id", "00000001-0000-4000-8000-000000000001", "port", 0);
        }
        fine = fine && entity != NULL &&
               json_object_set_new(entity, "port", json_integer(json_integer_value(json_object_get(entity, "port")) + 1)) == 0 &&
               st_tx_put(tx, SERVICES, entity, &err) == SL_OK && st_tx_commit(tx, NULL, &err) == SL_OK;
        if (!fine) {
            fprintf(stderr, "write %u: %s\n", i, err.text);
        }
        json_decref(entity);
        if (reopen || !fine) {
            st_store_close(store);
            store = NULL;
        }
    }
    st_store_close(store);
    return fine;
}

/* Processes that start at the same moment, with no database yet: they also race to create it. */
static void hammer(bool reopen) {
    int gate[2];
    pid_t children[2];
    const char *path = db_path();
    assert_int_equal(pipe(gate), 0);
    for (size_t i = 0; i < 2; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            char byte;
            close(gate[1]);
            bool fine = read(gate[0], &byte, 1) == 0 && increment(WRITES, reopen, path);
            _exit(fine ? 0 : 1);
        }
    }
    close(gate[0]);
    close(gate[1]);
    for (size_t i = 0; i < 2; i++) {
        int status = -1;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    st_store_t *store = test_open();
    assert_int_equal(port_of(store, 1), 2 * WRITES);
    assert_int_equal(revision_of(store), 2 * WRITES);
    st_store_close(store);
}

static void two_processes_that_write_at_once_lose_nothing(void **state) {
    (void)state;
    hammer(false);
}

static void processes_that_open_and_close_all_the_time_lose_nothing(void **state) {
    (void)state;
    hammer(true);
}

static void *thread_main(void *path) {
    return increment(WRITES, false, path) ? path : NULL;
}

static void two_threads_with_a_handle_each_lose_nothing(void **state) {
    (void)state;
    pthread_t threads[2];
    const char *path = db_path();
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, thread_main, (void *)path), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        void *answer = NULL;
        assert_int_equal(pthread_join(threads[i], &answer), 0);
        assert_non_null(answer);
    }
    st_store_t *store = test_open();
    assert_int_equal(port_of(store, 1), 2 * WRITES);
    st_store_close(store);
}

/* ---- kill -9 -------------------------------------------------------------------------------------------------------------- */

#define PARTS 20
#define KILLS 60
#define MODULE_SIZE ((size_t)3 << 20)

/*
 * Transaction v: PARTS services get the port v, one new service is added (and the one before it deleted), and every fourth time a module of
 * some megabytes is replaced, so that commits also meet checkpoints. The number of each commit that was answered goes to `acks`.
 */
static bool write_one(st_store_t *store, char *bytes, uint64_t v) {
    st_tx_t *tx = NULL;
    sl_err_t err;
    uint32_t version;
    uint64_t revision = 0;
    st_module_t module = {.name = SL_STR("big")};
    bool fine = st_tx_begin(store, ST_WRITE, v - 1, &tx, &err) == SL_OK;
    for (unsigned n = 1; fine && n <= PARTS; n++) {
        fine = put_new(tx, "services", test_service(n, NULL, (int)v)) == SL_OK;
    }
    fine = fine && (v == 1 || st_tx_delete(tx, SERVICES, sl_cstr(test_id(1000 + (unsigned)v - 1)), &err) == SL_OK) &&
           put_new(tx, "services", test_service(1000 + (unsigned)v, "newest", 0)) == SL_OK;
    if (fine && v % 4 == 0) {
        memcpy(bytes, &v, sizeof(v));
        fine = (v < 8 || st_module_delete(tx, SL_STR("big"), 0, &err) == SL_OK) &&
               st_module_put(tx, &module, sl_str(bytes, MODULE_SIZE), &version, &err) == SL_OK;
    }
    return fine && st_tx_commit(tx, &revision, &err) == SL_OK && revision == v;
}

static void write_for_ever(const char *path, int acks) {
    st_store_t *store;
    st_conf_t conf = {.path = path, .unchecked = true};
    char *bytes = calloc(1, MODULE_SIZE);
    uint64_t v;
    if (bytes == NULL || st_store_open(&conf, &store, NULL) != SL_OK || st_store_revision(store, &v, NULL) != SL_OK) {
        _exit(1);
    }
    while (write_one(store, bytes, ++v) && write(acks, &v, sizeof(v)) == sizeof(v)) {
    }
    _exit(1);
}

static unsigned random_state = 12345;
static unsigned random_below(unsigned n) {
    random_state = random_state * 1103515245 + 12345;
    return (random_state >> 8) % n;
}

/* Starts a writer, waits for some commits and then for some turns of the scheduler, kills. Answers the last number that was answered. */
static uint64_t kill_a_writer(const char *path) {
    int acks[2], status = 0;
    uint64_t v = 0, last = 0;
    assert_int_equal(pipe(acks), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(acks[0]);
        write_for_ever(path, acks[1]);
    }
    close(acks[1]);
    for (unsigned n = 1 + random_below(8); n > 0; n--) {
        assert_int_equal(read(acks[0], &v, sizeof(v)), sizeof(v));
        last = v;
    }
    for (unsigned turns = random_below(4000); turns > 0; turns--) {
        sched_yield();
    }
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    while (read(acks[0], &v, sizeof(v)) == sizeof(v)) {
        last = v;
    }
    close(acks[0]);
    return last;
}

static sl_status_t read_module(void *ud, const st_module_t *module) {
    memcpy(ud, module->sha256, sizeof(module->sha256));
    return SL_OK;
}

/* All of the last transaction is there, and nothing of a later one. */
static void check_whole_state(st_store_t *store, uint64_t v) {
    json_t *all;
    char sha256[ST_SHA256_TEXT_SIZE + 1] = "";
    sl_buf_t bytes;
    st_tx_t *tx = test_begin(store, ST_READ);
    MUST(st_tx_load(tx, &all, &test_err));
    const json_t *services = json_object_get(all, "services");
    assert_int_equal(json_object_size(services), PARTS + 1);
    for (unsigned n = 1; n <= PARTS; n++) {
        assert_int_equal(json_integer_value(json_object_get(json_object_get(services, test_id(n)), "port")), v);
    }
    assert_non_null(json_object_get(services, test_id(1000 + (unsigned)v)));
    json_decref(all);
    if (v >= 4) {
        uint64_t written;
        sl_buf_init(&bytes, MODULE_SIZE);
        MUST(st_module_each(tx, SL_STR("big"), read_module, sha256, &test_err));
        MUST(st_module_read(tx, sl_cstr(sha256), &bytes, &test_err));
        memcpy(&written, bytes.data, sizeof(written));
        assert_int_equal(written, v / 4 * 4);
        sl_buf_deinit(&bytes);
    }
    st_tx_rollback(tx);
}

static void a_killed_writer_leaves_all_that_was_answered_and_nothing_half_done(void **state) {
    (void)state;
    const char *path = db_path();
    unsigned unanswered = 0;
    for (unsigned i = 0; i < KILLS; i++) {
        uint64_t answered = kill_a_writer(path);
        st_store_t *store = test_open();
        uint64_t v = revision_of(store);
        assert_true(v == answered || v == answered + 1); /* it may have died between the commit and the answer */
        unanswered += v != answered;
        check_whole_state(store, v);
        st_store_close(store);
    }
    fprintf(stderr, "%u kills, %u of them between commit and answer\n", KILLS, unanswered);
}

/* The first thing a process does is to create the file: killed there, the next one must find none or a whole one. */
static void a_process_killed_while_it_creates_the_database_is_in_nobodys_way(void **state) {
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        int ready[2], status = 0;
        char byte;
        st_conf_t conf = {.path = db_path()};
        assert_int_equal(pipe(ready), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            st_store_t *store;
            close(ready[0]);
            (void)!write(ready[1], "x", 1);
            st_store_open(&conf, &store, NULL);
            pause();
            _exit(0);
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        for (unsigned turns = random_below(6000); turns > 0; turns--) {
            sched_yield();
        }
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        st_store_t *store = test_open();
        add_service(store, 1, "a", 80);
        st_store_close(store);
        unlink(db_path());
    }
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_reader_keeps_its_snapshot_while_others_write),
        IN_FOLDER(a_write_is_not_seen_before_its_commit),
        IN_FOLDER(a_second_writer_waits_for_its_time_and_gives_up),
        IN_FOLDER(the_slower_of_two_writers_with_an_expectation_is_told),
        IN_FOLDER(a_handle_is_refused_after_a_fork_and_the_parents_goes_on),
        IN_FOLDER(only_the_owner_may_read_the_files),
        IN_FOLDER(a_commit_is_on_the_disk_when_it_answers),
        IN_FOLDER(a_commit_that_cannot_be_made_durable_is_an_error),
        IN_FOLDER(two_processes_that_write_at_once_lose_nothing),
        IN_FOLDER(processes_that_open_and_close_all_the_time_lose_nothing),
        IN_FOLDER(two_threads_with_a_handle_each_lose_nothing),
        IN_FOLDER(a_killed_writer_leaves_all_that_was_answered_and_nothing_half_done),
        IN_FOLDER(a_process_killed_while_it_creates_the_database_is_in_nobodys_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
