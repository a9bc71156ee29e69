/* Names to resolve and requests to Redis: recorded; the test is who answers. */
#include "mh_int.h"

#include <stdlib.h>

enum { NS_PER_MS = 1000000 };

struct mh_out_s {
    struct mh_out_s *next;
    bool is_redis;
    mh_resolve_t resolve;
    mh_redis_t redis;
    uint64_t due_ns; /* monotonic; 0: never */
};

static void out_free(mh_out_t *o) {
    free((char *)o->resolve.name.data);
    free((char *)o->redis.upstream.data);
    free((char *)o->redis.username.data);
    free((char *)o->redis.password.data);
    free((char *)o->redis.query.data);
    free(o);
}

static void out_unlink(mh_t *mh, const mh_out_t *o) {
    mh_out_t **p = &mh->outs;
    while (*p != o) {
        p = &(*p)->next;
    }
    *p = o->next;
    mh->n_outs--;
}

static void out_add(mh_t *mh, mh_out_t *o) {
    mh_out_t **end = &mh->outs;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = o;
    mh->n_outs++;
}

static mh_out_t *out_at(const mh_t *mh, bool is_redis, size_t i) {
    mh_out_t *o = mh->outs;
    while (o != NULL && (o->is_redis != is_redis || i-- != 0)) {
        o = o->next;
    }
    return o;
}

static size_t out_count(const mh_t *mh, bool is_redis) {
    size_t n = 0;
    for (const mh_out_t *o = mh->outs; o != NULL; o = o->next) {
        n += o->is_redis == is_redis;
    }
    return n;
}

static mh_out_t *out_new(const mh_t *mh) {
    return mh->n_outs < MH_CALLS ? calloc(1, sizeof(mh_out_t)) : NULL;
}

static void cancel(void *worker, void *handle) {
    mh_t *mh = worker;
    out_unlink(mh, handle);
    mh->outs_cancelled++;
    out_free(handle);
}

/* ---- names ---- */

sl_status_t mh_op_resolve(void *worker, void *stream, const pw_resolve_t *request, void **handle) {
    (void)stream;
    mh_t *mh = worker;
    if (mh->refuse != SL_OK) {
        return mh->refuse;
    }
    mh_out_t *o = out_new(mh);
    if (o == NULL) {
        return SL_FAILED;
    }
    o->resolve = (mh_resolve_t){.root = request->root, .token = request->token, .name = mh_dup(request->name)};
    if (o->resolve.name.data == NULL) {
        out_free(o);
        return SL_NO_MEMORY;
    }
    out_add(mh, o);
    *handle = o;
    return SL_OK;
}

void mh_op_resolve_cancel(void *worker, void *handle) {
    cancel(worker, handle);
}

size_t mh_resolve_count(const mh_t *mh) {
    return out_count(mh, false);
}

const mh_resolve_t *mh_resolve_at(const mh_t *mh, size_t i) {
    const mh_out_t *o = out_at(mh, false, i);
    return o == NULL ? NULL : &o->resolve;
}

bool mh_resolve_answer(mh_t *mh, size_t i, const pw_address_t *addrs, size_t n) {
    mh_out_t *o = out_at(mh, false, i);
    if (o == NULL) {
        return false;
    }
    out_unlink(mh, o);
    pw_resolve_done(o->resolve.root, o->resolve.token, addrs, n);
    out_free(o);
    return true;
}

/* ---- Redis ---- */

static bool redis_fill(mh_redis_t *r, const pw_redis_call_t *call) {
    *r = (mh_redis_t){.root = call->root,
                      .token = call->token,
                      .upstream = mh_dup(call->upstream),
                      .username = mh_dup(call->username),
                      .password = mh_dup(call->password),
                      .query = mh_dup(call->query),
                      .database = call->database,
                      .n_commands = call->n_commands,
                      .blocks = call->blocks,
                      .tls = call->tls,
                      .timeout_ms = call->timeout_ms};
    return r->upstream.data != NULL && r->username.data != NULL && r->password.data != NULL && r->query.data != NULL;
}

sl_status_t mh_op_redis_call(void *worker, void *stream, const pw_redis_call_t *call, void **handle) {
    (void)stream;
    mh_t *mh = worker;
    if (!mh_upstream_known(mh, call->upstream)) {
        return SL_NOT_FOUND;
    }
    if (mh->refuse != SL_OK) {
        return mh->refuse;
    }
    mh_out_t *o = call->query.len <= MH_BODY_BYTES ? out_new(mh) : NULL;
    if (o == NULL) {
        return SL_FAILED;
    }
    if (!redis_fill(&o->redis, call)) {
        out_free(o);
        return SL_NO_MEMORY;
    }
    o->is_redis = true;
    o->due_ns = call->timeout_ms == 0 ? 0 : mh->mono_ns + (uint64_t)call->timeout_ms * NS_PER_MS;
    out_add(mh, o);
    *handle = o;
    return SL_OK;
}

void mh_op_redis_cancel(void *worker, void *handle) {
    cancel(worker, handle);
}

size_t mh_redis_count(const mh_t *mh) {
    return out_count(mh, true);
}

const mh_redis_t *mh_redis_at(const mh_t *mh, size_t i) {
    const mh_out_t *o = out_at(mh, true, i);
    return o == NULL ? NULL : &o->redis;
}

static void redis_done(mh_t *mh, mh_out_t *o, sl_str_t response) {
    out_unlink(mh, o);
    pw_redis_done(o->redis.root, o->redis.token, response);
    out_free(o);
}

bool mh_redis_answer(mh_t *mh, size_t i, sl_str_t response) {
    mh_out_t *o = out_at(mh, true, i);
    if (o != NULL) {
        redis_done(mh, o, response);
    }
    return o != NULL;
}

mh_out_t *mh_out_due(const mh_t *mh, uint64_t *first_ns) {
    mh_out_t *due = NULL;
    for (mh_out_t *o = mh->outs; o != NULL; o = o->next) {
        if (o->due_ns != 0 && o->due_ns < *first_ns) {
            *first_ns = o->due_ns;
            due = o;
        }
    }
    return due;
}

void mh_out_expire(mh_t *mh, mh_out_t *o) {
    redis_done(mh, o, SL_STR_NULL);
}

uint64_t mh_out_cancelled(const mh_t *mh) {
    return mh->outs_cancelled;
}

void mh_out_deinit(mh_t *mh) {
    while (mh->outs != NULL) {
        mh_out_t *o = mh->outs;
        out_unlink(mh, o);
        out_free(o);
    }
}
