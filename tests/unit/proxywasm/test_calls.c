/* Host calls one by one: ordinary cases and hostile arguments, from a stream's request body callback unless said otherwise. */
#include "pt.h"
#include "pw_table.h"

#include <stdio.h>

typedef void (*script_t)(pt_t *t);

static script_t script;
static pw_stream_t *stream;

static uint32_t play(pt_t *t, uint32_t ctx, uint32_t a1, uint32_t a2) {
    (void)ctx;
    (void)a1;
    (void)a2;
    script(t);
    return 0;
}

static const char *const headers[] = {":method", "GET", ":path", "/x?y", "Accept", "a", "accept", "b", "X-Empty", "", NULL};

/* Runs the script in the callback of a fresh filter and stream. */
static void run_in(pw_cb_t cb, const pw_filter_conf_t *conf, script_t fn) {
    pt_t *t = pt_new(NULL);
    sl_err_t err;
    pw_out_t out;
    pw_filter_conf_t c = conf != NULL ? *conf : (pw_filter_conf_t){0};
    c.opts.root_id = SL_STR("root");
    c.opts.vm_id = SL_STR("vm");
    c.config = SL_STR("config");
    c.vm_config = SL_STR("vm config");
    c.env = &(pw_pair_t){SL_STR("KEY"), SL_STR("value")};
    c.n_env = 1;
    assert_int_equal(pt_filter(t, &c, &err), SL_OK);
    pt_chain(t, NULL);
    script = fn;
    t->on[cb] = play;
    pt_map(t, PW_MAP_REQUEST_HEADERS, headers);
    pt_map(t, PW_MAP_RESPONSE_HEADERS, headers);
    stream = pw_stream_new(t->worker, t->chain, t);
    if (cb == PW_CB_TICK) {
        pw_root_tick(t->filters[0]->root);
    }
    pw_stream_headers(stream, PW_DIR_REQUEST, false, &out);
    pw_stream_body(stream, PW_DIR_REQUEST, (sl_str_t[]){SL_STR("0123"), SL_STR("4567"), SL_STR("89")}, 3, true, &out);
    pw_stream_headers(stream, PW_DIR_RESPONSE, true, &out);
    pw_stream_free(stream);
    pt_free(t);
}

static void run(script_t fn) {
    run_in(PW_CB_REQUEST_BODY, NULL, fn);
}

/* ---- buffers ---- */

static void read_ranges(pt_t *t) {
    static const struct {
        uint32_t start, max;
        const char *text;
    } rows[] = {{0, 10, "0123456789"},
                {0, UINT32_MAX, "0123456789"},
                {1, UINT32_MAX, "123456789"},
                {3, 3, "345"},
                {4, 4, "4567"},
                {9, 5, "9"},
                {10, 1, ""},
                {11, 1, ""},
                {5, 0, ""},
                {UINT32_MAX, UINT32_MAX, ""}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        sl_str_t body;
        assert_int_equal(guest_get_body(t, 0, rows[i].start, rows[i].max, &body), PW_OK);
        assert_str(body, rows[i].text);
    }
}

static void ranges_of_a_body_are_clamped(void **state) {
    (void)state;
    run(read_ranges);
}

