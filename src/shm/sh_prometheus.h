/* Metrics as text for Prometheus (exposition format 0.0.4). Pure functions over what sh_metric.h shows. */
#ifndef SH_PROMETHEUS_H
#define SH_PROMETHEUS_H

#include "sh_metric.h"

/*
 * Appends all metrics, sorted by name. The name of a metric is pw_<owner>_<name> with an underscore for whatever may not stand in one.
 * Histograms have the powers of two up to 65536, further ones as far as samples reach, and +Inf. Metrics that differ in what may not
 * stand in a name get a label `metric` with the whole name; a name that stands for two types gets the type behind it the second time.
 * Owners that begin with SH_HOST_OWNER are the host's own, which it shows itself: they are left out.
 * SL_NO_MEMORY: out of memory, or over the buffer's ceiling.
 */
#define SH_HOST_OWNER '\x01'
sl_status_t sh_prometheus_render(const sh_metrics_t *ms, sl_buf_t *out);

/*
 * The same, with labels that are part of names: `split` appends what is left of a name to `base`, and to `labels` what was found,
 * `a="b",c="d"` (values through sh_prometheus_label). Metrics whose names are the same then are one with different labels. NULL: none.
 */
typedef void (*sh_prometheus_split_t)(void *ud, sl_str_t owner, sl_str_t name, sl_buf_t *base, sl_buf_t *labels);
sl_status_t sh_prometheus_render_with(const sh_metrics_t *ms, sh_prometheus_split_t split, void *ud, sl_buf_t *out);

/* For other values in the same text: # HELP, # TYPE; a value of a label with what must be escaped. */
sl_status_t sh_prometheus_head(sl_buf_t *out, const char *name, const char *type, const char *help);
sl_status_t sh_prometheus_label(sl_buf_t *out, sl_str_t value);

#endif
