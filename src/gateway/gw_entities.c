/* The tables of all entities; what a row cannot say is a function above its table. */
#include "gw_schema.h"

#include <stdlib.h>

#include "gw_checks.h"
#include "gw_json_schema.h"
#include "gw_options.h"
#include "gw_pem.h"

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define END_OF_FIELDS {.name = NULL}
#define END_OF_CHECKS {.fields = NULL}

static const char *const protocol_names[] = {"grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp", NULL};

static const gw_field_t tag_element = {.type = GW_TYPE_STRING, .check = gw_check_tag};
static const gw_field_t uuid_element = {.type = GW_TYPE_STRING, .uuid = true};
static const gw_field_t text_element = {.type = GW_TYPE_STRING};
static const gw_field_t protocol_element = {.type = GW_TYPE_STRING, .one_of = protocol_names};

#define FIELD_ID {.name = "id", .type = GW_TYPE_STRING, .uuid = true, .automatic = true, .unique = true}
#define FIELD_CREATED {.name = "created_at", .type = GW_TYPE_INTEGER, .automatic = true}
#define FIELD_UPDATED {.name = "updated_at", .type = GW_TYPE_INTEGER, .automatic = true}
#define FIELDS_HEAD FIELD_ID, FIELD_CREATED, FIELD_UPDATED
#define FIELD_NAME {.name = "name", .type = GW_TYPE_STRING, .unique = true, .check = gw_check_name}
#define FIELD_TAGS {.name = "tags", .type = GW_TYPE_SET, .elements = &tag_element}

/* ---- services ------------------------------------------------------------------------------------------------------- */

#define TIMEOUT(n) {.name = n, .type = GW_TYPE_INTEGER, .def = "60000", .between = true, .min = 1, .max = 2147483646}

static const gw_field_t service_fields[] = {
    FIELDS_HEAD,
    FIELD_NAME,
    {.name = "retries", .type = GW_TYPE_INTEGER, .def = "5", .between = true, .min = 0, .max = 32767},
    {.name = "protocol", .type = GW_TYPE_STRING, .required = true, .def = "\"http\"", .one_of = protocol_names},
    {.name = "host", .type = GW_TYPE_STRING, .required = true, .check = gw_check_host},
    {.name = "port", .type = GW_TYPE_INTEGER, .required = true, .def = "80", .between = true, .min = 0, .max = 65535},
    {.name = "path", .type = GW_TYPE_STRING, .starts_with = "/", .check = gw_check_path},
    TIMEOUT("connect_timeout"),
    TIMEOUT("write_timeout"),
    TIMEOUT("read_timeout"),
    FIELD_TAGS,
    {.name = "client_certificate", .type = GW_TYPE_FOREIGN, .reference = "certificates"},
    {.name = "tls_verify", .type = GW_TYPE_BOOLEAN},
    {.name = "tls_verify_depth", .type = GW_TYPE_INTEGER, .between = true, .min = 0, .max = 64},
    {.name = "ca_certificates", .type = GW_TYPE_ARRAY, .elements = &uuid_element},
    {.name = "enabled", .type = GW_TYPE_BOOLEAN, .required = true, .def = "true"},
    END_OF_FIELDS,
};

#define NULL_UNLESS_TLS(field)                                                                                                             \
    {.kind = GW_CHECK_CONDITIONAL, .fields = NAMES("protocol", field), .if_not_one_of = NAMES("https", "tls"), .then = GW_THEN_NULL}

static const gw_entity_check_t service_checks[] = {
    {.kind = GW_CHECK_CONDITIONAL,
     .fields = NAMES("protocol", "path"),
     .if_one_of = NAMES("tcp", "tls", "udp", "grpc", "grpcs"),
     .then = GW_THEN_NULL},
    NULL_UNLESS_TLS("client_certificate"),
    NULL_UNLESS_TLS("tls_verify"),
    NULL_UNLESS_TLS("tls_verify_depth"),
    NULL_UNLESS_TLS("ca_certificates"),
    END_OF_CHECKS,
};

typedef struct {
    sl_str_t scheme, host, port, path;
} url_t;

static bool is_scheme_char(char c, bool first) {
    bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return alnum || (!first && (c == '+' || c == '-' || c == '.'));
}

static sl_str_t from(sl_str_t s, size_t n) {
    return sl_str(s.data + n, s.len - n);
}

static size_t find_any(sl_str_t s, const char *set) {
    size_t i = 0;
    while (i < s.len && strchr(set, s.data[i]) == NULL) {
        i++;
    }
    return i;
}

static void split_authority(sl_str_t authority, url_t *url) {
    const char *at = memrchr(authority.data, '@', authority.len);
    if (at != NULL) {
        authority = from(authority, (size_t)(at - authority.data) + 1);
    }
    const char *bracket = memrchr(authority.data, ']', authority.len);
    const char *colon = memrchr(authority.data, ':', authority.len);
    if (colon != NULL && colon > bracket) {
        size_t n = (size_t)(colon - authority.data);
        url->port = from(authority, n + 1);
        authority.len = n;
    }
    url->host = authority;
}

static url_t split_url(sl_str_t s) {
    url_t url = {SL_STR_NULL, SL_STR_NULL, SL_STR_NULL, SL_STR_NULL};
    s.len = find_any(s, "?#");
    size_t n = 0;
    while (n < s.len && is_scheme_char(s.data[n], n == 0)) {
        n++;
    }
    if (n > 0 && n < s.len && s.data[n] == ':') {
        url.scheme = sl_str(s.data, n);
        s = from(s, n + 1);
    }
    if (sl_str_starts(s, SL_STR("//"))) {
        s = from(s, 2);
        size_t len = find_any(s, "/");
        split_authority(sl_str(s.data, len), &url);
        s = from(s, len);
    }
    url.path = s;
    return url;
}

static void set_text(gw_validation_t *v, json_t *input, const char *name, sl_str_t text) {
    if (text.len > 0) {
        gw_member_set(v, input, name, json_stringn(text.data, text.len));
    }
}

