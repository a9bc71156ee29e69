/*
 * Response headers and trailers as maps. What nginx writes by itself at the end (Content-Type, Content-Length, Last-Modified, Server,
 * Date) is shown as if it were in the list, and can be changed and removed.
 */
#include "ngx_http_sluice_int.h"

typedef struct {
    sl_str_t name;
    sl_status_t (*get)(ngx_http_sluice_ctx_t *ctx, sl_str_t *value); /* NULL: only in the list */
    sl_status_t (*set)(ngx_http_sluice_ctx_t *ctx, sl_str_t value);  /* NULL: in the list, with a pointer at `offset` */
    void (*remove)(ngx_http_sluice_ctx_t *ctx);
    size_t offset;       /* in ngx_http_headers_out_t; 0: none */
    size_t multi_offset; /* likewise, of several headers of this name: see multi_push() */
} known_t;

#define POINTER(field) offsetof(ngx_http_headers_out_t, field)

/* All but the first of this name, which it gives; NULL: there is none. */
static ngx_table_elt_t *list_single(ngx_http_request_t *r, sl_str_t key) {
    ngx_table_elt_t *first = NULL;

    for (ngx_list_part_t *part = &r->headers_out.headers.part; part != NULL; part = part->next) {
        ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (h[i].key.len != key.len || !ngx_http_sluice_key_is(&h[i], key)) {
                continue;
            }
            if (first != NULL) {
                h[i].hash = 0;
            } else {
                first = &h[i];
            }
        }
    }
    return first;
}

static void list_hide(ngx_http_request_t *r, sl_str_t key) {
    ngx_table_elt_t *h = list_single(r, key);

    if (h != NULL) {
        h->hash = 0;
    }
}

/* ---- :status --------------------------------------------------------------------------------------------------------------------- */

static sl_status_t get_status(ngx_http_sluice_ctx_t *ctx, sl_str_t *value) {
    ngx_http_request_t *r = ctx->request;
    ngx_uint_t status = r->headers_out.status;
    u_char *p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);

    if (p == NULL) {
        return SL_NO_MEMORY;
    }
    if (status == 0 && r->headers_out.status_line.len >= 3) {
        status = (ngx_uint_t)ngx_atoi(r->headers_out.status_line.data, 3);
    }
    *value = sl_str(p, (size_t)(ngx_sprintf(p, "%03ui", status) - p));
    return SL_OK;
}

static sl_status_t set_status(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    ngx_http_request_t *r = ctx->request;
    ngx_int_t status = value.len == 3 ? ngx_atoi((u_char *)value.data, value.len) : NGX_ERROR;

    if (status == NGX_HTTP_SWITCHING_PROTOCOLS && r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS) {
        return SL_OK;
    }
    if (status < 200 || status > 599 || r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0, "[proxy-wasm] ignoring attempt to set invalid response status: \"%*s\"",
                      value.len, value.data);
        return SL_INVALID;
    }
    r->headers_out.status = (ngx_uint_t)status;
    r->headers_out.status_line.len = 0;
    if (r->err_status != 0) {
        r->err_status = (ngx_uint_t)status;
    }
    return SL_OK;
}

/* ---- headers that are fields ------------------------------------------------------------------------------------------------------- */

static sl_status_t get_content_type(ngx_http_sluice_ctx_t *ctx, sl_str_t *value) {
    ngx_http_headers_out_t *out = &ctx->request->headers_out;
    u_char *p;

    if (out->content_type.len == 0) {
        return SL_NOT_FOUND;
    }
    if (out->content_type_len != out->content_type.len || out->charset.len == 0) {
        *value = ngx_sluice_str(&out->content_type);
        return SL_OK;
    }
    p = ngx_pnalloc(ctx->request->pool, out->content_type.len + sizeof("; charset=") + out->charset.len);
    if (p == NULL) {
        return SL_NO_MEMORY;
    }
    *value = sl_str(p, (size_t)(ngx_sprintf(p, "%V; charset=%V", &out->content_type, &out->charset) - p));
    return SL_OK;
}

