#include "nd_modules.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sl_file.h"

#define PATH_BYTES 4300
#define MAX_KNOWN 20000 /* of each kind; then everything is found out anew */
#define SUFFIX ".wasm"

/* A file whose digest is known. */
typedef struct {
    char *path;
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed, modified;
    nd_sha256_t sha256;
} file_t;

typedef struct {
    nd_sha256_t sha256;
    uint64_t size_bytes;
} known_t;

typedef struct {
    known_t *list;
    size_t n, cap;
} known_list_t;

struct nd_modules_s {
    pthread_mutex_t mutex;
    char *folder;
    file_t *files;
    size_t n_files, cap_files;
    known_list_t ready, noted;
    bool has_fingerprint;
    uint8_t fingerprint[SL_SHA256_SIZE];
};

nd_modules_t *nd_modules_new(const char *folder) {
    nd_modules_t *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    m->folder = folder != NULL ? strdup(folder) : NULL;
    if ((folder != NULL && m->folder == NULL) || pthread_mutex_init(&m->mutex, NULL) != 0) {
        free(m->folder);
        free(m);
        return NULL;
    }
    return m;
}

static void forget_files(nd_modules_t *m) {
    for (size_t i = 0; i < m->n_files; i++) {
        free(m->files[i].path);
    }
    m->n_files = 0;
}

void nd_modules_free(nd_modules_t *m) {
    if (m == NULL) {
        return;
    }
    forget_files(m);
    free(m->files);
    free(m->ready.list);
    free(m->noted.list);
    free(m->folder);
    pthread_mutex_destroy(&m->mutex);
    free(m);
}

/* ---- digests --------------------------------------------------------------------------------------------------------- */

void nd_sha256_of(sl_str_t bytes, nd_sha256_t out) {
    uint8_t digest[SL_SHA256_SIZE];
    out[0] = '\0';
    if (sl_sha256(bytes, digest) == SL_OK) {
        sl_hex(digest, sizeof(digest), out);
    }
}

bool nd_sha256_valid(sl_str_t text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
    }
    return text.len == ND_SHA256_TEXT;
}

