package smartauth

import (
	"strings"
	"testing"
)

func TestClean_redacts_what_looks_like_a_credential_of_anybody(t *testing.T) {
	t.Parallel()
	const jwt = "eyJhbGciOiJSUzM4NCJ9.eyJpc3MiOiJjIn0.c2lnbmF0dXJl"
	opaque := strings.Repeat("a1B2", 20)
	for name, text := range map[string]string{
		"a JWT": "invalid assertion " + jwt + " at 12:00", "an opaque token": "unknown token " + opaque, "one of ours": "bad secret hunter2-of-ours",
	} {
		got := clean(text, 500, "hunter2-of-ours")
		for _, secret := range []string{jwt, opaque, "hunter2", "eyJ"} {
			if strings.Contains(got, secret) {
				t.Errorf("%s came through: %s", name, got)
			}
		}
		if !strings.Contains(got, redacted) {
			t.Errorf("%s: got %q, want the place to be marked", name, got)
		}
	}
	if got := clean("line\r\nbreak \x1b[31mred\u202e", 500); got != "line break [31mred" {
		t.Errorf("got %q", got)
	}
}
