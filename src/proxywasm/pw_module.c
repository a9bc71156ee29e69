#include "pw_internal.h"
#include "pw_table.h"

#include <stdio.h>
#include <string.h>

#define MARKER "proxy_abi_version_0_"

/* Digits up to the end or to `stop`; false: none, or too many. */
static bool number(sl_str_t *s, char stop, uint32_t *out) {
    size_t i = 0;
    *out = 0;
    for (; i < s->len && s->data[i] >= '0' && s->data[i] <= '9'; i++) {
        if (i == 6) {
            return false;
        }
        *out = *out * 10 + (uint32_t)(s->data[i] - '0');
    }
    if (i == 0 || (stop == '\0' ? i != s->len : i == s->len || s->data[i] != stop)) {
        return false;
    }
    size_t used = i + (stop != '\0');
    *s = sl_str(s->data + used, s->len - used);
    return true;
}

/* proxy_abi_version_0_<1|2>_<patch>: what comes after 0.2.1 is taken as 0.2.1 with extensions. */
static bool marker(sl_str_t name, pw_module_facts_t *facts) {
    uint32_t minor;
    if (!sl_str_starts(name, SL_STR(MARKER))) {
        return false;
    }
    sl_str_t rest = sl_str(name.data + sizeof(MARKER) - 1, name.len - (sizeof(MARKER) - 1));
    if (!number(&rest, '_', &minor) || !number(&rest, '\0', &facts->patch) || (minor != 1 && minor != 2)) {
        return false;
    }
    facts->abi = minor == 1 ? PW_ABI_0_1_0 : facts->patch == 0 ? PW_ABI_0_2_0 : PW_ABI_0_2_1;
    return true;
}

static sl_status_t find_marker(const sl_module_t *module, pw_module_facts_t *facts, sl_err_t *err) {
    const sl_module_info_t *info = sl_module_info(module);
    for (size_t i = 0; i < info->n_exports; i++) {
        if (info->exports[i].kind == SL_EXTERN_FUNC && marker(info->exports[i].name, facts)) {
            return SL_OK;
        }
    }
    return sl_err_set(err, SL_INVALID,
                      "no Proxy-Wasm filter: it exports none of proxy_abi_version_0_1_0, _0_2_0, _0_2_1; build it with a Proxy-Wasm SDK");
}

static sl_status_t find_alloc(const sl_module_t *module, pw_module_facts_t *facts, sl_err_t *err) {
    static const char *const names[] = {"proxy_on_memory_allocate", "malloc"};
    for (size_t i = 0; i < 2; i++) {
        const sl_extern_t *e = sl_module_export(module, names[i], SL_EXTERN_FUNC);
        if (e == NULL) {
            continue;
        }
        if (strcmp(e->sig, "i:i") != 0) {
            return sl_err_set(err, SL_INVALID, "its export %s has the type %s, expected i:i", names[i], e->sig);
        }
        facts->alloc = names[i];
        return SL_OK;
    }
    return sl_err_set(err, SL_INVALID, "it exports no allocator: proxy_on_memory_allocate or malloc");
}

static sl_status_t find_memory(const sl_module_t *module, sl_err_t *err) {
    return sl_module_export(module, "memory", SL_EXTERN_MEMORY) != NULL
               ? SL_OK
               : sl_err_set(err, SL_INVALID, "it exports no memory named \"memory\"; build it with a Proxy-Wasm SDK");
}

static const char *alias_of(pw_cb_t cb) {
    switch (cb) {
#define PW_CALLBACK(id, name, sig_0_1, sig_0_2)
#define PW_CALLBACK_ALIAS(id, name)                                                                                                        \
    case PW_CB_##id:                                                                                                                       \
        return #name;
#include "pw_callbacks.def"
#undef PW_CALLBACK
#undef PW_CALLBACK_ALIAS
    default:
        return NULL;
    }
}

