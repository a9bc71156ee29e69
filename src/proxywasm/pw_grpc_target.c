#include "pw_grpc_target.h"

#include "pw_proto.h"

/* ---- the message ---- */

static bool envoy_grpc_field(const pw_proto_field_t *f, void *ud) {
    pw_grpc_target_t *t = ud;
    if (pw_proto_is_bytes(f, 1)) {
        t->name = f->bytes;
    } else if (pw_proto_is_bytes(f, 2)) {
        t->authority = f->bytes;
    }
    return true;
}

/* Any of root_certs, private_key, cert_chain. */
static bool ssl_field(const pw_proto_field_t *f, void *ud) {
    pw_grpc_target_t *t = ud;
    if (f->type == PW_PROTO_BYTES && f->number <= 3 && f->bytes.len != 0) {
        t->own_credentials = true;
    }
    return true;
}

static bool channel_field(const pw_proto_field_t *f, void *ud) {
    pw_grpc_target_t *t = ud;
    if (pw_proto_is_bytes(f, 1)) {
        t->tls = true;
        return pw_proto_each(f->bytes, ssl_field, t);
    }
    if (pw_proto_is_bytes(f, 2)) { /* google_default */
        t->tls = true;
    }
    return true;
}

static bool google_grpc_field(const pw_proto_field_t *f, void *ud) {
    pw_grpc_target_t *t = ud;
    if (pw_proto_is_bytes(f, 1)) {
        t->name = f->bytes;
    } else if (pw_proto_is_bytes(f, 2)) {
        return pw_proto_each(f->bytes, channel_field, t);
    } else if (pw_proto_is_bytes(f, 3)) { /* call_credentials */
        t->own_credentials = true;
    }
    return true;
}

typedef struct {
    uint64_t seconds, nanos;
} duration_t;

static bool duration_field(const pw_proto_field_t *f, void *ud) {
    duration_t *d = ud;
    if (f->type == PW_PROTO_VARINT && f->number == 1) {
        d->seconds = f->integer;
    } else if (f->type == PW_PROTO_VARINT && f->number == 2) {
        d->nanos = f->integer;
    }
    return true;
}

/* Negative ones are none, very long ones are as long as can be. Less than a millisecond is one. */
static bool read_timeout(sl_str_t bytes, uint32_t *timeout_ms) {
    duration_t d = {0, 0};
    if (!pw_proto_each(bytes, duration_field, &d)) {
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

static bool header_field(const pw_proto_field_t *f, void *ud) {
    pw_pair_t *pair = ud;
    if (pw_proto_is_bytes(f, 1)) {
        pair->key = f->bytes;
    } else if (pw_proto_is_bytes(f, 2) || pw_proto_is_bytes(f, 3)) {
        pair->value = f->bytes;
    }
    return true;
}

static bool service_field(const pw_proto_field_t *f, void *ud) {
    pw_grpc_target_t *t = ud;
    if (f->type != PW_PROTO_BYTES) {
        return true;
    }
    switch (f->number) {
    case 1:
        t->tls = t->own_credentials = false; /* the last of a oneof counts */
        t->name = t->authority = SL_STR_NULL;
        return pw_proto_each(f->bytes, envoy_grpc_field, t);
    case 2:
        t->name = t->authority = SL_STR_NULL;
        return pw_proto_each(f->bytes, google_grpc_field, t);
    case 3:
        return read_timeout(f->bytes, &t->timeout_ms);
    case 5:
        return t->n_metadata < PW_GRPC_TARGET_METADATA_MAX && pw_proto_each(f->bytes, header_field, &t->metadata[t->n_metadata++]);
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
    return pw_proto_each(bytes, service_field, out) && out->name.len != 0 && printable(out->name) && printable(out->authority);
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
