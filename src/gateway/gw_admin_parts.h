/*
 * The Admin API's files share this: one exchange, its decoded path and query, ways to answer. Inside src/gateway; one exchange is
 * one call of gw_admin_handle() on one thread.
 */
#ifndef GW_ADMIN_PARTS_H
#define GW_ADMIN_PARTS_H

#include "gw_admin.h"
#include "gw_data.h"
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
    gw_method_t method;  /* 0: a verb that no endpoint knows */
    json_t *input;       /* decoded body of POST, PUT and PATCH, an object; NULL before gw_admin_read_input() */
    const json_t *given; /* the body, already a tree: an operation of POST /transactions; else NULL */
    gw_data_t *data;     /* entities */
    bool begun;          /* a transaction is open */
    bool wrote;          /* there is something to commit */
    bool untried;        /* a filter has to be tried before this may be committed */
    bool storage_failed; /* the answer becomes what data->err says */
    bool failed;         /* out of memory: the answer becomes 500 */
};

/* A path as /endpoints prints it, with what may be asked of it. */
typedef struct {
    const char *path;        /* of a generated one only until the call returns */
    unsigned methods;        /* without OPTIONS, which all have */
    const gw_entity_t *kind; /* what is listed or shown; NULL: not a generated path */
    bool collection;         /* lists */
    const char *summary;     /* NULL: a generated path */
} gw_admin_path_t;

/* Every path that is answered. */
void gw_admin_paths(void (*each)(void *ud, const gw_admin_path_t *path), void *ud);

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
/* The parts of a multipart body; `raw`: their values may be any bytes. false: answered. */
bool gw_admin_read_multipart(gw_admin_t *a, bool raw, gw_arg_t **args, size_t *n);
typedef enum { GW_BODY_NONE, GW_BODY_JSON, GW_BODY_FORM, GW_BODY_MULTIPART, GW_BODY_YAML, GW_BODY_WASM, GW_BODY_OTHER } gw_body_t;
gw_body_t gw_admin_body_type(const gw_admin_t *a);
/* Form keys ("a.b", "a[]", "a[1].c") and values to a tree, typed by `fields`. New reference; NULL without memory. */
json_t *gw_form_tree(const gw_arg_t *args, size_t n, const gw_field_t *fields);

/* ---- pages (gw_admin_page.c) ---- */
typedef struct {
    size_t size;
    char after[256 + 8]; /* position of the last element of the page before; empty: from the start */
    const char *tags[5];
    size_t n_tags;
    bool any_tag; /* a/b instead of a,b */
} gw_page_t;

/* Reads size, offset and tags from the query; false: answered. */
bool gw_page_read(gw_admin_t *a, gw_page_t *page);
/* The page as a query of entities; borrows from `page`. */
gw_query_t gw_page_query(const gw_page_t *page);
/* Closes {"data":[...  with "next" and "offset"; `last` is the position of the last element, NULL on the last page. */
void gw_page_end(gw_admin_t *a, const char *last);
/* Answers with the page of a list that is there as a whole; positions count its elements. Takes `list`. */
void gw_page_of_list(gw_admin_t *a, const gw_page_t *page, json_t *list);

/* ---- generated endpoints (gw_admin_entities.c) ---- */
/* true: the path is one of an entity's, and was answered. */
bool gw_admin_entities(gw_admin_t *a);
/* Calls `each` with every generated path, as /endpoints prints them. */
void gw_admin_entity_paths(void (*each)(void *ud, const gw_admin_path_t *path), void *ud);
/* The entity by id or key as a tree; NULL: none (or a failure). New reference. `revision` may be NULL. */
json_t *gw_admin_load(gw_admin_t *a, const char *collection, sl_str_t id_or_key, uint64_t *revision);
/* All entities whose foreign `field` is `id`, in id order; NULL: a failure. New reference. */
json_t *gw_admin_children(gw_admin_t *a, const char *collection, const char *field, const char *id);
/* An id in the case in which ids are kept, in the arena. */
sl_str_t gw_admin_lower_id(gw_admin_t *a, sl_str_t id);
/* A page of a collection; NULL: a failure. New reference. */
json_t *gw_admin_list(gw_admin_t *a, const char *collection, const gw_query_t *query, bool *more);

