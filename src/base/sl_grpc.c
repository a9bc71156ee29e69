#include "sl_grpc.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PREFIX = 5, /* of a message: compressed or not, length */
    TAKE_BYTES = 64 * 1024,
    STREAM_WINDOW = 1 << 20,
    CONNECTION_WINDOW = 8 << 20,
    RETAINED = 64 * 1024, /* of an empty buffer */
    REQUEST_FIELDS_MAX = 1100,
    PART_MAX = 4096 /* of service, method, authority */
};

/* One block of headers while it arrives: where its fields lie in `text`. */
typedef struct {
    uint32_t name, name_len, value, value_len;
} place_t;

struct sl_grpc_stream_s {
    sl_grpc_t *conn;
    sl_grpc_stream_t *next, **at; /* conn->streams */
    void *user;
    int32_t id;
    bool ended;     /* closed has been told, or the owner has reset it */
    bool opened;    /* its headers have been written */
    bool answered;  /* the headers of the answer have come */
    bool finished;  /* no more messages from here */
    bool deferred;  /* nghttp2 waits for more to send */
    bool bad_block; /* the block that arrives is over a ceiling */
    bool reset;     /* from here, on the wire */

    sl_buf_t text;
    place_t *places;
    size_t n_places, cap_places;

    uint8_t prefix[PREFIX];
    uint8_t n_prefix;
    uint32_t size; /* of the message that arrives */
    sl_buf_t message;

    sl_buf_t out; /* framed messages */
    size_t out_at;
};

struct sl_grpc_s {
    nghttp2_session *session;
    sl_grpc_events_t events;
    sl_grpc_limits_t limits;
    sl_grpc_stream_t *streams;
    size_t n_streams; /* that have not ended */
    size_t received;  /* bytes of messages that are not whole */
    sl_buf_t out;
    size_t out_at;
    bool draining, lost;
};

/* ---- pieces ---- */

