/* sluice config diff: what a declarative file would change. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "cli.h"
#include "gw_schema.h"
#include "prepare.h"
#include "sl_file.h"

#define DOCUMENT_MAX ((size_t)256 * 1024 * 1024)

typedef struct {
    json_t *tree, *index;
} side_t;

typedef struct {
    const settings_t *s;
    const prepared_t *p;
    const char *path;
    sl_str_t text;
    side_t now, then;
    size_t added, changed, removed;
    bool done; /* in memory that the child shares */
} diff_t;

/* ---- one entity ------------------------------------------------------------------------------------------------------------ */

static const char *label_of(const gw_entity_t *kind, const json_t *entity) {
    const char *key = kind->endpoint_key != NULL ? json_string_value(json_object_get(entity, kind->endpoint_key)) : NULL;
    return key != NULL ? key : json_string_value(json_object_get(entity, "id"));
}

static const json_t *referred(const json_t *tree, const gw_field_t *f, const json_t *value) {
    const char *id = json_string_value(json_object_get(value, "id"));
    return id != NULL ? json_object_get(json_object_get(tree, f->reference), id) : NULL;
}

/*
 * What a thing is known by, whatever id it has: its unique key, or the fields that are unique together, with what they refer to in the
 * same way. Documents leave ids out, so that those of a store, which made up its own, differ.
 */
static void append_identity(const json_t *tree, const gw_entity_t *kind, const json_t *entity, sl_buf_t *out) {
    const gw_field_t *key = kind->endpoint_key != NULL ? gw_field_find(kind->fields, kind->endpoint_key) : NULL;
    const char *text = key != NULL && key->unique ? json_string_value(json_object_get(entity, key->name)) : NULL;
    if (text != NULL || kind->cache_key == NULL) {
        sl_buf_printf(out, "%s=%s", kind->name, text != NULL ? text : json_string_value(json_object_get(entity, "id")));
        return;
    }
    for (const char *const *name = kind->cache_key; *name != NULL; name++) {
        const gw_field_t *f = gw_field_find(kind->fields, *name);
        const json_t *value = json_object_get(entity, *name);
        const json_t *parent = f->type == GW_TYPE_FOREIGN ? referred(tree, f, value) : NULL;
        sl_buf_printf(out, "|%s=%s", *name, json_is_string(value) ? json_string_value(value) : "");
        if (parent != NULL) {
            append_identity(tree, gw_entity_find(sl_cstr(f->reference)), parent, out);
        }
    }
}

/* Of the whole tree: collection -> identity -> entity. NULL without memory. */
static json_t *index_of(const json_t *tree) {
    json_t *index = json_object();
    for (const gw_entity_t *kind = gw_entities; index != NULL && kind->name != NULL; kind++) {
        const char *id;
        json_t *entity, *collection = json_object();
        json_object_foreach(json_object_get(tree, kind->name), id, entity) {
            sl_buf_t text;
            sl_buf_init(&text, 65536);
            append_identity(tree, kind, entity, &text);
            const char *name = sl_buf_cstr(&text);
            if (name != NULL) {
                json_object_set_nocheck(collection, name, entity);
            }
            sl_buf_deinit(&text);
        }
        if (json_object_set_new(index, kind->name, collection) != 0) {
            json_decref(index);
            index = NULL;
        }
    }
    return index;
}

/* The entity of the other tree that is the same thing; NULL: there is none. */
static const json_t *find_counterpart(const side_t *mine, const side_t *other, const gw_entity_t *kind, const json_t *entity,
                                      const char *id) {
    const json_t *found = json_object_get(json_object_get(other->tree, kind->name), id);
    sl_buf_t text;
    if (found != NULL) {
        return found;
    }
    sl_buf_init(&text, 65536);
    append_identity(mine->tree, kind, entity, &text);
    const char *name = sl_buf_cstr(&text);
    found = name != NULL ? json_object_get(json_object_get(other->index, kind->name), name) : NULL;
    sl_buf_deinit(&text);
    return found;
}

static bool is_kept_by_the_node(const gw_field_t *f) {
    return f->automatic || f->transient;
}

/* References are equal when they lead to the same thing. */
static bool is_equal(const diff_t *d, const gw_field_t *f, const json_t *a, const json_t *b) {
    bool nothing = (a == NULL || json_is_null(a)), nothing_there = (b == NULL || json_is_null(b));
    if (nothing || nothing_there) {
        return nothing && nothing_there;
    }
    const json_t *x = f->type == GW_TYPE_FOREIGN ? referred(d->now.tree, f, a) : NULL;
    const gw_entity_t *kind = x != NULL ? gw_entity_find(sl_cstr(f->reference)) : NULL;
    if (x == NULL || json_equal(a, b)) {
        return json_equal(a, b);
    }
    const json_t *y = find_counterpart(&d->now, &d->then, kind, x, json_string_value(json_object_get(x, "id")));
    return y != NULL && y == referred(d->then.tree, f, b);
}

static void print_value(const json_t *value) {
    char *text = value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    fputs(text != NULL ? text : "null", stdout);
    free(text);
}

static bool is_secret(const gw_entity_t *kind, const gw_field_t *f) {
    return strcmp(kind->name, "certificates") == 0 && strncmp(f->name, "key", 3) == 0;
}

