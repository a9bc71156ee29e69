#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli.h"
#include "sl_file.h"

/* saved: NULL, or what settings_save() wrote. */
static sl_status_t load(const char *saved, const cli_options_t *o, void (*warn)(const char *line), settings_t **out) {
    sl_err_t err = {.text = ""};
    sl_status_t rc = saved != NULL ? settings_load_again(saved, warn, out, &err) : settings_load(o->conf, warn, out, &err);
    if (rc == SL_OK && o->prefix != NULL) {
        rc = settings_override(*out, "prefix", o->prefix, "--prefix", &err);
    }
    if (rc == SL_OK && o->filters != NULL) {
        rc = settings_override(*out, "wasm_filters_path", o->filters, "--filters", &err);
    }
    if (rc != SL_OK) {
        cli_fail_err(&err);
    }
    return rc;
}

sl_status_t cli_settings(const cli_options_t *o, settings_t **out) {
    return load(NULL, o, cli_warn, out);
}

sl_status_t cli_settings_quietly(const cli_options_t *o, settings_t **out) {
    return load(NULL, o, NULL, out);
}

sl_status_t cli_running_settings(const cli_options_t *o, settings_t **out) {
    char prefix[CLI_PATH_MAX], saved[CLI_PATH_MAX + 16];
    if (o->conf != NULL) {
        return cli_settings(o, out);
    }
    /* Only to find the prefix. */
    sl_status_t rc = cli_settings_quietly(o, out);
    if (rc != SL_OK) {
        return rc;
    }
    bool known = cli_prefix(*out, prefix, NULL) == SL_OK;
    settings_free(*out);
    snprintf(saved, sizeof(saved), "%s/.sluice_env", known ? prefix : "");
    if (!known || access(saved, R_OK) != 0) {
        return cli_settings(o, out);
    }
    cli_options_t with = *o;
    with.prefix = prefix;
    return load(saved, &with, cli_warn, out);
}

sl_status_t cli_prefix(const settings_t *s, char out[CLI_PATH_MAX], sl_err_t *err) {
    const char *given = settings_get(s, "prefix");
    if (given == NULL) {
        return sl_err_set(err, SL_INVALID, "%s: prefix must not be empty", settings_origin(s, "prefix"));
    }
    if (strchr(given, '$') != NULL) {
        return sl_err_set(err, SL_INVALID, "%s: prefix '%s' must not hold a '$', which begins a variable in nginx.conf",
                          settings_origin(s, "prefix"), given);
    }
    char cwd[CLI_PATH_MAX] = "";
    if (given[0] != '/' && getcwd(cwd, sizeof(cwd)) == NULL) {
        return sl_err_set(err, SL_IO, "cannot find out the current folder: %s", strerror(errno));
    }
    int n = snprintf(out, CLI_PATH_MAX, "%s%s%s", cwd, given[0] != '/' ? "/" : "", given);
    if (n < 0 || n >= CLI_PATH_MAX - 256) {
        return sl_err_set(err, SL_INVALID, "%s: prefix is too long", settings_origin(s, "prefix"));
    }
    while (n > 1 && out[n - 1] == '/') {
        out[--n] = '\0';
    }
    return SL_OK;
}

/* The words of a process, blanks between them; false when they cannot be known. A process that is only waited for has none. */
static bool command_line(long pid, char *out, size_t size) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/cmdline", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return false;
    }
    size_t n = fread(out, 1, size - 1, f);
    bool whole = ferror(f) == 0;
    fclose(f);
    for (size_t i = 0; i < n; i++) {
        out[i] = out[i] == '\0' ? ' ' : out[i];
    }
    out[n] = '\0';
    return whole;
}

bool cli_is_running(const char *prefix, long pid) {
    if (pid <= 1 || (kill((pid_t)pid, 0) != 0 && errno == ESRCH)) {
        return false;
    }
    /* A pid file may be older than the machine's last start, and its number somebody else's by now. */
    char words[3 * CLI_PATH_MAX], ours[CLI_PATH_MAX + 8];
    if (!command_line(pid, words, sizeof(words))) {
        return true;
    }
    snprintf(ours, sizeof(ours), " -p %s ", prefix);
    return strstr(words, ours) != NULL;
}

long cli_running_pid(const char *prefix) {
    char path[CLI_PATH_MAX + 32];
    snprintf(path, sizeof(path), "%s/pids/nginx.pid", prefix);
    sl_buf_t b;
    sl_buf_init(&b, 64);
    long pid = 0;
    if (sl_file_read(path, &b, NULL) == SL_OK && sl_buf_cstr(&b) != NULL) {
        pid = strtol(b.data, NULL, 10);
    }
    sl_buf_deinit(&b);
    return cli_is_running(prefix, pid) ? pid : 0;
}
