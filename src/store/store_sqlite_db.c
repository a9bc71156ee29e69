/* The only file that knows SQLite's interface: connections, prepared statements, and what its failures mean to an operator. */
#include "store_sqlite.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

/* The entity and all that cascades from it. */
#define GONE                                                                                                                               \
    "WITH RECURSIVE gone (seq, collection, id) AS (SELECT seq, collection, id FROM entities WHERE collection = ?1 AND id = ?2"             \
    " UNION SELECT e.seq, e.collection, e.id FROM gone g CROSS JOIN refs r ON r.parent_collection = g.collection AND r.parent_id = g.id"   \
    " AND r.cascades CROSS JOIN entities e ON e.seq = r.seq) "
#define GONE_KEPT "1000" /* revisions: who publishes is behind by a few */
#define ENTITY "e.collection, e.id, e.json, e.revision, e.sum"
#define MODULE "name, version, sha256, size, created_at, active, meta"

static const char *const sql[N_SQL] = {
    [SQL_BEGIN] = "BEGIN",
    [SQL_BEGIN_IMMEDIATE] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_REVISION] = "SELECT revision FROM state",
    [SQL_SET_REVISION] = "UPDATE state SET revision = ?1, gone_since = max(gone_since, ?1 - " GONE_KEPT ")",
    [SQL_FORGET_GONE] = "DELETE FROM gone WHERE revision <= (SELECT gone_since FROM state)",
    [SQL_GONE_SINCE] = "SELECT gone_since FROM state",
    [SQL_READ_GONE] = "SELECT collection, id FROM gone WHERE revision > ?1",
    [SQL_FIND_SEQ] = "SELECT seq FROM entities WHERE collection = ?1 AND id = ?2",
    [SQL_FIND_OWNER] = "SELECT e.seq, e.id FROM uniques u JOIN entities e ON e.seq = u.seq"
                       " WHERE u.collection = ?1 AND u.field = ?2 AND u.value = ?3",
    [SQL_INSERT] = "INSERT INTO entities (collection, id, json, revision, sum) VALUES (?1, ?2, ?3, ?4, ?5)",
    [SQL_UPDATE] = "UPDATE entities SET json = ?3, revision = ?4, sum = ?5 WHERE collection = ?1 AND id = ?2",
    [SQL_DROP_UNIQUES] = "DELETE FROM uniques WHERE seq = ?1",
    [SQL_DROP_REFS] = "DELETE FROM refs WHERE seq = ?1",
    [SQL_ADD_UNIQUE] = "INSERT INTO uniques (seq, collection, field, value) VALUES (?1, ?2, ?3, ?4)",
    [SQL_ADD_REF] =
        "INSERT INTO refs (seq, field, parent_collection, parent_id, cascades, collection, id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [SQL_DROP_TAGS] = "DELETE FROM tags WHERE seq = ?1",
    [SQL_ADD_TAG] = "INSERT OR IGNORE INTO tags (seq, collection, id, tag) VALUES (?1, ?2, ?3, ?4)",
    [SQL_ORPHAN] = "SELECT e.collection, e.id, r.field, r.parent_collection, r.parent_id FROM refs r JOIN entities e ON e.seq = r.seq"
                   " WHERE NOT EXISTS (SELECT 1 FROM entities p WHERE p.collection = r.parent_collection AND p.id = r.parent_id)"
                   " ORDER BY r.seq LIMIT 1",
    [SQL_RESTRICTED] = GONE "SELECT e.collection, e.id, r.field FROM gone g CROSS JOIN refs r ON r.parent_collection = g.collection"
                            " AND r.parent_id = g.id AND NOT r.cascades JOIN entities e ON e.seq = r.seq"
                            " WHERE r.seq NOT IN (SELECT seq FROM gone) LIMIT 1",
    [SQL_ERASE] = GONE "DELETE FROM entities WHERE seq IN (SELECT seq FROM gone)",
    [SQL_READ_ALL] = "SELECT " ENTITY " FROM entities e ORDER BY e.seq",
    [SQL_READ_ID] = "SELECT " ENTITY " FROM entities e WHERE e.collection = ?1 AND e.id = ?2",
    [SQL_READ_UNIQUE] = "SELECT " ENTITY " FROM uniques u JOIN entities e ON e.seq = u.seq"
                        " WHERE u.collection = ?1 AND u.field = ?2 AND u.value = ?3",
    [SQL_READ_PAGE] = "SELECT " ENTITY " FROM entities e WHERE e.collection = ?1 AND e.id > ?2 ORDER BY e.id LIMIT ?3",
    [SQL_READ_CHILDREN] = "SELECT " ENTITY " FROM refs r CROSS JOIN entities e ON e.seq = r.seq WHERE r.parent_collection = ?4"
                          " AND r.parent_id = ?5 AND r.field = ?6 AND r.collection = ?1 AND r.id > ?2 ORDER BY r.id LIMIT ?3",
    [SQL_READ_TAGGED] = "SELECT " ENTITY " FROM tags t CROSS JOIN entities e ON e.seq = t.seq"
                        " WHERE t.collection = ?1 AND t.tag = ?4 AND t.id > ?2 ORDER BY t.id LIMIT ?3",
    [SQL_READ_SINCE] = "SELECT " ENTITY " FROM entities e WHERE e.revision > ?1",
    [SQL_MODULE_SAME] = "SELECT version FROM modules WHERE name = ?1 AND sha256 = ?2 AND meta IS ?3",
    [SQL_MODULE_NAME] = "INSERT INTO module_names VALUES (?1, 1) ON CONFLICT (name) DO UPDATE SET last_version = last_version + 1",
    [SQL_MODULE_NEXT] = "SELECT last_version FROM module_names WHERE name = ?1",
    [SQL_BLOB_ADD] = "INSERT INTO blobs (sha256, bytes) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    [SQL_MODULE_ADD] = "INSERT INTO modules (" MODULE ") VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)",
    [SQL_MODULE_STATE] = "SELECT active FROM modules WHERE name = ?1 AND (version = ?2 OR ?2 = 0) ORDER BY active DESC LIMIT 1",
    [SQL_MODULE_OFF] = "UPDATE modules SET active = 0 WHERE name = ?1 AND active",
    [SQL_MODULE_ON] = "UPDATE modules SET active = 1 WHERE name = ?1 AND version = ?2",
    [SQL_MODULE_ERASE] = "DELETE FROM modules WHERE name = ?1 AND version = ?2",
    [SQL_MODULE_ERASE_ALL] = "DELETE FROM modules WHERE name = ?1",
    [SQL_BLOB_SWEEP] = "DELETE FROM blobs WHERE NOT EXISTS (SELECT 1 FROM modules m WHERE m.sha256 = blobs.sha256)",
    [SQL_MODULE_LIST] = "SELECT " MODULE " FROM modules ORDER BY name, version",
    [SQL_MODULE_LIST_NAME] = "SELECT " MODULE " FROM modules WHERE name = ?1 ORDER BY version",
    [SQL_BLOB_READ] = "SELECT bytes FROM blobs WHERE sha256 = ?1",
};

