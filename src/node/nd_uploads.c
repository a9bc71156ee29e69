#include "nd_uploads.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "gw_json_schema.h"
#include "gw_schema.h"
#include "nd_inspect.h"
#include "nd_meta.h"
#include "pw.h"
#include "sl_file.h"

#define TRIES_MAX 8
#define VERSIONS_MAX 9000      /* of all filters together */
#define NEW_VERSION UINT32_MAX /* the number of what has none yet */

static nd_uploads_t *self(gw_filters_t *f) {
    return (nd_uploads_t *)f;
}

static sl_status_t wrong(nd_uploads_t *u, const char *field) {
    u->base.fault = GW_FILTERS_INPUT;
    u->base.field = field;
    return SL_INVALID;
}

static sl_status_t no_memory(nd_uploads_t *u) {
    return sl_err_set(&u->base.err, SL_NO_MEMORY, "out of memory");
}

/* A version in a path: its SHA-256, or else its name or number. */
static nd_filter_ref_t ref_of(sl_str_t name, sl_str_t version) {
    nd_filter_ref_t ref = {.name = name};
    if (nd_sha256_valid(version)) {
        ref.sha256 = version;
    } else {
        ref.version = version;
    }
    return ref;
}

/* ---- what is shown ------------------------------------------------------------------------------------------------------- */

static bool is_shadowed(const nd_filters_t *filters, const nd_filter_t *f) {
    for (size_t i = 0; f->number != 0 && i < nd_filters_count(filters); i++) {
        const nd_filter_t *other = nd_filters_at(filters, i);
        if (other->number == 0 && other->path != NULL && strcmp(other->name, f->name) == 0) {
            return true;
        }
    }
    return false;
}

static void read_abi(const nd_uploads_t *u, const nd_filter_t *f, char abi[16]) {
    sl_buf_t bytes;
    sl_buf_init(&bytes, ND_MODULE_MAX_BYTES);
    abi[0] = '\0';
    if (nd_module_read(u->node, f, &bytes, NULL) == SL_OK) {
        nd_inspect_abi_of(sl_buf_str(&bytes), abi);
    }
    sl_buf_deinit(&bytes);
}

static json_t *version_text(const nd_filter_t *f) {
    char number[16];
    snprintf(number, sizeof(number), "%u", f->number);
    return f->version.len != 0 ? json_stringn(f->version.data, f->version.len) : f->number != 0 ? json_string(number) : json_null();
}

static json_t *describe(const nd_filter_t *f) {
    return json_pack("{s:o,s:s,s:o,s:o,s:s,s:I,s:o,s:b}", "name", gw_text(f->name), "source", f->number != 0 ? "store" : "file", "version",
                     version_text(f), "number", f->number != 0 ? json_integer(f->number) : json_null(), "sha256", f->sha256, "size_bytes",
                     (json_int_t)f->size_bytes, "created_at", f->number != 0 ? json_integer(f->created_at_s) : json_null(), "current",
                     f->current);
}

static sl_status_t versions_of(const nd_uploads_t *u, sl_str_t name, json_t *list) {
    for (size_t i = 0; i < nd_filters_count(u->node->filters); i++) {
        const nd_filter_t *f = nd_filters_at(u->node->filters, i);
        if (sl_str_eq(sl_cstr(f->name), name) && json_array_append_new(list, describe(f)) != 0) {
            return SL_NO_MEMORY;
        }
    }
    return SL_OK;
}

static bool add_version_names(const nd_uploads_t *u, const nd_filter_t *f, json_t *out) {
    json_t *list = json_array();
    bool good = true;
    for (size_t i = 0; i < nd_filters_count(u->node->filters); i++) {
        const nd_filter_t *other = nd_filters_at(u->node->filters, i);
        if (strcmp(other->name, f->name) == 0) {
            good = good && json_array_append_new(list, version_text(other)) == 0;
        }
    }
    return json_object_set_new(out, "versions", list) == 0 && good;
}

