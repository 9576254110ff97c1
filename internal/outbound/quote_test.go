package outbound

import (
	"io"
	"strings"
	"testing"
)

// phi is what a payer's answer holds where a header should stand: what was left of the body before, say.
const phi = `{"resourceType":"Patient","name":[{"family":"Weatherwax"}]}`

func TestErrors_quote_nothing_of_an_answer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"no status line":      phi + "\n",
		"a status":            "HTTP/1.1 Weatherwax\r\n\r\n",
		"a status code":       "HTTP/1.1 2Weatherwax0 OK\r\n\r\n",
		"a version":           "HTTP/Weatherwax 200 OK\r\n\r\n",
		"a header":            "HTTP/1.1 200 OK\r\n" + phi + "\r\n\r\n",
		"a header's first":    "HTTP/1.1 200 OK\r\n Weatherwax\r\n\r\n",
		"a length":            "HTTP/1.1 200 OK\r\nContent-Length: Weatherwax\r\n\r\n",
		"two lengths":         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: Weatherwax\r\n\r\n",
		"a transfer encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: Weatherwax\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sent := false
			err := tryOnce(t.Context(), t, answerRaw(t, func(w io.Writer) error {
				if sent {
					return io.EOF
				}
				sent = true
				_, err := io.WriteString(w, answer)
				return err
			}), Options{})
			if err == nil {
				t.Fatal("the answer was taken")
			}
			if strings.Contains(err.Error(), "Weatherwax") {
				t.Errorf("got %q, which quotes the answer", err)
			}
			t.Log(err)
		})
	}
}
