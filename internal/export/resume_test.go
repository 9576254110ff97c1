package export

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// cuttingPayer serves a file with a strong validator, and breaks the connection after every so many bytes. A reply to a
// range request is edited by the test.
func cuttingPayer(t *testing.T, content string, every int, edit func(header http.Header, status *int, rest *string)) *payer {
	t.Helper()
	return newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		status, rest := http.StatusOK, content
		w.Header().Set("ETag", `"v1"`)
		if requested, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
			offset, _ := strconv.Atoi(strings.TrimSuffix(requested, "-"))
			if r.Header.Get("If-Range") != `"v1"` || r.Header.Get("Accept-Encoding") != "identity" ||
				r.Header.Get("Authorization") != "Bearer secret" {
				t.Errorf("got a range request with %v", r.Header)
			}
			status, rest = http.StatusPartialContent, content[offset:]
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, len(content)-1, len(content)))
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(rest)))
		if edit != nil {
			edit(w.Header(), &status, &rest)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(rest[:min(every, len(rest))]))
		_ = http.NewResponseController(w).Flush()
		if every < len(rest) {
			panic(http.ErrAbortHandler)
		}
	})
}

func TestFILE7_aBrokenFileIsContinued(t *testing.T) {
	t.Parallel()
	content := strings.Repeat(twoPatients, 20)
	p := cuttingPayer(t, content, 300, nil)
	got, body, err := fetch(t.Context(), p.client, p.file())
	if err != nil || got != content || !body.Complete() {
		t.Fatalf("got %d bytes of %d, %v", len(got), len(content), err)
	}
	if want := (len(content) - 1) / 300; body.Resumes() != want || body.WireBytes() != int64(len(content)) {
		t.Errorf("got %d resumes and %d bytes, want %d and %d", body.Resumes(), body.WireBytes(), want, len(content))
	}
}

func TestFILE7_aSilentFileIsContinued(t *testing.T) {
	t.Parallel()
	content := strings.Repeat(twoPatients, 20)
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 100-%d/%d", len(content)-1, len(content)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte(content[100:]))
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write([]byte(content[:100]))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, func(o *Options) { o.IdleTimeout = 30 * time.Millisecond })
	got, body, err := fetch(t.Context(), p.client, p.file())
	if err != nil || got != content || body.Resumes() != 1 {
		t.Errorf("got %d bytes of %d, %v", len(got), len(content), err)
	}
}

func TestFILE7_rangesThatCannotBeTrustedAreNotTaken(t *testing.T) {
	t.Parallel()
	content := strings.Repeat(twoPatients, 20)
	for name, edit := range map[string]func(http.Header, *int, *string){
		"no validator":   func(h http.Header, _ *int, _ *string) { h.Del("ETag") },
		"weak validator": func(h http.Header, _ *int, _ *string) { h.Set("ETag", `W/"v1"`) },
		"DPC's unquoted": func(h http.Header, _ *int, _ *string) { h.Set("ETag", "v1") },
		"ranges refused": func(h http.Header, _ *int, _ *string) { h.Set("Accept-Ranges", "none") },
		"the whole file again": func(h http.Header, status *int, rest *string) {
			h.Set("Content-Length", strconv.Itoa(len(content)))
			*status, *rest = http.StatusOK, content
		},
		"another range":      change("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content))),
		"no range":           change("Content-Range", ""),
		"a part of the rest": change("Content-Range", fmt.Sprintf("bytes 300-400/%d", len(content))),
		"an unknown size":    change("Content-Range", fmt.Sprintf("bytes 300-%d/*", len(content)-1)),
		"another size":       change("Content-Range", fmt.Sprintf("bytes 300-%d/%d", len(content), len(content)+1)),
		"another file":       change("ETag", `"v2"`),
		"BCDA's compressed":  change("Content-Encoding", "gzip"),
		"unsatisfiable":      func(_ http.Header, status *int, _ *string) { *status = partialTo(*status, 416) },
		"gone":               func(_ http.Header, status *int, _ *string) { *status = partialTo(*status, 404) },
		"a length that does not fit": func(h http.Header, _ *int, rest *string) {
			if h.Get("Content-Range") != "" {
				*rest = (*rest)[:250]
				h.Set("Content-Length", "250")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := cuttingPayer(t, content, 300, edit)
			got, body, err := fetch(t.Context(), p.client, p.file())
			wantError(t, err, CodeFileTruncated, ActionRetry)
			if !strings.HasPrefix(content, got) || body != nil && body.Complete() {
				t.Errorf("got %q", got)
			}
		})
	}
}

// change sets a header of replies to range requests.
func change(name, value string) func(http.Header, *int, *string) {
	return func(h http.Header, status *int, _ *string) {
		if *status == http.StatusPartialContent {
			h.Set(name, value)
		}
	}
}

func partialTo(status, other int) int {
	if status == http.StatusPartialContent {
		return other
	}
	return status
}

func TestFILE7_aPayerThatBreaksOffAtOnceIsGivenUp(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	content := strings.Repeat(twoPatients, 20)
	p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		if r.Header.Get("Range") == "" {
			_, _ = w.Write([]byte(content[:100]))
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	})
	_, _, err := fetch(t.Context(), p.client, p.file())
	wantError(t, err, CodeFileTruncated, ActionRetry)
	if got := requests.Load(); got > 2*maxIdleResumes+1 {
		t.Errorf("got %d requests, want few", got)
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-1/2")
	f.Add("bytes 5-4/*")
	f.Fuzz(func(t *testing.T, text string) {
		first, last, total, ok := parseContentRange(text)
		if ok && (first < 0 || first > last || last >= total) {
			t.Fatalf("got %d-%d/%d", first, last, total)
		}
	})
}
