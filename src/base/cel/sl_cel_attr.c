/* CEL: attributes. A path is asked for when its value is needed, once in an evaluation. */
#include "sl_cel_int.h"

enum { READ_COST = 20 };

/* ---- lists and maps ---- */

/* Names of headers may come several times: as everywhere, their values are joined by commas then. */
typedef struct {
    cel_eval_t *e;
    sl_cel_items_t *items;
} collect_t;

static bool make_room(collect_t *c) {
    sl_cel_items_t *more = sl_cel_items(c->e, c->items->n * 2 + 16);
    if (more == NULL) {
        return false;
    }
    memcpy(more->at, c->items->at, c->items->n * sizeof(more->at[0]));
    more->n = c->items->n;
    c->items = more;
    return true;
}

/* Room is made at 0, 16, 48, ... values. */
static bool is_full(size_t n) {
    size_t room = 0;
    while (room < n) {
        room = room * 2 + 16;
    }
    return room == n;
}

static bool append(collect_t *c, sl_cel_value_t v) {
    if (cel_is_error(&v) || (is_full(c->items->n) && !make_room(c))) {
        return false;
    }
    c->items->at[c->items->n++] = v;
    return true;
}

static void to_lower(sl_cel_value_t *v) {
    char *at = (char *)v->str.data;
    for (size_t i = 0; v->kind == SL_CEL_STRING && i < v->str.len; i++) {
        at[i] = at[i] >= 'A' && at[i] <= 'Z' ? (char)(at[i] | 0x20) : at[i];
    }
}

static bool join(cel_eval_t *e, sl_cel_value_t *old, sl_str_t more) {
    sl_cel_value_t joined;
    char *at = sl_cel_new_text(e, SL_CEL_STRING, old->str.len + 1 + more.len, &joined);
    if (at == NULL) {
        return false;
    }
    memcpy(at, old->str.data, old->str.len);
    at[old->str.len] = ',';
    if (more.len != 0) {
        memcpy(at + old->str.len + 1, more.data, more.len);
    }
    *old = joined;
    return true;
}

static bool add_entry(void *ud, sl_str_t key, sl_str_t value) {
    collect_t *c = ud;
    sl_cel_value_t name = sl_cel_text(c->e, SL_CEL_STRING, key);
    to_lower(&name);
    if (cel_is_error(&name)) {
        return false;
    }
    const sl_cel_value_t *old = sl_cel_find(c->e, c->items, &name);
    if (old != NULL) {
        return join(c->e, (sl_cel_value_t *)old, value);
    }
    return append(c, name) && append(c, sl_cel_text(c->e, SL_CEL_STRING, value));
}

static bool add_texts(collect_t *c, sl_str_t list) {
    while (list.len != 0) {
        const char *end = memchr(list.data, '\0', list.len);
        size_t len = end != NULL ? (size_t)(end - list.data) : list.len, used = len + (end != NULL);
        if (!append(c, sl_cel_text(c->e, SL_CEL_STRING, sl_str(list.data, len)))) {
            return false;
        }
        list = sl_str(list.data + used, list.len - used);
    }
    return true;
}

static sl_cel_value_t collected(const collect_t *c, int kind) {
    if (c->e->stop != SL_OK) {
        return sl_cel_error(c->e->why);
    }
    return (sl_cel_value_t){.kind = kind, .items = c->items};
}

static sl_cel_value_t make_map(cel_eval_t *e, sl_str_t path) {
    collect_t c = {e, sl_cel_items(e, 0)};
    if (c.items == NULL) {
        return sl_cel_error(e->why);
    }
    sl_status_t rc = e->attrs->each != NULL ? e->attrs->each(e->attrs->ud, path, add_entry, &c) : SL_NOT_FOUND;
    return rc == SL_OK ? collected(&c, SL_CEL_MAP) : sl_cel_error("this attribute is not there now");
}

static sl_cel_value_t make_list(cel_eval_t *e, sl_str_t texts) {
    collect_t c = {e, sl_cel_items(e, 0)};
    if (c.items != NULL) {
        add_texts(&c, texts);
    }
    return collected(&c, SL_CEL_LIST);
}

/* ---- reading ---- */

static void keep_value(cel_eval_t *e, sl_cel_attr_t *attr) {
    sl_cel_value_t *v = &attr->value;
    if (attr->kind == SL_CEL_ATTR_TEXTS) {
        *v = make_list(e, v->str);
    } else if (attr->kind == SL_CEL_ATTR_VALUE && (v->kind == SL_CEL_STRING || v->kind == SL_CEL_BYTES)) {
        *v = sl_cel_text(e, v->kind, v->str);
    }
}

