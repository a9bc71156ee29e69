/* CEL: the tree to a value. What goes wrong is a value, so that && and || can do without it; what must not go on stops everything. */
#include "sl_cel_int.h"

static sl_cel_value_t eval(cel_eval_t *e, const cel_node_t *node);

/* ---- errors, work and memory ---- */

sl_cel_value_t sl_cel_error(const char *text) {
    return (sl_cel_value_t){.kind = CEL_ERROR, .str = sl_cstr(text)};
}

sl_cel_value_t sl_cel_no_overload(void) {
    return sl_cel_error("values of these types do not go together");
}

sl_cel_value_t sl_cel_stop(cel_eval_t *e, sl_status_t status, const char *why) {
    if (e->stop == SL_OK) {
        e->stop = status;
        e->why = why;
    }
    return sl_cel_error(e->why);
}

bool sl_cel_charge(cel_eval_t *e, size_t steps) {
    if (steps > e->steps) {
        e->steps = 0;
        sl_cel_stop(e, SL_FAILED, "more work than one evaluation may do");
    } else {
        e->steps -= (uint32_t)steps;
    }
    return e->stop == SL_OK;
}

void *sl_cel_alloc(cel_eval_t *e, size_t bytes) {
    void *p = e->stop == SL_OK ? sl_arena_alloc(e->arena, bytes) : NULL;
    if (p == NULL) {
        sl_cel_stop(e, SL_NO_MEMORY, "more memory than one evaluation may have");
    }
    return p;
}

char *sl_cel_new_text(cel_eval_t *e, int kind, size_t len, sl_cel_value_t *out) {
    char *p = sl_cel_charge(e, sl_cel_cost(len)) ? sl_cel_alloc(e, len + 1) : NULL;
    *out = p != NULL ? (sl_cel_value_t){.kind = kind, .str = sl_str(p, len)} : sl_cel_error(e->why);
    return p;
}

sl_cel_value_t sl_cel_text(cel_eval_t *e, int kind, sl_str_t bytes) {
    sl_cel_value_t v;
    char *p = sl_cel_new_text(e, kind, bytes.len, &v);
    if (p != NULL && bytes.len != 0) {
        memcpy(p, bytes.data, bytes.len);
    }
    return v;
}

sl_cel_items_t *sl_cel_items(cel_eval_t *e, size_t n) {
    sl_cel_items_t *items = NULL;
    if (n <= SL_CEL_STEPS_MAX && sl_cel_charge(e, n)) {
        items = sl_cel_alloc(e, sizeof(*items) + n * sizeof(items->at[0]));
    }
    if (items != NULL) {
        items->n = n;
    } else {
        sl_cel_stop(e, SL_NO_MEMORY, "a list that is too long");
    }
    return items;
}

/* ---- operands ---- */

static sl_cel_value_t value(cel_eval_t *e, const cel_node_t *node) {
    return sl_cel_force(e, eval(e, node));
}

/* The first two kids; answers what went wrong in *bad. */
static bool two(cel_eval_t *e, const cel_node_t *node, sl_cel_value_t v[2], sl_cel_value_t *bad) {
    v[0] = value(e, node->kids);
    v[1] = cel_is_error(&v[0]) ? v[0] : value(e, node->kids->next);
    *bad = v[1];
    return !cel_is_error(&v[1]);
}

/* ---- fields ---- */

static sl_cel_value_t string_key(sl_str_t name) {
    return (sl_cel_value_t){.kind = SL_CEL_STRING, .str = name};
}

static sl_cel_value_t select_field(cel_eval_t *e, const cel_node_t *node) {
    sl_cel_value_t v = eval(e, node->kids);
    if (v.kind == CEL_REF) {
        return sl_cel_extend(e, v.str, node->name);
    }
    sl_cel_value_t key = string_key(node->name);
    return cel_is_error(&v) ? v : v.kind == SL_CEL_MAP ? sl_cel_at(e, &v, &key) : sl_cel_error("only a map has fields");
}

static sl_cel_value_t has_field(cel_eval_t *e, const cel_node_t *node) {
    sl_cel_value_t v = eval(e, node->kids), key = string_key(node->name);
    if (v.kind == CEL_REF) {
        sl_cel_value_t has = sl_cel_ref_has(e, v.str, node->name);
        if (has.kind != CEL_REF) {
            return has;
        }
        v = sl_cel_force(e, v);
    }
    return cel_is_error(&v)       ? v
           : v.kind == SL_CEL_MAP ? cel_bool(sl_cel_find(e, v.items, &key) != NULL)
                                  : sl_cel_error("only a map has fields");
}

static sl_cel_value_t element(cel_eval_t *e, const cel_node_t *node) {
    sl_cel_value_t v = eval(e, node->kids);
    sl_cel_value_t key = cel_is_error(&v) ? v : value(e, node->kids->next);
    if (cel_is_error(&key)) {
        return key;
    }
    if (v.kind == CEL_REF && key.kind == SL_CEL_STRING) {
        return sl_cel_extend(e, v.str, key.str);
    }
    v = sl_cel_force(e, v);
    return cel_is_error(&v) ? v : sl_cel_at(e, &v, &key);
}

