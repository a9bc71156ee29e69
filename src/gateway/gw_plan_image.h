/*
 * The layout of a plan image, shared by its writer (gw_plan_build.c, gw_router_build.c) and its readers (gw_plan.c,
 * gw_router.c). Internal to src/gateway: everyone else uses gw_plan.h.
 *
 * Little-endian, fixed width. The header is followed by the sections, each an array of one record type, 8-byte aligned.
 * Text is a gw_ref_t (offset from the start of the image, inside the strings section); everything else is an index into a
 * section. The verifier (gw_plan.c) is driven by one table of all fields below: a new field is a new row there.
 *
 * The router's tables
 *   A leaf is one route with one of its paths (or without). Leaves are sorted by precedence: the leaf that must win among
 *   all that match a request is the one with the lowest index, which is what the first hit of a linear scan would be. The
 *   indexes only find the leaves worth trying:
 *
 *     host tries (exact | prefix wildcards | suffix wildcards, reversed) --+
 *     routes without hosts ("any") ---------------------------------------+--> root of a path trie, one for each host pattern
 *
 *     path trie:  ""  --"/"--> "/api" --> "/api/v1"      a plain path is its key; a regex is filed under the literal text
 *                 |             |            |           that it must begin with; no path: the empty key
 *                list          list         list         a list holds items (leaf, port) in leaf order
 *
 *   Ranks and places are for the next build only: what has not changed is taken over from them (gw_plan_update).
 *
 *   A node's `up` is its nearest ancestor with a value, so that the lists on the way are visited from the longest key to the
 *   shortest without a stack. Children are contiguous and come after their parent: no cycles by construction.
 *   Long lists are split by probes: leaves that ask for a header's value or an SNI hang in a trie of these values.
 */
#ifndef GW_PLAN_IMAGE_H
#define GW_PLAN_IMAGE_H

#include "sl_types.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "plan images are little-endian and read in place");

#define GW_IMG_MAGIC "SLPLAN\r\n"
#define GW_IMG_FORMAT 5u
#define GW_NONE UINT32_MAX /* an index that refers to nothing */

typedef enum {
    GW_SEC_STRINGS,
    GW_SEC_SERVICES,
    GW_SEC_ROUTES,
    GW_SEC_CHAINS,
    GW_SEC_CHAIN_FILTERS, /* uint32_t: index into filters */
    GW_SEC_FILTERS,
    GW_SEC_LEAVES,
    GW_SEC_RANKS,  /* one for each leaf */
    GW_SEC_PLACES, /* sorted: what the tries are made of */
    GW_SEC_CONDS,
    GW_SEC_HEADERS,
    GW_SEC_TEXTS, /* gw_ref_t: methods, SNIs, header values */
    GW_SEC_REGEXES,
    GW_SEC_ITEMS,
    GW_SEC_LISTS,
    GW_SEC_PROBES,
    GW_SEC_HOST_NODES,  /* value: root in path nodes */
    GW_SEC_PATH_NODES,  /* value: list */
    GW_SEC_VALUE_NODES, /* value: list */
    GW_SEC_COLLECTIONS, /* sorted by name */
    GW_SEC_ENTITIES,    /* of one collection contiguous, sorted by id */
    GW_SEC_KEYS,        /* of one collection contiguous, sorted by key */
    GW_SEC_LINKS,       /* of one collection contiguous, sorted by parent, field, child */
    GW_SEC_TAGS,        /* of one collection contiguous, sorted by tag, entity */
    GW_SEC_COUNT
} gw_section_t;

typedef struct {
    uint32_t off; /* 0: null */
    uint32_t len;
} gw_ref_t;

typedef struct {
    uint32_t first;
    uint32_t count;
} gw_range_t;

typedef struct {
    char magic[8];
    uint32_t format;
    uint32_t n_sections;
    uint64_t size;      /* of the whole image, bytes */
    uint8_t sha256[32]; /* of everything that follows this member */
    uint64_t generation;
    uint64_t store_revision;
    gw_ref_t config_hash;
    uint32_t traditional; /* 0 or 1 */
    /* the router's entrances, each GW_NONE when unused */
    uint32_t host_exact, host_prefix, host_suffix; /* host nodes */
    uint32_t any_host;                             /* path node */
    uint32_t full_strings;             /* bytes of the strings section when everything was built from its entities the last time */
    uint8_t modules[32];               /* what gw_plan_conf_t said */
    gw_range_t sections[GW_SEC_COUNT]; /* first: offset in bytes */
} gw_img_header_t;

typedef struct {
    gw_ref_t id, name, host, path;
    uint32_t protocol, port, retries, connect_timeout_ms, write_timeout_ms, read_timeout_ms;
    uint32_t enabled;
    int32_t tls_verify;
    gw_range_t filters; /* its own, in filters */
} gw_img_service_t;

enum {
    GW_ROUTE_STRIP_PATH = 1,
    GW_ROUTE_PRESERVE_HOST = 2,
    GW_ROUTE_REQUEST_BUFFERING = 4,
    GW_ROUTE_RESPONSE_BUFFERING = 8,
    GW_ROUTE_PATH_V1 = 16
};

