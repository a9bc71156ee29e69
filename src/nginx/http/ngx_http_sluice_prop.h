/* What the files of properties share: a row is a path and how its value is found. */
#ifndef NGX_HTTP_SLUICE_PROP_H
#define NGX_HTTP_SLUICE_PROP_H

#include "ngx_http_sluice_int.h"

/* Fills *out; text that is made goes to scratch and is good until the next property is asked for. SL_NOT_FOUND: not known now. */
typedef sl_status_t (*ngx_http_sluice_get_pt)(ngx_http_sluice_ctx_t *ctx, sl_buf_t *scratch, pw_value_t *out);

typedef struct {
    const char *path; /* with dots */
    ngx_http_sluice_get_pt get;
} ngx_http_sluice_attribute_t;

/* Each ends with a row of NULLs. */
extern const ngx_http_sluice_attribute_t ngx_http_sluice_request_attributes[];
extern const ngx_http_sluice_attribute_t ngx_http_sluice_response_attributes[];
extern const ngx_http_sluice_attribute_t ngx_http_sluice_connection_attributes[];
extern const ngx_http_sluice_attribute_t ngx_http_sluice_tls_attributes[];
extern const ngx_http_sluice_attribute_t ngx_http_sluice_place_attributes[];

sl_status_t ngx_http_sluice_variable_get(ngx_http_request_t *r, sl_str_t name, pw_value_t *out);
/* A null value unsets. SL_INVALID: not changeable. */
sl_status_t ngx_http_sluice_variable_set(ngx_http_request_t *r, sl_str_t name, sl_str_t value);

/* ---- values ---- */

sl_status_t ngx_http_sluice_give_address(struct sockaddr *sa, socklen_t len, sl_buf_t *scratch, pw_value_t *out);
sl_status_t ngx_http_sluice_give_address_text(pw_value_t *out, sl_str_t name); /* a peer's name as nginx writes it */
sl_status_t ngx_http_sluice_give_port(struct sockaddr *sa, pw_value_t *out);
const ngx_http_upstream_state_t *ngx_http_sluice_last_state(const ngx_http_request_t *r); /* NULL: no upstream was asked */

static inline sl_status_t ngx_http_sluice_give_str(pw_value_t *out, sl_str_t s) {
    *out = (pw_value_t){.kind = PW_VALUE_STRING, .str = s};
    return SL_OK;
}

static inline sl_status_t ngx_http_sluice_give_int(pw_value_t *out, int64_t i) {
    *out = (pw_value_t){.kind = PW_VALUE_INT, .i = i};
    return SL_OK;
}

static inline sl_status_t ngx_http_sluice_give_uint(pw_value_t *out, uint64_t u) {
    *out = (pw_value_t){.kind = PW_VALUE_UINT, .u = u};
    return SL_OK;
}

static inline sl_status_t ngx_http_sluice_give_ms(pw_value_t *out, ngx_msec_t ms) {
    *out = (pw_value_t){.kind = PW_VALUE_DURATION, .i = (int64_t)ms * 1000000};
    return SL_OK;
}

static inline sl_status_t ngx_http_sluice_give_bool(pw_value_t *out, bool b) {
    *out = (pw_value_t){.kind = PW_VALUE_BOOL, .b = b};
    return SL_OK;
}

static inline sl_status_t ngx_http_sluice_give_map(pw_value_t *out, pw_map_t m) {
    *out = (pw_value_t){.kind = PW_VALUE_MAP, .map = m};
    return SL_OK;
}

static inline sl_status_t ngx_http_sluice_give_scratch(sl_buf_t *scratch, pw_value_t *out) {
    return scratch->failed ? SL_NO_MEMORY : ngx_http_sluice_give_str(out, sl_buf_str(scratch));
}

#endif
