/*
 * The store: where entities and uploaded filter modules survive a restart, a kill -9 and a power cut. One interface, several kinds behind
 * it: "sqlite" (one file, opened by as many processes as there are) and "memory" (SQLite without a file, for tests).
 *
 *   store (handle) > transaction (a snapshot, or the only writer) > entities by collection and id | modules by name and version
 *
 * Every call may block (disk, other writers): the CLI and threads only, never an event loop. A handle is used by one thread at a time and
 * dies with the process that opened it: open after fork. A handle has at most one transaction at a time.
 *
 * What the store guards, from the entity tables of gw_schema.h: unique fields and cache keys (when an entity is put), references to
 * nothing (when the transaction is committed, so that a batch may come in any order), and what refers to a deleted entity: it goes too
 * (cascade) or forbids the deletion. Everything else was checked by the validator; entities here are canonical (gw_config.h).
 */
#ifndef ST_STORE_H
#define ST_STORE_H

#include <jansson.h>

#include "sl_buf.h"
#include "sl_digest.h"

typedef struct st_store_s st_store_t;
typedef struct st_tx_s st_tx_t;

typedef struct {
    const char *kind;         /* "sqlite" (also NULL), "memory" */
    const char *path;         /* of the database; not for "memory" */
    uint32_t busy_timeout_ms; /* how long to wait for other writers; 0: 5000 */
    bool read_only;           /* creates and changes nothing; write transactions are refused */
    bool unchecked;           /* skips the integrity check of the whole file: another handle has just made it */
    bool existing;            /* creates nothing: without a file it is SL_IO, as it was there before */
} st_conf_t;

/*
 * Opens, and creates (mode 0600, atomically) what does not exist; brings an older format up to date. Statuses of every function:
 *   SL_CONFLICT   another writer was busy for too long, or changed what was expected to be unchanged (st_fault tells which)
 *   SL_NOT_FOUND  no such entity, module...; opening: no file and read_only, or no such kind of store
 *   SL_INVALID    what was given is wrong: no such collection, no id, a write in a read transaction
 *   SL_IO         disk full, damaged, not writable, no database: the text says what to do
 *   SL_NO_MEMORY, SL_FAILED (written by a newer Sluice; used after a fork; a bug of ours)
 */
sl_status_t st_store_open(const st_conf_t *conf, st_store_t **out, sl_err_t *err);
void st_store_close(st_store_t *store); /* rolls an open transaction back; NULL is fine; in a forked child it does nothing */

/*
 * Whether the file at the path is another one than that of this handle, or none: somebody moved it away while it was in use. Transactions
 * of such a handle are refused, as what they write would be gone with the handle; open another.
 */
bool st_store_moved(const st_store_t *store);

/* Grows by one with every transaction that changed something. Cheap: for watching what other processes do. */
sl_status_t st_store_revision(st_store_t *store, uint64_t *revision, sl_err_t *err);

/* Why the last call on this handle failed, for those who answer with a code; valid until the next call. */
typedef enum {
    ST_FAULT_NONE,       /* it did not fail, or the status says all */
    ST_FAULT_STALE,      /* SL_CONFLICT: the revision is not the expected one */
    ST_FAULT_BUSY,       /* SL_CONFLICT: waited for other writers in vain; trying again helps */
    ST_FAULT_DUPLICATE,  /* SL_CONFLICT: `field` has a value that entity `other` of the collection has */
    ST_FAULT_REFERENCED, /* SL_CONFLICT: `other` refers to the entity, or to one that would be deleted with it */
    ST_FAULT_NO_PARENT,  /* SL_INVALID: `field` refers to `other`, which does not exist */
    ST_FAULT_FULL,       /* SL_IO: no space left */
    ST_FAULT_READ_ONLY,  /* SL_IO: file or folder may not be written */
    ST_FAULT_DAMAGED     /* SL_IO: not (any more) a database of Sluice */
} st_fault_kind_t;

typedef struct {
    st_fault_kind_t kind;
    /* The entity that was put or deleted, and the other one; empty where they say nothing. */
    char collection[32], id[SL_UUID_TEXT_SIZE + 1];
    char field[64]; /* "name", or the fields of a cache key: "route,service" */
    char other_collection[32], other_id[SL_UUID_TEXT_SIZE + 1];
} st_fault_t;

const st_fault_t *st_store_fault(const st_store_t *store);

/* ---- transactions ------------------------------------------------------------------------------------------------------- */

typedef enum { ST_READ, ST_WRITE } st_mode_t;
#define ST_ANY_REVISION UINT64_MAX

/*
 * ST_READ: a snapshot; neither waits for writers nor holds them up. ST_WRITE: waits until it is the only writer, and sees the newest state.
 * `expected`: begin only when the store is at this revision, else SL_CONFLICT. *tx belongs to the handle and ends with commit or rollback.
 */
sl_status_t st_tx_begin(st_store_t *store, st_mode_t mode, uint64_t expected, st_tx_t **tx, sl_err_t *err);
uint64_t st_tx_revision(const st_tx_t *tx); /* of the state that the transaction began with */
/*
 * Ends the transaction in any case. SL_OK: all of it is on the disk, whatever happens next; *revision (may be NULL) is the new one. Else
 * none of it is. SL_INVALID: a reference to nothing.
 */