static sl_status_t set_content_type(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    ngx_http_headers_out_t *out = &ctx->request->headers_out;
    u_char *end;

    if (ngx_http_sluice_copy(ctx->request->pool, value, &out->content_type) != SL_OK) {
        return SL_NO_MEMORY;
    }
    end = (u_char *)strchr((char *)out->content_type.data, ';');
    out->content_type_len = end != NULL ? (size_t)(end - out->content_type.data) : out->content_type.len;
    while (out->content_type_len > 0 && out->content_type.data[out->content_type_len - 1] == ' ') {
        out->content_type_len--;
    }
    out->content_type_lowcase = NULL;
    out->content_type_hash = 0;
    ngx_str_null(&out->charset);
    return SL_OK;
}

static void remove_content_type(ngx_http_sluice_ctx_t *ctx) {
    ngx_str_null(&ctx->request->headers_out.content_type);
    ctx->request->headers_out.content_type_len = 0;
    ctx->request->headers_out.content_type_lowcase = NULL;
}

static sl_status_t get_content_length(ngx_http_sluice_ctx_t *ctx, sl_str_t *value) {
    ngx_http_request_t *r = ctx->request;
    u_char *p;

    if (r->headers_out.content_length_n < 0) {
        return SL_NOT_FOUND;
    }
    p = ngx_pnalloc(r->pool, NGX_OFF_T_LEN);
    if (p == NULL) {
        return SL_NO_MEMORY;
    }
    *value = sl_str(p, (size_t)(ngx_sprintf(p, "%O", r->headers_out.content_length_n) - p));
    return SL_OK;
}

void ngx_http_sluice_clear_content_length(ngx_http_request_t *r) {
    r->headers_out.content_length_n = -1;
    list_hide(r, SL_STR("content-length"));
    r->headers_out.content_length = NULL;
}

static void remove_content_length(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_sluice_clear_content_length(ctx->request);
}

static sl_status_t set_content_length(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    ngx_http_request_t *r = ctx->request;
    off_t n = ngx_atoof((u_char *)value.data, value.len);

    if (n == NGX_ERROR) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "[proxy-wasm] attempt to set invalid Content-Length response header: \"%*s\"",
                      value.len, value.data);
        return SL_INVALID;
    }
    ngx_http_sluice_clear_content_length(r);
    r->headers_out.content_length_n = n;
    return SL_OK;
}

static sl_status_t get_last_modified(ngx_http_sluice_ctx_t *ctx, sl_str_t *value) {
    ngx_http_request_t *r = ctx->request;
    u_char *p;

    if (r->headers_out.last_modified != NULL || r->headers_out.last_modified_time == -1) {
        return SL_NOT_FOUND; /* in the list, if at all */
    }
    p = ngx_pnalloc(r->pool, sizeof("Mon, 28 Sep 1970 06:00:00 GMT"));
    if (p == NULL) {
        return SL_NO_MEMORY;
    }
    *value = sl_str(p, (size_t)(ngx_http_time(p, r->headers_out.last_modified_time) - p));
    return SL_OK;
}

static void remove_last_modified(ngx_http_sluice_ctx_t *ctx) {
    list_hide(ctx->request, SL_STR("last-modified"));
    ctx->request->headers_out.last_modified = NULL;
    ctx->request->headers_out.last_modified_time = -1;
}

static sl_status_t set_last_modified(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    ngx_http_request_t *r = ctx->request;
    ngx_table_elt_t *h;

    remove_last_modified(ctx);
    h = ngx_http_sluice_list_add_out(r, &r->headers_out.headers, SL_STR("Last-Modified"), value);
    if (h == NULL) {
        return SL_NO_MEMORY;
    }
    r->headers_out.last_modified = h;
    r->headers_out.last_modified_time = ngx_parse_http_time(h->value.data, h->value.len);
    return SL_OK;
}

static sl_status_t get_server(ngx_http_sluice_ctx_t *ctx, sl_str_t *value) {
    ngx_http_core_loc_conf_t *clcf = ngx_http_get_module_loc_conf(ctx->request, ngx_http_core_module);

    if (ctx->request->headers_out.server != NULL) {
        return SL_NOT_FOUND;
    }
    *value = clcf->server_tokens == NGX_HTTP_SERVER_TOKENS_OFF ? SL_STR("nginx") : SL_STR(NGINX_VER);
    return SL_OK;
}

static sl_status_t get_date(ngx_http_sluice_ctx_t *ctx, sl_str_t *value) {
    if (ctx->request->headers_out.date != NULL) {
        return SL_NOT_FOUND;
    }
    *value = sl_str(ngx_cached_http_time.data, ngx_cached_http_time.len);
    return SL_OK;
}

