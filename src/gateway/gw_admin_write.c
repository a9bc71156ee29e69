/*
 * Writing entities: create, create or replace, change, remove. Each is validated first; without a store that is all, and the write is
 * refused. What is written becomes visible when the exchange's transaction is committed (gw_admin_end).
 */
#include <stdio.h>

#include "gw_admin_parts.h"
#include "sl_digest.h"

/* ---- refusals ------------------------------------------------------------------------------------------------------------- */

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

static void answer_key_error(gw_admin_t *a, gw_error_code_t code, const char *before, const char *field, sl_str_t key) {
    sl_buf_t message;
    json_t *fields = json_pack("{s:s%}", field, key.data, key.len);
    sl_buf_init(&message, 65536);
    sl_buf_append_cstr(&message, before);
    if (fields != NULL) {
        gw_lua_print(fields, true, &message);
    }
    sl_buf_append_char(&message, '\'');
    const char *text = sl_buf_cstr(&message);
    gw_admin_error(a, text != NULL && fields != NULL ? gw_error_object(code, text, fields) : NULL);
    json_decref(fields);
    sl_buf_deinit(&message);
}

static void answer_absent(gw_admin_t *a, const gw_entity_t *kind, sl_str_t key) {
    if (sl_uuid_valid(key) || kind->endpoint_key == NULL) {
        answer_key_error(a, GW_ERR_NOT_FOUND, "could not find the entity with primary key '", "id", key);
    } else {
        answer_key_error(a, GW_ERR_NOT_FOUND, "could not find the entity with '", kind->endpoint_key, key);
    }
}

static void answer_problem(gw_admin_t *a, const char *field, json_t *problem) {
    json_t *fields = json_pack("{s:o}", field, problem);
    gw_admin_error(a, fields != NULL ? gw_error_schema(fields) : NULL);
    json_decref(fields);
}

/* ---- validation ----------------------------------------------------------------------------------------------------------- */

static bool find_by_key(void *ud, const gw_entity_t *kind, sl_str_t key, char id[37]) {
    gw_admin_t *a = ud;
    json_t *found = NULL;
    bool known =
        kind->endpoint_key != NULL && gw_admin_got(a, a->data->ops->find(a->data, kind->name, kind->endpoint_key, key, &found, NULL));
    const char *text = json_string_value(json_object_get(found, "id"));
    snprintf(id, 37, "%s", text != NULL ? text : "");
    json_decref(found);
    return known && text != NULL;
}

/* The canonical entity, a new reference. NULL: answered, or a failure. */
static json_t *validate(gw_admin_t *a, gw_validation_t *v, const json_t *input) {
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
    json_decref(errors);
    return entity;
}

static bool set_member(gw_admin_t *a, json_t *object, const char *name, json_t *value) {
    bool done = json_object_set_new(object, name, value) == 0;
    a->failed = a->failed || !done;
    return done;
}

static void link_input(gw_admin_t *a, const gw_write_t *w) {
    if (w->parent_id != NULL) {
        set_member(a, a->input, w->link->name, json_pack("{s:s}", "id", w->parent_id));
    }
}

/* ---- server names of a certificate ------------------------------------------------------------------------------------------ */

static bool is_certificate(const gw_entity_t *kind) {
    return strcmp(kind->name, "certificates") == 0;
}

void gw_admin_add_snis(gw_admin_t *a, const gw_entity_t *kind, json_t *entity) {
    const char *id = json_string_value(json_object_get(entity, "id"));
    size_t i;
    const json_t *sni;
    if (!is_certificate(kind) || id == NULL) {
        return;
    }
    json_t *names = json_array(), *all = gw_admin_children(a, "snis", "certificate", id);
    json_array_foreach(all, i, sni) {
        a->failed = a->failed || json_array_append(names, json_object_get(sni, "name")) != 0;
    }
    json_decref(all);
    set_member(a, entity, "snis", names);
}

static bool has_text(const json_t *list, const json_t *text, size_t n) {
    for (size_t i = 0; i < n && i < json_array_size(list); i++) {
        if (json_equal(json_array_get(list, i), text)) {
            return true;
        }
    }
    return false;
}

