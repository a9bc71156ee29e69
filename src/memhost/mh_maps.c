#include "mh_int.h"

#include <stdlib.h>

sl_str_t mh_dup(sl_str_t s) {
    char *p = malloc(s.len + 1);
    if (p == NULL) {
        return SL_STR_NULL;
    }
    if (s.len != 0) {
        memcpy(p, s.data, s.len);
    }
    p[s.len] = '\0';
    return sl_str(p, s.len);
}

static void pair_free(pw_pair_t *pair) {
    free((char *)pair->key.data);
    free((char *)pair->value.data);
}

void mh_map_clear(mh_map_t *m) {
    for (size_t i = 0; i < m->n; i++) {
        pair_free(&m->pairs[i]);
    }
    free(m->pairs);
    *m = (mh_map_t){.present = m->present, .creatable = m->creatable};
}

static bool pseudo(sl_str_t key) {
    return key.len != 0 && key.data[0] == ':';
}

static sl_status_t grow(mh_map_t *m) {
    if (m->n < m->cap) {
        return SL_OK;
    }
    if (m->n >= MH_MAP_PAIRS) {
        return SL_NO_MEMORY;
    }
    size_t cap = m->cap == 0 ? 16 : m->cap * 2;
    pw_pair_t *pairs = realloc(m->pairs, cap * sizeof(*pairs));
    if (pairs == NULL) {
        return SL_NO_MEMORY;
    }
    m->pairs = pairs;
    m->cap = cap;
    return SL_OK;
}

/* Ordinary headers go last, pseudo headers behind the last pseudo header. */
static size_t place(const mh_map_t *m, sl_str_t key) {
    size_t at = m->n;
    if (pseudo(key)) {
        for (at = 0; at < m->n && pseudo(m->pairs[at].key); at++) {
        }
    }
    return at;
}

sl_status_t mh_map_append(mh_map_t *m, sl_str_t key, sl_str_t value) {
    size_t room = MH_MAP_BYTES - m->bytes;
    if (key.len > room || value.len > room - key.len || grow(m) != SL_OK) {
        return SL_NO_MEMORY;
    }
    pw_pair_t pair = {mh_dup(key), mh_dup(value)};
    if (pair.key.data == NULL || pair.value.data == NULL) {
        pair_free(&pair);
        return SL_NO_MEMORY;
    }
    size_t at = place(m, key);
    memmove(&m->pairs[at + 1], &m->pairs[at], (m->n - at) * sizeof(pair));
    m->pairs[at] = pair;
    m->n++;
    m->bytes += key.len + value.len;
    return SL_OK;
}

sl_status_t mh_map_copy(mh_map_t *m, const pw_pair_t *pairs, size_t n) {
    mh_map_clear(m);
    m->present = true;
    for (size_t i = 0; i < n; i++) {
        if (mh_map_append(m, pairs[i].key, pairs[i].value) != SL_OK) {
            return SL_NO_MEMORY;
        }
    }
    return SL_OK;
}

const sl_str_t *mh_map_find(const mh_map_t *m, sl_str_t key) {
    for (size_t i = 0; i < m->n; i++) {
        if (sl_str_eq_nocase(m->pairs[i].key, key)) {
            return &m->pairs[i].value;
        }
    }
    return NULL;
}

static void remove_at(mh_map_t *m, size_t i) {
    m->bytes -= m->pairs[i].key.len + m->pairs[i].value.len;
    pair_free(&m->pairs[i]);
    m->n--;
    memmove(&m->pairs[i], &m->pairs[i + 1], (m->n - i) * sizeof(m->pairs[0]));
}

static void remove_key(mh_map_t *m, sl_str_t key, size_t from) {
    for (size_t i = from; i < m->n;) {
        if (sl_str_eq_nocase(m->pairs[i].key, key)) {
            remove_at(m, i);
        } else {
            i++;
        }
    }
}

/* Replaces in place, so that the order of the others stays; appends when there is none. */
static sl_status_t replace(mh_map_t *m, sl_str_t key, sl_str_t value) {
    size_t i = 0;
    while (i < m->n && !sl_str_eq_nocase(m->pairs[i].key, key)) {
        i++;
    }
    if (i == m->n) {
        return mh_map_append(m, key, value);
    }
    sl_str_t old = m->pairs[i].value;
    sl_str_t copy = value.len > MH_MAP_BYTES - (m->bytes - old.len) ? SL_STR_NULL : mh_dup(value);
    if (copy.data == NULL) {
        return SL_NO_MEMORY;
    }
    m->bytes = m->bytes - old.len + value.len;
    m->pairs[i].value = copy;
    remove_key(m, key, i + 1); /* before the old value goes: `key` may lie in it */
    free((char *)old.data);
    return SL_OK;
}

static bool text_ok(sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] == '\0' || s.data[i] == '\r' || s.data[i] == '\n') {
            return false;
        }
    }
    return true;
}

static bool status_ok(sl_str_t s) {
    return s.len == 3 && s.data[0] >= '2' && s.data[0] <= '9' && s.data[1] >= '0' && s.data[1] <= '9' && s.data[2] >= '0' &&
           s.data[2] <= '9';
}

static bool pair_ok(sl_str_t key, sl_str_t value) {
    if (key.len == 0 || !text_ok(key) || !text_ok(value)) {
        return false;
    }
    return !sl_str_eq(key, SL_STR(":status")) || status_ok(value);
}

sl_status_t mh_map_change(mh_map_t *m, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    if ((op == PW_MAP_ADD || op == PW_MAP_REPLACE) && !pair_ok(key, value)) {
        return SL_INVALID;
    }
    switch (op) {
    case PW_MAP_ADD:
        return pseudo(key) ? replace(m, key, value) : mh_map_append(m, key, value); /* a pseudo header stands once */
    case PW_MAP_REPLACE:
        return replace(m, key, value);
    case PW_MAP_REMOVE:
        remove_key(m, key, 0);
        return SL_OK;
    case PW_MAP_CLEAR:
        mh_map_clear(m);
        return SL_OK;
    }
    return SL_INVALID;
}
