/* Linking: the imports of a module, and calls from the guest to the host. */
#include "wasmtime_internal.h"

#include <stdlib.h>

void wt_links_free(wt_links_t *links) {
    if (links == NULL) {
        return;
    }
    if (links->pre != NULL) {
        wasmtime_instance_pre_delete(links->pre);
    }
    free(links->places);
    free(links->rows);
    free(links);
}

/* ---- host functions --------------------------------------------------------------------------------------------- */

/* The reason travels in instance->trap; wt_set_trap() finds it there. */
static __attribute__((cold, noinline)) wasm_trap_t *trap_from_host(sl_instance_t *instance, const sl_import_t *row) {
    if (instance->trap[0] == '\0') {
        sl_instance_trap(instance, "host function %s.%s failed", row->module, row->name);
    }
    return wasmtime_trap_new("host", 4);
}

static inline sl_status_t run_host(wt_instance_t *in, const sl_import_t *row, wasmtime_val_raw_t *args, size_t n) {
    wasmtime_val_raw_t spare; /* host functions may count on room for one */
    return row->fn(&in->head, (sl_raw_t *)(n != 0 ? args : &spare));
}

static wasm_trap_t *enter_host(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *args, size_t n) {
    const sl_import_t *row = env;
    wt_instance_t *in = wasmtime_context_get_data(wasmtime_caller_context(caller));
    sl_status_t rc = run_host(in, row, args, n);
    return rc == SL_OK ? NULL : trap_from_host(&in->head, row);
}

/* ---- linking ---------------------------------------------------------------------------------------------------- */

static wasm_valkind_t kind_of(char letter) {
    switch (letter) {
    case 'i':
        return WASM_I32;
    case 'I':
        return WASM_I64;
    case 'f':
        return WASM_F32;
    default:
        return WASM_F64;
    }
}

static wasm_functype_t *new_type(const char *sig) {
    wasm_valtype_t *params[SL_SIG_MAX], *results[SL_SIG_MAX];
    size_t n_params = 0, n_results = 0;
    for (; *sig != ':' && *sig != '\0'; sig++) {
        params[n_params++] = wasm_valtype_new(kind_of(*sig));
    }
    for (sig += *sig == ':'; *sig != '\0'; sig++) {
        results[n_results++] = wasm_valtype_new(kind_of(*sig));
    }
    wasm_valtype_vec_t p, r;
    wasm_valtype_vec_new(&p, n_params, params);
    wasm_valtype_vec_new(&r, n_results, results);
    return wasm_functype_new(&p, &r);
}

static wasmtime_error_t *define_row(wasmtime_linker_t *linker, sl_import_t *row) {
    wasm_functype_t *type = new_type(row->sig);
    wasmtime_error_t *error = wasmtime_linker_define_func_unchecked(linker, row->module, strlen(row->module), row->name, strlen(row->name),
                                                                    type, enter_host, row, NULL);
    wasm_functype_delete(type);
    return error;
}

static sl_status_t resolve(wt_links_t *links, const wt_module_t *m, const sl_import_t *table, size_t n, sl_err_t *err) {
    for (size_t i = 0; i < links->n; i++) {
        const sl_import_t *row = sl_import_find(table, n, &m->head.info.imports[i], err);
        if (row == NULL) {
            return SL_INVALID;
        }
        links->rows[i] = *row;
        links->places[i] = (size_t)(row - table);
    }
    return SL_OK;
}

static sl_status_t prepare(wt_links_t *links, const wt_module_t *m, sl_err_t *err) {
    wasmtime_linker_t *linker = wasmtime_linker_new(((wt_engine_t *)m->head.engine)->wasm);
    /* A module may import the same function twice. */
    wasmtime_linker_allow_shadowing(linker, true);
    wasmtime_error_t *error = NULL;
    for (size_t i = 0; i < links->n && error == NULL; i++) {
        error = define_row(linker, &links->rows[i]);
    }
    if (error == NULL) {
        error = wasmtime_linker_instantiate_pre(linker, m->wasm, &links->pre);
    }
    wasmtime_linker_delete(linker);
    return error == NULL ? SL_OK : wt_set_error(err, SL_INVALID, "cannot link", error);
}

static sl_status_t links_new(const wt_module_t *m, const sl_import_t *table, size_t n, wt_links_t **out, sl_err_t *err) {
    wt_links_t *links = calloc(1, sizeof(*links));
    if (links == NULL) {
        return wt_no_memory(err);
    }
    links->n = m->head.info.n_imports;
    links->table_size = n;
    links->rows = calloc(links->n + 1, sizeof(*links->rows));
    links->places = calloc(links->n + 1, sizeof(*links->places));
    sl_status_t rc = links->rows != NULL && links->places != NULL ? resolve(links, m, table, n, err) : wt_no_memory(err);
    rc = rc == SL_OK ? prepare(links, m, err) : rc;
    if (rc != SL_OK) {
        wt_links_free(links);
        return rc;
    }
    *out = links;
    return SL_OK;
}

/* A few loads per import, where looking names up would cost more than all the rest of making an instance. */
static bool links_fit(const wt_links_t *links, const sl_import_t *table, size_t n) {
    if (links->table_size != n) {
        return false;
    }
    for (size_t i = 0; i < links->n; i++) {
        const sl_import_t *row = &table[links->places[i]];
        if (row->fn != links->rows[i].fn || row->name != links->rows[i].name || row->module != links->rows[i].module ||
            row->sig != links->rows[i].sig) {
            return false;
        }
    }
    return true;
}

/* The first links stay with the module; those for any other table belong to the instance. */
sl_status_t wt_links_get(wt_instance_t *in, const sl_import_t *table, size_t n, wt_links_t **out, sl_err_t *err) {
    wt_module_t *m = (wt_module_t *)in->head.module;
    wt_links_t *links = atomic_load_explicit(&m->links, memory_order_acquire);
    if (links != NULL && links_fit(links, table, n)) {
        *out = links;
        return SL_OK;
    }
    sl_status_t rc = links_new(m, table, n, out, err);
    wt_links_t *none = NULL;
    if (rc == SL_OK && !atomic_compare_exchange_strong(&m->links, &none, *out)) {
        in->own_links = *out;
    }
    return rc;
}
