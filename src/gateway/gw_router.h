/*
 * The router: its tables in a plan image, and matching on them. Internal to the plan (gw_plan.h is what others use).
 * The result always equals a linear scan over the leaves in precedence order; the tables only shorten the way.
 */
#ifndef GW_ROUTER_H
#define GW_ROUTER_H

#include "gw_plan.h"
#include "gw_plan_image.h"
#include "gw_plan_writer.h"
#include "sl_regex.h"

/* A route on its way into the router; `index` is its number in the routes section. */
typedef struct {
    const json_t *json;
    sl_str_t id;
    uint32_t index;
} gw_router_route_t;

/*
 * Appends the router's sections. `routes`, in id order, are those that are new to it; `stay`: by route of the base the number now of a
 * route whose leaves are the same, GW_NONE: it is not, or does not take part any more. base NULL: all are new. SL_INVALID: the text names
 * the route.
 */
sl_status_t gw_router_build(gw_writer_t *w, const gw_image_t *base, const uint32_t *stay, const gw_router_route_t *routes, size_t n,
                            bool traditional, sl_err_t *err);

/* As gw_plan_match; `regexes` has one slot for each record of the regex section, NULL until it is first needed. */
sl_status_t gw_router_match(const gw_image_t *img, sl_regex_t **regexes, const gw_match_in_t *in, sl_buf_t *scratch, gw_match_t *out);

/* "name:port" taken apart; *port 0 when there is none. Brackets of IPv6 addresses stay with the name. */
sl_str_t gw_router_host_split(sl_str_t host, uint32_t *port);

#endif
