/* Cases of the callbacks: when, in what order, with what arguments, and what their results do. */
#include "cf_run.h"

#define V1 CF_ABI_0_1_0
#define V20 CF_ABI_0_2_0
#define TICKING "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; "
#define RESUME_ON_TICK(n) TICKING "at TICK; call proxy_set_effective_context 2; call proxy_continue_stream " #n "; "

#define PING "'*1\\r\\n$4\\r\\nPING\\r\\n'"
#define RESOLVE "call proxy_call_foreign_function 'resolve_host' 'a.b' &p &n; u32 n = 0; return 1; "
#define REDIS "call proxy_redis_init 'up' null null 0; call proxy_redis_call 'up' " PING " &t; return 1; "

const cf_case_t cf_cases_callbacks[] = {
    /* ---- start ---- */
    {"proxy_on_context_create", "announces the root with parent 0, then each stream with its root", 0,
     "at CTX 1; args 1 0; at CTX 2; args 2 1"},
    {"proxy_on_context_create", "announces a stream that died before its headers, only to log it", 0,
     "at CTX 2; args 2 1; at REQH; never; at LOG; args 2; host free early"},
    {"proxy_on_vm_start", "comes with the root and the size of the VM's configuration", 0, "at VM_START; reached; at VM_START 2; never"},
    {"proxy_on_vm_start", "refuses the filter with 0", 0, "at VM_START; return 0; at CONFIGURE; never; expect start fails 'conformance'"},
    {"proxy_on_configure", "comes with the root and the size of the configuration", 0, "at CONFIGURE; args 1 24"},
    {"proxy_on_configure", "refuses the filter with 0", 0, "at CONFIGURE; return 0; at REQH; never; expect start fails 'conformance'"},
    {"proxy_on_configure", "refuses the filter with a trap", 0, "at CONFIGURE; trap; expect start fails 'conformance'"},
    {"proxy_validate_configuration", "is not called where filters are started anyway", 0, "at VALIDATE; never"},

    /* ---- request ---- */
    {"proxy_on_request_headers", "comes with the number of pairs, and no end where a body follows", 0, "args 2 9 0"},
    {"proxy_on_request_headers", "comes with the end where nothing follows, and then no body callback", 0,
     "message get; args 2 9 1; at REQB; never"},
    {"proxy_on_request_headers", "has two arguments in ABI 0.1.0", V1, "args 2 9"},
    {"proxy_on_request_headers", "is the same in ABI 0.2.0", V20, "args 2 9 0"},
    {"proxy_on_request_headers", "holds everything with 1, and no body callback comes", 0,
     "return 1; at REQB; never; expect outcome paused; expect upbody ''"},
    {"proxy_on_request_headers", "passes the headers and ends the message with 2", 0,
     "return 2; at REQB; never; expect outcome done; expect upbody ''; expect up x-one '1'"},
    {"proxy_on_request_headers", "holds with 3 and 4, and with what is unknown", 0, "return 3; at REQB; never; expect outcome paused"},
    {"proxy_on_request_headers", "holds with 4", 0, "return 4; at REQB; never; expect outcome paused"},
    {"proxy_on_request_headers", "takes an unknown value as 4", 0, "return 99; at REQB; never; expect outcome paused"},
    {"proxy_on_request_headers", "resumes after each way of holding", 0,
     RESUME_ON_TICK(0) "at REQH; return 4; at REQB 1; args 2 6 0; host tick; expect outcome done; expect upbody 'hello world'"},
    {"proxy_on_request_headers", "resumes a bodiless message that was held", 0,
     "message get; " RESUME_ON_TICK(0) "at REQH; return 1; at REQB; never; host tick; expect outcome done"},
    {"proxy_on_request_headers", "ends the VM with a trap; the request fails and nothing else is called", 0,
     "trap; at REQB; never; at RESH; never; at LOG; never; at DONE; never; at DELETE; never; expect status 500; expect dead"},
    {"proxy_on_request_body", "comes for each chunk, the last with the end", 0,
     "at REQB 1; args 2 6 0; at REQB 2; args 2 5 1; at REQB 3; never"},
    {"proxy_on_request_body", "comes with no bytes when the end comes by itself", 0, "message late; at REQB 3; args 2 0 1"},
    {"proxy_on_request_body", "has no end where trailers follow", 0, "message trailers; at REQB 2; args 2 5 0; at REQT; args 2 2"},
    {"proxy_on_request_body", "keeps with 1: the next size covers all", 0,
     "at REQB 1; return 1; at REQB 2; args 2 11 1; expect upbody 'hello world'"},
    {"proxy_on_request_body", "keeps with 2", 0,
     RESUME_ON_TICK(0) "at REQB; return 2; expect outcome paused; host tick; expect outcome done; expect upbody 'hello world'"},
    {"proxy_on_request_body", "drops the chunk with 3", 0, "at REQB 1; return 3; expect upbody 'world'"},
    {"proxy_on_request_body", "takes an unknown value as 3", 0, "at REQB 1; return 77; expect upbody 'world'"},
    {"proxy_on_request_body", "waits at the end with 1 until it is resumed", 0,
     RESUME_ON_TICK(0) "at REQB; return 1; expect outcome paused; host tick; expect outcome done; expect upbody 'hello world'"},
    {"proxy_on_request_body", "fails the request with a trap", 0, "at REQB 2; trap; expect status 500"},
    {"proxy_on_request_trailers", "comes with the number of pairs", 0, "message trailers; at REQT; args 2 2; expect uptrailer t-one '1'"},
    {"proxy_on_request_trailers", "does not come where there are none", 0, "at REQT; never"},
    {"proxy_on_request_trailers", "holds with 1 until it is resumed", 0,
     "message trailers; " RESUME_ON_TICK(
         0) "at REQT; return 1; expect outcome paused; host tick; expect outcome done; expect uptrailer t-one '1'"},
    {"proxy_on_request_trailers", "lets a body go that was kept", 0,
     "message trailers; at REQB; return 1; at REQT; reached; expect upbody 'hello world'; expect uptrailer t-two '2'"},
    {"proxy_on_request_trailers", "takes an unknown value as 1", 0, "message trailers; at REQT; return 5; expect outcome paused"},
    {"proxy_on_request_metadata", "may be exported and is never called over HTTP/1", 0, "at REQM; never"},

    /* ---- response ---- */
    {"proxy_on_response_headers", "comes with the number of pairs, and no end where a body follows", 0, "at RESH; args 2 5 0"},
    {"proxy_on_response_headers", "comes with the end where nothing follows", 0, "message empty; at RESH; args 2 5 1; at RESB; never"},
    {"proxy_on_response_headers", "has two arguments in ABI 0.1.0", V1, "at RESH; args 2 5"},
    {"proxy_on_response_headers", "holds everything with 1", 0,
     "at RESH; return 1; at RESB; never; expect outcome paused; expect status 0"},
    {"proxy_on_response_headers", "passes the headers and ends the message with 2", 0,
     "at RESH; return 2; at RESB; never; expect outcome done; expect status 200; expect downbody ''"},
    {"proxy_on_response_headers", "resumes, and its body comes to this filter first", 0,
     RESUME_ON_TICK(1) "at RESH; return 3; at RESB 1; args 2 8 1; host tick; expect outcome done; expect downbody 'response'"},
    {"proxy_on_response_headers", "fails the response with a trap", 0, "at RESH; trap; expect status 500; expect downbody ''"},
    {"proxy_on_response_body", "comes for each chunk, the last with the end", 0,
     "at RESB 1; args 2 4 0; at RESB 2; args 2 4 1; at RESB 3; never"},
    {"proxy_on_response_body", "keeps with 1: the next size covers all", 0,
     "at RESB 1; return 1; at RESB 2; args 2 8 1; expect downbody 'response'"},
    {"proxy_on_response_body", "waits at the end with 1 until it is resumed", 0,
     RESUME_ON_TICK(1) "at RESB; return 1; expect outcome paused; host tick; expect outcome done; expect downbody 'response'"},
    {"proxy_on_response_body", "drops the chunk with 3", 0, "at RESB 1; return 3; expect downbody 'onse'"},
    {"proxy_on_response_body", "resets with a trap when the headers have gone", 0, "at RESB 2; trap; expect outcome reset"},
    {"proxy_on_response_trailers", "comes with the number of pairs", 0,
     "message trailers; at RESB 2; args 2 4 0; at REST; args 2 2; expect downtrailer t-one '1'"},
    {"proxy_on_response_trailers", "holds with 1 until it is resumed", 0,
     "message trailers; " RESUME_ON_TICK(
         1) "at REST; return 1; expect outcome paused; host tick; expect outcome done; expect downtrailer t-two '2'"},
    {"proxy_on_response_metadata", "may be exported and is never called over HTTP/1", 0, "at RESM; never"},

    /* ---- end ---- */
    {"proxy_on_log", "comes once for a stream", 0, "at LOG; args 2; at LOG 2; never"},
    {"proxy_on_log", "comes after a local reply", 0,
     "call proxy_send_local_response 403 null null null -1; at LOG; args 2; expect status 403"},
    {"proxy_on_log", "comes for a client that has gone", 0, "return 1; at LOG; args 2; host gone; host free"},
    {"proxy_on_done", "comes for the stream, whatever it answers", 0, "at DONE 1; args 2; return 0; at DELETE 1; args 2"},
    {"proxy_on_delete", "comes last, the stream before the root", 0, "at DELETE 1; args 2; at DELETE 2; args 1; at DONE 2; args 1"},
    {"proxy_on_done", "delays the end of a root that answers 0 until proxy_done", 0,
     TICKING "at DONE 2; args 1; return 0; at DELETE 2; args 1"},

    /* ---- other events ---- */
    {"proxy_on_tick", "comes for the root context", 0, TICKING "at TICK; args 1; host tick"},
    {"proxy_on_tick", "ends the VM with a trap, and no tick comes after that", 0,
     TICKING "at TICK; trap; host tick; expect timers 0; expect dead"},
    {"proxy_on_tick", "fails a stream that waits when it traps", 0,
     TICKING "at REQH; return 1; at TICK; trap; host tick; host run; expect dead; expect status 500"},
    {"proxy_on_queue_ready", "comes for items of others too", 0,
     "at CONFIGURE; call proxy_register_shared_queue 'q' &t; at QUEUE; args 1 1; host push 'q' 'x'; expect queue 'q' 1"},
    {"proxy_on_http_call_response", "comes with what came back", 0,
     "call proxy_http_call 'up' {:method=GET,:path=/,:authority=a} null null 0 &t; at CALLRES; args 1 4 2 6 1; host answer"},
    {"proxy_on_http_call_response", "does not come for a filter that has gone", 0,
     "call proxy_http_call 'up' {:method=GET,:path=/,:authority=a} null null 0 &t; at CALLRES; never; expect calls 1"},
    {"proxy_on_http_call_response", "ends the VM with a trap", 0,
     "call proxy_http_call 'up' {:method=GET,:path=/,:authority=a} null null 0 &t; return 1; at CALLRES; trap; host answer; host run; "
     "expect dead; expect "
     "status 500"},
    {"proxy_on_grpc_receive_initial_metadata", "comes for the root context with the token of its stream", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCI; args 1 6 3; host grpc headers"},
    {"proxy_on_grpc_receive_initial_metadata", "has the same type in 0.1.0", CF_ABI_0_1_0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCI; args 1 6 3; host grpc headers"},
    {"proxy_on_grpc_receive_initial_metadata", "does not come for a filter that has gone", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCI; never; expect grpcs 1"},
    {"proxy_on_grpc_receive_initial_metadata", "ends the VM with a trap", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; return 1; at GRPCI; trap; host grpc headers; host run; expect dead; "
     "expect grpcs 0; expect status 500"},
    {"proxy_on_grpc_receive", "comes for the root context with the token of its stream", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCR; args 1 6 1; host grpc message 'x'"},
    {"proxy_on_grpc_receive", "has the same type in 0.1.0", CF_ABI_0_1_0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCR; args 1 6 1; host grpc message 'x'"},
    {"proxy_on_grpc_receive", "does not come for a filter that has gone", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCR; never; expect grpcs 1"},
    {"proxy_on_grpc_receive", "ends the VM with a trap", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; return 1; at GRPCR; trap; host grpc message 'x'; host run; expect dead; "
     "expect grpcs 0; expect status 500"},
    {"proxy_on_grpc_receive_trailing_metadata", "comes for the root context with the token of its stream", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCT; args 1 6 2; host grpc trailers"},
    {"proxy_on_grpc_receive_trailing_metadata", "has the same type in 0.1.0", CF_ABI_0_1_0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCT; args 1 6 2; host grpc trailers"},
    {"proxy_on_grpc_receive_trailing_metadata", "does not come for a filter that has gone", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCT; never; expect grpcs 1"},
    {"proxy_on_grpc_receive_trailing_metadata", "ends the VM with a trap", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; return 1; at GRPCT; trap; host grpc trailers; host run; expect dead; "
     "expect grpcs 0; expect status 500"},
    {"proxy_on_grpc_close", "comes for the root context with the token of its stream", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCC; args 1 6 14; host grpc close 14"},
    {"proxy_on_grpc_close", "has the same type in 0.1.0", CF_ABI_0_1_0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCC; args 1 6 14; host grpc close 14"},
    {"proxy_on_grpc_close", "does not come for a filter that has gone", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; at GRPCC; never; expect grpcs 1"},
    {"proxy_on_grpc_close", "ends the VM with a trap", 0,
     "call proxy_grpc_stream 'up' 'pkg.Service' 'Method' null &t; return 1; at GRPCC; trap; host grpc close 14; host run; expect dead; "
     "expect grpcs 0; expect status 500"},
    {"proxy_on_foreign_function", "comes for the stream that asked, with the address and the name", 0,
     RESOLVE "at FOREIGN; args 2 0 8; call proxy_get_buffer_bytes 8 0 100 &q &m; show q m = '\\x04\\x0a\\0\\0\\x01a.b'; "
             "call proxy_continue_stream 0; host run; expect outcome paused; host resolved '\\x0a\\0\\0\\x01'; expect outcome done"},
    {"proxy_on_foreign_function", "has no address where there is none", 0,
     RESOLVE "at FOREIGN; args 2 0 4; call proxy_get_buffer_bytes 8 0 100 &q &m; show q m = '\\0a.b'; host run; host resolved none"},
    {"proxy_on_foreign_function", "comes for the root context that asked", 0,
     "at CONFIGURE; call proxy_call_foreign_function 'resolve_lua' 'a.b' &p &n; at FOREIGN; args 1 0 4; host resolved none"},
    {"proxy_on_foreign_function", "does not come for a stream that has gone, which is counted", 0,
     RESOLVE "at FOREIGN; never; host run; host free; expect resolves 0; expect outcancels 1; expect dropped 1"},
    {"proxy_on_foreign_function", "is not there in 0.1.0", CF_ABI_0_1_0, RESOLVE "at FOREIGN; never; host run; host resolved none"},
    {"proxy_on_foreign_function", "ends the VM with a trap", 0,
     RESOLVE "at FOREIGN; trap; host run; host resolved none; host run; expect dead; expect status 500"},
    {"proxy_on_foreign_function", "has no data afterwards", 0,
     RESOLVE
     "at FOREIGN; call proxy_continue_stream 0; at RESH; call proxy_get_buffer_bytes 8 0 9 &q &m = 1; host run; host resolved none"},
    {"proxy_on_redis_call_response", "comes for the root context with the answer in buffer 9", 0,
     REDIS "at REDIS; args 1 7 0 7; call proxy_get_buffer_bytes 9 0 100 &q &m; show q m = '+PONG\\r\\n'; "
           "call proxy_set_effective_context 2; call proxy_continue_stream 0; host run; host redis '+PONG\\r\\n'; expect outcome done; "
           "expect redises 0"},
    {"proxy_on_redis_call_response", "tells a failure by its status, without an answer", 0,
     REDIS "at REDIS; args 1 7 11 0; call proxy_get_buffer_bytes 9 0 100 &q &m = 1; call proxy_get_status &c &q &m; u32 c = 11; host run; "
           "host redisfail"},
    {"proxy_on_redis_call_response", "gives errors of the server as answers", 0,
     REDIS "at REDIS; args 1 7 0 6; host run; host redis '-ERR\\r\\n'"},
    {"proxy_on_redis_call_response", "tells that the time is over", 0,
     "call proxy_redis_init 'up' null null 50; call proxy_redis_call 'up' " PING " &t; return 1; at REDIS; args 1 7 11 0; host run; "
     "host advance 49; expect redises 1; host advance 1; expect redises 0"},
    {"proxy_on_redis_call_response", "comes when the stream that asked has gone", 0,
     REDIS "at REDIS; args 1 7 0 5; host run; host free; host redis '+OK\\r\\n'"},
    {"proxy_on_redis_call_response", "does not come for a filter that has gone", 0, REDIS "at REDIS; never; host run; expect redises 1"},
    {"proxy_on_redis_call_response", "is not there in 0.1.0", CF_ABI_0_1_0, REDIS "at REDIS; never; host run; host redis '+OK\\r\\n'"},
    {"proxy_on_redis_call_response", "may make another call", 0,
     REDIS "at REDIS 1; call proxy_redis_call 'up' " PING " &t; u32 t = 11; at REDIS 2; args 1 11 0 5; host run; host redis "
           "'+OK\\r\\n'; host redis '+OK\\r\\n'"},
    {"proxy_on_redis_call_response", "ends the VM with a trap, and with it the other calls", 0,
     REDIS "call proxy_redis_call 'up' " PING
           " &t; at REDIS; trap; host run; expect redises 2; host redis '+OK\\r\\n'; host run; expect dead; "
           "expect redises 0; expect status 500"},
    {"envoy_on_resolve_dns", "comes for the root context with all addresses", 0,
     "call envoy_resolve_dns 'a.b' &t; return 1; at DNS; args 1 4 17; call proxy_get_buffer_bytes 8 0 100 &q &m; "
     "show q m = '\\x01\\0\\0\\0\\x3c\\0\\0\\010.0.0.1\\0'; host run; host resolved '\\x0a\\0\\0\\x01'"},
    {"envoy_on_resolve_dns", "has no data where there is no address", 0,
     "call envoy_resolve_dns 'a.b' &t; return 1; at DNS; args 1 4 0; host run; host resolved none"},
    {"envoy_on_stats_update", "may be exported", 0, "at STATS; never"},
    {"proxy_on_new_connection", "may be exported and is never called for HTTP", 0, "at NEWCONN; never"},
    {"proxy_on_downstream_data", "may be exported and is never called for HTTP", 0, "at DOWNDATA; never"},
    {"proxy_on_upstream_data", "may be exported and is never called for HTTP", 0, "at UPDATA; never"},
    {"proxy_on_downstream_connection_close", "may be exported and is never called for HTTP", 0, "at DOWNCLOSE; never"},
    {"proxy_on_upstream_connection_close", "may be exported and is never called for HTTP", 0, "at UPCLOSE; never"},
    {NULL, NULL, 0, NULL},
};
