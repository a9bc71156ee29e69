/*
 * Entities and modules in one SQLite file (the tables: store_sqlite_schema.h). Write-ahead log, so that readers and the writer do not wait
 * for each other; synchronous=FULL, so that what was committed survives a power cut; every write transaction is IMMEDIATE, so that it sees
 * the newest state and never has to be retried half-way.
 *
 * A database comes into being under another name and is renamed when it is complete: the file that others see always has its tables, and
 * an empty file at its path is damage. POSIX drops all locks of a process when it closes any descriptor of the file, so nothing here (or
 * anywhere in a process with a handle) opens the database file by itself.
 */
#include "store_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_sqlite_schema.h"

#define BUSY_TIMEOUT_MS 5000
#define SUM_SIZE 8

/* ---- statements ----------------------------------------------------------------------------------------------------------- */

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
} sql_t;

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

typedef struct {
    st_store_t head;
    sqlite3 *db;
    char *path; /* for texts */
    uint32_t busy_timeout_ms;
    int system; /* errno of the last call of SQLite; 0: it had no trouble with the system */
    sqlite3_stmt *stmts[N_SQL];
} store_t;

static store_t *of(st_store_t *store) {
    return (store_t *)store;
}

/* ---- what went wrong -------------------------------------------------------------------------------------------------------- */

static bool is_no_space(int code, int system) {
    return (code & 0xff) == SQLITE_FULL || ((code & 0xff) == SQLITE_IOERR && (system == ENOSPC || system == EDQUOT || system == EFBIG));
}

static sl_status_t fault(store_t *s, st_fault_kind_t kind) {
    st_fault_set(&s->head, kind, SL_STR_NULL, SL_STR_NULL, SL_STR_NULL);
    return SL_IO;
}

static sl_status_t damaged(store_t *s, const char *what, sl_err_t *err) {
    return sl_err_set(err, fault(s, ST_FAULT_DAMAGED),
                      "%s: the database is damaged (%s). Move it away together with its -wal and -shm files, then restore a backup or "
                      "import an exported configuration",
                      s->path, what);
}

static sl_status_t not_writable(store_t *s, const char *what, int system, sl_err_t *err) {
    return sl_err_set(err, fault(s, ST_FAULT_READ_ONLY),
                      "%s: %s%s%s. The database and its folder must be readable and writable for the user of the gateway", s->path, what,
                      system != 0 ? ": " : "", system != 0 ? strerror(system) : "");
}

/* SQLite knows the system's reason of most of its failures, but not of a COMMIT's; we listen too: errno = 0; kept(s, call). */
static int kept(store_t *s, int rc) {
    s->system = errno;
    return rc;
}

static int system_reason(const store_t *s, int code) {
    if ((code & 0xff) != SQLITE_IOERR && (code & 0xff) != SQLITE_CANTOPEN) {
        return 0;
    }
    return s->system != 0 ? s->system : sqlite3_system_errno(s->db);
}