/* A set drops duplicates, but here they are a mistake. */
static bool are_distinct(gw_admin_t *a, const json_t *names) {
    size_t i;
    const json_t *name;
    json_array_foreach(names, i, name) {
        if (json_is_string(name) && has_text(names, name, i)) {
            sl_err_t text;
            sl_err_set(&text, SL_INVALID, "%s is duplicated", json_string_value(name));
            answer_problem(a, "snis", gw_text(text.text));
            return false;
        }
    }
    return true;
}

static bool add_sni(gw_admin_t *a, const char *id, const json_t *name) {
    gw_validation_t v = {.kind = gw_entity_find(SL_STR("snis")), .mode = GW_INSERT};
    char own[SL_UUID_TEXT_SIZE + 1];
    json_t *input = json_pack("{s:O,s:{s:s}}", "name", name, "certificate", "id", id);
    json_t *sni = input != NULL ? validate(a, &v, input) : NULL;
    a->failed = a->failed || input == NULL || sl_uuid_v4(own) != SL_OK;
    bool done = sni != NULL && !a->failed && set_member(a, sni, "id", json_string(own)) &&
                gw_admin_got(a, a->data->ops->put(a->data, "snis", sni, NULL));
    json_decref(input);
    json_decref(sni);
    return done;
}

/* false: answered that the name leads to another certificate, or a failure. */
static bool claim_sni(gw_admin_t *a, const char *id, const json_t *name) {
    json_t *sni = NULL;
    bool known = gw_admin_got(a, a->data->ops->find(a->data, "snis", "name", sl_cstr(json_string_value(name)), &sni, NULL));
    const char *owner = json_string_value(json_object_get(json_object_get(sni, "certificate"), "id"));
    bool ours = known && owner != NULL && strcmp(owner, id) == 0;
    if (known && !ours) {
        sl_err_t text;
        sl_err_set(&text, SL_INVALID, "%s already associated with existing certificate '%s'", json_string_value(name),
                   owner != NULL ? owner : "");
        answer_problem(a, "snis", gw_text(text.text));
    }
    json_decref(sni);
    return ours || (!known && !a->storage_failed && !a->failed && add_sni(a, id, name));
}

/* The names that lead to the certificate become these. */
static bool write_snis(gw_admin_t *a, const char *id, const json_t *names) {
    size_t i;
    const json_t *value;
    bool good = true;
    json_t *had = gw_admin_children(a, "snis", "certificate", id);
    json_array_foreach(had, i, value) {
        const char *own = json_string_value(json_object_get(value, "id"));
        if (good && !has_text(names, json_object_get(value, "name"), SIZE_MAX)) {
            good = gw_admin_got(a, a->data->ops->erase(a->data, "snis", sl_cstr(own)));
        }
    }
    json_array_foreach(names, i, value) {
        good = good && claim_sni(a, id, value);
    }
    json_decref(had);
    return good;
}

/* ---- storing ---------------------------------------------------------------------------------------------------------------- */

/* Whether the entity's filters start; false: answered. */
static bool try_filters(gw_admin_t *a, const gw_entity_t *kind, const json_t *entity) {
    sl_err_t err = {.text = ""};
    sl_status_t rc = a->env->try_filters != NULL ? a->env->try_filters(a->env->try_ud, kind->name, entity, &err) : SL_OK;
    if (rc == SL_AGAIN) {
        a->untried = true;
        return true;
    }
    if (rc == SL_INVALID) {
        answer_problem(a, "@entity", json_pack("[o]", gw_text(err.text)));
    }
    a->failed = a->failed || (rc != SL_OK && rc != SL_INVALID);
    return rc == SL_OK;
}

static bool share_one(const json_t *list, const json_t *other) {
    size_t i, k;
    const json_t *a, *b;
    json_array_foreach(list, i, a) {
        json_array_foreach(other, k, b) {
            if (json_equal(a, b)) {
                return true;
            }
        }
    }
    return false;
}

