/* The kinds of store, and what is the same for all of them: rules of transactions, JSON, statuses of wrong use. */
#include "store.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "gw_schema.h"
#include "store_ops.h"

#define ENTITY_BYTES_MAX ((size_t)64 << 20)

/* The first one is the default. */
static const st_ops_t *const kinds[] = {&st_sqlite_ops, &st_memory_ops};
enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* ---- faults ------------------------------------------------------------------------------------------------------------- */

static void copy_text(char *out, size_t size, sl_str_t text) {
    snprintf(out, size, "%.*s", SL_FMT(text));
}

void st_fault_set(st_store_t *store, st_fault_kind_t kind, sl_str_t collection, sl_str_t id, sl_str_t field) {
    memset(&store->fault, 0, sizeof(store->fault));
    store->fault.kind = kind;
    copy_text(store->fault.collection, sizeof(store->fault.collection), collection);
    copy_text(store->fault.id, sizeof(store->fault.id), id);
    copy_text(store->fault.field, sizeof(store->fault.field), field);
}

void st_fault_other(st_store_t *store, sl_str_t collection, sl_str_t id) {
    copy_text(store->fault.other_collection, sizeof(store->fault.other_collection), collection);
    copy_text(store->fault.other_id, sizeof(store->fault.other_id), id);
}

static void forget_fault(st_store_t *store) {
    st_fault_set(store, ST_FAULT_NONE, SL_STR_NULL, SL_STR_NULL, SL_STR_NULL);
}

const st_fault_t *st_store_fault(const st_store_t *store) {
    return &store->fault;
}

/* ---- handles ------------------------------------------------------------------------------------------------------------ */

void st_store_head_init(st_store_t *store, const st_ops_t *ops, const st_conf_t *conf) {
    store->ops = ops;
    store->pid = getpid();
    store->read_only = conf->read_only;
    sl_buf_init(&store->json, ENTITY_BYTES_MAX);
    sl_buf_init(&store->key, ENTITY_BYTES_MAX);
}

sl_status_t st_store_open(const st_conf_t *conf, st_store_t **out, sl_err_t *err) {
    *out = NULL;
    for (size_t i = 0; i < N_KINDS; i++) {
        if (conf->kind == NULL || strcmp(conf->kind, kinds[i]->name) == 0) {
            return kinds[i]->open(conf, out, err);
        }
    }
    return sl_err_set(err, SL_NOT_FOUND, "no store is called \"%s\"; there are: sqlite, memory", conf->kind);
}

/* A child shares its parent's file descriptors and would undo the parent's locks: it keeps its hands off. */
static bool is_ours(const st_store_t *store) {
    return store->pid == getpid();
}

void st_store_close(st_store_t *store) {
    if (store == NULL || !is_ours(store)) {
        return;
    }
    st_tx_rollback(store->tx.open ? &store->tx : NULL);
    sl_buf_deinit(&store->json);
    sl_buf_deinit(&store->key);
    store->ops->close(store);
}

static sl_status_t check_handle(st_store_t *store, sl_err_t *err) {
    forget_fault(store);
    return is_ours(store) ? SL_OK
                          : sl_err_set(err, SL_FAILED, "the store was opened by process %ld: open it after the fork", (long)store->pid);
}

bool st_store_moved(const st_store_t *store) {
    return store->ops->moved(store);
}

sl_status_t st_store_revision(st_store_t *store, uint64_t *revision, sl_err_t *err) {
    sl_status_t rc = check_handle(store, err);
    return rc == SL_OK ? store->ops->revision(store, revision, err) : rc;
}

/* ---- transactions --------------------------------------------------------------------------------------------------------- */

sl_status_t st_tx_begin(st_store_t *store, st_mode_t mode, uint64_t expected, st_tx_t **tx, sl_err_t *err) {
    *tx = NULL;
    sl_status_t rc = check_handle(store, err);
    if (rc != SL_OK) {
        return rc;
    }
    if (store->tx.open) {
        return sl_err_set(err, SL_FAILED, "the handle has a transaction already");
    }
    if (mode == ST_WRITE && store->read_only) {
        return sl_err_set(err, SL_INVALID, "the store was opened for reading only");
    }
    uint64_t revision = 0;
    rc = store->ops->begin(store, mode == ST_WRITE, &revision, err);
    if (rc != SL_OK) {
        return rc;
    }
    if (expected != ST_ANY_REVISION && expected != revision) {
        store->ops->rollback(store);
        st_fault_set(store, ST_FAULT_STALE, SL_STR_NULL, SL_STR_NULL, SL_STR_NULL);
        return sl_err_set(err, SL_CONFLICT, "expected revision %" PRIu64 ", the store is at %" PRIu64 ": read it again", expected,
                          revision);
    }
    store->tx = (st_tx_t){.store = store, .revision = revision, .open = true, .writes = mode == ST_WRITE};
    *tx = &store->tx;
    return SL_OK;
}

