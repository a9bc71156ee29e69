// Asks a gRPC service about each request: status 0 lets it pass, anything else refuses it.
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(Auth) });
}}

struct Auth;

impl HttpContext for Auth {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let method = if self.get_http_request_header("x-stranger").is_some() { "Fail" } else { "Echo" };
        match self.dispatch_grpc_call("auth", "test.Service", method, vec![("x-from", b"filter")], Some(b"7 refused"), Duration::from_secs(5)) {
            Ok(_) => Action::Pause,
            Err(status) => {
                self.send_http_response(503, vec![], Some(format!("no gRPC: {status:?}\n").as_bytes()));
                Action::Pause
            }
        }
    }
}

impl Context for Auth {
    fn on_grpc_call_response(&mut self, _: u32, status_code: u32, response_size: usize) {
        if status_code == 0 {
            let answer = self.get_grpc_call_response_body(0, response_size).unwrap_or_default();
            self.set_http_request_header("x-auth", Some(&answer.len().to_string()));
            self.resume_http_request();
            return;
        }
        self.send_http_response(403, vec![("x-grpc-status", &status_code.to_string())], Some(b"forbidden\n"));
    }
}
