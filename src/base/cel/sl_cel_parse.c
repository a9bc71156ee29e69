/* CEL: tokens to a tree. Precedence climbing; the depth of the parser and that of the tree have the same ceiling. */
#include "sl_cel_int.h"

#include <stdlib.h>

#define BLOCK_BYTES 2048
#define REGEX_BYTES_MAX ((size_t)1 << 20)

typedef struct {
    cel_lex_t lex;
    sl_cel_t *cel;
    uint32_t n_nodes;
    uint16_t depth;
    sl_str_t vars[SL_CEL_VARS_MAX];
    uint8_t n_vars;
} parser_t;

static cel_node_t *parse_expression(parser_t *p);

/* ---- nodes ---- */

static cel_node_t *wrong(parser_t *p, size_t at, const char *text) {
    sl_cel_wrong(&p->lex, at, "%s", text);
    return NULL;
}

static cel_node_t *no_memory(parser_t *p) {
    if (p->lex.status == SL_OK) {
        p->lex.status = sl_err_set(p->lex.err, SL_NO_MEMORY, "out of memory, or over the ceiling of an expression");
        p->lex.token.kind = CEL_T_BAD;
    }
    return NULL;
}

static cel_node_t *node_new(parser_t *p, cel_op_t op, size_t at) {
    if (p->n_nodes == SL_CEL_NODES_MAX) {
        return wrong(p, at, "an expression of too many parts");
    }
    cel_node_t *node = sl_arena_zalloc(&p->cel->arena, sizeof(*node));
    if (node == NULL) {
        return no_memory(p);
    }
    p->n_nodes++;
    node->op = (uint8_t)op;
    node->at = (uint32_t)at;
    node->depth = 1;
    return node;
}

/* Either may be NULL, after an error. */
static cel_node_t *add_kid(parser_t *p, cel_node_t *node, cel_node_t *kid) {
    if (node == NULL || kid == NULL) {
        return NULL;
    }
    if (kid->depth >= SL_CEL_DEPTH_MAX) {
        return wrong(p, kid->at, "an expression that is nested too deeply");
    }
    *(node->last != NULL ? &node->last->next : &node->kids) = kid;
    node->last = kid;
    node->n++;
    node->depth = node->depth > kid->depth ? node->depth : (uint16_t)(kid->depth + 1);
    return node;
}

static bool is(const parser_t *p, int kind) {
    return p->lex.token.kind == kind;
}

static bool accept(parser_t *p, int kind) {
    if (!is(p, kind)) {
        return false;
    }
    sl_cel_next(&p->lex);
    return true;
}

static bool expect(parser_t *p, char c) {
    if (accept(p, c)) {
        return true;
    }
    sl_cel_wrong(&p->lex, p->lex.token.at, "expected '%c'", c);
    return false;
}

static bool is_name(const parser_t *p, const char *name) {
    return is(p, CEL_T_NAME) && sl_str_eq(p->lex.token.text, sl_cstr(name));
}

/* Names that mean nothing yet, but may not be used. */
static bool is_reserved(sl_str_t name) {
    static const char *const words[] = {"as",     "break",  "const", "continue", "else", "for",       "function",
                                        "if",     "import", "in",    "let",      "loop", "namespace", "package",
                                        "return", "true",   "false", "null",     "var",  "void",      "while"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (sl_str_eq(name, sl_cstr(words[i]))) {
            return true;
        }
    }
    return false;
}

/* ---- calls ---- */

/* The rest of a list of operands, behind its opening bracket. */
static cel_node_t *arguments(parser_t *p, cel_node_t *node, char end) {
    while (node != NULL && !is(p, end)) {
        node = add_kid(p, node, parse_expression(p));
        if (node != NULL && !accept(p, ',')) {
            break;
        }
    }
    return node != NULL && expect(p, end) ? node : NULL;
}

static bool keep_regex(parser_t *p, sl_regex_t *regex) {
    cel_regex_t *kept = sl_arena_alloc(&p->cel->arena, sizeof(*kept));
    size_t bytes = sl_regex_bytes(regex);
    if (kept == NULL || bytes > REGEX_BYTES_MAX - p->cel->regex_bytes) {
        sl_regex_free(regex);
        return false;
    }
    *kept = (cel_regex_t){p->cel->regexes, regex};
    p->cel->regexes = kept;
    p->cel->regex_bytes += bytes;
    return true;
}

