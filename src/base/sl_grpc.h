/*
 * gRPC over HTTP/2: the client's side of one connection. No I/O and no clock: what has arrived is fed, what should be written is taken.
 * One owner, one thread. The only file that knows nghttp2 is sl_grpc.c.
 *
 *   conn --< stream: metadata, messages, (trailing) metadata, closed
 *
 * Events come from inside of feed, take and lost. They may open, send on, finish and reset streams, also their own, but not free the
 * connection. A stream is the caller's from open until its `closed` event has begun, or until it resets it; not after.
 */
#ifndef SL_GRPC_H
#define SL_GRPC_H

#include "sl_buf.h"

typedef struct sl_grpc_s sl_grpc_t;
typedef struct sl_grpc_stream_s sl_grpc_stream_t;

typedef struct {
    sl_str_t name, value;
} sl_grpc_field_t;

/* Status codes that this side gives. */
enum {
    SL_GRPC_OK = 0,
    SL_GRPC_CANCELLED = 1,
    SL_GRPC_UNKNOWN = 2,
    SL_GRPC_DEADLINE_EXCEEDED = 4,
    SL_GRPC_PERMISSION_DENIED = 7,
    SL_GRPC_RESOURCE_EXHAUSTED = 8,
    SL_GRPC_UNIMPLEMENTED = 12,
    SL_GRPC_INTERNAL = 13,
    SL_GRPC_UNAVAILABLE = 14,
    SL_GRPC_UNAUTHENTICATED = 16,
    SL_GRPC_STATUS_MAX = 16
};

/* Everything is borrowed for the duration of the event. `user` is the stream's. */
typedef struct {
    /* Headers of the answer (none where it has only trailers), later its trailers. Names are in lower case, `:status` is among them. */
    void (*metadata)(void *user, bool trailing, const sl_grpc_field_t *fields, size_t n);
    void (*message)(void *user, sl_str_t message);
    /* The last one. text: percent-decoded. unprocessed: the peer has certainly not looked at the request. */
    void (*closed)(void *user, uint32_t status, sl_str_t text, bool unprocessed);
} sl_grpc_events_t;

/* Ceilings in bytes; zero members mean the default in brackets. */
typedef struct {
    size_t message;       /* one message that comes [16 MiB] */
    size_t received;      /* messages that have not come whole, of all streams [64 MiB] */
    size_t queued;        /* what one stream has not sent yet [16 MiB] */
    size_t metadata;      /* one block of headers or trailers [64 KiB] */
    sl_ceiling_t *shared; /* over what many connections hold [none]; outlives them */
} sl_grpc_limits_t;

#define SL_GRPC_FIELDS_MAX 256 /* in one block */

sl_grpc_t *sl_grpc_new(const sl_grpc_events_t *events, const sl_grpc_limits_t *limits); /* limits NULL: defaults. NULL: no memory */
void sl_grpc_free(sl_grpc_t *conn);                                                     /* without events. Accepts NULL */

typedef struct {
    bool https;
    sl_str_t authority;
    sl_str_t service, method;
    const sl_grpc_field_t *metadata; /* as on the wire, names in lower case; what is ours on the wire is left out */
    size_t n_metadata;
    uint32_t timeout_ms; /* told to the peer, not watched here; 0: none */
} sl_grpc_request_t;

/* SL_INVALID: something cannot stand in a request. SL_CONFLICT: the connection takes no more streams. SL_NO_MEMORY. */
sl_status_t sl_grpc_open(sl_grpc_t *conn, const sl_grpc_request_t *request, void *user, sl_grpc_stream_t **out);
/* Queues one message. SL_AGAIN: over the ceiling of what is queued, nothing was taken. SL_INVALID: finished before. SL_NO_MEMORY. */
sl_status_t sl_grpc_send(sl_grpc_stream_t *stream, sl_str_t message);
void sl_grpc_finish(sl_grpc_stream_t *stream); /* no more messages from here; the peer's may still come */
void sl_grpc_reset(sl_grpc_stream_t *stream);  /* no event after this */

/* SL_FAILED: this is no HTTP/2 any more; say sl_grpc_lost() then. */
sl_status_t sl_grpc_feed(sl_grpc_t *conn, const void *data, size_t len, sl_err_t *err);
/* What should be written, up to some 64 KiB; borrowed until the next call. Empty: nothing now. SL_FAILED as for feed. */
sl_status_t sl_grpc_take(sl_grpc_t *conn, sl_str_t *out, sl_err_t *err);
void sl_grpc_written(sl_grpc_t *conn, size_t n); /* so many of the bytes that take gave have been written */
/* The connection is broken: closes all streams with UNAVAILABLE. Nothing can be opened any more. */
void sl_grpc_lost(sl_grpc_t *conn, const char *why);

size_t sl_grpc_streams(const sl_grpc_t *conn); /* that are open */
bool sl_grpc_room(const sl_grpc_t *conn);      /* the peer would take one more now */
bool sl_grpc_usable(const sl_grpc_t *conn);    /* new streams may be opened: no GOAWAY, not lost */
bool sl_grpc_over(const sl_grpc_t *conn);      /* neither side has anything to say any more: close it */

/* Pieces of the protocol, also of use alone. */

/* Appends text with %XX replaced; what is no escape stays. */
sl_status_t sl_grpc_percent_decode(sl_str_t text, sl_buf_t *out);
/* For grpc-timeout; size of text: at least 12. */
void sl_grpc_timeout_text(uint32_t timeout_ms, char *text, size_t size);
/* The status for an answer that is no gRPC. */
uint32_t sl_grpc_from_http(uint32_t http_status);

#endif
