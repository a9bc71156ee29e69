// The behaviours of tests/filters/README.md, for every version of the crate proxy-wasm: what differs between them is behind cfg(sdk_014).

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

thread_local! {
    // Contexts that the next tick resumes.
    static WAITING: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

fn start() {
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root { plugin: Rc::new(Plugin::default()) }) });
}

#[cfg(sdk_014)]
#[no_mangle]
pub extern "C" fn _start() {
    start();
}

#[cfg(not(sdk_014))]
proxy_wasm::main! {{ start(); }}

#[derive(Default)]
struct Plugin {
    name: String,
    queue: u32,
    counter: u32,
    gauge: u32,
    histogram: u32,
}

struct Root {
    plugin: Rc<Plugin>,
}

fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.unwrap_or_default()).unwrap()
}

fn metric(kind: MetricType, name: &str, what: &str) -> u32 {
    hostcalls::define_metric(kind, &format!("matrix.{name}.{what}")).unwrap()
}

impl Root {
    #[cfg(sdk_014)]
    fn vm_configuration(&self) -> Option<Vec<u8>> {
        self.get_configuration()
    }
    #[cfg(not(sdk_014))]
    fn vm_configuration(&self) -> Option<Vec<u8>> {
        self.get_vm_configuration()
    }
    #[cfg(sdk_014)]
    fn plugin_configuration(&self) -> Option<Vec<u8>> {
        self.get_configuration()
    }
    #[cfg(not(sdk_014))]
    fn plugin_configuration(&self) -> Option<Vec<u8>> {
        self.get_plugin_configuration()
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_vm_start(&mut self, _size: usize) -> bool {
        log::info!("vm [{}]", text(self.vm_configuration()));
        true
    }

    fn on_configure(&mut self, _size: usize) -> bool {
        let name = text(self.plugin_configuration());
        log::info!("configured [{name}]");
        if name == "refuse" {
            return false;
        }
        self.plugin = Rc::new(Plugin {
            queue: self.register_shared_queue(&format!("matrix-{name}")),
            counter: metric(MetricType::Counter, &name, "counter"),
            gauge: metric(MetricType::Gauge, &name, "gauge"),
            histogram: metric(MetricType::Histogram, &name, "histogram"),
            name,
        });
        self.set_tick_period(Duration::from_millis(20));
        true
    }

    fn on_tick(&mut self) {
        for id in WAITING.with(|w| w.take()) {
            hostcalls::set_effective_context(id).unwrap();
            hostcalls::set_map_value(proxy_wasm::types::MapType::HttpRequestHeaders, "x-ticked", Some("yes")).unwrap();
            hostcalls::resume_http_request().unwrap();
        }
    }

    fn on_queue_ready(&mut self, queue_id: u32) {
        while let Ok(Some(item)) = self.dequeue_shared_queue(queue_id) {
            log::info!("dequeued {}", text(Some(item)));
        }
        log::info!("queue empty");
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http { id: context_id, plugin: Rc::clone(&self.plugin), behaviour: String::new(), note: None }))
    }
}

struct Http {
    id: u32,
    plugin: Rc<Plugin>,
    behaviour: String,
    note: Option<String>,
}

impl Http {
    fn reply(&self, status: u32, body: &str) {
        self.send_http_response(status, vec![("x-reply", "yes")], Some(format!("{body}:{}", self.plugin.name).as_bytes()));
    }

    fn call(&self, upstream: &str, path: &str, timeout_ms: u64) -> Result<u32, Status> {
        let headers = vec![(":method", "POST"), (":path", path), (":authority", "origin"), ("x-from", "guest")];
        self.dispatch_http_call(upstream, headers, Some(b"ping"), vec![], Duration::from_millis(timeout_ms))
    }