/* The status and text for the code that the last call on s->db gave. */
static sl_status_t failed(store_t *s, sl_err_t *err) {
    int code = sqlite3_extended_errcode(s->db);
    int system = system_reason(s, code);
    if (is_no_space(code, system)) {
        return sl_err_set(err, fault(s, ST_FAULT_FULL),
                          "%s: no space left (%s); nothing was changed. Make room in its file system, or raise the "
                          "quota, and try again",
                          s->path, system != 0 ? strerror(system) : sqlite3_errmsg(s->db));
    }
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        fault(s, ST_FAULT_BUSY);
        return sl_err_set(err, SL_CONFLICT, "%s: another process was writing for more than %u ms; try again", s->path, s->busy_timeout_ms);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return damaged(s, sqlite3_errmsg(s->db), err);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return not_writable(s, sqlite3_errmsg(s->db), system, err);
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

/* ---- calls ------------------------------------------------------------------------------------------------------------------ */

/* One use of a statement: parameters in order, then rows. The first failure is kept and answered by done(). */
typedef struct {
    store_t *s;
    sqlite3_stmt *stmt; /* NULL: it could not be prepared */
    int n;
    int rc;
} call_t;

static call_t call(store_t *s, sql_t which) {
    call_t c = {.s = s, .rc = SQLITE_OK};
    if (s->stmts[which] == NULL) {
        errno = 0;
        c.rc = kept(s, sqlite3_prepare_v3(s->db, sql[which], -1, SQLITE_PREPARE_PERSISTENT, &s->stmts[which], NULL));
    }
    c.stmt = c.rc == SQLITE_OK ? s->stmts[which] : NULL;
    return c;
}

static void keep(call_t *c, int rc) {
    c->rc = c->rc == SQLITE_OK ? rc : c->rc;
}

static void with_text(call_t *c, sl_str_t text) {
    c->n++;
    if (c->stmt != NULL) {
        keep(c, sqlite3_bind_text64(c->stmt, c->n, text.data != NULL ? text.data : "", text.len, SQLITE_STATIC, SQLITE_UTF8));
    }
}

/* {NULL,0} is NULL. */
static void with_optional(call_t *c, sl_str_t text) {
    if (text.data != NULL) {
        with_text(c, text);
        return;
    }
    c->n++;
    if (c->stmt != NULL) {
        keep(c, sqlite3_bind_null(c->stmt, c->n));
    }
}

static void with_blob(call_t *c, const void *data, size_t len) {
    c->n++;
    if (c->stmt != NULL) {
        keep(c, sqlite3_bind_blob64(c->stmt, c->n, data, len, SQLITE_STATIC));
    }
}

static void with_int(call_t *c, int64_t value) {
    c->n++;
    if (c->stmt != NULL) {
        keep(c, sqlite3_bind_int64(c->stmt, c->n, value));
    }
}

/* true: there is a row, to be read with the functions below. */
static bool next(call_t *c) {
    if (c->rc != SQLITE_OK) {
        return false;
    }
    errno = 0;
    int rc = kept(c->s, sqlite3_step(c->stmt));
    keep(c, rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc);
    return rc == SQLITE_ROW;
}

static sl_str_t column(call_t *c, int i) {
    const char *text = (const char *)sqlite3_column_text(c->stmt, i);
    return sl_str(text, text != NULL ? (size_t)sqlite3_column_bytes(c->stmt, i) : 0);
}

static int64_t column_int(call_t *c, int i) {
    return sqlite3_column_int64(c->stmt, i);
}

/* Ends the call. The texts of its rows are gone afterwards. */
static sl_status_t done(call_t *c, sl_err_t *err) {
    sl_status_t rc = c->rc == SQLITE_OK ? SL_OK : failed(c->s, err);
    if (c->stmt != NULL) {
        sqlite3_reset(c->stmt);
        sqlite3_clear_bindings(c->stmt);
    }
    return rc;
}

static sl_status_t run(call_t *c, sl_err_t *err) {
    while (next(c)) {
    }
    return done(c, err);
}

static sl_status_t run_plain(store_t *s, sql_t which, sl_err_t *err) {
    call_t c = call(s, which);
    return run(&c, err);
}

static sl_status_t exec(store_t *s, const char *text, sl_err_t *err) {
    errno = 0;
    return kept(s, sqlite3_exec(s->db, text, NULL, NULL, NULL)) == SQLITE_OK ? SL_OK : failed(s, err);
}

/* The first column of the first row of a PRAGMA. */
static sl_status_t pragma_text(store_t *s, const char *text, char *out, size_t size, sl_err_t *err) {
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

static sl_status_t pragma_int(store_t *s, const char *text, int *out, sl_err_t *err) {
    char value[32];
    sl_status_t rc = pragma_text(s, text, value, sizeof(value), err);
    *out = (int)strtol(value, NULL, 10);
    return rc;
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------- */

static void close_db(st_store_t *store) {
    store_t *s = of(store);
    for (size_t i = 0; i < N_SQL; i++) {
        sqlite3_finalize(s->stmts[i]);
    }
    sqlite3_close_v2(s->db);
    free(s->path);
    free(s);
}

static sl_status_t new_handle(const st_conf_t *conf, const st_ops_t *ops, const char *path, store_t **out, sl_err_t *err) {
    store_t *s = calloc(1, sizeof(*s));
    char *copy = strdup(path);
    *out = NULL;
    if (s == NULL || copy == NULL) {
        free(s);
        free(copy);
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    st_store_head_init(&s->head, ops, conf);
    s->path = copy;
    s->busy_timeout_ms = conf->busy_timeout_ms != 0 ? conf->busy_timeout_ms : BUSY_TIMEOUT_MS;
    s->busy_timeout_ms = s->busy_timeout_ms <= INT_MAX ? s->busy_timeout_ms : INT_MAX;
    *out = s;
    return SL_OK;
}

/* The parts that are not kept in the file. */
static sl_status_t connect(store_t *s, const char *file, int flags, sl_err_t *err) {
    errno = 0;
    if (kept(s, sqlite3_open_v2(file, &s->db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL)) != SQLITE_OK) {
        return s->db != NULL ? failed(s, err) : sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", s->path);
    }
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, (int)s->busy_timeout_ms);
    /* The file may have been given to us: it cannot run anything. */
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return exec(s,
                "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;"
                "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864",
                err);
}

static sl_status_t use_log(store_t *s, sl_err_t *err) {
    char mode[32];
    sl_status_t rc = pragma_text(s, "PRAGMA journal_mode = WAL", mode, sizeof(mode), err);
    if (rc == SL_OK && strcmp(mode, "wal") != 0) {
        return sl_err_set(err, SL_IO, "%s: its file system cannot share memory between processes; choose a local one", s->path);
    }
    return rc;
}

static sl_status_t check_owner(store_t *s, int *format, sl_err_t *err) {
    int id = 0;
    sl_status_t rc = pragma_int(s, "PRAGMA application_id", &id, err);
    if (rc == SL_OK && id != ST_SQLITE_APPLICATION_ID) {
        return sl_err_set(err, fault(s, ST_FAULT_DAMAGED),
                          "%s: a database of another program (application id %d); give Sluice a path of its own", s->path, id);
    }
    rc = rc == SL_OK ? pragma_int(s, "PRAGMA user_version", format, err) : rc;
    if (rc == SL_OK && (*format < 0 || *format > ST_SQLITE_FORMAT)) {
        return sl_err_set(err, SL_FAILED,
                          "%s: written by a newer Sluice (format %d, this one knows up to %d): upgrade this one, or use another file",
                          s->path, *format, ST_SQLITE_FORMAT);
    }
    return rc;
}

/* The format is looked at again inside the transaction: another process may have been quicker. */
static sl_status_t migrate_once(store_t *s, bool *current, sl_err_t *err) {
    char text[64];
    int format = 0;
    sl_status_t rc = run_plain(s, SQL_BEGIN_IMMEDIATE, err);
    rc = rc == SL_OK ? pragma_int(s, "PRAGMA user_version", &format, err) : rc;
    *current = format >= ST_SQLITE_FORMAT;
    if (rc == SL_OK && !*current) {
        snprintf(text, sizeof(text), "PRAGMA user_version = %d", format + 1);
        rc = exec(s, st_sqlite_migrations[format], err);
        rc = rc == SL_OK ? exec(s, text, err) : rc;
    }
    rc = rc == SL_OK ? run_plain(s, SQL_COMMIT, err) : rc;
    if (rc != SL_OK && !sqlite3_get_autocommit(s->db)) {
        run_plain(s, SQL_ROLLBACK, NULL);
    }
    return rc;
}

static sl_status_t migrate(store_t *s, sl_err_t *err) {
    bool current = false;
    sl_status_t rc = SL_OK;
    while (rc == SL_OK && !current) {
        rc = migrate_once(s, &current, err);
    }
    return rc;
}

static sl_status_t check_whole(store_t *s, sl_err_t *err) {
    char text[256];
    sl_status_t rc = pragma_text(s, "PRAGMA quick_check(1)", text, sizeof(text), err);
    return rc == SL_OK && strcmp(text, "ok") != 0 ? damaged(s, text, err) : rc;
}

static sl_status_t build_tables(store_t *s, sl_err_t *err) {
    char text[64];
    snprintf(text, sizeof(text), "PRAGMA application_id = %d", ST_SQLITE_APPLICATION_ID);
    sl_status_t rc = exec(s, text, err);
    return rc == SL_OK ? migrate(s, err) : rc;
}

static void sync_folder(const char *path) {
    char dir[PATH_MAX];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash == NULL) {
        snprintf(dir, sizeof(dir), ".");
    } else {
        slash[slash == dir ? 1 : 0] = '\0';
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!fsync(fd); /* not every file system can */
        close(fd);
    }
}

/* Renames unless there is a file of that name, which is as good as ours. */
static sl_status_t publish(store_t *s, const char *tmp, sl_err_t *err) {
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, s->path, RENAME_NOREPLACE) == 0 || errno == EEXIST) {
        return SL_OK;
    }
    if ((errno == EINVAL || errno == ENOSYS) && (link(tmp, s->path) == 0 || errno == EEXIST)) {
        return SL_OK;
    }
    return not_writable(s, "cannot be created", errno, err);
}

