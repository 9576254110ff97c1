package export

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// endlessly answers with a start and then the same text until the client has gone, at most 200 MiB of it.
func endlessly(start, more string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, start)
		block := strings.Repeat(more, max(64<<10/len(more), 1))
		for sent := 0; sent < 200<<20; sent += len(block) {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
		}
	}
}

// allocated returns how many bytes f allocates, of which its memory at any time is a part. Other tests must not run beside it.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc) - int64(before.TotalAlloc)
}

//nolint:paralleltest // it measures what the process allocates
func TestPoll_refuses_an_endless_value_of_a_manifest_in_little_memory(t *testing.T) {
	const most = 48 << 20 // the decoder's buffer doubles up to twice the bound, and the transports have theirs
	for name, handler := range map[string]http.HandlerFunc{
		"a string":           endlessly(`{"transactionTime":"`, "x"),
		"a member's name":    endlessly(`{"`, "x"),
		"an unknown member":  endlessly(`{"output":[],"x":[`, "1,"),
		"a file":             endlessly(`{"output":[{"url":"https://payer.example/`, "x"),
		"a file's extension": endlessly(`{"output":[{"extension":[`, `{"url":"x"},`),
		"nesting":            endlessly(`{"x":`, "["),
		"white space":        endlessly(`{`, " "),
		"a number":           endlessly(`{"x":`, "1"),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPayer(t, handler)
			var err error
			got := allocated(func() { _, err = p.client.Poll(t.Context(), p.URL+"/fhir/jobs/1") })
			if name == "nesting" { // the decoder itself bounds that, at 10,000
				wantError(t, err, CodeNotAManifest, ActionFail)
			} else {
				wantError(t, err, CodeManifestTooLarge, ActionFail)
			}
			if got > most {
				t.Errorf("allocated %d MiB, want at most %d", got>>20, most>>20)
			}
			t.Logf("allocated %d KiB", got>>10)
		})
	}
}

func TestPoll_refuses_a_manifest_with_too_many_files(t *testing.T) {
	if testing.Short() {
		t.Skip("sends a large manifest")
	}
	t.Parallel()
	p := newPayer(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"output":[`)
		for i := range maxManifestFiles + 10 {
			if _, err := fmt.Fprintf(w, `{"url":"f/%d"},`, i); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, `{"url":"f/last"}]}`)
	})
	_, err := p.client.Poll(t.Context(), p.URL+"/fhir/jobs/1")
	e := wantError(t, err, CodeManifestTooLarge, ActionFail)
	if want := fmt.Sprint(maxManifestFiles); !strings.Contains(e.Detail, want) {
		t.Errorf("got %q, want it to name the bound %s", e.Detail, want)
	}
}

func TestPoll_takes_a_manifest_of_many_small_values_whose_sum_is_over_the_bound_of_one(t *testing.T) {
	t.Parallel()
	const files = 3 * maxManifestValueBytes / 1000
	p := newPayer(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"output":[`)
		for i := range files {
			_, _ = fmt.Fprintf(w, `{"url":"f/%d","x":"%s"},`, i, strings.Repeat("x", 1000))
		}
		_, _ = io.WriteString(w, `{"url":"f/last"}]}`)
	})
	status, err := p.client.Poll(t.Context(), p.URL+"/fhir/jobs/1")
	if err != nil || len(status.Manifest.Output) != files+1 {
		t.Fatalf("got %v, %v, want %d files", status.Manifest, err, files+1)
	}
}
