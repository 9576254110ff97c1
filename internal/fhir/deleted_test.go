package fhir

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// maxBadEntries bounds the complaints that parseDeleted keeps.
const maxBadEntries = 100

// parseDeleted lists what EachDeleted finds in a line.
func parseDeleted(line []byte) (refs []Reference, bad []string, err error) {
	err = EachDeleted(line, func(ref Reference) error {
		refs = append(refs, ref)
		return nil
	}, func(entry int, why string) {
		if len(bad) < maxBadEntries {
			bad = append(bad, fmt.Sprintf("entry %d: %s", entry, why))
		}
	})
	return refs, bad, err
}

func TestDEL1_deletions(t *testing.T) {
	t.Parallel()
	bundle := func(entries string) string {
		return `{"resourceType":"Bundle","type":"transaction","entry":[` + entries + `]}`
	}
	entry := func(url string) string { return `{"request":{"method":"DELETE","url":"` + url + `"}}` }
	for _, test := range []struct {
		name, line string
		refs       []Reference
		bad        int
	}{
		{"one", bundle(entry("Patient/1")), []Reference{{"Patient", "1"}}, 0},
		{"several", bundle(entry("Patient/1") + "," + entry("Coverage/-a_b.c")), []Reference{{"Patient", "1"}, {"Coverage", "-a_b.c"}}, 0},
		{"leading slash", bundle(entry("/Patient/1")), []Reference{{"Patient", "1"}}, 0},
		{"absolute", bundle(entry("https://payer.example/r4/Patient/1")), []Reference{{"Patient", "1"}}, 0},
		{"trailing slash", bundle(entry("Patient/1/")), []Reference{{"Patient", "1"}}, 0},
		{"escaped", bundle(entry(`Patient\/\u0031`)), []Reference{{"Patient", "1"}}, 0},
		{"method in lower case", bundle(`{"request":{"method":"delete","url":"Patient/1"}}`), []Reference{{"Patient", "1"}}, 0},
		{"no entries", `{"resourceType":"Bundle","type":"transaction"}`, nil, 0},
		{"type missing", `{"resourceType":"Bundle","entry":[` + entry("Patient/1") + `]}`, []Reference{{"Patient", "1"}}, 0},
		{
			"type last", `{"entry":[` + entry("Patient/1") + `],"type":"transaction","resourceType":"Bundle"}`,
			[]Reference{{"Patient", "1"}},
			0,
		},
		{"conditional", bundle(entry("Patient?identifier=1") + "," + entry("Patient/1")), []Reference{{"Patient", "1"}}, 1},
		{"other method", bundle(`{"request":{"method":"PUT","url":"Patient/1"}}`), nil, 1},
		{"no method", bundle(`{"request":{"url":"Patient/1"}}`), nil, 1},
		{"no request", bundle(`{"resource":{"resourceType":"Patient","id":"1"}}`), nil, 1},
		{"no url", bundle(`{"request":{"method":"DELETE"}}`), nil, 1},
		{"entries of a wrong type", bundle(`1,null,"x",[],{"request":[]},{"request":{"method":1,"url":2}}`), nil, 6},
		{"unknown type", bundle(entry("Sparkle/1")), nil, 1},
		{"type only", bundle(entry("Patient") + "," + entry("Patient/") + "," + entry("/")), nil, 3},
		{"a version", bundle(entry("Patient/1/_history/2")), nil, 1},
		{"a path", bundle(entry("x/Patient/1")), nil, 1},
		{"long id", bundle(entry("Patient/" + strings.Repeat("x", MaxIDBytes+1))), nil, 1},
		{"history bundle", `{"resourceType":"Bundle","type":"history","entry":[` + entry("Patient/1") + `]}`, nil, 1},
		{"batch", `{"resourceType":"Bundle","type":"batch","entry":[` + entry("Patient/1") + `]}`, nil, 1},
		{"entry is an object", `{"resourceType":"Bundle","type":"transaction","entry":` + entry("Patient/1") + `}`, nil, 1},
	} {
		refs, bad, err := parseDeleted([]byte(test.line))
		if err != nil || !reflect.DeepEqual(refs, test.refs) || len(bad) != test.bad {
			t.Errorf("%s: got %v, bad %q, %v, want %v, %d bad", test.name, refs, bad, err, test.refs, test.bad)
		}
		for _, why := range bad {
			if strings.Contains(why, "identifier") || strings.Contains(why, "Sparkle") {
				t.Errorf("%s: %q quotes the payer", test.name, why)
			}
		}
	}
}

func TestDEL1_whatIsNoBundle(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		``, ` `, `[]`, `{}`, `{"resourceType":"Patient","id":"1"}`, `{"resourceType":"Bundle"`, `{"resourceType":"Bundle"} {}`,
		`{"resourceType":"Bundle","entry":[{"request":{"method":"DELETE","url":"Patient/1\ud800"}}]}`,
		strings.Repeat("[", 10_000), `{"resourceType":"Bundle","entry":` + strings.Repeat("[", 10_000),
	} {
		refs, _, err := parseDeleted([]byte(line))
		var bad *LineError
		if !errors.As(err, &bad) || len(refs) != 0 {
			t.Errorf("%.40q: got %v, %v, want a *LineError", line, refs, err)
		}
	}
}

// manyDeletions is a Bundle with n entries.
func manyDeletions(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"resourceType":"Bundle","type":"transaction","entry":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"request":{"method":"DELETE","url":"Patient/%d"}}`, i)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

func TestDEL1_aMillionEntries(t *testing.T) {
	if testing.Short() {
		t.Skip("reads a large Bundle")
	}
	t.Parallel()
	const entries = 1_000_000
	line := manyDeletions(entries)
	count := 0
	err := EachDeleted(line, func(ref Reference) error {
		if ref.Type != "Patient" {
			return fmt.Errorf("got %v", ref)
		}
		count++
		return nil
	}, func(entry int, why string) { t.Errorf("entry %d: %s", entry, why) })
	if err != nil || count != entries {
		t.Errorf("got %d deletions, %v", count, err)
	}
	stop := errors.New("stop")
	count = 0
	err = EachDeleted(manyDeletions(10), func(Reference) error { count++; return stop }, func(int, string) {})
	if !errors.Is(err, stop) || count != 1 {
		t.Errorf("got %d calls, %v, want one and the error of apply", count, err)
	}
	patches := strings.ReplaceAll(string(manyDeletions(1000)), "DELETE", "PATCH")
	if refs, bad, err := parseDeleted([]byte(patches)); len(refs) != 0 || len(bad) != maxBadEntries || err != nil {
		t.Errorf("got %d deletions and %d complaints, %v, want %d complaints", len(refs), len(bad), err, maxBadEntries)
	}
}

func BenchmarkEachDeleted(b *testing.B) {
	line := manyDeletions(100_000)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := EachDeleted(line, func(Reference) error { return nil }, func(int, string) {}); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseDeleted(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/1"}}]}`))
	f.Add([]byte(`{"resourceType":"Bundle","entry":[{"request":{"method":"DELETE","url":"https://x/Patient/1?a"}},{}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		refs, bad, err := parseDeleted(line)
		if err != nil && len(refs) > 0 {
			t.Fatalf("got %v with %v", refs, err)
		}
		if len(bad) > maxBadEntries {
			t.Fatalf("got %d complaints", len(bad))
		}
		for _, ref := range refs {
			if !KnownType(ref.Type) || ref.ID == "" || len(ref.ID) > MaxIDBytes || strings.ContainsAny(ref.ID, "/?#\x00") {
				t.Fatalf("got %+v", ref)
			}
		}
	})
}
