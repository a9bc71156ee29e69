/*
 * Grants: what a filter may use of the host. Each host call is in a group (the last column of pw_hostcalls.def); the option `grants` of a
 * filter is a list of
 *
 *   default            every group, as if nothing was said
 *   headers-read       a group, wholly
 *   http-call:auth     a group, for this name only; a * at the end stands for anything
 *   lazy               calls that are not granted may be imported; they answer a status when they are made
 *
 * Groups that are not granted are refused when the module is loaded, names when they are used.
 */
#ifndef PW_GRANTS_H
#define PW_GRANTS_H

#include "engine.h"

typedef enum {
    PW_G_ALWAYS, /* needs no grant */
    PW_G_LOG,
    PW_G_CLOCK,
    PW_G_TIMERS,
    PW_G_RANDOM,
    PW_G_ENV,
    PW_G_HEADERS_READ,
    PW_G_HEADERS_WRITE,
    PW_G_BODY, /* reading is checked where it is done: the same host call reads the configuration */
    PW_G_PROPERTIES_READ,
    PW_G_PROPERTIES_WRITE,
    PW_G_LOCAL_REPLY,
    PW_G_HTTP_CALL,
    PW_G_GRPC_CALL,
    PW_G_REDIS,
    PW_G_SHARED_DATA,
    PW_G_QUEUES,
    PW_G_METRICS,
    PW_G_FOREIGN,
    PW_G_DNS,
    PW_G_UPSTREAMS,
    PW_G_N
} pw_grant_t;
#define PW_G_BIT(grant) (1u << (grant))

typedef struct {
    uint32_t granted; /* PW_G_BIT: wholly or for names */
    uint32_t named;   /* for names only */
    bool lazy;
    sl_str_t list; /* borrowed */
} pw_grants_t;

const char *pw_grant_name(pw_grant_t grant); /* "http-call"; PW_G_ALWAYS: NULL */
/* SL_INVALID: an item is none; err says which and what there is. */
sl_status_t pw_grants_parse(sl_str_t list, pw_grants_t *out, sl_err_t *err);
/* SL_INVALID: the module imports what is not granted, and is not lazy. */
sl_status_t pw_grants_check(const pw_grants_t *grants, const sl_module_t *module, sl_err_t *err);
/* Segments of a property's path are separated by NUL in `name`, by a dot in the list. */
bool pw_grants_has(const pw_grants_t *grants, pw_grant_t grant, sl_str_t name);

#endif