static void set_url_port(gw_validation_t *v, json_t *input, sl_str_t scheme, sl_str_t port) {
    int64_t number = 0;
    if (port.len == 0) {
        gw_member_set(v, input, "port", json_integer(sl_str_eq(scheme, SL_STR("https")) ? 443 : 80));
        return;
    }
    for (size_t i = 0; i < port.len; i++) {
        if (port.data[i] < '0' || port.data[i] > '9' || i == 6) {
            set_text(v, input, "port", port); /* the field's own check says what is wrong */
            return;
        }
        number = number * 10 + (port.data[i] - '0');
    }
    gw_member_set(v, input, "port", json_integer(number));
}

/* "url" becomes protocol, host, port and path; what is wrong with it is reported on those. */
static void service_shorthand(gw_validation_t *v, json_t *input) {
    json_t *text = json_object_get(input, "url");
    if (text == NULL || !json_is_string(text)) {
        if (json_is_null(text)) {
            json_object_del(input, "url");
        }
        return;
    }
    json_incref(text);
    url_t url = split_url(sl_str(json_string_value(text), json_string_length(text)));
    if (url.scheme.len == 0) {
        url.scheme = sl_str_eq(url.port, SL_STR("443")) ? SL_STR("https") : sl_str_eq(url.port, SL_STR("80")) ? SL_STR("http") : url.scheme;
    }
    set_text(v, input, "protocol", url.scheme);
    set_text(v, input, "host", url.host);
    set_text(v, input, "path", url.path);
    if (url.host.len > 0) {
        set_url_port(v, input, url.scheme, url.port);
    }
    json_object_del(input, "url");
    json_decref(text);
}

/* ---- routes --------------------------------------------------------------------------------------------------------- */

static const gw_field_t method_element = {.type = GW_TYPE_STRING, .check = gw_check_method};
static const gw_field_t route_host_element = {.type = GW_TYPE_STRING, .check = gw_check_route_host};
static const gw_field_t route_path_element = {.type = GW_TYPE_STRING, .check = gw_check_route_path};
static const gw_field_t route_header_key = {.type = GW_TYPE_STRING, .check = gw_check_route_header_name};
static const gw_field_t route_header_value = {.type = GW_TYPE_STRING, .may_be_empty = true, .check = gw_check_route_header_value};
static const gw_field_t route_header_values = {.type = GW_TYPE_ARRAY, .elements = &route_header_value};
static const gw_field_t route_sni_element = {.type = GW_TYPE_STRING, .check = gw_check_sni_wildcard};
static const gw_field_t address_fields[] = {
    {.name = "ip", .type = GW_TYPE_STRING, .check = gw_check_ip_or_cidr},
    {.name = "port", .type = GW_TYPE_INTEGER, .between = true, .min = 0, .max = 65535},
    END_OF_FIELDS,
};
static const gw_field_t address_element = {.type = GW_TYPE_RECORD, .fields = address_fields};
static const char *const *const protocol_families[] = {
    NAMES("http", "https"), NAMES("tcp", "tls", "udp"), NAMES("tls_passthrough"), NAMES("grpc", "grpcs"), NULL,
};
static const int redirect_codes[] = {426, 301, 302, 307, 308, 0};

static const gw_field_t route_fields[] = {
    FIELDS_HEAD,
    FIELD_NAME,
    {.name = "protocols",
     .type = GW_TYPE_SET,
     .required = true,
     .def = "[\"http\",\"https\"]",
     .len_min = 1,
     .elements = &protocol_element,
     .exclusive_sets = protocol_families},
    {.name = "https_redirect_status_code", .type = GW_TYPE_INTEGER, .required = true, .def = "426", .one_of_int = redirect_codes},
    {.name = "strip_path", .type = GW_TYPE_BOOLEAN, .required = true, .def = "true"},
    {.name = "preserve_host", .type = GW_TYPE_BOOLEAN, .required = true, .def = "false"},
    {.name = "request_buffering", .type = GW_TYPE_BOOLEAN, .required = true, .def = "true"},
    {.name = "response_buffering", .type = GW_TYPE_BOOLEAN, .required = true, .def = "true"},
    FIELD_TAGS,
    {.name = "service", .type = GW_TYPE_FOREIGN, .reference = "services"},
    {.name = "snis", .type = GW_TYPE_SET, .elements = &route_sni_element},
    {.name = "sources", .type = GW_TYPE_SET, .elements = &address_element},
    {.name = "destinations", .type = GW_TYPE_SET, .elements = &address_element},
    {.name = "methods", .type = GW_TYPE_SET, .elements = &method_element},
    {.name = "hosts", .type = GW_TYPE_ARRAY, .elements = &route_host_element},
    {.name = "paths", .type = GW_TYPE_ARRAY, .elements = &route_path_element},
    {.name = "headers", .type = GW_TYPE_MAP, .keys = &route_header_key, .elements = &route_header_values},
    {.name = "regex_priority", .type = GW_TYPE_INTEGER, .def = "0"},
    {.name = "path_handling", .type = GW_TYPE_STRING, .def = "\"v0\"", .one_of = NAMES("v0", "v1")},
    END_OF_FIELDS,
};

/* What each family of protocols forbids and needs. The first protocol of a route decides. */
typedef struct {
    const char *first, *also; /* the row's protocols: `first`, or lists that hold `also` */
    const char *const *forbidden;
    const char *forbidden_when;
    const char *const *needed;
    const char *needed_text;
} route_rule_t;

#define STREAM_WHEN "'tcp', 'tls', 'tls_passthrough' or 'udp'"
#define STREAM_FORBIDS NAMES("methods", "hosts", "headers", "paths")
#define STREAM_NEEDS NAMES("sources", "destinations", "snis")
#define STREAM_TEXT "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'"
#define HTTP_FORBIDS NAMES("sources", "destinations")
#define GRPC_FORBIDS NAMES("methods", "sources", "destinations")

/* The first row whose `first` is the route's first protocol and whose `also` is in the list. */
static const route_rule_t route_rules[] = {
    {NULL, "https", HTTP_FORBIDS, "'http' or 'https'", NAMES("methods", "hosts", "headers", "paths", "snis"),
     "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"},
    {"http", NULL, HTTP_FORBIDS, "'http' or 'https'", NAMES("methods", "hosts", "headers", "paths"),
     "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'"},
    {NULL, "grpcs", GRPC_FORBIDS, "'grpc' or 'grpcs'", NAMES("hosts", "headers", "paths", "snis"),
     "must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'"},
    {"grpc", NULL, GRPC_FORBIDS, "'grpc' or 'grpcs'", NAMES("hosts", "headers", "paths"),
     "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'"},
    {"tcp", NULL, STREAM_FORBIDS, STREAM_WHEN, STREAM_NEEDS, STREAM_TEXT},
    {"tls", NULL, STREAM_FORBIDS, STREAM_WHEN, STREAM_NEEDS, STREAM_TEXT},
    {"udp", NULL, STREAM_FORBIDS, STREAM_WHEN, STREAM_NEEDS, STREAM_TEXT},
    {"tls_passthrough", NULL, NAMES("methods", "hosts", "headers", "paths", "sources", "destinations"), "'tls_passthrough'", NAMES("snis"),
     "must set snis when 'protocols' is 'tls_passthrough'"},
};

