/* The bytes of a call's request. */
#include "ngx_http_sluice_call.h"

static sl_str_t find(const pw_http_call_t *request, const char *key) {
    for (size_t i = 0; i < request->n_headers; i++) {
        if (sl_str_eq(request->headers[i].key, sl_cstr(key))) {
            return request->headers[i].value;
        }
    }
    return SL_STR_NULL;
}

static ngx_uint_t one_word(sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        if ((u_char)s.data[i] <= ' ' || s.data[i] == 0x7f) {
            return 0;
        }
    }
    return s.len != 0;
}

/* Framing and the connection are ours. */
static ngx_uint_t skipped(sl_str_t key, sl_str_t value) {
    static const char *const names[] = {"host",       "connection", "content-length",  "transfer-encoding",
                                        "keep-alive", "upgrade",    "proxy-connection"};

    if (!ngx_http_sluice_header_valid(key, value) || key.data[0] == ':') {
        return 1;
    }
    for (ngx_uint_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (sl_str_eq_nocase(key, sl_cstr(names[i]))) {
            return 1;
        }
    }
    return 0;
}

static void put_pairs(sl_buf_t *out, const pw_pair_t *pairs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (skipped(pairs[i].key, pairs[i].value)) {
            continue;
        }
        (void)sl_buf_append_str(out, pairs[i].key);
        (void)sl_buf_append(out, ": ", 2);
        (void)sl_buf_append_str(out, pairs[i].value);
        (void)sl_buf_append(out, "\r\n", 2);
    }
}

/* WasmX always says a length and asks for the connection to be closed. */
static ngx_uint_t says_length(const ngx_http_sluice_call_t *call, const pw_http_call_t *request, sl_str_t method) {
    return request->body.len != 0 || call->wasmx || sl_str_eq(method, SL_STR("POST")) || sl_str_eq(method, SL_STR("PUT")) ||
           sl_str_eq(method, SL_STR("PATCH"));
}

/* Enough for most requests: their memory is got at once. */
static size_t size_of(const pw_http_call_t *request) {
    size_t size = request->body.len + 256;

    for (size_t i = 0; i < request->n_headers; i++) {
        size += request->headers[i].key.len + request->headers[i].value.len + 4;
    }
    return size;
}

static void put_request(sl_buf_t *out, const ngx_http_sluice_call_t *call, const pw_http_call_t *request, sl_str_t method, sl_str_t path,
                        sl_str_t authority) {
    (void)sl_buf_reserve(out, size_of(request));
    (void)sl_buf_printf(out, "%.*s %.*s HTTP/1.1\r\nHost: %.*s\r\n", SL_FMT(method), SL_FMT(path), SL_FMT(authority));
    if (!call->keep) {
        (void)sl_buf_append_cstr(out, "Connection: close\r\n");
    }
    if (request->n_trailers != 0) {
        (void)sl_buf_append_cstr(out, "Transfer-Encoding: chunked\r\n");
    } else if (says_length(call, request, method)) {
        (void)sl_buf_printf(out, "Content-Length: %zu\r\n", request->body.len);
    }
    put_pairs(out, request->headers, request->n_headers);
    (void)sl_buf_append(out, "\r\n", 2);
    if (request->n_trailers == 0) {
        (void)sl_buf_append_str(out, request->body);
        return;
    }
    if (request->body.len != 0) {
        (void)sl_buf_printf(out, "%zx\r\n", request->body.len);
        (void)sl_buf_append_str(out, request->body);
        (void)sl_buf_append(out, "\r\n", 2);
    }
    (void)sl_buf_append(out, "0\r\n", 3);
    put_pairs(out, request->trailers, request->n_trailers);
    (void)sl_buf_append(out, "\r\n", 2);
}

sl_status_t ngx_http_sluice_call_write(ngx_http_sluice_call_t *call, const pw_http_call_t *request) {
    sl_str_t method = find(request, ":method"), path = find(request, ":path"), authority = find(request, ":authority");
    if (authority.len == 0) {
        authority = request->upstream;
    }
    if (!one_word(method) || !one_word(path) || !one_word(authority)) {
        return SL_INVALID;
    }
    call->to.tls = sl_str_eq_nocase(find(request, ":scheme"), SL_STR("https"));
    call->to_head = sl_str_eq(method, SL_STR("HEAD"));
    call->once = sl_str_eq(method, SL_STR("POST")) || sl_str_eq(method, SL_STR("PATCH"));
    call->keep = !call->wasmx && call->scf->call_keepalive != 0;
    put_request(&call->request, call, request, method, path, authority);
    return call->request.failed ? SL_NO_MEMORY : ngx_http_sluice_server_name(call->pool, authority, &call->dial.server_name);
}
