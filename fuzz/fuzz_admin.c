/*
 * The Admin API over a small running configuration. An input is a line "METHOD TARGET TYPE" and a body. Every request gets one
 * answer: a status, and a body that is JSON wherever it says so.
 */
#include <stdlib.h>

#include "gw_admin.h"

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static bool has_filter(void *ud, sl_str_t name) {
    (void)ud;
    return name.len < 8;
}

static sl_str_t filter_schema(void *ud, sl_str_t name) {
    (void)ud;
    return name.len == 1
               ? SL_STR("{\"type\":\"object\",\"properties\":{\"n\":{\"pattern\":\"^a\"}},\"additionalProperties\":{\"type\":\"array\"}}")
               : SL_STR_NULL;
}

static const gw_validate_env_t env = {
    .wasm_enabled = true, .any_filters = true, .has_filter = has_filter, .filter_schema = filter_schema, .now_s = 1700000000};

static const char running[] =
    "_format_version: '3.0'\n"
    "services: [{name: s, host: h, tags: [a], filter_chains: [{filters: [{name: ff}]}], routes: [{name: r, paths: [/]}]}]\n"
    "consumers: [{username: u, custom_id: x}]\n"
    "upstreams: [{name: u, targets: [{target: t}]}]\n";

static gw_plan_t *open_plan(void) {
    static sl_buf_t image;
    json_t *doc, *entities, *fields;
    gw_plan_t *plan;
    gw_plan_conf_t conf = {.config_hash = SL_STR("00000000000000000000000000000000")};
    sl_buf_init(&image, 1 << 22);
    check(gw_document_parse(SL_STR(running), GW_TEXT_YAML, NULL, &doc, NULL) == SL_OK);
    check(gw_config_validate(doc, &env, &entities, &fields) == SL_OK);
    check(gw_plan_build(entities, &conf, &image, NULL) == SL_OK);
    check(gw_plan_open(sl_buf_str(&image), &plan, NULL) == SL_OK);
    json_decref(doc);
    json_decref(entities);
    return plan;
}

static sl_str_t next_word(sl_str_t *rest, char end) {
    const char *at = rest->len > 0 ? memchr(rest->data, end, rest->len) : NULL;
    size_t len = at != NULL ? (size_t)(at - rest->data) : rest->len;
    sl_str_t word = sl_str(rest->data, len);
    len += at != NULL;
    *rest = sl_str(rest->data + len, rest->len - len);
    return word;
}

static void check_answer(const gw_admin_response_t *resp) {
    check(resp->status >= 200 && resp->status < 500 && !resp->body.failed && !resp->headers.failed);
    check(resp->headers.len == 0 || resp->headers.data[resp->headers.len - 1] == '\n');
    if (resp->content_type == NULL || strncmp(resp->content_type, "application/json", 16) != 0) {
        check(resp->content_type != NULL || resp->body.len == 0);
        return;
    }
    json_t *body = json_loadb(resp->body.data, resp->body.len, 0, NULL);
    check(json_is_object(body));
    json_decref(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static gw_plan_t *plan;
    plan = plan != NULL ? plan : open_plan();
    gw_admin_env_t admin = {.plan = plan, .validate = env, .info = {.wasm_enabled = true, .db_less = true}};
    sl_str_t rest = sl_str(data, size < 65536 ? size : 65536), line = next_word(&rest, '\n');
    gw_admin_request_t req = {.body = rest, .method = next_word(&line, ' ')};
    sl_str_t target = next_word(&line, ' ');
    req.path = next_word(&target, '?');
    req.query = target;
    req.content_type = line;
    req.n_content_types = line.len > 0;
    req.accept_headers = line;
    gw_admin_response_t resp;
    gw_admin_replace_t replace = {.entities = NULL};
    sl_buf_init(&resp.body, (size_t)64 << 20);
    sl_buf_init(&resp.headers, 65536 * 2);
    gw_admin_next_t next = gw_admin_handle(&req, &admin, &resp, &replace);
    if (next == GW_ADMIN_REPLACE) {
        check(replace.entities != NULL && strlen(replace.config_hash) == 32);
        gw_admin_replaced(&replace, SL_OK, NULL, &resp);
    }
    check_answer(&resp);
    json_decref(replace.entities);
    sl_buf_deinit(&resp.body);
    sl_buf_deinit(&resp.headers);
    return 0;
}
