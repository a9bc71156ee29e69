/* clang-format off */
/*
 * probe: the filter that the integration tests are written with. It logs every callback, and runs commands from its configuration in them.
 *
 * CONFIGURATION: lines, separated by a line feed or by `;`.
 *
 *     phase[@when][?header[=value]]: command[@target] [word ...]
 *
 *     request_headers: add x-seen by-probe
 *     request_headers?x-mode=deny: reply 403 denied x-why=no
 *     request_body: pause_until_eos
 *     request_body@eos: replace HELLO
 *     response_headers: remove content-length
 *
 * Empty lines and lines that begin with # do nothing; the line `quiet` stops the logging of callbacks and commands. Lines of one phase
 * run in order: first those of the VM configuration, then those of the filter's configuration, then those that `exec` added to this
 * stream. An unknown phase or command refuses the configuration.
 *
 *   phase   of a root context: root_create vm_start configure tick queue_ready foreign_function root_done root_delete
 *           of a stream: context_create request_headers request_body request_trailers request_metadata response_headers
 *           response_body response_trailers response_metadata new_connection downstream_data upstream_data downstream_close
 *           upstream_close done log delete
 *           of a call: http_call_response (or call_response) grpc_initial_metadata grpc_receive grpc_trailing_metadata grpc_close redis_response;
 *           the stream that made the call is made effective before the first line, if it still exists
 *           root_create knows only the lines of the VM configuration.
 *   when    eos (end of stream seen, or the callback does not tell), more (not yet), or a number: only this run of the phase
 *   header  only if the request has that header, and with that value if one is given
 *
 * LOG. `on_request_headers n=5 eos=1 ctx=2` for each callback, `request_headers: get host = 0 value=example.com` for each host call (the
 * command, its status, the value that it read).
 *
 * TEXT. \n \r \t \0 \; \\ \$ \xHH, \s a space, \e nothing (an empty word). Variables:
 *   $value        result of the last reading command; $hex and $u64 show it as hex digits and as a little-endian number, $len is its length
 *   $status       of the last host call; $statuses: of all host calls of this run, `0,1,2`
 *   $n $size $eos $token $code   arguments of the callback ($code: peer, gRPC status, number of trailers; of call_status: its code)
 *   $ctx $root    ids; $caller: the stream whose call is answered; $phase; $count: runs of this phase in this context
 *   $call $queue $metric   the last id that was given out; $cas: of shared_get; $paused: streams of this root that are paused
 *   $mem          bytes of memory; $buf: address of 4096 spare bytes, see scratch
 *
 * COMMANDS. Words in capitals are arguments, TEXT goes to the end of the line, [note] is an optional name of a response header that gets
 * what was read (see note).
 *
 *   Header maps. target: req reqt res rest grpci grpct call callt or a number; without one, the map of the phase.
 *     get NAME [note]        add NAME TEXT          set NAME TEXT          remove NAME
 *     pairs [note]           reads all, as `a=1,b=2`
 *     count [note]           how many pairs there are
 *     map_size [note]
 *     set_pairs [NAME=VALUE ...]                    set_pairs_raw TEXT
 *   Buffers. target: req res down up call grpc vm plugin data redis or a number; without one, the buffer of the phase.
 *     body [note]            buffer START MAX [note]                       buffer_status [note]
 *     set_buffer START SIZE TEXT                    replace TEXT           append TEXT            prepend TEXT
 *     truncate SIZE          fill SIZE TEXT         replaces it by TEXT over and over, up to SIZE
 *     upper                  to upper case          checksum [note]        FNV-1a of all bytes, 8 hex digits
 *   Properties. A dot separates the parts of PATH, `\.` is a dot.
 *     prop PATH [note]       prop_raw TEXT_WORD [note]                     set_prop PATH TEXT     set_prop_raw TEXT_WORD TEXT
 *   Streams. target: req res down up or a number; without one, the direction that is paused, else the one of the phase.
 *     resume                 close                  reply CODE [BODY] [NAME=VALUE ...] [details=TEXT] [grpc=N]
 *                            these three act in a root context on each of its paused streams
 *     continue_stream        close_stream           continue_request       continue_response      clear_route_cache
 *   Results of the callback.
 *     return N               pause (1)              pause_until_eos        1, and 0 when the end of the stream is there
 *   Control.
 *     if A B COMMAND         unless A B COMMAND     stop                   no further lines in this run
 *     exec NAME              the value of that header is more lines, for this stream only
 *     note NAME TEXT         a response header: added at once in response_headers, kept for it before that, after it logged as
 *                            `note NAME: TEXT`
 *     status [NAME]          a note with $status, named x-status           scratch TEXT           fills the spare bytes
 *     effective ID           done                   wait MS                spins on the clock
 *   Bad ends.
 *     trap    oob    div0    recurse    spin    exit CODE    grow PAGES    alloc BYTES    the last two go on; $value is `ok` or `no`
 *   Logs and clocks.
 *     log[@level] TEXT       log_level [note]       print[@fd] TEXT        tick MS                now [note]
 *     clock[@id] [note]      random SIZE [note]     in hex                 env [note]             `A=1,B=2`
 *   Calls. NAME=VALUE is a header, or metadata.
 *     http_call UPSTREAM AUTHORITY PATH TIMEOUT_MS [body=TEXT] [NAME=VALUE ...] [trailer:NAME=VALUE ...] [omit=NAME]
 *     grpc_call UPSTREAM SERVICE METHOD TIMEOUT_MS [MESSAGE] [NAME=VALUE ...]
 *     grpc_stream UPSTREAM SERVICE METHOD [NAME=VALUE ...]                 grpc_send[@call] END TEXT
 *     grpc_cancel[@call]     grpc_close[@call]      call_status [note]
 *     redis_init UPSTREAM TIMEOUT_MS [USER] [PASSWORD]
 *     redis UPSTREAM COMMAND [WORD ...]             redis_raw UPSTREAM TEXT                       TEXT: the bytes of the request
 *   Shared state.
 *     shared_get KEY [note]  shared_set KEY VALUE [CAS]                    queue_register NAME    queue_resolve VM NAME
 *     enqueue[@queue] TEXT   dequeue[@queue] [note]
 *   Metrics.
 *     metric counter|gauge|histogram|N NAME         metric_add[@id] N      metric_record[@id] N   metric_get[@id] [note]
 *   Anything else.
 *     foreign NAME [ARGUMENTS] [note]               foreign_null NAME [ARGUMENTS]                 wants no result
 *     raw FUNCTION [NUMBER ...]                     exactly this host call; `proxy_` may be left out, numbers may be negative or 0x...
 */
/* clang-format on */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

#define WASI(name) PW_IMPORT_FROM("wasi_snapshot_preview1", #name)

WASI(fd_write) uint32_t fd_write(uint32_t fd, const void *iovs, size_t n, size_t *written);
WASI(fd_read) uint32_t fd_read(uint32_t fd, const void *iovs, size_t n, size_t *read);
WASI(fd_close) uint32_t fd_close(uint32_t fd);
WASI(fd_fdstat_get) uint32_t fd_fdstat_get(uint32_t fd, void *stat);
WASI(fd_prestat_get) uint32_t fd_prestat_get(uint32_t fd, void *prestat);
WASI(clock_time_get) uint32_t clock_time_get(uint32_t id, uint64_t precision, uint64_t *time_ns);
WASI(random_get) uint32_t random_get(void *to, size_t size);
WASI(environ_sizes_get) uint32_t environ_sizes_get(size_t *count, size_t *size);
WASI(environ_get) uint32_t environ_get(char **vector, char *strings);
WASI(args_sizes_get) uint32_t args_sizes_get(size_t *count, size_t *size);
WASI(args_get) uint32_t args_get(char **vector, char *strings);
WASI(poll_oneoff) uint32_t poll_oneoff(const void *in, void *out, size_t n, size_t *events);
WASI(sched_yield) uint32_t sched_yield(void);
WASI(proc_exit) _Noreturn void proc_exit(uint32_t code);

/* ---- phases ------------------------------------------------------------------------------------------------------ */

typedef enum {
    ROOT_CREATE,
    VM_START,
    CONFIGURE,
    TICK,
    QUEUE_READY,
    FOREIGN_FUNCTION,
    ROOT_DONE,
    ROOT_DELETE,
    CONTEXT_CREATE,
    REQUEST_HEADERS,
    REQUEST_BODY,
    REQUEST_TRAILERS,
    REQUEST_METADATA,
    RESPONSE_HEADERS,
    RESPONSE_BODY,
    RESPONSE_TRAILERS,
    RESPONSE_METADATA,
    NEW_CONNECTION,
    DOWNSTREAM_DATA,
    UPSTREAM_DATA,
    DOWNSTREAM_CLOSE,
    UPSTREAM_CLOSE,
    DONE,
    LOG,
    DELETE,
    HTTP_CALL_RESPONSE,
    GRPC_INITIAL_METADATA,
    GRPC_RECEIVE,
    GRPC_TRAILING_METADATA,
    GRPC_CLOSE,
    REDIS_RESPONSE,
    PHASES,
} phase_t;

typedef struct {
    const char *name;
    int map;
    int buffer;
    int stream; /* what pausing here pauses; -1: nothing to pause */
} phase_row_t;

static const phase_row_t phases[PHASES] = {
    [ROOT_CREATE] = {"root_create", 0, 6, -1},
    [VM_START] = {"vm_start", 0, 6, -1},
    [CONFIGURE] = {"configure", 0, 7, -1},
    [TICK] = {"tick", 0, 0, -1},
    [QUEUE_READY] = {"queue_ready", 0, 0, -1},
    [FOREIGN_FUNCTION] = {"foreign_function", 0, 8, -1},
    [ROOT_DONE] = {"root_done", 0, 0, -1},
    [ROOT_DELETE] = {"root_delete", 0, 0, -1},
    [CONTEXT_CREATE] = {"context_create", 0, 0, -1},
    [REQUEST_HEADERS] = {"request_headers", 0, 0, 0},
    [REQUEST_BODY] = {"request_body", 0, 0, 0},
    [REQUEST_TRAILERS] = {"request_trailers", 1, 0, 0},
    [REQUEST_METADATA] = {"request_metadata", 0, 0, -1},
    [RESPONSE_HEADERS] = {"response_headers", 2, 1, 1},
    [RESPONSE_BODY] = {"response_body", 2, 1, 1},
    [RESPONSE_TRAILERS] = {"response_trailers", 3, 1, 1},
    [RESPONSE_METADATA] = {"response_metadata", 2, 1, -1},
    [NEW_CONNECTION] = {"new_connection", 0, 2, 2},
    [DOWNSTREAM_DATA] = {"downstream_data", 0, 2, 2},
    [UPSTREAM_DATA] = {"upstream_data", 0, 3, 3},
    [DOWNSTREAM_CLOSE] = {"downstream_close", 0, 2, -1},
    [UPSTREAM_CLOSE] = {"upstream_close", 0, 3, -1},
    [DONE] = {"done", 0, 0, -1},
    [LOG] = {"log", 0, 0, -1},
    [DELETE] = {"delete", 0, 0, -1},
    [HTTP_CALL_RESPONSE] = {"http_call_response", 6, 4, -1},
    [GRPC_INITIAL_METADATA] = {"grpc_initial_metadata", 4, 5, -1},
    [GRPC_RECEIVE] = {"grpc_receive", 4, 5, -1},
    [GRPC_TRAILING_METADATA] = {"grpc_trailing_metadata", 5, 5, -1},
    [GRPC_CLOSE] = {"grpc_close", 5, 5, -1},
    [REDIS_RESPONSE] = {"redis_response", 0, 9, -1},
};

