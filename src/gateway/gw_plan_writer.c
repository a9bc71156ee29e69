#include "gw_plan_writer.h"

#include <stdlib.h>

#include "gw_json_text.h"
#include "sl_digest.h"

void gw_writer_init(gw_writer_t *w, size_t max_bytes) {
    *w = (gw_writer_t){0};
    /* References are 32 bits wide. */
    size_t max = max_bytes < UINT32_MAX - sizeof(gw_img_header_t) ? max_bytes : UINT32_MAX - sizeof(gw_img_header_t);
    for (int i = 0; i < GW_SEC_COUNT; i++) {
        sl_buf_init(&w->sec[i], max);
    }
    w->header.host_exact = w->header.host_prefix = w->header.host_suffix = w->header.any_host = GW_NONE;
}

void gw_writer_deinit(gw_writer_t *w) {
    for (int i = 0; i < GW_SEC_COUNT; i++) {
        sl_buf_deinit(&w->sec[i]);
    }
    free(w->slots);
    w->slots = NULL;
}

bool gw_writer_failed(const gw_writer_t *w) {
    for (int i = 0; i < GW_SEC_COUNT; i++) {
        if (w->sec[i].failed) {
            return true;
        }
    }
    return w->failed;
}

uint32_t gw_writer_count(const gw_writer_t *w, gw_section_t section) {
    return (uint32_t)(w->sec[section].len / gw_img_record_size[section]);
}

uint32_t gw_writer_add(gw_writer_t *w, gw_section_t section, const void *record) {
    uint32_t index = gw_writer_count(w, section);
    sl_buf_append(&w->sec[section], record, gw_img_record_size[section]);
    return index;
}

/* Strings follow the header directly, so that their final offset is known while they are written. */
sl_str_t gw_writer_text(const gw_writer_t *w, gw_ref_t r) {
    return r.off == 0 ? SL_STR_NULL : sl_str(w->sec[GW_SEC_STRINGS].data + (r.off - sizeof(gw_img_header_t)), r.len);
}

static gw_slot_t *find_slot(const gw_writer_t *w, uint64_t hash, sl_str_t s) {
    size_t i = hash & (w->n_slots - 1);
    while (w->slots[i].ref.off != 0 && (w->slots[i].hash != hash || !sl_str_eq(gw_writer_text(w, w->slots[i].ref), s))) {
        i = (i + 1) & (w->n_slots - 1);
    }
    return &w->slots[i];
}

/* All of them differ, so that a free place is all that each needs. */
static void move_slot(gw_slot_t *slots, size_t n_slots, const gw_slot_t *slot) {
    size_t i = slot->hash & (n_slots - 1);
    while (slots[i].ref.off != 0) {
        i = (i + 1) & (n_slots - 1);
    }
    slots[i] = *slot;
}

static bool grow_slots(gw_writer_t *w) {
    size_t n = w->n_slots == 0 ? 1024 : w->n_slots * 2;
    gw_slot_t *slots = calloc(n, sizeof(*slots));
    if (slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < w->n_slots; i++) {
        if (w->slots[i].ref.off != 0) {
            move_slot(slots, n, &w->slots[i]);
        }
    }
    free(w->slots);
    w->slots = slots;
    w->n_slots = n;
    return true;
}

/* The reference of the string that has grown at the end of the section since `start`. */
static gw_ref_t ref_since(gw_writer_t *w, size_t start) {
    sl_buf_t *b = &w->sec[GW_SEC_STRINGS];
    if (b->failed) {
        return (gw_ref_t){0, 0};
    }
    return (gw_ref_t){(uint32_t)(sizeof(gw_img_header_t) + start), (uint32_t)(b->len - start)};
}

