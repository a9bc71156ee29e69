#include "mh_int.h"

#include <stdlib.h>

mh_stream_t *mh_stream_new(mh_t *mh, pw_chain_t *chain) {
    mh_stream_t *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->mh = mh;
    s->id = ++mh->last_stream;
    s->begun_ns = mh_now_ns(mh);
    s->maps[PW_MAP_REQUEST_TRAILERS].creatable = s->maps[PW_MAP_RESPONSE_TRAILERS].creatable = true;
    s->pw = pw_stream_new(mh->worker, chain, s);
    if (s->pw == NULL) {
        free(s);
        return NULL;
    }
    s->next = mh->streams;
    if (s->next != NULL) {
        s->next->prev = s;
    }
    mh->streams = s;
    return s;
}

void mh_stream_log(mh_stream_t *s) {
    if (!s->logged) {
        s->logged = true;
        pw_stream_log(s->pw);
    }
}

static void unlink_stream(mh_stream_t *s) {
    if (s->prev != NULL) {
        s->prev->next = s->next;
    } else {
        s->mh->streams = s->next;
    }
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
}

void mh_stream_free(mh_stream_t *s) {
    if (s == NULL) {
        return;
    }
    mh_stream_log(s);
    pw_stream_free(s->pw);
    mh_calls_forget_stream(s->mh, s);
    unlink_stream(s);
    mh_exchange_deinit(s);
    mh_props_deinit(&s->props);
    for (size_t i = 0; i < 4; i++) {
        mh_map_clear(&s->maps[i]);
    }
    free(s);
}

pw_stream_t *mh_stream_pw(const mh_stream_t *s) {
    return s->pw;
}

uint32_t mh_stream_id(const mh_stream_t *s) {
    return s->id;
}

bool mh_stream_woken(mh_stream_t *s, pw_dir_t dir) {
    bool woken = s->woken[dir];
    s->woken[dir] = false;
    return woken;
}

uint32_t mh_stream_route_clears(const mh_stream_t *s) {
    return s->route_clears;
}

sl_status_t mh_map_fill(mh_stream_t *s, pw_map_t map, const pw_pair_t *pairs, size_t n) {
    return map > PW_MAP_RESPONSE_TRAILERS ? SL_INVALID : mh_map_copy(&s->maps[map], pairs, n);
}

void mh_map_drop(mh_stream_t *s, pw_map_t map) {
    mh_map_clear(&s->maps[map]);
    s->maps[map].present = false;
}

void mh_map_creatable(mh_stream_t *s, pw_map_t map, bool yes) {
    s->maps[map].creatable = yes;
}

bool mh_map_present(const mh_stream_t *s, pw_map_t map) {
    return s->maps[map].present;
}

size_t mh_map_count(const mh_stream_t *s, pw_map_t map) {
    return s->maps[map].n;
}

pw_pair_t mh_map_at(const mh_stream_t *s, pw_map_t map, size_t i) {
    return i < s->maps[map].n ? s->maps[map].pairs[i] : (pw_pair_t){SL_STR_NULL, SL_STR_NULL};
}

sl_str_t mh_map_value(const mh_stream_t *s, pw_map_t map, const char *key) {
    const sl_str_t *value = mh_map_find(&s->maps[map], sl_cstr(key));
    return value == NULL ? SL_STR_NULL : *value;
}

/* ---- operations ---- */

static mh_map_t *map_of(void *stream, pw_map_t map) {
    mh_stream_t *s = stream;
    return map <= PW_MAP_RESPONSE_TRAILERS ? &s->maps[map] : NULL;
}

sl_status_t mh_op_map_each(void *stream, pw_map_t map, bool (*each)(void *ud, sl_str_t key, sl_str_t value), void *ud) {
    const mh_map_t *m = map_of(stream, map);
    if (m == NULL || !m->present) {
        return SL_NOT_FOUND;
    }
    for (size_t i = 0; i < m->n && each(ud, m->pairs[i].key, m->pairs[i].value); i++) {
    }
    return SL_OK;
}

sl_status_t mh_op_map_get(void *stream, pw_map_t map, sl_str_t key, sl_str_t *value) {
    const mh_map_t *m = map_of(stream, map);
    const sl_str_t *found = m != NULL && m->present ? mh_map_find(m, key) : NULL;
    if (found == NULL) {
        return SL_NOT_FOUND;
    }
    *value = *found;
    return SL_OK;
}

sl_status_t mh_op_map_edit(void *stream, pw_map_t map, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    mh_map_t *m = map_of(stream, map);
    if (m == NULL || (!m->present && !m->creatable)) {
        return SL_NOT_FOUND;
    }
    sl_status_t rc = mh_map_change(m, op, key, value);
    if (rc == SL_OK && (op == PW_MAP_ADD || op == PW_MAP_REPLACE)) {
        m->present = true;
    }
    return rc;
}

size_t mh_op_map_count(void *stream, pw_map_t map) {
    const mh_map_t *m = map_of(stream, map);
    return m == NULL || !m->present ? 0 : m->n;
}

bool mh_op_may_make_body(void *stream, pw_dir_t dir) {
    const mh_stream_t *s = stream;
    sl_str_t status = mh_map_value(s, PW_MAP_RESPONSE_HEADERS, ":status");
    return dir == PW_DIR_REQUEST || (!sl_str_eq(mh_map_value(s, PW_MAP_REQUEST_HEADERS, ":method"), SL_STR("HEAD")) &&
                                     !sl_str_eq(status, SL_STR("204")) && !sl_str_eq(status, SL_STR("304")));
}

sl_status_t mh_op_clear_route_cache(void *stream) {
    ((mh_stream_t *)stream)->route_clears++;
    return SL_OK;
}

void mh_op_wake(void *stream, pw_dir_t dir) {
    ((mh_stream_t *)stream)->woken[dir] = true;
}
