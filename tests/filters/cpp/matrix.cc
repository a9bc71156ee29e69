// The behaviours of tests/filters/README.md in C++: classes and strings of libc++ over sdk/c, a WASI reactor. The allocator is exported as
// malloc alone, property paths end with a NUL and a global constructor registers the factory, as with the C++ SDK.
#define PROXY_WASM_IMPLEMENTATION
#define PROXY_WASM_USE_LIBC
#define PROXY_WASM_NO_ALLOCATOR
#include "proxy_wasm.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

pw_str_t view(std::string_view s) {
    return pw_str(s.data(), s.size());
}

void must(pw_status_t status) {
    if (status != PW_OK) {
        fprintf(stderr, "status %d\n", static_cast<int>(status));
        abort();
    }
}

std::string take(pw_bytes_t bytes) {
    std::string s(bytes.len == 0 ? "" : bytes.data, bytes.len);
    pw_bytes_free(&bytes);
    return s;
}

void info(std::string_view message) {
    pw_log(PW_LOG_INFO, view(message));
}

std::string header(pw_map_t map, std::string_view name) {
    pw_bytes_t bytes{};
    return pw_header_get(map, view(name), &bytes) == PW_OK ? take(bytes) : "";
}

void set(pw_map_t map, std::string_view name, std::string_view value) {
    must(pw_header_set(map, view(name), view(value)));
}

void add(pw_map_t map, std::string_view name, std::string_view value) {
    must(pw_header_add(map, view(name), view(value)));
}

void drop(pw_map_t map, std::string_view name) {
    must(pw_header_remove(map, view(name)));
}

std::string buffer(pw_buffer_t which) {
    pw_bytes_t bytes{};
    return pw_buffer_get(which, 0, SIZE_MAX, &bytes) == PW_OK ? take(bytes) : "";
}

std::string path_of(std::initializer_list<std::string_view> parts) {
    std::string path;
    for (auto part : parts) {
        path.append(part).push_back('\0');
    }
    return path;
}

bool property(std::initializer_list<std::string_view> parts, std::string *value) {
    pw_bytes_t bytes{};
    if (pw_property_get(view(path_of(parts)), &bytes) != PW_OK) {
        return false;
    }
    *value = take(bytes);
    return true;
}

Pairs pairs_of(pw_map_t map) {
    pw_pairs_t pairs;
    pw_pair_t pair;
    Pairs all;
    must(pw_pairs_get(map, &pairs));
    while (pw_pairs_next(&pairs, &pair)) {
        all.emplace_back(std::string(pair.name.data, pair.name.len), std::string(pair.value.data, pair.value.len));
    }
    pw_pairs_free(&pairs);
    return all;
}

void set_pairs(pw_map_t map, const Pairs &all) {
    std::vector<pw_pair_t> pairs;
    for (const auto &[name, value] : all) {
        pairs.push_back({view(name), view(value)});
    }
    must(pw_pairs_set(map, pairs.data(), static_cast<uint32_t>(pairs.size())));
}

class Base {
  public:
    virtual ~Base() = default;
};

class Stream;

class Root : public Base {
  public:
    std::string name;
    uint32_t queue = 0, counter = 0, gauge = 0, histogram = 0;
    std::vector<uint32_t> waiting;
    std::map<uint32_t, Stream *> calls;

    bool configure() {
        name = buffer(PW_BUFFER_PLUGIN_CONFIGURATION);
        info("configured [" + name + "]");
        if (name == "refuse") {
            return false;
        }
        std::string queue_name = "matrix-" + name;
        must(proxy_register_shared_queue(queue_name.data(), queue_name.size(), &queue));
        counter = define(PW_METRIC_COUNTER, "counter");
        gauge = define(PW_METRIC_GAUGE, "gauge");
        histogram = define(PW_METRIC_HISTOGRAM, "histogram");
        must(proxy_set_tick_period_milliseconds(20));
        return true;
    }

