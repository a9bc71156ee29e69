/*
 * Whom a gRPC call is for. A guest names an upstream, gives a URI, or a serialized envoy.config.core.v3.GrpcService, of which this reads
 * the parts that mean something here. Plain functions over bytes; everything borrows from them.
 */
#ifndef PW_GRPC_TARGET_H
#define PW_GRPC_TARGET_H

#include "pw_host.h"

#define PW_GRPC_TARGET_METADATA_MAX 64

typedef struct {
    sl_str_t name;      /* of an upstream, or host[:port] */
    sl_str_t authority; /* empty: the name */
    bool tls;
    bool own_credentials; /* certificates or keys that the guest brings: not supported */
    uint32_t timeout_ms;  /* 0: none */
    pw_pair_t metadata[PW_GRPC_TARGET_METADATA_MAX];
    size_t n_metadata;
} pw_grpc_target_t;

/* false: these bytes are no GrpcService with a target, whether or not they could be a name. */
bool pw_grpc_service_decode(sl_str_t bytes, pw_grpc_target_t *out);
/* A GrpcService, else a name, with `grpc://`, `grpcs://`, `http://`, `https://`, `dns:` in front or not. false: neither. */
bool pw_grpc_target(sl_str_t bytes, pw_grpc_target_t *out);

#endif