/* A literal pattern is compiled once. */
static cel_node_t *prepare_regex(parser_t *p, cel_node_t *call) {
    const cel_node_t *pattern = call->last;
    sl_err_t err;
    if (!sl_str_eq(sl_cstr(call->function->name), SL_STR("matches")) || pattern->op != CEL_LITERAL ||
        pattern->literal.kind != SL_CEL_STRING) {
        return call;
    }
    sl_status_t rc = sl_regex_new_text(pattern->literal.str, &call->regex, &err);
    if (rc == SL_INVALID) {
        sl_cel_wrong(&p->lex, pattern->at, "regular expression: %s", err.text);
        return NULL;
    }
    return rc == SL_OK && keep_regex(p, call->regex) ? call : no_memory(p);
}

/* first: what stands before the dot; NULL: a function without. */
static cel_node_t *call(parser_t *p, sl_str_t name, size_t at, cel_node_t *first) {
    const cel_function_t *function = sl_cel_function(name, first != NULL);
    if (function == NULL) {
        sl_cel_wrong(&p->lex, at, "there is no %s '%.*s'", first != NULL ? "method" : "function", SL_FMT(name));
        return NULL;
    }
    cel_node_t *node = node_new(p, CEL_CALL, at);
    if (node != NULL) {
        node->function = function;
        node = first != NULL ? add_kid(p, node, first) : node;
    }
    node = arguments(p, node, ')');
    if (node != NULL && (node->n < function->min || node->n > function->max)) {
        return wrong(p, at, "a function with too many or too few arguments");
    }
    return node != NULL ? prepare_regex(p, node) : NULL;
}

/* ---- macros ---- */

static const struct {
    const char *name;
    cel_op_t op;
    uint8_t max; /* arguments, after the variable */
} macros[] = {{"all", CEL_ALL, 1},     {"exists", CEL_EXISTS, 1}, {"exists_one", CEL_EXISTS_ONE, 1}, {"existsOne", CEL_EXISTS_ONE, 1},
              {"map", CEL_TO_LIST, 2}, {"filter", CEL_FILTER, 1}};

static cel_node_t *comprehension(parser_t *p, size_t macro, size_t at, cel_node_t *range) {
    cel_node_t *node = add_kid(p, node_new(p, macros[macro].op, at), range);
    sl_str_t name = p->lex.token.text;
    if (node == NULL) {
        return NULL;
    }
    if (!is(p, CEL_T_NAME) || is_reserved(name)) {
        return wrong(p, p->lex.token.at, "expected the name of a variable");
    }
    sl_cel_next(&p->lex);
    if (!expect(p, ',')) {
        return NULL;
    }
    if (p->n_vars == SL_CEL_VARS_MAX) {
        return wrong(p, at, "too many variables in each other");
    }
    node->slot = p->n_vars;
    p->vars[p->n_vars++] = name;
    node = arguments(p, node, ')');
    p->n_vars--;
    return node == NULL || (node->n >= 2 && node->n <= 1u + macros[macro].max) ? node
                                                                               : wrong(p, at, "a macro with too many or too few arguments");
}

static cel_node_t *has(parser_t *p, size_t at) {
    cel_node_t *node = parse_expression(p);
    if (node == NULL || !expect(p, ')')) {
        return NULL;
    }
    bool field =
        node->op == CEL_SELECT || (node->op == CEL_ATTR && !node->indexed && memchr(node->name.data, '\0', node->name.len) != NULL);
    if (!field) {
        return wrong(p, at, "has() wants a field, as in has(a.b)");
    }
    if (node->op == CEL_SELECT) {
        node->op = CEL_HAS;
        return node;
    }
    /* The path again as its last field, and what comes before. */
    cel_node_t *whole = node_new(p, CEL_HAS, at);
    size_t dot = (size_t)((const char *)memrchr(node->name.data, '\0', node->name.len) - node->name.data);
    if (whole == NULL) {
        return NULL;
    }
    whole->name = sl_str(node->name.data + dot + 1, node->name.len - dot - 1);
    node->name.len = dot;
    return add_kid(p, whole, node);
}

