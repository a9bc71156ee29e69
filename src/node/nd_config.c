#include "nd_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gw_options.h"
#include "mh.h"
#include "sl_digest.h"
#include "sl_file.h"
#include "sl_parallel.h"
#include "store.h"

sl_status_t nd_filters_open(const nd_node_t *node, st_tx_t *tx, nd_filters_t **out, sl_err_t *err) {
    nd_filters_t *filters;
    sl_status_t rc = nd_filters_scan(node->wasm_enabled ? node->filters_path : NULL, node->filters_choose, &filters, err);
    if (rc != SL_OK) {
        return rc;
    }
    rc = tx != NULL && node->wasm_enabled ? nd_filters_add_store(filters, tx, err) : SL_OK;
    if (rc != SL_OK) {
        nd_filters_free(filters);
        return rc;
    }
    nd_filters_identify(filters, node->modules);
    *out = filters;
    return SL_OK;
}

/* ---- modules --------------------------------------------------------------------------------------------------------- */

static sl_status_t read_from_store(const nd_node_t *node, const char *sha256, sl_buf_t *out, sl_err_t *err) {
    if (node->store_path == NULL) {
        return sl_err_set(err, SL_NOT_FOUND, "module %s is not there any more", sha256);
    }
    st_conf_t conf = {.path = node->store_path, .read_only = true, .unchecked = true};
    st_store_t *store;
    st_tx_t *tx;
    sl_status_t rc = st_store_open(&conf, &store, err);
    if (rc != SL_OK) {
        return rc;
    }
    rc = st_tx_begin(store, ST_READ, ST_ANY_REVISION, &tx, err);
    if (rc == SL_OK) {
        rc = st_module_read(tx, sl_cstr(sha256), out, err);
        st_tx_rollback(tx);
    }
    st_store_close(store);
    return rc;
}

/* The copy, which was checked, before anything else. */
sl_status_t nd_module_read(const nd_node_t *node, const nd_filter_t *f, sl_buf_t *out, sl_err_t *err) {
    if (f->sha256[0] != '\0' && nd_modules_read(node->modules, f->sha256, out, NULL) == SL_OK) {
        return SL_OK;
    }
    sl_buf_reset(out);
    sl_status_t rc = f->path != NULL ? sl_file_read(f->path, out, err) : read_from_store(node, f->sha256, out, err);
    return rc == SL_OK && f->sha256[0] != '\0' ? nd_modules_write(node->modules, f->sha256, sl_buf_str(out), err) : rc;
}

sl_status_t nd_module_load(const nd_node_t *node, const nd_filter_t *f, sl_module_t **out, sl_err_t *err) {
    sl_buf_t bytes;
    nd_sha256_t found;
    sl_buf_init(&bytes, ND_MODULE_MAX_BYTES);
    sl_status_t rc = nd_module_read(node, f, &bytes, err);
    rc = rc == SL_OK ? sl_module_get(node->engine, node->cache, sl_buf_str(&bytes), out, err) : rc;
    if (rc == SL_OK) {
        sl_hex(sl_module_info(*out)->sha256, SL_SHA256_SIZE, found);
        if (f->sha256[0] != '\0' && strcmp(found, f->sha256) != 0) {
            sl_module_unref(*out);
            rc = sl_err_set(err, SL_CONFLICT, "the module changed while it was read: its SHA-256 is %s, not %s", found, f->sha256);
        } else {
            nd_modules_set_ready(node->modules, found, bytes.len);
        }
    }
    if (rc != SL_OK) {
        sl_err_prefix(err, "%s%s: ", f->path != NULL ? "" : "filter ", f->path != NULL ? f->path : f->name);
    }
    sl_buf_deinit(&bytes);
    return rc;
}

