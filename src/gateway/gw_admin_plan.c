/* GET /plan: the configuration in service, and what it does with a request. */
#include <stdlib.h>

#include "gw_admin_parts.h"
#include "gw_explain.h"

#define SAMPLE_HEADERS 100

static void answer_summary(gw_admin_t *a) {
    const gw_plan_t *plan = a->env->plan;
    gw_admin_json(a, 200,
                  json_pack("{s:I,s:I,s:s,s:I,s:I,s:I}", "generation", (json_int_t)gw_plan_generation(plan), "revision",
                            (json_int_t)gw_plan_store_revision(plan), "router_flavor",
                            gw_plan_traditional(plan) ? "traditional" : "traditional_compatible", "services",
                            (json_int_t)gw_plan_n_services(plan), "routes", (json_int_t)gw_plan_n_routes(plan), "filter_chains",
                            (json_int_t)gw_plan_n_chains(plan)));
}

static bool take_protocol(sl_str_t name, gw_protocol_t *out) {
    static const char *const names[] = {"http", "https", "grpc", "grpcs"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (sl_str_eq(name, sl_cstr(names[i]))) {
            *out = (gw_protocol_t)(1u << i);
            return true;
        }
    }
    return false;
}

/* "Name: value" or "Name:value" */
static bool take_header(sl_str_t text, gw_sample_header_t *out) {
    const char *colon = text.len > 0 ? memchr(text.data, ':', text.len) : NULL;
    if (colon == NULL || colon == text.data) {
        return false;
    }
    size_t n = (size_t)(colon - text.data), skip = n + 1;
    while (skip < text.len && text.data[skip] == ' ') {
        skip++;
    }
    *out = (gw_sample_header_t){sl_str(text.data, n), sl_str(text.data + skip, text.len - skip)};
    return true;
}

/* NULL: fine; else what is wrong. */
static const char *take_arg(gw_sample_t *s, gw_sample_header_t *headers, const gw_arg_t *arg, sl_err_t *err) {
    sl_str_t name = arg->name, value = arg->value;
    char *end;
    if (sl_str_eq(name, SL_STR("url"))) {
        return gw_sample_url(s, value, err) == SL_OK ? NULL : err->text;
    }
    if (sl_str_eq(name, SL_STR("header"))) {
        bool room = s->n_headers < SAMPLE_HEADERS;
        return room && take_header(value, &headers[s->n_headers++]) ? NULL : "header: expected name:value, at most 100 of them";
    }
    if (sl_str_eq(name, SL_STR("scheme")) || sl_str_eq(name, SL_STR("protocol"))) {
        return take_protocol(value, &s->protocol) ? NULL : "scheme: expected one of: http, https, grpc, grpcs";
    }
    if (sl_str_eq(name, SL_STR("port"))) {
        unsigned long port = value.len > 0 ? strtoul(value.data, &end, 10) : 0;
        s->port = (uint32_t)port;
        return port >= 1 && port <= 65535 && *end == '\0' ? NULL : "port: expected a number from 1 to 65535";
    }
    sl_str_t *text = sl_str_eq(name, SL_STR("method")) ? &s->method
                     : sl_str_eq(name, SL_STR("host")) ? &s->host
                     : sl_str_eq(name, SL_STR("path")) ? &s->path
                     : sl_str_eq(name, SL_STR("sni"))  ? &s->sni
                                                       : NULL;
    if (text != NULL) {
        *text = value;
    }
    return NULL; /* unknown arguments are ignored, as everywhere */
}

void gw_admin_plan(gw_admin_t *a) {
    gw_sample_header_t headers[SAMPLE_HEADERS];
    gw_sample_t sample = {.method = SL_STR("GET"), .protocol = GW_HTTP, .port = 0, .path = SL_STR("/"), .headers = headers};
    sl_err_t err = {.text = ""};
    json_t *answer = NULL;
    if (a->n_args == 0) {
        answer_summary(a);
        return;
    }
    const char *problem = NULL;
    for (size_t i = 0; i < a->n_args && problem == NULL; i++) {
        problem = take_arg(&sample, headers, &a->args[i], &err);
    }
    sample.port = sample.port != 0 ? sample.port : (sample.protocol & (GW_HTTPS | GW_GRPCS)) != 0 ? 443 : 80;
    sl_status_t rc = problem == NULL ? gw_explain(a->env->plan, &sample, &answer, &err) : SL_INVALID;
    if (rc == SL_INVALID) {
        gw_admin_message(a, 400, problem != NULL ? problem : err.text);
        return;
    }
    a->failed = a->failed || rc != SL_OK;
    gw_admin_json(a, 200, answer);
}