/* ---- growing text ------------------------------------------------------------------------------------------------ */

/* Running out of memory ends the filter: a test that wants to see that uses membomb. */
static void text_add(pw_bytes_t *text, pw_str_t more) {
    char *data = pw_realloc(text->data, text->len + more.len);
    if (data == NULL) {
        __builtin_trap();
    }
    memcpy(data + text->len, more.data, more.len);
    text->data = data;
    text->len += more.len;
}

static void text_add_char(pw_bytes_t *text, char c) {
    text_add(text, pw_str(&c, 1));
}

static void text_add_u64(pw_bytes_t *text, uint64_t number) {
    pw_line_t line;
    pw_line_init(&line);
    pw_line_u64(&line, number);
    text_add(text, pw_str(line.data, line.len));
}

static void text_add_hex(pw_bytes_t *text, pw_str_t bytes) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes.len; i++) {
        text_add_char(text, digits[(unsigned char)bytes.data[i] >> 4]);
        text_add_char(text, digits[bytes.data[i] & 15]);
    }
}

/* For logs and notes: what is not printable ASCII becomes \xHH. */
static void text_add_visible(pw_bytes_t *text, pw_str_t raw) {
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.data[i] >= 0x20 && raw.data[i] < 0x7f) {
            text_add_char(text, raw.data[i]);
            continue;
        }
        text_add(text, PW_STR("\\x"));
        text_add_hex(text, pw_str(raw.data + i, 1));
    }
}

static bool str_is(pw_str_t s, const char *word) {
    return pw_str_equal(s, pw_str_from_cstr(word));
}

static pw_str_t str_trim(pw_str_t s) {
    while (s.len > 0 && (*s.data == ' ' || *s.data == '\t' || *s.data == '\r')) {
        s = pw_str(s.data + 1, s.len - 1);
    }
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t' || s.data[s.len - 1] == '\r')) {
        s.len--;
    }
    return s;
}

/* Splits at the first c: *head before it, *tail behind it. Without one, all is head and the answer is false. */
static bool str_split(pw_str_t s, char c, pw_str_t *head, pw_str_t *tail) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] == c) {
            *head = pw_str(s.data, i);
            *tail = pw_str(s.data + i + 1, s.len - i - 1);
            return true;
        }
    }
    *head = s;
    *tail = pw_str(s.data + s.len, 0);
    return false;
}

static unsigned hex_digit(char c) {
    char lower = (char)(c | 0x20);
    return c >= '0' && c <= '9' ? (unsigned)(c - '0') : lower >= 'a' && lower <= 'f' ? (unsigned)(lower - 'a') + 10 : 16;
}

/* Decimal, 0x..., and both with a minus; anything else is 0. */
static uint64_t to_number(pw_str_t s) {
    uint64_t value = 0;
    bool negative = s.len > 0 && s.data[0] == '-';
    s = negative ? pw_str(s.data + 1, s.len - 1) : s;
    bool hex = s.len > 2 && s.data[0] == '0' && s.data[1] == 'x';
    for (size_t i = hex ? 2 : 0; i < s.len; i++) {
        unsigned digit = hex_digit(s.data[i]);
        if (digit >= (hex ? 16u : 10u)) {
            return 0;
        }
        value = value * (hex ? 16 : 10) + digit;
    }
    return negative ? 0 - value : value;
}

/* ---- contexts ---------------------------------------------------------------------------------------------------- */

typedef struct note {
    struct note *next;
    pw_bytes_t name;
    pw_bytes_t value;
} note_t;

/* Which context made a call that is not answered yet. */
typedef struct call {
    struct call *next;
    uint32_t token;
    uint32_t context_id;
} call_t;

typedef struct context {
    struct context *next;
    struct context *root; /* itself in a root context */
    uint32_t id;
    pw_bytes_t program; /* root: both configurations; stream: what exec added */
    note_t *notes;
    call_t *calls; /* root */
    int paused;    /* the stream type that waits, -1: none */
    bool quiet;    /* root */
    bool refused;  /* root: its VM configuration is no program */
    uint32_t call;
    uint32_t queue;
    uint32_t metric;
    uint32_t cas;
    uint32_t counts[PHASES];
} context_t;

static context_t *contexts;
static char scratch[4096];

static context_t *context_find(uint32_t id) {
    context_t *context = contexts;
    while (context != NULL && context->id != id) {
        context = context->next;
    }
    return context;
}

static context_t *context_new(uint32_t id, uint32_t parent_id) {
    context_t *context = pw_malloc(sizeof(*context));
    if (context == NULL) {
        __builtin_trap();
    }
    memset(context, 0, sizeof(*context));
    context->id = id;
    context->root = parent_id != 0 ? context_find(parent_id) : context;
    context->root = context->root != NULL ? context->root : context;
    context->paused = -1;
    context->next = contexts;
    contexts = context;
    return context;
}

static void notes_free(context_t *context) {
    while (context->notes != NULL) {
        note_t *note = context->notes;
        context->notes = note->next;
        pw_bytes_free(&note->name);
        pw_bytes_free(&note->value);
        pw_free(note);
    }
}

static void context_free(context_t *context) {
    context_t **link = &contexts;
    while (*link != context) {
        link = &(*link)->next;
    }
    *link = context->next;
    notes_free(context);
    while (context->calls != NULL) {
        call_t *call = context->calls;
        context->calls = call->next;
        pw_free(call);
    }
    pw_bytes_free(&context->program);
    pw_free(context);
}

static void call_add(context_t *context, uint32_t token) {
    call_t *call = pw_malloc(sizeof(*call));
    if (call == NULL) {
        __builtin_trap();
    }
    *call = (call_t){.next = context->root->calls, .token = token, .context_id = context->id};
    context->root->calls = call;
    context->call = context->root->call = token;
}

static uint32_t call_owner(const context_t *root, uint32_t token) {
    const call_t *call = root->calls;
    while (call != NULL && call->token != token) {
        call = call->next;
    }
    return call != NULL ? call->context_id : 0;
}

static void call_forget(context_t *root, uint32_t token) {
    for (call_t **link = &root->calls; *link != NULL; link = &(*link)->next) {
        call_t *call = *link;
        if (call->token == token) {
            *link = call->next;
            pw_free(call);
            return;
        }
    }
}

static uint32_t paused_count(const context_t *root) {
    uint32_t n = 0;
    for (const context_t *context = contexts; context != NULL; context = context->next) {
        n += context->root == root && context->paused >= 0;
    }
    return n;
}

/* ---- one run of a phase ------------------------------------------------------------------------------------------ */

#define WORDS_MAX 24

typedef struct {
    context_t *context;
    phase_t phase;
    uint32_t n;
    uint32_t size;
    uint32_t eos;
    uint32_t token;
    uint32_t code;
    uint32_t caller;
    uint32_t result;
    bool stop;
    bool has_read; /* the command that runs has set the value */
    pw_status_t status;
    pw_bytes_t statuses;
    pw_bytes_t value;
} run_t;

/* A command as it is run: its words with all variables filled in, and the raw text from each word on. */
typedef struct {
    run_t *run;
    pw_str_t target; /* empty: none given */
    uint32_t n;
    pw_bytes_t words[WORDS_MAX]; /* words[0] is the first behind the command */
    pw_str_t raw[WORDS_MAX];
} command_t;

/* NO_STATUS: a command that is no host call. */
#define NO_STATUS ((pw_status_t) - 1)

static uint64_t value_u64(pw_bytes_t value) {
    uint64_t number = 0;
    for (size_t i = value.len < 8 ? value.len : 8; i > 0; i--) {
        number = number << 8 | (unsigned char)value.data[i - 1];
    }
    return number;
}

static bool add_text_variable(const run_t *run, pw_str_t name, pw_bytes_t *out) {
    if (str_is(name, "value")) {
        text_add(out, pw_bytes_str(run->value));
    } else if (str_is(name, "hex")) {
        text_add_hex(out, pw_bytes_str(run->value));
    } else if (str_is(name, "statuses")) {
        text_add(out, pw_bytes_str(run->statuses));
    } else if (str_is(name, "phase")) {
        text_add(out, pw_str_from_cstr(phases[run->phase].name));
    } else {
        return false;
    }
    return true;
}

static bool add_variable(const run_t *run, pw_str_t name, pw_bytes_t *out) {
    const context_t *context = run->context;
    const struct {
        const char *name;
        uint64_t number;
    } numbers[] = {
        {"u64", value_u64(run->value)},
        {"len", run->value.len},
        {"status", run->status},
        {"n", run->n},
        {"size", run->size},
        {"eos", run->eos},
        {"token", run->token},
        {"code", run->code},
        {"ctx", context->id},
        {"root", context->root->id},
        {"caller", run->caller},
        {"count", context->counts[run->phase]},
        {"call", context->call},
        {"queue", context->root->queue},
        {"metric", context->root->metric},
        {"cas", context->cas},
        {"paused", paused_count(context->root)},
        {"mem", (uint64_t)__builtin_wasm_memory_size(0) * PW_WASM_PAGE},
        {"buf", (uintptr_t)scratch},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (str_is(name, numbers[i].name)) {
            text_add_u64(out, numbers[i].number);
            return true;
        }
    }
    return add_text_variable(run, name, out);
}

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* raw.data[0] is the dollar; the answer is how much of raw was used. */
static size_t expand_variable(const run_t *run, pw_str_t raw, pw_bytes_t *out) {
    size_t len = 1;
    while (len < raw.len && is_name_char(raw.data[len])) {
        len++;
    }
    if (!add_variable(run, pw_str(raw.data + 1, len - 1), out)) {
        text_add(out, pw_str(raw.data, len));
    }
    return len;
}