/* Where a module comes from whose copy is lost; NULL: none of the installed ones. */
static const nd_filter_t *installed_as(const nd_node_t *node, sl_str_t name, const char *sha256) {
    for (size_t i = 0; i < nd_filters_count(node->filters); i++) {
        const nd_filter_t *f = nd_filters_at(node->filters, i);
        nd_sha256_t found;
        uint64_t size_bytes;
        if (f->path != NULL && sl_str_eq(sl_cstr(f->name), name) && node->modules != NULL &&
            nd_modules_digest(node->modules, f->path, found, &size_bytes, NULL) == SL_OK && strcmp(found, sha256) == 0) {
            return f;
        }
    }
    return NULL;
}

sl_status_t nd_module_load_sha256(const nd_node_t *node, sl_str_t name, const uint8_t sha256[SL_SHA256_SIZE], sl_module_t **out,
                                  sl_err_t *err) {
    char text[256];
    nd_filter_t wanted = {.name = text};
    snprintf(text, sizeof(text), "%.*s", SL_FMT(name));
    sl_hex(sha256, SL_SHA256_SIZE, wanted.sha256);
    sl_status_t rc = nd_module_load(node, &wanted, out, err);
    const nd_filter_t *file = rc != SL_OK ? installed_as(node, name, wanted.sha256) : NULL;
    if (file != NULL) {
        wanted.path = file->path;
        rc = nd_module_load(node, &wanted, out, err);
    }
    return rc;
}

sl_status_t nd_filter_of(const nd_node_t *node, const json_t *entry, const nd_filter_t **out, sl_err_t *err) {
    nd_filter_ref_t ref = nd_filter_ref(entry);
    *out = nd_filters_resolve(node->filters, &ref);
    if (*out != NULL) {
        return SL_OK;
    }
    if (nd_filters_find(node->filters, ref.name) != NULL) {
        return sl_err_set(err, SL_NOT_FOUND, "filter '%.*s' has no such version: %.*s", SL_FMT(ref.name),
                          SL_FMT(ref.version.len != 0 ? ref.version : ref.sha256));
    }
    return sl_err_set(err, SL_NOT_FOUND, "filter '%.*s' is not installed; install %.*s.wasm in the filters folder", SL_FMT(ref.name),
                      SL_FMT(ref.name));
}

/* ---- what validation asks -------------------------------------------------------------------------------------------- */

static bool has_filter(void *ud, sl_str_t name) {
    return nd_filters_find(((const nd_node_t *)ud)->filters, name) != NULL;
}

/* Versions that are not current are passed over. */
static sl_str_t filter_at(void *ud, size_t n) {
    const nd_filters_t *filters = ((const nd_node_t *)ud)->filters;
    const nd_filter_t *f = n < nd_filters_count(filters) ? nd_filters_at(filters, n) : NULL;
    if (f == NULL) {
        return SL_STR_NULL;
    }
    return nd_filters_find(filters, sl_cstr(f->name)) == f ? sl_cstr(f->name) : SL_STR("");
}

static sl_str_t filter_schema(void *ud, sl_str_t name) {
    const nd_filter_t *f = nd_filters_find(((const nd_node_t *)ud)->filters, name);
    return f != NULL ? f->schema : SL_STR_NULL;
}

static sl_status_t filter_version(void *ud, sl_str_t name, sl_str_t version, sl_str_t sha256, sl_str_t *schema) {
    nd_filter_ref_t ref = {name, version, sha256};
    const nd_filter_t *f = nd_filters_resolve(((const nd_node_t *)ud)->filters, &ref);
    if (f == NULL) {
        return SL_NOT_FOUND;
    }
    if (schema != NULL) {
        *schema = f->schema;
    }
    return SL_OK;
}

void nd_validate_env(const nd_node_t *node, gw_validate_env_t *env) {
    struct timespec now = {.tv_sec = 0};
    clock_gettime(CLOCK_REALTIME, &now);
    *env = (gw_validate_env_t){
        .wasm_enabled = node->wasm_enabled,
        .has_filter = has_filter,
        .filter_at = filter_at,
        .any_filters = nd_filters_count(node->filters) != 0,
        .filter_schema = filter_schema,
        .filter_version = filter_version,
        .ud = (void *)(uintptr_t)node,
        .now_s = (int64_t)now.tv_sec,
        .now_ms = (int)(now.tv_nsec / 1000000),
    };
}