uint64_t st_tx_revision(const st_tx_t *tx) {
    return tx->revision;
}

sl_status_t st_tx_commit(st_tx_t *tx, uint64_t *revision, sl_err_t *err) {
    st_store_t *store = tx->store;
    forget_fault(store);
    if (tx->broken) {
        st_tx_rollback(tx);
        return sl_err_set(err, SL_FAILED, "an operation of the transaction failed: nothing of it was kept");
    }
    uint64_t next = tx->revision + (tx->changed ? 1 : 0);
    tx->open = false;
    sl_status_t rc = store->ops->commit(store, tx->changed, next, err);
    if (rc == SL_OK && revision != NULL) {
        *revision = next;
    }
    return rc;
}

void st_tx_rollback(st_tx_t *tx) {
    if (tx != NULL && tx->open) {
        tx->open = false;
        tx->store->ops->rollback(tx->store);
    }
}

static sl_status_t check_writes(st_tx_t *tx, sl_err_t *err) {
    forget_fault(tx->store);
    if (!tx->writes) {
        return sl_err_set(err, SL_INVALID, "the transaction is for reading only");
    }
    return tx->broken ? sl_err_set(err, SL_FAILED, "an earlier operation of the transaction failed: roll it back") : SL_OK;
}

/* A kind answers these three before it writes anything; after any other failure a part may have been written. */
static sl_status_t written(st_tx_t *tx, sl_status_t rc) {
    tx->changed = tx->changed || rc == SL_OK;
    tx->broken = tx->broken || (rc != SL_OK && rc != SL_CONFLICT && rc != SL_INVALID && rc != SL_NOT_FOUND);
    return rc;
}

sl_status_t st_tx_put(st_tx_t *tx, sl_str_t collection, const json_t *entity, sl_err_t *err) {
    st_row_t row;
    st_store_t *store = tx->store;
    sl_status_t rc = check_writes(tx, err);
    if (rc != SL_OK) {
        return rc;
    }
    rc = st_row_build(collection, entity, &store->json, &store->key, &row, err);
    return written(tx, rc == SL_OK ? store->ops->put(store, &row, err) : rc);
}

/* Ids are kept in lower case. false: no id, so nothing has it. */
static bool fold_id(sl_str_t id, char out[SL_UUID_TEXT_SIZE + 1]) {
    if (!sl_uuid_valid(id)) {
        return false;
    }
    for (size_t i = 0; i < id.len; i++) {
        out[i] = (char)(id.data[i] >= 'A' && id.data[i] <= 'F' ? id.data[i] | 0x20 : id.data[i]);
    }
    out[id.len] = '\0';
    return true;
}

static sl_status_t not_found(sl_str_t collection, sl_str_t what, sl_err_t *err) {
    return sl_err_set(err, SL_NOT_FOUND, "%.*s: there is no \"%.*s\"", SL_FMT(collection), SL_FMT(what));
}

sl_status_t st_tx_delete(st_tx_t *tx, sl_str_t collection, sl_str_t id, sl_err_t *err) {
    char folded[SL_UUID_TEXT_SIZE + 1];
    sl_status_t rc = check_writes(tx, err);
    if (rc != SL_OK) {
        return rc;
    }
    if (!fold_id(id, folded)) {
        return not_found(collection, id, err);
    }
    return written(tx, tx->store->ops->erase(tx->store, collection, sl_cstr(folded), err));
}

sl_status_t st_tx_clear(st_tx_t *tx, sl_err_t *err) {
    sl_status_t rc = check_writes(tx, err);
    return rc == SL_OK ? written(tx, tx->store->ops->clear(tx->store, err)) : rc;
}

/* ---- reading -------------------------------------------------------------------------------------------------------------- */