static sl_cel_value_t membership(cel_eval_t *e, const cel_node_t *node) {
    sl_cel_value_t key = value(e, node->kids);
    sl_cel_value_t v = cel_is_error(&key) ? key : eval(e, node->kids->next);
    if (v.kind == CEL_REF && key.kind == SL_CEL_STRING) {
        sl_cel_value_t has = sl_cel_ref_has(e, v.str, key.str);
        if (has.kind != CEL_REF) {
            return has;
        }
    }
    v = sl_cel_force(e, v);
    return cel_is_error(&v) ? v : sl_cel_in(e, &key, &v);
}

/* ---- literals ---- */

static sl_cel_value_t make_items(cel_eval_t *e, const cel_node_t *node, int kind) {
    sl_cel_items_t *items = sl_cel_items(e, node->n);
    if (items == NULL) {
        return sl_cel_error(e->why);
    }
    items->n = 0;
    for (const cel_node_t *kid = node->kids; kid != NULL; kid = kid->next) {
        sl_cel_value_t v = value(e, kid);
        if (cel_is_error(&v)) {
            return v;
        }
        bool is_key = kind == SL_CEL_MAP && items->n % 2 == 0;
        if (is_key && !sl_cel_is_key(&v)) {
            return sl_cel_error("a value that cannot be a key");
        }
        if (is_key && sl_cel_find(e, items, &v) != NULL) {
            return sl_cel_error("a key that is there twice");
        }
        items->at[items->n++] = v;
    }
    return (sl_cel_value_t){.kind = kind, .items = items};
}

/* ---- logic ---- */

static sl_cel_value_t checked_bool(sl_cel_value_t v) {
    return v.kind == SL_CEL_BOOL || cel_is_error(&v) ? v : sl_cel_error("not a bool");
}

/* One operand that decides wins over errors of the others, before and after it. */
static sl_cel_value_t chain(cel_eval_t *e, const cel_node_t *node, bool decides) {
    sl_cel_value_t result = cel_bool(!decides);
    for (const cel_node_t *kid = node->kids; kid != NULL && e->stop == SL_OK; kid = kid->next) {
        sl_cel_value_t v = checked_bool(value(e, kid));
        if (v.kind == SL_CEL_BOOL && v.b == decides) {
            return v;
        }
        result = cel_is_error(&result) || !cel_is_error(&v) ? result : v;
    }
    return result;
}

static sl_cel_value_t condition(cel_eval_t *e, const cel_node_t *node) {
    sl_cel_value_t test = checked_bool(value(e, node->kids));
    const cel_node_t *yes = node->kids->next;
    return cel_is_error(&test) ? test : eval(e, test.b ? yes : yes->next);
}

/* ---- comprehensions ---- */

/* What is gone through: the elements of a list, the keys of a map. */
typedef struct {
    const sl_cel_items_t *items;
    size_t step;
    sl_cel_value_t bad; /* an error, when it is neither */
} range_t;

static bool range_of(cel_eval_t *e, const cel_node_t *node, range_t *r) {
    sl_cel_value_t v = value(e, node->kids);
    *r = (range_t){.items = v.items, .step = v.kind == SL_CEL_MAP ? 2 : 1};
    if (v.kind == SL_CEL_LIST || v.kind == SL_CEL_MAP) {
        return true;
    }
    r->bad = cel_is_error(&v) ? v : sl_cel_error("only lists and maps can be gone through");
    return false;
}

/* all and exists are && and || over the elements. */
static sl_cel_value_t quantify(cel_eval_t *e, const cel_node_t *node, bool decides) {
    sl_cel_value_t result = cel_bool(!decides);
    range_t r;
    if (!range_of(e, node, &r)) {
        return r.bad;
    }
    for (size_t i = 0; i < r.items->n && e->stop == SL_OK; i += r.step) {
        e->vars[node->slot] = r.items->at[i];
        sl_cel_value_t v = checked_bool(value(e, node->last));
        if (v.kind == SL_CEL_BOOL && v.b == decides) {
            return v;
        }
        result = cel_is_error(&result) || !cel_is_error(&v) ? result : v;
    }
    return result;
}

static sl_cel_value_t exists_one(cel_eval_t *e, const cel_node_t *node) {
    size_t found = 0;
    range_t r;
    if (!range_of(e, node, &r)) {
        return r.bad;
    }
    for (size_t i = 0; i < r.items->n; i += r.step) {
        e->vars[node->slot] = r.items->at[i];
        sl_cel_value_t v = checked_bool(value(e, node->last));
        if (cel_is_error(&v)) {
            return v;
        }
        found += v.b;
    }
    return cel_bool(found == 1);
}