static int hex_of(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

sl_status_t sl_grpc_percent_decode(sl_str_t text, sl_buf_t *out) {
    for (size_t i = 0; i < text.len; i++) {
        int high = text.data[i] == '%' && text.len - i > 2 ? hex_of(text.data[i + 1]) : -1;
        int low = high >= 0 ? hex_of(text.data[i + 2]) : -1;
        if (low >= 0) {
            sl_buf_append_char(out, (char)(high << 4 | low));
            i += 2;
        } else {
            sl_buf_append_char(out, text.data[i]);
        }
    }
    return out->failed ? SL_NO_MEMORY : SL_OK;
}

/* At most eight digits. */
void sl_grpc_timeout_text(uint32_t timeout_ms, char *text, size_t size) {
    if (timeout_ms <= 99999999) {
        snprintf(text, size, "%um", timeout_ms);
    } else {
        snprintf(text, size, "%uS", timeout_ms / 1000);
    }
}

uint32_t sl_grpc_from_http(uint32_t http_status) {
    switch (http_status) {
    case 400:
        return SL_GRPC_INTERNAL;
    case 401:
        return SL_GRPC_UNAUTHENTICATED;
    case 403:
        return SL_GRPC_PERMISSION_DENIED;
    case 404:
        return SL_GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return SL_GRPC_UNAVAILABLE;
    default:
        return SL_GRPC_UNKNOWN;
    }
}

static uint32_t from_reset(uint32_t code) {
    switch (code) {
    case NGHTTP2_REFUSED_STREAM:
        return SL_GRPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return SL_GRPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return SL_GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return SL_GRPC_PERMISSION_DENIED;
    default:
        return SL_GRPC_INTERNAL;
    }
}

/* ---- streams ---- */

static void message_drop(sl_grpc_stream_t *s) {
    s->conn->received -= s->message.len;
    s->n_prefix = 0;
    sl_buf_deinit(&s->message);
    sl_buf_init_under(&s->message, s->conn->limits.message, s->conn->limits.shared);
}

static void stream_free(sl_grpc_stream_t *s) {
    *s->at = s->next;
    if (s->next != NULL) {
        s->next->at = s->at;
    }
    message_drop(s);
    sl_buf_deinit(&s->text);
    sl_buf_deinit(&s->out);
    free(s->places);
    free(s);
}

/* What is left of it is nghttp2's: it waits for on_stream_close to be freed. */
static void stream_end(sl_grpc_stream_t *s) {
    s->ended = true;
    s->conn->n_streams--;
    message_drop(s);
    sl_buf_deinit(&s->out);
    s->out_at = 0;
}

static void reset_on_wire(sl_grpc_stream_t *s, uint32_t code) {
    if (s->reset) {
        return;
    }
    s->reset = true;
    nghttp2_submit_rst_stream(s->conn->session, NGHTTP2_FLAG_NONE, s->id, code);
}

static void tell_closed(sl_grpc_stream_t *s, uint32_t status, sl_str_t text, bool unprocessed) {
    if (s->ended) {
        return;
    }
    stream_end(s);
    s->conn->events.closed(s->user, status, text, unprocessed);
}

/* For what this side does not accept. */
static void stream_refuse(sl_grpc_stream_t *s, uint32_t status, const char *text) {
    if (!s->ended) {
        reset_on_wire(s, NGHTTP2_CANCEL);
        tell_closed(s, status, sl_cstr(text), false);
    }
}

void sl_grpc_reset(sl_grpc_stream_t *s) {
    if (!s->ended) {
        reset_on_wire(s, NGHTTP2_CANCEL);
        stream_end(s);
    }
}

/* ---- what arrives: headers ---- */

static sl_grpc_stream_t *stream_of(nghttp2_session *session, int32_t id) {
    sl_grpc_stream_t *s = nghttp2_session_get_stream_user_data(session, id);
    return s != NULL && !s->ended ? s : NULL;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    (void)user;
    sl_grpc_stream_t *s = stream_of(session, frame->hd.stream_id);
    if (s != NULL) {
        sl_buf_reset(&s->text);
        s->n_places = 0;
        s->bad_block = false;
    }
    return 0;
}

static bool block_grow(sl_grpc_stream_t *s) {
    if (s->n_places < s->cap_places) {
        return true;
    }
    size_t cap = s->cap_places != 0 ? s->cap_places * 2 : 16;
    place_t *places = s->n_places < SL_GRPC_FIELDS_MAX ? realloc(s->places, cap * sizeof(*places)) : NULL;
    if (places == NULL) {
        return false;
    }
    s->places = places;
    s->cap_places = cap;
    return true;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                     size_t value_len, uint8_t flags, void *user) {
    (void)flags;
    (void)user;
    sl_grpc_stream_t *s = stream_of(session, frame->hd.stream_id);
    if (s == NULL || s->bad_block) {
        return 0;
    }
    size_t at = s->text.len;
    if (!block_grow(s) || sl_buf_append(&s->text, name, name_len) != SL_OK || sl_buf_append(&s->text, value, value_len) != SL_OK) {
        s->bad_block = true;
        return 0;
    }
    s->places[s->n_places++] = (place_t){(uint32_t)at, (uint32_t)name_len, (uint32_t)(at + name_len), (uint32_t)value_len};
    return 0;
}

static sl_str_t block_value(const sl_grpc_field_t *fields, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++) {
        if (sl_str_eq(fields[i].name, sl_cstr(name))) {
            return fields[i].value;
        }
    }
    return SL_STR_NULL;
}

/* A number of up to three digits; UINT32_MAX: it is none. */
static uint32_t small_number(sl_str_t text) {
    uint32_t n = 0;
    if (text.len == 0 || text.len > 3) {
        return UINT32_MAX;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return UINT32_MAX;
        }
        n = n * 10 + (uint32_t)(text.data[i] - '0');
    }
    return n;
}

static void close_with_trailers(sl_grpc_stream_t *s, const sl_grpc_field_t *fields, size_t n) {
    sl_str_t code = block_value(fields, n, "grpc-status");
    uint32_t status = small_number(code);
    sl_buf_t text;
    if (code.data == NULL) {
        tell_closed(s, SL_GRPC_UNKNOWN, SL_STR("the answer ended without a status"), false);
        return;
    }
    if (s->n_prefix != 0 && status == SL_GRPC_OK) {
        tell_closed(s, SL_GRPC_INTERNAL, SL_STR("the answer ended within a message"), false);
        return;
    }
    sl_buf_init(&text, s->conn->limits.metadata);
    sl_grpc_percent_decode(block_value(fields, n, "grpc-message"), &text);
    tell_closed(s, status <= SL_GRPC_STATUS_MAX ? status : (uint32_t)SL_GRPC_UNKNOWN, sl_buf_str(&text), false);
    sl_buf_deinit(&text);
}

