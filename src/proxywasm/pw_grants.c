#include "pw_grants.h"

#include "pw_table.h"

static const struct {
    const char *name;
    bool takes_names;
} rows[PW_G_N] = {
    [PW_G_ALWAYS] = {NULL, false},
    [PW_G_LOG] = {"log", false},
    [PW_G_CLOCK] = {"clock", false},
    [PW_G_TIMERS] = {"timers", false},
    [PW_G_RANDOM] = {"random", false},
    [PW_G_ENV] = {"env", false},
    [PW_G_HEADERS_READ] = {"headers-read", false},
    [PW_G_HEADERS_WRITE] = {"headers-write", false},
    [PW_G_BODY] = {"body", false},
    [PW_G_PROPERTIES_READ] = {"properties-read", true},
    [PW_G_PROPERTIES_WRITE] = {"properties-write", true},
    [PW_G_LOCAL_REPLY] = {"local-reply", false},
    [PW_G_HTTP_CALL] = {"http-call", true},
    [PW_G_GRPC_CALL] = {"grpc-call", true},
    [PW_G_REDIS] = {"redis", true},
    [PW_G_SHARED_DATA] = {"shared-data", true},
    [PW_G_QUEUES] = {"queues", true},
    [PW_G_METRICS] = {"metrics", false},
    [PW_G_FOREIGN] = {"foreign", true},
    [PW_G_DNS] = {"dns", false},
    [PW_G_UPSTREAMS] = {"upstreams", false},
};

#define ALL (PW_G_BIT(PW_G_N) - 1)

const char *pw_grant_name(pw_grant_t grant) {
    return rows[grant].name;
}

/* ---- the list ---- */

static bool next_item(sl_str_t *list, sl_str_t *item) {
    if (list->len == 0) {
        return false;
    }
    const char *comma = memchr(list->data, ',', list->len);
    size_t len = comma != NULL ? (size_t)(comma - list->data) : list->len;
    *item = sl_str(list->data, len);
    size_t skip = len + (comma != NULL);
    *list = sl_str(list->data + skip, list->len - skip);
    return true;
}

/* An item as group and name; *has_name: there is a colon. */
static pw_grant_t split(sl_str_t item, sl_str_t *name, bool *has_name) {
    const char *colon = memchr(item.data, ':', item.len);
    size_t len = colon != NULL ? (size_t)(colon - item.data) : item.len;
    *has_name = colon != NULL;
    *name = colon != NULL ? sl_str(colon + 1, item.len - len - 1) : SL_STR_NULL;
    for (int grant = PW_G_ALWAYS + 1; grant < PW_G_N; grant++) {
        if (sl_str_eq(sl_cstr(rows[grant].name), sl_str(item.data, len))) {
            return (pw_grant_t)grant;
        }
    }
    return PW_G_N;
}

static sl_status_t unknown(sl_str_t item, sl_err_t *err) {
    sl_buf_t names;
    sl_buf_init(&names, 1024);
    for (int grant = PW_G_ALWAYS + 1; grant < PW_G_N; grant++) {
        sl_buf_printf(&names, ", %s%s", rows[grant].name, rows[grant].takes_names ? "[:name]" : "");
    }
    sl_err_set(err, SL_INVALID, "grants: no such item '%.*s'; there are default, lazy%s", SL_FMT(item),
               names.failed ? "" : sl_buf_cstr(&names));
    sl_buf_deinit(&names);
    return SL_INVALID;
}

sl_status_t pw_grants_parse(sl_str_t list, pw_grants_t *out, sl_err_t *err) {
    uint32_t whole = PW_G_BIT(PW_G_ALWAYS), named = 0;
    sl_str_t rest = list, item;
    *out = (pw_grants_t){.list = list};
    while (next_item(&rest, &item)) {
        sl_str_t name;
        bool has_name;
        pw_grant_t grant = split(item, &name, &has_name);
        if (sl_str_eq(item, SL_STR("default"))) {
            whole |= ALL;
        } else if (sl_str_eq(item, SL_STR("lazy"))) {
            out->lazy = true;
        } else if (grant == PW_G_N || (has_name && (!rows[grant].takes_names || name.len == 0))) {
            return unknown(item, err);
        } else {
            *(has_name ? &named : &whole) |= PW_G_BIT(grant);
        }
    }
    out->granted = whole | named;
    out->named = named & ~whole;
    return SL_OK;
}

/* ---- questions ---- */

static bool same(char of_list, char of_name) {
    return of_list == of_name || (of_list == '.' && of_name == '\0');
}

static bool matches(sl_str_t pattern, sl_str_t name) {
    bool open = pattern.len != 0 && pattern.data[pattern.len - 1] == '*';
    size_t len = pattern.len - open;
    if (open ? name.len < len : name.len != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!same(pattern.data[i], name.data[i])) {
            return false;
        }
    }
    return true;
}

bool pw_grants_has(const pw_grants_t *grants, pw_grant_t grant, sl_str_t name) {
    if ((grants->granted & ~grants->named & PW_G_BIT(grant)) != 0) {
        return true;
    }
    sl_str_t rest = grants->list, item, pattern;
    bool has_name;
    while ((grants->named & PW_G_BIT(grant)) != 0 && next_item(&rest, &item)) {
        if (split(item, &pattern, &has_name) == grant && has_name && matches(pattern, name)) {
            return true;
        }
    }
    return false;
}

sl_status_t pw_grants_check(const pw_grants_t *grants, const sl_module_t *module, sl_err_t *err) {
    const sl_module_info_t *info = sl_module_info(module);
    for (size_t i = 0; i < info->n_imports && !grants->lazy; i++) {
        const sl_extern_t *import = &info->imports[i];
        const pw_hostcall_row_t *row = pw_hostcall_find(import, NULL);
        if (row != NULL && (grants->granted & PW_G_BIT(row->grant)) == 0) {
            return sl_err_set(err, SL_INVALID,
                              "it imports %.*s.%.*s, for which it lacks the grant \"%s\"; add that to its grants, or \"lazy\" if it does "
                              "not make this call",
                              SL_FMT(import->module), SL_FMT(import->name), rows[row->grant].name);
        }
    }
    return SL_OK;
}
