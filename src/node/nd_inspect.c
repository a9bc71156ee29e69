#include "nd_inspect.h"

#include <stdio.h>

#include "module_reader.h"
#include "nd_modules.h"
#include "pw_table.h"
#include "sl_arena.h"

#define ARENA_MAX ((size_t)64 * 1024 * 1024)
#define MARKER "proxy_abi_version_"

static bool is_wasi(const sl_extern_t *import) {
    return sl_str_starts(import->module, SL_STR("wasi_"));
}

/* NULL: needs nothing, or nobody has it. */
static const char *group_of(const sl_extern_t *import) {
    const pw_hostcall_row_t *row = pw_hostcall_find(import, NULL);
    return row != NULL ? pw_grant_name(row->grant) : NULL;
}

static json_t *text(sl_str_t s) {
    return json_stringn(s.data != NULL ? s.data : "", s.len); /* NULL unless it is UTF-8, which the reader has seen to */
}

static const char *kind_name(sl_extern_kind_t kind) {
    static const char *const names[] = {"func", "table", "memory", "global", "other"};
    return names[(unsigned)kind <= SL_EXTERN_OTHER ? kind : SL_EXTERN_OTHER];
}

static bool add_name(json_t *list, const char *name) {
    size_t i;
    json_t *there;
    json_array_foreach(list, i, there) {
        if (strcmp(json_string_value(there), name) == 0) {
            return true;
        }
    }
    return json_array_append_new(list, json_string(name)) == 0;
}

static bool add_imports(json_t *out, const sl_module_info_t *info) {
    json_t *imports = json_array(), *wasi = json_array(), *grants = json_array();
    bool good = true;
    for (size_t i = 0; i < info->n_imports; i++) {
        const sl_extern_t *e = &info->imports[i];
        const char *group = e->kind == SL_EXTERN_FUNC ? group_of(e) : NULL;
        json_t *type = e->kind == SL_EXTERN_FUNC ? json_string(e->sig) : json_null();
        good = good && json_array_append_new(imports, json_pack("{s:o,s:o,s:s,s:o}", "module", text(e->module), "name", text(e->name),
                                                                "kind", kind_name(e->kind), "type", type)) == 0;
        good = good && (!is_wasi(e) || json_array_append_new(wasi, text(e->name)) == 0);
        good = good && (group == NULL || add_name(grants, group));
    }
    good = json_object_set_new(out, "imports", imports) == 0 && good;
    good = json_object_set_new(out, "needed_grants", grants) == 0 && good;
    return json_object_set_new(out, "wasi", wasi) == 0 && good;
}

static bool add_exports(json_t *out, const sl_module_info_t *info) {
    json_t *exports = json_array();
    bool good = true;
    for (size_t i = 0; i < info->n_exports; i++) {
        const sl_extern_t *e = &info->exports[i];
        json_t *type = e->kind == SL_EXTERN_FUNC ? json_string(e->sig) : json_null();
        good = good && json_array_append_new(
                           exports, json_pack("{s:o,s:s,s:o}", "name", text(e->name), "kind", kind_name(e->kind), "type", type)) == 0;
    }
    return json_object_set_new(out, "exports", exports) == 0 && good;
}

static bool add_customs(json_t *out, const sl_module_info_t *info) {
    json_t *customs = json_array();
    bool good = true;
    for (size_t i = 0; i < info->n_customs; i++) {
        const sl_custom_t *c = &info->customs[i];
        good = good &&
               json_array_append_new(customs, json_pack("{s:o,s:I}", "name", text(c->name), "size_bytes", (json_int_t)c->size_bytes)) == 0;
    }
    return json_object_set_new(out, "custom_sections", customs) == 0 && good;
}

void nd_inspect_abi(const sl_module_info_t *info, char out[16]) {
    out[0] = '\0';
    for (size_t i = 0; i < info->n_exports && out[0] == '\0'; i++) {
        sl_str_t name = info->exports[i].name;
        if (info->exports[i].kind != SL_EXTERN_FUNC || !sl_str_starts(name, SL_STR(MARKER))) {
            continue;
        }
        snprintf(out, 16, "%.*s", (int)(name.len - (sizeof(MARKER) - 1)), name.data + sizeof(MARKER) - 1);
        for (char *p = out; *p != '\0'; p++) {
            *p = *p == '_' ? '.' : *p;
        }
    }
}

void nd_inspect_abi_of(sl_str_t bytes, char out[16]) {
    sl_arena_t arena;
    sl_module_info_t info = {.n_exports = 0};
    sl_arena_init(&arena, 65536, ARENA_MAX);
    out[0] = '\0';
    if (sl_module_read(bytes, &arena, &info, NULL) == SL_OK) {
        nd_inspect_abi(&info, out);
    }
    sl_arena_deinit(&arena);
}

static json_t *describe(sl_str_t bytes, const sl_module_info_t *info) {
    char abi[16];
    nd_sha256_t sha256;
    nd_inspect_abi(info, abi);
    nd_sha256_of(bytes, sha256);
    json_t *out = json_pack("{s:o,s:s,s:I,s:b,s:b,s:b,s:I}", "abi", abi[0] != '\0' ? json_string(abi) : json_null(), "sha256", sha256,
                            "size_bytes", (json_int_t)bytes.len, "has_dwarf", info->has_dwarf, "has_name_section", info->has_name_section,
                            "has_start", info->has_start, "data_segments", (json_int_t)info->n_data_segments);
    if (out == NULL || !add_imports(out, info) || !add_exports(out, info) || !add_customs(out, info)) {
        json_decref(out);
        return NULL;
    }
    return out;
}

sl_status_t nd_inspect(sl_str_t bytes, json_t **out, sl_err_t *err) {
    sl_arena_t arena;
    sl_module_info_t info = {.n_exports = 0};
    sl_arena_init(&arena, 65536, ARENA_MAX);
    sl_status_t rc = sl_module_read(bytes, &arena, &info, err);
    if (rc == SL_OK) {
        *out = describe(bytes, &info);
        rc = *out != NULL ? SL_OK : sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_arena_deinit(&arena);
    return rc;
}
