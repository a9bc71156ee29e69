/*
 * The endpoints that every entity has, derived from its table: /E, /E/{e}, /E/{e}/F for each foreign field F, and below a parent
 * /P/{p}/E and /P/{p}/E/{e}. Reads come from the plan; writes are validated and then, without a database, refused.
 */
#include <stdio.h>
#include <stdlib.h>

#include "gw_admin_parts.h"
#include "sl_digest.h"

#define COLLECTION_METHODS (GW_GET | GW_HEAD | GW_POST)
#define ITEM_METHODS (GW_DELETE | GW_GET | GW_HEAD | GW_PATCH | GW_PUT)

/* A path of the generated kind, taken apart. */
typedef struct {
    const gw_entity_t *kind;  /* what is listed or shown */
    const gw_entity_t *above; /* its parent in the path, or the entity whose foreign field is asked for; NULL: none */
    const gw_field_t *link;   /* kind's field for `above`; for /E/{e}/F the field F of `above` */
    bool through_field;       /* /E/{e}/F */
    bool has_key;
    sl_str_t key, above_key;
} target_t;

/* ---- finding -------------------------------------------------------------------------------------------------------------- */

static sl_str_t lower_id(gw_admin_t *a, sl_str_t key) {
    sl_str_t copy = sl_arena_dup(&a->arena, key);
    if (copy.data == NULL) {
        a->failed = true;
        return SL_STR_NULL;
    }
    for (size_t i = 0; i < copy.len; i++) {
        char *c = (char *)copy.data + i;
        *c = *c >= 'A' && *c <= 'F' ? (char)(*c | 0x20) : *c;
    }
    return copy;
}

static json_t *parse(gw_admin_t *a, sl_str_t text) {
    json_t *entity = json_loadb(text.data, text.len, 0, NULL);
    a->failed = a->failed || entity == NULL;
    return entity;
}

/* A certificate is also known by any of its server names. */
static sl_str_t certificate_of_sni(gw_admin_t *a, sl_str_t name) {
    sl_str_t text = gw_plan_entity(a->env->plan, SL_STR("snis"), name);
    json_t *sni = text.len > 0 ? parse(a, text) : NULL;
    const char *id = json_string_value(json_object_get(json_object_get(sni, "certificate"), "id"));
    sl_str_t found = id != NULL ? gw_plan_entity(a->env->plan, SL_STR("certificates"), sl_cstr(id)) : SL_STR_NULL;
    json_decref(sni);
    return found;
}

static sl_str_t find_text(gw_admin_t *a, const char *collection, sl_str_t key) {
    sl_str_t found = gw_plan_entity(a->env->plan, sl_cstr(collection), sl_uuid_valid(key) ? lower_id(a, key) : key);
    if (found.len == 0 && strcmp(collection, "certificates") == 0) {
        found = certificate_of_sni(a, key);
    }
    return found;
}

json_t *gw_admin_load(gw_admin_t *a, const char *collection, sl_str_t id_or_key) {
    sl_str_t text = find_text(a, collection, id_or_key);
    return text.len > 0 ? parse(a, text) : NULL;
}

static const char *id_in(const json_t *entity, const char *field) {
    return json_string_value(json_object_get(json_object_get(entity, field), "id"));
}

/* The canonical text begins with the id. */
static bool text_id(sl_str_t text, char id[SL_UUID_TEXT_SIZE + 1]) {
    static const char head[] = "{\"id\":\"";
    size_t n = sizeof(head) - 1;
    if (text.len < n + SL_UUID_TEXT_SIZE || memcmp(text.data, head, n) != 0) {
        return false;
    }
    memcpy(id, text.data + n, SL_UUID_TEXT_SIZE);
    id[SL_UUID_TEXT_SIZE] = '\0';
    return true;
}

/* Searching the text first spares parsing what does not hold the id at all. */
static bool is_child_of(gw_admin_t *a, sl_str_t text, const char *field, const char *id) {
    if (memmem(text.data, text.len, id, strlen(id)) == NULL) {
        return false;
    }
    json_t *entity = parse(a, text);
    const char *link = id_in(entity, field);
    bool found = link != NULL && strcmp(link, id) == 0;
    json_decref(entity);
    return found;
}