/* raw.data[0] is the backslash. */
static size_t expand_escape(pw_str_t raw, pw_bytes_t *out) {
    char c = raw.len > 1 ? raw.data[1] : '\\';
    if (c == 'e') {
        return 2;
    }
    if (c == 'x' && raw.len >= 4) {
        text_add_char(out, (char)(hex_digit(raw.data[2]) << 4 | hex_digit(raw.data[3])));
        return 4;
    }
    text_add_char(out, c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c == '0' ? '\0' : c == 's' ? ' ' : c);
    return raw.len > 1 ? 2 : 1;
}

static pw_bytes_t expand(const run_t *run, pw_str_t raw) {
    pw_bytes_t out = {0};
    for (size_t i = 0; i < raw.len;) {
        pw_str_t rest = pw_str(raw.data + i, raw.len - i);
        if (*rest.data == '$') {
            i += expand_variable(run, rest, &out);
        } else if (*rest.data == '\\') {
            i += expand_escape(rest, &out);
        } else {
            text_add(&out, pw_str(rest.data, 1));
            i++;
        }
    }
    return out;
}

static pw_str_t word(const command_t *command, uint32_t i) {
    return i < command->n ? pw_bytes_str(command->words[i]) : PW_STR("");
}

static uint32_t number(const command_t *command, uint32_t i) {
    return (uint32_t)to_number(word(command, i));
}

/* TEXT: everything from word i on, spaces included. To be freed. */
static pw_bytes_t text(const command_t *command, uint32_t i) {
    return i < command->n ? expand(command->run, command->raw[i]) : (pw_bytes_t){0};
}

/* The target as a number: of the names given, the position; `none` when the command has no target. */
static uint32_t target(const command_t *command, const char *const *names, uint32_t none) {
    if (command->target.len == 0) {
        return none;
    }
    for (uint32_t i = 0; names != NULL && names[i] != NULL; i++) {
        if (str_is(command->target, names[i])) {
            return i;
        }
    }
    return (uint32_t)to_number(command->target);
}

static const char *const map_names[] = {"req", "reqt", "res", "rest", "grpci", "grpct", "call", "callt", NULL};
static const char *const buffer_names[] = {"req", "res", "down", "up", "call", "grpc", "vm", "plugin", "data", "redis", NULL};
static const char *const stream_names[] = {"req", "res", "down", "up", NULL};
static const char *const level_names[] = {"trace", "debug", "info", "warn", "error", "critical", NULL};

static pw_map_t map_of(const command_t *command) {
    return (pw_map_t)target(command, map_names, (uint32_t)phases[command->run->phase].map);
}

static pw_buffer_t buffer_of(const command_t *command) {
    return (pw_buffer_t)target(command, buffer_names, (uint32_t)phases[command->run->phase].buffer);
}

static pw_stream_t stream_of(const command_t *command, const context_t *context) {
    int stream = context->paused >= 0 ? context->paused : phases[command->run->phase].stream;
    return (pw_stream_t)target(command, stream_names, stream >= 0 ? (uint32_t)stream : 0);
}

/* ---- logging and notes ------------------------------------------------------------------------------------------- */

static void log_text(pw_log_level_t level, pw_bytes_t *line) {
    pw_log(level, pw_bytes_str(*line));
    pw_bytes_free(line);
}

static void note_log(pw_str_t name, pw_str_t value) {
    pw_bytes_t line = {0};
    text_add(&line, PW_STR("note "));
    text_add_visible(&line, name);
    text_add(&line, PW_STR(": "));
    text_add_visible(&line, value);
    log_text(PW_LOG_INFO, &line);
}

static pw_status_t note_add(run_t *run, pw_str_t name, pw_str_t raw_value) {
    pw_bytes_t value = {0};
    text_add_visible(&value, raw_value);
    if (run->phase == RESPONSE_HEADERS) {
        pw_status_t status = pw_header_add(PW_MAP_RESPONSE_HEADERS, name, pw_bytes_str(value));
        pw_bytes_free(&value);
        return status;
    }
    note_t *note = pw_malloc(sizeof(*note));
    if (note == NULL) {
        __builtin_trap();
    }
    *note = (note_t){.value = value};
    text_add(&note->name, name);
    note_t **link = &run->context->notes;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = note;
    return NO_STATUS;
}

static void notes_deliver(context_t *context, bool to_headers) {
    for (const note_t *note = context->notes; note != NULL; note = note->next) {
        if (to_headers) {
            (void)pw_header_add(PW_MAP_RESPONSE_HEADERS, pw_bytes_str(note->name), pw_bytes_str(note->value));
        } else {
            note_log(pw_bytes_str(note->name), pw_bytes_str(note->value));
        }
    }
    notes_free(context);
}

static void take_value(command_t *command, pw_bytes_t value) {
    pw_bytes_free(&command->run->value);
    command->run->value = value;
    command->run->has_read = true;
}

/* A command has read something: it is $value from now on, and a note where word `i` names one. */
static pw_status_t done_reading(command_t *command, pw_status_t status, pw_bytes_t value, uint32_t i) {
    take_value(command, value);
    if (i < command->n && status == PW_OK) {
        (void)note_add(command->run, word(command, i), pw_bytes_str(value));
    }
    return status;
}

static pw_status_t done_reading_number(command_t *command, pw_status_t status, uint64_t value, uint32_t i) {
    pw_bytes_t decimal = {0};
    if (status == PW_OK) {
        text_add_u64(&decimal, value);
    }
    return done_reading(command, status, decimal, i);
}

static pw_bytes_t copy(const char *data, size_t len) {
    pw_bytes_t bytes = {0};
    text_add(&bytes, pw_str(data, len));
    return bytes;
}

/* ---- words NAME=VALUE -------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t n;
    pw_pair_t pairs[WORDS_MAX + 4];
} pairs_t;

/* Also `:path=/x`: the equals sign is searched behind the first character. */
static bool word_pair(pw_str_t w, pw_pair_t *pair) {
    if (w.len < 2 || !str_split(pw_str(w.data + 1, w.len - 1), '=', &pair->name, &pair->value)) {
        return false;
    }
    pair->name = pw_str(w.data, pair->name.len + 1);
    return true;
}

static void pairs_put(pairs_t *pairs, pw_str_t name, pw_str_t value) {
    for (uint32_t i = 0; i < pairs->n; i++) {
        if (name.data[0] == ':' && pw_str_equal(pairs->pairs[i].name, name)) {
            pairs->pairs[i].value = value;
            return;
        }
    }
    pairs->pairs[pairs->n++] = (pw_pair_t){name, value};
}

static void pairs_drop(pairs_t *pairs, pw_str_t name) {
    for (uint32_t i = 0; i < pairs->n; i++) {
        if (pw_str_equal(pairs->pairs[i].name, name)) {
            pairs->pairs[i--] = pairs->pairs[--pairs->n];
        }
    }
}

static bool strip_prefix(pw_str_t *s, const char *prefix) {
    size_t len = strlen(prefix);
    if (s->len < len || memcmp(s->data, prefix, len) != 0) {
        return false;
    }
    *s = pw_str(s->data + len, s->len - len);
    return true;
}

static pw_bytes_t encode(const pairs_t *pairs) {
    pw_bytes_t encoded = {0};
    if (pairs->n > 0 && !pw_pairs_encode(pairs->pairs, pairs->n, &encoded)) {
        __builtin_trap();
    }
    return encoded;
}

/* ---- commands: header maps --------------------------------------------------------------------------------------- */

static pw_status_t run_get(command_t *command) {
    pw_bytes_t value;
    pw_status_t status = pw_header_get(map_of(command), word(command, 0), &value);
    return done_reading(command, status, value, 1);
}

static pw_status_t run_add(command_t *command) {
    pw_bytes_t value = text(command, 1);
    pw_status_t status = pw_header_add(map_of(command), word(command, 0), pw_bytes_str(value));
    pw_bytes_free(&value);
    return status;
}

static pw_status_t run_set(command_t *command) {
    pw_bytes_t value = text(command, 1);
    pw_status_t status = pw_header_set(map_of(command), word(command, 0), pw_bytes_str(value));
    pw_bytes_free(&value);
    return status;
}

static pw_status_t run_remove(command_t *command) {
    return pw_header_remove(map_of(command), word(command, 0));
}

static pw_status_t run_pairs(command_t *command) {
    pw_pairs_t pairs;
    pw_pair_t pair;
    pw_bytes_t list = {0};
    pw_status_t status = pw_pairs_get(map_of(command), &pairs);
    while (pw_pairs_next(&pairs, &pair)) {
        if (list.len > 0) {
            text_add_char(&list, ',');
        }
        text_add(&list, pair.name);
        text_add_char(&list, '=');
        text_add(&list, pair.value);
    }
    pw_pairs_free(&pairs);
    return done_reading(command, status, list, 0);
}

static pw_status_t run_count(command_t *command) {
    pw_pairs_t pairs;
    pw_status_t status = pw_pairs_get(map_of(command), &pairs);
    uint32_t count = pairs.count;
    pw_pairs_free(&pairs);
    return done_reading_number(command, status, count, 0);
}

static pw_status_t run_set_pairs(command_t *command) {
    pairs_t pairs = {0};
    for (uint32_t i = 0; i < command->n; i++) {
        if (word_pair(word(command, i), &pairs.pairs[pairs.n])) {
            pairs.n++;
        }
    }
    return pw_pairs_set(map_of(command), pairs.pairs, pairs.n);
}

static pw_status_t run_set_pairs_raw(command_t *command) {
    pw_bytes_t encoded = text(command, 0);
    pw_status_t status = proxy_set_header_map_pairs(map_of(command), encoded.data, encoded.len);
    pw_bytes_free(&encoded);
    return status;
}

static pw_status_t run_map_size(command_t *command) {
    size_t size = 0;
    pw_status_t status = proxy_get_header_map_size(map_of(command), &size);
    return done_reading_number(command, status, size, 0);
}

/* ---- commands: buffers ------------------------------------------------------------------------------------------- */

static pw_status_t run_body(command_t *command) {
    pw_bytes_t bytes;
    pw_status_t status = pw_buffer_get(buffer_of(command), 0, 0xffffffff, &bytes);
    return done_reading(command, status, bytes, 0);
}

static pw_status_t run_buffer(command_t *command) {
    pw_bytes_t bytes;
    pw_status_t status = pw_buffer_get(buffer_of(command), number(command, 0), number(command, 1), &bytes);
    return done_reading(command, status, bytes, 2);
}

