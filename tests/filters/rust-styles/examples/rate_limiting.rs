// Counts the requests of each client and route in fixed windows, in the manner of a gateway's plugin: JSON configuration, counters in shared
// data with compare-and-swap, the gateway's own properties as keys, a body in JSON for those who ask too much.
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, Status};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root { limit: 0, window_s: 3600 }) });
}}

struct Root {
    limit: i64,
    window_s: u64,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        let Ok(config) = serde_json::from_slice::<Value>(&text) else {
            log::error!("the configuration is not JSON");
            return false;
        };
        self.limit = config["limit"].as_i64().unwrap_or(0);
        self.window_s = config["window"].as_u64().unwrap_or(3600);
        self.limit > 0
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Limiter { limit: self.limit, window_s: self.window_s, headers: None }))
    }
}

struct Limiter {
    limit: i64,
    window_s: u64,
    headers: Option<(i64, i64)>, // limit, remaining
}

impl Limiter {
    fn text(&self, path: Vec<&str>) -> Option<String> {
        self.get_property(path).and_then(|bytes| String::from_utf8(bytes).ok())
    }

    fn key(&self) -> String {
        let client = self.text(vec!["ngx", "remote_addr"]).unwrap_or_else(|| "nobody".to_string());
        let route = self.text(vec!["kong", "route_name"]).unwrap_or_else(|| "none".to_string());
        let service = self.text(vec!["kong", "service_name"]).unwrap_or_else(|| "none".to_string());
        let window = self.get_current_time().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / self.window_s;
        format!("ratelimit:{service}:{route}:{client}:{window}")
    }

    fn count(&self, key: &str) -> i64 {
        loop {
            let (value, cas) = self.get_shared_data(key);
            let used = value.and_then(|v| v.try_into().ok()).map_or(0, i64::from_le_bytes) + 1;
            match self.set_shared_data(key, Some(&used.to_le_bytes()), cas) {
                Ok(()) => return used,
                Err(Status::CasMismatch) => continue,
                Err(status) => panic!("shared data: {status:?}"),
            }
        }
    }
}

impl Context for Limiter {}

impl HttpContext for Limiter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let key = self.key();
        let remaining = self.limit - self.count(&key);
        self.headers = Some((self.limit, remaining.max(0)));
        self.set_property(vec!["kong", "ctx", "shared", "ratelimit-key"], Some(key.as_bytes()));
        if remaining >= 0 {
            return Action::Continue;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let retry = (self.window_s - now % self.window_s).to_string();
        let headers = vec![("content-type", "application/json"), ("retry-after", retry.as_str())];
        self.send_http_response(429, headers, Some(b"{\"message\":\"too many requests\"}"));
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if let Some((limit, remaining)) = self.headers {
            self.add_http_response_header("x-ratelimit-limit", &limit.to_string());
            self.add_http_response_header("x-ratelimit-remaining", &remaining.to_string());
        }
        if let Some(key) = self.text(vec!["kong", "ctx", "shared", "ratelimit-key"]) {
            self.add_http_response_header("x-ratelimit-key", &key);
        }
        Action::Continue
    }
}
