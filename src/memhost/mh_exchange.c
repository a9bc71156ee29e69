#include "mh_int.h"

#include <stdio.h>
#include <stdlib.h>

static const pw_map_t headers_of[2] = {PW_MAP_REQUEST_HEADERS, PW_MAP_RESPONSE_HEADERS};
static const pw_map_t trailers_of[2] = {PW_MAP_REQUEST_TRAILERS, PW_MAP_RESPONSE_TRAILERS};

static void finish(mh_stream_t *s, mh_outcome_t outcome) {
    if (s->outcome == MH_PAUSED) {
        s->outcome = outcome;
        s->flow[0].at = s->flow[1].at = MH_AT_END;
    }
}

/* ---- what goes out ---- */

static void point(mh_flow_t *f) {
    f->sent.headers = f->headers.pairs;
    f->sent.n_headers = f->headers.n;
    f->sent.trailers = f->trailers.pairs;
    f->sent.n_trailers = f->trailers.n;
    f->sent.body = sl_buf_str(&f->body);
}

static void send_headers(mh_stream_t *s, pw_dir_t dir) {
    mh_flow_t *f = &s->flow[dir];
    const mh_map_t *m = &s->maps[headers_of[dir]];
    f->sent.headers_sent = mh_map_copy(&f->headers, m->pairs, m->n) == SL_OK;
    point(f);
}

static void send_data(mh_flow_t *f, sl_str_t data) {
    if (data.len != 0) {
        sl_buf_append_str(&f->body, data);
        f->sent.n_writes++;
        point(f);
    }
}

static void send_end(mh_stream_t *s, pw_dir_t dir) {
    mh_flow_t *f = &s->flow[dir];
    const mh_map_t *m = &s->maps[trailers_of[dir]];
    if (m->present) {
        mh_map_copy(&f->trailers, m->pairs, m->n);
    }
    f->sent.ended = true;
    f->at = MH_AT_END;
    point(f);
}

static void take(mh_stream_t *s, pw_dir_t dir, const pw_out_t *out, sl_str_t input) {
    mh_flow_t *f = &s->flow[dir];
    if (out->headers && !f->sent.headers_sent) {
        send_headers(s, dir);
    }
    send_data(f, out->input ? input : out->data);
    f->sent.changed = f->sent.changed || out->changed;
    if ((out->eos || out->trailers) && !f->sent.ended) {
        send_end(s, dir);
    }
}

/* ---- answers that the proxy makes itself ---- */

static void reply_headers_add(mh_stream_t *s, const char *key, sl_str_t value) {
    mh_map_append(&s->reply_headers, sl_cstr(key), value);
}

static void reply_number(mh_stream_t *s, const char *key, size_t number) {
    char text[24];
    snprintf(text, sizeof(text), "%zu", number);
    reply_headers_add(s, key, sl_cstr(text));
}

static void reply_begin(mh_stream_t *s, uint32_t status, sl_str_t body) {
    mh_map_clear(&s->reply_headers);
    free((char *)s->reply_body.data);
    s->reply_body = mh_dup(body);
    reply_number(s, ":status", status);
    if (s->reply_body.len != 0) {
        reply_number(s, "content-length", s->reply_body.len);
    }
}

static void reply_end(mh_stream_t *s) {
    bool has_body = s->reply_body.len != 0;
    s->reply = (mh_message_t){
        .headers = s->reply_headers.pairs, .n_headers = s->reply_headers.n, .chunks = &s->reply_body, .n_chunks = has_body ? 1 : 0};
}

static bool has_content_type(const pw_reply_t *r) {
    for (size_t i = 0; i < r->n_headers; i++) {
        if (sl_str_eq_nocase(r->headers[i].key, SL_STR("content-type"))) {
            return true;
        }
    }
    return false;
}

static void reply_from_filter(mh_stream_t *s, const pw_reply_t *r) {
    reply_begin(s, r->status, r->body);
    if (r->body.len != 0 && !has_content_type(r)) {
        reply_headers_add(s, "content-type", SL_STR("text/plain"));
    }
    for (size_t i = 0; i < r->n_headers; i++) {
        mh_map_append(&s->reply_headers, r->headers[i].key, r->headers[i].value);
    }
    if (r->grpc_status >= 0) {
        reply_number(s, "grpc-status", (size_t)r->grpc_status);
    }
    reply_end(s);
}

