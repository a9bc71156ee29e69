/* gRPC calls out: recorded; the test is the peer. */
#include "mh_int.h"

#include <stdlib.h>

enum { NS_PER_MS = 1000000 };

struct mh_grpc_out_s {
    struct mh_grpc_out_s *next;
    mh_grpc_t call;
    mh_map_t metadata;
    sl_str_t messages[MH_GRPC_MESSAGES]; /* owned */
    size_t bytes;
    uint64_t due_ns; /* monotonic; 0: never */
    bool full;       /* too much was sent: it ends */
};

static void out_free(mh_grpc_out_t *g) {
    mh_map_clear(&g->metadata);
    free((char *)g->call.upstream.data);
    free((char *)g->call.authority.data);
    free((char *)g->call.service.data);
    free((char *)g->call.method.data);
    for (size_t i = 0; i < g->call.n_messages; i++) {
        free((char *)g->messages[i].data);
    }
    free(g);
}

static bool unlink_out(mh_t *mh, const mh_grpc_out_t *g) {
    for (mh_grpc_out_t **p = &mh->grpc; *p != NULL; p = &(*p)->next) {
        if (*p == g) {
            *p = g->next;
            mh->n_grpc--;
            return true;
        }
    }
    return false;
}

static sl_status_t add_message(mh_grpc_out_t *g, sl_str_t message) {
    if (g->call.n_messages == MH_GRPC_MESSAGES || message.len > MH_GRPC_BYTES - g->bytes) {
        return SL_AGAIN;
    }
    sl_str_t copy = mh_dup(message);
    if (copy.data == NULL) {
        return SL_NO_MEMORY;
    }
    g->messages[g->call.n_messages++] = copy;
    g->bytes += copy.len;
    return SL_OK;
}

static sl_status_t fill(mh_grpc_out_t *g, const pw_grpc_call_t *call) {
    g->call = (mh_grpc_t){.root = call->root, .token = call->token, .tls = call->tls, .unary = call->unary, .timeout_ms = call->timeout_ms};
    g->call.messages = g->messages;
    g->call.upstream = mh_dup(call->upstream);
    g->call.authority = mh_dup(call->authority);
    g->call.service = mh_dup(call->service);
    g->call.method = mh_dup(call->method);
    if (g->call.upstream.data == NULL || g->call.authority.data == NULL || g->call.service.data == NULL || g->call.method.data == NULL ||
        mh_map_copy(&g->metadata, call->metadata, call->n_metadata) != SL_OK) {
        return SL_FAILED;
    }
    g->call.metadata = g->metadata.pairs;
    g->call.n_metadata = g->metadata.n;
    g->call.finished = call->unary;
    return call->unary && add_message(g, call->message) != SL_OK ? SL_FAILED : SL_OK;
}

sl_status_t mh_op_grpc_open(void *worker, void *stream, const pw_grpc_call_t *call, void **handle) {
    (void)stream;
    mh_t *mh = worker;
    if (!mh_upstream_known(mh, call->upstream)) {
        return SL_NOT_FOUND;
    }
    if (mh->refuse != SL_OK) {
        return mh->refuse;
    }
    mh_grpc_out_t *g = mh->n_grpc < MH_CALLS ? calloc(1, sizeof(*g)) : NULL;
    if (g == NULL || fill(g, call) != SL_OK) {
        if (g != NULL) {
            out_free(g);
        }
        return SL_FAILED;
    }
    g->due_ns = call->timeout_ms == 0 ? 0 : mh->mono_ns + (uint64_t)call->timeout_ms * NS_PER_MS;
    mh_grpc_out_t **end = &mh->grpc;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = g;
    mh->n_grpc++;
    *handle = g;
    return SL_OK;
}

sl_status_t mh_op_grpc_send(void *worker, void *handle, sl_str_t message) {
    mh_t *mh = worker;
    mh_grpc_out_t *g = handle;
    sl_status_t rc = g->full ? SL_OK : add_message(g, message);
    if (rc == SL_AGAIN) {
        g->full = true;
        g->due_ns = mh->mono_ns != 0 ? mh->mono_ns : 1;
    }
    return rc;
}

void mh_op_grpc_finish(void *worker, void *handle) {
    (void)worker;
    ((mh_grpc_out_t *)handle)->call.finished = true;
}

void mh_op_grpc_cancel(void *worker, void *handle) {
    mh_t *mh = worker;
    if (unlink_out(mh, handle)) {
        mh->grpc_cancelled++;
        out_free(handle);
    }
}

/* ---- the peer ---- */

static mh_grpc_out_t *out_at(const mh_t *mh, size_t i) {
    mh_grpc_out_t *g = mh->grpc;
    while (g != NULL && i-- != 0) {
        g = g->next;
    }
    return g;
}

size_t mh_grpc_count(const mh_t *mh) {
    return mh->n_grpc;
}

uint64_t mh_grpc_cancelled(const mh_t *mh) {
    return mh->grpc_cancelled;
}

const mh_grpc_t *mh_grpc_at(const mh_t *mh, size_t i) {
    const mh_grpc_out_t *g = out_at(mh, i);
    return g == NULL ? NULL : &g->call;
}

bool mh_grpc_metadata(mh_t *mh, size_t i, bool trailing, const pw_pair_t *pairs, size_t n) {
    const mh_grpc_out_t *g = out_at(mh, i);
    if (g == NULL) {
        return false;
    }
    (trailing ? pw_grpc_trailing_metadata : pw_grpc_initial_metadata)(g->call.root, g->call.token, pairs, n);
    return true;
}

bool mh_grpc_message(mh_t *mh, size_t i, sl_str_t message) {
    const mh_grpc_out_t *g = out_at(mh, i);
    if (g == NULL) {
        return false;
    }
    pw_grpc_message(g->call.root, g->call.token, message);
    return true;
}

/* Out of the list first: what the guest does to it from inside of the events leaves the rest alone. */
static void close_out(mh_t *mh, mh_grpc_out_t *g, uint32_t status, sl_str_t text) {
    unlink_out(mh, g);
    pw_grpc_closed(g->call.root, g->call.token, status, text);
    out_free(g);
}

bool mh_grpc_close(mh_t *mh, size_t i, uint32_t status, sl_str_t text) {
    mh_grpc_out_t *g = out_at(mh, i);
    if (g != NULL) {
        close_out(mh, g, status, text);
    }
    return g != NULL;
}

/* ---- deadlines ---- */

mh_grpc_out_t *mh_grpc_due(const mh_t *mh, uint64_t *first_ns) {
    mh_grpc_out_t *due = NULL;
    for (mh_grpc_out_t *g = mh->grpc; g != NULL; g = g->next) {
        if (g->due_ns != 0 && g->due_ns < *first_ns) {
            *first_ns = g->due_ns;
            due = g;
        }
    }
    return due;
}

void mh_grpc_expire(mh_t *mh, mh_grpc_out_t *g) {
    if (g->full) {
        close_out(mh, g, 8, SL_STR("too much waits to be sent"));
    } else {
        close_out(mh, g, 4, SL_STR("the call's time is over"));
    }
}

void mh_grpc_deinit(mh_t *mh) {
    while (mh->grpc != NULL) {
        mh_grpc_out_t *g = mh->grpc;
        unlink_out(mh, g);
        out_free(g);
    }
}
