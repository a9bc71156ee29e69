/* Transactions of an exchange with the entities: their ends, what their faults are answered with, conditions on revisions. */
#include <stdio.h>

#include "gw_admin_parts.h"

bool gw_admin_got(gw_admin_t *a, sl_status_t rc) {
    a->failed = a->failed || rc == SL_NO_MEMORY;
    a->storage_failed = a->storage_failed || (rc != SL_OK && rc != SL_NOT_FOUND && rc != SL_NO_MEMORY);
    return rc == SL_OK;
}

bool gw_admin_begin(gw_admin_t *a) {
    if (a->begun || !gw_data_writable(a->data)) {
        return true;
    }
    a->begun = gw_admin_got(a, a->data->ops->begin(a->data, (a->method & (GW_GET | GW_HEAD)) == 0));
    return a->begun;
}

void gw_admin_end(gw_admin_t *a) {
    if (!a->begun) {
        return;
    }
    a->begun = false;
    bool fine = !a->failed && !a->storage_failed && !a->resp->body.failed && a->resp->status < 400;
    if (!fine || !a->wrote || a->untried) {
        a->data->ops->rollback(a->data);
        if (fine && a->wrote) {
            a->next = GW_ADMIN_AGAIN;
        }
        return;
    }
    sl_status_t rc = a->data->ops->commit(a->data);
    if (rc != SL_OK) {
        sl_buf_reset(&a->resp->body);
        sl_buf_reset(&a->resp->headers);
        if (a->data->fault.kind == GW_FAULT_NO_PARENT) {
            gw_admin_fault(a, NULL);
        } else {
            gw_admin_got(a, rc);
        }
    }
}

/* ---- faults ------------------------------------------------------------------------------------------------------------- */

static void answer_keyed(gw_admin_t *a, gw_error_code_t code, const char *before, json_t *fields) {
    sl_buf_t message;
    sl_buf_init(&message, 65536);
    sl_buf_append_cstr(&message, before);
    if (fields != NULL) {
        gw_lua_print(fields, true, &message);
    }
    sl_buf_append_char(&message, '\'');
    const char *text = fields != NULL ? sl_buf_cstr(&message) : NULL;
    gw_admin_error(a, text != NULL ? gw_error_object(code, text, fields) : NULL);
    sl_buf_deinit(&message);
}

/* The fields that are named in `list`, commas between, with the values that the entity has. */
static json_t *fields_of(const json_t *entity, const char *list) {
    json_t *fields = json_object();
    char name[64];
    for (const char *p = list; fields != NULL && *p != '\0'; p += *p == ',') {
        size_t len = strcspn(p, ",");
        snprintf(name, sizeof(name), "%.*s", (int)len, p);
        json_t *value = json_object_get(entity, name);
        if (json_object_set_new(fields, name, value != NULL ? json_incref(value) : json_null()) != 0) {
            json_decref(fields);
            return NULL;
        }
        p += len;
    }
    return fields;
}

/* A field that is unique by itself and part of the key of several stands for the whole key. */
static json_t *unique_fields(const gw_fault_t *f, const json_t *entity) {
    const gw_entity_t *kind = gw_entity_find(sl_cstr(f->collection));
    char list[sizeof(f->field) * 2] = "";
    bool part = false;
    for (const char *const *name = kind != NULL ? kind->cache_key : NULL; name != NULL && *name != NULL; name++) {
        size_t used = strlen(list);
        part = part || strcmp(*name, f->field) == 0;
        snprintf(list + used, sizeof(list) - used, "%s%s", used > 0 ? "," : "", *name);
    }
    return fields_of(entity, part ? list : f->field);
}

static void answer_no_parent(gw_admin_t *a, const gw_fault_t *f) {
    sl_err_t text;
    json_t *fields = json_pack("{s:{s:s}}", f->field, "id", f->other_id);
    sl_err_set(&text, SL_INVALID, "the foreign key '{id=\"%s\"}' does not reference an existing '%s' entity.", f->other_id,
               f->other_collection);
    gw_admin_error(a, fields != NULL ? gw_error_object(GW_ERR_FOREIGN_KEY, text.text, fields) : NULL);
    json_decref(fields);
}

static void answer_referenced(gw_admin_t *a, const gw_fault_t *f) {
    sl_err_t text;
    json_t *fields = json_pack("{s:s}", "@referenced_by", f->other_collection);
    sl_err_set(&text, SL_INVALID, "an existing '%s' entity references this '%s' entity", f->other_collection, f->collection);
    gw_admin_error(a, fields != NULL ? gw_error_object(GW_ERR_FOREIGN_KEY, text.text, fields) : NULL);
    json_decref(fields);
}

