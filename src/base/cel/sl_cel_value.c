/* CEL: equality, order, arithmetic, and looking into lists and maps. */
#include "sl_cel_int.h"

/* ---- numbers of different types are points of one line ---- */

enum { BEFORE = -1, SAME = 0, AFTER = 1, NEITHER = 2 };

static bool is_number(const sl_cel_value_t *v) {
    return v->kind == SL_CEL_INT || v->kind == SL_CEL_UINT || v->kind == SL_CEL_DOUBLE;
}

#define ORDER(a, b) ((a) < (b) ? BEFORE : (a) > (b) ? AFTER : SAME)

static int order_doubles(double a, double b) {
    return a < b ? BEFORE : a > b ? AFTER : a == b ? SAME : NEITHER;
}

/* Exact, also where a double cannot be the whole number. */
static int order_int_double(int64_t a, double b) {
    if (b != b) {
        return NEITHER;
    }
    if (b >= 0x1p63) {
        return BEFORE;
    }
    if (b < -0x1p63) {
        return AFTER;
    }
    int64_t whole = (int64_t)b;
    return a != whole ? ORDER(a, whole) : order_doubles(0, b - (double)whole);
}

static int order_uint_double(uint64_t a, double b) {
    if (b != b) {
        return NEITHER;
    }
    if (b >= 0x1p64) {
        return BEFORE;
    }
    if (b < 0) {
        return AFTER;
    }
    uint64_t whole = (uint64_t)b;
    return a != whole ? ORDER(a, whole) : order_doubles(0, b - (double)whole);
}

static int reversed(int order) {
    return order == NEITHER ? NEITHER : -order;
}

static int order_numbers(const sl_cel_value_t *a, const sl_cel_value_t *b) {
    if (a->kind > b->kind) {
        return reversed(order_numbers(b, a));
    }
    if (a->kind == SL_CEL_INT) {
        return b->kind == SL_CEL_INT      ? ORDER(a->i, b->i)
               : b->kind == SL_CEL_DOUBLE ? order_int_double(a->i, b->d)
               : a->i < 0                 ? BEFORE
                                          : ORDER((uint64_t)a->i, b->u);
    }
    if (a->kind == SL_CEL_UINT) {
        return b->kind == SL_CEL_UINT ? ORDER(a->u, b->u) : order_uint_double(a->u, b->d);
    }
    return order_doubles(a->d, b->d);
}

/* ---- equality ---- */

static bool same_lists(cel_eval_t *e, const sl_cel_items_t *a, const sl_cel_items_t *b) {
    for (size_t i = 0; a->n == b->n && i < a->n; i++) {
        if (!sl_cel_same(e, &a->at[i], &b->at[i])) {
            return false;
        }
    }
    return a->n == b->n;
}

static bool same_maps(cel_eval_t *e, const sl_cel_items_t *a, const sl_cel_items_t *b) {
    for (size_t i = 0; a->n == b->n && i < a->n; i += 2) {
        const sl_cel_value_t *other = sl_cel_find(e, b, &a->at[i]);
        if (other == NULL || !sl_cel_same(e, &a->at[i + 1], other)) {
            return false;
        }
    }
    return a->n == b->n;
}

bool sl_cel_same(cel_eval_t *e, const sl_cel_value_t *a, const sl_cel_value_t *b) {
    if (!sl_cel_charge(e, 1)) {
        return false;
    }
    if (is_number(a) && is_number(b)) {
        return order_numbers(a, b) == SAME;
    }
    if (a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case SL_CEL_NULL:
        return true;
    case SL_CEL_BOOL:
        return a->b == b->b;
    case SL_CEL_STRING:
    case SL_CEL_BYTES:
    case SL_CEL_TYPE:
        return a->str.len == b->str.len && sl_cel_charge(e, sl_cel_cost(a->str.len)) && sl_str_eq(a->str, b->str);
    case SL_CEL_LIST:
        return same_lists(e, a->items, b->items);
    case SL_CEL_MAP:
        return same_maps(e, a->items, b->items);
    default:
        return a->ns == b->ns;
    }
}

/* ---- order ---- */

static sl_cel_value_t ordered(cel_op_t op, int order) {
    switch (op) {
    case CEL_LESS:
        return cel_bool(order == BEFORE);
    case CEL_LESS_EQUAL:
        return cel_bool(order == BEFORE || order == SAME);
    case CEL_GREATER:
        return cel_bool(order == AFTER);
    default:
        return cel_bool(order == AFTER || order == SAME);
    }
}

