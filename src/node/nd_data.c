#include "nd_data.h"

#include <stdio.h>
#include <stdlib.h>

#include "nd_uploads.h"
#include "sl_digest.h"

static nd_data_t *self(gw_data_t *d) {
    return (nd_data_t *)d;
}

/* ---- faults ------------------------------------------------------------------------------------------------------------- */

static gw_fault_kind_t kind_of(st_fault_kind_t kind) {
    switch (kind) {
    case ST_FAULT_DUPLICATE:
        return GW_FAULT_UNIQUE;
    case ST_FAULT_REFERENCED:
        return GW_FAULT_REFERENCED;
    case ST_FAULT_NO_PARENT:
        return GW_FAULT_NO_PARENT;
    case ST_FAULT_BUSY:
    case ST_FAULT_STALE:
        return GW_FAULT_BUSY;
    default:
        return GW_FAULT_NONE;
    }
}

/* Passes the status on, with what the store says about it. */
static sl_status_t told(gw_data_t *d, sl_status_t rc) {
    const st_fault_t *f = self(d)->store != NULL ? st_store_fault(self(d)->store) : NULL;
    d->fault = (gw_fault_t){.kind = GW_FAULT_NONE};
    if (rc != SL_OK && f != NULL) {
        d->fault.kind = kind_of(f->kind);
        snprintf(d->fault.collection, sizeof(d->fault.collection), "%s", f->collection);
        snprintf(d->fault.id, sizeof(d->fault.id), "%s", f->id);
        snprintf(d->fault.field, sizeof(d->fault.field), "%s", f->field);
        snprintf(d->fault.other_collection, sizeof(d->fault.other_collection), "%s", f->other_collection);
        snprintf(d->fault.other_id, sizeof(d->fault.other_id), "%s", f->other_id);
    }
    return rc;
}

/* ---- transactions --------------------------------------------------------------------------------------------------------- */

static sl_status_t add_module(void *ud, const st_module_t *module) {
    sl_buf_printf(ud, "%.*s %u %d %s\n", SL_FMT(module->name), module->version, module->active, module->sha256);
    return SL_OK;
}

static sl_status_t digest_of_modules(st_tx_t *tx, uint8_t out[SL_SHA256_SIZE], sl_err_t *err) {
    sl_buf_t text;
    sl_buf_init(&text, SIZE_MAX / 2);
    sl_status_t rc = st_module_each(tx, SL_STR_NULL, add_module, &text, err);
    rc = rc == SL_OK && text.failed ? SL_NO_MEMORY : rc;
    rc = rc == SL_OK ? sl_sha256(sl_buf_str(&text), out) : rc;
    sl_buf_deinit(&text);
    return rc;
}

/* A chain must not be written that names a version which was deleted since it was looked for. */
static sl_status_t look_for_uploads(gw_data_t *d) {
    nd_data_t *data = self(d);
    uint8_t now[SL_SHA256_SIZE];
    sl_status_t rc = told(d, digest_of_modules(data->tx, now, &d->err));
    data->stale = rc == SL_OK && memcmp(now, data->modules, sizeof(now)) != 0;
    if (data->stale) {
        d->fault.kind = GW_FAULT_BUSY;
        rc = sl_err_set(&d->err, SL_CONFLICT, "filters were uploaded or deleted at the same time, again and again");
    }
    if (rc != SL_OK) {
        st_tx_rollback(data->tx);
        data->tx = NULL;
    }
    return rc;
}

static sl_status_t begin(gw_data_t *d, bool write) {
    nd_data_t *data = self(d);
    if (data->store == NULL) {
        return SL_IO; /* d->err says why it could not be opened */
    }
    sl_status_t rc = told(d, st_tx_begin(data->store, write ? ST_WRITE : ST_READ, ST_ANY_REVISION, &data->tx, &d->err));
    return rc == SL_OK && write && data->knows_modules ? look_for_uploads(d) : rc;
}

static sl_status_t commit(gw_data_t *d) {
    nd_data_t *data = self(d);
    uint64_t revision = 0;
    sl_status_t rc = told(d, st_tx_commit(data->tx, &revision, &d->err));
    data->revision = rc == SL_OK ? revision : data->revision;
    data->tx = NULL;
    return rc;
}

static void rollback(gw_data_t *d) {
    st_tx_rollback(self(d)->tx);
    self(d)->tx = NULL;
}

/* ---- entities ------------------------------------------------------------------------------------------------------------- */

static sl_status_t get(gw_data_t *d, const char *collection, sl_str_t id, json_t **entity, uint64_t *revision) {
    return told(d, st_tx_get(self(d)->tx, sl_cstr(collection), id, entity, revision, &d->err));
}

