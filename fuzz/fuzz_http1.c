/* Responses of call outs: what is read must not depend on how the bytes were cut into pieces. The first byte chooses the pieces and HEAD.
 */
#include <stdlib.h>

#include "sl_http1.h"

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static sl_status_t read_in_pieces(sl_http1_t *p, const char *data, size_t len, size_t step) {
    sl_status_t rc = SL_AGAIN;
    for (size_t at = 0; at < len && rc == SL_AGAIN; at += step) {
        size_t n = len - at < step ? len - at : step;
        char *piece = malloc(n);
        memcpy(piece, data + at, n);
        rc = sl_http1_feed(p, piece, n, NULL);
        free(piece);
    }
    return rc == SL_AGAIN ? sl_http1_end(p, NULL) : rc;
}

static bool equal(const sl_http1_field_t *a, const sl_http1_field_t *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!sl_str_eq(a[i].name, b[i].name) || !sl_str_eq(a[i].value, b[i].value)) {
            return false;
        }
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    sl_http1_t whole, cut;
    bool to_head = (data[0] & 1) != 0;
    sl_http1_init(&whole, to_head, 4096, 4096, NULL);
    sl_http1_init(&cut, to_head, 4096, 4096, NULL);
    sl_status_t one = read_in_pieces(&whole, (const char *)data + 1, size - 1, size);
    sl_status_t two = read_in_pieces(&cut, (const char *)data + 1, size - 1, 1 + (data[0] >> 1) % 17);
    check(one == two);
    check(one == SL_OK || one == SL_INVALID || one == SL_NO_MEMORY);
    if (one == SL_OK) {
        check(whole.status == cut.status && whole.status >= 200 && whole.keepalive == cut.keepalive);
        check(whole.n_fields == cut.n_fields && equal(whole.fields, cut.fields, cut.n_fields));
        check(whole.n_trailers == cut.n_trailers && equal(whole.trailers, cut.trailers, cut.n_trailers));
        check(sl_str_eq(sl_buf_str(&whole.body), sl_buf_str(&cut.body)));
    }
    sl_http1_deinit(&whole);
    sl_http1_deinit(&cut);
    return 0;
}
