/* The reference page of entities, from their tables. */
#include <stdio.h>

#include "gw_admin_parts.h"
#include "gw_describe.h"

static const char *const type_names[] = {"text", "integer", "number", "boolean", "list", "set", "map", "record", "reference", "JSON"};

static void append_choices(const gw_field_t *f, sl_buf_t *out) {
    for (size_t i = 0; f->one_of != NULL && f->one_of[i] != NULL; i++) {
        sl_buf_printf(out, "%s`%s`", i == 0 ? "one of " : ", ", f->one_of[i]);
    }
    for (size_t i = 0; f->one_of_int != NULL && f->one_of_int[i] != 0; i++) {
        sl_buf_printf(out, "%s%d", i == 0 ? "one of " : ", ", f->one_of_int[i]);
    }
}

static void append_type(const gw_field_t *f, sl_buf_t *out) {
    if (f->type == GW_TYPE_FOREIGN) {
        sl_buf_printf(out, "→ %s", f->reference);
        return;
    }
    sl_buf_append_cstr(out, f->uuid ? "UUID" : type_names[f->type]);
    if (f->elements != NULL && f->elements->type != GW_TYPE_RECORD) {
        sl_buf_append_cstr(out, " of ");
        append_type(f->elements, out);
    }
}

static void separate(size_t start, sl_buf_t *out) {
    sl_buf_append_cstr(out, out->len > start ? "; " : "");
}

/* What a value must be, beyond its type. */
static void append_rules(const gw_field_t *f, sl_buf_t *out) {
    size_t start = out->len;
    static const struct {
        size_t offset;
        const char *text;
    } flags[] = {
        {offsetof(gw_field_t, required), "not null"},         {offsetof(gw_field_t, unique), "unique"},
        {offsetof(gw_field_t, automatic), "set when absent"}, {offsetof(gw_field_t, on_delete_cascade), "goes with what it refers to"},
        {offsetof(gw_field_t, transient), "not stored"},
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (*(const bool *)((const char *)f + flags[i].offset)) {
            separate(start, out);
            sl_buf_append_cstr(out, flags[i].text);
        }
    }
    if (f->between) {
        separate(start, out);
        sl_buf_printf(out, "%lld to %lld", (long long)f->min, (long long)f->max);
    }
    if (f->len_min > 0) {
        separate(start, out);
        sl_buf_printf(out, "at least %zu", f->len_min);
    }
    if (f->starts_with != NULL) {
        separate(start, out);
        sl_buf_printf(out, "starts with `%s`", f->starts_with);
    }
    const gw_field_t *choices = f->one_of != NULL || f->one_of_int != NULL ? f : f->elements;
    if (choices != NULL && (choices->one_of != NULL || choices->one_of_int != NULL)) {
        separate(start, out);
        append_choices(choices, out);
    }
    for (size_t i = 0; f->exclusive_sets != NULL && f->exclusive_sets[i] != NULL; i++) {
        separate(start, out);
        sl_buf_append_cstr(out, i == 0 ? "all from one of " : "");
        gw_quote_list(f->exclusive_sets[i], out);
    }
}

static void append_fields(const gw_field_t *fields, const char *prefix, sl_buf_t *out) {
    for (const gw_field_t *f = fields; f->name != NULL; f++) {
        sl_buf_printf(out, "| `%s%s` | ", prefix, f->name);
        append_type(f, out);
        sl_buf_printf(out, " | %s%s%s | ", f->def != NULL ? "`" : "", f->def != NULL ? f->def : "", f->def != NULL ? "`" : "");
        append_rules(f, out);
        sl_buf_append_cstr(out, " |\n");
        const gw_field_t *inside = f->type == GW_TYPE_RECORD                                    ? f->fields
                                   : f->elements != NULL && f->elements->type == GW_TYPE_RECORD ? f->elements->fields
                                                                                                : NULL;
        char deeper[128];
        snprintf(deeper, sizeof(deeper), "%s%s%s.", prefix, f->name, f->type == GW_TYPE_RECORD ? "" : "[]");
        if (inside != NULL) {
            append_fields(inside, deeper, out);
        }
    }
}

