/*
 * What a kind of store gives to store.c, private to src/store. store.c owns JSON, the entity tables, the rules of transactions and the
 * statuses of wrong use; a kind keeps rows, atomically, and says which rule a row would break. Kinds embed the head below as first member.
 */
#ifndef ST_STORE_OPS_H
#define ST_STORE_OPS_H

#include <sys/types.h>

#include "store.h"

typedef struct st_ops_s st_ops_t;

struct st_tx_s {
    st_store_t *store;
    uint64_t revision; /* set by `begin` */
    bool open, writes;
    bool changed; /* something was written: commit makes a new revision */
    bool broken;  /* a write failed half-way: only rollback is left */
};

struct st_store_s {
    const st_ops_t *ops;
    pid_t pid;
    bool read_only;
    st_fault_t fault;
    st_tx_t tx;
    sl_buf_t json, key; /* of the row that is being put */
};

#define ST_ROW_REFS_MAX 8
#define ST_ROW_UNIQUES_MAX 8

typedef struct {
    sl_str_t field, collection, id;
    bool cascade;
} st_ref_t;

typedef struct {
    sl_str_t field, value;
} st_unique_t;

/* An entity as a kind keeps it; all borrowed. */
typedef struct {
    sl_str_t collection, id, json;
    st_ref_t refs[ST_ROW_REFS_MAX];
    size_t n_refs;
    st_unique_t uniques[ST_ROW_UNIQUES_MAX];
    size_t n_uniques;
    const json_t *tags; /* an array of texts, each once; or NULL, or null */
} st_row_t;

/* A row as it is read; collection and id are NUL-terminated. */
typedef struct {
    sl_str_t collection, id, json;
    uint64_t revision;
} st_entity_t;

typedef sl_status_t (*st_entity_fn_t)(void *ud, const st_entity_t *entity, sl_err_t *err); /* not SL_OK: ends the read, is its answer */

/* Which rows to read; empty members say nothing. */
typedef struct {
    sl_str_t collection;   /* empty: all rows, in the order of creation */
    sl_str_t id;           /* this one */
    sl_str_t field, value; /* the one with this unique value */
    const st_page_t *page; /* in id order */
    sl_str_t parents;      /* the collection that page->parent_field refers to */
    bool since;            /* all rows that were put after `after_revision` */
    uint64_t after_revision;
} st_query_t;

typedef sl_status_t (*st_gone_fn_t)(void *ud, sl_str_t collection, sl_str_t id, sl_err_t *err);

struct st_ops_s {
    const char *name;
    sl_status_t (*open)(const st_conf_t *conf, st_store_t **out, sl_err_t *err);
    void (*close)(st_store_t *store);
    bool (*moved)(const st_store_t *store);
    sl_status_t (*revision)(st_store_t *store, uint64_t *revision, sl_err_t *err);

    sl_status_t (*begin)(st_store_t *store, bool writes, uint64_t *revision, sl_err_t *err);
    /* Ends the transaction whatever it answers. `revision`: the new one, or that of before when nothing was changed. */
    sl_status_t (*commit)(st_store_t *store, bool changed, uint64_t revision, sl_err_t *err);
    void (*rollback)(st_store_t *store);

    /* SL_CONFLICT and SL_NOT_FOUND: found out before anything was written. */
    sl_status_t (*put)(st_store_t *store, const st_row_t *row, sl_err_t *err);
    sl_status_t (*erase)(st_store_t *store, sl_str_t collection, sl_str_t id, sl_err_t *err);
    sl_status_t (*clear)(st_store_t *store, sl_err_t *err);
    sl_status_t (*read)(st_store_t *store, const st_query_t *query, st_entity_fn_t fn, void *ud, sl_err_t *err); /* no row: SL_OK */
    /* What was deleted after a revision; SL_CONFLICT: that is too long ago to know. */
    sl_status_t (*read_gone)(st_store_t *store, uint64_t after_revision, st_gone_fn_t fn, void *ud, sl_err_t *err);

    /* *added false: there was such a version already. */
    sl_status_t (*module_put)(st_store_t *store, const st_module_t *module, sl_str_t bytes, uint32_t *version, bool *added, sl_err_t *err);
    sl_status_t (*module_activate)(st_store_t *store, sl_str_t name, uint32_t version, sl_err_t *err);
    sl_status_t (*module_erase)(st_store_t *store, sl_str_t name, uint32_t version, sl_err_t *err);
    sl_status_t (*module_each)(st_store_t *store, sl_str_t name, st_module_fn_t fn, void *ud, sl_err_t *err);
    sl_status_t (*module_read)(st_store_t *store, sl_str_t sha256, sl_buf_t *out, sl_err_t *err);
};

/* A kind's `open` calls this first thing on its zeroed memory. */
void st_store_head_init(st_store_t *store, const st_ops_t *ops, const st_conf_t *conf);

/* Fills the row's references and unique values from the entity tables. `json` and `key` are scratch that the row borrows from. */
sl_status_t st_row_build(sl_str_t collection, const json_t *entity, sl_buf_t *json, sl_buf_t *key, st_row_t *row, sl_err_t *err);

/* Records why, in the words of st_fault_t; texts may be empty and are cut to fit. */
void st_fault_set(st_store_t *store, st_fault_kind_t kind, sl_str_t collection, sl_str_t id, sl_str_t field);
void st_fault_other(st_store_t *store, sl_str_t collection, sl_str_t id);

extern const st_ops_t st_sqlite_ops, st_memory_ops;

#endif