sl_cel_value_t sl_cel_compare(cel_op_t op, cel_eval_t *e, const sl_cel_value_t *a, const sl_cel_value_t *b) {
    if (is_number(a) && is_number(b)) {
        return ordered(op, order_numbers(a, b));
    }
    if (a->kind != b->kind) {
        return sl_cel_no_overload();
    }
    switch (a->kind) {
    case SL_CEL_BOOL:
        return ordered(op, ORDER(a->b, b->b));
    case SL_CEL_STRING:
    case SL_CEL_BYTES:
        sl_cel_charge(e, sl_cel_cost(a->str.len < b->str.len ? a->str.len : b->str.len));
        return ordered(op, sl_str_cmp(a->str, b->str) < 0 ? BEFORE : sl_str_cmp(a->str, b->str) > 0 ? AFTER : SAME);
    case SL_CEL_TIMESTAMP:
    case SL_CEL_DURATION:
        return ordered(op, ORDER(a->ns, b->ns));
    default:
        return sl_cel_no_overload();
    }
}

/* ---- arithmetic ---- */

static sl_cel_value_t too_large(void) {
    return sl_cel_error("the result is too large for its type");
}

static sl_cel_value_t int_arithmetic(cel_op_t op, int64_t a, int64_t b) {
    int64_t r = 0;
    bool over = false;
    switch (op) {
    case CEL_ADD:
        over = __builtin_add_overflow(a, b, &r);
        break;
    case CEL_SUBTRACT:
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case CEL_MULTIPLY:
        over = __builtin_mul_overflow(a, b, &r);
        break;
    default:
        if (b == 0) {
            return sl_cel_error("division by zero");
        }
        over = a == INT64_MIN && b == -1;
        r = over ? 0 : op == CEL_DIVIDE ? a / b : a % b;
    }
    return over ? too_large() : cel_int(r);
}

static sl_cel_value_t uint_arithmetic(cel_op_t op, uint64_t a, uint64_t b) {
    uint64_t r = 0;
    bool over = false;
    switch (op) {
    case CEL_ADD:
        over = __builtin_add_overflow(a, b, &r);
        break;
    case CEL_SUBTRACT:
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case CEL_MULTIPLY:
        over = __builtin_mul_overflow(a, b, &r);
        break;
    default:
        if (b == 0) {
            return sl_cel_error("division by zero");
        }
        r = op == CEL_DIVIDE ? a / b : a % b;
    }
    return over ? too_large() : cel_uint(r);
}

/* IEEE 754 defines what a division by zero is. */
__attribute__((no_sanitize("float-divide-by-zero"))) static sl_cel_value_t double_arithmetic(cel_op_t op, double a, double b) {
    switch (op) {
    case CEL_ADD:
        return cel_double(a + b);
    case CEL_SUBTRACT:
        return cel_double(a - b);
    case CEL_MULTIPLY:
        return cel_double(a * b);
    case CEL_DIVIDE:
        return cel_double(a / b);
    default:
        return sl_cel_no_overload();
    }
}

static sl_cel_value_t time_value(int kind, __int128 ns) {
    bool ok = kind == SL_CEL_TIMESTAMP ? sl_cel_timestamp_ok(ns) : sl_cel_duration_ok(ns);
    return ok ? (sl_cel_value_t){.kind = kind, .ns = ns} : too_large();
}

static bool is_time(const sl_cel_value_t *v) {
    return v->kind == SL_CEL_TIMESTAMP || v->kind == SL_CEL_DURATION;
}

/* Points and distances: their sums cannot overflow in 128 bits. */
static sl_cel_value_t time_arithmetic(cel_op_t op, const sl_cel_value_t *a, const sl_cel_value_t *b) {
    int points = (a->kind == SL_CEL_TIMESTAMP) + (b->kind == SL_CEL_TIMESTAMP);
    if (op == CEL_ADD && points < 2) {
        return time_value(points == 1 ? SL_CEL_TIMESTAMP : SL_CEL_DURATION, a->ns + b->ns);
    }
    if (op == CEL_SUBTRACT && (a->kind == b->kind || a->kind == SL_CEL_TIMESTAMP)) {
        return time_value(a->kind == b->kind ? SL_CEL_DURATION : SL_CEL_TIMESTAMP, a->ns - b->ns);
    }
    return sl_cel_no_overload();
}