/* As it is, past the callbacks. */
static void reply_send(mh_stream_t *s) {
    mh_flow_t *f = &s->flow[PW_DIR_RESPONSE];
    f->sent.headers_sent = mh_map_copy(&f->headers, s->reply.headers, s->reply.n_headers) == SL_OK;
    send_data(f, s->reply_body);
    f->sent.ended = true;
    point(f);
    finish(s, MH_DONE);
}

static void flow_begin(mh_stream_t *s, pw_dir_t dir, const mh_message_t *in);

/* The answer takes the place of the response: through the callbacks when none has seen a response yet. */
static void reply_route(mh_stream_t *s, pw_dir_t dir) {
    mh_flow_t *response = &s->flow[PW_DIR_RESPONSE];
    s->flow[PW_DIR_REQUEST].at = MH_AT_END;
    if (response->sent.headers_sent) {
        finish(s, MH_RESET);
    } else if (dir == PW_DIR_RESPONSE || response->begun) {
        reply_send(s);
    } else {
        flow_begin(s, PW_DIR_RESPONSE, &s->reply);
    }
}

static void obey(mh_stream_t *s, pw_dir_t dir, pw_verdict_t verdict) {
    const pw_reply_t *r;
    switch (verdict) {
    case PW_CONTINUE:
    case PW_WAIT:
        return;
    case PW_REPLY:
        r = pw_stream_reply(s->pw);
        if (r == NULL) { /* against the contract: seen by tests as a reset */
            finish(s, MH_RESET);
            return;
        }
        s->replied = true;
        reply_from_filter(s, r);
        reply_route(s, dir);
        return;
    case PW_RESET:
        finish(s, MH_RESET);
        return;
    case PW_FAIL:
        reply_begin(s, pw_stream_failure(s->pw), SL_STR(""));
        reply_end(s);
        reply_route(s, dir);
        return;
    }
}

/* ---- what comes in ---- */

static void flow_begin(mh_stream_t *s, pw_dir_t dir, const mh_message_t *in) {
    mh_flow_t *f = &s->flow[dir];
    f->in = in;
    f->begun = true;
    f->at = MH_AT_HEADERS;
    mh_map_fill(s, headers_of[dir], in->headers, in->n_headers);
}

static void give_headers(mh_stream_t *s, pw_dir_t dir) {
    mh_flow_t *f = &s->flow[dir];
    bool eos = f->in->n_chunks == 0 && f->in->n_trailers == 0 && !f->in->late_end;
    pw_out_t out = {0};
    f->at = eos ? MH_AT_END : MH_AT_BODY;
    pw_verdict_t verdict = pw_stream_headers(s->pw, dir, eos, &out);
    if (verdict == PW_CONTINUE) {
        out.headers = true;
        out.eos = out.eos || (eos && !out.made);
    }
    take(s, dir, &out, SL_STR_NULL);
    obey(s, dir, verdict);
}

static void give_body(mh_stream_t *s, pw_dir_t dir) {
    mh_flow_t *f = &s->flow[dir];
    sl_str_t chunk = f->chunk < f->in->n_chunks ? f->in->chunks[f->chunk] : SL_STR_NULL;
    bool eos = f->in->n_trailers == 0 && (f->in->late_end ? f->chunk >= f->in->n_chunks : f->chunk + 1 >= f->in->n_chunks);
    f->chunk++;
    f->at = eos ? MH_AT_END : f->at;
    pw_out_t out = {0};
    pw_verdict_t verdict = pw_stream_body(s->pw, dir, &chunk, chunk.len != 0 ? 1 : 0, eos, &out);
    take(s, dir, &out, chunk);
    obey(s, dir, verdict);
}

static void give_trailers(mh_stream_t *s, pw_dir_t dir) {
    s->flow[dir].at = MH_AT_END;
    mh_map_fill(s, trailers_of[dir], s->flow[dir].in->trailers, s->flow[dir].in->n_trailers);
    pw_out_t out = {0};
    pw_verdict_t verdict = pw_stream_trailers(s->pw, dir, &out);
    take(s, dir, &out, SL_STR_NULL);
    obey(s, dir, verdict);
}