static pw_status_t run_buffer_status(command_t *command) {
    size_t size = 0;
    uint32_t flags = 0;
    pw_status_t status = proxy_get_buffer_status(buffer_of(command), &size, &flags);
    command->run->code = flags;
    return done_reading_number(command, status, size, 0);
}

static pw_status_t set_buffer(command_t *command, size_t start, size_t size, uint32_t text_at) {
    pw_bytes_t data = text(command, text_at);
    pw_status_t status = proxy_set_buffer_bytes(buffer_of(command), start, size, data.data, data.len);
    pw_bytes_free(&data);
    return status;
}

static pw_status_t run_set_buffer(command_t *command) {
    return set_buffer(command, number(command, 0), number(command, 1), 2);
}

static pw_status_t run_replace(command_t *command) {
    return set_buffer(command, 0, 0x7fffffff, 0);
}

static pw_status_t run_append(command_t *command) {
    return set_buffer(command, 0x7fffffff, 0, 0);
}

static pw_status_t run_prepend(command_t *command) {
    return set_buffer(command, 0, 0, 0);
}

static pw_status_t run_truncate(command_t *command) {
    return proxy_set_buffer_bytes(buffer_of(command), number(command, 0), 0x7fffffff, NULL, 0);
}

static pw_status_t run_fill(command_t *command) {
    size_t size = number(command, 0);
    pw_bytes_t pattern = text(command, 1);
    char *data = pw_malloc(size);
    if (data == NULL || pattern.len == 0) {
        __builtin_trap();
    }
    for (size_t i = 0; i < size; i++) {
        data[i] = pattern.data[i % pattern.len];
    }
    pw_status_t status = pw_buffer_replace(buffer_of(command), pw_str(data, size));
    pw_free(data);
    pw_bytes_free(&pattern);
    return status;
}

static pw_status_t run_upper(command_t *command) {
    pw_bytes_t bytes;
    pw_status_t status = pw_buffer_get(buffer_of(command), 0, 0xffffffff, &bytes);
    for (size_t i = 0; i < bytes.len; i++) {
        bytes.data[i] = bytes.data[i] >= 'a' && bytes.data[i] <= 'z' ? (char)(bytes.data[i] - 'a' + 'A') : bytes.data[i];
    }
    if (bytes.len > 0) {
        status = pw_buffer_replace(buffer_of(command), pw_bytes_str(bytes));
    }
    pw_bytes_free(&bytes);
    return status;
}

static pw_status_t run_checksum(command_t *command) {
    pw_bytes_t bytes;
    uint32_t hash = 0x811c9dc5;
    pw_status_t status = pw_buffer_get(buffer_of(command), 0, 0xffffffff, &bytes);
    for (size_t i = 0; i < bytes.len; i++) {
        hash = (hash ^ (unsigned char)bytes.data[i]) * 0x01000193;
    }
    pw_bytes_free(&bytes);
    const char big_endian[4] = {(char)(hash >> 24), (char)(hash >> 16), (char)(hash >> 8), (char)hash};
    pw_bytes_t hex = {0};
    text_add_hex(&hex, pw_str(big_endian, 4));
    return done_reading(command, status, hex, 0);
}

/* ---- commands: properties ---------------------------------------------------------------------------------------- */

/* Dots become NUL, `\.` a dot. Works on the raw word, since expansion would take the backslash away. */
static pw_bytes_t property_path(command_t *command) {
    pw_str_t raw;
    pw_str_t rest;
    pw_bytes_t dotted = {0};
    (void)str_split(command->n > 0 ? command->raw[0] : PW_STR(""), ' ', &raw, &rest);
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.data[i] == '\\' && i + 1 < raw.len && raw.data[i + 1] == '.') {
            text_add_char(&dotted, raw.data[++i]);
        } else {
            text_add(&dotted, raw.data[i] == '.' ? PW_STR("\\0") : pw_str(raw.data + i, 1));
        }
    }
    pw_bytes_t path = expand(command->run, pw_bytes_str(dotted));
    pw_bytes_free(&dotted);
    return path;
}

static pw_status_t run_prop(command_t *command) {
    pw_bytes_t value;
    pw_bytes_t path = property_path(command);
    pw_status_t status = pw_property_get(pw_bytes_str(path), &value);
    pw_bytes_free(&path);
    return done_reading(command, status, value, 1);
}

static pw_status_t run_prop_raw(command_t *command) {
    pw_bytes_t value;
    pw_status_t status = pw_property_get(word(command, 0), &value);
    return done_reading(command, status, value, 1);
}

static pw_status_t run_set_prop(command_t *command) {
    pw_bytes_t path = property_path(command);
    pw_bytes_t value = text(command, 1);
    pw_status_t status = pw_property_set(pw_bytes_str(path), pw_bytes_str(value));
    pw_bytes_free(&path);
    pw_bytes_free(&value);
    return status;
}

static pw_status_t run_set_prop_raw(command_t *command) {
    pw_bytes_t value = text(command, 1);
    pw_status_t status = pw_property_set(word(command, 0), pw_bytes_str(value));
    pw_bytes_free(&value);
    return status;
}

/* ---- commands: streams ------------------------------------------------------------------------------------------- */

/* In a stream: that stream. In a root: every stream of it that waits, made effective one after the other. */
static pw_status_t for_streams(command_t *command, pw_status_t (*act)(command_t *, context_t *)) {
    context_t *self = command->run->context;
    if (self != self->root) {
        return act(command, self);
    }
    pw_status_t status = PW_NOT_FOUND;
    for (context_t *context = contexts; context != NULL; context = context->next) {
        if (context->root == self && context != self && context->paused >= 0) {
            status = proxy_set_effective_context(context->id);
            status = status == PW_OK ? act(command, context) : status;
        }
    }
    (void)proxy_set_effective_context(self->id);
    return status;
}

static pw_status_t act_resume(command_t *command, context_t *context) {
    pw_status_t status = proxy_continue_stream(stream_of(command, context));
    context->paused = -1;
    return status;
}

static pw_status_t act_close(command_t *command, context_t *context) {
    pw_status_t status = proxy_close_stream(stream_of(command, context));
    context->paused = -1;
    return status;
}

static pw_status_t act_reply(command_t *command, context_t *context) {
    pairs_t pairs = {0};
    pw_pair_t pair;
    pw_str_t body = PW_STR("");
    pw_str_t details = PW_STR("");
    int32_t grpc = PW_GRPC_NONE;
    for (uint32_t i = 1; i < command->n; i++) {
        if (!word_pair(word(command, i), &pair)) {
            body = word(command, i);
        } else if (str_is(pair.name, "details")) {
            details = pair.value;
        } else if (str_is(pair.name, "grpc")) {
            grpc = (int32_t)to_number(pair.value);
        } else {
            pairs_put(&pairs, pair.name, pair.value);
        }
    }
    pw_bytes_t headers = encode(&pairs);
    pw_status_t status =
        proxy_send_local_response(number(command, 0), details.data, details.len, body.data, body.len, headers.data, headers.len, grpc);
    pw_bytes_free(&headers);
    context->paused = -1;
    return status;
}

static pw_status_t run_resume(command_t *command) {
    return for_streams(command, act_resume);
}

static pw_status_t run_close(command_t *command) {
    return for_streams(command, act_close);
}

static pw_status_t run_reply(command_t *command) {
    return for_streams(command, act_reply);
}

static pw_status_t run_continue_stream(command_t *command) {
    return proxy_continue_stream(stream_of(command, command->run->context));
}

static pw_status_t run_close_stream(command_t *command) {
    return proxy_close_stream(stream_of(command, command->run->context));
}

static pw_status_t run_continue_request(command_t *command) {
    command->run->context->paused = -1;
    return proxy_continue_request();
}

static pw_status_t run_continue_response(command_t *command) {
    command->run->context->paused = -1;
    return proxy_continue_response();
}

static pw_status_t run_clear_route_cache(command_t *command) {
    (void)command;
    return proxy_clear_route_cache();
}

/* ---- commands: results and control ------------------------------------------------------------------------------- */

static pw_status_t run_return(command_t *command) {
    command->run->result = number(command, 0);
    return NO_STATUS;
}

static pw_status_t run_pause(command_t *command) {
    command->run->result = PW_PAUSE;
    return NO_STATUS;
}

static pw_status_t run_pause_until_eos(command_t *command) {
    command->run->result = command->run->eos != 0 ? PW_CONTINUE : PW_PAUSE;
    return NO_STATUS;
}

static pw_status_t run_stop(command_t *command) {
    command->run->stop = true;
    return NO_STATUS;
}

static void run_line(run_t *run, pw_str_t line);

static pw_status_t run_conditional(command_t *command, bool wanted) {
    if (command->n > 2 && pw_str_equal(word(command, 0), word(command, 1)) == wanted) {
        run_line(command->run, command->raw[2]);
    }
    return NO_STATUS;
}

static pw_status_t run_if(command_t *command) {
    return run_conditional(command, true);
}

static pw_status_t run_unless(command_t *command) {
    return run_conditional(command, false);
}

static bool program_add(context_t *context, pw_str_t lines);

static pw_status_t run_exec(command_t *command) {
    pw_bytes_t lines;
    pw_status_t status = pw_header_get(map_of(command), word(command, 0), &lines);
    if (status == PW_OK && !program_add(command->run->context, pw_bytes_str(lines))) {
        (void)note_add(command->run, PW_STR("x-probe-error"), pw_bytes_str(lines));
    }
    pw_bytes_free(&lines);
    return status;
}

static pw_status_t run_effective(command_t *command) {
    return proxy_set_effective_context(number(command, 0));
}

static pw_status_t run_done(command_t *command) {
    (void)command;
    return proxy_done();
}

static pw_status_t run_note(command_t *command) {
    pw_bytes_t value = text(command, 1);
    pw_status_t status = note_add(command->run, word(command, 0), pw_bytes_str(value));
    pw_bytes_free(&value);
    return status;
}

static pw_status_t run_status(command_t *command) {
    pw_bytes_t status = expand(command->run, PW_STR("$status"));
    (void)note_add(command->run, command->n > 0 ? word(command, 0) : PW_STR("x-status"), pw_bytes_str(status));
    pw_bytes_free(&status);
    return NO_STATUS;
}

static pw_status_t run_scratch(command_t *command) {
    pw_bytes_t data = text(command, 0);
    memset(scratch, 0, sizeof(scratch));
    memcpy(scratch, data.data, data.len < sizeof(scratch) ? data.len : sizeof(scratch));
    pw_bytes_free(&data);
    return NO_STATUS;
}

/* ---- commands: bad ends ------------------------------------------------------------------------------------------ */

static pw_status_t run_trap(command_t *command) {
    (void)command;
    __builtin_trap();
}

