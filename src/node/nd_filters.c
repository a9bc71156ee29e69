#include "nd_filters.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "gw_json_schema.h"
#include "sl_arena.h"
#include "sl_file.h"

#define MAX_FILTERS 10000
#define MAX_META_BYTES (1024 * 1024)
#define DRAFT_4 "http://json-schema.org/draft-04/schema"

struct nd_filters_s {
    sl_arena_t arena;
    const char *dir;
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

static int by_name(const void *a, const void *b) {
    return strcmp(((const nd_filter_t *)a)->name, ((const nd_filter_t *)b)->name);
}

static sl_status_t add(nd_filters_t *f, const char *dir, sl_str_t file, sl_err_t *err) {
    if (f->n == f->cap) {
        if (f->n >= MAX_FILTERS) {
            return sl_err_set(err, SL_INVALID, "%s: more than %d filters", dir, MAX_FILTERS);
        }
        size_t cap = f->cap == 0 ? 16 : f->cap * 2;
        nd_filter_t *list = realloc(f->list, cap * sizeof(*list));
        if (list == NULL) {
            return sl_err_set(err, SL_NO_MEMORY, "out of memory");
        }
        f->list = list;
        f->cap = cap;
    }
    char path[4096];
    if (snprintf(path, sizeof(path), "%s/%.*s", dir, SL_FMT(file)) >= (int)sizeof(path)) {
        return sl_err_set(err, SL_INVALID, "%s/%.*s: path too long", dir, SL_FMT(file));
    }
    sl_str_t name = sl_arena_dup(&f->arena, sl_str(file.data, file.len - 5));
    sl_str_t kept = sl_arena_dup(&f->arena, sl_cstr(path));
    if (name.data == NULL || kept.data == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    f->list[f->n++] = (nd_filter_t){.name = name.data, .path = kept.data};
    return SL_OK;
}

static sl_status_t list_folder(nd_filters_t *f, const char *dir, sl_str_t choose, sl_err_t *err) {
    DIR *d = opendir(dir);
    if (d == NULL) {
        if (errno == EACCES) {
            return sl_err_set(err, SL_IO, "wasm_filters_path '%s': no permission to read it for this user", dir);
        }
        return sl_err_set(err, SL_IO, "wasm_filters_path '%s' is not a valid directory", dir);
    }
    sl_status_t rc = SL_OK;
    for (struct dirent *e = readdir(d); e != NULL && rc == SL_OK; e = readdir(d)) {
        sl_str_t file = sl_cstr(e->d_name);
        struct stat st;
        if (file.len > 5 && sl_str_eq_nocase(sl_str(file.data + file.len - 5, 5), SL_STR(".wasm")) &&
            fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode) && chosen(choose, sl_str(file.data, file.len - 5))) {
            rc = add(f, dir, file, err);
        }
    }
    closedir(d);
    return rc;
}

/* What is wrong with a metadata document; NULL: nothing. */
static const char *meta_problem(json_t *meta, char *buf, size_t size) {
    if (!json_is_object(meta)) {
        return "file contains invalid metadata: expected an object";
    }
    json_t *schema = json_object_get(meta, "config_schema");
    if (schema != NULL && !json_is_object(schema)) {
        return "file contains invalid metadata: config_schema: expected an object";
    }
    json_t *dialect = json_object_get(schema, "$schema");
    if (dialect != NULL && (!json_is_string(dialect) || strncmp(json_string_value(dialect), DRAFT_4, strlen(DRAFT_4)) != 0)) {
        return "file contains invalid metadata: config_schema: unsupported document $schema, expected: " DRAFT_4 "#";
    }
    if (schema != NULL) {
        sl_err_t err;
        if (gw_json_schema_check(schema, &err) != SL_OK) {
            snprintf(buf, size, "file contains invalid metadata: config_schema: %.*s", (int)size - 64, err.text);
            return buf;
        }
    }
    json_t *metrics = json_object_get(meta, "metrics");
    if (metrics != NULL && !json_is_object(metrics)) {
        return "file contains invalid metadata: metrics: expected an object";
    }
    return NULL;
}

static const char *take_meta(nd_filters_t *f, nd_filter_t *filter, sl_str_t text, char *buf, size_t size) {
    json_error_t je;
    json_t *meta = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
    if (meta == NULL) {
        snprintf(buf, size, "JSON decode error: %s (line %d, column %d)", je.text, je.line, je.column);
        return buf;
    }
    const char *problem = meta_problem(meta, buf, size);
    json_t *schema = json_object_get(meta, "config_schema");
    if (problem == NULL && schema != NULL) {
        char *dump = json_dumps(schema, JSON_COMPACT);
        filter->schema = dump != NULL ? sl_arena_dup(&f->arena, sl_cstr(dump)) : SL_STR_NULL;
        free(dump);
        problem = filter->schema.data == NULL ? "out of memory" : NULL;
    }
    json_decref(meta);
    return problem;
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
    sl_buf_init(&text, MAX_META_BYTES);
    sl_err_t err;
    char buf[256];
    const char *problem;
    if (!S_ISREG(st.st_mode)) {
        problem = "invalid type: path exists but is not a file";
    } else if (sl_file_read(path, &text, &err) != SL_OK) {
        snprintf(buf, sizeof(buf), "I/O error: %.200s", err.text);
        problem = buf;
    } else {
        problem = take_meta(f, filter, sl_buf_str(&text), buf, sizeof(buf));
    }
    if (problem != NULL) {
        sl_buf_printf(problems, "%s* %s (%s) %s", problems->len == 0 ? "" : "; ", filter->name, path, problem);
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
    sl_status_t rc = dir != NULL ? list_folder(f, dir, choose, err) : SL_OK;
    if (rc == SL_OK && f->n != 0) {
        qsort(f->list, f->n, sizeof(*f->list), by_name);
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

const char *nd_filters_dir(const nd_filters_t *f) {
    return f->dir;
}

size_t nd_filters_count(const nd_filters_t *f) {
    return f->n;
}

const nd_filter_t *nd_filters_at(const nd_filters_t *f, size_t i) {
    return i < f->n ? &f->list[i] : NULL;
}

const nd_filter_t *nd_filters_find(const nd_filters_t *f, sl_str_t name) {
    size_t lo = 0;
    for (size_t hi = f->n; lo < hi;) {
        size_t mid = lo + (hi - lo) / 2;
        int rc = sl_str_cmp(sl_cstr(f->list[mid].name), name);
        if (rc == 0) {
            return &f->list[mid];
        }
        if (rc < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}