/* On a handle of its own: a connection does not follow a rename. */
static sl_status_t fill(const st_conf_t *conf, const char *tmp, sl_err_t *err) {
    store_t *s;
    sl_status_t rc = new_handle(conf, &st_sqlite_ops, conf->path, &s, err);
    if (rc != SL_OK) {
        return rc;
    }
    rc = connect(s, tmp, SQLITE_OPEN_READWRITE, err);
    rc = rc == SL_OK ? build_tables(s, err) : rc;
    rc = rc == SL_OK ? use_log(s, err) : rc;
    close_db(&s->head);
    return rc;
}

static sl_status_t create(store_t *s, const st_conf_t *conf, sl_err_t *err) {
    static const char *const beside[] = {"", "-journal", "-wal", "-shm"};
    static unsigned counter;
    char tmp[PATH_MAX], name[PATH_MAX + 16];
    int len = snprintf(tmp, sizeof(tmp), "%s.new-%ld-%u", s->path, (long)getpid(), __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED));
    if (len < 0 || (size_t)len >= sizeof(tmp)) {
        return sl_err_set(err, SL_INVALID, "%s: path too long", s->path);
    }
    unlink(tmp); /* of a process of our number that was killed here */
    int fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        int system = errno;
        return system == ENOSPC || system == EDQUOT ? sl_err_set(err, fault(s, ST_FAULT_FULL), "%s: no space left to create it", s->path)
                                                    : not_writable(s, "cannot be created", system, err);
    }
    close(fd);
    sl_status_t rc = fill(conf, tmp, err);
    rc = rc == SL_OK ? publish(s, tmp, err) : rc;
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
        snprintf(name, sizeof(name), "%s%s", tmp, beside[i]);
        unlink(name);
    }
    if (rc == SL_OK) {
        sync_folder(s->path);
    }
    return rc;
}

