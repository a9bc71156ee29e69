/*
 * A connection to SQLite and its prepared statements, private to the files store_sqlite*.c: what only store_sqlite_db.c does with
 * SQLite's own functions. Failures say the file's path and what to do, and set the store's fault.
 */
#ifndef ST_STORE_SQLITE_H
#define ST_STORE_SQLITE_H

#include <sys/stat.h>

#include "store_ops.h"

/* The statements; their texts are in store_sqlite_db.c. */
typedef enum {
    SQL_BEGIN,
    SQL_BEGIN_IMMEDIATE,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_REVISION,
    SQL_SET_REVISION,
    SQL_FIND_SEQ,
    SQL_FIND_OWNER,
    SQL_INSERT,
    SQL_UPDATE,
    SQL_DROP_UNIQUES,
    SQL_DROP_REFS,
    SQL_ADD_UNIQUE,
    SQL_ADD_REF,
    SQL_DROP_TAGS,
    SQL_ADD_TAG,
    SQL_FORGET_GONE,
    SQL_GONE_SINCE,
    SQL_READ_GONE,
    SQL_ORPHAN,
    SQL_RESTRICTED,
    SQL_ERASE,
    SQL_READ_ALL,
    SQL_READ_ID,
    SQL_READ_UNIQUE,
    SQL_READ_PAGE,
    SQL_READ_CHILDREN,
    SQL_READ_TAGGED,
    SQL_READ_SINCE,
    SQL_MODULE_SAME,
    SQL_MODULE_NAME,
    SQL_MODULE_NEXT,
    SQL_BLOB_ADD,
    SQL_MODULE_ADD,
    SQL_MODULE_STATE,
    SQL_MODULE_OFF,
    SQL_MODULE_ON,
    SQL_MODULE_ERASE,
    SQL_MODULE_ERASE_ALL,
    SQL_BLOB_SWEEP,
    SQL_MODULE_LIST,
    SQL_MODULE_LIST_NAME,
    SQL_BLOB_READ,
    N_SQL
} sq_sql_t;

typedef struct {
    st_store_t head;
    struct sqlite3 *db;
    char *path; /* for texts */
    uint32_t busy_timeout_ms;
    struct stat file; /* when it was opened; of st_ino 0: there is none */
    int system;       /* errno of the last call of SQLite; 0: it had no trouble with the system */
    struct sqlite3_stmt *stmts[N_SQL];
} sq_store_t;

sq_store_t *sq_of(st_store_t *store);

/* ---- failures: each sets err and the fault, and answers the status ---------------------------------------------------------- */

sl_status_t sq_fault(sq_store_t *s, st_fault_kind_t kind);
sl_status_t sq_damaged(sq_store_t *s, const char *what, sl_err_t *err);
sl_status_t sq_moved(sq_store_t *s, sl_err_t *err); /* nothing is at the path any more, or something else */
sl_status_t sq_not_writable(sq_store_t *s, const char *what, int system, sl_err_t *err); /* system: errno, or 0 */

/* ---- the connection --------------------------------------------------------------------------------------------------------- */

typedef enum { SQ_READ_ONLY, SQ_READ_WRITE, SQ_IN_MEMORY } sq_mode_t;

sl_status_t sq_connect(sq_store_t *s, const char *file, sq_mode_t mode, sl_err_t *err);
void sq_disconnect(sq_store_t *s);
void sq_keep_log(sq_store_t *s);                /* sq_disconnect() will leave the files beside the database alone */
const char *sq_file(const sq_store_t *s);       /* the absolute path of the database; NULL or "": in memory */
bool sq_is_read_only(const sq_store_t *s);      /* the file may not be written, whatever was asked for */
bool sq_in_transaction(const sq_store_t *s);    /* some failures roll back by themselves */
bool sq_is_missing_parent(const sq_store_t *s); /* the last call failed at a foreign key */
int64_t sq_last_seq(const sq_store_t *s);       /* of the row inserted last */

/* A failure that rolled back by itself must not make single commits of the writes that follow. */
sl_status_t sq_check_open(sq_store_t *s, sl_err_t *err);

/* ---- statements ------------------------------------------------------------------------------------------------------------- */

/* One use of a statement: parameters in order, then rows. The first failure is kept and answered by sq_done(). */
typedef struct {
    sq_store_t *s;
    struct sqlite3_stmt *stmt; /* NULL: it could not be prepared */
    int n;
    int rc;
} sq_call_t;

sq_call_t sq_call(sq_store_t *s, sq_sql_t which);
/* Parameters are borrowed until sq_done. */
void sq_text(sq_call_t *c, sl_str_t text);
void sq_optional(sq_call_t *c, sl_str_t text); /* {NULL,0} is NULL */
void sq_blob(sq_call_t *c, const void *data, size_t len);
void sq_int(sq_call_t *c, int64_t value);

/* true: there is a row, to be read with the functions below. */
bool sq_next(sq_call_t *c);
sl_str_t sq_column(sq_call_t *c, int i); /* a missing text is {NULL,0} */
sl_str_t sq_column_blob(sq_call_t *c, int i);
int64_t sq_column_int(sq_call_t *c, int i);

/* Ends the call. The texts of its rows are gone afterwards. */
sl_status_t sq_done(sq_call_t *c, sl_err_t *err);
sl_status_t sq_run(sq_call_t *c, sl_err_t *err);
sl_status_t sq_run_plain(sq_store_t *s, sq_sql_t which, sl_err_t *err);
sl_status_t sq_exec(sq_store_t *s, const char *text, sl_err_t *err);
/* The first column of the first row of a PRAGMA. */
sl_status_t sq_pragma_text(sq_store_t *s, const char *text, char *out, size_t size, sl_err_t *err);
sl_status_t sq_pragma_int(sq_store_t *s, const char *text, int *out, sl_err_t *err);

/* ---- store_sqlite_entities.c, store_sqlite_modules.c: the operations of st_ops_t --------------------------------------------- */

sl_status_t sq_entity_put(st_store_t *store, const st_row_t *row, sl_err_t *err);
sl_status_t sq_entity_erase(st_store_t *store, sl_str_t collection, sl_str_t id, sl_err_t *err);
sl_status_t sq_entity_clear(st_store_t *store, sl_err_t *err);
sl_status_t sq_entity_read(st_store_t *store, const st_query_t *query, st_entity_fn_t fn, void *ud, sl_err_t *err);
sl_status_t sq_entity_read_gone(st_store_t *store, uint64_t after_revision, st_gone_fn_t fn, void *ud, sl_err_t *err);
sl_status_t sq_module_put(st_store_t *store, const st_module_t *module, sl_str_t bytes, uint32_t *version, bool *added, sl_err_t *err);
sl_status_t sq_module_activate(st_store_t *store, sl_str_t name, uint32_t version, sl_err_t *err);
sl_status_t sq_module_erase(st_store_t *store, sl_str_t name, uint32_t version, sl_err_t *err);
sl_status_t sq_module_each(st_store_t *store, sl_str_t name, st_module_fn_t fn, void *ud, sl_err_t *err);
sl_status_t sq_module_read(st_store_t *store, sl_str_t sha256, sl_buf_t *out, sl_err_t *err);

#endif
