#include "holders.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define INODES_MAX 256
#define LISTENS 0x0A /* state of a socket in /proc/net/tcp */

static void add(holders_t *h, long pid) {
    if (h->n < HOLDERS_MAX && !holders_has(h, pid)) {
        h->pids[h->n++] = pid;
    }
}

bool holders_has(const holders_t *h, long pid) {
    for (size_t i = 0; i < h->n; i++) {
        if (h->pids[i] == pid) {
            return true;
        }
    }
    return false;
}

/* Calls `match` with what each descriptor of each process leads to. */
static void each_descriptor(bool (*match)(void *ud, const char *target), void *ud, holders_t *out) {
    DIR *proc = opendir("/proc");
    for (struct dirent *e = proc != NULL ? readdir(proc) : NULL; e != NULL; e = readdir(proc)) {
        char path[64], link[512], target[4096];
        long pid = strtol(e->d_name, NULL, 10);
        snprintf(path, sizeof(path), "/proc/%ld/fd", pid);
        DIR *fds = pid > 1 ? opendir(path) : NULL;
        for (struct dirent *f = fds != NULL ? readdir(fds) : NULL; f != NULL; f = readdir(fds)) {
            snprintf(link, sizeof(link), "%s/%s", path, f->d_name);
            ssize_t n = readlink(link, target, sizeof(target) - 1);
            target[n > 0 ? n : 0] = '\0';
            if (n > 0 && match(ud, target)) {
                add(out, pid);
                break;
            }
        }
        if (fds != NULL) {
            closedir(fds);
        }
    }
    if (proc != NULL) {
        closedir(proc);
    }
}

/* ---- ports ----------------------------------------------------------------------------------------------------------------- */

typedef struct {
    unsigned long inodes[INODES_MAX];
    size_t n;
} sockets_t;

static void read_sockets(const char *path, unsigned port, sockets_t *s) {
    char line[512];
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        unsigned local, state;
        unsigned long inode;
        int got = sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*d %*d %lu", &local, &state, &inode);
        if (got == 3 && local == port && state == LISTENS && s->n < INODES_MAX) {
            s->inodes[s->n++] = inode;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
}

static bool is_socket(void *ud, const char *target) {
    const sockets_t *s = ud;
    unsigned long inode;
    if (sscanf(target, "socket:[%lu]", &inode) != 1) {
        return false;
    }
    for (size_t i = 0; i < s->n; i++) {
        if (s->inodes[i] == inode) {
            return true;
        }
    }
    return false;
}

void holders_of(const char *address, holders_t *out) {
    sockets_t sockets = {.n = 0};
    const char *colon = strrchr(address, ':');
    unsigned port = colon != NULL ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
    out->n = 0;
    read_sockets("/proc/net/tcp", port, &sockets);
    read_sockets("/proc/net/tcp6", port, &sockets);
    each_descriptor(is_socket, &sockets, out);
}

/* ---- orphans ----------------------------------------------------------------------------------------------------------------- */

static void name_of(long pid, char out[32]) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL || fgets(out, 32, f) == NULL) {
        snprintf(out, 32, "?");
    }
    out[strcspn(out, "\n")] = '\0';
    if (f != NULL) {
        fclose(f);
    }
}

static bool is_log_of(void *ud, const char *target) {
    const char *logs = ud;
    return strncmp(target, logs, strlen(logs)) == 0;
}

void holders_orphans(const char *prefix, holders_t *out) {
    char logs[4200];
    holders_t all = {.n = 0};
    snprintf(logs, sizeof(logs), "%s/logs/", prefix);
    each_descriptor(is_log_of, logs, &all);
    out->n = 0;
    for (size_t i = 0; i < all.n; i++) {
        char name[32];
        name_of(all.pids[i], name);
        if (strcmp(name, "nginx") == 0) {
            add(out, all.pids[i]);
        }
    }
}

/* ---- on their way out ---------------------------------------------------------------------------------------------------------- */

/* PF_EXITING of the kernel, in the flags of /proc/<pid>/stat. */
#define EXITING 0x4UL

bool holders_is_ending(long pid) {
    char path[64], line[1024], state = 'X';
    unsigned long flags = 0, threads = 0;
    snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    FILE *f = pid > 1 ? fopen(path, "re") : NULL;
    size_t n = f != NULL ? fread(line, 1, sizeof(line) - 1, f) : 0;
    if (f != NULL) {
        fclose(f);
    }
    line[n] = '\0';
    const char *name_end = strrchr(line, ')');
    if (name_end == NULL ||
        sscanf(name_end, ") %c %*d %*d %*d %*d %*d %lu %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %lu", &state, &flags, &threads) != 3) {
        return false;
    }
    bool waited_for = (state == 'Z' || state == 'X') && threads <= 1;
    return (flags & EXITING) != 0 && !waited_for;
}

void holders_print(const holders_t *h, sl_buf_t *out) {
    for (size_t i = 0; i < h->n; i++) {
        char name[32];
        name_of(h->pids[i], name);
        sl_buf_printf(out, "%sprocess %ld (%s)", i > 0 ? ", " : "", h->pids[i], name);
    }
}