/* What the list has of a filter: its current version. */
static json_t *summary(const nd_uploads_t *u, const nd_filter_t *f) {
    char abi[16];
    json_t *out = describe(f);
    read_abi(u, f, abi);
    bool good = out != NULL && json_object_set_new(out, "abi", abi[0] != '\0' ? json_string(abi) : json_null()) == 0 &&
                add_version_names(u, f, out) &&
                json_object_set_new(out, "shadows_file", json_boolean(f->current && is_shadowed(u->node->filters, f))) == 0;
    if (!good) {
        json_decref(out);
        return NULL;
    }
    return out;
}

static sl_status_t list(gw_filters_t *base, const char *after, size_t limit, json_t **out, bool *more) {
    nd_uploads_t *u = self(base);
    json_t *all = json_array();
    bool good = all != NULL;
    const char *last = after;
    *more = false;
    for (size_t i = 0; good && !*more && i < nd_filters_count(u->node->filters); i++) {
        const nd_filter_t *f = nd_filters_at(u->node->filters, i);
        bool wanted = strcmp(f->name, last) > 0;
        *more = wanted && limit != 0 && json_array_size(all) == limit;
        if (wanted && !*more) {
            good = json_array_append_new(all, summary(u, f)) == 0;
            last = f->name;
        }
    }
    if (!good) {
        json_decref(all);
        return no_memory(u);
    }
    *out = all;
    return SL_OK;
}

static sl_status_t versions(gw_filters_t *base, sl_str_t name, json_t **out) {
    nd_uploads_t *u = self(base);
    json_t *all = json_array();
    sl_status_t rc = all != NULL ? versions_of(u, name, all) : SL_NO_MEMORY;
    if (rc == SL_OK && json_array_size(all) == 0) {
        rc = SL_NOT_FOUND;
    }
    if (rc != SL_OK) {
        json_decref(all);
        return rc == SL_NO_MEMORY ? no_memory(u) : rc;
    }
    *out = all;
    return SL_OK;
}

/* The schema, whether the module can run, and what it is made of. A file may be anything. */
static bool add_inspection(nd_uploads_t *u, const nd_filter_t *f, json_t *out) {
    sl_err_t why = {.text = ""};
    json_t *inspection = NULL;
    sl_module_t *module;
    pw_abi_version_t abi;
    sl_buf_t bytes;
    sl_buf_init(&bytes, ND_MODULE_MAX_BYTES);
    sl_status_t rc = nd_module_read(u->node, f, &bytes, &why);
    rc = rc == SL_OK ? nd_inspect(sl_buf_str(&bytes), &inspection, &why) : rc;
    sl_buf_deinit(&bytes);
    rc = rc == SL_OK && u->node->engine != NULL ? nd_module_load(u->node, f, &module, &why) : rc;
    if (rc == SL_OK && u->node->engine != NULL) {
        rc = pw_module_check(module, &abi, &why);
        sl_module_unref(module);
    }
    json_t *schema = f->schema.len != 0 ? json_loadb(f->schema.data, f->schema.len, 0, NULL) : json_null();
    bool good = inspection == NULL || json_object_update_missing(out, inspection) == 0;
    good = json_object_set_new(out, "schema", schema) == 0 && good;
    good = json_object_set_new(out, "problem", rc == SL_OK ? json_null() : gw_text(why.text)) == 0 && good;
    json_decref(inspection);
    return good;
}

static sl_status_t show_version(nd_uploads_t *u, const nd_filter_t *f, json_t **out) {
    json_t *shown = summary(u, f);
    if (shown == NULL || !add_inspection(u, f, shown)) {
        json_decref(shown);
        return no_memory(u);
    }
    *out = shown;
    return SL_OK;
}

