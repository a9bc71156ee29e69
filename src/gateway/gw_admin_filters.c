/* /filters: what is installed, uploads, versions. */
#include <stdio.h>
#include <string.h>

#include "gw_admin_parts.h"
#include "sl_digest.h"

#define NAME_MAX_BYTES 128
#define CHAINS_MAX 1000 /* ids that are listed */

/* ---- answers to failures ------------------------------------------------------------------------------------------------- */

static void answer_field(gw_admin_t *a, const char *field, const char *text) {
    json_t *fields = json_pack("{s:o}", field, gw_text(text));
    gw_admin_error(a, fields != NULL ? gw_error_schema(fields) : NULL);
    json_decref(fields);
}

static void answer_conflict(gw_admin_t *a, const gw_filters_t *f) {
    json_t *fields;
    switch (f->fault) {
    case GW_FILTERS_REFERENCED:
        fields = json_pack("{s:s}", "@referenced_by", f->field != NULL ? f->field : "filter_chains");
        gw_admin_error(a, fields != NULL ? gw_error_object(GW_ERR_FOREIGN_KEY, f->err.text, fields) : NULL);
        json_decref(fields);
        break;
    case GW_FILTERS_TAKEN:
        fields = json_pack("{s:o}", "version", gw_text(f->err.text));
        gw_admin_error(a, fields != NULL ? gw_error_object(GW_ERR_UNIQUE, f->err.text, fields) : NULL);
        json_decref(fields);
        break;
    default:
        sl_buf_append_cstr(&a->resp->headers, "Retry-After: 1\n");
        gw_admin_json(a, 503, json_pack("{s:s,s:o}", "message", "An unexpected error occurred", "reason", gw_text(f->err.text)));
        break;
    }
}

/* true: the call went well; else it is answered. */
static bool went_well(gw_admin_t *a, sl_status_t rc) {
    const gw_filters_t *f = a->env->filters;
    switch (rc) {
    case SL_OK:
        return true;
    case SL_NOT_FOUND:
        gw_admin_not_found(a);
        return false;
    case SL_INVALID:
        answer_field(a, f->field != NULL ? f->field : "module", f->err.text);
        return false;
    case SL_CONFLICT:
        answer_conflict(a, f);
        return false;
    default:
        gw_admin_json(a, 500, json_pack("{s:s,s:o}", "message", "An unexpected error occurred", "reason", gw_text(f->err.text)));
        return false;
    }
}

/* ---- who uses it --------------------------------------------------------------------------------------------------------- */

static bool add_user(json_t *users, const char *name, const json_t *id) {
    json_t *list = json_object_get(users, name);
    if (list == NULL) {
        list = json_array();
        if (json_object_set_new(users, name, list) != 0) {
            return false;
        }
    }
    size_t n = json_array_size(list);
    if (n >= CHAINS_MAX || (n > 0 && json_equal(json_array_get(list, n - 1), id))) {
        return true;
    }
    return json_array_append(list, (json_t *)(uintptr_t)id) == 0;
}

static void add_chain_users(gw_admin_t *a, json_t *users, const json_t *chain) {
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(chain, "filters"), i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        a->failed = a->failed || name == NULL || !add_user(users, name, json_object_get(chain, "id"));
    }
}

/* Only looks, whatever the method is: what is written has been committed already. */
static bool begin_reading(gw_admin_t *a) {
    if (!a->begun && gw_data_writable(a->data)) {
        a->begun = gw_admin_got(a, a->data->ops->begin(a->data, false));
        return a->begun;
    }
    return true;
}

/* {"name": ["<id>", ...]} of filter_chains, or of plugins, which name one filter themselves; NULL: a failure. */
static json_t *users_of(gw_admin_t *a, const char *collection) {
    char after[SL_UUID_TEXT_SIZE + 1] = "";
    bool more = true, plugins = strcmp(collection, "plugins") == 0;
    json_t *users = json_object(), *entity;
    size_t i;
    while (users != NULL && more && begin_reading(a)) {
        gw_query_t query = {.after = after, .limit = 1000};
        json_t *page = gw_admin_list(a, collection, &query, &more);
        json_array_foreach(page, i, entity) {
            const char *name = json_string_value(json_object_get(entity, "name"));
            if (!plugins) {
                add_chain_users(a, users, entity);
            } else if (name != NULL) {
                a->failed = !add_user(users, name, json_object_get(entity, "id")) || a->failed;
            }
        }
        const char *last = json_string_value(json_object_get(json_array_get(page, json_array_size(page) - 1), "id"));
        more = more && last != NULL && !a->failed && !a->storage_failed;
        snprintf(after, sizeof(after), "%s", last != NULL ? last : "");
        json_decref(page);
    }
    a->failed = a->failed || users == NULL;
    return users;
}

typedef struct {
    json_t *chains, *plugins;
} users_t;

