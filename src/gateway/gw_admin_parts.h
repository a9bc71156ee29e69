/*
 * The Admin API's files share this: one exchange, its decoded path and query, ways to answer. Inside src/gateway; one exchange is
 * one call of gw_admin_handle() on one thread.
 */
#ifndef GW_ADMIN_PARTS_H
#define GW_ADMIN_PARTS_H

#include "gw_admin.h"
#include "gw_errors.h"
#include "gw_schema.h"
#include "sl_arena.h"

#define GW_ADMIN_MAX_SEGMENTS 6
#define GW_ADMIN_MAX_ARGS 1000

typedef struct {
    sl_str_t name, value; /* decoded, NUL-terminated; value.data NULL: no '=' */
} gw_arg_t;

typedef struct gw_admin_s gw_admin_t;

/* Methods as bits, in the alphabetical order in which they are listed. */
typedef enum { GW_DELETE = 1, GW_GET = 2, GW_HEAD = 4, GW_OPTIONS = 8, GW_PATCH = 16, GW_POST = 32, GW_PUT = 64 } gw_method_t;

struct gw_admin_s {
    const gw_admin_request_t *req;
    const gw_admin_env_t *env;
    gw_admin_response_t *resp;
    gw_admin_replace_t *replace;
    gw_admin_next_t next;
    sl_arena_t arena;
    sl_str_t segments[GW_ADMIN_MAX_SEGMENTS]; /* decoded, NUL-terminated; "/" has none */
    size_t n_segments;
    gw_arg_t *args; /* of the query */
    size_t n_args;
    gw_method_t method; /* 0: a verb that no endpoint knows */
    json_t *input;      /* decoded body of POST, PUT and PATCH, an object; NULL before gw_admin_read_input() */
    bool failed;        /* out of memory: the answer becomes 500 */
};

/* ---- answers (gw_admin.c) ---- */
void gw_admin_json(gw_admin_t *a, int status, json_t *body);           /* takes body */
void gw_admin_text(gw_admin_t *a, int status, sl_str_t json_text);     /* already JSON */
void gw_admin_message(gw_admin_t *a, int status, const char *message); /* {"message": ...} */
void gw_admin_error(gw_admin_t *a, json_t *error);                     /* an error object with its own status; takes it */
void gw_admin_empty(gw_admin_t *a, int status);
void gw_admin_not_found(gw_admin_t *a);
/* Methods of the path that was found (GW_GET | ...): false after answering OPTIONS or 405. */
bool gw_admin_allows(gw_admin_t *a, unsigned methods);
/* false after answering that wasm is off. */
bool gw_admin_wasm_ready(gw_admin_t *a);
/* First argument of this name in the query, NULL: none. */
const gw_arg_t *gw_admin_arg(const gw_admin_t *a, const char *name);
bool gw_admin_segment_is(const gw_admin_t *a, size_t i, const char *text);

/* ---- bodies (gw_admin_input.c) ---- */
/* Splits "a=b&c=d", decoding; false after answering 400. The list lives in the arena. */
bool gw_admin_split_args(gw_admin_t *a, sl_str_t text, gw_arg_t **args, size_t *n);
/* Percent-decoding into the arena, with '+' as a space where asked for. {NULL,0}: no memory or a NUL inside. */
sl_str_t gw_admin_unescape(gw_admin_t *a, sl_str_t s, bool plus);
/* Decodes the body by its content type into a->input; forms are typed by the fields of `kind` (NULL: texts stay texts).
 * false: answered. */
bool gw_admin_read_input(gw_admin_t *a, const gw_field_t *fields);
typedef enum { GW_BODY_NONE, GW_BODY_JSON, GW_BODY_FORM, GW_BODY_MULTIPART, GW_BODY_YAML, GW_BODY_OTHER } gw_body_t;
gw_body_t gw_admin_body_type(const gw_admin_t *a);
/* Form keys ("a.b", "a[]", "a[1].c") and values to a tree, typed by `fields`. New reference; NULL without memory. */
json_t *gw_form_tree(const gw_arg_t *args, size_t n, const gw_field_t *fields);

/* ---- pages (gw_admin_page.c) ---- */
typedef struct {
    size_t size;
    char after[64]; /* position of the last element of the page before; empty: from the start */
    const char *tags[5];
    size_t n_tags;
    bool any_tag; /* a/b instead of a,b */
} gw_page_t;

/* Reads size, offset and tags from the query; false: answered. */
bool gw_page_read(gw_admin_t *a, gw_page_t *page);
bool gw_page_has_tags(gw_admin_t *a, const gw_page_t *page, sl_str_t entity_text);
/* Closes {"data":[...  with "next" and "offset"; `last` is the position of the last element, NULL on the last page. */
void gw_page_end(gw_admin_t *a, const char *last);

/* ---- generated endpoints (gw_admin_entities.c) ---- */
/* true: the path is one of an entity's, and was answered. */
bool gw_admin_entities(gw_admin_t *a);
/* Calls `each` with every generated path, as /endpoints prints them. */
void gw_admin_entity_paths(void (*each)(void *ud, const char *path), void *ud);
/* The entity by id or key as a tree; NULL: none (or a->failed). New reference. */
json_t *gw_admin_load(gw_admin_t *a, const char *collection, sl_str_t id_or_key);
/* The n-th entity from *n on whose foreign `field` is `id` (the text form is searched, not parsed); *n moves behind it. */
sl_str_t gw_admin_next_child(gw_admin_t *a, const char *collection, const char *field, const char *id, size_t *n);

/* ---- the other endpoints ---- */
void gw_admin_root(gw_admin_t *a);
void gw_admin_status(gw_admin_t *a);
void gw_admin_config_get(gw_admin_t *a);
void gw_admin_config_post(gw_admin_t *a);
void gw_admin_tags(gw_admin_t *a);
void gw_admin_route_filters(gw_admin_t *a);
void gw_admin_schema(gw_admin_t *a);
void gw_admin_schema_filter(gw_admin_t *a);
void gw_admin_schema_plugin(gw_admin_t *a);
void gw_admin_schema_validate(gw_admin_t *a);

#endif