    fn shared(&self) -> String {
        let key = format!("matrix-{}", self.plugin.name);
        let before = self.get_shared_data(&key).0.map_or("none".to_string(), |v| text(Some(v)));
        self.set_shared_data(&key, Some(b"1"), None).unwrap();
        let cas = self.get_shared_data(&key).1.unwrap();
        let wrong = match self.set_shared_data(&key, Some(b"x"), Some(cas + 1)) {
            Err(Status::CasMismatch) => "mismatch",
            _ => "unexpected",
        };
        self.set_shared_data(&key, Some(b"2"), Some(cas)).unwrap();
        format!("{before},{wrong},{}", text(self.get_shared_data(&key).0))
    }

    fn metrics(&self) -> String {
        let p = &self.plugin;
        hostcalls::increment_metric(p.counter, 2).unwrap();
        hostcalls::record_metric(p.gauge, 7).unwrap();
        hostcalls::record_metric(p.histogram, 5).unwrap();
        format!("{},{}", hostcalls::get_metric(p.counter).unwrap(), hostcalls::get_metric(p.gauge).unwrap())
    }

    fn property(&self) -> String {
        self.set_property(vec!["matrix", "own"], Some(b"kept"));
        let own = text(self.get_property(vec!["matrix", "own"]));
        let absent = self.get_property(vec!["matrix", "absent"]).map_or("none", |_| "some");
        let path = text(self.get_property(vec!["request", "path"]));
        format!("{path},{own},{absent},[{}]", text(self.get_property(vec!["plugin_root_id"])))
    }

    #[cfg(sdk_014)]
    fn foreign(&self) -> &str {
        "unsupported"
    }
    #[cfg(not(sdk_014))]
    fn foreign(&self) -> &str {
        match self.call_foreign_function("matrix_unknown", Some(b"x")) {
            Err(Status::NotFound) => "not found",
            _ => "unexpected",
        }
    }

    fn log_levels(&self) {
        log::trace!("level trace");
        log::debug!("level debug");
        log::info!("level info");
        log::warn!("level warn");
        log::error!("level error");
        hostcalls::log(LogLevel::Critical, "level critical").unwrap();
    }

    fn print(&self) {
        println!("to stdout");
        eprintln!("to stderr");
    }

    fn change_headers(&mut self) {
        let value = self.get_http_request_header("x-in").unwrap();
        self.set_http_request_header("x-in", Some(&format!("{value}-changed")));
        self.add_http_request_header("x-multi", "one");
        self.add_http_request_header("x-multi", "two");
        self.set_http_request_header("x-gone", None);
        let gone = self.get_http_request_header("x-gone").map_or("gone", |_| "still there");
        self.note = Some(format!("{value},{gone}"));
    }

    fn change_map(&mut self) {
        let mut pairs = self.get_http_request_headers();
        let count = pairs.iter().filter(|(name, _)| name.starts_with("x-")).count().to_string();
        pairs.retain(|(name, _)| name != "x-gone");
        pairs.push(("x-map".to_string(), count));
        self.set_http_request_headers(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect());
    }

    fn request_headers(&mut self, end_of_stream: &str) -> Action {
        log::info!("request headers end={end_of_stream}");
        self.behaviour = self.get_http_request_header("x-do").unwrap_or_default();
        match self.behaviour.as_str() {
            "headers" => self.change_headers(),
            "map" => self.change_map(),
            "path" => self.set_http_request_header(":path", Some("/echo/rewritten?by=guest")),
            "body" | "append" => self.set_http_request_header("content-length", None),
            "reply" => {
                self.reply(403, "denied");
                return Action::Pause;
            }
            "call" | "callreply" => {
                self.call("origin", "/headers?x-answer=42", 5000).unwrap();
                return Action::Pause;
            }
            "calltimeout" => {
                self.call("origin", "/hang", 100).unwrap();
                return Action::Pause;
            }
            "callrefused" => self.note = Some(self.call("nowhere", "/", 1000).map_or("refused", |_| "accepted").to_string()),
            "shared" => self.note = Some(self.shared()),
            "queue" => {
                let item = format!("item-{}", self.get_http_request_header("x-in").unwrap());
                self.enqueue_shared_queue(self.plugin.queue, Some(item.as_bytes())).unwrap();
            }
            "metric" => self.note = Some(self.metrics()),
            "property" => self.note = Some(self.property()),
            "foreign" => self.note = Some(self.foreign().to_string()),
            "log" => self.log_levels(),
            "print" => self.print(),
            "time" => {
                let seconds = self.get_current_time().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                self.note = Some(seconds.to_string());
            }
            "tick" => {
                WAITING.with(|w| w.borrow_mut().push(self.id));
                return Action::Pause;
            }
            "panic" => panic!("as asked"),
            _ => {}
        }
        Action::Continue
    }

