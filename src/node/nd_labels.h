/*
 * Labels that filters put into the names of their metrics: the metadata's metrics.label_patterns say how to take them out again. Pure;
 * any thread.
 */
#ifndef ND_LABELS_H
#define ND_LABELS_H

#include "nd_filters.h"

/*
 * Appends to `base` the name of a metric of the filter `owner` without its labels, and to `labels` what was cut out, `a="b",c="d"`. Of a
 * pattern's groups the first is cut out and the second is the value. @param ud  const nd_filters_t *
 */
void nd_labels_split(void *ud, sl_str_t owner, sl_str_t name, sl_buf_t *base, sl_buf_t *labels);

#endif
