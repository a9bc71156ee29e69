#include "module_code.h"

#include <stddef.h>

/* ---- bytes ---- */

uint8_t sl_bytes_u8(sl_bytes_t *b) {
    if (b->at == b->end) {
        b->bad = true;
        return 0;
    }
    return *b->at++;
}

uint32_t sl_bytes_u32(sl_bytes_t *b) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        uint8_t byte = sl_bytes_u8(b);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            b->bad = b->bad || value > UINT32_MAX;
            return (uint32_t)value;
        }
    }
    b->bad = true;
    return 0;
}

void sl_bytes_skip(sl_bytes_t *b, uint64_t n) {
    if (n > (uint64_t)(b->end - b->at)) {
        b->bad = true;
        b->at = b->end;
        return;
    }
    b->at += n;
}

void sl_bytes_skip_leb(sl_bytes_t *b) {
    for (int i = 0; i < 10; i++) {
        if ((sl_bytes_u8(b) & 0x80) == 0) {
            return;
        }
    }
    b->bad = true;
}

sl_bytes_t sl_bytes_take(sl_bytes_t *b, uint32_t n) {
    const uint8_t *from = b->at;
    sl_bytes_skip(b, n);
    return (sl_bytes_t){.at = from, .end = b->at, .bad = b->bad};
}

/* ---- instructions ---- */

/* What follows the opcode. */
typedef enum {
    NONE,
    INDEX,       /* one number */
    INDEX_2,     /* two */
    MEMARG,      /* alignment, perhaps a memory, offset */
    MEMARG_LANE, /* and a byte */
    BLOCK,       /* a block type */
    BR_TABLE,    /* a list of labels and one more */
    TYPES,       /* a list of value types */
    LANE,        /* a byte */
    BYTES_4,
    BYTES_8,
    BYTES_16,
    PREFIX_FC,
    PREFIX_FD,
    UNKNOWN
} immediate_t;

typedef struct {
    uint16_t first, last;
    immediate_t immediate;
} row_t;

/* Ranges in order; what lies between them is not known (exceptions, garbage collection: switched off in the engine too). */
static const row_t plain[] = {
    {0x00, 0x01, NONE},     {0x02, 0x04, BLOCK}, {0x05, 0x05, NONE},    {0x0b, 0x0b, NONE},      {0x0c, 0x0d, INDEX},
    {0x0e, 0x0e, BR_TABLE}, {0x0f, 0x0f, NONE},  {0x10, 0x10, INDEX},   {0x11, 0x11, INDEX_2},   {0x12, 0x12, INDEX},
    {0x13, 0x13, INDEX_2},  {0x14, 0x15, INDEX}, {0x1a, 0x1b, NONE},    {0x1c, 0x1c, TYPES},     {0x20, 0x26, INDEX},
    {0x28, 0x3e, MEMARG},   {0x3f, 0x42, INDEX}, {0x43, 0x43, BYTES_4}, {0x44, 0x44, BYTES_8},   {0x45, 0xc4, NONE},
    {0xd0, 0xd0, INDEX},    {0xd1, 0xd1, NONE},  {0xd2, 0xd2, INDEX},   {0xfc, 0xfc, PREFIX_FC}, {0xfd, 0xfd, PREFIX_FD},
};
static const row_t fc[] = {
    {0, 7, NONE},      {8, 8, INDEX_2}, {9, 9, INDEX},     {10, 10, INDEX_2}, {11, 11, INDEX},
    {12, 12, INDEX_2}, {13, 13, INDEX}, {14, 14, INDEX_2}, {15, 17, INDEX},
};
static const row_t fd[] = {
    {0, 11, MEMARG}, {12, 13, BYTES_16},    {14, 20, NONE},   {21, 34, LANE},
    {35, 83, NONE},  {84, 91, MEMARG_LANE}, {92, 93, MEMARG}, {94, 275, NONE},
};
#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static immediate_t find(const row_t *rows, size_t n, uint32_t op) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (op > rows[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n && op >= rows[low].first ? rows[low].immediate : UNKNOWN;
}

static void skip_memarg(sl_bytes_t *b) {
    uint32_t align = sl_bytes_u32(b);
    if ((align & 0x40) != 0) { /* says which memory */
        sl_bytes_skip_leb(b);
    }
    sl_bytes_skip_leb(b);
}

static void skip_type(sl_bytes_t *b) {
    uint8_t first = b->at != b->end ? *b->at : 0;
    sl_bytes_skip_leb(b);
    if (first == 0x63 || first == 0x64) { /* a reference: a heap type follows */
        sl_bytes_skip_leb(b);
    }
}

/* Each item takes a byte at least, so that a count of billions ends with the bytes. */
static void skip_list(sl_bytes_t *b, void (*skip)(sl_bytes_t *b)) {
    for (uint32_t n = sl_bytes_u32(b); n > 0 && !b->bad; n--) {
        skip(b);
    }
}

static void skip_immediate(sl_bytes_t *b, immediate_t immediate) {
    switch (immediate) {
    case INDEX_2:
        sl_bytes_skip_leb(b);
        sl_bytes_skip_leb(b);
        break;
    case INDEX:
        sl_bytes_skip_leb(b);
        break;
    case MEMARG:
        skip_memarg(b);
        break;
    case MEMARG_LANE:
        skip_memarg(b);
        sl_bytes_skip(b, 1);
        break;
    case BLOCK:
        skip_type(b);
        break;
    case BR_TABLE:
        skip_list(b, sl_bytes_skip_leb);
        sl_bytes_skip_leb(b);
        break;
    case TYPES:
        skip_list(b, skip_type);
        break;
    case LANE:
        sl_bytes_skip(b, 1);
        break;
    case BYTES_4:
        sl_bytes_skip(b, 4);
        break;
    case BYTES_8:
        sl_bytes_skip(b, 8);
        break;
    case BYTES_16:
        sl_bytes_skip(b, 16);
        break;
    default:
        break;
    }
}

static sl_code_t next_fc(sl_bytes_t *b) {
    uint32_t op = sl_bytes_u32(b);
    immediate_t immediate = find(fc, COUNT(fc), op);
    skip_immediate(b, immediate);
    switch (op) {
    case 12: /* table.init */
    case 14: /* table.copy */
    case 15: /* table.grow */
    case 17: /* table.fill */
        return SL_CODE_TABLE;
    case 9:  /* data.drop */
    case 13: /* elem.drop */
        return SL_CODE_DROP;
    default:
        return immediate != UNKNOWN ? SL_CODE_PLAIN : SL_CODE_UNKNOWN;
    }
}

sl_code_t sl_code_next(sl_bytes_t *b) {
    uint8_t op = sl_bytes_u8(b);
    immediate_t immediate = find(plain, COUNT(plain), op);
    if (immediate == PREFIX_FC) {
        return next_fc(b);
    }
    if (immediate == PREFIX_FD) {
        immediate = find(fd, COUNT(fd), sl_bytes_u32(b));
    }
    if (immediate == UNKNOWN) {
        return SL_CODE_UNKNOWN;
    }
    skip_immediate(b, immediate);
    if (op == 0x0b) {
        return SL_CODE_END;
    }
    return op == 0x26 ? SL_CODE_TABLE : SL_CODE_PLAIN;
}
