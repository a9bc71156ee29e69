/* protobuf's wire format, as much as is needed: fields are read one after the other, unknown ones are the caller's to skip. */
#ifndef PW_PROTO_H
#define PW_PROTO_H

#include "sl_buf.h"

enum { PW_PROTO_VARINT = 0, PW_PROTO_FIXED64 = 1, PW_PROTO_BYTES = 2, PW_PROTO_FIXED32 = 5 };

typedef struct {
    uint32_t number;
    uint8_t type;
    uint64_t integer; /* of a varint */
    sl_str_t bytes;   /* of the others; borrowed */
} pw_proto_field_t;

/* Calls fn for each field until it answers false. false: it did, or the bytes are no message. */
bool pw_proto_each(sl_str_t in, bool (*fn)(const pw_proto_field_t *f, void *ud), void *ud);
static inline bool pw_proto_is_bytes(const pw_proto_field_t *f, uint32_t number) {
    return f->number == number && f->type == PW_PROTO_BYTES;
}

void pw_proto_put_bytes(sl_buf_t *out, uint32_t number, sl_str_t bytes);
void pw_proto_put_varint(sl_buf_t *out, uint32_t number, uint64_t value);

#endif
