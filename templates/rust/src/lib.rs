//! A filter that greets: every response gets the header x-greeting with the text of its configuration, `{"my_greeting": "..."}`. A configuration
//! that is not such an object is refused, with the reason in the log.

mod config;

use log::error;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root { greeting: Rc::from("") }) });
}}

/// One per place where the filter is configured.
struct Root {
    greeting: Rc<str>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _configuration_size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        match config::parse_greeting(&text) {
            Ok(greeting) => {
                self.greeting = Rc::from(greeting);
                true
            }
            Err(reason) => {
                error!("configuration refused: {reason}");
                false
            }
        }
    }

    // Both are needed: a root context that makes no HTTP contexts must say so, or the first request ends the virtual machine.
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http { greeting: Rc::clone(&self.greeting) }))
    }
}

/// One per request.
struct Http {
    greeting: Rc<str>,
}

impl Context for Http {}

impl HttpContext for Http {
    fn on_http_response_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        // As bytes: the variant for str ends the virtual machine when a value is not UTF-8, and this is the habit to have.
        self.set_http_response_header_bytes("X-Greeting", Some(self.greeting.as_bytes()));
        Action::Continue
    }
}
