#include "nd_filters.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nd_meta.h"
#include "sl_arena.h"
#include "sl_file.h"

#define MAX_FILTERS 10000

struct nd_filters_s {
    sl_arena_t arena;
    const char *dir;
    sl_str_t choose;
    nd_filter_t *list;
    size_t n;
    size_t cap;
};

static bool chosen(sl_str_t choose, sl_str_t name) {
    bool any = choose.len == 0;
    for (size_t i = 0; i < choose.len;) {
        size_t end = i;
        while (end < choose.len && choose.data[end] != ',') {
            end++;
        }
        sl_str_t word = sl_str(choose.data + i, end - i);
        while (word.len != 0 && (word.data[0] == ' ' || word.data[0] == '\t')) {
            word = sl_str(word.data + 1, word.len - 1);
        }
        while (word.len != 0 && (word.data[word.len - 1] == ' ' || word.data[word.len - 1] == '\t')) {
            word.len--;
        }
        if (sl_str_eq(word, SL_STR("off"))) {
            return false;
        }
        any = any || sl_str_eq(word, SL_STR("user")) || sl_str_eq(word, SL_STR("bundled")) || sl_str_eq(word, name);
        i = end + 1;
    }
    return any;
}

/* By name, then the current one, then the newest; a file is older than any upload. */
static int by_name(const void *a, const void *b) {
    const nd_filter_t *x = a, *y = b;
    int rc = strcmp(x->name, y->name);
    if (rc != 0) {
        return rc;
    }
    if (x->current != y->current) {
        return x->current ? -1 : 1;
    }
    return x->number == y->number ? 0 : x->number > y->number ? -1 : 1;
}

static void sort(nd_filters_t *f) {
    if (f->n != 0) {
        qsort(f->list, f->n, sizeof(*f->list), by_name);
    }
}

/* A new place in the list; NULL: err says why not. */
static nd_filter_t *push(nd_filters_t *f, sl_err_t *err) {
    if (f->n == f->cap) {
        if (f->n >= MAX_FILTERS) {
            sl_err_set(err, SL_INVALID, "more than %d filters and versions of filters", MAX_FILTERS);
            return NULL;
        }
        size_t cap = f->cap == 0 ? 16 : f->cap * 2;
        nd_filter_t *list = realloc(f->list, cap * sizeof(*list));
        if (list == NULL) {
            sl_err_set(err, SL_NO_MEMORY, "out of memory");
            return NULL;
        }
        f->list = list;
        f->cap = cap;
    }
    nd_filter_t *filter = &f->list[f->n];
    memset(filter, 0, sizeof(*filter));
    return filter;
}

static sl_status_t add(nd_filters_t *f, const char *dir, sl_str_t file, sl_err_t *err) {
    char path[4096];
    nd_filter_t *filter = push(f, err);
    if (filter == NULL) {
        sl_err_prefix(err, "%s: ", dir);
        return SL_INVALID;
    }
    if (snprintf(path, sizeof(path), "%s/%.*s", dir, SL_FMT(file)) >= (int)sizeof(path)) {
        return sl_err_set(err, SL_INVALID, "%s/%.*s: path too long", dir, SL_FMT(file));
    }
    filter->name = sl_arena_dup(&f->arena, sl_str(file.data, file.len - 5)).data;
    filter->path = sl_arena_dup(&f->arena, sl_cstr(path)).data;
    if (filter->name == NULL || filter->path == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    filter->current = true;
    f->n++;
    return SL_OK;
}

static sl_status_t list_folder(nd_filters_t *f, const char *dir, sl_err_t *err) {
    DIR *d = opendir(dir);
    if (d == NULL) {
        if (errno == EACCES) {
            const struct passwd *user = getpwuid(geteuid());
            return sl_err_set(
                err, SL_IO,
                "wasm_filters_path '%s': the user '%s' has no permission to read it, or to pass through a folder above it (with "
                "root's rights workers run as the user of SLUICE_NGINX_USER, else nobody)",
                dir, user != NULL ? user->pw_name : "of this process");
        }
        return sl_err_set(err, SL_IO, "wasm_filters_path '%s' is not a valid directory", dir);
    }
    sl_status_t rc = SL_OK;
    for (struct dirent *e = readdir(d); e != NULL && rc == SL_OK; e = readdir(d)) {
        sl_str_t file = sl_cstr(e->d_name);
        struct stat st;
        if (file.len > 5 && sl_str_eq_nocase(sl_str(file.data + file.len - 5, 5), SL_STR(".wasm")) &&
            fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode) && chosen(f->choose, sl_str(file.data, file.len - 5))) {
            rc = add(f, dir, file, err);
        }
    }
    closedir(d);
    return rc;
}

