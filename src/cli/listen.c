#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "holders.h"

static const char *const plain_flags[] = {"proxy_protocol", "deferred", "bind", "reuseport"};
static const char *const valued_flags[] = {"backlog=", "ipv6only=", "so_keepalive="};
#define ALLOWED "ssl, http2, proxy_protocol, deferred, bind, reuseport, backlog=N, ipv6only=on|off, so_keepalive=..."

static bool add_flag(listen_t *l, const char *flag) {
    size_t used = strlen(l->flags);
    return snprintf(l->flags + used, sizeof(l->flags) - used, " %s", flag) < (int)(sizeof(l->flags) - used);
}

static bool take_flag(listen_t *l, const char *flag) {
    if (strcmp(flag, "ssl") == 0) {
        l->ssl = true;
        return add_flag(l, flag);
    }
    if (strcmp(flag, "http2") == 0) {
        l->http2 = true;
        return add_flag(l, flag);
    }
    for (size_t i = 0; i < sizeof(plain_flags) / sizeof(plain_flags[0]); i++) {
        if (strcmp(flag, plain_flags[i]) == 0) {
            return add_flag(l, flag);
        }
    }
    for (size_t i = 0; i < sizeof(valued_flags) / sizeof(valued_flags[0]); i++) {
        size_t len = strlen(valued_flags[i]);
        if (strncmp(flag, valued_flags[i], len) == 0 && flag[len] != '\0' &&
            flag[len + strspn(flag + len, "abcdefghijklmnopqrstuvwxyz0123456789:")] == '\0') {
            return add_flag(l, flag);
        }
    }
    return false;
}

static bool valid_port(const char *p) {
    char *end;
    unsigned long n = strtoul(p, &end, 10);
    return *p >= '0' && *p <= '9' && *end == '\0' && n <= 65535;
}

static bool take_address(listen_t *l, const char *text) {
    if (strncmp(text, "unix:", 5) == 0) {
        return text[5] == '/' && strpbrk(text, "{};\"'\\$ ") == NULL &&
               snprintf(l->address, sizeof(l->address), "%s", text) < (int)sizeof(l->address);
    }
    char host[64];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || !valid_port(colon + 1) || (size_t)(colon - text) >= sizeof(host)) {
        return false;
    }
    snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
    unsigned char raw[16];
    size_t len = strlen(host);
    bool ok;
    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        ok = inet_pton(AF_INET6, host + 1, raw) == 1;
    } else {
        ok = inet_pton(AF_INET, host, raw) == 1;
    }
    return ok && snprintf(l->address, sizeof(l->address), "%s", text) < (int)sizeof(l->address);
}

static sl_status_t take_entry(char *entry, const char *origin, listens_t *out, sl_err_t *err) {
    char *save = NULL;
    char *word = strtok_r(entry, " \t", &save);
    if (word == NULL) {
        return sl_err_set(err, SL_INVALID, "%s: an empty entry; expected <ip>:<port> [flags]", origin);
    }
    if (out->n == LISTEN_MAX) {
        return sl_err_set(err, SL_INVALID, "%s: more than %d entries", origin, LISTEN_MAX);
    }
    listen_t *l = &out->at[out->n++];
    *l = (listen_t){.address = ""};
    if (!take_address(l, word)) {
        return sl_err_set(err, SL_INVALID, "%s: '%s' is no address; expected <ip>:<port>, [<ipv6>]:<port> or unix:/path", origin, word);
    }
    while ((word = strtok_r(NULL, " \t", &save)) != NULL) {
        if (!take_flag(l, word)) {
            return sl_err_set(err, SL_INVALID, "%s: unknown flag '%s'; allowed: " ALLOWED, origin, word);
        }
    }
    return SL_OK;
}

sl_status_t listens_parse(const char *value, const char *origin, listens_t *out, sl_err_t *err) {
    *out = (listens_t){.n = 0};
    if (value == NULL || strcmp(value, "off") == 0) {
        return SL_OK;
    }
    char *copy = strdup(value);
    if (copy == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_status_t rc = SL_OK;
    for (char *p = copy; rc == SL_OK && p != NULL;) {
        char *comma = strchr(p, ',');
        if (comma != NULL) {
            *comma++ = '\0';
        }
        rc = take_entry(p, origin, out, err);
        p = comma;
    }
    free(copy);
    return rc;
}

static bool has_address(const listens_t *l, size_t n, const char *address) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(l->at[i].address, address) == 0) {
            return true;
        }
    }
    return false;
}

