/*
 * Request headers as a map. The list that the client's parser filled is edited in place; nginx's pointers to known headers are found anew
 * after each structural change, because proxying modules walk the list and everything else uses the pointers.
 */
#include "ngx_http_sluice_int.h"

/* ---- lists, also for responses ---------------------------------------------------------------------------------------------- */

ngx_int_t ngx_http_sluice_list_each(const ngx_list_t *list, ngx_http_sluice_each_pt each, void *ud) {
    for (const ngx_list_part_t *part = &list->part; part != NULL; part = part->next) {
        const ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (h[i].hash != 0 && !each(ud, ngx_sluice_str(&h[i].key), ngx_sluice_str(&h[i].value))) {
                return NGX_DONE;
            }
        }
    }
    return NGX_OK;
}

ngx_table_elt_t *ngx_http_sluice_list_find(const ngx_list_t *list, sl_str_t key) {
    for (const ngx_list_part_t *part = &list->part; part != NULL; part = part->next) {
        ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (ngx_http_sluice_key_is(&h[i], key)) {
                return &h[i];
            }
        }
    }
    return NULL;
}

sl_status_t ngx_http_sluice_copy(ngx_pool_t *pool, sl_str_t from, ngx_str_t *to) {
    u_char *p = ngx_pnalloc(pool, from.len + 1);

    if (p == NULL) {
        return SL_NO_MEMORY;
    }
    if (from.len != 0) {
        ngx_memcpy(p, from.data, from.len);
    }
    p[from.len] = '\0';
    to->data = p;
    to->len = from.len;
    return SL_OK;
}