static cel_node_t *method(parser_t *p, sl_str_t name, size_t at, cel_node_t *first) {
    for (size_t i = 0; i < sizeof(macros) / sizeof(macros[0]); i++) {
        if (sl_str_eq(name, sl_cstr(macros[i].name))) {
            return comprehension(p, i, at, first);
        }
    }
    return call(p, name, at, first);
}

/* ---- members ---- */

/* An attribute and a key are the longer path of an attribute; any other node, or a key that no path can have, is looked into. */
static bool joins(const cel_node_t *node, sl_str_t key) {
    return node->op == CEL_ATTR && key.len != 0 && key.len < SL_CEL_PATH_MAX && node->name.len < SL_CEL_PATH_MAX - key.len &&
           memchr(key.data, '\0', key.len) == NULL;
}

static cel_node_t *join(parser_t *p, cel_node_t *node, sl_str_t key, bool indexed) {
    if (++node->depth > SL_CEL_DEPTH_MAX) {
        return wrong(p, node->at, "an attribute of too many segments");
    }
    size_t len = node->name.len + 1 + key.len;
    char *path = sl_arena_alloc(&p->cel->arena, len);
    if (path == NULL) {
        return no_memory(p);
    }
    memcpy(path, node->name.data, node->name.len);
    path[node->name.len] = '\0';
    memcpy(path + node->name.len + 1, key.data, key.len);
    node->name = sl_str(path, len);
    node->indexed = indexed;
    return node;
}

static cel_node_t *member(parser_t *p, cel_node_t *node) {
    sl_str_t name = p->lex.token.text;
    size_t at = p->lex.token.at;
    if (!is(p, CEL_T_NAME)) {
        return wrong(p, at, "expected the name of a field or method");
    }
    sl_cel_next(&p->lex);
    if (accept(p, '(')) {
        return method(p, name, at, node);
    }
    if (is(p, '{')) {
        return wrong(p, at, "messages are not supported");
    }
    if (joins(node, name)) {
        return join(p, node, name, false);
    }
    cel_node_t *select = node_new(p, CEL_SELECT, at);
    if (select != NULL) {
        select->name = name;
    }
    return add_kid(p, select, node);
}

static cel_node_t *element(parser_t *p, cel_node_t *node, size_t at) {
    cel_node_t *key = parse_expression(p);
    if (key == NULL || !expect(p, ']')) {
        return NULL;
    }
    if (key->op == CEL_LITERAL && key->literal.kind == SL_CEL_STRING && joins(node, key->literal.str)) {
        return join(p, node, key->literal.str, true);
    }
    return add_kid(p, add_kid(p, node_new(p, CEL_INDEX, at), node), key);
}

/* ---- primaries ---- */

static cel_node_t *literal(parser_t *p, sl_cel_value_t value) {
    cel_node_t *node = node_new(p, CEL_LITERAL, p->lex.token.at);
    if (node != NULL) {
        node->literal = value;
        sl_cel_next(&p->lex);
    }
    return node;
}

static cel_node_t *number(parser_t *p, bool negative) {
    sl_cel_value_t v = p->lex.token.value;
    if (is(p, CEL_T_DOUBLE)) {
        return literal(p, cel_double(negative ? -v.d : v.d));
    }
    if (is(p, CEL_T_UINT)) {
        return negative ? wrong(p, p->lex.token.at, "a uint is not negative") : literal(p, v);
    }
    if (!negative && v.u > INT64_MAX) {
        return wrong(p, p->lex.token.at, "this number is too large for an int");
    }
    return literal(p, cel_int(negative ? (int64_t)(0 - v.u) : (int64_t)v.u));
}

static bool is_type(sl_str_t name) {
    static const char *const names[] = {"null_type", "bool", "int", "uint", "double", "string", "bytes", "list", "map", "type"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (sl_str_eq(name, sl_cstr(names[i]))) {
            return true;
        }
    }
    return false;
}

static cel_node_t *variable_or_attribute(parser_t *p, sl_str_t name, size_t at, bool absolute) {
    size_t i = absolute ? 0 : p->n_vars;
    while (i != 0 && !sl_str_eq(p->vars[i - 1], name)) {
        i--;
    }
    bool type = !absolute && i == 0 && is_type(name);
    cel_node_t *node = node_new(p, i != 0 ? CEL_VAR : type ? CEL_LITERAL : CEL_ATTR, at);
    if (node != NULL && type) {
        node->literal = (sl_cel_value_t){.kind = SL_CEL_TYPE, .str = name};
    } else if (node != NULL) {
        node->slot = i != 0 ? (uint8_t)(i - 1) : 0;
        node->name = name;
    }
    return node;
}