/* ---- transactions (gw_admin_data.c) ---- */
/* Opens a transaction for what the method may do, where there are any; false: answered, or a failure. */
bool gw_admin_begin(gw_admin_t *a);
/* Ends it: commits what was written by an exchange that succeeded, and answers when that fails. */
void gw_admin_end(gw_admin_t *a);
/* What a call of a->data said: true when it is SL_OK; a failure of the storage is noted, SL_NOT_FOUND is not. */
bool gw_admin_got(gw_admin_t *a, sl_status_t rc);
/* The answer to a fault of a->data. `entity` is what was put; may be NULL. */
void gw_admin_fault(gw_admin_t *a, const json_t *entity);
/* Instead of whatever was answered before: the storage cannot be used. */
void gw_admin_storage_failure(gw_admin_t *a);
void gw_admin_etag(gw_admin_t *a, uint64_t revision); /* 0: none */
/* If-Match and If-None-Match against what there is (revision 0: nothing known; !found: nothing there). false: answered 412. */
bool gw_admin_precondition(gw_admin_t *a, bool found, uint64_t revision);
/* One operation as an exchange of its own, on the transaction of `a`. */
void gw_admin_run(gw_admin_t *a, const gw_admin_request_t *req, const json_t *body, gw_admin_response_t *resp);
/* POST /transactions */
void gw_admin_transactions(gw_admin_t *a);

/* ---- writes (gw_admin_write.c) ---- */
typedef struct {
    const gw_entity_t *kind;
    const gw_field_t *link; /* kind's field that is set to `parent_id` */
    const char *parent_id;  /* NULL: none */
    sl_str_t key;           /* id or key in the path; empty: none */
    const json_t *old;      /* what there is under it, NULL: nothing */
    uint64_t revision;      /* of `old` */
} gw_write_t;

void gw_admin_create(gw_admin_t *a, const gw_write_t *w);
/* *id (may be NULL) receives the id of what was stored; empty when it was not. */
void gw_admin_upsert(gw_admin_t *a, const gw_write_t *w, char *id);
void gw_admin_update(gw_admin_t *a, const gw_write_t *w);
void gw_admin_remove(gw_admin_t *a, const gw_write_t *w);
/* Sets the reference of `old` to `id` and stores it; says nothing when that went well. */
bool gw_admin_relink(gw_admin_t *a, const gw_entity_t *kind, const json_t *old, const char *field, const char *id);
/* Certificates are shown with the names that lead to them: adds "snis". */
void gw_admin_add_snis(gw_admin_t *a, const gw_entity_t *kind, json_t *entity);

/* ---- the other endpoints ---- */
void gw_admin_root(gw_admin_t *a);
void gw_admin_status(gw_admin_t *a);
void gw_admin_ready(gw_admin_t *a);
void gw_admin_timers(gw_admin_t *a);
void gw_admin_cache(gw_admin_t *a);
void gw_admin_no_cluster(gw_admin_t *a);
void gw_admin_log_level(gw_admin_t *a);
void gw_admin_upstream_health(gw_admin_t *a);
void gw_admin_set_health(gw_admin_t *a);
void gw_admin_plan(gw_admin_t *a);
void gw_admin_openapi(gw_admin_t *a);
void gw_admin_config_get(gw_admin_t *a);
void gw_admin_config_post(gw_admin_t *a);
void gw_admin_tags(gw_admin_t *a);
void gw_admin_route_filters(gw_admin_t *a);
void gw_admin_schema(gw_admin_t *a);
void gw_admin_schema_filter(gw_admin_t *a);
void gw_admin_schema_plugin(gw_admin_t *a);
void gw_admin_filters(gw_admin_t *a);
void gw_admin_filter(gw_admin_t *a);
void gw_admin_filter_schema(gw_admin_t *a);
void gw_admin_filter_versions(gw_admin_t *a);
void gw_admin_filter_version(gw_admin_t *a);
void gw_admin_schema_validate(gw_admin_t *a);

#endif
