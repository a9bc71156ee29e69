#include "gw_router.h"

#include "gw_path.h"

typedef enum {
    NO,
    YES,
    UNDECIDED, /* a regex gave up: whether it matches is not known */
    BROKEN     /* m->rc says why the match cannot go on */
} verdict_t;

typedef struct {
    const gw_image_t *img;
    sl_regex_t **regexes;
    const gw_match_in_t *in;
    sl_buf_t *scratch;
    size_t path_len; /* the normalised path is what scratch begins with */
    uint32_t port;   /* that hosts with a port are compared with */
    /* the best leaf so far; GW_NONE: none */
    uint32_t best;
    verdict_t verdict; /* YES or UNDECIDED, of the best leaf */
    size_t prefix;     /* matched bytes of the path */
    sl_status_t rc;
} match_t;

static sl_str_t path_of(const match_t *m) {
    return sl_str(m->scratch->data, m->path_len);
}

static verdict_t broken(match_t *m, sl_status_t rc) {
    m->rc = rc;
    return BROKEN;
}

/* ---- tries --------------------------------------------------------------------------------------------------------------- */

/* The child whose label begins with c, or NULL. */
static const gw_img_node_t *find_child(const gw_image_t *img, const gw_img_node_t *nodes, const gw_img_node_t *node, unsigned char c) {
    uint32_t lo = node->child, hi = node->child + node->n_children;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        unsigned char first = (unsigned char)img->base[nodes[mid].label.off];
        if (first == c) {
            return &nodes[mid];
        }
        if (first < c) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}

/* Text that is walked forwards or, for suffixes, backwards. */
typedef struct {
    sl_str_t text;
    bool reversed;
} walk_t;

static unsigned char walk_byte(const walk_t *t, size_t at) {
    return (unsigned char)t->text.data[t->reversed ? t->text.len - 1 - at : at];
}

static bool label_matches(sl_str_t label, const walk_t *t, size_t at) {
    if (label.len > t->text.len - at) {
        return false;
    }
    if (!t->reversed) {
        return memcmp(label.data, t->text.data + at, label.len) == 0;
    }
    for (size_t i = 0; i < label.len; i++) {
        if ((unsigned char)label.data[i] != walk_byte(t, at + i)) {
            return false;
        }
    }
    return true;
}

/* The deepest node with a value on the way along `t`; *depth: bytes up to the deepest node reached. */
static uint32_t walk(const gw_image_t *img, gw_section_t section, uint32_t root, const walk_t *t, size_t *depth) {
    const gw_img_node_t *nodes = GW_IMG(img, gw_img_node_t, section);
    const gw_img_node_t *node = &nodes[root];
    size_t at = 0;
    while (at < t->text.len) {
        const gw_img_node_t *child = find_child(img, nodes, node, walk_byte(t, at));
        if (child == NULL || !label_matches(gw_img_str(img, child->label), t, at)) {
            break;
        }
        at += child->label.len;
        node = child;
    }
    *depth = at;
    return node->value != GW_NONE ? (uint32_t)(node - nodes) : node->up;
}

/* The value of exactly this key, or GW_NONE. */
static uint32_t walk_exact(const gw_image_t *img, gw_section_t section, uint32_t root, sl_str_t key) {
    const gw_img_node_t *nodes = GW_IMG(img, gw_img_node_t, section);
    const walk_t t = {key, false};
    size_t at = 0;
    const gw_img_node_t *node = &nodes[root];
    while (at < key.len) {
        node = find_child(img, nodes, node, (unsigned char)key.data[at]);
        if (node == NULL || !label_matches(gw_img_str(img, node->label), &t, at)) {
            return GW_NONE;
        }
        at += node->label.len;
    }
    return node->value;
}

/* ---- conditions of a leaf -------------------------------------------------------------------------------------------------- */

static verdict_t run_regex(match_t *m, uint32_t index, sl_str_t subject, size_t *end) {
    sl_regex_t **re = &m->regexes[index];
    if (*re == NULL) {
        const gw_img_regex_t *rec = &GW_IMG(m->img, gw_img_regex_t, GW_SEC_REGEXES)[index];
        sl_status_t rc = sl_regex_new(gw_img_str(m->img, rec->pattern), rec->anchored != 0, re, NULL);
        if (rc != SL_OK) {
            *re = NULL;
            return rc == SL_NO_MEMORY ? broken(m, rc) : UNDECIDED;
        }
    }
    switch (sl_regex_match(*re, subject, end)) {
    case SL_OK:
        return *end <= subject.len ? YES : UNDECIDED;
    case SL_NOT_FOUND:
        return NO;
    case SL_NO_MEMORY:
        return broken(m, SL_NO_MEMORY);
    default:
        return UNDECIDED;
    }
}

