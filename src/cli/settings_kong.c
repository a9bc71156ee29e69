#include "settings_kong.h"

#include <stdlib.h>
#include <string.h>

const char *settings_kong_refusal(const char *property, const char *value) {
    static const char *const hybrid = "hybrid mode is not supported, each node is a gateway with an Admin API";
    static const struct {
        const char *property, *value, *why; /* value NULL: any that the table does not have */
    } refusals[] = {
        {"role", "control_plane", hybrid},
        {"role", "data_plane", hybrid},
        {"router_flavor", "expressions", "routes by expression are not supported"},
        {"stream_listen", NULL, "TCP and UDP streams are not supported"},
    };
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        if (strcmp(refusals[i].property, property) == 0 && (refusals[i].value == NULL || strcmp(refusals[i].value, value) == 0)) {
            return refusals[i].why;
        }
    }
    return NULL;
}

bool settings_kong_knows(const char *name) {
    /* A '*' at the end stands for anything. */
    static const char *const names[] = {
        "admin_gui_*",
        "allow_*",
        "anonymous_reports",
        "cluster_*",
        "db_*",
        "dedicated_config_*",
        "debug_*",
        "dns_*",
        "konnect_*",
        "legacy_*",
        "lmdb_*",
        "lua_*",
        "max_queued_*",
        "mem_cache_size",
        "new_dns_client",
        "nginx_sproxy_*",
        "nginx_stream_*",
        "nginx_supstream_*",
        "openresty_path",
        "opentelemetry_*",
        "plugins",
        "pluginserver_*",
        "privileged_*",
        "proxy_stream_*",
        "request_debug*",
        "resolver_*",
        "tracing_*",
        "untrusted_lua*",
        "vault*",
        "worker_consistency",
        "worker_events_*",
        "worker_state_update_frequency",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t len = strlen(names[i]);
        bool any = names[i][len - 1] == '*';
        if (any ? strncmp(name, names[i], len - 1) == 0 : strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* 1 to 65535 in `len` digits; 0: anything else. */
static uint16_t port_of(const char *text, size_t len) {
    unsigned long port = 0;
    for (size_t i = 0; i < len; i++) {
        port = text[i] >= '0' && text[i] <= '9' && i < 5 ? port * 10 + (unsigned long)(text[i] - '0') : 65536;
        if (port > 65535) {
            return 0;
        }
    }
    return (uint16_t)port;
}

const char *settings_port_map_next(const char *at, settings_port_map_t *map) {
    at += strspn(at, ", \t");
    size_t len = strcspn(at, ", \t");
    const char *colon = memchr(at, ':', len);
    if (len == 0) {
        return NULL;
    }
    *map = (settings_port_map_t){.text = at, .len = len};
    if (colon != NULL) {
        map->shown = port_of(at, (size_t)(colon - at));
        map->listening = map->shown != 0 ? port_of(colon + 1, len - (size_t)(colon - at) - 1) : 0;
    }
    return at + len;
}
