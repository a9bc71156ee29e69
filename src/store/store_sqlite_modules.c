/* Uploaded filters as rows of SQLite: versions by name, bytes by their SHA-256. */
#include "store_sqlite.h"

#include <stdio.h>

/* *version 0: there is none. */
static sl_status_t same_version(sq_store_t *s, const st_module_t *module, uint32_t *version, sl_err_t *err) {
    sq_call_t c = sq_call(s, SQL_MODULE_SAME);
    sq_text(&c, module->name);
    sq_text(&c, sl_cstr(module->sha256));
    sq_optional(&c, module->meta);
    *version = sq_next(&c) ? (uint32_t)sq_column_int(&c, 0) : 0;
    return sq_done(&c, err);
}

static sl_status_t next_version(sq_store_t *s, sl_str_t name, uint32_t *version, sl_err_t *err) {
    sq_call_t c = sq_call(s, SQL_MODULE_NAME);
    sq_text(&c, name);
    sl_status_t rc = sq_run(&c, err);
    if (rc != SL_OK) {
        return rc;
    }
    c = sq_call(s, SQL_MODULE_NEXT);
    sq_text(&c, name);
    *version = sq_next(&c) ? (uint32_t)sq_column_int(&c, 0) : 0;
    return sq_done(&c, err);
}

static sl_status_t add_module(sq_store_t *s, const st_module_t *module, sl_str_t bytes, uint32_t version, sl_err_t *err) {
    sq_call_t c = sq_call(s, SQL_BLOB_ADD);
    sq_text(&c, sl_cstr(module->sha256));
    sq_blob(&c, bytes.data, bytes.len);
    sl_status_t rc = sq_run(&c, err);
    if (rc != SL_OK) {
        return rc;
    }
    c = sq_call(s, SQL_MODULE_ADD);
    sq_text(&c, module->name);
    sq_int(&c, version);
    sq_text(&c, sl_cstr(module->sha256));
    sq_int(&c, (int64_t)module->size_bytes);
    sq_int(&c, module->created_at_s);
    sq_optional(&c, module->meta);
    return sq_run(&c, err);
}

sl_status_t sq_module_put(st_store_t *store, const st_module_t *module, sl_str_t bytes, uint32_t *version, bool *added, sl_err_t *err) {
    sq_store_t *s = sq_of(store);
    sl_status_t rc = sq_check_open(s, err);
    rc = rc == SL_OK ? same_version(s, module, version, err) : rc;
    if (rc != SL_OK || *version != 0) {
        return rc;
    }
    rc = next_version(s, module->name, version, err);
    rc = rc == SL_OK ? add_module(s, module, bytes, *version, err) : rc;
    *added = rc == SL_OK;
    return rc;
}

/* Version 0: any. *active: it is, or one of them. */
static sl_status_t find_module(sq_store_t *s, sl_str_t name, uint32_t version, bool *active, sl_err_t *err) {
    sl_status_t rc = sq_check_open(s, err);
    if (rc != SL_OK) {
        return rc;
    }
    sq_call_t c = sq_call(s, SQL_MODULE_STATE);
    sq_text(&c, name);
    sq_int(&c, version);
    bool found = sq_next(&c);
    *active = found && sq_column_int(&c, 0) != 0;
    rc = sq_done(&c, err);
    if (rc == SL_OK && !found) {
        return version == 0 ? sl_err_set(err, SL_NOT_FOUND, "there is no filter \"%.*s\"", SL_FMT(name))
                            : sl_err_set(err, SL_NOT_FOUND, "there is no version %u of filter \"%.*s\"", version, SL_FMT(name));
    }
    return rc;
}

static sl_status_t on_module(sq_store_t *s, sq_sql_t which, sl_str_t name, uint32_t version, sl_err_t *err) {
    sq_call_t c = sq_call(s, which);
    sq_text(&c, name);
    if (version != 0) {
        sq_int(&c, version);
    }
    return sq_run(&c, err);
}