bool nd_sha256_bytes(const nd_sha256_t text, uint8_t out[SL_SHA256_SIZE]) {
    for (size_t i = 0; text[0] != '\0' && i < SL_SHA256_SIZE; i++) {
        char two[3] = {text[2 * i], text[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return text[0] != '\0';
}

static bool same_time(struct timespec a, struct timespec b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_file(const file_t *f, const struct stat *st) {
    return f->device == st->st_dev && f->inode == st->st_ino && f->size == st->st_size && same_time(f->changed, st->st_ctim) &&
           same_time(f->modified, st->st_mtim);
}

static file_t *find_file(nd_modules_t *m, const char *path) {
    for (size_t i = 0; i < m->n_files; i++) {
        if (strcmp(m->files[i].path, path) == 0) {
            return &m->files[i];
        }
    }
    return NULL;
}

static bool recall(nd_modules_t *m, const char *path, const struct stat *st, nd_sha256_t sha256) {
    pthread_mutex_lock(&m->mutex);
    const file_t *f = find_file(m, path);
    bool known = f != NULL && same_file(f, st);
    if (known) {
        memcpy(sha256, f->sha256, sizeof(nd_sha256_t));
    }
    pthread_mutex_unlock(&m->mutex);
    return known;
}

/* A place for a file that is not there yet; NULL without memory. */
static file_t *new_file(nd_modules_t *m, const char *path) {
    if (m->n_files >= MAX_KNOWN) {
        forget_files(m);
    }
    if (m->n_files == m->cap_files) {
        size_t cap = m->cap_files == 0 ? 32 : 2 * m->cap_files;
        file_t *list = realloc(m->files, cap * sizeof(*list));
        if (list == NULL) {
            return NULL;
        }
        m->files = list;
        m->cap_files = cap;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return NULL;
    }
    file_t *f = &m->files[m->n_files++];
    *f = (file_t){.path = copy};
    return f;
}

/* Without memory it is read again the next time. */
static void remember(nd_modules_t *m, const char *path, const struct stat *st, const nd_sha256_t sha256) {
    pthread_mutex_lock(&m->mutex);
    file_t *f = find_file(m, path);
    f = f != NULL ? f : new_file(m, path);
    if (f != NULL) {
        f->device = st->st_dev;
        f->inode = st->st_ino;
        f->size = st->st_size;
        f->changed = st->st_ctim;
        f->modified = st->st_mtim;
        memcpy(f->sha256, sha256, sizeof(f->sha256));
    }
    pthread_mutex_unlock(&m->mutex);
}

sl_status_t nd_modules_digest(nd_modules_t *m, const char *path, nd_sha256_t sha256, uint64_t *size_bytes, sl_err_t *err) {
    struct stat before, after;
    sha256[0] = '\0';
    if (stat(path, &before) != 0) {
        return sl_err_set(err, errno == ENOENT ? SL_NOT_FOUND : SL_IO, "%s: %s", path, strerror(errno));
    }
    *size_bytes = (uint64_t)before.st_size;
    if (recall(m, path, &before, sha256)) {
        return SL_OK;
    }
    sl_buf_t bytes;
    sl_buf_init(&bytes, ND_MODULE_MAX_BYTES);
    sl_status_t rc = sl_file_read(path, &bytes, err);
    if (rc == SL_OK) {
        nd_sha256_of(sl_buf_str(&bytes), sha256);
        *size_bytes = bytes.len;
        rc = sha256[0] != '\0' ? SL_OK : sl_err_set(err, SL_FAILED, "%s: no digest", path);
    }
    sl_buf_deinit(&bytes);
    /* Only what stood still while it was read; a change within the clock's step would not be seen. */
    struct timespec now = {.tv_sec = 0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (rc == SL_OK && stat(path, &after) == 0 && after.st_ino == before.st_ino && after.st_size == before.st_size &&
        same_time(before.st_ctim, after.st_ctim) && now.tv_sec - after.st_ctim.tv_sec >= 2) {
        remember(m, path, &after, sha256);
    }
    return rc;
}

/* ---- copies ---------------------------------------------------------------------------------------------------------- */

static bool path_of(const nd_modules_t *m, const char *sha256, char path[PATH_BYTES]) {
    return m != NULL && m->folder != NULL && nd_sha256_valid(sl_cstr(sha256)) &&
           snprintf(path, PATH_BYTES, "%s/%s" SUFFIX, m->folder, sha256) < PATH_BYTES;
}

sl_status_t nd_modules_read(nd_modules_t *m, const char *sha256, sl_buf_t *out, sl_err_t *err) {
    char path[PATH_BYTES];
    struct stat st;
    if (!path_of(m, sha256, path) || lstat(path, &st) != 0) {
        return sl_err_set(err, SL_NOT_FOUND, "there is no copy of module %s", sha256);
    }
    size_t before = out->len;
    sl_status_t rc = S_ISREG(st.st_mode) ? sl_file_read(path, out, err) : sl_err_set(err, SL_INVALID, "%s: not a regular file", path);
    if (rc != SL_OK) {
        return rc;
    }
    nd_sha256_t found;
    nd_sha256_of(sl_str(out->data + before, out->len - before), found);
    if (strcmp(found, sha256) == 0) {
        return SL_OK;
    }
    out->len = before;
    unlink(path);
    return sl_err_set(err, SL_INVALID, "%s: damaged: its SHA-256 is %s", path, found);
}

sl_status_t nd_modules_write(nd_modules_t *m, const char *sha256, sl_str_t bytes, sl_err_t *err) {
    char path[PATH_BYTES];
    struct stat st;
    nd_sha256_t found;
    if (!path_of(m, sha256, path)) {
        return SL_OK;
    }
    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes.len) {
        (void)utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW); /* somebody is about to use it */
        return SL_OK;
    }
    nd_sha256_of(bytes, found);
    if (strcmp(found, sha256) != 0) {
        return sl_err_set(err, SL_CONFLICT, "the module changed while it was read: its SHA-256 is %s, not %s", found, sha256);
    }
    sl_status_t rc = sl_dir_make(m->folder, 0700, err);
    return rc == SL_OK ? sl_file_write_atomic(path, bytes, 0600, err) : rc;
}

static bool among(const char *name, size_t len, const nd_sha256_t *keep, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (strncmp(name, keep[i], len) == 0 && keep[i][len] == '\0') {
            return true;
        }
    }
    return false;
}

/* A young one may be an upload that is being tried. */
static bool is_old(const char *path) {
    struct stat st;
    struct timespec now;
    return lstat(path, &st) == 0 && clock_gettime(CLOCK_REALTIME, &now) == 0 && now.tv_sec - st.st_mtim.tv_sec > ND_MODULE_YOUNG_S;
}

void nd_modules_sweep(nd_modules_t *m, const nd_sha256_t *keep, size_t n) {
    char path[PATH_BYTES];
    DIR *d = m != NULL && m->folder != NULL ? opendir(m->folder) : NULL;
    if (d == NULL) {
        return;
    }
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        size_t len = strlen(e->d_name), tail = sizeof(SUFFIX) - 1;
        /* Not what somebody is writing: that has another ending, and goes with its writer. */
        bool ours = len == ND_SHA256_TEXT + tail && strcmp(e->d_name + ND_SHA256_TEXT, SUFFIX) == 0;
        if (ours && !among(e->d_name, ND_SHA256_TEXT, keep, n) &&
            snprintf(path, sizeof(path), "%s/%s", m->folder, e->d_name) < (int)sizeof(path) && is_old(path)) {
            unlink(path);
        }
    }
    closedir(d);
}

/* ---- what is known of modules ---------------------------------------------------------------------------------------- */

static known_t *find_known(const known_list_t *l, const char *sha256) {
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->list[i].sha256, sha256) == 0) {
            return &l->list[i];
        }
    }
    return NULL;
}

