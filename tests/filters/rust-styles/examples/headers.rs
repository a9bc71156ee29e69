// Logs all headers of a request, and answers one path by itself.
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root) });
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Headers { context_id }))
    }
}

struct Headers {
    context_id: u32,
}

impl Context for Headers {}

impl HttpContext for Headers {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        for (name, value) in &self.get_http_request_headers() {
            log::info!("#{} -> {name}: {value}", self.context_id);
        }
        if self.get_http_request_header(":path").as_deref() == Some("/hello") {
            self.send_http_response(200, vec![("hello", "world"), ("powered-by", "a filter")], Some(b"hello, world\n"));
            return Action::Pause;
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        for (name, value) in &self.get_http_response_headers() {
            log::info!("#{} <- {name}: {value}", self.context_id);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        log::info!("#{} completed", self.context_id);
    }
}
