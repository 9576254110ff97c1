package scheduler

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"ingestd/internal/store"
)

// checksum is the member of a manifest's file in which AB2D names its digest.
func checksum(content string) string {
	sum := sha256.Sum256([]byte(content))
	return `,"extension":[{"url":"https://ab2d.cms.gov/checksum","valueString":"sha256:` + hex.EncodeToString(sum[:]) + `"}]`
}

func TestMAN6_a_file_with_another_checksum_is_read_once_more(t *testing.T) {
	t.Parallel()
	good := strings.Join(patients(3), "")
	for name, test := range map[string]struct {
		bad   int32 // the first answers that are another file
		state store.State
		reads int32
	}{
		"and right the second time": {1, store.StatePublished, 2},
		"and then given up":         {100, store.StateFailed, 2},
		"but not where it is right": {0, store.StatePublished, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			p := newPayer(t, nil)
			p.members = checksum(good)
			var reads atomic.Int32
			p.onFile = func(w http.ResponseWriter) {
				if reads.Add(1) <= test.bad {
					fmt.Fprint(w, strings.Replace(good, "p1", "px", 1))
					return
				}
				fmt.Fprint(w, good)
			}
			e := newEngine(t, s, Options{}, p)
			id, err := e.Start(t.Context(), "p", RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			work(t, e)
			wait(t, "the end of the export", func() bool { return !state(t, s, id).Active() })
			x, err := s.Export(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if x.State != test.state || reads.Load() != test.reads {
				t.Fatalf("got %s after %d reads (%s); want %s after %d", x.State, reads.Load(), x.Error, test.state, test.reads)
			}
			if test.state == store.StatePublished {
				if got := number(t, s, `SELECT count(*) FROM fhir.patient WHERE id IN ('p0', 'p1', 'p2')`); got != 3 {
					t.Errorf("patients: got %d of 3", got)
				}
				return
			}
			if x.ErrorCode != "file_checksum" || strings.Count(x.Error, "") < 128 || !strings.Contains(x.Error, "the manifest says") {
				t.Errorf("got %s: %q; want both digests", x.ErrorCode, x.Error)
			}
		})
	}
}

func TestMAN6_a_broken_download_is_no_reading_of_the_file(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	good := strings.Join(patients(3), "")
	p.members = checksum(good)
	var reads atomic.Int32
	p.onFile = func(w http.ResponseWriter) {
		switch reads.Add(1) {
		case 1:
			w.Header().Set("Content-Length", strconv.Itoa(len(good)))
			fmt.Fprint(w, good[:len(good)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case 2:
			fmt.Fprint(w, strings.Replace(good, "p1", "px", 1))
		default:
			fmt.Fprint(w, good)
		}
	}
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the end of the export", func() bool { return !state(t, s, id).Active() })
	x, err := s.Export(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got := number(t, s, `SELECT mismatches FROM ingest.export_file WHERE export_id = $1`, id); x.State != store.StatePublished || got != 1 {
		t.Errorf("got %s: %s after %d mismatches, want it published after one", x.State, x.Error, got)
	}
}

func TestFILE1_a_file_behind_an_unknown_scheme_is_not_asked_for(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, nil)
	p.members = `,"extension":{"url":"https://payer.example/encryption-key","valueString":"x"}`
	var reads atomic.Int32
	p.onFile = func(w http.ResponseWriter) { reads.Add(1); onePatient(w) }
	e := newEngine(t, s, Options{}, p)
	id, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "the end of the export", func() bool { return !state(t, s, id).Active() })
	x, err := s.Export(t.Context(), id)
	if err != nil || x.ErrorCode != "file_scheme_unknown" || !strings.Contains(x.Error, "encryption-key") || reads.Load() != 0 {
		t.Errorf("got %v, %s: %s, after %d requests; want a refusal that names the scheme", err, x.ErrorCode, x.Error, reads.Load())
	}
}

func TestFILE6_a_file_that_only_its_connection_ends_is_flagged(t *testing.T) {
	t.Parallel()
	for members, unproven := range map[string]int{"": 1, `,"count":1`: 0, checksum(patients(1)[0]): 0} {
		s := newStore(t)
		p := newPayer(t, nil)
		p.members = members
		p.onFile = func(w http.ResponseWriter) {
			conn, out, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+ndjson\r\nConnection: close\r\n\r\n%s", patients(1)[0])
			_ = out.Flush()
			_ = conn.Close()
		}
		e := newEngine(t, s, Options{}, p)
		id, err := e.Start(t.Context(), "p", RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		stop := work(t, e)
		wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
		stop()
		if got := number(t, s, `SELECT count(*) FROM ingest.export_file WHERE unproven`); got != unproven {
			t.Errorf("with %q: %d files are flagged, want %d", members, got, unproven)
		}
	}
}