/* A header that is there and hidden keeps nginx from writing its own. */
static void hide_own(ngx_http_sluice_ctx_t *ctx, ngx_table_elt_t **field, sl_str_t name) {
    ngx_http_request_t *r = ctx->request;

    list_hide(r, name);
    if (*field == NULL) {
        *field = ngx_http_sluice_list_add_out(r, &r->headers_out.headers, name, SL_STR(""));
    }
    if (*field != NULL) {
        (*field)->hash = 0;
    }
}

static void remove_server(ngx_http_sluice_ctx_t *ctx) {
    hide_own(ctx, &ctx->request->headers_out.server, SL_STR("Server"));
}

static void remove_date(ngx_http_sluice_ctx_t *ctx) {
    hide_own(ctx, &ctx->request->headers_out.date, SL_STR("Date"));
}

/* nginx would make a path absolute; what a filter says stays as it is. */
static void remove_location(ngx_http_sluice_ctx_t *ctx) {
    list_hide(ctx->request, SL_STR("location"));
    ctx->request->headers_out.location = NULL;
}

static sl_status_t set_location(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    remove_location(ctx);
    return ngx_http_sluice_list_add_out(ctx->request, &ctx->request->headers_out.headers, SL_STR("Location"), value) == NULL ? SL_NO_MEMORY
                                                                                                                             : SL_OK;
}

/* Connection management is nginx's. */
static sl_status_t set_connection(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    ngx_http_request_t *r = ctx->request;

    if (sl_str_eq_nocase(value, SL_STR("close"))) {
        r->keepalive = 0;
        return SL_OK;
    }
    if (sl_str_eq_nocase(value, SL_STR("keep-alive"))) {
        return SL_OK;
    }
    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "[proxy-wasm] attempt to set invalid Connection response header: \"%*s\"", value.len,
                  value.data);
    return SL_OK;
}

/* What belongs to the connection: a second framing beside nginx's own would let the client see another response. */
static sl_status_t set_framing(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                  "[proxy-wasm] ignoring attempt to set a response header that belongs to the connection: \"%*s\"", value.len, value.data);
    return SL_OK;
}

static __attribute__((noinline)) ngx_uint_t is_hop_by_hop_name(sl_str_t key) {
    return sl_str_eq_nocase(key, SL_STR("upgrade")) || sl_str_eq_nocase(key, SL_STR("te"));
}

/* In HTTP/1 these two are headers like others; in HTTP/2 a message that has them is malformed. */
static ngx_inline ngx_uint_t is_hop_by_hop(const ngx_http_request_t *r, sl_str_t key) {
    return r->http_version >= NGX_HTTP_VERSION_20 && is_hop_by_hop_name(key);
}

/* What WasmX's filters are shown besides; in Envoy's view these are not part of the message. */
static sl_status_t get_connection(ngx_http_sluice_ctx_t *ctx, sl_str_t *value) {
    const ngx_http_request_t *r = ctx->request;

    if (ngx_http_sluice_dialect(ctx) != SL_DIALECT_WASMX || r->http_version >= NGX_HTTP_VERSION_20) {
        return SL_NOT_FOUND;
    }
    if (r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS) {
        *value = SL_STR("upgrade");
    } else {
        *value = r->keepalive ? SL_STR("keep-alive") : SL_STR("close");
    }
    return SL_OK;
}

static sl_status_t get_transfer_encoding(ngx_http_sluice_ctx_t *ctx, sl_str_t *value) {
    const ngx_http_request_t *r = ctx->request;

    if (ngx_http_sluice_dialect(ctx) != SL_DIALECT_WASMX || r->http_version != NGX_HTTP_VERSION_11 || r->header_only ||
        r->headers_out.content_length_n >= 0) {
        return SL_NOT_FOUND;
    }
    *value = SL_STR("chunked");
    return SL_OK;
}

static void remove_nothing(ngx_http_sluice_ctx_t *ctx) {
}