static const nd_filter_t *first_version(const nd_filters_t *filters, sl_str_t name) {
    for (size_t i = 0; i < nd_filters_count(filters); i++) {
        if (sl_str_eq(sl_cstr(nd_filters_at(filters, i)->name), name)) {
            return nd_filters_at(filters, i);
        }
    }
    return NULL;
}

static sl_status_t show(gw_filters_t *base, sl_str_t name, sl_str_t version, json_t **out) {
    nd_uploads_t *u = self(base);
    nd_filter_ref_t ref = ref_of(name, version);
    /* A name of which no version is current is still there. */
    const nd_filter_t *f = version.len == 0 ? first_version(u->node->filters, name) : nd_filters_resolve(u->node->filters, &ref);
    return f != NULL ? show_version(u, f, out) : SL_NOT_FOUND;
}

/* ---- a change ------------------------------------------------------------------------------------------------------------ */

/* What the store would be like, on a snapshot of it. */
typedef struct {
    nd_uploads_t *u;
    nd_node_t node; /* with `filters` */
    nd_filters_t *filters;
    sl_str_t name;
    json_t *users; /* {"filter_chains": {...}, "plugins": {...}}: those with an entry of this name, or of it */
    uint64_t revision;
} change_t;

/* `chain`: a chain, or a plugin, which is an entry itself. */
static bool uses(const json_t *chain, sl_str_t name) {
    size_t i;
    json_t *entry;
    if (json_object_get(chain, "filters") == NULL) {
        return sl_str_eq(nd_filter_ref(chain).name, name);
    }
    json_array_foreach(json_object_get(chain, "filters"), i, entry) {
        if (sl_str_eq(nd_filter_ref(entry).name, name)) {
            return true;
        }
    }
    return false;
}

static sl_status_t add_users(change_t *c, json_t *chains, const json_t *page) {
    size_t i;
    json_t *chain;
    json_array_foreach(page, i, chain) {
        const char *id = json_string_value(json_object_get(chain, "id"));
        if (id != NULL && uses(chain, c->name) && json_object_set(chains, id, chain) != 0) {
            return no_memory(c->u);
        }
    }
    return SL_OK;
}

static sl_status_t load_users_of(change_t *c, st_tx_t *tx, const char *collection) {
    char after[SL_UUID_TEXT_SIZE + 1] = "";
    st_page_t page = {.limit = 1000};
    bool more = true;
    sl_status_t rc = SL_OK;
    while (rc == SL_OK && more) {
        json_t *part = NULL;
        rc = st_tx_list(tx, sl_cstr(collection), &page, &part, &more, &c->u->base.err);
        rc = rc == SL_OK ? add_users(c, json_object_get(c->users, collection), part) : rc;
        const char *last = json_string_value(json_object_get(json_array_get(part, json_array_size(part) - 1), "id"));
        snprintf(after, sizeof(after), "%s", last != NULL ? last : "");
        more = more && last != NULL;
        page.after = sl_cstr(after);
        json_decref(part);
    }
    return rc;
}

static sl_status_t load_users(change_t *c, st_tx_t *tx) {
    c->users = json_pack("{s:{},s:{}}", "filter_chains", "plugins");
    sl_status_t rc = c->users != NULL ? load_users_of(c, tx, "filter_chains") : no_memory(c->u);
    return rc == SL_OK ? load_users_of(c, tx, "plugins") : rc;
}

static void close_change(change_t *c) {
    nd_filters_free(c->filters);
    json_decref(c->users);
    c->filters = NULL;
    c->users = NULL;
}

static sl_status_t open_change(change_t *c, nd_uploads_t *u, sl_str_t name) {
    st_tx_t *tx;
    *c = (change_t){.u = u, .node = *u->node, .name = name};
    if (u->store == NULL) {
        return SL_IO; /* base.err says why it could not be opened */
    }
    sl_status_t rc = st_tx_begin(u->store, ST_READ, ST_ANY_REVISION, &tx, &u->base.err);
    if (rc != SL_OK) {
        return rc;
    }
    c->revision = st_tx_revision(tx);
    rc = nd_filters_open(&c->node, tx, &c->filters, &u->base.err);
    rc = rc == SL_OK ? load_users(c, tx) : rc;
    st_tx_rollback(tx);
    c->node.filters = c->filters;
    return rc == SL_INVALID ? SL_IO : rc;
}