/* ---- modules of a configuration ---------------------------------------------------------------------------------------- */

/* One that was loaded, or why it was not. */
typedef struct {
    const nd_filter_t *filter;
    sl_module_t *module;
    sl_status_t rc;
    sl_err_t err;
} loaded_t;

/* Each once; compiled on as many processors as there are. */
typedef struct {
    const nd_node_t *node;
    loaded_t *list;
    size_t n, cap;
} modules_t;

static loaded_t *modules_find(const modules_t *m, const nd_filter_t *f) {
    for (size_t i = 0; i < m->n; i++) {
        if (m->list[i].filter == f) {
            return &m->list[i];
        }
    }
    return NULL;
}

static void modules_add(modules_t *m, const nd_filter_t *f) {
    if (modules_find(m, f) != NULL) {
        return;
    }
    if (m->n == m->cap) {
        size_t cap = m->cap == 0 ? 8 : 2 * m->cap;
        loaded_t *list = realloc(m->list, cap * sizeof(*list));
        if (list == NULL) {
            return; /* loaded when it is needed */
        }
        m->list = list;
        m->cap = cap;
    }
    m->list[m->n++] = (loaded_t){.filter = f};
}

static void load_one(void *ud, size_t i) {
    modules_t *m = ud;
    loaded_t *l = &m->list[i];
    sl_module_t *module;
    l->rc = nd_module_load(m->node, l->filter, &module, &l->err);
    l->module = l->rc == SL_OK ? module : NULL;
}

static void modules_load(modules_t *m) {
    sl_parallel(m->n, 0, load_one, m);
}

/* A reference of the caller's. */
static sl_status_t modules_get(const modules_t *m, const nd_filter_t *f, sl_module_t **out, sl_err_t *err) {
    loaded_t *l = modules_find(m, f);
    if (l == NULL) {
        return nd_module_load(m->node, f, out, err);
    }
    if (l->rc != SL_OK) {
        *err = l->err;
        return l->rc;
    }
    *out = sl_module_ref(l->module);
    return SL_OK;
}

static void modules_free(modules_t *m) {
    for (size_t i = 0; i < m->n; i++) {
        sl_module_unref(m->list[i].module);
    }
    free(m->list);
}

/* ---- trying ---------------------------------------------------------------------------------------------------------- */

/* A (filter, configuration) that has been tried; an open-addressed set of digests, so that 1,000 equal chains cost one start. */
typedef struct {
    uint8_t (*digests)[SL_SHA256_SIZE];
    size_t n, cap;
} tried_t;