sq_store_t *sq_of(st_store_t *store) {
    return (sq_store_t *)store;
}

/* ---- what went wrong -------------------------------------------------------------------------------------------------------- */

static bool is_no_space(int code, int system) {
    return (code & 0xff) == SQLITE_FULL || ((code & 0xff) == SQLITE_IOERR && (system == ENOSPC || system == EDQUOT || system == EFBIG));
}

sl_status_t sq_fault(sq_store_t *s, st_fault_kind_t kind) {
    st_fault_set(&s->head, kind, SL_STR_NULL, SL_STR_NULL, SL_STR_NULL);
    return SL_IO;
}

sl_status_t sq_damaged(sq_store_t *s, const char *what, sl_err_t *err) {
    return sl_err_set(err, sq_fault(s, ST_FAULT_DAMAGED),
                      "%s: the database is damaged (%s). Move it away together with its -wal and -shm files, then restore a backup or "
                      "import an exported configuration",
                      s->path, what);
}

sl_status_t sq_moved(sq_store_t *s, sl_err_t *err) {
    return sl_err_set(err, sq_fault(s, ST_FAULT_DAMAGED),
                      "%s: the database was moved away or deleted while it was in use. Put it back together with its -wal and -shm files, "
                      "import an exported configuration, or restart to begin with an empty one",
                      s->path);
}

sl_status_t sq_not_writable(sq_store_t *s, const char *what, int system, sl_err_t *err) {
    return sl_err_set(err, sq_fault(s, ST_FAULT_READ_ONLY),
                      "%s: %s%s%s. The database and its folder must be readable and writable for the user of the gateway", s->path, what,
                      system != 0 ? ": " : "", system != 0 ? strerror(system) : "");
}