sl_str_t gw_admin_next_child(gw_admin_t *a, const char *collection, const char *field, const char *id, size_t *n) {
    sl_str_t text;
    while ((text = gw_plan_entity_at(a->env->plan, sl_cstr(collection), *n)).len > 0) {
        (*n)++;
        if (is_child_of(a, text, field, id)) {
            return text;
        }
    }
    return SL_STR_NULL;
}

/* ---- reading -------------------------------------------------------------------------------------------------------------- */

/* Certificates are shown with the names that lead to them. */
static json_t *with_snis(gw_admin_t *a, sl_str_t text) {
    json_t *certificate = parse(a, text), *names = json_array();
    const char *id = json_string_value(json_object_get(certificate, "id"));
    size_t n = 0;
    sl_str_t found;
    while (id != NULL && (found = gw_admin_next_child(a, "snis", "certificate", id, &n)).len > 0) {
        json_t *sni = parse(a, found);
        if (json_array_append(names, json_object_get(sni, "name")) != 0) {
            a->failed = true;
        }
        json_decref(sni);
    }
    if (json_object_set_new(certificate, "snis", names) != 0) {
        a->failed = true;
    }
    return certificate;
}

static void show(gw_admin_t *a, const gw_entity_t *kind, sl_str_t text) {
    if (strcmp(kind->name, "certificates") == 0) {
        gw_admin_json(a, 200, with_snis(a, text));
    } else {
        gw_admin_text(a, 200, text);
    }
}

static void list(gw_admin_t *a, const target_t *t, const char *parent_id) {
    gw_page_t page;
    sl_str_t collection = sl_cstr(t->kind->name), text;
    char last[SL_UUID_TEXT_SIZE + 1];
    size_t shown = 0;
    if (!gw_page_read(a, &page)) {
        return;
    }
    bool more = false;
    size_t n = page.after[0] != '\0' ? gw_plan_entity_after(a->env->plan, collection, sl_cstr(page.after)) : 0;
    sl_buf_append_cstr(&a->resp->body, "{\"data\":[");
    for (; !more && (text = gw_plan_entity_at(a->env->plan, collection, n)).len > 0; n++) {
        if ((parent_id != NULL && !is_child_of(a, text, t->link->name, parent_id)) || !gw_page_has_tags(a, &page, text)) {
            continue;
        }
        more = shown == page.size;
        if (!more) {
            sl_buf_append_cstr(&a->resp->body, shown++ > 0 ? "," : "");
            show(a, t->kind, text);
            a->failed = a->failed || !text_id(text, last);
        }
    }
    gw_page_end(a, more ? last : NULL);
    gw_admin_text(a, 200, SL_STR(""));
}

/* GET /consumers?custom_id=x */
static bool list_by_custom_id(gw_admin_t *a, const target_t *t) {
    const gw_arg_t *arg = gw_admin_arg(a, "custom_id");
    sl_str_t text, found = SL_STR_NULL;
    if (arg == NULL || strcmp(t->kind->name, "consumers") != 0 || t->above != NULL) {
        return false;
    }
    for (size_t n = 0; found.len == 0 && (text = gw_plan_entity_at(a->env->plan, sl_cstr(t->kind->name), n)).len > 0; n++) {
        json_t *consumer = parse(a, text);
        const char *custom_id = json_string_value(json_object_get(consumer, "custom_id"));
        found = custom_id != NULL && sl_str_eq(arg->value, sl_cstr(custom_id)) ? text : found;
        json_decref(consumer);
    }
    sl_buf_append_cstr(&a->resp->body, "{\"data\":[");
    sl_buf_append_str(&a->resp->body, found);
    gw_admin_text(a, 200, SL_STR("],\"next\":null}"));
    return true;
}

/* ---- writing: everything but the database ---------------------------------------------------------------------------------- */

static bool find_by_key(void *ud, const gw_entity_t *kind, sl_str_t key, char id[37]) {
    gw_admin_t *a = ud;
    return text_id(gw_plan_entity(a->env->plan, sl_cstr(kind->name), key), id);
}