static pw_status_t run_oob(command_t *command) {
    volatile char *end = (volatile char *)(__builtin_wasm_memory_size(0) * PW_WASM_PAGE);
    (void)command;
    *end = 1;
    return NO_STATUS;
}

static pw_status_t run_div0(command_t *command) {
    volatile uint32_t zero = 0;
    command->run->code = 0x12345678 / zero;
    return NO_STATUS;
}

/* Through a pointer that may change, so that the compiler can make no loop of it; no local has an address, so that only the engine's stack
 * grows. */
static uint32_t (*volatile recurse_next)(uint32_t depth);

static uint32_t recurse(uint32_t depth) {
    return recurse_next(depth + 1) + 1;
}

static pw_status_t run_recurse(command_t *command) {
    recurse_next = recurse;
    command->run->code = recurse(0);
    return NO_STATUS;
}

static pw_status_t run_spin(command_t *command) {
    volatile uint32_t turns = 0;
    (void)command;
    for (;;) {
        turns++;
    }
}

static pw_status_t run_wait(command_t *command) {
    uint64_t begin = 0;
    uint64_t now = 0;
    (void)clock_time_get(1, 0, &begin);
    do {
        (void)clock_time_get(1, 0, &now);
    } while (now - begin < (uint64_t)number(command, 0) * 1000000);
    return NO_STATUS;
}

static pw_status_t run_exit(command_t *command) {
    proc_exit(number(command, 0));
}

static pw_status_t run_grow(command_t *command) {
    bool grown = __builtin_wasm_memory_grow(0, number(command, 0)) != (size_t)-1;
    take_value(command, copy(grown ? "ok" : "no", 2));
    return NO_STATUS;
}

static pw_status_t run_alloc(command_t *command) {
    volatile char *block = pw_malloc(number(command, 0));
    if (block != NULL) {
        block[0] = 1;
    }
    take_value(command, copy(block != NULL ? "ok" : "no", 2));
    return NO_STATUS;
}

/* ---- commands: logs and clocks ----------------------------------------------------------------------------------- */

static pw_status_t run_log(command_t *command) {
    pw_bytes_t line = text(command, 0);
    pw_status_t status = proxy_log((pw_log_level_t)target(command, level_names, PW_LOG_INFO), line.data, line.len);
    pw_bytes_free(&line);
    return status;
}

static pw_status_t run_log_level(command_t *command) {
    pw_log_level_t level = PW_LOG_TRACE;
    pw_status_t status = proxy_get_log_level(&level);
    return done_reading_number(command, status, level, 0);
}

static pw_status_t run_print(command_t *command) {
    pw_bytes_t line = text(command, 0);
    size_t written = 0;
    pw_str_t iov = pw_bytes_str(line);
    uint32_t error = fd_write(target(command, NULL, 1), &iov, 1, &written);
    pw_bytes_free(&line);
    return (pw_status_t)error;
}

static pw_status_t run_tick(command_t *command) {
    return proxy_set_tick_period_milliseconds(number(command, 0));
}

static pw_status_t run_now(command_t *command) {
    uint64_t now = 0;
    pw_status_t status = proxy_get_current_time_nanoseconds(&now);
    return done_reading_number(command, status, now, 0);
}

static pw_status_t run_clock(command_t *command) {
    uint64_t now = 0;
    uint32_t error = clock_time_get(target(command, NULL, 0), 0, &now);
    return done_reading_number(command, (pw_status_t)error, now, 0);
}

static pw_status_t run_random(command_t *command) {
    char bytes[256];
    pw_bytes_t hex = {0};
    size_t size = number(command, 0);
    size = size < sizeof(bytes) ? size : sizeof(bytes);
    uint32_t error = random_get(bytes, size);
    text_add_hex(&hex, pw_str(bytes, size));
    return done_reading(command, (pw_status_t)error, hex, 1);
}

/* All variables, `A=1,B=2`. */
static pw_status_t run_env(command_t *command) {
    size_t count = 0;
    size_t size = 0;
    pw_bytes_t list = {0};
    uint32_t error = environ_sizes_get(&count, &size);
    char **vector = pw_malloc((count + 1) * sizeof(*vector));
    char *strings = pw_malloc(size + 1);
    if (error != 0 || vector == NULL || strings == NULL) {
        __builtin_trap();
    }
    error = environ_get(vector, strings);
    for (size_t i = 0; i < count; i++) {
        text_add(&list, i > 0 ? PW_STR(",") : PW_STR(""));
        text_add(&list, pw_str_from_cstr(vector[i]));
    }
    pw_free(vector);
    pw_free(strings);
    return done_reading(command, (pw_status_t)error, list, 0);
}

/* ---- commands: calls --------------------------------------------------------------------------------------------- */

static pw_status_t run_http_call(command_t *command) {
    pairs_t headers = {0};
    pairs_t trailers = {0};
    pw_str_t body = PW_STR("");
    pw_str_t upstream = word(command, 0);
    pw_pair_t pair;
    pairs_put(&headers, PW_STR(":method"), PW_STR("GET"));
    pairs_put(&headers, PW_STR(":authority"), word(command, 1));
    pairs_put(&headers, PW_STR(":path"), word(command, 2));
    for (uint32_t i = 4; i < command->n; i++) {
        if (!word_pair(word(command, i), &pair)) {
            continue;
        }
        if (str_is(pair.name, "body")) {
            body = pair.value;
        } else if (str_is(pair.name, "omit")) {
            pairs_drop(&headers, pair.value);
        } else if (strip_prefix(&pair.name, "trailer:")) {
            pairs_put(&trailers, pair.name, pair.value);
        } else {
            pairs_put(&headers, pair.name, pair.value);
        }
    }
    uint32_t token = 0;
    pw_bytes_t h = encode(&headers);
    pw_bytes_t t = encode(&trailers);
    pw_status_t status =
        proxy_http_call(upstream.data, upstream.len, h.data, h.len, body.data, body.len, t.data, t.len, number(command, 3), &token);
    pw_bytes_free(&h);
    pw_bytes_free(&t);
    if (status == PW_OK) {
        call_add(command->run->context, token);
    }
    return status;
}

static pw_bytes_t metadata_words(const command_t *command, uint32_t from, pw_str_t *message) {
    pairs_t metadata = {0};
    pw_pair_t pair;
    for (uint32_t i = from; i < command->n; i++) {
        if (word_pair(word(command, i), &pair)) {
            pairs_put(&metadata, pair.name, pair.value);
        } else {
            *message = word(command, i);
        }
    }
    return encode(&metadata);
}

static pw_status_t run_grpc_call(command_t *command) {
    pw_str_t message = PW_STR("");
    pw_str_t up = word(command, 0);
    pw_str_t service = word(command, 1);
    pw_str_t method = word(command, 2);
    pw_bytes_t md = metadata_words(command, 4, &message);
    uint32_t token = 0;
    pw_status_t status = proxy_grpc_call(up.data, up.len, service.data, service.len, method.data, method.len, md.data, md.len, message.data,
                                         message.len, number(command, 3), &token);
    pw_bytes_free(&md);
    if (status == PW_OK) {
        call_add(command->run->context, token);
    }
    return status;
}

static pw_status_t run_grpc_stream(command_t *command) {
    pw_str_t ignored;
    pw_str_t up = word(command, 0);
    pw_str_t service = word(command, 1);
    pw_str_t method = word(command, 2);
    pw_bytes_t md = metadata_words(command, 3, &ignored);
    uint32_t token = 0;
    pw_status_t status = proxy_grpc_stream(up.data, up.len, service.data, service.len, method.data, method.len, md.data, md.len, &token);
    pw_bytes_free(&md);
    if (status == PW_OK) {
        call_add(command->run->context, token);
    }
    return status;
}

static uint32_t call_of(const command_t *command) {
    const run_t *run = command->run;
    return target(command, NULL, run->context->call != 0 ? run->context->call : run->context->root->call);
}

static pw_status_t run_grpc_send(command_t *command) {
    pw_bytes_t message = text(command, 1);
    pw_status_t status = proxy_grpc_send(call_of(command), message.data, message.len, number(command, 0));
    pw_bytes_free(&message);
    return status;
}

static pw_status_t run_grpc_cancel(command_t *command) {
    return proxy_grpc_cancel(call_of(command));
}

static pw_status_t run_grpc_close(command_t *command) {
    return proxy_grpc_close(call_of(command));
}

static pw_status_t run_call_status(command_t *command) {
    char *message = NULL;
    size_t len = 0;
    pw_status_t status = proxy_get_status(&command->run->code, &message, &len);
    pw_bytes_t value = {message, len};
    return done_reading(command, status, value, 0);
}

/* ---- commands: shared state, metrics, foreign functions ---------------------------------------------------------- */

static pw_status_t run_shared_get(command_t *command) {
    pw_str_t key = word(command, 0);
    pw_bytes_t value = {0};
    pw_status_t status = proxy_get_shared_data(key.data, key.len, &value.data, &value.len, &command->run->context->cas);
    return done_reading(command, status, value, 1);
}

static pw_status_t run_shared_set(command_t *command) {
    pw_str_t key = word(command, 0);
    pw_str_t value = word(command, 1);
    return proxy_set_shared_data(key.data, key.len, value.data, value.len, number(command, 2));
}

static pw_status_t run_queue_register(command_t *command) {
    pw_str_t name = word(command, 0);
    return proxy_register_shared_queue(name.data, name.len, &command->run->context->root->queue);
}

static pw_status_t run_queue_resolve(command_t *command) {
    pw_str_t vm_id = word(command, 0);
    pw_str_t name = word(command, 1);
    return proxy_resolve_shared_queue(vm_id.data, vm_id.len, name.data, name.len, &command->run->context->root->queue);
}

static pw_status_t run_enqueue(command_t *command) {
    pw_bytes_t item = text(command, 0);
    pw_status_t status = proxy_enqueue_shared_queue(target(command, NULL, command->run->context->root->queue), item.data, item.len);
    pw_bytes_free(&item);
    return status;
}

static pw_status_t run_dequeue(command_t *command) {
    pw_bytes_t item = {0};
    pw_status_t status = proxy_dequeue_shared_queue(target(command, NULL, command->run->context->root->queue), &item.data, &item.len);
    return done_reading(command, status, item, 0);
}

static pw_status_t run_metric(command_t *command) {
    static const char *const types[] = {"counter", "gauge", "histogram"};
    pw_str_t name = word(command, 1);
    uint32_t type = number(command, 0);
    for (uint32_t i = 0; i < 3; i++) {
        type = str_is(word(command, 0), types[i]) ? i : type;
    }
    return proxy_define_metric((pw_metric_t)type, name.data, name.len, &command->run->context->root->metric);
}

