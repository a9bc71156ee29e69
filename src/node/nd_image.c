#include "nd_image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static sl_status_t failed(const char *path, const char *what, sl_err_t *err) {
    return sl_err_set(err, SL_IO, "%s: %s: %s", path, what, strerror(errno));
}

/* Copies what is left of `from`. */
static sl_status_t copy(const char *path, int from, int to, sl_err_t *err) {
    char buffer[65536];
    for (;;) {
        ssize_t n = read(from, buffer, sizeof(buffer));
        if (n == 0) {
            return SL_OK;
        }
        if (n < 0 && errno != EINTR) {
            return failed(path, "cannot read", err);
        }
        for (ssize_t at = 0; at < n;) {
            ssize_t done = write(to, buffer + at, (size_t)(n - at));
            if (done < 0 && errno != EINTR) {
                return failed(path, "no memory for the plan", err);
            }
            at += done > 0 ? done : 0;
        }
    }
}

static sl_status_t seal(const char *path, int from, int *out, sl_err_t *err) {
    int fd = memfd_create("sluice-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return failed(path, "memfd_create()", err);
    }
    sl_status_t rc = copy(path, from, fd, err);
    if (rc == SL_OK && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        rc = failed(path, "cannot seal the plan", err);
    }
    if (rc != SL_OK) {
        close(fd);
        return rc;
    }
    *out = fd;
    return SL_OK;
}

sl_status_t nd_image_seal(const char *path, int *fd, sl_err_t *err) {
    struct stat st;
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from < 0) {
        return sl_err_set(err, errno == ENOENT ? SL_NOT_FOUND : SL_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    sl_status_t rc = fstat(from, &st) == 0 && S_ISREG(st.st_mode) ? SL_OK : sl_err_set(err, SL_IO, "%s: not a regular file", path);
    rc = rc == SL_OK ? seal(path, from, fd, err) : rc;
    close(from);
    return rc;
}