static void got_trailers(sl_grpc_stream_t *s, const sl_grpc_field_t *fields, size_t n) {
    s->conn->events.metadata(s->user, true, fields, n);
    if (!s->ended) {
        close_with_trailers(s, fields, n);
    }
}

static bool is_grpc(sl_str_t type) {
    sl_str_t want = SL_STR("application/grpc");
    return type.len >= want.len && sl_str_eq_nocase(sl_str(type.data, want.len), want) &&
           (type.len == want.len || type.data[want.len] == '+' || type.data[want.len] == ';' || type.data[want.len] == ' ');
}

static void got_headers(sl_grpc_stream_t *s, const sl_grpc_field_t *fields, size_t n, bool end) {
    uint32_t http_status = small_number(block_value(fields, n, ":status"));
    char text[64];
    if (http_status < 200) {
        return; /* informational */
    }
    s->answered = true;
    bool trailers_only = end && (http_status == 200 || block_value(fields, n, "grpc-status").data != NULL);
    s->conn->events.metadata(s->user, false, fields, trailers_only ? 0 : n);
    if (s->ended) {
        return;
    }
    if (trailers_only) {
        got_trailers(s, fields, n);
    } else if (http_status != 200) {
        snprintf(text, sizeof(text), "the answer has the HTTP status %u", http_status);
        stream_refuse(s, sl_grpc_from_http(http_status), text);
    } else if (!is_grpc(block_value(fields, n, "content-type"))) {
        stream_refuse(s, SL_GRPC_UNKNOWN, "the answer has another content-type than application/grpc");
    }
}

static void block_done(sl_grpc_stream_t *s, bool end) {
    sl_grpc_field_t fields[SL_GRPC_FIELDS_MAX];
    size_t n = s->n_places;
    if (s->bad_block) {
        stream_refuse(s, SL_GRPC_RESOURCE_EXHAUSTED, "the metadata is larger than allowed");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const place_t *p = &s->places[i];
        fields[i] = (sl_grpc_field_t){sl_str(s->text.data + p->name, p->name_len), sl_str(s->text.data + p->value, p->value_len)};
    }
    if (!s->answered) {
        got_headers(s, fields, n, end);
    } else if (end) {
        got_trailers(s, fields, n);
    }
}

/* ---- what arrives: messages ---- */

static bool prefix_done(sl_grpc_stream_t *s) {
    const uint8_t *p = s->prefix;
    s->size = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
    if (p[0] != 0) {
        stream_refuse(s, SL_GRPC_INTERNAL, p[0] == 1 ? "a compressed message came, which was not asked for" : "a malformed message came");
        return false;
    }
    if (s->size > s->conn->limits.message) {
        stream_refuse(s, SL_GRPC_RESOURCE_EXHAUSTED, "a message is larger than allowed");
        return false;
    }
    return true;
}

/* The buffer is taken out of the stream, which may be reset by the event. */
static void message_done(sl_grpc_stream_t *s) {
    sl_buf_t message = s->message;
    s->conn->received -= message.len;
    s->n_prefix = 0;
    sl_buf_init_under(&s->message, s->conn->limits.message, s->conn->limits.shared);
    s->conn->events.message(s->user, message.data != NULL ? sl_buf_str(&message) : SL_STR(""));
    if (!s->ended && message.cap <= RETAINED && s->message.data == NULL) {
        s->message = message;
        sl_buf_reset(&s->message);
        return;
    }
    sl_buf_deinit(&message);
}

static size_t message_part(sl_grpc_stream_t *s, const uint8_t *data, size_t len) {
    size_t part = s->size - s->message.len;
    part = part < len ? part : len;
    if (part > s->conn->limits.received - s->conn->received || sl_buf_append(&s->message, data, part) != SL_OK) {
        stream_refuse(s, SL_GRPC_RESOURCE_EXHAUSTED, "there is no room for the message");
        return len;
    }
    s->conn->received += part;
    return part;
}