    void tick() {
        for (uint32_t id : std::exchange(waiting, {})) {
            must(proxy_set_effective_context(id));
            set(PW_MAP_REQUEST_HEADERS, "x-ticked", "yes");
            must(proxy_continue_stream(PW_STREAM_REQUEST));
        }
    }

    void queue_ready(uint32_t id) {
        pw_bytes_t item{};
        while (proxy_dequeue_shared_queue(id, &item.data, &item.len) == PW_OK) {
            info("dequeued " + take(item));
        }
        info("queue empty");
    }

  private:
    uint32_t define(pw_metric_t kind, const char *what) {
        uint32_t id;
        std::string full = "matrix." + name + "." + what;
        must(proxy_define_metric(kind, full.data(), full.size(), &id));
        return id;
    }
};

class Stream : public Base {
  public:
    Stream(uint32_t id, Root *root) : id_(id), root_(root) {}
    ~Stream() override {
        for (auto it = root_->calls.begin(); it != root_->calls.end();) {
            it = it->second == this ? root_->calls.erase(it) : std::next(it);
        }
    }

    uint32_t request_headers(bool end) {
        info(std::string("request headers end=") + (end ? "yes" : "no"));
        does_ = header(PW_MAP_REQUEST_HEADERS, "x-do");
        auto found = behaviours().find(does_);
        return found == behaviours().end() ? PW_CONTINUE : found->second(*this);
    }

    uint32_t request_body(size_t size, bool end) {
        if (does_ == "body") {
            if (!end) {
                return PW_DATA_STOP_AND_BUFFER;
            }
            std::string body = "<" + buffer(PW_BUFFER_REQUEST_BODY) + ">";
            must(proxy_set_buffer_bytes(PW_BUFFER_REQUEST_BODY, 0, size, body.data(), body.size()));
        } else if (does_ == "append" && end) {
            must(pw_buffer_append(PW_BUFFER_REQUEST_BODY, PW_STR("+end")));
        } else if (does_ == "replybody") {
            return reply(413, "body");
        }
        return PW_CONTINUE;
    }

    uint32_t response_headers(bool end) {
        info(std::string("response headers end=") + (end ? "yes" : "no"));
        set(PW_MAP_RESPONSE_HEADERS, "x-filter", root_->name);
        if (noted_) {
            set(PW_MAP_RESPONSE_HEADERS, "x-note", note_);
        }
        if (does_ == "stream" || does_ == "rebuild") {
            drop(PW_MAP_RESPONSE_HEADERS, "content-length");
        } else if (does_ == "replylate") {
            return reply(502, "late");
        } else if (does_ == "callresponse") {
            return wait_for_call("/headers?x-answer=42", 5000);
        }
        return PW_CONTINUE;
    }

    uint32_t response_body(size_t size, bool end) {
        if (does_ == "stream") {
            must(pw_buffer_append(PW_BUFFER_RESPONSE_BODY, view(end ? "|end" : "|")));
        } else if (does_ == "rebuild") {
            if (!end) {
                return PW_DATA_STOP_AND_BUFFER;
            }
            std::string body = "length=" + std::to_string(buffer(PW_BUFFER_RESPONSE_BODY).size());
            must(proxy_set_buffer_bytes(PW_BUFFER_RESPONSE_BODY, 0, size, body.data(), body.size()));
        }
        return PW_CONTINUE;
    }

    uint32_t trailers(pw_map_t map) {
        if (does_ == "trailers") {
            set(map, "x-trailer", header(map, "x-trailer") + "-changed");
            add(map, "x-added", "guest");
        }
        return PW_CONTINUE;
    }

