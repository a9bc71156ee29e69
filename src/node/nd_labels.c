#include "nd_labels.h"

#include <jansson.h>

#include "sl_regex.h"

/* As a value of a label in the text for Prometheus; bytes of guests need not be UTF-8. */
static void append_value(sl_buf_t *out, sl_str_t value) {
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if (c == '"' || c == '\\') {
            sl_buf_append_char(out, '\\');
            sl_buf_append_char(out, (char)c);
        } else if (c < 0x20 || c >= 0x7f) {
            sl_buf_printf(out, "\\\\x%02x", c);
        } else {
            sl_buf_append_char(out, (char)c);
        }
    }
}

/* Takes what one pattern finds out of base[at..]. */
static void apply(const json_t *one, size_t at, sl_buf_t *base, sl_buf_t *labels) {
    sl_str_t groups[3] = {SL_STR_NULL};
    const json_t *pattern = json_object_get(one, "pattern");
    const char *label = json_string_value(json_object_get(one, "label"));
    sl_str_t text = sl_str(json_string_value(pattern), json_string_length(pattern)), name = sl_str(base->data + at, base->len - at);
    sl_regex_t *re = NULL;
    bool found = label != NULL && name.len > 0 && sl_regex_new(text, false, &re, NULL) == SL_OK &&
                 sl_regex_groups(re, name, groups, 3) == SL_OK && groups[1].data != NULL;
    if (found) {
        sl_buf_printf(labels, "%s%s=\"", labels->len > 0 ? "," : "", label);
        append_value(labels, groups[2]);
        sl_buf_append_char(labels, '"');
        sl_buf_splice(base, (size_t)(groups[1].data - base->data), groups[1].len, NULL, 0);
    }
    sl_regex_free(re);
}

void nd_labels_split(void *ud, sl_str_t owner, sl_str_t name, sl_buf_t *base, sl_buf_t *labels) {
    const nd_filter_t *filter = ud != NULL ? nd_filters_find(ud, owner) : NULL;
    size_t i, at = base->len;
    const json_t *one;
    sl_buf_append_str(base, name);
    json_t *meta = filter != NULL && filter->meta.len > 0 ? json_loadb(filter->meta.data, filter->meta.len, 0, NULL) : NULL;
    json_array_foreach(json_object_get(json_object_get(meta, "metrics"), "label_patterns"), i, one) {
        apply(one, at, base, labels);
    }
    json_decref(meta);
}