static sl_cel_value_t join_texts(cel_eval_t *e, const sl_cel_value_t *a, const sl_cel_value_t *b) {
    sl_cel_value_t v;
    char *at = sl_cel_new_text(e, a->kind, a->str.len + b->str.len, &v);
    if (at != NULL) {
        memcpy(at, a->str.len != 0 ? a->str.data : "", a->str.len);
        memcpy(at + a->str.len, b->str.len != 0 ? b->str.data : "", b->str.len);
    }
    return v;
}

static sl_cel_value_t join_lists(cel_eval_t *e, const sl_cel_items_t *a, const sl_cel_items_t *b) {
    sl_cel_items_t *items = sl_cel_items(e, a->n + b->n);
    if (items == NULL) {
        return sl_cel_error(e->why);
    }
    memcpy(items->at, a->at, a->n * sizeof(a->at[0]));
    memcpy(items->at + a->n, b->at, b->n * sizeof(b->at[0]));
    return (sl_cel_value_t){.kind = SL_CEL_LIST, .items = items};
}

sl_cel_value_t sl_cel_arithmetic(cel_op_t op, cel_eval_t *e, const sl_cel_value_t *a, const sl_cel_value_t *b) {
    if (is_time(a) && is_time(b)) {
        return time_arithmetic(op, a, b);
    }
    if (a->kind != b->kind) {
        return sl_cel_no_overload();
    }
    switch (a->kind) {
    case SL_CEL_INT:
        return int_arithmetic(op, a->i, b->i);
    case SL_CEL_UINT:
        return uint_arithmetic(op, a->u, b->u);
    case SL_CEL_DOUBLE:
        return double_arithmetic(op, a->d, b->d);
    case SL_CEL_STRING:
    case SL_CEL_BYTES:
        return op == CEL_ADD ? join_texts(e, a, b) : sl_cel_no_overload();
    case SL_CEL_LIST:
        return op == CEL_ADD ? join_lists(e, a->items, b->items) : sl_cel_no_overload();
    default:
        return sl_cel_no_overload();
    }
}

sl_cel_value_t sl_cel_negate(const sl_cel_value_t *v) {
    if (v->kind == SL_CEL_DOUBLE) {
        return cel_double(-v->d);
    }
    return v->kind != SL_CEL_INT ? sl_cel_no_overload() : v->i == INT64_MIN ? too_large() : cel_int(-v->i);
}

/* ---- lists and maps ---- */

bool sl_cel_is_key(const sl_cel_value_t *v) {
    return v->kind == SL_CEL_BOOL || v->kind == SL_CEL_INT || v->kind == SL_CEL_UINT || v->kind == SL_CEL_STRING;
}

const sl_cel_value_t *sl_cel_find(cel_eval_t *e, const sl_cel_items_t *map, const sl_cel_value_t *key) {
    for (size_t i = 0; i < map->n && e->stop == SL_OK; i += 2) {
        if (sl_cel_same(e, &map->at[i], key)) {
            return &map->at[i + 1];
        }
    }
    return NULL;
}

/* A whole number, of whatever type. */
static bool as_index(const sl_cel_value_t *v, uint64_t *index) {
    *index = v->kind == SL_CEL_DOUBLE && v->d >= 0 && v->d < 0x1p53 ? (uint64_t)v->d : v->u;
    return (v->kind == SL_CEL_INT && v->i >= 0) || v->kind == SL_CEL_UINT ||
           (v->kind == SL_CEL_DOUBLE && v->d == (double)*index && v->d < 0x1p53);
}

sl_cel_value_t sl_cel_at(cel_eval_t *e, const sl_cel_value_t *v, const sl_cel_value_t *key) {
    uint64_t index;
    if (v->kind == SL_CEL_MAP) {
        const sl_cel_value_t *found = sl_cel_find(e, v->items, key);
        return found != NULL ? *found : sl_cel_error("no such key");
    }
    if (v->kind != SL_CEL_LIST || !is_number(key)) {
        return sl_cel_no_overload();
    }
    return as_index(key, &index) && index < v->items->n ? v->items->at[index] : sl_cel_error("an index outside of its list");
}

sl_cel_value_t sl_cel_in(cel_eval_t *e, const sl_cel_value_t *v, const sl_cel_value_t *in) {
    if (in->kind == SL_CEL_MAP) {
        return cel_bool(sl_cel_find(e, in->items, v) != NULL);
    }
    if (in->kind != SL_CEL_LIST) {
        return sl_cel_no_overload();
    }
    for (size_t i = 0; i < in->items->n; i++) {
        if (sl_cel_same(e, &in->items->at[i], v)) {
            return cel_bool(true);
        }
    }
    return cel_bool(false);
}