/* Is every entry that would get `current` fine with its schema? */
static sl_status_t check_entry(change_t *c, const char *kind, const char *id, const json_t *entry) {
    const nd_filter_t *f;
    sl_err_t text;
    if (!sl_str_eq(nd_filter_ref(entry).name, c->name)) {
        return SL_OK;
    }
    if (nd_filter_of(&c->node, entry, &f, &text) != SL_OK) {
        c->u->base.fault = GW_FILTERS_REFERENCED;
        c->u->base.field = kind[0] == 'p' ? "plugins" : "filter_chains";
        return sl_err_set(&c->u->base.err, SL_CONFLICT, "an existing '%ss' entity references this 'filters' entity", kind);
    }
    json_t *schema = f->current && f->schema.len != 0 ? json_loadb(f->schema.data, f->schema.len, 0, NULL) : NULL;
    const json_t *config = json_object_get(entry, "config");
    json_t *null = json_null();
    sl_status_t rc = schema != NULL ? gw_json_schema_validate(schema, config != NULL ? config : null, &text) : SL_OK;
    json_decref(schema);
    if (rc == SL_INVALID) {
        sl_err_set(&c->u->base.err, rc, "the configuration in %s '%s' does not fit its schema: %.400s",
                   kind[0] == 'p' ? kind : "filter chain", id, text.text);
        return wrong(c->u, "schema");
    }
    return rc;
}

/* Do the chains that change start? Runs filters: no transaction is open. */
static sl_status_t try_change(change_t *c) {
    const char *id;
    size_t i;
    json_t *chain, *entry;
    json_object_foreach(json_object_get(c->users, "filter_chains"), id, chain) {
        json_array_foreach(json_object_get(chain, "filters"), i, entry) {
            sl_status_t rc = check_entry(c, "filter_chain", id, entry);
            if (rc != SL_OK) {
                return rc;
            }
        }
    }
    json_object_foreach(json_object_get(c->users, "plugins"), id, entry) {
        sl_status_t rc = check_entry(c, "plugin", id, entry);
        if (rc != SL_OK) {
            return rc;
        }
    }
    if (nd_filters_find(c->filters, c->name) == NULL) {
        return SL_OK; /* every entry names its version, or there is none */
    }
    sl_status_t rc = nd_config_try_filter(&c->node, c->users, c->name, &c->u->base.err);
    return rc == SL_INVALID ? wrong(c->u, "module") : rc;
}

/* Runs `write` in a transaction if nothing was written since the change was opened. SL_AGAIN: something was. */
static sl_status_t commit_change(change_t *c, sl_status_t (*write)(void *ud, st_tx_t *tx), void *ud) {
    nd_uploads_t *u = c->u;
    st_tx_t *tx;
    uint64_t revision = 0;
    sl_status_t rc = st_tx_begin(u->store, ST_WRITE, c->revision, &tx, &u->base.err);
    if (rc == SL_CONFLICT && st_store_fault(u->store)->kind == ST_FAULT_STALE) {
        return SL_AGAIN;
    }
    if (rc == SL_OK) {
        rc = write(ud, tx);
        if (rc != SL_OK) {
            st_tx_rollback(tx);
        } else {
            rc = st_tx_commit(tx, &revision, &u->base.err);
        }
    }
    if (rc == SL_CONFLICT) {
        u->base.fault = GW_FILTERS_BUSY;
    }
    u->revision = rc == SL_OK ? revision : u->revision;
    return rc == SL_INVALID || rc == SL_NOT_FOUND ? SL_IO : rc;
}