static users_t all_users(gw_admin_t *a) {
    return (users_t){users_of(a, "filter_chains"), users_of(a, "plugins")};
}

static void free_users(users_t *users) {
    json_decref(users->chains);
    json_decref(users->plugins);
}

static void show_users(gw_admin_t *a, json_t *filter, const users_t *users) {
    const char *name = json_string_value(json_object_get(filter, "name"));
    json_t *chains = json_object_get(users->chains, name), *plugins = json_object_get(users->plugins, name);
    if (json_object_set_new(filter, "filter_chains", chains != NULL ? json_incref(chains) : json_array()) != 0 ||
        json_object_set_new(filter, "plugins", plugins != NULL ? json_incref(plugins) : json_array()) != 0) {
        a->failed = true;
    }
}

/* Takes `filter`. */
static void answer_filter(gw_admin_t *a, int status, json_t *filter) {
    users_t users = all_users(a);
    show_users(a, filter, &users);
    free_users(&users);
    gw_admin_json(a, status, filter);
}

/* ---- what is given ------------------------------------------------------------------------------------------------------- */

/* Letters, digits, '.', '_' and '-', a letter, a digit or '_' first: also the name of a file that harms nobody. */
static bool name_valid(sl_str_t name) {
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!word && (i == 0 || (c != '.' && c != '-'))) {
            return false;
        }
    }
    return name.len > 0 && name.len <= NAME_MAX_BYTES;
}

/* false: answered. */
static bool may_write(gw_admin_t *a, const char *verb) {
    sl_err_t text;
    if (gw_data_writable(a->data)) {
        return true;
    }
    sl_err_set(&text, SL_INVALID, "cannot %s 'filters' entities when not using a database", verb);
    gw_admin_error(a, gw_error_object(GW_ERR_UNSUPPORTED, text.text, NULL));
    return false;
}

/* An argument of the query, or what a header says. */
static bool is_false(const gw_arg_t *arg) {
    return arg != NULL && (sl_str_eq(arg->value, SL_STR("false")) || sl_str_eq(arg->value, SL_STR("0")));
}

/* A member of a form that holds JSON; the reference goes to `*out`. false: answered. */
static bool read_part(gw_admin_t *a, const char *field, sl_str_t text, json_t **out) {
    sl_err_t err;
    json_decref(*out);
    *out = NULL;
    sl_status_t rc = gw_document_parse(text, GW_TEXT_JSON, NULL, out, &err);
    if (rc != SL_OK) {
        answer_field(a, field, err.text);
    }
    return rc == SL_OK;
}

typedef struct {
    gw_upload_t upload;
    json_t *meta, *schema;
} given_t;