static sl_status_t damaged_row(st_store_t *store, const st_entity_t *row, const char *what, sl_err_t *err) {
    st_fault_set(store, ST_FAULT_DAMAGED, row->collection, row->id, SL_STR_NULL);
    return sl_err_set(err, SL_IO, "the store is damaged: %.*s %.*s %s. Restore a backup or import an exported configuration",
                      SL_FMT(row->collection), SL_FMT(row->id), what);
}

/* NUL was allowed on the way in, if the validator let it pass: what was written can be read. */
static sl_status_t parse_row(st_store_t *store, const st_entity_t *row, json_t **out, sl_err_t *err) {
    json_error_t error;
    *out = json_loadb(row->json.data != NULL ? row->json.data : "", row->json.len, JSON_ALLOW_NUL, &error);
    if (*out == NULL) {
        return json_error_code(&error) == json_error_out_of_memory ? sl_err_set(err, SL_NO_MEMORY, "out of memory")
                                                                   : damaged_row(store, row, "is no JSON", err);
    }
    const char *id = json_string_value(json_object_get(*out, "id"));
    if (id != NULL && sl_str_eq(sl_cstr(id), row->id) && gw_entity_find(row->collection) != NULL) {
        return SL_OK;
    }
    json_decref(*out);
    *out = NULL;
    return damaged_row(store, row, "holds another entity", err);
}

typedef struct {
    st_store_t *store;
    json_t *entity;
    uint64_t revision;
} one_t;

static sl_status_t take_one(void *ud, const st_entity_t *row, sl_err_t *err) {
    one_t *one = ud;
    one->revision = row->revision;
    return one->entity == NULL ? parse_row(one->store, row, &one->entity, err) : SL_OK;
}

static sl_status_t read_one(st_tx_t *tx, const st_query_t *query, sl_str_t what, json_t **entity, uint64_t *revision, sl_err_t *err) {
    one_t one = {.store = tx->store};
    sl_status_t rc = tx->store->ops->read(tx->store, query, take_one, &one, err);
    if (rc == SL_OK && one.entity == NULL) {
        rc = not_found(query->collection, what, err);
    }
    if (rc != SL_OK) {
        json_decref(one.entity);
        return rc;
    }
    *entity = one.entity;
    if (revision != NULL) {
        *revision = one.revision;
    }
    return SL_OK;
}

sl_status_t st_tx_get(st_tx_t *tx, sl_str_t collection, sl_str_t id, json_t **entity, uint64_t *revision, sl_err_t *err) {
    char folded[SL_UUID_TEXT_SIZE + 1];
    *entity = NULL;
    forget_fault(tx->store);
    if (collection.len == 0 || !fold_id(id, folded)) {
        return not_found(collection, id, err);
    }
    st_query_t query = {.collection = collection, .id = sl_cstr(folded)};
    return read_one(tx, &query, id, entity, revision, err);
}

sl_status_t st_tx_find(st_tx_t *tx, sl_str_t collection, sl_str_t field, sl_str_t value, json_t **entity, uint64_t *revision,
                       sl_err_t *err) {
    *entity = NULL;
    forget_fault(tx->store);
    if (collection.len == 0 || field.len == 0) {
        return not_found(collection, value, err);
    }
    st_query_t query = {.collection = collection, .field = field, .value = value};
    return read_one(tx, &query, value, entity, revision, err);
}

typedef struct {
    st_store_t *store;
    json_t *list;
    size_t limit;
    bool more;
} listing_t;

