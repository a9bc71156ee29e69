#include "nd_publish.h"

#include <stdio.h>

typedef struct {
    nd_node_t node; /* with what is installed now */
    nd_filters_t *filters;
    json_t *entities, *gone; /* what has changed since the plan; gone NULL: entities are all there are */
    json_t *looked;          /* names of filters whose files have been looked at */
    const gw_plan_t *plan;   /* the one there is; NULL: none */
    uint8_t installed[SL_SHA256_SIZE];
    nd_publication_t *p;
    sl_err_t *err;
} publishing_t;

/* ---- files that have changed ------------------------------------------------------------------------------------------ */

/* Whether the chain, as the plan has it, has an entry of this name that leaves the version open. What no entry names is a plugin, which
 * always does. */
static bool runs_current(const gw_plan_t *plan, sl_str_t chain_id, sl_str_t name) {
    size_t i;
    json_t *entry;
    bool found = false, named = false;
    sl_str_t text = gw_plan_entity(plan, SL_STR("filter_chains"), chain_id);
    json_t *chain = text.len != 0 ? json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL) : NULL;
    json_array_foreach(json_object_get(chain, "filters"), i, entry) {
        nd_filter_ref_t ref = nd_filter_ref(entry);
        bool same = sl_str_eq(ref.name, name);
        named = named || same;
        found = found || (same && ref.version.len == 0 && ref.sha256.len == 0);
    }
    json_decref(chain);
    return found || !named;
}

/* true: this name is new to the list. */
static bool first_look(publishing_t *x, sl_str_t name) {
    char key[512];
    snprintf(key, sizeof(key), "%.*s", SL_FMT(name));
    if (json_object_get(x->looked, key) != NULL) {
        return false;
    }
    (void)json_object_set_new(x->looked, key, json_true()); /* else it is looked at again */
    return true;
}

/*
 * The file of a filter is not what the plan runs: may it be from now on? SL_AGAIN: that is not known, and what would have to be tried has
 * not been loaded.
 */
static sl_status_t look_at_file(publishing_t *x, sl_str_t name, const nd_sha256_t before) {
    const nd_filter_t *f = nd_filters_find(x->filters, name);
    const char *content = f != NULL && f->sha256[0] != '\0' ? f->sha256 : before;
    sl_err_t why = {.text = "its file is gone"};
    if (!first_look(x, name) || (f != NULL && f->number != 0)) {
        return SL_OK;
    }
    if (f != NULL && f->sha256[0] == '\0') {
        sl_err_set(&why, SL_IO, "its file cannot be read");
    } else if (f != NULL && !nd_modules_noted(x->node.modules, content)) {
        if (x->gone != NULL) {
            return SL_AGAIN;
        }
        if (nd_config_try_filter(&x->node, x->entities, name, &why) == SL_OK) {
            return SL_OK;
        }
    }
    if (nd_modules_note(x->node.modules, content)) {
        sl_err_set(&x->p->note, SL_INVALID, "filter '%.*s' goes on as it was: %s", SL_FMT(name), why.text);
    }
    return nd_filters_hold(x->filters, name, before, x->err);
}

/* Every filter of the plan there is that runs a file. */
static sl_status_t look_at_files(publishing_t *x) {
    static const uint8_t unknown[SL_SHA256_SIZE];
    sl_status_t rc = SL_OK;
    for (uint32_t i = 0; rc == SL_OK && i < gw_plan_n_filters(x->plan); i++) {
        gw_filter_t f;
        nd_sha256_t before;
        gw_plan_filter(x->plan, i, &f);
        sl_hex(f.module, sizeof(f.module), before);
        const nd_filter_t *now = nd_filters_find(x->filters, f.name);
        bool same = now != NULL && strcmp(now->sha256, before) == 0;
        if (!same && memcmp(f.module, unknown, sizeof(unknown)) != 0 && runs_current(x->plan, f.chain_id, f.name)) {
            rc = look_at_file(x, f.name, before);
        }
    }
    return rc;
}

/* ---- what there is ----------------------------------------------------------------------------------------------------- */

/* Whether the plan that is there was built from these installed filters. */
static bool is_planned(const publishing_t *x) {
    return x->plan != NULL && memcmp(gw_plan_modules(x->plan), x->installed, SL_SHA256_SIZE) == 0;
}

static sl_status_t read_installed(publishing_t *x, st_tx_t *tx) {
    sl_status_t rc = nd_filters_open(&x->node, tx, &x->filters, x->err);
    if (rc != SL_OK) {
        return rc;
    }
    x->node.filters = x->filters;
    rc = nd_filters_fingerprint(x->filters, x->installed);
    return rc == SL_OK ? rc : sl_err_set(x->err, rc, "no digest of the installed filters");
}