/* The log is looked for first: others create the database before its log, so that a log without a database is really one. */
static sl_status_t ensure_file(store_t *s, const st_conf_t *conf, sl_err_t *err) {
    char log[PATH_MAX];
    struct stat st;
    int len = snprintf(log, sizeof(log), "%s-wal", s->path);
    if (len < 0 || (size_t)len >= sizeof(log)) {
        return sl_err_set(err, SL_INVALID, "%s: path too long", s->path);
    }
    bool has_log = stat(log, &st) == 0 && st.st_size > 0;
    if (stat(s->path, &st) != 0) {
        if (errno != ENOENT) {
            return not_writable(s, "cannot be looked at", errno, err);
        }
        if (conf->read_only) {
            return sl_err_set(err, SL_NOT_FOUND, "%s: there is no database", s->path);
        }
        return has_log ? damaged(s, "there is its -wal file, but not the database itself", err) : create(s, conf, err);
    }
    if (!S_ISREG(st.st_mode)) {
        return sl_err_set(err, fault(s, ST_FAULT_DAMAGED), "%s: not a regular file", s->path);
    }
    return st.st_size == 0 ? damaged(s, "it is empty", err) : SL_OK;
}

static sl_status_t open_file(store_t *s, const st_conf_t *conf, sl_err_t *err) {
    int format = 0;
    sl_status_t rc = ensure_file(s, conf, err);
    rc = rc == SL_OK ? connect(s, s->path, conf->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE, err) : rc;
    rc = rc == SL_OK ? check_owner(s, &format, err) : rc;
    if (rc == SL_OK && !conf->read_only && sqlite3_db_readonly(s->db, "main") == 1) { /* SQLite is content with reading */
        rc = not_writable(s, "the file may not be written", 0, err);
    }
    if (rc != SL_OK) {
        return rc;
    }
    if (conf->read_only && format != ST_SQLITE_FORMAT) {
        return sl_err_set(err, SL_FAILED, "%s: format %d of an older Sluice; open it for writing once", s->path, format);
    }
    if (!conf->read_only) {
        rc = use_log(s, err);
    }
    rc = rc == SL_OK && !conf->unchecked ? check_whole(s, err) : rc;
    return rc == SL_OK && format < ST_SQLITE_FORMAT ? migrate(s, err) : rc;
}

static sl_status_t sqlite_open(const st_conf_t *conf, st_store_t **out, sl_err_t *err) {
    store_t *s;
    if (conf->path == NULL || conf->path[0] == '\0') {
        return sl_err_set(err, SL_INVALID, "the SQLite store needs the path of its file");
    }
    sl_status_t rc = new_handle(conf, &st_sqlite_ops, conf->path, &s, err);
    rc = rc == SL_OK ? open_file(s, conf, err) : rc;
    if (rc == SL_OK) {
        *out = &s->head;
    } else if (s != NULL) {
        close_db(&s->head);
    }
    return rc;
}

