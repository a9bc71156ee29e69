/* Foreign functions: zlib's format (RFC 1950). */
#include "pw_foreign.h"

#include <zlib.h>

#define STEP_BYTES 16384 /* taken in, and given out, between two questions whether to go on */

typedef int (*step_fn_t)(z_stream *z, int flush);

/*
 * Runs a stream over all of `in`. What would pass the ceiling of `out` is refused as soon as it shows, and so is what the callback has no
 * time left for. `flush` comes with the last of the input.
 */
static pw_result_t run(pw_vm_t *vm, z_stream *z, step_fn_t step, int flush, sl_str_t in, sl_buf_t *out) {
    size_t left_in = in.len;
    int rc = Z_OK;
    z->next_in = (Bytef *)(uintptr_t)in.data;
    while (rc == Z_OK) {
        size_t left = out->max - out->len;
        size_t room = left < STEP_BYTES ? left : STEP_BYTES;
        if (!pw_vm_go_on(vm)) {
            return PW_INTERNAL_FAILURE;
        }
        if (room == 0 || sl_buf_reserve(out, room) != SL_OK) {
            return PW_SERIALIZATION_FAILURE;
        }
        uInt had = left_in < STEP_BYTES ? (uInt)left_in : STEP_BYTES;
        z->avail_in = had;
        z->next_out = (Bytef *)out->data + out->len;
        z->avail_out = (uInt)room;
        rc = step(z, had == left_in ? flush : Z_NO_FLUSH);
        left_in -= had - z->avail_in;
        out->len += room - z->avail_out;
    }
    return rc == Z_STREAM_END ? PW_OK : PW_SERIALIZATION_FAILURE;
}

pw_result_t pw_foreign_compress(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)ctx;
    z_stream z = {0};
    if (deflateInit(&z, Z_DEFAULT_COMPRESSION) != Z_OK) {
        return PW_SERIALIZATION_FAILURE;
    }
    pw_result_t rc = run(vm, &z, deflate, Z_FINISH, args, out);
    deflateEnd(&z);
    return rc;
}

/* Z_NO_FLUSH: input that ends too early answers Z_BUF_ERROR then. What follows the end of the stream is not looked at. */
pw_result_t pw_foreign_uncompress(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)ctx;
    z_stream z = {0};
    if (inflateInit(&z) != Z_OK) {
        return PW_SERIALIZATION_FAILURE;
    }
    pw_result_t rc = run(vm, &z, inflate, Z_NO_FLUSH, args, out);
    inflateEnd(&z);
    return rc;
}
