/*
 * Inside of CEL. The tree: a node with its operands as a list of kids. Values that are on their way through the evaluator have two kinds
 * more than those that leave it: an error, and a reference to an attribute that has not been read yet.
 */
#ifndef SL_CEL_INT_H
#define SL_CEL_INT_H

#include "sl_cel.h"
#include "sl_regex.h"

enum {
    CEL_ERROR = 100, /* str: what is wrong */
    CEL_REF          /* str: a path */
};

typedef enum {
    CEL_LITERAL,
    CEL_VAR,  /* of a comprehension: `slot`, `name` */
    CEL_ATTR, /* `name` is a path */
    CEL_SELECT,
    CEL_HAS, /* of a field of its kid */
    CEL_INDEX,
    CEL_MAKE_LIST,
    CEL_MAKE_MAP,
    CEL_NOT,
    CEL_NEGATE,
    CEL_MULTIPLY,
    CEL_DIVIDE,
    CEL_MODULO,
    CEL_ADD,
    CEL_SUBTRACT,
    CEL_LESS,
    CEL_LESS_EQUAL,
    CEL_GREATER,
    CEL_GREATER_EQUAL,
    CEL_EQUAL,
    CEL_NOT_EQUAL,
    CEL_IN,
    CEL_AND, /* of all kids */
    CEL_OR,
    CEL_CONDITION,
    CEL_CALL,
    CEL_ALL, /* comprehensions: range, [predicate,] body; `slot` */
    CEL_EXISTS,
    CEL_EXISTS_ONE,
    CEL_TO_LIST, /* map: with a predicate when there are three kids */
    CEL_FILTER
} cel_op_t;

typedef struct cel_eval_s cel_eval_t;
typedef struct cel_node_s cel_node_t;

#define CEL_ARGS_MAX 2

typedef sl_cel_value_t (*cel_fn_t)(cel_eval_t *e, const cel_node_t *call, const sl_cel_value_t *args, size_t n);

typedef struct {
    const char *name;
    bool global, member; /* how it may be called; as a member, its first argument stands before the dot */
    uint8_t min, max;    /* arguments, that one included */
    cel_fn_t fn;
} cel_function_t;

struct cel_node_s {
    uint8_t op; /* cel_op_t */
    uint8_t slot;
    bool indexed; /* an attribute whose last segment was in brackets */
    uint16_t depth;
    uint32_t n;  /* kids */
    uint32_t at; /* byte of the text */
    cel_node_t *kids, *last, *next;
    union {
        sl_cel_value_t literal;
        sl_str_t name;
        const cel_function_t *function;
    };
    sl_regex_t *regex; /* of matches() with a literal */
};

typedef struct cel_regex_s {
    struct cel_regex_s *next;
    sl_regex_t *regex;
} cel_regex_t;

struct sl_cel_s {
    sl_arena_t arena;
    cel_node_t *root;
    cel_regex_t *regexes;
    size_t regex_bytes;
};

/* ---- tokens: sl_cel_lex.c ---- */

typedef enum {
    CEL_T_END,
    CEL_T_BAD, /* the error has been written */
    CEL_T_NAME,
    CEL_T_INT, /* value.u: may be one more than an int can be, for a minus before it */
    CEL_T_UINT,
    CEL_T_DOUBLE,
    CEL_T_STRING,
    CEL_T_BYTES,
    CEL_T_AND = 256, /* characters stand for themselves in between */
    CEL_T_OR,
    CEL_T_EQUAL,
    CEL_T_NOT_EQUAL,
    CEL_T_LESS_EQUAL,
    CEL_T_GREATER_EQUAL
} cel_token_kind_t;

typedef struct {
    int kind;
    size_t at;
    sl_str_t text; /* of a name */
    sl_cel_value_t value;
} cel_token_t;

typedef struct {
    sl_str_t text;
    size_t at;
    sl_arena_t *arena;
    sl_err_t *err;
    sl_status_t status; /* of what went wrong */
    cel_token_t token;
} cel_lex_t;

