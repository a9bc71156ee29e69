/*
 * CEL, the Common Expression Language: text is compiled to a tree in one arena, and evaluated against attributes that the caller offers.
 * No I/O, no clock, no globals; one thread at a time for an expression. Both take hostile text: length, depth, nodes, work and memory have
 * ceilings.
 *
 * There: all operators with their precedence, && and || that absorb errors, ?:, in, fields, indexes, list and map literals, has(), the
 * macros all, exists, exists_one, map, filter; size, matches, contains, startsWith, endsWith; int, uint, double, string, bytes, bool,
 * timestamp, duration, dyn, type; the accessors of timestamps and durations, with UTC and offsets for time zones.
 * Not there, and refused by the compiler: messages, optional values, names of time zones, functions of extensions.
 */
#ifndef SL_CEL_H
#define SL_CEL_H

#include "sl_arena.h"

#define SL_CEL_TEXT_MAX ((size_t)32 << 10)
#define SL_CEL_NODES_MAX 8192
#define SL_CEL_DEPTH_MAX 100                  /* of the tree; of comprehensions in each other, see SL_CEL_VARS_MAX */
#define SL_CEL_VARS_MAX 16                    /* variables of comprehensions that are visible at once */
#define SL_CEL_BYTES_MAX ((size_t)2 << 20)    /* of one compiled expression, its regular expressions included */
#define SL_CEL_PATH_MAX 4096                  /* of an attribute */
#define SL_CEL_STEPS_MAX 200000u              /* of one evaluation: a node is one, long strings and lists are more */
#define SL_CEL_RESULT_BYTES ((size_t)4 << 20) /* what one evaluation may take, for the caller's arena */

typedef struct sl_cel_s sl_cel_t;

typedef enum {
    SL_CEL_NULL,
    SL_CEL_BOOL,
    SL_CEL_INT,
    SL_CEL_UINT,
    SL_CEL_DOUBLE,
    SL_CEL_STRING, /* str; UTF-8, except what attributes gave */
    SL_CEL_BYTES,  /* str */
    SL_CEL_LIST,
    SL_CEL_MAP,
    SL_CEL_TIMESTAMP, /* ns since the epoch; years 1 to 9999 */
    SL_CEL_DURATION,  /* ns; to 10000 years */
    SL_CEL_TYPE       /* str: the name of a type */
} sl_cel_kind_t;

typedef struct sl_cel_items_s sl_cel_items_t;

typedef struct {
    int kind; /* sl_cel_kind_t */
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double d;
        sl_str_t str;
        const sl_cel_items_t *items; /* of a list; of a map: key, value, key, value */
        __int128 ns;
    };
} sl_cel_value_t;

struct sl_cel_items_s {
    size_t n; /* values; twice the entries of a map */
    sl_cel_value_t at[];
};

/* What the caller says about an attribute. */
typedef enum {
    SL_CEL_ATTR_NONE,   /* it has fields, and no value of its own */
    SL_CEL_ATTR_VALUE,  /* value, but neither a list nor a map */
    SL_CEL_ATTR_TEXTS,  /* value.str: a list of strings, each followed by NUL */
    SL_CEL_ATTR_ENTRIES /* a map of strings: see `each` */
} sl_cel_attr_kind_t;

typedef struct {
    sl_cel_attr_kind_t kind;
    bool open; /* fields that are not found are absent, which is no error to has() and `in`; a map is open anyway */
    bool deep; /* so are fields of such fields */
    sl_cel_value_t value;
} sl_cel_attr_t;

/*
 * Paths are segments joined by NUL: request.headers['x'] is asked for as request NUL headers NUL x. What is given out is copied before the
 * next call.
 */
typedef struct {
    void *ud;
    /* SL_NOT_FOUND: there is none now. Anything but that and SL_OK ends the evaluation. *out is zero. */
    sl_status_t (*get)(void *ud, sl_str_t path, sl_cel_attr_t *out);
    /* Calls add for each entry of the map at path, until it answers false. */
    sl_status_t (*each)(void *ud, sl_str_t path, bool (*add)(void *add_ud, sl_str_t key, sl_str_t value), void *add_ud);
} sl_cel_attrs_t;

/* SL_INVALID: err says at which byte what is wrong, or that something is not supported. SL_NO_MEMORY. */
sl_status_t sl_cel_compile(sl_str_t text, sl_cel_t **out, sl_err_t *err);
void sl_cel_free(sl_cel_t *cel); /* NULL is fine */
size_t sl_cel_bytes(const sl_cel_t *cel);

/*
 * SL_OK: *out is the value, which lives in the arena and in the expression. SL_INVALID: the expression has no value here: an attribute is
 * absent, types do not go together, an overflow. SL_FAILED: more steps than are allowed, or an attribute could not be read.
 * SL_NO_MEMORY: the arena's ceiling, or none.
 */
sl_status_t sl_cel_evaluate(sl_cel_t *cel, const sl_cel_attrs_t *attrs, sl_arena_t *arena, sl_cel_value_t *out, sl_err_t *err);

#endif