static void add_known(known_list_t *l, const char *sha256, uint64_t size_bytes) {
    if (l->n >= MAX_KNOWN) {
        l->n = 0;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 32 : 2 * l->cap;
        known_t *list = realloc(l->list, cap * sizeof(*list));
        if (list == NULL) {
            return;
        }
        l->list = list;
        l->cap = cap;
    }
    snprintf(l->list[l->n].sha256, sizeof(nd_sha256_t), "%s", sha256);
    l->list[l->n++].size_bytes = size_bytes;
}

bool nd_modules_ready(nd_modules_t *m, const char *sha256) {
    char path[PATH_BYTES];
    struct stat st;
    if (m == NULL) {
        return false;
    }
    pthread_mutex_lock(&m->mutex);
    const known_t *k = find_known(&m->ready, sha256);
    uint64_t size = k != NULL ? k->size_bytes : 0;
    pthread_mutex_unlock(&m->mutex);
    if (k == NULL) {
        return false;
    }
    return !path_of(m, sha256, path) || (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == size);
}

void nd_modules_set_ready(nd_modules_t *m, const char *sha256, uint64_t size_bytes) {
    if (m == NULL) {
        return;
    }
    pthread_mutex_lock(&m->mutex);
    if (find_known(&m->ready, sha256) == NULL) {
        add_known(&m->ready, sha256, size_bytes);
    }
    pthread_mutex_unlock(&m->mutex);
}

bool nd_modules_note(nd_modules_t *m, const char *sha256) {
    if (m == NULL) {
        return true;
    }
    pthread_mutex_lock(&m->mutex);
    bool fresh = find_known(&m->noted, sha256) == NULL;
    if (fresh) {
        add_known(&m->noted, sha256, 0);
    }
    pthread_mutex_unlock(&m->mutex);
    return fresh;
}

bool nd_modules_noted(nd_modules_t *m, const char *sha256) {
    if (m == NULL) {
        return false;
    }
    pthread_mutex_lock(&m->mutex);
    bool known = find_known(&m->noted, sha256) != NULL;
    pthread_mutex_unlock(&m->mutex);
    return known;
}

bool nd_modules_unchanged(nd_modules_t *m, const uint8_t fingerprint[SL_SHA256_SIZE]) {
    pthread_mutex_lock(&m->mutex);
    bool same = m->has_fingerprint && memcmp(m->fingerprint, fingerprint, SL_SHA256_SIZE) == 0;
    memcpy(m->fingerprint, fingerprint, SL_SHA256_SIZE);
    m->has_fingerprint = true;
    pthread_mutex_unlock(&m->mutex);
    return same;
}
