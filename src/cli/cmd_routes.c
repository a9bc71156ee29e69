/* Which route a request would take, and why. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli.h"
#include "gw_explain.h"
#include "gw_plan.h"
#include "prepare.h"
#include "sl_file.h"
#include "store.h"

#define DOCUMENT_MAX ((size_t)256 * 1024 * 1024)
#define IMAGE_MAX ((size_t)4 * 1024 * 1024 * 1024)

static int wrong_usage(void) {
    fputs("Usage: sluice routes explain METHOD URL [FILE] [-H 'Name: value']... [--json]\n", stderr);
    return 2;
}

/* ---- printing ------------------------------------------------------------------------------------------------------------ */

static const char *name_of(const json_t *entity) {
    const char *name = json_string_value(json_object_get(entity, "name"));
    return name != NULL ? name : json_string_value(json_object_get(entity, "id"));
}

/* paths "/a", methods "GET" */
static void print_attributes(const json_t *attributes) {
    const char *name, *separator = "";
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)attributes, name, value) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        printf("%s%s %s", separator, name, text != NULL ? text : "?");
        separator = ", ";
        free(text);
    }
}

static void print_route(const json_t *answer) {
    const json_t *route = json_object_get(answer, "route"), *service = json_object_get(answer, "service");
    const json_t *own = json_object_get(answer, "answer"), *upstream = json_object_get(answer, "upstream");
    if (json_is_object(route)) {
        printf("route     %s, by ", name_of(route));
        print_attributes(json_object_get(route, "matched"));
        putchar('\n');
    }
    if (json_is_object(service)) {
        printf("service   %s\n", name_of(service));
    }
    if (json_is_object(own)) {
        printf("answer    %lld %s\n", (long long)json_integer_value(json_object_get(own, "status")),
               json_string_value(json_object_get(own, "message")));
    } else if (json_is_object(upstream)) {
        printf("upstream  %s, Host: %s\n", json_string_value(json_object_get(upstream, "url")),
               json_string_value(json_object_get(upstream, "host_header")));
    }
}

static void print_filters(const json_t *filters) {
    size_t i;
    const json_t *filter;
    json_array_foreach(filters, i, filter) {
        printf("filter %zu  %s, of the %s's chain %s\n", i + 1, json_string_value(json_object_get(filter, "name")),
               json_string_value(json_object_get(filter, "from")), name_of(json_object_get(filter, "filter_chain")));
    }
}

static void print_candidates(const json_t *answer) {
    size_t i;
    const json_t *other, *list = json_object_get(answer, "candidates");
    json_array_foreach(list, i, other) {
        const char *reason = json_string_value(json_object_get(other, "reason"));
        printf("not %s: ", name_of(json_object_get(other, "route")));
        if (reason != NULL) {
            printf("%s%s\n", json_is_true(json_object_get(other, "matches")) ? "matches too, but " : "", reason);
        } else {
            printf("wants ");
            print_attributes(json_object_get(other, "failed"));
            putchar('\n');
        }
    }
    json_int_t more = json_integer_value(json_object_get(answer, "candidates_total")) - (json_int_t)json_array_size(list);
    if (more > 0) {
        printf("and %lld more\n", (long long)more);
    }
}

/* ---- asking ---------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const settings_t *s;
    const cli_options_t *o;
    const char *file; /* a declarative document; NULL: none */
    prepared_t *p;
    gw_sample_t sample;
} question_t;

static bool take_headers(const cli_options_t *o, gw_sample_header_t *headers) {
    for (int i = 0; i < o->n_headers; i++) {
        const char *colon = strchr(o->headers[i], ':');
        if (colon == NULL || colon == o->headers[i]) {
            return false;
        }
        headers[i].name = sl_str(o->headers[i], (size_t)(colon - o->headers[i]));
        headers[i].value = sl_cstr(colon + 1 + strspn(colon + 1, " "));
    }
    return true;
}