/* The first name of which nobody was told. */
static void look_for_shadows(publishing_t *x) {
    for (size_t i = 0; x->node.modules != NULL && i < nd_filters_count(x->filters); i++) {
        const nd_filter_t *file = nd_filters_at(x->filters, i);
        const nd_filter_t *active = nd_filters_find(x->filters, sl_cstr(file->name));
        char text[512];
        nd_sha256_t key;
        if (file->path == NULL || active == NULL || active == file) {
            continue;
        }
        snprintf(text, sizeof(text), "shadow %s", file->name);
        nd_sha256_of(sl_cstr(text), key);
        if (nd_modules_note(x->node.modules, key)) {
            sl_err_set(&x->p->shadow, SL_CONFLICT, "filter '%s': version %u, which was uploaded, shadows the file %s", file->name,
                       active->number, file->path);
            return;
        }
    }
}

/* What changed since the plan in service, if that was built from the same filters; else everything. */
static sl_status_t load(publishing_t *x, st_tx_t *tx, bool all) {
    bool update = !all && x->plan != NULL && gw_plan_store_revision(x->plan) != 0 && is_planned(x);
    json_decref(x->entities);
    json_decref(x->gone);
    x->entities = x->gone = NULL;
    if (!update && x->p->loaded != NULL && x->p->loaded_revision == st_tx_revision(tx)) {
        x->entities = json_incref((json_t *)(uintptr_t)x->p->loaded);
        return SL_OK;
    }
    return update ? st_tx_changes(tx, gw_plan_store_revision(x->plan), &x->entities, &x->gone, x->err)
                  : st_tx_load(tx, &x->entities, x->err);
}

static sl_status_t write(publishing_t *x) {
    json_decref(x->looked);
    x->looked = json_object();
    look_for_shadows(x);
    sl_status_t rc = x->plan != NULL && x->node.modules != NULL ? look_at_files(x) : SL_OK;
    x->err->text[0] = '\0';
    if (rc == SL_OK) {
        rc = nd_plan_write_revision(&x->node, x->gone != NULL ? x->plan : NULL, x->entities, x->gone, &x->p->generation, x->p->revision,
                                    x->installed, x->err);
    }
    x->p->written = rc == SL_OK;
    if (rc == SL_OK && x->err->text[0] != '\0' && x->p->note.text[0] == '\0') {
        x->p->note = *x->err; /* it is served, but its file is older */
    }
    return rc;
}

/* `all`: builds the whole. SL_OK without entities: the plan that is there will do. */
static sl_status_t publish(publishing_t *x, st_store_t *store, bool all) {
    st_tx_t *tx;
    sl_status_t rc = st_tx_begin(store, ST_READ, ST_ANY_REVISION, &tx, x->err);
    if (rc != SL_OK) {
        return rc;
    }
    x->p->revision = st_tx_revision(tx);
    nd_filters_free(x->filters);
    x->filters = NULL;
    rc = read_installed(x, tx);
    bool same = rc == SL_OK && (x->node.modules == NULL || nd_modules_unchanged(x->node.modules, x->installed) || is_planned(x));
    bool needed = rc == SL_OK && (x->p->revision != x->p->have || !same);
    rc = needed ? load(x, tx, all) : rc;
    st_tx_rollback(tx); /* what follows may take seconds */
    return needed && rc == SL_OK ? write(x) : rc;
}

sl_status_t nd_publish(const nd_node_t *node, st_store_t *store, const gw_plan_t *base, nd_publication_t *p, sl_err_t *err) {
    publishing_t x = {.node = *node, .plan = base, .p = p, .err = err};
    gw_plan_t *opened = NULL;
    p->written = false;
    p->note.text[0] = '\0';
    p->shadow.text[0] = '\0';
    if (base == NULL && node->plan_path != NULL && gw_plan_open_file(node->plan_path, &opened, NULL) == SL_OK) {
        x.plan = opened; /* for what it runs; it is no base */
    }
    sl_status_t rc = publish(&x, store, base == NULL);
    if (rc != SL_OK && base != NULL) {
        rc = publish(&x, store, true); /* whatever speaks against an update, the whole is asked: it says what is wrong, if anything is */
    }
    gw_plan_close(opened);
    json_decref(x.looked);
    json_decref(x.entities);
    json_decref(x.gone);
    nd_filters_free(x.filters);
    return rc;
}
