/*
 * An incremental reader of one HTTP/1.x response, for calls out. No I/O: bytes are fed as they come. One owner, one thread.
 *
 * Informational responses (1xx) are read over, up to a number of them. Bodies end by Content-Length, by the last chunk, or with the
 * connection; responses to HEAD, 204 and 304 have none. Anything that could be read in two ways (several lengths, a length beside an
 * encoding, folded lines, names that are no tokens, line ends without a line feed) is an error. Ceilings are given at init.
 */
#ifndef SL_HTTP1_H
#define SL_HTTP1_H

#include "sl_buf.h"

typedef struct {
    sl_str_t name, value;
} sl_http1_field_t;

#define SL_HTTP1_FIELDS_MAX 256 /* in a header, and in the trailers */

typedef struct {
    /* results; fields are borrowed until deinit, valid from SL_OK on */
    uint32_t status;
    sl_http1_field_t *fields; /* in order, names as they came */
    size_t n_fields;
    sl_buf_t body;
    sl_http1_field_t *trailers;
    size_t n_trailers;
    bool keepalive; /* the connection may carry another request */
    size_t excess;  /* bytes of the last feed that were behind the end */

    /* inside */
    sl_buf_t head, tail;
    uint64_t rest; /* bytes of the body, or of the chunk, that are still to come */
    uint8_t state;
    uint8_t framing;
    uint8_t digits;        /* of the chunk's size so far */
    uint8_t informational; /* responses before this one */
    bool to_head;          /* the request was HEAD */
} sl_http1_t;

/* Allocates nothing. ceiling: over what many of them hold, NULL: none; outlives p. */
void sl_http1_init(sl_http1_t *p, bool to_head, size_t max_head_bytes, size_t max_body_bytes, sl_ceiling_t *ceiling);
void sl_http1_deinit(sl_http1_t *p);
/* SL_AGAIN: more must come. SL_OK: the response is complete. SL_INVALID, SL_NO_MEMORY (also: over a ceiling): it never will be. */
sl_status_t sl_http1_feed(sl_http1_t *p, const char *data, size_t len, sl_err_t *err);
/* The connection has ended. SL_OK: that was the end of the body. SL_INVALID: the response was cut. */
sl_status_t sl_http1_end(sl_http1_t *p, sl_err_t *err);

#endif
