/*
 * Entities and modules in one SQLite file (the tables: store_sqlite_schema.h). Write-ahead log, so that readers and the writer do not wait
 * for each other; synchronous=FULL, so that what was committed survives a power cut; every write transaction is IMMEDIATE, so that it sees
 * the newest state and never has to be retried half-way.
 *
 * A database comes into being under another name and is renamed when it is complete: the file that others see always has its tables, and
 * an empty file at its path is damage. POSIX drops all locks of a process when it closes any descriptor of the file, so nothing here (or
 * anywhere in a process with a handle) opens the database file by itself.
 */
#include "store_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store_sqlite_schema.h"

#define BUSY_TIMEOUT_MS 5000

/* ---- opening ---------------------------------------------------------------------------------------------------------------- */

static bool has_moved(const st_store_t *store) {
    const sq_store_t *s = (const sq_store_t *)store;
    struct stat now;
    return s->file.st_ino != 0 && (stat(sq_file(s), &now) != 0 || now.st_ino != s->file.st_ino || now.st_dev != s->file.st_dev);
}

/* The last one who closes a database deletes its log, by name: that may be the log of another by now. */
static void close_db(st_store_t *store) {
    sq_store_t *s = sq_of(store);
    if (has_moved(store)) {
        sq_keep_log(s);
    }
    sq_disconnect(s);
    free(s->path);
    free(s);
}

static sl_status_t new_handle(const st_conf_t *conf, const st_ops_t *ops, const char *path, sq_store_t **out, sl_err_t *err) {
    sq_store_t *s = calloc(1, sizeof(*s));
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

static sl_status_t use_log(sq_store_t *s, sl_err_t *err) {
    char mode[32];
    sl_status_t rc = sq_pragma_text(s, "PRAGMA journal_mode = WAL", mode, sizeof(mode), err);
    if (rc == SL_OK && strcmp(mode, "wal") != 0) {
        return sl_err_set(err, SL_IO, "%s: its file system cannot share memory between processes; choose a local one", s->path);
    }
    return rc;
}

static sl_status_t check_owner(sq_store_t *s, int *format, sl_err_t *err) {
    int id = 0;
    sl_status_t rc = sq_pragma_int(s, "PRAGMA application_id", &id, err);
    if (rc == SL_OK && id != ST_SQLITE_APPLICATION_ID) {
        return sl_err_set(err, sq_fault(s, ST_FAULT_DAMAGED),
                          "%s: a database of another program (application id %d); give Sluice a path of its own", s->path, id);
    }
    rc = rc == SL_OK ? sq_pragma_int(s, "PRAGMA user_version", format, err) : rc;
    if (rc == SL_OK && (*format < 0 || *format > ST_SQLITE_FORMAT)) {
        return sl_err_set(err, SL_FAILED,
                          "%s: written by a newer Sluice (format %d, this one knows up to %d): upgrade this one, or use another file",
                          s->path, *format, ST_SQLITE_FORMAT);
    }
    return rc;
}

/* The format is looked at again inside the transaction: another process may have been quicker. */
static sl_status_t migrate_once(sq_store_t *s, bool *current, sl_err_t *err) {
    char text[64];
    int format = 0;
    sl_status_t rc = sq_run_plain(s, SQL_BEGIN_IMMEDIATE, err);
    rc = rc == SL_OK ? sq_pragma_int(s, "PRAGMA user_version", &format, err) : rc;
    *current = format >= ST_SQLITE_FORMAT;
    if (rc == SL_OK && !*current) {
        snprintf(text, sizeof(text), "PRAGMA user_version = %d", format + 1);
        rc = sq_exec(s, st_sqlite_migrations[format], err);
        rc = rc == SL_OK ? sq_exec(s, text, err) : rc;
    }
    rc = rc == SL_OK ? sq_run_plain(s, SQL_COMMIT, err) : rc;
    if (rc != SL_OK && sq_in_transaction(s)) {
        sq_run_plain(s, SQL_ROLLBACK, NULL);
    }
    return rc;
}

static sl_status_t migrate(sq_store_t *s, sl_err_t *err) {
    bool current = false;
    sl_status_t rc = SL_OK;
    while (rc == SL_OK && !current) {
        rc = migrate_once(s, &current, err);
    }
    return rc;
}

static sl_status_t check_whole(sq_store_t *s, sl_err_t *err) {
    char text[256];
    sl_status_t rc = sq_pragma_text(s, "PRAGMA quick_check(1)", text, sizeof(text), err);
    return rc == SL_OK && strcmp(text, "ok") != 0 ? sq_damaged(s, text, err) : rc;
}

static sl_status_t build_tables(sq_store_t *s, sl_err_t *err) {
    char text[64];
    snprintf(text, sizeof(text), "PRAGMA application_id = %d", ST_SQLITE_APPLICATION_ID);
    sl_status_t rc = sq_exec(s, text, err);
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
static sl_status_t publish(sq_store_t *s, const char *tmp, sl_err_t *err) {
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, s->path, RENAME_NOREPLACE) == 0 || errno == EEXIST) {
        return SL_OK;
    }
    if ((errno == EINVAL || errno == ENOSYS) && (link(tmp, s->path) == 0 || errno == EEXIST)) {
        return SL_OK;
    }
    return sq_not_writable(s, "cannot be created", errno, err);
}

