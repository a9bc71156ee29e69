/*
 * gRPC from both sides that are not ours. First byte 0: the rest is a target as a guest may give it (a name or a serialized GrpcService).
 * Else: the rest is what a peer sends on a connection with two streams, fed in pieces whose size the byte chooses; what is told must not
 * depend on the pieces, and every stream must be closed once, at the latest when the connection is lost.
 */
#include <stdlib.h>

#include "pw_grpc_target.h"
#include "sl_grpc.h"

enum { STREAMS = 2 };

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static uint64_t mix(uint64_t hash, const void *data, size_t len) {
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ p[i]) * 1099511628211u;
    }
    return (hash ^ len) * 1099511628211u;
}

typedef struct {
    uint64_t hash;
    unsigned closed;
    bool trailed;
} seen_t;

static void on_metadata(void *user, bool trailing, const sl_grpc_field_t *fields, size_t n) {
    seen_t *s = user;
    check(s->closed == 0 && n <= SL_GRPC_FIELDS_MAX && !s->trailed);
    s->trailed = trailing;
    for (size_t i = 0; i < n; i++) {
        s->hash = mix(mix(s->hash, fields[i].name.data, fields[i].name.len), fields[i].value.data, fields[i].value.len);
    }
}

static void on_message(void *user, sl_str_t message) {
    seen_t *s = user;
    check(s->closed == 0 && !s->trailed && message.len <= 4096);
    s->hash = mix(s->hash, message.data, message.len);
}

static void on_closed(void *user, uint32_t status, sl_str_t text, bool unprocessed) {
    seen_t *s = user;
    (void)unprocessed;
    check(s->closed++ == 0 && status <= SL_GRPC_STATUS_MAX);
    s->hash = mix(mix(s->hash, &status, sizeof(status)), text.data, text.len);
}

static void write_out(sl_grpc_t *conn) {
    sl_str_t out;
    for (int i = 0; i < 64 && sl_grpc_take(conn, &out, NULL) == SL_OK && out.len != 0; i++) {
        sl_grpc_written(conn, out.len);
    }
}

/* 0: what happened; the events of both streams. */
static void play(const uint8_t *data, size_t size, size_t step, seen_t *seen) {
    static const sl_grpc_events_t events = {on_metadata, on_message, on_closed};
    static const sl_grpc_limits_t limits = {.message = 4096, .received = 8192, .queued = 4096, .metadata = 4096};
    const sl_grpc_request_t request = {.authority = SL_STR("a"), .service = SL_STR("s"), .method = SL_STR("m")};
    sl_grpc_t *conn = sl_grpc_new(&events, &limits);
    sl_grpc_stream_t *streams[STREAMS];
    check(conn != NULL);
    for (int i = 0; i < STREAMS; i++) {
        check(sl_grpc_open(conn, &request, &seen[i], &streams[i]) == SL_OK);
        check(sl_grpc_send(streams[i], SL_STR("message")) == SL_OK);
    }
    sl_grpc_finish(streams[0]);
    write_out(conn);
    for (size_t at = 0; at < size; at += step) {
        size_t n = size - at < step ? size - at : step;
        uint8_t *piece = malloc(n);
        check(piece != NULL);
        memcpy(piece, data + at, n);
        sl_status_t rc = sl_grpc_feed(conn, piece, n, NULL);
        free(piece);
        if (rc != SL_OK) {
            break;
        }
    }
    write_out(conn);
    sl_grpc_lost(conn, "lost");
    check(sl_grpc_streams(conn) == 0 && seen[0].closed == 1 && seen[1].closed == 1);
    sl_grpc_free(conn);
}

static void session(const uint8_t *data, size_t size) {
    seen_t whole[STREAMS] = {{0}}, cut[STREAMS] = {{0}};
    play(data + 1, size - 1, size, whole);
    play(data + 1, size - 1, 1 + data[0] % 23, cut);
    check(whole[0].hash == cut[0].hash && whole[1].hash == cut[1].hash);
}

static bool inside(sl_str_t part, const char *data, size_t size) {
    return part.len == 0 || (part.data >= data && part.data + part.len <= data + size);
}

static void target(const uint8_t *data, size_t size) {
    char *copy = malloc(size + 1);
    pw_grpc_target_t t;
    check(copy != NULL);
    memcpy(copy, data, size);
    if (pw_grpc_target(sl_str(copy, size), &t)) {
        check(t.name.len != 0 && inside(t.name, copy, size) && inside(t.authority, copy, size));
        check(t.n_metadata <= PW_GRPC_TARGET_METADATA_MAX);
        for (size_t i = 0; i < t.n_metadata; i++) {
            check(inside(t.metadata[i].key, copy, size) && inside(t.metadata[i].value, copy, size));
        }
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size != 0 && data[0] == 0) {
        target(data + 1, size - 1);
    } else if (size != 0) {
        session(data, size);
    }
    return 0;
}