static const known_t known[] = {
    {{"Content-Type", 12}, get_content_type, set_content_type, remove_content_type, 0, 0},
    {{"Content-Length", 14}, get_content_length, set_content_length, remove_content_length, 0, 0},
    {{"Last-Modified", 13}, get_last_modified, set_last_modified, remove_last_modified, 0, 0},
    {{"Server", 6}, get_server, NULL, remove_server, POINTER(server), 0},
    {{"Date", 4}, get_date, NULL, remove_date, POINTER(date), 0},
    {{"Location", 8}, NULL, set_location, remove_location, 0, 0},
    {{"Connection", 10}, get_connection, set_connection, remove_nothing, 0, 0},
    {{"Transfer-Encoding", 17}, get_transfer_encoding, set_framing, remove_nothing, 0, 0},
    {{"keep-alive", 10}, NULL, set_framing, remove_nothing, 0, 0},
    {{"proxy-connection", 16}, NULL, set_framing, remove_nothing, 0, 0},
    {{"Content-Encoding", 16}, NULL, NULL, NULL, POINTER(content_encoding), 0},
    {{"Refresh", 7}, NULL, NULL, NULL, POINTER(refresh), 0},
    {{"Content-Range", 13}, NULL, NULL, NULL, POINTER(content_range), 0},
    {{"Accept-Ranges", 13}, NULL, NULL, NULL, POINTER(accept_ranges), 0},
    {{"WWW-Authenticate", 16}, NULL, NULL, NULL, POINTER(www_authenticate), 0},
    {{"Expires", 7}, NULL, NULL, NULL, POINTER(expires), 0},
    {{"ETag", 4}, NULL, NULL, NULL, POINTER(etag), 0},
    {{"Cache-Control", 13}, NULL, NULL, NULL, 0, POINTER(cache_control)},
    {{"Link", 4}, NULL, NULL, NULL, 0, POINTER(link)},
};

#define N_KNOWN (sizeof(known) / sizeof(known[0]))

#define KNOWN_MAX 17 /* length of the longest name */

/* Names of one length are a list: most names that filters write have a length that none of these has, or another first letter. */
static struct {
    uint32_t letters[KNOWN_MAX + 1]; /* that names of this length begin with: bit 1 is a and A */
    u_char of_length[KNOWN_MAX + 1]; /* place in the table and 1; 0: none */
    u_char next[N_KNOWN];
} known_index;

void ngx_http_sluice_out_init(void) {
    ngx_memzero(&known_index, sizeof(known_index));
    for (ngx_uint_t i = N_KNOWN; i > 0; i--) {
        u_char *head = &known_index.of_length[known[i - 1].name.len];
        known_index.letters[known[i - 1].name.len] |= 1u << (known[i - 1].name.data[0] & 31);
        known_index.next[i - 1] = *head;
        *head = (u_char)i;
    }
}

static __attribute__((noinline)) const known_t *known_search(sl_str_t key) {
    for (ngx_uint_t i = known_index.of_length[key.len]; i != 0; i = known_index.next[i - 1]) {
        const known_t *k = &known[i - 1];
        if (((k->name.data[0] ^ key.data[0]) & ~0x20) == 0 && sl_str_eq_nocase(key, k->name)) {
            return k;
        }
    }
    return NULL;
}

static inline const known_t *known_find(sl_str_t key) {
    if (key.len == 0 || key.len > KNOWN_MAX || (known_index.letters[key.len] & (1u << (key.data[0] & 31))) == 0) {
        return NULL;
    }
    return known_search(key);
}

/* ---- the list ------------------------------------------------------------------------------------------------------------------------ */

/* nginx's modules look for these two by themselves: an array up to 1.22, a linked list since 1.23. */
#if (nginx_version >= 1023000)
static ngx_int_t multi_push(ngx_http_request_t *r, ngx_table_elt_t **field, ngx_table_elt_t *h) {
    while (*field != NULL) {
        field = &(*field)->next;
    }
    h->next = NULL;
    *field = h;
    return NGX_OK;
}
#else
static ngx_int_t multi_push(ngx_http_request_t *r, ngx_array_t *field, ngx_table_elt_t *h) {
    ngx_table_elt_t **slot;

    if (field->elts == NULL && ngx_array_init(field, r->pool, 1, sizeof(ngx_table_elt_t *)) != NGX_OK) {
        return NGX_ERROR;
    }
    slot = ngx_array_push(field);
    if (slot == NULL) {
        return NGX_ERROR;
    }
    *slot = h;
    return NGX_OK;
}
#endif