static sl_status_t take_listed(void *ud, const st_entity_t *row, sl_err_t *err) {
    listing_t *listing = ud;
    json_t *entity;
    if (json_array_size(listing->list) == listing->limit) {
        listing->more = true;
        return SL_OK;
    }
    sl_status_t rc = parse_row(listing->store, row, &entity, err);
    if (rc == SL_OK && json_array_append_new(listing->list, entity) != 0) {
        rc = sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    return rc;
}

/* What the reference `field` of the collection refers to, NULL: there is no such reference. */
static const char *parents_of(const gw_entity_t *kind, sl_str_t field) {
    for (const gw_field_t *f = kind->fields; f->name != NULL; f++) {
        if (f->type == GW_TYPE_FOREIGN && sl_str_eq(field, sl_cstr(f->name))) {
            return f->reference;
        }
    }
    return NULL;
}

/* The ids of the page, folded, and one row more than asked for: it tells whether there is another page. */
typedef struct {
    char after[SL_UUID_TEXT_SIZE + 1], parent[SL_UUID_TEXT_SIZE + 1];
    st_page_t page;
    st_query_t query;
} list_query_t;

static sl_status_t build_list_query(sl_str_t collection, const st_page_t *page, list_query_t *q, sl_err_t *err) {
    const gw_entity_t *kind = gw_entity_find(collection);
    bool children = page->parent_field.len > 0;
    if (kind == NULL || page->limit == 0 || page->limit >= INT32_MAX) {
        return sl_err_set(err, SL_INVALID, "a list is of a collection, and a page of it has 1 to %d entities", INT32_MAX - 1);
    }
    if ((page->after.len > 0 && !fold_id(page->after, q->after)) || (children && !fold_id(page->parent_id, q->parent))) {
        return sl_err_set(err, SL_INVALID, "a page begins after an id, and a parent is an id");
    }
    if (children && page->tag.len > 0) {
        return sl_err_set(err, SL_INVALID, "a list is of children or by a tag");
    }
    q->page = (st_page_t){.limit = page->limit + 1, .parent_field = page->parent_field, .tag = page->tag};
    q->page.after = page->after.len > 0 ? sl_cstr(q->after) : SL_STR_NULL;
    q->page.parent_id = children ? sl_cstr(q->parent) : SL_STR_NULL;
    q->query = (st_query_t){.collection = collection, .page = &q->page};
    q->query.parents = children ? sl_cstr(parents_of(kind, page->parent_field)) : SL_STR_NULL;
    if (children && q->query.parents.len == 0) {
        return sl_err_set(err, SL_INVALID, "%s have no reference \"%.*s\"", kind->name, SL_FMT(page->parent_field));
    }
    return SL_OK;
}

sl_status_t st_tx_list(st_tx_t *tx, sl_str_t collection, const st_page_t *page, json_t **list, bool *more, sl_err_t *err) {
    list_query_t q;
    *list = NULL;
    *more = false;
    forget_fault(tx->store);
    sl_status_t rc = build_list_query(collection, page, &q, err);
    if (rc != SL_OK) {
        return rc;
    }
    listing_t listing = {.store = tx->store, .list = json_array(), .limit = page->limit};
    if (listing.list == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    rc = tx->store->ops->read(tx->store, &q.query, take_listed, &listing, err);
    if (rc != SL_OK) {
        json_decref(listing.list);
        return rc;
    }
    *list = listing.list;
    *more = listing.more;
    return SL_OK;
}

typedef struct {
    st_store_t *store;
    json_t *all;
} load_t;

static sl_status_t take_loaded(void *ud, const st_entity_t *row, sl_err_t *err) {
    load_t *load = ud;
    json_t *entity, *collection;
    sl_status_t rc = parse_row(load->store, row, &entity, err);
    if (rc != SL_OK) {
        return rc;
    }
    collection = json_object_get(load->all, row->collection.data);
    if (collection == NULL) {
        collection = json_object();
        if (json_object_set_new(load->all, row->collection.data, collection) != 0) {
            json_decref(entity);
            return sl_err_set(err, SL_NO_MEMORY, "out of memory");
        }
    }
    return json_object_set_new(collection, row->id.data, entity) == 0 ? SL_OK : sl_err_set(err, SL_NO_MEMORY, "out of memory");
}

sl_status_t st_tx_load(st_tx_t *tx, json_t **entities, sl_err_t *err) {
    st_query_t query = {.collection = SL_STR_NULL};
    load_t load = {.store = tx->store, .all = json_object()};
    *entities = NULL;
    forget_fault(tx->store);
    if (load.all == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_status_t rc = tx->store->ops->read(tx->store, &query, take_loaded, &load, err);
    if (rc != SL_OK) {
        json_decref(load.all);
        return rc;
    }
    *entities = load.all;
    return SL_OK;
}

static sl_status_t no_memory(sl_err_t *err) {
    return sl_err_set(err, SL_NO_MEMORY, "out of memory");
}

static sl_status_t take_gone(void *ud, sl_str_t collection, sl_str_t id, sl_err_t *err) {
    json_t *all = ud, *list = json_object_get(all, collection.data);
    if (list == NULL) {
        list = json_array();
        if (json_object_set_new(all, collection.data, list) != 0) {
            return no_memory(err);
        }
    }
    return json_array_append_new(list, json_stringn(id.data, id.len)) == 0 ? SL_OK : no_memory(err);
}

sl_status_t st_tx_changes(st_tx_t *tx, uint64_t since, json_t **changed, json_t **gone, sl_err_t *err) {
    st_query_t query = {.since = true, .after_revision = since};
    load_t load = {.store = tx->store, .all = json_object()};
    json_t *lost = json_object();
    *changed = *gone = NULL;
    forget_fault(tx->store);
    sl_status_t rc = load.all != NULL && lost != NULL ? SL_OK : no_memory(err);
    if (rc == SL_OK && (since > tx->revision || tx->changed)) {
        rc = sl_err_set(err, SL_CONFLICT, "revision %" PRIu64 " is none of this store", since);
    }
    rc = rc == SL_OK ? tx->store->ops->read_gone(tx->store, since, take_gone, lost, err) : rc;
    rc = rc == SL_OK ? tx->store->ops->read(tx->store, &query, take_loaded, &load, err) : rc;
    if (rc != SL_OK) {
        json_decref(load.all);
        json_decref(lost);
        return rc;
    }
    *changed = load.all;
    *gone = lost;
    return SL_OK;
}

/* ---- modules ---------------------------------------------------------------------------------------------------------------- */

static sl_status_t check_module(const st_module_t *module, sl_str_t bytes, sl_err_t *err) {
    size_t bad_at;
    sl_str_t name = module->name;
    if (name.len == 0 || name.len > ST_MODULE_NAME_MAX || memchr(name.data, '\0', name.len) != NULL || !sl_utf8_valid(name, &bad_at)) {
        return sl_err_set(err, SL_INVALID, "the name of a filter has 1 to %d bytes of UTF-8", ST_MODULE_NAME_MAX);
    }
    if (module->meta.len > 0 && !sl_utf8_valid(module->meta, &bad_at)) {
        return sl_err_set(err, SL_INVALID, "filter %.*s: invalid UTF-8 in its meta.json at byte %zu", SL_FMT(name), bad_at);
    }
    if (bytes.len == 0 || bytes.len > ST_MODULE_BYTES_MAX) {
        return sl_err_set(err, SL_INVALID, "filter %.*s: %zu bytes; a module has 1 to %zu", SL_FMT(name), bytes.len, ST_MODULE_BYTES_MAX);
    }
    return SL_OK;
}

sl_status_t st_module_put(st_tx_t *tx, const st_module_t *module, sl_str_t bytes, uint32_t *version, sl_err_t *err) {
    uint8_t digest[SL_SHA256_SIZE];
    st_module_t added = *module;
    bool is_new = false;
    sl_status_t rc = check_writes(tx, err);
    rc = rc == SL_OK ? check_module(module, bytes, err) : rc;
    if (rc != SL_OK) {
        return rc;
    }
    if (sl_sha256(bytes, digest) != SL_OK) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_hex(digest, sizeof(digest), added.sha256);
    added.size_bytes = bytes.len;
    bool changed_before = tx->changed;
    rc = written(tx, tx->store->ops->module_put(tx->store, &added, bytes, version, &is_new, err));
    tx->changed = changed_before || is_new;
    return rc;
}

sl_status_t st_module_activate(st_tx_t *tx, sl_str_t name, uint32_t version, sl_err_t *err) {
    sl_status_t rc = check_writes(tx, err);
    return rc == SL_OK ? written(tx, tx->store->ops->module_activate(tx->store, name, version, err)) : rc;
}

sl_status_t st_module_delete(st_tx_t *tx, sl_str_t name, uint32_t version, sl_err_t *err) {
    sl_status_t rc = check_writes(tx, err);
    return rc == SL_OK ? written(tx, tx->store->ops->module_erase(tx->store, name, version, err)) : rc;
}

sl_status_t st_module_each(st_tx_t *tx, sl_str_t name, st_module_fn_t fn, void *ud, sl_err_t *err) {
    forget_fault(tx->store);
    return tx->store->ops->module_each(tx->store, name, fn, ud, err);
}

sl_status_t st_module_read(st_tx_t *tx, sl_str_t sha256, sl_buf_t *out, sl_err_t *err) {
    forget_fault(tx->store);
    return tx->store->ops->module_read(tx->store, sha256, out, err);
}