static void refuse_write(gw_admin_t *a, const char *verb, const gw_entity_t *kind, sl_str_t key) {
    sl_err_t text;
    bool by_key = key.len > 0 && !sl_uuid_valid(key) && kind->endpoint_key != NULL;
    if (by_key) {
        sl_err_set(&text, SL_INVALID, "cannot %s '%s' entities by '%s' when not using a database", verb, kind->name, kind->endpoint_key);
    } else {
        sl_err_set(&text, SL_INVALID, "cannot %s '%s' entities when not using a database", verb, kind->name);
    }
    gw_admin_error(a, gw_error_object(GW_ERR_UNSUPPORTED, text.text, NULL));
}

/* true: the input is a valid entity. Else the answer is made. */
static bool validate(gw_admin_t *a, gw_validation_t *v, const json_t *input) {
    gw_lookup_t lookup = {find_by_key, a};
    json_t *entity, *errors;
    v->env = &a->env->validate;
    v->lookup = &lookup;
    sl_status_t rc = gw_entity_validate(v, input, &entity, &errors);
    a->failed = a->failed || rc == SL_NO_MEMORY;
    if (rc == SL_INVALID) {
        bool only_names = v->unresolved && json_object_size(errors) == 1;
        gw_admin_error(a, only_names ? gw_error_unresolved(errors) : gw_error_schema(errors));
    }
    json_decref(entity);
    json_decref(errors);
    return rc == SL_OK;
}

static void set_input(gw_admin_t *a, const char *name, json_t *value) {
    if (json_object_set_new(a->input, name, value) != 0) {
        a->failed = true;
    }
}

static void link_input(gw_admin_t *a, const target_t *t, const char *parent_id) {
    if (parent_id != NULL) {
        set_input(a, t->link->name, json_pack("{s:s}", "id", parent_id));
    }
}

static void create(gw_admin_t *a, const target_t *t, const char *parent_id) {
    gw_validation_t v = {.kind = t->kind, .mode = GW_INSERT};
    if (!gw_admin_read_input(a, t->kind->fields)) {
        return;
    }
    link_input(a, t, parent_id);
    if (validate(a, &v, a->input)) {
        refuse_write(a, "create", t->kind, SL_STR_NULL);
    }
}

static void upsert(gw_admin_t *a, const target_t *t, sl_str_t key, const char *parent_id) {
    gw_validation_t v = {.kind = t->kind, .mode = GW_UPSERT};
    const char *field = sl_uuid_valid(key) ? "id" : t->kind->endpoint_key;
    if (!gw_admin_read_input(a, t->kind->fields)) {
        return;
    }
    if (field != NULL && key.len > 0) {
        set_input(a, field, json_stringn(key.data, key.len));
    }
    link_input(a, t, parent_id);
    if (validate(a, &v, a->input)) {
        refuse_write(a, "create or update", t->kind, key);
    }
}

static void answer_absent(gw_admin_t *a, const gw_entity_t *kind, sl_str_t key) {
    sl_buf_t message;
    bool by_id = sl_uuid_valid(key) || kind->endpoint_key == NULL;
    json_t *fields = json_pack("{s:s%}", by_id ? "id" : kind->endpoint_key, key.data, key.len);
    sl_buf_init(&message, 65536);
    sl_buf_append_cstr(&message, by_id ? "could not find the entity with primary key '" : "could not find the entity with '");
    if (fields != NULL) {
        gw_lua_print(fields, true, &message);
    }
    sl_buf_append_char(&message, '\'');
    const char *text = sl_buf_cstr(&message);
    gw_admin_error(a, text != NULL && fields != NULL ? gw_error_object(GW_ERR_NOT_FOUND, text, fields) : NULL);
    json_decref(fields);
    sl_buf_deinit(&message);
}

