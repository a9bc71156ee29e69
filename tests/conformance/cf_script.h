/*
 * The language of the conformance cases. A script is statements, one per line or separated by ';'.
 *
 * What the guest does (in the section begun by `at`; the first section is REQH):
 *   at NAME [nth]               in the callback NAME (cf_abi.h), only its nth occurrence (from 1) when given
 *   call NAME ARG... [= STATUS | = ? | traps]     status 0 when left out; ?: any
 *       ARG: a number; 'text' (pointer and length); {k=v,k2=v2} as header-map pairs (pointer and length); null (0 0);
 *            @'text' (only the pointer); &slot (the address of an out parameter, filled with 0xaa before); *slot, **slot (its 32 or 64
 * bits, when the call is made) show P N = VALUE            the bytes at *P, length *N, are VALUE: 'text' or {pairs} show P N has 'text' u32
 * SLOT = NUMBER; u64 SLOT = NUMBER; nonzero SLOT; untouched SLOT args NUMBER...              the callback's arguments, the context first
 *   maytrap (the VM may end anywhere, and what comes after it is not reached)
 *   return NUMBER; trap; reached (the statement was executed); never (it must not be)
 *   malloc ok|fail|wild|trap|grow
 * Texts know \0 \n \r \t \\ \' and \xHH.
 *
 * What the proxy does and must see, in order:
 *   message post|get|trailers|late|empty|early    how request and response look; before anything else (post when left out)
 *   host dialect wasmx          before anything else, too
 *   host exchange|tick|run|answer|fail|timeout|gone|advance MS|free [early]|push 'name' 'data'|upstream NAME|refuse|prop PATH 'v'|loglevel
 *   host resolved '4 or 16 bytes'|none; host redis 'answer'; host redisfail     what becomes of the oldest name, or request to Redis
 *   expect resolves|redises|outcancels|dropped N; expect redis upstream|username|password|query 'text'
 *   expect redis database|commands|timeout|blocks N
 *   host grpc headers|none|message 'text'|trailers|close STATUS ['text']      what the peer of the oldest gRPC call does
 *   expect grpc upstream|authority|service|method 'text'; expect grpc sent N 'text'; expect grpc metadata KEY 'v'|none
 *   expect grpc finished|tls|timeout|messages N; expect grpcs|grpccancels N
 * N exchange is implied before the first `host` or `expect` that needs it free early: the stream ends before anything of it came expect
 * outcome done|paused|reset expect status N; expect dead; expect start fails 'text' expect up|down|uptrailer|downtrailer KEY 'value'|none
 * a header as it was sent expect upbody|downbody 'text'; expect log 'text'; expect nolog 'text' expect calls|timers|routeclears NUMBER;
 * expect period MS; expect callname 'text'; expect callhead KEY 'v'; expect callbody 'text' expect shared 'key' 'value'; expect queue
 * 'name' LENGTH; expect metric 'name' NUMBER; expect samples 'name' NUMBER
 */
#ifndef CF_SCRIPT_H
#define CF_SCRIPT_H

#include "cf_abi.h"
#include "sl_buf.h"

typedef enum { CF_EXPECT_BYTES, CF_EXPECT_ANY, CF_EXPECT_NONZERO, CF_EXPECT_HAS, CF_EXPECT_NEVER } cf_expect_kind_t;

enum { CF_EXPECT_MAX = 96, CF_HOST_MAX = 64, CF_WORDS_MAX = 16 };

typedef struct {
    cf_expect_kind_t kind;
    char tag;
    sl_buf_t bytes;
    unsigned seen;
    bool failed;
    char got[256];
    char text[160]; /* the statement */
} cf_expect_t;

/* A statement for the proxy, split; quoted words are decoded. */
typedef struct {
    sl_str_t words[CF_WORDS_MAX];
    size_t n;
    char text[160];
} cf_host_t;

typedef struct {
    sl_buf_t program;
    cf_expect_t expects[CF_EXPECT_MAX];
    size_t n_expects;
    cf_host_t hosts[CF_HOST_MAX];
    size_t n_hosts;
    sl_buf_t words; /* of hosts; ceiling large, never moves after reserve */
    bool traps;     /* the VM is expected to end */
    bool may_trap;
    char error[256];
} cf_script_t;

/* false: s->error says which statement is wrong. deinit either way. */
bool cf_script_compile(cf_script_t *s, const char *text, const cf_import_t *imports, size_t n_imports);
void cf_script_deinit(cf_script_t *s);
void cf_script_report(cf_script_t *s, sl_str_t log_line); /* looks for a report in a line of the log */
/*
 * Makes the nth wrong statement out of a call statement that is right: one of its pointers or lengths leaves memory. With `odd`: they stay
 * inside, but touch its end or lie in each other. false: there are no more.
 */
bool cf_script_hostile(const char *call, unsigned nth, bool odd, char *out, size_t size);

#endif