/* Adds; false when it was there. Linear over the distinct ones per filter would do, but hostile documents are large: sorted insert. */
static sl_status_t tried_add(tried_t *t, const uint8_t digest[SL_SHA256_SIZE], bool *added) {
    size_t lo = 0;
    for (size_t hi = t->n; lo < hi;) {
        size_t mid = lo + (hi - lo) / 2;
        int rc = memcmp(t->digests[mid], digest, SL_SHA256_SIZE);
        if (rc == 0) {
            *added = false;
            return SL_OK;
        }
        if (rc < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (t->n == t->cap) {
        size_t cap = t->cap == 0 ? 64 : t->cap * 2;
        void *p = realloc(t->digests, cap * SL_SHA256_SIZE);
        if (p == NULL) {
            return SL_NO_MEMORY;
        }
        t->digests = p;
        t->cap = cap;
    }
    memmove(t->digests + lo + 1, t->digests + lo, (t->n - lo) * SL_SHA256_SIZE);
    memcpy(t->digests[lo], digest, SL_SHA256_SIZE);
    t->n++;
    *added = true;
    return SL_OK;
}

typedef struct {
    const nd_node_t *node;
    const json_t *entities;
    sl_str_t only; /* the current version of this filter; {NULL,0}: all */
    tried_t tried;
    modules_t modules;
    bool collecting; /* nothing is tried yet: which modules are needed? */
    sl_err_t *err;
} trial_t;

static sl_status_t first_time(trial_t *t, const nd_filter_t *f, sl_str_t config, const sl_filter_opts_t *opts, bool *added) {
    sl_buf_t key;
    sl_buf_init(&key, SIZE_MAX / 2);
    sl_buf_printf(&key, "%s %u %s", f->name, f->number, f->sha256);
    sl_buf_append_char(&key, '\0');
    sl_filter_opts_write(opts, &key);
    sl_buf_append_char(&key, '\0');
    sl_buf_append_str(&key, config);
    uint8_t digest[SL_SHA256_SIZE];
    sl_status_t rc = key.failed ? SL_NO_MEMORY : sl_sha256(sl_buf_str(&key), digest);
    if (rc == SL_OK) {
        rc = tried_add(&t->tried, digest, added);
    }
    sl_buf_deinit(&key);
    return rc == SL_OK ? SL_OK : sl_err_set(t->err, rc, "out of memory");
}

/* 7.3 of the format: a string is passed as it is, nothing as empty, anything else as compact JSON. *owned must be freed. */
static sl_str_t config_bytes(const json_t *config, char **owned) {
    *owned = NULL;
    if (config == NULL || json_is_null(config)) {
        return SL_STR("");
    }
    if (json_is_string(config)) {
        return sl_str(json_string_value(config), json_string_length(config));
    }
    *owned = json_dumps(config, JSON_COMPACT | JSON_ENCODE_ANY);
    return sl_cstr(*owned);
}

/* What the filter had to say: the last line at warning or above, for the message when it does not start. */
typedef struct {
    char text[400];
} last_words_t;

static void keep_last(void *ud, uint32_t level, sl_str_t line) {
    last_words_t *last = ud;
    if (level >= PW_LOG_WARN) {
        snprintf(last->text, sizeof(last->text), "%.*s", SL_FMT(line));
    }
}

static sl_status_t start_once(trial_t *t, const nd_filter_t *f, sl_str_t config, const sl_filter_opts_t *opts, bool start) {
    bool fresh = false;
    sl_status_t rc = first_time(t, f, config, opts, &fresh);
    if (rc != SL_OK || !fresh) {
        return rc;
    }
    sl_module_t *module = NULL;
    rc = modules_get(&t->modules, f, &module, t->err);
    if (rc != SL_OK) {
        return rc;
    }
    if (start) {
        pw_filter_conf_t conf = {.name = sl_cstr(f->name), .config = config, .module = module, .opts = *opts};
        last_words_t last = {.text = ""};
        rc = mh_canary(&conf, NULL, keep_last, &last, t->err);
        if (rc != SL_OK && last.text[0] != '\0') {
            size_t used = strlen(t->err->text);
            snprintf(t->err->text + used, sizeof(t->err->text) - used, "; it logged: %s", last.text);
        }
    } else {
        pw_abi_version_t abi;
        rc = pw_module_check(module, &abi, t->err);
    }
    sl_module_unref(module);
    return rc;
}

/* The name, else the id, of the service or route that a chain or plugin belongs to; *kind says which it is. */
static const char *owner_of(const trial_t *t, const json_t *entity, sl_str_t *kind) {
    bool of_route = json_is_object(json_object_get(entity, "route"));
    const char *id = json_string_value(json_object_get(json_object_get(entity, of_route ? "route" : "service"), "id"));
    const char *name =
        json_string_value(json_object_get(json_object_get(json_object_get(t->entities, of_route ? "routes" : "services"), id), "name"));
    *kind = of_route ? SL_STR("route") : SL_STR("service");
    return name != NULL ? name : id;
}

/* "filter chain 'name' of route 'r', filters[0] (hello): "; chains seldom have names, so their owner is what tells them apart. */
static void prefix_place(const trial_t *t, const json_t *chain, size_t i, const char *filter) {
    sl_str_t kind;
    const char *owner = owner_of(t, chain, &kind);
    const char *name = json_string_value(json_object_get(chain, "name"));
    sl_err_prefix(t->err, "filter chain %s%s%sof %.*s '%s', filters[%zu] (%s): ", name != NULL ? "'" : "", name != NULL ? name : "",
                  name != NULL ? "' " : "", SL_FMT(kind), owner, i, filter);
}

/* Entries that name another version go on with it, whatever is current. */
static bool concerned(const trial_t *t, const json_t *entry, const nd_filter_t *f) {
    return t->only.data == NULL || (sl_str_eq(sl_cstr(f->name), t->only) && f == nd_filters_find(t->node->filters, t->only) &&
                                    nd_filter_ref(entry).sha256.len == 0);
}

static sl_status_t try_entry(trial_t *t, const json_t *entry, bool start) {
    const nd_filter_t *f;
    sl_filter_opts_t opts;
    sl_arena_t arena;
    char *owned;
    sl_str_t name = nd_filter_ref(entry).name;
    if (t->only.data != NULL && !sl_str_eq(name, t->only)) {
        return SL_OK;
    }
    sl_status_t rc = nd_filter_of(t->node, entry, &f, t->err);
    if (t->collecting) {
        if (rc == SL_OK && concerned(t, entry, f)) {
            modules_add(&t->modules, f);
        }
        return SL_OK;
    }
    if (rc != SL_OK || !concerned(t, entry, f)) {
        return rc;
    }
    sl_str_t config = config_bytes(json_object_get(entry, "config"), &owned);
    sl_arena_init(&arena, 1024, 65536);
    rc = gw_options_read(entry, &opts, &arena, t->err);
    if (rc == SL_OK) {
        sl_filter_opts_inherit(&opts, &t->node->opts);
        rc = start_once(t, f, config, &opts, start);
    }
    sl_arena_deinit(&arena);
    free(owned);
    return rc;
}

static sl_status_t try_chain(trial_t *t, const json_t *chain) {
    bool chain_on = json_is_true(json_object_get(chain, "enabled"));
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(chain, "filters"), i, entry) {
        sl_status_t rc = try_entry(t, entry, chain_on && json_is_true(json_object_get(entry, "enabled")));
        if (rc != SL_OK) {
            prefix_place(t, chain, i, json_string_value(json_object_get(entry, "name")));
            return rc == SL_NO_MEMORY ? rc : SL_INVALID;
        }
    }
    return SL_OK;
}

/* A filter that was configured as a plugin. */
static sl_status_t try_plugin(trial_t *t, const json_t *plugin) {
    sl_status_t rc = try_entry(t, plugin, json_is_true(json_object_get(plugin, "enabled")));
    if (rc != SL_OK) {
        sl_str_t kind;
        const char *owner = owner_of(t, plugin, &kind);
        sl_err_prefix(t->err, "plugin '%s' of %.*s '%s': ", json_string_value(json_object_get(plugin, "name")), SL_FMT(kind), owner);
    }
    return rc == SL_OK || rc == SL_NO_MEMORY ? rc : SL_INVALID;
}

static sl_status_t try_each(trial_t *t, const char *collection, sl_status_t (*try)(trial_t *t, const json_t *entity)) {
    const char *id;
    json_t *entity;
    json_object_foreach(json_object_get(t->entities, collection), id, entity) {
        sl_status_t rc = try(t, entity);
        if (rc != SL_OK) {
            return rc;
        }
    }
    return SL_OK;
}

static void collect_all(trial_t *t) {
    t->collecting = true;
    (void)try_each(t, "filter_chains", try_chain);
    (void)try_each(t, "plugins", try_plugin);
    t->collecting = false;
}

static sl_status_t try_all(trial_t *t) {
    collect_all(t);
    modules_load(&t->modules);
    sl_status_t rc = try_each(t, "filter_chains", try_chain);
    rc = rc == SL_OK ? try_each(t, "plugins", try_plugin) : rc;
    free(t->tried.digests);
    modules_free(&t->modules);
    return rc;
}

sl_status_t nd_config_try(const nd_node_t *node, const json_t *entities, sl_err_t *err) {
    trial_t t = {.node = node, .entities = entities, .modules = {.node = node}, .err = err};
    return try_all(&t);
}

sl_status_t nd_config_try_filter(const nd_node_t *node, const json_t *entities, sl_str_t name, sl_err_t *err) {
    trial_t t = {.node = node, .entities = entities, .only = name, .modules = {.node = node}, .err = err};
    return try_all(&t);
}

/* ---- writing the plan ------------------------------------------------------------------------------------------------ */

/* The modules of a plan, each once; a plan has few. */
typedef struct {
    nd_sha256_t *list;
    size_t n, cap;
    bool failed;
} digests_t;

static void add_digest(digests_t *d, const nd_sha256_t sha256) {
    for (size_t i = d->n; i > 0; i--) {
        if (strcmp(d->list[i - 1], sha256) == 0) {
            return;
        }
    }
    if (d->n == d->cap) {
        size_t cap = d->cap == 0 ? 32 : 2 * d->cap;
        nd_sha256_t *list = realloc(d->list, cap * sizeof(*list));
        if (list == NULL) {
            d->failed = true;
            return;
        }
        d->list = list;
        d->cap = cap;
    }
    memcpy(d->list[d->n++], sha256, sizeof(nd_sha256_t));
}

static void add_digests_of(digests_t *d, const gw_plan_t *plan) {
    for (uint32_t i = 0; i < gw_plan_n_filters(plan); i++) {
        gw_filter_t f;
        nd_sha256_t text;
        gw_plan_filter(plan, i, &f);
        sl_hex(f.module, sizeof(f.module), text);
        add_digest(d, text);
    }
}

typedef struct {
    const nd_node_t *node;
    digests_t digests;
} building_t;

/* Compiled and copied before any worker asks for it. */
static sl_status_t make_ready(const nd_node_t *node, const nd_filter_t *f, sl_err_t *err) {
    sl_module_t *module;
    if (node->modules == NULL || nd_modules_ready(node->modules, f->sha256)) {
        return SL_OK;
    }
    sl_status_t rc = nd_module_load(node, f, &module, err);
    if (rc == SL_OK) {
        sl_module_unref(module);
    }
    return rc;
}

static void make_one_ready(void *ud, size_t i) {
    modules_t *m = ud;
    (void)make_ready(m->node, m->list[i].filter, NULL); /* asked for again when the plan is built, and said then */
}

/* Those of a whole configuration. */
static void make_all_ready(const nd_node_t *node, const json_t *entities) {
    trial_t t = {.node = node, .entities = entities, .modules = {.node = node}};
    if (node->modules == NULL) {
        return;
    }
    collect_all(&t);
    sl_parallel(t.modules.n, 0, make_one_ready, &t.modules);
    modules_free(&t.modules);
}

static sl_status_t module_of(void *ud, const json_t *entry, uint8_t sha256[SL_SHA256_SIZE], sl_err_t *err) {
    building_t *b = ud;
    const nd_filter_t *f;
    sl_status_t rc = nd_filter_of(b->node, entry, &f, err);
    rc = rc == SL_OK ? make_ready(b->node, f, err) : rc;
    if (rc != SL_OK) {
        return rc == SL_NO_MEMORY ? rc : SL_INVALID;
    }
    if (f->sha256[0] != '\0') {
        (void)nd_sha256_bytes(f->sha256, sha256);
        add_digest(&b->digests, f->sha256);
    }
    return SL_OK;
}

static bool code_is_wanted(void *ud, const uint8_t module_sha256[SL_SHA256_SIZE]) {
    const digests_t *wanted = ud;
    nd_sha256_t text;
    sl_hex(module_sha256, SL_SHA256_SIZE, text);
    for (size_t i = 0; i < wanted->n; i++) {
        if (strcmp(wanted->list[i], text) == 0) {
            return true;
        }
    }
    return false;
}

/* Lets go of modules that nothing has any more; compiled code is kept for every installed version, so that switching to it is quick. */
static void sweep(const nd_node_t *node, digests_t *planned, bool code) {
    nd_modules_sweep(node->modules, planned->list, planned->n);
    if (!code || node->cache == NULL || node->filters == NULL) {
        return;
    }
    for (size_t i = 0; i < nd_filters_count(node->filters); i++) {
        add_digest(planned, nd_filters_at(node->filters, i)->sha256);
    }
    if (!planned->failed) {
        sl_cache_sweep(node->cache, ND_MODULE_YOUNG_S, code_is_wanted, planned);
    }
}

/* Held until it is closed, or the process ends. */
static int lock_plan(const char *plan_path, sl_err_t *err) {
    char path[4224];
    snprintf(path, sizeof(path), "%s.lock", plan_path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = fd;
    while (fd >= 0 && (rc = flock(fd, LOCK_EX)) != 0 && errno == EINTR) {
    }
    if (rc >= 0) {
        return fd;
    }
    sl_err_set(err, SL_IO, "%s: cannot lock: %s", path, strerror(errno));
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

/* What a plan is made of. */
typedef struct {
    const gw_plan_t *base;
    const json_t *entities, *gone;
    gw_plan_conf_t conf;
} material_t;

static bool share(const nd_node_t *node, const sl_buf_t *image, uint64_t generation, uint64_t revision) {
    return node->share != NULL && node->share(node->share_ud, sl_buf_str(image), generation, revision);
}

/* A reload and a worker may write at the same time: the later one has the higher generation. */
static sl_status_t write_plan(const nd_node_t *node, material_t *m, uint64_t *generation, sl_err_t *err) {
    if (m->base == NULL) {
        make_all_ready(node, m->entities);
    }
    int lock = lock_plan(node->plan_path, err);
    if (lock < 0) {
        return SL_IO;
    }
    building_t building = {.node = node};
    uint64_t next = gw_plan_peek_generation(node->plan_path) + 1;
    *generation = *generation > next ? *generation : next;
    m->conf.generation = *generation;
    m->conf.traditional = node->traditional;
    m->conf.module_of = module_of;
    m->conf.ud = &building;
    if (m->base != NULL) {
        add_digests_of(&building.digests, m->base);
    }
    sl_buf_t image;
    sl_buf_init(&image, (size_t)2 * 1024 * 1024 * 1024);
    sl_status_t rc = m->base != NULL ? gw_plan_update(m->base, m->entities, m->gone, &m->conf, &image, err)
                                     : gw_plan_build(m->entities, &m->conf, &image, err);
    bool shared = rc == SL_OK && m->conf.store_revision != 0 && share(node, &image, *generation, m->conf.store_revision);
    if (rc == SL_OK) {
        rc = m->conf.store_revision != 0 ? sl_file_write_soon(node->plan_path, sl_buf_str(&image), 0600, err)
                                         : sl_file_write_atomic(node->plan_path, sl_buf_str(&image), 0600, err);
    }
    if (rc == SL_OK && m->conf.store_revision == 0) {
        (void)share(node, &image, *generation, 0);
    }
    rc = shared ? SL_OK : rc; /* err says what became of the file */
    if (rc == SL_OK && !building.digests.failed) {
        sweep(node, &building.digests, m->base == NULL);
    }
    free(building.digests.list);
    sl_buf_deinit(&image);
    close(lock);
    return rc;
}

sl_status_t nd_plan_write(const nd_node_t *node, const json_t *entities, sl_str_t config_hash, uint64_t *generation, sl_err_t *err) {
    material_t m = {.entities = entities, .conf = {.config_hash = config_hash}};
    return write_plan(node, &m, generation, err);
}

sl_status_t nd_plan_write_revision(const nd_node_t *node, const gw_plan_t *base, const json_t *entities, const json_t *gone,
                                   uint64_t *generation, uint64_t revision, const uint8_t installed[SL_SHA256_SIZE], sl_err_t *err) {
    material_t m = {.base = base, .entities = entities, .gone = gone, .conf = {.store_revision = revision}};
    memcpy(m.conf.modules, installed, sizeof(m.conf.modules));
    return write_plan(node, &m, generation, err);
}
