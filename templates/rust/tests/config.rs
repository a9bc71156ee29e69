#[path = "../src/config.rs"]
mod config;

use config::{parse_greeting, DEFAULT_GREETING};

#[test]
fn accepts_a_greeting() {
    for (text, want) in [
        ("", DEFAULT_GREETING),
        ("{}", DEFAULT_GREETING),
        (r#"{"MY_GREETING": "x"}"#, DEFAULT_GREETING),
        (r#"{"my_greeting": "hi"}"#, "hi"),
        (r#"{"my_greeting": ""}"#, ""),
        (r#"{"a": {}, "my_greeting": "gr\u00fc\u00df \ud83d\ude00"}"#, "grüß 😀"),
    ] {
        assert_eq!(parse_greeting(text.as_bytes()).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn refuses_everything_else() {
    for (text, want) in [
        ("{", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        (r#""hi""#, "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("{} x", "must be a JSON object"),
        (r#"{"my_greeting": 1}"#, "must be a string"),
        (r#"{"my_greeting": null}"#, "must be a string"),
        (r#"{"my_greeting": "a\r\nb: c"}"#, "must not hold control characters"),
    ] {
        let error = parse_greeting(text.as_bytes()).expect_err(text);
        assert!(error.contains(want), "{text}: {error}");
    }
}
