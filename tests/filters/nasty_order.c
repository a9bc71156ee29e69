/*
 * Does everything in the wrong order, without ever trapping: in each callback of a stream it continues, closes, replies twice and edits
 * what is not there, in the direction and of the kind that its configuration names; and takes the contexts of others.
 *
 * CONFIGURATION, one word:
 *   continue   proxy_continue_stream of every kind, and the old two, in every callback
 *   reply      two local replies in every callback of a stream, from proxy_on_log and proxy_on_delete too
 *   close      proxy_close_stream of every kind in every callback
 *   strangers  makes every context id up to 64 effective, the deleted ones and the root among them, and acts on it
 *   actions    returns values that no enumeration has
 *   resume     pauses in each callback and resumes in the same one, and in each tick
 *   bodies     sets and reads bodies of both directions in every callback, with offsets at the end of numbers
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

typedef enum { CONTINUE, REPLY, CLOSE, STRANGERS, ACTIONS, RESUME, BODIES, MODES } mode_t;
static const char *const names[MODES] = {"continue", "reply", "close", "strangers", "actions", "resume", "bodies"};

static mode_t mode = MODES;
static uint32_t turn;

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t size) {
    pw_bytes_t text;
    (void)root_id;
    (void)size;
    if (pw_configuration(&text) != PW_OK) {
        return 0;
    }
    for (int i = 0; i < MODES; i++) {
        if (pw_str_equal(pw_str(text.data, text.len), pw_str_from_cstr(names[i]))) {
            mode = (mode_t)i;
        }
    }
    pw_bytes_free(&text);
    (void)proxy_set_tick_period_milliseconds(5);
    return mode != MODES;
}

static void reply(uint32_t status) {
    (void)proxy_send_local_response(status, NULL, 0, "nasty", 5, NULL, 0, -1);
}

static void continue_all(void) {
    for (uint32_t type = 0; type < 6; type++) {
        (void)proxy_continue_stream(type);
    }
}

static void close_all(void) {
    for (uint32_t type = 0; type < 6; type++) {
        (void)proxy_close_stream(type);
    }
}

static void bodies(void) {
    static const uint32_t numbers[] = {0, 1, 5, 0x7fffffff, 0x80000000, 0xffffffff};
    char *data;
    size_t len;
    for (uint32_t buffer = 0; buffer < 3; buffer++) {
        uint32_t start = numbers[turn++ % 6], size = numbers[turn / 6 % 6];
        (void)proxy_set_buffer_bytes(buffer, start, size, "nasty", turn % 6);
        if (proxy_get_buffer_bytes(buffer, start, size, &data, &len) == PW_OK && data != NULL) {
            pw_free(data);
        }
    }
}

static void strangers(void) {
    for (uint32_t id = 0; id < 64; id++) {
        if (proxy_set_effective_context(id) != PW_OK) {
            continue;
        }
        (void)pw_header_set(PW_MAP_REQUEST_HEADERS, PW_STR("x-nasty"), PW_STR("1"));
        (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-nasty"), PW_STR("1"));
        (void)proxy_set_buffer_bytes(turn & 1, 0, 0, "n", 1);
        switch (turn++ % 7) {
        case 0:
            reply(418);
            break;
        case 1:
            (void)proxy_close_stream(PW_STREAM_REQUEST);
            break;
        case 2:
            (void)proxy_done();
            break;
        default:
            (void)proxy_continue_stream(turn & 1);
        }
    }
    (void)proxy_set_effective_context(0);
}

static uint32_t misbehave(void) {
    switch (mode) {
    case CONTINUE:
        continue_all();
        return PW_CONTINUE;
    case REPLY:
        reply(403);
        reply(404);
        return turn++ % 3;
    case CLOSE:
        close_all();
        return turn++ % 3;
    case STRANGERS:
        strangers();
        return turn % 5;
    case ACTIONS:
        return 0x80000000u + turn++;
    case RESUME:
        continue_all();
        return turn++ % 5;
    case BODIES:
        bodies();
        return PW_CONTINUE;
    default:
        return PW_CONTINUE;
    }
}

PW_EXPORT void proxy_on_tick(uint32_t root_id) {
    if (mode == RESUME || mode == ACTIONS) { /* else its streams would wait for ever */
        for (uint32_t id = root_id; id < turn + 64; id++) {
            if (proxy_set_effective_context(id) == PW_OK) {
                continue_all();
            }
        }
        return;
    }
    (void)misbehave();
}

PW_EXPORT void proxy_on_context_create(uint32_t context_id, uint32_t parent_id) {
    (void)context_id;
    if (parent_id != 0) {
        (void)misbehave();
    }
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n, uint32_t eos) {
    (void)context_id, (void)n, (void)eos;
    return misbehave();
}

PW_EXPORT uint32_t proxy_on_request_body(uint32_t context_id, uint32_t size, uint32_t eos) {
    (void)context_id, (void)size, (void)eos;
    return misbehave();
}

PW_EXPORT uint32_t proxy_on_request_trailers(uint32_t context_id, uint32_t n) {
    (void)context_id, (void)n;
    return misbehave();
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n, uint32_t eos) {
    (void)context_id, (void)n, (void)eos;
    return misbehave();
}

PW_EXPORT uint32_t proxy_on_response_body(uint32_t context_id, uint32_t size, uint32_t eos) {
    (void)context_id, (void)size, (void)eos;
    return misbehave();
}

PW_EXPORT uint32_t proxy_on_response_trailers(uint32_t context_id, uint32_t n) {
    (void)context_id, (void)n;
    return misbehave();
}

PW_EXPORT uint32_t proxy_on_done(uint32_t context_id) {
    (void)context_id;
    (void)misbehave();
    return 0;
}

PW_EXPORT void proxy_on_log(uint32_t context_id) {
    (void)context_id;
    (void)misbehave();
}

PW_EXPORT void proxy_on_delete(uint32_t context_id) {
    (void)context_id;
    (void)misbehave();
}
