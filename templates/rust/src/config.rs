//! The configuration of the filter; plain Rust, so that `cargo test` can run it on the machine itself.

use serde_json::Value;

pub const DEFAULT_GREETING: &str = "Hello from a filter in Rust!";

/// Reads `{"my_greeting": "..."}`. Without that member, or without any text, the default greeting is meant.
pub fn parse_greeting(text: &[u8]) -> Result<String, String> {
    if text.is_empty() {
        return Ok(DEFAULT_GREETING.to_string());
    }
    let document: Value = serde_json::from_slice(text).map_err(|error| format!("must be a JSON object: {error}"))?;
    let members = document.as_object().ok_or("must be a JSON object")?;
    let greeting = match members.get("my_greeting") {
        None => return Ok(DEFAULT_GREETING.to_string()),
        Some(value) => value.as_str().ok_or("my_greeting: must be a string")?,
    };
    // A control character would end the header, or begin another one.
    if greeting.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
        return Err("my_greeting: must not hold control characters".to_string());
    }
    Ok(greeting.to_string())
}