static uint32_t metric_of(const command_t *command) {
    return target(command, NULL, command->run->context->root->metric);
}

static pw_status_t run_metric_add(command_t *command) {
    return proxy_increment_metric(metric_of(command), (int64_t)to_number(word(command, 0)));
}

static pw_status_t run_metric_record(command_t *command) {
    return proxy_record_metric(metric_of(command), to_number(word(command, 0)));
}

static pw_status_t run_metric_get(command_t *command) {
    uint64_t value = 0;
    pw_status_t status = proxy_get_metric(metric_of(command), &value);
    return done_reading_number(command, status, value, 0);
}

static pw_status_t run_foreign(command_t *command) {
    pw_str_t name = word(command, 0);
    pw_str_t arguments = word(command, 1);
    pw_bytes_t value = {0};
    pw_status_t status = proxy_call_foreign_function(name.data, name.len, arguments.data, arguments.len, &value.data, &value.len);
    return done_reading(command, status, value, 2);
}

static pw_status_t run_foreign_null(command_t *command) {
    pw_str_t name = word(command, 0);
    pw_str_t arguments = word(command, 1);
    return proxy_call_foreign_function(name.data, name.len, arguments.data, arguments.len, NULL, NULL);
}

/* ---- commands: Redis ---------------------------------------------------------------------------------------------- */

static pw_status_t run_redis_init(command_t *command) {
    pw_str_t up = word(command, 0);
    pw_str_t user = word(command, 2);
    pw_str_t password = word(command, 3);
    return proxy_redis_init(up.data, up.len, user.data, user.len, password.data, password.len, number(command, 1));
}

static pw_status_t redis_send(command_t *command, pw_str_t query) {
    pw_str_t up = word(command, 0);
    uint32_t token = 0;
    pw_status_t status = proxy_redis_call(up.data, up.len, query.data, query.len, &token);
    if (status == PW_OK) {
        call_add(command->run->context, token);
    }
    return status;
}

static void add_count(pw_bytes_t *out, char type, uint64_t n) {
    text_add_char(out, type);
    text_add_u64(out, n);
    text_add(out, PW_STR("\r\n"));
}

static pw_status_t run_redis(command_t *command) {
    pw_bytes_t query = {0};
    add_count(&query, '*', command->n - 1);
    for (uint32_t i = 1; i < command->n; i++) {
        add_count(&query, '$', word(command, i).len);
        text_add(&query, word(command, i));
        text_add(&query, PW_STR("\r\n"));
    }
    pw_status_t status = redis_send(command, pw_bytes_str(query));
    pw_bytes_free(&query);
    return status;
}

static pw_status_t run_redis_raw(command_t *command) {
    pw_bytes_t query = text(command, 1);
    pw_status_t status = redis_send(command, pw_bytes_str(query));
    pw_bytes_free(&query);
    return status;
}

/* ---- raw host calls ---------------------------------------------------------------------------------------------- */

typedef void (*function_t)(void);
typedef uint32_t u;

typedef struct {
    const char *name;
    uint32_t arguments; /* all i32 */
    function_t function;
} raw_row_t;

/* Names of WasmX. */
PW_IMPORT(proxy_send_http_response) u proxy_send_http_response(u, u, u, u, u, u, u, u);
PW_IMPORT(proxy_get_buffer) u proxy_get_buffer(u, u, u, u, u);
PW_IMPORT(proxy_set_buffer) u proxy_set_buffer(u, u, u, u, u);
PW_IMPORT(proxy_dispatch_http_call) u proxy_dispatch_http_call(u, u, u, u, u, u, u, u, u, u);

#define RAW(name, arguments) {#name, arguments, (function_t)name}

static const raw_row_t raw_rows[] = {
    RAW(proxy_log, 3),
    RAW(proxy_get_log_level, 1),
    RAW(proxy_get_current_time_nanoseconds, 1),
    RAW(proxy_set_tick_period_milliseconds, 1),
    RAW(proxy_set_effective_context, 1),
    RAW(proxy_done, 0),
    RAW(proxy_get_buffer_bytes, 5),
    RAW(proxy_get_buffer_status, 3),
    RAW(proxy_set_buffer_bytes, 5),
    RAW(proxy_get_header_map_pairs, 3),
    RAW(proxy_set_header_map_pairs, 3),
    RAW(proxy_get_header_map_value, 5),
    RAW(proxy_add_header_map_value, 5),
    RAW(proxy_replace_header_map_value, 5),
    RAW(proxy_remove_header_map_value, 3),
    RAW(proxy_get_header_map_size, 2),
    RAW(proxy_get_property, 4),
    RAW(proxy_set_property, 4),
    RAW(proxy_continue_stream, 1),
    RAW(proxy_close_stream, 1),
    RAW(proxy_send_local_response, 8),
    RAW(proxy_get_status, 3),
    RAW(proxy_http_call, 10),
    RAW(proxy_grpc_call, 12),
    RAW(proxy_grpc_stream, 9),
    RAW(proxy_grpc_send, 4),
    RAW(proxy_grpc_cancel, 1),
    RAW(proxy_grpc_close, 1),
    RAW(proxy_get_shared_data, 5),
    RAW(proxy_set_shared_data, 5),
    RAW(proxy_register_shared_queue, 3),
    RAW(proxy_resolve_shared_queue, 5),
    RAW(proxy_enqueue_shared_queue, 3),
    RAW(proxy_dequeue_shared_queue, 3),
    RAW(proxy_define_metric, 4),
    RAW(proxy_get_metric, 2),
    RAW(proxy_call_foreign_function, 6),
    RAW(proxy_get_configuration, 2),
    RAW(proxy_continue_request, 0),
    RAW(proxy_continue_response, 0),
    RAW(proxy_clear_route_cache, 0),
    RAW(proxy_send_http_response, 8),
    RAW(proxy_get_buffer, 5),
    RAW(proxy_set_buffer, 5),
    RAW(proxy_dispatch_http_call, 10),
    RAW(proxy_redis_init, 7),
    RAW(proxy_redis_call, 5),
    RAW(proxy_inject_encoded_data_to_filter_chain, 3),
    RAW(proxy_get_upstream_hosts, 2),
    RAW(proxy_set_upstream_override_host, 2),
    RAW(envoy_resolve_dns, 3),
    RAW(fd_write, 4),
    RAW(fd_read, 4),
    RAW(fd_close, 1),
    RAW(fd_fdstat_get, 2),
    RAW(fd_prestat_get, 2),
    RAW(random_get, 2),
    RAW(environ_sizes_get, 2),
    RAW(environ_get, 2),
    RAW(args_sizes_get, 2),
    RAW(args_get, 2),
    RAW(poll_oneoff, 4),
    RAW(sched_yield, 0),
};

static uint32_t raw_call(const raw_row_t *row, const u *a) {
    function_t f = row->function;
    switch (row->arguments) {
    case 0:
        return ((u(*)(void))f)();
    case 1:
        return ((u(*)(u))f)(a[0]);
    case 2:
        return ((u(*)(u, u))f)(a[0], a[1]);
    case 3:
        return ((u(*)(u, u, u))f)(a[0], a[1], a[2]);
    case 4:
        return ((u(*)(u, u, u, u))f)(a[0], a[1], a[2], a[3]);
    case 5:
        return ((u(*)(u, u, u, u, u))f)(a[0], a[1], a[2], a[3], a[4]);
    case 6:
        return ((u(*)(u, u, u, u, u, u))f)(a[0], a[1], a[2], a[3], a[4], a[5]);
    case 7:
        return ((u(*)(u, u, u, u, u, u, u))f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    case 8:
        return ((u(*)(u, u, u, u, u, u, u, u))f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
    case 9:
        return ((u(*)(u, u, u, u, u, u, u, u, u))f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]);
    case 10:
        return ((u(*)(u, u, u, u, u, u, u, u, u, u))f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]);
    case 12:
        return ((u(*)(u, u, u, u, u, u, u, u, u, u, u, u))f)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]);
    default:
        __builtin_trap();
    }
}

/* These three have an i64 among their arguments. */
static bool raw_call_wide(pw_str_t name, const command_t *command, pw_status_t *status) {
    uint64_t wide = to_number(word(command, 2));
    if (str_is(name, "increment_metric")) {
        *status = proxy_increment_metric(number(command, 1), (int64_t)wide);
    } else if (str_is(name, "record_metric")) {
        *status = proxy_record_metric(number(command, 1), wide);
    } else if (str_is(name, "clock_time_get")) {
        *status = (pw_status_t)clock_time_get(number(command, 1), wide, (uint64_t *)number(command, 3)); // NOLINT
    } else {
        return false;
    }
    return true;
}

static pw_status_t run_raw(command_t *command) {
    u arguments[12] = {0};
    pw_status_t status;
    pw_str_t name = word(command, 0);
    (void)strip_prefix(&name, "proxy_");
    if (raw_call_wide(name, command, &status)) {
        return status;
    }
    for (uint32_t i = 0; i < 12; i++) {
        arguments[i] = number(command, i + 1);
    }
    for (size_t i = 0; i < sizeof(raw_rows) / sizeof(raw_rows[0]); i++) {
        pw_str_t row_name = pw_str_from_cstr(raw_rows[i].name);
        (void)strip_prefix(&row_name, "proxy_");
        if (pw_str_equal(row_name, name)) {
            return (pw_status_t)raw_call(&raw_rows[i], arguments);
        }
    }
    PW_LOG(PW_LOG_ERROR, "raw: no such function");
    __builtin_trap();
}

/* ---- the language ------------------------------------------------------------------------------------------------ */

typedef struct {
    const char *name;
    pw_status_t (*run)(command_t *command);
} command_row_t;