/* filter keeps elements, map what its last kid makes of them; the kid before says of which, if there is one. */
static sl_cel_value_t collect(cel_eval_t *e, const cel_node_t *node) {
    const cel_node_t *predicate = node->op == CEL_FILTER || node->n == 3 ? node->kids->next : NULL;
    range_t r;
    if (!range_of(e, node, &r)) {
        return r.bad;
    }
    sl_cel_items_t *out = sl_cel_items(e, r.items->n / r.step);
    if (out == NULL) {
        return sl_cel_error(e->why);
    }
    out->n = 0;
    for (size_t i = 0; i < r.items->n; i += r.step) {
        e->vars[node->slot] = r.items->at[i];
        sl_cel_value_t keep = predicate != NULL ? checked_bool(value(e, predicate)) : cel_bool(true);
        sl_cel_value_t v = cel_is_error(&keep) ? keep : r.items->at[i];
        if (node->op == CEL_TO_LIST && !cel_is_error(&keep) && keep.b) {
            v = value(e, node->last);
        }
        if (cel_is_error(&v)) {
            return v;
        }
        if (keep.b) {
            out->at[out->n++] = v;
        }
    }
    return (sl_cel_value_t){.kind = SL_CEL_LIST, .items = out};
}

/* ---- nodes ---- */

static sl_cel_value_t call(cel_eval_t *e, const cel_node_t *node) {
    sl_cel_value_t args[CEL_ARGS_MAX];
    size_t n = 0;
    for (const cel_node_t *kid = node->kids; kid != NULL; kid = kid->next) {
        args[n] = value(e, kid);
        if (cel_is_error(&args[n])) {
            return args[n];
        }
        bool text = args[n].kind == SL_CEL_STRING || args[n].kind == SL_CEL_BYTES;
        if (text && !sl_cel_charge(e, sl_cel_cost(args[n].str.len))) {
            return sl_cel_error(e->why);
        }
        n++;
    }
    return node->function->fn(e, node, args, n);
}

static sl_cel_value_t unary(cel_eval_t *e, const cel_node_t *node) {
    sl_cel_value_t v = value(e, node->kids);
    if (cel_is_error(&v)) {
        return v;
    }
    if (node->op == CEL_NEGATE) {
        return sl_cel_negate(&v);
    }
    return v.kind == SL_CEL_BOOL ? cel_bool(!v.b) : sl_cel_no_overload();
}

static sl_cel_value_t binary(cel_eval_t *e, const cel_node_t *node) {
    sl_cel_value_t v[2], bad;
    if (!two(e, node, v, &bad)) {
        return bad;
    }
    if (node->op == CEL_EQUAL || node->op == CEL_NOT_EQUAL) {
        return cel_bool(sl_cel_same(e, &v[0], &v[1]) == (node->op == CEL_EQUAL));
    }
    return node->op >= CEL_LESS ? sl_cel_compare(node->op, e, &v[0], &v[1]) : sl_cel_arithmetic(node->op, e, &v[0], &v[1]);
}

static sl_cel_value_t eval(cel_eval_t *e, const cel_node_t *node) {
    if (!sl_cel_charge(e, 1)) {
        return sl_cel_error(e->why);
    }
    switch ((cel_op_t)node->op) {
    case CEL_LITERAL:
        return node->literal;
    case CEL_VAR:
        return e->vars[node->slot];
    case CEL_ATTR:
        return (sl_cel_value_t){.kind = CEL_REF, .str = node->name};
    case CEL_SELECT:
        return select_field(e, node);
    case CEL_HAS:
        return has_field(e, node);
    case CEL_INDEX:
        return element(e, node);
    case CEL_IN:
        return membership(e, node);
    case CEL_MAKE_LIST:
    case CEL_MAKE_MAP:
        return make_items(e, node, node->op == CEL_MAKE_LIST ? SL_CEL_LIST : SL_CEL_MAP);
    case CEL_NOT:
    case CEL_NEGATE:
        return unary(e, node);
    case CEL_AND:
    case CEL_OR:
        return chain(e, node, node->op == CEL_OR);
    case CEL_CONDITION:
        return condition(e, node);
    case CEL_CALL:
        return call(e, node);
    case CEL_ALL:
    case CEL_EXISTS:
        return quantify(e, node, node->op == CEL_EXISTS);
    case CEL_EXISTS_ONE:
        return exists_one(e, node);
    case CEL_TO_LIST:
    case CEL_FILTER:
        return collect(e, node);
    default:
        return binary(e, node);
    }
}

sl_status_t sl_cel_evaluate(sl_cel_t *cel, const sl_cel_attrs_t *attrs, sl_arena_t *arena, sl_cel_value_t *out, sl_err_t *err) {
    cel_eval_t e = {.arena = arena, .attrs = attrs, .steps = SL_CEL_STEPS_MAX, .stop = SL_OK, .why = ""};
    *out = value(&e, cel->root);
    if (e.stop != SL_OK) {
        return sl_err_set(err, e.stop, "%s", e.why);
    }
    return cel_is_error(out) ? sl_err_set(err, SL_INVALID, "%.*s", SL_FMT(out->str)) : SL_OK;
}
