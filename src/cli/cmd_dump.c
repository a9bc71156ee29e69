/* sluice filters dump: what a trap dump says, and the memory that is in it. The file may be anybody's. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "sl_dump.h"

#define TEXT_MAX_BYTES ((size_t)1 << 20)

/* Nothing that moves the terminal's cursor. */
static bool print_text(sl_str_t text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        bool control = (c < 0x20 && c != '\n') || c == 0x7f;
        bool c1 = c >= 0x80 && c < 0xa0 && (i == 0 || (unsigned char)text.data[i - 1] == 0xc2 || (unsigned char)text.data[i - 1] < 0x80);
        putchar(control || c1 ? '?' : c);
    }
    putchar('\n');
    return fflush(stdout) == 0;
}

/* It holds what the filter had in memory: for nobody but its owner, and never in a file that is there already. */
static sl_status_t write_memory(int fd, const sl_dump_memory_t *memory, const char *path, sl_err_t *err) {
    if (memory->len == 0) {
        return sl_err_set(err, SL_NOT_FOUND, "the dump has no memory");
    }
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0) {
        return sl_err_set(err, SL_IO, "%s: %s", path, strerror(errno));
    }
    sl_status_t rc = sl_dump_extract(fd, memory, to, err);
    if (close(to) != 0 && rc == SL_OK) {
        rc = sl_err_set(err, SL_IO, "%s", strerror(errno));
    }
    if (rc != SL_OK) {
        sl_err_prefix(err, "%s: ", path);
        unlink(path);
    }
    return rc;
}

int cmd_filters_dump(const char *path, const char *memory_path) {
    sl_buf_t text;
    sl_dump_memory_t memory;
    sl_err_t err = {.text = ""};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return cli_fail("%s: %s", path, strerror(errno));
    }
    sl_buf_init(&text, TEXT_MAX_BYTES);
    sl_status_t rc = sl_dump_read(fd, &text, &memory, &err);
    if (rc != SL_OK) {
        sl_err_prefix(&err, "%s: ", path);
    } else if (!print_text(sl_buf_str(&text))) {
        rc = sl_err_set(&err, SL_IO, "cannot write the answer");
    } else if (memory_path != NULL) {
        rc = write_memory(fd, &memory, memory_path, &err);
    }
    sl_buf_deinit(&text);
    close(fd);
    return rc == SL_OK ? 0 : cli_fail_err(&err);
}