static void nothing_to_read_still_writes_the_results(pt_t *t) {
    uint32_t at = guest_put(t, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    assert_int_equal(guest_call(t, "proxy_get_buffer_bytes", 0, 10, 1, at, at + 4), PW_OK);
    assert_int_equal(guest_u32(t, at), 0);
    assert_int_equal(guest_u32(t, at + 4), 0);
}

static void an_empty_result_is_written_as_null_and_zero(void **state) {
    (void)state;
    run(nothing_to_read_still_writes_the_results);
}

static void edit_body(pt_t *t) {
    static const struct {
        uint32_t start, size;
        const char *data, *after;
    } rows[] = {
        {0, UINT32_MAX, "abcdef", "abcdef"},
        {0, 0, "<", "<abcdef"},
        {0x7fffffff, 0, ">", "<abcdef>"},
        {UINT32_MAX, UINT32_MAX, "!", "<abcdef>!"},
        {1, 2, "AB", "<ABcdef>!"},
        {3, 0, "--", "<AB--cdef>!"},
        {0, 1, "", "AB--cdef>!"},
        {2, 2, "", "ABcdef>!"},
        {0, 0x7fffffff, "", ""},
        {0, 5, "set", "set"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        sl_str_t body;
        assert_int_equal(guest_set_body(t, 0, rows[i].start, rows[i].size, rows[i].data), PW_OK);
        assert_int_equal(guest_get_body(t, 0, 0, UINT32_MAX, &body), PW_OK);
        assert_str(body, rows[i].after);
    }
}

static void bodies_are_edited_at_any_place(void **state) {
    (void)state;
    run(edit_body);
}

static void buffers_and_where_they_are(pt_t *t) {
    sl_str_t body;
    uint32_t at = guest_room(t, 8);
    assert_int_equal(guest_get_body(t, 1, 0, 9, &body), PW_OK);
    assert_str(body, "");
    assert_int_equal(guest_set_body(t, 1, 0, 9, "x"), PW_BAD_ARGUMENT);
    assert_int_equal(guest_get_body(t, 6, 0, 9, &body), PW_OK);
    assert_str(body, "vm config");
    assert_int_equal(guest_get_body(t, 7, 3, 9, &body), PW_OK);
    assert_str(body, "fig");
    assert_int_equal(guest_set_body(t, 7, 0, 0, "x"), PW_BAD_ARGUMENT);
    for (uint32_t type = 2; type < 10; type++) {
        uint32_t want = type == 6 || type == 7 ? PW_OK : PW_NOT_FOUND;
        assert_int_equal(guest_get_body(t, type, 0, 9, &body), want);
    }
    assert_int_equal(guest_get_body(t, 10, 0, 9, &body), PW_BAD_ARGUMENT);
    assert_int_equal(guest_get_body(t, UINT32_MAX, 0, 9, &body), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_get_buffer_status", 0, at, at + 4), PW_OK);
    assert_int_equal(guest_u32(t, at), 10);
    assert_int_equal(guest_u32(t, at + 4), 0);
    assert_int_equal(guest_call(t, "proxy_get_buffer_bytes", 0, 0, 9, UINT32_MAX - 2, at), PW_INVALID_MEMORY_ACCESS);
    assert_int_equal(guest_call(t, "proxy_set_buffer_bytes", 0, 0, 0, 16, UINT32_MAX), PW_INVALID_MEMORY_ACCESS);
}

static void each_buffer_answers_its_status(void **state) {
    (void)state;
    run(buffers_and_where_they_are);
}

static void no_body_here(pt_t *t) {
    sl_str_t body;
    assert_int_equal(guest_get_body(t, 0, 0, 9, &body), PW_NOT_FOUND);
    assert_int_equal(guest_header(t, 0, ":path", &body), PW_BAD_ARGUMENT);
    assert_int_equal(guest_edit(t, "proxy_add_header_map_value", 0, "a", "b"), PW_BAD_ARGUMENT);
    assert_int_equal(guest_reply(t, 200, "nobody"), PW_OK);
    assert_int_equal(guest_continue(t, 0), PW_OK);
}

static void a_root_context_has_no_message(void **state) {
    (void)state;
    run_in(PW_CB_TICK, NULL, no_body_here);
}

static void a_body_may_not_grow_over_its_ceiling_script(pt_t *t) {
    static char big[1 << 19];
    memset(big, 'x', sizeof(big));
    uint32_t at = 512 * 1024 - sizeof(big) / 2; /* anywhere in memory will do */
    assert_int_equal(guest_call(t, "proxy_set_buffer_bytes", 0, 0, UINT32_MAX, at, sizeof(big)), PW_OK);
    assert_int_equal(guest_call(t, "proxy_set_buffer_bytes", 0, 0, 0, at, sizeof(big)), PW_OK);
    assert_int_equal(guest_call(t, "proxy_set_buffer_bytes", 0, 0, 0, at, 1), PW_BAD_ARGUMENT);
}

static void a_body_may_not_grow_over_its_ceiling(void **state) {
    (void)state;
    run(a_body_may_not_grow_over_its_ceiling_script);
}

static void edit_body_wasmx(pt_t *t) {
    sl_str_t body;
    assert_int_equal(guest_set_body(t, 0, 0, 0, "<"), PW_OK);
    guest_get_body(t, 0, 0, UINT32_MAX, &body);
    assert_str(body, "<0123456789");
    assert_int_equal(guest_set_body(t, 0, 4, 1, "cut"), PW_OK);
    guest_get_body(t, 0, 0, UINT32_MAX, &body);
    assert_str(body, "<012cut");
    assert_int_equal(guest_set_body(t, 0, 0, 0, ""), PW_OK);
    guest_get_body(t, 0, 0, UINT32_MAX, &body);
    assert_str(body, "");
}

static void wasmx_replaces_from_the_offset_to_the_end(void **state) {
    (void)state;
    run_in(PW_CB_REQUEST_BODY, &(pw_filter_conf_t){.opts.dialect = SL_DIALECT_WASMX}, edit_body_wasmx);
}

/* ---- header maps ---- */

static void headers_ok(pt_t *t) {
    sl_str_t v;
    uint32_t at = guest_room(t, 8);
    assert_int_equal(guest_header(t, 0, "ACCEPT", &v), PW_OK);
    assert_str(v, "a");
    assert_int_equal(guest_header(t, 0, "x-empty", &v), PW_OK);
    assert_str(v, "");
    assert_int_equal(guest_header(t, 0, "none", &v), PW_NOT_FOUND);
    assert_int_equal(guest_header(t, 2, ":status", &v), PW_BAD_ARGUMENT);
    assert_int_equal(guest_header(t, 8, "a", &v), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_get_header_map_pairs", 0, at, at + 4), PW_OK);
    v = guest_result(t, at, at + 4);
    assert_int_equal(v.len, 4 + 5 * 8 + 7 + 3 + 5 + 4 + 6 + 1 + 6 + 1 + 7 + 0 + 10);
    assert_memory_equal(v.data + 4 + 40, ":method\0GET\0:path\0/x?y\0accept\0a\0accept\0b\0x-empty\0\0", 54);
    assert_int_equal(guest_call(t, "proxy_get_header_map_pairs", 2, at, at + 4), PW_OK);
    assert_int_equal(guest_u32(t, at + 4), 0);
    assert_int_equal(guest_call(t, "proxy_get_header_map_pairs", 8, at, at + 4), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_get_header_map_size", 0, at), PW_OK);
    assert_int_equal(guest_u32(t, at), 40);
    assert_int_equal(guest_call(t, "proxy_get_header_map_size", 2, at), PW_BAD_ARGUMENT);
    assert_int_equal(guest_edit(t, "proxy_replace_header_map_value", 0, "Accept", "c"), PW_OK);
    assert_int_equal(guest_edit(t, "proxy_add_header_map_value", 0, "Accept", "d"), PW_OK);
    assert_int_equal(guest_header(t, 0, "accept", &v), PW_OK);
    assert_str(v, "c");
    assert_int_equal(guest_edit(t, "proxy_remove_header_map_value", 0, "accept", NULL), PW_OK);
    assert_int_equal(guest_edit(t, "proxy_remove_header_map_value", 0, "accept", NULL), PW_OK);
    assert_int_equal(guest_header(t, 0, "accept", &v), PW_NOT_FOUND);
}

static void header_maps_are_read_and_changed(void **state) {
    (void)state;
    run_in(PW_CB_REQUEST_HEADERS, NULL, headers_ok);
}

static void headers_bad(pt_t *t) {
    static const char *const values[] = {"a\r\nb: c", "a\nb", "a\rb"};
    static const char *const names[] = {"", "a b", "a:b", "a\r", "na\x01me", "caf\xc3\xa9", "::x"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(guest_edit(t, "proxy_add_header_map_value", 0, "a", values[i]), PW_BAD_ARGUMENT);
    }
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(guest_edit(t, "proxy_replace_header_map_value", 0, names[i], "v"), PW_BAD_ARGUMENT);
    }
    assert_int_equal(guest_call(t, "proxy_add_header_map_value", 0, guest_put(t, "a", 1), 1, guest_put(t, "a\0b", 3), 3), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_add_header_map_value", 0, 4, UINT32_MAX, 4, 1), PW_INVALID_MEMORY_ACCESS);
    assert_int_equal(guest_call(t, "proxy_add_header_map_value", 0, 4, 1, UINT32_MAX, 2), PW_INVALID_MEMORY_ACCESS);
    assert_int_equal(t->maps[0].n, 5);
}

static void names_and_values_that_are_no_headers_are_refused(void **state) {
    (void)state;
    run_in(PW_CB_REQUEST_HEADERS, NULL, headers_bad);
}

static void set_pairs(pt_t *t) {
    static const char good[] = "\2\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\2\0\0\0a\0"
                               "1\0a\0"
                               "22";
    static const char evil[] = "\1\0\0\0\1\0\0\0\2\0\0\0a\0\r\n";
    uint32_t at = guest_put(t, good, sizeof(good));
    assert_int_equal(guest_call(t, "proxy_set_header_map_pairs", 0, at, sizeof(good)), PW_OK);
    assert_int_equal(t->maps[0].n, 2);
    uint32_t bad = guest_put(t, evil, sizeof(evil));
    assert_int_equal(guest_call(t, "proxy_set_header_map_pairs", 0, bad, sizeof(evil)), PW_BAD_ARGUMENT);
    assert_int_equal(t->maps[0].n, 2);
    static char many[4 + 1025 * 10] = {1, 4};
    uint32_t too_many = guest_put(t, many, sizeof(many));
    assert_int_equal(guest_call(t, "proxy_set_header_map_pairs", 0, too_many, sizeof(many)), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_send_local_response", 403, 0, 0, 0, 0, too_many, sizeof(many), UINT32_MAX), PW_BAD_ARGUMENT);
    assert_int_equal(t->maps[0].n, 2);
    assert_int_equal(guest_call(t, "proxy_set_header_map_pairs", 0, at, sizeof(good) - 1), PW_OK); /* malformed: clears */
    assert_int_equal(t->maps[0].n, 0);
    assert_int_equal(guest_call(t, "proxy_set_header_map_pairs", 2, at, sizeof(good)), PW_BAD_ARGUMENT);
}

static void whole_maps_are_set(void **state) {
    (void)state;
    run_in(PW_CB_REQUEST_HEADERS, NULL, set_pairs);
}

static void request_headers_later(pt_t *t) {
    sl_str_t v;
    assert_int_equal(guest_header(t, 0, ":path", &v), PW_OK);
    assert_int_equal(guest_edit(t, "proxy_add_header_map_value", 0, "a", "b"), PW_BAD_ARGUMENT);
    assert_int_equal(guest_edit(t, "proxy_remove_header_map_value", 0, "accept", NULL), PW_BAD_ARGUMENT);
}

static void request_headers_that_have_gone_are_only_read(void **state) {
    (void)state;
    run_in(PW_CB_REQUEST_BODY, NULL, request_headers_later);
    run_in(PW_CB_RESPONSE_HEADERS, NULL, request_headers_later);
}

static void wasmx_headers(pt_t *t) {
    assert_int_equal(guest_edit(t, "proxy_add_header_map_value", 0, "X Name", "a\r\nb"), PW_OK);
    assert_string_equal(pt_value(t, PW_MAP_REQUEST_HEADERS, "X%20Name"), "a%0D%0Ab");
    assert_int_equal(guest_edit(t, "proxy_add_header_map_value", 2, "ahead", "1"), PW_OK);
}

static void wasmx_escapes_and_sets_response_headers_ahead(void **state) {
    (void)state;
    run_in(PW_CB_REQUEST_HEADERS, &(pw_filter_conf_t){.opts.dialect = SL_DIALECT_WASMX}, wasmx_headers);
}

static void wasmx_late(pt_t *t) {
    guest_edit(t, "proxy_add_header_map_value", 0, "a", "b");
    assert_true(t->host_trapped);
}

static void wasmx_traps_where_envoy_answers_a_status(void **state) {
    (void)state;
    run_in(PW_CB_RESPONSE_HEADERS, &(pw_filter_conf_t){.opts.dialect = SL_DIALECT_WASMX}, wasmx_late);
}

/* ---- properties ---- */

static uint32_t property(pt_t *t, const char *path, size_t len, sl_str_t *out) {
    uint32_t at = guest_room(t, 8);
    uint32_t rc = guest_call(t, "proxy_get_property", guest_put(t, path, len), (uint32_t)len, at, at + 4);
    *out = rc == PW_OK ? guest_result(t, at, at + 4) : SL_STR_NULL;
    return rc;
}
#define PROPERTY(t, lit, out) property(t, lit, sizeof(lit) - 1, out)

static uint32_t property_set(pt_t *t, const char *path, size_t len, const char *value) {
    return guest_call(t, "proxy_set_property", guest_put(t, path, len), (uint32_t)len, guest_put(t, value, strlen(value)),
                      (uint32_t)strlen(value));
}

static void properties(pt_t *t) {
    sl_str_t v;
    assert_int_equal(PROPERTY(t, "plugin_name", &v), PW_OK);
    assert_str(v, "f0");
    assert_int_equal(PROPERTY(t, "plugin_root_id\0", &v), PW_OK);
    assert_str(v, "root");
    assert_int_equal(PROPERTY(t, "plugin_vm_id", &v), PW_OK);
    assert_str(v, "vm");
    assert_int_equal(PROPERTY(t, "request\0size", &v), PW_OK);
    assert_int_equal(v.len, 8);
    assert_memory_equal(v.data, "\2\1\0\0\0\0\0\0", 8);
    assert_int_equal(PROPERTY(t, "request\0size\0", &v), PW_OK);
    assert_int_equal(PROPERTY(t, "request.size", &v), PW_NOT_FOUND);
    assert_int_equal(PROPERTY(t, "connection\0mtls", &v), PW_OK);
    assert_int_equal(v.len, 1);
    assert_int_equal(PROPERTY(t, "", &v), PW_SERIALIZATION_FAILURE);
    assert_int_equal(PROPERTY(t, "a\0list", &v), PW_OK);
    assert_int_equal(v.len, 4 + 2 * 8 + 3 + 4);
    assert_int_equal(PROPERTY(t, "request\0headers", &v), PW_OK);
    assert_int_equal(v.data[0], 5);
    assert_int_equal(guest_call(t, "proxy_get_property", 4, UINT32_MAX, 0, 0), PW_INVALID_MEMORY_ACCESS);
}

static void properties_have_envoys_encodings(void **state) {
    (void)state;
    run(properties);
}

static void own_properties(pt_t *t) {
    static const char big[70000];
    sl_str_t v;
    assert_int_equal(property_set(t, "my\0own", 6, "1"), PW_OK);
    assert_int_equal(property_set(t, "my\0own\0", 7, "22"), PW_OK);
    assert_int_equal(PROPERTY(t, "my\0own", &v), PW_OK);
    assert_str(v, "22");
    assert_int_equal(PROPERTY(t, "my", &v), PW_NOT_FOUND);
    assert_int_equal(property_set(t, "read\0only", 9, "x"), PW_BAD_ARGUMENT);
    assert_int_equal(property_set(t, "request\0size", 12, "mine"), PW_OK);
    assert_int_equal(PROPERTY(t, "request\0size", &v), PW_OK); /* the proxy's own wins */
    assert_int_equal(v.len, 8);
    assert_int_equal(guest_call(t, "proxy_set_property", guest_put(t, "b", 1), 1, guest_put(t, big, sizeof(big)), sizeof(big)),
                     PW_INTERNAL_FAILURE);
    for (uint32_t i = 0; i < 2000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%u", i);
        if (property_set(t, name, strlen(name), "vvvvvvvvvvvvvvvv") != PW_OK) {
            assert_true(i > 500);
            return;
        }
    }
    fail_msg("a stream keeps properties without end");
}

static void filters_keep_properties_with_the_stream_up_to_a_ceiling(void **state) {
    (void)state;
    run(own_properties);
}

static void properties_wasmx(pt_t *t) {
    sl_str_t v;
    assert_int_equal(PROPERTY(t, "request.size", &v), PW_OK);
    assert_str(v, "258");
    assert_int_equal(PROPERTY(t, "connection\0mtls", &v), PW_OK);
    assert_str(v, "true");
    assert_int_equal(PROPERTY(t, "request.time", &v), PW_OK);
    assert_str(v, "1.500");
    assert_int_equal(property_set(t, "wasmx.a.b", 9, "1"), PW_OK);
    assert_int_equal(PROPERTY(t, "wasmx\0a\0b", &v), PW_OK);
    assert_int_equal(guest_call(t, "proxy_set_property", guest_put(t, "wasmx.a.b", 9), 9, 0, 0), PW_OK);
    assert_int_equal(PROPERTY(t, "wasmx.a.b", &v), PW_NOT_FOUND);
}

static void properties_have_wasmxs_encodings(void **state) {
    (void)state;
    run_in(PW_CB_REQUEST_BODY, &(pw_filter_conf_t){.opts.dialect = SL_DIALECT_WASMX}, properties_wasmx);
}

static void root_properties(pt_t *t) {
    sl_str_t v;
    assert_int_equal(PROPERTY(t, "plugin_root_id", &v), PW_OK);
    assert_int_equal(property_set(t, "a", 1, "1"), PW_NOT_FOUND);
}

static void a_root_context_keeps_no_properties(void **state) {
    (void)state;
    run_in(PW_CB_TICK, NULL, root_properties);
}

/* ---- log ---- */

static void log_lines(pt_t *t) {
    static char much[8000];
    memset(much, 'm', sizeof(much));
    assert_int_equal(guest_call(t, "proxy_log", 4, guest_put(t, "a\nb\x1b[0m\0\x7f", 9), 9), PW_OK);
    assert_true(pt_logged(t, "4 [proxy-wasm][\"f0\" #2] a\\nb\\x1b[0m\\x00\\x7f\n"));
    assert_int_equal(guest_call(t, "proxy_log", 6, 0, 0), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_log", 2, 0, UINT32_MAX), PW_INVALID_MEMORY_ACCESS);
    sl_buf_reset(&t->log);
    assert_int_equal(guest_call(t, "proxy_log", 2, guest_put(t, much, sizeof(much)), sizeof(much)), PW_OK);
    assert_true(t->log.len < 4200);
    assert_true(pt_logged(t, "mmm...\n"));
    sl_buf_reset(&t->log);
    t->log_level = PW_LOG_WARN;
    assert_int_equal(guest_call(t, "proxy_log", 2, 16, 4), PW_OK);
    assert_int_equal(t->log.len, 0);
    uint32_t at = guest_room(t, 4);
    assert_int_equal(guest_call(t, "proxy_get_log_level", at), PW_OK);
    assert_int_equal(guest_u32(t, at), PW_LOG_WARN);
}

static void log_lines_are_escaped_bounded_and_filtered(void **state) {
    (void)state;
    run(log_lines);
}

/* ---- foreign functions, metrics, shared data, extensions without a provider ---- */

static void others(pt_t *t) {
    uint32_t at = guest_room(t, 16), name = guest_put(t, "get_log_level", 13);
    assert_int_equal(guest_call(t, "proxy_call_foreign_function", name, 13, 0, 0, at, at + 4), PW_OK);
    assert_int_equal(guest_u32(t, at + 4), 4);
    assert_int_equal(guest_call(t, "proxy_call_foreign_function", name, 13, 0, 0, 0, 0), PW_OK);
    assert_int_equal(guest_call(t, "proxy_call_foreign_function", name, 3, 0, 0, at, at + 4), PW_NOT_FOUND);
    assert_int_equal(guest_call(t, "proxy_get_shared_data", name, 3, at, at + 4, at + 8), PW_NOT_FOUND);
    assert_int_equal(guest_call(t, "proxy_set_shared_data", name, 3, 0, 0, 0), PW_INTERNAL_FAILURE);
    assert_int_equal(guest_call(t, "proxy_resolve_shared_queue", 0, 0, name, 3, at), PW_NOT_FOUND);
    assert_int_equal(guest_call(t, "proxy_dequeue_shared_queue", 1, at, at + 4), PW_NOT_FOUND);
    assert_int_equal(guest_call(t, "proxy_define_metric", 3, name, 3, at), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_get_metric", 4, at), PW_NOT_FOUND);
    assert_int_equal(guest_call(t, "proxy_get_metric", 0, at), PW_NOT_FOUND);
    assert_int_equal(guest_call(t, "proxy_grpc_send", 4, 0, 0, 1), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_grpc_send", 6, 0, 0, 1), PW_NOT_FOUND);
    assert_int_equal(guest_call(t, "proxy_grpc_cancel", 5), PW_NOT_FOUND);
    assert_int_equal(guest_call(t, "proxy_grpc_call", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, at), PW_PARSE_FAILURE);
    assert_int_equal(guest_call(t, "proxy_grpc_call", name, 3, name, 3, name, 3, 0, 0, 0, 0, 0, at), PW_INTERNAL_FAILURE);
    assert_int_equal(guest_call(t, "proxy_get_upstream_hosts", 0, 0), PW_UNIMPLEMENTED);
    assert_int_equal(guest_call(t, "proxy_continue_stream", 3), PW_UNIMPLEMENTED);
    assert_int_equal(guest_call(t, "proxy_continue_stream", 4), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_close_stream", 4), PW_BAD_ARGUMENT);
    assert_int_equal(guest_call(t, "proxy_done", 0), PW_NOT_FOUND);
    assert_int_equal(guest_call(t, "proxy_get_status", at, at + 4, at + 8), PW_OK);
    assert_int_equal(guest_call(t, "proxy_set_effective_context", 999), PW_BAD_ARGUMENT);
}

static void what_nobody_provides_answers_a_status(void **state) {
    (void)state;
    run(others);
}

/* ---- the allocator ---- */

static uint32_t alloc_calls_back(pt_t *t, uint32_t a0, uint32_t size, uint32_t a2) {
    (void)a0;
    (void)size;
    (void)a2;
    guest_call(t, "proxy_log", 2, 16, 0);
    assert_false(t->host_trapped);
    guest_call(t, "proxy_get_current_time_nanoseconds", 16);
    return 0;
}

static void alloc_restricted(pt_t *t) {
    sl_str_t v;
    t->alloc = alloc_calls_back;
    guest_header(t, 0, ":path", &v);
    assert_true(t->host_trapped);
}

static void the_allocator_may_only_log_and_tell_the_time(void **state) {
    (void)state;
    run(alloc_restricted);
}

static uint32_t alloc_answer;
static uint32_t alloc_answers(pt_t *t, uint32_t a0, uint32_t size, uint32_t a2) {
    (void)t;
    (void)a0;
    (void)size;
    (void)a2;
    return alloc_answer;
}

static void alloc_hostile(pt_t *t) {
    static const uint32_t answers[] = {0, UINT32_MAX, (1 << 20) - 3, 1 << 20};
    sl_str_t v;
    t->alloc = alloc_answers;
    for (size_t i = 0; i < 4; i++) {
        alloc_answer = answers[i];
        assert_int_equal(guest_header(t, 0, ":path", &v), PW_INVALID_MEMORY_ACCESS);
    }
}

static void an_allocator_that_lies_is_not_believed(void **state) {
    (void)state;
    run(alloc_hostile);
}

static uint32_t alloc_grows(pt_t *t, uint32_t a0, uint32_t size, uint32_t a2) {
    (void)a0;
    (void)a2;
    uint32_t at = (uint32_t)t->in->mem_size;
    assert_int_equal(sl_null_grow(t->in, size + 65536), SL_OK); /* memory moves */
    return at;
}

static void alloc_moves(pt_t *t) {
    sl_str_t v;
    t->alloc = alloc_grows;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(guest_header(t, 0, ":path", &v), PW_OK);
        assert_str(v, "/x?y");
        assert_int_equal(guest_get_body(t, 0, 0, UINT32_MAX, &v), PW_OK);
        assert_str(v, "0123456789");
    }
}

static void memory_that_moves_under_a_host_call_is_no_trouble(void **state) {
    (void)state;
    run(alloc_moves);
}

/* ---- WASI ---- */

static void wasi(pt_t *t) {
    uint32_t at = guest_room(t, 64);
    assert_int_equal(guest_call(t, "wasi:fd_prestat_get", 3, at), 8);
    assert_int_equal(guest_call(t, "wasi:fd_fdstat_get", 1, at), 0);
    assert_int_equal(t->in->mem[at + 8], 64);
    assert_int_equal(guest_call(t, "wasi:fd_fdstat_get", 5, at), 8);
    assert_int_equal(guest_call(t, "wasi:poll_oneoff", at, at, 1, at + 8), 0);
    assert_int_equal(guest_call(t, "wasi:sched_yield", 0), 0);
    assert_int_equal(guest_call(t, "wasi:environ_sizes_get", at, at + 4), 0);
    assert_int_equal(guest_u32(t, at), 1);
    assert_int_equal(guest_u32(t, at + 4), 10);
    assert_int_equal(guest_call(t, "wasi:environ_get", at, at + 16), 0);
    assert_int_equal(guest_u32(t, at), at + 16);
    assert_memory_equal(t->in->mem + at + 16, "KEY=value", 10);
    assert_int_equal(guest_call(t, "wasi:environ_get", at, UINT32_MAX - 4), 21);
    assert_int_equal(guest_call(t, "wasi:random_get", at, 64), 0);
    assert_int_equal(guest_call(t, "wasi:random_get", at, 65537), 28);
    assert_int_equal(guest_call(t, "wasi:random_get", UINT32_MAX, 64), 21);
    assert_int_equal(guest_call(t, "wasi:clock_time_get", 1, 0, at), 0);
    assert_int_equal(guest_call(t, "wasi:clock_time_get", 2, 0, at), 58);
    assert_int_equal(guest_call(t, "wasi:path_open", 3, 0, 0, 0, 0, 0, 0, 0, 0), 44);
    assert_int_equal(guest_call(t, "wasi:sock_send", 3, 0, 0, 0, at), 58);
}

static void wasi_answers_what_guests_expect(void **state) {
    (void)state;
    run(wasi);
}

static uint32_t write_fd(pt_t *t, uint32_t fd, const char *a, const char *b) {
    uint32_t iov[4] = {guest_put(t, a, strlen(a)), (uint32_t)strlen(a), guest_put(t, b, strlen(b)), (uint32_t)strlen(b)};
    uint32_t n = guest_room(t, 4);
    uint32_t rc = guest_call(t, "wasi:fd_write", fd, guest_put(t, iov, sizeof(iov)), 2, n);
    assert_true(rc != 0 || guest_u32(t, n) == strlen(a) + strlen(b));
    return rc;
}

static void wasi_write(pt_t *t) {
    assert_int_equal(write_fd(t, 1, "one\ntw", "o\n\nthree"), 0);
    assert_int_equal(write_fd(t, 2, "err\n", ""), 0);
    assert_int_equal(write_fd(t, 3, "a", "b"), 8);
    assert_true(pt_logged(t, "2 [proxy-wasm][\"f0\" #2] one\n"));
    assert_true(pt_logged(t, "] two\n2 [proxy-wasm][\"f0\" #2] \n"));
    assert_true(pt_logged(t, "4 [proxy-wasm][\"f0\" #2] err\n"));
    assert_false(pt_logged(t, "three")); /* until the callback returns */
    uint32_t n = guest_room(t, 4), bad[2] = {UINT32_MAX, 8};
    assert_int_equal(guest_call(t, "wasi:fd_write", 1, guest_put(t, bad, 8), 1, n), 21);
    assert_int_equal(guest_call(t, "wasi:fd_write", 1, UINT32_MAX - 7, 1, n), 21);
    assert_int_equal(guest_call(t, "wasi:fd_write", 1, 0, UINT32_MAX, n), 28);
}

static void stdout_and_stderr_become_log_lines(void **state) {
    (void)state;
    run(wasi_write);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_of_a_body_are_clamped),
        cmocka_unit_test(an_empty_result_is_written_as_null_and_zero),
        cmocka_unit_test(bodies_are_edited_at_any_place),
        cmocka_unit_test(each_buffer_answers_its_status),
        cmocka_unit_test(a_root_context_has_no_message),
        cmocka_unit_test(a_body_may_not_grow_over_its_ceiling),
        cmocka_unit_test(wasmx_replaces_from_the_offset_to_the_end),
        cmocka_unit_test(header_maps_are_read_and_changed),
        cmocka_unit_test(names_and_values_that_are_no_headers_are_refused),
        cmocka_unit_test(whole_maps_are_set),
        cmocka_unit_test(request_headers_that_have_gone_are_only_read),
        cmocka_unit_test(wasmx_escapes_and_sets_response_headers_ahead),
        cmocka_unit_test(wasmx_traps_where_envoy_answers_a_status),
        cmocka_unit_test(properties_have_envoys_encodings),
        cmocka_unit_test(filters_keep_properties_with_the_stream_up_to_a_ceiling),
        cmocka_unit_test(properties_have_wasmxs_encodings),
        cmocka_unit_test(a_root_context_keeps_no_properties),
        cmocka_unit_test(log_lines_are_escaped_bounded_and_filtered),
        cmocka_unit_test(what_nobody_provides_answers_a_status),
        cmocka_unit_test(the_allocator_may_only_log_and_tell_the_time),
        cmocka_unit_test(an_allocator_that_lies_is_not_believed),
        cmocka_unit_test(memory_that_moves_under_a_host_call_is_no_trouble),
        cmocka_unit_test(wasi_answers_what_guests_expect),
        cmocka_unit_test(stdout_and_stderr_become_log_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