void sl_cel_next(cel_lex_t *lex);
/* Writes the error, unless there is one. Answers SL_INVALID. */
sl_status_t sl_cel_wrong(cel_lex_t *lex, size_t at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- evaluation ---- */

typedef struct cel_known_s {
    struct cel_known_s *next;
    sl_str_t path;
    bool found, made; /* made: attr.value is its value, also of a list or map */
    sl_cel_attr_t attr;
} cel_known_t;

#define CEL_KNOWN_MAX 32 /* attributes that are remembered through an evaluation */

struct cel_eval_s {
    sl_arena_t *arena;
    const sl_cel_attrs_t *attrs;
    uint32_t steps;   /* that are left */
    sl_status_t stop; /* not SL_OK: the evaluation is over, whatever && and || would say */
    const char *why;
    cel_known_t *known;
    size_t n_known;
    sl_cel_value_t vars[SL_CEL_VARS_MAX];
};

sl_cel_value_t sl_cel_error(const char *text);
sl_cel_value_t sl_cel_no_overload(void);
sl_cel_value_t sl_cel_stop(cel_eval_t *e, sl_status_t status, const char *why);
bool sl_cel_charge(cel_eval_t *e, size_t steps); /* false: stopped */
static inline size_t sl_cel_cost(size_t bytes) {
    return bytes / 64;
}
static inline bool cel_is_error(const sl_cel_value_t *v) {
    return v->kind == CEL_ERROR;
}
static inline sl_cel_value_t cel_bool(bool b) {
    return (sl_cel_value_t){.kind = SL_CEL_BOOL, .b = b};
}
static inline sl_cel_value_t cel_int(int64_t i) {
    return (sl_cel_value_t){.kind = SL_CEL_INT, .i = i};
}
static inline sl_cel_value_t cel_uint(uint64_t u) {
    return (sl_cel_value_t){.kind = SL_CEL_UINT, .u = u};
}
static inline sl_cel_value_t cel_double(double d) {
    return (sl_cel_value_t){.kind = SL_CEL_DOUBLE, .d = d};
}
/* An allocation of the evaluation; NULL: stopped. */
void *sl_cel_alloc(cel_eval_t *e, size_t bytes);
/* A string or bytes of len bytes to be filled in; NULL: stopped. */
char *sl_cel_new_text(cel_eval_t *e, int kind, size_t len, sl_cel_value_t *out);
sl_cel_value_t sl_cel_text(cel_eval_t *e, int kind, sl_str_t bytes); /* copied */
sl_cel_items_t *sl_cel_items(cel_eval_t *e, size_t n);               /* n: room and number; NULL: stopped */

/* ---- values: sl_cel_value.c ---- */

bool sl_cel_same(cel_eval_t *e, const sl_cel_value_t *a, const sl_cel_value_t *b);
sl_cel_value_t sl_cel_compare(cel_op_t op, cel_eval_t *e, const sl_cel_value_t *a, const sl_cel_value_t *b);
sl_cel_value_t sl_cel_arithmetic(cel_op_t op, cel_eval_t *e, const sl_cel_value_t *a, const sl_cel_value_t *b);
sl_cel_value_t sl_cel_negate(const sl_cel_value_t *v);
/* The value of a key; NULL: there is none. */
const sl_cel_value_t *sl_cel_find(cel_eval_t *e, const sl_cel_items_t *map, const sl_cel_value_t *key);
sl_cel_value_t sl_cel_at(cel_eval_t *e, const sl_cel_value_t *v, const sl_cel_value_t *key);
sl_cel_value_t sl_cel_in(cel_eval_t *e, const sl_cel_value_t *v, const sl_cel_value_t *in);
bool sl_cel_is_key(const sl_cel_value_t *v);

/* ---- attributes: sl_cel_attr.c ---- */

sl_cel_value_t sl_cel_force(cel_eval_t *e, sl_cel_value_t v); /* reads what is a reference */
sl_cel_value_t sl_cel_extend(cel_eval_t *e, sl_str_t path, sl_str_t key);
/* Whether the attribute at path has key; CEL_REF: it is no structure, so look at its value. */
sl_cel_value_t sl_cel_ref_has(cel_eval_t *e, sl_str_t path, sl_str_t key);

/* ---- functions: sl_cel_function.c ---- */

const cel_function_t *sl_cel_function(sl_str_t name, bool member);

/* ---- times: sl_cel_time.c ---- */

bool sl_cel_timestamp_ok(__int128 ns);
bool sl_cel_duration_ok(__int128 ns);
bool sl_cel_timestamp_read(sl_str_t text, __int128 *ns);
bool sl_cel_duration_read(sl_str_t text, __int128 *ns);
size_t sl_cel_timestamp_write(__int128 ns, char out[48]);
size_t sl_cel_duration_write(__int128 ns, char out[48]);
sl_cel_value_t sl_cel_time_part(cel_eval_t *e, const cel_node_t *call, const sl_cel_value_t *args, size_t n);

#endif
