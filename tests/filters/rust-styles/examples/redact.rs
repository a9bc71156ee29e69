// Collects the response body and hides it when it holds a word.
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root { word: Vec::new() }) });
}}

struct Root {
    word: Vec<u8>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        self.word = self.get_plugin_configuration().unwrap_or_default();
        !self.word.is_empty()
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Redact { word: self.word.clone() }))
    }
}

struct Redact {
    word: Vec<u8>,
}

impl Context for Redact {}

impl HttpContext for Redact {
    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_response_header("content-length", None);
        Action::Continue
    }

    fn on_http_response_body(&mut self, body_size: usize, end_of_stream: bool) -> Action {
        if !end_of_stream {
            return Action::Pause;
        }
        if let Some(body) = self.get_http_response_body(0, body_size) {
            if body.windows(self.word.len()).any(|part| part == self.word) {
                let text = format!("the original body ({} bytes) is not for you\n", body.len());
                self.set_http_response_body(0, body_size, text.as_bytes());
            }
        }
        Action::Continue
    }
}
