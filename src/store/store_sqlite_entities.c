/* Entities as rows of SQLite, with what is unique, what refers to what, and what has gone since a revision. */
#include "store_sqlite.h"

#include <inttypes.h>
#include <stdio.h>

#define SUM_SIZE 8

static sl_status_t sum_of(sl_str_t json, uint8_t out[SL_SHA256_SIZE], sl_err_t *err) {
    return sl_sha256(json, out) == SL_OK ? SL_OK : sl_err_set(err, SL_NO_MEMORY, "out of memory");
}

/* *seq 0: it does not exist. */
static sl_status_t find_seq(sq_store_t *s, sl_str_t collection, sl_str_t id, int64_t *seq, sl_err_t *err) {
    sq_call_t c = sq_call(s, SQL_FIND_SEQ);
    sq_text(&c, collection);
    sq_text(&c, id);
    *seq = sq_next(&c) ? sq_column_int(&c, 0) : 0;
    return sq_done(&c, err);
}

static sl_status_t check_unique(sq_store_t *s, const st_row_t *row, const st_unique_t *unique, int64_t seq, sl_err_t *err) {
    sl_status_t taken = SL_OK;
    sq_call_t c = sq_call(s, SQL_FIND_OWNER);
    sq_text(&c, row->collection);
    sq_text(&c, unique->field);
    sq_text(&c, unique->value);
    if (sq_next(&c) && sq_column_int(&c, 0) != seq) {
        st_fault_set(&s->head, ST_FAULT_DUPLICATE, row->collection, row->id, unique->field);
        st_fault_other(&s->head, row->collection, sq_column(&c, 1));
        taken = sl_err_set(err, SL_CONFLICT, "%.*s %.*s has the same %.*s: %.*s", SL_FMT(row->collection), SL_FMT(sq_column(&c, 1)),
                           SL_FMT(unique->field), SL_FMT(unique->value));
    }
    sl_status_t rc = sq_done(&c, err);
    return rc != SL_OK ? rc : taken;
}

static sl_status_t drop_by_seq(sq_store_t *s, sq_sql_t which, int64_t seq, sl_err_t *err) {
    sq_call_t c = sq_call(s, which);
    sq_int(&c, seq);
    return sq_run(&c, err);
}

/* *seq: in, 0 for a new entity; out, its number. */
static sl_status_t write_entity(sq_store_t *s, const st_row_t *row, int64_t *seq, sl_err_t *err) {
    uint8_t sum[SL_SHA256_SIZE];
    sl_status_t rc = sum_of(row->json, sum, err);
    if (rc == SL_OK && *seq != 0) {
        rc = drop_by_seq(s, SQL_DROP_UNIQUES, *seq, err);
        rc = rc == SL_OK ? drop_by_seq(s, SQL_DROP_REFS, *seq, err) : rc;
        rc = rc == SL_OK ? drop_by_seq(s, SQL_DROP_TAGS, *seq, err) : rc;
    }
    if (rc != SL_OK) {
        return rc;
    }
    sq_call_t c = sq_call(s, *seq != 0 ? SQL_UPDATE : SQL_INSERT);
    sq_text(&c, row->collection);
    sq_text(&c, row->id);
    sq_text(&c, row->json);
    sq_int(&c, (int64_t)s->head.tx.revision + 1);
    sq_blob(&c, sum, SUM_SIZE);
    rc = sq_run(&c, err);
    *seq = *seq != 0 ? *seq : sq_last_seq(s);
    return rc;
}

static sl_status_t add_unique(sq_store_t *s, int64_t seq, sl_str_t collection, const st_unique_t *unique, sl_err_t *err) {
    sq_call_t c = sq_call(s, SQL_ADD_UNIQUE);
    sq_int(&c, seq);
    sq_text(&c, collection);
    sq_text(&c, unique->field);
    sq_text(&c, unique->value);
    return sq_run(&c, err);
}

static sl_status_t add_tag(sq_store_t *s, int64_t seq, const st_row_t *row, const json_t *tag, sl_err_t *err) {
    if (!json_is_string(tag)) {
        return SL_OK;
    }
    sq_call_t c = sq_call(s, SQL_ADD_TAG);
    sq_int(&c, seq);
    sq_text(&c, row->collection);
    sq_text(&c, row->id);
    sq_text(&c, sl_str(json_string_value(tag), json_string_length(tag)));
    return sq_run(&c, err);
}

