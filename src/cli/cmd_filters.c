/* sluice filters list | inspect: what is installed, and what a module is made of. Needs no running gateway. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "nd_inspect.h"
#include "nd_uploads.h"
#include "pw.h"
#include "prepare.h"
#include "sl_file.h"

typedef struct {
    const settings_t *s;
    const prepared_t *p; /* of the store; NULL: there is none */
    const char *name;    /* to inspect: a filter or a file; NULL: list */
    bool json;
} query_t;

/* ---- printing ------------------------------------------------------------------------------------------------------------ */

static sl_status_t print_json(const json_t *tree, sl_err_t *err) {
    bool good = json_dumpf(tree, stdout, JSON_INDENT(2)) == 0 && putchar('\n') == '\n' && fflush(stdout) == 0;
    return good ? SL_OK : sl_err_set(err, SL_IO, "cannot write the answer");
}

static const char *text(const json_t *object, const char *name) {
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? value : "-";
}

static sl_status_t print_list(const json_t *list) {
    size_t i;
    json_t *f;
    printf("%-24s %-6s %-16s %-8s %10s  %s\n", "NAME", "SOURCE", "VERSION", "ABI", "BYTES", "SHA-256");
    json_array_foreach(list, i, f) {
        printf("%-24s %-6s %-16s %-8s %10lld  %.16s\n", text(f, "name"), text(f, "source"), text(f, "version"), text(f, "abi"),
               (long long)json_integer_value(json_object_get(f, "size_bytes")), text(f, "sha256"));
    }
    return SL_OK;
}

/* "a, b (16)" */
static void print_names(const char *label, const json_t *list, const char *member) {
    size_t i;
    json_t *value;
    printf("%-16s", label);
    json_array_foreach(list, i, value) {
        printf("%s%s", i > 0 ? ", " : "", member != NULL ? text(value, member) : json_string_value(value));
    }
    puts(json_array_size(list) == 0 ? "-" : "");
}

static sl_status_t print_filter(const json_t *f) {
    static const char *const texts[] = {"name", "source", "version", "abi", "sha256", "problem"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        printf("%-16s%s\n", texts[i], text(f, texts[i]));
    }
    printf("%-16s%lld\n", "bytes", (long long)json_integer_value(json_object_get(f, "size_bytes")));
    printf("%-16s%s\n", "dwarf", json_is_true(json_object_get(f, "has_dwarf")) ? "yes" : "no");
    printf("%-16s%s\n", "schema", json_is_object(json_object_get(f, "schema")) ? "yes" : "no");
    print_names("needs", json_object_get(f, "needed_grants"), NULL);
    print_names("imports", json_object_get(f, "imports"), "name");
    print_names("exports", json_object_get(f, "exports"), "name");
    print_names("sections", json_object_get(f, "custom_sections"), "name");
    return SL_OK;
}

/* ---- a file ---------------------------------------------------------------------------------------------------------------- */

/* What is wrong with it as a filter becomes a member, as with those that are installed. */
static sl_status_t add_problem(const nd_node_t *node, sl_str_t bytes, json_t *out) {
    sl_err_t why = {.text = ""};
    sl_module_t *module;
    pw_abi_version_t abi;
    sl_status_t rc = sl_module_compile(node->engine, bytes, &module, &why);
    if (rc == SL_OK) {
        rc = pw_module_check(module, &abi, &why);
        sl_module_unref(module);
    }
    return json_object_set_new(out, "problem", rc == SL_OK ? json_null() : json_string(why.text)) == 0 ? SL_OK : SL_NO_MEMORY;
}

