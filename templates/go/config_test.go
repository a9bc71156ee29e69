package main

import (
	"strings"
	"testing"
)

func TestParseGreetingAccepts(t *testing.T) {
	for text, want := range map[string]string{
		``:                      defaultGreeting,
		`{}`:                    defaultGreeting,
		`{"MY_GREETING": "x"}`:  defaultGreeting,
		`{"my_greeting": "hi"}`: "hi",
		`{"my_greeting": ""}`:   "",
		`{"a": {}, "my_greeting": "gr\u00fc\u00df \ud83d\ude00"}`: "grüß 😀",
	} {
		got, err := parseGreeting([]byte(text))
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestParseGreetingRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                            "must be a JSON object",
		`[]`:                           "must be a JSON object",
		`"hi"`:                         "must be a JSON object",
		`null`:                         "must be a JSON object",
		`{} x`:                         "must be a JSON object",
		`{"my_greeting": 1}`:           "must be a string",
		`{"my_greeting": null}`:        "must be a string",
		`{"my_greeting": "a\r\nb: c"}`: "must not hold control characters",
	} {
		if got, err := parseGreeting([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v; want an error with %q", text, got, err, want)
		}
	}
}