static sl_status_t find(gw_data_t *d, const char *collection, const char *field, sl_str_t value, json_t **entity, uint64_t *revision) {
    return told(d, st_tx_find(self(d)->tx, sl_cstr(collection), sl_cstr(field), value, entity, revision, &d->err));
}

static const char *id_of(const json_t *entity) {
    return json_string_value(json_object_get(entity, "id"));
}

/* Moves those of a page that have the tags to `found`, up to the query's limit; true: there was one more. */
static bool take_tagged(const gw_query_t *query, const json_t *page, json_t *found, bool *failed) {
    size_t i;
    json_t *entity;
    json_array_foreach(page, i, entity) {
        if (!gw_query_has_tags(query, entity)) {
            continue;
        }
        if (json_array_size(found) == query->limit) {
            return true;
        }
        *failed = *failed || json_array_append(found, entity) != 0;
    }
    return false;
}

/* Pages of `page` until the query's is full: those with all tags, or any of them. */
static sl_status_t list_tagged(gw_data_t *d, const char *collection, const gw_query_t *query, st_page_t page, json_t **list, bool *more) {
    json_t *found = json_array();
    char after[SL_UUID_TEXT_SIZE + 1];
    bool failed = found == NULL, rest = true;
    sl_status_t rc = SL_OK;
    *more = false;
    page.limit = query->limit < 1000 ? query->limit + 1 : 1000;
    while (rc == SL_OK && rest && !*more && !failed) {
        json_t *part = NULL;
        rc = told(d, st_tx_list(self(d)->tx, sl_cstr(collection), &page, &part, &rest, &d->err));
        *more = take_tagged(query, part, found, &failed);
        const char *last = id_of(json_array_get(part, json_array_size(part) - 1));
        snprintf(after, sizeof(after), "%s", last != NULL ? last : "");
        rest = rest && last != NULL;
        page.after = sl_cstr(after);
        json_decref(part);
    }
    if (rc == SL_OK && failed) {
        rc = sl_err_set(&d->err, SL_NO_MEMORY, "out of memory");
    }
    if (rc != SL_OK) {
        json_decref(found);
        return rc;
    }
    *list = found;
    return SL_OK;
}

#define TAGS_MAX 8 /* more than the Admin API takes */

/* Of several lists in id order: the one that is next, its entity in all of them passed over. NULL: they are at their ends. */
static json_t *take_first(json_t *const *parts, size_t *at, size_t n) {
    const char *first = NULL;
    json_t *entity = NULL;
    for (size_t i = 0; i < n; i++) {
        json_t *candidate = json_array_get(parts[i], at[i]);
        if (candidate != NULL && (first == NULL || strcmp(id_of(candidate), first) < 0)) {
            entity = candidate;
            first = id_of(candidate);
        }
    }
    for (size_t i = 0; first != NULL && i < n; i++) {
        json_t *candidate = json_array_get(parts[i], at[i]);
        at[i] += candidate != NULL && strcmp(id_of(candidate), first) == 0;
    }
    return entity;
}

/* Each list has up to limit entities and says whether there are more; so the first `limit` of all are right. */
static sl_status_t join(gw_data_t *d, const gw_query_t *query, json_t *const *parts, json_t **list, bool *more) {
    size_t at[TAGS_MAX] = {0};
    json_t *found = json_array(), *entity;
    bool failed = found == NULL;
    while (!failed && (entity = take_first(parts, at, query->n_tags)) != NULL) {
        if (json_array_size(found) == query->limit) {
            *more = true;
            break;
        }
        failed = json_array_append(found, entity) != 0;
    }
    if (failed) {
        json_decref(found);
        return sl_err_set(&d->err, SL_NO_MEMORY, "out of memory");
    }
    *list = found;
    return SL_OK;
}

static sl_status_t list_any_tag(gw_data_t *d, const char *collection, const gw_query_t *query, st_page_t page, json_t **list, bool *more) {
    json_t *parts[TAGS_MAX] = {NULL};
    bool any_more = false;
    sl_status_t rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < query->n_tags; i++) {
        bool rest = false;
        page.tag = sl_cstr(query->tags[i]);
        rc = told(d, st_tx_list(self(d)->tx, sl_cstr(collection), &page, &parts[i], &rest, &d->err));
        any_more = any_more || rest;
    }
    rc = rc == SL_OK ? join(d, query, parts, list, more) : rc;
    *more = *more || any_more;
    for (size_t i = 0; i < query->n_tags; i++) {
        json_decref(parts[i]);
    }
    return rc;
}

