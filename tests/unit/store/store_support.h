/* Short ways for the tests of the store: a folder of its own per test, small entities, transactions that must succeed. */
#ifndef STORE_SUPPORT_H
#define STORE_SUPPORT_H

#include "store.h"

extern const char *store_kind; /* what test_open opens: "sqlite" (the start) or "memory" */

int make_folder(void **state); /* cmocka setup and teardown */
int remove_folder(void **state);
const char *in_folder(const char *name); /* valid for the next three calls too */
const char *db_path(void);               /* in_folder("sluice.db") */

/* Fails the test, with the text, unless it is SL_OK. */
#define MUST(call) must((call), &test_err, #call, __FILE__, __LINE__)
extern sl_err_t test_err;
void must(sl_status_t rc, const sl_err_t *err, const char *what, const char *file, int line);

st_store_t *test_open(void);
st_tx_t *test_begin(st_store_t *store, st_mode_t mode);
uint64_t test_commit(st_tx_t *tx); /* answers the new revision */

/* "00000007-0000-4000-8000-000000000007"; valid for the next seven calls too. */
const char *test_id(unsigned n);
/* New references. `name` may be NULL: null. Parents: number of the service or route, -1 for none. */
json_t *test_service(unsigned n, const char *name, int port);
json_t *test_route(unsigned n, const char *name, int service);
json_t *test_chain(unsigned n, int service, int route);
/* Puts and releases. */
sl_status_t put_new(st_tx_t *tx, const char *collection, json_t *entity);

/* Member "port" of a service, -1 when there is no such service. */
int port_of(st_store_t *store, unsigned n);
/* All entities as compact JSON; free() it. */
char *dump_all(st_store_t *store);
/* A transaction of its own with one service in it. */
void add_service(st_store_t *store, unsigned n, const char *name, int port);

#endif