const char *pw_module_callback(const sl_module_t *module, pw_cb_t cb, pw_abi_version_t abi, const char **sig) {
    size_t n;
    const pw_callback_row_t *row = &pw_callback_rows(&n)[cb];
    const char *names[2] = {row->name, alias_of(cb)};
    *sig = abi == PW_ABI_0_1_0 ? row->sig_0_1 : row->sig_0_2;
    if (**sig == '\0') {
        return NULL;
    }
    for (size_t i = 0; i < 2 && names[i] != NULL; i++) {
        if (sl_module_export(module, names[i], SL_EXTERN_FUNC) != NULL) {
            return names[i];
        }
    }
    return NULL;
}

/* Continue, or "yes, done". */
static bool is_idle(const sl_extern_t *e, pw_cb_t cb) {
    const uint32_t silent = PW_CB_BIT(PW_CB_CONTEXT_CREATE) | PW_CB_BIT(PW_CB_LOG) | PW_CB_BIT(PW_CB_DELETE);
    const uint32_t passing = PW_CB_BIT(PW_CB_REQUEST_HEADERS) | PW_CB_BIT(PW_CB_REQUEST_BODY) | PW_CB_BIT(PW_CB_REQUEST_TRAILERS) |
                             PW_CB_BIT(PW_CB_RESPONSE_HEADERS) | PW_CB_BIT(PW_CB_RESPONSE_BODY) | PW_CB_BIT(PW_CB_RESPONSE_TRAILERS);
    if (!e->idle) {
        return false;
    }
    return (PW_CB_BIT(cb) & silent) != 0 || ((PW_CB_BIT(cb) & passing) != 0 && e->answer == 0) || (cb == PW_CB_DONE && e->answer != 0);
}

static sl_status_t find_callbacks(const sl_module_t *module, pw_module_facts_t *facts, sl_err_t *err) {
    for (int cb = 0; cb < PW_CB_N; cb++) {
        const char *sig;
        const char *name = pw_module_callback(module, (pw_cb_t)cb, facts->abi, &sig);
        if (name == NULL) {
            continue;
        }
        const sl_extern_t *e = sl_module_export(module, name, SL_EXTERN_FUNC);
        if (strcmp(e->sig, sig) != 0) {
            return sl_err_set(err, SL_INVALID, "its export %s has the type %s, expected %s", name, e->sig, sig);
        }
        facts->callbacks |= PW_CB_BIT(cb);
        facts->idle |= is_idle(e, (pw_cb_t)cb) ? PW_CB_BIT(cb) : 0;
    }
    return SL_OK;
}

sl_status_t pw_module_facts(const sl_module_t *module, pw_module_facts_t *facts, sl_err_t *err) {
    *facts = (pw_module_facts_t){0};
    sl_status_t rc = find_marker(module, facts, err);
    if (rc == SL_OK) {
        rc = find_alloc(module, facts, err);
    }
    if (rc == SL_OK) {
        rc = find_memory(module, err);
    }
    return rc == SL_OK ? find_callbacks(module, facts, err) : rc;
}

/* Whoever builds the filter need not find out one by one what is missing. */
static void name_others(const sl_module_info_t *info, size_t from, sl_err_t *err) {
    sl_err_t ignored;
    for (size_t i = from; err != NULL && i < info->n_imports; i++) {
        const sl_extern_t *import = &info->imports[i];
        size_t len = strlen(err->text);
        if (pw_hostcall_find(import, &ignored) == NULL) {
            snprintf(err->text + len, sizeof(err->text) - len, "; nor does %.*s.%.*s fit", SL_FMT(import->module), SL_FMT(import->name));
        }
    }
}

sl_status_t pw_module_check(const sl_module_t *module, pw_abi_version_t *version, sl_err_t *err) {
    pw_module_facts_t facts;
    sl_status_t rc = pw_module_facts(module, &facts, err);
    if (rc != SL_OK) {
        return rc;
    }
    const sl_module_info_t *info = sl_module_info(module);
    for (size_t i = 0; i < info->n_imports; i++) {
        if (pw_hostcall_find(&info->imports[i], err) == NULL) {
            name_others(info, i + 1, err);
            return SL_INVALID;
        }
    }
    *version = facts.abi;
    return SL_OK;
}
