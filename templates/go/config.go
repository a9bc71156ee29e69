package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

const defaultGreeting = "Hello from a filter in Go!"

// parseGreeting reads {"my_greeting": "..."}. Without that member, or without any text, the default greeting is meant.
func parseGreeting(text []byte) (string, error) {
	if len(text) == 0 {
		return defaultGreeting, nil
	}
	// A map, because a struct would also take MY_GREETING: encoding/json compares names without case.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return "", fmt.Errorf("must be a JSON object: %w", err)
	}
	if members == nil {
		return "", errors.New("must be a JSON object, not null")
	}
	value, found := members["my_greeting"]
	if !found {
		return defaultGreeting, nil
	}
	var greeting *string // a pointer, to tell null from ""
	if err := json.Unmarshal(value, &greeting); err != nil || greeting == nil {
		return "", errors.New("my_greeting: must be a string")
	}
	if strings.ContainsFunc(*greeting, isControl) {
		return "", errors.New("my_greeting: must not hold control characters")
	}
	return *greeting, nil
}

// isControl tells the characters that would end a header, or begin another one.
func isControl(r rune) bool {
	return (r < 0x20 && r != '\t') || r == 0x7f
}