/* On a handle of its own: a connection does not follow a rename. */
static sl_status_t fill(const st_conf_t *conf, const char *tmp, sl_err_t *err) {
    sq_store_t *s;
    sl_status_t rc = new_handle(conf, &st_sqlite_ops, conf->path, &s, err);
    if (rc != SL_OK) {
        return rc;
    }
    rc = sq_connect(s, tmp, SQ_READ_WRITE, err);
    rc = rc == SL_OK ? build_tables(s, err) : rc;
    rc = rc == SL_OK ? use_log(s, err) : rc;
    close_db(&s->head);
    return rc;
}

static sl_status_t create(sq_store_t *s, const st_conf_t *conf, sl_err_t *err) {
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
        return system == ENOSPC || system == EDQUOT ? sl_err_set(err, sq_fault(s, ST_FAULT_FULL), "%s: no space left to create it", s->path)
                                                    : sq_not_writable(s, "cannot be created", system, err);
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
static sl_status_t ensure_file(sq_store_t *s, const st_conf_t *conf, sl_err_t *err) {
    char log[PATH_MAX];
    struct stat st;
    int len = snprintf(log, sizeof(log), "%s-wal", s->path);
    if (len < 0 || (size_t)len >= sizeof(log)) {
        return sl_err_set(err, SL_INVALID, "%s: path too long", s->path);
    }
    bool has_log = stat(log, &st) == 0 && st.st_size > 0;
    if (stat(s->path, &st) != 0) {
        if (errno != ENOENT) {
            return sq_not_writable(s, "cannot be looked at", errno, err);
        }
        if (conf->read_only) {
            return sl_err_set(err, SL_NOT_FOUND, "%s: there is no database", s->path);
        }
        if (conf->existing) {
            return sq_moved(s, err);
        }
        return has_log ? sq_damaged(s, "there is its -wal file, but not the database itself", err) : create(s, conf, err);
    }
    if (!S_ISREG(st.st_mode)) {
        return sl_err_set(err, sq_fault(s, ST_FAULT_DAMAGED), "%s: not a regular file", s->path);
    }
    return st.st_size == 0 ? sq_damaged(s, "it is empty", err) : SL_OK;
}

static sl_status_t open_file(sq_store_t *s, const st_conf_t *conf, sl_err_t *err) {
    int format = 0;
    sl_status_t rc = ensure_file(s, conf, err);
    rc = rc == SL_OK ? sq_connect(s, s->path, conf->read_only ? SQ_READ_ONLY : SQ_READ_WRITE, err) : rc;
    rc = rc == SL_OK ? check_owner(s, &format, err) : rc;
    if (rc == SL_OK && !conf->read_only && sq_is_read_only(s)) { /* SQLite is content with reading */
        rc = sq_not_writable(s, "the file may not be written", 0, err);
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
    if (rc == SL_OK && stat(sq_file(s), &s->file) != 0) {
        return sq_moved(s, err);
    }
    return rc == SL_OK && format < ST_SQLITE_FORMAT ? migrate(s, err) : rc;
}

static sl_status_t sqlite_open(const st_conf_t *conf, st_store_t **out, sl_err_t *err) {
    sq_store_t *s;
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
    sq_store_t *s;
    sl_status_t rc = new_handle(conf, &st_memory_ops, "the store in memory", &s, err);
    if (rc != SL_OK) {
        return rc;
    }
    rc = sq_connect(s, ":memory:", SQ_IN_MEMORY, err);
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
    sq_call_t c = sq_call(sq_of(store), SQL_REVISION);
    bool found = sq_next(&c);
    *revision = found ? (uint64_t)sq_column_int(&c, 0) : 0;
    sl_status_t rc = sq_done(&c, err);
    return rc == SL_OK && !found ? sq_damaged(sq_of(store), "it has no revision", err) : rc;
}

static void rollback(st_store_t *store) {
    if (sq_in_transaction(sq_of(store))) { /* some failures have rolled back already */
        sq_run_plain(sq_of(store), SQL_ROLLBACK, NULL);
    }
}

/* The first read takes the snapshot. */
static sl_status_t begin(st_store_t *store, bool writes, uint64_t *revision, sl_err_t *err) {
    sl_status_t rc = sq_run_plain(sq_of(store), writes ? SQL_BEGIN_IMMEDIATE : SQL_BEGIN, err);
    rc = rc == SL_OK && has_moved(store) ? sq_moved(sq_of(store), err) : rc;
    rc = rc == SL_OK ? read_revision(store, revision, err) : rc;
    if (rc != SL_OK) {
        rollback(store);
    }
    return rc;
}

static sl_status_t orphan(sq_store_t *s, sl_err_t *err) {
    sq_call_t c = sq_call(s, SQL_ORPHAN);
    bool found = sq_next(&c);
    if (found) {
        sl_str_t collection = sq_column(&c, 0), id = sq_column(&c, 1), field = sq_column(&c, 2), parents = sq_column(&c, 3),
                 parent = sq_column(&c, 4);
        st_fault_set(&s->head, ST_FAULT_NO_PARENT, collection, id, field);
        st_fault_other(&s->head, parents, parent);
        sl_err_set(err, SL_INVALID, "%.*s %.*s: its %.*s is \"%.*s\", which is not in %.*s", SL_FMT(collection), SL_FMT(id), SL_FMT(field),
                   SL_FMT(parent), SL_FMT(parents));
    }
    sl_status_t rc = sq_done(&c, err);
    return rc != SL_OK ? rc : found ? SL_INVALID : sq_damaged(s, "references that cannot be found", err);
}

static sl_status_t commit_now(sq_store_t *s, bool changed, uint64_t revision, sl_err_t *err) {
    sl_status_t rc = sq_check_open(s, err);
    if (rc == SL_OK && changed) {
        sq_call_t c = sq_call(s, SQL_SET_REVISION);
        sq_int(&c, (int64_t)revision);
        rc = sq_run(&c, err);
        rc = rc == SL_OK ? sq_run_plain(s, SQL_FORGET_GONE, err) : rc;
    }
    if (rc != SL_OK) {
        return rc;
    }
    rc = sq_run_plain(s, SQL_COMMIT, err);
    return rc != SL_OK && sq_is_missing_parent(s) ? orphan(s, err) : rc;
}

static sl_status_t commit(st_store_t *store, bool changed, uint64_t revision, sl_err_t *err) {
    sl_status_t rc = commit_now(sq_of(store), changed, revision, err);
    if (rc != SL_OK) {
        rollback(store);
    }
    return rc;
}

#define OPERATIONS                                                                                                                         \
    .close = close_db, .moved = has_moved, .revision = read_revision, .begin = begin, .commit = commit, .rollback = rollback,              \
    .put = sq_entity_put, .erase = sq_entity_erase, .clear = sq_entity_clear, .read = sq_entity_read, .read_gone = sq_entity_read_gone,    \
    .module_put = sq_module_put, .module_activate = sq_module_activate, .module_erase = sq_module_erase, .module_each = sq_module_each,    \
    .module_read = sq_module_read

const st_ops_t st_sqlite_ops = {.name = "sqlite", .open = sqlite_open, OPERATIONS};
const st_ops_t st_memory_ops = {.name = "memory", .open = memory_open, OPERATIONS};