static sl_status_t busy(nd_uploads_t *u) {
    u->base.fault = GW_FILTERS_BUSY;
    return sl_err_set(&u->base.err, SL_CONFLICT, "the store was written to again and again meanwhile");
}

/* Tries on the snapshot, then writes. SL_AGAIN: the snapshot is old. */
static sl_status_t carry_out(change_t *c, sl_status_t (*write)(void *ud, st_tx_t *tx), void *ud) {
    sl_status_t rc = try_change(c);
    return rc == SL_OK ? commit_change(c, write, ud) : rc;
}

/* What became of it, from a new snapshot; number 0: the file, or else whatever is left of the name. */
static sl_status_t show_result(nd_uploads_t *u, sl_str_t name, uint32_t number, json_t **out) {
    change_t c;
    sl_status_t rc = open_change(&c, u, name);
    const nd_filter_t *found = rc == SL_OK && number == 0 ? first_version(c.filters, name) : NULL;
    for (size_t i = 0; rc == SL_OK && i < nd_filters_count(c.filters); i++) {
        const nd_filter_t *f = nd_filters_at(c.filters, i);
        found = sl_str_eq(sl_cstr(f->name), name) && f->number == number ? f : found;
    }
    if (found != NULL) {
        const nd_node_t *before = u->node;
        u->node = &c.node;
        rc = show_version(u, found, out);
        u->node = before;
    }
    close_change(&c);
    return rc == SL_OK && found == NULL ? SL_NOT_FOUND : rc;
}

/* ---- upload -------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const gw_upload_t *upload;
    nd_uploads_t *u;
    nd_filter_t filter; /* the new version */
    char *meta;         /* its text; NULL: none */
    uint32_t number;
    bool created;
} putting_t;

static sl_status_t set_member(nd_uploads_t *u, json_t *object, const char *name, json_t *value) {
    return json_object_set_new(object, name, value) == 0 ? SL_OK : no_memory(u);
}

/* What it comes with: the given metadata or that of the version before it, the given schema, the given name of the version. */
static sl_status_t make_meta(putting_t *p, const nd_filters_t *filters) {
    nd_uploads_t *u = p->u;
    const gw_upload_t *up = p->upload;
    const nd_filter_t *before = first_version(filters, up->name);
    json_t *meta = up->meta != NULL                          ? json_deep_copy(up->meta)
                   : before != NULL && before->meta.len != 0 ? json_loadb(before->meta.data, before->meta.len, 0, NULL)
                                                             : json_object();
    if (meta == NULL) {
        return no_memory(u);
    }
    if (up->meta == NULL) {
        (void)json_object_del(meta, "version"); /* that one has it */
    }
    sl_status_t rc = SL_OK;
    if (up->schema != NULL && json_is_object(meta)) {
        rc = set_member(u, meta, "config_schema", json_deep_copy(up->schema));
    }
    if (rc == SL_OK && up->version.len != 0 && !nd_version_valid(up->version)) {
        sl_err_set(&u->base.err, SL_INVALID, "expected at most %d letters, digits and any of . _ + -, and not a number alone",
                   ND_VERSION_MAX);
        rc = wrong(u, "version");
    } else if (rc == SL_OK && up->version.len != 0 && json_is_object(meta)) {
        rc = set_member(u, meta, "version", json_stringn(up->version.data, up->version.len));
    }
    if (rc == SL_OK && nd_meta_check(meta, &u->base.err) != SL_OK) {
        rc = wrong(u, "meta");
    }
    if (rc == SL_OK && json_object_size(meta) > 0) {
        p->meta = json_dumps(meta, JSON_COMPACT | JSON_SORT_KEYS);
        rc = p->meta != NULL ? SL_OK : no_memory(u);
    }
    json_decref(meta);
    p->filter.meta = sl_cstr(p->meta);
    return rc;
}

