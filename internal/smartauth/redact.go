package smartauth

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// secret is a string that prints as itself nowhere. It is held by a function: fmt prints the fields of unexported struct
// members without asking their methods, and follows pointers there under verbs that do not fit, but of a function it
// knows only the address.
type secret func() string

func newSecret(value string) secret { return func() string { return value } }

func (s secret) reveal() string {
	if s == nil {
		return ""
	}
	return s()
}

const redacted = "[redacted]"

// String redacts the value.
func (secret) String() string { return redacted }

// Format redacts the value under every verb.
func (secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// MarshalJSON redacts the value.
func (secret) MarshalJSON() ([]byte, error) { return redactedJSON(redacted) }

// LogValue redacts the value.
func (secret) LogValue() slog.Value { return slog.StringValue(redacted) }

func redactedJSON(text string) ([]byte, error) {
	data, err := json.Marshal(text)
	if err != nil {
		return nil, fmt.Errorf("encode a redacted value: %w", err)
	}
	return data, nil
}

// credentialLike matches what a careless server may echo in an error: a JWT, or any long run of token characters.
var credentialLike = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}[A-Za-z0-9_.-]*|[A-Za-z0-9_+/=.~-]{64,}`)

// clean makes text of a payer fit for an error message: one line, printable, short, and without anything that looks like a
// credential or is one of those given.
func clean(text string, limit int, credentials ...string) string {
	for _, credential := range credentials {
		if credential != "" {
			text = strings.ReplaceAll(text, credential, redacted)
		}
	}
	text = credentialLike.ReplaceAllString(text, redacted)
	text = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return -1
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	return truncate(strings.Join(strings.Fields(text), " "), limit)
}

// truncate shortens text to at most limit runes.
func truncate(text string, limit int) string {
	count := 0
	for i := range text {
		if count == limit {
			return text[:i] + "…"
		}
		count++
	}
	return text
}
