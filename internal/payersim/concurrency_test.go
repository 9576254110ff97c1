package payersim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestServer_keeps_concurrent_exports_apart runs exports that overlap: each must show one round whole, and no two the
// same one.
func TestServer_keeps_concurrent_exports_apart(t *testing.T) {
	t.Parallel()
	const exports = 8
	p := start(t, Options{Patients: 30, Seed: 6, Changes: 0.2, LinesPerFile: 50, CacheBytes: 20_000})
	token := p.token("system/*.rs")
	type result struct {
		at    string
		state map[string]string
	}
	results := make([]result, exports)
	var wg sync.WaitGroup
	for n := range exports {
		wg.Go(func() {
			got := p.kick("/$export?_type=ExplanationOfBenefit", token)
			status := p.send(http.MethodGet, got.Header.Get("Content-Location"), "", bearerOf(token))
			var m manifest
			if err := json.Unmarshal(status.body, &m); err != nil {
				t.Errorf("export %d: %d %s", n, status.StatusCode, status.body)
				return
			}
			state := map[string]string{}
			for _, entry := range m.Output {
				file := p.send(http.MethodGet, entry.URL, "", bearerOf(token))
				for line := range strings.Lines(string(file.body)) {
					line = strings.TrimSuffix(line, "\n")
					state["ExplanationOfBenefit/"+scanLine([]byte(line)).id] = line
				}
			}
			results[n] = result{m.TransactionTime, state}
		})
	}
	wg.Wait()
	slices.SortFunc(results, func(a, b result) int { return strings.Compare(a.at, b.at) })
	for round, got := range results {
		want := map[string]string{}
		err := p.TruthAt(t.Context(), round, []string{"ExplanationOfBenefit"}, func(resourceType, id string, line []byte) bool {
			want[resourceType+"/"+id] = string(line)
			return true
		})
		if err != nil || !equalStates(got.state, want) {
			t.Errorf("the export of %s does not show round %d (%v)", got.at, round, err)
		}
		if round > 0 && got.at == results[round-1].at {
			t.Errorf("two exports have the transactionTime %s", got.at)
		}
	}
}

// TestINC1_a_transactionTime_is_a_valid_since_at_once asks for the next increment as fast as it can.
func TestINC1_a_transactionTime_is_a_valid_since_at_once(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Patients: 3, Changes: 1})
	token := p.token("system/*.rs")
	since := "2026-01-01T00:00:00Z"
	for range 20 {
		m, _ := p.export("/$export?_type=Patient&_since="+url.QueryEscape(since), token)
		if m.TransactionTime <= since {
			t.Fatalf("transactionTime %s is not later than %s", m.TransactionTime, since)
		}
		since = m.TransactionTime
	}
}

func TestMAN13_an_export_expires(t *testing.T) {
	t.Parallel()
	p := start(t, Options{JobLifetime: 50 * time.Millisecond})
	token := p.token("system/*.rs")
	statusURL := p.kick("/$export", token).Header.Get("Content-Location")
	var got answer
	deadline := time.Now().Add(10 * time.Second)
	for got.Response == nil || got.StatusCode == http.StatusOK && time.Now().Before(deadline) {
		got = p.send(http.MethodGet, statusURL, "", bearerOf(token))
	}
	expect(t, got, http.StatusGone, "expired")
}

func TestGzipCache_keeps_the_latest_used_within_its_limit(t *testing.T) {
	t.Parallel()
	c := gzipCache{limit: 100}
	for _, key := range []string{"a", "b", "c"} {
		c.put(key, make([]byte, 30))
	}
	if _, ok := c.get("a"); !ok {
		t.Fatal("a is gone though there is room")
	}
	c.put("d", make([]byte, 40)) // b, the longest unused, has to go
	c.put("e", make([]byte, 101))
	for key, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true, "e": false} {
		if _, ok := c.get(key); ok != want {
			t.Errorf("%s kept: %v, expected %v", key, ok, want)
		}
	}
	if c.bytes > c.limit {
		t.Errorf("%d bytes kept, the limit is %d", c.bytes, c.limit)
	}
	off := gzipCache{limit: -1}
	off.put("a", nil)
	if _, ok := off.get("a"); ok {
		t.Error("a cache that is switched off keeps something")
	}
}