static sl_status_t add_ref(sq_store_t *s, int64_t seq, const st_row_t *row, const st_ref_t *ref, sl_err_t *err) {
    sq_call_t c = sq_call(s, SQL_ADD_REF);
    sq_int(&c, seq);
    sq_text(&c, ref->field);
    sq_text(&c, ref->collection);
    sq_text(&c, ref->id);
    sq_int(&c, ref->cascade);
    sq_text(&c, row->collection);
    sq_text(&c, row->id);
    return sq_run(&c, err);
}

sl_status_t sq_entity_put(st_store_t *store, const st_row_t *row, sl_err_t *err) {
    sq_store_t *s = sq_of(store);
    int64_t seq = 0;
    sl_status_t rc = sq_check_open(s, err);
    rc = rc == SL_OK ? find_seq(s, row->collection, row->id, &seq, err) : rc;
    for (size_t i = 0; rc == SL_OK && i < row->n_uniques; i++) {
        rc = check_unique(s, row, &row->uniques[i], seq, err);
    }
    rc = rc == SL_OK ? write_entity(s, row, &seq, err) : rc;
    for (size_t i = 0; rc == SL_OK && i < row->n_uniques; i++) {
        rc = add_unique(s, seq, row->collection, &row->uniques[i], err);
    }
    for (size_t i = 0; rc == SL_OK && i < row->n_refs; i++) {
        rc = add_ref(s, seq, row, &row->refs[i], err);
    }
    for (size_t i = 0; rc == SL_OK && i < json_array_size(row->tags); i++) {
        rc = add_tag(s, seq, row, json_array_get(row->tags, i), err);
    }
    return rc;
}

static sl_status_t check_restricted(sq_store_t *s, sl_str_t collection, sl_str_t id, sl_err_t *err) {
    sl_status_t held = SL_OK;
    sq_call_t c = sq_call(s, SQL_RESTRICTED);
    sq_text(&c, collection);
    sq_text(&c, id);
    if (sq_next(&c)) {
        st_fault_set(&s->head, ST_FAULT_REFERENCED, collection, id, sq_column(&c, 2));
        st_fault_other(&s->head, sq_column(&c, 0), sq_column(&c, 1));
        held = sl_err_set(err, SL_CONFLICT, "%.*s %.*s: %.*s %.*s refers to it", SL_FMT(collection), SL_FMT(id), SL_FMT(sq_column(&c, 0)),
                          SL_FMT(sq_column(&c, 1)));
    }
    sl_status_t rc = sq_done(&c, err);
    return rc != SL_OK ? rc : held;
}

sl_status_t sq_entity_erase(st_store_t *store, sl_str_t collection, sl_str_t id, sl_err_t *err) {
    sq_store_t *s = sq_of(store);
    int64_t seq = 0;
    sl_status_t rc = sq_check_open(s, err);
    rc = rc == SL_OK ? find_seq(s, collection, id, &seq, err) : rc;
    if (rc == SL_OK && seq == 0) {
        return sl_err_set(err, SL_NOT_FOUND, "%.*s: there is no \"%.*s\"", SL_FMT(collection), SL_FMT(id));
    }
    rc = rc == SL_OK ? check_restricted(s, collection, id, err) : rc;
    if (rc != SL_OK) {
        return rc;
    }
    sq_call_t c = sq_call(s, SQL_ERASE);
    sq_text(&c, collection);
    sq_text(&c, id);
    return sq_run(&c, err);
}

sl_status_t sq_entity_clear(st_store_t *store, sl_err_t *err) {
    sl_status_t rc = sq_check_open(sq_of(store), err);
    return rc == SL_OK ? sq_exec(sq_of(store), "DELETE FROM refs; DELETE FROM uniques; DELETE FROM tags; DELETE FROM entities", err) : rc;
}

