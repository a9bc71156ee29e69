/*
 * Why a request goes where it goes: which route matches and by which attributes, who else matched and why they lost, who almost did,
 * the URL that results, and the filters in their order. For people; requests themselves use gw_plan_match(). Looks at every route of
 * the plan, so never on an event loop. Pure; any thread, also beside requests on the same plan.
 */
#ifndef GW_EXPLAIN_H
#define GW_EXPLAIN_H

#include <jansson.h>

#include "gw_plan.h"

#define GW_EXPLAIN_LIST 20 /* candidates of a kind that are shown */

typedef struct {
    sl_str_t name, value;
} gw_sample_header_t;

/* A request as it might come. */
typedef struct {
    sl_str_t method;
    gw_protocol_t protocol; /* GW_HTTP, GW_HTTPS, GW_GRPC or GW_GRPCS */
    sl_str_t host;          /* Host header, may hold a port */
    uint32_t port;          /* of the listener */
    sl_str_t path;          /* with or without query; begins with '/' */
    sl_str_t sni;           /* {NULL,0}: none */
    const gw_sample_header_t *headers;
    size_t n_headers;
} gw_sample_t;

/*
 * *out (new reference): {"generation", "request", "answer": null or {"status","message"} when the gateway answers itself, "route",
 * "service", "upstream", "filters", "candidates", "candidates_total"}. SL_INVALID: the sample makes no sense, the text says why.
 */
sl_status_t gw_explain(const gw_plan_t *plan, const gw_sample_t *sample, json_t **out, sl_err_t *err);

/* "https://a.test:8443/x?y" or "/x": scheme, host, port, path and SNI of a sample; borrows from `url`. SL_INVALID. */
sl_status_t gw_sample_url(gw_sample_t *sample, sl_str_t url, sl_err_t *err);

#endif
