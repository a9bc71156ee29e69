/*
 * The plan in memory that all workers share, and that nothing can change.
 *
 * A file that somebody maps changes under his feet when another process writes to it, and takes the pages away when it is cut short. So the
 * file is for starting only. Who makes a plan writes it into a memfd as well, seals it, and puts its descriptor into the mailbox; where
 * that was another process, the first worker that needs the generation does so with the file, which it checks. The mailbox is a pair of
 * sockets that the master made and every worker of every cycle inherits. The others look into the mailbox (MSG_PEEK leaves the message
 * there and still hands a descriptor out) and map the same pages. The mailbox holds one message.
 */
#include "ngx_http_sluice_gw_gen.h"

#include <sys/file.h>
#include <sys/socket.h>

#include "nd_image.h"

static int mailbox[2] = {-1, -1}; /* in, out */

ngx_int_t ngx_http_sluice_gw_image_init(ngx_log_t *log) {
    if (mailbox[0] != -1) {
        return NGX_OK;
    }
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, mailbox) == -1) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno, "socketpair() failed");
        return NGX_ERROR;
    }
    return NGX_OK;
}

typedef union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(sizeof(int))];
} control_t;

static struct msghdr message(struct iovec *iov, uint64_t *generation, control_t *control) {
    *iov = (struct iovec){.iov_base = generation, .iov_len = sizeof(*generation)};
    ngx_memzero(control, sizeof(*control));
    return (struct msghdr){.msg_iov = iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(*control)};
}

/* The descriptor of the oldest message; -1: there is none. */
static int receive(int flags, uint64_t *generation) {
    struct iovec iov;
    control_t control;
    int fd = -1;
    struct msghdr msg = message(&iov, generation, &control);
    *generation = 0;
    if (recvmsg(mailbox[1], &msg, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*generation)) {
        return -1;
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
        ngx_memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    }
    return fd;
}

/* Only with the lock. The new message is there before the old one goes. */
static void post(int fd, uint64_t generation) {
    struct iovec iov;
    control_t control;
    uint64_t oldest;
    struct msghdr msg = message(&iov, &generation, &control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    ngx_memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    if (sendmsg(mailbox[0], &msg, MSG_DONTWAIT) != (ssize_t)sizeof(generation)) {
        return; /* the next worker makes a copy of its own */
    }
    for (;;) {
        int head = receive(MSG_PEEK, &oldest);
        if (head != -1) {
            close(head);
        }
        if (head == -1 || oldest == generation) {
            return;
        }
        head = receive(0, &oldest);
        if (head != -1) {
            close(head);
        }
    }
}

/* SL_NOT_FOUND: the mailbox has nothing, or nothing so new. */
static sl_status_t open_shared(uint64_t least, gw_plan_t **out, sl_err_t *err) {
    uint64_t generation;
    int fd = receive(MSG_PEEK, &generation);
    if (fd == -1) {
        return SL_NOT_FOUND;
    }
    sl_status_t rc = generation >= least ? gw_plan_open_shared(fd, out, err) : SL_NOT_FOUND;
    close(fd);
    return rc;
}

static sl_status_t open_copy(const char *path, uint64_t least, gw_plan_t **out, sl_err_t *err) {
    int fd;
    sl_status_t rc = nd_image_seal(path, &fd, err);
    if (rc != SL_OK) {
        return rc;
    }
    rc = gw_plan_open_sealed(fd, out, err);
    if (rc != SL_OK) {
        sl_err_prefix(err, "%s: ", path);
    } else if (gw_plan_generation(*out) < least) {
        rc = sl_err_set(err, SL_INVALID, "%s: expected generation %lu, it has %lu", path, (unsigned long)least,
                        (unsigned long)gw_plan_generation(*out));
        gw_plan_close(*out);
    } else {
        post(fd, gw_plan_generation(*out));
    }
    close(fd);
    return rc;
}

/* One copy over all workers. The folder is a lock that is always there. */
static int lock_folder(const char *path) {
    char folder[4224];
    snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    int fd = open(slash != NULL && slash != folder ? folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd != -1 && flock(fd, LOCK_EX) == -1 && errno == EINTR) {
    }
    return fd;
}

sl_status_t ngx_http_sluice_gw_image_open(const char *path, uint64_t least, gw_plan_t **out, sl_err_t *older, sl_err_t *err) {
    sl_status_t rc = open_shared(least, out, err);
    if (rc == SL_OK) {
        return rc;
    }
    int lock = lock_folder(path);
    rc = open_shared(least, out, err);
    if (rc != SL_OK) {
        rc = open_copy(path, least, out, err);
    }
    sl_err_t none;
    if (rc != SL_OK && older != NULL && open_shared(0, out, &none) == SL_OK) {
        *older = *err;
        rc = SL_OK;
    }
    if (lock != -1) {
        close(lock);
    }
    return rc;
}

bool ngx_http_sluice_gw_image_share(void *plan_path, sl_str_t image, uint64_t generation, uint64_t revision) {
    int fd;
    uint64_t posted;
    if (nd_image_seal_bytes(image, &fd, NULL) != SL_OK) {
        return false; /* whoever needs it takes the file */
    }
    int lock = lock_folder(plan_path);
    post(fd, generation);
    close(fd);
    fd = receive(MSG_PEEK, &posted);
    bool good = fd != -1 && posted == generation;
    if (fd != -1) {
        close(fd);
    }
    if (lock != -1) {
        close(lock);
    }
    if (good && revision != 0) {
        ngx_http_sluice_gw_announce(generation, revision);
    }
    return good;
}