static void got_data(sl_grpc_stream_t *s, const uint8_t *data, size_t len) {
    while (len != 0 && !s->ended) {
        size_t part = 1;
        if (s->n_prefix < PREFIX) {
            s->prefix[s->n_prefix++] = *data;
            if (s->n_prefix == PREFIX && !prefix_done(s)) {
                return;
            }
        } else {
            part = message_part(s, data, len);
        }
        data += part;
        len -= part;
        if (!s->ended && s->n_prefix == PREFIX && s->message.len == s->size) {
            message_done(s);
        }
    }
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *user) {
    (void)flags;
    (void)user;
    sl_grpc_stream_t *s = stream_of(session, id);
    if (s != NULL) {
        got_data(s, data, len);
    }
    return 0;
}

/* ---- frames ---- */

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    sl_grpc_t *conn = user;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        conn->draining = true;
        return 0;
    }
    sl_grpc_stream_t *s = frame->hd.stream_id != 0 ? stream_of(session, frame->hd.stream_id) : NULL;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (s == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        block_done(s, end);
    } else if (frame->hd.type == NGHTTP2_DATA && end) {
        tell_closed(s, SL_GRPC_UNKNOWN, SL_STR("the answer ended without a status"), false);
    }
    if (end && s->ended && nghttp2_session_get_stream_local_close(session, s->id) == 0) {
        /* The peer has said all: what this side still has is of no use. */
        reset_on_wire(s, NGHTTP2_NO_ERROR);
    }
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    (void)user;
    sl_grpc_stream_t *s = frame->hd.type == NGHTTP2_HEADERS ? nghttp2_session_get_stream_user_data(session, frame->hd.stream_id) : NULL;
    if (s != NULL) {
        s->opened = true;
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user) {
    (void)user;
    sl_grpc_stream_t *s = nghttp2_session_get_stream_user_data(session, id);
    char text[80];
    if (s == NULL) {
        return 0;
    }
    if (!s->ended) {
        snprintf(text, sizeof(text), "the stream was reset: %s", nghttp2_http2_strerror(code));
        tell_closed(s, from_reset(code), sl_cstr(text), code == NGHTTP2_REFUSED_STREAM && !s->answered);
    }
    stream_free(s);
    return 0;
}

/* ---- what goes out ---- */

static ssize_t read_out(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags, nghttp2_data_source *source,
                        void *user) {
    (void)source;
    (void)user;
    sl_grpc_stream_t *s = stream_of(session, id);
    if (s == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* it is being reset */
    }
    size_t n = s->out.len - s->out_at;
    if (n == 0 && !s->finished) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    n = n < len ? n : len;
    if (n != 0) {
        memcpy(buf, s->out.data + s->out_at, n);
    }
    s->out_at += n;
    if (s->out_at == s->out.len) {
        s->out_at = 0;
        s->out.cap > RETAINED ? sl_buf_deinit(&s->out) : sl_buf_reset(&s->out);
        *flags |= s->finished ? (uint32_t)NGHTTP2_DATA_FLAG_EOF : 0;
    }
    return (ssize_t)n;
}

static void wake_out(sl_grpc_stream_t *s) {
    if (s->deferred) {
        s->deferred = false;
        nghttp2_session_resume_data(s->conn->session, s->id);
    }
}

sl_status_t sl_grpc_send(sl_grpc_stream_t *s, sl_str_t message) {
    size_t waiting = s->out.len - s->out_at, most = s->conn->limits.queued;
    if (s->finished || s->ended) {
        return SL_INVALID;
    }
    if (message.len > most || message.len + PREFIX > most - waiting) {
        return SL_AGAIN;
    }
    if (s->out_at >= waiting) { /* moves less than has been sent since the last time */
        sl_buf_splice(&s->out, 0, s->out_at, NULL, 0);
        s->out_at = 0;
    }
    uint32_t n = (uint32_t)message.len;
    uint8_t prefix[PREFIX] = {0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    if (sl_buf_reserve(&s->out, PREFIX + message.len) != SL_OK) {
        s->out.failed = false; /* what is queued is whole */
        return SL_NO_MEMORY;
    }
    sl_buf_append(&s->out, prefix, PREFIX);
    sl_buf_append_str(&s->out, message);
    wake_out(s);
    return SL_OK;
}

void sl_grpc_finish(sl_grpc_stream_t *s) {
    if (!s->finished && !s->ended) {
        s->finished = true;
        wake_out(s);
    }
}

/* ---- opening ---- */

static bool path_part(sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c <= ' ' || c >= 0x7f || c == '?' || c == '#') {
            return false;
        }
    }
    return s.len != 0 && s.len <= PART_MAX;
}