static sl_status_t memory_open(const st_conf_t *conf, st_store_t **out, sl_err_t *err) {
    store_t *s;
    sl_status_t rc = new_handle(conf, &st_memory_ops, "the store in memory", &s, err);
    if (rc != SL_OK) {
        return rc;
    }
    rc = connect(s, ":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY, err);
    rc = rc == SL_OK ? build_tables(s, err) : rc;
    if (rc != SL_OK) {
        close_db(&s->head);
        return rc;
    }
    *out = &s->head;
    return SL_OK;
}

/* ---- transactions ------------------------------------------------------------------------------------------------------------- */

static sl_status_t read_revision(st_store_t *store, uint64_t *revision, sl_err_t *err) {
    call_t c = call(of(store), SQL_REVISION);
    bool found = next(&c);
    *revision = found ? (uint64_t)column_int(&c, 0) : 0;
    sl_status_t rc = done(&c, err);
    return rc == SL_OK && !found ? damaged(of(store), "it has no revision", err) : rc;
}

static void rollback(st_store_t *store) {
    if (!sqlite3_get_autocommit(of(store)->db)) { /* some failures have rolled back already */
        run_plain(of(store), SQL_ROLLBACK, NULL);
    }
}

/* The first read takes the snapshot. */
static sl_status_t begin(st_store_t *store, bool writes, uint64_t *revision, sl_err_t *err) {
    sl_status_t rc = run_plain(of(store), writes ? SQL_BEGIN_IMMEDIATE : SQL_BEGIN, err);
    rc = rc == SL_OK ? read_revision(store, revision, err) : rc;
    if (rc != SL_OK) {
        rollback(store);
    }
    return rc;
}

/* A failure that rolled back by itself must not make single commits of the writes that follow. */
static sl_status_t check_open(store_t *s, sl_err_t *err) {
    return !sqlite3_get_autocommit(s->db) ? SL_OK : sl_err_set(err, SL_FAILED, "%s: an earlier failure ended the transaction", s->path);
}

static sl_status_t orphan(store_t *s, sl_err_t *err) {
    call_t c = call(s, SQL_ORPHAN);
    bool found = next(&c);
    if (found) {
        sl_str_t collection = column(&c, 0), id = column(&c, 1), field = column(&c, 2), parents = column(&c, 3), parent = column(&c, 4);
        st_fault_set(&s->head, ST_FAULT_NO_PARENT, collection, id, field);
        st_fault_other(&s->head, parents, parent);
        sl_err_set(err, SL_INVALID, "%.*s %.*s: its %.*s is \"%.*s\", which is not in %.*s", SL_FMT(collection), SL_FMT(id), SL_FMT(field),
                   SL_FMT(parent), SL_FMT(parents));
    }
    sl_status_t rc = done(&c, err);
    return rc != SL_OK ? rc : found ? SL_INVALID : damaged(s, "references that cannot be found", err);
}

static sl_status_t commit_now(store_t *s, bool changed, uint64_t revision, sl_err_t *err) {
    sl_status_t rc = check_open(s, err);
    if (rc == SL_OK && changed) {
        call_t c = call(s, SQL_SET_REVISION);
        with_int(&c, (int64_t)revision);
        rc = run(&c, err);
        rc = rc == SL_OK ? run_plain(s, SQL_FORGET_GONE, err) : rc;
    }
    if (rc != SL_OK) {
        return rc;
    }
    rc = run_plain(s, SQL_COMMIT, err);
    return rc != SL_OK && sqlite3_extended_errcode(s->db) == SQLITE_CONSTRAINT_FOREIGNKEY ? orphan(s, err) : rc;
}

static sl_status_t commit(st_store_t *store, bool changed, uint64_t revision, sl_err_t *err) {
    sl_status_t rc = commit_now(of(store), changed, revision, err);
    if (rc != SL_OK) {
        rollback(store);
    }
    return rc;
}

/* ---- entities ------------------------------------------------------------------------------------------------------------------- */

static sl_status_t sum_of(sl_str_t json, uint8_t out[SL_SHA256_SIZE], sl_err_t *err) {
    return sl_sha256(json, out) == SL_OK ? SL_OK : sl_err_set(err, SL_NO_MEMORY, "out of memory");
}

/* *seq 0: it does not exist. */
static sl_status_t find_seq(store_t *s, sl_str_t collection, sl_str_t id, int64_t *seq, sl_err_t *err) {
    call_t c = call(s, SQL_FIND_SEQ);
    with_text(&c, collection);
    with_text(&c, id);
    *seq = next(&c) ? column_int(&c, 0) : 0;
    return done(&c, err);
}

static sl_status_t check_unique(store_t *s, const st_row_t *row, const st_unique_t *unique, int64_t seq, sl_err_t *err) {
    sl_status_t taken = SL_OK;
    call_t c = call(s, SQL_FIND_OWNER);
    with_text(&c, row->collection);
    with_text(&c, unique->field);
    with_text(&c, unique->value);
    if (next(&c) && column_int(&c, 0) != seq) {
        st_fault_set(&s->head, ST_FAULT_DUPLICATE, row->collection, row->id, unique->field);
        st_fault_other(&s->head, row->collection, column(&c, 1));
        taken = sl_err_set(err, SL_CONFLICT, "%.*s %.*s has the same %.*s: %.*s", SL_FMT(row->collection), SL_FMT(column(&c, 1)),
                           SL_FMT(unique->field), SL_FMT(unique->value));
    }
    sl_status_t rc = done(&c, err);
    return rc != SL_OK ? rc : taken;
}

static sl_status_t drop_by_seq(store_t *s, sql_t which, int64_t seq, sl_err_t *err) {
    call_t c = call(s, which);
    with_int(&c, seq);
    return run(&c, err);
}

/* *seq: in, 0 for a new entity; out, its number. */
static sl_status_t write_entity(store_t *s, const st_row_t *row, int64_t *seq, sl_err_t *err) {
    uint8_t sum[SL_SHA256_SIZE];
    sl_status_t rc = sum_of(row->json, sum, err);
    if (rc == SL_OK && *seq != 0) {
        rc = drop_by_seq(s, SQL_DROP_UNIQUES, *seq, err);
        rc = rc == SL_OK ? drop_by_seq(s, SQL_DROP_REFS, *seq, err) : rc;
        rc = rc == SL_OK ? drop_by_seq(s, SQL_DROP_TAGS, *seq, err) : rc;
    }
    if (rc != SL_OK) {
        return rc;
    }
    call_t c = call(s, *seq != 0 ? SQL_UPDATE : SQL_INSERT);
    with_text(&c, row->collection);
    with_text(&c, row->id);
    with_text(&c, row->json);
    with_int(&c, (int64_t)s->head.tx.revision + 1);
    with_blob(&c, sum, SUM_SIZE);
    rc = run(&c, err);
    *seq = *seq != 0 ? *seq : sqlite3_last_insert_rowid(s->db);
    return rc;
}

static sl_status_t add_unique(store_t *s, int64_t seq, sl_str_t collection, const st_unique_t *unique, sl_err_t *err) {
    call_t c = call(s, SQL_ADD_UNIQUE);
    with_int(&c, seq);
    with_text(&c, collection);
    with_text(&c, unique->field);
    with_text(&c, unique->value);
    return run(&c, err);
}

static sl_status_t add_tag(store_t *s, int64_t seq, const st_row_t *row, const json_t *tag, sl_err_t *err) {
    if (!json_is_string(tag)) {
        return SL_OK;
    }
    call_t c = call(s, SQL_ADD_TAG);
    with_int(&c, seq);
    with_text(&c, row->collection);
    with_text(&c, row->id);
    with_text(&c, sl_str(json_string_value(tag), json_string_length(tag)));
    return run(&c, err);
}

static sl_status_t add_ref(store_t *s, int64_t seq, const st_row_t *row, const st_ref_t *ref, sl_err_t *err) {
    call_t c = call(s, SQL_ADD_REF);
    with_int(&c, seq);
    with_text(&c, ref->field);
    with_text(&c, ref->collection);
    with_text(&c, ref->id);
    with_int(&c, ref->cascade);
    with_text(&c, row->collection);
    with_text(&c, row->id);
    return run(&c, err);
}

static sl_status_t put(st_store_t *store, const st_row_t *row, sl_err_t *err) {
    store_t *s = of(store);
    int64_t seq = 0;
    sl_status_t rc = check_open(s, err);
    rc = rc == SL_OK ? find_seq(s, row->collection, row->id, &seq, err) : rc;
    for (size_t i = 0; rc == SL_OK && i < row->n_uniques; i++) {
        rc = check_unique(s, row, &row->uniques[i], seq, err);
    }
    rc = rc == SL_OK ? write_entity(s, row, &seq, err) : rc;
    for (size_t i = 0; rc == SL_OK && i < row->n_uniques; i++) {
        rc = add_unique(s, seq, row->collection, &row->uniques[i], err);
    }
    for (size_t i = 0; rc == SL_OK && i < row->n_refs; i++) {
        rc = add_ref(s, seq, row, &row->refs[i], err);
    }
    for (size_t i = 0; rc == SL_OK && i < json_array_size(row->tags); i++) {
        rc = add_tag(s, seq, row, json_array_get(row->tags, i), err);
    }
    return rc;
}

static sl_status_t check_restricted(store_t *s, sl_str_t collection, sl_str_t id, sl_err_t *err) {
    sl_status_t held = SL_OK;
    call_t c = call(s, SQL_RESTRICTED);
    with_text(&c, collection);
    with_text(&c, id);
    if (next(&c)) {
        st_fault_set(&s->head, ST_FAULT_REFERENCED, collection, id, column(&c, 2));
        st_fault_other(&s->head, column(&c, 0), column(&c, 1));
        held = sl_err_set(err, SL_CONFLICT, "%.*s %.*s: %.*s %.*s refers to it", SL_FMT(collection), SL_FMT(id), SL_FMT(column(&c, 0)),
                          SL_FMT(column(&c, 1)));
    }
    sl_status_t rc = done(&c, err);
    return rc != SL_OK ? rc : held;
}

static sl_status_t erase(st_store_t *store, sl_str_t collection, sl_str_t id, sl_err_t *err) {
    store_t *s = of(store);
    int64_t seq = 0;
    sl_status_t rc = check_open(s, err);
    rc = rc == SL_OK ? find_seq(s, collection, id, &seq, err) : rc;
    if (rc == SL_OK && seq == 0) {
        return sl_err_set(err, SL_NOT_FOUND, "%.*s: there is no \"%.*s\"", SL_FMT(collection), SL_FMT(id));
    }
    rc = rc == SL_OK ? check_restricted(s, collection, id, err) : rc;
    if (rc != SL_OK) {
        return rc;
    }
    call_t c = call(s, SQL_ERASE);
    with_text(&c, collection);
    with_text(&c, id);
    return run(&c, err);
}

static sl_status_t clear(st_store_t *store, sl_err_t *err) {
    sl_status_t rc = check_open(of(store), err);
    return rc == SL_OK ? exec(of(store), "DELETE FROM refs; DELETE FROM uniques; DELETE FROM tags; DELETE FROM entities", err) : rc;
}

static call_t query_call(store_t *s, const st_query_t *query) {
    call_t c;
    if (query->since) {
        c = call(s, SQL_READ_SINCE);
        with_int(&c, (int64_t)query->after_revision);
        return c;
    }
    if (query->collection.len == 0) {
        return call(s, SQL_READ_ALL);
    }
    if (query->page != NULL) {
        bool children = query->page->parent_field.len > 0;
        bool tagged = query->page->tag.len > 0;
        c = call(s, children ? SQL_READ_CHILDREN : tagged ? SQL_READ_TAGGED : SQL_READ_PAGE);
        with_text(&c, query->collection);
        with_text(&c, query->page->after);
        with_int(&c, (int64_t)query->page->limit);
        if (children) {
            with_text(&c, query->parents);
            with_text(&c, query->page->parent_id);
            with_text(&c, query->page->parent_field);
        } else if (tagged) {
            with_text(&c, query->page->tag);
        }
        return c;
    }
    c = call(s, query->field.len > 0 ? SQL_READ_UNIQUE : SQL_READ_ID);
    with_text(&c, query->collection);
    with_text(&c, query->field.len > 0 ? query->field : query->id);
    if (query->field.len > 0) {
        with_text(&c, query->value);
    }
    return c;
}

/* A text can only be missing without memory: the columns are NOT NULL. */
static sl_status_t take_row(call_t *c, st_entity_t *row, sl_err_t *err) {
    uint8_t sum[SL_SHA256_SIZE];
    char text[160];
    row->collection = column(c, 0);
    row->id = column(c, 1);
    row->json = column(c, 2);
    row->revision = (uint64_t)column_int(c, 3);
    if (row->collection.data == NULL || row->id.data == NULL || row->json.data == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", c->s->path);
    }
    const void *kept = sqlite3_column_blob(c->stmt, 4);
    sl_status_t rc = sum_of(row->json, sum, err);
    if (rc == SL_OK && (kept == NULL || sqlite3_column_bytes(c->stmt, 4) != SUM_SIZE || memcmp(kept, sum, SUM_SIZE) != 0)) {
        snprintf(text, sizeof(text), "the content of %.*s %.*s is not what was written", SL_FMT(row->collection), SL_FMT(row->id));
        return damaged(c->s, text, err);
    }
    return rc;
}

static sl_status_t read_rows(st_store_t *store, const st_query_t *query, st_entity_fn_t fn, void *ud, sl_err_t *err) {
    st_entity_t row;
    sl_status_t answer = SL_OK;
    call_t c = query_call(of(store), query);
    while (answer == SL_OK && next(&c)) {
        answer = take_row(&c, &row, err);
        answer = answer == SL_OK ? fn(ud, &row, err) : answer;
    }
    sl_status_t rc = done(&c, err);
    return answer != SL_OK ? answer : rc;
}

static sl_status_t check_gone_since(store_t *s, uint64_t after_revision, sl_err_t *err) {
    call_t c = call(s, SQL_GONE_SINCE);
    bool found = next(&c);
    uint64_t since = found ? (uint64_t)column_int(&c, 0) : 0;
    sl_status_t rc = done(&c, err);
    if (rc != SL_OK) {
        return rc;
    }
    return !found ? damaged(s, "it has no revision", err)
           : after_revision < since
               ? sl_err_set(err, SL_CONFLICT, "what changed since revision %" PRIu64 " is not known any more", after_revision)
               : SL_OK;
}

static sl_status_t read_gone(st_store_t *store, uint64_t after_revision, st_gone_fn_t fn, void *ud, sl_err_t *err) {
    sl_status_t answer = check_gone_since(of(store), after_revision, err);
    if (answer != SL_OK) {
        return answer;
    }
    call_t c = call(of(store), SQL_READ_GONE);
    with_int(&c, (int64_t)after_revision);
    while (answer == SL_OK && next(&c)) {
        sl_str_t collection = column(&c, 0), id = column(&c, 1);
        bool fine = collection.data != NULL && id.data != NULL;
        answer = fine ? fn(ud, collection, id, err) : sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_status_t rc = done(&c, err);
    return answer != SL_OK ? answer : rc;
}

/* ---- modules ---------------------------------------------------------------------------------------------------------------------- */

/* *version 0: there is none. */
static sl_status_t same_version(store_t *s, const st_module_t *module, uint32_t *version, sl_err_t *err) {
    call_t c = call(s, SQL_MODULE_SAME);
    with_text(&c, module->name);
    with_text(&c, sl_cstr(module->sha256));
    with_optional(&c, module->meta);
    *version = next(&c) ? (uint32_t)column_int(&c, 0) : 0;
    return done(&c, err);
}

static sl_status_t next_version(store_t *s, sl_str_t name, uint32_t *version, sl_err_t *err) {
    call_t c = call(s, SQL_MODULE_NAME);
    with_text(&c, name);
    sl_status_t rc = run(&c, err);
    if (rc != SL_OK) {
        return rc;
    }
    c = call(s, SQL_MODULE_NEXT);
    with_text(&c, name);
    *version = next(&c) ? (uint32_t)column_int(&c, 0) : 0;
    return done(&c, err);
}

static sl_status_t add_module(store_t *s, const st_module_t *module, sl_str_t bytes, uint32_t version, sl_err_t *err) {
    call_t c = call(s, SQL_BLOB_ADD);
    with_text(&c, sl_cstr(module->sha256));
    with_blob(&c, bytes.data, bytes.len);
    sl_status_t rc = run(&c, err);
    if (rc != SL_OK) {
        return rc;
    }
    c = call(s, SQL_MODULE_ADD);
    with_text(&c, module->name);
    with_int(&c, version);
    with_text(&c, sl_cstr(module->sha256));
    with_int(&c, (int64_t)module->size_bytes);
    with_int(&c, module->created_at_s);
    with_optional(&c, module->meta);
    return run(&c, err);
}

static sl_status_t module_put(st_store_t *store, const st_module_t *module, sl_str_t bytes, uint32_t *version, bool *added, sl_err_t *err) {
    store_t *s = of(store);
    sl_status_t rc = check_open(s, err);
    rc = rc == SL_OK ? same_version(s, module, version, err) : rc;
    if (rc != SL_OK || *version != 0) {
        return rc;
    }
    rc = next_version(s, module->name, version, err);
    rc = rc == SL_OK ? add_module(s, module, bytes, *version, err) : rc;
    *added = rc == SL_OK;
    return rc;
}

/* Version 0: any. *active: it is, or one of them. */
static sl_status_t find_module(store_t *s, sl_str_t name, uint32_t version, bool *active, sl_err_t *err) {
    sl_status_t rc = check_open(s, err);
    if (rc != SL_OK) {
        return rc;
    }
    call_t c = call(s, SQL_MODULE_STATE);
    with_text(&c, name);
    with_int(&c, version);
    bool found = next(&c);
    *active = found && column_int(&c, 0) != 0;
    rc = done(&c, err);
    if (rc == SL_OK && !found) {
        return version == 0 ? sl_err_set(err, SL_NOT_FOUND, "there is no filter \"%.*s\"", SL_FMT(name))
                            : sl_err_set(err, SL_NOT_FOUND, "there is no version %u of filter \"%.*s\"", version, SL_FMT(name));
    }
    return rc;
}

static sl_status_t on_module(store_t *s, sql_t which, sl_str_t name, uint32_t version, sl_err_t *err) {
    call_t c = call(s, which);
    with_text(&c, name);
    if (version != 0) {
        with_int(&c, version);
    }
    return run(&c, err);
}

static sl_status_t module_activate(st_store_t *store, sl_str_t name, uint32_t version, sl_err_t *err) {
    store_t *s = of(store);
    bool active;
    sl_status_t rc = find_module(s, name, version, &active, err);
    rc = rc == SL_OK ? on_module(s, SQL_MODULE_OFF, name, 0, err) : rc;
    return rc == SL_OK && version != 0 ? on_module(s, SQL_MODULE_ON, name, version, err) : rc;
}

static sl_status_t module_erase(st_store_t *store, sl_str_t name, uint32_t version, sl_err_t *err) {
    store_t *s = of(store);
    bool active = false;
    sl_status_t rc = find_module(s, name, version, &active, err);
    if (rc == SL_OK && version != 0 && active) {
        st_fault_set(store, ST_FAULT_REFERENCED, SL_STR_NULL, SL_STR_NULL, SL_STR_NULL);
        return sl_err_set(err, SL_CONFLICT, "version %u of filter \"%.*s\" is the active one", version, SL_FMT(name));
    }
    rc = rc == SL_OK ? on_module(s, version != 0 ? SQL_MODULE_ERASE : SQL_MODULE_ERASE_ALL, name, version, err) : rc;
    return rc == SL_OK ? run_plain(s, SQL_BLOB_SWEEP, err) : rc;
}

static sl_status_t take_module(call_t *c, st_module_t *module, sl_err_t *err) {
    *module = (st_module_t){.name = column(c, 0), .version = (uint32_t)column_int(c, 1)};
    sl_str_t sha256 = column(c, 2);
    if (module->name.data == NULL || sha256.data == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", c->s->path);
    }
    snprintf(module->sha256, sizeof(module->sha256), "%.*s", SL_FMT(sha256));
    module->size_bytes = (uint64_t)column_int(c, 3);
    module->created_at_s = column_int(c, 4);
    module->active = column_int(c, 5) != 0;
    module->meta = column(c, 6);
    return SL_OK;
}

static sl_status_t module_each(st_store_t *store, sl_str_t name, st_module_fn_t fn, void *ud, sl_err_t *err) {
    st_module_t module;
    sl_status_t answer = SL_OK;
    call_t c = call(of(store), name.data != NULL ? SQL_MODULE_LIST_NAME : SQL_MODULE_LIST);
    if (name.data != NULL) {
        with_text(&c, name);
    }
    while (answer == SL_OK && next(&c)) {
        answer = take_module(&c, &module, err);
        answer = answer == SL_OK ? fn(ud, &module) : answer;
    }
    sl_status_t rc = done(&c, err);
    return answer != SL_OK ? answer : rc;
}

static sl_status_t take_bytes(call_t *c, sl_str_t sha256, sl_buf_t *out, sl_err_t *err) {
    uint8_t digest[SL_SHA256_SIZE];
    char text[ST_SHA256_TEXT_SIZE + 1];
    const void *data = sqlite3_column_blob(c->stmt, 0);
    sl_str_t bytes = sl_str(data, data != NULL ? (size_t)sqlite3_column_bytes(c->stmt, 0) : 0);
    if (data == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", c->s->path);
    }
    if (sl_sha256(bytes, digest) != SL_OK) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_hex(digest, sizeof(digest), text);
    if (!sl_str_eq(sl_cstr(text), sha256)) {
        return damaged(c->s, "the bytes of a filter are not what was written", err);
    }
    return sl_buf_append_str(out, bytes) == SL_OK
               ? SL_OK
               : sl_err_set(err, SL_NO_MEMORY, "a filter of %zu bytes, over the limit of %zu, or out of memory", bytes.len, out->max);
}

static sl_status_t module_read(st_store_t *store, sl_str_t sha256, sl_buf_t *out, sl_err_t *err) {
    call_t c = call(of(store), SQL_BLOB_READ);
    with_text(&c, sha256);
    bool found = next(&c);
    sl_status_t answer = found ? take_bytes(&c, sha256, out, err) : SL_OK;
    sl_status_t rc = done(&c, err);
    if (rc == SL_OK && !found) {
        return sl_err_set(err, SL_NOT_FOUND, "there is no filter with the SHA-256 \"%.*s\"", SL_FMT(sha256));
    }
    return answer != SL_OK ? answer : rc;
}

#define OPERATIONS                                                                                                                         \
    .close = close_db, .revision = read_revision, .begin = begin, .commit = commit, .rollback = rollback, .put = put, .erase = erase,      \
    .clear = clear, .read = read_rows, .read_gone = read_gone, .module_put = module_put, .module_activate = module_activate,               \
    .module_erase = module_erase, .module_each = module_each, .module_read = module_read

const st_ops_t st_sqlite_ops = {.name = "sqlite", .open = sqlite_open, OPERATIONS};
const st_ops_t st_memory_ops = {.name = "memory", .open = memory_open, OPERATIONS};