static sq_call_t query_call(sq_store_t *s, const st_query_t *query) {
    sq_call_t c;
    if (query->since) {
        c = sq_call(s, SQL_READ_SINCE);
        sq_int(&c, (int64_t)query->after_revision);
        return c;
    }
    if (query->collection.len == 0) {
        return sq_call(s, SQL_READ_ALL);
    }
    if (query->page != NULL) {
        bool children = query->page->parent_field.len > 0;
        bool tagged = query->page->tag.len > 0;
        c = sq_call(s, children ? SQL_READ_CHILDREN : tagged ? SQL_READ_TAGGED : SQL_READ_PAGE);
        sq_text(&c, query->collection);
        sq_text(&c, query->page->after);
        sq_int(&c, (int64_t)query->page->limit);
        if (children) {
            sq_text(&c, query->parents);
            sq_text(&c, query->page->parent_id);
            sq_text(&c, query->page->parent_field);
        } else if (tagged) {
            sq_text(&c, query->page->tag);
        }
        return c;
    }
    c = sq_call(s, query->field.len > 0 ? SQL_READ_UNIQUE : SQL_READ_ID);
    sq_text(&c, query->collection);
    sq_text(&c, query->field.len > 0 ? query->field : query->id);
    if (query->field.len > 0) {
        sq_text(&c, query->value);
    }
    return c;
}

/* A text can only be missing without memory: the columns are NOT NULL. */
static sl_status_t take_row(sq_call_t *c, st_entity_t *row, sl_err_t *err) {
    uint8_t sum[SL_SHA256_SIZE];
    char text[160];
    row->collection = sq_column(c, 0);
    row->id = sq_column(c, 1);
    row->json = sq_column(c, 2);
    row->revision = (uint64_t)sq_column_int(c, 3);
    if (row->collection.data == NULL || row->id.data == NULL || row->json.data == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", c->s->path);
    }
    sl_str_t kept = sq_column_blob(c, 4);
    sl_status_t rc = sum_of(row->json, sum, err);
    if (rc == SL_OK && !sl_str_eq(kept, sl_str((const char *)sum, SUM_SIZE))) {
        snprintf(text, sizeof(text), "the content of %.*s %.*s is not what was written", SL_FMT(row->collection), SL_FMT(row->id));
        return sq_damaged(c->s, text, err);
    }
    return rc;
}

sl_status_t sq_entity_read(st_store_t *store, const st_query_t *query, st_entity_fn_t fn, void *ud, sl_err_t *err) {
    st_entity_t row;
    sl_status_t answer = SL_OK;
    sq_call_t c = query_call(sq_of(store), query);
    while (answer == SL_OK && sq_next(&c)) {
        answer = take_row(&c, &row, err);
        answer = answer == SL_OK ? fn(ud, &row, err) : answer;
    }
    sl_status_t rc = sq_done(&c, err);
    return answer != SL_OK ? answer : rc;
}

static sl_status_t check_gone_since(sq_store_t *s, uint64_t after_revision, sl_err_t *err) {
    sq_call_t c = sq_call(s, SQL_GONE_SINCE);
    bool found = sq_next(&c);
    uint64_t since = found ? (uint64_t)sq_column_int(&c, 0) : 0;
    sl_status_t rc = sq_done(&c, err);
    if (rc != SL_OK) {
        return rc;
    }
    return !found ? sq_damaged(s, "it has no revision", err)
           : after_revision < since
               ? sl_err_set(err, SL_CONFLICT, "what changed since revision %" PRIu64 " is not known any more", after_revision)
               : SL_OK;
}

sl_status_t sq_entity_read_gone(st_store_t *store, uint64_t after_revision, st_gone_fn_t fn, void *ud, sl_err_t *err) {
    sl_status_t answer = check_gone_since(sq_of(store), after_revision, err);
    if (answer != SL_OK) {
        return answer;
    }
    sq_call_t c = sq_call(sq_of(store), SQL_READ_GONE);
    sq_int(&c, (int64_t)after_revision);
    while (answer == SL_OK && sq_next(&c)) {
        sl_str_t collection = sq_column(&c, 0), id = sq_column(&c, 1);
        bool fine = collection.data != NULL && id.data != NULL;
        answer = fine ? fn(ud, collection, id, err) : sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_status_t rc = sq_done(&c, err);
    return answer != SL_OK ? answer : rc;
}