/* Blanks around a value are no part of it; in HTTP/2 they would make the message malformed. */
static sl_str_t trimmed(sl_str_t s) {
    while (s.len != 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s = sl_str(s.data + 1, s.len - 1);
    }
    while (s.len != 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

static inline ngx_uint_t is_blank(char c) {
    return c == ' ' || c == '\t';
}

static inline sl_str_t without_blanks(sl_str_t s) {
    return s.len != 0 && (is_blank(s.data[0]) || is_blank(s.data[s.len - 1])) ? trimmed(s) : s;
}

/* key, NUL, value, NUL, and `more` bytes. */
static ngx_inline u_char *copy_pair(ngx_table_elt_t *h, sl_str_t key, sl_str_t value, u_char *p) {
    h->key.len = key.len;
    h->key.data = p;
    p = ngx_cpymem(p, key.data, key.len);
    *p++ = '\0';
    h->value.len = value.len;
    h->value.data = p;
    if (value.len != 0) {
        p = ngx_cpymem(p, value.data, value.len);
    }
    *p++ = '\0';
    return p;
}

/* Its hash is for the caller to set. */
static ngx_inline ngx_table_elt_t *list_push(ngx_pool_t *pool, ngx_list_t *list, sl_str_t key, sl_str_t value, size_t more) {
    ngx_table_elt_t *h;
    u_char *p;

    value = without_blanks(value);
    p = ngx_pnalloc(pool, key.len + value.len + 2 + more);
    h = p == NULL ? NULL : ngx_list_push(list);
    if (h == NULL) {
        return NULL;
    }
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif
    h->lowcase_key = copy_pair(h, key, value, p);
    return h;
}

ngx_int_t ngx_http_sluice_elt_set(ngx_pool_t *pool, ngx_table_elt_t *h, sl_str_t key, sl_str_t value) {
    u_char *p;

    value = without_blanks(value);
    p = ngx_pnalloc(pool, key.len + value.len + 2);
    if (p == NULL) {
        return NGX_ERROR;
    }
    copy_pair(h, key, value, p);
    return NGX_OK;
}

ngx_table_elt_t *ngx_http_sluice_list_add(ngx_http_request_t *r, ngx_list_t *list, sl_str_t key, sl_str_t value) {
    ngx_table_elt_t *h = list_push(r->pool, list, key, value, key.len + 1);

    if (h == NULL) {
        return NULL;
    }
    h->hash = ngx_hash_strlow(h->lowcase_key, h->key.data, key.len);
    h->lowcase_key[key.len] = '\0';
    if (h->hash == 0) {
        h->hash = 1;
    }
    return h;
}

ngx_table_elt_t *ngx_http_sluice_list_add_out(ngx_http_request_t *r, ngx_list_t *list, sl_str_t key, sl_str_t value) {
    ngx_table_elt_t *h = list_push(r->pool, list, key, value, 0);

    if (h == NULL) {
        return NULL;
    }
    h->lowcase_key = NULL;
    h->hash = 1;
    return h;
}

ngx_uint_t ngx_http_sluice_header_valid(sl_str_t key, sl_str_t value) {
    if (key.len == 0) {
        return 0;
    }
    for (size_t i = 0; i < key.len; i++) {
        u_char c = (u_char)key.data[i];
        if (c <= ' ' || c == 0x7f || (c == ':' && i != 0)) {
            return 0;
        }
    }
    for (size_t i = 0; i < value.len; i++) {
        u_char c = (u_char)value.data[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) {
            return 0;
        }
    }
    return 1;
}

/* ---- known headers ------------------------------------------------------------------------------------------------------------ */

/* Several headers of one name: an array of pointers up to 1.22, a linked list since 1.23. The only place that knows. */
#if (nginx_version >= 1023000)

static void known_reset(ngx_http_request_t *r, const ngx_http_header_t *hh) {
    *(ngx_table_elt_t **)((u_char *)&r->headers_in + hh->offset) = NULL;
}

static ngx_int_t known_set(ngx_http_request_t *r, const ngx_http_header_t *hh, ngx_table_elt_t *h) {
    ngx_table_elt_t **field = (ngx_table_elt_t **)((u_char *)&r->headers_in + hh->offset);

    while (*field != NULL) {
        field = &(*field)->next;
    }
    h->next = NULL;
    *field = h;
    return NGX_OK;
}

#else

static ngx_array_t *known_array(ngx_http_request_t *r, const ngx_http_header_t *hh) {
    if (hh->offset == offsetof(ngx_http_headers_in_t, cookies)) {
        return &r->headers_in.cookies;
    }
#if (NGX_HTTP_X_FORWARDED_FOR)
    if (hh->offset == offsetof(ngx_http_headers_in_t, x_forwarded_for)) {
        return &r->headers_in.x_forwarded_for;
    }
#endif
    return NULL;
}

static void known_reset(ngx_http_request_t *r, const ngx_http_header_t *hh) {
    ngx_array_t *array = known_array(r, hh);

    if (array != NULL) {
        array->nelts = 0;
        return;
    }
    *(ngx_table_elt_t **)((u_char *)&r->headers_in + hh->offset) = NULL;
}

static ngx_int_t known_set(ngx_http_request_t *r, const ngx_http_header_t *hh, ngx_table_elt_t *h) {
    ngx_array_t *array = known_array(r, hh);
    ngx_table_elt_t **slot;

    if (array == NULL) {
        slot = (ngx_table_elt_t **)((u_char *)&r->headers_in + hh->offset);
        if (*slot == NULL) {
            *slot = h;
        }
        return NGX_OK;
    }
    if (array->elts == NULL && ngx_array_init(array, r->pool, 1, sizeof(ngx_table_elt_t *)) != NGX_OK) {
        return NGX_ERROR;
    }
    slot = ngx_array_push(array);
    if (slot == NULL) {
        return NGX_ERROR;
    }
    *slot = h;
    return NGX_OK;
}

#endif

static ngx_http_header_t *known_find(ngx_http_request_t *r, ngx_table_elt_t *h) {
    ngx_http_core_main_conf_t *cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    return ngx_hash_find(&cmcf->headers_in_hash, h->hash, h->lowcase_key, h->key.len);
}

static sl_status_t known_resync(ngx_http_request_t *r) {
    for (const ngx_http_header_t *hh = ngx_http_headers_in; hh->name.len != 0; hh++) {
        known_reset(r, hh);
    }
    for (ngx_list_part_t *part = &r->headers_in.headers.part; part != NULL; part = part->next) {
        ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            const ngx_http_header_t *hh = known_find(r, &h[i]);
            if (hh != NULL && known_set(r, hh, &h[i]) != NGX_OK) {
                return SL_NO_MEMORY;
            }
        }
    }
    return SL_OK;
}

static ngx_uint_t part_remove(ngx_list_part_t *part, sl_str_t key, const ngx_table_elt_t *keep) {
    ngx_table_elt_t *h = part->elts;
    ngx_uint_t before = part->nelts, kept = 0;

    for (ngx_uint_t i = 0; i < before; i++) {
        if (&h[i] != keep && ngx_http_sluice_key_is(&h[i], key)) {
            continue;
        }
        if (kept != i) {
            h[kept] = h[i];
        }
        kept++;
    }
    part->nelts = kept;
    return before - kept;
}

/* Really takes them out, because the proxying modules do not look at hash == 0; nginx's loops allow no empty part but the first. */
static ngx_uint_t list_remove(ngx_list_t *list, sl_str_t key, const ngx_table_elt_t *keep) {
    ngx_uint_t removed = part_remove(&list->part, key, keep);
    ngx_list_part_t *prev = &list->part;

    for (ngx_list_part_t *part = prev->next; part != NULL; part = prev->next) {
        removed += part_remove(part, key, keep);
        if (part->nelts != 0) {
            prev = part;
            continue;
        }
        prev->next = part->next;
        if (list->last == part) {
            list->last = prev;
        }
    }
    return removed;
}

/* ---- pseudo headers -------------------------------------------------------------------------------------------------------------- */

static sl_str_t authority(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;

    return r->headers_in.host != NULL ? ngx_sluice_str(&r->headers_in.host->value) : ngx_sluice_str(&r->headers_in.server);
}

/* As the client sent it; after an internal redirect or a change by another module, as it would be sent on. */
static sl_str_t path(ngx_http_sluice_ctx_t *ctx) {
    ngx_http_request_t *r = ctx->request;
    u_char *p;
    size_t len;

    if (r->valid_unparsed_uri || (r == r->main && !r->internal)) {
        return ngx_sluice_str(&r->unparsed_uri);
    }
    len = r->uri.len + (r->args.len != 0 ? 1 + r->args.len : 0);
    p = ngx_pnalloc(r->pool, len + 1);
    if (p == NULL) {
        return ngx_sluice_str(&r->uri);
    }
    ngx_memcpy(p, r->uri.data, r->uri.len);
    if (r->args.len != 0) {
        p[r->uri.len] = '?';
        ngx_memcpy(p + r->uri.len + 1, r->args.data, r->args.len);
    }
    return sl_str(p, len);
}

static sl_str_t scheme(ngx_http_sluice_ctx_t *ctx) {
    if (ctx->scheme.len != 0) {
        return ngx_sluice_str(&ctx->scheme);
    }
#if (NGX_HTTP_SSL)
    if (ctx->request->connection->ssl != NULL) {
        return SL_STR("https");
    }
#endif
    return SL_STR("http");
}

static sl_str_t method(ngx_http_sluice_ctx_t *ctx) {
    return ngx_sluice_str(&ctx->request->method_name);
}

static sl_status_t set_scheme(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    for (size_t i = 0; i < value.len; i++) {
        u_char c = (u_char)value.data[i], low = (u_char)(c | 0x20);
        if (!(low >= 'a' && low <= 'z') && (i == 0 || !((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'))) {
            return SL_INVALID;
        }
    }
    return value.len == 0 ? SL_INVALID : ngx_http_sluice_copy(ctx->request->pool, value, &ctx->scheme);
}

/* A blank in a method would let a filter write a request line of its own for the upstream. */
static ngx_uint_t is_token(sl_str_t value) {
    for (size_t i = 0; i < value.len; i++) {
        u_char c = (u_char)value.data[i];
        if (c <= ' ' || c >= 0x7f || ngx_strchr("()<>@,;:\\\"/[]?={}", c) != NULL) {
            return 0;
        }
    }
    return value.len != 0;
}

static sl_status_t set_method(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    static const struct {
        ngx_str_t name;
        ngx_uint_t method;
    } methods[] = {
        {ngx_string("GET"), NGX_HTTP_GET},     {ngx_string("HEAD"), NGX_HTTP_HEAD},         {ngx_string("POST"), NGX_HTTP_POST},
        {ngx_string("PUT"), NGX_HTTP_PUT},     {ngx_string("DELETE"), NGX_HTTP_DELETE},     {ngx_string("MKCOL"), NGX_HTTP_MKCOL},
        {ngx_string("COPY"), NGX_HTTP_COPY},   {ngx_string("MOVE"), NGX_HTTP_MOVE},         {ngx_string("OPTIONS"), NGX_HTTP_OPTIONS},
        {ngx_string("LOCK"), NGX_HTTP_LOCK},   {ngx_string("UNLOCK"), NGX_HTTP_UNLOCK},     {ngx_string("PATCH"), NGX_HTTP_PATCH},
        {ngx_string("TRACE"), NGX_HTTP_TRACE}, {ngx_string("PROPFIND"), NGX_HTTP_PROPFIND}, {ngx_string("PROPPATCH"), NGX_HTTP_PROPPATCH},
    };
    ngx_http_request_t *r = ctx->request;

    if (!is_token(value)) {
        return SL_INVALID;
    }
    if (ngx_http_sluice_copy(r->pool, value, &r->method_name) != SL_OK) {
        return SL_NO_MEMORY;
    }
    r->method = NGX_HTTP_UNKNOWN;
    for (ngx_uint_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (sl_str_eq(value, ngx_sluice_str(&methods[i].name))) {
            r->method = methods[i].method;
        }
    }
    return SL_OK;
}

typedef struct {
    ngx_str_t uri, args, unparsed, exten;
    u_char *uri_start, *uri_end, *uri_ext, *args_start;
    unsigned complex_uri : 1, quoted_uri : 1, plus_in_uri : 1, empty_path_in_uri : 1;
} uri_state_t;

static void uri_save(const ngx_http_request_t *r, uri_state_t *s) {
    *s = (uri_state_t){.uri = r->uri,
                       .args = r->args,
                       .unparsed = r->unparsed_uri,
                       .exten = r->exten,
                       .uri_start = r->uri_start,
                       .uri_end = r->uri_end,
                       .uri_ext = r->uri_ext,
                       .args_start = r->args_start,
                       .complex_uri = r->complex_uri,
                       .quoted_uri = r->quoted_uri,
                       .plus_in_uri = r->plus_in_uri,
                       .empty_path_in_uri = r->empty_path_in_uri};
}

static void uri_restore(ngx_http_request_t *r, const uri_state_t *s) {
    r->uri = s->uri;
    r->args = s->args;
    r->unparsed_uri = s->unparsed;
    r->exten = s->exten;
    r->uri_start = s->uri_start;
    r->uri_end = s->uri_end;
    r->uri_ext = s->uri_ext;
    r->args_start = s->args_start;
    r->complex_uri = s->complex_uri;
    r->quoted_uri = s->quoted_uri;
    r->plus_in_uri = s->plus_in_uri;
    r->empty_path_in_uri = s->empty_path_in_uri;
}

/* The same steps as for a request line. */
static ngx_int_t uri_parse(ngx_http_request_t *r, ngx_str_t *text) {
    ngx_http_core_srv_conf_t *cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);

    r->uri_start = text->data;
    r->uri_end = text->data + text->len;
    r->uri_ext = NULL;
    r->args_start = NULL;
    r->complex_uri = 0;
    r->quoted_uri = 0;
    r->plus_in_uri = 0;
    r->empty_path_in_uri = 0;
    if (ngx_http_parse_uri(r) != NGX_OK) {
        return NGX_ERROR;
    }
    r->uri.len = (size_t)((r->args_start != NULL ? r->args_start - 1 : r->uri_end) - r->uri_start);
    r->uri.data = r->uri_start;
    if (r->complex_uri || r->quoted_uri) {
        r->uri.data = ngx_pnalloc(r->pool, r->uri.len + 1);
        if (r->uri.data == NULL || ngx_http_parse_complex_uri(r, cscf->merge_slashes) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return r->uri.len == 0 ? NGX_ERROR : NGX_OK;
}

/*
 * What the client's request line would have set: $uri, $args and $request_uri follow, so a proxy_pass with and one without a URI part
 * both send it. The location that was chosen stays.
 */
static sl_status_t set_path(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    ngx_http_request_t *r = ctx->request;
    uri_state_t before;
    ngx_str_t text;

    if (value.len == 0 || value.data[0] != '/') {
        return SL_INVALID;
    }
    if (ngx_http_sluice_copy(r->pool, value, &text) != SL_OK) {
        return SL_NO_MEMORY;
    }
    uri_save(r, &before);
    if (uri_parse(r, &text) != NGX_OK) {
        uri_restore(r, &before);
        return SL_INVALID;
    }
    r->unparsed_uri = text;
    r->valid_unparsed_uri = 1;
    if (r->args_start != NULL && r->uri_end > r->args_start) {
        r->args.data = r->args_start;
        r->args.len = (size_t)(r->uri_end - r->args_start);
    } else {
        ngx_str_null(&r->args);
    }
    ngx_http_set_exten(r);
    return SL_OK;
}

/* What nginx takes from clients: $host may be part of a file's name. */
static ngx_uint_t is_host(sl_str_t value) {
    for (size_t i = 0; i < value.len; i++) {
        u_char c = (u_char)value.data[i];
        if (c <= ' ' || c == 0x7f || c == '/' || c == '\\' || (c == '.' && i != 0 && value.data[i - 1] == '.')) {
            return 0;
        }
    }
    return value.len != 0;
}

static sl_status_t set_authority(ngx_http_sluice_ctx_t *ctx, sl_str_t value) {
    ngx_http_request_t *r = ctx->request;
    ngx_str_t copy;
    u_char *colon;

    if (!is_host(value)) {
        return SL_INVALID;
    }
    if (ngx_http_sluice_copy(r->pool, value, &copy) != SL_OK) {
        return SL_NO_MEMORY;
    }
    if (r->headers_in.host != NULL) {
        r->headers_in.host->value = copy;
    } else {
        ngx_table_elt_t *h = ngx_http_sluice_list_add(r, &r->headers_in.headers, SL_STR("Host"), value);
        if (h == NULL || known_resync(r) != SL_OK) {
            return SL_NO_MEMORY;
        }
    }
    /* $host: lower case, without the port; brackets of an IPv6 address stay */
    if (ngx_http_sluice_copy(r->pool, value, &r->headers_in.server) != SL_OK) {
        return SL_NO_MEMORY;
    }
    ngx_strlow(r->headers_in.server.data, r->headers_in.server.data, r->headers_in.server.len);
    colon = r->headers_in.server.data[0] == '[' ? (u_char *)strstr((char *)r->headers_in.server.data, "]:")
                                                : (u_char *)strchr((char *)r->headers_in.server.data, ':');
    if (colon != NULL) {
        r->headers_in.server.len = (size_t)(colon - r->headers_in.server.data) + (*colon == ']');
    }
    return SL_OK;
}

static const struct {
    sl_str_t name;
    sl_str_t (*get)(ngx_http_sluice_ctx_t *ctx);
    sl_status_t (*set)(ngx_http_sluice_ctx_t *ctx, sl_str_t value);
} pseudo[] = {
    {{":authority", 10}, authority, set_authority},
    {{":path", 5}, path, set_path},
    {{":method", 7}, method, set_method},
    {{":scheme", 7}, scheme, set_scheme},
};

#define N_PSEUDO (sizeof(pseudo) / sizeof(pseudo[0]))

static ngx_int_t pseudo_find(sl_str_t key) {
    for (ngx_uint_t i = 0; i < N_PSEUDO; i++) {
        if (sl_str_eq(key, pseudo[i].name)) {
            return (ngx_int_t)i;
        }
    }
    return NGX_DECLINED;
}

static sl_status_t pseudo_edit(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    ngx_int_t i = pseudo_find(key);

    if (i < 0 || op == PW_MAP_REMOVE) {
        return i < 0 ? SL_INVALID : SL_OK; /* nginx has no request without them */
    }
    return pseudo[i].set(ctx, value);
}

/* ---- the map ------------------------------------------------------------------------------------------------------------------------ */

/* In Envoy's view, Host is :authority, and not listed twice. */
static const ngx_table_elt_t *hidden(const ngx_http_sluice_ctx_t *ctx) {
    return ngx_http_sluice_dialect(ctx) == SL_DIALECT_ENVOY ? ctx->request->headers_in.host : NULL;
}

sl_status_t ngx_http_sluice_in_each(ngx_http_sluice_ctx_t *ctx, ngx_http_sluice_each_pt each, void *ud) {
    const ngx_table_elt_t *hide = hidden(ctx);

    for (ngx_uint_t i = 0; i < N_PSEUDO; i++) {
        if (!each(ud, pseudo[i].name, pseudo[i].get(ctx))) {
            return SL_OK;
        }
    }
    for (const ngx_list_part_t *part = &ctx->request->headers_in.headers.part; part != NULL; part = part->next) {
        const ngx_table_elt_t *h = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (h[i].hash != 0 && &h[i] != hide && !each(ud, ngx_sluice_str(&h[i].key), ngx_sluice_str(&h[i].value))) {
                return SL_OK;
            }
        }
    }
    return SL_OK;
}

size_t ngx_http_sluice_in_count(ngx_http_sluice_ctx_t *ctx) {
    const ngx_table_elt_t *hide = hidden(ctx);
    size_t n = N_PSEUDO;

    for (const ngx_list_part_t *part = &ctx->request->headers_in.headers.part; part != NULL; part = part->next) {
        const ngx_table_elt_t *h = part->elts;
        for (const ngx_table_elt_t *end = h + part->nelts; h != end; h++) {
            n += h->hash != 0 && h != hide;
        }
    }
    return n;
}

sl_status_t ngx_http_sluice_in_get(ngx_http_sluice_ctx_t *ctx, sl_str_t key, sl_str_t *value) {
    ngx_table_elt_t *h;
    ngx_int_t i;

    if (key.len != 0 && key.data[0] == ':') {
        i = pseudo_find(key);
        if (i < 0) {
            return SL_NOT_FOUND;
        }
        *value = pseudo[i].get(ctx);
        return SL_OK;
    }
    h = ngx_http_sluice_list_find(&ctx->request->headers_in.headers, key);
    if (h == NULL) {
        return SL_NOT_FOUND;
    }
    *value = ngx_sluice_str(&h->value);
    return SL_OK;
}

static sl_status_t add(ngx_http_request_t *r, sl_str_t key, sl_str_t value) {
    ngx_table_elt_t *h = ngx_http_sluice_list_add(r, &r->headers_in.headers, key, value);
    const ngx_http_header_t *hh;

    if (h == NULL) {
        return SL_NO_MEMORY;
    }
    hh = known_find(r, h);
    return hh == NULL || known_set(r, hh, h) == NGX_OK ? SL_OK : SL_NO_MEMORY;
}

static sl_status_t replace(ngx_http_request_t *r, sl_str_t key, sl_str_t value) {
    ngx_table_elt_t *h = ngx_http_sluice_list_find(&r->headers_in.headers, key);

    if (h == NULL) {
        return add(r, key, value);
    }
    if (ngx_http_sluice_copy(r->pool, trimmed(value), &h->value) != SL_OK) {
        return SL_NO_MEMORY;
    }
    return list_remove(&r->headers_in.headers, key, h) != 0 ? known_resync(r) : SL_OK;
}

static sl_status_t clear(ngx_http_request_t *r) {
    ngx_list_t *list = &r->headers_in.headers;

    list->part.nelts = 0;
    list->part.next = NULL;
    list->last = &list->part;
    return known_resync(r);
}

sl_status_t ngx_http_sluice_in_edit(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value) {
    ngx_http_request_t *r = ctx->request;

    if (op == PW_MAP_CLEAR) {
        return clear(r);
    }
    if (key.data[0] == ':') {
        return pseudo_edit(ctx, op, key, value);
    }
    if (op != PW_MAP_REMOVE && sl_str_eq_nocase(key, SL_STR("host"))) {
        return set_authority(ctx, value);
    }
    switch (op) {
    case PW_MAP_ADD:
        return add(r, key, value);
    case PW_MAP_REPLACE:
        return replace(r, key, value);
    default:
        return list_remove(&r->headers_in.headers, key, NULL) != 0 ? known_resync(r) : SL_OK;
    }
}
