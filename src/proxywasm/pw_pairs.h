/*
 * Lists of pairs as they cross the border (header maps, metadata, map properties):
 *   u32 n | n x { u32 key length, u32 value length } | n x { key NUL value NUL }        little-endian, lengths without the NUL
 */
#ifndef PW_PAIRS_H
#define PW_PAIRS_H

#include "pw_host.h"

/*
 * Decodes into out[max], borrowing from bytes; answers how many. Anything malformed (short, a terminator missing, bytes left over, more
 * than 1 MiB or max pairs) is an empty list, as in Envoy; *malformed, which may be NULL, tells it from an empty one.
 */
size_t pw_pairs_decode(sl_str_t bytes, pw_pair_t *out, size_t max, bool *malformed);
/* A list that may well be whole, but is larger than what is taken: more than 1 MiB, or PW_PAIRS_MAX pairs. Its writer wants to know. */
bool pw_pairs_too_large(sl_str_t bytes);

/* Writes a list whose pairs come one after another: sizes and bytes are collected apart and joined in the guest. */
typedef struct {
    sl_buf_t *sizes, *bytes; /* reset by begin; their `failed` is the writer's */
    uint32_t n;
} pw_pairs_writer_t;
void pw_pairs_begin(pw_pairs_writer_t *w, sl_buf_t *sizes, sl_buf_t *bytes);
void pw_pairs_add(pw_pairs_writer_t *w, sl_str_t key, sl_str_t value, bool lower_case_key);
bool pw_pairs_failed(const pw_pairs_writer_t *w);
size_t pw_pairs_size(const pw_pairs_writer_t *w); /* of the whole list, bytes */
void pw_pairs_copy(const pw_pairs_writer_t *w, char *at);

#endif
