#include "pw_proto.h"

/* ---- reading ---- */

static bool take_varint(sl_str_t *in, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && in->len != 0; shift += 7) {
        uint8_t byte = (uint8_t)*in->data;
        in->data++;
        in->len--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool take_bytes(sl_str_t *in, uint64_t len, sl_str_t *out) {
    if (len > in->len) {
        return false;
    }
    *out = sl_str(in->data, (size_t)len);
    in->data += len;
    in->len -= (size_t)len;
    return true;
}

/* false: malformed. */
static bool take_field(sl_str_t *in, pw_proto_field_t *f) {
    uint64_t key, len;
    *f = (pw_proto_field_t){0};
    if (!take_varint(in, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff) {
        return false;
    }
    f->number = (uint32_t)(key >> 3);
    f->type = (uint8_t)(key & 7);
    switch (f->type) {
    case PW_PROTO_VARINT:
        return take_varint(in, &f->integer);
    case PW_PROTO_FIXED64:
        return take_bytes(in, 8, &f->bytes);
    case PW_PROTO_FIXED32:
        return take_bytes(in, 4, &f->bytes);
    case PW_PROTO_BYTES:
        return take_varint(in, &len) && take_bytes(in, len, &f->bytes);
    default:
        return false; /* groups went out of use before this message came to be */
    }
}

bool pw_proto_each(sl_str_t in, bool (*fn)(const pw_proto_field_t *f, void *ud), void *ud) {
    pw_proto_field_t f;
    while (in.len != 0) {
        if (!take_field(&in, &f) || !fn(&f, ud)) {
            return false;
        }
    }
    return true;
}

/* ---- writing ---- */

static void put_varint(sl_buf_t *out, uint64_t value) {
    while (value >= 0x80) {
        sl_buf_append_char(out, (char)(value | 0x80));
        value >>= 7;
    }
    sl_buf_append_char(out, (char)value);
}

void pw_proto_put_bytes(sl_buf_t *out, uint32_t number, sl_str_t bytes) {
    put_varint(out, (uint64_t)number << 3 | PW_PROTO_BYTES);
    put_varint(out, bytes.len);
    sl_buf_append_str(out, bytes);
}

void pw_proto_put_varint(sl_buf_t *out, uint32_t number, uint64_t value) {
    put_varint(out, (uint64_t)number << 3 | PW_PROTO_VARINT);
    put_varint(out, value);
}