static sl_status_t list_append(ngx_http_request_t *r, const known_t *k, sl_str_t key, sl_str_t value) {
    ngx_table_elt_t *h = ngx_http_sluice_list_add_out(r, &r->headers_out.headers, key, value);

    if (h == NULL) {
        return SL_NO_MEMORY;
    }
    if (k == NULL) {
        return SL_OK;
    }
    if (k->offset != 0) {
        *(ngx_table_elt_t **)((u_char *)&r->headers_out + k->offset) = h;
    }
    if (k->multi_offset != 0) {
        return multi_push(r, (void *)((u_char *)&r->headers_out + k->multi_offset), h) == NGX_OK ? SL_OK : SL_NO_MEMORY;
    }
    return SL_OK;
}

static void remove_key(ngx_http_sluice_ctx_t *ctx, const known_t *k, sl_str_t key) {
    if (k != NULL && k->remove != NULL) {
        k->remove(ctx);
        return;
    }
    list_hide(ctx->request, key);
    if (k != NULL && k->offset != 0) {
        *(ngx_table_elt_t **)((u_char *)&ctx->request->headers_out + k->offset) = NULL;
    }
}

static void remove_all(ngx_http_sluice_ctx_t *ctx) {
    for (ngx_uint_t i = 0; i < N_KNOWN; i++) {
        remove_key(ctx, &known[i], known[i].name);
    }
    for (ngx_list_part_t *part = &ctx->request->headers_out.headers.part; part != NULL; part = part->next) {
        ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            h[i].hash = 0;
        }
    }
}

/* ---- the map --------------------------------------------------------------------------------------------------------------------------
 */

/* WasmX lets filters prepare response headers while the request is on its way; in Envoy the map is not there yet. */
static ngx_uint_t available(const ngx_http_sluice_ctx_t *ctx) {
    return ctx->resp_begun || ngx_http_sluice_dialect(ctx) == SL_DIALECT_WASMX;
}

sl_status_t ngx_http_sluice_out_each(ngx_http_sluice_ctx_t *ctx, ngx_http_sluice_each_pt each, void *ud) {
    sl_str_t value;

    if (!available(ctx)) {
        return SL_NOT_FOUND;
    }
    if (get_status(ctx, &value) == SL_OK && !each(ud, SL_STR(":status"), value)) {
        return SL_OK;
    }
    for (ngx_uint_t i = 0; i < N_KNOWN; i++) {
        if (known[i].get != NULL && known[i].get(ctx, &value) == SL_OK && !each(ud, known[i].name, value)) {
            return SL_OK;
        }
    }
    for (const ngx_list_part_t *part = &ctx->request->headers_out.headers.part; part != NULL; part = part->next) {
        const ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (h[i].hash == 0 || &h[i] == ctx->request->headers_out.content_length) {
                continue; /* the length was shown from its field */
            }
            if (!each(ud, ngx_sluice_str(&h[i].key), ngx_sluice_str(&h[i].value))) {
                return SL_OK;
            }
        }
    }
    return SL_OK;
}

size_t ngx_http_sluice_out_count(ngx_http_sluice_ctx_t *ctx) {
    const ngx_http_headers_out_t *out = &ctx->request->headers_out;
    size_t n = 1;

    if (!available(ctx)) {
        return 0;
    }
    n += (out->content_type.len != 0) + (out->content_length_n >= 0) + (out->last_modified == NULL && out->last_modified_time != -1) +
         (out->server == NULL) + (out->date == NULL);
    for (const ngx_list_part_t *part = &out->headers.part; part != NULL; part = part->next) {
        const ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            n += h[i].hash != 0 && &h[i] != out->content_length;
        }
    }
    return n;
}

sl_status_t ngx_http_sluice_out_get(ngx_http_sluice_ctx_t *ctx, sl_str_t key, sl_str_t *value) {
    const known_t *k;
    ngx_table_elt_t *h;

    if (!available(ctx)) {
        return SL_NOT_FOUND;
    }
    if (key.len != 0 && key.data[0] == ':') {
        return sl_str_eq(key, SL_STR(":status")) ? get_status(ctx, value) : SL_NOT_FOUND;
    }
    k = known_find(key);
    if (k != NULL && k->get != NULL && k->get(ctx, value) == SL_OK) {
        return SL_OK;
    }
    h = ngx_http_sluice_list_find(&ctx->request->headers_out.headers, key);
    if (h == NULL) {
        return SL_NOT_FOUND;
    }
    *value = ngx_sluice_str(&h->value);
    return SL_OK;
}

