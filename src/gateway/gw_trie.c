#include "gw_trie.h"

typedef struct {
    uint32_t node;
    size_t lo, hi; /* entries under it */
    size_t depth;  /* length of the node's key */
} pending_t;

static size_t common_prefix(const gw_writer_t *w, gw_ref_t a, gw_ref_t b) {
    sl_str_t x = gw_writer_text(w, a), y = gw_writer_text(w, b);
    size_t n = 0;
    while (n < x.len && n < y.len && x.data[n] == y.data[n]) {
        n++;
    }
    return n;
}

static char byte_at(const gw_writer_t *w, gw_ref_t key, size_t at) {
    return gw_writer_text(w, key).data[at];
}

static gw_img_node_t *node_at(gw_writer_t *w, gw_section_t section, uint32_t i) {
    return (gw_img_node_t *)(void *)w->sec[section].data + i;
}

/* Appends the children of one node and queues them. */
static sl_status_t add_children(gw_writer_t *w, gw_section_t section, const gw_trie_entry_t *e, pending_t p, sl_buf_t *queue) {
    gw_img_node_t parent = *node_at(w, section, p.node);
    parent.child = gw_writer_count(w, section);
    uint32_t up = parent.value != GW_NONE ? p.node : parent.up;
    for (size_t lo = p.lo; lo < p.hi;) {
        size_t hi = lo + 1;
        while (hi < p.hi && byte_at(w, e[hi].key, p.depth) == byte_at(w, e[lo].key, p.depth)) {
            hi++;
        }
        size_t depth = common_prefix(w, e[lo].key, e[hi - 1].key); /* sorted: common to all between them */
        bool ends = e[lo].key.len == depth;
        gw_img_node_t node = {
            .label = {e[lo].key.off + (uint32_t)p.depth, (uint32_t)(depth - p.depth)},
            .value = ends ? e[lo].value : GW_NONE,
            .up = up,
        };
        pending_t next = {gw_writer_add(w, section, &node), lo + ends, hi, depth};
        if (next.lo < next.hi) {
            sl_buf_append(queue, &next, sizeof(next));
        }
        parent.n_children++;
        lo = hi;
    }
    if (w->sec[section].failed || queue->failed) {
        return SL_NO_MEMORY;
    }
    *node_at(w, section, p.node) = parent;
    return SL_OK;
}

/* Entries are sorted and distinct. *root: GW_NONE when there are none. Breadth first: children lie side by side, after their parent. */
sl_status_t gw_trie_add(gw_writer_t *w, gw_section_t section, const gw_trie_entry_t *e, size_t n, uint32_t *root) {
    *root = GW_NONE;
    if (n == 0) {
        return SL_OK;
    }
    bool empty_key = e[0].key.len == 0;
    gw_img_node_t node = {.value = empty_key ? e[0].value : GW_NONE, .up = GW_NONE};
    *root = gw_writer_add(w, section, &node);
    sl_buf_t queue;
    sl_buf_init(&queue, SIZE_MAX);
    pending_t first = {*root, empty_key, n, 0};
    if (first.lo < first.hi) {
        sl_buf_append(&queue, &first, sizeof(first));
    }
    sl_status_t rc = w->sec[section].failed || queue.failed ? SL_NO_MEMORY : SL_OK;
    for (size_t at = 0; rc == SL_OK && at < queue.len; at += sizeof(pending_t)) {
        pending_t p;
        memcpy(&p, queue.data + at, sizeof(p));
        rc = add_children(w, section, e, p, &queue);
    }
    sl_buf_deinit(&queue);
    return rc;
}