static sl_status_t explain(const question_t *q, const gw_plan_t *plan, sl_err_t *err) {
    json_t *answer = NULL;
    gw_sample_t sample = q->sample;
    for (size_t i = 0; i < sample.n_headers; i++) {
        if (sl_str_eq_nocase(sample.headers[i].name, SL_STR("host"))) {
            sample.host = sample.headers[i].value;
        }
    }
    sl_status_t rc = gw_explain(plan, &sample, &answer, err);
    if (rc == SL_OK && q->o->json) {
        json_dumpf(answer, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (rc == SL_OK) {
        print_route(answer);
        print_filters(json_object_get(answer, "filters"));
        print_candidates(answer);
    }
    json_decref(answer);
    return rc;
}

static sl_status_t explain_entities(const question_t *q, const json_t *entities, sl_err_t *err) {
    sl_buf_t image;
    gw_plan_t *plan = NULL;
    gw_plan_conf_t conf = {.config_hash = SL_STR("00000000000000000000000000000000"),
                           .traditional = strcmp(settings_get(q->s, "router_flavor"), "traditional") == 0};
    sl_buf_init(&image, IMAGE_MAX);
    sl_status_t rc = gw_plan_build(entities, &conf, &image, err);
    rc = rc == SL_OK ? gw_plan_open(sl_buf_str(&image), &plan, err) : rc;
    rc = rc == SL_OK ? explain(q, plan, err) : rc;
    gw_plan_close(plan);
    sl_buf_deinit(&image);
    return rc;
}

static sl_status_t explain_document(const question_t *q, sl_err_t *err) {
    sl_buf_t text;
    nd_node_t node;
    json_t *entities = NULL;
    sl_buf_init(&text, DOCUMENT_MAX);
    sl_status_t rc = sl_file_read(q->file, &text, err);
    if (rc == SL_OK) {
        rc = prepare_node_open(q->s, NULL, &node, err);
        rc = rc == SL_OK ? prepare_validate_text(&node, q->file, sl_buf_str(&text), &entities, err) : rc;
        prepare_node_close(&node);
    }
    rc = rc == SL_OK ? explain_entities(q, entities, err) : rc;
    json_decref(entities);
    sl_buf_deinit(&text);
    return rc;
}

/* What a running gateway serves, or what the store has. With the worker user's rights. */
static sl_status_t explain_served(void *ud, sl_err_t *err) {
    const question_t *q = ud;
    char path[4200];
    gw_plan_t *plan = NULL;
    json_t *entities = NULL;
    sl_status_t rc;
    if (prepare_has_store(q->s) && cli_running_pid(q->p->prefix) == 0) {
        rc = prepare_load_store(q->p, &entities, err);
        rc = rc == SL_OK ? explain_entities(q, entities, err) : rc;
        json_decref(entities);
        return rc;
    }
    snprintf(path, sizeof(path), "%s/state/plan", q->p->prefix);
    rc = gw_plan_open_file(path, &plan, err);
    rc = rc == SL_OK ? explain(q, plan, err) : rc;
    gw_plan_close(plan);
    return rc;
}

static int ask(question_t *q) {
    static prepared_t p;
    sl_err_t err = {.text = ""};
    sl_status_t rc = gw_sample_url(&q->sample, sl_cstr(q->o->args[2]), &err);
    if (rc != SL_OK) {
        cli_fail_err(&err);
        return 2;
    }
    q->p = &p;
    q->file = q->o->n_args > 3 ? q->o->args[3] : NULL;
    if (q->file == NULL) {
        rc = prepare_for_reading(q->s, &p, &err);
        char path[4200];
        snprintf(path, sizeof(path), "%s/state", p.prefix);
        if (rc == SL_OK && access(path, F_OK) != 0) {
            q->file = settings_get(q->s, "declarative_config");
            rc = q->file != NULL
                     ? SL_OK
                     : sl_err_set(&err, SL_NOT_FOUND, "%s holds no gateway; name a declarative file, or another prefix (-p)", p.prefix);
        }
    }
    if (rc == SL_OK) {
        rc = q->file != NULL ? explain_document(q, &err) : prepare_as_worker(&p, explain_served, q, &err);
    }
    return rc == SL_OK ? 0 : cli_fail_err(&err);
}

int cmd_routes(const cli_options_t *o) {
    gw_sample_header_t headers[CLI_HEADERS_MAX];
    settings_t *s;
    if (o->n_args < 3 || o->n_args > 4 || strcmp(o->args[0], "explain") != 0 || !take_headers(o, headers)) {
        return wrong_usage();
    }
    if (cli_running_settings(o, &s) != SL_OK) {
        return 1;
    }
    question_t q = {.s = s, .o = o};
    q.sample = (gw_sample_t){
        .method = sl_cstr(o->args[1]), .protocol = GW_HTTP, .port = 80, .headers = headers, .n_headers = (size_t)o->n_headers};
    int code = ask(&q);
    settings_free(s);
    return code;
}