static bool is_ours(sl_str_t name) {
    static const char *const names[] = {
        "te",         "content-type",     "content-length",    "grpc-timeout",         "grpc-encoding", "host",        "connection",
        "keep-alive", "proxy-connection", "transfer-encoding", "grpc-accept-encoding", "upgrade",       "grpc-status", "grpc-message"};
    if (name.len == 0 || name.data[0] == ':') {
        return true;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (sl_str_eq(name, sl_cstr(names[i]))) {
            return true;
        }
    }
    return !nghttp2_check_header_name((const uint8_t *)name.data, name.len);
}

static nghttp2_nv pair(sl_str_t name, sl_str_t value) {
    return (nghttp2_nv){(uint8_t *)name.data, (uint8_t *)value.data, name.len, value.len, NGHTTP2_NV_FLAG_NONE};
}

static int32_t submit(sl_grpc_t *conn, const sl_grpc_request_t *r, sl_str_t path, sl_grpc_stream_t *s) {
    nghttp2_nv fields[REQUEST_FIELDS_MAX];
    nghttp2_data_provider body = {.read_callback = read_out};
    char timeout[16];
    size_t n = 0;
    fields[n++] = pair(SL_STR(":method"), SL_STR("POST"));
    fields[n++] = pair(SL_STR(":scheme"), r->https ? SL_STR("https") : SL_STR("http"));
    fields[n++] = pair(SL_STR(":path"), path);
    fields[n++] = pair(SL_STR(":authority"), r->authority);
    fields[n++] = pair(SL_STR("te"), SL_STR("trailers"));
    fields[n++] = pair(SL_STR("content-type"), SL_STR("application/grpc"));
    if (r->timeout_ms != 0) {
        sl_grpc_timeout_text(r->timeout_ms, timeout, sizeof(timeout));
        fields[n++] = pair(SL_STR("grpc-timeout"), sl_cstr(timeout));
    }
    for (size_t i = 0; i < r->n_metadata && n < REQUEST_FIELDS_MAX; i++) {
        sl_str_t value = r->metadata[i].value;
        if (!is_ours(r->metadata[i].name) && nghttp2_check_header_value((const uint8_t *)value.data, value.len)) {
            fields[n++] = pair(r->metadata[i].name, value);
        }
    }
    return nghttp2_submit_request(conn->session, NULL, fields, n, &body, s);
}

static sl_grpc_stream_t *stream_new(sl_grpc_t *conn, void *user) {
    sl_grpc_stream_t *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->conn = conn;
    s->user = user;
    sl_buf_init_under(&s->text, conn->limits.metadata, conn->limits.shared);
    sl_buf_init_under(&s->message, conn->limits.message, conn->limits.shared);
    sl_buf_init_under(&s->out, 2 * conn->limits.queued, conn->limits.shared); /* half of it may have been sent */
    s->next = conn->streams;
    s->at = &conn->streams;
    if (s->next != NULL) {
        s->next->at = &s->next;
    }
    conn->streams = s;
    return s;
}

sl_status_t sl_grpc_open(sl_grpc_t *conn, const sl_grpc_request_t *r, void *user, sl_grpc_stream_t **out) {
    if (!path_part(r->service) || !path_part(r->method) || !path_part(r->authority)) {
        return SL_INVALID;
    }
    if (!sl_grpc_usable(conn)) {
        return SL_CONFLICT;
    }
    sl_buf_t path;
    sl_buf_init(&path, conn->limits.metadata);
    sl_buf_printf(&path, "/%.*s/%.*s", SL_FMT(r->service), SL_FMT(r->method));
    sl_grpc_stream_t *s = path.failed ? NULL : stream_new(conn, user);
    int32_t id = s == NULL ? -1 : submit(conn, r, sl_buf_str(&path), s);
    sl_buf_deinit(&path);
    if (id < 0) {
        if (s != NULL) {
            stream_free(s);
        }
        return id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE ? SL_CONFLICT : SL_NO_MEMORY;
    }
    s->id = id;
    conn->n_streams++;
    *out = s;
    return SL_OK;
}

/* ---- the connection ---- */

sl_status_t sl_grpc_feed(sl_grpc_t *conn, const void *data, size_t len, sl_err_t *err) {
    if (conn->lost) {
        return sl_err_set(err, SL_FAILED, "the connection is lost");
    }
    ssize_t n = nghttp2_session_mem_recv(conn->session, data, len);
    if (n < 0) {
        return sl_err_set(err, SL_FAILED, "HTTP/2: %s", nghttp2_strerror((int)n));
    }
    return SL_OK;
}