/* Copied and compiled: what follows finds it by its SHA-256. */
static sl_status_t check_module(putting_t *p) {
    nd_uploads_t *u = p->u;
    sl_module_t *module;
    pw_abi_version_t abi;
    sl_status_t rc = sl_module_get(u->node->engine, u->node->cache, p->upload->bytes, &module, &u->base.err);
    if (rc == SL_OK) {
        rc = pw_module_check(module, &abi, &u->base.err);
        sl_module_unref(module);
    }
    if (rc == SL_INVALID) {
        return wrong(u, "module");
    }
    return rc == SL_OK ? nd_modules_write(u->node->modules, p->filter.sha256, p->upload->bytes, &u->base.err) : rc;
}

/* A name belongs to one content for ever. */
static sl_status_t check_version_name(putting_t *p, const nd_filters_t *filters) {
    nd_filter_ref_t ref = {.name = p->upload->name};
    json_t *meta = p->meta != NULL ? json_loads(p->meta, 0, NULL) : NULL;
    const json_t *version = json_object_get(meta, "version");
    ref.version = sl_str(json_string_value(version), json_string_length(version));
    const nd_filter_t *other = ref.version.len != 0 ? nd_filters_resolve(filters, &ref) : NULL;
    sl_status_t rc = SL_OK;
    if (other != NULL && other->number != 0 && strcmp(other->sha256, p->filter.sha256) != 0) {
        p->u->base.fault = GW_FILTERS_TAKEN;
        rc = sl_err_set(&p->u->base.err, SL_CONFLICT, "version '%.*s' of filter '%s' exists, with SHA-256 %s; versions do not change",
                        SL_FMT(ref.version), other->name, other->sha256);
    }
    json_decref(meta);
    return rc;
}

static sl_status_t put_module(void *ud, st_tx_t *tx) {
    putting_t *p = ud;
    st_module_t row = {.name = p->upload->name, .created_at_s = (int64_t)time(NULL), .meta = p->filter.meta};
    sl_status_t rc = st_module_put(tx, &row, p->upload->bytes, &p->number, &p->u->base.err);
    return rc == SL_OK && !p->upload->keep ? st_module_activate(tx, p->upload->name, p->number, &p->u->base.err) : rc;
}

/* Whether there is such a version already, with the same metadata. */
static bool is_known(const nd_filters_t *filters, const putting_t *p) {
    for (size_t i = 0; i < nd_filters_count(filters); i++) {
        const nd_filter_t *f = nd_filters_at(filters, i);
        if (f->number != 0 && sl_str_eq(sl_cstr(f->name), p->upload->name) && strcmp(f->sha256, p->filter.sha256) == 0 &&
            sl_str_eq(f->meta, p->filter.meta)) {
            return true;
        }
    }
    return false;
}

static sl_status_t put_once(putting_t *p) {
    change_t c;
    nd_uploads_t *u = p->u;
    free(p->meta);
    p->meta = NULL;
    sl_status_t rc = open_change(&c, u, p->upload->name);
    rc = rc == SL_OK ? make_meta(p, c.filters) : rc;
    rc = rc == SL_OK ? check_version_name(p, c.filters) : rc;
    if (rc == SL_OK && nd_filters_count(c.filters) >= VERSIONS_MAX) {
        sl_err_set(&u->base.err, SL_INVALID, "more than %d filters and versions; delete some", VERSIONS_MAX);
        rc = wrong(u, "module");
    }
    if (rc == SL_OK) {
        p->created = !is_known(c.filters, p);
        rc = p->upload->keep ? SL_OK : nd_filters_add(c.filters, &p->filter, &u->base.err);
    }
    rc = rc == SL_OK ? carry_out(&c, put_module, p) : rc;
    close_change(&c);
    return rc;
}