/* SQLite knows the system's reason of most of its failures, but not of a COMMIT's; we listen too: errno = 0; kept(s, call). */
static int kept(sq_store_t *s, int rc) {
    s->system = errno;
    return rc;
}

static int system_reason(const sq_store_t *s, int code) {
    if ((code & 0xff) != SQLITE_IOERR && (code & 0xff) != SQLITE_CANTOPEN) {
        return 0;
    }
    return s->system != 0 ? s->system : sqlite3_system_errno(s->db);
}

/* The status and text for the code that the last call on s->db gave. */
static sl_status_t failed(sq_store_t *s, sl_err_t *err) {
    int code = sqlite3_extended_errcode(s->db);
    int system = system_reason(s, code);
    if (is_no_space(code, system)) {
        return sl_err_set(err, sq_fault(s, ST_FAULT_FULL),
                          "%s: no space left (%s); nothing was changed. Make room in its file system, or raise the "
                          "quota, and try again",
                          s->path, system != 0 ? strerror(system) : sqlite3_errmsg(s->db));
    }
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        sq_fault(s, ST_FAULT_BUSY);
        return sl_err_set(err, SL_CONFLICT, "%s: another process was writing for more than %u ms; try again", s->path, s->busy_timeout_ms);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return sq_damaged(s, sqlite3_errmsg(s->db), err);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return sq_not_writable(s, sqlite3_errmsg(s->db), system, err);
    case SQLITE_NOMEM:
        return sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", s->path);
    case SQLITE_TOOBIG:
        return sl_err_set(err, SL_NO_MEMORY, "%s: larger than a row may be", s->path);
    case SQLITE_IOERR:
        return sl_err_set(err, SL_IO, "%s: %s (%s)", s->path, sqlite3_errmsg(s->db), system != 0 ? strerror(system) : sqlite3_errstr(code));
    default:
        return sl_err_set(err, SL_FAILED, "%s: %s (SQLite's code %d)", s->path, sqlite3_errmsg(s->db), code);
    }
}

/* ---- the connection --------------------------------------------------------------------------------------------------------- */

/* The parts that are not kept in the file. */
sl_status_t sq_connect(sq_store_t *s, const char *file, sq_mode_t mode, sl_err_t *err) {
    static const int flags[] = {
        [SQ_READ_ONLY] = SQLITE_OPEN_READONLY,
        [SQ_READ_WRITE] = SQLITE_OPEN_READWRITE,
        [SQ_IN_MEMORY] = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY,
    };
    errno = 0;
    if (kept(s, sqlite3_open_v2(file, &s->db, flags[mode] | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL)) != SQLITE_OK) {
        return s->db != NULL ? failed(s, err) : sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", s->path);
    }
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, (int)s->busy_timeout_ms);
    /* The file may have been given to us: it cannot run anything. */
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return sq_exec(s,
                   "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;"
                   "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864",
                   err);
}

void sq_keep_log(sq_store_t *s) {
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
}

void sq_disconnect(sq_store_t *s) {
    for (size_t i = 0; i < N_SQL; i++) {
        sqlite3_finalize(s->stmts[i]);
    }
    sqlite3_close_v2(s->db);
}

const char *sq_file(const sq_store_t *s) {
    return sqlite3_db_filename(s->db, "main");
}

bool sq_is_read_only(const sq_store_t *s) {
    return sqlite3_db_readonly(s->db, "main") == 1;
}

bool sq_in_transaction(const sq_store_t *s) {
    return !sqlite3_get_autocommit(s->db);
}

bool sq_is_missing_parent(const sq_store_t *s) {
    return sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_FOREIGNKEY;
}

int64_t sq_last_seq(const sq_store_t *s) {
    return sqlite3_last_insert_rowid(s->db);
}

sl_status_t sq_check_open(sq_store_t *s, sl_err_t *err) {
    return sq_in_transaction(s) ? SL_OK : sl_err_set(err, SL_FAILED, "%s: an earlier failure ended the transaction", s->path);
}

/* ---- calls ------------------------------------------------------------------------------------------------------------------ */

