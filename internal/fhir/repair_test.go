package fhir

import (
	"bytes"
	"errors"
	"testing"
)

func TestRepairText_replaces_what_jsonb_cannot_hold_and_nothing_else(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"a\u0000b"`:             `"a\ufffdb"`,
		`"\ud800"`:               `"\ufffd"`,
		`"\uDC00x"`:              `"\ufffdx"`,
		`"\ud83d\ude00"`:         `"\ud83d\ude00"`,
		`"\ud83d\ud83d\ude00"`:   `"\ufffd\ud83d\ude00"`,
		`"\ud83d\u0041"`:         `"\ufffd\u0041"`,
		`"\\u0000"`:              `"\\u0000"`,
		`"\\\u0000"`:             `"\\\ufffd"`,
		`"\u0000\u0000\u0001\n"`: `"\ufffd\ufffd\u0001\n"`,
		`"\u00`:                  `"\u00`,
		`\`:                      `\`,
		``:                       ``,
	} {
		got := []byte(text)
		if n := RepairText(got); string(got) != want || n != bytes.Count(got, []byte(replacement)) {
			t.Errorf("%s: got %s with %d replaced, want %s", text, got, n, want)
		}
	}
}

func FuzzRepairText(f *testing.F) {
	for _, seed := range []string{`{"resourceType":"Patient","id":"a","x":"\u0000"}`, `{"x":"\ud800\\"}`, `"\ud83d\ude00"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		length := len(line)
		RepairText(line)
		var refused *LineError
		if _, err := Scan(line); errors.As(err, &refused) && (refused.Reason == ReasonNUL || refused.Reason == ReasonLoneSurrogate) {
			// What breaks off within an escape sequence is no JSON, whatever else it is.
			if refused.Offset+len(replacement) <= len(line) && bytes.IndexByte(line[:refused.Offset], '"') >= 0 {
				t.Errorf("%q is still refused: %v", line, err)
			}
		}
		if len(line) != length {
			t.Error("the length changed")
		}
	})
}
