/* /config: the whole configuration as a document, out and in. */
#include <stdlib.h>

#include "gw_admin_parts.h"
#include "sl_digest.h"

/* A document in a request: as text when there is one, always as a tree. */
typedef struct {
    sl_str_t text;
    json_t *tree; /* owned */
} document_t;

void gw_admin_config_get(gw_admin_t *a) {
    sl_buf_t yaml;
    sl_buf_init(&yaml, a->resp->body.max);
    if (gw_config_export_plan(a->env->plan, &yaml) == SL_OK) {
        gw_admin_json(a, 200, json_pack("{s:s%}", "config", yaml.data, yaml.len));
    } else {
        a->failed = true;
    }
    sl_buf_deinit(&yaml);
}

static bool is_on(const gw_arg_t *arg) {
    static const char *const words[] = {"1", "true", "on", "yes"};
    for (size_t i = 0; arg != NULL && i < sizeof(words) / sizeof(words[0]); i++) {
        if (sl_str_eq(arg->value, sl_cstr(words[i]))) {
            return true;
        }
    }
    return false;
}

static void answer_unparsed(gw_admin_t *a, const sl_err_t *err) {
    sl_err_t text = *err;
    sl_err_prefix(&text, "failed parsing declarative configuration: ");
    json_t *fields = json_pack("{s:o}", "error", gw_text(text.text));
    gw_admin_json(a, 400, fields != NULL ? gw_config_error(fields, NULL) : NULL);
    json_decref(fields);
}

/* What the body says the document is; false after answering. */
static bool read_document_text(gw_admin_t *a, document_t *doc) {
    if (gw_admin_body_type(a) == GW_BODY_YAML && a->req->n_content_types < 2) {
        doc->text = a->req->body;
        return true;
    }
    if (!gw_admin_read_input(a, NULL)) {
        return false;
    }
    const json_t *config = json_object_get(a->input, "config");
    if (json_is_string(config)) {
        doc->text = sl_str(json_string_value(config), json_string_length(config));
    } else if (gw_admin_body_type(a) == GW_BODY_JSON) {
        doc->text = a->req->body;
        doc->tree = json_object_size(a->input) > 0 ? json_incref(a->input) : NULL;
        doc->text.len = doc->tree != NULL ? doc->text.len : 0;
    }
    return true;
}

static bool parse_document(gw_admin_t *a, document_t *doc) {
    sl_err_t err;
    if (doc->tree != NULL) {
        return true;
    }
    sl_status_t rc = gw_document_parse(doc->text, GW_TEXT_AUTO, NULL, &doc->tree, &err);
    if (rc == SL_NO_MEMORY) {
        a->failed = true;
    } else if (rc != SL_OK) {
        answer_unparsed(a, &err);
    }
    return rc == SL_OK;
}

static void load(gw_admin_t *a, const json_t *tree) {
    json_t *fields;
    sl_status_t rc = gw_config_validate(tree, &a->env->validate, &a->replace->entities, &fields);
    if (rc == SL_OK) {
        a->next = GW_ADMIN_REPLACE;
        return;
    }
    if (rc == SL_INVALID) {
        bool flatten = is_on(gw_admin_arg(a, "flatten_errors"));
        gw_admin_json(a, 400, gw_config_error(fields, flatten ? tree : NULL));
    }
    a->failed = a->failed || rc != SL_INVALID;
    json_decref(a->replace->entities);
    a->replace->entities = NULL;
    json_decref(fields);
}

void gw_admin_config_post(gw_admin_t *a) {
    document_t doc = {SL_STR_NULL, NULL};
    a->replace->entities = NULL;
    if (!read_document_text(a, &doc)) {
        return;
    }
    if (doc.text.len == 0) {
        gw_admin_message(a, 400, "expected a declarative configuration");
        return;
    }
    a->failed = a->failed || sl_md5_hex(doc.text, a->replace->config_hash) != SL_OK;
    bool same = sl_str_eq(sl_cstr(a->replace->config_hash), gw_plan_config_hash(a->env->plan));
    if (same && is_on(gw_admin_arg(a, "check_hash"))) {
        gw_admin_empty(a, 304);
    } else if (parse_document(a, &doc)) {
        load(a, doc.tree);
    }
    json_decref(doc.tree);
}
