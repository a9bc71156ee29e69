// Asks a service for a byte: an even one lets the request pass, an odd one refuses it.
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
        let dice = self.get_http_request_header("x-dice").unwrap_or_else(|| "/bytes/1".to_string());
        let headers = vec![(":method", "GET"), (":path", dice.as_str()), (":authority", "dice")];
        self.dispatch_http_call("dice", headers, None, vec![], Duration::from_secs(5)).unwrap();
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_response_header("powered-by", Some("proxy-wasm"));
        Action::Continue
    }
}

impl Context for Auth {
    fn on_http_call_response(&mut self, _: u32, _: usize, body_size: usize, _: usize) {
        if let Some(body) = self.get_http_call_response_body(0, body_size) {
            if body.first().is_some_and(|byte| byte % 2 == 0) {
                log::info!("access granted");
                self.resume_http_request();
                return;
            }
        }
        log::info!("access refused");
        self.send_http_response(403, vec![("powered-by", "dice")], Some(b"forbidden by the dice\n"));
    }
}