static sl_str_t text_at(const match_t *m, gw_range_t range, uint32_t i) {
    return gw_img_str(m->img, GW_IMG(m->img, gw_ref_t, GW_SEC_TEXTS)[range.first + i]);
}

static bool any_text(const match_t *m, gw_range_t range, sl_str_t s) {
    for (uint32_t i = 0; i < range.count; i++) {
        if (sl_str_eq(text_at(m, range, i), s)) {
            return true;
        }
    }
    return false;
}

static bool any_text_nocase(const match_t *m, gw_range_t range, sl_str_t s) {
    for (uint32_t i = 0; i < range.count; i++) {
        if (sl_str_eq_nocase(text_at(m, range, i), s)) {
            return true;
        }
    }
    return false;
}

static bool sni_matches(const match_t *m, sl_str_t pattern, sl_str_t sni) {
    bool wildcards = m->img->header->traditional == 0 && pattern.len > 0;
    if (wildcards && pattern.data[0] == '*') {
        return sni.len > pattern.len - 1 && sl_str_ends(sni, sl_str(pattern.data + 1, pattern.len - 1));
    }
    if (wildcards && pattern.data[pattern.len - 1] == '*') {
        return sni.len > pattern.len - 1 && sl_str_starts(sni, sl_str(pattern.data, pattern.len - 1));
    }
    return sl_str_eq(pattern, sni);
}

static bool snis_match(const match_t *m, gw_range_t snis) {
    for (uint32_t i = 0; i < snis.count; i++) {
        if (m->in->sni.len > 0 && sni_matches(m, text_at(m, snis, i), m->in->sni)) {
            return true;
        }
    }
    return false;
}

/* A regex sees the value in lower case; the copy lives behind the path in `scratch`. */
static verdict_t header_regex(match_t *m, uint32_t regex, sl_str_t value) {
    size_t at = m->scratch->len;
    if (sl_buf_append_str(m->scratch, value) != SL_OK) {
        return broken(m, SL_NO_MEMORY);
    }
    char *lower = m->scratch->data + at;
    for (size_t i = 0; i < value.len; i++) {
        lower[i] = (char)(lower[i] >= 'A' && lower[i] <= 'Z' ? lower[i] | 0x20 : lower[i]);
    }
    size_t end;
    verdict_t v = run_regex(m, regex, sl_str(lower, value.len), &end);
    m->scratch->len = at;
    return v;
}

static verdict_t header_matches(match_t *m, const gw_img_header_cond_t *cond) {
    if (m->in->header == NULL) {
        return NO;
    }
    verdict_t v = NO;
    sl_str_t name = gw_img_str(m->img, cond->name);
    for (size_t i = 0; v == NO; i++) {
        sl_str_t value = m->in->header(m->in->ud, name, i);
        if (value.data == NULL) {
            return NO;
        }
        if (cond->regex != GW_NONE) {
            v = header_regex(m, cond->regex, value);
        } else {
            v = any_text_nocase(m, cond->values, value) ? YES : NO;
        }
    }
    return v;
}

static verdict_t cond_matches(match_t *m, const gw_img_cond_t *cond) {
    if (cond->methods.count > 0 && !any_text(m, cond->methods, m->in->method)) {
        return NO;
    }
    /* A connection without TLS has no SNI to compare. */
    if (cond->snis.count > 0 && m->in->https && !snis_match(m, cond->snis)) {
        return NO;
    }
    const gw_img_header_cond_t *headers = GW_IMG(m->img, gw_img_header_cond_t, GW_SEC_HEADERS) + cond->headers.first;
    verdict_t v = YES;
    for (uint32_t i = 0; v == YES && i < cond->headers.count; i++) {
        v = header_matches(m, &headers[i]);
    }
    return v;
}

/* The tries have compared host name and plain path; this compares the rest. */
static verdict_t leaf_matches(match_t *m, const gw_img_leaf_t *leaf, size_t *prefix) {
    verdict_t v = leaf->cond == GW_NONE ? YES : cond_matches(m, &GW_IMG(m->img, gw_img_cond_t, GW_SEC_CONDS)[leaf->cond]);
    if (v != YES) {
        return v;
    }
    *prefix = leaf->path_len;
    if (leaf->regex != GW_NONE) {
        return run_regex(m, leaf->regex, path_of(m), prefix);
    }
    /* Only an image made by hand claims a longer path than the trie has compared. */
    return leaf->path_len == GW_NONE || leaf->path_len <= m->path_len ? YES : NO;
}

/* ---- candidates ---------------------------------------------------------------------------------------------------------- */

/* Tries the items of a list in order, as long as they would beat what was found. */
static verdict_t scan_items(match_t *m, gw_range_t range) {
    const gw_img_item_t *items = GW_IMG(m->img, gw_img_item_t, GW_SEC_ITEMS) + range.first;
    const gw_img_leaf_t *leaves = GW_IMG(m->img, gw_img_leaf_t, GW_SEC_LEAVES);
    for (uint32_t i = 0; i < range.count && items[i].leaf < m->best; i++) {
        if (items[i].port != 0 && items[i].port != m->port) {
            continue;
        }
        size_t prefix = 0;
        const gw_img_leaf_t *leaf = &leaves[items[i].leaf];
        verdict_t v = leaf_matches(m, leaf, &prefix);
        if (v == NO) {
            continue;
        }
        if (v != BROKEN) {
            m->best = items[i].leaf;
            m->verdict = v;
            m->prefix = prefix;
        }
        return v;
    }
    return NO;
}

static verdict_t scan_value(match_t *m, const gw_img_probe_t *probe, sl_str_t value) {
    uint32_t list = walk_exact(m->img, GW_SEC_VALUE_NODES, probe->values, value);
    return list == GW_NONE ? NO : scan_items(m, GW_IMG(m->img, gw_img_list_t, GW_SEC_LISTS)[list].items);
}

/* The trie holds values in lower case; the copy lives behind the path in `scratch`. */
static verdict_t scan_header_value(match_t *m, const gw_img_probe_t *probe, sl_str_t value) {
    size_t at = m->scratch->len;
    if (sl_buf_append_str(m->scratch, value) != SL_OK) {
        return broken(m, SL_NO_MEMORY);
    }
    char *lower = m->scratch->data + at;
    for (size_t i = 0; i < value.len; i++) {
        lower[i] = (char)(lower[i] >= 'A' && lower[i] <= 'Z' ? lower[i] | 0x20 : lower[i]);
    }
    uint32_t list = walk_exact(m->img, GW_SEC_VALUE_NODES, probe->values, sl_str(lower, value.len));
    m->scratch->len = at;
    return list == GW_NONE ? NO : scan_items(m, GW_IMG(m->img, gw_img_list_t, GW_SEC_LISTS)[list].items);
}

static verdict_t scan_header_probe(match_t *m, const gw_img_probe_t *probe) {
    verdict_t v = NO;
    sl_str_t name = gw_img_str(m->img, probe->name);
    for (size_t i = 0; v != BROKEN && m->in->header != NULL; i++) {
        sl_str_t value = m->in->header(m->in->ud, name, i);
        if (value.data == NULL) {
            return NO;
        }
        v = scan_header_value(m, probe, value);
    }
    return v;
}

static verdict_t scan_probe(match_t *m, const gw_img_probe_t *probe) {
    if (probe->min_leaf >= m->best) {
        return NO;
    }
    if (probe->kind == GW_PROBE_HEADER) {
        return scan_header_probe(m, probe);
    }
    if (m->in->https) {
        return scan_value(m, probe, m->in->sni);
    }
    return probe->all == GW_NONE ? NO : scan_items(m, GW_IMG(m->img, gw_img_list_t, GW_SEC_LISTS)[probe->all].items);
}

static verdict_t scan_list(match_t *m, const gw_img_list_t *list) {
    if (list->min_leaf >= m->best) {
        return NO;
    }
    const gw_img_probe_t *probes = GW_IMG(m->img, gw_img_probe_t, GW_SEC_PROBES) + list->probes.first;
    verdict_t v = NO;
    for (uint32_t i = 0; v != BROKEN && i < list->probes.count; i++) {
        v = scan_probe(m, &probes[i]);
    }
    return v == BROKEN ? v : scan_items(m, list->items);
}

/* All lists whose key is a prefix of the path, longest key first: what is found there rules out most of the others. */
static verdict_t scan_paths(match_t *m, uint32_t root) {
    const gw_img_node_t *nodes = GW_IMG(m->img, gw_img_node_t, GW_SEC_PATH_NODES);
    const walk_t t = {path_of(m), false};
    size_t depth;
    for (uint32_t i = walk(m->img, GW_SEC_PATH_NODES, root, &t, &depth); i != GW_NONE; i = nodes[i].up) {
        if (scan_list(m, &GW_IMG(m->img, gw_img_list_t, GW_SEC_LISTS)[nodes[i].value]) == BROKEN) {
            return BROKEN;
        }
    }
    return NO;
}

