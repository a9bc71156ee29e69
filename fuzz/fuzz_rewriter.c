/*
 * The module rewriter, on whatever the module reader accepts. What it writes must be a module that the reader accepts too, with all the
 * exports there were and those that were added, without a start section; and looking must find what writing finds.
 */
#include <stdlib.h>

#include "module_reader.h"
#include "module_rewriter.h"

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static void check_written(const sl_buf_t *out, const sl_module_info_t *before, const sl_rewrite_t *found) {
    sl_arena_t arena;
    sl_module_info_t after;
    sl_arena_init(&arena, 1024, 16 << 20);
    sl_status_t rc = sl_module_read(sl_buf_str(out), &arena, &after, NULL);
    check(rc == SL_OK || rc == SL_NO_MEMORY);
    if (rc == SL_OK) {
        check(!after.has_start && after.n_imports == before->n_imports);
        check(after.n_exports == before->n_exports + found->n_globals + found->has_start + found->n_sequences + (found->n_sequences != 0));
        for (size_t i = 0; i < before->n_exports; i++) {
            check(sl_str_eq(before->exports[i].name, after.exports[i].name) && before->exports[i].kind == after.exports[i].kind);
        }
    }
    sl_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sl_arena_t arena;
    sl_module_info_t info;
    sl_arena_init(&arena, 1024, 16 << 20);
    if (sl_module_read(sl_str(data, size), &arena, &info, NULL) == SL_OK) {
        sl_buf_t out;
        sl_rewrite_t found, looked;
        sl_err_t err;
        sl_buf_init(&out, 64 << 20);
        sl_status_t rc = sl_module_rewrite(sl_str(data, size), &out, &found, &err);
        check(rc == sl_module_rewrite(sl_str(data, size), NULL, &looked, NULL));
        check(rc == SL_OK || rc == SL_INVALID);
        if (rc == SL_OK) {
            check(found.n_globals == looked.n_globals && found.has_start == looked.has_start && found.no_reset == looked.no_reset);
            check(found.has_start == info.has_start);
            check_written(&out, &info, &found);
        }
        sl_buf_deinit(&out);
    }
    sl_arena_deinit(&arena);
    return 0;
}