sq_call_t sq_call(sq_store_t *s, sq_sql_t which) {
    sq_call_t c = {.s = s, .rc = SQLITE_OK};
    if (s->stmts[which] == NULL) {
        errno = 0;
        c.rc = kept(s, sqlite3_prepare_v3(s->db, sql[which], -1, SQLITE_PREPARE_PERSISTENT, &s->stmts[which], NULL));
    }
    c.stmt = c.rc == SQLITE_OK ? s->stmts[which] : NULL;
    return c;
}

static void keep(sq_call_t *c, int rc) {
    c->rc = c->rc == SQLITE_OK ? rc : c->rc;
}

void sq_text(sq_call_t *c, sl_str_t text) {
    c->n++;
    if (c->stmt != NULL) {
        keep(c, sqlite3_bind_text64(c->stmt, c->n, text.data != NULL ? text.data : "", text.len, SQLITE_STATIC, SQLITE_UTF8));
    }
}

void sq_optional(sq_call_t *c, sl_str_t text) {
    if (text.data != NULL) {
        sq_text(c, text);
        return;
    }
    c->n++;
    if (c->stmt != NULL) {
        keep(c, sqlite3_bind_null(c->stmt, c->n));
    }
}

void sq_blob(sq_call_t *c, const void *data, size_t len) {
    c->n++;
    if (c->stmt != NULL) {
        keep(c, sqlite3_bind_blob64(c->stmt, c->n, data, len, SQLITE_STATIC));
    }
}

void sq_int(sq_call_t *c, int64_t value) {
    c->n++;
    if (c->stmt != NULL) {
        keep(c, sqlite3_bind_int64(c->stmt, c->n, value));
    }
}

bool sq_next(sq_call_t *c) {
    if (c->rc != SQLITE_OK) {
        return false;
    }
    errno = 0;
    int rc = kept(c->s, sqlite3_step(c->stmt));
    keep(c, rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc);
    return rc == SQLITE_ROW;
}

sl_str_t sq_column(sq_call_t *c, int i) {
    const char *text = (const char *)sqlite3_column_text(c->stmt, i);
    return sl_str(text, text != NULL ? (size_t)sqlite3_column_bytes(c->stmt, i) : 0);
}

sl_str_t sq_column_blob(sq_call_t *c, int i) {
    const void *data = sqlite3_column_blob(c->stmt, i);
    return sl_str(data, data != NULL ? (size_t)sqlite3_column_bytes(c->stmt, i) : 0);
}

int64_t sq_column_int(sq_call_t *c, int i) {
    return sqlite3_column_int64(c->stmt, i);
}

sl_status_t sq_done(sq_call_t *c, sl_err_t *err) {
    sl_status_t rc = c->rc == SQLITE_OK ? SL_OK : failed(c->s, err);
    if (c->stmt != NULL) {
        sqlite3_reset(c->stmt);
        sqlite3_clear_bindings(c->stmt);
    }
    return rc;
}

sl_status_t sq_run(sq_call_t *c, sl_err_t *err) {
    while (sq_next(c)) {
    }
    return sq_done(c, err);
}

sl_status_t sq_run_plain(sq_store_t *s, sq_sql_t which, sl_err_t *err) {
    sq_call_t c = sq_call(s, which);
    return sq_run(&c, err);
}

sl_status_t sq_exec(sq_store_t *s, const char *text, sl_err_t *err) {
    errno = 0;
    return kept(s, sqlite3_exec(s->db, text, NULL, NULL, NULL)) == SQLITE_OK ? SL_OK : failed(s, err);
}

sl_status_t sq_pragma_text(sq_store_t *s, const char *text, char *out, size_t size, sl_err_t *err) {
    sqlite3_stmt *stmt;
    out[0] = '\0';
    errno = 0;
    if (kept(s, sqlite3_prepare_v2(s->db, text, -1, &stmt, NULL)) != SQLITE_OK) {
        return failed(s, err);
    }
    int rc = kept(s, sqlite3_step(stmt));
    const char *value = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    snprintf(out, size, "%s", value != NULL ? value : "");
    sl_status_t answer = rc == SQLITE_ROW || rc == SQLITE_DONE ? SL_OK : failed(s, err);
    sqlite3_finalize(stmt);
    return answer;
}

sl_status_t sq_pragma_int(sq_store_t *s, const char *text, int *out, sl_err_t *err) {
    char value[32];
    sl_status_t rc = sq_pragma_text(s, text, value, sizeof(value), err);
    *out = (int)strtol(value, NULL, 10);
    return rc;
}