void gw_admin_fault(gw_admin_t *a, const json_t *entity) {
    const gw_fault_t *f = &a->data->fault;
    json_t *fields;
    switch (f->kind) {
    case GW_FAULT_UNIQUE:
        fields = unique_fields(f, entity);
        answer_keyed(a, GW_ERR_UNIQUE, "UNIQUE violation detected on '", fields);
        json_decref(fields);
        break;
    case GW_FAULT_NO_PARENT:
        answer_no_parent(a, f);
        break;
    case GW_FAULT_REFERENCED:
        answer_referenced(a, f);
        break;
    default:
        a->storage_failed = true;
        break;
    }
}

void gw_admin_storage_failure(gw_admin_t *a) {
    bool busy = a->data->fault.kind == GW_FAULT_BUSY;
    sl_buf_reset(&a->resp->body);
    sl_buf_reset(&a->resp->headers);
    if (busy) {
        sl_buf_append_cstr(&a->resp->headers, "Retry-After: 1\n");
    }
    /* The message is what clients know; the reason is for who operates the gateway. */
    gw_admin_json(a, busy ? 503 : 500,
                  json_pack("{s:s,s:o}", "message", "An unexpected error occurred", "reason", gw_text(a->data->err.text)));
}

/* ---- conditions --------------------------------------------------------------------------------------------------------- */

void gw_admin_etag(gw_admin_t *a, uint64_t revision) {
    if (revision != 0) {
        sl_buf_printf(&a->resp->headers, "ETag: \"%llu\"\n", (unsigned long long)revision);
    }
}

/* Whether a list of entity tags has the one of `revision`, or is "*". Weak tags are never equal. */
static bool has_etag(sl_str_t list, uint64_t revision) {
    char tag[32];
    size_t len = (size_t)snprintf(tag, sizeof(tag), "\"%llu\"", (unsigned long long)revision);
    while (list.len > 0) {
        const char *comma = memchr(list.data, ',', list.len);
        size_t n = comma != NULL ? (size_t)(comma - list.data) : list.len, skip = 0, end = n;
        while (skip < end && (list.data[skip] == ' ' || list.data[skip] == '\t')) {
            skip++;
        }
        while (end > skip && (list.data[end - 1] == ' ' || list.data[end - 1] == '\t')) {
            end--;
        }
        sl_str_t one = sl_str(list.data + skip, end - skip);
        if (sl_str_eq(one, SL_STR("*")) || (revision != 0 && sl_str_eq(one, sl_str(tag, len)))) {
            return true;
        }
        n += comma != NULL;
        list = sl_str(list.data + n, list.len - n);
    }
    return false;
}

bool gw_admin_precondition(gw_admin_t *a, bool found, uint64_t revision) {
    bool match = a->req->if_match.len == 0 || (found && has_etag(a->req->if_match, revision));
    bool none = a->req->if_none_match.len == 0 || !found || !has_etag(a->req->if_none_match, revision);
    if (match && none) {
        return true;
    }
    if (match && (a->method & (GW_GET | GW_HEAD)) != 0) {
        gw_admin_etag(a, revision);
        gw_admin_empty(a, 304);
        return false;
    }
    if (found) {
        gw_admin_etag(a, revision);
    }
    gw_admin_message(a, 412, "Precondition failed");
    return false;
}

/* ---- POST /transactions ------------------------------------------------------------------------------------------------- */

#define OPERATIONS_MAX 10000

static const char *const operation_methods[][2] = {{"delete", "DELETE"}, {"patch", "PATCH"}, {"post", "POST"}, {"put", "PUT"}};

/* What is wrong with an operation's form; NULL: nothing. */
static const char *read_operation(const json_t *op, gw_admin_request_t *req, const json_t **body) {
    static const char *const known[] = {"op", "path", "body", "if_match"};
    const char *key, *method = json_string_value(json_object_get(op, "op"));
    const json_t *path = json_object_get(op, "path"), *etag = json_object_get(op, "if_match");
    json_t *value;
    *body = json_object_get(op, "body");
    json_object_foreach((json_t *)op, key, value) {
        bool found = false;
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            found = found || strcmp(known[i], key) == 0;
        }
        if (!found) {
            return "an operation has the members op, path, body and if_match";
        }
    }
    for (size_t i = 0; method != NULL && i < sizeof(operation_methods) / sizeof(operation_methods[0]); i++) {
        if (strcmp(operation_methods[i][0], method) == 0) {
            req->method = sl_cstr(operation_methods[i][1]);
        }
    }
    if (req->method.len == 0) {
        return "op: expected one of: delete, patch, post, put";
    }
    if (!json_is_string(path) || json_string_value(path)[0] != '/' || strpbrk(json_string_value(path), "?#") != NULL) {
        return "path: expected a path of the Admin API, as /services/name";
    }
    if ((*body != NULL && !json_is_object(*body)) || (etag != NULL && !json_is_string(etag))) {
        return "body: expected an object; if_match: expected a string";
    }
    req->path = sl_str(json_string_value(path), json_string_length(path));
    req->if_match = sl_str(json_string_value(etag), json_string_length(etag));
    return NULL;
}