sl_status_t sl_grpc_take(sl_grpc_t *conn, sl_str_t *out, sl_err_t *err) {
    *out = SL_STR_NULL;
    if (conn->lost) {
        return SL_OK;
    }
    if (conn->out_at == conn->out.len) {
        conn->out_at = 0;
        sl_buf_reset(&conn->out);
    }
    while (conn->out.len - conn->out_at < TAKE_BYTES && conn->out.len < 2 * TAKE_BYTES) {
        const uint8_t *data;
        ssize_t n = nghttp2_session_mem_send(conn->session, &data);
        if (n < 0 || sl_buf_append(&conn->out, data, (size_t)n) != SL_OK) {
            return sl_err_set(err, SL_FAILED, "HTTP/2: %s", n < 0 ? nghttp2_strerror((int)n) : "out of memory");
        }
        if (n == 0) {
            break;
        }
    }
    *out = sl_str(conn->out.data + conn->out_at, conn->out.len - conn->out_at);
    return SL_OK;
}

void sl_grpc_written(sl_grpc_t *conn, size_t n) {
    size_t left = conn->out.len - conn->out_at;
    conn->out_at += n < left ? n : left;
}

void sl_grpc_lost(sl_grpc_t *conn, const char *why) {
    conn->lost = true;
    /* An event may end other streams, but none is freed before the connection is. */
    for (sl_grpc_stream_t *s = conn->streams; s != NULL; s = s->next) {
        tell_closed(s, SL_GRPC_UNAVAILABLE, sl_cstr(why), !s->opened);
    }
}

size_t sl_grpc_streams(const sl_grpc_t *conn) {
    return conn->n_streams;
}

bool sl_grpc_usable(const sl_grpc_t *conn) {
    return !conn->lost && !conn->draining && nghttp2_session_check_request_allowed(conn->session);
}

bool sl_grpc_over(const sl_grpc_t *conn) {
    return conn->lost || (!nghttp2_session_want_read(conn->session) && !nghttp2_session_want_write(conn->session));
}

bool sl_grpc_room(const sl_grpc_t *conn) {
    return sl_grpc_usable(conn) &&
           conn->n_streams < nghttp2_session_get_remote_settings(conn->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

static void set_callbacks(nghttp2_session_callbacks *callbacks) {
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}

static bool session_start(sl_grpc_t *conn) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option = NULL;
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                               {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0},
                                               {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
                                               {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)conn->limits.metadata}};
    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        return false;
    }
    set_callbacks(callbacks);
    bool ok = nghttp2_option_new(&option) == 0;
    if (ok) {
        nghttp2_option_set_no_closed_streams(option, 1);
        ok = nghttp2_session_client_new2(&conn->session, callbacks, conn, option) == 0;
        nghttp2_option_del(option);
    }
    nghttp2_session_callbacks_del(callbacks);
    return ok && nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings, sizeof(settings) / sizeof(settings[0])) == 0 &&
           nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) == 0;
}

sl_grpc_t *sl_grpc_new(const sl_grpc_events_t *events, const sl_grpc_limits_t *limits) {
    sl_grpc_t *conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return NULL;
    }
    conn->events = *events;
    conn->limits = limits != NULL ? *limits : (sl_grpc_limits_t){0};
    sl_grpc_limits_t *l = &conn->limits;
    l->message = l->message != 0 ? l->message : (size_t)16 << 20;
    l->received = l->received != 0 ? l->received : (size_t)64 << 20;
    l->queued = l->queued != 0 ? l->queued : (size_t)16 << 20;
    l->metadata = l->metadata != 0 ? l->metadata : (size_t)64 << 10;
    sl_buf_init(&conn->out, 4 * TAKE_BYTES);
    if (!session_start(conn)) {
        sl_grpc_free(conn);
        return NULL;
    }
    return conn;
}

void sl_grpc_free(sl_grpc_t *conn) {
    if (conn == NULL) {
        return;
    }
    if (conn->session != NULL) {
        nghttp2_session_del(conn->session);
    }
    while (conn->streams != NULL) {
        stream_free(conn->streams);
    }
    sl_buf_deinit(&conn->out);
    free(conn);
}