static sl_status_t list(gw_data_t *d, const char *collection, const gw_query_t *query, json_t **out, bool *more) {
    st_page_t page = {.after = sl_cstr(query->after), .limit = query->limit};
    if (query->parent_field != NULL) {
        page.parent_field = sl_cstr(query->parent_field);
        page.parent_id = sl_cstr(query->parent_id);
    }
    if (page.after.len > 0 && !sl_uuid_valid(page.after)) {
        page.after = SL_STR_NULL; /* a position of another list: from the beginning, as with a plan */
    }
    *more = false;
    if (query->n_tags > 0 && query->any_tag && query->n_tags <= TAGS_MAX && query->parent_field == NULL) {
        return list_any_tag(d, collection, query, page, out, more);
    }
    if (query->n_tags > 0) {
        /* Children are few; else one of the tags leads to those that may have all. */
        page.tag = query->parent_field == NULL && !query->any_tag ? sl_cstr(query->tags[0]) : SL_STR_NULL;
        return list_tagged(d, collection, query, page, out, more);
    }
    return told(d, st_tx_list(self(d)->tx, sl_cstr(collection), &page, out, more, &d->err));
}

static sl_status_t put(gw_data_t *d, const char *collection, const json_t *entity, uint64_t *revision) {
    if (revision != NULL) {
        *revision = st_tx_revision(self(d)->tx) + 1;
    }
    return told(d, st_tx_put(self(d)->tx, sl_cstr(collection), entity, &d->err));
}

static sl_status_t erase(gw_data_t *d, const char *collection, sl_str_t id) {
    return told(d, st_tx_delete(self(d)->tx, sl_cstr(collection), id, &d->err));
}

static const gw_data_ops_t ops = {begin, commit, rollback, get, find, list, put, erase};

void nd_data_init(nd_data_t *d, st_store_t *store) {
    memset(d, 0, sizeof(*d));
    d->base.ops = &ops;
    d->store = store;
}

/* ---- one exchange --------------------------------------------------------------------------------------------------------- */

/* The filters of a chain, or that of a plugin, and whether they start. */
typedef struct {
    json_t *filters;        /* what decides: the list and whether it is on */
    const char *collection; /* of `entity` */
    json_t *entity;
    bool tried;
    sl_status_t rc;
    sl_err_t err;
} trial_t;

typedef struct {
    trial_t *list;
    size_t n, cap;
} trials_t;

static trial_t *find_trial(trials_t *t, const json_t *filters) {
    for (size_t i = 0; i < t->n; i++) {
        if (json_equal(t->list[i].filters, filters)) {
            return &t->list[i];
        }
    }
    return NULL;
}

/* Takes `filters`. */
static sl_status_t add_trial(trials_t *t, json_t *filters, const char *collection, const json_t *entity) {
    if (t->n == t->cap) {
        size_t cap = t->cap == 0 ? 8 : 2 * t->cap;
        trial_t *list = realloc(t->list, cap * sizeof(*list));
        if (list == NULL) {
            json_decref(filters);
            return SL_NO_MEMORY;
        }
        t->list = list;
        t->cap = cap;
    }
    t->list[t->n++] = (trial_t){.filters = filters, .collection = collection, .entity = json_incref((json_t *)(uintptr_t)entity)};
    return SL_AGAIN;
}

static sl_status_t try_filters(void *ud, const char *collection, const json_t *entity, sl_err_t *err) {
    trials_t *t = ud;
    bool plugin = strcmp(collection, "plugins") == 0;
    if (!plugin && strcmp(collection, "filter_chains") != 0) {
        return SL_OK;
    }
    json_t *filters = plugin ? json_pack("[[{s:O,s:O}],O]", "name", json_object_get(entity, "name"), "config",
                                         json_object_get(entity, "config"), json_object_get(entity, "enabled"))
                             : json_pack("[O,O]", json_object_get(entity, "filters"), json_object_get(entity, "enabled"));
    if (filters == NULL) {
        return SL_NO_MEMORY;
    }
    trial_t *trial = find_trial(t, filters);
    if (trial == NULL) {
        return add_trial(t, filters, plugin ? "plugins" : "filter_chains", entity);
    }
    json_decref(filters);
    if (!trial->tried) {
        return SL_AGAIN;
    }
    *err = trial->err;
    return trial->rc;
}

static void run_trials(const nd_node_t *node, trials_t *t) {
    for (size_t i = 0; i < t->n; i++) {
        trial_t *trial = &t->list[i];
        if (trial->tried) {
            continue;
        }
        json_t *entities = json_pack("{s:{s:O}}", trial->collection, "new", trial->entity);
        trial->rc = entities != NULL ? nd_config_try(node, entities, &trial->err) : SL_NO_MEMORY;
        trial->tried = true;
        json_decref(entities);
    }
}

