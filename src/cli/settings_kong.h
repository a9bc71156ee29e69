/* What Kong's settings need beyond the table of properties: values refused with a reason, names without effect, port_maps. */
#ifndef SETTINGS_KONG_H
#define SETTINGS_KONG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why a property cannot have this value; NULL: there is nothing to say beyond which values there are. */
const char *settings_kong_refusal(const char *property, const char *value);

/* Whether Kong has a property of this name that is none of ours: it has no effect. */
bool settings_kong_knows(const char *name);

typedef struct {
    const char *text; /* the entry as it was written, `len` bytes; borrowed */
    size_t len;
    uint16_t shown, listening; /* the port that clients see, and the one they reach; listening 0: not an entry */
} settings_port_map_t;

/* The first entry at `at` of a list like "80:8000, 443:8443"; returns where the next one begins, NULL: there was none. */
const char *settings_port_map_next(const char *at, settings_port_map_t *map);

#endif