typedef struct {
    gw_ref_t id, name;
    uint32_t protocols;
    uint32_t https_redirect_status;
    uint32_t flags;   /* GW_ROUTE_* */
    uint32_t service; /* or GW_NONE */
    uint32_t chain;   /* or GW_NONE */
    uint32_t pad;
    gw_range_t filters; /* its own, in filters */
} gw_img_route_t;

typedef struct {
    gw_range_t filters; /* in chain filters */
} gw_img_chain_t;

typedef struct {
    gw_ref_t name, config, chain_id, chain_name;
    gw_ref_t options; /* as sl_filter_opts_write() has them */
    uint8_t key[32];
    uint8_t module[32]; /* SHA-256 of its module; zeros: not known */
    uint32_t from_service;
    uint32_t pad;
} gw_img_filter_t;

typedef struct {
    uint32_t route;
    uint32_t cond;     /* methods, headers, SNIs; GW_NONE when the route sets none of them */
    uint32_t regex;    /* GW_NONE: plain path or none */
    uint32_t path_len; /* bytes of a plain path; GW_NONE: no plain path */
} gw_img_leaf_t;

/* What a leaf is sorted by (gw_router_rank.h says how), and its key in the path trie. */
typedef struct {
    int64_t regex_priority;
    int64_t created_at;
    uint32_t kinds;
    uint32_t submatch;
    uint32_t n_headers;
    uint32_t regex;
    uint32_t path_len;
    uint32_t path; /* position in the route */
    gw_ref_t key;
} gw_img_rank_t;

typedef enum { GW_HOST_ANY, GW_HOST_EXACT, GW_HOST_PREFIX, GW_HOST_SUFFIX } gw_host_kind_t;

/* A leaf as the tries see it: one for each host pattern of its route. "*.a.test" is kept as "tset.a.", "a.*" as "a." */
typedef struct {
    uint32_t kind; /* gw_host_kind_t */
    uint32_t leaf;
    gw_ref_t host;
    gw_ref_t key;
    uint32_t port; /* 0: any */
    uint32_t pad;
} gw_img_place_t;

typedef struct {
    gw_range_t methods; /* texts */
    gw_range_t snis;    /* texts */
    gw_range_t headers;
} gw_img_cond_t;

typedef struct {
    gw_ref_t name;     /* lower case */
    gw_range_t values; /* texts, lower case */
    uint32_t regex;    /* instead of the values; or GW_NONE */
    uint32_t pad;
} gw_img_header_cond_t;

typedef struct {
    gw_ref_t pattern;
    uint32_t anchored;
    uint32_t pad;
} gw_img_regex_t;

typedef struct {
    uint32_t leaf;
    uint32_t port; /* 0: any */
} gw_img_item_t;

typedef struct {
    gw_range_t items;  /* in leaf order */
    gw_range_t probes; /* only lists of path nodes have any */
    uint32_t min_leaf; /* the lowest leaf reachable from here */
    uint32_t pad;
} gw_img_list_t;

enum { GW_PROBE_HEADER, GW_PROBE_SNI };

typedef struct {
    uint32_t kind;
    uint32_t values; /* value node: root of the trie of values */
    gw_ref_t name;   /* of the header */
    uint32_t all;    /* GW_PROBE_SNI: list of all its items, for connections without TLS; else GW_NONE */
    uint32_t min_leaf;
} gw_img_probe_t;

typedef struct {
    gw_ref_t label;      /* what this node adds to its parent's key; its first byte tells it from its siblings */
    uint32_t child;      /* first child, in the same section, after this node */
    uint32_t n_children; /* sorted by first byte */
    uint32_t value;      /* or GW_NONE */
    uint32_t up;         /* nearest ancestor with a value, or GW_NONE */
} gw_img_node_t;

typedef struct {
    gw_ref_t name;
    gw_range_t entities;
    gw_range_t keys;
    gw_range_t links; /* of its entities to their parents */
    gw_range_t tags;
} gw_img_collection_t;

typedef struct {
    gw_ref_t id, json;
} gw_img_entity_t;

typedef struct {
    gw_ref_t key;
    uint32_t entity;
    uint32_t pad;
} gw_img_key_t;

typedef struct {
    uint32_t parent; /* entity */
    uint32_t child;  /* entity */
    gw_ref_t field;
} gw_img_link_t;

typedef struct {
    gw_ref_t tag;
    uint32_t entity;
    uint32_t pad;
} gw_img_tag_t;

/* A verified image. */
typedef struct {
    const char *base;
    size_t size;
    const gw_img_header_t *header;
    const void *sec[GW_SEC_COUNT];
    uint32_t n[GW_SEC_COUNT];
} gw_image_t;

#define GW_IMG_HEAD_SIZE offsetof(gw_img_header_t, generation) /* what the digest does not cover */

/* Bytes of one record of each section. */
extern const uint32_t gw_img_record_size[GW_SEC_COUNT];

static inline sl_str_t gw_img_str(const gw_image_t *img, gw_ref_t r) {
    return r.off == 0 ? SL_STR_NULL : sl_str(img->base + r.off, r.len);
}

/* &record i of a section, typed: GW_IMG(img, gw_img_leaf_t, GW_SEC_LEAVES)[i] */
#define GW_IMG(img, type, section) ((const type *)(img)->sec[section])

#endif
