/* $sluice_access_json: one request as a JSON object on one line, for the access log. */
#include "ngx_http_sluice.h"
#include "ngx_http_sluice_gw_observe.h"

#define LINE_MAX_BYTES 65536
#define TEXT_MAX 8192 /* of one value that the client chooses */

/* A string; bytes that are not UTF-8 become what nginx's own escaping makes of them, \\u00XX. */
static void text(sl_buf_t *out, const char *name, sl_str_t value) {
    bool valid;
    value.len = ngx_min(value.len, (size_t)TEXT_MAX);
    while (value.len > 0 && ((unsigned char)value.data[value.len - 1] & 0xc0) == 0x80 && !sl_utf8_valid(value, NULL) &&
           value.len == TEXT_MAX) {
        value.len--; /* cut inside a character */
    }
    valid = sl_utf8_valid(value, NULL);
    sl_buf_printf(out, "\"%s\":\"", name);
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f || (c >= 0x80 && !valid)) {
            sl_buf_printf(out, "\\u%04x", c);
        } else {
            sl_buf_append_char(out, (char)c);
        }
    }
    sl_buf_append_cstr(out, "\",");
}

static void text_or_null(sl_buf_t *out, const char *name, sl_str_t value) {
    if (value.data != NULL && value.len != 0) {
        text(out, name, value);
    } else {
        sl_buf_printf(out, "\"%s\":null,", name);
    }
}

static void header(sl_buf_t *out, ngx_http_request_t *r, const char *name, sl_str_t wanted) {
    ngx_table_elt_t *h = ngx_http_sluice_gw_request_header(r, wanted, 0);
    text_or_null(out, name, h != NULL ? ngx_sluice_to_sl(h->value) : SL_STR_NULL);
}

/* The last comma of a list becomes its end. */
static void close_with(sl_buf_t *out, const char *end) {
    if (out->len != 0 && out->data[out->len - 1] == ',') {
        out->len--;
    }
    sl_buf_append_cstr(out, end);
}

static void put_entity(sl_buf_t *out, const char *what, unsigned there, sl_str_t id, sl_str_t name) {
    if (!there) {
        sl_buf_printf(out, "\"%s\":null,", what);
        return;
    }
    sl_buf_printf(out, "\"%s\":{", what);
    text(out, "id", id);
    text_or_null(out, "name", name);
    close_with(out, "},");
}

static void put_upstream(sl_buf_t *out, ngx_http_request_t *r) {
    ngx_http_upstream_state_t *state = r->upstream_states != NULL ? r->upstream_states->elts : NULL;
    ngx_uint_t n = r->upstream_states != NULL ? r->upstream_states->nelts : 0;
    if (n == 0) {
        sl_buf_append_cstr(out, "\"upstream\":null,");
        return;
    }
    sl_buf_append_cstr(out, "\"upstream\":{");
    text_or_null(out, "address", state[n - 1].peer != NULL ? ngx_sluice_to_sl(*state[n - 1].peer) : SL_STR_NULL);
    sl_buf_printf(out, "\"status\":%lu,\"tries\":%lu},", (unsigned long)state[n - 1].status, (unsigned long)n);
}

static void put_latencies(sl_buf_t *out, ngx_http_request_t *r) {
    unsigned long request = (unsigned long)ngx_http_sluice_gw_request_ms(r);
    long upstream = (long)ngx_http_sluice_gw_upstream_ms(r);
    sl_buf_printf(out, "\"latency_ms\":{\"request\":%lu,", request);
    if (upstream >= 0) {
        sl_buf_printf(out, "\"upstream\":%ld,", upstream);
    } else {
        sl_buf_append_cstr(out, "\"upstream\":null,");
    }
    unsigned long theirs = upstream > 0 ? (unsigned long)upstream : 0;
    sl_buf_printf(out, "\"gateway\":%lu},", request > theirs ? request - theirs : 0);
}

static void put_filters(sl_buf_t *out, ngx_http_request_t *r) {
    const pw_stream_t *stream = ngx_http_sluice_stream(r);
    size_t n = stream != NULL ? pw_stream_n_filters(stream) : 0;
    sl_buf_append_cstr(out, "\"filters\":[");
    for (size_t i = 0; i < n; i++) {
        pw_timing_t t;
        pw_stream_timing(stream, i, &t);
        sl_buf_append_char(out, '{');
        text(out, "name", t.filter);
        sl_buf_printf(out, "\"callbacks\":%u,\"time_us\":%.3f},", t.n_callbacks, (double)t.spent_ns / 1000);
    }
    close_with(out, "]");
}

static void put_request(sl_buf_t *out, ngx_http_request_t *r, const ngx_http_sluice_gw_ctx_t *ctx) {
    text(out, "time", sl_str(ngx_cached_http_log_iso8601.data, ngx_cached_http_log_iso8601.len));
    text_or_null(out, "request_id", ctx != NULL ? ngx_sluice_to_sl(ctx->request_id) : SL_STR_NULL);
    text(out, "client_ip", ngx_sluice_to_sl(r->connection->addr_text));
    text_or_null(out, "method", ngx_sluice_to_sl(r->method_name));
    text(out, "scheme", ngx_http_sluice_gw_is_tls(r) ? SL_STR("https") : SL_STR("http"));
    text_or_null(out, "host", ngx_sluice_to_sl(ngx_http_sluice_gw_host(r)));
    text_or_null(out, "uri", ngx_sluice_to_sl(ctx != NULL && ctx->matched ? ctx->original_uri : r->unparsed_uri));
    text_or_null(out, "protocol", ngx_sluice_to_sl(r->http_protocol));
    header(out, r, "user_agent", SL_STR("user-agent"));
    header(out, r, "referer", SL_STR("referer"));
    sl_buf_printf(out, "\"status\":%lu,\"request_bytes\":%ld,\"response_bytes\":%ld,", (unsigned long)ngx_http_sluice_gw_status(r),
                  (long)r->request_length, (long)r->connection->sent);
}

ngx_int_t ngx_http_sluice_gw_access_json(ngx_http_request_t *r, ngx_str_t *line) {
    ngx_http_sluice_gw_ctx_t *ctx = ngx_http_sluice_gw_ctx(r);
    unsigned matched = ctx != NULL && ctx->matched, has_service = matched && ctx->route.has_service;
    sl_buf_t out;
    sl_buf_init(&out, 4 * LINE_MAX_BYTES);
    sl_buf_append_char(&out, '{');
    put_request(&out, r, ctx);
    put_latencies(&out, r);
    put_upstream(&out, r);
    put_entity(&out, "route", matched, matched ? ctx->route.id : SL_STR_NULL, matched ? ctx->route.name : SL_STR_NULL);
    put_entity(&out, "service", has_service, has_service ? ctx->service.id : SL_STR_NULL, has_service ? ctx->service.name : SL_STR_NULL);
    put_filters(&out, r);
    sl_buf_append_char(&out, '}');
    line->len = out.len;
    line->data = out.failed ? NULL : ngx_pnalloc(r->pool, out.len + 1);
    if (line->data != NULL) {
        ngx_memcpy(line->data, out.data, out.len);
    }
    sl_buf_deinit(&out);
    return line->data != NULL ? NGX_OK : NGX_ERROR;
}