    void answered(uint32_t n_headers) {
        std::string outcome = "failed";
        if (n_headers != 0) {
            std::string body = buffer(PW_BUFFER_CALL_RESPONSE_BODY);
            body.erase(body.find_last_not_of('\n') + 1);
            outcome = header(PW_MAP_CALL_RESPONSE_HEADERS, ":status") + "," + header(PW_MAP_CALL_RESPONSE_HEADERS, "x-answer") + "," + body;
        }
        must(proxy_set_effective_context(id_));
        if (does_ == "callreply") {
            reply(401, outcome);
            return;
        }
        bool response = does_ == "callresponse";
        set(response ? PW_MAP_RESPONSE_HEADERS : PW_MAP_REQUEST_HEADERS, "x-call", outcome);
        must(proxy_continue_stream(response ? PW_STREAM_RESPONSE : PW_STREAM_REQUEST));
    }

    void log() {
        info("log [" + does_ + "] status=" + header(PW_MAP_RESPONSE_HEADERS, ":status"));
    }

  private:
    uint32_t id_;
    Root *root_;
    std::string does_, note_;
    bool noted_ = false;

    uint32_t note(std::string text) {
        note_ = std::move(text);
        noted_ = true;
        return PW_CONTINUE;
    }

    uint32_t reply(uint32_t status, std::string_view text) {
        pw_pair_t headers[] = {{PW_STR("x-reply"), PW_STR("yes")}};
        must(pw_reply(status, headers, 1, view(std::string(text) + ":" + root_->name)));
        return PW_PAUSE;
    }

    pw_status_t call(std::string_view upstream, std::string_view path, uint32_t timeout_ms) {
        pw_pair_t headers[] = {{PW_STR(":method"), PW_STR("POST")},
                               {PW_STR(":path"), view(path)},
                               {PW_STR(":authority"), PW_STR("origin")},
                               {PW_STR("x-from"), PW_STR("guest")}};
        uint32_t token;
        pw_status_t status = pw_http_call(view(upstream), headers, 4, PW_STR("ping"), timeout_ms, &token);
        if (status == PW_OK) {
            root_->calls[token] = this;
        }
        return status;
    }

    uint32_t wait_for_call(std::string_view path, uint32_t timeout_ms) {
        must(call("origin", path, timeout_ms));
        return PW_PAUSE;
    }

    static std::pair<std::string, uint32_t> shared(const std::string &key) {
        pw_bytes_t value{};
        uint32_t cas = 0;
        pw_status_t status = proxy_get_shared_data(key.data(), key.size(), &value.data, &value.len, &cas);
        return status == PW_OK ? std::make_pair(take(value), cas) : std::make_pair(std::string("none"), cas);
    }

    std::string shared() {
        std::string key = "matrix-" + root_->name;
        std::string before = shared(key).first;
        must(proxy_set_shared_data(key.data(), key.size(), "1", 1, 0));
        uint32_t cas = shared(key).second;
        pw_status_t wrong = proxy_set_shared_data(key.data(), key.size(), "x", 1, cas + 1);
        must(proxy_set_shared_data(key.data(), key.size(), "2", 1, cas));
        return before + (wrong == PW_CAS_MISMATCH ? ",mismatch," : ",unexpected,") + shared(key).first;
    }

    std::string metrics() {
        uint64_t counted, set_to;
        must(proxy_increment_metric(root_->counter, 2));
        must(proxy_record_metric(root_->gauge, 7));
        must(proxy_record_metric(root_->histogram, 5));
        must(proxy_get_metric(root_->counter, &counted));
        must(proxy_get_metric(root_->gauge, &set_to));
        return std::to_string(counted) + "," + std::to_string(set_to);
    }

    std::string properties() {
        std::string path, own, absent, root = "?";
        must(pw_property_set(view(path_of({"matrix", "own"})), PW_STR("kept")));
        bool some = property({"matrix", "absent"}, &absent);
        property({"request", "path"}, &path);
        property({"matrix", "own"}, &own);
        property({"plugin_root_id"}, &root);
        return path + "," + own + "," + (some ? "some" : "none") + ",[" + root + "]";
    }

    std::string foreign() {
        char *results;
        size_t size;
        pw_status_t status = proxy_call_foreign_function("matrix_unknown", 14, "x", 1, &results, &size);
        return status == PW_NOT_FOUND ? "not found" : "unexpected";
    }