/* A service without routes takes a plugin of any protocol. */
static bool fits_routes(const json_t *routes, const json_t *protocols) {
    size_t i;
    const json_t *route;
    json_array_foreach(routes, i, route) {
        if (share_one(protocols, json_object_get(route, "protocols"))) {
            return true;
        }
    }
    return json_array_size(routes) == 0;
}

/* A plugin whose protocols no route has would never run. false: answered. */
static bool check_plugin_protocols(gw_admin_t *a, const gw_entity_t *kind, const json_t *plugin) {
    const char *service = json_string_value(json_object_get(json_object_get(plugin, "service"), "id"));
    const char *route_id = json_string_value(json_object_get(json_object_get(plugin, "route"), "id"));
    const json_t *protocols = json_object_get(plugin, "protocols");
    if (strcmp(kind->name, "plugins") != 0) {
        return true;
    }
    json_t *route = route_id != NULL ? gw_admin_load(a, "routes", sl_cstr(route_id), NULL) : NULL;
    json_t *routes = service != NULL ? gw_admin_children(a, "routes", "service", service) : NULL;
    const char *problem = NULL;
    if (route != NULL && !share_one(protocols, json_object_get(route, "protocols"))) {
        problem = "must match the associated route's protocols";
    } else if (routes != NULL && !fits_routes(routes, protocols)) {
        problem = "must match the protocols of at least one route pointing to this Plugin's service";
    }
    json_decref(route);
    json_decref(routes);
    if (problem != NULL) {
        answer_problem(a, "protocols", json_string(problem));
    }
    return problem == NULL && !a->failed && !a->storage_failed;
}

/* Faults are the client's to know, anything else is a failure. */
static bool stored(gw_admin_t *a, sl_status_t rc, const json_t *entity) {
    if (rc != SL_CONFLICT && rc != SL_INVALID) {
        return gw_admin_got(a, rc);
    }
    gw_admin_fault(a, entity);
    return false;
}

/* Takes `snis` off before the entity is stored, puts the names there are on afterwards. `entity` is valid and has its id. */
static bool store(gw_admin_t *a, const gw_entity_t *kind, json_t *entity, uint64_t *revision) {
    json_t *names = is_certificate(kind) ? json_incref(json_object_get(entity, "snis")) : NULL;
    if (names != NULL) {
        json_object_del(entity, "snis");
    }
    bool good = check_plugin_protocols(a, kind, entity) && try_filters(a, kind, entity) &&
                stored(a, a->data->ops->put(a->data, kind->name, entity, revision), entity);
    if (good && json_is_array(names)) {
        good = write_snis(a, json_string_value(json_object_get(entity, "id")), names);
    }
    a->wrote = a->wrote || good;
    json_decref(names);
    if (good) {
        gw_admin_add_snis(a, kind, entity);
    }
    return good;
}

static bool give_id(gw_admin_t *a, json_t *entity) {
    char id[SL_UUID_TEXT_SIZE + 1];
    if (json_is_string(json_object_get(entity, "id"))) {
        return true;
    }
    a->failed = a->failed || sl_uuid_v4(id) != SL_OK;
    return !a->failed && set_member(a, entity, "id", json_string(id));
}

static bool store_and_answer(gw_admin_t *a, const gw_entity_t *kind, json_t *entity, int status) {
    uint64_t revision = 0;
    if (!give_id(a, entity) || !store(a, kind, entity, &revision)) {
        return false;
    }
    gw_admin_etag(a, revision);
    gw_admin_json(a, status, json_incref(entity));
    return true;
}

/* false: answered that there is an entity of this id. */
static bool is_free(gw_admin_t *a, const gw_entity_t *kind, const json_t *entity) {
    const char *id = json_string_value(json_object_get(entity, "id"));
    json_t *other = NULL;
    bool taken = id != NULL && gw_admin_got(a, a->data->ops->get(a->data, kind->name, sl_cstr(id), &other, NULL));
    json_decref(other);
    if (taken) {
        answer_key_error(a, GW_ERR_PRIMARY_KEY_TAKEN, "primary key violation on key '", "id", sl_cstr(id));
    }
    return !taken && !a->storage_failed;
}