gw_ref_t gw_writer_str(gw_writer_t *w, sl_str_t s) {
    if (s.data == NULL || w->failed) {
        return (gw_ref_t){0, 0};
    }
    if (w->n_strings * 2 >= w->n_slots && !grow_slots(w)) {
        w->failed = true;
        return (gw_ref_t){0, 0};
    }
    uint64_t hash = sl_hash(s, 0);
    gw_slot_t *slot = find_slot(w, hash, s);
    if (slot->ref.off == 0) {
        size_t start = w->sec[GW_SEC_STRINGS].len;
        sl_buf_append_str(&w->sec[GW_SEC_STRINGS], s);
        *slot = (gw_slot_t){.ref = ref_since(w, start), .hash = hash};
        w->n_strings++;
    }
    return slot->ref;
}

gw_ref_t gw_writer_lower(gw_writer_t *w, sl_str_t s) {
    char *text = malloc(s.len + 1);
    if (text == NULL) {
        w->failed = true;
        return (gw_ref_t){0, 0};
    }
    for (size_t i = 0; i < s.len; i++) {
        text[i] = (char)(s.data[i] >= 'A' && s.data[i] <= 'Z' ? s.data[i] | 0x20 : s.data[i]);
    }
    gw_ref_t ref = gw_writer_str(w, sl_str(text, s.len));
    free(text);
    return ref;
}

gw_ref_t gw_writer_json(gw_writer_t *w, const json_t *value) {
    size_t start = w->sec[GW_SEC_STRINGS].len;
    gw_json_compact(value, &w->sec[GW_SEC_STRINGS]);
    return ref_since(w, start);
}

static void pad8(sl_buf_t *image) {
    static const char zeros[8];
    sl_buf_append(image, zeros, (8 - image->len % 8) % 8);
}

sl_status_t gw_writer_finish(gw_writer_t *w, sl_buf_t *image, sl_err_t *err) {
    if (gw_writer_failed(w)) {
        return sl_err_set(err, SL_NO_MEMORY, "plan: out of memory, or larger than the limit of %zu bytes", image->max);
    }
    gw_img_header_t *h = &w->header;
    size_t size = sizeof(*h);
    for (int i = 0; i < GW_SEC_COUNT; i++) {
        size += w->sec[i].len + 8;
    }
    sl_buf_reserve(image, size);
    sl_buf_append(image, h, sizeof(*h));
    for (int i = 0; i < GW_SEC_COUNT; i++) {
        h->sections[i] = (gw_range_t){(uint32_t)image->len, gw_writer_count(w, (gw_section_t)i)};
        sl_buf_append(image, w->sec[i].data, w->sec[i].len);
        pad8(image);
        sl_buf_deinit(&w->sec[i]); /* the image would need twice the memory otherwise */
    }
    if (image->failed || image->len > UINT32_MAX) {
        return sl_err_set(err, SL_NO_MEMORY, "plan: out of memory, or larger than the limit of %zu bytes", image->max);
    }
    memcpy(h->magic, GW_IMG_MAGIC, sizeof(h->magic));
    h->format = GW_IMG_FORMAT;
    h->n_sections = GW_SEC_COUNT;
    h->size = image->len;
    memcpy(image->data, h, sizeof(*h));
    sl_str_t covered = sl_str(image->data + GW_IMG_HEAD_SIZE, image->len - GW_IMG_HEAD_SIZE);
    if (sl_sha256(covered, ((gw_img_header_t *)(void *)image->data)->sha256) != SL_OK) {
        return sl_err_set(err, SL_FAILED, "plan: the digest could not be computed");
    }
    return SL_OK;
}

sl_str_t gw_json_str(const json_t *value) {
    return json_is_string(value) ? sl_str(json_string_value(value), json_string_length(value)) : SL_STR_NULL;
}

sl_str_t gw_field_str(const json_t *entity, const char *field) {
    return gw_json_str(json_object_get(entity, field));
}

int64_t gw_field_int(const json_t *entity, const char *field, int64_t otherwise) {
    const json_t *value = json_object_get(entity, field);
    if (json_is_real(value)) {
        double d = json_real_value(value);
        return d > -9e15 && d < 9e15 ? (int64_t)d : otherwise;
    }
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

bool gw_field_bool(const json_t *entity, const char *field, bool otherwise) {
    const json_t *value = json_object_get(entity, field);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}
