/*
 * Writing radix tries into a plan image (gw_plan_image.h draws them). Internal to the builders.
 */
#ifndef GW_TRIE_H
#define GW_TRIE_H

#include "gw_plan_writer.h"

typedef struct {
    gw_ref_t key;
    uint32_t value;
} gw_trie_entry_t;

/*
 * @param e,n   sorted by key as sl_str_cmp does, all keys different
 * @param root  the trie's first node in `section`, GW_NONE when n is 0
 * SL_NO_MEMORY is the only failure.
 */
sl_status_t gw_trie_add(gw_writer_t *w, gw_section_t section, const gw_trie_entry_t *e, size_t n, uint32_t *root);

#endif