/* ---- verbs -------------------------------------------------------------------------------------------------------------------- */

/* Reads the body; false: answered. */
static bool read_input(gw_admin_t *a, const gw_write_t *w) {
    if (!gw_admin_read_input(a, w->kind->fields) || (is_certificate(w->kind) && !are_distinct(a, json_object_get(a->input, "snis")))) {
        return false;
    }
    link_input(a, w);
    return true;
}

void gw_admin_create(gw_admin_t *a, const gw_write_t *w) {
    gw_validation_t v = {.kind = w->kind, .mode = GW_INSERT};
    json_t *entity = read_input(a, w) ? validate(a, &v, a->input) : NULL;
    if (entity == NULL) {
        return;
    }
    if (!gw_data_writable(a->data)) {
        refuse_write(a, "create", w->kind, SL_STR_NULL);
    } else if (is_free(a, w->kind, entity)) {
        store_and_answer(a, w->kind, entity, 201);
    }
    json_decref(entity);
}

/* A certificate that is put by a name gets this name. */
static void add_sni_of_path(gw_admin_t *a, sl_str_t name) {
    json_t *given = json_object_get(a->input, "snis"), *names = json_is_array(given) ? json_copy(given) : json_array();
    json_t *text = json_stringn(name.data, name.len);
    if (!has_text(names, text, SIZE_MAX) && json_array_append(names, text) != 0) {
        a->failed = true;
    }
    json_decref(text);
    set_member(a, a->input, "snis", names);
}

/* What the path and what there is already add to the body of a PUT; false: answered. */
static bool complete_input(gw_admin_t *a, const gw_write_t *w) {
    const char *old_id = json_string_value(json_object_get(w->old, "id"));
    const json_t *id = json_object_get(a->input, "id"), *created = json_object_get(a->input, "created_at");
    bool by_id = sl_uuid_valid(w->key);
    if (by_id) {
        sl_str_t lower = gw_admin_lower_id(a, w->key);
        set_member(a, a->input, "id", json_stringn(lower.data, lower.len));
    } else if (w->key.len > 0 && w->kind->endpoint_key != NULL) {
        set_member(a, a->input, w->kind->endpoint_key, json_stringn(w->key.data, w->key.len));
    } else if (w->key.len > 0 && is_certificate(w->kind)) {
        if (w->old == NULL) {
            add_sni_of_path(a, w->key);
        }
    } else if (w->key.len > 0) {
        answer_key_error(a, GW_ERR_PRIMARY_KEY, "invalid primary key: '", "id", w->key);
        return false;
    }
    if (old_id == NULL) {
        return true;
    }
    if (!by_id && (id == NULL || json_is_null(id))) {
        set_member(a, a->input, "id", json_string(old_id));
    } else if (!by_id && (json_string_value(id) == NULL || strcasecmp(json_string_value(id), old_id) != 0)) {
        answer_problem(a, "id", json_string("immutable field cannot be updated"));
        return false;
    }
    if (created == NULL || json_is_null(created)) {
        set_member(a, a->input, "created_at", json_incref(json_object_get(w->old, "created_at")));
    }
    return true;
}

void gw_admin_upsert(gw_admin_t *a, const gw_write_t *w, char *id) {
    gw_validation_t v = {.kind = w->kind, .mode = GW_UPSERT};
    if (id != NULL) {
        id[0] = '\0';
    }
    bool ready = gw_admin_precondition(a, w->old != NULL, w->revision) && read_input(a, w) && complete_input(a, w);
    json_t *entity = ready ? validate(a, &v, a->input) : NULL;
    if (entity == NULL) {
        return;
    }
    if (!gw_data_writable(a->data)) {
        refuse_write(a, "create or update", w->kind, w->key);
    } else if (store_and_answer(a, w->kind, entity, 200) && id != NULL) {
        snprintf(id, SL_UUID_TEXT_SIZE + 1, "%s", json_string_value(json_object_get(entity, "id")));
    }
    json_decref(entity);
}

