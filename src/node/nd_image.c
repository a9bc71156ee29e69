#include "nd_image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static sl_status_t failed(const char *path, const char *what, sl_err_t *err) {
    return sl_err_set(err, SL_IO, "%s: %s: %s", path, what, strerror(errno));
}

static sl_status_t write_all(const char *name, int to, sl_str_t bytes, sl_err_t *err) {
    for (size_t at = 0; at < bytes.len;) {
        ssize_t done = write(to, bytes.data + at, bytes.len - at);
        if (done < 0 && errno != EINTR) {
            return failed(name, "no memory for the plan", err);
        }
        at += done > 0 ? (size_t)done : 0;
    }
    return SL_OK;
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
        sl_status_t rc = n > 0 ? write_all(path, to, sl_str(buffer, (size_t)n), err) : SL_OK;
        if (rc != SL_OK) {
            return rc;
        }
    }
}

static int new_memory(void) {
    return memfd_create("sluice-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* Takes `fd`, with the plan in it if `rc` is SL_OK. */
static sl_status_t seal(const char *name, int fd, sl_status_t rc, int *out, sl_err_t *err) {
    if (rc == SL_OK && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        rc = failed(name, "cannot seal the plan", err);
    }
    if (rc != SL_OK) {
        close(fd);
        return rc;
    }
    *out = fd;
    return SL_OK;
}

sl_status_t nd_image_seal_bytes(sl_str_t image, int *fd, sl_err_t *err) {
    static const char name[] = "plan";
    int to = new_memory();
    return to < 0 ? failed(name, "memfd_create()", err) : seal(name, to, write_all(name, to, image, err), fd, err);
}

sl_status_t nd_image_seal(const char *path, int *fd, sl_err_t *err) {
    struct stat st;
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from < 0) {
        return sl_err_set(err, errno == ENOENT ? SL_NOT_FOUND : SL_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    sl_status_t rc = fstat(from, &st) == 0 && S_ISREG(st.st_mode) ? SL_OK : sl_err_set(err, SL_IO, "%s: not a regular file", path);
    int to = rc == SL_OK ? new_memory() : -1;
    if (rc == SL_OK) {
        rc = to < 0 ? failed(path, "memfd_create()", err) : seal(path, to, copy(path, from, to, err), fd, err);
    }
    close(from);
    return rc;
}