static const command_row_t commands[] = {
    {"get", run_get},
    {"add", run_add},
    {"set", run_set},
    {"remove", run_remove},
    {"pairs", run_pairs},
    {"count", run_count},
    {"set_pairs", run_set_pairs},
    {"set_pairs_raw", run_set_pairs_raw},
    {"map_size", run_map_size},
    {"body", run_body},
    {"buffer", run_buffer},
    {"buffer_status", run_buffer_status},
    {"set_buffer", run_set_buffer},
    {"replace", run_replace},
    {"append", run_append},
    {"prepend", run_prepend},
    {"truncate", run_truncate},
    {"fill", run_fill},
    {"upper", run_upper},
    {"checksum", run_checksum},
    {"prop", run_prop},
    {"prop_raw", run_prop_raw},
    {"set_prop", run_set_prop},
    {"set_prop_raw", run_set_prop_raw},
    {"resume", run_resume},
    {"close", run_close},
    {"reply", run_reply},
    {"continue_stream", run_continue_stream},
    {"close_stream", run_close_stream},
    {"continue_request", run_continue_request},
    {"continue_response", run_continue_response},
    {"clear_route_cache", run_clear_route_cache},
    {"return", run_return},
    {"pause", run_pause},
    {"pause_until_eos", run_pause_until_eos},
    {"if", run_if},
    {"unless", run_unless},
    {"stop", run_stop},
    {"exec", run_exec},
    {"effective", run_effective},
    {"done", run_done},
    {"note", run_note},
    {"status", run_status},
    {"scratch", run_scratch},
    {"wait", run_wait},
    {"trap", run_trap},
    {"oob", run_oob},
    {"div0", run_div0},
    {"recurse", run_recurse},
    {"spin", run_spin},
    {"exit", run_exit},
    {"grow", run_grow},
    {"alloc", run_alloc},
    {"log", run_log},
    {"log_level", run_log_level},
    {"print", run_print},
    {"tick", run_tick},
    {"now", run_now},
    {"clock", run_clock},
    {"random", run_random},
    {"env", run_env},
    {"http_call", run_http_call},
    {"grpc_call", run_grpc_call},
    {"grpc_stream", run_grpc_stream},
    {"grpc_send", run_grpc_send},
    {"grpc_cancel", run_grpc_cancel},
    {"grpc_close", run_grpc_close},
    {"call_status", run_call_status},
    {"shared_get", run_shared_get},
    {"shared_set", run_shared_set},
    {"queue_register", run_queue_register},
    {"queue_resolve", run_queue_resolve},
    {"enqueue", run_enqueue},
    {"dequeue", run_dequeue},
    {"metric", run_metric},
    {"metric_add", run_metric_add},
    {"metric_record", run_metric_record},
    {"metric_get", run_metric_get},
    {"redis_init", run_redis_init},
    {"redis", run_redis},
    {"redis_raw", run_redis_raw},
    {"foreign", run_foreign},
    {"foreign_null", run_foreign_null},
    {"raw", run_raw},
};

static const command_row_t *command_find(pw_str_t name) {
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (str_is(name, commands[i].name)) {
            return &commands[i];
        }
    }
    return NULL;
}

static bool phase_find(pw_str_t name, phase_t *phase) {
    for (uint32_t i = 0; i < PHASES; i++) {
        if (str_is(name, phases[i].name)) {
            *phase = (phase_t)i;
            return true;
        }
    }
    *phase = HTTP_CALL_RESPONSE;
    return str_is(name, "call_response");
}

/* `command@target word word`: the command's row, its target, and what follows. */
static const command_row_t *command_head(pw_str_t line, pw_str_t *at, pw_str_t *rest) {
    pw_str_t head;
    pw_str_t name;
    (void)str_split(str_trim(line), ' ', &head, rest);
    (void)str_split(head, '@', &name, at);
    *rest = str_trim(*rest);
    return command_find(name);
}

static void command_words(command_t *command, pw_str_t rest) {
    pw_str_t raw;
    while (rest.len > 0 && command->n < WORDS_MAX) {
        command->raw[command->n] = rest;
        (void)str_split(rest, ' ', &raw, &rest);
        command->words[command->n++] = expand(command->run, raw);
        rest = str_trim(rest);
    }
}

static void log_command(const run_t *run, pw_str_t line, pw_status_t status) {
    pw_bytes_t text = {0};
    if (run->context->root->quiet) {
        return;
    }
    text_add(&text, pw_str_from_cstr(phases[run->phase].name));
    text_add(&text, PW_STR(": "));
    text_add_visible(&text, line);
    text_add(&text, PW_STR(" = "));
    text_add_u64(&text, status);
    if (run->has_read && status == PW_OK) {
        text_add(&text, PW_STR(" value="));
        text_add_visible(&text, pw_str(run->value.data, run->value.len < 200 ? run->value.len : 200));
    }
    log_text(PW_LOG_INFO, &text);
}

/* Runs one command, without its phase. */
static void run_line(run_t *run, pw_str_t line) {
    pw_str_t rest;
    command_t command = {.run = run};
    const command_row_t *row = command_head(line, &command.target, &rest);
    if (row == NULL) {
        PW_LOG(PW_LOG_ERROR, "probe: unknown command");
        __builtin_trap();
    }
    command_words(&command, rest);
    run->has_read = false;
    pw_status_t status = row->run(&command);
    if (status != NO_STATUS) {
        run->status = status;
        text_add(&run->statuses, run->statuses.len > 0 ? PW_STR(",") : PW_STR(""));
        text_add_u64(&run->statuses, status);
        log_command(run, line, status);
    }
    for (uint32_t i = 0; i < command.n; i++) {
        pw_bytes_free(&command.words[i]);
    }
}

/* Takes the next line off a program; `\;` does not end one. */
static bool next_line(pw_str_t *program, pw_str_t *line) {
    size_t i = 0;
    if (program->len == 0) {
        return false;
    }
    while (i < program->len && program->data[i] != '\n' && program->data[i] != ';') {
        i += program->data[i] == '\\' && i + 1 < program->len ? 2 : 1;
    }
    size_t end = i < program->len ? i + 1 : program->len;
    *line = str_trim(pw_str(program->data, i));
    *program = pw_str(program->data + end, program->len - end);
    return true;
}

static bool line_is_empty(pw_str_t line) {
    return line.len == 0 || line.data[0] == '#' || str_is(line, "quiet");
}

typedef struct {
    phase_t phase;
    pw_str_t when;
    pw_str_t condition;
    pw_str_t command;
} line_t;

/* A colon that belongs to a header's name in the condition (`?:path=/x`) is not the one behind the phase: that one is followed by a space.
 */
static bool line_head(pw_str_t raw, pw_str_t *head, pw_str_t *command) {
    for (size_t i = 0; i + 1 < raw.len; i++) {
        if (raw.data[i] == ':' && raw.data[i + 1] == ' ') {
            *head = pw_str(raw.data, i);
            *command = str_trim(pw_str(raw.data + i + 1, raw.len - i - 1));
            return true;
        }
    }
    return false;
}

static bool line_parse(pw_str_t raw, line_t *line) {
    pw_str_t head;
    pw_str_t name;
    if (!line_head(raw, &head, &line->command)) {
        return false;
    }
    (void)str_split(head, '?', &head, &line->condition);
    (void)str_split(head, '@', &name, &line->when);
    return phase_find(name, &line->phase);
}

static bool line_is_good(pw_str_t raw) {
    line_t line;
    pw_str_t at;
    pw_str_t rest;
    if (line_is_empty(raw) || (line_parse(raw, &line) && command_head(line.command, &at, &rest) != NULL)) {
        return true;
    }
    pw_bytes_t text = copy("probe: no such phase or command: ", 33);
    text_add_visible(&text, raw);
    log_text(PW_LOG_ERROR, &text);
    return false;
}

static bool program_add(context_t *context, pw_str_t lines) {
    pw_str_t line;
    pw_str_t rest = lines;
    while (next_line(&rest, &line)) {
        if (!line_is_good(line)) {
            return false;
        }
        context->root->quiet |= str_is(line, "quiet");
    }
    text_add(&context->program, lines);
    text_add_char(&context->program, '\n');
    return true;
}

static bool condition_holds(pw_str_t condition) {
    pw_str_t name;
    pw_str_t wanted;
    pw_bytes_t value;
    if (condition.len == 0) {
        return true;
    }
    bool with_value = str_split(condition, '=', &name, &wanted);
    bool holds = pw_header_get(PW_MAP_REQUEST_HEADERS, name, &value) == PW_OK;
    holds = holds && (!with_value || pw_str_equal(pw_bytes_str(value), wanted));
    pw_bytes_free(&value);
    return holds;
}

static bool when_holds(const run_t *run, pw_str_t when) {
    if (when.len == 0) {
        return true;
    }
    if (str_is(when, "eos")) {
        return run->eos != 0;
    }
    if (str_is(when, "more")) {
        return run->eos == 0;
    }
    return to_number(when) == run->context->counts[run->phase];
}

static void run_program(run_t *run, const context_t *owner) {
    pw_str_t raw;
    line_t line;
    size_t at = 0;
    while (!run->stop && at < owner->program.len) { /* by offset: exec may move the program */
        pw_str_t rest = pw_str(owner->program.data + at, owner->program.len - at);
        (void)next_line(&rest, &raw);
        at = owner->program.len - rest.len;
        if (line_is_empty(raw) || !line_parse(raw, &line) || line.phase != run->phase) {
            continue;
        }
        if (when_holds(run, line.when) && condition_holds(line.condition)) {
            pw_bytes_t command = copy(line.command.data, line.command.len);
            run_line(run, pw_bytes_str(command));
            pw_bytes_free(&command);
        }
    }
}

static void log_callback(const run_t *run, pw_str_t arguments) {
    pw_bytes_t line = {0};
    if (run->context->root->quiet) {
        return;
    }
    text_add(&line, PW_STR("on_"));
    text_add(&line, pw_str_from_cstr(phases[run->phase].name));
    text_add_char(&line, ' ');
    pw_bytes_t expanded = expand(run, arguments);
    text_add(&line, pw_bytes_str(expanded));
    pw_bytes_free(&expanded);
    log_text(PW_LOG_INFO, &line);
}

/* Runs the lines of a phase; the answer is what the callback returns. */
static uint32_t run_phase(run_t *run, pw_str_t arguments) {
    context_t *context = run->context;
    if (context == NULL) {
        PW_LOG(PW_LOG_ERROR, "probe: callback for a context that was never created");
        __builtin_trap();
    }
    context->counts[run->phase]++;
    log_callback(run, arguments);
    if (run->phase == RESPONSE_HEADERS) {
        notes_deliver(context, true);
    }
    run_program(run, context->root);
    if (context != context->root) {
        run_program(run, context);
    }
    if (phases[run->phase].stream >= 0 && run->result != 0) {
        context->paused = phases[run->phase].stream;
    }
    if (run->phase == LOG || run->phase == DELETE || context == context->root) {
        notes_deliver(context, false); /* no response headers will come for them */
    }
    pw_bytes_free(&run->value);
    pw_bytes_free(&run->statuses);
    return run->result;
}