/* Keeps what the metadata says. */
static sl_status_t keep_meta(nd_filters_t *f, nd_filter_t *filter, sl_str_t text, const json_t *meta) {
    json_t *schema = json_object_get(meta, "config_schema"), *version = json_object_get(meta, "version");
    filter->meta = sl_arena_dup(&f->arena, text);
    if (filter->meta.data == NULL) {
        return SL_NO_MEMORY;
    }
    if (version != NULL) {
        filter->version = sl_arena_dup(&f->arena, sl_str(json_string_value(version), json_string_length(version)));
    }
    if (schema != NULL) {
        char *dump = json_dumps(schema, JSON_COMPACT);
        filter->schema = dump != NULL ? sl_arena_dup(&f->arena, sl_cstr(dump)) : SL_STR_NULL;
        free(dump);
    }
    bool whole = (version == NULL || filter->version.data != NULL) && (schema == NULL || filter->schema.data != NULL);
    return whole ? SL_OK : SL_NO_MEMORY;
}

/* SL_INVALID: err says what is wrong with it. */
static sl_status_t take_meta(nd_filters_t *f, nd_filter_t *filter, sl_str_t text, sl_err_t *err) {
    json_t *meta;
    sl_status_t rc = nd_meta_parse(text, &meta, err);
    if (rc == SL_OK) {
        rc = keep_meta(f, filter, text, meta);
        if (rc != SL_OK) {
            sl_err_set(err, rc, "out of memory");
        }
        json_decref(meta);
    }
    return rc;
}

/* Reads name.meta.json beside the filter; every problem becomes a line of `problems`. */
static void load_meta(nd_filters_t *f, nd_filter_t *filter, sl_buf_t *problems) {
    char path[4096 + 16];
    snprintf(path, sizeof(path), "%.*s.meta.json", (int)strlen(filter->path) - 5, filter->path);
    struct stat st;
    if (stat(path, &st) != 0 && errno == ENOENT) {
        return;
    }
    sl_buf_t text;
    sl_buf_init(&text, ND_META_MAX_BYTES);
    sl_err_t err = {.text = ""};
    sl_status_t rc;
    if (!S_ISREG(st.st_mode)) {
        rc = sl_err_set(&err, SL_INVALID, "invalid type: path exists but is not a file");
    } else if ((rc = sl_file_read(path, &text, &err)) != SL_OK) {
        sl_err_prefix(&err, "I/O error: ");
    } else {
        rc = take_meta(f, filter, sl_buf_str(&text), &err);
    }
    if (rc != SL_OK) {
        sl_buf_printf(problems, "%s* %s (%s) %.256s", problems->len == 0 ? "" : "; ", filter->name, path, err.text);
    }
    sl_buf_deinit(&text);
}

static sl_status_t load_all_meta(nd_filters_t *f, sl_err_t *err) {
    sl_buf_t problems;
    sl_buf_init(&problems, 900);
    for (size_t i = 0; i < f->n; i++) {
        load_meta(f, &f->list[i], &problems);
    }
    sl_status_t rc = SL_OK;
    if (problems.len != 0 || problems.failed) {
        rc = sl_err_set(err, SL_INVALID, "Failed to load metadata for one or more filters: %.*s", SL_FMT(sl_buf_str(&problems)));
    }
    sl_buf_deinit(&problems);
    return rc;
}

sl_status_t nd_filters_scan(const char *dir, sl_str_t choose, nd_filters_t **out, sl_err_t *err) {
    nd_filters_t *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_arena_init(&f->arena, 4096, (size_t)256 * 1024 * 1024);
    f->dir = dir != NULL ? sl_arena_dup(&f->arena, sl_cstr(dir)).data : NULL;
    f->choose = sl_arena_dup(&f->arena, choose);
    sl_status_t rc = f->choose.data == NULL ? sl_err_set(err, SL_NO_MEMORY, "out of memory") : SL_OK;
    rc = rc == SL_OK && dir != NULL ? list_folder(f, dir, err) : rc;
    if (rc == SL_OK) {
        sort(f);
        rc = load_all_meta(f, err);
    }
    if (rc != SL_OK) {
        nd_filters_free(f);
        return rc;
    }
    *out = f;
    return SL_OK;
}

