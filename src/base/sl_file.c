#include "sl_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that grew while it was read: with the buffer full, one byte more tells. */
static bool has_more(int fd) {
    char byte;
    return read(fd, &byte, 1) > 0;
}

static sl_status_t read_all(int fd, const char *path, sl_buf_t *out, sl_err_t *err) {
    while (out->len < out->max) {
        size_t room = out->max - out->len;
        if (sl_buf_reserve(out, room < 65536 ? room : 65536) != SL_OK) {
            return sl_err_set(err, SL_NO_MEMORY, "%s: out of memory", path);
        }
        ssize_t n = read(fd, out->data + out->len, out->cap - out->len);
        if (n > 0) {
            out->len += (size_t)n;
        } else if (n == 0) {
            return SL_OK;
        } else if (errno != EINTR) {
            return sl_err_set(err, SL_IO, "%s: cannot read: %s", path, strerror(errno));
        }
    }
    return has_more(fd) ? sl_err_set(err, SL_NO_MEMORY, "%s: larger than the limit of %zu bytes", path, out->max) : SL_OK;
}

sl_status_t sl_file_read(const char *path, sl_buf_t *out, sl_err_t *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return sl_err_set(err, errno == ENOENT ? SL_NOT_FOUND : SL_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    struct stat st;
    sl_status_t rc;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        rc = sl_err_set(err, SL_IO, "%s: not a regular file", path);
    } else if ((uintmax_t)st.st_size > out->max - out->len) {
        rc = sl_err_set(err, SL_NO_MEMORY, "%s: %jd bytes, larger than the limit of %zu bytes", path, (intmax_t)st.st_size, out->max);
    } else {
        rc = read_all(fd, path, out, err);
    }
    close(fd);
    return rc;
}

static sl_status_t write_all(int fd, sl_str_t data) {
    while (data.len > 0) {
        ssize_t n = write(fd, data.data, data.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return SL_IO;
        }
        data = sl_str(data.data + n, data.len - (size_t)n);
    }
    return SL_OK;
}

static void sync_folder(const char *path) {
    char dir[PATH_MAX];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash == NULL) {
        snprintf(dir, sizeof(dir), ".");
    } else {
        slash[slash == dir ? 1 : 0] = '\0';
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        /* Not every file system can; the rename itself is already atomic. */
        (void)!fsync(fd);
        close(fd);
    }
}

static sl_status_t write_file(const char *path, sl_str_t data, unsigned mode, bool sync, sl_err_t *err) {
    static unsigned counter;
    char tmp[PATH_MAX];
    int len = snprintf(tmp, sizeof(tmp), "%s.tmp-%ld-%u", path, (long)getpid(), __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED));
    if (len < 0 || (size_t)len >= sizeof(tmp)) {
        return sl_err_set(err, SL_INVALID, "%s: path too long", path);
    }
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, (mode_t)mode);
    if (fd < 0) {
        return sl_err_set(err, SL_IO, "%s: cannot create: %s", tmp, strerror(errno));
    }
    sl_status_t rc = write_all(fd, data);
    if (rc == SL_OK && sync && fsync(fd) != 0) {
        rc = SL_IO;
    }
    if (close(fd) != 0) {
        rc = SL_IO;
    }
    if (rc != SL_OK || rename(tmp, path) != 0) {
        rc = sl_err_set(err, SL_IO, "%s: cannot write: %s", path, strerror(errno));
        unlink(tmp);
        return rc;
    }
    if (sync) {
        sync_folder(path);
    }
    return SL_OK;
}

sl_status_t sl_file_write_atomic(const char *path, sl_str_t data, unsigned mode, sl_err_t *err) {
    return write_file(path, data, mode, true, err);
}

sl_status_t sl_file_write_soon(const char *path, sl_str_t data, unsigned mode, sl_err_t *err) {
    return write_file(path, data, mode, false, err);
}

static bool is_folder(const char *path) {
    struct stat st;
    int saved = errno;
    bool yes = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    errno = saved;
    return yes;
}

sl_status_t sl_dir_make(const char *path, unsigned mode, sl_err_t *err) {
    char buf[PATH_MAX];
    if (snprintf(buf, sizeof(buf), "%s", path) >= (int)sizeof(buf)) {
        return sl_err_set(err, SL_INVALID, "%s: path too long", path);
    }
    for (char *p = buf + 1;; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        char saved = *p;
        *p = '\0';
        if (mkdir(buf, (mode_t)mode) != 0 && !(errno == EEXIST && is_folder(buf))) {
            return sl_err_set(err, SL_IO, "%s: cannot create the folder: %s", buf, strerror(errno));
        }
        *p = saved;
        if (saved == '\0') {
            return SL_OK;
        }
    }
}