static void update(gw_admin_t *a, const target_t *t, sl_str_t key, sl_str_t old_text, const char *parent_id) {
    gw_validation_t v = {.kind = t->kind, .mode = GW_UPDATE, .env = &a->env->validate, .plain = true};
    if (!gw_admin_read_input(a, t->kind->fields)) {
        return;
    }
    if (old_text.len == 0) {
        answer_absent(a, t->kind, key);
        return;
    }
    link_input(a, t, parent_id);
    json_t *old = parse(a, old_text), *merged = old != NULL ? gw_entity_merge(&v, old, a->input) : NULL;
    a->failed = a->failed || merged == NULL;
    if (merged != NULL && validate(a, &v, merged)) {
        refuse_write(a, "update", t->kind, key);
    }
    json_decref(old);
    json_decref(merged);
}

/* ---- one path ---------------------------------------------------------------------------------------------------------------- */

static void answer_collection(gw_admin_t *a, const target_t *t, const char *parent_id) {
    if (a->method == GW_POST) {
        create(a, t, parent_id);
    } else if (!list_by_custom_id(a, t)) {
        list(a, t, parent_id);
    }
}

/* A key that is unique only below its parent: the address of a target. */
static sl_str_t find_below(gw_admin_t *a, const target_t *t, const char *parent_id) {
    sl_str_t text;
    size_t n = 0;
    while ((text = gw_admin_next_child(a, t->kind->name, t->link->name, parent_id, &n)).len > 0) {
        json_t *entity = parse(a, text);
        const char *key = json_string_value(json_object_get(entity, t->kind->endpoint_key));
        bool found = key != NULL && sl_str_eq(t->key, sl_cstr(key));
        json_decref(entity);
        if (found) {
            return text;
        }
    }
    return SL_STR_NULL;
}

static void answer_item(gw_admin_t *a, const target_t *t, const char *parent_id) {
    const char *endpoint = t->kind->endpoint_key;
    bool local_key = parent_id != NULL && endpoint != NULL && !gw_field_find(t->kind->fields, endpoint)->unique && !sl_uuid_valid(t->key);
    sl_str_t text = local_key ? find_below(a, t, parent_id) : find_text(a, t->kind->name, t->key);
    bool elsewhere = text.len > 0 && parent_id != NULL && !is_child_of(a, text, t->link->name, parent_id);
    if (elsewhere || (text.len == 0 && (a->method & (GW_GET | GW_HEAD)))) {
        gw_admin_not_found(a);
        return;
    }
    switch (a->method) {
    case GW_PUT:
        upsert(a, t, t->key, parent_id);
        break;
    case GW_PATCH:
        update(a, t, t->key, text, parent_id);
        break;
    case GW_DELETE:
        refuse_write(a, "remove", t->kind, t->key);
        break;
    default:
        show(a, t->kind, text);
        break;
    }
}

/* /E/{e}/F: `above` is E, its field holds the id of what is shown. */
static void answer_through_field(gw_admin_t *a, target_t *t, const json_t *above) {
    const char *id = id_in(above, t->link->name);
    sl_str_t text = id != NULL ? gw_plan_entity(a->env->plan, sl_cstr(t->kind->name), sl_cstr(id)) : SL_STR_NULL;
    if (a->method == GW_PUT) {
        upsert(a, t, id != NULL ? sl_cstr(id) : SL_STR_NULL, NULL);
        return;
    }
    if (text.len == 0) {
        gw_admin_not_found(a);
    } else if (a->method == GW_DELETE) {
        gw_admin_message(a, 405, "Method not allowed");
    } else if (a->method == GW_PATCH) {
        update(a, t, sl_cstr(id), text, NULL);
    } else {
        show(a, t->kind, text);
    }
}

static void answer_below(gw_admin_t *a, target_t *t) {
    json_t *above = gw_admin_load(a, t->above->name, t->above_key);
    const char *id = json_string_value(json_object_get(above, "id"));
    if (above == NULL) {
        gw_admin_not_found(a);
    } else if (t->through_field) {
        answer_through_field(a, t, above);
    } else if (t->has_key) {
        answer_item(a, t, id);
    } else {
        answer_collection(a, t, id);
    }
    json_decref(above);
}

/* ---- paths -------------------------------------------------------------------------------------------------------------------- */