static cel_node_t *named(parser_t *p, bool absolute) {
    sl_str_t name = p->lex.token.text;
    size_t at = p->lex.token.at;
    if (!is(p, CEL_T_NAME)) {
        return wrong(p, at, "expected a name");
    }
    if (is_name(p, "null")) {
        return literal(p, (sl_cel_value_t){.kind = SL_CEL_NULL});
    }
    if (is_name(p, "true") || is_name(p, "false")) {
        return literal(p, cel_bool(is_name(p, "true")));
    }
    if (is_reserved(name)) {
        return wrong(p, at, "this word is reserved");
    }
    sl_cel_next(&p->lex);
    if (accept(p, '(')) {
        return !absolute && sl_str_eq(name, SL_STR("has")) ? has(p, at) : call(p, name, at, NULL);
    }
    return is(p, '{') ? wrong(p, at, "messages are not supported") : variable_or_attribute(p, name, at, absolute);
}

static cel_node_t *map(parser_t *p, size_t at) {
    cel_node_t *node = node_new(p, CEL_MAKE_MAP, at);
    while (node != NULL && !is(p, '}')) {
        node = add_kid(p, node, parse_expression(p));
        if (node == NULL || !expect(p, ':')) {
            return NULL;
        }
        node = add_kid(p, node, parse_expression(p));
        if (node != NULL && !accept(p, ',')) {
            break;
        }
    }
    return node != NULL && expect(p, '}') ? node : NULL;
}

static cel_node_t *parse_primary(parser_t *p) {
    size_t at = p->lex.token.at;
    switch (p->lex.token.kind) {
    case CEL_T_INT:
    case CEL_T_UINT:
    case CEL_T_DOUBLE:
        return number(p, false);
    case CEL_T_STRING:
    case CEL_T_BYTES:
        return literal(p, p->lex.token.value);
    case CEL_T_NAME:
        return named(p, false);
    default:
        break;
    }
    if (accept(p, '.')) {
        return named(p, true);
    }
    if (accept(p, '(')) {
        cel_node_t *inner = parse_expression(p);
        return inner != NULL && expect(p, ')') ? inner : NULL;
    }
    if (accept(p, '[')) {
        return arguments(p, node_new(p, CEL_MAKE_LIST, at), ']');
    }
    if (accept(p, '{')) {
        return map(p, at);
    }
    return wrong(p, at, "expected a value");
}

static cel_node_t *parse_members(parser_t *p, cel_node_t *node) {
    while (node != NULL) {
        size_t at = p->lex.token.at;
        if (accept(p, '.')) {
            node = member(p, node);
        } else if (accept(p, '[')) {
            node = element(p, node, at);
        } else {
            break;
        }
    }
    return node;
}

/* ---- operators ---- */

static bool is_number(const parser_t *p) {
    return is(p, CEL_T_INT) || is(p, CEL_T_UINT) || is(p, CEL_T_DOUBLE);
}

static cel_node_t *parse_unary(parser_t *p) {
    size_t at = p->lex.token.at;
    bool not = is(p, '!');
    if (!not&&!is(p, '-')) {
        return parse_members(p, parse_primary(p));
    }
    sl_cel_next(&p->lex);
    if (!not&&is_number(p)) { /* so that the least int can be written */
        return parse_members(p, number(p, true));
    }
    if (++p->depth > SL_CEL_DEPTH_MAX) {
        return wrong(p, at, "an expression that is nested too deeply");
    }
    cel_node_t *kid = parse_unary(p);
    p->depth--;
    return kid != NULL ? add_kid(p, node_new(p, not? CEL_NOT : CEL_NEGATE, at), kid) : NULL;
}