static bool list_holds(const json_t *list, const char *text) {
    size_t i;
    const json_t *value;
    json_array_foreach(list, i, value) {
        if (json_is_string(value) && strcmp(json_string_value(value), text) == 0) {
            return true;
        }
    }
    return false;
}

static const route_rule_t *route_rule(const json_t *protocols) {
    const char *first = json_string_value(json_array_get(protocols, 0));
    for (size_t i = 0; first != NULL && i < sizeof(route_rules) / sizeof(route_rules[0]); i++) {
        const route_rule_t *rule = &route_rules[i];
        if (rule->also != NULL ? list_holds(protocols, rule->also) : strcmp(first, rule->first) == 0) {
            return rule;
        }
    }
    return NULL;
}

static bool any_set_or_wrong(const json_t *entity, const json_t *errors, const char *const *fields) {
    for (; *fields != NULL; fields++) {
        if (!gw_is_empty(json_object_get(entity, *fields)) || json_object_get(errors, *fields) != NULL) {
            return true;
        }
    }
    return false;
}

static void forbid_fields(gw_validation_t *v, const route_rule_t *rule, const json_t *route, json_t *errors) {
    sl_err_t text;
    for (const char *const *field = rule->forbidden; *field != NULL; field++) {
        const json_t *value = json_object_get(route, *field);
        if (value != NULL && !json_is_null(value)) {
            sl_err_set(&text, SL_INVALID, "cannot set '%s' when 'protocols' is %s", *field, rule->forbidden_when);
            gw_error_add(v, errors, *field, json_string(text.text));
        }
    }
}

static void check_route_match(gw_validation_t *v, const json_t *route, json_t *errors) {
    if (json_object_get(errors, "protocols") != NULL) {
        return;
    }
    const route_rule_t *rule = route_rule(json_object_get(route, "protocols"));
    if (rule == NULL) {
        return;
    }
    forbid_fields(v, rule, route, errors);
    if (!any_set_or_wrong(route, errors, rule->needed)) {
        gw_error_add_entity(v, errors, rule->needed_text);
    }
}

/* In a document the first protocol chooses the kind of route, so a wrong one is an unknown kind. */
static void check_route_kind(gw_validation_t *v, const json_t *route, json_t *errors) {
    sl_err_t text;
    (void)route;
    const char *first = json_string_value(json_array_get(json_object_get(v->input, "protocols"), 0));
    if (!v->declarative || first == NULL) {
        return;
    }
    for (const char *const *name = protocol_names; *name != NULL; name++) {
        if (strcmp(first, *name) == 0) {
            return;
        }
    }
    sl_err_set(&text, SL_INVALID, "unknown type: %s", first);
    gw_error_add(v, errors, "protocols", gw_text(text.text));
}

static void check_route_snis(gw_validation_t *v, const json_t *route, json_t *errors) {
    const json_t *protocols = json_object_get(route, "protocols");
    bool tls = list_holds(protocols, "grpcs") || list_holds(protocols, "https") || list_holds(protocols, "tls") ||
               list_holds(protocols, "tls_passthrough");
    if (!tls && !gw_is_empty(json_object_get(route, "snis"))) {
        gw_error_add(v, errors, "snis", json_string("length must be 0"));
        gw_error_add_entity(v, errors, "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'");
    }
}

static void check_route_strip(gw_validation_t *v, const json_t *route, json_t *errors) {
    const json_t *protocols = json_object_get(route, "protocols");
    bool grpc = list_holds(protocols, "grpc") || list_holds(protocols, "grpcs");
    if (grpc && json_is_true(json_object_get(route, "strip_path"))) {
        gw_error_add(v, errors, "strip_path", json_string("cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'"));
    }
}

static void check_addresses(gw_validation_t *v, const json_t *route, json_t *errors) {
    for (const char *const *field = NAMES("sources", "destinations"); *field != NULL; field++) {
        size_t i;
        const json_t *address;
        json_array_foreach(json_object_get(route, *field), i, address) {
            if (gw_is_empty(json_object_get(address, "ip")) && gw_is_empty(json_object_get(address, "port"))) {
                gw_error_add_at(v, errors, *field, i,
                                json_pack("{s:[s]}", "@entity", "at least one of these fields must be non-empty: 'ip', 'port'"));
            }
        }
    }
}

static const gw_entity_check_t route_checks[] = {
    {.kind = GW_CHECK_CUSTOM, .fields = NAMES("protocols"), .with_invalid_fields = true, .run = check_route_kind},
    {.kind = GW_CHECK_CUSTOM, .fields = NAMES("protocols", "snis"), .run = check_route_snis},
    {.kind = GW_CHECK_CUSTOM, .fields = NAMES("protocols", "strip_path"), .run = check_route_strip},
    {.kind = GW_CHECK_CUSTOM, .fields = NAMES("sources", "destinations"), .run = check_addresses},
    {.kind = GW_CHECK_CUSTOM,
     .fields = NAMES("protocols", "methods", "hosts", "headers", "paths", "snis", "sources", "destinations"),
     .with_invalid_fields = true,
     .run = check_route_match},
    END_OF_CHECKS,
};

/* strip_path is true by default, but never for gRPC, where a path is the name of a method. */
static void route_shorthand(gw_validation_t *v, json_t *input) {
    const json_t *protocols = json_object_get(input, "protocols");
    bool grpc = list_holds(protocols, "grpc") || list_holds(protocols, "grpcs");
    if (grpc && json_object_get(input, "strip_path") == NULL) {
        gw_member_set(v, input, "strip_path", json_false());
    }
}

/* ---- filter chains -------------------------------------------------------------------------------------------------- */