static sl_status_t inspect_file(const nd_node_t *node, const query_t *q, json_t **out, sl_err_t *err) {
    sl_buf_t bytes;
    sl_buf_init(&bytes, ND_MODULE_MAX_BYTES);
    sl_status_t rc = sl_file_read(q->name, &bytes, err);
    if (rc == SL_OK) {
        rc = nd_inspect(sl_buf_str(&bytes), out, err);
        if (rc != SL_OK) {
            sl_err_prefix(err, "%s: ", q->name);
        }
    }
    rc = rc == SL_OK ? add_problem(node, sl_buf_str(&bytes), *out) : rc;
    if (rc == SL_OK && json_object_set_new(*out, "name", json_string(q->name)) != 0) {
        rc = sl_err_set(err, SL_NO_MEMORY, "%s: out of memory, or its name is not UTF-8", q->name);
    }
    sl_buf_deinit(&bytes);
    return rc;
}

/* ---- both ------------------------------------------------------------------------------------------------------------------ */

static sl_status_t find(const nd_node_t *node, const query_t *q, json_t **out, sl_err_t *err) {
    nd_uploads_t u;
    struct stat st;
    nd_uploads_init(&u, node, NULL);
    bool more;
    sl_status_t rc =
        q->name == NULL ? u.base.ops->list(&u.base, "", 0, out, &more) : u.base.ops->show(&u.base, sl_cstr(q->name), SL_STR_NULL, out);
    if (rc == SL_NOT_FOUND && stat(q->name, &st) == 0) {
        return inspect_file(node, q, out, err);
    }
    if (rc == SL_NOT_FOUND) {
        return sl_err_set(err, rc, "'%s' is neither an installed filter nor a file; `sluice filters list` shows what is installed",
                          q->name);
    }
    if (rc != SL_OK) {
        *err = u.base.err;
    }
    return rc;
}

static sl_status_t run(void *ud, sl_err_t *err) {
    const query_t *q = ud;
    char store[4200];
    nd_node_t node;
    json_t *out = NULL;
    sl_status_t rc = prepare_node_open(q->s, NULL, &node, err);
    rc = rc == SL_OK && q->p != NULL ? prepare_node_uploads_of(&node, q->p->prefix, store, err) : rc;
    rc = rc == SL_OK ? find(&node, q, &out, err) : rc;
    if (rc == SL_OK) {
        rc = q->json ? print_json(out, err) : q->name == NULL ? print_list(out) : print_filter(out);
    }
    json_decref(out);
    prepare_node_close(&node);
    return rc;
}

int cmd_filters(const cli_options_t *o) {
    static prepared_t p;
    settings_t *s;
    bool list = o->n_args == 1 && strcmp(o->args[0], "list") == 0;
    bool inspect = o->n_args == 2 && strcmp(o->args[0], "inspect") == 0;
    if (o->n_args == 2 && strcmp(o->args[0], "dump") == 0) {
        return cmd_filters_dump(o->args[1], o->memory);
    }
    if (!list && !inspect) {
        fprintf(stderr, "Usage: sluice filters list [--json] | inspect NAME|FILE [--json] | dump FILE [--memory FILE]\n");
        return 2;
    }
    if (cli_running_settings(o, &s) != SL_OK) {
        return 1;
    }
    sl_err_t err = {.text = ""};
    char prefix[CLI_PATH_MAX], path[CLI_PATH_MAX + 32];
    query_t q = {.s = s, .name = inspect ? o->args[1] : NULL, .json = o->json};
    struct stat st;
    bool stored = prepare_has_store(s) && cli_prefix(s, prefix, &err) == SL_OK;
    snprintf(path, sizeof(path), "%s/" PREPARE_STORE, stored ? prefix : "");
    sl_status_t rc = SL_OK;
    /* Nothing is made that is not there. */
    if (stored && stat(path, &st) == 0) {
        rc = prepare_for_store(s, &p, &err);
        q.p = &p;
    }
    rc = rc == SL_OK ? (q.p != NULL ? prepare_as_worker(&p, run, &q, &err) : run(&q, &err)) : rc;
    settings_free(s);
    return rc == SL_OK ? 0 : cli_fail_err(&err);
}