static void append_check(const gw_entity_check_t *check, sl_buf_t *out) {
    static const char *const texts[] = {"- at least one of ", "- at most one of ", "- all or none of ", "- different: "};
    if (check->kind <= GW_CHECK_DISTINCT) {
        sl_buf_append_cstr(out, texts[check->kind]);
        gw_quote_list(check->fields, out);
        sl_buf_append_char(out, '\n');
    } else if (check->kind == GW_CHECK_CONDITIONAL) {
        sl_buf_printf(out, "- `%s` is %s when `%s` is %s", check->fields[1],
                      check->then == GW_THEN_NULL       ? "null"
                      : check->then == GW_THEN_REQUIRED ? "not null"
                                                        : "one of ",
                      check->fields[0], check->if_one_of != NULL ? "" : "none of ");
        gw_quote_list(check->if_one_of != NULL ? check->if_one_of : check->if_not_one_of, out);
        if (check->then == GW_THEN_ONE_OF) {
            sl_buf_append_cstr(out, ": ");
            gw_quote_list(check->then_one_of, out);
        }
        sl_buf_append_char(out, '\n');
    } else {
        sl_buf_append_cstr(out, "- what is in ");
        gw_quote_list(check->fields, out);
        sl_buf_append_cstr(out, " must fit together\n");
    }
}

typedef struct {
    const gw_entity_t *kind;
    sl_buf_t *out;
    size_t n;
} page_paths_t;

static void append_path(void *ud, const gw_admin_path_t *path) {
    page_paths_t *p = ud;
    if (path->kind == p->kind) {
        sl_buf_printf(p->out, "%s`%s`", p->n++ == 0 ? "" : ", ", path->path);
    }
}

static void append_entity(const gw_entity_t *kind, sl_buf_t *out) {
    page_paths_t paths = {kind, out, 0};
    sl_buf_printf(out, "\n## %s\n\n", kind->name);
    gw_admin_entity_paths(append_path, &paths);
    sl_buf_append_cstr(out, ".\n");
    if (kind->endpoint_key != NULL) {
        sl_buf_printf(out, "Known by `id` and by `%s`.\n", kind->endpoint_key);
    }
    if (kind->cache_key != NULL) {
        sl_buf_append_cstr(out, "Unique together: ");
        gw_quote_list(kind->cache_key, out);
        sl_buf_append_cstr(out, ".\n");
    }
    for (size_t i = 0; kind->shorthand_fields != NULL && kind->shorthand_fields[i] != NULL; i++) {
        sl_buf_printf(out, "`%s` may be sent instead of the fields that it stands for.\n", kind->shorthand_fields[i]);
    }
    sl_buf_append_cstr(out, "\n| field | type | default | rules |\n|---|---|---|---|\n");
    append_fields(kind->fields, "", out);
    for (const gw_entity_check_t *check = kind->checks; check != NULL && check->fields != NULL; check++) {
        sl_buf_append_cstr(out, check == kind->checks ? "\n" : "");
        append_check(check, out);
    }
}

sl_status_t gw_reference_print(sl_buf_t *out) {
    sl_buf_append_cstr(out, "# Entities\n\n"
                            "Made from the tables of `src/gateway/gw_entities.c` by `make reference`; a test fails when it is out of date. "
                            "`GET /openapi.json` of the\nAdmin API says the same for programs.\n\n"
                            "A field that is not given has its default, else it is null. Texts are not empty unless a rule says so.\n");
    for (const gw_entity_t *kind = gw_entities; kind->name != NULL; kind++) {
        append_entity(kind, out);
    }
    return out->failed ? SL_NO_MEMORY : SL_OK;
}