static sl_status_t upload(gw_filters_t *base, const gw_upload_t *up, bool *created, json_t **out) {
    char name[ST_MODULE_NAME_MAX + 1];
    nd_uploads_t *u = self(base);
    putting_t p = {.upload = up, .u = u};
    snprintf(name, sizeof(name), "%.*s", SL_FMT(up->name));
    p.filter = (nd_filter_t){.name = name, .number = NEW_VERSION, .size_bytes = up->bytes.len, .current = true};
    nd_sha256_of(up->bytes, p.filter.sha256);
    if (!nd_filters_chosen(u->node->filters, up->name)) {
        sl_err_set(&base->err, SL_INVALID, "the setting wasm_filters does not let a filter of this name in");
        return wrong(u, "name");
    }
    sl_status_t rc = check_module(&p);
    for (int i = 0; rc == SL_OK || rc == SL_AGAIN; i++) {
        rc = i < TRIES_MAX ? put_once(&p) : busy(u);
        if (rc == SL_OK) {
            break;
        }
    }
    *created = p.created;
    free(p.meta);
    return rc == SL_OK ? show_result(u, up->name, p.number, out) : rc;
}

/* The bytes of the current upload again, with another schema. */
static sl_status_t set_schema(gw_filters_t *base, sl_str_t name, const json_t *schema, json_t **out) {
    nd_uploads_t *u = self(base);
    bool created;
    const nd_filter_t *f = nd_filters_find(u->node->filters, name);
    if (f == NULL) {
        return SL_NOT_FOUND;
    }
    if (f->number == 0) {
        sl_err_set(&base->err, SL_INVALID, "this filter is a file; its schema is in %s.meta.json beside it", f->name);
        return wrong(u, "schema");
    }
    if (nd_meta_check_schema(schema, &base->err) != SL_OK) {
        return wrong(u, "schema");
    }
    sl_buf_t bytes;
    sl_buf_init(&bytes, ND_MODULE_MAX_BYTES);
    sl_status_t rc = nd_module_read(u->node, f, &bytes, &base->err);
    gw_upload_t up = {.name = name, .bytes = sl_buf_str(&bytes), .version = f->version, .schema = schema};
    rc = rc == SL_OK ? upload(base, &up, &created, out) : rc;
    sl_buf_deinit(&bytes);
    return rc;
}

/* ---- another current version, and none ------------------------------------------------------------------------------------- */

typedef struct {
    nd_uploads_t *u;
    sl_str_t name;
    uint32_t number; /* 0: none of the uploads, or all of them */
    bool active;
} choice_t;

static bool has_uploads(const nd_filters_t *filters, sl_str_t name) {
    for (size_t i = 0; i < nd_filters_count(filters); i++) {
        const nd_filter_t *f = nd_filters_at(filters, i);
        if (f->number != 0 && sl_str_eq(sl_cstr(f->name), name)) {
            return true;
        }
    }
    return false;
}

static sl_status_t activate(void *ud, st_tx_t *tx) {
    const choice_t *c = ud;
    return st_module_activate(tx, c->name, c->number, &c->u->base.err);
}

static sl_status_t select_once(choice_t *choice, sl_str_t version) {
    change_t c;
    bool found = true;
    nd_filter_ref_t ref = ref_of(choice->name, version);
    sl_status_t rc = open_change(&c, choice->u, choice->name);
    const nd_filter_t *f = rc == SL_OK && version.len != 0 ? nd_filters_resolve(c.filters, &ref) : NULL;
    if (rc == SL_OK && (version.len != 0 ? f == NULL : first_version(c.filters, choice->name) == NULL)) {
        rc = SL_NOT_FOUND;
    }
    if (rc == SL_OK) {
        choice->number = f != NULL ? f->number : 0;
        nd_filters_make_current(c.filters, choice->name, choice->number, &found);
        rc = has_uploads(c.filters, choice->name) ? carry_out(&c, activate, choice) : SL_OK;
    }
    close_change(&c);
    return rc;
}

