/*
 * Walks over the instructions of a WebAssembly function or initialiser, without an engine. For the rewriter.
 */
#ifndef SL_MODULE_CODE_H
#define SL_MODULE_CODE_H

#include <stdbool.h>
#include <stdint.h>

/* A place in hostile bytes. Reading past the end sets `bad` and gives zeros from then on. */
typedef struct {
    const uint8_t *at, *end;
    bool bad;
} sl_bytes_t;

uint8_t sl_bytes_u8(sl_bytes_t *b);
uint32_t sl_bytes_u32(sl_bytes_t *b);                /* LEB128 */
void sl_bytes_skip(sl_bytes_t *b, uint64_t n);       /* n bytes */
void sl_bytes_skip_leb(sl_bytes_t *b);               /* a number of up to 64 bits, signed or not */
sl_bytes_t sl_bytes_take(sl_bytes_t *b, uint32_t n); /* the next n bytes as a place of their own */

typedef enum {
    SL_CODE_PLAIN,
    SL_CODE_END,     /* `end` */
    SL_CODE_TABLE,   /* writes to a table: table.set, .init, .copy, .grow, .fill */
    SL_CODE_DROP,    /* drops a segment: elem.drop, data.drop */
    SL_CODE_UNKNOWN, /* an instruction that is not known here: its length is not known either */
} sl_code_t;

/* Skips one instruction and says what it was. */
sl_code_t sl_code_next(sl_bytes_t *b);

#endif