/* The answer when operation `i` fails: its status, and its answer as "error". */
static void answer_failed_operation(gw_admin_t *a, size_t i, int status, json_t *error) {
    sl_err_t text;
    const char *message = json_string_value(json_object_get(error, "message"));
    sl_err_set(&text, SL_INVALID, "operation %zu failed, nothing was changed: %s", i, message != NULL ? message : "see error");
    gw_admin_json(a, status, json_pack("{s:o,s:I,s:o}", "message", gw_text(text.text), "index", (json_int_t)i, "error", error));
}

/* false: it failed, and that was answered. */
static bool run_operation(gw_admin_t *a, size_t i, const json_t *op, json_t *results) {
    gw_admin_request_t req = {.method = SL_STR_NULL};
    gw_admin_response_t resp = {.status = 0};
    const json_t *body;
    const char *problem = read_operation(op, &req, &body);
    if (problem != NULL) {
        answer_failed_operation(a, i, 400, json_pack("{s:s}", "message", problem));
        return false;
    }
    json_t *nothing = body == NULL ? json_object() : NULL;
    sl_buf_init(&resp.body, a->resp->body.max);
    sl_buf_init(&resp.headers, a->resp->headers.max);
    gw_admin_run(a, &req, body != NULL ? body : nothing, &resp);
    json_t *answer = resp.body.len > 0 ? json_loadb(resp.body.data, resp.body.len, JSON_ALLOW_NUL, NULL) : json_null();
    bool fine = resp.status < 400;
    a->failed = a->failed || answer == NULL || resp.body.failed || resp.headers.failed;
    if (!fine) {
        answer_failed_operation(a, i, resp.status, answer);
    } else if (json_array_append_new(results, json_pack("{s:i,s:o}", "status", resp.status, "body", answer)) != 0) {
        a->failed = true;
    }
    json_decref(nothing);
    sl_buf_deinit(&resp.body);
    sl_buf_deinit(&resp.headers);
    return fine && !a->failed && !a->storage_failed;
}

/* Which operation put the entity that a failed commit is about. */
static size_t operation_of(const json_t *results, const gw_fault_t *fault) {
    size_t i;
    const json_t *result;
    json_array_foreach(results, i, result) {
        const char *id = json_string_value(json_object_get(json_object_get(result, "body"), "id"));
        if (id != NULL && strcmp(id, fault->id) == 0) {
            return i;
        }
    }
    return 0;
}

static void run_operations(gw_admin_t *a, const json_t *list, json_t *results) {
    size_t i;
    const json_t *op;
    json_array_foreach(list, i, op) {
        if (!run_operation(a, i, op, results)) {
            return;
        }
    }
    gw_admin_json(a, 200, json_pack("{s:O}", "results", results));
    gw_admin_end(a);
    if (a->resp->status >= 400) {
        json_t *error = json_loadb(a->resp->body.data, a->resp->body.len, 0, NULL);
        int status = a->resp->status;
        sl_buf_reset(&a->resp->body);
        answer_failed_operation(a, operation_of(results, &a->data->fault), status, error);
    }
}

void gw_admin_transactions(gw_admin_t *a) {
    if (!gw_data_writable(a->data)) {
        gw_admin_error(a, gw_error_object(GW_ERR_UNSUPPORTED, "cannot run transactions when not using a database", NULL));
        return;
    }
    if (!gw_admin_read_input(a, NULL)) {
        return;
    }
    const json_t *list = json_object_get(a->input, "operations");
    if (!json_is_array(list) || json_object_size(a->input) != 1 || json_array_size(list) > OPERATIONS_MAX) {
        gw_admin_message(a, 400,
                         "expected {\"operations\":[{\"op\":\"put\",\"path\":\"/services/name\",\"body\":{}}]}, at most 10000 of them");
        return;
    }
    json_t *results = json_array();
    a->failed = a->failed || results == NULL;
    if (gw_admin_begin(a)) {
        run_operations(a, list, results);
    }
    json_decref(results);
}