    uint32_t change_headers() {
        std::string value = header(PW_MAP_REQUEST_HEADERS, "x-in");
        set(PW_MAP_REQUEST_HEADERS, "x-in", value + "-changed");
        add(PW_MAP_REQUEST_HEADERS, "x-multi", "one");
        add(PW_MAP_REQUEST_HEADERS, "x-multi", "two");
        drop(PW_MAP_REQUEST_HEADERS, "x-gone");
        return note(value + "," + (header(PW_MAP_REQUEST_HEADERS, "x-gone").empty() ? "gone" : "still there"));
    }

    uint32_t change_map() {
        Pairs kept;
        int count = 0;
        for (auto &pair : pairs_of(PW_MAP_REQUEST_HEADERS)) {
            count += pair.first.rfind("x-", 0) == 0;
            if (pair.first != "x-gone") {
                kept.push_back(std::move(pair));
            }
        }
        kept.emplace_back("x-map", std::to_string(count));
        set_pairs(PW_MAP_REQUEST_HEADERS, kept);
        return PW_CONTINUE;
    }

    uint32_t enqueue() {
        std::string item = "item-" + header(PW_MAP_REQUEST_HEADERS, "x-in");
        must(proxy_enqueue_shared_queue(root_->queue, item.data(), item.size()));
        return PW_CONTINUE;
    }

    uint32_t log_levels() {
        static const char *const names[] = {"trace", "debug", "info", "warn", "error", "critical"};
        for (int level = PW_LOG_TRACE; level <= PW_LOG_CRITICAL; level++) {
            pw_log(static_cast<pw_log_level_t>(level), view(std::string("level ") + names[level]));
        }
        return PW_CONTINUE;
    }

    uint32_t print() {
        puts("to stdout");
        fflush(stdout);
        fputs("to stderr\n", stderr);
        return PW_CONTINUE;
    }

    uint32_t tell_time() {
        uint64_t now_ns;
        must(proxy_get_current_time_nanoseconds(&now_ns));
        return note(std::to_string(now_ns / 1000000000));
    }

    uint32_t wait_for_tick() {
        root_->waiting.push_back(id_);
        return PW_PAUSE;
    }

    uint32_t drop_length() {
        drop(PW_MAP_REQUEST_HEADERS, "content-length");
        return PW_CONTINUE;
    }

    [[noreturn]] uint32_t panic() {
        fputs("as asked\n", stderr);
        abort();
    }

    static const std::map<std::string, std::function<uint32_t(Stream &)>> &behaviours() {
        static const std::map<std::string, std::function<uint32_t(Stream &)>> table = {
            {"headers", [](Stream &s) { return s.change_headers(); }},
            {"map", [](Stream &s) { return s.change_map(); }},
            {"path",
             [](Stream &) {
                 set(PW_MAP_REQUEST_HEADERS, ":path", "/echo/rewritten?by=guest");
                 return static_cast<uint32_t>(PW_CONTINUE);
             }},
            {"body", [](Stream &s) { return s.drop_length(); }},
            {"append", [](Stream &s) { return s.drop_length(); }},
            {"reply", [](Stream &s) { return s.reply(403, "denied"); }},
            {"call", [](Stream &s) { return s.wait_for_call("/headers?x-answer=42", 5000); }},
            {"callreply", [](Stream &s) { return s.wait_for_call("/headers?x-answer=42", 5000); }},
            {"calltimeout", [](Stream &s) { return s.wait_for_call("/hang", 100); }},
            {"callrefused", [](Stream &s) { return s.note(s.call("nowhere", "/", 1000) == PW_OK ? "accepted" : "refused"); }},
            {"shared", [](Stream &s) { return s.note(s.shared()); }},
            {"queue", [](Stream &s) { return s.enqueue(); }},
            {"metric", [](Stream &s) { return s.note(s.metrics()); }},
            {"property", [](Stream &s) { return s.note(s.properties()); }},
            {"foreign", [](Stream &s) { return s.note(s.foreign()); }},
            {"log", [](Stream &s) { return s.log_levels(); }},
            {"print", [](Stream &s) { return s.print(); }},
            {"time", [](Stream &s) { return s.tell_time(); }},
            {"tick", [](Stream &s) { return s.wait_for_tick(); }},
            {"panic", [](Stream &s) -> uint32_t { return s.panic(); }},
        };
        return table;
    }
};