static void compare(diff_t *d, const gw_entity_t *kind, const json_t *now, const json_t *then) {
    bool head = false;
    for (const gw_field_t *f = kind->fields; f->name != NULL; f++) {
        const json_t *a = json_object_get(now, f->name), *b = json_object_get(then, f->name);
        if (is_kept_by_the_node(f) || is_equal(d, f, a, b)) {
            continue;
        }
        if (!head) {
            printf("~ %s %s\n", kind->singular, label_of(kind, then));
            head = true;
            d->changed++;
        }
        printf("    %s: ", f->name);
        if (is_secret(kind, f)) {
            puts("****** -> ******");
            continue;
        }
        print_value(a);
        fputs(" -> ", stdout);
        print_value(b);
        putchar('\n');
    }
}

/* ---- all entities -------------------------------------------------------------------------------------------------------------- */

static void diff_collection(diff_t *d, const gw_entity_t *kind) {
    const char *id;
    json_t *entity;
    json_object_foreach(json_object_get(d->then.tree, kind->name), id, entity) {
        const json_t *old = find_counterpart(&d->then, &d->now, kind, entity, id);
        if (old == NULL) {
            printf("+ %s %s\n", kind->singular, label_of(kind, entity));
            d->added++;
        } else {
            compare(d, kind, old, entity);
        }
    }
    json_object_foreach(json_object_get(d->now.tree, kind->name), id, entity) {
        if (find_counterpart(&d->now, &d->then, kind, entity, id) == NULL) {
            printf("- %s %s\n", kind->singular, label_of(kind, entity));
            d->removed++;
        }
    }
}

static sl_status_t diff_all(diff_t *d, sl_err_t *err) {
    d->now.index = index_of(d->now.tree);
    d->then.index = index_of(d->then.tree);
    if (d->now.index == NULL || d->then.index == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    for (const gw_entity_t *kind = gw_entities; kind->name != NULL; kind++) {
        diff_collection(d, kind);
    }
    printf("%zu added, %zu changed, %zu removed\n", d->added, d->changed, d->removed);
    fflush(stdout);
    d->done = true;
    return SL_OK;
}

/* What is there: the store, or what the plan of a gateway without one was made from. */
static sl_status_t load_current(const diff_t *d, json_t **now, sl_err_t *err) {
    char path[4200];
    gw_plan_t *plan = NULL;
    *now = NULL;
    if (prepare_has_store(d->s)) {
        return prepare_load_store(d->p, now, err);
    }
    snprintf(path, sizeof(path), "%s/state/plan", d->p->prefix);
    sl_status_t rc = gw_plan_open_file(path, &plan, err);
    *now = rc == SL_OK ? json_object() : NULL;
    for (const gw_entity_t *kind = gw_entities; rc == SL_OK && kind->name != NULL; kind++) {
        json_t *collection = json_object();
        sl_str_t name = sl_cstr(kind->name);
        for (size_t i = 0; i < gw_plan_entity_count(plan, name); i++) {
            sl_str_t text = gw_plan_entity_at(plan, name, i);
            json_t *entity = json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL);
            const char *id = json_string_value(json_object_get(entity, "id"));
            if (id == NULL || json_object_set_new(collection, id, entity) != 0) {
                rc = sl_err_set(err, SL_NO_MEMORY, "out of memory");
                break;
            }
        }
        if (json_object_set_new(*now, kind->name, collection) != 0) {
            rc = sl_err_set(err, SL_NO_MEMORY, "out of memory");
        }
    }
    gw_plan_close(plan);
    return rc;
}

static void side_free(side_t *side) {
    json_decref(side->tree);
    json_decref(side->index);
    *side = (side_t){NULL, NULL};
}

static sl_status_t run(void *ud, sl_err_t *err) {
    diff_t *d = ud;
    nd_node_t node;
    char store[4200];
    sl_status_t rc = prepare_node_open(d->s, NULL, &node, err);
    rc = rc == SL_OK && prepare_has_store(d->s) ? prepare_node_uploads_of(&node, d->p->prefix, store, err) : rc;
    rc = rc == SL_OK ? prepare_validate_text(&node, d->path, d->text, &d->then.tree, err) : rc;
    prepare_node_close(&node);
    rc = rc == SL_OK ? load_current(d, &d->now.tree, err) : rc;
    rc = rc == SL_OK ? diff_all(d, err) : rc;
    side_free(&d->now);
    side_free(&d->then);
    return rc;
}

/* Exit codes as diff's: 0 no difference, 1 some, 2 trouble. */
static int diff_text(const settings_t *s, const prepared_t *p, const char *path, sl_str_t text) {
    sl_err_t err = {.text = ""};
    diff_t *d = mmap(NULL, sizeof(*d), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (d == MAP_FAILED) {
        cli_fail("out of memory");
        return 2;
    }
    *d = (diff_t){.s = s, .p = p, .path = path, .text = text};
    sl_status_t rc = prepare_as_worker(p, run, d, &err);
    int code = rc != SL_OK || !d->done ? 2 : d->added + d->changed + d->removed > 0;
    munmap(d, sizeof(*d));
    if (rc != SL_OK) {
        cli_fail_err(&err);
    }
    return code;
}

int cmd_config_diff(const settings_t *s, const char *path) {
    static prepared_t p;
    sl_err_t err = {.text = ""};
    sl_buf_t text;
    sl_buf_init(&text, DOCUMENT_MAX);
    sl_status_t rc = sl_file_read(path, &text, &err);
    rc = rc == SL_OK ? prepare_for_reading(s, &p, &err) : rc;
    int code = rc == SL_OK ? diff_text(s, &p, path, sl_buf_str(&text)) : cli_fail_err(&err) + 1;
    sl_buf_deinit(&text);
    return code;
}