static bool read_form(gw_admin_t *a, given_t *g) {
    gw_arg_t *args;
    size_t n;
    if (!gw_admin_read_multipart(a, true, &args, &n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        bool good = true;
        if (sl_str_eq(args[i].name, SL_STR("module"))) {
            g->upload.bytes = args[i].value;
        } else if (sl_str_eq(args[i].name, SL_STR("version"))) {
            g->upload.version = args[i].value;
        } else if (sl_str_eq(args[i].name, SL_STR("meta"))) {
            good = read_part(a, "meta", args[i].value, &g->meta);
        } else if (sl_str_eq(args[i].name, SL_STR("schema"))) {
            good = read_part(a, "schema", args[i].value, &g->schema);
        } else if (sl_str_eq(args[i].name, SL_STR("activate"))) {
            g->upload.keep = is_false(&args[i]);
        } else {
            answer_field(a, args[i].name.data, "unknown field; a form has module, version, meta, schema and activate");
            return false;
        }
        if (!good) {
            return false;
        }
    }
    return true;
}

/* false: answered. */
static bool read_upload(gw_admin_t *a, given_t *g) {
    const gw_arg_t *version = gw_admin_arg(a, "version");
    g->upload.name = a->segments[1];
    g->upload.version = version != NULL ? version->value : SL_STR_NULL;
    g->upload.keep = is_false(gw_admin_arg(a, "activate"));
    if (!name_valid(g->upload.name)) {
        answer_field(a, "name", "expected at most 128 letters, digits and any of . _ -, the first one no . or -");
        return false;
    }
    switch (gw_admin_body_type(a)) {
    case GW_BODY_WASM:
        g->upload.bytes = a->req->body;
        break;
    case GW_BODY_MULTIPART:
        if (!read_form(a, g)) {
            return false;
        }
        break;
    default:
        gw_admin_message(a, 415, "expected the module itself with Content-Type: application/wasm, or a multipart/form-data body with it");
        return false;
    }
    g->upload.meta = g->meta;
    g->upload.schema = g->schema;
    if (g->upload.bytes.len == 0) {
        answer_field(a, "module", "required field missing");
        return false;
    }
    return true;
}

/* ---- endpoints ------------------------------------------------------------------------------------------------------------ */

/* false: answered. */
static bool has_filters(gw_admin_t *a) {
    if (a->env->filters == NULL) {
        gw_admin_not_found(a);
    }
    return a->env->filters != NULL;
}

void gw_admin_filters(gw_admin_t *a) {
    json_t *list = NULL, *filter;
    gw_page_t page;
    size_t i;
    bool more = false;
    const char *last = NULL;
    if (!has_filters(a) || !gw_page_read(a, &page) ||
        !went_well(a, a->env->filters->ops->list(a->env->filters, page.after, page.size, &list, &more))) {
        return;
    }
    users_t users = all_users(a);
    sl_buf_append_cstr(&a->resp->body, "{\"data\":[");
    json_array_foreach(list, i, filter) {
        show_users(a, filter, &users);
        last = json_string_value(json_object_get(filter, "name"));
        sl_buf_append_cstr(&a->resp->body, i > 0 ? "," : "");
        gw_admin_json(a, 200, json_incref(filter));
    }
    gw_page_end(a, more ? last : NULL);
    gw_admin_text(a, 200, SL_STR(""));
    free_users(&users);
    json_decref(list);
}

static void put_filter(gw_admin_t *a) {
    given_t g = {.meta = NULL};
    json_t *out = NULL;
    bool created = false;
    if (may_write(a, "create or update") && read_upload(a, &g) &&
        went_well(a, a->env->filters->ops->upload(a->env->filters, &g.upload, &created, &out))) {
        answer_filter(a, created ? 201 : 200, out);
    }
    json_decref(g.meta);
    json_decref(g.schema);
}

static void patch_filter(gw_admin_t *a) {
    json_t *out = NULL;
    if (!may_write(a, "update") || !gw_admin_read_input(a, NULL)) {
        return;
    }
    const json_t *version = json_object_get(a->input, "version");
    char number[32];
    sl_str_t text = sl_str(json_string_value(version), json_string_length(version));
    if (json_is_integer(version)) {
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(version));
        text = sl_cstr(number);
    }
    bool known = json_is_null(version) || (text.data != NULL && text.len > 0);
    if (version == NULL || !known || json_object_size(a->input) != 1) {
        answer_field(a, "version", "expected {\"version\": <name, number or SHA-256 of a version>}; null: the file in the filters folder");
        return;
    }
    if (went_well(a, a->env->filters->ops->select(a->env->filters, a->segments[1], text, &out))) {
        answer_filter(a, 200, out);
    }
}

static void remove_filter(gw_admin_t *a, sl_str_t version) {
    if (!may_write(a, "delete")) {
        return;
    }
    sl_status_t rc = a->env->filters->ops->remove(a->env->filters, a->segments[1], version);
    /* As with every entity: that it is not there is what was asked for. */
    if (rc == SL_NOT_FOUND || went_well(a, rc)) {
        gw_admin_empty(a, 204);
    }
}

void gw_admin_filter(gw_admin_t *a) {
    json_t *out = NULL;
    if (!has_filters(a)) {
        return;
    }
    switch (a->method) {
    case GW_PUT:
        put_filter(a);
        break;
    case GW_PATCH:
        patch_filter(a);
        break;
    case GW_DELETE:
        remove_filter(a, SL_STR_NULL);
        break;
    default:
        if (went_well(a, a->env->filters->ops->show(a->env->filters, a->segments[1], SL_STR_NULL, &out))) {
            answer_filter(a, 200, out);
        }
        break;
    }
}

void gw_admin_filter_schema(gw_admin_t *a) {
    json_t *out = NULL;
    if (!has_filters(a)) {
        return;
    }
    if (a->method != GW_PUT) {
        a->segments[2] = a->segments[1]; /* as /schemas/filters/{name} */
        gw_admin_schema_filter(a);
        return;
    }
    if (may_write(a, "create or update") && gw_admin_read_input(a, NULL) &&
        went_well(a, a->env->filters->ops->set_schema(a->env->filters, a->segments[1], a->input, &out))) {
        answer_filter(a, 200, out);
    }
}

void gw_admin_filter_versions(gw_admin_t *a) {
    json_t *list = NULL;
    gw_page_t page;
    if (has_filters(a) && gw_page_read(a, &page) && went_well(a, a->env->filters->ops->versions(a->env->filters, a->segments[1], &list))) {
        gw_page_of_list(a, &page, list);
    }
}

void gw_admin_filter_version(gw_admin_t *a) {
    json_t *out = NULL;
    if (!has_filters(a)) {
        return;
    }
    if (a->method == GW_DELETE) {
        remove_filter(a, a->segments[3]);
    } else if (went_well(a, a->env->filters->ops->show(a->env->filters, a->segments[1], a->segments[3], &out))) {
        gw_admin_json(a, 200, out);
    }
}