void nd_filters_free(nd_filters_t *f) {
    if (f != NULL) {
        sl_arena_deinit(&f->arena);
        free(f->list);
        free(f);
    }
}

/* ---- uploads --------------------------------------------------------------------------------------------------------- */

/* Position of the first version of a name, or of what comes after it. */
static size_t first_of(const nd_filters_t *f, sl_str_t name) {
    size_t lo = 0;
    for (size_t hi = f->n; lo < hi;) {
        size_t mid = lo + (hi - lo) / 2;
        if (sl_str_cmp(sl_cstr(f->list[mid].name), name) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static bool is_named(const nd_filter_t *filter, sl_str_t name) {
    return sl_str_eq(sl_cstr(filter->name), name);
}

void nd_filters_make_current(nd_filters_t *f, sl_str_t name, uint32_t number, bool *found) {
    bool any = false;
    for (size_t i = first_of(f, name); i < f->n && is_named(&f->list[i], name); i++) {
        f->list[i].current = f->list[i].number == number;
        any = any || f->list[i].current;
    }
    if (found != NULL) {
        *found = any;
    }
    sort(f);
}

void nd_filters_remove(nd_filters_t *f, sl_str_t name, uint32_t number) {
    size_t kept = 0;
    for (size_t i = 0; i < f->n; i++) {
        const nd_filter_t *filter = &f->list[i];
        bool goes = is_named(filter, name) && filter->number != 0 && (number == 0 || filter->number == number);
        if (!goes) {
            f->list[kept++] = *filter;
        }
    }
    f->n = kept;
    if (nd_filters_find(f, name) == NULL) {
        nd_filters_make_current(f, name, 0, NULL); /* the file is no longer shadowed */
    }
}

sl_status_t nd_filters_add(nd_filters_t *f, const nd_filter_t *given, sl_err_t *err) {
    nd_filter_t *filter = push(f, err);
    if (filter == NULL) {
        return SL_INVALID;
    }
    *filter = *given;
    filter->name = sl_arena_dup(&f->arena, sl_cstr(given->name)).data;
    filter->schema = filter->version = filter->meta = SL_STR_NULL;
    if (filter->name == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_status_t rc = given->meta.len != 0 ? take_meta(f, filter, given->meta, err) : SL_OK;
    if (rc != SL_OK) {
        return rc;
    }
    f->n++;
    sort(f);
    nd_filters_make_current(f, sl_cstr(given->name), given->number, NULL);
    return SL_OK;
}

typedef struct {
    nd_filters_t *f;
    sl_err_t *err;
} adding_t;

static sl_status_t add_row(void *ud, const st_module_t *row) {
    adding_t *a = ud;
    if (!chosen(a->f->choose, row->name)) {
        return SL_OK;
    }
    nd_filter_t *filter = push(a->f, a->err);
    if (filter == NULL) {
        return SL_INVALID;
    }
    filter->name = sl_arena_dup(&a->f->arena, row->name).data;
    if (filter->name == NULL) {
        return sl_err_set(a->err, SL_NO_MEMORY, "out of memory");
    }
    filter->number = row->version;
    filter->size_bytes = row->size_bytes;
    filter->created_at_s = row->created_at_s;
    filter->current = row->active;
    snprintf(filter->sha256, sizeof(filter->sha256), "%s", row->sha256);
    sl_status_t rc = row->meta.len != 0 ? take_meta(a->f, filter, row->meta, a->err) : SL_OK;
    if (rc != SL_OK) {
        sl_err_prefix(a->err, "filter '%s', version %u in the store: ", filter->name, filter->number);
        return rc;
    }
    a->f->n++;
    return SL_OK;
}

/* Files of names that have an active upload are no longer current. The list is sorted, but for `current`. */
static void shadow_files(nd_filters_t *f) {
    for (size_t i = 0; i < f->n; i++) {
        const nd_filter_t *active = &f->list[i];
        for (size_t k = first_of(f, sl_cstr(active->name)); active->number != 0 && active->current && k < f->n; k++) {
            if (strcmp(f->list[k].name, active->name) != 0) {
                break;
            }
            f->list[k].current = &f->list[k] == active;
        }
    }
}

sl_status_t nd_filters_add_store(nd_filters_t *f, st_tx_t *tx, sl_err_t *err) {
    adding_t a = {.f = f, .err = err};
    sl_status_t rc = st_module_each(tx, SL_STR_NULL, add_row, &a, err);
    sort(f);
    shadow_files(f);
    sort(f);
    return rc;
}

void nd_filters_identify(nd_filters_t *f, nd_modules_t *modules) {
    for (size_t i = 0; i < f->n; i++) {
        nd_filter_t *filter = &f->list[i];
        if (filter->path != NULL && modules != NULL) {
            (void)nd_modules_digest(modules, filter->path, filter->sha256, &filter->size_bytes, NULL);
        }
    }
}

sl_status_t nd_filters_hold(nd_filters_t *f, sl_str_t name, const char *sha256, sl_err_t *err) {
    nd_filter_t *filter = NULL;
    for (size_t i = first_of(f, name); filter == NULL && i < f->n && is_named(&f->list[i], name); i++) {
        filter = f->list[i].number == 0 ? &f->list[i] : NULL;
    }
    if (filter == NULL) {
        filter = push(f, err);
        if (filter == NULL) {
            return SL_INVALID;
        }
        filter->name = sl_arena_dup(&f->arena, name).data;
        if (filter->name == NULL) {
            return sl_err_set(err, SL_NO_MEMORY, "out of memory");
        }
        f->n++;
        filter->current = true;
    }
    filter->path = NULL;
    filter->held = true;
    snprintf(filter->sha256, sizeof(filter->sha256), "%s", sha256);
    sort(f);
    return SL_OK;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

const char *nd_filters_dir(const nd_filters_t *f) {
    return f->dir;
}

bool nd_filters_chosen(const nd_filters_t *f, sl_str_t name) {
    return chosen(f->choose, name);
}

size_t nd_filters_count(const nd_filters_t *f) {
    return f->n;
}

const nd_filter_t *nd_filters_at(const nd_filters_t *f, size_t i) {
    return i < f->n ? &f->list[i] : NULL;
}

const nd_filter_t *nd_filters_find(const nd_filters_t *f, sl_str_t name) {
    size_t i = first_of(f, name);
    return i < f->n && is_named(&f->list[i], name) && f->list[i].current ? &f->list[i] : NULL;
}

static bool is_version(const nd_filter_t *filter, sl_str_t version) {
    char number[16];
    size_t len = (size_t)snprintf(number, sizeof(number), "%u", filter->number);
    return sl_str_eq(filter->version, version) || (filter->number != 0 && sl_str_eq(sl_str(number, len), version));
}

const nd_filter_t *nd_filters_resolve(const nd_filters_t *f, const nd_filter_ref_t *ref) {
    if (ref->version.len == 0 && ref->sha256.len == 0) {
        return nd_filters_find(f, ref->name);
    }
    for (size_t i = first_of(f, ref->name); i < f->n && is_named(&f->list[i], ref->name); i++) {
        const nd_filter_t *filter = &f->list[i];
        if ((ref->version.len == 0 || is_version(filter, ref->version)) &&
            (ref->sha256.len == 0 || sl_str_eq(sl_cstr(filter->sha256), ref->sha256))) {
            return filter;
        }
    }
    return NULL;
}

static sl_str_t text_of(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_string(value) ? sl_str(json_string_value(value), json_string_length(value)) : SL_STR_NULL;
}

nd_filter_ref_t nd_filter_ref(const json_t *entry) {
    return (nd_filter_ref_t){text_of(entry, "name"), text_of(entry, "version"), text_of(entry, "sha256")};
}

sl_status_t nd_filters_fingerprint(const nd_filters_t *f, uint8_t out[SL_SHA256_SIZE]) {
    sl_buf_t text;
    sl_buf_init(&text, SIZE_MAX / 2);
    for (size_t i = 0; i < f->n; i++) {
        const nd_filter_t *filter = &f->list[i];
        sl_buf_printf(&text, "%s %u %d %s %.*s\n", filter->name, filter->number, filter->current, filter->sha256, SL_FMT(filter->version));
    }
    sl_status_t rc = text.failed ? SL_NO_MEMORY : sl_sha256(sl_buf_str(&text), out);
    sl_buf_deinit(&text);
    return rc;
}