sl_status_t sq_module_activate(st_store_t *store, sl_str_t name, uint32_t version, sl_err_t *err) {
    sq_store_t *s = sq_of(store);
    bool active;
    sl_status_t rc = find_module(s, name, version, &active, err);
    rc = rc == SL_OK ? on_module(s, SQL_MODULE_OFF, name, 0, err) : rc;
    return rc == SL_OK && version != 0 ? on_module(s, SQL_MODULE_ON, name, version, err) : rc;
}

sl_status_t sq_module_erase(st_store_t *store, sl_str_t name, uint32_t version, sl_err_t *err) {
    sq_store_t *s = sq_of(store);
    bool active = false;
    sl_status_t rc = find_module(s, name, version, &active, err);
    if (rc == SL_OK && version != 0 && active) {
        st_fault_set(store, ST_FAULT_REFERENCED, SL_STR_NULL, SL_STR_NULL, SL_STR_NULL);
        return sl_err_set(err, SL_CONFLICT, "version %u of filter \"%.*s\" is the active one", version, SL_FMT(name));
    }
    rc = rc == SL_OK ? on_module(s, version != 0 ? SQL_MODULE_ERASE : SQL_MODULE_ERASE_ALL, name, version, err) : rc;
    return rc == SL_OK ? sq_run_plain(s, SQL_BLOB_SWEEP, err) : rc;
}

static sl_status_t take_module(sq_call_t *c, st_module_t *module, sl_err_t *err) {
    *module = (st_module_t){.name = sq_column(c, 0), .version = (uint32_t)sq_column_int(c, 1)};
    sl_str_t sha256 = sq_column(c, 2);
    if (module->name.data == NULL || sha256.data == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", c->s->path);
    }
    snprintf(module->sha256, sizeof(module->sha256), "%.*s", SL_FMT(sha256));
    module->size_bytes = (uint64_t)sq_column_int(c, 3);
    module->created_at_s = sq_column_int(c, 4);
    module->active = sq_column_int(c, 5) != 0;
    module->meta = sq_column(c, 6);
    return SL_OK;
}

sl_status_t sq_module_each(st_store_t *store, sl_str_t name, st_module_fn_t fn, void *ud, sl_err_t *err) {
    st_module_t module;
    sl_status_t answer = SL_OK;
    sq_call_t c = sq_call(sq_of(store), name.data != NULL ? SQL_MODULE_LIST_NAME : SQL_MODULE_LIST);
    if (name.data != NULL) {
        sq_text(&c, name);
    }
    while (answer == SL_OK && sq_next(&c)) {
        answer = take_module(&c, &module, err);
        answer = answer == SL_OK ? fn(ud, &module) : answer;
    }
    sl_status_t rc = sq_done(&c, err);
    return answer != SL_OK ? answer : rc;
}

static sl_status_t take_bytes(sq_call_t *c, sl_str_t sha256, sl_buf_t *out, sl_err_t *err) {
    uint8_t digest[SL_SHA256_SIZE];
    char text[ST_SHA256_TEXT_SIZE + 1];
    sl_str_t bytes = sq_column_blob(c, 0);
    if (bytes.data == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", c->s->path);
    }
    if (sl_sha256(bytes, digest) != SL_OK) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_hex(digest, sizeof(digest), text);
    if (!sl_str_eq(sl_cstr(text), sha256)) {
        return sq_damaged(c->s, "the bytes of a filter are not what was written", err);
    }
    return sl_buf_append_str(out, bytes) == SL_OK
               ? SL_OK
               : sl_err_set(err, SL_NO_MEMORY, "a filter of %zu bytes, over the limit of %zu, or out of memory", bytes.len, out->max);
}

sl_status_t sq_module_read(st_store_t *store, sl_str_t sha256, sl_buf_t *out, sl_err_t *err) {
    sq_call_t c = sq_call(sq_of(store), SQL_BLOB_READ);
    sq_text(&c, sha256);
    bool found = sq_next(&c);
    sl_status_t answer = found ? take_bytes(&c, sha256, out, err) : SL_OK;
    sl_status_t rc = sq_done(&c, err);
    if (rc == SL_OK && !found) {
        return sl_err_set(err, SL_NOT_FOUND, "there is no filter with the SHA-256 \"%.*s\"", SL_FMT(sha256));
    }
    return answer != SL_OK ? answer : rc;
}
