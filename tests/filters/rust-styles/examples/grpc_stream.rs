// Holds a conversation on a gRPC stream for each request: what the peer says to the words of x-say goes into the request as x-heard.
// Before the first word it says as many MiB as x-flood asks for.
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(Conversation::default()) });
}}

#[derive(Default)]
struct Conversation {
    say: Vec<String>,
    heard: Vec<String>,
    initial: usize,
}

impl Conversation {
    fn say_next(&mut self, token: u32) {
        let word = self.say.remove(0);
        self.send_grpc_stream_message(token, Some(word.as_bytes()), self.say.is_empty());
    }
}

impl HttpContext for Conversation {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let words = self.get_http_request_header("x-say").unwrap_or_default();
        self.say = words.split_whitespace().map(str::to_string).collect();
        if self.say.is_empty() {
            return Action::Continue;
        }
        match self.open_grpc_stream("chat", "test.Service", "Chat", vec![("x-from", b"filter")]) {
            Ok(token) => {
                let flood = self.get_http_request_header("x-flood").and_then(|n| n.parse().ok()).unwrap_or(0);
                for _ in 0..flood {
                    self.send_grpc_stream_message(token, Some(&[b'm'; 1 << 20]), false);
                }
                self.say_next(token);
            }
            Err(status) => self.send_http_response(503, vec![], Some(format!("{status:?}").as_bytes())),
        }
        Action::Pause
    }
}

impl Context for Conversation {
    fn on_grpc_stream_initial_metadata(&mut self, _: u32, _: u32) {
        self.initial = self.get_grpc_stream_initial_metadata().len();
    }

    fn on_grpc_stream_message(&mut self, token: u32, size: usize) {
        let message = self.get_grpc_stream_message(0, size).unwrap_or_default();
        self.heard.push(String::from_utf8_lossy(&message).into_owned());
        if !self.say.is_empty() {
            self.say_next(token);
        }
    }

    fn on_grpc_stream_close(&mut self, _: u32, status: u32) {
        if status != 0 {
            let (code, text) = self.get_grpc_status();
            self.send_http_response(502, vec![("x-grpc-status", &code.to_string())], text.as_deref().map(str::as_bytes));
            return;
        }
        self.set_http_request_header("x-heard", Some(&format!("{} after {}", self.heard.join(" "), self.initial)));
        self.resume_http_request();
    }
}