static sl_status_t select_version(gw_filters_t *base, sl_str_t name, sl_str_t version, json_t **out) {
    nd_uploads_t *u = self(base);
    choice_t choice = {.u = u, .name = name};
    sl_status_t rc = SL_AGAIN;
    for (int i = 0; rc == SL_AGAIN; i++) {
        rc = i < TRIES_MAX ? select_once(&choice, version) : busy(u);
    }
    if (rc != SL_OK) {
        return rc;
    }
    return show_result(u, name, choice.number, out);
}

static sl_status_t delete_rows(void *ud, st_tx_t *tx) {
    const choice_t *c = ud;
    sl_status_t rc = c->active ? st_module_activate(tx, c->name, 0, &c->u->base.err) : SL_OK;
    return rc == SL_OK ? st_module_delete(tx, c->name, c->number, &c->u->base.err) : rc;
}

/* Compiled code of what has gone. Who still runs it has it mapped. */
static void drop_code(const choice_t *choice, const nd_filters_t *left) {
    const nd_node_t *node = choice->u->node;
    for (size_t i = 0; node->cache != NULL && i < nd_filters_count(node->filters); i++) {
        const nd_filter_t *f = nd_filters_at(node->filters, i);
        bool gone = f->number != 0 && (choice->number == 0 || f->number == choice->number) && sl_str_eq(sl_cstr(f->name), choice->name);
        for (size_t k = 0; gone && k < nd_filters_count(left); k++) {
            gone = strcmp(nd_filters_at(left, k)->sha256, f->sha256) != 0;
        }
        uint8_t sha256[SL_SHA256_SIZE];
        if (gone && nd_sha256_bytes(f->sha256, sha256)) {
            sl_cache_drop(node->cache, node->engine, sha256);
        }
    }
}

static sl_status_t remove_once(choice_t *choice, sl_str_t version) {
    change_t c;
    nd_filter_ref_t ref = ref_of(choice->name, version);
    sl_status_t rc = open_change(&c, choice->u, choice->name);
    const nd_filter_t *f = NULL;
    if (rc == SL_OK) {
        f = version.len != 0 ? nd_filters_resolve(c.filters, &ref) : first_version(c.filters, choice->name);
        rc = f == NULL ? SL_NOT_FOUND : SL_OK;
    }
    if (rc == SL_OK && f->number == 0 && version.len == 0) {
        /* A file that is current has uploads behind it, or none. */
        for (size_t i = 0; i < nd_filters_count(c.filters) && f->number == 0; i++) {
            const nd_filter_t *other = nd_filters_at(c.filters, i);
            f = other->number != 0 && strcmp(other->name, f->name) == 0 ? other : f;
        }
    }
    if (rc == SL_OK && f->number == 0) {
        sl_err_set(&choice->u->base.err, SL_INVALID, "this is a file of the filters folder; delete it there");
        rc = wrong(choice->u, "name");
    }
    if (rc == SL_OK) {
        choice->number = version.len != 0 ? f->number : 0;
        choice->active = f->current;
        nd_filters_remove(c.filters, choice->name, choice->number);
        rc = carry_out(&c, delete_rows, choice);
        if (rc == SL_OK) {
            drop_code(choice, c.filters);
        }
    }
    close_change(&c);
    return rc;
}

static sl_status_t remove_version(gw_filters_t *base, sl_str_t name, sl_str_t version) {
    nd_uploads_t *u = self(base);
    choice_t choice = {.u = u, .name = name};
    sl_status_t rc = SL_AGAIN;
    for (int i = 0; rc == SL_AGAIN; i++) {
        rc = i < TRIES_MAX ? remove_once(&choice, version) : busy(u);
    }
    return rc;
}

static const gw_filters_ops_t ops = {list, show, versions, upload, set_schema, select_version, remove_version};

void nd_uploads_init(nd_uploads_t *u, const nd_node_t *node, st_store_t *store) {
    memset(u, 0, sizeof(*u));
    u->base.ops = &ops;
    u->node = node;
    u->store = store;
}
