/* Cases of the host calls that work on the message: header maps, bodies, properties, streams, local replies. */
#include "cf_run.h"

#define V1 CF_ABI_0_1_0

const cf_case_t cf_cases_message[] = {
    /* ---- proxy_get_header_map_pairs ---- */
    {"proxy_get_header_map_pairs", "gives all request headers in order, names in lower case, pseudo headers first", 0,
     "call proxy_get_header_map_pairs 0 &p &n; u32 n = 188; show p n has 'x-mixed\\0M\\0'; show p n has ':method\\0POST\\0:path\\0'"},
    {"proxy_get_header_map_pairs", "gives response headers in the response callback", 0,
     "at RESH; call proxy_get_header_map_pairs 2 &p &n; show p n = {:status=200,content-type=text/plain,x-up=u,set-cookie=a\\x3d1,"
     "set-cookie=b\\x3d2}"},
    {"proxy_get_header_map_pairs", "gives request trailers in their callback", 0,
     "message trailers; at REQT; call proxy_get_header_map_pairs 1 &p &n; show p n = {t-one=1,t-two=2}"},
    {"proxy_get_header_map_pairs", "gives response trailers in their callback", 0,
     "message trailers; at REST; call proxy_get_header_map_pairs 3 &p &n; show p n = {t-one=1,t-two=2}"},
    {"proxy_get_header_map_pairs", "answers an unavailable map with nothing and Ok", 0,
     "call proxy_get_header_map_pairs 2 &p &n; u32 p = 0; u32 n = 0; call proxy_get_header_map_pairs 4 &p &n; u32 p = 0; u32 n = 0"},
    {"proxy_get_header_map_pairs", "refuses a map that does not exist", 0,
     "call proxy_get_header_map_pairs 8 &p &n = 2; untouched p; untouched n; call proxy_get_header_map_pairs 0xffffffff &p &n = 2"},
    {"proxy_get_header_map_pairs", "answers InvalidMemoryAccess when the guest has no memory to give", 0,
     "malloc fail; call proxy_get_header_map_pairs 0 &p &n = 6; untouched p; malloc ok; call proxy_get_header_map_pairs 0 &p &n"},
    {"proxy_get_header_map_pairs", "survives an allocator that answers outside of memory", 0,
     "malloc wild; call proxy_get_header_map_pairs 0 &p &n = 6; malloc ok; call proxy_get_header_map_pairs 0 &p &n"},
    {"proxy_get_header_map_pairs", "survives an allocator that traps", 0, "malloc trap; call proxy_get_header_map_pairs 0 &p &n traps"},
    {"proxy_get_header_map_pairs", "finds the memory again after the allocator has moved it", 0,
     "malloc grow; call proxy_get_header_map_pairs 0 &p &n; show p n has 'x-mixed\\0M\\0'; u32 n = 188"},

    /* ---- proxy_get_header_map_value ---- */
    {"proxy_get_header_map_value", "finds a header whatever the case of its name", 0,
     "call proxy_get_header_map_value 0 'X-ONE' &p &n; show p n = '1'; call proxy_get_header_map_value 0 'x-mixed' &q &m; show q m = 'M'"},
    {"proxy_get_header_map_value", "gives the first of several values", 0,
     "call proxy_get_header_map_value 0 'x-two' &p &n; show p n = 'a'"},
    {"proxy_get_header_map_value", "reads pseudo headers", 0,
     "call proxy_get_header_map_value 0 ':path' &p &n; show p n = '/p/a?x=1&y=2'; call proxy_get_header_map_value 0 ':authority' &q &m; "
     "show q m = 'example.test'"},
    {"proxy_get_header_map_value", "answers an empty value with nothing and Ok, and does not call the allocator", 0,
     "malloc trap; call proxy_get_header_map_value 0 'x-empty' &p &n; u32 p = 0; u32 n = 0"},
    {"proxy_get_header_map_value", "answers NotFound for a header that is missing", 0,
     "call proxy_get_header_map_value 0 'x-none' &p &n = 1; untouched p; untouched n"},
    {"proxy_get_header_map_value", "answers a missing header with nothing and Ok in ABI 0.1.0", V1,
     "call proxy_get_header_map_value 0 'x-none' &p &n; u32 p = 0; u32 n = 0"},
    {"proxy_get_header_map_value", "answers BadArgument for a map that is not there yet", 0,
     "call proxy_get_header_map_value 2 ':status' &p &n = 2; untouched p"},
    {"proxy_get_header_map_value", "refuses a map that does not exist", 0, "call proxy_get_header_map_value 8 'x-one' &p &n = 2"},
    {"proxy_get_header_map_value", "takes an empty name as one that is missing", 0, "call proxy_get_header_map_value 0 null &p &n = 1"},
    {"proxy_get_header_map_value", "lets both out parameters lie in the name", 0,
     "call proxy_get_header_map_value 0 'x-one' 0x4000 0x4001 = 0; call proxy_get_header_map_value 0 'x-one' &p &n; show p n = '1'"},
    {"proxy_get_header_map_value", "still reads request headers in response callbacks", 0,
     "at RESH; call proxy_get_header_map_value 0 'x-one' &p &n; show p n = '1'"},
    {"proxy_get_header_map_value", "reads all maps of the message in on_log, NotFound for the absent", 0,
     "message trailers; at LOG; call proxy_get_header_map_value 0 'x-one' &p &n; show p n = '1'; "
     "call proxy_get_header_map_value 2 ':status' &q &m; show q m = '200'; call proxy_get_header_map_value 2 'x-none' &q &m = 1"},

    /* ---- proxy_add_header_map_value ---- */
    {"proxy_add_header_map_value", "appends a second entry, with its name in lower case", 0,
     "call proxy_add_header_map_value 0 'X-One' '2'; call proxy_get_header_map_value 0 'x-one' &p &n; show p n = '1'; "
     "call proxy_get_header_map_pairs 0 &q &m; show q m has 'x-empty\\0\\0x-one\\02\\0'"},
    {"proxy_add_header_map_value", "is seen upstream", 0, "call proxy_add_header_map_value 0 'x-new' 'v'; expect up x-new 'v'"},
    {"proxy_add_header_map_value", "is seen downstream", 0,
     "at RESH; call proxy_add_header_map_value 2 'x-new' 'v'; expect down x-new 'v'"},
    {"proxy_add_header_map_value", "takes an empty value", 0, "call proxy_add_header_map_value 0 'x-new' null; expect up x-new ''"},
    {"proxy_add_header_map_value", "answers BadArgument for a map that is not there", 0,
     "call proxy_add_header_map_value 2 'x-new' 'v' = 2; call proxy_add_header_map_value 6 'x-new' 'v' = 2; call "
     "proxy_add_header_map_value 9 "
     "'x-new' 'v' = 2"},
    {"proxy_add_header_map_value", "makes trailers at the end of a request that has none", 0,
     "at REQB 2; call proxy_add_header_map_value 1 'x-t' 'v'; expect uptrailer x-t 'v'"},
    {"proxy_add_header_map_value", "makes trailers at the end of a response that has none", 0,
     "at RESB 2; call proxy_add_header_map_value 3 'x-t' 'v'; expect downtrailer x-t 'v'"},
    {"proxy_add_header_map_value", "adds to trailers that came", 0,
     "message trailers; at REST; call proxy_add_header_map_value 3 'x-t' 'v'; expect downtrailer x-t 'v'; expect downtrailer t-one '1'"},
    {"proxy_add_header_map_value", "is refused once the request headers have gone", 0,
     "at RESH; call proxy_add_header_map_value 0 'x-late' 'v' = 2"},

    /* ---- proxy_replace_header_map_value ---- */
    {"proxy_replace_header_map_value", "leaves one entry of several", 0,
     "call proxy_replace_header_map_value 0 'X-Two' 'c'; call proxy_get_header_map_pairs 0 &p &n; show p n has 'x-two\\0c\\0x-mixed'; "
     "expect up x-two 'c'"},
    {"proxy_replace_header_map_value", "creates what is not there", 0,
     "call proxy_replace_header_map_value 0 'x-new' 'v'; expect up x-new 'v'"},
    {"proxy_replace_header_map_value", "changes pseudo headers", 0,
     "call proxy_replace_header_map_value 0 ':path' '/other'; call proxy_replace_header_map_value 0 ':authority' 'b.test'; "
     "call proxy_replace_header_map_value 0 ':method' 'PUT'; expect up :path '/other'; expect up :authority 'b.test'; expect up :method "
     "'PUT'"},
    {"proxy_replace_header_map_value", "changes the status of a response", 0,
     "at RESH; call proxy_replace_header_map_value 2 ':status' '418'; expect status 418"},
    {"proxy_replace_header_map_value", "refuses control characters, DEL and names that are no tokens", 0,
     "call proxy_replace_header_map_value 0 'x-a' 'b\\x01c' = 2; call proxy_replace_header_map_value 0 'x-a' 'b\\x7f' = 2; "
     "call proxy_replace_header_map_value 0 'x a' 'b' = 2; call proxy_replace_header_map_value 0 'x:a' 'b' = 2; "
     "call proxy_replace_header_map_value 0 'x\\na' 'b' = 2; call proxy_replace_header_map_value 0 null 'b' = 2; "
     "call proxy_replace_header_map_value 0 'x-a' 'b\\tc\\xff'; expect up x-a 'b\\tc\\xff'"},
    {"proxy_replace_header_map_value", "refuses a status that does not end the message", 0,
     "at RESH; call proxy_replace_header_map_value 2 ':status' '100' = 2; call proxy_replace_header_map_value 2 ':status' '199' = 2; call "
     "proxy_replace_header_map_value 2 ':status' '101' = 2; "
     "call proxy_set_header_map_pairs 2 {:status=103,a=b} = 2; expect status 200; expect down x-up 'u'"},
    {"proxy_replace_header_map_value", "answers BadArgument for a map that is not there", 0,
     "call proxy_replace_header_map_value 3 'x-new' 'v' = 2; call proxy_replace_header_map_value 77 'x-new' 'v' = 2"},

    {"proxy_send_local_response", "refuses a status that does not end the message", 0,
     "call proxy_send_local_response 100 null null null -1 = 2; call proxy_send_local_response 101 null null null -1 = 2; "
     "call proxy_send_local_response 199 null null null -1 = 2; call proxy_send_local_response 1000 null null null -1 = 2; expect status "
     "200"},

    /* ---- proxy_remove_header_map_value ---- */
    {"proxy_remove_header_map_value", "removes all entries of a name", 0,
     "call proxy_remove_header_map_value 0 'X-TWO'; call proxy_get_header_map_value 0 'x-two' &p &n = 1; expect up x-two none; expect up "
     "x-one '1'"},
    {"proxy_remove_header_map_value", "does not mind an absent name", 0, "call proxy_remove_header_map_value 0 'x-none'"},
    {"proxy_remove_header_map_value", "answers BadArgument for a map that is not there", 0,
     "call proxy_remove_header_map_value 2 'x-up' = 2; call proxy_remove_header_map_value 100 'x-up' = 2"},
    {"proxy_remove_header_map_value", "removes a trailer", 0,
     "message trailers; at REQT; call proxy_remove_header_map_value 1 't-one'; expect uptrailer t-one none; expect uptrailer t-two '2'"},

    /* ---- proxy_set_header_map_pairs ---- */
    {"proxy_set_header_map_pairs", "replaces the whole map and keeps duplicates", 0,
     "at RESH; call proxy_set_header_map_pairs 2 {:status=201,set-cookie=x,set-cookie=y,A-B=c}; call proxy_get_header_map_pairs 2 &p &n; "
     "show p n = {:status=201,set-cookie=x,set-cookie=y,a-b=c}; expect status 201; expect down x-up none; expect down a-b 'c'"},
    {"proxy_set_header_map_pairs", "replaces the request's map", 0,
     "call proxy_set_header_map_pairs 0 {:method=GET,:path=/q,:authority=z.test,x-only=1}; expect up :path '/q'; expect up x-only '1'; "
     "expect up x-one none"},
    {"proxy_set_header_map_pairs", "clears trailers with an empty list in each spelling", 0,
     "message trailers; at REQT; call proxy_set_header_map_pairs 1 null; call proxy_get_header_map_pairs 1 &p &n; u32 n = 0; "
     "call proxy_set_header_map_pairs 1 {a=b}; call proxy_set_header_map_pairs 1 '\\0\\0\\0\\0'; call proxy_get_header_map_pairs 1 &p &n; "
     "u32 n = 0; "
     "call proxy_set_header_map_pairs 1 {a=b}; call proxy_set_header_map_pairs 1 '\\0'; call proxy_get_header_map_pairs 1 &p &n; u32 n = "
     "0"},
    {"proxy_set_header_map_pairs", "takes malformed pairs as none: cut, too many, trailing byte, no terminator", 0,
     "message trailers; at REQT; call proxy_set_header_map_pairs 1 '\\x02\\0\\0\\0\\x01\\0\\0\\0\\x01\\0\\0\\0'; call "
     "proxy_get_header_map_pairs 1 &p &n; "
     "u32 n = 0; call proxy_set_header_map_pairs 1 '\\xff\\xff\\xff\\xff'; call proxy_set_header_map_pairs 1 "
     "'\\x01\\0\\0\\0\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xffab'; call proxy_set_header_map_pairs 1 "
     "'\\x01\\0\\0\\0\\x01\\0\\0\\0\\x01\\0\\0\\0a\\0b\\0x'; "
     "call proxy_get_header_map_pairs 1 &p &n; u32 n = 0; call proxy_set_header_map_pairs 1 "
     "'\\x01\\0\\0\\0\\x01\\0\\0\\0\\x01\\0\\0\\0axbx'; "
     "call proxy_get_header_map_pairs 1 &p &n; u32 n = 0"},
    {"proxy_set_header_map_pairs", "answers BadArgument for a map that is not there", 0,
     "call proxy_set_header_map_pairs 2 {a=b} = 2; call proxy_set_header_map_pairs 7 {a=b} = 2; call proxy_set_header_map_pairs 8 {a=b} = "
     "2"},

    /* ---- proxy_get_header_map_size ---- */
    {"proxy_get_header_map_size", "gives the bytes of all names and values", 0, "call proxy_get_header_map_size 0 &n; u32 n = 94"},
    {"proxy_get_header_map_size", "answers BadArgument for a map that is not there", 0,
     "call proxy_get_header_map_size 2 &n = 2; untouched n; call proxy_get_header_map_size 8 &n = 2"},

    /* ---- proxy_get_buffer_bytes ---- */
    {"proxy_get_buffer_bytes", "gives the chunk of the request body", 0,
     "at REQB 1; call proxy_get_buffer_bytes 0 0 100 &p &n; show p n = 'hello '; at REQB 2; call proxy_get_buffer_bytes 0 0 5 &p &n; show "
     "p n = 'world'"},
    {"proxy_get_buffer_bytes", "gives the chunk of the response body", 0,
     "at RESB 1; call proxy_get_buffer_bytes 1 0 100 &p &n; show p n = 'resp'"},
    {"proxy_get_buffer_bytes", "honours start and clamps what is past the end", 0,
     "at REQB 1; call proxy_get_buffer_bytes 0 1 3 &p &n; show p n = 'ell'; call proxy_get_buffer_bytes 0 4 100 &p &n; show p n = 'o '; "
     "call proxy_get_buffer_bytes 0 1 0xffffffff &p &n; show p n = 'ello '"},
    {"proxy_get_buffer_bytes", "answers nothing and Ok behind the end and for no bytes, without the allocator", 0,
     "at REQB 1; malloc trap; call proxy_get_buffer_bytes 0 6 1 &p &n; u32 p = 0; u32 n = 0; call proxy_get_buffer_bytes 0 0xffffffff "
     "0xffffffff &p &n; "
     "u32 p = 0; u32 n = 0; call proxy_get_buffer_bytes 0 0 0 &p &n; u32 n = 0"},
    {"proxy_get_buffer_bytes", "gives all bytes that this filter holds", 0,
     "at REQB 1; return 1; at REQB 2; call proxy_get_buffer_bytes 0 0 100 &p &n; show p n = 'hello world'; expect upbody 'hello world'"},
    {"proxy_get_buffer_bytes", "is empty and Ok in other callbacks of the stream", 0,
     "call proxy_get_buffer_bytes 0 0 10 &p &n; u32 p = 0; u32 n = 0"},
    {"proxy_get_buffer_bytes", "refuses a buffer that does not exist", 0,
     "call proxy_get_buffer_bytes 10 0 1 &p &n = 2; untouched p; call proxy_get_buffer_bytes 0xffffffff 0 1 &p &n = 2"},
    {"proxy_get_buffer_bytes", "answers NotFound for a buffer that this callback has not", 0,
     "call proxy_get_buffer_bytes 4 0 1 &p &n = 1; call proxy_get_buffer_bytes 5 0 1 &p &n = 1; call proxy_get_buffer_bytes 8 0 1 &p &n = "
     "1; "
     "call proxy_get_buffer_bytes 2 0 1 &p &n = 1; call proxy_get_buffer_bytes 3 0 1 &p &n = 1; untouched p"},
    {"proxy_get_buffer_bytes", "gives both configurations at start and later", 0,
     "at CTX 1; call proxy_get_buffer_bytes 7 0 100 &p &n; show p n = 'the plugin configuration'; at CONFIGURE; "
     "call proxy_get_buffer_bytes 7 4 6 &p &n; show p n = 'plugin'; at VM_START; call proxy_get_buffer_bytes 6 0 1 &p &n; u32 n = 1; "
     "at REQH; call proxy_get_buffer_bytes 7 0 100 &p &n; show p n = 'the plugin configuration'"},
    {"proxy_get_buffer_bytes", "answers InvalidMemoryAccess when the guest has no memory to give", 0,
     "at REQB 1; malloc fail; call proxy_get_buffer_bytes 0 0 10 &p &n = 6; untouched p; untouched n"},
    {"proxy_get_buffer", "is another name of proxy_get_buffer_bytes", 0, "at REQB 1; call proxy_get_buffer 0 1 4 &p &n; show p n = 'ello'"},

    /* ---- proxy_get_buffer_status ---- */
    {"proxy_get_buffer_status", "gives the length, and no flags", 0,
     "at REQB 1; call proxy_get_buffer_status 0 &n &f; u32 n = 6; u32 f = 0"},
    {"proxy_get_buffer_status", "knows the configurations", 0, "at CONFIGURE; call proxy_get_buffer_status 7 &n &f; u32 n = 24"},
    {"proxy_get_buffer_status", "refuses a buffer that does not exist", 0, "call proxy_get_buffer_status 10 &n &f = 2; untouched n"},
    {"proxy_get_buffer_status", "answers NotFound for a buffer that this callback has not", 0, "call proxy_get_buffer_status 4 &n &f = 1"},

    /* ---- proxy_set_buffer_bytes ---- */
    {"proxy_set_buffer_bytes", "prepends", 0, "at REQB 1; call proxy_set_buffer_bytes 0 0 0 'oh '; expect upbody 'oh hello world'"},
    {"proxy_set_buffer_bytes", "appends at a start past the end", 0,
     "at REQB 1; call proxy_set_buffer_bytes 0 0x7fffffff 0 'big '; at REQB 2; call proxy_set_buffer_bytes 0 0xffffffff 5 '!'; expect "
     "upbody "
     "'hello big world!'"},
    {"proxy_set_buffer_bytes", "replaces all with a size past the end", 0,
     "at REQB 1; call proxy_set_buffer_bytes 0 0 0x7fffffff 'A'; at REQB 2; call proxy_set_buffer_bytes 0 0 0xffffffff 'B'; expect upbody "
     "'AB'"},
    {"proxy_set_buffer_bytes", "replaces in the middle, inserts, and cuts", 0,
     "at REQB 1; call proxy_set_buffer_bytes 0 1 3 'EY'; call proxy_get_buffer_bytes 0 0 99 &p &n; show p n = 'hEYo '; "
     "call proxy_set_buffer_bytes 0 1 0 '--'; call proxy_get_buffer_bytes 0 0 99 &p &n; show p n = 'h--EYo '; call proxy_set_buffer_bytes "
     "0 0 3 null; "
     "expect upbody 'EYo world'"},
    {"proxy_set_buffer_bytes", "empties a chunk", 0, "at REQB; call proxy_set_buffer_bytes 0 0 100 null; expect upbody ''"},
    {"proxy_set_buffer_bytes", "replaces the whole body that was held", 0,
     "at REQB 1; return 1; at REQB 2; call proxy_set_buffer_bytes 0 0 11 'new'; expect upbody 'new'"},
    {"proxy_set_buffer_bytes", "changes the response body", 0,
     "at RESB 1; return 1; at RESB 2; args 2 8 1; call proxy_set_buffer_bytes 1 0 8 'other text'; expect downbody 'other text'"},
    {"proxy_set_buffer_bytes", "gives an empty message a body at its end", 0,
     "message late; at REQB 3; args 2 0 1; call proxy_set_buffer_bytes 0 0 0 '!'; expect upbody 'hello world!'"},
    {"proxy_set_buffer_bytes", "gives a request without a body one, which can be edited while its headers are here", 0,
     "message get; call proxy_set_buffer_bytes 0 0 0 'one'; call proxy_set_buffer_bytes 0 3 0 ' two'; call proxy_set_buffer_bytes 0 0 3 "
     "'1'; call proxy_get_buffer_status 0 &s &f; u32 s = 5; expect upbody '1 two'; expect outcome done"},
    {"proxy_set_buffer_bytes", "gives a request without a body one while it is paused on its headers", 0,
     "message get; call proxy_set_tick_period_milliseconds 10; return 1; at TICK; call proxy_set_effective_context 2; "
     "call proxy_set_buffer_bytes 0 0 0 'made'; call proxy_get_buffer_bytes 0 0 9 &p &n; show p n = 'made'; call proxy_continue_stream 0; "
     "host tick; expect upbody 'made'; expect outcome done"},
    {"proxy_set_buffer_bytes", "gives a response without a body one while it is paused on its headers", 0,
     "message empty; call proxy_set_tick_period_milliseconds 10; at RESH; return 1; at TICK; call proxy_set_effective_context 2; "
     "call proxy_set_buffer_bytes 1 0 0 'made'; call proxy_continue_stream 1; host tick; expect downbody 'made'; expect outcome done"},
    {"proxy_set_buffer_bytes", "makes no body of nothing", 0,
     "message get; call proxy_set_buffer_bytes 0 0 0 null; expect upbody ''; expect outcome done"},
    {"proxy_set_buffer_bytes", "makes no body for a response that cannot have one", 0,
     "message empty; at RESH; call proxy_replace_header_map_value 2 ':status' '204'; call proxy_set_buffer_bytes 1 0 0 'made' = 2; "
     "expect downbody ''"},
    {"proxy_set_buffer_bytes", "forgets a made body for a local reply", 0,
     "message get; call proxy_set_buffer_bytes 0 0 0 'made'; call proxy_send_local_response 403 null 'no' null -1; return 1; expect upbody "
     "''; expect downbody 'no'"},
    {"proxy_set_buffer_bytes", "refuses configurations, which are read-only", 0,
     "at CONFIGURE; call proxy_set_buffer_bytes 7 0 0 'x' = 2; call proxy_set_buffer_bytes 6 0 0 'x' = 2; call proxy_get_buffer_status 7 "
     "&n &f; u32 n = 24"},
    {"proxy_set_buffer_bytes", "refuses a buffer that does not exist", 0, "call proxy_set_buffer_bytes 10 0 0 'x' = 2"},
    {"proxy_set_buffer_bytes", "answers BadArgument for a body that is not there in this callback", 0,
     "call proxy_set_buffer_bytes 0 0 0 'x' = 2"},
    {"proxy_set_buffer_bytes", "answers NotFound for a buffer that this callback has not", 0, "call proxy_set_buffer_bytes 5 0 0 'x' = 1"},
    {"proxy_set_buffer", "is another name of proxy_set_buffer_bytes", 0,
     "at REQB 1; call proxy_set_buffer 0 0 0 'oh '; expect upbody 'oh hello world'"},

    /* ---- proxy_get_property ---- */
    {"proxy_get_property", "gives strings raw", 0,
     "call proxy_get_property 'request\\0path' &p &n; show p n = '/p/a?x=1&y=2'; call proxy_get_property 'request\\0method' &p &n; show p "
     "n = 'POST'; "
     "call proxy_get_property 'request\\0host' &p &n; show p n = 'example.test'; call proxy_get_property 'request\\0url_path' &p &n; show "
     "p n = '/p/a'; "
     "call proxy_get_property 'request\\0query' &p &n; show p n = 'x=1&y=2'"},
    {"proxy_get_property", "accepts a path that ends in NUL", 0,
     "call proxy_get_property 'request\\0path\\0' &p &n; show p n = '/p/a?x=1&y=2'"},
    {"proxy_get_property", "gives a header by name, its values joined", 0,
     "call proxy_get_property 'request\\0headers\\0x-two' &p &n; show p n = 'a,b'; call proxy_get_property 'request\\0headers\\0x-none' &p "
     "&n = 1"},
    {"proxy_get_property", "gives a header map as pairs", 0,
     "call proxy_get_property 'request\\0headers' &p &n; show p n has 'x-mixed\\0M\\0'"},
    {"proxy_get_property", "gives integers as 8 bytes, little-endian", 0,
     "at RESH; call proxy_get_property 'response\\0code' &p &n; show p n = '\\xc8\\0\\0\\0\\0\\0\\0\\0'"},
    {"proxy_get_property", "encodes each type of value", 0,
     "host prop 'a\\0int' '-2' int; host prop 'a\\0uint' '7' uint; host prop 'a\\0bool' '1' bool; host prop 'a\\0double' '6' double; host "
     "prop 'a\\0time' "
     "'256' timestamp; host prop 'a\\0list' 'x\\0yz\\0' list; host prop 'a\\0str' 'text'; call proxy_get_property 'a\\0int' &p &n; "
     "show p n = '\\xfe\\xff\\xff\\xff\\xff\\xff\\xff\\xff'; call proxy_get_property 'a\\0uint' &p &n; show p n = "
     "'\\x07\\0\\0\\0\\0\\0\\0\\0'; "
     "call proxy_get_property 'a\\0bool' &p &n; show p n = '\\x01'; call proxy_get_property 'a\\0double' &p &n; show p n = "
     "'\\0\\0\\0\\0\\0\\0\\xf8\\x3f'; "
     "call proxy_get_property 'a\\0time' &p &n; show p n = '\\0\\x01\\0\\0\\0\\0\\0\\0'; call proxy_get_property 'a\\0list' &p &n; show p "
     "n = {x=,yz=}; "
     "call proxy_get_property 'a\\0str' &p &n; show p n = 'text'"},
    {"proxy_get_property", "gives what filters keep as filter state too, each and all", 0,
     "call proxy_set_property 'k' 'v'; call proxy_get_property 'filter_state\\0wasm.k' &p &n; show p n = 'v'; "
     "call proxy_get_property 'filter_state' &p &n; show p n = {wasm.k=v}; call proxy_get_property 'filter_state\\0wasm.none' &p &n = 1"},
    {"proxy_get_property", "has no filter state where nothing was kept", 0, "call proxy_get_property 'filter_state' &p &n = 1"},
    {"proxy_get_property", "gives the bytes of the VM's memory", 0, "call proxy_get_property 'plugin_vm_memory' &p &n; u32 n = 8"},
    {"proxy_get_property", "answers NotFound for an unknown path", 0,
     "call proxy_get_property 'no\\0such' &p &n = 1; untouched p; untouched n; call proxy_get_property 'request\\0nothing' &p &n = 1"},
    {"proxy_get_property", "answers NotFound for a response that is not there yet", 0,
     "call proxy_get_property 'response\\0code' &p &n = 1"},
    {"proxy_get_property", "knows the names of the filter in every callback, on_context_create included", 0,
     "at CTX 1; call proxy_get_property 'plugin_root_id' &p &n; show p n = 'root'; at VM_START; call proxy_get_property 'plugin_name' &p "
     "&n; "
     "show p n = 'conformance'; at REQH; call proxy_get_property 'plugin_vm_id' &p &n; show p n = 'vm'; at DELETE 1; "
     "call proxy_get_property 'plugin_name\\0' &p &n; show p n = 'conformance'"},
    {"proxy_get_property", "answers an empty path with SerializationFailure", 0, "call proxy_get_property null &p &n = 3"},
    {"proxy_get_property", "answers an empty string with nothing and Ok", 0,
     "host prop 'e' ''; malloc trap; call proxy_get_property 'e' &p &n; u32 p = 0; u32 n = 0"},

    /* ---- proxy_set_property ---- */
    {"proxy_set_property", "keeps any bytes for the stream", 0,
     "call proxy_set_property 'my\\0own' 'a\\0b'; call proxy_get_property 'my\\0own' &p &n; show p n = 'a\\0b'; at LOG; "
     "call proxy_get_property 'my\\0own\\0' &p &n; show p n = 'a\\0b'"},
    {"proxy_set_property", "replaces what was kept", 0,
     "call proxy_set_property 'k' 'one'; call proxy_set_property 'k' 'two'; call proxy_get_property 'k' &p &n; show p n = 'two'"},
    {"proxy_set_property", "does not change what the proxy knows", 0,
     "call proxy_set_property 'request\\0method' 'X'; call proxy_get_property 'request\\0method' &p &n; show p n = 'POST'"},
    {"proxy_set_property", "answers BadArgument for what is read-only", 0,
     "host prop 'ro' 'v' readonly; call proxy_set_property 'ro' 'x' = 2"},
    {"proxy_set_property", "writes through to the proxy", 0,
     "host prop 'rw' 'v' writable; call proxy_set_property 'rw' 'x'; call proxy_get_property 'rw' &p &n; show p n = 'x'"},
    {"proxy_set_property", "answers NotFound where there is no stream", 0, "at CONFIGURE; call proxy_set_property 'k' 'v' = 1"},
    {"proxy_set_property", "keeps what filters store within its limit", 0,
     "call proxy_set_property 'k' 'v'; call proxy_set_property 'k' null; call proxy_get_property 'k' &p &n; u32 n = 0"},

    /* ---- streams ---- */
    {"proxy_continue_stream", "is harmless when nothing is paused", 0, "call proxy_continue_stream 0; call proxy_continue_stream 1"},
    {"proxy_continue_stream", "refuses a stream type that does not exist", 0,
     "call proxy_continue_stream 4 = 2; call proxy_continue_stream 0xffffffff = 2"},
    {"proxy_continue_stream", "lets go what a tick resumes, and the held body comes to this filter first", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at REQH; return 1; at TICK; call proxy_set_effective_context 2; "
     "call proxy_continue_stream 0; at REQB 1; args 2 6 0; expect outcome paused; expect upbody ''; host tick; expect outcome done; expect "
     "upbody "
     "'hello world'"},
    {"proxy_continue_stream", "resumes a held body without another callback for it", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at REQB; return 1; at REQB 3; never; at TICK; call "
     "proxy_set_effective_context 2; "
     "call proxy_continue_stream 0; expect outcome paused; host tick; expect outcome done; expect upbody 'hello world'"},
    {"proxy_continue_stream", "resumes the response", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at RESH; return 1; at TICK; call proxy_set_effective_context 2; "
     "call proxy_continue_stream 1; expect outcome paused; host tick; expect outcome done; expect downbody 'response'"},
    {"proxy_continue_stream", "called in the callback that then pauses does not lose the wake-up", 0,
     "call proxy_continue_stream 0; return 1; expect outcome done; expect upbody 'hello world'"},
    {"proxy_continue_request", "resumes the request in ABI 0.1.0", V1,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at REQH; return 1; at TICK; call proxy_set_effective_context 2; "
     "call proxy_continue_request; expect outcome paused; host tick; expect outcome done"},
    {"proxy_continue_request", "may be imported without a result", V1, "call proxy_continue_request/void; call proxy_continue_request"},
    {"proxy_continue_response", "resumes the response in ABI 0.1.0", V1,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at RESH; return 1; at TICK; call proxy_set_effective_context 2; "
     "call proxy_continue_response; expect outcome paused; host tick; expect outcome done"},
    {"proxy_continue_response", "may be imported without a result", V1, "call proxy_continue_response/void; call proxy_continue_response"},
    {"proxy_close_stream", "resets the exchange from a request callback", 0,
     "call proxy_close_stream 0; return 1; expect outcome reset; expect status 0"},
    {"proxy_close_stream", "resets the exchange from a response callback", 0,
     "at RESH; call proxy_close_stream 1; return 1; expect outcome reset"},
    {"proxy_close_stream", "refuses a stream type that does not exist", 0, "call proxy_close_stream 4 = 2; expect outcome done"},
    {"proxy_close_stream", "is carried out for a paused stream from elsewhere", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at REQH; return 1; at TICK; call proxy_set_effective_context 2; "
     "call proxy_close_stream 0; host tick; expect outcome reset"},
    {"proxy_clear_route_cache", "tells the proxy to route again", V1,
     "call proxy_clear_route_cache; call proxy_clear_route_cache/void; expect routeclears 2"},
    {"proxy_clear_route_cache", "is there for newer guests too", 0, "call proxy_clear_route_cache; expect outcome done"},

    /* ---- local replies ---- */
    {"proxy_send_local_response", "answers instead of the upstream", 0,
     "call proxy_send_local_response 403 'why not' 'denied' {x-reply=r} 0xffffffff; return 1; expect status 403; expect downbody 'denied'; "
     "expect down "
     "x-reply 'r'; expect upbody ''; expect outcome done"},
    {"proxy_send_local_response", "passes the response callbacks of the filter that sent it", 0,
     "call proxy_send_local_response 403 null 'denied' null -1; return 1; at RESH; args 2 3 0; call proxy_add_header_map_value 2 'x-seen' "
     "'1'; expect "
     "down x-seen '1'; expect status 403"},
    {"proxy_send_local_response", "makes what the callback returns not matter", 0,
     "call proxy_send_local_response 403 null null null -1; return 0; at REQB; never; expect status 403; expect outcome done"},
    {"proxy_send_local_response", "counts once: the first of two wins", 0,
     "call proxy_send_local_response 403 null 'first' null -1; call proxy_send_local_response 404 null 'second' null -1; return 1; expect "
     "status 403; "
     "expect downbody 'first'"},
    {"proxy_send_local_response", "replaces the response from its headers callback, past the filters", 0,
     "at RESH; call proxy_send_local_response 502 null 'bad' null -1; return 1; at RESH 2; never; at RESB; never; expect status 502; "
     "expect downbody "
     "'bad'"},
    {"proxy_send_local_response", "resets when the response headers have gone", 0,
     "at RESB 2; call proxy_send_local_response 502 null 'bad' null -1; return 1; expect outcome reset"},
    {"proxy_send_local_response", "works from the request's body and trailers callbacks", 0,
     "message trailers; at REQB 2; return 1; at REQT; call proxy_send_local_response 400 null 'no' null -1; expect status 400; expect "
     "downbody 'no'"},
    {"proxy_send_local_response", "does nothing from a root context", 0,
     "at CONFIGURE; call proxy_send_local_response 403 null null null -1; expect status 200"},
    {"proxy_send_local_response", "does nothing from on_log", 0,
     "at LOG; call proxy_send_local_response 403 null null null -1; expect status 200"},
    {"proxy_send_local_response", "acts on the effective context", 0,
     "at CONFIGURE; call proxy_set_tick_period_milliseconds 10; at REQH; return 1; at TICK; call proxy_set_effective_context 2; "
     "call proxy_send_local_response 401 null 'late' null -1; host tick; expect status 401; expect downbody 'late'; expect outcome done"},
    {"proxy_send_local_response", "carries a gRPC status", 0,
     "call proxy_send_local_response 200 null null null 7; return 1; expect down grpc-status '7'"},
    {"proxy_send_local_response", "takes a gRPC status outside 0..16 as none", 0,
     "call proxy_send_local_response 200 null null null 17; return 1; expect down grpc-status none"},
    {"proxy_send_local_response", "takes malformed headers as none", 0,
     "call proxy_send_local_response 403 null null '\\xff\\xff\\xff\\xff' -1; return 1; expect status 403"},
    {"proxy_send_http_response", "is another name of proxy_send_local_response", 0,
     "call proxy_send_http_response 403 null 'denied' null -1; return 1; expect status 403"},

    {"proxy_get_configuration", "gives the configuration of the filter in ABI 0.1.0", V1,
     "at CONFIGURE; call proxy_get_configuration &p &n; show p n = 'the plugin configuration'"},
    {NULL, NULL, 0, NULL},
};