static bool check_filter_name(const gw_validate_env_t *env, sl_str_t value, sl_err_t *err) {
    if (env->has_filter == NULL || env->has_filter(env->ud, value)) {
        return true;
    }
    sl_err_set(err, SL_INVALID, "no such filter");
    return false;
}

/* Without a schema of its own a filter takes text. */
static const char text_schema[] = "{\"type\":[\"string\",\"null\"]}";

static sl_str_t text_of(const json_t *record, const char *name) {
    const json_t *value = json_object_get(record, name);
    return json_is_string(value) ? sl_str(json_string_value(value), json_string_length(value)) : SL_STR_NULL;
}

/* The schema of the version that an entry names; SL_NOT_FOUND: there is no such version. */
static sl_status_t entry_schema(const gw_validate_env_t *env, const json_t *filter, sl_str_t *schema) {
    sl_str_t name = text_of(filter, "name"), version = text_of(filter, "version"), sha256 = text_of(filter, "sha256");
    *schema = SL_STR_NULL;
    if (version.len != 0 || sha256.len != 0) {
        return env->filter_version != NULL ? env->filter_version(env->ud, name, version, sha256, schema) : SL_NOT_FOUND;
    }
    *schema = env->filter_schema != NULL ? env->filter_schema(env->ud, name) : SL_STR_NULL;
    return SL_OK;
}

static json_t *check_filter_config(gw_validation_t *v, const json_t *filter, const json_t *value) {
    sl_err_t text;
    const gw_validate_env_t *env = v->env;
    const char *name = json_string_value(json_object_get(filter, "name"));
    sl_str_t source;
    if (name == NULL || !check_filter_name(env, sl_cstr(name), &text) || entry_schema(env, filter, &source) != SL_OK) {
        return NULL; /* the name or the version is the error */
    }
    source = source.len > 0 ? source : SL_STR(text_schema);
    json_t *schema = json_loadb(source.data, source.len, 0, NULL);
    sl_status_t rc = schema != NULL ? gw_json_schema_validate(schema, value, &text) : SL_NO_MEMORY;
    json_decref(schema);
    if (rc == SL_OK) {
        return NULL;
    }
    v->failed = v->failed || rc == SL_NO_MEMORY;
    return rc == SL_INVALID ? gw_text(text.text) : NULL;
}

static bool check_sha256(sl_str_t value, sl_err_t *err) {
    bool good = value.len == 64;
    for (size_t i = 0; good && i < value.len; i++) {
        good = strchr("0123456789abcdef", value.data[i]) != NULL;
    }
    if (!good) {
        sl_err_set(err, SL_INVALID, "expected a SHA-256: 64 hexadecimal digits in lower case");
    }
    return good;
}

/* Of `version` and `sha256`, which together name one version. */
static json_t *check_filter_version(gw_validation_t *v, const json_t *filter, const json_t *value) {
    sl_err_t text;
    sl_str_t schema;
    const char *name = json_string_value(json_object_get(filter, "name"));
    if (name == NULL || !check_filter_name(v->env, sl_cstr(name), &text) || entry_schema(v->env, filter, &schema) == SL_OK) {
        return NULL;
    }
    sl_err_set(&text, SL_INVALID, "filter '%s' has no such version", name);
    (void)value;
    return gw_text(text.text);
}

/* ---- options of filters: a field for each row of sl_filter_opts.def -------------------------------------------------- */

static json_t *check_option(gw_validation_t *v, const sl_filter_opt_t *opt, const json_t *value) {
    sl_err_t text;
    sl_filter_opts_t opts;
    sl_arena_t arena;
    if (value == NULL || json_is_null(value)) {
        return NULL;
    }
    sl_filter_opts_init(&opts);
    sl_arena_init(&arena, 1024, 65536);
    sl_status_t rc = gw_option_set(&opts, opt, value, &arena, &text);
    sl_arena_deinit(&arena);
    v->failed = v->failed || rc == SL_NO_MEMORY;
    return rc == SL_INVALID ? gw_text(text.text) : NULL;
}

/* Neither comma nor space: they separate items where a list is one text. */
static bool check_item(sl_str_t value, sl_err_t *err) {
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if (c <= ' ' || c == ',' || c == 0x7f) {
            sl_err_set(err, SL_INVALID, "must not hold commas, white space or control characters");
            return false;
        }
    }
    return true;
}