/* NULL: stopped. */
static cel_known_t *read_attribute(cel_eval_t *e, sl_str_t path) {
    cel_known_t *k = sl_cel_charge(e, READ_COST) ? sl_cel_alloc(e, sizeof(*k)) : NULL;
    if (k == NULL) {
        return NULL;
    }
    *k = (cel_known_t){.path = path};
    sl_status_t rc = e->attrs->get(e->attrs->ud, path, &k->attr);
    if (rc != SL_OK && rc != SL_NOT_FOUND) {
        sl_cel_stop(e, SL_FAILED, "an attribute could not be read");
        return NULL;
    }
    k->found = rc == SL_OK;
    if (k->found) {
        keep_value(e, &k->attr);
    }
    if (e->n_known < CEL_KNOWN_MAX) {
        k->next = e->known;
        e->known = k;
        e->n_known++;
    }
    return e->stop == SL_OK ? k : NULL;
}

static cel_known_t *find_attribute(cel_eval_t *e, sl_str_t path) {
    cel_known_t *k = e->known;
    while (k != NULL && !sl_str_eq(k->path, path)) {
        k = k->next;
    }
    return k != NULL ? k : read_attribute(e, path);
}

/* An error with the name of an attribute, as it is written. */
static sl_cel_value_t error_about(cel_eval_t *e, const char *what, sl_str_t path) {
    sl_cel_value_t v;
    size_t len = strlen(what);
    char *at = sl_cel_new_text(e, CEL_ERROR, len + path.len, &v);
    if (at == NULL) {
        return v;
    }
    memcpy(at, what, len);
    for (size_t i = 0; i < path.len; i++) {
        at[len + i] = path.data[i] != '\0' ? path.data[i] : '.';
    }
    return v;
}

sl_cel_value_t sl_cel_force(cel_eval_t *e, sl_cel_value_t v) {
    if (v.kind != CEL_REF) {
        return v;
    }
    cel_known_t *k = find_attribute(e, v.str);
    if (k == NULL) {
        return sl_cel_error(e->why);
    }
    if (!k->found) {
        return error_about(e, "no such attribute: ", v.str);
    }
    if (k->attr.kind == SL_CEL_ATTR_NONE) {
        return error_about(e, "not a value, but several: ", v.str);
    }
    if (k->attr.kind == SL_CEL_ATTR_ENTRIES && !k->made) {
        k->attr.value = make_map(e, v.str);
        k->made = true;
    }
    return k->attr.value;
}

/* ---- paths ---- */

/* Such a key is in no map, and would be read as something else in a path. */
static bool fits(sl_str_t path, sl_str_t key) {
    return key.len != 0 && key.len < SL_CEL_PATH_MAX && path.len < SL_CEL_PATH_MAX - key.len && memchr(key.data, '\0', key.len) == NULL;
}

sl_cel_value_t sl_cel_extend(cel_eval_t *e, sl_str_t path, sl_str_t key) {
    sl_cel_value_t v;
    if (!fits(path, key)) {
        return sl_cel_error("no attribute can have this name");
    }
    char *at = sl_cel_new_text(e, CEL_REF, path.len + 1 + key.len, &v);
    if (at != NULL) {
        memcpy(at, path.data, path.len);
        at[path.len] = '\0';
        memcpy(at + path.len + 1, key.data, key.len);
    }
    return v;
}

/* Whether the attribute at path, which is not there, would be a field of something deep. */
static bool in_deep(cel_eval_t *e, sl_str_t path) {
    const char *dot;
    while ((dot = memrchr(path.data, '\0', path.len)) != NULL) {
        path.len = (size_t)(dot - path.data);
        const cel_known_t *k = find_attribute(e, path);
        if (k == NULL || k->found) {
            return k != NULL && k->attr.deep;
        }
    }
    return false;
}

static bool is_structure(const sl_cel_attr_t *attr) {
    return attr->open || attr->kind == SL_CEL_ATTR_ENTRIES;
}

sl_cel_value_t sl_cel_ref_has(cel_eval_t *e, sl_str_t path, sl_str_t key) {
    const cel_known_t *k = find_attribute(e, path);
    if (k == NULL) {
        return sl_cel_error(e->why);
    }
    if (!k->found) {
        return in_deep(e, path) ? cel_bool(false) : error_about(e, "no such attribute: ", path);
    }
    if (!is_structure(&k->attr)) {
        return (sl_cel_value_t){.kind = CEL_REF};
    }
    if (!fits(path, key)) {
        return cel_bool(false);
    }
    sl_cel_value_t whole = sl_cel_extend(e, path, key);
    const cel_known_t *field = cel_is_error(&whole) ? NULL : find_attribute(e, whole.str);
    return field != NULL ? cel_bool(field->found) : sl_cel_error(e->why);
}
