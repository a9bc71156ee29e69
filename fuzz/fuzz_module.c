/*
 * The module reader. Whatever it accepts must be whole: names inside the arena and printable as text, signatures that end, and
 * the same answer when the same bytes are read again.
 */
#include <stdlib.h>

#include "module_reader.h"

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

static void check_sig(const sl_extern_t *e) {
    if (e->kind != SL_EXTERN_FUNC) {
        check(e->sig[0] == '\0');
        return;
    }
    size_t len = strnlen(e->sig, SL_SIG_MAX);
    check(len > 0 && len < SL_SIG_MAX);
    check(strcmp(e->sig, "?") == 0 || (strspn(e->sig, "iIfF:") == len && strchr(e->sig, ':') >= e->sig + len - 2));
}

static void check_externs(const sl_extern_t *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        check(list[i].kind <= SL_EXTERN_OTHER);
        check(sl_utf8_valid(list[i].name, NULL) && sl_utf8_valid(list[i].module, NULL));
        check(list[i].name.data != NULL && list[i].name.data[list[i].name.len] == '\0');
        check_sig(&list[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sl_arena_t arena, second_arena;
    sl_module_info_t info, second;
    sl_err_t err;
    sl_arena_init(&arena, 1024, 16 << 20);
    sl_arena_init(&second_arena, 1024, 16 << 20);
    sl_status_t rc = sl_module_read(sl_str(data, size), &arena, &info, &err);
    check(rc == sl_module_read(sl_str(data, size), &second_arena, &second, NULL));
    if (rc == SL_OK) {
        check_externs(info.imports, info.n_imports);
        check_externs(info.exports, info.n_exports);
        check(info.n_imports == second.n_imports && info.n_exports == second.n_exports);
        check(size >= 8 && info.n_data_segments <= size && info.n_imports <= size && info.n_exports <= size);
    }
    check(rc == SL_OK || rc == SL_INVALID || rc == SL_NO_MEMORY);
    sl_arena_deinit(&arena);
    sl_arena_deinit(&second_arena);
    return 0;
}