sl_status_t listens_distinct(const listens_t *l, const char *origin, const listens_t *others, const char *other_name, sl_err_t *err) {
    for (size_t i = 0; i < l->n; i++) {
        const char *address = l->at[i].address;
        if (has_address(l, i, address)) {
            return sl_err_set(err, SL_INVALID, "%s: %s is there twice; remove one", origin, address);
        }
        if (has_address(others, others->n, address)) {
            return sl_err_set(err, SL_INVALID, "%s: %s is already in %s; give one of them another port", origin, address, other_name);
        }
    }
    return SL_OK;
}

static int open_and_bind(const char *address) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } sa;
    memset(&sa, 0, sizeof(sa));
    const char *colon = strrchr(address, ':');
    in_port_t port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    char host[64];
    bool six = address[0] == '[';
    snprintf(host, sizeof(host), "%.*s", (int)(colon - address) - 2 * six, address + six);
    socklen_t len;
    if (six) {
        sa.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
        inet_pton(AF_INET6, host, &sa.v6.sin6_addr);
        len = sizeof(sa.v6);
    } else {
        sa.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
        inet_pton(AF_INET, host, &sa.v4.sin_addr);
        len = sizeof(sa.v4);
    }
    int fd = socket(sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    int rc = bind(fd, &sa.any, len) == 0 && listen(fd, 1) == 0 ? 0 : errno;
    close(fd);
    return rc;
}

static bool has_listen(const char *conf, const char *address) {
    char line[sizeof(((listen_t *)NULL)->address) + 16];
    int n = snprintf(line, sizeof(line), "listen %s", address);
    for (const char *p = conf; p != NULL && (p = strstr(p, line)) != NULL; p += n) {
        if (p[n] == ' ' || p[n] == ';') {
            return true;
        }
    }
    return false;
}

/* Whether all of them are what a killed master has left in this prefix. */
static bool are_orphans(const holders_t *h, const char *prefix) {
    holders_t orphans;
    holders_orphans(prefix, &orphans);
    for (size_t i = 0; i < h->n; i++) {
        if (!holders_has(&orphans, h->pids[i])) {
            return false;
        }
    }
    return h->n > 0;
}

static sl_status_t busy(const char *address, const char *variable, const char *prefix, sl_err_t *err) {
    holders_t holders;
    sl_buf_t names;
    sl_buf_init(&names, 400);
    holders_of(address, &holders);
    holders_print(&holders, &names);
    const char *who = holders.n > 0 && !names.failed ? sl_buf_cstr(&names) : NULL;
    if (are_orphans(&holders, prefix)) {
        sl_err_set(err, SL_CONFLICT,
                   "%s is held by %s: workers of a master that was killed; end them with `sluice stop -p %s`, then start again", address,
                   who != NULL ? who : "several processes", prefix);
    } else {
        sl_err_set(err, SL_CONFLICT, "%s is in use by another process%s%s; stop it, or set SLUICE_%s (or KONG_%s) to another address",
                   address, who != NULL ? ": " : "", who != NULL ? who : "", variable, variable);
    }
    sl_buf_deinit(&names);
    return SL_CONFLICT;
}

sl_status_t listens_probe(const listens_t *l, const char *variable, const char *conf, const char *prefix, sl_err_t *err) {
    for (size_t i = 0; i < l->n; i++) {
        const char *address = l->at[i].address;
        if (strncmp(address, "unix:", 5) == 0 || has_listen(conf, address)) {
            continue;
        }
        int rc = open_and_bind(address);
        if (rc == EADDRINUSE) {
            return busy(address, variable, prefix, err);
        }
        if (rc != 0) {
            return sl_err_set(err, SL_IO, "cannot listen on %s: %s; set SLUICE_%s (or KONG_%s) to another address", address, strerror(rc),
                              variable, variable);
        }
    }
    return SL_OK;
}