#define SL_FILTER_OPT(id, field, name, kind, def, values, min, max)                                                                        \
    static json_t *check_option_##id(gw_validation_t *v, const json_t *record, const json_t *value) {                                      \
        (void)record;                                                                                                                      \
        return check_option(v, &sl_filter_opts[SL_FOPT_##id], value);                                                                      \
    }
#include "sl_filter_opts.def"
#undef SL_FILTER_OPT

static const gw_field_t option_item = {.type = GW_TYPE_STRING, .check = check_item};

#define FIELD_SL_OPT_ENUM(id, n, v, lo, hi)                                                                                                \
    {.name = n, .type = GW_TYPE_STRING, .one_of = v, .check_json = check_option_##id, .only_if_set = true}
#define FIELD_SL_OPT_BOOL(id, n, v, lo, hi) {.name = n, .type = GW_TYPE_BOOLEAN, .check_json = check_option_##id, .only_if_set = true}
#define FIELD_SL_OPT_UINT(id, n, v, lo, hi)                                                                                                \
    {.name = n, .type = GW_TYPE_INTEGER, .between = true, .min = lo, .max = hi, .check_json = check_option_##id, .only_if_set = true}
#define FIELD_SL_OPT_SIZE(id, n, v, lo, hi) {.name = n, .type = GW_TYPE_JSON, .check_json = check_option_##id, .only_if_set = true}
#define FIELD_SL_OPT_LIST(id, n, v, lo, hi)                                                                                                \
    {.name = n, .type = GW_TYPE_ARRAY, .elements = &option_item, .check_json = check_option_##id, .only_if_set = true}
#define FIELD_SL_OPT_TEXT(id, n, v, lo, hi)                                                                                                \
    {.name = n, .type = GW_TYPE_STRING, .len_max = hi, .may_be_empty = true, .check_json = check_option_##id, .only_if_set = true}

static const gw_field_t filter_fields[] = {
    {.name = "name", .type = GW_TYPE_STRING, .required = true, .check_env = check_filter_name},
    {.name = "enabled", .type = GW_TYPE_BOOLEAN, .required = true, .def = "true"},
    {.name = "config", .type = GW_TYPE_JSON, .check_json = check_filter_config},
    {.name = "version", .type = GW_TYPE_STRING, .len_max = 64, .check_json = check_filter_version, .only_if_set = true},
    {.name = "sha256", .type = GW_TYPE_STRING, .check = check_sha256, .check_json = check_filter_version, .only_if_set = true},
#define SL_FILTER_OPT(id, field, name, kind, def, values, min, max) FIELD_##kind(id, name, values, min, max),
#include "sl_filter_opts.def"
#undef SL_FILTER_OPT
    END_OF_FIELDS,
};
static const gw_field_t filter_element = {.type = GW_TYPE_RECORD, .fields = filter_fields};

static const gw_field_t filter_chain_fields[] = {
    FIELD_ID,
    FIELD_NAME,
    {.name = "enabled", .type = GW_TYPE_BOOLEAN, .required = true, .def = "true"},
    {.name = "route", .type = GW_TYPE_FOREIGN, .reference = "routes", .unique = true, .on_delete_cascade = true},
    {.name = "service", .type = GW_TYPE_FOREIGN, .reference = "services", .unique = true, .on_delete_cascade = true},
    {.name = "filters", .type = GW_TYPE_ARRAY, .required = true, .len_min = 1, .elements = &filter_element},
    FIELD_CREATED,
    FIELD_UPDATED,
    FIELD_TAGS,
    END_OF_FIELDS,
};

static void check_wasm_state(gw_validation_t *v, const json_t *chain, json_t *errors) {
    (void)chain;
    if (!v->env->wasm_enabled) {
        gw_error_add_entity(v, errors, "wasm support is not enabled");
    } else if (!v->env->any_filters) {
        gw_error_add_entity(v, errors, "no wasm filters are available");
    }
}

static const gw_entity_check_t filter_chain_checks[] = {
    {.kind = GW_CHECK_AT_MOST_ONE, .fields = NAMES("service", "route")},
    {.kind = GW_CHECK_AT_LEAST_ONE, .fields = NAMES("service", "route")},
    {.kind = GW_CHECK_CUSTOM, .fields = NAMES("filters"), .with_invalid_fields = true, .run = check_wasm_state},
    END_OF_CHECKS,
};

/* ---- upstreams and targets ------------------------------------------------------------------------------------------ */

static const char *const hash_inputs[] = {"none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture", NULL};

#define INTERVAL(n) {.name = n, .type = GW_TYPE_NUMBER, .required = true, .def = "0", .between = true, .min = 0, .max = 65535}
#define COUNTER(n) {.name = n, .type = GW_TYPE_INTEGER, .required = true, .def = "0", .between = true, .min = 0, .max = 255}
#define STATUSES(d) {.name = "http_statuses", .type = GW_TYPE_ARRAY, .required = true, .def = d, .elements = &status_element}

static const gw_field_t status_element = {.type = GW_TYPE_INTEGER, .between = true, .min = 100, .max = 999};
static const gw_field_t probe_header_key = {.type = GW_TYPE_STRING, .check = gw_check_header_name};
static const gw_field_t probe_header_values = {.type = GW_TYPE_ARRAY, .elements = &text_element};
static const gw_field_t active_healthy_fields[] = {INTERVAL("interval"), COUNTER("successes"), STATUSES("[200,302]"), END_OF_FIELDS};
static const gw_field_t active_unhealthy_fields[] = {
    INTERVAL("interval"),
    COUNTER("http_failures"),
    COUNTER("tcp_failures"),
    COUNTER("timeouts"),
    STATUSES("[429,404,500,501,502,503,504,505]"),
    END_OF_FIELDS,
};
static const gw_field_t active_fields[] = {
    {.name = "type", .type = GW_TYPE_STRING, .required = true, .def = "\"http\"", .one_of = NAMES("tcp", "http", "https", "grpc", "grpcs")},
    {.name = "timeout", .type = GW_TYPE_NUMBER, .required = true, .def = "1", .between = true, .min = 0, .max = 65535},
    {.name = "concurrency", .type = GW_TYPE_INTEGER, .required = true, .def = "10", .between = true, .min = 1, .max = 2147483648},
    {.name = "http_path", .type = GW_TYPE_STRING, .required = true, .def = "\"/\"", .starts_with = "/", .check = gw_check_path},
    {.name = "https_sni", .type = GW_TYPE_STRING, .check = gw_check_sni},
    {.name = "https_verify_certificate", .type = GW_TYPE_BOOLEAN, .required = true, .def = "true"},
    {.name = "headers", .type = GW_TYPE_MAP, .keys = &probe_header_key, .elements = &probe_header_values},
    {.name = "healthy", .type = GW_TYPE_RECORD, .required = true, .fields = active_healthy_fields},
    {.name = "unhealthy", .type = GW_TYPE_RECORD, .required = true, .fields = active_unhealthy_fields},
    END_OF_FIELDS,
};
static const gw_field_t passive_healthy_fields[] = {
    COUNTER("successes"),
    STATUSES("[200,201,202,203,204,205,206,207,208,226,300,301,302,303,304,305,306,307,308]"),
    END_OF_FIELDS,
};
static const gw_field_t passive_unhealthy_fields[] = {
    COUNTER("http_failures"), COUNTER("tcp_failures"), COUNTER("timeouts"), STATUSES("[429,500,503]"), END_OF_FIELDS,
};
static const gw_field_t passive_fields[] = {
    {.name = "type", .type = GW_TYPE_STRING, .required = true, .def = "\"http\"", .one_of = NAMES("tcp", "http", "https", "grpc", "grpcs")},
    {.name = "healthy", .type = GW_TYPE_RECORD, .required = true, .fields = passive_healthy_fields},
    {.name = "unhealthy", .type = GW_TYPE_RECORD, .required = true, .fields = passive_unhealthy_fields},
    END_OF_FIELDS,
};
static const gw_field_t healthcheck_fields[] = {
    {.name = "threshold", .type = GW_TYPE_NUMBER, .required = true, .def = "0", .between = true, .min = 0, .max = 100},
    {.name = "active", .type = GW_TYPE_RECORD, .required = true, .fields = active_fields},
    {.name = "passive", .type = GW_TYPE_RECORD, .required = true, .fields = passive_fields},
    END_OF_FIELDS,
};

static const gw_field_t upstream_fields[] = {
    FIELDS_HEAD,
    {.name = "name", .type = GW_TYPE_STRING, .required = true, .unique = true, .check = gw_check_upstream_name},
    {.name = "algorithm",
     .type = GW_TYPE_STRING,
     .def = "\"round-robin\"",
     .one_of = NAMES("consistent-hashing", "least-connections", "round-robin", "latency")},
    {.name = "hash_on", .type = GW_TYPE_STRING, .def = "\"none\"", .one_of = hash_inputs},
    {.name = "hash_fallback", .type = GW_TYPE_STRING, .def = "\"none\"", .one_of = hash_inputs},
    {.name = "hash_on_header", .type = GW_TYPE_STRING, .check = gw_check_header_name},
    {.name = "hash_fallback_header", .type = GW_TYPE_STRING, .check = gw_check_header_name},
    {.name = "hash_on_cookie", .type = GW_TYPE_STRING, .check = gw_check_cookie_name},
    {.name = "hash_on_cookie_path", .type = GW_TYPE_STRING, .def = "\"/\"", .starts_with = "/", .check = gw_check_path},
    {.name = "hash_on_query_arg", .type = GW_TYPE_STRING},
    {.name = "hash_fallback_query_arg", .type = GW_TYPE_STRING},
    {.name = "hash_on_uri_capture", .type = GW_TYPE_STRING},
    {.name = "hash_fallback_uri_capture", .type = GW_TYPE_STRING},
    {.name = "slots", .type = GW_TYPE_INTEGER, .def = "10000", .between = true, .min = 10, .max = 65536},
    {.name = "healthchecks", .type = GW_TYPE_RECORD, .def = "{}", .fields = healthcheck_fields},
    FIELD_TAGS,
    {.name = "host_header", .type = GW_TYPE_STRING, .check = gw_check_host_port},
    {.name = "client_certificate", .type = GW_TYPE_FOREIGN, .reference = "certificates"},
    {.name = "use_srv_name", .type = GW_TYPE_BOOLEAN, .def = "false"},
    END_OF_FIELDS,
};

#define REQUIRED_WHEN(field, value, needed)                                                                                                \
    {.kind = GW_CHECK_CONDITIONAL, .fields = NAMES(field, needed), .if_one_of = NAMES(value), .then = GW_THEN_REQUIRED}
#define FALLBACK_WHEN(value, ...)                                                                                                          \
    {.kind = GW_CHECK_CONDITIONAL,                                                                                                         \
     .fields = NAMES("hash_on", "hash_fallback"),                                                                                          \
     .if_one_of = NAMES(value),                                                                                                            \
     .then = GW_THEN_ONE_OF,                                                                                                               \
     .then_one_of = NAMES(__VA_ARGS__)}

static const gw_entity_check_t upstream_checks[] = {
    REQUIRED_WHEN("hash_on", "header", "hash_on_header"),
    REQUIRED_WHEN("hash_fallback", "header", "hash_fallback_header"),
    REQUIRED_WHEN("hash_on", "cookie", "hash_on_cookie"),
    REQUIRED_WHEN("hash_fallback", "cookie", "hash_on_cookie"),
    REQUIRED_WHEN("hash_on", "query_arg", "hash_on_query_arg"),
    REQUIRED_WHEN("hash_fallback", "query_arg", "hash_fallback_query_arg"),
    REQUIRED_WHEN("hash_on", "uri_capture", "hash_on_uri_capture"),
    REQUIRED_WHEN("hash_fallback", "uri_capture", "hash_fallback_uri_capture"),
    FALLBACK_WHEN("none", "none"),
    FALLBACK_WHEN("cookie", "none"),
    FALLBACK_WHEN("consumer", "none", "ip", "header", "cookie", "path", "query_arg", "uri_capture"),
    FALLBACK_WHEN("ip", "none", "consumer", "header", "cookie", "path", "query_arg", "uri_capture"),
    FALLBACK_WHEN("path", "none", "consumer", "ip", "header", "cookie", "query_arg", "uri_capture"),
    {.kind = GW_CHECK_DISTINCT, .fields = NAMES("hash_on_header", "hash_fallback_header")},
    {.kind = GW_CHECK_DISTINCT, .fields = NAMES("hash_on_query_arg", "hash_fallback_query_arg")},
    {.kind = GW_CHECK_DISTINCT, .fields = NAMES("hash_on_uri_capture", "hash_fallback_uri_capture")},
    END_OF_CHECKS,
};

static bool is_text(const json_t *value, const char *text) {
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

/*
 * The algorithm and what it hashes are one choice: writing one of them settles the other, the hash input last. Only consistent
 * hashing over nothing, which is what is shown when just the algorithm was written, stays as it is.
 */
static void upstream_shorthand(gw_validation_t *v, json_t *input) {
    const json_t *algorithm = json_object_get(input, "algorithm");
    bool unhashed = is_text(algorithm, "least-connections") || is_text(algorithm, "latency");
    bool hashing = is_text(algorithm, "consistent-hashing");
    const json_t *hash_on = json_object_get(input, "hash_on");
    if (json_is_string(hash_on)) {
        bool none = is_text(hash_on, "none");
        if (!none || !hashing) {
            gw_member_set(v, input, "algorithm", json_string(none ? "round-robin" : "consistent-hashing"));
        }
    } else if (unhashed) {
        gw_member_set(v, input, "hash_on", json_null());
    }
}

static bool check_target(sl_str_t value, sl_err_t *err) {
    sl_str_t host;
    int port;
    if (gw_host_split(value, &host, &port) != GW_HOST_INVALID) {
        return true;
    }
    sl_err_set(err, SL_INVALID, "Invalid target; not a valid hostname or ip address");
    return false;
}

static const gw_field_t target_fields[] = {
    FIELDS_HEAD,
    {.name = "upstream", .type = GW_TYPE_FOREIGN, .required = true, .reference = "upstreams", .on_delete_cascade = true},
    {.name = "target", .type = GW_TYPE_STRING, .required = true, .check = check_target},
    {.name = "weight", .type = GW_TYPE_INTEGER, .def = "100", .between = true, .min = 0, .max = 65535},
    FIELD_TAGS,
    END_OF_FIELDS,
};

#define TARGET_PORT 8000

static void format_target(gw_validation_t *v, json_t *input) {
    char text[320];
    sl_str_t host;
    int port;
    const json_t *target = json_object_get(input, "target");
    if (!json_is_string(target)) {
        return;
    }
    gw_host_kind_t kind = gw_host_split(sl_str(json_string_value(target), json_string_length(target)), &host, &port);
    if (kind == GW_HOST_INVALID) {
        return;
    }
    const char *form = kind == GW_HOST_IPV6 ? "[%.*s]:%d" : "%.*s:%d";
    snprintf(text, sizeof(text), form, SL_FMT(host), port < 0 ? TARGET_PORT : port);
    gw_member_set(v, input, "target", json_string(text));
}

/* ---- consumers, plugins, certificates ------------------------------------------------------------------------------- */

static const gw_field_t consumer_fields[] = {
    FIELDS_HEAD,
    {.name = "username", .type = GW_TYPE_STRING, .unique = true},
    {.name = "custom_id", .type = GW_TYPE_STRING, .unique = true},
    FIELD_TAGS,
    END_OF_FIELDS,
};

static const gw_entity_check_t consumer_checks[] = {
    {.kind = GW_CHECK_AT_LEAST_ONE, .fields = NAMES("custom_id", "username")},
    END_OF_CHECKS,
};

/* Filters are the only plugins there are. */
static bool check_plugin_name(const gw_validate_env_t *env, sl_str_t value, sl_err_t *err) {
    if (env->has_filter == NULL || (env->wasm_enabled && env->has_filter(env->ud, value))) {
        return true;
    }
    sl_err_set(err, SL_INVALID, "plugin '%.*s' not enabled; add it to the 'plugins' configuration property", SL_FMT(value));
    return false;
}

static json_t *check_plugin_config(gw_validation_t *v, const json_t *plugin, const json_t *value) {
    bool known = v->env->has_filter != NULL; /* else the name is the error */
    return known ? check_filter_config(v, plugin, value) : NULL;
}

static const gw_field_t plugin_fields[] = {
    FIELDS_HEAD,
    {.name = "name", .type = GW_TYPE_STRING, .required = true, .check_env = check_plugin_name},
    {.name = "instance_name", .type = GW_TYPE_STRING, .unique = true, .check = gw_check_name},
    {.name = "route", .type = GW_TYPE_FOREIGN, .reference = "routes", .on_delete_cascade = true},
    {.name = "service", .type = GW_TYPE_FOREIGN, .reference = "services", .on_delete_cascade = true},
    {.name = "consumer", .type = GW_TYPE_FOREIGN, .reference = "consumers", .on_delete_cascade = true},
    {.name = "config", .type = GW_TYPE_JSON, .check_json = check_plugin_config},
    {.name = "protocols",
     .type = GW_TYPE_SET,
     .required = true,
     .def = "[\"grpc\",\"grpcs\",\"http\",\"https\"]",
     .len_min = 1,
     .elements = &protocol_element},
    {.name = "enabled", .type = GW_TYPE_BOOLEAN, .required = true, .def = "true"},
    FIELD_TAGS,
    END_OF_FIELDS,
};

/* A filter belongs to one service or route, never to a consumer or to everything. */
static void check_plugin_place(gw_validation_t *v, const json_t *plugin, json_t *errors) {
    bool service = !gw_is_empty(json_object_get(plugin, "service")), route = !gw_is_empty(json_object_get(plugin, "route"));
    if (v->env->has_filter == NULL) {
        return; /* it may be anybody's plugin */
    }
    if (!gw_is_empty(json_object_get(plugin, "consumer"))) {
        gw_error_add(v, errors, "consumer", json_string("value must be null"));
    }
    if (service && route) {
        gw_error_add_entity(v, errors, "only one or none of these fields must be set: 'service', 'route'");
    } else if (!service && !route) {
        gw_error_add_entity(v, errors, "at least one of these fields must be non-empty: 'service', 'route'");
    }
}

static const gw_entity_check_t plugin_checks[] = {
    {.kind = GW_CHECK_CUSTOM, .fields = NAMES("name", "service", "route", "consumer"), .run = check_plugin_place},
    END_OF_CHECKS,
};

static const gw_field_t certificate_sni_element = {.type = GW_TYPE_STRING, .check = gw_check_sni_wildcard};
static const gw_field_t certificate_fields[] = {
    FIELDS_HEAD,
    {.name = "cert", .type = GW_TYPE_STRING, .required = true, .check = gw_pem_check_certificate},
    {.name = "key", .type = GW_TYPE_STRING, .required = true, .check = gw_pem_check_key},
    {.name = "cert_alt", .type = GW_TYPE_STRING, .check = gw_pem_check_certificate},
    {.name = "key_alt", .type = GW_TYPE_STRING, .check = gw_pem_check_key},
    {.name = "snis", .type = GW_TYPE_SET, .elements = &certificate_sni_element, .transient = true},
    FIELD_TAGS,
    END_OF_FIELDS,
};

static sl_str_t text_at(const json_t *entity, const char *field) {
    const json_t *value = json_object_get(entity, field);
    return json_is_string(value) ? sl_str(json_string_value(value), json_string_length(value)) : SL_STR_NULL;
}

static void check_key_pair(gw_validation_t *v, const json_t *entity, json_t *errors) {
    if (!gw_pem_key_fits(text_at(entity, "cert"), text_at(entity, "key"))) {
        gw_error_add_entity(v, errors, "certificate does not match key");
    }
}

static void check_alternative(gw_validation_t *v, const json_t *entity, json_t *errors) {
    sl_str_t certificate = text_at(entity, "cert_alt"), key = text_at(entity, "key_alt");
    if (certificate.len == 0 || key.len == 0) {
        return;
    }
    if (!gw_pem_key_fits(certificate, key)) {
        gw_error_add_entity(v, errors, "alternative certificate does not match key");
    } else if (gw_pem_same_algorithm(text_at(entity, "cert"), certificate)) {
        gw_error_add_entity(v, errors,
                            "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided "
                            "certificates were both of the same type");
    }
}

static const gw_entity_check_t certificate_checks[] = {
    {.kind = GW_CHECK_ALL_OR_NONE, .fields = NAMES("cert_alt", "key_alt")},
    {.kind = GW_CHECK_CUSTOM, .fields = NAMES("cert", "key"), .run = check_key_pair},
    {.kind = GW_CHECK_CUSTOM, .fields = NAMES("cert", "cert_alt", "key_alt"), .run = check_alternative},
    END_OF_CHECKS,
};

static const gw_field_t sni_fields[] = {
    FIELDS_HEAD,
    {.name = "name", .type = GW_TYPE_STRING, .required = true, .unique = true, .check = gw_check_sni_wildcard},
    FIELD_TAGS,
    {.name = "certificate", .type = GW_TYPE_FOREIGN, .required = true, .reference = "certificates", .on_delete_cascade = true},
    END_OF_FIELDS,
};

static const gw_field_t ca_certificate_fields[] = {
    FIELDS_HEAD,
    {.name = "cert", .type = GW_TYPE_STRING, .required = true, .check = gw_pem_check_certificate},
    {.name = "cert_digest", .type = GW_TYPE_STRING, .unique = true},
    FIELD_TAGS,
    END_OF_FIELDS,
};

/* The digest is always the certificate's own. */
static void ca_certificate_shorthand(gw_validation_t *v, json_t *input) {
    gw_pem_info_t info;
    if (gw_pem_certificate_info(text_at(input, "cert"), &info)) {
        gw_member_set(v, input, "cert_digest", json_string(info.digest));
    }
}

static void check_ca_certificate(gw_validation_t *v, const json_t *entity, json_t *errors) {
    gw_pem_info_t info;
    if (!gw_pem_certificate_info(text_at(entity, "cert"), &info)) {
        gw_error_add(v, errors, "cert", json_string("invalid certificate: not readable"));
    } else if (info.count > 1) {
        gw_error_add_entity(v, errors, "please submit only one certificate at a time");
    } else if (info.not_after_s < v->env->now_s) {
        gw_error_add_entity(v, errors, "certificate expired, \"Not After\" time is in the past");
    } else if (!info.is_ca) {
        gw_error_add_entity(v, errors, "certificate does not appear to be a CA because it is missing the \"CA\" basic constraint");
    }
}

static const gw_entity_check_t ca_certificate_checks[] = {
    {.kind = GW_CHECK_CUSTOM, .fields = NAMES("cert"), .run = check_ca_certificate},
    END_OF_CHECKS,
};

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

const gw_entity_t gw_entities[] = {
    {.name = "certificates", .path = "certificates", .singular = "certificate", .fields = certificate_fields, .checks = certificate_checks},
    {.name = "ca_certificates",
     .path = "ca_certificates",
     .singular = "ca_certificate",
     .fields = ca_certificate_fields,
     .checks = ca_certificate_checks,
     .shorthand = ca_certificate_shorthand},
    {.name = "services",
     .path = "services",
     .singular = "service",
     .endpoint_key = "name",
     .fields = service_fields,
     .checks = service_checks,
     .shorthand = service_shorthand,
     .shorthand_fields = NAMES("url")},
    {.name = "routes",
     .path = "routes",
     .singular = "route",
     .endpoint_key = "name",
     .fields = route_fields,
     .checks = route_checks,
     .shorthand = route_shorthand},
    {.name = "consumers",
     .path = "consumers",
     .singular = "consumer",
     .endpoint_key = "username",
     .fields = consumer_fields,
     .checks = consumer_checks},
    {.name = "upstreams",
     .path = "upstreams",
     .singular = "upstream",
     .endpoint_key = "name",
     .fields = upstream_fields,
     .checks = upstream_checks,
     .shorthand = upstream_shorthand},
    {.name = "targets",
     .path = "targets",
     .singular = "target",
     .endpoint_key = "target",
     .cache_key = NAMES("upstream", "target"),
     .fields = target_fields,
     .shorthand = format_target,
     .float_time = true,
     .hidden_collection = true},
    {.name = "snis", .path = "snis", .singular = "sni", .endpoint_key = "name", .fields = sni_fields},
    {.name = "plugins",
     .path = "plugins",
     .singular = "plugin",
     .endpoint_key = "instance_name",
     .cache_key = NAMES("name", "route", "service", "consumer"),
     .fields = plugin_fields,
     .checks = plugin_checks},
    {.name = "filter_chains",
     .path = "filter-chains",
     .singular = "filter_chain",
     .endpoint_key = "name",
     .cache_key = NAMES("route", "service"),
     .fields = filter_chain_fields,
     .checks = filter_chain_checks},
    {.name = NULL},
};

const gw_entity_t *gw_entity_find(sl_str_t collection) {
    for (const gw_entity_t *e = gw_entities; e->name != NULL; e++) {
        if (sl_str_eq(collection, sl_cstr(e->name))) {
            return e;
        }
    }
    return NULL;
}

const gw_entity_t *gw_entity_by_path(sl_str_t path) {
    for (const gw_entity_t *e = gw_entities; e->name != NULL; e++) {
        if (sl_str_eq(path, sl_cstr(e->path))) {
            return e;
        }
    }
    return NULL;
}

const gw_field_t *gw_field_find(const gw_field_t *fields, const char *name) {
    for (; fields->name != NULL; fields++) {
        if (strcmp(fields->name, name) == 0) {
            return fields;
        }
    }
    return NULL;
}

const gw_field_t *gw_entity_link(const gw_entity_t *child, const gw_entity_t *parent) {
    for (const gw_field_t *f = child->fields; f->name != NULL; f++) {
        if (f->type == GW_TYPE_FOREIGN && strcmp(f->reference, parent->name) == 0) {
            return f;
        }
    }
    return NULL;
}

const gw_entity_t *gw_entity_child(const gw_entity_t *kind, const char *key) {
    const gw_entity_t *child = gw_entity_find(sl_cstr(key));
    const gw_field_t *field = gw_field_find(kind->fields, key);
    bool own = field != NULL && !field->transient;
    return child != NULL && !own && gw_entity_link(child, kind) != NULL ? child : NULL;
}

const char *gw_refused_collection(const char *name) {
    static const char *const refused[][2] = {
        {"vaults", "vaults are not supported by this gateway"},
        {"keys", "keys are not supported by this gateway"},
        {"key_sets", "key sets are not supported by this gateway"},
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (strcmp(name, refused[i][0]) == 0) {
            return refused[i][1];
        }
    }
    return NULL;
}