/* Pseudo headers, and what nginx has to be told of besides the list. */
static __attribute__((noinline)) sl_status_t change_special(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    const known_t *k;

    if (op == PW_MAP_CLEAR) {
        remove_all(ctx);
        return SL_OK;
    }
    if (key.data[0] == ':') {
        if (!sl_str_eq(key, SL_STR(":status"))) {
            return SL_INVALID;
        }
        return op == PW_MAP_REMOVE ? SL_OK : set_status(ctx, value); /* there is always one */
    }
    k = known_find(key);
    if (op == PW_MAP_REMOVE) {
        remove_key(ctx, k, key);
        return SL_OK;
    }
    if (k != NULL && k->set != NULL) {
        return k->set(ctx, value); /* single by nature */
    }
    if (is_hop_by_hop(ctx->request, key)) {
        return set_framing(ctx, value);
    }
    if (op == PW_MAP_REPLACE) {
        remove_key(ctx, k, key);
    }
    return list_append(ctx->request, k, key, value);
}

/* Headers that are only in the list. A new value stands where the first of this name stood; the others go. */
static __attribute__((noinline)) sl_status_t change_plain(ngx_http_request_t *r, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    ngx_table_elt_t *h = op != PW_MAP_ADD ? list_single(r, key) : NULL;

    if (op == PW_MAP_REMOVE) {
        if (h != NULL) {
            h->hash = 0;
        }
        return SL_OK;
    }
    if (h != NULL) {
        return ngx_http_sluice_elt_set(r->pool, h, key, value) == NGX_OK ? SL_OK : SL_NO_MEMORY;
    }
    return ngx_http_sluice_list_add_out(r, &r->headers_out.headers, key, value) != NULL ? SL_OK : SL_NO_MEMORY;
}

sl_status_t ngx_http_sluice_out_change(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    ngx_http_request_t *r = ctx->request;

    if (op == PW_MAP_CLEAR || key.data[0] == ':' || known_find(key) != NULL || is_hop_by_hop(r, key)) {
        return change_special(ctx, op, key, value);
    }
    return change_plain(r, op, key, value);
}

static __attribute__((noinline)) sl_status_t edit_early(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    return available(ctx) ? ngx_http_sluice_out_change(ctx, op, key, value) : SL_NOT_FOUND;
}

sl_status_t ngx_http_sluice_out_edit(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    if (ctx->resp_header_passed) {
        return SL_NOT_FOUND;
    }
    return ctx->resp_begun ? ngx_http_sluice_out_change(ctx, op, key, value) : edit_early(ctx, op, key, value);
}

/* ---- trailers --------------------------------------------------------------------------------------------------------------------------
 */

/* How the message is framed cannot be said when it is over; neither can what belongs to the connection. */
static ngx_uint_t no_trailer(const ngx_http_request_t *r, sl_str_t key) {
    static const sl_str_t names[] = {
        {"content-length", 14}, {"transfer-encoding", 17}, {"trailer", 7}, {"connection", 10},
        {"keep-alive", 10},     {"proxy-connection", 16},  {"host", 4},
    };

    for (ngx_uint_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (sl_str_eq_nocase(key, names[i])) {
            return 1;
        }
    }
    return is_hop_by_hop(r, key);
}

/* Trailers need chunked encoding or HTTP/2: before the headers have gone this can be arranged. */
sl_status_t ngx_http_sluice_trailers_edit(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    ngx_http_request_t *r = ctx->request;
    ngx_list_t *list = &r->headers_out.trailers;
    ngx_table_elt_t *h;

    if (!ctx->resp_begun || ctx->resp_last_out || (ctx->resp_header_passed && !r->chunked && r->http_version < NGX_HTTP_VERSION_20)) {
        return SL_NOT_FOUND;
    }
    if (op == PW_MAP_CLEAR) {
        list->part.nelts = 0;
        list->part.next = NULL;
        list->last = &list->part;
        return SL_OK;
    }
    if (key.data[0] == ':') {
        return SL_INVALID;
    }
    if (op != PW_MAP_REMOVE && no_trailer(r, key)) {
        return set_framing(ctx, value);
    }
    if (op != PW_MAP_ADD) {
        while ((h = ngx_http_sluice_list_find(list, key)) != NULL) {
            h->hash = 0;
        }
    }
    if (op == PW_MAP_REMOVE) {
        return SL_OK;
    }
    if (!ctx->resp_header_passed) {
        r->expect_trailers = 1;
    }
    return ngx_http_sluice_list_add_out(r, list, key, value) == NULL ? SL_NO_MEMORY : SL_OK;
}