using Factory = std::unique_ptr<Root> (*)();

std::map<std::string, Factory> &factories() {
    static std::map<std::string, Factory> all;
    return all;
}

// Only a global constructor fills the table: a host that does not run them has no filter.
struct Register {
    Register() {
        factories()[""] = factories()["matrix"] = [] { return std::make_unique<Root>(); };
    }
} registered;

std::map<uint32_t, std::unique_ptr<Base>> contexts;

Root &root(uint32_t id) {
    return *static_cast<Root *>(contexts.at(id).get());
}

Stream &stream(uint32_t id) {
    return *static_cast<Stream *>(contexts.at(id).get());
}

} // namespace

extern "C" {

void proxy_on_context_create(uint32_t id, uint32_t parent) {
    if (parent != 0) {
        contexts[id] = std::make_unique<Stream>(id, &root(parent));
        return;
    }
    std::string root_id;
    if (!property({"plugin_root_id"}, &root_id)) {
        abort();
    }
    auto factory = factories().find(root_id);
    if (factory == factories().end()) {
        fprintf(stderr, "no root context for root id: %s\n", root_id.c_str());
        abort();
    }
    contexts[id] = factory->second();
}

uint32_t proxy_on_vm_start(uint32_t, uint32_t) {
    info("vm [" + buffer(PW_BUFFER_VM_CONFIGURATION) + "]");
    return 1;
}

uint32_t proxy_validate_configuration(uint32_t, uint32_t) {
    return 1;
}

uint32_t proxy_on_configure(uint32_t id, uint32_t) {
    return root(id).configure();
}

void proxy_on_tick(uint32_t id) {
    root(id).tick();
}

void proxy_on_queue_ready(uint32_t id, uint32_t queue) {
    root(id).queue_ready(queue);
}

uint32_t proxy_on_request_headers(uint32_t id, uint32_t, uint32_t end) {
    return stream(id).request_headers(end != 0);
}

uint32_t proxy_on_request_body(uint32_t id, uint32_t size, uint32_t end) {
    return stream(id).request_body(size, end != 0);
}

uint32_t proxy_on_request_trailers(uint32_t id, uint32_t) {
    return stream(id).trailers(PW_MAP_REQUEST_TRAILERS);
}

uint32_t proxy_on_request_metadata(uint32_t, uint32_t) {
    return 0;
}

uint32_t proxy_on_response_headers(uint32_t id, uint32_t, uint32_t end) {
    return stream(id).response_headers(end != 0);
}

uint32_t proxy_on_response_body(uint32_t id, uint32_t size, uint32_t end) {
    return stream(id).response_body(size, end != 0);
}

uint32_t proxy_on_response_trailers(uint32_t id, uint32_t) {
    return stream(id).trailers(PW_MAP_RESPONSE_TRAILERS);
}

void proxy_on_http_call_response(uint32_t id, uint32_t token, uint32_t n_headers, uint32_t, uint32_t) {
    auto node = root(id).calls.extract(token);
    if (!node.empty()) {
        node.mapped()->answered(n_headers);
    }
}

uint32_t proxy_on_done(uint32_t) {
    return 1;
}

void proxy_on_log(uint32_t id) {
    if (auto *s = dynamic_cast<Stream *>(contexts.at(id).get())) {
        s->log();
    }
}

void proxy_on_delete(uint32_t id) {
    contexts.erase(id);
}
}
