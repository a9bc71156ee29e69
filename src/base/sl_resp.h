/*
 * RESP, the protocol of Redis (versions 2 and 3), without I/O: where an answer of a server ends, and what a request asks for. Answers are
 * not taken apart: who asked gets their bytes.
 */
#ifndef SL_RESP_H
#define SL_RESP_H

#include "sl_buf.h"

/* ---- answers ---- */

typedef struct {
    sl_buf_t bytes;     /* of the answer so far; of a whole one, until sl_resp_next */
    uint64_t pending;   /* values that have still to come */
    size_t line;        /* where the line that is being read begins */
    size_t bulk_left;   /* bytes of a string that have still to come, with its end */
    bool push;          /* it came by itself, and answers nothing */
    bool error;         /* it is one */
    const char *broken; /* what was wrong; NULL: nothing */
} sl_resp_t;

/* max_bytes: of one answer. ceiling: over what many of them hold, NULL: none; outlives r. */
void sl_resp_init(sl_resp_t *r, size_t max_bytes, sl_ceiling_t *ceiling);
void sl_resp_deinit(sl_resp_t *r);
/*
 * Takes bytes up to the end of one answer; *used says how many. SL_OK: it is whole, in r->bytes. SL_AGAIN: more has to come. SL_INVALID:
 * this is not RESP, or over the ceiling (SL_NO_MEMORY likewise); r->broken says what, and nothing more can be taken.
 */
sl_status_t sl_resp_feed(sl_resp_t *r, const void *bytes, size_t len, size_t *used);
void sl_resp_next(sl_resp_t *r); /* makes room for the next one */

/* ---- requests ---- */

typedef struct {
    size_t n_commands; /* so many answers follow */
    bool blocks;       /* one of them may take its time, for which the connection is not free */
} sl_resp_request_t;

/*
 * A request is one command or several, each an array of strings. SL_INVALID: it is not, or it would change the connection for others that
 * use it, too: *why says so. A transaction must be whole.
 */
sl_status_t sl_resp_request(sl_str_t query, sl_resp_request_t *out, const char **why);
sl_status_t sl_resp_write_command(sl_buf_t *out, const sl_str_t *words, size_t n);

#endif
