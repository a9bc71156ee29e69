/* Cases of the other host calls: log, time, contexts, calls out, shared state, metrics, extensions, WASI. */
#include "cf_run.h"

#define V1 CF_ABI_0_1_0
#define V20 CF_ABI_0_2_0
#define CREATE "call proxy_call_foreign_function 'expr_create' "
#define EVALUATE "call proxy_call_foreign_function 'expr_evaluate' "
#define PING "'*1\\r\\n$4\\r\\nPING\\r\\n'"
#define GET "{:method=GET,:path=/x,:authority=up}"

#define SEND_4 "call proxy_grpc_send 6 'm' 0; call proxy_grpc_send 6 'm' 0; call proxy_grpc_send 6 'm' 0; call proxy_grpc_send 6 'm' 0; "
#define SEND_16 SEND_4 SEND_4 SEND_4 SEND_4 /* memhost keeps 64 */

const cf_case_t cf_cases_calls[] = {
    /* ---- log, time, timers ---- */
    {"proxy_log", "writes a line at each level", 0,
     "call proxy_log 0 'at trace'; call proxy_log 5 'at critical'; expect log 'at trace'; expect log 'at critical'"},
    {"proxy_log", "names the filter in each line", 0, "call proxy_log 2 'a word'; expect log 'conformance'"},
    {"proxy_log", "refuses a level that does not exist", 0,
     "call proxy_log 6 'six' = 2; call proxy_log 0xffffffff 'max' = 2; expect nolog 'six'"},
    {"proxy_log", "takes an empty message", 0, "call proxy_log 2 null; call proxy_log 2 ''"},
    {"proxy_log", "keeps control characters out of the log", 0,
     "call proxy_log 2 'a\\nb\\x1b[31mc\\0d'; expect nolog 'a\\nb'; expect nolog '\\x1b'"},
    {"proxy_log", "works in every callback", 0, "at CTX 1; call proxy_log 2 'made'; at DELETE; call proxy_log 2 'gone'; expect log 'made'"},
    {"proxy_get_log_level", "gives the lowest level that is written", 0, "host loglevel 2; call proxy_get_log_level &l; u32 l = 2"},
    {"proxy_get_current_time_nanoseconds", "gives the wall clock", 0,
     "call proxy_get_current_time_nanoseconds &t; u64 t = 1704067200000000000"},
    {"proxy_get_current_time_nanoseconds", "writes to an odd address", 0,
     "call proxy_get_current_time_nanoseconds 0x4001; call proxy_get_current_time_nanoseconds &t; u64 t = 1704067200000000000"},
    {"proxy_set_tick_period_milliseconds", "starts a timer that fires again and again", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 50; at TICK; args 1; call proxy_log 2 'tick'; expect timers 1; expect period "
     "50; "
     "host advance 120; expect log 'tick'"},
    {"proxy_set_tick_period_milliseconds", "cancels with 0, also from within the tick", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 50; at TICK 1; call proxy_set_tick_period_milliseconds 0; at TICK 2; never; "
     "host advance "
     "500; expect timers 0"},
    {"proxy_set_tick_period_milliseconds", "replaces the period at once, also from within the tick", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 50; at TICK 1; call proxy_set_tick_period_milliseconds 7; host advance 50; "
     "expect timers "
     "1; expect period 7"},
    {"proxy_set_tick_period_milliseconds", "acts on the root context when a stream asks", 0,
     "call proxy_set_tick_period_milliseconds 20; at TICK; args 1; expect timers 1; host tick"},
    {"proxy_set_tick_period_milliseconds", "takes the largest period", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 0xffffffff; expect period 4294967295; host advance 1000"},

    /* ---- contexts ---- */
    {"proxy_set_effective_context", "lets a tick read and write a stream that waits", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at REQH; return 1; at TICK; call proxy_get_header_map_value 0 'x-one' &p "
     "&n = 2; "
     "call proxy_set_effective_context 2; call proxy_get_header_map_value 0 'x-one' &p &n; show p n = '1'; call "
     "proxy_replace_header_map_value 0 "
     "'x-one' '9'; call proxy_continue_stream 0; host tick; expect up x-one '9'"},
    {"proxy_set_effective_context", "is over when the callback is", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at REQH; return 1; at TICK 1; call proxy_set_effective_context 2; at TICK "
     "2; "
     "call proxy_get_header_map_value 0 'x-one' &p &n = 2; host tick; host tick"},
    {"proxy_set_effective_context", "answers BadArgument for a context that does not exist", 0,
     "call proxy_set_effective_context 77 = 2; call proxy_set_effective_context 0xffffffff = 2; call proxy_get_header_map_value 0 'x-one' "
     "&p &n"},
    {"proxy_set_effective_context", "answers BadArgument for a context that was deleted", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at TICK; call proxy_set_effective_context 2 = 2; host exchange; host free; "
     "host tick"},
    {"proxy_set_effective_context", "takes the root context", 0,
     "call proxy_set_effective_context 1; call proxy_get_header_map_value 0 'x-one' &p &n = 2"},
    {"proxy_done", "answers NotFound when nothing waits for it", 0, "call proxy_done = 1; at CONFIGURE; call proxy_done = 1"},

    /* ---- calls out ---- */
    {"proxy_http_call", "starts a call and gets the answer on the root context", 0,
     "call proxy_http_call 'up' " GET " 'the body' {t=v} 1000 &t; u32 t = 4; return 1; at CALLRES; args 1 4 2 6 1; "
     "call proxy_get_header_map_pairs 6 &p &n; show p n = {:status=201,x-call=c}; call proxy_get_header_map_value 6 ':status' &p &n; show "
     "p n = '201'; "
     "call proxy_get_buffer_bytes 4 0 100 &p &n; show p n = 'answer'; call proxy_get_header_map_pairs 7 &p &n; show p n = {ct=v}; "
     "call proxy_set_effective_context 2; call proxy_get_buffer_bytes 4 0 3 &p &n; show p n = 'ans'; call proxy_continue_stream 0; "
     "expect outcome paused; expect calls 1; expect callname 'up'; expect callhead :path '/x'; expect callbody 'the body'; host answer; "
     "expect calls 0; "
     "expect outcome done"},
    {"proxy_http_call", "does not resume the stream by itself", 0,
     "call proxy_http_call 'up' " GET " null null 0 &t; return 1; at CALLRES; reached; host answer; expect outcome paused"},
    {"proxy_http_call", "gives each call a token of its own", 0,
     "call proxy_http_call 'up' " GET " null null 0 &t; u32 t = 4; call proxy_http_call 'up' " GET
     " null null 0 &t; u32 t = 8; expect calls 2; host "
     "answer; host answer"},
    {"proxy_http_call", "tells a failure with no headers and a status", 0,
     "call proxy_http_call 'up' " GET
     " null null 0 &t; return 1; at CALLRES; args 1 4 0 0 0; call proxy_get_header_map_pairs 6 &p &n; u32 n = 0; "
     "call proxy_get_header_map_value 6 ':status' &p &n = 2; call proxy_get_buffer_bytes 4 0 10 &p &n = 1; call proxy_get_status &c &p &n; "
     "u32 c = 11; "
     "host fail; expect calls 0"},
    {"proxy_http_call", "reaches the root context when the stream has gone", 0,
     "call proxy_http_call 'up' " GET
     " null null 0 &t; return 1; at CALLRES; args 1 4 2 6 1; call proxy_set_effective_context 2 = 2; host gone; host "
     "free; host answer"},
    {"proxy_http_call", "may be made from every callback", 0,
     "at CONFIGURE; call proxy_http_call 'up' " GET " null null 0 &t; at RESB 1; call proxy_http_call 'up' " GET
     " null null 0 &t; at CALLRES 1; "
     "call proxy_http_call 'up' " GET " null null 0 &t; host answer; host answer; host answer; expect calls 0"},
    {"proxy_http_call", "answers BadArgument for an upstream that does not exist", 0,
     "host upstream other; call proxy_http_call 'up' " GET " null null 0 &t = 2; call proxy_http_call 'other' " GET
     " null null 0 &t; expect calls 1"},
    {"proxy_http_call", "answers BadArgument when a required pseudo header is missing", 0,
     "call proxy_http_call 'up' {:path=/,:authority=a} null null 0 &t = 2; call proxy_http_call 'up' {:method=GET,:authority=a} null null "
     "0 &t = 2; "
     "call proxy_http_call 'up' {:method=GET,:path=/} null null 0 &t = 2; call proxy_http_call 'up' null null null 0 &t = 2; expect calls "
     "0"},
    {"proxy_http_call", "answers BadArgument for a negative timeout", 0, "call proxy_http_call 'up' " GET " null null -1 &t = 2"},
    {"proxy_http_call", "answers InternalFailure when the proxy cannot start it", 0,
     "host refuse; call proxy_http_call 'up' " GET " null null 0 &t = 10"},
    {"proxy_http_call", "takes malformed headers as none, so that required ones are missing", 0,
     "call proxy_http_call 'up' '\\xff\\xff\\xff\\xffabc' null null 0 &t = 2"},
    {"proxy_dispatch_http_call", "is another name of proxy_http_call", 0,
     "call proxy_dispatch_http_call 'up' " GET " null null 0 &t; expect calls 1"},
    {"proxy_get_status", "is Ok and empty before anything has failed", 0, "call proxy_get_status &c &p &n; u32 c = 0; u32 n = 0"},
    {"proxy_get_status", "keeps the code after a failure", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at REQH; call proxy_http_call 'up' " GET " null null 0 &t; at CALLRES; "
     "call proxy_get_status &c &p &n; u32 c = 11; at TICK; call proxy_get_status &c &p &n; u32 c = 11; u32 n = 0; host fail; host tick"},

    /* ---- gRPC ---- */
    {"proxy_grpc_call", "sends its one message to the upstream", 0,
     "call proxy_grpc_call 'up' 'pkg.Service' 'Method' {X-Mine=1} 'the message' 1000 &t; u32 t = 5; return 1; host run; expect grpcs 1; "
     "expect grpc upstream 'up'; expect grpc service 'pkg.Service'; expect grpc method 'Method'; expect grpc metadata x-mine '1'; expect "
     "grpc messages 1; expect grpc sent 0 'the message'; expect grpc finished 1; expect grpc timeout 1000; expect grpc tls 0; expect grpc "
     "authority ''; expect outcome paused"},
    {"proxy_grpc_call", "ends with on_grpc_receive alone when all went well", 0,
     "call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t; return 1; at GRPCI; never; at GRPCT; never; at GRPCC; never; "
     "at GRPCR; args 1 5 5; call proxy_get_buffer_bytes 5 0 100 &p &n; show p n = 'hello'; call proxy_set_effective_context 2; call "
     "proxy_continue_stream 0; host grpc headers; host grpc message 'hello'; host grpc trailers; host grpc close 0; expect grpcs 0; expect "
     "outcome done"},
    {"proxy_grpc_call", "ends with on_grpc_close alone when it fails, also with a message", 0,
     "call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t; return 1; at GRPCR; never; at GRPCT; never; at GRPCC; args 1 5 "
     "7; call proxy_get_status &c &p &n; u32 c = 7; show p n = 'not you'; call proxy_get_buffer_bytes 5 0 100 &p &n = 1; host grpc "
     "headers; host grpc message 'hello'; host grpc close 7 'not you'; expect grpcs 0"},
    {"proxy_grpc_call", "fails with INTERNAL when the peer says Ok without a message", 0,
     "call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t; at GRPCR; never; at GRPCC; args 1 5 13; host grpc headers; "
     "host grpc close 0"},
    {"proxy_grpc_call", "ends with DEADLINE_EXCEEDED when its time is over", 0,
     "call proxy_grpc_call 'up' 's' 'm' null 'message' 50 &t; return 1; at GRPCC; args 1 5 4; host advance 49; expect grpcs 1; host "
     "advance 2; expect grpcs 0"},
    {"proxy_grpc_call", "takes an empty message, and gives an empty answer", 0,
     "call proxy_grpc_call 'up' 's' 'm' null null 0 &t; return 1; at GRPCR; args 1 5 0; call proxy_get_buffer_bytes 5 0 100 &p &n; u32 p = "
     "0; u32 n = 0; host run; expect grpc messages 1; expect grpc sent 0 ''; host grpc message ''; host grpc close 0"},
    {"proxy_grpc_call", "gives each call a token of its own, and shares no token with HTTP calls", 0,
     "call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t; u32 t = 5; call proxy_grpc_call 'up' 'pkg.Service' 'Method' "
     "null 'message' 0 &t; u32 t = 9; call proxy_http_call 'up' " GET
     " null null 0 &t; u32 t = 12; call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; u32 t = 18; expect grpcs 3"},
    {"proxy_grpc_call", "reaches the root context when the stream has gone", 0,
     "call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t; return 1; at GRPCR; args 1 5 1; call "
     "proxy_set_effective_context 2 = 2; host gone; host free; host grpc message 'x'; host grpc close 0"},
    {"proxy_grpc_call", "may be made from every callback", 0,
     "at CONFIGURE; call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t; at RESB 1; call proxy_grpc_call 'up' "
     "'pkg.Service' 'Method' null 'message' 0 &t; at LOG; call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t; at GRPCR "
     "1; call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t; host grpc message 'a'; host grpc close 0; host grpc message "
     "'a'; host grpc close 0; expect grpcs 1"},
    {"proxy_grpc_call", "answers ParseFailure for an upstream that nobody knows", 0,
     "host upstream other; call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t = 4; call proxy_grpc_call "
     "'other' 's' 'm' null null 0 &t; expect grpcs 1"},
    {"proxy_grpc_call", "answers ParseFailure for bytes that are neither a name nor a service", 0,
     "call proxy_grpc_call null 's' 'm' null null 0 &t = 4; call proxy_grpc_call 'a b' 's' 'm' null null 0 &t = 4; call proxy_grpc_call "
     "'\\n\\x7f\\n' 's' 'm' null null 0 &t = 4; expect grpcs 0"},
    {"proxy_grpc_call", "answers InternalFailure when the proxy cannot start it", 0,
     "host refuse; call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t = 10"},
    {"proxy_grpc_call", "takes a serialized GrpcService of envoy_grpc, with its authority, timeout and metadata", 0,
     "call proxy_grpc_call '\\n\\n\\n\\x02up\\x12\\x04auth\\x1a\\x02\\x08\\x02*\\x08\\n\\x03X-K\\x12\\x01v' 's' 'm' {a=b} 'x' 0 &t; host "
     "run; expect grpc upstream 'up'; expect grpc authority 'auth'; expect grpc timeout 2000; expect grpc metadata x-k 'v'; expect grpc "
     "metadata a 'b'"},
    {"proxy_grpc_call", "takes a serialized GrpcService of google_grpc, with TLS", 0,
     "call proxy_grpc_call '\\x12\\x0f\\n\\x09host:8443\\x12\\x02\\n\\0' 's' 'm' null 'x' 0 &t; host run; expect grpc upstream "
     "'host:8443'; expect grpc tls 1"},
    {"proxy_grpc_call", "answers InternalFailure for a service with credentials of its own", 0,
     "call proxy_grpc_call '\\x12\\x11\\n\\x06host:1\\x12\\x07\\n\\x05\\n\\x03\\x1a\\x01c' 's' 'm' null 'x' 0 &t = 10"},
    {"proxy_grpc_call", "takes a scheme in front of the name", 0,
     "call proxy_grpc_call 'grpcs://host:1' 's' 'm' null 'x' 0 &t; host run; expect grpc upstream 'host:1'; expect grpc tls 1"},
    {"proxy_grpc_call", "encodes values of -bin names, unless they are", 0,
     "call proxy_grpc_call 'up' 's' 'm' {A-Bin=\\x01\\x02,b-bin=AQI=,c-bin=hello} 'x' 0 &t; host run; expect grpc metadata a-bin 'AQI='; "
     "expect grpc metadata b-bin 'AQI='; expect grpc metadata c-bin 'aGVsbG8='"},
    {"proxy_grpc_call", "leaves out metadata that cannot be", 0,
     "call proxy_grpc_call 'up' 's' 'm' {:path=/x,a b=c,ok=1} 'x' 0 &t; host run; expect grpc metadata :path none; expect grpc metadata ok "
     "'1'; expect grpc metadata 'a b' none"},
    {"proxy_grpc_call", "takes malformed metadata as none", 0,
     "call proxy_grpc_call 'up' 's' 'm' '\\xff\\xff\\xff\\xffabc' 'x' 0 &t; expect grpcs 1"},
    {"proxy_grpc_stream", "tells initial metadata, messages, trailing metadata and the end, in this order", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' {a=b} &t; u32 t = 6; return 1; at GRPCI; args 1 6 3; call "
     "proxy_get_header_map_value 4 'x-first' &p &n; show p n = '1'; call proxy_get_header_map_value 4 'none' &p &n = 1; call "
     "proxy_get_header_map_pairs 5 &p &n; u32 n = 0; call proxy_get_header_map_value 5 'x-last' &p &n = 2; at GRPCR 1; args 1 6 3; call "
     "proxy_get_buffer_bytes 5 0 100 &p &n; show p n = 'one'; call proxy_get_header_map_pairs 4 &p &n; u32 n = 0; at GRPCR 2; args 1 6 0; "
     "at GRPCT; args 1 6 2; call proxy_get_header_map_pairs 5 &p &n; show p n = {grpc-status=0,x-last=2}; at GRPCC; args 1 6 0; call "
     "proxy_get_status &c &p &n; u32 c = 0; u32 n = 0; host run; expect grpc metadata a 'b'; expect grpc messages 0; expect grpc finished "
     "0; host grpc headers; host grpc message 'one'; host grpc message ''; host grpc trailers; host grpc close 0; expect grpcs 0"},
    {"proxy_grpc_stream", "tells initial metadata without entries, too", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCI; args 1 6 0; host grpc none"},
    {"proxy_grpc_stream", "tells trailing metadata without entries before an end that had none", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCT; args 1 6 0; at GRPCC; args 1 6 14; call proxy_get_status &c &p "
     "&n; u32 c = 14; show p n = 'gone'; host grpc close 14 'gone'"},
    {"proxy_grpc_stream", "answers ParseFailure for an upstream that nobody knows", 0,
     "host upstream other; call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t = 4; expect grpcs 0"},
    {"proxy_grpc_stream", "answers InternalFailure when the proxy cannot start it", 0,
     "host refuse; call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t = 10"},
    {"proxy_grpc_stream", "has maps that cannot be written", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCI; call proxy_add_header_map_value 4 'a' 'b' = 2; call "
     "proxy_remove_header_map_value 4 'x-first' = 2; call proxy_set_header_map_pairs 4 {a=b} = 2; call proxy_get_header_map_size 4 &n; "
     "nonzero n; call proxy_set_buffer_bytes 5 0 0 'x' = 1; host grpc headers"},
    {"proxy_grpc_send", "sends messages, and the last one half-closes", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; call proxy_grpc_send 6 'one' 0; call proxy_grpc_send 6 null 0; call "
     "proxy_grpc_send 6 'three' 1; host run; expect grpc messages 3; expect grpc sent 0 'one'; expect grpc sent 1 ''; expect grpc sent 2 "
     "'three'; expect grpc finished 1"},
    {"proxy_grpc_send", "answers BadArgument after the half-close", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; call proxy_grpc_send 6 'one' 1; call proxy_grpc_send 6 'two' 0 = 2; host "
     "run; expect grpc messages 1"},
    {"proxy_grpc_send", "answers Ok when too much would wait, and ends the stream with ResourceExhausted", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; " SEND_16 SEND_16 SEND_16 SEND_16 SEND_4 "at GRPCC; args 1 6 8; call "
     "proxy_get_status &c &p &n; u32 c = 8; show p n = 'too much waits to be sent'; host run; host advance 1; expect grpcs 0"},
    {"proxy_grpc_send", "may be used from inside of the stream's events", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCR; call proxy_grpc_send 6 'pong' 1; host grpc headers; host grpc "
     "message 'ping'; expect grpc sent 0 'pong'; expect grpc finished 1"},
    {"proxy_grpc_send", "answers NotFound for an unknown stream, BadArgument for another kind of token", 0,
     "call proxy_grpc_send 6 'm' 1 = 1; call proxy_grpc_send 4 'm' 0 = 2; call proxy_grpc_send 5 'm' 0 = 2; call proxy_grpc_send 7 'm' 0 = "
     "2; call proxy_grpc_send 0 'm' 0 = 2"},
    {"proxy_grpc_send", "answers NotFound when the peer has closed", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCC; call proxy_grpc_send 6 'm' 0 = 1; host grpc close 0"},
    {"proxy_grpc_cancel", "ends a call or a stream without any more callbacks", 0,
     "call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t; call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at "
     "GRPCR; never; at GRPCC; never; at RESH; call proxy_grpc_cancel 5; call proxy_grpc_cancel 10; call proxy_grpc_cancel 10 = 1; host "
     "run; expect grpcs 0; expect grpccancels 2"},
    {"proxy_grpc_cancel", "works from inside of the stream's own events", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCI; call proxy_grpc_cancel 6; at GRPCC; never; host grpc headers; "
     "expect grpcs 0"},
    {"proxy_grpc_cancel", "works between the trailing metadata and the end", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCT; call proxy_grpc_cancel 6; at GRPCC; never; host grpc close 0; "
     "expect grpcs 0"},
    {"proxy_grpc_cancel", "answers NotFound for an unknown call, BadArgument for another kind of token", 0,
     "call proxy_grpc_cancel 5 = 1; call proxy_grpc_cancel 6 = 1; call proxy_grpc_cancel 4 = 2; call proxy_grpc_cancel 7 = 2; call "
     "proxy_grpc_cancel 0 = 2"},
    {"proxy_grpc_close", "half-closes a stream, whose peer may go on", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; call proxy_grpc_close 6; call proxy_grpc_close 6; at GRPCR; args 1 6 1; "
     "at GRPCC; args 1 6 0; call proxy_grpc_close 6 = 1; host run; expect grpc finished 1; host grpc headers; host grpc message 'x'; host "
     "grpc close 0"},
    {"proxy_grpc_close", "is Ok once for a stream that the peer has closed", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCC; call proxy_grpc_close 6; call proxy_grpc_close 6 = 1; host "
     "grpc close 0"},
    {"proxy_grpc_close", "cancels a unary call", 0,
     "call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 &t; call proxy_grpc_close 5; host run; expect grpcs 0; expect "
     "grpccancels 1"},
    {"proxy_grpc_close", "answers NotFound for an unknown call, BadArgument for another kind of token", 0,
     "call proxy_grpc_close 5 = 1; call proxy_grpc_close 6 = 1; call proxy_grpc_close 4 = 2; call proxy_grpc_close 7 = 2"},
    {"proxy_get_status", "keeps the code after a gRPC failure, but not the text", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at REQH; call proxy_grpc_call 'up' 'pkg.Service' 'Method' null 'message' 0 "
     "&t; at TICK; call proxy_get_status &c &p &n; u32 c = 8; u32 n = 0; host grpc close 8 'too much'; host tick"},

    /* ---- shared data ---- */
    {"proxy_set_shared_data", "stores for the vm_id, whatever CAS is given for a new key", 0,
     "call proxy_set_shared_data 'k' 'v' 77; call proxy_get_shared_data 'k' &p &n &c; show p n = 'v'; u32 c = 1; expect shared 'k' 'v'"},
    {"proxy_set_shared_data", "replaces without a CAS", 0,
     "call proxy_set_shared_data 'k' 'v' 0; call proxy_set_shared_data 'k' 'w' 0; call proxy_get_shared_data 'k' &p &n &c; show p n = 'w'; "
     "u32 c = 2"},
    {"proxy_set_shared_data", "replaces with the CAS that was read", 0,
     "call proxy_set_shared_data 'k' 'v' 0; call proxy_get_shared_data 'k' &p &n &c; call proxy_set_shared_data 'k' 'w' *c; expect shared "
     "'k' 'w'"},
    {"proxy_set_shared_data", "answers CasMismatch for another CAS, and keeps the value", 0,
     "call proxy_set_shared_data 'k' 'v' 0; call proxy_set_shared_data 'k' 'w' 99 = 8; expect shared 'k' 'v'"},
    {"proxy_set_shared_data", "stores an empty value", 0,
     "call proxy_set_shared_data 'k' null 0; call proxy_get_shared_data 'k' &p &n &c; u32 p = 0; u32 n = 0; u32 c = 1"},
    {"proxy_get_shared_data", "answers NotFound for an absent key", 0,
     "call proxy_get_shared_data 'none' &p &n &c = 1; untouched p; untouched c"},
    {"proxy_get_shared_data", "takes keys of any bytes", 0,
     "call proxy_set_shared_data '\\0\\xff' 'v' 0; call proxy_get_shared_data '\\0\\xff' &p &n &c; show p n = 'v'; call "
     "proxy_get_shared_data '\\0' &p &n &c = 1"},

    /* ---- queues ---- */
    {"proxy_register_shared_queue", "gives a token that is never 0, the same for the same name", 0,
     "call proxy_register_shared_queue 'q' &t; nonzero t; u32 t = 1; call proxy_register_shared_queue 'q' &t; u32 t = 1; call "
     "proxy_register_shared_queue 'r' &t; u32 t = 2"},
    {"proxy_resolve_shared_queue", "finds a queue by vm_id, an empty one being its own", 0,
     "call proxy_register_shared_queue 'q' &t; call proxy_resolve_shared_queue null 'q' &u; u32 u = 1; call proxy_resolve_shared_queue "
     "'vm' 'q' &u; u32 u "
     "= 1"},
    {"proxy_resolve_shared_queue", "answers NotFound for another vm_id or name", 0,
     "call proxy_register_shared_queue 'q' &t; call proxy_resolve_shared_queue 'other' 'q' &u = 1; call proxy_resolve_shared_queue null "
     "'none' &u = 1; "
     "untouched u"},
    {"proxy_enqueue_shared_queue", "tells the root context that registered, once for each item", 0,
     "at CONFIGURE; call proxy_register_shared_queue 'q' &t; at REQH; call proxy_enqueue_shared_queue 1 'a'; call "
     "proxy_enqueue_shared_queue 1 'b'; at "
     "QUEUE 1; args 1 1; call proxy_dequeue_shared_queue 1 &p &n; show p n = 'a'; at QUEUE 2; call proxy_dequeue_shared_queue 1 &p &n; "
     "show p n = 'b'; at "
     "QUEUE 3; never; host run; expect queue 'q' 0"},
    {"proxy_enqueue_shared_queue", "answers NotFound for a token that does not exist", 0,
     "call proxy_enqueue_shared_queue 9 'a' = 1; call proxy_enqueue_shared_queue 0 'a' = 1"},
    {"proxy_enqueue_shared_queue", "answers NotFound for a token that nobody of this vm_id has asked for", 0,
     "call proxy_enqueue_shared_queue 1 'a' = 1; call proxy_register_shared_queue 'q' &t; u32 t = 1; call proxy_enqueue_shared_queue 1 "
     "'a'"},
    {"proxy_enqueue_shared_queue", "takes an empty item", 0,
     "call proxy_register_shared_queue 'q' &t; call proxy_enqueue_shared_queue 1 null; call proxy_dequeue_shared_queue 1 &p &n; u32 p = 0; "
     "u32 n = 0"},
    {"proxy_dequeue_shared_queue", "answers Empty when there is nothing", 0,
     "call proxy_register_shared_queue 'q' &t; call proxy_dequeue_shared_queue 1 &p &n = 7; untouched p"},
    {"proxy_dequeue_shared_queue", "answers NotFound for a token that does not exist", 0,
     "call proxy_dequeue_shared_queue 9 &p &n = 1; untouched p"},

    /* ---- metrics ---- */
    {"proxy_define_metric", "gives a new id each time, bound to the same value", 0,
     "call proxy_define_metric 0 'c' &a; nonzero a; call proxy_define_metric 0 'c' &b; call proxy_increment_metric *a 2; call "
     "proxy_increment_metric *b "
     "3; call proxy_get_metric *a &v; u64 v = 5; expect metric 'c' 5"},
    {"proxy_define_metric", "refuses a type that does not exist", 0, "call proxy_define_metric 3 'c' &a = 2; untouched a"},
    {"proxy_increment_metric", "refuses what is not more than 0 for a counter", 0,
     "call proxy_define_metric 0 'c' &a; call proxy_increment_metric *a 0 = 2; call proxy_increment_metric *a -1 = 2; call "
     "proxy_increment_metric *a 1"},
    {"proxy_increment_metric", "adds to and subtracts from a gauge", 0,
     "call proxy_define_metric 1 'g' &a; call proxy_increment_metric *a 5; call proxy_increment_metric *a -2; call proxy_get_metric *a &v; "
     "u64 v = 3"},
    {"proxy_increment_metric", "answers NotFound for an unknown id, BadArgument for a histogram", 0,
     "call proxy_increment_metric 400 1 = 1; call proxy_define_metric 2 'h' &a; call proxy_increment_metric *a 1 = 2"},
    {"proxy_record_metric", "adds to a counter, sets a gauge, samples into a histogram", 0,
     "call proxy_define_metric 0 'c' &a; call proxy_record_metric *a 5; call proxy_record_metric *a 5; call proxy_get_metric *a &v; u64 v "
     "= 10; "
     "call proxy_define_metric 1 'g' &a; call proxy_record_metric *a 5; call proxy_record_metric *a 6; call proxy_get_metric *a &v; u64 v "
     "= 6; "
     "call proxy_define_metric 2 'h' &a; call proxy_record_metric *a 5; call proxy_record_metric *a 6; expect samples 'h' 2"},
    {"proxy_record_metric", "answers NotFound for an unknown id", 0, "call proxy_record_metric 400 1 = 1"},
    {"proxy_get_metric", "answers BadArgument for a histogram, NotFound for an unknown id", 0,
     "call proxy_define_metric 2 'h' &a; call proxy_get_metric *a &v = 2; untouched v; call proxy_get_metric 400 &v = 1"},

    /* ---- foreign functions and extensions ---- */
    {"proxy_call_foreign_function", "answers NotFound for a name that nobody knows", 0,
     "call proxy_call_foreign_function 'no_such' 'args' &p &n = 1; call proxy_call_foreign_function null null 0 0 = 1"},
    {"proxy_call_foreign_function", "tells the size alone to who wants no bytes", 0,
     "host loglevel 2; call proxy_call_foreign_function 'get_log_level' null 0 &n; u32 n = 4; "
     "call proxy_call_foreign_function 'get_log_level' null &p &n; show p n = '\\x02\\0\\0\\0'"},
    {"proxy_call_foreign_function", "does nothing when the result cannot be told", 0,
     "call proxy_call_foreign_function 'resolve_host' 'name' 0xfffffff0 &n = 6; expect resolves 0"},
    {"proxy_call_foreign_function", "compresses, and takes it apart again", 0,
     "call proxy_call_foreign_function 'compress' 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' &p &n; show p n has 'x\\x9c'; "
     "call proxy_call_foreign_function 'uncompress' 'x\\x9cKL\\x84\\x01\\0\\x14\\xe1\\x03\\xcb' &q &m; show q m = 'aaaaaaaaaa'"},
    {"proxy_call_foreign_function", "does not uncompress what is none, or cut, or damaged", 0,
     "call proxy_call_foreign_function 'uncompress' 'no zlib' &p &n = 3; call proxy_call_foreign_function 'uncompress' null &p &n = 3; "
     "call proxy_call_foreign_function 'uncompress' 'x\\x9cKL\\x84\\x01\\0\\x14' &p &n = 3; "
     "call proxy_call_foreign_function 'uncompress' 'x\\x9cKL\\x84\\x01\\0\\x14\\xe1\\x03\\xcc' &p &n = 3"},
    {"proxy_call_foreign_function", "says what is wrong with a signature", 0,
     "call proxy_call_foreign_function 'verify_signature' '\\x0a\\x06sha256\\x12\\x03key\\x1a\\x03sig\\x22\\x04text' &p &n; "
     "show p n = '\\x12\\x16the key cannot be read'; "
     "call proxy_call_foreign_function 'verify_signature' '\\x0a\\x60short' &p &n = 2; "
     "call proxy_call_foreign_function 'sign' '\\x0a\\x06sha256\\x12\\x03key\\x1a\\x04text' &p &n; "
     "show p n = '\\x1a\\x16the key cannot be read'; call proxy_call_foreign_function 'sign' '\\x07' &p &n = 2"},
    {"proxy_call_foreign_function", "lets a property be declared once, and a read-only one be set once", 0,
     "at CONFIGURE; call proxy_call_foreign_function 'declare_property' '\\x0a\\x02ro\\x10\\x01' 0 0; "
     "call proxy_call_foreign_function 'declare_property' '\\x0a\\x02rw\\x18\\x01' 0 0; "
     "call proxy_call_foreign_function 'declare_property' '\\x0a\\x02ro' 0 0 = 2; "
     "call proxy_call_foreign_function 'declare_property' '\\x10\\x01' 0 0 = 2; "
     "call proxy_call_foreign_function 'declare_property' '\\x0a\\x01x\\x18\\x04' 0 0 = 2; "
     "call proxy_call_foreign_function 'declare_property' '\\x0a\\x09x' 0 0 = 2; "
     "at REQH; call proxy_set_property 'ro' '1'; call proxy_set_property 'ro' '2' = 2; call proxy_get_property 'ro' &p &n; "
     "show p n = '1'; call proxy_set_property 'rw' '1'; call proxy_set_property 'rw' '2'; call proxy_get_property 'rw' &p &n; "
     "show p n = '2'"},
    {"proxy_call_foreign_function", "keeps filter state with the stream, but for what is Envoy's", 0,
     "at CONFIGURE; call proxy_call_foreign_function 'set_envoy_filter_state' '\\x0a\\x04mine\\x12\\x01v' 0 0 = 1; "
     "at REQH; call proxy_call_foreign_function 'set_envoy_filter_state' '\\x0a\\x04mine\\x12\\x01v' 0 0; "
     "call proxy_get_property 'filter_state\\0mine' &p &n; show p n = 'v'; call proxy_get_property 'mine' &p &n = 1; "
     "call proxy_set_property 'other' 'w'; call proxy_get_property 'filter_state' &p &n; show p n = {mine=v,wasm.other=w}; "
     "call proxy_call_foreign_function 'set_envoy_filter_state' '\\x0a\\x0aenvoy.name\\x12\\x01v' 0 0 = 1; "
     "call proxy_call_foreign_function 'set_envoy_filter_state' '\\xff' 0 0 = 2"},
    {"proxy_call_foreign_function", "takes Higress's hint about requests per cycle", 0,
     "call proxy_call_foreign_function 'set_global_max_requests_per_io_cycle' '12345678' 0 0; "
     "call proxy_call_foreign_function 'set_global_max_requests_per_io_cycle' '1' 0 0 = 2"},
    {"proxy_call_foreign_function", "clears the route cache", 0,
     "call proxy_call_foreign_function 'clear_route_cache' null 0 0; expect routeclears 1"},
    {"proxy_call_foreign_function", "evaluates an expression as often as it is asked to", 0,
     "at CONFIGURE; " CREATE "'request.method == \"POST\" && request.headers[\"x-one\"] == \"1\"' &p &n; u32 n = 4; nonzero p; "
     "at REQH; " EVALUATE "'\\x01\\0\\0\\0' &q &m; show q m = '\\x01'; " EVALUATE "'\\x01\\0\\0\\0' &q &m; show q m = '\\x01'"},
    {"proxy_call_foreign_function", "encodes the value of an expression as that of a property", 0,
     CREATE "'request.path' &p &n; " EVALUATE "*p 4 &q &m; show q m = '/p/a?x=1&y=2'; " CREATE "'-2' &p &n; " EVALUATE
            "*p 4 &q &m; show q m = '\\xfe\\xff\\xff\\xff\\xff\\xff\\xff\\xff'; " CREATE "'2u' &p &n; " EVALUATE
            "*p 4 &q &m; show q m = '\\x02\\0\\0\\0\\0\\0\\0\\0'; " CREATE "'0.5' &p &n; " EVALUATE
            "*p 4 &q &m; show q m = '\\0\\0\\0\\0\\0\\0\\xe0\\x3f'; " CREATE "'b\"\\\\xff\"' &p &n; " EVALUATE
            "*p 4 &q &m; show q m = '\\xff'; " CREATE "'duration(\"2us\")' &p &n; " EVALUATE
            "*p 4 &q &m; show q m = '\\xd0\\x07\\0\\0\\0\\0\\0\\0'; " CREATE "'\"\"' &p &n; " EVALUATE "*p 4 &q &m; u32 m = 0"},
    {"proxy_call_foreign_function", "encodes lists and maps of an expression as pairs", 0,
     CREATE "'[\"a\", \"bc\"]' &p &n; " EVALUATE "*p 4 &q &m; show q m = {a=,bc=}; " CREATE
            "'{\"k\": \"v\", \"l\": request.headers[\"x-one\"]}' &p &n; " EVALUATE "*p 4 &q &m; show q m = {k=v,l=1}; " CREATE
            "'[true]' &p &n; " EVALUATE "*p 4 &q &m; show q m = '\\x01\\0\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\0\\x01\\0\\0'; " CREATE
            "'null' &p &n; " EVALUATE "*p 4 &q &m = 3; " CREATE "'[type(1) == int ? null : 1]' &p &n; " EVALUATE "*p 4 &q &m = 3"},
    {"proxy_call_foreign_function", "sees what a filter keeps, and the names of the plugin", 0,
     "call proxy_set_property 'mine' 'v'; " CREATE
     "'mine == \"v\" && filter_state[\"wasm.mine\"] == \"v\" && \"wasm.mine\" in filter_state && size(filter_state) == 1' &p &n; " EVALUATE
     "*p 4 &q &m; show q m = '\\x01'; " CREATE "'size(plugin_name) > 0 && plugin_vm_memory > 0u' &p &n; " EVALUATE
     "*p 4 &q &m; show q m = '\\x01'"},
    {"proxy_call_foreign_function", "tells what is absent from what is wrong", 0,
     CREATE
     "'has(request.headers.nope) || \"x-empty\" in request.headers && !has(response.code) && !has(metadata.a.b) && "
     "!has(response.headers.a) && size(response.headers) == 0 && filter_state == {}' &p &n; " EVALUATE
     "*p 4 &q &m; show q m = '\\x01'; " CREATE "'response.code' &p &n; " EVALUATE "*p 4 &q &m = 10; " CREATE
     "'request.headers.nope' &p &n; " EVALUATE "*p 4 &q &m = 10; " CREATE "'1 / 0' &p &n; " EVALUATE "*p 4 &q &m = 10; at RESH; " CREATE
     "'response.code == 200 && response.headers[\"content-type\"] == \"text/plain\"' &p &n; " EVALUATE "*p 4 &q &m; show q m = '\\x01'"},
    {"proxy_call_foreign_function", "refuses what is no expression", 0,
     CREATE "'1 +' &p &n = 2; expect log 'expr_create: byte 3: expected a value'; call proxy_call_foreign_function 'expr_create' null &p "
            "&n = 2; " CREATE "'\\xff' &p &n = 2; " CREATE "'Message{}' &p &n = 2"},
    {"proxy_call_foreign_function", "knows expressions by tokens of four bytes until they are deleted", 0,
     CREATE "'1' &p &n; call proxy_call_foreign_function 'expr_evaluate' *p 3 &q &m = 2; call proxy_call_foreign_function 'expr_delete' *p "
            "3 0 0 = "
            "2; " EVALUATE "'\\xff\\xff\\xff\\xff' &q &m = 1; " EVALUATE
            "'\\0\\0\\0\\0' &q &m = 1; call proxy_call_foreign_function 'expr_delete' *p "
            "4 0 0; " EVALUATE "*p 4 &q &m = 1; call proxy_call_foreign_function 'expr_delete' *p 4 0 0; " CREATE
            "'2' &q &m; show q m = '\\x02\\0\\0\\0'"},
    {"proxy_call_foreign_function", "evaluates in the context whose callback runs, not in the effective one", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; " CREATE "'request.method' &p &n; at REQH; return 1; at TICK 1; "
     "call proxy_set_effective_context 2; call proxy_get_property 'request\\0method' &p &n; " EVALUATE "'\\x01\\0\\0\\0' &q &m = 10; "
     "call proxy_continue_stream 0; host tick; expect outcome done"},
    {"proxy_call_foreign_function", "resolves an address by itself", 0,
     "call proxy_call_foreign_function 'resolve_host' '10.1.2.3' &p &n; show p n = '\\x0a\\x01\\x02\\x03'; "
     "call proxy_call_foreign_function 'resolve_lua' '::1' &p &n; show p n = '\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\x01'; "
     "call proxy_call_foreign_function 'resolve_host' null &p &n = 2; call proxy_call_foreign_function 'resolve_host' 'a b' &p &n = 2; "
     "expect resolves 0"},
    {"proxy_call_foreign_function", "answers an internal failure where there is no resolver", 0,
     "host refuse; call proxy_call_foreign_function 'resolve_host' 'name' &p &n = 10; call envoy_resolve_dns 'name' &t = 10; u32 t = 0"},
    {"proxy_redis_init", "takes a cluster with its credentials", 0,
     "at CONFIGURE; call proxy_redis_init 'up?db=3' 'user' 'pass' 100; at REQH; call proxy_redis_call 'up' " PING
     " &t; nonzero t; return 1; "
     "host run; expect redis upstream 'up'; expect redis username 'user'; expect redis password 'pass'; expect redis database 3; "
     "expect redis timeout 100; expect redis commands 1; expect redis blocks 0; expect redis query " PING},
    {"proxy_redis_init", "takes a scheme in front of the name, which says whether there is TLS", 0,
     "at CONFIGURE; call proxy_redis_init 'rediss://up?db=3' null null 0; at REQH; call proxy_redis_call 'up' " PING
     " &t; return 1; host run; expect redis upstream 'up'; expect redis database 3; expect redis tls 1"},
    {"proxy_redis_init", "takes a scheme that says that there is none", 0,
     "at CONFIGURE; call proxy_redis_init 'redis://up' null null 0; at REQH; call proxy_redis_call 'redis://up' " PING
     " &t; return 1; host run; expect redis upstream 'up'; expect redis tls 0"},
    {"proxy_redis_init", "may be called again", 0,
     "call proxy_redis_init 'up?db=3' 'user' 'pass' 100; call proxy_redis_init 'up?x=y&db=4' null null 0; call proxy_redis_call 'up' " PING
     " &t; return 1; host run; expect redis username ''; expect redis database 4; expect redis timeout 0"},
    {"proxy_redis_init", "refuses what is no name or database", 0,
     "call proxy_redis_init null null null 100 = 2; call proxy_redis_init '?db=1' null null 100 = 2; call proxy_redis_init 'rediss://' "
     "null null 100 = 2; call proxy_redis_init 'a b' null null "
     "1 = "
     "2; call proxy_redis_init 'up?db=x' null null 1 = 2; call proxy_redis_init 'up?db=' null null 1 = 2; "
     "call proxy_redis_init 'up?db=99999999999' null null 1 = 2; call proxy_redis_init 'up' null null -1 = 2"},
    {"proxy_redis_call", "wants the cluster made known before", 0,
     "call proxy_redis_call 'up' " PING " &t = 2; u32 t = 0; expect log 'proxy_redis_init'"},
    {"proxy_redis_call", "refuses what is no whole request, or is bad for others", 0,
     "call proxy_redis_init 'up' null null 0; call proxy_redis_call 'up' null &t = 2; call proxy_redis_call 'up' 'PING\\r\\n' &t = 2; "
     "call proxy_redis_call 'up' '*1\\r\\n$4\\r\\nPIN' &t = 2; call proxy_redis_call 'up' '*2\\r\\n$6\\r\\nselect\\r\\n$1\\r\\n1\\r\\n' "
     "&t = 2; call proxy_redis_call 'up' '*1\\r\\n$5\\r\\nMULTI\\r\\n' &t = 2; u32 t = 0; expect redises 0"},
    {"proxy_redis_call", "takes several commands at once, and another database", 0,
     "call proxy_redis_init 'up' null null 0; call proxy_redis_call 'up?db=9' '*1\\r\\n$5\\r\\nMULTI\\r\\n*1\\r\\n$4\\r\\nexec\\r\\n' &t; "
     "return 1; host run; expect redis commands 2; expect redis database 9"},
    {"proxy_redis_call", "says that a command may take its time", 0,
     "call proxy_redis_init 'up' null null 0; call proxy_redis_call 'up' '*3\\r\\n$5\\r\\nblpop\\r\\n$1\\r\\nk\\r\\n$1\\r\\n0\\r\\n' &t; "
     "return 1; host run; expect redis blocks 1"},
    {"proxy_redis_call", "refuses a cluster that does not exist, and one that cannot be asked", 0,
     "host upstream up; call proxy_redis_init 'nobody' null null 0; call proxy_redis_call 'nobody' " PING " &t = 2; u32 t = 0"},
    {"proxy_redis_call", "answers an internal failure where nothing can be sent", 0,
     "host refuse; call proxy_redis_init 'up' null null 0; call proxy_redis_call 'up' " PING " &t = 10; u32 t = 0"},
    {"proxy_redis_call", "may be made in every callback", 0,
     "at CONFIGURE; call proxy_redis_init 'up' null null 0; call proxy_redis_call 'up' " PING
     " &t; at REQH; call proxy_redis_call 'up' " PING " &t; at RESB 1; call proxy_redis_call 'up' " PING
     " &t; at LOG; call proxy_redis_call 'up' " PING " &t; expect redises 3; host free; expect redises 4"},
    {"proxy_inject_encoded_data_to_filter_chain", "is not available here", 0,
     "call proxy_inject_encoded_data_to_filter_chain 'body' 1 = 12"},
    {"proxy_get_upstream_hosts", "is not available here", 0, "call proxy_get_upstream_hosts &p &n = 12; untouched p"},
    {"proxy_set_upstream_override_host", "is not available here", 0, "call proxy_set_upstream_override_host 'host' = 12"},
    {"envoy_resolve_dns", "asks the resolver", 0,
     "call envoy_resolve_dns 'name' &t; nonzero t; call envoy_resolve_dns 'a b' &t = 2; call envoy_resolve_dns null &t = 2; return 1; host "
     "run; expect resolves 1"},
    {"pthread_equal", "compares", 0, "call pthread_equal 5 5 = 1; call pthread_equal 5 6 = 0"},
    {"emscripten_notify_memory_growth", "does nothing", 0, "call emscripten_notify_memory_growth 0; reached"},
    {"abort", "traps", 0, "call abort 0 0 1 2 traps; expect dead"},
    {"abort", "traps whatever its strings are", 0, "call abort 0xffffffff 0xfffffffe 1 2 traps"},
    {"abort", "traps with strings whose length is a lie", 0, "call abort 4 0x100000 0xffffffff 0xffffffff traps"},
    {"seed", "gives a number", 0, "call seed; reached"},

    /* ---- WASI ---- */
    {"fd_write", "writes one line for each call to stdout and stderr", 0,
     "call fd_write 1 @'\\x08\\x40\\0\\0\\x05\\0\\0\\0line\\n' 1 &n; u32 n = 5; call fd_write 2 0x4000 1 &n; u32 n = 5; expect log 'line'"},
    {"fd_write", "joins its pieces and makes no line of none", 0,
     "call fd_write 1 @'\\x10\\x40\\0\\0\\x03\\0\\0\\0\\x13\\x40\\0\\0\\x03\\0\\0\\0one two' 2 &n; u32 n = 6; call fd_write 1 0x4000 0 &n; "
     "u32 n = 0; "
     "expect log 'one tw'"},
    {"fd_write", "makes no newline of the guest's a newline in the log", 0,
     "call fd_write 1 @'\\x08\\x40\\0\\0\\x0b\\0\\0\\0first\\nnext\\n' 1 &n; u32 n = 11; expect log 'first'; expect log 'next'"},
    {"fd_write", "answers BADF for anything else", 0, "call fd_write 0 0x4000 0 &n = 8; call fd_write 3 0x4000 0 &n = 8"},
    {"fd_write", "works under its old module name", 0, "call unstable.fd_write 1 0x4000 0 &n; u32 n = 0"},
    {"fd_pwrite", "is fd_write", 0, "call fd_pwrite 1 0x4000 0 0 &n; call fd_pwrite 7 0x4000 0 0 &n = 8"},
    {"fd_read", "is not there", 0, "call fd_read 0 0x4000 0 &n = 52"},
    {"fd_pread", "is not there", 0, "call fd_pread 0 0x4000 0 0 &n = 52"},
    {"fd_seek", "succeeds and does nothing", 0, "call fd_seek 1 0 0 &n"},
    {"fd_close", "succeeds and does nothing", 0, "call fd_close 1"},
    {"fd_fdstat_get", "describes stdout and stderr as writable", 0,
     "call fd_fdstat_get 1 0x8000; call fd_fdstat_get 2 &s; u64 s = 0; call fd_fdstat_get 3 &s = 8"},
    {"fd_fdstat_set_flags", "is not there", 0, "call fd_fdstat_set_flags 1 0 = 52"},
    {"fd_fdstat_set_rights", "is for stdout and stderr", 0, "call fd_fdstat_set_rights 1 0 0; call fd_fdstat_set_rights 3 0 0 = 8"},
    {"fd_allocate", "is for stdout and stderr", 0, "call fd_allocate 1 0 0; call fd_allocate 3 0 0 = 8"},
    {"fd_datasync", "is for stdout and stderr", 0, "call fd_datasync 2; call fd_datasync 0 = 8"},
    {"fd_sync", "is for stdout and stderr", 0, "call fd_sync 2; call fd_sync 0 = 8"},
    {"fd_filestat_set_size", "is for stdout and stderr", 0, "call fd_filestat_set_size 1 0; call fd_filestat_set_size 9 0 = 8"},
    {"fd_filestat_set_times", "is for stdout and stderr", 0, "call fd_filestat_set_times 1 0 0 0; call fd_filestat_set_times 9 0 0 0 = 8"},
    {"fd_advise", "succeeds", 0, "call fd_advise 1 0 0 0"},
    {"fd_tell", "is at the beginning", 0, "call fd_tell 1 &n; u64 n = 0; call fd_tell 3 &n = 8"},
    {"fd_renumber", "is not supported", 0, "call fd_renumber 1 2 = 58; call fd_renumber 7 2 = 8"},
    {"fd_readdir", "says that nothing is a folder", 0, "call fd_readdir 3 0x4000 10 0 &n = 54; u32 n = 0"},
    {"fd_prestat_get", "says that there are no folders", 0, "call fd_prestat_get 3 &s = 8"},
    {"fd_prestat_dir_name", "is not there", 0, "call fd_prestat_dir_name 3 0x8000 10 = 52"},
    {"fd_filestat_get", "answers BADF", 0, "call fd_filestat_get 1 &s = 8"},
    {"path_open", "finds nothing", 0, "call path_open 3 0 '/etc/passwd' 0 0 0 0 &f = 44"},
    {"path_create_directory", "is not supported", 0, "call path_create_directory 3 'a' = 58"},
    {"path_filestat_get", "is not supported", 0, "call path_filestat_get 3 0 'a' &s = 58"},
    {"path_filestat_set_times", "is not supported", 0, "call path_filestat_set_times 3 0 'a' 0 0 0 = 58"},
    {"path_link", "is not supported", 0, "call path_link 3 0 'a' 3 'b' = 58"},
    {"path_readlink", "is not supported", 0, "call path_readlink 3 'a' 0x8000 10 &n = 58"},
    {"path_remove_directory", "is not supported", 0, "call path_remove_directory 3 'a' = 58"},
    {"path_rename", "is not supported", 0, "call path_rename 3 'a' 3 'b' = 58"},
    {"path_symlink", "is not supported", 0, "call path_symlink 'a' 3 'b' = 58"},
    {"path_unlink_file", "is not supported", 0, "call path_unlink_file 3 'a' = 58"},
    {"args_sizes_get", "tells of no arguments", 0, "call args_sizes_get &a &b; u32 a = 0; u32 b = 0"},
    {"args_get", "succeeds with no arguments", 0, "call args_get 0x8000 0x8000"},
    {"environ_sizes_get", "counts the variables of the filter, not of the process", 0,
     "call environ_sizes_get &a &b; u32 a = 2; u32 b = 14"},
    {"environ_get", "writes the variables of the filter", 0,
     "call environ_get 0x7000 0x7100; call proxy_log 2 0x7100 10; call proxy_log 2 0x710b 2; expect log 'NAME=value'; expect log 'X='"},
    {"clock_time_get", "knows the wall clock and the monotonic one", 0,
     "call clock_time_get 0 0 &t; u64 t = 1704067200000000000; call clock_time_get 1 0 &t; u64 t = 1000000000; call clock_time_get 2 0 &t "
     "= 58"},
    {"clock_res_get", "knows the wall clock and the monotonic one", 0,
     "call clock_res_get 0 &t; u64 t = 1; call clock_res_get 1 &t; u64 t = 1; call clock_res_get 3 &t = 58"},
    {"random_get", "fills what is asked for", 0, "call random_get &r 4; nonzero r; call random_get 0x4000 0"},
    {"random_get", "refuses more than 64 KiB", 0, "call random_get 0x20000 65536; call random_get 0x20000 65537 = 28"},
    {"random_get", "works under its old module name", 0, "call unstable.random_get &r 4; nonzero r"},
    {"poll_oneoff", "comes back at once with no events", 0, "call poll_oneoff 0x4000 0x8000 1 &n; u32 n = 0"},
    {"sched_yield", "succeeds", 0, "call sched_yield"},
    {"proc_exit", "traps", 0, "call proc_exit 1 traps; expect dead"},
    {"proc_exit", "traps with 0 too", 0, "call proc_exit 0 traps"},
    {"proc_exit", "traps under its old module name", 0, "call unstable.proc_exit 3 traps"},
    {"proc_raise", "is not supported", 0, "call proc_raise 9 = 58"},
    {"sock_accept", "is not supported", 0, "call sock_accept 3 0 &f = 58"},
    {"sock_recv", "is not supported", 0, "call sock_recv 3 0x4000 0 0 &n &f = 58"},
    {"sock_send", "is not supported", 0, "call sock_send 3 0x4000 0 0 &n = 58"},
    {"sock_shutdown", "is not supported", 0, "call sock_shutdown 3 0 = 58"},
    {"proxy_get_log_level", "is there for guests of ABI 0.2.0 and 0.1.0 too", V20, "call proxy_get_log_level &l; u32 l = 0"},
    {NULL, NULL, 0, NULL},
};