/* Gives one piece, if the chain takes one now. */
static bool step(mh_stream_t *s, pw_dir_t dir) {
    mh_flow_t *f = &s->flow[dir];
    if (!f->begun || f->at == MH_AT_END || s->outcome != MH_PAUSED) {
        return false;
    }
    if (f->at == MH_AT_HEADERS) {
        give_headers(s, dir);
        return true;
    }
    if (pw_stream_paused(s->pw, dir) && !pw_stream_wants_body(s->pw, dir)) {
        return false;
    }
    if (f->chunk < f->in->n_chunks || f->in->n_trailers == 0) {
        give_body(s, dir);
    } else {
        give_trailers(s, dir);
    }
    return true;
}

static bool response_may_begin(const mh_stream_t *s, const mh_message_t *response) {
    const mh_sent_t *up = &s->flow[PW_DIR_REQUEST].sent;
    return response != NULL && !s->flow[PW_DIR_RESPONSE].begun && (up->ended || (s->early_response && up->headers_sent));
}

static void advance(mh_stream_t *s) {
    bool moved = true;
    while (moved && s->outcome == MH_PAUSED) {
        moved = step(s, PW_DIR_REQUEST);
        if (response_may_begin(s, s->flow[PW_DIR_RESPONSE].in)) {
            flow_begin(s, PW_DIR_RESPONSE, s->flow[PW_DIR_RESPONSE].in);
        }
        moved = step(s, PW_DIR_RESPONSE) || moved;
        if (s->flow[0].body.failed || s->flow[1].body.failed) {
            finish(s, MH_RESET);
        }
        if (s->flow[PW_DIR_RESPONSE].sent.ended) {
            finish(s, MH_DONE);
        }
    }
}

static void resume(mh_stream_t *s, pw_dir_t dir) {
    pw_out_t out = {0};
    pw_verdict_t verdict = pw_stream_resume(s->pw, dir, &out);
    take(s, dir, &out, SL_STR_NULL);
    obey(s, dir, verdict);
}

bool mh_exchange_continue(mh_stream_t *s) {
    bool any = false;
    for (int dir = 0; dir < 2; dir++) {
        if (mh_stream_woken(s, (pw_dir_t)dir) && s->outcome == MH_PAUSED) {
            any = true;
            resume(s, (pw_dir_t)dir);
        }
    }
    if (any) {
        advance(s);
    }
    return any;
}

/* ---- the exchange ---- */

mh_outcome_t mh_exchange(mh_stream_t *s, const mh_message_t *request, const mh_message_t *response, bool early_response) {
    s->playing = true;
    s->early_response = early_response;
    sl_buf_init(&s->flow[0].body, MH_BODY_BYTES);
    sl_buf_init(&s->flow[1].body, MH_BODY_BYTES);
    s->flow[PW_DIR_RESPONSE].in = response;
    flow_begin(s, PW_DIR_REQUEST, request);
    advance(s);
    mh_run(s->mh);
    return s->outcome;
}

mh_outcome_t mh_exchange_outcome(const mh_stream_t *s) {
    return s->outcome;
}

const mh_sent_t *mh_exchange_upstream(const mh_stream_t *s) {
    return &s->flow[PW_DIR_REQUEST].sent;
}

const mh_sent_t *mh_exchange_downstream(const mh_stream_t *s) {
    return &s->flow[PW_DIR_RESPONSE].sent;
}

sl_str_t mh_sent_header(const mh_sent_t *m, const char *key) {
    for (size_t i = 0; i < m->n_headers; i++) {
        if (sl_str_eq_nocase(m->headers[i].key, sl_cstr(key))) {
            return m->headers[i].value;
        }
    }
    return SL_STR_NULL;
}

uint32_t mh_exchange_status(const mh_stream_t *s) {
    sl_str_t text = mh_sent_header(mh_exchange_downstream(s), ":status");
    uint32_t status = 0;
    for (size_t i = 0; i < text.len && i < 3; i++) {
        status = status * 10 + (uint32_t)(text.data[i] - '0');
    }
    return status;
}

bool mh_exchange_replied(const mh_stream_t *s) {
    return s->replied;
}

void mh_exchange_client_gone(mh_stream_t *s) {
    if (s->outcome == MH_PAUSED) {
        pw_stream_abort_request(s->pw);
        finish(s, MH_RESET);
    }
}

void mh_exchange_deinit(mh_stream_t *s) {
    for (size_t i = 0; i < 2; i++) {
        mh_map_clear(&s->flow[i].headers);
        mh_map_clear(&s->flow[i].trailers);
        sl_buf_deinit(&s->flow[i].body);
    }
    mh_map_clear(&s->reply_headers);
    free((char *)s->reply_body.data);
}
