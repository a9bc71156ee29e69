/*
 * Requests at a fixed rate, whatever the server does: each has its time in a plan, and its latency counts from there, so that a server that
 * stalls cannot make its own figures better by being asked less. HTTP/1.1 over keep-alive connections; a response must have a
 * Content-Length or be chunked and short.
 *
 * usage: open_loop PORT RATE SECONDS CONNECTIONS      a rate that nobody can serve makes it RATE * SECONDS requests as fast as they go
 * prints microseconds as JSON: {"sent": n, "failed": n, "p50": .., "p99": .., "p999": ..}
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char request[] = "GET /echo HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";

typedef struct {
    int fd;
    bool busy;
    uint64_t due_ns;
    size_t len;
    char data[16384];
} conn_t;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int dial(uint16_t port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 ? fd : -1;
}

static bool complete(conn_t *c) {
    c->data[c->len] = '\0';
    const char *end = strstr(c->data, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    const char *length = strcasestr(c->data, "\r\ncontent-length:");
    if (length == NULL || length > end) {
        return c->len >= 5 && memcmp(c->data + c->len - 5, "0\r\n\r\n", 5) == 0;
    }
    return c->len >= (size_t)(end + 4 - c->data) + strtoul(length + 17, NULL, 10);
}

/* 1: the response is there; 0: not yet; -1: the connection is of no use any more. */
static int read_some(conn_t *c) {
    ssize_t n = recv(c->fd, c->data + c->len, sizeof(c->data) - 1 - c->len, MSG_DONTWAIT);
    if (n <= 0) {
        return n < 0 && errno == EAGAIN ? 0 : -1;
    }
    c->len += (size_t)n;
    return complete(c);
}

static bool begin(conn_t *c, uint64_t due_ns) {
    c->busy = true;
    c->due_ns = due_ns;
    c->len = 0;
    return send(c->fd, request, sizeof(request) - 1, MSG_NOSIGNAL) == (ssize_t)(sizeof(request) - 1);
}

static bool all_busy(const conn_t *conns, size_t n) {
    size_t i = 0;
    while (i < n && (conns[i].busy || conns[i].fd < 0)) {
        i++;
    }
    return i == n;
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double share(const uint64_t *sorted, size_t n, double q) {
    size_t at = (size_t)(q * (double)n);
    return n == 0 ? 0 : (double)sorted[at < n ? at : n - 1] / 1000.0;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: open_loop PORT RATE SECONDS CONNECTIONS\n");
        return 2;
    }
    uint16_t port = (uint16_t)atoi(argv[1]);
    double rate = atof(argv[2]);
    size_t total = (size_t)(rate * atof(argv[3])), n_conns = (size_t)atoi(argv[4]);
    conn_t *conns = calloc(n_conns, sizeof(*conns));
    struct pollfd *fds = calloc(n_conns, sizeof(*fds));
    uint64_t *took = calloc(total + 1, sizeof(*took));
    if (conns == NULL || fds == NULL || took == NULL) {
        return 1;
    }
    for (size_t i = 0; i < n_conns; i++) {
        conns[i].fd = dial(port);
        fds[i] = (struct pollfd){.fd = conns[i].fd, .events = POLLIN};
        if (conns[i].fd < 0) {
            perror("connect");
            return 1;
        }
    }
    size_t sent = 0, done = 0, failed = 0;
    uint64_t start = now_ns();
    while (done + failed < total) {
        uint64_t now = now_ns(), due = start + (uint64_t)((double)sent * 1e9 / rate);
        for (size_t i = 0; i < n_conns && sent < total && due <= now; i++) {
            if (conns[i].busy || conns[i].fd < 0) {
                continue;
            }
            failed += !begin(&conns[i], due);
            due = start + (uint64_t)((double)++sent * 1e9 / rate);
        }
        now = now_ns();
        long wait_ns = sent == total || all_busy(conns, n_conns) ? 100000000 : due > now ? (long)(due - now) : 0;
        struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
        if (ppoll(fds, n_conns, &wait, NULL) <= 0) {
            if (sent == total && now_ns() - start > 60000000000u + (uint64_t)(1e9 * (double)total / rate)) {
                break;
            }
            continue;
        }
        for (size_t i = 0; i < n_conns; i++) {
            int got = fds[i].revents != 0 ? read_some(&conns[i]) : 0;
            if (got == 0) {
                continue;
            }
            if (got > 0 && conns[i].busy) {
                took[done++] = now_ns() - conns[i].due_ns;
            } else {
                failed += conns[i].busy;
                close(conns[i].fd);
                fds[i].fd = conns[i].fd = dial(port);
            }
            conns[i].busy = false;
        }
    }
    qsort(took, done, sizeof(*took), by_size);
    printf("{\"sent\": %zu, \"failed\": %zu, \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f}\n", sent, failed, share(took, done, 0.5),
           share(took, done, 0.99), share(took, done, 0.999));
    return 0;
}