/* 0: no operator. Larger binds tighter. */
static int operator(const parser_t *p, cel_op_t *op) {
    static const struct {
        int kind, precedence;
        cel_op_t op;
    } operators[] = {
        {CEL_T_OR, 1, CEL_OR},       {CEL_T_AND, 2, CEL_AND},
        {'<', 3, CEL_LESS},          {CEL_T_LESS_EQUAL, 3, CEL_LESS_EQUAL},
        {'>', 3, CEL_GREATER},       {CEL_T_GREATER_EQUAL, 3, CEL_GREATER_EQUAL},
        {CEL_T_EQUAL, 3, CEL_EQUAL}, {CEL_T_NOT_EQUAL, 3, CEL_NOT_EQUAL},
        {'+', 4, CEL_ADD},           {'-', 4, CEL_SUBTRACT},
        {'*', 5, CEL_MULTIPLY},      {'/', 5, CEL_DIVIDE},
        {'%', 5, CEL_MODULO},
    };
    if (is_name(p, "in")) {
        *op = CEL_IN;
        return 3;
    }
    for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++) {
        if (is(p, operators[i].kind)) {
            *op = operators[i].op;
            return operators[i].precedence;
        }
    }
    return 0;
}

/* A chain of && or || is one node, however long. `own`: the node was made by this chain, and not in parentheses. */
static cel_node_t *parse_binary(parser_t *p, int least) {
    cel_node_t *left = parse_unary(p);
    bool own = false;
    cel_op_t op;
    for (int precedence; left != NULL && (precedence = operator(p, &op)) >= least && precedence != 0;) {
        size_t at = p->lex.token.at;
        sl_cel_next(&p->lex);
        cel_node_t *right = parse_binary(p, precedence + 1);
        bool chain = own && (op == CEL_AND || op == CEL_OR) && left->op == op;
        left = right == NULL ? NULL : add_kid(p, chain ? left : add_kid(p, node_new(p, op, at), left), right);
        own = true;
    }
    return left;
}

static cel_node_t *condition(parser_t *p, cel_node_t *test) {
    size_t at = p->lex.token.at;
    if (test == NULL || !accept(p, '?')) {
        return test;
    }
    cel_node_t *node = add_kid(p, add_kid(p, node_new(p, CEL_CONDITION, at), test), parse_binary(p, 1));
    return node != NULL && expect(p, ':') ? add_kid(p, node, parse_expression(p)) : NULL;
}

static cel_node_t *parse_expression(parser_t *p) {
    if (++p->depth > SL_CEL_DEPTH_MAX) {
        return wrong(p, p->lex.token.at, "an expression that is nested too deeply");
    }
    cel_node_t *node = condition(p, parse_binary(p, 1));
    p->depth--;
    return node;
}

/* ---- the whole ---- */

static sl_status_t compile(sl_cel_t *cel, sl_str_t text, sl_err_t *err) {
    sl_str_t own = sl_arena_dup(&cel->arena, text); /* names are borrowed from it */
    if (own.data == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    parser_t p = {.lex = {.text = own, .arena = &cel->arena, .err = err}, .cel = cel};
    sl_cel_next(&p.lex);
    cel->root = parse_expression(&p);
    if (cel->root != NULL && !is(&p, CEL_T_END)) {
        sl_cel_wrong(&p.lex, p.lex.token.at, "expected an operator, or the end");
    }
    return p.lex.status;
}

sl_status_t sl_cel_compile(sl_str_t text, sl_cel_t **out, sl_err_t *err) {
    size_t bad_at;
    if (text.len > SL_CEL_TEXT_MAX) {
        return sl_err_set(err, SL_INVALID, "an expression of %zu bytes; at most %zu are allowed", text.len, SL_CEL_TEXT_MAX);
    }
    if (!sl_utf8_valid(text, &bad_at)) {
        return sl_err_set(err, SL_INVALID, "byte %zu: this is not UTF-8", bad_at);
    }
    sl_cel_t *cel = calloc(1, sizeof(*cel));
    if (cel == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_arena_init(&cel->arena, BLOCK_BYTES, SL_CEL_BYTES_MAX - REGEX_BYTES_MAX);
    sl_status_t rc = compile(cel, text, err);
    if (rc != SL_OK) {
        sl_cel_free(cel);
        return rc;
    }
    *out = cel;
    return SL_OK;
}

void sl_cel_free(sl_cel_t *cel) {
    if (cel == NULL) {
        return;
    }
    for (const cel_regex_t *r = cel->regexes; r != NULL; r = r->next) {
        sl_regex_free(r->regex);
    }
    sl_arena_deinit(&cel->arena);
    free(cel);
}

size_t sl_cel_bytes(const sl_cel_t *cel) {
    return sizeof(*cel) + BLOCK_BYTES + cel->arena.used + cel->regex_bytes;
}
