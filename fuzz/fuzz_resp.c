/*
 * Redis: answers must be cut where they end however the bytes come in pieces, and a request that is taken must be made of whole commands.
 * The first byte chooses the pieces.
 */
#include <stdlib.h>

#include "sl_resp.h"

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

/* How many answers there are, and a sum over their ends. */
static sl_status_t read_all(const char *data, size_t len, size_t step, size_t *n, size_t *ends) {
    sl_resp_t r;
    sl_status_t rc = SL_AGAIN;
    size_t at = 0, used;
    sl_resp_init(&r, 4096, NULL);
    *n = *ends = 0;
    while (at < len && rc != SL_INVALID) {
        size_t part = len - at < step ? len - at : step;
        char *piece = malloc(part);
        memcpy(piece, data + at, part);
        rc = sl_resp_feed(&r, piece, part, &used);
        free(piece);
        check(used <= part && (rc != SL_AGAIN || used == part) && r.bytes.len <= 4096);
        at += used;
        if (rc == SL_OK) {
            ++*n;
            *ends += at * *n;
            sl_resp_next(&r);
        }
    }
    sl_resp_deinit(&r);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    const char *bytes = (const char *)data + 1;
    size_t n1, n2, ends1, ends2;
    sl_status_t one = read_all(bytes, size - 1, size, &n1, &ends1), two = read_all(bytes, size - 1, 1 + data[0] % 17, &n2, &ends2);
    check(one == two && n1 == n2 && ends1 == ends2);

    sl_resp_request_t facts;
    const char *why = NULL;
    char *exact = malloc(size);
    memcpy(exact, bytes, size - 1);
    sl_status_t rc = sl_resp_request(sl_str(exact, size - 1), &facts, &why);
    check(rc == SL_OK || (rc == SL_INVALID && why != NULL));
    if (rc == SL_OK && size - 1 <= 4096) { /* a request looks like an answer: both must see the same frames */
        check(one == SL_OK && facts.n_commands == n1);
    }
    free(exact);
    return 0;
}