    fn response_headers(&mut self, end_of_stream: &str) -> Action {
        log::info!("response headers end={end_of_stream}");
        self.set_http_response_header("x-filter", Some(&self.plugin.name));
        if let Some(note) = &self.note {
            self.set_http_response_header("x-note", Some(note));
        }
        match self.behaviour.as_str() {
            "stream" | "rebuild" => self.set_http_response_header("content-length", None),
            "replylate" => {
                self.reply(502, "late");
                return Action::Pause;
            }
            "callresponse" => {
                self.call("origin", "/headers?x-answer=42", 5000).unwrap();
                return Action::Pause;
            }
            _ => {}
        }
        Action::Continue
    }
}

impl Context for Http {
    fn on_http_call_response(&mut self, _token: u32, num_headers: usize, body_size: usize, _num_trailers: usize) {
        let outcome = if num_headers == 0 {
            "failed".to_string()
        } else {
            let status = self.get_http_call_response_header(":status").unwrap();
            let answer = self.get_http_call_response_header("x-answer").unwrap_or_default();
            format!("{status},{answer},{}", text(self.get_http_call_response_body(0, body_size)).trim())
        };
        match self.behaviour.as_str() {
            "callreply" => self.reply(401, &outcome),
            "callresponse" => {
                self.set_http_response_header("x-call", Some(&outcome));
                self.resume_http_response();
            }
            _ => {
                self.set_http_request_header("x-call", Some(&outcome));
                self.resume_http_request();
            }
        }
    }
}

impl HttpContext for Http {
    #[cfg(sdk_014)]
    fn on_http_request_headers(&mut self, _: usize) -> Action {
        self.request_headers("unknown")
    }
    #[cfg(not(sdk_014))]
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.request_headers(if end_of_stream { "yes" } else { "no" })
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        match self.behaviour.as_str() {
            "body" if !end_of_stream => return Action::Pause,
            "body" => {
                let body = text(self.get_http_request_body(0, size));
                self.set_http_request_body(0, size, format!("<{body}>").as_bytes());
            }
            "append" if end_of_stream => self.set_http_request_body(size, 0, b"+end"),
            "replybody" => {
                self.reply(413, "body");
                return Action::Pause;
            }
            _ => {}
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if self.behaviour == "trailers" {
            let value = self.get_http_request_trailer("x-trailer").unwrap_or_default();
            self.set_http_request_trailer("x-trailer", Some(&format!("{value}-changed")));
            self.add_http_request_trailer("x-added", "guest");
        }
        Action::Continue
    }

    #[cfg(sdk_014)]
    fn on_http_response_headers(&mut self, _: usize) -> Action {
        self.response_headers("unknown")
    }
    #[cfg(not(sdk_014))]
    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.response_headers(if end_of_stream { "yes" } else { "no" })
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        match self.behaviour.as_str() {
            "stream" => self.set_http_response_body(size, 0, if end_of_stream { b"|end" } else { b"|" }),
            "rebuild" if !end_of_stream => return Action::Pause,
            "rebuild" => {
                let length = self.get_http_response_body(0, usize::MAX).map_or(0, |b| b.len());
                self.set_http_response_body(0, size, format!("length={length}").as_bytes());
            }
            _ => {}
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        if self.behaviour == "trailers" {
            let value = self.get_http_response_trailer("x-trailer").unwrap_or_default();
            self.set_http_response_trailer("x-trailer", Some(&format!("{value}-changed")));
            self.add_http_response_trailer("x-added", "guest");
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        log::info!("log [{}] status={}", self.behaviour, self.get_http_response_header(":status").unwrap_or_default());
    }
}
