#include "image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sl_digest.h"
#include "sl_file.h"

#define SUFFIX ".image"
#define NAME_SIZE (2 * SL_SHA256_SIZE + sizeof(SUFFIX))

static bool write_all(int fd, sl_str_t s) {
    while (s.len != 0) {
        ssize_t n = write(fd, s.data, s.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        s = sl_str(s.data + n, s.len - (size_t)n);
    }
    return true;
}

static bool is_zero(const char *page, size_t n) {
    return n > 1 && page[0] == 0 && memcmp(page, page + 1, n - 1) == 0;
}

/* What is zero becomes a hole: most of the memory of most guests has never been touched. */
static bool write_sparse(int fd, sl_str_t s) {
    size_t size = s.len, page = 4096;
    for (size_t at = 0, end; at < size; at = end) {
        for (end = at; end < size && is_zero(s.data + end, size - end < page ? size - end : page); end += page) {
        }
        at = end;
        for (; end < size && !is_zero(s.data + end, size - end < page ? size - end : page); end += page) {
        }
        end = end < size ? end : size;
        if (at < end && (lseek(fd, (off_t)at, SEEK_SET) < 0 || !write_all(fd, sl_str(s.data + at, end - at)))) {
            return false;
        }
    }
    return ftruncate(fd, (off_t)size) == 0;
}

static uint8_t *map_file(int fd, size_t size) {
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    return map != MAP_FAILED ? map : NULL;
}

/* ---- anonymous ---- */

static int anonymous(sl_str_t memory) {
    int fd = memfd_create("sluice-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -1;
    }
    if (!write_sparse(fd, memory) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- in a folder ---- */

/* Ours alone, of the right size, with a name still: a file that is being removed has lost it. */
static bool usable(int fd, size_t size) {
    struct stat st;
    return flock(fd, LOCK_SH | LOCK_NB) == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & (S_IWGRP | S_IWOTH)) == 0 && st.st_nlink != 0 && (uintmax_t)st.st_size == size;
}

/* A file of this name is used only if it has exactly these bytes. */
static int open_same(int folder, const char *name, sl_str_t memory) {
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    uint8_t *map = usable(fd, memory.len) ? map_file(fd, memory.len) : NULL;
    bool same = map != NULL && memcmp(map, memory.data, memory.len) == 0;
    if (map != NULL) {
        munmap(map, memory.len);
    }
    if (!same) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Images that nobody holds any more: of other configurations, of workers that have gone. */
static void remove_unused(int folder) {
    DIR *dir = fdopendir(dup(folder));
    if (dir == NULL) {
        return;
    }
    rewinddir(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (!sl_str_ends(sl_cstr(entry->d_name), SL_STR(SUFFIX))) {
            continue;
        }
        int fd = openat(folder, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
            unlinkat(folder, entry->d_name, 0);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    closedir(dir);
}

/* The lock is taken before the file has the name by which others find it. */
static int write_new(int folder, const char *name, sl_str_t memory) {
    char tmp[NAME_SIZE + 32];
    static atomic_uint count;
    snprintf(tmp, sizeof(tmp), "%s.tmp-%ld-%u", name, (long)getpid(), atomic_fetch_add(&count, 1));
    int fd = openat(folder, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -1;
    }
    if (!write_sparse(fd, memory) || flock(fd, LOCK_SH | LOCK_NB) != 0 || renameat(folder, tmp, folder, name) != 0) {
        unlinkat(folder, tmp, 0);
        close(fd);
        return -1;
    }
    return fd;
}

static int in_folder(const char *path, sl_str_t memory) {
    uint8_t sha256[SL_SHA256_SIZE];
    char name[NAME_SIZE];
    struct stat st;
    if (sl_dir_make(path, 0700, NULL) != SL_OK || sl_sha256(memory, sha256) != SL_OK) {
        return -1;
    }
    sl_hex(sha256, sizeof(sha256), name);
    memcpy(name + 2 * sizeof(sha256), SUFFIX, sizeof(SUFFIX));
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return -1;
    }
    int fd = -1;
    if (fstat(folder, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0) {
        fd = open_same(folder, name, memory);
        if (fd < 0) {
            remove_unused(folder);
            fd = write_new(folder, name, memory);
        }
    }
    close(folder);
    return fd;
}

bool sl_image_file(sl_image_t *image, sl_str_t memory) {
    if (image->fd < 0) {
        image->fd = anonymous(memory);
    }
    image->bytes = image->fd >= 0 ? map_file(image->fd, memory.len) : NULL;
    return image->bytes != NULL;
}

void sl_image_file_close(sl_image_t *image) {
    if (image->bytes != NULL) {
        munmap(image->bytes, image->size);
    }
    if (image->fd >= 0) {
        close(image->fd);
    }
}

/* ---- life ---- */

static sl_status_t open_file(sl_image_t *image, sl_str_t memory, const char *folder, sl_err_t *err) {
    if (memory.len == 0) {
        return SL_OK;
    }
    image->fd = folder != NULL ? in_folder(folder, memory) : -1;
    if (!sl_image_file(image, memory)) {
        return sl_err_set(err, SL_IO, "no image of an instance's memory can be kept: %s", strerror(errno));
    }
    return SL_OK;
}

sl_status_t sl_image_new(sl_module_t *module, sl_str_t memory, const char *folder, size_t n_globals, sl_image_t **out, sl_err_t *err) {
    sl_image_t *image = calloc(1, sizeof(*image));
    if (image == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory while taking an image of an instance");
    }
    atomic_init(&image->refs, 1);
    image->fd = -1;
    image->module = sl_module_ref(module);
    image->size = memory.len;
    image->n_globals = n_globals;
    image->globals = calloc(n_globals + 1, sizeof(*image->globals));
    sl_status_t rc = image->globals != NULL ? open_file(image, memory, folder, err)
                                            : sl_err_set(err, SL_NO_MEMORY, "out of memory while taking an image of an instance");
    if (rc != SL_OK) {
        sl_image_unref(image);
        return rc;
    }
    *out = image;
    return SL_OK;
}

sl_image_t *sl_image_ref(sl_image_t *image) {
    atomic_fetch_add_explicit(&image->refs, 1, memory_order_relaxed);
    return image;
}

void sl_image_unref(sl_image_t *image) {
    if (image == NULL || atomic_fetch_sub_explicit(&image->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    sl_image_file_close(image);
    free(image->globals);
    sl_module_unref(image->module);
    free(image);
}

sl_str_t sl_image_memory(const sl_image_t *image) {
    return sl_str(image->bytes, image->size);
}
