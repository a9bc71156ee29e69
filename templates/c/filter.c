/*
 * A filter that greets: every response gets the header x-greeting with the text of its configuration, {"my_greeting": "..."}. Without that
 * member, or without a configuration, it greets with DEFAULT_GREETING. A configuration that is not such an object is refused, with the
 * reason in the log.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

#include "json.h"

#define DEFAULT_GREETING "Hello from a filter in C!"

/*
 * A root context is a place where the filter is configured, a stream context is one request there. The same VM may serve several roots, so
 * the greeting belongs to the root and not into a global variable.
 */
typedef struct context {
    struct context *next; /* in its bucket */
    struct context *root; /* itself in a root context */
    uint32_t id;
    char *greeting; /* roots only */
    size_t greeting_len;
} context_t;

/* The proxy numbers contexts one after the other, so those of a time are in buckets of their own. */
#define BUCKETS 64

static context_t *contexts[BUCKETS];

static context_t *context_find(uint32_t id) {
    context_t *context = contexts[id % BUCKETS];
    while (context != NULL && context->id != id) {
        context = context->next;
    }
    return context;
}

PW_EXPORT void proxy_on_context_create(uint32_t context_id, uint32_t parent_id) {
    context_t *context = pw_malloc(sizeof(*context));
    if (context == NULL) {
        return; /* every use below allows for a context that is not there */
    }
    context_t **bucket = &contexts[context_id % BUCKETS];
    *context = (context_t){.next = *bucket, .id = context_id};
    context->root = parent_id != 0 ? context_find(parent_id) : context;
    *bucket = context;
}

PW_EXPORT void proxy_on_delete(uint32_t context_id) {
    for (context_t **link = &contexts[context_id % BUCKETS]; *link != NULL; link = &(*link)->next) {
        context_t *context = *link;
        if (context->id == context_id) {
            *link = context->next;
            pw_free(context->greeting);
            pw_free(context);
            return;
        }
    }
}

static bool refuse(const char *reason) {
    pw_line_t line;
    pw_line_init(&line);
    pw_line_str(&line, PW_STR("configuration refused: "));
    pw_line_str(&line, pw_str_from_cstr(reason));
    pw_line_log(&line, PW_LOG_ERROR);
    return false;
}

/* A control character would end the header, or begin another one. */
static bool is_header_value(pw_str_t value) {
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

/* The root keeps the greeting for as long as the filter lives; the text of the configuration is not kept. */
static bool read_greeting(context_t *root, pw_str_t text) {
    pw_str_t greeting = PW_STR(DEFAULT_GREETING);
    pw_free(root->greeting);
    root->greeting = pw_malloc(text.len + greeting.len);
    if (root->greeting == NULL) {
        return refuse("out of memory");
    }
    json_result_t result =
        text.len > 0 ? json_get_string(text.data, text.len, "my_greeting", root->greeting, &root->greeting_len) : JSON_ABSENT;
    if (result == JSON_MALFORMED) {
        return refuse("must be a JSON object");
    }
    if (result == JSON_NOT_STRING) {
        return refuse("my_greeting: must be a string");
    }
    if (result == JSON_ABSENT) {
        memcpy(root->greeting, greeting.data, greeting.len);
        root->greeting_len = greeting.len;
    }
    return is_header_value(pw_str(root->greeting, root->greeting_len)) || refuse("my_greeting: must not hold control characters");
}

PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t configuration_size) {
    context_t *root = context_find(root_id);
    pw_bytes_t text = {0};
    if (root == NULL || (configuration_size > 0 && pw_configuration(&text) != PW_OK)) {
        return refuse("cannot be read");
    }
    bool good = read_greeting(root, pw_bytes_str(text));
    pw_bytes_free(&text);
    return good;
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)n_headers;
    (void)end_of_stream;
    const context_t *context = context_find(context_id);
    if (context != NULL && context->root != NULL) {
        pw_str_t greeting = pw_str(context->root->greeting, context->root->greeting_len);
        (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("X-Greeting"), greeting);
    }
    return PW_CONTINUE;
}
