/*
 * CEL: any text is either refused with a place, or is an expression whose value can be read to its last byte. The same text is worth the
 * same twice, also when a copy of it stands in parentheses.
 */
#include <stdio.h>
#include <stdlib.h>

#include "sl_buf.h"
#include "sl_cel.h"

enum { SHOWN_MAX = 1 << 20, PARENTHESES_TEXT_MAX = 4096 };

static void check(bool ok) {
    if (!ok) {
        abort();
    }
}

/* ---- attributes: made of their paths ---- */

static sl_status_t get(void *ud, sl_str_t path, sl_cel_attr_t *out) {
    (void)ud;
    check(path.len != 0 && path.len <= SL_CEL_PATH_MAX && path.data[0] != '\0');
    switch (path.data[path.len - 1] % 9) {
    case 0:
        return SL_NOT_FOUND;
    case 1:
        *out = (sl_cel_attr_t){.open = true, .deep = path.len % 2 == 0};
        return SL_OK;
    case 2:
        out->kind = SL_CEL_ATTR_ENTRIES;
        return SL_OK;
    case 3:
        *out = (sl_cel_attr_t){.kind = SL_CEL_ATTR_TEXTS, .value = {.str = path}};
        return SL_OK;
    case 4:
        *out = (sl_cel_attr_t){.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_INT, .i = (int64_t)path.len - 8}};
        return SL_OK;
    case 5:
        *out = (sl_cel_attr_t){.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_TIMESTAMP, .ns = INT64_MAX}};
        return SL_OK;
    case 6:
        *out = (sl_cel_attr_t){.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_STRING, .str = {"\xff not UTF-8 \xc3", 13}}};
        return SL_OK;
    default:
        *out = (sl_cel_attr_t){.kind = SL_CEL_ATTR_VALUE, .value = {.kind = SL_CEL_STRING, .str = path}};
        return SL_OK;
    }
}

static sl_status_t each(void *ud, sl_str_t path, bool (*add)(void *add_ud, sl_str_t key, sl_str_t value), void *add_ud) {
    (void)ud;
    bool more = true;
    for (size_t i = 0; more && i < path.len; i++) {
        more = add(add_ud, sl_str(path.data + i, 1), sl_str(path.data, i));
    }
    return SL_OK;
}

/* ---- values ---- */

/* What a number is, is not shown: a NaN is no text that could be compared. */
static void show(const sl_cel_value_t *v, sl_buf_t *out) {
    sl_buf_append_char(out, (char)('a' + v->kind));
    switch (v->kind) {
    case SL_CEL_BOOL:
        sl_buf_append_char(out, v->b ? '1' : '0');
        break;
    case SL_CEL_INT:
    case SL_CEL_UINT:
        sl_buf_append(out, &v->u, sizeof(v->u));
        break;
    case SL_CEL_STRING:
    case SL_CEL_BYTES:
    case SL_CEL_TYPE:
        sl_buf_append_str(out, v->str);
        break;
    case SL_CEL_LIST:
    case SL_CEL_MAP:
        check(v->kind == SL_CEL_LIST || v->items->n % 2 == 0);
        for (size_t i = 0; i < v->items->n; i++) {
            show(&v->items->at[i], out);
        }
        break;
    case SL_CEL_TIMESTAMP:
    case SL_CEL_DURATION:
        sl_buf_append(out, &v->ns, sizeof(v->ns));
        break;
    default:
        check(v->kind == SL_CEL_NULL || v->kind == SL_CEL_DOUBLE);
    }
}

static sl_status_t evaluate(sl_cel_t *cel, sl_buf_t *out) {
    const sl_cel_attrs_t attrs = {.get = get, .each = each};
    sl_arena_t arena;
    sl_cel_value_t v;
    sl_err_t err = {""};
    sl_arena_init(&arena, 512, SL_CEL_RESULT_BYTES);
    sl_status_t rc = sl_cel_evaluate(cel, &attrs, &arena, &v, &err);
    check(rc == SL_OK || rc == SL_INVALID || rc == SL_FAILED || rc == SL_NO_MEMORY);
    sl_buf_reset(out);
    if (rc == SL_OK) {
        show(&v, out);
    } else {
        check(err.text[0] != '\0');
        sl_buf_append_cstr(out, err.text);
    }
    check(arena.used <= SL_CEL_RESULT_BYTES);
    sl_arena_deinit(&arena);
    return rc;
}

static sl_cel_t *compile(sl_str_t text) {
    sl_cel_t *cel = NULL;
    sl_err_t err = {""};
    sl_status_t rc = sl_cel_compile(text, &cel, &err);
    check(rc == SL_OK || rc == SL_INVALID || rc == SL_NO_MEMORY);
    check(rc == SL_OK ? cel != NULL && sl_cel_bytes(cel) < 2 * SL_CEL_BYTES_MAX : err.text[0] != '\0');
    return cel;
}

/* One level deeper may be one too many, and one step more, too. A comment would take the parenthesis along. */
static void in_parentheses(sl_str_t text, sl_status_t rc, const sl_buf_t *want) {
    sl_buf_t copy, out;
    sl_buf_init(&copy, text.len + 3);
    sl_buf_init(&out, SHOWN_MAX);
    sl_buf_append_char(&copy, '(');
    sl_buf_append_str(&copy, text);
    sl_buf_append_cstr(&copy, "\n)");
    sl_cel_t *cel = compile(sl_buf_str(&copy));
    if (cel != NULL && rc == SL_OK) {
        check(evaluate(cel, &out) == SL_OK && sl_str_eq(sl_buf_str(&out), sl_buf_str(want)));
    }
    sl_cel_free(cel);
    sl_buf_deinit(&copy);
    sl_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sl_str_t text = sl_str(data, size);
    sl_buf_t one, two;
    sl_cel_t *cel = compile(text);
    if (cel == NULL) {
        return 0;
    }
    sl_buf_init(&one, SHOWN_MAX);
    sl_buf_init(&two, SHOWN_MAX);
    sl_status_t rc = evaluate(cel, &one);
    check(evaluate(cel, &two) == rc && sl_str_eq(sl_buf_str(&one), sl_buf_str(&two)));
    if (size <= PARENTHESES_TEXT_MAX) {
        in_parentheses(text, rc, &one);
    }
    sl_cel_free(cel);
    sl_buf_deinit(&one);
    sl_buf_deinit(&two);
    return 0;
}
