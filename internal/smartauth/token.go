package smartauth

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"
)

// Token is an access token and what is known of it. It redacts itself in every format; the value leaves it only as the
// Authorization header that a Source's transport sets. The zero Token is what a Source without authorization returns.
type Token struct {
	// Scopes are the scopes granted: those of the answer, or those asked for where the answer names none.
	Scopes []string
	// MissingTypes are the resource types that the registration needs and the granted scopes do not cover.
	MissingTypes []string
	// Obtained is when the token was asked for, and Expires when its life ends, counted from there.
	Obtained time.Time
	Expires  time.Time

	value secret
	// serial tells tokens apart for compare-and-swap, also where a server issues the same value again.
	serial uint64
}

// IsZero reports whether this is no token.
func (t Token) IsZero() bool { return t.value == nil }

// live reports whether the token may still be sent at now. Both clocks must agree: the monotonic one is right when the wall
// clock is set back, the wall clock when the machine slept.
func (t Token) live(now time.Time) bool {
	if t.IsZero() {
		return false
	}
	margin := min(2*time.Second, t.Expires.Sub(t.Obtained)/10) // a request takes time to arrive
	last := t.Expires.Add(-margin)
	return now.Before(last) && now.Round(0).Before(last.Round(0))
}

// authorization is the header's value: always with a capital B, since servers compare it so.
func (t Token) authorization() string { return "Bearer " + t.value.reveal() }

func (t Token) clone() Token {
	t.Scopes = slices.Clone(t.Scopes)
	t.MissingTypes = slices.Clone(t.MissingTypes)
	return t
}

// String names the token without its value.
func (t Token) String() string {
	if t.IsZero() {
		return "smartauth.Token(none)"
	}
	return fmt.Sprintf("smartauth.Token(%s, expires %s)", redacted, t.Expires.UTC().Format(time.RFC3339))
}

// Format redacts the token under every verb.
func (t Token) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, t.String()) }

// MarshalJSON redacts the token.
func (t Token) MarshalJSON() ([]byte, error) { return redactedJSON(t.String()) }

// MarshalText redacts the token.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// LogValue redacts the token.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }
