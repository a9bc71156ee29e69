#include "gw_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gw_plan_parts.h"
#include "gw_router.h"
#include "sl_digest.h"

struct gw_plan_s {
    gw_image_t img;
    sl_regex_t **regexes; /* one slot for each, filled when first needed */
    void *mapped;         /* of a file; NULL: borrowed memory */
};

const uint32_t gw_img_record_size[GW_SEC_COUNT] = {
    [GW_SEC_STRINGS] = 1,
    [GW_SEC_SERVICES] = sizeof(gw_img_service_t),
    [GW_SEC_ROUTES] = sizeof(gw_img_route_t),
    [GW_SEC_CHAINS] = sizeof(gw_img_chain_t),
    [GW_SEC_CHAIN_FILTERS] = sizeof(uint32_t),
    [GW_SEC_FILTERS] = sizeof(gw_img_filter_t),
    [GW_SEC_LEAVES] = sizeof(gw_img_leaf_t),
    [GW_SEC_RANKS] = sizeof(gw_img_rank_t),
    [GW_SEC_PLACES] = sizeof(gw_img_place_t),
    [GW_SEC_CONDS] = sizeof(gw_img_cond_t),
    [GW_SEC_HEADERS] = sizeof(gw_img_header_cond_t),
    [GW_SEC_TEXTS] = sizeof(gw_ref_t),
    [GW_SEC_REGEXES] = sizeof(gw_img_regex_t),
    [GW_SEC_ITEMS] = sizeof(gw_img_item_t),
    [GW_SEC_LISTS] = sizeof(gw_img_list_t),
    [GW_SEC_PROBES] = sizeof(gw_img_probe_t),
    [GW_SEC_HOST_NODES] = sizeof(gw_img_node_t),
    [GW_SEC_PATH_NODES] = sizeof(gw_img_node_t),
    [GW_SEC_VALUE_NODES] = sizeof(gw_img_node_t),
    [GW_SEC_COLLECTIONS] = sizeof(gw_img_collection_t),
    [GW_SEC_ENTITIES] = sizeof(gw_img_entity_t),
    [GW_SEC_KEYS] = sizeof(gw_img_key_t),
    [GW_SEC_LINKS] = sizeof(gw_img_link_t),
    [GW_SEC_TAGS] = sizeof(gw_img_tag_t),
};

/* ---- verification -------------------------------------------------------------------------------------------------------- */

typedef enum {
    FIELD_TEXT,  /* gw_ref_t, may be null */
    FIELD_INDEX, /* into `target` */
    FIELD_MAYBE, /* the same or GW_NONE */
    FIELD_RANGE  /* gw_range_t in `target` */
} field_kind_t;

typedef struct {
    uint8_t section;
    uint8_t kind;
    uint8_t target;
    uint8_t offset;
} field_t;

#define FIELD(section, type, member, kind, target) {section, kind, target, offsetof(type, member)}
#define TEXT(section, type, member) FIELD(section, type, member, FIELD_TEXT, 0)

/* Every reference that an image holds, except those in its header. */
static const field_t fields[] = {
    TEXT(GW_SEC_SERVICES, gw_img_service_t, id),
    TEXT(GW_SEC_SERVICES, gw_img_service_t, name),
    TEXT(GW_SEC_SERVICES, gw_img_service_t, host),
    TEXT(GW_SEC_SERVICES, gw_img_service_t, path),
    FIELD(GW_SEC_SERVICES, gw_img_service_t, filters, FIELD_RANGE, GW_SEC_FILTERS),
    TEXT(GW_SEC_ROUTES, gw_img_route_t, id),
    TEXT(GW_SEC_ROUTES, gw_img_route_t, name),
    FIELD(GW_SEC_ROUTES, gw_img_route_t, service, FIELD_MAYBE, GW_SEC_SERVICES),
    FIELD(GW_SEC_ROUTES, gw_img_route_t, chain, FIELD_MAYBE, GW_SEC_CHAINS),
    FIELD(GW_SEC_ROUTES, gw_img_route_t, filters, FIELD_RANGE, GW_SEC_FILTERS),
    FIELD(GW_SEC_CHAINS, gw_img_chain_t, filters, FIELD_RANGE, GW_SEC_CHAIN_FILTERS),
    {GW_SEC_CHAIN_FILTERS, FIELD_INDEX, GW_SEC_FILTERS, 0},
    TEXT(GW_SEC_FILTERS, gw_img_filter_t, name),
    TEXT(GW_SEC_FILTERS, gw_img_filter_t, config),
    TEXT(GW_SEC_FILTERS, gw_img_filter_t, chain_id),
    TEXT(GW_SEC_FILTERS, gw_img_filter_t, chain_name),
    TEXT(GW_SEC_FILTERS, gw_img_filter_t, options),
    FIELD(GW_SEC_LEAVES, gw_img_leaf_t, route, FIELD_INDEX, GW_SEC_ROUTES),
    FIELD(GW_SEC_LEAVES, gw_img_leaf_t, cond, FIELD_MAYBE, GW_SEC_CONDS),
    FIELD(GW_SEC_LEAVES, gw_img_leaf_t, regex, FIELD_MAYBE, GW_SEC_REGEXES),
    TEXT(GW_SEC_RANKS, gw_img_rank_t, key),
    TEXT(GW_SEC_PLACES, gw_img_place_t, host),
    TEXT(GW_SEC_PLACES, gw_img_place_t, key),
    FIELD(GW_SEC_PLACES, gw_img_place_t, leaf, FIELD_INDEX, GW_SEC_LEAVES),
    FIELD(GW_SEC_CONDS, gw_img_cond_t, methods, FIELD_RANGE, GW_SEC_TEXTS),
    FIELD(GW_SEC_CONDS, gw_img_cond_t, snis, FIELD_RANGE, GW_SEC_TEXTS),
    FIELD(GW_SEC_CONDS, gw_img_cond_t, headers, FIELD_RANGE, GW_SEC_HEADERS),
    TEXT(GW_SEC_HEADERS, gw_img_header_cond_t, name),
    FIELD(GW_SEC_HEADERS, gw_img_header_cond_t, values, FIELD_RANGE, GW_SEC_TEXTS),
    FIELD(GW_SEC_HEADERS, gw_img_header_cond_t, regex, FIELD_MAYBE, GW_SEC_REGEXES),
    {GW_SEC_TEXTS, FIELD_TEXT, 0, 0},
    TEXT(GW_SEC_REGEXES, gw_img_regex_t, pattern),
    FIELD(GW_SEC_ITEMS, gw_img_item_t, leaf, FIELD_INDEX, GW_SEC_LEAVES),
    FIELD(GW_SEC_LISTS, gw_img_list_t, items, FIELD_RANGE, GW_SEC_ITEMS),
    FIELD(GW_SEC_LISTS, gw_img_list_t, probes, FIELD_RANGE, GW_SEC_PROBES),
    FIELD(GW_SEC_PROBES, gw_img_probe_t, values, FIELD_INDEX, GW_SEC_VALUE_NODES),
    TEXT(GW_SEC_PROBES, gw_img_probe_t, name),
    FIELD(GW_SEC_PROBES, gw_img_probe_t, all, FIELD_MAYBE, GW_SEC_LISTS),
    TEXT(GW_SEC_HOST_NODES, gw_img_node_t, label),
    FIELD(GW_SEC_HOST_NODES, gw_img_node_t, value, FIELD_MAYBE, GW_SEC_PATH_NODES),
    TEXT(GW_SEC_PATH_NODES, gw_img_node_t, label),
    FIELD(GW_SEC_PATH_NODES, gw_img_node_t, value, FIELD_MAYBE, GW_SEC_LISTS),
    TEXT(GW_SEC_VALUE_NODES, gw_img_node_t, label),
    FIELD(GW_SEC_VALUE_NODES, gw_img_node_t, value, FIELD_MAYBE, GW_SEC_LISTS),
    TEXT(GW_SEC_COLLECTIONS, gw_img_collection_t, name),
    FIELD(GW_SEC_COLLECTIONS, gw_img_collection_t, entities, FIELD_RANGE, GW_SEC_ENTITIES),
    FIELD(GW_SEC_COLLECTIONS, gw_img_collection_t, keys, FIELD_RANGE, GW_SEC_KEYS),
    FIELD(GW_SEC_COLLECTIONS, gw_img_collection_t, links, FIELD_RANGE, GW_SEC_LINKS),
    FIELD(GW_SEC_COLLECTIONS, gw_img_collection_t, tags, FIELD_RANGE, GW_SEC_TAGS),
    TEXT(GW_SEC_ENTITIES, gw_img_entity_t, id),
    TEXT(GW_SEC_ENTITIES, gw_img_entity_t, json),
    TEXT(GW_SEC_KEYS, gw_img_key_t, key),
    FIELD(GW_SEC_KEYS, gw_img_key_t, entity, FIELD_INDEX, GW_SEC_ENTITIES),
    TEXT(GW_SEC_LINKS, gw_img_link_t, field),
    FIELD(GW_SEC_LINKS, gw_img_link_t, parent, FIELD_INDEX, GW_SEC_ENTITIES),
    FIELD(GW_SEC_LINKS, gw_img_link_t, child, FIELD_INDEX, GW_SEC_ENTITIES),
    TEXT(GW_SEC_TAGS, gw_img_tag_t, tag),
    FIELD(GW_SEC_TAGS, gw_img_tag_t, entity, FIELD_INDEX, GW_SEC_ENTITIES),
};

static sl_status_t damaged(sl_err_t *err, const char *what) {
    return sl_err_set(err, SL_INVALID, "plan is damaged: %s", what);
}

static bool in_range(gw_range_t r, uint32_t count) {
    return r.first <= count && r.count <= count - r.first;
}

static bool text_ok(const gw_image_t *img, gw_ref_t r) {
    if (r.off == 0) {
        return r.len == 0;
    }
    gw_range_t s = img->header->sections[GW_SEC_STRINGS];
    return r.off >= s.first && r.off - s.first <= s.count && r.len <= s.count - (r.off - s.first);
}

static bool field_ok(const gw_image_t *img, const field_t *f, const char *record) {
    gw_range_t pair;
    uint32_t index;
    switch ((field_kind_t)f->kind) {
    case FIELD_TEXT:
        memcpy(&pair, record + f->offset, sizeof(pair));
        return text_ok(img, (gw_ref_t){pair.first, pair.count});
    case FIELD_RANGE:
        memcpy(&pair, record + f->offset, sizeof(pair));
        return in_range(pair, img->n[f->target]);
    default:
        memcpy(&index, record + f->offset, sizeof(index));
        return index < img->n[f->target] || (f->kind == FIELD_MAYBE && index == GW_NONE);
    }
}

static sl_status_t verify_fields(const gw_image_t *img, sl_err_t *err) {
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const field_t *f = &fields[i];
        const char *record = img->sec[f->section];
        for (uint32_t n = 0; n < img->n[f->section]; n++, record += gw_img_record_size[f->section]) {
            if (!field_ok(img, f, record)) {
                return sl_err_set(err, SL_INVALID, "plan is damaged: section %u, record %u, byte %u refers to nothing", f->section, n,
                                  f->offset);
            }
        }
    }
    return SL_OK;
}

/* Children come after their parent and consume bytes, `up` points backwards to a value: walks end, in both directions. */
static bool node_ok(const gw_img_node_t *nodes, uint32_t n, uint32_t i) {
    const gw_img_node_t *node = &nodes[i];
    if (node->up != GW_NONE && (node->up >= i || nodes[node->up].value == GW_NONE)) {
        return false;
    }
    if (node->n_children == 0) {
        return true;
    }
    if (node->child <= i || !in_range((gw_range_t){node->child, node->n_children}, n)) {
        return false;
    }
    for (uint32_t c = 0; c < node->n_children; c++) {
        if (nodes[node->child + c].label.len == 0) {
            return false;
        }
    }
    return true;
}

/* A node may be the child of one parent only, so that checking the children takes linear time. */
static sl_status_t verify_nodes(const gw_image_t *img, gw_section_t section, sl_err_t *err) {
    const gw_img_node_t *nodes = GW_IMG(img, gw_img_node_t, section);
    uint64_t children = 0;
    for (uint32_t i = 0; i < img->n[section]; i++) {
        children += nodes[i].n_children;
        if (children > img->n[section] || !node_ok(nodes, img->n[section], i)) {
            return sl_err_set(err, SL_INVALID, "plan is damaged: section %u, node %u", section, i);
        }
    }
    return SL_OK;
}

/* Lists that a probe leads to have no probes themselves: nothing nests. */
static sl_status_t verify_lists(const gw_image_t *img, sl_err_t *err) {
    const gw_img_list_t *lists = GW_IMG(img, gw_img_list_t, GW_SEC_LISTS);
    const gw_img_node_t *values = GW_IMG(img, gw_img_node_t, GW_SEC_VALUE_NODES);
    for (uint32_t i = 0; i < img->n[GW_SEC_VALUE_NODES]; i++) {
        if (values[i].value != GW_NONE && lists[values[i].value].probes.count != 0) {
            return damaged(err, "a probe leads to probes");
        }
    }
    const gw_img_probe_t *probes = GW_IMG(img, gw_img_probe_t, GW_SEC_PROBES);
    for (uint32_t i = 0; i < img->n[GW_SEC_PROBES]; i++) {
        if (probes[i].all != GW_NONE && lists[probes[i].all].probes.count != 0) {
            return damaged(err, "a probe leads to probes");
        }
    }
    return SL_OK;
}

static bool root_ok(uint32_t root, uint32_t count) {
    return root == GW_NONE || root < count;
}

static sl_status_t verify_header_refs(const gw_image_t *img, sl_err_t *err) {
    const gw_img_header_t *h = img->header;
    if (!text_ok(img, h->config_hash)) {
        return damaged(err, "the header's texts");
    }
    uint32_t hosts = img->n[GW_SEC_HOST_NODES];
    if (!root_ok(h->host_exact, hosts) || !root_ok(h->host_prefix, hosts) || !root_ok(h->host_suffix, hosts) ||
        !root_ok(h->any_host, img->n[GW_SEC_PATH_NODES])) {
        return damaged(err, "the router's entrances");
    }
    return img->n[GW_SEC_ROUTES] > INT32_MAX || img->n[GW_SEC_CHAINS] > INT32_MAX ? damaged(err, "too many records") : SL_OK;
}

static sl_status_t verify_sections(gw_image_t *img, sl_err_t *err) {
    for (int i = 0; i < GW_SEC_COUNT; i++) {
        gw_range_t s = img->header->sections[i];
        if (s.first % 8 != 0 || s.first < sizeof(gw_img_header_t) || s.first > img->size ||
            s.count > (img->size - s.first) / gw_img_record_size[i]) {
            return sl_err_set(err, SL_INVALID, "plan is damaged: section %d lies outside", i);
        }
        img->sec[i] = img->base + s.first;
        img->n[i] = s.count;
    }
    return SL_OK;
}

static sl_status_t verify_head(gw_image_t *img, sl_str_t image, sl_err_t *err) {
    if (image.len < sizeof(gw_img_header_t) || (uintptr_t)image.data % 8 != 0) {
        return damaged(err, "too short for a header, or not aligned");
    }
    *img = (gw_image_t){.base = image.data, .size = image.len, .header = (const gw_img_header_t *)(const void *)image.data};
    if (memcmp(img->header->magic, GW_IMG_MAGIC, sizeof(img->header->magic)) != 0) {
        return sl_err_set(err, SL_INVALID, "not a plan");
    }
    if (img->header->format != GW_IMG_FORMAT || img->header->n_sections != GW_SEC_COUNT) {
        return sl_err_set(err, SL_INVALID, "plan of format %u, this version reads format %u", img->header->format, GW_IMG_FORMAT);
    }
    if (img->header->size != image.len || image.len > UINT32_MAX) {
        return damaged(err, "its size is not what its header says");
    }
    return SL_OK;
}

static sl_status_t verify_digest(const gw_image_t *img, sl_str_t image, sl_err_t *err) {
    uint8_t digest[32];
    if (sl_sha256(sl_str(image.data + GW_IMG_HEAD_SIZE, image.len - GW_IMG_HEAD_SIZE), digest) != SL_OK) {
        return sl_err_set(err, SL_FAILED, "plan: the digest could not be computed");
    }
    return memcmp(digest, img->header->sha256, sizeof(digest)) == 0 ? SL_OK : damaged(err, "its digest does not match");
}

static const gw_img_collection_t *find_collection(const gw_image_t *img, sl_str_t name);

/* Whether all records of an index lead into `entities`. */
static bool own(const gw_image_t *img, gw_section_t section, gw_range_t records, size_t offset, gw_range_t entities) {
    const char *record = (const char *)img->sec[section] + (size_t)records.first * gw_img_record_size[section];
    for (uint32_t i = 0; i < records.count; i++, record += gw_img_record_size[section]) {
        uint32_t entity;
        memcpy(&entity, record + offset, sizeof(entity));
        if (entity < entities.first || entity - entities.first >= entities.count) {
            return false;
        }
    }
    return true;
}

/* Where an index leads out of its own collection, or a leaf has no rank: what the next build relies on. */
static sl_status_t verify_tables(const gw_image_t *img, sl_err_t *err) {
    const gw_img_collection_t *c = GW_IMG(img, gw_img_collection_t, GW_SEC_COLLECTIONS);
    const gw_img_place_t *places = GW_IMG(img, gw_img_place_t, GW_SEC_PLACES);
    bool good = img->n[GW_SEC_RANKS] == img->n[GW_SEC_LEAVES];
    for (uint32_t i = 0; i < img->n[GW_SEC_PLACES]; i++) {
        good = good && places[i].kind <= GW_HOST_SUFFIX;
    }
    for (uint32_t i = 0; good && i < img->n[GW_SEC_COLLECTIONS]; i++) {
        good = own(img, GW_SEC_KEYS, c[i].keys, offsetof(gw_img_key_t, entity), c[i].entities) &&
               own(img, GW_SEC_LINKS, c[i].links, offsetof(gw_img_link_t, child), c[i].entities) &&
               own(img, GW_SEC_TAGS, c[i].tags, offsetof(gw_img_tag_t, entity), c[i].entities);
    }
    gw_range_t none = {0, 0};
    const gw_img_collection_t *services = find_collection(img, SL_STR("services")), *routes = find_collection(img, SL_STR("routes"));
    good = good && (services != NULL ? services->entities : none).count == img->n[GW_SEC_SERVICES] &&
           (routes != NULL ? routes->entities : none).count == img->n[GW_SEC_ROUTES];
    return good ? SL_OK : damaged(err, "a table for building the next plan");
}

static sl_status_t verify(gw_image_t *img, sl_str_t image, bool digest, sl_err_t *err) {
    static const gw_section_t tries[] = {GW_SEC_HOST_NODES, GW_SEC_PATH_NODES, GW_SEC_VALUE_NODES};
    sl_status_t rc = verify_head(img, image, err);
    rc = rc == SL_OK && digest ? verify_digest(img, image, err) : rc;
    rc = rc == SL_OK ? verify_sections(img, err) : rc;
    rc = rc == SL_OK ? verify_header_refs(img, err) : rc;
    rc = rc == SL_OK ? verify_fields(img, err) : rc;
    for (size_t i = 0; rc == SL_OK && i < sizeof(tries) / sizeof(tries[0]); i++) {
        rc = verify_nodes(img, tries[i], err);
    }
    rc = rc == SL_OK ? verify_lists(img, err) : rc;
    return rc == SL_OK ? verify_tables(img, err) : rc;
}

/* ---- life ---------------------------------------------------------------------------------------------------------------- */

static sl_status_t open_image(sl_str_t image, bool digest, gw_plan_t **out, sl_err_t *err) {
    gw_image_t img;
    sl_status_t rc = verify(&img, image, digest, err);
    if (rc != SL_OK) {
        return rc;
    }
    gw_plan_t *plan = calloc(1, sizeof(*plan));
    sl_regex_t **regexes = calloc((size_t)img.n[GW_SEC_REGEXES] + 1, sizeof(*regexes));
    if (plan == NULL || regexes == NULL) {
        free(plan);
        free(regexes);
        return sl_err_set(err, SL_NO_MEMORY, "plan: out of memory");
    }
    *plan = (gw_plan_t){.img = img, .regexes = regexes};
    *out = plan;
    return SL_OK;
}

sl_status_t gw_plan_open(sl_str_t image, gw_plan_t **out, sl_err_t *err) {
    return open_image(image, true, out, err);
}

gw_plan_t *gw_plan_view(const gw_plan_t *plan) {
    gw_plan_t *view = calloc(1, sizeof(*view));
    sl_regex_t **regexes = calloc((size_t)plan->img.n[GW_SEC_REGEXES] + 1, sizeof(*regexes));
    if (view == NULL || regexes == NULL) {
        free(view);
        free(regexes);
        return NULL;
    }
    *view = (gw_plan_t){.img = plan->img, .regexes = regexes};
    return view;
}

bool gw_plan_traditional(const gw_plan_t *plan) {
    return plan->img.header->traditional != 0;
}

/* `fd` as `name`: a regular file (or sealed memory) that a header fits into. */
static sl_status_t image_size(const char *name, int fd, size_t *size, sl_err_t *err) {
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return sl_err_set(err, SL_IO, "%s: not a regular file", name);
    }
    if (st.st_size < (off_t)sizeof(gw_img_header_t)) {
        return sl_err_set(err, SL_INVALID, "%s: plan is damaged: too short for a header", name);
    }
    *size = (size_t)st.st_size;
    return SL_OK;
}

static sl_status_t open_mapped(const char *name, void *p, size_t size, bool digest, gw_plan_t **out, sl_err_t *err) {
    sl_status_t rc = open_image(sl_str(p, size), digest, out, err);
    if (rc != SL_OK) {
        munmap(p, size);
        sl_err_prefix(err, "%s: ", name);
        return rc;
    }
    (*out)->mapped = p;
    return SL_OK;
}

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

static sl_status_t open_sealed(int fd, bool digest, gw_plan_t **out, sl_err_t *err) {
    static const char name[] = "sealed plan";
    size_t size;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS) {
        return sl_err_set(err, SL_FAILED, "%s: the memory is not sealed", name);
    }
    sl_status_t rc = image_size(name, fd, &size, err);
    if (rc != SL_OK) {
        return rc;
    }
    void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        return sl_err_set(err, SL_IO, "%s: cannot map: %s", name, strerror(errno));
    }
    return open_mapped(name, p, size, digest, out, err);
}

sl_status_t gw_plan_open_sealed(int fd, gw_plan_t **out, sl_err_t *err) {
    return open_sealed(fd, true, out, err);
}

sl_status_t gw_plan_open_shared(int fd, gw_plan_t **out, sl_err_t *err) {
    return open_sealed(fd, false, out, err);
}

static sl_status_t read_whole(const char *path, int fd, char *to, size_t size, sl_err_t *err) {
    for (size_t at = 0; at < size;) {
        ssize_t n = read(fd, to + at, size - at);
        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            return n == 0 ? sl_err_set(err, SL_INVALID, "%s: plan is damaged: it ends early", path)
                          : sl_err_set(err, SL_IO, "%s: cannot read: %s", path, strerror(errno));
        }
        at += n > 0 ? (size_t)n : 0;
    }
    return SL_OK;
}

static sl_status_t open_fd(const char *path, int fd, gw_plan_t **out, sl_err_t *err) {
    size_t size;
    sl_status_t rc = image_size(path, fd, &size, err);
    if (rc != SL_OK) {
        return rc;
    }
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", path);
    }
    rc = read_whole(path, fd, p, size, err);
    if (rc != SL_OK) {
        munmap(p, size);
        return rc;
    }
    return open_mapped(path, p, size, true, out, err);
}

sl_status_t gw_plan_open_file(const char *path, gw_plan_t **out, sl_err_t *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return sl_err_set(err, errno == ENOENT ? SL_NOT_FOUND : SL_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    sl_status_t rc = open_fd(path, fd, out, err);
    close(fd);
    return rc;
}

/* No node ever counts as far: a damaged head must not make numbers that nothing can follow. */
#define GENERATION_MAX (UINT64_MAX / 2)

uint64_t gw_plan_peek_generation(const char *path) {
    gw_img_header_t head;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd >= 0 ? pread(fd, &head, sizeof(head), 0) : -1;
    if (fd >= 0) {
        close(fd);
    }
    if (n != (ssize_t)sizeof(head) || memcmp(head.magic, GW_IMG_MAGIC, sizeof(head.magic)) != 0) {
        return 0;
    }
    return head.format == GW_IMG_FORMAT && head.generation <= GENERATION_MAX ? head.generation : 0;
}

void gw_plan_close(gw_plan_t *plan) {
    if (plan == NULL) {
        return;
    }
    for (uint32_t i = 0; i < plan->img.n[GW_SEC_REGEXES]; i++) {
        sl_regex_free(plan->regexes[i]);
    }
    free(plan->regexes);
    if (plan->mapped != NULL) {
        munmap(plan->mapped, plan->img.size);
    }
    free(plan);
}

const gw_image_t *gw_plan_image(const gw_plan_t *plan) {
    return &plan->img;
}

uint64_t gw_plan_store_revision(const gw_plan_t *plan) {
    return plan->img.header->store_revision;
}

const uint8_t *gw_plan_modules(const gw_plan_t *plan) {
    return plan->img.header->modules;
}

uint64_t gw_plan_generation(const gw_plan_t *plan) {
    return plan->img.header->generation;
}

sl_str_t gw_plan_config_hash(const gw_plan_t *plan) {
    return gw_img_str(&plan->img, plan->img.header->config_hash);
}

/* ---- what a request needs -------------------------------------------------------------------------------------------------- */

size_t gw_plan_n_services(const gw_plan_t *plan) {
    return plan->img.n[GW_SEC_SERVICES];
}

size_t gw_plan_n_routes(const gw_plan_t *plan) {
    return plan->img.n[GW_SEC_ROUTES];
}

size_t gw_plan_n_chains(const gw_plan_t *plan) {
    return plan->img.n[GW_SEC_CHAINS];
}

void gw_plan_service(const gw_plan_t *plan, uint32_t index, gw_service_t *out) {
    const gw_image_t *img = &plan->img;
    const gw_img_service_t *s = &GW_IMG(img, gw_img_service_t, GW_SEC_SERVICES)[index];
    *out = (gw_service_t){
        .id = gw_img_str(img, s->id),
        .name = gw_img_str(img, s->name),
        .host = gw_img_str(img, s->host),
        .path = gw_img_str(img, s->path),
        .protocol = (gw_protocol_t)s->protocol,
        .port = s->port,
        .retries = s->retries,
        .connect_timeout_ms = s->connect_timeout_ms,
        .write_timeout_ms = s->write_timeout_ms,
        .read_timeout_ms = s->read_timeout_ms,
        .enabled = s->enabled != 0,
        .tls_verify = s->tls_verify,
    };
}

void gw_plan_route(const gw_plan_t *plan, uint32_t index, gw_route_t *out) {
    const gw_image_t *img = &plan->img;
    const gw_img_route_t *r = &GW_IMG(img, gw_img_route_t, GW_SEC_ROUTES)[index];
    *out = (gw_route_t){
        .id = gw_img_str(img, r->id),
        .name = gw_img_str(img, r->name),
        .protocols = r->protocols,
        .https_redirect_status = r->https_redirect_status,
        .strip_path = (r->flags & GW_ROUTE_STRIP_PATH) != 0,
        .preserve_host = (r->flags & GW_ROUTE_PRESERVE_HOST) != 0,
        .request_buffering = (r->flags & GW_ROUTE_REQUEST_BUFFERING) != 0,
        .response_buffering = (r->flags & GW_ROUTE_RESPONSE_BUFFERING) != 0,
        .path_v1 = (r->flags & GW_ROUTE_PATH_V1) != 0,
        .has_service = r->service != GW_NONE,
        .service = r->service == GW_NONE ? 0 : r->service,
        .chain = r->chain == GW_NONE ? -1 : (int32_t)r->chain,
    };
}

size_t gw_plan_chain(const gw_plan_t *plan, uint32_t index) {
    return GW_IMG(&plan->img, gw_img_chain_t, GW_SEC_CHAINS)[index].filters.count;
}

size_t gw_plan_n_filters(const gw_plan_t *plan) {
    return plan->img.n[GW_SEC_FILTERS];
}

void gw_plan_filter(const gw_plan_t *plan, uint32_t index, gw_filter_t *out) {
    const gw_image_t *img = &plan->img;
    const gw_img_filter_t *f = &GW_IMG(img, gw_img_filter_t, GW_SEC_FILTERS)[index];
    *out = (gw_filter_t){
        .name = gw_img_str(img, f->name),
        .config = gw_img_str(img, f->config),
        .chain_id = gw_img_str(img, f->chain_id),
        .chain_name = gw_img_str(img, f->chain_name),
        .options = gw_img_str(img, f->options),
        .from_service = f->from_service != 0,
    };
    memcpy(out->key, f->key, sizeof(out->key));
    memcpy(out->module, f->module, sizeof(out->module));
}

void gw_plan_chain_filter(const gw_plan_t *plan, uint32_t index, size_t i, gw_filter_t *out) {
    gw_range_t range = GW_IMG(&plan->img, gw_img_chain_t, GW_SEC_CHAINS)[index].filters;
    gw_plan_filter(plan, GW_IMG(&plan->img, uint32_t, GW_SEC_CHAIN_FILTERS)[range.first + i], out);
}

sl_status_t gw_plan_match(const gw_plan_t *plan, const gw_match_in_t *in, sl_buf_t *scratch, gw_match_t *out) {
    return gw_router_match(&plan->img, plan->regexes, in, scratch, out);
}

/* ---- what the Admin API reads ------------------------------------------------------------------------------------------------ */

/* Position of the first of n records whose leading text is not less than `s` (or greater, when `after`). */
static size_t lower_bound(const gw_image_t *img, gw_section_t section, gw_range_t range, sl_str_t s, bool after) {
    size_t size = gw_img_record_size[section];
    const char *first = (const char *)img->sec[section] + range.first * size;
    size_t lo = 0, hi = range.count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        gw_ref_t text;
        memcpy(&text, first + mid * size, sizeof(text));
        int rc = sl_str_cmp(gw_img_str(img, text), s);
        if (rc < 0 || (after && rc == 0)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static const gw_img_collection_t *find_collection(const gw_image_t *img, sl_str_t name) {
    gw_range_t all = {0, img->n[GW_SEC_COLLECTIONS]};
    size_t i = lower_bound(img, GW_SEC_COLLECTIONS, all, name, false);
    const gw_img_collection_t *c = GW_IMG(img, gw_img_collection_t, GW_SEC_COLLECTIONS) + i;
    return i < all.count && sl_str_eq(gw_img_str(img, c->name), name) ? c : NULL;
}

static const gw_img_entity_t *find_by_id(const gw_image_t *img, const gw_img_collection_t *c, sl_str_t id) {
    char lower[SL_UUID_TEXT_SIZE];
    if (sl_uuid_valid(id)) {
        for (size_t i = 0; i < SL_UUID_TEXT_SIZE; i++) {
            lower[i] = (char)(id.data[i] >= 'A' && id.data[i] <= 'F' ? id.data[i] | 0x20 : id.data[i]);
        }
        id = sl_str(lower, SL_UUID_TEXT_SIZE);
    }
    size_t i = lower_bound(img, GW_SEC_ENTITIES, c->entities, id, false);
    const gw_img_entity_t *e = GW_IMG(img, gw_img_entity_t, GW_SEC_ENTITIES) + c->entities.first + i;
    return i < c->entities.count && sl_str_eq(gw_img_str(img, e->id), id) ? e : NULL;
}

static const gw_img_entity_t *find_by_key(const gw_image_t *img, const gw_img_collection_t *c, sl_str_t key) {
    size_t i = lower_bound(img, GW_SEC_KEYS, c->keys, key, false);
    const gw_img_key_t *k = GW_IMG(img, gw_img_key_t, GW_SEC_KEYS) + c->keys.first + i;
    if (i == c->keys.count || !sl_str_eq(gw_img_str(img, k->key), key)) {
        return NULL;
    }
    return GW_IMG(img, gw_img_entity_t, GW_SEC_ENTITIES) + k->entity;
}

sl_str_t gw_plan_entity(const gw_plan_t *plan, sl_str_t collection, sl_str_t id_or_key) {
    const gw_image_t *img = &plan->img;
    const gw_img_collection_t *c = find_collection(img, collection);
    if (c == NULL) {
        return SL_STR_NULL;
    }
    const gw_img_entity_t *e = find_by_id(img, c, id_or_key);
    if (e == NULL) {
        e = find_by_key(img, c, id_or_key);
    }
    return e == NULL ? SL_STR_NULL : gw_img_str(img, e->json);
}

sl_str_t gw_plan_entity_at(const gw_plan_t *plan, sl_str_t collection, size_t n) {
    const gw_image_t *img = &plan->img;
    const gw_img_collection_t *c = find_collection(img, collection);
    if (c == NULL || n >= c->entities.count) {
        return SL_STR_NULL;
    }
    return gw_img_str(img, GW_IMG(img, gw_img_entity_t, GW_SEC_ENTITIES)[c->entities.first + n].json);
}

size_t gw_plan_entity_count(const gw_plan_t *plan, sl_str_t collection) {
    const gw_img_collection_t *c = find_collection(&plan->img, collection);
    return c == NULL ? 0 : c->entities.count;
}

size_t gw_plan_entity_after(const gw_plan_t *plan, sl_str_t collection, sl_str_t id) {
    const gw_img_collection_t *c = find_collection(&plan->img, collection);
    return c == NULL ? 0 : lower_bound(&plan->img, GW_SEC_ENTITIES, c->entities, id, true);
}

/* ---- sets ---------------------------------------------------------------------------------------------------------------- */

static gw_plan_set_t set_of(const gw_image_t *img, const gw_img_collection_t *c, gw_section_t section, size_t offset, size_t lo,
                            size_t hi) {
    size_t size = gw_img_record_size[section];
    return (gw_plan_set_t){
        .first = (const char *)img->sec[section] + lo * size + offset, .stride = size, .n = hi - lo, .base = c->entities.first};
}

/* Before, at or after (parent, field). */
static int compare_link(const gw_image_t *img, uint32_t i, uint32_t parent, sl_str_t field) {
    const gw_img_link_t *link = &GW_IMG(img, gw_img_link_t, GW_SEC_LINKS)[i];
    if (link->parent != parent) {
        return link->parent < parent ? -1 : 1;
    }
    return sl_str_cmp(gw_img_str(img, link->field), field);
}

/* The first link that is not before (parent, field), or with `past` the first one after it. */
static uint32_t link_bound(const gw_image_t *img, gw_range_t links, uint32_t parent, sl_str_t field, bool past) {
    uint32_t lo = links.first, hi = links.first + links.count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int rc = compare_link(img, mid, parent, field);
        if (rc < 0 || (past && rc == 0)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

gw_plan_set_t gw_plan_children(const gw_plan_t *plan, sl_str_t collection, sl_str_t field, sl_str_t parents, sl_str_t parent_id) {
    const gw_image_t *img = &plan->img;
    const gw_img_collection_t *c = find_collection(img, collection), *p = find_collection(img, parents);
    const gw_img_entity_t *parent = c != NULL && p != NULL ? find_by_id(img, p, parent_id) : NULL;
    if (parent == NULL) {
        return (gw_plan_set_t){.n = 0};
    }
    uint32_t number = (uint32_t)(parent - GW_IMG(img, gw_img_entity_t, GW_SEC_ENTITIES));
    return set_of(img, c, GW_SEC_LINKS, offsetof(gw_img_link_t, child), link_bound(img, c->links, number, field, false),
                  link_bound(img, c->links, number, field, true));
}

gw_plan_set_t gw_plan_tagged(const gw_plan_t *plan, sl_str_t collection, sl_str_t tag) {
    const gw_image_t *img = &plan->img;
    const gw_img_collection_t *c = find_collection(img, collection);
    if (c == NULL) {
        return (gw_plan_set_t){.n = 0};
    }
    return set_of(img, c, GW_SEC_TAGS, offsetof(gw_img_tag_t, entity), c->tags.first + lower_bound(img, GW_SEC_TAGS, c->tags, tag, false),
                  c->tags.first + lower_bound(img, GW_SEC_TAGS, c->tags, tag, true));
}

size_t gw_plan_set_at(const gw_plan_set_t *set, size_t i) {
    uint32_t entity;
    memcpy(&entity, set->first + i * set->stride, sizeof(entity));
    return entity - set->base;
}

size_t gw_plan_set_from(const gw_plan_set_t *set, size_t position) {
    size_t lo = 0, hi = set->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (gw_plan_set_at(set, mid) < position) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}
