/*
 * Writing a plan image: sections that grow, strings that are kept once. Internal to the two builders. One thread.
 * The first failure is sticky (sl_buf_t); the caller asks gw_writer_failed() at the end of a stage.
 */
#ifndef GW_PLAN_WRITER_H
#define GW_PLAN_WRITER_H

#include <jansson.h>

#include "gw_plan_image.h"
#include "sl_buf.h"

/* A string that is kept; its hash with it, so that a larger table is filled without reading all strings again. */
typedef struct {
    gw_ref_t ref; /* off 0: free */
    uint64_t hash;
} gw_slot_t;

typedef struct {
    sl_buf_t sec[GW_SEC_COUNT];
    gw_img_header_t header; /* filled by the stages; sections, size and digest at the end */
    gw_slot_t *slots;       /* open addressing: every string kept so far */
    size_t n_slots, n_strings;
    bool failed;
} gw_writer_t;

void gw_writer_init(gw_writer_t *w, size_t max_bytes);
void gw_writer_deinit(gw_writer_t *w);
bool gw_writer_failed(const gw_writer_t *w);

uint32_t gw_writer_count(const gw_writer_t *w, gw_section_t section);
/* Appends one record, answers its index (meaningless after a failure). */
uint32_t gw_writer_add(gw_writer_t *w, gw_section_t section, const void *record);
/* A string, equal ones share their bytes. data NULL gives the null reference. */
gw_ref_t gw_writer_str(gw_writer_t *w, sl_str_t s);
/* The same with ASCII letters in lower case; never the null reference. */
gw_ref_t gw_writer_lower(gw_writer_t *w, sl_str_t s);
/* Compact JSON of `value`, not shared. */
gw_ref_t gw_writer_json(gw_writer_t *w, const json_t *value);
/* The bytes of a reference; they move with the next string. */
sl_str_t gw_writer_text(const gw_writer_t *w, gw_ref_t r);

/* Sections and digest into one image. */
sl_status_t gw_writer_finish(gw_writer_t *w, sl_buf_t *image, sl_err_t *err);

/* ---- fields of canonical entities; absent and null are the default --------------------------------------------------------- */
sl_str_t gw_field_str(const json_t *entity, const char *field);
int64_t gw_field_int(const json_t *entity, const char *field, int64_t otherwise);
bool gw_field_bool(const json_t *entity, const char *field, bool otherwise);
sl_str_t gw_json_str(const json_t *value); /* {NULL,0} when it is no string */

#endif
