/*
 * Evaluates expressions in CEL. The configuration has one per line, after a name and a space; `q-` at the beginning of a name: at request
 * headers, else at response headers. The response header x-NAME is the status of expr_evaluate, a colon, and the value in hexadecimal
 * digits; x-created the number of expressions that were taken. Every expression whose name begins with `d-` is deleted after that.
 */
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

enum { MAX = 32 };

typedef struct {
    pw_str_t name;
    char token[4];
    pw_line_t request; /* what it was worth at request headers */
} expression_t;

static expression_t expressions[MAX];
static uint32_t n_expressions;

static bool begins(pw_str_t name, char c) {
    return name.len > 1 && name.data[0] == c && name.data[1] == '-';
}

static void create(pw_str_t line) {
    size_t space = 0;
    while (space < line.len && line.data[space] != ' ') {
        space++;
    }
    if (space == line.len || n_expressions == MAX) {
        return;
    }
    char *token = NULL;
    size_t size = 0;
    pw_status_t status = proxy_call_foreign_function("expr_create", 11, line.data + space + 1, line.len - space - 1, &token, &size);
    if (status == PW_OK && size == 4) {
        expression_t *e = &expressions[n_expressions++];
        e->name = pw_str(line.data, space);
        __builtin_memcpy(e->token, token, 4);
    }
    pw_free(token);
}

/* The configuration is kept: names are borrowed from it. */
PW_EXPORT uint32_t proxy_on_configure(uint32_t root_id, uint32_t size) {
    pw_bytes_t text;
    size_t begin = 0;
    (void)root_id, (void)size;
    if (pw_configuration(&text) != PW_OK) {
        return 0;
    }
    for (size_t i = 0; i <= text.len; i++) {
        if (i == text.len || text.data[i] == '\n') {
            create(pw_str(text.data + begin, i - begin));
            begin = i + 1;
        }
    }
    return 1;
}

static void evaluate(expression_t *e, pw_line_t *line) {
    char *value = NULL;
    size_t size = 0;
    pw_line_init(line);
    pw_line_u64(line, proxy_call_foreign_function("expr_evaluate", 13, e->token, 4, &value, &size));
    pw_line_str(line, PW_STR(":"));
    pw_line_hex(line, pw_str(value, size));
    pw_free(value);
}

PW_EXPORT uint32_t proxy_on_request_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    (void)context_id, (void)n_headers, (void)end_of_stream;
    for (uint32_t i = 0; i < n_expressions; i++) {
        if (begins(expressions[i].name, 'q')) {
            evaluate(&expressions[i], &expressions[i].request);
        }
    }
    return PW_CONTINUE;
}

static void answer(expression_t *e) {
    pw_line_t name, line;
    pw_line_init(&name);
    pw_line_str(&name, PW_STR("x-"));
    pw_line_str(&name, e->name);
    bool at_request = begins(e->name, 'q');
    if (!at_request) {
        evaluate(e, &line);
    }
    const pw_line_t *shown = at_request ? &e->request : &line;
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, pw_str(name.data, name.len), pw_str(shown->data, shown->len));
    if (begins(e->name, 'd')) {
        (void)proxy_call_foreign_function("expr_delete", 11, e->token, 4, NULL, NULL);
    }
}

PW_EXPORT uint32_t proxy_on_response_headers(uint32_t context_id, uint32_t n_headers, uint32_t end_of_stream) {
    pw_line_t created;
    (void)context_id, (void)n_headers, (void)end_of_stream;
    for (uint32_t i = 0; i < n_expressions; i++) {
        answer(&expressions[i]);
    }
    pw_line_init(&created);
    pw_line_u64(&created, n_expressions);
    (void)pw_header_set(PW_MAP_RESPONSE_HEADERS, PW_STR("x-created"), pw_str(created.data, created.len));
    return PW_CONTINUE;
}