/* A phase that answers a call: the stream that made it is made effective, if it is still there. */
static void run_answer(run_t *run, uint32_t root_id, pw_str_t arguments) {
    context_t *root = context_find(root_id);
    run->caller = root != NULL ? call_owner(root, run->token) : 0;
    context_t *caller = run->caller != 0 && run->caller != root_id ? context_find(run->caller) : NULL;
    run->context = caller != NULL ? caller : root;
    if (caller != NULL) {
        (void)proxy_set_effective_context(caller->id);
    }
    if (root != NULL && (run->phase == HTTP_CALL_RESPONSE || run->phase == GRPC_CLOSE || run->phase == REDIS_RESPONSE)) {
        call_forget(root, run->token);
    }
    (void)run_phase(run, arguments);
}

/* ---- callbacks --------------------------------------------------------------------------------------------------- */

static bool load_configuration(context_t *root, bool vm, uint32_t size) {
    pw_bytes_t text = {0};
    if (size == 0) {
        return true;
    }
#ifdef PROXY_WASM_ABI_0_1_0
    (void)vm;
    pw_status_t status = proxy_get_configuration(&text.data, &text.len);
#else
    pw_status_t status = vm ? pw_vm_configuration(&text) : pw_configuration(&text);
#endif
    bool good = (status == PW_OK && program_add(root, pw_bytes_str(text))) || (vm && status == PW_NOT_FOUND);
    pw_bytes_free(&text);
    return good;
}

PW_EXPORT void proxy_on_context_create(uint32_t context_id, uint32_t parent_id) {
    run_t run = {.context = context_new(context_id, parent_id), .phase = parent_id != 0 ? CONTEXT_CREATE : ROOT_CREATE};
#ifndef PROXY_WASM_ABI_0_1_0
    if (parent_id == 0) {
        run.context->refused = !load_configuration(run.context, true, 1);
    }
#endif
    (void)run_phase(&run, PW_STR("ctx=$ctx root=$root"));
}

PW_EXPORT uint32_t proxy_on_vm_start(uint32_t root_id, uint32_t vm_configuration_size) {
    run_t run = {.context = context_find(root_id), .phase = VM_START, .size = vm_configuration_size, .eos = 1, .result = 1};
#ifdef PROXY_WASM_ABI_0_1_0
    if (run.context != NULL && !load_configuration(run.context, true, vm_configuration_size)) {
        return 0;
    }
#endif
    if (run.context != NULL && run.context->refused) {
        return 0;
    }
    return run_phase(&run, PW_STR("size=$size ctx=$ctx"));
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    run_t run = {.context = context_find(root_id), .phase = CONFIGURE, .size = configuration_size, .eos = 1, .result = 1};
    if (run.context != NULL && !load_configuration(run.context, false, configuration_size)) {
        return 0;
    }
    return run_phase(&run, PW_STR("size=$size ctx=$ctx"));
}

PW_EXPORT void proxy_on_tick(uint32_t root_id) {
    run_t run = {.context = context_find(root_id), .phase = TICK, .eos = 1};
    (void)run_phase(&run, PW_STR("ctx=$ctx count=$count paused=$paused"));
}

PW_EXPORT void proxy_on_queue_ready(uint32_t root_id, uint32_t queue_id) {
    run_t run = {.context = context_find(root_id), .phase = QUEUE_READY, .token = queue_id, .eos = 1};
    (void)run_phase(&run, PW_STR("queue=$token ctx=$ctx"));
}

static uint32_t on_headers(uint32_t context_id, phase_t phase, uint32_t n, uint32_t eos) {
    run_t run = {.context = context_find(context_id), .phase = phase, .n = n, .eos = eos};
    return run_phase(&run, PW_STR("n=$n eos=$eos ctx=$ctx"));
}

#ifdef PROXY_WASM_ABI_0_1_0
PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers) {
    return on_headers(context_id, REQUEST_HEADERS, n_headers, 0);
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers) {
    return on_headers(context_id, RESPONSE_HEADERS, n_headers, 0);
}
#else
PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    return on_headers(context_id, REQUEST_HEADERS, n_headers, end_of_stream);
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    return on_headers(context_id, RESPONSE_HEADERS, n_headers, end_of_stream);
}
#endif

static uint32_t on_data(uint32_t context_id, phase_t phase, uint32_t size, uint32_t eos) {
    run_t run = {.context = context_find(context_id), .phase = phase, .size = size, .eos = eos};
    return run_phase(&run, PW_STR("size=$size eos=$eos ctx=$ctx"));
}

PW_EXPORT uint32_t proxy_on_request_body(uint32_t context_id, uint32_t body_size, uint32_t end_of_stream) {
    return on_data(context_id, REQUEST_BODY, body_size, end_of_stream);
}

PW_EXPORT uint32_t proxy_on_response_body(uint32_t context_id, uint32_t body_size, uint32_t end_of_stream) {
    return on_data(context_id, RESPONSE_BODY, body_size, end_of_stream);
}

PW_EXPORT uint32_t proxy_on_downstream_data(uint32_t context_id, uint32_t data_size, uint32_t end_of_stream) {
    return on_data(context_id, DOWNSTREAM_DATA, data_size, end_of_stream);
}

PW_EXPORT uint32_t proxy_on_upstream_data(uint32_t context_id, uint32_t data_size, uint32_t end_of_stream) {
    return on_data(context_id, UPSTREAM_DATA, data_size, end_of_stream);
}

/* Trailers and metadata: eos counts as 1, since the callbacks have no such argument. */
static uint32_t on_map(uint32_t context_id, phase_t phase, uint32_t n) {
    run_t run = {.context = context_find(context_id), .phase = phase, .n = n, .eos = 1};
    return run_phase(&run, PW_STR("n=$n ctx=$ctx"));
}

PW_EXPORT uint32_t proxy_on_request_trailers(uint32_t context_id, uint32_t n_trailers) {
    return on_map(context_id, REQUEST_TRAILERS, n_trailers);
}

PW_EXPORT uint32_t proxy_on_response_trailers(uint32_t context_id, uint32_t n_trailers) {
    return on_map(context_id, RESPONSE_TRAILERS, n_trailers);
}

PW_EXPORT uint32_t proxy_on_request_metadata(uint32_t context_id, uint32_t n_elements) {
    return on_map(context_id, REQUEST_METADATA, n_elements);
}

PW_EXPORT uint32_t proxy_on_response_metadata(uint32_t context_id, uint32_t n_elements) {
    return on_map(context_id, RESPONSE_METADATA, n_elements);
}

PW_EXPORT uint32_t proxy_on_new_connection(uint32_t context_id) {
    run_t run = {.context = context_find(context_id), .phase = NEW_CONNECTION};
    return run_phase(&run, PW_STR("ctx=$ctx"));
}

static void on_close(uint32_t context_id, phase_t phase, uint32_t peer) {
    run_t run = {.context = context_find(context_id), .phase = phase, .code = peer, .eos = 1};
    (void)run_phase(&run, PW_STR("peer=$code ctx=$ctx"));
}

PW_EXPORT void proxy_on_downstream_connection_close(uint32_t context_id, uint32_t peer) {
    on_close(context_id, DOWNSTREAM_CLOSE, peer);
}

PW_EXPORT void proxy_on_upstream_connection_close(uint32_t context_id, uint32_t peer) {
    on_close(context_id, UPSTREAM_CLOSE, peer);
}

PW_EXPORT void proxy_on_http_call_response(uint32_t root_id, uint32_t call_id, uint32_t n_headers, uint32_t body_size,
                                           uint32_t n_trailers) {
    run_t run = {.phase = HTTP_CALL_RESPONSE, .token = call_id, .n = n_headers, .size = body_size, .code = n_trailers, .eos = 1};
    run_answer(&run, root_id, PW_STR("token=$token n=$n size=$size trailers=$code ctx=$ctx root=$root"));
}

PW_EXPORT void proxy_on_grpc_receive_initial_metadata(uint32_t root_id, uint32_t call_id, uint32_t n_elements) {
    run_t run = {.phase = GRPC_INITIAL_METADATA, .token = call_id, .n = n_elements};
    run_answer(&run, root_id, PW_STR("token=$token n=$n ctx=$ctx root=$root"));
}

PW_EXPORT void proxy_on_grpc_receive(uint32_t root_id, uint32_t call_id, uint32_t message_size) {
    run_t run = {.phase = GRPC_RECEIVE, .token = call_id, .size = message_size};
    run_answer(&run, root_id, PW_STR("token=$token size=$size ctx=$ctx root=$root"));
}

PW_EXPORT void proxy_on_grpc_receive_trailing_metadata(uint32_t root_id, uint32_t call_id, uint32_t n_elements) {
    run_t run = {.phase = GRPC_TRAILING_METADATA, .token = call_id, .n = n_elements};
    run_answer(&run, root_id, PW_STR("token=$token n=$n ctx=$ctx root=$root"));
}

PW_EXPORT void proxy_on_grpc_close(uint32_t root_id, uint32_t call_id, uint32_t grpc_status) {
    run_t run = {.phase = GRPC_CLOSE, .token = call_id, .code = grpc_status, .eos = 1};
    run_answer(&run, root_id, PW_STR("token=$token status=$code ctx=$ctx root=$root"));
}

PW_EXPORT void proxy_on_redis_call_response(uint32_t root_id, uint32_t call_id, uint32_t redis_status, uint32_t response_size) {
    run_t run = {.phase = REDIS_RESPONSE, .token = call_id, .code = redis_status, .size = response_size, .eos = 1};
    run_answer(&run, root_id, PW_STR("token=$token status=$code size=$size ctx=$ctx root=$root"));
}

PW_EXPORT void proxy_on_foreign_function(uint32_t context_id, uint32_t function_id, uint32_t data_size) {
    run_t run = {.context = context_find(context_id), .phase = FOREIGN_FUNCTION, .token = function_id, .size = data_size, .eos = 1};
    (void)run_phase(&run, PW_STR("function=$token size=$size ctx=$ctx"));
}

PW_EXPORT uint32_t proxy_on_done(uint32_t context_id) {
    run_t run = {.context = context_find(context_id), .phase = DONE, .eos = 1, .result = 1};
    run.phase = run.context != NULL && run.context == run.context->root ? ROOT_DONE : DONE;
    return run_phase(&run, PW_STR("ctx=$ctx"));
}

PW_EXPORT void proxy_on_log(uint32_t context_id) {
    run_t run = {.context = context_find(context_id), .phase = LOG, .eos = 1};
    (void)run_phase(&run, PW_STR("ctx=$ctx"));
}

PW_EXPORT void proxy_on_delete(uint32_t context_id) {
    run_t run = {.context = context_find(context_id), .phase = DELETE, .eos = 1};
    run.phase = run.context != NULL && run.context == run.context->root ? ROOT_DELETE : DELETE;
    (void)run_phase(&run, PW_STR("ctx=$ctx"));
    context_free(run.context);
}