/* A foreign field with an endpoint of its own; the certificate of a name deliberately has none. */
static bool has_field_path(const gw_entity_t *kind, const gw_field_t *field) {
    return field->type == GW_TYPE_FOREIGN && !kind->hidden_collection && strcmp(kind->name, "snis") != 0;
}

static bool take_apart(const gw_admin_t *a, target_t *t) {
    const gw_entity_t *first = a->n_segments > 0 ? gw_entity_by_path(a->segments[0]) : NULL;
    if (first == NULL || first->hidden_collection || a->n_segments > 4) {
        return false;
    }
    *t = (target_t){.kind = first, .has_key = a->n_segments == 2, .key = a->segments[1]};
    if (a->n_segments < 3) {
        return true;
    }
    t->above = first;
    t->above_key = a->segments[1];
    const gw_field_t *field = gw_field_find(first->fields, a->segments[2].data);
    if (a->n_segments == 3 && field != NULL && has_field_path(first, field)) {
        t->kind = gw_entity_find(sl_cstr(field->reference));
        t->link = field;
        t->through_field = true;
        return true;
    }
    t->kind = gw_entity_by_path(a->segments[2]);
    t->link = t->kind != NULL ? gw_entity_link(t->kind, first) : NULL;
    t->has_key = a->n_segments == 4;
    t->key = a->segments[3];
    return t->link != NULL;
}

static bool needs_wasm(const target_t *t) {
    return strcmp(t->kind->name, "filter_chains") == 0 || (t->above != NULL && strcmp(t->above->name, "filter_chains") == 0);
}

/* /upstreams/{u}/targets/all lists what the collection lists. */
static bool is_all_targets(const target_t *t) {
    return t->has_key && t->above != NULL && strcmp(t->kind->name, "targets") == 0 && sl_str_eq(t->key, SL_STR("all"));
}

bool gw_admin_entities(gw_admin_t *a) {
    target_t t;
    if (!take_apart(a, &t)) {
        return false;
    }
    if (needs_wasm(&t) && !gw_admin_wasm_ready(a)) {
        return true;
    }
    bool all = is_all_targets(&t);
    t.has_key = t.has_key && !all;
    unsigned methods = all ? GW_GET | GW_HEAD : t.has_key || t.through_field ? ITEM_METHODS : COLLECTION_METHODS;
    if (!gw_admin_allows(a, methods)) {
        return true;
    }
    if (t.above != NULL) {
        answer_below(a, &t);
    } else if (t.has_key) {
        answer_item(a, &t, NULL);
    } else {
        answer_collection(a, &t, NULL);
    }
    return true;
}

/* ---- /endpoints ----------------------------------------------------------------------------------------------------------------- */

static void emit(void (*each)(void *ud, const char *path), void *ud, const char *form, const char *a, const char *b, const char *c,
                 const char *d) {
    char path[256];
    snprintf(path, sizeof(path), form, a, b, c, d);
    each(ud, path);
}

static void emit_links(const gw_entity_t *e, void (*each)(void *ud, const char *path), void *ud) {
    for (const gw_field_t *f = e->fields; f->name != NULL; f++) {
        const gw_entity_t *above = f->type == GW_TYPE_FOREIGN ? gw_entity_find(sl_cstr(f->reference)) : NULL;
        if (above == NULL) {
            continue;
        }
        if (has_field_path(e, f)) {
            emit(each, ud, "/%s/{%s}/%s%s", e->path, e->name, f->name, "");
        }
        emit(each, ud, "/%s/{%s}/%s%s", above->path, above->name, e->path, "");
        emit(each, ud, "/%s/{%s}/%s/{%s}", above->path, above->name, e->path, e->name);
    }
}

void gw_admin_entity_paths(void (*each)(void *ud, const char *path), void *ud) {
    for (const gw_entity_t *e = gw_entities; e->name != NULL; e++) {
        if (!e->hidden_collection) {
            emit(each, ud, "/%s%s%s%s", e->path, "", "", "");
            emit(each, ud, "/%s/{%s}%s%s", e->path, e->name, "", "");
        }
        emit_links(e, each, ud);
    }
    each(ud, "/upstreams/{upstreams}/targets/all");
}
