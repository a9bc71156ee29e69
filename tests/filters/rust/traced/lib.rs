// Fails as the request header x-do says, some calls deep: what the log says of it is looked at by tests/integration/test_backtraces.py.
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

proxy_wasm::main! {{
    proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(Shop { prices: vec![3, 4] }) });
}}

struct Shop {
    prices: Vec<u32>,
}

impl Shop {
    #[inline(never)]
    fn price(&self, item: usize) -> u32 {
        self.prices[item]
    }

    #[inline(never)]
    fn discount(&self, percent: Option<u32>) -> u32 {
        percent.expect("a discount")
    }
}

#[inline(never)]
fn parse<T: std::str::FromStr>(text: &str) -> T {
    match text.parse() {
        Ok(value) => value,
        Err(_) => std::process::abort(),
    }
}

impl Context for Shop {}

impl HttpContext for Shop {
    #[inline(never)]
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let what = self.get_http_request_header("x-do").unwrap_or_default();
        let n = what.len();
        let sum = match what.as_str() {
            "index" => self.price(n),
            "expect" => self.discount(None),
            "abort" => parse::<u32>(&what),
            _ => 0,
        };
        self.set_http_request_header("x-sum", Some(&sum.to_string()));
        Action::Continue
    }
}
