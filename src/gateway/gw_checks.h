/*
 * Checks of texts: names, tags, hosts, ports, paths, header names. Each answers true or writes the exact text for the user;
 * false with an empty text is out of memory. Pure; any thread. Inside src/gateway.
 */
#ifndef GW_CHECKS_H
#define GW_CHECKS_H

#include "sl_buf.h"

bool gw_check_name(sl_str_t value, sl_err_t *err);
bool gw_check_tag(sl_str_t value, sl_err_t *err);
bool gw_check_host(sl_str_t value, sl_err_t *err);
bool gw_check_host_port(sl_str_t value, sl_err_t *err);  /* optional port */
bool gw_check_route_host(sl_str_t value, sl_err_t *err); /* optional port, optional wildcard */
bool gw_check_path(sl_str_t value, sl_err_t *err);
bool gw_check_route_path(sl_str_t value, sl_err_t *err);
bool gw_check_route_header_value(sl_str_t value, sl_err_t *err);
bool gw_check_method(sl_str_t value, sl_err_t *err);
bool gw_check_header_name(sl_str_t value, sl_err_t *err);
bool gw_check_route_header_name(sl_str_t value, sl_err_t *err);
bool gw_check_sni(sl_str_t value, sl_err_t *err);
bool gw_check_sni_wildcard(sl_str_t value, sl_err_t *err);
bool gw_check_ip_or_cidr(sl_str_t value, sl_err_t *err);
bool gw_check_upstream_name(sl_str_t value, sl_err_t *err);
bool gw_check_cookie_name(sl_str_t value, sl_err_t *err);

typedef enum { GW_HOST_INVALID, GW_HOST_NAME, GW_HOST_IPV4, GW_HOST_IPV6 } gw_host_kind_t;

/* Splits "host[:port]"; an IPv6 address with a port stands in brackets. *port is -1 when absent. */
gw_host_kind_t gw_host_split(sl_str_t value, sl_str_t *host, int *port);

/* A path of format 1.1 and 2.1 as format 3.0 writes it. */
void gw_path_migrate(sl_str_t path, sl_buf_t *out);

#endif