sl_status_t st_tx_commit(st_tx_t *tx, uint64_t *revision, sl_err_t *err);
void st_tx_rollback(st_tx_t *tx); /* NULL is fine */

/*
 * Inserts, or replaces the entity of the same id, which keeps its place in the order. `entity` is canonical, with a lower-case id.
 * After SL_CONFLICT, SL_INVALID or SL_NOT_FOUND nothing was done and the transaction goes on; after anything else it can only be rolled
 * back. Values of unique fields are free again as soon as their owner is deleted or replaced.
 */
sl_status_t st_tx_put(st_tx_t *tx, sl_str_t collection, const json_t *entity, sl_err_t *err);
/* Deletes with all that cascades. */
sl_status_t st_tx_delete(st_tx_t *tx, sl_str_t collection, sl_str_t id, sl_err_t *err);
/* Deletes all entities, no modules. */
sl_status_t st_tx_clear(st_tx_t *tx, sl_err_t *err);

/* New reference. `revision` (may be NULL): the one that the last put of the entity made, or will make. Ids in either case. */
sl_status_t st_tx_get(st_tx_t *tx, sl_str_t collection, sl_str_t id, json_t **entity, uint64_t *revision, sl_err_t *err);
/* By the text of a unique field, as "name" of a service, or by the id that a unique reference holds. */
sl_status_t st_tx_find(st_tx_t *tx, sl_str_t collection, sl_str_t field, sl_str_t value, json_t **entity, uint64_t *revision,
                       sl_err_t *err);

typedef struct {
    sl_str_t after; /* id; empty: from the beginning */
    size_t limit;   /* entities; at least 1 */
    /* Only those whose reference `parent_field` ("service") is `parent_id`; empty: all. */
    sl_str_t parent_field, parent_id;
    sl_str_t tag; /* only those with this tag; empty: all. Not together with a parent */
} st_page_t;
/* *list: array in id order, new reference. *more: there is another page, after the id of the last. */
sl_status_t st_tx_list(st_tx_t *tx, sl_str_t collection, const st_page_t *page, json_t **list, bool *more, sl_err_t *err);
/* Everything, in the shape of gw_config.h, in the order in which it was created; collections without entities are left out. */
sl_status_t st_tx_load(st_tx_t *tx, json_t **entities, sl_err_t *err);

/*
 * What has changed since a revision, in the shape of gw_plan_update(): *changed maps, *gone arrays of ids by collection. An id may be in
 * both: it was deleted and made again. New references. SL_CONFLICT: it is too long ago, or no revision of this store: st_tx_load() knows
 * all.
 */
sl_status_t st_tx_changes(st_tx_t *tx, uint64_t since, json_t **changed, json_t **gone, sl_err_t *err);

/* ---- filter modules ------------------------------------------------------------------------------------------------------- */

#define ST_MODULE_NAME_MAX 255
#define ST_MODULE_BYTES_MAX ((size_t)256 << 20)
#define ST_SHA256_TEXT_SIZE (2 * SL_SHA256_SIZE)

/* One version of a module. Texts are borrowed for the call that shows it. */
typedef struct {
    sl_str_t name;
    uint32_t version;                     /* 1, 2, 3...; a number is never used again */
    char sha256[ST_SHA256_TEXT_SIZE + 1]; /* of the bytes, lower case */
    uint64_t size_bytes;
    int64_t created_at_s;
    bool active;   /* one version of a name, or none */
    sl_str_t meta; /* what came with it: the JSON of name.meta.json; {NULL,0}: none */
} st_module_t;

/*
 * Adds a version, not active. From `module` are taken: name, created_at_s, meta. *version: its number; that of the version there is, when
 * one of this name has the same bytes and meta. Equal bytes are kept once.
 */
sl_status_t st_module_put(st_tx_t *tx, const st_module_t *module, sl_str_t bytes, uint32_t *version, sl_err_t *err);
sl_status_t st_module_activate(st_tx_t *tx, sl_str_t name, uint32_t version, sl_err_t *err); /* 0: none of them */
/* One version (SL_CONFLICT with ST_FAULT_REFERENCED: it is active), or with 0 all of the name. Bytes go with their last version. */
sl_status_t st_module_delete(st_tx_t *tx, sl_str_t name, uint32_t version, sl_err_t *err);

typedef sl_status_t (*st_module_fn_t)(void *ud, const st_module_t *module); /* anything but SL_OK ends the walk and is its answer */
/* By name, then version. name {NULL,0}: of all. None is SL_OK. `fn` may not use the store. */
sl_status_t st_module_each(st_tx_t *tx, sl_str_t name, st_module_fn_t fn, void *ud, sl_err_t *err);
/* Appends the bytes, after comparing them with their digest. SL_NO_MEMORY: over the ceiling of `out`. */
sl_status_t st_module_read(st_tx_t *tx, sl_str_t sha256, sl_buf_t *out, sl_err_t *err);

#endif
