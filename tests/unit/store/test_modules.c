/* Filter modules in the store: versions, the active one, equal contents. */
#include "store.h"

#include "cmocka_all.h"
#include "store_support.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t put(st_tx_t *tx, const char *name, sl_str_t bytes, sl_str_t meta) {
    uint32_t version = 0;
    st_module_t module = {.name = sl_cstr(name), .created_at_s = 1700000000, .meta = meta};
    MUST(st_module_put(tx, &module, bytes, &version, &test_err));
    return version;
}

typedef struct {
    char text[1024];
    size_t n;
    st_module_t last;
} walk_t;

static sl_status_t note(void *ud, const st_module_t *module) {
    walk_t *walk = ud;
    size_t len = strlen(walk->text);
    snprintf(walk->text + len, sizeof(walk->text) - len, "%.*s:%u%s ", SL_FMT(module->name), module->version, module->active ? "*" : "");
    walk->last = *module;
    walk->n++;
    return SL_OK;
}

static walk_t walk_all(st_tx_t *tx, sl_str_t name) {
    walk_t walk = {.n = 0};
    MUST(st_module_each(tx, name, note, &walk, &test_err));
    return walk;
}

static size_t blobs(void) {
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(db_path(), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM blobs", -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    size_t n = (size_t)sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return n;
}

static void a_module_is_read_back_by_its_digest(void **state) {
    (void)state;
    uint8_t digest[SL_SHA256_SIZE];
    char text[ST_SHA256_TEXT_SIZE + 1];
    sl_str_t bytes = SL_STR("\0asm\1\0\0\0");
    sl_buf_t out;
    sl_buf_init(&out, 100);
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    assert_int_equal(put(tx, "add", bytes, SL_STR("{\"a\":1}")), 1);
    assert_int_equal(test_commit(tx), 1);
    tx = test_begin(store, ST_READ);
    walk_t walk = {.n = 0};
    MUST(st_module_each(tx, SL_STR("add"), note, &walk, &test_err));
    sl_sha256(bytes, digest);
    sl_hex(digest, sizeof(digest), text);
    assert_string_equal(walk.last.sha256, text);
    assert_int_equal(walk.last.size_bytes, bytes.len);
    assert_int_equal(walk.last.created_at_s, 1700000000);
    assert_false(walk.last.active);
    sl_buf_append_cstr(&out, "before");
    MUST(st_module_read(tx, sl_cstr(text), &out, &test_err));
    assert_int_equal(out.len, 6 + bytes.len);
    assert_memory_equal(out.data + 6, bytes.data, bytes.len);
    st_tx_rollback(tx);
    st_store_close(store);
    sl_buf_deinit(&out);
}

static sl_status_t look_at_meta(void *ud, const st_module_t *module) {
    bool *fine = ud;
    *fine = module->version == 1 ? sl_str_eq(module->meta, SL_STR("{\"a\":1}")) : *fine && module->meta.data == NULL;
    return SL_OK;
}

static void what_came_with_a_module_is_kept(void **state) {
    (void)state;
    bool fine = false;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    put(tx, "add", SL_STR("one"), SL_STR("{\"a\":1}"));
    put(tx, "add", SL_STR("two"), SL_STR_NULL);
    MUST(st_module_each(tx, SL_STR("add"), look_at_meta, &fine, &test_err));
    assert_true(fine);
    test_commit(tx);
    st_store_close(store);
}

static void versions_count_up_and_are_listed_by_name(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    assert_int_equal(put(tx, "set", SL_STR("one"), SL_STR_NULL), 1);
    assert_int_equal(put(tx, "add", SL_STR("one"), SL_STR_NULL), 1);
    assert_int_equal(put(tx, "set", SL_STR("two"), SL_STR_NULL), 2);
    MUST(st_module_activate(tx, SL_STR("set"), 2, &test_err));
    assert_string_equal(walk_all(tx, SL_STR_NULL).text, "add:1 set:1 set:2* ");
    assert_string_equal(walk_all(tx, SL_STR("set")).text, "set:1 set:2* ");
    assert_int_equal(walk_all(tx, SL_STR("none")).n, 0);
    test_commit(tx);
    st_store_close(store);
}

static void the_same_bytes_and_meta_are_the_same_version(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    assert_int_equal(put(tx, "add", SL_STR("one"), SL_STR_NULL), 1);
    assert_int_equal(put(tx, "add", SL_STR("one"), SL_STR("{}")), 2);
    assert_int_equal(test_commit(tx), 1);
    tx = test_begin(store, ST_WRITE);
    assert_int_equal(put(tx, "add", SL_STR("one"), SL_STR_NULL), 1);
    assert_int_equal(put(tx, "add", SL_STR("one"), SL_STR("{}")), 2);
    assert_int_equal(test_commit(tx), 1); /* nothing changed */
    st_store_close(store);
}

static void equal_bytes_are_kept_once_and_go_with_their_last_version(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    put(tx, "add", SL_STR("one"), SL_STR_NULL);
    put(tx, "set", SL_STR("one"), SL_STR_NULL);
    test_commit(tx);
    assert_int_equal(blobs(), 1);
    tx = test_begin(store, ST_WRITE);
    MUST(st_module_delete(tx, SL_STR("add"), 1, &test_err));
    test_commit(tx);
    assert_int_equal(blobs(), 1);
    tx = test_begin(store, ST_WRITE);
    MUST(st_module_delete(tx, SL_STR("set"), 0, &test_err));
    assert_int_equal(walk_all(tx, SL_STR_NULL).n, 0);
    test_commit(tx);
    assert_int_equal(blobs(), 0);
    st_store_close(store);
}

static void one_version_is_active_or_none(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    put(tx, "add", SL_STR("one"), SL_STR_NULL);
    put(tx, "add", SL_STR("two"), SL_STR_NULL);
    put(tx, "set", SL_STR("one"), SL_STR_NULL);
    MUST(st_module_activate(tx, SL_STR("set"), 1, &test_err));
    MUST(st_module_activate(tx, SL_STR("add"), 1, &test_err));
    MUST(st_module_activate(tx, SL_STR("add"), 2, &test_err));
    assert_string_equal(walk_all(tx, SL_STR_NULL).text, "add:1 add:2* set:1* ");
    MUST(st_module_activate(tx, SL_STR("add"), 0, &test_err));
    assert_string_equal(walk_all(tx, SL_STR_NULL).text, "add:1 add:2 set:1* ");
    test_commit(tx);
    st_store_close(store);
}

static void the_active_version_is_deleted_only_with_all_of_the_name(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    put(tx, "add", SL_STR("one"), SL_STR_NULL);
    put(tx, "add", SL_STR("two"), SL_STR_NULL);
    MUST(st_module_activate(tx, SL_STR("add"), 2, &test_err));
    assert_int_equal(st_module_delete(tx, SL_STR("add"), 2, &test_err), SL_CONFLICT);
    assert_int_equal(st_store_fault(store)->kind, ST_FAULT_REFERENCED);
    MUST(st_module_delete(tx, SL_STR("add"), 1, &test_err));
    MUST(st_module_delete(tx, SL_STR("add"), 0, &test_err));
    assert_int_equal(walk_all(tx, SL_STR_NULL).n, 0);
    test_commit(tx);
    st_store_close(store);
}

static void the_number_of_a_deleted_version_is_not_used_again(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    put(tx, "add", SL_STR("one"), SL_STR_NULL);
    put(tx, "add", SL_STR("two"), SL_STR_NULL);
    MUST(st_module_delete(tx, SL_STR("add"), 0, &test_err));
    assert_int_equal(put(tx, "add", SL_STR("two"), SL_STR_NULL), 3);
    test_commit(tx);
    st_store_close(store);
}

static void what_does_not_exist_is_not_found(void **state) {
    (void)state;
    sl_buf_t out;
    sl_buf_init(&out, 100);
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    put(tx, "add", SL_STR("one"), SL_STR_NULL);
    assert_int_equal(st_module_activate(tx, SL_STR("add"), 2, &test_err), SL_NOT_FOUND);
    assert_int_equal(st_module_activate(tx, SL_STR("set"), 1, &test_err), SL_NOT_FOUND);
    assert_int_equal(st_module_activate(tx, SL_STR("set"), 0, &test_err), SL_NOT_FOUND);
    assert_int_equal(st_module_delete(tx, SL_STR("add"), 2, &test_err), SL_NOT_FOUND);
    assert_int_equal(st_module_delete(tx, SL_STR("set"), 0, &test_err), SL_NOT_FOUND);
    assert_int_equal(st_module_read(tx, SL_STR("abc"), &out, &test_err), SL_NOT_FOUND);
    assert_int_equal(test_commit(tx), 1);
    st_store_close(store);
}

static void names_and_sizes_are_checked(void **state) {
    (void)state;
    char name[ST_MODULE_NAME_MAX + 2];
    uint32_t version;
    memset(name, 'a', sizeof(name));
    const sl_str_t names[] = {SL_STR_NULL, sl_str(name, sizeof(name) - 1), SL_STR("a\0b"), SL_STR("\xff")};
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        st_module_t module = {.name = names[i]};
        assert_int_equal(st_module_put(tx, &module, SL_STR("x"), &version, &test_err), SL_INVALID);
    }
    st_module_t module = {.name = SL_STR("add"), .meta = SL_STR("\xff")};
    assert_int_equal(st_module_put(tx, &module, SL_STR("x"), &version, &test_err), SL_INVALID);
    module.meta = SL_STR_NULL;
    assert_int_equal(st_module_put(tx, &module, SL_STR_NULL, &version, &test_err), SL_INVALID);
    assert_int_equal(st_module_put(tx, &module, sl_str(name, ST_MODULE_BYTES_MAX + 1), &version, &test_err), SL_INVALID);
    assert_int_equal(test_commit(tx), 0);
    st_store_close(store);
}