static void free_trials(trials_t *t) {
    for (size_t i = 0; i < t->n; i++) {
        json_decref(t->list[i].filters);
        json_decref(t->list[i].entity);
    }
    free(t->list);
}

/* Between two goes somebody else may have changed what the chain is made of; that this happens again and again is not meant to be. */
#define GOES_MAX 8

/* What is installed now, and which uploads that are. Nothing but filter chains and /filters need it. */
static nd_filters_t *look_up_filters(const nd_node_t *node, nd_data_t *data, sl_err_t *note) {
    nd_filters_t *filters = NULL;
    st_tx_t *tx = NULL;
    data->knows_modules = false;
    sl_status_t rc = data->store != NULL ? st_tx_begin(data->store, ST_READ, ST_ANY_REVISION, &tx, note) : SL_OK;
    rc = rc == SL_OK ? nd_filters_open(node, tx, &filters, note) : rc;
    if (rc == SL_OK && tx != NULL) {
        data->knows_modules = digest_of_modules(tx, data->modules, note) == SL_OK;
    }
    st_tx_rollback(tx);
    if (rc != SL_OK && nd_filters_scan(NULL, SL_STR_NULL, &filters, note) != SL_OK) {
        return NULL;
    }
    if (rc == SL_OK) {
        note->text[0] = '\0';
    }
    return filters;
}

typedef struct {
    nd_node_t node; /* with what is installed */
    nd_filters_t *filters;
    nd_data_t data;
    nd_uploads_t uploads;
    trials_t trials;
} exchange_t;

/* One go. */
static gw_admin_next_t go(exchange_t *x, const gw_admin_request_t *req, gw_admin_env_t *env, gw_admin_response_t *resp) {
    gw_admin_replace_t unused = {.entities = NULL};
    run_trials(&x->node, &x->trials);
    sl_buf_reset(&resp->body);
    sl_buf_reset(&resp->headers);
    gw_admin_next_t next = gw_admin_handle(req, env, resp, &unused);
    json_decref(unused.entities);
    return next;
}

/* Looks up what is installed again; false: no memory. */
static bool look_again(exchange_t *x, gw_admin_env_t *env, sl_err_t *note) {
    free_trials(&x->trials);
    x->trials = (trials_t){.n = 0};
    nd_filters_free(x->filters);
    x->filters = look_up_filters(&x->node, &x->data, note);
    x->node.filters = x->filters;
    if (x->filters != NULL) {
        nd_validate_env(&x->node, &env->validate);
    }
    x->data.stale = false;
    return x->filters != NULL;
}

static void run(exchange_t *x, const gw_admin_request_t *req, gw_admin_env_t *env, gw_admin_response_t *resp, sl_err_t *note,
                gw_admin_next_t *next) {
    bool looked = look_again(x, env, note);
    *next = GW_ADMIN_AGAIN;
    for (int i = 0; looked && i < GOES_MAX && *next == GW_ADMIN_AGAIN; i++) {
        *next = go(x, req, env, resp);
        if (x->data.stale && i + 1 < GOES_MAX) {
            looked = look_again(x, env, note);
            *next = GW_ADMIN_AGAIN;
        }
    }
}

sl_status_t nd_admin_handle(const nd_node_t *node, st_store_t *store, const gw_admin_request_t *req, gw_admin_env_t *env,
                            gw_admin_response_t *resp, uint64_t *revision, sl_err_t *note, sl_err_t *err) {
    exchange_t x = {.node = *node};
    sl_err_t unused = {.text = ""};
    gw_admin_next_t next;
    nd_data_init(&x.data, store);
    nd_uploads_init(&x.uploads, &x.node, store);
    if (store == NULL) {
        x.data.base.err = *err;
        x.uploads.base.err = *err;
    }
    env->data = &x.data.base;
    env->filters = &x.uploads.base;
    env->try_filters = try_filters;
    env->try_ud = &x.trials;
    run(&x, req, env, resp, note != NULL ? note : &unused, &next);
    free_trials(&x.trials);
    nd_filters_free(x.filters);
    *revision = x.uploads.revision > x.data.revision ? x.uploads.revision : x.data.revision;
    env->data = NULL;
    env->filters = NULL;
    env->try_filters = NULL;
    if (next == GW_ADMIN_AGAIN) {
        resp->status = 0;
        return sl_err_set(err, SL_FAILED, "the filter chain changed while its filters were tried");
    }
    if (resp->status >= 500) {
        *err = x.uploads.base.err.text[0] != '\0' ? x.uploads.base.err : x.data.base.err;
        return SL_FAILED;
    }
    return SL_OK;
}