/* The valid entity that `patch` makes of `old`, NULL: answered. */
static json_t *merge(gw_admin_t *a, const gw_entity_t *kind, const json_t *old, const json_t *patch) {
    gw_validation_t v = {.kind = kind, .mode = GW_UPDATE, .env = &a->env->validate, .plain = true};
    json_t *merged = gw_entity_merge(&v, old, patch), *entity = merged != NULL ? validate(a, &v, merged) : NULL;
    a->failed = a->failed || merged == NULL;
    json_decref(merged);
    if (entity != NULL && !json_equal(json_object_get(entity, "id"), json_object_get(old, "id"))) {
        answer_problem(a, "id", json_string("immutable field cannot be updated"));
        json_decref(entity);
        return NULL;
    }
    return entity;
}

void gw_admin_update(gw_admin_t *a, const gw_write_t *w) {
    if (!gw_admin_precondition(a, w->old != NULL, w->revision) || !read_input(a, w)) {
        return;
    }
    if (w->old == NULL) {
        answer_absent(a, w->kind, w->key);
        return;
    }
    json_t *entity = merge(a, w->kind, w->old, a->input);
    if (entity != NULL && !gw_data_writable(a->data)) {
        refuse_write(a, "update", w->kind, w->key);
    } else if (entity != NULL) {
        store_and_answer(a, w->kind, entity, 200);
    }
    json_decref(entity);
}

bool gw_admin_relink(gw_admin_t *a, const gw_entity_t *kind, const json_t *old, const char *field, const char *id) {
    uint64_t revision;
    json_t *patch = json_pack("{s:{s:s}}", field, "id", id);
    json_t *entity = patch != NULL ? merge(a, kind, old, patch) : NULL;
    a->failed = a->failed || patch == NULL;
    bool done = entity != NULL && store(a, kind, entity, &revision);
    json_decref(patch);
    json_decref(entity);
    return done;
}

static const char *service_with(const json_t *services, const char *ca_id) {
    size_t i, k;
    const json_t *service, *ca;
    json_array_foreach(services, i, service) {
        json_array_foreach(json_object_get(service, "ca_certificates"), k, ca) {
            if (json_is_string(ca) && strcmp(json_string_value(ca), ca_id) == 0) {
                return json_string_value(json_object_get(service, "id"));
            }
        }
    }
    return NULL;
}

/* Services name their CA certificates in a list, which the store does not look after. false: one does, and that is answered. */
static bool check_ca_unused(gw_admin_t *a, const gw_entity_t *kind, const char *id) {
    char after[SL_UUID_TEXT_SIZE + 1] = "";
    bool more = id != NULL && strcmp(kind->name, "ca_certificates") == 0, unused = true;
    while (more && unused) {
        gw_query_t query = {.after = after, .limit = 1000};
        json_t *page = gw_admin_list(a, "services", &query, &more);
        const char *user = service_with(page, id),
                   *last = json_string_value(json_object_get(json_array_get(page, json_array_size(page) - 1), "id"));
        unused = user == NULL;
        if (user != NULL) {
            sl_err_t text;
            sl_err_set(&text, SL_CONFLICT, "ca certificate %s is still referenced by services (id = %s)", id, user);
            gw_admin_error(a, gw_error_object(GW_ERR_REFERENCED, text.text, NULL));
        }
        more = more && last != NULL;
        snprintf(after, sizeof(after), "%s", last != NULL ? last : "");
        json_decref(page);
    }
    return unused && !a->failed && !a->storage_failed;
}

void gw_admin_remove(gw_admin_t *a, const gw_write_t *w) {
    if (!gw_data_writable(a->data)) {
        refuse_write(a, "remove", w->kind, w->key);
        return;
    }
    if (!gw_admin_precondition(a, w->old != NULL, w->revision)) {
        return;
    }
    const char *id = json_string_value(json_object_get(w->old, "id"));
    if (!check_ca_unused(a, w->kind, id)) {
        return;
    }
    if (id != NULL && !stored(a, a->data->ops->erase(a->data, w->kind->name, sl_cstr(id)), NULL)) {
        return;
    }
    a->wrote = a->wrote || id != NULL;
    gw_admin_empty(a, 204);
}