/* All wildcard patterns that fit; the '*' stands for one byte at least. */
static verdict_t scan_wildcards(match_t *m, uint32_t root, sl_str_t host, bool reversed) {
    if (root == GW_NONE || host.len == 0) {
        return NO;
    }
    const walk_t t = {reversed ? sl_str(host.data + 1, host.len - 1) : sl_str(host.data, host.len - 1), reversed};
    const gw_img_node_t *nodes = GW_IMG(m->img, gw_img_node_t, GW_SEC_HOST_NODES);
    size_t depth;
    for (uint32_t i = walk(m->img, GW_SEC_HOST_NODES, root, &t, &depth); i != GW_NONE; i = nodes[i].up) {
        if (scan_paths(m, nodes[i].value) == BROKEN) {
            return BROKEN;
        }
    }
    return NO;
}

static verdict_t scan_exact_host(match_t *m, sl_str_t host) {
    uint32_t root = m->img->header->host_exact;
    uint32_t paths = root == GW_NONE || host.len == 0 ? GW_NONE : walk_exact(m->img, GW_SEC_HOST_NODES, root, host);
    return paths == GW_NONE ? NO : scan_paths(m, paths);
}

static sl_status_t find_leaf(match_t *m) {
    const gw_img_header_t *h = m->img->header;
    uint32_t port;
    sl_str_t host = gw_router_host_split(m->in->host, &port);
    uint32_t otherwise = h->traditional ? (m->in->https ? 443 : 80) : m->in->port;
    m->port = port != 0 ? port : otherwise;
    bool ok = scan_exact_host(m, host) != BROKEN && scan_wildcards(m, h->host_suffix, host, true) != BROKEN &&
              scan_wildcards(m, h->host_prefix, host, false) != BROKEN && (h->any_host == GW_NONE || scan_paths(m, h->any_host) != BROKEN);
    if (!ok) {
        return m->rc;
    }
    if (m->best == GW_NONE) {
        return SL_NOT_FOUND;
    }
    return m->verdict == YES ? SL_OK : SL_FAILED;
}

/* ---- the path for the service ---------------------------------------------------------------------------------------------- */

static sl_str_t base_path(const gw_image_t *img, const gw_img_route_t *route) {
    sl_str_t path = SL_STR_NULL;
    if (route->service != GW_NONE) {
        path = gw_img_str(img, GW_IMG(img, gw_img_service_t, GW_SEC_SERVICES)[route->service].path);
    }
    return path.len > 0 ? path : SL_STR("/");
}

static sl_status_t compose(match_t *m, gw_match_t *out) {
    const gw_img_leaf_t *leaf = &GW_IMG(m->img, gw_img_leaf_t, GW_SEC_LEAVES)[m->best];
    const gw_img_route_t *route = &GW_IMG(m->img, gw_img_route_t, GW_SEC_ROUTES)[leaf->route];
    gw_path_join_t j = {
        .base = base_path(m->img, route),
        .path = path_of(m),
        .has_prefix = leaf->regex != GW_NONE || leaf->path_len != GW_NONE,
        .strip = (route->flags & GW_ROUTE_STRIP_PATH) != 0,
        .v1 = (route->flags & GW_ROUTE_PATH_V1) != 0,
    };
    j.prefix = j.has_prefix ? m->prefix : 0;
    if (sl_buf_reserve(m->scratch, gw_path_join_max(&j)) != SL_OK) {
        return SL_NO_MEMORY;
    }
    j.path = path_of(m); /* it may have moved, and stays from here on */
    size_t at = m->scratch->len;
    if (gw_path_join(&j, m->scratch) != SL_OK) {
        return SL_NO_MEMORY;
    }
    out->route = leaf->route;
    out->matched_prefix = j.has_prefix ? sl_str(j.path.data, j.prefix) : SL_STR_NULL;
    out->upstream_path = sl_str(m->scratch->data + at, m->scratch->len - at);
    return SL_OK;
}

sl_status_t gw_router_match(const gw_image_t *img, sl_regex_t **regexes, const gw_match_in_t *in, sl_buf_t *scratch, gw_match_t *out) {
    sl_buf_reset(scratch);
    if (gw_path_normalize(gw_path_of_target(in->path), scratch) != SL_OK) {
        return SL_NO_MEMORY;
    }
    match_t m = {.img = img, .regexes = regexes, .in = in, .scratch = scratch, .path_len = scratch->len, .best = GW_NONE};
    sl_status_t rc = find_leaf(&m);
    return rc == SL_OK ? compose(&m, out) : rc;
}
