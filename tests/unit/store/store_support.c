#include "store_support.h"

#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *store_kind = "sqlite";
sl_err_t test_err;
static char folder[256];

int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof(folder), "%s/sluice-test-XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

int remove_folder(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

const char *in_folder(const char *name) {
    static char paths[4][512];
    static unsigned at;
    char *path = paths[at++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

const char *db_path(void) {
    return in_folder("sluice.db");
}

void must(sl_status_t rc, const sl_err_t *err, const char *what, const char *file, int line) {
    if (rc != SL_OK) {
        print_error("%s:%d: %s answers %d: %s\n", file, line, what, (int)rc, err->text);
        _fail(file, line);
    }
}

st_store_t *test_open(void) {
    st_store_t *store;
    st_conf_t conf = {.kind = store_kind, .path = db_path()};
    MUST(st_store_open(&conf, &store, &test_err));
    return store;
}

st_tx_t *test_begin(st_store_t *store, st_mode_t mode) {
    st_tx_t *tx;
    MUST(st_tx_begin(store, mode, ST_ANY_REVISION, &tx, &test_err));
    return tx;
}

uint64_t test_commit(st_tx_t *tx) {
    uint64_t revision;
    MUST(st_tx_commit(tx, &revision, &test_err));
    return revision;
}

const char *test_id(unsigned n) {
    static char ids[8][SL_UUID_TEXT_SIZE + 1];
    static unsigned at;
    char *id = ids[at++ % 8];
    snprintf(id, sizeof(ids[0]), "%08x-0000-4000-8000-%012x", n, n);
    return id;
}

static json_t *parent(int n) {
    return n < 0 ? json_null() : json_pack("{s:s}", "id", test_id((unsigned)n));
}

json_t *test_service(unsigned n, const char *name, int port) {
    return json_pack("{s:s, s:s?, s:s, s:s, s:i, s:n, s:f}", "id", test_id(n), "name", name, "protocol", "http", "host", "upstream.test",
                     "port", port, "tags", "created_at", 1700000000.123);
}

json_t *test_route(unsigned n, const char *name, int service) {
    return json_pack("{s:s, s:s?, s:[s], s:o}", "id", test_id(n), "name", name, "paths", "/", "service", parent(service));
}

json_t *test_chain(unsigned n, int service, int route) {
    return json_pack("{s:s, s:n, s:o, s:o, s:[{s:s}]}", "id", test_id(n), "name", "service", parent(service), "route", parent(route),
                     "filters", "name", "add");
}

sl_status_t put_new(st_tx_t *tx, const char *collection, json_t *entity) {
    assert_non_null(entity);
    sl_status_t rc = st_tx_put(tx, sl_cstr(collection), entity, &test_err);
    json_decref(entity);
    return rc;
}

int port_of(st_store_t *store, unsigned n) {
    json_t *entity;
    st_tx_t *tx = test_begin(store, ST_READ);
    sl_status_t rc = st_tx_get(tx, SL_STR("services"), sl_cstr(test_id(n)), &entity, NULL, &test_err);
    st_tx_rollback(tx);
    if (rc == SL_NOT_FOUND) {
        return -1;
    }
    MUST(rc);
    int port = (int)json_integer_value(json_object_get(entity, "port"));
    json_decref(entity);
    return port;
}

char *dump_all(st_store_t *store) {
    json_t *all;
    st_tx_t *tx = test_begin(store, ST_READ);
    MUST(st_tx_load(tx, &all, &test_err));
    st_tx_rollback(tx);
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    assert_non_null(text);
    return text;
}

void add_service(st_store_t *store, unsigned n, const char *name, int port) {
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(n, name, port)));
    test_commit(tx);
}
