#include "pw_grpc_target.h"

/* ---- protobuf's wire format, as much as is needed ---- */

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

typedef struct {
    uint32_t number;
    uint8_t type;
    uint64_t integer; /* of VARINT */
    sl_str_t bytes;   /* of BYTES */
} field_t;

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
static bool take_field(sl_str_t *in, field_t *f) {
    uint64_t key, len;
    *f = (field_t){0};
    if (!take_varint(in, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff) {
        return false;
    }
    f->number = (uint32_t)(key >> 3);
    f->type = (uint8_t)(key & 7);
    switch (f->type) {
    case VARINT:
        return take_varint(in, &f->integer);
    case FIXED64:
        return take_bytes(in, 8, &f->bytes);
    case FIXED32:
        return take_bytes(in, 4, &f->bytes);
    case BYTES:
        return take_varint(in, &len) && take_bytes(in, len, &f->bytes);
    default:
        return false; /* groups went out of use before this message came to be */
    }
}

typedef bool (*field_fn)(const field_t *f, void *ud);

static bool each_field(sl_str_t in, field_fn fn, void *ud) {
    field_t f;
    while (in.len != 0) {
        if (!take_field(&in, &f) || !fn(&f, ud)) {
            return false;
        }
    }
    return true;
}

static bool is_bytes(const field_t *f, uint32_t number) {
    return f->number == number && f->type == BYTES;
}

/* ---- the message ---- */

static bool envoy_grpc_field(const field_t *f, void *ud) {
    pw_grpc_target_t *t = ud;
    if (is_bytes(f, 1)) {
        t->name = f->bytes;
    } else if (is_bytes(f, 2)) {
        t->authority = f->bytes;
    }
    return true;
}

/* Any of root_certs, private_key, cert_chain. */
static bool ssl_field(const field_t *f, void *ud) {
    pw_grpc_target_t *t = ud;
    if (f->type == BYTES && f->number <= 3 && f->bytes.len != 0) {
        t->own_credentials = true;
    }
    return true;
}

static bool channel_field(const field_t *f, void *ud) {
    pw_grpc_target_t *t = ud;
    if (is_bytes(f, 1)) {
        t->tls = true;
        return each_field(f->bytes, ssl_field, t);
    }
    if (is_bytes(f, 2)) { /* google_default */
        t->tls = true;
    }
    return true;
}

static bool google_grpc_field(const field_t *f, void *ud) {
    pw_grpc_target_t *t = ud;
    if (is_bytes(f, 1)) {
        t->name = f->bytes;
    } else if (is_bytes(f, 2)) {
        return each_field(f->bytes, channel_field, t);
    } else if (is_bytes(f, 3)) { /* call_credentials */
        t->own_credentials = true;
    }
    return true;
}

typedef struct {
    uint64_t seconds, nanos;
} duration_t;

static bool duration_field(const field_t *f, void *ud) {
    duration_t *d = ud;
    if (f->type == VARINT && f->number == 1) {
        d->seconds = f->integer;
    } else if (f->type == VARINT && f->number == 2) {
        d->nanos = f->integer;
    }
    return true;
}

/* Negative ones are none, very long ones are as long as can be. Less than a millisecond is one. */
static bool read_timeout(sl_str_t bytes, uint32_t *timeout_ms) {
    duration_t d = {0, 0};
    if (!each_field(bytes, duration_field, &d)) {
        return false;
    }
    if (d.seconds > INT64_MAX || d.nanos > 999999999) {
        *timeout_ms = 0;
        return true;
    }
    uint64_t ms = d.seconds > UINT32_MAX / 1000 ? UINT32_MAX : d.seconds * 1000 + (d.nanos + 999999) / 1000000;
    *timeout_ms = ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
    return true;
}

static bool header_field(const field_t *f, void *ud) {
    pw_pair_t *pair = ud;
    if (is_bytes(f, 1)) {
        pair->key = f->bytes;
    } else if (is_bytes(f, 2) || is_bytes(f, 3)) {
        pair->value = f->bytes;
    }
    return true;
}

static bool service_field(const field_t *f, void *ud) {
    pw_grpc_target_t *t = ud;
    if (f->type != BYTES) {
        return true;
    }
    switch (f->number) {
    case 1:
        t->tls = t->own_credentials = false; /* the last of a oneof counts */
        t->name = t->authority = SL_STR_NULL;
        return each_field(f->bytes, envoy_grpc_field, t);
    case 2:
        t->name = t->authority = SL_STR_NULL;
        return each_field(f->bytes, google_grpc_field, t);
    case 3:
        return read_timeout(f->bytes, &t->timeout_ms);
    case 5:
        return t->n_metadata < PW_GRPC_TARGET_METADATA_MAX && each_field(f->bytes, header_field, &t->metadata[t->n_metadata++]);
    default:
        return true;
    }
}

static bool printable(sl_str_t s) {
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.data[i] <= ' ' || s.data[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

bool pw_grpc_service_decode(sl_str_t bytes, pw_grpc_target_t *out) {
    *out = (pw_grpc_target_t){0};
    return each_field(bytes, service_field, out) && out->name.len != 0 && printable(out->name) && printable(out->authority);
}

/* ---- names ---- */

static bool cut(sl_str_t *s, const char *prefix) {
    sl_str_t p = sl_cstr(prefix);
    if (!sl_str_starts(*s, p)) {
        return false;
    }
    *s = sl_str(s->data + p.len, s->len - p.len);
    return true;
}

static void cut_scheme(pw_grpc_target_t *t) {
    if (cut(&t->name, "grpcs://") || cut(&t->name, "https://")) {
        t->tls = true;
    } else if (!cut(&t->name, "grpc://") && !cut(&t->name, "http://") && !cut(&t->name, "dns:///")) {
        (void)(cut(&t->name, "dns:") || cut(&t->name, "ipv4:") || cut(&t->name, "ipv6:"));
    }
}

bool pw_grpc_target(sl_str_t bytes, pw_grpc_target_t *out) {
    if (!pw_grpc_service_decode(bytes, out)) {
        *out = (pw_grpc_target_t){.name = bytes};
    }
    cut_scheme(out);
    return out->name.len != 0 && printable(out->name);
}