static sl_status_t stop(void *ud, const st_module_t *module) {
    (void)module;
    (*(int *)ud)++;
    return SL_AGAIN;
}

static void a_walk_ends_when_its_function_says_so(void **state) {
    (void)state;
    int calls = 0;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    put(tx, "add", SL_STR("one"), SL_STR_NULL);
    put(tx, "add", SL_STR("two"), SL_STR_NULL);
    assert_int_equal(st_module_each(tx, SL_STR("add"), stop, &calls, &test_err), SL_AGAIN);
    assert_int_equal(calls, 1);
    test_commit(tx);
    st_store_close(store);
}

static void bytes_over_the_ceiling_of_the_buffer_are_refused(void **state) {
    (void)state;
    sl_buf_t out;
    sl_buf_init(&out, 2);
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    put(tx, "add", SL_STR("one"), SL_STR_NULL);
    walk_t walk = walk_all(tx, SL_STR("add"));
    assert_int_equal(st_module_read(tx, sl_cstr(walk.last.sha256), &out, &test_err), SL_NO_MEMORY);
    test_commit(tx);
    st_store_close(store);
    sl_buf_deinit(&out);
}

static void changed_bytes_are_noticed(void **state) {
    (void)state;
    sqlite3 *db;
    sl_buf_t out;
    sl_buf_init(&out, 100);
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    put(tx, "add", SL_STR("one"), SL_STR_NULL);
    walk_t walk = walk_all(tx, SL_STR("add"));
    test_commit(tx);
    assert_int_equal(sqlite3_open(db_path(), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE blobs SET bytes = x'00'", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    tx = test_begin(store, ST_READ);
    assert_int_equal(st_module_read(tx, sl_cstr(walk.last.sha256), &out, &test_err), SL_IO);
    assert_int_equal(st_store_fault(store)->kind, ST_FAULT_DAMAGED);
    assert_int_equal(out.len, 0);
    st_tx_rollback(tx);
    st_store_close(store);
    sl_buf_deinit(&out);
}

static void a_module_of_many_megabytes_is_kept(void **state) {
    (void)state;
    size_t size = (size_t)20 << 20;
    char *bytes = malloc(size);
    sl_buf_t out;
    sl_buf_init(&out, size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (char)(i * 31 >> 3);
    }
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    put(tx, "big", sl_str(bytes, size), SL_STR_NULL);
    test_commit(tx);
    st_store_close(store);
    store = test_open();
    tx = test_begin(store, ST_READ);
    walk_t walk = walk_all(tx, SL_STR("big"));
    MUST(st_module_read(tx, sl_cstr(walk.last.sha256), &out, &test_err));
    assert_true(out.len == size && memcmp(out.data, bytes, size) == 0);
    st_tx_rollback(tx);
    st_store_close(store);
    sl_buf_deinit(&out);
    free(bytes);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_module_is_read_back_by_its_digest),
        IN_FOLDER(what_came_with_a_module_is_kept),
        IN_FOLDER(versions_count_up_and_are_listed_by_name),
        IN_FOLDER(the_same_bytes_and_meta_are_the_same_version),
        IN_FOLDER(equal_bytes_are_kept_once_and_go_with_their_last_version),
        IN_FOLDER(one_version_is_active_or_none),
        IN_FOLDER(the_active_version_is_deleted_only_with_all_of_the_name),
        IN_FOLDER(the_number_of_a_deleted_version_is_not_used_again),
        IN_FOLDER(what_does_not_exist_is_not_found),
        IN_FOLDER(names_and_sizes_are_checked),
        IN_FOLDER(a_walk_ends_when_its_function_says_so),
        IN_FOLDER(bytes_over_the_ceiling_of_the_buffer_are_refused),
        IN_FOLDER(changed_bytes_are_noticed),
        IN_FOLDER(a_module_of_many_megabytes_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
